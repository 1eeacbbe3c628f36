/* Does every element arrive once, in order, across the wrap of the counters, and does a lying peer
 * get no further than an empty ring? */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/spsc.h"

struct element {
    uint64_t number;
    uint64_t check;
};

static void *ring_memory(uint32_t slot_size, uint32_t capacity)
{
    void *mem = aligned_alloc(64, spsc_bytes(slot_size, capacity));
    assert_non_null(mem);
    memset(mem, 0x5a, spsc_bytes(slot_size, capacity));
    return mem;
}

static void set_counters(struct spsc *ring, uint32_t head, uint32_t tail)
{
    atomic_store(&ring->header->head, head);
    atomic_store(&ring->header->tail, tail);
}

static void test_layout(void **state)
{
    (void)state;
    assert_int_equal(spsc_bytes(1, 1) % 64, 0);
    assert_true(spsc_bytes(1, 1) >= sizeof(struct spsc_header) + 1);
    assert_true(spsc_bytes(512, 1u << 24) > (size_t)UINT32_MAX); /* no 32-bit product */
    /* two writers, two cache lines */
    assert_true(offsetof(struct spsc_header, tail) - offsetof(struct spsc_header, head) >= 64);
}

static void test_empty_and_full(void **state)
{
    (void)state;
    struct spsc in, out;
    void *mem = ring_memory(sizeof(struct element), 4);
    spsc_bind(&in, mem, sizeof(struct element), 4, true);
    spsc_bind(&out, mem, sizeof(struct element), 4, false);
    assert_int_equal(spsc_space(&in), 4);
    assert_int_equal(spsc_ready(&out), 0);

    for (uint32_t i = 0; i < 4; i++) {
        struct element *slot = spsc_slot_in(&in, i);
        slot->number = i;
    }
    assert_int_equal(spsc_ready(&out), 0); /* nothing seen before publish */
    spsc_publish(&in, 3);
    assert_int_equal(spsc_space(&in), 1);
    assert_int_equal(spsc_ready(&out), 3);
    spsc_publish(&in, 1);
    assert_int_equal(spsc_space(&in), 0);
    assert_int_equal(spsc_ready(&out), 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(((struct element *)spsc_slot_out(&out, i))->number, i);
    spsc_release(&out, 1);
    assert_int_equal(spsc_space(&in), 1);
    assert_ptr_equal(spsc_slot_in(&in, 0), (uint8_t *)mem + sizeof(struct spsc_header));
    spsc_release(&out, 3);
    assert_int_equal(spsc_space(&in), 4);
    assert_int_equal(spsc_ready(&out), 0);
    assert_false(in.corrupt || out.corrupt);

    spsc_publish(&in, 2);
    spsc_bind(&out, mem, sizeof(struct element), 4, false); /* a consumer that comes back */
    assert_int_equal(spsc_ready(&out), 2);
    free(mem);
}

static void test_counters_wrap(void **state)
{
    (void)state;
    const uint32_t capacities[] = {1, 2, 8, 64};
    for (unsigned c = 0; c < 4; c++) {
        uint32_t capacity = capacities[c];
        struct spsc in, out;
        void *mem = ring_memory(sizeof(uint64_t), capacity);
        spsc_bind(&in, mem, sizeof(uint64_t), capacity, true);
        spsc_bind(&out, mem, sizeof(uint64_t), capacity, false);
        set_counters(&in, UINT32_MAX - 100, UINT32_MAX - 100);
        srandom(c + 1);
        uint64_t sent = 0, got = 0;
        while (got < 400) {
            uint32_t space = spsc_space(&in);
            assert_int_equal(space, capacity - (sent - got));
            uint32_t n = (uint32_t)random() % (space + 1);
            for (uint32_t i = 0; i < n; i++)
                *(uint64_t *)spsc_slot_in(&in, i) = sent++;
            spsc_publish(&in, n);
            uint32_t ready = spsc_ready(&out);
            assert_int_equal(ready, sent - got);
            n = (uint32_t)random() % (ready + 1);
            for (uint32_t i = 0; i < n; i++)
                assert_int_equal(*(uint64_t *)spsc_slot_out(&out, i), got++);
            spsc_release(&out, n);
        }
        assert_true(atomic_load(&in.header->head) < 1000); /* it did wrap */
        assert_false(in.corrupt || out.corrupt);
        free(mem);
    }
}

static void check_corrupt(uint32_t head, uint32_t tail, bool corrupt)
{
    struct spsc in, out;
    void *mem = ring_memory(8, 8);
    spsc_bind(&in, mem, 8, 8, true);
    spsc_bind(&out, mem, 8, 8, false);
    set_counters(&in, head, tail);
    assert_int_equal(spsc_space(&in), corrupt ? 0 : 8 - (tail - head));
    assert_int_equal(spsc_ready(&out), corrupt ? 0 : tail - head);
    assert_int_equal(in.corrupt, corrupt);
    assert_int_equal(out.corrupt, corrupt);
    /* whatever the counters say, slots lie inside */
    for (uint32_t i = 0; i < 20; i++) {
        memset(spsc_slot_in(&in, i), 1, 8);
        memset(spsc_slot_out(&out, i), 2, 8);
    }
    /* a peer that mends its counters is still not believed */
    set_counters(&in, 0, 4);
    assert_int_equal(spsc_space(&in), corrupt ? 0 : 4);
    assert_int_equal(spsc_ready(&out), corrupt ? 0 : 4);
    free(mem);
}

static void test_corrupt_counters(void **state)
{
    (void)state;
    check_corrupt(0, 8, false);
    check_corrupt(UINT32_MAX - 3, 4, false);
    check_corrupt(0, 9, true);
    check_corrupt(1, 0, true); /* head ahead of tail */
    check_corrupt(UINT32_MAX - 3, 5, true);
    check_corrupt(0, 1u << 31, true);
    check_corrupt(5, UINT32_MAX, true);
}

enum { THREAD_ELEMENTS = 300000, THREAD_CAPACITY = 64 };

static void *produce(void *arg)
{
    struct spsc *in = arg;
    uint64_t sent = 0;
    while (sent < THREAD_ELEMENTS) {
        uint32_t space = spsc_space(in);
        uint32_t n = space < 7 ? space : (uint32_t)(sent % 7) + 1;
        if (n > THREAD_ELEMENTS - sent)
            n = (uint32_t)(THREAD_ELEMENTS - sent);
        for (uint32_t i = 0; i < n; i++) {
            struct element *slot = spsc_slot_in(in, i);
            slot->number = sent;
            slot->check = ~sent;
            sent++;
        }
        spsc_publish(in, n);
        if (space == 0)
            sched_yield();
    }
    return NULL;
}

/* Under TSan this also proves that publish and release order the slots' contents. */
static void test_two_threads(void **state)
{
    (void)state;
    struct spsc in, out;
    void *mem = ring_memory(sizeof(struct element), THREAD_CAPACITY);
    spsc_bind(&in, mem, sizeof(struct element), THREAD_CAPACITY, true);
    spsc_bind(&out, mem, sizeof(struct element), THREAD_CAPACITY, false);
    set_counters(&in, UINT32_MAX - 1000, UINT32_MAX - 1000);
    pthread_t producer;
    assert_int_equal(pthread_create(&producer, NULL, produce, &in), 0);
    uint64_t got = 0, wrong = 0;
    while (got < THREAD_ELEMENTS) {
        uint32_t n = spsc_ready(&out);
        for (uint32_t i = 0; i < n; i++) {
            struct element *slot = spsc_slot_out(&out, i);
            wrong += slot->number != got || slot->check != ~got;
            *slot = (struct element){0}; /* reading it again would be seen */
            got++;
        }
        spsc_release(&out, n);
        if (n == 0)
            sched_yield();
    }
    assert_int_equal(pthread_join(producer, NULL), 0);
    assert_int_equal(wrong, 0);
    assert_int_equal(spsc_ready(&out), 0);
    assert_false(in.corrupt || out.corrupt);
    free(mem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),        cmocka_unit_test(test_empty_and_full),
        cmocka_unit_test(test_counters_wrap), cmocka_unit_test(test_corrupt_counters),
        cmocka_unit_test(test_two_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
