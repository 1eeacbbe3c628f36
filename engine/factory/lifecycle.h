/* lifecycle.h: the steps between a certificate's states; device.c and settle.c decide, this writes.
 *
 * Promise: each step keeps certs, devices, keys, pending and revoked in agreement and writes its
 *          journal record.
 * Owner:   a certificate is passed as a copy of its fixed part and of its device's id: a view ends
 * with the first write. Threads: the writer thread, inside apply. Errors:  ERR_STORE_FULL,
 * ERR_STORE_FAILED; ERR_NOT_FOUND or ERR_INTERNAL when records disagree.
 */
#ifndef CERTMILL_FACTORY_LIFECYCLE_H
#define CERTMILL_FACTORY_LIFECYCLE_H

#include "store/store.h"

/* Who does it, for the journal. */
struct actor {
    uint8_t protocol; /* enum journal_protocol */
    struct bytes who;
    const char *request_id; /* REQUEST_ID_LEN; NULL: none */
    struct bytes why;       /* what the journal says beside the step; may be empty */
    const uint8_t *mark;    /* REVOKED_MARK_LEN octets for what is revoked or released; NULL: none */
};

struct cert_copy {
    uint64_t log;
    struct cert_record record;
    uint8_t device_id_len;
    uint8_t device_id[UINT8_MAX];
};

static inline struct bytes cert_device(const struct cert_copy *cert)
{
    return bytes_of(cert->device_id, cert->device_id_len);
}
enum err cert_copy_get(struct store_txn *txn, uint64_t log, struct cert_copy *out) MUST_USE;

/* "request=..." behind a blank when there is text already. */
void put_request_id(struct writer *text, const char *request_id);

/* Until when a certificate can be confirmed: what its row says, or the most that one of an earlier
 * version's can mean. */
int64_t pending_until_s(const struct pending_record *pending, const struct cert_record *cert);
/* 0: none. */
enum err pending_log(struct store_txn *txn, uint32_t line_id, struct bytes device_id,
                     uint64_t *out_log) MUST_USE;
/* This certificate waits no longer; no matter whether it did. */
enum err pending_clear(struct store_txn *txn, const struct cert_copy *cert) MUST_USE;

/* Is this key another device's? */
bool key_is_others(const struct key_view *key, uint32_t line_id, struct bytes device_id);
/* Whose a key is, for the journal: "owner-device=... owner-line=... owner-certificate=...". */
void put_key_owner(struct writer *text, uint32_t line_id, struct bytes device_id, uint64_t log);
/* Was the key of a certificate that waits proven when it was asked for? Then it is its device's. */
enum err key_is_proven(struct store_txn *txn, const struct cert_copy *cert, bool *out) MUST_USE;
/* The key was proven: it is this certificate's device's from now on. ERR_INTERNAL: it is another
 * device's, which the caller has made sure of. */
enum err key_bind(struct store_txn *txn, const struct cert_copy *cert) MUST_USE;

/* The device's certificate so far gets its successor. One that is revoked stays revoked. */
enum err cert_supersede(struct store_txn *txn, const struct actor *actor, uint64_t old_log,
                        uint64_t new_log) MUST_USE;
/* Revoked for good, or on hold (REASON_HOLD). replaced_by 0: as it was. */
enum err cert_revoke(struct store_txn *txn, const struct actor *actor, struct cert_copy *cert,
                     uint8_t reason, uint64_t replaced_by) MUST_USE;
/* Off hold. */
enum err cert_release(struct store_txn *txn, const struct actor *actor,
                      struct cert_copy *cert) MUST_USE;
/* Revokes what waited to become the device's certificate beside its current one, and gives the key
 * back to the current one if both are for the same. */
enum err successor_revoke(struct store_txn *txn, const struct actor *actor, struct cert_copy *cert,
                          const struct device_record *device, uint8_t reason,
                          uint64_t replaced_by) MUST_USE;
/* What waited becomes the device's certificate, and the key is the device's; `device` is changed and
 * written. */
enum err successor_adopt(struct store_txn *txn, const struct actor *actor,
                         const struct cert_copy *cert, struct device_record *device,
                         enum device_state state) MUST_USE;

/* --- settle.c: one item of a set, for the sweep too --- */

struct settle_by {
    struct actor actor;
    uint32_t line_id;       /* 0: any */
    struct bytes device_id; /* empty: any */
    bool quiet;             /* a refusal is not journaled */
};
struct settle_item;
/* The item's refusal is in the item; what is returned ends the job. */
enum err settle_one(struct store_txn *txn, const struct settle_by *by,
                    struct settle_item *item) MUST_USE;

#endif
