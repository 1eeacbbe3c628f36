#include "admin/admin.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "net/http.h"

enum { REQUEST_MAX = 4096, ANSWER_MAX = 512 * 1024, PASSWD_MAX = 4096 };
enum { LISTEN_PORT, LISTEN_SOCKET };

struct client {
    int fd;        /* -1: free */
    bool is_local; /* by the unix socket */
    uint64_t until_ns;
    size_t got;
    size_t scanned;
    size_t sent;
    size_t answer_len; /* 0: still reading */
    char *answer;
    uint8_t request[REQUEST_MAX];
};

struct admin {
    struct admin_view view;
    int listen_fds[2];
    char *socket_path;
    struct client clients[ADMIN_CLIENTS_MAX];
};

/* --- answers --- */

static void answer(struct client *client, uint16_t status, const char *type, const char *body,
                   size_t body_len)
{
    char head[HTTP_RESPONSE_HEADER_MAX];
    struct writer out = writer_of(head, sizeof(head));
    struct http_response response = {
        .status = status,
        .content_type = type,
        .close = true,
        .allow = status == 405 ? "GET, POST" : NULL,
        .body = bytes_of(body, body_len),
    };
    client->answer = NULL;
    if (http_write_head(&out, &response, false, false)) {
        client->answer = malloc(out.len + body_len);
    }
    if (!client->answer) {
        client->until_ns = 0; /* closed by the next tend */
        return;
    }
    memcpy(client->answer, head, out.len);
    memcpy(client->answer + out.len, body, body_len);
    client->answer_len = out.len + body_len;
}

static void answer_text(struct client *client, uint16_t status, const char *text)
{
    answer(client, status, "text/plain", text, strlen(text));
}

static void serve_reload(struct admin *admin, struct client *client)
{
    char buf[6 * ADMIN_DETAIL_MAX + 64], detail[ADMIN_DETAIL_MAX] = "";
    struct writer out = writer_of(buf, sizeof(buf));
    uint32_t generation = 0;
    bool done = admin->view.reload(admin->view.reload_ctx, &generation, detail);
    admin_write_reload(generation, done ? NULL : detail, &out);
    answer(client, done ? 200 : 409, "application/json", buf, out.len);
}

