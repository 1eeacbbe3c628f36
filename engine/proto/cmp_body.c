#include "asn1/oid.h"
#include "proto/cmp_msg_internal.h"

/* --- requests --- */

/* Refused for its own sake: the message around it is none the worse. */
static bool fails_alone(enum err err)
{
    return err == ERR_BAD_TEMPLATE || err == ERR_BAD_ALG || err == ERR_BAD_KEY ||
           err == ERR_BAD_POP || err == ERR_BAD_REQUEST;
}

/* CertReqMessages ::= SEQUENCE SIZE (1..MAX) OF, as PKIMessages. */
static enum err filled_list_open(struct bytes content, struct bytes *out_list)
{
    enum err err = cmp_list_open(content, out_list);

    return err == ERR_OK && out_list->len == 0 ? ERR_BAD_DER : err;
}

enum err cmp_cert_req_get(struct bytes *list, struct writer *scratch, struct crmf_request *out)
{
    struct bytes element;

    if (!der_get_element(list, DER_SEQUENCE, &element))
        return ERR_BAD_DER;
    enum err err = crmf_decode(element, scratch, out);
    return fails_alone(err) ? ERR_OK : err;
}

enum err cmp_cert_reqs_decode(struct bytes content, struct writer *scratch,
                              struct crmf_request out[], uint32_t max, uint32_t *out_count)
{
    struct bytes list;
    enum err err = filled_list_open(content, &list);

