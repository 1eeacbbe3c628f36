/* alg_put.h: AlgorithmIdentifiers into a builder, inside engine/crypto.
 *
 * Promise: as der_builder: failures are sticky.
 */
#ifndef CERTMILL_CRYPTO_ALG_PUT_H
#define CERTMILL_CRYPTO_ALG_PUT_H

#include "asn1/alg.h"
#include "asn1/der.h"

void alg_put_bare(struct der_builder *builder, struct bytes oid); /* without parameters */
void alg_put_null(struct der_builder *builder, struct bytes oid); /* with NULL */

/* RFC 8018 A.2. key_len 0 leaves keyLength out; HMAC-SHA1 is the default and is left out too. */
struct pbkdf2_alg {
    struct bytes salt;
    uint32_t iterations;
    uint32_t key_len;
    enum hash_alg prf;
};
/* tag: DER_SEQUENCE, or what stands for it. */
void alg_put_pbkdf2(struct der_builder *builder, uint8_t tag, const struct pbkdf2_alg *alg);

#endif
