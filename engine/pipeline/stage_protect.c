/* SETTLE, PROTECT and RECORD: what becomes of older certificates, the signature or MAC of the
 * answer, and what is remembered of the dialogue before the answer leaves. */
#include "base/clock.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "crypto/softkey.h"
#include "pipeline/pipeline.h"

enum { SWEEP_EVERY_MS = 1000, SWEEP_ROWS_MAX = 256 };

/* --- SETTLE --- */

/* The same message again asks for the same, whatever it came to; and each of its items is its own. */
static void mark_settles(struct unit *unit)
{
    uint8_t hash[SHA256_LEN], number[4];
    struct bytes said = unit->message->protected_part;
    if (unit->message->action != ACTION_REVOKE || said.len == 0) {
        return;
    }
    sha256_once(said, hash);
    for (uint32_t i = 0; i < unit->settle_set.count; i++) {
        struct settle_item *item = &unit->settle_set.items[i];
        memcpy(item->mark, hash, sizeof(item->mark));
        store_be32(number, unit->settle_of[i]);
        for (uint32_t k = 0; k < sizeof(number); k++) {
            item->mark[k] ^= number[k];
        }
    }
}

static enum err fill_settle_set(struct unit *unit)
{
    const struct proto_message *message = unit->message;
    struct arena *arena = &unit->exchange->net.arena;
    unit->settle_set.count = 0;
    unit->settle_set.items = arena_calloc(arena, message->settle_count * sizeof(struct settle_item));
    unit->settle_of = arena_alloc(arena, message->settle_count * sizeof(uint32_t));
    if (!unit->settle_set.items || !unit->settle_of) {
        return ERR_OVERLOADED;
    }
    for (uint32_t i = 0; i < message->settle_count; i++) {
        const struct proto_settle *settle = &message->settles[i];
        if (settle->err == ERR_OK) {
            unit->settle_of[unit->settle_set.count] = i;
            unit->settle_set.items[unit->settle_set.count++] = (struct settle_item){
                .cert_log = settle->cert_log, .act = settle->act, .reason = settle->reason};
        }
    }
    mark_settles(unit);
    return ERR_OK;
}

static enum err submit_settle(struct core *core, struct unit *unit)
{
    struct exchange *exchange = unit->exchange;
    const struct caller *caller = &unit->caller;
    enum err err = fill_settle_set(unit);
    if (err != ERR_OK || unit->settle_set.count == 0) {
        return err;
    }
    struct store_job *job = store_job_take(core->shared->store, core->index);
    if (!job) {
        return ERR_OVERLOADED;
    }
    struct settle_facts facts = {
        .line_id = exchange->line->line_id,
        .protocol = exchange->route.proto->journal_protocol,
        .who_len = caller->name_len,
    };
    memcpy(facts.who, caller->name, caller->name_len);
    memcpy(facts.request_id, exchange->request_id, REQUEST_ID_LEN);
    if (unit->message->action == ACTION_REVOKE && caller->kind == CALLER_DEVICE) {
        facts.device_id_len = caller->device_id_len; /* its own alone */
        memcpy(facts.device_id, caller->device_id, caller->device_id_len);
    }
    job->weight = unit->settle_set.count;
    job->apply = settle_apply;
    job->extra = &unit->settle_set;
    job->facts_len = sizeof(facts);
    memcpy(job->facts, &facts, sizeof(facts));
    commit_for_unit(core, unit, job);
    return ERR_OK;
}

static bool settles(const struct unit *unit)
{
    return unit->err == ERR_OK && unit->message->settle_count > 0 &&
           (unit->message->action == ACTION_SETTLE || unit->message->action == ACTION_REVOKE);
}

enum verdict stage_settle(struct core *core, struct exchange *exchange)
{
    if (exchange->own.message->action == ACTION_CONFIRM && exchange->own.err == ERR_OK) {
        return VERDICT_NEXT; /* EST's: done already */
    }
    for (uint32_t i = 0; i < unit_count(exchange); i++) {
        struct unit *unit = unit_at(exchange, i);
        if (settles(unit)) {
            unit->err = submit_settle(core, unit);
        }
    }
    return exchange->waits > 0 ? VERDICT_WAIT_STORE : VERDICT_NEXT;
}

