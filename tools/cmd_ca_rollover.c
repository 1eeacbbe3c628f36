/* certmill ca rollover: a new key for a CA that issues. */
#include <stdlib.h>

#include "crypto/verify.h"
#include "tools/commands.h"
#include "tools/rollover.h"

enum { YEARS = 10, YEARS_MAX = 100 };

/* Everything that is decided before anything is made. */
struct plan {
    struct rollover r;
    struct subject subject; /* of --subject */
    struct bytes name;      /* of the new certificate */
    struct key_wish wish;
    bool key_there;
    uint64_t years;
    bool self_signed;
    /* who signs when it is not self-signed and not outside */
    struct x509_cert issuer;
    const struct config_token *root_token;
    struct access other; /* when the root's key is in another token */
    struct p11_key root_key;
    char how[256];
};

static void plan_clear(struct plan *plan)
{
    rollover_clear(&plan->r);
    access_close(&plan->other);
}

/* --- the key --- */

/* "issuing-3" of "issuing-2", and of "issuing" "issuing-2". */
static void next_label(const char *label, char *out, size_t cap)
{
    size_t digits = strlen(label);
    unsigned long number = 1;
    while (digits > 0 && label[digits - 1] >= '0' && label[digits - 1] <= '9')
        digits--;
    size_t stem = strlen(label);
    if (digits < stem && stem - digits <= 6 && digits > 1 && label[digits - 1] == '-') {
        number = strtoul(label + digits, NULL, 10);
        stem = digits - 1;
    }
    snprintf(out, cap, "%.*s-%lu", (int)stem, label, number + 1);
}

static int wish_key(struct cli *cli, struct plan *plan)
{
    const struct config_ca *ca = plan->r.ca;
    const char *given = cli_get(cli, "key");
    struct key_wish old;
    int status = key_wish_of_ca(cli->config, ca, &old);
    if (status != CLI_DONE)
        return status;
    if (given && strncmp(given, "pkcs11:", 7) == 0) {
        const struct config_ca probe = {
            .name = ca->name, .key = (char *)(uintptr_t)given, .test = ca->test};
        status = key_wish_of_ca(cli->config, &probe, &plan->wish);
    } else {
        char label[2 * P11_LABEL_MAX];
        next_label(old.label, label, sizeof(label));
        status = key_wish_of_label(given ? given : label, &plan->wish);
    }
    plan->wish.allow_weak = ca->test;
    plan->wish.alg = plan->r.old_key.alg; /* as it was, unless --key-type says otherwise */
    plan->wish.bits = plan->r.old_key.bits;
    if (status == CLI_DONE)
        status = key_wish_type(cli, "key-type", &plan->wish);
    memcpy(plan->r.new_uri, plan->wish.uri, sizeof(plan->r.new_uri));
    return status;
}

/* A key that this CA has signed with is not a new one. */
static int refuse_used_key(struct cli *cli, const struct plan *plan)
{
    const struct config_ca *ca = plan->r.ca;
    struct bytes spki = bytes_of(plan->r.new_key.spki_der, plan->r.new_key.spki_len);
    static struct cert_list list;
    list.count = 0;
    bool used = bytes_eq(spki, plan->r.old_cert.spki.der);
    for (uint32_t i = 0; i < ca->previous_count; i++) {
        struct x509_cert cert;
        char *path = config_path(cli->config, ca->previous[i]);
        int status = certs_read(path, &list);
        free(path);
        if (status != CLI_DONE)
            return status;
        used |=
            x509_decode(list.der[list.count - 1], &cert) == ERR_OK && bytes_eq(spki, cert.spki.der);
    }
    if (used)
        return cli_fail(
            "token %s: key %s is one that ca %s signs or signed with: name another with "
            "--key",
            plan->r.token->name, plan->r.new_key.label, ca->name);
    return CLI_DONE;
}

static int look_for_key(struct cli *cli, struct plan *plan)
{
    int status = wish_key(cli, plan);
    if (status == CLI_DONE)
        status = key_look(cli, &plan->r.access, &plan->wish, &plan->r.new_key, &plan->key_there);
    if (status == CLI_DONE && plan->key_there)
        status = refuse_used_key(cli, plan);
    return status;
}

/* --- who signs --- */

static bool is_signed_by(const struct x509_cert *cert, const struct x509_cert *issuer)
{
    struct verify_job job = {.alg = cert->sig_alg,
                             .spki = &issuer->spki,
                             .message = cert->tbs,
                             .signature = cert->signature};
    return bytes_eq(cert->issuer, issuer->subject) && verify_one(&job) == ERR_OK;
}

