/* internal.h: inside hsm/queue: what the cores' side (queue.c, dispatch.c) and the main thread's
 * side (supervise.c, life.c, login.c, spawn.c) share.
 *
 * A signer process is one epoch of its signer. The main thread publishes `epoch_up` when a process
 * is ready and `epoch_dead` when it has ended; each core notices by itself. A core that uses the
 * memory of an epoch says so in `bound`, and looks at `epoch_dead` again after that, while the main
 * thread first says dead and then looks at `bound`: one of the two sees the other, so memory that a
 * core may touch is never unmapped.
 */
#ifndef CERTMILL_HSM_QUEUE_INTERNAL_H
#define CERTMILL_HSM_QUEUE_INTERNAL_H

#include <stdatomic.h>
#include <sys/types.h>

#include "base/clock.h"
#include "hsm/queue/queue.h"
#include "hsm/queue/shm.h"

enum {
    JOB_NONE = 0xffffffff,
    EPOCHS_KEPT = 4, /* memory of dead signers that a core may still look at */
    BREAKER_FAILURES = 8,
    SIGNER_NONE = 0xff,
    LIMIT_UNIT = 4096, /* signer.limit counts in parts of a job */
    LIMIT_WINDOWS = 8, /* of successes for one job more */
};

#define BREAKER_OPEN_MIN_NS (100 * NS_PER_MS)
#define BREAKER_OPEN_MAX_NS (2000 * NS_PER_MS)
/* A failed try on the only signer is repeated after this long, doubled each time. */
#define RETRY_DELAY_NS (5 * NS_PER_MS)
/* How much work is given to a signer ahead of time. */
#define AHEAD_NS (20 * NS_PER_MS)
/* A signer that finishes nothing for this long, though it is given work, is passed over and its
 * work is given to others; see also HANG_* in life.c. */
#define STALL_NS (250 * NS_PER_MS)
/* How often jobs that found no signer look again. */
#define HELD_CHECK_NS (20 * NS_PER_MS)
/* How often a throttling token's limit is lowered at most. */
#define THROTTLE_STEP_NS (3 * NS_PER_MS)
/* A key whose signers are all down is held for this long before requests are refused. */
#define DOWN_GRACE_NS (3000 * NS_PER_MS)

/* --- one signer, shared by all threads --- */

/* What a signer counts and its successors go on counting. */
enum counter {
    COUNT_SIGNED,
    COUNT_LOGINS,
    COUNT_BATCHES,
    COUNT_BATCH_JOBS,
    COUNT_BATCH_SIZE,                                    /* SHM_BATCH_BUCKETS of them */
    COUNT_ERRORS = COUNT_BATCH_SIZE + SHM_BATCH_BUCKETS, /* SHM_CLASSES of them */
    COUNTERS = COUNT_ERRORS + SHM_CLASSES,
};
static_assert((int)HSM_ERROR_CLASSES == (int)SHM_CLASSES, "all classes are told");
static_assert((int)HSM_BATCH_BUCKETS == (int)SHM_BATCH_BUCKETS, "all sizes are told");

struct signer {
    /* cores and main thread */
    _Alignas(64) _Atomic uint32_t epoch_up;
    _Atomic uint32_t epoch_dead;
    _Atomic uint32_t failed;        /* enum err when it will never come back, else 0 */
    _Atomic uint64_t down_since_ns; /* 0: up */
    _Atomic uint32_t misbehaved;    /* epoch that broke the rules of shm.h: to be killed */
    _Atomic(struct shm_signer *) maps[EPOCHS_KEPT];

    _Alignas(64) _Atomic uint32_t in_flight; /* of all cores */
    _Atomic uint32_t limit; /* most jobs in flight while the token throttles, in LIMIT_UNIT;
                             * UINT32_MAX: none */
    _Atomic uint64_t limit_changed_ns;

    _Alignas(64) _Atomic uint32_t failures; /* in a row */
    _Atomic uint32_t breaker_trips;         /* in a row: how long it opens next time */
    _Atomic uint64_t breaker_until_ns;      /* 0: closed; passed: half open, one job may try */
    _Atomic uint32_t breaker_probing;
    _Atomic uint64_t errors_total;
    _Atomic uint64_t expired_total;
    _Atomic uint64_t stalled_ns; /* since when it has been stalled; 0: it is not */

    /* fixed */
    _Alignas(64) uint32_t index;
    uint32_t token_index;
    uint32_t sessions;

