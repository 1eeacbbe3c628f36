#include "crypto/verify_impl.h"

#include <stdlib.h>

#include "crypto/rsa.h"

#include <wolfssl/wolfcrypt/ed25519.h>
#ifdef WOLFSSL_HAVE_MLDSA
#include <wolfssl/wolfcrypt/wc_mldsa.h>
#endif

/* Ed25519 and ML-DSA sign the message itself (RFC 8410, RFC 9881) and have no digest to be given.
 */
bool verify_message(const struct verify_job *job, uint8_t digest[DIGEST_LEN_MAX], struct bytes *out)
{
    enum hash_alg hash = sig_alg_hash(job->alg);
    if (hash == HASH_NONE) {
        *out = job->message;
        return job->digest.len == 0;
    }
    if (job->digest.len > 0) {
        *out = job->digest;
        return job->digest.len == hash_alg_len(hash);
    }
    digest_once(hash, job->message, digest);
    *out = bytes_of(digest, hash_alg_len(hash));
    return true;
}

/* RFC 8032 5.1.3 step 1: y < p. wolfCrypt decodes modulo p; a second encoding of one key would be a
 * second key to us. */
static bool ed25519_is_canonical(const uint8_t key[32])
{
    if ((key[31] & 0x7f) != 0x7f)
        return true;
    for (int i = 30; i > 0; i--)
        if (key[i] != 0xff)
            return true;
    return key[0] < 0xed;
}

static enum err ed25519_import(struct bytes raw, ed25519_key *out)
{
    if (raw.len != ED25519_PUB_KEY_SIZE || !ed25519_is_canonical(raw.ptr))
        return ERR_BAD_KEY;
    /* "trusted": decompression and the small-order check are done by the verification itself. */
    if (wc_ed25519_init(out) != 0 ||
        wc_ed25519_import_public_ex(raw.ptr, (word32)raw.len, out, 1) != 0)
        return ERR_BAD_KEY;
    return ERR_OK;
}

static enum err ed25519_check(struct bytes raw)
{
    ed25519_key key;
    enum err err = ed25519_import(raw, &key);
    if (!err && wc_ed25519_check_key(&key) != 0)
        err = ERR_BAD_KEY;
    return err;
}

static enum err ed25519_verify(const struct spki *spki, struct bytes message,
                               struct bytes signature)
{
    ed25519_key key;
    enum err err = ed25519_import(spki->key, &key);
    if (err)
        return err;
    static const uint8_t nothing;
    int good = 0;
    int rc = wc_ed25519_verify_msg(signature.ptr, (word32)signature.len,
                                   message.ptr ? message.ptr : &nothing, (word32)message.len, &good,
                                   &key);
    wc_ed25519_free(&key);
    return rc == 0 && good == 1 ? ERR_OK : ERR_BAD_SIGNATURE;
}

#ifdef WOLFSSL_HAVE_MLDSA
static enum err ml_dsa_import(const struct spki *spki, wc_MlDsaKey **out)
{
    /* 8 KB and buffers inside: from the heap, since ML-DSA's own arithmetic takes longer than that.
     */
    wc_MlDsaKey *key = malloc(sizeof *key);
    if (!key)
        return ERR_BAD_KEY;
    if (wc_MlDsaKey_Init(key, NULL, INVALID_DEVID) != 0) {
        free(key);
        return ERR_BAD_KEY;
    }
    byte level = spki->alg == KEY_ML_DSA_44 ? WC_ML_DSA_44 : WC_ML_DSA_65;
    if (wc_MlDsaKey_SetParams(key, level) != 0 ||
        wc_MlDsaKey_ImportPubRaw(key, spki->key.ptr, (word32)spki->key.len) != 0) {
        wc_MlDsaKey_Free(key);
        free(key);
        return ERR_BAD_KEY;
    }
    *out = key;
    return ERR_OK;
}
#endif

static enum err ml_dsa_verify(const struct spki *spki, struct bytes message, struct bytes signature)
{
#ifdef WOLFSSL_HAVE_MLDSA
    wc_MlDsaKey *key;
    enum err err = ml_dsa_import(spki, &key);
    if (err)
        return err;
    static const uint8_t nothing;
    int good = 0;
    /* RFC 9881 section 3: pure ML-DSA with the empty context. */
    int rc =
        wc_MlDsaKey_VerifyCtx(key, signature.ptr, (word32)signature.len, NULL, 0,
                              message.ptr ? message.ptr : &nothing, (word32)message.len, &good);
    wc_MlDsaKey_Free(key);
    free(key);
    return rc == 0 && good == 1 ? ERR_OK : ERR_BAD_SIGNATURE;
#else
    (void)spki, (void)message, (void)signature;
    return ERR_BAD_ALG;
#endif
}

