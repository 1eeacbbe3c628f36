#include "hsm/sim/engines.h"

#include <errno.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/clock.h"

uint64_t engines_reserve(_Atomic uint64_t free_ns[], uint32_t engines, uint64_t now_ns,
                         uint64_t service_ns)
{
    for (;;) {
        uint32_t best = 0;
        uint64_t best_ns = UINT64_MAX;
        for (uint32_t i = 0; i < engines && best_ns > now_ns; i++) { /* an idle one is as good */
            uint64_t at = atomic_load_explicit(&free_ns[i], memory_order_relaxed);
            if (at < best_ns) {
                best = i;
                best_ns = at;
            }
        }
        /* Times only grow, so what was the least still is unless this very engine was taken. */
        uint64_t end_ns = (best_ns > now_ns ? best_ns : now_ns) + service_ns;
        if (atomic_compare_exchange_weak(&free_ns[best], &best_ns, end_ns))
            return end_ns;
    }
}

bool rate_reserve(_Atomic uint64_t *next_ns, uint64_t interval_ns, uint32_t burst, uint64_t now_ns,
                  bool may_wait, uint64_t *out_start_ns)
{
    uint64_t ahead_ns = (burst - 1) * interval_ns;
    uint64_t next = atomic_load(next_ns);
    for (;;) {
        uint64_t due = next > now_ns ? next : now_ns;
        bool over = due > now_ns + ahead_ns;
        if (over && !may_wait)
            return false;
        if (!atomic_compare_exchange_weak(next_ns, &next, due + interval_ns))
            continue;
        *out_start_ns = over ? due - ahead_ns : now_ns;
        return true;
    }
}

void sleep_until_ns(uint64_t mono_ns)
{
    static _Thread_local bool sharp;
    if (!sharp) {
        prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
        sharp = true;
    }
    struct timespec until = {.tv_sec = (time_t)(mono_ns / NS_PER_S),
                             .tv_nsec = (long)(mono_ns % NS_PER_S)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}
