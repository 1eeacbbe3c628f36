/* Does every staged job come back exactly once, after its commit, and does nothing else carry a
 * token that is good? */
#include <pthread.h>
#include <stdatomic.h>

#include "store/internal.h"
#include "test_store_fixture.h"

/* Writes one journal record that names the job. */
static enum err note_apply(struct store_txn *txn, struct store_job *job)
{
    struct journal_entry entry = {.kind = JOURNAL_OPERATOR,
                                  .what = bytes_of(job->facts, job->facts_len)};
    return txn_journal(txn, &entry);
}

static enum err refuse_apply(struct store_txn *txn, struct store_job *job)
{
    (void)txn;
    (void)job;
    return ERR_QUOTA_SPENT;
}

static struct line_record some_line = {.version = STORE_SCHEMA_VERSION, .line_id = 50};

static enum err write_then_refuse_apply(struct store_txn *txn, struct store_job *job)
{
    (void)job;
    enum err err = txn_line_put(txn, "line-x", &some_line);
    return err != ERR_OK ? err : ERR_QUOTA_SPENT;
}

static enum err environment_apply(struct store_txn *txn, struct store_job *job)
{
    /* what apply leaves in the job before the transaction ends badly */
    enum err err = note_apply(txn, job);
    memset(job->data, 'X', 100);
    job->data_len = 100;
    return err != ERR_OK ? err : ERR_STORE_FAILED;
}

static struct store_job *stage(struct fixture *fx, uint32_t core, uint64_t tag,
                               enum err (*apply)(struct store_txn *, struct store_job *))
{
    struct store_job *job = fixture_stage(fx, core, apply, &tag, sizeof(tag), BYTES_LIT("answer"));
    job->tag = tag;
    return job;
}

/* Holds the writer inside a transaction, so that all that is staged meanwhile waits for it
 * together. */
static _Atomic int hold_state; /* 1: the writer is held, 2: let go */

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
    store_job_release(fx->store, 0, job);
}

static uint64_t journal_count(struct fixture *fx)
{
    struct store_stats stats;
    store_stats(fx->store, &stats);
    return stats.journal_count;
}

static int setup_cores(void **state)
{
    struct fixture *fx = calloc(1, sizeof(*fx));
    log_set_level(LOG_ERROR);
    fixture_dir(fx);
    fixture_open(fx, FIXTURE_CORES);
    *state = fx;
    return 0;
}

/* --- coming back --- */

static void every_slot_goes_round(void **state)
{
    struct fixture *fx = *state;
    static bool back[STORE_JOBS_PER_CORE_MAX];
    memset(back, 0, sizeof(back));
    for (uint64_t i = 0; i < STORE_JOBS_PER_CORE_MAX; i++)
        stage(fx, 0, i, note_apply);
    assert_null(store_job_take(fx->store, 0)); /* shed load */
    store_kick(fx->store, 0);
    for (int i = 0; i < STORE_JOBS_PER_CORE_MAX; i++) {
        struct store_job *job = fixture_wait(fx, 0);
        assert_int_equal(job->err, ERR_OK);
        assert_true(commit_token_is_valid(fx->store, job->token));
        assert_false(back[job->tag]);
        back[job->tag] = true;
        store_job_release(fx->store, 0, job);
    }
    assert_null(store_poll(fx->store, 0));
    assert_false(store_pending(fx->store, 0));
    assert_int_equal(journal_count(fx), STORE_JOBS_PER_CORE_MAX);
    struct store_stats stats;
    store_stats(fx->store, &stats);
    assert_int_equal(stats.committed_jobs, STORE_JOBS_PER_CORE_MAX);
    assert_true(stats.commits >= STORE_JOBS_PER_CORE_MAX / STORE_BATCH_MAX);
    assert_true(stats.last_commit_ns > 0);
    assert_int_equal(fixture_verify(fx), STORE_JOBS_PER_CORE_MAX);
    /* the warmest slot first */
    struct store_job *last = store_job_take(fx->store, 0);
    store_job_release(fx->store, 0, last);
    assert_ptr_equal(store_job_take(fx->store, 0), last);
}

