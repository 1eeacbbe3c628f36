#include "crypto/mac_cache.h"

#include "base/secret.h"

void mac_cache_init(struct mac_cache *cache)
{
    *cache = (struct mac_cache){0};
    random_bytes(cache->tag_key, sizeof cache->tag_key);
}

void mac_cache_wipe(struct mac_cache *cache)
{
    secret_wipe(cache, sizeof *cache);
}

/* Everything that the key depends on. Fields of fixed length first, so that two lists of values
 * never run together into the same octets. */
static void tag_of(const struct mac_cache *cache, struct bytes secret_id,
                   const struct mac_params *params, uint8_t out[SHA256_LEN])
{
    uint8_t fixed[12] = {(uint8_t)params->kind, (uint8_t)params->hash, (uint8_t)params->mac,
                         params->key_len, params->salt_len};
    store_be32(fixed + 8, params->iterations);
    struct sha256_stream stream;
    sha256_start(&stream);
    sha256_update(&stream, BYTES_ARRAY(cache->tag_key));
    sha256_update(&stream, BYTES_ARRAY(fixed));
    sha256_update(&stream, bytes_of(params->salt, params->salt_len));
    sha256_update(&stream, secret_id);
    sha256_finish(&stream, out);
}

/* NULL when there is none. */
static struct mac_cache_entry *find(struct mac_cache *cache, const uint8_t tag[SHA256_LEN])
{
    for (size_t i = 0; i < MAC_CACHE_ENTRIES; i++) {
        struct mac_cache_entry *entry = &cache->entries[i];
        if (entry->used != 0 && memcmp(entry->tag, tag, SHA256_LEN) == 0)
            return entry;
    }
    return NULL;
}

static struct mac_cache_entry *oldest(struct mac_cache *cache)
{
    struct mac_cache_entry *found = &cache->entries[0];
    for (size_t i = 1; i < MAC_CACHE_ENTRIES; i++)
        if (cache->entries[i].used < found->used)
            found = &cache->entries[i];
    return found;
}

bool mac_cache_lookup(struct mac_cache *cache, struct bytes secret_id,
                      const struct mac_params *params, struct mac_key *out_key)
{
    uint8_t tag[SHA256_LEN];
    tag_of(cache, secret_id, params, tag);
    struct mac_cache_entry *entry = find(cache, tag);
    if (!entry)
        return false;
    entry->used = ++cache->turn;
    *out_key = entry->key;
    return true;
}

void mac_cache_insert(struct mac_cache *cache, struct bytes secret_id,
                      const struct mac_params *params, const struct mac_key *key)
{
    uint8_t tag[SHA256_LEN];
    tag_of(cache, secret_id, params, tag);
    struct mac_cache_entry *entry = find(cache, tag);
    if (!entry)
        entry = oldest(cache);
    secret_wipe(entry, sizeof *entry);
    memcpy(entry->tag, tag, sizeof tag);
    entry->used = ++cache->turn;
    entry->key = *key;
}
