#include "io/timers.h"

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/clock.h"

static const uint64_t tick_ns = TIMER_TICK_MS * NS_PER_MS;

static void link_before(struct timer *head, struct timer *timer)
{
    timer->next = head;
    timer->prev = head->prev;
    head->prev->next = timer;
    head->prev = timer;
}

static struct timer *slot_of(struct timers *timers, uint64_t tick)
{
    return &timers->slot[tick % TIMER_SLOTS];
}

static void mark(struct timers *timers, uint64_t tick)
{
    uint64_t slot = tick % TIMER_SLOTS, bit = (uint64_t)1 << slot % 64;
    if (timers->slot[slot].next == &timers->slot[slot])
        timers->occupied[slot / 64] &= ~bit;
    else
        timers->occupied[slot / 64] |= bit;
}

static void unlink_timer(struct timer *timer)
{
    timer->prev->next = timer->next;
    timer->next->prev = timer->prev;
    timer->next = timer->prev = NULL;
}

void timers_init(struct timers *timers, uint64_t now_ns)
{
    for (size_t i = 0; i < TIMER_SLOTS; i++)
        timers->slot[i] = (struct timer){.next = &timers->slot[i], .prev = &timers->slot[i]};
    for (size_t i = 0; i < TIMER_SLOTS / 64; i++)
        timers->occupied[i] = 0;
    timers->tick = now_ns / tick_ns;
    timers->count = 0;
}

void timer_set(struct timers *timers, struct timer *timer, uint64_t due_ns,
               void (*fire)(struct timer *timer))
{
    timer_clear(timers, timer);
    /* Rounded up: never early. What is past fires in the next tick that is run. */
    uint64_t due_tick = due_ns / tick_ns + (due_ns % tick_ns != 0);
    if (due_tick <= timers->tick)
        due_tick = timers->tick + 1;
    timer->due_tick = due_tick;
    timer->fire = fire;
    link_before(slot_of(timers, due_tick), timer);
    mark(timers, due_tick);
    timers->count++;
}

void timer_clear(struct timers *timers, struct timer *timer)
{
    if (timer->next == NULL)
        return;
    unlink_timer(timer);
    mark(timers, timer->due_tick);
    assert(timers->count > 0);
    timers->count--;
}

/* The slot's list is moved aside, so that timers set by callbacks are not met in this pass; a
 * callback may clear any timer, also one that waits in the moved list. */
static void run_slot(struct timers *timers, uint64_t tick, uint64_t due_tick)
{
    struct timer *slot = slot_of(timers, tick);
    if (slot->next == slot)
        return;
    struct timer moved = {.next = slot->next, .prev = slot->prev};
    moved.next->prev = moved.prev->next = &moved;
    slot->next = slot->prev = slot;
    mark(timers, tick);
    while (moved.next != &moved) {
        struct timer *timer = moved.next;
        unlink_timer(timer);
        if (timer->due_tick > due_tick) { /* a later round of the wheel */
            link_before(slot, timer);
            mark(timers, tick);
            continue;
        }
        timers->count--;
        timer->fire(timer);
    }
}

void timers_run(struct timers *timers, uint64_t now_ns)
{
    uint64_t now_tick = now_ns / tick_ns;
    if (now_tick <= timers->tick)
        return;
    if (timers->count == 0) {
        timers->tick = now_tick;
        return;
    }
    if (now_tick - timers->tick >= TIMER_SLOTS) {
        /* After a long sleep one round meets every slot. */
        uint64_t from = timers->tick;
        timers->tick = now_tick;
        for (uint64_t i = 1; i <= TIMER_SLOTS; i++)
            run_slot(timers, from + i, now_tick);
        return;
    }
    while (timers->tick < now_tick) {
        timers->tick++;
        run_slot(timers, timers->tick, timers->tick);
    }
}

uint64_t timers_wait_ns(const struct timers *timers, uint64_t now_ns)
{
    if (timers->count == 0)
        return UINT64_MAX;
    enum { WORDS = TIMER_SLOTS / 64 };
    uint64_t first = (timers->tick + 1) % TIMER_SLOTS;
    /* The word of the first slot is looked at twice: its upper bits now, its lower ones last. */
    for (uint64_t i = 0; i <= WORDS; i++) {
        uint64_t word = (first / 64 + i) % WORDS;
        uint64_t bits = timers->occupied[word];
        if (i == 0)
            bits &= ~(uint64_t)0 << first % 64;
        else if (i == WORDS)
            bits &= ~(~(uint64_t)0 << first % 64);
        if (bits == 0)
            continue;
        uint64_t slot = word * 64 + (uint64_t)__builtin_ctzll(bits);
        uint64_t at_ns = (timers->tick + 1 + (slot + TIMER_SLOTS - first) % TIMER_SLOTS) * tick_ns;
        return at_ns > now_ns ? at_ns - now_ns : 0;
    }
    return 0; /* unreachable while count is right */
}
