/* CMP messages with distinct keys, before the clock starts. */
#include <stdio.h>
#include <stdlib.h>

#include "asn1/oid.h"
#include "base/clock.h"
#include "base/secret.h"
#include "bench/bench.h"

enum { REQUEST_MAX = 1024, FIRST_BATCH = 100 };

/* --- one request --- */

static bool sign(void *ctx, struct bytes message, uint8_t *out, size_t cap, size_t *out_len)
{
    return softkey_sign(ctx, SIG_ECDSA_SHA256, message, false, out, cap, out_len) == ERR_OK;
}

static bool make_subject(const struct bench_cmp *cmp, uint32_t index, struct bench_item *item)
{
    char text[64];
    size_t len = 0;
    snprintf(text, sizeof(text), "CN=bench-%s%07u", cmp->prefix, index);
    bool good = name_from_text(text, item->subject, sizeof(item->subject), &len);
    item->subject_len = (uint32_t)len;
    return good;
}

static bool put_csr(const struct bench_item *item, struct softkey *key, struct der_builder *out)
{
    uint8_t info[REQUEST_MAX], signature[128];
    struct der_builder b = der_builder_of(info, sizeof(info));
    struct bytes der;
    size_t len = 0;
    der_open(&b, DER_SEQUENCE);
    der_put_u64(&b, DER_INTEGER, 0);
    der_put_raw(&b, bytes_of(item->subject, item->subject_len));
    der_put_raw(&b, bytes_of(item->spki, item->spki_len));
    der_put(&b, DER_CONTEXT_CONSTRUCTED(0), (struct bytes){0});
    der_close(&b);
    if (!der_finish(&b, &der) || !sign(key, der, signature, sizeof(signature), &len)) {
        return false;
    }
    der_open(out, DER_SEQUENCE);
    der_put_raw(out, der);
    der_put_raw(out, sig_alg_der(SIG_ECDSA_SHA256));
    der_put_bits(out, bytes_of(signature, len));
    der_close(out);
    return true;
}

static bool put_crmf(const struct bench_work *work, uint32_t index, int64_t id, struct softkey *key,
                     struct der_builder *out)
{
    const struct bench_cmp *cmp = work->load;
    const struct bench_item *item = &work->items[index];
    struct x509_cert old;
    struct crmf_template template = {.cert_req_id = id,
                                     .subject = bytes_of(item->subject, item->subject_len),
                                     .spki = bytes_of(item->spki, item->spki_len),
                                     .ra_verified = work->options->ra_verified};
    if (work->options->body == CMP_KUR) {
        if (x509_decode(bytes_of(cmp->old_certs[index], cmp->old_cert_lens[index]), &old) !=
            ERR_OK) {
            return false;
        }
        template.old_cert_id = (struct cert_id){.issuer = old.issuer, .serial = old.serial};
    }
    return crmf_put(out, &template, SIG_ECDSA_SHA256, work->options->ra_verified ? NULL : sign,
                    key);
}

/* The item's key; where it is needed again, it is kept. */
static struct softkey *make_key(struct bench_work *work, uint32_t index)
{
    struct bench_item *item = &work->items[index];
    struct softkey *key = NULL;
    size_t len = 0;
    if (softkey_generate(KEY_EC_P256, 0, &key) != ERR_OK ||
        softkey_spki(key, item->spki, sizeof(item->spki), &len) != ERR_OK ||
        !make_subject(work->load, index, item)) {
        softkey_free(key);
        return NULL;
    }
    item->spki_len = (uint32_t)len;
    return key;
}

static bool put_request(struct bench_work *work, uint32_t index, int64_t id, bool keep,
                        struct der_builder *out)
{
    struct bench_cmp *cmp = work->load;
    struct softkey *key = make_key(work, index);
    bool good = key && (work->options->body == CMP_P10CR ? put_csr(&work->items[index], key, out)
                                                         : put_crmf(work, index, id, key, out));
    if (good && keep) {
        cmp->old_keys[index] = key;
    } else {
        softkey_free(key);
    }
    return good;
}

