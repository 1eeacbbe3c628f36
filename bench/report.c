/* What a run prints: its machine, its load, the crypto floor of this run, the result. */
#include <jansson.h>
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "bench/bench.h"

static double per_cert_us(double seconds, uint64_t count)
{
    return count ? seconds * 1e6 / (double)count : 0;
}

static double floor_us(const struct bench_report *r)
{
    return r->floor.verify_us + r->floor.verify_ca_us / r->options.verify_one_in;
}

static double batch_floor_us(const struct bench_report *r)
{
    return r->floor.batch_verify_us + r->floor.batch_verify_ca_us / r->options.verify_one_in;
}

double bench_rate(const struct bench_report *r)
{
    return (double)r->result.ok * 1e9 / (double)r->result.elapsed_ns;
}

void bench_machine_text(char *out, size_t cap)
{
    struct utsname name;
    char model[128] = "unknown processor", line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && fgets(line, sizeof(line), file)) {
        if (strncmp(line, "model name", 10) == 0) {
            snprintf(model, sizeof(model), "%.100s", strchr(line, ':') + 2);
            model[strcspn(model, "\n")] = 0;
            break;
        }
    }
    if (file) {
        fclose(file);
    }
    uname(&name);
    snprintf(out, cap, "%s, %ld cores, %s %.40s", model, sysconf(_SC_NPROCESSORS_ONLN),
             name.sysname, name.release);
}

static void protocol_text(const struct bench_options *o, struct writer *out)
{
    if (o->load == BENCH_EST) {
        writer_printf(out, "EST, %s", o->cert_file ? "client certificate" : "Basic");
        return;
    }
    writer_printf(out, "CMP %s%s", cmp_body_name(o->body), o->https ? " over TLS" : "");
    if (o->per_message > 1) {
        writer_printf(out, " x %u", o->per_message);
    }
    if (o->nested) {
        writer_printf(out, ", %u nested", o->nested);
    }
    writer_printf(out, ", %s", o->cert_file ? "signature" : o->pbmac1 ? "PBMAC1" : "PBM");
    if (o->ra_verified) {
        writer_put_str(out, ", raVerified");
    }
    writer_put_str(out, o->confirm ? ", certConf" : ", implicitConfirm");
}

void bench_load_text(const struct bench_options *o, char *out, size_t cap)
{
    struct writer text = writer_of(out, cap - 1);
    writer_printf(&text, "%u connections, %u threads, pipeline %u, %s, ", o->connections,
                  o->threads, o->handshake_each ? 1 : o->pipeline,
                  o->handshake_each ? "one connection per request" : "keep-alive");
    protocol_text(o, &text);
    writer_printf(&text, ", %s loop", o->rate > 0 ? "open" : "closed");
    out[text.len] = 0;
}

static void print_cpu(const struct bench_report *r)
{
    double cpu = per_cert_us(r->server_cpu_s, r->result.issued);
    printf("server CPU     %.1f us per certificate (signers included)\n", cpu);
    printf("overhead       %.0f %% over the crypto floor, %.1f us over the batched one\n",
           (cpu - floor_us(r)) / floor_us(r) * 100, cpu - batch_floor_us(r));
}

static void print_text(const struct bench_report *r)
{
    const struct bench_options *o = &r->options;
    const struct bench_result *result = &r->result;
    char machine[256], load[256];
    bench_machine_text(machine, sizeof(machine));
    bench_load_text(o, load, sizeof(load));
    printf("machine        %s\n", machine);
    printf("load           %s\n", load);
    printf("certificates   %llu counted in %.2f s, every key different, every answer checked\n",
           (unsigned long long)result->ok, (double)result->elapsed_ns / 1e9);
    printf("rate           %.0f certificates/s%s\n", bench_rate(r),
           result->is_short ? " (too few requests for what is in flight: it flatters)" : "");
    if (o->rate > 0) {
        printf("offered        %.0f requests/s\n", o->rate);
    }
    static const double quantiles[] = {0.5, 0.9, 0.99, 0.999, 0.9999};
    printf("latency ms    ");
    for (size_t i = 0; i < 5; i++) {
        printf(" p%g %.2f", quantiles[i] * 100,
               (double)hist_quantile(&result->latency, quantiles[i]) / 1e6);
    }
    printf("\nhandshakes     %llu (%llu resumed)\n", (unsigned long long)result->handshakes,
           (unsigned long long)result->resumed);
    printf("failed         %llu, wrong answers %llu, bad signatures or repeated serials %llu\n",
           (unsigned long long)result->failed, (unsigned long long)result->wrong,
           (unsigned long long)r->bad_signatures);
    if (result->first_error[0]) {
        printf("first error    %s\n", result->first_error);
    }
    printf("crypto floor   %.1f us: verify with a fresh key %.1f, token signature %.1f in %u "
           "(OpenSSL verify %.1f, software sign %.1f)\n",
           floor_us(r), r->floor.verify_us, r->floor.verify_ca_us, o->verify_one_in,
           r->floor.openssl_verify_us, r->floor.sign_us);
    printf("in batches     %.1f us: %.1f and %.1f, 32 at once as the appliance verifies\n",
           batch_floor_us(r), r->floor.batch_verify_us, r->floor.batch_verify_ca_us);
    if (o->server_pid) {
        print_cpu(r);
    }
    printf("generator CPU  %.1f us per certificate\n", per_cert_us(r->own_cpu_s, result->issued));
}

