/* Does the builder write the one DER encoding, and stay failed when it cannot? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdlib.h>

#include "asn1/der.h"

#define B(...) bytes_of((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
#define assert_built(builder, ...)                                                                 \
    do {                                                                                           \
        struct bytes built, expected = B(__VA_ARGS__);                                             \
        assert_true(der_finish(&(builder), &built));                                               \
        assert_int_equal(built.len, expected.len);                                                 \
        assert_memory_equal(built.ptr, expected.ptr, expected.len);                                \
        (builder).out.len = 0;                                                                     \
    } while (0)

static void test_primitives(void **state)
{
    (void)state;
    uint8_t buf[64];
    struct der_builder builder = der_builder_of(buf, sizeof(buf));

    der_put_bool(&builder, true);
    assert_built(builder, 0x01, 0x01, 0xff);
    der_put_bool(&builder, false);
    assert_built(builder, 0x01, 0x01, 0x00);
    der_put_u64(&builder, DER_INTEGER, 0);
    assert_built(builder, 0x02, 0x01, 0x00);
    der_put_u64(&builder, DER_INTEGER, 127);
    assert_built(builder, 0x02, 0x01, 0x7f);
    der_put_u64(&builder, DER_ENUMERATED, 128);
    assert_built(builder, 0x0a, 0x02, 0x00, 0x80);
    der_put_u64(&builder, DER_CONTEXT(2), 0x100);
    assert_built(builder, 0x82, 0x02, 0x01, 0x00);
    der_put_u64(&builder, DER_INTEGER, UINT64_MAX);
    assert_built(builder, 0x02, 0x09, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff);
    der_put_unsigned(&builder, B(0x00, 0x00, 0x7f));
    assert_built(builder, 0x02, 0x01, 0x7f);
    der_put_unsigned(&builder, B(0x00, 0x80));
    assert_built(builder, 0x02, 0x02, 0x00, 0x80);
    der_put_unsigned(&builder, B(0x00, 0x00));
    assert_built(builder, 0x02, 0x01, 0x00);
    der_put_unsigned(&builder, (struct bytes){0});
    assert_built(builder, 0x02, 0x01, 0x00);
    der_put_null(&builder);
    assert_built(builder, 0x05, 0x00);
    der_put_bits(&builder, B(0xaa, 0x00));
    assert_built(builder, 0x03, 0x03, 0x00, 0xaa, 0x00);
    der_put_bits(&builder, (struct bytes){0});
    assert_built(builder, 0x03, 0x01, 0x00);
    der_put(&builder, DER_OCTET_STRING, B(0x01));
    der_put_raw(&builder, B(0x05, 0x00));
    assert_built(builder, 0x04, 0x01, 0x01, 0x05, 0x00);
    der_put_named_bits(&builder, 0);
    assert_built(builder, 0x03, 0x01, 0x00);
    der_put_named_bits(&builder, 1u << 5 | 1u << 6);
    assert_built(builder, 0x03, 0x02, 0x01, 0x06);
    der_put_named_bits(&builder, 1u << 8);
    assert_built(builder, 0x03, 0x03, 0x07, 0x00, 0x80);
    der_put_named_bits(&builder, 1u << 31);
    assert_built(builder, 0x03, 0x05, 0x00, 0x00, 0x00, 0x00, 0x01);
}

static void test_named_bits_round_trip(void **state)
{
    (void)state;
    uint8_t buf[16];

    for (uint32_t i = 0; i < 1u << 16; i++) {
        uint32_t bits = i * 2654435761u, back = 0;
        struct der_builder builder = der_builder_of(buf, sizeof(buf));
        struct bytes all;
        bits >>= i % 32; /* all lengths */
        der_put_named_bits(&builder, bits);
        assert_true(der_finish(&builder, &all));
        assert_true(der_get_named_bits(&all, &back));
        assert_int_equal(back, bits);
        assert_int_equal(all.len, 0);
    }
}

