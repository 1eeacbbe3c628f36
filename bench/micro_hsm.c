/* micro_hsm: how much of a token's rate arrives through the signing queue.
 *
 * The bare loop: as many processes as signers, each with as many sessions, a thread for each that
 * does nothing but sign. The queue: the same token behind certmill-signer, fed by cores that keep a
 * number of jobs in flight. Rounds of both alternate in one run; what counts is the ratio (T6 of
 * spec/performance.md). Neither verifies the signatures: that is the cores' work, and not measured
 * here.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "bench/own_token.h"
#include "hsm/queue/queue.h"

enum {
    ROUNDS_MAX = 32,
    SECONDS_MAX = 60,
    CORES_HERE_MAX = 8,
    DIGEST = 32,
    OPEN_WAIT_S = 30,
    TURN_JOBS = 256,
    SIM_ENGINES = 31,
    SIM_SERVICE_US = 1400,
    SIM_SESSIONS = 4 * SIM_ENGINES,
};

struct options {
    const char *module;
    const char *token;
    const char *key;
    const char *pin_file;
    uint32_t signers;
    uint32_t sessions;
    uint32_t cores;
    uint32_t window; /* jobs in flight of all cores; 0: four for each session */
    uint32_t seconds_x10;
    uint32_t rounds;
    bool softhsm;
    bool sim;
    bool t6;
    bool json;
};

struct sample {
    double rate;
    double cpu_us;    /* of all processes, per signature */
    double switches;  /* voluntary context switches of all processes, per signature */
    double engine_us; /* the queue's cores alone, per signature */
    double batch;     /* jobs of one batch of a signer */
    double latency_p50_us, latency_p99_us;
    uint64_t failed;
};

/* Shared with the children of the bare loop. */
struct gate {
    _Atomic uint32_t ready, go, stop, failed;
    _Atomic uint64_t signed_total;
};

static FILE *text_out;

static uint32_t window_of(const struct options *options)
{
    /* of a busy appliance hundreds wait; so many let a core sleep while a signer works */
    uint32_t each = 4 * options->sessions > 16 ? 4 * options->sessions : 16;
    return options->window != 0 ? options->window : each * options->signers;
}

static size_t read_pin(const struct options *options, uint8_t out[P11_PIN_MAX])
{
    if (options->pin_file == NULL)
        return 0;
    FILE *file = fopen(options->pin_file, "r");
    if (file == NULL)
        die(options->pin_file, strerror(errno));
    size_t len = fread(out, 1, P11_PIN_MAX, file);
    fclose(file);
    while (len != 0 && (out[len - 1] == '\n' || out[len - 1] == '\r'))
        len--;
    return len;
}