    *out_count = 0;
    if (err != ERR_OK)
        return err;
    for (; list.len > 0; ++*out_count) {
        if (*out_count == max)
            return ERR_NO_SPACE;
        err = cmp_cert_req_get(&list, scratch, &out[*out_count]);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

enum err cmp_cert_reqs_count(struct bytes content, uint32_t *out_count)
{
    struct bytes list, element;
    uint32_t count = 0;
    enum err err = filled_list_open(content, &list);

    if (err != ERR_OK)
        return err;
    for (; list.len > 0; count++)
        if (!der_get_element(&list, DER_SEQUENCE, &element))
            return ERR_BAD_DER;
    *out_count = count;
    return ERR_OK;
}

enum err cmp_nested_decode(struct bytes content, struct bytes out[], uint32_t max,
                           uint32_t *out_count)
{
    struct bytes list;
    uint32_t count = 0;
    enum err err = filled_list_open(content, &list);

    if (err != ERR_OK)
        return err;
    for (; list.len > 0; count++) {
        if (count == max)
            return ERR_NO_SPACE;
        if (!der_get_element(&list, DER_SEQUENCE, &out[count]))
            return ERR_BAD_DER;
    }
    *out_count = count;
    return ERR_OK;
}

enum err cmp_infos_decode(struct bytes content, struct cmp_info out[], uint32_t max,
                          uint32_t *out_count)
{
    struct bytes list;
    uint32_t count = 0;
    enum err err = cmp_list_open(content, &list);

    if (err != ERR_OK)
        return err;
    for (; list.len > 0; count++) {
        if (count == max)
            return ERR_NO_SPACE;
        err = cmp_info_get(&list, &out[count]);
        if (err != ERR_OK)
            return err;
    }
    *out_count = count;
    return ERR_OK;
}

enum err cmp_poll_req_decode(struct bytes content, int64_t out_ids[], uint32_t max,
                             uint32_t *out_count)
{
    struct bytes list, body;
    uint32_t count = 0;
    enum err err = cmp_list_open(content, &list);

    if (err != ERR_OK)
        return err;
    for (; list.len > 0; count++) {
        if (count == max)
            return ERR_NO_SPACE;
        if (!der_get(&list, DER_SEQUENCE, &body) || !der_get_i64(&body, &out_ids[count]))
            return ERR_BAD_DER;
        if (body.len != 0)
            return ERR_DER_TRAILING;
    }
    if (count == 0)
        return ERR_BAD_REQUEST;
    *out_count = count;
    return ERR_OK;
}

/* --- revocation --- */

/* The reasonCode among crlEntryDetails (RFC 5280 5.3.1). */
static enum err reason_decode(struct bytes extensions_der, struct cmp_revocation *out)
{
    struct extensions all;
    const struct extension *found;
    struct bytes value, reason;

    /* a repeated one too has no meaning */
    if (extensions_decode(extensions_der, &all) != ERR_OK || all.count == 0)
        return ERR_BAD_DER;
    found = extensions_find(&all, OID_EXT_CRL_REASON);
    if (found == NULL)
        return ERR_OK;
    value = found->value;
    if (!der_get(&value, DER_ENUMERATED, &reason) || value.len != 0 || reason.len != 1 ||
        reason.ptr[0] > 10 || reason.ptr[0] == 7)
        return ERR_BAD_DER;
    out->has_reason = true;
    out->reason = reason.ptr[0];
    return ERR_OK;
}

static enum err revocation_decode(struct bytes body, struct cmp_revocation *out)
{
    struct bytes template_der, details;

    *out = (struct cmp_revocation){0};
    if (!der_get_element(&body, DER_SEQUENCE, &template_der))
        return ERR_BAD_DER;
    enum err err = crmf_template_cert_id(template_der, &out->cert);
    if (err != ERR_OK || body.len == 0)
        return err;
    if (!der_get_element(&body, DER_SEQUENCE, &details))
        return ERR_BAD_DER;
    if (body.len != 0)
        return ERR_DER_TRAILING;
    return reason_decode(details, out);
}

enum err cmp_rev_req_decode(struct bytes content, struct cmp_revocation out[], uint32_t max,
                            uint32_t *out_count)
{
    struct bytes list, body;
    uint32_t count = 0;
    enum err err = cmp_list_open(content, &list);

    if (err != ERR_OK)
        return err;
    for (; list.len > 0; count++) {
        if (count == max)
            return ERR_NO_SPACE;
        if (!der_get(&list, DER_SEQUENCE, &body))
            return ERR_BAD_DER;
        err = revocation_decode(body, &out[count]);
        if (err != ERR_OK)
            return err;
    }
    if (count == 0)
        return ERR_BAD_REQUEST;
    *out_count = count;
    return ERR_OK;
}

/* Elements of a list that nobody reads, but that must be DER; SIZE (1..MAX). */
static enum err skip_tagged_list(struct bytes *reader, unsigned number)
{
    struct bytes element, list;
    bool present;
    enum err err = cmp_explicit_get(reader, number, &element, &present);

    if (err != ERR_OK || !present)
        return err;
    err = filled_list_open(element, &list);
    return err == ERR_OK && !der_is_strict(element) ? ERR_BAD_DER : err;
}

enum err cmp_rev_rep_decode(struct bytes content, struct cmp_status_info out[], uint32_t max,
                            uint32_t *out_count)
{
    struct bytes body, status_der, list;
    uint32_t count = 0;
    enum err err = cmp_list_open(content, &body);

    if (err != ERR_OK)
        return err;
    if (!der_get_element(&body, DER_SEQUENCE, &status_der))
        return ERR_BAD_DER;
    err = filled_list_open(status_der, &list);
    for (; err == ERR_OK && list.len > 0; count++) {
        if (count == max)
            return ERR_NO_SPACE;
        err = cmp_status_get(&list, &out[count]);
    }
    if (err == ERR_OK)
        err = skip_tagged_list(&body, 0); /* revCerts */
    if (err == ERR_OK)
        err = skip_tagged_list(&body, 1); /* crls */
    if (err == ERR_OK && body.len != 0)
        err = ERR_DER_TRAILING;
    if (err == ERR_OK)
        *out_count = count;
    return err;
}

/* --- status --- */

/* An optional PKIFreeText. */
static bool get_text(struct bytes *reader, struct bytes *out_first)
{
    struct bytes element;

    if (der_peek(*reader) != DER_SEQUENCE)
        return true;
    return der_get_element(reader, DER_SEQUENCE, &element) && cmp_text_is_valid(element, out_first);
}

enum err cmp_status_get(struct bytes *reader, struct cmp_status_info *out)
{
    struct bytes rest = *reader, body;
    struct cmp_status_info status = {0};

    if (!der_get(&rest, DER_SEQUENCE, &body) || !der_get_u64(&body, &status.status) ||
        !get_text(&body, &status.text))
        return ERR_BAD_DER;
    if (der_peek(body) == DER_BIT_STRING && !der_get_named_bits(&body, &status.fail))
        return ERR_BAD_DER;
    if (body.len != 0)
        return ERR_DER_TRAILING;
    if (status.status > CMP_KEY_UPDATE_WARNING)
        return ERR_BAD_REQUEST;
    *reader = rest;
    *out = status;
    return ERR_OK;
}

const char *cmp_fail_name(uint32_t one_bit)
{
    static const char *const names[] = {
        "badAlg",
        "badMessageCheck",
        "badRequest",
        "badTime",
        "badCertId",
        "badDataFormat",
        "wrongAuthority",
        "incorrectData",
        "missingTimeStamp",
        "badPOP",
        "certRevoked",
        "certConfirmed",
        "wrongIntegrity",
        "badRecipientNonce",
        "timeNotAvailable",
        "unacceptedPolicy",
        "unacceptedExtension",
        "addInfoNotAvailable",
        "badSenderNonce",
        "badCertTemplate",
        "signerNotTrusted",
        "transactionIdInUse",
        "unsupportedVersion",
        "notAuthorized",
        "systemUnavail",
        "systemFailure",
        "duplicateCertReq",
    };

    for (unsigned bit = 0; bit < sizeof(names) / sizeof(names[0]); bit++)
        if (one_bit == 1u << bit)
            return names[bit];
    return "unknown";
}

enum err cmp_error_decode(struct bytes content, struct cmp_status_info *out)
{
    struct cmp_status_info status;
    struct bytes body, code, details;
    enum err err = cmp_list_open(content, &body);

    if (err == ERR_OK)
        err = cmp_status_get(&body, &status);
    if (err != ERR_OK)
        return err;
    if ((der_peek(body) == DER_INTEGER && !der_get_integer(&body, &code)) ||
        !get_text(&body, &details))
        return ERR_BAD_DER;
    if (body.len != 0)
        return ERR_DER_TRAILING;
    *out = status;
    return ERR_OK;
}

static enum err cert_status_decode(struct bytes body, struct cmp_cert_status *out)
{
    bool has_hash_alg;

    *out = (struct cmp_cert_status){0};
    if (!der_get(&body, DER_OCTET_STRING, &out->cert_hash) ||
        !der_get_i64(&body, &out->cert_req_id))
        return ERR_BAD_DER;
    if (der_peek(body) == DER_SEQUENCE) {
        out->has_status = true;
        enum err err = cmp_status_get(&body, &out->status);
        if (err != ERR_OK)
            return err;
    }
    enum err err = cmp_explicit_get(&body, 0, &out->hash_alg, &has_hash_alg);
    if (err != ERR_OK)
        return err;
    if (has_hash_alg && !algorithm_is_valid(out->hash_alg))
        return ERR_BAD_DER;
    return body.len == 0 ? ERR_OK : ERR_DER_TRAILING;
}

enum err cmp_cert_conf_decode(struct bytes content, struct cmp_cert_status out[], uint32_t max,
                              uint32_t *out_count)
{
    struct bytes list, body;
    uint32_t count = 0;
    enum err err = cmp_list_open(content, &list);

    for (; err == ERR_OK && list.len > 0; count++) {
        if (count == max)
            return ERR_NO_SPACE;
        if (!der_get(&list, DER_SEQUENCE, &body))
            return ERR_BAD_DER;
        err = cert_status_decode(body, &out[count]);
    }
    if (err == ERR_OK)
        *out_count = count;
    return err;
}

/* --- responses --- */

/* EncryptedKey ::= CHOICE { EncryptedValue, envelopedData [0] }, the latter implicit. */
static enum err encrypted_key_check(struct bytes der)
{
    uint8_t tag = der_peek(der);

    if (tag != DER_SEQUENCE && tag != DER_CONTEXT_CONSTRUCTED(0))
        return ERR_BAD_DER;
    return der_is_strict(der) ? ERR_OK : ERR_BAD_DER;
}

/* CertifiedKeyPair */
static enum err key_pair_decode(struct bytes body, struct cmp_cert_response *out)
{
    struct bytes publication;
    bool has_cert, present = false;
    enum err err = cmp_explicit_get(&body, 0, &out->cert, &has_cert);

    if (err == ERR_OK && !has_cert) {
        err = cmp_explicit_get(&body, 1, &out->encrypted_cert, &present);
        if (err == ERR_OK)
            err = present ? encrypted_key_check(out->encrypted_cert) : ERR_BAD_DER;
    }
    if (err != ERR_OK)
        return err;
    if (has_cert && der_peek(out->cert) != DER_SEQUENCE)
        return ERR_BAD_DER;
    err = cmp_explicit_get(&body, 0, &out->private_key, &present);
    if (err == ERR_OK && present)
        err = encrypted_key_check(out->private_key);
    if (err == ERR_OK)
        err = cmp_explicit_get(&body, 1, &publication, &present);
    if (err != ERR_OK)
        return err;
    if (present && (der_peek(publication) != DER_SEQUENCE || !der_is_strict(publication)))
        return ERR_BAD_DER;
    return body.len == 0 ? ERR_OK : ERR_DER_TRAILING;
}

static enum err cert_response_decode(struct bytes body, struct cmp_cert_response *out)
{
    struct bytes key_pair, info;
    bool present;

    *out = (struct cmp_cert_response){0};
    if (!der_get_i64(&body, &out->cert_req_id))
        return ERR_BAD_DER;
    enum err err = cmp_status_get(&body, &out->status);
    if (err != ERR_OK)
        return err;
    if (!der_get_optional(&body, DER_SEQUENCE, &key_pair, &present))
        return ERR_BAD_DER;
    if (present)
        err = key_pair_decode(key_pair, out);
    if (err != ERR_OK)
        return err;
    if (!der_get_optional(&body, DER_OCTET_STRING, &info, &present))
        return ERR_BAD_DER;
    return body.len == 0 ? ERR_OK : ERR_DER_TRAILING;
}

/* caPubs [1] SEQUENCE SIZE (1..MAX) OF CMPCertificate OPTIONAL */
static enum err ca_pubs_decode(struct bytes *reader, struct bytes *out)
{
    struct bytes element, list, rest, cert;
    bool present;
    enum err err = cmp_explicit_get(reader, 1, &element, &present);

    if (err != ERR_OK || !present)
        return err;
    err = filled_list_open(element, &list);
    if (err != ERR_OK)
        return err;
    for (rest = list; rest.len > 0;)
        if (!der_get_element(&rest, DER_SEQUENCE, &cert))
            return ERR_BAD_DER;
    *out = list;
    return ERR_OK;
}

enum err cmp_cert_rep_decode(struct bytes content, struct cmp_cert_response out[], uint32_t max,
                             uint32_t *out_count, struct bytes *out_ca_pubs)
{
    struct bytes body, list, response, ca_pubs = {0};
    uint32_t count = 0;
    enum err err = cmp_list_open(content, &body);

    if (err == ERR_OK)
        err = ca_pubs_decode(&body, &ca_pubs);
    if (err == ERR_OK)
        err = cmp_list_open(body, &list);
    for (; err == ERR_OK && list.len > 0; count++) {
        if (count == max)
            return ERR_NO_SPACE;
        if (!der_get(&list, DER_SEQUENCE, &response))
            return ERR_BAD_DER;
        err = cert_response_decode(response, &out[count]);
    }
    if (err == ERR_OK) {
        *out_count = count;
        *out_ca_pubs = ca_pubs;
    }
    return err;
}

static enum err poll_decode(struct bytes body, struct cmp_poll *out)
{
    *out = (struct cmp_poll){0};
    if (!der_get_i64(&body, &out->cert_req_id) || !der_get_i64(&body, &out->check_after_s) ||
        !get_text(&body, &out->reason))
        return ERR_BAD_DER;
    return body.len == 0 ? ERR_OK : ERR_DER_TRAILING;
}

enum err cmp_poll_rep_decode(struct bytes content, struct cmp_poll out[], uint32_t max,
                             uint32_t *out_count)
{
    struct bytes list, body;
    uint32_t count = 0;
    enum err err = cmp_list_open(content, &list);

    for (; err == ERR_OK && list.len > 0; count++) {
        if (count == max)
            return ERR_NO_SPACE;
        if (!der_get(&list, DER_SEQUENCE, &body))
            return ERR_BAD_DER;
        err = poll_decode(body, &out[count]);
    }
    if (err == ERR_OK && count == 0)
        err = ERR_BAD_REQUEST;
    if (err == ERR_OK)
        *out_count = count;
    return err;
}
