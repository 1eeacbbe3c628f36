/* certmill ca init: keys in the token, a root, an issuing CA, their files. */
#include <stdlib.h>

#include "hsm/p11/uri.h"
#include "tools/ca.h"
#include "tools/commands.h"

enum { ROOT_YEARS = 20, ISSUING_YEARS = 10, YEARS_MAX = 100, NO_PATH_LEN = -1 };

/* Everything the ceremony decides before it touches a token. */
struct plan {
    const struct config_ca *ca;
    const struct config_token *token, *root_token;
    struct subject subject, root_subject;
    struct key_wish wish, root_wish;
    uint64_t years, root_years;
    bool has_root, offline_root, force;
    char *certificate; /* paths */
    char *root_file;   /* NULL: no root */
};

static void plan_clear(struct plan *plan)
{
    free(plan->certificate);
    free(plan->root_file);
}

/* What the ceremony makes. */
struct made {
    struct p11_key key, root_key;
    bool key_there, root_key_there; /* before */
    struct ca_cert cert, root;
};

/* --- planning --- */

static int plan_names(struct cli *cli, struct plan *plan)
{
    int status = subject_read(cli, "subject", &plan->subject);
    if (status == CLI_DONE && plan->has_root)
        status = subject_read(cli, "root-subject", &plan->root_subject);
    if (status == CLI_DONE && plan->has_root &&
        bytes_eq(bytes_of(plan->subject.der, plan->subject.len),
                 bytes_of(plan->root_subject.der, plan->root_subject.len)))
        status = cli_usage(cli, "--subject and --root-subject are the same: the root and the "
                                "issuing CA need different names");
    return status;
}

static int plan_keys(struct cli *cli, struct plan *plan)
{
    char label[P11_LABEL_MAX + 8];
    const char *root_token = cli_get(cli, "root-token");
    int status = key_wish_of_ca(cli->config, plan->ca, &plan->wish);
    if (status == CLI_DONE)
        status = key_wish_type(cli, "key-type", &plan->wish);
    plan->token = cli_token_of_ca(cli, plan->ca);
    plan->root_token = root_token ? cli_config_token(cli, root_token) : plan->token;
    if (status != CLI_DONE || !plan->token || !plan->root_token)
        return status != CLI_DONE ? status : CLI_FAILED;
    snprintf(label, sizeof(label), "%s-root", plan->wish.label);
    status = key_wish_of_label(label, &plan->root_wish);
    plan->root_wish.alg = plan->wish.alg;
    plan->root_wish.bits = plan->wish.bits;
    return status;
}

static int plan_files(struct plan *plan, const struct config *config)
{
    const struct config_ca *ca = plan->ca;
    char *first = ca->chain_count > 0 ? config_path(config, ca->chain[0]) : NULL;
    plan->certificate = config_path(config, ca->certificate);
    if (plan->has_root && !first)
        return cli_fail("ca %s: the configuration names no file for the root certificate: add "
                        "chain: [ca/root.pem] to it, or leave out --root-subject",
                        ca->name);
    if (!plan->has_root && first && !file_exists(first)) {
        cli_fail("ca %s: its chain names %s, which a self-signed CA does not have: give "
                 "--root-subject, or take chain out of the configuration",
                 ca->name, first);
        free(first);
        return CLI_FAILED;
    }
    if (plan->has_root)
        plan->root_file = first;
    else
        free(first);
    const char *there = file_exists(plan->certificate)                    ? plan->certificate
                        : plan->root_file && file_exists(plan->root_file) ? plan->root_file
                                                                          : NULL;
    if (there && !plan->force)
        return cli_fail("ca %s: %s is there already, and certificates issued under it would lose "
                        "their chain: give --force to make new certificates with the same keys",
                        ca->name, there);
    return CLI_DONE;
}

static int plan_make(struct cli *cli, struct plan *plan)
{
    plan->ca = cli_config_ca(cli, cli_get(cli, "ca"));
    if (!plan->ca)
        return CLI_FAILED;
    plan->has_root = cli_has(cli, "root-subject");
    plan->offline_root = cli_has(cli, "offline-root");
    plan->force = cli_has(cli, "force");
    plan->years = ISSUING_YEARS;
    plan->root_years = ROOT_YEARS;
    static const char *const root_options[] = {"root-years", "root-token", "offline-root"};
    for (int i = 0; i < 3 && !plan->has_root; i++)
        if (cli_has(cli, root_options[i]))
            return cli_usage(cli, "--%s goes with --root-subject", root_options[i]);
    int status = cli_get_number(cli, "years", 1, YEARS_MAX, &plan->years);
    if (status == CLI_DONE)
        status = cli_get_number(cli, "root-years", 1, YEARS_MAX, &plan->root_years);
    if (status == CLI_DONE && plan->has_root && plan->years > plan->root_years)
        status = cli_usage(cli, "--years %llu is more than the root's %llu",
                           (unsigned long long)plan->years, (unsigned long long)plan->root_years);
    if (status == CLI_DONE)
        status = plan_names(cli, plan);
    if (status == CLI_DONE)
        status = plan_keys(cli, plan);
    return status == CLI_DONE ? plan_files(plan, cli->config) : status;
}

