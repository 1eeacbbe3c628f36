/* certmill: the operator's command line. */
#include <stdio.h>
#include <sys/resource.h>

#include "base/log.h"
#include "build_info.h"
#include "tools/access.h"
#include "tools/commands.h"
#include "tools/output.h"

const struct cli_group CLI_GROUPS[] = {
    {"status", "what the running appliance does", STATUS_COMMANDS},
    {"cert", "certificates that were issued", CERT_COMMANDS},
    {"revoke", "certificates that shall not be trusted any more", REVOKE_COMMANDS},
    {"crl", "revocation lists", CRL_COMMANDS},
    {"line", "production lines", LINE_COMMANDS},
    {"device", "devices", DEVICE_COMMANDS},
    {"journal", "the journal: who did what, and whether the record is complete", JOURNAL_COMMANDS},
    {"ca", "certification authorities: keys, certificates, requests", CA_COMMANDS},
    {"key", "keys in the tokens", KEY_COMMANDS},
    {"token", "PKCS#11 tokens", TOKEN_COMMANDS},
    {"station", "stations that may enroll devices", STATION_COMMANDS},
    {"bulk", "certificates for many requests, by CMP", BULK_COMMANDS},
    {"config", "the configuration file", CONFIG_COMMANDS},
    {"version", "version and build", VERSION_COMMANDS},
    {NULL},
};

static int run_version(struct cli *cli)
{
    json_t *object = json_object();
    json_put_str(object, "version", CERTMILL_VERSION);
    json_put_str(object, "build", CERTMILL_BUILD_TYPE);
    json_put_str(object, "compiler", CERTMILL_COMPILER);
    json_put_str(object, "sanitizer", CERTMILL_SANITIZER[0] ? CERTMILL_SANITIZER : NULL);
    json_put_str(object, "wolfssl", CERTMILL_WOLFSSL_INFO);
    if (cli->json)
        out_json(json_incref(object));
    else
        printf("certmill %s (%s, %s%s%s)\nwolfSSL:\n%s\n", CERTMILL_VERSION, CERTMILL_BUILD_TYPE,
               CERTMILL_COMPILER, CERTMILL_SANITIZER[0] ? ", sanitizer " : "", CERTMILL_SANITIZER,
               CERTMILL_WOLFSSL_INFO);
    json_decref(object);
    return CLI_DONE;
}

static const struct cli_command COMMAND_VERSION = {
    .name = "",
    .summary = "print version, build and the wolfSSL this binary holds",
    .text = "The same as certmill --version.",
    .run = run_version,
};

const struct cli_command *const VERSION_COMMANDS[] = {&COMMAND_VERSION, NULL};

static void print_help(const struct cli *cli, FILE *out)
{
    if (cli->command)
        cli_help_command(out, cli->group, cli->command);
    else if (cli->group)
        cli_help_group(out, cli->group);
    else
        cli_help_all(out);
}

static int run(struct cli *cli, int argc, char **argv)
{
    int status = cli_parse(cli, argc, argv);
    if (status != CLI_DONE)
        return status;
    if (cli->help) {
        print_help(cli, stdout);
        return CLI_DONE;
    }
    status = cli->command->run(cli);
    return cli->misused ? CLI_USAGE : status;
}

int main(int argc, char **argv)
{
    struct cli cli = {0};
    struct rlimit none = {0};
    setrlimit(RLIMIT_CORE, &none); /* PINs pass through here */
    log_set_program("certmill");
    log_set_level(LOG_ERROR);
    int status = run(&cli, argc, argv);
    access_end();
    config_free(cli.config);
    if (!out_finish() && status == CLI_DONE)
        status = cli_fail("standard output cannot be written: make room where it goes");
    return status;
}
