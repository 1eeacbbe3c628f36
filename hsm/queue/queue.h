/* queue.h: signing jobs from the cores to the signer processes.
 *
 * Promise: an accepted job completes exactly once on the core that submitted it: with a signature,
 *          or with a classed error by its deadline at the latest. Jobs in flight in a signer that
 *          dies are given to another (or to its successor): nothing was released, so repeating
 *          one is safe.
 * Owner:   inputs are copied at submit; a result is copied out by poll.
 * Threads: submit and poll on the owning core; start, add_key, supervise and stop on the main
 *          thread. A core learns of an index that add_key gave by a message that orders memory. The
 *          engine never maps a PKCS#11 module and never sees a PIN: signers read it themselves.
 * Errors:  submit: ERR_FULL (shed load), ERR_STOPPING, ERR_SIGNER_UNAVAILABLE (every breaker open).
 *          results: ERR_OK, ERR_DEADLINE, ERR_SIGNER_FAILED, ERR_SIGNER_UNAVAILABLE,
 *          ERR_KEY_NOT_FOUND, ERR_PIN_WRONG.
 * Units:   deadlines and service times in ns, monotonic.
 * Limits:  SIGN_* , SIGNERS_MAX, TOKENS_MAX, KEYS_MAX (limits.h).
 */
#ifndef CERTMILL_HSM_QUEUE_H
#define CERTMILL_HSM_QUEUE_H

#include "base/bytes.h"
#include "base/metrics.h"
#include "base/wake.h"
#include "limits.h"

enum sign_mechanism {
    SIGN_MECH_ECDSA,          /* input: digest; result: DER Ecdsa-Sig-Value */
    SIGN_MECH_RSA_PKCS1,      /* input: DigestInfo DER */
    SIGN_MECH_RSA_PSS_SHA256, /* input: digest */
    SIGN_MECH_RSA_PSS_SHA384,
    SIGN_MECH_RSA_PSS_SHA512,
    SIGN_MECH_EDDSA,  /* input: message */
    SIGN_MECH_ML_DSA, /* input: message */
    SIGN_MECH_COUNT
};

/* What a signer process needs to open a token. Strings live as long as the hsm. */
struct hsm_token_config {
    const char *name;
    const char *module_path;
    const char *uri;      /* RFC 7512: which token (and slot) inside the module */
    const char *pin_file; /* one of these three; read by the signer alone */
    const char *pin_env;
    const char *pin_credential; /* systemd credential name */
    uint32_t signer_count;      /* processes, >= 1 */
    uint32_t sessions;          /* worker threads of each; one session more holds the login */
    uint32_t deadline_ms;       /* of one job; 0: SIGN_DEADLINE_MS */
    const char *rv_classes;     /* overrides, "CKR_NAME=class,..." or NULL */
    bool allow_network;         /* the module reaches its HSM over TCP: the sandbox lets it */
};

struct hsm_key_config {
    const char *name;
    const char *uri;             /* RFC 7512 object part: object=..., id=... */
    uint32_t tokens[TOKENS_MAX]; /* which tokens hold it */
    uint32_t token_count;
    enum sign_mechanism mechanism;
    bool allow_extractable; /* test lines only */
    bool has_spki;          /* then a key with another SubjectPublicKeyInfo than this is refused */
    uint8_t spki_sha256[32];
};

struct hsm_config {
    const struct hsm_token_config *tokens;
    uint32_t token_count;
    const struct hsm_key_config *keys;
    uint32_t key_count;
    const char *signer_path; /* certmill-signer; NULL: beside this binary */
    uint32_t core_count;
    const struct wake *core_wakes; /* flags live in hsm_wake_flags memory, see below */
};

struct hsm;

/* Flags for the cores' wakes in memory that signers can map; call before creating the wakes. */
struct wake_flag *hsm_wake_flags(uint32_t core_count);

/* Spawns the signers (posix_spawn with close-on-exec everywhere) and waits until each has opened
 * its token or failed, at most timeout_ms. A wrong PIN is tried once and stops that signer for
 * good. */
enum err hsm_start(const struct hsm_config *config, uint32_t timeout_ms, struct hsm **out) MUST_USE;
/* Reaps, restarts with back-off (at once the first time), opens and closes breakers. Call at least
 * every 100 ms. Returns a descriptor to poll for readability between calls through out_fd. */
void hsm_supervise(struct hsm *hsm);
int hsm_supervise_fd(const struct hsm *hsm);
/* Makes one more key known to every signer, those that start later too, while cores submit. Waits,
 * at most timeout_ms, until the signers that are up have looked for it; at least one must have
 * found it fit. ERR_OK: *out_index is for jobs submitted after this call; a key that is known
 * already (the same URI, tokens, mechanism and rules) keeps its index. Keys are never taken away:
 * KEYS_MAX is for the life of the hsm. Strings are copied. Other errors change nothing for the
 * cores, and `reason` says why: ERR_KEY_NOT_FOUND, ERR_CONFIG (refused by rule, or another key than
 * the certificate's), ERR_PIN_WRONG, ERR_SIGNER_UNAVAILABLE (no signer could look in time),
 * ERR_FULL, ERR_NO_SPACE. */
