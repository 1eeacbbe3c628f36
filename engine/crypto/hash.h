/* hash.h: running hashes (FIPS 180-4), HMAC (RFC 2104) and PBKDF2 (RFC 8018 5.2), inside
 * engine/crypto.
 *
 * Promise: a state copied goes on from where it was; finishing leaves it as after hash_start. A key
 *          hashed once (hmac_start) costs nothing in the MACs that follow.
 * Owner:   states hold what was hashed: wipe those of secrets. No heap.
 * Threads: pure.
 * Errors:  none. Misuse (HASH_NONE) traps.
 */
#ifndef CERTMILL_CRYPTO_HASH_H
#define CERTMILL_CRYPTO_HASH_H

#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/sha.h>
#include <wolfssl/wolfcrypt/sha256.h>
#include <wolfssl/wolfcrypt/sha512.h>

#include "asn1/alg.h"

struct hash_state {
    enum hash_alg alg;
    union {
        wc_Sha sha1;
        wc_Sha256 sha256;
        wc_Sha512 sha512; /* and SHA-384 */
    };
};

void hash_start(struct hash_state *state, enum hash_alg alg);
void hash_update(struct hash_state *state, struct bytes data);
void hash_finish(struct hash_state *state, uint8_t *out); /* hash_alg_len bytes */

struct hmac_state {
    struct hash_state inner; /* each with its padded key hashed already */
    struct hash_state outer;
};

/* The key may have any length. */
void hmac_start(struct hmac_state *state, enum hash_alg alg, struct bytes key);
void hmac_parts(const struct hmac_state *state, const struct bytes parts[], size_t count,
                uint8_t *out);

/* iterations at least 1 */
void pbkdf2(enum hash_alg alg, struct bytes password, struct bytes salt, uint32_t iterations,
            uint8_t *out, size_t out_len);

#endif
