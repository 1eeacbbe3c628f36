/* certmill ca: the table, and show. */
#include <stdlib.h>

#include "tools/ca.h"
#include "tools/commands.h"

/* Prints or adds one CA as its files say. */
static int show(struct cli *cli, const struct config_ca *ca, json_t *array)
{
    static struct cert_list list;
    struct x509_cert cert;
    char *certificate = config_path(cli->config, ca->certificate);
    list.count = 0;
    int status = certs_read(certificate, &list);
    uint32_t own = list.count;
    for (uint32_t i = 0; i < ca->chain_count && status == CLI_DONE; i++) {
        char *path = config_path(cli->config, ca->chain[i]);
        status = certs_read(path, &list);
        free(path);
    }
    if (status == CLI_DONE && x509_decode(list.der[0], &cert) == ERR_OK) {
        const char *problem = ca_path_problem(list.der, list.count);
        json_t *object = ca_cert_json(&cert, certificate);
        json_put_str(object, "name", ca->name);
        json_put_str(object, "key_uri", ca->key);
        json_put_bool(object, "test", ca->test);
        json_put_int(object, "chain_certificates", list.count - own);
        json_put_int(object, "previous_certificates", ca->previous_count);
        json_put_bool(object, "linked", ca->old_with_new != NULL && ca->new_with_old != NULL);
        json_put_str(object, "problem", problem);
        json_array_append_new(array, object);
        if (!cli->json) {
            ca_cert_print(cell("ca %s%s", ca->name, ca->test ? " (test)" : ""), &cert, certificate);
            printf("  token key    %s\n", ca->key);
            printf("  chain        %u certificates, %s\n", list.count - own,
                   problem ? problem : "complete and valid");
            if (ca->previous_count > 0)
                printf("  earlier      %u certificates, the last in %s\n", ca->previous_count,
                       ca->previous[0]);
        }
        status = problem ? CLI_FAILED : CLI_DONE;
    }
    free(certificate);
    return status;
}

static int run_show(struct cli *cli)
{
    const char *name = cli_get(cli, "ca");
    const struct config *config = cli_config(cli);
    if (!config || (name && !cli_config_ca(cli, name)))
        return CLI_FAILED;
    json_t *object = json_object(), *array = json_array();
    json_put(object, "cas", array);
    int status = CLI_DONE;
    for (uint32_t i = 0; i < config->cas_count; i++)
        if (!name || strcmp(name, config->cas[i].name) == 0)
            status = show(cli, &config->cas[i], array) == CLI_DONE ? status : CLI_FAILED;
    if (cli->json)
        out_json(json_incref(object));
    json_decref(object);
    return status;
}

static const struct cli_option SHOW_OPTIONS[] = {
    {"ca", "NAME", "Only this one; default: all of the configuration.", false, false}, {NULL}};

static const struct cli_command COMMAND_SHOW = {
    .name = "show",
    .summary = "show the CA certificates and whether their chains are good",
    .text =
        "Reads the certificate files that the configuration names, not the tokens: `certmill key "
        "attest` looks at the keys.",
    .examples = " certmill -c certmill.yaml ca show",
    .status = "Also when a certificate is missing, expired, or has no path to its root.",
    .options = SHOW_OPTIONS,
    .run = run_show,
};

const struct cli_command *const CA_COMMANDS[] = {&CA_INIT,     &CA_CSR,       &CA_IMPORT,
                                                 &CA_ROLLOVER, &CA_ANNOUNCE, &COMMAND_SHOW, NULL};