enum { HSM_REASON_MAX = 256 };
enum err hsm_add_key(struct hsm *hsm, const struct hsm_key_config *key, uint32_t timeout_ms,
                     uint32_t *out_index, char out_reason[HSM_REASON_MAX]) MUST_USE;
/* Asks signers to finish, waits at most timeout_ms, then kills the ones it started. */
void hsm_stop(struct hsm *hsm, uint32_t timeout_ms);

struct sign_job {
    uint64_t tag; /* the caller's, comes back with the result */
    uint32_t key_index;
    struct bytes input; /* at most SIGN_INPUT_MAX */
    uint64_t deadline_ns;
};

struct sign_result {
    uint64_t tag;
    enum err err;
    uint32_t key_index;
    uint32_t token_index; /* who signed */
    uint32_t signature_len;
    uint64_t service_ns; /* in the token, as the signer measured it */
    uint8_t signature[SIGNATURE_MAX];
};

/* Accepts jobs[0..return); the first refused one's reason in *out_err (ERR_OK when all went). At
 * most one wake per signer. */
uint32_t hsm_submit(struct hsm *hsm, uint32_t core, const struct sign_job jobs[], uint32_t count,
                    enum err *out_err);
/* Calls fn for up to max completed jobs; the result is valid during the call. Also expires
 * deadlines and moves jobs away from dead signers, so call it every turn and when
 * hsm_next_deadline passes. */
uint32_t hsm_poll(struct hsm *hsm, uint32_t core, uint32_t max,
                  void (*fn)(void *ctx, const struct sign_result *result), void *ctx);
/* Anything for hsm_poll to do right now? Checked between wake_prepare and sleeping. */
bool hsm_pending(struct hsm *hsm, uint32_t core);
/* Earliest deadline of this core's jobs, UINT64_MAX when none. */
uint64_t hsm_next_deadline(struct hsm *hsm, uint32_t core);

/* For metrics and status; any thread. */
enum hsm_signer_state { HSM_SIGNER_DOWN, HSM_SIGNER_STARTING, HSM_SIGNER_UP, HSM_SIGNER_FAILED };
/* Half open: one job at a time may try whether the token is back. */
enum hsm_breaker { HSM_BREAKER_CLOSED, HSM_BREAKER_HALF_OPEN, HSM_BREAKER_OPEN };
struct hsm_signer_status {
    const char *token;
    int pid;
    enum hsm_signer_state state;
    bool breaker_open;
    enum hsm_breaker breaker;
    uint32_t sessions;
    uint32_t in_flight;
    uint64_t signed_total;
    uint64_t errors_total;
    uint64_t restarts;
    uint64_t batches_total;
    char last_error[160];
};
uint32_t hsm_status(struct hsm *hsm, struct hsm_signer_status out[SIGNERS_MAX]);
struct hist *hsm_service_hist(struct hsm *hsm, uint32_t token_index);

enum {
    HSM_ERROR_CLASSES = 8, /* enum rv_class */
    HSM_BATCH_BUCKETS = 7, /* batches of 1, up to 2, 4, ... SIGN_BATCH_MAX jobs */
};

/* All signers of one token; counters go on when its processes are restarted. */
struct hsm_token_status {
    const char *name;
    uint32_t signers, signers_up;
    uint32_t breakers_open; /* or half open, of signers that are up */
    uint32_t waiting; /* jobs that no signer has yet; counted for each token that may do them */
    uint32_t in_flight;
    uint64_t signed_total;
    uint64_t restarts;
    uint64_t wrong_total;   /* signatures that hsm_signature_was_wrong was told of */
    uint64_t expired_total; /* jobs whose deadline passed while they were with this token */
    uint64_t logins;        /* C_Login calls */
    uint64_t errors[HSM_ERROR_CLASSES];
    uint64_t batches[HSM_BATCH_BUCKETS];
    uint64_t batch_jobs; /* in all of them */
};
/* In the order of the configuration; returns how many. */
uint32_t hsm_token_status(struct hsm *hsm, struct hsm_token_status out[TOKENS_MAX]);
/* "retry", as rv_class_name has it. Never NULL. */
const char *hsm_error_class_name(uint32_t error_class);

/* A signature of this token did not verify: counted, and an alarm in the log. Any thread. */
void hsm_signature_was_wrong(struct hsm *hsm, uint32_t token_index);

#endif
