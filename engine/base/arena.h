/* arena.h: memory of one exchange, from pooled chunks.
 *
 * Promise: an arena takes chunks from its core's chunk_pool and gives all of them back at
 *          arena_reset, larger ones the more it has; nothing is allocated from the heap after chunk_pool_init.
 * Owner:   the exchange; memory is valid until reset.
 * Threads: pool and arenas belong to one core; memory may be read by others while the slot is lent.
 * Errors:  NULL when the classes are empty or the arena's own cap is reached: shed load.
 * Limits:  CHUNK_* (limits.h).
 */
#ifndef CERTMILL_BASE_ARENA_H
#define CERTMILL_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum { CHUNK_CLASS_COUNT = 3 };

struct chunk {
    struct chunk *next;
    uint32_t class_index;
    uint32_t size; /* usable bytes behind the header */
    uint8_t data[] __attribute__((aligned(16)));
};

struct chunk_pool {
    struct chunk *free[CHUNK_CLASS_COUNT];
    uint32_t free_count[CHUNK_CLASS_COUNT];
    uint32_t count[CHUNK_CLASS_COUNT];
    void *map;
    size_t map_len;
};

/* Maps all classes at once; pages become resident when first used. */
enum err chunk_pool_init(struct chunk_pool *pool) MUST_USE;
/* As above with own counts per class (tests, tools). */
enum err chunk_pool_init_counts(struct chunk_pool *pool, const uint32_t counts[CHUNK_CLASS_COUNT])
    MUST_USE;
void chunk_pool_destroy(struct chunk_pool *pool);
/* The smallest free chunk with at least size usable bytes, or NULL. */
struct chunk *chunk_take(struct chunk_pool *pool, size_t size);
void chunk_put(struct chunk_pool *pool, struct chunk *chunk);

struct arena {
    struct chunk_pool *pool;
    struct chunk *chunks; /* newest first */
    size_t used;          /* in the newest chunk */
    size_t total;         /* bytes of all chunks */
    size_t cap;           /* most bytes of chunks; 0: no own cap */
};

void arena_init(struct arena *arena, struct chunk_pool *pool, size_t cap);
/* Aligned to 16, not cleared. NULL when there is no room. */
void *arena_alloc(struct arena *arena, size_t len);
void *arena_calloc(struct arena *arena, size_t len);
/* What was allocated last needs only its first len bytes. */
void arena_shrink(struct arena *arena, void *mem, size_t len);
/* A copy of the view; {NULL,0} when there is no room (or data is empty). */
struct bytes arena_dup(struct arena *arena, struct bytes data);
/* Gives every chunk back. Wipe secrets before. */
void arena_reset(struct arena *arena);

#endif