/* --- one message --- */

/* A device speaks for itself. */
static enum err device_credential(const struct bench_cmp *cmp, uint32_t index,
                                  struct cmp_client_credential *out)
{
    struct bytes cert = bytes_of(cmp->old_certs[index], cmp->old_cert_lens[index]);
    return cmp_client_by_key(cmp->old_keys[index], &cert, 1, out);
}

static void new_ids(struct cmp_client_ids *out)
{
    random_bytes(out, sizeof(*out));
}

/* The message for items first..first+count-1, at the start of out. */
static bool make_message(struct bench_work *work, uint32_t first, uint32_t count, uint8_t *out,
                         size_t cap, size_t *out_len)
{
    struct bench_cmp *cmp = work->load;
    const struct bench_options *o = work->options;
    struct cmp_client_ids *ids = &cmp->inner_ids[first / o->per_message];
    size_t content_cap = (size_t)count * REQUEST_MAX + 64;
    uint8_t *content = malloc(content_cap);
    struct der_builder builder = der_builder_of(content, content ? content_cap : 0);
    bool is_list = o->body != CMP_P10CR, good = true;
    bool keep = cmp->old_keys && o->body != CMP_KUR;
    struct bytes der;
    if (is_list) {
        der_open(&builder, DER_SEQUENCE);
    }
    for (uint32_t i = 0; good && i < count; i++) {
        good = put_request(work, first + i, i, keep, &builder);
    }
    if (is_list) {
        der_close(&builder);
    }
    new_ids(ids);
    good = good && der_finish(&builder, &der);
    struct cmp_client_message message = {.body = o->body,
                                         .content = good ? der : (struct bytes){0},
                                         .ids = *ids,
                                         .implicit_confirm = !o->confirm};
    struct cmp_client_credential device;
    const struct cmp_client_credential *credential = &cmp->credential;
    if (good && o->body == CMP_KUR) {
        good = device_credential(cmp, first, &device) == ERR_OK;
        credential = &device;
    }
    good = good && cmp_client_build(credential, &message, out, cap, out_len) == ERR_OK;
    free(content);
    return good;
}

bool bench_cmp_make_kur(struct bench_work *work, uint32_t index, uint8_t *out, size_t cap,
                        size_t *out_len)
{
    return make_message(work, index, 1, out, cap, out_len);
}

/* --- one HTTP request --- */

uint8_t *bench_cmp_wrap(const struct bench_options *o, struct bytes message, uint32_t *out_len)
{
    size_t cap = message.len + 1024;
    uint8_t *http = malloc(cap);
    struct writer out = writer_of(http, http ? cap : 0);
    writer_printf(&out,
                  "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/pkixcmp\r\n"
                  "Content-Length: %zu\r\n%s\r\n",
                  o->path, o->host, message.len, o->handshake_each ? "Connection: close\r\n" : "");
    writer_put(&out, message);
    *out_len = (uint32_t)out.len;
    return http;
}

/* Messages of a post as the contents of a nested one; scratch takes one of them. */
static bool put_nested(struct bench_work *work, const struct bench_post *post, uint8_t *scratch,
                       size_t scratch_cap, struct der_builder *list)
{
    uint32_t per_message = work->options->per_message;
    bool good = true;
    der_open(list, DER_SEQUENCE);
    for (uint32_t at = 0; good && at < post->count; at += per_message) {
        uint32_t left = post->count - at;
        size_t len = 0;
        good = make_message(work, post->first + at, left < per_message ? left : per_message,
                            scratch, scratch_cap, &len);
        der_put_raw(list, bytes_of(scratch, len));
    }
    der_close(list);
    return good;
}

