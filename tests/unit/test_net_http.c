/* Is a request head read as RFC 9112 says, is everything that smuggling lives on refused, and does
 * the outcome never depend on how the octets were cut into reads? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "net/http.h"

#define TAIL "\r\nHost: h\r\n\r\n"

static const enum err bad = ERR_HTTP_MALFORMED;

/* Feeds `in` in one piece, and octet by octet on a view that grows, and holds both against each
 * other. The copy ends where the input ends, so that ASan sees a read past it. */
static enum http_progress parse(struct bytes in, struct http_request *out, size_t *out_used,
                                enum err *out_err)
{
    uint8_t *copy = malloc(in.len + 1);
    assert_non_null(copy);
    if (in.len > 0)
        memcpy(copy, in.ptr, in.len);
    size_t scanned = 0;
    enum http_progress whole =
        http_parse_head(bytes_of(copy, in.len), &scanned, out, out_used, out_err);

    struct http_request request;
    enum http_progress piecewise = HTTP_NEED_MORE;
    enum err err = ERR_OK;
    size_t used = 0, fed = 0;
    scanned = 0;
    for (fed = 0; piecewise == HTTP_NEED_MORE && fed <= in.len; fed++) {
        uint8_t *part = malloc(fed + 1);
        if (fed > 0)
            memcpy(part, in.ptr, fed);
        piecewise = http_parse_head(bytes_of(part, fed), &scanned, &request, &used, &err);
        free(part);
    }
    assert_int_equal(piecewise, whole);
    if (whole == HTTP_ERROR)
        assert_int_equal(err, *out_err);
    if (whole == HTTP_DONE) {
        assert_int_equal(used, *out_used);
        assert_int_equal(fed - 1, used); /* complete with its last octet, not before or after */
        assert_int_equal(request.method.len, out->method.len);
        assert_int_equal(request.path.len, out->path.len);
        assert_int_equal(request.content_length, out->content_length);
    }
    /* The views point into the copy: move them to the input. */
    if (whole == HTTP_DONE) {
        struct bytes *views[] = {&out->method,    &out->path,         &out->query,
                                 &out->host,      &out->content_type, &out->authorization,
                                 &out->user_agent};
        for (size_t i = 0; i < sizeof(views) / sizeof(views[0]); i++)
            if (views[i]->len > 0)
                views[i]->ptr = in.ptr + (views[i]->ptr - copy);
    }
    free(copy);
    return whole;
}

static void accepted(const char *text, struct http_request *out)
{
    size_t used = 0;
    enum err err = ERR_OK;
    struct bytes in = bytes_of_str(text);
    enum http_progress progress = parse(in, out, &used, &err);
    if (progress != HTTP_DONE)
        print_error("not accepted (%d, %s): %s\n", progress, err_code(err), text);
    assert_int_equal(progress, HTTP_DONE);
    assert_int_equal(used, in.len);
}

static void refused_octets(struct bytes in, enum err why)
{
    struct http_request request = {.content_length = 77};
    size_t used = 99;
    enum err err = ERR_OK;
    enum http_progress progress = parse(in, &request, &used, &err);
    if (progress != HTTP_ERROR || err != why)
        print_error("%d %s: %.*s\n", progress, err_code(err), (int)in.len, (const char *)in.ptr);
    assert_int_equal(progress, HTTP_ERROR);
    assert_int_equal(err, why);
    assert_int_equal(request.content_length, 77); /* outputs are untouched on failure */
    assert_int_equal(used, 99);
}

static void refused(const char *text, enum err why)
{
    refused_octets(bytes_of_str(text), why);
}

static void is(struct bytes view, const char *text)
{
    assert_int_equal(view.len, strlen(text));
    if (view.len > 0)
        assert_memory_equal(view.ptr, text, view.len);
}

