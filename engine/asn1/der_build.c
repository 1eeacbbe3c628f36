#include "asn1/der.h"

#define DER_LEN_MAX ((1u << 24) - 1)

/* How many octets the length field takes (X.690 10.1: as few as possible). */
static size_t length_len(size_t len)
{
    return len < 0x80 ? 1 : len < 0x100 ? 2 : len < 0x10000 ? 3 : 4;
}

static void store_length(uint8_t *p, size_t len)
{
    size_t octets = length_len(len) - 1;

    if (octets == 0) {
        p[0] = (uint8_t)len;
        return;
    }
    p[0] = (uint8_t)(0x80 | octets);
    for (size_t i = 0; i < octets; i++)
        p[1 + i] = (uint8_t)(len >> 8 * (octets - 1 - i));
}

size_t der_header_len(size_t len)
{
    return 1 + length_len(len);
}

size_t der_header_write(uint8_t tag, size_t len, uint8_t out[8])
{
    if (len > DER_LEN_MAX)
        return 0;
    out[0] = tag;
    store_length(out + 1, len);
    return der_header_len(len);
}

struct der_builder der_builder_of(void *buf, size_t cap)
{
    return (struct der_builder){.out = writer_of(buf, cap)};
}

/* The contents' place behind a written identifier and length; NULL when there is no room. */
static uint8_t *put_header(struct der_builder *builder, uint8_t tag, size_t len)
{
    if (len > DER_LEN_MAX) {
        builder->out.failed = true;
        return NULL;
    }
    size_t header_len = der_header_len(len);
    uint8_t *p = writer_reserve(&builder->out, header_len + len);
    if (p == NULL)
        return NULL;
    p[0] = tag;
    store_length(p + 1, len);
    return p + header_len;
}

void der_open(struct der_builder *builder, uint8_t tag)
{
    uint8_t *p;

    if (builder->depth == DER_DEPTH_MAX) {
        builder->out.failed = true;
        return;
    }
    p = writer_reserve(&builder->out, 2); /* one length octet; der_close makes room for more */
    if (p == NULL)
        return;
    p[0] = tag;
    p[1] = 0;
    builder->open[builder->depth++] = builder->out.len;
}

void der_close(struct der_builder *builder)
{
    if (builder->out.failed)
        return;
    if (builder->depth == 0) {
        builder->out.failed = true;
        return;
    }
    size_t start = builder->open[--builder->depth];
    size_t len = builder->out.len - start;
    size_t more = length_len(len) - 1;
    if (len > DER_LEN_MAX) {
        builder->out.failed = true;
        return;
    }
    if (more > 0) {
        if (writer_reserve(&builder->out, more) == NULL)
            return;
        memmove(builder->out.buf + start + more, builder->out.buf + start, len);
    }
    store_length(builder->out.buf + start - 1, len);
}

void der_put(struct der_builder *builder, uint8_t tag, struct bytes contents)
{
    uint8_t *p = put_header(builder, tag, contents.len);
    if (p != NULL && contents.len > 0)
        memcpy(p, contents.ptr, contents.len);
}

void der_put_raw(struct der_builder *builder, struct bytes element)
{
    writer_put(&builder->out, element);
}

void der_put_bool(struct der_builder *builder, bool value)
{
    uint8_t octet = value ? 0xff : 0x00; /* X.690 11.1 */
    der_put(builder, DER_BOOLEAN, bytes_of(&octet, 1));
}

void der_put_u64(struct der_builder *builder, uint8_t tag, uint64_t value)
{
    uint8_t octets[9] = {0};
    size_t start = 0;

    store_be64(octets + 1, value);
    while (start < 8 && octets[start] == 0 && (octets[start + 1] & 0x80) == 0) /* X.690 8.3.2 */
        start++;
    der_put(builder, tag, bytes_of(octets + start, sizeof(octets) - start));
}

void der_put_i64(struct der_builder *builder, int64_t value)
{
    uint8_t octets[8];
    size_t start = 0;
    uint8_t sign = value < 0 ? 0xff : 0x00;

    store_be64(octets, (uint64_t)value);
    while (start < 7 && octets[start] == sign && ((octets[start + 1] ^ sign) & 0x80) == 0)
        start++; /* X.690 8.3.2 */
    der_put(builder, DER_INTEGER, bytes_of(octets + start, sizeof(octets) - start));
}

void der_put_unsigned(struct der_builder *builder, struct bytes magnitude)
{
    while (magnitude.len > 0 && magnitude.ptr[0] == 0) {
        magnitude.ptr++;
        magnitude.len--;
    }
    bool needs_sign = magnitude.len == 0 || (magnitude.ptr[0] & 0x80) != 0;
    if (magnitude.len > DER_LEN_MAX) {
        builder->out.failed = true;
        return;
    }
    uint8_t *p = put_header(builder, DER_INTEGER, magnitude.len + needs_sign);
    if (p == NULL)
        return;
    if (needs_sign)
        *p++ = 0;
    if (magnitude.len > 0)
        memcpy(p, magnitude.ptr, magnitude.len);
}

