#include "base/bytes.h"

#include <stdarg.h>
#include <stdio.h>

/* memcmp, memcpy and pointer arithmetic on NULL are undefined even for no bytes, and {NULL,0} is a
 * valid view: every function here that could meet it looks at the length first. */

bool bytes_eq(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

bool bytes_eq_nocase(struct bytes a, struct bytes b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (lower(a.ptr[i]) != lower(b.ptr[i]))
            return false;
    return true;
}

bool bytes_starts_with(struct bytes all, struct bytes prefix)
{
    return all.len >= prefix.len && bytes_eq(bytes_of(all.ptr, prefix.len), prefix);
}

int bytes_cmp(struct bytes a, struct bytes b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common == 0 ? 0 : memcmp(a.ptr, b.ptr, common);
    if (order != 0)
        return order;
    return (a.len > b.len) - (a.len < b.len);
}

static void advance(struct bytes *reader, size_t len)
{
    if (len == 0)
        return;
    reader->ptr += len;
    reader->len -= len;
}

bool bytes_get_u8(struct bytes *reader, uint8_t *out)
{
    if (reader->len < 1)
        return false;
    *out = reader->ptr[0];
    advance(reader, 1);
    return true;
}

bool bytes_get_u16(struct bytes *reader, uint16_t *out)
{
    if (reader->len < 2)
        return false;
    *out = (uint16_t)(reader->ptr[0] << 8 | reader->ptr[1]);
    advance(reader, 2);
    return true;
}

bool bytes_get_u32(struct bytes *reader, uint32_t *out)
{
    if (reader->len < 4)
        return false;
    *out = load_be32(reader->ptr);
    advance(reader, 4);
    return true;
}

bool bytes_get_u64(struct bytes *reader, uint64_t *out)
{
    if (reader->len < 8)
        return false;
    *out = load_be64(reader->ptr);
    advance(reader, 8);
    return true;
}

bool bytes_get(struct bytes *reader, size_t len, struct bytes *out)
{
    if (reader->len < len)
        return false;
    struct bytes got = bytes_of(reader->ptr, len);
    advance(reader, len);
    *out = got; /* last: out may be the reader itself */
    return true;
}

bool bytes_copy(struct bytes *reader, void *dst, size_t len)
{
    if (reader->len < len)
        return false;
    if (len != 0)
        memcpy(dst, reader->ptr, len);
    advance(reader, len);
    return true;
}

bool bytes_to_u64(struct bytes text, uint64_t max, uint64_t *out)
{
    if (text.len == 0 || (text.len > 1 && text.ptr[0] == '0'))
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (c < '0' || c > '9')
            return false;
        uint64_t digit = (uint64_t)(c - '0');
        /* value * 10 + digit <= max, asked without overflow */
        if (digit > max || value > (max - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

size_t bytes_find(struct bytes all, uint8_t byte)
{
    if (all.len == 0)
        return 0;
    const uint8_t *hit = memchr(all.ptr, byte, all.len);
    return hit == NULL ? all.len : (size_t)(hit - all.ptr);
}

uint8_t *writer_reserve(struct writer *writer, size_t len)
{
    if (writer->failed || len > writer->cap - writer->len) {
        writer->failed = true;
        return NULL;
    }
    if (writer->buf == NULL)
        return NULL; /* nothing asked of a writer of no room */
    uint8_t *at = writer->buf + writer->len;
    writer->len += len;
    return at;
}

void writer_put(struct writer *writer, struct bytes data)
{
    uint8_t *at = writer_reserve(writer, data.len);
    if (at != NULL && data.len != 0)
        memcpy(at, data.ptr, data.len);
}

void writer_put_u8(struct writer *writer, uint8_t value)
{
    uint8_t *at = writer_reserve(writer, 1);
    if (at != NULL)
        at[0] = value;
}

void writer_put_u16(struct writer *writer, uint16_t value)
{
    uint8_t *at = writer_reserve(writer, 2);
    if (at == NULL)
        return;
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

void writer_put_u32(struct writer *writer, uint32_t value)
{
    uint8_t *at = writer_reserve(writer, 4);
    if (at != NULL)
        store_be32(at, value);
}

void writer_put_u64(struct writer *writer, uint64_t value)
{
    uint8_t *at = writer_reserve(writer, 8);
    if (at != NULL)
        store_be64(at, value);
}

void writer_put_str(struct writer *writer, const char *str)
{
    writer_put(writer, bytes_of_str(str));
}

void writer_put_dec(struct writer *writer, uint64_t value)
{
    uint8_t digits[20]; /* UINT64_MAX has 20 */
    size_t at = sizeof(digits);
    do {
        digits[--at] = (uint8_t)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    writer_put(writer, bytes_of(digits + at, sizeof(digits) - at));
}

static const char hex_digits[] = "0123456789abcdef";

static void hex_encode(struct bytes data, uint8_t *out)
{
    for (size_t i = 0; i < data.len; i++) {
        out[2 * i] = (uint8_t)hex_digits[data.ptr[i] >> 4];
        out[2 * i + 1] = (uint8_t)hex_digits[data.ptr[i] & 15];
    }
}

void writer_put_hex(struct writer *writer, struct bytes data)
{
    /* 2 * len must not wrap before it is compared */
    uint8_t *at = writer_reserve(writer, data.len > SIZE_MAX / 2 ? SIZE_MAX : 2 * data.len);
    if (at != NULL)
        hex_encode(data, at);
}

/* vsnprintf ends with a NUL, so the text needs one byte of room more than it has. */
void writer_printf(struct writer *writer, const char *fmt, ...)
{
    if (writer->failed)
        return;
    size_t room = writer->cap - writer->len;
    char *at = room == 0 ? NULL : (char *)writer->buf + writer->len;
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(at, room, fmt, args);
    va_end(args);
    if (len < 0 || (len > 0 && (size_t)len >= room)) {
        writer->failed = true;
        return;
    }
    writer->len += (size_t)len;
}

void bytes_to_hex(struct bytes data, char *out_hex)
{
    hex_encode(data, (uint8_t *)out_hex);
    out_hex[2 * data.len] = '\0';
}

/* 0..15, or 16 for what is no hex digit */
static unsigned hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10u : 16u;
}

bool bytes_from_hex(struct bytes hex, uint8_t *out, size_t cap, size_t *out_len)
{
    if (hex.len % 2 != 0 || hex.len / 2 > cap)
        return false;
    for (size_t i = 0; i < hex.len; i++) /* first, so that failure leaves out untouched */
        if (hex_value(hex.ptr[i]) > 15)
            return false;
    for (size_t i = 0; i < hex.len / 2; i++)
        out[i] = (uint8_t)(hex_value(hex.ptr[2 * i]) << 4 | hex_value(hex.ptr[2 * i + 1]));
    *out_len = hex.len / 2;
    return true;
}