static void a_taken_slot_is_clean(void **state)
{
    struct fixture *fx = *state;
    stage(fx, 0, 77, note_apply);
    store_kick(fx->store, 0);
    struct store_job *job = fixture_wait(fx, 0);
    assert_true(job->staged_ns != 0);
    store_job_release(fx->store, 0, job);
    struct store_job *again = store_job_take(fx->store, 0);
    assert_ptr_equal(again, job);
    assert_int_equal(again->tag, 0);
    assert_null(again->apply);
    assert_int_equal(again->err, ERR_OK);
    assert_int_equal(again->token.txn_id, 0);
    assert_int_equal(again->data_len, 0);
    store_job_release(fx->store, 0, again);
}

struct core_thread {
    pthread_t thread;
    struct fixture *fx;
    uint32_t core;
    uint64_t sum;
};

enum { JOBS_PER_THREAD = 3000 };

static void *core_main(void *arg)
{
    struct core_thread *self = arg;
    uint64_t staged = 0, done = 0;
    while (done < JOBS_PER_THREAD) {
        while (staged < JOBS_PER_THREAD && staged - done < 200)
            stage(self->fx, self->core, staged++, note_apply);
        store_kick(self->fx->store, self->core);
        struct store_job *job = fixture_wait(self->fx, self->core);
        do {
            if (job->err != ERR_OK || !commit_token_is_valid(self->fx->store, job->token))
                abort();
            self->sum += job->tag;
            done++;
            store_job_release(self->fx->store, self->core, job);
        } while ((job = store_poll(self->fx->store, self->core)) != NULL);
    }
    return NULL;
}

static void many_cores_at_once(void **state)
{
    struct fixture *fx = *state;
    struct core_thread threads[FIXTURE_CORES];
    for (uint32_t i = 0; i < FIXTURE_CORES; i++) {
        threads[i] = (struct core_thread){.fx = fx, .core = i};
        assert_int_equal(pthread_create(&threads[i].thread, NULL, core_main, &threads[i]), 0);
    }
    /* set-up from the main thread goes between the writer's transactions */
    struct journal_entry entry = {.kind = JOURNAL_CONFIG};
    for (int i = 0; i < 10; i++)
        assert_int_equal(store_journal(fx->store, &entry), ERR_OK);
    for (uint32_t i = 0; i < FIXTURE_CORES; i++) {
        pthread_join(threads[i].thread, NULL);
        assert_int_equal(threads[i].sum, (uint64_t)JOBS_PER_THREAD * (JOBS_PER_THREAD - 1) / 2);
    }
    assert_int_equal(fixture_verify(fx), FIXTURE_CORES * JOBS_PER_THREAD + 10);
}

/* One core's flood does not keep another core's job out of the next transaction, whichever core's
 * turn it is to be first. */
static void batches_are_shared_fairly(void **state)
{
    struct fixture *fx = *state;
    for (int round = 0; round < 3 * FIXTURE_CORES; round++) {
        hold_writer(fx);
        for (uint64_t i = 0; i < 2 * STORE_BATCH_MAX; i++)
            stage(fx, 0, i, note_apply);
        for (uint32_t core = 1; core < FIXTURE_CORES; core++)
            stage(fx, core, core, note_apply);
        let_writer_go(fx);
        struct store_job *job = fixture_wait(fx, 0);
        uint64_t first = job->token.txn_id;
        uint32_t count = 0;
        for (uint32_t i = 0; i < 2 * STORE_BATCH_MAX; i++) {
            count += job->token.txn_id == first;
            store_job_release(fx->store, 0, job);
            if (i + 1 < 2 * STORE_BATCH_MAX)
                job = fixture_wait(fx, 0);
        }
        /* what the others left was the flood's: a full batch */
        assert_int_equal(count, STORE_BATCH_MAX - (FIXTURE_CORES - 1));
        for (uint32_t core = 1; core < FIXTURE_CORES; core++) {
            job = fixture_wait(fx, core);
            assert_int_equal(job->token.txn_id, first);
            store_job_release(fx->store, core, job);
        }
    }
}

