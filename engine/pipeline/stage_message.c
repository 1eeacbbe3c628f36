/* AUTHENTICATE for messages that prove their sender themselves (CMP): their signature or MAC, and
 * what is on record of the dialogue that they belong to. */
#include "asn1/oid.h"
#include "base/secret.h"
#include "crypto/digest.h"
#include "crypto/mac_cache.h"
#include "pipeline/pipeline.h"

/* One MAC's key derivation that costs no more than a signature check is done where one would be;
 * dearer ones are the MAC worker's, which yields to everything else. */
enum { MAC_COST_ON_CORE_MAX = 1100 };

/* --- signatures (RFC 9810 5.1.3.3) --- */

/* The signer's certificate is the first of extraCerts, the sender its subject and senderKID its
 * SKI (RFC 9483 3.2). */
static enum err find_signer(struct unit *unit)
{
    struct proto_message *message = unit->message;
    if (message->extra_cert_count == 0) {
        return ERR_CLIENT_CERT_UNTRUSTED;
    }
    unit->signer = arena_alloc(&unit->exchange->net.arena, sizeof(*unit->signer));
    if (!unit->signer) {
        return ERR_OVERLOADED;
    }
    struct x509_cert *signer = unit->signer;
    if (x509_decode(message->extra_certs[0], signer) != ERR_OK) {
        unit->signer = NULL;
        return ERR_CMP_MESSAGE_CHECK;
    }
    bool names_itself = bytes_eq(message->sender_name, signer->subject);
    bool names_key = signer->ski.len == 0 || bytes_eq(message->sender_key_id, signer->ski);
    bool may_sign = !signer->has_key_usage || (signer->key_usage & KU_DIGITAL_SIGNATURE) != 0;
    return names_itself && names_key && may_sign ? ERR_OK : ERR_CMP_MESSAGE_CHECK;
}

static enum err start_signature(struct core *core, struct unit *unit)
{
    const struct proto_message *message = unit->message;
    enum err err = find_signer(unit);
    if (err != ERR_OK) {
        return err;
    }
    if (!sig_alg_fits(message->protection_alg, unit->signer->spki.alg)) {
        return ERR_CMP_MESSAGE_CHECK;
    }
    unit->check = (struct lent_verify){
        .unit = unit,
        .home = core->index,
        .job =
            {
                .alg = message->protection_alg,
                .spki = &unit->signer->spki,
                .message = message->protected_part,
                .signature = message->protection_value,
            },
    };
    if (!board_offer(core->shared->boards[core->index], &unit->check)) {
        return ERR_OVERLOADED;
    }
    unit->exchange->waits++;
    return ERR_OK;
}

/* --- MACs (RFC 9810 5.1.3.1, RFC 8018 7.1) --- */

static const struct rt_station *station_by_reference(const struct snapshot *snapshot,
                                                     struct bytes reference)
{
    for (uint32_t i = 0; i < snapshot->station_count && reference.len > 0; i++) {
        const struct rt_station *station = &snapshot->stations[i];
        if (station->cmp_secret.len > 0 &&
            bytes_eq(bytes_of_str(station->cmp_reference), reference)) {
            return station;
        }
    }
    return NULL;
}

/* RFC 9483 3.1: the sender is a directoryName whose CN is the senderKID. */
static bool sender_fits_reference(const struct unit *unit)
{
    const struct proto_message *message = unit->message;
    const struct proto_cmp_line *line = unit->exchange->line->proto.cmp;
    struct bytes cn;
    if (name_find(message->sender_name, OID_AT_COMMON_NAME, &cn) &&
        bytes_eq(cn, message->sender_key_id)) {
        return true;
    }
    return line && line->lenient_sender;
}

static void run_mac(struct costly_job *job)
{
    struct unit *unit = job->owner;
    job->err = mac_key_derive(unit->mac_params, job->input, unit->mac_key);
}

static struct bytes secret_id(const struct unit *unit, uint8_t out[12])
{
    store_be64(out, (uint64_t)(uintptr_t)unit->caller.station);
    store_be32(out + 8, unit->exchange->snapshot->generation);
    return bytes_of(out, 12);
}

static enum err verify_mac(const struct unit *unit)
{
    const struct proto_message *message = unit->message;
    enum err err = mac_verify(unit->mac_key, &message->protected_part, 1, message->protection_value);
    return err == ERR_OK ? ERR_OK : ERR_CMP_MESSAGE_CHECK;
}

