/* Transactions and when they end.
 *
 * A transaction's id is the client's and random: rows in its order would make each put dirty a page
 * of its own, twice (the row and its expiry). So rows stand in the order they came, and an index in
 * memory, made anew when the store is opened, knows their numbers. */
#include <stdlib.h>

#include "base/log.h"
#include "store/internal.h"

enum { UPGRADE_ROWS = 1024 }; /* of one commit */

/* Under a key that lasts as long as the index: clients choose what is hashed. */
static uint64_t hash_of(const struct store *store, struct bytes key)
{
    uint8_t data[sizeof(store->secret) + TRANSACTION_KEY_MAX], hash[SHA256_LEN];
    memcpy(data, store->secret, sizeof(store->secret));
    memcpy(data + sizeof(store->secret), key.ptr, key.len);
    sha256_once(bytes_of(data, sizeof(store->secret) + key.len), hash);
    return load_be64(hash);
}

/* --- finding --- */

struct found {
    uint64_t hash; /* of the key; known also where there is no row */
    uint64_t number;
    struct transaction_record record;
    struct bytes data;
};

static enum err row_get(struct db_txn *db, uint64_t number, struct found *out,
                        struct bytes *out_key)
{
    uint8_t row[sizeof(number)];
    struct bytes value;
    store_be64(row, number);
    enum err err = db_get(db, DB_TRANSACTIONS, BYTES_ARRAY(row), &value);
    if (err == ERR_OK)
        err = transaction_split(value, &out->record, out_key, &out->data);
    out->number = number;
    return err;
}

/* What the index names and this snapshot does not have was deleted, or comes later. */
static enum err find(struct store *store, struct db_txn *db, struct bytes key, struct found *out)
{
    uint64_t numbers[INDEX_SAME_MAX];
    assert(!store->db.read_only && key.len >= 1 && key.len <= TRANSACTION_KEY_MAX);
    out->hash = hash_of(store, key);
    uint32_t count = index_find(&store->index, out->hash, numbers);
    for (uint32_t i = 0; i < count; i++) {
        struct bytes row_key;
        enum err err = row_get(db, numbers[i], out, &row_key);
        if (err == ERR_OK && !bytes_eq(row_key, key))
            err = ERR_NOT_FOUND;
        if (err != ERR_NOT_FOUND)
            return err;
    }
    return ERR_NOT_FOUND;
}

enum err transaction_find(struct store *store, struct db_txn *db, struct bytes key,
                          struct transaction_record *out, struct bytes *out_data)
{
    struct found found;
    enum err err = find(store, db, key, &found);
    if (err == ERR_OK) {
        *out = found.record;
        *out_data = found.data;
    }
    return err;
}

enum err txn_transaction_get(struct store_txn *txn, struct bytes key,
                             struct transaction_record *out, struct bytes *out_data)
{
    return txn_note(txn, transaction_find(txn->store, &txn->db, key, out, out_data));
}

/* --- the index follows the transaction --- */

static enum err note_change(struct store_txn *txn, struct index_change change)
{
    if (txn->change_count == txn->change_cap) {
        uint32_t cap = txn->change_cap == 0 ? 1024 : 2 * txn->change_cap;
        struct index_change *more = realloc(txn->changes, cap * sizeof(*more));
        if (more == NULL)
            return ERR_STORE_FAILED;
        txn->changes = more;
        txn->change_cap = cap;
    }
    txn->changes[txn->change_count++] = change;
    return ERR_OK;
}

/* Before its row is written, so that no reader can see the row and not find it. */
static enum err index_enter(struct store_txn *txn, uint64_t hash, uint64_t number)
{
    enum err err = note_change(txn, (struct index_change){hash, number, true});
    if (err == ERR_OK && !index_add(&txn->store->index, hash, number)) {
        txn->change_count--;
        err = ERR_STORE_FAILED;
    }
    if (err != ERR_OK)
        log_error("store-no-memory", "transactions=%llu", (unsigned long long)number);
    return txn_note(txn, err);
}

void transactions_settle(struct store_txn *txn, bool committed)
{
    struct index *index = &txn->store->index;
    for (uint32_t i = 0; i < txn->change_count; i++) {
        const struct index_change *change = &txn->changes[i];
        if (change->added != committed) /* taken back, or gone for good */
            index_remove(index, change->hash, change->number);
    }
    txn->change_count = 0;
}

