/* Can any input make a reader or writer leave its bounds, or change anything when it fails? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"

static const struct bytes none = {NULL, 0};

static void test_compare(void **state)
{
    (void)state;
    struct bytes abc = BYTES_LIT("abc");
    assert_true(bytes_eq(none, none));
    assert_true(bytes_eq(none, BYTES_LIT("")));
    assert_true(bytes_eq(abc, bytes_of_str("abc")));
    assert_false(bytes_eq(abc, BYTES_LIT("abd")));
    assert_false(bytes_eq(abc, BYTES_LIT("ab")));
    assert_false(bytes_eq(abc, none));

    assert_true(bytes_eq_nocase(BYTES_LIT("Content-LENGTH"), BYTES_LIT("content-length")));
    assert_true(bytes_eq_nocase(none, none));
    assert_false(bytes_eq_nocase(abc, BYTES_LIT("ab")));
    /* only letters fold: '@' and '`', '[' and '{' differ by the same bit */
    assert_false(bytes_eq_nocase(BYTES_LIT("@"), BYTES_LIT("`")));
    assert_false(bytes_eq_nocase(BYTES_LIT("["), BYTES_LIT("{")));
    assert_false(bytes_eq_nocase(BYTES_LIT("\xc4"), BYTES_LIT("\xe4")));

    assert_true(bytes_starts_with(abc, BYTES_LIT("ab")));
    assert_true(bytes_starts_with(abc, abc));
    assert_true(bytes_starts_with(abc, none));
    assert_true(bytes_starts_with(none, none));
    assert_false(bytes_starts_with(abc, BYTES_LIT("abcd")));
    assert_false(bytes_starts_with(abc, BYTES_LIT("b")));

    assert_int_equal(bytes_cmp(none, none), 0);
    assert_int_equal(bytes_cmp(abc, abc), 0);
    assert_true(bytes_cmp(none, abc) < 0 && bytes_cmp(abc, none) > 0);
    assert_true(bytes_cmp(abc, BYTES_LIT("abcd")) < 0);
    assert_true(bytes_cmp(BYTES_LIT("b"), abc) > 0);
    assert_true(bytes_cmp(BYTES_LIT("\xff"), BYTES_LIT("\x01")) > 0); /* unsigned */

    assert_int_equal(bytes_find(abc, 'c'), 2);
    assert_int_equal(bytes_find(abc, 'x'), 3);
    assert_int_equal(bytes_find(none, 'x'), 0);
}

static void test_get_integers(void **state)
{
    (void)state;
    const uint8_t wire[15] = {1, 2, 3, 0x84, 5, 6, 7, 0xf8, 9, 10, 11, 12, 13, 14, 15};
    struct bytes reader = BYTES_ARRAY(wire);
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
    uint64_t u64;
    assert_true(bytes_get_u8(&reader, &u8) && u8 == 1);
    assert_true(bytes_get_u16(&reader, &u16) && u16 == 0x0203);
    assert_true(bytes_get_u32(&reader, &u32) && u32 == 0x84050607);
    assert_true(bytes_get_u64(&reader, &u64) && u64 == 0xf8090a0b0c0d0e0full);
    assert_int_equal(reader.len, 0);
    assert_ptr_equal(reader.ptr, wire + sizeof(wire));
}

/* One byte too few, from exactly sized heap memory so that ASan sees a read past it. */
static void test_short_reads_change_nothing(void **state)
{
    (void)state;
    for (size_t len = 0; len < 8; len++) {
        uint8_t *mem = malloc(len + (len == 0));
        assert_non_null(mem);
        memset(mem, 0x55, len);
        const struct bytes before = bytes_of(len == 0 ? NULL : mem, len);
        struct bytes reader = before;
        uint8_t u8 = 7;
        uint16_t u16 = 7;
        uint32_t u32 = 7;
        uint64_t u64 = 7;
        struct bytes view = BYTES_LIT("untouched");
        uint8_t copy[9] = "untouched";
        if (len < 1)
            assert_false(bytes_get_u8(&reader, &u8));
        if (len < 2)
            assert_false(bytes_get_u16(&reader, &u16));
        if (len < 4)
            assert_false(bytes_get_u32(&reader, &u32));
        assert_false(bytes_get_u64(&reader, &u64));
        assert_false(bytes_get(&reader, len + 1, &view));
        assert_false(bytes_get(&reader, SIZE_MAX, &view));
        assert_false(bytes_copy(&reader, copy, len + 1));
        assert_true(u8 == 7 && u16 == 7 && u32 == 7 && u64 == 7);
        assert_true(bytes_eq(view, BYTES_LIT("untouched")));
        assert_memory_equal(copy, "untouched", 9);
        assert_ptr_equal(reader.ptr, before.ptr);
        assert_int_equal(reader.len, before.len);
        free(mem);
    }
}

