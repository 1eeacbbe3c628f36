/* Are MACs under shared secrets those of RFC 6070, RFC 7914 and of other programs (Python's
 * hashlib, the openssl command), is every parameter outside of its limits refused, and does the
 * cache of derived keys keep what it should and nothing else?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "asn1/der.h"
#include "crypto/hash.h"
#include "crypto/mac.h"
#include "crypto/mac_cache.h"

enum { FILE_MAX = 4096 };

static const struct bytes secret = {(const uint8_t *)"a shared secret", 15};

static void assert_hex(struct bytes got, const char *expected)
{
    char hex[512];
    assert_true(2 * got.len + 1 <= sizeof hex);
    bytes_to_hex(got, hex);
    assert_string_equal(hex, expected);
}

static struct mac_params params_of(enum mac_kind kind, enum hash_alg hash, uint32_t iterations,
                                   enum hash_alg mac)
{
    struct mac_params params = {
        .kind = kind, .hash = hash, .mac = mac, .iterations = iterations, .salt_len = 16};
    for (uint8_t i = 0; i < 16; i++)
        params.salt[i] = i;
    return params;
}

static struct mac_key derive(const struct mac_params *params)
{
    struct mac_key key;
    assert_int_equal(mac_key_derive(params, secret, &key), ERR_OK);
    return key;
}

static void test_pbkdf2(void **state)
{
    (void)state;
    static const struct {
        enum hash_alg alg;
        struct bytes password, salt;
        uint32_t iterations;
        const char *expected;
    } cases[] = {
        /* RFC 6070 section 2 */
        {HASH_SHA1,
         {(const uint8_t *)"password", 8},
         {(const uint8_t *)"salt", 4},
         1,
         "0c60c80f961f0e71f3a9b524af6012062fe037a6"},
        {HASH_SHA1,
         {(const uint8_t *)"password", 8},
         {(const uint8_t *)"salt", 4},
         4096,
         "4b007901b765489abead49d926f721d065a429c1"},
        {HASH_SHA1,
         {(const uint8_t *)"passwordPASSWORDpassword", 24},
         {(const uint8_t *)"saltSALTsaltSALTsaltSALTsaltSALTsalt", 36},
         4096,
         "3d2eec4fe41c849b80c8d83662c0e44a8b291a964cf2f07038"},
        {HASH_SHA1,
         {(const uint8_t *)"pass\0word", 9},
         {(const uint8_t *)"sa\0lt", 5},
         4096,
         "56fa6aa75548099dcc37d7f03425e0c3"},
        /* RFC 7914 section 11 */
        {HASH_SHA256,
         {(const uint8_t *)"passwd", 6},
         {(const uint8_t *)"salt", 4},
         1,
         "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"
         "49ca9cccf179b645991664b39d77ef317c71b845b1e30bd509112041d3a19783"},
        {HASH_SHA256,
         {(const uint8_t *)"Password", 8},
         {(const uint8_t *)"NaCl", 4},
         80000,
         "4ddcd8f60b98be21830cee5ef22701f9641a4418d04c0414aeff08876b34ab56"
         "a1d425a1225833549adb841b51c9b3176a272bdebba1d078478f62b397f33c8d"},
        /* hashlib.pbkdf2_hmac: two blocks */
        {HASH_SHA384,
         {(const uint8_t *)"password", 8},
         {(const uint8_t *)"saltsalt", 8},
         1000,
         "9c2af27410c6bfe294fda90b79736699f5c735ddcb4d743274c72054b82aeac6c020834ab060f2f86f3f2d13"
         "c9d5f696db291732cf120682e36544378cf3e5d1583c14b068587c72e2f2bc6915b3a62c4a60e4a18fb9208f"
         "533bdad472d155549a18800d"},
        {HASH_SHA512,
         {(const uint8_t *)"password", 8},
         {(const uint8_t *)"saltsalt", 8},
         1000,
         "43abf8c7027c6bd9d63e9d81784a006188474a8db14663d60114f5eef4e94b1b76aba88da7b04ea335b9e7ba"
         "aa6bde5e36350ee202acd02caf25b6061a4bb5b47aab0aa1d61bdd38209e6f4f373dd0b64984d8a1f68b4ab1"
         "859029a48ec9f5561cc3595e"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t out[128];
        size_t len = strlen(cases[i].expected) / 2;
        pbkdf2(cases[i].alg, cases[i].password, cases[i].salt, cases[i].iterations, out, len);
        assert_hex(bytes_of(out, len), cases[i].expected);
    }
}

