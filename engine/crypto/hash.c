#include "crypto/hash.h"

#include <assert.h>

#include "base/secret.h"
#include "crypto/digest.h"

enum { BLOCK_MAX = 128 };

/* wolfCrypt's software hashes fail on NULL arguments alone; that would be our bug, and going on
 * with an unset digest would be worse than stopping. */
static void must(int rc)
{
    if (rc != 0)
        __builtin_trap();
}

static const uint8_t *pointer_of(struct bytes data)
{
    static const uint8_t nothing;
    return data.ptr ? data.ptr : &nothing;
}

void hash_start(struct hash_state *state, enum hash_alg alg)
{
    state->alg = alg;
    switch (alg) {
    case HASH_SHA1:
        must(wc_InitSha(&state->sha1));
        return;
    case HASH_SHA256:
        must(wc_InitSha256(&state->sha256));
        return;
    case HASH_SHA384:
        must(wc_InitSha384(&state->sha512));
        return;
    case HASH_SHA512:
        must(wc_InitSha512(&state->sha512));
        return;
    case HASH_NONE:
    case HASH_ALG_COUNT:
        break;
    }
    must(-1);
}

void hash_update(struct hash_state *state, struct bytes data)
{
    const uint8_t *at = pointer_of(data);
    assert(data.len <= UINT32_MAX); /* wolfCrypt takes 32 bits; ours are bounded by BODY_MAX */
    word32 len = (word32)data.len;
    switch (state->alg) {
    case HASH_SHA1:
        must(wc_ShaUpdate(&state->sha1, at, len));
        return;
    case HASH_SHA256:
        must(wc_Sha256Update(&state->sha256, at, len));
        return;
    case HASH_SHA384:
        must(wc_Sha384Update(&state->sha512, at, len));
        return;
    case HASH_SHA512:
        must(wc_Sha512Update(&state->sha512, at, len));
        return;
    case HASH_NONE:
    case HASH_ALG_COUNT:
        break;
    }
    must(-1);
}

void hash_finish(struct hash_state *state, uint8_t *out)
{
    switch (state->alg) {
    case HASH_SHA1:
        must(wc_ShaFinal(&state->sha1, out));
        return;
    case HASH_SHA256:
        must(wc_Sha256Final(&state->sha256, out));
        return;
    case HASH_SHA384:
        must(wc_Sha384Final(&state->sha512, out));
        return;
    case HASH_SHA512:
        must(wc_Sha512Final(&state->sha512, out));
        return;
    case HASH_NONE:
    case HASH_ALG_COUNT:
        break;
    }
    must(-1);
}

/* wolfCrypt's software states are plain data; its copy functions would free what they overwrite,
 * which here may never have been set. */
static struct hash_state copy_of(const struct hash_state *state)
{
    return *state;
}

static size_t block_len(enum hash_alg alg)
{
    return alg == HASH_SHA384 || alg == HASH_SHA512 ? 128 : 64;
}

static void start_padded(struct hash_state *state, enum hash_alg alg, const uint8_t *key,
                         uint8_t pad)
{
    uint8_t block[BLOCK_MAX];
    size_t len = block_len(alg);
    for (size_t i = 0; i < len; i++)
        block[i] = key[i] ^ pad;
    hash_start(state, alg);
    hash_update(state, bytes_of(block, len));
    secret_wipe(block, sizeof block);
}

void hmac_start(struct hmac_state *state, enum hash_alg alg, struct bytes key)
{
    uint8_t padded[BLOCK_MAX] = {0};
    if (key.len > block_len(alg))
        digest_once(alg, key, padded);
    else if (key.len > 0)
        memcpy(padded, key.ptr, key.len);
    start_padded(&state->inner, alg, padded, 0x36);
    start_padded(&state->outer, alg, padded, 0x5c);
    secret_wipe(padded, sizeof padded);
}

void hmac_parts(const struct hmac_state *state, const struct bytes parts[], size_t count,
                uint8_t *out)
{
    uint8_t digest[DIGEST_LEN_MAX];
    struct hash_state hash = copy_of(&state->inner);
    for (size_t i = 0; i < count; i++)
        hash_update(&hash, parts[i]);
    hash_finish(&hash, digest);
    hash = copy_of(&state->outer);
    hash_update(&hash, bytes_of(digest, hash_alg_len(state->inner.alg)));
    hash_finish(&hash, out);
    secret_wipe(digest, sizeof digest);
    secret_wipe(&hash, sizeof hash);
}

/* RFC 8018 5.2 step 3: T_i = F(P, S, c, i) */
static void pbkdf2_block(const struct hmac_state *hmac, struct bytes salt, uint32_t iterations,
                         uint32_t index, uint8_t *out)
{
    size_t len = hash_alg_len(hmac->inner.alg);
    uint8_t number[4], u[DIGEST_LEN_MAX];
    store_be32(number, index);
    struct bytes first[] = {salt, BYTES_ARRAY(number)}, next = bytes_of(u, len);
    hmac_parts(hmac, first, 2, u);
    memcpy(out, u, len);
    for (uint32_t i = 1; i < iterations; i++) {
        hmac_parts(hmac, &next, 1, u);
        for (size_t j = 0; j < len; j++)
            out[j] ^= u[j];
    }
    secret_wipe(u, sizeof u);
}

void pbkdf2(enum hash_alg alg, struct bytes password, struct bytes salt, uint32_t iterations,
            uint8_t *out, size_t out_len)
{
    struct hmac_state hmac;
    uint8_t block[DIGEST_LEN_MAX];
    size_t step = hash_alg_len(alg);
    hmac_start(&hmac, alg, password);
    uint32_t index = 1;
    for (size_t at = 0; at < out_len; at += step) {
        pbkdf2_block(&hmac, salt, iterations, index++, block);
        memcpy(out + at, block, out_len - at < step ? out_len - at : step);
    }
    secret_wipe(block, sizeof block);
    secret_wipe(&hmac, sizeof hmac);
}
