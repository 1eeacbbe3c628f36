/* csr.h: PKCS#10 certification requests (RFC 2986) and the request view all protocols share.
 *
 * Promise: as x509.h.
 */
#ifndef CERTMILL_ASN1_CSR_H
#define CERTMILL_ASN1_CSR_H

#include "asn1/x509.h"

enum pop_kind {
    POP_NONE,
    POP_SIGNATURE,
    POP_RA_VERIFIED,      /* CRMF raVerified: an RA vouches */
    POP_KEY_ENCIPHERMENT, /* CRMF: by encrCert */
};

/* What somebody asks a certificate for, whichever protocol carried it. */
struct cert_request {
    struct spki spki;
    struct bytes subject; /* whole Name; may be the empty SEQUENCE */
    struct extensions extensions;
    struct bytes san;                 /* whole GeneralNames, empty when absent */
    struct bytes change_subject_name; /* RFC 6402 2.8, whole value; empty when absent */
    struct bytes challenge_password;  /* PKCS#9 value octets (EST PoP linking) */
    bool has_challenge_password;
    enum pop_kind pop;
    enum sig_alg pop_alg;
    struct bytes pop_message;   /* what is signed, as received */
    struct bytes pop_signature; /* BIT STRING contents */
};

/* PKCS#10: version 0, well-formed attributes (unknown ones are skipped, repeated known ones are an
 * error), extensionRequest at most once. pop_message is the whole certificationRequestInfo.
 * Errors: ERR_BAD_DER, ERR_DER_TRAILING, ERR_BAD_CSR, ERR_BAD_ALG, ERR_BAD_KEY. */
enum err csr_decode(struct bytes der, struct cert_request *out) MUST_USE;

#endif
