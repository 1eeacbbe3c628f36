#include "asn1/alg.h"

#include "asn1/der.h"
#include "asn1/oid.h"

/* AlgorithmIdentifier octets, put together from their object identifiers. */
#define OID_OCTETS_ECDSA  0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03
#define OID_OCTETS_PKCS1  0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01
#define OID_OCTETS_NIST   0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04
#define NULL_OCTETS       0x05, 0x00
#define HASH_OCTETS(last) 0x30, 0x0d, OID_OCTETS_NIST, 0x02, last, NULL_OCTETS

/* RFC 5758 3.2: 1.2.840.10045.4.3.2 to .4; the parameters field is absent. */
#define ECDSA_OCTETS(last) 0x30, 0x0a, OID_OCTETS_ECDSA, last
/* RFC 4055 5: 1.2.840.113549.1.1.11 to .13; the parameters are NULL, but readers take their
 * absence. */
#define PKCS1_OCTETS(last)        0x30, 0x0d, OID_OCTETS_PKCS1, last, NULL_OCTETS
#define PKCS1_ABSENT_OCTETS(last) 0x30, 0x0b, OID_OCTETS_PKCS1, last
/* RFC 4055 3.1, 6: RSASSA-PSS-params with one hash for message and MGF1; trailerField is its
 * default. */
#define PSS_OCTETS(hash, salt_len)                                                                 \
    0x30, 0x41, OID_OCTETS_PKCS1, 0x0a, 0x30, 0x34, 0xa0, 0x0f, HASH_OCTETS(hash), 0xa1, 0x1c,     \
        0x30, 0x1a, OID_OCTETS_PKCS1, 0x08, HASH_OCTETS(hash), 0xa2, 0x03, 0x02, 0x01, salt_len
/* RFC 9881 2 (FIPS 204): 2.16.840.1.101.3.4.3.17 and .18; parameters absent. */
#define ML_DSA_OCTETS(last) 0x30, 0x0b, OID_OCTETS_NIST, 0x03, last

static const uint8_t ecdsa_sha256[] = {ECDSA_OCTETS(0x02)};
static const uint8_t ecdsa_sha384[] = {ECDSA_OCTETS(0x03)};
static const uint8_t ecdsa_sha512[] = {ECDSA_OCTETS(0x04)};
static const uint8_t rsa_sha256[] = {PKCS1_OCTETS(0x0b)};
static const uint8_t rsa_sha384[] = {PKCS1_OCTETS(0x0c)};
static const uint8_t rsa_sha512[] = {PKCS1_OCTETS(0x0d)};
static const uint8_t rsa_sha256_absent[] = {PKCS1_ABSENT_OCTETS(0x0b)};
static const uint8_t rsa_sha384_absent[] = {PKCS1_ABSENT_OCTETS(0x0c)};
static const uint8_t rsa_sha512_absent[] = {PKCS1_ABSENT_OCTETS(0x0d)};
static const uint8_t rsa_pss_sha256[] = {PSS_OCTETS(0x01, 32)};
static const uint8_t rsa_pss_sha384[] = {PSS_OCTETS(0x02, 48)};
static const uint8_t rsa_pss_sha512[] = {PSS_OCTETS(0x03, 64)};
static const uint8_t ed25519[] = {0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70}; /* RFC 8410 3 */
static const uint8_t ml_dsa_44[] = {ML_DSA_OCTETS(0x11)};
static const uint8_t ml_dsa_65[] = {ML_DSA_OCTETS(0x12)};

#define OCTETS(array)                                                                              \
    {                                                                                              \
        (array), sizeof(array)                                                                     \
    }

struct sig_alg_facts {
    const char *name;
    struct bytes der;
    struct bytes der_absent; /* the other form that readers take; empty when there is none */
    enum hash_alg hash;
    enum key_alg key; /* KEY_EC_P256 stands for every EC key */
};

