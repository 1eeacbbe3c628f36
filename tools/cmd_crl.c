/* certmill crl: publish, show, fetch. */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "asn1/crl.h"
#include "asn1/x509.h"
#include "base/clock.h"
#include "tools/commands.h"
#include "tools/daemon.h"
#include "tools/files.h"
#include "tools/issuers.h"
#include "tools/shelf.h"

enum { WAIT_S_MAX = 3600, LOOK_MS = 100 };

/* --- publish --- */

struct asking {
    const char *ca;
    uint64_t ticket;
    uint64_t failures; /* before */
    bool done;
};

static uint64_t number(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

static json_t *look(struct cli *cli)
{
    uint32_t status = 0;
    json_t *answer = daemon_ask_json(cli, "GET", "/crl", false, &status);
    if (answer && status != 200) {
        daemon_fail(answer, "the lists cannot be seen");
        json_decref(answer);
        return NULL;
    }
    return answer;
}

static const json_t *find_ca(const json_t *answer, const char *ca)
{
    json_t *all = json_object_get(answer, "crls"), *one;
    size_t i;
    json_array_foreach(all, i, one)
    {
        const char *name = json_string_value(json_object_get(one, "ca"));
        if (name && strcmp(name, ca) == 0)
            return one;
    }
    return NULL;
}

static int ask(struct cli *cli, const json_t *before, struct asking *asking)
{
    char target[128];
    uint32_t status = 0;
    const json_t *one = find_ca(before, asking->ca);
    asking->failures = number(one, "failures");
    snprintf(target, sizeof(target), "/crl/publish?ca=%.64s", asking->ca);
    json_t *answer = daemon_ask_json(cli, "POST", target, false, &status);
    if (!answer)
        return CLI_FAILED;
    int result = CLI_DONE;
    if (strcmp(daemon_error(answer), err_code(ERR_UNSUPPORTED)) == 0)
        result =
            cli_fail("ca %s: its certificate does not let it sign lists: make one with keyUsage "
                     "cRLSign",
                     asking->ca);
    else if (strcmp(daemon_error(answer), err_code(ERR_NOT_FOUND)) == 0)
        result = cli_fail("the running certmilld has no ca '%s': reload or restart it", asking->ca);
    else if (status != 202)
        result = daemon_fail(answer, "no list was asked for");
    asking->ticket = number(answer, "ticket");
    json_decref(answer);
    return result;
}

/* CLI_FAILED when one could not be made. */
static int check_all(const json_t *now, struct asking asking[], uint32_t count, bool *out_done)
{
    *out_done = true;
    for (uint32_t i = 0; i < count; i++) {
        const json_t *one = find_ca(now, asking[i].ca);
        const char *code = json_string_value(json_object_get(one, "last_error"));
        asking[i].done = number(one, "answered") >= asking[i].ticket;
        *out_done = *out_done && asking[i].done;
        if (!asking[i].done && code && number(one, "failures") > asking[i].failures)
            return cli_fail(
                "ca %s: no list could be made (%s): certmilld goes on trying, and serves "
                "the last one; look into its log",
                asking[i].ca, code);
    }
    return CLI_DONE;
}

static int wait_for_all(struct cli *cli, struct asking asking[], uint32_t count, uint64_t wait_s,
                        json_t **out_now)
{
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000l};
    uint64_t end_ns = clock_mono_ns() + wait_s * NS_PER_S;
    for (;;) {
        bool done = false;
        json_t *now = look(cli);
        if (!now)
            return CLI_FAILED;
        int status = check_all(now, asking, count, &done);
        if (status == CLI_DONE && done) {
            *out_now = now;
            return CLI_DONE;
        }
        json_decref(now);
        if (status != CLI_DONE)
            return status;
        if (clock_mono_ns() >= end_ns)
            return cli_fail("no list yet after %llu s: certmilld goes on; see `certmill crl show`",
                            (unsigned long long)wait_s);
        nanosleep(&pause, NULL);
    }
}

static void print_made(struct cli *cli, const json_t *now, const struct asking asking[],
                       uint32_t count)
{
    json_t *array = json_array();
    for (uint32_t i = 0; i < count; i++) {
        const json_t *one = find_ca(now, asking[i].ca);
        if (!cli->json) {
            printf("ca %s: list %llu with %llu entries\n", asking[i].ca,
                   (unsigned long long)number(one, "number"),
                   (unsigned long long)number(one, "entries"));
            continue;
        }
        json_t *object = json_object();
        json_put_str(object, "ca", asking[i].ca);
        json_put_int(object, "number", number(one, "number"));
        json_put_int(object, "entries", number(one, "entries"));
        json_put(object, "this_update", json_of_time((int64_t)number(one, "this_update_s")));
        json_put(object, "next_update", json_of_time((int64_t)number(one, "next_update_s")));
        json_array_append_new(array, object);
    }
    if (!cli->json) {
        json_decref(array);
        return;
    }
    json_t *all = json_object();
    json_put(all, "crls", array);
    out_json(all);
}

