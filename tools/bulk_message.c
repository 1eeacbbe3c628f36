/* From items to one CMP message, and from its answer to what became of each. */
#include <stdlib.h>

#include "base/clock.h"
#include "base/secret.h"
#include "tools/bulk.h"

enum { HEAD_ROOM = 2048, POP_JOBS = 64 };

/* --- ids --- */

/* The same for the same run and item: what a killed run had sent is sent again as it was. */
static void derive_ids(const uint8_t run[16], const char *what, struct bytes digest,
                       struct cmp_client_ids *out)
{
    uint8_t hash[SHA256_LEN];
    struct sha256_stream stream;
    sha256_start(&stream);
    sha256_update(&stream, bytes_of(run, 16));
    sha256_update(&stream, bytes_of(what, strlen(what) + 1));
    sha256_update(&stream, digest);
    sha256_finish(&stream, hash);
    memcpy(out->transaction_id, hash, sizeof(out->transaction_id));
    memcpy(out->nonce, hash + sizeof(out->transaction_id), sizeof(out->nonce));
}

static void batch_ids(const struct bulk_messages *messages, struct bulk_batch *batch)
{
    uint8_t digest[SHA256_LEN];
    struct sha256_stream stream;
    sha256_start(&stream);
    for (uint32_t i = 0; i < batch->count; i++)
        sha256_update(&stream, BYTES_ARRAY(batch->items[i]->digest));
    sha256_finish(&stream, digest);
    derive_ids(messages->run, "batch", BYTES_ARRAY(digest), &batch->ids);
}

/* --- reasons --- */

static void set_reason(struct bulk_reason *out, const char *fail, const char *code,
                       const char *text)
{
    snprintf(out->fail, sizeof(out->fail), "%s", fail);
    snprintf(out->code, sizeof(out->code), "%s", code);
    snprintf(out->text, sizeof(out->text), "%s", text);
}

static void answer_reason(struct bulk_reason *out, enum err err, const char *what)
{
    char text[BULK_TEXT_MAX];
    snprintf(text, sizeof(text), "%s: %s", what, err_sentence(err));
    set_reason(out, "answer", err_code(err), text);
}

/* certmill puts a stable code before its sentence, "quota-spent: The quota..."; others do not. */
static void status_reason(struct bulk_reason *out, const struct cmp_status_info *status)
{
    char text[BULK_TEXT_MAX];
    uint32_t bit = status->fail & (0 - status->fail);
    const char *fail = status->status == CMP_WAITING ? "waiting"
                       : bit                         ? cmp_fail_name(bit)
                                                     : "rejected";
    *out = (struct bulk_reason){0};
    out_clean(status->text, text, sizeof(text));
    size_t len = strcspn(text, ":");
    bool is_code = text[len] == ':' && len > 0 && len < sizeof(out->code) &&
                   strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == len;
    if (is_code)
        memcpy(out->code, text, len);
    const char *rest = is_code ? text + len + 1 + (text[len + 1] == ' ') : text;
    snprintf(out->fail, sizeof(out->fail), "%s", fail);
    snprintf(out->text, sizeof(out->text), "%s", rest);
}

bool bulk_reason_is_passing(const struct bulk_reason *reason)
{
    static const char *const passing[] = {"systemUnavail", "systemFailure", "waiting", "http",
                                          "answer"};
    for (size_t i = 0; i < sizeof(passing) / sizeof(passing[0]); i++)
        if (strcmp(reason->fail, passing[i]) == 0)
            return true;
    return false;
}

/* What no other message of this credential will fare better with. */
static bool is_about_the_sender(uint32_t fail)
{
    return (fail & (CMP_FAIL_BAD_MESSAGE_CHECK | CMP_FAIL_BAD_ALG | CMP_FAIL_WRONG_INTEGRITY |
                    CMP_FAIL_SIGNER_NOT_TRUSTED | CMP_FAIL_UNSUPPORTED_VERSION |
                    CMP_FAIL_BAD_SENDER_NONCE | CMP_FAIL_BAD_TIME)) != 0;
}

/* --- the request --- */

bool bulk_messages_init(struct bulk_messages *messages)
{
    messages->work = malloc(BULK_WORK_MAX);
    messages->scratch = malloc(BULK_WORK_MAX);
    messages->checker.scratch = malloc(HTTP_ANSWER_MAX);
    messages->checker.scratch_cap = HTTP_ANSWER_MAX;
    return messages->work && messages->scratch && messages->checker.scratch;
}

