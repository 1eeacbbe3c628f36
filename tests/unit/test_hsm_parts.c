/* Do the parts of the signing queue keep their promises when looked at one by one: the deadline
 * heap, the breaker, the encoding of a signer's configuration, the layout and the wake-ups of
 * shared memory?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hsm/p11/rv.h"
#include "hsm/queue/internal.h"
#include "hsm/queue/spawn.h"
#include "hsm/queue/wire.h"

/* --- heap --- */

static void heap_gives_the_earliest_deadline(void **state)
{
    (void)state;
    enum { JOBS = 500, STEPS = 20000 };
    struct core core = {.jobs = calloc(JOBS, sizeof(struct job)),
                        .heap = calloc(JOBS, sizeof(uint32_t))};
    bool in[JOBS] = {false};
    srandom(4711);
    for (int step = 0; step < STEPS; step++) {
        uint32_t job = (uint32_t)random() % JOBS;
        if (in[job]) {
            heap_remove(&core, job);
        } else {
            core.jobs[job].deadline_ns = (uint64_t)random() % 100; /* many are equal */
            heap_push(&core, job);
        }
        in[job] = !in[job];
        uint64_t earliest = UINT64_MAX;
        uint32_t count = 0;
        for (uint32_t i = 0; i < JOBS; i++) {
            if (in[i]) {
                count++;
                assert_int_equal(core.heap[core.jobs[i].heap_at], i);
                if (core.jobs[i].deadline_ns < earliest)
                    earliest = core.jobs[i].deadline_ns;
            }
        }
        assert_int_equal(core.heap_len, count);
        for (uint32_t i = 1; i < count; i++)
            assert_true(core.jobs[core.heap[(i - 1) / 2]].deadline_ns <=
                        core.jobs[core.heap[i]].deadline_ns);
        if (count != 0)
            assert_true(core.jobs[core.heap[0]].deadline_ns == earliest);
    }
    free(core.jobs);
    free(core.heap);
}

/* --- breaker --- */

#define MS NS_PER_MS

static void breaker_opens_probes_and_closes(void **state)
{
    (void)state;
    struct signer signer = {.sessions = 4, .limit = UINT32_MAX};
    uint64_t now = 1000 * MS;
    bool ok;
    for (int i = 0; i < BREAKER_FAILURES - 1; i++)
        breaker_failed(&signer, now, false);
    assert_true(breaker_allows(&signer, now));
    breaker_succeeded(&signer); /* one success and the count starts again */
    for (int i = 0; i < BREAKER_FAILURES - 1; i++)
        breaker_failed(&signer, now, false);
    assert_true(breaker_allows(&signer, now));
    assert_false(breaker_claim(&signer, now, &ok));
    assert_true(ok);
    breaker_failed(&signer, now, false);
    assert_true(breaker_is_open(&signer, now));
    assert_int_equal(breaker_state(&signer, now), HSM_BREAKER_OPEN);
    assert_false(breaker_allows(&signer, now));
    breaker_claim(&signer, now, &ok);
    assert_false(ok);

    /* late failures of jobs from before do not prolong it */
    uint64_t until = signer.breaker_until_ns;
    assert_true(until == now + BREAKER_OPEN_MIN_NS);
    breaker_failed(&signer, now + 50 * MS, false);
    assert_true(signer.breaker_until_ns == until);

    /* half open: one may try, a second may not */
    now = until;
    assert_false(breaker_is_open(&signer, now));
    assert_int_equal(breaker_state(&signer, now), HSM_BREAKER_HALF_OPEN);
    assert_true(breaker_allows(&signer, now));
    assert_true(breaker_claim(&signer, now, &ok));
    assert_true(ok);
    assert_false(breaker_allows(&signer, now));
    assert_false(breaker_claim(&signer, now, &ok));
    assert_false(ok);

    /* it fails: open for twice as long, and so on, up to the most */
    for (uint64_t open = 2 * BREAKER_OPEN_MIN_NS; open < 64 * BREAKER_OPEN_MIN_NS; open *= 2) {
        breaker_failed(&signer, now, true);
        uint64_t expected = open < BREAKER_OPEN_MAX_NS ? open : BREAKER_OPEN_MAX_NS;
        assert_true(signer.breaker_until_ns == now + expected);
        now += expected;
        assert_true(breaker_claim(&signer, now, &ok) && ok);
    }
    breaker_succeeded(&signer);
    assert_int_equal(breaker_state(&signer, now), HSM_BREAKER_CLOSED);
    assert_true(breaker_allows(&signer, now));
    assert_false(breaker_claim(&signer, now, &ok));
    assert_true(ok);
    assert_true(signer.limit == UINT32_MAX);
}

