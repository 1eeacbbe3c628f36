/* keywrap.h: secrets kept under a PIN: a key made from it (PBKDF2, RFC 8018 5.2), and AES-256-GCM
 * (SP 800-38D) around what is kept.
 *
 * Promise: what keywrap_open gives out is what keywrap_seal was given, under the same key and the
 *          same context bytes, or it fails and out is wiped.
 * Threads: pure.
 * Errors:  ERR_NO_SPACE; ERR_PIN_WRONG when the tag does not fit: another key, or other bytes.
 * Limits:  the nonce is random, so seal at most 2^32 times under one key (SP 800-38D 8.3).
 */
#ifndef CERTMILL_CRYPTO_KEYWRAP_H
#define CERTMILL_CRYPTO_KEYWRAP_H

#include "base/bytes.h"

enum {
    KEYWRAP_KEY_LEN = 32,
    KEYWRAP_NONCE_LEN = 12,
    KEYWRAP_TAG_LEN = 16,
    KEYWRAP_OVERHEAD = KEYWRAP_NONCE_LEN + KEYWRAP_TAG_LEN,
};

/* HMAC-SHA-256 as the pseudorandom function. */
enum err keywrap_derive(struct bytes pin, struct bytes salt, uint32_t iterations,
                        uint8_t out[KEYWRAP_KEY_LEN]) MUST_USE;
/* nonce || ciphertext || tag: plain.len + KEYWRAP_OVERHEAD bytes. */
enum err keywrap_seal(const uint8_t key[KEYWRAP_KEY_LEN], struct bytes context, struct bytes plain,
                      uint8_t *out, size_t cap, size_t *out_len) MUST_USE;
enum err keywrap_open(const uint8_t key[KEYWRAP_KEY_LEN], struct bytes context, struct bytes sealed,
                      uint8_t *out, size_t cap, size_t *out_len) MUST_USE;

#endif