static bool make_nested(struct bench_work *work, uint32_t index, uint8_t *out, size_t cap,
                        size_t *out_len)
{
    struct bench_cmp *cmp = work->load;
    const struct bench_post *post = &work->posts[index];
    uint8_t *list_mem = malloc(cap);
    struct der_builder list = der_builder_of(list_mem, list_mem ? cap : 0);
    struct bytes der;
    bool good = put_nested(work, post, out, cap, &list) && der_finish(&list, &der);
    if (good) {
        new_ids(&cmp->ids[index]);
        struct cmp_client_message message = {
            .body = CMP_NESTED, .content = der, .ids = cmp->ids[index]};
        good = cmp_client_build(&cmp->credential, &message, out, cap, out_len) == ERR_OK;
    }
    free(list_mem);
    return good;
}

static bool make_post(void *ctx, uint32_t index)
{
    struct bench_work *work = ctx;
    struct bench_post *post = &work->posts[index];
    const struct bench_cmp *cmp = work->load;
    /* an inner message is a request, and the sender's chain */
    size_t each = REQUEST_MAX + 1024 + (cmp->chain_count + 1) * CERT_DER_MAX / 2;
    size_t cap = cmp_client_room(post->count * each), len = 0;
    uint8_t *der = malloc(cap);
    bool good = der && (work->options->nested
                            ? make_nested(work, index, der, cap, &len)
                            : make_message(work, post->first, post->count, der, cap, &len));
    if (good) {
        post->http = bench_cmp_wrap(work->options, bytes_of(der, len), &post->http_len);
    }
    free(der);
    return good && post->http;
}

bool bench_cmp_generate(struct bench_work *work)
{
    struct bench_cmp *cmp = work->load;
    free(cmp->ids);
    free(cmp->inner_ids);
    cmp->ids = calloc(work->post_count + 1u, sizeof(*cmp->ids));
    cmp->inner_ids = calloc(work->count + 1u, sizeof(*cmp->inner_ids));
    if (!cmp->ids || !cmp->inner_ids) {
        fprintf(stderr, "certmill-bench: not enough memory\n");
        return false;
    }
    return bench_parallel(work->options, "making keys and requests", work->post_count, make_post,
                          work);
}

/* --- devices that have a certificate --- */

static bool take_over(struct bench_work *first, struct bench_cmp *cmp)
{
    cmp->old_certs = calloc(first->count + 1u, sizeof(*cmp->old_certs));
    cmp->old_cert_lens = calloc(first->count + 1u, sizeof(*cmp->old_cert_lens));
    for (uint32_t i = 0; cmp->old_certs && cmp->old_cert_lens && i < first->count; i++) {
        cmp->old_certs[i] = first->items[i].cert;
        cmp->old_cert_lens[i] = first->items[i].cert_len;
        first->items[i].cert = NULL;
    }
    return cmp->old_certs && cmp->old_cert_lens;
}

bool bench_cmp_enroll_first(struct bench_work *work, SSL_CTX *ctx)
{
    struct bench_cmp *cmp = work->load;
    struct bench_options options = *work->options;
    struct bench_result *result = calloc(1, sizeof(*result));
    struct bench_work first = {.protocol = &BENCH_CMP_PROTOCOL, .load = cmp};
    options.body = CMP_IR;
    options.per_message = FIRST_BATCH;
    options.nested = options.warmup = 0;
    options.rate = 0;
    options.confirm = options.handshake_each = options.ra_verified = false;
    options.seconds = BENCH_SECONDS_MAX;
    first.answer_max =
        work->answer_max > FIRST_BATCH * 4096 ? work->answer_max : FIRST_BATCH * 4096;
    cmp->old_keys = calloc(work->count + 1u, sizeof(*cmp->old_keys));
    bool good = result && cmp->old_keys && bench_work_init(&first, &options, FIRST_BATCH) &&
                bench_cmp_generate(&first) && bench_run(&options, &first, ctx, result);
    if (good && result->ok != work->count) {
        fprintf(stderr, "certmill-bench: only %llu of %u devices got a first certificate: %s\n",
                (unsigned long long)result->ok, work->count, result->first_error);
        good = false;
    }
    good = good && take_over(&first, cmp);
    bench_work_free(&first);
    free(result);
    return good;
}
