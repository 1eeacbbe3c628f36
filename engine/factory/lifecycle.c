#include "factory/lifecycle.h"

#include <assert.h>

#include "factory/settle.h"

enum err cert_copy_get(struct store_txn *txn, uint64_t log, struct cert_copy *out)
{
    struct cert_view view;
    enum err err = txn_cert_get(txn, log, &view);
    if (err != ERR_OK)
        return err;
    out->log = log;
    out->record = *view.record;
    out->device_id_len = (uint8_t)view.device_id.len;
    memcpy(out->device_id, view.device_id.ptr, view.device_id.len);
    return ERR_OK;
}

/* --- journal --- */

static void put_blank(struct writer *text)
{
    if (text->len != 0)
        writer_put_u8(text, ' ');
}

void put_request_id(struct writer *text, const char *request_id)
{
    size_t len = request_id == NULL ? 0 : strnlen(request_id, REQUEST_ID_LEN);
    if (len == 0)
        return;
    put_blank(text);
    writer_put_str(text, "request=");
    writer_put(text, bytes_of(request_id, len));
}

/* The step's own words first: what comes from outside is cut, not they. */
static enum err say(struct store_txn *txn, const struct actor *actor, enum journal_kind kind,
                    const struct cert_copy *cert, const char *detail)
{
    uint8_t buf[JOURNAL_TEXT_MAX];
    struct writer text = writer_of(buf, sizeof(buf));
    writer_put_str(&text, detail);
    put_request_id(&text, actor->request_id);
    if (actor->why.len != 0) {
        put_blank(&text);
        size_t room = sizeof(buf) - text.len;
        writer_put(&text, bytes_of(actor->why.ptr, actor->why.len < room ? actor->why.len : room));
    }
    struct journal_entry entry = {
        .kind = kind,
        .protocol = (enum journal_protocol)actor->protocol,
        .line_id = cert->record.line_id,
        .cert_log = cert->log,
        .who = actor->who,
        .what = cert_device(cert),
        .text = writer_view(&text),
    };
    return txn_journal(txn, &entry);
}

/* --- what waits --- */

int64_t pending_until_s(const struct pending_record *pending, const struct cert_record *cert)
{
    return pending->until_s != 0
               ? pending->until_s
               : cert->issued_s + 2 * CMP_CONFIRM_WAIT_MAX_S + CMP_CONFIRM_MARGIN_S;
}

