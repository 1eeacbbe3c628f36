/* The oracle: is this answer the certificate for that request? */
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "asn1/x509.h"
#include "bench/bench.h"

bool bench_check_cert(struct bench_item *item, struct bytes cert_der, char error[256])
{
    struct x509_cert cert;
    if (x509_decode(cert_der, &cert) != ERR_OK) {
        snprintf(error, 256, "the answer holds no certificate");
        return false;
    }
    if (!bytes_eq(cert.spki.der, bytes_of(item->spki, item->spki_len)) ||
        !bytes_eq(cert.subject, bytes_of(item->subject, item->subject_len))) {
        snprintf(error, 256, "the certificate is for another key or subject");
        return false;
    }
    uint8_t *copy = malloc(cert_der.len);
    if (!copy) {
        return false;
    }
    memcpy(copy, cert_der.ptr, cert_der.len);
    free(item->cert);
    item->cert = copy;
    item->cert_len = (uint32_t)cert_der.len;
    return true;
}

struct bytes bench_find_issuer(const struct bench_work *work, const struct bytes certs[],
                               size_t count)
{
    struct x509_cert leaf, ca;
    uint32_t i = 0;
    while (i < work->count && work->items[i].cert_len == 0) {
        i++;
    }
    if (i == work->count ||
        x509_decode(bytes_of(work->items[i].cert, work->items[i].cert_len), &leaf) != ERR_OK) {
        return (struct bytes){0};
    }
    for (size_t k = 0; k < count; k++) {
        if (x509_decode(certs[k], &ca) == ERR_OK && bytes_eq(ca.subject, leaf.issuer)) {
            return certs[k];
        }
    }
    return (struct bytes){0};
}

struct verify_thread {
    pthread_t thread;
    const struct bench_work *work;
    uint32_t first, end;
    EVP_PKEY *issuer;
    uint64_t bad;
};

static void *verify_main(void *arg)
{
    struct verify_thread *thread = arg;
    for (uint32_t i = thread->first; i < thread->end; i++) {
        const struct bench_item *item = &thread->work->items[i];
        if (item->cert_len == 0) {
            continue;
        }
        const uint8_t *at = item->cert;
        X509 *cert = d2i_X509(NULL, &at, item->cert_len);
        if (!cert || X509_verify(cert, thread->issuer) != 1) {
            thread->bad++;
        }
        X509_free(cert);
    }
    return NULL;
}

static int compare_serials(const void *a, const void *b)
{
    return memcmp(a, b, 16);
}

static uint64_t count_repeats(const struct bench_work *work)
{
    uint8_t(*serials)[16] = calloc(work->count + 1u, 16);
    uint32_t filled = 0;
    uint64_t repeats = 0;
    for (uint32_t i = 0; serials && i < work->count; i++) {
        const struct bench_item *item = &work->items[i];
        struct x509_cert cert;
        if (item->cert_len > 0 &&
            x509_decode(bytes_of(item->cert, item->cert_len), &cert) == ERR_OK) {
            size_t take = cert.serial.len < 16 ? cert.serial.len : 16;
            memcpy(serials[filled++] + 16 - take, cert.serial.ptr + cert.serial.len - take, take);
        }
    }
    if (serials) {
        qsort(serials, filled, 16, compare_serials);
    }
    for (uint32_t i = 1; i < filled; i++) {
        repeats += memcmp(serials[i - 1], serials[i], 16) == 0;
    }
    free(serials);
    return repeats;
}

uint64_t bench_verify_all(const struct bench_work *work, struct bytes issuer_der, uint32_t threads)
{
    const uint8_t *at = issuer_der.ptr;
    X509 *issuer = d2i_X509(NULL, &at, (long)issuer_der.len);
    EVP_PKEY *key = issuer ? X509_get_pubkey(issuer) : NULL;
    if (!key) {
        return work->count;
    }
    struct verify_thread all[64] = {0};
    threads = threads < 2 ? 2 : threads > 64 ? 64 : threads;
    uint64_t bad = count_repeats(work);
    for (uint32_t i = 0; i < threads; i++) {
        all[i].work = work;
        all[i].issuer = key;
        all[i].first = (uint32_t)((uint64_t)work->count * i / threads);
        all[i].end = (uint32_t)((uint64_t)work->count * (i + 1) / threads);
        pthread_create(&all[i].thread, NULL, verify_main, &all[i]);
    }
    for (uint32_t i = 0; i < threads; i++) {
        pthread_join(all[i].thread, NULL);
        bad += all[i].bad;
    }
    EVP_PKEY_free(key);
    X509_free(issuer);
    return bad;
}
