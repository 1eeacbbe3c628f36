/* The hash chain: every record holds the SHA-256 of the one before, key and value, so that a
 * missing or changed record is found by anyone who has a later one. */
#include "base/clock.h"
#include "base/log.h"
#include "store/internal.h"

enum { CLOCK_TEXT_MAX = 48 };

enum err journal_head_load(struct db_txn *txn, struct journal_head *out)
{
    struct db_walk walk;
    struct bytes key, value;
    struct journal_view view;
    enum err err = db_walk_start(txn, DB_JOURNAL, (struct bytes){0}, true, &walk, &key, &value);
    if (err == ERR_OK)
        err = journal_view_of(value, &view);
    if (err == ERR_OK) {
        struct sha256_stream hash;
        *out = (struct journal_head){view.record->sequence, view.record->time_ns, {0}};
        sha256_start(&hash);
        sha256_update(&hash, key);
        sha256_update(&hash, value);
        sha256_finish(&hash, out->hash);
    } else if (err == ERR_NOT_FOUND) {
        *out = (struct journal_head){0};
        err = ERR_OK;
    }
    db_walk_end(&walk);
    return err;
}

/* Journal time never goes back. While the wall clock is behind, records keep the last time and say
 * by how much the clock lies. */
static void note_clock(struct store_txn *txn, struct writer *text, int64_t *out_time_ns)
{
    struct store *store = txn->store;
    *out_time_ns = (int64_t)txn->now_ns;
    if (*out_time_ns >= txn->head.time_ns) {
        if (store->clock_behind_ns != 0)
            log_info("clock-caught-up", "behind_ms=0");
        store->clock_behind_ns = 0;
        return;
    }
    uint64_t behind_ns = (uint64_t)(txn->head.time_ns - *out_time_ns);
    *out_time_ns = txn->head.time_ns;
    if (text->len != 0)
        writer_put_u8(text, ' ');
    writer_printf(text, "clock-stepped-back-ms=%llu", (unsigned long long)(behind_ns / NS_PER_MS));
    if (behind_ns > store->clock_behind_ns) /* once per step, not once per record */
        log_warn("clock-stepped-back", "behind_ms=%llu journal_sequence=%llu",
                 (unsigned long long)(behind_ns / NS_PER_MS),
                 (unsigned long long)(txn->head.sequence + 1));
    store->clock_behind_ns = behind_ns;
}

static struct bytes cut(struct bytes view, size_t max)
{
    return bytes_of(view.ptr, view.len < max ? view.len : max);
}

enum err txn_journal(struct store_txn *txn, const struct journal_entry *entry)
{
    /* key and value in one piece, as they are hashed */
    _Alignas(8) uint8_t all[sizeof(uint64_t) + JOURNAL_VALUE_MAX];
    struct bytes who = cut(entry->who, UINT8_MAX), what = cut(entry->what, UINT8_MAX);
    uint8_t text_buf[JOURNAL_TEXT_MAX];
    struct writer text = writer_of(text_buf, sizeof(text_buf));
    writer_put(&text, cut(entry->text, JOURNAL_TEXT_MAX - CLOCK_TEXT_MAX));
    int64_t time_ns = 0;
    note_clock(txn, &text, &time_ns);

    struct journal_record record = {
        .version = STORE_SCHEMA_VERSION,
        .kind = (uint8_t)entry->kind,
        .protocol = (uint8_t)entry->protocol,
        .err = (uint16_t)entry->err,
        .who_len = (uint8_t)who.len,
        .what_len = (uint8_t)what.len,
        .text_len = (uint16_t)text.len,
        .line_id = entry->line_id,
        .sequence = txn->head.sequence + 1,
        .time_ns = time_ns,
        .cert_log = entry->cert_log,
    };
    memcpy(record.previous, txn->head.hash, sizeof(record.previous));
    struct writer out = writer_of(all, sizeof(all));
    writer_put(&out, bytes_of(&record.sequence, sizeof(record.sequence)));
    writer_put(&out, bytes_of(&record, sizeof(record)));
    writer_put(&out, who);
    writer_put(&out, what);
    writer_put(&out, writer_view(&text));
    while (out.len % RECORD_ALIGN != 0)
        writer_put_u8(&out, 0);
    assert(!out.failed);

    struct bytes key = bytes_of(all, sizeof(uint64_t));
    struct bytes value = bytes_of(all + sizeof(uint64_t), out.len - sizeof(uint64_t));
    enum err err = db_put(&txn->db, DB_JOURNAL, key, value, DB_PUT_APPEND);
    if (err != ERR_OK) {
        if (txn->failed == ERR_OK)
            txn->failed = err == ERR_STORE_FULL ? err : ERR_STORE_FAILED;
        return txn->failed;
    }
    txn->head.sequence = record.sequence;
    txn->head.time_ns = time_ns;
    sha256_once(writer_view(&out), txn->head.hash);
    return ERR_OK;
}

/* --- verification --- */

struct chain {
    uint64_t sequence;
    int64_t time_ns;
    uint8_t hash[SHA256_LEN];
};

static bool chain_fits(struct chain *chain, struct bytes key, struct bytes value)
{
    struct journal_view view;
    struct sha256_stream hash;
    if (key.len != sizeof(uint64_t) || journal_view_of(value, &view) != ERR_OK)
        return false;
    const struct journal_record *record = view.record;
    if (log_of_key(key) != chain->sequence + 1 || record->sequence != chain->sequence + 1 ||
        record->time_ns < chain->time_ns ||
        memcmp(record->previous, chain->hash, sizeof(chain->hash)) != 0)
        return false;
    chain->sequence = record->sequence;
    chain->time_ns = record->time_ns;
    sha256_start(&hash);
    sha256_update(&hash, key);
    sha256_update(&hash, value);
    sha256_finish(&hash, chain->hash);
    return true;
}

enum err journal_verify(struct db_txn *txn, uint64_t *out_count, uint64_t *out_bad)
{
    struct chain chain = {0};
    struct db_walk walk;
    struct bytes key, value;
    *out_count = *out_bad = 0;
    enum err err = db_walk_start(txn, DB_JOURNAL, (struct bytes){0}, false, &walk, &key, &value);
    for (; err == ERR_OK; err = db_walk_next(&walk, &key, &value)) {
        if (!chain_fits(&chain, key, value)) {
            *out_bad = chain.sequence + 1;
            break;
        }
        (*out_count)++;
    }
    db_walk_end(&walk);
    if (*out_bad != 0)
        return ERR_STORE_FAILED;
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}
