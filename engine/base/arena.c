#include "base/arena.h"

#include <assert.h>
#include <string.h>
#include <sys/mman.h>

#include "limits.h"

/* Under ASan, memory of a chunk is poisoned until it is allocated, so use after arena_reset and
 * running past an allocation are found although nothing comes from malloc. */
#if defined(__SANITIZE_ADDRESS__)
#define ARENA_POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_POISONS 1
#endif
#endif
#ifdef ARENA_POISONS
#include <sanitizer/asan_interface.h>
#define POISON(mem, len)   ASAN_POISON_MEMORY_REGION(mem, len)
#define UNPOISON(mem, len) ASAN_UNPOISON_MEMORY_REGION(mem, len)
#else
#define POISON(mem, len)   ((void)(mem), (void)(len))
#define UNPOISON(mem, len) ((void)(mem), (void)(len))
#endif

enum { ARENA_ALIGN = 16, CHUNK_ALIGN = 64, ARENA_GROWS_AFTER = 16 };

static const uint32_t class_size[CHUNK_CLASS_COUNT] = {
    CHUNK_SMALL_SIZE,
    CHUNK_MEDIUM_SIZE,
    CHUNK_LARGE_SIZE,
};

static_assert(CHUNK_SMALL_SIZE < CHUNK_MEDIUM_SIZE && CHUNK_MEDIUM_SIZE < CHUNK_LARGE_SIZE,
              "classes ascend");
static_assert(CHUNK_SMALL_SIZE % ARENA_ALIGN == 0 && CHUNK_MEDIUM_SIZE % ARENA_ALIGN == 0 &&
                  CHUNK_LARGE_SIZE % ARENA_ALIGN == 0,
              "rounding an allocation up never passes the end of its chunk");
static_assert(offsetof(struct chunk, data) % ARENA_ALIGN == 0, "data is aligned");

static size_t class_stride(unsigned class_index)
{
    size_t len = offsetof(struct chunk, data) + class_size[class_index];
    return (len + CHUNK_ALIGN - 1) & ~(size_t)(CHUNK_ALIGN - 1);
}

enum err chunk_pool_init(struct chunk_pool *pool)
{
    static const uint32_t counts[CHUNK_CLASS_COUNT] = {
        CHUNK_SMALL_COUNT,
        CHUNK_MEDIUM_COUNT,
        CHUNK_LARGE_COUNT,
    };
    return chunk_pool_init_counts(pool, counts);
}

enum err chunk_pool_init_counts(struct chunk_pool *pool, const uint32_t counts[CHUNK_CLASS_COUNT])
{
    size_t map_len = 0;
    for (unsigned i = 0; i < CHUNK_CLASS_COUNT; i++)
        map_len += class_stride(i) * counts[i];

