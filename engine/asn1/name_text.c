#include <stdio.h>

#include "asn1/der.h"
#include "asn1/internal.h"
#include "asn1/oid.h"
#include "asn1/x509.h"

enum { NUMERIC_STRING = 0x12, UNIVERSAL_STRING = 0x1c, VALUE_TEXT_MAX = NAME_DER_MAX };

/* Attribute types that have a short name (RFC 4514 3, RFC 4519), and their string type (RFC 5280
 * A.1). */
static const struct {
    const char *name;
    const struct bytes *oid;
    uint8_t tag;
} attribute_types[] = {
    {"CN", &OID_AT_COMMON_NAME, DER_UTF8_STRING},
    {"serialNumber", &OID_AT_SERIAL_NUMBER, DER_PRINTABLE_STRING},
    {"C", &OID_AT_COUNTRY, DER_PRINTABLE_STRING},
    {"L", &OID_AT_LOCALITY, DER_UTF8_STRING},
    {"ST", &OID_AT_STATE, DER_UTF8_STRING},
    {"O", &OID_AT_ORGANIZATION, DER_UTF8_STRING},
    {"OU", &OID_AT_ORG_UNIT, DER_UTF8_STRING},
    {"dnQualifier", &OID_AT_DN_QUALIFIER, DER_PRINTABLE_STRING},
    {"DC", &OID_AT_DC, DER_IA5_STRING},
    {"UID", &OID_AT_UID, DER_UTF8_STRING},
};
enum { ATTRIBUTE_TYPE_COUNT = sizeof(attribute_types) / sizeof(attribute_types[0]) };

/* --- to text --- */

/* Text cut at its room, never inside a piece (an escape, a character), always with its NUL. */
struct text {
    char *out;
    size_t cap;
    size_t len;
    bool is_full;
};

static void text_put(struct text *text, const char *piece, size_t len)
{
    if (text->is_full || len >= text->cap - text->len) {
        text->is_full = true;
        return;
    }
    memcpy(text->out + text->len, piece, len);
    text->len += len;
    text->out[text->len] = '\0';
}

static void text_put_str(struct text *text, const char *str)
{
    text_put(text, str, strlen(str));
}

static void text_put_hex(struct text *text, const char *prefix, uint8_t octet)
{
    char piece[8];
    snprintf(piece, sizeof(piece), "%s%02X", prefix, octet);
    text_put_str(text, piece);
}

