#include "net/http.h"

#include <assert.h>

/* Classes of octets, one bit each. */
enum {
    C_TOKEN = 1,  /* tchar, RFC 9110 5.6.2 */
    C_TARGET = 2, /* pchar, "/" and "?" without "%", RFC 3986 3.3, 3.4 */
    C_HOST = 4,   /* uri-host [":" port], RFC 9110 7.2: no userinfo */
    C_FIELD = 8,  /* field-vchar, SP, HTAB, RFC 9110 5.5 */
    C_HEX = 16,
    C_HEAD = 32, /* what may stand in a head beside CR and LF */
};

#define ALNUM (C_TOKEN | C_TARGET | C_HOST | C_FIELD | C_HEAD)
#define HEXCH (ALNUM | C_HEX)
#define TEXT  (C_FIELD | C_HEAD)

static const uint8_t class_of[256] = {
    ['\t'] = TEXT,
    [' '] = TEXT,
    ['!'] = TEXT | C_TOKEN | C_TARGET | C_HOST,
    ['"'] = TEXT,
    ['#'] = TEXT | C_TOKEN,
    ['$'] = TEXT | C_TOKEN | C_TARGET | C_HOST,
    ['%'] = TEXT | C_TOKEN | C_HOST,
    ['&'] = TEXT | C_TOKEN | C_TARGET | C_HOST,
    ['\''] = TEXT | C_TOKEN | C_TARGET | C_HOST,
    ['('] = TEXT | C_TARGET | C_HOST,
    [')'] = TEXT | C_TARGET | C_HOST,
    ['*'] = TEXT | C_TOKEN | C_TARGET | C_HOST,
    ['+'] = TEXT | C_TOKEN | C_TARGET | C_HOST,
    [','] = TEXT | C_TARGET | C_HOST,
    ['-'] = TEXT | C_TOKEN | C_TARGET | C_HOST,
    ['.'] = TEXT | C_TOKEN | C_TARGET | C_HOST,
    ['/'] = TEXT | C_TARGET,
    ['0' ... '9'] = HEXCH,
    [':'] = TEXT | C_TARGET | C_HOST,
    [';'] = TEXT | C_TARGET | C_HOST,
    ['<'] = TEXT,
    ['='] = TEXT | C_TARGET | C_HOST,
    ['>'] = TEXT,
    ['?'] = TEXT | C_TARGET,
    ['@'] = TEXT | C_TARGET,
    ['A' ... 'F'] = HEXCH,
    ['G' ... 'Z'] = ALNUM,
    ['['] = TEXT | C_HOST,
    ['\\'] = TEXT,
    [']'] = TEXT | C_HOST,
    ['^'] = TEXT | C_TOKEN,
    ['_'] = TEXT | C_TOKEN | C_TARGET | C_HOST,
    ['`'] = TEXT | C_TOKEN,
    ['a' ... 'f'] = HEXCH,
    ['g' ... 'z'] = ALNUM,
    ['{'] = TEXT,
    ['|'] = TEXT | C_TOKEN,
    ['}'] = TEXT,
    ['~'] = TEXT | C_TOKEN | C_TARGET | C_HOST,
    [0x80 ... 0xff] = TEXT, /* obs-text */
};

enum { METHOD_MAX = 32, LENGTH_DIGITS_MAX = 19 };

static bool all_of(struct bytes text, uint8_t class)
{
    for (size_t i = 0; i < text.len; i++)
        if ((class_of[text.ptr[i]] & class) == 0)
            return false;
    return true;
}

/* --- finding the end of the head ---
 * Strictly left to right, octet by octet, so that the outcome does not depend on how the octets
 * were cut into reads: every line ends with CR LF (RFC 9112 2.2 lets a recipient take a bare LF;
 * that is what smuggling lives on), a CR stands nowhere else, control octets stand nowhere. */
