/* certmill ca csr, ca import: an issuing CA under an outside root. */
#include <stdlib.h>

#include "tools/ca.h"
#include "tools/commands.h"
#include "tools/rollover.h"

/* --- csr --- */

static int run_csr(struct cli *cli)
{
    struct subject subject;
    struct key_wish wish;
    struct p11_key key;
    uint8_t der[CERT_DER_MAX];
    size_t len = 0;
    bool there = true;
    ACCESS access = {0};
    const struct config_ca *ca = cli_config_ca(cli, cli_get(cli, "ca"));
    const struct config_token *token = ca ? cli_token_of_ca(cli, ca) : NULL;
    if (!token)
        return CLI_FAILED;
    int status = subject_read(cli, "subject", &subject);
    if (status == CLI_DONE)
        status = key_wish_of_ca(cli->config, ca, &wish);
    if (status == CLI_DONE)
        status = key_wish_type(cli, "key-type", &wish);
    if (status == CLI_DONE)
        status = access_open(cli, token, true, &access);
    if (status == CLI_DONE)
        status = key_look(cli, &access, &wish, &key, &there);
    if (status == CLI_DONE && !there)
        status = key_make(cli, &access, &wish, &key);
    if (status == CLI_DONE)
        status = ca_csr_make(cli, &access, &key, bytes_of(subject.der, subject.len), der, &len);
    return status == CLI_DONE ? ca_csr_give(cli, "out", &access, &key, !there, bytes_of(der, len))
                              : status;
}

static const struct cli_option CSR_OPTIONS[] = {
    {"ca", "NAME", "Which CA of the configuration.", true, false},
    {"subject", "DN", "Subject of the CA, \"CN=Issuing CA,O=Example,C=DE\".", true, false},
    {"key-type", "TYPE",
     "When the key is made: p256 (default), p384, rsa3072, rsa4096 or ed25519. A key that is in "
     "the "
     "token already must be of this type.",
     false, false},
    {"out", "FILE", "Where the request goes; default is standard output.", false, false},
    {NULL}};

const struct cli_command CA_CSR = {
    .name = "csr",
    .summary = "make a request for an outside root",
    .text =
        "Makes the CA's key in its token when it is not there, and a PKCS#10 request in PEM, "
        "signed by that key, that asks for basicConstraints CA:TRUE and the key usages keyCertSign "
        "and cRLSign. Have the root sign it, then bring its certificate home with `certmill ca "
        "import`.",
    .examples = " certmill -c certmill.yaml ca csr --ca issuing \\\n"
                "     --subject \"CN=Issuing CA,O=Example\" --out issuing.csr",
    .options = CSR_OPTIONS,
    .run = run_csr,
};

/* --- import --- */

static int read_certs(struct cli *cli, struct cert_list *list)
{
    const char *path;
    int status = certs_read(cli_get(cli, "certificate"), list);
    for (uint32_t i = 0; status == CLI_DONE && (path = cli_get_nth(cli, "chain", i)); i++)
        status = certs_read(path, list);
    return status;
}

static int check_certs(const struct cert_list *list, const char *path, struct x509_cert *out)
{
    if (x509_decode(list->der[0], out) != ERR_OK)
        return CLI_FAILED; /* certs_add has said so */
    if (!out->is_ca || (out->has_key_usage && (out->key_usage & KU_KEY_CERT_SIGN) == 0))
        return cli_fail(
            "%s: not a CA certificate (basicConstraints CA:TRUE, keyCertSign): have the "
            "root sign the request as a CA's",
            path);
    const char *problem = ca_path_problem(list->der, list->count);
    if (problem)
        return cli_fail("%s: %s: give the root and what is between with --chain", path, problem);
    return CLI_DONE;
}

/* Is it a certificate for the key in the token, and does that key sign? */
static int check_key(struct cli *cli, const struct config_ca *ca, const struct x509_cert *cert)
{
    struct key_wish wish;
    struct p11_key key;
    ACCESS access = {0};
    const struct config_token *token = cli_token_of_ca(cli, ca);
    if (!token)
        return CLI_FAILED;
    int status = key_wish_of_ca(cli->config, ca, &wish);
    if (status == CLI_DONE)
        status = access_open(cli, token, false, &access);
    if (status == CLI_DONE)
        status = key_find(cli, &access, &wish, &key);
    if (status != CLI_DONE)
        return status;
    if (!bytes_eq(cert->spki.der, bytes_of(key.spki_der, key.spki_len)))
        return cli_fail("%s: it certifies another key than %s in token %s: import the certificate "
                        "of the request that `certmill ca csr --ca %s` made",
                        cli_get(cli, "certificate"), key.label, token->name, ca->name);
    return ca_prove_key(cli, &access, &key, cert);
}