/* The key was derived anew: it is kept for the next message when it was the right one. */
static enum err verify_mac_and_keep(struct core *core, struct unit *unit)
{
    enum err err = verify_mac(unit);
    uint8_t id[12];
    if (err == ERR_OK) {
        mac_cache_insert(&core->macs, secret_id(unit, id), unit->mac_params, unit->mac_key);
    }
    return err;
}

static enum err start_mac(struct core *core, struct unit *unit)
{
    struct exchange *exchange = unit->exchange;
    const struct proto_message *message = unit->message;
    unit->mac_params = arena_alloc(&exchange->net.arena, sizeof(*unit->mac_params));
    unit->mac_key = arena_calloc(&exchange->net.arena, sizeof(*unit->mac_key));
    if (!unit->mac_params || !unit->mac_key) {
        return ERR_OVERLOADED;
    }
    enum err err = mac_params_decode(message->protection_alg_der, unit->mac_params);
    if (err != ERR_OK) {
        return err;
    }
    const struct rt_station *station =
        station_by_reference(exchange->snapshot, message->sender_key_id);
    if (!station || !sender_fits_reference(unit)) {
        return ERR_CMP_MESSAGE_CHECK;
    }
    unit->caller.kind = CALLER_STATION;
    unit->caller.station = station;
    uint8_t id[12];
    if (mac_cache_lookup(&core->macs, secret_id(unit, id), unit->mac_params, unit->mac_key)) {
        unit->is_checked = verify_mac(unit) == ERR_OK;
        return unit->is_checked ? ERR_OK : ERR_CMP_MESSAGE_CHECK;
    }
    unit->costly = (struct costly_job){
        .run = run_mac,
        .owner = unit,
        .core = core->index,
        .input = station->cmp_secret,
        .is_message = true,
        .no_sharing = true,
    };
    if (mac_cost(unit->mac_params) <= MAC_COST_ON_CORE_MAX) {
        run_mac(&unit->costly);
        err = unit->costly.err == ERR_OK ? verify_mac_and_keep(core, unit) : unit->costly.err;
        unit->is_checked = err == ERR_OK;
        return err;
    }
    err = costly_submit(core->shared->mac_worker, &unit->costly);
    exchange->waits += err == ERR_OK;
    return err;
}

/* --- the dialogue on record --- */

struct bytes message_transaction_key(const struct unit *unit, uint8_t out[TRANSACTION_KEY_MAX])
{
    const struct exchange *exchange = unit->exchange;
    struct writer key = writer_of(out, TRANSACTION_KEY_MAX);
    uint8_t line[4];
    store_be32(line, exchange->line->line_id);
    writer_put_u8(&key, exchange->route.proto->journal_protocol);
    writer_put(&key, BYTES_ARRAY(line));
    writer_put(&key, unit->message->transaction_id);
    return writer_view(&key);
}

/* The credential that a dialogue is bound to. */
static void put_binding(const struct unit *unit, uint8_t out[32])
{
    const struct proto_message *message = unit->message;
    if (unit->signer) {
        sha256_once(unit->signer->der, out);
    } else {
        sha256_once(message->sender_key_id, out);
    }
}

static enum err load_record(struct core *core, struct unit *unit)
{
    struct proto_context *context = unit->context;
    uint8_t key[TRANSACTION_KEY_MAX];
    struct transaction_record record;
    struct bytes data;
    context->has_record = false;
    if (unit->message->transaction_id.len == 0) {
        return ERR_OK;
    }
    enum err err = reader_transaction(core->reader, message_transaction_key(unit, key), &record, &data);
    if (err == ERR_NOT_FOUND) {
        return ERR_OK;
    }
    if (err != ERR_OK) {
        return err;
    }
    context->has_record = true;
    context->record_state = record.state;
    context->record = arena_dup(&unit->exchange->net.arena, data);
    return context->record.len > 0 ? ERR_OK : ERR_OVERLOADED;
}

static enum err load_replay(struct core *core, struct unit *unit)
{
    const struct proto_message *message = unit->message;
    struct arena *arena = &unit->exchange->net.arena;
    unit->outcomes = arena_calloc(arena, (message->replay_count + 1) * sizeof(*unit->outcomes));
    if (!unit->outcomes) {
        return ERR_OVERLOADED;
    }
    for (uint32_t i = 0; i < message->replay_count; i++) {
        struct proto_outcome *outcome = &unit->outcomes[i];
        struct cert_view cert;
        outcome->err = message->replay_errs[i];
        outcome->cert_log = message->replay_logs[i];
        if (outcome->err != ERR_OK || outcome->cert_log == 0) {
            continue;
        }
        if (reader_cert(core->reader, outcome->cert_log, &cert) != ERR_OK) {
            return ERR_INTERNAL;
        }
        outcome->cert_der = arena_dup(arena, cert.der);
        if (outcome->cert_der.len == 0) {
            return ERR_OVERLOADED;
        }
    }
    return ERR_OK;
}

