/* micro_verify: what one ECDSA verification costs when every key is different, as in a fleet.
 *
 * Routes, over the same keys, digests and signatures, in turn within each repetition:
 *
 * - wolfcrypt untrusted: wc_ecc_import_x963_ex2 with its check of the point, wc_ecc_verify_hash
 * - wolfcrypt naive: wc_ecc_import_x963, which does not check the point, wc_ecc_verify_hash
 * - openssl evp: d2i_PUBKEY, EVP_PKEY_verify
 * - openssl ec_key: o2i_ECPublicKey, ECDSA_verify
 * - verify_one: engine/crypto, the key from its SubjectPublicKeyInfo
 * - verify_batch: the same, jobs in batches
 * - ... key: one imported key that signed everything (a CA's)
 *
 * Times are CPU times of the thread. The ratio is each route's time over "wolfcrypt untrusted", the
 * plain library call that checks what we check.
 */
#include <dlfcn.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <time.h>

#include <wolfssl/options.h>

#include <wolfssl/version.h>
#include <wolfssl/wolfcrypt/ecc.h>

#include "crypto/digest.h"
#include "crypto/softkey.h"
#include "crypto/verify.h"

enum { REPS_MAX = 101, ROUTES_MAX = 16, BATCH_MAX = 256 };

struct item {
    struct spki spki;
    uint8_t spki_der[256];
    uint8_t digest[DIGEST_LEN_MAX];
    uint8_t signature[128]; /* by the item's own key */
    size_t signature_len;
    uint8_t ca_signature[128]; /* by the one CA key */
    size_t ca_signature_len;
};

struct bench {
    enum key_alg key_alg;
    enum sig_alg sig_alg;
    size_t keys, batch;
    unsigned reps;
    int cpu;
    bool json;
    struct item *items;
    struct spki ca_spki;
    uint8_t ca_spki_der[256];
    struct verify_key *ca_key;
    void *openssl_ca_key;
};

/* OpenSSL by dlopen: certmill does not link it. */
static struct {
    const char *(*version)(int);
    void *(*d2i_PUBKEY)(void **, const unsigned char **, long);
    void (*EVP_PKEY_free)(void *);
    void *(*EVP_PKEY_CTX_new)(void *, void *);
    void (*EVP_PKEY_CTX_free)(void *);
    int (*EVP_PKEY_verify_init)(void *);
    int (*EVP_PKEY_verify)(void *, const unsigned char *, size_t, const unsigned char *, size_t);
    void *(*EC_KEY_new_by_curve_name)(int);
    void (*EC_KEY_free)(void *);
    void *(*o2i_ECPublicKey)(void **, const unsigned char **, long);
    int (*ECDSA_verify)(int, const unsigned char *, int, const unsigned char *, int, void *);
} ossl;

static bool openssl_load(void)
{
    void *lib = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        return false;
    struct {
        const char *name;
        void *slot;
    } const symbols[] = {
        {"OpenSSL_version", &ossl.version},
        {"d2i_PUBKEY", &ossl.d2i_PUBKEY},
        {"EVP_PKEY_free", &ossl.EVP_PKEY_free},
        {"EVP_PKEY_CTX_new", &ossl.EVP_PKEY_CTX_new},
        {"EVP_PKEY_CTX_free", &ossl.EVP_PKEY_CTX_free},
        {"EVP_PKEY_verify_init", &ossl.EVP_PKEY_verify_init},
        {"EVP_PKEY_verify", &ossl.EVP_PKEY_verify},
        {"EC_KEY_new_by_curve_name", &ossl.EC_KEY_new_by_curve_name},
        {"EC_KEY_free", &ossl.EC_KEY_free},
        {"o2i_ECPublicKey", &ossl.o2i_ECPublicKey},
        {"ECDSA_verify", &ossl.ECDSA_verify},
    };
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *found = dlsym(lib, symbols[i].name);
        if (!found)
            return false;
        memcpy(symbols[i].slot, &found, sizeof found);
    }
    return true;
}

static void need(bool condition, const char *what)
{
    if (condition)
        return;
    fprintf(stderr, "micro_verify: %s\n", what);
    exit(1);
}

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* --- routes: each verifies all items once --- */

static size_t digest_len(const struct bench *b)
{
    return hash_alg_len(sig_alg_hash(b->sig_alg));
}

