/* The clients: threads with an epoll loop each, connections with up to `pipeline` requests on them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench/bench.h"

enum { OUT_ROOM = 65536, PIPELINE_MAX = 64 };
/* With fewer requests than so many times what is in flight, everything counts. */
enum { COOL_DOWN_POSTS = 10 };

struct flight {
    uint32_t post;
    uint32_t step;   /* answers that led to this request */
    uint64_t due_ns; /* intended start of the first */
};

struct conn {
    int fd;
    SSL *ssl;
    bool connected;
    bool waits;           /* to be able to write */
    uint32_t head, count; /* in flight, a ring */
    struct flight flight[PIPELINE_MAX];
    size_t in_len, out_len, out_sent;
    uint8_t *in, *out; /* thread->in_cap, thread->out_cap */
};

struct client_thread {
    pthread_t thread;
    const struct bench_options *options;
    struct bench_work *work;
    SSL_CTX *ctx; /* NULL: without TLS */
    void *protocol_ctx;
    size_t in_cap, out_cap;
    struct shared_run *run;
    uint32_t conn_count;
    struct conn *conns;
    int epoll_fd;
    uint64_t ok, failed, wrong, issued, handshakes, resumed;
    uint64_t status_count[600];
    uint64_t started_ns, ended_ns;
    struct hist latency;
    char first_error[256];
};

struct shared_run {
    _Atomic uint32_t next;     /* post to send */
    _Atomic uint32_t answered; /* certificates */
    uint64_t start_ns, stop_ns;
    /* What counts was answered after the warm-up, and while as much was in flight as then: where
     * the last requests run out, fewer are at work. */
    _Atomic uint64_t counted_from_ns, counted_to_ns;
    bool has_cool_down;
};

static void note_error(struct client_thread *thread, const char *text)
{
    if (thread->first_error[0] == 0) {
        snprintf(thread->first_error, sizeof(thread->first_error), "%s", text);
    }
}

/* --- connections --- */

static void conn_close(struct conn *conn)
{
    if (conn->ssl) {
        SSL_shutdown(conn->ssl);
        SSL_free(conn->ssl);
        conn->ssl = NULL;
    }
    if (conn->fd >= 0) {
        close(conn->fd);
    }
    conn->fd = -1;
}

static bool conn_open(struct client_thread *thread, struct conn *conn)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(thread->options->port)};
    inet_pton(AF_INET, thread->options->host, &address.sin_addr);
    conn->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (conn->fd < 0 || connect(conn->fd, (void *)&address, sizeof(address)) != 0) {
        note_error(thread, strerror(errno));
        conn_close(conn);
        return false;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    epoll_ctl(thread->epoll_fd, EPOLL_CTL_ADD, conn->fd, &event);
    int flags = fcntl(conn->fd, F_GETFL);
    fcntl(conn->fd, F_SETFL, flags | O_NONBLOCK); /* after connect: loopback answers at once */
    conn->connected = thread->ctx == NULL;
    if (thread->ctx) {
        conn->ssl = SSL_new(thread->ctx);
        SSL_set_fd(conn->ssl, conn->fd);
        SSL_set_connect_state(conn->ssl);
    }
    conn->in_len = conn->out_len = conn->out_sent = 0;
    return true;
}

enum io { IO_SOME, IO_WAIT_READ, IO_WAIT_WRITE, IO_END };

static enum io tls_wait(const struct conn *conn, int result)
{
    int why = SSL_get_error(conn->ssl, result);
    return why == SSL_ERROR_WANT_READ    ? IO_WAIT_READ
           : why == SSL_ERROR_WANT_WRITE ? IO_WAIT_WRITE
                                         : IO_END;
}

static enum io conn_write(struct conn *conn, const uint8_t *data, size_t len, size_t *out_done)
{
    if (conn->ssl) {
        int sent = SSL_write(conn->ssl, data, (int)len);
        *out_done = sent > 0 ? (size_t)sent : 0;
        return sent > 0 ? IO_SOME : tls_wait(conn, sent);
    }
    ssize_t sent = send(conn->fd, data, len, MSG_NOSIGNAL);
    *out_done = sent > 0 ? (size_t)sent : 0;
    return sent >= 0 ? IO_SOME : errno == EAGAIN ? IO_WAIT_WRITE : IO_END;
}

