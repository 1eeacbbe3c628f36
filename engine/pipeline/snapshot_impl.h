/* snapshot_impl.h: between the files that compile a snapshot. */
#ifndef CERTMILL_PIPELINE_SNAPSHOT_IMPL_H
#define CERTMILL_PIPELINE_SNAPSHOT_IMPL_H

#include "pipeline/snapshot.h"

/* What compile needs to know while it runs. */
struct compile {
    struct snapshot *snapshot;
    const struct config *config;
    struct store *store; /* NULL: --check, nothing is written */
    char *detail;        /* CONFIG_ERROR_MAX */
};

/* Says what is wrong; ERR_CONFIG. */
enum err snapshot_fail(struct compile *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The whole file, NUL-terminated; caller frees. NULL: the detail says why. */
char *snapshot_read_file(struct compile *c, const char *name, size_t *out_len);
/* Calls fn for each certificate of a PEM file. */
typedef enum err (*cert_fn)(struct compile *c, void *ctx, struct bytes der);
enum err snapshot_each_cert(struct compile *c, const char *name, cert_fn fn, void *ctx) MUST_USE;

/* CMP's part (snapshot_cmp.c). snapshot_cmp_free is legal on a half compiled snapshot. */
enum err snapshot_cmp_station(struct compile *c, const struct config_station *from,
                              struct rt_station *station) MUST_USE;
enum err snapshot_cmp_signer(struct compile *c, uint32_t index) MUST_USE;
enum err snapshot_cmp_line(struct compile *c, const struct profile_config *settings,
                           struct rt_line *line) MUST_USE;
void snapshot_cmp_free(struct snapshot *snapshot);

#endif
