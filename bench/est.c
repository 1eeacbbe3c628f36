/* certmill-bench est: options, one run, the report. */
#include <arpa/inet.h>
#include <getopt.h>
#include <jansson.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "asn1/base64.h"
#include "asn1/cms.h"
#include "asn1/x509.h"
#include "bench/bench.h"

enum { CACERTS_MAX = 65536 };

static const char USAGE[] =
    "certmill-bench est - load an EST server with distinct keys and check every answer\n"
    "\n"
    "Usage: certmill-bench est --ca FILE (--basic USER:PASSWORD | --cert FILE --key FILE) "
    "[options]\n"
    "\n"
    "Server:\n"
    "  --host ADDRESS       loopback address (default 127.0.0.1)\n"
    "  --port N             (default 8443)\n"
    "  --path PATH          (default /.well-known/est)\n"
    "  --ca FILE            trust anchor of the server certificate, PEM\n"
    "  --basic USER:PASS    station credentials, or\n"
    "  --cert FILE --key FILE  client certificate, PEM\n"
    "  --tls 1.2|1.3        (default: what both sides like best)\n"
    "  --server-pid PID     report the CPU of this process and its children per certificate\n"
    "  --verify-one-in N    the server's share of verified token signatures, for the floor (1)\n"
    "\n"
    "Load:\n"
    "  --connections N      (default 32)\n"
    "  --threads N          (default 1)\n"
    "  --pipeline N         requests in flight on a connection, 1 to 64 (default 1)\n"
    "  --requests N         certificates to ask for (default 20000)\n"
    "  --warmup N           of these, not counted (default a tenth)\n"
    "  --seconds N          stop after this long (default 60, at most 600)\n"
    "  --rate N             open loop: so many requests per second, latency from the intended\n"
    "                       start; default: closed loop, as fast as it goes\n"
    "  --handshake          a new connection and full TLS handshake for every request\n"
    "\n"
    "Output:\n"
    "  --json FILE          the report as JSON too ('-': standard output alone)\n"
    "  --quiet              no progress\n"
    "\n"
    "Keys and requests are made before the clock starts; after it has stopped every certificate's\n"
    "signature is verified and serials are held against each other. Exit status: 0 when every\n"
    "answer was right, 1 otherwise, 2 wrong usage.\n";

struct report {
    const struct bench_options *options;
    const struct bench_result *result;
    struct bench_floor floor;
    double server_cpu_s, own_cpu_s;
    uint64_t bad_signatures;
    uint64_t not_checked;
};

/* --- cacerts --- */

static int open_blocking(const struct bench_options *options)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(options->port)};
    inet_pton(AF_INET, options->host, &address.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (void *)&address, sizeof(address)) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static size_t get_cacerts(const struct bench_options *options, SSL *ssl, char *buf, size_t cap)
{
    char request[512];
    int len = snprintf(request, sizeof(request),
                       "GET %s/cacerts HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n",
                       options->path, options->host);
    size_t got = 0;
    int n;
    if (SSL_connect(ssl) != 1 || SSL_write(ssl, request, len) != len) {
        return 0;
    }
    while (got < cap && (n = SSL_read(ssl, buf + got, (int)(cap - got))) > 0) {
        got += (size_t)n;
    }
    return got;
}

bool bench_cacerts(const struct bench_options *options, SSL_CTX *ctx, uint8_t *out, size_t cap,
                   size_t *out_len)
{
    char *buf = malloc(CACERTS_MAX);
    int fd = open_blocking(options);
    SSL *ssl = SSL_new(ctx);
    bool good = false;
    if (buf && fd >= 0 && ssl) {
        SSL_set_fd(ssl, fd);
        size_t got = get_cacerts(options, ssl, buf, CACERTS_MAX);
        const char *end =
            got > 12 && memcmp(buf + 9, "200", 3) == 0 ? memmem(buf, got, "\r\n\r\n", 4) : NULL;
        good = end &&
               base64_decode(bytes_of(end + 4, got - (size_t)(end + 4 - buf)), out, cap, out_len);
    }
    SSL_free(ssl);
    if (fd >= 0) {
        close(fd);
    }
    free(buf);
    return good;
}

