/* bulk.h: `certmill bulk`, between its files.
 *
 *   cmd_bulk.c       options, the credential, the summary
 *   bulk_input.c     records of files and folders, one after the other
 *   bulk_results.c   the journal of results: what is done, on disk and in mind
 *   bulk_message.c   from items to a CMP message, and from the answer to what became of each
 *   bulk_run.c       connections, retries, progress, the end
 *
 * Promise: an item that has a certificate in the journal is not sent again; one that was in flight
 *          when a run was killed is sent again under the ids it had, so that the server answers
 *          with the certificate it made then. Everything read is answered for: issued, refused or
 *          unanswered.
 * Owner:   an item belongs to one list or batch; the journal copies what it writes.
 * Threads: one; another only syncs the journal's file.
 * Limits:  BULK_* below. Memory grows with what is in flight, and by about 40 octets an item that
 *          is done.
 */
#ifndef CERTMILL_TOOLS_BULK_H
#define CERTMILL_TOOLS_BULK_H

#include "proto/cmp_client.h"
#include "tools/files.h"
#include "tools/http_client.h"
#include "tools/output.h"

enum {
    BULK_BATCH_MAX = CMP_REQUESTS_PER_MESSAGE_MAX,
    BULK_CONNECTIONS_MAX = 64,
    BULK_DER_MAX = 16 * 1024, /* a CSR or a device's message */
    BULK_LINE_MAX = 256 * 1024,
    BULK_ID_MAX = 256,
    BULK_DIGEST_LEN = 16,
    BULK_REASONS_MAX = 32,
    BULK_TEXT_MAX = 256,
};

enum bulk_mode { BULK_NESTED, BULK_MULTI, BULK_SINGLE };

/* --- items --- */

/* Why an item has no certificate; all empty: nothing is known. */
struct bulk_reason {
    char fail[48]; /* failInfo's name, or "input", "http", "answer" */
    char code[64]; /* the server's word when it is one of certmill's codes */
    char text[BULK_TEXT_MAX];
};

struct bulk_item {
    struct bulk_item *next;
    uint8_t digest[BULK_DIGEST_LEN];
    char id[BULK_ID_MAX]; /* the record's "id", or where it stands */
    bool is_message;      /* a device's own PKIMessage; else a CSR */
    uint32_t attempts;
    uint32_t batch_max; /* goes with no more than so many from now on */
    uint64_t not_before_ns;
    struct bulk_reason reason; /* of the last attempt */
    /* inside of der */
    struct bytes key; /* SubjectPublicKeyInfo without its first octet, which CRMF tags anew */
    struct bytes transaction_id, nonce; /* its own; or of the message made for it: */
    struct cmp_client_ids ids;
    /* once there is one */
    uint8_t *cert;
    uint32_t cert_len;
    uint8_t *response; /* the whole inner answer, when it is kept */
    uint32_t response_len;
    uint8_t server_nonce[CMP_NONCE_LEN]; /* of the answer, for certConf */
    uint32_t der_len;
    uint8_t der[];
};

struct bulk_list {
    struct bulk_item *first, **last;
    uint64_t count;
};
void bulk_list_start(struct bulk_list *list);
void bulk_list_put(struct bulk_list *list, struct bulk_item *item);
struct bulk_item *bulk_list_take(struct bulk_list *list); /* NULL: empty */
void bulk_item_free(struct bulk_item *item);

/* --- bulk_input.c --- */

struct bulk_input;
/* Files and folders, "-": standard input. NULL: the line is printed. */
struct bulk_input *bulk_input_open(const char *const paths[], uint32_t count);
/* The next record. *out NULL at the end. An item that is none has reason.fail "input". CLI_FAILED:
 * a file cannot be read; the line is printed. */
int bulk_input_next(struct bulk_input *input, struct bulk_item **out) MUST_USE;
/* How much of it was read, 0..1. */
double bulk_input_done(const struct bulk_input *input);
void bulk_input_close(struct bulk_input *input);

/* --- bulk_results.c --- */

enum bulk_state { BULK_NEW, BULK_ISSUED, BULK_REFUSED, BULK_UNANSWERED, BULK_IN_HAND };

struct bulk_count {
    struct bulk_reason reason;
    uint64_t count;
};

struct bulk_results;
/* out: a folder, or a file that ends in .ndjson. Reads what an earlier run left. *out_run: the
 * run's id, the same for every start with this output. */
