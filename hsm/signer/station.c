#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "hsm/signer/signer.h"

#define REINIT_MIN_NS (1000 * NS_PER_MS)
#define REINIT_MAX_NS (30000 * NS_PER_MS)

/* --- what the engine is told --- */

static void notify(void)
{
    const uint64_t one = 1;
    while (write(SIGNER_FD_NOTIFY, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

bool engine_is_gone(int timeout_ms)
{
    struct pollfd parent = {.fd = SIGNER_FD_PARENT, .events = POLLIN};
    return poll(&parent, 1, timeout_ms) > 0;
}

bool engine_wants(int timeout_ms, bool *out_look)
{
    struct pollfd fds[2] = {{.fd = SIGNER_FD_PARENT, .events = POLLIN},
                            {.fd = SIGNER_FD_KEYS, .events = POLLIN}};
    uint64_t count;
    bool ready = poll(fds, 2, timeout_ms) > 0;
    *out_look = ready && fds[1].revents != 0 &&
                read(SIGNER_FD_KEYS, &count, sizeof(count)) == (ssize_t)sizeof(count);
    return ready && fds[0].revents != 0;
}

void station_error(struct station *station, const char *fmt, ...)
{
    char text[SHM_ERROR_TEXT];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    struct shm_signer *shm = station->shm;
    pthread_mutex_lock(&station->text_lock);
    atomic_fetch_add_explicit(&shm->error_seq, 1, memory_order_acq_rel);
    memcpy(shm->error_text, text, sizeof(text));
    atomic_fetch_add_explicit(&shm->error_seq, 1, memory_order_release);
    pthread_mutex_unlock(&station->text_lock);
    notify();
}

void station_set_state(struct station *station, enum shm_state state)
{
    atomic_store_explicit(&station->shm->state, state, memory_order_release);
    notify();
}

_Noreturn void station_pin_refused(struct station *station, const char *why)
{
    station_error(station, "PIN refused: %s", why);
    log_error("pin-refused", "token=%s reason=\"%s\"", station->config.name, why);
    pin_wipe(&station->pin);
    /* other workers may be inside the module: no way back but out */
    _exit(SIGNER_EXIT_PIN);
}

/* --- the login --- */

/* Waits until the engine says that no other signer of this token is at it. False when the engine is
 * gone.
 */
static bool login_begin(struct station *station)
{
    struct shm_signer *shm = station->shm;
    const struct timespec look_around = {.tv_nsec = 100 * (long)NS_PER_MS};
    uint32_t ticket = atomic_fetch_add_explicit(&shm->login_wanted, 1, memory_order_acq_rel) + 1;
    notify();
    for (;;) {
        uint32_t granted = atomic_load_explicit(&shm->login_granted, memory_order_acquire);
        if (granted == ticket)
            return true;
        if (engine_is_gone(0))
            return false;
        syscall(SYS_futex, &shm->login_granted, FUTEX_WAIT, granted, &look_around, NULL, 0);
    }
}

static void login_end(struct station *station)
{
    atomic_fetch_add_explicit(&station->shm->login_wanted, 1, memory_order_release);
    notify();
}

static enum err login_now(struct station *station, struct p11_error *error)
{
    bool logged_in = false;
    if (station->anchor != NULL &&
        p11_session_state(station->anchor, &logged_in, error) != ERR_OK) {
        p11_session_close(station->anchor);
        station->anchor = NULL;
    }
    if (station->anchor == NULL) {
        enum err err =
            p11_session_open(station->module, station->config.uri, false, &station->anchor, error);
        if (err != ERR_OK)
            return err;
        if (p11_session_state(station->anchor, &logged_in, error) != ERR_OK)
            logged_in = false;
    }
    if (logged_in)
        return ERR_OK; /* another worker was faster */
    if (!login_begin(station)) {
        snprintf(error->text, sizeof(error->text), "the engine is gone");
        return ERR_STOPPING;
    }
    atomic_fetch_add_explicit(&station->shm->logins, 1, memory_order_relaxed);
    enum err err = p11_login(station->anchor, bytes_of(station->pin.text, station->pin.len), error);
    if (err == ERR_PIN_WRONG || (error->rv != 0 && err != ERR_OK &&
                                 rv_class_of(&station->overrides, error->rv) == RV_CLASS_PIN)) {
        atomic_fetch_add_explicit(&station->shm->errors_by_class[RV_CLASS_PIN], 1,
                                  memory_order_relaxed);
        station_pin_refused(station, error->text); /* and its turn does not end but with it */
    }
    login_end(station);
    return err;
}

enum err station_login(struct station *station, struct p11_error *error)
{
    *error = (struct p11_error){0};
    pthread_mutex_lock(&station->login_lock);
    enum err err = login_now(station, error);
    pthread_mutex_unlock(&station->login_lock);
    return err;
}

/* --- keys --- */

static enum err look_at_key(struct station *station, const struct wire_key *wanted,
                            struct p11_error *error)
{
    struct p11_key key;
    enum err err = p11_key_find(station->anchor, wanted->uri, &key, error);
    if (err == ERR_OK)
        err = p11_key_check(&key, wanted->allow_extractable, error);
    if (err == ERR_OK && !p11_key_signs(&key, wanted->mechanism)) {
        snprintf(error->text, sizeof(error->text), "a key of kind %s does not sign as configured",
                 key_alg_name(key.alg));
        err = ERR_CONFIG;
    }
    if (err == ERR_OK && wanted->has_spki && key.spki_len != 0) {
        uint8_t hash[SHA256_LEN];
        sha256_once(bytes_of(key.spki_der, key.spki_len), hash);
        if (memcmp(hash, wanted->spki_sha256, sizeof(hash)) != 0) {
            snprintf(error->text, sizeof(error->text),
                     "not the key that the certificate certifies");
            err = ERR_CONFIG;
        }
    }
    return err;
}

/* With module_lock and login_lock, logged in. */
static void check_key(struct station *station, const struct wire_key *wanted, bool only_changes)
{
    _Atomic uint32_t *state = &station->shm->key_state[wanted->index];
    uint32_t before = atomic_load_explicit(state, memory_order_relaxed);
    struct p11_error error = {0};
    enum err err = look_at_key(station, wanted, &error);
    if (only_changes && err != ERR_OK && err != ERR_KEY_NOT_FOUND && err != ERR_CONFIG)
        return; /* the token is failing: nothing is known of the key */
    atomic_store_explicit(state, err, memory_order_release);
    if (err == before && only_changes)
        return;
    if (err == ERR_OK) {
        if (before != ERR_OK)
            log_info("key-found", "token=%s key=%s", station->config.name, wanted->name);
        return;
    }
    log_error("key-not-usable", "token=%s key=%s code=%s reason=\"%s\"", station->config.name,
              wanted->name, err_code(err), error.text);
    station_error(station, "key %s: %s", wanted->name, error.text);
}

/* Is a key missing, and is there a session to look for it with? With the login lock. */
static bool is_ready_to_look(struct station *station, uint32_t count, bool only_missing)
{
    bool missing = !only_missing;
    for (uint32_t i = 0; i < count; i++)
        missing |= atomic_load_explicit(&station->shm->key_state[station->config.keys[i].index],
                                        memory_order_relaxed) != ERR_OK;
    struct p11_error error = {0};
    return missing && login_now(station, &error) == ERR_OK;
}

void station_check_keys(struct station *station, bool only_missing)
{
    uint32_t count = atomic_load_explicit(&station->key_count, memory_order_relaxed);
    pthread_rwlock_rdlock(&station->module_lock);
    pthread_mutex_lock(&station->login_lock);
    bool there = is_ready_to_look(station, count, only_missing);
    for (uint32_t i = 0; there && i < count; i++) {
        const struct wire_key *wanted = &station->config.keys[i];
        if (!only_missing || atomic_load_explicit(&station->shm->key_state[wanted->index],
                                                  memory_order_relaxed) != ERR_OK)
            check_key(station, wanted, only_missing);
    }
    pthread_mutex_unlock(&station->login_lock);
    pthread_rwlock_unlock(&station->module_lock);
}

/* The engine writes an entry once, before the count that says it is there. */
static void take_added(struct station *station)
{
    struct shm_signer *shm = station->shm;
    uint32_t added = atomic_load_explicit(&shm->added_count, memory_order_acquire);
    uint32_t count = atomic_load_explicit(&station->key_count, memory_order_relaxed);
    for (; station->keys_taken < added && station->keys_taken < KEYS_MAX && count < KEYS_MAX;
         count++) {
        const struct shm_key *entry = &shm->added[station->keys_taken++];
        struct wire_key *key = &station->config.keys[count];
        *key = (struct wire_key){
            .index = entry->index % KEYS_MAX,
            .name = entry->name,
            .uri = entry->uri,
            .mechanism = (enum sign_mechanism)entry->mechanism,
            .allow_extractable = entry->allow_extractable != 0,
            .has_spki = entry->has_spki != 0,
        };
        memcpy(key->spki_sha256, entry->spki_sha256, sizeof(key->spki_sha256));
    }
    atomic_store_explicit(&station->key_count, count, memory_order_release);
}

void station_look(struct station *station)
{
    struct shm_signer *shm = station->shm;
    uint32_t wanted = atomic_load_explicit(&shm->look_wanted, memory_order_acquire);
    uint32_t index = atomic_load_explicit(&shm->look_key, memory_order_relaxed);
    take_added(station);
    uint32_t count = atomic_load_explicit(&station->key_count, memory_order_relaxed);
    pthread_rwlock_rdlock(&station->module_lock);
    pthread_mutex_lock(&station->login_lock);
    struct p11_error error = {0};
    bool there = login_now(station, &error) == ERR_OK;
    for (uint32_t i = 0; there && i < count; i++) {
        if (station->config.keys[i].index == index)
            check_key(station, &station->config.keys[i], false);
    }
    pthread_mutex_unlock(&station->login_lock);
    pthread_rwlock_unlock(&station->module_lock);
    atomic_store_explicit(&shm->look_done, wanted, memory_order_release);
    notify();
}

/* --- sessions --- */

enum err station_session(struct worker *worker, struct p11_error *error)
{
    struct station *station = worker->station;
    uint32_t generation = atomic_load_explicit(&station->generation, memory_order_relaxed);
    if (worker->session != NULL && worker->generation != generation) {
        p11_session_forget(worker->session); /* it went with its module */
        worker->session = NULL;
    }
    if (worker->session != NULL)
        return ERR_OK;
    for (uint32_t i = 0; i < KEYS_MAX; i++) {
        if (worker->keys[i] != NULL)
            worker->keys[i]->known = false;
    }
    /* One at a time: SoftHSM, for one, lists its tokens through gmtime, whose result is shared. */
    pthread_mutex_lock(&station->login_lock);
    enum err err =
        p11_session_open(station->module, station->config.uri, false, &worker->session, error);
    pthread_mutex_unlock(&station->login_lock);
    if (err != ERR_OK)
        return err;
    worker->generation = generation;
    bool logged_in = false;
    if (p11_session_state(worker->session, &logged_in, error) == ERR_OK && !logged_in)
        err = station_login(station, error);
    if (err != ERR_OK) {
        p11_session_close(worker->session);
        worker->session = NULL;
    }
    return err;
}

void station_reinitialize(struct station *station, uint32_t generation)
{
    struct p11_error error = {0};
    pthread_rwlock_wrlock(&station->module_lock);
    uint64_t now = clock_mono_ns();
    if (atomic_load_explicit(&station->generation, memory_order_relaxed) != generation ||
        now < station->reinit_at_ns) {
        pthread_rwlock_unlock(&station->module_lock);
        return;
    }
    uint64_t wait = atomic_load_explicit(&station->reinit_wait_ns, memory_order_relaxed);
    wait = wait == 0 ? REINIT_MIN_NS : 2 * wait < REINIT_MAX_NS ? 2 * wait : REINIT_MAX_NS;
    atomic_store_explicit(&station->reinit_wait_ns, wait, memory_order_relaxed);
    station->reinit_at_ns = now + wait;
    log_warn("module-reinitialize", "token=%s", station->config.name);
    if (station->anchor != NULL)
        p11_session_forget(station->anchor);
    station->anchor = NULL;
    enum err err = p11_module_reinitialize(station->module, &error);
    atomic_fetch_add_explicit(&station->generation, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&station->shm->reinitialized, 1, memory_order_relaxed);
    if (err == ERR_OK)
        err = station_login(station, &error);
    if (err != ERR_OK)
        station_error(station, "reinitialize: %s", error.text);
    pthread_rwlock_unlock(&station->module_lock);
}

/* --- start and end --- */

static bool overrides_ok(struct station *station)
{
    struct bytes bad;
    if (rv_overrides_parse(station->config.rv_classes, &station->overrides, &bad))
        return true;
    station_error(station, "rv_classes: \"%.*s\" is not CKR_NAME=class", (int)bad.len,
                  (const char *)bad.ptr);
    return false;
}

int station_open(struct station *station)
{
    struct p11_error error = {0};
    pthread_rwlockattr_t writers_first; /* else workers in turn keep a reinitialization out */
    pthread_rwlockattr_init(&writers_first);
    pthread_rwlockattr_setkind_np(&writers_first, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&station->module_lock, &writers_first);
    pthread_rwlockattr_destroy(&writers_first);
    pthread_mutex_init(&station->login_lock, NULL);
    if (!overrides_ok(station))
        return SIGNER_EXIT_CONFIG;
    enum err err = p11_module_open(station->config.module_path, &station->module, &error);
    if (err == ERR_OK)
        err = station_login(station, &error);
    if (err != ERR_OK) {
        station_error(station, "%s", error.text);
        log_error("token-not-open", "token=%s code=%s reason=\"%s\"", station->config.name,
                  err_code(err), error.text);
        return err == ERR_CONFIG ? SIGNER_EXIT_CONFIG : SIGNER_EXIT_FAILED;
    }
    log_debug("token-open", "token=%s", station->config.name);
    station_set_state(station, SHM_LOGGED_IN);
    station_check_keys(station, false);
    return SIGNER_EXIT_OK;
}

void station_close(struct station *station)
{
    p11_session_close(station->anchor);
    p11_module_close(station->module);
}