static int refuse_overwriting(struct cli *cli, const struct config_ca *ca, const char *path)
{
    if (!path || !file_exists(path) || cli_has(cli, "force"))
        return CLI_DONE;
    return cli_fail("ca %s: %s is there already: give --force to write over it", ca->name, path);
}

/* The root and what is between go into the first file of chain, all of them. */
static int write_files(struct cli *cli, const struct config_ca *ca, const struct cert_list *list,
                       char *certificate, char *chain)
{
    if (list->count > 1 && !chain)
        return cli_fail("ca %s: the configuration names no file for the chain: add chain: "
                        "[ca/root.pem] to it",
                        ca->name);
    int status = refuse_overwriting(cli, ca, certificate);
    if (status == CLI_DONE && list->count > 1)
        status = refuse_overwriting(cli, ca, chain);
    if (status == CLI_DONE && list->count > 1)
        status = ca_file_write(chain, NULL, list->der + 1, list->count - 1);
    if (status == CLI_DONE)
        status = ca_file_write(certificate, NULL, list->der, 1);
    return status;
}

static void report_import(const struct cli *cli, const struct config_ca *ca,
                          const struct x509_cert *cert, const char *certificate, const char *chain)
{
    if (!cli->json) {
        ca_cert_print("issuing CA", cert, certificate);
        if (chain)
            printf("  chain        %s\n", chain);
        return;
    }
    json_t *object = json_object();
    json_put_str(object, "ca", ca->name);
    json_put(object, "certificate", ca_cert_json(cert, certificate));
    json_put_str(object, "chain", chain);
    out_json(object);
}

/* --- import of a rollover --- */

static bool has_cert(const struct cert_list *list, struct bytes der)
{
    bool found = false;
    for (uint32_t i = 0; i < list->count; i++)
        found |= bytes_eq(list->der[i], der);
    return found;
}

/* What the chain has already serves the new certificate, too; what it lacks is added to it. */
static int check_rollover(struct cli *cli, const struct cert_list *given, struct rollover *r)
{
    static struct cert_list all;
    struct x509_cert cert;
    const char *path = cli_get(cli, "certificate");
    int status = CLI_DONE;
    all.count = 0;
    for (uint32_t i = 0; i < given->count && status == CLI_DONE; i++) {
        if (!has_cert(&all, given->der[i]))
            status = certs_add(&all, path, given->der[i]);
        if (status == CLI_DONE && i > 0 && !has_cert(&r->old, given->der[i]) &&
            !has_cert(&r->chain_more, given->der[i]))
            status = certs_add(&r->chain_more, path, given->der[i]);
    }
    for (uint32_t i = 1; i < r->old.count && status == CLI_DONE; i++)
        if (!has_cert(&all, r->old.der[i]))
            status = certs_add(&all, path, r->old.der[i]);
    if (status == CLI_DONE && r->old.count + r->chain_more.count > CERT_CHAIN_MAX)
        status =
            cli_fail("ca %s: more than %d certificates in its chain: take out what it does not "
                     "need",
                     r->ca->name, CERT_CHAIN_MAX);
    return status == CLI_DONE ? check_certs(&all, path, &cert) : status;
}

/* The key that `ca rollover --csr` made, known by the certificate. */
static int find_new_key(struct cli *cli, struct rollover *r)
{
    struct key_wish wish;
    struct p11_key found;
    bool there = false;
    const struct x509_cert *cert = &r->cert.view;
    int status = key_find_spki(cli, &r->access, cert->spki.der, r->ca->test, &r->new_key, &there);
    if (status != CLI_DONE)
        return status;
    if (!there || bytes_eq(cert->spki.der, r->old_cert.spki.der))
        return cli_fail("%s: it certifies %s: import the certificate of the request that `certmill "
                        "ca rollover --csr` made",
                        cli_get(cli, "certificate"),
                        there ? "the key that the CA signs with already"
                              : cell("no key in token %s", r->token->name));
    status = key_wish_of_label(r->new_key.label, &wish);
    wish.allow_weak = r->ca->test;
    if (status == CLI_DONE) /* is it the only one of its label? */
        status = key_find(cli, &r->access, &wish, &found);
    memcpy(r->new_uri, wish.uri, sizeof(r->new_uri));
    return status;
}

