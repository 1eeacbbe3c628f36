#include "crypto/alg_put.h"

#include "asn1/oid.h"

void alg_put_bare(struct der_builder *builder, struct bytes oid)
{
    der_open(builder, DER_SEQUENCE);
    der_put(builder, DER_OID, oid);
    der_close(builder);
}

void alg_put_null(struct der_builder *builder, struct bytes oid)
{
    der_open(builder, DER_SEQUENCE);
    der_put(builder, DER_OID, oid);
    der_put_null(builder);
    der_close(builder);
}

void alg_put_pbkdf2(struct der_builder *builder, uint8_t tag, const struct pbkdf2_alg *alg)
{
    der_open(builder, tag);
    der_put(builder, DER_OID, OID_PBKDF2);
    der_open(builder, DER_SEQUENCE);
    der_put(builder, DER_OCTET_STRING, alg->salt);
    der_put_u64(builder, DER_INTEGER, alg->iterations);
    if (alg->key_len != 0)
        der_put_u64(builder, DER_INTEGER, alg->key_len);
    if (alg->prf != HASH_SHA1)
        alg_put_null(builder, hmac_alg_oid(alg->prf));
    der_close(builder);
    der_close(builder);
}