static const struct sig_alg_facts sig_algs[SIG_ALG_COUNT] = {
    [SIG_NONE] = {"none", {0}, {0}, HASH_NONE, KEY_NONE},
    [SIG_ECDSA_SHA256] = {"ecdsa-with-SHA256", OCTETS(ecdsa_sha256), {0}, HASH_SHA256, KEY_EC_P256},
    [SIG_ECDSA_SHA384] = {"ecdsa-with-SHA384", OCTETS(ecdsa_sha384), {0}, HASH_SHA384, KEY_EC_P256},
    [SIG_ECDSA_SHA512] = {"ecdsa-with-SHA512", OCTETS(ecdsa_sha512), {0}, HASH_SHA512, KEY_EC_P256},
    [SIG_RSA_SHA256] = {"sha256WithRSAEncryption", OCTETS(rsa_sha256), OCTETS(rsa_sha256_absent),
                        HASH_SHA256, KEY_RSA},
    [SIG_RSA_SHA384] = {"sha384WithRSAEncryption", OCTETS(rsa_sha384), OCTETS(rsa_sha384_absent),
                        HASH_SHA384, KEY_RSA},
    [SIG_RSA_SHA512] = {"sha512WithRSAEncryption", OCTETS(rsa_sha512), OCTETS(rsa_sha512_absent),
                        HASH_SHA512, KEY_RSA},
    [SIG_RSA_PSS_SHA256] = {"rsassa-pss-SHA256", OCTETS(rsa_pss_sha256), {0}, HASH_SHA256, KEY_RSA},
    [SIG_RSA_PSS_SHA384] = {"rsassa-pss-SHA384", OCTETS(rsa_pss_sha384), {0}, HASH_SHA384, KEY_RSA},
    [SIG_RSA_PSS_SHA512] = {"rsassa-pss-SHA512", OCTETS(rsa_pss_sha512), {0}, HASH_SHA512, KEY_RSA},
    [SIG_ED25519] = {"Ed25519", OCTETS(ed25519), {0}, HASH_NONE, KEY_ED25519},
    [SIG_ML_DSA_44] = {"ML-DSA-44", OCTETS(ml_dsa_44), {0}, HASH_NONE, KEY_ML_DSA_44},
    [SIG_ML_DSA_65] = {"ML-DSA-65", OCTETS(ml_dsa_65), {0}, HASH_NONE, KEY_ML_DSA_65},
};

static const char *const key_alg_names[KEY_ALG_COUNT] = {
    [KEY_NONE] = "none",           [KEY_EC_P256] = "EC P-256",
    [KEY_EC_P384] = "EC P-384",    [KEY_RSA] = "RSA",
    [KEY_ED25519] = "Ed25519",     [KEY_ML_DSA_44] = "ML-DSA-44",
    [KEY_ML_DSA_65] = "ML-DSA-65",
};

static const struct sig_alg_facts *facts_of(enum sig_alg alg)
{
    return &sig_algs[(unsigned)alg < SIG_ALG_COUNT ? alg : SIG_NONE];
}

const char *key_alg_name(enum key_alg alg)
{
    return key_alg_names[(unsigned)alg < KEY_ALG_COUNT ? alg : KEY_NONE];
}

const char *sig_alg_name(enum sig_alg alg)
{
    return facts_of(alg)->name;
}

bool key_alg_from_name(const char *name, enum key_alg *out_alg, uint32_t *out_bits)
{
    static const struct {
        const char *name;
        enum key_alg alg;
        uint32_t bits;
    } words[] = {
        {"p256", KEY_EC_P256, 256},
        {"p384", KEY_EC_P384, 384},
        {"rsa2048", KEY_RSA, 2048},
        {"rsa3072", KEY_RSA, 3072},
        {"rsa4096", KEY_RSA, 4096},
        {"ed25519", KEY_ED25519, 256},
        {"ml-dsa-44", KEY_ML_DSA_44, 1312 * 8},
        {"ml-dsa-65", KEY_ML_DSA_65, 1952 * 8},
    };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(words[i].name, name) == 0) {
            *out_alg = words[i].alg;
            *out_bits = words[i].bits;
            return true;
        }
    }
    return false;
}

