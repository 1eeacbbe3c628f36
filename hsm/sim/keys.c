/* Keys between their DER forms (engine/crypto/softkey.h) and PKCS#11 attributes. */
#include "asn1/der.h"
#include "asn1/oid.h"
#include "base/secret.h"
#include "hsm/sim/object.h"

enum { PKCS8_MAX = 8 * 1024, RSA_NUMBERS = 8 };

static const uint8_t params_p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
static const uint8_t params_p384[] = {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22};
static const uint8_t params_ed25519[] = {0x06, 0x03, 0x2b, 0x65, 0x70};
/* PKCS#11 3.0 6.3.5 also allows the curve's name */
static const uint8_t params_ed25519_name[] = {0x13, 0x0c, 'e', 'd', 'w', 'a', 'r',
                                              'd',  's',  '2', '5', '5', '1', '9'};

enum key_alg curve_from_params(struct bytes params)
{
    if (bytes_eq(params, BYTES_ARRAY(params_p256)))
        return KEY_EC_P256;
    if (bytes_eq(params, BYTES_ARRAY(params_p384)))
        return KEY_EC_P384;
    if (bytes_eq(params, BYTES_ARRAY(params_ed25519)) ||
        bytes_eq(params, BYTES_ARRAY(params_ed25519_name)))
        return KEY_ED25519;
    return KEY_NONE;
}

static struct bytes params_of(enum key_alg alg)
{
    return alg == KEY_EC_P256   ? BYTES_ARRAY(params_p256)
           : alg == KEY_EC_P384 ? BYTES_ARRAY(params_p384)
                                : BYTES_ARRAY(params_ed25519);
}

static CK_KEY_TYPE type_of(enum key_alg alg)
{
    switch (alg) {
    case KEY_RSA:
        return CKK_RSA;
    case KEY_ED25519:
        return CKK_EC_EDWARDS;
    case KEY_ML_DSA_44:
    case KEY_ML_DSA_65:
        return SIM_CKK_ML_DSA;
    default:
        return CKK_EC;
    }
}

/* The first that failed; both are done, in whatever order. */
static CK_RV both(CK_RV first, CK_RV second)
{
    return first != CKR_OK ? first : second;
}

static CK_RV set_bytes(struct object *object, CK_ATTRIBUTE_TYPE type, struct bytes value)
{
    return object_set(object, type, value.ptr, value.len);
}

/* --- the public part --- */

static CK_RV set_point(struct object *object, struct bytes point)
{
    uint8_t der[256];
    struct der_builder builder = der_builder_of(der, sizeof der);
    der_put(&builder, DER_OCTET_STRING, point); /* PKCS#11 2.40 2.3.3 */
    struct bytes value;
    if (!der_finish(&builder, &value))
        return CKR_GENERAL_ERROR;
    return set_bytes(object, CKA_EC_POINT, value);
}

static CK_RV set_public_part(struct object *object, const struct spki *spki)
{
    CK_RV rv = object_set_ulong(object, CKA_KEY_TYPE, type_of(spki->alg));
    rv = both(rv, set_bytes(object, CKA_PUBLIC_KEY_INFO, spki->der));
    bool is_public = object_ulong(object, CKA_CLASS, 0) == CKO_PUBLIC_KEY;
    switch (type_of(spki->alg)) {
    case CKK_RSA:
        rv = both(rv, set_bytes(object, CKA_MODULUS, spki->modulus));
        rv = both(rv, set_bytes(object, CKA_PUBLIC_EXPONENT, spki->exponent));
        return is_public ? both(rv, object_set_ulong(object, CKA_MODULUS_BITS, spki->bits)) : rv;
    case SIM_CKK_ML_DSA:
        rv = both(rv, object_set_ulong(object, SIM_CKA_PARAMETER_SET,
                                       spki->alg == KEY_ML_DSA_44 ? SIM_CKP_ML_DSA_44
                                                                  : SIM_CKP_ML_DSA_65));
        return is_public ? both(rv, set_bytes(object, CKA_VALUE, spki->key)) : rv;
    default:
        if (!object_has(object, CKA_EC_PARAMS))
            rv = both(rv, set_bytes(object, CKA_EC_PARAMS, params_of(spki->alg)));
        return is_public ? both(rv, set_point(object, spki->key)) : rv;
    }
}

/* --- the secret part --- */

