/* Can two certificates get one serial, whatever the clock does, and does a token sign exactly the
 * octets that make the assembled certificate verify? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "asn1/csr.h"
#include "asn1/der.h"
#include "asn1/oid.h"
#include "base/clock.h"
#include "ca/issue.h"
#include "crypto/digest.h"
#include "crypto/path.h"
#include "crypto/softkey.h"

/* --- serial numbers --- */

static uint64_t fake_wall_ns;

static uint64_t fake_wall(void *ctx)
{
    (void)ctx;
    return fake_wall_ns;
}

static uint64_t fake_mono(void *ctx)
{
    (void)ctx;
    return 1;
}

static const struct clock_source fake_clock = {fake_mono, fake_wall, NULL};

#define MS_2026 1767225600000ull

static int use_fake_clock(void **state)
{
    (void)state;
    fake_wall_ns = MS_2026 * NS_PER_MS;
    clock_replace(&fake_clock);
    return 0;
}

static int use_system_clock(void **state)
{
    (void)state;
    clock_replace(NULL);
    return 0;
}

static void assert_serial_is_well_formed(const uint8_t serial[SERIAL_LEN])
{
    uint8_t buf[32];
    struct der_builder builder = der_builder_of(buf, sizeof(buf));
    struct bytes der;

    der_put_unsigned(&builder, bytes_of(serial, SERIAL_LEN));
    assert_true(der_finish(&builder, &der));
    assert_int_equal(der.len, 2 + SERIAL_LEN); /* no octet dropped, none added */
}

static void test_serials_rise_whatever_the_clock_does(void **state)
{
    (void)state;
    const int64_t steps_ms[] = {0, 1, 0, -1, -3600000, 5, 0, 3600000, -86400000, 2, 0, 0};
    struct serial_lane lane;
    uint8_t last[SERIAL_LEN] = {0}, next[SERIAL_LEN];

    serial_lane_init(&lane, 0, 0);
    for (int round = 0; round < 300; round++) {
        for (size_t i = 0; i < sizeof(steps_ms) / sizeof(steps_ms[0]); i++) {
            fake_wall_ns += (uint64_t)(steps_ms[i] * (int64_t)NS_PER_MS);
            serial_next(&lane, next);
            assert_serial_is_well_formed(next);
            assert_true(memcmp(last, next, 8) < 0);
            memcpy(last, next, sizeof(last));
        }
    }
}

static void test_serials_of_one_millisecond(void **state)
{
    (void)state;
    struct serial_lane lane;
    uint8_t last[SERIAL_LEN] = {0}, next[SERIAL_LEN];

    serial_lane_init(&lane, 7, 0);
    for (uint32_t i = 0; i < 5000; i++) {
        serial_next(&lane, next);
        assert_true(memcmp(last, next, 8) < 0);
        assert_int_equal(serial_block_ms(next), MS_2026 + i / 1024);
        assert_int_equal(next[6] >> 2, 7); /* the lane is in every serial, also past 1024 */
        memcpy(last, next, sizeof(last));
    }
}

static void test_serials_of_lanes_differ(void **state)
{
    (void)state;
    struct serial_lane lanes[CORES_MAX];
    uint8_t serials[CORES_MAX][SERIAL_LEN];

    for (uint32_t core = 0; core < CORES_MAX; core++) {
        serial_lane_init(&lanes[core], core, 0);
        serial_next(&lanes[core], serials[core]);
        for (uint32_t other = 0; other < core; other++)
            assert_memory_not_equal(serials[core], serials[other], 8);
    }
}

static void test_serials_start_past_the_store(void **state)
{
    (void)state;
    struct serial_lane lane;
    uint8_t next[SERIAL_LEN];

    serial_lane_init(&lane, 0, MS_2026 + 5000); /* the clock was set back before this start */
    serial_next(&lane, next);
    assert_int_equal(serial_block_ms(next), MS_2026 + 5001);
    serial_lane_init(&lane, 0, MS_2026 - 5000);
    serial_next(&lane, next);
    assert_int_equal(serial_block_ms(next), MS_2026);
}

