/* micro_store: how many issuances a second the store makes durable, and what one costs the writer.
 *
 * One thread stages issuances as a core does (factory/device, every rule on, every key, device and
 * serial different) and waits for their commit; the store is opened with its fully durable
 * defaults. For each batch size: records per second, time of a commit, CPU of the writer thread per
 * record, and bytes that reach the disk. The disk's own floor is measured in the same run: one 4
 * KiB write with fdatasync.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "factory/device.h"

enum {
    RECORDS_DEFAULT = 50000,
    RECORDS_MAX = 100000000,
    CERT_LEN_DEFAULT = 520,
    SYNC_FLOOR_COUNT = 64,
    ROWS = 4,
    LINE_COUNT = 4,
};

struct options {
    const char *dir;
    uint64_t records; /* of each row */
    uint64_t prefill;
    uint32_t cert_len;
    bool random_ids;
    bool json;
    bool keep;
};

struct bench {
    struct options options;
    struct store *store;
    struct wake_flag flag;
    struct wake wake;
    uint32_t line_id[LINE_COUNT];
    uint32_t issuer_id;
    uint64_t made; /* numbers every issuance of the run */
    uint64_t seed;
};

struct row {
    const char *name;
    uint32_t batch;
    uint64_t records;
    double wall_s;
    double writer_cpu_us;
    double staging_cpu_us;
    double commit_p50_ms;
    double commit_p99_ms;
    double commit_mean_ms;
    uint64_t commits;
    double written_bytes; /* per record, handed to write calls */
    double map_bytes;     /* per record, growth of the file */
};

static FILE *text_out;

static void die(const char *what, const char *detail)
{
    fprintf(stderr, "micro_store: %s: %s\n", what, detail);
    exit(1);
}

