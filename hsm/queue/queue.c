#include "hsm/queue/queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "hsm/queue/internal.h"

/* --- a core's memory --- */

enum err core_init(struct hsm *hsm, uint32_t index)
{
    struct core *core = &hsm->cores[index];
    size_t sides_len = (size_t)SIGN_JOBS_PER_CORE_MAX * SIGN_INPUT_MAX;
    *core = (struct core){
        .hsm = hsm,
        .index = index,
        .jobs = calloc(SIGN_JOBS_PER_CORE_MAX, sizeof(struct job)),
        .heap = calloc(SIGN_JOBS_PER_CORE_MAX, sizeof(uint32_t)),
        .views = aligned_alloc(_Alignof(struct view), hsm->signer_count * sizeof(struct view)),
        .service = calloc(hsm->token_count, sizeof(struct hist)),
        .delayed_min_ns = UINT64_MAX,
        .held_until_ns = UINT64_MAX,
        .stall_check_ns = UINT64_MAX,
    };
    void *sides = mmap(NULL, sides_len, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    core->sides = sides == MAP_FAILED ? NULL : sides;
    if (core->jobs == NULL || core->heap == NULL || core->views == NULL || core->service == NULL ||
        core->sides == NULL)
        return ERR_NO_SPACE;
    memset(core->views, 0, hsm->signer_count * sizeof(struct view));
    for (uint32_t i = 0; i < SIGN_JOBS_PER_CORE_MAX; i++)
        core->jobs[i].next = i + 1 < SIGN_JOBS_PER_CORE_MAX ? i + 1 : JOB_NONE;
    for (uint32_t i = 0; i < KEYS_MAX; i++)
        list_init(&core->pending[i]);
    list_init(&core->delayed);
    list_init(&core->finished);
    return ERR_OK;
}

void core_free(struct core *core)
{
    free(core->jobs);
    free(core->heap);
    free(core->views);
    free(core->service);
    if (core->sides != NULL)
        munmap(core->sides, (size_t)SIGN_JOBS_PER_CORE_MAX * SIGN_INPUT_MAX);
}

struct job *job_take(struct core *core)
{
    if (core->free_job == JOB_NONE)
        return NULL;
    struct job *job = &core->jobs[core->free_job];
    core->free_job = job->next;
    core->live++;
    return job;
}

void job_free(struct core *core, struct job *job)
{
    heap_remove(core, job_index(core, job));
    job->state = JOB_FREE;
    job->next = core->free_job;
    core->free_job = job_index(core, job);
    core->live--;
}

void job_finish(struct core *core, struct job *job, enum err err)
{
    job->state = JOB_FINISHED;
    job->err = err;
    list_push(core, &core->finished, job);
}

/* --- submit --- */

static void follow_all(struct core *core, uint64_t now)
{
    for (uint32_t i = 0; i < core->hsm->signer_count; i++)
        view_follow(core, i, now);
}

static void accept_job(struct core *core, struct job *job, const struct sign_job *wanted,
                       uint64_t now)
{
    uint64_t latest = now + core->hsm->keys[wanted->key_index].deadline_ns;
    job->tag = wanted->tag;
    job->key_index = wanted->key_index;
    job->input_len = (uint32_t)wanted->input.len;
    job->deadline_ns =
        wanted->deadline_ns != 0 && wanted->deadline_ns < latest ? wanted->deadline_ns : latest;
    job->signer = SIGNER_NONE;
    job->attempts = 0;
    job->probe = false;
    job->avoid = 0;
    job->no_key = 0;
    uint8_t *copy = job->input_len > SHM_INLINE
                        ? core->sides + (size_t)job_index(core, job) * SIGN_INPUT_MAX
                        : job->input;
    if (job->input_len != 0)
        memcpy(copy, wanted->input.ptr, job->input_len);
    heap_push(core, job_index(core, job));
    job_make_pending(core, job);
}

uint32_t hsm_submit(struct hsm *hsm, uint32_t core_index, const struct sign_job jobs[],
                    uint32_t count, enum err *out_err)
{
    assert(core_index < hsm->core_count);
    struct core *core = &hsm->cores[core_index];
    uint64_t now = clock_mono_ns();
    uint64_t keys_seen = 0; /* keys that have been found available in this call */
    uint32_t accepted = 0;
    enum err err = ERR_OK;
    if (atomic_load_explicit(&hsm->stopping, memory_order_relaxed) != 0)
        err = ERR_STOPPING;
    while (err == ERR_OK && accepted < count) {
        const struct sign_job *wanted = &jobs[accepted];
        assert(wanted->key_index < atomic_load_explicit(&hsm->key_count, memory_order_acquire) &&
               wanted->input.len <= SIGN_INPUT_MAX);
        if ((keys_seen >> wanted->key_index & 1) == 0)
            err = key_available(hsm, wanted->key_index, now);
        keys_seen |= 1ull << wanted->key_index;
        struct job *job = err == ERR_OK ? job_take(core) : NULL;
        if (job == NULL) {
            err = err == ERR_OK ? ERR_FULL : err;
        } else {
            accept_job(core, job, wanted, now);
            accepted++;
        }
    }
    if (accepted != 0) {
        follow_all(core, now);
        dispatch(core, now);
    }
    *out_err = err;
    return accepted;
}

/* --- poll --- */

struct delivery {
    void (*fn)(void *ctx, const struct sign_result *result);
    void *ctx;
    uint32_t count, max;
};

static void deliver(struct core *core, struct job *job, enum err err, struct delivery *delivery)
{
    core->result.tag = job->tag;
    core->result.err = err;
    core->result.key_index = job->key_index;
    if (err != ERR_OK) {
        core->result.token_index = 0;
        core->result.signature_len = 0;
        core->result.service_ns = 0;
    }
    job_free(core, job); /* before fn, which may submit again */
    delivery->count++;
    delivery->fn(delivery->ctx, &core->result);
}

static void signed_ok(struct core *core, uint32_t signer_index, struct job *job,
                      const struct shm_done *record, struct delivery *delivery)
{
    struct signer *signer = &core->hsm->signers[signer_index];
    core->result.token_index = signer->token_index;
    core->result.signature_len = record->signature_len;
    core->result.service_ns = record->service_ns;
    hist_add(&core->service[signer->token_index], record->service_ns);
    deliver(core, job, ERR_OK, delivery);
}

static void tried(struct core *core, uint32_t signer_index, struct job *job,
                  const struct shm_done *record, uint64_t now, struct delivery *delivery)
{
    struct signer *signer = &core->hsm->signers[signer_index];
    bool probe = job->probe;
    job->probe = false;
    job->signer = SIGNER_NONE;
    switch ((enum shm_outcome)record->outcome) {
    case SHM_SIGNED:
        breaker_succeeded(signer);
        signed_ok(core, signer_index, job, record, delivery);
        return;
    case SHM_RETRY:
        breaker_failed(signer, now, probe);
        job->avoid |= 1u << signer_index;
        job_try_again(core, job, now);
        break;
    case SHM_KEY_MISSING:
        job->no_key |= 1u << signer_index;
        job_make_pending(core, job); /* dispatch finishes it when nobody is left */
        break;
    case SHM_REFUSED:
        job_finish(core, job, ERR_SIGNER_FAILED);
        break;
    case SHM_EXPIRED:
        job_finish(core, job, ERR_DEADLINE);
        break;
    case SHM_OUTCOME_COUNT:
        break;
    }
    if (record->outcome == SHM_RETRY || record->outcome == SHM_REFUSED ||
        record->outcome == SHM_KEY_MISSING)
        atomic_fetch_add_explicit(&signer->errors_total, 1, memory_order_relaxed);
    if (probe && record->outcome != SHM_RETRY)
        atomic_store_explicit(&signer->breaker_probing, 0, memory_order_release);
}

static void receive(struct core *core, uint32_t signer_index, uint64_t now,
                    struct delivery *delivery)
{
    struct signer *signer = &core->hsm->signers[signer_index];
    struct view *view = &core->views[signer_index];
    if (view->shm == NULL || view->broken)
        return;
    uint32_t epoch = atomic_load_explicit(&view->bound, memory_order_relaxed);
    uint32_t ready = spsc_ready(&view->rings.done);
    uint32_t done = 0;
    /* fn may submit, and a submit may find the signer dead: then this memory is not ours any more
     */
    while (done < ready && delivery->count < delivery->max && !view->broken &&
           atomic_load_explicit(&view->bound, memory_order_relaxed) == epoch) {
        struct shm_done record;
        uint32_t job;
        if (!view_receive(core, signer_index, spsc_slot_out(&view->rings.done, 0), &record, &job)) {
            view_break(core, signer_index, "a result for a job it does not have, or too long");
            break;
        }
        /* before the slot is used again: the ring has as many places as there are slots */
        spsc_release(&view->rings.done, 1);
        done++;
        if (job != JOB_NONE)
            tried(core, signer_index, &core->jobs[job], &record, now, delivery);
    }
    if (view->rings.done.corrupt && !view->broken)
        view_break(core, signer_index, "its ring counters make no sense");
    if (done == 0)
        return;
    atomic_fetch_sub_explicit(&signer->in_flight, done, memory_order_relaxed);
    view->progress_ns = now;
    if (atomic_load_explicit(&signer->stalled_ns, memory_order_relaxed) != 0)
        atomic_store_explicit(&signer->stalled_ns, 0, memory_order_relaxed);
}

static void expire(struct core *core, uint64_t now, struct delivery *delivery)
{
    while (core->heap_len != 0 && delivery->count < delivery->max) {
        struct job *job = &core->jobs[core->heap[0]];
        if (job->deadline_ns > now)
            return;
        if (job->state == JOB_FINISHED)
            return; /* its error is delivered in a moment, and is the better answer */
        if (job->state == JOB_SENT) {
            struct signer *signer = &core->hsm->signers[job->signer];
            atomic_fetch_add_explicit(&signer->expired_total, 1, memory_order_relaxed);
            breaker_failed(signer, now, job->probe);
            view_abandon(core, job);
        }
        job_unlink(core, job);
        deliver(core, job, ERR_DEADLINE, delivery);
    }
}

uint32_t hsm_poll(struct hsm *hsm, uint32_t core_index, uint32_t max,
                  void (*fn)(void *ctx, const struct sign_result *result), void *ctx)
{
    assert(core_index < hsm->core_count);
    struct core *core = &hsm->cores[core_index];
    struct delivery delivery = {.fn = fn, .ctx = ctx, .max = max};
    uint64_t now = clock_mono_ns();
    for (uint32_t i = 0; i < hsm->signer_count; i++) {
        receive(core, (core->next_signer + i) % hsm->signer_count, now, &delivery);
    }
    core->next_signer = (core->next_signer + 1) % hsm->signer_count;
    follow_all(core, now); /* after receive: what a signer finished before it died still counts */
    if (core->live == 0)
        return delivery.count;
    check_stalls(core, now);
    wake_delayed(core, now);
    dispatch(core, now);
    struct job *job;
    while (delivery.count < delivery.max && (job = list_pop(core, &core->finished)) != NULL)
        deliver(core, job, job->err, &delivery);
    expire(core, now, &delivery);
    return delivery.count;
}

bool hsm_pending(struct hsm *hsm, uint32_t core_index)
{
    struct core *core = &hsm->cores[core_index];
    if (core->finished.head != JOB_NONE)
        return true;
    for (uint32_t i = 0; i < hsm->signer_count; i++) {
        struct view *view = &core->views[i];
        uint32_t bound = atomic_load_explicit(&view->bound, memory_order_relaxed);
        uint32_t dead = atomic_load_explicit(&hsm->signers[i].epoch_dead, memory_order_acquire);
        if (bound != 0) {
            if (bound <= dead || (!view->broken && spsc_ready(&view->rings.done) != 0))
                return true;
        } else if (atomic_load_explicit(&hsm->signers[i].epoch_up, memory_order_acquire) > dead) {
            return true;
        }
    }
    return false;
}

uint64_t hsm_next_deadline(struct hsm *hsm, uint32_t core_index)
{
    const struct core *core = &hsm->cores[core_index];
    if (core->live == 0)
        return UINT64_MAX;
    uint64_t next = core->heap_len != 0 ? core->jobs[core->heap[0]].deadline_ns : UINT64_MAX;
    if (core->delayed_min_ns < next)
        next = core->delayed_min_ns;
    if (core->held_until_ns < next)
        next = core->held_until_ns;
    return core->stall_check_ns < next ? core->stall_check_ns : next;
}
