/* certmill journal: list, verify. */
#include <stdlib.h>

#include "tools/commands.h"
#include "tools/shelf.h"

static const char *kind_name(uint8_t kind)
{
    static const char *const names[] = {
        [0] = "unknown",
        [JOURNAL_START] = "start",
        [JOURNAL_STOP] = "stop",
        [JOURNAL_ISSUED] = "issued",
        [JOURNAL_REPEATED] = "repeated",
        [JOURNAL_REFUSED] = "refused",
        [JOURNAL_CONFIRMED] = "confirmed",
        [JOURNAL_REVOKED] = "revoked",
        [JOURNAL_SUPERSEDED] = "superseded",
        [JOURNAL_CONFIG] = "config",
        [JOURNAL_SUPPRESSED] = "suppressed",
        [JOURNAL_OPERATOR] = "operator",
        [JOURNAL_RELEASED] = "released",
        [JOURNAL_CRL] = "crl",
    };
    return kind < sizeof(names) / sizeof(names[0]) ? names[kind] : names[0];
}

/* --- list --- */

struct journal_list {
    struct shelf *shelf;
    FILE *out;
    uint64_t from; /* sequence, 0: the newest */
    uint64_t left; /* of --limit */
    uint64_t printed;
    uint64_t last; /* sequence */
    uint32_t chunk_left;
    bool backward, json;
};

static void list_json(const struct journal_list *list, const struct journal_record *record,
                      struct bytes who, struct bytes what, struct bytes text)
{
    json_t *object = json_object();
    json_put_int(object, "sequence", record->sequence);
    json_put(object, "time", json_of_time(record->time_ns / 1000000000));
    json_put_int(object, "time_ns", (uint64_t)record->time_ns);
    json_put_str(object, "kind", kind_name(record->kind));
    json_put_str(object, "protocol", protocol_name(record->protocol));
    json_put_str(object, "line",
                 record->line_id ? shelf_line_name(list->shelf, record->line_id) : NULL);
    json_put(object, "who", json_of_text(who));
    json_put(object, "what", json_of_text(what));
    json_put_str(object, "code", record->err ? err_code((enum err)record->err) : NULL);
    json_put(object, "certificate",
             record->cert_log ? json_integer((json_int_t)record->cert_log) : json_null());
    json_put(object, "text", json_of_text(text));
    json_put(object, "previous", json_of_hex(BYTES_ARRAY(record->previous)));
    fputs(list->printed ? ",\n" : "\n", list->out);
    json_dumpf(object, list->out, JSON_COMPACT);
    json_decref(object);
}

static void list_text(const struct journal_list *list, const struct journal_record *record,
                      struct bytes who, struct bytes what, struct bytes text)
{
    char time[OUT_TIME_MAX], who_text[512], what_text[512], clean[4 * JOURNAL_TEXT_MAX];
    out_clean(who, who_text, sizeof(who_text));
    out_clean(what, what_text, sizeof(what_text));
    fprintf(list->out, "%8llu  %s  %-10s  %-5s  %-12s  %-16s  %-20s  %s\n",
            (unsigned long long)record->sequence, out_time(record->time_ns / 1000000000, time),
            kind_name(record->kind), protocol_name(record->protocol),
            shelf_line_name(list->shelf, record->line_id), who_text[0] ? who_text : "-",
            what_text[0] ? what_text : "-", out_clean(text, clean, sizeof(clean)));
}

static bool list_one(void *ctx, const struct journal_record *record, struct bytes who,
                     struct bytes what, struct bytes text)
{
    struct journal_list *list = ctx;
    list->last = record->sequence;
    if (list->json)
        list_json(list, record, who, what, text);
    else
        list_text(list, record, who, what, text);
    list->printed++;
    list->left--;
    return list->left > 0 && --list->chunk_left > 0;
}

