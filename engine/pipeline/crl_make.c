#include "pipeline/crl_make.h"

#include <stdio.h>
#include <stdlib.h>

#include "asn1/crl.h"
#include "base/clock.h"
#include "base/log.h"
#include "ca/crl.h"

struct crl_facts {
    uint32_t issuer_id;
    uint32_t name_len;
    uint64_t entry_count;
    struct crl_record record;
    char name[CA_NAME_MAX];
};
static_assert(sizeof(struct crl_facts) <= sizeof(((struct store_job *)0)->facts), "facts fit");

/* --- blobs --- */

struct crl_blob *crl_blob_ref(struct crl_blob *blob)
{
    atomic_fetch_add_explicit(&blob->refs, 1, memory_order_relaxed);
    return blob;
}

void crl_blob_unref(struct crl_blob *blob)
{
    if (blob && atomic_fetch_sub_explicit(&blob->refs, 1, memory_order_acq_rel) == 1) {
        free(blob->mem);
        free(blob);
    }
}

/* Takes `mem` over, also on failure. */
static enum err blob_new(const struct rt_ca *ca, const struct crl_view *crl, uint8_t *mem,
                         struct crl_blob **out)
{
    struct crl_blob *blob = calloc(1, sizeof(*blob));
    if (!blob || !crl_number(crl, &blob->number)) {
        free(blob);
        free(mem);
        return blob ? ERR_BAD_CRL : ERR_NO_SPACE;
    }
    atomic_store(&blob->refs, 1);
    snprintf(blob->name, sizeof(blob->name), "%s", ca->name);
    blob->entry_count = crl->entry_count;
    blob->this_update_s = crl->this_update_s;
    blob->next_update_s = crl->next_update_s;
    blob->entries = crl->entries;
    blob->der = crl->der;
    blob->mem = mem;
    *out = blob;
    return ERR_OK;
}

/* Is this a full list that this CA signed? Also what has just been made is read back by it. */
static enum err check(const struct rt_ca *ca, struct bytes der, struct crl_view *out)
{
    enum err err = crl_decode(der, out);
    if (err != ERR_OK) {
        return err;
    }
    if (!bytes_eq(out->issuer, ca->cert.subject) || !out->has_next_update ||
        out->unknown_critical || out->sig_alg != ca->sig_alg) {
        return ERR_BAD_CRL;
    }
    struct verify_job job = {
        .alg = ca->sig_alg,
        .key = ca->key,
        .spki = &ca->cert.spki,
        .message = out->tbs,
        .signature = out->signature,
    };
    return verify_one(&job) == ERR_OK ? ERR_OK : ERR_SIGNATURE_WRONG;
}

enum err crl_make_load(struct crl_maker *maker, const struct rt_ca *ca, struct crl_blob **out_blob)
{
    struct crl_record record;
    struct bytes der;
    uint8_t *mem = NULL;
    enum err err = reader_begin(maker->reader);
    if (err != ERR_OK) {
        return err;
    }
    err = reader_crl(maker->reader, ca->issuer_id, &record, &der);
    if (err == ERR_OK) {
        mem = malloc(der.len);
        err = mem ? ERR_OK : ERR_NO_SPACE;
    }
    if (err == ERR_OK) {
        memcpy(mem, der.ptr, der.len);
        der.ptr = mem;
    }
    reader_end(maker->reader);
    if (err != ERR_OK) {
        return err;
    }
    struct crl_view crl;
    err = check(ca, der, &crl);
    if (err != ERR_OK) {
        log_warn("crl-stored-unusable", "ca=%s code=%s: another one is made", ca->name,
                 err_code(err));
        free(mem);
        return ERR_NOT_FOUND;
    }
    return blob_new(ca, &crl, mem, out_blob);
}

/* --- building --- */

struct filling {
    struct crl_builder *builder;
    const _Atomic bool *stop;
};

static bool add_entry(void *ctx, struct bytes serial, const struct revoked_record *record)
{
    const struct filling *filling = ctx;
    crl_add(filling->builder, serial, record->time_s, record->reason);
    return filling->builder->err == ERR_OK && !atomic_load(filling->stop);
}

/* From one snapshot: the number behind the last one that was committed, and all that is revoked. */
static enum err fill(struct crl_maker *maker, const struct rt_ca *ca, struct crl_builder *builder)
{
    struct crl_record last = {0};
    struct bytes der;
    enum err err = reader_begin(maker->reader);
    if (err != ERR_OK) {
        return err;
    }
    err = reader_crl(maker->reader, ca->issuer_id, &last, &der);
    if (err == ERR_OK || err == ERR_NOT_FOUND) {
        int64_t now_s = clock_wall_s();
        struct crl_input input = {
            .issuer = &ca->cert,
            .sig_alg = ca->sig_alg,
            .this_update_s = now_s,
            .next_update_s = now_s + ca->crl->lifetime_s,
            .number = last.number + 1,
        };
        crl_begin(builder, &input);
        struct filling filling = {builder, maker->stop};
        err = reader_revoked_each(maker->reader, ca->issuer_id, add_entry, &filling);
    }
    reader_end(maker->reader);
    if (err == ERR_OK && atomic_load(maker->stop)) {
        return ERR_STOPPING;
    }
    return err == ERR_OK ? builder->err : err;
}

