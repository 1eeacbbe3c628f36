/* certmill-bench est: one run against an EST server. */
#include <stdio.h>
#include <stdlib.h>

#include "asn1/base64.h"
#include "asn1/cms.h"
#include "bench/bench.h"

enum { CACERTS_MAX = 65536, ANSWER_DER_MAX = 16384, ANSWER_MAX = 32768, ISSUERS_MAX = 16 };

static void take(void *ctx, struct bench_work *work, uint32_t post, uint32_t step,
                 struct bytes body, struct bench_taken *out)
{
    (void)ctx;
    (void)step;
    uint8_t der[ANSWER_DER_MAX];
    size_t len = 0, count = 0;
    struct bytes certs[2];
    out->wrong = 1;
    if (!base64_decode(body, der, sizeof(der), &len)) {
        snprintf(out->error, sizeof(out->error), "the answer is not base64");
    } else if (cms_certs_only_decode(bytes_of(der, len), certs, 2, &count) != ERR_OK ||
               count != 1) {
        snprintf(out->error, sizeof(out->error),
                 "the answer is not one certificate in a certs-only message");
    } else if (bench_check_cert(&work->items[work->posts[post].first], certs[0], out->error)) {
        out->wrong = 0;
        out->good = 1;
    }
}

static const struct bench_protocol EST = {.take = take};

static bool get_cacerts(const struct bench_options *options, SSL_CTX *ctx, uint8_t *out, size_t cap,
                        size_t *out_len)
{
    char request[512], *buf = malloc(CACERTS_MAX);
    int len = snprintf(request, sizeof(request),
                       "GET %s/cacerts HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
                       options->path, options->host);
    size_t got =
        buf ? bench_ask(options, ctx, bytes_of(request, (size_t)len), buf, CACERTS_MAX) : 0;
    const char *end =
        got > 12 && memcmp(buf + 9, "200", 3) == 0 ? memmem(buf, got, "\r\n\r\n", 4) : NULL;
    bool good =
        end && base64_decode(bytes_of(end + 4, got - (size_t)(end + 4 - buf)), out, cap, out_len);
    free(buf);
    return good;
}

static bool load(struct bench_report *report, struct bench_work *work, SSL_CTX *ctx)
{
    static uint8_t cacerts[CACERTS_MAX];
    const struct bench_options *options = &report->options;
    struct bytes certs[ISSUERS_MAX];
    size_t len = 0, count = 0;
    if (!bench_generate(options, work)) {
        return false;
    }
    if (!get_cacerts(options, ctx, cacerts, sizeof(cacerts), &len) ||
        cms_certs_only_decode(bytes_of(cacerts, len), certs, ISSUERS_MAX, &count) != ERR_OK) {
        fprintf(stderr,
                "certmill-bench: no cacerts from %s:%u%s: is the server up, and --ca its "
                "trust anchor?\n",
                options->host, options->port, options->path);
        return false;
    }
    if (!bench_measure(report, work, ctx)) {
        return false;
    }
    if (!options->quiet) {
        fprintf(stderr, "verifying every signature\n");
    }
    report->bad_signatures = bench_verify_all(work, bench_find_issuer(work, certs, count), 2);
    return true;
}

bool bench_est_run(struct bench_report *report)
{
    struct bench_work work = {.protocol = &EST, .answer_max = ANSWER_MAX};
    SSL_CTX *ctx = bench_tls(&report->options);
    bool good = (report->floor.verify_us > 0 ||
                 bench_floor_measure(&report->floor, report->options.requests)) &&
                ctx && bench_work_init(&work, &report->options, 1) && load(report, &work, ctx);
    SSL_CTX_free(ctx);
    bench_work_free(&work);
    return good;
}

int bench_est(int argc, char **argv)
{
    struct bench_report *report = calloc(1, sizeof(*report));
    int status = 1;
    if (report && bench_options_parse(BENCH_EST, argc, argv, &report->options, &status)) {
        bool good = bench_est_run(report);
        status = good && bench_report_print(report) && bench_report_is_good(report) ? 0 : 1;
    }
    free(report);
    return status;
}
