#include "tools/http_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"

enum { IN_START = 64 * 1024, HEAD_MAX = 16 * 1024 };

/* --- where to --- */

/* HOST, [HOST], with :PORT or without; the rest is the path. */
static bool split_url(const char *url, struct http_target *out)
{
    const char *at = url;
    out->tls = strncmp(at, "https://", 8) == 0;
    if (!out->tls && strncmp(at, "http://", 7) != 0)
        return false;
    at += out->tls ? 8 : 7;
    size_t len = strcspn(at, "/");
    char place[300];
    if (len == 0 || len >= sizeof(place))
        return false;
    memcpy(place, at, len);
    place[len] = 0;
    char *host = place, *end = place[0] == '[' ? strchr(place, ']') : NULL;
    if (place[0] == '[' && !end)
        return false;
    char *colon = strchr(end ? end : place, ':');
    if (colon)
        *colon = 0;
    if (end) {
        *end = 0;
        host++;
    }
    int a = snprintf(out->host, sizeof(out->host), "%s", host);
    int b = snprintf(out->port, sizeof(out->port), "%s",
                     colon      ? colon + 1
                     : out->tls ? "443"
                                : "80");
    int c = snprintf(out->path, sizeof(out->path), "%s", at[len] ? at + len : "/");
    return host[0] && a < (int)sizeof(out->host) && b > 0 && b < (int)sizeof(out->port) &&
           c < (int)sizeof(out->path) && strpbrk(out->path, " \r\n\t") == NULL;
}

static int resolve(struct http_target *target)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    int error = getaddrinfo(target->host, target->port, &hints, &found);
    if (error != 0)
        return cli_fail("%s: %s: name the server as it is known here", target->host,
                        gai_strerror(error));
    memcpy(&target->address, found->ai_addr, found->ai_addrlen);
    target->address_len = found->ai_addrlen;
    freeaddrinfo(found);
    return CLI_DONE;
}