static void test_nesting_moves_contents(void **state)
{
    (void)state;
    static uint8_t buf[70000], filler[66000];
    const size_t lens[] = {0,   1,   120, 125, 126,   127,   128,  129,
                           250, 255, 256, 300, 65530, 65536, 66000};

    memset(filler, 0x5a, sizeof(filler));
    for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        struct der_builder builder = der_builder_of(buf, sizeof(buf));
        struct bytes all, inner, contents;
        der_open(&builder, DER_SEQUENCE);
        der_put_u64(&builder, DER_INTEGER, 7);
        der_open(&builder, DER_CONTEXT_CONSTRUCTED(0));
        der_put(&builder, DER_OCTET_STRING, bytes_of(filler, lens[i]));
        der_close(&builder);
        der_put_null(&builder);
        der_close(&builder);
        assert_true(der_finish(&builder, &all));
        assert_true(der_is_strict(all));
        size_t octet_string_len = der_header_len(lens[i]) + lens[i];
        size_t body_len = 3 + der_header_len(octet_string_len) + octet_string_len + 2;
        assert_int_equal(all.len, der_header_len(body_len) + body_len);
        uint64_t seven = 0;
        assert_true(der_get(&all, DER_SEQUENCE, &all));
        assert_true(der_get_u64(&all, &seven));
        assert_int_equal(seven, 7);
        assert_true(der_get(&all, DER_CONTEXT_CONSTRUCTED(0), &inner));
        assert_true(der_get(&inner, DER_OCTET_STRING, &contents));
        assert_int_equal(contents.len, lens[i]);
        assert_memory_equal(contents.ptr, filler, lens[i]);
        assert_true(der_get(&all, DER_NULL, &contents));
        assert_int_equal(all.len, 0);
    }
}

static void test_times(void **state)
{
    (void)state;
    uint8_t buf[64];
    struct der_builder builder = der_builder_of(buf, sizeof(buf));
    struct bytes all;

    der_put_time(&builder, 0);
    assert_true(der_finish(&builder, &all));
    assert_memory_equal(all.ptr,
                        "\x17\x0d"
                        "700101000000Z",
                        15);
    builder.out.len = 0;
    der_put_time(&builder, 2524607999);
    assert_true(der_finish(&builder, &all));
    assert_memory_equal(all.ptr,
                        "\x17\x0d"
                        "491231235959Z",
                        15);
    builder.out.len = 0;
    der_put_time(&builder, 2524608000);
    assert_true(der_finish(&builder, &all));
    assert_memory_equal(all.ptr,
                        "\x18\x0f"
                        "20500101000000Z",
                        17);
    builder.out.len = 0;
    der_put_time(&builder, DER_TIME_NO_EXPIRY);
    assert_true(der_finish(&builder, &all));
    assert_memory_equal(all.ptr,
                        "\x18\x0f"
                        "99991231235959Z",
                        17);
    builder.out.len = 0;
    der_put_generalized_time(&builder, 0);
    assert_true(der_finish(&builder, &all));
    assert_memory_equal(all.ptr,
                        "\x18\x0f"
                        "19700101000000Z",
                        17);

    /* every day from 1950 to 9999, and back */
    for (int64_t unix_s = -631152000 + 43261; unix_s <= DER_TIME_NO_EXPIRY; unix_s += 86400) {
        int64_t back = 0;
        builder.out.len = 0;
        der_put_time(&builder, unix_s);
        assert_true(der_finish(&builder, &all));
        assert_true(der_get_time(&all, &back));
        assert_int_equal(back, unix_s);
    }
}

static void test_times_out_of_range(void **state)
{
    (void)state;
    uint8_t buf[64];
    struct bytes all;
    const int64_t bad[] = {-631152001, DER_TIME_NO_EXPIRY + 1, INT64_MIN, INT64_MAX};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct der_builder builder = der_builder_of(buf, sizeof(buf));
        der_put_time(&builder, bad[i]);
        assert_false(der_finish(&builder, &all));
    }
    struct der_builder builder = der_builder_of(buf, sizeof(buf));
    der_put_generalized_time(&builder, -62167219200); /* 0000-01-01 */
    assert_true(der_finish(&builder, &all));
    der_put_generalized_time(&builder, -62167219201);
    assert_false(der_finish(&builder, &all));
    builder = der_builder_of(buf, sizeof(buf));
    der_put_generalized_time(&builder, DER_TIME_NO_EXPIRY);
    assert_true(der_finish(&builder, &all));
    der_put_generalized_time(&builder, DER_TIME_NO_EXPIRY + 1);
    assert_false(der_finish(&builder, &all));
}

