/* Does a byte queue give back what was put, in order, hold chunks only while it holds octets, keep
 * what is being sent in its place, and let output go on from the reserve when the pool is empty? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "limits.h"
#include "net/byteq.h"

static struct chunk_pool pool;
static struct chunk_source source;

static void open_pool(uint32_t small, uint32_t medium, uint32_t reserve)
{
    const uint32_t counts[CHUNK_CLASS_COUNT] = {small, medium, 0};
    assert_int_equal(chunk_pool_init_counts(&pool, counts), ERR_OK);
    assert_true(chunk_source_init(&source, &pool, reserve));
}

static void close_pool(void)
{
    chunk_source_destroy(&source);
    for (unsigned i = 0; i < CHUNK_CLASS_COUNT; i++)
        assert_int_equal(pool.free_count[i], pool.count[i]);
    chunk_pool_destroy(&pool);
}

static uint8_t octet(uint64_t position)
{
    return (uint8_t)(position * 2654435761u >> 13);
}

/* Random puts, rooms and pops against a count of what went in and came out. */
static void test_against_a_counter(void **state)
{
    (void)state;
    open_pool(64, 4, 3);
    struct byteq queue = {0};
    uint64_t in = 0, out = 0;
    unsigned seed = 9;
    static uint8_t data[40000];
    for (unsigned step = 0; step < 60000; step++) {
        unsigned what = (unsigned)rand_r(&seed) % 3;
        size_t n = (size_t)rand_r(&seed) % (step % 100 == 0 ? sizeof(data) : 3000);
        if (what == 0 && queue.total < 60000) {
            for (size_t i = 0; i < n; i++)
                data[i] = octet(in + i);
            if (byteq_put(&queue, &source, bytes_of(data, n)))
                in += n;
        } else if (what == 1 && queue.total < 60000) {
            struct writer room;
            if (byteq_room(&queue, &source, n, &room)) {
                assert_true(room.cap >= n);
                size_t used = n == 0 ? 0 : (size_t)rand_r(&seed) % (n + 1);
                for (size_t i = 0; i < used; i++)
                    writer_put_u8(&room, octet(in + i));
                byteq_commit(&queue, &source, &room);
                in += used;
            }
        } else {
            struct bytes front = byteq_front(&queue);
            assert_int_equal(front.len == 0, queue.total == 0);
            for (size_t i = 0; i < front.len; i++)
                assert_int_equal(front.ptr[i], octet(out + i));
            if (n > front.len)
                n = front.len;
            byteq_pop(&queue, &source, n);
            out += n;
            if (n < front.len) /* what is left has not moved */
                assert_ptr_equal(byteq_front(&queue).ptr, front.ptr + n);
        }
        assert_int_equal(queue.total, in - out);
        if (queue.total == 0)
            assert_null(queue.first);
    }
    assert_true(in > 10000000);
    byteq_clear(&queue, &source);
    assert_null(queue.first);
    close_pool();
}

static void test_reserve(void **state)
{
    (void)state;
    open_pool(4, 0, 2);
    struct chunk_source others = {0};
    assert_true(chunk_source_init(&others, &pool, 0));
    struct byteq a = {0}, b = {0};
    static const uint8_t data[CHUNK_SMALL_SIZE];
    assert_true(byteq_put(&a, &others, bytes_of(data, 4000)));
    assert_true(byteq_put(&a, &others, bytes_of(data, 4000)));
    assert_false(byteq_put(&a, &others, bytes_of(data, 4000))); /* not from the reserve */
    assert_int_equal(a.total, 8000);

    assert_true(byteq_put(&b, &source, bytes_of(data, 4000)));
    assert_true(byteq_put(&b, &source, bytes_of(data, 4000)));
    assert_false(byteq_put(&b, &source, bytes_of(data, 4000)));
    assert_int_equal(b.total, 8000); /* nothing of it was put */
    struct writer room;
    assert_false(byteq_room(&b, &source, 2000, &room));
    assert_false(byteq_put(&b, &source, BYTES_ARRAY(data))); /* fits no chunk that is left */

    /* What comes back from anywhere fills the reserve first, so others do not get it. */
    byteq_pop(&b, &source, 8000);
    assert_int_equal(source.reserve_count, 2);
    assert_false(byteq_put(&a, &others, bytes_of(data, 4000)));
    byteq_clear(&a, &others);
    assert_int_equal(pool.free_count[0], 2);
    close_pool();
}

static void test_empty(void **state)
{
    (void)state;
    open_pool(2, 0, 0);
    struct byteq queue = {0};
    assert_int_equal(byteq_front(&queue).len, 0);
    byteq_pop(&queue, &source, 0);
    byteq_clear(&queue, &source);
    assert_true(byteq_put(&queue, &source, (struct bytes){0}));
    assert_null(queue.first);
    struct writer room;
    assert_true(byteq_room(&queue, &source, 100, &room));
    byteq_commit(&queue, &source, &room); /* nothing was written: the chunk goes back */
    assert_null(queue.first);
    assert_int_equal(pool.free_count[0], 2);
    close_pool();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_a_counter),
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
