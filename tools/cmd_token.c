/* certmill token: init, list, info. */
#include <stdlib.h>

#include "tools/access.h"
#include "tools/commands.h"
#include "tools/files.h"

static const char *const MECHANISM_NAMES[SIGN_MECH_COUNT] = {
    [SIGN_MECH_ECDSA] = "ECDSA",
    [SIGN_MECH_RSA_PKCS1] = "RSA-PKCS1",
    [SIGN_MECH_RSA_PSS_SHA256] = "RSA-PSS-SHA256",
    [SIGN_MECH_RSA_PSS_SHA384] = "RSA-PSS-SHA384",
    [SIGN_MECH_RSA_PSS_SHA512] = "RSA-PSS-SHA512",
    [SIGN_MECH_EDDSA] = "EdDSA",
    [SIGN_MECH_ML_DSA] = "ML-DSA",
};

/* What a token says of itself came from outside. */
static const char *clean(const char *text)
{
    char out[256];
    return cell("%s", out_clean(bytes_of_str(text), out, sizeof(out)));
}

static const char *state_of(const struct p11_token_info *info)
{
    return !info->initialized      ? "free"
           : info->pin_locked      ? "PIN locked"
           : info->pin_final_try   ? "one PIN try left"
           : info->pin_count_low   ? "wrong PIN tried"
           : !info->user_pin_set   ? "no user PIN"
           : info->write_protected ? "read-only"
                                   : "ready";
}

static json_t *token_json(const struct p11_token_info *info, const char *module)
{
    json_t *object = json_object();
    json_put_str(object, "module", module);
    json_put_int(object, "slot", info->slot);
    json_put_str(object, "label", info->label);
    json_put_str(object, "manufacturer", info->manufacturer);
    json_put_str(object, "model", info->model);
    json_put_str(object, "serial", info->serial);
    json_put_str(object, "hardware", cell("%u.%u", info->hardware_major, info->hardware_minor));
    json_put_str(object, "firmware", cell("%u.%u", info->firmware_major, info->firmware_minor));
    json_put_bool(object, "initialized", info->initialized);
    json_put_bool(object, "user_pin_set", info->user_pin_set);
    json_put_bool(object, "pin_count_low", info->pin_count_low);
    json_put_bool(object, "pin_final_try", info->pin_final_try);
    json_put_bool(object, "pin_locked", info->pin_locked);
    json_put(object, "sessions_max",
             info->sessions_max ? json_integer((json_int_t)info->sessions_max) : json_null());
    json_put_str(object, "state", state_of(info));
    return object;
}

/* All tokens of a module. */
struct tokens {
    struct p11_token_info item[P11_TOKENS_LISTED_MAX];
    uint32_t count;
};

static int list_tokens(const char *path, struct p11_module **out_module, struct tokens *out)
{
    struct p11_error error = {0};
    *out_module = access_module(path);
    if (!*out_module)
        return CLI_FAILED;
    if (p11_token_list(*out_module, out->item, P11_TOKENS_LISTED_MAX, &out->count, &error) !=
        ERR_OK)
        return cli_fail("module %s: %s: look into the token's own log", path, error.text);
    return CLI_DONE;
}

/* --- init --- */

/* A slot that waits for it; never a token that is in use. */
static int choose_slot(const struct tokens *tokens, const char *label, uint64_t wanted,
                       unsigned long *out_slot)
{
    const struct p11_token_info *found = NULL;
    for (uint32_t i = 0; i < tokens->count; i++) {
        const struct p11_token_info *info = &tokens->item[i];
        if (info->initialized && strcmp(info->label, label) == 0)
            return cli_fail("slot %lu has a token labelled %s already: choose another label",
                            info->slot, label);
        if (wanted == info->slot && info->initialized)
            return cli_fail("slot %lu has the token '%s', and initializing would destroy its keys: "
                            "choose a free slot, or erase it with its vendor's tool first",
                            info->slot, clean(info->label));
        if (!info->initialized && !found && (wanted == UINT64_MAX || wanted == info->slot))
            found = info;
    }
    if (!found)
        return cli_fail("there is no free slot among %u: look at `certmill token list`, or add a "
                        "slot with the vendor's tool",
                        tokens->count);
    *out_slot = found->slot;
    return CLI_DONE;
}

