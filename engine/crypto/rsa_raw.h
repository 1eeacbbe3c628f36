/* rsa_raw.h: PKCS#1 v1.5 block type 1 around any bytes (RFC 8017 9.2 without DigestInfo), which is
 * what PKCS#11's CKM_RSA_PKCS does: the caller gives the DigestInfo.
 *
 * Promise: for tokens of our own (hsm/sim) alone; the engine signs and verifies with algorithms.
 * Threads: pure.
 * Limits:  data of at most modulus length - 11 bytes: ERR_NO_SPACE.
 */
#ifndef CERTMILL_CRYPTO_RSA_RAW_H
#define CERTMILL_CRYPTO_RSA_RAW_H

#include "crypto/softkey.h"

enum err rsa_raw_sign(const struct softkey *key, struct bytes data, uint8_t *out, size_t cap,
                      size_t *out_len) MUST_USE;
enum err rsa_raw_verify(const struct spki *spki, struct bytes data,
                        struct bytes signature) MUST_USE;

#endif
