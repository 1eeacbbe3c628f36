/* When a list is due, and who gets it. */
#include "pipeline/crl_publisher.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "pipeline/crl_make.h"
#include "pipeline/pipeline.h"

enum { LOOK_MS = 500, POST_RETRY_US = 1000 };

/* A CA; its index is where cores keep its list. */
struct seat {
    bool used;
    bool served_stored; /* what the store had was looked for */
    uint32_t issuer_id;
    const struct rt_ca *ca; /* of the snapshot held */
    struct crl_blob *blob;  /* the publisher's reference */
    uint64_t seen_revocations;
    uint64_t changed_ns; /* since when it may lack a revocation; 0: it lacks none */
    uint64_t retry_ns;   /* not before */
    uint32_t retry_ms;   /* 0: the last attempt was good */
    struct crl_status status;
};

struct crl_publisher {
    struct shared *shared;
    uint32_t sender;
    pthread_t thread;
    int event_fd;
    _Atomic bool stop;
    _Atomic bool sign_done;
    struct snapshot *snapshot; /* the thread's */
    struct seat seats[CAS_MAX];
    struct crl_maker maker;

    pthread_mutex_t lock; /* what main thread and publisher share: */
    struct snapshot *next_snapshot;
    uint32_t status_count;
    struct crl_status status[CAS_MAX];
    uint64_t asked[CAS_MAX]; /* by index of status */
};

/* --- waking --- */

static void wake(struct crl_publisher *publisher)
{
    uint64_t one = 1;
    if (write(publisher->event_fd, &one, sizeof(one)) < 0 && errno != EAGAIN) {
        log_error("crl-wake", "errno=%d", errno);
    }
}

static void wait_for_event(struct crl_publisher *publisher, int timeout_ms)
{
    struct pollfd fd = {.fd = publisher->event_fd, .events = POLLIN};
    uint64_t count;
    if (poll(&fd, 1, timeout_ms) > 0 && read(publisher->event_fd, &count, sizeof(count)) < 0) {
        log_error("crl-wake", "errno=%d", errno);
    }
}

/* --- to the cores --- */

/* false: stopping. */
static bool post(struct crl_publisher *publisher, uint32_t core, const struct message *message)
{
    struct mailboxes *mailboxes = publisher->shared->mailboxes;
    while (!mailbox_post(mailboxes, publisher->sender, core, message)) {
        if (atomic_load(&publisher->stop)) {
            return false;
        }
        mailbox_kick(mailboxes, core);
        usleep(POST_RETRY_US);
    }
    mailbox_kick(mailboxes, core);
    return true;
}

/* Every core gets a reference of its own; NULL: it serves this seat's list no more. */
static void hand_out(struct crl_publisher *publisher, const struct seat *seat)
{
    struct message message = {
        .kind = MSG_CRL, .value = (uint32_t)(seat - publisher->seats), .ptr = seat->blob};
    for (uint32_t core = 0; core < publisher->shared->core_count; core++) {
        if (seat->blob) {
            crl_blob_ref(seat->blob);
        }
        if (!post(publisher, core, &message)) {
            crl_blob_unref(seat->blob);
            return;
        }
    }
}

static void serve(struct crl_publisher *publisher, struct seat *seat, struct crl_blob *blob)
{
    crl_blob_unref(seat->blob);
    seat->blob = blob;
    hand_out(publisher, seat);
}

static bool have_signed(void *ctx)
{
    struct crl_publisher *publisher = ctx;
    struct message message = {.kind = MSG_CRL_SIGN, .ptr = &publisher->maker.sign};
    atomic_store(&publisher->sign_done, false);
    if (!post(publisher, 0, &message)) {
        return false;
    }
    /* the queue answers every job by its deadline */
    while (!atomic_load(&publisher->sign_done)) {
        if (atomic_load(&publisher->stop)) {
            return false;
        }
        wait_for_event(publisher, LOOK_MS);
    }
    return true;
}

void crl_publisher_signed(struct crl_publisher *publisher, enum err err, struct bytes signature)
{
    struct crl_sign *sign = &publisher->maker.sign;
    sign->err = err;
    sign->signature_len = 0;
    if (err == ERR_OK && signature.len <= sizeof(sign->signature)) {
        memcpy(sign->signature, signature.ptr, signature.len);
        sign->signature_len = (uint32_t)signature.len;
    }
    atomic_store(&publisher->sign_done, true);
    wake(publisher);
}

