#include "crypto/password.h"

#include <assert.h>
#include <crypt.h>
#include <stdlib.h>

#include "base/secret.h"

static_assert(PASSWORD_HASH_MAX >= CRYPT_OUTPUT_SIZE, "a hash fits");
static_assert(PASSWORD_MAX < CRYPT_MAX_PASSPHRASE_SIZE, "crypt(3) takes what we take");

/* crypt(3) speaks NUL-terminated strings, so a password with a NUL inside would be cut. */
static bool to_phrase(struct bytes password, char out[PASSWORD_MAX + 1])
{
    if (password.len > PASSWORD_MAX || bytes_find(password, 0) != password.len)
        return false;
    if (password.len > 0)
        memcpy(out, password.ptr, password.len);
    out[password.len] = '\0';
    return true;
}

/* 32 KiB of working state: too much for a stack that others share. */
static enum err hash_with(const char *phrase, const char *setting, char out[PASSWORD_HASH_MAX])
{
    struct crypt_data *state = calloc(1, sizeof *state);
    if (!state)
        return ERR_INTERNAL;
    const char *hash = crypt_rn(phrase, setting, state, sizeof *state);
    enum err err = ERR_INTERNAL;
    if (hash && hash[0] != '*') {
        memcpy(out, hash, strlen(hash) + 1);
        err = ERR_OK;
    }
    secret_wipe(state, sizeof *state);
    free(state);
    return err;
}

enum err password_hash(struct bytes password, char out[PASSWORD_HASH_MAX])
{
    char phrase[PASSWORD_MAX + 1], setting[CRYPT_GENSALT_OUTPUT_SIZE];
    if (!to_phrase(password, phrase))
        return ERR_NO_SPACE;
    enum err err = ERR_INTERNAL;
    /* Count 0: libcrypt's own default cost; salt bytes NULL: from the kernel. */
    if (crypt_gensalt_rn("$y$", 0, NULL, 0, setting, sizeof setting))
        err = hash_with(phrase, setting, out);
    secret_wipe(phrase, sizeof phrase);
    return err;
}

enum err password_check(struct bytes password, const char *hash)
{
    char phrase[PASSWORD_MAX + 1], made[PASSWORD_HASH_MAX];
    /* A wrong form fails before the costly part: it is in the configuration, not in the request. */
    if (!password_hash_is_valid(hash) || !to_phrase(password, phrase))
        return ERR_AUTH_FAILED;
    enum err err = ERR_AUTH_FAILED;
    if (!hash_with(phrase, hash, made) && secret_eq(bytes_of_str(made), bytes_of_str(hash)))
        err = ERR_OK;
    secret_wipe(phrase, sizeof phrase);
    secret_wipe(made, sizeof made);
    return err;
}

/* crypt(5)'s digits, in order: ./0-9A-Za-z */
static int digit64(char c)
{
    static const char digits[] = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* "$y$j9T$salt$hash": flavor, log2(N) - 1, r... libcrypt's default is j9T: N = 4096, r = 32. */
static bool yescrypt_is_slow(const char *parameters)
{
    return parameters[0] == 'j' && digit64(parameters[1]) >= digit64('9');
}

/* "$6$salt$hash" has 5000 rounds; "$6$rounds=N$salt$hash". */
static bool sha_crypt_is_slow(const char *parameters)
{
    static const char key[] = "rounds=";
    if (strncmp(parameters, key, sizeof key - 1) != 0)
        return true;
    const char *digits = parameters + sizeof key - 1;
    uint64_t rounds;
    return bytes_to_u64(bytes_of(digits, strcspn(digits, "$")), 999999999, &rounds) &&
           rounds >= 5000;
}

/* "$2b$10$..." */
static bool bcrypt_is_slow(const char *parameters)
{
    uint64_t cost;
    size_t len = strcspn(parameters, "$");
    if (len == 2 && parameters[0] == '0')
        return false;
    return len == 2 && bytes_to_u64(bytes_of(parameters, 2), 31, &cost) && cost >= 10;
}

static bool is_slow(const char *hash)
{
    static const struct {
        const char *prefix;
        bool (*slow)(const char *parameters);
    } methods[] = {
        {"$y$", yescrypt_is_slow}, {"$gy$", yescrypt_is_slow}, {"$6$", sha_crypt_is_slow},
        {"$2b$", bcrypt_is_slow},  {"$2y$", bcrypt_is_slow},
    };
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        size_t len = strlen(methods[i].prefix);
        if (strncmp(hash, methods[i].prefix, len) == 0)
            return methods[i].slow(hash + len);
    }
    return false; /* DES, MD5, NTLM, plain text... */
}

bool password_hash_is_valid(const char *hash)
{
    size_t len = strnlen(hash, PASSWORD_HASH_MAX);
    if (len == 0 || len >= PASSWORD_HASH_MAX || !is_slow(hash) ||
        crypt_checksalt(hash) != CRYPT_SALT_OK)
        return false;
    /* A setting alone is a salt without a hash: what follows the last $ is the hash, and bcrypt's
     * 22 + 31, the shortest's 43 characters tell it from a salt. */
    const char *last = strrchr(hash, '$');
    return strlen(last + 1) >= 43;
}
