/* One core: its loop, and what reaches it from elsewhere. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"
#include "pipeline/pipeline.h"

enum { HSM_POLL_MAX = 1024, IDLE_WAIT_MS = 1000 };

/* --- what the network calls --- */

static void on_request(void *ctx, struct net_request *request)
{
    pipeline_accept(ctx, (struct exchange *)(void *)request);
}

static void on_release(void *ctx, struct net_request *request)
{
    pipeline_release(ctx, (struct exchange *)(void *)request);
}

static uint32_t body_limit(void *ctx, struct bytes method, struct bytes path)
{
    (void)ctx;
    struct proto_route route = {0};
    enum err err = ERR_OK;
    return proto_match(method, path, &route, &err) && err == ERR_OK ? route.body_max : EST_BODY_MAX;
}

/* The core with the fewest connections; of equals, this one first. */
static uint32_t choose_core(void *ctx)
{
    struct core *core = ctx;
    struct shared *shared = core->shared;
    uint32_t best = core->index;
    for (uint32_t i = 0; i < shared->core_count; i++) {
        if (atomic_load(&shared->connections[i]) < atomic_load(&shared->connections[best])) {
            best = i;
        }
    }
    return best;
}

/* A connection on its way counts for its new core at once, or a burst would all go to one. */
static void on_handover(void *ctx, uint32_t target, int fd, uint32_t listener_index)
{
    struct core *core = ctx;
    struct shared *shared = core->shared;
    struct message message = {
        .kind = MSG_CONNECTION, .value = listener_index, .ptr = (void *)(intptr_t)fd};
    if (!mailbox_post(shared->mailboxes, core->index, target, &message)) {
        net_adopt(core->net, fd, listener_index, shared->listen_tls[listener_index]);
        return;
    }
    atomic_fetch_add(&shared->connections[target], 1);
    mailbox_kick(shared->mailboxes, target);
}

static void on_connections(void *ctx, int delta)
{
    struct core *core = ctx;
    atomic_fetch_add(&core->shared->connections[core->index], delta);
}

/* --- what other threads send --- */

static void take_snapshot(struct core *core, struct snapshot *snapshot)
{
    for (uint32_t i = 0; i < SNAPSHOTS_MAX; i++) {
        if (!core->old[i]) {
            core->old[i] = core->snapshot;
            break;
        }
    }
    core->snapshot = snapshot;
    net_set_tls(core->net, snapshot->tls[core->index]);
}

static void release_snapshots(struct core *core)
{
    for (uint32_t i = 0; i < SNAPSHOTS_MAX; i++) {
        struct snapshot *old = core->old[i];
        if (old && old->inflight[core->index].exchanges == 0) {
            core->old[i] = NULL;
            atomic_fetch_sub(&old->cores_holding, 1);
        }
    }
}

static void start_drain(struct core *core)
{
    core->draining = true;
    net_accept_stop(core->net);
    net_drain(core->net);
}

static void take_costly(struct core *core, struct costly_job *job)
{
    if (job->is_message) {
        message_costly_done(core, job->owner, job->err);
        return;
    }
    struct exchange *exchange = job->owner;
    exchange->basic_checked = true;
    enum verdict verdict = stage_authenticate(core, exchange);
    pipeline_resume_exchange(core, exchange, STAGE_AUTHENTICATE, verdict);
}

static bool take_messages(struct core *core)
{
    struct shared *shared = core->shared;
    struct message message;
    bool any = false;
    while (mailbox_take(shared->mailboxes, core->index, &message)) {
        any = true;
        switch (message.kind) {
        case MSG_CONNECTION:
            atomic_fetch_sub(&shared->connections[core->index], 1);
            net_adopt(core->net, (int)(intptr_t)message.ptr, message.value,
                      shared->listen_tls[message.value]);
            break;
        case MSG_VERIFIED:
            board_result(core, message.ptr);
            break;
        case MSG_COSTLY:
            take_costly(core, message.ptr);
            break;
        case MSG_SNAPSHOT:
            take_snapshot(core, message.ptr);
            break;
        case MSG_CRL:
            crl_core_take(core, message.value, message.ptr);
            break;
        case MSG_CRL_SIGN:
            crl_core_sign(core, message.ptr);
            break;
        case MSG_DRAIN:
            start_drain(core);
            break;
        case MSG_STOP:
            core->stop = true;
            break;
        }
    }
    return any;
}

static void on_signed(void *ctx, const struct sign_result *result)
{
    struct core *core = ctx;
    if (crl_core_signed(core, result)) {
        return;
    }
    struct unit *unit = unit_of_tag(result->tag);
    if (unit) {
        protect_done(core, unit, result);
        return;
    }
    struct issuance *issuance = pool_find(&core->issuances, result->tag);
    if (!issuance) {
        log_error("sign-orphan", "a signature came back for an issuance that is gone");
        return;
    }
    hist_add(&core->metrics->sign_ns, core->now_ns - issuance->since_ns);
    issuance->err = result->err;
    if (result->err == ERR_OK && result->signature_len > SIGNATURE_MAX) {
        issuance->err = ERR_SIGNER_FAILED;
    }
    if (issuance->err != ERR_OK) {
        pipeline_resume(core, issuance, VERDICT_REFUSE);
        return;
    }
    issuance->signed_by = result->token_index;
    issuance->signature_len = result->signature_len;
    memcpy(issuance->signature, result->signature, result->signature_len);
    pipeline_resume(core, issuance, VERDICT_NEXT);
}

/* --- the loop --- */

