/* settle.h: what becomes of certificates after they are issued: confirmed, rejected, revoked,
 * released.
 *
 * Promise: each act is done once and whole, or refused for its certificate with nothing written but
 *          what ERR_KEY_USED says; one refused item does not stop the others. Everything done, and every refusal of policy,
 *          is in the journal.
 * Owner:   the set and its items are the caller's (store_job.extra) until the job is polled back.
 * Threads: settle_apply on the writer thread, or through store_run.
 * Errors:  of the job: ERR_STORE_FULL, ERR_STORE_FAILED, ERR_INTERNAL; no item has happened then,
 *          whatever its err says. Of an item: below.
 * Limits:  SETTLE_ITEMS_MAX.
 */
#ifndef CERTMILL_FACTORY_SETTLE_H
#define CERTMILL_FACTORY_SETTLE_H

#include "store/store.h"

/* Every item: ERR_CERT_UNKNOWN when the certificate is not of the line (and device) in the facts.
 */
enum settle_act {
    /* It becomes the device's certificate, if it was not already, in place of the one before
     * (superseded), and the device CONFIRMED. What it confirms is also that the key is there: one
     * that was not proven before (device.h) is the device's from now on.
     * ERR_KEY_USED: another device has proven the key in the meantime; the certificate is rejected
     * (SETTLE_REJECT), which is the one refusal that writes.
     * ERR_CERT_REVOKED: revoked or on hold. ERR_CERT_CONFIRMED: confirmed before, by whomever, or
     * superseded since; whether this is a retransmission the caller knows. */
    SETTLE_CONFIRM,
    /* One that waits for its confirmation is revoked, for `reason`, and the device has what it had
     * before: its certificate, or, for a new device, no record at all, so that it may enroll with
     * another key.
     * ERR_CERT_REVOKED: revoked before. ERR_CERT_CONFIRMED: does not wait (any more). */
    SETTLE_REJECT,
    /* `reason` REASON_HOLD puts it on hold until SETTLE_RELEASE: the device's record is as it was,
     * but requests with this certificate or key are refused. Any other revokes it for good, also
     * one on hold, and the device is REVOKED if it is its current certificate. A pending successor
     * of the current certificate is revoked with it (REASON_CESSATION for a hold): it was asked for
     * on the word of that certificate. ERR_CERT_REVOKED: revoked before (or on hold, put on hold
     * again), unless by this very item: then it is done, and nothing is written. ERR_BAD_REQUEST: no
     * reason to revoke for: 7, 8, > 10. */
    SETTLE_REVOKE,
    /* Takes a hold back: valid, or superseded when it has a successor. ERR_BAD_REQUEST: not on
     * hold, unless this very item took it back; ERR_CERT_REVOKED: revoked for good. */
    SETTLE_RELEASE,
};

struct settle_item {
    uint64_t cert_log;
    uint8_t act;    /* enum settle_act */
    uint8_t reason; /* enum crl_reason: of SETTLE_REJECT (not REASON_HOLD) and SETTLE_REVOKE */
    /* Of SETTLE_REVOKE and SETTLE_RELEASE: tells an item of a request from others, also of the same
     * request, so that what comes again after a crash, with its answer not on record, is known.
     * Zeros: none. */
    uint8_t mark[REVOKED_MARK_LEN];
    enum err err;   /* out */
};

#define SETTLE_ITEMS_MAX CMP_REQUESTS_PER_MESSAGE_MAX

/* job->extra. */
struct settle_set {
    struct settle_item *items; /* in this order; an item sees what those before it did */
    uint32_t count;            /* 0..SETTLE_ITEMS_MAX */
};

/* job->facts. */
struct settle_facts {
    uint32_t line_id; /* of all the certificates; 0: of any line (an operator) */
    uint8_t protocol; /* enum journal_protocol */
    uint8_t who_len;
    uint8_t device_id_len; /* > 0: of this device alone */
    char who[STATION_NAME_MAX];
    char device_id[DEVICE_ID_MAX];
    char request_id[REQUEST_ID_LEN];
};
_Static_assert(sizeof(struct settle_facts) <= sizeof(((struct store_job *)0)->facts), "facts fit");

/* store_job.apply. data: what the journal should say beside the act ("certConf-rejected"), may be
 * empty. */
enum err settle_apply(struct store_txn *txn, struct store_job *job);

/* "keyCompromise", as RFC 5280 has it; NULL for what is no reason. */
const char *crl_reason_name(uint8_t reason);

#endif
