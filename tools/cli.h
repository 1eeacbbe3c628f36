/* cli.h: what the commands of certmill share: the command table, options, errors.
 *
 * Promise: one line per failure on standard error, `certmill: what is wrong: what to do`; results
 *          alone on standard output. Every command has --help and --json.
 * Owner:   struct cli lives in main; option values point into argv.
 * Threads: one.
 * Errors:  a command returns its exit status; what fails has printed its line already.
 * Limits:  CLI_GIVEN_MAX, CLI_ARGS_MAX.
 */
#ifndef CERTMILL_TOOLS_CLI_H
#define CERTMILL_TOOLS_CLI_H

#include <stdio.h>

#include "base/bytes.h"
#include "config/config.h"

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2 };
enum { CLI_GIVEN_MAX = 64, CLI_ARGS_MAX = 8, CLI_ERROR_MAX = 2048 };

struct cli;

struct cli_option {
    const char *name;  /* without its dashes; NULL ends a list */
    const char *value; /* what follows it, "FILE"; NULL: a switch */
    const char *help;
    bool required;
    bool repeats;
};

/* Texts: paragraphs between empty lines are wrapped, lines that start with a blank are left alone.
 */
struct cli_command {
    const char *name;      /* "" when the group is the command */
    const char *arguments; /* behind the options in the synopsis, "SERIAL|LOG"; NULL: none */
    uint32_t args_min, args_max;
    const char *summary; /* half a line */
    const char *text;
    const char *examples;
    const char *status; /* what exit status 1 means beside failure; NULL: nothing more */
    const struct cli_option *options;
    int (*run)(struct cli *cli);
};

struct cli_group {
    const char *name;
    const char *summary;
    const struct cli_command *const *commands; /* NULL at the end */
};

struct cli {
    const char *config_path;
    bool json;
    bool help;
    bool
        misused; /* cli_usage was called: the exit status is CLI_USAGE whatever a command returns */
    const struct cli_group *group;
    const struct cli_command *command;
    struct {
        const struct cli_option *option;
        const char *value;
    } given[CLI_GIVEN_MAX];
    uint32_t given_count;
    const char *args[CLI_ARGS_MAX];
    uint32_t arg_count;
    struct config *config; /* after cli_config */
};

extern const struct cli_group CLI_GROUPS[];
const struct cli_group *cli_group_find(const char *name);
const struct cli_command *cli_command_find(const struct cli_group *group, const char *name);

/* options.c: fills the struct from argv. CLI_DONE, CLI_USAGE. Global options have effect already.
 */
int cli_parse(struct cli *cli, int argc, char **argv) MUST_USE;
/* Value of an option of the command; NULL when not given. */
const char *cli_get(const struct cli *cli, const char *option);
bool cli_has(const struct cli *cli, const char *option);
/* The index-th value of an option that repeats; NULL past the last. */
const char *cli_get_nth(const struct cli *cli, const char *option, uint32_t index);
/* Decimal within bounds into *out, which keeps its value when the option is not given. */
int cli_get_number(struct cli *cli, const char *option, uint64_t min, uint64_t max,
                   uint64_t *out) MUST_USE;

/* "certmill: ..." and CLI_FAILED. The text is one line: what is wrong, then what to do. */
__attribute__((format(printf, 1, 2))) int cli_fail(const char *fmt, ...);
/* The same with a word on where help is, and CLI_USAGE. */
__attribute__((format(printf, 2, 3))) int cli_usage(struct cli *cli, const char *fmt, ...);
__attribute__((format(printf, 1, 2))) void cli_warn(const char *fmt, ...);

/* help.c */
void cli_help_all(FILE *out);
void cli_help_group(FILE *out, const struct cli_group *group);
void cli_help_command(FILE *out, const struct cli_group *group, const struct cli_command *command);
/* "certmill ca init", or "certmill" before a command is known. */
void cli_command_name(const struct cli *cli, char *out, size_t cap);

/* settings.c: the configuration, loaded once. NULL: the line is printed. */
const struct config *cli_config(struct cli *cli);
const struct config_ca *cli_config_ca(struct cli *cli, const char *name);
const struct config_token *cli_config_token(struct cli *cli, const char *name);
/* The token a CA's key is made in: its first one. */
const struct config_token *cli_token_of_ca(struct cli *cli, const struct config_ca *ca);

#endif
