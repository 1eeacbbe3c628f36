/* micro_sim: does the simulated HSM take as long as its description says, and cost nothing while it
 * waits?
 *
 * Two parts, both through PKCS#11 as any client would: with few sessions, so that no job waits for
 * another, the latency of C_Sign against the described percentiles, and against a plain sleep of
 * such a length in turn with it, which shows what the machine's own disturbances do; with many, the
 * rate against what the described engines can do. The processor's own time is measured beside both,
 * with the floor of this run: the same signature by a plain library call.
 */
#include <dlfcn.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/clock.h"
#include "crypto/softkey.h"
#include "hsm/sim/cryptoki.h"
#include "hsm/sim/describe.h"

/* The simulator's own reader of descriptions, so that both mean the same: the module exports
 * nothing but PKCS#11, and no library holds these. */
#include "hsm/sim/describe.c"
#include "hsm/sim/dist.c"
#include "hsm/sim/engines.c"
#include "hsm/sim/preset.c"

enum {
    SESSIONS_MAX = 1024,
    JOBS_MAX = 1000000,
    RATE_JOBS_FACTOR = 5,
    RUN_MS_MAX = 60000,
    PERCENTILES = 8
};

static const double percentiles[PERCENTILES] = {1, 10, 25, 50, 75, 90, 99, 99.9};

struct options {
    const char *config; /* a description of the caller's, or */
    const char *preset;
    const char *key;
    uint32_t sessions; /* of the latency part */
    uint32_t many;     /* of the rate part; 0: three for each engine */
    uint32_t jobs;
    uint32_t warmup;
    bool json;
};

struct bench {
    struct options options;
    struct description description;
    const struct dist *service;
    enum key_alg alg;
    char folder[64];
    char yaml[80];
    CK_FUNCTION_LIST *p11;
    CK_OBJECT_HANDLE key;
    double floor_us;
};

struct part {
    uint32_t sessions;
    uint64_t jobs;
    double *us;       /* sorted */
    double *sleep_us; /* of plain sleeps of described lengths; NULL: none were done */
    double wall_s;
    double cpu_us; /* of the process, for each job */
};

static void need(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "micro_sim: %s\n", what);
    exit(1);
}

static void ok(CK_RV rv, const char *call)
{
    if (rv == CKR_OK)
        return;
    fprintf(stderr, "micro_sim: %s: 0x%lx\n", call, rv);
    exit(1);
}

/* --- the token --- */

static void load(struct bench *b)
{
    char self[PATH_MAX], path[PATH_MAX + 32];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    need(len > 0, "/proc/self/exe cannot be read");
    self[len] = 0;
    snprintf(path, sizeof path, "%s/libcertmill-hsmsim.so", dirname(self));
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    need(library != NULL, "libcertmill-hsmsim.so is not beside this program");
    CK_C_GetFunctionList get;
    void *symbol = dlsym(library, "C_GetFunctionList");
    memcpy(&get, &symbol, sizeof get);
    need(get && get(&b->p11) == CKR_OK, "C_GetFunctionList");
}

/* A folder of its own for the token's files, and a description with this preset. */
static void describe(struct bench *b)
{
    char error[DESCRIBE_ERROR_MAX];
    const char *path = b->options.config;
    if (!path) {
        snprintf(b->folder, sizeof b->folder, "/tmp/certmill-micro-sim-XXXXXX");
        need(mkdtemp(b->folder) != NULL, "/tmp cannot be written");
        snprintf(b->yaml, sizeof b->yaml, "%s/sim.yaml", b->folder);
        FILE *file = fopen(b->yaml, "w");
        need(file != NULL, "the description cannot be written");
        fprintf(file,
                "preset: %s\nrate_limit: {per_second: %d, answer: block}\ntoken:\n"
                "  directory: token\n",
                b->options.preset, RATE_MAX);
        fclose(file);
        path = b->yaml;
    }
    if (description_load(path, &b->description, error)) {
        fprintf(stderr, "micro_sim: %s\n", error);
        exit(1);
    }
    setenv("CERTMILL_HSMSIM_CONFIG", path, 1);
}

