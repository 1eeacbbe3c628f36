#include <stdio.h>
#include <stdlib.h>

#include "asn1/der.h"
#include "asn1/oid.h"
#include "asn1/x509.h"
#include "base/secret.h"
#include "hsm/p11/mech.h"
#include "hsm/p11/module.h"
#include "hsm/p11/rv.h"
#include "hsm/p11/uri.h"

enum { FIND_CHUNK = 64, ATTRIBUTE_MAX = SPKI_DER_MAX };

/* A token that does not have an attribute says so. One that is just failing, or whose session was
 * lost between two reads, says something else, and then nothing is known of the key. Some have odd
 * answers for attributes they do not know, so a mere failure counts for those that all keys have.
 */
static void note_trouble(struct p11_session *session, CK_ATTRIBUTE_TYPE type, CK_RV rv)
{
    bool always_there = type == CKA_KEY_TYPE || type == CKA_SENSITIVE || type == CKA_EXTRACTABLE ||
                        type == CKA_SIGN || type == CKA_EC_PARAMS;
    switch (rv_class_default(rv)) {
    case RV_CLASS_REOPEN:
    case RV_CLASS_LOGIN:
    case RV_CLASS_FIND_KEY:
    case RV_CLASS_REINIT:
        session->trouble = rv;
        break;
    case RV_CLASS_RETRY:
        if (always_there)
            session->trouble = rv;
        break;
    default:
        break;
    }
}

/* False when the token does not have or give the attribute, or it is longer than cap. */
static bool get_attribute(struct p11_session *session, CK_OBJECT_HANDLE object,
                          CK_ATTRIBUTE_TYPE type, void *out, size_t cap, size_t *out_len)
{
    CK_ATTRIBUTE attribute = {.type = type, .pValue = out, .ulValueLen = cap};
    CK_RV rv =
        session->module->functions->C_GetAttributeValue(session->handle, object, &attribute, 1);
    note_trouble(session, type, rv);
    if (rv != CKR_OK || attribute.ulValueLen > cap) /* also "unavailable", ~0 */
        return false;
    *out_len = attribute.ulValueLen;
    return true;
}

static bool get_ulong(struct p11_session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                      CK_ULONG *out)
{
    CK_ULONG value;
    size_t len;
    if (!get_attribute(session, object, type, &value, sizeof(value), &len) || len != sizeof(value))
        return false;
    *out = value;
    return true;
}

static bool get_bool(struct p11_session *session, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type,
                     bool absent)
{
    CK_BBOOL value;
    size_t len;
    if (!get_attribute(session, object, type, &value, sizeof(value), &len) || len != sizeof(value))
        return absent;
    return value != CK_FALSE;
}

/* Up to cap objects; *out_count may say cap although there are more. */
static enum err find_objects(struct p11_session *session, CK_ATTRIBUTE *template,
                             CK_ULONG template_len, CK_OBJECT_HANDLE out[], CK_ULONG cap,
                             CK_ULONG *out_count, struct p11_error *error)
{
    CK_FUNCTION_LIST *functions = session->module->functions;
    CK_RV rv = functions->C_FindObjectsInit(session->handle, template, template_len);
    if (rv != CKR_OK)
        return p11_fail_rv(error, "C_FindObjectsInit", rv);
    CK_ULONG count = 0, got = 1;
    while (rv == CKR_OK && got != 0 && count < cap) {
        rv = functions->C_FindObjects(session->handle, out + count, cap - count, &got);
        if (rv == CKR_OK)
            count += got <= cap - count ? got : cap - count;
    }
    functions->C_FindObjectsFinal(session->handle);
    if (rv != CKR_OK)
        return p11_fail_rv(error, "C_FindObjects", rv);
    *out_count = count;
    return ERR_OK;
}

/* --- public keys --- */

static bool curve_of(struct bytes params, enum key_alg *out_alg)
{
    struct bytes oid;
    if (!der_get_oid(&params, &oid) || params.len != 0)
        return false;
    if (bytes_eq(oid, OID_P256))
        *out_alg = KEY_EC_P256;
    else if (bytes_eq(oid, OID_P384))
        *out_alg = KEY_EC_P384;
    else
        return false;
    return true;
}

