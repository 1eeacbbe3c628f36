/* When the map or the disk has no room, is work refused whole and by name, is nothing half written,
 * and does the store go on by itself when there is room again? */
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "test_store_fixture.h"

enum { BATCH = 50, BATCHES_MAX = 4000 };

static bool is_failing(struct fixture *fx)
{
    struct store_stats stats;
    store_stats(fx->store, &stats);
    return stats.failing;
}

/* Holds the writer, so that a batch is staged whole before it looks. */
static _Atomic int hold_state;

static enum err hold_apply(struct store_txn *txn, struct store_job *job)
{
    (void)txn;
    (void)job;
    atomic_store(&hold_state, 1);
    while (atomic_load(&hold_state) != 2)
        usleep(100);
    return ERR_OK;
}

static void hold_writer(struct fixture *fx)
{
    atomic_store(&hold_state, 0);
    fixture_stage(fx, 0, hold_apply, NULL, 0, (struct bytes){0});
    store_kick(fx->store, 0);
    while (atomic_load(&hold_state) != 1)
        usleep(100);
}

static void let_writer_go(struct fixture *fx)
{
    atomic_store(&hold_state, 2);
    struct store_job *job = fixture_wait(fx, 0);
    assert_true(job->apply == hold_apply);
    assert_int_equal(job->err, ERR_OK);
    store_job_release(fx->store, 0, job);
}

/* Issues in batches until one fails; returns how many certificates were answered. Every job of
 * the failed batch has one of the expected errors, and none has anything to answer with. */
static uint64_t issue_until_full(struct fixture *fx, uint64_t first_key, enum err expected,
                                 enum err or_expected)
{
    uint64_t answered = 0;
    for (int batch = 0; batch < BATCHES_MAX; batch++) {
        uint64_t ok = 0, failed = 0;
        hold_writer(fx);
        for (uint64_t i = 0; i < BATCH; i++) {
            uint8_t buf[600];
            char id[32];
            uint64_t key = first_key + (uint64_t)batch * BATCH + i;
            snprintf(id, sizeof(id), "dev-%llu", (unsigned long long)key);
            struct issue_facts facts = fixture_facts(fx, fx->line_a, id, key);
            struct bytes cert = fixture_cert(&facts, buf);
            fixture_stage(fx, 0, device_apply, &facts, sizeof(facts), cert);
        }
        let_writer_go(fx);
        for (int i = 0; i < BATCH; i++) {
            struct store_job *job = fixture_wait(fx, 0);
            assert_int_equal(commit_token_is_valid(fx->store, job->token), job->err == ERR_OK);
            if (job->err == ERR_OK) {
                ok++;
            } else {
                assert_true(job->err == expected || job->err == or_expected);
                assert_int_equal(job->data_len, 0);
                failed++;
            }
            store_job_release(fx->store, 0, job);
        }
        answered += ok;
        assert_true(ok == 0 || failed == 0); /* all or none */
        assert_int_equal(is_failing(fx), failed != 0);
        if (failed != 0)
            return answered;
    }
    fail_msg("it never got full");
    return 0;
}

/* Nothing is lost, nothing is there that was not answered. */
static void check_all_there(struct fixture *fx, uint64_t answered)
{
    struct store_stats stats;
    struct line_record line;
    store_stats(fx->store, &stats);
    assert_int_equal(stats.cert_count, answered);
    assert_int_equal(stats.device_count, answered);
    struct store_reader *reader = fixture_reader(fx);
    assert_int_equal(reader_line(reader, "line-a", &line), ERR_OK);
    assert_int_equal(line.issued, answered);
    fixture_reader_done(reader);
    assert_int_equal(fixture_verify(fx), answered);
}

static void a_full_map(void **state)
{
    struct fixture *fx = *state;
    log_set_level((enum log_level) - 1);
    fixture_close(fx);
    fixture_remove(fx);
    fx->map_size = 2 << 20;
    fixture_open(fx, 1);
    uint64_t answered = issue_until_full(fx, 1, ERR_STORE_FULL, ERR_STORE_FULL);
    assert_true(answered > 500);
    check_all_there(fx, answered);
    /* it stays full, and readable */
    for (uint64_t i = 1; i <= 5; i++) /* pages that were freed may still take a few */
        answered += issue_until_full(fx, i * 1000000, ERR_STORE_FULL, ERR_STORE_FULL);
    check_all_there(fx, answered);
    /* also what main does beside the writer */
    struct journal_entry entry = {.kind = JOURNAL_CONFIG};
    enum err err = store_journal(fx->store, &entry);
    assert_true(err == ERR_OK || err == ERR_STORE_FULL);
    uint64_t records = answered + (err == ERR_OK);
    assert_int_equal(fixture_verify(fx), records);
    /* with a larger map it goes on */
    fixture_close(fx);
    fx->map_size = 8 << 20;
    fixture_open(fx, 1);
    assert_int_equal(fixture_verify(fx), records);
    struct issue_facts facts = fixture_facts(fx, fx->line_a, "dev-next", 999999);
    assert_int_equal(fixture_issue(fx, &facts)->err, ERR_OK);
    assert_int_equal(fixture_verify(fx), records + 1);
    assert_false(is_failing(fx));
    log_set_level(LOG_ERROR);
}

