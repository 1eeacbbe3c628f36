/* What an appliance says of itself: Prometheus text, JSON, health. */
#include <stdlib.h>

#include "admin/admin_internal.h"
#include "base/clock.h"

static uint64_t sum(const struct admin_view *view, enum metric metric)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < view->core_count; i++) {
        total += read_u64(&view->metrics[i]->value[metric]);
    }
    return total;
}

/* --- metrics --- */

static void put_hist(struct writer *out, const char *name, const char *help,
                     const struct hist *hist)
{
    static const double quantiles[] = {0.5, 0.9, 0.99, 0.999};
    writer_printf(out, "# HELP certmill_%s_seconds %s\n# TYPE certmill_%s_seconds summary\n", name,
                  help, name);
    for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
        writer_printf(out, "certmill_%s_seconds{quantile=\"%g\"} %.9f\n", name, quantiles[i],
                      (double)hist_quantile(hist, quantiles[i]) / (double)NS_PER_S);
    }
    writer_printf(out, "certmill_%s_seconds_sum %.9f\ncertmill_%s_seconds_count %llu\n", name,
                  (double)read_u64(&hist->sum) / (double)NS_PER_S, name,
                  (unsigned long long)read_u64(&hist->count));
}

static void put_core_hist(const struct admin_view *view, struct writer *out, const char *name,
                          const char *help, size_t offset)
{
    struct hist *all = calloc(1, sizeof(*all));
    if (!all) {
        return;
    }
    for (uint32_t i = 0; i < view->core_count; i++) {
        hist_merge(all,
                   (const struct hist *)(const void *)((const char *)view->metrics[i] + offset));
    }
    put_hist(out, name, help, all);
    free(all);
}