void bulk_messages_clear(struct bulk_messages *messages)
{
    free(messages->work);
    free(messages->scratch);
    free(messages->checker.scratch);
    verify_key_free(messages->issuer_key);
    cmp_client_checker_clear(&messages->checker);
    trust_store_clear(&messages->anchors);
}

static struct cmp_client_message message_of(const struct bulk_messages *messages,
                                            enum cmp_body body, struct bytes content,
                                            const struct cmp_client_ids *ids)
{
    return (struct cmp_client_message){
        .body = body,
        .content = content,
        .recipient = messages->recipient,
        .ids = *ids,
        .time_s = clock_wall_s(),
        .implicit_confirm =
            !messages->confirm && (body == CMP_IR || body == CMP_CR || body == CMP_P10CR),
    };
}

/* An HTTP request around a message made in scratch. */
static enum err wrap(struct bulk_messages *messages, struct bulk_batch *batch, struct bytes der)
{
    free(batch->request);
    batch->request = malloc(HEAD_ROOM + der.len);
    if (!batch->request)
        abort();
    struct writer out = writer_of(batch->request, HEAD_ROOM + der.len);
    http_put_post(&out, messages->target, "application/pkixcmp", der.len);
    writer_put(&out, der);
    batch->request_len = out.len;
    return out.failed ? ERR_NO_SPACE : ERR_OK;
}

static enum err build_and_wrap(struct bulk_messages *messages, struct bulk_batch *batch,
                               const struct cmp_client_message *message)
{
    size_t len = 0;
    enum err err =
        cmp_client_build(messages->credential, message, messages->scratch, BULK_WORK_MAX, &len);
    return err == ERR_OK ? wrap(messages, batch, bytes_of(messages->scratch, len)) : err;
}

/* A CSR in a p10cr of its own, appended to a list of messages; a device's message as it is. */
static enum err put_inner(struct bulk_messages *messages, struct bulk_item *item,
                          struct der_builder *list)
{
    if (item->is_message) {
        der_put_raw(list, bytes_of(item->der, item->der_len));
        return ERR_OK;
    }
    size_t len = 0;
    derive_ids(messages->run, "inner", BYTES_ARRAY(item->digest), &item->ids);
    item->transaction_id = BYTES_ARRAY(item->ids.transaction_id);
    item->nonce = BYTES_ARRAY(item->ids.nonce);
    struct cmp_client_message message =
        message_of(messages, CMP_P10CR, bytes_of(item->der, item->der_len), &item->ids);
    enum err err =
        cmp_client_build(messages->credential, &message, messages->scratch, BULK_WORK_MAX, &len);
    if (err == ERR_OK)
        der_put_raw(list, bytes_of(messages->scratch, len));
    return err;
}

static enum err build_nested(struct bulk_messages *messages, struct bulk_batch *batch)
{
    struct der_builder list = der_builder_of(messages->work, BULK_WORK_MAX);
    struct bytes content;
    enum err err = ERR_OK;
    der_open(&list, DER_SEQUENCE);
    for (uint32_t i = 0; i < batch->count && err == ERR_OK; i++)
        err = put_inner(messages, batch->items[i], &list);
    der_close(&list);
    if (err == ERR_OK && !der_finish(&list, &content))
        err = ERR_NO_SPACE;
    if (err != ERR_OK)
        return err;
    struct cmp_client_message message = message_of(messages, CMP_NESTED, content, &batch->ids);
    batch->nested = true;
    return build_and_wrap(messages, batch, &message);
}

static enum err build_multi(struct bulk_messages *messages, struct bulk_batch *batch)
{
    struct der_builder list = der_builder_of(messages->work, BULK_WORK_MAX);
    struct bytes content;
    der_open(&list, DER_SEQUENCE);
    for (uint32_t i = 0; i < batch->count; i++) {
        struct cert_request csr;
        struct bulk_item *item = batch->items[i];
        if (csr_decode(bytes_of(item->der, item->der_len), &csr) != ERR_OK ||
            !cmp_client_put_csr(&list, &csr, i))
            return ERR_NO_SPACE;
    }
    der_close(&list);
    if (!der_finish(&list, &content))
        return ERR_NO_SPACE;
    struct cmp_client_message message = message_of(messages, messages->body, content, &batch->ids);
    return build_and_wrap(messages, batch, &message);
}