static void test_what_is_read(void **state)
{
    (void)state;
    struct http_request r;
    accepted("POST /.well-known/est/line-1/simpleenroll?a=b?c HTTP/1.1\r\n"
             "Host: est.example:8443\r\n"
             "User-Agent: libest 1.0\r\n"
             "Content-Type:  application/pkcs10 \t\r\n"
             "AUTHORIZATION:Basic c3RhdGlvbjpwdw==\r\n"
             "X-Empty:\r\n"
             "X-Text: caf\xc3\xa9 \"quoted\" (yes)\r\n"
             "content-length: 123\r\n"
             "Expect: 100-Continue\r\n\r\n",
             &r);
    is(r.method, "POST");
    is(r.path, "/.well-known/est/line-1/simpleenroll");
    is(r.query, "a=b?c");
    is(r.host, "est.example:8443");
    is(r.user_agent, "libest 1.0");
    is(r.content_type, "application/pkcs10");
    is(r.authorization, "Basic c3RhdGlvbjpwdw==");
    assert_int_equal(r.content_length, 123);
    assert_true(r.has_body && !r.chunked && !r.http10 && r.keep_alive && r.expect_continue);

    accepted("GET / HTTP/1.1" TAIL, &r);
    is(r.path, "/");
    is(r.query, "");
    assert_true(!r.has_body && r.keep_alive && !r.expect_continue);
    assert_int_equal(r.content_length, 0);

    accepted("\r\nGET /%41%fF/~a-b_c.d!$&'()*+,;=:@/? HTTP/1.1" TAIL, &r); /* one empty line */
    is(r.path, "/%41%fF/~a-b_c.d!$&'()*+,;=:@/");
    is(r.query, "");

    accepted("POST /x HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: CHUNKED\r\n\r\n", &r);
    assert_true(r.has_body && r.chunked);
    is(r.host, "[::1]:80");

    accepted("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", &r);
    assert_true(r.has_body);
    accepted("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 1073741824\r\n\r\n", &r);
    assert_true(r.content_length == 1073741824);

    /* absolute-form, which a server must take; its authority goes before Host */
    accepted("GET http://real.example:81/a?b HTTP/1.1\r\nHost: other\r\n\r\n", &r);
    is(r.host, "real.example:81");
    is(r.path, "/a");
    is(r.query, "b");
    accepted("GET HTTPS://e/a HTTP/1.1" TAIL, &r);
    is(r.host, "e");
}

static void test_connection(void **state)
{
    (void)state;
    static const struct {
        const char *version, *fields;
        bool keep_alive;
    } rows[] = {
        {"1.1", "", true},
        {"1.0", "", false},
        {"1.1", "Connection: close\r\n", false},
        {"1.1", "Connection: keep-alive\r\n", true},
        {"1.0", "Connection: keep-alive\r\n", true},
        {"1.0", "Connection: Keep-Alive\r\n", true},
        {"1.1", "connection: foo , CLOSE\r\n", false},
        {"1.1", "Connection: ,,keep-alive,\r\n", true},
        {"1.0", "Connection: keep-alive, close\r\n", false},
        {"1.1", "Connection: foo\r\nConnection: close\r\n", false},
        {"1.1", "Connection: closed\r\n", true},
        {"1.1", "Connection:\r\n", true},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[256];
        snprintf(text, sizeof(text), "GET / HTTP/%s\r\nHost: h\r\n%s\r\n", rows[i].version,
                 rows[i].fields);
        struct http_request r;
        accepted(text, &r);
        assert_int_equal(r.keep_alive, rows[i].keep_alive);
        assert_int_equal(r.http10, rows[i].version[2] == '0');
    }
    struct http_request r;
    accepted("GET / HTTP/1.0\r\n\r\n", &r); /* needs no Host */
    accepted("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", &r);
    assert_false(r.expect_continue); /* RFC 9110 10.1.1: ignored in HTTP/1.0 */
    refused("GET / HTTP/1.1\r\nHost: h\r\nConnection: clo se\r\n\r\n", bad);
}

