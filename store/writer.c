/* The writer thread: one transaction, one sync for whatever all cores have staged (group commit).
 *
 * A job's slot is known to exactly one place at any time: the core's free list, its staged ring,
 * the writer's batch, its done ring, or the core itself. So the rings, as long as the pool, never
 * fill.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/spsc.h"
#include "store/internal.h"

enum { REAP_EVERY = 256 }; /* commits between looks for dead readers */

enum writer_state { WRITER_RUNNING, WRITER_STOPPING, WRITER_STOPPED };

struct core_queue {
    /* the core's */
    _Alignas(64) struct spsc staged_in;
    struct spsc done_out;
    struct store_job *jobs; /* pages become resident when first used */
    uint16_t *free_list;    /* last in, first out: the warmest slot first */
    uint32_t free_count;
    bool unkicked;
    /* the writer's */
    _Alignas(64) struct spsc staged_out;
    struct spsc done_in;
    struct wake wake;
    uint32_t done_count; /* written into done_in, not yet published */
    void *mem;
    size_t mem_len;
};

struct store_writer {
    pthread_t thread;
    _Atomic int state; /* enum writer_state */
    struct wake_flag flag;
    struct wake wake;
    uint32_t core_count;
    uint32_t first_core; /* of the next round: no core is always last */
    uint32_t batch_count;
    uint32_t batch_weight; /* at most STORE_BATCH_MAX before the last job */
    struct store_job *batch[STORE_BATCH_MAX];
    uint8_t batch_core[STORE_BATCH_MAX];
    struct core_queue cores[];
};

static_assert(CORES_MAX <= UINT8_MAX + 1, "batch_core");
static_assert(STORE_JOBS_PER_CORE_MAX <= UINT16_MAX + 1, "free_list");

/* --- batches --- */

static bool any_staged(struct store_writer *writer)
{
    for (uint32_t i = 0; i < writer->core_count; i++)
        if (spsc_ready(&writer->cores[i].staged_out) != 0)
            return true;
    return false;
}

/* Jobs of one core until they weigh `share`; the last may weigh more. Returns how many. */
static uint32_t take_from(struct store_writer *writer, uint32_t core, uint32_t share)
{
    struct core_queue *queue = &writer->cores[core];
    uint32_t ready = spsc_ready(&queue->staged_out), end = writer->batch_weight + share, i = 0;
    for (; i < ready && writer->batch_weight < end && writer->batch_weight < STORE_BATCH_MAX; i++) {
        struct store_job *job;
        memcpy(&job, spsc_slot_out(&queue->staged_out, i), sizeof(job));
        writer->batch[writer->batch_count] = job;
        writer->batch_core[writer->batch_count++] = (uint8_t)core;
        writer->batch_weight += job->weight > 0 ? job->weight : 1;
    }
    spsc_release(&queue->staged_out, i);
    return i;
}

/* Every core that has jobs gets an equal share by weight; what one leaves goes to the others. */
static void collect(struct store_writer *writer)
{
    writer->batch_count = 0;
    writer->batch_weight = 0;
    uint32_t active = 0;
    for (uint32_t i = 0; i < writer->core_count; i++)
        active += spsc_ready(&writer->cores[i].staged_out) != 0;
    while (active != 0 && writer->batch_weight < STORE_BATCH_MAX) {
        uint32_t share = (STORE_BATCH_MAX - writer->batch_weight + active - 1) / active;
        active = 0;
        for (uint32_t i = 0; i < writer->core_count; i++) {
            uint32_t core = (writer->first_core + i) % writer->core_count;
            uint32_t ready = spsc_ready(&writer->cores[core].staged_out);
            active += take_from(writer, core, share) < ready;
        }
    }
    writer->first_core = (writer->first_core + 1) % writer->core_count;
}

