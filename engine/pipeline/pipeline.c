/* The driver: moves slots from stage to stage by verdict and by one table. */
#include "pipeline/pipeline.h"

#include "base/log.h"
#include "base/secret.h"
#include "crypto/mac.h"

struct stage_def {
    const char *name;
    exchange_stage_fn exchange; /* one of these two */
    issuance_stage_fn issuance;
    enum stage next;
};

static const struct stage_def STAGES[STAGE_COUNT] = {
    [STAGE_DECODE] = {"decode", stage_decode, NULL, STAGE_AUTHENTICATE},
    [STAGE_AUTHENTICATE] = {"authenticate", stage_authenticate, NULL, STAGE_SETTLE},
    [STAGE_VERIFY] = {"verify", NULL, stage_verify, STAGE_ADMIT},
    [STAGE_ADMIT] = {"admit", NULL, stage_admit, STAGE_BUILD},
    [STAGE_BUILD] = {"build", NULL, stage_build, STAGE_SIGN},
    [STAGE_SIGN] = {"sign", NULL, stage_sign, STAGE_CHECK},
    [STAGE_CHECK] = {"check", NULL, stage_check, STAGE_COMMIT},
    [STAGE_COMMIT] = {"commit", NULL, stage_commit, STAGE_SETTLE},
    [STAGE_SETTLE] = {"settle", stage_settle, NULL, STAGE_SEAL},
    [STAGE_SEAL] = {"seal", stage_seal, NULL, STAGE_ENCODE},
    [STAGE_ENCODE] = {"encode", stage_encode, NULL, STAGE_PROTECT},
    [STAGE_PROTECT] = {"protect", stage_protect, NULL, STAGE_RECORD},
    [STAGE_RECORD] = {"record", stage_record, NULL, STAGE_RESPOND},
    [STAGE_RESPOND] = {"respond", stage_respond, NULL, STAGE_COUNT},
};

enum { ISSUANCE_BATCH = 256 };

/* --- queues --- */

static void ex_push(struct ex_queue *queue, struct exchange *exchange)
{
    exchange->next = NULL;
    if (!queue->first) {
        queue->last = &queue->first;
    }
    *queue->last = exchange;
    queue->last = &exchange->next;
    queue->count++;
}

static struct exchange *ex_take_all(struct ex_queue *queue)
{
    struct exchange *first = queue->first;
    *queue = (struct ex_queue){0};
    return first;
}

static void is_push(struct is_queue *queue, struct issuance *issuance)
{
    issuance->next = NULL;
    if (!queue->first) {
        queue->last = &queue->first;
    }
    *queue->last = issuance;
    queue->last = &issuance->next;
    queue->count++;
}

static uint32_t is_take(struct is_queue *queue, struct issuance *out[], uint32_t max)
{
    uint32_t count = 0;
    while (queue->first && count < max) {
        out[count++] = queue->first;
        queue->first = queue->first->next;
    }
    queue->count -= count;
    return count;
}

/* --- issuances --- */

static void issuance_finish(struct core *core, struct issuance *issuance)
{
    struct exchange *exchange = issuance->exchange;
    struct unit *unit = issuance->unit;
    struct proto_outcome *outcome = &unit->outcomes[issuance->index];
    outcome->err = issuance->err;
    if (issuance->err == ERR_OK) {
        /* P1: nothing leaves that the store has not vouched for. What is put by is asked about in
         * RESPOND. */
        if (!issuance->is_put_by &&
            !commit_token_is_valid(core->shared->store, issuance->token)) {
            log_error("no-commit-token", "a certificate without commit token was withheld");
            outcome->err = ERR_INTERNAL;
        } else {
            outcome->cert_der = bytes_of(issuance->cert, issuance->cert_len);
            outcome->cert_log = issuance->cert_log;
            outcome->is_new = !issuance->repeat;
            metric_add(core->metrics, issuance->repeat ? METRIC_REPEATED : METRIC_ISSUED,
                       !issuance->is_put_by);
        }
    } else {
        metric_refused(core->metrics, issuance->err);
        if (!issuance->journaled) {
            commit_refusal(core, unit, issuance->request, issuance->err, issuance->refusal_text);
        }
    }
    pool_put(&core->issuances, pool_index(&core->issuances, issuance));
    if (--exchange->issuances_left == 0) {
        ex_push(&core->ex_queues[STAGE_SETTLE], exchange);
    }
}

