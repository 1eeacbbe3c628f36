/* Are PEM blocks found among other text, and broken ones told apart from the end of the text? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "asn1/x509.h"

static const char text[] =
    "Subject: somebody\n"
    "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    "-----BEGIN CERTIFICATE-----\r\nZm9v\r\nYmFy\r\n-----END CERTIFICATE-----\r\n"
    "bag attributes\n"
    "-----BEGIN CERTIFICATE----- \t \nZg==\n-----END CERTIFICATE-----";

static void test_blocks(void **state)
{
    (void)state;
    struct bytes reader = bytes_of_str(text);
    uint8_t out[16];
    size_t len = 0;

    assert_int_equal(pem_next(&reader, "CERTIFICATE", out, sizeof(out), &len), ERR_OK);
    assert_int_equal(len, 6);
    assert_memory_equal(out, "foobar", 6);
    assert_int_equal(pem_next(&reader, "CERTIFICATE", out, sizeof(out), &len), ERR_OK);
    assert_int_equal(len, 1);
    assert_int_equal(pem_next(&reader, "CERTIFICATE", out, sizeof(out), &len), ERR_NOT_FOUND);
    assert_int_equal(len, 1);
    reader = bytes_of_str(text);
    assert_int_equal(pem_next(&reader, "EC PARAMETERS", out, sizeof(out), &len), ERR_OK);
    assert_int_equal(len, 10);
    reader = bytes_of_str(text);
    assert_int_equal(pem_next(&reader, "CERT", out, sizeof(out), &len), ERR_NOT_FOUND);
    reader = (struct bytes){0};
    assert_int_equal(pem_next(&reader, "CERTIFICATE", out, sizeof(out), &len), ERR_NOT_FOUND);
}

static void test_broken_blocks(void **state)
{
    (void)state;
    const char *const broken[] = {
        "-----BEGIN CERTIFICATE-----\nZm9v\n",
        "-----BEGIN CERTIFICATE-----",
        "-----BEGIN CERTIFICATE-----\nZm9v\n-----END CERTIFICATE REQUEST-----\n",
        "-----BEGIN CERTIFICATE-----\nZm9v\n-----END CERTIFICATE----\n",
        "-----BEGIN CERTIFICATE-----\nZm9v\n-----BEGIN CERTIFICATE-----\nZm9v\n",
        "-----BEGIN CERTIFICATE-----\nZm9\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nZm*v\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\n\nZm9v\n-----END CERTIFICATE-----\n",
    };
    uint8_t out[64];
    size_t len = 4711;

    for (size_t i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
        struct bytes reader = bytes_of_str(broken[i]);
        assert_int_equal(pem_next(&reader, "CERTIFICATE", out, sizeof(out), &len), ERR_BAD_BASE64);
        assert_ptr_equal(reader.ptr, broken[i]);
        assert_int_equal(len, 4711);
    }
    struct bytes reader = bytes_of_str(text);
    assert_int_equal(pem_next(&reader, "CERTIFICATE", out, 5, &len), ERR_NO_SPACE);
    assert_ptr_equal(reader.ptr, text);
    assert_int_equal(pem_next(&reader, "CERTIFICATE", out, 6, &len), ERR_OK);
}

static void test_round_trip(void **state)
{
    (void)state;
    uint8_t data[200], buf[400], back[200];

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 31);
    for (size_t len = 0; len <= sizeof(data); len++) {
        struct writer writer = writer_of(buf, sizeof(buf));
        size_t back_len = 4711;
        pem_put(&writer, "CERTIFICATE REQUEST", bytes_of(data, len));
        assert_false(writer.failed);
        struct bytes reader = writer_view(&writer);
        assert_int_equal(pem_next(&reader, "CERTIFICATE REQUEST", back, sizeof(back), &back_len),
                         ERR_OK);
        assert_int_equal(back_len, len);
        assert_memory_equal(back, data, len);
        assert_int_equal(reader.len, 0);
        struct writer small = writer_of(buf, writer.len - 1);
        pem_put(&small, "CERTIFICATE REQUEST", bytes_of(data, len));
        assert_true(small.failed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_broken_blocks),
        cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