static enum err build_single(struct bulk_messages *messages, struct bulk_batch *batch)
{
    struct bulk_item *item = batch->items[0];
    struct bytes der = bytes_of(item->der, item->der_len);
    if (item->is_message) /* goes on as the device made it */
        return wrap(messages, batch, der);
    struct cmp_client_message message = message_of(messages, CMP_P10CR, der, &batch->ids);
    return build_and_wrap(messages, batch, &message);
}

/* --- proof of possession, where this end vouches for it (raVerified) --- */

static void refuse_item(struct bulk_batch *batch, uint32_t index, struct bulk_list *refused,
                        const char *fail, enum err err)
{
    struct bulk_item *item = batch->items[index];
    set_reason(&item->reason, fail, err_code(err), err_sentence(err));
    bulk_list_put(refused, item);
    batch->items[index] = NULL;
}

static void close_ranks(struct bulk_batch *batch)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < batch->count; i++)
        if (batch->items[i])
            batch->items[kept++] = batch->items[i];
    batch->count = kept;
}

static void check_pops(struct bulk_batch *batch, struct bulk_list *refused)
{
    for (uint32_t first = 0; first < batch->count; first += POP_JOBS) {
        static struct cert_request csr[POP_JOBS];
        struct verify_job jobs[POP_JOBS], *pointers[POP_JOBS];
        uint32_t left = batch->count - first, count = left < POP_JOBS ? left : POP_JOBS;
        for (uint32_t i = 0; i < count; i++) {
            struct bulk_item *item = batch->items[first + i];
            jobs[i] = (struct verify_job){.result = ERR_BAD_POP};
            if (csr_decode(bytes_of(item->der, item->der_len), &csr[i]) == ERR_OK)
                jobs[i] = (struct verify_job){.alg = csr[i].pop_alg,
                                              .spki = &csr[i].spki,
                                              .message = csr[i].pop_message,
                                              .signature = csr[i].pop_signature};
            pointers[i] = &jobs[i];
        }
        verify_batch(pointers, count);
        for (uint32_t i = 0; i < count; i++)
            if (jobs[i].result != ERR_OK)
                refuse_item(batch, first + i, refused, "badPOP", ERR_BAD_POP);
    }
    close_ranks(batch);
}

static void refuse_messages(struct bulk_batch *batch, struct bulk_list *refused)
{
    for (uint32_t i = 0; i < batch->count; i++)
        if (batch->items[i]->is_message)
            refuse_item(batch, i, refused, "input", ERR_UNSUPPORTED);
    close_ranks(batch);
}

int bulk_batch_build(struct bulk_messages *messages, struct bulk_batch *batch,
                     struct bulk_list *refused)
{
    batch->confirming = batch->nested = false;
    if (messages->mode == BULK_MULTI) {
        refuse_messages(batch, refused);
        check_pops(batch, refused);
    }
    if (batch->count == 0)
        return CLI_DONE;
    batch_ids(messages, batch);
    enum err err = messages->mode == BULK_MULTI    ? build_multi(messages, batch)
                   : messages->mode == BULK_NESTED ? build_nested(messages, batch)
                                                   : build_single(messages, batch);
    return err == ERR_OK
               ? CLI_DONE
               : cli_fail("a message cannot be made: %s: try a smaller --batch", err_sentence(err));
}

/* --- certificates --- */

/* The issuer's certificate among those at hand, for the last one seen. */
static struct bytes find_issuer(const struct bulk_messages *messages, const struct cmp_msg *msg,
                                struct bytes ca_pubs, struct bytes name)
{
    struct x509_cert cert;
    struct bytes der;
    for (uint32_t i = 0; i < messages->anchors.count; i++)
        if (bytes_eq(messages->anchors.anchor[i].cert.subject, name))
            return messages->anchors.anchor[i].cert.der;
    for (uint32_t i = 0; i < msg->extra_cert_count; i++)
        if (x509_decode(msg->extra_certs[i], &cert) == ERR_OK && bytes_eq(cert.subject, name))
            return msg->extra_certs[i];
    while (der_get_element(&ca_pubs, DER_SEQUENCE, &der))
        if (x509_decode(der, &cert) == ERR_OK && bytes_eq(cert.subject, name))
            return der;
    return (struct bytes){0};
}

