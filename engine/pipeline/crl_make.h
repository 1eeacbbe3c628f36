/* crl_make.h: one revocation list from the store's snapshot to its commit, inside engine/pipeline.
 *
 * Promise: *out_blob is committed, verified, and one higher in number than the last; or nothing
 *          has changed but *err.
 * Owner:   the blob has one reference, the caller's.
 * Threads: the publisher's.
 */
#ifndef CERTMILL_PIPELINE_CRL_MAKE_H
#define CERTMILL_PIPELINE_CRL_MAKE_H

#include "pipeline/crl_publisher.h"

struct crl_maker {
    struct store *store;
    struct store_reader *reader;
    struct store_job job;
    struct crl_sign sign;
    /* Has `sign` signed; false: the publisher stops. */
    bool (*have_signed)(void *ctx);
    void *ctx;
    const _Atomic bool *stop;
};

/* What the store has of this CA's; ERR_NOT_FOUND when nothing, or nothing that this CA signed. */
enum err crl_make_load(struct crl_maker *maker, const struct rt_ca *ca,
                       struct crl_blob **out_blob) MUST_USE;
/* last: the one before, may be NULL. unless_same: *out_blob is NULL when it lists the same. */
enum err crl_make(struct crl_maker *maker, const struct rt_ca *ca, const struct crl_blob *last,
                  bool unless_same, struct crl_blob **out_blob) MUST_USE;

#endif
