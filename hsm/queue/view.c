#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "hsm/queue/internal.h"

enum { SIDE_NONE = 0xffff };
#define SERVICE_MAX_NS (3600 * NS_PER_S) /* so that no claim overflows a histogram's sum */

static void bind(struct view *view, struct shm_signer *shm, uint32_t core_index, uint64_t now)
{
    view->shm = shm;
    view->broken = false;
    view->in_flight = 0;
    view->unpublished = 0;
    view->progress_ns = now;
    shm_bind(shm, core_index, &view->rings);
    view->free_slot_count = SHM_SLOTS;
    for (uint32_t i = 0; i < SHM_SLOTS; i++) {
        view->free_slots[i] = (uint16_t)(SHM_SLOTS - 1 - i);
        view->slot_job[i] = JOB_NONE;
        view->slot_side[i] = SIDE_NONE;
        view->slot_busy[i] = 0;
    }
    view->free_side_count = SHM_SIDES;
    for (uint32_t i = 0; i < SHM_SIDES; i++)
        view->free_sides[i] = (uint16_t)(SHM_SIDES - 1 - i);
}

/* Every job that is with the signer is pending again. One that the signer had begun to sign counts
 * as tried: a job that crashes its signer must not crash them all for ever. */
static void take_back(struct core *core, uint32_t signer_index)
{
    struct view *view = &core->views[signer_index];
    struct signer *signer = &core->hsm->signers[signer_index];
    for (uint32_t slot = 0; slot < SHM_SLOTS; slot++) {
        if (view->slot_job[slot] == JOB_NONE)
            continue;
        struct job *job = &core->jobs[view->slot_job[slot]];
        view->slot_job[slot] = JOB_NONE;
        job->signer = SIGNER_NONE;
        if (job->probe)
            atomic_store_explicit(&signer->breaker_probing, 0, memory_order_release);
        job->probe = false;
        if (atomic_load_explicit(&view->rings.slots[slot].taken, memory_order_relaxed) ==
                SHM_BEGUN &&
            ++job->attempts >= SIGN_ATTEMPTS_MAX)
            job_finish(core, job, ERR_SIGNER_FAILED);
        else
            job_make_pending(core, job);
    }
    atomic_fetch_sub_explicit(&signer->in_flight, view->in_flight, memory_order_relaxed);
    view->in_flight = 0;
}

void view_follow(struct core *core, uint32_t signer_index, uint64_t now)
{
    struct signer *signer = &core->hsm->signers[signer_index];
    struct view *view = &core->views[signer_index];
    uint32_t bound = atomic_load_explicit(&view->bound, memory_order_relaxed);
    uint32_t dead = atomic_load_explicit(&signer->epoch_dead, memory_order_acquire);
    if (bound != 0 && bound <= dead) {
        take_back(core, signer_index);
        view->shm = NULL;
        atomic_store_explicit(&view->bound, 0, memory_order_release);
        bound = 0;
    }
    uint32_t up = atomic_load_explicit(&signer->epoch_up, memory_order_acquire);
    if (bound != 0 || up <= dead)
        return;
    /* Say so, then look again: see internal.h. */
    atomic_store_explicit(&view->bound, up, memory_order_seq_cst);
    if (atomic_load_explicit(&signer->epoch_dead, memory_order_seq_cst) >= up) {
        atomic_store_explicit(&view->bound, 0, memory_order_release);
        return;
    }
    bind(view, atomic_load_explicit(&signer->maps[up % EPOCHS_KEPT], memory_order_acquire),
         core->index, now);
}

bool view_can_take(const struct view *view, bool side)
{
    return view->shm != NULL && !view->broken && view->free_slot_count != 0 &&
           (!side || view->free_side_count != 0);
}

void view_send(struct core *core, uint32_t signer_index, struct job *job, uint64_t now)
{
    struct view *view = &core->views[signer_index];
    bool large = job->input_len > SHM_INLINE || core->hsm->keys[job->key_index].large;
    uint16_t slot_index = view->free_slots[--view->free_slot_count];
    uint32_t side = large ? view->free_sides[--view->free_side_count] : SHM_SIDE_NONE;
    struct shm_slot *slot = &view->rings.slots[slot_index];
    slot->key_index = job->key_index;
    slot->input_len = job->input_len;
    slot->deadline_ns = job->deadline_ns;
    slot->side = side;
    atomic_store_explicit(&slot->taken, SHM_WAITING, memory_order_relaxed);
    const uint8_t *input = job->input_len > SHM_INLINE
                               ? core->sides + (size_t)job_index(core, job) * SIGN_INPUT_MAX
                               : job->input;
    memcpy(shm_data(&view->rings, slot, side), input, job->input_len);
    *(uint32_t *)spsc_slot_in(&view->rings.submit, view->unpublished++) = slot_index;

    view->slot_job[slot_index] = job_index(core, job);
    view->slot_side[slot_index] = large ? (uint16_t)side : SIDE_NONE;
    view->slot_busy[slot_index] = 1;
    if (view->in_flight++ == 0) {
        view->progress_ns = now;
        if (core->stall_check_ns == UINT64_MAX)
            core->stall_check_ns = now + STALL_NS;
    }
    job->state = JOB_SENT;
    job->signer = (uint8_t)signer_index;
    job->slot = slot_index;
}