/* One certificate in so many, where its issuer is known. The answer's protection covers them all.
 */
static bool signature_holds(struct bulk_messages *messages, const struct cmp_msg *msg,
                            struct bytes ca_pubs, const struct x509_cert *cert)
{
    uint8_t hash[SHA256_LEN];
    struct x509_cert issuer;
    if (messages->verify_one_in == 0 || messages->issuer_seen++ % messages->verify_one_in != 0)
        return true;
    sha256_once(cert->issuer, hash);
    if (!messages->issuer_key || memcmp(hash, messages->issuer_hash, sizeof(hash)) != 0) {
        struct bytes der = find_issuer(messages, msg, ca_pubs, cert->issuer);
        if (der.len == 0 || x509_decode(der, &issuer) != ERR_OK)
            return true;
        verify_key_free(messages->issuer_key);
        messages->issuer_key = verify_key_new(&issuer.spki);
        memcpy(messages->issuer_hash, hash, sizeof(hash));
        if (!messages->issuer_key)
            return true;
    }
    struct verify_job job = {.alg = cert->sig_alg,
                             .key = messages->issuer_key,
                             .message = cert->tbs,
                             .signature = cert->signature};
    return verify_one(&job) == ERR_OK;
}

static void take_response(struct bulk_messages *messages, struct bulk_item *item,
                          const struct cmp_msg *msg, struct bytes ca_pubs,
                          const struct cmp_cert_response *response)
{
    struct x509_cert cert;
    const struct cmp_status_info *status = &response->status;
    if (status->status != CMP_ACCEPTED && status->status != CMP_GRANTED_WITH_MODS) {
        status_reason(&item->reason, status);
        return;
    }
    enum err err = response->cert.len > 0 ? x509_decode(response->cert, &cert) : ERR_BAD_CERT;
    if (err != ERR_OK) {
        answer_reason(&item->reason, err, "the answer holds no certificate");
    } else if (!bytes_eq(bytes_of(cert.spki.der.ptr + 1, cert.spki.der.len - 1), item->key)) {
        answer_reason(&item->reason, ERR_BAD_KEY, "the certificate is for another key");
    } else if (!signature_holds(messages, msg, ca_pubs, &cert)) {
        answer_reason(&item->reason, ERR_BAD_SIGNATURE, "the certificate");
    } else {
        item->cert = malloc(response->cert.len);
        if (!item->cert)
            abort();
        memcpy(item->cert, response->cert.ptr, response->cert.len);
        item->cert_len = (uint32_t)response->cert.len;
        item->reason = (struct bulk_reason){0};
    }
}

static void keep_response(const struct bulk_messages *messages, struct bulk_item *item,
                          struct bytes der)
{
    if (!messages->keep_responses || !item->cert)
        return;
    item->response = malloc(der.len);
    if (!item->response)
        abort();
    memcpy(item->response, der.ptr, der.len);
    item->response_len = (uint32_t)der.len;
}

/* ip, cp or kup, or an error, to one request. */
static void take_message(struct bulk_messages *messages, struct bulk_item *item,
                         const struct cmp_msg *msg)
{
    struct cmp_cert_response response;
    struct cmp_status_info status;
    struct bytes ca_pubs = {0};
    uint32_t count = 0;
    enum err err = ERR_BAD_REQUEST;
    if (msg->body == CMP_ERROR) {
        err = cmp_error_decode(msg->content, &status);
        if (err == ERR_OK)
            status_reason(&item->reason, &status);
    } else if (msg->body == CMP_IP || msg->body == CMP_CP || msg->body == CMP_KUP) {
        err = cmp_cert_rep_decode(msg->content, &response, 1, &count, &ca_pubs);
        if (err == ERR_OK && count == 1)
            take_response(messages, item, msg, ca_pubs, &response);
        else if (err == ERR_OK)
            err = ERR_BAD_REQUEST;
    }
    if (err != ERR_OK)
        answer_reason(&item->reason, err, "the answer to the request");
    if (item->cert && msg->header.sender_nonce.len == CMP_NONCE_LEN)
        memcpy(item->server_nonce, msg->header.sender_nonce.ptr, CMP_NONCE_LEN);
    keep_response(messages, item, msg->der);
}

/* --- answers --- */