/* CKA_EC_POINT is a DER OCTET STRING (PKCS#11 2.40 2.3.3); some tokens give the point itself. */
static struct bytes unwrap_point(struct bytes value, size_t point_len)
{
    struct bytes reader = value, point;
    if (der_get(&reader, DER_OCTET_STRING, &point) && reader.len == 0 && point.len == point_len)
        return point;
    return value.len == point_len ? value : (struct bytes){0};
}

static bool spki_put(enum key_alg alg, struct bytes key, uint8_t *out, size_t cap, size_t *out_len)
{
    struct der_builder builder = der_builder_of(out, cap);
    der_open(&builder, DER_SEQUENCE);
    der_open(&builder, DER_SEQUENCE);
    if (alg == KEY_RSA) {
        der_put(&builder, DER_OID, OID_RSA);
        der_put_null(&builder);
    } else if (alg == KEY_ED25519) {
        der_put(&builder, DER_OID, OID_ED25519); /* RFC 8410 3: no parameters */
    } else {
        der_put(&builder, DER_OID, OID_EC_PUBLIC_KEY);
        der_put(&builder, DER_OID, alg == KEY_EC_P256 ? OID_P256 : OID_P384);
    }
    der_close(&builder);
    der_put_bits(&builder, key);
    der_close(&builder);
    struct bytes der;
    if (!der_finish(&builder, &der))
        return false;
    *out_len = der.len;
    return true;
}

static bool ec_spki(struct p11_session *session, CK_OBJECT_HANDLE object, CK_KEY_TYPE type,
                    uint8_t *out, size_t cap, size_t *out_len)
{
    uint8_t params[64], value[160];
    size_t params_len, value_len;
    enum key_alg alg = KEY_ED25519;
    if (!get_attribute(session, object, CKA_EC_POINT, value, sizeof(value), &value_len))
        return false;
    if (type == CKK_EC &&
        (!get_attribute(session, object, CKA_EC_PARAMS, params, sizeof(params), &params_len) ||
         !curve_of(bytes_of(params, params_len), &alg)))
        return false;
    size_t point_len = alg == KEY_ED25519 ? 32 : alg == KEY_EC_P256 ? 65 : 97;
    struct bytes point = unwrap_point(bytes_of(value, value_len), point_len);
    return point.len != 0 && spki_put(alg, point, out, cap, out_len);
}

static bool rsa_spki(struct p11_session *session, CK_OBJECT_HANDLE object, uint8_t *out, size_t cap,
                     size_t *out_len)
{
    uint8_t modulus[1024], exponent[16], key[1100];
    size_t modulus_len, exponent_len;
    if (!get_attribute(session, object, CKA_MODULUS, modulus, sizeof(modulus), &modulus_len) ||
        !get_attribute(session, object, CKA_PUBLIC_EXPONENT, exponent, sizeof(exponent),
                       &exponent_len))
        return false;
    struct der_builder builder = der_builder_of(key, sizeof(key));
    der_open(&builder, DER_SEQUENCE);
    der_put_unsigned(&builder, bytes_of(modulus, modulus_len));
    der_put_unsigned(&builder, bytes_of(exponent, exponent_len));
    der_close(&builder);
    struct bytes der;
    return der_finish(&builder, &der) && spki_put(KEY_RSA, der, out, cap, out_len);
}

/* From one object, whichever way it gives its public key. */
static bool object_spki(struct p11_session *session, CK_OBJECT_HANDLE object, CK_KEY_TYPE type,
                        uint8_t *out, size_t cap, size_t *out_len)
{
    switch (type) {
    case CKK_EC:
    case CKK_EC_EDWARDS:
        if (ec_spki(session, object, type, out, cap, out_len))
            return true;
        break;
    case CKK_RSA:
        if (rsa_spki(session, object, out, cap, out_len))
            return true;
        break;
    default:
        break;
    }
    /* the SubjectPublicKeyInfo itself (PKCS#11 2.40), empty where the token does not keep it */
    return get_attribute(session, object, P11_CKA_PUBLIC_KEY_INFO, out, cap, out_len) &&
           *out_len != 0;
}

static CK_OBJECT_HANDLE find_public(struct p11_session *session, const struct p11_key *key,
                                    CK_KEY_TYPE type)
{
    CK_OBJECT_CLASS class = CKO_PUBLIC_KEY;
    CK_ATTRIBUTE template[3] = {{CKA_CLASS, &class, sizeof(class)},
                                {CKA_KEY_TYPE, &type, sizeof(type)}};
    if (key->id_len != 0)
        template[2] = (CK_ATTRIBUTE){CKA_ID, (void *)key->id, key->id_len};
    else if (key->label[0] != 0)
        template[2] = (CK_ATTRIBUTE){CKA_LABEL, (void *)key->label, strlen(key->label)};
    else
        return 0;
    CK_OBJECT_HANDLE object;
    CK_ULONG count;
    struct p11_error ignored;
    if (find_objects(session, template, 3, &object, 1, &count, &ignored) != ERR_OK || count == 0)
        return 0;
    return object;
}

