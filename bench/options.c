/* The command line of all loads: one table, in which each option says which loads take it. */
#include <arpa/inet.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/bench.h"

static const char EST_USAGE[] =
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
    "  --tls 1.2|1.3        (default: what both sides like best)\n";

static const char CMP_USAGE[] =
    "certmill-bench cmp - load a CMP server with distinct keys and check every answer\n"
    "\n"
    "Usage: certmill-bench cmp --issuer FILE (--cert FILE --key FILE --trust FILE | --ref NAME\n"
    "                      --secret-file FILE) [options]\n"
    "\n"
    "Server:\n"
    "  --host ADDRESS       loopback address (default 127.0.0.1)\n"
    "  --port N             (default 8080)\n"
    "  --path PATH          (default /.well-known/cmp)\n"
    "  --https              over TLS, with --ca FILE and perhaps --tls 1.2|1.3\n"
    "  --issuer FILE        the certificate that issues, PEM: signatures are verified with it\n"
    "\n"
    "Messages:\n"
    "  --cert FILE --key FILE [--chain FILE]  protected by a signature; PEM\n"
    "  --trust FILE         who may sign answers: anchors, or the certificate itself\n"
    "  --ref NAME --secret-file FILE  protected by a MAC\n"
    "  --pbmac1             PBMAC1 instead of PBM\n"
    "  --iterations N       of the MAC's key derivation (default 1000)\n"
    "  --body BODY          ir (default), cr, p10cr or kur. For kur the devices get a first\n"
    "                       certificate before the clock starts, and sign with its key\n"
    "  --per-message N      requests in a message, ir and cr (default 1)\n"
    "  --nested N           messages in a nested one (default: not nested)\n"
    "  --ra-verified        no proof of possession: the sender vouches\n"
    "  --confirm            certConf for each message (default: implicitConfirm)\n";

static const char MAKE_USAGE[] =
    "certmill-bench make-kur - devices with a certificate, and key update messages they made\n"
    "\n"
    "Usage: certmill-bench make-kur --requests N --out FILE --issuer FILE --cert FILE --key FILE\n"
    "                      --trust FILE [options]\n"
    "\n"
    "Makes N keys, gets a certificate for each from the server, makes N new keys, and writes N\n"
    "lines {\"id\":..., \"cmp\":...}: kur messages signed with the first keys, as a gateway would\n"
    "collect them from devices. `certmill bulk` sends them. They carry no messageTime.\n"
    "\n"
    "  --out FILE           NDJSON\n"
    "  --requests N         devices (default 20000)\n"
    "  --host, --port, --path, --https, --ca, --issuer, --cert, --key, --chain, --trust: as of\n"
    "                       certmill-bench cmp; the credential is a registration authority's\n"
    "  --connections N      (default 8)\n"
    "  --quiet              no progress\n";

static const char LOAD_USAGE[] =
    "\n"
    "Load:\n"
    "  --connections N      (default 32)\n"
    "  --threads N          (default 1)\n"
    "  --pipeline N         requests in flight on a connection, 1 to 64 (default 1)\n"
    "  --requests N         certificates to ask for (default 20000)\n"
    "  --warmup N           of these, not counted (default a tenth)\n"
    "  --seconds N          stop after this long (default 60, at most 600)\n"
    "  --rate N             open loop: so many certificates per second, latency from the intended\n"
    "                       start; default: closed loop, as fast as it goes\n"
    "  --handshake          a new connection and full TLS handshake for every request\n"
    "  --server-pid PID     report the CPU of this process and its children per certificate\n"
    "  --verify-one-in N    the server's share of verified token signatures, for the floor (1)\n"
    "\n"
    "Output:\n"
    "  --json FILE          the report as JSON too ('-': standard output alone)\n"
    "  --quiet              no progress\n"
    "\n"
    "Keys and requests are made before the clock starts; after it has stopped every certificate's\n"
    "signature is verified and serials are held against each other. Exit status: 0 when every\n"
    "answer was right, 1 otherwise, 2 wrong usage.\n";

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
    O_QUIET,
    O_HTTPS,
    O_ISSUER,
    O_CHAIN,
    O_TRUST,
    O_REF,
    O_SECRET,
    O_PBMAC1,
    O_ITERATIONS,
    O_BODY,
    O_PER_MESSAGE,
    O_NESTED,
    O_RA_VERIFIED,
    O_CONFIRM,
    O_OUT
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
                                      {"https", 0, NULL, O_HTTPS},
                                      {"issuer", 1, NULL, O_ISSUER},
                                      {"chain", 1, NULL, O_CHAIN},
                                      {"trust", 1, NULL, O_TRUST},
                                      {"ref", 1, NULL, O_REF},
                                      {"secret-file", 1, NULL, O_SECRET},
                                      {"pbmac1", 0, NULL, O_PBMAC1},
                                      {"iterations", 1, NULL, O_ITERATIONS},
                                      {"body", 1, NULL, O_BODY},
                                      {"per-message", 1, NULL, O_PER_MESSAGE},
                                      {"nested", 1, NULL, O_NESTED},
                                      {"ra-verified", 0, NULL, O_RA_VERIFIED},
                                      {"confirm", 0, NULL, O_CONFIRM},
                                      {"out", 1, NULL, O_OUT},
                                      {"help", 0, NULL, 'h'},
                                      {NULL, 0, NULL, 0}};

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

