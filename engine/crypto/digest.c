#include "crypto/digest.h"

#include <assert.h>

#include "base/secret.h"
#include "crypto/hash.h"

static_assert(sizeof(wc_Sha256) <= sizeof(struct sha256_stream),
              "the stream holds wolfCrypt's state");
static_assert(_Alignof(wc_Sha256) <= 16, "the stream is aligned for wolfCrypt's state");

/* wolfCrypt's software hashes fail on NULL arguments alone; that would be our bug, and going on
 * with an unset digest would be worse than stopping. */
static void must(int rc)
{
    if (rc != 0)
        __builtin_trap();
}

/* wolfCrypt takes 32-bit lengths; ours are bounded by BODY_MAX. */
static word32 length_of(struct bytes data)
{
    assert(data.len <= UINT32_MAX);
    return (word32)data.len;
}

static const uint8_t *pointer_of(struct bytes data)
{
    static const uint8_t nothing;
    return data.ptr ? data.ptr : &nothing;
}

void sha256_once(struct bytes data, uint8_t out[SHA256_LEN])
{
    wc_Sha256 sha;
    must(wc_InitSha256(&sha));
    must(wc_Sha256Update(&sha, pointer_of(data), length_of(data)));
    must(wc_Sha256Final(&sha, out));
    wc_Sha256Free(&sha);
}

void digest_once(enum hash_alg alg, struct bytes data, uint8_t *out)
{
    struct hash_state state;
    hash_start(&state, alg);
    hash_update(&state, data);
    hash_finish(&state, out);
}

void sha256_start(struct sha256_stream *stream)
{
    must(wc_InitSha256((wc_Sha256 *)(void *)stream->opaque));
}

void sha256_update(struct sha256_stream *stream, struct bytes data)
{
    must(wc_Sha256Update((wc_Sha256 *)(void *)stream->opaque, pointer_of(data), length_of(data)));
}

void sha256_finish(struct sha256_stream *stream, uint8_t out[SHA256_LEN])
{
    wc_Sha256 *sha = (wc_Sha256 *)(void *)stream->opaque;
    must(wc_Sha256Final(sha, out));
    wc_Sha256Free(sha);
}

void hmac_once(enum hash_alg alg, struct bytes key, struct bytes data, uint8_t *out)
{
    struct hmac_state state;
    hmac_start(&state, alg, key);
    hmac_parts(&state, &data, 1, out);
    secret_wipe(&state, sizeof state);
}
