/* Are keys in software read in every form that the openssl command writes, written so that it reads
 * them back, and do they sign so that it and we agree, from many threads at once?
 *
 * vectors/crypto/keys is written by vectors/crypto/generate.py.
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
#include <pthread.h>

#include "asn1/der.h"
#include "crypto/digest.h"
#include "crypto/softkey.h"
#include "crypto/verify.h"

enum { DER_MAX = 8192, SIG_MAX = 4096 };

static size_t load_file(const char *name, const char *form, uint8_t out[DER_MAX])
{
    char path[128];
    snprintf(path, sizeof path, "vectors/crypto/keys/%s.%s.der", name, form);
    FILE *file = fopen(path, "rb");
    if (!file)
        return 0;
    size_t len = fread(out, 1, DER_MAX, file);
    fclose(file);
    return len;
}

static const struct kind {
    const char *name;
    enum key_alg key;
    uint32_t bits;
    enum sig_alg sigs[4];
} kinds[] = {
    {"p256", KEY_EC_P256, 256, {SIG_ECDSA_SHA256, SIG_ECDSA_SHA384, SIG_ECDSA_SHA512}},
    {"p384", KEY_EC_P384, 384, {SIG_ECDSA_SHA256, SIG_ECDSA_SHA384, SIG_ECDSA_SHA512}},
    {"rsa2048", KEY_RSA, 2048, {SIG_RSA_SHA256, SIG_RSA_SHA512, SIG_RSA_PSS_SHA256}},
    {"rsa3072", KEY_RSA, 3072, {SIG_RSA_SHA384, SIG_RSA_PSS_SHA384}},
    {"rsa4096", KEY_RSA, 4096, {SIG_RSA_SHA512, SIG_RSA_PSS_SHA512}},
    {"ed25519", KEY_ED25519, 256, {SIG_ED25519}},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static struct softkey *import_file(const struct kind *kind, const char *form)
{
    uint8_t der[DER_MAX];
    size_t len = load_file(kind->name, form, der);
    struct softkey *key = NULL;
    if (len == 0)
        return NULL;
    if (softkey_import(bytes_of(der, len), &key))
        fail_msg("%s.%s is not read", kind->name, form);
    return key;
}

static void check_signatures(const struct softkey *key, const struct kind *kind)
{
    uint8_t spki_der[SPKI_DER_MAX], signature[SIG_MAX], digest[DIGEST_LEN_MAX];
    size_t spki_len, len;
    struct spki spki;
    struct bytes message = BYTES_LIT("signed by software");
    assert_int_equal(softkey_spki(key, spki_der, sizeof spki_der, &spki_len), ERR_OK);
    assert_int_equal(spki_decode(bytes_of(spki_der, spki_len), &spki), ERR_OK);
    for (int i = 0; i < 4 && kind->sigs[i]; i++) {
        enum hash_alg hash = sig_alg_hash(kind->sigs[i]);
        for (int as_digest = 0; as_digest <= (hash != HASH_NONE); as_digest++) {
            struct bytes data = message;
            if (as_digest) {
                digest_once(hash, message, digest);
                data = bytes_of(digest, hash_alg_len(hash));
            }
            assert_int_equal(softkey_sign(key, kind->sigs[i], data, as_digest, signature,
                                          sizeof signature, &len),
                             ERR_OK);
            struct verify_job job = {.alg = kind->sigs[i],
                                     .spki = &spki,
                                     .message = message,
                                     .signature = bytes_of(signature, len)};
            assert_int_equal(verify_one(&job), ERR_OK);
        }
    }
}

static void test_openssl_keys_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        static const char *const forms[] = {"pkcs8", "own"};
        for (size_t f = 0; f < 2; f++) {
            struct softkey *key = import_file(&kinds[i], forms[f]);
            if (!key) {
                assert_string_equal(kinds[i].name, "ed25519"); /* has no form of its own */
                continue;
            }
            assert_int_equal(softkey_alg(key), kinds[i].key);
            assert_int_equal(softkey_bits(key), kinds[i].bits);
            uint8_t expected[DER_MAX], got[DER_MAX];
            size_t expected_len = load_file(kinds[i].name, "spki", expected), len;
            assert_int_equal(softkey_spki(key, got, sizeof got, &len), ERR_OK);
            assert_int_equal(len, expected_len);
            assert_memory_equal(got, expected, len);
            /* what we write is what openssl wrote */
            expected_len = load_file(kinds[i].name, "pkcs8", expected);
            assert_int_equal(softkey_export(key, got, sizeof got, &len), ERR_OK);
            assert_int_equal(len, expected_len);
            assert_memory_equal(got, expected, len);
            check_signatures(key, &kinds[i]);
            softkey_free(key);
        }
    }
}