enum err verify_alone(const struct verify_job *job)
{
    const struct spki *spki = verify_spki(job);
    if (!spki || !sig_alg_fits(job->alg, spki->alg))
        return ERR_BAD_ALG;
    uint8_t hash[DIGEST_LEN_MAX];
    struct bytes message;
    if (job->signature.len == 0 || !verify_message(job, hash, &message))
        return ERR_BAD_SIGNATURE;
    switch (spki->alg) {
    case KEY_EC_P256:
    case KEY_EC_P384: {
        if (job->key)
            return ecdsa_verify(&job->key->point, message, job->signature);
        struct ec_point point;
        enum err err = ec_point_import(spki->alg, spki->key, &point);
        return err ? err : ecdsa_verify(&point, message, job->signature);
    }
    case KEY_RSA:
        return rsa_verify(job->alg, spki->modulus, spki->exponent, message, job->signature);
    case KEY_ED25519:
        return ed25519_verify(spki, message, job->signature);
    case KEY_ML_DSA_44:
    case KEY_ML_DSA_65:
        return ml_dsa_verify(spki, message, job->signature);
    case KEY_NONE:
    case KEY_ALG_COUNT:
        break;
    }
    return ERR_BAD_ALG;
}

enum err verify_one(const struct verify_job *job)
{
    if (!job->key || !job->key->table)
        return verify_alone(job);
    struct verify_job copy = *job, *const jobs[] = {&copy};
    verify_p256(jobs, 1);
    return copy.result;
}

void verify_batch(struct verify_job *const jobs[], size_t count)
{
    if (!p256_lanes_available()) {
        for (size_t i = 0; i < count; i++)
            jobs[i]->result = verify_alone(jobs[i]);
        return;
    }
    struct verify_job *p256[VERIFY_P256_MAX];
    size_t p256_count = 0;
    for (size_t i = 0; i < count; i++) {
        const struct spki *spki = verify_spki(jobs[i]);
        if (!spki || spki->alg != KEY_EC_P256) {
            jobs[i]->result = verify_alone(jobs[i]);
            continue;
        }
        p256[p256_count++] = jobs[i];
        if (p256_count == VERIFY_P256_MAX) {
            verify_p256(p256, p256_count);
            p256_count = 0;
        }
    }
    verify_p256(p256, p256_count);
}

static enum err key_check(struct verify_key *key)
{
    switch (key->spki.alg) {
    case KEY_EC_P256:
    case KEY_EC_P384:
        return ec_point_import(key->spki.alg, key->spki.key, &key->point);
    case KEY_RSA:
        return rsa_public_check(key->spki.modulus, key->spki.exponent);
    case KEY_ED25519:
        return ed25519_check(key->spki.key);
    case KEY_ML_DSA_44:
    case KEY_ML_DSA_65: {
#ifdef WOLFSSL_HAVE_MLDSA
        wc_MlDsaKey *ml_dsa;
        enum err err = ml_dsa_import(&key->spki, &ml_dsa);
        if (!err) {
            wc_MlDsaKey_Free(ml_dsa);
            free(ml_dsa);
        }
        return err;
#else
        return ERR_BAD_ALG;
#endif
    }
    case KEY_NONE:
    case KEY_ALG_COUNT:
        break;
    }
    return ERR_BAD_ALG;
}

struct verify_key *verify_key_new(const struct spki *spki)
{
    if (spki->der.len > SPKI_DER_MAX)
        return NULL;
    struct verify_key *key = calloc(1, sizeof *key);
    if (!key)
        return NULL;
    memcpy(key->der, spki->der.ptr, spki->der.len);
    if (spki_decode(bytes_of(key->der, spki->der.len), &key->spki) || key_check(key)) {
        free(key);
        return NULL;
    }
    if (key->spki.alg == KEY_EC_P256)
        key->table = p256_table_new(key->spki.key.ptr + 1);
    return key;
}

void verify_key_free(struct verify_key *key)
{
    if (!key)
        return;
    p256_table_free(key->table);
    free(key);
}
