/* A core's part in revocation lists: signing them (core 0), holding them, answering with them. */
#include <stdio.h>

#include "base/log.h"
#include "pipeline/pipeline.h"

void crl_core_sign(struct core *core, const struct crl_sign *sign)
{
    struct sign_job job = {
        .tag = CRL_SIGN_TAG,
        .key_index = sign->key_index,
        .input = bytes_of(sign->input, sign->input_len),
        .deadline_ns = core->now_ns + SIGN_DEADLINE_MS * NS_PER_MS,
    };
    enum err err = ERR_OK;
    if (hsm_submit(core->shared->hsm, core->index, &job, 1, &err) == 1) {
        metric_add(core->metrics, METRIC_SIGN_JOBS, 1);
        return;
    }
    crl_publisher_signed(core->shared->crl, err == ERR_OK ? ERR_OVERLOADED : err,
                         (struct bytes){0});
}

bool crl_core_signed(struct core *core, const struct sign_result *result)
{
    if (result->tag != CRL_SIGN_TAG) {
        return false;
    }
    crl_publisher_signed(core->shared->crl, result->err,
                         bytes_of(result->signature, result->signature_len));
    return true;
}

/* Who reads that slowly gets no more of it: else every generation would stay in memory. */
static void end_old(void *ctx, struct net_request *request)
{
    const struct crl_blob *newest = ctx;
    const struct exchange *exchange = (const struct exchange *)(void *)request;
    const struct crl_blob *old = exchange->crl;
    if (old && strcmp(old->name, newest->name) == 0 &&
        old->number + CRL_GENERATIONS_MAX <= newest->number) {
        log_warn("crl-reader-slow", "request=%s: its list %llu is %d generations old",
                 exchange->request_id, (unsigned long long)old->number, CRL_GENERATIONS_MAX);
        net_abort(request);
    }
}

void crl_core_take(struct core *core, uint32_t seat, struct crl_blob *blob)
{
    crl_blob_unref(core->crls[seat]);
    core->crls[seat] = blob;
    if (blob) {
        net_each_request(core->net, end_old, blob);
    }
}

void crl_core_release(struct core *core)
{
    for (uint32_t i = 0; i < CAS_MAX; i++) {
        crl_blob_unref(core->crls[i]);
        core->crls[i] = NULL;
    }
}

static bool ca_exists(const struct snapshot *snapshot, struct bytes name)
{
    for (uint32_t i = 0; i < snapshot->ca_count; i++) {
        if (snapshot->cas[i].crl && bytes_eq(bytes_of_str(snapshot->cas[i].name), name)) {
            return true;
        }
    }
    return false;
}

const struct crl_blob *crl_hold(struct core *core, struct exchange *exchange, struct bytes ca)
{
    for (uint32_t i = 0; i < CAS_MAX && !exchange->crl; i++) {
        if (core->crls[i] && bytes_eq(bytes_of_str(core->crls[i]->name), ca)) {
            exchange->crl = crl_blob_ref(core->crls[i]);
        }
    }
    return exchange->crl;
}

enum verdict crl_serve(struct core *core, struct exchange *exchange)
{
    struct bytes name = exchange->route.ca;
    if (!crl_hold(core, exchange, name)) {
        bool exists = ca_exists(exchange->snapshot, name);
        exchange->own.err = exists ? ERR_NO_CRL : ERR_NOT_FOUND;
        snprintf(exchange->own.detail, sizeof(exchange->own.detail), "%s",
                 exists ? "" : "no CA of this name signs revocation lists");
        return VERDICT_REFUSE;
    }
    int64_t left_s = exchange->crl->next_update_s - core->now_s;
    exchange->message = (struct proto_message){
        .action = ACTION_CRL,
        .crl_der = exchange->crl->der,
        .crl_left_s = left_s > 0 ? (uint64_t)left_s : 0,
    };
    exchange->own.decoded = true;
    return VERDICT_ENCODE;
}