/* --- units --- */

uint32_t unit_count(const struct exchange *exchange)
{
    return 1 + exchange->inner_count;
}

struct unit *unit_at(struct exchange *exchange, uint32_t index)
{
    return index == 0 ? &exchange->own : &exchange->inner[index - 1];
}

/* How many certificates this unit still asks for. */
static uint32_t issuances_wanted(const struct unit *unit)
{
    const struct proto_message *message = unit->message;
    bool asks = message->action == ACTION_ENROLL || message->action == ACTION_REENROLL;
    uint32_t count = 0;
    for (uint32_t i = 0; asks && unit->err == ERR_OK && i < message->request_count; i++) {
        count += message->request_errs == NULL || message->request_errs[i] == ERR_OK;
    }
    return count;
}

static bool make_outcomes(struct exchange *exchange, struct unit *unit)
{
    const struct proto_message *message = unit->message;
    unit->outcomes =
        arena_calloc(&exchange->net.arena, message->request_count * sizeof(*unit->outcomes));
    for (uint32_t i = 0; unit->outcomes && message->request_errs && i < message->request_count;
         i++) {
        unit->outcomes[i].err = message->request_errs[i];
    }
    if (unit->context) {
        unit->enroll.items = arena_alloc(&exchange->net.arena,
                                         message->request_count * sizeof(*unit->enroll.items));
    }
    if (unit->context && !unit->enroll.items) {
        unit->outcomes = NULL; /* nothing was asked for: the unit speaks for itself */
    }
    return unit->outcomes != NULL;
}

static void fan_out_unit(struct core *core, struct unit *unit)
{
    const struct proto_message *message = unit->message;
    for (uint32_t i = 0; i < message->request_count; i++) {
        if (unit->outcomes[i].err != ERR_OK) {
            metric_refused(core->metrics, unit->outcomes[i].err);
            continue;
        }
        uint32_t slot = pool_take(&core->issuances, offsetof(struct issuance, signature));
        struct issuance *issuance = pool_at(&core->issuances, slot);
        issuance->exchange = unit->exchange;
        issuance->unit = unit;
        issuance->index = i;
        issuance->request = &message->requests[i];
        issuance->verify.home = core->index;
        is_push(&core->is_queues[STAGE_VERIFY], issuance);
    }
}

/* How many certificates an exchange's messages ask for, with room for what becomes of each. Said
 * before anything is issued: what could not be answered then would be issued for nobody. */
static enum err count_issuances(struct core *core, struct exchange *exchange, uint32_t *out_total)
{
    uint32_t total = 0;
    for (uint32_t i = 0; i < unit_count(exchange); i++) {
        struct unit *unit = unit_at(exchange, i);
        enum proto_action action = unit->message->action;
        if (unit->err != ERR_OK || (action != ACTION_ENROLL && action != ACTION_REENROLL)) {
            continue;
        }
        total += issuances_wanted(unit);
        if (total > CMP_REQUESTS_PER_MESSAGE_MAX) {
            return ERR_BAD_REQUEST;
        }
        if (total > core->issuances.free_count || !make_outcomes(exchange, unit)) {
            return ERR_OVERLOADED;
        }
    }
    *out_total = total;
    return ERR_OK;
}

/* Gives every request of an exchange's messages a slot, or refuses the exchange: all or none. */
static enum verdict fan_out(struct core *core, struct exchange *exchange)
{
    uint32_t total = 0;
    enum err err = count_issuances(core, exchange, &total);
    if (err != ERR_OK) {
        exchange->own.err = err;
        return VERDICT_REFUSE;
    }
    if (total == 0) {
        return VERDICT_NEXT;
    }
    exchange->issuances_left = total;
    for (uint32_t i = 0; i < unit_count(exchange); i++) {
        struct unit *unit = unit_at(exchange, i);
        if (issuances_wanted(unit) > 0) {
            fan_out_unit(core, unit);
        }
    }
    return VERDICT_FAN_OUT;
}

