#include <linux/futex.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "hsm/signer/signer.h"

enum {
    SLOT_NONE = 0xffff,
    /* a batch is published as one: it must not hold its first result back for long */
    BATCH_NS = 200000,
    /* so many results that a core has not read are worth a wake, */
    HOLD_RESULTS = 8,
    /* and fewer when the first would wait for longer than this: small against a commit */
    HOLD_NS = 1000000,
};

bool intake_init(struct station *station)
{
    struct intake *intake = &station->intake;
    pthread_mutex_init(&intake->lock, NULL);
    intake->next = calloc((size_t)station->config.core_count * SHM_SLOTS, sizeof(uint16_t));
    memset(intake->head, 0xff, sizeof(intake->head));
    memset(intake->tail, 0xff, sizeof(intake->tail));
    return intake->next != NULL;
}

/* One writer at a time: the lock is held. */
static void count_pending(struct intake *intake, uint32_t core, uint32_t change)
{
    _Atomic uint32_t *of_core = &intake->pending_of[core];
    atomic_store_explicit(of_core, atomic_load_explicit(of_core, memory_order_relaxed) + change,
                          memory_order_relaxed);
    intake->pending += change;
}

static void push(struct intake *intake, uint32_t key, uint16_t core, uint16_t slot)
{
    uint16_t *next = intake->next + (size_t)core * SHM_SLOTS;
    next[slot] = SLOT_NONE;
    if (intake->tail[key][core] == SLOT_NONE)
        intake->head[key][core] = slot;
    else
        next[intake->tail[key][core]] = slot;
    intake->tail[key][core] = slot;
    intake->cores[key] |= 1ull << core;
    intake->keys |= 1ull << key;
    count_pending(intake, core, 1);
}

/* The next set bit at or after `from`, around the end. */
static uint32_t bit_from(uint64_t bits, uint32_t from)
{
    uint64_t later = bits >> from << from;
    return (uint32_t)__builtin_ctzll(later != 0 ? later : bits);
}

/* One job of the key whose turn it is, of the core whose turn it is within the key. */
static struct slot_ref pop(struct intake *intake)
{
    uint32_t key = bit_from(intake->keys, intake->next_key);
    uint32_t core = bit_from(intake->cores[key], intake->next_core[key]);
    uint16_t slot = intake->head[key][core];
    uint16_t next = intake->next[(size_t)core * SHM_SLOTS + slot];
    intake->head[key][core] = next;
    if (next == SLOT_NONE) {
        intake->tail[key][core] = SLOT_NONE;
        intake->cores[key] &= ~(1ull << core);
        if (intake->cores[key] == 0)
            intake->keys &= ~(1ull << key);
    }
    intake->next_core[key] = (core + 1) % CORES_MAX;
    intake->next_key = (key + 1) % KEYS_MAX;
    count_pending(intake, core, UINT32_MAX); /* one fewer */
    return (struct slot_ref){(uint16_t)core, slot};
}

/* Everything out of the rings: 2 bytes a job, so that the lists see all of it and choose fairly. */
static void pull(struct station *station)
{
    for (uint32_t c = 0; c < station->config.core_count; c++) {
        struct shm_core *core = &station->cores[c];
        uint32_t ready = spsc_ready(&core->submit);
        for (uint32_t i = 0; i < ready; i++) {
            uint32_t slot = *(const uint32_t *)spsc_slot_out(&core->submit, i) % SHM_SLOTS;
            push(&station->intake, core->slots[slot].key_index % KEYS_MAX, (uint16_t)c,
                 (uint16_t)slot);
        }
        if (ready != 0)
            spsc_release(&core->submit, ready);
    }
}

static bool any_ready(struct station *station)
{
    for (uint32_t c = 0; c < station->config.core_count; c++) {
        if (spsc_ready(&station->cores[c].submit) != 0)
            return true;
    }
    return false;
}

/* --- sleeping --- */

static void wait_token(struct shm_signer *shm)
{
    for (;;) {
        uint32_t tokens = atomic_load_explicit(&shm->tokens, memory_order_relaxed);
        while (tokens != 0) {
            if (atomic_compare_exchange_weak_explicit(&shm->tokens, &tokens, tokens - 1,
                                                      memory_order_acquire, memory_order_relaxed))
                return;
        }
        syscall(SYS_futex, &shm->tokens, FUTEX_WAIT, 0, NULL, NULL, 0);
    }
}