/* ERR_OK, or what ends the transaction. */
static enum err apply_one(struct store_txn *txn, struct store_job *job)
{
    uint32_t writes = txn->writes;
    job->err = job->apply(txn, job);
    if (txn->failed != ERR_OK)
        return txn->failed;
    if (err_is_store(job->err))
        return job->err;
    if (job->err != ERR_OK && txn->writes != writes) {
        log_error("store-apply-broke-contract", "err=%s: refused after its first write",
                  err_code(job->err));
        return ERR_STORE_FAILED;
    }
    return ERR_OK;
}

static enum err apply_all(struct store *store, struct store_job *const jobs[], uint32_t count,
                          struct commit_token *out_token)
{
    struct store_txn *txn;
    enum err err = store_txn_begin(store, &txn);
    if (err != ERR_OK)
        return err;
    for (uint32_t i = 0; i < count && err == ERR_OK; i++)
        err = apply_one(txn, jobs[i]);
    if (err != ERR_OK) {
        store_txn_abort(txn);
        return err;
    }
    return store_txn_commit(txn, out_token);
}

static void note_health(struct store *store, enum err err)
{
    bool was_failing = atomic_load_explicit(&store->failing, memory_order_relaxed);
    if (err != ERR_OK && !was_failing)
        log_error("store-failing", "err=%s cause=\"%s\": nothing is issued until this is over",
                  err_code(err), db_last_error(&store->db));
    if (err == ERR_OK && was_failing)
        log_info("store-recovered", "commits again");
    atomic_store_explicit(&store->failing, err != ERR_OK, memory_order_relaxed);
}

/* What apply wrote into a job of a failed transaction has not happened: nothing of it may be seen.
 */
static void finish(struct store_job *job, enum err err, struct commit_token token)
{
    if (err != ERR_OK) {
        job->err = err;
        job->data_len = 0;
    }
    job->token = job->err == ERR_OK ? token : (struct commit_token){0};
}

enum err store_run(struct store *store, struct store_job *job)
{
    struct commit_token token = {0};
    assert(!store->db.read_only && job->apply != NULL && job->data_len <= sizeof(job->data));
    job->staged_ns = clock_mono_ns();
    enum err err = apply_all(store, &job, 1, &token);
    if (err == ERR_OK)
        atomic_fetch_add_explicit(&store->committed_jobs, 1, memory_order_relaxed);
    finish(job, err, token);
    return job->err;
}

static void settle(struct store_writer *writer, enum err err, struct commit_token token)
{
    for (uint32_t i = 0; i < writer->batch_count; i++) {
        struct store_job *job = writer->batch[i];
        finish(job, err, token);
        struct core_queue *queue = &writer->cores[writer->batch_core[i]];
        assert(spsc_space(&queue->done_in) > queue->done_count);
        memcpy(spsc_slot_in(&queue->done_in, queue->done_count++), &job, sizeof(job));
    }
    for (uint32_t i = 0; i < writer->core_count; i++) {
        struct core_queue *queue = &writer->cores[i];
        if (queue->done_count == 0)
            continue;
        spsc_publish(&queue->done_in, queue->done_count);
        queue->done_count = 0;
        wake_signal(&queue->wake);
    }
}

static void run_batch(struct store *store, struct store_writer *writer)
{
    struct commit_token token = {0};
    uint64_t before = atomic_load_explicit(&store->commits, memory_order_relaxed);
    enum err err = apply_all(store, writer->batch, writer->batch_count, &token);
    uint64_t commits = atomic_load_explicit(&store->commits, memory_order_relaxed);
    if (err != ERR_OK || commits % REAP_EVERY == 0)
        db_env_reap_readers(&store->db);
    if (err == ERR_OK)
        atomic_fetch_add_explicit(&store->committed_jobs, writer->batch_count,
                                  memory_order_relaxed);
    if (err != ERR_OK || commits != before) /* a batch that wrote nothing proves nothing */
        note_health(store, err);
    settle(writer, err, token);
}

static void sleep_until_kicked(struct store_writer *writer)
{
    wake_prepare(&writer->wake);
    if (!any_staged(writer) &&
        atomic_load_explicit(&writer->state, memory_order_acquire) == WRITER_RUNNING) {
        struct pollfd pollfd = {.fd = writer->wake.event_fd, .events = POLLIN};
        uint64_t count;
        while (poll(&pollfd, 1, -1) < 0 && errno == EINTR)
            ;
        while (read(pollfd.fd, &count, sizeof(count)) < 0 && errno == EINTR)
            ;
    }
    wake_cancel(&writer->wake);
}