/* --- signing and committing --- */

static enum err sign(struct crl_maker *maker, const struct rt_ca *ca, struct bytes tbs)
{
    struct crl_sign *sign = &maker->sign;
    size_t len = 0;
    enum err err = sign_input_build(ca->sig_alg, tbs, sign->input, sizeof(sign->input), &len);
    if (err != ERR_OK) {
        if (err == ERR_NO_SPACE) {
            log_error("crl-too-large",
                      "ca=%s bytes=%zu: a key of this kind signs lists of at most %d bytes; use an "
                      "EC or RSA key for CAs that revoke",
                      ca->name, tbs.len, SIGN_INPUT_MAX);
        }
        return err;
    }
    sign->input_len = (uint32_t)len;
    sign->key_index = ca->key_index;
    return maker->have_signed(maker->ctx) ? sign->err : ERR_STOPPING;
}

static enum err crl_apply(struct store_txn *txn, struct store_job *job)
{
    struct crl_facts facts;
    char text[96];
    memcpy(&facts, job->facts, sizeof(facts));
    enum err err =
        txn_crl_put(txn, facts.issuer_id, &facts.record, *(const struct bytes *)job->extra);
    if (err != ERR_OK) {
        return err;
    }
    int len = snprintf(text, sizeof(text), "number=%llu entries=%llu bytes=%u",
                       (unsigned long long)facts.record.number,
                       (unsigned long long)facts.entry_count, facts.record.der_len);
    struct journal_entry entry = {
        .kind = JOURNAL_CRL,
        .what = bytes_of(facts.name, facts.name_len),
        .text = bytes_of(text, (size_t)len),
    };
    return txn_journal(txn, &entry);
}

static enum err commit(struct crl_maker *maker, const struct rt_ca *ca, const struct crl_view *crl)
{
    struct store_job *job = &maker->job;
    struct crl_facts facts = {
        .issuer_id = ca->issuer_id,
        .entry_count = crl->entry_count,
        .record = {.version = STORE_SCHEMA_VERSION,
                   .der_len = (uint32_t)crl->der.len,
                   .this_update_s = crl->this_update_s,
                   .next_update_s = crl->next_update_s},
    };
    if (!crl_number(crl, &facts.record.number)) {
        return ERR_BAD_CRL;
    }
    size_t name_len = strlen(ca->name);
    facts.name_len = (uint32_t)(name_len < CA_NAME_MAX ? name_len : CA_NAME_MAX);
    memcpy(facts.name, ca->name, facts.name_len);
    struct bytes der = crl->der;
    *job = (struct store_job){.apply = crl_apply, .extra = &der, .facts_len = sizeof(facts)};
    memcpy(job->facts, &facts, sizeof(facts));
    return store_run(maker->store, job);
}

static enum err finish(struct crl_maker *maker, const struct rt_ca *ca, struct crl_builder *builder,
                       struct crl_blob **out_blob)
{
    struct bytes tbs, der;
    struct crl_view crl;
    enum err err = crl_finish_tbs(builder, &tbs);
    if (err == ERR_OK) {
        err = sign(maker, ca, tbs);
    }
    if (err == ERR_OK) {
        err =
            crl_assemble(builder, bytes_of(maker->sign.signature, maker->sign.signature_len), &der);
    }
    if (err == ERR_OK) {
        err = check(ca, der, &crl);
    }
    if (err == ERR_OK) {
        err = commit(maker, ca, &crl);
    }
    return err == ERR_OK ? blob_new(ca, &crl, crl_builder_take(builder), out_blob) : err;
}

static bool lists_the_same(const struct crl_builder *builder, const struct crl_blob *last)
{
    return last && last->entry_count == builder->entry_count &&
           bytes_eq(crl_builder_entries(builder), last->entries);
}

enum err crl_make(struct crl_maker *maker, const struct rt_ca *ca, const struct crl_blob *last,
                  bool unless_same, struct crl_blob **out_blob)
{
    struct crl_builder builder = {0};
    struct crl_blob *blob = NULL;
    enum err err = fill(maker, ca, &builder);
    if (err == ERR_OK && !(unless_same && lists_the_same(&builder, last))) {
        err = finish(maker, ca, &builder, &blob);
    }
    crl_builder_free(&builder);
    if (err == ERR_OK) {
        *out_blob = blob;
    }
    return err;
}
