/* test_der_make.h: DER put together in the notation of its nesting, right or wrong as a test wants
 * it.
 *
 * Promise: every element lives until der_make_reset, which each test calls first.
 */
#ifndef CERTMILL_TEST_DER_MAKE_H
#define CERTMILL_TEST_DER_MAKE_H

#include "asn1/der.h"

static uint8_t der_make_pool[1 << 20];
static size_t der_make_used;

static inline void der_make_reset(void)
{
    der_make_used = 0;
}

static inline struct bytes der_make(uint8_t tag, const struct bytes parts[], size_t count)
{
    struct der_builder builder =
        der_builder_of(der_make_pool + der_make_used, sizeof(der_make_pool) - der_make_used);
    struct bytes out = {0};

    der_open(&builder, tag);
    for (size_t i = 0; i < count; i++)
        der_put_raw(&builder, parts[i]);
    der_close(&builder);
    assert_true(der_finish(&builder, &out));
    der_make_used += out.len;
    return out;
}

/* The same octets with another first one. */
static inline struct bytes der_retag(uint8_t tag, struct bytes element)
{
    struct bytes contents = {0};
    uint8_t old;

    assert_true(der_get_any(&element, &old, &contents, NULL));
    return der_make(tag, &contents, 1);
}

/* Octets one after the other, without a tag: what must not be there, behind what may. */
static inline struct bytes der_join(struct bytes a, struct bytes b)
{
    uint8_t *start = der_make_pool + der_make_used;

    assert_true(a.len + b.len <= sizeof(der_make_pool) - der_make_used);
    if (a.len > 0)
        memcpy(start, a.ptr, a.len);
    if (b.len > 0)
        memcpy(start + a.len, b.ptr, b.len);
    der_make_used += a.len + b.len;
    return bytes_of(start, a.len + b.len);
}

#define B(...) bytes_of((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))
#define TLV(tag, ...)                                                                              \
    der_make(tag, (const struct bytes[]){__VA_ARGS__},                                             \
             sizeof((const struct bytes[]){__VA_ARGS__}) / sizeof(struct bytes))
#define SEQ(...)      TLV(0x30, __VA_ARGS__)
#define CTX(n, ...)   TLV(0xa0 | (n), __VA_ARGS__)
#define NONE          ((struct bytes){0})
#define EMPTY_SEQ     SEQ(NONE)
#define INT(n)        TLV(0x02, B(n)) /* 0..127 */
#define OID(...)      TLV(0x06, B(__VA_ARGS__))
#define UTF8(text)    TLV(0x0c, bytes_of_str(text))
#define BITS(...)     TLV(0x03, B(0x00, __VA_ARGS__))
#define OCTETS(text)  TLV(0x04, bytes_of_str(text))
#define GENTIME(text) TLV(0x18, bytes_of_str(text))
#define UTCTIME(text) TLV(0x17, bytes_of_str(text))
#define A_NULL        TLV(0x05, NONE)
/* CN=text */
#define NAME(text) SEQ(TLV(0x31, SEQ(OID(0x55, 0x04, 0x03), UTF8(text))))

#define assert_same(a, b) assert_true(bytes_eq(a, b))

#endif
