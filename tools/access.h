/* access.h: a configured token, opened and logged in, and keys in it.
 *
 * Promise: a PIN that a token refused is not given to it again by this process, whatever asks.
 * Owner:   access_close gives the session back; modules stay loaded until access_end.
 * Errors:  what fails has printed its line.
 */
#ifndef CERTMILL_TOOLS_ACCESS_H
#define CERTMILL_TOOLS_ACCESS_H

#include "hsm/p11/token.h"
#include "tools/cli.h"
#include "tools/output.h"

struct access {
    const struct config_token *token;
    struct p11_session *session;
};

/* Loaded once per path. NULL: the line is printed. */
struct p11_module *access_module(const char *path);
/* Finalizes the modules, so that tokens forget the logins of this process. */
void access_end(void);

/* Opens a session and logs in as user. */
int access_open(struct cli *cli, const struct config_token *token, bool read_write,
                struct access *out) MUST_USE;
/* As p11_login with the configured PIN; ERR_IO: the PIN cannot be read, its line is printed. */
enum err access_login(struct cli *cli, const struct config_token *token,
                      struct p11_session *session, struct p11_error *error) MUST_USE;
void access_close(struct access *access);
#define ACCESS __attribute__((cleanup(access_close))) struct access

/* "token NAME: C_Login: CKR_PIN_INCORRECT (0xa0): the PIN ..."; CLI_FAILED. */
int access_fail(struct cli *cli, const struct config_token *token, enum err err,
                const struct p11_error *error);

/* --- keys --- */

/* What a key is looked for and made by. */
struct key_wish {
    char uri[512];
    char label[P11_LABEL_MAX];
    uint8_t id[P11_ID_MAX];
    uint32_t id_len;
    enum key_alg alg; /* KEY_NONE: any that is there, P-256 when made */
    uint32_t bits;
    bool allow_weak; /* of a test CA: an extractable key that is there is taken */
};

/* From a configured CA's key URI. */
int key_wish_of_ca(const struct config *config, const struct config_ca *ca,
                   struct key_wish *out) MUST_USE;
int key_wish_of_label(const char *label, struct key_wish *out) MUST_USE;
/* --key-type or --type into alg and bits; leaves them when the option is not given. */
int key_wish_type(struct cli *cli, const char *option, struct key_wish *wish) MUST_USE;

/* Finds it and checks that certmill may sign with it. */
int key_find(struct cli *cli, const struct access *access, const struct key_wish *wish,
             struct p11_key *out) MUST_USE;
/* Is it there, and is it as wished? Another type is an error. For ceremonies, which look at all
 * keys before they make one. */
int key_look(struct cli *cli, const struct access *access, const struct key_wish *wish,
             struct p11_key *out, bool *out_there) MUST_USE;
int key_make(struct cli *cli, const struct access *access, const struct key_wish *wish,
             struct p11_key *out) MUST_USE;
/* The key whose public key this is, and that certmill may sign with. *out_there: false when the
 * token has none. */
int key_find_spki(struct cli *cli, const struct access *access, struct bytes spki, bool allow_weak,
                  struct p11_key *out, bool *out_there) MUST_USE;
/* "P-256", "RSA 3072". */
const char *key_kind(const struct p11_key *key);
json_t *key_json(const struct access *access, const struct p11_key *key);

#endif
