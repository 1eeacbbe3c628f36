/* What an appliance says of its tokens and of the signer processes in front of them. */
#include "admin/admin_internal.h"
#include "base/clock.h"

static const char *const SIGNER_STATES[] = {"down", "starting", "up", "failed"};
static const char *const BREAKERS[] = {"closed", "half-open", "open"};

/* Service times in the metrics: steps of two from 33 us to 17 s. */
enum { SERVICE_POWER_FIRST = 15, SERVICE_POWER_LAST = 34 };

/* --- metrics --- */

static void put_head(struct writer *out, const char *name, const char *kind, const char *help)
{
    writer_printf(out, "# HELP certmill_%s %s\n# TYPE certmill_%s %s\n", name, help, name, kind);
}

static void put_signers(const struct admin_view *view, struct writer *out)
{
    struct hsm_signer_status signers[SIGNERS_MAX];
    uint32_t count = hsm_status(view->hsm, signers);
    static const struct {
        const char *name, *kind, *help;
    } rows[] = {
        {"signer_up", "gauge", "1 when the signer process serves"},
        {"signer_breaker_open", "gauge", "1 while a signer is given no work"},
        {"signer_breaker_state", "gauge", "0 closed, 1 half open (one job may try), 2 open"},
        {"signer_jobs_in_flight", "gauge", "Jobs in a signer"},
        {"signer_signatures_total", "counter", "Signatures made"},
        {"signer_errors_total", "counter", "Failed token calls"},
        {"signer_restarts_total", "counter", "Restarts of a signer process"},
        {"signer_batches_total", "counter", "Batches taken by workers"},
    };
    for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
        writer_printf(out, "# HELP certmill_%s %s\n# TYPE certmill_%s %s\n", rows[row].name,
                      rows[row].help, rows[row].name, rows[row].kind);
        for (uint32_t i = 0; i < count; i++) {
            const struct hsm_signer_status *signer = &signers[i];
            const uint64_t values[] = {signer->state == HSM_SIGNER_UP,
                                       signer->breaker_open,
                                       signer->breaker,
                                       signer->in_flight,
                                       signer->signed_total,
                                       signer->errors_total,
                                       signer->restarts,
                                       signer->batches_total};
            writer_printf(out, "certmill_%s{signer=\"%u\",token=\"%s\"} %llu\n", rows[row].name, i,
                          signer->token, (unsigned long long)values[row]);
        }
    }
}

static void put_token_numbers(const struct hsm_token_status tokens[], uint32_t count,
                              struct writer *out)
{
    static const struct {
        const char *name, *kind, *help;
    } rows[] = {
        {"token_jobs_waiting", "gauge", "Accepted jobs that no signer has yet"},
        {"token_jobs_in_flight", "gauge", "Jobs with the signers of a token"},
        {"token_signers", "gauge", "Signer processes of a token"},
        {"token_signers_up", "gauge", "Those that serve"},
        {"token_breakers_open", "gauge", "Those that serve and are given no work"},
        {"token_signatures_total", "counter", "Signatures made by a token"},
        {"token_deadlines_passed_total", "counter", "Jobs not done by a token in their time"},
        {"token_wrong_signatures_total", "counter", "Signatures that did not verify: discarded"},
        {"token_logins_total", "counter", "C_Login calls"},
    };
    for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
        put_head(out, rows[row].name, rows[row].kind, rows[row].help);
        for (uint32_t i = 0; i < count; i++) {
            const struct hsm_token_status *token = &tokens[i];
            const uint64_t values[] = {
                token->waiting,       token->in_flight,     token->signers,
                token->signers_up,    token->breakers_open, token->signed_total,
                token->expired_total, token->wrong_total,   token->logins};
            writer_printf(out, "certmill_%s{token=\"%s\"} %llu\n", rows[row].name, token->name,
                          (unsigned long long)values[row]);
        }
    }
}

static void put_token_errors(const struct hsm_token_status tokens[], uint32_t count,
                             struct writer *out)
{
    put_head(out, "token_errors_total", "counter", "Failed token calls by what is done about them");
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t class = 1; class < HSM_ERROR_CLASSES; class ++) {
            writer_printf(out, "certmill_token_errors_total{token=\"%s\",class=\"%s\"} %llu\n",
                          tokens[i].name, hsm_error_class_name(class),
                          (unsigned long long)tokens[i].errors[class]);
        }
    }
}

static uint64_t batches_of(const struct hsm_token_status *token)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < HSM_BATCH_BUCKETS; i++) {
        total += token->batches[i];
    }
    return total;
}

static void put_token_batches(const struct hsm_token_status tokens[], uint32_t count,
                              struct writer *out)
{
    static const char name[] = "certmill_token_batch_jobs";
    put_head(out, "token_batch_jobs", "histogram", "Jobs that a worker took at once");
    for (uint32_t i = 0; i < count; i++) {
        const struct hsm_token_status *token = &tokens[i];
        uint64_t below = 0;
        for (uint32_t k = 0; k < HSM_BATCH_BUCKETS; k++) {
            below += token->batches[k];
            writer_printf(out, "%s_bucket{token=\"%s\",le=\"%u\"} %llu\n", name, token->name,
                          1u << k, (unsigned long long)below);
        }
        writer_printf(out,
                      "%s_bucket{token=\"%s\",le=\"+Inf\"} %llu\n%s_sum{token=\"%s\"} %llu\n"
                      "%s_count{token=\"%s\"} %llu\n",
                      name, token->name, (unsigned long long)below, name, token->name,
                      (unsigned long long)token->batch_jobs, name, token->name,
                      (unsigned long long)below);
    }
}

