/* After a kill -9 at any instant, is every certificate that was answered in the store, once, with
 * its quota counted and the journal whole? */
#include <signal.h>
#include <sys/wait.h>

#include "test_store_fixture.h"

enum { CYCLES = 20, KILL_WITHIN_MS = 40, DEVICES_MAX = 400000, IN_FLIGHT = 96 };

/* What the child says over the pipe once it holds a valid token: the store's promise. */
struct report {
    uint64_t device; /* number */
    uint64_t serial;
};

static struct issue_facts facts_of(struct fixture *fx, uint64_t device, uint64_t serial)
{
    char id[32];
    snprintf(id, sizeof(id), "dev-%llu", (unsigned long long)device);
    fx->serial = serial - 1;
    return fixture_facts(fx, fx->line_a, id, device);
}

/* --- the child: issues until it is killed --- */

static uint64_t random_state;

static uint32_t next_random(uint32_t below)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(random_state >> 33) % below;
}

static void child_stage(struct fixture *fx, uint64_t device, uint64_t serial, uint64_t renewal_of)
{
    uint8_t buf[600];
    struct issue_facts facts = facts_of(fx, device, serial);
    if (renewal_of != 0) {
        facts.kind = ISSUE_RENEWAL;
        facts.current_log = renewal_of;
    }
    struct bytes cert = fixture_cert(&facts, buf);
    struct store_job *job = fixture_stage(fx, 0, device_apply, &facts, sizeof(facts), cert);
    job->tag = device;
}

/* Bursts of random size; each round also asks for some old devices again, and renews one. */
static void child_run(struct fixture *fx, int pipe_fd, uint64_t device, uint64_t serial)
{
    struct store_reader *reader;
    struct device_record record;
    if (store_reader_new(fx->store, &reader) != ERR_OK)
        abort();
    for (;;) {
        uint32_t burst = 1 + next_random(IN_FLIGHT), count = burst;
        uint64_t first = device;
        for (uint32_t i = 0; i < burst; i++)
            child_stage(fx, device++, serial++, 0);
        char id[32];
        snprintf(id, sizeof(id), "dev-%llu", (unsigned long long)(first - 1));
        if (reader_begin(reader) == ERR_OK) {
            if (reader_device(reader, fx->line_a, bytes_of_str(id), &record) == ERR_OK) {
                child_stage(fx, first - 1, serial++, record.cert_log);
                child_stage(fx, first - 1, serial++, record.cert_log); /* sent twice */
                count += 2;
            }
            reader_end(reader);
        }
        store_kick(fx->store, 0);
        for (uint32_t i = 0; i < count; i++) {
            struct store_job *job = fixture_wait(fx, 0);
            const struct issue_facts *facts = (const void *)job->facts;
            if (job->err != ERR_OK || !commit_token_is_valid(fx->store, job->token))
                abort();
            struct report report = {job->tag, load_be64(facts->serial)};
            if (!device_apply_was_repeat(job) &&
                write(pipe_fd, &report, sizeof(report)) != sizeof(report))
                abort();
            store_job_release(fx->store, 0, job);
        }
    }
}

static pid_t child_start(struct fixture *fx, uint64_t device, uint64_t serial, uint64_t seed,
                         int *out_fd)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    fcntl(fds[1], F_SETPIPE_SZ, 1 << 20);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(fds[0]);
        random_state = seed;
        fixture_open(fx, 1);
        child_run(fx, fds[1], device, serial);
        _exit(1);
    }
    close(fds[1]);
    *out_fd = fds[0];
    return pid;
}

/* --- the parent: kills, opens, checks --- */

static struct report reports[DEVICES_MAX];
static uint32_t report_count;

static bool read_report(int fd)
{
    assert_true(report_count < DEVICES_MAX);
    uint8_t *at = (uint8_t *)&reports[report_count];
    size_t len = 0;
    while (len < sizeof(struct report)) {
        ssize_t n = read(fd, at + len, sizeof(struct report) - len);
        if (n <= 0)
            return false; /* what was cut off in the pipe was not said */
        len += (size_t)n;
    }
    report_count++;
    return true;
}

