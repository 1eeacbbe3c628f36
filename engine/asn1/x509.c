#include "asn1/x509.h"

#include "asn1/der.h"
#include "asn1/internal.h"
#include "asn1/oid.h"

enum {
    RSA_BITS_MIN = 2048,
    RSA_BITS_MAX = 4096,
    RSA_EXPONENT_LEN_MAX = 8, /* longer ones only make verifying slow */
    SERIAL_LEN_MAX = 20,      /* RFC 5280 4.1.2.2 */
};

bool algorithm_is_valid(struct bytes der)
{
    struct bytes body, oid, contents;
    uint8_t tag;

    return der_is_strict(der) && der_get(&der, DER_SEQUENCE, &body) && der_get_oid(&body, &oid) &&
           (body.len == 0 || (der_get_any(&body, &tag, &contents, NULL) && body.len == 0));
}

/* --- SubjectPublicKeyInfo --- */

/* The longest key there is; RSA with its longest modulus and exponent is shorter. */
static_assert(SPKI_DER_MAX >= 1952 + 32, "an ML-DSA-65 key and the headers around it");

/* Whole AlgorithmIdentifiers of keys, parameters included (RFC 5480 2.1.1, 8410 3, 9881 2). */
static const uint8_t alg_p256[] = {0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
                                   0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
static const uint8_t alg_p384[] = {0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d,
                                   0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22};
static const uint8_t alg_rsa[] = {0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                  0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00};
static const uint8_t alg_rsa_absent[] = {0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48,
                                         0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01};
static const uint8_t alg_ed25519[] = {0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70};
static const uint8_t alg_ml_dsa_44[] = {0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48,
                                        0x01, 0x65, 0x03, 0x04, 0x03, 0x11};
static const uint8_t alg_ml_dsa_65[] = {0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48,
                                        0x01, 0x65, 0x03, 0x04, 0x03, 0x12};

static const struct {
    struct bytes der;
    enum key_alg alg;
    uint32_t bits;
    uint32_t key_len; /* contents of subjectPublicKey; 0: it varies */
} key_algs[] = {
    {{alg_p256, sizeof(alg_p256)}, KEY_EC_P256, 256, 65},
    {{alg_rsa, sizeof(alg_rsa)}, KEY_RSA, 0, 0},
    {{alg_p384, sizeof(alg_p384)}, KEY_EC_P384, 384, 97},
    {{alg_ed25519, sizeof(alg_ed25519)}, KEY_ED25519, 256, 32},
    {{alg_ml_dsa_44, sizeof(alg_ml_dsa_44)}, KEY_ML_DSA_44, 1312 * 8, 1312},
    {{alg_ml_dsa_65, sizeof(alg_ml_dsa_65)}, KEY_ML_DSA_65, 1952 * 8, 1952},
    /* RFC 3279 2.3.1 demands NULL; some clients leave it out, and the key is the same */
    {{alg_rsa_absent, sizeof(alg_rsa_absent)}, KEY_RSA, 0, 0},
};

/* A positive INTEGER as big-endian magnitude without its sign octet. */
static bool get_positive(struct bytes *reader, struct bytes *out)
{
    struct bytes contents;

    if (!der_get_integer(reader, &contents) || (contents.ptr[0] & 0x80) != 0)
        return false;
    if (contents.ptr[0] == 0) {
        contents.ptr++;
        contents.len--;
    }
    if (contents.len == 0) /* zero */
        return false;
    *out = contents;
    return true;
}

static bool rsa_key_decode(struct spki *spki)
{
    struct bytes all = spki->key, body;

    /* RFC 8017 A.1.1 */
    if (!der_get(&all, DER_SEQUENCE, &body) || all.len != 0 ||
        !get_positive(&body, &spki->modulus) || !get_positive(&body, &spki->exponent) ||
        body.len != 0)
        return false;
    if (spki->modulus.len > RSA_BITS_MAX / 8)
        return false;
    spki->bits = (uint32_t)(spki->modulus.len * 8);
    for (uint8_t top = spki->modulus.ptr[0]; (top & 0x80) == 0; top = (uint8_t)(top << 1))
        spki->bits--;
    if (spki->bits < RSA_BITS_MIN)
        return false;
    /* odd both; and e >= 3, which is what is left of the odd numbers without 1 */
    const struct bytes *e = &spki->exponent;
    return (spki->modulus.ptr[spki->modulus.len - 1] & 1) != 0 && (e->ptr[e->len - 1] & 1) != 0 &&
           e->len <= RSA_EXPONENT_LEN_MAX && !(e->len == 1 && e->ptr[0] < 3);
}

enum err spki_decode(struct bytes der, struct spki *out)
{
    struct spki spki = {.der = der};
    struct bytes body, alg_der;
    uint32_t key_len = 0;

    if (!der_get(&der, DER_SEQUENCE, &body))
        return ERR_BAD_DER;
    if (der.len != 0)
        return ERR_DER_TRAILING;
    if (!der_get_element(&body, DER_SEQUENCE, &alg_der) || !der_get_bits(&body, &spki.key))
        return ERR_BAD_DER;
    if (body.len != 0)
        return ERR_DER_TRAILING;
    for (size_t i = 0; i < sizeof(key_algs) / sizeof(key_algs[0]); i++) {
        if (bytes_eq(alg_der, key_algs[i].der)) {
            spki.alg = key_algs[i].alg;
            spki.bits = key_algs[i].bits;
            key_len = key_algs[i].key_len;
            break;
        }
    }
    if (spki.alg == KEY_NONE)
        return algorithm_is_valid(alg_der) ? ERR_BAD_ALG : ERR_BAD_DER;
    if (spki.alg == KEY_RSA) {
        if (!rsa_key_decode(&spki))
            return ERR_BAD_KEY;
    } else {
        if (spki.key.len != key_len)
            return ERR_BAD_KEY;
        /* RFC 5480 2.2: uncompressed; the compressed form is optional and not taken */
        if ((spki.alg == KEY_EC_P256 || spki.alg == KEY_EC_P384) && spki.key.ptr[0] != 0x04)
            return ERR_BAD_KEY;
    }
    *out = spki;
    return ERR_OK;
}

/* --- extensions --- */

static enum err extension_decode(struct bytes der, struct extension *out)
{
    struct bytes reader = der, body;
    struct extension extension = {.der = der};

    if (!der_get(&reader, DER_SEQUENCE, &body) || !der_get_oid(&body, &extension.oid))
        return ERR_BAD_DER;
    if (der_peek(body) == DER_BOOLEAN) {
        if (!der_get_bool(&body, &extension.critical))
            return ERR_BAD_DER;
        if (!extension.critical) /* X.690 11.5: DEFAULT is not encoded */
            return ERR_BAD_DER;
    }
    if (!der_get(&body, DER_OCTET_STRING, &extension.value))
        return ERR_BAD_DER;
    if (body.len != 0)
        return ERR_DER_TRAILING;
    *out = extension;
    return ERR_OK;
}

enum err extensions_contents_decode(struct bytes list, struct extensions *out)
{
    struct extension items[EXTENSIONS_MAX];
    struct bytes element;
    uint32_t count = 0;

    while (list.len > 0) {
        if (count == EXTENSIONS_MAX)
            return ERR_BAD_CERT;
        if (!der_get_element(&list, DER_SEQUENCE, &element))
            return ERR_BAD_DER;
        enum err err = extension_decode(element, &items[count]);
        if (err != ERR_OK)
            return err;
        for (uint32_t i = 0; i < count; i++)
            if (bytes_eq(items[i].oid, items[count].oid)) /* RFC 5280 4.2 */
                return ERR_BAD_CERT;
        count++;
    }
    memcpy(out->item, items, count * sizeof(items[0]));
    out->count = count;
    return ERR_OK;
}

enum err extensions_decode(struct bytes der, struct extensions *out)
{
    struct bytes list;

    if (!der_get(&der, DER_SEQUENCE, &list))
        return ERR_BAD_DER;
    if (der.len != 0)
        return ERR_DER_TRAILING;
    return extensions_contents_decode(list, out);
}

const struct extension *extensions_find(const struct extensions *all, struct bytes oid)
{
    for (uint32_t i = 0; i < all->count; i++)
        if (bytes_eq(all->item[i].oid, oid))
            return &all->item[i];
    return NULL;
}

/* --- the extensions that certmill processes --- */

static bool key_usage_decode(struct bytes value, struct x509_cert *cert)
{
    cert->has_key_usage = true;
    /* RFC 5280 4.2.1.3: at least one bit is set */
    return der_get_named_bits(&value, &cert->key_usage) && value.len == 0 && cert->key_usage != 0;
}

static bool ext_key_usage_decode(struct bytes value, struct x509_cert *cert)
{
    const struct {
        struct bytes oid;
        uint32_t bit;
    } known[] = {
        {OID_EKU_SERVER_AUTH, EKU_SERVER_AUTH}, {OID_EKU_CLIENT_AUTH, EKU_CLIENT_AUTH},
        {OID_EKU_CMC_RA, EKU_CMC_RA},           {OID_EKU_CMC_CA, EKU_CMC_CA},
        {OID_EKU_CM_KGA, EKU_CM_KGA},           {OID_EKU_ANY, EKU_ANY},
    };
    struct bytes list, oid;

    cert->has_ext_key_usage = true;
    if (!der_get(&value, DER_SEQUENCE, &list) || value.len != 0 || list.len == 0)
        return false;
    while (list.len > 0) {
        uint32_t bit = EKU_OTHER;
        if (!der_get_oid(&list, &oid))
            return false;
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
            if (bytes_eq(oid, known[i].oid))
                bit = known[i].bit;
        cert->ext_key_usage |= bit;
    }
    return true;
}

static bool basic_constraints_decode(struct bytes value, struct x509_cert *cert)
{
    struct bytes body;
    uint64_t path_len;

    if (!der_get(&value, DER_SEQUENCE, &body) || value.len != 0)
        return false;
    if (der_peek(body) == DER_BOOLEAN && (!der_get_bool(&body, &cert->is_ca) || !cert->is_ca))
        return false; /* X.690 11.5 */
    if (body.len > 0) {
        /* RFC 5280 4.2.1.9: pathLenConstraint only beside cA TRUE */
        if (!cert->is_ca || !der_get_u64(&body, &path_len) || body.len != 0)
            return false;
        cert->path_len = path_len < UINT32_MAX ? (uint32_t)path_len : UINT32_MAX;
    }
    return true;
}

static bool ski_decode(struct bytes value, struct x509_cert *cert)
{
    return der_get(&value, DER_OCTET_STRING, &cert->ski) && value.len == 0 && cert->ski.len > 0;
}

bool aki_value_decode(struct bytes value, struct bytes *out_key_id)
{
    struct bytes body, names, serial, key_id = {0};
    bool has_key_id, has_names;

    if (!der_get(&value, DER_SEQUENCE, &body) || value.len != 0 ||
        !der_get_optional(&body, DER_CONTEXT(0), &key_id, &has_key_id) ||
        !der_get_optional(&body, DER_CONTEXT_CONSTRUCTED(1), &names, &has_names))
        return false;
    if (has_names && !general_names_contents_are_valid(names))
        return false;
    if (body.len > 0) {
        /* authorityCertSerialNumber, an INTEGER under another tag */
        if (!der_get(&body, DER_CONTEXT(2), &serial) || body.len != 0 ||
            !integer_is_minimal(serial))
            return false;
    }
    *out_key_id = key_id;
    return true;
}

static bool aki_decode(struct bytes value, struct x509_cert *cert)
{
    return aki_value_decode(value, &cert->aki);
}

static bool san_decode(struct bytes value, struct x509_cert *cert)
{
    cert->san = value;
    return general_names_are_valid(value);
}

static bool known_extensions_decode(struct x509_cert *cert)
{
    const struct {
        struct bytes oid;
        bool (*decode)(struct bytes value, struct x509_cert *cert);
    } known[] = {
        {OID_EXT_KEY_USAGE, key_usage_decode},
        {OID_EXT_EKU, ext_key_usage_decode},
        {OID_EXT_BASIC_CONSTRAINTS, basic_constraints_decode},
        {OID_EXT_SAN, san_decode},
        {OID_EXT_SKI, ski_decode},
        {OID_EXT_AKI, aki_decode},
    };

    for (uint32_t i = 0; i < cert->extensions.count; i++) {
        const struct extension *extension = &cert->extensions.item[i];
        bool is_known = false;
        for (size_t k = 0; k < sizeof(known) / sizeof(known[0]) && !is_known; k++) {
            if (!bytes_eq(extension->oid, known[k].oid))
                continue;
            is_known = true;
            if (!known[k].decode(extension->value, cert))
                return false;
        }
        cert->unknown_critical = cert->unknown_critical || (extension->critical && !is_known);
    }
    return true;
}

/* --- certificate --- */

/* issuerUniqueID and subjectUniqueID (RFC 5280 4.1.2.8): nothing uses them, old roots have them. */
static bool skip_unique_id(struct bytes *reader, uint8_t tag, bool *out_present)
{
    struct bytes contents;

    if (!der_get_optional(reader, tag, &contents, out_present))
        return false;
    if (!*out_present)
        return true;
    return bits_are_valid(contents);
}

static enum err validity_decode(struct bytes validity, struct x509_cert *cert)
{
    if (!der_get_time(&validity, &cert->not_before_s) ||
        !der_get_time(&validity, &cert->not_after_s))
        return ERR_BAD_DER;
    return validity.len == 0 ? ERR_OK : ERR_DER_TRAILING;
}

/* What follows subjectPublicKeyInfo. */
static enum err tbs_tail_decode(struct bytes tbs, uint64_t version, struct x509_cert *cert)
{
    struct bytes explicit;
    bool has_issuer_id, has_subject_id, has_extensions;

    if (!skip_unique_id(&tbs, DER_CONTEXT(1), &has_issuer_id) ||
        !skip_unique_id(&tbs, DER_CONTEXT(2), &has_subject_id) ||
        !der_get_optional(&tbs, DER_CONTEXT_CONSTRUCTED(3), &explicit, &has_extensions))
        return ERR_BAD_DER;
    if (tbs.len != 0)
        return ERR_DER_TRAILING;
    /* RFC 5280 4.1.2.8: v2 or v3; 4.1.2.9: v3 */
    if (((has_issuer_id || has_subject_id) && version < 1) || (has_extensions && version != 2))
        return ERR_BAD_CERT;
    if (!has_extensions)
        return ERR_OK;
    enum err err = extensions_decode(explicit, &cert->extensions);
    if (err != ERR_OK)
        return err;
    if (cert->extensions.count == 0) /* SIZE (1..MAX) */
        return ERR_BAD_CERT;
    return known_extensions_decode(cert) ? ERR_OK : ERR_BAD_CERT;
}

static enum err tbs_decode(struct x509_cert *cert, struct bytes outer_alg)
{
    struct bytes reader = cert->tbs, tbs, explicit, inner_alg, validity, spki_der;
    uint64_t version = 0;
    bool has_version;
    enum err err;

    if (!der_get(&reader, DER_SEQUENCE, &tbs) ||
        !der_get_optional(&tbs, DER_CONTEXT_CONSTRUCTED(0), &explicit, &has_version))
        return ERR_BAD_DER;
    if (has_version) {
        if (!der_get_u64(&explicit, &version))
            return ERR_BAD_DER;
        if (explicit.len != 0)
            return ERR_DER_TRAILING;
        if (version == 0) /* X.690 11.5: v1 is the DEFAULT */
            return ERR_BAD_DER;
        if (version > 2)
            return ERR_BAD_CERT;
    }
    if (!der_get_integer(&tbs, &cert->serial))
        return ERR_BAD_DER;
    /* RFC 5280 4.1.2.2: not negative, up to 20 octets (zero occurs on old roots) */
    if ((cert->serial.ptr[0] & 0x80) != 0 || cert->serial.len > SERIAL_LEN_MAX)
        return ERR_BAD_CERT;
    if (!der_get_element(&tbs, DER_SEQUENCE, &inner_alg) ||
        !der_get_element(&tbs, DER_SEQUENCE, &cert->issuer) ||
        !der_get(&tbs, DER_SEQUENCE, &validity) ||
        !der_get_element(&tbs, DER_SEQUENCE, &cert->subject) ||
        !der_get_element(&tbs, DER_SEQUENCE, &spki_der))
        return ERR_BAD_DER;
    if (!bytes_eq(inner_alg, outer_alg)) /* RFC 5280 4.1.1.2 */
        return ERR_BAD_CERT;
    if (!name_is_valid(cert->issuer) || !name_is_valid(cert->subject))
        return ERR_BAD_CERT;
    err = validity_decode(validity, cert);
    if (err != ERR_OK)
        return err;
    err = spki_decode(spki_der, &cert->spki);
    if (err != ERR_OK)
        return err;
    return tbs_tail_decode(tbs, version, cert);
}

enum err x509_decode(struct bytes der, struct x509_cert *out)
{
    struct x509_cert cert = {.der = der, .path_len = UINT32_MAX};
    struct bytes body, alg_der;

    if (!der_get(&der, DER_SEQUENCE, &body))
        return ERR_BAD_DER;
    if (der.len != 0)
        return ERR_DER_TRAILING;
    if (cert.der.len > CERT_DER_MAX)
        return ERR_BAD_CERT;
    if (!der_get_element(&body, DER_SEQUENCE, &cert.tbs) ||
        !der_get_element(&body, DER_SEQUENCE, &alg_der) || !der_get_bits(&body, &cert.signature))
        return ERR_BAD_DER;
    if (body.len != 0)
        return ERR_DER_TRAILING;
    cert.sig_alg = sig_alg_from_der(alg_der);
    if (cert.sig_alg == SIG_NONE && !algorithm_is_valid(alg_der))
        return ERR_BAD_DER;
    enum err err = tbs_decode(&cert, alg_der);
    if (err != ERR_OK)
        return err;
    *out = cert;
    return ERR_OK;
}
