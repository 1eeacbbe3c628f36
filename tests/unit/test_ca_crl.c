/* Does a list hold exactly the revocations it was given, signed, whatever their number, and what
 * does it cost? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "asn1/crl.h"
#include "asn1/der.h"
#include "ca/crl.h"
#include "ca/issue.h"
#include "crypto/softkey.h"
#include "crypto/verify.h"

#define THIS_S 1767225600ll
#define NEXT_S (THIS_S + 7 * 86400)

struct ca {
    struct softkey *key;
    uint8_t spki[SPKI_DER_MAX], subject[NAME_DER_MAX], der[CERT_DER_MAX];
    struct x509_cert cert;
    enum sig_alg alg;
};

/* As a token would: signs the sign input, not the message. */
static struct bytes sign(const struct ca *ca, struct bytes tbs)
{
    static uint8_t signature[SIGNATURE_MAX];
    uint8_t input[SIGN_INPUT_MAX];
    size_t input_len, len;
    bool is_digest = sig_alg_hash(ca->alg) != HASH_NONE;

    assert_int_equal(sign_input_build(ca->alg, tbs, input, sizeof(input), &input_len), ERR_OK);
    assert_int_equal(softkey_sign(ca->key, ca->alg, bytes_of(input, input_len), is_digest,
                                  signature, sizeof(signature), &len),
                     ERR_OK);
    return bytes_of(signature, len);
}

static void make_ca(struct ca *ca, enum key_alg alg)
{
    static const uint8_t serial[SERIAL_LEN] = {1};
    uint8_t tbs[2048];
    size_t spki_len, subject_len, tbs_len, len;

    *ca = (struct ca){.alg = sig_alg_default(alg)};
    assert_int_equal(softkey_generate(alg, 0, &ca->key), ERR_OK);
    assert_int_equal(softkey_spki(ca->key, ca->spki, sizeof(ca->spki), &spki_len), ERR_OK);
    assert_true(name_from_text("O=Plant,CN=Issuing", ca->subject, NAME_DER_MAX, &subject_len));
    struct ca_cert_input input = {
        .subject = bytes_of(ca->subject, subject_len),
        .spki = bytes_of(ca->spki, spki_len),
        .sig_alg = ca->alg,
        .serial = serial,
        .not_before_s = THIS_S,
        .not_after_s = THIS_S + 1000 * 86400,
        .path_len = -1,
    };
    assert_int_equal(ca_cert_tbs_build(&input, tbs, sizeof(tbs), &tbs_len), ERR_OK);
    assert_int_equal(cert_assemble(bytes_of(tbs, tbs_len), ca->alg,
                                   sign(ca, bytes_of(tbs, tbs_len)), ca->der, sizeof(ca->der),
                                   &len),
                     ERR_OK);
    assert_int_equal(x509_decode(bytes_of(ca->der, len), &ca->cert), ERR_OK);
}

static struct crl_input input_of(const struct ca *ca, uint64_t number)
{
    return (struct crl_input){&ca->cert, ca->alg, THIS_S, NEXT_S, number};
}

static void serial_of(uint64_t i, uint8_t out[SERIAL_LEN])
{
    memset(out, 0x5a, SERIAL_LEN);
    store_be64(out, 0x0123456700000000ull + i);
}

static uint8_t reason_of(uint64_t i)
{
    static const uint8_t reasons[] = {0, 1, 3, 4, 5, 6, 9};
    return reasons[i % sizeof(reasons)];
}

/* A signed list of so many entries, checked by our decoder and verifier. */
static struct bytes make_list(struct crl_builder *builder, const struct ca *ca, uint64_t count,
                              uint64_t number)
{
    struct crl_input input = input_of(ca, number);
    uint8_t serial[SERIAL_LEN];
    struct bytes tbs, der;

    crl_begin(builder, &input);
    for (uint64_t i = 0; i < count; i++) {
        serial_of(i, serial);
        crl_add(builder, BYTES_ARRAY(serial), THIS_S - (int64_t)i, reason_of(i));
    }
    assert_int_equal(crl_finish_tbs(builder, &tbs), ERR_OK);
    assert_int_equal(crl_assemble(builder, sign(ca, tbs), &der), ERR_OK);
    return der;
}

static void check_list(struct bytes der, const struct ca *ca, uint64_t count, uint64_t number)
{
    struct crl_view crl;
    struct crl_entry entry;
    uint8_t serial[SERIAL_LEN];
    uint64_t found_number;

    assert_int_equal(crl_decode(der, &crl), ERR_OK);
    assert_true(bytes_eq(crl.issuer, ca->cert.subject));
    assert_true(bytes_eq(crl.aki, ca->cert.ski));
    assert_true(crl_number(&crl, &found_number));
    assert_true(found_number == number);
    assert_true(crl.has_next_update && !crl.unknown_critical);
    assert_int_equal(crl.this_update_s, THIS_S);
    assert_int_equal(crl.next_update_s, NEXT_S);
    assert_int_equal(crl.entry_count, count);
    struct verify_job job = {
        .alg = crl.sig_alg, .spki = &ca->cert.spki, .message = crl.tbs, .signature = crl.signature};
    assert_int_equal(verify_one(&job), ERR_OK);
    struct bytes left = crl.entries;
    for (uint64_t i = 0; i < count; i++) {
        if (!crl_entry_next(&left, &entry))
            fail();
        serial_of(i, serial);
        if (!bytes_eq(entry.serial, BYTES_ARRAY(serial)) || entry.reason != reason_of(i) ||
            entry.has_reason != (reason_of(i) != 0) || entry.revoked_s != THIS_S - (int64_t)i)
            fail_msg("entry %llu differs", (unsigned long long)i);
    }
    assert_int_equal(left.len, 0);
}

