/* What CMP loads are made with: the credential and those who are trusted; and what answers mean. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/secret.h"
#include "bench/bench.h"

enum { FILE_MAX = 256 * 1024, KEY_DER_MAX = 8192, SCRATCH_MAX = 8 * 1024 * 1024 };

/* --- files --- */

static char *read_file(const char *path, size_t *out_len)
{
    FILE *file = fopen(path, "re");
    char *text = malloc(FILE_MAX);
    if (file && text) {
        *out_len = fread(text, 1, FILE_MAX - 1, file);
        text[*out_len] = 0;
        fclose(file);
        return text;
    }
    fprintf(stderr, "certmill-bench: %s cannot be read\n", path);
    if (file) {
        fclose(file);
    }
    free(text);
    return NULL;
}

static bool read_certs(const char *path, struct bytes out[CERT_CHAIN_MAX], uint32_t *count)
{
    size_t len = 0, der_len = 0;
    uint8_t der[CERT_DER_MAX];
    char *text = read_file(path, &len);
    struct bytes reader = bytes_of(text, len);
    uint32_t before = *count;
    while (text && *count < CERT_CHAIN_MAX &&
           pem_next(&reader, "CERTIFICATE", der, sizeof(der), &der_len) == ERR_OK) {
        uint8_t *copy = malloc(der_len);
        if (!copy) {
            break;
        }
        memcpy(copy, der, der_len);
        out[(*count)++] = bytes_of(copy, der_len);
    }
    free(text);
    if (*count == before) {
        fprintf(stderr, "certmill-bench: %s: no certificate in it\n", path);
    }
    return *count > before;
}

static bool read_key(const char *path, struct softkey **out)
{
    static const char *const types[] = {"PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"};
    size_t len = 0, der_len = 0;
    uint8_t der[KEY_DER_MAX];
    char *text = read_file(path, &len);
    enum err err = ERR_NOT_FOUND;
    for (size_t i = 0; text && i < 3 && err == ERR_NOT_FOUND; i++) {
        struct bytes reader = bytes_of(text, len);
        err = pem_next(&reader, types[i], der, sizeof(der), &der_len);
    }
    if (err == ERR_OK) {
        err = softkey_import(bytes_of(der, der_len), out);
    }
    secret_wipe(der, sizeof(der));
    free(text);
    if (err != ERR_OK) {
        fprintf(stderr, "certmill-bench: %s: no private key in it\n", path);
    }
    return err == ERR_OK;
}

/* --- the credential --- */

static bool by_secret(const struct bench_options *o, struct bench_cmp *out)
{
    size_t len = 0;
    char *text = read_file(o->secret_file, &len);
    struct mac_params params = {.kind = o->pbmac1 ? MAC_PBMAC1 : MAC_PBM,
                                .hash = HASH_SHA256,
                                .mac = HASH_SHA256,
                                .iterations = o->iterations,
                                .key_len = o->pbmac1 ? 32 : 0};
    while (text && len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r')) {
        len--;
    }
    bool good = text && cmp_client_by_secret(bytes_of_str(o->reference), bytes_of(text, len),
                                             &params, &out->credential) == ERR_OK;
    free(text);
    return good;
}

static bool by_key(const struct bench_options *o, struct bench_cmp *out)
{
    return read_key(o->key_file, &out->key) &&
           read_certs(o->cert_file, out->chain, &out->chain_count) &&
           (!o->chain_file || read_certs(o->chain_file, out->chain, &out->chain_count)) &&
           cmp_client_by_key(out->key, out->chain, out->chain_count, &out->credential) == ERR_OK;
}

bool bench_cmp_load(const struct bench_options *o, struct bench_cmp *out)
{
    bench_prefix(out->prefix);
    if (!(o->reference ? by_secret(o, out) : by_key(o, out))) {
        fprintf(stderr, "certmill-bench: this credential cannot be used\n");
        return false;
    }
    if (!read_certs(o->issuer_file, out->issuers, &out->issuer_count) ||
        (o->trust_file && !read_certs(o->trust_file, out->trust, &out->trust_count))) {
        return false;
    }
    for (uint32_t i = 0; i < out->trust_count; i++) {
        if (trust_store_add(&out->anchors, out->trust[i]) != ERR_OK && i > 0) {
            fprintf(stderr, "certmill-bench: --trust: CA certificates, or one server's\n");
            return false;
        }
    }
    return true;
}

static void free_certs(struct bytes certs[], uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        free((void *)(uintptr_t)certs[i].ptr);
    }
}

