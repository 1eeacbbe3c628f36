/* The device rules (design, section 7). decide() is the table; it reads through one seam, so that
 * the snapshot before signing and the transaction after it follow the same rules. */
#include "factory/device.h"

#include <assert.h>

#include "base/log.h"
#include "factory/lifecycle.h"

/* Records as a decision sees them: the transaction's, or the snapshot's. */
struct source {
    struct store_txn *txn;
    struct store_reader *reader;
};

static enum err get_device(const struct source *from, uint32_t line_id, struct bytes device_id,
                           struct device_record *out)
{
    return from->txn ? txn_device_get(from->txn, line_id, device_id, out)
                     : reader_device(from->reader, line_id, device_id, out);
}

static enum err get_key(const struct source *from, const uint8_t spki_hash[32],
                        struct key_view *out)
{
    return from->txn ? txn_key_get(from->txn, spki_hash, out)
                     : reader_key(from->reader, spki_hash, out);
}

static enum err get_cert(const struct source *from, uint64_t log, struct cert_view *out)
{
    return from->txn ? txn_cert_get(from->txn, log, out) : reader_cert(from->reader, log, out);
}

static enum err get_pending(const struct source *from, uint32_t line_id, struct bytes device_id,
                            struct pending_record *out)
{
    return from->txn ? txn_pending_get(from->txn, line_id, device_id, out)
                     : reader_pending(from->reader, line_id, device_id, out);
}

/* What the store says about the device and the key of a request. Nothing has been written when it
 * is read, so the views hold until the first write. */
struct known {
    bool has_device;
    bool has_key;
    struct device_record device;
    struct cert_view current;  /* has_device */
    struct cert_view key_cert; /* has_key: the newest certificate for this key */
    uint64_t waiting_log;      /* the one that waits for its confirmation; 0: none */
    struct cert_view waiting;  /* waiting_log != 0 */
    int64_t waiting_until_s, waiting_last_end_s;
};

struct decision {
    enum admit admit;
    enum err err;          /* ADMIT_REFUSE */
    struct cert_view cert; /* ADMIT_REPEAT: the one to answer with; ERR_KEY_USED: the owner's */
    struct device_record device; /* what the device is; zeros: new */
    uint64_t waiting_log;
    bool adopt;   /* ADMIT_REPEAT: it waits, and whoever asks now does not confirm */
    bool prolong; /* ADMIT_REPEAT: it waits, and the new dialogue outlives what `pending` says */
    int64_t last_end_s; /* prolong: as it is in `pending` */
};

static struct bytes id_of(const struct issue_facts *facts)
{
    return bytes_of(facts->device_id, facts->device_id_len);
}

static struct decision refuse(enum err err)
{
    return (struct decision){.admit = ADMIT_REFUSE, .err = err};
}

/* When the dialogue of this request is over, and swept. */
static int64_t dialogue_end_s(const struct issue_facts *facts)
{
    return facts->asked_s + facts->confirm_wait_s + CMP_CONFIRM_MARGIN_S;
}

static struct decision repeat(const struct issue_facts *facts, const struct known *known,
                              const struct cert_view *cert)
{
    bool waits = known->waiting_log == cert->log;
    return (struct decision){.admit = ADMIT_REPEAT,
                             .cert = *cert,
                             .device = known->device,
                             .waiting_log = known->waiting_log,
                             .adopt = !facts->pending && waits,
                             .prolong = facts->pending && waits &&
                                        known->waiting_until_s < dialogue_end_s(facts),
                             .last_end_s = known->waiting_last_end_s};
}

static struct decision issue(const struct known *known)
{
    return (struct decision){
        .admit = ADMIT_ISSUE, .device = known->device, .waiting_log = known->waiting_log};
}

static bool is_for_key(const struct cert_view *cert, const struct issue_facts *facts)
{
    return memcmp(cert->record->spki_hash, facts->spki_hash, sizeof(facts->spki_hash)) == 0;
}

static bool is_of_device(const struct cert_view *cert, const struct issue_facts *facts)
{
    return cert->record->line_id == facts->line_id && bytes_eq(cert->device_id, id_of(facts));
}

