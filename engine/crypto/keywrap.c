#include "crypto/keywrap.h"

#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/aes.h>
#include <wolfssl/wolfcrypt/pwdbased.h>

#include "base/secret.h"

static const uint8_t *pointer_of(struct bytes data)
{
    static const uint8_t nothing;
    return data.ptr ? data.ptr : &nothing;
}

enum err keywrap_derive(struct bytes pin, struct bytes salt, uint32_t iterations,
                        uint8_t out[KEYWRAP_KEY_LEN])
{
    int rc = wc_PBKDF2(out, pointer_of(pin), (int)pin.len, pointer_of(salt), (int)salt.len,
                       (int)iterations, KEYWRAP_KEY_LEN, WC_SHA256);
    return rc == 0 ? ERR_OK : ERR_INTERNAL;
}

static enum err aes_begin(Aes *aes, const uint8_t *key)
{
    if (wc_AesInit(aes, NULL, INVALID_DEVID) != 0)
        return ERR_INTERNAL;
    if (wc_AesGcmSetKey(aes, key, KEYWRAP_KEY_LEN) != 0) {
        wc_AesFree(aes);
        return ERR_INTERNAL;
    }
    return ERR_OK;
}

static void aes_end(Aes *aes)
{
    wc_AesFree(aes);
    secret_wipe(aes, sizeof *aes);
}

enum err keywrap_seal(const uint8_t key[KEYWRAP_KEY_LEN], struct bytes context, struct bytes plain,
                      uint8_t *out, size_t cap, size_t *out_len)
{
    if (cap < KEYWRAP_OVERHEAD || plain.len > cap - KEYWRAP_OVERHEAD)
        return ERR_NO_SPACE;
    Aes aes;
    enum err err = aes_begin(&aes, key);
    if (err)
        return err;
    random_bytes(out, KEYWRAP_NONCE_LEN);
    uint8_t *body = out + KEYWRAP_NONCE_LEN;
    int rc = wc_AesGcmEncrypt(&aes, body, pointer_of(plain), (word32)plain.len, out,
                              KEYWRAP_NONCE_LEN, body + plain.len, KEYWRAP_TAG_LEN,
                              pointer_of(context), (word32)context.len);
    aes_end(&aes);
    if (rc != 0)
        return ERR_INTERNAL;
    *out_len = plain.len + KEYWRAP_OVERHEAD;
    return ERR_OK;
}

enum err keywrap_open(const uint8_t key[KEYWRAP_KEY_LEN], struct bytes context, struct bytes sealed,
                      uint8_t *out, size_t cap, size_t *out_len)
{
    if (sealed.len < KEYWRAP_OVERHEAD)
        return ERR_PIN_WRONG;
    size_t len = sealed.len - KEYWRAP_OVERHEAD;
    if (len > cap)
        return ERR_NO_SPACE;
    Aes aes;
    enum err err = aes_begin(&aes, key);
    if (err)
        return err;
    const uint8_t *body = sealed.ptr + KEYWRAP_NONCE_LEN;
    int rc =
        wc_AesGcmDecrypt(&aes, out, body, (word32)len, sealed.ptr, KEYWRAP_NONCE_LEN, body + len,
                         KEYWRAP_TAG_LEN, pointer_of(context), (word32)context.len);
    aes_end(&aes);
    if (rc != 0) {
        secret_wipe(out, len);
        return ERR_PIN_WRONG;
    }
    *out_len = len;
    return ERR_OK;
}
