/* dist.h: how long a described device takes for one job.
 *
 * Promise: a sample is dist_quantile_us at a random place, and the n-th sample under a seed is
 *          always the same, whichever process, thread or order asks: numbers come from a counter.
 * Threads: pure.
 * Units:   microseconds in descriptions, ns in samples.
 */
#ifndef CERTMILL_SIM_DIST_H
#define CERTMILL_SIM_DIST_H

#include <stdint.h>

enum { DIST_POINTS_MAX = 32 };

enum dist_kind { DIST_NONE, DIST_CONSTANT, DIST_LOGNORMAL, DIST_PERCENTILES };

struct dist_point {
    double percentile; /* 0..100, rising */
    double us;         /* not falling */
};

/* The zero value takes no time. */
struct dist {
    enum dist_kind kind;
    double median_us; /* and the constant */
    double sigma;
    struct dist_point point[DIST_POINTS_MAX];
    uint32_t points;
};

struct dist dist_constant(double us);
/* p99_us >= median_us > 0 */
struct dist dist_lognormal(double median_us, double p99_us);

/* 0 < p < 1. Between the points of a table on a straight line; outside of them its first and last.
 */
double dist_quantile_us(const struct dist *dist, double p);
double dist_mean_us(const struct dist *dist);
uint64_t dist_sample_ns(const struct dist *dist, uint64_t seed, uint64_t n);

/* The n-th of a repeatable series of evenly spread 64-bit numbers. */
uint64_t dist_random(uint64_t seed, uint64_t n);
/* The place of the standard normal distribution below which the share p lies. */
double dist_normal_quantile(double p);

#endif