/* Names of certificates into log numbers; what is not found is refused alone. */
static void find_settles(struct core *core, struct unit *unit)
{
    const struct rt_line *line = unit->exchange->line;
    for (uint32_t i = 0; i < unit->message->settle_count; i++) {
        struct proto_settle *settle = &unit->message->settles[i];
        if (settle->err != ERR_OK || settle->cert_log != 0) {
            continue;
        }
        enum err err = bytes_eq(settle->issuer, line->ca->cert.subject)
                           ? reader_serial(core->reader, line->ca->issuer_id, settle->serial,
                                           &settle->cert_log)
                           : ERR_NOT_FOUND;
        settle->err = err == ERR_NOT_FOUND ? ERR_CERT_UNKNOWN : err;
    }
}

enum err message_resume(struct core *core, struct unit *unit)
{
    struct exchange *exchange = unit->exchange;
    enum err err = load_record(core, unit);
    if (err == ERR_OK) {
        err = exchange->route.proto->resume(&exchange->route, &exchange->line->proto, unit->context,
                                            &exchange->net.arena, unit->message);
    }
    if (err == ERR_OK && unit->message->action == ACTION_REPLAY) {
        err = load_replay(core, unit);
    }
    if (err == ERR_OK && unit->message->settle_count > 0) {
        find_settles(core, unit);
    }
    return err;
}

/* --- who may do what --- */

/* A device may give up its certificate, but not by a key that it has replaced; and what an operator
 * put on hold, an operator releases. */
static enum err authorize_own_revocation(const struct caller *caller,
                                         const struct proto_message *message)
{
    if (caller->superseded) {
        return ERR_CLIENT_CERT_REVOKED;
    }
    for (uint32_t i = 0; i < message->settle_count; i++) {
        if (message->settles[i].act == SETTLE_RELEASE) {
            return ERR_NOT_AUTHORIZED;
        }
    }
    return ERR_OK;
}

/* Requests that will wait for an operator: not everybody's, and not for another device by a device,
 * whom it would be refused in the end. */
static enum err authorize_waiting(const struct unit *unit)
{
    const struct proto_message *message = unit->message;
    const struct caller *caller = &unit->caller;
    struct identity id;
    enum err err = caller_check_role(unit->exchange, caller, ROLE_ENROLL);
    if (caller->kind != CALLER_VENDOR && caller->kind != CALLER_DEVICE) {
        return err;
    }
    for (uint32_t i = 0; i < message->request_count && err == ERR_OK; i++) {
        if (!message->request_errs || message->request_errs[i] == ERR_OK) {
            err = caller_check_identity(unit->exchange, caller, &message->requests[i], &id);
        }
    }
    return err;
}

static enum err authorize(const struct unit *unit)
{
    const struct exchange *exchange = unit->exchange;
    const struct caller *caller = &unit->caller;
    const struct proto_message *message = unit->message;
    if (message->needs_ra && !unit->context->is_ra) {
        return ERR_NOT_AUTHORIZED;
    }
    switch (message->action) {
    case ACTION_ENROLL:
        return caller_check_role(exchange, caller, ROLE_ENROLL);
    case ACTION_MESSAGE:
        return message->request_count > 0 ? authorize_waiting(unit) : ERR_OK;
    case ACTION_REENROLL:
        if (caller->kind != CALLER_DEVICE) {
            return ERR_CLIENT_CERT_REQUIRED;
        }
        return exchange->line->config->renewal ? ERR_OK : ERR_NOT_AUTHORIZED;
    case ACTION_REVOKE:
        if (caller->kind == CALLER_VENDOR) {
            return ERR_NOT_AUTHORIZED;
        }
        if (caller->kind == CALLER_DEVICE) {
            return authorize_own_revocation(caller, message);
        }
        return caller_check_role(exchange, caller, ROLE_REVOKE);
    default:
        return ERR_OK;
    }
}

static bool is_anonymous(const struct unit *unit)
{
    return unit->message->protection == PROTECTION_NONE;
}

/* A message inside of a registration authority's own may come without protection: it is the
 * authority's then. */
static enum err adopt_outer(struct unit *unit)
{
    struct unit *own = &unit->exchange->own;
    if (!is_anonymous(unit) || unit->message->anonymous_allowed) {
        return ERR_OK;
    }
    if (unit == own || own->message->action != ACTION_NESTED || is_anonymous(own)) {
        return ERR_CMP_MESSAGE_CHECK;
    }
    unit->caller = own->caller;
    unit->signer = own->signer;
    return ERR_OK;
}

