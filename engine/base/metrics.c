#include "base/metrics.h"

enum { HIST_SUB_BITS = 3 };

_Static_assert(1 << HIST_SUB_BITS == HIST_SUB, "steps per power of two");

/* Values below HIST_SUB have a bucket each; above, the top 4 bits (the leading one and 3 more)
 * choose it. */
static unsigned bucket_of(uint64_t value)
{
    if (value < HIST_SUB)
        return (unsigned)value;
    unsigned shift = 63u - (unsigned)__builtin_clzll(value) - HIST_SUB_BITS;
    return (shift + 1) * HIST_SUB + (unsigned)((value >> shift) & (HIST_SUB - 1));
}

static uint64_t upper_edge(unsigned bucket)
{
    if (bucket < HIST_SUB)
        return bucket;
    unsigned shift = bucket / HIST_SUB - 1;
    uint64_t low = (uint64_t)(HIST_SUB + bucket % HIST_SUB) << shift;
    return low + ((1ull << shift) - 1);
}

static uint64_t get(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* Not an atomic addition: only the owner writes. */
static void add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, get(counter) + n, memory_order_relaxed);
}

void hist_add(struct hist *hist, uint64_t value)
{
    add(&hist->bucket[bucket_of(value)], 1);
    add(&hist->sum, value);
    add(&hist->count, 1);
}

void hist_merge(struct hist *dst, const struct hist *src)
{
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        add(&dst->bucket[i], get(&src->bucket[i]));
    add(&dst->sum, get(&src->sum));
    add(&dst->count, get(&src->count));
}

uint64_t hist_below_power(const struct hist *hist, unsigned power)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < (power - HIST_SUB_BITS + 1) * HIST_SUB; i++)
        total += get(&hist->bucket[i]);
    return total;
}

uint64_t hist_quantile(const struct hist *hist, double q)
{
    /* the buckets' own total: `count` may be ahead of or behind them while the owner writes */
    uint64_t total = 0;
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        total += get(&hist->bucket[i]);
    if (total == 0)
        return 0;

    /* the smallest rank with at least q of all values at or below it, from 1 (also for NaN) */
    uint64_t rank = 1;
    if (q >= 1)
        rank = total;
    else if (q > 0) {
        double exact = q * (double)total;
        rank = (uint64_t)exact;
        if ((double)rank < exact)
            rank++;
    }

    uint64_t seen = 0;
    unsigned last = 0;
    for (unsigned i = 0; i < HIST_BUCKETS; i++) {
        uint64_t n = get(&hist->bucket[i]);
        seen += n;
        if (n != 0)
            last = i;
        if (seen >= rank)
            break;
    }
    return upper_edge(last);
}