/* A certificate on hold is as good as revoked until somebody lifts the hold. */
static bool is_revoked(const struct cert_view *cert)
{
    return cert->record->status == CERT_REVOKED || cert->record->status == CERT_ON_HOLD;
}

/* A record that must be there and is not is our fault, not the caller's. */
static enum err must_exist(enum err err, const char *what, const struct issue_facts *facts)
{
    if (err == ERR_NOT_FOUND) {
        log_error("store-inconsistent", "missing=%s line_id=%u device=%.*s", what, facts->line_id,
                  (int)facts->device_id_len, facts->device_id);
        return ERR_INTERNAL;
    }
    return err;
}

static enum err learn_device(const struct source *from, const struct issue_facts *facts,
                             struct known *out)
{
    struct pending_record pending;
    enum err err = get_device(from, facts->line_id, id_of(facts), &out->device);
    if (err != ERR_OK)
        return err;
    out->has_device = true;
    err = must_exist(get_cert(from, out->device.cert_log, &out->current), "certificate", facts);
    if (err == ERR_OK)
        err = get_pending(from, facts->line_id, id_of(facts), &pending);
    if (err == ERR_OK)
        err = must_exist(get_cert(from, pending.log, &out->waiting), "certificate", facts);
    if (err == ERR_OK) {
        out->waiting_log = pending.log;
        out->waiting_until_s = pending_until_s(&pending, out->waiting.record);
        out->waiting_last_end_s = pending.last_end_s;
    }
    return err;
}

