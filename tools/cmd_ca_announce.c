/* certmill ca announce: the news of a rollover again, for listeners that were away. */
#include "tools/announce.h"
#include "tools/commands.h"

static int run_announce(struct cli *cli)
{
    const struct config_ca *ca = cli_config_ca(cli, cli_get(cli, "ca"));
    if (!ca)
        return CLI_FAILED;
    if (cli->config->cmp_announce_count == 0)
        return cli_fail("%s names no listeners: list their URLs in cmp_announce",
                        cli->config->path);
    if (ca->previous_count == 0)
        return cli_fail("ca %s has had one key alone: there is no news of it", ca->name);
    json_t *report = NULL;
    int status = announce_rollover(cli, cli->config, ca->name, &report);
    if (!cli->json) {
        announce_print(report);
        json_decref(report);
        return status;
    }
    json_t *object = json_object();
    json_put_str(object, "ca", ca->name);
    json_put(object, "announced", report);
    out_json(object);
    return status;
}

static const struct cli_option OPTIONS[] = {
    {"ca", "NAME", "Which CA of the configuration.", true, false}, {NULL}};

const struct cli_command CA_ANNOUNCE = {
    .name = "announce",
    .summary = "tell listeners of a CA's new key again",
    .text =
        "Sends the CMP announcement (ckuann, RFC 9810 5.3.13) of the CA's last key rollover to "
        "every URL of cmp_announce in the configuration: the new certificate and the links "
        "between the old and the new one. It is signed by the cmp_signer of a line of this CA. "
        "`certmill ca rollover` does so by itself; this is for listeners that were away then. All "
        "are asked at once and have ten seconds to answer 201 or 202.",
    .examples = " certmill -c certmill.yaml ca announce --ca issuing",
    .status = "Also when a listener did not take it.",
    .options = OPTIONS,
    .run = run_announce,
};
