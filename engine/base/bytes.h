/* bytes.h: bounded views, readers and writers over memory.
 *
 * Promise: nothing here reads or writes outside the given bounds; a failed get leaves the reader
 *          and the output untouched; a writer that ran out of room stays failed (sticky) and
 *          drops what follows, so one check at the end is enough.
 * Owner:   views never own; whoever made the memory keeps it alive.
 * Threads: none shared.
 * Units:   lengths in bytes; integers on the wire are big-endian.
 */
#ifndef CERTMILL_BASE_BYTES_H
#define CERTMILL_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"

/* A view, and also a reader: gets advance ptr and shrink len. {NULL,0} is the valid empty view. */
struct bytes {
    const uint8_t *ptr;
    size_t len;
};

static inline struct bytes bytes_of(const void *ptr, size_t len)
{
    return (struct bytes){(const uint8_t *)ptr, len};
}

static inline struct bytes bytes_of_str(const char *str)
{
    return bytes_of(str, strlen(str));
}

#define BYTES_LIT(lit) ((struct bytes){(const uint8_t *)("" lit), sizeof(lit) - 1})
#define BYTES_ARRAY(a) ((struct bytes){(const uint8_t *)(a), sizeof(a)})

bool bytes_eq(struct bytes a, struct bytes b);
/* ASCII case-insensitive. */
bool bytes_eq_nocase(struct bytes a, struct bytes b);
bool bytes_starts_with(struct bytes all, struct bytes prefix);
/* Total order: memcmp over the common part, then length. */
int bytes_cmp(struct bytes a, struct bytes b);

bool bytes_get_u8(struct bytes *reader, uint8_t *out) MUST_USE;
bool bytes_get_u16(struct bytes *reader, uint16_t *out) MUST_USE;
bool bytes_get_u32(struct bytes *reader, uint32_t *out) MUST_USE;
bool bytes_get_u64(struct bytes *reader, uint64_t *out) MUST_USE;
bool bytes_get(struct bytes *reader, size_t len, struct bytes *out) MUST_USE;
bool bytes_copy(struct bytes *reader, void *dst, size_t len) MUST_USE;
/* Unsigned decimal filling the whole view, no sign, no leading zeros unless "0"; fails above max. */
bool bytes_to_u64(struct bytes text, uint64_t max, uint64_t *out) MUST_USE;
/* The index of the first `byte`, or len when absent. */
size_t bytes_find(struct bytes all, uint8_t byte);

/* Appends to a fixed buffer. {0} is a valid writer of no room. */
struct writer {
    uint8_t *buf;
    size_t cap;
    size_t len;
    bool failed;
};

static inline struct writer writer_of(void *buf, size_t cap)
{
    return (struct writer){(uint8_t *)buf, cap, 0, false};
}

static inline struct bytes writer_view(const struct writer *writer)
{
    return bytes_of(writer->buf, writer->len);
}

/* Room for len bytes that the caller fills at once; NULL and sticky failure when there is none. */
uint8_t *writer_reserve(struct writer *writer, size_t len);
void writer_put(struct writer *writer, struct bytes data);
void writer_put_u8(struct writer *writer, uint8_t value);
void writer_put_u16(struct writer *writer, uint16_t value);
void writer_put_u32(struct writer *writer, uint32_t value);
void writer_put_u64(struct writer *writer, uint64_t value);
void writer_put_str(struct writer *writer, const char *str);
/* Decimal, no padding. */
void writer_put_dec(struct writer *writer, uint64_t value);
void writer_put_hex(struct writer *writer, struct bytes data);
void writer_printf(struct writer *writer, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Hex without separators; the length of hex must be 2 * data.len + 1 with the NUL. */
void bytes_to_hex(struct bytes data, char *out_hex);
/* Fails on odd length, other characters, or more than cap bytes. */
bool bytes_from_hex(struct bytes hex, uint8_t *out, size_t cap, size_t *out_len) MUST_USE;

static inline uint32_t load_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t load_be64(const uint8_t *p)
{
    return (uint64_t)load_be32(p) << 32 | load_be32(p + 4);
}

static inline void store_be32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static inline void store_be64(uint8_t *p, uint64_t v)
{
    store_be32(p, (uint32_t)(v >> 32));
    store_be32(p + 4, (uint32_t)v);
}

#endif
