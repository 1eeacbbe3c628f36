#include "proto/est.h"

#include "asn1/base64.h"
#include "asn1/cms.h"
#include "base/secret.h"
#include "proto/est_text.h"

enum { JOURNAL_PROTOCOL_EST = 1 }; /* PROTOCOL_EST of store/schema.h, which proto may not see */

enum { BINDING_MAX = 64 }; /* tls-unique: 12 or 36; exporter: 32 */

/* The state table of EST: an operation is one request and one answer. */
static const struct operation {
    const char *name;
    const char *method;
    enum proto_action action;
    uint32_t body_max;
    const char *media_type; /* of the request; NULL: not looked at */
    bool offered;
} operations[] = {
    {"cacerts", "GET", ACTION_CA_CERTS, 0, NULL, true},
    {"csrattrs", "GET", ACTION_CSR_ATTRS, 0, NULL, true},
    {"simpleenroll", "POST", ACTION_ENROLL, EST_BODY_MAX, "application/pkcs10", true},
    {"simplereenroll", "POST", ACTION_REENROLL, EST_BODY_MAX, "application/pkcs10", true},
    {"serverkeygen", "POST", ACTION_SERVER_KEYGEN, EST_BODY_MAX, "application/pkcs10", false},
    {"fullcmc", "POST", ACTION_FULL_CMC, EST_BODY_MAX, "application/pkcs7-mime", false},
    {"confirm", "POST", ACTION_CONFIRM, EST_BODY_MAX, NULL, true},
};
enum { OPERATION_COUNT = sizeof(operations) / sizeof(operations[0]) };

static size_t operation_find(struct bytes name)
{
    for (size_t i = 0; i < OPERATION_COUNT; i++)
        if (bytes_eq(name, bytes_of_str(operations[i].name)))
            return i;
    return OPERATION_COUNT;
}

bool est_is_operation_name(struct bytes name)
{
    return operation_find(name) < OPERATION_COUNT;
}

/* --- match --- */

/* [<line>/]<operation> (RFC 7030 3.2.2) */
static enum err match_rest(struct bytes method, struct bytes rest, struct proto_route *out)
{
    struct bytes line = {0};
    struct bytes name = rest;
    size_t slash = bytes_find(rest, '/');

    if (bytes_find(rest, '%') < rest.len)
        return ERR_NOT_FOUND;
    if (slash < rest.len) {
        line = bytes_of(rest.ptr, slash);
        name = bytes_of(rest.ptr + slash + 1, rest.len - slash - 1);
        if (line.len == 0 || est_is_operation_name(line))
            return ERR_NOT_FOUND;
    }
    size_t i = operation_find(name);
    if (i == OPERATION_COUNT)
        return ERR_NOT_FOUND;
    out->action = operations[i].action;
    out->line = line;
    out->allow = operations[i].method;
    out->body_max = operations[i].body_max;
    out->operation = (uint32_t)i;
    return bytes_eq(method, bytes_of_str(operations[i].method)) ? ERR_OK : ERR_HTTP_METHOD;
}

static bool est_match(struct bytes method, struct bytes path, struct proto_route *out,
                      enum err *out_err)
{
    struct bytes prefix = BYTES_LIT("/.well-known/est");

    if (!bytes_starts_with(path, prefix))
        return false;
    struct bytes rest = bytes_of(path.ptr + prefix.len, path.len - prefix.len);
    if (rest.len > 0 && rest.ptr[0] != '/')
        return false; /* /.well-known/established */
    *out = (struct proto_route){.proto = &proto_est};
    *out_err = rest.len == 0 ? ERR_NOT_FOUND
                             : match_rest(method, bytes_of(rest.ptr + 1, rest.len - 1), out);
    return true;
}

/* --- decode --- */

static enum err decode_base64(struct bytes text, struct arena *arena, struct bytes *out)
{
    size_t cap = base64_decoded_bound(text.len);
    size_t len;
    uint8_t *buf = arena_alloc(arena, cap);

    if (buf == NULL)
        return ERR_OVERLOADED;
    if (!base64_decode(text, buf, cap, &len))
        return ERR_BAD_BASE64;
    *out = bytes_of(buf, len);
    return ERR_OK;
}