/* Takes itself back out of the sleepers; false when a waker was faster: its token is on the way. */
static bool stay_awake(struct shm_signer *shm)
{
    uint32_t sleepers = atomic_load_explicit(&shm->sleepers, memory_order_relaxed);
    while (sleepers != 0) {
        if (atomic_compare_exchange_weak_explicit(&shm->sleepers, &sleepers, sleepers - 1,
                                                  memory_order_relaxed, memory_order_relaxed))
            return true;
    }
    return false;
}

/* With the lock held; returns without it. */
static void sleep_for_work(struct worker *worker)
{
    struct station *station = worker->station;
    struct shm_signer *shm = station->shm;
    atomic_fetch_add_explicit(&shm->sleepers, 1, memory_order_relaxed);
    /* Dekker's with view_publish: count, then look. */
    atomic_thread_fence(memory_order_seq_cst);
    bool work = any_ready(station) || atomic_load_explicit(&station->stop, memory_order_relaxed);
    pthread_mutex_unlock(&station->intake.lock);
    if (work && stay_awake(shm))
        return;
    wait_token(shm);
    worker->woken = true;
    atomic_fetch_add_explicit(&shm->wakes_total, 1, memory_order_relaxed);
}

/* --- taking --- */

/* An average over the last few batches of all workers. */
static void note_service(struct worker *worker)
{
    struct shm_signer *shm = worker->station->shm;
    if (worker->batch_count == 0)
        return;
    uint64_t each = worker->batch_service_ns / worker->batch_count;
    uint64_t old = atomic_load_explicit(&shm->service_ns, memory_order_relaxed);
    uint64_t now = old == 0 ? each : (7 * old + each) / 8;
    atomic_store_explicit(&shm->service_ns, now == 0 ? 1 : now, memory_order_relaxed);
    worker->batch_count = 0;
    worker->batch_service_ns = 0;
}

static uint32_t divide_up(uint32_t a, uint32_t b)
{
    return (a + b - 1) / b;
}

/* A fair share of what is pending, at least what makes a wake worth it, at most what BATCH_NS has
 * room for. Of its share a worker takes half: while it signs that, the core can answer what it gave
 * back and send more, so that it need not wait when it returns. */
static uint32_t share_of(const struct station *station, uint64_t service)
{
    const struct intake *intake = &station->intake;
    uint32_t share = divide_up(intake->pending, 2 * station->config.sessions);
    uint32_t least = shm_share(service);
    uint64_t most = service == 0 ? 1 : BATCH_NS / service;
    if (share < least)
        share = least;
    if (share > most)
        share = most == 0 ? 1 : (uint32_t)most;
    if (share > intake->pending)
        share = intake->pending;
    return share < SIGN_BATCH_MAX ? share : SIGN_BATCH_MAX;
}

/* So that a token with PKCS#11 3.0 message signing sees one key for as long as can be. */
static void group_by_key(const struct station *station, struct slot_ref refs[], uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) { /* insertion: stable, and mostly one key */
        struct slot_ref ref = refs[i];
        uint32_t key = station->cores[ref.core].slots[ref.slot].key_index;
        uint32_t at = i;
        while (at != 0 &&
               station->cores[refs[at - 1].core].slots[refs[at - 1].slot].key_index > key) {
            refs[at] = refs[at - 1];
            at--;
        }
        refs[at] = ref;
    }
}

uint32_t intake_take(struct worker *worker, struct slot_ref out[SIGN_BATCH_MAX])
{
    struct station *station = worker->station;
    struct intake *intake = &station->intake;
    struct shm_signer *shm = station->shm;
    pthread_mutex_lock(&intake->lock);
    note_service(worker);
    if (worker->woken) {
        /* Dekker's with view_publish again: a core that still counts this worker as searching has
         * published what the worker is about to see. */
        atomic_fetch_sub_explicit(&shm->searching, 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst);
        worker->woken = false;
    }
    pull(station);
    if (intake->pending == 0) {
        sleep_for_work(worker);
        return 0;
    }
    uint64_t service = atomic_load_explicit(&shm->service_ns, memory_order_relaxed);
    uint32_t count = share_of(station, service);
    for (uint32_t i = 0; i < count; i++)
        out[i] = pop(intake);
    /* What stays behind is for others: cores only wake for what they bring themselves. */
    uint32_t wanted = divide_up(intake->pending, shm_share(service));
    uint32_t searching = atomic_load_explicit(&shm->searching, memory_order_relaxed);
    bool wake =
        wanted > searching && atomic_load_explicit(&shm->sleepers, memory_order_relaxed) != 0;
    pthread_mutex_unlock(&intake->lock);
    if (wake)
        shm_wake(shm, wanted - searching);
    group_by_key(station, out, count);
    return count;
}

