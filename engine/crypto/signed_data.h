/* signed_data.h: content under one signature: CMS SignedData (RFC 5652 section 5), and private keys
 * as CMP delivers them in it (RFC 9810 5.2.2, RFC 5958).
 *
 * Promise: signed attributes are contentType, messageDigest and CMSAlgorithmProtection, in DER; the
 *          signer is named by the SKI of its certificate, or by issuer and serial if it has none.
 * Owner:   the result is the caller's; a key package holds a private key: wipe it.
 * Threads: pure.
 * Errors:  ERR_BAD_ALG: the algorithm does not go with the key; ERR_NO_SPACE; ERR_INTERNAL.
 */
#ifndef CERTMILL_CRYPTO_SIGNED_DATA_H
#define CERTMILL_CRYPTO_SIGNED_DATA_H

#include "crypto/softkey.h"

struct signed_data_signer {
    const struct softkey *key;
    const struct x509_cert *cert;
    enum sig_alg alg;
    const struct bytes *chain; /* certificates that go along, the signer's own among them */
    size_t chain_count;
};

/* The SignedData SEQUENCE (not a ContentInfo). */
enum err signed_data_build(const struct signed_data_signer *signer, struct bytes content_type,
                           struct bytes content, uint8_t *out, size_t cap,
                           size_t *out_len) MUST_USE;

/* AsymmetricKeyPackage of one key: OneAsymmetricKey v2 with its public key (RFC 5958 2, RFC 9483
 * 4.1.6). On failure out is wiped. Its content type is OID_KEY_PACKAGE. */
enum err key_package_build(const struct softkey *key, uint8_t *out, size_t cap,
                           size_t *out_len) MUST_USE;

#endif