static bool ec_value(struct bytes octets, struct bytes *out)
{
    struct bytes inner;
    uint64_t version;
    return der_get(&octets, DER_SEQUENCE, &inner) && der_get_u64(&inner, &version) &&
           der_get(&inner, DER_OCTET_STRING, out);
}

static CK_RV set_rsa_secret(struct object *object, struct bytes octets)
{
    static const CK_ATTRIBUTE_TYPE types[RSA_NUMBERS] = {0,
                                                         0,
                                                         CKA_PRIVATE_EXPONENT,
                                                         CKA_PRIME_1,
                                                         CKA_PRIME_2,
                                                         CKA_EXPONENT_1,
                                                         CKA_EXPONENT_2,
                                                         CKA_COEFFICIENT};
    struct bytes inner, number;
    uint64_t version;
    if (!der_get(&octets, DER_SEQUENCE, &inner) || !der_get_u64(&inner, &version))
        return CKR_GENERAL_ERROR;
    CK_RV rv = CKR_OK;
    for (int i = 0; i < RSA_NUMBERS && rv == CKR_OK; i++) {
        if (!der_get_integer(&inner, &number))
            return CKR_GENERAL_ERROR;
        if (number.len > 1 && number.ptr[0] == 0)
            number = bytes_of(number.ptr + 1, number.len - 1);
        if (types[i])
            rv = set_bytes(object, types[i], number);
    }
    return rv;
}

static CK_RV set_secret_part(struct object *object, enum key_alg alg, struct bytes pkcs8)
{
    CK_RV rv = set_bytes(object, SIM_CKA_PKCS8, pkcs8);
    struct bytes body, algorithm, octets, value;
    uint64_t version;
    if (!der_get(&pkcs8, DER_SEQUENCE, &body) || !der_get_u64(&body, &version) ||
        !der_get(&body, DER_SEQUENCE, &algorithm) || !der_get(&body, DER_OCTET_STRING, &octets))
        return CKR_GENERAL_ERROR;
    switch (alg) {
    case KEY_RSA:
        return both(rv, set_rsa_secret(object, octets));
    case KEY_EC_P256:
    case KEY_EC_P384:
        return ec_value(octets, &value) ? both(rv, set_bytes(object, CKA_VALUE, value))
                                        : CKR_GENERAL_ERROR;
    case KEY_ED25519:
        return der_get(&octets, DER_OCTET_STRING, &value)
                   ? both(rv, set_bytes(object, CKA_VALUE, value))
                   : CKR_GENERAL_ERROR;
    default: /* ML-DSA: the seed stays inside */
        return rv;
    }
}

CK_RV object_from_softkey(struct object *object, const struct softkey *key)
{
    uint8_t der[SPKI_DER_MAX], pkcs8[PKCS8_MAX];
    size_t der_len, pkcs8_len;
    struct spki spki;
    if (softkey_spki(key, der, sizeof der, &der_len) || spki_decode(bytes_of(der, der_len), &spki))
        return CKR_GENERAL_ERROR;
    CK_RV rv = set_public_part(object, &spki);
    if (rv != CKR_OK || object_ulong(object, CKA_CLASS, 0) != CKO_PRIVATE_KEY)
        return rv;
    if (softkey_export(key, pkcs8, sizeof pkcs8, &pkcs8_len))
        return CKR_GENERAL_ERROR;
    rv = set_secret_part(object, spki.alg, bytes_of(pkcs8, pkcs8_len));
    secret_wipe(pkcs8, sizeof pkcs8);
    return rv;
}

/* --- keys that are given --- */

static void put_ec_private(struct der_builder *builder, const struct object *object)
{
    der_open(builder, DER_SEQUENCE); /* RFC 5915 ECPrivateKey */
    der_put_u64(builder, DER_INTEGER, 1);
    der_put(builder, DER_OCTET_STRING, object_get(object, CKA_VALUE));
    der_open(builder, DER_CONTEXT_CONSTRUCTED(0));
    der_put_raw(builder, object_get(object, CKA_EC_PARAMS));
    der_close(builder);
    der_close(builder);
}

static void put_ed25519_private(struct der_builder *builder, const struct object *object)
{
    der_open(builder, DER_SEQUENCE); /* RFC 8410 7 */
    der_put_u64(builder, DER_INTEGER, 0);
    der_open(builder, DER_SEQUENCE);
    der_put(builder, DER_OID, OID_ED25519);
    der_close(builder);
    der_open(builder, DER_OCTET_STRING);
    der_put(builder, DER_OCTET_STRING, object_get(object, CKA_VALUE));
    der_close(builder);
    der_close(builder);
}

