#include "proto/proto.h"

/* One line per protocol; the order does not matter, since their paths do not overlap. */
static const struct proto *const registry[] = {
    &proto_est,
    &proto_cmp,
    &proto_crl,
};

bool proto_match(struct bytes method, struct bytes path, struct proto_route *out, enum err *out_err)
{
    for (size_t i = 0; i < sizeof(registry) / sizeof(registry[0]); i++)
        if (registry[i]->match(method, path, out, out_err))
            return true;
    return false;
}

bool proto_media_type_is(struct bytes content_type, const char *wanted)
{
    size_t len = strlen(wanted);

    if (content_type.len < len ||
        !bytes_eq_nocase(bytes_of(content_type.ptr, len), bytes_of_str(wanted)))
        return false;
    for (size_t i = len; i < content_type.len; i++) {
        if (content_type.ptr[i] == ';')
            return true;
        if (content_type.ptr[i] != ' ' && content_type.ptr[i] != '\t')
            return false;
    }
    return true;
}
