/* Does the simulator's queue of engines give every job the time that a plain simulation gives it,
 * also when many threads and processes ask at once, and does a wait cost no processor?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "hsm/sim/dist.h"
#include "hsm/sim/engines.c"

enum { ENGINES = 64, JOBS = 20000, THREADS = 4, PROCESSES = 3, EACH = 4000 };

static uint64_t rng_state;

static uint64_t next(uint64_t below)
{
    rng_state = rng_state * 6364136223846793005ull + 1442695040888963407ull;
    return (rng_state >> 33) % below;
}

/* The oracle: servers in an array, the job goes to the one that is free first. */
static uint64_t oracle(uint64_t free_at[], uint32_t engines, uint64_t now, uint64_t service)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < engines; i++)
        if (free_at[i] < free_at[best])
            best = i;
    uint64_t start = free_at[best] > now ? free_at[best] : now;
    return free_at[best] = start + service;
}

static void against_oracle(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 3, 31, ENGINES};
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        _Atomic uint64_t ours[ENGINES] = {0};
        uint64_t theirs[ENGINES] = {0}, now = 1000000;
        rng_state = 42 + k;
        for (int i = 0; i < JOBS; i++) {
            now += next(i % 1000 < 500 ? 20 : 3000) * 1000 / counts[k]; /* busy, then idle */
            uint64_t service = 500000 + next(1000000);
            assert_int_equal(engines_reserve(ours, counts[k], now, service),
                             oracle(theirs, counts[k], now, service));
        }
    }
}

/* --- at once --- */

struct shared {
    _Atomic uint64_t free_at[ENGINES];
    uint64_t end[PROCESSES * THREADS][EACH];
};

struct task {
    struct shared *shared;
    uint32_t index;
};

static void *reserve(void *arg)
{
    struct task *task = arg;
    for (int i = 0; i < EACH; i++)
        task->shared->end[task->index][i] = engines_reserve(task->shared->free_at, 7, 0, 1000);
    return NULL;
}

static void run_threads(struct shared *shared, uint32_t process)
{
    pthread_t thread[THREADS];
    struct task task[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        task[i] = (struct task){shared, process * THREADS + i};
        assert_int_equal(pthread_create(&thread[i], NULL, reserve, &task[i]), 0);
    }
    for (uint32_t i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* All come at 0 and take as long: the n-th to end ends at 1000 * (1 + n / engines), whoever it is.
 * One lost or doubled reservation shows. */
static void many_at_once(void **state)
{
    (void)state;
    struct shared *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(shared, MAP_FAILED);
    pid_t child[PROCESSES];
    for (uint32_t i = 1; i < PROCESSES; i++) {
        child[i] = fork();
        if (child[i] == 0) {
            run_threads(shared, i);
            _exit(0);
        }
    }
    run_threads(shared, 0);
    for (uint32_t i = 1; i < PROCESSES; i++) {
        int status;
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_int_equal(status, 0);
    }
    uint64_t *all = &shared->end[0][0];
    size_t count = PROCESSES * THREADS * EACH;
    qsort(all, count, sizeof *all, by_value);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(all[i], 1000 * (1 + i / 7));
    munmap(shared, sizeof *shared);
}

/* --- rate --- */

static void rate_limit(void **state)
{
    (void)state;
    enum { INTERVAL = 1000, BURST = 5 };
    _Atomic uint64_t due = 0;
    uint64_t start, now = 1000000, granted = 0, refused = 0;
    for (int i = 0; i < BURST; i++)
        assert_true(rate_reserve(&due, INTERVAL, BURST, now, false, &start));
    assert_false(rate_reserve(&due, INTERVAL, BURST, now, false, &start));
    assert_false(rate_reserve(&due, INTERVAL, BURST, now + INTERVAL - 1, false, &start));
    assert_true(rate_reserve(&due, INTERVAL, BURST, now + INTERVAL, false, &start));
    /* three times as many as allowed: a third gets through, never more than burst above it */
    rng_state = 9;
    atomic_store(&due, 0);
    for (uint64_t i = 1; i <= JOBS; i++) {
        now += next(2 * INTERVAL / 3);
        if (rate_reserve(&due, INTERVAL, BURST, now, false, &start)) {
            granted++;
            assert_int_equal(start, now);
        } else {
            refused++;
        }
        assert_true(granted <= BURST + (now - 1000000) / INTERVAL);
    }
    assert_true(granted + 2 >= (now - 1000000) / INTERVAL);
    assert_true(refused > JOBS / 2);
    /* who may wait is told until when: the burst at once, then one for each interval */
    atomic_store(&due, 0);
    for (uint64_t i = 0; i < 20; i++) {
        assert_true(rate_reserve(&due, INTERVAL, BURST, now, true, &start));
        assert_int_equal(start, i < BURST ? now : now + (i - BURST + 1) * INTERVAL);
    }
}

static void wait_costs_nothing(void **state)
{
    (void)state;
    struct rusage before, after;
    getrusage(RUSAGE_THREAD, &before);
    uint64_t start = clock_mono_ns();
    for (uint64_t i = 1; i <= 20; i++) {
        sleep_until_ns(start + i * 10 * NS_PER_MS);
        assert_true(clock_mono_ns() >= start + i * 10 * NS_PER_MS);
    }
    sleep_until_ns(start); /* long past: at once */
    getrusage(RUSAGE_THREAD, &after);
    long used_us = (after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1000000 +
                   after.ru_utime.tv_usec - before.ru_utime.tv_usec +
                   (after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000000 +
                   after.ru_stime.tv_usec - before.ru_stime.tv_usec;
    assert_true(used_us < 20000); /* of 200 ms */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_oracle),
        cmocka_unit_test(many_at_once),
        cmocka_unit_test(rate_limit),
        cmocka_unit_test(wait_costs_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
