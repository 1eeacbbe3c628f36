/* der.h: strict DER reader and builder (X.690 sections 8, 10, 11).
 *
 * Promise: the reader accepts definite, minimal lengths and low tag numbers (< 31) alone, never
 *          runs past its view, and on failure leaves reader and outputs untouched. The builder
 *          writes into a fixed buffer, has a sticky error and no heap.
 * Owner:   views point into the caller's bytes.
 * Limits:  DER_DEPTH_MAX nested elements in the builder; lengths below 2^24.
 */
#ifndef CERTMILL_ASN1_DER_H
#define CERTMILL_ASN1_DER_H

#include "base/bytes.h"
#include "limits.h"

/* Identifier octet as on the wire (class | constructed | number). */
enum der_tag {
    DER_BOOLEAN = 0x01,
    DER_INTEGER = 0x02,
    DER_BIT_STRING = 0x03,
    DER_OCTET_STRING = 0x04,
    DER_NULL = 0x05,
    DER_OID = 0x06,
    DER_ENUMERATED = 0x0a,
    DER_UTF8_STRING = 0x0c,
    DER_PRINTABLE_STRING = 0x13,
    DER_T61_STRING = 0x14,
    DER_IA5_STRING = 0x16,
    DER_UTC_TIME = 0x17,
    DER_GENERALIZED_TIME = 0x18,
    DER_BMP_STRING = 0x1e,
    DER_SEQUENCE = 0x30,
    DER_SET = 0x31,
};
#define DER_CONTEXT(n)             ((uint8_t)(0x80 | (n))) /* [n] IMPLICIT primitive */
#define DER_CONTEXT_CONSTRUCTED(n) ((uint8_t)(0xa0 | (n))) /* [n] EXPLICIT or constructed */

/* --- reader: struct bytes is the cursor --- */

/* The next identifier octet, or 0 at the end. */
uint8_t der_peek(struct bytes reader);
/* Any element: its identifier, contents, and (may be NULL) the whole TLV. */
bool der_get_any(struct bytes *reader, uint8_t *out_tag, struct bytes *out_contents,
                 struct bytes *out_element) MUST_USE;
/* An element with this identifier. */
bool der_get(struct bytes *reader, uint8_t tag, struct bytes *out_contents) MUST_USE;
bool der_get_element(struct bytes *reader, uint8_t tag, struct bytes *out_element) MUST_USE;
/* Present: reads it and sets *out_present; absent: leaves the reader, still true. */
bool der_get_optional(struct bytes *reader, uint8_t tag, struct bytes *out_contents,
                      bool *out_present) MUST_USE;
/* BOOLEAN with FF or 00 alone (X.690 11.1). */
bool der_get_bool(struct bytes *reader, bool *out) MUST_USE;
/* Non-negative INTEGER, minimal, that fits 64 bits. */
bool der_get_u64(struct bytes *reader, uint64_t *out) MUST_USE;
/* Minimal INTEGER of either sign that fits 64 bits. */
bool der_get_i64(struct bytes *reader, int64_t *out) MUST_USE;
/* Minimal INTEGER of any size and sign; contents octets. */
bool der_get_integer(struct bytes *reader, struct bytes *out_contents) MUST_USE;
bool der_get_oid(struct bytes *reader, struct bytes *out_oid) MUST_USE; /* well-formed arcs */
/* BIT STRING without unused bits. */
bool der_get_bits(struct bytes *reader, struct bytes *out) MUST_USE;
/* BIT STRING of named bits (X.690 11.2.2: no trailing zero bits), bit 0 = most significant. At most
 * 32 bits, returned with named bit n as 1u << n. */
bool der_get_named_bits(struct bytes *reader, uint32_t *out) MUST_USE;
/* UTCTime or GeneralizedTime as RFC 5280 4.1.2.5 profiles them (Z, seconds, no fraction); seconds
 * since 1970. UTCTime years 1950..2049; `99991231235959Z` is representable. */
bool der_get_time(struct bytes *reader, int64_t *out_unix_s) MUST_USE;
/* GeneralizedTime alone, fraction allowed and dropped only if `allow_fraction`. */
bool der_get_generalized_time(struct bytes *reader, bool allow_fraction,
                              int64_t *out_unix_s) MUST_USE;
/* Walks the whole encoding and checks that it is DER down to depth DER_DEPTH_MAX. */
bool der_is_strict(struct bytes all);

/* --- builder --- */

struct der_builder {
    struct writer out;
    uint32_t depth;
    size_t open[DER_DEPTH_MAX]; /* where the contents of each open element start */
};

struct der_builder der_builder_of(void *buf, size_t cap);
/* Opens an element of unknown length; der_close writes its length (contents are moved up). */
void der_open(struct der_builder *builder, uint8_t tag);
void der_close(struct der_builder *builder);
void der_put(struct der_builder *builder, uint8_t tag, struct bytes contents);
void der_put_raw(struct der_builder *builder, struct bytes element); /* already DER */
void der_put_bool(struct der_builder *builder, bool value);
void der_put_u64(struct der_builder *builder, uint8_t tag, uint64_t value);
void der_put_i64(struct der_builder *builder, int64_t value); /* INTEGER of either sign */
/* A non-negative INTEGER from big-endian magnitude: leading zeros dropped, sign octet added. */
void der_put_unsigned(struct der_builder *builder, struct bytes magnitude);
void der_put_bits(struct der_builder *builder, struct bytes bits); /* BIT STRING, no unused bits */
void der_put_named_bits(struct der_builder *builder, uint32_t bits);
void der_put_null(struct der_builder *builder);
/* Elements by rising encoding, as SET OF wants them (X.690 11.6); open the SET first. */
void der_put_set_of(struct der_builder *builder, const struct bytes elements[], size_t count);
/* UTCTime through 2049, GeneralizedTime after (RFC 5280 4.1.2.5). */
void der_put_time(struct der_builder *builder, int64_t unix_s);
void der_put_generalized_time(struct der_builder *builder, int64_t unix_s);
/* The whole encoding; false when anything failed or an element is still open. */
bool der_finish(const struct der_builder *builder, struct bytes *out) MUST_USE;
/* Bytes that identifier and length octets take before `len` bytes of contents. */
size_t der_header_len(size_t len);
/* Identifier and length octets alone; returns how many, 0 past the builder's largest length. */
size_t der_header_write(uint8_t tag, size_t len, uint8_t out[8]);

/* Unix seconds of 9999-12-31T23:59:59Z: "no well-defined expiration" (RFC 5280 4.1.2.5). */
#define DER_TIME_NO_EXPIRY 253402300799ll

#endif
