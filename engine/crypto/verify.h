/* verify.h: public-key signature verification: bytes in, yes or no out.
 *
 * Promise: pure; the same job gives the same result on any thread. A key that is not on its curve,
 *          or a signature that is not strict DER (ECDSA: r, s in 1..n-1), fails.
 * Threads: any; batches are how cores lend each other work.
 * Errors:  ERR_OK, ERR_BAD_SIGNATURE, ERR_BAD_KEY, ERR_BAD_ALG.
 */
#ifndef CERTMILL_CRYPTO_VERIFY_H
#define CERTMILL_CRYPTO_VERIFY_H

#include "asn1/x509.h"

struct verify_key; /* an imported key, read-only after creation, usable on any thread */

struct verify_job {
    enum sig_alg alg;
    enum err result;
    const struct spki *spki;      /* the key as bytes, or */
    const struct verify_key *key; /* already imported (a CA's); wins over spki */
    struct bytes message;         /* hashed here as alg says; */
    struct bytes digest;          /* if not empty: the hash is already made */
    struct bytes signature;       /* X.509 form: DER Ecdsa-Sig-Value, RSA octets, raw Ed25519 */
};

enum err verify_one(const struct verify_job *job) MUST_USE;
/* Sets result of each. One call per batch, so that implementations can work in parallel lanes. */
void verify_batch(struct verify_job *const jobs[], size_t count);

/* Imports once (checks the point fully); NULL on a bad key. */
struct verify_key *verify_key_new(const struct spki *spki);
void verify_key_free(struct verify_key *key);

/* Raw token form to X.509 form (PKCS#11 v3.0 6.3.1: r || s of equal length): DER Ecdsa-Sig-Value
 * into out (cap at least 2 * (n + 3) + 4). */
bool ecdsa_raw_to_der(struct bytes raw, uint8_t *out, size_t cap, size_t *out_len) MUST_USE;
bool ecdsa_der_to_raw(struct bytes der, uint8_t *out, size_t coordinate_len) MUST_USE;

#endif
