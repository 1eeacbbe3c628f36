#include "tools/access.h"

#include <stdlib.h>

#include "tools/files.h"

/* --- modules --- */

static struct {
    char *path;
    struct p11_module *module;
} modules[TOKENS_MAX];
static uint32_t module_count;

struct p11_module *access_module(const char *path)
{
    for (uint32_t i = 0; i < module_count; i++)
        if (strcmp(modules[i].path, path) == 0)
            return modules[i].module;
    struct p11_module *module = NULL;
    struct p11_error error = {0};
    if (module_count == TOKENS_MAX) {
        cli_fail("more than %d PKCS#11 modules: use fewer", TOKENS_MAX);
        return NULL;
    }
    if (p11_module_open(path, &module, &error) != ERR_OK) {
        cli_fail("module %.256s: %s: check its path and what its vendor says about its "
                 "configuration",
                 path, error.text);
        return NULL;
    }
    modules[module_count].path = strdup(path);
    modules[module_count++].module = module;
    return module;
}

void access_end(void)
{
    while (module_count > 0) {
        p11_module_close(modules[--module_count].module);
        free(modules[module_count].path);
    }
}

/* --- login --- */

/* Tokens that refused a PIN: a second try could lock them. */
static struct {
    const struct config_token *token;
    unsigned long slot;
} refused[TOKENS_MAX];
static uint32_t refused_count;

static bool was_refused(const struct config_token *token, unsigned long slot)
{
    for (uint32_t i = 0; i < refused_count; i++)
        if (refused[i].slot == slot && strcmp(refused[i].token->module, token->module) == 0)
            return true;
    return false;
}

enum err access_login(struct cli *cli, const struct config_token *token,
                      struct p11_session *session, struct p11_error *error)
{
    unsigned long slot = p11_session_token(session)->slot;
    SECRET pin = {0};
    if (was_refused(token, slot)) {
        snprintf(error->text, sizeof(error->text), "its PIN was refused a moment ago");
        return ERR_PIN_WRONG;
    }
    if (secret_pin(cli->config, token, &pin) != CLI_DONE) {
        snprintf(error->text, sizeof(error->text), "its PIN cannot be read");
        return ERR_IO;
    }
    enum err err = p11_login(session, bytes_of(pin.data, pin.len), error);
    if (err == ERR_PIN_WRONG && refused_count < TOKENS_MAX) {
        refused[refused_count].slot = slot;
        refused[refused_count++].token = token;
    }
    return err;
}

static const char *advice(enum err err)
{
    switch (err) {
    case ERR_PIN_WRONG:
        return "the PIN was tried at most once and is not tried again; put the right one into";
    case ERR_SIGNER_UNAVAILABLE:
        return "see what there is with `certmill token list`, make it with `certmill token init`";
    case ERR_KEY_NOT_FOUND:
        return "see what there is with `certmill key list`, make it with `certmill key generate`";
    case ERR_CONFIG:
        return "correct the configuration or the token";
    case ERR_UNSUPPORTED:
        return "choose another key type or token";
    default:
        return "look into the token's own log";
    }
}

int access_fail(struct cli *cli, const struct config_token *token, enum err err,
                const struct p11_error *error)
{
    char place[512] = "";
    if (err == ERR_PIN_WRONG)
        secret_pin_place(cli->config, token, place, sizeof(place));
    return cli_fail("token %s: %s: %s%s%s", token->name, error->text, advice(err),
                    place[0] ? " " : "", place);
}

int access_open(struct cli *cli, const struct config_token *token, bool read_write,
                struct access *out)
{
    struct p11_module *module = access_module(token->module);
    struct p11_error error = {0};
    *out = (struct access){.token = token};
    if (!module)
        return CLI_FAILED;
    enum err err = p11_session_open(module, token->uri, read_write, &out->session, &error);
    if (err == ERR_OK)
        err = access_login(cli, token, out->session, &error);
    if (err == ERR_OK)
        return CLI_DONE;
    access_close(out);
    return err == ERR_IO ? CLI_FAILED : access_fail(cli, token, err, &error);
}

void access_close(struct access *access)
{
    p11_session_close(access->session);
    access->session = NULL;
}