/* --- the ceremony --- */

static int make_certs(struct cli *cli, const struct plan *plan, const struct access *access,
                      const struct access *root_access, struct made *made)
{
    struct ca_cert_wish root = {
        .subject = bytes_of(plan->root_subject.der, plan->root_subject.len),
        .key = &made->root_key,
        .signer = root_access,
        .signer_key = &made->root_key,
        .years = plan->root_years,
        .path_len = NO_PATH_LEN,
    };
    struct ca_cert_wish issuing = {
        .subject = bytes_of(plan->subject.der, plan->subject.len),
        .key = &made->key,
        .issuer = plan->has_root ? &made->root.view : NULL,
        .signer = plan->has_root ? root_access : access,
        .signer_key = plan->has_root ? &made->root_key : &made->key,
        .years = plan->years,
        .path_len = 0, /* it issues to devices alone */
    };
    int status = plan->has_root ? ca_cert_make(cli, &root, &made->root) : CLI_DONE;
    if (status == CLI_DONE)
        status = ca_cert_make(cli, &issuing, &made->cert);
    if (status == CLI_DONE && plan->has_root) /* the root signed it, not the key that it is for */
        status = ca_prove_key(cli, access, &made->key, &made->cert.view);
    if (status != CLI_DONE)
        return status;
    struct bytes chain[2] = {made->cert.view.der, made->root.view.der};
    const char *problem = ca_path_problem(chain, plan->has_root ? 2 : 1);
    return problem ? cli_fail("the new certificate of ca %s: %s: this is a bug in certmill: "
                              "report it",
                              plan->ca->name, problem)
                   : CLI_DONE;
}

static int write_cert(const char *path, const struct ca_cert *cert)
{
    return ca_file_write(path, NULL, &cert->view.der, 1);
}

/* Last of all, when both certificates are on the disk. */
static int destroy_root(struct cli *cli, const struct plan *plan, const struct access *access,
                        const struct p11_key *key)
{
    struct p11_error error = {0};
    enum err err = p11_key_destroy(access->session, key, &error);
    if (err == ERR_OK)
        return CLI_DONE;
    access_fail(cli, plan->root_token, err, &error);
    return cli_fail("ca %s is made, but the root key %s is still in token %s: destroy it with the "
                    "vendor's tool",
                    plan->ca->name, key->label, plan->root_token->name);
}

/* Looks at both before it makes one, so that a refusal leaves nothing behind. */
static int make_keys(struct cli *cli, const struct plan *plan, const struct access *access,
                     const struct access *root_access, struct made *made)
{
    int status = key_look(cli, access, &plan->wish, &made->key, &made->key_there);
    if (status == CLI_DONE && plan->has_root)
        status =
            key_look(cli, root_access, &plan->root_wish, &made->root_key, &made->root_key_there);
    if (status == CLI_DONE && plan->has_root && !made->root_key_there)
        status = key_make(cli, root_access, &plan->root_wish, &made->root_key);
    if (status == CLI_DONE && !made->key_there)
        status = key_make(cli, access, &plan->wish, &made->key);
    return status;
}

static int perform(struct cli *cli, const struct plan *plan, struct made *made)
{
    ACCESS access = {0};
    ACCESS other = {0};
    bool elsewhere = plan->has_root && plan->root_token != plan->token;
    const struct access *root_access = elsewhere ? &other : &access;
    int status = access_open(cli, plan->token, true, &access);
    if (status == CLI_DONE && elsewhere)
        status = access_open(cli, plan->root_token, true, &other);
    if (status == CLI_DONE)
        status = make_keys(cli, plan, &access, root_access, made);
    if (status == CLI_DONE)
        status = make_certs(cli, plan, &access, root_access, made);
    if (status == CLI_DONE && plan->has_root)
        status = write_cert(plan->root_file, &made->root);
    if (status == CLI_DONE)
        status = write_cert(plan->certificate, &made->cert);
    if (status == CLI_DONE && plan->offline_root)
        status = destroy_root(cli, plan, root_access, &made->root_key);
    return status;
}

