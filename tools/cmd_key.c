/* certmill key: list, generate, label, attest. */
#include "asn1/x509.h"
#include "crypto/digest.h"
#include "tools/access.h"
#include "tools/commands.h"

enum { KEYS_LISTED_MAX = 1024 };

/* The three options that choose a key. */
#define CA_OPTION                                                                                  \
    {                                                                                              \
        "ca", "NAME", "The key that this CA of the configuration names, in its first token.",      \
            false, false                                                                           \
    }
#define LABEL_OPTION                                                                               \
    {                                                                                              \
        "label", "LABEL", "The key with this label.", false, false                                 \
    }
#define TOKEN_OPTION                                                                               \
    {                                                                                              \
        "token", "NAME", "The token of the configuration; needed when there are several.", false,  \
            false                                                                                  \
    }

/* --ca or --label into a key and the token it is in. */
static int chosen(struct cli *cli, struct key_wish *out_wish, const struct config_token **out_token)
{
    const char *ca_name = cli_get(cli, "ca"), *label = cli_get(cli, "label");
    const char *token_name = cli_get(cli, "token");
    if (!ca_name == !label)
        return cli_usage(cli, "give one of --ca NAME and --label LABEL");
    const struct config_ca *ca = ca_name ? cli_config_ca(cli, ca_name) : NULL;
    if (ca_name && !ca)
        return CLI_FAILED;
    *out_token = ca && !token_name ? cli_token_of_ca(cli, ca) : cli_config_token(cli, token_name);
    if (!*out_token)
        return CLI_FAILED;
    return ca ? key_wish_of_ca(cli->config, ca, out_wish) : key_wish_of_label(label, out_wish);
}

/* --- list --- */

static const char *yes(bool value)
{
    return value ? "yes" : "no";
}

static int list_keys(struct cli *cli, const struct config_token *token, struct table *table,
                     json_t *array)
{
    static struct p11_key keys[KEYS_LISTED_MAX];
    uint32_t count = 0;
    struct p11_error error = {0};
    char clean[2 * P11_LABEL_MAX];
    ACCESS access = {0};
    int status = access_open(cli, token, false, &access);
    if (status != CLI_DONE)
        return status;
    enum err err = p11_key_list(access.session, keys, KEYS_LISTED_MAX, &count, &error);
    if (err != ERR_OK)
        return access_fail(cli, token, err, &error);
    for (uint32_t i = 0; i < count; i++) {
        const struct p11_key *key = &keys[i];
        char id[OUT_HEX_MAX];
        const char *refused = p11_key_check(key, false, &error) == ERR_OK ? "yes" : error.text;
        json_array_append_new(array, key_json(&access, key));
        table_row(table, token->name, out_clean(bytes_of_str(key->label), clean, sizeof(clean)),
                  key_kind(key), yes(key->sensitive), yes(key->extractable), yes(key->local),
                  out_hex(bytes_of(key->id, key->id_len), id), refused);
    }
    return CLI_DONE;
}

static int run_list(struct cli *cli)
{
    const char *wanted = cli_get(cli, "token"), *ca_name = cli_get(cli, "ca");
    const struct config_ca *ca = ca_name ? cli_config_ca(cli, ca_name) : NULL;
    const struct config *config = cli_config(cli);
    if (!config || (ca_name && !ca) || (wanted && !cli_config_token(cli, wanted)))
        return CLI_FAILED;
    const struct config_token *only = ca ? cli_token_of_ca(cli, ca) : NULL;
    struct table table;
    json_t *object = json_object(), *array = json_array();
    json_put(object, "keys", array);
    table_start(&table, "TOKEN", "LABEL", "TYPE", "SENSITIVE", "EXTRACTABLE", "LOCAL", "ID",
                "USABLE", NULL);
    int status = CLI_DONE;
    for (uint32_t i = 0; i < config->tokens_count && status == CLI_DONE; i++) {
        const struct config_token *token = &config->tokens[i];
        if ((!wanted || strcmp(wanted, token->name) == 0) && (!only || only == token))
            status = list_keys(cli, token, &table, array);
    }
    if (status == CLI_DONE && cli->json)
        out_json(json_incref(object));
    else if (status == CLI_DONE)
        table_print(&table, stdout);
    table_free(&table);
    json_decref(object);
    return status;
}

static const struct cli_option LIST_OPTIONS[] = {
    {"ca", "NAME", "Only the token of this CA.", false, false},
    {"token", "NAME", "Only this token of the configuration.", false, false},
    {NULL}};

/* --- generate --- */

