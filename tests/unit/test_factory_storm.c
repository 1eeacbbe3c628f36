/* When all cores issue, confirm, reject, revoke, release and sweep the same devices at once, and
 * when the process is killed amid that: do the tables still agree? */
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "test_factory_check.h"

enum {
    THREADS = FIXTURE_CORES,
    ROUNDS = 400,
    BURST = 8,
    DEVICES = 12,
    KEYS_EACH = 4,
    CYCLES = 12,
    KILL_WITHIN_MS = 60,
};

/* What a job points to, until it is back. */
struct work {
    struct settle_item item;
    struct settle_set settle;
    struct transaction_row row;
    struct transaction_set rows;
    struct sweep_set sweep;
    uint8_t data[TRANSACTION_MARK_LEN + sizeof(uint64_t)];
};

struct storm {
    pthread_t thread;
    struct fixture *fx;
    uint32_t core, serial_base;
    uint64_t serial, random, swept;
    uint64_t results[ERR_COUNT];
    struct work work[BURST];
};

static uint32_t next_random(struct storm *storm, uint32_t below)
{
    storm->random = storm->random * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(storm->random >> 33) % below;
}

static uint32_t waiting_of(struct bytes data, uint8_t state, uint64_t out_logs[], uint32_t max,
                           uint32_t *out_line_id)
{
    (void)state;
    if (data.len < sizeof(((struct work *)0)->data) || max == 0)
        return 0;
    memcpy(out_logs, data.ptr + TRANSACTION_MARK_LEN, sizeof(*out_logs));
    *out_line_id = 0;
    return 1;
}

/* --- jobs --- */

static void stage_issue(struct storm *storm)
{
    struct fixture local = *storm->fx;
    uint8_t buf[600];
    char id[16];
    uint32_t device = next_random(storm, DEVICES);
    uint64_t key = device * KEYS_EACH + next_random(storm, KEYS_EACH);
    /* a key is worn out in the end: most come anew */
    if (next_random(storm, 4) != 0)
        key = 1000000 + (((uint64_t)storm->serial_base << 32) | storm->serial);
    /* and one that is not proven may be anybody's */
    bool disputed = next_random(storm, 4) == 0;
    if (disputed)
        key = 500000 + ((uint64_t)storm->serial_base << 32) + storm->serial / 4;
    snprintf(id, sizeof(id), "dev-%u", device);
    local.serial =
        ((uint64_t)storm->serial_base << 32) + ((uint64_t)storm->core << 28) + storm->serial++;
    struct issue_facts facts = fixture_facts(&local, local.line_a, id, key);
    facts.kind = (uint8_t)next_random(storm, 3);
    facts.pending = next_random(storm, 3) != 0;
    facts.unproven = facts.pending && (disputed || next_random(storm, 3) == 0);
    facts.asked_s = 900 + next_random(storm, 200); /* some are lost before they are swept */
    if (facts.kind == ISSUE_RENEWAL)
        facts.current_log = fixture_device(&local, local.line_a, id).cert_log;
    struct bytes cert = fixture_cert(&facts, buf);
    fixture_stage(storm->fx, storm->core, device_apply, &facts, sizeof(facts), cert);
}

/* Mostly the certificates that were made last. */
static uint64_t some_log(struct storm *storm)
{
    struct store_stats stats;
    store_stats(storm->fx->store, &stats);
    uint32_t back = next_random(storm, 8) == 0 ? 200 : 12;
    uint64_t behind = next_random(storm, back);
    return stats.cert_count > behind ? stats.cert_count - behind : 1;
}

static void stage_settle(struct storm *storm, struct work *work)
{
    static const uint8_t reasons[] = {REASON_UNSPECIFIED, REASON_KEY_COMPROMISE, REASON_HOLD};
    struct settle_facts facts = settle_facts_of(storm->fx);
    work->item = (struct settle_item){
        .cert_log = some_log(storm),
        .act = (uint8_t)next_random(storm, 4),
    };
    if (work->item.act == SETTLE_REVOKE)
        work->item.reason = reasons[next_random(storm, 3)];
    work->settle = (struct settle_set){&work->item, 1};
    fixture_stage_extra(storm->fx, storm->core, settle_apply, &facts, sizeof(facts),
                        (struct bytes){0}, &work->settle);
}

static void stage_row(struct storm *storm, struct work *work)
{
    uint64_t log = some_log(storm);
    memset(work->data, (int)next_random(storm, 3), TRANSACTION_MARK_LEN);
    memcpy(work->data + TRANSACTION_MARK_LEN, &log, sizeof(log));
    work->row = (struct transaction_row){
        .key_len = 1,
        .key = {(uint8_t)next_random(storm, 40)},
        .expiry_s = 1000 + next_random(storm, 50),
        .data = BYTES_ARRAY(work->data),
    };
    if (next_random(storm, 2) == 0) { /* waits for an operator, or has done so */
        work->row.key_len = 6;
        work->row.key[0] = PROTOCOL_CMP;
        store_be32(work->row.key + 1, storm->fx->line_a);
        work->row.key[5] = (uint8_t)next_random(storm, 40);
        work->row.state = next_random(storm, 2) == 0 ? 1 | TRANSACTION_WAITS : 3;
    }
    work->rows = (struct transaction_set){&work->row, 1, PROTOCOL_CMP, next_random(storm, 2) == 0};
    fixture_stage_extra(storm->fx, storm->core, transactions_apply, NULL, 0, (struct bytes){0},
                        &work->rows);
}