void settle_done(struct core *core, struct unit *unit, struct store_job *job)
{
    struct exchange *exchange = unit->exchange;
    unit->err = job->err;
    for (uint32_t i = 0; job->err == ERR_OK && i < unit->settle_set.count; i++) {
        unit->message->settles[unit->settle_of[i]].err = unit->settle_set.items[i].err;
    }
    if (unit->refused_after != ERR_OK) {
        unit->err = unit->refused_after;
    }
    if (--exchange->waits == 0) {
        exchange->inner_answered = false;
        pipeline_resume_exchange(core, exchange, STAGE_SETTLE,
                                 unit->refused_after != ERR_OK ? VERDICT_ENCODE : VERDICT_NEXT);
    }
}

/* --- PROTECT --- */

static const struct proto_line *line_of(const struct exchange *exchange)
{
    return exchange->line ? &exchange->line->proto : NULL;
}

/* An answer that cannot be protected does not leave as a message. */
static void give_up(struct core *core, struct unit *unit, enum err err)
{
    log_warn("protect", "request=%s code=%s", unit->exchange->request_id, err_code(err));
    commit_drop(core, unit, err);
    unit->err = err;
    unit->message->answer = (struct bytes){0};
    unit->answer = (struct proto_response){
        .http_status = 503,
        .content_type = "text/plain",
        .retry_after_s = RETRY_AFTER_S,
        .body = BYTES_LIT("signer-unavailable: the answer could not be protected\n"),
    };
}

static void finish(struct core *core, struct unit *unit, struct bytes protection)
{
    struct exchange *exchange = unit->exchange;
    enum err err = exchange->route.proto->finish(line_of(exchange), unit->message, protection,
                                                 &exchange->net.arena, &unit->answer);
    if (err != ERR_OK) {
        give_up(core, unit, err);
        return;
    }
    if (unit != &exchange->own) {
        unit->message->answer = unit->answer.body;
    }
}

static void protect_by_mac(struct core *core, struct unit *unit)
{
    uint8_t value[MAC_LEN_MAX];
    size_t len = 0;
    if (!unit->mac_key || !unit->is_checked) {
        give_up(core, unit, ERR_INTERNAL);
        return;
    }
    mac_compute(unit->mac_key, &unit->answer.to_protect, 1, value, &len);
    finish(core, unit, bytes_of(value, len));
}

static void submit_to_token(struct core *core, struct unit *unit, const struct rt_signer *signer)
{
    uint8_t input[SIGN_INPUT_MAX];
    size_t len = 0;
    enum err err =
        sign_input_build(signer->alg, unit->answer.to_protect, input, sizeof(input), &len);
    struct sign_job job = {
        .tag = tag_of_unit(unit),
        .key_index = signer->key_index,
        .input = bytes_of(input, len),
        .deadline_ns = core->now_ns + SIGN_DEADLINE_MS * NS_PER_MS,
    };
    if (err == ERR_OK && hsm_submit(core->shared->hsm, core->index, &job, 1, &err) == 1) {
        metric_add(core->metrics, METRIC_SIGN_JOBS, 1);
        unit->exchange->waits++;
    } else {
        give_up(core, unit, err == ERR_OK ? ERR_OVERLOADED : err);
    }
}

static void protect_by_signature(struct core *core, struct unit *unit)
{
    const struct rt_signer *signer = unit->exchange->line->signer;
    if (!signer) {
        finish(core, unit, (struct bytes){0});
        return;
    }
    if (!signer->key) {
        submit_to_token(core, unit, signer);
        return;
    }
    uint8_t value[SIGNATURE_MAX];
    size_t len = 0;
    enum err err = softkey_sign(signer->key, signer->alg, unit->answer.to_protect, false, value,
                                sizeof(value), &len);
    if (err != ERR_OK) {
        give_up(core, unit, err);
        return;
    }
    finish(core, unit, bytes_of(value, len));
}

static void protect_unit(struct core *core, struct unit *unit)
{
    struct proto_response *answer = &unit->answer;
    if (answer->to_protect.len == 0 || unit->is_kept) {
        return;
    }
    if (answer->protection.len > 0) {
        finish(core, unit, answer->protection);
        return;
    }
    switch (answer->protect) {
    case PROTECTION_MAC:
        protect_by_mac(core, unit);
        break;
    case PROTECTION_SIGNATURE:
        protect_by_signature(core, unit);
        break;
    case PROTECTION_NONE:
        finish(core, unit, (struct bytes){0});
        break;
    }
}

/* The inner answers first; then ENCODE once more, for the one around them. */
static enum verdict protected_all(struct exchange *exchange)
{
    if (exchange->inner_answered) {
        return VERDICT_NEXT;
    }
    exchange->inner_answered = true;
    return VERDICT_ENCODE;
}