static void throttled_signers_get_less_and_then_more(void **state)
{
    (void)state;
    struct signer signer = {.sessions = 16, .limit = UINT32_MAX, .in_flight = 64};
    uint64_t now = 1000 * MS;
    breaker_failed(&signer, now, false);
    assert_int_equal(signer.limit, 12 * LIMIT_UNIT); /* three quarters of its sessions */
    breaker_failed(&signer, now + 1, false);         /* of the same moment */
    assert_int_equal(signer.limit, 12 * LIMIT_UNIT);
    for (int i = 0; i < 50; i++) {
        now += THROTTLE_STEP_NS;
        breaker_failed(&signer, now, false);
    }
    assert_int_equal(signer.limit, LIMIT_UNIT); /* never less than one */
    breaker_reset(&signer);
    uint32_t successes = 0;
    while (signer.limit != UINT32_MAX && successes < 100000) {
        uint32_t before = signer.limit;
        breaker_succeeded(&signer);
        assert_true(signer.limit > before);
        successes++;
    }
    assert_in_range(successes, 1000, 50000);
}

static void errors_are_named_as_their_classes(void **state)
{
    (void)state;
    assert_int_equal(HSM_ERROR_CLASSES, RV_CLASS_COUNT);
    for (uint32_t i = 0; i < RV_CLASS_COUNT; i++)
        assert_string_equal(hsm_error_class_name(i), rv_class_name((enum rv_class)i));
    assert_string_equal(hsm_error_class_name(RV_CLASS_COUNT), "?");
}

/* --- configuration on the wire --- */

static void fill_config(struct wire_signer *config)
{
    *config = (struct wire_signer){.parent_pid = 4711,
                                   .core_count = 3,
                                   .wake_index = {2, 0, 1},
                                   .log_level = LOG_WARN,
                                   .sessions = 5,
                                   .allow_network = true,
                                   .name = "token",
                                   .module_path = "/lib/x.so",
                                   .uri = "pkcs11:token=x",
                                   .pin_credential = "pin",
                                   .rv_classes = "",
                                   .key_count = 2};
    config->keys[0] = (struct wire_key){.index = 7, .name = "a", .uri = "pkcs11:object=a"};
    config->keys[1] = (struct wire_key){.index = 9,
                                        .name = "b",
                                        .uri = "pkcs11:object=b",
                                        .mechanism = SIGN_MECH_ML_DSA,
                                        .allow_extractable = true};
}

static void configurations_survive_the_wire(void **state)
{
    (void)state;
    static struct wire_signer config, back;
    static uint8_t buf[WIRE_MAX];
    fill_config(&config);
    struct writer writer = writer_of(buf, sizeof(buf));
    wire_put(&writer, &config);
    assert_false(writer.failed);
    assert_true(wire_get(writer_view(&writer), &back));
    assert_int_equal(back.parent_pid, 4711);
    assert_memory_equal(back.wake_index, config.wake_index, CORES_MAX);
    assert_int_equal(back.sessions, 5);
    assert_int_equal(back.log_level, LOG_WARN);
    assert_true(back.allow_network);
    assert_string_equal(back.module_path, "/lib/x.so");
    assert_null(back.pin_file);
    assert_null(back.pin_env);
    assert_string_equal(back.pin_credential, "pin");
    assert_string_equal(back.rv_classes, "");
    assert_int_equal(back.key_count, 2);
    assert_int_equal(back.keys[1].index, 9);
    assert_string_equal(back.keys[1].uri, "pkcs11:object=b");
    assert_int_equal(back.keys[1].mechanism, SIGN_MECH_ML_DSA);
    assert_true(back.keys[1].allow_extractable && !back.keys[0].allow_extractable);
}