static void read_public(struct p11_session *session, CK_KEY_TYPE type, struct p11_key *key)
{
    size_t len = 0;
    struct spki spki;
    key->public_handle = find_public(session, key, type);
    bool found =
        (key->public_handle != 0 && object_spki(session, key->public_handle, type, key->spki_der,
                                                sizeof(key->spki_der), &len)) ||
        object_spki(session, key->private_handle, type, key->spki_der, sizeof(key->spki_der), &len);
    if (!found || spki_decode(bytes_of(key->spki_der, len), &spki) != ERR_OK)
        return;
    key->spki_len = (uint32_t)len;
    key->alg = spki.alg;
    key->bits = spki.bits;
}

/* What the private key object alone tells, for tokens that do not give the public key. */
static enum key_alg private_alg(struct p11_session *session, CK_OBJECT_HANDLE object,
                                CK_KEY_TYPE type)
{
    uint8_t params[64];
    size_t len;
    CK_ULONG set;
    enum key_alg alg = KEY_NONE;
    switch (type) {
    case CKK_RSA:
        return KEY_RSA;
    case CKK_EC:
        if (get_attribute(session, object, CKA_EC_PARAMS, params, sizeof(params), &len) &&
            curve_of(bytes_of(params, len), &alg))
            return alg;
        return KEY_NONE;
    case CKK_EC_EDWARDS:
        return KEY_ED25519; /* Ed448 fails when it signs: its signatures are longer */
    case P11_CKK_ML_DSA:
        if (!get_ulong(session, object, P11_CKA_PARAMETER_SET, &set))
            return KEY_NONE;
        return set == P11_CKP_ML_DSA_44   ? KEY_ML_DSA_44
               : set == P11_CKP_ML_DSA_65 ? KEY_ML_DSA_65
                                          : KEY_NONE;
    default:
        return KEY_NONE;
    }
}

static enum err read_key(struct p11_session *session, CK_OBJECT_HANDLE object, struct p11_key *out,
                         struct p11_error *error)
{
    session->trouble = CKR_OK;
    struct p11_key key = {.private_handle = object};
    CK_KEY_TYPE type = ~0ul;
    size_t len;
    if (get_attribute(session, object, CKA_ID, key.id, sizeof(key.id), &len))
        key.id_len = (uint32_t)len;
    if (get_attribute(session, object, CKA_LABEL, key.label, sizeof(key.label) - 1, &len))
        key.label[len] = 0;
    if (get_ulong(session, object, CKA_KEY_TYPE, &type))
        key.alg = private_alg(session, object, type);
    /* What a token does not tell is taken as the worse: then the key is refused. */
    key.sensitive = get_bool(session, object, CKA_SENSITIVE, false);
    key.extractable = get_bool(session, object, CKA_EXTRACTABLE, true);
    key.can_sign = get_bool(session, object, CKA_SIGN, false);
    /* new in 2.20: an older token has no such keys */
    key.always_authenticate = get_bool(session, object, CKA_ALWAYS_AUTHENTICATE, false);
    key.local = get_bool(session, object, CKA_LOCAL, false);
    key.always_sensitive = get_bool(session, object, CKA_ALWAYS_SENSITIVE, false);
    key.never_extractable = get_bool(session, object, CKA_NEVER_EXTRACTABLE, false);
    read_public(session, type, &key);
    if (session->trouble != CKR_OK)
        return p11_fail_rv(error, "C_GetAttributeValue", session->trouble);
    *out = key;
    return ERR_OK;
}