static enum io conn_read(struct conn *conn, uint8_t *data, size_t cap, size_t *out_done)
{
    if (conn->ssl) {
        int got = SSL_read(conn->ssl, data, (int)cap);
        *out_done = got > 0 ? (size_t)got : 0;
        return got > 0 ? IO_SOME : tls_wait(conn, got);
    }
    ssize_t got = recv(conn->fd, data, cap, 0);
    *out_done = got > 0 ? (size_t)got : 0;
    return got > 0 ? IO_SOME : got < 0 && errno == EAGAIN ? IO_WAIT_READ : IO_END;
}

static void want_write(struct client_thread *thread, struct conn *conn, bool on)
{
    struct epoll_event event = {.events = EPOLLIN | (on ? EPOLLOUT : 0u), .data.ptr = conn};
    epoll_ctl(thread->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event);
}

/* --- requests --- */

/* The next request, when it is due; false: none now. */
static bool next_post(struct client_thread *thread, uint64_t now_ns, struct flight *out)
{
    struct shared_run *run = thread->run;
    const struct bench_options *options = thread->options;
    uint32_t index = atomic_load(&run->next);
    do {
        if (index >= thread->work->post_count || now_ns >= run->stop_ns) {
            uint64_t none = 0;
            if (run->has_cool_down) {
                atomic_compare_exchange_strong(&run->counted_to_ns, &none, now_ns);
            }
            return false;
        }
        out->due_ns = now_ns;
        if (options->rate > 0) {
            double first = thread->work->posts[index].first;
            out->due_ns = run->start_ns + (uint64_t)(first * 1e9 / options->rate);
            if (out->due_ns > now_ns) {
                return false;
            }
        }
    } while (!atomic_compare_exchange_weak(&run->next, &index, index + 1));
    out->post = index;
    out->step = 0;
    return true;
}

static void put_request(struct conn *conn, const struct flight *flight, const uint8_t *http,
                        uint32_t len)
{
    memcpy(conn->out + conn->out_len, http, len);
    conn->out_len += len;
    conn->flight[(conn->head + conn->count++) % PIPELINE_MAX] = *flight;
}

/* Room for a request is half of the buffer, which is twice the longest. */
static void fill(struct client_thread *thread, struct conn *conn, uint64_t now_ns)
{
    const struct bench_options *options = thread->options;
    uint32_t depth = options->handshake_each ? 1 : options->pipeline;
    struct flight flight;
    while (conn->count < depth && thread->out_cap - conn->out_len > thread->out_cap / 2 &&
           next_post(thread, now_ns, &flight)) {
        const struct bench_post *post = &thread->work->posts[flight.post];
        put_request(conn, &flight, post->http, post->http_len);
    }
}

static bool flush(struct client_thread *thread, struct conn *conn)
{
    while (conn->out_sent < conn->out_len) {
        size_t sent = 0;
        enum io io =
            conn_write(conn, conn->out + conn->out_sent, conn->out_len - conn->out_sent, &sent);
        if (io != IO_SOME) {
            want_write(thread, conn, io == IO_WAIT_WRITE);
            conn->waits = io == IO_WAIT_WRITE;
            return io != IO_END;
        }
        conn->out_sent += sent;
    }
    if (conn->waits) { /* or there would be an event for ever */
        want_write(thread, conn, false);
        conn->waits = false;
    }
    conn->out_sent = conn->out_len = 0;
    return true;
}

/* --- answers --- */

struct answer {
    int status;
    size_t head_len, body_len;
};

/* 0: more octets are needed; -1: not HTTP. */
static int parse_answer(const uint8_t *in, size_t len, size_t cap, struct answer *out)
{
    const char *text = (const char *)in;
    const char *end = memmem(in, len, "\r\n\r\n", 4);
    if (!end) {
        return len >= cap ? -1 : 0;
    }
    if (len < 12 || memcmp(text, "HTTP/1.1 ", 9) != 0) {
        return -1;
    }
    out->status = atoi(text + 9);
    out->head_len = (size_t)(end - text) + 4;
    const char *field = memmem(in, out->head_len, "Content-Length: ", 16);
    out->body_len = field ? strtoul(field + 16, NULL, 10) : 0;
    if (out->head_len + out->body_len > cap) {
        return -1;
    }
    return len >= out->head_len + out->body_len ? 1 : 0;
}