int bulk_results_open(const char *out, const char *settings, struct bulk_results **out_results,
                      uint8_t out_run[16]) MUST_USE;
enum bulk_state bulk_results_find(const struct bulk_results *results, const uint8_t digest[]);
/* Notes in memory only; aborts when there is none. */
void bulk_results_mark(struct bulk_results *results, const uint8_t digest[], enum bulk_state state);
/* One line of the journal, after the certificate's file. */
int bulk_results_put(struct bulk_results *results, const struct bulk_item *item,
                     enum bulk_state state) MUST_USE;
/* What was put reaches the file; it is synced soon after. */
int bulk_results_flush(struct bulk_results *results) MUST_USE;
uint64_t bulk_results_count(const struct bulk_results *results, enum bulk_state state);
/* Writes failures.ndjson from the journal and counts them by reason; *out_count of them. Syncs all.
 */
int bulk_results_finish(struct bulk_results *results, struct bulk_count out[BULK_REASONS_MAX],
                        uint32_t *out_count) MUST_USE;
const char *bulk_results_failures_path(const struct bulk_results *results);
const char *bulk_results_path(const struct bulk_results *results);
void bulk_results_close(struct bulk_results *results);

/* --- bulk_message.c --- */

struct bulk_messages {
    enum bulk_mode mode;
    enum cmp_body body; /* of multi: ir or cr */
    bool confirm;       /* certConf, instead of asking to go without */
    bool keep_responses;
    uint32_t verify_one_in; /* certificates whose signature is verified here */
    uint8_t run[16];
    struct bytes recipient; /* whole Name; may be empty */
    const struct http_target *target;
    const struct cmp_client_credential *credential;
    struct cmp_client_checker checker;
    struct trust_store anchors;
    struct cert_list pinned;
    /* the last issuer whose key was imported */
    struct verify_key *issuer_key;
    uint8_t issuer_hash[SHA256_LEN];
    uint64_t issuer_seen;
    uint8_t *work, *scratch; /* BULK_WORK_MAX each */
};
enum { BULK_WORK_MAX = 4 * 1024 * 1024 };

struct bulk_batch {
    struct bulk_item *items[BULK_BATCH_MAX];
    uint32_t count;
    struct cmp_client_ids ids;
    bool nested;
    bool confirming; /* certConf is what was sent */
    uint8_t server_nonce[CMP_NONCE_LEN];
    uint8_t *request; /* whole HTTP request */
    size_t request_len;
};

/* What became of a batch by one answer. */
enum bulk_verdict {
    BULK_DONE,  /* every item has a certificate, or a reason */
    BULK_MORE,  /* batch->request is to be sent on the same way: certConf */
    BULK_AGAIN, /* nothing is known of the items: later, after reason */
    BULK_SPLIT, /* the message as a whole was refused: in smaller ones */
    BULK_STOP,  /* no message would fare better: reason says why */
};

bool bulk_messages_init(struct bulk_messages *messages) MUST_USE;
void bulk_messages_clear(struct bulk_messages *messages);
/* Items that cannot go (a proof of possession that does not verify) get a reason; count may be 0
 * afterwards. They are moved to `refused`. */
int bulk_batch_build(struct bulk_messages *messages, struct bulk_batch *batch,
                     struct bulk_list *refused) MUST_USE;
/* An HTTP answer of status 200. An item with cert has it for good; one whose reason is set has
 * none. *out_again of an item: bulk_reason_is_passing. */
enum bulk_verdict bulk_batch_answer(struct bulk_messages *messages, struct bulk_batch *batch,
                                    struct bytes body, struct bulk_reason *out_reason) MUST_USE;
/* Overload, waiting and other states that pass. */
bool bulk_reason_is_passing(const struct bulk_reason *reason);

/* --- bulk_run.c --- */

struct bulk_options {
    uint32_t batch, connections, attempts;
    uint32_t give_up_s; /* without any answer */
    bool retry_refused;
    bool json;
};

struct bulk_totals {
    uint64_t read, repeated, issued, refused, unanswered, known, retries;
    double seconds;
    bool interrupted;
    struct bulk_reason stop; /* why it ended before its time */
};

/* Until the input's end, a signal, or a server that takes nothing. */
int bulk_run(const struct bulk_options *options, struct bulk_messages *messages,
             struct bulk_input *input, struct bulk_results *results,
             struct bulk_totals *out) MUST_USE;

#endif
