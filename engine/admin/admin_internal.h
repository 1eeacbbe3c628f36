/* admin_internal.h: inside engine/admin: parts of the texts that admin_text.c puts together. */
#ifndef CERTMILL_ADMIN_ADMIN_INTERNAL_H
#define CERTMILL_ADMIN_ADMIN_INTERNAL_H

#include "admin/admin.h"

static inline uint64_t read_u64(const _Atomic uint64_t *value)
{
    return atomic_load_explicit(value, memory_order_relaxed);
}

/* A JSON string with its quotes. */
void admin_put_json_text(struct writer *out, const char *text);

/* --- admin_hsm.c: signers and tokens --- */
void admin_put_hsm_metrics(const struct admin_view *view, struct writer *out);
/* "tokens":[...],"signers":[...], */
void admin_put_hsm_json(const struct admin_view *view, struct writer *out);

#endif