static enum err learn(const struct source *from, const struct issue_facts *facts, struct known *out)
{
    struct key_view key;
    *out = (struct known){0};
    enum err err = learn_device(from, facts, out);
    if (err != ERR_OK && err != ERR_NOT_FOUND)
        return err;
    err = get_key(from, facts->spki_hash, &key);
    out->has_key = err == ERR_OK;
    if (out->has_key)
        err =
            must_exist(get_cert(from, key.record->cert_log, &out->key_cert), "certificate", facts);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

/* The same device with the key it has: the same certificate again, unless that is revoked. */
static struct decision same_key(const struct issue_facts *facts, const struct known *known)
{
    if (known->current.record->status == CERT_VALID)
        return repeat(facts, known, &known->current);
    return refuse(ERR_CERT_REVOKED);
}

/* A successor that waits for its confirmation is given again to who asks again. */
static struct decision waiting_or_new(const struct issue_facts *facts, const struct known *known)
{
    if (known->waiting_log != 0 && known->waiting_log != known->current.log &&
        is_for_key(&known->waiting, facts))
        return is_revoked(&known->waiting) ? refuse(ERR_CERT_REVOKED)
                                           : repeat(facts, known, &known->waiting);
    return issue(known);
}

static struct decision decide_new(const struct issue_facts *facts, const struct known *known)
{
    if (!known->has_device)
        return issue(known);
    if (is_for_key(&known->current, facts))
        return same_key(facts, known);
    if (facts->key_made && known->waiting_log != 0 && known->waiting_log == known->current.log)
        return issue(known); /* its key may have been lost with the answer, and none was confirmed */
    return refuse(ERR_DEVICE_PROVISIONED);
}

static struct decision decide_rework(const struct issue_facts *facts, const struct known *known)
{
    /* the station that repeats its request gets what it got; rework brings a new key */
    if (known->has_device && is_for_key(&known->current, facts))
        return same_key(facts, known);
    return waiting_or_new(facts, known);
}

static struct decision refuse_key(const struct cert_view *owner)
{
    return (struct decision){.admit = ADMIT_REFUSE, .err = ERR_KEY_USED, .cert = *owner};
}

/* Who renews by a certificate that waits proves its key, which may be another device's by now. */
static struct decision renew(const struct source *from, const struct issue_facts *facts,
                             const struct known *known)
{
    struct key_view key;
    struct cert_view owner;
    if (known->waiting_log != known->current.log)
        return waiting_or_new(facts, known);
    enum err err = get_key(from, known->current.record->spki_hash, &key);
    if (err != ERR_OK && err != ERR_NOT_FOUND)
        return refuse(err);
    if (err == ERR_NOT_FOUND || !key_is_others(&key, facts->line_id, id_of(facts)))
        return waiting_or_new(facts, known);
    err = must_exist(get_cert(from, key.record->cert_log, &owner), "certificate", facts);
    return err == ERR_OK ? refuse_key(&owner) : refuse(err);
}

static struct decision decide_renewal(const struct source *from, const struct issue_facts *facts,
                                      const struct known *known)
{
    struct cert_view old;
    enum err err = get_cert(from, facts->current_log, &old);
    if (err == ERR_NOT_FOUND)
        return refuse(ERR_CERT_UNKNOWN);
    if (err != ERR_OK)
        return refuse(err);
    if (!is_of_device(&old, facts))
        return refuse(ERR_IDENTITY_MISMATCH);
    if (is_revoked(&old)) /* first: of one that was rejected the device has no record */
        return refuse(ERR_CERT_REVOKED);
    if (!known->has_device)
        return refuse(must_exist(ERR_NOT_FOUND, "device", facts));
    if (old.log == known->device.cert_log)
        return old.record->status == CERT_VALID ? renew(from, facts, known)
                                                : refuse(ERR_CLIENT_CERT_REVOKED);
    /* the reply to this renewal was lost: the device still holds the old certificate */
    if (old.record->replaced_by == known->device.cert_log && is_for_key(&known->current, facts))
        return same_key(facts, known);
    return refuse(ERR_CLIENT_CERT_REVOKED);
}

static struct decision decide(const struct source *from, const struct issue_facts *facts)
{
    assert(facts->device_id_len <= DEVICE_ID_MAX && facts->station_len <= STATION_NAME_MAX);
    assert(facts->pending || !facts->unproven);
    struct known known;
    enum err err = learn(from, facts, &known);
    if (err != ERR_OK)
        return refuse(err);
    /* a key belongs to one device of one line, for ever, and first of all */
    if (known.has_key && !is_of_device(&known.key_cert, facts))
        return refuse_key(&known.key_cert);
    if (known.has_key && is_revoked(&known.key_cert))
        return refuse(ERR_CERT_REVOKED);
    if (known.has_device && known.device.state == DEVICE_SCRAPPED)
        return refuse(ERR_CERT_REVOKED);
    switch ((enum issue_kind)facts->kind) {
    case ISSUE_NEW:
        return decide_new(facts, &known);
    case ISSUE_RENEWAL:
        return decide_renewal(from, facts, &known);
    case ISSUE_REWORK:
        return decide_rework(facts, &known);
    }
    return refuse(ERR_INTERNAL);
}

enum admit device_admit(struct store_reader *reader, const struct issue_facts *facts,
                        struct cert_view *out_cert, enum err *out_err)
{
    struct decision decision = decide(&(struct source){.reader = reader}, facts);
    if (decision.adopt || decision.prolong) /* the answer is known, but it has to be written what it means */
        decision = (struct decision){.admit = ADMIT_ISSUE};
    *out_cert = decision.cert;
    *out_err = decision.err;
    return decision.admit;
}

/* --- texts --- */

void device_refusal_text(enum err err, const struct issue_facts *facts,
                         const struct cert_view *owner, struct writer *out)
{
    if (err != ERR_KEY_USED || owner->record == NULL)
        return;
    writer_printf(out, "device=%.*s line=%u ", (int)facts->device_id_len, facts->device_id,
                  facts->line_id);
    put_key_owner(out, owner->record->line_id, owner->device_id, owner->log);
}

/* --- inside the transaction --- */

static struct journal_entry entry_of(const struct issue_facts *facts, enum journal_kind kind)
{
    return (struct journal_entry){
        .kind = kind,
        .protocol = (enum journal_protocol)facts->protocol,
        .line_id = facts->line_id,
        .who = bytes_of(facts->station, facts->station_len),
        .what = id_of(facts),
    };
}

static struct actor actor_of(const struct issue_facts *facts)
{
    return (struct actor){
        .protocol = facts->protocol,
        .who = bytes_of(facts->station, facts->station_len),
        .request_id = facts->request_id,
    };
}

static enum err apply_refuse(struct store_txn *txn, const struct issue_facts *facts,
                             const struct decision *decision)
{
    enum err refusal = decision->err;
    if (err_class_of(refusal) != ERR_CLASS_REFUSAL)
        return refusal; /* not a decision but a failure */
    uint8_t buf[JOURNAL_TEXT_MAX];
    struct writer text = writer_of(buf, sizeof(buf));
    struct journal_entry entry = entry_of(facts, JOURNAL_REFUSED);
    writer_put_str(&text, err_code(refusal));
    put_request_id(&text, facts->request_id);
    if (refusal == ERR_KEY_USED) {
        writer_put_u8(&text, ' ');
        device_refusal_text(refusal, facts, &decision->cert, &text);
        entry.cert_log = decision->cert.log;
        log_warn("alarm-key-already-used", "%.*s", (int)text.len, (const char *)text.buf);
    }
    entry.err = refusal;
    entry.text = writer_view(&text);
    enum err err = txn_line_count(txn, facts->line_id, 0, 1);
    if (err == ERR_OK || err == ERR_NOT_FOUND)
        err = txn_journal(txn, &entry);
    return err != ERR_OK ? err : refusal;
}

/* What waited is the device's for good: this request does not confirm what it gets. */
static enum err adopt(struct store_txn *txn, const struct issue_facts *facts,
                      struct decision *decision)
{
    struct cert_copy cert;
    struct actor actor = actor_of(facts);
    struct device_record *device = &decision->device;
    bool is_current = device->cert_log == decision->waiting_log;
    enum err err = cert_copy_get(txn, decision->waiting_log, &cert);
    if (err != ERR_OK)
        return err;
    return successor_adopt(txn, &actor, &cert, device,
                           is_current ? (enum device_state)device->state : DEVICE_ISSUED);
}

static enum err put_pending(struct store_txn *txn, const struct issue_facts *facts, uint64_t log,
                            int64_t last_end_s)
{
    struct pending_record pending = {.log = log,
                                     .until_s = dialogue_end_s(facts) + facts->confirm_wait_s,
                                     .last_end_s = last_end_s};
    return txn_pending_put(txn, facts->line_id, id_of(facts), &pending);
}

static enum err apply_repeat(struct store_txn *txn, const struct issue_facts *facts,
                             struct decision *decision, struct writer *again,
                             struct issue_result *out)
{
    const struct cert_view *cert = &decision->cert;
    uint8_t buf[64];
    struct writer text = writer_of(buf, sizeof(buf));
    struct journal_entry entry = entry_of(facts, JOURNAL_REPEATED);
    /* before the first write: the view is the transaction's */
    if (again != NULL)
        writer_put(again, cert->der);
    assert(again == NULL || !again->failed);
    entry.cert_log = cert->log;
    put_request_id(&text, facts->request_id);
    entry.text = writer_view(&text);
    *out = (struct issue_result){.log = cert->log, .repeat = true};
    enum err err = decision->adopt ? adopt(txn, facts, decision) : ERR_OK;
    if (decision->prolong)
        err = put_pending(txn, facts, cert->log, decision->last_end_s);
    return err == ERR_OK ? txn_journal(txn, &entry) : err;
}

static enum err append(struct store_txn *txn, const struct issue_facts *facts, struct bytes cert,
                       uint64_t *out_log)
{
    struct cert_record record = {
        .version = STORE_SCHEMA_VERSION,
        .status = CERT_VALID,
        .device_id_len = facts->device_id_len,
        .station_len = facts->station_len,
        .protocol = facts->protocol,
        .der_len = (uint16_t)cert.len,
        .line_id = facts->line_id,
        .issuer_id = facts->issuer_id,
        .issued_s = txn_now_s(txn),
        .not_before_s = facts->not_before_s,
        .not_after_s = facts->not_after_s,
        .status_s = txn_now_s(txn),
    };
    memcpy(record.serial, facts->serial, sizeof(record.serial));
    memcpy(record.fingerprint, facts->fingerprint, sizeof(record.fingerprint));
    memcpy(record.spki_hash, facts->spki_hash, sizeof(record.spki_hash));
    enum err err = txn_cert_append(txn, &record, id_of(facts),
                                   bytes_of(facts->station, facts->station_len), cert, out_log);
    if (err == ERR_INTERNAL)
        log_error("serial-collision", "line_id=%u device=%.*s: the certificate was dropped",
                  facts->line_id, (int)facts->device_id_len, facts->device_id);
    return err;
}

static enum err put_device(struct store_txn *txn, const struct issue_facts *facts, uint64_t log,
                           uint32_t issue_count)
{
    struct device_record device = {
        .version = STORE_SCHEMA_VERSION,
        .state = DEVICE_ISSUED,
        .issue_count = issue_count,
        .cert_log = log,
        .changed_s = txn_now_s(txn),
    };
    memcpy(device.spki_hash, facts->spki_hash, sizeof(device.spki_hash));
    return txn_device_put(txn, facts->line_id, id_of(facts), &device);
}

static enum err put_key(struct store_txn *txn, const struct issue_facts *facts, uint64_t log)
{
    struct key_record key = {
        .version = STORE_SCHEMA_VERSION,
        .device_id_len = facts->device_id_len,
        .line_id = facts->line_id,
        .cert_log = log,
    };
    return txn_key_put(txn, facts->spki_hash, &key, id_of(facts));
}

static enum err journal_issued(struct store_txn *txn, const struct issue_facts *facts, uint64_t log,
                               uint64_t old_log)
{
    static const char *const kinds[] = {
        [ISSUE_NEW] = "instead-of=", [ISSUE_RENEWAL] = "renewal-of=", [ISSUE_REWORK] = "rework-of="};
    uint8_t buf[96];
    struct writer text = writer_of(buf, sizeof(buf));
    struct journal_entry entry = entry_of(facts, JOURNAL_ISSUED);
    if (old_log != 0)
        writer_printf(&text, "%s%llu", kinds[facts->kind], (unsigned long long)old_log);
    if (facts->pending)
        writer_put_str(&text, text.len == 0 ? "pending" : " pending");
    put_request_id(&text, facts->request_id);
    entry.cert_log = log;
    entry.text = writer_view(&text);
    return txn_journal(txn, &entry);
}

/* What waited for its confirmation until now: a successor is revoked, the device's own certificate
 * waits no longer. One that renews is in use, and has proven its key; but one that is replaced before
 * it was confirmed was never in use, and its key may never have been proven. */
static enum err retire_waiting(struct store_txn *txn, const struct issue_facts *facts,
                               const struct decision *decision, uint64_t new_log)
{
    struct cert_copy waiting;
    struct actor actor = actor_of(facts);
    enum err err = cert_copy_get(txn, decision->waiting_log, &waiting);
    if (err != ERR_OK)
        return err;
    if (waiting.log != decision->device.cert_log)
        return successor_revoke(txn, &actor, &waiting, &decision->device, REASON_SUPERSEDED,
                                new_log);
    bool is_proven = true;
    if (facts->kind == ISSUE_RENEWAL)
        err = key_bind(txn, &waiting);
    else
        err = key_is_proven(txn, &waiting, &is_proven);
    if (err == ERR_OK && facts->kind != ISSUE_RENEWAL && (facts->pending || !is_proven))
        err = cert_revoke(txn, &actor, &waiting, REASON_SUPERSEDED, new_log);
    return err != ERR_OK ? err : pending_clear(txn, &waiting);
}

/* Everything that an issuance changes beside the certificate itself. */
static enum err link_issued(struct store_txn *txn, const struct issue_facts *facts,
                            const struct decision *decision, uint64_t log)
{
    uint64_t old_log = decision->device.cert_log;
    bool never_used = facts->kind != ISSUE_RENEWAL && decision->waiting_log == old_log;
    /* on record beside the device's certificate, which it keeps until the new one is confirmed */
    bool beside = facts->pending && old_log != 0 && !never_used;
    struct actor actor = actor_of(facts);
    enum err err = ERR_OK;
    if (decision->waiting_log != 0)
        err = retire_waiting(txn, facts, decision, log);
    if (err == ERR_OK && !beside)
        err = put_device(txn, facts, log, decision->device.issue_count + 1);
    if (err == ERR_OK && !facts->unproven) /* after a successor gave its key back */
        err = put_key(txn, facts, log);
    if (err == ERR_OK && facts->pending)
        err = put_pending(txn, facts, log, 0);
    if (err == ERR_OK && !beside && old_log != 0)
        err = cert_supersede(txn, &actor, old_log, log);
    return err;
}

static enum err apply_issue(struct store_txn *txn, const struct issue_facts *facts,
                            struct bytes cert, const struct decision *decision,
                            struct issue_result *out)
{
    assert(cert.len != 0 && cert.len <= CERT_DER_MAX);
    uint64_t log = 0;
    /* what may still fail comes before the first write, and the serial is that write */
    enum err err = must_exist(txn_line_count(txn, facts->line_id, 0, 0), "line", facts);
    if (err == ERR_OK)
        err = append(txn, facts, cert, &log);
    if (err != ERR_OK)
        return err;
    err = link_issued(txn, facts, decision, log);
    if (err == ERR_OK)
        err = txn_line_count(txn, facts->line_id, 1, 0);
    if (err == ERR_OK)
        err = journal_issued(txn, facts, log, decision->device.cert_log);
    *out = (struct issue_result){.log = log};
    return err;
}

enum err device_issue(struct store_txn *txn, const struct issue_facts *facts, struct bytes cert,
                      struct writer *again, struct issue_result *out)
{
    *out = (struct issue_result){0};
    struct decision decision = decide(&(struct source){.txn = txn}, facts);
    switch (decision.admit) {
    case ADMIT_ISSUE:
        return apply_issue(txn, facts, cert, &decision, out);
    case ADMIT_REPEAT:
        return apply_repeat(txn, facts, &decision, again, out);
    case ADMIT_REFUSE:
        return apply_refuse(txn, facts, &decision);
    }
    return ERR_INTERNAL;
}

/* --- as a job --- */

/* The result lies behind the facts. */
enum { RESULT_AT = sizeof(((struct store_job *)0)->facts) - sizeof(struct issue_result) };
_Static_assert((size_t)RESULT_AT >= sizeof(struct issue_facts),
               "the result lies behind the facts");

static struct issue_result result_of(const struct store_job *job)
{
    struct issue_result result;
    memcpy(&result, job->facts + RESULT_AT, sizeof(result));
    return result;
}

enum err device_apply(struct store_txn *txn, struct store_job *job)
{
    struct issue_result result;
    struct writer again = writer_of(job->data, sizeof(job->data));
    enum err err = device_issue(txn, (const void *)job->facts, bytes_of(job->data, job->data_len),
                                &again, &result);
    if (result.repeat)
        job->data_len = (uint32_t)again.len;
    memcpy(job->facts + RESULT_AT, &result, sizeof(result));
    return err;
}

bool device_apply_was_repeat(const struct store_job *job)
{
    return job->err == ERR_OK && result_of(job).repeat;
}

uint64_t device_apply_log(const struct store_job *job)
{
    return result_of(job).log;
}

/* --- refusals --- */

enum err refusal_apply(struct store_txn *txn, struct store_job *job)
{
    const struct refusal_facts *facts = (const void *)job->facts;
    uint8_t buf[JOURNAL_TEXT_MAX];
    struct writer text = writer_of(buf, sizeof(buf));
    enum err refusal = (enum err)facts->err;
    if (refusal != ERR_OK) /* ERR_OK: counted over several codes */
        writer_put_str(&text, err_code(refusal));
    if (facts->suppressed != 0)
        writer_printf(&text, "%ssuppressed=%u", text.len == 0 ? "" : " ", facts->suppressed);
    put_request_id(&text, facts->request_id);
    if (job->data_len != 0) {
        size_t room = sizeof(buf) - text.len - 1;
        writer_put_u8(&text, ' ');
        writer_put(&text, bytes_of(job->data, job->data_len < room ? job->data_len : room));
    }
    if (refusal == ERR_KEY_USED)
        log_warn("alarm-key-already-used", "%.*s", (int)text.len, (const char *)text.buf);
    struct journal_entry entry = {
        .kind = facts->suppressed != 0 ? JOURNAL_SUPPRESSED : JOURNAL_REFUSED,
        .protocol = (enum journal_protocol)facts->protocol,
        .err = refusal,
        .line_id = facts->line_id,
        .who = bytes_of(facts->who, facts->who_len),
        .what = bytes_of(facts->device_id, facts->device_id_len),
        .text = writer_view(&text),
    };
    uint64_t count = facts->suppressed != 0 ? facts->suppressed : 1;
    enum err err = facts->line_id == 0 ? ERR_OK : txn_line_count(txn, facts->line_id, 0, count);
    return err == ERR_OK || err == ERR_NOT_FOUND ? txn_journal(txn, &entry) : err;
}

/* --- confirmation --- */

/* The certificate that is confirmed, and its device; anything that does not fit is "unknown" alike,
 * so that a caller learns nothing about certificates that are not its own. */
static enum err find_confirmed(struct store_txn *txn, const struct confirm_facts *facts,
                               struct device_record *out_device, struct cert_view *out_cert)
{
    struct bytes id = bytes_of(facts->device_id, facts->device_id_len);
    uint64_t log = facts->cert_log;
    enum err err = ERR_OK;
    if (log == 0) {
        err = id.len == 0 ? ERR_NOT_FOUND : txn_device_get(txn, facts->line_id, id, out_device);
        log = out_device->cert_log;
    }
    if (err == ERR_OK)
        err = txn_cert_get(txn, log, out_cert);
    if (err == ERR_OK && (memcmp(out_cert->record->fingerprint, facts->fingerprint,
                                 sizeof(facts->fingerprint)) != 0 ||
                          out_cert->record->line_id != facts->line_id ||
                          (id.len != 0 && !bytes_eq(id, out_cert->device_id))))
        err = ERR_NOT_FOUND;
    if (err == ERR_OK)
        err = txn_device_get(txn, facts->line_id, out_cert->device_id, out_device);
    if (err == ERR_OK && out_device->cert_log != log)
        err = ERR_NOT_FOUND; /* superseded: confirming it says nothing about the device now */
    return err == ERR_NOT_FOUND ? ERR_CERT_UNKNOWN : err;
}

static enum err confirm_refuse(struct store_txn *txn, const struct confirm_facts *facts,
                               enum err refusal)
{
    uint8_t buf[128];
    struct writer text = writer_of(buf, sizeof(buf));
    writer_put_str(&text, err_code(refusal));
    put_request_id(&text, facts->request_id);
    writer_put_str(&text, " operation=confirm");
    if (refusal == ERR_KEY_USED)
        log_warn("alarm-key-already-used", "%.*s", (int)text.len, (const char *)text.buf);
    struct journal_entry entry = {
        .kind = JOURNAL_REFUSED,
        .protocol = (enum journal_protocol)facts->protocol,
        .err = refusal,
        .line_id = facts->line_id,
        .who = bytes_of(facts->who, facts->who_len),
        .what = bytes_of(facts->device_id, facts->device_id_len),
        .text = writer_view(&text),
    };
    enum err err = txn_line_count(txn, facts->line_id, 0, 1);
    if (err == ERR_OK || err == ERR_NOT_FOUND)
        err = txn_journal(txn, &entry);
    return err != ERR_OK ? err : refusal;
}

static enum err confirm(struct store_txn *txn, const struct confirm_facts *facts,
                        struct device_record *device, uint64_t log)
{
    struct cert_copy cert;
    struct key_view key;
    struct actor actor = {
        .protocol = facts->protocol,
        .who = bytes_of(facts->who, facts->who_len),
        .request_id = facts->request_id,
    };
    enum err err = cert_copy_get(txn, log, &cert);
    if (err != ERR_OK)
        return err;
    err = txn_key_get(txn, cert.record.spki_hash, &key);
    if (err == ERR_OK && key_is_others(&key, cert.record.line_id, cert_device(&cert)))
        return confirm_refuse(txn, facts, ERR_KEY_USED);
    return err != ERR_OK && err != ERR_NOT_FOUND
               ? err
               : successor_adopt(txn, &actor, &cert, device, DEVICE_CONFIRMED);
}

enum err confirm_apply(struct store_txn *txn, struct store_job *job)
{
    const struct confirm_facts *facts = (const void *)job->facts;
    struct device_record device = {0};
    struct cert_view cert = {0};
    enum err err = find_confirmed(txn, facts, &device, &cert);
    if (err == ERR_OK && is_revoked(&cert))
        err = ERR_CERT_REVOKED;
    if (err != ERR_OK)
        return err_class_of(err) == ERR_CLASS_REFUSAL ? confirm_refuse(txn, facts, err) : err;
    if (device.state != DEVICE_ISSUED)
        return ERR_OK; /* said before */
    return confirm(txn, facts, &device, cert.log);
}
