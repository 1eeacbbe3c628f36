#include "crypto/envelope.h"

#include <assert.h>

#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/aes.h>

#include "asn1/oid.h"
#include "base/secret.h"
#include "crypto/alg_put.h"
#include "crypto/digest.h"
#include "crypto/ecdh.h"
#include "crypto/hash.h"
#include "crypto/rsa.h"

enum {
    AES_BLOCK = 16,
    CHUNK = 1024,
    CEK_MAX = 32,
    KEK_LEN = 32,
    WRAPPED_MAX = CEK_MAX + AES_BLOCK, /* of key wrap (8 more) and PWRI-KEK (a block more) */
    UKM_LEN = 16,
    SALT_LEN = 16,
    SHARED_INFO_MAX = 64,
};

struct content_key {
    uint8_t bytes[CEK_MAX];
    size_t len;
};

/* --- AES --- */

/* Through an aligned place of our own: for others wolfCrypt would take a copy from the heap. */
static bool cbc_run(Aes *aes, const uint8_t *in, size_t len, uint8_t *out)
{
    _Alignas(16) uint8_t chunk[CHUNK];
    bool good = true;
    for (size_t at = 0; at < len && good; at += CHUNK) {
        size_t step = len - at < CHUNK ? len - at : CHUNK;
        memcpy(chunk, in + at, step);
        good = wc_AesCbcEncrypt(aes, chunk, chunk, (word32)step) == 0;
        memcpy(out + at, chunk, step);
    }
    secret_wipe(chunk, sizeof chunk);
    return good;
}

/* In place or not; len is a multiple of the block. iv is replaced by the last block of ciphertext,
 * so that the next call goes on. On failure out is wiped. */
static enum err cbc_encrypt(struct bytes key, uint8_t iv[AES_BLOCK], const uint8_t *in, size_t len,
                            uint8_t *out)
{
    Aes aes;
    if (len == 0)
        return ERR_OK;
    if (wc_AesInit(&aes, NULL, INVALID_DEVID) != 0)
        return ERR_INTERNAL;
    bool good = wc_AesSetKey(&aes, key.ptr, (word32)key.len, iv, AES_ENCRYPTION) == 0 &&
                cbc_run(&aes, in, len, out);
    wc_AesFree(&aes);
    secret_wipe(&aes, sizeof aes);
    if (good)
        memcpy(iv, out + len - AES_BLOCK, AES_BLOCK);
    else
        secret_wipe(out, len);
    return good ? ERR_OK : ERR_INTERNAL;
}

/* RFC 5652 6.3: padded with n octets of value n, 1..16. out has padded_len(content.len) bytes. */
static size_t padded_len(size_t len)
{
    return len + AES_BLOCK - len % AES_BLOCK;
}

static enum err content_encrypt(const struct content_key *cek, const uint8_t iv[AES_BLOCK],
                                struct bytes content, uint8_t *out)
{
    struct bytes key = bytes_of(cek->bytes, cek->len);
    size_t tail = content.len % AES_BLOCK, whole = content.len - tail;
    uint8_t chain[AES_BLOCK], last[AES_BLOCK];
    memcpy(chain, iv, AES_BLOCK);
    enum err err = cbc_encrypt(key, chain, content.ptr, whole, out);
    if (err)
        return err;
    memset(last, (int)(AES_BLOCK - tail), AES_BLOCK);
    if (tail > 0)
        memcpy(last, content.ptr + whole, tail);
    err = cbc_encrypt(key, chain, last, AES_BLOCK, out + whole);
    secret_wipe(last, sizeof last);
    return err;
}

/* RFC 3394 2.2.1: eight bytes longer than the key. */
static enum err key_wrap(const uint8_t kek[KEK_LEN], const struct content_key *cek, uint8_t *out,
                         size_t *out_len)
{
    int len = wc_AesKeyWrap(kek, KEK_LEN, cek->bytes, (word32)cek->len, out, WRAPPED_MAX, NULL);
    if (len <= 0)
        return ERR_INTERNAL;
    *out_len = (size_t)len;
    return ERR_OK;
}

