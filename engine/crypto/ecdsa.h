/* ecdsa.h: ECDSA over P-256 and P-384 (FIPS 186-4 section 6, SEC 1 section 4.1), inside
 * engine/crypto.
 *
 * Promise: a point is on its curve when ec_point_import says so; a verification that cannot be
 *          computed is a failed one. Works in variable time: public data alone goes through here.
 * Threads: pure.
 */
#ifndef CERTMILL_CRYPTO_ECDSA_H
#define CERTMILL_CRYPTO_ECDSA_H

#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/ecc.h>

#include "asn1/alg.h"

enum { EC_LEN_MAX = 48 };

struct ec_point {
    enum key_alg alg;
    mp_int x;
    mp_int y;
    mp_int z; /* 1 */
};

/* Bytes of a coordinate; 0 for keys that are not elliptic curve keys of these two curves. */
size_t ec_coordinate_len(enum key_alg alg);
/* The wolfCrypt name of a curve (enum ecc_curve_id). */
int ec_curve_id(enum key_alg alg);
/* 0 < value < n, big-endian, ec_coordinate_len bytes. */
bool ec_scalar_is_valid(enum key_alg alg, const uint8_t *value);

/* Uncompressed, and coordinates below the field prime; not yet that it is on the curve. */
bool ec_point_is_plausible(enum key_alg alg, struct bytes point);
/* Uncompressed X9.62 form alone (RFC 5480 2.2). ERR_BAD_KEY. */
enum err ec_point_import(enum key_alg alg, struct bytes point, struct ec_point *out) MUST_USE;
/* digest: any length; its leftmost bits count (FIPS 186-4 6.4). ERR_BAD_SIGNATURE. */
enum err ecdsa_verify(const struct ec_point *key, struct bytes digest,
                      struct bytes signature_der) MUST_USE;

#endif
