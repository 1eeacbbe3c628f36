/* Judge, then perform: what is read decides, and nothing is written for an item that is refused. */
#include "factory/settle.h"

#include <assert.h>

#include "base/log.h"
#include "factory/lifecycle.h"

const char *crl_reason_name(uint8_t reason)
{
    static const char *const names[] = {
        [REASON_UNSPECIFIED] = "unspecified",
        [REASON_KEY_COMPROMISE] = "keyCompromise",
        [REASON_CA_COMPROMISE] = "cACompromise",
        [REASON_AFFILIATION_CHANGED] = "affiliationChanged",
        [REASON_SUPERSEDED] = "superseded",
        [REASON_CESSATION] = "cessationOfOperation",
        [REASON_HOLD] = "certificateHold",
        [REASON_REMOVE] = "removeFromCRL",
        [REASON_PRIVILEGE_WITHDRAWN] = "privilegeWithdrawn",
        [REASON_AA_COMPROMISE] = "aACompromise",
    };
    return reason < sizeof(names) / sizeof(names[0]) ? names[reason] : NULL;
}

static bool may_revoke_for(uint8_t reason)
{
    return crl_reason_name(reason) != NULL && reason != REASON_REMOVE;
}

/* What the store says about a certificate and its device. */
struct found {
    struct cert_copy cert;
    bool has_device;
    struct device_record device;
    uint64_t waiting_log; /* of the device; 0: none */
    bool is_taken;        /* it waits, and its key is another device's by now: */
    struct cert_copy owner;
};

static bool is_current(const struct found *found)
{
    return found->has_device && found->device.cert_log == found->cert.log;
}

static bool is_waiting(const struct found *found)
{
    return found->has_device && found->waiting_log == found->cert.log;
}

static enum err find_owner(struct store_txn *txn, struct found *out)
{
    struct key_view key;
    const struct cert_copy *cert = &out->cert;
    enum err err = txn_key_get(txn, cert->record.spki_hash, &key);
    if (err != ERR_OK)
        return err;
    out->is_taken = key_is_others(&key, cert->record.line_id, cert_device(cert));
    return out->is_taken ? cert_copy_get(txn, key.record->cert_log, &out->owner) : ERR_OK;
}