static enum http_progress find_end(struct bytes in, size_t *scanned, size_t *out_end,
                                   enum err *out_err)
{
    size_t i = *scanned;
    for (; i < in.len && i < HTTP_HEADER_MAX; i++) {
        uint8_t c = in.ptr[i];
        bool after_cr = i > 0 && in.ptr[i - 1] == '\r';
        if (c == '\n' && after_cr) {
            /* An empty line ends the head, but for one before the request line (RFC 9112 2.2). */
            if (i >= 3 && in.ptr[i - 2] == '\n') {
                *scanned = i;
                *out_end = i + 1;
                return HTTP_DONE;
            }
            continue;
        }
        if (after_cr || (c != '\r' && (class_of[c] & C_HEAD) == 0)) {
            *out_err = ERR_HTTP_MALFORMED;
            return HTTP_ERROR;
        }
    }
    *scanned = i;
    if (i < HTTP_HEADER_MAX)
        return HTTP_NEED_MORE;
    *out_err = ERR_HTTP_HEADER_TOO_LARGE;
    return HTTP_ERROR;
}

/* The next line without its CR LF; find_end has seen to it that there is one. */
static struct bytes take_line(struct bytes *head)
{
    size_t lf = bytes_find(*head, '\n');
    assert(lf < head->len && lf > 0);
    struct bytes line = bytes_of(head->ptr, lf - 1);
    *head = bytes_of(head->ptr + lf + 1, head->len - lf - 1);
    return line;
}

static struct bytes take_until(struct bytes *text, uint8_t byte)
{
    size_t at = bytes_find(*text, byte);
    struct bytes got = bytes_of(text->ptr, at);
    *text = bytes_of(text->ptr + at, text->len - at);
    return got;
}

static struct bytes skip(struct bytes text, size_t n)
{
    return bytes_of(text.ptr + n, text.len - n);
}

/* --- request line --- */

static enum err parse_target(struct bytes target, struct http_request *request)
{
    for (size_t i = 0; i < target.len; i++) {
        if ((class_of[target.ptr[i]] & C_TARGET) != 0)
            continue;
        /* RFC 3986 2.1 */
        if (target.ptr[i] != '%' || target.len - i < 3 ||
            (class_of[target.ptr[i + 1]] & C_HEX) == 0 ||
            (class_of[target.ptr[i + 2]] & C_HEX) == 0)
            return ERR_HTTP_MALFORMED;
        i += 2;
    }
    request->path = take_until(&target, '?');
    if (target.len > 0)
        request->query = skip(target, 1);
    if (request->path.len > HTTP_PATH_MAX)
        return ERR_HTTP_HEADER_TOO_LARGE;
    return ERR_OK;
}

/* origin-form, and absolute-form, which a server must take too (RFC 9112 3.2.2). */
static enum err parse_any_target(struct bytes target, struct http_request *request,
                                 struct bytes *out_authority)
{
    if (target.len > 0 && target.ptr[0] == '/')
        return parse_target(target, request);
    const struct bytes schemes[] = {BYTES_LIT("http://"), BYTES_LIT("https://")};
    for (size_t i = 0; i < 2; i++) {
        if (target.len <= schemes[i].len ||
            !bytes_eq_nocase(bytes_of(target.ptr, schemes[i].len), schemes[i]))
            continue;
        target = skip(target, schemes[i].len);
        *out_authority = take_until(&target, '/');
        /* An empty path ("http://host?query") is not worth a case of its own here. */
        if (out_authority->len == 0 || !all_of(*out_authority, C_HOST) || target.len == 0)
            return ERR_HTTP_MALFORMED;
        return parse_target(target, request);
    }
    return ERR_HTTP_MALFORMED;
}

static enum err parse_version(struct bytes version, struct http_request *request)
{
    static const uint8_t name[] = {'H', 'T', 'T', 'P', '/'};
    if (version.len != 8 || memcmp(version.ptr, name, sizeof(name)) != 0 || version.ptr[6] != '.' ||
        version.ptr[5] < '0' || version.ptr[5] > '9' || version.ptr[7] < '0' ||
        version.ptr[7] > '9')
        return ERR_HTTP_MALFORMED;
    if (version.ptr[5] != '1' || version.ptr[7] > '1')
        return ERR_HTTP_VERSION;
    request->http10 = version.ptr[7] == '0';
    return ERR_OK;
}

