/* mac_params.c: protectionAlg of messages under a shared secret, in and out. */
#include "crypto/mac.h"

#include "asn1/der.h"
#include "asn1/oid.h"
#include "crypto/alg_put.h"

/* AlgorithmIdentifier: its identifier, and its parameters as what is left. */
static bool get_algorithm(struct bytes *reader, struct bytes *out_oid, struct bytes *out_parameters)
{
    return der_get(reader, DER_SEQUENCE, out_parameters) && der_get_oid(out_parameters, out_oid);
}

/* RFC 5754 2, RFC 8018 B.1.2: NULL or nothing. */
static bool is_null_or_absent(struct bytes parameters)
{
    return parameters.len == 0 || bytes_eq(parameters, BYTES_LIT("\x05\x00"));
}

static enum err get_hash(struct bytes *reader, enum hash_alg *out)
{
    struct bytes oid, parameters;
    if (!get_algorithm(reader, &oid, &parameters))
        return ERR_BAD_DER;
    enum hash_alg alg = hash_alg_from_oid(oid);
    if (alg == HASH_NONE || !is_null_or_absent(parameters))
        return ERR_BAD_ALG;
    *out = alg;
    return ERR_OK;
}

static enum err get_hmac(struct bytes *reader, enum hash_alg *out, bool *out_is_ipsec_oid)
{
    struct bytes oid, parameters;
    if (!get_algorithm(reader, &oid, &parameters))
        return ERR_BAD_DER;
    enum hash_alg alg = hmac_alg_from_oid(oid);
    if (alg == HASH_NONE || !is_null_or_absent(parameters))
        return ERR_BAD_ALG;
    *out = alg;
    *out_is_ipsec_oid = bytes_eq(oid, OID_HMAC_SHA1_IPSEC);
    return ERR_OK;
}

static enum err get_salt(struct bytes *reader, struct mac_params *out)
{
    struct bytes salt;
    if (!der_get(reader, DER_OCTET_STRING, &salt))
        return ERR_BAD_DER;
    if (salt.len < MAC_SALT_MIN || salt.len > MAC_SALT_MAX)
        return ERR_BAD_ALG;
    memcpy(out->salt, salt.ptr, salt.len);
    out->salt_len = (uint8_t)salt.len;
    return ERR_OK;
}

/* An INTEGER within its limits; one that is too large for us is not malformed. */
static enum err get_number(struct bytes *reader, uint32_t min, uint32_t max, uint32_t *out)
{
    struct bytes contents, number = *reader;
    uint64_t value;
    if (!der_get_integer(reader, &contents) || contents.ptr[0] & 0x80)
        return ERR_BAD_DER;
    if (!der_get_u64(&number, &value) || value < min || value > max)
        return ERR_BAD_ALG;
    *out = (uint32_t)value;
    return ERR_OK;
}

static enum err get_iterations(struct bytes *reader, struct mac_params *out)
{
    return get_number(reader, MAC_ITERATIONS_MIN, MAC_ITERATIONS_MAX, &out->iterations);
}

/* RFC 9810 5.1.3.1: PBMParameter ::= SEQUENCE { salt, owf, iterationCount, mac } */
static enum err get_pbm(struct bytes parameters, struct mac_params *out)
{
    struct bytes body;
    if (!der_get(&parameters, DER_SEQUENCE, &body) || parameters.len != 0)
        return ERR_BAD_DER;
    enum err err = get_salt(&body, out);
    if (!err)
        err = get_hash(&body, &out->hash);
    if (!err)
        err = get_iterations(&body, out);
    if (!err)
        err = get_hmac(&body, &out->mac, &out->is_ipsec_oid);
    if (!err && body.len != 0)
        err = ERR_BAD_DER;
    return err;
}

/* RFC 8018 A.2: PBKDF2-params ::= SEQUENCE { salt CHOICE { specified OCTET STRING, otherSource },
 * iterationCount, keyLength OPTIONAL, prf DEFAULT hmacWithSHA1 } */
static enum err get_pbkdf2_params(struct bytes parameters, struct mac_params *out)
{
    struct bytes body;
    if (!der_get(&parameters, DER_SEQUENCE, &body) || parameters.len != 0)
        return ERR_BAD_DER;
    if (der_peek(body) == DER_SEQUENCE) /* otherSource: reserved, without a meaning so far */
        return ERR_BAD_ALG;
    enum err err = get_salt(&body, out);
    if (!err)
        err = get_iterations(&body, out);
    if (!err && der_peek(body) == DER_INTEGER) {
        uint32_t key_len;
        err = get_number(&body, MAC_KEY_LEN_MIN, MAC_KEY_LEN_MAX, &key_len);
        if (!err)
            out->key_len = (uint8_t)key_len;
    }
    if (err)
        return err;
    out->hash = HASH_SHA1;
    bool is_ipsec_oid = false;
    if (body.len != 0) /* the default written out is taken: encoders that do so are about */
        err = get_hmac(&body, &out->hash, &is_ipsec_oid);
    if (!err && is_ipsec_oid) /* RFC 8018 B.1.1 has the other one for a prf */
        err = ERR_BAD_ALG;
    if (!err && body.len != 0)
        err = ERR_BAD_DER;
    return err;
}

