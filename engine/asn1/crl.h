/* crl.h: a typed view of certificate revocation lists (RFC 5280 5).
 *
 * Promise: the decoder goes through the whole list without copying, or fails and leaves the view
 *          untouched; what is accepted is DER throughout, entries too, and has nothing left over.
 *          Nothing here verifies.
 * Owner:   views live as long as the bytes they point into.
 * Errors:  ERR_BAD_DER, ERR_DER_TRAILING, ERR_BAD_CRL.
 * Limits:  CRL_DER_MAX, EXTENSIONS_MAX, NAME_DER_MAX. The three outer elements alone may be longer
 *          than what der.h reads.
 */
#ifndef CERTMILL_ASN1_CRL_H
#define CERTMILL_ASN1_CRL_H

#include "asn1/x509.h"

struct crl_view {
    struct bytes der;
    struct bytes tbs;    /* whole TBSCertList: what is signed */
    struct bytes issuer; /* whole Name */
    struct bytes signature;
    enum sig_alg sig_alg; /* SIG_NONE when unknown: the list still decodes */
    int64_t this_update_s;
    int64_t next_update_s; /* when has_next_update */
    bool has_next_update;
    struct bytes entries; /* contents of revokedCertificates, for crl_entry_next */
    uint64_t entry_count;
    struct extensions extensions;
    struct bytes number; /* INTEGER contents of cRLNumber, not negative; empty when absent */
    struct bytes aki;    /* keyIdentifier octets */
    bool
        unknown_critical; /* here or in an entry: not a full list of one issuer, or newer than us */
};

struct crl_entry {
    struct bytes serial; /* INTEGER contents, as encoded */
    int64_t revoked_s;
    uint8_t reason; /* RFC 5280 5.3.1; 0 also when absent */
    bool has_reason;
    bool has_extensions;
    bool unknown_critical;
};

enum err crl_decode(struct bytes der, struct crl_view *out) MUST_USE;
/* The next entry of a decoded list's `entries`; false at the end. */
bool crl_entry_next(struct bytes *entries, struct crl_entry *out) MUST_USE;
/* cRLNumber; false when there is none or it does not fit. */
bool crl_number(const struct crl_view *crl, uint64_t *out) MUST_USE;
/* "keyCompromise" and so on; "unspecified" for 0; NULL for what is no reason. */
const char *crl_reason_text(uint8_t reason);
bool crl_reason_from_text(const char *name, uint8_t *out) MUST_USE;

#endif
