/* cmp_msg.h: the wire form of CMP (RFC 9810 5, 9811): PKIMessage, header, bodies, both directions.
 *
 * Promise: a decoder fills a view without copying, or fails and leaves it untouched (lists: their
 *          elements are then unspecified); DER throughout and nothing left over; what is protected
 *          is given as the received octets. Encoders write what the decoders of this file accept.
 *          No meaning is given to anything here: proto/cmp.
 * Owner:   views live as long as the bytes they point into.
 * Threads: pure.
 * Errors:  ERR_BAD_DER, ERR_DER_TRAILING, ERR_BAD_REQUEST (well-formed, but breaks a rule of
 *          RFC 9810), ERR_CMP_VERSION (pvno), ERR_NO_SPACE (more elements than a bound).
 * Limits:  CMP_* (limits.h).
 */
#ifndef CERTMILL_PROTO_CMP_MSG_H
#define CERTMILL_PROTO_CMP_MSG_H

#include "asn1/crmf.h"
#include "asn1/der.h"

/* PKIBody choices (RFC 9810 5.1.2), by tag number. */
enum cmp_body {
    CMP_IR = 0, CMP_IP, CMP_CR, CMP_CP, CMP_P10CR, CMP_POPDECC, CMP_POPDECR, CMP_KUR, CMP_KUP,
    CMP_KRR, CMP_KRP, CMP_RR, CMP_RP, CMP_CCR, CMP_CCP, CMP_CKUANN, CMP_CANN, CMP_RANN, CMP_CRLANN,
    CMP_PKICONF, CMP_NESTED, CMP_GENM, CMP_GENP, CMP_ERROR, CMP_CERTCONF, CMP_POLLREQ, CMP_POLLREP,
    CMP_BODY_COUNT
};
/* "ir", "certConf"... Never NULL. */
const char *cmp_body_name(enum cmp_body body);

struct cmp_header {
    uint64_t pvno;              /* as received: 2 and 3 are known */
    struct bytes sender;        /* whole GeneralName */
    struct bytes sender_name;   /* whole Name when sender is a directoryName, else empty */
    struct bytes recipient;     /* whole GeneralName */
    struct bytes protection_alg; /* whole AlgorithmIdentifier; empty: absent */
    struct bytes sender_kid;    /* contents; empty: absent or empty, as all that follow */
    struct bytes recip_kid;
    struct bytes transaction_id;
    struct bytes sender_nonce;
    struct bytes recip_nonce;
    struct bytes free_text;     /* whole PKIFreeText */
    struct bytes cert_profile;  /* generalInfo certProfile (RFC 9810 5.1.1.4), whole value */
    int64_t message_time_s;
    int64_t confirm_wait_s;     /* generalInfo confirmWaitTime, Unix seconds */
    bool has_message_time;
    bool implicit_confirm;
    bool bad_implicit_confirm;  /* present with no value or another than NULL */
    bool has_confirm_wait;
};

struct cmp_msg {
    struct bytes der;
    struct bytes header_der; /* whole PKIHeader */
    struct bytes body_der;   /* whole PKIBody with its tag */
    struct bytes header_and_body; /* both: they are adjacent */
    struct bytes content;    /* what the body's tag holds: one whole element */
    struct bytes protection; /* BIT STRING contents */
    bool has_protection;
    enum cmp_body body;
    struct cmp_header header;
    struct bytes extra_certs[CMP_EXTRA_CERTS_MAX];
    uint32_t extra_cert_count;
};

/* The outer form and the header; body contents are looked at by the functions below, certificates
 * by x509_decode. An unknown pvno decodes (ERR_CMP_VERSION is the caller's), as long as the rest has
 * the known form. A known entry of generalInfo that is repeated is ERR_BAD_REQUEST, an unknown one
 * skipped. More than CMP_EXTRA_CERTS_MAX certificates or CMP_INFOS_MAX entries are ERR_NO_SPACE. */
enum err cmp_msg_decode(struct bytes der, struct cmp_msg *out) MUST_USE;

/* ProtectedPart ::= SEQUENCE { header, body } (RFC 9810 5.1.3): out[0] is made in `head` (at least
 * 8 octets), out[1] are the received octets. */
void cmp_protected_part(const struct cmp_msg *msg, uint8_t head[8], struct bytes out[2]);

/* --- bodies, decoding; `content` of a cmp_msg of the right body --- */

/* ir, cr, kur (krr, ccr): CertReqMessages; p10cr is csr_decode(content). *out_count elements; at most
 * max. Scratch as crmf_decode wants it: content.len octets are enough for all.
 * An element that is well-formed but for its own sake refused (crmf.h) fails alone: out[i].err says
 * why, out[i].cert_req_id whom to tell, and the rest of it is zero. One that is not DER fails all
 * (as no room does); *out_count is then its index. */