static int init_token(struct cli *cli, struct p11_module *module, unsigned long slot)
{
    struct p11_error error = {0};
    SECRET pin = {0};
    SECRET so_pin = {0};
    const char *label = cli_get(cli, "label"), *so_file = cli_get(cli, "so-pin-file");
    int status = secret_from_file(cli_get(cli, "pin-file"), "PIN", &pin);
    if (status == CLI_DONE)
        status = secret_from_file(so_file ? so_file : cli_get(cli, "pin-file"), "SO PIN", &so_pin);
    if (status != CLI_DONE)
        return status;
    enum err err = p11_token_init(module, slot, label, bytes_of(so_pin.data, so_pin.len),
                                  bytes_of(pin.data, pin.len), &error);
    if (err != ERR_OK)
        return cli_fail("slot %lu: %s: check the lengths that the token wants of its PINs", slot,
                        error.text);
    if (!so_file)
        cli_warn("token %s: its SO PIN is the user PIN, since --so-pin-file was not given: change "
                 "it before production",
                 label);
    return CLI_DONE;
}

static int run_init(struct cli *cli)
{
    const char *path = cli_get(cli, "module"), *label = cli_get(cli, "label");
    struct p11_module *module = NULL;
    struct tokens tokens;
    uint64_t wanted = UINT64_MAX;
    unsigned long slot = 0;
    if (cli_get_number(cli, "slot", 0, UINT64_MAX - 1, &wanted) != CLI_DONE)
        return CLI_USAGE;
    if (strlen(label) == 0 || strlen(label) > 32)
        return cli_usage(cli, "--label '%.64s': expected 1 to 32 bytes", label);
    int status = list_tokens(path, &module, &tokens);
    if (status == CLI_DONE)
        status = choose_slot(&tokens, label, wanted, &slot);
    if (status == CLI_DONE)
        status = init_token(cli, module, slot);
    if (status == CLI_DONE) { /* its slot may have another number at the next start */
        struct p11_error error = {0};
        status = p11_module_reinitialize(module, &error) == ERR_OK
                     ? list_tokens(path, &module, &tokens)
                     : cli_fail("token %s is initialized, but its module does not start again: %s: "
                                "see `certmill token list`",
                                label, error.text);
    }
    for (uint32_t i = 0; status == CLI_DONE && i < tokens.count; i++) {
        const struct p11_token_info *info = &tokens.item[i];
        if (strcmp(info->label, label) != 0 || !info->initialized)
            continue;
        if (cli->json)
            out_json(token_json(info, path));
        else
            printf("token %s: initialized in slot %lu (%s, serial %s)\n", label, info->slot,
                   clean(info->model), clean(info->serial));
    }
    return status;
}

static const struct cli_option INIT_OPTIONS[] = {
    {"module", "FILE", "The PKCS#11 module (a shared library) of the token.", true, false},
    {"label", "NAME", "Name of the new token; its URI is then pkcs11:token=NAME.", true, false},
    {"pin-file", "FILE", "File with the user PIN, which certmilld's signers log in with.", true,
     false},
    {"so-pin-file", "FILE",
     "File with the security officer's PIN. Without it that is the user PIN, and a warning says "
     "so: good enough for trying out.",
     false, false},
    {"slot", "NUMBER", "The slot; without it the first free one.", false, false},
    {NULL}};

/* --- list --- */

static void list_one(const struct p11_token_info *info, const char *path, struct table *table,
                     json_t *array)
{
    json_array_append_new(array, token_json(info, path));
    table_row(table, cell("%lu", info->slot), clean(info->label), state_of(info),
              clean(info->manufacturer), clean(info->model), clean(info->serial),
              cell("%u.%u", info->firmware_major, info->firmware_minor), path);
}

static int list_module(const char *path, struct table *table, json_t *array)
{
    struct p11_module *module = NULL;
    struct tokens tokens;
    int status = list_tokens(path, &module, &tokens);
    for (uint32_t i = 0; status == CLI_DONE && i < tokens.count; i++)
        list_one(&tokens.item[i], path, table, array);
    return status;
}

