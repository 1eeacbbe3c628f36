/* ext.h: the certificate extensions that certmill writes (RFC 5280 4.2.1), inside engine/ca.
 *
 * Promise: each function appends one complete Extension; errors are the builder's sticky one.
 */
#ifndef CERTMILL_CA_EXT_H
#define CERTMILL_CA_EXT_H

#include "asn1/der.h"
#include "asn1/x509.h"

/* enum ext_key_usage bits that can be written. */
#define EKU_KNOWN                                                                                  \
    ((uint32_t)EKU_SERVER_AUTH | EKU_CLIENT_AUTH | EKU_CMC_RA | EKU_CMC_CA | EKU_CM_KGA | EKU_ANY)

void ext_put_key_usage(struct der_builder *out, uint32_t key_usage);
void ext_put_ext_key_usage(struct der_builder *out, uint32_t ext_key_usage);
/* path_len -1: none */
void ext_put_basic_constraints(struct der_builder *out, bool is_ca, int32_t path_len);
void ext_put_ski(struct der_builder *out, struct bytes key_id);
void ext_put_aki(struct der_builder *out, struct bytes key_id);
void ext_put_san(struct der_builder *out, struct bytes general_names, bool critical);
/* One DistributionPoint that is a URI (4.2.1.13). */
void ext_put_crl_url(struct der_builder *out, struct bytes url);
/* In a CRL (5.2.3). */
void ext_put_crl_number(struct der_builder *out, uint64_t number);

/* The bit of an extended key usage, EKU_OTHER when unknown. */
uint32_t ext_key_usage_bit(struct bytes oid);
/* "keyUsage 2.5.29.15", or the dotted OID alone when the name is not known. */
void ext_name(struct bytes oid, char *out, size_t cap);

#endif