static void test_lists_of_every_length(void **state)
{
    (void)state;
    /* around each length at which a header grows: 128, 2^8, 2^16 and 2^24 octets */
    const uint64_t counts[] = {0, 1, 2, 3, 4, 5, 6, 1300, 1337, 1400, 100000, 360000};
    struct ca ca;

    make_ca(&ca, KEY_EC_P256);
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        struct crl_builder builder = {0};
        struct bytes der = make_list(&builder, &ca, counts[i], counts[i] + 1);
        check_list(der, &ca, counts[i], counts[i] + 1);
        crl_builder_free(&builder);
    }
    softkey_free(ca.key);
}

static void test_every_kind_of_key(void **state)
{
    (void)state;
    const enum key_alg algs[] = {KEY_EC_P256, KEY_EC_P384, KEY_ED25519, KEY_ML_DSA_44};

    for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++) {
        struct crl_builder builder = {0};
        struct ca ca;
        make_ca(&ca, algs[i]);
        check_list(make_list(&builder, &ca, 20, UINT64_MAX), &ca, 20, UINT64_MAX);
        crl_builder_free(&builder);
        softkey_free(ca.key);
    }
}

static void test_serials_of_other_forms(void **state)
{
    (void)state;
    const uint8_t high[] = {0x80}, padded[] = {0, 0, 7};
    struct crl_builder builder = {0};
    struct bytes tbs, der;
    struct crl_view crl;
    struct crl_entry entry;
    struct ca ca;

    make_ca(&ca, KEY_EC_P256);
    struct crl_input input = input_of(&ca, 1);
    crl_begin(&builder, &input);
    crl_add(&builder, BYTES_ARRAY(high), 2524608000, 0); /* 2050: GeneralizedTime */
    crl_add(&builder, BYTES_ARRAY(padded), 2524607999, 0);
    assert_int_equal(crl_finish_tbs(&builder, &tbs), ERR_OK);
    assert_int_equal(crl_assemble(&builder, sign(&ca, tbs), &der), ERR_OK);
    assert_int_equal(crl_decode(der, &crl), ERR_OK);
    assert_true(crl_entry_next(&crl.entries, &entry));
    assert_true(bytes_eq(entry.serial, BYTES_LIT("\x00\x80")));
    assert_int_equal(entry.revoked_s, 2524608000);
    assert_true(crl_entry_next(&crl.entries, &entry));
    assert_true(bytes_eq(entry.serial, BYTES_LIT("\x07")));
    crl_builder_free(&builder);
    softkey_free(ca.key);
}

static void test_refusals(void **state)
{
    (void)state;
    struct crl_builder builder = {0};
    struct bytes view = {0};
    struct ca ca;

    make_ca(&ca, KEY_EC_P256);
    struct crl_input input = input_of(&ca, 1);
    input.sig_alg = SIG_NONE;
    crl_begin(&builder, &input);
    crl_add(&builder, BYTES_LIT("\x01"), THIS_S, 0);
    assert_int_equal(crl_finish_tbs(&builder, &view), ERR_BAD_ALG);
    assert_int_equal(crl_assemble(&builder, BYTES_LIT("x"), &view), ERR_BAD_ALG);
    crl_builder_free(&builder);

    struct x509_cert nameless = ca.cert;
    nameless.subject = BYTES_LIT("\x30\x00");
    input = input_of(&ca, 1);
    input.issuer = &nameless;
    crl_begin(&builder, &input);
    assert_int_equal(crl_finish_tbs(&builder, &view), ERR_BAD_TEMPLATE);
    crl_builder_free(&builder);

    input = input_of(&ca, 1);
    crl_begin(&builder, &input);
    crl_add(&builder, BYTES_LIT("\x01"), -2208988800, 0); /* 1900 has no UTCTime */
    crl_add(&builder, BYTES_LIT("\x02"), THIS_S, 0);
    assert_int_equal(crl_finish_tbs(&builder, &view), ERR_BAD_TEMPLATE);
    crl_builder_free(&builder);
    assert_null(view.ptr);
    softkey_free(ca.key);
}

static void test_its_bound(void **state)
{
    (void)state;
    struct crl_builder builder = {0};
    struct bytes view = {0};
    uint8_t serial[SERIAL_LEN];
    struct ca ca;

    make_ca(&ca, KEY_EC_P256);
    struct crl_input input = input_of(&ca, 1);
    crl_begin(&builder, &input);
    while (builder.err == ERR_OK && builder.entry_count < 10000000) {
        serial_of(builder.entry_count, serial);
        crl_add(&builder, BYTES_ARRAY(serial), THIS_S, 1);
    }
    assert_int_equal(builder.err, ERR_NO_SPACE);
    assert_in_range(builder.entry_count, 5400000, 5500000);
    assert_true(builder.cap <= CRL_DER_MAX);
    assert_int_equal(crl_finish_tbs(&builder, &view), ERR_NO_SPACE);
    crl_builder_free(&builder);
    softkey_free(ca.key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists_of_every_length),
        cmocka_unit_test(test_every_kind_of_key),
        cmocka_unit_test(test_serials_of_other_forms),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_its_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
