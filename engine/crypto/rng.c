#include "crypto/rng.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

static _Thread_local WC_RNG rng;
static _Thread_local bool rng_ready;
static pthread_key_t rng_key;
static pthread_once_t rng_once = PTHREAD_ONCE_INIT;

static void rng_end(void *own)
{
    wc_FreeRng(own);
    rng_ready = false; /* a later destructor of this thread may ask again */
}

static void rng_key_make(void)
{
    if (pthread_key_create(&rng_key, rng_end) != 0)
        abort();
}

WC_RNG *crypto_rng(void)
{
    if (!rng_ready) {
        if (pthread_once(&rng_once, rng_key_make) != 0 || wc_InitRng(&rng) != 0 ||
            pthread_setspecific(rng_key, &rng) != 0)
            abort();
        rng_ready = true;
    }
    return &rng;
}