static bool module_seen(const struct config *config, uint32_t index)
{
    for (uint32_t i = 0; i < index; i++)
        if (strcmp(config->tokens[i].module, config->tokens[index].module) == 0)
            return true;
    return false;
}

static int run_list(struct cli *cli)
{
    const char *path = cli_get(cli, "module");
    struct table table;
    json_t *array = json_array();
    int status = CLI_DONE;
    table_start(&table, ">SLOT", "LABEL", "STATE", "MANUFACTURER", "MODEL", "SERIAL", ">FIRMWARE",
                "MODULE", NULL);
    const struct config *config = path ? NULL : cli_config(cli);
    if (path)
        status = list_module(path, &table, array);
    else if (!config)
        status = CLI_FAILED;
    for (uint32_t i = 0; config && i < config->tokens_count && status == CLI_DONE; i++)
        if (!module_seen(config, i))
            status = list_module(config->tokens[i].module, &table, array);
    json_t *object = json_object();
    json_put(object, "tokens", array);
    if (status == CLI_DONE && cli->json) {
        out_json(json_incref(object));
    } else if (status == CLI_DONE) {
        table_print(&table, stdout);
    }
    json_decref(object);
    table_free(&table);
    return status;
}

static const struct cli_option LIST_OPTIONS[] = {
    {"module", "FILE", "Only this PKCS#11 module; no configuration is needed then.", false, false},
    {NULL}};

/* --- info --- */

/* What is found out about one configured token. */
struct report {
    const struct config_token *token;
    struct p11_module_info module;
    struct p11_token_info info;
    bool found, logged_in;
    char problem[512];
    char mechanisms[256];
};

static void list_mechanisms(struct p11_module *module, struct report *report)
{
    struct writer out = writer_of(report->mechanisms, sizeof(report->mechanisms) - 1);
    for (unsigned i = 0; i < SIGN_MECH_COUNT; i++)
        if (p11_token_can(module, report->info.slot, (enum sign_mechanism)i))
            writer_printf(&out, "%s%s", out.len ? " " : "", MECHANISM_NAMES[i]);
    report->mechanisms[out.len] = 0;
}

static void examine(struct cli *cli, struct report *report)
{
    struct p11_session *session = NULL;
    struct p11_error error = {0};
    struct p11_module *module = access_module(report->token->module);
    if (!module) {
        snprintf(report->problem, sizeof(report->problem), "its module cannot be loaded");
        return;
    }
    enum err err = p11_module_info(module, &report->module, &error);
    if (err == ERR_OK)
        err = p11_session_open(module, report->token->uri, false, &session, &error);
    if (err == ERR_OK) {
        report->found = true;
        report->info = *p11_session_token(session);
        list_mechanisms(module, report);
        err = access_login(cli, report->token, session, &error);
        report->logged_in = err == ERR_OK;
    }
    if (err == ERR_OK || err == ERR_PIN_WRONG) { /* what the token counts has changed */
        struct p11_token_info now;
        if (p11_token_find(module, report->token->uri, &now, &(struct p11_error){0}) == ERR_OK)
            report->info = now;
    }
    if (err == ERR_PIN_WRONG)
        access_fail(cli, report->token, err, &error);
    if (err != ERR_OK)
        snprintf(report->problem, sizeof(report->problem), "%s", error.text);
    p11_session_close(session);
}

static json_t *report_json(const struct report *report)
{
    json_t *object =
        report->found ? token_json(&report->info, report->token->module) : json_object();
    json_put_str(object, "name", report->token->name);
    json_put_str(object, "uri", report->token->uri);
    json_put_bool(object, "found", report->found);
    json_put_bool(object, "login", report->logged_in);
    json_put_str(object, "problem", report->problem[0] ? report->problem : NULL);
    json_put_int(object, "signers", report->token->signers);
    json_put_int(object, "sessions_per_signer", report->token->sessions);
    json_put_bool(object, "message_signing", report->module.message_signing_interface);
    json_t *mechanisms = json_array();
    for (unsigned i = 0; i < SIGN_MECH_COUNT; i++)
        if (strstr(report->mechanisms, MECHANISM_NAMES[i]))
            json_array_append_new(mechanisms, json_string(MECHANISM_NAMES[i]));
    json_put(object, "mechanisms", mechanisms);
    return object;
}