static void test_request_lines_refused(void **state)
{
    (void)state;
    static const char *const lines[] = {
        " GET / HTTP/1.1",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /  HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET / HTTP/1.1 x",
        "GET /",
        "GET",
        "/ HTTP/1.1",
        "G(T / HTTP/1.1",
        "GET HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.1.1",
        "GET / HTTP/11",
        "GET / HTTP/1,1",
        "GET / HTTP/a.1",
        "GET / HTTP/+1.1",
        "GET a HTTP/1.1",
        "GET * HTTP/1.1",
        "CONNECT h:443 HTTP/1.1",
        "GET /# HTTP/1.1",
        "GET /\\ HTTP/1.1",
        "GET /\" HTTP/1.1",
        "GET /<> HTTP/1.1",
        "GET /^ HTTP/1.1",
        "GET /{|} HTTP/1.1",
        "GET /% HTTP/1.1",
        "GET /%4 HTTP/1.1",
        "GET /%4g HTTP/1.1",
        "GET /%g4 HTTP/1.1",
        "GET /\xc3\xa9 HTTP/1.1",
        "GET http:///a HTTP/1.1",
        "GET http://h HTTP/1.1",
        "GET http://u@h/ HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET ftp://h/ HTTP/1.1",
        "AVERYLONGMETHODNAMETHATNOBODYHASDEFINED / HTTP/1.1",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        char text[256];
        snprintf(text, sizeof(text), "%s" TAIL, lines[i]);
        refused(text, bad);
    }
    refused("\r\n\r\nGET / HTTP/1.1" TAIL, bad); /* two empty lines */
    refused("GET / HTTP/2.0" TAIL, ERR_HTTP_VERSION);
    refused("GET / HTTP/0.9" TAIL, ERR_HTTP_VERSION);
    refused("GET / HTTP/1.2" TAIL, ERR_HTTP_VERSION);
    refused("PRI * HTTP/2.0\r\n\r\n", ERR_HTTP_VERSION); /* an HTTP/2 client */
}

static void test_smuggling_refused(void **state)
{
    (void)state;
    static const char *const fields[] = {
        /* the body's length in two ways, or in one way twice */
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5,6\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding:\013chunked\r\n",
        "Transfer-Encoding: chunk\r\n",
        "Transfer-Encoding:\r\n",
        /* lengths that others read otherwise */
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5a\r\n",
        "Content-Length: 05\r\n",
        "Content-Length: 5.\r\n",
        "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Content-Length: 18446744073709551621\r\n",
        "Content-Length: 9223372036854775808\r\n",
        /* fields that are none */
        "Content-Length : 5\r\n",
        "Content-Length\t: 5\r\n",
        " Content-Length: 5\r\n",
        "\tContent-Length: 5\r\n",
        "X: a\r\n b\r\n",
        "X: a\r\n\tb\r\n",
        "X: a\r\n \r\n",
        ": a\r\n",
        "X\r\n",
        "X a\r\n",
        "X(: a\r\n",
        "X\xe9: a\r\n",
        "{X}: a\r\n",
        /* line ends that are none */
        "X: a\rContent-Length: 5\r\n",
        "X: a\nContent-Length: 5\r\n",
        "X: a\r\r\n",
        "X: a\n\r\n",
        "\rX: a\r\n",
        "X: a\x0c\r\n",
        "X: a\x7f\r\n",
        "X: a\x01\r\n",
        /* two of what may come once */
        "Host: h\r\n",
        "Host: other\r\n",
        "Authorization: a\r\nAuthorization: b\r\n",
        "Content-Type: a\r\nContent-Type: b\r\n",
        "User-Agent: a\r\nUser-Agent: b\r\n",
    };
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        char text[256];
        snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: h\r\n%s\r\n", fields[i]);
        refused(text, bad);
        /* and as the first field, where a folded line would join the request line */
        snprintf(text, sizeof(text), "GET / HTTP/1.1\r\n%sHost: h\r\n\r\n", fields[i]);
        refused(text, bad);
    }
    refused_octets(BYTES_LIT("GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n"), bad);
    refused_octets(BYTES_LIT("GET /\0 HTTP/1.1" TAIL), bad);
    refused("GET / HTTP/1.1\nHost: h\n\n", bad);
    refused("GET / HTTP/1.1\r\n\r\n", bad); /* no Host */
    refused("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", bad);
    refused("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", bad);
    refused("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", bad);
    refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", bad);
    refused("\x16\x03\x01\x02", bad); /* TLS on the plain port is told at once */
    refused("POST / HTTP/1.1" TAIL, ERR_HTTP_LENGTH_REQUIRED);
    refused("PUT / HTTP/1.0\r\n\r\n", ERR_HTTP_LENGTH_REQUIRED);
}