static enum bulk_verdict take_error(struct bulk_batch *batch, const struct cmp_msg *msg,
                                    bool is_protected, struct bulk_reason *out_reason)
{
    struct cmp_status_info status;
    enum err err = cmp_error_decode(msg->content, &status);
    if (err != ERR_OK) {
        answer_reason(out_reason, err, "the error message");
        return BULK_AGAIN;
    }
    status_reason(out_reason, &status);
    if (bulk_reason_is_passing(out_reason))
        return BULK_AGAIN;
    if (is_about_the_sender(status.fail))
        return batch->nested || batch->count > 1 || !batch->items[0]->is_message ? BULK_STOP
                                                                                 : BULK_DONE;
    if (!is_protected)
        return BULK_AGAIN; /* anybody's word */
    if (batch->count > 1)
        return BULK_SPLIT;
    return BULK_DONE;
}

static enum bulk_verdict take_nested(struct bulk_messages *messages, struct bulk_batch *batch,
                                     const struct cmp_msg *msg, struct bulk_reason *out_reason)
{
    static struct bytes ders[CMP_NESTED_MAX];
    uint32_t count = 0;
    enum err err = cmp_nested_decode(msg->content, ders, CMP_NESTED_MAX, &count);
    if (err == ERR_OK && count != batch->count)
        err = ERR_BAD_REQUEST;
    if (err != ERR_OK) {
        answer_reason(out_reason, err, "the batch of answers");
        return BULK_AGAIN;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct bulk_item *item = batch->items[i];
        struct cmp_msg inner;
        err = cmp_client_match(item->transaction_id, item->nonce, ders[i], &inner);
        if (err == ERR_OK)
            take_message(messages, item, &inner);
        else
            answer_reason(&item->reason, err, "the answer to the request");
    }
    return BULK_DONE;
}

static enum bulk_verdict take_multi(struct bulk_messages *messages, struct bulk_batch *batch,
                                    const struct cmp_msg *msg, struct bulk_reason *out_reason)
{
    static struct cmp_cert_response responses[BULK_BATCH_MAX];
    struct bytes ca_pubs = {0};
    uint32_t count = 0;
    enum err err = cmp_cert_rep_decode(msg->content, responses, BULK_BATCH_MAX, &count, &ca_pubs);
    if (err != ERR_OK) {
        answer_reason(out_reason, err, "the answer");
        return BULK_AGAIN;
    }
    for (uint32_t i = 0; i < batch->count; i++)
        answer_reason(&batch->items[i]->reason, ERR_NOT_FOUND, "the answer lacks this request");
    for (uint32_t i = 0; i < count; i++) {
        int64_t id = responses[i].cert_req_id;
        if (id >= 0 && id < batch->count && !batch->items[id]->cert)
            take_response(messages, batch->items[id], msg, ca_pubs, &responses[i]);
    }
    return BULK_DONE;
}

/* --- certConf --- */

static bool wants_confirmation(const struct bulk_messages *messages, const struct bulk_batch *batch)
{
    if (!messages->confirm || batch->confirming)
        return false;
    for (uint32_t i = 0; i < batch->count; i++)
        if (batch->items[i]->cert && !batch->items[i]->is_message)
            return true;
    return false;
}

/* The ids of what follows: the transaction's, and a nonce of its own. */
static struct cmp_client_ids next_ids(const struct bulk_messages *messages,
                                      const struct cmp_client_ids *ids)
{
    struct cmp_client_ids next;
    derive_ids(messages->run, "confirm", BYTES_ARRAY(ids->transaction_id), &next);
    memcpy(next.transaction_id, ids->transaction_id, sizeof(next.transaction_id));
    return next;
}

static enum err put_status(struct der_builder *out, const struct bulk_item *const items[],
                           uint32_t count, int64_t first_id)
{
    static struct cmp_cert_status status[BULK_BATCH_MAX];
    static uint8_t hash[BULK_BATCH_MAX][DIGEST_LEN_MAX];
    uint32_t filled = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct x509_cert cert;
        size_t len = 0;
        if (!items[i]->cert)
            continue;
        enum err err = x509_decode(bytes_of(items[i]->cert, items[i]->cert_len), &cert);
        if (err == ERR_OK)
            err = cmp_client_cert_hash(&cert, hash[filled], &len);
        if (err != ERR_OK)
            return err;
        status[filled] = (struct cmp_cert_status){.cert_hash = bytes_of(hash[filled], len),
                                                  .cert_req_id = first_id < 0 ? -1 : first_id + i};
        filled++;
    }
    cmp_cert_conf_put(out, status, filled);
    return ERR_OK;
}

