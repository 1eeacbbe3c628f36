/* test_factory_check.h: do certs, devices, keys, pending, revoked, transactions and expiries agree?
 * True after every commit, whatever happened. */
#ifndef CERTMILL_TEST_FACTORY_CHECK_H
#define CERTMILL_TEST_FACTORY_CHECK_H

#include "factory/settle.h"
#include "factory/transaction.h"
#include "store/internal.h"
#include "test_store_fixture.h"

struct check {
    struct store_reader *reader;
    uint64_t revoked, listed, waiting;
};

static inline uint64_t check_pending(struct store_reader *reader, uint32_t line_id, struct bytes id)
{
    struct pending_record pending = {0};
    enum err err = reader_pending(reader, line_id, id, &pending);
    assert_true(err == ERR_OK || err == ERR_NOT_FOUND);
    return pending.log;
}

static inline bool check_cert(void *ctx, const struct cert_view *cert)
{
    struct check *check = ctx;
    const struct cert_record *record = cert->record;
    struct device_record device = {0};
    struct revoked_record revoked = {0};
    struct key_view key;
    enum err err = reader_device(check->reader, record->line_id, cert->device_id, &device);
    assert_true(err == ERR_OK || (err == ERR_NOT_FOUND && record->status == CERT_REVOKED));
    uint64_t waiting = check_pending(check->reader, record->line_id, cert->device_id);
    bool linked = device.cert_log == cert->log || waiting == cert->log;
    err = reader_revoked(check->reader, record->issuer_id, BYTES_ARRAY(record->serial), &revoked);
    bool off = record->status == CERT_REVOKED || record->status == CERT_ON_HOLD;
    assert_int_equal(err, off ? ERR_OK : ERR_NOT_FOUND);
    if (off) {
        assert_int_equal(revoked.cert_log, cert->log);
        assert_int_equal(revoked.reason == REASON_HOLD, record->status == CERT_ON_HOLD);
    }
    if (record->status == CERT_VALID)
        assert_true(linked);
    if (record->status == CERT_SUPERSEDED)
        assert_true(record->replaced_by > cert->log && !linked);
    err = reader_key(check->reader, record->spki_hash, &key);
    assert_true(err == ERR_OK || err == ERR_NOT_FOUND);
    bool bound = err == ERR_OK && key.record->line_id == record->line_id &&
                 bytes_eq(key.device_id, cert->device_id);
    if (waiting != cert->log && record->status != CERT_REVOKED)
        assert_true(bound); /* else its key may never have been proven */
    if (linked && waiting != cert->log) /* the newest for its key, or one that lost it to a newer */
        assert_true(record->status == CERT_REVOKED || key.record->cert_log >= cert->log);
    check->revoked += off;
    check->waiting += waiting == cert->log;
    return true;
}

static inline bool check_device(void *ctx, uint32_t line_id, struct bytes device_id,
                                const struct device_record *device)
{
    struct check *check = ctx;
    struct cert_view cert;
    assert_int_equal(reader_cert(check->reader, device->cert_log, &cert), ERR_OK);
    assert_int_equal(cert.record->line_id, line_id);
    assert_true(bytes_eq(cert.device_id, device_id));
    assert_memory_equal(cert.record->spki_hash, device->spki_hash, 32);
    assert_int_not_equal(cert.record->status, CERT_SUPERSEDED);
    assert_int_equal(device->state == DEVICE_REVOKED, cert.record->status == CERT_REVOKED);
    uint64_t waiting = check_pending(check->reader, line_id, device_id);
    if (waiting == device->cert_log)
        assert_int_equal(device->state, DEVICE_ISSUED);
    else if (waiting != 0)
        assert_true(waiting > device->cert_log);
    return true;
}

static inline bool check_listed(void *ctx, struct bytes serial, const struct revoked_record *record)
{
    struct check *check = ctx;
    (void)record;
    assert_int_equal(serial.len, SERIAL_LEN);
    check->listed++;
    return true;
}

struct check_line {
    const struct fixture *fx;
    uint64_t waiting; /* of line-a */
};

static inline bool check_line(void *ctx, struct bytes name, const struct line_record *line)
{
    const struct check_line *check = ctx;
    (void)name;
    assert_int_equal(line->waiting, line->line_id == check->fx->line_a ? check->waiting : 0);
    return true;
}