static CK_SESSION_HANDLE open_session(struct bench *b, CK_FLAGS flags)
{
    CK_SESSION_HANDLE session;
    ok(b->p11->C_OpenSession(0, CKF_SERIAL_SESSION | flags, NULL, NULL, &session), "C_OpenSession");
    return session;
}

struct kind {
    const char *name;
    enum key_alg alg;
    enum service_key service;
    CK_MECHANISM_TYPE keygen, sign;
    uint8_t params[16];
    CK_ULONG params_len; /* 0: RSA */
    CK_ULONG bits;
};

static const struct kind kinds[] = {
    {"p256",
     KEY_EC_P256,
     SERVICE_P256,
     CKM_EC_KEY_PAIR_GEN,
     CKM_ECDSA,
     {6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7},
     10,
     256},
    {"p384",
     KEY_EC_P384,
     SERVICE_P384,
     CKM_EC_KEY_PAIR_GEN,
     CKM_ECDSA,
     {6, 5, 0x2b, 0x81, 4, 0, 0x22},
     7,
     384},
    {"rsa2048",
     KEY_RSA,
     SERVICE_RSA2048,
     CKM_RSA_PKCS_KEY_PAIR_GEN,
     CKM_SHA256_RSA_PKCS,
     {0},
     0,
     2048},
};

static const struct kind *kind_of_key(const struct bench *b)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(kinds[i].name, b->options.key) == 0)
            return &kinds[i];
    need(false, "--key p256|p384|rsa2048");
    return NULL;
}

static void prepare(struct bench *b)
{
    const struct kind *kind = kind_of_key(b);
    CK_BYTE pin[] = "1234", label[33] = "micro_sim                       ";
    b->service = &b->description.service[kind->service];
    b->alg = kind->alg;
    ok(b->p11->C_Initialize(NULL), "C_Initialize");
    ok(b->p11->C_InitToken(0, pin, 4, label), "C_InitToken (its SO PIN must be 1234)");
    CK_SESSION_HANDLE session = open_session(b, CKF_RW_SESSION);
    ok(b->p11->C_Login(session, CKU_SO, pin, 4), "C_Login");
    ok(b->p11->C_InitPIN(session, pin, 4), "C_InitPIN");
    ok(b->p11->C_Logout(session), "C_Logout");
    ok(b->p11->C_Login(session, CKU_USER, pin, 4), "C_Login");
    CK_MECHANISM mechanism = {.mechanism = kind->keygen};
    CK_ULONG bits = kind->bits;
    CK_ATTRIBUTE public = {CKA_EC_PARAMS, (void *)(uintptr_t)kind->params, kind->params_len};
    if (kind->params_len == 0)
    public = (CK_ATTRIBUTE){CKA_MODULUS_BITS, &bits, sizeof bits};
    CK_OBJECT_HANDLE unused;
    ok(b->p11->C_GenerateKeyPair(session, &mechanism, &public, 1, NULL, 0, &unused, &b->key),
       "C_GenerateKeyPair");
}

/* --- load --- */

struct worker {
    struct bench *b;
    pthread_t thread;
    CK_SESSION_HANDLE session;
    CK_MECHANISM_TYPE mechanism;
    uint32_t warmup, jobs;
    double *us;
    double *sleep_us;
    uint64_t first; /* number of its first sleep */
};

static void sign_once(const struct worker *worker, double *out_us)
{
    CK_FUNCTION_LIST *p11 = worker->b->p11;
    CK_MECHANISM mechanism = {.mechanism = worker->mechanism};
    CK_BYTE digest[32] = {1, 2, 3}, signature[512];
    CK_ULONG len = sizeof signature;
    ok(p11->C_SignInit(worker->session, &mechanism, worker->b->key), "C_SignInit");
    uint64_t start = clock_mono_ns();
    ok(p11->C_Sign(worker->session, digest, sizeof digest, signature, &len), "C_Sign");
    *out_us = (double)(clock_mono_ns() - start) / 1000;
}

