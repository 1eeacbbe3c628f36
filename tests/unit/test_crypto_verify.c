/* Does verification say yes to every good signature and no, with the right error, to everything
 * else, by all of its ways in: the key as bytes, an imported key, one job, a batch?
 *
 * vectors/crypto/verify.txt is written by vectors/crypto/generate.py, which says what each line is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "crypto/digest.h"
#include "crypto/softkey.h"
#include "crypto/verify.h"

enum { VECTORS_MAX = 4096, LINE_MAX_LEN = 32768, FIELDS = 6 };

struct vector {
    char *name;
    enum sig_alg alg;
    const char *expected;
    uint8_t *spki_der, *data, *signature;
    size_t spki_len, data_len, signature_len;
    bool is_digest;
    enum err spki_err;
    struct spki spki;
};

static struct vector vectors[VECTORS_MAX];
static size_t vector_count;

static uint8_t *unhex(const char *hex, size_t *out_len)
{
    size_t cap = strlen(hex) / 2;
    uint8_t *out = malloc(cap + 1);
    assert_non_null(out);
    if (strcmp(hex, "-") == 0) {
        *out_len = 0;
        return out;
    }
    assert_true(bytes_from_hex(bytes_of_str(hex), out, cap, out_len));
    return out;
}

static enum sig_alg sig_alg_named(const char *name)
{
    for (enum sig_alg alg = SIG_NONE + 1; alg < SIG_ALG_COUNT; alg++)
        if (strcmp(sig_alg_name(alg), name) == 0)
            return alg;
    fail_msg("no algorithm %s", name);
    return SIG_NONE;
}

static const char *code_named(const char *name)
{
    for (enum err err = ERR_OK; err < ERR_COUNT; err++)
        if (strcmp(err_code(err), name) == 0)
            return err_code(err);
    fail_msg("no error %s", name);
    return NULL;
}

static void parse(char *line, struct vector *out)
{
    char *field[FIELDS], *rest = line;
    for (int i = 0; i < FIELDS; i++) {
        field[i] = strsep(&rest, " ");
        assert_non_null(field[i]);
    }
    assert_null(rest);
    out->name = strdup(field[0]);
    out->alg = sig_alg_named(field[1]);
    out->expected = code_named(field[2]);
    out->spki_der = unhex(field[3], &out->spki_len);
    out->is_digest = field[4][0] == 'd';
    out->data = unhex(field[4] + 2, &out->data_len);
    out->signature = unhex(field[5], &out->signature_len);
    out->spki_err = spki_decode(bytes_of(out->spki_der, out->spki_len), &out->spki);
}

static int load(void **state)
{
    (void)state;
    FILE *file = fopen("vectors/crypto/verify.txt", "r");
    assert_non_null(file);
    static char line[LINE_MAX_LEN];
    while (fgets(line, sizeof line, file)) {
        size_t len = strcspn(line, "\n");
        assert_int_equal(line[len], '\n');
        line[len] = '\0';
        assert_true(vector_count < VECTORS_MAX);
        parse(line, &vectors[vector_count++]);
    }
    fclose(file);
    assert_true(vector_count > 1000);
    return 0;
}

static int unload(void **state)
{
    (void)state;
    for (size_t i = 0; i < vector_count; i++) {
        free(vectors[i].name);
        free(vectors[i].spki_der);
        free(vectors[i].data);
        free(vectors[i].signature);
    }
    return 0;
}

static struct verify_job job_of(const struct vector *v)
{
    struct verify_job job = {
        .alg = v->alg,
        .result = ERR_INTERNAL,
        .spki = &v->spki,
        .signature = bytes_of(v->signature, v->signature_len),
    };
    if (v->is_digest)
        job.digest = bytes_of(v->data, v->data_len);
    else
        job.message = bytes_of(v->data, v->data_len);
    return job;
}

static void check(const struct vector *v, enum err got, const char *how)
{
    if (strcmp(err_code(got), v->expected) != 0)
        fail_msg("%s by %s: %s, expected %s", v->name, how, err_code(got), v->expected);
}

static void test_each_vector(void **state)
{
    (void)state;
    for (size_t i = 0; i < vector_count; i++) {
        const struct vector *v = &vectors[i];
        if (v->spki_err) { /* what the decoder already refuses */
            check(v, v->spki_err, "spki_decode");
            continue;
        }
        struct verify_job job = job_of(v);
        check(v, verify_one(&job), "verify_one");
        enum hash_alg hash = sig_alg_hash(v->alg);
        if (!v->is_digest && hash != HASH_NONE) {
            uint8_t digest[DIGEST_LEN_MAX];
            digest_once(hash, job.message, digest);
            job.message = (struct bytes){0};
            job.digest = bytes_of(digest, hash_alg_len(hash));
            check(v, verify_one(&job), "verify_one with the digest");
        }
    }
}