static int report_key(struct cli *cli, const struct access *access, const struct p11_key *key,
                      const char *what)
{
    char uri[1024];
    enum err err = p11_key_uri(access->session, key, uri, sizeof(uri));
    if (cli->json) {
        out_json(key_json(access, key));
        return CLI_DONE;
    }
    printf("token %s: key %s %s (%s)\n", access->token->name, key->label, what, key_kind(key));
    if (err == ERR_OK)
        printf("  uri  %s\n", uri);
    return CLI_DONE;
}

static int run_generate(struct cli *cli)
{
    struct key_wish wish;
    struct p11_key key;
    const struct config_token *token = NULL;
    ACCESS access = {0};
    int status = chosen(cli, &wish, &token);
    if (status == CLI_DONE)
        status = key_wish_type(cli, "type", &wish);
    if (status == CLI_DONE)
        status = access_open(cli, token, true, &access);
    if (status == CLI_DONE)
        status = key_make(cli, &access, &wish, &key);
    return status == CLI_DONE ? report_key(cli, &access, &key, "made") : status;
}

static const struct cli_option GENERATE_OPTIONS[] = {
    CA_OPTION,
    LABEL_OPTION,
    TOKEN_OPTION,
    {"type", "TYPE", "p256, p384, rsa3072, rsa4096 or ed25519.", true, false},
    {NULL}};

/* --- label --- */

static int run_label(struct cli *cli)
{
    struct key_wish wish, taken;
    struct p11_key key, other;
    struct p11_error error = {0};
    const struct config_token *token = NULL;
    ACCESS access = {0};
    int status = chosen(cli, &wish, &token);
    if (status == CLI_DONE)
        status = key_wish_of_label(cli->args[0], &taken);
    if (status == CLI_DONE)
        status = access_open(cli, token, true, &access);
    if (status != CLI_DONE)
        return status;
    enum err err = p11_key_find(access.session, wish.uri, &key, &error);
    if (err != ERR_OK)
        return access_fail(cli, token, err, &error);
    if (p11_key_find(access.session, taken.uri, &other, &error) != ERR_KEY_NOT_FOUND)
        return cli_fail("token %s: a key labelled %s is there already: choose another label",
                        token->name, cli->args[0]);
    err = p11_key_set_label(access.session, &key, cli->args[0], &error);
    if (err != ERR_OK)
        return access_fail(cli, token, err, &error);
    const char *was = cell("was %s", key.label);
    snprintf(key.label, sizeof(key.label), "%s", taken.label);
    return report_key(cli, &access, &key, was);
}

static const struct cli_option LABEL_OPTIONS[] = {CA_OPTION, LABEL_OPTION, TOKEN_OPTION, {NULL}};

/* --- attest --- */

struct claim {
    const char *name, *meaning;
    bool holds;
};

static uint32_t claims_of(const struct p11_key *key, struct claim out[8])
{
    struct claim claims[] = {
        {"CKA_SENSITIVE", "its value cannot be read", key->sensitive},
        {"CKA_ALWAYS_SENSITIVE", "and never could be", key->always_sensitive},
        {"not CKA_EXTRACTABLE", "it cannot be wrapped and taken out", !key->extractable},
        {"CKA_NEVER_EXTRACTABLE", "and never could be", key->never_extractable},
        {"CKA_LOCAL", "it was made in the token", key->local},
        {"CKA_SIGN", "it signs", key->can_sign},
        {"not CKA_ALWAYS_AUTHENTICATE", "without the PIN each time", !key->always_authenticate},
    };
    uint32_t count = sizeof(claims) / sizeof(claims[0]);
    memcpy(out, claims, sizeof(claims));
    return count;
}

static void print_attestation(const struct access *access, const struct p11_key *key,
                              const struct claim claims[], uint32_t count)
{
    const struct p11_token_info *info = p11_session_token(access->session);
    char text[1024], hex[OUT_HEX_MAX];
    uint8_t hash[SHA256_LEN];
    sha256_once(bytes_of(key->spki_der, key->spki_len), hash);
    printf("key %s (%s) in token %s\n", key->label, key_kind(key), access->token->name);
    out_clean(bytes_of_str(info->model), text, sizeof(text));
    printf("  token   %s, firmware %u.%u", text, info->firmware_major, info->firmware_minor);
    printf(", serial %s\n", out_clean(bytes_of_str(info->serial), text, sizeof(text)));
    if (p11_key_uri(access->session, key, text, sizeof(text)) == ERR_OK)
        printf("  uri     %s\n", text);
    if (key->spki_len > 0)
        printf("  public  SHA-256 %s\n", out_hex(BYTES_ARRAY(hash), hex));
    for (uint32_t i = 0; i < count; i++)
        printf("  %-4s    %s: %s\n", yes(claims[i].holds), claims[i].name, claims[i].meaning);
}

