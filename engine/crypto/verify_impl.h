/* verify_impl.h: what verify.c (every algorithm, one at a time) and verify_p256.c (P-256 in lanes)
 * share.
 */
#ifndef CERTMILL_CRYPTO_VERIFY_IMPL_H
#define CERTMILL_CRYPTO_VERIFY_IMPL_H

#include "crypto/digest.h"
#include "crypto/ecdsa.h"
#include "crypto/p256_lanes.h"
#include "crypto/verify.h"

struct verify_key {
    struct spki spki; /* views into der */
    struct ec_point point;
    struct p256_table *table; /* NULL: this machine has no lanes, or the key is another */
    uint8_t der[SPKI_DER_MAX];
};

static inline const struct spki *verify_spki(const struct verify_job *job)
{
    return job->key ? &job->key->spki : job->spki;
}

/* What the signature is over: the digest given or made, or the message. */
bool verify_message(const struct verify_job *job, uint8_t digest[DIGEST_LEN_MAX],
                    struct bytes *out) MUST_USE;
/* By wolfCrypt. */
enum err verify_alone(const struct verify_job *job) MUST_USE;

/* Jobs whose keys are P-256. Whatever is out of the ordinary goes through verify_alone, so that a
 * job's result does not depend on its company. */
enum { VERIFY_P256_MAX = 32 };
void verify_p256(struct verify_job *const jobs[], size_t count);

#endif
