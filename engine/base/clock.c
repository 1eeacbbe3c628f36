#include "base/clock.h"

#include <stddef.h>
#include <time.h>

static uint64_t system_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now); /* cannot fail for these two clocks */
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t system_mono_ns(void *ctx)
{
    (void)ctx;
    return system_ns(CLOCK_MONOTONIC);
}

static uint64_t system_wall_ns(void *ctx)
{
    (void)ctx;
    return system_ns(CLOCK_REALTIME);
}

static const struct clock_source system_source = {system_mono_ns, system_wall_ns, NULL};
static struct clock_source current = {system_mono_ns, system_wall_ns, NULL};

uint64_t clock_mono_ns(void)
{
    return current.mono_ns(current.ctx);
}

uint64_t clock_wall_ns(void)
{
    return current.wall_ns(current.ctx);
}

void clock_replace(const struct clock_source *source)
{
    current = source == NULL ? system_source : *source;
}