static void wolfcrypt(const struct bench *b, int untrusted)
{
    for (size_t i = 0; i < b->keys; i++) {
        struct item *item = &b->items[i];
        ecc_key key;
        int good = 0;
        need(wc_ecc_init(&key) == 0 &&
                 wc_ecc_import_x963_ex2(item->spki.key.ptr, (word32)item->spki.key.len, &key,
                                        b->key_alg == KEY_EC_P256 ? ECC_SECP256R1 : ECC_SECP384R1,
                                        untrusted) == 0 &&
                 wc_ecc_verify_hash(item->signature, (word32)item->signature_len, item->digest,
                                    (word32)digest_len(b), &good, &key) == 0 &&
                 good == 1,
             "wolfCrypt does not verify");
        wc_ecc_free(&key);
    }
}

static void route_wolfcrypt_untrusted(const struct bench *b)
{
    wolfcrypt(b, 1);
}

static void route_wolfcrypt_naive(const struct bench *b)
{
    wolfcrypt(b, 0);
}

static bool evp_verify(const struct bench *b, void *pkey, const struct item *item,
                       const uint8_t *signature, size_t signature_len)
{
    void *ctx = ossl.EVP_PKEY_CTX_new(pkey, NULL);
    bool good =
        ctx && ossl.EVP_PKEY_verify_init(ctx) == 1 &&
        ossl.EVP_PKEY_verify(ctx, signature, signature_len, item->digest, digest_len(b)) == 1;
    ossl.EVP_PKEY_CTX_free(ctx);
    return good;
}

static void route_openssl_evp(const struct bench *b)
{
    for (size_t i = 0; i < b->keys; i++) {
        struct item *item = &b->items[i];
        const unsigned char *p = item->spki.der.ptr;
        void *pkey = ossl.d2i_PUBKEY(NULL, &p, (long)item->spki.der.len);
        need(pkey && evp_verify(b, pkey, item, item->signature, item->signature_len),
             "OpenSSL does not verify");
        ossl.EVP_PKEY_free(pkey);
    }
}

static void route_openssl_ec_key(const struct bench *b)
{
    enum { NID_X9_62_prime256v1 = 415, NID_secp384r1 = 715 };
    for (size_t i = 0; i < b->keys; i++) {
        struct item *item = &b->items[i];
        const unsigned char *p = item->spki.key.ptr;
        void *key = ossl.EC_KEY_new_by_curve_name(b->key_alg == KEY_EC_P256 ? NID_X9_62_prime256v1
                                                                            : NID_secp384r1);
        need(key && ossl.o2i_ECPublicKey(&key, &p, (long)item->spki.key.len) &&
                 ossl.ECDSA_verify(0, item->digest, (int)digest_len(b), item->signature,
                                   (int)item->signature_len, key) == 1,
             "OpenSSL does not verify");
        ossl.EC_KEY_free(key);
    }
}

static void route_openssl_evp_key(const struct bench *b)
{
    for (size_t i = 0; i < b->keys; i++) {
        struct item *item = &b->items[i];
        need(evp_verify(b, b->openssl_ca_key, item, item->ca_signature, item->ca_signature_len),
             "OpenSSL does not verify");
    }
}

static struct verify_job job_of(const struct bench *b, const struct item *item)
{
    return (struct verify_job){
        .alg = b->sig_alg,
        .spki = &item->spki,
        .digest = bytes_of(item->digest, digest_len(b)),
        .signature = bytes_of(item->signature, item->signature_len),
    };
}

static void route_verify_one(const struct bench *b)
{
    for (size_t i = 0; i < b->keys; i++) {
        struct verify_job job = job_of(b, &b->items[i]);
        need(verify_one(&job) == ERR_OK, "verify_one does not verify");
    }
}

static void run_batches(const struct bench *b, const struct verify_key *key)
{
    struct verify_job jobs[BATCH_MAX], *pointers[BATCH_MAX];
    for (size_t i = 0; i < b->keys;) {
        size_t n = 0;
        for (; n < b->batch && i < b->keys; n++, i++) {
            jobs[n] = job_of(b, &b->items[i]);
            if (key) {
                jobs[n].key = key;
                jobs[n].signature =
                    bytes_of(b->items[i].ca_signature, b->items[i].ca_signature_len);
            }
            pointers[n] = &jobs[n];
        }
        verify_batch(pointers, n);
        for (size_t j = 0; j < n; j++)
            need(jobs[j].result == ERR_OK, "verify_batch does not verify");
    }
}

