/* add_key.c: one more key while the cores submit.
 *
 * The key is written behind the last one, then told to each process that runs now, in the memory it
 * shares with the engine; processes that start later find it in their configuration. Cores hear of
 * its index only when a signer has found it, so nothing here races with them.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "hsm/queue/supervise.h"

enum { LOOK_STEP_MS = 5 };

static bool has_process(const struct signer *signer)
{
    return signer->phase == PHASE_STARTING || signer->phase == PHASE_UP;
}

static bool serves(const struct hsm *hsm, const struct signer *signer, uint32_t index)
{
    return (hsm->keys[index].signers >> signer->index & 1) != 0;
}

/* --- the table --- */

static bool same_key(const struct hsm_key_config *a, const struct hsm_key_config *b)
{
    return strcmp(a->uri, b->uri) == 0 && a->token_count == b->token_count &&
           memcmp(a->tokens, b->tokens, a->token_count * sizeof(a->tokens[0])) == 0 &&
           a->mechanism == b->mechanism && a->allow_extractable == b->allow_extractable &&
           a->has_spki == b->has_spki &&
           (!a->has_spki || memcmp(a->spki_sha256, b->spki_sha256, sizeof(a->spki_sha256)) == 0);
}

/* The index of this key, or the number of keys. */
static uint32_t find_key(const struct hsm *hsm, const struct hsm_key_config *wanted)
{
    uint32_t count = atomic_load_explicit(&hsm->key_count, memory_order_relaxed), i = 0;
    while (i < count && !same_key(&hsm->supervisor->keys[i], wanted))
        i++;
    return i;
}

static enum err append(struct hsm *hsm, const struct hsm_key_config *wanted,
                       char reason[HSM_REASON_MAX])
{
    struct supervisor *sup = hsm->supervisor;
    uint32_t index = atomic_load_explicit(&hsm->key_count, memory_order_relaxed);
    size_t name_len = strlen(wanted->name) + 1, uri_len = strlen(wanted->uri) + 1;
    if (name_len > SHM_KEY_NAME || uri_len > SHM_KEY_URI) {
        snprintf(reason, HSM_REASON_MAX, "the name or URI of the key is longer than %d bytes",
                 name_len > SHM_KEY_NAME ? SHM_KEY_NAME - 1 : SHM_KEY_URI - 1);
        return ERR_CONFIG;
    }
    if (index == KEYS_MAX) {
        snprintf(reason, HSM_REASON_MAX, "%d keys were used since the start: restart certmilld",
                 KEYS_MAX);
        return ERR_FULL;
    }
    char *text = malloc(name_len + uri_len);
    if (text == NULL) {
        snprintf(reason, HSM_REASON_MAX, "out of memory");
        return ERR_NO_SPACE;
    }
    memcpy(text, wanted->name, name_len);
    memcpy(text + name_len, wanted->uri, uri_len);
    sup->key_text[index] = text;
    sup->keys[index] = *wanted;
    sup->keys[index].name = text;
    sup->keys[index].uri = text + name_len;
    key_init(hsm, index);
    atomic_store_explicit(&hsm->key_count, index + 1, memory_order_release);
    return ERR_OK;
}

/* --- telling --- */

/* Its process started before the key was added, and has not heard of it. */
static void announce(struct hsm *hsm, struct signer *signer, uint32_t index)
{
    const struct hsm_key_config *key = &hsm->supervisor->keys[index];
    struct shm_signer *shm = shm_of(signer);
    struct shm_key *entry = &shm->added[signer->keys_told];
    *entry = (struct shm_key){
        .index = index,
        .mechanism = key->mechanism,
        .allow_extractable = key->allow_extractable,
        .has_spki = key->has_spki,
    };
    memcpy(entry->spki_sha256, key->spki_sha256, sizeof(entry->spki_sha256));
    memcpy(entry->name, key->name, strlen(key->name) + 1);
    memcpy(entry->uri, key->uri, strlen(key->uri) + 1);
    atomic_store_explicit(&shm->key_state[index], ERR_KEY_NOT_FOUND, memory_order_relaxed);
    signer->keys_told++;
    signer->keys_known |= 1ull << index;
    atomic_store_explicit(&shm->added_count, signer->keys_told, memory_order_release);
}