/* Each in one piece and in two: computed with Python's hashlib and hmac. */
static void test_known_macs(void **state)
{
    (void)state;
    static const struct {
        enum mac_kind kind;
        enum hash_alg hash;
        uint32_t iterations;
        enum hash_alg mac;
        uint8_t key_len;
        const char *expected;
    } cases[] = {
        {MAC_PBM, HASH_SHA1, 100, HASH_SHA1, 0, "c9bcca03d8e894dfd7892872e337735a5d975977"},
        {MAC_PBM, HASH_SHA256, 500, HASH_SHA1, 0, "d835139f142cb6c0cb4700c5dd495013145b9d5a"},
        {MAC_PBM, HASH_SHA256, 1000, HASH_SHA256, 0,
         "727e68fa76fb04352f18052cc1d2417643ea93628c4204abe4ca5b20612b24e9"},
        {MAC_PBM, HASH_SHA384, 101, HASH_SHA384, 0,
         "e66381647fbafa4c0245dd2deebe218309698c035d547379dca8c5dc517ca2b24127b59b481bd85c234cb0cc"
         "c9a6b5d2"},
        {MAC_PBM, HASH_SHA512, 1000, HASH_SHA512, 0,
         "ef2543244f4be67ae11e278f57f75a37534a11107b0b61182305ca12d7a2738f58663923902625b6adb0f711"
         "c4e5d2fa17474e6251ecdb267d4e39fa79601192"},
        {MAC_PBM, HASH_SHA1, 100, HASH_SHA512, 0,
         "6e744cfd5d19c436e24443cd4b92c532aeb32d1d9167b10727653926848e7d76a341f0fccd4f23a1c453e6cd"
         "ce1cc5d3eceb35035e71066653410d90aa0c0bea"},
        {MAC_PBM, HASH_SHA512, 100, HASH_SHA1, 0, "ba2db28df1fdc44b73f6557feaa14960e5b8e784"},
        {MAC_PBMAC1, HASH_SHA1, 100, HASH_SHA1, 0, "bd23c77943d827fe5f405e6552e51419bbc47a2c"},
        {MAC_PBMAC1, HASH_SHA256, 1000, HASH_SHA256, 32,
         "c07274f9c1cb525867eb7d65456b510a35510d3e34f1b5ec6b901123dc41a9e8"},
        {MAC_PBMAC1, HASH_SHA256, 1000, HASH_SHA512, 0,
         "6fa11f19d0b525988d6d657a2fff3aef37e3bb9e70c07e158a7affa9fed6957662217538e7339423b6625943"
         "ca5ec3f908672129fe441a342f325ef3148e70bf"},
        {MAC_PBMAC1, HASH_SHA384, 100, HASH_SHA384, 16,
         "050a995b773564d448a63613442797f4c5cda8b3de57f9f7f4ee462ac8af8d59ef137a230d1b76619ab7381f"
         "57bcaedd"},
        {MAC_PBMAC1, HASH_SHA512, 100, HASH_SHA256, 0,
         "52214ab9d05414e19ffca36136d9d4f32bc9fcff9eeb96e80bd728aa11c4fe42"},
    };
    static const struct bytes whole[] = {{(const uint8_t *)"header and body", 15}};
    static const struct bytes parts[] = {
        {(const uint8_t *)"header ", 7}, {0}, {(const uint8_t *)"and body", 8}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mac_params params =
            params_of(cases[i].kind, cases[i].hash, cases[i].iterations, cases[i].mac);
        params.key_len = cases[i].key_len;
        struct mac_key key = derive(&params);
        uint8_t mac[MAC_LEN_MAX];
        size_t len;
        mac_compute(&key, whole, 1, mac, &len);
        assert_hex(bytes_of(mac, len), cases[i].expected);
        assert_int_equal(mac_verify(&key, parts, 3, bytes_of(mac, len)), ERR_OK);
        assert_int_equal(mac_verify(&key, parts, 2, bytes_of(mac, len)), ERR_BAD_SIGNATURE);
        assert_int_equal(mac_verify(&key, parts, 3, bytes_of(mac, len - 1)), ERR_BAD_SIGNATURE);
        assert_int_equal(mac_verify(&key, parts, 3, (struct bytes){0}), ERR_BAD_SIGNATURE);
        mac[len - 1] ^= 1;
        assert_int_equal(mac_verify(&key, parts, 3, bytes_of(mac, len)), ERR_BAD_SIGNATURE);
    }
}