/* One snapshot's worth, as shelf_certs_each does it. */
static int list_chunk(struct journal_list *list, bool *out_more)
{
    char *text = NULL;
    size_t len = 0;
    int status = shelf_begin(list->shelf);
    if (status != CLI_DONE)
        return status;
    list->out = open_memstream(&text, &len);
    if (!list->out)
        abort();
    list->chunk_left = SHELF_CHUNK;
    enum err err =
        reader_journal_each(list->shelf->reader, list->from, list->backward, list_one, list);
    shelf_end(list->shelf);
    fclose(list->out);
    if (err == ERR_OK)
        fwrite(text, 1, len, stdout);
    free(text);
    if (err != ERR_OK)
        return shelf_fail(err);
    list->from = list->backward ? list->last - 1 : list->last + 1;
    *out_more = list->chunk_left == 0 && list->left > 0 && list->from > 0 && !ferror(stdout);
    return CLI_DONE;
}

static int run_list(struct cli *cli)
{
    SHELF shelf = {0};
    struct journal_list list = {.shelf = &shelf, .left = UINT64_MAX, .json = cli->json};
    uint64_t since = 0;
    if (cli_get_number(cli, "limit", 1, UINT64_MAX - 1, &list.left) != CLI_DONE ||
        cli_get_number(cli, "since", 0, UINT64_MAX - 1, &since) != CLI_DONE)
        return CLI_USAGE;
    list.backward = !cli_has(cli, "since");
    list.from = list.backward ? 0 : since + 1;
    int status = shelf_open(cli, &shelf);
    if (status != CLI_DONE)
        return status;
    if (cli->json)
        fputs("{\"records\": [", stdout);
    else
        printf("%8s  %-20s  %-10s  %-5s  %-12s  %-16s  %-20s  %s\n", "SEQUENCE", "TIME", "KIND",
               "PROTO", "LINE", "WHO", "WHAT", "TEXT");
    bool more = true;
    while (status == CLI_DONE && more)
        status = list_chunk(&list, &more);
    if (cli->json && status == CLI_DONE)
        fputs("\n]}\n", stdout);
    return status;
}

static const struct cli_option LIST_OPTIONS[] = {
    {"limit", "N", "At most so many.", false, false},
    {"since", "SEQUENCE", "Those after this one, oldest first; 0 is from the start.", false, false},
    {NULL}};

/* --- verify --- */

static int run_verify(struct cli *cli)
{
    SHELF shelf = {0};
    uint64_t count = 0, bad = 0;
    int status = shelf_open(cli, &shelf);
    if (status == CLI_DONE)
        status = shelf_begin(&shelf);
    if (status != CLI_DONE)
        return status;
    enum err err = store_journal_verify(shelf.reader, &count, &bad);
    shelf_end(&shelf);
    if (err != ERR_OK && bad == 0)
        return shelf_fail(err);
    if (cli->json) {
        json_t *object = json_object();
        json_put_bool(object, "good", err == ERR_OK);
        json_put_int(object, "records", count);
        json_put(object, "first_bad", bad ? json_integer((json_int_t)bad) : json_null());
        out_json(object);
    } else if (err == ERR_OK) {
        printf("journal: %llu records, every one fits its predecessor\n",
               (unsigned long long)count);
    }
    if (err != ERR_OK)
        return cli_fail("journal: record %llu is missing or does not fit the one before it: one of "
                        "the two was changed, so keep this store as evidence and compare it with "
                        "a backup",
                        (unsigned long long)bad);
    return CLI_DONE;
}

static const struct cli_command COMMAND_LIST = {
    .name = "list",
    .summary = "list journal records",
    .text =
        "Newest first, or from --since on, oldest first. With --json it is {\"records\": [...]}, "
        "one record per line.",
    .examples = " certmill -c certmill.yaml journal list --limit 20\n"
                " certmill -c certmill.yaml --json journal list --since 0 |\n"
                "     jq -c '.records[] | select(.kind == \"refused\")'",
    .options = LIST_OPTIONS,
    .run = run_list,
};

static const struct cli_command COMMAND_VERIFY = {
    .name = "verify",
    .summary = "check that the journal is complete and unchanged",
    .text =
        "Walks all records and checks sequence, times, and that each holds the SHA-256 of the one "
        "before. Names the first that does not fit. A journal cut off at its end still fits: "
        "compare the number of records with what was shipped elsewhere. Works on a copy of the "
        "store as well.",
    .examples = " certmill -c certmill.yaml journal verify",
    .status = "Also when a record does not fit.",
    .run = run_verify,
};

const struct cli_command *const JOURNAL_COMMANDS[] = {&COMMAND_LIST, &COMMAND_VERIFY, NULL};
