/* The command line into struct cli. Options of certmill itself may stand anywhere; those of a
 * command behind its words, since what they take is not known before. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli.h"

static const struct cli_option GLOBAL_CONFIG = {"config", "FILE", NULL, false, false};
static const struct cli_option GLOBAL_JSON = {"json", NULL, NULL, false, false};
static const struct cli_option GLOBAL_HELP = {"help", NULL, NULL, false, false};
static const struct cli_option GLOBAL_VERSION = {"version", NULL, NULL, false, false};

static const struct {
    char letter;
    const struct cli_option *option;
} GLOBALS[] = {
    {'c', &GLOBAL_CONFIG}, {0, &GLOBAL_JSON}, {'h', &GLOBAL_HELP}, {'V', &GLOBAL_VERSION}};
enum { GLOBAL_COUNT = sizeof(GLOBALS) / sizeof(GLOBALS[0]) };

/* --- errors --- */

static void put_error(const char *fmt, va_list args)
{
    char text[CLI_ERROR_MAX];
    vsnprintf(text, sizeof(text), fmt, args);
    for (char *c = text; *c; c++) /* one line, and nothing that moves a terminal's cursor */
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = ' ';
    fflush(stdout);
    fprintf(stderr, "certmill: %s\n", text);
}

int cli_fail(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    put_error(fmt, args);
    va_end(args);
    return CLI_FAILED;
}

