/* secret.h: handling of passwords, PINs and keys.
 *
 * Promise: secret_wipe is never optimized away; secret_eq takes the same time whatever differs
 *          (lengths are not secret).
 */
#ifndef CERTMILL_BASE_SECRET_H
#define CERTMILL_BASE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#include "base/bytes.h"

void secret_wipe(void *mem, size_t len);
bool secret_eq(struct bytes a, struct bytes b);
/* n bytes from the kernel's generator; aborts when there is none (certmill is useless without). */
void random_bytes(void *out, size_t len);

#endif
