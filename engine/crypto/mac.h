/* mac.h: message authentication with a shared secret, as CMP does it: PBM (RFC 9810 5.1.3.1, RFC
 * 9045 section 4) and PBMAC1 (RFC 8018 section 7.1), both with HMAC.
 *
 * Promise: parameters are within their limits before anything is computed with them; a MAC is
 *          compared in constant time.
 * Use:     answer with the parameters of the request (RFC 9810 5.1.3.1, last note): their key is
 *          there already.
 * Owner:   struct mac_params and struct mac_key are plain data without pointers; whoever holds a
 *          struct mac_key wipes it (secret_wipe).
 * Threads: pure. mac_key_derive takes as long as mac_cost says: large ones belong off the cores.
 * Errors:  ERR_BAD_DER; ERR_BAD_ALG: another algorithm, or parameters outside of the limits;
 *          ERR_BAD_SIGNATURE: the MAC is another one; ERR_NO_SPACE.
 * Limits:  MAC_* (limits.h).
 */
#ifndef CERTMILL_CRYPTO_MAC_H
#define CERTMILL_CRYPTO_MAC_H

#include "asn1/alg.h"
#include "limits.h"

enum { MAC_LEN_MAX = 64 };

enum mac_kind { MAC_NONE, MAC_PBM, MAC_PBMAC1 };

struct mac_params {
    enum mac_kind kind;
    enum hash_alg hash; /* PBM: the one-way function; PBMAC1: the hash of PBKDF2's HMAC */
    enum hash_alg mac;  /* the hash of the HMAC over the message */
    uint32_t iterations;
    uint8_t key_len;            /* PBMAC1's keyLength; 0: as long as `mac`, and always so for PBM */
    bool is_ipsec_oid;          /* HMAC-SHA1 goes by 1.3.6.1.5.5.8.1.2, not by 1.2.840.113549.2.7 */
    uint8_t salt_len;           /* MAC_SALT_MIN..MAC_SALT_MAX */
    uint8_t salt[MAC_SALT_MAX]; /* zeros behind salt_len */
};

/* A protectionAlg AlgorithmIdentifier, whole. */
enum err mac_params_decode(struct bytes alg_der, struct mac_params *out) MUST_USE;
/* Within the limits and of algorithms certmill knows? (for those that were not decoded) */
bool mac_params_are_valid(const struct mac_params *params);
/* The whole AlgorithmIdentifier. ERR_BAD_ALG when not valid; MAC_PARAMS_DER_MAX always suffices. */
enum { MAC_PARAMS_DER_MAX = 192 };
enum err mac_params_build(const struct mac_params *params, uint8_t *out, size_t cap,
                          size_t *out_len) MUST_USE;
/* Iterations, each weighted with the blocks it hashes: about the number of SHA-256 compressions
 * that mac_key_derive takes. */
uint32_t mac_cost(const struct mac_params *params);

struct mac_key {
    enum hash_alg hash; /* of the HMAC; the MAC has hash_alg_len(hash) bytes */
    uint32_t len;
    uint8_t bytes[MAC_KEY_LEN_MAX];
};

/* The secret has 1..MAC_SECRET_MAX bytes: ERR_NO_SPACE. The costly part. */
enum err mac_key_derive(const struct mac_params *params, struct bytes secret,
                        struct mac_key *out) MUST_USE;
/* Over the parts as if they were one; at most MAC_PARTS_MAX. */
void mac_compute(const struct mac_key *key, const struct bytes parts[], size_t part_count,
                 uint8_t out[MAC_LEN_MAX], size_t *out_len);
enum err mac_verify(const struct mac_key *key, const struct bytes parts[], size_t part_count,
                    struct bytes mac) MUST_USE;

#endif
