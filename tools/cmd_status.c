/* certmill status: GET /status from the running daemon's socket. */
#include "tools/commands.h"
#include "tools/daemon.h"

/* --- for people --- */

static long long number(const json_t *object, const char *key)
{
    return (long long)json_integer_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key)
{
    char clean[512];
    const char *value = json_string_value(json_object_get(object, key));
    return value ? cell("%s", out_clean(bytes_of_str(value), clean, sizeof(clean))) : "-";
}

static const char *duration(double seconds)
{
    unsigned long long all = (unsigned long long)seconds;
    if (all >= 86400)
        return cell("%llu d %llu h", all / 86400, all / 3600 % 24);
    if (all >= 3600)
        return cell("%llu h %llu min", all / 3600, all / 60 % 60);
    return all >= 60 ? cell("%llu min %llu s", all / 60, all % 60) : cell("%llu s", all);
}

static const char *size(long long bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    unsigned unit = 0;
    for (; value >= 1024 && unit < 4; unit++)
        value /= 1024;
    return cell(unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
}

static void print_head(const json_t *status)
{
    printf("certmilld %s, up %s, %s%s\n\n", text(status, "version"),
           duration(json_number_value(json_object_get(status, "uptime_s"))),
           json_is_true(json_object_get(status, "healthy")) ? "healthy" : "NOT HEALTHY: ",
           json_is_true(json_object_get(status, "healthy")) ? "" : text(status, "health"));
    printf("connections %lld   requests %lld   issued %lld   repeated %lld\n",
           number(status, "connections"), number(status, "requests"), number(status, "issued"),
           number(status, "repeated"));
}

static void print_cores(const json_t *cores)
{
    struct table table;
    size_t i;
    json_t *core;
    table_start(&table, ">CORE", ">CONNECTIONS", ">REQUESTS", ">VERIFIED", ">FOR OTHERS", NULL);
    json_array_foreach(cores, i, core) table_row(
        &table, cell("%lld", number(core, "core")), cell("%lld", number(core, "connections")),
        cell("%lld", number(core, "requests")), cell("%lld", number(core, "verified")),
        cell("%lld", number(core, "verified_for_others")));
    putchar('\n');
    table_print(&table, stdout);
}

static void print_signers(const json_t *signers)
{
    struct table table;
    size_t i;
    json_t *signer;
    table_start(&table, "TOKEN", "STATE", ">PID", ">SESSIONS", ">IN FLIGHT", ">SIGNED", ">ERRORS",
                ">RESTARTS", "LAST ERROR", NULL);
    json_array_foreach(signers, i, signer)
    {
        const char *breaker = text(signer, "breaker");
        table_row(&table, text(signer, "token"),
                  strcmp(breaker, "closed") == 0
                      ? text(signer, "state")
                      : cell("%s (breaker %s)", text(signer, "state"), breaker),
                  cell("%lld", number(signer, "pid")), cell("%lld", number(signer, "sessions")),
                  cell("%lld", number(signer, "in_flight")), cell("%lld", number(signer, "signed")),
                  cell("%lld", number(signer, "errors")), cell("%lld", number(signer, "restarts")),
                  text(signer, "last_error"));
    }
    putchar('\n');
    table_print(&table, stdout);
}

/* "retry 12, reopen 3"; "-" when there are none. */
static const char *error_list(json_t *errors)
{
    char list[256] = "-";
    size_t len = 0;
    const char *class;
    json_t *count;
    json_object_foreach(errors, class, count)
    {
        char clean[32];
        if (json_integer_value(count) == 0 || len >= sizeof(list))
            continue;
        int more = snprintf(list + len, sizeof(list) - len, "%s%s %lld", len ? ", " : "",
                            out_clean(bytes_of_str(class), clean, sizeof(clean)),
                            (long long)json_integer_value(count));
        len += more > 0 ? (size_t)more : 0;
    }
    return cell("%s", list);
}

static void print_tokens(const json_t *tokens)
{
    struct table table;
    size_t i;
    json_t *token;
    table_start(&table, "TOKEN", ">SIGNERS UP", ">BREAKERS OPEN", ">WAITING", ">IN FLIGHT",
                ">SIGNED", ">JOBS/BATCH", ">MS P50", ">MS P99", "ERRORS", NULL);
    json_array_foreach(tokens, i, token)
    {
        const json_t *service = json_object_get(token, "service_ms");
        table_row(&table, text(token, "token"),
                  cell("%lld of %lld", number(token, "signers_up"), number(token, "signers")),
                  cell("%lld", number(token, "breakers_open")),
                  cell("%lld", number(token, "waiting")), cell("%lld", number(token, "in_flight")),
                  cell("%lld", number(token, "signed")),
                  cell("%.1f", json_number_value(json_object_get(token, "batch_mean"))),
                  cell("%.1f", json_number_value(json_object_get(service, "p50"))),
                  cell("%.1f", json_number_value(json_object_get(service, "p99"))),
                  error_list(json_object_get(token, "errors")));
    }
    putchar('\n');
    table_print(&table, stdout);
}

static void print_store(const json_t *store)
{
    printf("\nstore: %lld certificates, %lld devices, %lld journal records\n",
           number(store, "certificates"), number(store, "devices"), number(store, "journal"));
    printf("       %s of %s used, %lld commits, the last took %.1f ms%s\n",
           size(number(store, "used_bytes")), size(number(store, "map_bytes")),
           number(store, "commits"), json_number_value(json_object_get(store, "last_commit_ms")),
           json_is_true(json_object_get(store, "failing")) ? "; THE LAST COMMIT FAILED" : "");
}

static void print_refusals(json_t *refusals)
{
    struct table table;
    const char *code;
    json_t *count;
    if (json_object_size(refusals) == 0)
        return;
    table_start(&table, "REFUSED", ">COUNT", NULL);
    json_object_foreach(refusals, code, count)
        table_row(&table, code, cell("%lld", (long long)json_integer_value(count)));
    putchar('\n');
    table_print(&table, stdout);
}

static int run_status(struct cli *cli)
{
    uint32_t http_status = 0;
    json_t *status = daemon_ask_json(cli, "GET", "/status", cli->json, &http_status);
    if (!status)
        return CLI_FAILED;
    if (!cli->json) {
        print_head(status);
        print_cores(json_object_get(status, "cores"));
        print_tokens(json_object_get(status, "tokens"));
        print_signers(json_object_get(status, "signers"));
        print_store(json_object_get(status, "store"));
        print_refusals(json_object_get(status, "refusals"));
    }
    json_decref(status);
    return CLI_DONE;
}

static const struct cli_command COMMAND_STATUS = {
    .name = "",
    .summary = "show what the running appliance does",
    .text = "Asks certmilld over its admin socket: health, requests and certificates since it "
            "started, its cores, its signers and their tokens, the store, and what was refused and "
            "why. With --json it is the daemon's own answer. Monitoring reads /metrics and /health "
            "on the admin port instead.",
    .examples = " certmill -c certmill.yaml status\n"
                " watch -n 1 certmill -c certmill.yaml status",
    .run = run_status,
};

const struct cli_command *const STATUS_COMMANDS[] = {&COMMAND_STATUS, NULL};
