/* Open addressing with linear probing; a removal moves what follows back, so there are no graves.
 */
#include "store/index.h"

#include <stdlib.h>

enum { SLOTS_FIRST = 64 };

static struct index_shard *shard_of(struct index *index, uint64_t hash)
{
    return &index->shards[hash >> 58];
}

void index_init(struct index *index)
{
    for (uint32_t i = 0; i < INDEX_SHARDS; i++) {
        index->shards[i] = (struct index_shard){0};
        pthread_mutex_init(&index->shards[i].lock, NULL);
    }
}

void index_free(struct index *index)
{
    for (uint32_t i = 0; i < INDEX_SHARDS; i++) {
        free(index->shards[i].slots);
        pthread_mutex_destroy(&index->shards[i].lock);
    }
}

static void place(struct index_slot slots[], uint32_t mask, struct index_slot slot)
{
    uint32_t at = (uint32_t)slot.hash & mask;
    while (slots[at].number != 0)
        at = (at + 1) & mask;
    slots[at] = slot;
}

/* false: no memory, nothing changed. */
static bool resize(struct index_shard *shard, uint32_t count)
{
    uint32_t old_count = shard->slots == NULL ? 0 : shard->mask + 1;
    struct index_slot *slots = calloc(count, sizeof(*slots));
    if (slots == NULL)
        return false;
    for (uint32_t i = 0; i < old_count; i++)
        if (shard->slots[i].number != 0)
            place(slots, count - 1, shard->slots[i]);
    free(shard->slots);
    shard->slots = slots;
    shard->mask = count - 1;
    return true;
}

/* Room for one more, at most three slots in four used. */
static bool make_room(struct index_shard *shard)
{
    if (shard->slots == NULL)
        return resize(shard, SLOTS_FIRST);
    uint32_t count = shard->mask + 1;
    if (shard->used + 1 <= count / 4 * 3)
        return true;
    return count <= UINT32_MAX / 2 && resize(shard, 2 * count);
}

/* What a busy hour took is given back. */
static void give_back(struct index_shard *shard)
{
    uint32_t count = shard->mask + 1;
    if (count > SLOTS_FIRST && shard->used < count / 8)
        (void)resize(shard, count / 2); /* no memory: it stays as it is */
}

bool index_add(struct index *index, uint64_t hash, uint64_t number)
{
    struct index_shard *shard = shard_of(index, hash);
    pthread_mutex_lock(&shard->lock);
    bool ok = make_room(shard);
    if (ok) {
        place(shard->slots, shard->mask, (struct index_slot){hash, number});
        shard->used++;
    }
    pthread_mutex_unlock(&shard->lock);
    return ok;
}

/* Whoever stands behind the hole and would have been put there, or before, moves into it. */
static void close_hole(struct index_shard *shard, uint32_t hole)
{
    uint32_t mask = shard->mask;
    for (uint32_t at = (hole + 1) & mask; shard->slots[at].number != 0; at = (at + 1) & mask) {
        uint32_t home = (uint32_t)shard->slots[at].hash & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            shard->slots[hole] = shard->slots[at];
            hole = at;
        }
    }
    shard->slots[hole] = (struct index_slot){0};
}

void index_remove(struct index *index, uint64_t hash, uint64_t number)
{
    struct index_shard *shard = shard_of(index, hash);
    pthread_mutex_lock(&shard->lock);
    uint32_t at = (uint32_t)hash & shard->mask;
    if (shard->slots != NULL) {
        while (shard->slots[at].number != 0 &&
               (shard->slots[at].hash != hash || shard->slots[at].number != number))
            at = (at + 1) & shard->mask;
        if (shard->slots[at].number != 0) {
            close_hole(shard, at);
            shard->used--;
            give_back(shard);
        }
    }
    pthread_mutex_unlock(&shard->lock);
}

uint32_t index_find(struct index *index, uint64_t hash, uint64_t out_numbers[INDEX_SAME_MAX])
{
    struct index_shard *shard = shard_of(index, hash);
    uint32_t count = 0;
    pthread_mutex_lock(&shard->lock);
    if (shard->slots != NULL) {
        uint32_t at = (uint32_t)hash & shard->mask;
        for (; shard->slots[at].number != 0 && count < INDEX_SAME_MAX; at = (at + 1) & shard->mask)
            if (shard->slots[at].hash == hash)
                out_numbers[count++] = shard->slots[at].number;
    }
    pthread_mutex_unlock(&shard->lock);
    return count;
}
