/* x509.h: typed views of certificates and of the parts that requests share with them (RFC 5280).
 *
 * Promise: a decoder fills a view without copying, or fails and leaves it untouched; what is
 *          accepted is DER throughout and has nothing left over. Nothing here verifies.
 * Owner:   views live as long as the bytes they point into.
 * Errors:  ERR_BAD_DER, ERR_DER_TRAILING, ERR_BAD_CERT, ERR_BAD_ALG, ERR_BAD_KEY.
 * Limits:  CERT_DER_MAX, EXTENSIONS_MAX, NAME_DER_MAX, SPKI_DER_MAX.
 */
#ifndef CERTMILL_ASN1_X509_H
#define CERTMILL_ASN1_X509_H

#include "asn1/alg.h"
#include "base/bytes.h"
#include "limits.h"

/* A whole AlgorithmIdentifier of whatever algorithm (RFC 5280 4.1.1.2): an OID and at most one
 * more. */
bool algorithm_is_valid(struct bytes der);

/* SubjectPublicKeyInfo (RFC 5280 4.1.2.7; 5480, 8410). */
struct spki {
    struct bytes der; /* the whole SubjectPublicKeyInfo */
    struct bytes key; /* contents of subjectPublicKey: EC point, Ed25519 key, RSAPublicKey DER */
    struct bytes modulus; /* RSA only, big-endian, no leading zero */
    struct bytes exponent;
    enum key_alg alg;
    uint32_t bits; /* 256, 384, RSA modulus bits... */
};

/* Known algorithm: alg is set. Unknown: ERR_BAD_ALG. Malformed key (compressed or infinite point,
 * wrong length, even modulus, exponent < 3 or even): ERR_BAD_KEY. Points are not checked against
 * the curve here: verify does. */
enum err spki_decode(struct bytes der, struct spki *out) MUST_USE;

struct extension {
    struct bytes oid;   /* contents octets */
    struct bytes value; /* contents of extnValue */
    struct bytes der;   /* the whole Extension */
    bool critical;
};

struct extensions {
    struct extension item[EXTENSIONS_MAX];
    uint32_t count;
};

/* `der` is the whole Extensions SEQUENCE. A repeated OID, DEFAULT FALSE written out, or more than
 * EXTENSIONS_MAX is an error (RFC 5280 4.2). */
enum err extensions_decode(struct bytes der, struct extensions *out) MUST_USE;
/* NULL when absent. */
const struct extension *extensions_find(const struct extensions *all, struct bytes oid);

/* RFC 5280 4.2.1.3, as named bit n = 1u << n. */
enum key_usage {
    KU_DIGITAL_SIGNATURE = 1u << 0,
    KU_CONTENT_COMMITMENT = 1u << 1,
    KU_KEY_ENCIPHERMENT = 1u << 2,
    KU_DATA_ENCIPHERMENT = 1u << 3,
    KU_KEY_AGREEMENT = 1u << 4,
    KU_KEY_CERT_SIGN = 1u << 5,
    KU_CRL_SIGN = 1u << 6,
};

enum ext_key_usage {
    EKU_SERVER_AUTH = 1u << 0,
    EKU_CLIENT_AUTH = 1u << 1,
    EKU_CMC_RA = 1u << 2, /* 1.3.6.1.5.5.7.3.28 (RFC 6402) */
    EKU_CMC_CA = 1u << 3, /* 1.3.6.1.5.5.7.3.27 */
    EKU_CM_KGA = 1u << 4, /* 1.3.6.1.5.5.7.3.32 */
    EKU_ANY = 1u << 5,
    EKU_OTHER = 1u << 31,
};

struct x509_cert {
    struct bytes der;
    struct bytes tbs;    /* whole TBSCertificate: what is signed */
    struct bytes serial; /* INTEGER contents, as encoded */
    struct bytes issuer; /* whole Name */
    struct bytes subject;
    struct bytes signature; /* BIT STRING contents */
    struct spki spki;
    enum sig_alg sig_alg; /* SIG_NONE when unknown: the certificate still decodes */
    int64_t not_before_s;
    int64_t not_after_s;
    struct extensions extensions;
    struct bytes san; /* whole GeneralNames SEQUENCE, empty when absent */
    struct bytes ski; /* keyIdentifier octets */
    struct bytes aki; /* keyIdentifier octets of the AKI */
    uint32_t key_usage;
    uint32_t ext_key_usage;
    uint32_t path_len; /* UINT32_MAX: no limit */
    bool has_key_usage;
    bool has_ext_key_usage;
    bool is_ca;
    bool unknown_critical; /* a critical extension that certmill does not process */
};

enum err x509_decode(struct bytes der, struct x509_cert *out) MUST_USE;

/* --- names --- */

/* A whole Name that is DER: RDNs and values not empty, SET OF order, string types with contents
 * that fit them, no NUL, at most NAME_DER_MAX. */
bool name_is_valid(struct bytes name_der);
/* Every attribute of a Name in order: calls fn(ctx, oid, value tag, value contents); stops and
 * returns false when fn does or the Name is malformed. */
bool name_each(struct bytes name_der,
               bool (*fn)(void *ctx, struct bytes oid, uint8_t tag, struct bytes value), void *ctx);
/* The last (most specific) value of an attribute; false when absent or malformed. */
bool name_find(struct bytes name_der, struct bytes oid, struct bytes *out_value) MUST_USE;
static inline bool name_is_empty(struct bytes name_der)
{
    return name_der.len <= 2;
}
/* "CN=x,O=y" (RFC 4514 order reversed to encoding order, escaped), truncated to cap with NUL. */
void name_to_text(struct bytes name_der, char *out, size_t cap);
/* From "CN=x,O=y,serialNumber=z" as in the configuration into a DER Name (UTF8String, or
 * PrintableString for C and serialNumber). false on unknown attribute or no room. */
bool name_from_text(const char *text, uint8_t *out, size_t cap, size_t *out_len) MUST_USE;

/* GeneralName choices (RFC 5280 4.2.1.6). */
enum general_name {
    GN_OTHER = 0,
    GN_EMAIL = 1,
    GN_DNS = 2,
    GN_DIRECTORY = 4,
    GN_URI = 6,
    GN_IP = 7
};
/* The next element, which must be a GeneralName as general_names_are_valid checks them.
 * *out_name: its whole Name when it is a directoryName, else empty. */
bool general_name_get(struct bytes *reader, struct bytes *out_element,
                      struct bytes *out_name) MUST_USE;
/* The first GeneralName of a kind inside a whole GeneralNames SEQUENCE. */
bool general_names_find(struct bytes san_der, enum general_name kind,
                        struct bytes *out_value) MUST_USE;
/* Checks every element (IA5 contents, IP lengths 4 or 16, not empty). */
bool general_names_are_valid(struct bytes san_der);

/* Finds PEM blocks of a type ("CERTIFICATE", "CERTIFICATE REQUEST") in text and decodes the next
 * one into out; the reader advances past it. ERR_NOT_FOUND at the end. */
enum err pem_next(struct bytes *text, const char *type, uint8_t *out, size_t cap,
                  size_t *out_len) MUST_USE;
/* Writes a PEM block (64 columns). */
void pem_put(struct writer *out, const char *type, struct bytes der);

#endif
