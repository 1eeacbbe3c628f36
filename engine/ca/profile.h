/* profile.h: what a certificate of a line looks like, compiled once into a DER template.
 *
 * Promise: a compiled profile is checked and read-only; profile_build_tbs only fills in serial,
 *          validity, subject, SPKI, SAN and SKI, without heap. An extension that is asked for and
 *          not allowed is refused by name, never dropped in silence.
 * Owner:   the configuration snapshot.
 * Threads: read-only after compile.
 * Errors:  compile: ERR_CONFIG with detail. check and build: ERR_KEY_NOT_ALLOWED,
 *          ERR_EXTENSION_NOT_ALLOWED, ERR_BAD_TEMPLATE, ERR_NO_SPACE.
 */
#ifndef CERTMILL_CA_PROFILE_H
#define CERTMILL_CA_PROFILE_H

#include "asn1/csr.h"
#include "asn1/x509.h"
#include "limits.h"

/* As configured; see the README of sample configurations. Zero values mean the base profile's. */
enum profile_base { PROFILE_TLS_DEVICE, PROFILE_IDEVID, PROFILE_CA };

enum profile_take { TAKE_FROM_REQUEST, TAKE_FIXED, TAKE_FORBIDDEN };

struct profile_config {
    const char *name;
    enum profile_base base;
    int64_t validity_s;      /* 0: base's default (tls-device 398 days; idevid: no expiry) */
    bool no_expiry;          /* 99991231235959Z (IEEE 802.1AR) */
    int64_t backdate_s;      /* notBefore this far back; default 60 */
    uint32_t key_usage;      /* 0: base's */
    uint32_t ext_key_usage;  /* 0: base's */
    bool server_auth;        /* tls-device: add serverAuth */
    enum key_alg key_algs[KEY_ALG_COUNT]; /* allowed; count 0: P-256, P-384, RSA, Ed25519 */
    uint32_t key_alg_count;
    uint32_t rsa_bits_min;   /* default 2048 */
    enum profile_take san;   /* default from request (tls-device), optional hardwareModuleName (idevid) */
    const char *subject_suffix; /* fixed RDNs put before the device's, "O=Example,OU=Line 3"; or NULL */
    const char *crl_url; /* cRLDistributionPoints; NULL: the extension is not written */
};

struct profile; /* compiled */

/* issuer: the CA certificate this profile's certificates are signed under (name, AKI, its sig_alg). */
enum err profile_compile(const struct profile_config *config, const struct x509_cert *issuer,
                         struct profile **out, char out_detail[256]) MUST_USE;
/* Absolute http or https, of the characters a URI may have, at most CRL_URL_MAX. */
bool profile_crl_url_is_good(const char *url);
void profile_free(struct profile *profile);
const char *profile_name(const struct profile *profile);
const struct profile_config *profile_settings(const struct profile *profile);

/* Policy on the request alone, before anything is spent. out_detail gets e.g. the extension's OID. */
enum err profile_check(const struct profile *profile, const struct cert_request *request,
                       char out_detail[128]) MUST_USE;

struct tbs_input {
    const struct cert_request *request;
    const uint8_t *serial;    /* SERIAL_LEN octets, first bit zero, first octet not zero */
    int64_t not_before_s;
    int64_t not_after_s;
    const uint8_t *spki_sha1; /* SKI: SHA-1 of subjectPublicKey bits (RFC 5280 4.2.1.2 (1)) */
};

/* Validity for a certificate issued now, never beyond the issuer's notAfter; "no expiry" is no date
 * and stays 99991231235959Z (IEEE 802.1AR). */
void profile_validity(const struct profile *profile, int64_t now_s, int64_t *out_not_before_s,
                      int64_t *out_not_after_s);
/* Writes the whole TBSCertificate (RFC 5280 4.1.2). */
enum err profile_build_tbs(const struct profile *profile, const struct tbs_input *input,
                           uint8_t *out, size_t cap, size_t *out_len) MUST_USE;

#endif
