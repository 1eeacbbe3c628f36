/* From CMP's bodies to what all protocols share. */
#include "crypto/digest.h"
#include "crypto/envelope.h"
#include "proto/cmp_impl.h"

/* --- room --- */

static bool make_requests(struct arena *arena, struct proto_message *message, uint32_t count)
{
    struct cmp_state *state = message->state;
    message->requests = arena_alloc(arena, count * sizeof(*message->requests));
    message->request_errs = arena_calloc(arena, count * sizeof(*message->request_errs));
    state->ids = arena_alloc(arena, count * sizeof(*state->ids));
    message->request_count = count;
    state->count = count;
    return message->requests && message->request_errs && state->ids;
}

static bool make_settles(struct arena *arena, struct proto_message *message, uint32_t count)
{
    message->settles = arena_calloc(arena, (count + 1) * sizeof(*message->settles));
    message->settle_count = count;
    return message->settles != NULL;
}

/* --- ir, cr, kur --- */

/* RFC 9810 5.2.8.3.2: the certificate is given encrypted, and certConf with its hash is the proof.
 * What is encrypted is EnvelopedData, which pvno 2 has not (section 7). */
static enum err check_indirect_pop(const struct cmp_state *state, const struct crmf_request *from)
{
    enum envelope_kind kind = envelope_kind_of(&from->request.spki);
    if (from->pop_key != CRMF_POP_ENCR_CERT || kind == ENVELOPE_NONE ||
        from->pop_is_agreement != (kind == ENVELOPE_ECDH)) {
        return ERR_BAD_POP;
    }
    return state->msg.header.pvno == 3 ? ERR_OK : ERR_CMP_VERSION;
}

static enum err check_pop(const struct proto_context *context, const struct cmp_state *state,
                          const struct crmf_request *from)
{
    switch (from->request.pop) {
    case POP_SIGNATURE:
        break;
    case POP_RA_VERIFIED:
        return context->is_ra ? ERR_OK : ERR_NOT_AUTHORIZED;
    case POP_KEY_ENCIPHERMENT:
        return check_indirect_pop(state, from);
    default:
        return ERR_BAD_POP;
    }
    if (!from->pop_over_input) {
        /* RFC 4211 4.1: without the input, the template must say who and what */
        return from->has_subject || from->request.san.len > 0 ? ERR_OK : ERR_BAD_POP;
    }
    if (from->pop_mac.len > 0) {
        return ERR_BAD_POP; /* publicKeyMAC: the message's own protection does this better */
    }
    return bytes_eq(from->pop_sender, state->msg.header.sender) ? ERR_OK : ERR_BAD_POP;
}

/* The certificate that a kur is about is the one that signed it (RFC 9810 5.3.5). */
static enum err check_update(const struct proto_context *context, struct crmf_request *from)
{
    const struct x509_cert *signer = context->signer;
    const struct cert_id *old = &from->old_cert_id;
    if (!signer || !context->is_device) {
        return ERR_CLIENT_CERT_REQUIRED;
    }
    if (old->serial.len > 0 &&
        (!bytes_eq(old->serial, signer->serial) || !bytes_eq(old->issuer, signer->issuer))) {
        return ERR_CMP_CERT_ID;
    }
    if (!from->has_subject) {
        from->request.subject = signer->subject;
        from->has_subject = true;
    }
    if (from->request.san.len == 0) {
        from->request.san = signer->san;
    }
    bool same = bytes_eq(from->request.subject, signer->subject) &&
                bytes_eq(from->request.san, signer->san);
    return same ? ERR_OK : ERR_SUBJECT_CHANGED;
}

/* --- keys that are made here (RFC 9810 4.2.1.3, RFC 9483 4.1.6) --- */

/* Whoever protected the message can open what is encrypted for them. */
static bool can_open(const struct proto_context *context, const struct proto_message *message)
{
    const struct x509_cert *signer = context->signer;
    if (message->protection != PROTECTION_SIGNATURE || !signer) {
        return message->protection == PROTECTION_MAC;
    }
    enum envelope_kind kind = envelope_kind_of(&signer->spki);
    uint32_t needed = kind == ENVELOPE_ECDH ? KU_KEY_AGREEMENT : KU_KEY_ENCIPHERMENT;
    return kind != ENVELOPE_NONE && envelope_key_check(&signer->spki) == ERR_OK &&
           (!signer->has_key_usage || (signer->key_usage & needed) != 0);
}

