/* password.h: slow password hashes (crypt(5) yescrypt, sha512crypt...), for Basic authentication.
 *
 * Promise: constant-time compare; the cost is the hash's own, so callers run it off the cores.
 */
#ifndef CERTMILL_CRYPTO_PASSWORD_H
#define CERTMILL_CRYPTO_PASSWORD_H

#include "base/bytes.h"

enum { PASSWORD_HASH_MAX = 384, PASSWORD_MAX = 256 };

/* A salted yescrypt hash, NUL-terminated. */
enum err password_hash(struct bytes password, char out[PASSWORD_HASH_MAX]) MUST_USE;
/* ERR_OK, ERR_AUTH_FAILED. `hash` as crypt(5); plain text is never accepted. */
enum err password_check(struct bytes password, const char *hash) MUST_USE;
/* Is this a hash that crypt(5) knows and that is slow enough? */
bool password_hash_is_valid(const char *hash);

#endif