static enum err decode_enroll(const struct proto_request *request, struct arena *arena,
                              struct proto_message *out)
{
    struct bytes der;
    enum err err = decode_base64(request->body, arena, &der); /* RFC 8951 3: base64 alone */
    if (err != ERR_OK)
        return err;
    struct cert_request *cert_request = arena_alloc(arena, sizeof(*cert_request));
    if (cert_request == NULL)
        return ERR_OVERLOADED;
    err = csr_decode(der, cert_request);
    if (err != ERR_OK)
        return err;
    out->requests = cert_request;
    out->request_count = 1;
    return ERR_OK;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static struct bytes trim(struct bytes text)
{
    while (text.len > 0 && is_space(text.ptr[0]))
        text = bytes_of(text.ptr + 1, text.len - 1);
    while (text.len > 0 && is_space(text.ptr[text.len - 1]))
        text.len--;
    return text;
}

/* 64 hex digits, or 32 pairs with colons between, as OpenSSL prints them. */
static bool fingerprint_decode(struct bytes text, uint8_t out[32])
{
    uint8_t hex[64];
    size_t len;

    if (text.len == 64)
        return bytes_from_hex(text, out, 32, &len);
    if (text.len != 32 * 3 - 1)
        return false;
    for (size_t i = 0; i < 32; i++) {
        if (i > 0 && text.ptr[3 * i - 1] != ':')
            return false;
        memcpy(hex + 2 * i, text.ptr + 3 * i, 2);
    }
    return bytes_from_hex(BYTES_ARRAY(hex), out, 32, &len);
}

static enum err decode_pem(struct bytes text, struct arena *arena, struct bytes *out)
{
    size_t cap = base64_decoded_bound(text.len);
    size_t len, more_len;
    uint8_t *buf = arena_alloc(arena, cap);

    if (buf == NULL)
        return ERR_OVERLOADED;
    enum err err = pem_next(&text, "CERTIFICATE", buf, cap, &len);
    if (err != ERR_OK)
        return err == ERR_NOT_FOUND ? ERR_BAD_CERT : err;
    /* which of several certificates would be confirmed? */
    if (pem_next(&text, "CERTIFICATE", buf + len, cap - len, &more_len) != ERR_NOT_FOUND)
        return ERR_BAD_REQUEST;
    *out = bytes_of(buf, len);
    return ERR_OK;
}

static enum err decode_confirm_body(struct bytes body, struct arena *arena,
                                    struct proto_message *out)
{
    struct bytes text = trim(body);
    struct x509_cert cert;
    struct bytes der;
    uint8_t fingerprint[32];

    if (text.len == 0)
        return ERR_BAD_REQUEST;
    if (fingerprint_decode(text, fingerprint)) {
        out->confirm_fingerprint = arena_dup(arena, BYTES_ARRAY(fingerprint));
        return out->confirm_fingerprint.len > 0 ? ERR_OK : ERR_OVERLOADED;
    }
    enum err err = bytes_starts_with(text, BYTES_LIT("-----BEGIN "))
                       ? decode_pem(text, arena, &der)
                       : decode_base64(text, arena, &der);
    if (err == ERR_OK)
        err = x509_decode(der, &cert);
    if (err == ERR_OK)
        out->confirm_cert = der;
    return err;
}

/* %XX into octets; what is left must be visible ASCII, as device ids are. */
static enum err device_decode(struct bytes value, struct arena *arena, struct bytes *out)
{
    uint8_t buf[DEVICE_ID_MAX];
    size_t len = 0;

    while (value.len > 0) {
        uint8_t octet = value.ptr[0];
        size_t used = 1, hex_len;
        if (octet == '%') {
            used = 3;
            if (value.len < 3 || !bytes_from_hex(bytes_of(value.ptr + 1, 2), &octet, 1, &hex_len))
                return ERR_BAD_DEVICE_ID;
        }
        if (len == sizeof(buf) || octet <= ' ' || octet > '~')
            return ERR_BAD_DEVICE_ID;
        buf[len++] = octet;
        value = bytes_of(value.ptr + used, value.len - used);
    }
    if (len == 0)
        return ERR_BAD_DEVICE_ID;
    *out = arena_dup(arena, bytes_of(buf, len));
    return out->len > 0 ? ERR_OK : ERR_OVERLOADED;
}

static enum err decode_confirm_query(struct bytes query, struct arena *arena,
                                     struct proto_message *out)
{
    struct bytes key = BYTES_LIT("device=");
    bool seen = false;