static void write_file(const char *path, struct bytes data)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data.ptr, 1, data.len, file), data.len);
    fclose(file);
}

/* Fresh keys and signatures, judged by the openssl command. */
static void test_openssl_takes_what_we_sign(void **state)
{
    (void)state;
    char folder[] = "/tmp/certmill-softkey-XXXXXX", path[4][64], command[512];
    assert_non_null(mkdtemp(folder));
    static const char *const names[] = {"spki", "message", "signature", "key"};
    for (int i = 0; i < 4; i++)
        snprintf(path[i], sizeof path[i], "%s/%s", folder, names[i]);
    struct bytes message = BYTES_LIT("signed by software, judged by openssl");
    write_file(path[1], message);
    for (size_t i = 0; i < KINDS; i++) {
        if (kinds[i].bits > 3000)
            continue; /* takes long, and 2048 shows as much */
        struct softkey *key;
        uint8_t buf[DER_MAX];
        size_t len;
        assert_int_equal(softkey_generate(kinds[i].key, kinds[i].bits, &key), ERR_OK);
        assert_int_equal(softkey_spki(key, buf, sizeof buf, &len), ERR_OK);
        write_file(path[0], bytes_of(buf, len));
        assert_int_equal(softkey_export(key, buf, sizeof buf, &len), ERR_OK);
        write_file(path[3], bytes_of(buf, len));
        snprintf(command, sizeof command,
                 "openssl pkey -inform DER -in %s -check -noout >/dev/null 2>&1", path[3]);
        assert_int_equal(system(command), 0);
        for (int s = 0; s < 4 && kinds[i].sigs[s]; s++) {
            enum sig_alg alg = kinds[i].sigs[s];
            assert_int_equal(softkey_sign(key, alg, message, false, buf, sizeof buf, &len), ERR_OK);
            write_file(path[2], bytes_of(buf, len));
            bool pss = alg >= SIG_RSA_PSS_SHA256 && alg <= SIG_RSA_PSS_SHA512;
            if (alg == SIG_ED25519)
                snprintf(command, sizeof command,
                         "openssl pkeyutl -verify -pubin -keyform DER -inkey %s -rawin -in %s "
                         "-sigfile %s >/dev/null",
                         path[0], path[1], path[2]);
            else
                snprintf(
                    command, sizeof command,
                    "openssl dgst -sha%zu -keyform DER %s -verify %s -signature %s %s >/dev/null",
                    8 * hash_alg_len(sig_alg_hash(alg)),
                    pss ? "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest" : "",
                    path[0], path[2], path[1]);
            if (system(command) != 0)
                fail_msg("openssl refuses %s by %s", sig_alg_name(alg), kinds[i].name);
        }
        softkey_free(key);
    }
    for (int i = 0; i < 4; i++)
        unlink(path[i]);
    rmdir(folder);
}

