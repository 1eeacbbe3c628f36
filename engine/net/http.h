/* http.h: strict HTTP/1.1 request parsing (RFC 9112) and response heads.
 *
 * Promise: parses complete heads from one contiguous view, without copies; what smuggling relies on
 *          (both Content-Length and Transfer-Encoding, repeated lengths, bare CR, obs-fold, space
 *          before the colon, control bytes) is an error. Nothing here knows sockets.
 * Errors:  ERR_HTTP_MALFORMED, ERR_HTTP_VERSION, ERR_HTTP_HEADER_TOO_LARGE, ERR_BODY_TOO_LARGE,
 *          ERR_HTTP_LENGTH_REQUIRED.
 * Limits:  HTTP_* (limits.h).
 */
#ifndef CERTMILL_NET_HTTP_H
#define CERTMILL_NET_HTTP_H

#include "base/bytes.h"
#include "limits.h"

struct http_request {
    struct bytes method;
    struct bytes path;  /* origin-form path without query, as sent; starts with '/' */
    struct bytes query; /* after '?', may be empty */
    struct bytes host;
    struct bytes content_type;
    struct bytes authorization;
    struct bytes user_agent;
    struct bytes body;
    uint64_t content_length;
    bool has_body; /* Content-Length or chunked present */
    bool chunked;
    bool http10;
    bool keep_alive;
    bool expect_continue;
};

enum http_progress { HTTP_NEED_MORE, HTTP_DONE, HTTP_ERROR };

/* Looks for one complete head at the start of `in`. DONE: out filled, *out_used octets consumed.
 * `scanned` (in and out, 0 at first) lets repeated calls on a growing view go on where they left.
 */
enum http_progress http_parse_head(struct bytes in, size_t *scanned, struct http_request *out,
                                   size_t *out_used, enum err *out_err);

/* Chunked body decoder (RFC 9112 7.1): feed views; body octets are appended to `body`. Chunk
 * extensions are bounded and ignored, trailers are read and dropped (HTTP_HEADER_MAX). */
struct http_chunked {
    uint64_t left; /* of the current chunk */
    uint32_t state;
    uint32_t line_len;
    uint32_t trailer_len;
};
enum http_progress http_chunked_feed(struct http_chunked *state, struct bytes *in,
                                     struct writer *body, enum err *out_err);

struct http_response {
    uint16_t status;
    const char *content_type;      /* NULL: none */
    const char *transfer_encoding; /* Content-Transfer-Encoding value, or NULL */
    const char *allow;             /* 405 */
    const char *www_authenticate;  /* 401 */
    const char *cache_control;     /* NULL: none */
    uint32_t retry_after_s;        /* 0: none */
    bool close;
    struct bytes body;
};

/* "OK", "Bad Request"... */
const char *http_reason(uint16_t status);
/* Status line and fields, with Date, and with Content-Length but for 204; at most
 * HTTP_RESPONSE_HEADER_MAX octets, else false. `http10`: HTTP/1.0 status line. */
bool http_write_head(struct writer *out, const struct http_response *response, bool http10,
                     bool keep_alive) MUST_USE;

#endif
