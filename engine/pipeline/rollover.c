/* rollover.c: what remains of a CA's earlier keys: their certificates, and links between them. */
#include "crypto/verify.h"
#include "pipeline/snapshot.h"

/* RFC 9810 4.4.1: the one key's name and public key, signed by the other one. */
static bool is_link(struct bytes link_der, const struct x509_cert *of, const struct x509_cert *by)
{
    struct x509_cert link;
    if (x509_decode(link_der, &link) != ERR_OK || !bytes_eq(link.subject, of->subject) ||
        !bytes_eq(link.spki.der, of->spki.der) || !bytes_eq(link.issuer, by->subject)) {
        return false;
    }
    struct verify_job job = {
        .alg = link.sig_alg,
        .spki = &by->spki,
        .message = link.tbs,
        .signature = link.signature,
    };
    return verify_one(&job) == ERR_OK;
}

const char *rt_ca_rollover_problem(const struct rt_ca *ca)
{
    for (uint32_t i = 0; i < ca->previous_count; i++) {
        const struct x509_cert *cert = &ca->previous[i].cert;
        if (!cert->is_ca) {
            return "a certificate of previous is not a CA's (basicConstraints CA:TRUE)";
        }
        if (bytes_eq(cert->spki.der, ca->cert.spki.der)) {
            return "a certificate of previous is for the key that the CA signs with now";
        }
    }
    const struct x509_cert *old = ca->previous_count > 0 ? &ca->previous[0].cert : NULL;
    if (ca->old_with_new.len > 0 && (!old || !is_link(ca->old_with_new, old, &ca->cert))) {
        return "old_with_new does not certify the key of the first of previous, signed by the CA's "
               "key of now";
    }
    if (ca->new_with_old.len > 0 && (!old || !is_link(ca->new_with_old, &ca->cert, old))) {
        return "new_with_old does not certify the CA's key of now, signed by the key of the first "
               "of previous";
    }
    return NULL;
}

enum err rt_ca_find_cert(const struct rt_ca *ca, struct store_reader *reader,
                         const struct x509_cert *cert, uint64_t *out_log)
{
    enum err err = ERR_NOT_FOUND;
    if (bytes_eq(cert->issuer, ca->cert.subject)) {
        err = reader_serial(reader, ca->issuer_id, cert->serial, out_log);
    }
    for (uint32_t i = 0; i < ca->previous_count && err == ERR_NOT_FOUND; i++) {
        const struct rt_issuer *issuer = &ca->previous[i];
        if (bytes_eq(cert->issuer, issuer->cert.subject)) {
            err = reader_serial(reader, issuer->issuer_id, cert->serial, out_log);
        }
    }
    return err;
}
