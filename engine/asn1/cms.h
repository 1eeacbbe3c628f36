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

#endif
