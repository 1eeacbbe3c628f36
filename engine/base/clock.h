/* clock.h: time, replaceable for tests.
 *
 * Promise: all code asks here. Monotonic time never goes back; wall time may step.
 * Threads: any. clock_replace only before threads start.
 * Units:   ns since an arbitrary start (mono), seconds since 1970-01-01 UTC (wall).
 */
#ifndef CERTMILL_BASE_CLOCK_H
#define CERTMILL_BASE_CLOCK_H

#include <stdint.h>

#define NS_PER_S  1000000000ull
#define NS_PER_MS 1000000ull

struct clock_source {
    uint64_t (*mono_ns)(void *ctx);
    uint64_t (*wall_ns)(void *ctx);
    void *ctx;
};

uint64_t clock_mono_ns(void);
uint64_t clock_wall_ns(void);
static inline int64_t clock_wall_s(void)
{
    return (int64_t)(clock_wall_ns() / NS_PER_S);
}
/* NULL restores the system clock. */
void clock_replace(const struct clock_source *source);

#endif
