#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "hsm/signer/signer.h"

enum {
    TRIES_MAX = 4, /* of one job here, mending something before each but the first */
    RETRIES_BEFORE_REINIT = 3,
    SESSION_RETRY_STEPS = 50, /* 5 s in all */
    SESSION_RETRY_STEP_US = 100000,
};
#define FAILING_BEFORE_REINIT_NS (1000 * NS_PER_MS)
#define BATCH_LATE_NS            (1 * NS_PER_MS)

static const struct wire_key *config_of(const struct station *station, uint32_t key_index)
{
    uint32_t count = atomic_load_explicit(&station->key_count, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++) {
        if (station->config.keys[i].index == key_index)
            return &station->config.keys[i];
    }
    return NULL;
}

/* A handle of this key in this session. A session that has lost its login sees no private keys, so
 * "not there" is believed only of one that is logged in. */
static enum err find_key(struct worker *worker, const struct wire_key *wanted,
                         struct p11_error *error, bool *out_login_lost)
{
    struct worker_key *slot = worker->keys[wanted->index];
    if (slot != NULL && slot->known)
        return ERR_OK;
    if (slot == NULL && (slot = calloc(1, sizeof(*slot))) == NULL) {
        snprintf(error->text, sizeof(error->text), "out of memory");
        return ERR_NO_SPACE;
    }
    worker->keys[wanted->index] = slot;
    enum err err = p11_key_find(worker->session, wanted->uri, &slot->key, error);
    if (err == ERR_OK)
        err = p11_key_check(&slot->key, wanted->allow_extractable, error);
    slot->known = err == ERR_OK;
    bool logged_in = true;
    struct p11_error state_error;
    if (err == ERR_KEY_NOT_FOUND &&
        p11_session_state(worker->session, &logged_in, &state_error) == ERR_OK)
        *out_login_lost = !logged_in;
    return err;
}

/* --- mending --- */

static enum rv_class class_of(const struct station *station, enum err err,
                              const struct p11_error *error)
{
    if (error->rv != 0)
        return rv_class_of(&station->overrides, error->rv);
    return err == ERR_PIN_WRONG ? RV_CLASS_PIN : RV_CLASS_RETRY;
}

static void drop_session(struct worker *worker)
{
    struct station *station = worker->station;
    pthread_rwlock_rdlock(&station->module_lock);
    if (worker->session != NULL &&
        worker->generation == atomic_load_explicit(&station->generation, memory_order_relaxed))
        p11_session_close(worker->session);
    else
        p11_session_forget(worker->session);
    worker->session = NULL;
    pthread_rwlock_unlock(&station->module_lock);
}

static bool login_again(struct worker *worker, struct p11_error *error)
{
    struct station *station = worker->station;
    pthread_rwlock_rdlock(&station->module_lock);
    enum err err = station_login(station, error);
    pthread_rwlock_unlock(&station->module_lock);
    return err == ERR_OK;
}

/* A token that says no to everything for a while may only come back for a module that starts over.
 */
static void note_retry(struct worker *worker, uint32_t generation)
{
    struct station *station = worker->station;
    uint64_t now = clock_mono_ns();
    uint32_t count = atomic_fetch_add_explicit(&station->retries, 1, memory_order_relaxed) + 1;
    if (count == 1)
        atomic_store_explicit(&station->retries_since_ns, now, memory_order_relaxed);
    uint64_t since = atomic_load_explicit(&station->retries_since_ns, memory_order_relaxed);
    if (count > RETRIES_BEFORE_REINIT && now > since && now - since > FAILING_BEFORE_REINIT_NS)
        station_reinitialize(station, generation);
}

static void note_success(struct station *station)
{
    if (atomic_load_explicit(&station->retries, memory_order_relaxed) != 0) {
        atomic_store_explicit(&station->retries, 0, memory_order_relaxed);
        atomic_store_explicit(&station->reinit_wait_ns, 0, memory_order_relaxed);
    }
}