static void ask_to_look(struct signer *signer, uint32_t index)
{
    const uint64_t one = 1;
    struct shm_signer *shm = shm_of(signer);
    atomic_store_explicit(&shm->look_key, index, memory_order_relaxed);
    signer->look_wanted++;
    atomic_store_explicit(&shm->look_wanted, signer->look_wanted, memory_order_release);
    while (write(signer->keys_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static void tell_signers(struct hsm *hsm, uint32_t index)
{
    for (uint32_t s = 0; s < hsm->signer_count; s++) {
        struct signer *signer = &hsm->signers[s];
        if (!has_process(signer) || !serves(hsm, signer, index))
            continue;
        if ((signer->keys_known >> index & 1) == 0)
            announce(hsm, signer, index);
        ask_to_look(signer, index);
    }
}

/* --- waiting --- */

/* What it was last asked for is in its key_state. */
static bool has_looked(const struct signer *signer)
{
    return atomic_load_explicit(&shm_of(signer)->look_done, memory_order_acquire) ==
           signer->look_wanted;
}

/* Has every signer that is up looked? There is at least one. */
static bool is_answered(const struct hsm *hsm, uint32_t index)
{
    bool any = false;
    for (uint32_t s = 0; s < hsm->signer_count; s++) {
        const struct signer *signer = &hsm->signers[s];
        if (!serves(hsm, signer, index) || signer->phase != PHASE_UP)
            continue;
        if (!has_looked(signer))
            return false;
        any = true;
    }
    return any;
}

/* ERR_OK when a signer has it; else why none has, in words where a signer found them. */
static enum err verdict(struct hsm *hsm, uint32_t index, char reason[HSM_REASON_MAX])
{
    struct supervisor *sup = hsm->supervisor;
    enum err worst = ERR_SIGNER_UNAVAILABLE;
    snprintf(reason, HSM_REASON_MAX, "no signer of its token could look for it in time");
    for (uint32_t s = 0; s < hsm->signer_count; s++) {
        const struct signer *signer = &hsm->signers[s];
        if (!serves(hsm, signer, index) || (signer->phase == PHASE_UP && !has_looked(signer)))
            continue;
        enum err err = key_error(signer, index);
        if (err == ERR_OK) {
            reason[0] = 0;
            return ERR_OK;
        }
        if (err == ERR_SIGNER_UNAVAILABLE)
            continue;
        worst = err;
        pthread_mutex_lock(&sup->text_lock);
        snprintf(reason, HSM_REASON_MAX, "token %.60s: %.159s",
                 sup->tokens[signer->token_index].name, sup->last_error[s]);
        pthread_mutex_unlock(&sup->text_lock);
    }
    return worst;
}

enum err hsm_add_key(struct hsm *hsm, const struct hsm_key_config *key, uint32_t timeout_ms,
                     uint32_t *out_index, char out_reason[HSM_REASON_MAX])
{
    struct supervisor *sup = hsm->supervisor;
    if (!key_is_sane(key, hsm->token_count)) {
        snprintf(out_reason, HSM_REASON_MAX, "it names no token, or an unknown mechanism");
        return ERR_CONFIG;
    }
    uint32_t index = find_key(hsm, key);
    bool known = index < atomic_load_explicit(&hsm->key_count, memory_order_relaxed);
    if (known && !sup->key_abandoned[index]) {
        *out_index = index;
        return ERR_OK;
    }
    enum err err = known ? ERR_OK : append(hsm, key, out_reason);
    if (err != ERR_OK)
        return err;
    sup->key_abandoned[index] = false; /* a signer that starts meanwhile looks for it, too */
    tell_signers(hsm, index);
    uint64_t end = clock_mono_ns() + timeout_ms * NS_PER_MS;
    do {
        struct pollfd wait = {.fd = sup->epoll, .events = POLLIN};
        (void)poll(&wait, 1, LOOK_STEP_MS);
        hsm_supervise(hsm);
    } while (!is_answered(hsm, index) && clock_mono_ns() < end);
    hsm_supervise(hsm); /* takes what a signer said before it answered */
    err = verdict(hsm, index, out_reason);
    if (err != ERR_OK) {
        sup->key_abandoned[index] = true;
        return err;
    }
    log_info("key-added", "key=%s index=%u", sup->keys[index].name, index);
    *out_index = index;
    return ERR_OK;
}