static void test_ml_dsa_round_trip(void **state)
{
    (void)state;
    static const struct {
        enum key_alg key;
        enum sig_alg sig;
    } both[] = {{KEY_ML_DSA_44, SIG_ML_DSA_44}, {KEY_ML_DSA_65, SIG_ML_DSA_65}};
    for (int i = 0; i < 2; i++) {
        struct softkey *key, *again;
        uint8_t der[DER_MAX], spki[DER_MAX], spki_again[DER_MAX];
        size_t len, spki_len, again_len;
        assert_int_equal(softkey_generate(both[i].key, 0, &key), ERR_OK);
        assert_int_equal(softkey_export(key, der, sizeof der, &len), ERR_OK);
        assert_int_equal(softkey_import(bytes_of(der, len), &again), ERR_OK);
        assert_int_equal(softkey_spki(key, spki, sizeof spki, &spki_len), ERR_OK);
        assert_int_equal(softkey_spki(again, spki_again, sizeof spki_again, &again_len), ERR_OK);
        assert_int_equal(spki_len, again_len);
        assert_memory_equal(spki, spki_again, spki_len);
        struct kind kind = {"", both[i].key, 0, {both[i].sig}};
        check_signatures(again, &kind);
        softkey_free(key);
        softkey_free(again);
    }
}

/* Every prefix and every flipped bit: an error or a key, never a crash; and never another key. */
static void test_damaged_keys(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        static const char *const forms[] = {"pkcs8", "own"};
        for (size_t f = 0; f < 2; f++) {
            uint8_t der[DER_MAX], spki[DER_MAX], got[DER_MAX];
            size_t len = load_file(kinds[i].name, forms[f], der), got_len;
            size_t spki_len = load_file(kinds[i].name, "spki", spki);
            struct softkey *key = NULL;
            for (size_t n = 0; n < len; n++)
                assert_int_not_equal(softkey_import(bytes_of(der, n), &key), ERR_OK);
            for (size_t bit = 0; bit < 8 * len; bit += kinds[i].key == KEY_RSA ? 397 : 5) {
                der[bit / 8] ^= (uint8_t)(1 << bit % 8);
                if (softkey_import(bytes_of(der, len), &key) == ERR_OK) {
                    assert_int_equal(softkey_spki(key, got, sizeof got, &got_len), ERR_OK);
                    /* EC and RSA hold their public half too, so a changed key is noticed */
                    if (kinds[i].key != KEY_ED25519) {
                        assert_int_equal(got_len, spki_len);
                        assert_memory_equal(got, spki, spki_len);
                    }
                    softkey_free(key);
                }
                der[bit / 8] ^= (uint8_t)(1 << bit % 8);
            }
            der[len] = 0;
            if (len)
                assert_int_not_equal(softkey_import(bytes_of(der, len + 1), &key), ERR_OK);
        }
    }
}

/* SEC 1 3.2.1: 1 <= d <= n - 1 */
static void test_scalars_out_of_range(void **state)
{
    (void)state;
    static const char *const scalars[] = {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551",
        "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632552",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550", /* the last good one */
    };
    for (size_t i = 0; i < 5; i++) {
        uint8_t d[32], buf[64];
        size_t len;
        struct softkey *key;
        assert_true(bytes_from_hex(bytes_of_str(scalars[i]), d, sizeof d, &len));
        struct der_builder der = der_builder_of(buf, sizeof buf);
        der_open(&der, DER_SEQUENCE); /* RFC 5915 */
        der_put_u64(&der, DER_INTEGER, 1);
        der_put(&der, DER_OCTET_STRING, BYTES_ARRAY(d));
        der_open(&der, DER_CONTEXT_CONSTRUCTED(0));
        der_put_raw(&der, BYTES_LIT("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"));
        der_close(&der);
        der_close(&der);
        struct bytes all;
        assert_true(der_finish(&der, &all));
        assert_int_equal(softkey_import(all, &key), i == 4 ? ERR_OK : ERR_BAD_KEY);
        if (i == 4)
            softkey_free(key);
    }
}