/* Does what the class says; true when the job may be tried again here. */
static bool mend(struct worker *worker, enum rv_class class, uint32_t generation,
                 uint32_t key_index, struct p11_error *error)
{
    switch (class) {
    case RV_CLASS_REOPEN:
        drop_session(worker);
        return true;
    case RV_CLASS_LOGIN:
        return login_again(worker, error);
    case RV_CLASS_FIND_KEY:
        if (worker->keys[key_index] != NULL)
            worker->keys[key_index]->known = false;
        return true;
    case RV_CLASS_REINIT:
        station_reinitialize(worker->station, generation);
        return true;
    case RV_CLASS_PIN:
        station_pin_refused(worker->station, error->text);
    case RV_CLASS_OK:
    case RV_CLASS_RETRY:
    case RV_CLASS_FATAL:
    case RV_CLASS_COUNT:
        break;
    }
    return false;
}

/* --- one job --- */

struct attempt {
    enum err err;
    bool login_lost;
    uint32_t generation;
    uint64_t service_ns;
    size_t signature_len;
    struct p11_error error;
};

static void try_job(struct worker *worker, const struct wire_key *wanted, struct bytes input,
                    uint8_t *out, size_t cap, struct attempt *attempt)
{
    struct station *station = worker->station;
    pthread_rwlock_rdlock(&station->module_lock);
    attempt->generation = atomic_load_explicit(&station->generation, memory_order_relaxed);
    attempt->error.rv = 0;
    attempt->login_lost = false;
    enum err err = station_session(worker, &attempt->error);
    if (err == ERR_OK)
        err = find_key(worker, wanted, &attempt->error, &attempt->login_lost);
    if (err == ERR_OK) {
        uint64_t start = clock_mono_ns();
        err = p11_sign(worker->session, &worker->keys[wanted->index]->key, wanted->mechanism, input,
                       out, cap, &attempt->signature_len, &attempt->error);
        attempt->service_ns = clock_mono_ns() - start;
    }
    attempt->err = err;
    pthread_rwlock_unlock(&station->module_lock);
}

static void count_error(struct station *station, enum rv_class class, const struct attempt *attempt)
{
    uint64_t before =
        atomic_fetch_add_explicit(&station->shm->errors_by_class[class], 1, memory_order_relaxed);
    /* each of a storm of errors need not be told */
    if (before < 16 || before % 256 == 0)
        station_error(station, "%.94s", attempt->error.text);
}

static enum shm_outcome sign_job(struct worker *worker, const struct wire_key *wanted,
                                 struct bytes input, uint8_t *out, size_t cap,
                                 struct shm_done *result)
{
    struct station *station = worker->station;
    struct attempt attempt = {0};
    for (int tries = 1; tries <= TRIES_MAX; tries++) {
        try_job(worker, wanted, input, out, cap, &attempt);
        if (attempt.err == ERR_OK) {
            result->signature_len = (uint32_t)attempt.signature_len;
            result->service_ns = attempt.service_ns;
            worker->batch_service_ns += attempt.service_ns;
            worker->batch_count++;
            note_success(station);
            return SHM_SIGNED;
        }
        enum rv_class class =
            attempt.login_lost ? RV_CLASS_LOGIN : class_of(station, attempt.err, &attempt.error);
        result->rv = (uint32_t)attempt.error.rv;
        count_error(station, class, &attempt);
        if (!attempt.login_lost &&
            (attempt.err == ERR_KEY_NOT_FOUND || attempt.err == ERR_CONFIG)) {
            atomic_store_explicit(&station->shm->key_state[wanted->index], attempt.err,
                                  memory_order_relaxed);
            return SHM_KEY_MISSING;
        }
        if (class == RV_CLASS_FATAL)
            return SHM_REFUSED;
        if (!mend(worker, class, attempt.generation, wanted->index, &attempt.error))
            break;
    }
    note_retry(worker, attempt.generation);
    return SHM_RETRY;
}