static void print_report(const struct report *report)
{
    const struct p11_token_info *info = &report->info;
    const struct p11_module_info *module = &report->module;
    printf("token %s\n", report->token->name);
    printf("  module      %s (%s %u.%u, PKCS#11 %u.%u%s)\n", report->token->module,
           clean(module->description), module->library_major, module->library_minor,
           module->cryptoki_major, module->cryptoki_minor,
           module->message_signing_interface ? ", 3.0 interface" : "");
    printf("  uri         %s\n", report->token->uri);
    if (report->found) {
        printf("  slot        %lu, label %s\n", info->slot, clean(info->label));
        printf("  model       %s %s, serial %s\n", clean(info->manufacturer), clean(info->model),
               clean(info->serial));
        printf("  firmware    %u.%u (hardware %u.%u)\n", info->firmware_major, info->firmware_minor,
               info->hardware_major, info->hardware_minor);
        printf("  mechanisms  %s\n", report->mechanisms[0] ? report->mechanisms : "none");
        printf("  state       %s\n", state_of(info));
        printf("  sessions    %u signers with %u each", report->token->signers,
               report->token->sessions);
        printf("; the token %s\n",
               info->sessions_max ? cell("allows %lu", info->sessions_max) : "names no limit");
    }
    printf("  login       %s%s\n", report->logged_in ? "ok" : "NO: ", report->problem);
}

static int run_info(struct cli *cli)
{
    const struct config *config = cli_config(cli);
    if (!config)
        return CLI_FAILED;
    int status = CLI_DONE;
    json_t *array = json_array();
    for (uint32_t i = 0; i < config->tokens_count; i++) {
        struct report report = {.token = &config->tokens[i]};
        const char *wanted = cli_get(cli, "token");
        if (wanted && strcmp(wanted, report.token->name) != 0)
            continue;
        examine(cli, &report);
        status = report.logged_in ? status : CLI_FAILED;
        json_array_append_new(array, report_json(&report));
        if (!cli->json)
            print_report(&report);
    }
    json_t *object = json_object();
    json_put(object, "tokens", array);
    if (cli->json)
        out_json(json_incref(object));
    json_decref(object);
    return status;
}

static const struct cli_option INFO_OPTIONS[] = {
    {"token", "NAME", "Only this one of the configuration.", false, false}, {NULL}};

/* --- table --- */

static const struct cli_command COMMAND_INIT = {
    .name = "init",
    .summary = "initialize a token in a free slot and set its user PIN",
    .text = "Calls C_InitToken and C_InitPIN. A token that is initialized already is never "
            "touched, since that would destroy its keys. No configuration is needed. PINs are "
            "read from files alone, so that they show in no process list and no shell history.",
    .examples = " printf 123456 > pin && chmod 600 pin\n"
                " certmill token init --module /usr/lib/softhsm/libsofthsm2.so \\\n"
                "     --label certmill --pin-file pin",
    .options = INIT_OPTIONS,
    .run = run_init,
};

static const struct cli_command COMMAND_LIST = {
    .name = "list",
    .summary = "list the slots and tokens of the modules",
    .text = "Every slot that has a token in it, also those that wait for `certmill token init` "
            "(state free). Nobody is logged in.",
    .examples = " certmill token list --module /usr/lib/softhsm/libsofthsm2.so",
    .options = LIST_OPTIONS,
    .run = run_list,
};

static const struct cli_command COMMAND_INFO = {
    .name = "info",
    .summary = "examine the configured tokens, login included",
    .text = "For every token of the configuration: where it is, what it is, which signature "
            "mechanisms certmill uses of it, how many sessions, and whether the configured PIN "
            "logs in. The PIN is given to a token once; a token that says that one more wrong "
            "PIN would lock it is not tried.",
    .examples = " certmill -c certmill.yaml token info",
    .status = "Also when a token is missing or refuses its PIN.",
    .options = INFO_OPTIONS,
    .run = run_info,
};

const struct cli_command *const TOKEN_COMMANDS[] = {&COMMAND_INIT, &COMMAND_LIST, &COMMAND_INFO,
                                                    NULL};
