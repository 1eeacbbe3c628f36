/* Does an exchange get memory within its bounds, never the same twice, and give all of it back? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/arena.h"
#include "limits.h"

static void make_pool(struct chunk_pool *pool, uint32_t small, uint32_t medium, uint32_t large)
{
    const uint32_t counts[CHUNK_CLASS_COUNT] = {small, medium, large};
    assert_int_equal(chunk_pool_init_counts(pool, counts), ERR_OK);
}

static void assert_all_free(const struct chunk_pool *pool)
{
    for (unsigned i = 0; i < CHUNK_CLASS_COUNT; i++)
        assert_int_equal(pool->free_count[i], pool->count[i]);
}

static size_t resident_pages(const struct chunk_pool *pool)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t count = (pool->map_len + page - 1) / page;
    unsigned char *vec = malloc(count);
    assert_non_null(vec);
    assert_int_equal(mincore(pool->map, pool->map_len, vec), 0);
    size_t resident = 0;
    for (size_t i = 0; i < count; i++)
        resident += vec[i] & 1;
    free(vec);
    return resident;
}

static void test_memory_is_resident_only_when_used(void **state)
{
    (void)state;
    struct chunk_pool pool;
    assert_int_equal(chunk_pool_init(&pool), ERR_OK);
    assert_int_equal(pool.count[0], CHUNK_SMALL_COUNT);
    assert_int_equal(resident_pages(&pool), 0);
    struct chunk *chunk = chunk_take(&pool, 1);
    assert_non_null(chunk);
    /* huge pages may bring 2 MiB at once, here and no more */
    size_t huge = (2u << 20) / (size_t)sysconf(_SC_PAGESIZE);
    assert_in_range(resident_pages(&pool), 1, 2 * huge);
    chunk_put(&pool, chunk);
    chunk_pool_destroy(&pool);
    chunk_pool_destroy(&pool); /* legal on the empty object */
}

static void test_classes_and_falling_over(void **state)
{
    (void)state;
    struct chunk_pool pool;
    make_pool(&pool, 2, 1, 1);

    struct chunk *exact = chunk_take(&pool, CHUNK_SMALL_SIZE);
    assert_int_equal(exact->size, CHUNK_SMALL_SIZE);
    struct chunk *above = chunk_take(&pool, CHUNK_SMALL_SIZE + 1);
    assert_int_equal(above->size, CHUNK_MEDIUM_SIZE);
    chunk_put(&pool, above);
    struct chunk *small = chunk_take(&pool, 0);
    assert_int_equal(small->size, CHUNK_SMALL_SIZE);
    /* the small class is empty: the next larger serves, then the largest, then none */
    struct chunk *medium = chunk_take(&pool, 1);
    assert_int_equal(medium->size, CHUNK_MEDIUM_SIZE);
    struct chunk *large = chunk_take(&pool, 1);
    assert_int_equal(large->size, CHUNK_LARGE_SIZE);
    assert_null(chunk_take(&pool, 1));
    assert_null(chunk_take(&pool, 0));

    chunk_put(&pool, small);
    assert_null(chunk_take(&pool, CHUNK_SMALL_SIZE + 1));
    assert_ptr_equal(chunk_take(&pool, 1), small);
    chunk_put(&pool, large);
    assert_null(chunk_take(&pool, (size_t)CHUNK_LARGE_SIZE + 1));
    assert_null(chunk_take(&pool, SIZE_MAX));
    assert_ptr_equal(chunk_take(&pool, CHUNK_LARGE_SIZE), large);
    chunk_pool_destroy(&pool);
}

static int by_address(const void *a, const void *b)
{
    const struct chunk *const *x = a, *const *y = b;
    return (*x > *y) - (*x < *y);
}

/* Takes and puts in random order mix fresh chunks and used ones in every way; no chunk may be
 * handed out twice or overlap another, and the full count must come out at the end. */
