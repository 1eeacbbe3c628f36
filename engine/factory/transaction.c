#include "factory/transaction.h"

#include <assert.h>

#include "base/log.h"
#include "factory/lifecycle.h"
#include "factory/settle.h"

/* --- rows --- */

static struct bytes row_key(const struct transaction_row *row)
{
    return bytes_of(row->key, row->key_len);
}

static struct bytes mark_of(struct bytes data)
{
    return bytes_of(data.ptr, data.len < TRANSACTION_MARK_LEN ? data.len : TRANSACTION_MARK_LEN);
}

enum err transaction_look(struct store_txn *txn, struct transaction_row *row)
{
    struct transaction_record there;
    struct bytes data;
    row->kept = false;
    enum err err = txn_transaction_get(txn, row_key(row), &there, &data);
    if (err != ERR_OK)
        return err == ERR_NOT_FOUND ? ERR_OK : err;
    if (!bytes_eq(mark_of(data), mark_of(row->data)))
        return ERR_TRANSACTION_IN_USE;
    row->kept = there.expiry_s > txn_now_s(txn);
    return ERR_OK;
}

static bool waits(const struct transaction_row *row)
{
    return (row->state & TRANSACTION_WAITS) != 0;
}

/* May as many more wait? */
static enum err look_for_room(struct store_txn *txn, const struct transaction_row *row,
                              uint32_t more)
{
    uint32_t count;
    enum err err = txn_transactions_waiting(txn, row_key(row), &count);
    if (err != ERR_OK)
        return err == ERR_NOT_FOUND ? ERR_INTERNAL : err;
    return count + more <= WAITING_PER_LINE_MAX ? ERR_OK : ERR_WAITING_FULL;
}

