/* Is a revocation list read as RFC 5280 section 5 has it, and refused where it breaks a rule? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "asn1/crl.h"
#include "asn1/der.h"
#include "asn1/oid.h"

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

/* --- what OpenSSL makes --- */

static void test_openssl_lists(void **state)
{
    (void)state;
    static uint8_t file[8192];
    struct crl_view crl;
    struct crl_entry entry;
    char issuer[128];
    uint64_t number;

    assert_int_equal(crl_decode(load("crl-full", file, sizeof(file)), &crl), ERR_OK);
    name_to_text(crl.issuer, issuer, sizeof(issuer));
    assert_string_equal(issuer, "O=Plant,CN=Root");
    assert_int_equal(crl.sig_alg, SIG_RSA_SHA256);
    assert_true(crl.has_next_update);
    assert_int_equal(crl.next_update_s - crl.this_update_s, 30 * 86400);
    assert_int_equal(crl.aki.len, 20);
    assert_true(crl_number(&crl, &number));
    assert_int_equal(number, 0x1234);
    assert_false(crl.unknown_critical);
    assert_int_equal(crl.entry_count, 3);
    struct bytes left = crl.entries;
    const uint8_t reasons[] = {1, 0, 6};
    for (size_t i = 0; i < 3; i++) {
        assert_true(crl_entry_next(&left, &entry));
        assert_int_equal(entry.serial.ptr[entry.serial.len - 1], i + 1);
        assert_int_equal(entry.reason, reasons[i]);
        assert_int_equal(entry.has_reason, reasons[i] != 0);
        assert_int_equal(entry.revoked_s, 1767225600 + (int64_t)i);
        assert_false(entry.unknown_critical);
    }
    assert_false(crl_entry_next(&left, &entry));

    assert_int_equal(crl_decode(load("crl-empty", file, sizeof(file)), &crl), ERR_OK);
    assert_int_equal(crl.entry_count, 0);
    assert_int_equal(crl.entries.len, 0);
    assert_false(crl_entry_next(&crl.entries, &entry));

    assert_int_equal(crl_decode(load("crl-v1", file, sizeof(file)), &crl), ERR_OK);
    assert_int_equal(crl.entry_count, 3);
    assert_false(crl_number(&crl, &number));

    assert_int_equal(crl_decode(load("crl-partial", file, sizeof(file)), &crl), ERR_OK);
    assert_true(crl.unknown_critical); /* issuingDistributionPoint */
}

/* --- what breaks a rule --- */

enum part {
    PART_VERSION,
    PART_ALG,
    PART_ISSUER,
    PART_THIS,
    PART_NEXT,
    PART_ENTRIES,
    PART_TAIL,
    PARTS
};

/* hex of each part of a good TBSCertList; a case replaces one of them */
static const char *const good[PARTS] = {
    "020101",
    "300a06082a8648ce3d040302",
    "300c310a300806035504030c0141",
    "170d3236303130313030303030305a",
    "170d3236303130383030303030305a",
    "301430120201051"
    "70d3236303130313030303030305a",
    "a00e300c300a0603551d140403020107",
};

static size_t put_hex(uint8_t *out, const char *text)
{
    size_t len;
    assert_true(bytes_from_hex(bytes_of_str(text), out, 512, &len));
    return len;
}

static struct bytes make(enum part replaced, const char *with, const char *outer_alg)
{
    static uint8_t buf[4096];
    struct der_builder out = der_builder_of(buf, sizeof(buf));
    uint8_t part[512];
    struct bytes der;

    der_open(&out, DER_SEQUENCE);
    der_open(&out, DER_SEQUENCE);
    for (enum part i = 0; i < PARTS; i++)
        der_put_raw(&out, bytes_of(part, put_hex(part, i == replaced ? with : good[i])));
    der_close(&out);
    der_put_raw(&out, bytes_of(part, put_hex(part, outer_alg)));
    der_put_bits(&out, BYTES_LIT("sig"));
    der_close(&out);
    assert_true(der_finish(&out, &der));
    return der;
}

