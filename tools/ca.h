/* ca.h: making and checking CA certificates with keys in a token.
 *
 * Promise: a signature leaves here only after it verified with the public key that is certified or
 *          certifies; a certificate is written only after its path to a root was validated.
 * Errors:  what fails has printed its line.
 */
#ifndef CERTMILL_TOOLS_CA_H
#define CERTMILL_TOOLS_CA_H

#include "ca/issue.h"
#include "tools/access.h"
#include "tools/files.h"

/* A subject from the command line, DER. */
struct subject {
    size_t len;
    uint8_t der[NAME_DER_MAX];
};
int subject_read(struct cli *cli, const char *option, struct subject *out) MUST_USE;

struct ca_cert {
    size_t len;
    uint8_t der[CERT_DER_MAX];
    struct x509_cert view; /* into der */
};

struct ca_cert_wish {
    struct bytes subject;
    const struct p11_key *key;      /* to certify */
    const struct x509_cert *issuer; /* NULL: self-signed */
    const struct access *signer;    /* session of the signing key */
    const struct p11_key *signer_key;
    uint64_t years; /* from now, within the issuer's; or, when not_after_s is set, these two: */
    int64_t not_before_s, not_after_s;
    int32_t path_len;
};
int ca_cert_make(struct cli *cli, const struct ca_cert_wish *wish, struct ca_cert *out) MUST_USE;

/* A PKCS#10 request for a CA certificate; out has CERT_DER_MAX octets. */
int ca_csr_make(struct cli *cli, const struct access *access, const struct p11_key *key,
                struct bytes subject, uint8_t *out, size_t *out_len) MUST_USE;
/* Prints it, or writes it to --OPTION. */
int ca_csr_give(struct cli *cli, const char *option, const struct access *access,
                const struct p11_key *key, bool made, struct bytes der) MUST_USE;
/* One PEM file of certificates. */
int ca_file_write(const char *path, const char *like, const struct bytes der[],
                  uint32_t count) MUST_USE;

/* SEQUENCE { to be signed, algorithm, signature } in the token; verified. */
int ca_sign(struct cli *cli, const struct access *access, const struct p11_key *key,
            struct bytes tbs, uint8_t *out, size_t cap, size_t *out_len) MUST_USE;
/* Signs something random with the token's key and verifies it with the certificate's. */
int ca_prove_key(struct cli *cli, const struct access *access, const struct p11_key *key,
                 const struct x509_cert *cert) MUST_USE;

/* RFC 5280 6.1 from certs[0] to a self-signed one among certs; NULL or why not. */
const char *ca_path_problem(const struct bytes certs[], uint32_t count);

/* Subject, issuer, serial, validity, key, fingerprint. */
json_t *ca_cert_json(const struct x509_cert *cert, const char *file);
void ca_cert_print(const char *what, const struct x509_cert *cert, const char *file);

#endif