enum err pending_log(struct store_txn *txn, uint32_t line_id, struct bytes device_id,
                     uint64_t *out_log)
{
    struct pending_record pending = {0};
    enum err err = txn_pending_get(txn, line_id, device_id, &pending);
    *out_log = pending.log;
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err pending_clear(struct store_txn *txn, const struct cert_copy *cert)
{
    uint64_t log;
    enum err err = pending_log(txn, cert->record.line_id, cert_device(cert), &log);
    if (err != ERR_OK || log != cert->log)
        return err;
    return txn_pending_del(txn, cert->record.line_id, cert_device(cert));
}

/* --- steps --- */

static enum err set_status(struct store_txn *txn, struct cert_copy *cert, enum cert_status status)
{
    cert->record.status = (uint8_t)status;
    cert->record.status_s = txn_now_s(txn);
    return txn_cert_update(txn, cert->log, &cert->record);
}

enum err cert_supersede(struct store_txn *txn, const struct actor *actor, uint64_t old_log,
                        uint64_t new_log)
{
    struct cert_copy old;
    enum err err = cert_copy_get(txn, old_log, &old);
    if (err != ERR_OK)
        return err;
    old.record.replaced_by = new_log;
    if (old.record.status != CERT_VALID)
        return txn_cert_update(txn, old_log, &old.record);
    char detail[48];
    struct writer text = writer_of(detail, sizeof(detail) - 1);
    writer_printf(&text, "replaced-by=%llu", (unsigned long long)new_log);
    detail[text.len] = 0;
    err = set_status(txn, &old, CERT_SUPERSEDED);
    return err != ERR_OK ? err : say(txn, actor, JOURNAL_SUPERSEDED, &old, detail);
}

static enum err put_revoked(struct store_txn *txn, const struct actor *actor,
                            const struct cert_copy *cert, uint8_t reason)
{
    struct revoked_record revoked = {
        .version = STORE_SCHEMA_VERSION,
        .reason = reason,
        .time_s = txn_now_s(txn),
        .cert_log = cert->log,
    };
    if (actor->mark != NULL)
        memcpy(revoked.mark, actor->mark, sizeof(revoked.mark));
    return txn_revoked_put(txn, cert->record.issuer_id, BYTES_ARRAY(cert->record.serial), &revoked);
}

enum err cert_revoke(struct store_txn *txn, const struct actor *actor, struct cert_copy *cert,
                     uint8_t reason, uint64_t replaced_by)
{
    char detail[96];
    struct writer text = writer_of(detail, sizeof(detail) - 1);
    writer_printf(&text, "reason=%s", crl_reason_name(reason));
    if (replaced_by != 0) {
        cert->record.replaced_by = replaced_by;
        writer_printf(&text, " replaced-by=%llu", (unsigned long long)replaced_by);
    }
    detail[text.len] = 0;
    enum err err = set_status(txn, cert, reason == REASON_HOLD ? CERT_ON_HOLD : CERT_REVOKED);
    if (err == ERR_OK)
        err = put_revoked(txn, actor, cert, reason);
    return err != ERR_OK ? err : say(txn, actor, JOURNAL_REVOKED, cert, detail);
}

enum err cert_release(struct store_txn *txn, const struct actor *actor, struct cert_copy *cert)
{
    bool has_successor = cert->record.replaced_by != 0;
    enum err err = set_status(txn, cert, has_successor ? CERT_SUPERSEDED : CERT_VALID);
    if (err == ERR_OK)
        err = put_revoked(txn, actor, cert, REASON_REMOVE);
    return err != ERR_OK ? err : say(txn, actor, JOURNAL_RELEASED, cert, "");
}

bool key_is_others(const struct key_view *key, uint32_t line_id, struct bytes device_id)
{
    return key->record->line_id != line_id || !bytes_eq(key->device_id, device_id);
}

void put_key_owner(struct writer *text, uint32_t line_id, struct bytes device_id, uint64_t log)
{
    writer_printf(text, "owner-device=%.*s owner-line=%u owner-certificate=%llu",
                  (int)device_id.len, (const char *)device_id.ptr, line_id,
                  (unsigned long long)log);
}

static enum err key_put(struct store_txn *txn, const struct cert_copy *cert,
                        const uint8_t spki_hash[32], uint64_t log)
{
    struct key_record key = {
        .version = STORE_SCHEMA_VERSION,
        .device_id_len = cert->device_id_len,
        .line_id = cert->record.line_id,
        .cert_log = log,
    };
    return txn_key_put(txn, spki_hash, &key, cert_device(cert));
}

enum err key_is_proven(struct store_txn *txn, const struct cert_copy *cert, bool *out)
{
    struct key_view key;
    enum err err = txn_key_get(txn, cert->record.spki_hash, &key);
    *out = err == ERR_OK && !key_is_others(&key, cert->record.line_id, cert_device(cert)) &&
           key.record->cert_log >= cert->log;
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err key_bind(struct store_txn *txn, const struct cert_copy *cert)
{
    struct key_view now;
    enum err err = txn_key_get(txn, cert->record.spki_hash, &now);
    if (err != ERR_OK && err != ERR_NOT_FOUND)
        return err;
    if (err == ERR_OK && key_is_others(&now, cert->record.line_id, cert_device(cert)))
        return ERR_INTERNAL;
    if (err == ERR_OK && now.record->cert_log >= cert->log)
        return ERR_OK;
    return key_put(txn, cert, cert->record.spki_hash, cert->log);
}

static enum err key_give_back(struct store_txn *txn, const struct cert_copy *cert,
                              const struct device_record *device)
{
    return key_put(txn, cert, device->spki_hash, device->cert_log);
}

enum err successor_revoke(struct store_txn *txn, const struct actor *actor, struct cert_copy *cert,
                          const struct device_record *device, uint8_t reason, uint64_t replaced_by)
{
    assert(cert->log != device->cert_log);
    enum err err = cert_revoke(txn, actor, cert, reason, replaced_by);
    if (err == ERR_OK &&
        memcmp(cert->record.spki_hash, device->spki_hash, sizeof(device->spki_hash)) == 0)
        err = key_give_back(txn, cert, device);
    return err != ERR_OK ? err : pending_clear(txn, cert);
}

enum err successor_adopt(struct store_txn *txn, const struct actor *actor,
                         const struct cert_copy *cert, struct device_record *device,
                         enum device_state state)
{
    uint64_t old_log = device->cert_log;
    enum err err = key_bind(txn, cert);
    if (err != ERR_OK)
        return err;
    device->state = (uint8_t)state;
    device->changed_s = txn_now_s(txn);
    if (old_log != cert->log) {
        device->cert_log = cert->log;
        device->issue_count++;
        memcpy(device->spki_hash, cert->record.spki_hash, sizeof(device->spki_hash));
    }
    err = txn_device_put(txn, cert->record.line_id, cert_device(cert), device);
    if (err == ERR_OK)
        err = pending_clear(txn, cert);
    if (err == ERR_OK && old_log != cert->log)
        err = cert_supersede(txn, actor, old_log, cert->log);
    if (err == ERR_OK && state == DEVICE_CONFIRMED)
        err = say(txn, actor, JOURNAL_CONFIRMED, cert, "");
    return err;
}
