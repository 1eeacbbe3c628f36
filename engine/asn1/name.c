#include "asn1/der.h"
#include "asn1/internal.h"
#include "asn1/oid.h"
#include "asn1/x509.h"

enum { NUMERIC_STRING = 0x12, UNIVERSAL_STRING = 0x1c };

/* --- reading --- */

static bool has_byte_outside(struct bytes text, uint8_t low, uint8_t high)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] < low || text.ptr[i] > high)
            return true;
    return false;
}

/* ISO 10646 characters of unit_len octets each: in range, no surrogates (BMPString is UCS-2), no
 * NUL. */
static bool has_only_characters(struct bytes text, size_t unit_len)
{
    if (text.len % unit_len != 0)
        return false;
    for (size_t i = 0; i < text.len; i += unit_len) {
        uint32_t c = 0;
        for (size_t k = 0; k < unit_len; k++)
            c = c << 8 | text.ptr[i + k];
        if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
            return false;
    }
    return true;
}

/* The string types of X.520 attributes. NUL is refused in all of them: it is where other programs
 * stop reading. PrintableString is held to visible ASCII, not to the shorter list of X.680 41.4,
 * which real CAs overstep with '&', '@', '*' and '_'. */
static bool name_value_is_valid(uint8_t tag, struct bytes value)
{
    if (value.len == 0) /* SIZE (1..MAX) */
        return false;
    switch (tag) {
    case DER_UTF8_STRING:
        return memchr(value.ptr, 0, value.len) == NULL && utf8_is_valid(value);
    case DER_PRINTABLE_STRING:
    case NUMERIC_STRING:
        return !has_byte_outside(value, 0x20, 0x7e);
    case DER_IA5_STRING:
        return !has_byte_outside(value, 0x01, 0x7f);
    case DER_T61_STRING:
        return memchr(value.ptr, 0, value.len) == NULL;
    case DER_BMP_STRING:
        return has_only_characters(value, 2);
    case UNIVERSAL_STRING:
        return has_only_characters(value, 4);
    case DER_BIT_STRING: /* x500UniqueIdentifier: whole octets */
        return value.ptr[0] == 0;
    default:
        return false;
    }
}

bool name_walk_start(struct bytes name_der, struct name_walk *out)
{
    struct name_walk walk = {0};

    if (name_der.len > NAME_DER_MAX || !der_get(&name_der, DER_SEQUENCE, &walk.rdns) ||
        name_der.len != 0)
        return false;
    *out = walk;
    return true;
}

enum name_step name_walk_next(struct name_walk *walk, struct name_attribute *out)
{
    struct name_attribute attribute = {.continues_rdn = walk->rdn.len > 0};
    struct bytes element, body;

    if (walk->rdn.len == 0) {
        if (walk->rdns.len == 0)
            return NAME_END;
        /* RelativeDistinguishedName ::= SET SIZE (1..MAX) OF AttributeTypeAndValue */
        if (!der_get(&walk->rdns, DER_SET, &walk->rdn) || walk->rdn.len == 0)
            return NAME_MALFORMED;
    }
    if (!der_get_element(&walk->rdn, DER_SEQUENCE, &element))
        return NAME_MALFORMED;
    /* X.690 11.6; equal ones would be one attribute twice */
    if (attribute.continues_rdn && bytes_cmp(walk->previous, element) >= 0)
        return NAME_MALFORMED;
    walk->previous = element;
    if (!der_get(&element, DER_SEQUENCE, &body) || !der_get_oid(&body, &attribute.oid) ||
        !der_get_any(&body, &attribute.tag, &attribute.value, NULL) || body.len != 0 ||
        !name_value_is_valid(attribute.tag, attribute.value))
        return NAME_MALFORMED;
    *out = attribute;
    return NAME_ATTRIBUTE;
}

bool name_is_valid(struct bytes name_der)
{
    struct name_walk walk;
    struct name_attribute attribute;
    enum name_step step;

    if (!name_walk_start(name_der, &walk))
        return false;
    do
        step = name_walk_next(&walk, &attribute);
    while (step == NAME_ATTRIBUTE);
    return step == NAME_END;
}