/* What a protocol may ask for while it decides. */
struct asker {
    struct core *core;
    struct exchange *exchange;
};

static struct bytes cert_of(void *ctx, uint64_t log)
{
    const struct core *core = ((struct asker *)ctx)->core;
    struct cert_view cert;
    return reader_cert(core->reader, log, &cert) == ERR_OK ? cert.der : (struct bytes){0};
}

static struct bytes crl_of(void *ctx, int64_t *out_this_update_s)
{
    const struct asker *asker = ctx;
    const struct crl_blob *blob = crl_hold(asker->core, asker->exchange,
                                           bytes_of_str(asker->exchange->line->ca->name));
    if (!blob) {
        return (struct bytes){0};
    }
    *out_this_update_s = blob->this_update_s;
    return blob->der;
}

static enum err follow(struct core *core, struct unit *unit)
{
    struct exchange *exchange = unit->exchange;
    enum err err = unit->err != ERR_OK ? unit->err : adopt_outer(unit);
    if (err == ERR_OK && unit->signer && unit->caller.kind == CALLER_ANONYMOUS) {
        err = caller_by_cert(core, exchange, unit->message->extra_certs,
                             unit->message->extra_cert_count, &unit->caller);
    }
    if (err != ERR_OK) {
        return err;
    }
    caller_name(&unit->caller);
    unit->context = arena_calloc(&exchange->net.arena, sizeof(*unit->context));
    struct asker *asker = arena_alloc(&exchange->net.arena, sizeof(*asker));
    if (!unit->context || !asker) {
        return ERR_OVERLOADED;
    }
    *asker = (struct asker){core, exchange};
    const struct caller *caller = &unit->caller;
    *unit->context = (struct proto_context){
        .now_s = core->now_s,
        .is_ra = caller->kind == CALLER_RA ||
                 (caller->station && (caller->station->roles & ROLE_RA) != 0),
        .is_device = caller->kind == CALLER_DEVICE,
        .is_hold = exchange->line->config->hold,
        .signer = unit->signer,
        .signer_log = caller->cert_log,
        .line_id = exchange->line->line_id,
        .cert_of = cert_of,
        .crl_of = crl_of,
        .ctx = asker,
    };
    random_bytes(unit->context->nonce, sizeof(unit->context->nonce));
    random_bytes(unit->context->new_id, sizeof(unit->context->new_id));
    put_binding(unit, unit->context->binding);
    err = message_resume(core, unit);
    return err == ERR_OK ? authorize(unit) : err;
}

/* --- one transactionID, one message --- */

enum { ID_SLOTS = 2 * CMP_NESTED_MAX }; /* power of two */

static struct bytes *slot_of(struct bytes *slots, struct bytes id)
{
    uint32_t at = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < id.len; i++) {
        at = (at ^ id.ptr[i]) * 16777619u;
    }
    while (slots[at & (ID_SLOTS - 1)].len > 0 && !bytes_eq(slots[at & (ID_SLOTS - 1)], id)) {
        at++;
    }
    return &slots[at & (ID_SLOTS - 1)];
}

/* Of the messages of a batch that name the same dialogue, the first alone is taken: none of them
 * would find the others on record. */
static enum err refuse_id_twins(struct exchange *exchange)
{
    if (exchange->inner_count == 0) {
        return ERR_OK;
    }
    struct bytes *slots = arena_calloc(&exchange->net.arena, ID_SLOTS * sizeof(*slots));
    if (!slots) {
        return ERR_OVERLOADED;
    }
    for (uint32_t i = 0; i < exchange->inner_count; i++) {
        struct unit *unit = &exchange->inner[i];
        struct bytes id = unit->message->transaction_id;
        if (unit->err != ERR_OK || id.len == 0) {
            continue;
        }
        struct bytes *slot = slot_of(slots, id);
        if (slot->len > 0) {
            unit->err = ERR_TRANSACTION_IN_USE;
        }
        *slot = id;
    }
    return ERR_OK;
}

/* A batch that one refused message spoils, where the line says so: nothing of it has been done yet. */
static enum err spoiled_by(struct exchange *exchange)
{
    const struct proto_cmp_line *line = exchange->line->proto.cmp;
    for (uint32_t i = 0; line && line->batch_fails_whole && i < exchange->inner_count; i++) {
        if (exchange->inner[i].err != ERR_OK) {
            return exchange->inner[i].err;
        }
    }
    return ERR_OK;
}

