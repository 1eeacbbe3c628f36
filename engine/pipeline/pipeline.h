/* pipeline.h: the path of one request (design, section 2). This table is the architecture.
 *
 *   exchange:  DECODE ─► AUTHENTICATE ─┬─► SETTLE ─► SEAL ─► ENCODE ─► PROTECT ─► RECORD ─► RESPOND
 *   issuance:                          └► VERIFY ─► ADMIT ─► BUILD ─► SIGN ─► CHECK ─► COMMIT ─► (SETTLE)
 *
 * Promise: stages never call one another. A stage gets everything in its queue at once, writes its
 *          own part of each slot and gives a verdict for each; the driver (pipeline.c) moves slots
 *          by verdict and by the table's order. A certificate leaves only with a commit token: of its
 *          own from COMMIT, or, where answers are recorded, of the record it is committed with.
 * Owner:   an exchange is the network's slot (net_request first); an issuance is a slot of this
 *          core's pool. Completions name issuances by generation handle.
 * Threads: one core owns everything here but the verify board, from which others may take jobs.
 */
#ifndef CERTMILL_PIPELINE_PIPELINE_H
#define CERTMILL_PIPELINE_PIPELINE_H

#include "base/clock.h"
#include "base/pool.h"
#include "crypto/mac_cache.h"
#include "factory/device.h"
#include "factory/enroll.h"
#include "factory/identity.h"
#include "factory/settle.h"
#include "factory/transaction.h"
#include "io/mailbox.h"
#include "net/net.h"
#include "pipeline/costly.h"
#include "pipeline/crl_publisher.h"
#include "pipeline/snapshot.h"

_Static_assert((int)PROTO_STATE_WAITS == TRANSACTION_WAITS, "the store counts what a protocol says");

enum stage {
    STAGE_DECODE,       /* exchange: protocol decoder */
    STAGE_AUTHENTICATE, /* exchange: who asks, may they */
    STAGE_VERIFY,       /* issuance: proof of possession */
    STAGE_ADMIT,        /* issuance: line, profile, device */
    STAGE_BUILD,        /* issuance: TBS from the template */
    STAGE_SIGN,         /* issuance: HSM queue */
    STAGE_CHECK,        /* issuance: the token's signature */
    STAGE_COMMIT,       /* issuance: store writer, or put by for RECORD */
    STAGE_SETTLE,       /* exchange: what becomes of older certificates: store writer */
    STAGE_SEAL,         /* exchange: what only its receiver may open, encrypted */
    STAGE_ENCODE,       /* exchange: protocol encoder */
    STAGE_PROTECT,      /* exchange: the answer's own signature or MAC */
    STAGE_RECORD,       /* exchange: what must be remembered of the dialogue: store writer */
    STAGE_RESPOND,      /* exchange: to the network */
    STAGE_COUNT
};

enum verdict {
    VERDICT_NEXT,        /* to the next stage of the table */
    VERDICT_FAN_OUT,     /* exchange: its issuances go on, it waits for them */
    VERDICT_WAIT_COSTLY, /* a job is with the costly worker */
    VERDICT_WAIT_VERIFY, /* a job is on the verify board */
    VERDICT_WAIT_SIGNER,
    VERDICT_WAIT_STORE,
    VERDICT_RESPOND, /* exchange: straight to RESPOND. issuance: it is ready (repeat) */
    VERDICT_REFUSE,  /* err is set */
    VERDICT_ENCODE,  /* exchange: straight to ENCODE */
    VERDICT_DONE,    /* the slot has left */
};

struct caller {
    enum caller_kind kind;
    const struct rt_station *station; /* CALLER_STATION */
    bool has_cert;
    bool superseded;   /* CALLER_DEVICE whose certificate was already renewed */
    uint64_t cert_log; /* CALLER_DEVICE */
    uint8_t device_id_len;
    char device_id[DEVICE_ID_MAX];
    uint8_t name_len;
    char name[STATION_NAME_MAX]; /* for the journal */
};

