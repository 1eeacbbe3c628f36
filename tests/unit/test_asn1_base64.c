/* Does base64 take whitespace anywhere and nothing else that is wrong, and write what others can
 * read? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include <stdlib.h>

#include "asn1/base64.h"

/* NULL: refused, with nothing said about the length. */
static const char *decoded(const char *text, size_t text_len, size_t cap)
{
    static uint8_t out[64];
    size_t len = 4711;

    memset(out, 0xee, sizeof(out));
    assert_true(cap < sizeof(out));
    /* a copy without a NUL behind it, so that the sanitizer sees an over-read */
    uint8_t *copy = malloc(text_len + (text_len == 0));
    memcpy(copy, text, text_len);
    bool ok = base64_decode(bytes_of(copy, text_len), out, cap, &len);
    free(copy);
    assert_int_equal(out[cap], 0xee);
    if (!ok) {
        assert_int_equal(len, 4711);
        return NULL;
    }
    assert_true(len <= cap);
    assert_true(len <= base64_decoded_bound(text_len));
    out[len] = '\0';
    return (const char *)out;
}

#define assert_decodes(text, expected)                                                             \
    assert_string_equal(decoded(text, strlen(text), 48), expected)
#define assert_refused(text) assert_null(decoded(text, strlen(text), 48))

static void test_rfc4648_vectors(void **state)
{
    (void)state;
    const char *const vectors[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
    };
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        uint8_t out[16];
        struct bytes data = bytes_of_str(vectors[i][0]);
        assert_decodes(vectors[i][1], vectors[i][0]);
        assert_int_equal(base64_encoded_len(data.len, 0), strlen(vectors[i][1]));
        assert_int_equal(base64_encode(data, 0, out), strlen(vectors[i][1]));
        assert_memory_equal(out, vectors[i][1], strlen(vectors[i][1]));
    }
    assert_decodes("+/+/", "\xfb\xff\xbf");
    assert_int_equal(base64_encode((struct bytes){0}, 64, NULL), 0);
}

static void test_whitespace(void **state)
{
    (void)state;
    assert_decodes("Zm9v\r\nYmFy\r\n", "foobar");
    assert_decodes(" Z\tm 9\nv\rY m F y ", "foobar");
    assert_decodes("\n\n\n\n", "");
    assert_decodes("Zg\n=\n=\n", "f");
    assert_decodes("Zm8\n=", "fo");
    assert_decodes("Zm9vYmFyZm9vYmF\nyZm9v", "foobarfoobarfoo");
    assert_refused("Zm9v\vYmFy");
    assert_refused("Zm9v\fYmFy");
    assert_null(decoded("Zm9v\0", 5, 48));
    assert_refused("Zm9v\xa0");
}

static void test_foreign_bytes(void **state)
{
    (void)state;
    const char *alphabet =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/ \t\r\n";

    for (unsigned c = 0; c < 256; c++) {
        bool is_fine = c != 0 && strchr(alphabet, (int)c) != NULL;
        for (size_t at = 0; at < 12; at++) {
            char text[13] = "AAAAAAAAAAAA";
            text[at] = (char)c;
            bool is_space = c != 0 && strchr(" \t\r\n", (int)c) != NULL;
            if (is_space ||
                c == '=') { /* eleven are left, or the padding comes too early or fits */
                bool fits = c == '=' && at == 11;
                assert_int_equal(decoded(text, 12, 48) != NULL, fits);
            } else {
                assert_int_equal(decoded(text, 12, 48) != NULL, is_fine);
            }
        }
    }
}

static void test_padding(void **state)
{
    (void)state;
    assert_refused("Zg");
    assert_refused("Zg=");
    assert_refused("Zm8");
    assert_refused("Z");
    assert_refused("Z===");
    assert_refused("=");
    assert_refused("====");
    assert_refused("Zg===");
    assert_refused("Zm8==");
    assert_refused("Zm9v=");
    assert_refused("Zm9v====");
    assert_refused("Zg==Zg==");
    assert_refused("Zg=A");
    assert_refused("Zg==A");
    assert_refused("Zm8=Zm8=");
    /* bits that reach no octet (RFC 4648 3.5) */
    assert_refused("Zh==");
    assert_refused("Zo==");
    assert_refused("Zm9=");
    assert_refused("Zm+=");
}

static void test_room(void **state)
{
    (void)state;
    const char *const texts[] = {"Zm9v", "Zm9vYmFy", "Zm9vYmE=", "Zm9vYg==", "Z m9vYm F y"};
    const size_t lens[] = {3, 6, 5, 4, 6};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        for (size_t cap = 0; cap < 10; cap++)
            assert_int_equal(decoded(texts[i], strlen(texts[i]), cap) != NULL, cap >= lens[i]);
    assert_non_null(decoded("", 0, 0));
}

static void test_round_trip(void **state)
{
    (void)state;
    static uint8_t data[700], text[4000], back[705];
    const uint32_t wraps[] = {0, 1, 3, 4, 5, 63, 64, 65, 76, 1000};

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 167 + i / 256);
    for (size_t len = 0; len <= sizeof(data); len += len < 200 ? 1 : 37) {
        for (size_t w = 0; w < sizeof(wraps) / sizeof(wraps[0]); w++) {
            size_t text_len = base64_encoded_len(len, wraps[w]), back_len = 0, column = 0;
            assert_true(text_len < sizeof(text));
            text[text_len] = 0xee;
            assert_int_equal(base64_encode(bytes_of(data, len), wraps[w], text), text_len);
            assert_int_equal(text[text_len], 0xee);
            for (size_t i = 0; i < text_len; i++) {
                column = text[i] == '\n' ? 0 : column + 1;
                assert_true(wraps[w] == 0 ? text[i] != '\n' : column <= wraps[w]);
                if (column == 0 && i + 1 < text_len) /* full lines but the last */
                    assert_true(i >= wraps[w] && (i + 1) % (wraps[w] + 1) == 0);
            }
            if (wraps[w] != 0 && len != 0)
                assert_int_equal(text[text_len - 1], '\n');
            assert_true(base64_decode(bytes_of(text, text_len), back, len, &back_len));
            assert_int_equal(back_len, len);
            assert_memory_equal(back, data, len);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc4648_vectors),
        cmocka_unit_test(test_whitespace),
        cmocka_unit_test(test_foreign_bytes),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