/* RFC 3211 2.3.1: length, check value, key and random padding to at least two blocks, encrypted
 * twice, the second time from the last block of the first. */
static enum err pwri_kek_wrap(const uint8_t kek[KEK_LEN], const uint8_t iv[AES_BLOCK],
                              const struct content_key *cek, uint8_t *out, size_t *out_len)
{
    size_t len = padded_len(3 + cek->len); /* the next multiple: 32 or 48, and so two blocks */
    uint8_t chain[AES_BLOCK];
    memcpy(chain, iv, AES_BLOCK);
    out[0] = (uint8_t)cek->len;
    for (int i = 0; i < 3; i++)
        out[1 + i] = (uint8_t)~cek->bytes[i];
    memcpy(out + 4, cek->bytes, cek->len);
    random_bytes(out + 4 + cek->len, len - 4 - cek->len);
    enum err err = cbc_encrypt(bytes_of(kek, KEK_LEN), chain, out, len, out);
    if (!err)
        err = cbc_encrypt(bytes_of(kek, KEK_LEN), chain, out, len, out);
    if (err)
        secret_wipe(out, len);
    else
        *out_len = len;
    return err;
}

/* --- recipients, RFC 5652 6.2 --- */

static void put_issuer_and_serial(struct der_builder *builder,
                                  const struct envelope_recipient *recipient)
{
    der_open(builder, DER_SEQUENCE);
    der_put_raw(builder, recipient->issuer);
    der_put(builder, DER_INTEGER, recipient->serial);
    der_close(builder);
}

/* RFC 8017 A.2.1: RSAES-OAEP-params, whose defaults are SHA-1. */
static void put_oaep(struct der_builder *builder)
{
    der_open(builder, DER_SEQUENCE);
    der_put(builder, DER_OID, OID_RSA_OAEP);
    der_open(builder, DER_SEQUENCE);
    der_open(builder, DER_CONTEXT_CONSTRUCTED(0));
    alg_put_null(builder, OID_SHA256);
    der_close(builder);
    der_open(builder, DER_CONTEXT_CONSTRUCTED(1));
    der_open(builder, DER_SEQUENCE);
    der_put(builder, DER_OID, OID_MGF1);
    alg_put_null(builder, OID_SHA256);
    der_close(builder);
    der_close(builder);
    der_close(builder);
    der_close(builder);
}

/* KeyTransRecipientInfo, 6.2.1 */
static enum err put_ktri(struct der_builder *builder, const struct envelope_recipient *recipient,
                         const struct content_key *cek)
{
    const struct spki *key = recipient->key;
    struct bytes message = bytes_of(cek->bytes, cek->len);
    uint8_t encrypted[RSA_LEN_MAX];
    bool is_oaep = recipient->kind == ENVELOPE_RSA_OAEP;
    enum err err = is_oaep ? rsa_encrypt_oaep(key->modulus, key->exponent, message, encrypted)
                           : rsa_encrypt_pkcs1(key->modulus, key->exponent, message, encrypted);
    if (err)
        return err;
    bool has_ski = recipient->ski.len != 0;
    der_open(builder, DER_SEQUENCE);
    der_put_u64(builder, DER_INTEGER, has_ski ? 2 : 0);
    if (has_ski)
        der_put(builder, DER_CONTEXT(0), recipient->ski);
    else
        put_issuer_and_serial(builder, recipient);
    if (is_oaep)
        put_oaep(builder);
    else
        alg_put_null(builder, OID_RSA);
    der_put(builder, DER_OCTET_STRING, bytes_of(encrypted, key->modulus.len));
    der_close(builder);
    return ERR_OK;
}

/* RFC 5753 7.2: ECC-CMS-SharedInfo ::= SEQUENCE { keyInfo, entityUInfo [0], suppPubInfo [2] } */
static bool shared_info(const uint8_t ukm[UKM_LEN], uint8_t out[SHARED_INFO_MAX],
                        struct bytes *out_der)
{
    uint8_t bits[4];
    store_be32(bits, KEK_LEN * 8);
    struct der_builder builder = der_builder_of(out, SHARED_INFO_MAX);
    der_open(&builder, DER_SEQUENCE);
    alg_put_bare(&builder, OID_AES256_WRAP);
    der_open(&builder, DER_CONTEXT_CONSTRUCTED(0));
    der_put(&builder, DER_OCTET_STRING, bytes_of(ukm, UKM_LEN));
    der_close(&builder);
    der_open(&builder, DER_CONTEXT_CONSTRUCTED(2));
    der_put(&builder, DER_OCTET_STRING, BYTES_ARRAY(bits));
    der_close(&builder);
    der_close(&builder);
    return der_finish(&builder, out_der);
}

