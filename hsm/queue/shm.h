/* shm.h: memory that the engine and one incarnation of one signer share, and nobody else.
 *
 * Layout: struct shm_signer, then for each core: submit ring (u32 slot numbers), done ring (struct
 *         shm_done), slots, side buffers. Slot numbers are the engine's to give: a slot is the
 *         signer's from the submit ring until the done ring, so neither ring can overflow.
 * Trust:  the signer believes the engine. The engine believes nothing it reads here: it keeps its
 * own copy of every job and of who owns which slot, checks each record, and copies results out
 *         once. The memfd is sealed against resizing, so that a signer cannot make the engine
 * fault. Threads: cores produce into their own submit ring; the signer's workers consume all submit
 * rings under one lock and produce into the done rings under a lock for each. Limits: SHM_*.
 */
#ifndef CERTMILL_HSM_SHM_H
#define CERTMILL_HSM_SHM_H

#include <stdatomic.h>

#include "base/spsc.h"
#include "limits.h"

enum {
    SHM_MAGIC = 0x434d5347, /* "CMSG" */
    SHM_VERSION = 2,
    SHM_SLOTS = 1024, /* per core and signer; power of two */
    SHM_INLINE = 160, /* input, then signature, of most jobs: ECDSA, EdDSA of short messages */
    SHM_SIDES = 512,  /* larger inputs and RSA and ML-DSA signatures go beside */
    SHM_SIDE_SIZE = SIGN_INPUT_MAX,
    SHM_SIDE_NONE = 0xffffffff,
    SHM_ERROR_TEXT = 160,
    SHM_CLASSES = 8,       /* enum rv_class */
    SHM_BATCH_BUCKETS = 7, /* of up to 1, 2, 4, ... SIGN_BATCH_MAX jobs */
    SHM_KEY_NAME = 72,
    SHM_KEY_URI = 1024,
};

static_assert((SHM_SLOTS & (SHM_SLOTS - 1)) == 0, "ring size");
static_assert(SHM_SLOTS <= SIGN_JOBS_PER_CORE_MAX, "a core never has more jobs than its table");
static_assert(SHM_SLOTS <= 0xffff, "slot numbers are kept in 16 bits");
static_assert(1 << (SHM_BATCH_BUCKETS - 1) == SIGN_BATCH_MAX, "the largest batch has a bucket");
static_assert(SHM_SIDE_SIZE >= SIGNATURE_MAX, "a side buffer takes an input and then a signature");

/* If the signer dies now, a job it has begun may be why. */
enum shm_taken { SHM_WAITING, SHM_BEGUN, SHM_DONE };

struct shm_slot {
    uint32_t key_index;
    uint32_t input_len;
    uint64_t deadline_ns;
    uint32_t side;          /* SHM_SIDE_NONE: data is here */
    _Atomic uint32_t taken; /* enum shm_taken */
    uint64_t spare;
    uint8_t data[SHM_INLINE];
};
static_assert(sizeof(struct shm_slot) == 192, "three cache lines");

enum shm_outcome {
    SHM_SIGNED,
    SHM_RETRY,       /* here later, or elsewhere */
    SHM_KEY_MISSING, /* not in this token */
    SHM_REFUSED,     /* by the token, for this job: no use in trying again */
    SHM_EXPIRED,     /* its deadline had passed before its turn came */
    SHM_OUTCOME_COUNT
};

struct shm_done {
    uint32_t slot;
    uint32_t outcome;
    uint32_t rv; /* of the last try; PKCS#11's values fit 32 bits */
    uint32_t signature_len;
    uint64_t service_ns;
    uint64_t spare;
};
static_assert(sizeof(struct shm_done) == 32, "two to a cache line");

enum shm_state {
    SHM_LOADING,   /* also before the process has written anything */
    SHM_LOGGED_IN, /* the PIN was right */
    SHM_READY,
    SHM_STOPPED,
};

