/* Do hashes and HMACs give the values that FIPS 180-4, RFC 2202 and RFC 4231 print, in one piece
 * and in any pieces?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "crypto/digest.h"

static void assert_hex(const uint8_t *got, size_t len, const char *expected)
{
    char hex[2 * DIGEST_LEN_MAX + 1];
    bytes_to_hex(bytes_of(got, len), hex);
    assert_string_equal(hex, expected);
}

static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
static const char two_long_blocks[] = "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
                                      "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu";

static void test_hashes(void **state)
{
    (void)state;
    static const struct {
        enum hash_alg alg;
        const char *message, *expected;
    } cases[] = {
        {HASH_SHA1, "", "da39a3ee5e6b4b0d3255bfef95601890afd80709"},
        {HASH_SHA1, "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
        {HASH_SHA1, two_blocks, "84983e441c3bd26ebaae4aa1f95129e5e54670f1"},
        {HASH_SHA256, "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {HASH_SHA256, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {HASH_SHA256, two_blocks,
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {HASH_SHA384, "",
         "38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14"
         "898b9"
         "5b"},
        {HASH_SHA384, "abc",
         "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca13"
         "4c825"
         "a7"},
        {HASH_SHA384, two_long_blocks,
         "09330c33f71147e83d192fc782cd1b4753111b173b3b05d22fa08086e3b0f712fcc7c71a557e2db966c3e9fa9"
         "17460"
         "39"},
        {HASH_SHA512, "",
         "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d28"
         "77eec"
         "2f63b931bd47417a81a538327af927da3e"},
        {HASH_SHA512, "abc",
         "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a"
         "3feeb"
         "bd454d4423643ce80e2a9ac94fa54ca49f"},
        {HASH_SHA512, two_long_blocks,
         "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018501d289e4900f7e4331b99dec"
         "4b543"
         "3ac7d329eeb6dd26545e96e55b874be909"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t out[DIGEST_LEN_MAX];
        digest_once(cases[i].alg, bytes_of_str(cases[i].message), out);
        assert_hex(out, hash_alg_len(cases[i].alg), cases[i].expected);
    }
}

static void test_the_empty_view(void **state)
{
    (void)state;
    uint8_t out[SHA256_LEN];
    sha256_once((struct bytes){0}, out);
    assert_hex(out, sizeof out, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    hmac_once(HASH_SHA256, (struct bytes){0}, (struct bytes){0}, out);
    assert_hex(out, sizeof out, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void test_streams(void **state)
{
    (void)state;
    static uint8_t data[5000];
    uint8_t whole[SHA256_LEN], parts[SHA256_LEN];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 31 + (i >> 8));
    for (size_t step = 1; step < 300; step += 7) {
        struct sha256_stream stream;
        sha256_start(&stream);
        for (size_t at = 0; at < sizeof data; at += step)
            sha256_update(&stream,
                          bytes_of(data + at, at + step < sizeof data ? step : sizeof data - at));
        sha256_finish(&stream, parts);
        sha256_once(BYTES_ARRAY(data), whole);
        assert_memory_equal(whole, parts, sizeof whole);
    }
    /* FIPS 180-4's long one: a million times "a" */
    struct sha256_stream stream;
    memset(data, 'a', sizeof data);
    sha256_start(&stream);
    for (int i = 0; i < 200; i++)
        sha256_update(&stream, BYTES_ARRAY(data));
    sha256_finish(&stream, parts);
    assert_hex(parts, sizeof parts,
               "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void check_hmac(enum hash_alg alg, struct bytes key, struct bytes data, const char *expected)
{
    uint8_t out[DIGEST_LEN_MAX];
    hmac_once(alg, key, data, out);
    assert_hex(out, hash_alg_len(alg), expected);
}

static void test_hmac(void **state)
{
    (void)state;
    uint8_t key[131];
    struct bytes jefe = BYTES_LIT("Jefe"), question = BYTES_LIT("what do ya want for nothing?");
    /* RFC 2202 section 3, tests 1 and 2 */
    memset(key, 0x0b, sizeof key);
    check_hmac(HASH_SHA1, bytes_of(key, 20), BYTES_LIT("Hi There"),
               "b617318655057264e28bc0b6fb378c8ef146be00");
    check_hmac(HASH_SHA1, jefe, question, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    /* RFC 4231 section 4.2: test 1 */
    check_hmac(HASH_SHA256, bytes_of(key, 20), BYTES_LIT("Hi There"),
               "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    check_hmac(
        HASH_SHA384, bytes_of(key, 20), BYTES_LIT("Hi There"),
        "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2"
        "fa9cb6");
    check_hmac(
        HASH_SHA512, bytes_of(key, 20), BYTES_LIT("Hi There"),
        "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eae"
        "a3f4e4be9d914eeb61f1702e696c203a126854");
    /* 4.3: test 2, a key shorter than the hash */
    check_hmac(HASH_SHA256, jefe, question,
               "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    check_hmac(
        HASH_SHA384, jefe, question,
        "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfa"
        "b21649");
    check_hmac(
        HASH_SHA512, jefe, question,
        "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8"
        "f0e6fdcaeab1a34d4a6b4b636e070a38bce737");
    /* 4.7: test 6, a key longer than a block */
    memset(key, 0xaa, sizeof key);
    check_hmac(HASH_SHA256, BYTES_ARRAY(key),
               BYTES_LIT("Test Using Larger Than Block-Size Key - Hash Key First"),
               "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    check_hmac(
        HASH_SHA512, BYTES_ARRAY(key),
        BYTES_LIT("Test Using Larger Than Block-Size Key - Hash Key First"),
        "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d"
        "6a1e5295e64f73f63f0aec8b915a985d786598");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hashes),
        cmocka_unit_test(test_the_empty_view),
        cmocka_unit_test(test_streams),
        cmocka_unit_test(test_hmac),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
