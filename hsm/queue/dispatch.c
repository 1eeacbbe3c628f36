#include "base/clock.h"
#include "hsm/queue/internal.h"

void list_init(struct job_list *list)
{
    list->head = list->tail = JOB_NONE;
}

void list_push(struct core *core, struct job_list *list, struct job *job)
{
    uint32_t index = job_index(core, job);
    job->next = JOB_NONE;
    job->prev = list->tail;
    if (list->tail == JOB_NONE)
        list->head = index;
    else
        core->jobs[list->tail].next = index;
    list->tail = index;
}

static void list_remove(struct core *core, struct job_list *list, struct job *job)
{
    if (job->prev == JOB_NONE)
        list->head = job->next;
    else
        core->jobs[job->prev].next = job->next;
    if (job->next == JOB_NONE)
        list->tail = job->prev;
    else
        core->jobs[job->next].prev = job->prev;
}

struct job *list_pop(struct core *core, struct job_list *list)
{
    if (list->head == JOB_NONE)
        return NULL;
    struct job *job = &core->jobs[list->head];
    list_remove(core, list, job);
    return job;
}

static bool is_waiting(const struct job *job)
{
    return job->state == JOB_PENDING || job->state == JOB_DELAYED;
}

static void count_waiting(struct core *core, const struct job *job, uint32_t change)
{
    _Atomic uint32_t *count = &core->waiting[job->key_index];
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + change,
                          memory_order_relaxed);
}

void job_make_pending(struct core *core, struct job *job)
{
    if (!is_waiting(job))
        count_waiting(core, job, 1);
    job->state = JOB_PENDING;
    list_push(core, &core->pending[job->key_index], job);
    core->pending_keys |= 1ull << job->key_index;
}

void job_unlink(struct core *core, struct job *job)
{
    if (is_waiting(job))
        count_waiting(core, job, UINT32_MAX); /* one fewer */
    if (job->state == JOB_PENDING) {
        struct job_list *list = &core->pending[job->key_index];
        list_remove(core, list, job);
        if (list->head == JOB_NONE)
            core->pending_keys &= ~(1ull << job->key_index);
    } else if (job->state == JOB_DELAYED) {
        list_remove(core, &core->delayed, job);
    }
}

static void job_delay(struct core *core, struct job *job, uint64_t now)
{
    if (!is_waiting(job))
        count_waiting(core, job, 1);
    job->state = JOB_DELAYED;
    job->not_before_ns = now + (RETRY_DELAY_NS << (job->attempts - 1));
    if (job->not_before_ns < core->delayed_min_ns)
        core->delayed_min_ns = job->not_before_ns;
    list_push(core, &core->delayed, job);
}

void job_try_again(struct core *core, struct job *job, uint64_t now)
{
    struct hsm *hsm = core->hsm;
    if (++job->attempts >= SIGN_ATTEMPTS_MAX) {
        job_finish(core, job, ERR_SIGNER_FAILED);
        return;
    }
    uint32_t others = hsm->keys[job->key_index].signers & ~job->avoid & ~job->no_key;
    for (; others != 0; others &= others - 1) {
        struct signer *other = &hsm->signers[__builtin_ctz(others)];
        if (signer_is_up(other) && !breaker_is_open(other, now)) {
            job_make_pending(core, job);
            return;
        }
    }
    job->avoid = 0;
    job_delay(core, job, now);
}

void wake_delayed(struct core *core, uint64_t now)
{
    if (now < core->delayed_min_ns)
        return;
    uint64_t min = UINT64_MAX;
    uint32_t next;
    for (uint32_t i = core->delayed.head; i != JOB_NONE; i = next) {
        struct job *job = &core->jobs[i];
        next = job->next;
        if (job->not_before_ns <= now) {
            list_remove(core, &core->delayed, job);
            job_make_pending(core, job);
        } else if (job->not_before_ns < min) {
            min = job->not_before_ns;
        }
    }
    core->delayed_min_ns = min;
}

/* How many jobs one core gives one signer ahead of time: enough that no session waits for the
 * core's next turn, few enough that a stall or a better signer finds them still here. */
static uint32_t window_of(const struct core *core, const struct view *view,
                          const struct signer *signer)
{
    uint64_t service = atomic_load_explicit(&view->shm->service_ns, memory_order_relaxed);
    if (service == 0)
        service = 200000; /* nothing measured yet */
    uint64_t ahead = AHEAD_NS * signer->sessions / service / core->hsm->core_count;
    uint64_t window = ahead + 2 * signer->sessions;
    return window < SHM_SLOTS ? (uint32_t)window : SHM_SLOTS;
}

static bool may_take(struct core *core, uint32_t signer_index, const struct job *job, uint64_t now)
{
    struct signer *signer = &core->hsm->signers[signer_index];
    const struct view *view = &core->views[signer_index];
    bool side = job->input_len > SHM_INLINE || core->hsm->keys[job->key_index].large;
    if (!view_can_take(view, side) || !breaker_allows(signer, now) ||
        atomic_load_explicit(&view->shm->key_state[job->key_index], memory_order_acquire) != 0 ||
        atomic_load_explicit(&signer->stalled_ns, memory_order_relaxed) != 0 ||
        view->in_flight >= window_of(core, view, signer))
        return false;
    uint32_t limit = atomic_load_explicit(&signer->limit, memory_order_relaxed);
    return limit == UINT32_MAX ||
           atomic_load_explicit(&signer->in_flight, memory_order_relaxed) + view->unpublished <
               limit / LIMIT_UNIT;
}