#define TIME "170d3236303130313030303030305a"

static void test_rules(void **state)
{
    (void)state;
    static const struct {
        enum part part;
        const char *with;
        enum err expected;
        const char *why;
    } cases[] = {
        {PARTS, "", ERR_OK, "as it is"},
        {PART_VERSION, "020100", ERR_BAD_CRL, "v1 is written by leaving it out"},
        {PART_VERSION, "020102", ERR_BAD_CRL, "there is no v3"},
        {PART_VERSION, "02020001", ERR_BAD_DER, "not minimal"},
        {PART_VERSION, "", ERR_BAD_CRL, "v1 has no extensions"},
        {PART_ALG, "300a06082a8648ce3d040303", ERR_BAD_CRL, "not the outer algorithm"},
        {PART_ISSUER, "3000", ERR_BAD_CRL, "nobody's"},
        {PART_ISSUER, "300c310a300806035504030c0100", ERR_BAD_CRL, "NUL in a name"},
        {PART_THIS, "", ERR_OK, "nextUpdate is read as thisUpdate, which may stand alone"},
        {PART_THIS, "180f32303236303130313030303030305a", ERR_OK, "readers take either time"},
        {PART_THIS, "170b323630313031303030305a", ERR_BAD_DER, "no seconds"},
        {PART_NEXT, "", ERR_OK, "nextUpdate is optional to readers"},
        {PART_NEXT, "170d3236303133383030303030305a", ERR_BAD_DER, "no such day"},
        {PART_ENTRIES, "", ERR_OK, "no entries"},
        {PART_ENTRIES, "3000", ERR_BAD_CRL, "an empty list is left out"},
        {PART_ENTRIES, "30143012020185" TIME, ERR_BAD_CRL, "a negative serial"},
        {PART_ENTRIES, "3015301302020005" TIME, ERR_BAD_CRL, "a serial that is not minimal"},
        {PART_ENTRIES, "30053003020105", ERR_BAD_CRL, "an entry without a date"},
        {PART_ENTRIES, "30163014020105" TIME "3000", ERR_BAD_CRL, "empty entry extensions"},
        {PART_ENTRIES, "30163014020105" TIME "0500", ERR_BAD_CRL, "something else behind"},
        {PART_ENTRIES, "30223020020105" TIME "300c300a0603551d1504030a0101", ERR_OK, "a reason"},
        {PART_ENTRIES, "30223020020105" TIME "300c300a0603551d1504030a0107", ERR_BAD_CRL, "unused"},
        {PART_ENTRIES, "30223020020105" TIME "300c300a0603551d1504030a010b", ERR_BAD_CRL,
         "unknown"},
        {PART_ENTRIES, "30223020020105" TIME "300c300a0603551d150403020101", ERR_BAD_CRL,
         "an INTEGER is no reason"},
        {PART_TAIL, "", ERR_OK, "no extensions"},
        {PART_TAIL, "a0023000", ERR_BAD_CRL, "empty extensions"},
        {PART_TAIL, "a10e300c300a0603551d140403020107", ERR_DER_TRAILING, "not [0]"},
        {PART_TAIL, "a00e300c300a0603551d140403020187", ERR_BAD_CRL, "a negative number"},
        {PART_TAIL, "a010300e300c0603551d14040502010700", ERR_BAD_DER, "lengths do not fit"},
        {PART_TAIL, "a00d300b30090603551d1404020500", ERR_BAD_CRL, "no number"},
        {PART_TAIL, "a00d300b30090603551d2304023000", ERR_OK, "AKI without a key id"},
        {PART_TAIL, "a00d300b30090603551d2304020500", ERR_BAD_CRL, "no AKI"},
        {PART_TAIL, "a00e300c300a0603551d1404030201070500", ERR_DER_TRAILING, "behind the end"},
    };
    const struct crl_view untouched = {.entry_count = 77};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct crl_view crl = untouched;
        enum err err = crl_decode(make(cases[i].part, cases[i].with, good[PART_ALG]), &crl);
        if (err != cases[i].expected)
            print_error("%s: %s\n", cases[i].why, err_code(err));
        assert_int_equal(err, cases[i].expected);
        if (err != ERR_OK)
            assert_memory_equal(&crl, &untouched, sizeof(crl));
    }
}

