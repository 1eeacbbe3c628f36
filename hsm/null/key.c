#include "hsm/null/key.h"

#include <stdio.h>

#include "asn1/der.h"
#include "asn1/x509.h"
#include "base/secret.h"
#include "crypto/digest.h"
#include "crypto/softkey.h"

enum { KEY_FILE_MAX = 16 * 1024 };

/* softkey keeps its scalar to itself; its export (RFC 5958 around RFC 5915) is how it is had. */
static enum err private_scalar(const struct softkey *key, struct p256_scalar *out)
{
    uint8_t der[256];
    size_t len;
    enum err err = softkey_export(key, der, sizeof der, &len);
    if (err)
        return err;
    struct bytes reader = bytes_of(der, len), body, algorithm, octets, inner, d;
    uint64_t version;
    if (!der_get(&reader, DER_SEQUENCE, &body) || !der_get_u64(&body, &version) ||
        !der_get(&body, DER_SEQUENCE, &algorithm) || !der_get(&body, DER_OCTET_STRING, &octets) ||
        !der_get(&octets, DER_SEQUENCE, &inner) || !der_get_u64(&inner, &version) ||
        !der_get(&inner, DER_OCTET_STRING, &d) || d.len != P256_LEN)
        err = ERR_INTERNAL;
    else
        *out = p256_scalar_load(d.ptr);
    secret_wipe(der, sizeof der);
    return err;
}

static enum err public_point(const struct softkey *key, uint8_t out[65])
{
    uint8_t der[256];
    size_t len;
    struct spki spki;
    enum err err = softkey_spki(key, der, sizeof der, &len);
    if (!err)
        err = spki_decode(bytes_of(der, len), &spki);
    if (!err && (spki.alg != KEY_EC_P256 || spki.key.len != 65))
        err = ERR_BAD_KEY;
    if (!err)
        memcpy(out, spki.key.ptr, 65);
    return err;
}

/* Chooses k once: another key pair serves, its public point being k * G. */
static enum err choose_nonce(const struct softkey *key, struct null_key *out)
{
    struct softkey *nonce;
    struct p256_scalar d, k, r;
    uint8_t point[65];
    enum err err = softkey_generate(KEY_EC_P256, 256, &nonce);
    if (err)
        return err;
    err = private_scalar(nonce, &k);
    if (!err)
        err = public_point(nonce, point);
    if (!err)
        err = private_scalar(key, &d);
    softkey_free(nonce);
    if (err)
        return err;
    r = p256_scalar_load(point + 1);
    if (p256_scalar_is_zero(&r))
        return ERR_INTERNAL;
    p256_scalar_store(&r, out->r);
    r = p256_scalar_to_mont(&r);
    out->r_d = p256_scalar_mont_mul(&r, &d);
    k = p256_scalar_to_mont(&k);
    out->k_inverse = p256_scalar_mont_inverse(&k);
    return ERR_OK;
}

static enum err key_import(struct bytes file, struct softkey **out)
{
    static const char *const types[] = {"PRIVATE KEY", "EC PRIVATE KEY"};
    if (!bytes_starts_with(file, BYTES_LIT("-----BEGIN ")))
        return softkey_import(file, out);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        uint8_t der[KEY_FILE_MAX];
        size_t len;
        struct bytes text = file;
        if (!pem_next(&text, types[i], der, sizeof der, &len))
            return softkey_import(bytes_of(der, len), out);
    }
    return ERR_BAD_KEY;
}

enum err null_key_load(const char *path, struct null_key *out)
{
    uint8_t file[KEY_FILE_MAX];
    FILE *stream = fopen(path, "rb");
    if (!stream)
        return ERR_IO;
    size_t len = fread(file, 1, sizeof file, stream);
    bool whole = !ferror(stream) && len < sizeof file;
    fclose(stream);
    if (!whole)
        return ERR_IO;
    struct softkey *key;
    enum err err = key_import(bytes_of(file, len), &key);
    secret_wipe(file, sizeof file);
    if (err)
        return err;
    out->point_der[0] = DER_OCTET_STRING;
    out->point_der[1] = 65;
    err = softkey_alg(key) == KEY_EC_P256 ? public_point(key, out->point_der + 2) : ERR_BAD_KEY;
    if (!err)
        err = choose_nonce(key, out);
    softkey_free(key);
    if (!err)
        digest_once(HASH_SHA1, bytes_of(out->point_der + 2, 65), out->id);
    return err;
}

bool null_key_sign(const struct null_key *key, struct bytes digest, uint8_t out[2 * P256_LEN])
{
    struct p256_scalar e = p256_scalar_of_digest(digest.ptr, digest.len);
    struct p256_scalar sum = p256_scalar_add(&e, &key->r_d);
    struct p256_scalar s = p256_scalar_mont_mul(&key->k_inverse, &sum);
    if (p256_scalar_is_zero(&s))
        return false;
    memcpy(out, key->r, P256_LEN);
    p256_scalar_store(&s, out + P256_LEN);
    return true;
}