static void test_chunks_are_disjoint(void **state)
{
    (void)state;
    enum { COUNT = 64 };
    struct chunk_pool pool;
    make_pool(&pool, COUNT, 0, 0);
    srandom(1);
    for (unsigned round = 0; round < 50; round++) {
        struct chunk *held[COUNT];
        unsigned n = 0;
        unsigned goal = 1 + (unsigned)random() % COUNT;
        for (unsigned step = 0; step < 300 || n < goal; step++) {
            if (n < goal && (n == 0 || random() % 3 != 0)) {
                held[n] = chunk_take(&pool, 1);
                assert_non_null(held[n]);
                memset(held[n]->data, (int)step, held[n]->size);
                n++;
            } else {
                unsigned i = (unsigned)random() % n;
                chunk_put(&pool, held[i]);
                held[i] = held[--n];
            }
        }
        assert_int_equal(pool.free_count[0], COUNT - n);
        qsort(held, n, sizeof(held[0]), by_address);
        for (unsigned i = 0; i < n; i++) {
            assert_true((uint8_t *)held[i] >= (uint8_t *)pool.map);
            assert_true(held[i]->data + held[i]->size <= (uint8_t *)pool.map + pool.map_len);
            if (i > 0)
                assert_true(held[i - 1]->data + held[i - 1]->size <= (uint8_t *)held[i]);
        }
        while (n > 0)
            chunk_put(&pool, held[--n]);
        assert_all_free(&pool);
    }
    struct chunk *all[COUNT];
    for (unsigned i = 0; i < COUNT; i++)
        assert_non_null(all[i] = chunk_take(&pool, 1));
    assert_null(chunk_take(&pool, 1));
    qsort(all, COUNT, sizeof(all[0]), by_address);
    for (unsigned i = 1; i < COUNT; i++)
        assert_true(all[i - 1] < all[i]);
    chunk_pool_destroy(&pool);
}

static void test_arena_alloc(void **state)
{
    (void)state;
    struct chunk_pool pool;
    make_pool(&pool, 4, 2, 1);
    struct arena arena;
    arena_init(&arena, &pool, 0);

    uint8_t *last_end = NULL;
    for (size_t len = 0; len < 70; len++) {
        uint8_t *mem = arena_alloc(&arena, len);
        assert_non_null(mem);
        assert_int_equal((uintptr_t)mem % 16, 0);
        assert_true(last_end == NULL || arena.used <= len + 16 || mem >= last_end);
        memset(mem, 0xee, len);
        last_end = mem + len;
    }
    assert_int_equal(arena.total, CHUNK_SMALL_SIZE);

    uint8_t *body = arena_alloc(&arena, EST_BODY_MAX);
    assert_non_null(body);
    memset(body, 0xee, EST_BODY_MAX);
    assert_int_equal(arena.chunks->size, CHUNK_MEDIUM_SIZE);
    assert_int_equal(arena.total, CHUNK_SMALL_SIZE + CHUNK_MEDIUM_SIZE);
    assert_non_null(arena_alloc(&arena, CHUNK_LARGE_SIZE));
    assert_null(arena_alloc(&arena, CHUNK_LARGE_SIZE)); /* the only one is taken */
    assert_null(arena_alloc(&arena, (size_t)CHUNK_LARGE_SIZE + 1));
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_alloc(&arena, SIZE_MAX - 15)); /* rounding up must not wrap */
    assert_non_null(arena_alloc(&arena, 1));         /* a refusal spoils nothing */

    arena_reset(&arena);
    assert_all_free(&pool);
    assert_null(arena.chunks);
    assert_int_equal(arena.total, 0);
    arena_reset(&arena);
    assert_non_null(arena_alloc(&arena, 1)); /* and it can be used again */
    arena_reset(&arena);
    assert_all_free(&pool);
    chunk_pool_destroy(&pool);
}

static void test_arena_grows_by_larger_chunks(void **state)
{
    (void)state;
    struct chunk_pool pool;
    make_pool(&pool, 20, 18, 1);
    struct arena arena;
    arena_init(&arena, &pool, 0);
    while (arena.total < 16 * CHUNK_SMALL_SIZE)
        assert_non_null(arena_alloc(&arena, 3000));
    assert_int_equal(arena.chunks->size, CHUNK_SMALL_SIZE);
    assert_non_null(arena_alloc(&arena, 3000));
    assert_int_equal(arena.chunks->size, CHUNK_MEDIUM_SIZE);
    while (arena.total < 16 * CHUNK_MEDIUM_SIZE)
        assert_non_null(arena_alloc(&arena, 3000));
    while (arena.chunks->size != CHUNK_LARGE_SIZE)
        assert_non_null(arena_alloc(&arena, 3000));
    assert_int_equal(pool.free_count[2], 0);
    /* without larger ones, any that does */
    while (arena_alloc(&arena, 3000) != NULL)
        continue;
    for (int i = 0; i < 3; i++)
        assert_int_equal(pool.free_count[i], 0);
    arena_reset(&arena);
    assert_all_free(&pool);
    chunk_pool_destroy(&pool);
}