/* Inner certConfs, of those that got a certificate by a message that was made here. */
static enum err confirm_nested(struct bulk_messages *messages, struct bulk_batch *batch)
{
    struct der_builder list = der_builder_of(messages->work, BULK_WORK_MAX);
    struct bytes content = {0};
    enum err err = ERR_OK;
    der_open(&list, DER_SEQUENCE);
    for (uint32_t i = 0; i < batch->count && err == ERR_OK; i++) {
        struct bulk_item *item = batch->items[i];
        uint8_t small[256];
        size_t len = 0;
        struct der_builder conf = der_builder_of(small, sizeof(small));
        if (!item->cert || item->is_message)
            continue;
        const struct bulk_item *one = item;
        err = put_status(&conf, &one, 1, -1);
        struct cmp_client_ids ids = next_ids(messages, &item->ids);
        struct cmp_client_message message =
            message_of(messages, CMP_CERTCONF, writer_view(&conf.out), &ids);
        message.recip_nonce = BYTES_ARRAY(item->server_nonce);
        if (err == ERR_OK)
            err = cmp_client_build(messages->credential, &message, messages->scratch, BULK_WORK_MAX,
                                   &len);
        if (err == ERR_OK)
            der_put_raw(&list, bytes_of(messages->scratch, len));
        item->ids = ids; /* what its answer is matched by */
    }
    der_close(&list);
    if (err == ERR_OK && !der_finish(&list, &content))
        err = ERR_NO_SPACE;
    struct cmp_client_ids ids = next_ids(messages, &batch->ids);
    memcpy(ids.transaction_id, ids.nonce, sizeof(ids.transaction_id)); /* another outer message */
    batch->ids = ids;
    struct cmp_client_message message = message_of(messages, CMP_NESTED, content, &batch->ids);
    return err == ERR_OK ? build_and_wrap(messages, batch, &message) : err;
}

static enum err confirm_plain(struct bulk_messages *messages, struct bulk_batch *batch)
{
    struct der_builder conf = der_builder_of(messages->work, BULK_WORK_MAX);
    struct bytes content;
    int64_t first_id = messages->mode == BULK_MULTI ? 0 : -1;
    enum err err =
        put_status(&conf, (const struct bulk_item *const *)batch->items, batch->count, first_id);
    if (err != ERR_OK)
        return err;
    if (!der_finish(&conf, &content))
        return ERR_NO_SPACE;
    batch->ids = next_ids(messages, &batch->ids);
    struct cmp_client_message message = message_of(messages, CMP_CERTCONF, content, &batch->ids);
    message.recip_nonce = BYTES_ARRAY(batch->server_nonce);
    return build_and_wrap(messages, batch, &message);
}

/* Without the server's word that a certificate was confirmed, there is none. */
static void drop_cert(struct bulk_item *item)
{
    free(item->cert);
    item->cert = NULL;
    item->cert_len = 0;
}

static enum bulk_verdict start_confirmation(struct bulk_messages *messages,
                                            struct bulk_batch *batch,
                                            struct bulk_reason *out_reason)
{
    enum err err = batch->nested ? confirm_nested(messages, batch) : confirm_plain(messages, batch);
    if (err == ERR_OK) {
        batch->confirming = true;
        return BULK_MORE;
    }
    answer_reason(out_reason, err, "certConf");
    return BULK_AGAIN;
}

static void take_conf(struct bulk_item *item, const struct cmp_msg *msg)
{
    struct cmp_status_info status;
    if (msg->body == CMP_PKICONF)
        return;
    /* an earlier certConf arrived, whose answer was lost */
    if (msg->body == CMP_ERROR && cmp_error_decode(msg->content, &status) == ERR_OK) {
        if (status.fail & CMP_FAIL_CERT_CONFIRMED)
            return;
        status_reason(&item->reason, &status);
    } else {
        answer_reason(&item->reason, ERR_BAD_REQUEST, "the answer to certConf");
    }
    drop_cert(item);
}

