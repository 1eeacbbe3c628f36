/* Help as a manual page reads: name, synopsis, description, options, examples, exit status. */
#include <stdlib.h>
#include <string.h>

#include "tools/cli.h"

enum { WIDTH = 80, INDENT = 7, DEEPER = 14, HANGING = 16, NAME_WIDTH = 24 };

/* --- wrapped text --- */

static void put_blanks(FILE *out, int count)
{
    fprintf(out, "%*s", count, "");
}

/* One paragraph without line ends, the first line starting at `column`. */
static void put_paragraph(FILE *out, const char *text, size_t len, int indent, int column)
{
    while (len > 0) {
        size_t word = 0;
        while (word < len && text[word] != ' ' && text[word] != '\n')
            word++;
        if (column > indent && column + 1 + (int)word > WIDTH) {
            fputc('\n', out);
            column = 0;
        }
        if (column == 0) {
            put_blanks(out, indent);
            column = indent;
        } else if (column > indent) {
            fputc(' ', out);
            column++;
        }
        fwrite(text, 1, word, out);
        column += (int)word;
        while (word < len && (text[word] == ' ' || text[word] == '\n'))
            word++;
        text += word;
        len -= word;
    }
    fputc('\n', out);
}

static size_t paragraph_len(const char *text)
{
    const char *end = strstr(text, "\n\n");
    return end ? (size_t)(end - text) : strlen(text);
}

static void put_as_it_is(FILE *out, const char *text, size_t len, int indent)
{
    while (len > 0) {
        const char *end = memchr(text, '\n', len);
        size_t line = end ? (size_t)(end - text) : len;
        put_blanks(out, indent);
        fwrite(text, 1, line, out);
        fputc('\n', out);
        text += line + (end != NULL);
        len -= line + (end != NULL);
    }
}

static void put_text(FILE *out, const char *text, int indent)
{
    while (*text) {
        size_t len = paragraph_len(text);
        if (text[0] == ' ')
            put_as_it_is(out, text, len, indent - 1);
        else
            put_paragraph(out, text, len, indent, 0);
        text += len;
        while (*text == '\n')
            text++;
        if (*text)
            fputc('\n', out);
    }
}

static void put_heading(FILE *out, const char *heading)
{
    fprintf(out, "\n%s\n", heading);
}

/* --- pieces --- */

static void put_name(FILE *out, const struct cli_group *group, const struct cli_command *command,
                     const char *summary)
{
    char text[256];
    snprintf(text, sizeof(text), "certmill %s%s%s - %s", group->name,
             command && command->name[0] ? " " : "", command ? command->name : "", summary);
    fputs("NAME\n", out);
    put_text(out, text, INDENT);
}

void cli_command_name(const struct cli *cli, char *out, size_t cap)
{
    const char *command = cli->command ? cli->command->name : "";
    snprintf(out, cap, "certmill%s%s%s%s", cli->group ? " " : "",
             cli->group ? cli->group->name : "", command[0] ? " " : "", command);
}

static void put_option(FILE *out, const struct cli_option *option)
{
    put_blanks(out, INDENT);
    fprintf(out, "%s%s%s%s\n", option->name[0] == '-' ? "" : "--", option->name,
            option->value ? " " : "", option->value ? option->value : "");
    put_text(out, option->help, DEEPER);
}

static void put_global_options(FILE *out)
{
    static const struct cli_option globals[] = {
        {"-c, --config", "FILE",
         "The appliance's configuration; CERTMILL_CONFIG in the environment does the same.", false,
         false},
        {"--json", NULL, "Print one JSON object instead of text for people.", false, false},
        {"-h, --help", NULL, "Print this page.", false, false}};
    for (size_t i = 0; i < sizeof(globals) / sizeof(globals[0]); i++)
        put_option(out, &globals[i]);
}

static void put_synopsis(FILE *out, const struct cli_group *group,
                         const struct cli_command *command)
{
    char text[2048];
    struct writer line = writer_of(text, sizeof(text) - 1);
    writer_printf(&line,
                  "[-c\x01"
                  "FILE] [--json] %s%s%s",
                  group->name, command->name[0] ? " " : "", command->name);
    for (const struct cli_option *option = command->options; option && option->name; option++) {
        writer_printf(&line, " %s--%s%s%s%s%s", option->required ? "" : "[", option->name,
                      option->value ? "\x01" : "", option->value ? option->value : "",
                      option->required ? "" : "]", option->repeats ? "..." : "");
    }
    if (command->arguments)
        writer_printf(&line, " %s", command->arguments);
    text[line.len] = 0;
    /* An option stays beside its value: the blank between them is put in last. */
    char *wrapped = NULL;
    size_t wrapped_len = 0;
    FILE *memory = open_memstream(&wrapped, &wrapped_len);
    if (!memory)
        return;
    put_paragraph(memory, text, line.len, HANGING, HANGING);
    fclose(memory);
    put_blanks(out, INDENT);
    fputs("certmill ", out);
    for (size_t i = 0; i < wrapped_len; i++)
        fputc(wrapped[i] == '\x01' ? ' ' : wrapped[i], out);
    free(wrapped);
}

