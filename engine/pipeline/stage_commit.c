/* COMMIT: facts go to the store's writer; its result is the request's answer. Where an answer is
 * recorded, certificates are put by until it is known and go to the writer together with it. */
#include "base/clock.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "factory/refusal.h"
#include "pipeline/pipeline.h"

enum { ANONYMOUS_REFUSALS_PER_S = 50 };

static enum err assemble(struct issuance *issuance)
{
    struct arena *arena = &issuance->exchange->net.arena;
    size_t cap = issuance->tbs_len + issuance->signature_len + 64;
    issuance->cert = arena_alloc(arena, cap);
    if (!issuance->cert) {
        return ERR_OVERLOADED;
    }
    enum err err = cert_assemble(bytes_of(issuance->tbs, issuance->tbs_len),
                                 issuance->exchange->line->ca->sig_alg,
                                 bytes_of(issuance->signature, issuance->signature_len),
                                 issuance->cert, cap, &issuance->cert_len);
    if (err != ERR_OK) {
        return ERR_INTERNAL;
    }
    sha256_once(bytes_of(issuance->cert, issuance->cert_len), issuance->facts.fingerprint);
    return ERR_OK;
}

static void put_by(struct issuance *issuance)
{
    struct enroll_set *set = &issuance->unit->enroll;
    issuance->is_put_by = true;
    set->items[set->count++] = (struct enrollment){
        .facts = issuance->facts,
        .cert = bytes_of(issuance->cert, issuance->cert_len),
        .request = issuance->index,
    };
}

static enum err submit(struct core *core, struct issuance *issuance)
{
    struct store *store = core->shared->store;
    struct bytes cert = bytes_of(issuance->cert, issuance->cert_len);
    struct store_job *job = store_job_take(store, core->index);
    if (!job) {
        return ERR_OVERLOADED;
    }
    job->tag = pool_handle(&core->issuances, pool_index(&core->issuances, issuance));
    job->apply = device_apply;
    job->facts_len = sizeof(issuance->facts);
    memcpy(job->facts, &issuance->facts, sizeof(issuance->facts));
    job->data_len = (uint32_t)cert.len;
    memcpy(job->data, cert.ptr, cert.len);
    issuance->since_ns = core->now_ns;
    store_job_submit(store, core->index, job);
    core->store_dirty = true;
    return ERR_OK;
}

static enum verdict commit_one(struct core *core, struct issuance *issuance)
{
    issuance->err = assemble(issuance);
    if (issuance->err == ERR_OK && issuance->unit->enroll.items) {
        put_by(issuance);
        return VERDICT_RESPOND;
    }
    if (issuance->err == ERR_OK) {
        issuance->err = submit(core, issuance);
    }
    return issuance->err == ERR_OK ? VERDICT_WAIT_STORE : VERDICT_REFUSE;
}

void stage_commit(struct core *core, struct issuance *slots[], enum verdict verdicts[],
                  uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        verdicts[i] = commit_one(core, slots[i]);
    }
}

/* --- with their record --- */

void commit_drop(struct core *core, struct unit *unit, enum err err)
{
    for (uint32_t i = 0; i < unit->enroll.count; i++) {
        struct proto_outcome *outcome = &unit->outcomes[unit->enroll.items[i].request];
        *outcome = (struct proto_outcome){.err = err == ERR_OK ? ERR_INTERNAL : err};
        if (err != ERR_OK) {
            metric_refused(core->metrics, err);
        }
    }
    unit->enroll.count = 0;
}

void commit_for_unit(struct core *core, struct unit *unit, struct store_job *job)
{
    job->tag = (uint64_t)(uintptr_t)unit;
    store_job_submit(core->shared->store, core->index, job);
    core->store_dirty = true;
    unit->exchange->waits++;
}

enum err commit_with_record(struct core *core, struct unit *unit)
{
    struct store_job *job = store_job_take(core->shared->store, core->index);
    if (!job) {
        return ERR_OVERLOADED;
    }
    const struct proto *proto = unit->exchange->route.proto;
    struct enroll_facts facts = {.protocol = proto->journal_protocol};
    unit->enroll.row = &unit->row;
    unit->enroll.only_new = !unit->context->has_record;
    unit->enroll.place = proto->place;
    job->apply = enroll_apply;
    job->extra = &unit->enroll;
    job->weight = unit->enroll.count;
    job->facts_len = sizeof(facts);
    memcpy(job->facts, &facts, sizeof(facts));
    commit_for_unit(core, unit, job);
    return ERR_OK;
}

/* The device has a certificate already, in the place of the one that was made. */
static enum err load_repeat(struct core *core, struct unit *unit, struct proto_outcome *outcome,
                            uint64_t log)
{
    struct cert_view cert;
    enum err err = reader_begin(core->reader);
    if (err != ERR_OK) {
        return err;
    }
    err = reader_cert(core->reader, log, &cert);
    if (err == ERR_OK) {
        outcome->cert_der = arena_dup(&unit->exchange->net.arena, cert.der);
        err = outcome->cert_der.len > 0 ? ERR_OK : ERR_OVERLOADED;
    }
    reader_end(core->reader);
    return err == ERR_NOT_FOUND ? ERR_INTERNAL : err;
}