static void route_verify_batch(const struct bench *b)
{
    run_batches(b, NULL);
}

static void route_verify_batch_key(const struct bench *b)
{
    run_batches(b, b->ca_key);
}

static void route_verify_one_key(const struct bench *b)
{
    for (size_t i = 0; i < b->keys; i++) {
        struct verify_job job = job_of(b, &b->items[i]);
        job.key = b->ca_key;
        job.signature = bytes_of(b->items[i].ca_signature, b->items[i].ca_signature_len);
        need(verify_one(&job) == ERR_OK, "verify_one does not verify");
    }
}

struct route {
    const char *name;
    void (*run)(const struct bench *b);
    bool openssl;
    double us[REPS_MAX]; /* per verification */
};

static struct route routes[] = {
    {.name = "wolfcrypt untrusted", .run = route_wolfcrypt_untrusted},
    {.name = "wolfcrypt naive", .run = route_wolfcrypt_naive},
    {.name = "openssl evp", .run = route_openssl_evp, .openssl = true},
    {.name = "openssl ec_key", .run = route_openssl_ec_key, .openssl = true},
    {.name = "verify_one", .run = route_verify_one},
    {.name = "verify_batch", .run = route_verify_batch},
    {.name = "openssl evp key", .run = route_openssl_evp_key, .openssl = true},
    {.name = "verify_one key", .run = route_verify_one_key},
    {.name = "verify_batch key", .run = route_verify_batch_key},
};
enum { ROUTE_COUNT = sizeof routes / sizeof *routes };

/* --- preparation and report --- */

static void sign(const struct bench *b, const struct softkey *key, const struct item *item,
                 uint8_t out[128], size_t *out_len)
{
    need(softkey_sign(key, b->sig_alg, bytes_of(item->digest, digest_len(b)), true, out, 128,
                      out_len) == ERR_OK,
         "cannot sign");
}

static void prepare_spki(const struct softkey *key, uint8_t der[256], struct spki *out)
{
    size_t len;
    need(softkey_spki(key, der, 256, &len) == ERR_OK &&
             spki_decode(bytes_of(der, len), out) == ERR_OK,
         "cannot encode the key");
}

