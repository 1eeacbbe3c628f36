#include "pipeline/costly.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "limits.h"

enum { YIELD_REST = 3, YIELD_REST_MAX_US = 200000 };

struct lane {
    struct spsc ring; /* of struct costly_job * */
    void *mem;
};

/* A line that starts its shift opens many connections with one password at once; the hash is run
 * for the first of them. */
struct recent {
    uint8_t same[32];
    uint64_t until_ns;
};

struct costly {
    pthread_t thread;
    struct recent recent[COSTLY_SAME_COUNT]; /* the worker's own */
    struct wake wake;
    struct wake_flag flag;
    _Atomic bool stop;
    struct mailboxes *mailboxes;
    uint32_t sender;
    uint32_t message_kind;
    uint32_t core_count;
    bool yields;
    struct lane lanes[CORES_MAX];
};

static void run_or_recall(struct costly *costly, struct costly_job *job)
{
    if (job->no_sharing) {
        job->run(job);
        return;
    }
    struct recent *recent = &costly->recent[job->same[0] % COSTLY_SAME_COUNT];
    uint64_t now_ns = clock_mono_ns();
    if (now_ns < recent->until_ns && secret_eq(BYTES_ARRAY(recent->same), BYTES_ARRAY(job->same))) {
        job->err = ERR_OK;
        return;
    }
    job->run(job);
    if (job->err == ERR_OK) {
        memcpy(recent->same, job->same, sizeof(recent->same));
        recent->until_ns = clock_mono_ns() + COSTLY_SAME_MS * NS_PER_MS;
    }
}

/* The scheduler's idle class yields to this process's threads alone where each session has a share of
 * its own, so a worker that yields also rests: it takes about a quarter of one
 * processor; more when a single job takes longer than a third of the longest rest. */
static void rest(uint64_t spent_ns)
{
    uint64_t rest_us = YIELD_REST * spent_ns / 1000;
    usleep((useconds_t)(rest_us < YIELD_REST_MAX_US ? rest_us : YIELD_REST_MAX_US));
}

static bool work_once(struct costly *costly)
{
    bool any = false;
    for (uint32_t core = 0; core < costly->core_count; core++) {
        struct spsc *ring = &costly->lanes[core].ring;
        if (spsc_ready(ring) == 0) {
            continue;
        }
        /* One job of each core in turn: a core that floods waits for itself. */
        struct costly_job *job;
        memcpy(&job, spsc_slot_out(ring, 0), sizeof(job));
        spsc_release(ring, 1);
        any = true;
        uint64_t start_ns = clock_mono_ns();
        run_or_recall(costly, job);
        uint64_t spent_ns = clock_mono_ns() - start_ns;
        struct message message = {.kind = costly->message_kind, .ptr = job};
        /* The mailbox holds more than all jobs in flight: it can only be full of other things, and
         * those are taken every turn. */
        while (!mailbox_post(costly->mailboxes, costly->sender, core, &message)) {
            mailbox_kick(costly->mailboxes, core);
            usleep(100);
        }
        mailbox_kick(costly->mailboxes, core);
        if (costly->yields) {
            rest(spent_ns);
        }
    }
    return any;
}

static bool any_ready(struct costly *costly)
{
    for (uint32_t core = 0; core < costly->core_count; core++) {
        if (spsc_ready(&costly->lanes[core].ring) > 0) {
            return true;
        }
    }
    return false;
}

static void *costly_main(void *arg)
{
    struct costly *costly = arg;
    log_thread_attach();
    if (costly->yields) {
        struct sched_param none = {0};
        pthread_setschedparam(pthread_self(), SCHED_IDLE, &none);
    }
    while (!atomic_load(&costly->stop)) {
        if (work_once(costly)) {
            continue;
        }
        wake_prepare(&costly->wake);
        if (any_ready(costly) || atomic_load(&costly->stop)) {
            wake_cancel(&costly->wake);
            continue;
        }
        uint64_t count;
        if (read(costly->wake.event_fd, &count, sizeof(count)) < 0) {
            usleep(1000);
        }
        wake_cancel(&costly->wake);
    }
    return NULL;
}

static void costly_free(struct costly *costly)
{
    for (uint32_t core = 0; core < costly->core_count; core++) {
        free(costly->lanes[core].mem);
    }
    if (costly->wake.event_fd >= 0) {
        close(costly->wake.event_fd);
    }
    free(costly);
}

enum err costly_start(uint32_t core_count, struct mailboxes *mailboxes, uint32_t sender,
                      uint32_t message_kind, bool yields, struct costly **out)
{
    struct costly *costly = aligned_alloc(64, (sizeof(*costly) + 63) / 64 * 64);
    if (!costly) {
        return ERR_NO_SPACE;
    }
    memset(costly, 0, sizeof(*costly));
    costly->mailboxes = mailboxes;
    costly->sender = sender;
    costly->message_kind = message_kind;
    costly->core_count = core_count;
    costly->yields = yields;
    costly->wake = (struct wake){&costly->flag, eventfd(0, EFD_CLOEXEC)};
    bool ok = costly->wake.event_fd >= 0;
    for (uint32_t core = 0; core < core_count && ok; core++) {
        size_t size = spsc_bytes(sizeof(void *), COSTLY_JOBS_PER_CORE_MAX);
        struct lane *lane = &costly->lanes[core];
        lane->mem = aligned_alloc(64, (size + 63) / 64 * 64);
        ok = lane->mem != NULL;
        if (ok) {
            spsc_bind(&lane->ring, lane->mem, sizeof(void *), COSTLY_JOBS_PER_CORE_MAX, true);
        }
    }
    if (!ok || pthread_create(&costly->thread, NULL, costly_main, costly) != 0) {
        costly_free(costly);
        return ERR_NO_SPACE;
    }
    pthread_setname_np(costly->thread, "costly");
    *out = costly;
    return ERR_OK;
}

void costly_stop(struct costly *costly)
{
    if (!costly) {
        return;
    }
    atomic_store(&costly->stop, true);
    uint64_t one = 1;
    if (write(costly->wake.event_fd, &one, sizeof(one)) < 0) {
        log_error("costly-stop", "cannot wake the worker");
    }
    pthread_join(costly->thread, NULL);
    costly_free(costly);
}

enum err costly_submit(struct costly *costly, struct costly_job *job)
{
    struct spsc *ring = &costly->lanes[job->core].ring;
    if (spsc_space(ring) == 0) {
        return ERR_OVERLOADED;
    }
    memcpy(spsc_slot_in(ring, 0), &job, sizeof(job));
    spsc_publish(ring, 1);
    wake_signal(&costly->wake);
    return ERR_OK;
}
