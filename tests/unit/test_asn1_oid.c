/* Is every object identifier the one its source assigns, and does text survive the way there and
 * back? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "asn1/oid.h"

/* Dotted values copied from the RFCs and from X.520, not from oid.c. */
struct assigned {
    const struct bytes *oid;
    const char *dotted;
};

static void check_assigned(const struct assigned *one)
{
    uint8_t octets[32];
    char text[64];
    size_t len;
    assert_true(oid_is_valid(*one->oid));
    oid_to_text(*one->oid, text, sizeof(text));
    assert_string_equal(text, one->dotted);
    assert_true(oid_from_text(one->dotted, octets, sizeof(octets), &len));
    assert_true(bytes_eq(bytes_of(octets, len), *one->oid));
}

static void test_assigned_values(void **state)
{
    (void)state;
    const struct assigned all[] = {
        {&OID_AT_COMMON_NAME, "2.5.4.3"},
        {&OID_AT_SERIAL_NUMBER, "2.5.4.5"},
        {&OID_AT_COUNTRY, "2.5.4.6"},
        {&OID_AT_LOCALITY, "2.5.4.7"},
        {&OID_AT_STATE, "2.5.4.8"},
        {&OID_AT_ORGANIZATION, "2.5.4.10"},
        {&OID_AT_ORG_UNIT, "2.5.4.11"},
        {&OID_AT_DN_QUALIFIER, "2.5.4.46"},
        {&OID_AT_DC, "0.9.2342.19200300.100.1.25"},
        {&OID_AT_UID, "0.9.2342.19200300.100.1.1"},
        {&OID_EXT_SKI, "2.5.29.14"},
        {&OID_EXT_KEY_USAGE, "2.5.29.15"},
        {&OID_EXT_SAN, "2.5.29.17"},
        {&OID_EXT_BASIC_CONSTRAINTS, "2.5.29.19"},
        {&OID_EXT_CRL_NUMBER, "2.5.29.20"},
        {&OID_EXT_CRL_REASON, "2.5.29.21"},
        {&OID_EXT_IDP, "2.5.29.28"},
        {&OID_EXT_NAME_CONSTRAINTS, "2.5.29.30"},
        {&OID_EXT_CRL_DP, "2.5.29.31"},
        {&OID_EXT_CERT_POLICIES, "2.5.29.32"},
        {&OID_EXT_AKI, "2.5.29.35"},
        {&OID_EXT_EKU, "2.5.29.37"},
        {&OID_EXT_AIA, "1.3.6.1.5.5.7.1.1"},
        {&OID_EKU_SERVER_AUTH, "1.3.6.1.5.5.7.3.1"},
        {&OID_EKU_CLIENT_AUTH, "1.3.6.1.5.5.7.3.2"},
        {&OID_EKU_CMC_CA, "1.3.6.1.5.5.7.3.27"},
        {&OID_EKU_CMC_RA, "1.3.6.1.5.5.7.3.28"},
        {&OID_EKU_CM_KGA, "1.3.6.1.5.5.7.3.32"},
        {&OID_EKU_ANY, "2.5.29.37.0"},
        {&OID_EC_PUBLIC_KEY, "1.2.840.10045.2.1"},
        {&OID_P256, "1.2.840.10045.3.1.7"},
        {&OID_P384, "1.3.132.0.34"},
        {&OID_RSA, "1.2.840.113549.1.1.1"},
        {&OID_RSA_PSS, "1.2.840.113549.1.1.10"},
        {&OID_ED25519, "1.3.101.112"},
        {&OID_SHA1, "1.3.14.3.2.26"},
        {&OID_SHA256, "2.16.840.1.101.3.4.2.1"},
        {&OID_SHA384, "2.16.840.1.101.3.4.2.2"},
        {&OID_SHA512, "2.16.840.1.101.3.4.2.3"},
        {&OID_EXTENSION_REQUEST, "1.2.840.113549.1.9.14"},
        {&OID_CHALLENGE_PASSWORD, "1.2.840.113549.1.9.7"},
        {&OID_CHANGE_SUBJECT_NAME, "1.3.6.1.5.5.7.7.36"},
        {&OID_CMS_DATA, "1.2.840.113549.1.7.1"},
        {&OID_CMS_SIGNED_DATA, "1.2.840.113549.1.7.2"},
        {&OID_CMS_ENVELOPED_DATA, "1.2.840.113549.1.7.3"},
        {&OID_HARDWARE_MODULE_NAME, "1.3.6.1.5.5.7.8.4"},
        {&OID_CERT_REQ_TEMPLATE, "1.2.840.113549.1.9.16.2.61"},
        {&OID_EXT_REQ_TEMPLATE, "1.2.840.113549.1.9.16.2.62"},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        check_assigned(&all[i]);
}

static void test_assigned_values_of_cms(void **state)
{
    (void)state;
    const struct assigned all[] = {
        {&OID_CONTENT_TYPE, "1.2.840.113549.1.9.3"},
        {&OID_MESSAGE_DIGEST, "1.2.840.113549.1.9.4"},
        {&OID_ALGORITHM_PROTECTION, "1.2.840.113549.1.9.52"},
        {&OID_KEY_PACKAGE, "2.16.840.1.101.2.1.2.78.5"},
        {&OID_PBM, "1.2.840.113533.7.66.13"},
        {&OID_PBMAC1, "1.2.840.113549.1.5.14"},
        {&OID_PBKDF2, "1.2.840.113549.1.5.12"},
        {&OID_HMAC_SHA1, "1.2.840.113549.2.7"},
        {&OID_HMAC_SHA256, "1.2.840.113549.2.9"},
        {&OID_HMAC_SHA384, "1.2.840.113549.2.10"},
        {&OID_HMAC_SHA512, "1.2.840.113549.2.11"},
        {&OID_HMAC_SHA1_IPSEC, "1.3.6.1.5.5.8.1.2"},
        {&OID_RSA_OAEP, "1.2.840.113549.1.1.7"},
        {&OID_MGF1, "1.2.840.113549.1.1.8"},
        {&OID_ECDH_SHA256KDF, "1.3.132.1.11.1"},
        {&OID_PWRI_KEK, "1.2.840.113549.1.9.16.3.9"},
        {&OID_AES128_CBC, "2.16.840.1.101.3.4.1.2"},
        {&OID_AES256_CBC, "2.16.840.1.101.3.4.1.42"},
        {&OID_AES256_WRAP, "2.16.840.1.101.3.4.1.45"},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        check_assigned(&all[i]);
}

static void test_text_edges(void **state)
{
    (void)state;
    const char *const good[] = {"0.0",
                                "0.39",
                                "1.0",
                                "1.39",
                                "2.0",
                                "2.40",
                                "2.999.3",
                                "2.47",
                                "2.48",
                                "1.2.127.128.16383.16384",
                                "1.3.18446744073709551615",
                                "2.18446744073709551535"};
    const char *const bad[] = {"",
                               "1",
                               "3.1",
                               "0.40",
                               "1.40",
                               "1..2",
                               ".1.2",
                               "1.2.",
                               "1.2.x",
                               "1.02",
                               "1.-2",
                               "1 .2",
                               "1.2 ",
                               "x",
                               "1.3.18446744073709551616",
                               "2.18446744073709551536"};
    uint8_t octets[32];
    char text[64];
    size_t len;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        assert_true(oid_from_text(good[i], octets, sizeof(octets), &len));
        assert_true(oid_is_valid(bytes_of(octets, len)));
        oid_to_text(bytes_of(octets, len), text, sizeof(text));
        assert_string_equal(text, good[i]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        len = 4711;
        assert_false(oid_from_text(bad[i], octets, sizeof(octets), &len));
        assert_int_equal(len, 4711);
    }
    assert_true(oid_from_text("2.5.29.37", octets, 3, &len));
    assert_false(oid_from_text("2.5.29.37", octets, 2, &len)); /* no room */
}

static void test_text_is_cut(void **state)
{
    (void)state;
    char text[16];

    memset(text, 'x', sizeof(text));
    oid_to_text(OID_P256, text, 6);
    assert_string_equal(text, "1.2.8");
    assert_int_equal(text[6], 'x');
    oid_to_text(OID_P256, text, 1);
    assert_string_equal(text, "");
    text[0] = 'x';
    oid_to_text(OID_P256, text, 0);
    assert_int_equal(text[0], 'x');
    oid_to_text(bytes_of("\x80", 1), text, sizeof(text));
    assert_string_equal(text, "?");
    /* an arc of more than 64 bits (2.25 and a UUID is one) */
    oid_to_text(bytes_of("\x69\x83\xff\xff\xff\xff\xff\xff\xff\xff\x7f", 11), text, sizeof(text));
    assert_string_equal(text, "#6983ffffffffff");
}

static void test_validity(void **state)
{
    (void)state;
    assert_false(oid_is_valid((struct bytes){0}));
    assert_false(oid_is_valid(BYTES_LIT("\x80\x01")));
    assert_false(oid_is_valid(BYTES_LIT("\x2a\x80\x01")));
    assert_false(oid_is_valid(BYTES_LIT("\x2a\x81")));
    assert_true(oid_is_valid(BYTES_LIT("\x2a\x81\x80\x01"))); /* 0x80 inside an arc is a digit */
    assert_true(oid_is_valid(BYTES_LIT("\x00")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_assigned_values), cmocka_unit_test(test_assigned_values_of_cms),
        cmocka_unit_test(test_text_edges),      cmocka_unit_test(test_text_is_cut),
        cmocka_unit_test(test_validity),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