/* RFC 8018 A.5: PBMAC1-params ::= SEQUENCE { keyDerivationFunc, messageAuthScheme } */
static enum err get_pbmac1(struct bytes parameters, struct mac_params *out)
{
    struct bytes body, oid, kdf;
    if (!der_get(&parameters, DER_SEQUENCE, &body) || parameters.len != 0 ||
        !get_algorithm(&body, &oid, &kdf))
        return ERR_BAD_DER;
    if (!bytes_eq(oid, OID_PBKDF2))
        return ERR_BAD_ALG;
    enum err err = get_pbkdf2_params(kdf, out);
    if (!err)
        err = get_hmac(&body, &out->mac, &out->is_ipsec_oid);
    if (!err && body.len != 0)
        err = ERR_BAD_DER;
    return err;
}

enum err mac_params_decode(struct bytes alg_der, struct mac_params *out)
{
    struct bytes oid, parameters;
    struct mac_params params = {0};
    if (!get_algorithm(&alg_der, &oid, &parameters) || alg_der.len != 0)
        return ERR_BAD_DER;
    enum err err = ERR_BAD_ALG;
    if (bytes_eq(oid, OID_PBM)) {
        params.kind = MAC_PBM;
        err = get_pbm(parameters, &params);
    } else if (bytes_eq(oid, OID_PBMAC1)) {
        params.kind = MAC_PBMAC1;
        err = get_pbmac1(parameters, &params);
    }
    if (!err)
        *out = params;
    return err;
}

bool mac_params_are_valid(const struct mac_params *params)
{
    bool is_key_len_valid =
        params->key_len == 0 || (params->kind == MAC_PBMAC1 && params->key_len >= MAC_KEY_LEN_MIN &&
                                 params->key_len <= MAC_KEY_LEN_MAX);
    return (params->kind == MAC_PBM || params->kind == MAC_PBMAC1) && is_key_len_valid &&
           hash_alg_len(params->hash) != 0 && hash_alg_len(params->mac) != 0 &&
           (!params->is_ipsec_oid || params->mac == HASH_SHA1) &&
           params->iterations >= MAC_ITERATIONS_MIN && params->iterations <= MAC_ITERATIONS_MAX &&
           params->salt_len >= MAC_SALT_MIN && params->salt_len <= MAC_SALT_MAX;
}

static struct bytes mac_oid(const struct mac_params *params)
{
    return params->is_ipsec_oid ? OID_HMAC_SHA1_IPSEC : hmac_alg_oid(params->mac);
}

/* Without NULLs (RFC 5754 2, RFC 3370 3.1), as OpenSSL writes it. */
static void put_pbm(struct der_builder *builder, const struct mac_params *params)
{
    der_put(builder, DER_OCTET_STRING, bytes_of(params->salt, params->salt_len));
    alg_put_bare(builder, hash_alg_oid(params->hash));
    der_put_u64(builder, DER_INTEGER, params->iterations);
    alg_put_bare(builder, mac_oid(params));
}

/* With NULLs (RFC 8018 B.1.2). */
static void put_pbmac1(struct der_builder *builder, const struct mac_params *params)
{
    struct pbkdf2_alg kdf = {bytes_of(params->salt, params->salt_len), params->iterations,
                             params->key_len, params->hash};
    alg_put_pbkdf2(builder, DER_SEQUENCE, &kdf);
    alg_put_null(builder, mac_oid(params));
}

enum err mac_params_build(const struct mac_params *params, uint8_t *out, size_t cap,
                          size_t *out_len)
{
    if (!mac_params_are_valid(params))
        return ERR_BAD_ALG;
    struct der_builder builder = der_builder_of(out, cap);
    struct bytes der;
    der_open(&builder, DER_SEQUENCE);
    der_put(&builder, DER_OID, params->kind == MAC_PBM ? OID_PBM : OID_PBMAC1);
    der_open(&builder, DER_SEQUENCE);
    if (params->kind == MAC_PBM)
        put_pbm(&builder, params);
    else
        put_pbmac1(&builder, params);
    der_close(&builder);
    der_close(&builder);
    if (!der_finish(&builder, &der))
        return ERR_NO_SPACE;
    *out_len = der.len;
    return ERR_OK;
}