/* The kind that an empty key names, or the first that the line takes. */
static enum key_alg wished_alg(const struct proto_cmp_line *line, const struct crmf_request *from)
{
    static const enum key_alg known[] = {KEY_EC_P256, KEY_EC_P384, KEY_RSA, KEY_ED25519};
    if (!from->key_is_empty) {
        return line->key_alg_count > 0 ? line->key_algs[0] : KEY_EC_P256;
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (bytes_eq(from->key_alg, key_alg_der(known[i]))) {
            return known[i];
        }
    }
    return KEY_NONE;
}

static enum err wish_key(const struct proto_line *line, const struct proto_context *context,
                         const struct crmf_request *from, struct arena *arena,
                         struct proto_message *message)
{
    const struct cmp_state *state = message->state;
    if (!line->cmp->keygen || !can_open(context, message)) {
        return ERR_BAD_TEMPLATE; /* keys are made where they are used */
    }
    if (state->msg.header.pvno != 3) {
        return ERR_CMP_VERSION;
    }
    if (from->request.pop != POP_NONE) {
        return ERR_BAD_POP;
    }
    struct proto_key_wish *wish = arena_alloc(arena, sizeof(*wish));
    enum key_alg alg = wished_alg(line->cmp, from);
    if (state->count != 1 || alg == KEY_NONE || !wish) {
        return state->count != 1 ? ERR_BAD_REQUEST : alg == KEY_NONE ? ERR_BAD_ALG : ERR_OVERLOADED;
    }
    *wish = (struct proto_key_wish){.alg = alg, .bits = line->cmp->rsa_bits_min};
    message->key_wish = wish;
    return ERR_OK;
}

static enum err check_one(const struct proto_line *line, const struct proto_context *context,
                          struct crmf_request *from, struct arena *arena,
                          struct proto_message *message)
{
    const struct cmp_state *state = message->state;
    if (from->err != ERR_OK) {
        return from->err;
    }
    if (from->cert_req_id < 0 || (line->cmp->strict && from->cert_req_id != 0)) {
        return ERR_BAD_REQUEST;
    }
    enum err err = state->msg.body == CMP_KUR ? check_update(context, from) : ERR_OK;
    if (err != ERR_OK) {
        return err;
    }
    bool is_nameless = name_is_empty(from->request.subject);
    if (is_nameless && (line->cmp->strict || from->request.san.len == 0)) {
        return ERR_BAD_TEMPLATE;
    }
    return from->has_key ? check_pop(context, state, from)
                         : wish_key(line, context, from, arena, message);
}

/* What is given encrypted is no proof before it was opened, and a key that was made here may be lost
 * with its answer: both wait for certConf, whatever the client would rather have. */
static enum err bind_sealed(struct proto_message *message)
{
    struct cmp_state *state = message->state;
    uint32_t sealed = message->key_wish != NULL;
    for (uint32_t i = 0; i < message->request_count; i++) {
        bool is_sealed = message->request_errs[i] == ERR_OK &&
                         message->requests[i].pop == POP_KEY_ENCIPHERMENT;
        sealed += is_sealed;
    }
    if (sealed > 0) {
        state->implicit = false;
        message->waits_for_confirmation = true;
    }
    return sealed <= CMP_SEALED_MAX ? ERR_OK : ERR_BAD_REQUEST;
}

/* An id names one request of its message. */
static bool id_is_taken(const struct cmp_state *state, uint32_t index)
{
    for (uint32_t i = 0; i < index; i++) {
        if (state->ids[i] == state->ids[index]) {
            return true;
        }
    }
    return false;
}

/* Ids that rise, as everybody counts them, need no look back. */
static bool ids_are_unique(const struct cmp_state *state)
{
    for (uint32_t i = 1; i < state->count; i++) {
        if (state->ids[i] <= state->ids[i - 1] && id_is_taken(state, i)) {
            return false;
        }
    }
    return true;
}

_Static_assert(CMP_REQUESTS_PER_MESSAGE_MAX * sizeof(struct cert_request) <= CHUNK_LARGE_SIZE,
               "the requests of a message lie in one chunk");