void pipeline_resume(struct core *core, struct issuance *issuance, enum verdict verdict)
{
    switch (verdict) {
    case VERDICT_NEXT: {
        enum stage next = STAGES[issuance->stage].next;
        if (STAGES[next].exchange) {
            issuance_finish(core, issuance);
        } else {
            is_push(&core->is_queues[next], issuance);
        }
        break;
    }
    case VERDICT_RESPOND:
    case VERDICT_REFUSE:
        issuance_finish(core, issuance);
        break;
    default:
        break; /* it waits: whoever completes the wait calls here again */
    }
}

void pipeline_resume_exchange(struct core *core, struct exchange *exchange, enum stage stage,
                              enum verdict verdict)
{
    if (verdict == VERDICT_FAN_OUT) {
        verdict = fan_out(core, exchange);
    }
    switch (verdict) {
    case VERDICT_NEXT:
        ex_push(&core->ex_queues[STAGES[stage].next], exchange);
        break;
    case VERDICT_ENCODE:
    case VERDICT_REFUSE:
        ex_push(&core->ex_queues[STAGE_ENCODE], exchange);
        break;
    case VERDICT_RESPOND:
        ex_push(&core->ex_queues[STAGE_RESPOND], exchange);
        break;
    default:
        break; /* it waits: whoever completes the wait calls here again */
    }
}

/* --- exchanges --- */

void pipeline_accept(struct core *core, struct exchange *exchange)
{
    exchange->snapshot = core->snapshot;
    exchange->own.exchange = exchange;
    exchange->own.message = &exchange->message;
    core->snapshot->inflight[core->index].exchanges++;
    struct writer id = writer_of(exchange->request_id, REQUEST_ID_LEN);
    uint8_t raw[8];
    store_be64(raw, core->request_base + core->request_count++);
    writer_put_hex(&id, bytes_of(raw, sizeof(raw)));
    ex_push(&core->ex_queues[STAGE_DECODE], exchange);
}

void pipeline_release(struct core *core, struct exchange *exchange)
{
    for (uint32_t i = 0; i < unit_count(exchange); i++) {
        struct unit *unit = unit_at(exchange, i);
        if (unit->mac_key) {
            secret_wipe(unit->mac_key, sizeof(*unit->mac_key));
        }
        key_forget(unit);
    }
    crl_blob_unref(exchange->crl);
    exchange->crl = NULL;
    if (exchange->snapshot) {
        exchange->snapshot->inflight[core->index].exchanges--;
        exchange->snapshot = NULL;
    }
}

static bool run_exchanges(struct core *core, enum stage stage)
{
    struct exchange *exchange = ex_take_all(&core->ex_queues[stage]);
    bool any = exchange != NULL;
    while (exchange) {
        struct exchange *next = exchange->next;
        enum verdict verdict = STAGES[stage].exchange(core, exchange);
        pipeline_resume_exchange(core, exchange, stage, verdict);
        exchange = next;
    }
    return any;
}

static bool run_issuances(struct core *core, enum stage stage)
{
    struct is_queue *queue = &core->is_queues[stage];
    /* What arrives meanwhile belongs to the next turn. */
    uint32_t left = queue->count;
    bool any = left > 0;
    while (left > 0) {
        struct issuance *slots[ISSUANCE_BATCH];
        enum verdict verdicts[ISSUANCE_BATCH];
        uint32_t count = is_take(queue, slots, left < ISSUANCE_BATCH ? left : ISSUANCE_BATCH);
        for (uint32_t i = 0; i < count; i++) {
            slots[i]->stage = stage;
        }
        STAGES[stage].issuance(core, slots, verdicts, count);
        for (uint32_t i = 0; i < count; i++) {
            pipeline_resume(core, slots[i], verdicts[i]);
        }
        left -= count;
    }
    return any;
}

bool pipeline_run(struct core *core)
{
    bool any = false;
    for (enum stage stage = 0; stage < STAGE_COUNT; stage++) {
        any |= STAGES[stage].exchange ? run_exchanges(core, stage) : run_issuances(core, stage);
        if (stage == STAGE_VERIFY) {
            board_lend(core);
            any |= board_work_own(core);
        } else if (stage == STAGE_CHECK) {
            board_lend(core);
        }
    }
    if (core->store_dirty) {
        core->store_dirty = false;
        store_kick(core->shared->store, core->index);
    }
    return any;
}
