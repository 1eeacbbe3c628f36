/* Revocation lists over HTTP (RFC 5280 4.2.1.13, RFC 2585 3): GET /crl/<ca>.crl, for everybody. */
#include "proto/proto.h"

/* /crl/<ca>.crl: a name is one segment. */
static enum err match_name(struct bytes method, struct bytes name, struct proto_route *out)
{
    struct bytes suffix = BYTES_LIT(".crl");

    if (name.len <= suffix.len ||
        !bytes_eq(bytes_of(name.ptr + name.len - suffix.len, suffix.len), suffix) ||
        bytes_find(name, '/') < name.len || bytes_find(name, '%') < name.len)
        return ERR_NOT_FOUND;
    out->action = ACTION_CRL;
    out->ca = bytes_of(name.ptr, name.len - suffix.len);
    out->allow = "GET, HEAD";
    return bytes_eq(method, BYTES_LIT("GET")) || bytes_eq(method, BYTES_LIT("HEAD"))
               ? ERR_OK
               : ERR_HTTP_METHOD;
}

static bool crl_match(struct bytes method, struct bytes path, struct proto_route *out,
                      enum err *out_err)
{
    struct bytes prefix = BYTES_LIT("/crl/");

    if (!bytes_starts_with(path, prefix))
        return false;
    *out = (struct proto_route){.proto = &proto_crl};
    *out_err = match_name(method, bytes_of(path.ptr + prefix.len, path.len - prefix.len), out);
    return true;
}

static enum err crl_decode_request(const struct proto_route *route, const struct proto_line *line,
                                   const struct proto_request *request, struct arena *arena,
                                   struct proto_message *out)
{
    (void)line;
    (void)request;
    (void)arena;
    *out = (struct proto_message){.action = route->action};
    return ERR_OK;
}

/* Caches may keep it until its nextUpdate (RFC 9111 5.2.2.1). A list that is over is still better
 * than none, but whoever gets it shall ask again. */
static enum err crl_encode(const struct proto_route *route, const struct proto_line *line,
                           const struct proto_request *request, const struct proto_message *message,
                           const struct proto_outcome outcomes[], struct arena *arena,
                           struct proto_response *out)
{
    enum { CONTROL_MAX = 48 };
    char *control = arena_alloc(arena, CONTROL_MAX);

    (void)route;
    (void)line;
    (void)request;
    (void)outcomes;
    if (control == NULL)
        return ERR_OVERLOADED;
    struct writer text = writer_of(control, CONTROL_MAX - 1);
    writer_put_str(&text, "max-age=");
    writer_put_dec(&text, message->crl_left_s);
    control[text.len] = '\0';
    *out = (struct proto_response){
        .http_status = 200,
        .content_type = "application/pkix-crl",
        .cache_control = control,
        .body = message->crl_der,
    };
    return ERR_OK;
}

/* In the same words as EST: plain text. */
static void crl_refuse(const struct proto_route *route, const struct proto_line *line,
                       const struct proto_request *request, const struct proto_message *message,
                       enum err err, const char *detail, const char *request_id,
                       uint32_t retry_after_s, struct arena *arena, struct proto_response *out)
{
    proto_est.refuse(route, line, request, message, err, detail, request_id, retry_after_s, arena,
                     out);
}

const struct proto proto_crl = {
    .name = "crl",
    .journal_protocol = 0, /* PROTOCOL_NONE */
    .match = crl_match,
    .decode = crl_decode_request,
    .encode = crl_encode,
    .refuse = crl_refuse,
};