/* SEC 1 3.6.1 (X9.63) with SHA-256: one block is the whole key. */
static enum err kari_kek(const struct ecdh_result *dh, const uint8_t ukm[UKM_LEN],
                         uint8_t out[KEK_LEN])
{
    static_assert((int)KEK_LEN == (int)SHA256_LEN, "one block");
    uint8_t info_buf[SHARED_INFO_MAX];
    struct bytes info;
    struct hash_state state;
    if (!shared_info(ukm, info_buf, &info))
        return ERR_INTERNAL;
    hash_start(&state, HASH_SHA256);
    hash_update(&state, bytes_of(dh->shared, dh->shared_len));
    hash_update(&state, BYTES_LIT("\x00\x00\x00\x01"));
    hash_update(&state, info);
    hash_finish(&state, out);
    secret_wipe(&state, sizeof state);
    return ERR_OK;
}

static void put_ec_public(struct der_builder *builder, enum key_alg alg,
                          const struct ecdh_result *dh)
{
    der_open(builder, DER_CONTEXT_CONSTRUCTED(0));
    der_open(builder, DER_CONTEXT_CONSTRUCTED(1)); /* originatorKey */
    der_open(builder, DER_SEQUENCE);
    der_put(builder, DER_OID, OID_EC_PUBLIC_KEY);
    der_put(builder, DER_OID, alg == KEY_EC_P256 ? OID_P256 : OID_P384);
    der_close(builder);
    der_put_bits(builder, bytes_of(dh->point, dh->point_len));
    der_close(builder);
    der_close(builder);
}

static void put_recipient_key(struct der_builder *builder,
                              const struct envelope_recipient *recipient, struct bytes wrapped)
{
    der_open(builder, DER_SEQUENCE);
    der_open(builder, DER_SEQUENCE);
    if (recipient->ski.len != 0) {
        der_open(builder, DER_CONTEXT_CONSTRUCTED(0)); /* rKeyId */
        der_put(builder, DER_OCTET_STRING, recipient->ski);
        der_close(builder);
    } else {
        put_issuer_and_serial(builder, recipient);
    }
    der_put(builder, DER_OCTET_STRING, wrapped);
    der_close(builder);
    der_close(builder);
}

/* KeyAgreeRecipientInfo, 6.2.2 and RFC 5753 3.1.1 */
static void put_kari(struct der_builder *builder, const struct envelope_recipient *recipient,
                     const struct ecdh_result *dh, const uint8_t ukm[UKM_LEN], struct bytes wrapped)
{
    der_open(builder, DER_CONTEXT_CONSTRUCTED(1));
    der_put_u64(builder, DER_INTEGER, 3);
    put_ec_public(builder, recipient->key->alg, dh);
    der_open(builder, DER_CONTEXT_CONSTRUCTED(1));
    der_put(builder, DER_OCTET_STRING, bytes_of(ukm, UKM_LEN));
    der_close(builder);
    der_open(builder, DER_SEQUENCE);
    der_put(builder, DER_OID, OID_ECDH_SHA256KDF);
    alg_put_bare(builder, OID_AES256_WRAP);
    der_close(builder);
    put_recipient_key(builder, recipient, wrapped);
    der_close(builder);
}