/* What a unit's costly job is for. */
enum unit_step { UNIT_CHECKS_MAC, UNIT_MAKES_KEY, UNIT_SEALS_KEY };

struct lent_verify {
    struct verify_job job;
    struct unit *unit; /* of a message's signature; NULL: an issuance's */
    bool of_answer;    /* the unit's answer, signed by a token */
    uint32_t home;     /* core */
};

/* One protected message on its way: the exchange's own, or one inside of it. Without messages inside
 * of messages (EST), an exchange is one unit. */
struct unit {
    struct exchange *exchange;
    struct proto_message *message;
    struct proto_outcome *outcomes; /* one a request */
    struct proto_response answer;
    struct caller caller;
    enum err err;
    enum err refused_after; /* it was refused when certificates were issued: those are rejected */
    bool decoded;
    bool journaled; /* as of issuances */
    bool is_checked; /* the protection holds */
    bool is_kept;    /* the answer is on record */
    char detail[128];
    /* message protection */
    struct lent_verify check; /* of the message, then of its answer */
    uint32_t signed_by;       /* token, of the answer */
    struct costly_job costly; /* password, MAC, or a key */
    enum unit_step step;
    struct made_key *made; /* in the arena: a key that is made here; wiped when it is sealed */
    struct x509_cert *signer; /* of the message, in the arena; NULL: none */
    struct mac_params *mac_params; /* in the arena */
    struct mac_key *mac_key;       /* wiped with the exchange */
    struct proto_context *context; /* where the protocol has dialogues */
    /* jobs with the store */
    struct settle_set settle_set;
    uint32_t *settle_of; /* settle_set.items[i] is message->settles[settle_of[i]] */
    struct transaction_row row;
    struct transaction_set row_set;
    struct enroll_set enroll; /* certificates that wait for RECORD; count 0: none, or none any more */
};

struct exchange {
    struct net_request net; /* first: the network's part */
    struct exchange *next;  /* in a stage queue */
    struct snapshot *snapshot;
    const struct rt_line *line;
    struct proto_route route;
    struct proto_request request;
    struct proto_message message;
    struct unit own;
    struct unit *inner; /* in the arena */
    uint32_t inner_count;
    struct crl_blob *crl; /* what it is answered with; given back when the slot is */
    uint32_t issuances_left;
    uint32_t waits; /* jobs of its units that are out */
    struct commit_token token; /* of a confirmation */
    bool basic_checked;        /* the costly answer is in */
    bool inner_answered;
    uint32_t retry_after_s;
    char request_id[REQUEST_ID_LEN + 1];
};

struct issuance {
    struct issuance *next;
    struct exchange *exchange;
    struct unit *unit;
    const struct cert_request *request;
    uint32_t index; /* in the unit's message */
    enum stage stage;
    enum err err;
    bool repeat;
    bool is_put_by;            /* its unit commits it */
    bool journaled;            /* the store's transaction has recorded the refusal already */
    struct bytes refusal_text; /* for the journal, beside the code */
    struct lent_verify verify;
    struct issue_facts facts;
    uint8_t *tbs;
    size_t tbs_len;
    uint8_t *cert;
    size_t cert_len;
    uint64_t cert_log;
    struct commit_token token;
    uint64_t since_ns; /* start of the current wait */
    uint32_t signed_by; /* token */
    uint32_t signature_len;
    uint8_t signature[SIGNATURE_MAX];
};

/* Jobs that any core may take: one producer (the owner), many consumers. */
struct verify_board {
    _Alignas(64) _Atomic uint32_t head;
    _Alignas(64) _Atomic uint32_t tail;
    struct lent_verify *_Atomic slot[VERIFY_BOARD_MAX];
};

struct ex_queue {
    struct exchange *first, **last;
    uint32_t count;
};
struct is_queue {
    struct issuance *first, **last;
    uint32_t count;
};

