/* rng.h: the wolfCrypt generator of the calling thread, inside engine/crypto.
 *
 * Promise: seeded from the kernel; freed when the thread ends. Aborts when there is no entropy, as
 *          random_bytes does.
 * Threads: each has its own.
 */
#ifndef CERTMILL_CRYPTO_RNG_H
#define CERTMILL_CRYPTO_RNG_H

#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/random.h>

WC_RNG *crypto_rng(void);

#endif
