/* crl.h: makes a full certificate revocation list, v2 (RFC 5280 5), of any number of entries.
 *
 * Promise: TBSCertList grows in one buffer, in the order in which entries are added; the signed
 *          list is completed in the same buffer, without another copy. Every entry that is added
 *          is in the list: certmill keeps those of expired certificates, too (RFC 5280 5 lets a
 *          list drop them one issue after expiry; devices that never expire are the rule here).
 * Owner:   the caller; views are valid until the next call. crl_builder_free is legal on {0} and
 *          at any time; crl_builder_take gives the buffer away (free() it).
 * Threads: one at a time; never a core: memory comes from the heap.
 * Errors:  sticky: ERR_NO_SPACE (past CRL_DER_MAX, or out of memory), ERR_BAD_ALG, ERR_BAD_TEMPLATE
 *          (an issuer without a name, a time that cannot be written).
 * Limits:  CRL_DER_MAX octets, also of memory, but for twice that while the buffer grows. An entry
 *          takes 35 octets, 49 with a reason.
 */
#ifndef CERTMILL_CA_CRL_H
#define CERTMILL_CA_CRL_H

#include "asn1/x509.h"

struct crl_input {
    const struct x509_cert *issuer; /* name and key identifier */
    enum sig_alg sig_alg;
    int64_t this_update_s, next_update_s;
    uint64_t number; /* cRLNumber */
};

struct crl_builder {
    uint8_t *buf;
    size_t cap, len;
    size_t start; /* of what is complete */
    uint64_t entry_count;
    struct crl_input input;
    enum err err;
};

/* input->issuer must stay until the list is finished. */
void crl_begin(struct crl_builder *builder, const struct crl_input *input);
/* serial: big-endian magnitude. reason 0, unspecified, is not written (RFC 5280 5.3.1). */
void crl_add(struct crl_builder *builder, struct bytes serial, int64_t revoked_s, uint8_t reason);
/* All that was added so far, as revokedCertificates holds it. Before crl_finish_tbs. */
struct bytes crl_builder_entries(const struct crl_builder *builder);
/* Ends the list of entries: what is to be signed. */
enum err crl_finish_tbs(struct crl_builder *builder, struct bytes *out_tbs) MUST_USE;
/* The CertificateList around it; signature in X.509 form. */
enum err crl_assemble(struct crl_builder *builder, struct bytes signature,
                      struct bytes *out_der) MUST_USE;
void crl_builder_free(struct crl_builder *builder);
/* The buffer that the view of crl_assemble lies in. */
uint8_t *crl_builder_take(struct crl_builder *builder);

#endif
