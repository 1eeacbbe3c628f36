/* softkey.h: private keys in software: for the simulator, the test tokens, CMP signing keys and the
 * load generator. Never for a CA key inside the engine (P8).
 *
 * Owner:   softkey_free wipes the key.
 * Threads: one thread at a time per key, apart from softkey_sign, which keeps no state in the key.
 */
#ifndef CERTMILL_CRYPTO_SOFTKEY_H
#define CERTMILL_CRYPTO_SOFTKEY_H

#include "asn1/x509.h"

struct softkey;

/* bits: RSA modulus; ignored for others. */
enum err softkey_generate(enum key_alg alg, uint32_t bits, struct softkey **out) MUST_USE;
/* PKCS#8 PrivateKeyInfo (RFC 5958) or the algorithm's own form (SEC 1, PKCS#1), DER. */
enum err softkey_import(struct bytes der, struct softkey **out) MUST_USE;
/* The first private key in PEM text: PKCS#8, SEC 1 or PKCS#1, without a password. ERR_NOT_FOUND: none. */
enum err softkey_import_pem(struct bytes text, struct softkey **out) MUST_USE;
/* PKCS#8 DER. */
enum err softkey_export(const struct softkey *key, uint8_t *out, size_t cap,
                        size_t *out_len) MUST_USE;
void softkey_free(struct softkey *key);
enum key_alg softkey_alg(const struct softkey *key);
uint32_t softkey_bits(const struct softkey *key);
/* SubjectPublicKeyInfo DER. */
enum err softkey_spki(const struct softkey *key, uint8_t *out, size_t cap,
                      size_t *out_len) MUST_USE;
/* Signs a message, or a digest already made when `is_digest` (not for Ed25519, ML-DSA). X.509 form.
 */
enum err softkey_sign(const struct softkey *key, enum sig_alg alg, struct bytes data,
                      bool is_digest, uint8_t *out, size_t cap, size_t *out_len) MUST_USE;

#endif