/* The clock of what counts starts with the answer that ends the warm-up, which does not count. */
static void count(struct client_thread *thread, const struct bench_taken *taken, uint64_t due_ns,
                  uint64_t now_ns)
{
    uint32_t warmup = thread->options->warmup;
    uint32_t before = atomic_fetch_add(&thread->run->answered, taken->good);
    thread->issued += taken->good;
    thread->failed += taken->failed;
    thread->wrong += taken->wrong;
    if (atomic_load(&thread->run->counted_to_ns) != 0) {
        return;
    }
    if (before >= warmup) {
        thread->ok += taken->good;
        hist_add(&thread->latency, now_ns - due_ns);
    } else if (before + taken->good >= warmup) {
        atomic_store(&thread->run->counted_from_ns, now_ns);
    }
}

static void take_answer(struct client_thread *thread, struct conn *conn,
                        const struct answer *answer, uint64_t now_ns)
{
    struct flight flight = conn->flight[conn->head];
    conn->head = (conn->head + 1) % PIPELINE_MAX;
    conn->count--;
    struct bytes body = bytes_of(conn->in + answer->head_len, answer->body_len);
    struct bench_taken taken = {0};
    thread->status_count[answer->status < 600 && answer->status > 0 ? answer->status : 0]++;
    if (answer->status != 200) {
        taken.failed = thread->work->posts[flight.post].count;
        snprintf(taken.error, sizeof(taken.error), "status %d: %.*s", answer->status,
                 (int)(body.len < 150 ? body.len : 150), (const char *)body.ptr);
    } else {
        thread->work->protocol->take(thread->protocol_ctx, thread->work, flight.post, flight.step,
                                     body, &taken);
    }
    if (taken.error[0]) {
        note_error(thread, taken.error);
    }
    if (taken.next && taken.next_len <= thread->out_cap - conn->out_len) {
        flight.step++;
        put_request(conn, &flight, taken.next, taken.next_len);
    } else {
        count(thread, &taken, flight.due_ns, now_ns);
    }
    free(taken.next);
    thread->ended_ns = now_ns;
}

static bool take_answers(struct client_thread *thread, struct conn *conn)
{
    struct answer answer;
    int got;
    while (conn->count > 0 &&
           (got = parse_answer(conn->in, conn->in_len, thread->in_cap, &answer)) != 0) {
        if (got < 0) {
            note_error(thread, "the answer is not HTTP/1.1 with Content-Length");
            return false;
        }
        take_answer(thread, conn, &answer, clock_mono_ns());
        size_t used = answer.head_len + answer.body_len;
        memmove(conn->in, conn->in + used, conn->in_len - used);
        conn->in_len -= used;
    }
    return true;
}

static bool receive(struct client_thread *thread, struct conn *conn)
{
    for (;;) {
        size_t got = 0;
        enum io io = conn_read(conn, conn->in + conn->in_len, thread->in_cap - conn->in_len, &got);
        if (io != IO_SOME) {
            return io != IO_END;
        }
        conn->in_len += got;
        if (!take_answers(thread, conn)) {
            return false;
        }
    }
}

static bool shake_hands(struct client_thread *thread, struct conn *conn)
{
    int done = SSL_do_handshake(conn->ssl);
    if (done == 1) {
        conn->connected = true;
        thread->handshakes++;
        thread->resumed += (uint64_t)SSL_session_reused(conn->ssl);
        want_write(thread, conn, false);
        return true;
    }
    int why = SSL_get_error(conn->ssl, done);
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
        want_write(thread, conn, why == SSL_ERROR_WANT_WRITE);
        return true;
    }
    char text[256];
    ERR_error_string_n(ERR_get_error(), text, sizeof(text));
    note_error(thread, text);
    return false;
}

/* --- the loop --- */

static bool run_over(const struct client_thread *thread, uint64_t now_ns)
{
    return now_ns >= thread->run->stop_ns ||
           atomic_load(&thread->run->next) >= thread->work->post_count;
}

/* One connection's events; false: it is finished. */
static bool serve_open(struct client_thread *thread, struct conn *conn)
{
    bool good = conn->connected || shake_hands(thread, conn);
    if (!good || !conn->connected) {
        return good;
    }
    uint32_t before = conn->count;
    good = receive(thread, conn);
    if (thread->options->handshake_each && before > 0 && conn->count == 0) {
        return false;
    }
    if (good) {
        fill(thread, conn, clock_mono_ns());
        good = flush(thread, conn);
    }
    return good;
}