    /* main thread alone */
    int phase; /* enum phase */
    pid_t pid;
    int pid_fd;
    int keys_fd;         /* eventfd: it should look for keys; -1: there is no process */
    uint64_t keys_known; /* a bit for each key that this process was told of */
    uint32_t keys_told;  /* of these, after its start */
    uint32_t look_wanted;
    uint32_t epoch; /* of the process that runs now, or ran last */
    uint64_t restart_at_ns;
    uint64_t spawned_ns;
    uint64_t progress_seen, progress_ns; /* for hangs */
    uint32_t quick_deaths;
    uint32_t error_seq_seen;
    bool breaker_was_open;
    /* read by any thread */
    _Atomic int status_pid;
    _Atomic int status_state; /* enum hsm_signer_state */
    _Atomic uint64_t restarts;
    _Atomic uint64_t counted_before[COUNTERS]; /* by processes that have ended */
    _Atomic uint64_t counted_now[COUNTERS];
};

/* --- one core --- */

enum job_state { JOB_FREE, JOB_PENDING, JOB_DELAYED, JOB_SENT, JOB_FINISHED };

struct job {
    uint64_t tag;
    uint64_t deadline_ns;
    uint64_t not_before_ns; /* JOB_DELAYED */
    uint32_t key_index;
    uint32_t input_len;
    uint32_t next, prev; /* in the list of its state */
    uint32_t heap_at;
    uint16_t slot;
    uint8_t signer;
    uint8_t state;
    uint8_t attempts;
    bool probe;      /* its result closes or opens a breaker */
    enum err err;    /* JOB_FINISHED */
    uint32_t avoid;  /* signers that failed it since the last success elsewhere: a bit each */
    uint32_t no_key; /* signers whose token does not hold the key */
    uint8_t input[SHM_INLINE];
};

struct job_list {
    uint32_t head, tail;
};

/* What a core keeps about one signer. */
struct view {
    _Alignas(64) _Atomic uint32_t bound; /* epoch whose memory this core may touch; 0: none */
    bool broken; /* this epoch sent nonsense; nothing more is read from it */
    struct shm_signer *shm;
    struct shm_core rings;
    uint32_t in_flight; /* slots that the signer has, those of abandoned jobs too */
    uint32_t unpublished;
    uint64_t progress_ns; /* last result, or first job after idling */
    uint32_t free_slot_count;
    uint32_t free_side_count;
    uint16_t free_slots[SHM_SLOTS];
    uint16_t free_sides[SHM_SIDES];
    uint32_t slot_job[SHM_SLOTS];  /* JOB_NONE: free, or its job has left */
    uint16_t slot_side[SHM_SLOTS]; /* 0xffff: none */
    uint8_t slot_busy[SHM_SLOTS];
};

struct core {
    struct hsm *hsm;
    uint32_t index;
    uint32_t live; /* jobs accepted and not yet delivered */
    struct job *jobs;
    uint8_t
        *sides; /* inputs too long for struct job: SIGN_INPUT_MAX for each job, touched on use */
    uint32_t free_job;
    struct job_list pending[KEYS_MAX];
    _Atomic uint32_t waiting[KEYS_MAX]; /* pending or delayed; written by this core alone */
    uint64_t pending_keys;              /* a bit for each list that is not empty */
    uint32_t next_key;                  /* round robin */
    uint32_t next_signer;
    struct job_list delayed;
    uint64_t delayed_min_ns;
    struct job_list finished;
    uint64_t held_until_ns; /* earliest time at which a pending job may find a breaker half open */
    uint64_t stall_check_ns;
    uint32_t heap_len;
    uint32_t *heap; /* jobs by deadline */
    struct view *views;
    struct hist *service; /* per token */
    struct sign_result result;
};

static_assert(KEYS_MAX <= 64, "keys are bits of a uint64_t");
static_assert(SIGNERS_MAX <= 32, "signers are bits of a uint32_t");
static_assert(CORES_MAX <= 64, "cores are bits of a uint64_t in the signer");

struct key {
    uint32_t signers; /* a bit for each that serves it */
    uint64_t deadline_ns;
    bool large; /* its signatures do not fit SHM_INLINE */
};

