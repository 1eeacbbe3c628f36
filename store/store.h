/* store.h: where facts become durable.
 *
 * Promise: a job whose result is ERR_OK is committed and synced (LMDB with its default, fully durable
 *          flags) and carries a commit token that nothing else can make. One writer thread applies
 *          whatever all cores have staged in one transaction; the jobs of a transaction that fails
 *          to commit are all answered with its error and none of them has happened.
 * Owner:   a job slot belongs to the core from take to submit and from poll to release, to the
 *          writer in between.
 * Threads: job calls on the owning core; `apply` runs on the writer thread; readers are one per
 *          thread; open, start, stop on the main thread.
 * Errors:  ERR_STORE_FULL (map or disk), ERR_STORE_FAILED, ERR_STOPPING, or what apply returned.
 * Limits:  STORE_* (limits.h).
 */
#ifndef CERTMILL_STORE_STORE_H
#define CERTMILL_STORE_STORE_H

#include <sys/types.h>

#include "base/bytes.h"
#include "base/metrics.h"
#include "base/wake.h"
#include "store/schema.h"

struct store;
struct store_txn;    /* the writer's transaction, inside apply */
struct store_reader; /* a lock-free snapshot */

struct store_config {
    const char *dir; /* created with 0700 when absent */
    uint64_t map_size; /* 0: STORE_MAP_SIZE_DEFAULT */
    bool read_only;    /* the CLI */
};

/* ERR_STORE_VERSION, ERR_STORE_BUSY (another daemon holds the lock), ERR_IO. out_detail (may be NULL)
 * gets one line on what to do. */
enum err store_open(const struct store_config *config, struct store **out, char out_detail[256])
    MUST_USE;
void store_close(struct store *store);

/* --- writing --- */

/* Proof of durability: only store.c makes one (from a commit or from a read of committed data). */
struct commit_token {
    uint64_t txn_id;
    uint64_t seal;
};
/* What RESPOND asserts before a certificate leaves (P1). */
bool commit_token_is_valid(const struct store *store, struct commit_token token);

struct store_job {
    uint64_t tag; /* the caller's */
    /* Decides and writes. Must decide before its first write: a refusal writes nothing but journal
     * records. Environment errors (ERR_STORE_FULL, ERR_STORE_FAILED) abort the transaction. */
    enum err (*apply)(struct store_txn *txn, struct store_job *job);
    enum err err;              /* result */
    struct commit_token token; /* result */
    uint64_t staged_ns;
    uint32_t weight; /* certificates it writes, for the size of transactions; 0: one */
    uint32_t facts_len;
    uint32_t data_len;         /* in: the certificate; out: the certificate to answer with */
    /* The caller's memory, for what does not fit here: valid, and not touched by the caller, until
     * the job is polled back (store_run: until it returns). The apply function says whether it
     * writes there; what it wrote counts only when err is ERR_OK. */
    void *extra;
    _Alignas(16) uint8_t facts[512]; /* the factory's struct */
    uint8_t data[STORE_JOB_DATA_MAX];
};

/* Starts the writer for this many cores; each core is woken through its wake. */
enum err store_start(struct store *store, uint32_t core_count, const struct wake core_wakes[])
    MUST_USE;
/* Commits what is staged, then ends the writer. */
void store_stop(struct store *store);

/* NULL when the core's slots are all in use: shed load. Only the header is cleared. */
struct store_job *store_job_take(struct store *store, uint32_t core);
/* Never fails: a taken slot has its place in the queue. The writer is woken by store_kick. */
void store_job_submit(struct store *store, uint32_t core, struct store_job *job);
/* Once per turn after the last submit: at most one wake. */
void store_kick(struct store *store, uint32_t core);
/* The next finished job or NULL; give it back with store_job_release. */
struct store_job *store_poll(struct store *store, uint32_t core);
bool store_pending(struct store *store, uint32_t core);
void store_job_release(struct store *store, uint32_t core, struct store_job *job);

/* Applies one job from any thread but a core's, in a transaction of its own between the writer's, and waits
 * for its sync: sets err and token as the writer does, and returns err. The job is the caller's own
 * memory, not one of a core's; the writer may run or not. Waits for at most one commit of the
 * writer's. */
enum err store_run(struct store *store, struct store_job *job) MUST_USE;

/* --- inside apply: typed records; ERR_OK, ERR_NOT_FOUND, ERR_STORE_FULL, ERR_STORE_FAILED --- */

struct cert_view {
    uint64_t log;
    const struct cert_record *record;
    struct bytes device_id;
    struct bytes station;
    struct bytes der;
};

struct key_view {
    const struct key_record *record;
    struct bytes device_id;
};

enum err txn_device_get(struct store_txn *txn, uint32_t line_id, struct bytes device_id,
                        struct device_record *out) MUST_USE;
enum err txn_device_put(struct store_txn *txn, uint32_t line_id, struct bytes device_id,
                        const struct device_record *record) MUST_USE;