static double cpu_us_of(int who)
{
    struct rusage usage;
    getrusage(who, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static double switches_of(int who)
{
    struct rusage usage;
    getrusage(who, &usage);
    return (double)usage.ru_nvcsw;
}

/* --- the bare loop --- */

struct bare {
    const struct options *options;
    struct p11_module *module;
    struct gate *gate;
    struct bytes pin;
};

static bool pick_mechanism(const struct p11_key *key, enum sign_mechanism *out)
{
    return p11_mechanism_of(sig_alg_default(key->alg), out);
}

static void *bare_thread(void *arg)
{
    const struct bare *bare = arg;
    struct p11_session *session = NULL;
    struct p11_key *key = calloc(1, sizeof(*key));
    struct p11_error error = {0};
    enum sign_mechanism mechanism = SIGN_MECH_ECDSA;
    if (key == NULL ||
        p11_session_open(bare->module, bare->options->token, false, &session, &error) != ERR_OK ||
        p11_login(session, bare->pin, &error) != ERR_OK ||
        p11_key_find(session, bare->options->key, key, &error) != ERR_OK ||
        !pick_mechanism(key, &mechanism)) {
        fprintf(stderr, "micro_hsm: bare loop: %s\n", error.text);
        bare->gate->failed = 1;
        return NULL;
    }
    uint8_t input[DIGEST] = {1}, signature[SIGNATURE_MAX];
    size_t len;
    uint64_t count = 0;
    bare->gate->ready++;
    while (atomic_load_explicit(&bare->gate->go, memory_order_acquire) == 0)
        usleep(200);
    while (atomic_load_explicit(&bare->gate->stop, memory_order_relaxed) == 0) {
        memcpy(input, &count, sizeof(count));
        if (p11_sign(session, key, mechanism, BYTES_ARRAY(input), signature, sizeof(signature),
                     &len, &error) == ERR_OK)
            count++;
    }
    bare->gate->signed_total += count;
    p11_session_close(session);
    free(key);
    return NULL;
}

static _Noreturn void bare_process(const struct options *options, struct gate *gate)
{
    pthread_t threads[SESSIONS_PER_SIGNER_MAX];
    uint8_t pin[P11_PIN_MAX];
    struct bare bare = {.options = options, .gate = gate};
    struct p11_error error;
    struct p11_session *anchor = NULL;
    bare.pin = bytes_of(pin, read_pin(options, pin));
    if (p11_module_open(options->module, &bare.module, &error) != ERR_OK ||
        p11_session_open(bare.module, options->token, false, &anchor, &error) != ERR_OK ||
        p11_login(anchor, bare.pin, &error) != ERR_OK) {
        fprintf(stderr, "micro_hsm: bare loop: %s\n", error.text);
        gate->failed = 1;
        _exit(1);
    }
    for (uint32_t i = 0; i < options->sessions; i++)
        pthread_create(&threads[i], NULL, bare_thread, &bare);
    for (uint32_t i = 0; i < options->sessions; i++)
        pthread_join(threads[i], NULL);
    p11_session_close(anchor);
    p11_module_close(bare.module);
    _exit(0);
}

static struct sample bare_round(const struct options *options)
{
    struct gate *gate =
        mmap(NULL, sizeof(*gate), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (gate == MAP_FAILED)
        die("mmap", strerror(errno));
    double cpu = cpu_us_of(RUSAGE_CHILDREN), switches = switches_of(RUSAGE_CHILDREN);
    pid_t pids[SIGNERS_MAX];
    for (uint32_t i = 0; i < options->signers; i++) {
        pids[i] = fork();
        if (pids[i] < 0)
            die("fork", strerror(errno));
        if (pids[i] == 0)
            bare_process(options, gate);
        /* one after the other, as the signers: SoftHSM rewrites its token at a login */
        uint64_t end = clock_mono_ns() + OPEN_WAIT_S * NS_PER_S;
        while (gate->ready < (i + 1) * options->sessions && gate->failed == 0 &&
               clock_mono_ns() < end)
            usleep(1000);
    }
    struct sample sample = {0};
    if (gate->failed != 0 || gate->ready < options->signers * options->sessions)
        die("bare loop", "it did not start");
    uint64_t start = clock_mono_ns();
    atomic_store(&gate->go, 1);
    usleep(options->seconds_x10 * 100000);
    atomic_store(&gate->stop, 1);
    double took = (double)(clock_mono_ns() - start) / 1e9;
    for (uint32_t i = 0; i < options->signers; i++)
        waitpid(pids[i], NULL, 0);
    double total = (double)gate->signed_total;
    sample.rate = total / took;
    /* with starting up, which is small against a round */
    sample.cpu_us = (cpu_us_of(RUSAGE_CHILDREN) - cpu) / total;
    sample.switches = (switches_of(RUSAGE_CHILDREN) - switches) / total;
    munmap(gate, sizeof(*gate));
    return sample;
}

/* --- the queue --- */

struct core_thread {
    struct hsm *hsm;
    uint32_t index;
    uint32_t window;
    const struct wake *wake;
    _Atomic uint32_t *stop;
    pthread_t thread;
    uint64_t completed, failed;
    double cpu_us;
    struct hist latency;
};

static void on_result(void *ctx, const struct sign_result *result)
{
    struct core_thread *core = ctx;
    if (result->err == ERR_OK)
        core->completed++;
    else
        core->failed++;
    hist_add(&core->latency, clock_mono_ns() - result->tag);
}

static void feed(struct core_thread *core, uint64_t *submitted)
{
    struct sign_job jobs[TURN_JOBS];
    uint8_t inputs[TURN_JOBS][DIGEST] = {{0}};
    uint32_t count = 0;
    uint64_t out = *submitted - core->completed - core->failed, now = clock_mono_ns();
    while (count < TURN_JOBS && out + count < core->window) {
        uint64_t number = *submitted + count;
        memcpy(inputs[count], &number, sizeof(number));
        jobs[count] = (struct sign_job){.tag = now, .input = BYTES_ARRAY(inputs[count])};
        count++;
    }
    enum err err;
    if (count != 0)
        *submitted += hsm_submit(core->hsm, core->index, jobs, count, &err);
}

static void sleep_core(struct core_thread *core)
{
    wake_prepare(core->wake);
    if (!hsm_pending(core->hsm, core->index)) {
        struct pollfd wait = {.fd = core->wake->event_fd, .events = POLLIN};
        poll(&wait, 1, 20);
    }
    wake_cancel(core->wake);
    uint64_t count;
    (void)!read(core->wake->event_fd, &count, sizeof(count));
}

static void *core_main(void *arg)
{
    struct core_thread *core = arg;
    uint64_t submitted = 0;
    while (atomic_load_explicit(core->stop, memory_order_relaxed) == 0) {
        feed(core, &submitted);
        if (hsm_poll(core->hsm, core->index, 4096, on_result, core) == 0)
            sleep_core(core);
    }
    core->cpu_us = cpu_us_of(RUSAGE_THREAD);
    uint64_t end = clock_mono_ns() + 5 * NS_PER_S;
    uint64_t completed = core->completed;
    while (core->completed + core->failed < submitted && clock_mono_ns() < end) {
        if (hsm_poll(core->hsm, core->index, 4096, on_result, core) == 0)
            sleep_core(core);
    }
    core->completed = completed; /* what came after the bell does not count */
    return NULL;
}

static enum sign_mechanism key_mechanism(const struct options *options)
{
    /* in a child: this process never maps a module, as the engine never does */
    enum sign_mechanism *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        die("mmap", strerror(errno));
    *shared = SIGN_MECH_COUNT;
    pid_t pid = fork();
    if (pid == 0) {
        uint8_t pin[P11_PIN_MAX];
        struct p11_module *module = NULL;
        struct p11_session *session = NULL;
        struct p11_key *key = calloc(1, sizeof(*key));
        struct p11_error error = {0};
        size_t len = read_pin(options, pin);
        if (key == NULL || p11_module_open(options->module, &module, &error) != ERR_OK ||
            p11_session_open(module, options->token, false, &session, &error) != ERR_OK ||
            p11_login(session, bytes_of(pin, len), &error) != ERR_OK ||
            p11_key_find(session, options->key, key, &error) != ERR_OK ||
            !pick_mechanism(key, shared)) {
            fprintf(stderr, "micro_hsm: %s\n", error.text);
            _exit(1);
        }
        p11_session_close(session);
        p11_module_close(module);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    enum sign_mechanism mechanism = *shared;
    munmap(shared, sizeof(*shared));
    if (mechanism == SIGN_MECH_COUNT)
        die("token", "the key cannot be used");
    return mechanism;
}

static struct hsm *start_queue(const struct options *options, enum sign_mechanism mechanism,
                               const struct wake wakes[])
{
    const struct hsm_token_config token = {.name = "token",
                                           .module_path = options->module,
                                           .uri = options->token,
                                           .pin_file = options->pin_file,
                                           .signer_count = options->signers,
                                           .sessions = options->sessions,
                                           .allow_network = true};
    const struct hsm_key_config key = {.name = "key",
                                       .uri = options->key,
                                       .token_count = 1,
                                       .mechanism = mechanism,
                                       .allow_extractable = true};
    const struct hsm_config config = {.tokens = &token,
                                      .token_count = 1,
                                      .keys = &key,
                                      .key_count = 1,
                                      .core_count = options->cores,
                                      .core_wakes = wakes};
    struct hsm *hsm;
    enum err err = hsm_start(&config, OPEN_WAIT_S * 1000, &hsm);
    if (err != ERR_OK)
        die("queue", err_sentence(err));
    return hsm;
}

static void wait_while_supervising(struct hsm *hsm, uint64_t ns)
{
    uint64_t end = clock_mono_ns() + ns;
    for (uint64_t now = clock_mono_ns(); now < end; now = clock_mono_ns()) {
        struct pollfd wait = {.fd = hsm_supervise_fd(hsm), .events = POLLIN};
        uint64_t ms = (end - now) / NS_PER_MS;
        poll(&wait, 1, ms < 100 ? (int)ms + 1 : 100);
        hsm_supervise(hsm);
    }
}

static double batch_of(struct hsm *hsm, uint64_t completed)
{
    struct hsm_signer_status status[SIGNERS_MAX];
    uint32_t count = hsm_status(hsm, status);
    uint64_t batches = 0;
    for (uint32_t i = 0; i < count; i++)
        batches += status[i].batches_total;
    return batches == 0 ? 0 : (double)completed / (double)batches;
}

static struct sample queue_round(const struct options *options, enum sign_mechanism mechanism,
                                 const struct wake wakes[])
{
    static struct core_thread cores[CORES_HERE_MAX];
    _Atomic uint32_t stop = 0;
    uint32_t window = window_of(options);
    double cpu = cpu_us_of(RUSAGE_CHILDREN) + cpu_us_of(RUSAGE_SELF);
    double switches = switches_of(RUSAGE_CHILDREN) + switches_of(RUSAGE_SELF);
    struct hsm *hsm = start_queue(options, mechanism, wakes);
    uint64_t start = clock_mono_ns();
    for (uint32_t i = 0; i < options->cores; i++) {
        cores[i] = (struct core_thread){.hsm = hsm,
                                        .index = i,
                                        .window = window / options->cores + 1,
                                        .wake = &wakes[i],
                                        .stop = &stop};
        pthread_create(&cores[i].thread, NULL, core_main, &cores[i]);
    }
    wait_while_supervising(hsm, options->seconds_x10 * 100 * NS_PER_MS);
    atomic_store(&stop, 1);
    double took = (double)(clock_mono_ns() - start) / 1e9;
    struct sample sample = {0};
    static struct hist latency;
    memset(&latency, 0, sizeof(latency));
    uint64_t completed = 0;
    double engine_us = 0;
    for (uint32_t i = 0; i < options->cores; i++) {
        pthread_join(cores[i].thread, NULL);
        completed += cores[i].completed;
        sample.failed += cores[i].failed;
        engine_us += cores[i].cpu_us;
        hist_merge(&latency, &cores[i].latency);
    }
    hsm_supervise(hsm);
    sample.batch = batch_of(hsm, completed);
    hsm_stop(hsm, 5000);
    double total = (double)completed;
    sample.rate = total / took;
    sample.engine_us = engine_us / total;
    sample.cpu_us = (cpu_us_of(RUSAGE_CHILDREN) + cpu_us_of(RUSAGE_SELF) - cpu) / total;
    sample.switches = (switches_of(RUSAGE_CHILDREN) + switches_of(RUSAGE_SELF) - switches) / total;
    sample.latency_p50_us = (double)hist_quantile(&latency, 0.5) / 1e3;
    sample.latency_p99_us = (double)hist_quantile(&latency, 0.99) / 1e3;
    return sample;
}

/* --- the report --- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct spread {
    double median, min, max;
};

static struct spread spread_of(const double values[], uint32_t count)
{
    double sorted[ROUNDS_MAX];
    memcpy(sorted, values, count * sizeof(sorted[0]));
    qsort(sorted, count, sizeof(sorted[0]), by_value);
    double middle = count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
    return (struct spread){middle, sorted[0], sorted[count - 1]};
}

static void print_machine(void)
{
    struct utsname name;
    char line[256], model[128] = "?";
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "model name : %127[^\n]", model) == 1)
            break;
    }
    if (file != NULL)
        fclose(file);
    uname(&name);
    double load[1] = {0};
    (void)getloadavg(load, 1);
    fprintf(text_out, "machine  %s, %ld processors, %s %s, load %.1f\n", model,
            sysconf(_SC_NPROCESSORS_ONLN), name.sysname, name.release, load[0]);
}

/* One token and shape, and what all rounds gave. */
struct contest {
    const char *name;
    struct options options;
    enum sign_mechanism mechanism;
    struct sample bare[ROUNDS_MAX], queue[ROUNDS_MAX];
};

static double median_of(const struct sample samples[], uint32_t count, size_t member)
{
    double values[ROUNDS_MAX] = {0};
    for (uint32_t i = 0; i < count; i++)
        memcpy(&values[i], (const uint8_t *)&samples[i] + member, sizeof(double));
    return spread_of(values, count).median;
}

/* Of the rates of two lists of rounds, round by round. */
static struct spread ratio_of(const struct sample over[], const struct sample under[],
                              uint32_t count)
{
    double ratios[ROUNDS_MAX];
    for (uint32_t i = 0; i < count; i++)
        ratios[i] = over[i].rate / under[i].rate;
    return spread_of(ratios, count);
}

static void print_text(const struct contest *contest)
{
    const struct options *options = &contest->options;
    const struct sample *bare = contest->bare, *queue = contest->queue;
    struct spread ratio = ratio_of(queue, bare, options->rounds);
    fprintf(text_out, "\ntoken    %s: %s (%s)\n", contest->name, options->token, options->module);
    fprintf(text_out,
            "shape    %u signers x %u sessions, %u cores, %u jobs in flight, %u x %.1f s\n",
            options->signers, options->sessions, options->cores, window_of(options),
            options->rounds, options->seconds_x10 / 10.0);
    fprintf(text_out, "round      bare/s  queue/s  ratio   us/sig bare  queue  (cores)  "
                      "switches bare  queue  batch  p50 us  p99 us  failed\n");
    for (uint32_t i = 0; i < options->rounds; i++)
        fprintf(text_out,
                "%5u  %9.0f %8.0f  %5.3f  %12.1f %6.1f  %7.1f  %13.2f %6.2f %6.1f %7.0f %7.0f "
                "%7llu\n",
                i + 1, bare[i].rate, queue[i].rate, queue[i].rate / bare[i].rate, bare[i].cpu_us,
                queue[i].cpu_us, queue[i].engine_us, bare[i].switches, queue[i].switches,
                queue[i].batch, queue[i].latency_p50_us, queue[i].latency_p99_us,
                (unsigned long long)queue[i].failed);
    fprintf(text_out, "median %9.0f %8.0f  %5.3f   (ratio %.3f to %.3f)\n",
            median_of(bare, options->rounds, offsetof(struct sample, rate)),
            median_of(queue, options->rounds, offsetof(struct sample, rate)), ratio.median,
            ratio.min, ratio.max);
}

static void print_json(const struct contest *contest)
{
    const struct options *options = &contest->options;
    const struct sample *bare = contest->bare, *queue = contest->queue;
    uint32_t n = options->rounds;
    struct spread ratio = ratio_of(queue, bare, n);
    uint64_t failed = 0;
    for (uint32_t i = 0; i < n; i++)
        failed += queue[i].failed;
    printf("{\"bench\":\"micro_hsm\",\"name\":\"%s\",\"token\":\"%s\",\"signers\":%u,"
           "\"sessions\":%u,\"cores\":%u,\"rounds\":%u,\"seconds\":%.1f,\"bare_per_s\":%.0f,"
           "\"queue_per_s\":%.0f,\"ratio\":%.4f,\"ratio_min\":%.4f,\"ratio_max\":%.4f,"
           "\"bare_cpu_us\":%.1f,\"queue_cpu_us\":%.1f,\"cores_cpu_us\":%.1f,"
           "\"latency_p50_us\":%.0f,\"latency_p99_us\":%.0f,\"failed\":%llu}",
           contest->name, options->token, options->signers, options->sessions, options->cores, n,
           options->seconds_x10 / 10.0, median_of(bare, n, offsetof(struct sample, rate)),
           median_of(queue, n, offsetof(struct sample, rate)), ratio.median, ratio.min, ratio.max,
           median_of(bare, n, offsetof(struct sample, cpu_us)),
           median_of(queue, n, offsetof(struct sample, cpu_us)),
           median_of(queue, n, offsetof(struct sample, engine_us)),
           median_of(queue, n, offsetof(struct sample, latency_p50_us)),
           median_of(queue, n, offsetof(struct sample, latency_p99_us)),
           (unsigned long long)failed);
}

/* --- T6 of spec/performance.md --- */

enum { T6_SOFTHSM_1, T6_SOFTHSM_2, T6_SIM, T6_COUNT };
#define T6_RATIO 0.95
#define T6_GAIN  1.6

static const char *verdict(double value, double target)
{
    return value >= target ? "met" : "NOT met";
}

static void print_t6_line(const char *what, struct spread value, double target)
{
    fprintf(text_out, "%-44s %.3f (%.3f to %.3f), target %.2f: %s\n", what, value.median, value.min,
            value.max, target, verdict(value.median, target));
}

static void print_t6(const struct contest contests[T6_COUNT], bool json)
{
    uint32_t rounds = contests[0].options.rounds;
    const struct contest *one = &contests[T6_SOFTHSM_1], *two = &contests[T6_SOFTHSM_2];
    struct spread gain = ratio_of(two->queue, one->queue, rounds);
    struct spread bare_gain = ratio_of(two->bare, one->bare, rounds);
    fputc('\n', text_out);
    for (uint32_t i = 0; i < T6_COUNT; i++) {
        char what[64];
        snprintf(what, sizeof(what), "%s: queue over bare loop", contests[i].name);
        print_t6_line(what, ratio_of(contests[i].queue, contests[i].bare, rounds), T6_RATIO);
    }
    print_t6_line("softhsm: two signer processes over one", gain, T6_GAIN);
    fprintf(text_out, "%-44s %.3f (%.3f to %.3f)\n", "softhsm: bare loop, two processes over one",
            bare_gain.median, bare_gain.min, bare_gain.max);
    if (!json)
        return;
    printf("{\"bench\":\"micro_hsm_t6\",\"contests\":[");
    for (uint32_t i = 0; i < T6_COUNT; i++) {
        fputs(i == 0 ? "" : ",", stdout);
        print_json(&contests[i]);
    }
    printf("],\"two_over_one\":%.4f,\"two_over_one_min\":%.4f,\"two_over_one_max\":%.4f,"
           "\"bare_two_over_one\":%.4f}\n",
           gain.median, gain.min, gain.max, bare_gain.median);
}

/* --- */

static void usage(FILE *out)
{
    fputs("usage: micro_hsm --t6 | --softhsm | --sim | --module PATH --token URI --key URI\n"
          "                 [--pin-file PATH] [--signers N] [--sessions N] [--cores N]\n"
          "                 [--in-flight N] [--seconds S] [--rounds N] [--json]\n"
          "  --softhsm     a SoftHSM token of its own in /tmp, gone afterwards\n"
          "  --sim         a simulated one: 31 engines of 1.4 ms, 22,000/s; 4 sessions for each\n"
          "  --t6          SoftHSM with 1 and with 2 signers, and the simulated one, in turn\n"
          "  --signers     processes, of the bare loop too (1)\n"
          "  --sessions    threads of each (4; SoftHSM 1: its locks let one at a time work)\n"
          "  --cores       threads that submit (1)\n"
          "  --in-flight   jobs in flight (4 for each session, 16 or more for each signer)\n"
          "  --seconds     of each round (2)\n"
          "  --rounds      of bare loop and queue in turn (3)\n"
          "  --json        JSON on the standard output, the table on the standard error\n",
          out);
}

static uint32_t number(const char *text, uint32_t min, uint32_t max, const char *what)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);
    if (*text == 0 || *end != 0 || value < min || value > max)
        die(what, "out of range");
    return (uint32_t)value;
}

static void parse(int argc, char **argv, struct options *options)
{
    static const struct option names[] = {{"softhsm", no_argument, NULL, 'S'},
                                          {"sim", no_argument, NULL, 'M'},
                                          {"t6", no_argument, NULL, '6'},
                                          {"module", required_argument, NULL, 'm'},
                                          {"token", required_argument, NULL, 't'},
                                          {"key", required_argument, NULL, 'k'},
                                          {"pin-file", required_argument, NULL, 'p'},
                                          {"signers", required_argument, NULL, 'n'},
                                          {"sessions", required_argument, NULL, 's'},
                                          {"cores", required_argument, NULL, 'c'},
                                          {"in-flight", required_argument, NULL, 'w'},
                                          {"seconds", required_argument, NULL, 'd'},
                                          {"rounds", required_argument, NULL, 'r'},
                                          {"json", no_argument, NULL, 'j'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    int c;
    while ((c = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (c) {
        case 'S':
            options->softhsm = true;
            break;
        case 'M':
            options->sim = true;
            break;
        case '6':
            options->t6 = true;
            break;
        case 'm':
            options->module = optarg;
            break;
        case 't':
            options->token = optarg;
            break;
        case 'k':
            options->key = optarg;
            break;
        case 'p':
            options->pin_file = optarg;
            break;
        case 'n':
            options->signers = number(optarg, 1, SIGNERS_MAX, "--signers");
            break;
        case 's':
            options->sessions = number(optarg, 1, SESSIONS_PER_SIGNER_MAX, "--sessions");
            break;
        case 'c':
            options->cores = number(optarg, 1, CORES_HERE_MAX, "--cores");
            break;
        case 'w':
            options->window = number(optarg, 1, SIGN_JOBS_PER_CORE_MAX, "--in-flight");
            break;
        case 'd':
            options->seconds_x10 = 10 * number(optarg, 1, SECONDS_MAX, "--seconds");
            break;
        case 'r':
            options->rounds = number(optarg, 1, ROUNDS_MAX, "--rounds");
            break;
        case 'j':
            options->json = true;
            break;
        case 'h':
            usage(stdout);
            exit(0);
        default:
            usage(stderr);
            exit(2);
        }
    }
    bool own = options->t6 || options->softhsm || options->sim;
    if (optind != argc || options->t6 + options->softhsm + options->sim > 1 ||
        (!own && (options->module == NULL || options->token == NULL || options->key == NULL))) {
        usage(stderr);
        exit(2);
    }
}

/* One more of bare loop and queue. Which one comes first changes, so that a trend of the machine
 * favours neither. */
static uint64_t run_round(struct contest *contest, uint32_t round, const struct wake wakes[])
{
    const struct options *options = &contest->options;
    if (round % 2 == 0)
        contest->bare[round] = bare_round(options);
    contest->queue[round] = queue_round(options, contest->mechanism, wakes);
    if (round % 2 != 0)
        contest->bare[round] = bare_round(options);
    return contest->queue[round].failed;
}

static void use_token(struct options *options, const struct own_token *token)
{
    options->module = token->module;
    options->token = OWN_TOKEN_URI;
    options->key = OWN_KEY_URI;
    options->pin_file = token->pin_file;
}

/* What is to be compared; returns how many. */
static uint32_t make_contests(const struct options *options, struct contest out[T6_COUNT])
{
    static struct own_token softhsm, sim;
    for (uint32_t i = 0; i < T6_COUNT; i++)
        out[i] = (struct contest){.name = "token", .options = *options};
    if (options->softhsm || options->t6)
        own_softhsm(&softhsm);
    if (options->sim || options->t6)
        own_sim(SIM_ENGINES, SIM_SERVICE_US, &sim);
    if (options->t6) {
        static const char *const names[] = {"softhsm, 1 signer", "softhsm, 2 signers", "sim"};
        for (uint32_t i = 0; i < T6_COUNT; i++) {
            out[i].name = names[i];
            out[i].options.signers = i == T6_SOFTHSM_2 ? 2 : 1;
            use_token(&out[i].options, i == T6_SIM ? &sim : &softhsm);
        }
        out[T6_SIM].options.sessions = SIM_SESSIONS;
        return T6_COUNT;
    }
    if (options->softhsm || options->sim)
        use_token(&out[0].options, options->sim ? &sim : &softhsm);
    return 1;
}

int main(int argc, char **argv)
{
    struct options options = {.signers = 1, .cores = 1, .seconds_x10 = 20, .rounds = 3};
    static struct contest contests[T6_COUNT];
    struct wake wakes[CORES_HERE_MAX];
    parse(argc, argv, &options);
    if (options.sessions == 0)
        options.sessions = options.sim ? SIM_SESSIONS : options.softhsm || options.t6 ? 1 : 4;
    text_out = options.json ? stderr : stdout;
    log_set_level(LOG_ERROR);
    uint32_t count = make_contests(&options, contests);
    for (uint32_t i = 0; i < count; i++)
        contests[i].mechanism = key_mechanism(&contests[i].options);
    struct wake_flag *flags = hsm_wake_flags(options.cores);
    for (uint32_t i = 0; i < options.cores; i++) {
        wakes[i].flag = &flags[i];
        wakes[i].event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    }
    uint64_t failed = 0;
    for (uint32_t round = 0; round < options.rounds; round++) {
        for (uint32_t i = 0; i < count; i++)
            failed += run_round(&contests[i], round, wakes);
    }
    print_machine();
    for (uint32_t i = 0; i < count; i++)
        print_text(&contests[i]);
    if (options.t6) {
        print_t6(contests, options.json);
    } else if (options.json) {
        print_json(&contests[0]);
        putchar('\n');
    }
    return failed == 0 ? 0 : 1;
}
