/* est.h: Enrollment over Secure Transport (RFC 7030, 8951; spec/est.md).
 *
 * Paths: /.well-known/est[/<line>]/{cacerts,simpleenroll,simplereenroll,csrattrs,serverkeygen,
 * fullcmc,confirm}. proto_est (proto.h) is the protocol; here is what the configuration needs.
 */
#ifndef CERTMILL_PROTO_EST_H
#define CERTMILL_PROTO_EST_H

#include "proto/proto.h"

/* A line may not be called like an operation (RFC 7030 3.2.2). */
bool est_is_operation_name(struct bytes name);

/* What csrattrs says of a line. */
struct est_csr_attrs {
    enum key_alg key_algs[KEY_ALG_COUNT]; /* accepted keys; the first is recommended */
    uint32_t rsa_bits;                    /* of KEY_RSA */
    uint32_t key_alg_count;
    bool want_challenge_password; /* PoP linking demanded */
    bool want_san;
    uint32_t ext_key_usage; /* suggested, enum ext_key_usage bits */
};
/* DER CsrAttrs (RFC 7030 4.5.2, RFC 9908 3.2): key type and curve (or RSA bits) as one Attribute, at
 * most one id-ExtensionReq with one Extensions, challengePassword as an OID, and the RFC 9908
 * template attribute. *out_len 0: nothing to say (204). */
enum err est_csr_attrs_build(const struct est_csr_attrs *attrs, uint8_t *out, size_t cap,
                             size_t *out_len) MUST_USE;

/* PoP linking (RFC 7030 3.5; RFC 9266): is challenge_password the base64 of the channel binding?
 * Exact length, constant time. */
bool est_pop_link_matches(struct bytes challenge_password, struct bytes binding);

/* HTTP status of an error in EST (spec/est.md, Answers). */
uint16_t est_status(enum err err);

#endif