/* Every octet in every kind of place: accepted exactly where the grammar has it. */
static void test_every_octet(void **state)
{
    (void)state;
    static const char token[] = "!#$%&'*+-.^_`|~";
    static const char target[] = "/?!$&'()*+,;=:@-._~";
    for (unsigned c = 0; c < 256; c++) {
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool in_token = alnum || (c != 0 && strchr(token, (int)c) != NULL);
        bool in_target = alnum || (c != 0 && strchr(target, (int)c) != NULL);
        bool in_value = c == '\t' || (c >= ' ' && c != 0x7f);
        static const char *const formats[] = {
            "G%cT / HTTP/1.1" TAIL,
            "GET /a%ca HTTP/1.1" TAIL,
            "GET / HTTP/1.1\r\nHost: h\r\nX%cX: v\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nX: v%cv\r\n\r\n",
        };
        const bool wanted[] = {in_token, in_target, in_token || c == ':', in_value};
        for (size_t i = 0; i < 4; i++) {
            char text[128];
            int len = snprintf(text, sizeof(text), formats[i], (int)c);
            struct http_request r;
            size_t used;
            enum err err;
            enum http_progress progress = parse(bytes_of(text, (size_t)len), &r, &used, &err);
            if ((progress == HTTP_DONE) != wanted[i])
                print_error("octet %02x at place %zu\n", c, i);
            assert_int_equal(progress == HTTP_DONE, wanted[i]);
            assert_true(progress != HTTP_NEED_MORE);
        }
    }
}

static void test_bounds(void **state)
{
    (void)state;
    static char text[3 * HTTP_HEADER_MAX];
    struct http_request r;
    size_t used;
    enum err err;

    /* A head of exactly HTTP_HEADER_MAX octets is the largest. */
    for (int more = 0; more < 2; more++) {
        int at = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: h\r\nX: ");
        int fill = HTTP_HEADER_MAX - at - 4 + more;
        memset(text + at, 'a', (size_t)fill);
        memcpy(text + at + fill, "\r\n\r\n", 5);
        if (more == 0)
            accepted(text, &r);
        else
            refused(text, ERR_HTTP_HEADER_TOO_LARGE);
    }
    /* An endless one is refused as soon as that many octets are there. */
    memset(text, 'a', HTTP_HEADER_MAX);
    assert_int_equal(parse(bytes_of(text, HTTP_HEADER_MAX - 1), &r, &used, &err), HTTP_NEED_MORE);
    refused_octets(bytes_of(text, HTTP_HEADER_MAX), ERR_HTTP_HEADER_TOO_LARGE);

    for (int more = 0; more < 2; more++) {
        int at = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: h\r\n");
        for (int i = 1; i < HTTP_FIELDS_MAX + more; i++)
            at += snprintf(text + at, sizeof(text) - (size_t)at, "X-%d: v\r\n", i);
        snprintf(text + at, sizeof(text) - (size_t)at, "\r\n");
        if (more == 0)
            accepted(text, &r);
        else
            refused(text, ERR_HTTP_HEADER_TOO_LARGE);
    }
    for (int more = 0; more < 2; more++) {
        char path[HTTP_PATH_MAX + 8] = "/";
        memset(path + 1, 'p', (size_t)(HTTP_PATH_MAX - 1 + more));
        snprintf(text, sizeof(text), "GET %s?%02000d HTTP/1.1" TAIL, path,
                 7); /* a query may be long */
        if (more == 0) {
            accepted(text, &r);
            assert_int_equal(r.path.len, HTTP_PATH_MAX);
            assert_int_equal(r.query.len, 2000);
        } else
            refused(text, ERR_HTTP_HEADER_TOO_LARGE);
    }
    /* What follows a head is not its own. */
    assert_int_equal(parse(BYTES_LIT("GET / HTTP/1.1" TAIL "GET"), &r, &used, &err), HTTP_DONE);
    assert_int_equal(used, strlen("GET / HTTP/1.1" TAIL));
    assert_int_equal(parse(bytes_of(NULL, 0), &r, &used, &err), HTTP_NEED_MORE);
}