static void test_each_vector_with_an_imported_key(void **state)
{
    (void)state;
    size_t imported = 0;
    for (size_t i = 0; i < vector_count; i++) {
        const struct vector *v = &vectors[i];
        if (v->spki_err)
            continue;
        struct verify_key *key = verify_key_new(&v->spki);
        if (strcmp(v->expected, "bad-key") == 0)
            assert_null(key);
        if (strcmp(v->expected, "ok") == 0)
            assert_non_null(key);
        if (key) {
            struct verify_job job = job_of(v);
            job.spki = NULL;
            job.key = key;
            check(v, verify_one(&job), "verify_one with an imported key");
            imported++;
        }
        verify_key_free(key);
    }
    assert_true(imported > vector_count / 2);
}

/* Batches of every size up to 40, good and bad together, some with imported keys. */
static void test_batches(void **state)
{
    (void)state;
    size_t next = 0;
    srand(1);
    for (size_t size = 0; size <= 40; size++) {
        for (int round = 0; round < 8; round++) {
            struct verify_job jobs[40], *pointers[40];
            const struct vector *from[40];
            struct verify_key *keys[40] = {0};
            for (size_t n = 0; n < size; n++) {
                do
                    next = (next + (size_t)rand() % 97 + 1) % vector_count;
                while (vectors[next].spki_err);
                from[n] = &vectors[next];
                jobs[n] = job_of(from[n]);
                if (rand() % 4 == 0) {
                    keys[n] = verify_key_new(&from[n]->spki);
                    jobs[n].key = keys[n];
                }
                pointers[n] = &jobs[n];
            }
            verify_batch(pointers, size);
            for (size_t n = 0; n < size; n++) {
                check(from[n], jobs[n].result, "verify_batch");
                verify_key_free(keys[n]);
            }
        }
    }
}

/* All of them at once, in the order of the file: whole groups of one curve. */
static void test_one_large_batch(void **state)
{
    (void)state;
    static struct verify_job jobs[VECTORS_MAX], *pointers[VECTORS_MAX];
    static const struct vector *from[VECTORS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < vector_count; i++) {
        if (vectors[i].spki_err)
            continue;
        from[count] = &vectors[i];
        jobs[count] = job_of(&vectors[i]);
        pointers[count] = &jobs[count];
        count++;
    }
    verify_batch(pointers, count);
    for (size_t i = 0; i < count; i++)
        check(from[i], jobs[i].result, "verify_batch");
}

static const struct vector *vector_named(const char *name)
{
    for (size_t i = 0; i < vector_count; i++)
        if (strcmp(vectors[i].name, name) == 0)
            return &vectors[i];
    fail_msg("no vector %s", name);
    return NULL;
}

static void test_algorithm_and_key_must_fit(void **state)
{
    (void)state;
    struct verify_job job = job_of(vector_named("p256-good"));
    job.alg = SIG_RSA_SHA256;
    assert_int_equal(verify_one(&job), ERR_BAD_ALG);
    job.alg = SIG_NONE;
    assert_int_equal(verify_one(&job), ERR_BAD_ALG);
    job.alg = SIG_ED25519;
    assert_int_equal(verify_one(&job), ERR_BAD_ALG);
    job.alg = SIG_ALG_COUNT;
    assert_int_equal(verify_one(&job), ERR_BAD_ALG);
    job = job_of(vector_named("p256-good"));
    job.spki = NULL;
    assert_int_equal(verify_one(&job), ERR_BAD_ALG);
    struct spki none = {0};
    job.spki = &none;
    assert_int_equal(verify_one(&job), ERR_BAD_ALG);
}