/* --- seats --- */

static void seat_clear(struct crl_publisher *publisher, struct seat *seat)
{
    serve(publisher, seat, NULL);
    *seat = (struct seat){0};
}

static struct seat *seat_of(struct crl_publisher *publisher, const struct rt_ca *ca)
{
    struct seat *free_seat = NULL;
    for (uint32_t i = 0; i < CAS_MAX; i++) {
        struct seat *seat = &publisher->seats[i];
        if (seat->used && strcmp(seat->status.name, ca->name) == 0) {
            return seat;
        }
        free_seat = seat->used || free_seat ? free_seat : seat;
    }
    return free_seat;
}

/* CAs that are gone first, so that those that came find a seat. */
static void seat_all(struct crl_publisher *publisher)
{
    const struct snapshot *snapshot = publisher->snapshot;
    for (uint32_t i = 0; i < CAS_MAX; i++) {
        struct seat *seat = &publisher->seats[i];
        seat->ca = NULL;
        for (uint32_t k = 0; seat->used && k < snapshot->ca_count; k++) {
            bool same = strcmp(seat->status.name, snapshot->cas[k].name) == 0 &&
                        seat->issuer_id == snapshot->cas[k].issuer_id;
            seat->ca = same ? &snapshot->cas[k] : seat->ca;
        }
        if (seat->used && !seat->ca) {
            seat_clear(publisher, seat);
        }
    }
    for (uint32_t k = 0; k < snapshot->ca_count; k++) {
        const struct rt_ca *ca = &snapshot->cas[k];
        struct seat *seat = seat_of(publisher, ca);
        if (!seat->used) {
            *seat = (struct seat){.used = true, .issuer_id = ca->issuer_id};
            snprintf(seat->status.name, sizeof(seat->status.name), "%s", ca->name);
            if (!ca->crl) {
                log_warn("crl-none", "ca=%s: its certificate lacks cRLSign in keyUsage", ca->name);
            }
        }
        seat->ca = ca;
        seat->status.signs = ca->crl != NULL;
        seat->status.scheduled = ca->crl != NULL && ca->crl->every_s > 0;
    }
}

static void take_snapshot(struct crl_publisher *publisher)
{
    pthread_mutex_lock(&publisher->lock);
    struct snapshot *next = publisher->next_snapshot;
    publisher->next_snapshot = NULL;
    pthread_mutex_unlock(&publisher->lock);
    if (next) {
        struct snapshot *old = publisher->snapshot;
        publisher->snapshot = next;
        seat_all(publisher);
        if (old) {
            atomic_fetch_sub(&old->cores_holding, 1);
        }
    }
}

/* What the store has is served before anything is made: a token that is down keeps nobody from it.
 */
static void serve_stored(struct crl_publisher *publisher, struct seat *seat)
{
    struct crl_blob *blob = NULL;
    seat->served_stored = true;
    /* whether it lacks a revocation is seen by comparing, once */
    seat->changed_ns = clock_mono_ns();
    enum err err = crl_make_load(&publisher->maker, seat->ca, &blob);
    if (err == ERR_OK) {
        log_info("crl-served", "ca=%s number=%llu from the store", seat->ca->name,
                 (unsigned long long)blob->number);
        serve(publisher, seat, blob);
    } else if (err != ERR_NOT_FOUND) {
        log_error("crl-load", "ca=%s code=%s", seat->ca->name, err_code(err));
    }
}

/* --- what is due --- */

static bool is_asked(const struct seat *seat)
{
    return seat->status.asked != seat->status.answered;
}

static bool is_due_by_schedule(const struct seat *seat, int64_t now_s)
{
    if (!seat->blob) {
        return true;
    }
    /* a clock that was set back: the list would be from the future */
    return now_s >= seat->blob->this_update_s + seat->ca->crl->every_s ||
           now_s < seat->blob->this_update_s;
}

/* Half of the time is for more revocations to come, the other half to make the list in. */
static bool is_due_by_revocation(const struct seat *seat, uint64_t now_ns)
{
    uint64_t within_ns = (uint64_t)seat->ca->crl->on_revocation_s * NS_PER_S;
    return within_ns > 0 && seat->changed_ns != 0 && now_ns >= seat->changed_ns + within_ns / 2;
}

enum due { DUE_NOT, DUE_IF_CHANGED, DUE };

