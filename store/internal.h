/* internal.h: what the files of store/ share; nobody else includes it.
 *
 * The wrapper over LMDB (db_*, in lmdb.c, the only includer of lmdb.h) knows tables of bytes and
 * maps errors; txn.c and reader.c know records; writer.c knows jobs; journal.c knows the chain.
 */
#ifndef CERTMILL_STORE_INTERNAL_H
#define CERTMILL_STORE_INTERNAL_H

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>

#include "crypto/digest.h"
#include "store/index.h"
#include "store/store.h"

/* --- tables of bytes (lmdb.c) --- */

enum db {
    DB_META,
    DB_CERTS,
    DB_SERIALS,
    DB_DEVICES,
    DB_KEYS,
    DB_LINES,
    DB_ISSUERS,
    DB_JOURNAL,
    DB_TRANSACTIONS,
    DB_REVOKED,
    DB_CURSORS,
    DB_PENDING,
    DB_EXPIRIES,
    DB_CRLS,
    DB_COUNT
};

enum db_put_mode {
    DB_PUT_ANY,    /* writes over what is there */
    DB_PUT_NEW,    /* ERR_INTERNAL when the key is there, nothing changed */
    DB_PUT_APPEND, /* the key sorts behind all others, else ERR_INTERNAL */
};

struct MDB_env;
struct MDB_txn;
struct MDB_cursor;

struct db_env {
    struct MDB_env *env;
    unsigned dbi[DB_COUNT];
    bool read_only;
    uint64_t filled; /* the file is written to here, ahead of LMDB; under the write lock */
    _Atomic int last_rc;
    char dir[512]; /* for statvfs: is a failed write a full disk? */
};

/* Opens data and lock file in `dir`, makes the tables when absent; ERR_STORE_VERSION, ERR_IO. */
enum err db_env_open(struct db_env *env, const char *dir, uint64_t map_size, bool read_only,
                     char detail[256]) MUST_USE;
void db_env_close(struct db_env *env);
/* Frees the slots of readers whose process died: they would pin old pages. */
void db_env_reap_readers(struct db_env *env);
/* Keeps the file written ahead of what LMDB uses; between transactions. */
void db_env_fill(struct db_env *env);
const char *db_last_error(const struct db_env *env);
void db_env_space(const struct db_env *env, uint64_t *out_map_size, uint64_t *out_map_used);

struct db_txn {
    struct db_env *env;
    struct MDB_txn *txn;
    bool read_only;
    bool dirty;                          /* something was written */
    struct MDB_cursor *cursor[DB_COUNT]; /* write transactions: opened on first use */
};

enum err db_begin(struct db_env *env, bool read_only, struct db_txn *out) MUST_USE;
/* Ends the transaction in both cases. */
enum err db_commit(struct db_txn *txn) MUST_USE;
void db_abort(struct db_txn *txn); /* legal on {0} */
/* Readers: gives the snapshot back and keeps the slot; takes a new snapshot. */
void db_reset(struct db_txn *txn);
enum err db_renew(struct db_txn *txn) MUST_USE;
uint64_t db_txn_id(const struct db_txn *txn);
uint64_t db_entries(const struct db_txn *txn, enum db db);

/* Views are valid until the next write to the same transaction. */
enum err db_get(struct db_txn *txn, enum db db, struct bytes key, struct bytes *out) MUST_USE;
enum err db_put(struct db_txn *txn, enum db db, struct bytes key, struct bytes value,
                enum db_put_mode mode) MUST_USE;
/* Room for len bytes that the caller fills before its next call. */
enum err db_reserve(struct db_txn *txn, enum db db, struct bytes key, size_t len,
                    enum db_put_mode mode, uint8_t **out) MUST_USE;
enum err db_del(struct db_txn *txn, enum db db, struct bytes key) MUST_USE;

/* Walks: `from` with len 0 starts at the end it starts at; else at the first key >= from, backward
 * at the last key <= from. ERR_NOT_FOUND behind the last. */
struct db_walk {
    struct MDB_cursor *cursor;
    bool backward;
};
enum err db_walk_start(struct db_txn *txn, enum db db, struct bytes from, bool backward,
                       struct db_walk *out, struct bytes *out_key,
                       struct bytes *out_value) MUST_USE;
enum err db_walk_next(struct db_walk *walk, struct bytes *out_key,
                      struct bytes *out_value) MUST_USE;
void db_walk_end(struct db_walk *walk); /* legal on {0} */

static inline bool err_is_store(enum err err)
{
    return err == ERR_STORE_FULL || err == ERR_STORE_FAILED;
}

/* --- records (record.c) --- */

/* Records are padded with zeros to this, so that LMDB, whose nodes pack, keeps them aligned. */
enum { RECORD_ALIGN = 8 };
enum { CERT_VALUE_MAX = sizeof(struct cert_record) + 2 * 255 + CERT_DER_MAX + RECORD_ALIGN };
enum {
    JOURNAL_VALUE_MAX = sizeof(struct journal_record) + 2 * 255 + JOURNAL_TEXT_MAX + RECORD_ALIGN
};
enum { STORE_KEY_MAX = 4 + 64 };

static inline size_t record_padded(size_t len)
{
    return (len + RECORD_ALIGN - 1) & ~(size_t)(RECORD_ALIGN - 1);
}

struct journal_view {
    const struct journal_record *record;
    struct bytes who;
    struct bytes what;
    struct bytes text;
};

