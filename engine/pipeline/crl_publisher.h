/* crl_publisher.h: keeps a signed revocation list of every CA, on a thread of its own.
 *
 * Promise: a list is made on schedule, after revocations and when an operator asks (cas[].crl of
 * the configuration); its signature is verified and the list committed before anybody gets it, so
 * that its number only ever rises, also over a kill -9. What fails is tried again with back-off,
 * and the last list stays served, also past its nextUpdate. Owner:   a list is one read-only
 * buffer, counted by those who use it: the publisher, each core, and each exchange that is being
 * answered with it. Threads: start, snapshot, ask, status, stop and free on the main thread;
 * crl_publisher_signed on core 0, which signs; crl_blob_ref and _unref anywhere. Errors:  of a
 * list: ERR_NO_SPACE (past CRL_DER_MAX; an Ed25519 or ML-DSA key: past SIGN_INPUT_MAX), those of
 * the HSM queue and the store, ERR_SIGNATURE_WRONG. Limits:  CAS_MAX, CRL_* (limits.h). While a
 * list is made the store writer is held up as long as writing it to disk takes.
 */
#ifndef CERTMILL_PIPELINE_CRL_PUBLISHER_H
#define CERTMILL_PIPELINE_CRL_PUBLISHER_H

#include <stdatomic.h>

#include "pipeline/snapshot.h"

struct shared;
struct crl_publisher;

enum { CA_NAME_MAX = 64 };

struct crl_blob {
    _Atomic uint32_t refs;
    char name[CA_NAME_MAX + 1]; /* of the CA */
    uint64_t number, entry_count;
    int64_t this_update_s, next_update_s;
    struct bytes entries; /* in der */
    struct bytes der;
    uint8_t *mem; /* that der lies in */
};

struct crl_blob *crl_blob_ref(struct crl_blob *blob);
/* Legal on NULL. */
void crl_blob_unref(struct crl_blob *blob);

/* What core 0 has signed: input and key in, signature or error out. */
struct crl_sign {
    uint32_t key_index;
    uint32_t input_len;
    uint8_t input[SIGN_INPUT_MAX];
    enum err err;
    uint32_t signature_len;
    uint8_t signature[SIGNATURE_MAX];
};
/* Its tag in the HSM queue: no pool handle has this index (pool.h). */
#define CRL_SIGN_TAG UINT64_MAX

/* Serves what the store has, then makes what is due. `sender`: its number in the mailboxes. */
enum err crl_publisher_start(struct shared *shared, struct snapshot *snapshot, uint32_t sender,
                             struct crl_publisher **out) MUST_USE;
/* Another configuration; the publisher returns the one before (snapshot.h). */
void crl_publisher_snapshot(struct crl_publisher *publisher, struct snapshot *snapshot);
/* The result of the MSG_CRL_SIGN that is out; called once for each. */
void crl_publisher_signed(struct crl_publisher *publisher, enum err err, struct bytes signature);
/* Ends the thread; a signature may still come in. Cores must run. */
void crl_publisher_stop(struct crl_publisher *publisher);
/* Cores must have ended. Legal on NULL. */
void crl_publisher_free(struct crl_publisher *publisher);

/* --- for operators --- */

struct crl_status {
    char name[CA_NAME_MAX + 1];
    bool signs;      /* its certificate lets it sign lists */
    bool scheduled;  /* cas[].crl.every is not none */
    uint64_t number; /* 0: there is none yet */
    uint64_t entry_count, der_len;
    int64_t this_update_s, next_update_s;
    uint64_t made, failures;  /* since start */
    uint64_t asked, answered; /* tickets */
    enum err last_err;        /* of the last attempt */
};

/* Makes one as soon as possible, whatever the schedule: done when `answered` of its status reaches
 * the ticket, or has failed so far when last_err says so. ERR_NOT_FOUND: no such CA.
 * ERR_UNSUPPORTED: it may not sign lists. */
enum err crl_publisher_ask(struct crl_publisher *publisher, struct bytes ca,
                           uint64_t *out_ticket) MUST_USE;
uint32_t crl_publisher_status(struct crl_publisher *publisher, struct crl_status out[CAS_MAX]);

#endif
