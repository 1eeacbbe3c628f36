/* certmill config: check, sample. */
#include "tools/commands.h"
#include "tools/output.h"

/* deploy/sample/certmill.yaml, byte for byte, through the assembler, which looks where the compiler
 * looks for headers. */
__asm__(".pushsection .rodata\n"
        "config_sample_start:\n"
        ".incbin \"deploy/sample/certmill.yaml\"\n"
        "config_sample_end:\n"
        ".byte 0\n"
        ".popsection\n");
extern const char config_sample_start[], config_sample_end[];

static int run_check(struct cli *cli)
{
    char error[CONFIG_ERROR_MAX] = "";
    struct config *config = NULL;
    if (!cli->config_path || !cli->config_path[0])
        return cli_usage(cli, "no configuration is named: give --config FILE or set "
                              "CERTMILL_CONFIG");
    enum err err = config_load(cli->config_path, &config, error);
    if (cli->json) {
        json_t *object = json_object();
        json_put_str(object, "file", cli->config_path);
        json_put_bool(object, "good", err == ERR_OK);
        json_put_str(object, "error", err == ERR_OK ? NULL : error);
        out_json(object);
    } else if (err == ERR_OK) {
        printf("%s: good\n", cli->config_path);
    }
    config_free(config);
    if (err != ERR_OK)
        return cli_fail("%s: certmill config sample explains every option", error);
    return CLI_DONE;
}

static int run_sample(struct cli *cli)
{
    size_t len = (size_t)(config_sample_end - config_sample_start);
    if (cli->json) {
        json_t *object = json_object();
        json_put(object, "sample", json_of_text(bytes_of(config_sample_start, len)));
        out_json(object);
    } else {
        fwrite(config_sample_start, 1, len, stdout);
    }
    return CLI_DONE;
}

static const struct cli_command COMMAND_CHECK = {
    .name = "check",
    .summary = "check the configuration file",
    .text = "Types, ranges, unique names and references: everything that the file alone can have "
            "wrong, with file, line and what was expected. Whether the files that it names are "
            "good as well is checked by certmilld --check.",
    .examples = " certmill -c certmill.yaml config check && systemctl reload certmilld",
    .status = "Also when the file is not good.",
    .run = run_check,
};

static const struct cli_command COMMAND_SAMPLE = {
    .name = "sample",
    .summary = "print a commented configuration with every option",
    .text = "A configuration to start from. What it says is what happens when nothing is said, "
            "but for names, addresses and files.",
    .examples = " certmill config sample > certmill.yaml",
    .run = run_sample,
};

const struct cli_command *const CONFIG_COMMANDS[] = {&COMMAND_CHECK, &COMMAND_SAMPLE, NULL};
