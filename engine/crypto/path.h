/* path.h: certification path validation for clients and message signers (RFC 5280 section 6.1, the
 * part a closed PKI needs).
 *
 * Promise: checks signatures, validity, names chaining, basicConstraints, pathLen, keyCertSign and
 *          unknown critical extensions; policy and name constraints are not processed, so a
 *          certificate that carries critical ones is refused.
 * Threads: pure over read-only trust stores.
 */
#ifndef CERTMILL_CRYPTO_PATH_H
#define CERTMILL_CRYPTO_PATH_H

#include "asn1/x509.h"
#include "crypto/verify.h"

struct trust_anchor {
    struct x509_cert cert;
    struct verify_key *key;
};

struct trust_store {
    struct trust_anchor anchor[TRUST_ANCHORS_MAX];
    uint32_t count;
};

/* Copies the DER; ERR_BAD_CERT, ERR_FULL. An anchor need not be self-signed. */
enum err trust_store_add(struct trust_store *store, struct bytes cert_der) MUST_USE;
void trust_store_clear(struct trust_store *store);

/* chain[0] is the end entity, the rest candidates in any order. On success *out_anchor is the
 * anchor used. ERR_CLIENT_CERT_UNTRUSTED, ERR_CLIENT_CERT_EXPIRED (anything out of its validity at
 * now). */
enum err path_validate(const struct trust_store *store, const struct bytes chain[], size_t count,
                       int64_t now_s, const struct trust_anchor **out_anchor) MUST_USE;

#endif