/* --- expiries: when (u64 BE, seconds) ‖ number (u64 BE) -> key --- */

struct expiry_key {
    uint8_t data[16];
};

static struct expiry_key expiry_key_of(int64_t expiry_s, uint64_t number)
{
    struct expiry_key key;
    assert(expiry_s >= 0);
    store_be64(key.data, (uint64_t)expiry_s);
    store_be64(key.data + 8, number);
    return key;
}

/* --- writing --- */

static enum err line_of(struct store_txn *txn, struct bytes key, struct line_slot **out)
{
    struct bytes protocol, line;
    if (!bytes_get(&key, 1, &protocol) || !bytes_get(&key, sizeof(uint32_t), &line))
        return ERR_NOT_FOUND;
    return txn_line_by_id(txn, load_be32(line.ptr), out);
}

enum err txn_transactions_waiting(struct store_txn *txn, struct bytes key, uint32_t *out)
{
    struct line_slot *slot;
    enum err err = line_of(txn, key, &slot);
    if (err == ERR_OK)
        *out = slot->record.waiting;
    return err;
}

static enum err count_waiting(struct store_txn *txn, struct bytes key, uint8_t old_state,
                              uint8_t new_state)
{
    struct line_slot *slot;
    bool was = (old_state & TRANSACTION_WAITS) != 0, is = (new_state & TRANSACTION_WAITS) != 0;
    if (was == is)
        return ERR_OK;
    enum err err = line_of(txn, key, &slot);
    if (err != ERR_OK)
        return err;
    uint16_t *waiting = &slot->record.waiting;
    assert(!is || *waiting < UINT16_MAX); /* whoever puts keeps to WAITING_PER_LINE_MAX */
    if (was && *waiting == 0)
        log_error("store-inconsistent", "line=%s counts none of the requests that wait",
                  slot->name);
    else
        *waiting = (uint16_t)(*waiting + (is ? 1 : -1));
    slot->dirty = true;
    return ERR_OK;
}

static enum err row_put(struct store_txn *txn, struct bytes key, uint64_t number,
                        const struct transaction_record *record, struct bytes data,
                        enum db_put_mode mode)
{
    uint8_t row[sizeof(number)], *at = NULL;
    size_t len = sizeof(*record) + 1 + key.len + data.len;
    store_be64(row, number);
    txn->writes++;
    enum err err = db_reserve(&txn->db, DB_TRANSACTIONS, BYTES_ARRAY(row), len, mode, &at);
    if (err != ERR_OK)
        return txn_note(txn, err == ERR_INTERNAL ? ERR_STORE_FAILED : err);
    struct writer out = writer_of(at, len);
    writer_put(&out, bytes_of(record, sizeof(*record)));
    writer_put_u8(&out, (uint8_t)key.len);
    writer_put(&out, key);
    writer_put(&out, data);
    assert(!out.failed && out.len == len);
    return ERR_OK;
}

static enum err expiry_put(struct store_txn *txn, int64_t expiry_s, uint64_t number,
                           struct bytes key)
{
    struct expiry_key expiry = expiry_key_of(expiry_s, number);
    return txn_put(txn, DB_EXPIRIES, BYTES_ARRAY(expiry.data), key);
}

static enum err expiry_del(struct store_txn *txn, int64_t expiry_s, uint64_t number)
{
    struct expiry_key expiry = expiry_key_of(expiry_s, number);
    return txn_del(txn, DB_EXPIRIES, BYTES_ARRAY(expiry.data));
}

static enum err put_new(struct store_txn *txn, struct bytes key, uint64_t hash,
                        const struct transaction_record *record, struct bytes data,
                        enum db_put_mode mode)
{
    uint64_t number = txn->next_transaction;
    enum err err = index_enter(txn, hash, number);
    if (err == ERR_OK)
        err = expiry_put(txn, record->expiry_s, number, key);
    if (err == ERR_OK)
        err = row_put(txn, key, number, record, data, mode);
    txn->next_transaction++;
    return err;
}

