/* Does csrattrs say what a line wants in the octets that RFC 8951 4 and RFC 9908 3 ask for? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "asn1/der.h"
#include "asn1/oid.h"
#include "proto/est.h"

static struct bytes build(const struct est_csr_attrs *attrs)
{
    static uint8_t out[2048];
    size_t len = 0, small_len;

    assert_int_equal(est_csr_attrs_build(attrs, out, sizeof(out), &len), ERR_OK);
    struct bytes der = bytes_of(out, len);
    if (len == 0)
        return der;
    assert_true(der_is_strict(der));
    uint8_t *small = malloc(len); /* of exact size, so that AddressSanitizer sees an overrun */
    assert_non_null(small);
    for (size_t cap = 0; cap < len; cap++)
        assert_int_equal(est_csr_attrs_build(attrs, small, cap, &small_len), ERR_NO_SPACE);
    free(small);
    return der;
}

static void assert_octets(const struct est_csr_attrs *attrs, const char *expected_hex)
{
    uint8_t expected[1024];
    size_t len;
    char got_hex[4096];

    assert_true(bytes_from_hex(bytes_of_str(expected_hex), expected, sizeof(expected), &len));
    struct bytes got = build(attrs);
    bytes_to_hex(got, got_hex);
    assert_string_equal(got_hex, expected_hex);
}

static void test_nothing_to_say(void **state)
{
    (void)state;
    const struct est_csr_attrs attrs = {0};
    assert_int_equal(build(&attrs).len, 0);
}

static void test_p256(void **state)
{
    (void)state;
    const struct est_csr_attrs attrs = {.key_algs = {KEY_EC_P256, KEY_RSA}, .key_alg_count = 2};
    assert_octets(&attrs, "3046"
                          /* Attribute id-ecPublicKey { prime256v1 } */
                          "3015"
                          "06072a8648ce3d0201"
                          "310a"
                          "06082a8648ce3d030107"
                          /* Attribute id-aa-certificationRequestInfoTemplate */
                          "302d"
                          "060b2a864886f70d010910023d"
                          "311e"
                          "301c"
                          "020100"
                          "a015"
                          "3013"
                          "06072a8648ce3d0201"
                          "06082a8648ce3d030107"
                          "a100");
}

static void test_everything(void **state)
{
    (void)state;
    const struct est_csr_attrs attrs = {.key_algs = {KEY_EC_P384},
                                        .key_alg_count = 1,
                                        .want_san = true,
                                        .ext_key_usage = EKU_CLIENT_AUTH};
    assert_octets(&attrs,
                  "30819a"
                  /* Attribute id-ecPublicKey { secp384r1 } */
                  "3012"
                  "06072a8648ce3d0201"
                  "3107"
                  "06052b81040022"
                  /* Attribute id-ExtensionReq { Extensions { extKeyUsage { clientAuth } } } */
                  "3024"
                  "06092a864886f70d01090e"
                  "3117"
                  "3015"
                  "3013"
                  "0603551d25"
                  "040c"
                  "300a"
                  "06082b06010505070302"
                  /* OID subjectAltName: its value is the client's */
                  "0603551d11"
                  /* template: key, and extensions in template form, since one has no value */
                  "3059"
                  "060b2a864886f70d010910023d"
                  "314a"
                  "3048"
                  "020100"
                  "a012"
                  "3010"
                  "06072a8648ce3d0201"
                  "06052b81040022"
                  "a12f"
                  "302d"
                  "060b2a864886f70d010910023e"
                  "311e"
                  "301c"
                  "3005"
                  "0603551d11"
                  "3013"
                  "0603551d25"
                  "040c"
                  "300a"
                  "06082b06010505070302");
}

static void test_ext_key_usage_alone(void **state)
{
    (void)state;
    const struct est_csr_attrs attrs = {.ext_key_usage = EKU_CLIENT_AUTH | EKU_SERVER_AUTH};
    assert_octets(&attrs, "3078"
                          "302e"
                          "06092a864886f70d01090e"
                          "3121"
                          "301f"
                          "301d"
                          "0603551d25"
                          "0416"
                          "3014"
                          "06082b06010505070301"
                          "06082b06010505070302"
                          "3046"
                          "060b2a864886f70d010910023d"
                          "3137"
                          "3035"
                          "020100"
                          "a130"
                          "302e"
                          "06092a864886f70d01090e"
                          "3121"
                          "301f"
                          "301d"
                          "0603551d25"
                          "0416"
                          "3014"
                          "06082b06010505070301"
                          "06082b06010505070302");
}