static bool body_option(struct bench_options *o, const char *arg)
{
    static const enum cmp_body bodies[] = {CMP_IR, CMP_CR, CMP_P10CR, CMP_KUR};
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        if (strcmp(arg, cmp_body_name(bodies[i])) == 0) {
            o->body = bodies[i];
            return true;
        }
    }
    fprintf(stderr, "certmill-bench: --body '%s': expected ir, cr, p10cr or kur\n", arg);
    return false;
}

static bool text_option(struct bench_options *o, int c, const char *arg)
{
    const char **text = c == O_CA       ? &o->ca_file
                        : c == O_BASIC  ? &o->basic
                        : c == O_CERT   ? &o->cert_file
                        : c == O_KEY    ? &o->key_file
                        : c == O_JSON   ? &o->json_file
                        : c == O_ISSUER ? &o->issuer_file
                        : c == O_CHAIN  ? &o->chain_file
                        : c == O_TRUST  ? &o->trust_file
                        : c == O_REF    ? &o->reference
                        : c == O_SECRET ? &o->secret_file
                        : c == O_OUT    ? &o->out_file
                                        : NULL;
    if (text) {
        *text = arg;
        return true;
    }
    switch (c) {
    case O_HOST:
        snprintf(o->host, sizeof(o->host), "%s", arg);
        return true;
    case O_PATH_:
        snprintf(o->path, sizeof(o->path), "%s", arg);
        return true;
    case O_TLS:
        o->tls = strcmp(arg, "1.2") == 0 ? 12 : strcmp(arg, "1.3") == 0 ? 13 : 0;
        return o->tls != 0;
    case O_BODY:
        return body_option(o, arg);
    default:
        return false;
    }
}

static bool switch_option(struct bench_options *o, int c)
{
    bool *flag = c == O_HANDSHAKE     ? &o->handshake_each
                 : c == O_QUIET       ? &o->quiet
                 : c == O_HTTPS       ? &o->https
                 : c == O_PBMAC1      ? &o->pbmac1
                 : c == O_RA_VERIFIED ? &o->ra_verified
                 : c == O_CONFIRM     ? &o->confirm
                                      : NULL;
    if (flag) {
        *flag = true;
    }
    return flag != NULL;
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
    case O_ITERATIONS:
        return number(arg, MAC_ITERATIONS_MAX, &o->iterations);
    case O_PER_MESSAGE:
        return number(arg, BENCH_BATCH_MAX, &o->per_message) && o->per_message > 0;
    case O_NESTED:
        return number(arg, CMP_NESTED_MAX, &o->nested) && o->nested > 0;
    default:
        return switch_option(o, c) || text_option(o, c, arg);
    }
}

/* --- what goes together --- */

static bool is_loopback(const char *host)
{
    struct in_addr address;
    return inet_pton(AF_INET, host, &address) == 1 && ntohl(address.s_addr) >> 24 == 127;
}

static const char *est_problem(const struct bench_options *o)
{
    bool credential = o->basic || (o->cert_file && o->key_file);
    return o->ca_file && credential ? NULL
                                    : "--ca and one of --basic or --cert with --key are needed";
}

