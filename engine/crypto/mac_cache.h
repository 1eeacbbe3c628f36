/* mac_cache.h: keys already derived from shared secrets, so that the second message of a
 * transaction costs one HMAC.
 *
 * Promise: a lookup finds what was inserted for the same secret_id and parameters, or nothing; the
 *          entry not used for the longest time gives way. Keys are wiped when they leave.
 * Owner:   the cache holds copies; mac_cache_wipe ends it. Insert a key after a MAC verified with
 *          it, never before: else strangers choose what is kept.
 * Threads: one cache for each core, no locks.
 * Units:   secret_id: any bytes that change when the secret does, such as its name and the number
 *          of the configuration it is from.
 * Limits:  MAC_CACHE_ENTRIES.
 */
#ifndef CERTMILL_CRYPTO_MAC_CACHE_H
#define CERTMILL_CRYPTO_MAC_CACHE_H

#include "crypto/digest.h"
#include "crypto/mac.h"

struct mac_cache_entry {
    uint8_t tag[SHA256_LEN];
    uint64_t used; /* turn of the last use; 0: empty */
    struct mac_key key;
};

struct mac_cache {
    uint8_t tag_key[SHA256_LEN]; /* random, so that nobody can aim at an entry */
    uint64_t turn;
    struct mac_cache_entry entries[MAC_CACHE_ENTRIES];
};

void mac_cache_init(struct mac_cache *cache);
void mac_cache_wipe(struct mac_cache *cache);
bool mac_cache_lookup(struct mac_cache *cache, struct bytes secret_id,
                      const struct mac_params *params, struct mac_key *out_key) MUST_USE;
void mac_cache_insert(struct mac_cache *cache, struct bytes secret_id,
                      const struct mac_params *params, const struct mac_key *key);

#endif