static uint64_t next_random(struct bench *bench)
{
    uint64_t z = bench->seed += 0x9e3779b97f4a7c15ull; /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* --- issuances --- */

static void fill_facts(struct bench *bench, struct issue_facts *facts)
{
    uint64_t n = ++bench->made;
    uint32_t line = (uint32_t)(n % LINE_COUNT);
    *facts = (struct issue_facts){
        .kind = ISSUE_NEW,
        .protocol = PROTOCOL_EST,
        .caller = CALLER_STATION,
        .line_id = bench->line_id[line],
        .issuer_id = bench->issuer_id,
        .not_before_s = 1700000000,
        .not_after_s = 4102444800,
    };
    uint64_t id = bench->options.random_ids ? next_random(bench) : n;
    facts->device_id_len = (uint8_t)snprintf(facts->device_id, sizeof(facts->device_id),
                                             "SN-%016llx", (unsigned long long)id);
    facts->station_len =
        (uint8_t)snprintf(facts->station, sizeof(facts->station), "station-%u", (unsigned)(n % 8));
    facts->line_name_len =
        (uint8_t)snprintf(facts->line_name, sizeof(facts->line_name), "line-%u", line);
    char request[REQUEST_ID_LEN + 1];
    snprintf(request, sizeof(request), "%016llx", (unsigned long long)next_random(bench));
    memcpy(facts->request_id, request, REQUEST_ID_LEN);
    store_be64(facts->serial, n >> 8); /* a time-ordered block, then 64 random bits */
    store_be64(facts->serial + 8, next_random(bench));
    for (int i = 0; i < 4; i++) {
        uint64_t key = next_random(bench), print = next_random(bench);
        memcpy(facts->spki_hash + 8 * i, &key, sizeof(key));
        memcpy(facts->fingerprint + 8 * i, &print, sizeof(print));
    }
}

static bool stage_one(struct bench *bench)
{
    struct store_job *job = store_job_take(bench->store, 0);
    if (job == NULL)
        return false;
    fill_facts(bench, (void *)job->facts);
    job->apply = device_apply;
    job->facts_len = sizeof(struct issue_facts);
    job->data_len = bench->options.cert_len;
    for (uint32_t i = 0; i + 8 <= job->data_len; i += 8) {
        uint64_t bytes = next_random(bench);
        memcpy(job->data + i, &bytes, sizeof(bytes));
    }
    store_job_submit(bench->store, 0, job);
    return true;
}

static void sleep_until_woken(struct bench *bench)
{
    wake_prepare(&bench->wake);
    if (!store_pending(bench->store, 0)) {
        struct pollfd pollfd = {.fd = bench->wake.event_fd, .events = POLLIN};
        uint64_t count;
        (void)poll(&pollfd, 1, 1000);
        if (read(pollfd.fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
            die("eventfd", strerror(errno));
    }
    wake_cancel(&bench->wake);
}

static uint32_t reap(struct bench *bench)
{
    uint32_t count = 0;
    for (struct store_job *job; (job = store_poll(bench->store, 0)) != NULL; count++) {
        if (job->err != ERR_OK)
            die("commit", err_code(job->err));
        if (!commit_token_is_valid(bench->store, job->token))
            die("commit", "the token is not valid");
        store_job_release(bench->store, 0, job);
    }
    return count;
}

/* `refill`: stages again as soon as `batch` jobs are back, with `window` in flight. */
static void issue_many(struct bench *bench, uint64_t records, uint32_t window, uint32_t batch)
{
    uint64_t staged = 0, done = 0;
    while (done < records) {
        if (staged - done + batch <= window)
            while (staged < records && staged - done < window && stage_one(bench))
                staged++;
        store_kick(bench->store, 0);
        uint32_t back = reap(bench);
        done += back;
        if (back == 0)
            sleep_until_woken(bench);
    }
}

/* --- measurement --- */

static double cpu_us(int who)
{
    struct rusage usage;
    getrusage(who, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static uint64_t written_bytes(void)
{
    char line[128];
    unsigned long long bytes = 0;
    FILE *io = fopen("/proc/self/io", "r");
    while (io != NULL && fgets(line, sizeof(line), io) != NULL)
        if (sscanf(line, "wchar: %llu", &bytes) == 1)
            break;
    if (io != NULL)
        fclose(io);
    return bytes;
}

static void hist_since(struct hist *now, const struct hist *before)
{
    for (unsigned i = 0; i < HIST_BUCKETS; i++)
        atomic_store(&now->bucket[i],
                     atomic_load(&now->bucket[i]) - atomic_load(&before->bucket[i]));
    atomic_store(&now->sum, atomic_load(&now->sum) - atomic_load(&before->sum));
    atomic_store(&now->count, atomic_load(&now->count) - atomic_load(&before->count));
}

static void measure(struct bench *bench, struct row *row, uint32_t window)
{
    static struct hist before, after;
    struct store_stats stats_before, stats_after;
    store_stats(bench->store, &stats_before);
    memcpy(&before, store_commit_hist(bench->store), sizeof(before));
    uint64_t written = written_bytes();
    double all_us = cpu_us(RUSAGE_SELF), own_us = cpu_us(RUSAGE_THREAD);
    uint64_t start_ns = clock_mono_ns();
    issue_many(bench, row->records, window, row->batch);
    row->wall_s = (double)(clock_mono_ns() - start_ns) / 1e9;
    own_us = cpu_us(RUSAGE_THREAD) - own_us;
    all_us = cpu_us(RUSAGE_SELF) - all_us;
    written = written_bytes() - written;
    memcpy(&after, store_commit_hist(bench->store), sizeof(after));
    store_stats(bench->store, &stats_after);
    hist_since(&after, &before);
    double n = (double)row->records;
    row->writer_cpu_us = (all_us - own_us) / n;
    row->staging_cpu_us = own_us / n;
    row->commits = stats_after.commits - stats_before.commits;
    row->commit_p50_ms = (double)hist_quantile(&after, 0.5) / 1e6;
    row->commit_p99_ms = (double)hist_quantile(&after, 0.99) / 1e6;
    row->commit_mean_ms = (double)atomic_load(&after.sum) / (double)row->commits / 1e6;
    row->written_bytes = (double)written / n;
    row->map_bytes = (double)(stats_after.map_used - stats_before.map_used) / n;
}

/* What the disk takes for the smallest durable write. */
static double sync_floor_ms(const char *dir)
{
    char path[600];
    static uint8_t page[4096];
    snprintf(path, sizeof(path), "%s/sync-floor", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        die(path, strerror(errno));
    double total = 0;
    for (int i = 0; i <= SYNC_FLOOR_COUNT; i++) {
        uint64_t start_ns = clock_mono_ns();
        page[0] = (uint8_t)i;
        if (pwrite(fd, page, sizeof(page), 0) != sizeof(page) || fdatasync(fd) != 0)
            die(path, strerror(errno));
        if (i != 0) /* the first one makes the block */
            total += (double)(clock_mono_ns() - start_ns) / 1e6;
    }
    close(fd);
    unlink(path);
    return total / SYNC_FLOOR_COUNT;
}

/* --- report --- */

static void cpu_model(char out[128])
{
    char line[256];
    FILE *info = fopen("/proc/cpuinfo", "r");
    snprintf(out, 128, "unknown");
    while (info != NULL && fgets(line, sizeof(line), info) != NULL)
        if (sscanf(line, "model name : %127[^\n]", out) == 1)
            break;
    if (info != NULL)
        fclose(info);
}

static void print_head(const struct options *options, const char *dir, double floor_ms)
{
    struct utsname uts;
    struct statfs fs;
    char model[128];
    cpu_model(model);
    uname(&uts);
    if (statfs(dir, &fs) != 0)
        die(dir, strerror(errno));
    fprintf(text_out, "machine   %s, %ld cores, %s %s, file system 0x%lx\n", model,
            sysconf(_SC_NPROCESSORS_ONLN), uts.sysname, uts.release, (unsigned long)fs.f_type);
    fprintf(text_out,
            "config    certificate %u bytes, device ids %s, keys random, lines %d, prefill %llu, "
            "durable (no LMDB flag that weakens it)\n",
            options->cert_len, options->random_ids ? "random" : "rising", LINE_COUNT,
            (unsigned long long)options->prefill);
    fprintf(text_out, "floor     one 4 KiB write with fdatasync: %.3f ms\n\n", floor_ms);
    fprintf(text_out, "%-10s %9s %10s %11s %11s %8s %8s %8s %9s %9s\n", "row", "records",
            "records/s", "writer us", "staging us", "mean ms", "p50 ms", "p99 ms", "write B/r",
            "file B/r");
}

static void print_row(const struct row *row)
{
    fprintf(text_out, "%-10s %9llu %10.0f %11.2f %11.2f %8.2f %8.2f %8.2f %9.0f %9.0f\n", row->name,
            (unsigned long long)row->records, (double)row->records / row->wall_s,
            row->writer_cpu_us, row->staging_cpu_us, row->commit_mean_ms, row->commit_p50_ms,
            row->commit_p99_ms, row->written_bytes, row->map_bytes);
    fflush(text_out);
}

static void print_json(const struct options *options, double floor_ms, const struct row *rows,
                       size_t count)
{
    printf("{\"benchmark\": \"micro_store\", \"sync_floor_ms\": %.4f, \"prefill\": %llu, "
           "\"cert_len\": %u, \"random_ids\": %s, \"rows\": [",
           floor_ms, (unsigned long long)options->prefill, options->cert_len,
           options->random_ids ? "true" : "false");
    for (size_t i = 0; i < count; i++) {
        const struct row *row = &rows[i];
        printf("%s\n  {\"row\": \"%s\", \"batch\": %u, \"records\": %llu, \"commits\": %llu, "
               "\"records_per_s\": %.1f, \"writer_cpu_us\": %.3f, \"staging_cpu_us\": %.3f, "
               "\"commit_mean_ms\": %.4f, \"commit_p50_ms\": %.4f, \"commit_p99_ms\": %.4f, "
               "\"write_bytes_per_record\": %.1f, \"file_bytes_per_record\": %.1f}",
               i == 0 ? "" : ",", row->name, row->batch, (unsigned long long)row->records,
               (unsigned long long)row->commits, (double)row->records / row->wall_s,
               row->writer_cpu_us, row->staging_cpu_us, row->commit_mean_ms, row->commit_p50_ms,
               row->commit_p99_ms, row->written_bytes, row->map_bytes);
    }
    puts("\n]}");
}

/* --- main --- */

static void usage(void)
{
    puts(
        "usage: micro_store [--dir DIR] [--records N] [--prefill N] [--cert-len N] [--random-ids]\n"
        "                   [--keep] [--json]\n"
        "\n"
        "Measures the store's durable writes through the device rules, in batches of 64, 256 and\n"
        "1024 and saturated.\n"
        "\n"
        "  --dir DIR       where the temporary store is made (default $TMPDIR or /tmp)\n"
        "  --records N     issuances per row, 1000 to 100000000 (default 50000)\n"
        "  --prefill N     issuances before the first row (default 0)\n"
        "  --cert-len N    bytes of a certificate, 64 to 8192 (default 520)\n"
        "  --random-ids    device ids in no order (default: rising, as on a line)\n"
        "  --keep          leave the store behind\n"
        "  --json          JSON on the standard output, the table on the standard error");
}

static uint64_t number(const char *text, uint64_t low, uint64_t high, const char *option)
{
    uint64_t value;
    if (!bytes_to_u64(bytes_of_str(text), high, &value) || value < low) {
        fprintf(stderr, "micro_store: %s takes a number from %llu to %llu\n", option,
                (unsigned long long)low, (unsigned long long)high);
        exit(2);
    }
    return value;
}

static struct options parse(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"dir", required_argument, NULL, 'd'},
        {"records", required_argument, NULL, 'r'},
        {"prefill", required_argument, NULL, 'p'},
        {"cert-len", required_argument, NULL, 'c'},
        {"random-ids", no_argument, NULL, 'i'},
        {"keep", no_argument, NULL, 'k'},
        {"json", no_argument, NULL, 'j'},
        {"help", no_argument, NULL, 'h'},
        {0},
    };
    const char *tmp = getenv("TMPDIR");
    struct options options = {.dir = tmp != NULL ? tmp : "/tmp",
                              .records = RECORDS_DEFAULT,
                              .cert_len = CERT_LEN_DEFAULT};
    for (int c; (c = getopt_long(argc, argv, "h", long_options, NULL)) != -1;) {
        switch (c) {
        case 'd':
            options.dir = optarg;
            break;
        case 'r':
            options.records = number(optarg, 1000, RECORDS_MAX, "--records");
            break;
        case 'p':
            options.prefill = number(optarg, 0, RECORDS_MAX, "--prefill");
            break;
        case 'c':
            options.cert_len = (uint32_t)number(optarg, 64, CERT_DER_MAX, "--cert-len");
            break;
        case 'i':
            options.random_ids = true;
            break;
        case 'k':
            options.keep = true;
            break;
        case 'j':
            options.json = true;
            break;
        case 'h':
            usage();
            exit(0);
        default:
            exit(2);
        }
    }
    return options;
}

static void start(struct bench *bench, const char *dir)
{
    char detail[256] = "";
    struct store_config config = {.dir = dir};
    if (store_open(&config, &bench->store, detail) != ERR_OK)
        die("store", detail);
    for (uint32_t i = 0; i < LINE_COUNT; i++) {
        char name[16];
        snprintf(name, sizeof(name), "line-%u", i);
        if (store_line_id(bench->store, name, &bench->line_id[i]) != ERR_OK)
            die("store", "no line id");
    }
    static const uint8_t issuer[32] = {1};
    bench->wake = (struct wake){&bench->flag, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    if (store_issuer_id(bench->store, issuer, &bench->issuer_id) != ERR_OK ||
        store_start(bench->store, 1, &bench->wake) != ERR_OK)
        die("store", "cannot start");
}

static void remove_store(const char *dir)
{
    static const char *const names[] = {"data.mdb", "lock.mdb", "certmilld.lock"};
    char path[600];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    bench.options = parse(argc, argv);
    bench.seed = 1;
    const struct options *options = &bench.options;
    text_out = options->json ? stderr : stdout;
    char dir[512];
    snprintf(dir, sizeof(dir), "%.480s/micro-store-XXXXXX", options->dir);
    if (mkdtemp(dir) == NULL)
        die(dir, strerror(errno));
    double floor_ms = sync_floor_ms(dir);
    start(&bench, dir);
    print_head(options, dir, floor_ms);
    issue_many(&bench, options->prefill, STORE_JOBS_PER_CORE_MAX, 1);

    static const struct {
        const char *name;
        uint32_t batch, window;
    } plan[] = {
        {"batch 64", 64, 64},
        {"batch 256", 256, 256},
        {"batch 1024", STORE_BATCH_MAX, STORE_BATCH_MAX},
        {"saturated", 1, 3 * STORE_BATCH_MAX},
    };
    struct row rows[ROWS];
    _Static_assert(sizeof(plan) / sizeof(plan[0]) == ROWS, "a result for each row");
    for (size_t i = 0; i < ROWS; i++) {
        rows[i] =
            (struct row){.name = plan[i].name, .batch = plan[i].batch, .records = options->records};
        measure(&bench, &rows[i], plan[i].window);
        print_row(&rows[i]);
    }
    if (options->json)
        print_json(options, floor_ms, rows, ROWS);
    store_stop(bench.store);
    store_close(bench.store);
    if (!options->keep)
        remove_store(dir);
    return 0;
}
