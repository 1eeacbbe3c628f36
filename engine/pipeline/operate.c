#include "pipeline/operate.h"

#include <inttypes.h>

#include "asn1/crl.h"
#include "base/clock.h"
#include "base/log.h"
#include "factory/settle.h"

/* --- questions --- */

/* The value of key in a query; names and numbers alone, so that no escapes are needed. */
static struct bytes parameter(struct bytes query, const char *key)
{
    struct bytes wanted = bytes_of_str(key);
    while (query.len > 0) {
        size_t len = bytes_find(query, '&');
        struct bytes pair = bytes_of(query.ptr, len);
        size_t used = len < query.len ? len + 1 : len;
        query = bytes_of(query.ptr + used, query.len - used);
        if (bytes_starts_with(pair, wanted) && pair.len > wanted.len &&
            pair.ptr[wanted.len] == '=') {
            return bytes_of(pair.ptr + wanted.len + 1, pair.len - wanted.len - 1);
        }
    }
    return (struct bytes){0};
}

static uint16_t status_of(enum err err)
{
    switch (err_class_of(err)) {
    case ERR_CLASS_NONE:
        return 200;
    case ERR_CLASS_PEER:
        return err == ERR_NOT_FOUND ? 404 : 400;
    case ERR_CLASS_REFUSAL:
        return 409;
    case ERR_CLASS_ENV:
        return 503;
    case ERR_CLASS_BUG:
        break;
    }
    return 500;
}

static uint16_t fail(struct writer *out, enum err err)
{
    writer_printf(out, "{\"error\":\"%s\",\"sentence\":\"%s\"}\n", err_code(err),
                  err_sentence(err));
    return status_of(err);
}

/* --- revoking --- */

struct wish {
    struct settle_item item;
    uint8_t serial[SERIAL_LEN];
};

static bool read_act(struct bytes query, struct settle_item *out)
{
    struct bytes act = parameter(query, "act"), reason = parameter(query, "reason");
    char name[32] = "";
    if (reason.len >= sizeof(name)) {
        return false;
    }
    if (reason.len > 0) {
        memcpy(name, reason.ptr, reason.len);
    }
    if (bytes_eq(act, BYTES_LIT("release"))) {
        out->act = SETTLE_RELEASE;
        return reason.len == 0;
    }
    out->act = SETTLE_REVOKE;
    if (bytes_eq(act, BYTES_LIT("hold"))) {
        out->reason = REASON_HOLD;
        return reason.len == 0;
    }
    return bytes_eq(act, BYTES_LIT("revoke")) && crl_reason_from_text(name, &out->reason) &&
           out->reason != REASON_HOLD;
}

static bool read_wish(struct bytes query, struct wish *out)
{
    size_t len = 0;
    return bytes_to_u64(parameter(query, "cert"), UINT64_MAX, &out->item.cert_log) &&
           bytes_from_hex(parameter(query, "serial"), out->serial, sizeof(out->serial), &len) &&
           len == sizeof(out->serial) && read_act(query, &out->item);
}

/* Is it the certificate that the operator saw? */
static enum err check_serial(struct store *store, const struct wish *wish)
{
    struct store_reader *reader = NULL;
    struct cert_view cert;
    enum err err = store_reader_new(store, &reader);
    if (err != ERR_OK) {
        return err;
    }
    err = reader_begin(reader);
    if (err == ERR_OK) {
        err = reader_cert(reader, wish->item.cert_log, &cert);
    }
    if (err == ERR_NOT_FOUND ||
        (err == ERR_OK && !bytes_eq(BYTES_ARRAY(cert.record->serial), BYTES_ARRAY(wish->serial)))) {
        err = ERR_CERT_UNKNOWN;
    }
    reader_end(reader);
    store_reader_free(reader);
    return err;
}

static enum err settle_one(struct store *store, struct settle_item *item, const char *who)
{
    static struct store_job job; /* large; the main thread's */
    struct settle_set set = {item, 1};
    struct settle_facts facts = {.protocol = PROTOCOL_CLI};
    size_t who_len = strlen(who);
    facts.who_len = (uint8_t)(who_len < sizeof(facts.who) ? who_len : sizeof(facts.who));
    memcpy(facts.who, who, facts.who_len);
    memset(facts.request_id, '0', sizeof(facts.request_id));
    job = (struct store_job){.apply = settle_apply, .extra = &set, .facts_len = sizeof(facts)};
    memcpy(job.facts, &facts, sizeof(facts));
    enum err err = store_run(store, &job);
    return err == ERR_OK ? item->err : err;
}

static uint16_t revoke(struct appliance *appliance, const struct operate_request *request,
                       struct writer *out)
{
    struct store *store = appliance_shared(appliance)->store;
    struct wish wish = {0};
    if (!read_wish(request->query, &wish)) {
        return fail(out, ERR_BAD_REQUEST);
    }
    enum err err = check_serial(store, &wish);
    if (err == ERR_OK) {
        err = settle_one(store, &wish.item, request->who);
    }
    if (err != ERR_OK) {
        return fail(out, err);
    }
    log_info("settled", "cert=%" PRIu64 " act=%s who=%s", wish.item.cert_log,
             wish.item.act == SETTLE_RELEASE   ? "release"
             : wish.item.reason == REASON_HOLD ? "hold"
                                               : "revoke",
             request->who);
    writer_put_str(out, "{\"done\":true}\n");
    return 200;
}

