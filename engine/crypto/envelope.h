/* envelope.h: content encrypted for one recipient: CMS EnvelopedData (RFC 5652 section 6), as CMP
 * uses it for keys made centrally and for certificates that prove possession by being opened (RFC
 * 9810 5.2.2, 5.2.8.3.2).
 *
 * Promise: a fresh content key, IV, ephemeral key and salt for each envelope; a recipient's key is
 *          checked (its point lies on its curve) before anything is encrypted for it; secrets are
 *          wiped, and out holds none at any time.
 * Threads: pure. A password costs its PBKDF2 iterations: off the cores.
 * Errors:  ERR_BAD_KEY: the recipient's key is malformed or of another kind; ERR_BAD_REQUEST: the
 *          recipient is not named, or has no password; ERR_NO_SPACE; ERR_INTERNAL.
 * Limits:  the result is at most ENVELOPE_OVERHEAD_MAX longer than the content.
 */
#ifndef CERTMILL_CRYPTO_ENVELOPE_H
#define CERTMILL_CRYPTO_ENVELOPE_H

#include "asn1/x509.h"

enum envelope_kind {
    ENVELOPE_NONE,
    ENVELOPE_RSA_OAEP,     /* ktri, RSAES-OAEP with SHA-256 and MGF1 with SHA-256 (RFC 4055 4.1) */
    ENVELOPE_RSA_PKCS1,    /* ktri, RSAES-PKCS1-v1_5, for clients that know nothing else */
    ENVELOPE_ECDH,         /* kari, ephemeral-static, P-256 or P-384, X9.63 KDF with SHA-256 and
                              AES-256 key wrap (RFC 5753 3.1) */
    ENVELOPE_PASSWORD,     /* pwri, PBKDF2 with HMAC-SHA-256, AES-256 key wrap (RFC 9483 4.1.6.3) */
    ENVELOPE_PASSWORD_KEK, /* the same with id-alg-PWRI-KEK (RFC 3211), which OpenSSL opens */
};

enum envelope_cipher { ENVELOPE_AES256_CBC, ENVELOPE_AES128_CBC };

struct envelope_recipient {
    enum envelope_kind kind;
    /* RSA_*, ECDH: the key, and its name: the SKI, or where that is empty issuer and serial. */
    const struct spki *key;
    struct bytes ski;
    struct bytes issuer; /* whole Name */
    struct bytes serial; /* INTEGER contents */
    /* PASSWORD*: */
    struct bytes password; /* 1..MAC_SECRET_MAX bytes */
    uint32_t iterations;   /* MAC_ITERATIONS_MIN..MAC_ITERATIONS_MAX */
};

/* How to encrypt for this key: ENVELOPE_RSA_OAEP, ENVELOPE_ECDH, or ENVELOPE_NONE: it can only
 * sign. */
enum envelope_kind envelope_kind_of(const struct spki *key);
/* Can this key be encrypted for: ERR_OK, ERR_BAD_ALG: of a kind that only signs, ERR_BAD_KEY: not
 * on its curve, or an RSA modulus or exponent outside of the limits. */
enum err envelope_key_check(const struct spki *key) MUST_USE;

/* The EnvelopedData SEQUENCE (not a ContentInfo; cms_content_info_build makes one of it).
 * content_type: an OID's contents (OID_CMS_DATA, OID_CMS_SIGNED_DATA). */
enum { ENVELOPE_OVERHEAD_MAX = 2048 };
enum err envelope_build(const struct envelope_recipient *recipient, enum envelope_cipher cipher,
                        struct bytes content_type, struct bytes content, uint8_t *out, size_t cap,
                        size_t *out_len) MUST_USE;

#endif
