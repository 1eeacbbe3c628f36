/* cmp_client.h: the other end of CMP (RFC 9810): messages to a server made and protected, answers
 * held against them. For the bulk client, the load generator and tests; the server does not use it.
 *
 * Promise: an answer counts as checked only when its transactionID and recipNonce are those of the
 *          request and its protection verifies: by a MAC under the credential's secret, or by the
 *          signature of a certificate that is pinned, or that leads to an anchor and is fit to
 * speak for a CA (EKU cmcCA or cmKGA, or a CA certificate). A device certificate under the same
 *          root is not.
 * Owner:   a credential holds views of its certificates and the key of its caller, and a copy of
 *          the secret: clear it. A checker remembers the last signer and the last derived MAC key.
 * Threads: a credential is read-only once made; a checker belongs to one thread.
 * Errors:  of building: ERR_NO_SPACE, ERR_BAD_KEY, ERR_BAD_ALG, ERR_BAD_CERT. Of checking:
 *          ERR_BAD_DER and its kin, ERR_BAD_ALG, ERR_NO_SPACE (scratch), ERR_CMP_TRANSACTION,
 * ERR_CMP_RECIPIENT_NONCE, ERR_CMP_MESSAGE_CHECK (protection), ERR_CMP_WRONG_INTEGRITY (none where
 * there must be one), ERR_CLIENT_CERT_UNTRUSTED, ERR_CLIENT_CERT_EXPIRED (of the server's signer).
 * Limits:  CMP_* and MAC_* (limits.h).
 */
#ifndef CERTMILL_PROTO_CMP_CLIENT_H
#define CERTMILL_PROTO_CMP_CLIENT_H

#include "crypto/digest.h"
#include "crypto/mac.h"
#include "crypto/path.h"
#include "crypto/softkey.h"
#include "proto/cmp_msg.h"

enum { CMP_CLIENT_PINNED_MAX = 4, CMP_CLIENT_GATHERED_MAX = 32 };
enum { ECDSA_P256_DER_MAX = 72 }; /* SEQUENCE of two INTEGERs of up to 33 octets */

/* --- who asks --- */

struct cmp_client_credential {
    const struct softkey *key; /* NULL: by MAC */
    enum sig_alg alg;
    struct bytes certs[CERT_CHAIN_MAX]; /* the signer's first */
    uint32_t cert_count;
    struct mac_params mac;
    struct mac_key mac_key;
    uint8_t secret[CMP_SECRET_MAX];
    uint32_t secret_len;
    uint8_t kid[STATION_NAME_MAX]; /* senderKID: the SKI, or the secret's reference */
    uint32_t kid_len;
    uint8_t alg_der[MAC_PARAMS_DER_MAX];
    uint32_t alg_der_len;
    uint8_t sender[NAME_DER_MAX + 8]; /* GeneralName */
    uint32_t sender_len;
};

/* certs[0] must be the key's; the key and the certificates stay the caller's. */
enum err cmp_client_by_key(const struct softkey *key, const struct bytes certs[], uint32_t count,
                           struct cmp_client_credential *out) MUST_USE;
/* Derives the key, which takes as long as params->iterations says. params->salt: filled with random
 * octets when salt_len is 0. */
enum err cmp_client_by_secret(struct bytes reference, struct bytes secret,
                              const struct mac_params *params,
                              struct cmp_client_credential *out) MUST_USE;
void cmp_client_credential_clear(struct cmp_client_credential *credential);

/* --- messages --- */

struct cmp_client_ids {
    uint8_t transaction_id[CMP_NONCE_LEN];
    uint8_t nonce[CMP_NONCE_LEN]; /* senderNonce */
};

struct cmp_client_message {
    enum cmp_body body;
    struct bytes content;   /* the element inside of the body's tag */
    struct bytes recipient; /* whole Name; empty: NULL-DN */
    struct cmp_client_ids ids;
    struct bytes recip_nonce; /* the server's last senderNonce; empty: a first message */
    int64_t time_s;           /* 0: none */
    bool implicit_confirm;
};

/* Room that cmp_client_build wants for contents of this length: twice the message's. */
size_t cmp_client_room(size_t content_len);
/* A whole PKIMessage at the start of out; the rest of out is scratch. credential NULL: without
 * protection. */
enum err cmp_client_build(const struct cmp_client_credential *credential,
                          const struct cmp_client_message *message, uint8_t *out, size_t cap,
                          size_t *out_len) MUST_USE;

/* CertReqMsg with raVerified for what a CSR asks for: subject, key, extensions. */
bool cmp_client_put_csr(struct der_builder *out, const struct cert_request *csr,
                        int64_t cert_req_id) MUST_USE;
/* certHash of certConf (RFC 9810 5.3.18): by the certificate's signature algorithm. ERR_BAD_ALG
 * when that names no hash (then hashAlg would be needed). */
enum err cmp_client_cert_hash(const struct x509_cert *cert, uint8_t out[DIGEST_LEN_MAX],
                              size_t *out_len) MUST_USE;

/* --- answers --- */

/* An ECDSA P-256 signature that is verified later, with others. */
struct cmp_client_gathered {
    uint8_t digest[SHA256_LEN];
    uint8_t signature[ECDSA_P256_DER_MAX];
    uint32_t signature_len;
};

struct cmp_client_checker {
    const struct trust_store *anchors; /* may be NULL */
    const struct cmp_client_credential
        *credential;                            /* whose secret MACs are checked with, or NULL */
    struct bytes pinned[CMP_CLIENT_PINNED_MAX]; /* certificates of servers, taken as they are */
    uint32_t pinned_count;
    uint8_t *scratch; /* as long as the longest answer; NULL: signatures over SHA-256 alone */
    size_t scratch_cap;
    bool gathers; /* signatures are verified many at once: see cmp_client_settle */
    /* remembered */
    struct verify_key *signer_key;
    struct x509_cert signer; /* of signer_der */
    uint8_t signer_der[CERT_DER_MAX];
    int64_t signer_checked_s;
    struct mac_params mac;
    struct mac_key mac_key;
    struct cmp_client_gathered gathered[CMP_CLIENT_GATHERED_MAX]; /* by signer_key */
    uint32_t gathered_count;
    uint64_t bad;
};
/* What is gathered is forgotten: settle first. */
void cmp_client_checker_clear(struct cmp_client_checker *checker);

/* Decodes and holds transactionID and recipNonce against what was sent; protection is not looked
 * at. */
enum err cmp_client_match(struct bytes transaction_id, struct bytes nonce, struct bytes der,
                          struct cmp_msg *out) MUST_USE;
/* The same, then the protection. An error message may lack it (its sender may not know whom to
 * protect it for): *out_protected is then false and its word is only that. */
enum err cmp_client_check(struct cmp_client_checker *checker, const struct cmp_client_ids *sent,
                          struct bytes der, int64_t now_s, struct cmp_msg *out,
                          bool *out_protected) MUST_USE;
/* Where checker->gathers, cmp_client_check takes an answer whose ECDSA P-256 signature by a trusted
 * signer it has yet to verify; all else is checked as ever. For a caller who does nothing on the word
 * of a single answer. Verifies what is gathered and returns how many answers since the last call
 * were not their signer's after all. */
uint64_t cmp_client_settle(struct cmp_client_checker *checker) MUST_USE;

#endif
