/* Are names and alternative names checked to the last octet, and their texts safe to print? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "asn1/der.h"
#include "asn1/oid.h"
#include "asn1/x509.h"

#define B(...) bytes_of((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* A Name with one attribute: CN of that type and value. */
static struct bytes name_with(uint8_t *buf, size_t cap, uint8_t tag, struct bytes value)
{
    struct der_builder builder = der_builder_of(buf, cap);
    struct bytes all;

    der_open(&builder, DER_SEQUENCE);
    der_open(&builder, DER_SET);
    der_open(&builder, DER_SEQUENCE);
    der_put(&builder, DER_OID, OID_AT_COMMON_NAME);
    der_put(&builder, tag, value);
    der_close(&builder);
    der_close(&builder);
    der_close(&builder);
    assert_true(der_finish(&builder, &all));
    return all;
}

static bool value_ok(uint8_t tag, struct bytes value)
{
    uint8_t buf[64];
    return name_is_valid(name_with(buf, sizeof(buf), tag, value));
}

static void test_string_types(void **state)
{
    (void)state;
    assert_true(value_ok(DER_UTF8_STRING, BYTES_LIT("Z\xc3\xbcrich")));
    assert_true(value_ok(DER_PRINTABLE_STRING, BYTES_LIT("AT&T")));
    assert_true(value_ok(DER_IA5_STRING, BYTES_LIT("a@example")));
    assert_true(value_ok(DER_T61_STRING, BYTES_LIT("Z\xfcrich")));
    assert_true(value_ok(DER_BMP_STRING, BYTES_LIT("\0A\x01\0")));
    assert_true(value_ok(0x1c, BYTES_LIT("\0\0\0A")));
    assert_true(value_ok(0x12, BYTES_LIT("0123 45")));
    assert_true(value_ok(DER_BIT_STRING, BYTES_LIT("\0\x80")));
    assert_false(value_ok(DER_UTF8_STRING, BYTES_LIT("Z\xfcrich")));
    assert_false(value_ok(DER_PRINTABLE_STRING, BYTES_LIT("Z\xc3\xbcrich")));
    assert_false(value_ok(DER_PRINTABLE_STRING, BYTES_LIT("a\nb")));
    assert_true(value_ok(DER_PRINTABLE_STRING, BYTES_LIT("~")));
    assert_false(value_ok(DER_PRINTABLE_STRING, BYTES_LIT("\x7f")));
    assert_false(value_ok(DER_IA5_STRING, BYTES_LIT("a\x80")));
    assert_false(value_ok(DER_BMP_STRING, BYTES_LIT("\0A\x01")));
    assert_false(value_ok(0x1c, BYTES_LIT("\0A")));
    assert_false(value_ok(DER_BMP_STRING, BYTES_LIT("\0A\xd8\0"))); /* surrogates */
    assert_false(value_ok(DER_BMP_STRING, BYTES_LIT("\0A\xdf\xff")));
    assert_true(value_ok(DER_BMP_STRING, BYTES_LIT("\xe0\0")));
    assert_false(value_ok(0x1c, BYTES_LIT("\0\x11\0\0"))); /* past U+10FFFF */
    assert_true(value_ok(0x1c, BYTES_LIT("\0\x10\xff\xff")));
    assert_false(value_ok(DER_BIT_STRING, BYTES_LIT("\x07\x80")));
    assert_false(value_ok(DER_OCTET_STRING, BYTES_LIT("a")));
    assert_false(value_ok(DER_INTEGER, BYTES_LIT("\x01")));
    assert_false(value_ok(DER_SEQUENCE, BYTES_LIT("")));
    /* empty, and NUL, where other programs would stop */
    const uint8_t tags[] = {DER_UTF8_STRING, DER_PRINTABLE_STRING, DER_IA5_STRING, DER_T61_STRING,
                            0x12};
    for (size_t i = 0; i < sizeof(tags); i++) {
        assert_true(value_ok(tags[i], BYTES_LIT("good")));
        assert_false(value_ok(tags[i], BYTES_LIT("good\0evil")));
        assert_false(value_ok(tags[i], (struct bytes){0}));
    }
    assert_false(value_ok(DER_BMP_STRING, BYTES_LIT("\0A\0\0")));
    assert_false(value_ok(0x1c, BYTES_LIT("\0\0\0A\0\0\0\0")));
}

