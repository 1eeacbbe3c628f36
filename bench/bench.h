/* bench.h: the load generator: what its parts say to each other.
 *
 * It drives any EST server over TLS with OpenSSL, a library the appliance does not use, so that it
 * is also an oracle. Every key is different; no certificate counts before its answer was parsed and
 * held against its request, and after the clock has stopped every signature is verified. Only
 * loopback addresses are accepted; every run is bounded in count and time.
 */
#ifndef CERTMILL_BENCH_BENCH_H
#define CERTMILL_BENCH_BENCH_H

#include <openssl/ssl.h>
#include <stdatomic.h>

#include "base/bytes.h"
#include "base/metrics.h"

enum { BENCH_REQUESTS_MAX = 5000000, BENCH_CONNECTIONS_MAX = 20000, BENCH_SECONDS_MAX = 600 };

struct bench_options {
    char host[64];
    uint16_t port;
    char path[256];      /* /.well-known/est/<line> */
    const char *ca_file; /* trust anchor for the server certificate */
    const char *basic;   /* user:password, or */
    const char *cert_file, *key_file;
    uint32_t connections;
    uint32_t threads;
    uint32_t pipeline;
    uint32_t requests;
    uint32_t warmup;        /* of these, not counted */
    uint32_t seconds;       /* most */
    double rate;            /* open loop: requests per second; 0: closed loop */
    bool handshake_each;    /* one connection per request */
    int tls;                /* 0, 12, 13 */
    int server_pid;         /* CPU of this process and its children is read; 0: not */
    uint32_t verify_one_in; /* the server's setting, for the crypto floor */
    const char *json_file;
    bool quiet;
};

/* One request made before the clock starts, and what came back. */
struct bench_item {
    uint8_t *bytes; /* the HTTP request, then SPKI and subject */
    uint32_t http_len;
    uint32_t spki_offset, spki_len;
    uint32_t subject_offset, subject_len;
    uint32_t cert_len; /* 0: none yet */
    uint8_t *cert;
};

struct bench_work {
    struct bench_item *items;
    uint32_t count;
    uint8_t *bytes; /* of all items */
};

/* gen.c: makes count requests with distinct P-256 keys; shows progress. false: text on stderr. */
bool bench_generate(const struct bench_options *options, struct bench_work *work);
void bench_work_free(struct bench_work *work);

/* floor.c: microseconds, medians over several passes with distinct keys. */
struct bench_floor {
    double verify_us;    /* proof of possession: key import and verify */
    double verify_ca_us; /* a token's signature: imported key */
    double sign_us;      /* in software, for comparison */
    double openssl_verify_us;
    double batch_verify_us;    /* the same two, as the appliance does them: 32 at once */
    double batch_verify_ca_us;
};
bool bench_floor_measure(struct bench_floor *out);

/* client.c */
struct bench_result {
    uint64_t ok, failed, wrong;
    uint64_t status_count[600];
    uint64_t handshakes, resumed;
    uint64_t elapsed_ns;
    struct hist latency;
    char first_error[256];
};
bool bench_run(const struct bench_options *options, struct bench_work *work, SSL_CTX *ctx,
               struct bench_result *out);
SSL_CTX *bench_tls(const struct bench_options *options);
/* GET cacerts; the issuing certificate (first in the answer whose key signs) into out. */
bool bench_cacerts(const struct bench_options *options, SSL_CTX *ctx, uint8_t *out, size_t cap,
                   size_t *out_len);

/* check.c: does the answer hold the certificate for this request? Copies it into the item. */
bool bench_check_answer(const struct bench_work *work, struct bench_item *item, struct bytes body,
                        char error[256]);
/* Every signature and that no serial repeats; returns how many are bad. */
uint64_t bench_verify_all(const struct bench_work *work, struct bytes issuer_der, uint32_t threads);

/* cpu.c: user and system seconds of a process with its threads, and of its children. */
double bench_cpu_seconds(int pid, bool with_children);

int bench_est(int argc, char **argv);

#endif
