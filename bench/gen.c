/* Distinct keys and requests, before the clock starts. */
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "asn1/base64.h"
#include "asn1/csr.h"
#include "bench/bench.h"

enum { ITEM_BYTES_MAX = 2048, CSR_MAX = 1024 };

struct gen_thread {
    pthread_t thread;
    const struct bench_options *options;
    struct bench_work *work;
    uint32_t first, count;
    const char *prefix;
    const char *auth_line;
    _Atomic uint32_t *done;
    bool failed;
};

static int make_csr(const char *cn, uint8_t *out, int cap)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509_REQ *req = X509_REQ_new();
    int len = -1;
    if (key && req) {
        X509_NAME *name = X509_REQ_get_subject_name(req);
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)cn, -1, -1, 0);
        if (X509_REQ_set_pubkey(req, key) && X509_REQ_sign(req, key, EVP_sha256())) {
            len = i2d_X509_REQ(req, NULL);
            uint8_t *end = out;
            len = len > 0 && len <= cap ? i2d_X509_REQ(req, &end) : -1;
        }
    }
    X509_REQ_free(req);
    EVP_PKEY_free(key);
    return len;
}

static uint32_t put(struct writer *out, struct bytes data)
{
    uint32_t at = (uint32_t)out->len;
    writer_put(out, data);
    return at;
}

/* Each item has its own ITEM_BYTES_MAX octets, so that threads share nothing. */
static bool make_item(struct gen_thread *thread, uint32_t index)
{
    struct bench_item *item = &thread->work->items[index];
    char cn[64];
    uint8_t csr[CSR_MAX], text[CSR_MAX * 2];
    snprintf(cn, sizeof(cn), "%s-%07u", thread->prefix, index);
    int len = make_csr(cn, csr, sizeof(csr));
    struct cert_request view;
    if (len < 0 || csr_decode(bytes_of(csr, (size_t)len), &view) != ERR_OK) {
        return false;
    }
    size_t text_len = base64_encode(bytes_of(csr, (size_t)len), 0, text);
    item->bytes = thread->work->bytes + (size_t)index * ITEM_BYTES_MAX;
    struct writer out = writer_of(item->bytes, ITEM_BYTES_MAX);
    writer_printf(&out,
                  "POST %s/simpleenroll HTTP/1.1\r\nHost: %s\r\n%s"
                  "Content-Type: application/pkcs10\r\nContent-Length: %zu\r\n%s\r\n",
                  thread->options->path, thread->options->host, thread->auth_line, text_len,
                  thread->options->handshake_each ? "Connection: close\r\n" : "");
    writer_put(&out, bytes_of(text, text_len));
    item->http_len = (uint32_t)out.len;
    item->spki_offset = put(&out, view.spki.der);
    item->spki_len = (uint32_t)view.spki.der.len;
    item->subject_offset = put(&out, view.subject);
    item->subject_len = (uint32_t)view.subject.len;
    return !out.failed;
}

static void *gen_main(void *arg)
{
    struct gen_thread *thread = arg;
    for (uint32_t i = 0; i < thread->count && !thread->failed; i++) {
        thread->failed = !make_item(thread, thread->first + i);
        atomic_fetch_add(thread->done, 1);
    }
    return NULL;
}

static void show_progress(const struct bench_options *options, _Atomic uint32_t *done)
{
    while (!options->quiet && atomic_load(done) < options->requests) {
        fprintf(stderr, "\rmaking keys and requests: %u of %u", atomic_load(done),
                options->requests);
        struct timespec pause = {0, 200000000};
        nanosleep(&pause, NULL);
    }
    if (!options->quiet) {
        fprintf(stderr, "\rmaking keys and requests: %u of %u\n", atomic_load(done),
                options->requests);
    }
}

static void make_auth_line(const struct bench_options *options, char *out, size_t cap)
{
    out[0] = 0;
    if (!options->basic || strlen(options->basic) > 200) {
        return;
    }
    uint8_t text[512];
    size_t len = base64_encode(bytes_of_str(options->basic), 0, text);
    snprintf(out, cap, "Authorization: Basic %.*s\r\n", (int)len, (const char *)text);
}

bool bench_generate(const struct bench_options *options, struct bench_work *work)
{
    uint8_t random[4];
    char prefix[32], auth_line[600];
    RAND_bytes(random, sizeof(random));
    snprintf(prefix, sizeof(prefix), "bench-%02x%02x%02x%02x", random[0], random[1], random[2],
             random[3]);
    make_auth_line(options, auth_line, sizeof(auth_line));
    work->count = options->requests;
    work->items = calloc(work->count, sizeof(*work->items));
    work->bytes = malloc((size_t)work->count * ITEM_BYTES_MAX);
    if (!work->items || !work->bytes) {
        fprintf(stderr, "certmill-bench: not enough memory for %u requests\n", work->count);
        return false;
    }
    struct gen_thread threads[64] = {0};
    uint32_t thread_count = options->threads > 2 ? options->threads : 2;
    thread_count = thread_count > 64 ? 64 : thread_count;
    _Atomic uint32_t done = 0;
    bool good = true;
    for (uint32_t i = 0; i < thread_count; i++) {
        uint32_t first = (uint32_t)((uint64_t)work->count * i / thread_count);
        uint32_t end = (uint32_t)((uint64_t)work->count * (i + 1) / thread_count);
        threads[i] = (struct gen_thread){.options = options,
                                         .work = work,
                                         .first = first,
                                         .count = end - first,
                                         .prefix = prefix,
                                         .auth_line = auth_line,
                                         .done = &done};
        pthread_create(&threads[i].thread, NULL, gen_main, &threads[i]);
    }
    show_progress(options, &done);
    for (uint32_t i = 0; i < thread_count; i++) {
        pthread_join(threads[i].thread, NULL);
        good &= !threads[i].failed;
    }
    if (!good) {
        fprintf(stderr, "certmill-bench: a request could not be made\n");
    }
    return good;
}

void bench_work_free(struct bench_work *work)
{
    for (uint32_t i = 0; work->items && i < work->count; i++) {
        free(work->items[i].cert);
    }
    free(work->items);
    free(work->bytes);
}