static void stage_sweep(struct storm *storm, struct work *work)
{
    struct sweep_facts facts = {1000 + next_random(storm, 60), 1 + next_random(storm, 8)};
    work->sweep.pending = waiting_of;
    fixture_stage_extra(storm->fx, storm->core, sweep_apply, &facts, sizeof(facts),
                        (struct bytes){0}, &work->sweep);
}

static void burst(struct storm *storm)
{
    struct fixture *fx = storm->fx;
    for (int i = 0; i < BURST; i++) {
        uint32_t what = next_random(storm, 10);
        if (what < 4)
            stage_issue(storm);
        else if (what < 7)
            stage_settle(storm, &storm->work[i]);
        else if (what < 9)
            stage_row(storm, &storm->work[i]);
        else
            stage_sweep(storm, &storm->work[i]);
    }
    store_kick(fx->store, storm->core);
    for (int i = 0; i < BURST; i++) {
        struct store_job *job = fixture_wait(fx, storm->core);
        if (job->apply == settle_apply && job->err == ERR_OK)
            storm->results[((const struct settle_set *)job->extra)->items[0].err]++;
        if (job->apply == sweep_apply)
            storm->swept += ((const struct sweep_set *)job->extra)->rejected;
        storm->results[job->err]++;
        if (err_class_of(job->err) == ERR_CLASS_ENV || job->err == ERR_INTERNAL) {
            fprintf(stderr, "a job of kind %d failed: %s\n", job->apply == device_apply,
                    err_code(job->err));
            abort();
        }
        store_job_release(fx->store, storm->core, job);
    }
}

static int setup_cores(void **state)
{
    struct fixture *fx = calloc(1, sizeof(*fx));
    log_set_level(LOG_ERROR);
    fixture_dir(fx);
    fixture_open(fx, THREADS);
    *state = fx;
    return 0;
}

/* --- all cores --- */

static void *storm_main(void *arg)
{
    for (int i = 0; i < ROUNDS; i++)
        burst(arg);
    return NULL;
}

static void on_all_cores(void **state)
{
    static struct storm storms[THREADS];
    struct fixture *fx = *state;
    uint64_t seed = clock_mono_ns() + (uint64_t)getpid();
    print_message("seed %llu\n", (unsigned long long)seed);
    for (uint32_t i = 0; i < THREADS; i++) {
        storms[i] = (struct storm){.fx = fx, .core = i, .serial_base = 1, .random = seed + i};
        storms[i].serial = 1;
        assert_int_equal(pthread_create(&storms[i].thread, NULL, storm_main, &storms[i]), 0);
    }
    uint64_t results[ERR_COUNT] = {0}, swept = 0;
    for (uint32_t i = 0; i < THREADS; i++) {
        pthread_join(storms[i].thread, NULL);
        swept += storms[i].swept;
        for (int err = 0; err < ERR_COUNT; err++)
            results[err] += storms[i].results[err];
    }
    check_whole(fx);
    fixture_close(fx);
    fixture_open(fx, 1);
    check_whole(fx);
    /* it was a storm: everything happened */
    static const enum err expected[] = {
        ERR_OK,          ERR_CERT_REVOKED,       ERR_CERT_CONFIRMED,
        ERR_BAD_REQUEST, ERR_TRANSACTION_IN_USE, ERR_DEVICE_PROVISIONED,
        ERR_KEY_USED};
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
        print_message("%s: %d\n", err_code(expected[i]), (int)results[expected[i]]);
        assert_true(results[expected[i]] != 0);
    }
    print_message("rejected by sweeps: %d\n", (int)swept);
    assert_true(swept != 0);
}

/* --- killed --- */

static pid_t child_start(struct fixture *fx, uint32_t life, uint64_t seed)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        static struct storm storm;
        fixture_open(fx, 1);
        storm = (struct storm){.fx = fx, .serial_base = life, .random = seed, .serial = 1};
        for (;;)
            burst(&storm);
    }
    return pid;
}

static void killed_at_random(void **state)
{
    struct fixture *fx = *state;
    uint64_t seed = clock_mono_ns() + (uint64_t)getpid();
    struct storm dice = {.random = seed};
    print_message("seed %llu\n", (unsigned long long)seed);
    fixture_close(fx);
    for (uint32_t life = 1; life <= CYCLES; life++) {
        int status;
        pid_t pid = child_start(fx, life + 1, seed + life);
        usleep(20000 + next_random(&dice, KILL_WITHIN_MS * 1000));
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        fixture_open(fx, 1);
        check_whole(fx);
        if (life < CYCLES)
            fixture_close(fx);
    }
    struct store_stats stats;
    store_stats(fx->store, &stats);
    print_message("%d certificates, %d journal records\n", (int)stats.cert_count,
                  (int)stats.journal_count);
    assert_true(stats.cert_count > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(on_all_cores, setup_cores, fixture_teardown),
        cmocka_unit_test_setup_teardown(killed_at_random, setup_cores, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
