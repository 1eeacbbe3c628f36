/* p256_order.h: numbers modulo the order n of P-256.
 *
 * Promise: results are fully reduced. Takes time that depends on the numbers: for verification, and
 *          for the null token, which keeps no secret. Never for a real private key.
 * Threads: pure.
 */
#ifndef CERTMILL_CRYPTO_P256_ORDER_H
#define CERTMILL_CRYPTO_P256_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { P256_LEN = 32 };

struct p256_scalar {
    uint64_t limb[4]; /* least significant first */
};

/* Big-endian; reduced modulo n. */
struct p256_scalar p256_scalar_load(const uint8_t in[P256_LEN]);
/* The leftmost bits of a digest as a number (FIPS 186-4 6.4), reduced. */
struct p256_scalar p256_scalar_of_digest(const uint8_t *digest, size_t len);
void p256_scalar_store(const struct p256_scalar *value, uint8_t out[P256_LEN]);
bool p256_scalar_is_zero(const struct p256_scalar *value);
struct p256_scalar p256_scalar_add(const struct p256_scalar *a, const struct p256_scalar *b);
/* Montgomery product a * b / 2^256. */
struct p256_scalar p256_scalar_mont_mul(const struct p256_scalar *a, const struct p256_scalar *b);
/* a * 2^256: into the Montgomery domain. */
struct p256_scalar p256_scalar_to_mont(const struct p256_scalar *a);
/* 1 / a; a is not 0. */
struct p256_scalar p256_scalar_inverse(const struct p256_scalar *a);
/* The same, both in the Montgomery domain. */
struct p256_scalar p256_scalar_mont_inverse(const struct p256_scalar *a);

#endif