static enum err find(struct store_txn *txn, const struct settle_by *by, uint64_t log,
                     struct found *out)
{
    enum err err = cert_copy_get(txn, log, &out->cert);
    if (err != ERR_OK)
        return err == ERR_NOT_FOUND ? ERR_CERT_UNKNOWN : err;
    uint32_t line_id = out->cert.record.line_id;
    struct bytes device_id = cert_device(&out->cert);
    if ((by->line_id != 0 && by->line_id != line_id) ||
        (by->device_id.len != 0 && !bytes_eq(by->device_id, device_id)))
        return ERR_CERT_UNKNOWN;
    err = txn_device_get(txn, line_id, device_id, &out->device);
    out->has_device = err == ERR_OK;
    if (err == ERR_OK)
        err = pending_log(txn, line_id, device_id, &out->waiting_log);
    if (err == ERR_OK && is_waiting(out))
        err = find_owner(txn, out);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

/* --- judging --- */

static enum err judge_confirm(const struct found *found)
{
    uint8_t status = found->cert.record.status;
    if (status == CERT_REVOKED || status == CERT_ON_HOLD)
        return ERR_CERT_REVOKED;
    if (!found->has_device)
        return ERR_CERT_UNKNOWN;
    if (found->device.state == DEVICE_SCRAPPED)
        return ERR_CERT_REVOKED;
    if (found->is_taken)
        return ERR_KEY_USED;
    if (is_current(found))
        return found->device.state == DEVICE_CONFIRMED ? ERR_CERT_CONFIRMED : ERR_OK;
    return is_waiting(found) ? ERR_OK : ERR_CERT_CONFIRMED;
}

static enum err judge_reject(const struct settle_item *item, const struct found *found)
{
    if (!may_revoke_for(item->reason) || item->reason == REASON_HOLD)
        return ERR_BAD_REQUEST;
    if (found->cert.record.status == CERT_REVOKED)
        return ERR_CERT_REVOKED;
    return is_waiting(found) ? ERR_OK : ERR_CERT_CONFIRMED;
}

static enum err judge_revoke(const struct settle_item *item, const struct found *found)
{
    uint8_t status = found->cert.record.status;
    if (!may_revoke_for(item->reason))
        return ERR_BAD_REQUEST;
    if (status == CERT_REVOKED || (status == CERT_ON_HOLD && item->reason == REASON_HOLD))
        return ERR_CERT_REVOKED;
    return ERR_OK;
}

static enum err judge_release(const struct found *found)
{
    if (found->cert.record.status == CERT_REVOKED)
        return ERR_CERT_REVOKED;
    return found->cert.record.status == CERT_ON_HOLD ? ERR_OK : ERR_BAD_REQUEST;
}

static enum err judge(const struct settle_item *item, const struct found *found)
{
    switch ((enum settle_act)item->act) {
    case SETTLE_CONFIRM:
        return judge_confirm(found);
    case SETTLE_REJECT:
        return judge_reject(item, found);
    case SETTLE_REVOKE:
        return judge_revoke(item, found);
    case SETTLE_RELEASE:
        return judge_release(found);
    }
    return ERR_BAD_REQUEST;
}

/* --- performing --- */

static enum err reject(struct store_txn *txn, const struct actor *actor, uint8_t reason,
                       struct found *found)
{
    struct cert_copy *cert = &found->cert;
    if (!is_current(found))
        return successor_revoke(txn, actor, cert, &found->device, reason, 0);
    enum err err = cert_revoke(txn, actor, cert, reason, 0);
    if (err == ERR_OK)
        err = pending_clear(txn, cert);
    if (err == ERR_OK)
        err = txn_device_del(txn, cert->record.line_id, cert_device(cert));
    return err;
}

/* The successor that waits beside a certificate that is not good any more. */
static enum err revoke_successor(struct store_txn *txn, const struct actor *actor, uint8_t reason,
                                 const struct found *found)
{
    struct cert_copy successor;
    enum err err = cert_copy_get(txn, found->waiting_log, &successor);
    if (err != ERR_OK)
        return err;
    return successor_revoke(txn, actor, &successor, &found->device,
                            reason == REASON_HOLD ? REASON_CESSATION : reason, 0);
}

static enum err revoke(struct store_txn *txn, const struct actor *actor,
                       const struct settle_item *item, struct found *found)
{
    uint8_t reason = item->reason;
    struct cert_copy *cert = &found->cert;
    struct device_record *device = &found->device;
    bool has_successor = found->waiting_log != 0 && found->waiting_log != cert->log;
    enum err err = cert_revoke(txn, actor, cert, reason, 0);
    if (err == ERR_OK && is_current(found) && has_successor)
        err = revoke_successor(txn, actor, reason, found);
    if (err != ERR_OK || reason == REASON_HOLD)
        return err; /* one that waits may do so on hold: it may be released in time */
    if (is_waiting(found))
        err = pending_clear(txn, cert);
    if (err != ERR_OK || !is_current(found))
        return err;
    device->state = DEVICE_REVOKED;
    device->changed_s = txn_now_s(txn);
    return txn_device_put(txn, cert->record.line_id, cert_device(cert), device);
}

static enum err perform(struct store_txn *txn, const struct actor *by,
                        const struct settle_item *item, struct found *found)
{
    struct actor marked = *by, *actor = &marked;
    marked.mark = item->mark;
    switch ((enum settle_act)item->act) {
    case SETTLE_CONFIRM:
        return successor_adopt(txn, actor, &found->cert, &found->device, DEVICE_CONFIRMED);
    case SETTLE_REJECT:
        return reject(txn, actor, item->reason, found);
    case SETTLE_REVOKE:
        return revoke(txn, actor, item, found);
    case SETTLE_RELEASE:
        return cert_release(txn, actor, &found->cert);
    }
    return ERR_INTERNAL;
}

/* --- refusals --- */

static const char *act_name(uint8_t act)
{
    static const char *const names[] = {
        [SETTLE_CONFIRM] = "confirm",
        [SETTLE_REJECT] = "reject",
        [SETTLE_REVOKE] = "revoke",
        [SETTLE_RELEASE] = "release",
    };
    return act < sizeof(names) / sizeof(names[0]) ? names[act] : "unknown";
}

static enum err journal_refusal(struct store_txn *txn, const struct settle_by *by,
                                const struct settle_item *item, const struct found *found)
{
    uint8_t buf[JOURNAL_TEXT_MAX];
    struct writer text = writer_of(buf, sizeof(buf));
    writer_put_str(&text, err_code(item->err));
    put_request_id(&text, by->actor.request_id);
    writer_printf(&text, " operation=%s certificate=%llu", act_name(item->act),
                  (unsigned long long)item->cert_log);
    if (item->err == ERR_KEY_USED) {
        writer_put_u8(&text, ' ');
        put_key_owner(&text, found->owner.record.line_id, cert_device(&found->owner),
                      found->owner.log);
        log_warn("alarm-key-already-used", "%.*s", (int)text.len, (const char *)text.buf);
    }
    struct journal_entry entry = {
        .kind = JOURNAL_REFUSED,
        .protocol = (enum journal_protocol)by->actor.protocol,
        .err = item->err,
        .line_id = by->line_id,
        .cert_log = item->err == ERR_CERT_UNKNOWN ? 0 : item->cert_log,
        .who = by->actor.who,
        .what = by->device_id,
        .text = writer_view(&text),
    };
    enum err err = by->line_id == 0 ? ERR_OK : txn_line_count(txn, by->line_id, 0, 1);
    return err == ERR_OK || err == ERR_NOT_FOUND ? txn_journal(txn, &entry) : err;
}

/* --- items --- */

static bool ends_transaction(enum err err)
{
    return err == ERR_STORE_FULL || err == ERR_STORE_FAILED;
}

static enum err refuse(struct store_txn *txn, const struct settle_by *by,
                       const struct settle_item *item, struct found *found)
{
    enum err err = ERR_OK;
    if (err_class_of(item->err) == ERR_CLASS_REFUSAL && !by->quiet)
        err = journal_refusal(txn, by, item, found);
    if (err == ERR_OK && item->err == ERR_KEY_USED)
        err = reject(txn, &by->actor, REASON_UNSPECIFIED, found);
    return err;
}

/* Did this very item revoke or release it? */
static enum err find_done(struct store_txn *txn, const struct settle_item *item,
                          const struct found *found, bool *out)
{
    static const uint8_t none[REVOKED_MARK_LEN];
    const struct cert_record *record = &found->cert.record;
    struct revoked_record revoked;
    bool revokes = item->act == SETTLE_REVOKE && item->err == ERR_CERT_REVOKED;
    bool releases = item->act == SETTLE_RELEASE && item->err == ERR_BAD_REQUEST;
    *out = false;
    if ((!revokes && !releases) || memcmp(item->mark, none, sizeof(none)) == 0)
        return ERR_OK;
    enum err err =
        txn_revoked_get(txn, record->issuer_id, BYTES_ARRAY(record->serial), &revoked);
    *out = err == ERR_OK && revoked.reason == (releases ? REASON_REMOVE : item->reason) &&
           memcmp(revoked.mark, item->mark, sizeof(none)) == 0;
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

enum err settle_one(struct store_txn *txn, const struct settle_by *by, struct settle_item *item)
{
    bool is_done = false;
    struct found found = {0};
    enum err err = find(txn, by, item->cert_log, &found);
    if (err == ERR_OK)
        err = judge(item, &found);
    item->err = err;
    if (ends_transaction(err))
        return err;
    err = find_done(txn, item, &found, &is_done);
    if (err != ERR_OK)
        return err;
    if (is_done)
        item->err = ERR_OK;
    else if (item->err == ERR_OK)
        err = perform(txn, &by->actor, item, &found);
    else
        err = refuse(txn, by, item, &found);
    if (err == ERR_OK || ends_transaction(err))
        return err;
    log_error("store-inconsistent", "err=%s operation=%s certificate=%llu", err_code(err),
              act_name(item->act), (unsigned long long)item->cert_log);
    return ERR_STORE_FAILED; /* half of it may be written: undo */
}

enum err settle_apply(struct store_txn *txn, struct store_job *job)
{
    const struct settle_facts *facts = (const void *)job->facts;
    const struct settle_set *set = job->extra;
    assert(set->count <= SETTLE_ITEMS_MAX && job->data_len <= sizeof(job->data));
    struct settle_by by = {
        .actor = {.protocol = facts->protocol,
                  .who = bytes_of(facts->who, facts->who_len),
                  .request_id = facts->request_id,
                  .why = bytes_of(job->data, job->data_len)},
        .line_id = facts->line_id,
        .device_id = bytes_of(facts->device_id, facts->device_id_len),
    };
    for (uint32_t i = 0; i < set->count; i++) {
        enum err err = settle_one(txn, &by, &set->items[i]);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}
