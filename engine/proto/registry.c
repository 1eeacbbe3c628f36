#include "proto/proto.h"

/* One line per protocol; the order does not matter, since their paths do not overlap. */
static const struct proto *const registry[] = {
    &proto_est,
    &proto_crl,
};

bool proto_match(struct bytes method, struct bytes path, struct proto_route *out, enum err *out_err)
{
    for (size_t i = 0; i < sizeof(registry) / sizeof(registry[0]); i++)
        if (registry[i]->match(method, path, out, out_err))
            return true;
    return false;
}
