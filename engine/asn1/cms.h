/* cms.h: CMS structures (RFC 5652).
 *
 * Promise: builders write DER into the caller's buffer and say how long it is, or fail.
 */
#ifndef CERTMILL_ASN1_CMS_H
#define CERTMILL_ASN1_CMS_H

#include "base/bytes.h"

/* Degenerate certs-only SignedData in a ContentInfo (RFC 5652 5.1, 5.2; RFC 7030 4.1.3): version 1,
 * no digest algorithms, no content, no signers. Certificates in DER SET OF order. */
enum err cms_certs_only_build(const struct bytes certs[], size_t count, uint8_t *out, size_t cap,
                              size_t *out_len) MUST_USE;
/* Upper bound of what the above needs. */
size_t cms_certs_only_bound(const struct bytes certs[], size_t count);

/* Splits a certs-only SignedData into views of its certificates, in order; ERR_NO_SPACE past max.
 */
enum err cms_certs_only_decode(struct bytes der, struct bytes out_certs[], size_t max,
                               size_t *out_count) MUST_USE;

/* ContentInfo ::= SEQUENCE { contentType, content [0] EXPLICIT } (RFC 5652 3). */
enum err cms_content_info_build(struct bytes content_type, struct bytes content_der, uint8_t *out,
                                size_t cap, size_t *out_len) MUST_USE;

/* Signed attributes as they are signed: a SET OF contentType, messageDigest and the algorithms of
 * both hash and signature (RFC 5652 5.4, 11.1, 11.2; RFC 6211, RFC 8933), in DER order. */
enum { CMS_SIGNED_ATTRS_MAX = 320 };
struct cms_attrs {
    struct bytes content_type;
    struct bytes digest;
    struct bytes digest_oid;
    struct bytes sig_alg; /* whole AlgorithmIdentifier */
};
enum err cms_signed_attrs_build(const struct cms_attrs *attrs, uint8_t *out, size_t cap,
                                size_t *out_len) MUST_USE;

/* What a SignedData with one signer is made of. */
struct cms_signed {
    struct bytes content_type;
    struct bytes content;      /* the octets that were hashed */
    struct bytes digest_oid;   /* of that hash */
    struct bytes signed_attrs; /* the SET of cms_signed_attrs_build */
    struct bytes sig_alg;      /* whole AlgorithmIdentifier */
    struct bytes signature;
    struct bytes ski; /* names the signer; where it is empty, these do: */
    struct bytes issuer;
    struct bytes serial;
    const struct bytes *certs; /* written in SET OF order */
    size_t cert_count;
};
/* The SignedData SEQUENCE (RFC 5652 5.1), not a ContentInfo. */
enum err cms_signed_build(const struct cms_signed *parts, uint8_t *out, size_t cap,
                          size_t *out_len) MUST_USE;

#endif
