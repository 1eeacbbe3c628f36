/* Keys in a token: found by rule, made when wished, never replaced. */
#include "hsm/p11/uri.h"
#include "tools/access.h"

enum { KEYS_SEARCHED_MAX = 1024 };

static const char KEY_TYPES[] = "p256, p384, rsa3072, rsa4096 or ed25519";

/* --- wishes --- */

int key_wish_of_ca(const struct config *config, const struct config_ca *ca, struct key_wish *out)
{
    struct p11_uri uri;
    const char *reason = NULL;
    *out = (struct key_wish){.allow_weak = config_ca_is_test(config, ca)};
    if (!p11_uri_parse(ca->key, &uri, &reason))
        return cli_fail("ca %s: key '%.128s': %s: write it like pkcs11:object=%s", ca->name,
                        ca->key, reason, ca->name);
    if ((size_t)snprintf(out->uri, sizeof(out->uri), "%s", ca->key) >= sizeof(out->uri))
        return cli_fail("ca %s: its key URI is too long: name the key by object= alone", ca->name);
    if (!uri.has_object)
        return cli_fail("ca %s: key '%.128s' has no object=: add the label of the key", ca->name,
                        ca->key);
    memcpy(out->label, uri.object, sizeof(uri.object));
    memcpy(out->id, uri.id, uri.id_len);
    out->id_len = uri.id_len;
    return CLI_DONE;
}

_Static_assert(sizeof(((struct p11_uri *)0)->object) <= P11_LABEL_MAX, "a URI's label fits");
_Static_assert(sizeof(((struct p11_uri *)0)->id) <= P11_ID_MAX, "a URI's id fits");

int key_wish_of_label(const char *label, struct key_wish *out)
{
    struct key_wish wish = {0};
    size_t len = strlen(label);
    if (len == 0 || len >= sizeof(wish.label))
        return cli_fail("label '%.64s': it has 1 to %zu bytes: choose another", label,
                        sizeof(wish.label) - 1);
    memcpy(wish.label, label, len + 1);
    struct writer uri = writer_of(wish.uri, sizeof(wish.uri) - 1);
    writer_put_str(&uri, "pkcs11:object=");
    p11_uri_put_text(&uri, label);
    wish.uri[uri.len] = 0;
    *out = wish;
    return uri.failed ? cli_fail("label '%.64s...': too long: choose another", label) : CLI_DONE;
}

int key_wish_type(struct cli *cli, const char *option, struct key_wish *wish)
{
    const char *word = cli_get(cli, option);
    enum key_alg alg;
    uint32_t bits;
    if (!word)
        return CLI_DONE;
    if (!key_alg_from_name(word, &alg, &bits) || (alg == KEY_RSA && bits < 3072) ||
        alg == KEY_ML_DSA_44 || alg == KEY_ML_DSA_65)
        return cli_usage(cli, "--%s '%.64s': expected %s", option, word, KEY_TYPES);
    wish->alg = alg;
    wish->bits = bits;
    return CLI_DONE;
}

/* --- the token --- */

static enum err find(const struct access *access, const struct key_wish *wish, struct p11_key *out,
                     struct p11_error *error)
{
    enum err err = p11_key_find(access->session, wish->uri, out, error);
    return err != ERR_OK ? err : p11_key_check(out, wish->allow_weak, error);
}

static int check_public(const struct access *access, const struct p11_key *key)
{
    if (key->spki_len > 0)
        return CLI_DONE;
    return cli_fail("token %s: it does not give the public key of %s: keep the public key object "
                    "in the token, with the same CKA_ID",
                    access->token->name, key->label);
}

int key_find(struct cli *cli, const struct access *access, const struct key_wish *wish,
             struct p11_key *out)
{
    struct p11_error error = {0};
    enum err err = find(access, wish, out, &error);
    if (err != ERR_OK)
        return access_fail(cli, access->token, err, &error);
    return check_public(access, out);
}

int key_make(struct cli *cli, const struct access *access, const struct key_wish *wish,
             struct p11_key *out)
{
    struct p11_error error = {0};
    struct p11_key_template template = {
        .alg = wish->alg == KEY_NONE ? KEY_EC_P256 : wish->alg,
        .bits = wish->alg == KEY_NONE ? 256 : wish->bits,
        .label = wish->label,
        .id = bytes_of(wish->id, wish->id_len),
    };
    enum err err = p11_key_generate(access->session, &template, out, &error);
    if (err == ERR_OK)
        err = p11_key_check(out, false, &error);
    if (err != ERR_OK)
        return access_fail(cli, access->token, err, &error);
    return check_public(access, out);
}

int key_look(struct cli *cli, const struct access *access, const struct key_wish *wish,
             struct p11_key *out, bool *out_there)
{
    struct p11_error error = {0};
    enum err err = find(access, wish, out, &error);
    *out_there = err == ERR_OK;
    if (err == ERR_KEY_NOT_FOUND)
        return CLI_DONE;
    if (err != ERR_OK)
        return access_fail(cli, access->token, err, &error);
    if (wish->alg != KEY_NONE &&
        (wish->alg != out->alg || (wish->alg == KEY_RSA && wish->bits != out->bits)))
        return cli_fail("token %s: key %s is there already and is %s: choose that type, or another "
                        "label in the configuration",
                        access->token->name, wish->label, key_kind(out));
    return check_public(access, out);
}

int key_find_spki(struct cli *cli, const struct access *access, struct bytes spki, bool allow_weak,
                  struct p11_key *out, bool *out_there)
{
    static struct p11_key keys[KEYS_SEARCHED_MAX]; /* too large for a stack */
    uint32_t count = 0;
    struct p11_error error = {0};
    enum err err = p11_key_list(access->session, keys, KEYS_SEARCHED_MAX, &count, &error);
    *out_there = false;
    for (uint32_t i = 0; i < count && err == ERR_OK && !*out_there; i++) {
        if (!bytes_eq(bytes_of(keys[i].spki_der, keys[i].spki_len), spki))
            continue;
        err = p11_key_check(&keys[i], allow_weak, &error);
        *out = keys[i];
        *out_there = true;
    }
    return err == ERR_OK ? CLI_DONE : access_fail(cli, access->token, err, &error);
}

const char *key_kind(const struct p11_key *key)
{
    return key->alg == KEY_RSA ? cell("RSA %u", key->bits) : key_alg_name(key->alg);
}

json_t *key_json(const struct access *access, const struct p11_key *key)
{
    json_t *object = json_object();
    char uri[1024];
    json_put_str(object, "token", access->token->name);
    json_put_str(object, "label", key->label);
    json_put(object, "id", json_of_hex(bytes_of(key->id, key->id_len)));
    json_put_str(object, "type", key_kind(key));
    json_put_int(object, "bits", key->bits);
    json_put_bool(object, "sensitive", key->sensitive);
    json_put_bool(object, "always_sensitive", key->always_sensitive);
    json_put_bool(object, "extractable", key->extractable);
    json_put_bool(object, "never_extractable", key->never_extractable);
    json_put_bool(object, "local", key->local);
    json_put_bool(object, "sign", key->can_sign);
    json_put_bool(object, "always_authenticate", key->always_authenticate);
    json_put_str(object, "uri",
                 p11_key_uri(access->session, key, uri, sizeof(uri)) == ERR_OK ? uri : NULL);
    return object;
}