static enum err add_kari(struct der_builder *builder, const struct envelope_recipient *recipient,
                         const struct content_key *cek)
{
    struct ecdh_result dh;
    uint8_t ukm[UKM_LEN], kek[KEK_LEN], wrapped[WRAPPED_MAX];
    size_t wrapped_len = 0;
    enum err err = ecdh_ephemeral(recipient->key->alg, recipient->key->key, &dh);
    if (err)
        return err;
    random_bytes(ukm, sizeof ukm);
    err = kari_kek(&dh, ukm, kek);
    if (!err)
        err = key_wrap(kek, cek, wrapped, &wrapped_len);
    secret_wipe(kek, sizeof kek);
    secret_wipe(dh.shared, sizeof dh.shared);
    if (!err)
        put_kari(builder, recipient, &dh, ukm, bytes_of(wrapped, wrapped_len));
    return err;
}

static struct bytes cipher_oid(enum envelope_cipher cipher)
{
    return cipher == ENVELOPE_AES128_CBC ? OID_AES128_CBC : OID_AES256_CBC;
}

static void put_cbc(struct der_builder *builder, struct bytes oid, const uint8_t iv[AES_BLOCK])
{
    der_open(builder, DER_SEQUENCE);
    der_put(builder, DER_OID, oid);
    der_put(builder, DER_OCTET_STRING, bytes_of(iv, AES_BLOCK));
    der_close(builder);
}

/* PasswordRecipientInfo, 6.2.4 */
static void put_pwri(struct der_builder *builder, const struct envelope_recipient *recipient,
                     const uint8_t salt[SALT_LEN], const uint8_t iv[AES_BLOCK],
                     struct bytes wrapped)
{
    struct pbkdf2_alg kdf = {bytes_of(salt, SALT_LEN), recipient->iterations, 0, HASH_SHA256};
    der_open(builder, DER_CONTEXT_CONSTRUCTED(3));
    der_put_u64(builder, DER_INTEGER, 0);
    alg_put_pbkdf2(builder, DER_CONTEXT_CONSTRUCTED(0), &kdf);
    if (recipient->kind == ENVELOPE_PASSWORD_KEK) {
        der_open(builder, DER_SEQUENCE);
        der_put(builder, DER_OID, OID_PWRI_KEK);
        put_cbc(builder, OID_AES256_CBC, iv);
        der_close(builder);
    } else {
        alg_put_bare(builder, OID_AES256_WRAP);
    }
    der_put(builder, DER_OCTET_STRING, wrapped);
    der_close(builder);
}

static enum err add_pwri(struct der_builder *builder, const struct envelope_recipient *recipient,
                         const struct content_key *cek)
{
    uint8_t salt[SALT_LEN], iv[AES_BLOCK], kek[KEK_LEN], wrapped[WRAPPED_MAX];
    size_t wrapped_len = 0;
    random_bytes(salt, sizeof salt);
    random_bytes(iv, sizeof iv);
    pbkdf2(HASH_SHA256, recipient->password, BYTES_ARRAY(salt), recipient->iterations, kek,
           sizeof kek);
    enum err err = recipient->kind == ENVELOPE_PASSWORD_KEK
                       ? pwri_kek_wrap(kek, iv, cek, wrapped, &wrapped_len)
                       : key_wrap(kek, cek, wrapped, &wrapped_len);
    secret_wipe(kek, sizeof kek);
    if (!err)
        put_pwri(builder, recipient, salt, iv, bytes_of(wrapped, wrapped_len));
    return err;
}

static enum err add_recipient(struct der_builder *builder,
                              const struct envelope_recipient *recipient,
                              const struct content_key *cek)
{
    switch (recipient->kind) {
    case ENVELOPE_RSA_OAEP:
    case ENVELOPE_RSA_PKCS1:
        return put_ktri(builder, recipient, cek);
    case ENVELOPE_ECDH:
        return add_kari(builder, recipient, cek);
    case ENVELOPE_PASSWORD:
    case ENVELOPE_PASSWORD_KEK:
        return add_pwri(builder, recipient, cek);
    case ENVELOPE_NONE:
        break;
    }
    return ERR_INTERNAL;
}

/* --- the whole --- */

enum envelope_kind envelope_kind_of(const struct spki *key)
{
    if (key->alg == KEY_RSA)
        return ENVELOPE_RSA_OAEP;
    return ec_coordinate_len(key->alg) != 0 ? ENVELOPE_ECDH : ENVELOPE_NONE;
}

