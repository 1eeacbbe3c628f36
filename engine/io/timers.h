/* timers.h: one core's coarse timers (a hashed wheel).
 *
 * Promise: a timer fires once, at or up to TIMER_TICK_MS after its time, unless set again or
 *          cleared; set and clear are O(1). {0} is a valid unset timer.
 * Threads: the owning core.
 */
#ifndef CERTMILL_IO_TIMERS_H
#define CERTMILL_IO_TIMERS_H

#include <stdint.h>

#define TIMER_TICK_MS 64
#define TIMER_SLOTS   512

struct timer {
    struct timer *next, *prev;
    uint64_t due_tick;
    void (*fire)(struct timer *timer);
};

struct timers {
    struct timer slot[TIMER_SLOTS];      /* list heads */
    uint64_t occupied[TIMER_SLOTS / 64]; /* a bit per slot that has timers */
    uint64_t tick;                       /* handled up to here */
    uint32_t count;
};

void timers_init(struct timers *timers, uint64_t now_ns);
void timer_set(struct timers *timers, struct timer *timer, uint64_t due_ns,
               void (*fire)(struct timer *timer));
void timer_clear(struct timers *timers, struct timer *timer);
/* Fires what is due. */
void timers_run(struct timers *timers, uint64_t now_ns);
/* ns until the next tick that may have work; UINT64_MAX when no timer is set. */
uint64_t timers_wait_ns(const struct timers *timers, uint64_t now_ns);

#endif
