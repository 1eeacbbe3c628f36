/* Does the DER reader take exactly what X.690 allows, and leave everything alone when it refuses?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "asn1/der.h"

#define B(...)          bytes_of((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
#define TIME(tag, text) element((uint8_t[32]){0}, tag, text)

/* One short element with text as contents. */
static struct bytes element(uint8_t *buf, uint8_t tag, const char *text)
{
    size_t len = strlen(text);
    assert_true(len < 30);
    buf[0] = tag;
    buf[1] = (uint8_t)len;
    memcpy(buf + 2, text, len);
    return bytes_of(buf, len + 2);
}

static bool any_is_read(struct bytes der)
{
    struct bytes reader = der, contents = {0}, whole = {0};
    uint8_t tag = 0;
    bool ok = der_get_any(&reader, &tag, &contents, &whole);
    struct bytes exact = der, same = {0};

    if (!ok) {
        assert_ptr_equal(reader.ptr, der.ptr);
        assert_int_equal(reader.len, der.len);
        assert_null(contents.ptr);
        assert_null(whole.ptr);
        assert_int_equal(tag, 0);
        return false;
    }
    assert_int_equal(tag, der.ptr[0]);
    assert_ptr_equal(whole.ptr, der.ptr);
    assert_int_equal(whole.len + reader.len, der.len);
    assert_ptr_equal(contents.ptr + contents.len, reader.ptr);
    assert_true(der_get(&exact, tag, &same));
    assert_ptr_equal(same.ptr, contents.ptr);
    assert_int_equal(same.len, contents.len);
    assert_int_equal(exact.len, reader.len);
    return true;
}

