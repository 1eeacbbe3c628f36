#include "asn1/der.h"

#include "asn1/internal.h"
#include "asn1/oid.h"

/* Universal tag numbers by form (X.680 8.4, table 1; X.690 10.2: strings are primitive in DER). 0
 * is end-of-contents; EXTERNAL (8), EMBEDDED PDV (11), TIME (14), the reserved 15 and CHARACTER
 * STRING (29) have no place in what certmill reads. */
#define UNIVERSAL_CONSTRUCTED (1u << 16 | 1u << 17)
#define UNIVERSAL_PRIMITIVE                                                                        \
    (0x7fffffffu &                                                                                 \
     ~(UNIVERSAL_CONSTRUCTED | 1u << 0 | 1u << 8 | 1u << 11 | 1u << 14 | 1u << 15 | 1u << 29))

/* Identifier and length octets at the start of reader: how long they are, and what follows. */
static inline bool get_header(struct bytes reader, size_t *out_header_len, size_t *out_len)
{
    const uint8_t *p = reader.ptr;
    size_t header_len = 2;
    size_t len;

    if (reader.len < 2)
        return false;
    if ((p[0] & 0x1f) == 0x1f) /* X.690 8.1.2.4: high tag number; none of our types has one */
        return false;
    len = p[1];
    if (len >= 0x80) {
        /* X.690 10.1: definite form, as few octets as possible. 0x80 is the indefinite form
         * (8.1.3.6); four octets and more are past what der.h reads. */
        if (len == 0x81) {
            if (reader.len < 3 || p[2] < 0x80)
                return false;
            len = p[2];
            header_len = 3;
        } else if (len == 0x82) {
            if (reader.len < 4 || p[2] == 0)
                return false;
            len = (size_t)p[2] << 8 | p[3];
            header_len = 4;
        } else if (len == 0x83) {
            if (reader.len < 5 || p[2] == 0)
                return false;
            len = (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
            header_len = 5;
        } else {
            return false;
        }
    }
    if (len > reader.len - header_len)
        return false;
    *out_header_len = header_len;
    *out_len = len;
    return true;
}

static inline void advance(struct bytes *reader, size_t len)
{
    reader->ptr += len;
    reader->len -= len;
}

uint8_t der_peek(struct bytes reader)
{
    return reader.len > 0 ? reader.ptr[0] : 0;
}

bool der_get_any(struct bytes *reader, uint8_t *out_tag, struct bytes *out_contents,
                 struct bytes *out_element)
{
    size_t header_len, len;

    if (!get_header(*reader, &header_len, &len))
        return false;
    uint8_t tag = reader->ptr[0];
    if ((tag & 0xc0) == 0) {
        uint32_t allowed = (tag & 0x20) != 0 ? UNIVERSAL_CONSTRUCTED : UNIVERSAL_PRIMITIVE;
        if ((allowed >> (tag & 0x1f) & 1) == 0)
            return false;
    }
    struct bytes element = bytes_of(reader->ptr, header_len + len);
    advance(reader, header_len + len);
    *out_tag = tag;
    *out_contents = bytes_of(element.ptr + header_len, len);
    if (out_element != NULL)
        *out_element = element;
    return true;
}

bool der_get(struct bytes *reader, uint8_t tag, struct bytes *out_contents)
{
    size_t header_len, len;

    if (der_peek(*reader) != tag || !get_header(*reader, &header_len, &len))
        return false;
    struct bytes contents = bytes_of(reader->ptr + header_len, len);
    advance(reader, header_len + len);
    *out_contents = contents; /* last: it may be the reader itself, to go one level down */
    return true;
}

bool der_get_element(struct bytes *reader, uint8_t tag, struct bytes *out_element)
{
    size_t header_len, len;

    if (der_peek(*reader) != tag || !get_header(*reader, &header_len, &len))
        return false;
    struct bytes element = bytes_of(reader->ptr, header_len + len);
    advance(reader, header_len + len);
    *out_element = element;
    return true;
}

bool der_get_optional(struct bytes *reader, uint8_t tag, struct bytes *out_contents,
                      bool *out_present)
{
    if (der_peek(*reader) != tag) {
        *out_present = false;
        return true;
    }
    if (!der_get(reader, tag, out_contents))
        return false;
    *out_present = true;
    return true;
}

/* --- contents of primitive types --- */

static bool bool_from(struct bytes contents, bool *out)
{
    /* X.690 8.2.1: one octet; 11.1: TRUE is FF */
    if (contents.len != 1 || (contents.ptr[0] != 0x00 && contents.ptr[0] != 0xff))
        return false;
    *out = contents.ptr[0] != 0;
    return true;
}

bool integer_is_minimal(struct bytes contents)
{
    if (contents.len == 0) /* X.690 8.3.1 */
        return false;
    if (contents.len == 1)
        return true;
    /* X.690 8.3.2: the first nine bits are neither all zeros nor all ones */
    if (contents.ptr[0] == 0x00 && (contents.ptr[1] & 0x80) == 0)
        return false;
    return !(contents.ptr[0] == 0xff && (contents.ptr[1] & 0x80) != 0);
}

/* How many bits of the last octet are unused, checked; bits are the octets behind that count. */
static bool bits_from(struct bytes contents, unsigned *out_unused, struct bytes *out_bits)
{
    if (contents.len == 0) /* X.690 8.6.2.1 */
        return false;
    unsigned unused = contents.ptr[0];
    if (unused > 7 || (contents.len == 1 && unused != 0)) /* X.690 8.6.2.2, 8.6.2.3 */
        return false;
    /* X.690 11.2.1: unused bits are zero */
    if ((contents.ptr[contents.len - 1] & ((1u << unused) - 1)) != 0 && contents.len > 1)
        return false;
    *out_unused = unused;
    *out_bits = bytes_of(contents.ptr + 1, contents.len - 1);
    return true;
}

bool bits_are_valid(struct bytes contents)
{
    struct bytes bits;
    unsigned unused;

    return bits_from(contents, &unused, &bits);
}

bool der_get_bool(struct bytes *reader, bool *out)
{
    struct bytes rest = *reader, contents;

    if (!der_get(&rest, DER_BOOLEAN, &contents) || !bool_from(contents, out))
        return false;
    *reader = rest;
    return true;
}

bool der_get_u64(struct bytes *reader, uint64_t *out)
{
    struct bytes rest = *reader, contents;
    uint64_t value = 0;

    if (!der_get_integer(&rest, &contents) || (contents.ptr[0] & 0x80) != 0)
        return false;
    if (contents.len > 9 || (contents.len == 9 && contents.ptr[0] != 0))
        return false;
    for (size_t i = 0; i < contents.len; i++)
        value = value << 8 | contents.ptr[i];
    *out = value;
    *reader = rest;
    return true;
}

bool der_get_i64(struct bytes *reader, int64_t *out)
{
    struct bytes rest = *reader, contents;

    if (!der_get_integer(&rest, &contents) || contents.len > 8)
        return false;
    uint64_t value = (contents.ptr[0] & 0x80) != 0 ? UINT64_MAX : 0;
    for (size_t i = 0; i < contents.len; i++)
        value = value << 8 | contents.ptr[i];
    *out = (int64_t)value;
    *reader = rest;
    return true;
}

bool der_get_integer(struct bytes *reader, struct bytes *out_contents)
{
    struct bytes rest = *reader, contents;

    if (!der_get(&rest, DER_INTEGER, &contents) || !integer_is_minimal(contents))
        return false;
    *reader = rest;
    *out_contents = contents;
    return true;
}

bool der_get_oid(struct bytes *reader, struct bytes *out_oid)
{
    struct bytes rest = *reader, contents;

    if (!der_get(&rest, DER_OID, &contents) || !oid_is_valid(contents))
        return false;
    *reader = rest;
    *out_oid = contents;
    return true;
}

bool der_get_bits(struct bytes *reader, struct bytes *out)
{
    struct bytes rest = *reader, contents;

    if (!der_get(&rest, DER_BIT_STRING, &contents) || contents.len == 0 || contents.ptr[0] != 0)
        return false;
    *reader = rest;
    *out = bytes_of(contents.ptr + 1, contents.len - 1);
    return true;
}

bool der_get_named_bits(struct bytes *reader, uint32_t *out)
{
    struct bytes rest = *reader, contents, bits;
    unsigned unused;
    uint32_t value = 0;

    if (!der_get(&rest, DER_BIT_STRING, &contents) || !bits_from(contents, &unused, &bits) ||
        bits.len > 4)
        return false;
    /* X.690 11.2.2: the last bit that is there is one */
    if (bits.len > 0 && (bits.ptr[bits.len - 1] >> unused & 1) == 0)
        return false;
    for (size_t bit = 0; bit < bits.len * 8; bit++)
        value |= (uint32_t)(bits.ptr[bit / 8] >> (7 - bit % 8) & 1) << bit;
    *out = value;
    *reader = rest;
    return true;
}

/* --- times --- */

static bool get_digits(const uint8_t *p, size_t count, unsigned *out)
{
    unsigned value = 0;
    for (size_t i = 0; i < count; i++) {
        if (p[i] < '0' || p[i] > '9')
            return false;
        value = value * 10 + (p[i] - '0');
    }
    *out = value;
    return true;
}

/* Days since 1970-01-01 of a proleptic Gregorian date, by eras of 400 years counted from March. */
static int64_t days_from_civil(int64_t year, unsigned month, unsigned day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    unsigned year_of_era = (unsigned)(year - era * 400);
    unsigned day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    unsigned day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + (int64_t)day_of_era - 719468;
}

/* MMDDHHMMSS at p, of that year. */
static bool time_from(unsigned year, const uint8_t *p, int64_t *out_unix_s)
{
    static const uint8_t days_in_month[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    unsigned month, day, hour, minute, second;

    if (!get_digits(p, 2, &month) || !get_digits(p + 2, 2, &day) || !get_digits(p + 4, 2, &hour) ||
        !get_digits(p + 6, 2, &minute) || !get_digits(p + 8, 2, &second))
        return false;
    if (month < 1 || month > 12 || hour > 23 || minute > 59 || second > 59)
        return false;
    bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    unsigned last_day = days_in_month[month - 1] + (month == 2 && is_leap);
    if (day < 1 || day > last_day)
        return false;
    *out_unix_s =
        days_from_civil(year, month, day) * 86400 + (int64_t)(hour * 3600 + minute * 60 + second);
    return true;
}

/* X.690 11.8: YYMMDDHHMMSSZ; RFC 5280 4.1.2.5.1: 50..99 is 19YY. */
static bool utc_time_from(struct bytes contents, int64_t *out_unix_s)
{
    unsigned year;

    if (contents.len != 13 || contents.ptr[12] != 'Z' || !get_digits(contents.ptr, 2, &year))
        return false;
    return time_from(year >= 50 ? 1900 + year : 2000 + year, contents.ptr + 2, out_unix_s);
}

/* X.690 11.7: YYYYMMDDHHMMSS[.f]Z, the fraction without trailing zeros. */
static bool generalized_time_from(struct bytes contents, bool allow_fraction, int64_t *out_unix_s)
{
    unsigned year;

    if (contents.len < 15 || contents.ptr[contents.len - 1] != 'Z' ||
        !get_digits(contents.ptr, 4, &year))
        return false;
    if (contents.len > 15) {
        if (!allow_fraction || contents.ptr[14] != '.' || contents.len < 17 ||
            contents.ptr[contents.len - 2] == '0')
            return false;
        for (size_t i = 15; i < contents.len - 1; i++)
            if (contents.ptr[i] < '0' || contents.ptr[i] > '9')
                return false;
    }
    return time_from(year, contents.ptr + 4, out_unix_s);
}

bool der_get_time(struct bytes *reader, int64_t *out_unix_s)
{
    struct bytes rest = *reader, contents;

    if (der_peek(rest) == DER_UTC_TIME) {
        if (!der_get(&rest, DER_UTC_TIME, &contents) || !utc_time_from(contents, out_unix_s))
            return false;
    } else {
        /* RFC 5280 4.1.2.5: readers take either form whatever the year */
        if (!der_get(&rest, DER_GENERALIZED_TIME, &contents) ||
            !generalized_time_from(contents, false, out_unix_s))
            return false;
    }
    *reader = rest;
    return true;
}

bool der_get_generalized_time(struct bytes *reader, bool allow_fraction, int64_t *out_unix_s)
{
    struct bytes rest = *reader, contents;

    if (!der_get(&rest, DER_GENERALIZED_TIME, &contents) ||
        !generalized_time_from(contents, allow_fraction, out_unix_s))
        return false;
    *reader = rest;
    return true;
}

/* --- the walk over a whole encoding --- */

/* X.690 8.23.10, X.680 41: UTF-8 without overlong forms, surrogates, or what is past U+10FFFF. */
bool utf8_is_valid(struct bytes text)
{
    const uint8_t *p = text.ptr, *end = text.ptr + text.len;

    while (p < end) {
        uint8_t lead = *p++;
        if (lead < 0x80)
            continue;
        size_t more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
        if (lead < 0xc2 || lead > 0xf4 || (size_t)(end - p) < more)
            return false;
        uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        if (p[0] < low || p[0] > high)
            return false;
        for (size_t i = 1; i < more; i++)
            if ((p[i] & 0xc0) != 0x80)
                return false;
        p += more;
    }
    return true;
}

static bool primitive_is_strict(uint8_t tag, struct bytes contents)
{
    struct bytes bits;
    unsigned unused;
    int64_t unix_s;
    bool value;

    switch (tag) {
    case DER_BOOLEAN:
        return bool_from(contents, &value);
    case DER_INTEGER:
    case DER_ENUMERATED: /* X.690 8.4 */
        return integer_is_minimal(contents);
    case DER_BIT_STRING:
        return bits_from(contents, &unused, &bits);
    case DER_NULL: /* X.690 8.8.2 */
        return contents.len == 0;
    case DER_OID:
    case 0x0d: /* RELATIVE-OID: the same rule for its arcs (X.690 8.20.2) */
        return oid_is_valid(contents);
    case 0x09: /* REAL: X.690 11.3 has rules that nothing here needs */
        return false;
    case DER_UTF8_STRING:
        return utf8_is_valid(contents);
    case 0x1c: /* UniversalString: four octets a character (X.690 8.23.7) */
        return contents.len % 4 == 0;
    case DER_BMP_STRING: /* two octets (X.690 8.23.8) */
        return contents.len % 2 == 0;
    case DER_UTC_TIME:
        return utc_time_from(contents, &unix_s);
    case DER_GENERALIZED_TIME:
        return generalized_time_from(contents, true, &unix_s);
    default:
        return true;
    }
}

/* Canonical order of tags (X.680 8.6): by class, then number, whatever the form. */
static unsigned tag_rank(uint8_t tag)
{
    return (unsigned)(tag & 0xdf);
}

static bool contents_are_strict(struct bytes contents, bool is_set, unsigned depth)
{
    struct bytes previous = {0};
    /* Without its type a SET may be a SET OF, in order of encodings (X.690 11.6), or a SET, in
     * order of tags (10.3). */
    bool encodings_rise = true, tags_rise = true;

    if (depth > DER_DEPTH_MAX)
        return false;
    while (contents.len > 0) {
        struct bytes value, element;
        uint8_t tag;
        if (!der_get_any(&contents, &tag, &value, &element))
            return false;
        if ((tag & 0x20) != 0) {
            if (!contents_are_strict(value, tag == DER_SET, depth + 1))
                return false;
        } else if (!primitive_is_strict(tag, value)) {
            return false;
        }
        if (is_set && previous.len > 0) {
            encodings_rise = encodings_rise && bytes_cmp(previous, element) <= 0;
            tags_rise = tags_rise && tag_rank(previous.ptr[0]) < tag_rank(tag);
            if (!encodings_rise && !tags_rise)
                return false;
        }
        previous = element;
    }
    return true;
}

bool der_is_strict(struct bytes all)
{
    struct bytes contents;
    uint8_t tag;

    if (!der_get_any(&all, &tag, &contents, NULL) || all.len != 0)
        return false;
    if ((tag & 0x20) != 0)
        return contents_are_strict(contents, tag == DER_SET, 1);
    return primitive_is_strict(tag, contents);
}