static void test_serials_with_a_clock_that_was_never_set(void **state)
{
    (void)state;
    struct serial_lane lane;
    uint8_t next[SERIAL_LEN];

    fake_wall_ns = 0;
    serial_lane_init(&lane, 0, 0);
    serial_next(&lane, next);
    assert_serial_is_well_formed(next);
    fake_wall_ns = UINT64_MAX;
    serial_next(&lane, next);
    assert_serial_is_well_formed(next);
    serial_lane_init(&lane, CORES_MAX - 1, UINT64_MAX);
    serial_next(&lane, next);
    assert_serial_is_well_formed(next);
}

static void test_serials_end_in_64_random_bits(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    static uint8_t tails[COUNT][8];
    struct serial_lane lane;
    uint8_t next[SERIAL_LEN];

    serial_lane_init(&lane, 0, 0);
    for (size_t i = 0; i < COUNT; i++) { /* several fills of the pool */
        serial_next(&lane, next);
        memcpy(tails[i], next + 8, 8);
        for (size_t k = 0; k < i; k++)
            assert_memory_not_equal(tails[i], tails[k], 8);
    }
}

/* --- what is signed --- */

static void test_sign_input(void **state)
{
    (void)state;
    const struct bytes abc = BYTES_LIT("abc");
    /* RFC 8017 9.2, note 1 */
    const uint8_t info_sha256[] = {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                   0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20};
    const uint8_t info_sha384[] = {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                   0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30};
    const uint8_t info_sha512[] = {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                   0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40};
    const struct {
        enum sig_alg alg;
        struct bytes prefix;
        enum hash_alg hash;
    } cases[] = {
        {SIG_ECDSA_SHA256, {0}, HASH_SHA256},
        {SIG_ECDSA_SHA384, {0}, HASH_SHA384},
        {SIG_ECDSA_SHA512, {0}, HASH_SHA512},
        {SIG_RSA_PSS_SHA256, {0}, HASH_SHA256},
        {SIG_RSA_PSS_SHA384, {0}, HASH_SHA384},
        {SIG_RSA_PSS_SHA512, {0}, HASH_SHA512},
        {SIG_RSA_SHA256, BYTES_ARRAY(info_sha256), HASH_SHA256},
        {SIG_RSA_SHA384, BYTES_ARRAY(info_sha384), HASH_SHA384},
        {SIG_RSA_SHA512, BYTES_ARRAY(info_sha512), HASH_SHA512},
        {SIG_ED25519, {0}, HASH_NONE},
        {SIG_ML_DSA_44, {0}, HASH_NONE},
        {SIG_ML_DSA_65, {0}, HASH_NONE},
    };
    uint8_t out[256], digest[DIGEST_LEN_MAX];
    size_t len;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bytes tail = abc;
        if (cases[i].hash != HASH_NONE) {
            digest_once(cases[i].hash, abc, digest);
            tail = bytes_of(digest, hash_alg_len(cases[i].hash));
        }
        assert_int_equal(sign_input_build(cases[i].alg, abc, out, sizeof(out), &len), ERR_OK);
        assert_int_equal(len, cases[i].prefix.len + tail.len);
        if (cases[i].prefix.len > 0)
            assert_memory_equal(out, cases[i].prefix.ptr, cases[i].prefix.len);
        assert_memory_equal(out + cases[i].prefix.len, tail.ptr, tail.len);
        for (size_t cap = 0; cap < len; cap++) {
            size_t untouched = 77;
            assert_int_equal(sign_input_build(cases[i].alg, abc, out, cap, &untouched),
                             ERR_NO_SPACE);
            assert_int_equal(untouched, 77);
        }
    }
    assert_int_equal(sign_input_build(SIG_NONE, abc, out, sizeof(out), &len), ERR_BAD_ALG);
    assert_int_equal(sign_input_build(SIG_ALG_COUNT, abc, out, sizeof(out), &len), ERR_BAD_ALG);
}