static void put_exit_status(FILE *out, const struct cli_command *command)
{
    char text[512];
    put_heading(out, "EXIT STATUS");
    put_text(out, " 0      Done.", INDENT);
    snprintf(text, sizeof(text),
             "Failed; one line on standard error says what is wrong and what "
             "to do.%s%s",
             command->status ? " " : "", command->status ? command->status : "");
    put_blanks(out, INDENT);
    fputs("1      ", out);
    put_paragraph(out, text, strlen(text), DEEPER, DEEPER);
    put_text(out, " 2      Wrong usage; nothing was done.", INDENT);
}

/* --- pages --- */

void cli_help_command(FILE *out, const struct cli_group *group, const struct cli_command *command)
{
    put_name(out, group, command, command->summary);
    put_heading(out, "SYNOPSIS");
    put_synopsis(out, group, command);
    put_heading(out, "DESCRIPTION");
    put_text(out, command->text, INDENT);
    put_heading(out, "OPTIONS");
    for (const struct cli_option *option = command->options; option && option->name; option++)
        put_option(out, option);
    put_global_options(out);
    if (command->examples) {
        put_heading(out, "EXAMPLES");
        put_text(out, command->examples, INDENT);
    }
    put_exit_status(out, command);
}

static void put_entry(FILE *out, const char *name, const char *summary)
{
    put_blanks(out, INDENT);
    int column = INDENT + fprintf(out, "%-*s", NAME_WIDTH, name);
    put_paragraph(out, summary, strlen(summary), INDENT + NAME_WIDTH, column);
}

void cli_help_group(FILE *out, const struct cli_group *group)
{
    put_name(out, group, NULL, group->summary);
    put_heading(out, "SYNOPSIS");
    put_blanks(out, INDENT);
    fprintf(out, "certmill [-c FILE] [--json] %s COMMAND ...\n", group->name);
    put_heading(out, "COMMANDS");
    for (const struct cli_command *const *at = group->commands; *at; at++)
        put_entry(out, (*at)->name, (*at)->summary);
    fputc('\n', out);
    char text[128];
    snprintf(text, sizeof(text), "certmill %s COMMAND --help tells all about one of them.",
             group->name);
    put_text(out, text, INDENT);
    put_heading(out, "EXIT STATUS");
    put_text(out, " 0 done, 1 failed, 2 wrong usage.", INDENT);
}

void cli_help_all(FILE *out)
{
    fputs("NAME\n       certmill - the operator's command line of a certmill appliance\n", out);
    put_heading(out, "SYNOPSIS");
    put_text(out,
             " certmill [-c FILE] [--json] COMMAND ...\n certmill [COMMAND ...] --help\n"
             " certmill --version",
             INDENT);
    put_heading(out, "DESCRIPTION");
    put_text(out,
             "Makes the keys and certificates of a certification authority in an HSM, looks at a "
             "running appliance, reads what it has issued, and revokes it. The store is read beside "
             "the running daemon, which is not disturbed; nothing here writes to it but the daemon "
             "itself, when it is asked to.",
             INDENT);
    put_heading(out, "COMMANDS");
    for (const struct cli_group *group = CLI_GROUPS; group->name; group++) {
        for (const struct cli_command *const *at = group->commands; *at; at++) {
            char name[64];
            snprintf(name, sizeof(name), "%s%s%s", group->name, (*at)->name[0] ? " " : "",
                     (*at)->name);
            put_entry(out, name, (*at)->summary);
        }
    }
    put_heading(out, "OPTIONS");
    put_global_options(out);
    put_option(out, &(struct cli_option){"-V, --version", NULL,
                                         "Print version, build and the wolfSSL this binary holds.",
                                         false, false});
    put_heading(out, "ENVIRONMENT");
    put_text(out, " CERTMILL_CONFIG  the configuration, when --config is not given", INDENT);
    put_heading(out, "EXAMPLES");
    put_text(out,
             " certmill config sample > certmill.yaml\n"
             " certmill token init --module /usr/lib/softhsm/libsofthsm2.so \\\n"
             "     --label certmill --pin-file pin\n"
             " certmill -c certmill.yaml ca init --ca issuing \\\n"
             "     --subject \"CN=Issuing CA,O=Example\" --root-subject \"CN=Root CA,O=Example\"\n"
             " certmill -c certmill.yaml status\n"
             " certmill -c certmill.yaml --json cert list | jq '.certificates[].device'",
             INDENT);
    put_heading(out, "EXIT STATUS");
    put_text(out, " 0 done, 1 failed, 2 wrong usage.", INDENT);
    put_heading(out, "SEE ALSO");
    put_text(out, "certmilld --help", INDENT);
}
