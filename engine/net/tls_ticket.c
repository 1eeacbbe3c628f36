#include "net/tls_ticket.h"

#include <pthread.h>
#include <stdatomic.h>
#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/settings.h>

#include <wolfssl/wolfcrypt/aes.h>

#include "base/secret.h"

enum { CURRENT, PREVIOUS, KEY_COUNT };

struct ticket_key {
    bool set;
    uint8_t name[TICKET_NAME_LEN];
    uint8_t key[32];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct ticket_key shared[KEY_COUNT];
static atomic_uint generation; /* of shared; 0: no key yet */

struct own_keys {
    unsigned generation;
    struct ticket_key key[KEY_COUNT];
};
static _Thread_local struct own_keys own;

void tickets_rotate(void)
{
    struct ticket_key fresh = {.set = true};
    random_bytes(fresh.name, sizeof(fresh.name));
    random_bytes(fresh.key, sizeof(fresh.key));
    pthread_mutex_lock(&lock);
    shared[PREVIOUS] = shared[CURRENT];
    shared[CURRENT] = fresh;
    atomic_fetch_add_explicit(&generation, 1, memory_order_release);
    pthread_mutex_unlock(&lock);
    secret_wipe(&fresh, sizeof(fresh));
}

static void refresh(void)
{
    if (own.generation == atomic_load_explicit(&generation, memory_order_acquire))
        return;
    pthread_mutex_lock(&lock);
    memcpy(own.key, shared, sizeof(shared));
    own.generation = atomic_load_explicit(&generation, memory_order_relaxed);
    pthread_mutex_unlock(&lock);
}

/* What is authenticated beside the ticket. */
struct context {
    uint8_t octets[TICKET_NAME_LEN + 1];
};

static struct context context_of(const uint8_t name[TICKET_NAME_LEN], uint8_t depth)
{
    struct context context;
    memcpy(context.octets, name, TICKET_NAME_LEN);
    context.octets[TICKET_NAME_LEN] = depth;
    return context;
}

bool ticket_seal(uint8_t out_name[TICKET_NAME_LEN], uint8_t out_iv[TICKET_IV_LEN],
                 uint8_t out_tag[TICKET_TAG_LEN], uint8_t depth, uint8_t *data, size_t len)
{
    refresh();
    if (!own.key[CURRENT].set)
        return false;
    memcpy(out_name, own.key[CURRENT].name, TICKET_NAME_LEN);
    random_bytes(out_iv, TICKET_IV_LEN);
    const struct context context = context_of(out_name, depth);
    Aes aes;
    if (wc_AesInit(&aes, NULL, INVALID_DEVID) != 0)
        return false;
    bool done = wc_AesGcmSetKey(&aes, own.key[CURRENT].key, sizeof(own.key[CURRENT].key)) == 0 &&
                wc_AesGcmEncrypt(&aes, data, data, (word32)len, out_iv, TICKET_IV_LEN, out_tag,
                                 TICKET_TAG_LEN, context.octets, sizeof(context.octets)) == 0;
    wc_AesFree(&aes);
    secret_wipe(&aes, sizeof(aes));
    return done;
}

enum ticket_result ticket_open(const uint8_t name[TICKET_NAME_LEN], const uint8_t iv[TICKET_IV_LEN],
                               const uint8_t tag[TICKET_TAG_LEN], uint8_t depth, uint8_t *data,
                               size_t len)
{
    refresh();
    for (unsigned i = 0; i < KEY_COUNT; i++) {
        const struct ticket_key *key = &own.key[i];
        if (!key->set || memcmp(key->name, name, TICKET_NAME_LEN) != 0)
            continue;
        const struct context context = context_of(name, depth);
        Aes aes;
        if (wc_AesInit(&aes, NULL, INVALID_DEVID) != 0)
            return TICKET_FAILED;
        bool done = wc_AesGcmSetKey(&aes, key->key, sizeof(key->key)) == 0 &&
                    wc_AesGcmDecrypt(&aes, data, data, (word32)len, iv, TICKET_IV_LEN, tag,
                                     TICKET_TAG_LEN, context.octets, sizeof(context.octets)) == 0;
        wc_AesFree(&aes);
        secret_wipe(&aes, sizeof(aes));
        if (!done)
            return TICKET_FAILED;
        return i == CURRENT ? TICKET_OK : TICKET_OLD_KEY;
    }
    return TICKET_FAILED;
}
