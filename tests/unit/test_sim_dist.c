/* Do the simulator's service times have the distribution that was described, and do they repeat?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>

#include "hsm/sim/dist.c" /* the module exports PKCS#11 alone */

enum { SAMPLES = 200000 };

static void assert_near(double a, double b, double relative)
{
    if (!(fabs(a - b) <= relative * fabs(b)))
        fail_msg("%.12g is not within %g of %.12g", a, relative, b);
}

/* Values of the standard normal from tables (and R's qnorm). */
static void normal_quantile(void **state)
{
    (void)state;
    static const struct {
        double p, x;
    } known[] = {{0.841344746068543, 1.0},    {0.975, 1.959963984540054},
                 {0.99, 2.326347874040841},   {0.999, 3.090232306167813},
                 {0.9999, 3.719016485455709}, {0.75, 0.674489750196082}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        assert_near(dist_normal_quantile(known[i].p), known[i].x, 1e-9);
        assert_near(dist_normal_quantile(1 - known[i].p), -known[i].x, 1e-9);
    }
    assert_true(fabs(dist_normal_quantile(0.5)) < 1e-9);
    assert_near(dist_normal_quantile(1e-15), -7.941345326, 1e-6); /* the far end, finite */
}

static void described_points(void **state)
{
    (void)state;
    struct dist lognormal = dist_lognormal(1400, 2100);
    assert_near(dist_quantile_us(&lognormal, 0.5), 1400, 1e-9);
    assert_near(dist_quantile_us(&lognormal, 0.99), 2100, 1e-9);
    struct dist constant = dist_constant(73000);
    assert_true(dist_quantile_us(&constant, 0.01) == 73000);
    struct dist nothing = {0};
    assert_true(dist_quantile_us(&nothing, 0.5) == 0);
    assert_true(dist_sample_ns(&nothing, 1, 1) == 0);
    struct dist table = {.kind = DIST_PERCENTILES,
                         .points = 4,
                         .point = {{10, 100}, {50, 200}, {90, 1000}, {99, 1000}}};
    assert_true(dist_quantile_us(&table, 0.05) == 100);
    assert_near(dist_quantile_us(&table, 0.30), 150, 1e-12);
    assert_near(dist_quantile_us(&table, 0.70), 600, 1e-12);
    assert_true(dist_quantile_us(&table, 0.95) == 1000);
    assert_true(dist_quantile_us(&table, 0.999) == 1000);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double *samples(const struct dist *dist, uint64_t seed)
{
    double *us = malloc(SAMPLES * sizeof *us);
    assert_non_null(us);
    for (uint64_t i = 0; i < SAMPLES; i++)
        us[i] = (double)dist_sample_ns(dist, seed, i + 1) / 1000;
    return us;
}

/* The lognormal's distribution function, written without its inverse. */
static double lognormal_cdf(double us, double median, double p99)
{
    double sigma = log(p99 / median) / 2.326347874040841;
    return 0.5 * erfc(-log(us / median) / (sigma * sqrt(2)));
}

/* Kolmogorov-Smirnov: 1.63 / sqrt(n) is passed by chance once in a hundred; the seed is fixed. */
static void lognormal_samples(void **state)
{
    (void)state;
    static const struct {
        double median, p99;
    } shapes[] = {{1400, 1900}, {500, 10000}, {73000, 73001}};
    for (size_t k = 0; k < sizeof shapes / sizeof *shapes; k++) {
        struct dist dist = dist_lognormal(shapes[k].median, shapes[k].p99);
        double *us = samples(&dist, 7 + k), worst = 0, mean = 0;
        for (size_t i = 0; i < SAMPLES; i++)
            mean += us[i] / SAMPLES;
        assert_near(mean, dist_mean_us(&dist), k == 1 ? 0.05 : 0.005);
        qsort(us, SAMPLES, sizeof *us, by_value);
        for (size_t i = 0; i < SAMPLES && k != 2; i++) { /* the third is finer than a ns */
            double d = fabs(lognormal_cdf(us[i], shapes[k].median, shapes[k].p99) -
                            ((double)i + 0.5) / SAMPLES);
            worst = d > worst ? d : worst;
        }
        if (worst > 1.63 / sqrt(SAMPLES))
            fail_msg("median %g: Kolmogorov-Smirnov distance %g", shapes[k].median, worst);
        free(us);
    }
}

static void table_samples(void **state)
{
    (void)state;
    struct dist table = {.kind = DIST_PERCENTILES,
                         .points = 5,
                         .point = {{0, 100}, {50, 200}, {90, 1000}, {99, 3000}, {100, 9000}}};
    double *us = samples(&table, 3), mean = 0;
    for (size_t i = 0; i < SAMPLES; i++)
        mean += us[i] / SAMPLES;
    /* by hand: 50 of 150, 40 of 600, 9 of 2000, 1 of 6000, in percent */
    assert_near(dist_mean_us(&table), 0.5 * 150 + 0.4 * 600 + 0.09 * 2000 + 0.01 * 6000, 1e-12);
    assert_near(mean, 555, 0.01);
    for (uint32_t k = 0; k < table.points; k++) { /* as many below each point as it says */
        double share = table.point[k].percentile / 100, below = 0;
        for (size_t i = 0; i < SAMPLES; i++)
            below += us[i] <= table.point[k].us;
        /* samples are whole ns: a few fall together with an end */
        assert_true(fabs(below / SAMPLES - share) <=
                    4 * sqrt(share * (1 - share) / SAMPLES) + 10.0 / SAMPLES);
    }
    free(us);
}

/* The n-th sample is the n-th, whoever asks; another seed gives others; neighbours do not know of
 * each other. */
static void repeatable(void **state)
{
    (void)state;
    struct dist dist = dist_lognormal(1000, 2000);
    double *a = samples(&dist, 1), *b = samples(&dist, 1), *c = samples(&dist, 2);
    size_t same = 0;
    double covariance = 0, variance = 0, cross = 0, mean = dist_mean_us(&dist);
    for (size_t i = 0; i < SAMPLES; i++) {
        assert_true(a[i] == b[i]);
        same += a[i] == c[i];
        variance += (a[i] - mean) * (a[i] - mean);
        covariance += (a[i] - mean) * (a[(i + 1) % SAMPLES] - mean);
        cross += (a[i] - mean) * (c[i] - mean);
    }
    assert_true(same < 100); /* whole nanoseconds: some by chance */
    assert_true(fabs(covariance / variance) < 4 / sqrt(SAMPLES));
    assert_true(fabs(cross / variance) < 4 / sqrt(SAMPLES));
    free(a);
    free(b);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normal_quantile),   cmocka_unit_test(described_points),
        cmocka_unit_test(lognormal_samples), cmocka_unit_test(table_samples),
        cmocka_unit_test(repeatable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
