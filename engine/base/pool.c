#include "base/pool.h"

#include <assert.h>
#include <stddef.h>
#include <sys/mman.h>

/* One mapping: slots, then generations, then the free list. Slots come first so that they are page
 * aligned, and become resident when first taken. */
static size_t slots_len(uint32_t slot_size, uint32_t slot_count)
{
    return ((size_t)slot_size * slot_count + 63) & ~(size_t)63;
}

static size_t map_len_of(uint32_t slot_size, uint32_t slot_count)
{
    return slots_len(slot_size, slot_count) + (size_t)slot_count * 2 * sizeof(uint32_t);
}

enum err pool_init(struct pool *pool, uint32_t slot_size, uint32_t slot_count)
{
    assert(slot_size != 0 && slot_count != 0 && slot_count != POOL_NONE);
    void *map = mmap(NULL, map_len_of(slot_size, slot_count), PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED)
        return ERR_NO_SPACE;
    uint32_t *numbers = (uint32_t *)(void *)((uint8_t *)map + slots_len(slot_size, slot_count));
    *pool = (struct pool){
        .slots = map,
        .generation = numbers,
        .free_list = numbers + slot_count,
        .slot_size = slot_size,
        .slot_count = slot_count,
        .free_count = slot_count,
    };
    for (uint32_t i = 0; i < slot_count; i++)
        pool->free_list[i] = slot_count - 1 - i; /* a stack: slot 0 first, warm slots again */
    return ERR_OK;
}

void pool_destroy(struct pool *pool)
{
    if (pool->slots != NULL)
        munmap(pool->slots, map_len_of(pool->slot_size, pool->slot_count));
    *pool = (struct pool){0};
}

uint32_t pool_take(struct pool *pool, uint32_t clear_len)
{
    assert(clear_len <= pool->slot_size);
    if (pool->free_count == 0)
        return POOL_NONE;
    uint32_t index = pool->free_list[--pool->free_count];
    assert((pool->generation[index] & 1) == 0);
    pool->generation[index]++;
    memset(pool_at(pool, index), 0, clear_len);
    return index;
}

void pool_put(struct pool *pool, uint32_t index)
{
    assert(index < pool->slot_count && (pool->generation[index] & 1) == 1);
    pool->generation[index]++;
    pool->free_list[pool->free_count++] = index;
}

void *pool_find(const struct pool *pool, uint64_t handle)
{
    uint32_t index = (uint32_t)handle;
    uint32_t generation = (uint32_t)(handle >> 32);
    /* even: a handle of no life, such as zero memory */
    if (index >= pool->slot_count || (generation & 1) == 0)
        return NULL;
    return pool->generation[index] == generation ? pool_at(pool, index) : NULL;
}