static void test_structure(void **state)
{
    (void)state;
#define CN(c)  0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x01, c
#define ORG(c) 0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x0a, 0x0c, 0x01, c
    assert_true(name_is_valid(B(0x30, 0x00)));
    assert_true(name_is_empty(B(0x30, 0x00)));
    assert_true(name_is_valid(B(0x30, 0x18, 0x31, 0x0a, CN('a'), 0x31, 0x0a, ORG('a'))));
    assert_true(name_is_valid(B(0x30, 0x16, 0x31, 0x14, CN('a'), ORG('a'))));
    assert_true(name_is_valid(B(0x30, 0x16, 0x31, 0x14, CN('a'), CN('b'))));
    assert_false(name_is_valid(B(0x30, 0x16, 0x31, 0x14, ORG('a'), CN('a')))); /* X.690 11.6 */
    assert_false(name_is_valid(B(0x30, 0x16, 0x31, 0x14, CN('a'), CN('a'))));
    assert_false(name_is_valid(B(0x30, 0x02, 0x31, 0x00)));                /* empty RDN */
    assert_false(name_is_valid(B(0x30, 0x0c, 0x30, 0x0a, CN('a'))));       /* no SET */
    assert_false(name_is_valid(B(0x31, 0x0c, 0x31, 0x0a, CN('a'))));       /* no SEQUENCE */
    assert_false(name_is_valid(B(0x30, 0x0c, 0x31, 0x0a, CN('a'), 0x00))); /* trailing */
    assert_false(name_is_valid(B(0x30, 0x0d, 0x31, 0x0b, CN('a'), 0x00)));
    assert_false(name_is_valid(B(0x30, 0x0e, 0x31, 0x0c, 0x30, 0x0a, 0x06, 0x03, 0x55, 0x04, 0x03,
                                 0x0c, 0x01, 'a', 0x05, 0x00))); /* third field */
    assert_false(
        name_is_valid(B(0x30, 0x09, 0x31, 0x07, 0x30, 0x05, 0x06, 0x03, 0x55, 0x04, 0x03)));
    assert_false(name_is_valid(B(0x30, 0x09, 0x31, 0x07, 0x30, 0x05, 0x06, 0x00, 0x0c, 0x01, 'a')));
    assert_false(name_is_valid((struct bytes){0}));

    static uint8_t big[2048], buf[2100];
    memset(big, 'a', sizeof(big));
    struct bytes name = name_with(buf, sizeof(buf), DER_UTF8_STRING, bytes_of(big, 1003));
    assert_int_equal(name.len, NAME_DER_MAX);
    assert_true(name_is_valid(name));
    name = name_with(buf, sizeof(buf), DER_UTF8_STRING, bytes_of(big, 1004));
    assert_false(name_is_valid(name));
}

struct seen {
    size_t count, stop_at;
};

static bool count_attribute(void *ctx, struct bytes oid, uint8_t tag, struct bytes value)
{
    struct seen *seen = ctx;
    assert_true(oid.len > 0 && value.len > 0 && tag == DER_UTF8_STRING);
    return ++seen->count != seen->stop_at;
}

static void test_each_and_find(void **state)
{
    (void)state;
    struct bytes name = B(0x30, 0x22, 0x31, 0x14, CN('a'), ORG('o'), 0x31, 0x0a, CN('z'));
    struct seen seen = {0, 0};
    struct bytes value = {0};

    assert_true(name_each(name, count_attribute, &seen));
    assert_int_equal(seen.count, 3);
    seen = (struct seen){0, 2};
    assert_false(name_each(name, count_attribute, &seen));
    assert_int_equal(seen.count, 2);
    seen = (struct seen){0, 0};
    assert_false(name_each(bytes_of(name.ptr, name.len - 1), count_attribute, &seen));
    assert_int_equal(seen.count, 0);

    assert_true(name_find(name, OID_AT_COMMON_NAME, &value));
    assert_true(bytes_eq(value, BYTES_LIT("z"))); /* the last one */
    assert_true(name_find(name, OID_AT_ORGANIZATION, &value));
    assert_true(bytes_eq(value, BYTES_LIT("o")));
    assert_false(name_find(name, OID_AT_COUNTRY, &value));
    /* found, but what follows is malformed */
    assert_false(
        name_find(B(0x30, 0x0e, 0x31, 0x0a, CN('a'), 0x31, 0x00), OID_AT_COMMON_NAME, &value));
    assert_true(bytes_eq(value, BYTES_LIT("o")));
}

static void assert_text(struct bytes name, const char *expected)
{
    char text[256];
    name_to_text(name, text, sizeof(text));
    assert_string_equal(text, expected);
}