enum err cmp_cert_reqs_decode(struct bytes content, struct writer *scratch,
                              struct crmf_request out[], uint32_t max,
                              uint32_t *out_count) MUST_USE;
/* The same one at a time: the next element of the list's contents. ERR_OK also for one that fails
 * alone. */
enum err cmp_cert_req_get(struct bytes *list, struct writer *scratch,
                          struct crmf_request *out) MUST_USE;
/* How many, without decoding them. */
enum err cmp_cert_reqs_count(struct bytes content, uint32_t *out_count) MUST_USE;

/* PKIStatusInfo (RFC 9810 5.2.3) */
enum cmp_status {
    CMP_ACCEPTED = 0, CMP_GRANTED_WITH_MODS, CMP_REJECTION, CMP_WAITING, CMP_REVOCATION_WARNING,
    CMP_REVOCATION_NOTIFICATION, CMP_KEY_UPDATE_WARNING
};
/* PKIFailureInfo, as named bit n = 1u << n (RFC 9810 appendix F) */
enum cmp_fail {
    CMP_FAIL_BAD_ALG = 1u << 0, CMP_FAIL_BAD_MESSAGE_CHECK = 1u << 1, CMP_FAIL_BAD_REQUEST = 1u << 2,
    CMP_FAIL_BAD_TIME = 1u << 3, CMP_FAIL_BAD_CERT_ID = 1u << 4, CMP_FAIL_BAD_DATA_FORMAT = 1u << 5,
    CMP_FAIL_WRONG_AUTHORITY = 1u << 6, CMP_FAIL_INCORRECT_DATA = 1u << 7,
    CMP_FAIL_MISSING_TIME_STAMP = 1u << 8, CMP_FAIL_BAD_POP = 1u << 9, CMP_FAIL_CERT_REVOKED = 1u << 10,
    CMP_FAIL_CERT_CONFIRMED = 1u << 11, CMP_FAIL_WRONG_INTEGRITY = 1u << 12,
    CMP_FAIL_BAD_RECIPIENT_NONCE = 1u << 13, CMP_FAIL_TIME_NOT_AVAILABLE = 1u << 14,
    CMP_FAIL_UNACCEPTED_POLICY = 1u << 15, CMP_FAIL_UNACCEPTED_EXTENSION = 1u << 16,
    CMP_FAIL_ADD_INFO_NOT_AVAILABLE = 1u << 17, CMP_FAIL_BAD_SENDER_NONCE = 1u << 18,
    CMP_FAIL_BAD_CERT_TEMPLATE = 1u << 19, CMP_FAIL_SIGNER_NOT_TRUSTED = 1u << 20,
    CMP_FAIL_TRANSACTION_ID_IN_USE = 1u << 21, CMP_FAIL_UNSUPPORTED_VERSION = 1u << 22,
    CMP_FAIL_NOT_AUTHORIZED = 1u << 23, CMP_FAIL_SYSTEM_UNAVAIL = 1u << 24,
    CMP_FAIL_SYSTEM_FAILURE = 1u << 25, CMP_FAIL_DUPLICATE_CERT_REQ = 1u << 26
};
const char *cmp_fail_name(uint32_t one_bit); /* "badPOP"; never NULL */

struct cmp_status_info {
    uint64_t status;   /* enum cmp_status; another is ERR_BAD_REQUEST */
    uint32_t fail;     /* bits; 0: absent */
    struct bytes text; /* the first UTF8String of statusString; empty: absent (encoders leave it out) */
};
/* The next element. */
enum err cmp_status_get(struct bytes *reader, struct cmp_status_info *out) MUST_USE;

struct cmp_cert_status { /* CertStatus of certConf (5.3.18) */
    struct bytes cert_hash;
    int64_t cert_req_id;
    bool has_status;
    struct cmp_status_info status;
    struct bytes hash_alg; /* whole AlgorithmIdentifier; empty: absent */
};
/* May be empty (RFC 9810 5.3.18: all certificates are rejected). */
enum err cmp_cert_conf_decode(struct bytes content, struct cmp_cert_status out[], uint32_t max,
                              uint32_t *out_count) MUST_USE;

struct cmp_revocation { /* RevDetails (5.3.9) */
    struct cert_id cert;
    bool has_reason;
    uint8_t reason; /* CRLReason 0..10 without 7 */
};
/* An unknown CRLReason, or crlEntryDetails that are malformed: ERR_BAD_DER. None at all, here and in
 * a pollReq or pollRep: ERR_BAD_REQUEST. */
enum err cmp_rev_req_decode(struct bytes content, struct cmp_revocation out[], uint32_t max,
                            uint32_t *out_count) MUST_USE;