static void settle_outcome(struct core *core, struct unit *unit, const struct enrollment *item)
{
    struct proto_outcome *outcome = &unit->outcomes[item->request];
    outcome->err = item->err;
    if (item->err == ERR_OK && item->result.repeat) {
        outcome->err = load_repeat(core, unit, outcome, item->result.log);
        outcome->is_new = false;
    }
    if (outcome->err != ERR_OK) {
        metric_refused(core->metrics, outcome->err);
        return;
    }
    outcome->cert_log = item->result.log;
    metric_add(core->metrics, item->result.repeat ? METRIC_REPEATED : METRIC_ISSUED, 1);
}

void commit_recorded(struct core *core, struct unit *unit, const struct store_job *job)
{
    hist_add(&core->metrics->commit_ns, core->now_ns - job->staged_ns);
    enum err err = job->err;
    if (err == ERR_OK && !commit_token_is_valid(core->shared->store, job->token)) {
        log_error("no-commit-token", "certificates without commit token were withheld");
        err = ERR_INTERNAL;
    }
    if (err != ERR_OK || unit->row.kept) {
        unit->err = err;
        commit_drop(core, unit, err);
        return;
    }
    for (uint32_t i = 0; i < unit->enroll.count; i++) {
        settle_outcome(core, unit, &unit->enroll.items[i]);
    }
    unit->enroll.count = 0;
    if (!unit->enroll.as_foreseen) {
        seal_certs(unit);
    }
}

/* --- confirmations --- */

enum verdict commit_confirmation(struct core *core, struct exchange *exchange)
{
    const struct proto_message *message = &exchange->message;
    const struct caller *caller = &exchange->own.caller;
    struct confirm_facts facts = {
        .line_id = exchange->line->line_id,
        .protocol = exchange->route.proto->journal_protocol,
        .who_len = caller->name_len,
    };
    memcpy(facts.who, caller->name, caller->name_len);
    memcpy(facts.request_id, exchange->request_id, REQUEST_ID_LEN);
    struct bytes device = message->confirm_device;
    if (caller->kind == CALLER_DEVICE || caller->kind == CALLER_VENDOR) {
        device = bytes_of(caller->device_id, caller->device_id_len);
    }
    exchange->own.err = ERR_OK;
    if (message->confirm_cert.len > 0) {
        struct x509_cert cert;
        exchange->own.err = x509_decode(message->confirm_cert, &cert);
        if (exchange->own.err == ERR_OK) {
            exchange->own.err = reader_begin(core->reader);
        }
        if (exchange->own.err != ERR_OK) {
            return VERDICT_REFUSE;
        }
        enum err err = rt_ca_find_cert(exchange->line->ca, core->reader, &cert, &facts.cert_log);
        reader_end(core->reader);
        exchange->own.err = err == ERR_OK ? ERR_OK : ERR_CERT_UNKNOWN;
        sha256_once(message->confirm_cert, facts.fingerprint);
    } else if (message->confirm_fingerprint.len == sizeof(facts.fingerprint)) {
        memcpy(facts.fingerprint, message->confirm_fingerprint.ptr, sizeof(facts.fingerprint));
        exchange->own.err = device.len > 0 ? ERR_OK : ERR_NO_DEVICE_ID;
    } else {
        exchange->own.err = ERR_BAD_REQUEST;
    }
    if (device.len > DEVICE_ID_MAX) {
        exchange->own.err = ERR_BAD_DEVICE_ID;
    }
    struct store_job *job =
        exchange->own.err == ERR_OK ? store_job_take(core->shared->store, core->index) : NULL;
    if (!job) {
        exchange->own.err = exchange->own.err == ERR_OK ? ERR_OVERLOADED : exchange->own.err;
        return VERDICT_REFUSE;
    }
    facts.device_id_len = (uint8_t)device.len;
    if (device.len > 0) {
        memcpy(facts.device_id, device.ptr, device.len);
    }
    job->tag = (uint64_t)(uintptr_t)exchange;
    job->apply = confirm_apply;
    job->facts_len = sizeof(facts);
    memcpy(job->facts, &facts, sizeof(facts));
    store_job_submit(core->shared->store, core->index, job);
    core->store_dirty = true;
    return VERDICT_WAIT_STORE;
}

/* --- refusals --- */

/* What anyone can cause is recorded up to a rate, above which it is counted: nobody fills the disk
 * by being refused. */