static void test_algorithms_without_parameters(void **state)
{
    (void)state;
    const struct est_csr_attrs attrs = {.key_algs = {KEY_ED25519}, .key_alg_count = 1};
    assert_octets(&attrs, "302a"
                          "3007"
                          "06032b6570"
                          "3100"
                          "301f"
                          "060b2a864886f70d010910023d"
                          "3110"
                          "300e"
                          "020100"
                          "a007"
                          "3005"
                          "06032b6570"
                          "a100");
}

/* RFC 8951 4: linking demanded MUST be said by the OID; no template, which would hide it. */
static void test_linking(void **state)
{
    (void)state;
    const struct est_csr_attrs attrs = {
        .key_algs = {KEY_EC_P384}, .key_alg_count = 1, .want_challenge_password = true};
    assert_octets(&attrs, "301f"
                          "06092a864886f70d010907"
                          "3012"
                          "06072a8648ce3d0201"
                          "3107"
                          "06052b81040022");
}

static struct bytes get(struct bytes *reader, uint8_t tag)
{
    struct bytes contents;
    assert_true(der_get(reader, tag, &contents));
    return contents;
}

static void test_rsa_bits(void **state)
{
    (void)state;
    const uint32_t sizes[] = {2048, 3072, 4096};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const struct est_csr_attrs attrs = {
            .key_algs = {KEY_RSA}, .key_alg_count = 1, .rsa_bits = sizes[i]};
        struct bytes der = build(&attrs), oid, key_der, modulus;
        uint64_t bits, version, exponent;
        struct bytes list = get(&der, DER_SEQUENCE);

        /* Attribute rsaEncryption { INTEGER bits } */
        struct bytes attribute = get(&list, DER_SEQUENCE);
        assert_true(der_get_oid(&attribute, &oid) && bytes_eq(oid, OID_RSA));
        struct bytes values = get(&attribute, DER_SET);
        assert_true(der_get_u64(&values, &bits));
        assert_int_equal(bits, sizes[i]);
        assert_int_equal(values.len + attribute.len, 0);

        /* template: SubjectPublicKeyInfo with a placeholder of that many bits */
        attribute = get(&list, DER_SEQUENCE);
        assert_true(der_get_oid(&attribute, &oid) && bytes_eq(oid, OID_CERT_REQ_TEMPLATE));
        values = get(&attribute, DER_SET);
        struct bytes template = get(&values, DER_SEQUENCE);
        assert_true(der_get_u64(&template, &version) && version == 0);
        struct bytes spki = get(&template, DER_CONTEXT_CONSTRUCTED(0));
        get(&spki, DER_SEQUENCE);
        assert_true(der_get_bits(&spki, &key_der));
        struct bytes key = get(&key_der, DER_SEQUENCE);
        assert_true(der_get_integer(&key, &modulus));
        assert_int_equal(modulus.len, sizes[i] / 8 + 1);
        assert_int_equal(modulus.ptr[1] & 0x80, 0x80);
        assert_true(der_get_u64(&key, &exponent));
        assert_int_equal(key.len + key_der.len + spki.len + list.len, 0);
    }
    /* any size: the type alone */
    const struct est_csr_attrs any = {.key_algs = {KEY_RSA}, .key_alg_count = 1};
    struct bytes der = build(&any), oid;
    struct bytes list = get(&der, DER_SEQUENCE);
    struct bytes attribute = get(&list, DER_SEQUENCE);
    assert_true(der_get_oid(&attribute, &oid) && bytes_eq(oid, OID_RSA));
    assert_int_equal(get(&attribute, DER_SET).len, 0);
}

static void test_what_cannot_be_said(void **state)
{
    (void)state;
    const struct est_csr_attrs cases[] = {
        {.ext_key_usage = EKU_OTHER},
        {.key_algs = {KEY_RSA}, .key_alg_count = 1, .rsa_bits = 8192},
        {.key_algs = {KEY_RSA}, .key_alg_count = 1, .rsa_bits = 2047},
    };
    uint8_t out[2048];
    size_t len;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(est_csr_attrs_build(&cases[i], out, sizeof(out), &len), ERR_UNSUPPORTED);
    const struct est_csr_attrs no_alg = {.key_algs = {KEY_NONE}, .key_alg_count = 1};
    assert_int_equal(est_csr_attrs_build(&no_alg, out, sizeof(out), &len), ERR_BAD_ALG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_to_say),
        cmocka_unit_test(test_p256),
        cmocka_unit_test(test_everything),
        cmocka_unit_test(test_ext_key_usage_alone),
        cmocka_unit_test(test_algorithms_without_parameters),
        cmocka_unit_test(test_linking),
        cmocka_unit_test(test_rsa_bits),
        cmocka_unit_test(test_what_cannot_be_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
