/* cmp_impl.h: between the files of CMP (RFC 9810); nobody else includes it.
 *
 *   cmp.c         paths, and from octets to a message whose sender can be checked
 *   cmp_dialog.c  what a message is in its dialogue: the table of states and bodies
 *   cmp_request.c from bodies to what all protocols share
 *   cmp_answer.c  answers, errors, and their protection
 *   cmp_record.c  what is kept of a dialogue
 *   cmp_genm.c    general messages
 *   cmp_crl.c     revocation lists in them
 *   cmp_fail.c    enum err to PKIFailureInfo
 */
#ifndef CERTMILL_PROTO_CMP_IMPL_H
#define CERTMILL_PROTO_CMP_IMPL_H

#include "proto/cmp_msg.h"
#include "proto/proto.h"

enum {
    CMP_REPLAY_S = 600,          /* how long an answered dialogue is remembered */
    CMP_WAITING_S = 30 * 86400,  /* how long a request waits for an operator */
    CMP_WAITING_MAX = 6000,      /* octets of a request that may wait */
    CMP_PROTECTION_MAX = 600,    /* octets of a signature that is kept: RSA 4096 has 512 */
};

/* What is known of a dialogue (transaction_record.state). */
enum cmp_dialog {
    CMP_DIALOG_NONE = 0,
    CMP_DIALOG_WAITING = 1 | PROTO_STATE_WAITS, /* for an operator: the request is kept, the client
                                                 * polls */
    CMP_DIALOG_WAITING_OLD = 1, /* likewise, of a version that did not count them */
    CMP_DIALOG_CONFIRM = 2, /* for certConf */
    CMP_DIALOG_DONE = 3,
};

/* One answer that is on record: what tells it from any other answer to the same message. */
struct cmp_kept {
    uint8_t request_nonce[CMP_NONCE_LEN];
    uint8_t nonce[CMP_NONCE_LEN]; /* our senderNonce */
    int64_t time_s;
    struct bytes protection;
};

struct cmp_kept_item {
    int64_t cert_req_id;
    uint64_t cert_log;
    uint16_t err;
    uint8_t act; /* of an rr */
    struct bytes sealed; /* EnvelopedData beside or instead of the certificate; empty: none */
};

/* transactions: the first octets tell whose it is (TRANSACTION_MARK_LEN). */
struct cmp_record {
    struct cmp_kept first;  /* the answer to the request */
    struct cmp_kept second; /* to certConf or error, or to the last pollReq while it waits;
                             * time_s 0: none yet */
    uint8_t body;           /* of the request */
    uint8_t protection;     /* enum proto_protection */
    bool implicit;
    bool sealed_keys; /* what is sealed are private keys, else certificates */
    uint32_t line_id;
    int64_t confirm_by_s;
    uint8_t binding[32];
    struct cmp_kept_item *items;
    uint32_t item_count;
    struct bytes waiting; /* whole PKIMessage */
};

struct cmp_state {
    struct cmp_msg msg;
    bool has_msg; /* header and body are there */
    enum err header_err; /* what breaks a rule: told when the sender is known */
    /* the body, decoded in resume */
    struct cmp_cert_status *confirms;
    struct cmp_revocation *revocations;
    struct cmp_info *infos;
    struct bytes crl; /* the CA's, where a general message asks for it; empty: there is none */
    int64_t crl_this_update_s;
    int64_t *ids; /* certReqId of each request, or of a pollReq */
    uint32_t count;
    /* the answer */
    bool has_head;
    uint8_t nonce[CMP_NONCE_LEN];
    uint8_t new_id[CMP_NONCE_LEN];
    int64_t now_s;
    enum cmp_body reply;
    bool implicit;
    bool waits;      /* is answered "waiting" */
    bool is_second;  /* answers certConf, error, or a pollReq that goes on waiting */
    struct cmp_record record; /* found, or to be made */
    struct bytes kept_protection; /* of a replay */
};

/* --- cmp_request.c: all set message->action and what it needs --- */
enum err cmp_take_certs(const struct proto_line *line, const struct proto_context *context,
                        struct arena *arena, struct proto_message *message) MUST_USE;
enum err cmp_take_p10(const struct proto_line *line, const struct proto_context *context,
                      struct arena *arena, struct proto_message *message) MUST_USE;
enum err cmp_take_revocations(const struct proto_context *context, struct arena *arena,
                              struct proto_message *message) MUST_USE;
/* certConf against what is on record. */
enum err cmp_take_confirms(const struct proto_context *context, struct arena *arena,
                           struct proto_message *message) MUST_USE;
/* An error of the client's: everything of the dialogue is rejected. */
enum err cmp_reject_all(struct arena *arena, struct proto_message *message) MUST_USE;
enum { SETTLE_ACT_CONFIRM, SETTLE_ACT_REJECT, SETTLE_ACT_REVOKE, SETTLE_ACT_RELEASE };

/* --- cmp_dialog.c --- */
enum err cmp_resume(const struct proto_route *route, const struct proto_line *line,
                    const struct proto_context *context, struct arena *arena,
                    struct proto_message *message);

/* --- cmp_record.c --- */
/* {0} when there is no room. */
struct bytes cmp_record_encode(const struct cmp_record *record, struct arena *arena);
enum err cmp_record_decode(struct bytes data, struct arena *arena,
                           struct cmp_record *out) MUST_USE;
/* Puts a certificate's log number into its item of a record. */
void cmp_record_place(struct bytes data, uint32_t item, uint64_t log);
uint32_t cmp_record_pending(struct bytes data, uint8_t state, uint64_t out_logs[], uint32_t max,
                            uint32_t *out_line_id);

/* --- cmp_answer.c --- */
enum err cmp_encode(const struct proto_route *route, const struct proto_line *line,
                    const struct proto_request *request, const struct proto_message *message,
                    const struct proto_outcome outcomes[], struct arena *arena,
                    struct proto_response *out);
void cmp_refuse(const struct proto_route *route, const struct proto_line *line,
                const struct proto_request *request, const struct proto_message *message,
                enum err err, const char *detail, const char *request_id, uint32_t retry_after_s,
                struct arena *arena, struct proto_response *out);
enum err cmp_finish(const struct proto_line *line, const struct proto_message *message,
                    struct bytes protection, struct arena *arena, struct proto_response *out);

/* --- cmp_crl.c: revocation lists (RFC 9810 5.3.19.6, 5.3.19.17) --- */
/* Is there something newer on this line for one of these CRLStatus? false: malformed. */
bool cmp_crl_asked(const struct proto_cmp_line *line, struct bytes status_list,
                   int64_t this_update_s, bool *out_newer) MUST_USE;

/* --- cmp_genm.c: contents of a genp --- */
/* Is the CA's revocation list needed to answer? */
bool cmp_genm_wants_crl(const struct cmp_state *state);
enum err cmp_genp_infos(const struct proto_line *line, const struct cmp_state *state,
                        struct arena *arena, struct cmp_info out[], uint32_t max,
                        uint32_t *out_count) MUST_USE;

/* --- cmp_fail.c --- */
/* PKIFailureInfo bit of an error (spec/cmp.md, failInfo). */
uint32_t cmp_fail_of(enum err err);
/* The HTTP status where no CMP message can be made. */
uint16_t cmp_http_status(enum err err);

#endif