/* Every transaction has its expiry and no other, every pending row a certificate (counted before).
 */
static inline void check_tables(struct fixture *fx, uint64_t waiting)
{
    struct db_txn txn;
    struct db_walk walk;
    struct bytes key, value;
    struct check_line line = {.fx = fx};
    assert_int_equal(db_begin(&fx->store->db, true, &txn), ERR_OK);
    assert_int_equal(db_entries(&txn, DB_PENDING), waiting);
    assert_int_equal(db_entries(&txn, DB_EXPIRIES), db_entries(&txn, DB_TRANSACTIONS));
    enum err err = db_walk_start(&txn, DB_EXPIRIES, (struct bytes){0}, false, &walk, &key, &value);
    for (; err == ERR_OK; err = db_walk_next(&walk, &key, &value)) {
        int64_t expiry_s;
        uint64_t number;
        struct bytes id, row, data;
        struct transaction_record record;
        assert_int_equal(expiry_split(key, value, &expiry_s, &number), ERR_OK);
        assert_int_equal(db_get(&txn, DB_TRANSACTIONS, bytes_of(key.ptr + 8, 8), &row), ERR_OK);
        assert_int_equal(transaction_split(row, &record, &id, &data), ERR_OK);
        assert_true(bytes_eq(id, value));
        assert_int_equal(record.expiry_s, expiry_s);
        line.waiting += (record.state & TRANSACTION_WAITS) != 0;
    }
    db_walk_end(&walk);
    db_abort(&txn);
    struct store_reader *reader = fixture_reader(fx);
    assert_int_equal(reader_lines_each(reader, check_line, &line), ERR_OK);
    fixture_reader_done(reader);
}

static inline void check_whole(struct fixture *fx)
{
    struct check check = {.reader = fixture_reader(fx)};
    assert_int_equal(reader_certs_each(check.reader, 0, false, check_cert, &check), ERR_OK);
    assert_int_equal(reader_devices_each(check.reader, 0, check_device, &check), ERR_OK);
    assert_int_equal(reader_revoked_each(check.reader, fx->issuer, check_listed, &check), ERR_OK);
    assert_int_equal(check.listed, check.revoked);
    fixture_reader_done(check.reader);
    check_tables(fx, check.waiting);
    fixture_verify(fx);
}

/* --- acts --- */

static inline struct settle_facts settle_facts_of(struct fixture *fx)
{
    struct settle_facts facts = {.line_id = fx->line_a, .protocol = PROTOCOL_CMP, .who_len = 4};
    memcpy(facts.who, "ra-1", 4);
    memcpy(facts.request_id, "00112233445566ff", REQUEST_ID_LEN);
    return facts;
}

static inline enum err settle_all(struct fixture *fx, const struct settle_facts *facts,
                                  struct settle_item items[], uint32_t count, struct bytes why)
{
    struct settle_set set = {items, count};
    const struct store_job *job =
        fixture_run_extra(fx, settle_apply, facts, sizeof(*facts), why, &set);
    assert_int_equal(commit_token_is_valid(fx->store, job->token), job->err == ERR_OK);
    return job->err;
}

static inline enum err settle_log(struct fixture *fx, enum settle_act act, uint64_t log,
                                  uint8_t reason)
{
    struct settle_facts facts = settle_facts_of(fx);
    struct settle_item item = {.cert_log = log, .act = (uint8_t)act, .reason = reason};
    assert_int_equal(settle_all(fx, &facts, &item, 1, (struct bytes){0}), ERR_OK);
    check_whole(fx);
    return item.err;
}

static inline uint64_t fixture_pending(struct fixture *fx, const char *device_id)
{
    struct store_reader *reader = fixture_reader(fx);
    uint64_t log = check_pending(reader, fx->line_a, bytes_of_str(device_id));
    fixture_reader_done(reader);
    return log;
}

static inline uint64_t fixture_key_log(struct fixture *fx, uint64_t key)
{
    uint8_t hash[SHA256_LEN];
    struct key_view view;
    struct store_reader *reader = fixture_reader(fx);
    sha256_once(bytes_of(&key, sizeof(key)), hash);
    uint64_t log = reader_key(reader, hash, &view) == ERR_OK ? view.record->cert_log : 0;
    fixture_reader_done(reader);
    return log;
}

#endif