static void test_secrets_out_of_bounds(void **state)
{
    (void)state;
    uint8_t large[MAC_SECRET_MAX + 1] = {1};
    struct mac_params params = params_of(MAC_PBM, HASH_SHA256, 100, HASH_SHA256);
    struct mac_key key = {.len = 77};
    assert_int_equal(mac_key_derive(&params, (struct bytes){0}, &key), ERR_NO_SPACE);
    assert_int_equal(mac_key_derive(&params, BYTES_ARRAY(large), &key), ERR_NO_SPACE);
    params.iterations = MAC_ITERATIONS_MAX + 1;
    assert_int_equal(mac_key_derive(&params, secret, &key), ERR_BAD_ALG);
    assert_int_equal(key.len, 77);
    params.iterations = 100;
    assert_int_equal(mac_key_derive(&params, bytes_of(large, MAC_SECRET_MAX), &key), ERR_OK);
}

/* --- parameters --- */

static void assert_same(const struct mac_params *a, const struct mac_params *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->hash, b->hash);
    assert_int_equal(a->mac, b->mac);
    assert_int_equal(a->iterations, b->iterations);
    assert_int_equal(a->key_len, b->key_len);
    assert_int_equal(a->is_ipsec_oid, b->is_ipsec_oid);
    assert_int_equal(a->salt_len, b->salt_len);
    assert_memory_equal(a->salt, b->salt, sizeof a->salt);
}

static void round_trip(const struct mac_params *params)
{
    uint8_t der[MAC_PARAMS_DER_MAX];
    size_t len, short_len = 99;
    struct mac_params again;
    assert_int_equal(mac_params_build(params, der, sizeof der, &len), ERR_OK);
    assert_int_equal(mac_params_decode(bytes_of(der, len), &again), ERR_OK);
    assert_same(params, &again);
    assert_int_equal(mac_params_build(params, der, len - 1, &short_len), ERR_NO_SPACE);
    assert_int_equal(short_len, 99);
}

static void test_parameters_survive(void **state)
{
    (void)state;
    for (enum hash_alg hash = HASH_SHA1; hash <= HASH_SHA512; hash++) {
        for (enum hash_alg mac = HASH_SHA1; mac <= HASH_SHA512; mac++) {
            struct mac_params params = params_of(MAC_PBM, hash, 500, mac);
            round_trip(&params);
            params.is_ipsec_oid = mac == HASH_SHA1;
            round_trip(&params);
            params.kind = MAC_PBMAC1;
            params.key_len = MAC_KEY_LEN_MAX;
            params.iterations = MAC_ITERATIONS_MAX;
            memset(params.salt, 0x80, sizeof params.salt);
            params.salt_len = MAC_SALT_MAX;
            round_trip(&params);
            params.key_len = 0;
            round_trip(&params);
        }
    }
}

