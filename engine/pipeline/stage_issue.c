/* VERIFY, ADMIT and BUILD: from a request to what shall be signed. */
#include <stdio.h>

#include "base/log.h"
#include "crypto/digest.h"
#include "pipeline/pipeline.h"

/* VERIFY: the job goes to the board; this core or an idle one does it. */
void stage_verify(struct core *core, struct issuance *slots[], enum verdict verdicts[],
                  uint32_t count)
{
    struct verify_board *board = core->shared->boards[core->index];
    for (uint32_t i = 0; i < count; i++) {
        struct issuance *issuance = slots[i];
        const struct cert_request *request = issuance->request;
        verdicts[i] = VERDICT_REFUSE;
        if (request->pop == POP_RA_VERIFIED && issuance->unit->message->needs_ra) {
            verdicts[i] = VERDICT_NEXT; /* AUTHENTICATE has made sure of the authority */
            continue;
        }
        if (issuance->unit->made) {
            verdicts[i] = VERDICT_NEXT; /* the key was made here */
            continue;
        }
        if (request->pop == POP_KEY_ENCIPHERMENT) {
            issuance->err = seal_check(issuance); /* the proof comes with the confirmation */
            verdicts[i] = issuance->err == ERR_OK ? VERDICT_NEXT : VERDICT_REFUSE;
            continue;
        }
        if (request->pop != POP_SIGNATURE) {
            issuance->err = ERR_BAD_POP;
            continue;
        }
        issuance->verify.job = (struct verify_job){
            .alg = request->pop_alg,
            .spki = &request->spki,
            .message = request->pop_message,
            .signature = request->pop_signature,
        };
        if (!board_offer(board, &issuance->verify)) {
            issuance->err = ERR_OVERLOADED;
            continue;
        }
        verdicts[i] = VERDICT_WAIT_VERIFY;
    }
}

static enum err fill_facts(const struct core *core, struct issuance *issuance)
{
    const struct exchange *exchange = issuance->exchange;
    const struct proto_message *message = issuance->unit->message;
    const struct rt_line *line = exchange->line;
    const struct cert_request *request = issuance->request;
    struct issue_facts *facts = &issuance->facts;
    struct identity id;
    const struct caller *caller = &issuance->unit->caller;
    enum err err = caller_check_identity(exchange, caller, request, &id);
    if (err != ERR_OK) {
        return err;
    }
    *facts = (struct issue_facts){
        .kind = message->action == ACTION_REENROLL ? ISSUE_RENEWAL : ISSUE_NEW,
        .pending = message->waits_for_confirmation,
        .key_made = issuance->unit->made != NULL,
        .unproven = request->pop == POP_KEY_ENCIPHERMENT && !issuance->unit->made,
        .protocol = exchange->route.proto->journal_protocol,
        .caller = (uint8_t)caller->kind,
        .device_id_len = (uint8_t)id.len,
        .station_len = caller->name_len,
        .line_name_len = (uint8_t)strlen(line->name),
        .line_id = line->line_id,
        .issuer_id = line->ca->issuer_id,
        .confirm_wait_s = line->proto.cmp ? line->proto.cmp->confirm_wait_s : 0,
        .asked_s = core->now_s,
        .current_log = caller->cert_log,
    };
    memcpy(facts->device_id, id.id, id.len);
    memcpy(facts->station, caller->name, caller->name_len);
    memcpy(facts->line_name, line->name, facts->line_name_len);
    memcpy(facts->request_id, exchange->request_id, REQUEST_ID_LEN);
    sha256_once(request->spki.der, facts->spki_hash);
    return ERR_OK;
}

/* A key seen before is an alarm: the journal names both devices. */
static void note_refusal(struct issuance *issuance, const struct cert_view *owner)
{
    uint8_t text[JOURNAL_TEXT_MAX];
    struct writer out = writer_of(text, sizeof(text));
    device_refusal_text(issuance->err, &issuance->facts, owner, &out);
    issuance->refusal_text = arena_dup(&issuance->exchange->net.arena, writer_view(&out));
}

