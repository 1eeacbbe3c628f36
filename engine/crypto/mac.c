#include "crypto/mac.h"

#include <assert.h>

#include "base/secret.h"
#include "crypto/digest.h"
#include "crypto/hash.h"

static_assert((int)MAC_LEN_MAX == (int)DIGEST_LEN_MAX, "a MAC is as long as its hash");
static_assert((int)MAC_KEY_LEN_MAX >= (int)DIGEST_LEN_MAX, "a key is as long as any hash");

/* RFC 8018 7.1.1 leaves dkLen to the MAC where the parameters do not say. */
static uint32_t derived_len(const struct mac_params *params)
{
    return params->key_len != 0 ? params->key_len : (uint32_t)hash_alg_len(params->mac);
}

uint32_t mac_cost(const struct mac_params *params)
{
    /* measured, in SHA-256 compressions, which have instructions of their own */
    uint32_t weight = params->hash == HASH_SHA256 ? 1 : params->hash == HASH_SHA1 ? 2 : 3;
    if (params->kind == MAC_PBM)
        return params->iterations * weight;
    uint32_t step = (uint32_t)hash_alg_len(params->hash);
    uint32_t blocks = (derived_len(params) + step - 1) / step;
    return params->iterations * weight * 2 * blocks; /* an inner and an outer hash */
}

/* RFC 9810 5.1.3.1. HMAC takes a key of any length, so that BASEKEY is the key, whole (RFC 9045
 * 4.4), as other implementations have it. */
static void derive_pbm(const struct mac_params *params, struct bytes secret, struct mac_key *out)
{
    struct hash_state state;
    struct bytes base_key = bytes_of(out->bytes, hash_alg_len(params->hash));
    hash_start(&state, params->hash);
    hash_update(&state, secret);
    hash_update(&state, bytes_of(params->salt, params->salt_len));
    hash_finish(&state, out->bytes);
    for (uint32_t i = 1; i < params->iterations; i++) {
        hash_update(&state, base_key);
        hash_finish(&state, out->bytes);
    }
    secret_wipe(&state, sizeof state);
    out->len = (uint32_t)base_key.len;
}

static void derive_pbmac1(const struct mac_params *params, struct bytes secret, struct mac_key *out)
{
    out->len = derived_len(params);
    pbkdf2(params->hash, secret, bytes_of(params->salt, params->salt_len), params->iterations,
           out->bytes, out->len);
}

enum err mac_key_derive(const struct mac_params *params, struct bytes secret, struct mac_key *out)
{
    if (!mac_params_are_valid(params))
        return ERR_BAD_ALG;
    if (secret.len == 0 || secret.len > MAC_SECRET_MAX)
        return ERR_NO_SPACE;
    struct mac_key key = {.hash = params->mac};
    if (params->kind == MAC_PBM)
        derive_pbm(params, secret, &key);
    else
        derive_pbmac1(params, secret, &key);
    *out = key;
    secret_wipe(&key, sizeof key);
    return ERR_OK;
}

void mac_compute(const struct mac_key *key, const struct bytes parts[], size_t part_count,
                 uint8_t out[MAC_LEN_MAX], size_t *out_len)
{
    assert(part_count <= MAC_PARTS_MAX);
    struct hmac_state state;
    hmac_start(&state, key->hash, bytes_of(key->bytes, key->len));
    hmac_parts(&state, parts, part_count, out);
    secret_wipe(&state, sizeof state);
    *out_len = hash_alg_len(key->hash);
}

enum err mac_verify(const struct mac_key *key, const struct bytes parts[], size_t part_count,
                    struct bytes mac)
{
    uint8_t expected[MAC_LEN_MAX];
    size_t len;
    mac_compute(key, parts, part_count, expected, &len);
    bool is_equal = secret_eq(mac, bytes_of(expected, len));
    secret_wipe(expected, sizeof expected);
    return is_equal ? ERR_OK : ERR_BAD_SIGNATURE;
}