/* method SP request-target SP HTTP-version, single spaces (RFC 9112 3). */
static enum err parse_request_line(struct bytes line, struct http_request *request,
                                   struct bytes *out_authority)
{
    request->method = take_until(&line, ' ');
    if (request->method.len == 0 || request->method.len > METHOD_MAX || line.len == 0 ||
        !all_of(request->method, C_TOKEN))
        return ERR_HTTP_MALFORMED;
    line = skip(line, 1);
    struct bytes target = take_until(&line, ' ');
    if (line.len == 0)
        return ERR_HTTP_MALFORMED;
    enum err err = parse_version(skip(line, 1), request);
    if (err != ERR_OK)
        return err;
    return parse_any_target(target, request, out_authority);
}

/* --- fields --- */

struct field_state {
    bool seen_host, seen_length, seen_coding, seen_type, seen_authorization, seen_agent;
    bool close, keep_alive;
};

static struct bytes trim(struct bytes text)
{
    while (text.len > 0 && (text.ptr[0] == ' ' || text.ptr[0] == '\t'))
        text = skip(text, 1);
    while (text.len > 0 && (text.ptr[text.len - 1] == ' ' || text.ptr[text.len - 1] == '\t'))
        text.len--;
    return text;
}

static bool set_once(bool *seen, struct bytes *out, struct bytes value)
{
    if (*seen)
        return false;
    *seen = true;
    *out = value;
    return true;
}

/* RFC 9110 8.6: digits only; a list, a sign or a second one is an error (RFC 9112 6.3, 5). */
static bool on_content_length(struct field_state *state, struct http_request *request,
                              struct bytes value)
{
    if (state->seen_length || value.len > LENGTH_DIGITS_MAX ||
        !bytes_to_u64(value, INT64_MAX, &request->content_length))
        return false;
    state->seen_length = true;
    return true;
}

/* "chunked" alone; other codings, or it twice, make the length unknown (RFC 9112 6.1, 6.3). */
static bool on_transfer_encoding(struct field_state *state, struct http_request *request,
                                 struct bytes value)
{
    if (state->seen_coding || !bytes_eq_nocase(value, BYTES_LIT("chunked")))
        return false;
    state->seen_coding = true;
    request->chunked = true;
    return true;
}

static bool on_connection(struct field_state *state, struct http_request *request,
                          struct bytes value)
{
    (void)request;
    while (value.len > 0) {
        struct bytes option = trim(take_until(&value, ','));
        if (value.len > 0)
            value = skip(value, 1);
        if (!all_of(option, C_TOKEN))
            return false;
        state->close |= bytes_eq_nocase(option, BYTES_LIT("close"));
        state->keep_alive |= bytes_eq_nocase(option, BYTES_LIT("keep-alive"));
    }
    return true;
}

static bool on_host(struct field_state *state, struct http_request *request, struct bytes value)
{
    return all_of(value, C_HOST) && set_once(&state->seen_host, &request->host, value);
}

static bool on_content_type(struct field_state *state, struct http_request *request,
                            struct bytes value)
{
    return set_once(&state->seen_type, &request->content_type, value);
}

static bool on_authorization(struct field_state *state, struct http_request *request,
                             struct bytes value)
{
    return set_once(&state->seen_authorization, &request->authorization, value);
}

static bool on_user_agent(struct field_state *state, struct http_request *request,
                          struct bytes value)
{
    return set_once(&state->seen_agent, &request->user_agent, value);
}

static bool on_expect(struct field_state *state, struct http_request *request, struct bytes value)
{
    (void)state;
    /* Other expectations may be ignored (RFC 9110 10.1.1). */
    request->expect_continue |= bytes_eq_nocase(value, BYTES_LIT("100-continue"));
    return true;
}

