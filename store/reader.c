/* Lock-free snapshots: one slot in LMDB's reader table, kept across reset and renew. */
#include <stdlib.h>

#include "store/internal.h"

struct store_reader {
    struct store *store;
    struct db_txn db;
    bool active;
};

enum err store_reader_new(struct store *store, struct store_reader **out)
{
    struct store_reader *reader = calloc(1, sizeof(*reader));
    if (reader == NULL)
        return ERR_STORE_FAILED;
    reader->store = store;
    enum err err = db_begin(&store->db, true, &reader->db);
    if (err != ERR_OK) {
        free(reader);
        return err;
    }
    db_reset(&reader->db);
    *out = reader;
    return ERR_OK;
}

void store_reader_free(struct store_reader *reader)
{
    if (reader == NULL)
        return;
    db_abort(&reader->db);
    free(reader);
}

enum err reader_begin(struct store_reader *reader)
{
    assert(!reader->active);
    enum err err = db_renew(&reader->db);
    if (err == ERR_OK) {
        reader->active = true;
        /* LMDB shows a transaction to readers after its meta page is synced; the writer may not
         * have come to say so itself yet */
        store_synced(reader->store, db_txn_id(&reader->db));
    }
    return err;
}

void reader_end(struct store_reader *reader)
{
    if (reader->active)
        db_reset(&reader->db);
    reader->active = false;
}

struct commit_token reader_token(const struct store_reader *reader)
{
    assert(reader->active);
    return store_seal(reader->store, db_txn_id(&reader->db));
}

static enum err get(struct store_reader *reader, enum db db, struct bytes key, struct bytes *out)
{
    assert(reader->active);
    return db_get(&reader->db, db, key, out);
}

enum err reader_device(struct store_reader *reader, uint32_t line_id, struct bytes device_id,
                       struct device_record *out)
{
    struct store_key key = store_key_of(line_id, device_id);
    struct bytes value;
    enum err err = get(reader, DB_DEVICES, store_key_view(&key), &value);
    return err != ERR_OK ? err : record_copy("devices", value, out, sizeof(*out));
}

enum err reader_pending(struct store_reader *reader, uint32_t line_id, struct bytes device_id,
                        struct pending_record *out)
{
    struct store_key key = store_key_of(line_id, device_id);
    struct bytes value;
    enum err err = get(reader, DB_PENDING, store_key_view(&key), &value);
    return err != ERR_OK ? err : pending_copy(value, out);
}

enum err reader_key(struct store_reader *reader, const uint8_t spki_hash[32], struct key_view *out)
{
    struct bytes value;
    enum err err = get(reader, DB_KEYS, bytes_of(spki_hash, 32), &value);
    return err != ERR_OK ? err : key_view_of(value, out);
}

enum err reader_cert(struct store_reader *reader, uint64_t log, struct cert_view *out)
{
    struct bytes value;
    enum err err = get(reader, DB_CERTS, bytes_of(&log, sizeof(log)), &value);
    return err != ERR_OK ? err : cert_view_of(log, value, out);
}

enum err reader_serial(struct store_reader *reader, uint32_t issuer_id, struct bytes serial,
                       uint64_t *out_log)
{
    struct store_key key = store_key_of(issuer_id, serial);
    struct bytes value;
    enum err err = get(reader, DB_SERIALS, store_key_view(&key), &value);
    if (err == ERR_OK)
        *out_log = log_of_key(value);
    return err;
}

enum err reader_line(struct store_reader *reader, const char *name, struct line_record *out)
{
    struct bytes value;
    enum err err = get(reader, DB_LINES, bytes_of_str(name), &value);
    return err != ERR_OK ? err : record_copy("lines", value, out, sizeof(*out));
}

enum err reader_issuer(struct store_reader *reader, const uint8_t issuer_hash[32],
                       uint32_t *out_id)
{
    struct bytes value;
    enum err err = get(reader, DB_ISSUERS, bytes_of(issuer_hash, 32), &value);
    if (err == ERR_OK && value.len != sizeof(*out_id))
        err = ERR_STORE_FAILED;
    if (err == ERR_OK)
        memcpy(out_id, value.ptr, sizeof(*out_id));
    return err;
}

