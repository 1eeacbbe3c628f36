/* Are certificates, keys and extensions read as RFC 5280 profiles them, and refused where they
 * break it? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>

#include "asn1/der.h"
#include "asn1/oid.h"
#include "asn1/x509.h"

#define B(...) bytes_of((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* A file of vectors/asn1 (made by its make.sh); tests run in tests/. */
static struct bytes load(const char *name, uint8_t *buf, size_t cap)
{
    char path[128];
    snprintf(path, sizeof(path), "vectors/asn1/%s.der", name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t len = fread(buf, 1, cap, file);
    fclose(file);
    assert_in_range(len, 1, cap - 1);
    return bytes_of(buf, len);
}

static void test_real_certificates(void **state)
{
    (void)state;
    const uint32_t every_eku = EKU_SERVER_AUTH | EKU_CLIENT_AUTH | EKU_CMC_RA | EKU_CMC_CA |
                               EKU_CM_KGA | EKU_ANY | EKU_OTHER;
    const uint32_t ca_usage = KU_KEY_CERT_SIGN | KU_CRL_SIGN;
    const struct {
        const char *file, *subject;
        enum key_alg key;
        enum sig_alg sig;
        uint32_t key_usage, ext_key_usage, path_len;
        bool is_ca, unknown_critical, has_ski, has_aki, has_san;
    } all[] = {
        {"cert-root", "O=Plant,CN=Root", KEY_RSA, SIG_RSA_SHA256, ca_usage, 0, 2, true, false, true,
         false, false},
        {"cert-intermediate", "O=Plant,CN=Issuing CA", KEY_EC_P384, SIG_RSA_SHA256, ca_usage, 0, 2,
         true, false, true, true, false},
        {"cert-ee", "O=Plant,CN=station-1", KEY_EC_P256, SIG_ECDSA_SHA256, KU_DIGITAL_SIGNATURE,
         every_eku, UINT32_MAX, false, false, true, true, true},
        {"cert-ed25519", "CN=ed25519", KEY_ED25519, SIG_ED25519, KU_DIGITAL_SIGNATURE, every_eku,
         UINT32_MAX, false, false, true, true, true},
        {"cert-name-constraints", "O=Plant,CN=station-1", KEY_EC_P256, SIG_ECDSA_SHA256, 0, 0,
         UINT32_MAX, false, true, true, true, false},
        {"cert-v1", "O=Plant,CN=station-1", KEY_EC_P256, SIG_ECDSA_SHA256, 0, 0, UINT32_MAX, false,
         false, false, false, false},
        {"cert-sha1", "CN=sha1", KEY_RSA, SIG_NONE, ca_usage, 0, 2, true, false, true, false,
         false},
        {"cert-rsa-pss", "CN=pss", KEY_RSA, SIG_RSA_PSS_SHA384, ca_usage, 0, 2, true, false, true,
         false, false},
        {"cert-strongswan", "C=DE,O=Plant,CN=ss", KEY_RSA, SIG_RSA_SHA256, ca_usage, 0, UINT32_MAX,
         true, false, true, false, true},
    };
    static uint8_t file[4096];
    static struct x509_cert cert;

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct bytes der = load(all[i].file, file, sizeof(file));
        char text[128];
        assert_int_equal(x509_decode(der, &cert), ERR_OK);
        assert_true(bytes_eq(cert.der, der));
        name_to_text(cert.subject, text, sizeof(text));
        assert_string_equal(text, all[i].subject);
        assert_int_equal(cert.spki.alg, all[i].key);
        assert_int_equal(cert.sig_alg, all[i].sig);
        assert_int_equal(cert.key_usage, all[i].key_usage);
        assert_int_equal(cert.has_key_usage, all[i].key_usage != 0);
        assert_int_equal(cert.ext_key_usage, all[i].ext_key_usage);
        assert_int_equal(cert.has_ext_key_usage, all[i].ext_key_usage != 0);
        assert_int_equal(cert.path_len, all[i].path_len);
        assert_int_equal(cert.is_ca, all[i].is_ca);
        assert_int_equal(cert.unknown_critical, all[i].unknown_critical);
        assert_int_equal(cert.ski.len, all[i].has_ski ? 20 : 0);
        assert_int_equal(cert.aki.len, all[i].has_aki ? 20 : 0);
        assert_int_equal(cert.san.len != 0, all[i].has_san);
        assert_true(cert.not_before_s > 1700000000 && cert.not_before_s < cert.not_after_s);
        assert_true(cert.tbs.ptr == der.ptr + 4 && cert.tbs.len < der.len);
        assert_ptr_equal(cert.signature.ptr + cert.signature.len, der.ptr + der.len);
    }
    assert_int_equal(x509_decode(load("cert-ee", file, sizeof(file)), &cert), ERR_OK);
    assert_true(bytes_eq(cert.serial, B(0x00, 0xff, 0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99)));
    const struct extension *extension = extensions_find(&cert.extensions, OID_EXT_KEY_USAGE);
    assert_non_null(extension);
    assert_true(extension->critical);
    assert_true(bytes_eq(extension->oid, OID_EXT_KEY_USAGE));
    assert_true(der_is_strict(extension->der));
    assert_null(extensions_find(&cert.extensions, OID_EXT_NAME_CONSTRAINTS));
}