static void put_latency(json_t *root, const struct hist *latency)
{
    static const double quantiles[] = {0.5, 0.9, 0.99, 0.999, 0.9999};
    static const char *const names[] = {"p50", "p90", "p99", "p99.9", "p99.99"};
    json_t *object = json_object();
    for (size_t i = 0; i < 5; i++) {
        json_object_set_new(object, names[i],
                            json_real((double)hist_quantile(latency, quantiles[i]) / 1e6));
    }
    json_object_set_new(root, "latency_ms", object);
}

static bool write_json(const struct bench_report *r)
{
    const struct bench_result *result = &r->result;
    const struct bench_options *o = &r->options;
    char machine[256], load[256];
    bench_machine_text(machine, sizeof(machine));
    bench_load_text(o, load, sizeof(load));
    double cpu = per_cert_us(r->server_cpu_s, result->issued);
    json_t *root = json_pack(
        "{s:s, s:s, s:i, s:i, s:i, s:b, s:I, s:f, s:f, s:f, s:I, s:I, s:I, s:f, s:f, s:f, s:f, "
        "s:f, s:f, s:f}",
        "machine", machine, "load", load, "connections", (int)o->connections, "threads",
        (int)o->threads, "pipeline", (int)o->pipeline, "handshake_each", o->handshake_each,
        "certificates", (json_int_t)result->ok, "seconds", (double)result->elapsed_ns / 1e9, "rate",
        bench_rate(r), "offered", o->rate, "failed", (json_int_t)result->failed, "wrong",
        (json_int_t)result->wrong, "bad_signatures", (json_int_t)r->bad_signatures, "floor_us",
        floor_us(r), "verify_us", r->floor.verify_us, "verify_ca_us", r->floor.verify_ca_us,
        "server_cpu_us", cpu, "overhead", o->server_pid ? (cpu - floor_us(r)) / floor_us(r) : 0.0,
        "generator_cpu_us", per_cert_us(r->own_cpu_s, result->issued), "batch_floor_us",
        batch_floor_us(r));
    put_latency(root, &result->latency);
    json_object_set_new(root, "short", json_boolean(result->is_short));
    json_object_set_new(root, "first_error", json_string(result->first_error));
    bool to_stdout = strcmp(o->json_file, "-") == 0;
    int bad = to_stdout ? json_dumpf(root, stdout, JSON_INDENT(1))
                        : json_dump_file(root, o->json_file, JSON_INDENT(1));
    if (to_stdout) {
        putchar('\n');
    }
    json_decref(root);
    return bad == 0;
}

bool bench_report_is_good(const struct bench_report *r)
{
    return r->result.ok > 0 && r->result.failed == 0 && r->result.wrong == 0 &&
           r->bad_signatures == 0;
}

bool bench_report_print(const struct bench_report *report)
{
    const char *json = report->options.json_file;
    if (!json || strcmp(json, "-") != 0) {
        print_text(report);
    }
    return !json || write_json(report);
}

bool bench_measure(struct bench_report *report, struct bench_work *work, SSL_CTX *ctx)
{
    int pid = report->options.server_pid;
    double server = pid ? bench_cpu_seconds(pid, true) : 0;
    double own = bench_own_cpu_seconds();
    bool good = bench_run(&report->options, work, ctx, &report->result);
    report->own_cpu_s = bench_own_cpu_seconds() - own;
    report->server_cpu_s = pid ? bench_cpu_seconds(pid, true) - server : 0;
    return good;
}