/* Asked and never answered. */
static void give_up(struct client_thread *thread, struct conn *conn)
{
    for (; conn->count > 0; conn->count--, conn->head = (conn->head + 1) % PIPELINE_MAX) {
        thread->failed += thread->work->posts[conn->flight[conn->head].post].count;
    }
}

/* Closes what is finished, and opens again where there is more to do. A new connection is served at
 * once: its handshake may be over before there is an event to wait for. */
static void serve(struct client_thread *thread, struct conn *conn)
{
    while (!serve_open(thread, conn)) {
        give_up(thread, conn);
        conn_close(conn);
        if (run_over(thread, clock_mono_ns()) || !conn_open(thread, conn)) {
            return;
        }
    }
}

static bool anything_open(const struct client_thread *thread)
{
    for (uint32_t i = 0; i < thread->conn_count; i++) {
        if (thread->conns[i].fd >= 0 && thread->conns[i].count > 0) {
            return true;
        }
    }
    return false;
}

static void *client_main(void *arg)
{
    struct client_thread *thread = arg;
    uint64_t grace_ns = 20 * NS_PER_S;
    for (uint32_t i = 0; i < thread->conn_count; i++) {
        if (conn_open(thread, &thread->conns[i])) {
            serve(thread, &thread->conns[i]);
        }
    }
    for (;;) {
        struct epoll_event events[256];
        bool open_loop = thread->options->rate > 0;
        int count = epoll_wait(thread->epoll_fd, events, 256, open_loop ? 1 : 100);
        for (int i = 0; i < count; i++) {
            serve(thread, events[i].data.ptr);
        }
        uint64_t now_ns = clock_mono_ns();
        for (uint32_t i = 0; open_loop && i < thread->conn_count; i++) {
            struct conn *conn = &thread->conns[i];
            if (conn->fd >= 0 && conn->connected && conn->count == 0) {
                fill(thread, conn, now_ns);
                if (!flush(thread, conn)) {
                    serve(thread, conn);
                }
            }
        }
        bool over = run_over(thread, now_ns);
        if ((over && !anything_open(thread)) || now_ns > thread->run->stop_ns + grace_ns) {
            break;
        }
    }
    for (uint32_t i = 0; i < thread->conn_count; i++) {
        give_up(thread, &thread->conns[i]);
        conn_close(&thread->conns[i]);
    }
    return NULL;
}

SSL_CTX *bench_tls(const struct bench_options *options)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (!ctx || SSL_CTX_load_verify_locations(ctx, options->ca_file, NULL) != 1) {
        fprintf(stderr, "certmill-bench: --ca %s: no certificate in it\n", options->ca_file);
        return NULL;
    }
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    if (options->tls) {
        int version = options->tls == 12 ? TLS1_2_VERSION : TLS1_3_VERSION;
        SSL_CTX_set_min_proto_version(ctx, version);
        SSL_CTX_set_max_proto_version(ctx, version);
    }
    if (options->cert_file &&
        (SSL_CTX_use_certificate_chain_file(ctx, options->cert_file) != 1 ||
         SSL_CTX_use_PrivateKey_file(ctx, options->key_file, SSL_FILETYPE_PEM) != 1)) {
        fprintf(stderr, "certmill-bench: --cert or --key cannot be used\n");
        return NULL;
    }
    return ctx;
}

static bool start_threads(const struct bench_options *options, struct bench_work *work,
                          SSL_CTX *ctx, struct shared_run *run, struct client_thread *threads)
{
    size_t out_cap = OUT_ROOM;
    for (uint32_t i = 0; i < work->post_count; i++) {
        size_t wanted = 2 * (size_t)work->posts[i].http_len + 4096;
        out_cap = wanted > out_cap ? wanted : out_cap;
    }
    for (uint32_t i = 0; i < options->threads; i++) {
        struct client_thread *thread = &threads[i];
        uint32_t first = options->connections * i / options->threads;
        uint32_t end = options->connections * (i + 1) / options->threads;
        thread->options = options;
        thread->work = work;
        thread->ctx = ctx;
        thread->run = run;
        thread->conn_count = end - first;
        thread->in_cap = work->answer_max;
        thread->out_cap = out_cap;
        thread->conns = calloc(thread->conn_count + 1, sizeof(struct conn));
        thread->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (!thread->conns || thread->epoll_fd < 0) {
            return false;
        }
        for (uint32_t k = 0; k < thread->conn_count; k++) {
            struct conn *conn = &thread->conns[k];
            conn->fd = -1;
            conn->in = malloc(thread->in_cap);
            conn->out = malloc(thread->out_cap);
            if (!conn->in || !conn->out) {
                return false;
            }
        }
        if (work->protocol->thread_start) {
            thread->protocol_ctx = work->protocol->thread_start(work);
        }
        pthread_create(&thread->thread, NULL, client_main, thread);
    }
    return true;
}

