/* crmf.h: certificate request messages (RFC 4211), as CMP carries them.
 *
 * Promise: as x509.h: views without copies, DER throughout, nothing left over. What is signed for
 *          proof of possession is given as received, never encoded again.
 * Owner:   views live as long as the bytes they point into.
 * Errors:  ERR_BAD_DER, ERR_DER_TRAILING, ERR_BAD_TEMPLATE (a field that a template must not hold:
 *          serialNumber, signingAlg, issuerUID, subjectUID; RFC 4211 5), ERR_BAD_ALG, ERR_BAD_KEY,
 *          ERR_BAD_POP (a proof that is of no known kind, or a POPOSigningKeyInput that does not
 *          fit its template), ERR_BAD_REQUEST, ERR_NO_SPACE (more than max).
 */
#ifndef CERTMILL_ASN1_CRMF_H
#define CERTMILL_ASN1_CRMF_H

#include "asn1/csr.h"

/* CertId (RFC 4211 6.5), CertTemplate of a RevDetails: names a certificate. */
struct cert_id {
    struct bytes issuer; /* whole Name; empty: absent */
    struct bytes serial; /* INTEGER contents; empty: absent */
};

enum crmf_pop_key { CRMF_POP_THIS_MESSAGE, CRMF_POP_ENCR_CERT, CRMF_POP_CHALLENGE, CRMF_POP_OTHER };

struct crmf_request {
    int64_t cert_req_id;
    bool has_subject;           /* an absent subject leaves request.subject as the empty Name */
    bool has_key;               /* absent: central key generation, or a template without one */
    bool key_is_empty;          /* publicKey with an algorithm and an empty BIT STRING (RFC 9810 5.3.4) */
    struct bytes key_alg;       /* then: the whole AlgorithmIdentifier */
    bool has_not_before, has_not_after; /* OptionalValidity: a wish */
    int64_t not_before_s, not_after_s;
    struct cert_id old_cert_id; /* control oldCertID */
    struct bytes issuer;        /* template issuer, whole Name; empty: absent */
    struct bytes reg_token;     /* control regToken, UTF8String contents */
    struct bytes authenticator; /* control authenticator */
    struct bytes protocol_encr_key; /* whole SubjectPublicKeyInfo of control protocolEncrKey */
    enum crmf_pop_key pop_key;  /* request.pop == POP_KEY_ENCIPHERMENT: keyEncipherment, keyAgreement */
    bool pop_is_agreement;
    bool pop_over_input;        /* signed: POPOSigningKeyInput, not the CertRequest */
    struct bytes pop_sender;    /* then authInfo.sender, whole GeneralName, when that choice is used */
    struct bytes pop_mac;       /* or publicKeyMAC (PKMACValue), whole */
    struct bytes cert_req_der;  /* the whole CertRequest */
    struct cert_request request; /* subject, spki, extensions, san, pop...: what all protocols share */
};

/* One CertReqMsg (RFC 4211 3). Unknown controls and regInfo are skipped; a repeated control is an
 * error. request.pop is POP_NONE when the proof is absent. */
enum err crmf_decode(struct bytes cert_req_msg_der, struct crmf_request *out) MUST_USE;

/* The template part alone, of a RevDetails (RFC 9810 5.3.9): issuer and serialNumber are what is
 * wanted here. */
enum err crmf_template_cert_id(struct bytes template_der, struct cert_id *out) MUST_USE;

#endif