static void test_assemble(void **state)
{
    (void)state;
    const uint8_t tbs[] = {0x30, 0x03, 0x02, 0x01, 0x05};
    const uint8_t signature[] = {0xde, 0xad};
    const uint8_t expected[] = {0x30, 0x16, 0x30, 0x03, 0x02, 0x01, 0x05, 0x30,
                                0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
                                0x04, 0x03, 0x02, 0x03, 0x03, 0x00, 0xde, 0xad};
    uint8_t out[64];
    size_t len;

    assert_int_equal(cert_assemble(BYTES_ARRAY(tbs), SIG_ECDSA_SHA256, BYTES_ARRAY(signature), out,
                                   sizeof(out), &len),
                     ERR_OK);
    assert_int_equal(len, sizeof(expected));
    assert_memory_equal(out, expected, len);
    for (size_t cap = 0; cap < sizeof(expected); cap++)
        assert_int_equal(cert_assemble(BYTES_ARRAY(tbs), SIG_ECDSA_SHA256, BYTES_ARRAY(signature),
                                       out, cap, &len),
                         ERR_NO_SPACE);
    assert_int_equal(
        cert_assemble(BYTES_ARRAY(tbs), SIG_NONE, BYTES_ARRAY(signature), out, sizeof(out), &len),
        ERR_BAD_ALG);
}

/* --- CA certificates --- */

struct ca {
    struct softkey *key;
    enum sig_alg alg;
    uint8_t spki[SPKI_DER_MAX];
    size_t spki_len;
    uint8_t subject[NAME_DER_MAX];
    size_t subject_len;
    uint8_t der[CERT_DER_MAX];
    struct x509_cert cert;
};

static const uint8_t serial_of_1[SERIAL_LEN] = {1};

static void ca_start(struct ca *ca, enum key_alg alg, const char *name)
{
    assert_int_equal(softkey_generate(alg, 2048, &ca->key), ERR_OK);
    ca->alg = sig_alg_default(alg);
    assert_int_equal(softkey_spki(ca->key, ca->spki, sizeof(ca->spki), &ca->spki_len), ERR_OK);
    assert_true(name_from_text(name, ca->subject, sizeof(ca->subject), &ca->subject_len));
}

static struct ca_cert_input input_of(const struct ca *ca, const struct ca *issuer, int32_t path_len)
{
    return (struct ca_cert_input){
        .subject = bytes_of(ca->subject, ca->subject_len),
        .spki = bytes_of(ca->spki, ca->spki_len),
        .issuer = issuer == NULL ? NULL : &issuer->cert,
        .sig_alg = issuer == NULL ? ca->alg : issuer->alg,
        .serial = serial_of_1,
        .not_before_s = 1767225600,
        .not_after_s = 1767225600 + 7305 * 86400ll,
        .path_len = path_len,
    };
}

/* As a token would: signs the sign input, not the TBS. */
static void sign_and_assemble(const struct ca *signer, struct bytes tbs, uint8_t *out, size_t cap,
                              size_t *out_len)
{
    uint8_t input[SIGN_INPUT_MAX], signature[SIGNATURE_MAX];
    size_t input_len, signature_len;
    bool is_digest = sig_alg_hash(signer->alg) != HASH_NONE;

    assert_int_equal(sign_input_build(signer->alg, tbs, input, sizeof(input), &input_len), ERR_OK);
    struct bytes data = bytes_of(input, input_len);
    if (signer->alg == SIG_RSA_SHA256) { /* a digest for softkey, which puts DigestInfo around it */
        data = bytes_of(input + input_len - SHA256_LEN, SHA256_LEN);
    }
    assert_int_equal(softkey_sign(signer->key, signer->alg, data, is_digest, signature,
                                  sizeof(signature), &signature_len),
                     ERR_OK);
    assert_int_equal(
        cert_assemble(tbs, signer->alg, bytes_of(signature, signature_len), out, cap, out_len),
        ERR_OK);
}