enum err cmp_poll_req_decode(struct bytes content, int64_t out_ids[], uint32_t max,
                             uint32_t *out_count) MUST_USE;

struct cmp_info { /* InfoTypeAndValue (5.3.19) */
    struct bytes oid;   /* contents */
    struct bytes value; /* whole element; empty: absent */
};
enum err cmp_infos_decode(struct bytes content, struct cmp_info out[], uint32_t max,
                          uint32_t *out_count) MUST_USE;

/* The same for one InfoTypeAndValue after the other, without the SEQUENCE around them. */
enum err cmp_info_get(struct bytes *reader, struct cmp_info *out) MUST_USE;

/* nested: PKIMessages; whole messages, not decoded. */
enum err cmp_nested_decode(struct bytes content, struct bytes out[], uint32_t max,
                           uint32_t *out_count) MUST_USE;

/* errorCode and errorDetails are skipped. */
enum err cmp_error_decode(struct bytes content, struct cmp_status_info *out) MUST_USE;

/* --- bodies that clients read --- */

struct cmp_cert_response { /* CertResponse (5.3.4) */
    int64_t cert_req_id;
    struct cmp_status_info status;
    struct bytes cert;           /* whole Certificate; empty: none */
    struct bytes encrypted_cert; /* EncryptedKey, whole; empty: none */
    struct bytes private_key;    /* EncryptedKey, whole; empty: none */
};
/* ip, cp, kup, ccp. ca_pubs: contents of caPubs (Certificates one after the other), empty when
 * absent. rspInfo and publicationInfo are skipped. */
enum err cmp_cert_rep_decode(struct bytes content, struct cmp_cert_response out[], uint32_t max,
                             uint32_t *out_count, struct bytes *out_ca_pubs) MUST_USE;
enum err cmp_rev_rep_decode(struct bytes content, struct cmp_status_info out[], uint32_t max,
                            uint32_t *out_count) MUST_USE;
struct cmp_poll {
    int64_t cert_req_id;
    int64_t check_after_s;
    struct bytes reason; /* first UTF8String; may be empty */
};
enum err cmp_poll_rep_decode(struct bytes content, struct cmp_poll out[], uint32_t max,
                             uint32_t *out_count) MUST_USE;

/* --- encoding: all append to a builder and share its sticky error --- */

/* At most 7 elements are open at once, with the body's tag: DER_DEPTH_MAX leaves the caller 9. */

/* pvno is written as given; sender, recipient: whole GeneralNames (sender_name is not looked at);
 * absent fields are left out. A bad_implicit_confirm is never written. */
void cmp_header_put(struct der_builder *out, const struct cmp_header *header);
/* Opens PKIBody [n]; der_close ends it. */
void cmp_body_open(struct der_builder *out, enum cmp_body body);
void cmp_status_put(struct der_builder *out, const struct cmp_status_info *status);

/* Contents of the body: call between cmp_body_open and der_close. */
/* ca_pubs: whole Certificates. Of a response, cert goes before encrypted_cert; private_key is written
 * with one of them only. */
void cmp_cert_rep_put(struct der_builder *out, const struct cmp_cert_response responses[],
                      uint32_t count, const struct bytes ca_pubs[], uint32_t ca_pub_count);
/* certs: may be NULL; revCerts is left out where one of them lacks issuer or serial, since its order
 * is that of status. */
void cmp_rev_rep_put(struct der_builder *out, const struct cmp_status_info status[],
                     const struct cert_id certs[], uint32_t count);
void cmp_poll_rep_put(struct der_builder *out, const struct cmp_poll polls[], uint32_t count);
void cmp_poll_req_put(struct der_builder *out, const int64_t ids[], uint32_t count);
void cmp_infos_put(struct der_builder *out, const struct cmp_info infos[], uint32_t count);
void cmp_error_put(struct der_builder *out, const struct cmp_status_info *status);
void cmp_cert_conf_put(struct der_builder *out, const struct cmp_cert_status status[], uint32_t count);
void cmp_pki_conf_put(struct der_builder *out);
void cmp_nested_put(struct der_builder *out, const struct bytes messages[], uint32_t count);
void cmp_rev_req_put(struct der_builder *out, const struct cmp_revocation revocations[], uint32_t count);

/* CertReqMessages around what crmf_put (crmf.h) writes: der_open and der_close of a SEQUENCE. */

/* PKIMessage from a finished header and body (adjacent: header_and_body), protection (empty: none)
 * and extra certificates (whole; may be none). */
void cmp_msg_put(struct der_builder *out, struct bytes header_and_body, struct bytes protection,
                 const struct bytes extra_certs[], uint32_t extra_cert_count);
/* Octets that cmp_msg_put takes at most, beside its inputs: add sum of the inputs' lengths. */
enum { CMP_MSG_OVERHEAD = 64 };

#endif