enum hash_alg sig_alg_hash(enum sig_alg alg)
{
    return facts_of(alg)->hash;
}

bool sig_alg_fits(enum sig_alg sig, enum key_alg key)
{
    enum key_alg wanted = facts_of(sig)->key;

    if (wanted == KEY_NONE)
        return false;
    return key == wanted || (wanted == KEY_EC_P256 && key == KEY_EC_P384);
}

enum sig_alg sig_alg_default(enum key_alg key)
{
    switch (key) {
    case KEY_EC_P256:
        return SIG_ECDSA_SHA256;
    case KEY_EC_P384:
        return SIG_ECDSA_SHA384;
    case KEY_RSA:
        return SIG_RSA_SHA256;
    case KEY_ED25519:
        return SIG_ED25519;
    case KEY_ML_DSA_44:
        return SIG_ML_DSA_44;
    case KEY_ML_DSA_65:
        return SIG_ML_DSA_65;
    case KEY_NONE:
    case KEY_ALG_COUNT:
        break;
    }
    return SIG_NONE;
}

struct bytes sig_alg_der(enum sig_alg alg)
{
    return facts_of(alg)->der;
}

size_t hash_alg_len(enum hash_alg alg)
{
    switch (alg) {
    case HASH_SHA1:
        return 20;
    case HASH_SHA256:
        return 32;
    case HASH_SHA384:
        return 48;
    case HASH_SHA512:
        return 64;
    case HASH_NONE:
    case HASH_ALG_COUNT:
        break;
    }
    return 0;
}

struct bytes hash_alg_oid(enum hash_alg alg)
{
    switch (alg) {
    case HASH_SHA1:
        return OID_SHA1;
    case HASH_SHA256:
        return OID_SHA256;
    case HASH_SHA384:
        return OID_SHA384;
    case HASH_SHA512:
        return OID_SHA512;
    case HASH_NONE:
    case HASH_ALG_COUNT:
        break;
    }
    return (struct bytes){0};
}

struct bytes hmac_alg_oid(enum hash_alg alg)
{
    switch (alg) {
    case HASH_SHA1:
        return OID_HMAC_SHA1;
    case HASH_SHA256:
        return OID_HMAC_SHA256;
    case HASH_SHA384:
        return OID_HMAC_SHA384;
    case HASH_SHA512:
        return OID_HMAC_SHA512;
    case HASH_NONE:
    case HASH_ALG_COUNT:
        break;
    }
    return (struct bytes){0};
}

enum hash_alg hash_alg_from_oid(struct bytes oid)
{
    for (unsigned alg = HASH_NONE + 1; alg < HASH_ALG_COUNT; alg++)
        if (bytes_eq(oid, hash_alg_oid((enum hash_alg)alg)))
            return (enum hash_alg)alg;
    return HASH_NONE;
}

enum hash_alg hmac_alg_from_oid(struct bytes oid)
{
    for (unsigned alg = HASH_NONE + 1; alg < HASH_ALG_COUNT; alg++)
        if (bytes_eq(oid, hmac_alg_oid((enum hash_alg)alg)))
            return (enum hash_alg)alg;
    return bytes_eq(oid, OID_HMAC_SHA1_IPSEC) ? HASH_SHA1 : HASH_NONE;
}

/* A hash AlgorithmIdentifier, whole; RFC 4055 2.1: parameters NULL or absent, both are taken. */
static bool get_hash(struct bytes *reader, enum hash_alg *out)
{
    struct bytes body, oid, null;
    bool has_null;

    if (!der_get(reader, DER_SEQUENCE, &body) || !der_get_oid(&body, &oid) ||
        !der_get_optional(&body, DER_NULL, &null, &has_null) || body.len != 0 ||
        (has_null && null.len != 0))
        return false;
    enum hash_alg alg = hash_alg_from_oid(oid);
    if (alg == HASH_NONE || alg == HASH_SHA1) /* nothing is signed over SHA-1 */
        return false;
    *out = alg;
    return true;
}

