#include "hsm/p11/uri.h"

#include <string.h>

/* RFC 7512 2.3: pk11-res-avail = ":" / "[" / "]" / "@" / "!" / "$" / "'" / "(" / ")" / "*" / "+" /
 * "," / "="; pk11-pchar adds unreserved, pct-encoded and "&"; "&" is not allowed in the query. */
static bool is_pchar(uint8_t c)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
        return true;
    return c != 0 && strchr("-._~:[]@!$'()*+,=&", c) != NULL;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static const char *decode(struct bytes value, uint8_t *out, size_t cap, size_t *out_len)
{
    size_t len = 0;
    uint8_t c;
    while (bytes_get_u8(&value, &c)) {
        if (c == '%') {
            uint8_t high, low;
            if (!bytes_get_u8(&value, &high) || !bytes_get_u8(&value, &low) ||
                hex_digit(high) < 0 || hex_digit(low) < 0)
                return "a % is not followed by two hex digits";
            c = (uint8_t)(hex_digit(high) << 4 | hex_digit(low));
        } else if (!is_pchar(c)) {
            return "a character must be percent-encoded";
        }
        if (len == cap)
            return "a value is too long";
        out[len++] = c;
    }
    *out_len = len;
    return NULL;
}

static const char *get_text(struct bytes value, char *out, size_t cap, bool *seen)
{
    uint8_t text[256];
    size_t len;
    if (*seen)
        return "an attribute is given twice";
    const char *reason = decode(value, text, cap - 1, &len);
    if (reason != NULL)
        return reason;
    if (len == 0)
        return "a value is empty";
    if (memchr(text, 0, len) != NULL)
        return "a value holds a NUL";
    memcpy(out, text, len);
    out[len] = 0;
    *seen = true;
    return NULL;
}

static const char *get_id(struct bytes value, struct p11_uri *uri)
{
    size_t len;
    if (uri->has_id)
        return "an attribute is given twice";
    const char *reason = decode(value, uri->id, sizeof(uri->id), &len);
    if (reason != NULL)
        return reason;
    if (len == 0)
        return "a value is empty";
    uri->id_len = (uint32_t)len;
    uri->has_id = true;
    return NULL;
}

static const char *get_type(struct bytes value, struct p11_uri *uri)
{
    if (uri->type != P11_URI_TYPE_NONE)
        return "an attribute is given twice";
    if (bytes_eq(value, BYTES_LIT("private")))
        uri->type = P11_URI_TYPE_PRIVATE;
    else if (bytes_eq(value, BYTES_LIT("public")))
        uri->type = P11_URI_TYPE_PUBLIC;
    else if (bytes_eq(value, BYTES_LIT("cert")))
        uri->type = P11_URI_TYPE_CERT;
    else
        return "type must be private, public or cert";
    return NULL;
}

static const char *get_slot_id(struct bytes value, struct p11_uri *uri)
{
    if (uri->has_slot_id)
        return "an attribute is given twice";
    if (!bytes_to_u64(value, UINT64_MAX, &uri->slot_id))
        return "slot-id must be a decimal number";
    uri->has_slot_id = true;
    return NULL;
}

static const char *get_attribute(struct bytes name, struct bytes value, struct p11_uri *uri)
{
    if (bytes_eq(name, BYTES_LIT("token")))
        return get_text(value, uri->token, sizeof(uri->token), &uri->has_token);
    if (bytes_eq(name, BYTES_LIT("manufacturer")))
        return get_text(value, uri->manufacturer, sizeof(uri->manufacturer),
                        &uri->has_manufacturer);
    if (bytes_eq(name, BYTES_LIT("model")))
        return get_text(value, uri->model, sizeof(uri->model), &uri->has_model);
    if (bytes_eq(name, BYTES_LIT("serial")))
        return get_text(value, uri->serial, sizeof(uri->serial), &uri->has_serial);
    if (bytes_eq(name, BYTES_LIT("object")))
        return get_text(value, uri->object, sizeof(uri->object), &uri->has_object);
    if (bytes_eq(name, BYTES_LIT("id")))
        return get_id(value, uri);
    if (bytes_eq(name, BYTES_LIT("type")))
        return get_type(value, uri);
    if (bytes_eq(name, BYTES_LIT("slot-id")))
        return get_slot_id(value, uri);
    if (bytes_starts_with(name, BYTES_LIT("pin-")))
        return "a PIN does not belong in a URI: use pin_file, pin_env or pin_credential";
    return "an attribute is not known";
}

static const char *parse_path(struct bytes path, struct p11_uri *uri)
{
    if (path.len == 0)
        return NULL;
    for (;;) {
        size_t end = bytes_find(path, ';');
        struct bytes attribute = bytes_of(path.ptr, end);
        size_t equals = bytes_find(attribute, '=');
        if (equals == attribute.len)
            return "an attribute has no =";
        struct bytes name = bytes_of(attribute.ptr, equals);
        struct bytes value = bytes_of(attribute.ptr + equals + 1, attribute.len - equals - 1);
        const char *reason = get_attribute(name, value, uri);
        if (reason != NULL || end == path.len)
            return reason;
        path = bytes_of(path.ptr + end + 1, path.len - end - 1);
    }
}

bool p11_uri_parse(const char *text, struct p11_uri *out, const char **out_reason)
{
    struct p11_uri uri = {0};
    struct bytes all = text == NULL ? (struct bytes){0} : bytes_of_str(text);
    const char *reason = NULL;
    /* the scheme alone is case-insensitive (RFC 3986 3.1) */
    if (all.len < 7 || !bytes_eq_nocase(bytes_of(all.ptr, 7), BYTES_LIT("pkcs11:"))) {
        reason = "it does not start with pkcs11:";
    } else {
        struct bytes path = bytes_of(all.ptr + 7, all.len - 7);
        size_t question = bytes_find(path, '?');
        if (question != path.len) {
            struct bytes query = bytes_of(path.ptr + question + 1, path.len - question - 1);
            reason = bytes_starts_with(query, BYTES_LIT("pin-"))
                         ? "a PIN does not belong in a URI: use pin_file, pin_env or pin_credential"
                         : "a query is not allowed here: the module is configured by its path";
        } else {
            reason = parse_path(path, &uri);
        }
    }
    if (reason != NULL) {
        if (out_reason != NULL)
            *out_reason = reason;
        return false;
    }
    *out = uri;
    return true;
}

void p11_uri_put_text(struct writer *writer, const char *text)
{
    for (; *text != 0; text++) {
        uint8_t c = (uint8_t)*text;
        if (is_pchar(c))
            writer_put_u8(writer, c);
        else
            writer_printf(writer, "%%%02X", c);
    }
}

void p11_uri_put_id(struct writer *writer, struct bytes id)
{
    for (size_t i = 0; i < id.len; i++)
        writer_printf(writer, "%%%02X", id.ptr[i]);
}