/* Which CAs: the one named, or those that the daemon says may sign. */
static int choose(struct cli *cli, const json_t *before, struct asking out[CAS_MAX],
                  uint32_t *out_count)
{
    const char *ca = cli_get(cli, "ca");
    json_t *all = json_object_get(before, "crls"), *one;
    size_t i;
    *out_count = 0;
    if (ca) {
        out[(*out_count)++].ca = ca;
        return cli_config_ca(cli, ca) ? CLI_DONE : CLI_FAILED;
    }
    json_array_foreach(all, i, one) if (json_is_true(json_object_get(one, "signs")) &&
                                        *out_count < CAS_MAX) out[(*out_count)++]
        .ca = json_string_value(json_object_get(one, "ca"));
    return *out_count > 0 ? CLI_DONE
                          : cli_fail("no ca may sign lists: keyUsage cRLSign is missing in their "
                                     "certificates");
}

static int run_publish(struct cli *cli)
{
    struct asking asking[CAS_MAX] = {0};
    uint32_t count = 0;
    uint64_t wait_s = 60;
    json_t *now = NULL;
    if (cli_get_number(cli, "wait", 0, WAIT_S_MAX, &wait_s) != CLI_DONE)
        return CLI_USAGE;
    json_t *before = look(cli);
    if (!before)
        return CLI_FAILED;
    int status = choose(cli, before, asking, &count);
    for (uint32_t i = 0; i < count && status == CLI_DONE; i++)
        status = ask(cli, before, &asking[i]);
    if (status == CLI_DONE)
        status = wait_for_all(cli, asking, count, wait_s, &now);
    if (status == CLI_DONE)
        print_made(cli, now, asking, count);
    json_decref(now);
    json_decref(before);
    return status;
}

/* --- what the store has --- */

struct stored {
    struct crl_record record;
    struct crl_view crl;
    uint64_t revoked; /* in the store now, on the list or not yet */
    bool there;
};

/* Inside shelf_begin; the view is valid until shelf_end. */
static int read_stored(struct cli *cli, struct shelf *shelf, const char *ca, struct stored *out)
{
    uint32_t issuer_id = 0;
    struct bytes der;
    *out = (struct stored){0};
    int status = issuer_find(cli, shelf, ca, &issuer_id);
    if (status != CLI_DONE)
        return status;
    enum err err = reader_revoked_count(shelf->reader, issuer_id, &out->revoked);
    if (err == ERR_OK)
        err = reader_crl(shelf->reader, issuer_id, &out->record, &der);
    if (err == ERR_NOT_FOUND)
        return CLI_DONE;
    if (err == ERR_OK)
        err = crl_decode(der, &out->crl);
    out->there = err == ERR_OK;
    return err == ERR_OK ? CLI_DONE : shelf_fail(err);
}

/* --- show --- */

static json_t *stored_json(const char *ca, const struct stored *stored)
{
    json_t *object = json_object();
    json_put_str(object, "ca", ca);
    json_put(object, "number",
             stored->there ? json_integer((json_int_t)stored->record.number) : json_null());
    json_put(object, "this_update", json_of_time(stored->crl.this_update_s));
    json_put(object, "next_update", json_of_time(stored->crl.next_update_s));
    json_put_bool(object, "over", stored->there && stored->crl.next_update_s <= clock_wall_s());
    json_put_int(object, "entries", stored->crl.entry_count);
    json_put_int(object, "bytes", stored->crl.der.len);
    json_put_int(object, "revoked", stored->revoked);
    return object;
}

static void add_row(struct table *table, const char *ca, const struct stored *stored)
{
    char this_update[OUT_TIME_MAX], next_update[OUT_TIME_MAX];
    bool is_over = stored->there && stored->crl.next_update_s <= clock_wall_s();
    table_row(
        table, ca, stored->there ? cell("%llu", (unsigned long long)stored->record.number) : "-",
        out_time(stored->crl.this_update_s, this_update),
        cell("%s%s", out_time(stored->crl.next_update_s, next_update), is_over ? " (over)" : ""),
        cell("%llu", (unsigned long long)stored->crl.entry_count),
        cell("%llu", (unsigned long long)stored->revoked), cell("%zu", stored->crl.der.len));
}

static int run_show(struct cli *cli)
{
    SHELF shelf = {0};
    struct table table;
    const char *ca = cli_get(cli, "ca");
    if (ca && !cli_config_ca(cli, ca))
        return CLI_FAILED;
    int status = shelf_open(cli, &shelf);
    if (status == CLI_DONE)
        status = shelf_begin(&shelf);
    if (status != CLI_DONE)
        return status;
    json_t *array = json_array();
    table_start(&table, "CA", ">NUMBER", "THIS UPDATE", "NEXT UPDATE", ">ENTRIES", ">REVOKED",
                ">BYTES", NULL);
    for (uint32_t i = 0; i < cli->config->cas_count && status == CLI_DONE; i++) {
        const char *name = cli->config->cas[i].name;
        struct stored stored;
        if (ca && strcmp(ca, name) != 0)
            continue;
        status = read_stored(cli, &shelf, name, &stored);
        if (status == CLI_DONE && cli->json)
            json_array_append_new(array, stored_json(name, &stored));
        else if (status == CLI_DONE)
            add_row(&table, name, &stored);
    }
    shelf_end(&shelf);
    json_t *object = json_object();
    json_put(object, "crls", array);
    if (status == CLI_DONE && cli->json)
        out_json(json_incref(object));
    else if (status == CLI_DONE)
        table_print(&table, stdout);
    table_free(&table);
    json_decref(object);
    return status;
}

