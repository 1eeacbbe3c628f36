/* profile_impl.h: a compiled profile, inside engine/ca.
 *
 * Promise: read-only after profile_compile.
 */
#ifndef CERTMILL_CA_PROFILE_IMPL_H
#define CERTMILL_CA_PROFILE_IMPL_H

#include "ca/profile.h"

/* Keys of one class may have the same keyUsage bits (RFC 5480 3, 8410 5, 3279 2.3.1). */
enum key_class { KEY_CLASS_EC, KEY_CLASS_RSA, KEY_CLASS_SIGN_ONLY, KEY_CLASS_COUNT };

enum {
    HEAD_MAX = NAME_DER_MAX + 128,
    EXTENSIONS_FIXED_MAX = 384,
    SAN_DER_MAX = 768,
};

struct profile {
    struct profile_config config; /* with every default filled in; strings are ours */
    enum sig_alg sig_alg;         /* of the issuer */
    int64_t issuer_not_before_s;
    int64_t issuer_not_after_s;
    /* constant DER pieces, in the order in which they stand in a TBSCertificate */
    size_t head_len;
    uint8_t head[HEAD_MAX]; /* signature AlgorithmIdentifier, issuer Name */
    size_t subject_prefix_len;
    uint8_t subject_prefix[NAME_DER_MAX]; /* contents of a Name: fixed RDNs */
    struct {
        uint32_t key_usage;
        size_t len;
        uint8_t der[EXTENSIONS_FIXED_MAX]; /* keyUsage, extKeyUsage, basicConstraints, AKI,
                                            cRLDistributionPoints */
    } fixed[KEY_CLASS_COUNT];
};

enum key_class key_class_of(enum key_alg alg);
bool profile_allows_key_alg(const struct profile *profile, enum key_alg alg);
/* The request's RDNs behind the fixed ones, unless they are there already (a renewal repeats the
 * subject it has). ERR_BAD_TEMPLATE when longer than NAME_DER_MAX. */
enum err profile_subject(const struct profile *profile, struct bytes requested,
                         struct bytes *out_prefix, struct bytes *out_rest);

#endif