static void check_reported(struct fixture *fx, struct store_reader *reader)
{
    for (uint32_t i = 0; i < report_count; i++) {
        uint8_t buf[600];
        uint64_t log;
        struct cert_view view;
        struct device_record device;
        struct issue_facts facts = facts_of(fx, reports[i].device, reports[i].serial);
        struct bytes cert = fixture_cert(&facts, buf);
        assert_int_equal(reader_serial(reader, fx->issuer, BYTES_ARRAY(facts.serial), &log),
                         ERR_OK);
        assert_int_equal(reader_cert(reader, log, &view), ERR_OK);
        assert_true(bytes_eq(view.der, cert));
        assert_int_equal(reader_device(reader, fx->line_a,
                                       bytes_of(facts.device_id, facts.device_id_len), &device),
                         ERR_OK);
        assert_true(device.cert_log == log ||
                    (device.cert_log > log && view.record->status == CERT_SUPERSEDED));
    }
}

struct tally {
    struct fixture *fx;
    struct store_reader *reader;
    uint64_t certs, valid, devices, issued;
};

static bool tally_cert(void *ctx, const struct cert_view *cert)
{
    struct tally *tally = ctx;
    uint64_t log;
    tally->certs++;
    assert_int_equal(cert->log, tally->certs); /* no number twice, none left out */
    tally->valid += cert->record->status == CERT_VALID;
    assert_int_equal(reader_serial(tally->reader, cert->record->issuer_id,
                                   BYTES_ARRAY(cert->record->serial), &log),
                     ERR_OK);
    assert_int_equal(log, cert->log); /* no serial twice */
    return true;
}

static bool tally_device(void *ctx, uint32_t line_id, struct bytes device_id,
                         const struct device_record *device)
{
    struct tally *tally = ctx;
    struct cert_view view;
    (void)line_id;
    tally->devices++;
    assert_int_equal(reader_cert(tally->reader, device->cert_log, &view), ERR_OK);
    assert_int_equal(view.record->status, CERT_VALID);
    assert_true(bytes_eq(view.device_id, device_id));
    return true;
}

static bool tally_journal(void *ctx, const struct journal_record *record, struct bytes who,
                          struct bytes what, struct bytes text)
{
    struct tally *tally = ctx;
    (void)who;
    (void)what;
    (void)text;
    tally->issued += record->kind == JOURNAL_ISSUED;
    return true;
}

static uint64_t check_whole(struct fixture *fx)
{
    struct line_record line;
    struct store_reader *reader = fixture_reader(fx);
    struct tally tally = {.fx = fx, .reader = reader};
    check_reported(fx, reader);
    assert_int_equal(reader_certs_each(reader, 0, false, tally_cert, &tally), ERR_OK);
    assert_int_equal(reader_devices_each(reader, 0, tally_device, &tally), ERR_OK);
    assert_int_equal(reader_journal_each(reader, 0, false, tally_journal, &tally), ERR_OK);
    assert_int_equal(reader_line(reader, "line-a", &line), ERR_OK);
    assert_int_equal(line.issued, tally.certs);
    assert_int_equal(tally.issued, tally.certs);
    assert_int_equal(tally.valid, tally.devices);
    assert_true(tally.certs >= report_count);
    fixture_reader_done(reader);
    fixture_verify(fx);
    return tally.certs;
}

static void killed_at_random(void **state)
{
    struct fixture *fx = *state;
    uint64_t seed = (uint64_t)getpid() * 1000003 + clock_mono_ns();
    uint64_t unreported = 0;
    fixture_close(fx);
    print_message("seed %llu\n", (unsigned long long)seed);
    for (uint64_t cycle = 1; cycle <= CYCLES; cycle++) {
        int fd;
        /* every life has numbers of its own */
        pid_t pid = child_start(fx, cycle << 32, cycle << 32, seed + cycle, &fd);
        assert_true(read_report(fd));
        random_state = seed * cycle;
        usleep(next_random(KILL_WITHIN_MS * 1000));
        assert_int_equal(kill(pid, SIGKILL), 0);
        while (read_report(fd))
            ;
        close(fd);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        fixture_open(fx, 1);
        unreported = check_whole(fx) - report_count;
        fixture_close(fx);
    }
    print_message("%u certificates answered, %llu committed but not yet answered\n", report_count,
                  (unsigned long long)unreported);
    fixture_open(fx, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(killed_at_random, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
