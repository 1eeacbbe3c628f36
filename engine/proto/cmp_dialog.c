/* What a message is in its dialogue: one table of bodies, one of states. Pure: what is on record
 * comes in, what shall be done goes out. */
#include "proto/cmp_impl.h"

/* --- what is on record --- */

static bool same_nonce(struct bytes nonce, const uint8_t kept[CMP_NONCE_LEN])
{
    return bytes_eq(nonce, bytes_of(kept, CMP_NONCE_LEN));
}

static enum err replay_items(struct arena *arena, struct proto_message *message)
{
    struct cmp_state *state = message->state;
    const struct cmp_record *record = &state->record;
    size_t room = record->item_count + 1;
    uint64_t *logs = arena_alloc(arena, room * sizeof(*logs));
    enum err *errs = arena_alloc(arena, room * sizeof(*errs));
    state->ids = arena_alloc(arena, room * sizeof(*state->ids));
    if (!logs || !errs || !state->ids) {
        return ERR_OVERLOADED;
    }
    for (uint32_t i = 0; i < record->item_count; i++) {
        logs[i] = record->items[i].cert_log;
        errs[i] = (enum err)record->items[i].err;
        state->ids[i] = record->items[i].cert_req_id;
    }
    state->count = record->item_count;
    message->replay_logs = logs;
    message->replay_errs = errs;
    message->replay_count = record->item_count;
    return ERR_OK;
}

static enum err take_polled_ids(struct arena *arena, struct cmp_state *state)
{
    uint32_t max = state->record.item_count + 1;
    state->ids = arena_alloc(arena, max * sizeof(*state->ids));
    if (!state->ids) {
        return ERR_OVERLOADED;
    }
    enum err err = cmp_poll_req_decode(state->msg.content, state->ids, max, &state->count);
    return err == ERR_NO_SPACE ? ERR_BAD_REQUEST : err;
}

/* The same message came before: the same answer, octet for octet. */
static enum err replay(struct arena *arena, const struct cmp_kept *kept, bool is_second,
                       struct proto_message *message)
{
    struct cmp_state *state = message->state;
    memcpy(state->nonce, kept->nonce, CMP_NONCE_LEN);
    state->now_s = kept->time_s;
    state->kept_protection = kept->protection;
    state->is_second = is_second;
    state->implicit = state->record.implicit;
    message->action = ACTION_REPLAY;
    if (is_second && state->msg.body == CMP_POLLREQ) {
        return take_polled_ids(arena, state);
    }
    if (state->record.body == CMP_RR || is_second) {
        /* nothing but statuses: they are in the record */
        message->replay_count = 0;
        return ERR_OK;
    }
    return replay_items(arena, message);
}

/* --- messages that open a dialogue --- */

static enum err take_opening(const struct proto_line *line, const struct proto_context *context,
                             struct arena *arena, struct proto_message *message)
{
    const struct cmp_state *state = message->state;
    switch (state->msg.body) {
    case CMP_P10CR:
        return cmp_take_p10(line, context, arena, message);
    case CMP_RR:
        return message->protection == PROTECTION_MAC
                   ? ERR_CMP_WRONG_INTEGRITY
                   : cmp_take_revocations(context, arena, message);
    case CMP_KUR:
        return message->protection == PROTECTION_MAC
                   ? ERR_CMP_WRONG_INTEGRITY
                   : cmp_take_certs(line, context, arena, message);
    default:
        return cmp_take_certs(line, context, arena, message);
    }
}

static void start_record(const struct proto_context *context, const struct proto_message *message)
{
    struct cmp_state *state = message->state;
    struct cmp_record *record = &state->record;
    *record = (struct cmp_record){
        .body = (uint8_t)state->msg.body,
        .protection = (uint8_t)message->protection,
        .implicit = state->implicit,
        .line_id = context->line_id,
    };
    memcpy(record->first.request_nonce, state->msg.header.sender_nonce.ptr, CMP_NONCE_LEN);
    memcpy(record->binding, context->binding, sizeof(record->binding));
}

static enum err open_dialogue(const struct proto_line *line, const struct proto_context *context,
                              struct arena *arena, struct proto_message *message)
{
    struct cmp_state *state = message->state;
    const struct cmp_header *header = &state->msg.header;
    if (header->recip_nonce.len > 0) {
        return ERR_CMP_RECIPIENT_NONCE;
    }
    if (header->transaction_id.len == 0) {
        message->transaction_id = arena_dup(arena, BYTES_ARRAY(context->new_id));
    }
    bool issues = state->msg.body != CMP_RR;
    state->implicit = issues && header->implicit_confirm && line->cmp->implicit_confirm;
    message->waits_for_confirmation = issues && !state->implicit;
    enum err err = take_opening(line, context, arena, message);
    if (err != ERR_OK) {
        return err;
    }
    start_record(context, message);
    if (issues && context->is_hold) {
        if (state->msg.der.len > CMP_WAITING_MAX) {
            return ERR_HELD;
        }
        state->waits = true;
        state->record.waiting = state->msg.der;
        message->action = ACTION_MESSAGE;
    }
    return ERR_OK;
}

