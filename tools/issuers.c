#include "tools/issuers.h"

#include <stdlib.h>

#include "ca/issue.h"
#include "tools/files.h"

int issuer_find(struct cli *cli, struct shelf *shelf, const char *ca, uint32_t *out_id)
{
    const struct config_ca *config = cli_config_ca(cli, ca);
    static struct cert_list list;
    struct x509_cert cert;
    uint8_t hash[32];
    if (!config)
        return CLI_FAILED;
    char *path = config_path(cli->config, config->certificate);
    list.count = 0;
    int status = certs_read(path, &list);
    if (status == CLI_DONE && x509_decode(list.der[0], &cert) != ERR_OK)
        status = cli_fail("%s: not a CA certificate: make it with `certmill ca init`", path);
    free(path);
    if (status != CLI_DONE)
        return status;
    issuer_hash(&cert, hash);
    enum err err = reader_issuer(shelf->reader, hash, out_id);
    if (err == ERR_NOT_FOUND)
        return cli_fail("the store does not know ca %s: start certmilld with it first", ca);
    return err == ERR_OK ? CLI_DONE : shelf_fail(err);
}
