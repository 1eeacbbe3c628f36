#include "tools/daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWER_MAX = 4 * 1024 * 1024, TIMEOUT_S = 10 };

static bool address_of(const char *path, struct sockaddr_un *out)
{
    size_t len = strlen(path);
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (len >= sizeof(out->sun_path))
        return false;
    memcpy(out->sun_path, path, len + 1);
    return true;
}

/* A descriptor, or -1 and errno. */
static int connect_to(const struct sockaddr_un *address, int timeout_s)
{
    struct timeval timeout = {.tv_sec = timeout_s};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* The whole answer, NUL-terminated; the daemon closes behind it. */
static char *exchange(int fd, const char *path, const char *what)
{
    char request[1024];
    int request_len = snprintf(request, sizeof(request),
                               "%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", what);
    char *answer = malloc(ANSWER_MAX + 1);
    size_t len = 0;
    if (!answer || request_len >= (int)sizeof(request))
        abort();
    ssize_t got = send(fd, request, (size_t)request_len, MSG_NOSIGNAL);
    while (got > 0 && len < ANSWER_MAX) {
        got = recv(fd, answer + len, ANSWER_MAX - len, 0);
        len += got > 0 ? (size_t)got : 0;
    }
    answer[len] = 0;
    if (got == 0 && len > 0)
        return answer;
    cli_fail("certmilld does not answer on %s: %s: look into its log", path,
             got < 0 ? strerror(errno) : "the answer is empty or too long");
    free(answer);
    return NULL;
}

static enum daemon_outcome no_connection(const char *path, int error)
{
    if (error == EACCES || error == EPERM) {
        cli_fail("%s: %s: run this as the user that certmilld runs as", path, strerror(error));
        return DAEMON_FAILED;
    }
    cli_fail("certmilld does not run: %s: %s: start it, or check admin.socket in the configuration",
             path, strerror(error));
    return DAEMON_ABSENT;
}

bool daemon_runs(const char *socket_path)
{
    struct sockaddr_un address;
    errno = 0;
    int fd = address_of(socket_path, &address) ? connect_to(&address, 1) : -1;
    if (fd >= 0)
        close(fd);
    return fd >= 0 || errno == EACCES || errno == EPERM || errno == EAGAIN;
}

enum daemon_outcome daemon_ask(const char *socket_path, const char *what, int timeout_s,
                               uint32_t *out_status, char **out_body)
{
    struct sockaddr_un address;
    if (!address_of(socket_path, &address)) {
        cli_fail("%s: longer than the %zu bytes a socket's path may have: shorten admin.socket",
                 socket_path, sizeof(address.sun_path) - 1);
        return DAEMON_FAILED;
    }
    int fd = connect_to(&address, timeout_s);
    if (fd < 0)
        return no_connection(socket_path, errno);
    char *answer = exchange(fd, socket_path, what);
    close(fd);
    if (!answer)
        return DAEMON_FAILED;
    const char *body = strstr(answer, "\r\n\r\n");
    uint64_t status = 0;
    bool good = body && strncmp(answer, "HTTP/1.1 ", 9) == 0 &&
                bytes_to_u64(bytes_of(answer + 9, 3), 999, &status);
    *out_status = (uint32_t)status;
    if (good)
        *out_body = strdup(body + 4);
    else
        cli_fail("certmilld's answer on %s is not understood (%.40s): is it of this version?",
                 socket_path, answer);
    free(answer);
    return good ? DAEMON_ANSWERED : DAEMON_FAILED;
}

json_t *daemon_ask_json(struct cli *cli, const char *method, const char *target, bool raw,
                        uint32_t *out_status)
{
    const struct config *config = cli_config(cli);
    char *path = config ? config_path(config, config->admin.socket) : NULL;
    char what[512], *body = NULL;
    json_t *json = NULL;
    if (snprintf(what, sizeof(what), "%s %s", method, target) >= (int)sizeof(what))
        abort();
    if (path && daemon_ask(path, what, TIMEOUT_S, out_status, &body) == DAEMON_ANSWERED) {
        json = json_loads(body, 0, NULL);
        if (!json)
            cli_fail("certmilld's answer on %s is not understood (%.40s): is it of this version?",
                     path, body);
        else if (raw && *out_status == 200)
            fputs(body, stdout);
    }
    free(body);
    free(path);
    return json;
}

const char *daemon_error(const json_t *answer)
{
    const char *code = json_string_value(json_object_get(answer, "error"));
    return code ? code : "";
}

int daemon_fail(const json_t *answer, const char *what)
{
    const char *sentence = json_string_value(json_object_get(answer, "sentence"));
    return cli_fail("%s: %s (%s)", what, sentence ? sentence : "certmilld refused",
                    daemon_error(answer));
}