static enum bulk_verdict take_confs(struct bulk_batch *batch, const struct cmp_msg *msg)
{
    static struct bytes ders[CMP_NESTED_MAX];
    uint32_t count = 0, at = 0;
    if (msg->body == CMP_NESTED &&
        cmp_nested_decode(msg->content, ders, CMP_NESTED_MAX, &count) != ERR_OK)
        count = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        struct bulk_item *item = batch->items[i];
        struct cmp_msg inner;
        if (!item->cert || item->is_message)
            continue;
        if (msg->body != CMP_NESTED) {
            take_conf(item, msg);
        } else if (at < count &&
                   cmp_client_match(BYTES_ARRAY(item->ids.transaction_id),
                                    BYTES_ARRAY(item->ids.nonce), ders[at++], &inner) == ERR_OK) {
            take_conf(item, &inner);
        } else {
            answer_reason(&item->reason, ERR_BAD_REQUEST, "the answer to certConf");
            drop_cert(item);
        }
    }
    return BULK_DONE;
}

/* --- the whole --- */

/* The answer to a device's message that went by itself is protected for the device, under its own
 * ids, which may be of another length than ours. */
static enum err check_forwarded(struct bulk_messages *messages, struct bulk_item *item,
                                struct bytes body, struct cmp_msg *out, bool *out_protected)
{
    struct cmp_client_ids ids;
    enum err err = cmp_client_match(item->transaction_id, item->nonce, body, out);
    if (err != ERR_OK)
        return err;
    *out_protected = false;
    if (item->transaction_id.len != sizeof(ids.transaction_id) ||
        item->nonce.len != sizeof(ids.nonce))
        return ERR_CMP_TRANSACTION;
    memcpy(ids.transaction_id, item->transaction_id.ptr, sizeof(ids.transaction_id));
    memcpy(ids.nonce, item->nonce.ptr, sizeof(ids.nonce));
    return cmp_client_check(&messages->checker, &ids, body, clock_wall_s(), out, out_protected);
}

static enum bulk_verdict take_body(struct bulk_messages *messages, struct bulk_batch *batch,
                                   const struct cmp_msg *msg, bool is_protected,
                                   struct bulk_reason *out_reason)
{
    struct bulk_item *first = batch->items[0];
    if (msg->body == CMP_ERROR && !batch->confirming) {
        enum bulk_verdict verdict = take_error(batch, msg, is_protected, out_reason);
        if (verdict == BULK_DONE)
            first->reason = *out_reason;
        return verdict;
    }
    if (batch->confirming)
        return take_confs(batch, msg);
    if (msg->header.sender_nonce.len == CMP_NONCE_LEN)
        memcpy(batch->server_nonce, msg->header.sender_nonce.ptr, CMP_NONCE_LEN);
    if (batch->nested && msg->body == CMP_NESTED)
        return take_nested(messages, batch, msg, out_reason);
    if (messages->mode == BULK_MULTI &&
        (msg->body == CMP_IP || msg->body == CMP_CP || msg->body == CMP_KUP))
        return take_multi(messages, batch, msg, out_reason);
    if (messages->mode == BULK_SINGLE) {
        take_message(messages, first, msg);
        return BULK_DONE;
    }
    answer_reason(out_reason, ERR_BAD_REQUEST, cmp_body_name(msg->body));
    return BULK_AGAIN;
}

enum bulk_verdict bulk_batch_answer(struct bulk_messages *messages, struct bulk_batch *batch,
                                    struct bytes body, struct bulk_reason *out_reason)
{
    struct cmp_msg msg;
    bool is_protected = false;
    bool forwarded = messages->mode == BULK_SINGLE && batch->items[0]->is_message;
    *out_reason = (struct bulk_reason){0};
    enum err err = forwarded ? check_forwarded(messages, batch->items[0], body, &msg, &is_protected)
                             : cmp_client_check(&messages->checker, &batch->ids, body,
                                                clock_wall_s(), &msg, &is_protected);
    if (err != ERR_OK) {
        answer_reason(out_reason, err, "the server's answer");
        bool hopeless = err == ERR_CLIENT_CERT_UNTRUSTED || err == ERR_CLIENT_CERT_EXPIRED ||
                        err == ERR_CMP_WRONG_INTEGRITY;
        return hopeless ? BULK_STOP : BULK_AGAIN;
    }
    enum bulk_verdict verdict = take_body(messages, batch, &msg, is_protected, out_reason);
    if (verdict == BULK_DONE && wants_confirmation(messages, batch))
        verdict = start_confirmation(messages, batch, out_reason);
    return verdict;
}
