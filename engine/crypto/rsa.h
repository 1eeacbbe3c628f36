/* rsa.h: RSA signatures and encryption (RFC 8017), inside engine/crypto.
 *
 * Promise: verification builds the one encoding that is right and compares (PKCS#1 v1.5), so there
 * is no parser to fool; PSS has the salt as long as the hash and MGF1 with the same hash, as the
 * algorithm identifiers certmill writes and accepts say (RFC 4055 3.1). Threads: pure. Limits:
 * RSA_BITS_MIN..RSA_BITS_MAX, exponents 3..2^32, odd.
 */
#ifndef CERTMILL_CRYPTO_RSA_H
#define CERTMILL_CRYPTO_RSA_H

#include "asn1/alg.h"

enum { RSA_BITS_MIN = 2048, RSA_BITS_MAX = 4096, RSA_LEN_MAX = RSA_BITS_MAX / 8 };

/* ERR_BAD_KEY when outside of the limits; bits is the modulus's own length. */
enum err rsa_public_check(struct bytes modulus, struct bytes exponent) MUST_USE;
/* RFC 8017 5.2.2 RSAVP1: out has modulus.len bytes. ERR_BAD_SIGNATURE when not of that length or
 * not less than the modulus. */
enum err rsa_public(struct bytes modulus, struct bytes exponent, struct bytes in,
                    uint8_t *out) MUST_USE;
enum err rsa_verify(enum sig_alg alg, struct bytes modulus, struct bytes exponent,
                    struct bytes digest, struct bytes signature) MUST_USE;
/* The encoded message that the private operation signs: em_len bytes for a modulus of that many
 * bytes and `bits` bits. false: alg is not RSA or the modulus too short for the hash. */
bool rsa_encode(enum sig_alg alg, struct bytes digest, uint32_t bits, uint8_t *out_em,
                size_t em_len) MUST_USE;

/* Encryption; out has modulus.len bytes. ERR_BAD_KEY as rsa_public_check; ERR_NO_SPACE: the message
 * is too long for the modulus. RSAES-OAEP (7.1.1) has SHA-256, MGF1 with SHA-256 and no label;
 * RSAES-PKCS1-v1_5 is 7.2.1. */
enum err rsa_encrypt_oaep(struct bytes modulus, struct bytes exponent, struct bytes message,
                          uint8_t *out) MUST_USE;
enum err rsa_encrypt_pkcs1(struct bytes modulus, struct bytes exponent, struct bytes message,
                           uint8_t *out) MUST_USE;

/* MGF1 (B.2.1): xors the mask that seed gives into data. */
void rsa_mgf1_xor(enum hash_alg hash, const uint8_t *seed, size_t seed_len, uint8_t *data,
                  size_t data_len);

#endif