enum err envelope_key_check(const struct spki *key)
{
    struct ec_point point;
    switch (envelope_kind_of(key)) {
    case ENVELOPE_RSA_OAEP:
        return rsa_public_check(key->modulus, key->exponent);
    case ENVELOPE_ECDH:
        return ec_point_import(key->alg, key->key, &point);
    default:
        return ERR_BAD_ALG;
    }
}

static bool is_named(const struct envelope_recipient *recipient)
{
    struct bytes issuer = recipient->issuer, name;
    if (recipient->ski.len != 0)
        return recipient->ski.len <= 64;
    return der_get_element(&issuer, DER_SEQUENCE, &name) && issuer.len == 0 &&
           name.len <= NAME_DER_MAX && recipient->serial.len >= 1 && recipient->serial.len <= 32;
}

static enum err recipient_check(const struct envelope_recipient *recipient)
{
    switch (recipient->kind) {
    case ENVELOPE_RSA_OAEP:
    case ENVELOPE_RSA_PKCS1:
    case ENVELOPE_ECDH:
        if ((envelope_kind_of(recipient->key) == ENVELOPE_ECDH) !=
            (recipient->kind == ENVELOPE_ECDH))
            return ERR_BAD_KEY;
        if (envelope_key_check(recipient->key))
            return ERR_BAD_KEY;
        return is_named(recipient) ? ERR_OK : ERR_BAD_REQUEST;
    case ENVELOPE_PASSWORD:
    case ENVELOPE_PASSWORD_KEK:
        return recipient->password.len >= 1 && recipient->password.len <= MAC_SECRET_MAX &&
                       recipient->iterations >= MAC_ITERATIONS_MIN &&
                       recipient->iterations <= MAC_ITERATIONS_MAX
                   ? ERR_OK
                   : ERR_BAD_REQUEST;
    case ENVELOPE_NONE:
        break;
    }
    return ERR_BAD_REQUEST;
}

/* RFC 5652 6.1: 3 with a password, 0 where everything inside is 0, else 2. */
static uint64_t version_of(const struct envelope_recipient *recipient)
{
    switch (recipient->kind) {
    case ENVELOPE_PASSWORD:
    case ENVELOPE_PASSWORD_KEK:
        return 3;
    case ENVELOPE_ECDH:
        return 2;
    default:
        return recipient->ski.len != 0 ? 2 : 0;
    }
}

static enum err put_content(struct der_builder *builder, enum envelope_cipher cipher,
                            struct bytes content_type, struct bytes content,
                            const struct content_key *cek)
{
    uint8_t iv[AES_BLOCK];
    random_bytes(iv, sizeof iv);
    der_open(builder, DER_SEQUENCE);
    der_put(builder, DER_OID, content_type);
    put_cbc(builder, cipher_oid(cipher), iv);
    der_open(builder, DER_CONTEXT(0));
    uint8_t *place = writer_reserve(&builder->out, padded_len(content.len));
    if (!place)
        return ERR_NO_SPACE;
    enum err err = content_encrypt(cek, iv, content, place);
    der_close(builder);
    der_close(builder);
    return err;
}

enum err envelope_build(const struct envelope_recipient *recipient, enum envelope_cipher cipher,
                        struct bytes content_type, struct bytes content, uint8_t *out, size_t cap,
                        size_t *out_len)
{
    struct der_builder builder = der_builder_of(out, cap);
    struct content_key cek = {.len = cipher == ENVELOPE_AES128_CBC ? 16 : 32};
    struct bytes all;
    enum err err = recipient_check(recipient);
    if (err)
        return err;
    random_bytes(cek.bytes, cek.len);
    der_open(&builder, DER_SEQUENCE);
    der_put_u64(&builder, DER_INTEGER, version_of(recipient));
    der_open(&builder, DER_SET);
    err = add_recipient(&builder, recipient, &cek);
    der_close(&builder);
    if (!err)
        err = put_content(&builder, cipher, content_type, content, &cek);
    secret_wipe(&cek, sizeof cek);
    if (err)
        return err;
    der_close(&builder);
    if (!der_finish(&builder, &all))
        return ERR_NO_SPACE;
    *out_len = all.len;
    return ERR_OK;
}
