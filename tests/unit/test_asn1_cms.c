/* Are certs-only messages what RFC 5652 says, in DER, and are those of other programs read? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>

#include "asn1/cms.h"
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

static void test_same_as_openssl(void **state)
{
    (void)state;
    uint8_t file[4096], built[4096], cert[2048];
    struct bytes der = load("certs-only-one", file, sizeof(file)), certs[1];
    size_t count = 0, len = 0;

    assert_int_equal(cms_certs_only_decode(der, certs, 1, &count), ERR_OK);
    assert_int_equal(count, 1);
    assert_true(bytes_eq(certs[0], load("cert-ee", cert, sizeof(cert))));
    assert_int_equal(cms_certs_only_build(certs, 1, built, sizeof(built), &len), ERR_OK);
    assert_true(bytes_eq(bytes_of(built, len), der)); /* one certificate has one order */
}

static void test_order_of_others(void **state)
{
    (void)state;
    uint8_t file[4096], cert[3][2048];
    const struct bytes expected[3] = {
        load("cert-intermediate", cert[0], sizeof(cert[0])), /* the order given to crl2pkcs7 */
        load("cert-root", cert[1], sizeof(cert[1])),
        load("cert-ee", cert[2], sizeof(cert[2])),
    };
    struct bytes der = load("certs-only", file, sizeof(file)), certs[3] = {{0}};
    size_t count = 4711;

    assert_int_equal(cms_certs_only_decode(der, certs, 2, &count), ERR_NO_SPACE);
    assert_int_equal(count, 4711);
    assert_null(certs[0].ptr);
    assert_int_equal(cms_certs_only_decode(der, certs, 3, &count), ERR_OK);
    assert_int_equal(count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_true(bytes_eq(certs[i], expected[i]));
}

static void test_set_order(void **state)
{
    (void)state;
    const struct bytes elements[4] = {
        B(0x30, 0x02, 0x05, 0x00), B(0x30, 0x00), B(0x30, 0x03, 0x02, 0x01, 0x07),
        B(0x30, 0x02, 0x05, 0x00), /* twice the same stays twice */
    };
    struct bytes shuffled[4], certs[4];
    uint8_t first[128], built[128];
    size_t first_len = 0, len = 0, count = 0;

    for (unsigned code = 0; code < 256; code++) { /* all permutations among all assignments */
        unsigned used = 0;
        for (unsigned i = 0; i < 4; i++) {
            shuffled[i] = elements[code >> 2 * i & 3];
            used |= 1u << (code >> 2 * i & 3);
        }
        if (used != 15)
            continue;
        assert_int_equal(cms_certs_only_build(shuffled, 4, built, sizeof(built), &len), ERR_OK);
        if (first_len == 0) {
            memcpy(first, built, len);
            first_len = len;
        }
        assert_int_equal(len, first_len);
        assert_memory_equal(built, first, len);
    }
    assert_int_equal(cms_certs_only_decode(bytes_of(first, first_len), certs, 4, &count), ERR_OK);
    assert_int_equal(count, 4);
    const size_t order[4] = {1, 0, 3, 2};
    for (size_t i = 0; i < 4; i++)
        assert_true(bytes_eq(certs[i], elements[order[i]]));
    assert_int_equal(cms_certs_only_build(NULL, 0, built, sizeof(built), &len), ERR_OK);
    assert_int_equal(cms_certs_only_decode(bytes_of(built, len), certs, 4, &count), ERR_OK);
    assert_int_equal(count, 0);
}

static void test_room(void **state)
{
    (void)state;
    static uint8_t big[66000], built[66200], zeros[66000];
    const size_t lens[] = {2, 100, 127, 128, 300, 65535, 65900};
    struct der_builder builder;
    struct bytes certs[3];
    size_t len;

    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        builder = der_builder_of(big, sizeof(big));
        der_put(&builder, DER_SEQUENCE, bytes_of(zeros, lens[i] - der_header_len(lens[i] - 2)));
        assert_true(der_finish(&builder, &certs[0]));
        size_t bound = cms_certs_only_bound(certs, 1);
        assert_true(bound <= sizeof(built));
        len = 4711;
        assert_int_equal(cms_certs_only_build(certs, 1, built, bound, &len), ERR_OK);
        assert_true(len <= bound);
        size_t exact = len;
        len = 4711;
        assert_int_equal(cms_certs_only_build(certs, 1, built, exact - 1, &len), ERR_NO_SPACE);
        assert_int_equal(len, 4711);
        assert_int_equal(cms_certs_only_build(certs, 1, built, exact, &len), ERR_OK);
    }
    certs[1] = B(0x30, 0x00, 0x00); /* trailing */
    assert_int_equal(cms_certs_only_build(certs, 2, built, sizeof(built), &len), ERR_BAD_CERT);
    certs[1] = B(0x31, 0x00);
    assert_int_equal(cms_certs_only_build(certs, 2, built, sizeof(built), &len), ERR_BAD_CERT);
}

struct parts {
    struct bytes type, version, digests, content_type, e_content, certs, crls, signers;
    struct bytes behind_info, behind_explicit, behind_signed, behind_all;
};