static void test_prefixes(void **state)
{
    (void)state;
    static uint8_t file[4096];
    static struct x509_cert cert;
    struct bytes der = load("cert-ee", file, sizeof(file));

    memset(&cert, 0x5a, sizeof(cert));
    for (size_t len = 0; len < der.len; len++)
        assert_int_equal(x509_decode(bytes_of(der.ptr, len), &cert), ERR_BAD_DER);
    assert_int_equal(x509_decode(bytes_of(der.ptr, der.len + 1), &cert), ERR_DER_TRAILING);
    for (size_t i = 0; i < sizeof(cert); i++)
        assert_int_equal(((uint8_t *)&cert)[i], 0x5a);
}

/* --- SubjectPublicKeyInfo --- */

static uint8_t spki_buf[4096];

static struct bytes spki_of(struct bytes alg, struct bytes key)
{
    struct der_builder builder = der_builder_of(spki_buf, sizeof(spki_buf));
    struct bytes all;

    der_open(&builder, DER_SEQUENCE);
    der_put_raw(&builder, alg);
    der_put_bits(&builder, key);
    der_close(&builder);
    assert_true(der_finish(&builder, &all));
    return all;
}

static enum err decode_key(struct bytes alg, struct bytes key, struct spki *out)
{
    return spki_decode(spki_of(alg, key), out);
}

#define ALG_P256                                                                                   \
    B(0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,    \
      0x48, 0xce, 0x3d, 0x03, 0x01, 0x07)
#define ALG_P384                                                                                   \
    B(0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,    \
      0x04, 0x00, 0x22)
#define ALG_RSA                                                                                    \
    B(0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00)
#define ALG_ED25519 B(0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70)
#define ALG_ML_DSA_44                                                                              \
    B(0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x11)
#define ALG_ML_DSA_65                                                                              \
    B(0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x12)

static void test_keys(void **state)
{
    (void)state;
    static uint8_t key[2048];
    struct spki spki = {0};
    const struct {
        struct bytes alg;
        size_t len;
        uint8_t first;
        enum key_alg key;
        uint32_t bits;
    } all[] = {
        {ALG_P256, 65, 0x04, KEY_EC_P256, 256},
        {ALG_P384, 97, 0x04, KEY_EC_P384, 384},
        {ALG_ED25519, 32, 0x77, KEY_ED25519, 256},
        {ALG_ML_DSA_44, 1312, 0x77, KEY_ML_DSA_44, 1312 * 8},
        {ALG_ML_DSA_65, 1952, 0x77, KEY_ML_DSA_65, 1952 * 8},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        key[0] = all[i].first;
        assert_int_equal(decode_key(all[i].alg, bytes_of(key, all[i].len), &spki), ERR_OK);
        assert_int_equal(spki.alg, all[i].key);
        assert_int_equal(spki.bits, all[i].bits);
        assert_int_equal(spki.key.len, all[i].len);
        assert_int_equal(spki.key.ptr[0], all[i].first);
        assert_int_equal(decode_key(all[i].alg, bytes_of(key, all[i].len - 1), &spki), ERR_BAD_KEY);
        assert_int_equal(decode_key(all[i].alg, bytes_of(key, all[i].len + 1), &spki), ERR_BAD_KEY);
        assert_int_equal(decode_key(all[i].alg, (struct bytes){0}, &spki), ERR_BAD_KEY);
    }
    /* points: compressed, hybrid, infinite */
    const uint8_t forms[] = {0x00, 0x02, 0x03, 0x06, 0x07};
    for (size_t i = 0; i < sizeof(forms); i++) {
        key[0] = forms[i];
        assert_int_equal(decode_key(ALG_P256, bytes_of(key, 65), &spki), ERR_BAD_KEY);
        assert_int_equal(decode_key(ALG_P384, bytes_of(key, 97), &spki), ERR_BAD_KEY);
        assert_int_equal(decode_key(ALG_P256, bytes_of(key, 33), &spki), ERR_BAD_KEY);
        assert_int_equal(decode_key(ALG_P256, bytes_of(key, 1), &spki), ERR_BAD_KEY);
    }
}

