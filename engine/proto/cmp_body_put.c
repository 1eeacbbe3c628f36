#include "asn1/oid.h"
#include "proto/cmp_msg.h"

/* Each body is one element inside its tag; most are a SEQUENCE OF. */

static void put_text(struct der_builder *out, struct bytes text)
{
    if (text.len == 0) /* PKIFreeText is never empty */
        return;
    der_open(out, DER_SEQUENCE);
    der_put(out, DER_UTF8_STRING, text);
    der_close(out);
}

static void put_explicit(struct der_builder *out, unsigned number, struct bytes element)
{
    if (element.len > 0)
        der_put(out, DER_CONTEXT_CONSTRUCTED(number), element);
}

void cmp_status_put(struct der_builder *out, const struct cmp_status_info *status)
{
    der_open(out, DER_SEQUENCE);
    der_put_u64(out, DER_INTEGER, status->status);
    put_text(out, status->text);
    if (status->fail != 0)
        der_put_named_bits(out, status->fail);
    der_close(out);
}

static void put_key_pair(struct der_builder *out, const struct cmp_cert_response *response)
{
    if (response->cert.len == 0 && response->encrypted_cert.len == 0)
        return;
    der_open(out, DER_SEQUENCE);
    if (response->cert.len > 0)
        put_explicit(out, 0, response->cert);
    else
        put_explicit(out, 1, response->encrypted_cert);
    put_explicit(out, 0, response->private_key);
    der_close(out);
}

void cmp_cert_rep_put(struct der_builder *out, const struct cmp_cert_response responses[],
                      uint32_t count, const struct bytes ca_pubs[], uint32_t ca_pub_count)
{
    der_open(out, DER_SEQUENCE);
    if (ca_pub_count > 0) {
        der_open(out, DER_CONTEXT_CONSTRUCTED(1));
        der_open(out, DER_SEQUENCE);
        for (uint32_t i = 0; i < ca_pub_count; i++)
            der_put_raw(out, ca_pubs[i]);
        der_close(out);
        der_close(out);
    }
    der_open(out, DER_SEQUENCE);
    for (uint32_t i = 0; i < count; i++) {
        der_open(out, DER_SEQUENCE);
        der_put_i64(out, responses[i].cert_req_id);
        cmp_status_put(out, &responses[i].status);
        put_key_pair(out, &responses[i]);
        der_close(out);
    }
    der_close(out);
    der_close(out);
}

static bool all_have_ids(const struct cert_id certs[], uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (certs[i].issuer.len == 0 || certs[i].serial.len == 0)
            return false;
    return count > 0;
}

void cmp_rev_rep_put(struct der_builder *out, const struct cmp_status_info status[],
                     const struct cert_id certs[], uint32_t count)
{
    der_open(out, DER_SEQUENCE);
    der_open(out, DER_SEQUENCE);
    for (uint32_t i = 0; i < count; i++)
        cmp_status_put(out, &status[i]);
    der_close(out);
    if (certs != NULL && all_have_ids(certs, count)) {
        der_open(out, DER_CONTEXT_CONSTRUCTED(0));
        der_open(out, DER_SEQUENCE);
        for (uint32_t i = 0; i < count; i++)
            crmf_cert_id_put(out, &certs[i]);
        der_close(out);
        der_close(out);
    }
    der_close(out);
}

void cmp_poll_rep_put(struct der_builder *out, const struct cmp_poll polls[], uint32_t count)
{
    der_open(out, DER_SEQUENCE);
    for (uint32_t i = 0; i < count; i++) {
        der_open(out, DER_SEQUENCE);
        der_put_i64(out, polls[i].cert_req_id);
        der_put_i64(out, polls[i].check_after_s);
        put_text(out, polls[i].reason);
        der_close(out);
    }
    der_close(out);
}

void cmp_poll_req_put(struct der_builder *out, const int64_t ids[], uint32_t count)
{
    der_open(out, DER_SEQUENCE);
    for (uint32_t i = 0; i < count; i++) {
        der_open(out, DER_SEQUENCE);
        der_put_i64(out, ids[i]);
        der_close(out);
    }
    der_close(out);
}

void cmp_infos_put(struct der_builder *out, const struct cmp_info infos[], uint32_t count)
{
    der_open(out, DER_SEQUENCE);
    for (uint32_t i = 0; i < count; i++) {
        der_open(out, DER_SEQUENCE);
        der_put(out, DER_OID, infos[i].oid);
        der_put_raw(out, infos[i].value);
        der_close(out);
    }
    der_close(out);
}

void cmp_error_put(struct der_builder *out, const struct cmp_status_info *status)
{
    der_open(out, DER_SEQUENCE);
    cmp_status_put(out, status);
    der_close(out);
}

void cmp_cert_conf_put(struct der_builder *out, const struct cmp_cert_status status[],
                       uint32_t count)
{
    der_open(out, DER_SEQUENCE);
    for (uint32_t i = 0; i < count; i++) {
        der_open(out, DER_SEQUENCE);
        der_put(out, DER_OCTET_STRING, status[i].cert_hash);
        der_put_i64(out, status[i].cert_req_id);
        if (status[i].has_status)
            cmp_status_put(out, &status[i].status);
        put_explicit(out, 0, status[i].hash_alg);
        der_close(out);
    }
    der_close(out);
}

void cmp_pki_conf_put(struct der_builder *out)
{
    der_put_null(out);
}

void cmp_nested_put(struct der_builder *out, const struct bytes messages[], uint32_t count)
{
    der_open(out, DER_SEQUENCE);
    for (uint32_t i = 0; i < count; i++)
        der_put_raw(out, messages[i]);
    der_close(out);
}

/* crlEntryDetails with reasonCode alone. */
static void put_reason(struct der_builder *out, uint8_t reason)
{
    der_open(out, DER_SEQUENCE);
    der_open(out, DER_SEQUENCE);
    der_put(out, DER_OID, OID_EXT_CRL_REASON);
    der_open(out, DER_OCTET_STRING);
    der_put(out, DER_ENUMERATED, bytes_of(&reason, 1));
    der_close(out);
    der_close(out);
    der_close(out);
}

void cmp_rev_req_put(struct der_builder *out, const struct cmp_revocation revocations[],
                     uint32_t count)
{
    der_open(out, DER_SEQUENCE);
    for (uint32_t i = 0; i < count; i++) {
        der_open(out, DER_SEQUENCE);
        crmf_template_cert_id_put(out, &revocations[i].cert);
        if (revocations[i].has_reason)
            put_reason(out, revocations[i].reason);
        der_close(out);
    }
    der_close(out);
}