/* --- chunked bodies --- */

static enum http_progress decode(struct bytes in, size_t step, size_t cap, char *out,
                                 size_t *out_len, size_t *out_rest, enum err *out_err)
{
    struct http_chunked decoder = {0};
    struct writer body = writer_of(out, cap);
    enum http_progress progress = HTTP_NEED_MORE;
    while (progress == HTTP_NEED_MORE && in.len > 0) {
        size_t n = in.len < step ? in.len : step;
        uint8_t *part = malloc(n);
        memcpy(part, in.ptr, n);
        struct bytes view = bytes_of(part, n);
        progress = http_chunked_feed(&decoder, &view, &body, out_err);
        assert_true(progress != HTTP_NEED_MORE || view.len == 0);
        in = bytes_of(in.ptr + (n - view.len), in.len - (n - view.len));
        free(part);
    }
    *out_len = body.len;
    *out_rest = in.len;
    return progress;
}

static void test_chunked(void **state)
{
    (void)state;
    static const struct {
        const char *in, *body, *rest;
    } good[] = {
        {"0\r\n\r\n", "", ""},
        {"5\r\nhello\r\n0\r\n\r\nGET", "hello", "GET"},
        {"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "abc", ""},
        {"A\r\n0123456789\r\n0a\r\n0123456789\r\n00\r\n\r\n", "01234567890123456789", ""},
        {"2;ext\r\n\r\n\r\n0;a=\"b c\";d\r\n\r\n", "\r\n", ""},
        {"1\r\nx\r\n0\r\nTrailer: v\r\nOther:\r\n\r\n", "x", ""},
        {"5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n", ""},
    };
    static const char *const wrong[] = {
        "\r\n",
        "g\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\r\nhello",
        "5\rxhello",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\rx",
        "5\r\nhello.\n0\r\n\r\n",
        "0\r\n\r.",
        "0\r\nA: v\r.\r\n",
        "-5\r\n",
        "+5\r\n",
        "0x5\r\n",
        ";a\r\n",
        "5;a\nb\r\n",
        "5;a\x01\r\n",
        "0\r\n\rx",
        "0\r\n\nx",
        "0\r\nNoColon\r\n\r\n",
        "0\r\n: v\r\n\r\n",
        "0\r\nA b: v\r\n\r\n",
        "0\r\nA: v\nB: v\r\n\r\n",
        "0\r\n folded\r\n\r\n",
    };
    char out[64];
    size_t len, rest;
    enum err err = ERR_OK;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        for (size_t step = 1; step < 40; step++) {
            assert_int_equal(
                decode(bytes_of_str(good[i].in), step, sizeof(out), out, &len, &rest, &err),
                HTTP_DONE);
            assert_int_equal(len, strlen(good[i].body));
            assert_memory_equal(out, good[i].body, len);
            assert_int_equal(rest, strlen(good[i].rest));
        }
        for (size_t cut = 1; cut < strlen(good[i].in) - strlen(good[i].rest); cut++)
            assert_int_equal(
                decode(bytes_of(good[i].in, cut), 7, sizeof(out), out, &len, &rest, &err),
                HTTP_NEED_MORE);
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        for (size_t step = 1; step < 40; step += 3) {
            assert_int_equal(
                decode(bytes_of_str(wrong[i]), step, sizeof(out), out, &len, &rest, &err),
                HTTP_ERROR);
            assert_int_equal(err, bad);
        }
}

static void test_chunked_bounds(void **state)
{
    (void)state;
    char out[64];
    size_t len, rest;
    enum err err = ERR_OK;
    /* More than there is room for, exactly what there is room for. */
    assert_int_equal(
        decode(BYTES_LIT("5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"), 99, 6, out, &len, &rest, &err),
        HTTP_DONE);
    assert_int_equal(
        decode(BYTES_LIT("5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"), 99, 5, out, &len, &rest, &err),
        HTTP_ERROR);
    assert_int_equal(err, ERR_BODY_TOO_LARGE);
    assert_int_equal(decode(BYTES_LIT("ffffffffffffffff\r\n"), 99, 5, out, &len, &rest, &err),
                     HTTP_ERROR);
    assert_int_equal(err, ERR_BODY_TOO_LARGE);

    static char text[3 * HTTP_HEADER_MAX];
    memset(text, 'x', sizeof(text));
    memcpy(text, "1;", 2);
    assert_int_equal(decode(BYTES_ARRAY(text), 100, 5, out, &len, &rest, &err), HTTP_ERROR);
    assert_int_equal(err, bad);
    memcpy(text, "0\r\nA:", 5);
    assert_int_equal(decode(BYTES_ARRAY(text), 100, 5, out, &len, &rest, &err), HTTP_ERROR);
    assert_int_equal(err, ERR_HTTP_HEADER_TOO_LARGE);
}

/* --- answers --- */

static uint64_t fixed_wall(void *ctx)
{
    (void)ctx;
    return 784111777ull * NS_PER_S; /* RFC 9110 5.6.7's example */
}

static uint64_t fixed_mono(void *ctx)
{
    (void)ctx;
    return 1;
}

static void head_is(const struct http_response *response, bool http10, bool keep_alive,
                    const char *text)
{
    char buf[HTTP_RESPONSE_HEADER_MAX + 1];
    struct writer out = writer_of(buf, sizeof(buf) - 1);
    assert_true(http_write_head(&out, response, http10, keep_alive));
    buf[out.len] = '\0';
    assert_string_equal(buf, text);
}

static void test_response_heads(void **state)
{
    (void)state;
    static const struct clock_source fixed = {fixed_mono, fixed_wall, NULL};
    clock_replace(&fixed);
#define DATE "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    head_is(&(struct http_response){.status = 200,
                                    .content_type = "application/pkcs7-mime; smime-type=certs-only",
                                    .transfer_encoding = "base64",
                                    .body = BYTES_LIT("12345")},
            false, true,
            "HTTP/1.1 200 OK\r\n" DATE
            "Content-Type: application/pkcs7-mime; smime-type=certs-only\r\n"
            "Content-Transfer-Encoding: base64\r\nContent-Length: 5\r\n\r\n");
    head_is(&(struct http_response){.status = 401, .www_authenticate = "Basic realm=\"certmill\""},
            false, false,
            "HTTP/1.1 401 Unauthorized\r\n" DATE
            "WWW-Authenticate: Basic realm=\"certmill\"\r\nContent-Length: 0\r\nConnection: "
            "close\r\n\r\n");
    head_is(&(struct http_response){.status = 405, .allow = "GET, POST"}, true, true,
            "HTTP/1.0 405 Method Not Allowed\r\n" DATE
            "Allow: GET, POST\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n");
    head_is(&(struct http_response){.status = 503, .retry_after_s = 120}, true, false,
            "HTTP/1.0 503 Service Unavailable\r\n" DATE
            "Retry-After: 120\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    head_is(&(struct http_response){.status = 204}, false, true,
            "HTTP/1.1 204 No Content\r\n" DATE "\r\n");
#undef DATE
    clock_replace(NULL);

    char buf[64];
    struct writer small = writer_of(buf, sizeof(buf));
    assert_false(http_write_head(&small, &(struct http_response){.status = 200}, false, true));
    static const uint16_t statuses[] = {200, 202, 204, 400, 401, 403, 404, 405, 408,
                                        411, 413, 415, 429, 431, 500, 501, 503, 505};
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
        assert_string_not_equal(http_reason(statuses[i]), http_reason(999));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_read),
        cmocka_unit_test(test_connection),
        cmocka_unit_test(test_request_lines_refused),
        cmocka_unit_test(test_smuggling_refused),
        cmocka_unit_test(test_every_octet),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_chunked),
        cmocka_unit_test(test_chunked_bounds),
        cmocka_unit_test(test_response_heads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