static void test_get_views(void **state)
{
    (void)state;
    struct bytes reader = BYTES_LIT("abcdef");
    struct bytes view;
    uint8_t copy[2];
    assert_true(bytes_get(&reader, 0, &view) && view.len == 0);
    assert_true(bytes_get(&reader, 2, &view) && bytes_eq(view, BYTES_LIT("ab")));
    assert_true(bytes_copy(&reader, copy, 2));
    assert_memory_equal(copy, "cd", 2);
    assert_true(bytes_get(&reader, 1, &reader)); /* narrowing a reader to its own front */
    assert_true(bytes_eq(reader, BYTES_LIT("e")));

    reader = none;
    assert_true(bytes_get(&reader, 0, &view) && view.len == 0);
    assert_true(bytes_copy(&reader, NULL, 0));
}

static void check_u64(const char *text, uint64_t max, bool good, uint64_t expected)
{
    uint64_t value = 4711;
    assert_int_equal(bytes_to_u64(bytes_of_str(text), max, &value), good);
    assert_true(value == (good ? expected : 4711));
}

static void test_to_u64(void **state)
{
    (void)state;
    check_u64("0", 0, true, 0);
    check_u64("1", 0, false, 0);
    check_u64("9", 9, true, 9);
    check_u64("9", 8, false, 0);
    check_u64("10", 10, true, 10);
    check_u64("11", 10, false, 0);
    check_u64("65535", UINT16_MAX, true, 65535);
    check_u64("65536", UINT16_MAX, false, 0);
    check_u64("4294967296", UINT64_MAX, true, 1ull << 32);
    check_u64("18446744073709551615", UINT64_MAX, true, UINT64_MAX);
    check_u64("18446744073709551614", UINT64_MAX - 1, true, UINT64_MAX - 1);
    check_u64("18446744073709551615", UINT64_MAX - 1, false, 0);
    check_u64("18446744073709551616", UINT64_MAX, false, 0);
    check_u64("18446744073709551625", UINT64_MAX, false, 0); /* wraps to 9 */
    check_u64("99999999999999999999", UINT64_MAX, false, 0);
    check_u64("184467440737095516150", UINT64_MAX, false, 0);
    const char *bad[] = {"", "00", "01", "+1", "-1", " 1", "1 ", "1a", "0x1", "1.0", "\xb2"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        check_u64(bad[i], UINT64_MAX, false, 0);
    uint64_t value = 4711;
    assert_false(bytes_to_u64(BYTES_LIT("1\0"), UINT64_MAX, &value));
    assert_false(bytes_to_u64(none, UINT64_MAX, &value));

    /* every small limit against every small number */
    for (uint64_t max = 0; max < 130; max++) {
        for (uint64_t n = 0; n < 130; n++) {
            uint8_t buf[4];
            struct writer writer = writer_of(buf, sizeof(buf));
            writer_put_dec(&writer, n);
            assert_int_equal(bytes_to_u64(writer_view(&writer), max, &value), n <= max);
            assert_true(n > max || value == n);
        }
    }
}

static void test_writer_writes(void **state)
{
    (void)state;
    uint8_t buf[128];
    struct writer writer = writer_of(buf, sizeof(buf));
    writer_put_u8(&writer, 1);
    writer_put_u16(&writer, 0x0203);
    writer_put_u32(&writer, 0x04050607);
    writer_put_u64(&writer, 0x08090a0b0c0d0e0full);
    for (size_t i = 0; i < 15; i++)
        assert_int_equal(buf[i], i + 1);
    assert_int_equal(writer.len, 15);

    writer.len = 0;
    writer_put_dec(&writer, 0);
    writer_put_str(&writer, " ");
    writer_put_dec(&writer, UINT64_MAX);
    writer_put(&writer, BYTES_LIT("|"));
    writer_put(&writer, none);
    writer_put_hex(&writer, BYTES_LIT("\x00\x7f\xff"));
    writer_put_hex(&writer, none);
    writer_printf(&writer, "|%d-%s", -5, "x");
    assert_false(writer.failed);
    assert_true(bytes_eq(writer_view(&writer), BYTES_LIT("0 18446744073709551615|007fff|-5-x")));
}

/* Each put into a buffer one byte too small, from heap memory of exactly that size. */
static void test_writer_is_sticky(void **state)
{
    (void)state;
    for (unsigned put = 0; put < 9; put++) {
        for (size_t cap = 0; cap < 4; cap++) {
            uint8_t *mem = malloc(cap + (cap == 0));
            assert_non_null(mem);
            struct writer writer = writer_of(cap == 0 ? NULL : mem, cap);
            for (size_t i = 0; i < cap; i++)
                writer_put_u8(&writer, 'a');
            assert_false(writer.failed);
            switch (put) {
            case 0:
                writer_put_u8(&writer, 1);
                break;
            case 1:
                writer_put_u16(&writer, 1);
                break;
            case 2:
                writer_put_u32(&writer, 1);
                break;
            case 3:
                writer_put_u64(&writer, 1);
                break;
            case 4:
                writer_put_str(&writer, "x");
                break;
            case 5:
                writer_put_dec(&writer, 7);
                break;
            case 6:
                writer_put_hex(&writer, BYTES_LIT("x"));
                break;
            case 7:
                writer_printf(&writer, "%d", 7);
                break;
            case 8:
                assert_null(writer_reserve(&writer, SIZE_MAX));
                break;
            }
            assert_true(writer.failed);
            assert_int_equal(writer.len, cap);
            /* what would fit again is dropped too: no message with a hole in it */
            writer.len = 0;
            writer_put(&writer, none);
            writer_put_str(&writer, "");
            if (cap != 0)
                writer_put_u8(&writer, 1);
            writer_printf(&writer, "%s", "");
            assert_null(writer_reserve(&writer, 0));
            assert_true(writer.failed);
            assert_int_equal(writer.len, 0);
            for (size_t i = 0; i < cap && put != 7; i++)
                assert_int_equal(mem[i], 'a');
            free(mem);
        }
    }
}

static void test_empty_writer(void **state)
{
    (void)state;
    struct writer writer = {0};
    writer_put(&writer, none);
    writer_put_str(&writer, "");
    writer_put_hex(&writer, none);
    writer_printf(&writer, "%s", "");
    assert_false(writer.failed);
    assert_int_equal(writer_view(&writer).len, 0);
    writer_put_u8(&writer, 0);
    assert_true(writer.failed);
}

static void test_printf_needs_room_for_its_nul(void **state)
{
    (void)state;
    uint8_t buf[6] = "......";
    struct writer writer = writer_of(buf, 5);
    writer_printf(&writer, "%s", "abcd");
    assert_false(writer.failed);
    assert_int_equal(writer.len, 4);
    writer = writer_of(buf, 5);
    writer_printf(&writer, "%s", "abcde");
    assert_true(writer.failed);
    assert_int_equal(writer.len, 0);
    assert_int_equal(buf[5], '.');
}

static void test_hex(void **state)
{
    (void)state;
    uint8_t all[256];
    char hex[513];
    for (size_t i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    bytes_to_hex(BYTES_ARRAY(all), hex);
    assert_int_equal(strlen(hex), 512);
    assert_memory_equal(hex, "000102", 6);
    assert_string_equal(hex + 506, "fdfeff");

    uint8_t back[256];
    size_t len = 0;
    assert_true(bytes_from_hex(bytes_of_str(hex), back, sizeof(back), &len));
    assert_int_equal(len, 256);
    assert_memory_equal(back, all, 256);
    assert_true(bytes_from_hex(BYTES_LIT("aBCdEf"), back, 3, &len));
    assert_int_equal(len, 3);
    assert_memory_equal(back, "\xab\xcd\xef", 3);

    bytes_to_hex(none, hex);
    assert_string_equal(hex, "");
    assert_true(bytes_from_hex(none, NULL, 0, &len));
    assert_int_equal(len, 0);

    const char *bad[] = {"0",  "abc", "0g", "g0", "0x",    " 0",     "0/",
                         "0:", "0@",  "0G", "0`", "\xff/", "0011223"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        len = 99;
        back[0] = 0x77;
        assert_false(bytes_from_hex(bytes_of_str(bad[i]), back, sizeof(back), &len));
        assert_int_equal(len, 99);
        assert_int_equal(back[0], 0x77);
    }
    back[0] = 0x77;
    assert_false(bytes_from_hex(BYTES_LIT("0011"), back, 1, &len)); /* over cap */
    assert_false(bytes_from_hex(BYTES_LIT("001x"), back, 2, &len)); /* late error */
    assert_int_equal(back[0], 0x77);
}

static void test_load_store(void **state)
{
    (void)state;
    uint8_t mem[8];
    store_be64(mem, 0x8182838485868788ull);
    assert_memory_equal(mem, "\x81\x82\x83\x84\x85\x86\x87\x88", 8);
    assert_true(load_be64(mem) == 0x8182838485868788ull);
    assert_true(load_be32(mem + 4) == 0x85868788u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_get_integers),
        cmocka_unit_test(test_short_reads_change_nothing),
        cmocka_unit_test(test_get_views),
        cmocka_unit_test(test_to_u64),
        cmocka_unit_test(test_writer_writes),
        cmocka_unit_test(test_writer_is_sticky),
        cmocka_unit_test(test_empty_writer),
        cmocka_unit_test(test_printf_needs_room_for_its_nul),
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_load_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
