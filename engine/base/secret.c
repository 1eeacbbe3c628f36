#include "base/secret.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void secret_wipe(void *mem, size_t len)
{
    if (len != 0)
        explicit_bzero(mem, len);
}

bool secret_eq(struct bytes a, struct bytes b)
{
    if (a.len != b.len)
        return false;
    volatile uint8_t difference = 0; /* volatile: the compiler may not stop at the first one */
    for (size_t i = 0; i < a.len; i++)
        difference = (uint8_t)(difference | (a.ptr[i] ^ b.ptr[i]));
    return difference == 0;
}

void random_bytes(void *out, size_t len)
{
    uint8_t *at = out;
    while (len != 0) {
        ssize_t n = getrandom(at, len, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            abort();
        at += n;
        len -= (size_t)n;
    }
}
