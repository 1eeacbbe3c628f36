#include "asn1/crmf.h"

#include <stddef.h>

#include "asn1/internal.h"
#include "asn1/oid.h"

/* PKIXCRMF has IMPLICIT TAGS, but for choices: Name, Time, GeneralName and POPOPrivKey stand inside
 * their tag (X.680 31.2.7). */

/* --- CertTemplate --- */

enum template_field {
    FIELD_VERSION,
    FIELD_SERIAL,
    FIELD_SIGNING_ALG,
    FIELD_ISSUER,
    FIELD_VALIDITY,
    FIELD_SUBJECT,
    FIELD_PUBLIC_KEY,
    FIELD_ISSUER_UID,
    FIELD_SUBJECT_UID,
    FIELD_EXTENSIONS,
    FIELD_COUNT
};

/* RFC 4211 5: fields that the CA alone decides on. */
#define FORBIDDEN_FIELDS                                                                           \
    (1u << FIELD_SERIAL | 1u << FIELD_SIGNING_ALG | 1u << FIELD_ISSUER_UID |                       \
     1u << FIELD_SUBJECT_UID)

struct template_fields {
    uint32_t present; /* 1u << field; what is not present has no contents either */
    struct bytes contents[FIELD_COUNT];
    struct bytes element[FIELD_COUNT];
};

static bool has(const struct template_fields *all, enum template_field field)
{
    return (all->present >> field & 1) != 0;
}

static enum err template_read(struct bytes der, struct template_fields *out)
{
    static const uint8_t tags[FIELD_COUNT] = {
        [FIELD_VERSION] = DER_CONTEXT(0),
        [FIELD_SERIAL] = DER_CONTEXT(1),
        [FIELD_SIGNING_ALG] = DER_CONTEXT_CONSTRUCTED(2),
        [FIELD_ISSUER] = DER_CONTEXT_CONSTRUCTED(3),
        [FIELD_VALIDITY] = DER_CONTEXT_CONSTRUCTED(4),
        [FIELD_SUBJECT] = DER_CONTEXT_CONSTRUCTED(5),
        [FIELD_PUBLIC_KEY] = DER_CONTEXT_CONSTRUCTED(6),
        [FIELD_ISSUER_UID] = DER_CONTEXT(7),
        [FIELD_SUBJECT_UID] = DER_CONTEXT(8),
        [FIELD_EXTENSIONS] = DER_CONTEXT_CONSTRUCTED(9),
    };
    struct bytes body, contents, element;
    unsigned field = 0;
    uint8_t tag;

    if (!der_get(&der, DER_SEQUENCE, &body))
        return ERR_BAD_DER;
    if (der.len != 0)
        return ERR_DER_TRAILING;
    out->present = 0;
    for (; body.len > 0; field++) {
        if (!der_get_any(&body, &tag, &contents, &element))
            return ERR_BAD_DER;
        while (field < FIELD_COUNT && tags[field] != tag)
            field++;
        if (field == FIELD_COUNT) /* unknown, out of order or twice */
            return ERR_BAD_DER;
        out->present |= 1u << field;
        out->contents[field] = contents;
        out->element[field] = element;
    }
    return ERR_OK;
}

/* The contents of a template's name field: one Name. */
static enum err name_check(struct bytes name_der)
{
    if (name_is_valid(name_der))
        return ERR_OK;
    return der_is_strict(name_der) ? ERR_BAD_TEMPLATE : ERR_BAD_DER;
}

/* Time under an explicit tag. */
static bool get_tagged_time(struct bytes *reader, uint8_t tag, bool *out_present,
                            int64_t *out_unix_s)
{
    struct bytes contents;

    if (!der_get_optional(reader, tag, &contents, out_present))
        return false;
    return !*out_present || (der_get_time(&contents, out_unix_s) && contents.len == 0);
}

static enum err validity_decode(struct bytes body, struct crmf_request *out)
{
    if (!get_tagged_time(&body, DER_CONTEXT_CONSTRUCTED(0), &out->has_not_before,
                         &out->not_before_s) ||
        !get_tagged_time(&body, DER_CONTEXT_CONSTRUCTED(1), &out->has_not_after, &out->not_after_s))
        return ERR_BAD_DER;
    if (body.len != 0)
        return ERR_DER_TRAILING;
    /* RFC 4211 5: at least one MUST be present */
    return out->has_not_before || out->has_not_after ? ERR_OK : ERR_BAD_TEMPLATE;
}