static void prepare(struct bench *b)
{
    struct softkey *ca;
    b->items = calloc(b->keys, sizeof *b->items);
    need(b->items && softkey_generate(b->key_alg, 0, &ca) == ERR_OK, "cannot make keys");
    prepare_spki(ca, b->ca_spki_der, &b->ca_spki);
    b->ca_key = verify_key_new(&b->ca_spki);
    need(b->ca_key != NULL, "cannot import the CA key");
    for (size_t i = 0; i < b->keys; i++) {
        struct item *item = &b->items[i];
        struct softkey *key;
        need(softkey_generate(b->key_alg, 0, &key) == ERR_OK, "cannot make keys");
        prepare_spki(key, item->spki_der, &item->spki);
        digest_once(sig_alg_hash(b->sig_alg), bytes_of(&i, sizeof i), item->digest);
        sign(b, key, item, item->signature, &item->signature_len);
        sign(b, ca, item, item->ca_signature, &item->ca_signature_len);
        softkey_free(key);
    }
    softkey_free(ca);
    if (ossl.version) {
        const unsigned char *p = b->ca_spki.der.ptr;
        b->openssl_ca_key = ossl.d2i_PUBKEY(NULL, &p, (long)b->ca_spki.der.len);
        need(b->openssl_ca_key != NULL, "OpenSSL does not take the CA key");
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
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

static void report(const struct bench *b)
{
    char cpu[128];
    struct utsname os;
    cpu_model(cpu);
    uname(&os);
    const char *openssl = ossl.version ? ossl.version(0) : "not found";
    for (size_t i = 0; i < ROUTE_COUNT; i++)
        qsort(routes[i].us, b->reps, sizeof(double), by_value);
    double base = routes[0].us[b->reps / 2];
    if (b->json)
        printf("{\"benchmark\":\"micro_verify\",\"machine\":\"%s\",\"kernel\":\"%s\",\"cpu\":%d,"
               "\"wolfssl\":\"%s\",\"openssl\":\"%s\",\"key\":\"%s\",\"keys\":%zu,\"batch\":%zu,"
               "\"repetitions\":%u,\"routes\":[",
               cpu, os.release, b->cpu, LIBWOLFSSL_VERSION_STRING, openssl,
               key_alg_name(b->key_alg), b->keys, b->batch, b->reps);
    else
        printf("machine      %s, kernel %s, pinned to CPU %d\n"
               "libraries    wolfSSL %s, %s\n"
               "configured   %s, %zu distinct keys, batches of %zu, %u repetitions\n\n"
               "%-22s %10s %10s %10s %8s\n",
               cpu, os.release, b->cpu, LIBWOLFSSL_VERSION_STRING, openssl,
               key_alg_name(b->key_alg), b->keys, b->batch, b->reps, "us per verification",
               "median", "best", "worst", "ratio");
    const char *comma = "";
    for (size_t i = 0; i < ROUTE_COUNT; i++) {
        const struct route *route = &routes[i];
        if (route->openssl && !ossl.version)
            continue;
        double median = route->us[b->reps / 2], best = route->us[0], worst = route->us[b->reps - 1];
        if (b->json)
            printf("%s{\"route\":\"%s\",\"median_us\":%.3f,\"best_us\":%.3f,\"worst_us\":%.3f,"
                   "\"ratio\":%.4f}",
                   comma, route->name, median, best, worst, median / base);
        else
            printf("%-22s %10.2f %10.2f %10.2f %8.3f\n", route->name, median, best, worst,
                   median / base);
        comma = ",";
    }
    if (b->json)
        printf("]}\n");
}

static void usage(FILE *out)
{
    fprintf(out, "usage: micro_verify [--key p256|p384] [--keys N] [--reps N] [--batch N] [--cpu N]"
                 " [--json]\n"
                 "  --key    curve (p256)\n"
                 "  --keys   distinct keys, each with one signature (4000)\n"
                 "  --reps   repetitions of every route; the median counts (7)\n"
                 "  --batch  jobs per verify_batch (32)\n"
                 "  --cpu    CPU to be pinned to (where it starts)\n"
                 "  --json   one JSON object instead of text\n");
}

static unsigned long number(const char *text, unsigned long min, unsigned long max)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    need(*text && !*end && value >= min && value <= max, "a number is out of range; see --help");
    return value;
}

static void parse(struct bench *b, int argc, char **argv)
{
    static const struct option options[] = {
        {"key", required_argument, 0, 'k'},  {"keys", required_argument, 0, 'n'},
        {"reps", required_argument, 0, 'r'}, {"batch", required_argument, 0, 'b'},
        {"cpu", required_argument, 0, 'c'},  {"json", no_argument, 0, 'j'},
        {"help", no_argument, 0, 'h'},       {0},
    };
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        switch (option) {
        case 'k':
            need(strcmp(optarg, "p256") == 0 || strcmp(optarg, "p384") == 0, "--key p256|p384");
            if (optarg[2] == '8') {
                b->key_alg = KEY_EC_P384;
                b->sig_alg = SIG_ECDSA_SHA384;
            }
            break;
        case 'n':
            b->keys = number(optarg, 1, 1000000);
            break;
        case 'r':
            b->reps = (unsigned)number(optarg, 1, REPS_MAX);
            break;
        case 'b':
            b->batch = number(optarg, 1, BATCH_MAX);
            break;
        case 'c':
            b->cpu = (int)number(optarg, 0, CPU_SETSIZE - 1);
            break;
        case 'j':
            b->json = true;
            break;
        case 'h':
            usage(stdout);
            exit(0);
        default:
            usage(stderr);
            exit(2);
        }
    }
    need(optind == argc, "unexpected argument; see --help");
}

int main(int argc, char **argv)
{
    struct bench b = {
        .key_alg = KEY_EC_P256,
        .sig_alg = SIG_ECDSA_SHA256,
        .keys = 4000,
        .batch = 32,
        .reps = 7,
        .cpu = sched_getcpu(),
    };
    parse(&b, argc, argv);
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(b.cpu, &set);
    need(sched_setaffinity(0, sizeof set, &set) == 0, "cannot be pinned to this CPU");
    if (!openssl_load())
        fprintf(stderr, "micro_verify: no libcrypto.so.3; going on without OpenSSL\n");
    prepare(&b);
    for (unsigned rep = 0; rep < b.reps; rep++) {
        for (size_t i = 0; i < ROUTE_COUNT; i++) {
            if (routes[i].openssl && !ossl.version)
                continue;
            double start = now_us();
            routes[i].run(&b);
            routes[i].us[rep] = (now_us() - start) / (double)b.keys;
        }
    }
    report(&b);
    return 0;
}
