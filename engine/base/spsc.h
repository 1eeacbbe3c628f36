/* spsc.h: a bounded ring for one producer and one consumer, in plain or shared memory.
 *
 * Promise: elements are fixed size and copied nowhere but by the user into and out of the slots;
 *          batches are published with one store.
 * Owner:   the memory is the caller's (spsc_bytes long, 64-byte aligned); both sides hold a view.
 * Threads: exactly one producer and one consumer at a time (either may be a set of threads behind
 *          their own lock). The peer may be another process: its counters are checked, and a
 *          ring whose counters make no sense reads as empty/full and sets `corrupt`.
 */
#ifndef CERTMILL_BASE_SPSC_H
#define CERTMILL_BASE_SPSC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct spsc_header {
    _Alignas(64) _Atomic uint32_t head; /* consumer: next to read */
    _Alignas(64) _Atomic uint32_t tail; /* producer: next to write */
};

struct spsc {
    struct spsc_header *header;
    uint8_t *slots;
    uint32_t slot_size;
    uint32_t capacity; /* power of two */
    bool corrupt;
};

/* capacity must be a power of two. */
size_t spsc_bytes(uint32_t slot_size, uint32_t capacity);
/* Binds a view to memory; `reset` also empties it (once, before both sides start). */
void spsc_bind(struct spsc *ring, void *mem, uint32_t slot_size, uint32_t capacity, bool reset);

/* Producer: free slots; slot i (0-based from the next); publish n filled slots. */
uint32_t spsc_space(struct spsc *ring);
void *spsc_slot_in(const struct spsc *ring, uint32_t i);
void spsc_publish(struct spsc *ring, uint32_t n);

/* Consumer: filled slots; slot i; release n read slots. */
uint32_t spsc_ready(struct spsc *ring);
void *spsc_slot_out(const struct spsc *ring, uint32_t i);
void spsc_release(struct spsc *ring, uint32_t n);

#endif
