#include "base/clock.h"
#include "hsm/queue/internal.h"

/* Closed: breaker_until_ns is 0. Open: it lies ahead. Half open: it has passed, and one job at a
 * time may try. All threads read and write these words; each race ends in one job more or fewer
 * tried. */

static uint64_t until_of(struct signer *signer)
{
    return atomic_load_explicit(&signer->breaker_until_ns, memory_order_relaxed);
}

bool breaker_is_open(struct signer *signer, uint64_t now)
{
    return now < until_of(signer);
}

enum hsm_breaker breaker_state(struct signer *signer, uint64_t now)
{
    uint64_t until = until_of(signer);
    return until == 0 ? HSM_BREAKER_CLOSED : now < until ? HSM_BREAKER_OPEN : HSM_BREAKER_HALF_OPEN;
}

bool breaker_allows(struct signer *signer, uint64_t now)
{
    uint64_t until = until_of(signer);
    return until == 0 || (now >= until && atomic_load_explicit(&signer->breaker_probing,
                                                               memory_order_relaxed) == 0);
}

bool breaker_claim(struct signer *signer, uint64_t now, bool *out_ok)
{
    uint64_t until = until_of(signer);
    *out_ok = until == 0;
    if (until == 0 || now < until)
        return false;
    *out_ok = atomic_exchange_explicit(&signer->breaker_probing, 1, memory_order_acq_rel) == 0;
    return *out_ok;
}

void breaker_succeeded(struct signer *signer)
{
    if (atomic_load_explicit(&signer->failures, memory_order_relaxed) != 0)
        atomic_store_explicit(&signer->failures, 0, memory_order_relaxed);
    if (until_of(signer) != 0) {
        breaker_reset(signer); /* it was away, not throttling */
        atomic_store_explicit(&signer->limit, UINT32_MAX, memory_order_relaxed);
        return;
    }

    /* Additive increase, one for some windows' worth of successes, until the limit binds no more.
     */
    uint32_t limit = atomic_load_explicit(&signer->limit, memory_order_relaxed);
    if (limit != UINT32_MAX) {
        uint32_t step = LIMIT_UNIT * LIMIT_UNIT / LIMIT_WINDOWS / limit;
        limit += step != 0 ? step : 1;
        if (limit / LIMIT_UNIT > 4 * signer->sessions)
            limit = UINT32_MAX;
        atomic_store_explicit(&signer->limit, limit, memory_order_relaxed);
    }
}

/* A token that answers "not now" is asked less at once: multiplicative decrease, not more often
 * than its effect can be seen. */
static void throttle(struct signer *signer, uint64_t now)
{
    uint64_t changed = atomic_load_explicit(&signer->limit_changed_ns, memory_order_relaxed);
    if (now - changed < THROTTLE_STEP_NS ||
        !atomic_compare_exchange_strong_explicit(&signer->limit_changed_ns, &changed, now,
                                                 memory_order_relaxed, memory_order_relaxed))
        return;
    uint32_t limit = atomic_load_explicit(&signer->limit, memory_order_relaxed);
    uint32_t in_flight = atomic_load_explicit(&signer->in_flight, memory_order_relaxed);
    if (in_flight > signer->sessions)
        in_flight = signer->sessions;
    if (limit > in_flight * LIMIT_UNIT)
        limit = in_flight * LIMIT_UNIT;
    limit -= limit / 4;
    if (limit < LIMIT_UNIT)
        limit = LIMIT_UNIT;
    atomic_store_explicit(&signer->limit, limit, memory_order_relaxed);
}

void breaker_failed(struct signer *signer, uint64_t now, bool probe)
{
    uint32_t failures = atomic_fetch_add_explicit(&signer->failures, 1, memory_order_relaxed) + 1;
    throttle(signer, now);
    if (!probe && (failures < BREAKER_FAILURES || until_of(signer) != 0))
        return;
    uint32_t trips = atomic_fetch_add_explicit(&signer->breaker_trips, 1, memory_order_relaxed);
    uint64_t open_ns = BREAKER_OPEN_MIN_NS << (trips < 6 ? trips : 6);
    if (open_ns > BREAKER_OPEN_MAX_NS)
        open_ns = BREAKER_OPEN_MAX_NS;
    atomic_store_explicit(&signer->breaker_until_ns, now + open_ns, memory_order_relaxed);
    if (probe)
        atomic_store_explicit(&signer->breaker_probing, 0, memory_order_release);
}

void breaker_reset(struct signer *signer)
{
    atomic_store_explicit(&signer->failures, 0, memory_order_relaxed);
    atomic_store_explicit(&signer->breaker_trips, 0, memory_order_relaxed);
    atomic_store_explicit(&signer->breaker_until_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&signer->breaker_probing, 0, memory_order_release);
}