static void put_token_service(const struct admin_view *view, const struct hsm_token_status tokens[],
                              uint32_t count, struct writer *out)
{
    static const char name[] = "certmill_token_service_seconds";
    put_head(out, "token_service_seconds", "histogram", "Time in the token for one signature");
    for (uint32_t i = 0; i < count; i++) {
        const struct hist *hist = hsm_service_hist(view->hsm, i);
        for (unsigned power = SERVICE_POWER_FIRST; power <= SERVICE_POWER_LAST; power++) {
            writer_printf(out, "%s_bucket{token=\"%s\",le=\"%.9f\"} %llu\n", name, tokens[i].name,
                          (double)(1ull << power) / (double)NS_PER_S,
                          (unsigned long long)hist_below_power(hist, power));
        }
        unsigned long long all = read_u64(&hist->count);
        writer_printf(out,
                      "%s_bucket{token=\"%s\",le=\"+Inf\"} %llu\n%s_sum{token=\"%s\"} %.9f\n"
                      "%s_count{token=\"%s\"} %llu\n",
                      name, tokens[i].name, all, name, tokens[i].name,
                      (double)read_u64(&hist->sum) / (double)NS_PER_S, name, tokens[i].name, all);
    }
}

void admin_put_hsm_metrics(const struct admin_view *view, struct writer *out)
{
    struct hsm_token_status tokens[TOKENS_MAX];
    uint32_t count = hsm_token_status(view->hsm, tokens);
    put_signers(view, out);
    put_token_numbers(tokens, count, out);
    put_token_errors(tokens, count, out);
    put_token_batches(tokens, count, out);
    put_token_service(view, tokens, count, out);
}

/* --- JSON --- */

static void put_json_signers(const struct admin_view *view, struct writer *out)
{
    struct hsm_signer_status signers[SIGNERS_MAX];
    uint32_t count = hsm_status(view->hsm, signers);
    writer_put_str(out, "\"signers\":[");
    for (uint32_t i = 0; i < count; i++) {
        const struct hsm_signer_status *signer = &signers[i];
        writer_printf(out, "%s{\"token\":", i ? "," : "");
        admin_put_json_text(out, signer->token);
        writer_printf(
            out,
            ",\"pid\":%d,\"state\":\"%s\",\"breaker_open\":%s,\"breaker\":\"%s\",\"sessions\":%u,"
            "\"in_flight\":%u,\"signed\":%llu,\"errors\":%llu,\"restarts\":%llu,"
            "\"batches\":%llu,\"last_error\":",
            signer->pid, SIGNER_STATES[signer->state], signer->breaker_open ? "true" : "false",
            BREAKERS[signer->breaker], signer->sessions, signer->in_flight,
            (unsigned long long)signer->signed_total, (unsigned long long)signer->errors_total,
            (unsigned long long)signer->restarts, (unsigned long long)signer->batches_total);
        admin_put_json_text(out, signer->last_error);
        writer_put_u8(out, '}');
    }
    writer_put_str(out, "],");
}

static void put_json_token(const struct hsm_token_status *token, const struct hist *service,
                           struct writer *out)
{
    uint64_t batches = batches_of(token);
    writer_put_str(out, "{\"token\":");
    admin_put_json_text(out, token->name);
    writer_printf(
        out,
        ",\"signers\":%u,\"signers_up\":%u,\"breakers_open\":%u,\"waiting\":%u,"
        "\"in_flight\":%u,\"signed\":%llu,\"restarts\":%llu,"
        "\"deadlines_passed\":%llu,\"wrong_signatures\":%llu,\"logins\":%llu,\"batches\":%llu,"
        "\"batch_mean\":%.2f,",
        token->signers, token->signers_up, token->breakers_open, token->waiting, token->in_flight,
        (unsigned long long)token->signed_total, (unsigned long long)token->restarts,
        (unsigned long long)token->expired_total, (unsigned long long)token->wrong_total,
        (unsigned long long)token->logins, (unsigned long long)batches,
        batches == 0 ? 0.0 : (double)token->batch_jobs / (double)batches);
    writer_printf(out, "\"service_ms\":{\"p50\":%.3f,\"p99\":%.3f,\"p999\":%.3f},\"errors\":{",
                  (double)hist_quantile(service, 0.5) / (double)NS_PER_MS,
                  (double)hist_quantile(service, 0.99) / (double)NS_PER_MS,
                  (double)hist_quantile(service, 0.999) / (double)NS_PER_MS);
    for (uint32_t class = 1; class < HSM_ERROR_CLASSES; class ++) {
        writer_printf(out, "%s\"%s\":%llu", class == 1 ? "" : ",", hsm_error_class_name(class),
                      (unsigned long long)token->errors[class]);
    }
    writer_put_str(out, "}}");
}

void admin_put_hsm_json(const struct admin_view *view, struct writer *out)
{
    struct hsm_token_status tokens[TOKENS_MAX];
    uint32_t count = hsm_token_status(view->hsm, tokens);
    writer_put_str(out, "\"tokens\":[");
    for (uint32_t i = 0; i < count; i++) {
        writer_put_str(out, i ? "," : "");
        put_json_token(&tokens[i], hsm_service_hist(view->hsm, i), out);
    }
    writer_put_str(out, "],");
    put_json_signers(view, out);
}