    struct chunk_pool made = {.map_len = map_len};
    if (map_len != 0) {
        made.map = mmap(NULL, map_len, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (made.map == MAP_FAILED)
            return ERR_NO_SPACE;
    }

    /* No header is written here: a header still zero means that the next free chunk is the next in
     * memory (see chunk_take), so a chunk's pages become resident when it is first taken. */
    size_t at = 0;
    for (unsigned i = 0; i < CHUNK_CLASS_COUNT; i++) {
        if (counts[i] != 0)
            made.free[i] = (struct chunk *)(void *)((uint8_t *)made.map + at);
        made.free_count[i] = made.count[i] = counts[i];
        at += class_stride(i) * counts[i];
    }
    *pool = made;
    return ERR_OK;
}

void chunk_pool_destroy(struct chunk_pool *pool)
{
    if (pool->map_len != 0) {
        UNPOISON(pool->map, pool->map_len); /* the addresses may be mapped again */
        munmap(pool->map, pool->map_len);
    }
    *pool = (struct chunk_pool){0};
}

struct chunk *chunk_take(struct chunk_pool *pool, size_t size)
{
    for (uint32_t i = 0; i < CHUNK_CLASS_COUNT; i++) {
        if (class_size[i] < size || pool->free_count[i] == 0)
            continue;
        struct chunk *chunk = pool->free[i];
        bool never_used = chunk->size == 0;
        pool->free_count[i]--;
        if (pool->free_count[i] == 0)
            pool->free[i] = NULL;
        else if (never_used)
            pool->free[i] = (struct chunk *)(void *)((uint8_t *)chunk + class_stride(i));
        else
            pool->free[i] = chunk->next;
        chunk->next = NULL;
        chunk->class_index = i;
        chunk->size = class_size[i];
        UNPOISON(chunk->data, chunk->size);
        return chunk;
    }
    return NULL;
}

void chunk_put(struct chunk_pool *pool, struct chunk *chunk)
{
    uint32_t i = chunk->class_index;
    assert((uint8_t *)chunk >= (uint8_t *)pool->map);
    assert((uint8_t *)chunk < (uint8_t *)pool->map + pool->map_len);
    assert(i < CHUNK_CLASS_COUNT && chunk->size == class_size[i]);
    assert(pool->free_count[i] < pool->count[i]);
    POISON(chunk->data, chunk->size);
    chunk->next = pool->free[i];
    pool->free[i] = chunk;
    pool->free_count[i]++;
}

void arena_init(struct arena *arena, struct chunk_pool *pool, size_t cap)
{
    *arena = (struct arena){.pool = pool, .cap = cap};
}

/* What does not fit a chunk's rest leaves a hole there: who needs much gets chunks with fewer ends. */
static size_t size_that_suits(const struct arena *arena, size_t len)
{
    size_t size = CHUNK_SMALL_SIZE;
    if (arena->total >= (size_t)ARENA_GROWS_AFTER * CHUNK_MEDIUM_SIZE)
        size = CHUNK_LARGE_SIZE;
    else if (arena->total >= (size_t)ARENA_GROWS_AFTER * CHUNK_SMALL_SIZE)
        size = CHUNK_MEDIUM_SIZE;
    return len > size ? len : size;
}

static struct chunk *take_within_cap(struct arena *arena, size_t size)
{
    struct chunk *chunk = chunk_take(arena->pool, size);
    if (chunk != NULL && arena->cap != 0 && chunk->size > arena->cap - arena->total) {
        chunk_put(arena->pool, chunk);
        return NULL;
    }
    return chunk;
}

static size_t padded_len(size_t len)
{
    return (len + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
}

void *arena_alloc(struct arena *arena, size_t len)
{
    if (len > CHUNK_LARGE_SIZE)
        return NULL;
    size_t padded = padded_len(len);
    struct chunk *chunk = arena->chunks;
    if (chunk == NULL || padded > chunk->size - arena->used) {
        chunk = take_within_cap(arena, size_that_suits(arena, padded));
        if (chunk == NULL)
            chunk = take_within_cap(arena, padded);
        if (chunk == NULL)
            return NULL;
        chunk->next = arena->chunks;
        arena->chunks = chunk;
        arena->used = 0;
        arena->total += chunk->size;
        POISON(chunk->data, chunk->size);
    }
    uint8_t *mem = chunk->data + arena->used;
    arena->used += padded;
    UNPOISON(mem, len);
    return mem;
}

void *arena_calloc(struct arena *arena, size_t len)
{
    void *mem = arena_alloc(arena, len);
    if (mem != NULL)
        memset(mem, 0, len);
    return mem;
}

void arena_shrink(struct arena *arena, void *mem, size_t len)
{
    struct chunk *chunk = arena->chunks;
    size_t at = (size_t)((uint8_t *)mem - chunk->data);
    assert((uint8_t *)mem >= chunk->data && at + padded_len(len) <= arena->used);
    arena->used = at + padded_len(len);
    POISON(chunk->data + at + len, chunk->size - at - len);
}

struct bytes arena_dup(struct arena *arena, struct bytes data)
{
    void *mem = data.len == 0 ? NULL : arena_alloc(arena, data.len);
    if (mem == NULL)
        return (struct bytes){0};
    memcpy(mem, data.ptr, data.len);
    return bytes_of(mem, data.len);
}

void arena_reset(struct arena *arena)
{
    while (arena->chunks != NULL) {
        struct chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        chunk_put(arena->pool, chunk);
    }
    arena->used = 0;
    arena->total = 0;
}
