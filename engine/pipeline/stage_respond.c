/* RESPOND: the protocol's answer, back to the network. */
#include "base/log.h"
#include "factory/refusal.h"
#include "pipeline/pipeline.h"

static void refuse(struct exchange *exchange, enum err err, struct proto_response *out)
{
    /* A path that is nobody's is answered in EST's words: plain text. */
    const struct proto *proto = exchange->route.proto ? exchange->route.proto : &proto_est;
    uint32_t retry_after_s = exchange->retry_after_s;
    if (retry_after_s == 0) {
        retry_after_s = refusal_retry_after_s(err);
    }
    proto->refuse(&exchange->route, exchange->line ? &exchange->line->proto : NULL,
                  &exchange->request, exchange->decoded ? &exchange->message : NULL, err,
                  exchange->detail[0] ? exchange->detail : NULL, exchange->request_id,
                  retry_after_s, &exchange->net.arena, out);
    log_debug("refused", "request=%s code=%s detail=\"%s\"", exchange->request_id, err_code(err),
              exchange->detail);
}

enum verdict stage_respond(struct core *core, struct exchange *exchange)
{
    struct proto_response answer = {0};
    enum err err = exchange->err;
    bool counted = false;
    if (err == ERR_OK) {
        const struct proto *proto = exchange->route.proto;
        err = proto->encode(&exchange->route, exchange->line ? &exchange->line->proto : NULL, &exchange->request,
                            &exchange->message, exchange->outcomes, &exchange->net.arena, &answer);
        counted = exchange->outcomes != NULL; /* issuances count their own refusals */
    }
    if (err != ERR_OK) {
        refuse(exchange, err, &answer);
        if (!counted) {
            metric_refused(core->metrics, err);
            if (!exchange->journaled) {
                commit_refusal(core, exchange, err, (struct bytes){0});
            }
        }
        if (err_class_of(err) == ERR_CLASS_BUG) {
            log_error("internal", "request=%s", exchange->request_id);
        }
    }
    struct http_response response = {
        .status = answer.http_status,
        .content_type = answer.content_type,
        .transfer_encoding = answer.content_transfer_encoding,
        .allow = answer.allow,
        .www_authenticate = answer.www_authenticate,
        .cache_control = answer.cache_control,
        .retry_after_s = answer.retry_after_s,
        .body = answer.body,
    };
    hist_add(&core->metrics->request_ns, clock_mono_ns() - exchange->net.received_ns);
    net_respond(core->net, &exchange->net, &response);
    return VERDICT_DONE;
}
