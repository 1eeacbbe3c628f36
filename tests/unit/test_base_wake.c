/* Can a wake be lost, and is the eventfd written only when somebody sleeps? */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/wake.h"

static struct wake_flag flag;

static struct wake make_wake(void)
{
    atomic_store(&flag.sleeping, 0);
    struct wake wake = {&flag, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    assert_true(wake.event_fd >= 0);
    return wake;
}

/* The counter of the eventfd, 0 when nobody wrote. */
static uint64_t take_events(const struct wake *wake)
{
    uint64_t count = 0;
    ssize_t n = read(wake->event_fd, &count, sizeof(count));
    assert_true(n == sizeof(count) || (n < 0 && errno == EAGAIN));
    return count;
}

static void test_writes_once_per_sleep(void **state)
{
    (void)state;
    struct wake wake = make_wake();
    assert_false(wake_signal(&wake)); /* awake: no system call */
    assert_int_equal(take_events(&wake), 0);

    wake_prepare(&wake);
    assert_true(wake_is_sleeping(&wake));
    assert_true(wake_signal(&wake));
    assert_false(wake_is_sleeping(&wake));
    assert_false(wake_signal(&wake));
    assert_int_equal(take_events(&wake), 1);

    wake_prepare(&wake);
    wake_cancel(&wake);
    assert_false(wake_is_sleeping(&wake));
    assert_false(wake_signal(&wake));
    assert_int_equal(take_events(&wake), 0);
    close(wake.event_fd);
}

static void test_full_counter_does_not_hang(void **state)
{
    (void)state;
    struct wake wake = make_wake();
    const uint64_t most = UINT64_MAX - 1;
    assert_int_equal(write(wake.event_fd, &most, sizeof(most)), sizeof(most));
    wake_prepare(&wake);
    assert_true(wake_signal(&wake));
    assert_true(take_events(&wake) == most);
    close(wake.event_fd);
}

enum { DUEL_ROUNDS = 1000000 };
#define DUEL_LIMIT_NS (5 * NS_PER_S)

static void spin(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        __asm__ volatile("" ::: "memory");
}

/* Spins at first, so that both sides run at once; yields when the machine has no core for that. */
static void await(const _Atomic uint32_t *counter, uint32_t value, const _Atomic bool *stop)
{
    for (uint32_t turn = 1; atomic_load_explicit(counter, memory_order_acquire) != value; turn++) {
        if (atomic_load_explicit(stop, memory_order_relaxed))
            return;
        if (turn % 4096 == 0)
            sched_yield();
    }
}

struct duel {
    struct wake wake;
    _Alignas(64) _Atomic uint32_t start; /* of this round, by the owner */
    _Alignas(64) _Atomic uint32_t end;   /* of this round, by the producer */
    _Alignas(64) _Atomic uint32_t data;
    bool woke;
    _Atomic bool stop;
};

static void *duel_produce(void *arg)
{
    struct duel *duel = arg;
    uint32_t random = 99;
    for (uint32_t round = 1; round <= DUEL_ROUNDS; round++) {
        await(&duel->start, round, &duel->stop);
        if (atomic_load_explicit(&duel->stop, memory_order_relaxed))
            return NULL;
        random = random * 1664525 + 1013904223;
        spin(random >> 23);
        atomic_store_explicit(&duel->data, round, memory_order_release);
        duel->woke = wake_signal(&duel->wake);
        atomic_store_explicit(&duel->end, round, memory_order_release);
    }
    return NULL;
}

/* Both sides start at once, and nothing else is done: here a missing fence shows, on x86 too. */
static void test_one_side_sees_the_other(void **state)
{
    (void)state;
    static struct duel duel;
    duel.wake = make_wake();
    pthread_t producer;
    assert_int_equal(pthread_create(&producer, NULL, duel_produce, &duel), 0);
    uint64_t end_ns = clock_mono_ns() + DUEL_LIMIT_NS;
    uint32_t lost = 0, slept = 0, random = 7;
    for (uint32_t round = 1; round <= DUEL_ROUNDS; round++) {
        if (round % 1024 == 0 && clock_mono_ns() > end_ns)
            break; /* a slow machine: fewer rounds */
        atomic_store_explicit(&duel.start, round, memory_order_release);
        random = random * 1664525 + 1013904223;
        spin(random >> 23); /* about as long as `start` takes to the other core */
        wake_prepare(&duel.wake);
        bool saw = atomic_load_explicit(&duel.data, memory_order_acquire) == round;
        await(&duel.end, round, &duel.stop);
        wake_cancel(&duel.wake);
        slept += !saw;
        lost += !saw && !duel.woke;
        if (duel.woke)
            take_events(&duel.wake);
    }
    atomic_store(&duel.stop, true);
    assert_int_equal(pthread_join(producer, NULL), 0);
    assert_int_equal(lost, 0);
    assert_true(slept > 0);
    close(duel.wake.event_fd);
}

enum { ROUNDS = 100000, PRODUCERS = 2, LOST_AFTER_MS = 5000 };
#define STRESS_LIMIT_NS (10 * NS_PER_S)

struct stress {
    struct wake wake;
    _Alignas(64) _Atomic uint32_t published[PRODUCERS];
    _Alignas(64) _Atomic uint32_t seen[PRODUCERS];
    _Alignas(64) _Atomic uint32_t written;
    _Atomic bool stop;
};

struct producer {
    struct stress *stress;
    unsigned index;
};

/* One element, and none further before it was seen: a lost wake stops the show. The delay moves
 * the publishing over all of the owner's steps between prepare and sleeping. */
static void *produce(void *arg)
{
    const struct producer *self = arg;
    struct stress *stress = self->stress;
    uint32_t random = 12345 + self->index;
    for (uint32_t round = 1; round <= ROUNDS; round++) {
        random = random * 1664525 + 1013904223;
        spin(random >> 23);
        atomic_store_explicit(&stress->published[self->index], round, memory_order_release);
        if (wake_signal(&stress->wake))
            atomic_fetch_add_explicit(&stress->written, 1, memory_order_relaxed);
        await(&stress->seen[self->index], round, &stress->stop);
        if (atomic_load_explicit(&stress->stop, memory_order_relaxed))
            return NULL;
    }
    return NULL;
}

static bool take_published(struct stress *stress)
{
    bool any = false;
    for (unsigned i = 0; i < PRODUCERS; i++) {
        uint32_t now = atomic_load_explicit(&stress->published[i], memory_order_acquire);
        if (now != atomic_load_explicit(&stress->seen[i], memory_order_relaxed)) {
            atomic_store_explicit(&stress->seen[i], now, memory_order_release);
            any = true;
        }
    }
    return any;
}

static bool all_seen(const struct stress *stress)
{
    for (unsigned i = 0; i < PRODUCERS; i++)
        if (atomic_load_explicit(&stress->seen[i], memory_order_relaxed) != ROUNDS)
            return false;
    return true;
}

static void test_no_wake_is_lost(void **state)
{
    (void)state;
    static struct stress stress;
    stress.wake = make_wake();
    struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];
    for (unsigned i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){&stress, i};
        assert_int_equal(pthread_create(&threads[i], NULL, produce, &producers[i]), 0);
    }

    uint64_t end_ns = clock_mono_ns() + STRESS_LIMIT_NS;
    uint32_t sleeps = 0, lost = 0;
    while (!all_seen(&stress) && lost == 0 && clock_mono_ns() < end_ns) {
        wake_prepare(&stress.wake);
        if (take_published(&stress)) {
            wake_cancel(&stress.wake);
            continue;
        }
        struct pollfd poll_fd = {.fd = stress.wake.event_fd, .events = POLLIN};
        sleeps++;
        int woken = poll(&poll_fd, 1, LOST_AFTER_MS);
        wake_cancel(&stress.wake);
        if (woken > 0)
            take_events(&stress.wake);
        else if (woken == 0 && take_published(&stress))
            lost++;
    }
    atomic_store(&stress.stop, true);
    for (unsigned i = 0; i < PRODUCERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(lost, 0);
    /* it did sleep and was woken */
    assert_true(sleeps > 0 && atomic_load(&stress.written) > 0);
    close(stress.wake.event_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writes_once_per_sleep),
        cmocka_unit_test(test_full_counter_does_not_hang),
        cmocka_unit_test(test_one_side_sees_the_other),
        cmocka_unit_test(test_no_wake_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
