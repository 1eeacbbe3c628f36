/* enroll.h: the certificates of one protected message, and what is remembered of its dialogue, in one
 * commit.
 *
 * The answer is made and protected before anything is written, as it will be if the store decides as
 * its snapshot foretold: every certificate new. Then certificates and record are written together, so
 * that no crash comes between them, and one sync is all that the answer waits for. If the store
 * decides otherwise for one of them (another connection was faster), the certificates are as decided,
 * there is no record, and the caller makes another answer and records that (transaction.h).
 *
 * Promise: a certificate is written only beside its record, or with as_foreseen false. Where a record
 *          of the same key stands in the way nothing is written at all.
 * Owner:   the set and all it points to are the caller's (store_job.extra) until the job is polled
 *          back.
 * Threads: enroll_apply on the writer thread, or through store_run.
 * Errors:  ERR_TRANSACTION_IN_USE; ERR_INTERNAL; ERR_STORE_FULL, ERR_STORE_FAILED. Refusals are each
 *          certificate's own. What is no refusal (a serial that is there already) fails the message,
 *          and, once one of its certificates is written, the transaction with it.
 * Limits:  CMP_REQUESTS_PER_MESSAGE_MAX.
 */
#ifndef CERTMILL_FACTORY_ENROLL_H
#define CERTMILL_FACTORY_ENROLL_H

#include "factory/device.h"
#include "factory/transaction.h"

struct enrollment {
    struct issue_facts facts;
    struct bytes cert;
    uint32_t request; /* its place in the message */
    enum err err;     /* out: a refusal of device.h, which the journal has */
    struct issue_result result; /* out, when err is ERR_OK */
};

/* job->extra. */
struct enroll_set {
    struct enrollment *items; /* in this order; one sees what those before it did */
    uint32_t count;           /* 1..CMP_REQUESTS_PER_MESSAGE_MAX */
    /* Its `kept` out: the same request came twice, the other one was first, nothing is written. */
    struct transaction_row *row; /* data is written to: log numbers are not known before */
    bool only_new;               /* as in transaction_set */
    bool as_foreseen;            /* out: all certificates are new, and the row is written */
    /* Puts a log number into the row's data. Pure; runs on the writer thread. */
    void (*place)(struct bytes data, uint32_t request, uint64_t log);
};

/* store_job.apply. No data; facts: struct enroll_facts. */
struct enroll_facts {
    uint8_t protocol; /* enum journal_protocol */
};
enum err enroll_apply(struct store_txn *txn, struct store_job *job);

#endif