/* Fields that are read here; all others are checked and passed over. */
static const struct {
    struct bytes name;
    bool (*take)(struct field_state *, struct http_request *, struct bytes value);
} fields[] = {
    {BYTES_LIT("host"), on_host},
    {BYTES_LIT("content-length"), on_content_length},
    {BYTES_LIT("transfer-encoding"), on_transfer_encoding},
    {BYTES_LIT("connection"), on_connection},
    {BYTES_LIT("content-type"), on_content_type},
    {BYTES_LIT("authorization"), on_authorization},
    {BYTES_LIT("user-agent"), on_user_agent},
    {BYTES_LIT("expect"), on_expect},
};

static enum err parse_field(struct bytes line, struct field_state *state,
                            struct http_request *request)
{
    struct bytes name = take_until(&line, ':');
    /* No space before the colon, no folded line (RFC 9112 5.1, 5.2): neither is a token. */
    if (name.len == 0 || line.len == 0 || !all_of(name, C_TOKEN))
        return ERR_HTTP_MALFORMED;
    struct bytes value = trim(skip(line, 1));
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (bytes_eq_nocase(name, fields[i].name))
            return fields[i].take(state, request, value) ? ERR_OK : ERR_HTTP_MALFORMED;
    return ERR_OK;
}

static bool wants_body(struct bytes method)
{
    return bytes_eq(method, BYTES_LIT("POST")) || bytes_eq(method, BYTES_LIT("PUT")) ||
           bytes_eq(method, BYTES_LIT("PATCH"));
}

static enum err conclude(const struct field_state *state, struct bytes authority,
                         struct http_request *request)
{
    /* RFC 9112 3.2: a 1.1 request without Host is refused; the target's authority goes before it.
     */
    if (!request->http10 && !state->seen_host)
        return ERR_HTTP_MALFORMED;
    if (authority.len > 0)
        request->host = authority;
    /* RFC 9112 6.1: both, or a coding in HTTP/1.0, is an attempt at smuggling. */
    if (state->seen_coding && (state->seen_length || request->http10))
        return ERR_HTTP_MALFORMED;
    request->has_body = state->seen_length || state->seen_coding;
    if (!request->has_body && wants_body(request->method))
        return ERR_HTTP_LENGTH_REQUIRED;
    request->keep_alive = !state->close && (!request->http10 || state->keep_alive);
    if (request->http10)
        request->expect_continue = false;
    return ERR_OK;
}

static enum err parse_lines(struct bytes head, struct http_request *request)
{
    if (head.ptr[0] == '\r')
        head = skip(head, 2);
    struct bytes authority = {0};
    enum err err = parse_request_line(take_line(&head), request, &authority);
    if (err != ERR_OK)
        return err;
    struct field_state state = {0};
    for (unsigned count = 0;; count++) {
        struct bytes line = take_line(&head);
        if (line.len == 0)
            break;
        if (count == HTTP_FIELDS_MAX)
            return ERR_HTTP_HEADER_TOO_LARGE;
        err = parse_field(line, &state, request);
        if (err != ERR_OK)
            return err;
    }
    return conclude(&state, authority, request);
}

enum http_progress http_parse_head(struct bytes in, size_t *scanned, struct http_request *out,
                                   size_t *out_used, enum err *out_err)
{
    size_t end = 0;
    enum http_progress progress = find_end(in, scanned, &end, out_err);
    if (progress != HTTP_DONE)
        return progress;
    struct http_request request = {0};
    enum err err = parse_lines(bytes_of(in.ptr, end), &request);
    if (err != ERR_OK) {
        *out_err = err;
        return HTTP_ERROR;
    }
    *out = request;
    *out_used = end;
    return HTTP_DONE;
}

/* --- chunked bodies (RFC 9112 7.1) --- */

enum {
    SIZE_FIRST, /* the zero value: at least one digit must come */
    SIZE,
    EXTENSION,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER_START,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    END_LF,
    FINISHED,
};

enum { CHUNK_DIGITS_MAX = 15, CHUNK_LINE_MAX = 256 };

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return (c | 0x20) - 'a' + 10;
}