/* Two floods: half of the batch each. */
static void floods_share_a_batch(void **state)
{
    struct fixture *fx = *state;
    hold_writer(fx);
    for (uint64_t i = 0; i < 2000; i++) {
        stage(fx, 1, i, note_apply);
        stage(fx, 3, i, note_apply);
    }
    let_writer_go(fx);
    for (uint32_t core = 1; core <= 3; core += 2) {
        uint64_t first = fixture_wait(fx, core)->token.txn_id;
        uint32_t count = 1;
        while (fixture_wait(fx, core)->token.txn_id == first)
            count++;
        assert_int_equal(count, STORE_BATCH_MAX / 2);
    }
}

/* Shares are of what jobs write, not of their number. */
static void heavy_floods_leave_room(void **state)
{
    struct fixture *fx = *state;
    for (int round = 0; round < 2 * FIXTURE_CORES; round++) {
        uint64_t count = 50 + 11 * (uint64_t)round; /* so that each core comes to be the first */
        hold_writer(fx);
        for (uint64_t i = 0; i < count; i++)
            stage(fx, 0, i, note_apply)->weight = 100;
        for (uint32_t core = 1; core < FIXTURE_CORES; core++)
            stage(fx, core, core, note_apply)->weight = core % 2 == 0 ? 100 : 0;
        let_writer_go(fx);
        struct store_job *job = fixture_wait(fx, 0);
        uint64_t first = job->token.txn_id;
        for (uint32_t core = 1; core < FIXTURE_CORES; core++) {
            struct store_job *other = fixture_wait(fx, core);
            assert_int_equal(other->token.txn_id, first);
            store_job_release(fx->store, core, other);
        }
        for (uint64_t i = 0; i < count; i++) {
            store_job_release(fx->store, 0, job);
            job = i + 1 < count ? fixture_wait(fx, 0) : NULL;
        }
    }
}

static void a_batch_has_its_bound(void **state)
{
    struct fixture *fx = *state;
    uint64_t per_txn[16] = {0}, first = 0;
    hold_writer(fx);
    for (uint64_t i = 0; i < STORE_JOBS_PER_CORE_MAX - 1; i++)
        stage(fx, 0, i, note_apply);
    let_writer_go(fx);
    for (int i = 0; i < STORE_JOBS_PER_CORE_MAX - 1; i++) {
        struct store_job *job = fixture_wait(fx, 0);
        first = first == 0 ? job->token.txn_id : first;
        assert_true(job->token.txn_id - first < 16);
        per_txn[job->token.txn_id - first]++;
        store_job_release(fx->store, 0, job);
    }
    for (int i = 0; i < STORE_JOBS_PER_CORE_MAX / STORE_BATCH_MAX - 1; i++)
        assert_int_equal(per_txn[i], STORE_BATCH_MAX);
}

/* A job that writes as much as a full batch is the last of its transaction. */
static void a_heavy_job_ends_its_batch(void **state)
{
    struct fixture *fx = *state;
    static const uint64_t expected[] = {0, 0, 1, 1, 1, 2};
    uint64_t first = 0;
    hold_writer(fx);
    for (uint64_t i = 0; i < 6; i++)
        stage(fx, 0, i, note_apply)->weight = i % 3 == 1 ? STORE_BATCH_MAX : 0;
    let_writer_go(fx);
    for (uint64_t i = 0; i < 6; i++) {
        struct store_job *job = fixture_wait(fx, 0);
        assert_int_equal(job->tag, i);
        first = first == 0 ? job->token.txn_id : first;
        assert_int_equal(job->token.txn_id - first, expected[i]);
        store_job_release(fx->store, 0, job);
    }
}