static void ca_certify(struct ca *ca, const struct ca *issuer, int32_t path_len)
{
    struct ca_cert_input input = input_of(ca, issuer, path_len);
    uint8_t tbs[4096];
    size_t tbs_len, len;

    assert_int_equal(ca_cert_tbs_build(&input, tbs, sizeof(tbs), &tbs_len), ERR_OK);
    sign_and_assemble(issuer == NULL ? ca : issuer, bytes_of(tbs, tbs_len), ca->der,
                      sizeof(ca->der), &len);
    assert_int_equal(x509_decode(bytes_of(ca->der, len), &ca->cert), ERR_OK);
}

static void test_ca_chain_verifies(void **state)
{
    (void)state;
    const enum key_alg algs[] = {KEY_EC_P256, KEY_EC_P384, KEY_RSA, KEY_ED25519};
    static struct trust_store store;
    const struct trust_anchor *anchor;

    for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
        struct ca root = {0}, sub = {0};
        ca_start(&root, algs[i], "CN=Root,O=Example");
        ca_start(&sub, KEY_EC_P256, "CN=Line 3,O=Example");
        ca_certify(&root, NULL, 1);
        ca_certify(&sub, &root, 0);

        assert_true(root.cert.is_ca && sub.cert.is_ca);
        assert_int_equal(root.cert.path_len, 1);
        assert_int_equal(sub.cert.path_len, 0);
        assert_int_equal(root.cert.key_usage, KU_KEY_CERT_SIGN | KU_CRL_SIGN);
        assert_true(bytes_eq(root.cert.issuer, root.cert.subject));
        assert_true(bytes_eq(sub.cert.issuer, root.cert.subject));
        assert_int_equal(root.cert.aki.len, 0);
        assert_true(bytes_eq(sub.cert.aki, root.cert.ski));
        assert_int_equal(sub.cert.ski.len, SHA1_LEN);
        assert_false(bytes_eq(sub.cert.ski, root.cert.ski));

        assert_int_equal(trust_store_add(&store, root.cert.der), ERR_OK);
        assert_int_equal(path_validate(&store, &sub.cert.der, 1, 1767225601, &anchor), ERR_OK);
        trust_store_clear(&store);
        softkey_free(root.key);
        softkey_free(sub.key);
    }
}

/* RFC 9810 4.4: the two keys of a CA certify each other, though its path length is 0. */
static void test_keys_of_one_ca_link(void **state)
{
    (void)state;
    static struct trust_store store;
    const struct trust_anchor *anchor;
    struct ca root = {0}, old = {0}, new = {0};
    ca_start(&root, KEY_EC_P256, "CN=Root,O=Example");
    ca_start(&old, KEY_EC_P256, "CN=Line 3,O=Example");
    ca_start(&new, KEY_EC_P384, "CN=Line 3,O=Example");
    ca_certify(&root, NULL, 1);
    ca_certify(&old, &root, 0);
    ca_certify(&new, &root, 0);
    struct ca old_with_new = old, new_with_old = new;
    ca_certify(&old_with_new, &new, 0);
    ca_certify(&new_with_old, &old, 0);
    assert_true(bytes_eq(old_with_new.cert.aki, new.cert.ski));
    assert_true(bytes_eq(old_with_new.cert.spki.der, old.cert.spki.der));
    assert_int_equal(trust_store_add(&store, new.cert.der), ERR_OK);
    assert_int_equal(path_validate(&store, &old_with_new.cert.der, 1, 1767225601, &anchor), ERR_OK);
    assert_int_equal(path_validate(&store, &new_with_old.cert.der, 1, 1767225601, &anchor),
                     ERR_CLIENT_CERT_UNTRUSTED);
    trust_store_clear(&store);
    softkey_free(root.key);
    softkey_free(old.key);
    softkey_free(new.key);
}