static void put_rsa_private(struct der_builder *builder, const struct object *object)
{
    static const CK_ATTRIBUTE_TYPE types[RSA_NUMBERS] = {
        CKA_MODULUS, CKA_PUBLIC_EXPONENT, CKA_PRIVATE_EXPONENT, CKA_PRIME_1,
        CKA_PRIME_2, CKA_EXPONENT_1,      CKA_EXPONENT_2,       CKA_COEFFICIENT};
    der_open(builder, DER_SEQUENCE); /* RFC 8017 A.1.2 */
    der_put_u64(builder, DER_INTEGER, 0);
    for (int i = 0; i < RSA_NUMBERS; i++)
        der_put_unsigned(builder, object_get(object, types[i]));
    der_close(builder);
}

CK_RV object_import_private(struct object *object)
{
    uint8_t der[PKCS8_MAX];
    struct der_builder builder = der_builder_of(der, sizeof der);
    enum key_alg curve = curve_from_params(object_get(object, CKA_EC_PARAMS));
    CK_ULONG type = object_ulong(object, CKA_KEY_TYPE, CK_UNAVAILABLE_INFORMATION);
    if (type == CKK_RSA)
        put_rsa_private(&builder, object);
    else if (type == CKK_EC && (curve == KEY_EC_P256 || curve == KEY_EC_P384))
        put_ec_private(&builder, object);
    else if ((type == CKK_EC_EDWARDS || type == CKK_EC) && curve == KEY_ED25519)
        put_ed25519_private(&builder, object);
    else
        return CKR_TEMPLATE_INCONSISTENT;
    struct bytes given;
    struct softkey *key = NULL;
    CK_RV rv = CKR_ATTRIBUTE_VALUE_INVALID;
    if (der_finish(&builder, &given) && !softkey_import(given, &key))
        rv = object_from_softkey(object, key);
    softkey_free(key);
    secret_wipe(der, sizeof der);
    return rv;
}

static bool put_public(struct der_builder *builder, const struct object *object, CK_ULONG type)
{
    enum key_alg curve = curve_from_params(object_get(object, CKA_EC_PARAMS));
    struct bytes value = object_get(object, CKA_EC_POINT), point = value, reader = value;
    if (type != CKK_RSA && (curve == KEY_NONE || !der_get(&reader, DER_OCTET_STRING, &point)))
        return false;
    der_open(builder, DER_SEQUENCE);
    der_open(builder, DER_SEQUENCE);
    if (type == CKK_RSA) {
        uint8_t key[1100];
        struct der_builder inner = der_builder_of(key, sizeof key);
        struct bytes der;
        der_open(&inner, DER_SEQUENCE);
        der_put_unsigned(&inner, object_get(object, CKA_MODULUS));
        der_put_unsigned(&inner, object_get(object, CKA_PUBLIC_EXPONENT));
        der_close(&inner);
        if (!der_finish(&inner, &der))
            return false;
        der_put(builder, DER_OID, OID_RSA);
        der_put_null(builder);
        der_close(builder);
        der_put_bits(builder, der);
    } else {
        der_put(builder, DER_OID, curve == KEY_ED25519 ? OID_ED25519 : OID_EC_PUBLIC_KEY);
        if (curve != KEY_ED25519)
            der_put_raw(builder, params_of(curve));
        der_close(builder);
        der_put_bits(builder, point);
    }
    der_close(builder);
    return true;
}

CK_RV object_import_public(struct object *object)
{
    uint8_t der[SPKI_DER_MAX];
    struct der_builder builder = der_builder_of(der, sizeof der);
    struct bytes value;
    struct spki spki;
    CK_ULONG type = object_ulong(object, CKA_KEY_TYPE, CK_UNAVAILABLE_INFORMATION);
    if (type != CKK_RSA && type != CKK_EC && type != CKK_EC_EDWARDS)
        return CKR_TEMPLATE_INCONSISTENT;
    if (!put_public(&builder, object, type) || !der_finish(&builder, &value) ||
        spki_decode(value, &spki))
        return CKR_ATTRIBUTE_VALUE_INVALID;
    return set_public_part(object, &spki);
}