/* The certificate in cacerts that issued what we got. */
static struct bytes find_issuer(const struct bench_work *work, struct bytes cacerts)
{
    struct bytes certs[16];
    size_t count = 0;
    struct x509_cert leaf, ca;
    for (uint32_t i = 0; i < work->count; i++) {
        const struct bench_item *item = &work->items[i];
        if (item->cert_len == 0 ||
            x509_decode(bytes_of(item->cert, item->cert_len), &leaf) != ERR_OK) {
            continue;
        }
        if (cms_certs_only_decode(cacerts, certs, 16, &count) != ERR_OK) {
            break;
        }
        for (size_t k = 0; k < count; k++) {
            if (x509_decode(certs[k], &ca) == ERR_OK && bytes_eq(ca.subject, leaf.issuer)) {
                return certs[k];
            }
        }
        break;
    }
    return (struct bytes){0};
}

/* --- options --- */

static bool is_loopback(const char *host)
{
    struct in_addr address;
    return inet_pton(AF_INET, host, &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

static bool number(const char *text, uint32_t max, uint32_t *out)
{
    uint64_t value;
    if (!bytes_to_u64(bytes_of_str(text), max, &value)) {
        fprintf(stderr, "certmill-bench: '%s': expected a number up to %u\n", text, max);
        return false;
    }
    *out = (uint32_t)value;
    return true;
}

enum {
    O_HOST = 256,
    O_PORT,
    O_PATH_,
    O_CA,
    O_BASIC,
    O_CERT,
    O_KEY,
    O_TLS,
    O_PID,
    O_ONE_IN,
    O_CONN,
    O_THREADS,
    O_PIPELINE,
    O_REQUESTS,
    O_WARMUP,
    O_SECONDS,
    O_RATE,
    O_HANDSHAKE,
    O_JSON,
    O_QUIET
};

static const struct option LONGS[] = {{"host", 1, NULL, O_HOST},
                                      {"port", 1, NULL, O_PORT},
                                      {"path", 1, NULL, O_PATH_},
                                      {"ca", 1, NULL, O_CA},
                                      {"basic", 1, NULL, O_BASIC},
                                      {"cert", 1, NULL, O_CERT},
                                      {"key", 1, NULL, O_KEY},
                                      {"tls", 1, NULL, O_TLS},
                                      {"server-pid", 1, NULL, O_PID},
                                      {"verify-one-in", 1, NULL, O_ONE_IN},
                                      {"connections", 1, NULL, O_CONN},
                                      {"threads", 1, NULL, O_THREADS},
                                      {"pipeline", 1, NULL, O_PIPELINE},
                                      {"requests", 1, NULL, O_REQUESTS},
                                      {"warmup", 1, NULL, O_WARMUP},
                                      {"seconds", 1, NULL, O_SECONDS},
                                      {"rate", 1, NULL, O_RATE},
                                      {"handshake", 0, NULL, O_HANDSHAKE},
                                      {"json", 1, NULL, O_JSON},
                                      {"quiet", 0, NULL, O_QUIET},
                                      {"help", 0, NULL, 'h'},
                                      {NULL, 0, NULL, 0}};

static bool text_option(struct bench_options *o, int c, const char *arg)
{
    switch (c) {
    case O_HOST:
        snprintf(o->host, sizeof(o->host), "%s", arg);
        return true;
    case O_PATH_:
        snprintf(o->path, sizeof(o->path), "%s", arg);
        return true;
    case O_CA:
        o->ca_file = arg;
        return true;
    case O_BASIC:
        o->basic = arg;
        return true;
    case O_CERT:
        o->cert_file = arg;
        return true;
    case O_KEY:
        o->key_file = arg;
        return true;
    case O_JSON:
        o->json_file = arg;
        return true;
    case O_TLS:
        o->tls = strcmp(arg, "1.2") == 0 ? 12 : strcmp(arg, "1.3") == 0 ? 13 : 0;
        return o->tls != 0;
    default:
        return false;
    }
}

static bool option(struct bench_options *o, int c, const char *arg)
{
    uint32_t value = 0;
    switch (c) {
    case O_PORT:
        return number(arg, 65535, &value) && (o->port = (uint16_t)value) != 0;
    case O_PID:
        return number(arg, INT32_MAX, &value) && (o->server_pid = (int)value) != 0;
    case O_ONE_IN:
        return number(arg, 1000000, &o->verify_one_in) && o->verify_one_in > 0;
    case O_CONN:
        return number(arg, BENCH_CONNECTIONS_MAX, &o->connections) && o->connections > 0;
    case O_THREADS:
        return number(arg, 64, &o->threads) && o->threads > 0;
    case O_PIPELINE:
        return number(arg, 64, &o->pipeline) && o->pipeline > 0;
    case O_REQUESTS:
        return number(arg, BENCH_REQUESTS_MAX, &o->requests) && o->requests > 0;
    case O_WARMUP:
        return number(arg, BENCH_REQUESTS_MAX, &o->warmup);
    case O_SECONDS:
        return number(arg, BENCH_SECONDS_MAX, &o->seconds) && o->seconds > 0;
    case O_RATE:
        return number(arg, 10000000, &value) && (o->rate = value) > 0;
    case O_HANDSHAKE:
        return o->handshake_each = true;
    case O_QUIET:
        return o->quiet = true;
    default:
        return text_option(o, c, arg);
    }
}

static int parse(int argc, char **argv, struct bench_options *o)
{
    *o = (struct bench_options){.port = 8443,
                                .connections = 32,
                                .threads = 1,
                                .pipeline = 1,
                                .requests = 20000,
                                .warmup = UINT32_MAX,
                                .seconds = 60,
                                .verify_one_in = 1};
    snprintf(o->host, sizeof(o->host), "127.0.0.1");
    snprintf(o->path, sizeof(o->path), "/.well-known/est");
    int c;
    while ((c = getopt_long(argc, argv, "h", LONGS, NULL)) != -1) {
        if (c == 'h') {
            fputs(USAGE, stdout);
            exit(0);
        }
        if (c == '?' || !option(o, c, optarg)) {
            fputs("certmill-bench: try certmill-bench est --help\n", stderr);
            return 2;
        }
    }
    if (!o->ca_file || (!o->basic && !(o->cert_file && o->key_file)) || optind != argc) {
        fputs("certmill-bench: --ca and one of --basic or --cert with --key are needed; try "
              "certmill-bench est --help\n",
              stderr);
        return 2;
    }
    if (!is_loopback(o->host)) {
        fputs("certmill-bench: only loopback addresses (127.0.0.0/8) are loaded\n", stderr);
        return 2;
    }
    if (o->warmup == UINT32_MAX) {
        o->warmup = o->requests / 10;
    }
    o->threads = o->threads > o->connections ? o->connections : o->threads;
    return 0;
}

/* --- report --- */

static double per_cert_us(double seconds, uint64_t count)
{
    return count ? seconds * 1e6 / (double)count : 0;
}

static double floor_us(const struct report *r)
{
    return r->floor.verify_us + r->floor.verify_ca_us / r->options->verify_one_in;
}

static double batch_floor_us(const struct report *r)
{
    return r->floor.batch_verify_us + r->floor.batch_verify_ca_us / r->options->verify_one_in;
}

static double rate_of(const struct report *r)
{
    return (double)r->result->ok * 1e9 / (double)r->result->elapsed_ns;
}

static uint64_t counted_all(const struct report *r)
{
    return r->result->status_count[200];
}

static void machine_text(char *out, size_t cap)
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

static void print_text(const struct report *r)
{
    const struct bench_options *o = r->options;
    const struct bench_result *result = r->result;
    char machine[256];
    machine_text(machine, sizeof(machine));
    printf("machine        %s\n", machine);
    printf("load           %u connections, %u threads, pipeline %u, %s, %s%s\n", o->connections,
           o->threads, o->handshake_each ? 1 : o->pipeline,
           o->handshake_each ? "one handshake per request" : "keep-alive",
           o->cert_file ? "client certificate" : "Basic",
           o->rate > 0 ? ", open loop" : ", closed loop");
    printf("certificates   %llu counted in %.2f s, every key different, every answer checked\n",
           (unsigned long long)result->ok, (double)result->elapsed_ns / 1e9);
    printf("rate           %.0f certificates/s\n", rate_of(r));
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
        double cpu = per_cert_us(r->server_cpu_s, counted_all(r));
        printf("server CPU     %.1f us per certificate (signers included)\n", cpu);
        printf("overhead       %.0f %% over the crypto floor, %.1f us over the batched one\n",
               (cpu - floor_us(r)) / floor_us(r) * 100, cpu - batch_floor_us(r));
    }
    printf("generator CPU  %.1f us per certificate\n", per_cert_us(r->own_cpu_s, counted_all(r)));
}

static bool write_json(const struct report *r)
{
    const struct bench_result *result = r->result;
    char machine[256];
    machine_text(machine, sizeof(machine));
    double cpu = per_cert_us(r->server_cpu_s, counted_all(r));
    json_t *root = json_pack(
        "{s:s, s:i, s:i, s:i, s:b, s:I, s:f, s:f, s:f, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, "
        "s:f}",
        "machine", machine, "connections", (int)r->options->connections, "threads",
        (int)r->options->threads, "pipeline", (int)r->options->pipeline, "handshake_each",
        r->options->handshake_each, "certificates", (json_int_t)result->ok, "seconds",
        (double)result->elapsed_ns / 1e9, "rate", rate_of(r), "offered", r->options->rate, "failed",
        (json_int_t)result->failed, "wrong", (json_int_t)result->wrong, "bad_signatures",
        (json_int_t)r->bad_signatures, "floor_us", floor_us(r), "verify_us", r->floor.verify_us,
        "verify_ca_us", r->floor.verify_ca_us, "server_cpu_us", cpu, "overhead",
        r->options->server_pid ? (cpu - floor_us(r)) / floor_us(r) : 0.0, "generator_cpu_us",
        per_cert_us(r->own_cpu_s, counted_all(r)), "batch_floor_us", batch_floor_us(r));
    json_t *latency = json_object();
    static const double quantiles[] = {0.5, 0.9, 0.99, 0.999, 0.9999};
    static const char *const names[] = {"p50", "p90", "p99", "p99.9", "p99.99"};
    for (size_t i = 0; i < 5; i++) {
        json_object_set_new(latency, names[i],
                            json_real((double)hist_quantile(&result->latency, quantiles[i]) / 1e6));
    }
    json_object_set_new(root, "latency_ms", latency);
    bool to_stdout = strcmp(r->options->json_file, "-") == 0;
    int bad = to_stdout ? json_dumpf(root, stdout, JSON_INDENT(1))
                        : json_dump_file(root, r->options->json_file, JSON_INDENT(1));
    if (to_stdout) {
        putchar('\n');
    }
    json_decref(root);
    return bad == 0;
}

static double own_cpu(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static bool run_one(struct bench_options *options, struct bench_work *work, struct report *report,
                    struct bench_result *result)
{
    static uint8_t cacerts[CACERTS_MAX];
    size_t cacerts_len = 0;
    SSL_CTX *ctx = bench_tls(options);
    if (!ctx || !bench_generate(options, work)) {
        return false;
    }
    if (!bench_cacerts(options, ctx, cacerts, sizeof(cacerts), &cacerts_len)) {
        fprintf(stderr,
                "certmill-bench: no cacerts from %s:%u%s: is the server up, and --ca its "
                "trust anchor?\n",
                options->host, options->port, options->path);
        return false;
    }
    double server = options->server_pid ? bench_cpu_seconds(options->server_pid, true) : 0;
    double own = own_cpu();
    bool good = bench_run(options, work, ctx, result);
    report->own_cpu_s = own_cpu() - own;
    report->server_cpu_s =
        options->server_pid ? bench_cpu_seconds(options->server_pid, true) - server : 0;
    SSL_CTX_free(ctx);
    if (!good) {
        return false;
    }
    if (!options->quiet) {
        fprintf(stderr, "verifying every signature\n");
    }
    report->bad_signatures =
        bench_verify_all(work, find_issuer(work, bytes_of(cacerts, cacerts_len)), 2);
    return true;
}

int bench_est(int argc, char **argv)
{
    struct bench_options options;
    int usage = parse(argc, argv, &options);
    if (usage) {
        return usage;
    }
    struct bench_work work = {0};
    struct bench_result *result = calloc(1, sizeof(*result));
    struct report report = {.options = &options, .result = result};
    bool good =
        result && bench_floor_measure(&report.floor) && run_one(&options, &work, &report, result);
    if (good) {
        if (!options.json_file || strcmp(options.json_file, "-") != 0) {
            print_text(&report);
        }
        good = (!options.json_file || write_json(&report)) && result->ok > 0 &&
               result->failed == 0 && result->wrong == 0 && report.bad_signatures == 0;
    }
    bench_work_free(&work);
    free(result);
    return good ? 0 : 1;
}