static void one_wake_for_a_batch(void **state)
{
    struct fixture *fx = *state;
    uint64_t wakes = 0;
    wake_prepare(&fx->wakes[0]);
    for (uint64_t i = 0; i < 500; i++)
        stage(fx, 0, i, note_apply);
    store_kick(fx->store, 0);
    struct pollfd pollfd = {.fd = fx->wakes[0].event_fd, .events = POLLIN};
    assert_int_equal(poll(&pollfd, 1, 20000), 1);
    assert_int_equal(read(pollfd.fd, &wakes, sizeof(wakes)), sizeof(wakes));
    assert_int_equal(wakes, 1);
    /* awake from here on: what follows wakes nobody */
    stage(fx, 0, 500, note_apply);
    store_kick(fx->store, 0);
    for (int i = 0; i <= 500; i++)
        while (!store_pending(fx->store, 0) || store_poll(fx->store, 0) == NULL)
            usleep(100);
    assert_int_equal(read(pollfd.fd, &wakes, sizeof(wakes)), -1);
}

/* --- tokens --- */

static void only_the_store_makes_tokens(void **state)
{
    struct fixture *fx = *state;
    uint64_t name = 1;
    const struct store_job *job =
        fixture_run(fx, note_apply, &name, sizeof(name), (struct bytes){0});
    struct commit_token good = job->token;
    assert_true(commit_token_is_valid(fx->store, good));
    assert_false(commit_token_is_valid(fx->store, (struct commit_token){0}));
    for (int bit = 0; bit < 64; bit++) {
        struct commit_token wrong_seal = {good.txn_id, good.seal ^ 1ull << bit};
        struct commit_token wrong_txn = {good.txn_id ^ 1ull << bit, good.seal};
        assert_false(commit_token_is_valid(fx->store, wrong_seal));
        assert_false(commit_token_is_valid(fx->store, wrong_txn));
    }
    /* nor is one of a transaction that is not on disk yet, seal or no seal */
    assert_true(commit_token_is_valid(fx->store, store_seal(fx->store, good.txn_id)));
    assert_false(commit_token_is_valid(fx->store, store_seal(fx->store, good.txn_id + 1)));
    /* the token of a refusal is no token */
    job = fixture_run(fx, refuse_apply, NULL, 0, (struct bytes){0});
    assert_int_equal(job->err, ERR_QUOTA_SPENT);
    assert_false(commit_token_is_valid(fx->store, job->token));
    /* nor is one of another life of the store */
    fixture_close(fx);
    fixture_open(fx, 1);
    assert_false(commit_token_is_valid(fx->store, good));
}

static enum err nothing_apply(struct store_txn *txn, struct store_job *job)
{
    (void)txn;
    (void)job;
    return ERR_OK;
}

/* A job that only looked: nothing is synced for it, and its token is of what was there. */
static void a_batch_that_wrote_nothing(void **state)
{
    struct fixture *fx = *state;
    struct store_stats before, after;
    store_stats(fx->store, &before);
    const struct store_job *job = fixture_run(fx, nothing_apply, NULL, 0, (struct bytes){0});
    assert_int_equal(job->err, ERR_OK);
    assert_true(commit_token_is_valid(fx->store, job->token));
    store_stats(fx->store, &after);
    assert_int_equal(after.commits, before.commits);
    struct store_reader *reader = fixture_reader(fx);
    assert_int_equal(job->token.txn_id, reader_token(reader).txn_id);
    fixture_reader_done(reader);
}

static void a_reader_s_token_is_good_at_once(void **state)
{
    struct fixture *fx = *state;
    struct store_reader *reader = fixture_reader(fx);
    struct commit_token token = reader_token(reader);
    assert_true(commit_token_is_valid(fx->store, token));
    reader_end(reader);
    uint64_t name = 1;
    assert_int_equal(fixture_run(fx, note_apply, &name, sizeof(name), (struct bytes){0})->err,
                     ERR_OK);
    assert_int_equal(reader_begin(reader), ERR_OK);
    assert_true(reader_token(reader).txn_id > token.txn_id);
    assert_true(commit_token_is_valid(fx->store, reader_token(reader)));
    reader_end(reader);
    /* also before the writer has come to say so itself */
    atomic_store(&fx->store->synced_txn, token.txn_id);
    assert_int_equal(reader_begin(reader), ERR_OK);
    assert_true(commit_token_is_valid(fx->store, reader_token(reader)));
    fixture_reader_done(reader);
}

