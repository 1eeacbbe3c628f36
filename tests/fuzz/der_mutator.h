/* der_mutator.h: a libFuzzer mutator that changes one element of a DER tree and mends the lengths
 * around it, so that inputs stay well formed outside the change.
 *
 * Promise: the result has at most max_size octets. Include it in one fuzz_*.c to define
 *          LLVMFuzzerCustomMutator; every fourth mutation is libFuzzer's own, of the raw octets.
 */
#ifndef CERTMILL_FUZZ_DER_MUTATOR_H
#define CERTMILL_FUZZ_DER_MUTATOR_H

#include <string.h>

#include "asn1/der.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed);

enum { MUTATE_DEPTH_MAX = 12, MUTATE_SIZE_MAX = 16384 };

static uint32_t mutate_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Element number `wanted` of a sequence of elements, or the last one there is. */
static bool mutate_pick(struct bytes list, uint32_t wanted, struct bytes *out_element)
{
    struct bytes contents;
    uint8_t tag;
    bool found = false;

    for (uint32_t i = 0; i <= wanted && list.len > 0; i++) {
        if (!der_get_any(&list, &tag, &contents, out_element))
            break;
        found = true;
    }
    return found;
}

/* Where elements may lie inside an element: in constructed ones, OCTET STRINGs and BIT STRINGs. */
static struct bytes mutate_inside(struct bytes element)
{
    struct bytes contents = {0};
    uint8_t tag = 0;

    if (!der_get_any(&element, &tag, &contents, NULL))
        return (struct bytes){0};
    if ((tag & 0x20) != 0 || tag == DER_OCTET_STRING)
        return contents;
    if (tag == DER_BIT_STRING && contents.len > 0)
        return bytes_of(contents.ptr + 1, contents.len - 1);
    return (struct bytes){0};
}

/* One changed copy of an element: other contents, another tag or form of length, gone, twice, or
 * with a small neighbour. */
static size_t mutate_element(struct bytes element, uint8_t *out, size_t cap, uint32_t *state)
{
    static uint8_t scratch[MUTATE_SIZE_MAX];
    static const uint8_t neighbour[] = {0x05, 0x00, 0x30, 0x00, 0x02, 0x01, 0x01, 0x01, 0x01, 0xff};
    struct writer writer = writer_of(out, cap);
    struct bytes rest = element, contents = {0};
    uint8_t tag = 0;

    if (!der_get_any(&rest, &tag, &contents, NULL))
        return 0;
    switch (mutate_random(state) % 8) {
    case 0: /* gone */
        return 0;
    case 1: /* twice */
        writer_put(&writer, element);
        writer_put(&writer, element);
        break;
    case 2:
        writer_put(&writer, element);
        writer_put(&writer, bytes_of(neighbour + mutate_random(state) % 8, 2));
        break;
    case 3:
        writer_put(&writer, element);
        if (writer.len > 0)
            out[0] ^= (uint8_t)(1u << mutate_random(state) % 8);
        break;
    case 4: /* a length in one octet too many, or none (X.690 10.1, 8.1.3.6) */
        writer_put_u8(&writer, tag);
        if (mutate_random(state) % 4 == 0) {
            writer_put_u8(&writer, 0x80);
        } else if (contents.len < 0x100) {
            writer_put_u8(&writer, contents.len < 0x80 ? 0x81 : 0x82);
            if (contents.len >= 0x80)
                writer_put_u8(&writer, 0);
            writer_put_u8(&writer, (uint8_t)contents.len);
        } else {
            writer_put_u8(&writer, 0x83);
            writer_put_u8(&writer, 0);
            writer_put_u16(&writer, (uint16_t)contents.len);
        }
        writer_put(&writer, contents);
        break;
    default:
        if (contents.len > 0)
            memcpy(scratch, contents.ptr, contents.len);
        size_t len = LLVMFuzzerMutate(scratch, contents.len, contents.len + 16);
        struct der_builder builder = der_builder_of(out, cap);
        der_put(&builder, tag, bytes_of(scratch, len));
        writer = builder.out;
        break;
    }
    return writer.failed ? 0 : writer.len;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned int seed)
{
    static uint8_t current[2 * MUTATE_SIZE_MAX + 64], wrapped[2 * MUTATE_SIZE_MAX + 64];
    struct bytes path[MUTATE_DEPTH_MAX];
    size_t depth = 0;
    uint32_t state = seed;

    if (size > MUTATE_SIZE_MAX - 16 || mutate_random(&state) % 4 == 0)
        return LLVMFuzzerMutate(data, size, max_size);
    for (struct bytes list = bytes_of(data, size); depth < MUTATE_DEPTH_MAX;) {
        if (!mutate_pick(list, mutate_random(&state) % 6, &path[depth]))
            break;
        list = mutate_inside(path[depth++]);
        if (mutate_random(&state) % 8 == 0)
            break;
    }
    if (depth == 0)
        return LLVMFuzzerMutate(data, size, max_size);

    size_t len = mutate_element(path[depth - 1], current, sizeof(current), &state);
    for (size_t level = depth - 1; level > 0; level--) {
        struct bytes outer = path[level - 1], contents = {0}, rest = outer;
        const struct bytes *inner = &path[level];
        uint8_t tag = 0;
        if (!der_get_any(&rest, &tag, &contents, NULL))
            return size;
        size_t before = (size_t)(inner->ptr - contents.ptr);
        struct der_builder builder = der_builder_of(wrapped, sizeof(wrapped));
        der_open(&builder, tag);
        writer_put(&builder.out, bytes_of(contents.ptr, before));
        writer_put(&builder.out, bytes_of(current, len));
        writer_put(&builder.out,
                   bytes_of(inner->ptr + inner->len, contents.len - before - inner->len));
        der_close(&builder);
        if (!der_finish(&builder, &rest))
            return size;
        memcpy(current, rest.ptr, rest.len);
        len = rest.len;
    }
    if (len > max_size)
        return size;
    memcpy(data, current, len);
    return len;
}

#endif