static void test_to_text(void **state)
{
    (void)state;
    uint8_t buf[128];
    assert_text(B(0x30, 0x22, 0x31, 0x14, CN('a'), ORG('o'), 0x31, 0x0a, CN('z')), "CN=a+O=o,CN=z");
    assert_text(B(0x30, 0x00), "");
    assert_text(B(0x30, 0x02, 0x31, 0x00), "");
    const struct {
        uint8_t tag;
        struct bytes value;
        const char *text;
    } values[] = {
        {DER_UTF8_STRING, BYTES_LIT("a,b+c\"d\\e<f>g;h=i"),
         "CN=a\\,b\\+c\\\"d\\\\e\\<f\\>g\\;h\\=i"},
        {DER_UTF8_STRING, BYTES_LIT("  a b  "), "CN=\\  a b \\ "},
        {DER_UTF8_STRING, BYTES_LIT("#a#"), "CN=\\#a#"},
        {DER_UTF8_STRING, BYTES_LIT(" "), "CN=\\ "},
        {DER_UTF8_STRING, BYTES_LIT("a\r\nb\x1b\x7f"), "CN=a\\0D\\0Ab\\1B\\7F"},
        {DER_UTF8_STRING, BYTES_LIT("Z\xc3\xbcrich \xf0\x9f\x8f\xad"),
         "CN=Z\xc3\xbcrich \xf0\x9f\x8f\xad"},
        {DER_T61_STRING, BYTES_LIT("\x80"), "CN=\xc2\x80"},
        {DER_BMP_STRING, BYTES_LIT("\x08\0\x07\xff"), "CN=\xe0\xa0\x80\xdf\xbf"},
        {DER_UTF8_STRING, BYTES_LIT("\xe0\xa0\x80"), "CN=\xe0\xa0\x80"},
        {0x1c, BYTES_LIT("\0\x01\0\0\0\0\xff\xff"), "CN=\xf0\x90\x80\x80\xef\xbf\xbf"},
        {DER_T61_STRING, BYTES_LIT("Z\xfcrich"), "CN=Z\xc3\xbcrich"},
        {DER_BMP_STRING, BYTES_LIT("\0A\x20\xac\0,"), "CN=A\xe2\x82\xac\\,"},
        {0x1c, BYTES_LIT("\0\0\0A\0\x01\xf3\xed"), "CN=A\xf0\x9f\x8f\xad"},
        {DER_BIT_STRING, BYTES_LIT("\0\x80"), "2.5.4.3=#03020080"},
    };
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
        assert_text(name_with(buf, sizeof(buf), values[i].tag, values[i].value), values[i].text);
    /* an attribute type without a name of its own */
    assert_text(
        B(0x30, 0x0c, 0x31, 0x0a, 0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x2a, 0x0c, 0x01, 'a'),
        "2.5.4.42=#0C0161");

    /* cut at any room, between characters, with its NUL */
    struct bytes name = name_with(buf, sizeof(buf), DER_UTF8_STRING, BYTES_LIT("a,\xc3\xbc\n"));
    const char *const whole = "CN=a\\,\xc3\xbc\\0A";
    const size_t cuts[] = {0, 0, 2, 3, 4, 4, 6, 6, 8, 8, 8, 11};
    for (size_t cap = 1; cap <= 12; cap++) {
        char text[16];
        memset(text, 'x', sizeof(text));
        name_to_text(name, text, cap);
        size_t len = strlen(text);
        assert_true(len < cap);
        assert_memory_equal(text, whole, len);
        assert_int_equal(text[cap], 'x');
        if (cap >= 4)
            assert_int_equal(len, cuts[cap - 1]);
    }
    char untouched = 'x';
    name_to_text(name, &untouched, 0);
    assert_int_equal(untouched, 'x');
}

