/* Does a job that the main thread runs itself behave as one of the writer's, and does it get its
 * turn however busy the writer is? */
#include <pthread.h>
#include <stdatomic.h>

#include "test_store_fixture.h"

static enum err note_apply(struct store_txn *txn, struct store_job *job)
{
    struct journal_entry entry = {.kind = JOURNAL_OPERATOR,
                                  .what = bytes_of(job->facts, job->facts_len)};
    if (job->extra != NULL)
        (*(int *)job->extra)++;
    return txn_journal(txn, &entry);
}

static enum err refuse_apply(struct store_txn *txn, struct store_job *job)
{
    enum err err = note_apply(txn, job);
    return err != ERR_OK ? err : ERR_QUOTA_SPENT;
}

static enum err write_then_refuse_apply(struct store_txn *txn, struct store_job *job)
{
    struct device_record record = {.version = STORE_SCHEMA_VERSION};
    (void)job;
    enum err err = txn_device_put(txn, 1, BYTES_LIT("dev-1"), &record);
    return err != ERR_OK ? err : ERR_QUOTA_SPENT;
}

static enum err environment_apply(struct store_txn *txn, struct store_job *job)
{
    enum err err = note_apply(txn, job);
    job->data_len = 5;
    return err != ERR_OK ? err : ERR_STORE_FULL;
}

static enum err idle_apply(struct store_txn *txn, struct store_job *job)
{
    (void)txn;
    (void)job;
    return ERR_OK;
}

static uint64_t journal_count(struct fixture *fx)
{
    struct store_stats stats;
    store_stats(fx->store, &stats);
    return stats.journal_count;
}

static struct store_job *job_of(apply_fn apply, void *extra)
{
    static struct store_job job;
    memset(&job, 0, sizeof(job));
    job.apply = apply;
    job.extra = extra;
    job.facts_len = 4;
    memcpy(job.facts, "what", 4);
    return &job;
}

static void each_result(struct fixture *fx)
{
    int count = 0;
    uint64_t before = journal_count(fx);
    struct store_job *job = job_of(note_apply, &count);
    assert_int_equal(store_run(fx->store, job), ERR_OK);
    assert_int_equal(job->err, ERR_OK);
    assert_int_equal(count, 1);
    assert_true(commit_token_is_valid(fx->store, job->token));
    assert_int_equal(journal_count(fx), before + 1);
    assert_string_equal(fixture_last(fx).what, "what");
    /* a refusal keeps its journal record and has no token */
    job = job_of(refuse_apply, NULL);
    assert_int_equal(store_run(fx->store, job), ERR_QUOTA_SPENT);
    assert_false(commit_token_is_valid(fx->store, job->token));
    assert_int_equal(journal_count(fx), before + 2);
    /* what fails has not happened */
    job = job_of(environment_apply, NULL);
    assert_int_equal(store_run(fx->store, job), ERR_STORE_FULL);
    assert_int_equal(job->err, ERR_STORE_FULL);
    assert_int_equal(job->data_len, 0);
    assert_int_equal(journal_count(fx), before + 2);
    job = job_of(write_then_refuse_apply, NULL);
    assert_int_equal(store_run(fx->store, job), ERR_STORE_FAILED);
    assert_int_equal(fixture_device(fx, 1, "dev-1").version, 0);
    /* one that writes nothing */
    job = job_of(idle_apply, NULL);
    assert_int_equal(store_run(fx->store, job), ERR_OK);
    assert_true(commit_token_is_valid(fx->store, job->token));
    fixture_verify(fx);
}

static void beside_the_writer(void **state)
{
    each_result(*state);
}

static void before_the_writer_and_after_it(void **state)
{
    struct fixture *fx = *state;
    fixture_close(fx);
    fixture_open(fx, 0);
    each_result(fx);
    fixture_close(fx);
    fixture_open(fx, 1);
    store_stop(fx->store);
    each_result(fx);
}

/* --- beside a writer that never rests --- */

enum { CORES = 3, IN_FLIGHT = 4000, OPERATOR_JOBS = 100 };

struct flood {
    pthread_t thread;
    struct fixture *fx;
    uint32_t core;
    int done; /* the writer counts */
};
static _Atomic bool flooding;

static void *flood(void *arg)
{
    struct flood *flood = arg;
    struct fixture *fx = flood->fx;
    uint32_t out = 0;
    while (atomic_load(&flooding) || out != 0) {
        while (atomic_load(&flooding) && out < IN_FLIGHT) {
            struct store_job *job = store_job_take(fx->store, flood->core);
            if (job->extra != NULL)
                abort(); /* left over from another life of this slot */
            job->apply = note_apply;
            job->extra = &flood->done;
            job->facts_len = 0;
            store_job_submit(fx->store, flood->core, job);
            out++;
        }
        store_kick(fx->store, flood->core);
        struct store_job *job = fixture_wait(fx, flood->core);
        if (job->err != ERR_OK)
            abort();
        store_job_release(fx->store, flood->core, job);
        out--;
    }
    return NULL;
}

static int setup_cores(void **state)
{
    struct fixture *fx = calloc(1, sizeof(*fx));
    log_set_level(LOG_ERROR);
    fixture_dir(fx);
    fixture_open(fx, CORES);
    *state = fx;
    return 0;
}

static void beside_a_busy_writer(void **state)
{
    struct fixture *fx = *state;
    struct flood floods[CORES];
    struct store_stats before, after;
    uint64_t most = 0, operator_done = 0;
    atomic_store(&flooding, true);
    for (uint32_t i = 0; i < CORES; i++) {
        floods[i] = (struct flood){.fx = fx, .core = i};
        assert_int_equal(pthread_create(&floods[i].thread, NULL, flood, &floods[i]), 0);
    }
    for (int i = 0; i < OPERATOR_JOBS; i++) {
        store_stats(fx->store, &before);
        assert_int_equal(store_run(fx->store, job_of(note_apply, NULL)), ERR_OK);
        store_stats(fx->store, &after);
        /* not counting its own */
        uint64_t others = after.commits - before.commits - 1;
        most = others > most ? others : most;
        operator_done++;
    }
    atomic_store(&flooding, false);
    uint64_t done = 0;
    for (uint32_t i = 0; i < CORES; i++) {
        pthread_join(floods[i].thread, NULL);
        done += (uint64_t)floods[i].done;
    }
    /* no bound that a busy machine cannot break: some begin before store_run has come to wait, or
     * end before the figures are read */
    print_message("at most %d of the writer's commits went before\n", (int)most);
    assert_int_equal(fixture_verify(fx), done + operator_done);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(beside_the_writer),
        TEST(before_the_writer_and_after_it),
        cmocka_unit_test_setup_teardown(beside_a_busy_writer, setup_cores, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
