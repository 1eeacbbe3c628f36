/* spawn.h: inside hsm/queue: starting one signer process with what it may inherit, and nothing
 * else.
 *
 * Promise: the child has descriptors 0-2 and those of wire.h; its environment lacks what could load
 *          code into it and the PINs of other tokens.
 * Threads: main thread.
 */
#ifndef CERTMILL_HSM_SPAWN_H
#define CERTMILL_HSM_SPAWN_H

#include "hsm/queue/internal.h"
#include "hsm/queue/wire.h"

struct spawn_fds {
    int shm, wake_flags, notify, parent, keys;
    int cores[CORES_MAX];
};

/* `other_pin_envs` are names to leave out. *out_pid_fd is close-on-exec. */
enum err spawn_signer(const char *path, const struct wire_signer *config,
                      const struct spawn_fds *fds, const char *const other_pin_envs[],
                      uint32_t other_pin_env_count, pid_t *out_pid, int *out_pid_fd) MUST_USE;
/* A sealed memfd with these bytes, or of this length when data is empty; -1 on failure. */
int sealed_memfd(const char *name, struct bytes data, size_t len);

#endif