void bench_cmp_unload(struct bench_cmp *cmp, uint32_t item_count)
{
    for (uint32_t i = 0; i < item_count; i++) {
        if (cmp->old_keys) {
            softkey_free(cmp->old_keys[i]);
        }
        if (cmp->old_certs) {
            free(cmp->old_certs[i]);
        }
    }
    free(cmp->old_keys);
    free(cmp->old_certs);
    free(cmp->old_cert_lens);
    free(cmp->ids);
    free(cmp->inner_ids);
    free_certs(cmp->chain, cmp->chain_count);
    free_certs(cmp->trust, cmp->trust_count);
    free_certs(cmp->issuers, cmp->issuer_count);
    trust_store_clear(&cmp->anchors);
    softkey_free(cmp->key);
    cmp_client_credential_clear(&cmp->credential);
}

/* --- answers --- */

struct taker {
    struct bench_cmp *cmp;
    struct cmp_client_checker checker;
    struct cmp_cert_response responses[BENCH_BATCH_MAX];
    struct bytes inner[CMP_NESTED_MAX];
};

static void *thread_start(struct bench_work *work)
{
    struct bench_cmp *cmp = work->load;
    struct taker *taker = calloc(1, sizeof(*taker));
    if (!taker) {
        abort();
    }
    taker->cmp = cmp;
    taker->checker.gathers = !work->options->confirm; /* certConf is sent on an answer's word */
    taker->checker.anchors = &cmp->anchors;
    taker->checker.credential = &cmp->credential;
    for (uint32_t i = 0; i < cmp->trust_count && i < CMP_CLIENT_PINNED_MAX; i++) {
        taker->checker.pinned[taker->checker.pinned_count++] = cmp->trust[i];
    }
    taker->checker.scratch_cap = SCRATCH_MAX;
    taker->checker.scratch = malloc(SCRATCH_MAX);
    return taker;
}

static void thread_end(void *ctx)
{
    struct taker *taker = ctx;
    atomic_fetch_add(&taker->cmp->bad_answers, cmp_client_settle(&taker->checker));
    free(taker->checker.scratch);
    cmp_client_checker_clear(&taker->checker);
    free(taker);
}

static void note(struct bench_taken *out, const char *what, struct bytes text)
{
    if (out->error[0] == 0) {
        snprintf(out->error, sizeof(out->error), "%s: %.*s", what,
                 (int)(text.len < 150 ? text.len : 150), text.ptr ? (const char *)text.ptr : "");
    }
}

static void take_error(const struct cmp_msg *msg, uint32_t count, struct bench_taken *out)
{
    struct cmp_status_info status = {0};
    out->failed += count;
    if (cmp_error_decode(msg->content, &status) == ERR_OK) {
        note(out, cmp_fail_name(status.fail & (0 - status.fail)), status.text);
    } else {
        note(out, cmp_body_name(msg->body), (struct bytes){0});
    }
}

/* ip, cp or kup to one message: its items are first..first+count-1. */
static void take_rep(struct taker *taker, struct bench_work *work, const struct cmp_msg *msg,
                     uint32_t first, uint32_t count, struct bench_taken *out)
{
    struct bytes ca_pubs;
    uint32_t found = 0, good = 0;
    bool is_rep = msg->body == CMP_IP || msg->body == CMP_CP || msg->body == CMP_KUP;
    if (!is_rep || cmp_cert_rep_decode(msg->content, taker->responses, BENCH_BATCH_MAX, &found,
                                       &ca_pubs) != ERR_OK) {
        take_error(msg, count, out);
        return;
    }
    for (uint32_t i = 0; i < found; i++) {
        const struct cmp_cert_response *response = &taker->responses[i];
        int64_t id =
            work->options->body == CMP_P10CR ? response->cert_req_id + 1 : response->cert_req_id;
        char error[256] = "";
        if (response->status.status > CMP_GRANTED_WITH_MODS || id < 0 || id >= count) {
            note(out, cmp_fail_name(response->status.fail & (0 - response->status.fail)),
                 response->status.text);
        } else if (bench_check_cert(&work->items[first + id], response->cert, error)) {
            good++;
        } else {
            out->wrong++;
            note(out, "wrong", bytes_of_str(error));
        }
    }
    good = good > count ? 0 : good; /* the same one twice */
    out->good += good;
    out->failed += count - good;
}