static void do_job(struct worker *worker, struct slot_ref ref, struct shm_done *result)
{
    struct station *station = worker->station;
    const struct shm_core *core = &station->cores[ref.core];
    struct shm_slot *slot = &core->slots[ref.slot];
    *result = (struct shm_done){.slot = ref.slot, .outcome = SHM_REFUSED};
    const struct wire_key *wanted = config_of(station, slot->key_index);
    uint32_t side = slot->side < SHM_SIDES ? slot->side : SHM_SIDE_NONE;
    uint32_t cap = side == SHM_SIDE_NONE ? SHM_INLINE : SHM_SIDE_SIZE;
    if (wanted == NULL || slot->input_len > cap)
        return;
    if (clock_mono_ns() >= slot->deadline_ns) {
        result->outcome = SHM_EXPIRED;
        return;
    }
    /* Acquire here and release below order this slot's uses by different workers where a thread
     * sanitizer can see it; in truth they are ordered by way of the engine. */
    (void)atomic_load_explicit(&slot->taken, memory_order_acquire);
    atomic_store_explicit(&slot->taken, SHM_BEGUN, memory_order_relaxed);
    uint8_t *data = shm_data(core, slot, side);
    uint8_t signature[SIGNATURE_MAX];
    result->outcome = sign_job(worker, wanted, bytes_of(data, slot->input_len), signature,
                               cap < sizeof(signature) ? cap : sizeof(signature), result);
    if (result->outcome == SHM_SIGNED) {
        memcpy(data, signature, result->signature_len);
        atomic_fetch_add_explicit(&station->shm->signed_total, 1, memory_order_relaxed);
    }
    atomic_store_explicit(&slot->taken, SHM_DONE, memory_order_release);
}

/* --- the thread --- */

static bool first_session(struct worker *worker)
{
    struct station *station = worker->station;
    struct p11_error error = {0};
    bool login_lost = false;
    pthread_rwlock_rdlock(&station->module_lock);
    enum err err = station_session(worker, &error);
    uint32_t count = atomic_load_explicit(&station->key_count, memory_order_acquire);
    for (uint32_t i = 0; err == ERR_OK && i < count; i++) {
        struct p11_error key_error;
        if (find_key(worker, &station->config.keys[i], &key_error, &login_lost) != ERR_OK)
            continue; /* station_check_keys has told */
    }
    pthread_rwlock_unlock(&station->module_lock);
    if (err == ERR_OK) {
        atomic_fetch_add_explicit(&station->shm->sessions_open, 1, memory_order_relaxed);
    } else if (!atomic_load_explicit(&worker->settled, memory_order_relaxed)) {
        log_warn("session-not-open", "token=%s worker=%u reason=\"%s\"", station->config.name,
                 worker->index, error.text);
        station_error(station, "session %u: %s", worker->index, error.text);
    }
    atomic_store_explicit(&worker->settled, true, memory_order_release);
    return err == ERR_OK;
}

/* Sized by what the token has taken so far; should it take much longer now, the rest is for others.
 */
static void do_batch(struct worker *worker, const struct slot_ref refs[], uint32_t count)
{
    struct shm_done results[SIGN_BATCH_MAX];
    uint64_t late = clock_mono_ns() + BATCH_LATE_NS;
    uint32_t done = 0;
    do {
        do_job(worker, refs[done], &results[done]);
        done++;
    } while (done < count && clock_mono_ns() < late);
    intake_publish(worker->station, refs, results, done);
    if (done < count)
        intake_return(worker, refs + done, count - done);
}

void *worker_main(void *arg)
{
    struct worker *worker = arg;
    struct station *station = worker->station;
    struct slot_ref refs[SIGN_BATCH_MAX];
    while (!first_session(worker)) { /* no more sessions just now: the others do the work */
        for (int i = 0; i < SESSION_RETRY_STEPS; i++) {
            if (atomic_load_explicit(&station->stop, memory_order_relaxed))
                return NULL;
            usleep(SESSION_RETRY_STEP_US);
        }
    }
    while (!atomic_load_explicit(&station->stop, memory_order_relaxed)) {
        uint32_t count = intake_take(worker, refs);
        if (count == 0)
            continue;
        do_batch(worker, refs, count);
    }
    drop_session(worker);
    return NULL;
}