    while (query.len > 0) {
        size_t len = bytes_find(query, '&');
        struct bytes pair = bytes_of(query.ptr, len);
        size_t used = len < query.len ? len + 1 : len;
        query = bytes_of(query.ptr + used, query.len - used);
        if (!bytes_starts_with(pair, key))
            continue;
        if (seen)
            return ERR_BAD_REQUEST;
        seen = true;
        enum err err = device_decode(bytes_of(pair.ptr + key.len, pair.len - key.len), arena,
                                     &out->confirm_device);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

static enum err est_decode(const struct proto_route *route, const struct proto_line *line,
                           const struct proto_request *request, struct arena *arena,
                           struct proto_message *out)
{
    const struct operation *operation = &operations[route->operation];
    struct proto_message message = {.action = route->action};
    enum err err = ERR_OK;

    if (!operation->offered || (route->action == ACTION_CONFIRM && !line->offer_confirm))
        return ERR_NOT_OFFERED;
    if (operation->media_type != NULL &&
        !proto_media_type_is(request->content_type, operation->media_type))
        return ERR_HTTP_MEDIA_TYPE;
    if (route->action == ACTION_ENROLL || route->action == ACTION_REENROLL)
        err = decode_enroll(request, arena, &message);
    if (route->action == ACTION_CONFIRM) {
        err = decode_confirm_body(request->body, arena, &message);
        if (err == ERR_OK)
            err = decode_confirm_query(request->query, arena, &message);
    }
    if (err != ERR_OK)
        return err;
    *out = message;
    return ERR_OK;
}

/* --- encode --- */

/* libest reads no line longer than 76 (spec/est.md, what real clients need, 1). */
static uint32_t wrap_for(const struct proto_line *line, const struct proto_request *request)
{
    return bytes_starts_with(request->user_agent, BYTES_LIT("libest")) ? 64 : line->base64_wrap;
}

static enum err encode_base64(struct bytes der, const char *content_type, uint32_t wrap,
                              struct arena *arena, struct proto_response *out)
{
    uint8_t *text = arena_alloc(arena, base64_encoded_len(der.len, wrap));

    if (text == NULL)
        return ERR_OVERLOADED;
    *out = (struct proto_response){
        .http_status = 200,
        .content_type = content_type,
        .content_transfer_encoding = "base64",
        .body = bytes_of(text, base64_encode(der, wrap, text)),
    };
    return ERR_OK;
}

/* RFC 7030 4.2.3: the issued certificate alone */
static enum err encode_cert(struct bytes cert_der, uint32_t wrap, struct arena *arena,
                            struct proto_response *out)
{
    size_t cap = cms_certs_only_bound(&cert_der, 1);
    size_t len;
    uint8_t *cms = arena_alloc(arena, cap);

    if (cms == NULL)
        return ERR_OVERLOADED;
    enum err err = cms_certs_only_build(&cert_der, 1, cms, cap, &len);
    if (err != ERR_OK)
        return err;
    return encode_base64(bytes_of(cms, len), "application/pkcs7-mime; smime-type=certs-only", wrap,
                         arena, out);
}

static void est_refuse(const struct proto_route *route, const struct proto_line *line,
                       const struct proto_request *request, const struct proto_message *message,
                       enum err err, const char *detail, const char *request_id,
                       uint32_t retry_after_s, struct arena *arena, struct proto_response *out)
{
    (void)line;
    (void)request;
    (void)message;
    uint16_t status = est_status(err);

    if (status == 200)
        status = 500; /* a refusal without a reason is our bug */
    *out = (struct proto_response){.http_status = status};
    if (status == 202 || status == 429 || status == 503)
        out->retry_after_s = retry_after_s > 0 ? retry_after_s : RETRY_AFTER_S;
    if (status == 405)
        out->allow = route != NULL && route->allow != NULL ? route->allow : "GET, POST";
    if (status == 401)
        out->www_authenticate = "Basic realm=\"certmill\"";
    if (status == 401 || status == 202)
        return; /* Content-Length: 0 (spec/est.md, what real clients need, 6) */
    out->content_type = "text/plain";
    out->body = est_error_line(err == ERR_OK ? ERR_INTERNAL : err, detail, request_id, arena);
}

static enum err est_encode(const struct proto_route *route, const struct proto_line *line,
                           const struct proto_request *request, const struct proto_message *message,
                           const struct proto_outcome outcomes[], struct arena *arena,
                           struct proto_response *out)
{
    uint32_t wrap = wrap_for(line, request);

    (void)message;
    switch (route->action) {
    case ACTION_CA_CERTS:
        return encode_base64(line->ca_certs_cms, "application/pkcs7-mime", wrap, arena, out);
    case ACTION_CSR_ATTRS:
        if (line->csr_attrs.len == 0) {
            *out = (struct proto_response){.http_status = 204};
            return ERR_OK;
        }
        return encode_base64(line->csr_attrs, "application/csrattrs", wrap, arena, out);
    case ACTION_ENROLL:
    case ACTION_REENROLL:
        /* one request, one outcome: its error is the message's, and refuse knows how to say it */
        return outcomes[0].err == ERR_OK ? encode_cert(outcomes[0].cert_der, wrap, arena, out)
                                         : outcomes[0].err;
    case ACTION_CONFIRM:
        *out = (struct proto_response){
            .http_status = 200, .content_type = "text/plain", .body = BYTES_LIT("confirmed\n")};
        return ERR_OK;
    default:
        return ERR_INTERNAL;
    }
}

/* --- proof-of-possession linking --- */

bool est_pop_link_matches(struct bytes challenge_password, struct bytes binding)
{
    uint8_t text[(BINDING_MAX + 2) / 3 * 4];

    if (binding.len == 0 || binding.len > BINDING_MAX)
        return false;
    size_t len = base64_encode(binding, 0, text);
    bool same = secret_eq(challenge_password, bytes_of(text, len));
    secret_wipe(text, sizeof(text));
    return same;
}

const struct proto proto_est = {
    .name = "est",
    .journal_protocol = JOURNAL_PROTOCOL_EST,
    .match = est_match,
    .decode = est_decode,
    .encode = est_encode,
    .refuse = est_refuse,
};
