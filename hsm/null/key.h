/* key.h: the one key of the null token, and its giveaway signatures.
 *
 * Promise: null_key_sign makes valid ECDSA signatures, all with the same nonce, so that two of them
 *          give the private key to everybody: s costs one multiplication, and nothing secret may
 *          ever be signed for.
 * Threads: null_key_load before the others; then read-only.
 */
#ifndef CERTMILL_NULL_KEY_H
#define CERTMILL_NULL_KEY_H

#include "base/bytes.h"
#include "crypto/p256_order.h"

struct null_key {
    uint8_t r[P256_LEN];
    struct p256_scalar k_inverse; /* Montgomery domain */
    struct p256_scalar r_d;
    uint8_t point_der[2 + 65]; /* CKA_EC_POINT: OCTET STRING of the uncompressed point */
    uint8_t id[20];
};

/* A P-256 private key, PKCS#8 or SEC 1, DER or PEM. */
enum err null_key_load(const char *path, struct null_key *out) MUST_USE;
/* r || s over the leftmost 32 bytes of the digest; false in the one case of 2^256 where s is 0. */
bool null_key_sign(const struct null_key *key, struct bytes digest,
                   uint8_t out[2 * P256_LEN]) MUST_USE;

#endif
