#include "crypto/signed_data.h"

#include "asn1/cms.h"
#include "asn1/der.h"
#include "asn1/oid.h"
#include "base/secret.h"
#include "crypto/digest.h"

/* ML-DSA-65: 3,309; RSA 4096: 2,374 */
enum { SIGN_MAX = 3328, PKCS8_MAX = 2560 };

/* The hash of the content: the signature's own (RFC 8933); SHA-512 with algorithms that sign
 * the message itself (RFC 8419, RFC 9882). */
static enum hash_alg content_hash(enum sig_alg alg)
{
    enum hash_alg hash = sig_alg_hash(alg);
    return hash == HASH_NONE ? HASH_SHA512 : hash;
}

enum err signed_data_build(const struct signed_data_signer *signer, struct bytes content_type,
                           struct bytes content, uint8_t *out, size_t cap, size_t *out_len)
{
    uint8_t digest[DIGEST_LEN_MAX], attrs[CMS_SIGNED_ATTRS_MAX];
    uint8_t signature[SIGN_MAX];
    size_t attrs_len, signature_len;
    enum hash_alg hash = content_hash(signer->alg);
    if (sig_alg_der(signer->alg).len == 0)
        return ERR_BAD_ALG;
    digest_once(hash, content, digest);
    struct cms_attrs attributes = {content_type, bytes_of(digest, hash_alg_len(hash)),
                                   hash_alg_oid(hash), sig_alg_der(signer->alg)};
    enum err err = cms_signed_attrs_build(&attributes, attrs, sizeof attrs, &attrs_len);
    if (!err)
        err = softkey_sign(signer->key, signer->alg, bytes_of(attrs, attrs_len), false, signature,
                           sizeof signature, &signature_len);
    if (err)
        return err;
    struct cms_signed parts = {
        .content_type = content_type,
        .content = content,
        .digest_oid = hash_alg_oid(hash),
        .signed_attrs = bytes_of(attrs, attrs_len),
        .sig_alg = sig_alg_der(signer->alg),
        .signature = bytes_of(signature, signature_len),
        .ski = signer->cert->ski,
        .issuer = signer->cert->issuer,
        .serial = signer->cert->serial,
        .certs = signer->chain,
        .cert_count = signer->chain_count,
    };
    return cms_signed_build(&parts, out, cap, out_len);
}

/* PrivateKeyInfo as softkey_export writes it, taken apart: version 0, algorithm, key. */
static bool split_private(struct bytes pkcs8, struct bytes *out_algorithm, struct bytes *out_key)
{
    struct bytes body;
    uint64_t version;
    return der_get(&pkcs8, DER_SEQUENCE, &body) && der_get_u64(&body, &version) &&
           der_get_element(&body, DER_SEQUENCE, out_algorithm) &&
           der_get_element(&body, DER_OCTET_STRING, out_key);
}

/* RFC 5958 2: OneAsymmetricKey; publicKey [1] IMPLICIT BIT STRING makes it v2 (1). */
static enum err put_package(struct bytes pkcs8, const struct spki *spki, uint8_t *out, size_t cap,
                            size_t *out_len)
{
    struct der_builder builder = der_builder_of(out, cap);
    struct bytes algorithm, private, all;
    if (!split_private(pkcs8, &algorithm, &private))
        return ERR_INTERNAL;
    der_open(&builder, DER_SEQUENCE); /* AsymmetricKeyPackage */
    der_open(&builder, DER_SEQUENCE);
    der_put_u64(&builder, DER_INTEGER, 1);
    der_put_raw(&builder, algorithm);
    der_put_raw(&builder, private);
    der_open(&builder, DER_CONTEXT(1));
    der_put_raw(&builder, BYTES_LIT("\x00")); /* no unused bits */
    der_put_raw(&builder, spki->key);
    der_close(&builder);
    der_close(&builder);
    der_close(&builder);
    if (!der_finish(&builder, &all))
        return ERR_NO_SPACE;
    *out_len = all.len;
    return ERR_OK;
}

enum err key_package_build(const struct softkey *key, uint8_t *out, size_t cap, size_t *out_len)
{
    uint8_t pkcs8[PKCS8_MAX], spki_der[SPKI_DER_MAX];
    size_t pkcs8_len, spki_len;
    struct spki spki;
    enum err err = softkey_spki(key, spki_der, sizeof spki_der, &spki_len);
    if (!err)
        err = spki_decode(bytes_of(spki_der, spki_len), &spki);
    if (!err)
        err = softkey_export(key, pkcs8, sizeof pkcs8, &pkcs8_len);
    if (!err)
        err = put_package(bytes_of(pkcs8, pkcs8_len), &spki, out, cap, out_len);
    secret_wipe(pkcs8, sizeof pkcs8);
    if (err)
        secret_wipe(out, cap);
    return err;
}
