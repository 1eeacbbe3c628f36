/* signer.h: inside certmill-signer: one module, one login, a worker thread for each session.
 *
 * Threads: main watches the engine and the keys; workers take jobs under intake.lock, sign under a
 *          read lock of `module_lock`, and put results into a core's done ring under its lock. Only
 *          a reinitialization of the module takes the write lock.
 * Lock order: module_lock, then login_lock. intake.lock, done_lock and text_lock are leaves.
 */
#ifndef CERTMILL_HSM_SIGNER_H
#define CERTMILL_HSM_SIGNER_H

#include <pthread.h>
#include <stdatomic.h>

#include "hsm/p11/rv.h"
#include "hsm/p11/token.h"
#include "hsm/queue/shm.h"
#include "hsm/queue/wire.h"

static_assert((int)SHM_CLASSES == (int)RV_CLASS_COUNT, "errors are counted by class");

/* A slot of a core: what lists hold. */
struct slot_ref {
    uint16_t core;
    uint16_t slot;
};

/* Jobs that have left the submit rings: a list for each key and core, and a bit for each list that
 * is not empty. */
struct intake {
    pthread_mutex_t lock;
    uint64_t keys;            /* keys with jobs */
    uint64_t cores[KEYS_MAX]; /* cores with jobs for this key */
    uint16_t *next;           /* [core * SHM_SLOTS + slot] */
    uint16_t head[KEYS_MAX][CORES_MAX], tail[KEYS_MAX][CORES_MAX];
    uint32_t pending;
    /* of each core; written with the lock, read without it: see may_hold */
    _Atomic uint32_t pending_of[CORES_MAX];
    uint32_t next_key;
    uint32_t next_core[KEYS_MAX];
};

/* Results in a core's done ring that the core has not read. */
struct unread {
    uint64_t since_ns; /* the first came */
    uint64_t last_ns;  /* the last came, read or not */
};

struct pin {
    char *text; /* a locked page of its own; NULL: there is none */
    size_t len;
};

struct station {
    struct wire_signer config;  /* keys: up to key_count below, which grows */
    _Atomic uint32_t key_count; /* main adds; a key below it does not change */
    uint32_t keys_taken;        /* of shm->added; main alone */
    struct shm_signer *shm;
    struct shm_core cores[CORES_MAX];
    struct wake wakes[CORES_MAX];
    pthread_mutex_t done_lock[CORES_MAX];
    struct unread unread[CORES_MAX]; /* with its core's done_lock */
    struct rv_overrides overrides;
    struct pin pin;
    struct intake intake;
    _Atomic bool stop;

    pthread_rwlock_t module_lock;
    struct p11_module *module;
    _Atomic uint32_t generation; /* of the module: sessions of an older one are dead */
    uint64_t reinit_at_ns;       /* not before; with the write lock */
    _Atomic uint64_t reinit_wait_ns;

    pthread_mutex_t login_lock;
    struct p11_session *anchor; /* keeps the login while workers reopen theirs */

    /* failures of the token without a success between them */
    _Atomic uint32_t retries;
    _Atomic uint64_t retries_since_ns;

    pthread_mutex_t text_lock;
};

struct worker_key {
    bool known;
    struct p11_key key;
};

struct worker {
    struct station *station;
    pthread_t thread;
    uint32_t index;
    struct p11_session *session;
    uint32_t generation;
    struct worker_key *keys[KEYS_MAX]; /* NULL: not looked for yet */
    _Atomic bool settled;              /* its first session is open, or could not be opened */
    bool woken;                        /* it was taken out of `sleepers` and is in `searching` */
    uint64_t batch_service_ns;         /* of the last batch, */
    uint32_t batch_count;              /* for so many signatures */
};

/* --- pin.c --- */
/* From the one source configured; true and an empty PIN when none is. */
bool pin_read(const struct wire_signer *config, struct pin *out, char *reason, size_t reason_cap);
void pin_wipe(struct pin *pin);

/* --- sandbox.c --- */
/* No new privileges, no core dumps, no exec, no network, no ptrace. False with errno. */
bool sandbox_enter(bool allow_network);

/* --- station.c --- */
__attribute__((format(printf, 2, 3))) void station_error(struct station *station, const char *fmt,
                                                         ...);
/* Loads, finds the token, logs in, looks at the keys. On failure an exit status. */
int station_open(struct station *station);
/* Or wants this process to stop. */
bool engine_is_gone(int timeout_ms);
/* The same; *out_look: it wants keys looked for, which ends the wait. */
bool engine_wants(int timeout_ms, bool *out_look);
void station_set_state(struct station *station, enum shm_state state);
/* With a read lock of module_lock. */
enum err station_session(struct worker *worker, struct p11_error *error);
/* With a read lock: logs in again unless another worker has. Exits the process when the PIN is
 * refused.
 */
enum err station_login(struct station *station, struct p11_error *error);
/* Without the lock: finalizes and initializes the module unless another worker has since
 * `generation`, or it was done a moment ago. */
void station_reinitialize(struct station *station, uint32_t generation);
/* Looks again for keys that were not there. */
void station_check_keys(struct station *station, bool only_missing);
/* What the engine asked for: takes added keys, and looks for one. */
void station_look(struct station *station);
_Noreturn void station_pin_refused(struct station *station, const char *why);
void station_close(struct station *station);

/* --- intake.c --- */
bool intake_init(struct station *station);
/* Waits for jobs and takes a fair share of them, grouped by key; 0 when it is time to look at
 * `stop` again. */
uint32_t intake_take(struct worker *worker, struct slot_ref out[SIGN_BATCH_MAX]);
/* Gives jobs of a batch back to be taken by others. */
void intake_return(struct worker *worker, const struct slot_ref refs[], uint32_t count);
/* Puts results into the done rings at once, each core's in one go, and wakes each core at most
 * once: now, or, where more results of its own are about to follow, with one of those (see
 * may_hold). A core that has no more jobs waiting here than there are sessions is always woken now.
 */
void intake_publish(struct station *station, const struct slot_ref refs[],
                    const struct shm_done results[], uint32_t count);
/* Wakes every worker, to stop. */
void intake_wake_all(struct station *station);

/* --- worker.c --- */
void *worker_main(void *arg);

#endif
