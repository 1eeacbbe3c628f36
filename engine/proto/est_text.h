/* est_text.h: what EST says when it does not say a certificate, inside engine/proto.
 *
 * Promise: never fails; a body that does not fit the arena is replaced by static text.
 */
#ifndef CERTMILL_PROTO_EST_TEXT_H
#define CERTMILL_PROTO_EST_TEXT_H

#include "proto/proto.h"

/* One line: `code: sentence (detail) [request-id]`. detail and request_id may be NULL or empty;
 * what is not printable ASCII in them reads as '?'. */
struct bytes est_error_line(enum err err, const char *detail, const char *request_id,
                            struct arena *arena);

#endif