/* Exit statuses of certmill-signer that its supervisor knows. */
enum { SIGNER_EXIT_OK = 0, SIGNER_EXIT_FAILED = 1, SIGNER_EXIT_PIN = 20, SIGNER_EXIT_CONFIG = 21 };

/* A key that was added after the signer had started; texts end in NUL. */
struct shm_key {
    uint32_t index;
    uint32_t mechanism;
    uint8_t allow_extractable;
    uint8_t has_spki;
    uint8_t spki_sha256[32];
    char name[SHM_KEY_NAME];
    char uri[SHM_KEY_URI];
};

struct shm_signer {
    /* written by the engine before the signer starts */
    uint32_t magic;
    uint32_t version;
    uint32_t core_count;
    uint32_t total_len_kib;

    /* Sleeping workers. A waker takes n from `sleepers`, adds n to `searching` and to `tokens` and
     * wakes n futex waiters on it; a worker takes one token when it wakes, and itself out of
     * `searching` when it has looked for work. */
    _Alignas(64) _Atomic uint32_t tokens;
    _Alignas(64) _Atomic uint32_t sleepers;
    _Atomic uint32_t searching;

    /* Turns at C_Login, see login.c: the signer counts up to an odd number to ask and to an even
     * one when it is done; the engine grants that number. A futex. */
    _Alignas(64) _Atomic uint32_t login_wanted;
    _Atomic uint32_t login_granted;

    /* Added keys, written by the engine alone: an entry does not change once the count has passed
     * it. `look_wanted` counts up when the signer should look for the key `look_key`, and an
     * eventfd wakes it; `look_done` follows when the answer is in key_state. */
    _Alignas(64) _Atomic uint32_t added_count;
    _Atomic uint32_t look_key;
    _Atomic uint32_t look_wanted;
    _Atomic uint32_t look_done; /* by the signer */

    /* written by the signer alone */
    _Alignas(64) _Atomic uint32_t state;
    _Atomic uint32_t sessions_open;
    _Atomic uint32_t logins; /* C_Login calls made */
    _Atomic uint32_t reinitialized;
    _Atomic uint64_t service_ns; /* moving average */
    _Atomic uint64_t signed_total;
    _Atomic uint64_t batches_total;
    _Atomic uint64_t batches_by_size[SHM_BATCH_BUCKETS];
    _Atomic uint64_t batch_jobs_total;
    _Atomic uint64_t wakes_total; /* a worker woke up */
    _Atomic uint64_t errors_by_class[SHM_CLASSES];
    /* enum err; ERR_OK when it can sign. An added key's is ERR_KEY_NOT_FOUND, by the engine, before
     * the signer hears of it. */
    _Atomic uint32_t key_state[KEYS_MAX];
    _Atomic uint32_t error_seq; /* odd while the text is being written */
    char error_text[SHM_ERROR_TEXT];

    struct shm_key added[KEYS_MAX];
};

struct shm_core {
    struct spsc submit; /* of uint32_t */
    struct spsc done;   /* of struct shm_done */
    struct shm_slot *slots;
    uint8_t *sides;
};

/* The whole mapping, a multiple of the page size. */
size_t shm_len(uint32_t core_count);
/* `mem` is a mapping of shm_len bytes; no ring is reset: memory of a new memfd is zero, and zero is
 * an empty ring. */
void shm_bind(void *mem, uint32_t core, struct shm_core *out);
static inline uint8_t *shm_data(const struct shm_core *core, const struct shm_slot *slot,
                                uint32_t side)
{
    return side == SHM_SIDE_NONE ? (uint8_t *)slot->data
                                 : core->sides + (size_t)side * SHM_SIDE_SIZE;
}

/* How many jobs one woken worker should find, so that waking it costs little against the signing:
 * one where signing is slow, up to SIGN_BATCH_MAX where it is fast. */
uint32_t shm_share(uint64_t service_ns);
/* Takes up to n sleeping workers and wakes them with one system call, which never blocks; returns
 * how many. */
uint32_t shm_wake(struct shm_signer *shm, uint32_t n);

#endif
