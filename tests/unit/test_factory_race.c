/* When several cores ask for the same device at the same moment, is there exactly one certificate,
 * and does everyone get it? */
#include <pthread.h>

#include "test_store_fixture.h"

enum { RACERS = FIXTURE_CORES, DEVICES = 64, LOTS = 4 };

struct racer {
    pthread_t thread;
    struct fixture *fx;
    pthread_barrier_t *barrier;
    uint32_t core;
    unsigned issued, repeated, refused;
    bool same_key;                    /* all racers ask with the same key: else each with its own */
    uint8_t got[DEVICES][SHA256_LEN]; /* what was answered for each device */
    enum err err[DEVICES];
};

/* Every racer makes facts of its own: another serial, so another certificate. */
static struct issue_facts facts_of(struct racer *racer, int lot, int device)
{
    struct fixture local = *racer->fx;
    char id[32];
    snprintf(id, sizeof(id), "lot-%d-dev-%d", lot, device);
    local.serial = ((uint64_t)lot << 32) + ((uint64_t)racer->core << 16) + (uint64_t)device;
    uint64_t key = (uint64_t)lot * 1000000 + (uint64_t)device;
    if (!racer->same_key)
        key += 1000 * (racer->core + 1);
    return fixture_facts(&local, racer->fx->line_a, id, key);
}

static void settle(struct racer *racer, struct store_job *job)
{
    size_t device = job->tag;
    racer->err[device] = job->err;
    if (job->err == ERR_OK) {
        if (!commit_token_is_valid(racer->fx->store, job->token))
            abort();
        sha256_once(bytes_of(job->data, job->data_len), racer->got[device]);
        racer->repeated += device_apply_was_repeat(job);
        racer->issued += !device_apply_was_repeat(job);
    } else {
        racer->refused++;
    }
    store_job_release(racer->fx->store, racer->core, job);
}

static void *race(void *arg)
{
    struct racer *racer = arg;
    for (int lot = 0; lot < LOTS; lot++) {
        pthread_barrier_wait(racer->barrier);
        for (int device = 0; device < DEVICES; device++) {
            uint8_t buf[600];
            struct issue_facts facts = facts_of(racer, lot, device);
            struct bytes cert = fixture_cert(&facts, buf);
            struct store_job *job = store_job_take(racer->fx->store, racer->core);
            job->tag = (uint64_t)device;
            job->apply = device_apply;
            job->facts_len = sizeof(facts);
            memcpy(job->facts, &facts, sizeof(facts));
            job->data_len = (uint32_t)cert.len;
            memcpy(job->data, cert.ptr, cert.len);
            store_job_submit(racer->fx->store, racer->core, job);
            if (device % 8 == 7)
                store_kick(racer->fx->store, racer->core);
        }
        for (int i = 0; i < DEVICES; i++)
            settle(racer, fixture_wait(racer->fx, racer->core));
    }
    return NULL;
}

static void run(struct fixture *fx, struct racer racers[RACERS], bool same_key)
{
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, RACERS);
    for (uint32_t i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){.fx = fx, .barrier = &barrier, .core = i, .same_key = same_key};
        assert_int_equal(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    }
    for (uint32_t i = 0; i < RACERS; i++)
        pthread_join(racers[i].thread, NULL);
    pthread_barrier_destroy(&barrier);
}

static int setup(void **state)
{
    struct fixture *fx = calloc(1, sizeof(*fx));
    log_set_level(LOG_ERROR);
    fixture_dir(fx);
    fixture_open(fx, RACERS);
    *state = fx;
    return 0;
}

static void check_store(struct fixture *fx, uint64_t journal_extra)
{
    struct store_stats stats;
    struct line_record line;
    store_stats(fx->store, &stats);
    assert_int_equal(stats.cert_count, DEVICES * LOTS);
    assert_int_equal(stats.device_count, DEVICES * LOTS);
    struct store_reader *reader = fixture_reader(fx);
    assert_int_equal(reader_line(reader, "line-a", &line), ERR_OK);
    assert_int_equal(line.issued, DEVICES * LOTS);
    fixture_reader_done(reader);
    assert_int_equal(fixture_verify(fx), DEVICES * LOTS + journal_extra);
}

static void the_same_key(void **state)
{
    static struct racer racers[RACERS];
    run(*state, racers, true);
    unsigned issued = 0, repeated = 0;
    for (int i = 0; i < RACERS; i++) {
        issued += racers[i].issued;
        repeated += racers[i].repeated;
        assert_int_equal(racers[i].refused, 0);
        for (int device = 0; device < DEVICES; device++)
            assert_memory_equal(racers[i].got[device], racers[0].got[device], SHA256_LEN);
    }
    assert_int_equal(issued, DEVICES * LOTS);
    assert_int_equal(repeated, (RACERS - 1) * DEVICES * LOTS);
    check_store(*state, (RACERS - 1) * DEVICES * LOTS);
}

static void keys_of_their_own(void **state)
{
    static struct racer racers[RACERS];
    run(*state, racers, false);
    for (int device = 0; device < DEVICES; device++) {
        int winners = 0;
        for (int i = 0; i < RACERS; i++) {
            winners += racers[i].err[device] == ERR_OK;
            assert_true(racers[i].err[device] == ERR_OK ||
                        racers[i].err[device] == ERR_DEVICE_PROVISIONED);
        }
        assert_int_equal(winners, 1);
    }
    check_store(*state, (RACERS - 1) * DEVICES * LOTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_same_key, setup, fixture_teardown),
        cmocka_unit_test_setup_teardown(keys_of_their_own, setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
