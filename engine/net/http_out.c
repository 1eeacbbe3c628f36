#include "net/http.h"

#include <time.h>

#include "base/clock.h"

static const struct {
    uint16_t status;
    const char *reason;
} reasons[] = {
    {100, "Continue"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {303, "See Other"},
    {304, "Not Modified"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {411, "Length Required"},
    {413, "Content Too Large"},
    {415, "Unsupported Media Type"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
    {505, "HTTP Version Not Supported"},
};

const char *http_reason(uint16_t status)
{
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Unknown";
}

/* RFC 9110 6.6.1: a server with a clock says when. Formatted once per second and thread. */
static struct bytes date_now(void)
{
    static _Thread_local int64_t made_at = -1;
    static _Thread_local char text[32];
    static _Thread_local size_t len;
    int64_t now_s = clock_wall_s();
    if (now_s != made_at) {
        time_t when = (time_t)now_s;
        struct tm tm;
        gmtime_r(&when, &tm);
        /* strftime's names are English in the C locale, which a daemon does not leave */
        len = strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
        made_at = now_s;
    }
    return bytes_of(text, len);
}

static void put_field(struct writer *out, const char *name, const char *value)
{
    if (value == NULL)
        return;
    writer_put_str(out, name);
    writer_put_str(out, value);
    writer_put(out, BYTES_LIT("\r\n"));
}

bool http_write_head(struct writer *out, const struct http_response *response, bool http10,
                     bool keep_alive)
{
    size_t start = out->len;
    writer_put(out, http10 ? BYTES_LIT("HTTP/1.0 ") : BYTES_LIT("HTTP/1.1 "));
    writer_put_dec(out, response->status);
    writer_put_u8(out, ' ');
    writer_put_str(out, http_reason(response->status));
    writer_put(out, BYTES_LIT("\r\nDate: "));
    writer_put(out, date_now());
    writer_put(out, BYTES_LIT("\r\n"));
    put_field(out, "Content-Type: ", response->content_type);
    put_field(out, "Content-Transfer-Encoding: ", response->transfer_encoding);
    put_field(out, "Allow: ", response->allow);
    put_field(out, "WWW-Authenticate: ", response->www_authenticate);
    put_field(out, "Cache-Control: ", response->cache_control);
    if (response->retry_after_s != 0) {
        writer_put(out, BYTES_LIT("Retry-After: "));
        writer_put_dec(out, response->retry_after_s);
        writer_put(out, BYTES_LIT("\r\n"));
    }
    /* RFC 9110 8.6: never with 204. */
    if (response->status != 204) {
        writer_put(out, BYTES_LIT("Content-Length: "));
        writer_put_dec(out, response->body.len);
        writer_put(out, BYTES_LIT("\r\n"));
    }
    if (!keep_alive)
        writer_put(out, BYTES_LIT("Connection: close\r\n"));
    else if (http10)
        writer_put(out, BYTES_LIT("Connection: keep-alive\r\n"));
    writer_put(out, BYTES_LIT("\r\n"));
    return !out->failed && out->len - start <= HTTP_RESPONSE_HEADER_MAX;
}
