/* crmf.h: certificate request messages (RFC 4211), as CMP carries them.
 *
 * Promise: as x509.h: views without copies, DER throughout, nothing left over. What is signed for
 *          proof of possession is given as received, never encoded again.
 *          Two pieces stand under an implicit tag where their users want them with their own:
 *          publicKey and POPOSigningKeyInput. These are copied into `scratch`, the first octet
 *          changed to SEQUENCE's, no other.
 * Owner:   views live as long as the bytes they point into: those received and scratch's.
 * Errors:  ERR_BAD_DER, ERR_DER_TRAILING, ERR_NO_SPACE (scratch is full);
 *          of what is well-formed but for its own sake refused: ERR_BAD_TEMPLATE (a field that a
 *          template must not hold: serialNumber, signingAlg, issuerUID, subjectUID; RFC 4211 5; or a
 *          version, name, validity or extension that breaks a rule), ERR_BAD_ALG, ERR_BAD_KEY,
 *          ERR_BAD_POP (a proof of no known kind, or a POPOSigningKeyInput that does not fit its
 *          template), ERR_BAD_REQUEST (controls).
 */
#ifndef CERTMILL_ASN1_CRMF_H
#define CERTMILL_ASN1_CRMF_H

#include "asn1/csr.h"
#include "asn1/der.h"

/* CertId (RFC 4211 6.5), CertTemplate of a RevDetails: names a certificate. */
struct cert_id {
    struct bytes issuer; /* whole Name; empty: absent */
    struct bytes serial; /* INTEGER contents; empty: absent */
};

enum crmf_pop_key {
    CRMF_POP_THIS_MESSAGE, /* deprecated: the private key itself, encrypted for the CA */
    CRMF_POP_ENCR_CERT,
    CRMF_POP_CHALLENGE,
    CRMF_POP_OTHER, /* dhMAC, agreeMAC, encryptedKey */
};

struct crmf_request {
    enum err err;               /* of cmp_cert_reqs_decode; else ERR_OK */
    int64_t cert_req_id;
    bool has_subject;           /* an absent subject leaves request.subject as the empty Name */
    bool has_key;               /* false: central key generation, or a template without one */
    bool key_is_empty;          /* publicKey of an empty BIT STRING (RFC 9810 5.3.4): not has_key */
    struct bytes key_alg;       /* then: the whole AlgorithmIdentifier */
    bool has_not_before, has_not_after; /* OptionalValidity: a wish */
    int64_t not_before_s, not_after_s;
    struct cert_id old_cert_id; /* control oldCertID */
    struct bytes issuer;        /* template issuer, whole Name; empty: absent */
    struct bytes reg_token;     /* control regToken, UTF8String contents; empty: absent, as below */
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
 * error. request.pop is POP_NONE when the proof is absent; whether a proof may be absent, and
 * whether a signature without POPOSigningKeyInput is enough for a template without a subject, is
 * the caller's. Scratch takes at most as many octets as the message has. request.extensions.item
 * is not written past its count.
 *
 * On failure *out holds the error and, where that was reached, cert_req_id; the rest is zero. */
enum err crmf_decode(struct bytes cert_req_msg_der, struct writer *scratch,
                     struct crmf_request *out) MUST_USE;

/* The template part alone, of a RevDetails (RFC 9810 5.3.9): issuer and serialNumber are what is
 * wanted here; other fields must be DER. */
enum err crmf_template_cert_id(struct bytes template_der, struct cert_id *out) MUST_USE;

/* CertId ::= SEQUENCE { issuer GeneralName, serialNumber INTEGER }, the next element. An issuer of
 * another kind than directoryName is ERR_BAD_REQUEST. */
enum err crmf_cert_id_get(struct bytes *reader, struct cert_id *out) MUST_USE;
void crmf_cert_id_put(struct der_builder *out, const struct cert_id *cert);

/* --- encoding: appends to a builder and shares its sticky error --- */

struct crmf_template {
    int64_t cert_req_id;
    struct bytes subject;       /* whole Name; empty: left out, as all that follow */
    struct bytes spki;          /* whole SubjectPublicKeyInfo */
    struct bytes extensions;    /* whole Extensions SEQUENCE */
    struct cert_id old_cert_id;
    struct bytes reg_token;
    bool ra_verified;           /* instead of a signature */
};
/* CertReqMsg, for the load generator, the bulk client and tests. sign: proof of possession over the
 * CertRequest's DER, false to fail; NULL: none. Returns false when sign or the builder failed. */
bool crmf_put(struct der_builder *out, const struct crmf_template *request, enum sig_alg alg,
              bool (*sign)(void *ctx, struct bytes message, uint8_t *out, size_t cap, size_t *out_len),
              void *ctx) MUST_USE;
/* CertTemplate with nothing but issuer and serialNumber, of a RevDetails. */
void crmf_template_cert_id_put(struct der_builder *out, const struct cert_id *cert);

#endif