enum err txn_device_del(struct store_txn *txn, uint32_t line_id, struct bytes device_id) MUST_USE;
/* The certificate of this device that waits for its confirmation. */
enum err txn_pending_get(struct store_txn *txn, uint32_t line_id, struct bytes device_id,
                         struct pending_record *out) MUST_USE;
enum err txn_pending_put(struct store_txn *txn, uint32_t line_id, struct bytes device_id,
                         const struct pending_record *record) MUST_USE;
enum err txn_pending_del(struct store_txn *txn, uint32_t line_id, struct bytes device_id) MUST_USE;
/* A place in the order of `pending`; {0}: before the first row. Rows may come and go meanwhile. */
struct pending_at {
    uint8_t key_len;
    uint8_t key[4 + DEVICE_ID_MAX];
};
/* The next row. ERR_NOT_FOUND behind the last one; *at is {0} then. */
enum err txn_pending_next(struct store_txn *txn, struct pending_at *at,
                          struct pending_record *out) MUST_USE;
enum err txn_key_get(struct store_txn *txn, const uint8_t spki_hash[32], struct key_view *out)
    MUST_USE;
enum err txn_key_put(struct store_txn *txn, const uint8_t spki_hash[32],
                     const struct key_record *record, struct bytes device_id) MUST_USE;
enum err txn_cert_get(struct store_txn *txn, uint64_t log, struct cert_view *out) MUST_USE;
/* Assigns the log number, writes `certs` and `serials`; a serial already there is ERR_INTERNAL. */
enum err txn_cert_append(struct store_txn *txn, const struct cert_record *record,
                         struct bytes device_id, struct bytes station, struct bytes der,
                         uint64_t *out_log) MUST_USE;
/* Replaces the fixed part alone. */
enum err txn_cert_update(struct store_txn *txn, uint64_t log, const struct cert_record *record)
    MUST_USE;
enum err txn_serial_find(struct store_txn *txn, uint32_t issuer_id, struct bytes serial,
                         uint64_t *out_log) MUST_USE;
enum err txn_line_get(struct store_txn *txn, const char *name, struct line_record *out) MUST_USE;
enum err txn_line_put(struct store_txn *txn, const char *name, const struct line_record *record)
    MUST_USE;
/* Adds to a line's counters (and its first and last time of issue): kept in the transaction and written
 * once at its end. ERR_NOT_FOUND: no line has this id. */
enum err txn_line_count(struct store_txn *txn, uint32_t line_id, uint64_t issued, uint64_t refused)
    MUST_USE;
enum err txn_revoked_put(struct store_txn *txn, uint32_t issuer_id, struct bytes serial,
                         const struct revoked_record *record) MUST_USE;
/* Also of a hold that was taken back (REASON_REMOVE). */
enum err txn_revoked_get(struct store_txn *txn, uint32_t issuer_id, struct bytes serial,
                         struct revoked_record *out) MUST_USE;
/* In place of the one before. der: not a view into this store; may be large (some 40 bytes for each
 * entry), and the commit that carries it takes as long as writing it does. */
enum err txn_crl_put(struct store_txn *txn, uint32_t issuer_id, const struct crl_record *record,
                     struct bytes der) MUST_USE;
/* key: at most TRANSACTION_KEY_MAX bytes. data: opaque, not a view into this store. A put over an
 * existing one moves its expiry. */
#define TRANSACTION_KEY_MAX 64
enum err txn_transaction_get(struct store_txn *txn, struct bytes key, struct transaction_record *out,
                             struct bytes *out_data) MUST_USE;
enum err txn_transaction_put(struct store_txn *txn, struct bytes key,
                             const struct transaction_record *record, struct bytes data) MUST_USE;
enum err txn_transaction_del(struct store_txn *txn, struct bytes key) MUST_USE;
/* How many rows of this key's line have TRANSACTION_WAITS (put and del keep the count). ERR_NOT_FOUND:
 * the key names no line; no row with it can have that. */
enum err txn_transactions_waiting(struct store_txn *txn, struct bytes key, uint32_t *out) MUST_USE;
/* The one that expired first, if its expiry <= now_s; else ERR_NOT_FOUND. The key is a copy, the data
 * a view until the next write. */
enum err txn_transaction_next_expired(struct store_txn *txn, int64_t now_s,
                                      uint8_t out_key[TRANSACTION_KEY_MAX], size_t *out_key_len,
                                      struct transaction_record *out, struct bytes *out_data)
    MUST_USE;

struct journal_entry {
    enum journal_kind kind;
    enum journal_protocol protocol;
    enum err err;
    uint32_t line_id;
    uint64_t cert_log;
    struct bytes who;  /* at most 255 */
    struct bytes what; /* at most 255 */
    struct bytes text; /* at most JOURNAL_TEXT_MAX */
};
enum err txn_journal(struct store_txn *txn, const struct journal_entry *entry) MUST_USE;
/* Wall time of this transaction, read once. */
int64_t txn_now_s(const struct store_txn *txn);

/* --- reading --- */

