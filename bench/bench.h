/* bench.h: the load generator: what its parts say to each other.
 *
 *   est.c, cmp.c      one load each: options, a run, what its answers mean
 *   compare.c         several loads alternately, and the ratio of their rates
 *   options.c, report.c   what all loads share
 *   client.c          connections, the clock, counting
 *   gen.c, cmp_make.c keys and requests, before the clock starts
 *   check.c           certificates, held against their requests
 *
 * It drives any EST or CMP server. TLS is OpenSSL's, a library the appliance does not use. Every
 * key is different; no certificate counts before its answer was parsed, its protection verified
 * (CMP) and the certificate held against its request, and after the clock has stopped every
 * certificate's signature is verified. Only loopback addresses are accepted; every run is bounded
 * in count and time.
 */
#ifndef CERTMILL_BENCH_BENCH_H
#define CERTMILL_BENCH_BENCH_H

#include <openssl/ssl.h>
#include <stdatomic.h>

#include "base/bytes.h"
#include "base/metrics.h"
#include "proto/cmp_client.h"

enum {
    BENCH_REQUESTS_MAX = 5000000,
    BENCH_CONNECTIONS_MAX = 20000,
    BENCH_SECONDS_MAX = 600,
    BENCH_BATCH_MAX = CMP_REQUESTS_PER_MESSAGE_MAX,
};

enum bench_load { BENCH_EST = 1, BENCH_CMP = 2, BENCH_MAKE_KUR = 4 };

struct bench_options {
    enum bench_load load;
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
    double rate;            /* open loop: certificates per second; 0: closed loop */
    bool handshake_each;    /* one connection per request */
    int tls;                /* 0, 12, 13 */
    int server_pid;         /* CPU of this process and its children is read; 0: not */
    uint32_t verify_one_in; /* the server's setting, for the crypto floor */
    const char *json_file;
    bool quiet;
    /* CMP */
    bool https;
    enum cmp_body body;   /* ir, cr, p10cr, kur */
    uint32_t per_message; /* CertReqMsgs of a message */
    uint32_t nested;      /* messages of a nested one; 0: not nested */
    bool confirm;         /* certConf; else implicitConfirm is asked for */
    bool ra_verified;     /* instead of a proof of possession */
    const char *chain_file, *trust_file, *issuer_file;
    const char *reference, *secret_file;
    bool pbmac1;
    uint32_t iterations;
    const char *out_file; /* make-kur */
};
/* options.c. 0: parsed; else the exit status (help was printed when it is 0 in *out_exit). */
bool bench_options_parse(enum bench_load load, int argc, char **argv, struct bench_options *out,
                         int *out_exit);

enum { ITEM_SPKI_MAX = 96, ITEM_SUBJECT_MAX = 96 };

/* One certificate to be asked for, and what came back. */
struct bench_item {
    uint8_t spki[ITEM_SPKI_MAX], subject[ITEM_SUBJECT_MAX];
    uint32_t spki_len, subject_len;
    uint32_t cert_len; /* 0: none yet */
    uint8_t *cert;
};

/* One HTTP request, for one or several items. */
struct bench_post {
    uint8_t *http;
    uint32_t http_len;
    uint32_t first, count; /* items */
};

struct bench_work;

/* What an answer is worth, in items. */
struct bench_taken {
    uint32_t good, failed, wrong;
    uint8_t *next; /* another HTTP request on the same way, from malloc; nothing counts before */
    uint32_t next_len;
    char error[256];
};

/* What client.c asks of a load. */
struct bench_protocol {
    /* Each thread has one; NULL: none is needed. */
    void *(*thread_start)(struct bench_work *work);
    void (*thread_end)(void *ctx);
    /* An answer of status 200. step: 0, then 1 for the answer to next... */
    void (*take)(void *ctx, struct bench_work *work, uint32_t post, uint32_t step,
                 struct bytes body, struct bench_taken *out);
};

struct bench_work {
    const struct bench_protocol *protocol;
    const struct bench_options *options;
    void *load; /* the protocol's own */
    struct bench_item *items;
    uint32_t count;
    struct bench_post *posts;
    uint32_t post_count;
    size_t answer_max; /* longest answer, head and all */
};
bool bench_work_init(struct bench_work *work, const struct bench_options *options,
                     uint32_t per_post);
void bench_work_free(struct bench_work *work);

/* gen.c: EST's requests with distinct P-256 keys; shows progress. false: text on stderr. */
bool bench_generate(const struct bench_options *options, struct bench_work *work);
/* fn(ctx, index) for all of 0..count-1 on as many threads as there are cores, with progress. */
bool bench_parallel(const struct bench_options *options, const char *what, uint32_t count,
                    bool (*fn)(void *ctx, uint32_t index), void *ctx);
/* Eight hex digits and a dash: names of this run that no other run has. */
void bench_prefix(char out[16]);

