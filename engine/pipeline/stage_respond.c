/* ENCODE and RESPOND: the protocol's answer, back to the network. */
#include <stdio.h>

#include "base/log.h"
#include "factory/refusal.h"
#include "pipeline/pipeline.h"

static void refuse(struct unit *unit, enum err err)
{
    struct exchange *exchange = unit->exchange;
    /* A path that is nobody's is answered in EST's words: plain text. */
    const struct proto *proto = exchange->route.proto ? exchange->route.proto : &proto_est;
    uint32_t retry_after_s = exchange->retry_after_s;
    if (retry_after_s == 0) {
        retry_after_s = refusal_retry_after_s(err);
    }
    /* a message's only request speaks for it */
    if (unit->detail[0] == 0 && unit->outcomes && unit->message->request_count == 1) {
        snprintf(unit->detail, sizeof(unit->detail), "%s", unit->outcomes[0].detail);
    }
    unit->answer = (struct proto_response){0};
    proto->refuse(&exchange->route, exchange->line ? &exchange->line->proto : NULL,
                  &exchange->request, unit->message, err, unit->detail[0] ? unit->detail : NULL,
                  exchange->request_id, retry_after_s, &exchange->net.arena, &unit->answer);
    log_debug("refused", "request=%s code=%s detail=\"%s\"", exchange->request_id, err_code(err),
              unit->detail);
}

/* What is counted and journaled of a refusal. */
static void note_refusal(struct core *core, struct unit *unit, enum err err)
{
    bool by_issuances = unit->outcomes != NULL; /* they count their own refusals */
    if (!by_issuances) {
        metric_refused(core->metrics, err);
        if (!unit->journaled) {
            unit->journaled = true;
            commit_refusal(core, unit, NULL, err, (struct bytes){0});
        }
    }
    if (err_class_of(err) == ERR_CLASS_BUG) {
        log_error("internal", "request=%s", unit->exchange->request_id);
    }
}

static void encode_unit(struct core *core, struct unit *unit)
{
    struct exchange *exchange = unit->exchange;
    enum err err = unit->err;
    if (unit->is_kept) {
        return; /* encoded, protected and on record */
    }
    unit->message->answer = (struct bytes){0};
    if (err == ERR_OK) {
        const struct proto *proto = exchange->route.proto;
        unit->answer = (struct proto_response){0};
        err = proto->encode(&exchange->route, exchange->line ? &exchange->line->proto : NULL,
                            &exchange->request,
                            unit->message, unit->outcomes, &exchange->net.arena, &unit->answer);
    }
    if (err != ERR_OK) {
        unit->err = err;
        commit_drop(core, unit, err);
        refuse(unit, err);
        note_refusal(core, unit, err);
    }
}

/* The messages inside first: the outer answer carries theirs. A refused outer message has none. */
enum verdict stage_encode(struct core *core, struct exchange *exchange)
{
    if (exchange->inner_count > 0 && !exchange->inner_answered && exchange->own.err == ERR_OK) {
        for (uint32_t i = 0; i < exchange->inner_count; i++) {
            encode_unit(core, &exchange->inner[i]);
        }
        return VERDICT_NEXT;
    }
    exchange->inner_answered = true;
    encode_unit(core, &exchange->own);
    bool is_whole = exchange->own.answer.to_protect.len == 0 && exchange->inner_count == 0;
    return is_whole ? VERDICT_RESPOND : VERDICT_NEXT;
}

/* P1: is everything in the answer committed? */
static bool is_vouched_for(struct exchange *exchange)
{
    uint32_t uncommitted = 0;
    for (uint32_t i = 0; i < unit_count(exchange); i++) {
        uncommitted += unit_at(exchange, i)->enroll.count;
    }
    return uncommitted == 0;
}

enum verdict stage_respond(struct core *core, struct exchange *exchange)
{
    struct proto_response *answer = &exchange->own.answer;
    if (!is_vouched_for(exchange)) {
        log_error("no-commit-token", "a certificate without commit token was withheld");
        *answer = (struct proto_response){
            .http_status = 500, .content_type = "text/plain", .body = BYTES_LIT("internal\n")};
    }
    struct http_response response = {
        .status = answer->http_status,
        .content_type = answer->content_type,
        .transfer_encoding = answer->content_transfer_encoding,
        .allow = answer->allow,
        .www_authenticate = answer->www_authenticate,
        .cache_control = answer->cache_control,
        .retry_after_s = answer->retry_after_s,
        .body = answer->body,
    };
    hist_add(&core->metrics->request_ns, clock_mono_ns() - exchange->net.received_ns);
    net_respond(core->net, &exchange->net, &response);
    return VERDICT_DONE;
}