/* --- messages that go on with one --- */

/* The answer that the client has last: while it polls, the last pollRep, if there was one. */
static const struct cmp_kept *last_answer(const struct proto_context *context,
                                          const struct cmp_record *record)
{
    bool waits = (context->record_state | PROTO_STATE_WAITS) == CMP_DIALOG_WAITING;
    bool has_polled = waits && record->second.time_s != 0;
    return has_polled ? &record->second : &record->first;
}

/* Who goes on is who began (RFC 9483 3.2): by the same means and the same credential. */
static enum err check_partner(const struct proto_context *context,
                              const struct proto_message *message)
{
    const struct cmp_state *state = message->state;
    const struct cmp_record *record = &state->record;
    if ((uint8_t)message->protection != record->protection) {
        return message->protection == PROTECTION_NONE ? ERR_CMP_MESSAGE_CHECK
                                                      : ERR_CMP_WRONG_INTEGRITY;
    }
    if (memcmp(record->binding, context->binding, sizeof(record->binding)) != 0) {
        return context->is_device ? ERR_CMP_WRONG_AUTHORITY : ERR_NOT_AUTHORIZED;
    }
    const struct cmp_header *header = &state->msg.header;
    if (same_nonce(header->sender_nonce, record->first.request_nonce)) {
        return ERR_CMP_SENDER_NONCE;
    }
    return same_nonce(header->recip_nonce, last_answer(context, record)->nonce)
               ? ERR_OK
               : ERR_CMP_RECIPIENT_NONCE;
}

static enum err take_poll(const struct proto_line *line, const struct proto_context *context,
                          struct arena *arena, struct proto_message *message)
{
    struct cmp_state *state = message->state;
    enum err err = take_polled_ids(arena, state);
    if (err != ERR_OK) {
        return err;
    }
    for (uint32_t i = 0; i < state->count; i++) {
        bool known = state->ids[i] == -1;
        for (uint32_t k = 0; k < state->record.item_count && !known; k++) {
            known = state->record.items[k].cert_req_id == state->ids[i];
        }
        if (!known) {
            return ERR_BAD_REQUEST;
        }
    }
    message->action = ACTION_MESSAGE;
    if (context->is_hold) {
        state->is_second = true;
        return ERR_OK;
    }
    /* the request that waited is taken up where it was left */
    struct bytes poll_nonce = state->msg.header.sender_nonce;
    struct cmp_msg waited;
    err = cmp_msg_decode(state->record.waiting, &waited);
    if (err != ERR_OK) {
        return ERR_INTERNAL;
    }
    struct cmp_header polled_header = state->msg.header;
    state->msg.content = waited.content;
    state->msg.body = waited.body;
    state->implicit = state->record.implicit;
    message->waits_for_confirmation = !state->implicit;
    err = take_opening(line, context, arena, message);
    state->msg.header = polled_header;
    start_record(context, message);
    memcpy(state->record.first.request_nonce, poll_nonce.ptr, CMP_NONCE_LEN);
    return err;
}

/* Why does not matter, as long as it is an error's body. */
static enum err take_error(struct arena *arena, struct proto_message *message)
{
    const struct cmp_state *state = message->state;
    struct cmp_status_info status;
    enum err err = cmp_error_decode(state->msg.content, &status);
    return err == ERR_OK ? cmp_reject_all(arena, message) : err;
}

static enum err go_on(const struct proto_line *line, const struct proto_context *context,
                      struct arena *arena, struct proto_message *message)
{
    struct cmp_state *state = message->state;
    enum cmp_body body = state->msg.body;
    enum err err = check_partner(context, message);
    if (err != ERR_OK) {
        return err;
    }
    switch ((enum cmp_dialog)context->record_state) {
    case CMP_DIALOG_WAITING:
    case CMP_DIALOG_WAITING_OLD:
        if (body == CMP_POLLREQ) {
            return take_poll(line, context, arena, message);
        }
        state->is_second = true;
        return body == CMP_ERROR ? take_error(arena, message) : ERR_CMP_TRANSACTION;
    case CMP_DIALOG_CONFIRM:
        state->is_second = true;
        if (body == CMP_CERTCONF) {
            return cmp_take_confirms(context, arena, message);
        }
        return body == CMP_ERROR ? take_error(arena, message) : ERR_CMP_TRANSACTION;
    case CMP_DIALOG_DONE:
        return body == CMP_CERTCONF ? ERR_CERT_CONFIRMED : ERR_CMP_TRANSACTION;
    case CMP_DIALOG_NONE:
        break;
    }
    return ERR_INTERNAL;
}