static bool find_issuer(struct plan *plan)
{
    for (uint32_t i = 1; i < plan->r.old.count; i++) {
        if (x509_decode(plan->r.old.der[i], &plan->issuer) == ERR_OK &&
            is_signed_by(&plan->r.old_cert, &plan->issuer))
            return true;
    }
    return false;
}

static const struct access *root_access(const struct plan *plan)
{
    return plan->other.session ? &plan->other : &plan->r.access;
}

/* The CA above, whose key is known by its certificate whatever its label. */
static int find_root_key(struct cli *cli, struct plan *plan)
{
    const char *token = cli_get(cli, "root-token");
    bool there = false;
    plan->root_token = token ? cli_config_token(cli, token) : plan->r.token;
    if (!plan->root_token)
        return CLI_FAILED;
    if (!find_issuer(plan))
        return cli_fail(
            "ca %s: the certificate that signed its own is not in chain: add it, or have "
            "a request signed: --csr FILE",
            plan->r.ca->name);
    int status = plan->root_token == plan->r.token
                     ? CLI_DONE
                     : access_open(cli, plan->root_token, true, &plan->other);
    if (status == CLI_DONE)
        status = key_find_spki(cli, root_access(plan), plan->issuer.spki.der, plan->r.ca->test,
                               &plan->root_key, &there);
    if (status == CLI_DONE && !there)
        status = cli_fail("ca %s: the key of its root is not in token %s: say where with "
                          "--root-token, or have the root sign a request: --csr FILE, then "
                          "`certmill ca import --rollover`",
                          plan->r.ca->name, plan->root_token->name);
    snprintf(plan->how, sizeof(plan->how), "key %.100s of token %.100s", plan->root_key.label,
             plan->root_token->name);
    return status;
}

static int find_signer(struct cli *cli, struct plan *plan)
{
    plan->self_signed = is_signed_by(&plan->r.old_cert, &plan->r.old_cert);
    if (cli_has(cli, "csr")) {
        snprintf(plan->how, sizeof(plan->how), "the root that gets the request");
        return CLI_DONE;
    }
    if (plan->self_signed) {
        snprintf(plan->how, sizeof(plan->how), "itself");
        return CLI_DONE;
    }
    return find_root_key(cli, plan);
}

/* --- planning --- */

static int plan_make(struct cli *cli, struct plan *plan)
{
    plan->years = YEARS;
    int status = cli_get_number(cli, "years", 1, YEARS_MAX, &plan->years);
    if (status == CLI_DONE && cli_has(cli, "subject"))
        status = subject_read(cli, "subject", &plan->subject);
    if (status == CLI_DONE && cli_has(cli, "csr") && cli_has(cli, "years"))
        status = cli_usage(cli, "--years does not go with --csr: the root decides");
    if (status == CLI_DONE)
        status = rollover_open(cli, cli_get(cli, "ca"), &plan->r);
    plan->name = plan->subject.len ? bytes_of(plan->subject.der, plan->subject.len)
                                   : plan->r.old_cert.subject;
    if (status == CLI_DONE)
        status = look_for_key(cli, plan);
    if (status == CLI_DONE)
        status = find_signer(cli, plan);
    return status == CLI_DONE ? rollover_plan(cli, &plan->r, plan->name) : status;
}

/* --- making --- */

static int make_cert(struct cli *cli, struct plan *plan)
{
    const struct x509_cert *old = &plan->r.old_cert;
    struct ca_cert_wish wish = {
        .subject = plan->name,
        .key = &plan->r.new_key,
        .issuer = plan->self_signed ? NULL : &plan->issuer,
        .signer = plan->self_signed ? &plan->r.access : root_access(plan),
        .signer_key = plan->self_signed ? &plan->r.new_key : &plan->root_key,
        .years = plan->years,
        .path_len = old->path_len == UINT32_MAX ? -1 : (int32_t)old->path_len,
    };
    int status = ca_cert_make(cli, &wish, &plan->r.cert);
    if (status != CLI_DONE)
        return status;
    struct bytes chain[CERT_CHAIN_MAX] = {plan->r.cert.view.der};
    for (uint32_t i = 1; i < plan->r.old.count; i++)
        chain[i] = plan->r.old.der[i];
    const char *problem = ca_path_problem(chain, plan->r.old.count);
    return problem ? cli_fail("ca %s: the new certificate: %s: look at its chain with `certmill ca "
                              "show`",
                              plan->r.ca->name, problem)
                   : CLI_DONE;
}

