/* ecdh.h: ephemeral-static Diffie-Hellman over P-256 and P-384 (SP 800-56A 6.2.2.2), inside
 * engine/crypto.
 *
 * Promise: the peer's point is checked to be on its curve first; a fresh key for each call, gone
 *          when it returns; scalar multiplication in constant time.
 * Owner:   the shared secret is the caller's, who wipes it.
 * Threads: pure.
 * Errors:  ERR_BAD_KEY: not a point of that curve; ERR_BAD_ALG: not one of these curves;
 *          ERR_INTERNAL.
 */
#ifndef CERTMILL_CRYPTO_ECDH_H
#define CERTMILL_CRYPTO_ECDH_H

#include "crypto/ecdsa.h"

struct ecdh_result {
    uint8_t point[1 + 2 * EC_LEN_MAX]; /* the ephemeral public key, uncompressed */
    size_t point_len;
    uint8_t shared[EC_LEN_MAX]; /* x coordinate */
    size_t shared_len;
};

enum err ecdh_ephemeral(enum key_alg alg, struct bytes peer_point,
                        struct ecdh_result *out) MUST_USE;

#endif