static void other_bytes_are_refused(void **state)
{
    (void)state;
    static struct wire_signer config, back;
    static uint8_t buf[WIRE_MAX];
    fill_config(&config);
    struct writer writer = writer_of(buf, sizeof(buf));
    wire_put(&writer, &config);
    size_t len = writer.len;
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *copy = malloc(cut != 0 ? cut : 1); /* so that a read past it is seen */
        memcpy(copy, buf, cut);
        assert_false(wire_get(bytes_of(copy, cut), &back));
        free(copy);
    }
    assert_false(wire_get(bytes_of(buf, len + 1), &back));
    const struct {
        size_t offset;
        uint32_t value;
    } wrong[] = {{offsetof(struct wire_signer, core_count), 0},
                 {offsetof(struct wire_signer, core_count), CORES_MAX + 1},
                 {offsetof(struct wire_signer, sessions), 0},
                 {offsetof(struct wire_signer, sessions), SESSIONS_PER_SIGNER_MAX + 1},
                 {offsetof(struct wire_signer, keys[0].index), KEYS_MAX},
                 {offsetof(struct wire_signer, keys[0].mechanism), SIGN_MECH_COUNT}};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        fill_config(&config);
        memcpy((uint8_t *)&config + wrong[i].offset, &wrong[i].value, sizeof(uint32_t));
        writer = writer_of(buf, sizeof(buf));
        wire_put(&writer, &config);
        assert_false(wire_get(writer_view(&writer), &back));
    }
}

/* --- shared memory --- */

static void cores_do_not_overlap(void **state)
{
    (void)state;
    enum { CORES = 3 };
    uint8_t *mem = aligned_alloc(4096, shm_len(CORES));
    assert_non_null(mem);
    const uint8_t *end = mem + sizeof(struct shm_signer);
    for (uint32_t i = 0; i < CORES; i++) {
        struct shm_core core;
        shm_bind(mem, i, &core);
        const uint8_t *submit = (const uint8_t *)core.submit.header;
        const uint8_t *done = (const uint8_t *)core.done.header;
        assert_true(submit >= end);
        assert_true(core.submit.slots + sizeof(uint32_t) * SHM_SLOTS <= done);
        assert_true(core.done.slots + sizeof(struct shm_done) * SHM_SLOTS <=
                    (const uint8_t *)core.slots);
        assert_true((const uint8_t *)(core.slots + SHM_SLOTS) <= core.sides);
        assert_true((uintptr_t)core.slots % 64 == 0 && (uintptr_t)core.sides % 64 == 0);
        end = core.sides + (size_t)SHM_SIDES * SHM_SIDE_SIZE;
        assert_true(end <= mem + shm_len(CORES));
    }
    free(mem);
}

static void shared_memory_cannot_shrink(void **state)
{
    (void)state;
    int fd = sealed_memfd("test", (struct bytes){0}, 8192);
    assert_true(fd >= 0);
    assert_int_not_equal(ftruncate(fd, 0), 0);
    assert_int_not_equal(ftruncate(fd, 16384), 0);
    close(fd);
    fd = sealed_memfd("test", BYTES_LIT("configuration"), 0);
    assert_true(fd >= 0);
    assert_true(write(fd, "x", 1) < 0);
    assert_true(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    close(fd);
}

static void wakes_are_as_many_as_useful(void **state)
{
    (void)state;
    assert_int_equal(shm_share(0), 1);
    assert_int_equal(shm_share(1400000), 1);
    assert_int_equal(shm_share(100000), 1);
    assert_int_equal(shm_share(10000), 5);
    assert_int_equal(shm_share(1), SIGN_BATCH_MAX);
    struct shm_signer *shm = aligned_alloc(64, sizeof(*shm));
    memset(shm, 0, sizeof(*shm));
    assert_int_equal(shm_wake(shm, 3), 0); /* nobody sleeps */
    shm->sleepers = 5;
    assert_int_equal(shm_wake(shm, 3), 3);
    assert_int_equal(shm->sleepers, 2);
    assert_int_equal(shm->searching, 3);
    assert_int_equal(shm->tokens, 3);
    assert_int_equal(shm_wake(shm, 3), 2);
    assert_int_equal(shm_wake(shm, 3), 0);
    assert_int_equal(shm->tokens, 5);
    shm->sleepers = UINT32_MAX; /* nonsense costs one call and no more */
    assert_true(shm_wake(shm, UINT32_MAX) <= SESSIONS_PER_SIGNER_MAX);
    free(shm);
}

int main(void)
{
    cmocka_set_test_filter(getenv("TEST_HSM_FILTER"));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heap_gives_the_earliest_deadline),
        cmocka_unit_test(breaker_opens_probes_and_closes),
        cmocka_unit_test(errors_are_named_as_their_classes),
        cmocka_unit_test(throttled_signers_get_less_and_then_more),
        cmocka_unit_test(configurations_survive_the_wire),
        cmocka_unit_test(other_bytes_are_refused),
        cmocka_unit_test(cores_do_not_overlap),
        cmocka_unit_test(shared_memory_cannot_shrink),
        cmocka_unit_test(wakes_are_as_many_as_useful),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