static void test_version_1_has_no_entry_extensions(void **state)
{
    (void)state;
    static uint8_t buf[512];
    struct der_builder out = der_builder_of(buf, sizeof(buf));
    uint8_t part[512];
    struct bytes der;
    struct crl_view crl;

    der_open(&out, DER_SEQUENCE);
    der_open(&out, DER_SEQUENCE);
    for (enum part i = PART_ALG; i < PART_ENTRIES; i++)
        der_put_raw(&out, bytes_of(part, put_hex(part, good[i])));
    der_put_raw(
        &out, bytes_of(part, put_hex(part, "30223020020105" TIME "300c300a0603551d1504030a0101")));
    der_close(&out);
    der_put_raw(&out, bytes_of(part, put_hex(part, good[PART_ALG])));
    der_put_bits(&out, BYTES_LIT("sig"));
    der_close(&out);
    assert_true(der_finish(&out, &der));
    assert_int_equal(crl_decode(der, &crl), ERR_BAD_CRL);
}

static void test_ends(void **state)
{
    (void)state;
    struct bytes der = make(PARTS, "", good[PART_ALG]);
    struct crl_view crl;
    uint8_t *copy = malloc(der.len + 1);

    assert_non_null(copy);
    memcpy(copy, der.ptr, der.len);
    copy[der.len] = 0;
    assert_int_equal(crl_decode(bytes_of(copy, der.len + 1), &crl), ERR_DER_TRAILING);
    for (size_t len = 0; len < der.len; len++) {
        uint8_t *cut = malloc(len + 1); /* so that a sanitizer sees the end */
        assert_non_null(cut);
        memcpy(cut, der.ptr, len);
        assert_int_not_equal(crl_decode(bytes_of(cut, len), &crl), ERR_OK);
        free(cut);
    }
    free(copy);
    /* four length octets where three would do (X.690 10.1) */
    const uint8_t padded[] = {0x30, 0x84, 0x00, 0x00, 0x00, 0x02, 0x05, 0x00};
    assert_int_equal(crl_decode(BYTES_ARRAY(padded), &crl), ERR_BAD_DER);
    const uint8_t long_length[] = {0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x05, 0x00};
    assert_int_equal(crl_decode(BYTES_ARRAY(long_length), &crl), ERR_BAD_DER);
}

static void test_numbers_and_reasons(void **state)
{
    (void)state;
    const struct {
        const char *hex;
        bool fits;
        uint64_t value;
    } cases[] = {{"00", true, 0},
                 {"7f", true, 127},
                 {"0080", true, 128},
                 {"00ffffffffffffffff", true, UINT64_MAX},
                 {"01ffffffffffffffff", false, 0},
                 {"01000000000000000000", false, 0},
                 {"", false, 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t buf[16];
        size_t len;
        uint64_t value = 0;
        assert_true(bytes_from_hex(bytes_of_str(cases[i].hex), buf, sizeof(buf), &len));
        struct crl_view crl = {.number = bytes_of(buf, len)};
        assert_int_equal(crl_number(&crl, &value), cases[i].fits);
        assert_true(value == cases[i].value);
    }
    for (unsigned i = 0; i <= UINT8_MAX; i++) {
        const char *name = crl_reason_text((uint8_t)i);
        uint8_t back = 99;
        assert_int_equal(name != NULL, i <= 10 && i != 7);
        if (name != NULL) {
            assert_true(crl_reason_from_text(name, &back));
            assert_int_equal(back, i);
        }
    }
    uint8_t none = 99;
    assert_false(crl_reason_from_text("keycompromise", &none));
    assert_false(crl_reason_from_text("", &none));
    assert_int_equal(none, 99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_openssl_lists),
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_version_1_has_no_entry_extensions),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_numbers_and_reasons),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