static void sleep_once(const struct worker *worker, uint64_t number, double *out_us)
{
    uint64_t start = clock_mono_ns();
    sleep_until_ns(start +
                   dist_sample_ns(worker->b->service, ~worker->b->description.seed, number));
    *out_us = (double)(clock_mono_ns() - start) / 1000;
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    double unused;
    for (uint32_t i = 0; i < worker->warmup; i++)
        sign_once(worker, &unused);
    for (uint32_t i = 0; i < worker->jobs; i++) {
        sign_once(worker, &worker->us[i]);
        if (worker->sleep_us)
            sleep_once(worker, worker->first + i, &worker->sleep_us[i]);
    }
    return NULL;
}

static double cpu_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct part run(struct bench *b, uint32_t sessions, uint32_t jobs, bool sleeps)
{
    static struct worker workers[SESSIONS_MAX];
    uint32_t each = (jobs + sessions - 1) / sessions;
    struct part part = {.sessions = sessions, .jobs = (uint64_t)each * sessions};
    part.us = calloc(part.jobs, sizeof *part.us);
    part.sleep_us = sleeps ? calloc(part.jobs, sizeof *part.us) : NULL;
    need(part.us && (part.sleep_us || !sleeps), "no memory");
    for (uint32_t i = 0; i < sessions; i++)
        workers[i] = (struct worker){.b = b,
                                     .session = open_session(b, 0),
                                     .mechanism = kind_of_key(b)->sign,
                                     .warmup = i == 0 ? b->options.warmup : 0,
                                     .jobs = each,
                                     .us = part.us + (size_t)i * each,
                                     .sleep_us = sleeps ? part.sleep_us + (size_t)i * each : NULL,
                                     .first = (uint64_t)i * each};
    double cpu = cpu_s();
    uint64_t start = clock_mono_ns();
    for (uint32_t i = 0; i < sessions; i++)
        need(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0, "no thread");
    for (uint32_t i = 0; i < sessions; i++)
        pthread_join(workers[i].thread, NULL);
    part.wall_s = (double)(clock_mono_ns() - start) / 1e9;
    part.cpu_us = (cpu_s() - cpu) * 1e6 / (double)part.jobs;
    for (uint32_t i = 0; i < sessions; i++)
        b->p11->C_CloseSession(workers[i].session);
    qsort(part.us, part.jobs, sizeof *part.us, by_value);
    if (sleeps)
        qsort(part.sleep_us, part.jobs, sizeof *part.us, by_value);
    return part;
}

static double floor_of(const struct bench *b)
{
    enum { ROUNDS = 500 };
    struct softkey *key;
    uint8_t digest[48] = {1}, out[600];
    size_t len;
    need(softkey_generate(b->alg, 2048, &key) == ERR_OK, "softkey_generate");
    enum sig_alg alg = sig_alg_default(b->alg);
    double best = 1e9;
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t start = clock_mono_ns();
        need(softkey_sign(key, alg, bytes_of(digest, hash_alg_len(sig_alg_hash(alg))), true, out,
                          sizeof out, &len) == ERR_OK,
             "softkey_sign");
        double us = (double)(clock_mono_ns() - start) / 1000;
        best = us < best ? us : best;
    }
    softkey_free(key);
    return best;
}

/* --- the report --- */

static double quantile(const struct part *part, const double *us, double percentile)
{
    return us[(size_t)(percentile / 100 * (double)(part->jobs - 1))];
}

static void cpu_model(char out[128])
{
    snprintf(out, 128, "unknown");
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "model name : %127[^\n]", out) == 1)
            break;
    if (file)
        fclose(file);
}

static double capacity(const struct bench *b)
{
    double mean = dist_mean_us(b->service);
    return b->description.engines != 0 && mean > 0 ? b->description.engines * 1e6 / mean : 0;
}

