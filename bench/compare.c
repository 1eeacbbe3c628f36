/* certmill-bench compare: several loads against one appliance, one after the other, again and
 * again: what is compared ran in the same minutes on the same machine. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/bench.h"

enum { LOADS_MAX = 8, ROUNDS_MAX = 101, ARGS_MAX = 64 };

static const char USAGE[] =
    "certmill-bench compare - several loads in turn, and the ratios of their rates\n"
    "\n"
    "Usage: certmill-bench compare [--rounds N] [--json FILE] [--quiet] -- LOAD... -- LOAD...\n"
    "\n"
    "A LOAD is est or cmp with its options; the first is what the others are divided by. In each\n"
    "round (default 5) all of them run, each second round in the other direction; a ratio is made\n"
    "of the rates of one round. Printed are the median and the spread of each. Exit status: 0 "
    "when\n"
    "every answer of every run was right.\n"
    "\n"
    "Example: certmill-bench compare --rounds 7 -- est --port 8443 --ca tls.pem --basic a:b \\\n"
    "             -- cmp --port 8080 --per-message 100 --cert ra.pem --key ra.key \\\n"
    "             --trust cmp.pem --issuer ca.pem\n";

struct load {
    struct bench_options options;
    char text[256];
    bool is_short;
    double rate[ROUNDS_MAX], ratio[ROUNDS_MAX], cpu_us[ROUNDS_MAX];
};

struct comparison {
    uint32_t rounds, load_count;
    const char *json_file;
    bool quiet;
    struct load loads[LOADS_MAX];
    struct bench_floor floor;
};

/* --- the command line --- */

static bool parse_load(int argc, char **argv, struct comparison *c, int *out_exit)
{
    bool is_est = argc > 0 && strcmp(argv[0], "est") == 0;
    if (c->load_count == LOADS_MAX || (!is_est && (argc == 0 || strcmp(argv[0], "cmp") != 0))) {
        fprintf(stderr, "certmill-bench: a load is est or cmp; at most %d of them\n", LOADS_MAX);
        return false;
    }
    struct load *load = &c->loads[c->load_count++];
    if (!bench_options_parse(is_est ? BENCH_EST : BENCH_CMP, argc, argv, &load->options,
                             out_exit)) {
        return false;
    }
    load->options.quiet = true;
    bench_load_text(&load->options, load->text, sizeof(load->text));
    return true;
}

static bool parse_own(int argc, char **argv, struct comparison *c)
{
    for (int i = 0; i < argc; i++) {
        uint64_t rounds;
        if (strcmp(argv[i], "--quiet") == 0) {
            c->quiet = true;
        } else if (strcmp(argv[i], "--json") == 0 && i + 1 < argc) {
            c->json_file = argv[++i];
        } else if (strcmp(argv[i], "--rounds") == 0 && i + 1 < argc &&
                   bytes_to_u64(bytes_of_str(argv[++i]), ROUNDS_MAX, &rounds) && rounds > 0) {
            c->rounds = (uint32_t)rounds;
        } else {
            return false;
        }
    }
    return true;
}

static int until_dashes(int argc, char **argv, int from)
{
    int at = from;
    while (at < argc && strcmp(argv[at], "--") != 0) {
        at++;
    }
    return at;
}

static bool parse(int argc, char **argv, struct comparison *c, int *out_exit)
{
    int at = until_dashes(argc, argv, 1);
    *out_exit = 2;
    if (argc >= 2 && strcmp(argv[1], "--help") == 0) {
        fputs(USAGE, stdout);
        *out_exit = 0;
        return false;
    }
    bool good = parse_own(at - 1, argv + 1, c);
    while (good && at < argc) {
        int end = until_dashes(argc, argv, at + 1);
        good = parse_load(end - at - 1, argv + at + 1, c, out_exit);
        at = end;
    }
    if (!good || c->load_count < 2) {
        fputs("certmill-bench: two loads or more; try certmill-bench compare --help\n", stderr);
        return false;
    }
    return true;
}

/* --- running --- */

static bool run_load(struct comparison *c, struct load *load, uint32_t round)
{
    struct bench_report *report = calloc(1, sizeof(*report));
    if (!report) {
        return false;
    }
    report->options = load->options;
    report->floor = c->floor;
    bool good = load->options.load == BENCH_EST ? bench_est_run(report) : bench_cmp_run(report);
    if (good && !bench_report_is_good(report)) {
        fprintf(stderr,
                "certmill-bench: %s: %llu good, %llu failed, %llu wrong, %llu bad signatures: %s\n",
                load->text, (unsigned long long)report->result.ok,
                (unsigned long long)report->result.failed, (unsigned long long)report->result.wrong,
                (unsigned long long)report->bad_signatures, report->result.first_error);
        good = false;
    }
    load->is_short |= report->result.is_short;
    load->rate[round] = good ? bench_rate(report) : 0;
    load->cpu_us[round] = good && report->result.issued
                              ? report->server_cpu_s * 1e6 / (double)report->result.issued
                              : 0;
    if (good && !c->quiet) {
        fprintf(stderr, "round %u: %8.0f/s  %s\n", round + 1, load->rate[round], load->text);
    }
    free(report);
    return good;
}

