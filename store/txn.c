/* The write transaction: typed records on top of the tables, and the state that goes with it. */
#include "base/clock.h"
#include "base/log.h"
#include "store/internal.h"

enum err store_txn_begin(struct store *store, struct store_txn **out)
{
    pthread_mutex_lock(&store->next_lock);
    pthread_mutex_lock(&store->write_lock);
    pthread_mutex_unlock(&store->next_lock);
    struct store_txn *txn = &store->txn;
    enum err err = db_begin(&store->db, false, &txn->db);
    if (err != ERR_OK) {
        pthread_mutex_unlock(&store->write_lock);
        return err;
    }
    txn->store = store;
    txn->head = store->head;
    txn->next_log = store->next_log;
    txn->next_transaction = store->next_transaction;
    txn->now_ns = clock_wall_ns();
    txn->writes = 0;
    txn->revoked_changed = false;
    txn->failed = ERR_OK;
    txn->line_count = 0;
    *out = txn;
    return ERR_OK;
}

enum err txn_note(struct store_txn *txn, enum err err)
{
    if (err_is_store(err) && txn->failed == ERR_OK)
        txn->failed = err;
    return err;
}

static enum err flush_lines(struct store_txn *txn)
{
    for (uint32_t i = 0; i < txn->line_count; i++) {
        const struct line_slot *slot = &txn->lines[i];
        if (!slot->dirty)
            continue;
        enum err err = db_put(&txn->db, DB_LINES, bytes_of_str(slot->name),
                              bytes_of(&slot->record, sizeof(slot->record)), DB_PUT_ANY);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

enum err store_txn_commit(struct store_txn *txn, struct commit_token *out)
{
    struct store *store = txn->store;
    enum err err = txn->failed;
    if (err == ERR_OK)
        err = flush_lines(txn);
    if (err != ERR_OK) {
        store_txn_abort(txn);
        return err;
    }
    uint64_t id = db_txn_id(&txn->db);
    if (!txn->db.dirty) {
        /* nothing to sync: what was read is what the transaction before this one left */
        *out = store_seal(store, id - 1);
        store_txn_abort(txn);
        return ERR_OK;
    }
    uint64_t device_count = db_entries(&txn->db, DB_DEVICES);
    uint64_t start_ns = clock_mono_ns();
    err = db_commit(&txn->db);
    if (err == ERR_OK) {
        uint64_t took_ns = clock_mono_ns() - start_ns;
        store->head = txn->head;
        store->next_log = txn->next_log;
        store->next_transaction = txn->next_transaction;
        store_synced(store, id);
        hist_add(&store->commit_hist, took_ns);
        atomic_store_explicit(&store->cert_count, txn->next_log - 1, memory_order_relaxed);
        atomic_store_explicit(&store->device_count, device_count, memory_order_relaxed);
        atomic_store_explicit(&store->journal_count, txn->head.sequence, memory_order_relaxed);
        atomic_store_explicit(&store->last_commit_ns, took_ns, memory_order_relaxed);
        atomic_fetch_add_explicit(&store->commits, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&store->revocations, txn->revoked_changed, memory_order_release);
        *out = store_seal(store, id);
        db_env_fill(&store->db);
    }
    transactions_settle(txn, err == ERR_OK);
    pthread_mutex_unlock(&store->write_lock);
    return err;
}

void store_txn_abort(struct store_txn *txn)
{
    db_abort(&txn->db);
    transactions_settle(txn, false);
    pthread_mutex_unlock(&txn->store->write_lock);
}

int64_t txn_now_s(const struct store_txn *txn)
{
    return (int64_t)(txn->now_ns / NS_PER_S);
}

/* --- tables --- */

enum err txn_get(struct store_txn *txn, enum db db, struct bytes key, struct bytes *out)
{
    return txn_note(txn, db_get(&txn->db, db, key, out));
}

enum err txn_put(struct store_txn *txn, enum db db, struct bytes key, struct bytes value)
{
    txn->writes++;
    return txn_note(txn, db_put(&txn->db, db, key, value, DB_PUT_ANY));
}

enum err txn_del(struct store_txn *txn, enum db db, struct bytes key)
{
    enum err err = txn_note(txn, db_del(&txn->db, db, key));
    txn->writes += err != ERR_NOT_FOUND;
    return err;
}

/* The value in two parts, which may be too large to be put together elsewhere first. */
static enum err put_parts(struct store_txn *txn, enum db db, struct bytes key, struct bytes head,
                          struct bytes body)
{
    uint8_t *at = NULL;
    txn->writes++;
    enum err err = db_reserve(&txn->db, db, key, head.len + body.len, DB_PUT_ANY, &at);
    if (err != ERR_OK)
        return txn_note(txn, err);
    memcpy(at, head.ptr, head.len);
    if (body.len != 0)
        memcpy(at + head.len, body.ptr, body.len);
    return ERR_OK;
}

enum err txn_device_get(struct store_txn *txn, uint32_t line_id, struct bytes device_id,
                        struct device_record *out)
{
    struct store_key key = store_key_of(line_id, device_id);
    struct bytes value;
    enum err err = txn_get(txn, DB_DEVICES, store_key_view(&key), &value);
    return err != ERR_OK ? err : record_copy("devices", value, out, sizeof(*out));
}

enum err txn_device_put(struct store_txn *txn, uint32_t line_id, struct bytes device_id,
                        const struct device_record *record)
{
    struct store_key key = store_key_of(line_id, device_id);
    return txn_put(txn, DB_DEVICES, store_key_view(&key), bytes_of(record, sizeof(*record)));
}

enum err txn_device_del(struct store_txn *txn, uint32_t line_id, struct bytes device_id)
{
    struct store_key key = store_key_of(line_id, device_id);
    return txn_del(txn, DB_DEVICES, store_key_view(&key));
}

enum err txn_pending_get(struct store_txn *txn, uint32_t line_id, struct bytes device_id,
                         struct pending_record *out)
{
    struct store_key key = store_key_of(line_id, device_id);
    struct bytes value;
    enum err err = txn_get(txn, DB_PENDING, store_key_view(&key), &value);
    return err != ERR_OK ? err : pending_copy(value, out);
}

enum err txn_pending_put(struct store_txn *txn, uint32_t line_id, struct bytes device_id,
                         const struct pending_record *record)
{
    struct store_key key = store_key_of(line_id, device_id);
    return txn_put(txn, DB_PENDING, store_key_view(&key), bytes_of(record, sizeof(*record)));
}

enum err txn_pending_del(struct store_txn *txn, uint32_t line_id, struct bytes device_id)
{
    struct store_key key = store_key_of(line_id, device_id);
    return txn_del(txn, DB_PENDING, store_key_view(&key));
}

enum err txn_pending_next(struct store_txn *txn, struct pending_at *at, struct pending_record *out)
{
    struct db_walk walk;
    struct bytes key, value, before = bytes_of(at->key, at->key_len);
    enum err err = db_walk_start(&txn->db, DB_PENDING, before, false, &walk, &key, &value);
    if (err == ERR_OK && at->key_len != 0 && bytes_eq(key, before))
        err = db_walk_next(&walk, &key, &value);
    if (err == ERR_OK) {
        assert(key.len <= sizeof(at->key));
        at->key_len = (uint8_t)key.len;
        memcpy(at->key, key.ptr, key.len);
        err = pending_copy(value, out);
    } else {
        at->key_len = 0;
    }
    db_walk_end(&walk);
    return txn_note(txn, err);
}

enum err txn_key_get(struct store_txn *txn, const uint8_t spki_hash[32], struct key_view *out)
{
    struct bytes value;
    enum err err = txn_get(txn, DB_KEYS, bytes_of(spki_hash, 32), &value);
    return err != ERR_OK ? err : key_view_of(value, out);
}

enum err txn_key_put(struct store_txn *txn, const uint8_t spki_hash[32],
                     const struct key_record *record, struct bytes device_id)
{
    assert(device_id.len <= UINT8_MAX && record->device_id_len == device_id.len);
    _Alignas(8) uint8_t value[sizeof(*record) + UINT8_MAX + RECORD_ALIGN];
    size_t len = sizeof(*record) + device_id.len;
    memcpy(value, record, sizeof(*record));
    memcpy(value + sizeof(*record), device_id.ptr, device_id.len);
    memset(value + len, 0, record_padded(len) - len);
    return txn_put(txn, DB_KEYS, bytes_of(spki_hash, 32), bytes_of(value, record_padded(len)));
}

enum err txn_cert_get(struct store_txn *txn, uint64_t log, struct cert_view *out)
{
    struct bytes value;
    enum err err = txn_get(txn, DB_CERTS, bytes_of(&log, sizeof(log)), &value);
    return err != ERR_OK ? err : cert_view_of(log, value, out);
}

/* The log number of a serial, first: that it is new is the decision, nothing is written before. */
static enum err serial_put(struct store_txn *txn, const struct cert_record *record, uint64_t log)
{
    struct store_key key = store_key_of(record->issuer_id, BYTES_ARRAY(record->serial));
    enum err err =
        db_put(&txn->db, DB_SERIALS, store_key_view(&key), bytes_of(&log, sizeof(log)), DB_PUT_NEW);
    if (err != ERR_INTERNAL)
        txn->writes++;
    return txn_note(txn, err);
}

enum err txn_cert_append(struct store_txn *txn, const struct cert_record *record,
                         struct bytes device_id, struct bytes station, struct bytes der,
                         uint64_t *out_log)
{
    assert(device_id.len <= UINT8_MAX && station.len <= UINT8_MAX && der.len <= CERT_DER_MAX);
    assert(record->device_id_len == device_id.len && record->station_len == station.len &&
           record->der_len == der.len);
    uint64_t log = txn->next_log;
    enum err err = serial_put(txn, record, log);
    if (err != ERR_OK)
        return err;
    size_t len = sizeof(*record) + device_id.len + station.len + der.len;
    uint8_t *at = NULL;
    err = db_reserve(&txn->db, DB_CERTS, bytes_of(&log, sizeof(log)), record_padded(len),
                     DB_PUT_APPEND, &at);
    if (err != ERR_OK)
        return txn_note(txn, err == ERR_INTERNAL ? ERR_STORE_FAILED : err);
    struct writer out = writer_of(at, record_padded(len));
    writer_put(&out, bytes_of(record, sizeof(*record)));
    writer_put(&out, device_id);
    writer_put(&out, station);
    writer_put(&out, der);
    memset(at + len, 0, record_padded(len) - len);
    assert(!out.failed && out.len == len);
    txn->next_log++;
    *out_log = log;
    return ERR_OK;
}

enum err txn_cert_update(struct store_txn *txn, uint64_t log, const struct cert_record *record)
{
    struct cert_view now;
    enum err err = txn_cert_get(txn, log, &now);
    if (err != ERR_OK)
        return err;
    /* what follows the fixed part is described by it */
    assert(record->device_id_len == now.record->device_id_len &&
           record->station_len == now.record->station_len &&
           record->der_len == now.record->der_len);
    /* a copy: LMDB may move a value while it is written over */
    _Alignas(8) uint8_t value[CERT_VALUE_MAX];
    size_t rest = now.device_id.len + now.station.len + now.der.len;
    size_t len = sizeof(*record) + rest;
    assert(record_padded(len) <= sizeof(value));
    memcpy(value, record, sizeof(*record));
    memcpy(value + sizeof(*record), now.device_id.ptr, rest);
    memset(value + len, 0, record_padded(len) - len);
    return txn_put(txn, DB_CERTS, bytes_of(&log, sizeof(log)), bytes_of(value, record_padded(len)));
}

enum err txn_serial_find(struct store_txn *txn, uint32_t issuer_id, struct bytes serial,
                         uint64_t *out_log)
{
    struct store_key key = store_key_of(issuer_id, serial);
    struct bytes value;
    enum err err = txn_get(txn, DB_SERIALS, store_key_view(&key), &value);
    if (err == ERR_OK)
        *out_log = log_of_key(value);
    return err;
}

/* --- lines --- */

static struct line_slot *line_find(struct store_txn *txn, const char *name)
{
    for (uint32_t i = 0; i < txn->line_count; i++)
        if (strcmp(txn->lines[i].name, name) == 0)
            return &txn->lines[i];
    return NULL;
}

/* Makes room by writing one out when more lines than a configuration can have are in the store. */
static enum err line_slot_take(struct store_txn *txn, const char *name, struct line_slot **out)
{
    assert(strlen(name) <= LINE_NAME_MAX);
    struct line_slot *slot = &txn->lines[txn->line_count];
    if (txn->line_count == LINES_MAX) {
        enum err err = txn_note(txn, flush_lines(txn));
        if (err != ERR_OK)
            return err;
        txn->line_count = 0;
        slot = &txn->lines[0];
    }
    *slot = (struct line_slot){0};
    memcpy(slot->name, name, strlen(name));
    *out = slot;
    return ERR_OK;
}

static enum err line_load(struct store_txn *txn, const char *name, struct line_slot **out)
{
    *out = line_find(txn, name);
    if (*out != NULL)
        return ERR_OK;
    struct bytes value;
    struct line_record record;
    enum err err = txn_get(txn, DB_LINES, bytes_of_str(name), &value);
    if (err == ERR_OK)
        err = record_copy("lines", value, &record, sizeof(record));
    if (err == ERR_OK)
        err = line_slot_take(txn, name, out);
    if (err != ERR_OK)
        return err;
    (*out)->record = record;
    txn->line_count++;
    return ERR_OK;
}

enum err txn_line_get(struct store_txn *txn, const char *name, struct line_record *out)
{
    struct line_slot *slot;
    enum err err = line_load(txn, name, &slot);
    if (err == ERR_OK)
        *out = slot->record;
    return err;
}

enum err txn_line_put(struct store_txn *txn, const char *name, const struct line_record *record)
{
    struct line_slot *slot = line_find(txn, name);
    if (slot == NULL) {
        enum err err = line_slot_take(txn, name, &slot);
        if (err != ERR_OK)
            return err;
        txn->line_count++;
    }
    txn->writes++;
    slot->record = *record;
    slot->dirty = true;
    return ERR_OK;
}

enum err txn_line_by_id(struct store_txn *txn, uint32_t line_id, struct line_slot **out)
{
    for (uint32_t i = 0; i < txn->line_count; i++) {
        if (txn->lines[i].record.line_id == line_id) {
            *out = &txn->lines[i];
            return ERR_OK;
        }
    }
    char name[LINE_NAME_MAX + 1] = {0};
    struct db_walk walk;
    struct bytes key, value;
    enum err err = db_walk_start(&txn->db, DB_LINES, (struct bytes){0}, false, &walk, &key, &value);
    for (; err == ERR_OK; err = db_walk_next(&walk, &key, &value)) {
        struct line_record record;
        if (record_copy("lines", value, &record, sizeof(record)) == ERR_OK &&
            record.line_id == line_id && key.len <= LINE_NAME_MAX) {
            memcpy(name, key.ptr, key.len);
            break;
        }
    }
    db_walk_end(&walk);
    return err != ERR_OK ? txn_note(txn, err) : line_load(txn, name, out);
}

enum err txn_line_count(struct store_txn *txn, uint32_t line_id, uint64_t issued, uint64_t refused)
{
    struct line_slot *slot;
    enum err err = txn_line_by_id(txn, line_id, &slot);
    if (err != ERR_OK)
        return err;
    struct line_record *record = &slot->record;
    record->issued += issued;
    record->refused += refused;
    if (issued != 0) {
        record->last_s = txn_now_s(txn);
        if (record->first_s == 0)
            record->first_s = record->last_s;
    }
    slot->dirty = true;
    return ERR_OK;
}

/* --- revoked, CRLs --- */

enum err txn_revoked_put(struct store_txn *txn, uint32_t issuer_id, struct bytes serial,
                         const struct revoked_record *record)
{
    struct store_key key = store_key_of(issuer_id, serial);
    txn->revoked_changed = true;
    return txn_put(txn, DB_REVOKED, store_key_view(&key), bytes_of(record, sizeof(*record)));
}

enum err txn_revoked_get(struct store_txn *txn, uint32_t issuer_id, struct bytes serial,
                         struct revoked_record *out)
{
    struct store_key key = store_key_of(issuer_id, serial);
    struct bytes value;
    enum err err = txn_get(txn, DB_REVOKED, store_key_view(&key), &value);
    return err != ERR_OK ? err : record_copy("revoked", value, out, sizeof(*out));
}

enum err txn_crl_put(struct store_txn *txn, uint32_t issuer_id, const struct crl_record *record,
                     struct bytes der)
{
    struct store_key key = store_key_of(issuer_id, (struct bytes){0});
    assert(record->der_len == der.len);
    return put_parts(txn, DB_CRLS, store_key_view(&key), bytes_of(record, sizeof(*record)), der);
}