static enum due what_is_due(const struct seat *seat, uint64_t now_ns)
{
    if (!seat->ca->crl || now_ns < seat->retry_ns) {
        return DUE_NOT;
    }
    if (is_asked(seat)) {
        return DUE;
    }
    if (seat->ca->crl->every_s == 0) {
        return DUE_NOT;
    }
    if (is_due_by_schedule(seat, clock_wall_s())) {
        return DUE;
    }
    return is_due_by_revocation(seat, now_ns) ? DUE_IF_CHANGED : DUE_NOT;
}

/* --- making --- */

static void failed(struct seat *seat, enum err err)
{
    seat->status.failures++;
    seat->retry_ms = seat->retry_ms == 0 ? CRL_RETRY_MIN_MS : 2 * seat->retry_ms;
    if (seat->retry_ms > CRL_RETRY_MAX_MS) {
        seat->retry_ms = CRL_RETRY_MAX_MS;
    }
    seat->retry_ns = clock_mono_ns() + seat->retry_ms * NS_PER_MS;
    bool is_over = seat->blob && seat->blob->next_update_s <= clock_wall_s();
    log_error("crl-failed", "ca=%s code=%s retry_ms=%u: %s", seat->ca->name, err_code(err),
              seat->retry_ms,
              !seat->blob ? "there is none yet"
              : is_over   ? "the last one stays served, and its nextUpdate is over"
                          : "the last one stays served");
}

static void made(struct crl_publisher *publisher, struct seat *seat, struct crl_blob *blob,
                 uint64_t start_ns)
{
    seat->status.made++;
    log_info("crl-published", "ca=%s number=%llu entries=%llu bytes=%zu took_ms=%llu",
             seat->ca->name, (unsigned long long)blob->number,
             (unsigned long long)blob->entry_count, blob->der.len,
             (unsigned long long)((clock_mono_ns() - start_ns) / NS_PER_MS));
    serve(publisher, seat, blob);
}

static void make(struct crl_publisher *publisher, struct seat *seat, bool unless_same)
{
    struct crl_blob *blob = NULL;
    uint64_t start_ns = clock_mono_ns();
    uint64_t revocations = store_revocations(publisher->shared->store);
    uint64_t asked = seat->status.asked;
    enum err err = crl_make(&publisher->maker, seat->ca, seat->blob, unless_same, &blob);
    if (err == ERR_STOPPING && atomic_load(&publisher->stop)) {
        return;
    }
    seat->status.last_err = err;
    if (err != ERR_OK) {
        failed(seat, err);
        return;
    }
    seat->retry_ms = 0;
    seat->retry_ns = 0;
    seat->seen_revocations = revocations;
    seat->changed_ns = 0;
    if (blob) {
        made(publisher, seat, blob, start_ns);
        seat->status.answered = asked;
    }
}

static void tend(struct crl_publisher *publisher, struct seat *seat)
{
    if (!seat->served_stored) {
        serve_stored(publisher, seat);
    }
    uint64_t now_ns = clock_mono_ns();
    if (seat->changed_ns == 0 &&
        store_revocations(publisher->shared->store) != seat->seen_revocations) {
        seat->changed_ns = now_ns;
    }
    enum due due = what_is_due(seat, now_ns);
    if (due != DUE_NOT) {
        make(publisher, seat, due == DUE_IF_CHANGED);
    }
}

/* --- what operators see --- */

static void take_asked(struct crl_publisher *publisher)
{
    pthread_mutex_lock(&publisher->lock);
    for (uint32_t i = 0; i < CAS_MAX; i++) {
        struct seat *seat = &publisher->seats[i];
        if (seat->used && publisher->asked[i] > seat->status.asked) {
            seat->status.asked = publisher->asked[i];
            seat->retry_ns = 0; /* somebody waits */
        }
    }
    pthread_mutex_unlock(&publisher->lock);
}

static void show(struct crl_publisher *publisher)
{
    pthread_mutex_lock(&publisher->lock);
    for (uint32_t i = 0; i < CAS_MAX; i++) {
        struct seat *seat = &publisher->seats[i];
        if (!seat->used) {
            publisher->status[i] = (struct crl_status){0};
            publisher->asked[i] = 0;
            continue;
        }
        if (seat->blob) {
            seat->status.number = seat->blob->number;
            seat->status.entry_count = seat->blob->entry_count;
            seat->status.der_len = seat->blob->der.len;
            seat->status.this_update_s = seat->blob->this_update_s;
            seat->status.next_update_s = seat->blob->next_update_s;
        }
        publisher->status[i] = seat->status;
    }
    pthread_mutex_unlock(&publisher->lock);
}