/* --- fetch --- */

static char *pem_of(struct bytes der, size_t *out_len)
{
    size_t cap = der.len / 3 * 4 + der.len / 48 + 256;
    char *pem = malloc(cap);
    struct writer out = writer_of(pem, cap);
    if (!pem)
        abort();
    pem_put(&out, "X509 CRL", der);
    *out_len = out.len;
    return pem;
}

static int give(struct cli *cli, struct bytes der)
{
    const char *path = cli_get(cli, "out");
    bool as_der = cli_has(cli, "der");
    if (as_der && !path && isatty(STDOUT_FILENO))
        return cli_fail("DER is not for a terminal: give --out FILE, or leave --der out");
    size_t len = der.len;
    char *pem = as_der ? NULL : pem_of(der, &len);
    struct bytes data = bytes_of(pem ? (const uint8_t *)pem : der.ptr, len);
    int status = CLI_DONE;
    if (path)
        status = file_write(path, data);
    else
        fwrite(data.ptr, 1, data.len, stdout);
    free(pem);
    return status;
}

static int run_fetch(struct cli *cli)
{
    SHELF shelf = {0};
    struct stored stored;
    const char *ca = cli_get(cli, "ca");
    const struct config *config = cli_config(cli);
    if (!config)
        return CLI_FAILED;
    if (cli->json)
        return cli_usage(cli, "a list is no JSON: see `certmill crl show`");
    if (!ca && config->cas_count > 1)
        return cli_usage(cli, "%s has %u CAs: say which one with --ca", config->path,
                         config->cas_count);
    ca = ca ? ca : config->cas[0].name;
    int status = shelf_open(cli, &shelf);
    if (status == CLI_DONE)
        status = shelf_begin(&shelf);
    if (status != CLI_DONE)
        return status;
    status = read_stored(cli, &shelf, ca, &stored);
    if (status == CLI_DONE && !stored.there)
        status = cli_fail("ca %s has no list yet: make one with `certmill crl publish`", ca);
    if (status == CLI_DONE)
        status = give(cli, stored.crl.der);
    shelf_end(&shelf);
    return status;
}

/* --- table --- */

static const struct cli_option PUBLISH_OPTIONS[] = {
    {"ca", "NAME", "Of this CA; default: of all that may sign lists.", false, false},
    {"wait", "SECONDS", "How long to wait until it is made; default 60.", false, false},
    {NULL}};
static const struct cli_option SHOW_OPTIONS[] = {{"ca", "NAME", "Of this CA alone.", false, false},
                                                 {NULL}};
static const struct cli_option FETCH_OPTIONS[] = {
    {"ca", "NAME", "Of this CA; needed when the configuration has more than one.", false, false},
    {"der", NULL, "DER, not PEM.", false, false},
    {"out", "FILE", "Write it there, whole or not at all; default is standard output.", false,
     false},
    {NULL}};

static const struct cli_command COMMAND_PUBLISH = {
    .name = "publish",
    .summary = "make new revocation lists now",
    .text =
        "Asks the running certmilld to sign a list of everything that is revoked now, whatever the "
        "schedule, and waits until it is committed and served. Its number is one higher than the "
        "last. When it cannot be made, say because the token is down, certmilld goes on trying and "
        "serves the last one.",
    .examples = " certmill -c certmill.yaml crl publish\n"
                " certmill -c certmill.yaml crl publish --ca issuing --wait 300",
    .options = PUBLISH_OPTIONS,
    .run = run_publish,
};

static const struct cli_command COMMAND_SHOW = {
    .name = "show",
    .summary = "show number, times and entries of the revocation lists",
    .text =
        "From the store, also while certmilld is down. ENTRIES is what the list has, REVOKED what "
        "is "
        "revoked or on hold in the store by now: they differ when the next list is still to come.",
    .examples = " certmill -c certmill.yaml crl show\n"
                " certmill -c certmill.yaml --json crl show | jq '.crls[] | select(.over)'",
    .options = SHOW_OPTIONS,
    .run = run_show,
};

static const struct cli_command COMMAND_FETCH = {
    .name = "fetch",
    .summary = "write a revocation list to a file",
    .text = "The last one that was committed, from the store. Others get the same list as DER from "
            "any listener: GET /crl/NAME.crl.",
    .examples = " certmill -c certmill.yaml crl fetch | openssl crl -noout -text\n"
                " certmill -c certmill.yaml crl fetch --ca issuing --der --out issuing.crl",
    .status = "Also when there is none yet.",
    .options = FETCH_OPTIONS,
    .run = run_fetch,
};

const struct cli_command *const CRL_COMMANDS[] = {&COMMAND_PUBLISH, &COMMAND_SHOW, &COMMAND_FETCH,
                                                  NULL};