static bool may_record(struct core *core, enum err err)
{
    if (refusal_record_of(err) == REFUSAL_RECORDED) {
        return true;
    }
    struct rate_bucket *bucket = &core->journal_rate;
    bucket->tokens += ANONYMOUS_REFUSALS_PER_S * (double)(core->now_ns - bucket->at_ns) / NS_PER_S;
    if (bucket->tokens > ANONYMOUS_REFUSALS_PER_S || bucket->at_ns == 0) {
        bucket->tokens = ANONYMOUS_REFUSALS_PER_S;
    }
    bucket->at_ns = core->now_ns;
    if (bucket->tokens < 1.0) {
        core->journal_suppressed++;
        return false;
    }
    bucket->tokens -= 1.0;
    return true;
}

static void record(struct core *core, const struct refusal_facts *facts, struct bytes text)
{
    struct store_job *job = store_job_take(core->shared->store, core->index);
    if (!job) {
        core->journal_suppressed++;
        return;
    }
    job->apply = refusal_apply;
    job->facts_len = sizeof(*facts);
    memcpy(job->facts, facts, sizeof(*facts));
    job->data_len = (uint32_t)(text.len < JOURNAL_TEXT_MAX ? text.len : JOURNAL_TEXT_MAX);
    if (text.len > 0) {
        memcpy(job->data, text.ptr, job->data_len);
    }
    store_job_submit(core->shared->store, core->index, job);
    core->store_dirty = true;
}

void commit_refusal(struct core *core, const struct unit *unit, const struct cert_request *request,
                    enum err err, struct bytes text)
{
    const struct exchange *exchange = unit->exchange;
    if (refusal_record_of(err) == REFUSAL_NOT_RECORDED || !may_record(core, err)) {
        return;
    }
    struct refusal_facts facts = {
        .protocol = exchange->route.proto ? exchange->route.proto->journal_protocol : 0,
        .who_len = unit->caller.name_len,
        .err = (uint16_t)err,
        .line_id = exchange->line ? exchange->line->line_id : 0,
    };
    memcpy(facts.who, unit->caller.name, unit->caller.name_len);
    memcpy(facts.request_id, exchange->request_id, REQUEST_ID_LEN);
    if (!request && unit->decoded && unit->message->request_count == 1) {
        request = &unit->message->requests[0];
    }
    if (request) {
        struct identity id;
        if (identity_find(exchange->line->device_id, request->subject, request->san, &id) ==
            ERR_OK) {
            facts.device_id_len = (uint8_t)id.len;
            memcpy(facts.device_id, id.id, id.len);
        }
    }
    if (core->journal_suppressed > 0) {
        struct refusal_facts suppressed = {.suppressed = core->journal_suppressed};
        core->journal_suppressed = 0;
        record(core, &suppressed, (struct bytes){0});
    }
    record(core, &facts, text);
}

/* --- what comes back --- */

static void issuance_committed(struct core *core, const struct store_job *job)
{
    struct issuance *issuance = pool_find(&core->issuances, job->tag);
    if (!issuance) {
        log_error("commit-orphan", "a commit came back for an issuance that is gone");
        return;
    }
    hist_add(&core->metrics->commit_ns, core->now_ns - issuance->since_ns);
    issuance->err = job->err;
    if (job->err != ERR_OK) {
        issuance->journaled = err_class_of(job->err) == ERR_CLASS_REFUSAL;
        pipeline_resume(core, issuance, VERDICT_REFUSE);
        return;
    }
    issuance->token = job->token;
    issuance->cert_log = device_apply_log(job);
    issuance->repeat = device_apply_was_repeat(job);
    if (issuance->repeat) {
        struct bytes copy =
            arena_dup(&issuance->exchange->net.arena, bytes_of(job->data, job->data_len));
        if (copy.len == 0) {
            issuance->err = ERR_OVERLOADED;
            pipeline_resume(core, issuance, VERDICT_REFUSE);
            return;
        }
        issuance->cert = (uint8_t *)(uintptr_t)copy.ptr;
        issuance->cert_len = copy.len;
    }
    pipeline_resume(core, issuance, VERDICT_NEXT);
}

void commit_done(struct core *core, struct store_job *job)
{
    if (job->apply == device_apply) {
        issuance_committed(core, job);
    } else if (job->apply == confirm_apply) {
        struct exchange *exchange = (struct exchange *)(uintptr_t)job->tag;
        exchange->own.err = job->err;
        exchange->token = job->token;
        exchange->own.journaled = err_class_of(job->err) == ERR_CLASS_REFUSAL;
        pipeline_resume_exchange(core, exchange, STAGE_SETTLE,
                                 job->err == ERR_OK ? VERDICT_NEXT : VERDICT_REFUSE);
    } else if (job->apply == settle_apply) {
        settle_done(core, (struct unit *)(uintptr_t)job->tag, job);
    } else if (job->apply == transactions_apply || job->apply == enroll_apply) {
        record_done(core, (struct unit *)(uintptr_t)job->tag, job);
    } else if (job->apply == sweep_apply) {
        sweep_done(core, job);
    }
    store_job_release(core->shared->store, core->index, job);
}
