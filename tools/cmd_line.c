/* certmill line list, device show. */
#include <stdlib.h>

#include "tools/commands.h"
#include "tools/shelf.h"

/* --- line list --- */

static const struct config_line *configured(const struct config *config, const char *name)
{
    for (uint32_t i = 0; i < config->lines_count; i++)
        if (strcmp(config->lines[i].name, name) == 0)
            return &config->lines[i];
    return NULL;
}

static const struct line_record *recorded(const struct shelf *shelf, const char *name)
{
    for (uint32_t i = 0; i < shelf->line_count; i++)
        if (strcmp(shelf->line[i].name, name) == 0)
            return &shelf->line[i].record;
    return NULL;
}

/* A line is in the configuration, in the store, or in both. */
static void add_line(struct table *table, json_t *array, const char *name,
                     const struct config_line *line, const struct line_record *record)
{
    json_t *object = json_object();
    char first[OUT_TIME_MAX], last[OUT_TIME_MAX];
    struct line_record none = {0};
    const struct line_record *known = record ? record : &none;
    json_put_str(object, "name", name);
    json_put(object, "id", record ? json_integer(known->line_id) : json_null());
    json_put_bool(object, "configured", line != NULL);
    json_put_str(object, "profile", line ? line->profile : NULL);
    json_put_str(object, "ca", line ? line->ca : NULL);
    json_put_str(object, "device_id", line ? line->device_id : NULL);
    json_put_int(object, "issued", known->issued);
    json_put_int(object, "refused", known->refused);
    json_put(object, "first", json_of_time(known->first_s));
    json_put(object, "last", json_of_time(known->last_s));
    json_array_append_new(array, object);
    table_row(table, name, record ? cell("%u", known->line_id) : NULL,
              line ? line->profile : "not configured", line ? line->ca : NULL,
              cell("%llu", (unsigned long long)known->issued),
              cell("%llu", (unsigned long long)known->refused), out_time(known->first_s, first),
              out_time(known->last_s, last));
}

static int run_line_list(struct cli *cli)
{
    SHELF shelf = {0};
    struct table table;
    int status = shelf_open(cli, &shelf);
    if (status != CLI_DONE)
        return status;
    const struct config *config = cli->config;
    json_t *object = json_object(), *array = json_array();
    json_put(object, "lines", array);
    table_start(&table, "LINE", ">ID", "PROFILE", "CA", ">ISSUED", ">REFUSED", "FIRST", "LAST",
                NULL);
    for (uint32_t i = 0; i < config->lines_count; i++) {
        const char *name = config->lines[i].name;
        add_line(&table, array, name, &config->lines[i], recorded(&shelf, name));
    }
    for (uint32_t i = 0; i < shelf.line_count; i++)
        if (!configured(config, shelf.line[i].name))
            add_line(&table, array, shelf.line[i].name, NULL, &shelf.line[i].record);
    if (cli->json)
        out_json(json_incref(object));
    else
        table_print(&table, stdout);
    table_free(&table);
    json_decref(object);
    return CLI_DONE;
}

static const struct cli_command COMMAND_LINE_LIST = {
    .name = "list",
    .summary = "list the lines with their counts",
    .text =
        "Every line of the configuration, then those that the store knows and the configuration "
        "no longer has. FIRST and LAST are times of issue.",
    .examples = " certmill -c certmill.yaml line list",
    .run = run_line_list,
};

const struct cli_command *const LINE_COMMANDS[] = {&COMMAND_LINE_LIST, NULL};

/* --- device show --- */