enum err p11_key_find(struct p11_session *session, const char *uri, struct p11_key *out,
                      struct p11_error *error)
{
    struct p11_uri wanted;
    const char *reason;
    if (!p11_uri_parse(uri, &wanted, &reason))
        return p11_fail(error, ERR_CONFIG, "key URI: %s", reason);
    if (!wanted.has_object && !wanted.has_id)
        return p11_fail(error, ERR_CONFIG, "key URI: neither object= nor id= is given");
    if (wanted.type != P11_URI_TYPE_NONE && wanted.type != P11_URI_TYPE_PRIVATE)
        return p11_fail(error, ERR_CONFIG, "key URI: type must be private");
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE template[3] = {{CKA_CLASS, &class, sizeof(class)}};
    CK_ULONG len = 1;
    if (wanted.has_object)
        template[len++] = (CK_ATTRIBUTE){CKA_LABEL, wanted.object, strlen(wanted.object)};
    if (wanted.has_id)
        template[len++] = (CK_ATTRIBUTE){CKA_ID, wanted.id, wanted.id_len};
    CK_OBJECT_HANDLE objects[2];
    CK_ULONG count;
    enum err err = find_objects(session, template, len, objects, 2, &count, error);
    if (err != ERR_OK)
        return err;
    if (count == 0)
        return p11_fail(error, ERR_KEY_NOT_FOUND, "no private key matches %.160s", uri);
    if (count > 1)
        return p11_fail(error, ERR_CONFIG,
                        "more than one private key matches %.140s: add id=", uri);
    return read_key(session, objects[0], out, error);
}

enum err p11_key_list(struct p11_session *session, struct p11_key out[], uint32_t cap,
                      uint32_t *out_count, struct p11_error *error)
{
    CK_OBJECT_HANDLE *objects = calloc((size_t)cap + 1, sizeof(*objects));
    if (objects == NULL)
        return p11_fail(error, ERR_NO_SPACE, "no memory");
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE template = {CKA_CLASS, &class, sizeof(class)};
    CK_ULONG count = 0;
    enum err err = find_objects(session, &template, 1, objects, cap + 1ul, &count, error);
    if (err == ERR_OK && count > cap)
        err = p11_fail(error, ERR_NO_SPACE, "the token has more than %u private keys", cap);
    for (CK_ULONG i = 0; err == ERR_OK && i < count; i++)
        err = read_key(session, objects[i], &out[i], error);
    if (err == ERR_OK)
        *out_count = (uint32_t)count;
    free(objects);
    return err;
}

enum err p11_key_check(const struct p11_key *key, bool allow_extractable, struct p11_error *error)
{
    const char *reason = NULL;
    if (key->alg == KEY_NONE)
        reason = "it is of a kind that certmill does not know";
    else if (key->always_authenticate)
        reason = "it wants the PIN for every signature (CKA_ALWAYS_AUTHENTICATE)";
    else if (!key->can_sign)
        reason = "it may not sign (CKA_SIGN is false)";
    else if (!allow_extractable && key->extractable)
        reason = "it can be extracted (CKA_EXTRACTABLE): only for lines with test: true";
    else if (!allow_extractable && !key->sensitive)
        reason = "it is not sensitive (CKA_SENSITIVE): only for lines with test: true";
    if (reason != NULL)
        return p11_fail(error, ERR_CONFIG, "key %.64s is refused: %s", key->label, reason);
    return ERR_OK;
}

enum err p11_key_set_label(struct p11_session *session, const struct p11_key *key,
                           const char *label, struct p11_error *error)
{
    size_t len = strlen(label);
    if (len == 0 || len >= P11_LABEL_MAX)
        return p11_fail(error, ERR_CONFIG, "a key label has 1 to %d bytes", P11_LABEL_MAX - 1);
    CK_ATTRIBUTE attribute = {CKA_LABEL, (void *)label, len};
    CK_FUNCTION_LIST *functions = session->module->functions;
    CK_RV rv = functions->C_SetAttributeValue(session->handle, key->private_handle, &attribute, 1);
    if (rv == CKR_OK && key->public_handle != 0)
        rv = functions->C_SetAttributeValue(session->handle, key->public_handle, &attribute, 1);
    return rv == CKR_OK ? ERR_OK : p11_fail_rv(error, "C_SetAttributeValue", rv);
}

enum err p11_key_destroy(struct p11_session *session, const struct p11_key *key,
                         struct p11_error *error)
{
    CK_FUNCTION_LIST *functions = session->module->functions;
    CK_RV rv = functions->C_DestroyObject(session->handle, key->private_handle);
    if (rv == CKR_OK && key->public_handle != 0)
        rv = functions->C_DestroyObject(session->handle, key->public_handle);
    return rv == CKR_OK ? ERR_OK : p11_fail_rv(error, "C_DestroyObject", rv);
}

