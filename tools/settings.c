/* The configuration, and what commands ask of it. */
#include <string.h>

#include "tools/cli.h"

const struct config *cli_config(struct cli *cli)
{
    char error[CONFIG_ERROR_MAX];
    if (cli->config)
        return cli->config;
    if (!cli->config_path || !cli->config_path[0]) {
        cli_usage(cli, "no configuration is named: give --config FILE or set CERTMILL_CONFIG");
        return NULL;
    }
    if (config_load(cli->config_path, &cli->config, error) != ERR_OK) {
        cli_fail("%s: correct the configuration; certmill config sample explains every option",
                 error);
        return NULL;
    }
    return cli->config;
}

const struct config_ca *cli_config_ca(struct cli *cli, const char *name)
{
    const struct config *config = cli_config(cli);
    if (!config)
        return NULL;
    for (uint32_t i = 0; i < config->cas_count; i++)
        if (strcmp(config->cas[i].name, name) == 0)
            return &config->cas[i];
    cli_fail("there is no ca '%.64s' in %s: the first of its %u is '%s'", name, config->path,
             config->cas_count, config->cas[0].name);
    return NULL;
}

const struct config_token *cli_config_token(struct cli *cli, const char *name)
{
    const struct config *config = cli_config(cli);
    if (!config)
        return NULL;
    if (!name && config->tokens_count > 1) {
        cli_usage(cli, "%s has %u tokens: say which one with --token", config->path,
                  config->tokens_count);
        return NULL;
    }
    for (uint32_t i = 0; i < config->tokens_count; i++)
        if (!name || strcmp(config->tokens[i].name, name) == 0)
            return &config->tokens[i];
    cli_fail("there is no token '%.64s' in %s: the first of its %u is '%s'", name, config->path,
             config->tokens_count, config->tokens[0].name);
    return NULL;
}

const struct config_token *cli_token_of_ca(struct cli *cli, const struct config_ca *ca)
{
    const struct config *config = cli_config(cli);
    if (!config)
        return NULL;
    /* no list means all of them, as in the daemon; keys are made in the first */
    return ca->tokens_count > 0 ? cli_config_token(cli, ca->tokens[0]) : &config->tokens[0];
}