/* Keys that no decoder lets through, made by hand: verification does not rely on the decoder. */
static void test_malformed_points(void **state)
{
    (void)state;
    const struct vector *good = vector_named("p256-good");
    uint8_t point[66] = {0};
    struct spki spki = good->spki;
    struct verify_job job = job_of(good);
    job.spki = &spki;
    memcpy(point, good->spki.key.ptr, 65);
    spki.key = bytes_of(point, 65);
    assert_int_equal(verify_one(&job), ERR_OK);
    static const struct {
        uint8_t first;
        size_t len;
    } cases[] = {{0, 1},  {0, 65}, {4, 64}, {4, 66}, {4, 33},
                 {2, 33}, {3, 33}, {5, 65}, {4, 1},  {4, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        point[0] = cases[i].first;
        spki.key = bytes_of(point, cases[i].len);
        assert_int_equal(verify_one(&job), ERR_BAD_KEY);
    }
    /* a P-384 key that says it is P-256 */
    spki = vector_named("p384-good")->spki;
    spki.alg = KEY_EC_P256;
    assert_int_equal(verify_one(&job), ERR_BAD_KEY);
}

static void test_malformed_rsa_keys(void **state)
{
    (void)state;
    const struct vector *good = vector_named("rsa2048-sha256-good");
    static const uint8_t one[] = {1}, even[] = {1, 0}, large[] = {1, 0, 0, 0, 1}, none[1];
    struct verify_job job = job_of(good);
    struct spki spki = good->spki;
    job.spki = &spki;
    assert_int_equal(verify_one(&job), ERR_OK);
    const struct bytes exponents[] = {bytes_of(one, 1), bytes_of(even, 2), bytes_of(large, 5),
                                      bytes_of(none, 1), bytes_of(none, 0)};
    for (size_t i = 0; i < sizeof exponents / sizeof *exponents; i++) {
        spki.exponent = exponents[i];
        assert_int_equal(verify_one(&job), ERR_BAD_KEY);
    }
    spki.exponent = good->spki.exponent;
    spki.modulus.len = 255; /* shorter than 2048 bits; then even; then none */
    assert_int_equal(verify_one(&job), ERR_BAD_KEY);
    uint8_t modulus[513];
    memset(modulus, 0xff, sizeof modulus);
    spki.modulus = bytes_of(modulus, 513);
    assert_int_equal(verify_one(&job), ERR_BAD_KEY);
    modulus[255] = 0xfe;
    spki.modulus = bytes_of(modulus, 256);
    assert_int_equal(verify_one(&job), ERR_BAD_KEY);
    spki.modulus = (struct bytes){0};
    assert_int_equal(verify_one(&job), ERR_BAD_KEY);
}

static void test_a_digest_of_another_length_is_refused(void **state)
{
    (void)state;
    struct verify_job job = job_of(vector_named("p256-good"));
    uint8_t longer[33] = {0};
    memcpy(longer, job.digest.ptr, 32);
    job.digest = bytes_of(longer, 33);
    assert_int_equal(verify_one(&job), ERR_BAD_SIGNATURE);
    job.digest = bytes_of(longer, 31);
    assert_int_equal(verify_one(&job), ERR_BAD_SIGNATURE);
}

/* Fresh keys and messages: what one half of wolfCrypt signs, verification takes; one bit less, not.
 */
static void test_random_signatures(void **state)
{
    (void)state;
    static const struct {
        enum key_alg key;
        enum sig_alg sig;
        int rounds;
    } kinds[] = {{KEY_EC_P256, SIG_ECDSA_SHA256, 300}, {KEY_EC_P256, SIG_ECDSA_SHA384, 20},
                 {KEY_EC_P256, SIG_ECDSA_SHA512, 20},  {KEY_EC_P384, SIG_ECDSA_SHA256, 20},
                 {KEY_EC_P384, SIG_ECDSA_SHA384, 40},  {KEY_ED25519, SIG_ED25519, 40},
                 {KEY_ML_DSA_44, SIG_ML_DSA_44, 5},    {KEY_ML_DSA_65, SIG_ML_DSA_65, 5}};
    srand(2);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        for (int round = 0; round < kinds[k].rounds; round++) {
            struct softkey *soft;
            uint8_t spki_der[SPKI_DER_MAX], signature[4096], message[64];
            size_t spki_len, len;
            struct spki spki;
            for (size_t i = 0; i < sizeof message; i++)
                message[i] = (uint8_t)rand();
            struct bytes text = bytes_of(message, (size_t)rand() % sizeof message);
            assert_int_equal(softkey_generate(kinds[k].key, 0, &soft), ERR_OK);
            assert_int_equal(softkey_spki(soft, spki_der, sizeof spki_der, &spki_len), ERR_OK);
            assert_int_equal(spki_decode(bytes_of(spki_der, spki_len), &spki), ERR_OK);
            assert_int_equal(
                softkey_sign(soft, kinds[k].sig, text, false, signature, sizeof signature, &len),
                ERR_OK);
            struct verify_key *key = verify_key_new(&spki);
            assert_non_null(key);
            struct verify_job plain = {.alg = kinds[k].sig,
                                       .spki = &spki,
                                       .message = text,
                                       .signature = bytes_of(signature, len)};
            struct verify_job imported = plain;
            imported.key = key;
            assert_int_equal(verify_one(&plain), ERR_OK);
            assert_int_equal(verify_one(&imported), ERR_OK);
            size_t bit = (size_t)rand() % (8 * len);
            signature[bit / 8] ^= (uint8_t)(1 << bit % 8);
            assert_int_equal(verify_one(&plain), ERR_BAD_SIGNATURE);
            assert_int_equal(verify_one(&imported), ERR_BAD_SIGNATURE);
            signature[bit / 8] ^= (uint8_t)(1 << bit % 8);
            message[0] ^= 1;
            plain.message = imported.message = bytes_of(message, text.len ? text.len : 1);
            assert_int_equal(verify_one(&plain), ERR_BAD_SIGNATURE);
            assert_int_equal(verify_one(&imported), ERR_BAD_SIGNATURE);
            verify_key_free(key);
            softkey_free(soft);
        }
    }
}