enum err p11_key_uri(const struct p11_session *session, const struct p11_key *key, char *out,
                     size_t cap)
{
    struct writer writer = writer_of(out, cap);
    writer_put_str(&writer, "pkcs11:token=");
    p11_uri_put_text(&writer, session->token.label);
    if (key->label[0] != 0) {
        writer_put_str(&writer, ";object=");
        p11_uri_put_text(&writer, key->label);
    }
    if (key->id_len != 0) {
        writer_put_str(&writer, ";id=");
        p11_uri_put_id(&writer, bytes_of(key->id, key->id_len));
    }
    writer_put_str(&writer, ";type=private");
    writer_put_u8(&writer, 0);
    return writer.failed ? ERR_NO_SPACE : ERR_OK;
}

/* --- generation --- */

static enum err refuse_existing(struct p11_session *session, CK_ATTRIBUTE_TYPE type,
                                const void *value, size_t len, const char *what,
                                struct p11_error *error)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE template[2] = {{CKA_CLASS, &class, sizeof(class)}, {type, (void *)value, len}};
    CK_OBJECT_HANDLE object;
    CK_ULONG count;
    enum err err = find_objects(session, template, 2, &object, 1, &count, error);
    if (err == ERR_OK && count != 0)
        err = p11_fail(error, ERR_CONFIG, "the token has a private key with this %s already", what);
    return err;
}

/* What differs between the kinds of keys. */
struct key_kind {
    CK_MECHANISM_TYPE generate;
    CK_KEY_TYPE type;
    CK_ATTRIBUTE_TYPE parameter; /* of the public key template */
    const uint8_t *value;
    size_t value_len;
};

static const uint8_t params_p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
static const uint8_t params_p384[] = {0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22};
static const uint8_t params_ed25519[] = {0x06, 0x03, 0x2b, 0x65, 0x70};
/* PKCS#11 3.0 6.3.5 also allows the curve's name */
static const uint8_t params_ed25519_name[] = {0x13, 0x0c, 'e', 'd', 'w', 'a', 'r',
                                              'd',  's',  '2', '5', '5', '1', '9'};

static bool kind_of(const struct p11_key_template *wanted, const CK_ULONG *number,
                    struct key_kind *out)
{
    switch (wanted->alg) {
    case KEY_EC_P256:
        *out = (struct key_kind){CKM_EC_KEY_PAIR_GEN, CKK_EC, CKA_EC_PARAMS, params_p256,
                                 sizeof(params_p256)};
        return true;
    case KEY_EC_P384:
        *out = (struct key_kind){CKM_EC_KEY_PAIR_GEN, CKK_EC, CKA_EC_PARAMS, params_p384,
                                 sizeof(params_p384)};
        return true;
    case KEY_ED25519:
        *out = (struct key_kind){CKM_EC_EDWARDS_KEY_PAIR_GEN, CKK_EC_EDWARDS, CKA_EC_PARAMS,
                                 params_ed25519, sizeof(params_ed25519)};
        return true;
    case KEY_RSA:
        if (wanted->bits != 2048 && wanted->bits != 3072 && wanted->bits != 4096)
            return false;
        *out = (struct key_kind){CKM_RSA_PKCS_KEY_PAIR_GEN, CKK_RSA, CKA_MODULUS_BITS,
                                 (const uint8_t *)number, sizeof(*number)};
        return true;
    case KEY_ML_DSA_44:
    case KEY_ML_DSA_65:
        *out = (struct key_kind){P11_CKM_ML_DSA_KEY_PAIR_GEN, P11_CKK_ML_DSA, P11_CKA_PARAMETER_SET,
                                 (const uint8_t *)number, sizeof(*number)};
        return true;
    default:
        return false;
    }
}

