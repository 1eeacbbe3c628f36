/* Does each algorithm have one encoding out, and only the encodings its RFC allows in? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "asn1/alg.h"
#include "asn1/der.h"
#include "asn1/oid.h"

static void test_round_trip(void **state)
{
    (void)state;
    for (unsigned i = SIG_NONE + 1; i < SIG_ALG_COUNT; i++) {
        enum sig_alg alg = (enum sig_alg)i;
        struct bytes der = sig_alg_der(alg);
        assert_true(der_is_strict(der));
        assert_int_equal(sig_alg_from_der(der), alg);
        assert_string_not_equal(sig_alg_name(alg), "none");
        for (size_t len = 0; len < der.len; len++)
            assert_int_equal(sig_alg_from_der(bytes_of(der.ptr, len)), SIG_NONE);
        /* any flipped bit makes another algorithm, or none */
        uint8_t copy[128];
        assert_true(der.len < sizeof(copy));
        memcpy(copy, der.ptr, der.len);
        for (size_t bit = 0; bit < der.len * 8; bit++) {
            copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_not_equal(sig_alg_from_der(bytes_of(copy, der.len)), alg);
            copy[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
    assert_int_equal(sig_alg_der(SIG_NONE).len, 0);
    assert_int_equal(sig_alg_from_der((struct bytes){0}), SIG_NONE);
}

/* SEQUENCE { oid, and NULL if so } */
static enum sig_alg with_oid(const char *dotted, bool has_null)
{
    uint8_t oid[16], buf[64];
    size_t oid_len;
    struct der_builder builder = der_builder_of(buf, sizeof(buf));
    struct bytes all;

    assert_true(oid_from_text(dotted, oid, sizeof(oid), &oid_len));
    der_open(&builder, DER_SEQUENCE);
    der_put(&builder, DER_OID, bytes_of(oid, oid_len));
    if (has_null)
        der_put_null(&builder);
    der_close(&builder);
    assert_true(der_finish(&builder, &all));
    return sig_alg_from_der(all);
}

static void test_parameters(void **state)
{
    (void)state;
    const struct {
        const char *dotted;
        enum sig_alg absent, null;
    } all[] = {
        {"1.2.840.10045.4.3.2", SIG_ECDSA_SHA256, SIG_NONE}, /* RFC 5758 3.2: absent */
        {"1.2.840.10045.4.3.3", SIG_ECDSA_SHA384, SIG_NONE},
        {"1.2.840.10045.4.3.4", SIG_ECDSA_SHA512, SIG_NONE},
        {"1.2.840.113549.1.1.11", SIG_RSA_SHA256, SIG_RSA_SHA256}, /* RFC 4055 5: both */
        {"1.2.840.113549.1.1.12", SIG_RSA_SHA384, SIG_RSA_SHA384},
        {"1.2.840.113549.1.1.13", SIG_RSA_SHA512, SIG_RSA_SHA512},
        {"1.3.101.112", SIG_ED25519, SIG_NONE}, /* RFC 8410 3: absent */
        {"2.16.840.1.101.3.4.3.17", SIG_ML_DSA_44, SIG_NONE},
        {"2.16.840.1.101.3.4.3.18", SIG_ML_DSA_65, SIG_NONE},
        {"1.2.840.113549.1.1.5", SIG_NONE, SIG_NONE},  /* SHA-1 */
        {"1.2.840.113549.1.1.4", SIG_NONE, SIG_NONE},  /* MD5 */
        {"1.2.840.10045.4.1", SIG_NONE, SIG_NONE},     /* ECDSA with SHA-1 */
        {"1.2.840.10045.4.3.1", SIG_NONE, SIG_NONE},   /* SHA-224 */
        {"1.2.840.113549.1.1.10", SIG_NONE, SIG_NONE}, /* PSS by its defaults: SHA-1 */
        {"1.3.101.113", SIG_NONE, SIG_NONE},           /* Ed448 */
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        assert_int_equal(with_oid(all[i].dotted, false), all[i].absent);
        assert_int_equal(with_oid(all[i].dotted, true), all[i].null);
    }
    /* RSA with NULL that has contents */
    assert_int_equal(
        sig_alg_from_der(BYTES_LIT("\x30\x0e\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"
                                   "\x05\x01\x00")),
        SIG_NONE);
}

struct pss {
    struct bytes hash, mgf_hash;
    uint64_t salt_len;
    bool hash_has_null, mgf_hash_has_null, has_trailer, has_more;
    unsigned crowded; /* 1..3: that field of the parameters holds one element too many; 4: MGF1 */
};

static void put_hash(struct der_builder *builder, struct bytes oid, bool has_null)
{
    der_open(builder, DER_SEQUENCE);
    der_put(builder, DER_OID, oid);
    if (has_null)
        der_put_null(builder);
    der_close(builder);
}

static enum sig_alg with_pss(struct pss pss)
{
    uint8_t buf[256];
    struct der_builder builder = der_builder_of(buf, sizeof(buf));
    struct bytes all;

    der_open(&builder, DER_SEQUENCE);
    der_put(&builder, DER_OID, OID_RSA_PSS);
    der_open(&builder, DER_SEQUENCE);
    der_open(&builder, DER_CONTEXT_CONSTRUCTED(0));
    put_hash(&builder, pss.hash, pss.hash_has_null);
    if (pss.crowded == 1)
        der_put_null(&builder);
    der_close(&builder);
    der_open(&builder, DER_CONTEXT_CONSTRUCTED(1));
    der_open(&builder, DER_SEQUENCE);
    der_put(&builder, DER_OID, BYTES_LIT("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x08"));
    put_hash(&builder, pss.mgf_hash, pss.mgf_hash_has_null);
    if (pss.crowded == 4)
        der_put_null(&builder);
    der_close(&builder);
    if (pss.crowded == 2)
        der_put_null(&builder);
    der_close(&builder);
    der_open(&builder, DER_CONTEXT_CONSTRUCTED(2));
    der_put_u64(&builder, DER_INTEGER, pss.salt_len);
    if (pss.crowded == 3)
        der_put_null(&builder);
    der_close(&builder);
    if (pss.has_trailer) {
        der_open(&builder, DER_CONTEXT_CONSTRUCTED(3));
        der_put_u64(&builder, DER_INTEGER, 1);
        der_close(&builder);
    }
    der_close(&builder);
    if (pss.has_more)
        der_put_null(&builder);
    der_close(&builder);
    assert_true(der_finish(&builder, &all));
    assert_true(der_is_strict(all));
    assert_int_equal(sig_alg_from_der(bytes_of(all.ptr, all.len + 1)), SIG_NONE);
    return sig_alg_from_der(all);
}

static void test_pss(void **state)
{
    (void)state;
    for (unsigned nulls = 0; nulls < 4; nulls++) { /* RFC 4055 2.1: NULL or absent */
        bool a = (nulls & 1) != 0, b = (nulls & 2) != 0;
        assert_int_equal(with_pss((struct pss){OID_SHA256, OID_SHA256, 32, a, b, false, false}),
                         SIG_RSA_PSS_SHA256);
        assert_int_equal(with_pss((struct pss){OID_SHA384, OID_SHA384, 48, a, b, false, false}),
                         SIG_RSA_PSS_SHA384);
        assert_int_equal(with_pss((struct pss){OID_SHA512, OID_SHA512, 64, a, b, false, false}),
                         SIG_RSA_PSS_SHA512);
    }
    const struct pss bad[] = {
        {OID_SHA256, OID_SHA384, 32, true, true, false, false}, /* two hashes */
        {OID_SHA256, OID_SHA256, 20, true, true, false, false}, /* salt length */
        {OID_SHA256, OID_SHA256, 33, true, true, false, false},
        {OID_SHA1, OID_SHA1, 20, true, true, false, false},
        {OID_SHA256, OID_SHA256, 32, true, true, true, false}, /* DEFAULT trailer (X.690 11.5) */
        {OID_SHA256, OID_SHA256, 32, true, true, false, true}, /* something behind */
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(with_pss(bad[i]), SIG_NONE);
    for (unsigned crowded = 1; crowded <= 4; crowded++)
        assert_int_equal(with_pss((struct pss){OID_SHA256, OID_SHA256, 32, .crowded = crowded}),
                         SIG_NONE);
}

static void test_facts(void **state)
{
    (void)state;
    const struct {
        enum sig_alg alg;
        enum hash_alg hash;
        bool p256, p384, rsa, ed25519, ml44, ml65;
    } all[] = {
        {SIG_ECDSA_SHA256, HASH_SHA256, true, true, false, false, false, false},
        {SIG_ECDSA_SHA384, HASH_SHA384, true, true, false, false, false, false},
        {SIG_ECDSA_SHA512, HASH_SHA512, true, true, false, false, false, false},
        {SIG_RSA_SHA256, HASH_SHA256, false, false, true, false, false, false},
        {SIG_RSA_SHA384, HASH_SHA384, false, false, true, false, false, false},
        {SIG_RSA_SHA512, HASH_SHA512, false, false, true, false, false, false},
        {SIG_RSA_PSS_SHA256, HASH_SHA256, false, false, true, false, false, false},
        {SIG_RSA_PSS_SHA384, HASH_SHA384, false, false, true, false, false, false},
        {SIG_RSA_PSS_SHA512, HASH_SHA512, false, false, true, false, false, false},
        {SIG_ED25519, HASH_NONE, false, false, false, true, false, false},
        {SIG_ML_DSA_44, HASH_NONE, false, false, false, false, true, false},
        {SIG_ML_DSA_65, HASH_NONE, false, false, false, false, false, true},
        {SIG_NONE, HASH_NONE, false, false, false, false, false, false},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        assert_int_equal(sig_alg_hash(all[i].alg), all[i].hash);
        assert_int_equal(sig_alg_fits(all[i].alg, KEY_EC_P256), all[i].p256);
        assert_int_equal(sig_alg_fits(all[i].alg, KEY_EC_P384), all[i].p384);
        assert_int_equal(sig_alg_fits(all[i].alg, KEY_RSA), all[i].rsa);
        assert_int_equal(sig_alg_fits(all[i].alg, KEY_ED25519), all[i].ed25519);
        assert_int_equal(sig_alg_fits(all[i].alg, KEY_ML_DSA_44), all[i].ml44);
        assert_int_equal(sig_alg_fits(all[i].alg, KEY_ML_DSA_65), all[i].ml65);
        assert_false(sig_alg_fits(all[i].alg, KEY_NONE));
    }
    for (unsigned i = KEY_NONE + 1; i < KEY_ALG_COUNT; i++) {
        assert_true(sig_alg_fits(sig_alg_default((enum key_alg)i), (enum key_alg)i));
        assert_string_not_equal(key_alg_name((enum key_alg)i), "none");
    }
    assert_int_equal(sig_alg_default(KEY_EC_P384), SIG_ECDSA_SHA384);
    assert_int_equal(sig_alg_default(KEY_NONE), SIG_NONE);
    assert_int_equal(hash_alg_len(HASH_NONE), 0);
    assert_int_equal(hash_alg_len(HASH_SHA1), 20);
    assert_int_equal(hash_alg_len(HASH_SHA256), 32);
    assert_int_equal(hash_alg_len(HASH_SHA384), 48);
    assert_int_equal(hash_alg_len(HASH_SHA512), 64);
    assert_string_equal(key_alg_name(KEY_EC_P256), "EC P-256");
    assert_string_equal(sig_alg_name(SIG_ECDSA_SHA256), "ecdsa-with-SHA256");
    assert_string_equal(key_alg_name(KEY_ALG_COUNT), "none");
    assert_string_equal(sig_alg_name(SIG_ALG_COUNT), "none");
    assert_non_null(key_alg_name((enum key_alg)4711));
    assert_non_null(sig_alg_name((enum sig_alg)4711));
}

static void test_configuration_words(void **state)
{
    (void)state;
    const struct {
        const char *word;
        enum key_alg alg;
        uint32_t bits;
    } all[] = {
        {"p256", KEY_EC_P256, 256}, {"p384", KEY_EC_P384, 384}, {"rsa2048", KEY_RSA, 2048},
        {"rsa3072", KEY_RSA, 3072}, {"rsa4096", KEY_RSA, 4096}, {"ed25519", KEY_ED25519, 256},
    };
    enum key_alg alg;
    uint32_t bits;

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        assert_true(key_alg_from_name(all[i].word, &alg, &bits));
        assert_int_equal(alg, all[i].alg);
        assert_int_equal(bits, all[i].bits);
    }
    assert_true(key_alg_from_name("ml-dsa-44", &alg, &bits));
    assert_int_equal(alg, KEY_ML_DSA_44);
    assert_true(key_alg_from_name("ml-dsa-65", &alg, &bits));
    assert_int_equal(alg, KEY_ML_DSA_65);
    assert_false(key_alg_from_name("rsa1024", &alg, &bits));
    assert_false(key_alg_from_name("P256", &alg, &bits));
    assert_false(key_alg_from_name("", &alg, &bits));
}

static void test_hash_identifiers(void **state)
{
    (void)state;
    for (enum hash_alg alg = HASH_SHA1; alg < HASH_ALG_COUNT; alg++) {
        assert_int_equal(hash_alg_from_oid(hash_alg_oid(alg)), alg);
        assert_int_equal(hmac_alg_from_oid(hmac_alg_oid(alg)), alg);
        assert_int_equal(hash_alg_from_oid(hmac_alg_oid(alg)), HASH_NONE);
        assert_int_equal(hmac_alg_from_oid(hash_alg_oid(alg)), HASH_NONE);
    }
    assert_int_equal(hmac_alg_from_oid(OID_HMAC_SHA1_IPSEC), HASH_SHA1);
    assert_int_equal(hash_alg_oid(HASH_NONE).len, 0);
    assert_int_equal(hmac_alg_oid(HASH_ALG_COUNT).len, 0);
    assert_int_equal(hash_alg_from_oid((struct bytes){0}), HASH_NONE);
    assert_int_equal(hmac_alg_from_oid((struct bytes){0}), HASH_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_parameters),
        cmocka_unit_test(test_pss),
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_configuration_words),
        cmocka_unit_test(test_hash_identifiers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