static void test_raw_and_der_forms(void **state)
{
    (void)state;
    uint8_t raw[96] = {0}, back[96], der[110];
    size_t len;
    raw[31] = 1;
    raw[32] = 0x80;
    raw[63] = 2;
    assert_true(ecdsa_raw_to_der(bytes_of(raw, 64), der, sizeof der, &len));
    static const uint8_t expected_head[] = {0x30, 0x26, 0x02, 0x01, 0x01, 0x02, 0x21, 0x00, 0x80};
    assert_int_equal(len, 40);
    assert_memory_equal(der, expected_head, sizeof expected_head);
    assert_true(ecdsa_der_to_raw(bytes_of(der, len), back, 32));
    assert_memory_equal(back, raw, 64);
    memset(back, 0x55, sizeof back);
    assert_false(ecdsa_der_to_raw(bytes_of(der, len), back, 31)); /* s is too long */
    assert_int_equal(back[0], 0x55);                              /* untouched on failure */
    assert_true(ecdsa_der_to_raw(bytes_of(der, len), back, 48));
    assert_int_equal(back[47], 1);
    for (size_t cap = 0; cap < len; cap++)
        assert_false(ecdsa_raw_to_der(bytes_of(raw, 64), der, cap, &len));
    assert_false(ecdsa_raw_to_der(bytes_of(raw, 63), der, sizeof der, &len));
    assert_false(ecdsa_raw_to_der(bytes_of(raw, 0), der, sizeof der, &len));
    raw[31] = 0; /* r = 0 */
    assert_false(ecdsa_raw_to_der(bytes_of(raw, 64), der, sizeof der, &len));
    memset(raw, 0xff, sizeof raw); /* the longest: two numbers with sign octets */
    assert_true(ecdsa_raw_to_der(bytes_of(raw, 96), der, 2 * (48 + 3) + 4, &len));
    assert_int_equal(len, 104);
    assert_true(ecdsa_der_to_raw(bytes_of(der, len), back, 48));
    assert_memory_equal(back, raw, 96);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_vector),
        cmocka_unit_test(test_each_vector_with_an_imported_key),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_one_large_batch),
        cmocka_unit_test(test_algorithm_and_key_must_fit),
        cmocka_unit_test(test_malformed_points),
        cmocka_unit_test(test_malformed_rsa_keys),
        cmocka_unit_test(test_a_digest_of_another_length_is_refused),
        cmocka_unit_test(test_random_signatures),
        cmocka_unit_test(test_raw_and_der_forms),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
