/* issue.h: serial numbers, certificate assembly, and CA certificates.
 *
 * Threads: serial_next on any core (each has its own lane); the rest is pure.
 */
#ifndef CERTMILL_CA_ISSUE_H
#define CERTMILL_CA_ISSUE_H

#include "asn1/x509.h"
#include "ca/profile.h"
#include "limits.h"

/* 16 octets: 48 bits of milliseconds (never going back within a process, started no earlier than the
 * last one in the store), 16 bits of lane and count, 64 random bits. Top bit zero, top octet not
 * zero, so that the DER INTEGER is 16 octets long (RFC 5280 4.1.2.2). */
struct serial_lane {
    uint64_t last_block;
    uint32_t lane;
    uint32_t random_left;
    uint8_t random_pool[1024]; /* one getrandom for many serials */
};
/* floor_ms: milliseconds of the newest serial in the store (serial_block_ms), or 0. */
void serial_lane_init(struct serial_lane *lane, uint32_t core, uint64_t floor_ms);
void serial_next(struct serial_lane *lane, uint8_t out[SERIAL_LEN]);
uint64_t serial_block_ms(const uint8_t serial[SERIAL_LEN]);

/* SEQUENCE { tbs, signatureAlgorithm, signature } (RFC 5280 4.1). signature: X.509 form. */
enum err cert_assemble(struct bytes tbs, enum sig_alg alg, struct bytes signature, uint8_t *out,
                       size_t cap, size_t *out_len) MUST_USE;
/* The octets a token signs for this TBS: digest, DigestInfo or the message itself, by algorithm. */
enum err sign_input_build(enum sig_alg alg, struct bytes tbs, uint8_t *out, size_t cap,
                          size_t *out_len) MUST_USE;

/* What the store knows an issuer by (store_issuer_id): SHA-256 over its SPKI and its name. */
void issuer_hash(const struct x509_cert *ca, uint8_t out[32]);

/* TBS of a CA certificate: self-signed root (issuer NULL), or subordinate. */
struct ca_cert_input {
    struct bytes subject;     /* Name */
    struct bytes spki;        /* whole SPKI */
    const struct x509_cert *issuer; /* NULL: self-signed */
    enum sig_alg sig_alg;     /* of the signing key */
    const uint8_t *serial;
    int64_t not_before_s, not_after_s;
    int32_t path_len; /* -1: none */
};
enum err ca_cert_tbs_build(const struct ca_cert_input *input, uint8_t *out, size_t cap,
                           size_t *out_len) MUST_USE;
/* certificationRequestInfo of a CA's CSR; assemble with cert_assemble, which has the same shape. */
enum err ca_csr_info_build(struct bytes subject, struct bytes spki, uint8_t *out, size_t cap,
                           size_t *out_len) MUST_USE;

#endif