static enum err put_over(struct store_txn *txn, struct bytes key, const struct found *old,
                         const struct transaction_record *record, struct bytes data)
{
    uint64_t number = old->number;
    int64_t old_expiry_s = old->record.expiry_s;
    enum err err = ERR_OK;
    if (old_expiry_s != record->expiry_s) {
        err = expiry_del(txn, old_expiry_s, number);
        if (err == ERR_OK)
            err = expiry_put(txn, record->expiry_s, number, key);
    }
    return err != ERR_OK ? err : row_put(txn, key, number, record, data, DB_PUT_ANY);
}

enum err txn_transaction_put(struct store_txn *txn, struct bytes key,
                             const struct transaction_record *record, struct bytes data)
{
    assert(record->data_len == data.len);
    struct found old = {0};
    enum err found = txn_note(txn, find(txn->store, &txn->db, key, &old));
    if (found != ERR_OK && found != ERR_NOT_FOUND)
        return found;
    enum err err = count_waiting(txn, key, old.record.state, record->state);
    if (err != ERR_OK)
        return err;
    return found == ERR_OK ? put_over(txn, key, &old, record, data)
                           : put_new(txn, key, old.hash, record, data, DB_PUT_APPEND);
}

static enum err row_del(struct store_txn *txn, uint64_t number)
{
    uint8_t row[sizeof(number)];
    store_be64(row, number);
    return txn_del(txn, DB_TRANSACTIONS, BYTES_ARRAY(row));
}

/* Of one that this very transaction put, no reader can know: it leaves the index at once, so that
 * the index never names more than two rows of a key. */
static enum err index_leave(struct store_txn *txn, uint64_t hash, uint64_t number)
{
    if (number < txn->store->next_transaction)
        return txn_note(txn, note_change(txn, (struct index_change){hash, number, false}));
    index_remove(&txn->store->index, hash, number);
    return ERR_OK;
}

enum err txn_transaction_del(struct store_txn *txn, struct bytes key)
{
    struct found old;
    enum err err = txn_note(txn, find(txn->store, &txn->db, key, &old));
    if (err == ERR_OK)
        err = count_waiting(txn, key, old.record.state, 0);
    if (err == ERR_OK)
        err = expiry_del(txn, old.record.expiry_s, old.number);
    if (err == ERR_OK)
        err = row_del(txn, old.number);
    return err == ERR_OK ? index_leave(txn, old.hash, old.number) : err;
}

enum err txn_transaction_next_expired(struct store_txn *txn, int64_t now_s,
                                      uint8_t out_key[TRANSACTION_KEY_MAX], size_t *out_key_len,
                                      struct transaction_record *out, struct bytes *out_data)
{
    struct db_walk walk;
    struct bytes first, value, key;
    uint8_t expected[TRANSACTION_KEY_MAX];
    int64_t expiry_s;
    struct found found = {0};
    enum err err =
        db_walk_start(&txn->db, DB_EXPIRIES, (struct bytes){0}, false, &walk, &first, &value);
    if (err == ERR_OK)
        err = expiry_split(first, value, &expiry_s, &found.number);
    if (err == ERR_OK && expiry_s > now_s)
        err = ERR_NOT_FOUND;
    if (err == ERR_OK)
        memcpy(expected, value.ptr, value.len);
    db_walk_end(&walk);
    if (err != ERR_OK)
        return txn_note(txn, err);
    err = txn_note(txn, row_get(&txn->db, found.number, &found, &key));
    if (err == ERR_OK && !bytes_eq(key, bytes_of(expected, value.len)))
        err = ERR_NOT_FOUND;
    if (err != ERR_OK)
        return err == ERR_NOT_FOUND ? ERR_INTERNAL : err; /* they are written together */
    memcpy(out_key, key.ptr, key.len);
    *out_key_len = key.len;
    *out = found.record;
    *out_data = found.data;
    return ERR_OK;
}

/* --- opening --- */

