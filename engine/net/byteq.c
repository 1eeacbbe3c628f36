#include "net/byteq.h"

#include <assert.h>

/* At the start of a chunk's data: how far it is filled. */
struct fill {
    uint32_t len;
};

enum { HEAD = 16 };
static_assert(sizeof(struct fill) <= HEAD, "the head has room");

static struct fill *fill_of(struct chunk *chunk)
{
    return (struct fill *)(void *)chunk->data;
}

static uint32_t room_in(struct chunk *chunk)
{
    return chunk->size - HEAD - fill_of(chunk)->len;
}

static struct chunk *take(struct chunk_source *source, size_t min)
{
    struct chunk *chunk = chunk_take(source->pool, min + HEAD);
    if (chunk == NULL && source->reserve != NULL && source->reserve_size >= min + HEAD) {
        chunk = source->reserve;
        source->reserve = chunk->next;
        source->reserve_count--;
    }
    if (chunk == NULL)
        return NULL;
    chunk->next = NULL;
    fill_of(chunk)->len = 0;
    return chunk;
}

static void put_back(struct chunk_source *source, struct chunk *chunk)
{
    if (source->reserve_count < source->reserve_max && chunk->size == source->reserve_size) {
        chunk->next = source->reserve;
        source->reserve = chunk;
        source->reserve_count++;
        return;
    }
    chunk_put(source->pool, chunk);
}

bool chunk_source_init(struct chunk_source *source, struct chunk_pool *pool, uint32_t reserve)
{
    *source = (struct chunk_source){.pool = pool};
    while (source->reserve_count < reserve) {
        struct chunk *chunk = chunk_take(pool, 1);
        if (chunk == NULL)
            return false;
        chunk->next = source->reserve;
        source->reserve = chunk;
        source->reserve_size = chunk->size;
        source->reserve_count++;
    }
    source->reserve_max = reserve;
    return true;
}

void chunk_source_destroy(struct chunk_source *source)
{
    while (source->reserve != NULL) {
        struct chunk *chunk = source->reserve;
        source->reserve = chunk->next;
        chunk_put(source->pool, chunk);
    }
    *source = (struct chunk_source){0};
}

bool byteq_room(struct byteq *queue, struct chunk_source *source, size_t min, struct writer *out)
{
    if (queue->last == NULL || room_in(queue->last) < min) {
        struct chunk *chunk = take(source, min);
        if (chunk == NULL)
            return false;
        if (queue->last == NULL)
            queue->first = chunk;
        else
            queue->last->next = chunk;
        queue->last = chunk;
    }
    *out = writer_of(queue->last->data + HEAD + fill_of(queue->last)->len, room_in(queue->last));
    return true;
}

/* Nothing was written into a chunk taken for it: an empty queue holds none, and an empty last chunk
 * behind others is filled by the next. */
void byteq_commit(struct byteq *queue, struct chunk_source *source, const struct writer *used)
{
    assert(queue->last != NULL && used->len <= room_in(queue->last));
    fill_of(queue->last)->len += (uint32_t)used->len;
    queue->total += (uint32_t)used->len;
    if (queue->total == 0)
        byteq_clear(queue, source);
}

bool byteq_put(struct byteq *queue, struct chunk_source *source, struct bytes data)
{
    if (data.len == 0)
        return true;
    /* Fill the last chunk's rest, then one more chunk for all that is left: if there is none,
     * nothing was put. */
    size_t rest = queue->last == NULL ? 0 : room_in(queue->last);
    struct bytes head = bytes_of(data.ptr, data.len < rest ? data.len : rest);
    struct bytes tail = bytes_of(data.ptr + head.len, data.len - head.len);
    struct chunk *more = NULL;
    if (tail.len > 0) {
        more = take(source, tail.len);
        if (more == NULL)
            return false;
        memcpy(more->data + HEAD, tail.ptr, tail.len);
        fill_of(more)->len = (uint32_t)tail.len;
    }
    if (head.len > 0) {
        memcpy(queue->last->data + HEAD + fill_of(queue->last)->len, head.ptr, head.len);
        fill_of(queue->last)->len += (uint32_t)head.len;
    }
    if (more != NULL) {
        if (queue->last == NULL)
            queue->first = more;
        else
            queue->last->next = more;
        queue->last = more;
    }
    queue->total += (uint32_t)data.len;
    return true;
}

struct bytes byteq_front(const struct byteq *queue)
{
    if (queue->total == 0)
        return (struct bytes){0};
    return bytes_of(queue->first->data + HEAD + queue->off,
                    fill_of(queue->first)->len - queue->off);
}

void byteq_pop(struct byteq *queue, struct chunk_source *source, size_t n)
{
    assert(n <= queue->total);
    queue->total -= (uint32_t)n;
    while (queue->first != NULL) {
        struct chunk *chunk = queue->first;
        uint32_t here = fill_of(chunk)->len - queue->off;
        if (n < here) {
            queue->off += (uint32_t)n;
            return;
        }
        n -= here;
        queue->first = chunk->next;
        queue->off = 0;
        put_back(source, chunk);
    }
    queue->last = NULL;
}

void byteq_clear(struct byteq *queue, struct chunk_source *source)
{
    while (queue->first != NULL) {
        struct chunk *chunk = queue->first;
        queue->first = chunk->next;
        put_back(source, chunk);
    }
    *queue = (struct byteq){0};
}
