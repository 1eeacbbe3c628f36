/* base64.h: RFC 4648 section 4, as EST needs it (RFC 8951 3).
 *
 * Promise: the decoder skips CR, LF, SP and TAB anywhere and refuses every other foreign byte,
 *          missing or misplaced padding and non-zero trailing bits; the encoder pads and wraps.
 */
#ifndef CERTMILL_ASN1_BASE64_H
#define CERTMILL_ASN1_BASE64_H

#include "base/bytes.h"

/* Room that decoding len characters may need. */
static inline size_t base64_decoded_bound(size_t len)
{
    return len / 4 * 3 + 3;
}
bool base64_decode(struct bytes text, uint8_t *out, size_t cap, size_t *out_len) MUST_USE;

/* wrap: columns per line (0: one line, no line end; else each line ends in LF). */
size_t base64_encoded_len(size_t len, uint32_t wrap);
/* out must have base64_encoded_len bytes; returns how many were written. */
size_t base64_encode(struct bytes data, uint32_t wrap, uint8_t *out);

#endif
