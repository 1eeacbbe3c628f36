/* After a power cut at any instant, with any part of what was written but not synced lost, does the
 * store open with every certificate that was answered before?
 *
 * The program stands between LMDB and the kernel: it keeps every write to the data file and every
 * sync in a log, beside the answers that a client would have seen. A cut is a place in that log;
 * the disk that is left holds what was synced before it and a random choice of sectors that were
 * not.
 */
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "test_store_fixture.h"

enum { EVENTS_MAX = 60000, SECTOR = 512, ROUNDS = 60, BURST_MAX = 40, CUTS = 120 };

enum event_kind {
    EVENT_WRITE,  /* bytes handed to the kernel */
    EVENT_SYNCED, /* a sync that returned: what was written before its start is on the disk */
    EVENT_ANSWER, /* a certificate left the appliance */
};

struct event {
    enum event_kind kind;
    uint64_t offset;
    size_t len;
    uint8_t *data;
    uint32_t start; /* EVENT_SYNCED: events before this one */
    uint32_t only;  /* EVENT_SYNCED of one write (O_DSYNC): its index + 1 */
    struct issue_facts facts;
};

static struct event events[EVENTS_MAX];
static uint32_t event_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static bool recording;
static dev_t data_dev;
static ino_t data_ino;

static uint32_t add_event(const struct event *event)
{
    pthread_mutex_lock(&lock);
    if (event_count == EVENTS_MAX)
        abort();
    uint32_t index = event_count++;
    events[index] = *event;
    pthread_mutex_unlock(&lock);
    return index;
}

static uint32_t count_events(void)
{
    pthread_mutex_lock(&lock);
    uint32_t count = event_count;
    pthread_mutex_unlock(&lock);
    return count;
}

static bool is_data_file(int fd)
{
    struct stat status;
    return recording && fstat(fd, &status) == 0 && status.st_dev == data_dev &&
           status.st_ino == data_ino;
}

static uint32_t note_write(const void *data, size_t len, off_t offset)
{
    uint8_t *copy = malloc(len);
    memcpy(copy, data, len);
    return add_event(
        &(struct event){.kind = EVENT_WRITE, .offset = (uint64_t)offset, .len = len, .data = copy});
}

static void note_synced(int fd, uint32_t first, uint32_t last)
{
    if ((fcntl(fd, F_GETFL) & O_DSYNC) != 0)
        for (uint32_t i = first; i <= last; i++)
            add_event(&(struct event){.kind = EVENT_SYNCED, .only = i + 1});
}

/* --- what LMDB calls instead of the C library --- */

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    bool record = is_data_file(fd);
    uint32_t index = record ? note_write(data, len, offset) : 0;
    ssize_t n = syscall(SYS_pwrite64, fd, data, len, offset);
    if (record && n != (ssize_t)len)
        abort();
    if (record)
        note_synced(fd, index, index);
    return n;
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    bool record = is_data_file(fd);
    off_t offset = record ? lseek(fd, 0, SEEK_CUR) : 0;
    uint32_t first = 0, last = 0;
    ssize_t total = 0;
    for (int i = 0; record && i < count; i++) {
        last = note_write(parts[i].iov_base, parts[i].iov_len, offset + total);
        first = i == 0 ? last : first;
        total += (ssize_t)parts[i].iov_len;
    }
    ssize_t n = syscall(SYS_writev, fd, parts, count);
    if (record && n != total)
        abort();
    if (record)
        note_synced(fd, first, last);
    return n;
}

static int record_sync(int fd, long number)
{
    bool record = is_data_file(fd);
    uint32_t start = count_events();
    int rc = (int)syscall(number, fd);
    if (record && rc == 0)
        add_event(&(struct event){.kind = EVENT_SYNCED, .start = start});
    return rc;
}

int fdatasync(int fd)
{
    return record_sync(fd, SYS_fdatasync);
}

int fsync(int fd)
{
    return record_sync(fd, SYS_fsync);
}

/* --- the disk after a cut --- */

struct disk {
    uint8_t *data;
    size_t len, cap;
};

static uint64_t random_state;

static uint32_t next_random(uint32_t below)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(random_state >> 33) % below;
}

static void disk_put(struct disk *disk, uint64_t offset, const uint8_t *data, size_t len)
{
    assert_true(offset + len <= disk->cap);
    memcpy(disk->data + offset, data, len);
    disk->len = offset + len > disk->len ? offset + len : disk->len;
}

static void disk_put_torn(struct disk *disk, const struct event *event)
{
    for (size_t at = 0; at < event->len; at += SECTOR) {
        size_t len = event->len - at < SECTOR ? event->len - at : SECTOR;
        if (next_random(2) == 0)
            disk_put(disk, event->offset + at, event->data + at, len);
    }
}

/* Which of the events before the cut were on the disk for certain? */
static void mark_synced(uint32_t cut, bool synced[])
{
    memset(synced, 0, cut * sizeof(synced[0]));
    for (uint32_t i = 0; i < cut; i++) {
        if (events[i].kind != EVENT_SYNCED)
            continue;
        for (uint32_t k = 0; k < events[i].start; k++)
            synced[k] = true;
        if (events[i].only != 0)
            synced[events[i].only - 1] = true;
    }
}

