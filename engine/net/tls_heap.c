#include "net/tls_heap.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Under ASan every block is the system's own, so that it sees use after free and overruns. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
enum { CACHING = 0 };
#else
enum { CACHING = 1 };
#endif

/* Four classes per power of two from 64 octets to 64 KiB, header included: an eighth is lost to
 * rounding on average. */
enum {
    STEPS = 4,
    SHIFT_MIN = 6,
    SHIFT_MAX = 16,
    CLASS_COUNT = (SHIFT_MAX - SHIFT_MIN) * STEPS + 1
};

struct block {
    size_t len;           /* usable octets */
    uint32_t class_index; /* CLASS_COUNT: none, larger than all */
    uint32_t unused;
    uint8_t data[] __attribute__((aligned(16)));
};

static_assert(sizeof(struct block) == 16, "data stays aligned to 16");

struct free_block {
    struct free_block *next;
};

struct cache {
    struct free_block *list[CLASS_COUNT];
    size_t kept; /* bytes in the lists */
    uint64_t system_calls;
    bool registered, ended;
};

static _Thread_local struct cache cache;
static pthread_key_t end_key;
static pthread_once_t end_once = PTHREAD_ONCE_INIT;

static size_t class_len(uint32_t class_index)
{
    size_t base = (size_t)1 << (SHIFT_MIN + class_index / STEPS);
    return base + base / STEPS * (class_index % STEPS);
}

/* The smallest class of at least len octets; len <= 64 KiB. */
static uint32_t class_for(size_t len)
{
    if (len <= (size_t)1 << SHIFT_MIN)
        return 0;
    unsigned shift = 63 - (unsigned)__builtin_clzll(len - 1); /* 2^shift < len <= 2^(shift+1) */
    size_t base = (size_t)1 << shift;
    size_t step = base / STEPS;
    return (shift - SHIFT_MIN) * STEPS + (uint32_t)((len - base + step - 1) / step);
}

static void end_thread(void *unused)
{
    (void)unused;
    for (uint32_t i = 0; i < CLASS_COUNT; i++) {
        while (cache.list[i] != NULL) {
            struct free_block *block = cache.list[i];
            cache.list[i] = block->next;
            free((uint8_t *)block - offsetof(struct block, data));
        }
    }
    cache.kept = 0;
    cache.ended = true; /* other destructors may still free */
}

static void make_key(void)
{
    if (pthread_key_create(&end_key, end_thread) != 0)
        abort();
}

static void register_thread(void)
{
    pthread_once(&end_once, make_key);
    pthread_setspecific(end_key, &cache);
    cache.registered = true;
}

void *tls_heap_alloc(size_t len)
{
    if (len > SIZE_MAX / 2)
        return NULL;
    size_t whole = len + sizeof(struct block);
    uint32_t class_index = CLASS_COUNT;
    if (CACHING && whole <= (size_t)1 << SHIFT_MAX) {
        class_index = class_for(whole);
        struct free_block *kept = cache.list[class_index];
        if (kept != NULL) {
            cache.list[class_index] = kept->next;
            cache.kept -= class_len(class_index);
            return kept;
        }
        whole = class_len(class_index);
    }
    cache.system_calls++;
    struct block *block = malloc(whole);
    if (block == NULL)
        return NULL;
    *block = (struct block){.len = whole - sizeof(*block), .class_index = class_index};
    return block->data;
}

void tls_heap_free(void *mem)
{
    if (mem == NULL)
        return;
    struct block *block = (struct block *)(void *)((uint8_t *)mem - offsetof(struct block, data));
    if (block->class_index < CLASS_COUNT && !cache.ended) {
        size_t len = class_len(block->class_index);
        if (cache.kept + len <= TLS_HEAP_CACHE_MAX) {
            if (!cache.registered)
                register_thread();
            struct free_block *kept = mem;
            kept->next = cache.list[block->class_index];
            cache.list[block->class_index] = kept;
            cache.kept += len;
            return;
        }
    }
    cache.system_calls++;
    free(block);
}

void *tls_heap_realloc(void *mem, size_t len)
{
    if (mem == NULL)
        return tls_heap_alloc(len);
    struct block *block = (struct block *)(void *)((uint8_t *)mem - offsetof(struct block, data));
    if (len <= block->len)
        return mem;
    void *grown = tls_heap_alloc(len);
    if (grown == NULL)
        return NULL;
    memcpy(grown, mem, block->len);
    tls_heap_free(mem);
    return grown;
}

uint64_t tls_heap_system_calls(void)
{
    return cache.system_calls;
}
