#include "proto/cmp_msg.h"

#include "proto/cmp_msg_internal.h"

/* Module PKIXCMP has EXPLICIT TAGS (RFC 9810 appendix F): an element stands whole inside its tag.
 */

/* --- pieces --- */

enum err cmp_list_open(struct bytes content, struct bytes *out_list)
{
    struct bytes list;

    if (!der_get(&content, DER_SEQUENCE, &list))
        return ERR_BAD_DER;
    if (content.len != 0)
        return ERR_DER_TRAILING;
    *out_list = list;
    return ERR_OK;
}

bool cmp_text_is_valid(struct bytes der, struct bytes *out_first)
{
    struct bytes list, text, first;

    if (!der_is_strict(der) || cmp_list_open(der, &list) != ERR_OK ||
        !der_get(&list, DER_UTF8_STRING, &first))
        return false;
    while (list.len > 0)
        if (!der_get(&list, DER_UTF8_STRING, &text))
            return false;
    *out_first = first;
    return true;
}

enum err cmp_explicit_get(struct bytes *reader, unsigned number, struct bytes *out_element,
                          bool *out_present)
{
    struct bytes element = {0}, rest, contents;
    uint8_t tag;

    if (!der_get_optional(reader, DER_CONTEXT_CONSTRUCTED(number), &element, out_present))
        return ERR_BAD_DER;
    if (!*out_present)
        return ERR_OK;
    rest = element;
    if (!der_get_any(&rest, &tag, &contents, NULL))
        return ERR_BAD_DER;
    if (rest.len != 0)
        return ERR_DER_TRAILING;
    *out_element = element;
    return ERR_OK;
}

enum err cmp_info_get(struct bytes *reader, struct cmp_info *out)
{
    struct bytes rest = *reader, body;
    struct cmp_info info = {0};

    if (!der_get(&rest, DER_SEQUENCE, &body) || !der_get_oid(&body, &info.oid))
        return ERR_BAD_DER;
    if (body.len > 0) {
        if (!der_is_strict(body)) /* one element, or none (RFC 9810 5.3.19) */
            return ERR_BAD_DER;
        info.value = body;
    }
    *reader = rest;
    *out = info;
    return ERR_OK;
}

/* --- generalInfo --- */

/* id-it, 1.3.6.1.5.5.7.4, and what of it a header has (RFC 9810 5.1.1) */
#define ID_IT 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x04
static const uint8_t id_it_implicit_confirm[] = {ID_IT, 13};
static const uint8_t id_it_confirm_wait_time[] = {ID_IT, 14};
static const uint8_t id_it_cert_profile[] = {ID_IT, 21};

static enum err implicit_confirm_decode(struct bytes value, struct cmp_header *out)
{
    static const uint8_t null[] = {DER_NULL, 0};

    if (out->implicit_confirm || out->bad_implicit_confirm)
        return ERR_BAD_REQUEST;
    out->implicit_confirm = bytes_eq(value, BYTES_ARRAY(null));
    out->bad_implicit_confirm = !out->implicit_confirm;
    return ERR_OK;
}

static enum err confirm_wait_time_decode(struct bytes value, struct cmp_header *out)
{
    if (out->has_confirm_wait)
        return ERR_BAD_REQUEST;
    out->has_confirm_wait = true;
    /* one element already: nothing follows */
    return der_get_generalized_time(&value, true, &out->confirm_wait_s) ? ERR_OK : ERR_BAD_DER;
}

static enum err cert_profile_decode(struct bytes value, struct cmp_header *out)
{
    struct bytes first;

    if (out->cert_profile.len > 0)
        return ERR_BAD_REQUEST;
    if (!cmp_text_is_valid(value, &first))
        return ERR_BAD_DER;
    out->cert_profile = value;
    return ERR_OK;
}

static enum err general_info_decode(struct bytes content, struct cmp_header *out)
{
    struct bytes list;
    uint32_t count = 0;
    enum err err = cmp_list_open(content, &list);

    if (err != ERR_OK)
        return err;
    if (list.len == 0) /* SIZE (1..MAX) */
        return ERR_BAD_DER;
    for (; list.len > 0 && err == ERR_OK; count++) {
        struct cmp_info info;
        if (count == CMP_INFOS_MAX)
            return ERR_NO_SPACE;
        err = cmp_info_get(&list, &info);
        if (err != ERR_OK)
            return err;
        if (bytes_eq(info.oid, BYTES_ARRAY(id_it_implicit_confirm)))
            err = implicit_confirm_decode(info.value, out);
        else if (bytes_eq(info.oid, BYTES_ARRAY(id_it_confirm_wait_time)))
            err = confirm_wait_time_decode(info.value, out);
        else if (bytes_eq(info.oid, BYTES_ARRAY(id_it_cert_profile)))
            err = cert_profile_decode(info.value, out);
    }
    return err;
}

