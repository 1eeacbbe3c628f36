/* Does the PKCS#10 decoder read what real clients send, and refuse each thing that breaks a rule?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>

#include "asn1/csr.h"
#include "asn1/der.h"
#include "asn1/oid.h"

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

static void test_real_clients(void **state)
{
    (void)state;
    const struct {
        const char *file;
        enum err err;
        enum key_alg key;
        uint32_t bits;
        enum sig_alg sig;
        uint32_t extension_count;
        const char *subject, *dns, *challenge;
    } all[] = {
        {"csr-p256", ERR_OK, KEY_EC_P256, 256, SIG_ECDSA_SHA256, 0, "CN=device-0001", NULL, NULL},
        {"csr-p384", ERR_OK, KEY_EC_P384, 384, SIG_ECDSA_SHA256, 0, "CN=device-0001", NULL, NULL},
        {"csr-p384-sha512", ERR_OK, KEY_EC_P384, 384, SIG_ECDSA_SHA512, 0, "CN=sha512", NULL, NULL},
        {"csr-rsa2048", ERR_OK, KEY_RSA, 2048, SIG_RSA_SHA256, 0, "CN=device-0001", NULL, NULL},
        {"csr-rsa4096", ERR_OK, KEY_RSA, 4096, SIG_RSA_SHA256, 0, "CN=device-0001", NULL, NULL},
        {"csr-rsa-pss", ERR_OK, KEY_RSA, 2048, SIG_RSA_PSS_SHA256, 0, "CN=pss", NULL, NULL},
        {"csr-ed25519", ERR_OK, KEY_ED25519, 256, SIG_ED25519, 0, "CN=device-0001", NULL, NULL},
        {"csr-p256-san", ERR_OK, KEY_EC_P256, 256, SIG_ECDSA_SHA256, 1,
         "C=DE,O=Plant,serialNumber=SN-1,CN=device-0001", "device-0001.example", NULL},
        {"csr-p256-challenge", ERR_OK, KEY_EC_P256, 256, SIG_ECDSA_SHA256, 1, "CN=device-0001",
         "device-0001.example", "bGlua2VkLXRvLXRscw=="},
        {"csr-p256-empty-subject", ERR_OK, KEY_EC_P256, 256, SIG_ECDSA_SHA256, 1, "",
         "device-0001.example", NULL},
        {"csr-p256-multi-rdn", ERR_OK, KEY_EC_P256, 256, SIG_ECDSA_SHA256, 0,
         "O=Plant,CN=a+serialNumber=b", NULL, NULL},
        {"csr-p256-utf8", ERR_OK, KEY_EC_P256, 256, SIG_ECDSA_SHA256, 0,
         "O=Werk Z\xc3\xbcrich,CN=Ger\xc3\xa4t", NULL, NULL},
        {"csr-p256-wide", ERR_OK, KEY_EC_P256, 256, SIG_ECDSA_SHA256, 3, "CN=wide", NULL, NULL},
        /* attributes not in SET OF order */
        {"csr-strongswan", ERR_OK, KEY_RSA, 2048, SIG_RSA_SHA256, 2, "C=DE,O=Plant,CN=ss",
         "ss.example", "secret"},
        {"csr-java", ERR_OK, KEY_EC_P256, 256, SIG_ECDSA_SHA256, 2, "O=Plant,CN=java",
         "java.example", NULL},
        {"csr-python", ERR_OK, KEY_EC_P256, 256, SIG_ECDSA_SHA256, 1, "CN=py", "py.example",
         "secret"},
        {.file = "csr-rsa1024", .err = ERR_BAD_KEY},
        {.file = "csr-p521", .err = ERR_BAD_ALG},
        {.file = "csr-p256-explicit", .err = ERR_BAD_ALG},
        {.file = "csr-p256-compressed", .err = ERR_BAD_KEY},
        {.file = "csr-rsa-pss-salt20", .err = ERR_BAD_ALG},
    };
    uint8_t file[2048];

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct bytes der = load(all[i].file, file, sizeof(file)), dns;
        struct cert_request request;
        char text[128];
        assert_int_equal(csr_decode(der, &request), all[i].err);
        if (all[i].err != ERR_OK)
            continue;
        assert_int_equal(request.pop, POP_SIGNATURE);
        assert_int_equal(request.spki.alg, all[i].key);
        assert_int_equal(request.spki.bits, all[i].bits);
        assert_int_equal(request.pop_alg, all[i].sig);
        assert_int_equal(request.extensions.count, all[i].extension_count);
        name_to_text(request.subject, text, sizeof(text));
        assert_string_equal(text, all[i].subject);
        assert_int_equal(name_is_empty(request.subject), all[i].subject[0] == '\0');
        assert_int_equal(general_names_find(request.san, GN_DNS, &dns), all[i].dns != NULL);
        if (all[i].dns != NULL)
            assert_true(bytes_eq(dns, bytes_of_str(all[i].dns)));
        assert_int_equal(request.has_challenge_password, all[i].challenge != NULL);
        assert_true(bytes_eq(request.challenge_password,
                             bytes_of_str(all[i].challenge != NULL ? all[i].challenge : "")));
        /* what is signed lies whole behind the outer header, the signature at the end */
        assert_true(request.pop_message.ptr == der.ptr + 4 ||
                    request.pop_message.ptr == der.ptr + 3);
        assert_ptr_equal(request.pop_signature.ptr + request.pop_signature.len, der.ptr + der.len);
        assert_int_equal(request.spki.der.ptr[0], DER_SEQUENCE);
    }
}

