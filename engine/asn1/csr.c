#include "asn1/csr.h"

#include "asn1/der.h"
#include "asn1/internal.h"
#include "asn1/oid.h"

/* RFC 2985 5.4.1: a DirectoryString, of 1 to 255 characters; IA5String is what some clients write.
 */
static bool get_challenge_password(struct bytes *values, struct bytes *out)
{
    uint8_t tag;
    struct bytes contents;

    if (!der_get_any(values, &tag, &contents, NULL) || contents.len == 0)
        return false;
    switch (tag) {
    case DER_UTF8_STRING:
        if (!utf8_is_valid(contents))
            return false;
        break;
    case DER_BMP_STRING:
        if (contents.len % 2 != 0)
            return false;
        break;
    case DER_PRINTABLE_STRING:
    case DER_T61_STRING:
    case DER_IA5_STRING:
        break;
    default:
        return false;
    }
    *out = contents;
    return true;
}

static enum err get_extension_request(struct bytes *values, struct cert_request *request)
{
    struct bytes der;
    const struct extension *san;
    enum err err;

    if (!der_get_element(values, DER_SEQUENCE, &der))
        return ERR_BAD_DER;
    err = extensions_decode(der, &request->extensions);
    if (err != ERR_OK)
        return err == ERR_BAD_CERT ? ERR_BAD_CSR : err;
    san = extensions_find(&request->extensions, OID_EXT_SAN);
    if (san != NULL) {
        if (!general_names_are_valid(san->value))
            return ERR_BAD_CSR;
        request->san = san->value;
    }
    return ERR_OK;
}

/* Attributes of the request (RFC 2986 4.1), contents of the [0]. Their SET OF order is not checked:
 * what is signed is the octets as received, and strongSwan writes extensionRequest before the
 * shorter challengePassword. */
static enum err attributes_decode(struct bytes attributes, struct cert_request *request)
{
    bool has_extension_request = false, has_change_subject_name = false;

    while (attributes.len > 0) {
        struct bytes element, attribute, oid, values, value;
        enum err err;
        if (!der_get_element(&attributes, DER_SEQUENCE, &element))
            return ERR_BAD_DER;
        struct bytes rest = element;
        if (!der_get(&rest, DER_SEQUENCE, &attribute) || !der_get_oid(&attribute, &oid) ||
            !der_get(&attribute, DER_SET, &values))
            return ERR_BAD_DER;
        if (attribute.len != 0)
            return ERR_DER_TRAILING;
        if (values.len == 0) /* SIZE (1..MAX) */
            return ERR_BAD_CSR;
        if (bytes_eq(oid, OID_EXTENSION_REQUEST)) {
            if (has_extension_request)
                return ERR_BAD_CSR;
            has_extension_request = true;
            err = get_extension_request(&values, request);
            if (err != ERR_OK)
                return err;
        } else if (bytes_eq(oid, OID_CHALLENGE_PASSWORD)) {
            if (request->has_challenge_password)
                return ERR_BAD_CSR;
            request->has_challenge_password = true;
            if (!get_challenge_password(&values, &request->challenge_password))
                return ERR_BAD_CSR;
        } else if (bytes_eq(oid, OID_CHANGE_SUBJECT_NAME)) {
            if (has_change_subject_name)
                return ERR_BAD_CSR;
            has_change_subject_name = true;
            if (!der_get_element(&values, DER_SEQUENCE, &value) || !der_is_strict(value))
                return ERR_BAD_DER;
            request->change_subject_name = value;
        } else {
            if (!der_is_strict(element))
                return ERR_BAD_DER;
            continue;
        }
        if (values.len != 0) /* RFC 2985 5.4.1, 5.4.2; RFC 6402 2.8: single-valued */
            return ERR_BAD_CSR;
    }
    return ERR_OK;
}

enum err csr_decode(struct bytes der, struct cert_request *out)
{
    struct cert_request request = {.pop = POP_SIGNATURE};
    struct bytes body, info, spki_der, attributes, alg_der;
    uint64_t version;
    bool has_attributes;
    enum err err;

    if (!der_get(&der, DER_SEQUENCE, &body))
        return ERR_BAD_DER;
    if (der.len != 0)
        return ERR_DER_TRAILING;
    if (!der_get_element(&body, DER_SEQUENCE, &request.pop_message) ||
        !der_get_element(&body, DER_SEQUENCE, &alg_der) ||
        !der_get_bits(&body, &request.pop_signature))
        return ERR_BAD_DER;
    if (body.len != 0)
        return ERR_DER_TRAILING;

    body = request.pop_message;
    if (!der_get(&body, DER_SEQUENCE, &info) || !der_get_u64(&info, &version))
        return ERR_BAD_DER;
    if (version != 0) /* RFC 2986 4.1: v1 is 0 */
        return ERR_BAD_CSR;
    if (!der_get_element(&info, DER_SEQUENCE, &request.subject) ||
        !der_get_element(&info, DER_SEQUENCE, &spki_der))
        return ERR_BAD_DER;
    /* Not OPTIONAL in RFC 2986 4.1, but clients that ask for nothing more leave it out. */
    if (!der_get_optional(&info, DER_CONTEXT_CONSTRUCTED(0), &attributes, &has_attributes))
        return ERR_BAD_DER;
    if (info.len != 0)
        return ERR_DER_TRAILING;
    if (!name_is_valid(request.subject))
        return ERR_BAD_CSR;
    err = spki_decode(spki_der, &request.spki);
    if (err != ERR_OK)
        return err;
    if (has_attributes) {
        err = attributes_decode(attributes, &request);
        if (err != ERR_OK)
            return err;
    }
    request.pop_alg = sig_alg_from_der(alg_der);
    if (request.pop_alg == SIG_NONE)
        return ERR_BAD_ALG;
    *out = request;
    return ERR_OK;
}