static void *writer_main(void *arg)
{
    struct store *store = arg;
    struct store_writer *writer = store->writer;
    log_thread_attach();
    for (;;) {
        /* read before looking: what was staged before the stop is found after it */
        bool stopping =
            atomic_load_explicit(&writer->state, memory_order_acquire) == WRITER_STOPPING;
        collect(writer);
        if (writer->batch_count != 0)
            run_batch(store, writer);
        else if (stopping)
            break;
        else
            sleep_until_kicked(writer);
    }
    /* the last act on the rings: from here on a core answers its own late jobs in store_poll */
    atomic_store_explicit(&writer->state, WRITER_STOPPED, memory_order_release);
    for (uint32_t i = 0; i < writer->core_count; i++)
        wake_signal(&writer->cores[i].wake);
    return NULL;
}

/* --- start and stop --- */

static size_t aligned(size_t len)
{
    return (len + 63) & ~(size_t)63;
}

static enum err core_init(struct core_queue *queue, const struct wake *wake)
{
    size_t jobs_len = aligned(sizeof(struct store_job) * STORE_JOBS_PER_CORE_MAX);
    size_t ring_len = spsc_bytes(sizeof(struct store_job *), STORE_JOBS_PER_CORE_MAX);
    size_t free_len = aligned(sizeof(uint16_t) * STORE_JOBS_PER_CORE_MAX);
    size_t len = 2 * ring_len + free_len + jobs_len;
    uint8_t *mem =
        mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mem == MAP_FAILED)
        return ERR_STORE_FAILED;
    *queue = (struct core_queue){.mem = mem, .mem_len = len, .wake = *wake};
    spsc_bind(&queue->staged_in, mem, sizeof(struct store_job *), STORE_JOBS_PER_CORE_MAX, true);
    spsc_bind(&queue->staged_out, mem, sizeof(struct store_job *), STORE_JOBS_PER_CORE_MAX, false);
    mem += ring_len;
    spsc_bind(&queue->done_in, mem, sizeof(struct store_job *), STORE_JOBS_PER_CORE_MAX, true);
    spsc_bind(&queue->done_out, mem, sizeof(struct store_job *), STORE_JOBS_PER_CORE_MAX, false);
    mem += ring_len;
    queue->free_list = (uint16_t *)(void *)mem;
    queue->jobs = (struct store_job *)(void *)(mem + free_len);
    queue->free_count = STORE_JOBS_PER_CORE_MAX;
    for (uint32_t i = 0; i < STORE_JOBS_PER_CORE_MAX; i++)
        queue->free_list[i] = (uint16_t)(STORE_JOBS_PER_CORE_MAX - 1 - i);
    return ERR_OK;
}

static void writer_free(struct store *store)
{
    struct store_writer *writer = store->writer;
    if (writer == NULL)
        return;
    for (uint32_t i = 0; i < writer->core_count; i++)
        if (writer->cores[i].mem != NULL)
            munmap(writer->cores[i].mem, writer->cores[i].mem_len);
    if (writer->wake.event_fd >= 0)
        close(writer->wake.event_fd);
    free(writer);
    store->writer = NULL;
}

/* Signals are the main thread's. */
static int thread_start(struct store *store)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&store->writer->thread, NULL, writer_main, store);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc == 0)
        pthread_setname_np(store->writer->thread, "store-writer");
    return rc;
}