static void collect(const struct bench_options *options, struct client_thread *threads,
                    struct bench_result *out)
{
    for (uint32_t i = 0; i < options->threads; i++) {
        struct client_thread *thread = &threads[i];
        pthread_join(thread->thread, NULL);
        out->ok += thread->ok;
        out->failed += thread->failed;
        out->wrong += thread->wrong;
        out->issued += thread->issued;
        out->handshakes += thread->handshakes;
        out->resumed += thread->resumed;
        for (int s = 0; s < 600; s++) {
            out->status_count[s] += thread->status_count[s];
        }
        hist_merge(&out->latency, &thread->latency);
        if (out->first_error[0] == 0) {
            memcpy(out->first_error, thread->first_error, sizeof(out->first_error));
        }
        if (thread->ended_ns > out->elapsed_ns) {
            out->elapsed_ns = thread->ended_ns; /* the end, made a length by the caller */
        }
        close(thread->epoll_fd);
        for (uint32_t k = 0; k < thread->conn_count; k++) {
            free(thread->conns[k].in);
            free(thread->conns[k].out);
        }
        free(thread->conns);
        if (thread->work->protocol->thread_end) {
            thread->work->protocol->thread_end(thread->protocol_ctx);
        }
    }
}

bool bench_run(const struct bench_options *options, struct bench_work *work, SSL_CTX *ctx,
               struct bench_result *out)
{
    struct client_thread *threads = calloc(options->threads, sizeof(*threads));
    struct shared_run run = {
        .start_ns = clock_mono_ns(),
        .has_cool_down = options->warmup > 0 && work->post_count / COOL_DOWN_POSTS >=
                                                    options->connections * options->pipeline,
    };
    run.stop_ns = run.start_ns + options->seconds * NS_PER_S;
    if (!threads || !start_threads(options, work, ctx, &run, threads)) {
        fprintf(stderr, "certmill-bench: out of memory or descriptors\n");
        free(threads);
        return false;
    }
    while (!options->quiet && atomic_load(&run.answered) < work->count &&
           clock_mono_ns() < run.stop_ns) {
        struct timespec pause = {0, 500000000};
        nanosleep(&pause, NULL);
        fprintf(stderr, "\r%u of %u answered", atomic_load(&run.answered), work->count);
        if (atomic_load(&run.next) >= work->post_count) {
            break;
        }
    }
    collect(options, threads, out);
    if (!options->quiet) {
        fprintf(stderr, "\r%u of %u answered\n", atomic_load(&run.answered), work->count);
    }
    uint64_t from = atomic_load(&run.counted_from_ns);
    uint64_t start = options->warmup > 0 && from ? from : run.start_ns;
    uint64_t to = atomic_load(&run.counted_to_ns);
    uint64_t end = to ? to : out->elapsed_ns;
    out->elapsed_ns = end > start ? end - start : 1;
    out->is_short = options->warmup > 0 && !run.has_cool_down;
    free(threads);
    return true;
}

static int open_blocking(const struct bench_options *options)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(options->port)};
    inet_pton(AF_INET, options->host, &address.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (void *)&address, sizeof(address)) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

size_t bench_ask(const struct bench_options *options, SSL_CTX *ctx, struct bytes request, char *buf,
                 size_t cap)
{
    struct conn conn = {.fd = open_blocking(options), .ssl = ctx ? SSL_new(ctx) : NULL};
    size_t len = 0, done = 0;
    bool good = conn.fd >= 0 && (!ctx || conn.ssl);
    if (good && ctx) {
        SSL_set_fd(conn.ssl, conn.fd);
        good = SSL_connect(conn.ssl) == 1;
    }
    while (good && request.len > 0) {
        good = conn_write(&conn, request.ptr, request.len, &done) == IO_SOME;
        request = bytes_of(request.ptr + done, request.len - done);
    }
    while (good && len < cap &&
           conn_read(&conn, (uint8_t *)buf + len, cap - len, &done) == IO_SOME) {
        len += done;
    }
    conn_close(&conn);
    return good ? len : 0;
}
