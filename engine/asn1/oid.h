/* oid.h: object identifiers, as contents octets, each beside its source.
 *
 * X(name, length, bytes...) would hide the octets; they are written out in oid.c.
 */
#ifndef CERTMILL_ASN1_OID_H
#define CERTMILL_ASN1_OID_H

#include "base/bytes.h"

/* X.520 attributes */
extern const struct bytes OID_AT_COMMON_NAME, OID_AT_SERIAL_NUMBER, OID_AT_COUNTRY, OID_AT_LOCALITY,
    OID_AT_STATE, OID_AT_ORGANIZATION, OID_AT_ORG_UNIT, OID_AT_DN_QUALIFIER, OID_AT_DC, OID_AT_UID;
/* extensions (RFC 5280) */
extern const struct bytes OID_EXT_SKI, OID_EXT_KEY_USAGE, OID_EXT_SAN, OID_EXT_BASIC_CONSTRAINTS,
    OID_EXT_CRL_DP, OID_EXT_CERT_POLICIES, OID_EXT_AKI, OID_EXT_EKU, OID_EXT_NAME_CONSTRAINTS,
    OID_EXT_AIA, OID_EXT_CRL_NUMBER, OID_EXT_CRL_REASON, OID_EXT_IDP;
/* extended key usages */
extern const struct bytes OID_EKU_SERVER_AUTH, OID_EKU_CLIENT_AUTH, OID_EKU_CMC_CA, OID_EKU_CMC_RA,
    OID_EKU_CM_KGA, OID_EKU_ANY;
/* keys and signatures */
extern const struct bytes OID_EC_PUBLIC_KEY, OID_P256, OID_P384, OID_RSA, OID_RSA_PSS, OID_ED25519,
    OID_SHA1, OID_SHA256, OID_SHA384, OID_SHA512;
/* PKCS#9 and CMC attributes */
extern const struct bytes OID_EXTENSION_REQUEST, OID_CHALLENGE_PASSWORD, OID_CHANGE_SUBJECT_NAME,
    OID_CONTENT_TYPE, OID_MESSAGE_DIGEST, OID_ALGORITHM_PROTECTION;
/* CMS */
extern const struct bytes OID_CMS_DATA, OID_CMS_SIGNED_DATA, OID_CMS_ENVELOPED_DATA,
    OID_KEY_PACKAGE;
/* shared secrets */
extern const struct bytes OID_PBM, OID_PBMAC1, OID_PBKDF2, OID_HMAC_SHA1, OID_HMAC_SHA256,
    OID_HMAC_SHA384, OID_HMAC_SHA512, OID_HMAC_SHA1_IPSEC;
/* encryption */
extern const struct bytes OID_RSA_OAEP, OID_MGF1, OID_ECDH_SHA256KDF, OID_PWRI_KEK, OID_AES128_CBC,
    OID_AES256_CBC, OID_AES256_WRAP;
/* other */
extern const struct bytes OID_HARDWARE_MODULE_NAME; /* RFC 4108 5: 1.3.6.1.5.5.7.8.4 */
extern const struct bytes OID_CERT_REQ_TEMPLATE;    /* RFC 9908: 1.2.840.113549.1.9.16.2.61 */
extern const struct bytes OID_EXT_REQ_TEMPLATE;     /* RFC 9908: 1.2.840.113549.1.9.16.2.62 */

/* Dotted decimal into contents octets and back. */
bool oid_from_text(const char *dotted, uint8_t *out, size_t cap, size_t *out_len) MUST_USE;
void oid_to_text(struct bytes oid, char *out, size_t cap);
/* Well-formed contents: at least one arc, no leading 0x80 in an arc, last byte ends one. */
bool oid_is_valid(struct bytes oid);

#endif