/* id-RSASSA-PSS with its parameters, in each of the forms that RFC 4055 3.1 allows for the three
 * sets certmill knows: the defaults (SHA-1, 20) are none of them, so all three fields are there. */
static enum sig_alg pss_from_der(struct bytes der)
{
    static const uint8_t mgf1[] = {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08};
    struct bytes body, oid, params, field, mgf;
    enum hash_alg hash, mgf_hash;
    uint64_t salt_len;

    if (!der_get(&der, DER_SEQUENCE, &body) || der.len != 0 || !der_get_oid(&body, &oid) ||
        !bytes_eq(oid, OID_RSA_PSS) || !der_get(&body, DER_SEQUENCE, &params) || body.len != 0)
        return SIG_NONE;
    if (!der_get(&params, DER_CONTEXT_CONSTRUCTED(0), &field) || !get_hash(&field, &hash) ||
        field.len != 0)
        return SIG_NONE;
    if (!der_get(&params, DER_CONTEXT_CONSTRUCTED(1), &field) ||
        !der_get(&field, DER_SEQUENCE, &mgf) || field.len != 0 || !der_get_oid(&mgf, &oid) ||
        !bytes_eq(oid, BYTES_ARRAY(mgf1)) || !get_hash(&mgf, &mgf_hash) || mgf.len != 0)
        return SIG_NONE;
    if (!der_get(&params, DER_CONTEXT_CONSTRUCTED(2), &field) || !der_get_u64(&field, &salt_len) ||
        field.len != 0 || params.len != 0)
        return SIG_NONE;
    if (mgf_hash != hash || salt_len != hash_alg_len(hash))
        return SIG_NONE;
    return hash == HASH_SHA256   ? SIG_RSA_PSS_SHA256
           : hash == HASH_SHA384 ? SIG_RSA_PSS_SHA384
                                 : SIG_RSA_PSS_SHA512;
}

enum sig_alg sig_alg_from_der(struct bytes der)
{
    for (unsigned alg = SIG_NONE + 1; alg < SIG_ALG_COUNT; alg++) {
        const struct sig_alg_facts *facts = &sig_algs[alg];
        if (bytes_eq(der, facts->der))
            return (enum sig_alg)alg;
        if (facts->der_absent.len != 0 && bytes_eq(der, facts->der_absent))
            return (enum sig_alg)alg;
    }
    return pss_from_der(der);
}

enum hash_alg hash_alg_from_der(struct bytes der)
{
    struct bytes alg, oid, null;
    bool has_null;
    if (!der_get(&der, DER_SEQUENCE, &alg) || der.len > 0 || !der_get_oid(&alg, &oid) ||
        !der_get_optional(&alg, DER_NULL, &null, &has_null) || alg.len > 0 ||
        (has_null && null.len > 0))
        return HASH_NONE;
    return hash_alg_from_oid(oid);
}

struct bytes key_alg_der(enum key_alg alg)
{
    static const uint8_t p256_id[] = {0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
                                   0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
    static const uint8_t p384_id[] = {0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d,
                                   0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22};
    static const uint8_t rsa_id[] = {0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                  0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00};
    static const uint8_t ed25519_id[] = {0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70};

    switch (alg) {
    case KEY_EC_P256:
        return BYTES_ARRAY(p256_id);
    case KEY_EC_P384:
        return BYTES_ARRAY(p384_id);
    case KEY_RSA:
        return BYTES_ARRAY(rsa_id);
    case KEY_ED25519:
        return BYTES_ARRAY(ed25519_id);
    default:
        return (struct bytes){0};
    }
}
