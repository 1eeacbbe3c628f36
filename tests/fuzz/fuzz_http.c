/* Does the outcome of HTTP parsing depend on anything but the octets?
 *
 * Oracles: a head parsed whole and in every or in random cuts gives the same; an accepted head that
 * is written anew from what was read parses to the same; a chunked body in random cuts decodes to
 * what a decoder on the whole text, written anew here, gets. Every view ends where its memory ends.
 */
#include <stdio.h>
#include <stdlib.h>

#include "net/http.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

enum { BODY_ROOM = 1 << 16 };

struct outcome {
    enum http_progress progress;
    enum err err;
    struct http_request request;
    size_t used;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy that ends where its memory ends. */
static uint8_t *copy_of(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size == 0 ? 1 : size);
    CHECK(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    return copy;
}

static struct bytes moved(struct bytes view, const uint8_t *from, const uint8_t *to)
{
    return view.len == 0 ? (struct bytes){0} : bytes_of(to + (view.ptr - from), view.len);
}

/* Views of the result point into data, wherever it was parsed. */
static void parse(const uint8_t *data, size_t size, size_t *scanned, struct outcome *out)
{
    uint8_t *copy = copy_of(data, size);
    *out = (struct outcome){0};
    out->progress =
        http_parse_head(bytes_of(copy, size), scanned, &out->request, &out->used, &out->err);
    if (out->progress == HTTP_DONE) {
        struct http_request *r = &out->request;
        CHECK(out->used <= size);
        r->method = moved(r->method, copy, data);
        r->path = moved(r->path, copy, data);
        r->query = moved(r->query, copy, data);
        r->host = moved(r->host, copy, data);
        r->content_type = moved(r->content_type, copy, data);
        r->authorization = moved(r->authorization, copy, data);
        r->user_agent = moved(r->user_agent, copy, data);
    }
    free(copy);
}

static bool same_request(const struct http_request *a, const struct http_request *b)
{
    return bytes_eq(a->method, b->method) && bytes_eq(a->path, b->path) &&
           bytes_eq(a->query, b->query) && bytes_eq(a->host, b->host) &&
           bytes_eq(a->content_type, b->content_type) &&
           bytes_eq(a->authorization, b->authorization) && bytes_eq(a->user_agent, b->user_agent) &&
           a->content_length == b->content_length && a->has_body == b->has_body &&
           a->chunked == b->chunked && a->http10 == b->http10 && a->keep_alive == b->keep_alive &&
           a->expect_continue == b->expect_continue;
}

static void check_cuts(const uint8_t *data, size_t size, unsigned step, const struct outcome *whole)
{
    size_t scanned = 0, fed = 0;
    struct outcome cut = {0};
    do {
        fed = size - fed < step ? size : fed + step;
        parse(data, fed, &scanned, &cut);
    } while (cut.progress == HTTP_NEED_MORE && fed < size);
    CHECK(cut.progress == whole->progress);
    CHECK(cut.err == whole->err);
    CHECK(cut.used == whole->used);
    CHECK(same_request(&cut.request, &whole->request));
}

static void put_field(struct writer *out, const char *name, struct bytes value)
{
    if (value.len == 0)
        return;
    writer_put_str(out, name);
    writer_put(out, value);
    writer_put_str(out, "\r\n");
}

static void check_round_trip(const struct http_request *request)
{
    static uint8_t buf[2 * HTTP_HEADER_MAX];
    struct writer out = writer_of(buf, sizeof(buf));
    writer_put(&out, request->method);
    writer_put_str(&out, " ");
    writer_put(&out, request->path);
    if (request->query.len > 0) {
        writer_put_str(&out, "?");
        writer_put(&out, request->query);
    }
    writer_put_str(&out, request->http10 ? " HTTP/1.0\r\n" : " HTTP/1.1\r\n");
    writer_put_str(&out, "Host:");
    writer_put(&out, request->host);
    writer_put_str(&out, "\r\n");
    put_field(&out, "Content-Type:", request->content_type);
    put_field(&out, "Authorization:", request->authorization);
    put_field(&out, "User-Agent:", request->user_agent);
    if (request->chunked)
        writer_put_str(&out, "Transfer-Encoding:chunked\r\n");
    else if (request->has_body)
        writer_printf(&out, "Content-Length:%llu\r\n", (unsigned long long)request->content_length);
    writer_put_str(&out,
                   request->keep_alive ? "Connection:keep-alive\r\n" : "Connection:close\r\n");
    if (request->expect_continue)
        writer_put_str(&out, "Expect:100-continue\r\n");
    writer_put_str(&out, "\r\n");
    CHECK(!out.failed);
    if (out.len > HTTP_HEADER_MAX)
        return; /* what is written anew may be longer than what was read by a few octets */
    size_t scanned = 0;
    struct outcome again;
    parse(buf, out.len, &scanned, &again);
    CHECK(again.progress == HTTP_DONE && again.used == out.len);
    CHECK(same_request(&again.request, request));
}

static void check_head(const uint8_t *data, size_t size, unsigned step)
{
    size_t scanned = 0;
    struct outcome whole;
    parse(data, size, &scanned, &whole);
    check_cuts(data, size, step, &whole);
    if (size <= 600)
        check_cuts(data, size, 1, &whole);
    if (whole.progress == HTTP_DONE)
        check_round_trip(&whole.request);
}

/* --- a second opinion on chunked bodies
 * ---------------------------------------------------------*/

static bool is_token(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_text(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (s[i] != '\t' && ((unsigned char)s[i] < 0x20 || s[i] == 0x7f))
            return false;
    return true;
}

/* The length of the line at s without its CR LF, or -1 when it has no end. */
static long line_len(const char *s, size_t size)
{
    for (size_t i = 0; i + 1 < size; i++)
        if (s[i] == '\r' && s[i + 1] == '\n')
            return (long)i;
    return -1;
}

/* True for a complete and valid body; text is ended by a NUL. */
static bool reference_decode(const char *text, size_t size, uint8_t *out, size_t *out_len,
                             size_t *out_used)
{
    size_t at = 0, len = 0, trailer = 0;
    for (;;) {
        long line = line_len(text + at, size - at);
        if (line <= 0)
            return false;
        size_t digits = strspn(text + at, "0123456789abcdefABCDEF");
        if (digits == 0 || digits > 15)
            return false;
        if (digits != (size_t)line && text[at + digits] != ';')
            return false;
        if (!is_text(text + at, (size_t)line) || (size_t)line > 257)
            return false;
        unsigned long long n = strtoull(text + at, NULL, 16);
        at += (size_t)line + 2;
        if (n == 0)
            break;
        if (n > BODY_ROOM - len || n + 2 > size - at || memcmp(text + at + n, "\r\n", 2) != 0)
            return false;
        memcpy(out + len, text + at, n);
        len += n;
        at += n + 2;
    }
    for (;;) {
        long line = line_len(text + at, size - at);
        if (line < 0)
            return false;
        trailer += (size_t)line + 2;
        if (line == 0)
            break;
        size_t name = 0;
        while (name < (size_t)line && is_token(text[at + name]))
            name++;
        if (name == 0 || name == (size_t)line || text[at + name] != ':' ||
            !is_text(text + at + name, (size_t)line - name))
            return false;
        at += (size_t)line + 2;
    }
    /* The decoder counts neither the LFs of the trailer's lines twice nor the last one. */
    if (trailer - 1 > HTTP_HEADER_MAX)
        return false;
    *out_len = len;
    *out_used = at + 2;
    return true;
}

static enum http_progress decode(const uint8_t *data, size_t size, unsigned step,
                                 struct writer *body, size_t *out_used, enum err *out_err)
{
    struct http_chunked decoder = {0};
    enum http_progress progress = HTTP_NEED_MORE;
    size_t at = 0;
    while (progress == HTTP_NEED_MORE && at < size) {
        size_t n = size - at < step ? size - at : step;
        uint8_t *part = copy_of(data + at, n);
        struct bytes view = bytes_of(part, n);
        progress = http_chunked_feed(&decoder, &view, body, out_err);
        CHECK(view.len <= n && (progress != HTTP_NEED_MORE || view.len == 0));
        at += n - view.len;
        free(part);
    }
    *out_used = at;
    return progress;
}

static void check_chunked(const uint8_t *data, size_t size, unsigned step)
{
    static uint8_t whole_mem[BODY_ROOM], cut_mem[BODY_ROOM], reference[BODY_ROOM];
    struct writer whole = writer_of(whole_mem, sizeof(whole_mem));
    struct writer cut = writer_of(cut_mem, sizeof(cut_mem));
    size_t whole_used = 0, cut_used = 0;
    enum err whole_err = ERR_OK, cut_err = ERR_OK;
    unsigned all = size == 0 ? 1 : (unsigned)size;
    enum http_progress progress = decode(data, size, all, &whole, &whole_used, &whole_err);
    CHECK(decode(data, size, step, &cut, &cut_used, &cut_err) == progress);
    CHECK(cut_err == whole_err);
    if (progress == HTTP_DONE) {
        CHECK(cut_used == whole_used);
        CHECK(bytes_eq(writer_view(&whole), writer_view(&cut)));
    }
    char *text = malloc(size + 1);
    CHECK(text != NULL);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    size_t len = 0, used = 0;
    bool valid = reference_decode(text, size, reference, &len, &used);
    free(text);
    CHECK(valid == (progress == HTTP_DONE));
    if (valid) {
        CHECK(used == whole_used);
        CHECK(bytes_eq(bytes_of(reference, len), writer_view(&whole)));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    /* The first octet tells the size of the cuts, and which parser. */
    unsigned step = 1 + (data[0] & 0x7fu);
    if ((data[0] & 0x80) != 0)
        check_chunked(data + 1, size - 1, step);
    else
        check_head(data + 1, size - 1, step);
    return 0;
}
