/* Does time come from the system, or from the replacement, in the promised units? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"

static uint64_t fake_mono(void *ctx)
{
    return *(uint64_t *)ctx;
}

static uint64_t fake_wall(void *ctx)
{
    return *(uint64_t *)ctx + 5 * NS_PER_S;
}

static void test_system_clock(void **state)
{
    (void)state;
    uint64_t last = clock_mono_ns();
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t now = clock_mono_ns();
        assert_true(now >= last);
        last = now;
    }
    struct timespec ms = {0, 2 * NS_PER_MS};
    nanosleep(&ms, NULL);
    assert_true(clock_mono_ns() - last >= NS_PER_MS);
    int64_t difference = clock_wall_s() - (int64_t)time(NULL);
    assert_true(difference >= -1 && difference <= 1);
}

static void test_replacement(void **state)
{
    (void)state;
    uint64_t now = 7 * NS_PER_S + 999999999;
    struct clock_source source = {fake_mono, fake_wall, &now};
    clock_replace(&source);
    source.mono_ns = NULL; /* the source was copied */
    assert_true(clock_mono_ns() == 7999999999ull);
    assert_true(clock_wall_ns() == 12999999999ull);
    assert_int_equal(clock_wall_s(), 12);
    now += NS_PER_MS;
    assert_int_equal(clock_wall_s(), 13);
    clock_replace(NULL);
    assert_true(clock_wall_s() > 1000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_system_clock),
        cmocka_unit_test(test_replacement),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