/* Who is at the other end, as the kernel says. */
static void peer_name(const struct client *client, char *out, size_t cap)
{
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t len = sizeof(peer);
    struct passwd entry, *found = NULL;
    char buf[PASSWD_MAX];
    if (!client->is_local || getsockopt(client->fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0) {
        out[0] = 0;
    } else if (getpwuid_r(peer.uid, &entry, buf, sizeof(buf), &found) == 0 && found) {
        snprintf(out, cap, "%s", found->pw_name);
    } else {
        snprintf(out, cap, "uid-%u", (unsigned)peer.uid);
    }
}

/* 0: nobody's path. */
static uint16_t ask_appliance(struct admin *admin, const struct client *client,
                              const struct http_request *request, bool post, struct writer *out)
{
    const struct admin_operate *operate = &admin->view.operate;
    char who[STATION_NAME_MAX];
    peer_name(client, who, sizeof(who));
    struct admin_request asked = {post, request->path, request->query, who};
    return operate->answer ? operate->answer(operate->ctx, &asked, out) : 0;
}

static void serve(struct admin *admin, struct client *client, const struct http_request *request)
{
    bool post = bytes_eq(request->method, BYTES_LIT("POST"));
    if (!post && !bytes_eq(request->method, BYTES_LIT("GET"))) {
        answer_text(client, 405, "only GET and POST are served here\n");
        return;
    }
    if (post && !client->is_local) {
        answer_text(client, 403, "nothing is changed through this port: use the admin socket\n");
        return;
    }
    if (post && admin->view.reload && bytes_eq(request->path, BYTES_LIT("/reload"))) {
        serve_reload(admin, client);
        return;
    }
    char *buf = malloc(ANSWER_MAX);
    if (!buf) {
        answer_text(client, 503, "out of memory\n");
        return;
    }
    struct writer out = writer_of(buf, ANSWER_MAX);
    uint16_t status = 200;
    const char *type = "text/plain; version=0.0.4";
    uint16_t asked = ask_appliance(admin, client, request, post, &out);
    if (asked != 0) {
        type = "application/json";
        status = asked;
    } else if (post) {
        type = "text/plain";
        status = 404;
        writer_put_str(&out, "there is no such operation\n");
    } else if (bytes_eq(request->path, BYTES_LIT("/metrics"))) {
        admin_write_metrics(&admin->view, &out);
    } else if (bytes_eq(request->path, BYTES_LIT("/status"))) {
        type = "application/json";
        admin_write_status(&admin->view, &out);
    } else if (bytes_eq(request->path, BYTES_LIT("/health"))) {
        type = "text/plain";
        status = admin_is_healthy(&admin->view, &out) ? 200 : 503;
    } else {
        type = "text/plain";
        status = 404;
        writer_put_str(&out, "there are /metrics, /health and /status\n");
    }
    if (out.failed) {
        answer_text(client, 500, "the answer is too large\n");
    } else {
        answer(client, status, type, buf, out.len);
    }
    free(buf);
}

/* --- clients --- */

static void client_close(struct client *client)
{
    close(client->fd);
    free(client->answer);
    client->answer = NULL;
    client->fd = -1;
}

static void client_accept(struct admin *admin, int listener)
{
    int fd;
    while ((fd = accept4(admin->listen_fds[listener], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >=
           0) {
        struct client *free_slot = NULL;
        for (uint32_t i = 0; i < ADMIN_CLIENTS_MAX; i++) {
            if (admin->clients[i].fd < 0) {
                free_slot = &admin->clients[i];
            }
        }
        if (!free_slot) {
            close(fd);
            continue;
        }
        *free_slot = (struct client){
            .fd = fd,
            .is_local = listener == LISTEN_SOCKET,
            .until_ns = clock_mono_ns() + ADMIN_TIMEOUT_MS * NS_PER_MS,
        };
    }
}

/* false: the client is done with. */
static bool client_read(struct admin *admin, struct client *client)
{
    ssize_t got = recv(client->fd, client->request + client->got, REQUEST_MAX - client->got, 0);
    if (got <= 0) {
        return got < 0 && (errno == EAGAIN || errno == EINTR);
    }
    client->got += (size_t)got;
    struct http_request request;
    size_t used;
    enum err err;
    switch (http_parse_head(bytes_of(client->request, client->got), &client->scanned, &request,
                            &used, &err)) {
    case HTTP_NEED_MORE:
        return client->got < REQUEST_MAX;
    case HTTP_DONE:
        serve(admin, client, &request);
        return true;
    case HTTP_ERROR:
        answer_text(client, 400, "malformed request\n");
        return true;
    }
    return false;
}

static bool client_write(struct client *client)
{
    ssize_t sent = send(client->fd, client->answer + client->sent,
                        client->answer_len - client->sent, MSG_NOSIGNAL);
    if (sent < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    client->sent += (size_t)sent;
    return client->sent < client->answer_len;
}

void admin_tend(struct admin *admin)
{
    for (int i = 0; i < 2; i++) {
        if (admin->listen_fds[i] >= 0) {
            client_accept(admin, i);
        }
    }
    uint64_t now_ns = clock_mono_ns();
    for (uint32_t i = 0; i < ADMIN_CLIENTS_MAX; i++) {
        struct client *client = &admin->clients[i];
        if (client->fd < 0) {
            continue;
        }
        bool keep = now_ns < client->until_ns;
        if (keep && client->answer_len == 0) {
            keep = client_read(admin, client);
        }
        if (keep && client->answer_len > 0) {
            keep = client_write(client);
        }
        if (!keep) {
            client_close(client);
        }
    }
}

uint32_t admin_pollfds(struct admin *admin, struct pollfd out[ADMIN_POLLFDS_MAX])
{
    uint32_t count = 0;
    for (int i = 0; i < 2; i++) {
        if (admin->listen_fds[i] >= 0) {
            out[count++] = (struct pollfd){.fd = admin->listen_fds[i], .events = POLLIN};
        }
    }
    for (uint32_t i = 0; i < ADMIN_CLIENTS_MAX; i++) {
        const struct client *client = &admin->clients[i];
        if (client->fd >= 0) {
            short events = client->answer_len > 0 ? POLLOUT : POLLIN;
            out[count++] = (struct pollfd){.fd = client->fd, .events = events};
        }
    }
    return count;
}

/* --- life --- */

static bool is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)address;
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    const struct sockaddr_in6 *in6 = (const void *)address;
    return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

static enum err listen_on(int fd, const struct sockaddr *address, socklen_t len)
{
    return fd >= 0 && bind(fd, address, len) == 0 && listen(fd, ADMIN_CLIENTS_MAX) == 0 ? ERR_OK
                                                                                        : ERR_IO;
}

static enum err open_port(struct admin *admin, const struct admin_config *config, char detail[256])
{
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof(struct sockaddr_in);
    struct sockaddr_in *in = (void *)&address;
    struct sockaddr_in6 *in6 = (void *)&address;
    if (inet_pton(AF_INET, config->address, &in->sin_addr) == 1) {
        in->sin_family = AF_INET;
        in->sin_port = htons(config->port);
    } else if (inet_pton(AF_INET6, config->address, &in6->sin6_addr) == 1) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(config->port);
        len = sizeof(*in6);
    }
    if (address.ss_family == 0 || !is_loopback(&address)) {
        snprintf(detail, 256, "address %s: expected a loopback address", config->address);
        return ERR_CONFIG;
    }
    int fd = socket(address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    }
    admin->listen_fds[LISTEN_PORT] = fd;
    enum err err = listen_on(fd, (const struct sockaddr *)&address, len);
    if (err != ERR_OK) {
        snprintf(detail, 256, "%s port %u: %s", config->address, config->port, strerror(errno));
    }
    return err;
}

static enum err open_socket(struct admin *admin, const char *path, char detail[256])
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path)) {
        snprintf(detail, 256, "%s: longer than the %zu characters a unix socket allows", path,
                 sizeof(address.sun_path) - 1);
        return ERR_CONFIG;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    char folder[sizeof(address.sun_path)];
    memcpy(folder, path, strlen(path) + 1);
    char *slash = strrchr(folder, '/');
    if (slash && slash != folder) {
        *slash = 0;
        if (mkdir(folder, 0700) != 0 && errno != EEXIST) {
            snprintf(detail, 256, "%s: %s", folder, strerror(errno));
            return ERR_IO;
        }
    }
    unlink(path); /* left by a killed daemon: the store's lock says that no other one runs */
    admin->listen_fds[LISTEN_SOCKET] =
        socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    mode_t mask = umask(0177);
    enum err err = listen_on(admin->listen_fds[LISTEN_SOCKET], (const struct sockaddr *)&address,
                             sizeof(address));
    umask(mask);
    if (err != ERR_OK) {
        snprintf(detail, 256, "%s: %s", path, strerror(errno));
        return err;
    }
    admin->socket_path = strdup(path);
    return ERR_OK;
}