static void test_what_came_last_shrinks(void **state)
{
    (void)state;
    struct chunk_pool pool;
    make_pool(&pool, 1, 0, 0);
    struct arena arena;
    arena_init(&arena, &pool, 0);
    uint8_t *first = arena_alloc(&arena, 100), *second = arena_alloc(&arena, 2000);
    memset(second, 0xee, 2000);
    arena_shrink(&arena, second, 17);
    uint8_t *third = arena_alloc(&arena, 1000);
    assert_true(first < second);
    assert_ptr_equal(third, second + 32);
    memset(third, 0x11, 1000);
    assert_int_equal(second[16], 0xee);
    arena_shrink(&arena, third, 0);
    assert_ptr_equal(arena_alloc(&arena, 1), third);
    arena_reset(&arena);
    chunk_pool_destroy(&pool);
}

static void test_arena_runs_dry(void **state)
{
    (void)state;
    struct chunk_pool pool;
    make_pool(&pool, 2, 1, 0);
    struct arena first, second;
    arena_init(&first, &pool, 0);
    arena_init(&second, &pool, 0);
    size_t count = 0;
    while (arena_alloc(&first, 1024) != NULL)
        count++;
    assert_int_equal(count, (2 * CHUNK_SMALL_SIZE + CHUNK_MEDIUM_SIZE) / 1024);
    assert_null(arena_alloc(&second, 1));
    arena_reset(&second); /* holding nothing */
    arena_reset(&first);
    assert_all_free(&pool);
    assert_non_null(arena_alloc(&second, 1));
    arena_reset(&second);
    chunk_pool_destroy(&pool);
}

static void test_arena_cap(void **state)
{
    (void)state;
    struct chunk_pool pool;
    make_pool(&pool, 8, 1, 1);
    struct arena arena;
    arena_init(&arena, &pool, 2 * CHUNK_SMALL_SIZE);
    assert_non_null(arena_alloc(&arena, CHUNK_SMALL_SIZE));
    assert_null(arena_alloc(&arena, CHUNK_SMALL_SIZE + 1)); /* a medium chunk passes the cap */
    assert_int_equal(pool.free_count[1], 1);                /* and went back */
    assert_non_null(arena_alloc(&arena, CHUNK_SMALL_SIZE));
    assert_null(arena_alloc(&arena, 1));
    assert_int_equal(arena.total, 2 * CHUNK_SMALL_SIZE);
    assert_int_equal(pool.free_count[0], 6);
    arena_reset(&arena);
    assert_all_free(&pool);
    assert_non_null(arena_alloc(&arena, CHUNK_SMALL_SIZE)); /* the cap counts anew */
    arena_reset(&arena);
    chunk_pool_destroy(&pool);
}

static void test_calloc_and_dup(void **state)
{
    (void)state;
    struct chunk_pool pool;
    make_pool(&pool, 1, 0, 0);
    struct arena arena;
    arena_init(&arena, &pool, 0);
    memset(arena_alloc(&arena, CHUNK_SMALL_SIZE), 0xff, CHUNK_SMALL_SIZE);
    arena_reset(&arena);
    uint8_t *zeroed = arena_calloc(&arena, 100);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(zeroed[i], 0);

    char text[] = "device-1";
    struct bytes copy = arena_dup(&arena, bytes_of_str(text));
    text[0] = 'X';
    assert_true(bytes_eq(copy, BYTES_LIT("device-1")));
    assert_null(arena_dup(&arena, (struct bytes){0}).ptr);
    assert_null(arena_dup(&arena, BYTES_LIT("")).ptr);
    static const uint8_t big[CHUNK_SMALL_SIZE];
    struct bytes none = arena_dup(&arena, BYTES_ARRAY(big));
    assert_true(none.ptr == NULL && none.len == 0);
    assert_null(arena_calloc(&arena, CHUNK_SMALL_SIZE));
    arena_reset(&arena);
    chunk_pool_destroy(&pool);
}

static void test_zero_arena(void **state)
{
    (void)state;
    struct arena arena = {0};
    arena_reset(&arena);
    struct chunk_pool pool;
    make_pool(&pool, 0, 0, 0);
    assert_null(chunk_take(&pool, 0));
    chunk_pool_destroy(&pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_resident_only_when_used),
        cmocka_unit_test(test_classes_and_falling_over),
        cmocka_unit_test(test_chunks_are_disjoint),
        cmocka_unit_test(test_arena_alloc),
        cmocka_unit_test(test_arena_grows_by_larger_chunks),
        cmocka_unit_test(test_what_came_last_shrinks),
        cmocka_unit_test(test_arena_runs_dry),
        cmocka_unit_test(test_arena_cap),
        cmocka_unit_test(test_calloc_and_dup),
        cmocka_unit_test(test_zero_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