enum err reader_revoked(struct store_reader *reader, uint32_t issuer_id, struct bytes serial,
                        struct revoked_record *out)
{
    struct store_key key = store_key_of(issuer_id, serial);
    struct bytes value;
    enum err err = get(reader, DB_REVOKED, store_key_view(&key), &value);
    if (err == ERR_OK)
        err = record_copy("revoked", value, out, sizeof(*out));
    return err == ERR_OK && out->reason == REASON_REMOVE ? ERR_NOT_FOUND : err;
}

enum err reader_transaction(struct store_reader *reader, struct bytes key,
                            struct transaction_record *out, struct bytes *out_data)
{
    assert(reader->active);
    return transaction_find(reader->store, &reader->db, key, out, out_data);
}

enum err reader_crl(struct store_reader *reader, uint32_t issuer_id, struct crl_record *out,
                    struct bytes *out_der)
{
    struct store_key key = store_key_of(issuer_id, (struct bytes){0});
    struct bytes value;
    enum err err = get(reader, DB_CRLS, store_key_view(&key), &value);
    return err != ERR_OK ? err : crl_split(value, out, out_der);
}

/* --- walks --- */

/* fn: ERR_OK to go on, ERR_NOT_FOUND to stop, else the error of the walk. */
static enum err each(struct store_reader *reader, enum db db, struct bytes from, bool backward,
                     enum err (*fn)(void *ctx, struct bytes key, struct bytes value), void *ctx)
{
    struct db_walk walk;
    struct bytes key, value;
    assert(reader->active);
    enum err err = db_walk_start(&reader->db, db, from, backward, &walk, &key, &value);
    while (err == ERR_OK && (err = fn(ctx, key, value)) == ERR_OK)
        err = db_walk_next(&walk, &key, &value);
    db_walk_end(&walk);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

static struct bytes from_number(const uint64_t *from)
{
    return bytes_of(from, *from == 0 ? 0 : sizeof(*from));
}

struct certs_walk {
    bool (*fn)(void *ctx, const struct cert_view *cert);
    void *ctx;
};

static enum err certs_step(void *ctx, struct bytes key, struct bytes value)
{
    const struct certs_walk *walk = ctx;
    struct cert_view view;
    enum err err = cert_view_of(log_of_key(key), value, &view);
    if (err != ERR_OK)
        return err;
    return walk->fn(walk->ctx, &view) ? ERR_OK : ERR_NOT_FOUND;
}

enum err reader_certs_each(struct store_reader *reader, uint64_t from, bool backward,
                           bool (*fn)(void *ctx, const struct cert_view *cert), void *ctx)
{
    struct certs_walk walk = {fn, ctx};
    return each(reader, DB_CERTS, from_number(&from), backward, certs_step, &walk);
}

struct journal_walk {
    bool (*fn)(void *ctx, const struct journal_record *record, struct bytes who, struct bytes what,
               struct bytes text);
    void *ctx;
};

static enum err journal_step(void *ctx, struct bytes key, struct bytes value)
{
    const struct journal_walk *walk = ctx;
    struct journal_view view;
    (void)key;
    enum err err = journal_view_of(value, &view);
    if (err != ERR_OK)
        return err;
    return walk->fn(walk->ctx, view.record, view.who, view.what, view.text) ? ERR_OK
                                                                            : ERR_NOT_FOUND;
}

enum err reader_journal_each(struct store_reader *reader, uint64_t from, bool backward,
                             bool (*fn)(void *ctx, const struct journal_record *record,
                                        struct bytes who, struct bytes what, struct bytes text),
                             void *ctx)
{
    struct journal_walk walk = {fn, ctx};
    return each(reader, DB_JOURNAL, from_number(&from), backward, journal_step, &walk);
}

struct lines_walk {
    bool (*fn)(void *ctx, struct bytes name, const struct line_record *line);
    void *ctx;
};

static enum err lines_step(void *ctx, struct bytes key, struct bytes value)
{
    const struct lines_walk *walk = ctx;
    struct line_record record;
    enum err err = record_copy("lines", value, &record, sizeof(record));
    if (err != ERR_OK)
        return err;
    return walk->fn(walk->ctx, key, &record) ? ERR_OK : ERR_NOT_FOUND;
}

enum err reader_lines_each(struct store_reader *reader,
                           bool (*fn)(void *ctx, struct bytes name, const struct line_record *line),
                           void *ctx)
{
    struct lines_walk walk = {fn, ctx};
    return each(reader, DB_LINES, (struct bytes){0}, false, lines_step, &walk);
}

struct devices_walk {
    uint32_t line_id;
    bool (*fn)(void *ctx, uint32_t line_id, struct bytes device_id,
               const struct device_record *device);
    void *ctx;
};

static enum err devices_step(void *ctx, struct bytes key, struct bytes value)
{
    const struct devices_walk *walk = ctx;
    struct device_record record;
    uint32_t line_id;
    if (!bytes_get_u32(&key, &line_id))
        return ERR_INTERNAL;
    if (walk->line_id != 0 && line_id != walk->line_id)
        return ERR_NOT_FOUND; /* sorted by line */
    enum err err = record_copy("devices", value, &record, sizeof(record));
    if (err != ERR_OK)
        return err;
    return walk->fn(walk->ctx, line_id, key, &record) ? ERR_OK : ERR_NOT_FOUND;
}

enum err reader_devices_each(struct store_reader *reader, uint32_t line_id,
                             bool (*fn)(void *ctx, uint32_t line_id, struct bytes device_id,
                                        const struct device_record *device),
                             void *ctx)
{
    struct devices_walk walk = {line_id, fn, ctx};
    uint8_t from[4];
    store_be32(from, line_id);
    return each(reader, DB_DEVICES, bytes_of(from, line_id == 0 ? 0 : sizeof(from)), false,
                devices_step, &walk);
}

struct revoked_walk {
    uint32_t issuer_id;
    bool (*fn)(void *ctx, struct bytes serial, const struct revoked_record *record);
    void *ctx;
};

static enum err revoked_step(void *ctx, struct bytes key, struct bytes value)
{
    const struct revoked_walk *walk = ctx;
    struct revoked_record record;
    uint32_t issuer_id;
    if (!bytes_get_u32(&key, &issuer_id))
        return ERR_INTERNAL;
    if (issuer_id != walk->issuer_id)
        return ERR_NOT_FOUND; /* sorted by issuer */
    enum err err = record_copy("revoked", value, &record, sizeof(record));
    if (err != ERR_OK || record.reason == REASON_REMOVE)
        return err;
    return walk->fn(walk->ctx, key, &record) ? ERR_OK : ERR_NOT_FOUND;
}

enum err reader_revoked_each(struct store_reader *reader, uint32_t issuer_id,
                             bool (*fn)(void *ctx, struct bytes serial,
                                        const struct revoked_record *record),
                             void *ctx)
{
    struct revoked_walk walk = {issuer_id, fn, ctx};
    struct store_key from = store_key_of(issuer_id, (struct bytes){0});
    return each(reader, DB_REVOKED, store_key_view(&from), false, revoked_step, &walk);
}

static bool count_one(void *ctx, struct bytes serial, const struct revoked_record *record)
{
    (void)serial;
    (void)record;
    (*(uint64_t *)ctx)++;
    return true;
}

enum err reader_revoked_count(struct store_reader *reader, uint32_t issuer_id, uint64_t *out_count)
{
    uint64_t count = 0;
    enum err err = reader_revoked_each(reader, issuer_id, count_one, &count);
    if (err == ERR_OK)
        *out_count = count;
    return err;
}

enum err store_journal_verify(struct store_reader *reader, uint64_t *out_count, uint64_t *out_bad)
{
    assert(reader->active);
    return journal_verify(&reader->db, out_count, out_bad);
}