static void test_from_text(void **state)
{
    (void)state;
    const char *const same[] = {
        "",
        "CN=a",
        "C=DE,ST=Bayern,L=M\xc3\xbcnchen,O=Plant,OU=Line 1,CN=Root,serialNumber=SN-1",
        "DC=example,DC=com,UID=u1,dnQualifier=q",
        "CN=a\\,b\\+\\\"\\\\\\<\\>\\;\\=",
        "CN=\\ a\\ ",
        "CN=\\#1",
        "CN=a\\0Ab",
    };
    const char *const equal[][2] = {
        {"CN = a , O= b ", "CN=a,O=b"},
        {"cn=a,SERIALNUMBER=1", "CN=a,serialNumber=1"},
        {"CN=a=b", "CN=a\\=b"},
        {"CN=\\41\\c3\\bc", "CN=A\xc3\xbc"},
        {"CN=\\39\\6f\\6F\\40\\4a\\4A", "CN=9oo@JJ"},
        {"serialNumber=AZaz09", "serialNumber=AZaz09"},
        {"C=az", "C=az"},
        {"C=AZ", "C=AZ"},
        {"CN=a b", "CN=a b"},
        {"CN=a\\,", "CN=a\\,"},
        {"CN=a#b", "CN=a#b"},
    };
    const char *const bad[] = {
        "CN",
        "CN=",
        "=a",
        "CN=a,",
        ",CN=a",
        "CN=a,,O=b",
        "XX=a",
        "CN=a+O=b",
        "CN=a;O=b",
        "CN=\"a\"",
        "CN=\\",
        "CN=\\4",
        "CN=\\4g",
        "CN=\\00",
        "CN=\\ff",
        "CN=\\x",
        "C=DEU",
        "C=D",
        "C=D\\ ",
        "serialNumber=a_b",
        "serialNumber=\xc3\xbc",
        "DC=\xc3\xbc",
        "DC=\\80",
        "CN= ",
        "CN=\xff",
        "2.5.4.3=a",
        " ",
        "C=_A",
    };
    uint8_t out[NAME_DER_MAX + 64];
    char text[512];
    size_t len;

    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        assert_true(name_from_text(same[i], out, sizeof(out), &len));
        assert_true(name_is_valid(bytes_of(out, len)));
        assert_true(der_is_strict(bytes_of(out, len)));
        name_to_text(bytes_of(out, len), text, sizeof(text));
        assert_string_equal(text, same[i]);
        size_t exact = len;
        assert_true(name_from_text(same[i], out, exact, &len));
        len = 4711;
        assert_false(name_from_text(same[i], out, exact - 1, &len));
        assert_int_equal(len, 4711);
    }
    for (size_t i = 0; i < sizeof(equal) / sizeof(equal[0]); i++) {
        assert_true(name_from_text(equal[i][0], out, sizeof(out), &len));
        name_to_text(bytes_of(out, len), text, sizeof(text));
        assert_string_equal(text, equal[i][1]);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(name_from_text(bad[i], out, sizeof(out), &len));

    /* the string types of RFC 5280 A.1 */
    assert_true(name_from_text("C=DE,serialNumber=1,CN=a", out, sizeof(out), &len));
    assert_true(
        bytes_eq(bytes_of(out, len),
                 B(0x30, 0x25, 0x31, 0x0b, 0x30, 0x09, 0x06, 0x03, 0x55, 0x04, 0x06, 0x13, 0x02,
                   'D', 'E', 0x31, 0x0a, 0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x05, 0x13, 0x01, '1',
                   0x31, 0x0a, 0x30, 0x08, 0x06, 0x03, 0x55, 0x04, 0x03, 0x0c, 0x01, 'a')));
    static char longer[1100] = "CN=";
    memset(longer + 3, 'a', 1003);
    assert_true(name_from_text(longer, out, sizeof(out), &len));
    assert_int_equal(len, NAME_DER_MAX);
    longer[3 + 1003] = 'a';
    assert_false(name_from_text(longer, out, sizeof(out), &len));
}

static bool san_ok(struct bytes element)
{
    uint8_t buf[64];
    struct der_builder builder = der_builder_of(buf, sizeof(buf));
    struct bytes all;
    der_open(&builder, DER_SEQUENCE);
    der_put_raw(&builder, element);
    der_close(&builder);
    assert_true(der_finish(&builder, &all));
    return general_names_are_valid(all);
}