/* floor.c: microseconds, medians over several passes with distinct keys; fewer keys for a run of
 * few requests. */
struct bench_floor {
    double verify_us;    /* proof of possession: key import and verify */
    double verify_ca_us; /* a token's signature: imported key */
    double sign_us;      /* in software, for comparison */
    double openssl_verify_us;
    double batch_verify_us; /* the same two, as the appliance does them: 32 at once */
    double batch_verify_ca_us;
};
bool bench_floor_measure(struct bench_floor *out, uint32_t requests);

/* client.c */
struct bench_result {
    uint64_t ok, failed, wrong; /* certificates */
    uint64_t issued;            /* all that were good, the warm-up's too */
    uint64_t status_count[600];
    uint64_t handshakes, resumed;
    uint64_t elapsed_ns;
    bool is_short; /* too few requests for so many in flight: the rate flatters */
    struct hist latency;
    char first_error[256];
};
/* ctx NULL: without TLS. */
bool bench_run(const struct bench_options *options, struct bench_work *work, SSL_CTX *ctx,
               struct bench_result *out);
SSL_CTX *bench_tls(const struct bench_options *options);
/* One request on a connection of its own; the whole answer, head and all; 0: none. */
size_t bench_ask(const struct bench_options *options, SSL_CTX *ctx, struct bytes request, char *buf,
                 size_t cap);

/* check.c: is this the certificate for that item? Copies it. */
bool bench_check_cert(struct bench_item *item, struct bytes cert_der, char error[256]);
/* Every signature and that no serial repeats; returns how many are bad. */
uint64_t bench_verify_all(const struct bench_work *work, struct bytes issuer_der, uint32_t threads);
/* The certificate among these that issued what we got; empty: none. */
struct bytes bench_find_issuer(const struct bench_work *work, const struct bytes certs[],
                               size_t count);

/* cpu.c: user and system seconds of a process with its threads, and of its children. */
double bench_cpu_seconds(int pid, bool with_children);
double bench_own_cpu_seconds(void);

/* report.c */
struct bench_report {
    struct bench_options options;
    struct bench_result result;
    struct bench_floor floor;
    double server_cpu_s, own_cpu_s;
    uint64_t bad_signatures;
};
double bench_rate(const struct bench_report *report);
/* "32 connections, ..., CMP ir x 100, signature" */
void bench_load_text(const struct bench_options *options, char *out, size_t cap);
void bench_machine_text(char *out, size_t cap);
/* Text, JSON, or both, as the options say. */
bool bench_report_print(const struct bench_report *report);
bool bench_report_is_good(const struct bench_report *report);
/* Runs the clock and counts CPU around bench_run. */
bool bench_measure(struct bench_report *report, struct bench_work *work, SSL_CTX *ctx);

/* One run; the floor is measured before unless report->floor has it. false: text on stderr. */
bool bench_est_run(struct bench_report *report);
bool bench_cmp_run(struct bench_report *report);

/* cmp_load.c: what CMP loads are made with. */
struct bench_cmp {
    struct cmp_client_credential credential;
    struct softkey *key;
    struct bytes chain[CERT_CHAIN_MAX];
    uint32_t chain_count;
    struct trust_store anchors;
    struct bytes trust[CERT_CHAIN_MAX], issuers[CERT_CHAIN_MAX];
    uint32_t trust_count, issuer_count;
    struct cmp_client_ids *ids;       /* of each post */
    struct cmp_client_ids *inner_ids; /* of each message in a nested one */
    struct softkey **old_keys;        /* kur: of each item, its current key and certificate */
    uint8_t **old_certs;
    uint32_t *old_cert_lens;
    _Atomic uint64_t bad_answers; /* not by whom they say, found out when they were counted */
    char prefix[16];
};
bool bench_cmp_load(const struct bench_options *options, struct bench_cmp *out);
void bench_cmp_unload(struct bench_cmp *cmp, uint32_t item_count);
extern const struct bench_protocol BENCH_CMP_PROTOCOL;
/* cmp_make.c: the messages of all posts. */
bool bench_cmp_generate(struct bench_work *work);
/* For a kur: devices' first certificates, asked for in batches by the credential. */
bool bench_cmp_enroll_first(struct bench_work *work, SSL_CTX *ctx);
/* A device's kur message of its own, into out. */
bool bench_cmp_make_kur(struct bench_work *work, uint32_t index, uint8_t *out, size_t cap,
                        size_t *out_len);
/* HTTP around a message, from malloc. */
uint8_t *bench_cmp_wrap(const struct bench_options *options, struct bytes message,
                        uint32_t *out_len);

int bench_est(int argc, char **argv);
int bench_cmp(int argc, char **argv);
int bench_compare(int argc, char **argv);
int bench_make_kur(int argc, char **argv);

#endif