/* Of the units from..to-1 in one read of the store; its error is the reader's. */
static enum err follow_some(struct core *core, struct exchange *exchange, uint32_t from,
                            uint32_t to)
{
    enum err err = reader_begin(core->reader);
    if (err != ERR_OK) {
        return err;
    }
    for (uint32_t i = from; i < to; i++) {
        struct unit *unit = unit_at(exchange, i);
        unit->err = follow(core, unit);
    }
    reader_end(core->reader);
    return ERR_OK;
}

/* Every check is in: what each message may do. */
static enum verdict follow_all(struct core *core, struct exchange *exchange)
{
    struct unit *own = &exchange->own;
    enum err err = follow_some(core, exchange, exchange->inner_count > 0, unit_count(exchange));
    if (own->err == ERR_OK) {
        own->err = err == ERR_OK ? refuse_id_twins(exchange) : err;
    }
    if (own->err == ERR_OK) {
        own->err = spoiled_by(exchange);
    }
    if (own->err != ERR_OK) {
        return VERDICT_REFUSE;
    }
    keys_start(core, exchange);
    return exchange->waits > 0 ? VERDICT_WAIT_COSTLY : VERDICT_FAN_OUT;
}

void message_costly_done(struct core *core, struct unit *unit, enum err err)
{
    switch (unit->step) {
    case UNIT_CHECKS_MAC:
        message_checked(core, unit, err);
        break;
    case UNIT_MAKES_KEY:
        key_made(core, unit, err);
        break;
    case UNIT_SEALS_KEY:
        key_sealed(core, unit, err);
        break;
    }
}

static enum verdict checked_all(struct core *core, struct exchange *exchange);

void message_checked(struct core *core, struct unit *unit, enum err err)
{
    struct exchange *exchange = unit->exchange;
    if (unit->message->protection == PROTECTION_MAC && err == ERR_OK) {
        err = verify_mac_and_keep(core, unit);
    }
    unit->is_checked = err == ERR_OK;
    unit->err = err == ERR_BAD_SIGNATURE || err == ERR_BAD_KEY ? ERR_CMP_MESSAGE_CHECK : err;
    if (--exchange->waits == 0) {
        pipeline_resume_exchange(core, exchange, STAGE_AUTHENTICATE, checked_all(core, exchange));
    }
}

static enum err start_check(struct core *core, struct unit *unit)
{
    if (unit->message->err != ERR_OK) {
        return unit->message->err;
    }
    switch (unit->message->protection) {
    case PROTECTION_SIGNATURE:
        return start_signature(core, unit);
    case PROTECTION_MAC:
        return start_mac(core, unit);
    case PROTECTION_NONE:
        break;
    }
    return ERR_OK;
}

static bool make_inner(struct exchange *exchange)
{
    struct proto_message *message = &exchange->message;
    if (message->inner_count == 0) {
        return true;
    }
    exchange->inner = arena_calloc(&exchange->net.arena, message->inner_count * sizeof(struct unit));
    if (!exchange->inner) {
        return false;
    }
    exchange->inner_count = message->inner_count;
    for (uint32_t i = 0; i < message->inner_count; i++) {
        exchange->inner[i].exchange = exchange;
        exchange->inner[i].message = &message->inner[i];
        exchange->inner[i].decoded = true;
    }
    return true;
}

enum verdict message_authenticate(struct core *core, struct exchange *exchange)
{
    exchange->own.err = start_check(core, &exchange->own);
    return exchange->waits > 0 ? VERDICT_WAIT_VERIFY : checked_all(core, exchange);
}

/* What a message holds is looked at when its sender is known and may send such: strangers cost one
 * check, however much they send. */
static enum verdict open_inner(struct core *core, struct exchange *exchange)
{
    struct unit *own = &exchange->own;
    enum err err = follow_some(core, exchange, 0, 1);
    if (err != ERR_OK || own->err != ERR_OK) {
        own->err = own->err == ERR_OK ? err : own->err;
        return VERDICT_REFUSE;
    }
    if (!make_inner(exchange)) {
        own->err = ERR_OVERLOADED;
        return VERDICT_REFUSE;
    }
    for (uint32_t i = 0; i < exchange->inner_count; i++) {
        struct unit *unit = &exchange->inner[i];
        unit->err = start_check(core, unit);
    }
    return exchange->waits > 0 ? VERDICT_WAIT_VERIFY : follow_all(core, exchange);
}

static enum verdict checked_all(struct core *core, struct exchange *exchange)
{
    bool is_closed = exchange->message.inner_count > 0 && exchange->inner_count == 0;
    return is_closed ? open_inner(core, exchange) : follow_all(core, exchange);
}