static int make_request(struct cli *cli, struct plan *plan)
{
    uint8_t der[CERT_DER_MAX];
    size_t len = 0;
    int status = ca_csr_make(cli, &plan->r.access, &plan->r.new_key, plan->name, der, &len);
    if (status == CLI_DONE)
        status = ca_csr_give(cli, "csr", &plan->r.access, &plan->r.new_key, !plan->key_there,
                             bytes_of(der, len));
    if (status == CLI_DONE && !cli->json)
        printf("the CA signs with its old key until you bring the certificate home:\n"
               "  certmill ca import --rollover --ca %s --certificate FILE [--chain ROOT]\n",
               plan->r.ca->name);
    return status;
}

static int perform(struct cli *cli, struct plan *plan)
{
    if (cli_has(cli, "dry-run")) {
        rollover_preview(cli, &plan->r, plan->key_there, plan->wish.label, plan->how);
        return CLI_DONE;
    }
    int status =
        plan->key_there ? CLI_DONE : key_make(cli, &plan->r.access, &plan->wish, &plan->r.new_key);
    if (status == CLI_DONE && cli_has(cli, "csr"))
        return make_request(cli, plan);
    if (status == CLI_DONE)
        status = make_cert(cli, plan);
    return status == CLI_DONE ? rollover_finish(cli, &plan->r, !plan->key_there, plan->how)
                              : status;
}

static int run_rollover(struct cli *cli)
{
    static struct plan plan; /* certificates and keys: too large for a stack */
    int status = plan_make(cli, &plan);
    if (status == CLI_DONE)
        status = perform(cli, &plan);
    plan_clear(&plan);
    return status;
}

static const struct cli_option OPTIONS[] = {
    {"ca", "NAME", "Which CA of the configuration.", true, false},
    {"key", "LABEL",
     "Label of the new key, or its URI (pkcs11:object=...). A key that is there is taken. Default: "
     "the old label with the next number, issuing-2 after issuing.",
     false, false},
    {"key-type", "TYPE", "p256, p384, rsa3072, rsa4096 or ed25519; default: as the old key.", false,
     false},
    {"subject", "DN", "Another name for the CA. There are no link certificates then.", false,
     false},
    {"years", "N", "How long the new certificate is valid; default 10, at most as the root.", false,
     false},
    {"root-token", "NAME", "Where the root's key is; default: the CA's own token.", false, false},
    {"csr", "FILE",
     "Makes the key and a request for an outside root, and changes nothing else. `certmill ca "
     "import --rollover` goes on from there.",
     false, false},
    {"no-reload", NULL, "Switches the files, and leaves it to you to tell certmilld by SIGHUP.",
     false, false},
    {"dry-run", NULL, "Looks at everything, says what would be done, and does nothing.", false,
     false},
    {NULL}};

const struct cli_command CA_ROLLOVER = {
    .name = "rollover",
    .summary = "give a CA a new key, while it issues",
    .text =
        "Makes a new key in the CA's token, sensitive and not extractable, and a certificate for "
        "it "
        "under the old name: self-signed when the old one was, else signed by the root's key, "
        "which "
        "is known by its certificate in chain. Makes the two link certificates of RFC 9810 4.4, "
        "old "
        "with new and new with old. Writes all into new files beside the old ones, changes key, "
        "certificate, previous, old_with_new and new_with_old of this CA in the configuration (the "
        "rest stays as it is, the old file is FILE.old), and has certmilld read it.\n\n"
        "A running certmilld goes over without a failed request: what is in flight is signed with "
        "the old key, what comes after with the new one. cacerts publishes the old, the new and "
        "the "
        "link certificates, and devices renew with certificates from the old key as before. Should "
        "certmilld refuse, the configuration is put back. An interrupted run is just run again.\n\n"
        "Listeners in cmp_announce of the configuration are then told of the new key by CMP; "
        "whether they took it changes nothing else, and `certmill ca announce` tells them again."
        "\n\n"
        "The old key stays in the token. When no certificate from it is valid any more, take the "
        "entry out of previous and destroy the key with the vendor's tool.",
    .examples = " certmill -c certmill.yaml ca rollover --ca issuing --dry-run\n"
                " certmill -c certmill.yaml ca rollover --ca issuing\n"
                " certmill -c certmill.yaml ca rollover --ca issuing --csr new.csr",
    .options = OPTIONS,
    .run = run_rollover,
};