enum err cmp_take_certs(const struct proto_line *line, const struct proto_context *context,
                        struct arena *arena, struct proto_message *message)
{
    struct cmp_state *state = message->state;
    struct bytes content = state->msg.content;
    uint32_t count = 0;
    enum err err = cmp_cert_reqs_count(content, &count);
    if (err != ERR_OK) {
        return err;
    }
    uint32_t max = state->msg.body == CMP_KUR ? 1 : line->cmp->requests_max;
    if (count == 0 || count > max) {
        return ERR_BAD_REQUEST;
    }
    struct bytes list;
    struct crmf_request *one = arena_alloc(arena, sizeof(*one));
    uint8_t *copies = arena_alloc(arena, content.len);
    if (!one || !copies || !make_requests(arena, message, count)) {
        return ERR_OVERLOADED;
    }
    struct writer scratch = writer_of(copies, content.len);
    if (!der_get(&content, DER_SEQUENCE, &list)) {
        return ERR_BAD_DER;
    }
    for (uint32_t i = 0; i < count; i++) {
        err = cmp_cert_req_get(&list, &scratch, one);
        if (err != ERR_OK) {
            return err;
        }
        state->ids[i] = one->cert_req_id;
        message->request_errs[i] = check_one(line, context, one, arena, message);
        message->requests[i] = one->request;
    }
    message->needs_ra = context->is_ra; /* raVerified alone skips a proof, and only there */
    message->action = state->msg.body == CMP_KUR ? ACTION_REENROLL : ACTION_ENROLL;
    err = bind_sealed(message);
    if (err != ERR_OK) {
        return err;
    }
    return ids_are_unique(state) ? ERR_OK : ERR_BAD_REQUEST;
}

enum err cmp_take_p10(const struct proto_line *line, const struct proto_context *context,
                      struct arena *arena, struct proto_message *message)
{
    (void)line;
    (void)context;
    struct cmp_state *state = message->state;
    if (!make_requests(arena, message, 1)) {
        return ERR_OVERLOADED;
    }
    state->ids[0] = -1; /* RFC 9810 5.3.4 */
    message->action = ACTION_ENROLL;
    enum err err = csr_decode(state->msg.content, &message->requests[0]);
    return err == ERR_BAD_CSR ? ERR_BAD_DER : err;
}

/* --- rr --- */

enum { REASON_REMOVE_FROM_CRL = 8 };

enum err cmp_take_revocations(const struct proto_context *context, struct arena *arena,
                              struct proto_message *message)
{
    (void)context;
    struct cmp_state *state = message->state;
    uint32_t count = 0;
    state->revocations = arena_alloc(arena, CMP_REVOCATIONS_MAX * sizeof(*state->revocations));
    if (!state->revocations) {
        return ERR_OVERLOADED;
    }
    enum err err =
        cmp_rev_req_decode(state->msg.content, state->revocations, CMP_REVOCATIONS_MAX, &count);
    if (err != ERR_OK) {
        return err == ERR_NO_SPACE ? ERR_BAD_REQUEST : err;
    }
    if (!make_settles(arena, message, count)) {
        return ERR_OVERLOADED;
    }
    state->count = count;
    for (uint32_t i = 0; i < count; i++) {
        const struct cmp_revocation *from = &state->revocations[i];
        bool release = from->has_reason && from->reason == REASON_REMOVE_FROM_CRL;
        bool is_named = from->cert.issuer.len > 0 && from->cert.serial.len > 0;
        message->settles[i] = (struct proto_settle){
            .issuer = from->cert.issuer,
            .serial = from->cert.serial,
            .act = release ? SETTLE_ACT_RELEASE : SETTLE_ACT_REVOKE,
            .reason = from->has_reason ? from->reason : 0,
            .err = is_named ? ERR_OK : ERR_CMP_NO_CERT_ID,
        };
    }
    message->action = ACTION_REVOKE;
    return ERR_OK;
}

/* --- certConf --- */

static enum hash_alg hash_of_cert(struct bytes der)
{
    struct x509_cert cert;
    if (x509_decode(der, &cert) != ERR_OK) {
        return HASH_NONE;
    }
    enum hash_alg hash = sig_alg_hash(cert.sig_alg);
    /* Ed25519 names no hash: RFC 9810 5.3.18 with RFC 9481 2.2 */
    return hash == HASH_NONE && cert.sig_alg != SIG_NONE ? HASH_SHA512 : hash;
}