enum verdict stage_protect(struct core *core, struct exchange *exchange)
{
    if (exchange->inner_answered || exchange->inner_count == 0) {
        exchange->inner_answered = true;
        protect_unit(core, &exchange->own);
    } else {
        for (uint32_t i = 0; i < exchange->inner_count; i++) {
            protect_unit(core, &exchange->inner[i]);
        }
    }
    return exchange->waits > 0 ? VERDICT_WAIT_SIGNER : protected_all(exchange);
}

static void protect_end(struct core *core, struct exchange *exchange)
{
    if (--exchange->waits == 0) {
        pipeline_resume_exchange(core, exchange, STAGE_PROTECT, protected_all(exchange));
    }
}

/* No signature of a token leaves unverified: a faulty one can give the key away. */
static enum err offer_check(struct core *core, struct unit *unit, const struct sign_result *result)
{
    const struct rt_signer *signer = unit->exchange->line->signer;
    struct bytes signature = arena_dup(&unit->exchange->net.arena,
                                       bytes_of(result->signature, result->signature_len));
    if (signature.len == 0) {
        return ERR_OVERLOADED;
    }
    metric_add(core->metrics, METRIC_SIGNATURES_CHECKED, 1);
    unit->signed_by = result->token_index;
    unit->check = (struct lent_verify){
        .unit = unit,
        .of_answer = true,
        .home = core->index,
        .job =
            {
                .alg = signer->alg,
                .key = signer->verify_key,
                .message = unit->answer.to_protect,
                .signature = signature,
            },
    };
    return board_offer(core->shared->boards[core->index], &unit->check) ? ERR_OK : ERR_OVERLOADED;
}

void protect_done(struct core *core, struct unit *unit, const struct sign_result *result)
{
    enum err err = result->err == ERR_OK ? offer_check(core, unit, result) : result->err;
    if (err != ERR_OK) {
        give_up(core, unit, err);
        protect_end(core, unit->exchange);
    }
}

void protect_checked(struct core *core, struct unit *unit, enum err err)
{
    if (err == ERR_OK) {
        finish(core, unit, unit->check.job.signature);
    } else {
        metric_add(core->metrics, METRIC_SIGNATURES_WRONG, 1);
        hsm_signature_was_wrong(core->shared->hsm, unit->signed_by);
        give_up(core, unit, ERR_SIGNATURE_WRONG);
    }
    protect_end(core, unit->exchange);
}

/* --- RECORD --- */

static void fill_row(struct unit *unit)
{
    struct transaction_row *row = &unit->row;
    uint8_t key[TRANSACTION_KEY_MAX];
    struct bytes view = message_transaction_key(unit, key);
    *row = (struct transaction_row){
        .key_len = (uint8_t)view.len,
        .state = unit->answer.record_state,
        .expiry_s = unit->answer.record_expiry_s,
        .data = unit->answer.record,
    };
    memcpy(row->key, view.ptr, view.len);
}

static enum err submit_record(struct core *core, struct unit *unit)
{
    fill_row(unit);
    if (unit->enroll.count > 0) {
        return commit_with_record(core, unit);
    }
    struct store_job *job = store_job_take(core->shared->store, core->index);
    if (!job) {
        return ERR_OVERLOADED;
    }
    unit->row_set = (struct transaction_set){
        .rows = &unit->row,
        .count = 1,
        .protocol = unit->exchange->route.proto->journal_protocol,
        .only_new = !unit->context->has_record,
        .pending = unit->exchange->route.proto->pending,
    };
    job->apply = transactions_apply;
    job->extra = &unit->row_set;
    commit_for_unit(core, unit, job);
    return ERR_OK;
}

/* An answer that cannot be kept is not given: the client asks again and finds what was issued. */
static enum verdict recorded_all(struct exchange *exchange)
{
    bool again = false;
    for (uint32_t i = 0; i < unit_count(exchange); i++) {
        again |= !unit_at(exchange, i)->is_kept && unit_at(exchange, i)->answer.keep;
    }
    if (!again) {
        return VERDICT_NEXT;
    }
    exchange->inner_answered = false;
    return VERDICT_ENCODE;
}