/* A copy of an implicitly tagged SEQUENCE, with SEQUENCE's own tag. */
static bool retag(struct bytes element, struct writer *scratch, struct bytes *out)
{
    uint8_t *copy = writer_reserve(scratch, element.len);

    if (copy == NULL)
        return false;
    memcpy(copy, element.ptr, element.len);
    copy[0] = DER_SEQUENCE;
    *out = bytes_of(copy, element.len);
    return true;
}

static enum err public_key_decode(struct bytes element, struct bytes body, struct writer *scratch,
                                  struct crmf_request *out)
{
    struct bytes alg_der, key, der;

    if (!der_get_element(&body, DER_SEQUENCE, &alg_der) || !der_get_bits(&body, &key))
        return ERR_BAD_DER;
    if (body.len != 0)
        return ERR_DER_TRAILING;
    if (key.len == 0) {
        out->key_is_empty = true;
        out->key_alg = alg_der;
        return algorithm_is_valid(alg_der) ? ERR_OK : ERR_BAD_DER;
    }
    if (!retag(element, scratch, &der))
        return ERR_NO_SPACE;
    out->has_key = true;
    return spki_decode(der, &out->request.spki);
}

static enum err template_extensions_decode(struct bytes list, struct cert_request *request)
{
    const struct extension *san;

    if (list.len == 0) /* SIZE (1..MAX) */
        return ERR_BAD_DER;
    enum err err = extensions_contents_decode(list, &request->extensions);
    if (err != ERR_OK)
        return err == ERR_BAD_CERT ? ERR_BAD_TEMPLATE : err;
    san = extensions_find(&request->extensions, OID_EXT_SAN);
    if (san != NULL) {
        if (!general_names_are_valid(san->value))
            return ERR_BAD_TEMPLATE;
        request->san = san->value;
    }
    return ERR_OK;
}

static enum err template_names_decode(const struct template_fields *all, struct crmf_request *out)
{
    static const uint8_t empty_name[] = {DER_SEQUENCE, 0};
    enum err err = ERR_OK;

    out->request.subject = BYTES_ARRAY(empty_name);
    if (has(all, FIELD_ISSUER)) {
        out->issuer = all->contents[FIELD_ISSUER];
        err = name_check(out->issuer);
    }
    if (err == ERR_OK && has(all, FIELD_SUBJECT)) {
        out->has_subject = true;
        out->request.subject = all->contents[FIELD_SUBJECT];
        err = name_check(out->request.subject);
    }
    return err;
}

static enum err template_decode(struct bytes der, struct writer *scratch, struct crmf_request *out)
{
    struct template_fields all;
    enum err err = template_read(der, &all);

    if (err != ERR_OK)
        return err;
    if ((all.present & FORBIDDEN_FIELDS) != 0)
        return ERR_BAD_TEMPLATE;
    if (has(&all, FIELD_VERSION)) {
        struct bytes version = all.contents[FIELD_VERSION];
        if (!integer_is_minimal(version))
            return ERR_BAD_DER;
        if (version.len != 1 || version.ptr[0] != 2) /* RFC 4211 5: MUST be 2 if supplied */
            return ERR_BAD_TEMPLATE;
    }
    err = template_names_decode(&all, out);
    if (err == ERR_OK && has(&all, FIELD_VALIDITY))
        err = validity_decode(all.contents[FIELD_VALIDITY], out);
    if (err == ERR_OK && has(&all, FIELD_PUBLIC_KEY))
        err = public_key_decode(all.element[FIELD_PUBLIC_KEY], all.contents[FIELD_PUBLIC_KEY],
                                scratch, out);
    if (err == ERR_OK && has(&all, FIELD_EXTENSIONS))
        err = template_extensions_decode(all.contents[FIELD_EXTENSIONS], &out->request);
    return err;
}

enum err crmf_template_cert_id(struct bytes template_der, struct cert_id *out)
{
    struct cert_id id = {0};
    struct template_fields all;
    enum err err = template_read(template_der, &all);

    if (err != ERR_OK)
        return err;
    /* The walk cannot see into implicitly tagged primitives. */
    if (!der_is_strict(template_der) ||
        (has(&all, FIELD_VERSION) && !integer_is_minimal(all.contents[FIELD_VERSION])) ||
        (has(&all, FIELD_ISSUER_UID) && !bits_are_valid(all.contents[FIELD_ISSUER_UID])) ||
        (has(&all, FIELD_SUBJECT_UID) && !bits_are_valid(all.contents[FIELD_SUBJECT_UID])))
        return ERR_BAD_DER;
    if (has(&all, FIELD_SERIAL)) {
        id.serial = all.contents[FIELD_SERIAL];
        if (!integer_is_minimal(id.serial))
            return ERR_BAD_DER;
    }
    if (has(&all, FIELD_ISSUER)) {
        id.issuer = all.contents[FIELD_ISSUER];
        err = name_check(id.issuer);
        if (err != ERR_OK)
            return err;
    }
    *out = id;
    return ERR_OK;
}