static void report_text(const struct bench *b, const struct part *few, const struct part *many)
{
    char cpu[128];
    struct utsname os;
    cpu_model(cpu);
    uname(&os);
    printf("machine      %s, kernel %s, %ld processors\n"
           "device       %s, %u engines, key %s, mean service %.0f us\n"
           "floor        %.1f us of processor for this signature by a plain call (best of 500)\n\n"
           "latency      %u sessions, %llu signatures\n"
           "%-12s %12s %12s %8s %14s %8s\n",
           cpu, os.release, sysconf(_SC_NPROCESSORS_ONLN), b->description.model,
           b->description.engines, b->options.key, dist_mean_us(b->service), b->floor_us,
           few->sessions, (unsigned long long)few->jobs, "percentile", "described us",
           "measured us", "ratio", "plain sleep us", "ratio");
    for (int i = 0; i < PERCENTILES; i++) {
        double said = dist_quantile_us(b->service, percentiles[i] / 100);
        double was = quantile(few, few->us, percentiles[i]);
        double slept = quantile(few, few->sleep_us, percentiles[i]);
        printf("p%-11.4g %12.1f %12.1f %8.3f %14.1f %8.3f\n", percentiles[i], said, was,
               said > 0 ? was / said : 0, slept, was / slept);
    }
    printf("\nrate         %u sessions, %llu signatures\n"
           "described %.0f/s, measured %.0f/s, ratio %.3f\n"
           "processor    %.1f us for each signature (%.1f in the latency part): %.2f times the "
           "floor\n",
           many->sessions, (unsigned long long)many->jobs, capacity(b),
           (double)many->jobs / many->wall_s,
           capacity(b) > 0 ? (double)many->jobs / many->wall_s / capacity(b) : 0, many->cpu_us,
           few->cpu_us, many->cpu_us / b->floor_us);
}

static void report_json(const struct bench *b, const struct part *few, const struct part *many)
{
    char cpu[128];
    struct utsname os;
    cpu_model(cpu);
    uname(&os);
    printf("{\"benchmark\":\"micro_sim\",\"machine\":\"%s\",\"kernel\":\"%s\",\"processors\":%ld,"
           "\"device\":\"%s\",\"engines\":%u,\"key\":\"%s\",\"mean_us\":%.1f,\"floor_us\":%.2f,"
           "\"sessions\":%u,\"signatures\":%llu,\"latency\":[",
           cpu, os.release, sysconf(_SC_NPROCESSORS_ONLN), b->description.model,
           b->description.engines, b->options.key, dist_mean_us(b->service), b->floor_us,
           few->sessions, (unsigned long long)few->jobs);
    for (int i = 0; i < PERCENTILES; i++) {
        double said = dist_quantile_us(b->service, percentiles[i] / 100);
        double was = quantile(few, few->us, percentiles[i]);
        double slept = quantile(few, few->sleep_us, percentiles[i]);
        printf("%s{\"p\":%g,\"described_us\":%.1f,\"measured_us\":%.1f,\"ratio\":%.4f,"
               "\"sleep_us\":%.1f,\"sleep_ratio\":%.4f}",
               i ? "," : "", percentiles[i], said, was, said > 0 ? was / said : 0, slept,
               was / slept);
    }
    double rate = (double)many->jobs / many->wall_s;
    printf("],\"latency_cpu_us\":%.2f,\"rate\":{\"sessions\":%u,\"signatures\":%llu,"
           "\"described_per_s\":%.1f,\"measured_per_s\":%.1f,\"ratio\":%.4f,\"cpu_us\":%.2f}}\n",
           few->cpu_us, many->sessions, (unsigned long long)many->jobs, capacity(b), rate,
           capacity(b) > 0 ? rate / capacity(b) : 0, many->cpu_us);
}

/* --- options --- */