static void test_parameters_out_of_bounds(void **state)
{
    (void)state;
    const struct mac_params good = params_of(MAC_PBMAC1, HASH_SHA256, 500, HASH_SHA256);
    struct mac_params bad[12];
    for (size_t i = 0; i < 12; i++)
        bad[i] = good;
    bad[0].kind = MAC_NONE;
    bad[1].hash = HASH_NONE;
    bad[2].mac = HASH_NONE;
    bad[3].iterations = MAC_ITERATIONS_MIN - 1;
    bad[4].iterations = MAC_ITERATIONS_MAX + 1;
    bad[5].salt_len = MAC_SALT_MIN - 1;
    bad[6].salt_len = MAC_SALT_MAX + 1;
    bad[7].key_len = MAC_KEY_LEN_MIN - 1;
    bad[8].key_len = MAC_KEY_LEN_MAX + 1;
    bad[9].is_ipsec_oid = true;
    bad[10].kind = MAC_PBM;
    bad[10].key_len = 32;
    bad[11].hash = HASH_ALG_COUNT;
    assert_true(mac_params_are_valid(&good));
    for (size_t i = 0; i < 12; i++) {
        uint8_t der[MAC_PARAMS_DER_MAX];
        size_t len;
        assert_false(mac_params_are_valid(&bad[i]));
        assert_int_equal(mac_params_build(&bad[i], der, sizeof der, &len), ERR_BAD_ALG);
    }
}

/* Hexadecimal octets, and { } around the contents of a SEQUENCE. */
static enum err decode_text(const char *text, struct mac_params *out)
{
    uint8_t der[512];
    struct der_builder builder = der_builder_of(der, sizeof der);
    struct bytes all;
    for (const char *at = text; *at != '\0';) {
        uint8_t octet;
        size_t len;
        if (*at == '{')
            der_open(&builder, DER_SEQUENCE);
        else if (*at == '}')
            der_close(&builder);
        else if (*at != ' ') {
            assert_true(bytes_from_hex(bytes_of(at, 2), &octet, 1, &len));
            der_put_raw(&builder, bytes_of(&octet, 1));
            at++;
        }
        at++;
    }
    assert_true(der_finish(&builder, &all));
    return mac_params_decode(all, out);
}

#define SALT              "04080001020304050607"
#define N500              "020201f4"
#define PBM               "06092a864886f67d07420d"
#define HEX_SHA224        "0609608648016503040204"
#define HEX_SHA256        "0609608648016503040201"
#define HEX_HMAC1         "06082a864886f70d0207"
#define HEX_HMAC1_IPSEC   "06082b06010505080102"
#define HEX_HMAC224       "06082a864886f70d0208"
#define HEX_HMAC256       "06082a864886f70d0209"
#define PBMAC1            "06092a864886f70d01050e"
#define PBKDF2            "06092a864886f70d01050c"
#define SCRYPT            "06092b06010401da47040b"
#define PBM_OF(inside)    "{" PBM "{" inside "}}"
#define PBMAC1_OF(inside) "{" PBMAC1 "{{" PBKDF2 "{" inside "}}{" HEX_HMAC256 "}}}"
#define BYTES_32          "000102030405060708090a0b0c0d0e0f000102030405060708090a0b0c0d0e0f"

static void test_forms_that_are_taken(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum mac_kind kind;
        enum hash_alg hash, mac;
        uint8_t salt_len, key_len;
        bool is_ipsec_oid;
    } cases[] = {
        {PBM_OF(SALT "{" HEX_SHA256 "}" N500 "{" HEX_HMAC1_IPSEC "}"), MAC_PBM, HASH_SHA256,
         HASH_SHA1, 8, 0, true},
        {PBM_OF(SALT "{" HEX_SHA256 "0500}" N500 "{" HEX_HMAC1 "0500}"), MAC_PBM, HASH_SHA256,
         HASH_SHA1, 8, 0, false},
        {PBM_OF("0440" BYTES_32 BYTES_32 "{" HEX_SHA256 "}" N500 "{" HEX_HMAC256 "}"), MAC_PBM,
         HASH_SHA256, HASH_SHA256, 64, 0, false},
        {PBMAC1_OF(SALT N500), MAC_PBMAC1, HASH_SHA1, HASH_SHA256, 8, 0, false},
        {PBMAC1_OF(SALT N500 "020120"), MAC_PBMAC1, HASH_SHA1, HASH_SHA256, 8, 32, false},
        {PBMAC1_OF(SALT N500 "020120{" HEX_HMAC256 "0500}"), MAC_PBMAC1, HASH_SHA256, HASH_SHA256,
         8, 32, false},
        {PBMAC1_OF(SALT N500 "{" HEX_HMAC1 "}"), MAC_PBMAC1, HASH_SHA1, HASH_SHA256, 8, 0, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mac_params params;
        assert_int_equal(decode_text(cases[i].text, &params), ERR_OK);
        assert_int_equal(params.kind, cases[i].kind);
        assert_int_equal(params.hash, cases[i].hash);
        assert_int_equal(params.mac, cases[i].mac);
        assert_int_equal(params.iterations, 500);
        assert_int_equal(params.salt_len, cases[i].salt_len);
        assert_int_equal(params.salt[7], 7);
        assert_int_equal(params.key_len, cases[i].key_len);
        assert_int_equal(params.is_ipsec_oid, cases[i].is_ipsec_oid);
        round_trip(&params);
    }
}