/* Tags of signing jobs: an issuance's pool handle, whose low half is a slot's index, or a unit's
 * address above a bit that no index has. */
enum { TAG_IS_UNIT = 0x8000 };
_Static_assert(ISSUANCES_PER_CORE_MAX <= TAG_IS_UNIT, "no handle looks like a unit's tag");
static inline uint64_t tag_of_unit(const struct unit *unit)
{
    return (uint64_t)(uintptr_t)unit << 16 | TAG_IS_UNIT;
}
static inline struct unit *unit_of_tag(uint64_t tag)
{
    return (tag & TAG_IS_UNIT) != 0 ? (struct unit *)(uintptr_t)(tag >> 16) : NULL;
}

enum message_kind {
    MSG_CONNECTION, /* value: listener, ptr: descriptor */
    MSG_VERIFIED,   /* ptr: lent_verify */
    MSG_COSTLY,     /* ptr: costly_job */
    MSG_SNAPSHOT,   /* ptr: snapshot */
    MSG_CRL,        /* value: seat, ptr: crl_blob with a reference, or NULL */
    MSG_CRL_SIGN,   /* ptr: crl_sign; to core 0 */
    MSG_DRAIN,
    MSG_STOP,
};

/* What all cores share: set up before they start, read-only but for atomics. */
struct shared {
    uint32_t core_count;
    struct store *store;
    struct hsm *hsm;
    struct costly *costly;
    struct costly *mac_worker; /* yields to everything else */
    struct crl_publisher *crl;
    struct mailboxes *mailboxes;
    struct wake wakes[CORES_MAX];
    struct verify_board *boards[CORES_MAX];
    struct metrics *metrics[CORES_MAX];
    int listen_fds[LISTENERS_MAX];
    bool listen_tls[LISTENERS_MAX];
    uint32_t listener_count;
    struct net_timeouts timeouts;
    uint32_t connections_per_core;
    uint64_t serial_floor_ms;
    uint8_t cache_key[32]; /* of the Basic cache; random per process */
    _Atomic int32_t connections[CORES_MAX];
    _Atomic uint32_t cores_idle; /* drained */
    _Atomic uint32_t cores_stopped;
};

struct basic_cache_entry {
    uint8_t mac[32];
    uint32_t generation;
    uint32_t station_index; /* of the snapshot */
    uint64_t until_ns;
};
enum { BASIC_CACHE_SIZE = 256 };

/* Signers of messages whose paths were validated; stage_authenticate's. */
struct signer_cache_entry {
    _Alignas(8) uint8_t opaque[160];
};
enum { SIGNER_CACHE_SIZE = 256 };

struct rate_bucket {
    uint64_t at_ns;
    double tokens;
};

struct core {
    uint32_t index;
    struct shared *shared;
    struct ring *ring;
    struct timers timers;
    struct chunk_pool chunks;
    struct net *net;
    struct metrics *metrics;
    struct snapshot *snapshot;
    struct snapshot *old[SNAPSHOTS_MAX]; /* still used by exchanges of this core */
    struct store_reader *reader;
    struct pool issuances;
    struct ex_queue ex_queues[STAGE_COUNT];
    struct is_queue is_queues[STAGE_COUNT];
    struct serial_lane serials;
    uint64_t now_ns;
    int64_t now_s;
    uint64_t request_base, request_count;
    struct rate_bucket rates[LINES_MAX];
    struct rate_bucket journal_rate; /* anonymous refusals recorded one by one */
    uint32_t journal_suppressed;
    struct basic_cache_entry basic_cache[BASIC_CACHE_SIZE];
    struct signer_cache_entry signer_cache[SIGNER_CACHE_SIZE];
    struct mac_cache macs;
    struct sweep_set sweep;
    struct timer sweep_timer; /* core 0 */
    uint32_t check_count[CAS_MAX]; /* for verify_one_in */
    struct crl_blob *crls[CAS_MAX]; /* by seat of the publisher; a reference each */
    bool store_dirty, draining, stop, drained_told;
};

