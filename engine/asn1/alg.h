/* alg.h: key and signature algorithms that certmill knows.
 *
 * Promise: one enum for each; object identifiers and parameters are mapped in alg.c alone.
 */
#ifndef CERTMILL_ASN1_ALG_H
#define CERTMILL_ASN1_ALG_H

#include "base/bytes.h"

enum key_alg {
    KEY_NONE,
    KEY_EC_P256,
    KEY_EC_P384,
    KEY_RSA, /* 2048..4096; bits in struct spki */
    KEY_ED25519,
    KEY_ML_DSA_44,
    KEY_ML_DSA_65,
    KEY_ALG_COUNT
};

enum hash_alg { HASH_NONE, HASH_SHA1, HASH_SHA256, HASH_SHA384, HASH_SHA512, HASH_ALG_COUNT };

enum sig_alg {
    SIG_NONE,
    SIG_ECDSA_SHA256,
    SIG_ECDSA_SHA384,
    SIG_ECDSA_SHA512,
    SIG_RSA_SHA256,
    SIG_RSA_SHA384,
    SIG_RSA_SHA512,
    SIG_RSA_PSS_SHA256,
    SIG_RSA_PSS_SHA384,
    SIG_RSA_PSS_SHA512,
    SIG_ED25519,
    SIG_ML_DSA_44,
    SIG_ML_DSA_65,
    SIG_ALG_COUNT
};

/* "EC P-256", "RSA" ...; and "ecdsa-with-SHA256" ... Never NULL. */
const char *key_alg_name(enum key_alg alg);
const char *sig_alg_name(enum sig_alg alg);
/* From a configuration word: p256, p384, rsa2048, rsa3072, rsa4096, ed25519, ml-dsa-44, ml-dsa-65.
 */
bool key_alg_from_name(const char *name, enum key_alg *out_alg, uint32_t *out_bits) MUST_USE;
/* The digest signed, HASH_NONE where the message itself is (Ed25519, ML-DSA). */
enum hash_alg sig_alg_hash(enum sig_alg alg);
/* Does this signature algorithm go with this key? */
bool sig_alg_fits(enum sig_alg sig, enum key_alg key);
/* The signature algorithm a CA key of this kind signs certificates with by default. */
enum sig_alg sig_alg_default(enum key_alg key);
/* Complete DER AlgorithmIdentifier SEQUENCE of a signature algorithm (static memory; RFC 5758,
 * 8410, 4055; absent parameters for ECDSA and EdDSA, NULL for PKCS#1, explicit for PSS). */
struct bytes sig_alg_der(enum sig_alg alg);
/* The other way: SIG_NONE for what is unknown or has other parameters than its RFC allows. PKCS#1
 * may lack its NULL (RFC 4055 5); PSS is taken with one hash throughout and a salt of its length.
 */
enum sig_alg sig_alg_from_der(struct bytes der);
size_t hash_alg_len(enum hash_alg alg);
/* Object identifiers of a hash and of the HMAC with it; empty for HASH_NONE. */
struct bytes hash_alg_oid(enum hash_alg alg);
struct bytes hmac_alg_oid(enum hash_alg alg);
/* The other way: HASH_NONE for what is unknown. HMAC-SHA1 has two (RFC 3370 3.1, RFC 8018 B.1.1).
 */
enum hash_alg hash_alg_from_oid(struct bytes oid);
enum hash_alg hmac_alg_from_oid(struct bytes oid);
/* A whole AlgorithmIdentifier, without parameters or with NULL. */
enum hash_alg hash_alg_from_der(struct bytes der);
/* Complete AlgorithmIdentifier of a SubjectPublicKeyInfo (static memory; RFC 5480, 3279, 8410);
 * empty for what has none here. */
struct bytes key_alg_der(enum key_alg alg);

#endif