bool name_each(struct bytes name_der,
               bool (*fn)(void *ctx, struct bytes oid, uint8_t tag, struct bytes value), void *ctx)
{
    struct name_walk walk;
    struct name_attribute attribute;
    enum name_step step;

    if (!name_walk_start(name_der, &walk))
        return false;
    while ((step = name_walk_next(&walk, &attribute)) == NAME_ATTRIBUTE)
        if (!fn(ctx, attribute.oid, attribute.tag, attribute.value))
            return false;
    return step == NAME_END;
}

bool name_find(struct bytes name_der, struct bytes oid, struct bytes *out_value)
{
    struct name_walk walk;
    struct name_attribute attribute;
    struct bytes found = {0}; /* a value is never empty */
    enum name_step step;

    if (!name_walk_start(name_der, &walk))
        return false;
    while ((step = name_walk_next(&walk, &attribute)) == NAME_ATTRIBUTE)
        if (bytes_eq(attribute.oid, oid))
            found = attribute.value;
    if (step != NAME_END || found.len == 0)
        return false;
    *out_value = found;
    return true;
}

/* --- GeneralNames --- */

/* One GeneralName (RFC 5280 4.2.1.6). x400Address and ediPartyName are refused: nobody uses them.
 */
static bool general_name_is_valid(uint8_t tag, struct bytes value)
{
    struct bytes oid, explicit;

    switch (tag) {
    case DER_CONTEXT_CONSTRUCTED(GN_OTHER): /* type-id, value [0] EXPLICIT ANY */
        return der_get_oid(&value, &oid) &&
               der_get(&value, DER_CONTEXT_CONSTRUCTED(0), &explicit) && value.len == 0 &&
               der_is_strict(explicit);
    case DER_CONTEXT(GN_EMAIL):
    case DER_CONTEXT(GN_DNS):
    case DER_CONTEXT(GN_URI): /* IA5String; none of the three syntaxes has spaces or controls */
        return value.len > 0 && !has_byte_outside(value, 0x21, 0x7e);
    case DER_CONTEXT_CONSTRUCTED(GN_DIRECTORY): /* EXPLICIT: Name is a CHOICE (X.680 31.2.7) */
        return name_is_valid(value);
    case DER_CONTEXT(GN_IP):
        return value.len == 4 || value.len == 16;
    case DER_CONTEXT(8): /* registeredID */
        return oid_is_valid(value);
    default:
        return false;
    }
}

bool general_name_get(struct bytes *reader, struct bytes *out_element, struct bytes *out_name)
{
    struct bytes rest = *reader, value, element;
    uint8_t tag;

    if (!der_get_any(&rest, &tag, &value, &element) || !general_name_is_valid(tag, value))
        return false;
    *reader = rest;
    *out_element = element;
    *out_name = tag == DER_CONTEXT_CONSTRUCTED(GN_DIRECTORY) ? value : (struct bytes){0};
    return true;
}

bool general_names_contents_are_valid(struct bytes contents)
{
    if (contents.len == 0) /* SIZE (1..MAX) */
        return false;
    while (contents.len > 0) {
        struct bytes value;
        uint8_t tag;
        if (!der_get_any(&contents, &tag, &value, NULL) || !general_name_is_valid(tag, value))
            return false;
    }
    return true;
}

bool general_names_are_valid(struct bytes san_der)
{
    struct bytes contents;

    return der_get(&san_der, DER_SEQUENCE, &contents) && san_der.len == 0 &&
           general_names_contents_are_valid(contents);
}

bool general_names_find(struct bytes san_der, enum general_name kind, struct bytes *out_value)
{
    bool is_constructed = kind == GN_OTHER || kind == GN_DIRECTORY;
    uint8_t wanted = is_constructed ? DER_CONTEXT_CONSTRUCTED(kind) : DER_CONTEXT(kind);
    struct bytes contents, value;
    uint8_t tag;

    if (!der_get(&san_der, DER_SEQUENCE, &contents) || san_der.len != 0)
        return false;
    while (contents.len > 0) {
        if (!der_get_any(&contents, &tag, &value, NULL))
            return false;
        if (tag == wanted) {
            *out_value = value;
            return true;
        }
    }
    return false;
}