/* Lost are newest writes, oldest writes, or both: what is not synced has no order. */
static void make_disk(struct disk *disk, uint32_t cut)
{
    static bool synced[EVENTS_MAX];
    mark_synced(cut, synced);
    uint32_t lose = next_random(3); /* of the unsynced: all, none, some */
    for (uint32_t i = 0; i < cut; i++) {
        if (events[i].kind != EVENT_WRITE)
            continue;
        if (synced[i] || lose == 1)
            disk_put(disk, events[i].offset, events[i].data, events[i].len);
        else if (lose == 2)
            disk_put_torn(disk, &events[i]);
    }
}

static void load(struct disk *disk, const char *path)
{
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    disk->len = fread(disk->data, 1, disk->cap, file);
    fclose(file);
}

static void save(const struct disk *disk, const char *path)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(disk->data, 1, disk->len, file), disk->len);
    fclose(file);
}

/* --- the test --- */

static void stage(struct fixture *fx, uint64_t device, uint64_t renewal_of)
{
    uint8_t buf[600];
    char id[32];
    snprintf(id, sizeof(id), "dev-%llu", (unsigned long long)device);
    struct issue_facts facts = fixture_facts(fx, fx->line_a, id, device);
    if (renewal_of != 0) {
        facts.kind = ISSUE_RENEWAL;
        facts.current_log = renewal_of;
    }
    struct bytes cert = fixture_cert(&facts, buf);
    fixture_stage(fx, 0, device_apply, &facts, sizeof(facts), cert);
}

static void run_line(struct fixture *fx)
{
    uint64_t device = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t count = 1 + next_random(BURST_MAX);
        for (uint32_t i = 0; i < count; i++)
            stage(fx, ++device, 0);
        if (round > 0) {
            char id[32];
            uint64_t old = 1 + next_random((uint32_t)(device - count));
            snprintf(id, sizeof(id), "dev-%llu", (unsigned long long)old);
            stage(fx, old, fixture_device(fx, fx->line_a, id).cert_log);
            count++;
        }
        store_kick(fx->store, 0);
        for (uint32_t i = 0; i < count; i++) {
            struct store_job *job = fixture_wait(fx, 0);
            assert_int_equal(job->err, ERR_OK);
            struct event answer = {.kind = EVENT_ANSWER};
            memcpy(&answer.facts, job->facts, sizeof(answer.facts));
            add_event(&answer);
            store_job_release(fx->store, 0, job);
        }
    }
}

static uint32_t check_answers(struct fixture *fx, uint32_t cut)
{
    struct store_reader *reader = fixture_reader(fx);
    struct line_record line;
    struct store_stats stats;
    uint32_t answers = 0;
    for (uint32_t i = 0; i < cut; i++) {
        if (events[i].kind != EVENT_ANSWER)
            continue;
        uint8_t buf[600];
        uint64_t log = 0;
        struct cert_view view;
        struct issue_facts facts = events[i].facts;
        struct bytes cert = fixture_cert(&facts, buf);
        answers++;
        if (reader_serial(reader, facts.issuer_id, BYTES_ARRAY(facts.serial), &log) != ERR_OK)
            fail_msg("cut at %u: an answered certificate is lost", cut);
        assert_int_equal(reader_cert(reader, log, &view), ERR_OK);
        assert_true(bytes_eq(view.der, cert));
    }
    assert_int_equal(reader_line(reader, "line-a", &line), ERR_OK);
    store_stats(fx->store, &stats);
    assert_int_equal(line.issued, stats.cert_count);
    assert_true(stats.cert_count >= answers);
    fixture_reader_done(reader);
    fixture_verify(fx);
    return answers;
}

static void any_cut(void **state)
{
    struct fixture *fx = *state;
    struct disk before = {.cap = 8 << 20}, disk = {.cap = 8 << 20};
    char path[200];
    struct stat status;
    random_state = (uint64_t)getpid() * 1000003 + clock_mono_ns();
    print_message("seed %llu\n", (unsigned long long)random_state);
    before.data = calloc(1, before.cap);
    disk.data = calloc(1, disk.cap);
    snprintf(path, sizeof(path), "%s/data.mdb", fx->dir);
    assert_int_equal(stat(path, &status), 0);
    data_dev = status.st_dev;
    data_ino = status.st_ino;
    load(&before, path);
    recording = true;
    run_line(fx);
    recording = false;
    fixture_close(fx);

    uint32_t most = 0;
    for (int i = 0; i < CUTS; i++) {
        uint32_t cut = i == 0 ? event_count : 1 + next_random(event_count);
        memset(disk.data, 0, disk.cap);
        disk.len = before.len;
        memcpy(disk.data, before.data, before.len);
        make_disk(&disk, cut);
        unlink(path);
        save(&disk, path);
        fixture_open(fx, 1);
        uint32_t answers = check_answers(fx, cut);
        most = answers > most ? answers : most;
        /* and it goes on from there */
        struct issue_facts facts = fixture_facts(fx, fx->line_a, "next", 1000000);
        facts.serial[0] = 0xff;
        assert_int_equal(fixture_issue(fx, &facts)->err, ERR_OK);
        fixture_verify(fx);
        fixture_close(fx);
    }
    print_message("%u writes, syncs and answers, %d cuts, %u answers behind the last\n",
                  event_count, CUTS, most);
    for (uint32_t i = 0; i < event_count; i++)
        free(events[i].data);
    free(before.data);
    free(disk.data);
    fixture_open(fx, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(any_cut, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