typedef enum verdict (*exchange_stage_fn)(struct core *core, struct exchange *exchange);
typedef void (*issuance_stage_fn)(struct core *core, struct issuance *slots[],
                                  enum verdict verdicts[], uint32_t count);

/* --- the stages, one file each --- */
enum verdict stage_decode(struct core *core, struct exchange *exchange);
enum verdict stage_authenticate(struct core *core, struct exchange *exchange);
enum verdict stage_settle(struct core *core, struct exchange *exchange);
enum verdict stage_seal(struct core *core, struct exchange *exchange);
enum verdict stage_encode(struct core *core, struct exchange *exchange);
enum verdict stage_protect(struct core *core, struct exchange *exchange);
enum verdict stage_record(struct core *core, struct exchange *exchange);
enum verdict stage_respond(struct core *core, struct exchange *exchange);
void stage_verify(struct core *core, struct issuance *slots[], enum verdict verdicts[],
                  uint32_t count);
void stage_admit(struct core *core, struct issuance *slots[], enum verdict verdicts[],
                 uint32_t count);
void stage_build(struct core *core, struct issuance *slots[], enum verdict verdicts[],
                 uint32_t count);
void stage_sign(struct core *core, struct issuance *slots[], enum verdict verdicts[],
                uint32_t count);
void stage_check(struct core *core, struct issuance *slots[], enum verdict verdicts[],
                 uint32_t count);
void stage_commit(struct core *core, struct issuance *slots[], enum verdict verdicts[],
                  uint32_t count);

/* Confirmations and refusals go to the store without an issuance. */
enum verdict commit_confirmation(struct core *core, struct exchange *exchange);
/* request: the one that is refused, or NULL. */
void commit_refusal(struct core *core, const struct unit *unit, const struct cert_request *request,
                    enum err err, struct bytes text);
/* A unit's certificates that are not committed: nothing of them has happened. err: why, ERR_OK when
 * another answer takes the place of this one. */
void commit_drop(struct core *core, struct unit *unit, enum err err);
/* Submits a job that the unit's exchange waits for. */
void commit_for_unit(struct core *core, struct unit *unit, struct store_job *job);
/* A unit's certificates with their record: submits them; and what became of them. */
enum err commit_with_record(struct core *core, struct unit *unit) MUST_USE;
void commit_recorded(struct core *core, struct unit *unit, const struct store_job *job);
/* Handles one finished store job. */
void commit_done(struct core *core, struct store_job *job);

/* --- an exchange's units: its own, then the inner ones --- */
uint32_t unit_count(const struct exchange *exchange);
struct unit *unit_at(struct exchange *exchange, uint32_t index);
/* The caller's name for the journal, from what else is known of the caller. */
void caller_name(struct caller *caller);
/* ERR_NOT_AUTHORIZED: a station without this role, or not of this line. */
enum err caller_check_role(const struct exchange *exchange, const struct caller *caller,
                           uint32_t role);
/* The device that a request is about. ERR_IDENTITY_MISMATCH: of a caller who may ask for itself alone,
 * and is another; and what identity_find says. */
enum err caller_check_identity(const struct exchange *exchange, const struct caller *caller,
                               const struct cert_request *request, struct identity *out) MUST_USE;
/* Who the holder of a certificate is: chain[0] and what came with it. In a read of core->reader. */
enum err caller_by_cert(struct core *core, const struct exchange *exchange,
                        const struct bytes chain[], uint32_t chain_count, struct caller *out);

