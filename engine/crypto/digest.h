/* digest.h: hashes over views (FIPS 180-4).
 *
 * Threads: pure, apart from struct digest which one thread owns.
 */
#ifndef CERTMILL_CRYPTO_DIGEST_H
#define CERTMILL_CRYPTO_DIGEST_H

#include "asn1/alg.h"

enum { DIGEST_LEN_MAX = 64, SHA1_LEN = 20, SHA256_LEN = 32 };

/* out has hash_alg_len(alg) bytes. */
void digest_once(enum hash_alg alg, struct bytes data, uint8_t *out);
void sha256_once(struct bytes data, uint8_t out[SHA256_LEN]);

struct sha256_stream {
    _Alignas(16) uint8_t opaque[512];
};
void sha256_start(struct sha256_stream *stream);
void sha256_update(struct sha256_stream *stream, struct bytes data);
void sha256_finish(struct sha256_stream *stream, uint8_t out[SHA256_LEN]);

/* HMAC (RFC 2104); out has hash_alg_len bytes. */
void hmac_once(enum hash_alg alg, struct bytes key, struct bytes data, uint8_t *out);

#endif