/* The signer with the least outstanding for each of its sessions, or SIGNER_NONE. */
static uint32_t pick(struct core *core, const struct job *job, uint32_t candidates, uint64_t now)
{
    struct hsm *hsm = core->hsm;
    uint32_t best = SIGNER_NONE;
    uint64_t best_load = UINT64_MAX;
    for (; candidates != 0; candidates &= candidates - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(candidates);
        if (!may_take(core, i, job, now))
            continue;
        uint64_t load = atomic_load_explicit(&hsm->signers[i].in_flight, memory_order_relaxed);
        load = ((load + core->views[i].unpublished) << 16) / hsm->signers[i].sessions;
        if (load < best_load) {
            best_load = load;
            best = i;
        }
    }
    return best;
}

static bool place(struct core *core, struct job *job, uint64_t now)
{
    uint32_t all = core->hsm->keys[job->key_index].signers & ~job->no_key;
    uint32_t at = pick(core, job, all & ~job->avoid, now);
    if (at == SIGNER_NONE && (all & job->avoid) != 0)
        at = pick(core, job, all & job->avoid, now);
    if (at == SIGNER_NONE)
        return false;
    bool ok;
    bool probe = breaker_claim(&core->hsm->signers[at], now, &ok);
    if (!ok)
        return false;
    job_unlink(core, job);
    job->probe = probe;
    view_send(core, at, job, now);
    return true;
}

enum err key_available(struct hsm *hsm, uint32_t key_index, uint64_t now)
{
    for (uint32_t rest = hsm->keys[key_index].signers; rest != 0; rest &= rest - 1) {
        struct signer *signer = &hsm->signers[__builtin_ctz(rest)];
        if (atomic_load_explicit(&signer->failed, memory_order_relaxed) != 0)
            continue;
        if (signer_is_up(signer)) {
            if (!breaker_is_open(signer, now))
                return ERR_OK;
        } else if (now - atomic_load_explicit(&signer->down_since_ns, memory_order_relaxed) <
                   DOWN_GRACE_NS) {
            return ERR_OK; /* it is being restarted */
        }
    }
    return ERR_SIGNER_UNAVAILABLE;
}

enum err job_hopeless(struct core *core, const struct job *job)
{
    struct hsm *hsm = core->hsm;
    enum err reason = ERR_SIGNER_UNAVAILABLE;
    for (uint32_t rest = hsm->keys[job->key_index].signers; rest != 0; rest &= rest - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(rest);
        uint32_t failed = atomic_load_explicit(&hsm->signers[i].failed, memory_order_relaxed);
        const struct view *view = &core->views[i];
        if (failed == ERR_PIN_WRONG)
            reason = ERR_PIN_WRONG;
        else if (failed != 0)
            continue;
        else if ((job->no_key >> i & 1) != 0 ||
                 (view->shm != NULL && atomic_load_explicit(&view->shm->key_state[job->key_index],
                                                            memory_order_relaxed) != 0))
            reason = ERR_KEY_NOT_FOUND;
        else
            return ERR_OK;
    }
    return reason;
}

void dispatch(struct core *core, uint64_t now)
{
    uint64_t keys = core->pending_keys;
    core->held_until_ns = UINT64_MAX;
    if (keys == 0)
        return;
    uint32_t at = core->next_key;
    while (keys != 0) {
        /* one job of each key in turn, from where the last turn ended */
        uint64_t later = keys >> at << at;
        at = (uint32_t)__builtin_ctzll(later != 0 ? later : keys);
        struct job *job = &core->jobs[core->pending[at].head];
        if (!place(core, job, now)) {
            enum err err = job_hopeless(core, job);
            if (err == ERR_OK) {
                keys &= ~(1ull << at); /* no room for this key now */
            } else {
                job_unlink(core, job);
                job_finish(core, job, err);
            }
        }
        keys &= core->pending_keys;
        at = (at + 1) % KEYS_MAX;
    }
    core->next_key = at;
    for (uint32_t i = 0; i < core->hsm->signer_count; i++) {
        if (core->views[i].unpublished != 0)
            view_publish(core, i);
    }
    /* What could not be placed waits for a result, a restart or a breaker: the first two wake this
     * core, unless they are another core's. */
    if (core->pending_keys != 0)
        core->held_until_ns = now + HELD_CHECK_NS;
}

void check_stalls(struct core *core, uint64_t now)
{
    if (now < core->stall_check_ns)
        return;
    uint64_t next = UINT64_MAX;
    for (uint32_t i = 0; i < core->hsm->signer_count; i++) {
        struct view *view = &core->views[i];
        struct signer *signer = &core->hsm->signers[i];
        if (view->shm == NULL || view->in_flight == 0)
            continue;
        uint64_t due = view->progress_ns + view_stall_ns(view);
        if (due <= now) {
            if (atomic_load_explicit(&signer->stalled_ns, memory_order_relaxed) == 0)
                atomic_store_explicit(&signer->stalled_ns, now, memory_order_relaxed);
            view_rescue(core, i, now);
            due = now + STALL_NS; /* again for what could not go elsewhere */
        }
        if (due < next)
            next = due;
    }
    core->stall_check_ns = next;
}