/* ERR_INTERNAL (logged) when the stored bytes are no such record. */
enum err cert_view_of(uint64_t log, struct bytes value, struct cert_view *out) MUST_USE;
enum err key_view_of(struct bytes value, struct key_view *out) MUST_USE;
enum err journal_view_of(struct bytes value, struct journal_view *out) MUST_USE;
/* Copies a record of fixed size whose first field is its version. */
enum err record_copy(const char *table, struct bytes value, void *out, size_t len) MUST_USE;
enum err pending_copy(struct bytes value, struct pending_record *out) MUST_USE;
enum err transaction_split(struct bytes value, struct transaction_record *out,
                           struct bytes *out_key, struct bytes *out_data) MUST_USE;
enum err expiry_split(struct bytes key, struct bytes value, int64_t *out_expiry_s,
                      uint64_t *out_number) MUST_USE;
enum err crl_split(struct bytes value, struct crl_record *out, struct bytes *out_der) MUST_USE;
uint64_t log_of_key(struct bytes key);

/* u32 big-endian before an id of at most 64 bytes: the keys of devices, serials, revoked. */
struct store_key {
    uint8_t data[STORE_KEY_MAX];
    size_t len;
};
struct store_key store_key_of(uint32_t prefix, struct bytes id);
static inline struct bytes store_key_view(const struct store_key *key)
{
    return bytes_of(key->data, key->len);
}

/* --- the write transaction (txn.c) --- */

struct journal_head {
    uint64_t sequence; /* of the last record, 0: none */
    int64_t time_ns;
    uint8_t hash[SHA256_LEN]; /* of the last record, key and value */
};

/* Counters of a line change with every job but are written once per transaction. */
struct line_slot {
    char name[LINE_NAME_MAX + 1];
    bool dirty;
    struct line_record record;
};

/* What a transaction has told the index of transactions, and what it would tell it. */
struct index_change {
    uint64_t hash;
    uint64_t number;
    bool added; /* it is in the index: taken back if this aborts. Else: removed when it commits */
};

struct store_txn {
    struct store *store;
    struct db_txn db;
    struct journal_head head;
    uint64_t next_log;
    uint64_t next_transaction;
    uint64_t now_ns;
    uint32_t writes; /* records other than journal ones */
    bool revoked_changed;
    enum err failed; /* first environment error, sticky: LMDB refuses to go on after one */
    uint32_t line_count;
    struct line_slot lines[LINES_MAX];
    struct index_change *changes; /* kept from one transaction to the next */
    uint32_t change_count, change_cap;
};

/* One at a time, on any thread; the store's write lock is held until commit or abort. */
enum err store_txn_begin(struct store *store, struct store_txn **out) MUST_USE;
enum err store_txn_commit(struct store_txn *txn, struct commit_token *out) MUST_USE;
void store_txn_abort(struct store_txn *txn);

/* The tables. Every result passes through txn_note: an environment error sticks. */
enum err txn_note(struct store_txn *txn, enum err err) MUST_USE;
enum err txn_get(struct store_txn *txn, enum db db, struct bytes key, struct bytes *out) MUST_USE;
enum err txn_put(struct store_txn *txn, enum db db, struct bytes key, struct bytes value) MUST_USE;
/* ERR_NOT_FOUND wrote nothing. */
enum err txn_del(struct store_txn *txn, enum db db, struct bytes key) MUST_USE;
enum err txn_line_by_id(struct store_txn *txn, uint32_t line_id, struct line_slot **out) MUST_USE;

/* --- transactions.c --- */

/* Makes the index; rows of earlier versions get their new form. */
enum err transactions_open(struct store *store) MUST_USE;
/* At the end of a write transaction, while its lock is held. */
void transactions_settle(struct store_txn *txn, bool committed);
/* Of a store that is not read-only; `db`: a snapshot or the write transaction. */
enum err transaction_find(struct store *store, struct db_txn *db, struct bytes key,
                          struct transaction_record *out, struct bytes *out_data) MUST_USE;

/* --- journal.c --- */

enum err journal_head_load(struct db_txn *txn, struct journal_head *out) MUST_USE;
enum err journal_verify(struct db_txn *txn, uint64_t *out_count, uint64_t *out_bad) MUST_USE;

/* --- the store --- */

struct store_writer;

struct store {
    struct db_env db;
    int lock_fd;
    uint64_t secret[2]; /* of this process: seals commit tokens */
    _Atomic uint64_t synced_txn;

    /* held while waiting for write_lock: who waits is next, so that a busy writer, which unlocks
     * and locks again at once, lets the main thread in after its transaction */
    pthread_mutex_t next_lock;
    pthread_mutex_t write_lock; /* around a write transaction and what follows from it: */
    struct journal_head head;
    uint64_t next_log;
    uint64_t next_transaction;
    uint64_t clock_behind_ns; /* > 0: wall time is behind the journal */
    struct store_txn txn;
    struct index index; /* of `transactions` */

    struct store_writer *writer;
    _Atomic uint64_t cert_count;
    _Atomic uint64_t device_count;
    _Atomic uint64_t journal_count;
    _Atomic uint64_t commits;
    _Atomic uint64_t revocations; /* commits that changed what is revoked */
    _Atomic uint64_t committed_jobs;
    _Atomic uint64_t last_commit_ns;
    _Atomic bool failing;
    struct hist commit_hist;
};

/* Stops the writer and gives its memory back. */
void store_writer_free(struct store *store);
struct commit_token store_seal(const struct store *store, uint64_t txn_id);
/* This transaction is on disk: tokens up to it are valid. */
void store_synced(struct store *store, uint64_t txn_id);

#endif