/* --- PKIHeader (RFC 9810 5.1.1) --- */

/* [2] to [6]: OCTET STRINGs. */
static enum err octets_decode(struct bytes *reader, struct cmp_header *out)
{
    struct bytes *const fields[] = {&out->sender_kid, &out->recip_kid, &out->transaction_id,
                                    &out->sender_nonce, &out->recip_nonce};
    struct bytes element;
    bool present;

    for (unsigned i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        enum err err = cmp_explicit_get(reader, 2 + i, &element, &present);
        if (err != ERR_OK)
            return err;
        if (present && !der_get(&element, DER_OCTET_STRING, fields[i]))
            return ERR_BAD_DER;
    }
    return ERR_OK;
}

/* [0] and [1]. */
static enum err time_and_alg_decode(struct bytes *reader, struct cmp_header *out)
{
    struct bytes element;
    bool present;
    enum err err = cmp_explicit_get(reader, 0, &element, &out->has_message_time);

    if (err != ERR_OK)
        return err;
    /* X.690 11.7: DER has fractions; they say nothing here */
    if (out->has_message_time && !der_get_generalized_time(&element, true, &out->message_time_s))
        return ERR_BAD_DER;
    err = cmp_explicit_get(reader, 1, &element, &present);
    if (err == ERR_OK && present) {
        if (!algorithm_is_valid(element))
            return ERR_BAD_DER;
        out->protection_alg = element;
    }
    return err;
}

static enum err header_decode(struct bytes der, struct cmp_header *out)
{
    struct bytes body, element, first;
    bool present;
    enum err err;

    if (!der_get(&der, DER_SEQUENCE, &body) || !der_get_u64(&body, &out->pvno) ||
        !general_name_get(&body, &out->sender, &out->sender_name) ||
        !general_name_get(&body, &out->recipient, &element))
        return ERR_BAD_DER;
    err = time_and_alg_decode(&body, out);
    if (err == ERR_OK)
        err = octets_decode(&body, out);
    if (err == ERR_OK)
        err = cmp_explicit_get(&body, 7, &element, &present);
    if (err != ERR_OK)
        return err;
    if (present) {
        if (!cmp_text_is_valid(element, &first))
            return ERR_BAD_DER;
        out->free_text = element;
    }
    err = cmp_explicit_get(&body, 8, &element, &present);
    if (err == ERR_OK && present)
        err = general_info_decode(element, out);
    if (err != ERR_OK)
        return err;
    return body.len == 0 ? ERR_OK : ERR_DER_TRAILING;
}

/* --- PKIMessage --- */

static enum err body_decode(struct bytes *reader, struct cmp_msg *out)
{
    struct bytes content, rest, contents;
    uint8_t tag;

    if (!der_get_any(reader, &tag, &content, &out->body_der))
        return ERR_BAD_DER;
    if ((tag & 0xe0) != 0xa0 || (tag & 0x1f) >= CMP_BODY_COUNT)
        return ERR_BAD_DER;
    rest = content;
    if (!der_get_any(&rest, &tag, &contents, NULL))
        return ERR_BAD_DER;
    if (rest.len != 0)
        return ERR_DER_TRAILING;
    out->body = (enum cmp_body)(out->body_der.ptr[0] & 0x1f);
    out->content = content;
    return ERR_OK;
}

static enum err extra_certs_decode(struct bytes content, struct cmp_msg *out)
{
    struct bytes list;
    enum err err = cmp_list_open(content, &list);

    if (err != ERR_OK)
        return err;
    if (list.len == 0) /* SIZE (1..MAX) */
        return ERR_BAD_DER;
    for (; list.len > 0; out->extra_cert_count++) {
        if (out->extra_cert_count == CMP_EXTRA_CERTS_MAX)
            return ERR_NO_SPACE;
        if (!der_get_element(&list, DER_SEQUENCE, &out->extra_certs[out->extra_cert_count]))
            return ERR_BAD_DER;
    }
    return ERR_OK;
}

enum err cmp_msg_decode(struct bytes der, struct cmp_msg *out)
{
    struct cmp_msg msg = {.der = der};
    struct bytes body, element;
    bool present;
    enum err err = cmp_list_open(der, &body);

    if (err != ERR_OK)
        return err;
    if (!der_get_element(&body, DER_SEQUENCE, &msg.header_der))
        return ERR_BAD_DER;
    err = body_decode(&body, &msg);
    if (err != ERR_OK)
        return err;
    msg.header_and_body = bytes_of(msg.header_der.ptr, msg.header_der.len + msg.body_der.len);
    err = cmp_explicit_get(&body, 0, &element, &msg.has_protection);
    if (err != ERR_OK)
        return err;
    if (msg.has_protection && !der_get_bits(&element, &msg.protection))
        return ERR_BAD_DER;
    err = cmp_explicit_get(&body, 1, &element, &present);
    if (err == ERR_OK && present)
        err = extra_certs_decode(element, &msg);
    if (err == ERR_OK && body.len != 0)
        err = ERR_DER_TRAILING;
    if (err == ERR_OK)
        err = header_decode(msg.header_der, &msg.header);
    if (err == ERR_OK)
        *out = msg;
    return err;
}