static const struct parts good_parts = {
    .type = BYTES_LIT("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"),
    .version = BYTES_LIT("\x02\x01\x01"),
    .digests = BYTES_LIT("\x31\x00"),
    .content_type = BYTES_LIT("\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"),
    .certs = BYTES_LIT("\xa0\x04\x30\x00\x30\x00"),
    .signers = BYTES_LIT("\x31\x00"),
};

static enum err decode_parts(struct parts parts)
{
    uint8_t buf[256];
    struct der_builder builder = der_builder_of(buf, sizeof(buf));
    struct bytes all, certs[4];
    size_t count = 0;

    der_open(&builder, DER_SEQUENCE);
    der_put_raw(&builder, parts.type);
    der_open(&builder, DER_CONTEXT_CONSTRUCTED(0));
    der_open(&builder, DER_SEQUENCE);
    der_put_raw(&builder, parts.version);
    der_put_raw(&builder, parts.digests);
    der_open(&builder, DER_SEQUENCE);
    der_put_raw(&builder, parts.content_type);
    der_put_raw(&builder, parts.e_content);
    der_close(&builder);
    der_put_raw(&builder, parts.certs);
    der_put_raw(&builder, parts.crls);
    der_put_raw(&builder, parts.signers);
    der_put_raw(&builder, parts.behind_signed);
    der_close(&builder);
    der_put_raw(&builder, parts.behind_explicit);
    der_close(&builder);
    der_put_raw(&builder, parts.behind_info);
    der_close(&builder);
    der_put_raw(&builder, parts.behind_all);
    assert_true(der_finish(&builder, &all));
    enum err err = cms_certs_only_decode(all, certs, 4, &count);
    assert_int_equal(count, err == ERR_OK && parts.certs.len != 0 ? 2 : 0);
    return err;
}

#define assert_part(field, value, err)                                                             \
    do {                                                                                           \
        struct parts parts = good_parts;                                                           \
        parts.field = (value);                                                                     \
        assert_int_equal(decode_parts(parts), err);                                                \
    } while (0)

static void test_malformed(void **state)
{
    (void)state;
    const struct bytes null = B(0x05, 0x00), none = {0};
    uint8_t file[4096];
    struct bytes certs[4];
    size_t count;

    assert_int_equal(decode_parts(good_parts), ERR_OK);
    assert_part(version, B(0x02, 0x01, 0x03), ERR_OK);
    assert_part(version, B(0x02, 0x01, 0x05), ERR_OK);
    assert_part(version, B(0x02, 0x01, 0x06), ERR_BAD_DER);
    assert_part(certs, none, ERR_OK);
    assert_part(crls, B(0xa1, 0x02, 0x30, 0x00), ERR_OK);
    assert_part(digests, B(0x31, 0x02, 0x30, 0x00), ERR_OK);

    assert_part(behind_all, null, ERR_DER_TRAILING);
    assert_part(behind_info, null, ERR_DER_TRAILING);
    assert_part(behind_explicit, null, ERR_DER_TRAILING);
    assert_part(behind_signed, null, ERR_DER_TRAILING);
    assert_part(type, good_parts.content_type, ERR_BAD_DER);
    assert_part(version, B(0x02, 0x01, 0x00), ERR_BAD_DER);
    assert_part(version, B(0x02, 0x01, 0x02), ERR_BAD_DER);
    assert_part(version, B(0x02, 0x02, 0x00, 0x01), ERR_BAD_DER);
    assert_part(version, none, ERR_BAD_DER);
    assert_part(digests, none, ERR_BAD_DER);
    assert_part(digests, B(0x31, 0x02, 0x30, 0x80), ERR_BAD_DER);
    assert_part(content_type, none, ERR_BAD_DER);
    assert_part(e_content, B(0xa0, 0x02, 0x04, 0x00), ERR_BAD_DER);
    assert_part(certs, B(0xa0, 0x04, 0x30, 0x00, 0xa1, 0x00), ERR_BAD_DER); /* other choices */
    assert_part(certs, B(0xa0, 0x03, 0x30, 0x02, 0x00), ERR_BAD_DER);
    assert_part(certs, B(0xa0, 0x80, 0x30, 0x00, 0x00, 0x00), ERR_BAD_DER);
    assert_part(crls, B(0xa1, 0x02, 0x30, 0x80), ERR_BAD_DER);
    assert_part(signers, B(0x31, 0x02, 0x30, 0x00), ERR_BAD_DER); /* signed */
    assert_part(signers, none, ERR_BAD_DER);
    assert_int_equal(cms_certs_only_decode((struct bytes){0}, certs, 4, &count), ERR_BAD_DER);
    assert_int_equal(
        cms_certs_only_decode(load("cms-signed", file, sizeof(file)), certs, 4, &count),
        ERR_BAD_DER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_as_openssl), cmocka_unit_test(test_order_of_others),
        cmocka_unit_test(test_set_order),       cmocka_unit_test(test_room),
        cmocka_unit_test(test_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
