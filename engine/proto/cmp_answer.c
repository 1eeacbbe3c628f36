/* CMP's answers: bodies by what became of the message, errors, and the protection around them. */
#include <stdio.h>

#include "asn1/alg.h"
#include "base/clock.h"
#include "base/secret.h"
#include "proto/cmp_impl.h"

enum {
    HEAD_ROOM = 8,        /* before the header: the ProtectedPart's own */
    HEADER_ROOM = 1024,   /* of a header, beside names, parameters and what comes back */
    RESPONSE_ROOM = 384,  /* of one CertResponse or status, beside its certificate */
    TEXT_MAX = 256,
    ENTRIES_EXTRA_MAX = 2 * CERT_CHAIN_MAX,
};

/* --- texts --- */

/* "quota-spent: The quota of the lot is spent. (lot 7)" */
static struct bytes status_text(enum err err, const char *detail, struct arena *arena)
{
    char text[TEXT_MAX];
    bool more = detail && detail[0] != 0;
    int len = snprintf(text, sizeof(text), "%s: %s%s%s%s", err_code(err), err_sentence(err),
                       more ? " (" : "", more ? detail : "", more ? ")" : "");
    size_t used = len < 0 ? 0 : (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1;
    return arena_dup(arena, bytes_of(text, used));
}

static struct cmp_status_info status_of(enum err err, const char *detail, struct arena *arena)
{
    if (err == ERR_OK) {
        return (struct cmp_status_info){.status = CMP_ACCEPTED};
    }
    return (struct cmp_status_info){
        .status = CMP_REJECTION,
        .fail = cmp_fail_of(err),
        .text = status_text(err, detail, arena),
    };
}

/* --- around every answer --- */

struct answer {
    const struct proto_line *line;
    const struct proto_message *message;
    const struct cmp_state *state;
    struct arena *arena;
    uint8_t *buf;
    struct der_builder builder;
    struct cmp_header header;
    enum proto_protection protect;
};

/* An answer is protected as its request was, when that held; else, and to the anonymous, it is
 * signed. Without a key to sign with it goes as it is. */
static enum proto_protection protection_of(const struct proto_line *line,
                                           const struct proto_message *message)
{
    const struct cmp_state *state = message->state;
    if (message->protection == PROTECTION_MAC && state->has_head) {
        return PROTECTION_MAC;
    }
    return line->cmp->sender_alg != SIG_NONE ? PROTECTION_SIGNATURE : PROTECTION_NONE;
}

static const uint8_t NULL_DN[] = {0xa4, 0x02, 0x30, 0x00};

static void fill_header(struct answer *a)
{
    const struct cmp_state *state = a->state;
    const struct cmp_header *asked = &state->msg.header;
    const struct proto_cmp_line *cmp = a->line->cmp;
    bool known = state->has_msg;
    a->header = (struct cmp_header){
        .pvno = known && asked->pvno == 3 ? 3 : 2,
        .sender = cmp->sender,
        .recipient = known ? asked->sender : BYTES_ARRAY(NULL_DN),
        .sender_nonce = BYTES_ARRAY(state->nonce),
        .recip_nonce = known ? asked->sender_nonce : (struct bytes){0},
        .transaction_id = known ? asked->transaction_id : (struct bytes){0},
        .message_time_s = state->now_s,
        .has_message_time = true,
    };
    if (known && asked->transaction_id.len == 0) {
        a->header.transaction_id = a->message->transaction_id;
    }
    a->protect = protection_of(a->line, a->message);
    if (a->protect == PROTECTION_MAC) {
        a->header.protection_alg = a->message->protection_alg_der;
        a->header.sender_kid = asked->sender_kid;
    } else if (a->protect == PROTECTION_SIGNATURE) {
        a->header.protection_alg = sig_alg_der(cmp->sender_alg);
        a->header.sender_kid = cmp->sender_kid;
    }
}

/* room: of the body. */
static enum err answer_start(struct answer *a, const struct proto_line *line,
                             const struct proto_message *message, struct arena *arena, size_t room)
{
    *a = (struct answer){
        .line = line, .message = message, .state = message->state, .arena = arena};
    fill_header(a);
    size_t cap = HEAD_ROOM + HEADER_ROOM + a->header.sender.len + a->header.recipient.len +
                 a->header.protection_alg.len + a->header.sender_kid.len +
                 a->header.transaction_id.len + a->header.recip_nonce.len + room;
    a->buf = arena_alloc(arena, cap);
    if (!a->buf) {
        return ERR_OVERLOADED;
    }
    a->builder = der_builder_of(a->buf + HEAD_ROOM, cap - HEAD_ROOM);
    return ERR_OK;
}

/* Writes the ProtectedPart's header right before what it holds. */
static enum err answer_end(struct answer *a, struct proto_response *out)
{
    struct bytes part;
    if (!der_finish(&a->builder, &part)) {
        return ERR_OVERLOADED;
    }
    size_t head_len = der_header_len(part.len);
    uint8_t *start = a->buf + HEAD_ROOM - head_len;
    uint8_t head[HEAD_ROOM];
    if (der_header_write(DER_SEQUENCE, part.len, head) != head_len) {
        return ERR_OVERLOADED;
    }
    memcpy(start, head, head_len);
    out->http_status = 200;
    out->content_type = "application/pkixcmp";
    out->protect = a->protect;
    out->protect_alg = a->line->cmp->sender_alg;
    out->to_protect = bytes_of(start, head_len + part.len);
    return ERR_OK;
}

/* --- ip, cp, kup --- */

static enum cmp_body reply_of(enum cmp_body asked)
{
    switch (asked) {
    case CMP_IR:
        return CMP_IP;
    case CMP_KUR:
        return CMP_KUP;
    default:
        return CMP_CP;
    }
}

static void fill_items(struct cmp_state *state, const struct proto_outcome outcomes[])
{
    for (uint32_t i = 0; i < state->count; i++) {
        state->record.items[i] = (struct cmp_kept_item){
            .cert_req_id = state->ids[i],
            .cert_log = outcomes ? outcomes[i].cert_log : 0,
            .err = (uint16_t)(outcomes ? outcomes[i].err : ERR_HELD),
            .sealed = outcomes ? outcomes[i].sealed : (struct bytes){0},
        };
    }
    state->record.item_count = state->count;
}

static enum err keep_items(const struct proto_message *message,
                           const struct proto_outcome outcomes[], struct arena *arena)
{
    struct cmp_state *state = message->state;
    if (message->action == ACTION_REPLAY) {
        return ERR_OK;
    }
    state->record.items = arena_calloc(arena, (state->count + 1) * sizeof(*state->record.items));
    if (!state->record.items) {
        return ERR_OVERLOADED;
    }
    state->record.sealed_keys = message->key_wish != NULL;
    fill_items(state, outcomes);
    return ERR_OK;
}

static void keep_answer(const struct proto_line *line, const struct proto_message *message,
                        uint32_t accepted, struct proto_response *out)
{
    struct cmp_state *state = message->state;
    if (message->action == ACTION_REPLAY || (accepted == 0 && !state->waits)) {
        return;
    }
    out->keep = true;
    out->record_state = CMP_DIALOG_DONE;
    out->record_expiry_s = state->now_s + CMP_REPLAY_S;
    if (state->waits) {
        out->record_state = CMP_DIALOG_WAITING;
        out->record_expiry_s = state->now_s + CMP_WAITING_S;
    } else if (message->waits_for_confirmation) {
        out->record_state = CMP_DIALOG_CONFIRM;
        out->record_expiry_s = state->now_s + line->cmp->confirm_wait_s;
        state->record.confirm_by_s = out->record_expiry_s;
    }
}

/* EncryptedKey with envelopedData [0] IMPLICIT (RFC 4211 appendix B). */
static struct bytes encrypted_key(struct bytes enveloped, struct arena *arena)
{
    struct bytes copy = arena_dup(arena, enveloped);
    if (copy.len > 0) {
        *(uint8_t *)(uintptr_t)copy.ptr = DER_CONTEXT_CONSTRUCTED(0);
    }
    return copy;
}

/* false: no room. */
static bool put_certificate(const struct answer *a, uint32_t index, struct bytes cert,
                            struct cmp_cert_response *out)
{
    const struct cmp_record *record = &a->state->record;
    struct bytes sealed = record->items[index].sealed;
    struct bytes encrypted = encrypted_key(sealed, a->arena);
    if (sealed.len == 0 || record->sealed_keys) {
        out->cert = cert;
        out->private_key = encrypted;
    } else {
        out->encrypted_cert = encrypted;
    }
    return encrypted.len == sealed.len;
}

static bool put_responses(struct answer *a, struct cmp_cert_response *responses,
                          const struct proto_outcome outcomes[], bool waits)
{
    const struct cmp_state *state = a->state;
    for (uint32_t i = 0; i < state->count; i++) {
        struct cmp_cert_response *response = &responses[i];
        *response = (struct cmp_cert_response){.cert_req_id = state->ids[i]};
        if (waits) {
            response->status = (struct cmp_status_info){
                .status = CMP_WAITING, .text = status_text(ERR_HELD, NULL, a->arena)};
            continue;
        }
        response->status = status_of(outcomes[i].err, outcomes[i].detail, a->arena);
        if (outcomes[i].err == ERR_OK &&
            !put_certificate(a, i, outcomes[i].cert_der, response)) {
            return false;
        }
    }
    return true;
}

static enum err encode_certs(const struct proto_line *line, const struct proto_message *message,
                             const struct proto_outcome outcomes[], struct arena *arena,
                             struct proto_response *out)
{
    struct cmp_state *state = message->state;
    /* an answer on record that said "waiting" says so again */
    bool waits = state->waits ||
                 (message->action == ACTION_REPLAY && state->record.waiting.len > 0);
    size_t room = 64 + line->cmp->root_cert.len;
    uint32_t accepted = 0;
    struct cmp_cert_response *responses = arena_alloc(arena, state->count * sizeof(*responses));
    struct answer a;
    enum err err = responses ? keep_items(message, waits ? NULL : outcomes, arena) : ERR_OVERLOADED;
    for (uint32_t i = 0; err == ERR_OK && i < state->count; i++) {
        room += RESPONSE_ROOM;
        room += waits ? 0 : outcomes[i].cert_der.len + state->record.items[i].sealed.len;
        accepted += !waits && outcomes[i].err == ERR_OK;
    }
    if (err == ERR_OK) {
        err = answer_start(&a, line, message, arena, room);
    }
    if (err != ERR_OK) {
        return err;
    }
    keep_answer(line, message, accepted, out);
    a.header.implicit_confirm = state->implicit && accepted > 0;
    a.header.has_confirm_wait = !state->implicit && accepted > 0 && state->record.confirm_by_s > 0;
    a.header.confirm_wait_s = state->record.confirm_by_s;
    if (!put_responses(&a, responses, outcomes, waits)) {
        return ERR_OVERLOADED;
    }
    enum cmp_body body = reply_of((enum cmp_body)state->record.body);
    /* who has but a shared secret learns the root by it (RFC 9810 5.3.2) */
    bool with_root = body == CMP_IP && a.protect == PROTECTION_MAC && accepted > 0 &&
                     line->cmp->root_cert.len > 0;
    cmp_header_put(&a.builder, &a.header);
    cmp_body_open(&a.builder, body);
    cmp_cert_rep_put(&a.builder, responses, state->count, &line->cmp->root_cert, with_root);
    der_close(&a.builder);
    return answer_end(&a, out);
}

/* --- rp --- */

/* As long as the same octets would pass for fresh. */
static int64_t replay_time(const struct proto_line *line)
{
    int64_t window_s = line->cmp->time_window_s;
    return 2 * window_s > CMP_REPLAY_S ? 2 * window_s : CMP_REPLAY_S;
}

static enum err encode_revocations(const struct proto_line *line,
                                   const struct proto_message *message, struct arena *arena,
                                   struct proto_response *out)
{
    struct cmp_state *state = message->state;
    bool replayed = message->action == ACTION_REPLAY;
    uint32_t count = replayed ? state->record.item_count : message->settle_count;
    struct cmp_status_info *status = arena_alloc(arena, count * sizeof(*status));
    struct answer a;
    if (!replayed) {
        state->record.items = arena_calloc(arena, count * sizeof(*state->record.items));
        state->record.item_count = count;
    }
    enum err err = status && state->record.items
                       ? answer_start(&a, line, message, arena, 64 + count * (size_t)RESPONSE_ROOM)
                       : ERR_OVERLOADED;
    if (err != ERR_OK) {
        return err;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct cmp_kept_item *item = &state->record.items[i];
        if (!replayed) {
            item->err = (uint16_t)message->settles[i].err;
        }
        status[i] = status_of((enum err)item->err, NULL, arena);
    }
    if (!replayed) {
        out->keep = true;
        out->record_state = CMP_DIALOG_DONE;
        out->record_expiry_s = state->now_s + replay_time(line);
    }
    cmp_header_put(&a.builder, &a.header);
    cmp_body_open(&a.builder, CMP_RP);
    cmp_rev_rep_put(&a.builder, status, NULL, count);
    der_close(&a.builder);
    return answer_end(&a, out);
}

/* --- pkiconf --- */

/* A certificate that was confirmed elsewhere (the same key came in two dialogues) is confirmed; one
 * that is rejected again, since a crash came before the answer, is rejected. */
static enum err settled(const struct proto_message *message)
{
    for (uint32_t i = 0; i < message->settle_count; i++) {
        const struct proto_settle *settle = &message->settles[i];
        enum err done =
            settle->act == SETTLE_ACT_CONFIRM ? ERR_CERT_CONFIRMED : ERR_CERT_REVOKED;
        if (settle->err != ERR_OK && settle->err != done) {
            return settle->err;
        }
    }
    return ERR_OK;
}

static enum err encode_pki_conf(const struct proto_line *line, const struct proto_message *message,
                                struct arena *arena, struct proto_response *out)
{
    const struct cmp_state *state = message->state;
    struct answer a;
    enum err err = settled(message);
    if (err == ERR_OK) {
        err = answer_start(&a, line, message, arena, 16);
    }
    if (err != ERR_OK) {
        return err;
    }
    if (message->action != ACTION_REPLAY) {
        out->keep = true;
        out->record_state = CMP_DIALOG_DONE;
        out->record_expiry_s = state->now_s + CMP_REPLAY_S;
    }
    cmp_header_put(&a.builder, &a.header);
    cmp_body_open(&a.builder, CMP_PKICONF);
    cmp_pki_conf_put(&a.builder);
    der_close(&a.builder);
    return answer_end(&a, out);
}

/* --- pollRep --- */

static enum err encode_polls(const struct proto_line *line, const struct proto_message *message,
                             struct arena *arena, struct proto_response *out)
{
    const struct cmp_state *state = message->state;
    struct cmp_poll *polls = arena_alloc(arena, state->count * sizeof(*polls));
    struct answer a;
    enum err err = polls ? answer_start(&a, line, message, arena,
                                        64 + state->count * (size_t)RESPONSE_ROOM)
                         : ERR_OVERLOADED;
    if (err != ERR_OK) {
        return err;
    }
    /* a quarter more or less, so that those who wait do not come back all at once */
    uint32_t after = line->cmp->poll_after_s;
    uint32_t jitter = after / 4 > 0 ? state->nonce[0] % (after / 4 + 1) : 0;
    for (uint32_t i = 0; i < state->count; i++) {
        polls[i] = (struct cmp_poll){.cert_req_id = state->ids[i],
                                     .check_after_s = (int64_t)after + jitter};
    }
    if (message->action != ACTION_REPLAY) {
        out->keep = true;
        out->record_state = CMP_DIALOG_WAITING;
        out->record_expiry_s = state->now_s + CMP_WAITING_S;
    }
    cmp_header_put(&a.builder, &a.header);
    cmp_body_open(&a.builder, CMP_POLLREP);
    cmp_poll_rep_put(&a.builder, polls, state->count);
    der_close(&a.builder);
    return answer_end(&a, out);
}

/* --- genp --- */

static enum err encode_general(const struct proto_line *line, const struct proto_message *message,
                               struct arena *arena, struct proto_response *out)
{
    const struct cmp_state *state = message->state;
    struct cmp_info infos[CMP_INFOS_MAX + 1];
    uint32_t count = 0;
    struct answer a;
    enum err err = cmp_genp_infos(line, state, arena, infos, CMP_INFOS_MAX + 1, &count);
    size_t room = 64;
    for (uint32_t i = 0; i < count; i++) {
        room += infos[i].oid.len + infos[i].value.len + 16;
    }
    if (err == ERR_OK) {
        err = answer_start(&a, line, message, arena, room);
    }
    if (err != ERR_OK) {
        return err;
    }
    cmp_header_put(&a.builder, &a.header);
    cmp_body_open(&a.builder, CMP_GENP);
    cmp_infos_put(&a.builder, infos, count);
    der_close(&a.builder);
    return answer_end(&a, out);
}

/* --- nested --- */

/* An authority that only added its protection (RFC 9810 5.1.3.4) copied the inner message's ids, and
 * gets the inner answer as it is. */
static bool is_added_protection(const struct proto_message *message)
{
    const struct cmp_state *outer = message->state;
    if (message->inner_count != 1) {
        return false;
    }
    const struct cmp_state *inner = message->inner[0].state;
    return inner && inner->has_msg &&
           bytes_eq(outer->msg.header.transaction_id, inner->msg.header.transaction_id) &&
           bytes_eq(outer->msg.header.sender_nonce, inner->msg.header.sender_nonce);
}

static enum err encode_nested(const struct proto_line *line, const struct proto_message *message,
                              struct arena *arena, struct proto_response *out)
{
    size_t room = 64;
    struct bytes *answers = arena_alloc(arena, message->inner_count * sizeof(*answers));
    struct answer a;
    for (uint32_t i = 0; i < message->inner_count && answers; i++) {
        answers[i] = message->inner[i].answer;
        room += answers[i].len;
        if (answers[i].len == 0) {
            return ERR_SIGNER_UNAVAILABLE; /* one of them could not be protected */
        }
    }
    if (answers && is_added_protection(message)) {
        *out = (struct proto_response){
            .http_status = 200, .content_type = "application/pkixcmp", .body = answers[0]};
        return ERR_OK;
    }
    enum err err = answers ? answer_start(&a, line, message, arena, room) : ERR_OVERLOADED;
    if (err != ERR_OK) {
        return err;
    }
    cmp_header_put(&a.builder, &a.header);
    cmp_body_open(&a.builder, CMP_NESTED);
    cmp_nested_put(&a.builder, answers, message->inner_count);
    der_close(&a.builder);
    return answer_end(&a, out);
}

/* --- all --- */

enum err cmp_encode(const struct proto_route *route, const struct proto_line *line,
                    const struct proto_request *request, const struct proto_message *message,
                    const struct proto_outcome outcomes[], struct arena *arena,
                    struct proto_response *out)
{
    (void)route;
    (void)request;
    const struct cmp_state *state = message->state;
    *out = (struct proto_response){0};
    if (message->action == ACTION_NESTED) {
        return encode_nested(line, message, arena, out);
    }
    out->protection = state->kept_protection;
    if (state->is_second) {
        return state->msg.body == CMP_POLLREQ ? encode_polls(line, message, arena, out)
                                              : encode_pki_conf(line, message, arena, out);
    }
    switch (state->msg.body) {
    case CMP_GENM:
        return encode_general(line, message, arena, out);
    case CMP_RR:
        return encode_revocations(line, message, arena, out);
    default:
        return encode_certs(line, message, outcomes, arena, out);
    }
}

static void refuse_in_http(enum err err, uint32_t retry_after_s, const char *request_id,
                           struct arena *arena, struct proto_response *out)
{
    char text[TEXT_MAX];
    int len = snprintf(text, sizeof(text), "%s: %s request=%s\n", err_code(err), err_sentence(err),
                       request_id ? request_id : "");
    *out = (struct proto_response){
        .http_status = cmp_http_status(err),
        .content_type = "text/plain",
        .allow = err == ERR_HTTP_METHOD ? "POST" : NULL,
        .body = arena_dup(arena, bytes_of(text, len > 0 ? (size_t)len : 0)),
    };
    if (out->http_status == 503 || out->http_status == 429) {
        out->retry_after_s = retry_after_s > 0 ? retry_after_s : RETRY_AFTER_S;
    }
}

void cmp_refuse(const struct proto_route *route, const struct proto_line *line,
                const struct proto_request *request, const struct proto_message *message,
                enum err err, const char *detail, const char *request_id, uint32_t retry_after_s,
                struct arena *arena, struct proto_response *out)
{
    (void)route;
    (void)request;
    struct cmp_state *state = message ? message->state : NULL;
    if (!state || !line || !line->cmp) {
        refuse_in_http(err, retry_after_s, request_id, arena, out);
        return;
    }
    if (!state->has_head) {
        random_bytes(state->nonce, sizeof(state->nonce));
        state->now_s = clock_wall_s();
    }
    struct answer a;
    struct cmp_status_info status =
        status_of(err == ERR_OK ? ERR_INTERNAL : err, detail, arena);
    struct proto_response response = {0};
    bool made = answer_start(&a, line, message, arena, RESPONSE_ROOM + status.text.len) == ERR_OK;
    if (made) {
        cmp_header_put(&a.builder, &a.header);
        cmp_body_open(&a.builder, CMP_ERROR);
        cmp_error_put(&a.builder, &status);
        der_close(&a.builder);
        made = answer_end(&a, &response) == ERR_OK;
    }
    if (!made) {
        refuse_in_http(ERR_OVERLOADED, retry_after_s, request_id, arena, out);
        return;
    }
    *out = response;
}

/* --- protection --- */

static bool is_listed(const struct bytes certs[], uint32_t count, struct bytes cert)
{
    for (uint32_t i = 0; i < count; i++) {
        if (bytes_eq(certs[i], cert)) {
            return true;
        }
    }
    return false;
}

/* The signer's chain, then what a new certificate chains to. */
static uint32_t extra_certs(const struct proto_line *line, const struct proto_response *response,
                            struct bytes out[ENTRIES_EXTRA_MAX])
{
    const struct proto_cmp_line *cmp = line->cmp;
    uint32_t count = 0;
    if (response->protect == PROTECTION_SIGNATURE) {
        for (uint32_t i = 0; i < cmp->sender_cert_count; i++) {
            out[count++] = cmp->sender_certs[i];
        }
    }
    for (uint32_t i = 0; response->keep && i < line->ca_cert_count; i++) {
        if (count < CMP_EXTRA_CERTS_MAX && !is_listed(out, count, line->ca_certs[i])) {
            out[count++] = line->ca_certs[i];
        }
    }
    return count;
}

static enum err make_record(struct cmp_state *state, struct bytes protection, struct arena *arena,
                            struct proto_response *out)
{
    struct cmp_record *record = &state->record;
    struct cmp_kept *kept = state->is_second ? &record->second : &record->first;
    const struct cmp_msg *msg = &state->msg;
    if (protection.len > CMP_PROTECTION_MAX) {
        return ERR_UNSUPPORTED;
    }
    memcpy(kept->request_nonce, msg->header.sender_nonce.ptr, CMP_NONCE_LEN);
    memcpy(kept->nonce, state->nonce, CMP_NONCE_LEN);
    kept->time_s = state->now_s;
    kept->protection = protection;
    out->record = cmp_record_encode(record, arena);
    return out->record.len > 0 ? ERR_OK : ERR_OVERLOADED;
}

enum err cmp_finish(const struct proto_line *line, const struct proto_message *message,
                    struct bytes protection, struct arena *arena, struct proto_response *out)
{
    struct bytes certs[ENTRIES_EXTRA_MAX], part = out->to_protect, header_and_body;
    bool kept = message->action == ACTION_REPLAY;
    if (kept) {
        out->keep = true; /* the same certificates beside it */
    }
    uint32_t count = extra_certs(line, out, certs);
    if (kept) {
        out->keep = false;
    }
    size_t cap = CMP_MSG_OVERHEAD + part.len + protection.len;
    for (uint32_t i = 0; i < count; i++) {
        cap += certs[i].len;
    }
    uint8_t *buf = arena_alloc(arena, cap);
    if (!buf || !der_get(&part, DER_SEQUENCE, &header_and_body)) {
        return ERR_OVERLOADED;
    }
    struct der_builder builder = der_builder_of(buf, cap);
    cmp_msg_put(&builder, header_and_body, protection, certs, count);
    if (!der_finish(&builder, &out->body)) {
        return ERR_OVERLOADED;
    }
    return out->keep ? make_record(message->state, protection, arena, out) : ERR_OK;
}