/* Each prefix and each one-octet extension of a good request is refused and changes nothing. */
static void test_prefixes(void **state)
{
    (void)state;
    uint8_t file[2048];
    struct bytes der = load("csr-p256-challenge", file, sizeof(file));
    struct cert_request request;

    memset(&request, 0x5a, sizeof(request));
    for (size_t len = 0; len < der.len; len++)
        assert_int_equal(csr_decode(bytes_of(der.ptr, len), &request), ERR_BAD_DER);
    assert_int_equal(csr_decode(bytes_of(der.ptr, der.len + 1), &request), ERR_DER_TRAILING);
    for (size_t i = 0; i < sizeof(request); i++)
        assert_int_equal(((uint8_t *)&request)[i], 0x5a);
}

/* --- a request put together from parts, each DER, so that one at a time can be wrong --- */

struct parts {
    struct bytes version, subject, spki, attributes, behind_info, alg, signature, behind;
};

static const uint8_t good_spki[] = {
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00, 1,  2,  3,
    4,    5,    6,    7,    8,    9,    10,   11,   12,   13,   14,   15,   16, 17, 18,
    19,   20,   21,   22,   23,   24,   25,   26,   27,   28,   29,   30,   31, 32};

static const struct parts good_parts = {
    .version = BYTES_LIT("\x02\x01\x00"),
    .subject = BYTES_LIT("\x30\x00"),
    .spki = {good_spki, sizeof(good_spki)},
    .attributes = BYTES_LIT("\xa0\x00"),
    .alg = BYTES_LIT("\x30\x05\x06\x03\x2b\x65\x70"),
    .signature = BYTES_LIT("\x03\x03\x00\x01\x02"),
};

static struct cert_request last;

static enum err decode_parts(struct parts parts)
{
    static uint8_t buf[8192];
    struct der_builder builder = der_builder_of(buf, sizeof(buf));
    struct bytes all;

    der_open(&builder, DER_SEQUENCE);
    der_open(&builder, DER_SEQUENCE);
    der_put_raw(&builder, parts.version);
    der_put_raw(&builder, parts.subject);
    der_put_raw(&builder, parts.spki);
    der_put_raw(&builder, parts.attributes);
    der_put_raw(&builder, parts.behind_info);
    der_close(&builder);
    der_put_raw(&builder, parts.alg);
    der_put_raw(&builder, parts.signature);
    der_put_raw(&builder, parts.behind);
    der_close(&builder);
    assert_true(der_finish(&builder, &all));
    return csr_decode(all, &last);
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
    assert_part(attributes, none, ERR_OK); /* left out: seen in the field */
    assert_false(last.has_challenge_password);
    assert_int_equal(last.san.len, 0);
    assert_int_equal(last.extensions.count, 0);