void cli_warn(const char *fmt, ...)
{
    char text[CLI_ERROR_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    cli_fail("warning: %s", text);
}

int cli_usage(struct cli *cli, const char *fmt, ...)
{
    char text[CLI_ERROR_MAX], name[64];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    cli_command_name(cli, name, sizeof(name));
    cli_fail("%s: see %s --help", text, name);
    cli->misused = true;
    return CLI_USAGE;
}

/* --- lookup --- */

const struct cli_group *cli_group_find(const char *name)
{
    for (const struct cli_group *group = CLI_GROUPS; group->name; group++)
        if (strcmp(group->name, name) == 0)
            return group;
    return NULL;
}

const struct cli_command *cli_command_find(const struct cli_group *group, const char *name)
{
    for (const struct cli_command *const *at = group->commands; *at; at++)
        if (strcmp((*at)->name, name) == 0)
            return *at;
    return NULL;
}

static const struct cli_option *find_option(const struct cli *cli, const char *name, size_t len)
{
    for (size_t i = 0; i < GLOBAL_COUNT; i++)
        if (strlen(GLOBALS[i].option->name) == len &&
            memcmp(GLOBALS[i].option->name, name, len) == 0)
            return GLOBALS[i].option;
    const struct cli_option *option = cli->command ? cli->command->options : NULL;
    for (; option && option->name; option++)
        if (strlen(option->name) == len && memcmp(option->name, name, len) == 0)
            return option;
    return NULL;
}

/* --- parsing --- */

/* What is left of argv, word by word. */
struct words {
    char **argv;
    int argc, at;
    bool only_arguments; /* behind "--" */
    bool version;
};

static int apply(struct cli *cli, struct words *words, const struct cli_option *option,
                 const char *value)
{
    if (option == &GLOBAL_CONFIG) {
        cli->config_path = value;
    } else if (option == &GLOBAL_JSON) {
        cli->json = true;
    } else if (option == &GLOBAL_HELP) {
        cli->help = true;
    } else if (option == &GLOBAL_VERSION) {
        words->version = true;
    } else {
        if (!option->repeats && cli_has(cli, option->name))
            return cli_usage(cli, "--%s is given twice", option->name);
        if (cli->given_count == CLI_GIVEN_MAX)
            return cli_usage(cli, "more than %d options", CLI_GIVEN_MAX);
        cli->given[cli->given_count].option = option;
        cli->given[cli->given_count++].value = value;
    }
    return CLI_DONE;
}

/* The value of an option: behind "=", else the next word. */
static int take(struct cli *cli, struct words *words, const struct cli_option *option,
                const char *value)
{
    if (!option->value && value)
        return cli_usage(cli, "--%s takes no value", option->name);
    if (option->value && !value) {
        if (words->at == words->argc)
            return cli_usage(cli, "--%s wants %s behind it", option->name, option->value);
        value = words->argv[words->at++];
    }
    return apply(cli, words, option, option->value ? value : "");
}

static int parse_long(struct cli *cli, struct words *words, const char *text)
{
    size_t len = strcspn(text, "=");
    const struct cli_option *option = find_option(cli, text, len);
    if (!option)
        return cli_usage(cli, "there is no option --%.*s%s", (int)(len < 64 ? len : 64), text,
                         cli->command ? "" : " before the command");
    return take(cli, words, option, text[len] == '=' ? text + len + 1 : NULL);
}

static int parse_short(struct cli *cli, struct words *words, const char *text)
{
    for (size_t i = 0; i < GLOBAL_COUNT; i++) {
        if (GLOBALS[i].letter != text[0] || text[0] == 0)
            continue;
        bool attached = GLOBALS[i].option->value && text[1] != 0;
        if (!attached && text[1] != 0)
            break;
        return take(cli, words, GLOBALS[i].option, attached ? text + 1 : NULL);
    }
    return cli_usage(cli, "there is no option -%.64s", text);
}

/* The group, then the command, then arguments. "help" before them asks for help on what follows. */
static int parse_word(struct cli *cli, const char *word)
{
    if (!cli->group && !cli->help && strcmp(word, "help") == 0) {
        cli->help = true;
        return CLI_DONE;
    }
    if (!cli->group) {
        cli->group = cli_group_find(word);
        if (!cli->group)
            return cli_usage(cli, "there is no command '%.64s'", word);
        cli->command = cli_command_find(cli->group, "");
        return CLI_DONE;
    }
    if (!cli->command) {
        cli->command = cli_command_find(cli->group, word);
        if (!cli->command)
            return cli_usage(cli, "there is no command '%s %.64s'", cli->group->name, word);
        return CLI_DONE;
    }
    if (cli->arg_count == cli->command->args_max)
        return cli_usage(cli, "'%.64s' is one argument too many", word);
    cli->args[cli->arg_count++] = word;
    return CLI_DONE;
}

static int check_complete(struct cli *cli)
{
    if (!cli->group)
        return cli_usage(cli, "a command is missing");
    if (!cli->command)
        return cli_usage(cli, "a command is missing behind '%s'", cli->group->name);
    const struct cli_option *option = cli->command->options;
    for (; option && option->name; option++)
        if (option->required && !cli_has(cli, option->name))
            return cli_usage(cli, "--%s %s is missing", option->name, option->value);
    if (cli->arg_count < cli->command->args_min)
        return cli_usage(cli, "%s is missing", cli->command->arguments);
    return CLI_DONE;
}

int cli_parse(struct cli *cli, int argc, char **argv)
{
    struct words words = {.argv = argv, .argc = argc, .at = 1};
    int status = CLI_DONE;
    cli->config_path = getenv("CERTMILL_CONFIG");
    while (status == CLI_DONE && words.at < argc) {
        const char *word = argv[words.at++];
        if (words.only_arguments || word[0] != '-' || word[1] == 0)
            status = parse_word(cli, word);
        else if (strcmp(word, "--") == 0)
            words.only_arguments = true;
        else if (word[1] == '-')
            status = parse_long(cli, &words, word + 2);
        else
            status = parse_short(cli, &words, word + 1);
    }
    if (words.version) {
        cli->group = cli_group_find("version");
        cli->command = cli->group->commands[0];
    }
    return status != CLI_DONE || cli->help || words.version ? status : check_complete(cli);
}

/* --- values --- */

const char *cli_get_nth(const struct cli *cli, const char *option, uint32_t index)
{
    for (uint32_t i = 0; i < cli->given_count; i++)
        if (strcmp(cli->given[i].option->name, option) == 0 && index-- == 0)
            return cli->given[i].value;
    return NULL;
}

const char *cli_get(const struct cli *cli, const char *option)
{
    return cli_get_nth(cli, option, 0);
}

bool cli_has(const struct cli *cli, const char *option)
{
    return cli_get(cli, option) != NULL;
}

int cli_get_number(struct cli *cli, const char *option, uint64_t min, uint64_t max, uint64_t *out)
{
    const char *text = cli_get(cli, option);
    uint64_t number = 0;
    if (!text)
        return CLI_DONE;
    if (!bytes_to_u64(bytes_of_str(text), max, &number) || number < min)
        return cli_usage(cli, "--%s '%.64s' is not a number from %llu to %llu", option, text,
                         (unsigned long long)min, (unsigned long long)max);
    *out = number;
    return CLI_DONE;
}