/* One per thread that reads. */
enum err store_reader_new(struct store *store, struct store_reader **out) MUST_USE;
void store_reader_free(struct store_reader *reader);
/* A snapshot of what is committed and synced now; views from it are valid until reader_end. */
enum err reader_begin(struct store_reader *reader) MUST_USE;
void reader_end(struct store_reader *reader);
/* Token for data read in this snapshot. */
struct commit_token reader_token(const struct store_reader *reader);

enum err reader_device(struct store_reader *reader, uint32_t line_id, struct bytes device_id,
                       struct device_record *out) MUST_USE;
enum err reader_pending(struct store_reader *reader, uint32_t line_id, struct bytes device_id,
                        struct pending_record *out) MUST_USE;
enum err reader_key(struct store_reader *reader, const uint8_t spki_hash[32], struct key_view *out)
    MUST_USE;
enum err reader_cert(struct store_reader *reader, uint64_t log, struct cert_view *out) MUST_USE;
enum err reader_serial(struct store_reader *reader, uint32_t issuer_id, struct bytes serial,
                       uint64_t *out_log) MUST_USE;
enum err reader_line(struct store_reader *reader, const char *name, struct line_record *out)
    MUST_USE;
/* The issuer's id (store_issuer_id), when it has one. */
enum err reader_issuer(struct store_reader *reader, const uint8_t issuer_hash[32],
                       uint32_t *out_id) MUST_USE;
/* ERR_NOT_FOUND also of a hold that was taken back. */
enum err reader_revoked(struct store_reader *reader, uint32_t issuer_id, struct bytes serial,
                        struct revoked_record *out) MUST_USE;
/* Not of a store that is open read-only: it has no index of them. Of a row that was deleted and put anew
 * since the snapshot was taken: ERR_NOT_FOUND; the writer decides. */
enum err reader_transaction(struct store_reader *reader, struct bytes key,
                            struct transaction_record *out, struct bytes *out_data) MUST_USE;
/* The issuer's CRL: a view, however large. */
enum err reader_crl(struct store_reader *reader, uint32_t issuer_id, struct crl_record *out,
                    struct bytes *out_der) MUST_USE;
/* What this issuer has revoked or put on hold, in the order of serials; fn returns false to stop. */
enum err reader_revoked_each(struct store_reader *reader, uint32_t issuer_id,
                             bool (*fn)(void *ctx, struct bytes serial,
                                        const struct revoked_record *record),
                             void *ctx) MUST_USE;
/* How many those are; counted one by one. */
enum err reader_revoked_count(struct store_reader *reader, uint32_t issuer_id, uint64_t *out_count)
    MUST_USE;
/* Newest first when `backward`; fn returns false to stop. `from`: log number or sequence, 0 = the
 * end it starts at. */
enum err reader_certs_each(struct store_reader *reader, uint64_t from, bool backward,
                           bool (*fn)(void *ctx, const struct cert_view *cert), void *ctx) MUST_USE;
enum err reader_journal_each(struct store_reader *reader, uint64_t from, bool backward,
                             bool (*fn)(void *ctx, const struct journal_record *record,
                                        struct bytes who, struct bytes what, struct bytes text),
                             void *ctx) MUST_USE;
enum err reader_lines_each(struct store_reader *reader,
                           bool (*fn)(void *ctx, struct bytes name, const struct line_record *line),
                           void *ctx) MUST_USE;
/* `line_id` 0: all. */
enum err reader_devices_each(struct store_reader *reader, uint32_t line_id,
                             bool (*fn)(void *ctx, uint32_t line_id, struct bytes device_id,
                                        const struct device_record *device),
                             void *ctx) MUST_USE;

/* --- set-up, main thread, synchronous (own write transaction; writer not started yet or between its
 *     transactions) --- */

/* The line's id, made on first use. */
enum err store_line_id(struct store *store, const char *name, uint32_t *out_id) MUST_USE;
/* The issuer's id, made on first use; key: SHA-256 over SPKI ‖ subject. */
enum err store_issuer_id(struct store *store, const uint8_t issuer_hash[32], uint32_t *out_id)
    MUST_USE;
enum err store_journal(struct store *store, const struct journal_entry *entry) MUST_USE;

struct store_stats {
    uint64_t cert_count;
    uint64_t device_count;
    uint64_t journal_count;
    uint64_t map_size;
    uint64_t map_used;
    uint64_t commits;
    uint64_t committed_jobs;
    uint64_t last_commit_ns; /* duration */
    bool failing;            /* the last commit failed */
};
void store_stats(struct store *store, struct store_stats *out);
/* Rises with every commit that revokes, holds or releases; starts anew at each open. Any thread. */
uint64_t store_revocations(const struct store *store);
struct hist *store_commit_hist(struct store *store);
/* Walks journal and checks every hash, sequence and order. ERR_OK and *out_bad 0: all fits.
 * ERR_STORE_FAILED and *out_bad > 0: the first sequence that is missing or does not fit. */
enum err store_journal_verify(struct store_reader *reader, uint64_t *out_count, uint64_t *out_bad)
    MUST_USE;

#endif