static void take_nested(struct taker *taker, struct bench_work *work, const struct cmp_msg *msg,
                        uint32_t first, uint32_t count, struct bench_taken *out)
{
    const struct bench_cmp *cmp = work->load;
    uint32_t per_message = work->options->per_message;
    uint32_t messages = (count + per_message - 1) / per_message, found = 0;
    if (msg->body != CMP_NESTED) {
        take_error(msg, count, out);
        return;
    }
    if (cmp_nested_decode(msg->content, taker->inner, CMP_NESTED_MAX, &found) != ERR_OK ||
        found != messages) {
        out->wrong += count;
        note(out, "nested", BYTES_LIT("not as many answers as messages"));
        return;
    }
    for (uint32_t i = 0; i < messages; i++) {
        uint32_t at = i * per_message, left = count - at;
        const struct cmp_client_ids *ids = &cmp->inner_ids[first / per_message + i];
        uint32_t items = left < per_message ? left : per_message;
        struct cmp_msg inner;
        enum err err = cmp_client_match(BYTES_ARRAY(ids->transaction_id), BYTES_ARRAY(ids->nonce),
                                        taker->inner[i], &inner);
        if (err == ERR_OK) {
            take_rep(taker, work, &inner, first + at, items, out);
        } else {
            out->wrong += items;
            note(out, "nested", bytes_of_str(err_code(err)));
        }
    }
}

/* --- certConf --- */

static enum err put_status(const struct bench_work *work, const struct bench_post *post,
                           struct der_builder *out)
{
    struct cmp_cert_status *status = calloc(post->count, sizeof(*status));
    uint8_t(*hash)[DIGEST_LEN_MAX] = calloc(post->count, sizeof(*hash));
    enum err err = status && hash ? ERR_OK : ERR_NO_SPACE;
    for (uint32_t i = 0; err == ERR_OK && i < post->count; i++) {
        const struct bench_item *item = &work->items[post->first + i];
        struct x509_cert cert;
        size_t len = 0;
        err = x509_decode(bytes_of(item->cert, item->cert_len), &cert);
        if (err == ERR_OK) {
            err = cmp_client_cert_hash(&cert, hash[i], &len);
        }
        status[i] = (struct cmp_cert_status){
            .cert_hash = bytes_of(hash[i], len),
            .cert_req_id = work->options->body == CMP_P10CR ? -1 : (int64_t)i};
    }
    if (err == ERR_OK) {
        cmp_cert_conf_put(out, status, post->count);
    }
    free(status);
    free(hash);
    return err;
}

static void make_conf(struct bench_work *work, const struct bench_post *post,
                      const struct cmp_msg *answer, struct bench_taken *out)
{
    struct bench_cmp *cmp = work->load;
    struct cmp_client_ids *ids = &cmp->inner_ids[post->first / work->options->per_message];
    size_t cap = 256 + 128 * (size_t)post->count, room = cmp_client_room(cap), len = 0;
    uint8_t *content = malloc(cap), *message_der = malloc(room);
    struct der_builder builder = der_builder_of(content, content ? cap : 0);
    struct bytes der;
    enum err err = message_der ? put_status(work, post, &builder) : ERR_NO_SPACE;
    if (err == ERR_OK && !der_finish(&builder, &der)) {
        err = ERR_NO_SPACE;
    }
    if (err == ERR_OK) {
        random_bytes(ids->nonce, sizeof(ids->nonce));
        struct cmp_client_message message = {.body = CMP_CERTCONF,
                                             .content = der,
                                             .ids = *ids,
                                             .recip_nonce = answer->header.sender_nonce,
                                             .time_s = clock_wall_s()};
        err = cmp_client_build(&cmp->credential, &message, message_der, room, &len);
    }
    if (err == ERR_OK) {
        out->next = bench_cmp_wrap(work->options, bytes_of(message_der, len), &out->next_len);
    } else {
        note(out, "certConf", bytes_of_str(err_code(err)));
    }
    free(content);
    free(message_der);
}

/* --- the whole --- */

static void take(void *ctx, struct bench_work *work, uint32_t post_index, uint32_t step,
                 struct bytes body, struct bench_taken *out)
{
    struct taker *taker = ctx;
    const struct bench_cmp *cmp = work->load;
    const struct bench_options *o = work->options;
    const struct bench_post *post = &work->posts[post_index];
    const struct cmp_client_ids *ids =
        o->nested ? &cmp->ids[post_index] : &cmp->inner_ids[post->first / o->per_message];
    struct cmp_msg msg;
    bool is_protected = false;
    enum err err =
        cmp_client_check(&taker->checker, ids, body, clock_wall_s(), &msg, &is_protected);
    if (err != ERR_OK) {
        out->wrong = post->count;
        note(out, "the answer", bytes_of_str(err_code(err)));
    } else if (step > 0) {
        out->good = msg.body == CMP_PKICONF ? post->count : 0;
        if (msg.body != CMP_PKICONF) {
            take_error(&msg, post->count, out);
        }
    } else if (o->nested) {
        take_nested(taker, work, &msg, post->first, post->count, out);
    } else {
        take_rep(taker, work, &msg, post->first, post->count, out);
        if (o->confirm && out->good == post->count) {
            make_conf(work, post, &msg, out);
        }
    }
}

const struct bench_protocol BENCH_CMP_PROTOCOL = {
    .thread_start = thread_start, .thread_end = thread_end, .take = take};
