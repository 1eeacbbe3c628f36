#include "hsm/queue/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

extern char **environ;

enum {
    FD_COUNT_MAX = SIGNER_FD_CORE_0 + CORES_MAX,
    FD_HIGH = 256, /* above all numbers that the child gets, so that no dup2 hits a source */
    ENV_MAX = 1024,
};

static_assert(FD_COUNT_MAX < FD_HIGH, "the parking place is free");

int sealed_memfd(const char *name, struct bytes data, size_t len)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    bool ok = data.len == 0 ? ftruncate(fd, (off_t)len) == 0
                            : write(fd, data.ptr, data.len) == (ssize_t)data.len;
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | (data.len != 0 ? F_SEAL_WRITE : 0);
    if (!ok || fcntl(fd, F_ADD_SEALS, seals) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* What loads or redirects code, and what belongs to others. */
static const char *const env_refused[] = {
    "LD_PRELOAD",
    "LD_AUDIT",
    "LD_PROFILE",
    "LD_DEBUG",
    "LD_DEBUG_OUTPUT",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "MALLOC_TRACE",
    "GLIBC_TUNABLES",
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "WATCHDOG_USEC",
    "PGPASSWORD",
    "BASH_ENV",
    "ENV",
    "IFS",
};

static bool env_is(const char *entry, const char *name)
{
    size_t len = strlen(name);
    return strncmp(entry, name, len) == 0 && entry[len] == '=';
}

static bool env_is_refused(const char *entry, const char *const others[], uint32_t other_count)
{
    for (size_t i = 0; i < sizeof(env_refused) / sizeof(env_refused[0]); i++) {
        if (env_is(entry, env_refused[i]))
            return true;
    }
    for (uint32_t i = 0; i < other_count; i++) {
        if (env_is(entry, others[i]))
            return true;
    }
    return false;
}

/* Parks every source above the numbers wanted, then has the child dup them down: those copies alone
 * lose close-on-exec. */
static bool add_fds(posix_spawn_file_actions_t *actions, const int sources[], int count,
                    int parked[])
{
    for (int i = 0; i < count; i++) {
        parked[i] = fcntl(sources[i], F_DUPFD_CLOEXEC, FD_HIGH);
        if (parked[i] < 0 ||
            posix_spawn_file_actions_adddup2(actions, parked[i], SIGNER_FD_CONFIG + i) != 0)
            return false;
    }
    return posix_spawn_file_actions_addopen(actions, 0, "/dev/null", O_RDONLY, 0) == 0 &&
           posix_spawn_file_actions_addopen(actions, 1, "/dev/null", O_WRONLY, 0) == 0;
}

static int spawn_with(const char *path, const int sources[], int count, char *env[], pid_t *out_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int parked[FD_COUNT_MAX];
    sigset_t none, all;
    char *argv[] = {(char *)"certmill-signer", NULL};
    for (int i = 0; i < count; i++)
        parked[i] = -1;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    int rc = add_fds(&actions, sources, count, parked)
                 ? posix_spawn(out_pid, path, &actions, &attributes, argv, env)
                 : EMFILE;
    for (int i = 0; i < count; i++) {
        if (parked[i] >= 0)
            close(parked[i]);
    }
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return rc;
}

enum err spawn_signer(const char *path, const struct wire_signer *config,
                      const struct spawn_fds *fds, const char *const other_pin_envs[],
                      uint32_t other_pin_env_count, pid_t *out_pid, int *out_pid_fd)
{
    char *env[ENV_MAX];
    uint32_t env_count = 0;
    for (char **entry = environ; *entry != NULL && env_count < ENV_MAX - 1; entry++) {
        if (!env_is_refused(*entry, other_pin_envs, other_pin_env_count))
            env[env_count++] = *entry;
    }
    env[env_count] = NULL;

    uint8_t *buf = malloc(WIRE_MAX);
    if (buf == NULL)
        return ERR_NO_SPACE;
    struct writer writer = writer_of(buf, WIRE_MAX);
    wire_put(&writer, config);
    int config_fd = writer.failed ? -1 : sealed_memfd("certmill-signer", writer_view(&writer), 0);
    free(buf);
    if (config_fd < 0)
        return ERR_IO;

    int sources[FD_COUNT_MAX] = {config_fd,   fds->shm,    fds->wake_flags,
                                 fds->notify, fds->parent, fds->keys};
    int count = SIGNER_FD_CORE_0 - SIGNER_FD_CONFIG;
    for (uint32_t i = 0; i < config->core_count; i++)
        sources[count++] = fds->cores[i];
    pid_t pid = 0;
    int rc = spawn_with(path, sources, count, env, &pid);
    close(config_fd);
    if (rc != 0) {
        log_error("signer-spawn", "path=%s error=\"%s\"", path, strerror(rc));
        return ERR_IO;
    }
    /* it is our child and nobody else reaps it, so the number is still its */
    *out_pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
    *out_pid = pid;
    return ERR_OK;
}
