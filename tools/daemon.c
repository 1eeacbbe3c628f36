#include "tools/daemon.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { ANSWER_MAX = 4 * 1024 * 1024 };

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
    char request[256];
    int request_len = snprintf(request, sizeof(request),
                               "%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", what);
    char *answer = malloc(ANSWER_MAX + 1);
    size_t len = 0;
    if (!answer)
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
                               char **out_body)
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
    bool good = strncmp(answer, "HTTP/1.1 ", 9) == 0 && body;
    if (good)
        *out_body = strdup(body + 4);
    else
        cli_fail("certmilld's answer on %s is not understood (%.40s): is it of this version?",
                 socket_path, answer);
    free(answer);
    return good ? DAEMON_ANSWERED : DAEMON_FAILED;
}