static void test_misuse_is_refused(void **state)
{
    (void)state;
    struct softkey *key;
    uint8_t out[SIG_MAX];
    size_t len = 99;
    assert_int_equal(softkey_generate(KEY_NONE, 0, &key), ERR_BAD_ALG);
    assert_int_equal(softkey_generate(KEY_RSA, 1024, &key), ERR_BAD_KEY);
    assert_int_equal(softkey_generate(KEY_EC_P256, 0, &key), ERR_OK);
    struct bytes text = BYTES_LIT("x");
    assert_int_equal(softkey_sign(key, SIG_ED25519, text, false, out, sizeof out, &len),
                     ERR_BAD_ALG);
    assert_int_equal(softkey_sign(key, SIG_ECDSA_SHA256, text, true, out, sizeof out, &len),
                     ERR_BAD_ALG);
    for (size_t cap = 0; cap < 60; cap++)
        assert_int_equal(softkey_sign(key, SIG_ECDSA_SHA256, text, false, out, cap, &len),
                         ERR_NO_SPACE);
    assert_int_equal(softkey_spki(key, out, 90, &len), ERR_NO_SPACE);
    assert_int_equal(softkey_export(key, out, 130, &len), ERR_NO_SPACE);
    assert_int_equal(len, 99); /* untouched on failure */
    softkey_free(key);
    softkey_free(NULL);
}

struct worker {
    const struct softkey *key;
    const struct kind *kind;
    int rounds;
    pthread_t thread;
    bool good;
};

static void *work(void *own)
{
    struct worker *worker = own;
    uint8_t spki_der[SPKI_DER_MAX], signature[SIG_MAX];
    size_t spki_len, len;
    struct spki spki;
    worker->good = !softkey_spki(worker->key, spki_der, sizeof spki_der, &spki_len) &&
                   !spki_decode(bytes_of(spki_der, spki_len), &spki);
    for (int i = 0; i < worker->rounds && worker->good; i++) {
        struct verify_job job = {
            .alg = worker->kind->sigs[0], .spki = &spki, .message = bytes_of(&i, sizeof i)};
        worker->good = !softkey_sign(worker->key, job.alg, job.message, false, signature,
                                     sizeof signature, &len);
        job.signature = bytes_of(signature, len);
        worker->good = worker->good && verify_one(&job) == ERR_OK;
    }
    return NULL;
}

static void test_one_key_on_many_threads(void **state)
{
    (void)state;
    for (size_t i = 0; i < KINDS; i++) {
        struct softkey *key = import_file(&kinds[i], "pkcs8");
        struct worker workers[4];
        for (int t = 0; t < 4; t++) {
            workers[t] = (struct worker){
                .key = key, .kind = &kinds[i], .rounds = kinds[i].key == KEY_RSA ? 4 : 100};
            assert_int_equal(pthread_create(&workers[t].thread, NULL, work, &workers[t]), 0);
        }
        for (int t = 0; t < 4; t++) {
            pthread_join(workers[t].thread, NULL);
            assert_true(workers[t].good);
        }
        softkey_free(key);
    }
}

/* ECDSA nonces: two signatures over one digest share no r. */
static void test_nonces_differ(void **state)
{
    (void)state;
    struct softkey *key;
    uint8_t sig[64][80], raw[64][64], digest[32] = {7};
    size_t len;
    assert_int_equal(softkey_generate(KEY_EC_P256, 0, &key), ERR_OK);
    for (int i = 0; i < 64; i++) {
        assert_int_equal(
            softkey_sign(key, SIG_ECDSA_SHA256, BYTES_ARRAY(digest), true, sig[i], 80, &len),
            ERR_OK);
        assert_true(ecdsa_der_to_raw(bytes_of(sig[i], len), raw[i], 32));
        for (int j = 0; j < i; j++)
            assert_memory_not_equal(raw[i], raw[j], 32);
    }
    softkey_free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_openssl_keys_are_read),
        cmocka_unit_test(test_openssl_takes_what_we_sign),
        cmocka_unit_test(test_ml_dsa_round_trip),
        cmocka_unit_test(test_damaged_keys),
        cmocka_unit_test(test_scalars_out_of_range),
        cmocka_unit_test(test_misuse_is_refused),
        cmocka_unit_test(test_one_key_on_many_threads),
        cmocka_unit_test(test_nonces_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