enum verdict stage_record(struct core *core, struct exchange *exchange)
{
    if (exchange->inner_count > 0) {
        /* A refusal of the outer message is in its answer. Should there be another round, the inner
         * ones begin it: none is recorded twice as it was answered once. */
        exchange->own.err = ERR_OK;
    }
    for (uint32_t i = 0; i < unit_count(exchange); i++) {
        struct unit *unit = unit_at(exchange, i);
        if (!unit->answer.keep || unit->is_kept) {
            continue;
        }
        enum err err = submit_record(core, unit);
        if (err != ERR_OK) {
            unit->err = err;
        }
    }
    return exchange->waits > 0 ? VERDICT_WAIT_STORE : recorded_all(exchange);
}

/* The same request was answered at the same time on another connection: its answer is the one. */
static enum err follow_twin(struct core *core, struct unit *unit)
{
    enum err err = reader_begin(core->reader);
    if (err != ERR_OK) {
        return err;
    }
    err = message_resume(core, unit);
    reader_end(core->reader);
    bool is_gone = err == ERR_OK && unit->message->action != ACTION_REPLAY;
    return is_gone ? ERR_OVERLOADED : err; /* its time has passed since */
}

/* Another dialogue took this id in the meantime. What was issued here for this one would wait for a
 * confirmation that cannot come. */
static enum err reject_issued(struct core *core, struct unit *unit)
{
    struct proto_message *message = unit->message;
    struct arena *arena = &unit->exchange->net.arena;
    message->settles = arena_calloc(arena, message->request_count * sizeof(*message->settles));
    message->settle_count = 0;
    for (uint32_t i = 0; message->settles && i < message->request_count; i++) {
        const struct proto_outcome *outcome = &unit->outcomes[i];
        if (outcome->err == ERR_OK && outcome->is_new) {
            message->settles[message->settle_count++] =
                (struct proto_settle){.cert_log = outcome->cert_log, .act = SETTLE_REJECT};
        }
    }
    return message->settles ? submit_settle(core, unit) : ERR_OVERLOADED;
}

void record_done(struct core *core, struct unit *unit, struct store_job *job)
{
    struct exchange *exchange = unit->exchange;
    unit->err = job->err;
    bool is_alone = job->apply == transactions_apply; /* what it is about was issued before */
    bool issued = is_alone && !unit->row.kept && unit->outcomes &&
                  unit->message->waits_for_confirmation;
    if (!is_alone) {
        commit_recorded(core, unit, job);
    }
    if (unit->err == ERR_OK && unit->row.kept) {
        unit->err = follow_twin(core, unit);
    } else {
        unit->is_kept = unit->err == ERR_OK && (is_alone || unit->enroll.as_foreseen);
    }
    if (unit->err != ERR_OK && issued) {
        unit->refused_after = unit->err;
        if (reject_issued(core, unit) != ERR_OK) {
            log_warn("pending-orphan", "request=%s waits for a confirmation that cannot come",
                     exchange->request_id);
        }
    }
    if (--exchange->waits == 0) {
        pipeline_resume_exchange(core, exchange, STAGE_RECORD, recorded_all(exchange));
    }
}

/* --- dialogues that nobody finished --- */

static void sweep(struct core *core)
{
    struct store_job *job = store_job_take(core->shared->store, core->index);
    if (!job) {
        timer_set(&core->timers, &core->sweep_timer, core->now_ns + SWEEP_EVERY_MS * NS_PER_MS,
                  sweep_due);
        return;
    }
    core->sweep.pending = proto_cmp.pending; /* the rest goes on where it was */
    struct sweep_facts facts = {.now_s = core->now_s, .max = SWEEP_ROWS_MAX};
    job->apply = sweep_apply;
    job->extra = &core->sweep;
    job->facts_len = sizeof(facts);
    memcpy(job->facts, &facts, sizeof(facts));
    store_job_submit(core->shared->store, core->index, job);
    core->store_dirty = true;
}

void sweep_due(struct timer *timer)
{
    sweep((struct core *)(void *)((uint8_t *)timer - offsetof(struct core, sweep_timer)));
}

void sweep_start(struct core *core)
{
    timer_set(&core->timers, &core->sweep_timer, core->now_ns + SWEEP_EVERY_MS * NS_PER_MS,
              sweep_due);
}

void sweep_done(struct core *core, struct store_job *job)
{
    uint64_t wait_ms = job->err == ERR_OK && core->sweep.more ? 1 : SWEEP_EVERY_MS;
    timer_set(&core->timers, &core->sweep_timer, core->now_ns + wait_ms * NS_PER_MS, sweep_due);
}
