/* certmill-bench cmp: one run against a CMP server; and make-kur: messages for certmill bulk. */
#include <stdio.h>
#include <stdlib.h>

#include "asn1/base64.h"
#include "bench/bench.h"

enum { ANSWER_EACH = 4096, ANSWER_ROOM = 65536, MAKE_CHUNK = 10000 };

static bool prepare(const struct bench_options *options, struct bench_work *work,
                    struct bench_cmp *cmp, SSL_CTX **out_ctx)
{
    uint32_t per_post = options->per_message * (options->nested ? options->nested : 1);
    *work = (struct bench_work){.protocol = &BENCH_CMP_PROTOCOL,
                                .load = cmp,
                                .answer_max = ANSWER_ROOM + per_post * (size_t)ANSWER_EACH};
    if (!bench_cmp_load(options, cmp)) {
        return false;
    }
    *out_ctx = options->https ? bench_tls(options) : NULL;
    return (!options->https || *out_ctx) && bench_work_init(work, options, per_post);
}

bool bench_cmp_run(struct bench_report *report)
{
    const struct bench_options *options = &report->options;
    struct bench_cmp *cmp = calloc(1, sizeof(*cmp));
    struct bench_work work = {0};
    SSL_CTX *ctx = NULL;
    bool good = cmp &&
                (report->floor.verify_us > 0 ||
                 bench_floor_measure(&report->floor, report->options.requests)) &&
                prepare(options, &work, cmp, &ctx) &&
                (options->body != CMP_KUR || bench_cmp_enroll_first(&work, ctx)) &&
                bench_cmp_generate(&work) && bench_measure(report, &work, ctx);
    if (good && !options->quiet) {
        fprintf(stderr, "verifying every signature\n");
    }
    if (good) {
        report->bad_signatures =
            atomic_load(&cmp->bad_answers) +
            bench_verify_all(&work, bench_find_issuer(&work, cmp->issuers, cmp->issuer_count), 2);
    }
    if (cmp) {
        bench_cmp_unload(cmp, work.count);
    }
    free(cmp);
    bench_work_free(&work);
    SSL_CTX_free(ctx);
    return good;
}

int bench_cmp(int argc, char **argv)
{
    struct bench_report *report = calloc(1, sizeof(*report));
    int status = 1;
    if (report && bench_options_parse(BENCH_CMP, argc, argv, &report->options, &status)) {
        bool good = bench_cmp_run(report);
        status = good && bench_report_print(report) && bench_report_is_good(report) ? 0 : 1;
    }
    free(report);
    return status;
}

/* --- make-kur --- */

struct kur_line {
    uint8_t *text;
    size_t len;
};

struct kur_lines {
    struct bench_work *work;
    struct kur_line *line;
};

static bool make_line(void *ctx, uint32_t index)
{
    struct kur_lines *lines = ctx;
    const struct bench_cmp *cmp = lines->work->load;
    size_t room = cmp_client_room(2048), len = 0;
    uint8_t *der = malloc(room), *text = malloc(room);
    struct writer out = writer_of(text, text ? room : 0);
    bool good = der && bench_cmp_make_kur(lines->work, index, der, room, &len);
    writer_printf(&out, "{\"id\":\"bench-%s%07u\",\"cmp\":\"", cmp->prefix, index);
    uint8_t *base64 = good ? writer_reserve(&out, base64_encoded_len(len, 0)) : NULL;
    if (base64) {
        base64_encode(bytes_of(der, len), 0, base64);
    }
    writer_put_str(&out, "\"}\n");
    free(der);
    lines->line[index] = (struct kur_line){text, out.len};
    return good && base64 && !out.failed;
}

/* A chunk of the devices: all of them at once would take much memory. */
static bool make_chunk(const struct bench_options *options, FILE *out)
{
    struct bench_cmp *cmp = calloc(1, sizeof(*cmp));
    struct bench_work work = {0};
    SSL_CTX *ctx = NULL;
    bool good = cmp && prepare(options, &work, cmp, &ctx) && bench_cmp_enroll_first(&work, ctx);
    struct kur_lines lines = {.work = &work, .line = calloc(work.count + 1u, sizeof(*lines.line))};
    good = good && lines.line &&
           bench_parallel(options, "making kur messages", work.count, make_line, &lines);
    for (uint32_t i = 0; lines.line && i < work.count; i++) {
        good = good && fwrite(lines.line[i].text, 1, lines.line[i].len, out) == lines.line[i].len;
        free(lines.line[i].text);
    }
    free(lines.line);
    if (cmp) {
        bench_cmp_unload(cmp, work.count);
    }
    free(cmp);
    bench_work_free(&work);
    SSL_CTX_free(ctx);
    return good;
}

int bench_make_kur(int argc, char **argv)
{
    struct bench_options options;
    int status;
    if (!bench_options_parse(BENCH_MAKE_KUR, argc, argv, &options, &status)) {
        return status;
    }
    options.body = CMP_KUR;
    FILE *out = fopen(options.out_file, "we");
    uint32_t left = options.requests;
    bool good = out != NULL;
    while (good && left > 0) {
        options.requests = left < MAKE_CHUNK ? left : MAKE_CHUNK;
        good = make_chunk(&options, out);
        left -= options.requests;
    }
    if (out && fclose(out) != 0) {
        good = false;
    }
    if (!good) {
        fprintf(stderr, "certmill-bench: %s is not complete\n", options.out_file);
    }
    return good ? 0 : 1;
}