/* One that waited uncounted goes on so: it was let in before there was a limit. */
static enum err state_to_put(struct store_txn *txn, const struct transaction_row *row,
                             uint8_t *out_state)
{
    struct transaction_record there;
    struct bytes data;
    *out_state = row->state;
    if (!waits(row))
        return ERR_OK;
    enum err err = txn_transaction_get(txn, row_key(row), &there, &data);
    if (err == ERR_OK && (there.state | TRANSACTION_WAITS) == row->state)
        *out_state = there.state;
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err transaction_put(struct store_txn *txn, const struct transaction_row *row, uint8_t protocol)
{
    uint8_t state;
    enum err err = state_to_put(txn, row, &state);
    if (err != ERR_OK)
        return err;
    struct transaction_record record = {
        .version = STORE_SCHEMA_VERSION,
        .protocol = protocol,
        .state = state,
        .data_len = (uint32_t)row->data.len,
        .expiry_s = row->expiry_s,
    };
    return txn_transaction_put(txn, row_key(row), &record, row->data);
}

/* The row of `pending` of a certificate that waits; log 0: it does not. */
static enum err waiting_of(struct store_txn *txn, uint64_t log, struct cert_copy *out_cert,
                           struct pending_record *out)
{
    *out = (struct pending_record){0};
    enum err err = cert_copy_get(txn, log, out_cert);
    if (err == ERR_OK)
        err = txn_pending_get(txn, out_cert->record.line_id, cert_device(out_cert), out);
    if (err == ERR_OK && out->log != log)
        *out = (struct pending_record){0};
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

/* The dialogue that began first does not take back what can still be confirmed in this one. */
static enum err prolong(struct store_txn *txn, uint64_t log, int64_t end_s)
{
    struct cert_copy cert;
    struct pending_record pending;
    enum err err = waiting_of(txn, log, &cert, &pending);
    if (err != ERR_OK || pending.log == 0 || pending.last_end_s >= end_s)
        return err;
    pending.last_end_s = end_s;
    return txn_pending_put(txn, cert.record.line_id, cert_device(&cert), &pending);
}

static enum err prolong_all(struct store_txn *txn, const struct transaction_set *set,
                            const struct transaction_row *row)
{
    uint64_t logs[CMP_REQUESTS_PER_MESSAGE_MAX];
    uint32_t line_id, count = 0;
    enum err err = ERR_OK;
    if (set->pending)
        count = set->pending(row->data, row->state, logs, CMP_REQUESTS_PER_MESSAGE_MAX, &line_id);
    assert(count <= CMP_REQUESTS_PER_MESSAGE_MAX);
    for (uint32_t i = 0; i < count && err == ERR_OK; i++)
        err = prolong(txn, logs[i], row->expiry_s);
    return err;
}

enum err transactions_apply(struct store_txn *txn, struct store_job *job)
{
    const struct transaction_set *set = job->extra;
    enum err err = ERR_OK;
    uint32_t more = 0;
    assert(set->count <= TRANSACTION_ROWS_MAX);
    for (uint32_t i = 0; i < set->count && err == ERR_OK; i++) {
        struct transaction_row *row = &set->rows[i];
        row->kept = false;
        if (set->only_new)
            err = transaction_look(txn, row);
        if (err == ERR_OK && set->only_new && waits(row) && !row->kept)
            err = look_for_room(txn, row, ++more);
    }
    for (uint32_t i = 0; i < set->count && err == ERR_OK; i++) {
        if (set->rows[i].kept)
            continue;
        err = transaction_put(txn, &set->rows[i], set->protocol);
        if (err == ERR_OK)
            err = prolong_all(txn, set, &set->rows[i]);
    }
    return err;
}

/* --- the sweep --- */

/* Rejects a certificate that nobody confirmed in time; of one that was settled meanwhile, nothing. */
static enum err reject_late(struct store_txn *txn, struct sweep_set *set, uint8_t protocol,
                            uint32_t line_id, uint64_t log)
{
    struct settle_by by = {
        .actor = {.protocol = protocol, .why = BYTES_LIT("confirm-time-passed")},
        .line_id = line_id,
        .quiet = true,
    };
    struct settle_item item = {.cert_log = log, .act = SETTLE_REJECT, .reason = REASON_UNSPECIFIED};
    enum err err = settle_one(txn, &by, &item);
    set->rejected += err == ERR_OK && item.err == ERR_OK;
    return err;
}

/* As its dialogue ends. */
static enum err end_cert(struct store_txn *txn, struct sweep_set *set, uint8_t protocol,
                         uint32_t line_id, uint64_t log, int64_t end_s)
{
    struct cert_copy cert;
    struct pending_record pending;
    enum err err = waiting_of(txn, log, &cert, &pending);
    if (err != ERR_OK || pending.last_end_s > end_s)
        return err;
    return reject_late(txn, set, protocol, line_id, log);
}

/* Rejects what still waits. *out_count: how many certificates were looked at. */
static enum err end_row(struct store_txn *txn, struct sweep_set *set,
                        const struct transaction_record *record, struct bytes data,
                        uint32_t *out_count)
{
    uint64_t logs[CMP_REQUESTS_PER_MESSAGE_MAX];
    uint8_t protocol = record->protocol;
    int64_t end_s = record->expiry_s;
    uint32_t line_id = 0;
    enum err err = ERR_OK;
    /* before the first write: data is a view */
    *out_count = set->pending(data, record->state, logs, CMP_REQUESTS_PER_MESSAGE_MAX, &line_id);
    assert(*out_count <= CMP_REQUESTS_PER_MESSAGE_MAX);
    for (uint32_t i = 0; i < *out_count && err == ERR_OK; i++)
        err = end_cert(txn, set, protocol, line_id, logs[i], end_s);
    return err;
}

static enum err next_expired(struct store_txn *txn, int64_t now_s, struct transaction_row *out,
                             struct transaction_record *out_record)
{
    size_t len = 0;
    enum err err = txn_transaction_next_expired(txn, now_s, out->key, &len, out_record, &out->data);
    out->key_len = (uint8_t)len;
    return err;
}

/* Has its time passed, with no dialogue that ended it? */
static enum err is_lost(struct store_txn *txn, const struct pending_record *pending, int64_t now_s,
                        bool *out)
{
    struct cert_view cert;
    *out = pending->until_s != 0 && pending->until_s <= now_s;
    if (pending->until_s != 0)
        return ERR_OK;
    enum err err = txn_cert_get(txn, pending->log, &cert);
    if (err == ERR_OK)
        *out = pending_until_s(pending, cert.record) <= now_s;
    return err == ERR_NOT_FOUND ? ERR_INTERNAL : err;
}

static enum err reject_lost(struct store_txn *txn, struct sweep_set *set, uint64_t log)
{
    uint32_t before = set->rejected;
    enum err err = reject_late(txn, set, PROTOCOL_CMP, 0, log);
    if (set->rejected != before)
        log_warn("pending-lost", "certificate=%llu had no dialogue on record",
                 (unsigned long long)log);
    return err;
}

static enum err sweep_pending(struct store_txn *txn, struct sweep_set *set, int64_t now_s)
{
    enum err err = ERR_OK;
    for (uint32_t i = 0; i < SWEEP_PENDING_MAX && err == ERR_OK; i++) {
        struct pending_record pending;
        bool lost = false;
        err = txn_pending_next(txn, &set->at, &pending);
        if (err == ERR_OK)
            err = is_lost(txn, &pending, now_s, &lost);
        if (err == ERR_OK && lost)
            err = reject_lost(txn, set, pending.log);
        if (err == ERR_INTERNAL) /* a row that cannot be read does not hide those behind it */
            err = ERR_OK;
    }
    return err;
}

enum err sweep_apply(struct store_txn *txn, struct store_job *job)
{
    const struct sweep_facts *facts = (const void *)job->facts;
    struct sweep_set *set = job->extra;
    struct transaction_row row;
    struct transaction_record record;
    uint32_t looked_at = 0;
    set->done = set->rejected = 0;
    enum err err = next_expired(txn, facts->now_s, &row, &record);
    while (err == ERR_OK && set->done < facts->max && looked_at < SWEEP_CERTS_MAX) {
        uint32_t count;
        err = end_row(txn, set, &record, row.data, &count);
        if (err == ERR_OK)
            err = txn_transaction_del(txn, row_key(&row));
        if (err != ERR_OK)
            return err;
        set->done++;
        looked_at += count;
        err = next_expired(txn, facts->now_s, &row, &record);
    }
    set->more = err == ERR_OK;
    if (err == ERR_NOT_FOUND)
        err = sweep_pending(txn, set, facts->now_s);
    /* a row that cannot be read: what was done before it stands, the next sweep says so */
    if (err == ERR_NOT_FOUND || (err == ERR_INTERNAL && set->done != 0))
        err = ERR_OK;
    return err;
}