    assert_part(version, B(0x02, 0x01, 0x01), ERR_BAD_CSR);
    assert_part(version, B(0x02, 0x01, 0xff), ERR_BAD_DER);
    assert_part(version, B(0x02, 0x02, 0x00, 0x00), ERR_BAD_DER);
    assert_part(version, none, ERR_BAD_DER);
    assert_part(subject, none, ERR_BAD_DER);
    assert_part(subject, B(0x30, 0x02, 0x31, 0x00), ERR_BAD_CSR);
    assert_part(subject, B(0x30, 0x80, 0x00, 0x00), ERR_BAD_DER);
    assert_part(spki, none, ERR_BAD_DER);
    assert_part(attributes, B(0xa1, 0x00), ERR_DER_TRAILING);
    assert_part(behind_info, null, ERR_DER_TRAILING);
    assert_part(behind, null, ERR_DER_TRAILING);
    assert_part(alg, none, ERR_BAD_DER);
    assert_part(alg, B(0x30, 0x07, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x05, 0x00), ERR_BAD_ALG);
    assert_part(alg, B(0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x71), ERR_BAD_ALG);
    assert_part(signature, none, ERR_BAD_DER);
    assert_part(signature, B(0x03, 0x02, 0x01, 0x02), ERR_BAD_DER);             /* unused bits */
    assert_part(signature, B(0x23, 0x04, 0x03, 0x02, 0x00, 0x02), ERR_BAD_DER); /* constructed */
}

/* Attributes [0] of whole Attributes. */
static enum err decode_attributes(const struct bytes list[], size_t count)
{
    static uint8_t buf[4096];
    struct der_builder builder = der_builder_of(buf, sizeof(buf));
    struct parts parts = good_parts;

    der_open(&builder, DER_CONTEXT_CONSTRUCTED(0));
    for (size_t i = 0; i < count; i++)
        der_put_raw(&builder, list[i]);
    der_close(&builder);
    assert_true(der_finish(&builder, &parts.attributes));
    return decode_parts(parts);
}

static enum err decode_attribute(struct bytes one)
{
    return decode_attributes(&one, 1);
}

#define OID_CHALLENGE 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x07
#define OID_EXT_REQ   0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e
#define OID_CHANGE    0x06, 0x08, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x07, 0x24
/* Extension: SAN, DNS "a" */
#define EXT_SAN_A 0x30, 0x0c, 0x06, 0x03, 0x55, 0x1d, 0x11, 0x04, 0x05, 0x30, 0x03, 0x82, 0x01, 'a'

