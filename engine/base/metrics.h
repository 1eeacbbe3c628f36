/* metrics.h: counters and histograms, one set per core, summed when read.
 *
 * Promise: updating costs one relaxed store; only the owning thread writes a set, anyone reads.
 * Units:   _ns histograms in nanoseconds, exported as seconds (Prometheus convention).
 */
#ifndef CERTMILL_BASE_METRICS_H
#define CERTMILL_BASE_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"

/* X(enum suffix, exported name, kind, help) */
#define METRIC_TABLE(X)                                                                            \
    X(CONNECTIONS_ACCEPTED, "connections_accepted_total", counter, "Connections accepted")         \
    X(CONNECTIONS_OPEN, "connections_open", gauge, "Connections open now")                         \
    X(CONNECTIONS_SHED, "connections_shed_total", counter, "Connections refused at the limit")     \
    X(TLS_HANDSHAKES, "tls_handshakes_total", counter, "TLS handshakes completed")                 \
    X(TLS_RESUMED, "tls_resumed_total", counter, "TLS handshakes that resumed a session")          \
    X(TLS_FAILED, "tls_failed_total", counter, "TLS handshakes that failed")                       \
    X(TIMEOUTS, "timeouts_total", counter, "Connections closed by a timer")                        \
    X(REQUESTS, "requests_total", counter, "HTTP requests")                                        \
    X(RESPONSES, "responses_total", counter, "HTTP responses handed to the network")               \
    X(EXCHANGES_OPEN, "exchanges_open", gauge, "Exchanges in the pipeline now")                    \
    X(VERIFY_LOCAL, "verify_local_total", counter, "Signatures verified by the owning core")       \
    X(VERIFY_LENT, "verify_lent_total", counter, "Signatures verified for another core")           \
    X(SIGN_JOBS, "sign_jobs_total", counter, "Jobs handed to the signers")                         \
    X(SIGNATURES_CHECKED, "token_signatures_checked_total", counter, "Token signatures verified")  \
    X(SIGNATURES_WRONG, "token_signatures_wrong_total", counter, "Token signatures that failed")   \
    X(ISSUED, "certificates_issued_total", counter, "New certificates committed")                  \
    X(REPEATED, "certificates_repeated_total", counter, "Certificates answered again")             \
    X(TURNS, "core_turns_total", counter, "Turns of the core loop")                                \
    X(SLEEPS, "core_sleeps_total", counter, "Turns that slept")                                    \
    X(HEAP_ALLOCS, "heap_allocations_total", counter, "Calls to the system allocator by TLS")      \
    X(MEMORY_SHED, "memory_shed_total", counter, "Requests shed because a pool was empty")

enum metric {
#define X(suffix, name, kind, help) METRIC_##suffix,
    METRIC_TABLE(X)
#undef X
        METRIC_COUNT
};

/* Log-linear histogram: 8 linear steps per power of two, exact to 12.5 %. */
enum { HIST_SUB = 8, HIST_BUCKETS = 64 * HIST_SUB };

struct hist {
    _Atomic uint64_t bucket[HIST_BUCKETS];
    _Atomic uint64_t sum;
    _Atomic uint64_t count;
};

void hist_add(struct hist *hist, uint64_t value);
/* dst += src */
void hist_merge(struct hist *dst, const struct hist *src);
/* How many values are less than 2^power; power is 3 to 63. */
uint64_t hist_below_power(const struct hist *hist, unsigned power);
/* The value at quantile q (0..1): the upper edge of its bucket; 0 when empty. */
uint64_t hist_quantile(const struct hist *hist, double q);

struct metrics {
    _Atomic uint64_t value[METRIC_COUNT];
    _Atomic uint64_t refused[ERR_COUNT]; /* by code */
    struct hist request_ns;              /* last byte in to response handed to the network */
    struct hist sign_ns;                 /* submit to completion */
    struct hist commit_ns;               /* stage to completion */
};

static inline void metric_add(struct metrics *metrics, enum metric metric, uint64_t n)
{
    uint64_t now = atomic_load_explicit(&metrics->value[metric], memory_order_relaxed);
    atomic_store_explicit(&metrics->value[metric], now + n, memory_order_relaxed);
}

static inline void metric_refused(struct metrics *metrics, enum err err)
{
    uint64_t now = atomic_load_explicit(&metrics->refused[err], memory_order_relaxed);
    atomic_store_explicit(&metrics->refused[err], now + 1, memory_order_relaxed);
}

#endif