void view_publish(struct core *core, uint32_t signer_index)
{
    struct view *view = &core->views[signer_index];
    struct shm_signer *shm = view->shm;
    uint32_t count = view->unpublished;
    view->unpublished = 0;
    atomic_fetch_add_explicit(&core->hsm->signers[signer_index].in_flight, count,
                              memory_order_relaxed);
    spsc_publish(&view->rings.submit, count);
    /* Dekker's with a worker that goes to sleep: it counts itself as sleeping, then looks at the
     * rings. */
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&shm->sleepers, memory_order_relaxed) == 0)
        return;
    uint32_t waiting = SHM_SLOTS - spsc_space(&view->rings.submit);
    uint32_t share = shm_share(atomic_load_explicit(&shm->service_ns, memory_order_relaxed));
    uint32_t useful = (waiting + share - 1) / share;
    uint32_t searching = atomic_load_explicit(&shm->searching, memory_order_relaxed);
    if (useful > searching)
        shm_wake(shm, useful - searching);
}

/* All that the signer wrote is read here, once, and checked. */
static bool record_is_sane(const struct view *view, const struct shm_done *record)
{
    if (record->slot >= SHM_SLOTS || !view->slot_busy[record->slot] ||
        record->outcome >= SHM_OUTCOME_COUNT)
        return false;
    if (record->outcome != SHM_SIGNED)
        return true;
    uint32_t cap = view->slot_side[record->slot] == SIDE_NONE ? SHM_INLINE : SIGNATURE_MAX;
    return record->signature_len != 0 && record->signature_len <= cap;
}

bool view_receive(struct core *core, uint32_t signer_index, const struct shm_done *shared,
                  struct shm_done *out, uint32_t *out_job)
{
    struct view *view = &core->views[signer_index];
    const volatile struct shm_done *there = shared;
    struct shm_done record = {
        .slot = there->slot,
        .outcome = there->outcome,
        .rv = there->rv,
        .signature_len = there->signature_len,
        .service_ns = there->service_ns,
    };
    if (!record_is_sane(view, &record))
        return false;

    uint32_t side =
        view->slot_side[record.slot] == SIDE_NONE ? SHM_SIDE_NONE : view->slot_side[record.slot];
    *out_job = view->slot_job[record.slot];
    if (record.outcome == SHM_SIGNED && *out_job != JOB_NONE)
        memcpy(core->result.signature,
               shm_data(&view->rings, &view->rings.slots[record.slot], side), record.signature_len);
    view->slot_job[record.slot] = JOB_NONE;
    view->slot_busy[record.slot] = 0;
    view->free_slots[view->free_slot_count++] = (uint16_t)record.slot;
    if (side != SHM_SIDE_NONE) {
        view->free_sides[view->free_side_count++] = (uint16_t)side;
        view->slot_side[record.slot] = SIDE_NONE;
    }
    view->in_flight--;
    if (record.service_ns > SERVICE_MAX_NS)
        record.service_ns = SERVICE_MAX_NS;
    *out = record;
    return true;
}

void view_abandon(struct core *core, struct job *job)
{
    struct view *view = &core->views[job->signer];
    view->slot_job[job->slot] = JOB_NONE;
    if (job->probe)
        atomic_store_explicit(&core->hsm->signers[job->signer].breaker_probing, 0,
                              memory_order_release);
    job->probe = false;
    job->signer = SIGNER_NONE;
}

void view_break(struct core *core, uint32_t signer_index, const char *why)
{
    struct signer *signer = &core->hsm->signers[signer_index];
    struct view *view = &core->views[signer_index];
    log_error("signer-misbehaves", "signer=%u pid=%d why=\"%s\"", signer_index,
              atomic_load_explicit(&signer->status_pid, memory_order_relaxed), why);
    view->broken = true;
    take_back(core, signer_index);
    atomic_store_explicit(&signer->misbehaved,
                          atomic_load_explicit(&view->bound, memory_order_relaxed),
                          memory_order_release);
}

uint64_t view_stall_ns(const struct view *view)
{
    uint64_t service = atomic_load_explicit(&view->shm->service_ns, memory_order_relaxed);
    if (service > NS_PER_S)
        service = NS_PER_S; /* whatever it claims */
    return 16 * service > STALL_NS ? 16 * service : STALL_NS;
}

void view_rescue(struct core *core, uint32_t signer_index, uint64_t now)
{
    struct hsm *hsm = core->hsm;
    struct view *view = &core->views[signer_index];
    for (uint32_t slot = 0; slot < SHM_SLOTS; slot++) {
        if (view->slot_job[slot] == JOB_NONE)
            continue;
        struct job *job = &core->jobs[view->slot_job[slot]];
        uint32_t others = hsm->keys[job->key_index].signers & ~(1u << signer_index) & ~job->no_key;
        bool better = false;
        for (uint32_t rest = others; rest != 0 && !better; rest &= rest - 1) {
            struct signer *other = &hsm->signers[__builtin_ctz(rest)];
            better = signer_is_up(other) && !breaker_is_open(other, now) &&
                     atomic_load_explicit(&other->stalled_ns, memory_order_relaxed) == 0;
        }
        if (!better)
            continue;
        view_abandon(core, job);
        job->avoid |= 1u << signer_index;
        job_make_pending(core, job);
    }
}
