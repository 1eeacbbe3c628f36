/* The crypto floor: what the signatures of one issuance cost here and now, with nothing around
 * them. */
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "base/clock.h"
#include "bench/bench.h"
#include "crypto/digest.h"
#include "crypto/softkey.h"
#include "crypto/verify.h"

enum { FLOOR_KEYS_MIN = 160, FLOOR_KEYS_MAX = 1600, FLOOR_PASSES = 5, FLOOR_BATCH = 32 };

struct floor_case {
    uint8_t spki_der[128];
    size_t spki_len;
    struct spki spki;
    uint8_t signature[80];
    size_t signature_len;
};

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double values[FLOOR_PASSES])
{
    qsort(values, FLOOR_PASSES, sizeof(values[0]), compare_doubles);
    return values[FLOOR_PASSES / 2];
}

static bool make_case(struct floor_case *c, struct bytes message)
{
    struct softkey *key = NULL;
    bool good = softkey_generate(KEY_EC_P256, 0, &key) == ERR_OK &&
                softkey_spki(key, c->spki_der, sizeof(c->spki_der), &c->spki_len) == ERR_OK &&
                spki_decode(bytes_of(c->spki_der, c->spki_len), &c->spki) == ERR_OK &&
                softkey_sign(key, SIG_ECDSA_SHA256, message, false, c->signature,
                             sizeof(c->signature), &c->signature_len) == ERR_OK;
    softkey_free(key);
    return good;
}

static double since_us(uint64_t start_ns, uint32_t count)
{
    return (double)(clock_mono_ns() - start_ns) / 1000.0 / count;
}

static bool verify_pass(struct floor_case *cases, uint32_t keys, struct bytes message, struct verify_key *key,
                        double *out_us)
{
    uint64_t start = clock_mono_ns();
    bool good = true;
    for (uint32_t i = 0; i < keys; i++) {
        struct floor_case *c = key ? &cases[0] : &cases[i];
        struct verify_job job = {.alg = SIG_ECDSA_SHA256,
                                 .spki = &c->spki,
                                 .key = key,
                                 .message = message,
                                 .signature = bytes_of(c->signature, c->signature_len)};
        good &= verify_one(&job) == ERR_OK;
    }
    *out_us = since_us(start, keys);
    return good;
}

static bool batch_pass(struct floor_case *cases, uint32_t keys, struct bytes message, struct verify_key *key,
                       double *out_us)
{
    uint64_t start = clock_mono_ns();
    bool good = true;
    for (uint32_t i = 0; i < keys; i += FLOOR_BATCH) {
        struct verify_job jobs[FLOOR_BATCH], *batch[FLOOR_BATCH];
        for (uint32_t k = 0; k < FLOOR_BATCH; k++) {
            struct floor_case *c = key ? &cases[0] : &cases[i + k];
            jobs[k] = (struct verify_job){.alg = SIG_ECDSA_SHA256,
                                          .spki = &c->spki,
                                          .key = key,
                                          .message = message,
                                          .signature = bytes_of(c->signature, c->signature_len)};
            batch[k] = &jobs[k];
        }
        verify_batch(batch, FLOOR_BATCH);
        for (uint32_t k = 0; k < FLOOR_BATCH; k++) {
            good &= jobs[k].result == ERR_OK;
        }
    }
    *out_us = since_us(start, keys);
    return good;
}

static bool openssl_pass(struct floor_case *cases, uint32_t keys, struct bytes message, double *out_us)
{
    uint64_t start = clock_mono_ns();
    bool good = true;
    for (uint32_t i = 0; i < keys; i++) {
        const uint8_t *at = cases[i].spki_der;
        EVP_PKEY *key = d2i_PUBKEY(NULL, &at, (long)cases[i].spki_len);
        EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        good &= key && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
                EVP_DigestVerify(ctx, cases[i].signature, cases[i].signature_len, message.ptr,
                                 message.len) == 1;
        EVP_MD_CTX_free(ctx);
        EVP_PKEY_free(key);
    }
    *out_us = since_us(start, keys);
    return good;
}

static bool sign_pass(uint32_t keys, struct bytes message, double *out_us)
{
    struct softkey *key = NULL;
    uint8_t signature[80];
    size_t len;
    bool good = softkey_generate(KEY_EC_P256, 0, &key) == ERR_OK;
    uint64_t start = clock_mono_ns();
    for (uint32_t i = 0; good && i < keys; i++) {
        good = softkey_sign(key, SIG_ECDSA_SHA256, message, false, signature, sizeof(signature),
                            &len) == ERR_OK;
    }
    *out_us = since_us(start, keys);
    softkey_free(key);
    return good;
}

bool bench_floor_measure(struct bench_floor *out, uint32_t requests)
{
    uint32_t keys = requests < FLOOR_KEYS_MIN   ? FLOOR_KEYS_MIN
                    : requests > FLOOR_KEYS_MAX ? FLOOR_KEYS_MAX
                                                : requests / FLOOR_BATCH * FLOOR_BATCH;
    static uint8_t text[200]; /* about the size of a certificationRequestInfo */
    struct bytes message = BYTES_ARRAY(text);
    struct floor_case *cases = calloc(keys, sizeof(*cases));
    bool good = cases != NULL;
    for (uint32_t i = 0; good && i < keys; i++) {
        good = make_case(&cases[i], message);
    }
    struct verify_key *key = good ? verify_key_new(&cases[0].spki) : NULL;
    double verify[FLOOR_PASSES], imported[FLOOR_PASSES], openssl[FLOOR_PASSES], sign[FLOOR_PASSES];
    double batch[FLOOR_PASSES], batch_ca[FLOOR_PASSES];
    good = good && key;
    for (uint32_t pass = 0; good && pass < FLOOR_PASSES; pass++) {
        good = verify_pass(cases, keys, message, NULL, &verify[pass]) &&
               verify_pass(cases, keys, message, key, &imported[pass]) &&
               batch_pass(cases, keys, message, NULL, &batch[pass]) &&
               batch_pass(cases, keys, message, key, &batch_ca[pass]) &&
               openssl_pass(cases, keys, message, &openssl[pass]) && sign_pass(keys, message, &sign[pass]);
    }
    if (good) {
        out->verify_us = median(verify);
        out->verify_ca_us = median(imported);
        out->openssl_verify_us = median(openssl);
        out->sign_us = median(sign);
        out->batch_verify_us = median(batch);
        out->batch_verify_ca_us = median(batch_ca);
    }
    free(cases);
    verify_key_free(key);
    return good;
}