static void test_sticky_errors(void **state)
{
    (void)state;
    uint8_t buf[64];
    struct bytes all = {0};

    /* each room too small, for a structure that needs 136 octets */
    uint8_t wide[137], filler[130] = {0};
    for (size_t cap = 0; cap <= sizeof(wide); cap++) {
        struct der_builder builder = der_builder_of(wide, cap);
        der_open(&builder, DER_SEQUENCE);
        der_put(&builder, DER_OCTET_STRING, bytes_of(filler, sizeof(filler)));
        der_put_raw(&builder, (struct bytes){0});
        der_close(&builder);
        assert_int_equal(der_finish(&builder, &all), cap >= 136);
    }
    struct der_builder builder = der_builder_of(buf, 4);
    der_put(&builder, DER_OCTET_STRING, B(1, 2, 3, 4));
    der_put_null(&builder); /* would fit, but the builder failed */
    assert_false(der_finish(&builder, &all));

    builder = der_builder_of(buf, sizeof(buf)); /* left open */
    der_open(&builder, DER_SEQUENCE);
    assert_false(der_finish(&builder, &all));
    builder = der_builder_of(buf, sizeof(buf)); /* closed once too often */
    der_close(&builder);
    assert_false(der_finish(&builder, &all));
    builder = der_builder_of(buf, sizeof(buf)); /* too deep */
    for (size_t i = 0; i < DER_DEPTH_MAX; i++)
        der_open(&builder, DER_SEQUENCE);
    assert_false(builder.out.failed);
    der_open(&builder, DER_SEQUENCE);
    assert_true(builder.out.failed);
    builder = der_builder_of(buf, 1); /* no room for what is written at once */
    der_put_unsigned(&builder, B(0x80));
    assert_false(der_finish(&builder, &all));
    builder = der_builder_of(buf, 1);
    der_put_bits(&builder, B(0x80));
    assert_false(der_finish(&builder, &all));
    builder = der_builder_of(NULL, 0); /* no room at all */
    assert_true(der_finish(&builder, &all));
    der_put_null(&builder);
    assert_false(der_finish(&builder, &all));
}

/* der.h: lengths stay below 2^24, however much room there is. */
static void test_longest(void **state)
{
    (void)state;
    const size_t limit = (size_t)1 << 24;
    uint8_t *data = calloc(1, limit), *buf = malloc(2 * limit);
    struct bytes all;

    assert_non_null(data);
    assert_non_null(buf);
    data[0] = 1;
    for (size_t over = 0; over < 2; over++) {
        struct bytes fill = bytes_of(data, limit - 1 + over);
        struct der_builder builder = der_builder_of(buf, 2 * limit);
        der_put(&builder, DER_OCTET_STRING, fill);
        assert_int_equal(der_finish(&builder, &all), over == 0);
        builder = der_builder_of(buf, 2 * limit);
        der_put_unsigned(&builder, fill);
        assert_int_equal(der_finish(&builder, &all), over == 0);
        builder = der_builder_of(buf, 2 * limit);
        der_put_bits(&builder, bytes_of(data, fill.len - 1));
        assert_int_equal(der_finish(&builder, &all), over == 0);
        builder = der_builder_of(buf, 2 * limit);
        der_open(&builder, DER_SEQUENCE);
        der_put_raw(&builder, fill);
        der_close(&builder);
        assert_int_equal(der_finish(&builder, &all), over == 0);
    }
    free(data);
    free(buf);
}

static void test_header_len(void **state)
{
    (void)state;
    assert_int_equal(der_header_len(0), 2);
    assert_int_equal(der_header_len(127), 2);
    assert_int_equal(der_header_len(128), 3);
    assert_int_equal(der_header_len(255), 3);
    assert_int_equal(der_header_len(256), 4);
    assert_int_equal(der_header_len(65535), 4);
    assert_int_equal(der_header_len(65536), 5);
}

static void test_set_of(void **state)
{
    (void)state;
    uint8_t out[32];
    struct bytes all, elements[] = {BYTES_LIT("\x04\x02\x01\x00"), BYTES_LIT("\x04\x01\x02"),
                                    BYTES_LIT("\x02\x01\x07"), BYTES_LIT("\x04\x01\x02")};
    struct der_builder builder = der_builder_of(out, sizeof out);
    der_open(&builder, DER_SET);
    der_put_set_of(&builder, elements, 4);
    der_close(&builder);
    assert_true(der_finish(&builder, &all));
    assert_true(bytes_eq(all, BYTES_LIT("\x31\x0d\x02\x01\x07\x04\x01\x02\x04\x01\x02"
                                        "\x04\x02\x01\x00")));
    builder = der_builder_of(out, sizeof out);
    der_put_set_of(&builder, NULL, 0);
    assert_true(der_finish(&builder, &all));
    assert_int_equal(all.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_primitives),
        cmocka_unit_test(test_named_bits_round_trip),
        cmocka_unit_test(test_nesting_moves_contents),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_times_out_of_range),
        cmocka_unit_test(test_sticky_errors),
        cmocka_unit_test(test_longest),
        cmocka_unit_test(test_header_len),
        cmocka_unit_test(test_set_of),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
