/* DECODE: from HTTP to typed views: which protocol, which line, what is asked. */
#include "pipeline/pipeline.h"

static void fill_request(struct exchange *exchange)
{
    const struct http_request *http = &exchange->net.http;
    exchange->request = (struct proto_request){
        .method = http->method,
        .path = http->path,
        .query = http->query,
        .content_type = http->content_type,
        .user_agent = http->user_agent,
        .body = http->body,
        .has_body = http->has_body,
        .over_tls = exchange->net.peer && exchange->net.peer->tls,
    };
}

/* A token bucket per line and core: a line's rate is shared out over the cores. */
static bool rate_allows(struct core *core, const struct rt_line *line)
{
    uint32_t limit = line->config->rate_limit;
    if (limit == 0) {
        return true;
    }
    struct rate_bucket *bucket = &core->rates[line->index];
    double rate = (double)limit / core->shared->core_count;
    double burst = rate < 1.0 ? 1.0 : rate;
    if (bucket->at_ns == 0) {
        bucket->tokens = burst;
    } else {
        bucket->tokens += rate * (double)(core->now_ns - bucket->at_ns) / (double)NS_PER_S;
        bucket->tokens = bucket->tokens > burst ? burst : bucket->tokens;
    }
    bucket->at_ns = core->now_ns;
    if (bucket->tokens < 1.0) {
        return false;
    }
    bucket->tokens -= 1.0;
    return true;
}

enum verdict stage_decode(struct core *core, struct exchange *exchange)
{
    fill_request(exchange);
    struct proto_route *route = &exchange->route;
    enum err err = ERR_OK;
    if (!proto_match(exchange->request.method, exchange->request.path, route, &err)) {
        route->proto = NULL;
        err = ERR_NOT_FOUND;
    }
    if (err != ERR_OK) {
        exchange->own.err = err;
        return VERDICT_REFUSE;
    }
    if (route->action == ACTION_CRL) {
        return crl_serve(core, exchange);
    }
    exchange->line = route->line.len > 0 ? snapshot_line(exchange->snapshot, route->line)
                                         : exchange->snapshot->default_line;
    if (!exchange->line) {
        exchange->own.err = ERR_UNKNOWN_LINE;
        return VERDICT_REFUSE;
    }
    if (net_exchanges_free(core->net) < EXCHANGES_RESERVE) {
        exchange->own.err = ERR_OVERLOADED;
        return VERDICT_REFUSE;
    }
    if (route->action != ACTION_CA_CERTS && !rate_allows(core, exchange->line)) {
        exchange->own.err = ERR_RATE_LIMITED;
        exchange->retry_after_s = 1;
        return VERDICT_REFUSE;
    }
    exchange->own.err = route->proto->decode(route, &exchange->line->proto, &exchange->request,
                                         &exchange->net.arena, &exchange->message);
    if (exchange->own.err != ERR_OK) {
        return VERDICT_REFUSE;
    }
    exchange->own.decoded = true;
    return VERDICT_NEXT;
}