static int make_context(struct http_target *target, const char *cacert)
{
    target->ctx = SSL_CTX_new(TLS_client_method());
    if (!target->ctx)
        return cli_fail("TLS cannot be used: out of memory");
    int good = cacert ? SSL_CTX_load_verify_locations(target->ctx, cacert, NULL)
                      : SSL_CTX_set_default_verify_paths(target->ctx);
    if (good != 1)
        return cli_fail("%s: no certificate in it: give the PEM file of the server's trust anchor",
                        cacert ? cacert : "the system's trust store");
    SSL_CTX_set_verify(target->ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(target->ctx,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return CLI_DONE;
}

int http_target_set(struct cli *cli, const char *url, const char *cacert, struct http_target *out)
{
    *out = (struct http_target){0};
    if (!split_url(url, out))
        return cli_usage(cli, "'%.128s' is no URL: write it like http://127.0.0.1:8080/path", url);
    int status = resolve(out);
    return status == CLI_DONE && out->tls ? make_context(out, cacert) : status;
}

void http_target_clear(struct http_target *target)
{
    SSL_CTX_free(target->ctx);
    target->ctx = NULL;
}

void http_put_post(struct writer *out, const struct http_target *target, const char *content_type,
                   size_t body_len)
{
    bool v6 = strchr(target->host, ':') != NULL;
    writer_printf(out,
                  "POST %s HTTP/1.1\r\nHost: %s%s%s:%s\r\nContent-Type: %s\r\n"
                  "Content-Length: %zu\r\n\r\n",
                  target->path, v6 ? "[" : "", target->host, v6 ? "]" : "", target->port,
                  content_type, body_len);
}

/* --- a connection --- */

void http_conn_init(struct http_conn *conn, const struct http_target *target)
{
    *conn = (struct http_conn){.target = target, .fd = -1};
}

void http_close(struct http_conn *conn)
{
    SSL_free(conn->ssl);
    conn->ssl = NULL;
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
    conn->connected = conn->was_used = false;
}

void http_conn_free(struct http_conn *conn)
{
    http_close(conn);
    free(conn->in);
    conn->in = NULL;
}

static enum http_state broken(struct http_conn *conn, const char *why)
{
    snprintf(conn->problem, sizeof(conn->problem), "%s", why);
    http_close(conn);
    return conn->state = HTTP_BROKEN;
}

static enum http_state broken_tls(struct http_conn *conn)
{
    char text[128];
    long verify = SSL_get_verify_result(conn->ssl);
    unsigned long error = ERR_get_error();
    if (verify != X509_V_OK)
        snprintf(text, sizeof(text), "TLS: %s", X509_verify_cert_error_string(verify));
    else if (error)
        snprintf(text, sizeof(text), "TLS: %.100s", ERR_reason_error_string(error));
    else
        snprintf(text, sizeof(text), "the server closed the connection");
    ERR_clear_error();
    return broken(conn, text);
}

static bool start_tls(struct http_conn *conn)
{
    struct in6_addr numeric;
    const char *host = conn->target->host;
    conn->ssl = SSL_new(conn->target->ctx);
    if (!conn->ssl || SSL_set_fd(conn->ssl, conn->fd) != 1)
        return false;
    bool is_numeric =
        inet_pton(AF_INET, host, &numeric) == 1 || inet_pton(AF_INET6, host, &numeric) == 1;
    SSL_set_connect_state(conn->ssl);
    if (is_numeric)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(conn->ssl), host) == 1;
    return SSL_set1_host(conn->ssl, host) == 1 && SSL_set_tlsext_host_name(conn->ssl, host) == 1;
}

static void start_connection(struct http_conn *conn)
{
    const struct http_target *target = conn->target;
    int on = 1;
    conn->fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (conn->fd < 0) {
        broken(conn, strerror(errno));
        return;
    }
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (connect(conn->fd, (const void *)&target->address, target->address_len) != 0 &&
        errno != EINPROGRESS) {
        broken(conn, strerror(errno));
        return;
    }
    conn->wants_write = true;
    if (target->tls && !start_tls(conn))
        broken(conn, "TLS: out of memory");
}

void http_send(struct http_conn *conn, struct bytes request)
{
    conn->out = request;
    conn->out_sent = conn->in_len = 0;
    conn->body = (struct bytes){0};
    conn->problem[0] = 0;
    conn->state = HTTP_BUSY;
    conn->deadline_ns = clock_mono_ns() + HTTP_DEADLINE_S * NS_PER_S;
    if (conn->fd < 0)
        start_connection(conn);
    else
        conn->wants_write = true;
}

void http_done(struct http_conn *conn)
{
    conn->state = HTTP_IDLE;
    conn->was_used = true;
    if (conn->closes)
        http_close(conn);
}

struct pollfd http_pollfd(const struct http_conn *conn)
{
    short events = (short)(POLLIN | (conn->wants_write ? POLLOUT : 0));
    return (struct pollfd){.fd = conn->state == HTTP_BUSY ? conn->fd : -1, .events = events};
}

/* --- octets --- */

enum io { IO_SOME, IO_NONE, IO_END, IO_FAILED };

static enum io tls_result(struct http_conn *conn, int result)
{
    int why = SSL_get_error(conn->ssl, result);
    if (why == SSL_ERROR_WANT_WRITE)
        conn->wants_write = true;
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
        return IO_NONE;
    return why == SSL_ERROR_ZERO_RETURN ? IO_END : IO_FAILED;
}

static enum io io_write(struct http_conn *conn, const uint8_t *data, size_t len, size_t *out_done)
{
    size_t most = len < (1u << 20) ? len : 1u << 20;
    if (conn->ssl) {
        int sent = SSL_write(conn->ssl, data, (int)most);
        *out_done = sent > 0 ? (size_t)sent : 0;
        return sent > 0 ? IO_SOME : tls_result(conn, sent);
    }
    ssize_t sent = send(conn->fd, data, most, MSG_NOSIGNAL);
    *out_done = sent > 0 ? (size_t)sent : 0;
    if (sent >= 0)
        return IO_SOME;
    conn->wants_write = true;
    return errno == EAGAIN || errno == EINTR ? IO_NONE : IO_FAILED;
}

static enum io io_read(struct http_conn *conn, uint8_t *data, size_t cap, size_t *out_done)
{
    if (conn->ssl) {
        int got = SSL_read(conn->ssl, data, (int)cap);
        *out_done = got > 0 ? (size_t)got : 0;
        return got > 0 ? IO_SOME : tls_result(conn, got);
    }
    ssize_t got = recv(conn->fd, data, cap, 0);
    *out_done = got > 0 ? (size_t)got : 0;
    if (got > 0)
        return IO_SOME;
    if (got == 0)
        return IO_END;
    return errno == EAGAIN || errno == EINTR ? IO_NONE : IO_FAILED;
}

static bool connection_stands(struct http_conn *conn)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (conn->connected)
        return true;
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0) {
        broken(conn, strerror(error ? error : errno));
        return false;
    }
    if (!conn->ssl)
        return conn->connected = true;
    int done = SSL_do_handshake(conn->ssl);
    if (done == 1)
        return conn->connected = true;
    conn->wants_write = false;
    if (tls_result(conn, done) != IO_NONE)
        broken_tls(conn);
    return false;
}