static json_t *attestation_json(const struct access *access, const struct p11_key *key, bool proven)
{
    const struct p11_token_info *info = p11_session_token(access->session);
    json_t *object = key_json(access, key);
    uint8_t hash[SHA256_LEN];
    char pem[2 * SPKI_DER_MAX];
    struct writer out = writer_of(pem, sizeof(pem) - 1);
    sha256_once(bytes_of(key->spki_der, key->spki_len), hash);
    pem_put(&out, "PUBLIC KEY", bytes_of(key->spki_der, key->spki_len));
    pem[out.len] = 0;
    json_put_bool(object, "proven", proven);
    json_put_str(object, "token_model", info->model);
    json_put_str(object, "token_serial", info->serial);
    json_put_str(object, "token_firmware",
                 cell("%u.%u", info->firmware_major, info->firmware_minor));
    json_put(object, "spki_sha256", key->spki_len ? json_of_hex(BYTES_ARRAY(hash)) : json_null());
    json_put_str(object, "public_key", key->spki_len ? pem : NULL);
    return object;
}

static int run_attest(struct cli *cli)
{
    struct key_wish wish;
    struct p11_key key;
    struct p11_error error = {0};
    struct claim claims[8];
    const struct config_token *token = NULL;
    ACCESS access = {0};
    int status = chosen(cli, &wish, &token);
    if (status == CLI_DONE)
        status = access_open(cli, token, false, &access);
    if (status != CLI_DONE)
        return status;
    enum err err = p11_key_find(access.session, wish.uri, &key, &error);
    if (err != ERR_OK)
        return access_fail(cli, token, err, &error);
    uint32_t count = claims_of(&key, claims);
    bool proven = true;
    for (uint32_t i = 0; i < count; i++)
        proven = proven && claims[i].holds;
    if (cli->json)
        out_json(attestation_json(&access, &key, proven));
    else
        print_attestation(&access, &key, claims, count);
    return proven ? CLI_DONE
                  : cli_fail("token %s: key %s is not proven to live in the token alone: make "
                             "another with `certmill key generate`",
                             token->name, key.label);
}

/* --- table --- */

static const struct cli_command COMMAND_LIST = {
    .name = "list",
    .summary = "list the private keys in the tokens",
    .text = "Every private key with the attributes that matter. USABLE says yes, or why certmill "
            "would refuse to issue with it.",
    .examples = " certmill -c certmill.yaml key list",
    .options = LIST_OPTIONS,
    .run = run_list,
};

static const struct cli_command COMMAND_GENERATE = {
    .name = "generate",
    .summary = "make a key pair in a token",
    .text = "The private key is made sensitive, not extractable, and for signing alone. A label "
            "that is there already is refused. `certmill ca init` and `certmill ca csr` make their "
            "keys themselves; this is for ceremonies that do it step by step.",
    .examples = " certmill -c certmill.yaml key generate --ca issuing --type p384",
    .options = GENERATE_OPTIONS,
    .run = run_generate,
};

static const struct cli_command COMMAND_LABEL = {
    .name = "label",
    .arguments = "NEW-LABEL",
    .args_min = 1,
    .args_max = 1,
    .summary = "give a key another label",
    .text = "Renames the private key and its public key object. A configuration that names the key "
            "by its old label has to be changed with it.",
    .examples = " certmill -c certmill.yaml key label --label issuing issuing-2026",
    .options = LABEL_OPTIONS,
    .run = run_label,
};

static const struct cli_command COMMAND_ATTEST = {
    .name = "attest",
    .summary = "show that a key was made in its token and never left it",
    .text = "Prints the attributes in which the token states that the key is sensitive and always "
            "was, cannot be extracted and never could be, and was made inside. This is the token's "
            "word through its module; a statement that its maker signed needs the maker's tool.",
    .examples = " certmill -c certmill.yaml --json key attest --ca issuing > issuing-key.json",
    .status = "Also when one of the attributes is not as it should be.",
    .options = LABEL_OPTIONS,
    .run = run_attest,
};

const struct cli_command *const KEY_COMMANDS[] = {&COMMAND_LIST, &COMMAND_GENERATE, &COMMAND_LABEL,
                                                  &COMMAND_ATTEST, NULL};
