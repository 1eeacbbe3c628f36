#include "crypto/rsa_raw.h"

#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/sp.h>

#include "base/secret.h"
#include "crypto/softkey_impl.h"

enum { PKCS1_OVERHEAD = 11 };

static bool encode(struct bytes data, uint8_t *out, size_t len)
{
    if (len < PKCS1_OVERHEAD || data.len > len - PKCS1_OVERHEAD)
        return false;
    size_t padding = len - 3 - data.len;
    out[0] = 0;
    out[1] = 1;
    memset(out + 2, 0xff, padding);
    out[2 + padding] = 0;
    if (data.len > 0)
        memcpy(out + 3 + padding, data.ptr, data.len);
    return true;
}

static int private_operation(const struct softkey *key, const uint8_t *in, uint8_t *out)
{
    const struct softkey_rsa *rsa = &key->rsa;
    word32 len = key->bits / 8, out_len = len;
    switch (key->bits) {
    case 2048:
        return sp_RsaPrivate_2048(in, len, &rsa->d, &rsa->p, &rsa->q, &rsa->dp, &rsa->dq,
                                  &rsa->qinv, &rsa->n, out, &out_len);
    case 3072:
        return sp_RsaPrivate_3072(in, len, &rsa->d, &rsa->p, &rsa->q, &rsa->dp, &rsa->dq,
                                  &rsa->qinv, &rsa->n, out, &out_len);
    case 4096:
        return sp_RsaPrivate_4096(in, len, &rsa->d, &rsa->p, &rsa->q, &rsa->dp, &rsa->dq,
                                  &rsa->qinv, &rsa->n, out, &out_len);
    default:
        return -1;
    }
}

enum err rsa_raw_sign(const struct softkey *key, struct bytes data, uint8_t *out, size_t cap,
                      size_t *out_len)
{
    if (key->alg != KEY_RSA)
        return ERR_BAD_ALG;
    size_t len = key->bits / 8;
    uint8_t em[RSA_LEN_MAX], back[RSA_LEN_MAX], modulus[RSA_LEN_MAX], exponent[RSA_LEN_MAX];
    struct bytes n, e;
    if (cap < len || !encode(data, em, len))
        return ERR_NO_SPACE;
    /* A fault in one half of the CRT gives the key away (Boneh, DeMillo, Lipton 1997): check. */
    if (private_operation(key, em, out) != MP_OKAY || softkey_number(&key->rsa.n, modulus, &n) ||
        softkey_number(&key->rsa.e, exponent, &e) || rsa_public(n, e, bytes_of(out, len), back) ||
        memcmp(back, em, len) != 0) {
        secret_wipe(out, len);
        return ERR_INTERNAL;
    }
    *out_len = len;
    return ERR_OK;
}

enum err rsa_raw_verify(const struct spki *spki, struct bytes data, struct bytes signature)
{
    uint8_t em[RSA_LEN_MAX], back[RSA_LEN_MAX];
    if (spki->alg != KEY_RSA || spki->modulus.len > sizeof em)
        return ERR_BAD_ALG;
    if (!encode(data, em, spki->modulus.len))
        return ERR_BAD_SIGNATURE;
    enum err err = rsa_public(spki->modulus, spki->exponent, signature, back);
    if (err)
        return err;
    return memcmp(em, back, spki->modulus.len) == 0 ? ERR_OK : ERR_BAD_SIGNATURE;
}
