/* supervise.h: inside hsm/queue: the main thread's side: processes, their life and death.
 *
 * Threads: main thread alone, but for text_lock.
 */
#ifndef CERTMILL_HSM_SUPERVISE_H
#define CERTMILL_HSM_SUPERVISE_H

#include <pthread.h>

#include "hsm/queue/internal.h"
#include "hsm/queue/spawn.h"

enum phase { PHASE_DOWN, PHASE_STARTING, PHASE_UP, PHASE_FAILED };

enum { SIGNER_PATH_MAX = 512 };

/* The one signer of a token that may log in now: should the PIN be wrong, it is tried once. */
struct login_turn {
    uint32_t signer;
    uint32_t epoch;
    uint32_t ticket; /* 0: it is nobody's turn */
};

struct supervisor {
    struct hsm_token_config tokens[TOKENS_MAX];
    struct hsm_key_config keys[KEYS_MAX];
    char *key_text[KEYS_MAX];     /* of added keys: name, NUL, URI, NUL */
    bool key_abandoned[KEYS_MAX]; /* added, and no signer had it: no core knows its index */
    uint32_t map_epoch[SIGNERS_MAX][EPOCHS_KEPT];
    bool pin_refused[TOKENS_MAX];
    struct login_turn login_turn[TOKENS_MAX];
    uint32_t deaths[SIGNERS_MAX];
    char path[SIGNER_PATH_MAX];
    const struct wake_flag *wake_flags;
    struct spawn_fds fds;
    int parent_write;
    int epoll;
    pthread_mutex_t text_lock; /* last_error: written here, read by hsm_status on any thread */
    char last_error[SIGNERS_MAX][SHM_ERROR_TEXT];
};

struct wake_page {
    struct wake_flag *flags;
    uint32_t count;
    int fd;
};

/* The page that all these flags lie in, or NULL. */
const struct wake_page *wake_page_of(const struct wake *wakes, uint32_t core_count);
/* The memory of the process that runs now, or ran last. */
static inline struct shm_signer *shm_of(const struct signer *signer)
{
    return atomic_load_explicit(&signer->maps[signer->epoch % EPOCHS_KEPT], memory_order_relaxed);
}
void supervise_one(struct hsm *hsm, struct signer *signer, uint64_t now);
/* Lets the next signer of each token log in. */
void supervise_logins(struct hsm *hsm);
void kill_signer(struct hsm *hsm, struct signer *signer, const char *why);
bool key_is_sane(const struct hsm_key_config *key, uint32_t token_count);
/* Who serves keys[index], and how. */
void key_init(struct hsm *hsm, uint32_t index);
/* Why this signer does not serve this key; ERR_OK when it does. */
enum err key_error(const struct signer *signer, uint32_t key);

#endif
