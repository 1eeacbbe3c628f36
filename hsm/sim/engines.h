/* engines.h: the queue in front of a device's engines, as arithmetic on times.
 *
 * Promise: first come, first served by the engine that frees first: a job that comes at `now` ends
 *          at max(now, when that engine frees) + service. The engines' times may lie in memory that
 *          several processes share; reserving is lock-free, and a process that dies holds nothing.
 * Threads: any.
 * Units:   ns of one clock.
 */
#ifndef CERTMILL_SIM_ENGINES_H
#define CERTMILL_SIM_ENGINES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* When the job ends. */
uint64_t engines_reserve(_Atomic uint64_t free_ns[], uint32_t engines, uint64_t now_ns,
                         uint64_t service_ns);

/* A rate limit of one job per interval, `burst` of them at once (GCRA). *next_ns starts at 0.
 * false: over the limit and not `may_wait`; else *out_start_ns is when the job may start. */
bool rate_reserve(_Atomic uint64_t *next_ns, uint64_t interval_ns, uint32_t burst, uint64_t now_ns,
                  bool may_wait, uint64_t *out_start_ns);

/* Sleeps until then: no CPU, and the calling thread's timer slack is lowered once so that the wait
 * ends within some microseconds (prctl(2) PR_SET_TIMERSLACK). */
void sleep_until_ns(uint64_t mono_ns);

#endif