struct hsm {
    uint32_t core_count;
    uint32_t signer_count;
    _Atomic uint32_t key_count; /* grows: keys below it do not change */
    uint32_t token_count;
    struct signer *signers;
    struct core *cores;
    struct key keys[KEYS_MAX];
    struct wake core_wakes[CORES_MAX];
    _Atomic uint32_t stopping;
    struct supervisor *supervisor; /* main thread alone */
    _Atomic uint64_t wrong[TOKENS_MAX]; /* signatures */
    struct hist *token_hist;       /* hsm_service_hist's answer, per token */
};

/* --- queue.c --- */
enum err core_init(struct hsm *hsm, uint32_t index) MUST_USE;
void core_free(struct core *core);
struct job *job_take(struct core *core);
void job_free(struct core *core, struct job *job);
void job_finish(struct core *core, struct job *job, enum err err); /* delivered by the next poll */
static inline uint32_t job_index(const struct core *core, const struct job *job)
{
    return (uint32_t)(job - core->jobs);
}

/* --- heap.c: jobs by deadline --- */
void heap_push(struct core *core, uint32_t job);
void heap_remove(struct core *core, uint32_t job);

/* --- dispatch.c: which signer gets which job --- */
void list_init(struct job_list *list);
void list_push(struct core *core, struct job_list *list, struct job *job);
/* NULL when it is empty. */
struct job *list_pop(struct core *core, struct job_list *list);
void job_make_pending(struct core *core, struct job *job);
/* A try has failed: pending again where another signer can do it, else delayed, or finished when it
 * has been tried SIGN_ATTEMPTS_MAX times. */
void job_try_again(struct core *core, struct job *job, uint64_t now);
/* Takes a job that is pending or delayed out of its list. */
void job_unlink(struct core *core, struct job *job);
/* Delayed jobs whose time has come are pending. */
void wake_delayed(struct core *core, uint64_t now);
/* Passes over signers that have stopped answering. */
void check_stalls(struct core *core, uint64_t now);
/* Hands out what can be handed out, and wakes each signer at most once. */
void dispatch(struct core *core, uint64_t now);
/* Does any signer of this key take work now, or will one soon? */
enum err key_available(struct hsm *hsm, uint32_t key_index, uint64_t now);
/* ERR_OK, or why no signer can ever do this job. */
enum err job_hopeless(struct core *core, const struct job *job);
static inline bool signer_is_up(const struct signer *signer)
{
    return atomic_load_explicit(&signer->epoch_up, memory_order_acquire) >
           atomic_load_explicit(&signer->epoch_dead, memory_order_acquire);
}

/* --- breaker.c --- */
bool breaker_allows(struct signer *signer, uint64_t now);
bool breaker_is_open(struct signer *signer, uint64_t now);
enum hsm_breaker breaker_state(struct signer *signer, uint64_t now);
/* Called when a job is placed; true when this job is the probe of a half-open breaker, false in
 * *out_ok when another one is already. */
bool breaker_claim(struct signer *signer, uint64_t now, bool *out_ok);
void breaker_succeeded(struct signer *signer);
void breaker_failed(struct signer *signer, uint64_t now, bool probe);
void breaker_reset(struct signer *signer);

/* --- view.c: one core's dealings with one signer's memory --- */
/* Follows epoch_up and epoch_dead: binds new memory, lets go of dead and takes its jobs back. */
void view_follow(struct core *core, uint32_t signer_index, uint64_t now);
/* Gives a slot to the signer; published by view_publish. */
void view_send(struct core *core, uint32_t signer_index, struct job *job, uint64_t now);
void view_publish(struct core *core, uint32_t signer_index);
bool view_can_take(const struct view *view, bool side);
/* Checks one record; false when it makes no sense. The slot is free after it; *out_job is JOB_NONE
 * when nobody waits for it any more, and the signature is in core->result. */
bool view_receive(struct core *core, uint32_t signer_index, const struct shm_done *shared,
                  struct shm_done *out, uint32_t *out_job);
/* The job leaves its slot, which stays with the signer until it answers or dies. */
void view_abandon(struct core *core, struct job *job);
/* The signer broke the rules: takes its jobs back and has it killed. */
void view_break(struct core *core, uint32_t signer_index, const char *why);
/* What is with a stalled signer goes to others, where others hold the key. */
void view_rescue(struct core *core, uint32_t signer_index, uint64_t now);
/* Longer than this without a result is a stall. */
uint64_t view_stall_ns(const struct view *view);

/* --- supervise.c --- */
void wake_cores(struct hsm *hsm);

#endif