enum err admin_start(const struct admin_config *config, const struct admin_view *view,
                     struct admin **out, char out_detail[256])
{
    struct admin *admin = calloc(1, sizeof(*admin));
    if (!admin) {
        return ERR_NO_SPACE;
    }
    admin->view = *view;
    admin->listen_fds[0] = admin->listen_fds[1] = -1;
    for (uint32_t i = 0; i < ADMIN_CLIENTS_MAX; i++) {
        admin->clients[i].fd = -1;
    }
    enum err err = ERR_OK;
    if (config->port != 0) {
        err = open_port(admin, config, out_detail);
    }
    if (err == ERR_OK && config->socket_path) {
        err = open_socket(admin, config->socket_path, out_detail);
    }
    if (err != ERR_OK) {
        admin_stop(admin);
        return err;
    }
    *out = admin;
    return ERR_OK;
}

void admin_stop(struct admin *admin)
{
    for (int i = 0; i < 2; i++) {
        if (admin->listen_fds[i] >= 0) {
            close(admin->listen_fds[i]);
        }
    }
    for (uint32_t i = 0; i < ADMIN_CLIENTS_MAX; i++) {
        if (admin->clients[i].fd >= 0) {
            client_close(&admin->clients[i]);
        }
    }
    if (admin->socket_path) {
        unlink(admin->socket_path);
        free(admin->socket_path);
    }
    free(admin);
}