static int run_import_rollover(struct cli *cli)
{
    static struct cert_list list;
    static struct rollover r;
    int status = read_certs(cli, &list);
    if (status == CLI_DONE)
        status = rollover_open(cli, cli_get(cli, "ca"), &r);
    if (status == CLI_DONE)
        status = check_rollover(cli, &list, &r);
    if (status == CLI_DONE) {
        r.cert.len = list.der[0].len;
        memcpy(r.cert.der, list.der[0].ptr, r.cert.len);
        if (x509_decode(bytes_of(r.cert.der, r.cert.len), &r.cert.view) != ERR_OK)
            status = CLI_FAILED; /* certs_add has said so */
    }
    if (status == CLI_DONE)
        status = find_new_key(cli, &r);
    if (status == CLI_DONE)
        status = rollover_plan(cli, &r, r.cert.view.subject);
    if (status == CLI_DONE)
        status = rollover_finish(cli, &r, false, "an outside root");
    rollover_clear(&r);
    return status;
}

static int run_import(struct cli *cli)
{
    static struct cert_list list;
    struct x509_cert cert;
    if (cli_has(cli, "rollover"))
        return run_import_rollover(cli);
    if (cli_has(cli, "no-reload"))
        return cli_usage(cli, "--no-reload goes with --rollover");
    const struct config_ca *ca = cli_config_ca(cli, cli_get(cli, "ca"));
    if (!ca)
        return CLI_FAILED;
    int status = read_certs(cli, &list);
    if (status == CLI_DONE)
        status = check_certs(&list, cli_get(cli, "certificate"), &cert);
    if (status == CLI_DONE)
        status = check_key(cli, ca, &cert);
    char *certificate = config_path(cli->config, ca->certificate);
    char *chain = ca->chain_count > 0 ? config_path(cli->config, ca->chain[0]) : NULL;
    if (status == CLI_DONE)
        status = write_files(cli, ca, &list, certificate, chain);
    if (status == CLI_DONE)
        report_import(cli, ca, &cert, certificate, list.count > 1 ? chain : NULL);
    free(certificate);
    free(chain);
    return status;
}

static const struct cli_option IMPORT_OPTIONS[] = {
    {"ca", "NAME", "Which CA of the configuration.", true, false},
    {"certificate", "FILE",
     "The certificate that the root made, PEM or DER. Others in the same file count as chain.",
     true, false},
    {"chain", "FILE", "The root's certificate and those between, in any order.", false, true},
    {"force", NULL, "Writes over files that are there; they stay as FILE.old.", false, false},
    {"rollover", NULL,
     "The certificate is for the key that `certmill ca rollover --csr` made: switches the CA over "
     "to "
     "it, as `certmill ca rollover` does. The chain that is there counts, too.",
     false, false},
    {"no-reload", NULL, "With --rollover: leaves it to you to tell certmilld by SIGHUP.", false,
     false},
    {NULL}};

const struct cli_command CA_IMPORT = {
    .name = "import",
    .summary = "take the certificate that an outside root made",
    .text =
        "Checks that the certificate is a CA's, that it certifies the key in the token, that this "
        "key signs what the certificate verifies, and that a path of valid certificates leads to a "
        "self-signed root among those given. Then writes it to the file that the configuration "
        "names as certificate, and the others into the first file of chain. Each file changes at "
        "once or not at all; nothing is written when a check fails. A "
        "running certmilld takes new ones on SIGHUP.",
    .examples = " certmill -c certmill.yaml ca import --ca issuing \\\n"
                "     --certificate issuing.pem --chain root.pem\n"
                " certmill -c certmill.yaml ca import --ca issuing --rollover \\\n"
                "     --certificate issuing-2.pem",
    .options = IMPORT_OPTIONS,
    .run = run_import,
};
