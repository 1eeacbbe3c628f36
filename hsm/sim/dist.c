#include "hsm/sim/dist.h"

#include <math.h>

/* splitmix64 (Steele, Lea, Flood 2014), as a function of a counter. */
uint64_t dist_random(uint64_t seed, uint64_t n)
{
    uint64_t z = (seed + 1) * 0xd1342543de82ef95ull + (n + 1) * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* Newton's method on the complementary error function: exact to some 1e-12, and no table of
 * coefficients. The density is never 0 where double precision has a p. */
double dist_normal_quantile(double p)
{
    double q = p < 0.5 ? p : 1 - p;
    double t = sqrt(-2 * log(q));
    double x = t - (2.30753 + 0.27061 * t) / (1 + t * (0.99229 + 0.04481 * t)); /* AS 26.2.22 */
    for (int i = 0; i < 4; i++) {
        double upper = 0.5 * erfc(x / sqrt(2));
        double density = exp(-0.5 * x * x) / sqrt(2 * M_PI);
        x += (upper - q) / density;
    }
    return p < 0.5 ? -x : x;
}

struct dist dist_constant(double us)
{
    return (struct dist){.kind = us > 0 ? DIST_CONSTANT : DIST_NONE, .median_us = us};
}

struct dist dist_lognormal(double median_us, double p99_us)
{
    return (struct dist){.kind = DIST_LOGNORMAL,
                         .median_us = median_us,
                         .sigma = log(p99_us / median_us) / dist_normal_quantile(0.99)};
}

static double table_quantile(const struct dist *dist, double p)
{
    double percentile = p * 100;
    const struct dist_point *point = dist->point;
    uint32_t last = dist->points - 1;
    if (percentile <= point[0].percentile)
        return point[0].us;
    for (uint32_t i = 1; i <= last; i++) {
        if (percentile > point[i].percentile)
            continue;
        double share = (percentile - point[i - 1].percentile) /
                       (point[i].percentile - point[i - 1].percentile);
        return point[i - 1].us + share * (point[i].us - point[i - 1].us);
    }
    return point[last].us;
}

double dist_quantile_us(const struct dist *dist, double p)
{
    switch (dist->kind) {
    case DIST_CONSTANT:
        return dist->median_us;
    case DIST_LOGNORMAL:
        return dist->median_us * exp(dist->sigma * dist_normal_quantile(p));
    case DIST_PERCENTILES:
        return table_quantile(dist, p);
    case DIST_NONE:
        break;
    }
    return 0;
}

double dist_mean_us(const struct dist *dist)
{
    if (dist->kind == DIST_LOGNORMAL)
        return dist->median_us * exp(0.5 * dist->sigma * dist->sigma);
    if (dist->kind != DIST_PERCENTILES)
        return dist->median_us;
    const struct dist_point *point = dist->point;
    uint32_t last = dist->points - 1;
    double sum =
        point[0].us * point[0].percentile + point[last].us * (100 - point[last].percentile);
    for (uint32_t i = 1; i <= last; i++)
        sum +=
            (point[i].percentile - point[i - 1].percentile) * (point[i].us + point[i - 1].us) / 2;
    return sum / 100;
}

uint64_t dist_sample_ns(const struct dist *dist, uint64_t seed, uint64_t n)
{
    /* 53 bits and a half: never 0 or 1 */
    double p = ((double)(dist_random(seed, n) >> 11) + 0.5) / 9007199254740992.0;
    return (uint64_t)(dist_quantile_us(dist, p) * 1000);
}