enum err store_start(struct store *store, uint32_t core_count, const struct wake core_wakes[])
{
    assert(store->writer == NULL && core_count >= 1 && core_count <= CORES_MAX);
    assert(!store->db.read_only);
    size_t len = sizeof(struct store_writer) + core_count * sizeof(struct core_queue);
    struct store_writer *writer = aligned_alloc(64, aligned(len));
    if (writer == NULL)
        return ERR_STORE_FAILED;
    memset(writer, 0, len);
    store->writer = writer;
    writer->core_count = core_count;
    writer->wake = (struct wake){&writer->flag, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    enum err err = writer->wake.event_fd < 0 ? ERR_STORE_FAILED : ERR_OK;
    for (uint32_t i = 0; i < core_count && err == ERR_OK; i++)
        err = core_init(&writer->cores[i], &core_wakes[i]);
    if (err == ERR_OK && thread_start(store) != 0)
        err = ERR_STORE_FAILED;
    if (err != ERR_OK)
        writer_free(store);
    return err;
}

void store_stop(struct store *store)
{
    struct store_writer *writer = store->writer;
    if (writer == NULL ||
        atomic_load_explicit(&writer->state, memory_order_acquire) != WRITER_RUNNING)
        return;
    atomic_store_explicit(&writer->state, WRITER_STOPPING, memory_order_release);
    wake_signal(&writer->wake);
    pthread_join(writer->thread, NULL);
}

void store_writer_free(struct store *store)
{
    store_stop(store);
    writer_free(store);
}

/* --- on the cores --- */

static struct core_queue *queue_of(struct store *store, uint32_t core)
{
    assert(store->writer != NULL && core < store->writer->core_count);
    return &store->writer->cores[core];
}

static bool is_stopped(const struct store *store)
{
    return atomic_load_explicit(&store->writer->state, memory_order_acquire) == WRITER_STOPPED;
}

struct store_job *store_job_take(struct store *store, uint32_t core)
{
    struct core_queue *queue = queue_of(store, core);
    if (queue->free_count == 0)
        return NULL;
    struct store_job *job = &queue->jobs[queue->free_list[--queue->free_count]];
    memset(job, 0, offsetof(struct store_job, facts));
    return job;
}

void store_job_submit(struct store *store, uint32_t core, struct store_job *job)
{
    struct core_queue *queue = queue_of(store, core);
    assert(job->apply != NULL && job->data_len <= sizeof(job->data));
    assert(spsc_space(&queue->staged_in) != 0);
    job->staged_ns = clock_mono_ns();
    memcpy(spsc_slot_in(&queue->staged_in, 0), &job, sizeof(job));
    spsc_publish(&queue->staged_in, 1);
    queue->unkicked = true;
}

void store_kick(struct store *store, uint32_t core)
{
    struct core_queue *queue = queue_of(store, core);
    if (!queue->unkicked)
        return;
    queue->unkicked = false;
    wake_signal(&store->writer->wake);
}

static struct store_job *pop(struct spsc *ring)
{
    struct store_job *job = NULL;
    if (spsc_ready(ring) == 0)
        return NULL;
    memcpy(&job, spsc_slot_out(ring, 0), sizeof(job));
    spsc_release(ring, 1);
    return job;
}

struct store_job *store_poll(struct store *store, uint32_t core)
{
    struct core_queue *queue = queue_of(store, core);
    struct store_job *job = pop(&queue->done_out);
    if (job != NULL || !is_stopped(store))
        return job;
    /* what the writer published last, then what came too late for it */
    job = pop(&queue->done_out);
    if (job == NULL && (job = pop(&queue->staged_out)) != NULL) {
        job->err = ERR_STOPPING;
        job->data_len = 0;
        job->token = (struct commit_token){0};
    }
    return job;
}

bool store_pending(struct store *store, uint32_t core)
{
    struct core_queue *queue = queue_of(store, core);
    return spsc_ready(&queue->done_out) != 0 ||
           (is_stopped(store) &&
            (spsc_ready(&queue->done_out) != 0 || spsc_ready(&queue->staged_out) != 0));
}

void store_job_release(struct store *store, uint32_t core, struct store_job *job)
{
    struct core_queue *queue = queue_of(store, core);
    size_t index = (size_t)(job - queue->jobs);
    assert(index < STORE_JOBS_PER_CORE_MAX && queue->free_count < STORE_JOBS_PER_CORE_MAX);
    queue->free_list[queue->free_count++] = (uint16_t)index;
}