static void test_ca_refusals(void **state)
{
    (void)state;
    struct ca root = {0}, sub = {0};
    uint8_t tbs[4096];
    size_t len;

    ca_start(&root, KEY_EC_P256, "CN=Root");
    ca_start(&sub, KEY_EC_P256, "CN=Sub");
    ca_certify(&root, NULL, 1);
    struct ca_cert_input input = input_of(&sub, &root, 1); /* not below the issuer's */
    assert_int_equal(ca_cert_tbs_build(&input, tbs, sizeof(tbs), &len), ERR_BAD_TEMPLATE);
    input.path_len = 0;
    assert_int_equal(ca_cert_tbs_build(&input, tbs, sizeof(tbs), &len), ERR_OK);
    size_t full_len = len;
    for (size_t cap = 0; cap < full_len; cap++)
        assert_int_equal(ca_cert_tbs_build(&input, tbs, cap, &len), ERR_NO_SPACE);
    input.subject = BYTES_LIT("\x30\x00");
    assert_int_equal(ca_cert_tbs_build(&input, tbs, sizeof(tbs), &len), ERR_BAD_TEMPLATE);
    input = input_of(&sub, &root, 0);
    input.spki = BYTES_LIT("\x30\x00");
    assert_int_not_equal(ca_cert_tbs_build(&input, tbs, sizeof(tbs), &len), ERR_OK);
    input = input_of(&sub, &root, 0);
    input.sig_alg = SIG_NONE;
    assert_int_equal(ca_cert_tbs_build(&input, tbs, sizeof(tbs), &len), ERR_BAD_ALG);

    ca_certify(&root, NULL, 0); /* may certify devices alone */
    input = input_of(&sub, &root, -1);
    assert_int_equal(ca_cert_tbs_build(&input, tbs, sizeof(tbs), &len), ERR_BAD_TEMPLATE);
    root.cert.is_ca = false;
    assert_int_equal(ca_cert_tbs_build(&input, tbs, sizeof(tbs), &len), ERR_BAD_CERT);
    softkey_free(root.key);
    softkey_free(sub.key);
}

static void test_ca_csr(void **state)
{
    (void)state;
    struct ca ca = {0};
    struct cert_request request;
    uint8_t info[2048], csr[4096];
    size_t info_len, len;

    ca_start(&ca, KEY_EC_P256, "CN=Line 3,O=Example");
    struct bytes subject = bytes_of(ca.subject, ca.subject_len);
    struct bytes spki = bytes_of(ca.spki, ca.spki_len);
    assert_int_equal(ca_csr_info_build(subject, spki, info, sizeof(info), &info_len), ERR_OK);
    sign_and_assemble(&ca, bytes_of(info, info_len), csr, sizeof(csr), &len);
    assert_int_equal(csr_decode(bytes_of(csr, len), &request), ERR_OK);
    assert_true(bytes_eq(request.subject, subject));
    assert_true(bytes_eq(request.spki.der, spki));
    assert_non_null(extensions_find(&request.extensions, OID_EXT_BASIC_CONSTRAINTS));
    assert_non_null(extensions_find(&request.extensions, OID_EXT_KEY_USAGE));
    struct verify_job job = {.alg = request.pop_alg,
                             .spki = &request.spki,
                             .message = request.pop_message,
                             .signature = request.pop_signature};
    assert_int_equal(verify_one(&job), ERR_OK);
    assert_int_equal(ca_csr_info_build(subject, spki, info, info_len - 1, &len), ERR_NO_SPACE);
    assert_int_equal(ca_csr_info_build(BYTES_LIT("\x30\x00"), spki, info, sizeof(info), &len),
                     ERR_BAD_TEMPLATE);
    softkey_free(ca.key);
}

int main(void)
{
#define WITH_CLOCK(test) cmocka_unit_test_setup_teardown(test, use_fake_clock, use_system_clock)
    const struct CMUnitTest tests[] = {
        WITH_CLOCK(test_serials_rise_whatever_the_clock_does),
        WITH_CLOCK(test_serials_of_one_millisecond),
        WITH_CLOCK(test_serials_of_lanes_differ),
        WITH_CLOCK(test_serials_start_past_the_store),
        WITH_CLOCK(test_serials_with_a_clock_that_was_never_set),
        WITH_CLOCK(test_serials_end_in_64_random_bits),
        cmocka_unit_test(test_sign_input),
        cmocka_unit_test(test_assemble),
        cmocka_unit_test(test_ca_chain_verifies),
        cmocka_unit_test(test_keys_of_one_ca_link),
        cmocka_unit_test(test_ca_refusals),
        cmocka_unit_test(test_ca_csr),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