enum err crl_publisher_ask(struct crl_publisher *publisher, struct bytes ca, uint64_t *out_ticket)
{
    enum err err = ERR_NOT_FOUND;
    pthread_mutex_lock(&publisher->lock);
    for (uint32_t i = 0; i < CAS_MAX; i++) {
        const struct crl_status *status = &publisher->status[i];
        if (status->name[0] && bytes_eq(bytes_of_str(status->name), ca)) {
            err = status->signs ? ERR_OK : ERR_UNSUPPORTED;
        }
        if (status->name[0] && bytes_eq(bytes_of_str(status->name), ca) && status->signs) {
            *out_ticket = ++publisher->asked[i];
        }
    }
    pthread_mutex_unlock(&publisher->lock);
    wake(publisher);
    return err;
}

uint32_t crl_publisher_status(struct crl_publisher *publisher, struct crl_status out[CAS_MAX])
{
    uint32_t count = 0;
    pthread_mutex_lock(&publisher->lock);
    for (uint32_t i = 0; i < CAS_MAX; i++) {
        if (publisher->status[i].name[0]) {
            out[count++] = publisher->status[i];
        }
    }
    pthread_mutex_unlock(&publisher->lock);
    return count;
}

/* --- life --- */

static void *publisher_main(void *arg)
{
    struct crl_publisher *publisher = arg;
    log_thread_attach();
    while (!atomic_load(&publisher->stop)) {
        take_snapshot(publisher);
        take_asked(publisher);
        for (uint32_t i = 0; i < CAS_MAX && !atomic_load(&publisher->stop); i++) {
            if (publisher->seats[i].used) {
                tend(publisher, &publisher->seats[i]);
            }
        }
        show(publisher);
        wait_for_event(publisher, LOOK_MS);
    }
    return NULL;
}

enum err crl_publisher_start(struct shared *shared, struct snapshot *snapshot, uint32_t sender,
                             struct crl_publisher **out)
{
    struct crl_publisher *publisher = calloc(1, sizeof(*publisher));
    if (!publisher) {
        return ERR_NO_SPACE;
    }
    publisher->shared = shared;
    publisher->sender = sender;
    publisher->next_snapshot = snapshot;
    publisher->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_mutex_init(&publisher->lock, NULL);
    publisher->maker = (struct crl_maker){
        .store = shared->store,
        .have_signed = have_signed,
        .ctx = publisher,
        .stop = &publisher->stop,
    };
    enum err err = publisher->event_fd < 0 ? ERR_IO : ERR_OK;
    if (err == ERR_OK) {
        err = store_reader_new(shared->store, &publisher->maker.reader);
    }
    if (err == ERR_OK) {
        *out = publisher;         /* core 0 finds it there when it has signed */
        take_snapshot(publisher); /* so that there is a status from the start */
        show(publisher);
        err = pthread_create(&publisher->thread, NULL, publisher_main, publisher) == 0 ? ERR_OK
                                                                                       : ERR_IO;
    }
    if (err != ERR_OK) {
        *out = NULL;
        crl_publisher_free(publisher);
        return err;
    }
    pthread_setname_np(publisher->thread, "crl");
    return ERR_OK;
}

void crl_publisher_snapshot(struct crl_publisher *publisher, struct snapshot *snapshot)
{
    pthread_mutex_lock(&publisher->lock);
    struct snapshot *passed_over = publisher->next_snapshot;
    publisher->next_snapshot = snapshot;
    pthread_mutex_unlock(&publisher->lock);
    if (passed_over) {
        atomic_fetch_sub(&passed_over->cores_holding, 1);
    }
    wake(publisher);
}

void crl_publisher_stop(struct crl_publisher *publisher)
{
    if (publisher && !atomic_exchange(&publisher->stop, true)) {
        wake(publisher);
        pthread_join(publisher->thread, NULL);
    }
}

void crl_publisher_free(struct crl_publisher *publisher)
{
    if (!publisher) {
        return;
    }
    for (uint32_t i = 0; i < CAS_MAX; i++) {
        crl_blob_unref(publisher->seats[i].blob);
    }
    store_reader_free(publisher->maker.reader);
    pthread_mutex_destroy(&publisher->lock);
    if (publisher->event_fd >= 0) {
        close(publisher->event_fd);
    }
    free(publisher);
}