/* --- failures inside a batch --- */

static void a_failed_batch_has_not_happened(void **state)
{
    struct fixture *fx = *state;
    enum err (*const bad[])(struct store_txn *, struct store_job *) = {environment_apply,
                                                                       write_then_refuse_apply};
    log_set_level((enum log_level) - 1);
    for (size_t kind = 0; kind < sizeof(bad) / sizeof(bad[0]); kind++) {
        uint64_t count = journal_count(fx);
        hold_writer(fx);
        for (uint64_t i = 0; i < 20; i++)
            stage(fx, 0, i, i == 10 ? bad[kind] : note_apply);
        let_writer_go(fx);
        for (int i = 0; i < 20; i++) {
            struct store_job *job = fixture_wait(fx, 0);
            assert_int_equal(job->err, ERR_STORE_FAILED);
            assert_int_equal(job->data_len, 0);
            assert_false(commit_token_is_valid(fx->store, job->token));
            store_job_release(fx->store, 0, job);
        }
        struct store_stats stats;
        store_stats(fx->store, &stats);
        assert_true(stats.failing);
        assert_int_equal(stats.journal_count, count);
        assert_int_equal(fixture_verify(fx), count);
        struct store_reader *reader = fixture_reader(fx);
        struct line_record line;
        assert_int_equal(reader_line(reader, "line-x", &line), ERR_NOT_FOUND);
        fixture_reader_done(reader);
        /* and the next one does, in an unbroken chain */
        uint64_t name = 1;
        assert_int_equal(fixture_run(fx, note_apply, &name, sizeof(name), (struct bytes){0})->err,
                         ERR_OK);
        assert_int_equal(fixture_verify(fx), count + 1);
        store_stats(fx->store, &stats);
        assert_false(stats.failing);
    }
    log_set_level(LOG_ERROR);
}

/* --- stopping --- */

static void a_stop_commits_what_is_staged(void **state)
{
    struct fixture *fx = *state;
    struct store_job *late = store_job_take(fx->store, 0);
    for (uint64_t i = 0; i < 3000; i++)
        stage(fx, 0, i, note_apply);
    store_stop(fx->store); /* without a kick */
    assert_true(store_pending(fx->store, 0));
    for (int i = 0; i < 3000; i++) {
        struct store_job *job = store_poll(fx->store, 0);
        assert_non_null(job);
        assert_int_equal(job->err, ERR_OK);
        assert_true(commit_token_is_valid(fx->store, job->token));
    }
    /* what comes after the end is answered, not forgotten */
    late->apply = note_apply;
    late->data_len = 5;
    store_job_submit(fx->store, 0, late);
    store_kick(fx->store, 0);
    assert_true(store_pending(fx->store, 0));
    assert_ptr_equal(store_poll(fx->store, 0), late);
    assert_int_equal(late->err, ERR_STOPPING);
    assert_int_equal(late->data_len, 0);
    assert_false(commit_token_is_valid(fx->store, late->token));
    assert_null(store_poll(fx->store, 0));
    store_stop(fx->store); /* again: nothing */
    fixture_close(fx);
    fixture_open(fx, 1);
    assert_int_equal(journal_count(fx), 3000);
}

#define TEST(f)  cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
#define CORES(f) cmocka_unit_test_setup_teardown(f, setup_cores, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_slot_goes_round),
        TEST(a_taken_slot_is_clean),
        CORES(many_cores_at_once),
        CORES(batches_are_shared_fairly),
        CORES(floods_share_a_batch),
        CORES(heavy_floods_leave_room),
        TEST(a_batch_has_its_bound),
        TEST(a_heavy_job_ends_its_batch),
        TEST(one_wake_for_a_batch),
        TEST(only_the_store_makes_tokens),
        TEST(a_batch_that_wrote_nothing),
        TEST(a_reader_s_token_is_good_at_once),
        TEST(a_failed_batch_has_not_happened),
        TEST(a_stop_commits_what_is_staged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
