/* vault.h: the token's folder: one file for the token itself, one for each object.
 *
 * Promise: every file is whole or not there (written beside, synced, renamed, folder synced).
 *          Private objects are AES-256-GCM under a key of the token, which the SO PIN and the user
 *          PIN each open; without a PIN nothing private can be read. The object's number is part of
 *          what is authenticated, so files cannot change places.
 * Threads: one at a time in a process (the token's lock); vault_lock keeps other processes out.
 * Errors:  ERR_IO (errno is set), ERR_PIN_WRONG, ERR_BAD_REQUEST for a file that makes no sense.
 * Limits:  OBJECT_FILE_MAX, PIN_MIN..PIN_MAX.
 */
#ifndef CERTMILL_SIM_VAULT_H
#define CERTMILL_SIM_VAULT_H

#include <limits.h>

#include "crypto/keywrap.h"
#include "hsm/sim/object.h"

enum { VAULT_PIN_MIN = 4, VAULT_PIN_MAX = 255, VAULT_LABEL_LEN = 32, VAULT_SALT_LEN = 16 };

enum vault_user { VAULT_SO, VAULT_USER, VAULT_USERS };

struct vault {
    char directory[PATH_MAX];
    int lock_fd;
};

/* What the token's file says. */
struct vault_token {
    bool is_initialized;
    uint8_t label[VAULT_LABEL_LEN];
    bool has_pin[VAULT_USERS];
    struct {
        uint8_t salt[VAULT_SALT_LEN];
        uint32_t iterations;
        uint8_t sealed[KEYWRAP_KEY_LEN + KEYWRAP_OVERHEAD];
    } slot[VAULT_USERS];
};

/* Makes the folder if it is not there. */
enum err vault_open(const char *directory, struct vault *out) MUST_USE;
void vault_close(struct vault *vault);
bool vault_lock(struct vault *vault);
void vault_unlock(struct vault *vault);

/* No file: not initialized, ERR_OK. */
enum err vault_read_token(const struct vault *vault, struct vault_token *out) MUST_USE;
/* Removes all objects; a new key, and the SO PIN that opens it. */
enum err vault_initialize(const struct vault *vault, const uint8_t label[VAULT_LABEL_LEN],
                          struct bytes so_pin) MUST_USE;
enum err vault_try_pin(const struct vault_token *token, enum vault_user user, struct bytes pin,
                       uint8_t out_key[KEYWRAP_KEY_LEN]) MUST_USE;
enum err vault_set_pin(const struct vault *vault, struct vault_token *token, enum vault_user user,
                       struct bytes pin, const uint8_t key[KEYWRAP_KEY_LEN]) MUST_USE;

/* key: for private objects. */
enum err vault_store(const struct vault *vault, const struct object *object,
                     const uint8_t key[KEYWRAP_KEY_LEN]) MUST_USE;
/* key NULL: private objects are ERR_PIN_WRONG. The object must be new. */
enum err vault_load(const struct vault *vault, uint64_t number, const uint8_t *key,
                    struct object *out) MUST_USE;
enum err vault_remove(const struct vault *vault, uint64_t number) MUST_USE;

/* Calls `each` with the number and the mark (which version of the file it is) of every object. */
enum err vault_scan(const struct vault *vault,
                    void (*each)(void *ctx, uint64_t number, uint64_t mark), void *ctx) MUST_USE;

#endif
