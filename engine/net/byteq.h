/* byteq.h: a first-in first-out run of octets in pooled chunks.
 *
 * Promise: holds chunks only while it holds octets; what was put stays where it is until popped, so
 *          a send of the front may be under way while more is put behind it. {0} is an empty queue.
 * Owner:   one connection; chunks come from and return to its core's source.
 * Errors:  NULL or false when there is no chunk; then nothing was taken.
 */
#ifndef CERTMILL_NET_BYTEQ_H
#define CERTMILL_NET_BYTEQ_H

#include "base/arena.h"

/* Where chunks come from. The reserve is for output alone: answers can always leave, a chunk at a
 * time, even when arenas have taken the whole pool, so that arenas get free again. */
struct chunk_source {
    struct chunk_pool *pool;
    struct chunk *reserve; /* all of one size */
    uint32_t reserve_size;
    uint32_t reserve_count;
    uint32_t reserve_max;
};

struct byteq {
    struct chunk *first, *last;
    uint32_t off; /* already popped from the first chunk */
    uint32_t total;
};

/* A writer over at least `min` octets of room at the end; write, then byteq_commit what was used
 * before anything else is done with the queue. */
bool byteq_room(struct byteq *queue, struct chunk_source *source, size_t min, struct writer *out);
void byteq_commit(struct byteq *queue, struct chunk_source *source, const struct writer *used);
bool byteq_put(struct byteq *queue, struct chunk_source *source, struct bytes data);
/* The octets at the front that lie together; empty when the queue is. */
struct bytes byteq_front(const struct byteq *queue);
void byteq_pop(struct byteq *queue, struct chunk_source *source, size_t n);
void byteq_clear(struct byteq *queue, struct chunk_source *source);

bool chunk_source_init(struct chunk_source *source, struct chunk_pool *pool, uint32_t reserve);
void chunk_source_destroy(struct chunk_source *source);

#endif
