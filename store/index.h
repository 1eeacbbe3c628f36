/* index.h: the number under which a transaction's row stands.
 *
 * Promise: find gives every number that was added for this hash and not removed since. Whether a row
 *          has that number, and the key that was hashed, is the caller's to look at.
 * Owner:   the store.
 * Threads: find on any; add and remove on one at a time (under the write lock).
 * Errors:  add is false when there is no memory; nothing has changed then.
 * Limits:  21 to 43 bytes each while they become more, up to 128 while they become fewer; an add or
 *          a removal moves at most a 64th of all.
 */
#ifndef CERTMILL_STORE_INDEX_H
#define CERTMILL_STORE_INDEX_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Of one 64 bit hash under a secret key: more do not occur. */
#define INDEX_SAME_MAX 4

enum { INDEX_SHARDS = 64 };

struct index_slot {
    uint64_t hash;
    uint64_t number; /* 0: free */
};

struct index_shard {
    pthread_mutex_t lock;
    struct index_slot *slots;
    uint32_t mask; /* slots - 1 */
    uint32_t used;
};

struct index {
    struct index_shard shards[INDEX_SHARDS];
};

void index_init(struct index *index);
void index_free(struct index *index); /* legal on one that was never added to */

/* number: not 0. */
bool index_add(struct index *index, uint64_t hash, uint64_t number);
/* Nothing, when it is not there. */
void index_remove(struct index *index, uint64_t hash, uint64_t number);
/* Returns how many. */
uint32_t index_find(struct index *index, uint64_t hash, uint64_t out_numbers[INDEX_SAME_MAX]);

#endif