void der_put_bits(struct der_builder *builder, struct bytes bits)
{
    if (bits.len > DER_LEN_MAX) {
        builder->out.failed = true;
        return;
    }
    uint8_t *p = put_header(builder, DER_BIT_STRING, bits.len + 1);
    if (p == NULL)
        return;
    *p++ = 0; /* unused bits */
    if (bits.len > 0)
        memcpy(p, bits.ptr, bits.len);
}

void der_put_named_bits(struct der_builder *builder, uint32_t bits)
{
    uint8_t contents[5] = {0};
    unsigned bit_count = 0; /* X.690 11.2.2: trailing zero bits are left out */

    for (unsigned bit = 0; bit < 32; bit++) {
        if ((bits >> bit & 1) == 0)
            continue;
        contents[1 + bit / 8] |= (uint8_t)(0x80 >> bit % 8);
        bit_count = bit + 1;
    }
    size_t octets = (bit_count + 7) / 8;
    contents[0] = (uint8_t)(octets * 8 - bit_count);
    der_put(builder, DER_BIT_STRING, bytes_of(contents, 1 + octets));
}

void der_put_null(struct der_builder *builder)
{
    der_put(builder, DER_NULL, (struct bytes){0});
}

/* --- times --- */

struct civil {
    int64_t year;
    unsigned month, day, hour, minute, second;
};

static struct civil civil_from(int64_t unix_s)
{
    int64_t days = unix_s / 86400;
    int64_t second_of_day = unix_s % 86400;
    if (second_of_day < 0) {
        second_of_day += 86400;
        days--;
    }
    days += 719468; /* from 0000-03-01 */
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    unsigned day_of_era = (unsigned)(days - era * 146097);
    unsigned year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned month_from_march = (5 * day_of_year + 2) / 153;
    unsigned month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    return (struct civil){
        .year = (int64_t)year_of_era + era * 400 + (month <= 2),
        .month = month,
        .day = day_of_year - (153 * month_from_march + 2) / 5 + 1,
        .hour = (unsigned)(second_of_day / 3600),
        .minute = (unsigned)(second_of_day / 60 % 60),
        .second = (unsigned)(second_of_day % 60),
    };
}

static uint8_t *put_digits(uint8_t *p, size_t count, unsigned value)
{
    for (size_t i = count; i > 0; i--) {
        p[i - 1] = (uint8_t)('0' + value % 10);
        value /= 10;
    }
    return p + count;
}

static void put_time(struct der_builder *builder, const struct civil *civil, uint8_t tag)
{
    uint8_t text[15];
    uint8_t *p = text;

    p = tag == DER_UTC_TIME ? put_digits(p, 2, (unsigned)(civil->year % 100))
                            : put_digits(p, 4, (unsigned)civil->year);
    p = put_digits(p, 2, civil->month);
    p = put_digits(p, 2, civil->day);
    p = put_digits(p, 2, civil->hour);
    p = put_digits(p, 2, civil->minute);
    p = put_digits(p, 2, civil->second);
    *p++ = 'Z';
    der_put(builder, tag, bytes_of(text, (size_t)(p - text)));
}

void der_put_time(struct der_builder *builder, int64_t unix_s)
{
    /* RFC 5280 4.1.2.5: UTCTime through 2049; it has no form for years before 1950 */
    struct civil civil = civil_from(unix_s);
    if (civil.year < 1950 || civil.year > 9999) {
        builder->out.failed = true;
        return;
    }
    put_time(builder, &civil, civil.year <= 2049 ? DER_UTC_TIME : DER_GENERALIZED_TIME);
}

void der_put_generalized_time(struct der_builder *builder, int64_t unix_s)
{
    struct civil civil = civil_from(unix_s);
    if (civil.year < 0 || civil.year > 9999) {
        builder->out.failed = true;
        return;
    }
    put_time(builder, &civil, DER_GENERALIZED_TIME);
}

/* By repeated search: there are a handful. */
void der_put_set_of(struct der_builder *builder, const struct bytes elements[], size_t count)
{
    size_t last = count; /* none yet */

    for (size_t put = 0; put < count; put++) {
        size_t next = count;
        for (size_t i = 0; i < count; i++) {
            if (last != count) {
                int order = bytes_cmp(elements[i], elements[last]);
                if (order < 0 || (order == 0 && i <= last)) /* put already */
                    continue;
            }
            if (next == count || bytes_cmp(elements[i], elements[next]) < 0)
                next = i;
        }
        der_put_raw(builder, elements[next]);
        last = next;
    }
}

bool der_finish(const struct der_builder *builder, struct bytes *out)
{
    if (builder->out.failed || builder->depth != 0)
        return false;
    *out = writer_view(&builder->out);
    return true;
}