static bool run_round(struct comparison *c, uint32_t round)
{
    for (uint32_t i = 0; i < c->load_count; i++) {
        uint32_t index = round % 2 == 0 ? i : c->load_count - 1 - i;
        if (!run_load(c, &c->loads[index], round)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < c->load_count; i++) {
        c->loads[i].ratio[round] = c->loads[i].rate[round] / c->loads[0].rate[round];
    }
    return true;
}

/* --- the result --- */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

struct spread {
    double median, least, most;
};

static struct spread spread_of(const double values[], uint32_t count)
{
    double sorted[ROUNDS_MAX];
    memcpy(sorted, values, count * sizeof(sorted[0]));
    qsort(sorted, count, sizeof(sorted[0]), compare_doubles);
    double median = count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
    return (struct spread){median, sorted[0], sorted[count - 1]};
}

static void print_text(const struct comparison *c)
{
    char machine[256];
    bench_machine_text(machine, sizeof(machine));
    printf("machine   %s\n", machine);
    printf("floor     %.1f us: verify with a fresh key %.1f, token signature %.1f\n",
           c->floor.verify_us + c->floor.verify_ca_us, c->floor.verify_us, c->floor.verify_ca_us);
    printf("rounds    %u; median (least to most)\n\n", c->rounds);
    for (uint32_t i = 0; i < c->load_count; i++) {
        const struct load *load = &c->loads[i];
        struct spread rate = spread_of(load->rate, c->rounds);
        struct spread ratio = spread_of(load->ratio, c->rounds);
        struct spread cpu = spread_of(load->cpu_us, c->rounds);
        printf("%s\n", load->text);
        printf("    %.0f/s (%.0f to %.0f)", rate.median, rate.least, rate.most);
        if (i > 0) {
            printf(", ratio %.3f (%.3f to %.3f)", ratio.median, ratio.least, ratio.most);
        }
        if (cpu.median > 0) {
            printf(", server CPU %.1f us", cpu.median);
        }
        printf("%s\n",
               load->is_short ? "; too few --requests for what is in flight: it flatters" : "");
    }
}

static json_t *spread_json(struct spread spread)
{
    return json_pack("{s:f, s:f, s:f}", "median", spread.median, "least", spread.least, "most",
                     spread.most);
}

static bool write_json(const struct comparison *c)
{
    char machine[256];
    json_t *root = json_object(), *array = json_array();
    bench_machine_text(machine, sizeof(machine));
    json_object_set_new(root, "machine", json_string(machine));
    json_object_set_new(root, "rounds", json_integer(c->rounds));
    json_object_set_new(root, "loads", array);
    for (uint32_t i = 0; i < c->load_count; i++) {
        const struct load *load = &c->loads[i];
        json_t *object = json_object();
        json_object_set_new(object, "load", json_string(load->text));
        json_object_set_new(object, "rate", spread_json(spread_of(load->rate, c->rounds)));
        json_object_set_new(object, "ratio", spread_json(spread_of(load->ratio, c->rounds)));
        json_object_set_new(object, "server_cpu_us",
                            spread_json(spread_of(load->cpu_us, c->rounds)));
        json_array_append_new(array, object);
    }
    bool to_stdout = strcmp(c->json_file, "-") == 0;
    int bad = to_stdout ? json_dumpf(root, stdout, JSON_INDENT(1))
                        : json_dump_file(root, c->json_file, JSON_INDENT(1));
    json_decref(root);
    return bad == 0;
}

int bench_compare(int argc, char **argv)
{
    struct comparison *c = calloc(1, sizeof(*c));
    int status = 1;
    if (!c) {
        return 1;
    }
    c->rounds = 5;
    if (parse(argc, argv, c, &status)) {
        bool good = bench_floor_measure(&c->floor, c->loads[0].options.requests);
        for (uint32_t round = 0; good && round < c->rounds; round++) {
            good = run_round(c, round);
        }
        if (good && (!c->json_file || strcmp(c->json_file, "-") != 0)) {
            print_text(c);
        }
        good = good && (!c->json_file || write_json(c));
        status = good ? 0 : 1;
    }
    free(c);
    return status;
}