static const char *cmp_problem(const struct bench_options *o)
{
    bool by_key = o->cert_file && o->key_file && o->trust_file;
    bool by_secret = o->reference && o->secret_file;
    if (!o->issuer_file) {
        return "--issuer is needed to verify certificates with";
    }
    if (by_key == by_secret) {
        return "one of --cert, --key and --trust, or --ref and --secret-file is needed";
    }
    if (o->https && !o->ca_file) {
        return "--https needs --ca";
    }
    if (by_secret && (o->nested || o->body == CMP_KUR)) {
        return "nested messages and kur are signed, not MACed (RFC 9810): give --cert and --key";
    }
    if (o->per_message > 1 && o->body != CMP_IR && o->body != CMP_CR) {
        return "--per-message is for ir and cr; p10cr and kur go --nested";
    }
    if ((uint64_t)o->per_message * (o->nested ? o->nested : 1) > BENCH_BATCH_MAX) {
        return "more than 1024 requests in one message";
    }
    if (o->confirm && (o->nested || o->body == CMP_KUR)) {
        return "--confirm is for plain ir, cr and p10cr";
    }
    return NULL;
}

static const char *problem(const struct bench_options *o)
{
    const char *text = o->load == BENCH_EST ? est_problem(o) : cmp_problem(o);
    if (!text && o->load == BENCH_MAKE_KUR && !o->out_file) {
        text = "--out is needed";
    }
    if (!text && !is_loopback(o->host)) {
        text = "only loopback addresses (127.0.0.0/8) are loaded";
    }
    return text;
}

static const char *name_of(enum bench_load load)
{
    return load == BENCH_EST ? "est" : load == BENCH_CMP ? "cmp" : "make-kur";
}

static void print_usage(enum bench_load load)
{
    fputs(load == BENCH_EST ? EST_USAGE : load == BENCH_CMP ? CMP_USAGE : MAKE_USAGE, stdout);
    if (load != BENCH_MAKE_KUR) {
        fputs(LOAD_USAGE, stdout);
    }
}

static void set_defaults(enum bench_load load, struct bench_options *o)
{
    *o = (struct bench_options){.load = load,
                                .port = load == BENCH_EST ? 8443 : 8080,
                                .connections = load == BENCH_MAKE_KUR ? 8 : 32,
                                .threads = 1,
                                .pipeline = 1,
                                .requests = 20000,
                                .warmup = UINT32_MAX,
                                .seconds = 60,
                                .verify_one_in = 1,
                                .body = CMP_IR,
                                .per_message = 1,
                                .iterations = 1000};
    snprintf(o->host, sizeof(o->host), "127.0.0.1");
    snprintf(o->path, sizeof(o->path), "/.well-known/%s", load == BENCH_EST ? "est" : "cmp");
}

/* After getopt: an option that this load has no use for is wrong usage, too. */
static bool is_foreign(enum bench_load load, int c)
{
    bool cmp_only = c >= O_HTTPS && c != O_OUT;
    return (load == BENCH_EST && (cmp_only || c == O_OUT)) || (load != BENCH_EST && c == O_BASIC) ||
           (load == BENCH_CMP && c == O_OUT);
}

bool bench_options_parse(enum bench_load load, int argc, char **argv, struct bench_options *out,
                         int *out_exit)
{
    int c;
    set_defaults(load, out);
    *out_exit = 2;
    optind = 0; /* glibc: start over */
    while ((c = getopt_long(argc, argv, "h", LONGS, NULL)) != -1) {
        if (c == 'h') {
            print_usage(load);
            *out_exit = 0;
            return false;
        }
        if (c == '?' || is_foreign(load, c) || !option(out, c, optarg)) {
            fprintf(stderr, "certmill-bench: try certmill-bench %s --help\n", name_of(load));
            return false;
        }
    }
    const char *text = optind != argc ? "an argument too many" : problem(out);
    if (text) {
        fprintf(stderr, "certmill-bench: %s; try certmill-bench %s --help\n", text, name_of(load));
        return false;
    }
    if (out->warmup == UINT32_MAX) {
        out->warmup = out->requests / 10;
    }
    out->threads = out->threads > out->connections ? out->connections : out->threads;
    return true;
}