static enum http_state send_more(struct http_conn *conn)
{
    while (conn->out_sent < conn->out.len) {
        size_t sent = 0;
        conn->wants_write = false;
        enum io io =
            io_write(conn, conn->out.ptr + conn->out_sent, conn->out.len - conn->out_sent, &sent);
        conn->out_sent += sent;
        if (io == IO_NONE)
            return HTTP_BUSY;
        if (io != IO_SOME)
            return conn->ssl ? broken_tls(conn) : broken(conn, "the server closed the connection");
    }
    conn->wants_write = false;
    return HTTP_BUSY;
}

/* --- answers --- */

/* The value of a field in a head, without blanks around it; empty when absent. */
static struct bytes field(struct bytes head, const char *name)
{
    size_t name_len = strlen(name);
    while (head.len > 0) {
        size_t len = bytes_find(head, '\n');
        struct bytes line = bytes_of(head.ptr, len);
        head =
            len < head.len ? bytes_of(head.ptr + len + 1, head.len - len - 1) : (struct bytes){0};
        if (line.len <= name_len || line.ptr[name_len] != ':' ||
            !bytes_eq_nocase(bytes_of(line.ptr, name_len), bytes_of_str(name)))
            continue;
        line = bytes_of(line.ptr + name_len + 1, line.len - name_len - 1);
        while (line.len > 0 && (line.ptr[0] == ' ' || line.ptr[0] == '\t'))
            line = bytes_of(line.ptr + 1, line.len - 1);
        while (line.len > 0 && (line.ptr[line.len - 1] == '\r' || line.ptr[line.len - 1] == ' '))
            line.len--;
        return line;
    }
    return (struct bytes){0};
}

/* Chunks (RFC 9112 7.1) to one piece, in place. 0: more is to come; -1: malformed. */
static int join_chunks(uint8_t *at, size_t len, size_t *out_len)
{
    size_t from = 0, to = 0;
    for (int pass = 0; pass < 2; pass++) { /* first looks whether all is there */
        for (from = to = 0;;) {
            const uint8_t *end = memchr(at + from, '\n', len - from);
            if (!end)
                return len - from > 64 ? -1 : 0;
            char *stop;
            unsigned long size = strtoul((const char *)at + from, &stop, 16);
            if (stop == (const char *)at + from || size > HTTP_ANSWER_MAX)
                return -1;
            from = (size_t)(end - at) + 1;
            if (size == 0)
                break;
            if (len - from < size + 2)
                return 0;
            if (pass == 1)
                memmove(at + to, at + from, size);
            to += size;
            from += size + 2;
        }
    }
    *out_len = to;
    return 1;
}