/* --- general messages --- */

/* A list that is too long for a message is fetched by its URL. */
static enum err take_crl(const struct proto_context *context, struct cmp_state *state)
{
    if (!cmp_genm_wants_crl(state)) {
        return ERR_OK;
    }
    state->crl = context->crl_of(context->ctx, &state->crl_this_update_s);
    return state->crl.len <= CMP_CRL_MAX ? ERR_OK : ERR_NOT_OFFERED;
}

static enum err take_general(const struct proto_context *context, struct arena *arena,
                             struct proto_message *message)
{
    struct cmp_state *state = message->state;
    if (state->msg.header.recip_nonce.len > 0) {
        return ERR_CMP_RECIPIENT_NONCE;
    }
    state->infos = arena_alloc(arena, CMP_INFOS_MAX * sizeof(*state->infos));
    if (!state->infos) {
        return ERR_OVERLOADED;
    }
    enum err err =
        cmp_infos_decode(state->msg.content, state->infos, CMP_INFOS_MAX, &state->count);
    message->action = ACTION_MESSAGE;
    if (err != ERR_OK) {
        return err == ERR_NO_SPACE ? ERR_BAD_REQUEST : err;
    }
    return take_crl(context, state);
}

/* --- all --- */

/* A revocation that was captured must not be of use again when its record is gone (CMP_REPLAY_S is
 * more than a window on either side): it always says when it was made. */
static enum err check_time(const struct proto_cmp_line *line, const struct proto_context *context,
                           const struct cmp_msg *msg)
{
    const struct cmp_header *header = &msg->header;
    if (!header->has_message_time) {
        return line->require_time || msg->body == CMP_RR ? ERR_CMP_BAD_TIME : ERR_OK;
    }
    int64_t off_s = header->message_time_s - context->now_s;
    off_s = off_s < 0 ? -off_s : off_s;
    return line->time_window_s == 0 || off_s <= line->time_window_s ? ERR_OK : ERR_CMP_BAD_TIME;
}

static bool answers(const struct cmp_kept *kept, struct bytes nonce)
{
    return kept->time_s != 0 && same_nonce(nonce, kept->request_nonce);
}

/* The answer to this message, if it is on record. A pollReq has either. */
static const struct cmp_kept *find_kept(const struct cmp_state *state, bool *out_is_second)
{
    const struct cmp_record *record = &state->record;
    struct bytes nonce = state->msg.header.sender_nonce;
    bool is_opening = state->msg.body == (enum cmp_body)record->body;
    *out_is_second = false;
    if ((is_opening || state->msg.body == CMP_POLLREQ) && answers(&record->first, nonce)) {
        return &record->first;
    }
    *out_is_second = !is_opening;
    return !is_opening && answers(&record->second, nonce) ? &record->second : NULL;
}

enum err cmp_resume(const struct proto_route *route, const struct proto_line *line,
                    const struct proto_context *context, struct arena *arena,
                    struct proto_message *message)
{
    (void)route;
    struct cmp_state *state = message->state;
    enum cmp_body body = state->msg.body;
    bool goes_on = body == CMP_CERTCONF || body == CMP_POLLREQ || body == CMP_ERROR;
    state->has_head = true;
    state->now_s = context->now_s;
    memcpy(state->nonce, context->nonce, sizeof(state->nonce));
    memcpy(state->new_id, context->new_id, sizeof(state->new_id));
    if (state->header_err != ERR_OK) {
        return state->header_err;
    }
    enum err err = check_time(line->cmp, context, &state->msg);
    if (err != ERR_OK) {
        return err;
    }
    if (body == CMP_NESTED) {
        message->needs_ra = true;
        return message->protection == PROTECTION_MAC ? ERR_CMP_WRONG_INTEGRITY : ERR_OK;
    }
    if (body == CMP_GENM) {
        return take_general(context, arena, message);
    }
    if (!context->has_record) {
        return goes_on ? ERR_CMP_TRANSACTION : open_dialogue(line, context, arena, message);
    }
    err = cmp_record_decode(context->record, arena, &state->record);
    if (err != ERR_OK) {
        return err;
    }
    bool is_second = false;
    const struct cmp_kept *kept = find_kept(state, &is_second);
    if (kept && memcmp(state->record.binding, context->binding, 32) == 0) {
        return replay(arena, kept, is_second, message);
    }
    return goes_on ? go_on(line, context, arena, message) : ERR_TRANSACTION_IN_USE;
}