void cmp_protected_part(const struct cmp_msg *msg, uint8_t head[8], struct bytes out[2])
{
    size_t head_len = der_header_write(DER_SEQUENCE, msg->header_and_body.len, head);

    out[0] = bytes_of(head, head_len);
    out[1] = msg->header_and_body;
}

const char *cmp_body_name(enum cmp_body body)
{
    static const char *const names[CMP_BODY_COUNT] = {
        "ir",   "ip",     "cr",    "cp",       "p10cr",   "popdecc", "popdecr",
        "kur",  "kup",    "krr",   "krp",      "rr",      "rp",      "ccr",
        "ccp",  "ckuann", "cann",  "rann",     "crlann",  "pkiconf", "nested",
        "genm", "genp",   "error", "certConf", "pollReq", "pollRep"};

    return (unsigned)body < CMP_BODY_COUNT ? names[body] : "unknown";
}

/* --- encoding --- */

static void put_octets(struct der_builder *out, unsigned number, struct bytes octets)
{
    if (octets.len == 0)
        return;
    der_open(out, DER_CONTEXT_CONSTRUCTED(number));
    der_put(out, DER_OCTET_STRING, octets);
    der_close(out);
}

static void open_info(struct der_builder *out, struct bytes oid)
{
    der_open(out, DER_SEQUENCE);
    der_put(out, DER_OID, oid);
}

static void put_general_info(struct der_builder *out, const struct cmp_header *header)
{
    if (!header->implicit_confirm && !header->has_confirm_wait && header->cert_profile.len == 0)
        return; /* SIZE (1..MAX) */
    der_open(out, DER_CONTEXT_CONSTRUCTED(8));
    der_open(out, DER_SEQUENCE);
    if (header->implicit_confirm) {
        open_info(out, BYTES_ARRAY(id_it_implicit_confirm));
        der_put_null(out);
        der_close(out);
    }
    if (header->has_confirm_wait) {
        open_info(out, BYTES_ARRAY(id_it_confirm_wait_time));
        der_put_generalized_time(out, header->confirm_wait_s);
        der_close(out);
    }
    if (header->cert_profile.len > 0) {
        open_info(out, BYTES_ARRAY(id_it_cert_profile));
        der_put_raw(out, header->cert_profile);
        der_close(out);
    }
    der_close(out);
    der_close(out);
}

void cmp_header_put(struct der_builder *out, const struct cmp_header *header)
{
    der_open(out, DER_SEQUENCE);
    der_put_u64(out, DER_INTEGER, header->pvno);
    der_put_raw(out, header->sender);
    der_put_raw(out, header->recipient);
    if (header->has_message_time) {
        der_open(out, DER_CONTEXT_CONSTRUCTED(0));
        der_put_generalized_time(out, header->message_time_s);
        der_close(out);
    }
    if (header->protection_alg.len > 0)
        der_put(out, DER_CONTEXT_CONSTRUCTED(1), header->protection_alg);
    put_octets(out, 2, header->sender_kid);
    put_octets(out, 3, header->recip_kid);
    put_octets(out, 4, header->transaction_id);
    put_octets(out, 5, header->sender_nonce);
    put_octets(out, 6, header->recip_nonce);
    if (header->free_text.len > 0)
        der_put(out, DER_CONTEXT_CONSTRUCTED(7), header->free_text);
    put_general_info(out, header);
    der_close(out);
}

void cmp_body_open(struct der_builder *out, enum cmp_body body)
{
    der_open(out, DER_CONTEXT_CONSTRUCTED(body));
}

void cmp_msg_put(struct der_builder *out, struct bytes header_and_body, struct bytes protection,
                 const struct bytes extra_certs[], uint32_t extra_cert_count)
{
    der_open(out, DER_SEQUENCE);
    der_put_raw(out, header_and_body);
    if (protection.len > 0) {
        der_open(out, DER_CONTEXT_CONSTRUCTED(0));
        der_put_bits(out, protection);
        der_close(out);
    }
    if (extra_cert_count > 0) {
        der_open(out, DER_CONTEXT_CONSTRUCTED(1));
        der_open(out, DER_SEQUENCE);
        for (uint32_t i = 0; i < extra_cert_count; i++)
            der_put_raw(out, extra_certs[i]);
        der_close(out);
        der_close(out);
    }
    der_close(out);
}
