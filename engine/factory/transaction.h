/* transaction.h: what a protocol must remember between the messages of a transaction, and the end
 * of those that nobody finishes.
 *
 * Promise: the rows of a set are written all or none. A transaction that expires is ended once:
 *          what still waits for its confirmation is rejected (settle.h) in the same commit that
 *          forgets it, unless a later transaction about the same certificate has longer to live.
 *          A certificate that waits without a transaction (a crash came between the two commits)
 *          is rejected likewise, but not before any dialogue about it must have ended (device.h).
 * Owner:   sets are the caller's (store_job.extra) until the job is polled back.
 * Threads: apply functions on the writer thread, or through store_run.
 * Errors:  ERR_TRANSACTION_IN_USE, ERR_WAITING_FULL; ERR_STORE_FULL, ERR_STORE_FAILED, ERR_INTERNAL.
 * Limits:  TRANSACTION_ROWS_MAX; SWEEP_CERTS_MAX; WAITING_PER_LINE_MAX.
 */
#ifndef CERTMILL_FACTORY_TRANSACTION_H
#define CERTMILL_FACTORY_TRANSACTION_H

#include "store/store.h"

/* The head of a row's data that tells whose it is: the senderNonce of the request, say. */
#define TRANSACTION_MARK_LEN 16
#define TRANSACTION_ROWS_MAX CMP_REQUESTS_PER_MESSAGE_MAX

/* Which certificates of this row still wait, and of what line: at most max logs into out_logs, returns
 * how many. Pure; runs on the writer thread. */
typedef uint32_t transaction_pending(struct bytes data, uint8_t state, uint64_t out_logs[],
                                     uint32_t max, uint32_t *out_line_id);

struct transaction_row {
    uint8_t key_len; /* 1..TRANSACTION_KEY_MAX */
    uint8_t key[TRANSACTION_KEY_MAX];
    uint8_t state;    /* with TRANSACTION_WAITS (schema.h): one of WAITING_PER_LINE_MAX */
    bool kept;        /* out, only_new: this very row was there already and stays: answer from it */
    int64_t expiry_s; /* >= 0 */
    struct bytes data;
};

/* job->extra. */
struct transaction_set {
    struct transaction_row *rows; /* keys differ */
    uint32_t count;               /* 0..TRANSACTION_ROWS_MAX */
    uint8_t protocol;             /* enum journal_protocol */
    /* First messages. A row of this key is there
     *   - with another mark: ERR_TRANSACTION_IN_USE, nothing is written. Also when it has expired
     * and waits to be swept, since it still says what to reject;
     *   - with the same mark, alive: the same request came twice and the other one was first. Its
     * row stays and `kept` says so: its stored answer is the one to give;
     *   - with the same mark, expired: written over.
     * A row that would wait for an operator where as many do as may: ERR_WAITING_FULL, nothing is
     * written. */
    bool only_new;
    transaction_pending *pending; /* NULL: no certificate waits in these rows */
};

/* store_job.apply: puts all rows. No facts. A row that waited uncounted (earlier versions did not
 * count) and waits still is not counted either. */
enum err transactions_apply(struct store_txn *txn, struct store_job *job);

/* Inside a transaction. May a first message's row be written (only_new)? Sets row->kept.
 * ERR_TRANSACTION_IN_USE. */
enum err transaction_look(struct store_txn *txn, struct transaction_row *row) MUST_USE;
enum err transaction_put(struct store_txn *txn, const struct transaction_row *row,
                         uint8_t protocol) MUST_USE;

/* A sweep ends after the row that reaches this many certificates, so that no commit takes long. */
#define SWEEP_CERTS_MAX CMP_REQUESTS_PER_MESSAGE_MAX
/* Rows of `pending` that a sweep looks at when nothing else has expired: it goes on where the one
 * before it stopped, and begins again after the last row. */
#define SWEEP_PENDING_MAX 256

/* job->facts. */
struct sweep_facts {
    int64_t now_s;
    uint32_t max; /* rows at most */
};

/* job->extra. */
struct sweep_set {
    transaction_pending *pending;
    struct pending_at at; /* how far `pending` was looked through; the caller's between sweeps */
    uint32_t done;        /* out: rows deleted */
    uint32_t rejected;    /* out: certificates revoked */
    bool more;         /* out: there are more that have expired */
};

/* store_job.apply: deletes expired rows and rejects what waits in them (REASON_UNSPECIFIED; the
 * journal says confirm-time-passed). What was confirmed or revoked meanwhile is left as it is,
 * without a word. Then, when no more have expired, what waits and has no transaction. */
enum err sweep_apply(struct store_txn *txn, struct store_job *job);

#endif
