/* uri.h: PKCS#11 URIs (RFC 7512), strictly.
 *
 * Promise: accepts what RFC 7512 2.3 allows of the attributes below, each at most once, with
 *          percent-encoding decoded; anything else is refused with a sentence. Credentials in a URI
 *          (pin-source, pin-value) are refused: a URI is written to logs.
 * Threads: pure.
 * Limits:  the lengths in struct p11_uri.
 */
#ifndef CERTMILL_HSM_P11_URI_H
#define CERTMILL_HSM_P11_URI_H

#include "base/bytes.h"

enum p11_uri_type {
    P11_URI_TYPE_NONE,
    P11_URI_TYPE_PRIVATE,
    P11_URI_TYPE_PUBLIC,
    P11_URI_TYPE_CERT
};

struct p11_uri {
    /* token part; blank-padded fields of CK_TOKEN_INFO, here without the blanks */
    bool has_token, has_manufacturer, has_model, has_serial, has_slot_id;
    char token[33];
    char manufacturer[33];
    char model[17];
    char serial[17];
    uint64_t slot_id;
    /* object part */
    bool has_object, has_id;
    char object[128];
    uint8_t id[64];
    uint32_t id_len;
    enum p11_uri_type type;
};

/* On failure *out is untouched and *out_reason (may be NULL) is a static sentence. */
bool p11_uri_parse(const char *text, struct p11_uri *out, const char **out_reason) MUST_USE;
/* The characters that RFC 7512 pk11-pchar allows go as they are, all others as %XX; id always as
 * %XX.
 */
void p11_uri_put_text(struct writer *writer, const char *text);
void p11_uri_put_id(struct writer *writer, struct bytes id);

#endif
