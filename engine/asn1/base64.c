#include "asn1/base64.h"

enum { SKIP = 0x40, PAD = 0x41, BAD = 0xff, FOREIGN = 0xc0 };

/* What each character means: 0..63, or with a bit of FOREIGN something else. */
#define X BAD
static const uint8_t value_of[256] = {
    X,    X,  X,  X,  X,  X,  X,  X,  X,  SKIP, SKIP, X,  X,  SKIP, X,  X,  /* TAB LF CR */
    X,    X,  X,  X,  X,  X,  X,  X,  X,  X,    X,    X,  X,  X,    X,  X,  /* */
    SKIP, X,  X,  X,  X,  X,  X,  X,  X,  X,    X,    62, X,  X,    X,  63, /* SP + / */
    52,   53, 54, 55, 56, 57, 58, 59, 60, 61,   X,    X,  X,  PAD,  X,  X,  X,  0,  1,  2,  3,
    4,    5,  6,  7,  8,  9,  10, 11, 12, 13,   14,   15, 16, 17,   18, 19, 20, 21, 22, 23, 24,
    25,   X,  X,  X,  X,  X,  X,  26, 27, 28,   29,   30, 31, 32,   33, 34, 35, 36, 37, 38, 39,
    40,   41, 42, 43, 44, 45, 46, 47, 48, 49,   50,   51, X,  X,    X,  X,  X,  X,  X,  X,  X,
    X,    X,  X,  X,  X,  X,  X,  X,  X,  X,    X,    X,  X,  X,    X,  X,  X,  X,  X,  X,  X,
    X,    X,  X,  X,  X,  X,  X,  X,  X,  X,    X,    X,  X,  X,    X,  X,  X,  X,  X,  X,  X,
    X,    X,  X,  X,  X,  X,  X,  X,  X,  X,    X,    X,  X,  X,    X,  X,  X,  X,  X,  X,  X,
    X,    X,  X,  X,  X,  X,  X,  X,  X,  X,    X,    X,  X,  X,    X,  X,  X,  X,  X,  X,  X,
    X,    X,  X,  X,  X,  X,  X,  X,  X,  X,    X,    X,  X,  X,    X,  X,  X,  X,  X,  X,  X,
    X,    X,  X,  X,  X,  X,  X,  X,  X,  X,    X,    X,  X,  X,    X,  X,  X,  X,  X,
};
#undef X

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

bool base64_decode(struct bytes text, uint8_t *out, size_t cap, size_t *out_len)
{
    const uint8_t *p = text.ptr, *end = text.len > 0 ? text.ptr + text.len : text.ptr;
    uint8_t quad[4];
    size_t quad_len = 0; /* characters of the quad begun */
    size_t pad_len = 0;  /* '=' seen */
    size_t len = 0;

    while (p < end) {
        /* whole quads without whitespace between: nearly everything */
        while (quad_len == 0 && end - p >= 4 && cap - len >= 3) {
            uint32_t a = value_of[p[0]], b = value_of[p[1]], c = value_of[p[2]], d = value_of[p[3]];
            if (((a | b | c | d) & FOREIGN) != 0)
                break;
            uint32_t bits = a << 18 | b << 12 | c << 6 | d;
            out[len] = (uint8_t)(bits >> 16);
            out[len + 1] = (uint8_t)(bits >> 8);
            out[len + 2] = (uint8_t)bits;
            len += 3;
            p += 4;
        }
        if (p == end)
            break;
        uint8_t value = value_of[*p++];
        if (value == SKIP) /* RFC 8951 3 */
            continue;
        if (value == BAD) /* RFC 4648 3.3 */
            return false;
        if (value == PAD) {
            pad_len++;
            if (quad_len < 2 || quad_len + pad_len > 4)
                return false;
            continue;
        }
        if (pad_len != 0) /* nothing but whitespace behind the padding */
            return false;
        quad[quad_len++] = value;
        if (quad_len == 4) {
            if (cap - len < 3)
                return false;
            out[len++] = (uint8_t)(quad[0] << 2 | quad[1] >> 4);
            out[len++] = (uint8_t)(quad[1] << 4 | quad[2] >> 2);
            out[len++] = (uint8_t)(quad[2] << 6 | quad[3]);
            quad_len = 0;
        }
    }
    if (quad_len != 0) {
        /* RFC 4648 3.2: padding is not left out; 3.5: bits that reach no octet are zero */
        if (quad_len + pad_len != 4 || cap - len < quad_len - 1)
            return false;
        if (((quad_len == 2 ? quad[1] << 4 : quad[2] << 6) & 0xff) != 0)
            return false;
        out[len++] = (uint8_t)(quad[0] << 2 | quad[1] >> 4);
        if (quad_len == 3)
            out[len++] = (uint8_t)(quad[1] << 4 | quad[2] >> 2);
    }
    *out_len = len;
    return true;
}

size_t base64_encoded_len(size_t len, uint32_t wrap)
{
    size_t columns = len / 3 * 4 + (len % 3 != 0 ? 4 : 0);
    return wrap == 0 ? columns : columns + (columns + wrap - 1) / wrap;
}

static inline void encode_quad(uint32_t bits, uint8_t *out)
{
    out[0] = (uint8_t)alphabet[bits >> 18];
    out[1] = (uint8_t)alphabet[bits >> 12 & 63];
    out[2] = (uint8_t)alphabet[bits >> 6 & 63];
    out[3] = (uint8_t)alphabet[bits & 63];
}

/* Without line ends; returns how many characters. */
static size_t encode_run(const uint8_t *p, size_t len, uint8_t *out)
{
    uint8_t *start = out;

    for (; len >= 3; len -= 3, p += 3, out += 4)
        encode_quad((uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2], out);
    if (len > 0) {
        encode_quad((uint32_t)p[0] << 16 | (len == 2 ? (uint32_t)p[1] << 8 : 0), out);
        out[3] = '=';
        if (len == 1)
            out[2] = '=';
        out += 4;
    }
    return (size_t)(out - start);
}

size_t base64_encode(struct bytes data, uint32_t wrap, uint8_t *out)
{
    size_t written = 0, line_room = wrap;

    if (wrap == 0)
        return encode_run(data.ptr, data.len, out);
    if (wrap % 4 == 0) {
        while (data.len > 0) {
            size_t len = data.len < wrap / 4 * 3 ? data.len : wrap / 4 * 3;
            written += encode_run(data.ptr, len, out + written);
            out[written++] = '\n';
            data.ptr += len;
            data.len -= len;
        }
        return written;
    }
    while (data.len > 0) { /* a column count that splits quads */
        uint8_t quad[4];
        size_t len = data.len < 3 ? data.len : 3;
        encode_run(data.ptr, len, quad);
        data.ptr += len;
        data.len -= len;
        for (size_t i = 0; i < 4; i++) {
            out[written++] = quad[i];
            if (--line_room == 0 || (i == 3 && data.len == 0)) {
                out[written++] = '\n';
                line_room = wrap;
            }
        }
    }
    return written;
}