static bool collect(struct core *core)
{
    struct shared *shared = core->shared;
    core->now_ns = clock_mono_ns();
    core->now_s = clock_wall_s();
    bool any = take_messages(core);
    any |= hsm_poll(shared->hsm, core->index, HSM_POLL_MAX, on_signed, core) > 0;
    struct store_job *job;
    while ((job = store_poll(shared->store, core->index)) != NULL) {
        commit_done(core, job);
        any = true;
    }
    timers_run(&core->timers, core->now_ns);
    return any;
}

static bool has_input(struct core *core)
{
    struct shared *shared = core->shared;
    return mailbox_pending(shared->mailboxes, core->index) ||
           hsm_pending(shared->hsm, core->index) || store_pending(shared->store, core->index) ||
           board_any_work(core);
}

static uint64_t wait_ns(struct core *core)
{
    uint64_t wait = IDLE_WAIT_MS * NS_PER_MS;
    uint64_t timer = timers_wait_ns(&core->timers, core->now_ns);
    uint64_t deadline = hsm_next_deadline(core->shared->hsm, core->index);
    if (deadline != UINT64_MAX) {
        deadline = deadline > core->now_ns ? deadline - core->now_ns : 1;
    }
    wait = timer < wait ? timer : wait;
    wait = deadline < wait ? deadline : wait;
    return wait == 0 ? 1 : wait;
}

static void turn_ring(struct core *core, bool busy)
{
    struct wake *wake = &core->shared->wakes[core->index];
    metric_add(core->metrics, METRIC_TURNS, 1);
    if (busy) {
        ring_turn(core->ring, 0);
        return;
    }
    wake_prepare(wake);
    if (has_input(core)) {
        wake_cancel(wake);
        ring_turn(core->ring, 0);
        return;
    }
    metric_add(core->metrics, METRIC_SLEEPS, 1);
    ring_turn(core->ring, wait_ns(core));
    wake_cancel(wake);
}

static void tell_drained(struct core *core)
{
    if (core->draining && !core->drained_told && net_is_idle(core->net)) {
        core->drained_told = true;
        atomic_fetch_add(&core->shared->cores_idle, 1);
    }
}

void core_run(struct core *core)
{
    bool busy = false;
    if (core->index == 0) {
        sweep_start(core);
    }
    while (!core->stop) {
        turn_ring(core, busy);
        busy = collect(core);
        busy |= pipeline_run(core);
        if (!busy) {
            busy = board_work_other(core);
        }
        net_flush(core->net);
        release_snapshots(core);
        tell_drained(core);
        metric_add(core->metrics, METRIC_HEAP_ALLOCS,
                   tls_heap_calls() - core->metrics->value[METRIC_HEAP_ALLOCS]);
    }
    atomic_fetch_add(&core->shared->cores_stopped, 1);
}

/* --- life --- */

static enum err create_parts(struct core *core, char out_detail[256])
{
    struct shared *shared = core->shared;
    enum err err = ring_create(&core->ring, out_detail);
    if (err == ERR_OK) {
        err = ring_watch_wake(core->ring, &shared->wakes[core->index]);
    }
    if (err == ERR_OK) {
        err = chunk_pool_init(&core->chunks);
    }
    if (err == ERR_OK) {
        err = pool_init(&core->issuances, sizeof(struct issuance), ISSUANCES_PER_CORE_MAX);
    }
    if (err == ERR_OK) {
        err = store_reader_new(shared->store, &core->reader);
    }
    if (err != ERR_OK) {
        return err;
    }
    timers_init(&core->timers, clock_mono_ns());
    struct net_config config = {
        .core = core->index,
        .exchange_size = sizeof(struct exchange),
        .exchange_count = EXCHANGES_PER_CORE_MAX,
        .connection_count = shared->connections_per_core,
        .timeouts = shared->timeouts,
    };
    struct net_handlers handlers = {
        .ctx = core,
        .on_request = on_request,
        .on_release = on_release,
        .body_limit = body_limit,
        .choose_core = choose_core,
        .on_handover = on_handover,
        .on_connections = on_connections,
    };
    err = net_create(&config, core->ring, &core->timers, &core->chunks, core->metrics, &handlers,
                     &core->net);
    if (err != ERR_OK) {
        return err;
    }
    net_set_tls(core->net, core->snapshot->tls[core->index]);
    /* One core accepts and hands out, so that the count of connections is exact when it chooses. */
    for (uint32_t i = 0; core->index == 0 && i < shared->listener_count && err == ERR_OK; i++) {
        err = net_accept_start(core->net, shared->listen_fds[i], i, shared->listen_tls[i]);
    }
    return err;
}

enum err core_create(struct shared *shared, uint32_t index, struct snapshot *snapshot,
                     struct core **out, char out_detail[256])
{
    struct core *core = calloc(1, sizeof(*core));
    if (!core) {
        return ERR_NO_SPACE;
    }
    core->index = index;
    core->shared = shared;
    core->snapshot = snapshot;
    core->metrics = shared->metrics[index];
    random_bytes(&core->request_base, sizeof(core->request_base));
    serial_lane_init(&core->serials, index, shared->serial_floor_ms);
    core->now_ns = clock_mono_ns();
    core->now_s = clock_wall_s();
    mac_cache_init(&core->macs);
    snprintf(out_detail, 256, "out of memory");
    enum err err = create_parts(core, out_detail);
    if (err != ERR_OK) {
        core_destroy(core);
        return err;
    }
    *out = core;
    return ERR_OK;
}

void core_destroy(struct core *core)
{
    if (!core) {
        return;
    }
    if (core->net) {
        net_destroy(core->net);
    }
    crl_core_release(core);
    if (core->reader) {
        store_reader_free(core->reader);
    }
    if (core->ring) {
        ring_destroy(core->ring);
    }
    mac_cache_wipe(&core->macs);
    pool_destroy(&core->issuances);
    chunk_pool_destroy(&core->chunks);
    free(core);
}