#define OWF "{" HEX_SHA256 "}"
#define MAC "{" HEX_HMAC256 "}"
struct outcome {
    const char *text;
    enum err expected;
};

static void check_outcome(const struct outcome *outcome)
{
    struct mac_params params = {.iterations = 77};
    enum err err = decode_text(outcome->text, &params);
    if (err != outcome->expected)
        fail_msg("%s: %s, not %s", outcome->text, err_code(err), err_code(outcome->expected));
    if (err != ERR_OK)
        assert_int_equal(params.iterations, 77);
}

static void test_pbm_that_is_refused(void **state)
{
    (void)state;
    static const struct outcome cases[] = {
        {"", ERR_BAD_DER},
        {"{}", ERR_BAD_DER},
        {"{" PBM "}", ERR_BAD_DER},
        {"{" PBM "0500}", ERR_BAD_DER},
        {PBM_OF(""), ERR_BAD_DER},
        {PBM_OF(SALT OWF N500 MAC) "00", ERR_BAD_DER},
        {PBM_OF(SALT OWF N500 MAC "0500"), ERR_BAD_DER},
        {"{" PBM "{" SALT OWF N500 MAC "}0500}", ERR_BAD_DER},
        {"{06092a864886f70d01010b0500}", ERR_BAD_ALG}, /* a signature algorithm */
        {"{06092a864886f67d07421e{" SALT OWF N500 MAC "}}", ERR_BAD_ALG}, /* DHBasedMac */
        /* salt */
        {PBM_OF("040700010203040506" OWF N500 MAC), ERR_BAD_ALG},
        {PBM_OF("0400" OWF N500 MAC), ERR_BAD_ALG},
        {PBM_OF("0441" BYTES_32 BYTES_32 "00" OWF N500 MAC), ERR_BAD_ALG},
        {PBM_OF("03080001020304050607" OWF N500 MAC), ERR_BAD_DER},
        /* one-way function */
        {PBM_OF(SALT "{" HEX_SHA224 "}" N500 MAC), ERR_BAD_ALG},
        {PBM_OF(SALT "{06082a864886f70d0205}" N500 MAC), ERR_BAD_ALG}, /* MD5 */
        {PBM_OF(SALT "{" HEX_SHA256 "020101}" N500 MAC), ERR_BAD_ALG},
        {PBM_OF(SALT "{" HEX_SHA256 "05000500}" N500 MAC), ERR_BAD_ALG},
        {PBM_OF(SALT HEX_SHA256 N500 MAC), ERR_BAD_DER},
        /* iterations */
        {PBM_OF(SALT OWF "020163" MAC), ERR_BAD_ALG},
        {PBM_OF(SALT OWF "020164" MAC), ERR_OK},
        {PBM_OF(SALT OWF "02030186a0" MAC), ERR_OK},
        {PBM_OF(SALT OWF "02030186a1" MAC), ERR_BAD_ALG},
        {PBM_OF(SALT OWF "02050100000064" MAC), ERR_BAD_ALG},
        {PBM_OF(SALT OWF "020a01000000000000000064" MAC), ERR_BAD_ALG}, /* more than 64 bits */
        {PBM_OF(SALT OWF "0202ff64" MAC), ERR_BAD_DER},                 /* negative */
        {PBM_OF(SALT OWF "02020064" MAC), ERR_BAD_DER},                 /* not minimal */
        {PBM_OF(SALT OWF "020100" MAC), ERR_BAD_ALG},
        {PBM_OF(SALT OWF "0200" MAC), ERR_BAD_DER},
        /* mac */
        {PBM_OF(SALT OWF N500 "{" HEX_HMAC224 "}"), ERR_BAD_ALG},
        {PBM_OF(SALT OWF N500 "{06082b06010505080101}"), ERR_BAD_ALG}, /* HMAC-MD5 */
        {PBM_OF(SALT OWF N500 "{" HEX_HMAC256 "020101}"), ERR_BAD_ALG},
        {PBM_OF(SALT OWF N500), ERR_BAD_DER},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_outcome(&cases[i]);
}

static void test_pbmac1_that_is_refused(void **state)
{
    (void)state;
    static const struct outcome cases[] = {
        {"{" PBMAC1 "}", ERR_BAD_DER},
        {"{" PBMAC1 "{{" SCRYPT "{" SALT N500 "}}" MAC "}}", ERR_BAD_ALG},
        {"{" PBMAC1 "{{" PBKDF2 "{" SALT N500 "}}}}", ERR_BAD_DER},
        {"{" PBMAC1 "{{" PBKDF2 "{" SALT N500 "}}" MAC "0500}}", ERR_BAD_DER},
        {"{" PBMAC1 "{{" PBKDF2 "{" SALT N500 "}0500}" MAC "}}", ERR_BAD_DER},
        {"{" PBMAC1 "{{" PBKDF2 "{" SALT N500 "}}{" HEX_HMAC224 "}}}", ERR_BAD_ALG},
        {PBMAC1_OF("{" HEX_SHA256 "}" N500), ERR_BAD_ALG}, /* another source of salt */
        {PBMAC1_OF("040700010203040506" N500), ERR_BAD_ALG},
        {PBMAC1_OF(SALT "02030186a1"), ERR_BAD_ALG},
        {PBMAC1_OF(SALT "020163"), ERR_BAD_ALG},
        {PBMAC1_OF(SALT N500 "02010f"), ERR_BAD_ALG},
        {PBMAC1_OF(SALT N500 "020141"), ERR_BAD_ALG},
        {PBMAC1_OF(SALT N500 "0201ff"), ERR_BAD_DER},
        {PBMAC1_OF(SALT N500 "{" HEX_HMAC1_IPSEC "}"), ERR_BAD_ALG},
        {PBMAC1_OF(SALT N500 "{" HEX_HMAC224 "}"), ERR_BAD_ALG},
        {PBMAC1_OF(SALT N500 "020120{" HEX_HMAC256 "}0500"), ERR_BAD_DER},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_outcome(&cases[i]);
}

static void test_cost(void **state)
{
    (void)state;
    struct mac_params params = params_of(MAC_PBM, HASH_SHA256, 1000, HASH_SHA512);
    assert_int_equal(mac_cost(&params), 1000);
    params.kind = MAC_PBMAC1; /* two hashes each time, and two blocks for the key */
    assert_int_equal(mac_cost(&params), 4000);
    params.key_len = 32;
    assert_int_equal(mac_cost(&params), 2000);
}

/* --- cache --- */

static bool is_cached(struct mac_cache *cache, const char *id, const struct mac_params *params)
{
    struct mac_key key;
    return mac_cache_lookup(cache, bytes_of_str(id), params, &key);
}

static void test_cache_tells_apart(void **state)
{
    (void)state;
    static struct mac_cache cache;
    mac_cache_init(&cache);
    struct mac_params params = params_of(MAC_PBMAC1, HASH_SHA256, 100, HASH_SHA256);
    struct mac_key key = derive(&params), found;
    assert_false(is_cached(&cache, "one", &params));
    mac_cache_insert(&cache, BYTES_LIT("one"), &params, &key);
    assert_true(mac_cache_lookup(&cache, BYTES_LIT("one"), &params, &found));
    assert_memory_equal(&key, &found, sizeof key);
    assert_false(is_cached(&cache, "two", &params));
    assert_false(is_cached(&cache, "", &params));
    struct mac_params others[7];
    for (size_t i = 0; i < 7; i++)
        others[i] = params;
    others[0].kind = MAC_PBM;
    others[1].hash = HASH_SHA512;
    others[2].mac = HASH_SHA512;
    others[3].iterations++;
    others[4].key_len = 32;
    others[5].salt[15] ^= 1;
    others[6].salt_len--;
    for (size_t i = 0; i < 7; i++)
        assert_false(is_cached(&cache, "one", &others[i]));
    /* the end of the salt is not the beginning of the id */
    others[6] = params;
    others[6].salt_len = 8;
    others[6].salt[7] = 'o';
    mac_cache_insert(&cache, BYTES_LIT("ne"), &others[6], &key);
    assert_true(is_cached(&cache, "ne", &others[6]));
    others[6].salt_len = 7;
    assert_false(is_cached(&cache, "one", &others[6]));
    mac_cache_wipe(&cache);
    assert_false(is_cached(&cache, "one", &params));
}

static bool holds(const struct mac_cache *cache, const struct mac_key *key)
{
    return memmem(cache, sizeof *cache, key->bytes, key->len) != NULL;
}

static void test_cache_gives_way(void **state)
{
    (void)state;
    static struct mac_cache cache;
    mac_cache_init(&cache);
    struct mac_params params = params_of(MAC_PBM, HASH_SHA256, 100, HASH_SHA256);
    struct mac_key first = derive(&params), second = {.hash = HASH_SHA256, .len = 32};
    memset(second.bytes, 0xee, 32);
    char id[32];
    mac_cache_insert(&cache, BYTES_LIT("first"), &params, &first);
    for (int i = 1; i < MAC_CACHE_ENTRIES; i++) {
        snprintf(id, sizeof id, "%d", i);
        mac_cache_insert(&cache, bytes_of_str(id), &params, &second);
    }
    assert_true(is_cached(&cache, "first", &params)); /* and so it is the youngest */
    mac_cache_insert(&cache, BYTES_LIT("new"), &params, &second);
    assert_true(is_cached(&cache, "first", &params));
    assert_false(is_cached(&cache, "1", &params));
    assert_true(is_cached(&cache, "2", &params));
    /* inserted again: replaced, not twice there */
    mac_cache_insert(&cache, BYTES_LIT("first"), &params, &second);
    assert_true(is_cached(&cache, "new", &params));
    assert_false(holds(&cache, &first));
    assert_true(holds(&cache, &second));
    for (int i = 0; i < MAC_CACHE_ENTRIES; i++) {
        snprintf(id, sizeof id, "other %d", i);
        mac_cache_insert(&cache, bytes_of_str(id), &params, &first);
    }
    assert_false(holds(&cache, &second));
    mac_cache_wipe(&cache);
    assert_false(holds(&cache, &first));
}

/* --- the openssl command --- */

static char folder[] = "/tmp/certmill-mac-XXXXXX";

static int shell(const char *command)
{
    char line[1024];
    snprintf(line, sizeof line, "cd %s && (%s) >>log 2>&1", folder, command);
    return system(line);
}

static struct bytes load(const char *name, uint8_t buf[FILE_MAX])
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t len = fread(buf, 1, FILE_MAX, file);
    fclose(file);
    return bytes_of(buf, len);
}

/* Takes a PKIMessage apart: RFC 9810 5.1. The MAC is over SEQUENCE { header, body }. */
static void check_message(struct bytes message, struct mac_params *out_params)
{
    uint8_t copy[FILE_MAX], again[MAC_PARAMS_DER_MAX];
    size_t again_len;
    struct bytes body, header, fields, protection, mac, alg, contents;
    struct bytes parts[2];
    uint8_t tag;
    assert_true(der_get(&message, DER_SEQUENCE, &body));
    struct bytes rest = body;
    assert_true(der_get(&rest, DER_SEQUENCE, &header));
    assert_true(der_get_any(&rest, &tag, &contents, NULL));
    parts[1] = bytes_of(body.ptr, (size_t)(rest.ptr - body.ptr));
    assert_true(der_get(&rest, DER_CONTEXT_CONSTRUCTED(0), &protection));
    assert_true(der_get_bits(&protection, &mac));
    fields = header;
    do
        assert_true(der_get_any(&fields, &tag, &alg, NULL));
    while (tag != DER_CONTEXT_CONSTRUCTED(1));
    assert_int_equal(mac_params_decode(alg, out_params), ERR_OK);
    /* what we build is what it wrote */
    assert_int_equal(mac_params_build(out_params, again, sizeof again, &again_len), ERR_OK);
    assert_true(bytes_eq(alg, bytes_of(again, again_len)));
    /* the header of the SEQUENCE around them, which nobody sends */
    struct der_builder builder = der_builder_of(copy, sizeof copy);
    der_put(&builder, DER_SEQUENCE, parts[1]);
    parts[0] = bytes_of(copy, der_header_len(parts[1].len));
    struct mac_key key;
    assert_int_equal(mac_key_derive(out_params, BYTES_LIT("a shared secret"), &key), ERR_OK);
    assert_int_equal(mac_verify(&key, parts, 2, mac), ERR_OK);
    assert_int_equal(mac_key_derive(out_params, BYTES_LIT("a shared secreT"), &key), ERR_OK);
    assert_int_equal(mac_verify(&key, parts, 2, mac), ERR_BAD_SIGNATURE);
}

static void test_openssl_cmp(void **state)
{
    (void)state;
    static const struct {
        const char *options;
        enum hash_alg hash, mac;
    } cases[] = {
        {"", HASH_SHA256, HASH_SHA1},
        {"-digest sha512 -mac hmacWithSHA256", HASH_SHA512, HASH_SHA256},
        {"-digest sha1 -mac hmacWithSHA384", HASH_SHA1, HASH_SHA384},
        {"-digest sha384 -mac hmacWithSHA512", HASH_SHA384, HASH_SHA512},
        {"-digest sha256 -mac hmacWithSHA1", HASH_SHA256, HASH_SHA1},
    };
    assert_non_null(mkdtemp(folder));
    assert_int_equal(shell("openssl ecparam -name prime256v1 -genkey -noout -out key.pem && "
                           "openssl req -x509 -new -key key.pem -subj /CN=dev1 -out cert.pem"),
                     0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        /* a client and its own mock server: four messages under one secret */
        char command[768];
        snprintf(command, sizeof command,
                 "openssl cmp -config '' -cmd ir -use_mock_srv -srv_ref dev1 -ref dev1 "
                 "-srv_secret 'pass:a shared secret' -secret 'pass:a shared secret' "
                 "-newkey key.pem -subject /CN=dev1 -rsp_cert cert.pem -srv_trusted cert.pem "
                 "-reqout ir.der,conf.der -rspout ip.der,pkiconf.der -certout out.pem %s",
                 cases[i].options);
        assert_int_equal(shell(command), 0);
        static const char *const names[] = {"ir.der", "conf.der", "ip.der", "pkiconf.der"};
        for (size_t j = 0; j < sizeof names / sizeof *names; j++) {
            uint8_t buf[FILE_MAX];
            struct mac_params params;
            check_message(load(names[j], buf), &params);
            if (j < 2) {
                assert_int_equal(params.hash, cases[i].hash);
                assert_int_equal(params.mac, cases[i].mac);
                assert_int_equal(params.iterations, 500);
                assert_int_equal(params.salt_len, 16);
                assert_int_equal(params.is_ipsec_oid, i == 0);
            }
        }
    }
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pbkdf2),
        cmocka_unit_test(test_known_macs),
        cmocka_unit_test(test_secrets_out_of_bounds),
        cmocka_unit_test(test_parameters_survive),
        cmocka_unit_test(test_parameters_out_of_bounds),
        cmocka_unit_test(test_forms_that_are_taken),
        cmocka_unit_test(test_pbm_that_is_refused),
        cmocka_unit_test(test_pbmac1_that_is_refused),
        cmocka_unit_test(test_cost),
        cmocka_unit_test(test_cache_tells_apart),
        cmocka_unit_test(test_cache_gives_way),
        cmocka_unit_test(test_openssl_cmp),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