static CK_RV generate_pair(struct p11_session *session, const struct p11_key_template *wanted,
                           const struct key_kind *kind, struct bytes id,
                           CK_OBJECT_HANDLE *out_public, CK_OBJECT_HANDLE *out_private)
{
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_BBOOL sensitive = wanted->extractable ? CK_FALSE : CK_TRUE;
    CK_BBOOL extractable = wanted->extractable ? CK_TRUE : CK_FALSE;
    CK_KEY_TYPE type = kind->type;
    uint8_t exponent[] = {1, 0, 1};
    CK_ATTRIBUTE public[8] = {
        {CKA_TOKEN, &yes, sizeof(yes)},
        {CKA_PRIVATE, &no, sizeof(no)},
        {CKA_VERIFY, &yes, sizeof(yes)},
        {CKA_KEY_TYPE, &type, sizeof(type)},
        {CKA_LABEL, (void *)wanted->label, strlen(wanted->label)},
        {CKA_ID, (void *)id.ptr, id.len},
        {kind->parameter, (void *)kind->value, kind->value_len},
        {CKA_PUBLIC_EXPONENT, exponent, sizeof(exponent)},
    };
    CK_ULONG public_len = kind->type == CKK_RSA ? 8 : 7;
    /* CKA_DECRYPT, CKA_UNWRAP and CKA_DERIVE default to what the token likes: said no here */
    CK_ATTRIBUTE private[] = {
        {CKA_TOKEN, &yes, sizeof(yes)},
        {CKA_PRIVATE, &yes, sizeof(yes)},
        {CKA_SENSITIVE, &sensitive, sizeof(sensitive)},
        {CKA_EXTRACTABLE, &extractable, sizeof(extractable)},
        {CKA_SIGN, &yes, sizeof(yes)},
        {CKA_KEY_TYPE, &type, sizeof(type)},
        {CKA_LABEL, (void *)wanted->label, strlen(wanted->label)},
        {CKA_ID, (void *)id.ptr, id.len},
        {CKA_DECRYPT, &no, sizeof(no)},
        {CKA_UNWRAP, &no, sizeof(no)},
        {CKA_DERIVE, &no, sizeof(no)},
    };
    enum { PRIVATE_FULL = sizeof(private) / sizeof(private[0]), PRIVATE_PLAIN = PRIVATE_FULL - 3 };
    CK_MECHANISM mechanism = {.mechanism = kind->generate};
    CK_FUNCTION_LIST *functions = session->module->functions;
    CK_RV rv = functions->C_GenerateKeyPair(session->handle, &mechanism, public, public_len,
                                            private, PRIVATE_FULL, out_public, out_private);
    /* a token may refuse to be told what this kind of key cannot do anyway */
    if (rv == CKR_TEMPLATE_INCONSISTENT || rv == CKR_ATTRIBUTE_TYPE_INVALID ||
        rv == CKR_ATTRIBUTE_VALUE_INVALID)
        rv = functions->C_GenerateKeyPair(session->handle, &mechanism, public, public_len, private,
                                          PRIVATE_PLAIN, out_public, out_private);
    return rv;
}

enum err p11_key_generate(struct p11_session *session, const struct p11_key_template *template,
                          struct p11_key *out, struct p11_error *error)
{
    uint8_t random_id[16];
    struct bytes id = template->id;
    struct key_kind kind;
    CK_ULONG number = template->alg == KEY_RSA         ? template->bits
                      : template->alg == KEY_ML_DSA_44 ? P11_CKP_ML_DSA_44
                                                       : P11_CKP_ML_DSA_65;
    if (!kind_of(template, &number, &kind))
        return p11_fail(error, ERR_CONFIG, "keys of kind %s and %u bits are not generated",
                        key_alg_name(template->alg), template->bits);
    if (template->label == NULL || template->label[0] == 0 ||
        strlen(template->label) >= P11_LABEL_MAX || id.len > P11_ID_MAX)
        return p11_fail(error, ERR_CONFIG, "a key label has 1 to %d bytes, an id at most %d",
                        P11_LABEL_MAX - 1, P11_ID_MAX);
    if (id.len == 0) {
        random_bytes(random_id, sizeof(random_id));
        id = BYTES_ARRAY(random_id);
    }
    enum err err = refuse_existing(session, CKA_LABEL, template->label, strlen(template->label),
                                   "label", error);
    if (err == ERR_OK)
        err = refuse_existing(session, CKA_ID, id.ptr, id.len, "id", error);
    if (err != ERR_OK)
        return err;

    CK_OBJECT_HANDLE public, private;
    CK_RV rv = generate_pair(session, template, &kind, id, &public, &private);
    if (rv != CKR_OK && template->alg == KEY_ED25519) {
        kind.value = params_ed25519_name;
        kind.value_len = sizeof(params_ed25519_name);
        rv = generate_pair(session, template, &kind, id, &public, &private);
    }
    if (rv != CKR_OK)
        return p11_fail_rv(error, "C_GenerateKeyPair", rv);
    return read_key(session, private, out, error);
}