static enum err check_hash(const struct proto_context *context, const struct cmp_state *state,
                           const struct cmp_cert_status *status, uint64_t cert_log)
{
    struct bytes der = context->cert_of(context->ctx, cert_log);
    enum hash_alg hash = hash_of_cert(der);
    uint8_t digest[DIGEST_LEN_MAX];
    if (status->hash_alg.len > 0) {
        if (state->msg.header.pvno != 3) {
            return ERR_CMP_CERT_ID;
        }
        hash = hash_alg_from_der(status->hash_alg);
    }
    if (der.len == 0 || hash == HASH_NONE) {
        return hash == HASH_NONE ? ERR_BAD_ALG : ERR_CMP_CERT_ID;
    }
    digest_once(hash, der, digest);
    return bytes_eq(status->cert_hash, bytes_of(digest, hash_alg_len(hash))) ? ERR_OK
                                                                             : ERR_CMP_CERT_ID;
}

static struct cmp_cert_status *status_of(const struct cmp_state *state, int64_t cert_req_id)
{
    for (uint32_t i = 0; i < state->count; i++) {
        if (state->confirms[i].cert_req_id == cert_req_id) {
            return &state->confirms[i];
        }
    }
    return NULL;
}

/* Confirmed when it says so; rejected when it says that, or nothing at all. */
static enum err settle_of(const struct proto_context *context, const struct cmp_state *state,
                          const struct cmp_kept_item *item, struct proto_settle *out)
{
    const struct cmp_cert_status *status = status_of(state, item->cert_req_id);
    *out = (struct proto_settle){.cert_log = item->cert_log, .act = SETTLE_ACT_REJECT};
    if (!status) {
        return ERR_OK;
    }
    bool rejected = status->has_status && status->status.status == CMP_REJECTION;
    if (status->has_status && !rejected && status->status.fail != 0) {
        return ERR_BAD_REQUEST;
    }
    if (rejected) {
        return ERR_OK;
    }
    out->act = SETTLE_ACT_CONFIRM;
    return check_hash(context, state, status, item->cert_log);
}

static bool is_open(const struct cmp_kept_item *item)
{
    return item->err == ERR_OK && item->cert_log != 0;
}

static uint32_t open_items(const struct cmp_record *record)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < record->item_count; i++) {
        count += is_open(&record->items[i]);
    }
    return count;
}

static bool ids_are_known(const struct cmp_state *state)
{
    for (uint32_t i = 0; i < state->count; i++) {
        bool known = false;
        for (uint32_t k = 0; k < state->record.item_count && !known; k++) {
            known = is_open(&state->record.items[k]) &&
                    state->record.items[k].cert_req_id == state->confirms[i].cert_req_id;
        }
        bool is_first = status_of(state, state->confirms[i].cert_req_id) == &state->confirms[i];
        if (!known || !is_first) {
            return false;
        }
    }
    return true;
}

enum err cmp_take_confirms(const struct proto_context *context, struct arena *arena,
                           struct proto_message *message)
{
    struct cmp_state *state = message->state;
    const struct cmp_record *record = &state->record;
    uint32_t max = record->item_count + 1;
    state->confirms = arena_alloc(arena, max * sizeof(*state->confirms));
    if (!state->confirms || !make_settles(arena, message, open_items(record))) {
        return ERR_OVERLOADED;
    }
    enum err err = cmp_cert_conf_decode(state->msg.content, state->confirms, max, &state->count);
    if (err != ERR_OK) {
        return err == ERR_NO_SPACE ? ERR_BAD_REQUEST : err;
    }
    if (!ids_are_known(state)) {
        return ERR_BAD_REQUEST;
    }
    uint32_t filled = 0;
    for (uint32_t i = 0; i < record->item_count && err == ERR_OK; i++) {
        if (is_open(&record->items[i])) {
            err = settle_of(context, state, &record->items[i], &message->settles[filled++]);
        }
    }
    message->action = ACTION_SETTLE;
    return err;
}

enum err cmp_reject_all(struct arena *arena, struct proto_message *message)
{
    const struct cmp_state *state = message->state;
    uint32_t filled = 0;
    if (!make_settles(arena, message, open_items(&state->record))) {
        return ERR_OVERLOADED;
    }
    for (uint32_t i = 0; i < state->record.item_count; i++) {
        if (is_open(&state->record.items[i])) {
            message->settles[filled++] = (struct proto_settle){
                .cert_log = state->record.items[i].cert_log, .act = SETTLE_ACT_REJECT};
        }
    }
    message->action = ACTION_SETTLE;
    return ERR_OK;
}