/* One character of a value, escaped where RFC 4514 2.4 says so; controls always. */
static void text_put_char(struct text *text, uint32_t c, bool is_first, bool is_last)
{
    char utf8[5] = {0};

    if (c < 0x20 || c == 0x7f) {
        text_put_hex(text, "\\", (uint8_t)c);
        return;
    }
    if (c < 0x80) {
        bool is_special = strchr("\"+,;<>\\=", (int)c) != NULL ||
                          (is_first && (c == ' ' || c == '#')) || (is_last && c == ' ');
        char piece[3] = {'\\', (char)c, '\0'};
        text_put_str(text, is_special ? piece : piece + 1);
        return;
    }
    if (c < 0x800) {
        utf8[0] = (char)(0xc0 | c >> 6);
        utf8[1] = (char)(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        utf8[0] = (char)(0xe0 | c >> 12);
        utf8[1] = (char)(0x80 | (c >> 6 & 0x3f));
        utf8[2] = (char)(0x80 | (c & 0x3f));
    } else {
        utf8[0] = (char)(0xf0 | c >> 18);
        utf8[1] = (char)(0x80 | (c >> 12 & 0x3f));
        utf8[2] = (char)(0x80 | (c >> 6 & 0x3f));
        utf8[3] = (char)(0x80 | (c & 0x3f));
    }
    text_put_str(text, utf8);
}

/* The next character of a checked string value, how many octets it took. */
static size_t next_char(uint8_t tag, struct bytes value, uint32_t *out)
{
    const uint8_t *p = value.ptr;

    if (tag == UNIVERSAL_STRING) {
        *out = load_be32(p);
        return 4;
    }
    if (tag == DER_BMP_STRING) {
        *out = (uint32_t)p[0] << 8 | p[1];
        return 2;
    }
    if (tag != DER_UTF8_STRING || p[0] < 0x80) { /* T61String is read as Latin-1, as others do */
        *out = p[0];
        return 1;
    }
    size_t more = p[0] >= 0xf0 ? 3 : p[0] >= 0xe0 ? 2 : 1;
    uint32_t c = p[0] & (0x3fu >> more);
    for (size_t i = 1; i <= more; i++)
        c = c << 6 | (p[i] & 0x3f);
    *out = c;
    return more + 1;
}

static void text_put_value(struct text *text, const struct name_attribute *attribute)
{
    struct bytes rest = attribute->value;
    bool is_first = true;

    while (rest.len > 0) {
        uint32_t c;
        size_t taken = next_char(attribute->tag, rest, &c);
        rest.ptr += taken;
        rest.len -= taken;
        text_put_char(text, c, is_first, rest.len == 0);
        is_first = false;
    }
}

/* RFC 4514 2.4: '#' and the BER encoding in hex, for types without a short name. */
static void text_put_encoding(struct text *text, const struct name_attribute *attribute)
{
    uint8_t octets[NAME_DER_MAX];
    struct der_builder builder = der_builder_of(octets, sizeof(octets));
    struct bytes all;

    der_put(&builder, attribute->tag, attribute->value);
    if (!der_finish(&builder, &all))
        return;
    text_put_str(text, "#");
    for (size_t i = 0; i < all.len; i++)
        text_put_hex(text, "", all.ptr[i]);
}

void name_to_text(struct bytes name_der, char *out, size_t cap)
{
    struct text text = {out, cap, 0, false};
    struct name_walk walk;
    struct name_attribute attribute;
    bool is_first = true;

    if (cap == 0)
        return;
    out[0] = '\0';
    if (!name_is_valid(name_der) || !name_walk_start(name_der, &walk))
        return;
    while (name_walk_next(&walk, &attribute) == NAME_ATTRIBUTE && !text.is_full) {
        const char *type = NULL;
        if (!is_first)
            text_put_str(&text, attribute.continues_rdn ? "+" : ",");
        is_first = false;
        for (size_t i = 0; i < ATTRIBUTE_TYPE_COUNT; i++)
            if (bytes_eq(attribute.oid, *attribute_types[i].oid))
                type = attribute_types[i].name;
        if (type != NULL && attribute.tag != DER_BIT_STRING) {
            text_put_str(&text, type);
            text_put_str(&text, "=");
            text_put_value(&text, &attribute);
        } else {
            char dotted[128];
            oid_to_text(attribute.oid, dotted, sizeof(dotted));
            text_put_str(&text, dotted);
            text_put_str(&text, "=");
            text_put_encoding(&text, &attribute);
        }
    }
}

/* --- from text --- */

static int hex_value(uint8_t c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* An escape (RFC 4514 3: a special character or two hex digits), reader behind its backslash. */
static bool get_escaped(struct bytes *reader, uint8_t *out)
{
    uint8_t c, second;

    if (!bytes_get_u8(reader, &c))
        return false;
    if (hex_value(c) >= 0) {
        if (!bytes_get_u8(reader, &second) || hex_value(second) < 0)
            return false;
        *out = (uint8_t)(hex_value(c) << 4 | hex_value(second));
        return true;
    }
    if (c == '\0' || strchr(" \"#+,;<=>\\", c) == NULL)
        return false;
    *out = c;
    return true;
}

/* A value up to an unescaped comma (taken too; then another attribute must follow) or the end;
 * spaces around it do not count. */
static bool get_value(struct bytes *reader, struct writer *out, bool *out_more)
{
    bool has_more = false;
    size_t kept = 0; /* up to the last octet that is no unescaped space */
    uint8_t c;

    while (bytes_get_u8(reader, &c)) {
        bool is_escaped = c == '\\';
        if (c == ',') {
            has_more = true;
            break;
        }
        if (is_escaped && !get_escaped(reader, &c))
            return false;
        /* '+' would join attributes into one RDN: not offered */
        if (!is_escaped && c != '\0' && strchr("\"+;<>", c) != NULL)
            return false;
        if (!is_escaped && c == ' ' && out->len == 0)
            continue;
        writer_put_u8(out, c);
        if (is_escaped || c != ' ')
            kept = out->len;
    }
    if (out->failed)
        return false;
    out->len = kept;
    *out_more = has_more;
    return true;
}

static bool is_letter(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* X.680 41.4 */
static bool is_printable_string(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        bool is_alnum = (c >= '0' && c <= '9') || is_letter(c);
        if (!is_alnum && (c == '\0' || strchr(" '()+,-./:=?", c) == NULL))
            return false;
    }
    return true;
}

static bool value_fits(struct bytes value, size_t type)
{
    if (value.len == 0 || memchr(value.ptr, 0, value.len) != NULL)
        return false;
    if (attribute_types[type].oid == &OID_AT_COUNTRY &&
        (value.len != 2 || !is_letter(value.ptr[0]) || !is_letter(value.ptr[1])))
        return false; /* ISO 3166 alpha-2 */
    switch (attribute_types[type].tag) {
    case DER_PRINTABLE_STRING:
        return is_printable_string(value);
    case DER_IA5_STRING:
        for (size_t i = 0; i < value.len; i++)
            if (value.ptr[i] >= 0x80)
                return false;
        return true;
    default:
        return utf8_is_valid(value);
    }
}

static bool get_type(struct bytes *reader, size_t *out_type)
{
    struct bytes name = *reader;
    size_t equals = bytes_find(*reader, '=');

    if (equals == reader->len)
        return false;
    name.len = equals;
    while (name.len > 0 && name.ptr[0] == ' ') {
        name.ptr++;
        name.len--;
    }
    while (name.len > 0 && name.ptr[name.len - 1] == ' ')
        name.len--;
    reader->ptr += equals + 1;
    reader->len -= equals + 1;
    for (size_t i = 0; i < ATTRIBUTE_TYPE_COUNT; i++) {
        if (bytes_eq_nocase(name, bytes_of_str(attribute_types[i].name))) {
            *out_type = i;
            return true;
        }
    }
    return false;
}

bool name_from_text(const char *text, uint8_t *out, size_t cap, size_t *out_len)
{
    struct der_builder builder = der_builder_of(out, cap);
    struct bytes rest = bytes_of_str(text), all;
    bool has_more = text[0] != '\0';

    der_open(&builder, DER_SEQUENCE);
    while (has_more) {
        uint8_t value_text[VALUE_TEXT_MAX];
        struct writer value = writer_of(value_text, sizeof(value_text));
        size_t type;
        if (!get_type(&rest, &type) || !get_value(&rest, &value, &has_more) ||
            !value_fits(writer_view(&value), type))
            return false;
        der_open(&builder, DER_SET);
        der_open(&builder, DER_SEQUENCE);
        der_put(&builder, DER_OID, *attribute_types[type].oid);
        der_put(&builder, attribute_types[type].tag, writer_view(&value));
        der_close(&builder);
        der_close(&builder);
    }
    der_close(&builder);
    if (!der_finish(&builder, &all) || all.len > NAME_DER_MAX)
        return false;
    *out_len = all.len;
    return true;
}
