/* Does a timer fire once, never early and at most a tick late, whatever is set, moved and cleared
 * around it, and does the wheel never ask for a longer sleep than its timers allow? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "io/timers.h"

static const uint64_t tick = TIMER_TICK_MS * NS_PER_MS;

enum { MANY = 200 };

struct probe {
    struct timer timer;
    uint64_t due_ns; /* 0: not set */
    unsigned fired;
    void (*then)(struct probe *probe);
};

static struct timers timers;
static struct probe probes[MANY];
static uint64_t now_ns, last_run_ns;

static void on_fire(struct timer *timer)
{
    struct probe *probe = (struct probe *)timer;
    assert_true(probe->due_ns != 0);
    assert_true(probe->due_ns <= now_ns); /* not early */
    /* Not late: it was not due for a whole tick when the wheel ran last. */
    assert_true(probe->due_ns + tick > last_run_ns);
    probe->due_ns = 0;
    probe->fired++;
    if (probe->then != NULL)
        probe->then(probe);
}

static void set_probe(struct probe *probe, uint64_t due_ns)
{
    probe->due_ns = due_ns > now_ns ? due_ns : now_ns; /* what is past is due at once */
    timer_set(&timers, &probe->timer, due_ns, on_fire);
}

static void run_at(uint64_t ns)
{
    now_ns = ns;
    timers_run(&timers, ns);
    /* Whoever was due a tick ago has fired. */
    for (unsigned i = 0; i < MANY; i++)
        assert_true(probes[i].due_ns == 0 || probes[i].due_ns + tick > ns);
    last_run_ns = ns;
}

static int start(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MANY; i++)
        probes[i] = (struct probe){0};
    now_ns = last_run_ns = 12345 * NS_PER_S + 678;
    timers_init(&timers, now_ns);
    return 0;
}

static void test_against_a_list(void **state)
{
    (void)state;
    unsigned seed = 7;
    for (unsigned step = 0; step < 60000; step++) {
        struct probe *probe = &probes[(unsigned)rand_r(&seed) % MANY];
        unsigned what = (unsigned)rand_r(&seed) % 10;
        /* mostly near, sometimes around the wheel's span and beyond it */
        uint64_t span = what < 5 ? 40 * tick : (uint64_t)TIMER_SLOTS * tick * 3;
        uint64_t due = now_ns + (uint64_t)rand_r(&seed) * 64 % span;
        if (what < 6)
            set_probe(probe, due);
        else if (what == 6) {
            timer_clear(&timers, &probe->timer);
            probe->due_ns = 0;
        } else {
            uint64_t ahead = (uint64_t)rand_r(&seed) % (3 * tick);
            if (step % 500 == 0)
                ahead = (uint64_t)rand_r(&seed) * 64 % (TIMER_SLOTS * tick * 2); /* a long sleep */
            run_at(now_ns + ahead);
        }
        unsigned set = 0;
        uint64_t next = UINT64_MAX;
        for (unsigned i = 0; i < MANY; i++) {
            if (probes[i].due_ns == 0)
                continue;
            set++;
            if (probes[i].due_ns < next)
                next = probes[i].due_ns;
        }
        assert_int_equal(timers.count, set);
        if (step % 16 != 0)
            continue;
        uint64_t wait = timers_wait_ns(&timers, now_ns);
        if (set == 0)
            assert_true(wait == UINT64_MAX);
        else
            assert_true(now_ns + wait < (next > now_ns ? next : now_ns) + tick);
    }
    unsigned fired = 0;
    for (unsigned i = 0; i < MANY; i++)
        fired += probes[i].fired;
    assert_true(fired > 1000);
}

/* A loop that sleeps as long as it is told meets every timer within a tick. */
static void test_sleeping_as_told(void **state)
{
    (void)state;
    unsigned seed = 11;
    for (unsigned i = 0; i < MANY; i++)
        set_probe(&probes[i], now_ns + (uint64_t)rand_r(&seed) * 60); /* up to two minutes */
    unsigned turns = 0;
    while (timers.count > 0) {
        uint64_t wait = timers_wait_ns(&timers, now_ns);
        assert_true(wait != UINT64_MAX && wait > 0);
        run_at(now_ns + wait);
        turns++;
    }
    assert_true(turns < 3 * MANY); /* a slot of a far timer may wake it early, not all the time */
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(probes[i].fired, 1);
    assert_true(timers_wait_ns(&timers, now_ns) == UINT64_MAX);
}

/* The wait for one timer alone is right at every distance and from every place of the wheel. */
static void test_wait_for_one(void **state)
{
    (void)state;
    for (unsigned place = 0; place < 200; place++) {
        for (uint64_t distance = 1; distance < TIMER_SLOTS; distance += 1 + distance / 3) {
            uint64_t due = now_ns + distance * tick;
            set_probe(&probes[0], due);
            uint64_t wait = timers_wait_ns(&timers, now_ns);
            assert_true(now_ns + wait >= due && now_ns + wait < due + tick);
            timer_clear(&timers, &probes[0].timer);
            probes[0].due_ns = 0;
            assert_true(timers_wait_ns(&timers, now_ns) == UINT64_MAX);
        }
        run_at(now_ns + 3 * tick);
    }
}

static void set_again(struct probe *probe)
{
    if (probe->fired < 3)
        set_probe(probe, now_ns); /* due at once: in the next tick, not in this run for ever */
}

static void clear_the_rest(struct probe *probe)
{
    for (unsigned i = 0; i < MANY; i++) {
        if (&probes[i] == probe)
            continue;
        timer_clear(&timers, &probes[i].timer);
        probes[i].due_ns = 0;
    }
}

static void test_callbacks_set_and_clear(void **state)
{
    (void)state;
    set_probe(&probes[0], now_ns + tick);
    probes[0].then = set_again;
    for (unsigned i = 1; i <= 5; i++)
        run_at(now_ns + tick);
    assert_int_equal(probes[0].fired, 3);

    /* All in one slot: the first to fire clears the others, which wait in the same list. */
    for (unsigned i = 0; i < MANY; i++) {
        probes[i].fired = 0;
        probes[i].then = clear_the_rest;
        set_probe(&probes[i], now_ns + 10 * tick);
    }
    run_at(now_ns + 12 * tick);
    unsigned fired = 0;
    for (unsigned i = 0; i < MANY; i++)
        fired += probes[i].fired;
    assert_int_equal(fired, 1);
    assert_int_equal(timers.count, 0);
}

static void test_set_moves_and_clear_is_idle(void **state)
{
    (void)state;
    timer_clear(&timers, &probes[0].timer); /* {0} is a valid unset timer */
    set_probe(&probes[0], now_ns + 5 * tick);
    set_probe(&probes[0], now_ns + 1000 * tick); /* longer than the wheel */
    run_at(now_ns + 6 * tick);
    assert_int_equal(probes[0].fired, 0);
    set_probe(&probes[0], now_ns + 2 * tick);
    run_at(now_ns + 3 * tick);
    assert_int_equal(probes[0].fired, 1);
    set_probe(&probes[0], 1); /* long past */
    run_at(now_ns + tick);
    assert_int_equal(probes[0].fired, 2);
    timers_run(&timers, now_ns - 50 * tick); /* a clock that went back changes nothing */
    assert_int_equal(timers.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_against_a_list, start),
        cmocka_unit_test_setup(test_sleeping_as_told, start),
        cmocka_unit_test_setup(test_wait_for_one, start),
        cmocka_unit_test_setup(test_callbacks_set_and_clear, start),
        cmocka_unit_test_setup(test_set_moves_and_clear_is_idle, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
