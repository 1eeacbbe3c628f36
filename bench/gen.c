/* Distinct keys and requests, before the clock starts. */
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "asn1/base64.h"
#include "asn1/csr.h"
#include "bench/bench.h"

enum { CSR_MAX = 1024, HTTP_MAX = 2048 };

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

/* --- in parallel --- */

struct gen_shared {
    bool (*fn)(void *ctx, uint32_t index);
    void *ctx;
    uint32_t count;
    _Atomic uint32_t next, done;
    _Atomic bool failed;
};

static void *gen_main(void *arg)
{
    struct gen_shared *shared = arg;
    uint32_t index;
    while (!atomic_load(&shared->failed) &&
           (index = atomic_fetch_add(&shared->next, 1)) < shared->count) {
        if (!shared->fn(shared->ctx, index)) {
            atomic_store(&shared->failed, true);
        }
        atomic_fetch_add(&shared->done, 1);
    }
    return NULL;
}

static void show_progress(const char *what, struct gen_shared *shared)
{
    struct timespec pause = {0, 200000000};
    while (atomic_load(&shared->done) < shared->count && !atomic_load(&shared->failed)) {
        fprintf(stderr, "\r%s: %u of %u", what, atomic_load(&shared->done), shared->count);
        nanosleep(&pause, NULL);
    }
    fprintf(stderr, "\r%s: %u of %u\n", what, atomic_load(&shared->done), shared->count);
}

bool bench_parallel(const struct bench_options *options, const char *what, uint32_t count,
                    bool (*fn)(void *ctx, uint32_t index), void *ctx)
{
    enum { THREADS_MAX = 64 };
    struct gen_shared shared = {.fn = fn, .ctx = ctx, .count = count};
    pthread_t threads[THREADS_MAX];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t started = 0, wanted = cores < 2             ? 2
                                   : cores > THREADS_MAX ? THREADS_MAX
                                                         : (uint32_t)cores;
    while (started < wanted && pthread_create(&threads[started], NULL, gen_main, &shared) == 0) {
        started++;
    }
    if (!options->quiet && started > 0) {
        show_progress(what, &shared);
    }
    for (uint32_t i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    if (started == 0 || atomic_load(&shared.failed)) {
        fprintf(stderr, "certmill-bench: %s: failed\n", what);
        return false;
    }
    return true;
}

void bench_prefix(char out[16])
{
    uint8_t random[4];
    RAND_bytes(random, sizeof(random));
    snprintf(out, 16, "%02x%02x%02x%02x-", random[0], random[1], random[2], random[3]);
}

/* --- EST --- */

struct est_gen {
    struct bench_work *work;
    char prefix[16];
    char auth_line[600];
};

static bool put_item(struct bench_item *item, const struct cert_request *view)
{
    item->spki_len = (uint32_t)view->spki.der.len;
    item->subject_len = (uint32_t)view->subject.len;
    if (item->spki_len > ITEM_SPKI_MAX || item->subject_len > ITEM_SUBJECT_MAX) {
        return false;
    }
    memcpy(item->spki, view->spki.der.ptr, item->spki_len);
    memcpy(item->subject, view->subject.ptr, item->subject_len);
    return true;
}

static bool make_item(void *ctx, uint32_t index)
{
    struct est_gen *gen = ctx;
    const struct bench_options *options = gen->work->options;
    struct bench_post *post = &gen->work->posts[index];
    char cn[64];
    uint8_t csr[CSR_MAX], text[CSR_MAX * 2];
    snprintf(cn, sizeof(cn), "bench-%s%07u", gen->prefix, index);
    int len = make_csr(cn, csr, sizeof(csr));
    struct cert_request view;
    if (len < 0 || csr_decode(bytes_of(csr, (size_t)len), &view) != ERR_OK ||
        !put_item(&gen->work->items[index], &view)) {
        return false;
    }
    size_t text_len = base64_encode(bytes_of(csr, (size_t)len), 0, text);
    uint8_t http[HTTP_MAX];
    struct writer out = writer_of(http, sizeof(http));
    writer_printf(&out,
                  "POST %s/simpleenroll HTTP/1.1\r\nHost: %s\r\n%s"
                  "Content-Type: application/pkcs10\r\nContent-Length: %zu\r\n%s\r\n",
                  options->path, options->host, gen->auth_line, text_len,
                  options->handshake_each ? "Connection: close\r\n" : "");
    writer_put(&out, bytes_of(text, text_len));
    post->http = malloc(out.len);
    if (out.failed || !post->http) {
        return false;
    }
    memcpy(post->http, http, out.len);
    post->http_len = (uint32_t)out.len;
    return true;
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
    struct est_gen gen = {.work = work};
    bench_prefix(gen.prefix);
    make_auth_line(options, gen.auth_line, sizeof(gen.auth_line));
    return bench_parallel(options, "making keys and requests", work->post_count, make_item, &gen);
}

/* --- work --- */

bool bench_work_init(struct bench_work *work, const struct bench_options *options,
                     uint32_t per_post)
{
    work->options = options;
    work->count = options->requests;
    work->post_count = (work->count + per_post - 1) / per_post;
    work->items = calloc(work->count, sizeof(*work->items));
    work->posts = calloc(work->post_count, sizeof(*work->posts));
    if (!work->items || !work->posts) {
        fprintf(stderr, "certmill-bench: not enough memory for %u requests\n", work->count);
        return false;
    }
    for (uint32_t i = 0; i < work->post_count; i++) {
        uint32_t first = i * per_post, left = work->count - first;
        work->posts[i].first = first;
        work->posts[i].count = left < per_post ? left : per_post;
    }
    return true;
}

void bench_work_free(struct bench_work *work)
{
    for (uint32_t i = 0; work->items && i < work->count; i++) {
        free(work->items[i].cert);
    }
    for (uint32_t i = 0; work->posts && i < work->post_count; i++) {
        free(work->posts[i].http);
    }
    free(work->items);
    free(work->posts);
}
