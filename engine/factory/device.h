/* device.h: the device rules of the factory model (design, section 7), decided twice: once before
 * signing on a snapshot, to spare the token, and again for good inside the store's transaction.
 *
 * Promise: P2, exactly once per device. device_admit never says ISSUE where device_apply would
 *          surely refuse by the same snapshot; device_apply alone is binding.
 *
 * A certificate may wait for its confirmation (`pending`; CMP without implicitConfirm). A device
 * has one such at most, named by the table `pending`:
 *   - of a new device it is the device's current certificate at once;
 *   - of a device that has one (renewal, rework) it is on record beside it: the device keeps its
 *     certificate until settle.h confirms the new one;
 *   - who asks again with the same key gets it again, byte for byte. If that request does not wait
 *     for confirmation (EST), the certificate does not wait any longer either: it is the device's
 *     from then on. (device_admit says ISSUE then, since something has to be written.)
 *   - who has keys made here gets another one (the first may have been lost with its answer) as long
 *     as nobody has confirmed the certificate;
 *   - any other issuance for this device revokes it (superseded), saying so in the journal. But the
 *     certificate that authenticates a renewal is in use and waits no more.
 * A key whose pending certificate was revoked is refused, unless the device's own certificate is
 * for the same key.
 *
 * Its confirmation comes in a dialogue, and each request that gets it has one of its own. `pending`
 * keeps until when any of them can live, so that transaction.h can end a certificate whose dialogue
 * was lost: twice the wait from its issuance, so that who asks again within the first wait needs no
 * write; one who asks later has it written anew (device_admit says ISSUE then).
 *
 * A request may leave the proof of possession to the confirmation (`unproven`: the certificate is
 * given encrypted). Such a key belongs to nobody yet: it is no device's in `keys` until the
 * certificate is confirmed, asked for again with a proof by a request that does not confirm, or used
 * to renew. Whoever proves the key first has it; a confirmation that comes later is refused
 * (settle.h). So nobody can block a key that they do not hold, and a rejected certificate leaves the
 * key as free as it was.
 *
 * Threads: device_admit on any core with its own reader; device_apply on the writer thread.
 */
#ifndef CERTMILL_FACTORY_DEVICE_H
#define CERTMILL_FACTORY_DEVICE_H

#include "base/bytes.h"
#include "store/store.h"

enum caller_kind {
    CALLER_ANONYMOUS,
    CALLER_STATION, /* Basic, or a certificate of a configured station */
    CALLER_RA,      /* certificate with cmcRA */
    CALLER_DEVICE,  /* a certificate that this appliance issued and that is current */
    CALLER_VENDOR, /* a certificate of a trusted vendor CA (IDevID): may ask for its own identity */
};

enum issue_kind {
    ISSUE_NEW,     /* enroll: new device, or the same again */
    ISSUE_RENEWAL, /* by the device's current certificate: issues anew, supersedes */
    ISSUE_REWORK,  /* by a station with rework and a reason */
};

/* What a decision needs; plain data, copied into store_job.facts. */
struct issue_facts {
    uint8_t kind;     /* enum issue_kind */
    uint8_t protocol; /* enum journal_protocol */
    uint8_t caller;   /* enum caller_kind */
    uint8_t device_id_len;
    uint8_t station_len;
    uint8_t line_name_len;
    uint8_t pending; /* 1: the certificate waits for its confirmation */
    uint8_t key_made; /* 1: the key was made here for this request, and is in its answer alone */
    uint8_t unproven; /* 1: the key is proven by the confirmation alone; then pending */
    uint32_t line_id;
    uint32_t issuer_id;
    uint32_t confirm_wait_s; /* pending: so long does the dialogue wait */
    int64_t asked_s;         /* by the asking core's clock */
    int64_t not_before_s;
    int64_t not_after_s;
    uint64_t current_log; /* renewal: log number of the certificate that authenticated it */
    uint8_t serial[SERIAL_LEN];
    uint8_t spki_hash[32];
    uint8_t fingerprint[32];
    char device_id[DEVICE_ID_MAX];
    char station[STATION_NAME_MAX];
    char line_name[LINE_NAME_MAX];
    char request_id[REQUEST_ID_LEN];
};
_Static_assert(sizeof(struct issue_facts) <= sizeof(((struct store_job *)0)->facts), "facts fit");

enum admit {
    ADMIT_ISSUE,  /* go on to BUILD */
    ADMIT_REPEAT, /* answer with *out_cert: the same certificate again */
    ADMIT_REFUSE, /* *out_err */
};

/* Before signing. `out_cert` points into the snapshot. On ERR_KEY_USED it is a certificate of the
 * device that the key belongs to; otherwise empty when refused. */
enum admit device_admit(struct store_reader *reader, const struct issue_facts *facts,
                        struct cert_view *out_cert, enum err *out_err);
/* What the journal should say about a refusal beside its code, for the data of refusal_apply: on
 * ERR_KEY_USED both devices; nothing for the others. */
void device_refusal_text(enum err err, const struct issue_facts *facts,
                         const struct cert_view *owner, struct writer *out);

/* What became of a certificate that was to be issued. */
struct issue_result {
    uint64_t log; /* of the certificate to answer with */
    bool repeat;  /* the device has that already: the new one is dropped and was never released */
};
/* Inside a transaction: decides, writes and journals. again: gets the certificate of a repeat, with room
 * for CERT_DER_MAX; may be NULL, and may lie where cert does. A refusal (ERR_CLASS_REFUSAL) writes
 * nothing but journal records; after any other error the transaction has to end. */
enum err device_issue(struct store_txn *txn, const struct issue_facts *facts, struct bytes cert,
                      struct writer *again, struct issue_result *out) MUST_USE;

/* store_job.apply for an issuance: facts is struct issue_facts, data the new certificate; on ERR_OK
 * data is the certificate to answer with (the stored one when the device already has it: then the
 * new one is dropped and was never released). Journals what it decides. */
enum err device_apply(struct store_txn *txn, struct store_job *job);
/* True when ERR_OK meant "the stored one again". */
bool device_apply_was_repeat(const struct store_job *job);
/* Log number of the certificate that ERR_OK answers with. */
uint64_t device_apply_log(const struct store_job *job);

/* A refusal for the journal; fire and forget. data: text. */
struct refusal_facts {
    uint8_t protocol;
    uint8_t device_id_len;
    uint8_t who_len;
    uint16_t err;
    uint32_t line_id;
    uint32_t suppressed; /* > 0: JOURNAL_SUPPRESSED with this count */
    char device_id[DEVICE_ID_MAX];
    char who[STATION_NAME_MAX];
    char request_id[REQUEST_ID_LEN];
};
enum err refusal_apply(struct store_txn *txn, struct store_job *job);

/* EST confirm: data is the fingerprint (32 bytes); facts struct confirm_facts. Idempotent.
 * ERR_KEY_USED: the key is another device's by now; the certificate is rejected when its time to be
 * confirmed has passed. */
struct confirm_facts {
    uint32_t line_id;
    uint8_t protocol;
    uint8_t who_len;
    uint8_t device_id_len; /* > 0: must be this device's own certificate */
    uint8_t fingerprint[32];
    uint64_t cert_log; /* found by the caller through device id or key */
    char who[STATION_NAME_MAX];
    char device_id[DEVICE_ID_MAX];
    char request_id[REQUEST_ID_LEN];
};
enum err confirm_apply(struct store_txn *txn, struct store_job *job);

/* Device ids: 1..DEVICE_ID_MAX printable ASCII without space, slash, backslash, quotes. */
bool device_id_is_valid(struct bytes device_id);

#endif