/* --- protected messages (stage_message.c) --- */
/* AUTHENTICATE for protocols whose messages prove their sender themselves. */
enum verdict message_authenticate(struct core *core, struct exchange *exchange);
/* A check of one of the messages came back. */
void message_checked(struct core *core, struct unit *unit, enum err err);
/* What is on record about the unit's dialogue is asked for once more, and followed. */
enum err message_resume(struct core *core, struct unit *unit);
/* The key of the unit's dialogue in the store. */
struct bytes message_transaction_key(const struct unit *unit, uint8_t out[TRANSACTION_KEY_MAX]);
/* A costly job of a unit came back. */
void message_costly_done(struct core *core, struct unit *unit, enum err err);
/* Keys that are made here (stage_seal.c). Starts the jobs of the units that want one and counts them
 * in waits: then FAN_OUT comes after the last. */
void keys_start(struct core *core, struct exchange *exchange);
void key_made(struct core *core, struct unit *unit, enum err err);
void key_sealed(struct core *core, struct unit *unit, enum err err);
/* Once more, when the store had other certificates than those that were sealed. */
void seal_certs(struct unit *unit);
/* Wipes what is left of a key. */
void key_forget(struct unit *unit);
/* Can the certificate be given encrypted, and may its key decrypt? */
enum err seal_check(const struct issuance *issuance) MUST_USE;
/* A signature for an answer came back; and it was verified. */
void protect_done(struct core *core, struct unit *unit, const struct sign_result *result);
void protect_checked(struct core *core, struct unit *unit, enum err err);
/* A job of SETTLE or RECORD came back. */
void settle_done(struct core *core, struct unit *unit, struct store_job *job);
void record_done(struct core *core, struct unit *unit, struct store_job *job);
/* Forgets dialogues whose time has passed; once a second, on one core. */
void sweep_start(struct core *core);
void sweep_due(struct timer *timer);
void sweep_done(struct core *core, struct store_job *job);
/* --- revocation lists (crl_serve.c) --- */
void crl_core_sign(struct core *core, const struct crl_sign *sign);
/* false: not a list's signature. */
bool crl_core_signed(struct core *core, const struct sign_result *result);
void crl_core_take(struct core *core, uint32_t seat, struct crl_blob *blob);
void crl_core_release(struct core *core);
/* DECODE of ACTION_CRL: straight to the answer. */
/* The list of a CA, held until the exchange is over; NULL: there is none. One CA to an exchange. */
const struct crl_blob *crl_hold(struct core *core, struct exchange *exchange, struct bytes ca);
enum verdict crl_serve(struct core *core, struct exchange *exchange);

/* --- the driver --- */
void pipeline_accept(struct core *core, struct exchange *exchange); /* into DECODE */
/* Runs every stage once over its queue; true when there was anything to do. */
bool pipeline_run(struct core *core);
/* A wait is over: the issuance goes on as the verdict says. */
void pipeline_resume(struct core *core, struct issuance *issuance, enum verdict verdict);
void pipeline_resume_exchange(struct core *core, struct exchange *exchange, enum stage stage,
                              enum verdict verdict);
/* The exchange's slot is going away. */
void pipeline_release(struct core *core, struct exchange *exchange);

/* --- verify board (verify_board.c) --- */
bool board_offer(struct verify_board *board, struct lent_verify *job);
uint32_t board_size(const struct verify_board *board);
uint32_t board_take(struct verify_board *board, struct lent_verify *out[], uint32_t max);
/* Works on this core's board, up to VERIFY_PER_TURN_MAX; true when jobs were done. */
bool board_work_own(struct core *core);
/* Takes one chunk of another core; true when jobs were done. */
bool board_work_other(struct core *core);
bool board_any_work(const struct core *core);
/* Wakes sleeping cores when there is enough to lend. */
void board_lend(struct core *core);
void board_result(struct core *core, struct lent_verify *lent);

/* --- core thread --- */
enum err core_create(struct shared *shared, uint32_t index, struct snapshot *snapshot,
                     struct core **out, char out_detail[256]) MUST_USE;
/* Runs until MSG_STOP; call on its own (pinned) thread: the ring belongs to it. */
void core_run(struct core *core);
void core_destroy(struct core *core);

#endif