/* --- the report --- */

static json_t *made_json(const struct ca_cert *cert, const char *file, const char *token,
                         const struct p11_key *key, bool key_made)
{
    json_t *object = ca_cert_json(&cert->view, file);
    json_put_str(object, "token", token);
    json_put_str(object, "key_label", key->label);
    json_put_bool(object, "key_made", key_made);
    return object;
}

static void report_json(const struct plan *plan, const struct made *made)
{
    json_t *object = json_object();
    json_put_str(object, "ca", plan->ca->name);
    json_put(
        object, "certificate",
        made_json(&made->cert, plan->certificate, plan->token->name, &made->key, !made->key_there));
    json_put(object, "root",
             plan->has_root ? made_json(&made->root, plan->root_file, plan->root_token->name,
                                        &made->root_key, !made->root_key_there)
                            : json_null());
    json_put_bool(object, "root_key_destroyed", plan->offline_root);
    out_json(object);
}

static void report_text(const struct plan *plan, const struct made *made)
{
    if (plan->has_root) {
        ca_cert_print("root", &made->root.view, plan->root_file);
        printf("  token        %s, key %s (%s)\n", plan->root_token->name, made->root_key.label,
               plan->offline_root      ? "destroyed now"
               : !made->root_key_there ? "new"
                                       : "as it was");
    }
    ca_cert_print(plan->has_root ? "issuing CA" : "issuing CA, self-signed", &made->cert.view,
                  plan->certificate);
    printf("  token        %s, key %s (%s)\n", plan->token->name, made->key.label,
           made->key_there ? "as it was" : "new");
}

static int run_init(struct cli *cli)
{
    static struct made made; /* certificates and keys: too large for a stack */
    struct plan plan = {0};
    int status = plan_make(cli, &plan);
    if (status == CLI_DONE)
        status = perform(cli, &plan, &made);
    if (status == CLI_DONE && cli->json)
        report_json(&plan, &made);
    else if (status == CLI_DONE)
        report_text(&plan, &made);
    plan_clear(&plan);
    return status;
}

static const struct cli_option OPTIONS[] = {
    {"ca", "NAME", "Which CA of the configuration.", true, false},
    {"subject", "DN", "Subject of the issuing CA, \"CN=Issuing CA,O=Example,C=DE\".", true, false},
    {"root-subject", "DN",
     "Subject of the root. Without it the issuing CA signs itself and there is no root.", false,
     false},
    {"key-type", "TYPE",
     "Of both keys: p256 (default), p384, rsa3072, rsa4096 or ed25519. A key that is in the token "
     "already must be of this type.",
     false, false},
    {"years", "N", "How long the issuing CA is valid; default 10, at most as the root.", false,
     false},
    {"root-years", "N", "How long the root is valid; default 20.", false, false},
    {"root-token", "NAME",
     "Makes the root key in another token of the configuration, which can be taken away and locked "
     "up afterwards.",
     false, false},
    {"offline-root", NULL,
     "Destroys the root key when everything is written. The root then never signs again: no second "
     "issuing CA, no revocation of this one. To keep it, use --root-token, or sign with a root of "
     "your own through `certmill ca csr`.",
     false, false},
    {"force", NULL,
     "Writes over certificates that are there (they stay as FILE.old). Keys in the token are used "
     "again, never replaced.",
     false, false},
    {NULL}};

const struct cli_command CA_INIT = {
    .name = "init",
    .summary = "make a root and an issuing CA, keys in the token",
    .text =
        "Makes the issuing CA's key in its token under the label that the configuration's key URI "
        "names, and the root's key under that label with -root behind it; self-signs the root, "
        "signs the issuing CA's certificate with the root, validates the path and writes the "
        "certificates where the configuration names them: the issuing CA's into certificate, the "
        "root's into the first file of chain.\n\n"
        "The private keys are made sensitive and not extractable in the token and never leave it. "
        "A key that is there already (from `certmill key generate`, or from a run that was "
        "interrupted) is used. Certificate files that are there are not written "
        "over. A running certmilld takes new ones on SIGHUP.",
    .examples =
        " certmill -c certmill.yaml ca init --ca issuing \\\n"
        "     --subject \"CN=Issuing CA,O=Example\" --root-subject \"CN=Root CA,O=Example\"\n"
        " openssl verify -CAfile ca/root.pem ca/issuing.pem",
    .options = OPTIONS,
    .run = run_init,
};
