/* pool.h: fixed slots with generation handles.
 *
 * Promise: a handle names one life of one slot; after pool_put an old handle finds nobody.
 * Owner:   one thread. Memory is taken at init and never grows.
 * Errors:  POOL_NONE when empty.
 */
#ifndef CERTMILL_BASE_POOL_H
#define CERTMILL_BASE_POOL_H

#include <stdint.h>

#include "base/bytes.h"

#define POOL_NONE UINT32_MAX

struct pool {
    uint8_t *slots;
    uint32_t *generation; /* odd while taken */
    uint32_t *free_list;
    uint32_t slot_size;
    uint32_t slot_count;
    uint32_t free_count;
};

enum err pool_init(struct pool *pool, uint32_t slot_size, uint32_t slot_count) MUST_USE;
void pool_destroy(struct pool *pool);
/* A zeroed slot's index, or POOL_NONE. `clear_len` bytes from its start are zeroed. */
uint32_t pool_take(struct pool *pool, uint32_t clear_len);
void pool_put(struct pool *pool, uint32_t index);

static inline void *pool_at(const struct pool *pool, uint32_t index)
{
    return pool->slots + (size_t)index * pool->slot_size;
}

static inline uint32_t pool_index(const struct pool *pool, const void *slot)
{
    return (uint32_t)((size_t)((const uint8_t *)slot - pool->slots) / pool->slot_size);
}

static inline uint64_t pool_handle(const struct pool *pool, uint32_t index)
{
    return (uint64_t)pool->generation[index] << 32 | index;
}

/* The slot of a live handle, or NULL when that life has ended. */
void *pool_find(const struct pool *pool, uint64_t handle);

#endif