static const char *state_name(uint8_t state)
{
    static const char *const names[] = {
        [DEVICE_NONE] = "none",           [DEVICE_ISSUED] = "issued",
        [DEVICE_CONFIRMED] = "confirmed", [DEVICE_REVOKED] = "revoked",
        [DEVICE_SCRAPPED] = "scrapped",
    };
    return state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

/* --line, else the configuration's default or only line. */
static const char *line_wanted(struct cli *cli)
{
    const char *line = cli_get(cli, "line");
    const struct config *config = cli->config;
    if (line)
        return line;
    if (config->default_line)
        return config->default_line;
    if (config->lines_count == 1)
        return config->lines[0].name;
    cli_usage(cli, "%s has %u lines and no default_line: say which one with --line", config->path,
              config->lines_count);
    return NULL;
}

/* The certificate that waits for the device's confirmation; 0: none. */
static uint64_t pending_of(const struct shelf *shelf, struct bytes id, const struct cert_view *cert)
{
    struct pending_record waiting = {0};
    return reader_pending(shelf->reader, cert->record->line_id, id, &waiting) == ERR_OK ? waiting.log
                                                                                      : 0;
}

static void print_device(const struct shelf *shelf, struct bytes id, const char *line,
                         const struct device_record *device, const struct cert_view *cert)
{
    char clean[4 * DEVICE_ID_MAX], changed[OUT_TIME_MAX];
    printf("%-14s%s\n", "Device", out_clean(id, clean, sizeof(clean)));
    printf("%-14s%s\n", "Line", line);
    printf("%-14s%s since %s\n", "State", state_name(device->state),
           out_time(device->changed_s, changed));
    uint64_t pending = pending_of(shelf, id, cert);
    if (pending != 0)
        printf("%-14s%llu waits for its confirmation\n", "Pending", (unsigned long long)pending);
    printf("%-14s%u\n\n", "Certificates", device->issue_count);
    cert_print(shelf, cert);
}

static json_t *device_json(const struct shelf *shelf, struct bytes id, const char *line,
                           const struct device_record *device, const struct cert_view *cert)
{
    json_t *object = json_object();
    json_put(object, "device", json_of_text(id));
    json_put_str(object, "line", line);
    json_put_str(object, "state", state_name(device->state));
    json_put(object, "changed", json_of_time(device->changed_s));
    json_put_int(object, "issue_count", device->issue_count);
    uint64_t pending = pending_of(shelf, id, cert);
    json_put(object, "pending", pending ? json_integer((json_int_t)pending) : json_null());
    json_put(object, "spki_sha256", json_of_hex(BYTES_ARRAY(device->spki_hash)));
    json_put(object, "certificate", cert_json_full(shelf, cert));
    return object;
}

static int run_device_show(struct cli *cli)
{
    SHELF shelf = {0};
    struct device_record device;
    struct cert_view cert;
    struct bytes id = bytes_of_str(cli->args[0]);
    int status = shelf_open(cli, &shelf);
    const char *line = status == CLI_DONE ? line_wanted(cli) : NULL;
    uint32_t line_id = line ? shelf_line_id(&shelf, line) : 0;
    if (status != CLI_DONE || line_id == 0)
        return CLI_FAILED;
    status = shelf_begin(&shelf);
    if (status != CLI_DONE)
        return status;
    enum err err =
        id.len > DEVICE_ID_MAX ? ERR_NOT_FOUND : reader_device(shelf.reader, line_id, id, &device);
    if (err == ERR_NOT_FOUND)
        status = cli_fail("line %s has no device '%.80s': `certmill cert find --device` looks on "
                          "every line",
                          line, cli->args[0]);
    else if (err != ERR_OK || (err = reader_cert(shelf.reader, device.cert_log, &cert)) != ERR_OK)
        status = shelf_fail(err);
    else if (cli->json)
        out_json(device_json(&shelf, id, line, &device, &cert));
    else
        print_device(&shelf, id, line, &device, &cert);
    shelf_end(&shelf);
    return status;
}

static const struct cli_option DEVICE_OPTIONS[] = {
    {"line", "NAME", "Its line; default is default_line of the configuration, or the only one.",
     false, false},
    {NULL}};

static const struct cli_command COMMAND_DEVICE_SHOW = {
    .name = "show",
    .arguments = "DEVICE",
    .args_min = 1,
    .args_max = 1,
    .summary = "show a device's state and current certificate",
    .text = "A device is issued when its certificate was made, confirmed when the device or its "
            "station said that it arrived, then perhaps revoked or scrapped. Device ids belong to "
            "their line.",
    .examples = " certmill -c certmill.yaml device show SN-0001 --line line1",
    .status = "Also when the line has no such device.",
    .options = DEVICE_OPTIONS,
    .run = run_device_show,
};

const struct cli_command *const DEVICE_COMMANDS[] = {&COMMAND_DEVICE_SHOW, NULL};