static void usage(FILE *out)
{
    fprintf(out,
            "usage: micro_sim [--preset NAME | --config FILE] [--key p256|p384|rsa2048]\n"
            "                 [--jobs N] [--sessions N] [--many N] [--json]\n"
            "  --preset    the device to play (luna-a790); its rate limit is left out\n"
            "  --config    a description of your own; its token is INITIALIZED ANEW, and what\n"
            "              it held is lost (SO PIN 1234)\n"
            "  --key       (p256)\n"
            "  --jobs      signatures of the latency part (4000); the rate part has five times as\n"
            "              many, and neither takes more than a minute\n"
            "  --sessions  of the latency part: few, so that none waits for another (2)\n"
            "  --many      of the rate part (four for each engine)\n"
            "  --json      one JSON object instead of text\n");
}

static uint32_t number(const char *text, unsigned long max)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    need(*text && !*end && value >= 1 && value <= max, "a number is out of range; see --help");
    return (uint32_t)value;
}

static void parse(struct options *o, int argc, char **argv)
{
    static const struct option options[] = {
        {"preset", required_argument, 0, 'p'},
        {"config", required_argument, 0, 'c'},
        {"key", required_argument, 0, 'k'},
        {"jobs", required_argument, 0, 'n'},
        {"sessions", required_argument, 0, 's'},
        {"many", required_argument, 0, 'm'},
        {"json", no_argument, 0, 'j'},
        {"help", no_argument, 0, 'h'},
        {0},
    };
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'p':
            o->preset = optarg;
            break;
        case 'c':
            o->config = optarg;
            break;
        case 'k':
            o->key = optarg;
            break;
        case 'n':
            o->jobs = number(optarg, JOBS_MAX);
            break;
        case 's':
            o->sessions = number(optarg, SESSIONS_MAX);
            break;
        case 'm':
            o->many = number(optarg, SESSIONS_MAX);
            break;
        case 'j':
            o->json = true;
            break;
        default:
            usage(option == 'h' ? stdout : stderr);
            exit(option == 'h' ? 0 : 2);
        }
    }
    need(optind == argc, "there is an argument too many; see --help");
}

/* As many as fit into RUN_MS_MAX on the described device. */
static uint32_t bounded(const struct bench *b, uint32_t jobs, uint32_t at_once)
{
    double mean = dist_mean_us(b->service);
    if (b->description.engines != 0 && at_once > b->description.engines)
        at_once = b->description.engines;
    double most = mean > 0 ? RUN_MS_MAX * 1000.0 / mean * at_once : JOBS_MAX;
    return jobs < most ? jobs : most < 1 ? 1 : (uint32_t)most;
}

static void clean(const struct bench *b)
{
    char path[128];
    static const char *const files[] = {"token/0000000000000001.obj", "token/token", "token/lock",
                                        "token/status", "sim.yaml"};
    if (!b->folder[0])
        return;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s", b->folder, files[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/token", b->folder);
    rmdir(path);
    rmdir(b->folder);
}

int main(int argc, char **argv)
{
    static struct bench b = {
        .options = {
            .preset = "luna-a790", .key = "p256", .sessions = 2, .jobs = 4000, .warmup = 50}};
    parse(&b.options, argc, argv);
    load(&b);
    describe(&b);
    prepare(&b);
    b.floor_us = floor_of(&b);
    uint32_t many = b.options.many;
    if (many == 0)
        many = b.description.engines != 0 ? 4 * b.description.engines : 16;
    uint32_t most = b.description.sessions_max - 1; /* one is logged in */
    many = many > most ? most : many;
    many = many > SESSIONS_MAX ? SESSIONS_MAX : many;
    uint32_t few = b.options.sessions;
    if (b.description.engines != 0 && few > b.description.engines)
        few = b.description.engines;
    uint32_t many_jobs = b.options.jobs * RATE_JOBS_FACTOR;
    struct part few_part = run(&b, few, bounded(&b, b.options.jobs, few), true);
    struct part many_part = run(&b, many, bounded(&b, many_jobs, many), false);
    (b.options.json ? report_json : report_text)(&b, &few_part, &many_part);
    free(few_part.us);
    free(few_part.sleep_us);
    free(many_part.us);
    ok(b.p11->C_Finalize(NULL), "C_Finalize");
    clean(&b);
    return 0;
}