static void test_key_algorithms(void **state)
{
    (void)state;
    static uint8_t key[65] = {0x04};
    const struct bytes good = bytes_of(key, 65), null = B(0x05, 0x00);
    struct spki spki = {.bits = 4711};
    const struct {
        struct bytes alg;
        enum err err;
    } bad[] = {
        {B(0x30, 0x09, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01),
         ERR_BAD_ALG}, /* no curve */
        {B(0x30, 0x0b, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x05, 0x00),
         ERR_BAD_ALG},
        {B(0x30, 0x07, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x05, 0x00),
         ERR_BAD_ALG}, /* Ed25519 with NULL */
        {B(0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x71), ERR_BAD_ALG},
        {B(0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a, 0x05,
           0x00),
         ERR_BAD_ALG},
        {B(0x30, 0x06, 0x06, 0x04, 0x2b, 0x65, 0x80, 0x70), ERR_BAD_DER},
        {B(0x30, 0x80, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x00, 0x00), ERR_BAD_DER},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(decode_key(bad[i].alg, good, &spki), bad[i].err);
    /* structure */
    assert_int_equal(spki_decode((struct bytes){0}, &spki), ERR_BAD_DER);
    assert_int_equal(spki_decode(null, &spki), ERR_BAD_DER);
    struct bytes der = spki_of(ALG_P256, good);
    spki_buf[der.len] = 0;
    assert_int_equal(spki_decode(bytes_of(der.ptr, der.len + 1), &spki), ERR_DER_TRAILING);
    assert_int_equal(spki_decode(B(0x30, 0x0c, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x01,
                                   0x00, 0x05, 0x00),
                                 &spki),
                     ERR_DER_TRAILING);
    assert_int_equal(
        spki_decode(B(0x30, 0x0b, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x02, 0x01, 0x02),
                    &spki),
        ERR_BAD_DER); /* unused bits */
    assert_int_equal(spki.bits, 4711);
}

struct rsa {
    size_t modulus_bits;
    struct bytes exponent;
    uint8_t last_octet;
    struct bytes behind;
    bool null_absent;
};

static enum err decode_rsa(struct rsa rsa, struct spki *out)
{
    static uint8_t buf[1200], modulus[800];
    struct der_builder builder = der_builder_of(buf, sizeof(buf));
    size_t len = (rsa.modulus_bits + 7) / 8;
    struct bytes all;

    memset(modulus, 0xa5, sizeof(modulus));
    modulus[0] = (uint8_t)(1u << (rsa.modulus_bits + 7) % 8);
    modulus[len - 1] = rsa.last_octet;
    der_open(&builder, DER_SEQUENCE);
    der_put_unsigned(&builder, bytes_of(modulus, len));
    der_put_raw(&builder, rsa.exponent);
    der_put_raw(&builder, rsa.behind);
    der_close(&builder);
    assert_true(der_finish(&builder, &all));
    struct bytes absent =
        B(0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01);
    return decode_key(rsa.null_absent ? absent : ALG_RSA, all, out);
}

static void test_rsa_keys(void **state)
{
    (void)state;
    const struct bytes f4 = B(0x02, 0x03, 0x01, 0x00, 0x01), none = {0};
    struct spki spki;

    const size_t good_bits[] = {2048, 2049, 3072, 4095, 4096};
    for (size_t i = 0; i < sizeof(good_bits) / sizeof(good_bits[0]); i++) {
        assert_int_equal(decode_rsa((struct rsa){good_bits[i], f4, 0x01, none, false}, &spki),
                         ERR_OK);
        assert_int_equal(spki.alg, KEY_RSA);
        assert_int_equal(spki.bits, good_bits[i]);
        assert_int_equal(spki.modulus.len, (good_bits[i] + 7) / 8);
        assert_int_not_equal(spki.modulus.ptr[0], 0);
        assert_true(bytes_eq(spki.exponent, B(0x01, 0x00, 0x01)));
    }
    assert_int_equal(decode_rsa((struct rsa){2048, f4, 0x01, none, true}, &spki), ERR_OK);
    assert_int_equal(decode_rsa((struct rsa){2048, B(0x02, 0x01, 0x03), 0x01, none, false}, &spki),
                     ERR_OK);
    assert_int_equal(
        decode_rsa((struct rsa){2048, B(0x02, 0x08, 0x7f, 1, 1, 1, 1, 1, 1, 1), 0x01, none, false},
                   &spki),
        ERR_OK);
    const struct rsa bad[] = {
        {1024, f4, 0x01, none, false},
        {2047, f4, 0x01, none, false},
        {4097, f4, 0x01, none, false},
        {4104, f4, 0x01, none, false},
        {2048, f4, 0x02, none, false},                                       /* even modulus */
        {2048, B(0x02, 0x01, 0x01), 0x01, none, false},                      /* e = 1 */
        {2048, B(0x02, 0x01, 0x02), 0x01, none, false},                      /* e even */
        {2048, B(0x02, 0x03, 0x01, 0x00, 0x00), 0x01, none, false},          /* e even */
        {2048, B(0x02, 0x01, 0x00), 0x01, none, false},                      /* e = 0 */
        {2048, B(0x02, 0x01, 0xfd), 0x01, none, false},                      /* e negative */
        {2048, B(0x02, 0x02, 0x00, 0x03), 0x01, none, false},                /* not minimal */
        {2048, B(0x02, 0x09, 1, 1, 1, 1, 1, 1, 1, 1, 1), 0x01, none, false}, /* slow to verify */
        {2048, none, 0x01, none, false},
        {2048, f4, 0x01, f4, false}, /* a third field */
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(decode_rsa(bad[i], &spki), ERR_BAD_KEY);
    assert_int_equal(decode_key(ALG_RSA, B(0x30, 0x00), &spki), ERR_BAD_KEY);
    assert_int_equal(decode_key(ALG_RSA, (struct bytes){0}, &spki), ERR_BAD_KEY);
    /* something behind the RSAPublicKey, inside the BIT STRING */
    static uint8_t key[400];
    struct der_builder builder = der_builder_of(key, sizeof(key));
    uint8_t modulus[256];
    struct bytes all;
    memset(modulus, 0xff, sizeof(modulus));
    der_open(&builder, DER_SEQUENCE);
    der_put_unsigned(&builder, BYTES_ARRAY(modulus));
    der_put_raw(&builder, f4);
    der_close(&builder);
    assert_true(der_finish(&builder, &all));
    assert_int_equal(decode_key(ALG_RSA, all, &spki), ERR_OK);
    assert_int_equal(decode_key(ALG_RSA, bytes_of(all.ptr, all.len + 1), &spki), ERR_BAD_KEY);
    key[8] |= 0x80; /* the sign octet of the modulus is no longer zero: 00 FF -> 80 FF */
    assert_int_equal(decode_key(ALG_RSA, all, &spki), ERR_BAD_KEY);
}

/* --- extensions --- */

#define EXT_KU(...) 0x30, 0x0b, 0x06, 0x03, 0x55, 0x1d, 0x0f, 0x04, 0x04, 0x03, 0x02, __VA_ARGS__

static void test_extensions(void **state)
{
    (void)state;
    static struct extensions all;
    uint8_t many[16 * (EXTENSIONS_MAX + 1) + 8];

    assert_int_equal(extensions_decode(B(0x30, 0x00), &all), ERR_OK);
    assert_int_equal(all.count, 0);
    assert_int_equal(extensions_decode(B(0x30, 0x0d, EXT_KU(0x07, 0x80)), &all), ERR_OK);
    assert_int_equal(all.count, 1);
    assert_false(all.item[0].critical);
    assert_int_equal(all.item[0].value.len, 4);
    assert_int_equal(all.item[0].der.len, 13);
    assert_int_equal(
        extensions_decode(
            B(0x30, 0x0b, 0x30, 0x09, 0x06, 0x02, 0x2a, 0x03, 0x01, 0x01, 0xff, 0x04, 0x00), &all),
        ERR_OK);
    assert_true(all.item[0].critical);

    assert_int_equal(extensions_decode(B(0x30, 0x1a, EXT_KU(0x07, 0x80), EXT_KU(0x06, 0x40)), &all),
                     ERR_BAD_CERT);
    /* DEFAULT FALSE written out (X.690 11.5), TRUE as 01 (11.1) */
    assert_int_equal(
        extensions_decode(
            B(0x30, 0x0b, 0x30, 0x09, 0x06, 0x02, 0x2a, 0x03, 0x01, 0x01, 0x00, 0x04, 0x00), &all),
        ERR_BAD_DER);
    assert_int_equal(
        extensions_decode(
            B(0x30, 0x0b, 0x30, 0x09, 0x06, 0x02, 0x2a, 0x03, 0x01, 0x01, 0x01, 0x04, 0x00), &all),
        ERR_BAD_DER);
    assert_int_equal(
        extensions_decode(B(0x30, 0x0a, 0x30, 0x08, 0x06, 0x02, 0x2a, 0x03, 0x04, 0x00, 0x05, 0x00),
                          &all),
        ERR_DER_TRAILING);
    assert_int_equal(extensions_decode(B(0x30, 0x00, 0x00), &all), ERR_DER_TRAILING);
    assert_int_equal(extensions_decode(B(0x30, 0x06, 0x30, 0x04, 0x06, 0x02, 0x2a, 0x03), &all),
                     ERR_BAD_DER);
    assert_int_equal(
        extensions_decode(B(0x30, 0x08, 0x30, 0x06, 0x06, 0x02, 0x2a, 0x03, 0x24, 0x00), &all),
        ERR_BAD_DER);
    assert_int_equal(
        extensions_decode(B(0x30, 0x08, 0x30, 0x06, 0x06, 0x02, 0x80, 0x03, 0x04, 0x00), &all),
        ERR_BAD_DER);
    assert_int_equal(extensions_decode(B(0x31, 0x00), &all), ERR_BAD_DER);

    for (size_t count = EXTENSIONS_MAX; count <= EXTENSIONS_MAX + 1; count++) {
        struct der_builder builder = der_builder_of(many, sizeof(many));
        struct bytes der;
        der_open(&builder, DER_SEQUENCE);
        for (size_t i = 0; i < count; i++)
            der_put_raw(&builder, B(0x30, 0x06, 0x06, 0x02, 0x2a, (uint8_t)i, 0x04, 0x00));
        der_close(&builder);
        assert_true(der_finish(&builder, &der));
        all.count = 4711;
        assert_int_equal(extensions_decode(der, &all),
                         count == EXTENSIONS_MAX ? ERR_OK : ERR_BAD_CERT);
        assert_int_equal(all.count, count == EXTENSIONS_MAX ? EXTENSIONS_MAX : 4711);
    }
}

/* --- a certificate put together from parts --- */

struct parts {
    struct bytes version, serial, inner_alg, issuer, validity, subject, spki, issuer_id, subject_id;
    struct bytes extensions, behind_tbs, outer_alg, signature, behind;
};

static const uint8_t good_spki[] = {
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00, 1,  2,  3,
    4,    5,    6,    7,    8,    9,    10,   11,   12,   13,   14,   15,   16, 17, 18,
    19,   20,   21,   22,   23,   24,   25,   26,   27,   28,   29,   30,   31, 32};

static const struct parts good_parts = {
    .version = BYTES_LIT("\xa0\x03\x02\x01\x02"),
    .serial = BYTES_LIT("\x02\x01\x05"),
    .inner_alg = BYTES_LIT("\x30\x05\x06\x03\x2b\x65\x70"),
    .issuer = BYTES_LIT("\x30\x0c\x31\x0a\x30\x08\x06\x03\x55\x04\x03\x0c\x01"
                        "a"),
    .validity = BYTES_LIT("\x30\x20\x17\x0d"
                          "700101000000Z"
                          "\x18\x0f"
                          "99991231235959Z"),
    .subject = BYTES_LIT("\x30\x00"),
    .spki = {good_spki, sizeof(good_spki)},
    .outer_alg = BYTES_LIT("\x30\x05\x06\x03\x2b\x65\x70"),
    .signature = BYTES_LIT("\x03\x03\x00\x01\x02"),
};

static struct x509_cert last;
static uint8_t cert_buf[CERT_DER_MAX + 512];

static enum err decode_parts(struct parts parts)
{
    struct der_builder builder = der_builder_of(cert_buf, sizeof(cert_buf));
    struct bytes all;

    der_open(&builder, DER_SEQUENCE);
    der_open(&builder, DER_SEQUENCE);
    der_put_raw(&builder, parts.version);
    der_put_raw(&builder, parts.serial);
    der_put_raw(&builder, parts.inner_alg);
    der_put_raw(&builder, parts.issuer);
    der_put_raw(&builder, parts.validity);
    der_put_raw(&builder, parts.subject);
    der_put_raw(&builder, parts.spki);
    der_put_raw(&builder, parts.issuer_id);
    der_put_raw(&builder, parts.subject_id);
    der_put_raw(&builder, parts.extensions);
    der_put_raw(&builder, parts.behind_tbs);
    der_close(&builder);
    der_put_raw(&builder, parts.outer_alg);
    der_put_raw(&builder, parts.signature);
    der_put_raw(&builder, parts.behind);
    der_close(&builder);
    assert_true(der_finish(&builder, &all));
    return x509_decode(all, &last);
}

#define assert_part(field, value, err)                                                             \
    do {                                                                                           \
        struct parts parts = good_parts;                                                           \
        parts.field = (value);                                                                     \
        assert_int_equal(decode_parts(parts), err);                                                \
    } while (0)

static void test_parts(void **state)
{
    (void)state;
    const struct bytes none = {0}, null = B(0x05, 0x00);

    assert_int_equal(decode_parts(good_parts), ERR_OK);
    assert_int_equal(last.not_before_s, 0);
    assert_int_equal(last.not_after_s, DER_TIME_NO_EXPIRY);
    assert_part(version, none, ERR_OK); /* v1 */
    assert_part(version, B(0xa0, 0x03, 0x02, 0x01, 0x01), ERR_OK);
    assert_part(version, B(0xa0, 0x03, 0x02, 0x01, 0x00), ERR_BAD_DER); /* DEFAULT written out */
    assert_part(version, B(0xa0, 0x03, 0x02, 0x01, 0x03), ERR_BAD_CERT);
    assert_part(version, B(0xa0, 0x03, 0x02, 0x01, 0xff), ERR_BAD_DER);
    assert_part(version, B(0xa0, 0x00), ERR_BAD_DER);
    assert_part(version, B(0xa0, 0x05, 0x02, 0x01, 0x02, 0x05, 0x00), ERR_DER_TRAILING);
    assert_part(serial, B(0x02, 0x01, 0x00), ERR_OK);
    assert_part(serial, B(0x02, 0x01, 0x80), ERR_BAD_CERT); /* negative */
    assert_part(serial, B(0x02, 0x02, 0x00, 0x05), ERR_BAD_DER);
    assert_part(serial, B(0x02, 0x00), ERR_BAD_DER);
    assert_part(serial,
                BYTES_LIT("\x02\x14"
                          "aaaaaaaaaaaaaaaaaaaa"),
                ERR_OK);
    assert_part(serial,
                BYTES_LIT("\x02\x15"
                          "aaaaaaaaaaaaaaaaaaaaa"),
                ERR_BAD_CERT);
    assert_part(inner_alg, B(0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x71), ERR_BAD_CERT); /* 4.1.1.2 */
    assert_part(outer_alg, B(0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x71), ERR_BAD_CERT);
    assert_part(outer_alg, B(0x30, 0x00), ERR_BAD_DER);
    assert_part(outer_alg, B(0x30, 0x02, 0x06, 0x00), ERR_BAD_DER);
    assert_part(issuer, none, ERR_BAD_DER);
    assert_part(issuer, B(0x30, 0x02, 0x31, 0x00), ERR_BAD_CERT);
    assert_part(subject, B(0x30, 0x02, 0x31, 0x00), ERR_BAD_CERT);
    assert_part(validity,
                BYTES_LIT("\x30\x0f\x17\x0d"
                          "700101000000Z"),
                ERR_BAD_DER);
    assert_part(validity,
                BYTES_LIT("\x30\x22\x17\x0d"
                          "700101000000Z"
                          "\x18\x0f"
                          "99991231235959Z"
                          "\x05\x00"),
                ERR_DER_TRAILING);
    assert_part(validity,
                BYTES_LIT("\x30\x1d\x17\x0d"
                          "700101000000Z"
                          "\x17\x0c"
                          "70010100000Z"),
                ERR_BAD_DER);
    assert_part(spki, none, ERR_BAD_DER);
    assert_part(spki, B(0x30, 0x0a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x71, 0x03, 0x01, 0x00),
                ERR_BAD_ALG);
    assert_part(spki, B(0x30, 0x0a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x01, 0x00),
                ERR_BAD_KEY);
    assert_part(issuer_id, B(0x81, 0x02, 0x00, 0xaa), ERR_OK);
    assert_part(subject_id, B(0x82, 0x02, 0x04, 0xa0), ERR_OK);
    assert_part(subject_id, B(0x82, 0x01, 0x00), ERR_OK);
    assert_part(subject_id, B(0x82, 0x02, 0x07, 0x80), ERR_OK);
    assert_part(subject_id, B(0x82, 0x00), ERR_BAD_DER);
    assert_part(subject_id, B(0x82, 0x02, 0x04, 0xa1), ERR_BAD_DER); /* unused bits not zero */
    assert_part(subject_id, B(0x82, 0x02, 0x08, 0x00), ERR_BAD_DER);
    assert_part(subject_id, B(0x82, 0x01, 0x01), ERR_BAD_DER);
    assert_part(issuer_id, B(0x82, 0x01, 0x00, 0x81, 0x01, 0x00), ERR_DER_TRAILING); /* order */
    assert_part(behind_tbs, null, ERR_DER_TRAILING);
    assert_part(behind, null, ERR_DER_TRAILING);
    assert_part(signature, B(0x03, 0x02, 0x01, 0x02), ERR_BAD_DER);
    assert_part(signature, none, ERR_BAD_DER);
    assert_part(extensions, B(0xa3, 0x02, 0x30, 0x00), ERR_BAD_CERT); /* SIZE (1..MAX) */
    assert_part(extensions, B(0xa3, 0x00), ERR_BAD_DER);
    assert_part(extensions, B(0xa3, 0x04, 0x30, 0x00, 0x05, 0x00), ERR_DER_TRAILING);
    assert_part(extensions, B(0xa3, 0x1c, 0x30, 0x1a, EXT_KU(0x07, 0x80), EXT_KU(0x07, 0x80)),
                ERR_BAD_CERT);

    /* what a version may hold */
    struct parts parts = good_parts;
    parts.version = none;
    parts.extensions = B(0xa3, 0x0f, 0x30, 0x0d, EXT_KU(0x07, 0x80));
    assert_int_equal(decode_parts(parts), ERR_BAD_CERT);
    parts.version = B(0xa0, 0x03, 0x02, 0x01, 0x01);
    assert_int_equal(decode_parts(parts), ERR_BAD_CERT);
    parts.version = good_parts.version;
    assert_int_equal(decode_parts(parts), ERR_OK);
    assert_int_equal(last.key_usage, KU_DIGITAL_SIGNATURE);
    parts = good_parts;
    parts.version = none;
    parts.issuer_id = B(0x81, 0x01, 0x00);
    assert_int_equal(decode_parts(parts), ERR_BAD_CERT);
    parts.version = B(0xa0, 0x03, 0x02, 0x01, 0x01);
    assert_int_equal(decode_parts(parts), ERR_OK);

    /* an unknown signature algorithm, the same twice, still decodes */
    parts = good_parts;
    parts.inner_alg = parts.outer_alg = B(0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x71);
    assert_int_equal(decode_parts(parts), ERR_OK);
    assert_int_equal(last.sig_alg, SIG_NONE);
    parts.inner_alg = parts.outer_alg =
        B(0x30, 0x09, 0x06, 0x03, 0x2b, 0x65, 0x71, 0x05, 0x00, 0x05, 0x00);
    assert_int_equal(decode_parts(parts), ERR_BAD_DER); /* two parameters */
}

/* One extension in a certificate that is good otherwise. */
static enum err decode_extension(struct bytes oid, bool critical, struct bytes value)
{
    uint8_t buf[512];
    struct der_builder builder = der_builder_of(buf, sizeof(buf));
    struct parts parts = good_parts;

    der_open(&builder, DER_CONTEXT_CONSTRUCTED(3));
    der_open(&builder, DER_SEQUENCE);
    der_open(&builder, DER_SEQUENCE);
    der_put(&builder, DER_OID, oid);
    if (critical)
        der_put_bool(&builder, true);
    der_put(&builder, DER_OCTET_STRING, value);
    der_close(&builder);
    der_close(&builder);
    der_close(&builder);
    assert_true(der_finish(&builder, &parts.extensions));
    return decode_parts(parts);
}

static void test_known_extensions(void **state)
{
    (void)state;
    const struct {
        struct bytes oid, value;
        bool ok;
    } all[] = {
        {OID_EXT_KEY_USAGE, B(0x03, 0x02, 0x01, 0x06), true},
        {OID_EXT_KEY_USAGE, B(0x03, 0x01, 0x00), false}, /* no bit set */
        {OID_EXT_KEY_USAGE, B(0x03, 0x02, 0x00, 0x06), false},
        {OID_EXT_KEY_USAGE, B(0x03, 0x02, 0x01, 0x06, 0x00), false},
        {OID_EXT_KEY_USAGE, B(0x04, 0x02, 0x01, 0x06), false},
        {OID_EXT_EKU, B(0x30, 0x03, 0x06, 0x01, 0x2a), true},
        {OID_EXT_EKU, B(0x30, 0x00), false},
        {OID_EXT_EKU, B(0x30, 0x02, 0x06, 0x00), false},
        {OID_EXT_EKU, B(0x30, 0x05, 0x06, 0x01, 0x2a, 0x05, 0x00), false},
        {OID_EXT_EKU, B(0x30, 0x03, 0x06, 0x01, 0x2a, 0x00), false},
        {OID_EXT_BASIC_CONSTRAINTS, B(0x30, 0x00), true},
        {OID_EXT_BASIC_CONSTRAINTS, B(0x30, 0x03, 0x01, 0x01, 0xff), true},
        {OID_EXT_BASIC_CONSTRAINTS, B(0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00), true},
        {OID_EXT_BASIC_CONSTRAINTS, B(0x30, 0x03, 0x01, 0x01, 0x00), false}, /* DEFAULT */
        {OID_EXT_BASIC_CONSTRAINTS, B(0x30, 0x03, 0x01, 0x01, 0x01), false},
        {OID_EXT_BASIC_CONSTRAINTS, B(0x30, 0x03, 0x02, 0x01, 0x00),
         false}, /* pathLen without cA */
        {OID_EXT_BASIC_CONSTRAINTS, B(0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0xff), false},
        {OID_EXT_BASIC_CONSTRAINTS, B(0x30, 0x07, 0x01, 0x01, 0xff, 0x02, 0x02, 0x00, 0x01), false},
        {OID_EXT_BASIC_CONSTRAINTS, B(0x30, 0x08, 0x01, 0x01, 0xff, 0x02, 0x01, 0x00, 0x05, 0x00),
         false},
        {OID_EXT_BASIC_CONSTRAINTS, B(0x30, 0x00, 0x00), false},
        {OID_EXT_SAN, B(0x30, 0x03, 0x82, 0x01, 'a'), true},
        {OID_EXT_SAN, B(0x30, 0x00), false},
        {OID_EXT_SKI, B(0x04, 0x01, 0x01), true},
        {OID_EXT_SKI, B(0x04, 0x00), false},
        {OID_EXT_SKI, B(0x04, 0x01, 0x01, 0x00), false},
        {OID_EXT_SKI, B(0x24, 0x03, 0x04, 0x01, 0x01), false},
        {OID_EXT_AKI, B(0x30, 0x00), true},
        {OID_EXT_AKI, B(0x30, 0x03, 0x80, 0x01, 0x01), true},
        {OID_EXT_AKI,
         B(0x30, 0x0b, 0x80, 0x01, 0x01, 0xa1, 0x03, 0x82, 0x01, 'a', 0x82, 0x01, 0x05), true},
        {OID_EXT_AKI, B(0x30, 0x05, 0xa1, 0x03, 0x82, 0x01, 0x00), false},
        {OID_EXT_AKI, B(0x30, 0x02, 0xa1, 0x00), false},
        {OID_EXT_AKI, B(0x30, 0x04, 0x82, 0x02, 0x00, 0x05), false},
        {OID_EXT_AKI, B(0x30, 0x04, 0x82, 0x02, 0xff, 0x85), false},
        {OID_EXT_AKI, B(0x30, 0x02, 0x82, 0x00), false},
        {OID_EXT_AKI, B(0x30, 0x04, 0x82, 0x02, 0x00, 0x85), true},
        {OID_EXT_AKI, B(0x30, 0x04, 0x82, 0x02, 0x05, 0x01), true},
        {OID_EXT_AKI, B(0x30, 0x03, 0x82, 0x01, 0x00), true},
        {OID_EXT_AKI, B(0x30, 0x05, 0x82, 0x01, 0x05, 0x05, 0x00), false},
        {OID_EXT_AKI, B(0x30, 0x00, 0x00), false},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        assert_int_equal(decode_extension(all[i].oid, true, all[i].value),
                         all[i].ok ? ERR_OK : ERR_BAD_CERT);
        if (all[i].ok)
            assert_false(last.unknown_critical);
    }
    assert_int_equal(
        decode_extension(OID_EXT_BASIC_CONSTRAINTS, true, B(0x30, 0x03, 0x01, 0x01, 0xff)), ERR_OK);
    assert_true(last.is_ca);
    assert_int_equal(last.path_len, UINT32_MAX);
    assert_int_equal(
        decode_extension(OID_EXT_BASIC_CONSTRAINTS, true,
                         B(0x30, 0x0a, 0x01, 0x01, 0xff, 0x02, 0x05, 0x01, 0, 0, 0, 0)),
        ERR_OK);
    assert_int_equal(last.path_len, UINT32_MAX);
    /* what certmill does not process, critical and not */
    const struct bytes unknown[] = {OID_EXT_NAME_CONSTRAINTS, OID_EXT_CERT_POLICIES, OID_EXT_CRL_DP,
                                    OID_EXT_AIA};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        assert_int_equal(decode_extension(unknown[i], false, B(0x30, 0x00)), ERR_OK);
        assert_false(last.unknown_critical);
        assert_int_equal(decode_extension(unknown[i], true, B(0x30, 0x00)), ERR_OK);
        assert_true(last.unknown_critical);
    }
}

static void test_size(void **state)
{
    (void)state;
    static uint8_t filler[CERT_DER_MAX], raw[CERT_DER_MAX + 16];
    struct parts parts = good_parts;
    struct der_builder builder;

    assert_int_equal(decode_parts(parts), ERR_OK);
    size_t overhead = last.der.len - parts.signature.len + 2 + 5; /* two longer headers, its own */
    for (size_t more = 0; more < 2; more++) {
        builder = der_builder_of(raw, sizeof(raw));
        der_put_bits(&builder, bytes_of(filler, CERT_DER_MAX - overhead + more));
        assert_true(der_finish(&builder, &parts.signature));
        assert_int_equal(decode_parts(parts), more == 0 ? ERR_OK : ERR_BAD_CERT);
        if (more == 0)
            assert_int_equal(last.der.len, CERT_DER_MAX);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_certificates),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_key_algorithms),
        cmocka_unit_test(test_rsa_keys),
        cmocka_unit_test(test_extensions),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_known_extensions),
        cmocka_unit_test(test_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