/* 1: whole; 0: more is needed; -1: no answer that can be understood. */
static int parse_answer(struct http_conn *conn, bool ended)
{
    const char *end = memmem(conn->in, conn->in_len, "\r\n\r\n", 4);
    uint64_t number = 0;
    if (!end)
        return conn->in_len > HEAD_MAX || ended ? -1 : 0;
    size_t head_len = (size_t)((const uint8_t *)end - conn->in) + 4;
    struct bytes head = bytes_of(conn->in, head_len);
    if (head_len < 12 || memcmp(conn->in, "HTTP/1.", 7) != 0 ||
        !bytes_to_u64(bytes_of(conn->in + 9, 3), 599, &number))
        return -1;
    conn->status = (int)number;
    struct bytes length = field(head, "Content-Length"), close_field = field(head, "Connection");
    conn->closes = conn->in[7] == '0' || bytes_eq_nocase(close_field, BYTES_LIT("close"));
    conn->retry_after_s =
        bytes_to_u64(field(head, "Retry-After"), 3600, &number) ? (uint32_t)number : 0;
    size_t have = conn->in_len - head_len;
    if (bytes_eq_nocase(field(head, "Transfer-Encoding"), BYTES_LIT("chunked"))) {
        size_t joined = 0;
        int whole = join_chunks(conn->in + head_len, have, &joined);
        conn->body = bytes_of(conn->in + head_len, joined);
        conn->closes = true; /* trailers are not looked for */
        return whole == 0 && ended ? -1 : whole;
    }
    if (length.len > 0) {
        if (!bytes_to_u64(length, HTTP_ANSWER_MAX, &number))
            return -1;
        conn->body = bytes_of(conn->in + head_len, (size_t)number);
        return have >= number ? 1 : ended ? -1 : 0;
    }
    conn->body = bytes_of(conn->in + head_len, have);
    conn->closes = true;
    return ended;
}

static bool make_room(struct http_conn *conn)
{
    if (conn->in_cap - conn->in_len >= IN_START / 4)
        return true;
    size_t cap = conn->in_cap ? 2 * conn->in_cap : IN_START;
    uint8_t *in = cap <= 2 * HTTP_ANSWER_MAX ? realloc(conn->in, cap + 1) : NULL;
    if (!in)
        return false;
    conn->in = in;
    conn->in_cap = cap;
    return true;
}

static enum http_state receive_more(struct http_conn *conn)
{
    for (;;) {
        size_t got = 0;
        if (!make_room(conn))
            return broken(conn, "the answer is too long");
        enum io io = io_read(conn, conn->in + conn->in_len, conn->in_cap - conn->in_len, &got);
        if (io == IO_NONE)
            return HTTP_BUSY;
        if (io == IO_FAILED)
            return conn->ssl ? broken_tls(conn) : broken(conn, strerror(errno));
        conn->in_len += got;
        conn->in[conn->in_len] = 0; /* for strtoul; there is room for one more */
        int whole = conn->in_len > 0 ? parse_answer(conn, io == IO_END) : 0;
        if (whole == 1)
            return conn->state = HTTP_ANSWERED;
        if (io == IO_END)
            return broken(conn, conn->in_len > 0 ? "the answer was cut off"
                                                 : "the server closed the connection");
        if (whole < 0)
            return broken(conn, "the answer is not HTTP/1.1");
    }
}

enum http_state http_step(struct http_conn *conn)
{
    if (conn->state != HTTP_BUSY)
        return conn->state;
    if (clock_mono_ns() > conn->deadline_ns)
        return broken(conn, "no answer in time");
    if (!connection_stands(conn) || send_more(conn) != HTTP_BUSY)
        return conn->state;
    return receive_more(conn);
}
