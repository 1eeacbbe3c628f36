/* Does a handle find its own life of a slot and no other? */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/pool.h"

static void test_take_until_empty(void **state)
{
    (void)state;
    struct pool pool;
    assert_int_equal(pool_init(&pool, 48, 5), ERR_OK);
    bool seen[5] = {false};
    for (unsigned i = 0; i < 5; i++) {
        uint32_t index = pool_take(&pool, 48);
        assert_true(index < 5);
        assert_false(seen[index]);
        seen[index] = true;
        assert_int_equal(pool_index(&pool, pool_at(&pool, index)), index);
        assert_int_equal(pool.generation[index] & 1, 1);
    }
    assert_int_equal(pool_take(&pool, 0), POOL_NONE);
    assert_int_equal(pool.free_count, 0);
    pool_put(&pool, 3);
    assert_int_equal(pool_take(&pool, 0), 3);
    pool_destroy(&pool);
    pool_destroy(&pool); /* legal on the empty object */
}

static void test_old_handle_finds_nobody(void **state)
{
    (void)state;
    struct pool pool;
    assert_int_equal(pool_init(&pool, 8, 1), ERR_OK);
    assert_null(pool_find(&pool, 0)); /* zero memory is no handle, although slot 0 exists */
    uint64_t old[1000];
    for (unsigned life = 0; life < 1000; life++) {
        uint32_t index = pool_take(&pool, 8);
        old[life] = pool_handle(&pool, index);
        assert_ptr_equal(pool_find(&pool, old[life]), pool_at(&pool, 0));
        for (unsigned i = 0; i < life; i++)
            assert_null(pool_find(&pool, old[i]));
        pool_put(&pool, index);
        assert_null(pool_find(&pool, old[life]));
        assert_null(pool_find(&pool, pool_handle(&pool, index))); /* made while free */
    }
    pool_destroy(&pool);
}

static void test_handles_from_elsewhere(void **state)
{
    (void)state;
    struct pool pool;
    assert_int_equal(pool_init(&pool, 8, 4), ERR_OK);
    uint32_t index = pool_take(&pool, 8);
    uint64_t good = pool_handle(&pool, index);
    assert_null(pool_find(&pool, good + 4));            /* beyond the slots */
    assert_null(pool_find(&pool, good | UINT32_MAX));   /* POOL_NONE */
    assert_null(pool_find(&pool, good + (2ull << 32))); /* a life to come */
    assert_null(pool_find(&pool, UINT64_MAX));
    assert_non_null(pool_find(&pool, good));
    /* just beyond the generations, whatever number lies there */
    for (uint64_t generation = 1; generation < 16; generation++)
        assert_null(pool_find(&pool, generation << 32 | pool.slot_count));
    pool_destroy(&pool);
}

static void test_clears_what_was_asked(void **state)
{
    (void)state;
    struct pool pool;
    assert_int_equal(pool_init(&pool, 32, 2), ERR_OK);
    uint32_t index = pool_take(&pool, 32);
    memset(pool_at(&pool, index), 0xaa, 32);
    pool_put(&pool, index);
    assert_int_equal(pool_take(&pool, 10), index); /* the warm slot first */
    const uint8_t *slot = pool_at(&pool, index);
    for (unsigned i = 0; i < 32; i++)
        assert_int_equal(slot[i], i < 10 ? 0 : 0xaa);
    pool_destroy(&pool);
}

static void test_slots_are_resident_only_when_used(void **state)
{
    (void)state;
    enum { SLOT = 64 * 1024, COUNT = 1024 };
    struct pool pool;
    assert_int_equal(pool_init(&pool, SLOT, COUNT), ERR_OK);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t pages = (size_t)SLOT * COUNT / page;
    unsigned char *vec = malloc(pages);
    assert_non_null(vec);
    assert_int_equal(mincore(pool.slots, pages * page, vec), 0);
    size_t resident = 0;
    for (size_t i = 0; i < pages; i++)
        resident += vec[i] & 1;
    /* the numbers behind the slots may bring the last huge page along */
    assert_true(resident <= (2u << 20) / page);
    free(vec);
    pool_destroy(&pool);
}

static void test_random_lives(void **state)
{
    (void)state;
    enum { COUNT = 97 };
    struct pool pool;
    assert_int_equal(pool_init(&pool, 24, COUNT), ERR_OK);
    uint64_t live[COUNT];
    uint64_t dead[64] = {0};
    unsigned n = 0;
    srandom(7);
    for (unsigned step = 0; step < 20000; step++) {
        if (random() % 2 == 0) {
            uint32_t index = pool_take(&pool, 24);
            assert_true((index == POOL_NONE) == (n == COUNT));
            if (index != POOL_NONE) {
                live[n] = pool_handle(&pool, index);
                memcpy(pool_at(&pool, index), &live[n], sizeof(live[n]));
                n++;
            }
        } else if (n > 0) {
            unsigned i = (unsigned)random() % n;
            dead[step % 64] = live[i];
            pool_put(&pool, (uint32_t)live[i]);
            live[i] = live[--n];
        }
        assert_int_equal(pool.free_count, COUNT - n);
        assert_null(pool_find(&pool, dead[step % 64]));
        if (n > 0) {
            uint64_t handle = live[(unsigned)random() % n];
            const void *slot = pool_find(&pool, handle);
            assert_non_null(slot);
            assert_memory_equal(slot, &handle, sizeof(handle));
        }
    }
    pool_destroy(&pool);
}

#ifndef NDEBUG
static void test_double_put_dies(void **state)
{
    (void)state;
    struct pool pool;
    assert_int_equal(pool_init(&pool, 8, 2), ERR_OK);
    uint32_t index = pool_take(&pool, 8);
    pool_put(&pool, index);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, SIG_DFL);
        close(STDERR_FILENO);
        pool_put(&pool, index);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    pool_destroy(&pool);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take_until_empty),
        cmocka_unit_test(test_old_handle_finds_nobody),
        cmocka_unit_test(test_handles_from_elsewhere),
        cmocka_unit_test(test_clears_what_was_asked),
        cmocka_unit_test(test_slots_are_resident_only_when_used),
        cmocka_unit_test(test_random_lives),
#ifndef NDEBUG
        cmocka_unit_test(test_double_put_dies),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
