#include "crypto/digest.h"

#include <assert.h>

#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/hmac.h>
#include <wolfssl/wolfcrypt/sha.h>
#include <wolfssl/wolfcrypt/sha256.h>
#include <wolfssl/wolfcrypt/sha512.h>

#include "base/secret.h"

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

static void sha1_once(struct bytes data, uint8_t *out)
{
    wc_Sha sha;
    must(wc_InitSha(&sha));
    must(wc_ShaUpdate(&sha, pointer_of(data), length_of(data)));
    must(wc_ShaFinal(&sha, out));
    wc_ShaFree(&sha);
}

static void sha384_once(struct bytes data, uint8_t *out)
{
    wc_Sha384 sha;
    must(wc_InitSha384(&sha));
    must(wc_Sha384Update(&sha, pointer_of(data), length_of(data)));
    must(wc_Sha384Final(&sha, out));
    wc_Sha384Free(&sha);
}

static void sha512_once(struct bytes data, uint8_t *out)
{
    wc_Sha512 sha;
    must(wc_InitSha512(&sha));
    must(wc_Sha512Update(&sha, pointer_of(data), length_of(data)));
    must(wc_Sha512Final(&sha, out));
    wc_Sha512Free(&sha);
}

void digest_once(enum hash_alg alg, struct bytes data, uint8_t *out)
{
    switch (alg) {
    case HASH_SHA1:
        sha1_once(data, out);
        return;
    case HASH_SHA256:
        sha256_once(data, out);
        return;
    case HASH_SHA384:
        sha384_once(data, out);
        return;
    case HASH_SHA512:
        sha512_once(data, out);
        return;
    case HASH_NONE:
    case HASH_ALG_COUNT:
        break;
    }
    must(-1);
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

static int hmac_type(enum hash_alg alg)
{
    switch (alg) {
    case HASH_SHA1:
        return WC_SHA;
    case HASH_SHA256:
        return WC_SHA256;
    case HASH_SHA384:
        return WC_SHA384;
    case HASH_SHA512:
        return WC_SHA512;
    case HASH_NONE:
    case HASH_ALG_COUNT:
        break;
    }
    return -1;
}

void hmac_once(enum hash_alg alg, struct bytes key, struct bytes data, uint8_t *out)
{
    int type = hmac_type(alg);
    must(type < 0);
    Hmac hmac;
    must(wc_HmacInit(&hmac, NULL, INVALID_DEVID));
    /* "_ex" with allowFlag: short keys are the caller's policy (RFC 2104 section 3), not ours. */
    must(wc_HmacSetKey_ex(&hmac, type, pointer_of(key), length_of(key), 1));
    must(wc_HmacUpdate(&hmac, pointer_of(data), length_of(data)));
    must(wc_HmacFinal(&hmac, out));
    wc_HmacFree(&hmac);
    secret_wipe(&hmac, sizeof hmac);
}