void intake_return(struct worker *worker, const struct slot_ref refs[], uint32_t count)
{
    struct station *station = worker->station;
    struct intake *intake = &station->intake;
    pthread_mutex_lock(&intake->lock);
    for (uint32_t i = 0; i < count; i++)
        push(intake, station->cores[refs[i].core].slots[refs[i].slot].key_index % KEYS_MAX,
             refs[i].core, refs[i].slot);
    pthread_mutex_unlock(&intake->lock);
    shm_wake(station->shm, count);
}

/* --- giving back --- */

/* With the core's done_lock, after publishing: may waking it be left to a later result? It costs
 * two context switches, more than all else here, and takes the processor from a worker that may
 * hold a lock of the token's.
 *
 * No result is left behind: it is held only while a job of this core waits in the intake. Whoever
 * publishes that job decides anew, under this lock; had that been before now, taking the job would
 * have been too, and the count read here would be without it. So the last of any sequence of
 * results wakes. Should the token stop answering before that, the core finds what was held when it
 * looks for stalls, if not before: it is in the ring. */
static bool may_hold(struct station *station, uint16_t core, uint32_t unread_before,
                     uint32_t unread, uint64_t now)
{
    struct unread *times = &station->unread[core];
    uint64_t gap = now - times->last_ns;
    times->last_ns = now;
    if (unread_before == 0)
        times->since_ns = now;
    uint32_t pending =
        atomic_load_explicit(&station->intake.pending_of[core], memory_order_relaxed);
    bool soon = now + gap < times->since_ns + HOLD_NS; /* if the next takes as long as this did */
    /* while the core wakes and sends more, no worker should run out of work */
    return pending > station->config.sessions && unread < HOLD_RESULTS && soon;
}

static void publish_core(struct station *station, uint16_t core_index, const struct slot_ref refs[],
                         const struct shm_done results[], uint32_t count)
{
    struct shm_core *core = &station->cores[core_index];
    pthread_mutex_lock(&station->done_lock[core_index]);
    uint32_t space = spsc_space(&core->done), filled = 0;
    for (uint32_t i = 0; i < count && filled < space; i++) {
        if (refs[i].core == core_index)
            *(struct shm_done *)spsc_slot_in(&core->done, filled++) = results[i];
    }
    spsc_publish(&core->done, filled);
    uint32_t unread = SHM_SLOTS - space;
    bool held = may_hold(station, core_index, unread, unread + filled, clock_mono_ns());
    pthread_mutex_unlock(&station->done_lock[core_index]);
    if (!held)
        wake_signal(&station->wakes[core_index]);
}

/* 1: 0, 2: 1, 3 and 4: 2, ... SIGN_BATCH_MAX: the last. */
static uint32_t batch_bucket(uint32_t count)
{
    return count <= 1 ? 0 : 32 - (uint32_t)__builtin_clz(count - 1);
}

void intake_publish(struct station *station, const struct slot_ref refs[],
                    const struct shm_done results[], uint32_t count)
{
    uint64_t cores = 0;
    for (uint32_t i = 0; i < count; i++)
        cores |= 1ull << refs[i].core;
    for (; cores != 0; cores &= cores - 1)
        publish_core(station, (uint16_t)__builtin_ctzll(cores), refs, results, count);
    struct shm_signer *shm = station->shm;
    atomic_fetch_add_explicit(&shm->batches_total, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&shm->batches_by_size[batch_bucket(count)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&shm->batch_jobs_total, count, memory_order_relaxed);
}

void intake_wake_all(struct station *station)
{
    struct shm_signer *shm = station->shm;
    atomic_fetch_add_explicit(&shm->tokens, station->config.sessions, memory_order_release);
    syscall(SYS_futex, &shm->tokens, FUTEX_WAKE, station->config.sessions, NULL, NULL, 0);
}
