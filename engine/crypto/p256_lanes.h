/* p256_lanes.h: the curve arithmetic of ECDSA verification over P-256, eight at a time with AVX-512
 * IFMA, inside engine/crypto.
 *
 * Promise: YES and NO are right; UNSURE is answered where the addition formulas meet one of their
 *          exceptions (FIPS 186-4's equation then has to be computed by somebody else), which
 * random keys and signatures never do and crafted ones may. Public data alone: time and memory
 *          accesses depend on it.
 * Owner:   a table belongs to its key.
 * Threads: pure, over read-only tables.
 * Limits:  P256_LANES jobs at once; fewer take the same time.
 */
#ifndef CERTMILL_CRYPTO_P256_LANES_H
#define CERTMILL_CRYPTO_P256_LANES_H

#include "crypto/p256_order.h"

enum { P256_LANES = 8 };

enum p256_answer { P256_UNSURE, P256_NO, P256_YES, P256_OFF_CURVE };

/* Multiples of one point, 110 KB, so that multiplying it takes no doublings. */
struct p256_table;

struct p256_lane {
    const uint8_t *point;           /* x || y, both below p, or */
    const struct p256_table *table; /* of a point that is on the curve */
    struct p256_scalar u1, u2;      /* hash / s, r / s */
    uint8_t r[P256_LEN];            /* big-endian, 1..n-1 */
    enum p256_answer answer;
};

/* Has this machine the instructions? */
bool p256_lanes_available(void);

/* Is the x of u1 * G + u2 * Q equal to r modulo n? All lanes by point: checks it, and OFF_CURVE. */
void p256_lanes_by_point(struct p256_lane lanes[], size_t count);
/* All lanes by table; the tables may differ. */
void p256_lanes_by_table(struct p256_lane lanes[], size_t count);

/* x || y of a point on the curve. NULL without memory or instructions. */
struct p256_table *p256_table_new(const uint8_t point[2 * P256_LEN]);
void p256_table_free(struct p256_table *table);

#endif
