/* costly.h: work that would hold up a core (slow password hashes, MACs with many iterations), done
 * on a worker thread.
 *
 * Promise: an accepted job completes once, through the core's mailbox (MSG_COSTLY); a full queue
 *          refuses, so a flood of costly requests slows nobody but the flooders.
 * Owner:   the job is part of the caller's slot, which must stay until completion.
 * Threads: submit on the core; run on the worker.
 * Limits:  COSTLY_JOBS_PER_CORE_MAX.
 */
#ifndef CERTMILL_PIPELINE_COSTLY_H
#define CERTMILL_PIPELINE_COSTLY_H

#include "base/bytes.h"
#include "io/mailbox.h"

struct costly;

struct costly_job {
    /* Pure; runs on the worker. */
    void (*run)(struct costly_job *job);
    void *owner;
    uint32_t core;
    enum err err;
    struct bytes input; /* e.g. the password; the owner wipes it */
    const char *hash;   /* e.g. crypt(5) */
    uint32_t value;     /* e.g. the station's index */
    bool is_message; /* owner is a unit whose message is checked; else an exchange */
    bool no_sharing; /* `same` says nothing */
    uint8_t same[32];   /* keyed digest of all that decides the result: jobs that agree in it and
                           follow within COSTLY_SAME_MS share one run that ended well */
};

/* yields: the worker takes only time that nothing else wants (SCHED_IDLE), and rests after each job
 * three times as long as that took, up to a bound. */
enum err costly_start(uint32_t core_count, struct mailboxes *mailboxes, uint32_t sender,
                      uint32_t message_kind, bool yields, struct costly **out) MUST_USE;
void costly_stop(struct costly *costly);
/* ERR_OVERLOADED when the core's queue is full. */
enum err costly_submit(struct costly *costly, struct costly_job *job) MUST_USE;

#endif