/* --- what LMDB calls instead of the C library: the disk that this test wants --- */

enum fault_at { FAULT_NONE, FAULT_WRITE, FAULT_SYNC, FAULT_META };
static _Atomic int fault_at;
static _Atomic int fault_errno;

/* LMDB writes its meta page, which makes a commit, through a descriptor of its own. */
static bool has_fault(int fd, enum fault_at at)
{
    if (atomic_load(&fault_at) != (int)at)
        return false;
    if (at != FAULT_SYNC && ((fcntl(fd, F_GETFL) & O_DSYNC) != 0) != (at == FAULT_META))
        return false;
    errno = atomic_load(&fault_errno);
    return true;
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    if (has_fault(fd, FAULT_WRITE) || has_fault(fd, FAULT_META))
        return -1;
    return syscall(SYS_pwrite64, fd, data, len, offset);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return has_fault(fd, FAULT_WRITE) ? -1 : syscall(SYS_writev, fd, parts, count);
}

int fdatasync(int fd)
{
    return has_fault(fd, FAULT_SYNC) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

static void set_fault(enum fault_at at, int error)
{
    atomic_store(&fault_errno, error);
    atomic_store(&fault_at, (int)at);
}

/* Every way in which a write or a sync is refused, and back. */
static void a_failing_disk(void **state)
{
    struct fixture *fx = *state;
    static const struct {
        enum fault_at at;
        int error;
        enum err err;
    } plan[] = {
        {FAULT_WRITE, ENOSPC, ERR_STORE_FULL},  {FAULT_WRITE, EDQUOT, ERR_STORE_FULL},
        {FAULT_WRITE, EFBIG, ERR_STORE_FULL},   {FAULT_WRITE, EIO, ERR_STORE_FAILED},
        {FAULT_WRITE, EROFS, ERR_STORE_FAILED}, {FAULT_SYNC, ENOSPC, ERR_STORE_FULL},
        {FAULT_SYNC, EIO, ERR_STORE_FAILED},
    };
    uint64_t answered = 0;
    log_set_level((enum log_level) - 1);
    for (uint64_t i = 0; i < sizeof(plan) / sizeof(plan[0]); i++) {
        set_fault(plan[i].at, plan[i].error);
        for (uint64_t again = 0; again < 3; again++)
            answered += issue_until_full(fx, i * 1000000 + again * 1000, plan[i].err, plan[i].err);
        assert_int_equal(answered, i);
        set_fault(FAULT_NONE, 0);
        check_all_there(fx, answered);
        char id[32];
        snprintf(id, sizeof(id), "after-%d", (int)i);
        struct issue_facts facts = fixture_facts(fx, fx->line_a, id, 77000 + i);
        assert_int_equal(fixture_issue(fx, &facts)->err, ERR_OK);
        answered++;
        assert_false(is_failing(fx));
        check_all_there(fx, answered);
    }
    log_set_level(LOG_ERROR);
}

/* When the page that makes a commit cannot be written, nobody knows what the disk holds: LMDB gives
 * up for good, so the store refuses until it is opened anew, and then nothing answered is missing.
 */
static void a_meta_page_that_cannot_be_written(void **state)
{
    struct fixture *fx = *state;
    log_set_level((enum log_level) - 1);
    struct issue_facts before = fixture_facts(fx, fx->line_a, "before", 1);
    assert_int_equal(fixture_issue(fx, &before)->err, ERR_OK);
    set_fault(FAULT_META, EIO);
    struct issue_facts during = fixture_facts(fx, fx->line_a, "during", 2);
    assert_int_equal(fixture_issue(fx, &during)->err, ERR_STORE_FAILED);
    set_fault(FAULT_NONE, 0);
    struct issue_facts after = fixture_facts(fx, fx->line_a, "after", 3);
    assert_int_equal(fixture_issue(fx, &after)->err, ERR_STORE_FAILED);
    assert_true(is_failing(fx));
    fixture_close(fx);
    fixture_open(fx, 1);
    assert_int_equal(fixture_device(fx, fx->line_a, "before").cert_log, 1);
    assert_int_equal(fixture_issue(fx, &after)->err, ERR_OK);
    struct store_stats stats;
    store_stats(fx->store, &stats);
    check_all_there(fx, stats.cert_count);
    log_set_level(LOG_ERROR);
}

/* EFBIG stands in for ENOSPC where nothing may be mounted: writes fail at a place in the file. */
static void a_file_that_may_not_grow(void **state)
{
    struct fixture *fx = *state;
    struct rlimit before, limit;
    struct store_stats stats;
    log_set_level((enum log_level) - 1);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    uint64_t answered = 0;
    for (uint64_t round = 1; round <= 3; round++) {
        store_stats(fx->store, &stats);
        limit.rlim_cur = stats.map_used + 400000 + 1000 * round; /* not at the end of a page */
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        /* a write cut short by the limit reads as EIO although the disk itself is not full */
        answered += issue_until_full(fx, round * 1000000, ERR_STORE_FULL, ERR_STORE_FAILED);
        check_all_there(fx, answered);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        /* room again: it goes on by itself */
        char id[32];
        snprintf(id, sizeof(id), "after-%d", (int)round);
        struct issue_facts facts = fixture_facts(fx, fx->line_a, id, 77000 + round);
        assert_int_equal(fixture_issue(fx, &facts)->err, ERR_OK);
        answered++;
        assert_false(is_failing(fx));
        check_all_there(fx, answered);
    }
    fixture_close(fx);
    fixture_open(fx, 1);
    check_all_there(fx, answered);
    log_set_level(LOG_ERROR);
}

/* --- a disk of its own, in a mount namespace of its own --- */

enum { NO_RIGHT_TO_MOUNT = 77, DISK_SIZE_MB = 8 };

static bool mount_small_disk(const char *dir)
{
    char options[32];
    snprintf(options, sizeof(options), "size=%dm", DISK_SIZE_MB);
    if (unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0)
        return false;
    return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", dir, "tmpfs", 0, options) == 0;
}

static void write_ballast(struct fixture *fx, size_t leave)
{
    static uint8_t block[65536];
    char path[200];
    struct statvfs fs;
    snprintf(path, sizeof(path), "%s/ballast", fx->dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    while (fstatvfs(fd, &fs) == 0 && fs.f_bavail * fs.f_bsize > leave + sizeof(block))
        assert_int_equal(write(fd, block, sizeof(block)), sizeof(block));
    close(fd);
}

static void remove_ballast(struct fixture *fx)
{
    char path[200];
    snprintf(path, sizeof(path), "%s/ballast", fx->dir);
    assert_int_equal(unlink(path), 0);
}

/* On a full disk LMDB's lock file must not grow either: its reader slots are touched through
 * memory. */
static void many_readers(struct fixture *fx)
{
    static struct store_reader *readers[200];
    for (int i = 0; i < 200; i++) {
        assert_int_equal(store_reader_new(fx->store, &readers[i]), ERR_OK);
        assert_int_equal(reader_begin(readers[i]), ERR_OK);
    }
    for (int i = 0; i < 200; i++)
        fixture_reader_done(readers[i]);
}

static void a_full_disk(void **state)
{
    struct fixture *fx = *state;
    log_set_level((enum log_level) - 1);
    uint64_t answered = 0;
    for (uint64_t round = 1; round <= 3; round++) {
        write_ballast(fx, 300000);
        answered += issue_until_full(fx, round * 1000000, ERR_STORE_FULL, ERR_STORE_FULL);
        /* the first refusal was a write cut short; with no byte left it is refused outright */
        for (uint64_t more = 1; more <= 3; more++)
            answered += issue_until_full(fx, (round * 10 + more) * 10000000, ERR_STORE_FULL,
                                         ERR_STORE_FULL);
        check_all_there(fx, answered);
        many_readers(fx);
        remove_ballast(fx);
        char id[32];
        snprintf(id, sizeof(id), "after-%d", (int)round);
        struct issue_facts facts = fixture_facts(fx, fx->line_a, id, 77000 + round);
        assert_int_equal(fixture_issue(fx, &facts)->err, ERR_OK);
        answered++;
        assert_false(is_failing(fx));
        check_all_there(fx, answered);
    }
    assert_true(answered > 100);
    fixture_close(fx);
    fixture_open(fx, 1);
    check_all_there(fx, answered);
}

static int setup_small_disk(void **state)
{
    struct fixture *fx = calloc(1, sizeof(*fx));
    fixture_dir(fx);
    if (!mount_small_disk(fx->dir)) {
        rmdir(fx->dir);
        exit(NO_RIGHT_TO_MOUNT);
    }
    fixture_open(fx, 1);
    *state = fx;
    return 0;
}

static int teardown_small_disk(void **state)
{
    struct fixture *fx = *state;
    fixture_close(fx);
    umount2(fx->dir, MNT_DETACH);
    rmdir(fx->dir);
    free(fx);
    return 0;
}

static void a_full_disk_in_a_process_of_its_own(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof(command), "/proc/%d/exe --small-disk", (int)getpid());
    int status = system(command);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NO_RIGHT_TO_MOUNT)
        print_message("no right to mount: a full disk is tested through RLIMIT_FSIZE alone\n");
    else
        assert_int_equal(WEXITSTATUS(status), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--small-disk") == 0) {
        const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup_teardown(a_full_disk, setup_small_disk, teardown_small_disk)};
        return cmocka_run_group_tests(tests, NULL, NULL);
    }
    const struct CMUnitTest tests[] = {
        TEST(a_full_map),
        TEST(a_failing_disk),
        TEST(a_meta_page_that_cannot_be_written),
        TEST(a_file_that_may_not_grow),
        cmocka_unit_test(a_full_disk_in_a_process_of_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