static void test_general_names(void **state)
{
    (void)state;
    assert_true(san_ok(B(0x82, 0x01, 'a')));
    assert_true(san_ok(B(0x82, 0x01, 'a', 0x82, 0x01, 'a')));
    assert_true(san_ok(B(0x81, 0x03, 'a', '@', 'b')));
    assert_true(san_ok(B(0x86, 0x05, 'u', 'r', 'n', ':', 'a')));
    assert_true(san_ok(B(0x87, 0x04, 192, 0, 2, 1)));
    assert_true(san_ok(B(0x87, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)));
    assert_true(san_ok(B(0x88, 0x02, 0x2a, 0x03)));
    assert_true(san_ok(B(0xa4, 0x02, 0x30, 0x00)));
    assert_true(san_ok(B(0xa0, 0x07, 0x06, 0x01, 0x2a, 0xa0, 0x02, 0x05, 0x00)));
    assert_false(san_ok((struct bytes){0})); /* SIZE (1..MAX) */
    assert_false(san_ok(B(0x82, 0x00)));
    assert_false(san_ok(B(0x82, 0x01, ' ')));
    assert_false(san_ok(B(0x82, 0x02, 'a', 0x00)));
    assert_false(san_ok(B(0x82, 0x01, 0x80)));
    assert_false(san_ok(B(0x81, 0x00)));
    assert_false(san_ok(B(0x81, 0x01, 0x00)));
    assert_false(san_ok(B(0x86, 0x01, 0x00)));
    assert_false(san_ok(B(0xa2, 0x03, 0x16, 0x01, 'a'))); /* EXPLICIT */
    assert_false(san_ok(B(0x87, 0x00)));
    assert_false(san_ok(B(0x87, 0x05, 192, 0, 2, 1, 0)));
    assert_false(san_ok(B(0x87, 0x08, 192, 0, 2, 1, 255, 255, 255, 0))); /* a constraint's form */
    assert_false(san_ok(B(0x88, 0x00)));
    assert_false(san_ok(B(0x88, 0x02, 0x80, 0x01)));
    assert_false(san_ok(B(0xa4, 0x00)));
    assert_false(san_ok(B(0xa4, 0x04, 0x30, 0x00, 0x30, 0x00)));
    assert_false(san_ok(B(0xa4, 0x04, 0x30, 0x02, 0x31, 0x00)));
    assert_false(san_ok(B(0xa0, 0x03, 0x06, 0x01, 0x2a)));
    assert_false(san_ok(B(0xa0, 0x05, 0x06, 0x01, 0x2a, 0x05, 0x00)));
    assert_false(san_ok(B(0xa0, 0x08, 0x06, 0x01, 0x2a, 0xa0, 0x03, 0x01, 0x01, 0x01)));
    assert_false(san_ok(B(0xa0, 0x09, 0x06, 0x01, 0x2a, 0xa0, 0x02, 0x05, 0x00, 0x05, 0x00)));
    assert_false(san_ok(B(0xa0, 0x09, 0x06, 0x01, 0x2a, 0xa0, 0x04, 0x05, 0x00, 0x05, 0x00)));
    assert_false(san_ok(B(0xa0, 0x05, 0x06, 0x01, 0x2a, 0xa0, 0x00)));
    assert_false(san_ok(B(0xa3, 0x00)));
    assert_false(san_ok(B(0xa5, 0x00)));
    assert_false(san_ok(B(0x89, 0x01, 'a')));
    assert_false(san_ok(B(0x16, 0x01, 'a')));
    assert_false(san_ok(B(0x82, 0x81, 0x01, 'a')));
    assert_false(general_names_are_valid(B(0x30, 0x03, 0x82, 0x01, 'a', 0x00)));
    assert_false(general_names_are_valid((struct bytes){0}));
}

static void test_general_names_find(void **state)
{
    (void)state;
    struct bytes san = B(0x30, 0x14, 0x87, 0x04, 192, 0, 2, 1, 0x82, 0x01, 'a', 0x82, 0x01, 'b',
                         0xa4, 0x02, 0x30, 0x00, 0x86, 0x02, 'u', ':');
    struct bytes value = {0};

    assert_true(general_names_find(san, GN_DNS, &value));
    assert_true(bytes_eq(value, BYTES_LIT("a")));
    assert_true(general_names_find(san, GN_IP, &value));
    assert_int_equal(value.len, 4);
    assert_true(general_names_find(san, GN_DIRECTORY, &value));
    assert_true(bytes_eq(value, B(0x30, 0x00)));
    assert_true(general_names_find(san, GN_URI, &value));
    assert_false(general_names_find(san, GN_EMAIL, &value));
    assert_false(general_names_find(san, GN_OTHER, &value));
    assert_true(bytes_eq(value, BYTES_LIT("u:")));
    assert_false(general_names_find((struct bytes){0}, GN_DNS, &value));
    assert_false(general_names_find(bytes_of(san.ptr, san.len - 1), GN_DNS, &value));
    assert_false(general_names_find(B(0x30, 0x03, 0x82, 0x01, 'a', 0x00), GN_DNS, &value));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_string_types),       cmocka_unit_test(test_structure),
        cmocka_unit_test(test_each_and_find),      cmocka_unit_test(test_to_text),
        cmocka_unit_test(test_from_text),          cmocka_unit_test(test_general_names),
        cmocka_unit_test(test_general_names_find),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
