#include "tools/daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWER_MAX = 4 * 1024 * 1024, TIMEOUT_S = 10 };

/* --- asking --- */

static int connect_to(const char *path, int *out_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval timeout = {.tv_sec = TIMEOUT_S};
    size_t len = strlen(path);
    if (len >= sizeof(address.sun_path))
        return cli_fail("%s: longer than the %zu bytes a socket's path may have: shorten "
                        "admin.socket",
                        path, sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, len + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
    }
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0) {
        *out_fd = fd;
        return CLI_DONE;
    }
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (error == EACCES || error == EPERM)
        return cli_fail("%s: %s: run this as the user that certmilld runs as", path,
                        strerror(error));
    return cli_fail("certmilld does not run: %s: %s: start it, or check admin.socket in the "
                    "configuration",
                    path, strerror(error));
}

/* The whole answer, NUL-terminated; the daemon closes behind it. */
static char *exchange(int fd, const char *path, const char *method, const char *target)
{
    char request[1024];
    int request_len =
        snprintf(request, sizeof(request),
                 "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", method, target);
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

/* HTTP/1.1 NNN ..., then JSON. */
static json_t *read_answer(const char *answer, const char *path, bool raw, uint32_t *out_status)
{
    const char *body = strstr(answer, "\r\n\r\n");
    uint64_t status = 0;
    bool good = body && strncmp(answer, "HTTP/1.1 ", 9) == 0 &&
                bytes_to_u64(bytes_of(answer + 9, 3), 999, &status);
    json_t *json = good ? json_loads(body + 4, 0, NULL) : NULL;
    if (!json) {
        cli_fail("certmilld's answer on %s is not understood (%.40s): is it of this version?", path,
                 answer);
        return NULL;
    }
    if (raw && status == 200)
        fputs(body + 4, stdout);
    *out_status = (uint32_t)status;
    return json;
}

json_t *daemon_ask(struct cli *cli, const char *method, const char *target, bool raw,
                   uint32_t *out_status)
{
    const struct config *config = cli_config(cli);
    char *path = config ? config_path(config, config->admin.socket) : NULL;
    char *answer = NULL;
    json_t *json = NULL;
    int fd = -1;
    if (path && connect_to(path, &fd) == CLI_DONE) {
        answer = exchange(fd, path, method, target);
        close(fd);
    }
    if (answer)
        json = read_answer(answer, path, raw, out_status);
    free(answer);
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