/* One octet outside of chunk data. */
static enum err chunked_step(struct http_chunked *state, uint8_t c)
{
    uint8_t class = class_of[c];
    switch (state->state) {
    case SIZE_FIRST:
    case SIZE:
        if ((class & C_HEX) != 0) {
            if (state->line_len >= CHUNK_DIGITS_MAX)
                return ERR_BODY_TOO_LARGE;
            state->line_len++;
            state->left = state->left << 4 | (unsigned)hex_digit(c);
            state->state = SIZE;
            return ERR_OK;
        }
        if (state->state == SIZE_FIRST)
            return ERR_HTTP_MALFORMED;
        if (c == ';')
            state->state = EXTENSION;
        else if (c == '\r')
            state->state = SIZE_LF;
        else
            return ERR_HTTP_MALFORMED;
        return ERR_OK;
    case EXTENSION:
        if (c == '\r') {
            state->state = SIZE_LF;
            return ERR_OK;
        }
        if ((class & C_FIELD) == 0 || ++state->line_len > CHUNK_LINE_MAX)
            return ERR_HTTP_MALFORMED;
        return ERR_OK;
    case SIZE_LF:
        if (c != '\n')
            return ERR_HTTP_MALFORMED;
        state->line_len = 0;
        state->state = state->left == 0 ? TRAILER_START : DATA;
        return ERR_OK;
    case DATA_CR:
        state->state = DATA_LF;
        return c == '\r' ? ERR_OK : ERR_HTTP_MALFORMED;
    case DATA_LF:
        state->state = SIZE_FIRST;
        return c == '\n' ? ERR_OK : ERR_HTTP_MALFORMED;
    case END_LF:
        state->state = FINISHED;
        return c == '\n' ? ERR_OK : ERR_HTTP_MALFORMED;
    default:
        break;
    }
    /* Trailer fields: read by the same rules as a head's, and dropped. */
    if (++state->trailer_len > HTTP_HEADER_MAX)
        return ERR_HTTP_HEADER_TOO_LARGE;
    switch (state->state) {
    case TRAILER_START:
        if (c == '\r') {
            state->state = END_LF;
            return ERR_OK;
        }
        state->state = TRAILER_NAME;
        return (class & C_TOKEN) != 0 ? ERR_OK : ERR_HTTP_MALFORMED;
    case TRAILER_NAME:
        if (c == ':') {
            state->state = TRAILER_VALUE;
            return ERR_OK;
        }
        return (class & C_TOKEN) != 0 ? ERR_OK : ERR_HTTP_MALFORMED;
    case TRAILER_VALUE:
        if (c == '\r') {
            state->state = TRAILER_LF;
            return ERR_OK;
        }
        return (class & C_FIELD) != 0 ? ERR_OK : ERR_HTTP_MALFORMED;
    case TRAILER_LF:
        state->state = TRAILER_START;
        return c == '\n' ? ERR_OK : ERR_HTTP_MALFORMED;
    default:
        return ERR_INTERNAL;
    }
}

enum http_progress http_chunked_feed(struct http_chunked *state, struct bytes *in,
                                     struct writer *body, enum err *out_err)
{
    while (state->state != FINISHED) {
        if (in->len == 0)
            return HTTP_NEED_MORE;
        if (state->state != DATA) {
            uint8_t c = in->ptr[0];
            *in = skip(*in, 1);
            enum err err = chunked_step(state, c);
            if (err != ERR_OK) {
                *out_err = err;
                return HTTP_ERROR;
            }
            continue;
        }
        size_t n = in->len < state->left ? in->len : (size_t)state->left;
        if (body->failed || n > body->cap - body->len) {
            *out_err = ERR_BODY_TOO_LARGE;
            return HTTP_ERROR;
        }
        writer_put(body, bytes_of(in->ptr, n));
        *in = skip(*in, n);
        state->left -= n;
        if (state->left == 0)
            state->state = DATA_CR;
    }
    return HTTP_DONE;
}