static void put_counters(const struct admin_view *view, struct writer *out)
{
#define X(suffix, name, kind, help)                                                                \
    writer_printf(out, "# HELP certmill_%s %s\n# TYPE certmill_%s %s\n", name, help, name, #kind); \
    for (uint32_t i = 0; i < view->core_count; i++) {                                              \
        writer_printf(out, "certmill_%s{core=\"%u\"} %lld\n", name, i,                             \
                      (long long)read_u64(&view->metrics[i]->value[METRIC_##suffix]));             \
    }
    METRIC_TABLE(X)
#undef X
    writer_put_str(out, "# HELP certmill_refusals_total Requests refused, by code\n"
                        "# TYPE certmill_refusals_total counter\n");
    for (uint32_t err = 1; err < ERR_COUNT; err++) {
        uint64_t total = 0;
        for (uint32_t i = 0; i < view->core_count; i++) {
            total += read_u64(&view->metrics[i]->refused[err]);
        }
        if (total > 0) {
            writer_printf(out, "certmill_refusals_total{code=\"%s\"} %llu\n",
                          err_code((enum err)err), (unsigned long long)total);
        }
    }
}

static void put_store(const struct admin_view *view, struct writer *out)
{
    struct store_stats stats;
    store_stats(view->store, &stats);
    const struct {
        const char *name, *kind, *help;
        uint64_t value;
    } rows[] = {
        {"store_certificates", "gauge", "Certificates in the store", stats.cert_count},
        {"store_devices", "gauge", "Devices in the store", stats.device_count},
        {"store_journal_records", "gauge", "Journal records", stats.journal_count},
        {"store_map_bytes", "gauge", "Size the store may grow to", stats.map_size},
        {"store_used_bytes", "gauge", "Size used", stats.map_used},
        {"store_commits_total", "counter", "Durable commits", stats.commits},
        {"store_committed_jobs_total", "counter", "Jobs in them", stats.committed_jobs},
        {"store_failing", "gauge", "1 while the last commit failed", stats.failing},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        writer_printf(out, "# HELP certmill_%s %s\n# TYPE certmill_%s %s\ncertmill_%s %llu\n",
                      rows[i].name, rows[i].help, rows[i].name, rows[i].kind, rows[i].name,
                      (unsigned long long)rows[i].value);
    }
    put_hist(out, "store_commit", "One durable commit", store_commit_hist(view->store));
}

void admin_write_metrics(const struct admin_view *view, struct writer *out)
{
    writer_printf(out,
                  "# HELP certmill_info Version\n# TYPE certmill_info gauge\n"
                  "certmill_info{version=\"%s\"} 1\n"
                  "# HELP certmill_uptime_seconds Time since start\n"
                  "# TYPE certmill_uptime_seconds gauge\ncertmill_uptime_seconds %.3f\n",
                  view->version, (double)(clock_mono_ns() - view->started_ns) / (double)NS_PER_S);
    put_counters(view, out);
    put_core_hist(view, out, "request", "Request to answer", offsetof(struct metrics, request_ns));
    put_core_hist(view, out, "sign", "Submit to signature", offsetof(struct metrics, sign_ns));
    put_core_hist(view, out, "commit", "Staged to durable", offsetof(struct metrics, commit_ns));
    admin_put_hsm_metrics(view, out);
    put_store(view, out);
    if (view->operate.metrics) {
        view->operate.metrics(view->operate.ctx, out);
    }
}

/* --- JSON --- */

void admin_put_json_text(struct writer *out, const char *text)
{
    writer_put_u8(out, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') {
            writer_put_u8(out, '\\');
            writer_put_u8(out, (uint8_t)*text);
        } else if ((unsigned char)*text < 0x20) {
            writer_printf(out, "\\u%04x", *text);
        } else {
            writer_put_u8(out, (uint8_t)*text);
        }
    }
    writer_put_u8(out, '"');
}

static void put_json_cores(const struct admin_view *view, struct writer *out)
{
    writer_put_str(out, "\"cores\":[");
    for (uint32_t i = 0; i < view->core_count; i++) {
        const struct metrics *metrics = view->metrics[i];
        writer_printf(out,
                      "%s{\"core\":%u,\"connections\":%lld,\"requests\":%llu,\"verified\":%llu,"
                      "\"verified_for_others\":%llu}",
                      i ? "," : "", i,
                      (long long)read_u64(&metrics->value[METRIC_CONNECTIONS_OPEN]),
                      (unsigned long long)read_u64(&metrics->value[METRIC_REQUESTS]),
                      (unsigned long long)read_u64(&metrics->value[METRIC_VERIFY_LOCAL]),
                      (unsigned long long)read_u64(&metrics->value[METRIC_VERIFY_LENT]));
    }
    writer_put_str(out, "],");
}

static void put_json_refusals(const struct admin_view *view, struct writer *out)
{
    const char *comma = "";
    writer_put_str(out, "\"refusals\":{");
    for (uint32_t err = 1; err < ERR_COUNT; err++) {
        uint64_t total = 0;
        for (uint32_t i = 0; i < view->core_count; i++) {
            total += read_u64(&view->metrics[i]->refused[err]);
        }
        if (total > 0) {
            writer_printf(out, "%s\"%s\":%llu", comma, err_code((enum err)err),
                          (unsigned long long)total);
            comma = ",";
        }
    }
    writer_put_str(out, "},");
}

void admin_write_status(const struct admin_view *view, struct writer *out)
{
    struct store_stats stats;
    store_stats(view->store, &stats);
    char reason[256];
    struct writer why = writer_of(reason, sizeof(reason) - 1);
    bool healthy = admin_is_healthy(view, &why);
    while (why.len > 0 && reason[why.len - 1] == '\n') {
        why.len--;
    }
    reason[why.len] = 0;
    writer_put_str(out, "{\"version\":");
    admin_put_json_text(out, view->version);
    writer_printf(out, ",\"uptime_s\":%.1f,\"healthy\":%s,\"health\":",
                  (double)(clock_mono_ns() - view->started_ns) / (double)NS_PER_S,
                  healthy ? "true" : "false");
    admin_put_json_text(out, reason);
    writer_printf(out, ",\"connections\":%lld,\"requests\":%llu,\"issued\":%llu,\"repeated\":%llu,",
                  (long long)sum(view, METRIC_CONNECTIONS_OPEN),
                  (unsigned long long)sum(view, METRIC_REQUESTS),
                  (unsigned long long)sum(view, METRIC_ISSUED),
                  (unsigned long long)sum(view, METRIC_REPEATED));
    put_json_refusals(view, out);
    put_json_cores(view, out);
    admin_put_hsm_json(view, out);
    writer_printf(out,
                  "\"store\":{\"certificates\":%llu,\"devices\":%llu,\"journal\":%llu,"
                  "\"used_bytes\":%llu,\"map_bytes\":%llu,\"commits\":%llu,"
                  "\"last_commit_ms\":%.3f,\"failing\":%s}}\n",
                  (unsigned long long)stats.cert_count, (unsigned long long)stats.device_count,
                  (unsigned long long)stats.journal_count, (unsigned long long)stats.map_used,
                  (unsigned long long)stats.map_size, (unsigned long long)stats.commits,
                  (double)stats.last_commit_ns / (double)NS_PER_MS,
                  stats.failing ? "true" : "false");
}

void admin_write_reload(uint32_t generation, const char *detail, struct writer *out)
{
    writer_printf(out, "{\"reloaded\":%s,\"generation\":%u,\"error\":", detail ? "false" : "true",
                  generation);
    if (detail) {
        admin_put_json_text(out, detail);
    } else {
        writer_put_str(out, "null");
    }
    writer_put_str(out, "}\n");
}

/* --- health --- */

bool admin_is_healthy(const struct admin_view *view, struct writer *out_reason)
{
    if (view->draining && *view->draining) {
        writer_put_str(out_reason, "stopping\n");
        return false;
    }
    struct store_stats stats;
    store_stats(view->store, &stats);
    if (stats.failing) {
        writer_put_str(out_reason, "the store cannot write: check disk space\n");
        return false;
    }
    struct hsm_signer_status signers[SIGNERS_MAX];
    uint32_t count = hsm_status(view->hsm, signers);
    for (uint32_t i = 0; i < count; i++) {
        if (signers[i].state == HSM_SIGNER_UP && !signers[i].breaker_open) {
            writer_put_str(out_reason, "ok\n");
            return true;
        }
    }
    writer_put_str(out_reason, "no signer serves\n");
    return false;
}