static void test_lengths(void **state)
{
    (void)state;
    static uint8_t big[5 + (1 << 16)];
    struct bytes reader;

    assert_true(any_is_read(B(0x04, 0x00)));
    assert_true(any_is_read(B(0x04, 0x01, 0xaa)));
    assert_true(any_is_read(B(0x04, 0x01, 0xaa, 0xbb))); /* the rest stays in the reader */
    assert_false(any_is_read(B(0x04)));
    assert_false(any_is_read((struct bytes){0}));
    assert_false(any_is_read(B(0x04, 0x02, 0xaa)));       /* runs past the end */
    assert_false(any_is_read(B(0x30, 0x80, 0x00, 0x00))); /* indefinite */
    assert_false(any_is_read(B(0x04, 0x81, 0x01, 0xaa))); /* not minimal */
    assert_false(any_is_read(B(0x04, 0x81)));             /* length cut off */
    assert_false(any_is_read(B(0x04, 0x82, 0x01)));       /* length cut off */
    assert_false(
        any_is_read(B(0x04, 0x84, 0x00, 0x00, 0x00, 0x01))); /* past 2^24, or not minimal */
    assert_false(any_is_read(B(0x04, 0xff, 0x01)));          /* X.690 8.1.3.5 c) */

    const struct {
        uint8_t header[5];
        size_t header_len, len;
        bool ok;
    } cases[] = {
        {{0x04, 0x7f}, 2, 127, true},
        {{0x04, 0x80}, 2, 128, false}, /* indefinite, not 128 */
        {{0x04, 0x81, 0x7f}, 3, 127, false},
        {{0x04, 0x81, 0x80}, 3, 128, true},
        {{0x04, 0x81, 0xff}, 3, 255, true},
        {{0x04, 0x82, 0x00, 0xff}, 4, 255, false},
        {{0x04, 0x82, 0x01, 0x00}, 4, 256, true},
        {{0x04, 0x82, 0xff, 0xff}, 4, 65535, true},
        {{0x04, 0x83, 0x00, 0xff, 0xff}, 5, 65535, false},
        {{0x04, 0x83, 0x01, 0x00, 0x00}, 5, 65536, true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memcpy(big, cases[i].header, cases[i].header_len);
        reader = bytes_of(big, cases[i].header_len + cases[i].len);
        assert_int_equal(any_is_read(reader), cases[i].ok);
        reader.len--; /* one octet short */
        assert_false(any_is_read(reader));
    }
}

static void test_tags(void **state)
{
    (void)state;
    struct bytes contents = {0}, reader;
    bool present = true;

    assert_false(any_is_read(B(0x1f, 0x20, 0x00)));       /* high tag number */
    assert_false(any_is_read(B(0xbf, 0x21, 0x01, 0x00))); /* the same, context class */
    assert_false(any_is_read(B(0xbf, 0x01, 0x00)));       /* would be fine with a low one */
    assert_false(any_is_read(B(0x9f, 0x00)));
    assert_false(any_is_read(B(0x00, 0x00))); /* end-of-contents */
    assert_false(any_is_read(B(0x24, 0x00))); /* constructed OCTET STRING */
    assert_false(any_is_read(B(0x10, 0x00))); /* primitive SEQUENCE */
    assert_false(any_is_read(B(0x11, 0x00)));
    assert_false(any_is_read(B(0x0e, 0x00)));
    assert_false(any_is_read(B(0x2f, 0x00)));
    assert_false(any_is_read(B(0x28, 0x00))); /* EXTERNAL, EMBEDDED PDV, CHARACTER STRING */
    assert_false(any_is_read(B(0x2b, 0x00)));
    assert_false(any_is_read(B(0x3d, 0x00)));
    assert_true(any_is_read(B(0x80, 0x00)));
    assert_true(any_is_read(B(0xa0, 0x00)));
    assert_true(any_is_read(B(0x41, 0x00)));

    reader = B(0x02, 0x01, 0x05);
    assert_false(der_get(&reader, DER_SEQUENCE, &contents));
    assert_false(der_get_element(&reader, DER_SEQUENCE, &contents));
    assert_null(contents.ptr);
    assert_true(der_get_optional(&reader, DER_SEQUENCE, &contents, &present));
    assert_false(present);
    assert_int_equal(reader.len, 3);
    assert_true(der_get_optional(&reader, DER_INTEGER, &contents, &present));
    assert_true(present);
    assert_int_equal(reader.len, 0);
    assert_int_equal(der_peek(reader), 0);
    assert_true(der_get_optional(&reader, DER_INTEGER, &contents, &present));
    assert_false(present);
    reader = B(0x02, 0x02, 0x05); /* there, and wrong */
    assert_false(der_get_optional(&reader, DER_INTEGER, &contents, &present));
    assert_int_equal(reader.len, 3);

    reader = B(0x30, 0x03, 0x02, 0x01, 0x05, 0xff);
    assert_true(der_get_element(&reader, DER_SEQUENCE, &contents));
    assert_int_equal(contents.len, 5);
    assert_int_equal(reader.len, 1);
    /* one level down with the reader as its own output */
    reader = B(0x30, 0x03, 0x02, 0x01, 0x05);
    assert_true(der_get(&reader, DER_SEQUENCE, &reader));
    assert_int_equal(reader.len, 3);
    assert_int_equal(der_peek(reader), DER_INTEGER);
}

static int bool_of(struct bytes der)
{
    struct bytes reader = der;
    bool value = false;
    if (!der_get_bool(&reader, &value)) {
        assert_int_equal(reader.len, der.len);
        return -1;
    }
    assert_int_equal(reader.len, 0);
    return value;
}

static void test_booleans(void **state)
{
    (void)state;
    assert_int_equal(bool_of(B(0x01, 0x01, 0xff)), 1);
    assert_int_equal(bool_of(B(0x01, 0x01, 0x00)), 0);
    assert_int_equal(bool_of(B(0x01, 0x01, 0x01)), -1); /* X.690 11.1 */
    assert_int_equal(bool_of(B(0x01, 0x01, 0xfe)), -1);
    assert_int_equal(bool_of(B(0x01, 0x00)), -1);
    assert_int_equal(bool_of(B(0x01, 0x02, 0xff, 0xff)), -1);
}

static bool u64_is(struct bytes der, uint64_t expected)
{
    struct bytes reader = der;
    uint64_t value = 4711;
    if (!der_get_u64(&reader, &value)) {
        assert_int_equal(value, 4711);
        assert_int_equal(reader.len, der.len);
        return false;
    }
    assert_int_equal(reader.len, 0);
    return value == expected;
}

/* Reads it, and writes the same octets from what was read. */
static bool i64_is(struct bytes der, int64_t expected)
{
    uint8_t room[16];
    struct der_builder builder = der_builder_of(room, sizeof(room));
    struct bytes reader = der, written;
    int64_t value = 4711;
    if (!der_get_i64(&reader, &value)) {
        assert_int_equal(value, 4711);
        assert_int_equal(reader.len, der.len);
        return false;
    }
    assert_int_equal(reader.len, 0);
    der_put_i64(&builder, value);
    assert_true(der_finish(&builder, &written) && bytes_eq(written, der));
    return value == expected;
}

static void test_signed_integers(void **state)
{
    (void)state;
    assert_true(i64_is(B(0x02, 0x01, 0x00), 0));
    assert_true(i64_is(B(0x02, 0x01, 0xff), -1));
    assert_true(i64_is(B(0x02, 0x01, 0x80), -128));
    assert_true(i64_is(B(0x02, 0x02, 0xff, 0x7f), -129));
    assert_true(i64_is(B(0x02, 0x02, 0x00, 0x80), 128));
    assert_true(i64_is(B(0x02, 0x08, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), INT64_MAX));
    assert_true(i64_is(B(0x02, 0x08, 0x80, 0, 0, 0, 0, 0, 0, 0), INT64_MIN));
    assert_false(i64_is(B(0x02, 0x09, 0x00, 0x80, 0, 0, 0, 0, 0, 0, 0), 0)); /* 2^63 */
    assert_false(i64_is(B(0x02, 0x02, 0xff, 0x80), -128));
    assert_false(i64_is(B(0x02, 0x00), 0));
}

static bool integer_is_read(struct bytes der)
{
    struct bytes reader = der, contents = {0};
    bool ok = der_get_integer(&reader, &contents);
    assert_int_equal(reader.len, ok ? 0 : der.len);
    assert_int_equal(contents.len, ok ? der.len - 2 : 0);
    return ok;
}

static void test_integers(void **state)
{
    (void)state;
    assert_true(u64_is(B(0x02, 0x01, 0x00), 0));
    assert_true(u64_is(B(0x02, 0x01, 0x7f), 127));
    assert_true(u64_is(B(0x02, 0x02, 0x00, 0x80), 128));
    assert_true(u64_is(B(0x02, 0x02, 0x01, 0x00), 256));
    assert_true(
        u64_is(B(0x02, 0x09, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), UINT64_MAX));
    assert_true(u64_is(B(0x02, 0x08, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), INT64_MAX));
    /* 2^64, and what only looks longer */
    assert_false(u64_is(B(0x02, 0x09, 0x01, 0, 0, 0, 0, 0, 0, 0, 0), 0));
    assert_false(u64_is(B(0x02, 0x0a, 0x00, 0xff, 0, 0, 0, 0, 0, 0, 0, 0), 0));
    assert_false(u64_is(B(0x02, 0x01, 0x80), 128)); /* -128 */
    assert_false(u64_is(B(0x02, 0x01, 0xff), 255)); /* -1 */
    assert_false(u64_is(B(0x02, 0x02, 0x00, 0x7f), 127));
    assert_false(u64_is(B(0x02, 0x00), 0));
    assert_false(u64_is(B(0x0a, 0x01, 0x00), 0)); /* ENUMERATED */

    assert_true(integer_is_read(B(0x02, 0x01, 0xff)));
    assert_true(integer_is_read(B(0x02, 0x02, 0xff, 0x7f)));
    assert_false(integer_is_read(B(0x02, 0x02, 0xff, 0x80))); /* -128 in two octets */
    assert_false(integer_is_read(B(0x02, 0x02, 0x00, 0x00)));
    assert_false(integer_is_read(B(0x02, 0x00)));
}

static void test_oids(void **state)
{
    (void)state;
    struct bytes oid = {0}, reader = B(0x06, 0x03, 0x55, 0x04, 0x03);

    assert_true(der_get_oid(&reader, &oid));
    assert_int_equal(oid.len, 3);
    assert_int_equal(reader.len, 0);
    const struct bytes bad[] = {
        B(0x06, 0x00),                   /* no arc */
        B(0x06, 0x02, 0x55, 0x84),       /* the last arc does not end */
        B(0x06, 0x03, 0x55, 0x80, 0x01), /* padded arc (X.690 8.19.2) */
        B(0x06, 0x02, 0x80, 0x01),
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        reader = bad[i];
        assert_false(der_get_oid(&reader, &oid));
        assert_int_equal(reader.len, bad[i].len);
        assert_false(der_is_strict(bad[i]));
    }
}

static bool bits_are_read(struct bytes der)
{
    struct bytes reader = der, bits = {0};
    bool ok = der_get_bits(&reader, &bits);
    assert_int_equal(reader.len, ok ? 0 : der.len);
    assert_int_equal(bits.len, ok ? der.len - 3 : 0);
    return ok;
}

/* UINT64_MAX when refused. */
static uint64_t named_bits_of(struct bytes der)
{
    struct bytes reader = der;
    uint32_t bits = 0;
    if (!der_get_named_bits(&reader, &bits)) {
        assert_int_equal(reader.len, der.len);
        assert_int_equal(bits, 0);
        return UINT64_MAX;
    }
    return bits;
}

static void test_bit_strings(void **state)
{
    (void)state;
    assert_true(bits_are_read(B(0x03, 0x01, 0x00)));
    assert_true(bits_are_read(B(0x03, 0x03, 0x00, 0x12, 0x34)));
    assert_false(bits_are_read(B(0x03, 0x00)));
    assert_false(bits_are_read(B(0x03, 0x02, 0x04, 0x10))); /* unused bits */

    assert_int_equal(named_bits_of(B(0x03, 0x01, 0x00)), 0);
    assert_int_equal(named_bits_of(B(0x03, 0x02, 0x07, 0x80)), 1u << 0);
    assert_int_equal(named_bits_of(B(0x03, 0x02, 0x01, 0x06)), 1u << 5 | 1u << 6);
    assert_int_equal(named_bits_of(B(0x03, 0x03, 0x07, 0x00, 0x80)), 1u << 8);
    assert_int_equal(named_bits_of(B(0x03, 0x05, 0x00, 0x00, 0x00, 0x00, 0x01)), 1u << 31);
    assert_int_equal(named_bits_of(B(0x03, 0x02, 0x06, 0x80)), UINT64_MAX); /* trailing zero bit */
    assert_int_equal(named_bits_of(B(0x03, 0x02, 0x00, 0x00)), UINT64_MAX);
    assert_int_equal(named_bits_of(B(0x03, 0x02, 0x07, 0xc0)), UINT64_MAX); /* X.690 11.2.1 */
    assert_int_equal(named_bits_of(B(0x03, 0x02, 0x08, 0x80)), UINT64_MAX);
    assert_int_equal(named_bits_of(B(0x03, 0x01, 0x01)), UINT64_MAX); /* X.690 8.6.2.3 */
    assert_int_equal(named_bits_of(B(0x03, 0x00)), UINT64_MAX);
    assert_int_equal(named_bits_of(B(0x03, 0x06, 0x07, 0x00, 0x00, 0x00, 0x00, 0x80)), UINT64_MAX);

    assert_true(der_is_strict(B(0x03, 0x02, 0x04, 0x10)));
    assert_false(der_is_strict(B(0x03, 0x02, 0x04, 0x11)));
    assert_false(der_is_strict(B(0x03, 0x02, 0x08, 0x00)));
    assert_false(der_is_strict(B(0x03, 0x00)));
    assert_false(der_is_strict(B(0x03, 0x01, 0x03)));
}

static bool time_is(struct bytes der, int64_t expected)
{
    struct bytes reader = der;
    int64_t unix_s = -4711;
    if (!der_get_time(&reader, &unix_s)) {
        assert_int_equal(unix_s, -4711);
        assert_int_equal(reader.len, der.len);
        return false;
    }
    assert_int_equal(reader.len, 0);
    return unix_s == expected;
}

static void test_times(void **state)
{
    (void)state;
    assert_true(time_is(TIME(0x17, "700101000000Z"), 0));
    assert_true(time_is(TIME(0x17, "691231235959Z"), -1));
    assert_true(time_is(TIME(0x17, "500101000000Z"), -631152000));
    assert_true(time_is(TIME(0x17, "491231235959Z"), 2524607999));
    assert_true(time_is(TIME(0x17, "240229120000Z"), 1709208000));
    assert_true(time_is(TIME(0x18, "20500101000000Z"), 2524608000));
    assert_true(time_is(TIME(0x18, "20000229000000Z"), 951782400));
    assert_true(time_is(TIME(0x18, "99991231235959Z"), DER_TIME_NO_EXPIRY));
    assert_true(time_is(TIME(0x18, "00000101000000Z"), -62167219200));

    const char *const bad_utc[] = {
        "700101000000",    "7001010000Z",   "700101000000+0000", "700101000000z",
        "700001000000Z",   "701301000000Z", "700100000000Z",     "700132000000Z",
        "230229000000Z",   "700101240000Z", "700101006000Z",     "700101000060Z",
        "70010100000aZ",   "7001010000 0Z", "700101000000.5Z",   "",
        "19700101000000Z", "700431000000Z",
    };
    for (size_t i = 0; i < sizeof(bad_utc) / sizeof(bad_utc[0]); i++) {
        assert_false(time_is(TIME(0x17, bad_utc[i]), 0));
        assert_false(der_is_strict(TIME(0x17, bad_utc[i])));
    }
    const char *const good_fractions[] = {"20500101000000.5Z", "20500101000000.09Z",
                                          "20500101000000.90001Z"};
    for (size_t i = 0; i < sizeof(good_fractions) / sizeof(good_fractions[0]); i++) {
        int64_t unix_s = 0;
        struct bytes reader = TIME(0x18, good_fractions[i]);
        assert_true(der_is_strict(reader));
        assert_true(der_get_generalized_time(&reader, true, &unix_s));
        assert_int_equal(unix_s, 2524608000);
    }
    const char *const bad_generalized[] = {
        "20500101000000",       "205001010000Z",      "20500101000000+0000", "20500101000000.Z",
        "20500101000000.0Z",    "20500101000000.10Z", "20500101000000,5Z",   "20500101000000.5",
        "21000229000000Z",      "20500101000000.x5Z", "20500101000000z",     "20500101000000.555",
        "20500101000000.5555z", "500101000000Z",
    };
    for (size_t i = 0; i < sizeof(bad_generalized) / sizeof(bad_generalized[0]); i++) {
        int64_t unix_s;
        struct bytes reader = TIME(0x18, bad_generalized[i]);
        assert_false(time_is(TIME(0x18, bad_generalized[i]), 0));
        assert_false(der_get_generalized_time(&reader, true, &unix_s));
        assert_false(der_is_strict(TIME(0x18, bad_generalized[i])));
    }

    /* a fraction only where it is allowed */
    int64_t unix_s = 0;
    struct bytes reader = TIME(0x18, "20500101000000.125Z");
    assert_false(time_is(reader, 0));
    assert_true(der_is_strict(reader));
    assert_false(der_get_generalized_time(&reader, false, &unix_s));
    assert_true(der_get_generalized_time(&reader, true, &unix_s));
    assert_int_equal(unix_s, 2524608000);
    reader = TIME(0x17, "700101000000Z");
    assert_false(der_get_generalized_time(&reader, true, &unix_s));
}

static void test_strict_walk(void **state)
{
    (void)state;
    assert_true(der_is_strict(B(0x30, 0x00)));
    assert_true(der_is_strict(B(0x30, 0x06, 0x01, 0x01, 0xff, 0x02, 0x01, 0x05)));
    assert_true(der_is_strict(B(0xa0, 0x02, 0x05, 0x00)));
    assert_false(der_is_strict((struct bytes){0}));
    assert_false(der_is_strict(B(0x30, 0x00, 0x00)));             /* trailing */
    assert_false(der_is_strict(B(0x30, 0x01, 0x02)));             /* cut off inside */
    assert_false(der_is_strict(B(0x30, 0x03, 0x01, 0x01, 0x01))); /* bad BOOLEAN inside */
    assert_false(der_is_strict(B(0x30, 0x05, 0x30, 0x80, 0x05, 0x00, 0x00)));
    assert_false(der_is_strict(B(0xa0, 0x04, 0x02, 0x02, 0x00, 0x01)));
    assert_false(der_is_strict(B(0x0a, 0x02, 0x00, 0x01))); /* ENUMERATED as INTEGER */
    assert_false(der_is_strict(B(0x05, 0x01, 0x00)));       /* NULL with contents */
    assert_false(der_is_strict(B(0x09, 0x00)));             /* REAL */
    assert_false(der_is_strict(B(0x0d, 0x01, 0x80)));       /* RELATIVE-OID */
    assert_false(der_is_strict(B(0x1e, 0x01, 0x41)));       /* half a BMP character */
    assert_false(der_is_strict(B(0x1c, 0x02, 0x00, 0x41)));
    assert_true(der_is_strict(B(0x1e, 0x02, 0x00, 0x41)));
    /* SET: by rising encodings, or by rising tags */
    assert_true(der_is_strict(B(0x31, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x02)));
    assert_false(der_is_strict(B(0x31, 0x06, 0x02, 0x01, 0x02, 0x02, 0x01, 0x01)));
    assert_true(der_is_strict(B(0x31, 0x04, 0x30, 0x00, 0x13, 0x00))); /* tags 16, 19 */
    assert_true(der_is_strict(B(0x31, 0x04, 0x13, 0x00, 0x30, 0x00))); /* octets 13, 30 */
    assert_false(der_is_strict(B(0x31, 0x04, 0x05, 0x00, 0x04, 0x00)));
    assert_false(der_is_strict(B(0x30, 0x06, 0x31, 0x04, 0x05, 0x00, 0x04, 0x00)));
    /* a shorter element that starts like a longer one cannot be; equal ones may repeat */
    assert_true(der_is_strict(B(0x31, 0x04, 0x05, 0x00, 0x05, 0x00)));
}

static void test_utf8(void **state)
{
    (void)state;
    assert_true(der_is_strict(B(0x0c, 0x02, 0xc3, 0xbc)));
    assert_true(der_is_strict(B(0x0c, 0x02, 0xc2, 0x80)));
    assert_true(der_is_strict(B(0x0c, 0x04, 0xf0, 0x90, 0x80, 0x80)));
    assert_true(der_is_strict(B(0x0c, 0x03, 0xe0, 0xa0, 0x80)));
    assert_true(der_is_strict(B(0x0c, 0x04, 0xf4, 0x8f, 0xbf, 0xbf)));
    assert_true(der_is_strict(B(0x0c, 0x03, 0xed, 0x9f, 0xbf)));
    assert_false(der_is_strict(B(0x0c, 0x01, 0x80)));
    assert_false(der_is_strict(B(0x0c, 0x01, 0xc3)));                   /* cut off */
    assert_false(der_is_strict(B(0x0c, 0x02, 0xc1, 0xbf)));             /* overlong */
    assert_false(der_is_strict(B(0x0c, 0x03, 0xe0, 0x9f, 0xbf)));       /* overlong */
    assert_false(der_is_strict(B(0x0c, 0x04, 0xf0, 0x8f, 0xbf, 0xbf))); /* overlong */
    assert_false(der_is_strict(B(0x0c, 0x03, 0xed, 0xa0, 0x80)));       /* surrogate */
    assert_false(der_is_strict(B(0x0c, 0x04, 0xf4, 0x90, 0x80, 0x80))); /* past U+10FFFF */
    assert_false(der_is_strict(B(0x0c, 0x04, 0xf8, 0x88, 0x80, 0x80)));
    assert_false(der_is_strict(B(0x0c, 0x03, 0xe2, 0x82, 0x41)));
}

static void test_depth(void **state)
{
    (void)state;
    uint8_t nested[2 * (DER_DEPTH_MAX + 1)];

    for (size_t levels = 1; levels <= DER_DEPTH_MAX + 1; levels++) {
        for (size_t i = 0; i < levels; i++) {
            nested[2 * i] = DER_SEQUENCE;
            nested[2 * i + 1] = (uint8_t)(2 * (levels - 1 - i));
        }
        assert_int_equal(der_is_strict(bytes_of(nested, 2 * levels)), levels <= DER_DEPTH_MAX);
    }
}

/* Every prefix of a good encoding is refused, and nothing is read behind it (the sanitizers see).
 */
static void test_prefixes(void **state)
{
    (void)state;
    struct bytes whole = B(0x30, 0x81, 0x80 + 3, 0x04, 0x81, 0x80);
    uint8_t good[3 + 3 + 128] = {0};

    memcpy(good, whole.ptr, whole.len);
    assert_true(der_is_strict(bytes_of(good, sizeof(good))));
    for (size_t len = 0; len < sizeof(good); len++)
        assert_false(der_is_strict(bytes_of(good, len)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths),  cmocka_unit_test(test_tags),
        cmocka_unit_test(test_booleans), cmocka_unit_test(test_integers),
        cmocka_unit_test(test_oids),     cmocka_unit_test(test_bit_strings),
        cmocka_unit_test(test_times),    cmocka_unit_test(test_strict_walk),
        cmocka_unit_test(test_utf8),     cmocka_unit_test(test_depth),
        cmocka_unit_test(test_prefixes), cmocka_unit_test(test_signed_integers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
