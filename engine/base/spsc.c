#include "base/spsc.h"

#include <assert.h>

size_t spsc_bytes(uint32_t slot_size, uint32_t capacity)
{
    size_t len = sizeof(struct spsc_header) + (size_t)slot_size * capacity;
    return (len + 63) & ~(size_t)63; /* so that rings can lie one behind the other */
}

void spsc_bind(struct spsc *ring, void *mem, uint32_t slot_size, uint32_t capacity, bool reset)
{
    assert(capacity != 0 && (capacity & (capacity - 1)) == 0);
    assert((uintptr_t)mem % _Alignof(struct spsc_header) == 0);
    *ring = (struct spsc){
        .header = mem,
        .slots = (uint8_t *)mem + sizeof(struct spsc_header),
        .slot_size = slot_size,
        .capacity = capacity,
    };
    if (reset) {
        atomic_store_explicit(&ring->header->head, 0, memory_order_relaxed);
        atomic_store_explicit(&ring->header->tail, 0, memory_order_release);
    }
}

/* Counters run freely over 32 bits; their difference is right across the wrap. Once wrong, a ring
 * stays corrupt: what the peer wrote can no longer be told from what it did not. */
static uint32_t filled(struct spsc *ring, uint32_t head, uint32_t tail)
{
    if (tail - head > ring->capacity)
        ring->corrupt = true;
    return tail - head;
}

static void *slot_at(const struct spsc *ring, uint32_t counter)
{
    /* masked, so that no counter of the peer's leads outside the memory */
    return ring->slots + (size_t)(counter & (ring->capacity - 1)) * ring->slot_size;
}

uint32_t spsc_space(struct spsc *ring)
{
    /* acquire: the consumer's reads of the slots are over before they are filled again */
    uint32_t head = atomic_load_explicit(&ring->header->head, memory_order_acquire);
    uint32_t tail = atomic_load_explicit(&ring->header->tail, memory_order_relaxed);
    uint32_t used = filled(ring, head, tail);
    return ring->corrupt ? 0 : ring->capacity - used;
}

void *spsc_slot_in(const struct spsc *ring, uint32_t i)
{
    uint32_t tail = atomic_load_explicit(&ring->header->tail, memory_order_relaxed);
    return slot_at(ring, tail + i);
}

void spsc_publish(struct spsc *ring, uint32_t n)
{
    uint32_t tail = atomic_load_explicit(&ring->header->tail, memory_order_relaxed);
    assert(n <= ring->capacity);
    atomic_store_explicit(&ring->header->tail, tail + n, memory_order_release);
}

uint32_t spsc_ready(struct spsc *ring)
{
    uint32_t tail = atomic_load_explicit(&ring->header->tail, memory_order_acquire);
    uint32_t head = atomic_load_explicit(&ring->header->head, memory_order_relaxed);
    uint32_t used = filled(ring, head, tail);
    return ring->corrupt ? 0 : used;
}

void *spsc_slot_out(const struct spsc *ring, uint32_t i)
{
    uint32_t head = atomic_load_explicit(&ring->header->head, memory_order_relaxed);
    return slot_at(ring, head + i);
}

void spsc_release(struct spsc *ring, uint32_t n)
{
    uint32_t head = atomic_load_explicit(&ring->header->head, memory_order_relaxed);
    assert(n <= ring->capacity);
    atomic_store_explicit(&ring->header->head, head + n, memory_order_release);
}