static enum err load_index(struct store *store, struct db_txn *txn)
{
    struct db_walk walk = {0};
    struct bytes key, value;
    enum err err = db_walk_start(txn, DB_EXPIRIES, (struct bytes){0}, false, &walk, &key, &value);
    while (err == ERR_OK) {
        int64_t expiry_s;
        uint64_t number;
        bool is_old = value.len == 0;
        if (!is_old)
            err = expiry_split(key, value, &expiry_s, &number);
        if (err == ERR_OK && !is_old && !index_add(&store->index, hash_of(store, value), number))
            err = ERR_STORE_FAILED;
        if (err == ERR_OK)
            err = db_walk_next(&walk, &key, &value);
    }
    db_walk_end(&walk);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

struct old_row {
    uint8_t key[TRANSACTION_KEY_MAX];
    size_t key_len;
    struct transaction_record record;
    uint8_t *data;
};

/* Earlier versions kept rows under the transaction's key, whose first byte is a protocol and not 0,
 * and expiries under when ‖ key. A copy of one; ERR_NOT_FOUND: there is none. */
static enum err old_row_get(struct store_txn *txn, struct old_row *out)
{
    static const uint8_t first[] = {1};
    struct db_walk walk;
    struct bytes key, value;
    enum err err =
        db_walk_start(&txn->db, DB_TRANSACTIONS, BYTES_ARRAY(first), false, &walk, &key, &value);
    db_walk_end(&walk);
    if (err == ERR_OK && (key.len > sizeof(out->key) || value.len < sizeof(out->record)))
        err = ERR_INTERNAL;
    if (err != ERR_OK)
        return err;
    memcpy(out->key, key.ptr, key.len);
    out->key_len = key.len;
    memcpy(&out->record, value.ptr, sizeof(out->record));
    if (out->record.data_len != value.len - sizeof(out->record))
        return ERR_INTERNAL;
    out->data = malloc(value.len);
    if (out->data == NULL)
        return ERR_STORE_FAILED;
    memcpy(out->data, value.ptr + sizeof(out->record), out->record.data_len);
    return ERR_OK;
}

static enum err upgrade_one(struct store_txn *txn)
{
    struct old_row row;
    uint8_t expiry[8 + TRANSACTION_KEY_MAX];
    enum err err = txn_note(txn, old_row_get(txn, &row));
    if (err != ERR_OK)
        return err;
    struct bytes key = bytes_of(row.key, row.key_len);
    store_be64(expiry, (uint64_t)row.record.expiry_s);
    memcpy(expiry + 8, row.key, row.key_len);
    err = txn_del(txn, DB_EXPIRIES, bytes_of(expiry, 8 + row.key_len));
    if (err == ERR_OK)
        err = txn_del(txn, DB_TRANSACTIONS, key);
    if (err == ERR_OK)
        err = put_new(txn, key, hash_of(txn->store, key), &row.record,
                      bytes_of(row.data, row.record.data_len), DB_PUT_ANY);
    free(row.data);
    return err == ERR_NOT_FOUND ? ERR_INTERNAL : err; /* they were written together */
}

static enum err upgrade(struct store *store)
{
    enum err err = ERR_OK;
    while (err == ERR_OK) {
        struct store_txn *txn;
        struct commit_token token;
        err = store_txn_begin(store, &txn);
        if (err != ERR_OK)
            return err;
        for (int i = 0; i < UPGRADE_ROWS && err == ERR_OK; i++)
            err = upgrade_one(txn);
        if (err != ERR_OK && err != ERR_NOT_FOUND) {
            store_txn_abort(txn);
            return err;
        }
        enum err committed = store_txn_commit(txn, &token);
        if (committed != ERR_OK)
            return committed;
    }
    return ERR_OK; /* ERR_NOT_FOUND ended it */
}

static enum err load_next(struct store *store, struct db_txn *txn)
{
    static const uint8_t behind[] = {1}; /* rows of earlier versions sort from here on */
    struct db_walk walk = {0};
    struct bytes key, value;
    store->next_transaction = 1;
    enum err err =
        db_walk_start(txn, DB_TRANSACTIONS, BYTES_ARRAY(behind), true, &walk, &key, &value);
    if (err == ERR_OK && key.len == 8 && key.ptr[0] == 0)
        store->next_transaction = load_be64(key.ptr) + 1;
    db_walk_end(&walk);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err transactions_open(struct store *store)
{
    struct db_txn txn;
    enum err err = db_begin(&store->db, true, &txn);
    if (err != ERR_OK)
        return err;
    err = load_next(store, &txn);
    if (err == ERR_OK)
        err = load_index(store, &txn);
    db_abort(&txn);
    return err == ERR_OK ? upgrade(store) : err;
}