/* --- controls --- */

enum err crmf_cert_id_get(struct bytes *reader, struct cert_id *out)
{
    struct bytes rest = *reader, body, element;
    struct cert_id id;

    if (!der_get(&rest, DER_SEQUENCE, &body) || !general_name_get(&body, &element, &id.issuer) ||
        !der_get_integer(&body, &id.serial))
        return ERR_BAD_DER;
    if (body.len != 0)
        return ERR_DER_TRAILING;
    if (id.issuer.len == 0)
        return ERR_BAD_REQUEST;
    *reader = rest;
    *out = id;
    return ERR_OK;
}

/* The type of an AttributeTypeAndValue, and its value as a reader of one element. */
static enum err attribute_get(struct bytes *reader, struct bytes *out_oid, struct bytes *out_value)
{
    struct bytes body, rest, contents;
    uint8_t tag;

    if (!der_get(reader, DER_SEQUENCE, &body) || !der_get_oid(&body, out_oid))
        return ERR_BAD_DER;
    rest = body;
    if (!der_get_any(&rest, &tag, &contents, NULL))
        return ERR_BAD_DER;
    if (rest.len != 0)
        return ERR_DER_TRAILING;
    *out_value = body;
    return ERR_OK;
}

static bool get_utf8(struct bytes value, struct bytes *out)
{
    return der_get(&value, DER_UTF8_STRING, out) && utf8_is_valid(*out);
}

/* A SubjectPublicKeyInfo of whatever algorithm. */
static bool is_public_key(struct bytes der)
{
    struct bytes body, alg_der, key;

    return der_get(&der, DER_SEQUENCE, &body) && der_get_element(&body, DER_SEQUENCE, &alg_der) &&
           algorithm_is_valid(alg_der) && der_get_bits(&body, &key) && body.len == 0;
}

/* RFC 4211 6, id-regCtrl; RFC 9810 adds 7, 11 and 12, which go into templates that servers send. */
enum control {
    CONTROL_REG_TOKEN = 1,
    CONTROL_AUTHENTICATOR = 2,
    CONTROL_OLD_CERT_ID = 5,
    CONTROL_PROTOCOL_ENCR_KEY = 6,
    CONTROL_COUNT = 32 /* of which repetition is noticed */
};

static enum err control_decode(unsigned control, struct bytes value, struct crmf_request *out)
{
    switch (control) {
    case CONTROL_REG_TOKEN:
        return get_utf8(value, &out->reg_token) ? ERR_OK : ERR_BAD_DER;
    case CONTROL_AUTHENTICATOR:
        return get_utf8(value, &out->authenticator) ? ERR_OK : ERR_BAD_DER;
    case CONTROL_OLD_CERT_ID:
        return crmf_cert_id_get(&value, &out->old_cert_id);
    case CONTROL_PROTOCOL_ENCR_KEY:
        out->protocol_encr_key = value;
        return is_public_key(value) ? ERR_OK : ERR_BAD_DER;
    default:
        return der_is_strict(value) ? ERR_OK : ERR_BAD_DER;
    }
}

static enum err controls_decode(struct bytes list, struct crmf_request *out)
{
    /* 1.3.6.1.5.5.7.5.1 */
    static const uint8_t id_reg_ctrl[] = {0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x05, 0x01};
    uint32_t seen = 0;