static void test_attributes(void **state)
{
    (void)state;
    const struct bytes challenge = B(0x30, 0x10, OID_CHALLENGE, 0x31, 0x03, 0x0c, 0x01, 'p');
    const struct bytes ext_req = B(0x30, 0x1d, OID_EXT_REQ, 0x31, 0x10, 0x30, 0x0e, EXT_SAN_A);
    const struct bytes change =
        B(0x30, 0x12, OID_CHANGE, 0x31, 0x06, 0x30, 0x04, 0x30, 0x00, 0x30, 0x00);
    const struct bytes unknown = B(0x30, 0x08, 0x06, 0x02, 0x2a, 0x03, 0x31, 0x02, 0x05, 0x00);

    const struct bytes every[] = {unknown, challenge, unknown, ext_req, change};
    assert_int_equal(decode_attributes(every, 5), ERR_OK);
    assert_true(bytes_eq(last.challenge_password, BYTES_LIT("p")));
    assert_true(bytes_eq(last.san, BYTES_LIT("\x30\x03\x82\x01"
                                             "a")));
    assert_true(bytes_eq(last.change_subject_name, BYTES_LIT("\x30\x04\x30\x00\x30\x00")));
    const struct bytes twice[][2] = {{challenge, challenge}, {ext_req, ext_req}, {change, change}};
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(decode_attributes(twice[i], 2), ERR_BAD_CSR);

    /* two values, no value, another type of value, something behind the values */
    assert_int_equal(decode_attribute(B(0x30, 0x13, OID_CHALLENGE, 0x31, 0x06, 0x0c, 0x01, 'p',
                                        0x0c, 0x01, 'q')),
                     ERR_BAD_CSR);
    assert_int_equal(decode_attribute(B(0x30, 0x0d, OID_CHALLENGE, 0x31, 0x00)), ERR_BAD_CSR);
    assert_int_equal(decode_attribute(B(0x30, 0x10, OID_CHALLENGE, 0x31, 0x03, 0x04, 0x01, 'p')),
                     ERR_BAD_CSR);
    assert_int_equal(decode_attribute(B(0x30, 0x0f, OID_CHALLENGE, 0x31, 0x02, 0x0c, 0x00)),
                     ERR_BAD_CSR);
    assert_int_equal(decode_attribute(B(0x30, 0x10, OID_CHALLENGE, 0x31, 0x03, 0x0c, 0x01, 0xff)),
                     ERR_BAD_CSR);
    assert_int_equal(decode_attribute(B(0x30, 0x10, OID_CHALLENGE, 0x31, 0x03, 0x1e, 0x01, 'p')),
                     ERR_BAD_CSR);
    assert_int_equal(
        decode_attribute(B(0x30, 0x12, OID_CHALLENGE, 0x31, 0x03, 0x0c, 0x01, 'p', 0x05, 0x00)),
        ERR_DER_TRAILING);
    assert_int_equal(decode_attribute(B(0x30, 0x10, OID_CHALLENGE, 0x30, 0x03, 0x0c, 0x01, 'p')),
                     ERR_BAD_DER);
    const uint8_t string_tags[] = {0x0c, 0x13, 0x14, 0x16};
    for (size_t i = 0; i < sizeof(string_tags); i++)
        assert_int_equal(
            decode_attribute(B(0x30, 0x10, OID_CHALLENGE, 0x31, 0x03, string_tags[i], 0x01, 'p')),
            ERR_OK);

    assert_int_equal(decode_attribute(B(0x30, 0x2d, OID_EXT_REQ, 0x31, 0x20, 0x30, 0x0e, EXT_SAN_A,
                                        0x30, 0x0e, EXT_SAN_A)),
                     ERR_BAD_CSR); /* two values */
    assert_int_equal(
        decode_attribute(B(0x30, 0x2b, OID_EXT_REQ, 0x31, 0x1e, 0x30, 0x1c, EXT_SAN_A, EXT_SAN_A)),
        ERR_BAD_CSR); /* one extension twice */
    assert_int_equal(decode_attribute(B(0x30, 0x0f, OID_EXT_REQ, 0x31, 0x02, 0x30, 0x00)), ERR_OK);
    assert_int_equal(last.extensions.count, 0);
    assert_int_equal(decode_attribute(B(0x30, 0x0f, OID_EXT_REQ, 0x31, 0x02, 0x31, 0x00)),
                     ERR_BAD_DER);
    assert_int_equal(decode_attribute(B(0x30, 0x1a, OID_EXT_REQ, 0x31, 0x0d, 0x30, 0x0b, 0x30, 0x09,
                                        0x06, 0x03, 0x55, 0x1d, 0x11, 0x04, 0x02, 0x30, 0x00)),
                     ERR_BAD_CSR); /* no names in the SAN */

    assert_int_equal(decode_attribute(B(0x30, 0x0e, OID_CHANGE, 0x31, 0x02, 0x31, 0x00)),
                     ERR_BAD_DER);
    assert_int_equal(
        decode_attribute(B(0x30, 0x11, OID_CHANGE, 0x31, 0x05, 0x30, 0x03, 0x01, 0x01, 0x01)),
        ERR_BAD_DER);

    /* unknown ones are skipped, but are DER all the same */
    assert_int_equal(
        decode_attribute(B(0x30, 0x08, 0x06, 0x02, 0x2a, 0x03, 0x31, 0x02, 0x30, 0x80)),
        ERR_BAD_DER);
    assert_int_equal(
        decode_attribute(B(0x30, 0x0a, 0x06, 0x02, 0x2a, 0x03, 0x31, 0x04, 0x05, 0x00, 0x04, 0x00)),
        ERR_BAD_DER); /* SET OF order */
    assert_int_equal(decode_attribute(B(0x30, 0x06, 0x06, 0x02, 0x2a, 0x03, 0x31, 0x00)),
                     ERR_BAD_CSR);
    assert_int_equal(
        decode_attribute(B(0x30, 0x08, 0x06, 0x02, 0x80, 0x03, 0x31, 0x02, 0x05, 0x00)),
        ERR_BAD_DER);
    assert_int_equal(
        decode_attribute(B(0x31, 0x08, 0x06, 0x02, 0x2a, 0x03, 0x31, 0x02, 0x05, 0x00)),
        ERR_BAD_DER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_clients),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_attributes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
