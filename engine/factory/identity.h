/* identity.h: the rule that finds the device id in a request.
 *
 * Promise: an id that is handed out passes device_id_is_valid; two different values of one source
 *          never give the same id.
 * Owner:   the id is a copy.
 * Threads: pure.
 * Errors:  ERR_NO_DEVICE_ID (the source is absent or empty), ERR_BAD_DEVICE_ID.
 * Limits:  DEVICE_ID_MAX (limits.h).
 */
#ifndef CERTMILL_FACTORY_IDENTITY_H
#define CERTMILL_FACTORY_IDENTITY_H

#include <stdbool.h>

#include "base/bytes.h"
#include "limits.h"

enum identity_source {
    IDENTITY_SUBJECT_CN,            /* subject-cn */
    IDENTITY_SUBJECT_SERIAL_NUMBER, /* subject-serial-number */
    IDENTITY_SAN_DNS,               /* san-dns: the first dNSName */
    IDENTITY_SAN_URI,               /* san-uri: the first uniformResourceIdentifier */
    IDENTITY_SAN_HARDWARE_MODULE,   /* san-hardware-module: hwSerialNum (RFC 4108, 5) */
    IDENTITY_SOURCE_COUNT
};

struct identity {
    size_t len;
    char id[DEVICE_ID_MAX];
};

bool identity_source_from_name(const char *name, enum identity_source *out) MUST_USE;
/* Never NULL. */
const char *identity_source_name(enum identity_source source);

/* `subject`: whole Name; `san`: whole GeneralNames SEQUENCE, may be empty. A hwSerialNum is octets:
 * one that reads as a device id is taken as it is, any other (an EUI-64, say, or one that itself
 * starts with "0x") as "0x" and its hex. */
enum err identity_find(enum identity_source source, struct bytes subject, struct bytes san,
                       struct identity *out) MUST_USE;

#endif