/* --- revocation lists --- */

static uint16_t publish(struct appliance *appliance, const struct operate_request *request,
                        struct writer *out)
{
    const struct shared *shared = appliance_shared(appliance);
    struct bytes ca = parameter(request->query, "ca");
    uint64_t ticket = 0;
    enum err err = crl_publisher_ask(shared->crl, ca, &ticket);
    if (err != ERR_OK) {
        return fail(out, err);
    }
    struct journal_entry entry = {
        .kind = JOURNAL_OPERATOR,
        .protocol = PROTOCOL_CLI,
        .who = bytes_of_str(request->who),
        .what = ca,
        .text = BYTES_LIT("asked for a revocation list"),
    };
    if (store_journal(shared->store, &entry) != ERR_OK) {
        log_error("journal", "that a list was asked for could not be recorded");
    }
    writer_printf(out, "{\"ticket\":%" PRIu64 "}\n", ticket);
    return 202;
}

static uint16_t show(struct appliance *appliance, struct writer *out)
{
    struct crl_status all[CAS_MAX];
    uint32_t count = crl_publisher_status(appliance_shared(appliance)->crl, all);
    writer_put_str(out, "{\"crls\":[");
    for (uint32_t i = 0; i < count; i++) {
        const struct crl_status *crl = &all[i];
        writer_printf(out,
                      "%s{\"ca\":\"%s\",\"signs\":%s,\"scheduled\":%s,\"number\":%" PRIu64
                      ",\"entries\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"this_update_s\":%" PRId64
                      ",\"next_update_s\":%" PRId64 ",\"made\":%" PRIu64 ",\"failures\":%" PRIu64
                      ",\"asked\":%" PRIu64 ",\"answered\":%" PRIu64 ",\"last_error\":",
                      i ? "," : "", crl->name, crl->signs ? "true" : "false",
                      crl->scheduled ? "true" : "false", crl->number, crl->entry_count,
                      crl->der_len, crl->this_update_s, crl->next_update_s, crl->made,
                      crl->failures, crl->asked, crl->answered);
        if (crl->last_err == ERR_OK) {
            writer_put_str(out, "null}");
        } else {
            writer_printf(out, "\"%s\"}", err_code(crl->last_err));
        }
    }
    writer_put_str(out, "]}\n");
    return 200;
}

uint16_t operate(struct appliance *appliance, const struct operate_request *request,
                 struct writer *out)
{
    if (!request->post && bytes_eq(request->path, BYTES_LIT("/crl"))) {
        return show(appliance, out);
    }
    if (request->post && bytes_eq(request->path, BYTES_LIT("/crl/publish"))) {
        return publish(appliance, request, out);
    }
    if (request->post && bytes_eq(request->path, BYTES_LIT("/revoke"))) {
        return revoke(appliance, request, out);
    }
    return 0;
}

/* --- metrics --- */

static void put_metric(struct writer *out, const struct crl_status all[], uint32_t count,
                       const char *name, const char *kind, const char *help,
                       int64_t (*value)(const struct crl_status *crl))
{
    writer_printf(out, "# HELP certmill_%s %s\n# TYPE certmill_%s %s\n", name, help, name, kind);
    for (uint32_t i = 0; i < count; i++) {
        writer_printf(out, "certmill_%s{ca=\"%s\"} %" PRId64 "\n", name, all[i].name,
                      value(&all[i]));
    }
}

static int64_t number_of(const struct crl_status *crl)
{
    return (int64_t)crl->number;
}

static int64_t age_of(const struct crl_status *crl)
{
    return crl->number == 0 ? 0 : clock_wall_s() - crl->this_update_s;
}

static int64_t left_of(const struct crl_status *crl)
{
    return crl->number == 0 ? 0 : crl->next_update_s - clock_wall_s();
}

static int64_t entries_of(const struct crl_status *crl)
{
    return (int64_t)crl->entry_count;
}

static int64_t bytes_of_crl(const struct crl_status *crl)
{
    return (int64_t)crl->der_len;
}

static int64_t made_of(const struct crl_status *crl)
{
    return (int64_t)crl->made;
}

static int64_t failures_of(const struct crl_status *crl)
{
    return (int64_t)crl->failures;
}

void operate_metrics(const struct appliance *appliance, struct writer *out)
{
    struct crl_status all[CAS_MAX];
    uint32_t count = crl_publisher_status(appliance_shared(appliance)->crl, all);
    static const struct {
        const char *name, *kind, *help;
        int64_t (*value)(const struct crl_status *crl);
    } rows[] = {
        {"crl_number", "gauge", "Number of the revocation list served; 0: none yet", number_of},
        {"crl_age_seconds", "gauge", "Time since its thisUpdate", age_of},
        {"crl_left_seconds", "gauge", "Time until its nextUpdate; negative: it is over", left_of},
        {"crl_entries", "gauge", "Entries in it", entries_of},
        {"crl_bytes", "gauge", "Its size", bytes_of_crl},
        {"crl_published_total", "counter", "Lists made since start", made_of},
        {"crl_failures_total", "counter", "Attempts to make one that failed", failures_of},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        put_metric(out, all, count, rows[i].name, rows[i].kind, rows[i].help, rows[i].value);
    }
}