    if (list.len == 0) /* SIZE (1..MAX) */
        return ERR_BAD_DER;
    while (list.len > 0) {
        struct bytes oid, value;
        unsigned control = 0;
        enum err err = attribute_get(&list, &oid, &value);
        if (err != ERR_OK)
            return err;
        if (oid.len == sizeof(id_reg_ctrl) + 1 &&
            bytes_starts_with(oid, BYTES_ARRAY(id_reg_ctrl)) &&
            oid.ptr[sizeof(id_reg_ctrl)] < CONTROL_COUNT)
            control = oid.ptr[sizeof(id_reg_ctrl)];
        if (control != 0) {
            if ((seen >> control & 1) != 0)
                return ERR_BAD_REQUEST;
            seen |= 1u << control;
        }
        err = control_decode(control, value, out);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

/* --- proof of possession --- */

/* Contents of a PKMACValue: AlgorithmIdentifier and BIT STRING. */
static bool is_pkmac_value(struct bytes body)
{
    struct bytes alg_der, value;

    return der_get_element(&body, DER_SEQUENCE, &alg_der) && algorithm_is_valid(alg_der) &&
           der_get(&body, DER_BIT_STRING, &value) && bits_are_valid(value) && body.len == 0;
}

/* RFC 4211 4.1, POPOSigningKeyInput, whole with SEQUENCE's tag. */
static enum err signing_input_decode(struct bytes der, struct crmf_request *out)
{
    struct bytes body, auth_info, name, key;

    if (!der_get(&der, DER_SEQUENCE, &body))
        return ERR_BAD_DER;
    if (der_peek(body) == DER_CONTEXT_CONSTRUCTED(0)) {
        if (!der_get(&body, DER_CONTEXT_CONSTRUCTED(0), &auth_info) ||
            !general_name_get(&auth_info, &out->pop_sender, &name) || auth_info.len != 0)
            return ERR_BAD_DER;
    } else {
        struct bytes value;
        if (!der_get_element(&body, DER_SEQUENCE, &out->pop_mac))
            return ERR_BAD_DER;
        auth_info = out->pop_mac;
        if (!der_get(&auth_info, DER_SEQUENCE, &value) || !is_pkmac_value(value))
            return ERR_BAD_DER;
    }
    if (!der_get_element(&body, DER_SEQUENCE, &key))
        return ERR_BAD_DER;
    if (body.len != 0)
        return ERR_DER_TRAILING;
    if (!out->has_key || !bytes_eq(key, out->request.spki.der))
        return is_public_key(key) ? ERR_BAD_POP : ERR_BAD_DER;
    /* RFC 4211 B: MUST be omitted when the template has both subject and publicKey, since it is
     * then all that the signature covers */
    return name_is_empty(out->request.subject) ? ERR_OK : ERR_BAD_POP;
}

/* Contents of a POPOSigningKey. */
static enum err signing_key_decode(struct bytes body, struct writer *scratch,
                                   struct crmf_request *out)
{
    struct bytes input = {0}, alg_der;

    if (der_peek(body) == DER_CONTEXT_CONSTRUCTED(0) &&
        !der_get_element(&body, DER_CONTEXT_CONSTRUCTED(0), &input))
        return ERR_BAD_DER;
    if (!der_get_element(&body, DER_SEQUENCE, &alg_der) ||
        !der_get_bits(&body, &out->request.pop_signature))
        return ERR_BAD_DER;
    if (body.len != 0)
        return ERR_DER_TRAILING;
    out->request.pop = POP_SIGNATURE;
    out->request.pop_message = out->cert_req_der;
    if (input.len > 0) {
        out->pop_over_input = true;
        if (!retag(input, scratch, &out->request.pop_message))
            return ERR_NO_SPACE;
        enum err err = signing_input_decode(out->request.pop_message, out);
        if (err != ERR_OK)
            return err;
    }
    out->request.pop_alg = sig_alg_from_der(alg_der);
    if (out->request.pop_alg == SIG_NONE)
        return algorithm_is_valid(alg_der) ? ERR_BAD_ALG : ERR_BAD_DER;
    return ERR_OK;
}

/* The one element of a POPOPrivKey. */
static enum err priv_key_decode(struct bytes reader, struct crmf_request *out)
{
    struct bytes contents, element;
    uint8_t tag;

    if (!der_get_any(&reader, &tag, &contents, &element))
        return ERR_BAD_DER;
    if (reader.len != 0)
        return ERR_DER_TRAILING;
    out->request.pop = POP_KEY_ENCIPHERMENT;
    out->pop_key = CRMF_POP_OTHER;
    switch (tag) {
    case DER_CONTEXT(0):
        out->pop_key = CRMF_POP_THIS_MESSAGE;
        return bits_are_valid(contents) ? ERR_OK : ERR_BAD_DER;
    case DER_CONTEXT(1):
        if (!integer_is_minimal(contents))
            return ERR_BAD_DER;
        if (contents.len != 1 || contents.ptr[0] > 1)
            return ERR_BAD_POP;
        out->pop_key = contents.ptr[0] == 0 ? CRMF_POP_ENCR_CERT : CRMF_POP_CHALLENGE;
        return ERR_OK;
    case DER_CONTEXT(2):
        return bits_are_valid(contents) ? ERR_OK : ERR_BAD_DER;
    case DER_CONTEXT_CONSTRUCTED(3):
        return is_pkmac_value(contents) ? ERR_OK : ERR_BAD_DER;
    case DER_CONTEXT_CONSTRUCTED(4):
        return der_is_strict(element) ? ERR_OK : ERR_BAD_DER;
    default:
        return ERR_BAD_POP;
    }
}

/* ProofOfPossession OPTIONAL, which regInfo or nothing may follow. */
static enum err pop_decode(struct bytes *reader, struct writer *scratch, struct crmf_request *out)
{
    struct bytes contents;
    uint8_t tag;

    if (reader->len == 0 || der_peek(*reader) == DER_SEQUENCE)
        return ERR_OK;
    if (!der_get_any(reader, &tag, &contents, NULL))
        return ERR_BAD_DER;
    switch (tag) {
    case DER_CONTEXT(0): /* NULL */
        out->request.pop = POP_RA_VERIFIED;
        return contents.len == 0 ? ERR_OK : ERR_BAD_DER;
    case DER_CONTEXT_CONSTRUCTED(1):
        return signing_key_decode(contents, scratch, out);
    case DER_CONTEXT_CONSTRUCTED(2):
        return priv_key_decode(contents, out);
    case DER_CONTEXT_CONSTRUCTED(3):
        out->pop_is_agreement = true;
        return priv_key_decode(contents, out);
    default:
        return (tag & 0xc0) == 0x80 ? ERR_BAD_POP : ERR_BAD_DER;
    }
}

/* --- CertReqMsg --- */

static enum err cert_request_decode(struct bytes der, struct writer *scratch,
                                    struct crmf_request *out)
{
    struct bytes body, template_der, controls;
    bool has_controls;

    if (!der_get(&der, DER_SEQUENCE, &body) || !der_get_i64(&body, &out->cert_req_id) ||
        !der_get_element(&body, DER_SEQUENCE, &template_der) ||
        !der_get_optional(&body, DER_SEQUENCE, &controls, &has_controls))
        return ERR_BAD_DER;
    if (body.len != 0)
        return ERR_DER_TRAILING;
    enum err err = template_decode(template_der, scratch, out);
    if (err == ERR_OK && has_controls)
        err = controls_decode(controls, out);
    return err;
}

static enum err reg_info_check(struct bytes list)
{
    if (list.len == 0) /* SIZE (1..MAX) */
        return ERR_BAD_DER;
    while (list.len > 0) {
        struct bytes oid, value;
        enum err err = attribute_get(&list, &oid, &value);
        if (err != ERR_OK)
            return err;
        if (!der_is_strict(value))
            return ERR_BAD_DER;
    }
    return ERR_OK;
}

static enum err cert_req_msg_decode(struct bytes der, struct writer *scratch,
                                    struct crmf_request *out)
{
    struct bytes body, reg_info;
    bool has_reg_info;

    if (!der_get(&der, DER_SEQUENCE, &body))
        return ERR_BAD_DER;
    if (der.len != 0)
        return ERR_DER_TRAILING;
    if (!der_get_element(&body, DER_SEQUENCE, &out->cert_req_der))
        return ERR_BAD_DER;
    enum err err = cert_request_decode(out->cert_req_der, scratch, out);
    if (err == ERR_OK)
        err = pop_decode(&body, scratch, out);
    if (err != ERR_OK)
        return err;
    if (!der_get_optional(&body, DER_SEQUENCE, &reg_info, &has_reg_info))
        return ERR_BAD_DER;
    if (body.len != 0)
        return ERR_DER_TRAILING;
    return has_reg_info ? reg_info_check(reg_info) : ERR_OK;
}

/* All but the extensions' items: they are most of it, and their count says what of them is set. */
static void request_clear(struct crmf_request *out)
{
    const size_t items = offsetof(struct crmf_request, request.extensions.item);
    const size_t behind = items + sizeof(out->request.extensions.item);

    memset(out, 0, items);
    memset((uint8_t *)out + behind, 0, sizeof(*out) - behind);
}

enum err crmf_decode(struct bytes cert_req_msg_der, struct writer *scratch,
                     struct crmf_request *out)
{
    request_clear(out);
    enum err err = cert_req_msg_decode(cert_req_msg_der, scratch, out);
    if (err != ERR_OK) {
        int64_t cert_req_id = out->cert_req_id;
        request_clear(out);
        out->cert_req_id = cert_req_id;
        out->err = err;
    }
    return err;
}
