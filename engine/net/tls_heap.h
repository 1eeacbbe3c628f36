/* tls_heap.h: the allocator behind wolfSSL.
 *
 * Promise: freed blocks are kept in lists by size class per thread, so that a thread in its stride
 *          does not call the system allocator; calls that reach it are counted per thread.
 * Threads: a block may be freed by another thread than the one that got it: it then joins that
 *          thread's lists, which no other thread touches.
 * Limits:  TLS_HEAP_CACHE_MAX bytes are kept per thread; what is above goes back to the system.
 */
#ifndef CERTMILL_NET_TLS_HEAP_H
#define CERTMILL_NET_TLS_HEAP_H

#include <stddef.h>
#include <stdint.h>

#define TLS_HEAP_CACHE_MAX ((size_t)4 * 1024 * 1024)

void *tls_heap_alloc(size_t len);
void tls_heap_free(void *mem);
void *tls_heap_realloc(void *mem, size_t len);
uint64_t tls_heap_system_calls(void);

#endif