static enum verdict admit_one(struct core *core, struct issuance *issuance)
{
    struct exchange *exchange = issuance->exchange;
    char detail[128] = "";
    issuance->err = profile_check(exchange->line->profile, issuance->request, detail);
    if (issuance->err == ERR_OK) {
        issuance->err = fill_facts(core, issuance);
    }
    if (issuance->err != ERR_OK) {
        struct proto_outcome *outcome = &issuance->unit->outcomes[issuance->index];
        snprintf(outcome->detail, sizeof(outcome->detail), "%.*s",
                 (int)sizeof(outcome->detail) - 1, detail);
        return VERDICT_REFUSE;
    }
    struct cert_view stored;
    switch (device_admit(core->reader, &issuance->facts, &stored, &issuance->err)) {
    case ADMIT_ISSUE:
        return VERDICT_NEXT;
    case ADMIT_REPEAT: {
        struct bytes copy = arena_dup(&exchange->net.arena, stored.der);
        if (copy.len == 0) {
            issuance->err = ERR_OVERLOADED;
            return VERDICT_REFUSE;
        }
        issuance->cert = (uint8_t *)(uintptr_t)copy.ptr;
        issuance->cert_len = copy.len;
        issuance->cert_log = stored.log;
        issuance->repeat = true;
        issuance->token = reader_token(core->reader);
        return VERDICT_RESPOND;
    }
    case ADMIT_REFUSE:
        note_refusal(issuance, &stored);
        break;
    }
    return VERDICT_REFUSE;
}

/* ADMIT: policy, and what a snapshot of the store already knows; COMMIT decides for good. */
void stage_admit(struct core *core, struct issuance *slots[], enum verdict verdicts[],
                 uint32_t count)
{
    enum err err = reader_begin(core->reader);
    for (uint32_t i = 0; i < count; i++) {
        if (err != ERR_OK) {
            slots[i]->err = err;
            verdicts[i] = VERDICT_REFUSE;
            continue;
        }
        verdicts[i] = admit_one(core, slots[i]);
    }
    if (err == ERR_OK) {
        reader_end(core->reader);
    }
}

static enum err build_one(struct core *core, struct issuance *issuance)
{
    const struct rt_line *line = issuance->exchange->line;
    const struct cert_request *request = issuance->request;
    struct issue_facts *facts = &issuance->facts;
    uint8_t spki_sha1[SHA1_LEN];
    digest_once(HASH_SHA1, request->spki.key, spki_sha1);
    serial_next(&core->serials, facts->serial);
    profile_validity(line->profile, core->now_s, &facts->not_before_s, &facts->not_after_s);
    issuance->tbs = arena_alloc(&issuance->exchange->net.arena, CERT_DER_MAX / 4);
    size_t cap = CERT_DER_MAX / 4;
    if (!issuance->tbs) {
        return ERR_OVERLOADED;
    }
    struct tbs_input input = {
        .request = request,
        .serial = facts->serial,
        .not_before_s = facts->not_before_s,
        .not_after_s = facts->not_after_s,
        .spki_sha1 = spki_sha1,
    };
    enum err err = profile_build_tbs(line->profile, &input, issuance->tbs, cap, &issuance->tbs_len);
    if (err == ERR_NO_SPACE) {
        cap = CERT_DER_MAX - SIGNATURE_MAX - 64; /* the rare large one */
        issuance->tbs = arena_alloc(&issuance->exchange->net.arena, cap);
        err = issuance->tbs
                  ? profile_build_tbs(line->profile, &input, issuance->tbs, cap, &issuance->tbs_len)
                  : ERR_OVERLOADED;
    }
    if (err == ERR_OK) {
        arena_shrink(&issuance->exchange->net.arena, issuance->tbs, issuance->tbs_len);
    }
    return err == ERR_NO_SPACE ? ERR_BAD_TEMPLATE : err;
}

void stage_build(struct core *core, struct issuance *slots[], enum verdict verdicts[],
                 uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        slots[i]->err = build_one(core, slots[i]);
        verdicts[i] = slots[i]->err == ERR_OK ? VERDICT_NEXT : VERDICT_REFUSE;
    }
}
