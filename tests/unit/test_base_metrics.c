/* Is a histogram's quantile within 12.5 % of the exact one, for any values? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/metrics.h"

static uint64_t random64(void)
{
    static uint64_t x = 88172645463325252ull; /* xorshift64 */
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return x;
}

static void check_single(uint64_t value)
{
    static struct hist hist;
    memset(&hist, 0, sizeof(hist));
    hist_add(&hist, value);
    uint64_t got = hist_quantile(&hist, 0.5);
    assert_true(got >= value);
    assert_true(got - value <= value / HIST_SUB);
    if (value < 2 * HIST_SUB)
        assert_true(got == value);
}

static void test_every_magnitude(void **state)
{
    (void)state;
    for (uint64_t value = 0; value < 5000; value++)
        check_single(value);
    for (unsigned bit = 3; bit < 64; bit++) {
        for (uint64_t step = 0; step < 16; step++) {
            uint64_t edge = (1ull << bit) + (step << (bit - 3) >> 1);
            check_single(edge - 1);
            check_single(edge);
            check_single(edge + 1);
        }
        check_single((1ull << bit) | (random64() >> (64 - bit)));
    }
    check_single(UINT64_MAX);
    check_single(UINT64_MAX - 1);
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void check_quantiles(const uint64_t *sorted, size_t count, const struct hist *hist)
{
    for (unsigned i = 0; i <= 1000; i++) {
        double q = i / 1000.0;
        double exact = q * (double)count;
        size_t rank = (size_t)exact;
        if ((double)rank < exact)
            rank++;
        if (rank == 0)
            rank = 1;
        uint64_t oracle = sorted[rank - 1];
        uint64_t got = hist_quantile(hist, q);
        assert_true(got >= oracle);
        assert_true(got - oracle <= oracle / HIST_SUB);
    }
}

static void test_against_sorted_values(void **state)
{
    (void)state;
    enum { COUNT_MAX = 20000 };
    static uint64_t values[COUNT_MAX];
    static struct hist hist;
    const size_t counts[] = {1, 2, 3, 7, 100, 999, COUNT_MAX};
    for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
        for (unsigned spread = 0; spread < 3; spread++) {
            memset(&hist, 0, sizeof(hist));
            uint64_t sum = 0;
            for (size_t i = 0; i < counts[c]; i++) {
                uint64_t value = random64();
                if (spread == 0)
                    value >>= random64() % 64; /* every magnitude */
                else if (spread == 1)
                    value = 100000 + value % 1000; /* all in a few buckets */
                else
                    value %= 20;
                values[i] = value;
                sum += value;
                hist_add(&hist, value);
            }
            qsort(values, counts[c], sizeof(values[0]), by_value);
            check_quantiles(values, counts[c], &hist);
            assert_true(atomic_load(&hist.sum) == sum);
            assert_true(atomic_load(&hist.count) == counts[c]);
        }
    }
}

static void test_odd_quantiles(void **state)
{
    (void)state;
    static struct hist hist;
    assert_true(hist_quantile(&hist, 0.5) == 0); /* empty */
    assert_true(hist_quantile(&hist, 1) == 0);
    hist_add(&hist, 1);
    hist_add(&hist, 2);
    hist_add(&hist, 3);
    assert_true(hist_quantile(&hist, 0) == 1);
    assert_true(hist_quantile(&hist, -1) == 1);
    assert_true(hist_quantile(&hist, __builtin_nan("")) == 1);
    assert_true(hist_quantile(&hist, 0.34) == 2);
    assert_true(hist_quantile(&hist, 1) == 3);
    assert_true(hist_quantile(&hist, 2) == 3);
}

static void test_merge_equals_adding_to_one(void **state)
{
    (void)state;
    static struct hist one, merged, part[3];
    for (unsigned i = 0; i < 3000; i++) {
        uint64_t value = random64() >> random64() % 64;
        hist_add(&one, value);
        hist_add(&part[i % 3], value);
    }
    for (unsigned i = 0; i < 3; i++)
        hist_merge(&merged, &part[i]);
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        assert_true(atomic_load(&one.bucket[i]) == atomic_load(&merged.bucket[i]));
    assert_true(atomic_load(&one.sum) == atomic_load(&merged.sum));
    assert_true(atomic_load(&one.count) == atomic_load(&merged.count));
}

static void test_counters(void **state)
{
    (void)state;
    static struct metrics metrics;
    metric_add(&metrics, METRIC_ISSUED, 3);
    metric_add(&metrics, METRIC_ISSUED, 4);
    metric_refused(&metrics, ERR_QUOTA_SPENT);
    assert_true(atomic_load(&metrics.value[METRIC_ISSUED]) == 7);
    assert_true(atomic_load(&metrics.value[METRIC_REPEATED]) == 0);
    assert_true(atomic_load(&metrics.refused[ERR_QUOTA_SPENT]) == 1);
    /* a gauge goes down by adding the two's complement */
    metric_add(&metrics, METRIC_CONNECTIONS_OPEN, 1);
    metric_add(&metrics, METRIC_CONNECTIONS_OPEN, (uint64_t)-1);
    assert_true(atomic_load(&metrics.value[METRIC_CONNECTIONS_OPEN]) == 0);
}

static void test_below_power(void **state)
{
    (void)state;
    static struct hist hist;
    for (unsigned power = 3; power < 64; power++) {
        memset(&hist, 0, sizeof(hist));
        hist_add(&hist, 0);
        hist_add(&hist, (1ull << power) - 1);
        assert_true(hist_below_power(&hist, power) == 2);
        hist_add(&hist, 1ull << power);
        hist_add(&hist, UINT64_MAX);
        assert_true(hist_below_power(&hist, power) == 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_magnitude), cmocka_unit_test(test_against_sorted_values),
        cmocka_unit_test(test_odd_quantiles),   cmocka_unit_test(test_merge_equals_adding_to_one),
        cmocka_unit_test(test_counters),        cmocka_unit_test(test_below_power),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
