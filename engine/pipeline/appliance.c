#include "pipeline/appliance.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/secret.h"

enum {
    SIGNER_START_TIMEOUT_MS = 20000,
    SIGNER_STOP_TIMEOUT_MS = 5000,
    KEY_LOOK_TIMEOUT_MS = 10000,
    TICKET_ROTATE_S = 4 * 3600,
    SENDER_MAIN = 0, /* after the cores */
    SENDER_COSTLY = 1,
    SENDER_MACS = 2,
    SENDER_CRL = 3,
    SENDERS_EXTRA = 4,
};

struct core_thread {
    struct appliance *appliance;
    uint32_t index;
    pthread_t thread;
    bool running;
    _Atomic int state; /* 0 starting, 1 running, 2 failed */
    struct core *core;
    char detail[256];
};

struct appliance {
    struct shared shared;
    struct snapshot *snapshot;
    struct snapshot *old[SNAPSHOTS_MAX];
    struct core_thread cores[CORES_MAX];
    struct hsm_token_config tokens[TOKENS_MAX];
    char *rv_classes[TOKENS_MAX];
    struct snapshot *hsm_snapshot; /* the hsm queue points to its strings: kept until the end */
    bool pin_cores;
    uint64_t started_ns;
    uint64_t tickets_ns;
    uint32_t drain_ms;
};

/* --- cores --- */

static void pin_to(uint32_t index)
{
    cpu_set_t allowed, one;
    CPU_ZERO(&one);
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
        return;
    }
    uint32_t seen = 0;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &allowed) && seen++ == index) {
            CPU_SET(cpu, &one);
            pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
            return;
        }
    }
}

static void *core_main(void *arg)
{
    struct core_thread *thread = arg;
    struct appliance *appliance = thread->appliance;
    char name[16];
    snprintf(name, sizeof(name), "core-%u", thread->index);
    pthread_setname_np(pthread_self(), name);
    log_thread_attach();
    if (appliance->pin_cores) {
        pin_to(thread->index);
    }
    enum err err = core_create(&appliance->shared, thread->index, appliance->snapshot,
                               &thread->core, thread->detail);
    if (err != ERR_OK) {
        atomic_store(&thread->state, 2);
        return NULL;
    }
    atomic_store(&thread->state, 1);
    core_run(thread->core);
    return NULL;
}

static void post_all(struct appliance *appliance, enum message_kind kind, void *ptr)
{
    struct shared *shared = &appliance->shared;
    for (uint32_t i = 0; i < shared->core_count; i++) {
        struct message message = {.kind = kind, .ptr = ptr};
        while (!mailbox_post(shared->mailboxes, shared->core_count + SENDER_MAIN, i, &message)) {
            mailbox_kick(shared->mailboxes, i);
            usleep(1000);
        }
        mailbox_kick(shared->mailboxes, i);
    }
}

static void join_cores(struct appliance *appliance)
{
    post_all(appliance, MSG_STOP, NULL);
    for (uint32_t i = 0; i < appliance->shared.core_count; i++) {
        if (appliance->cores[i].running) {
            pthread_join(appliance->cores[i].thread, NULL);
            appliance->cores[i].running = false;
        }
    }
}

/* When nobody works for them any more: jobs point into their memory. */
static void destroy_cores(struct appliance *appliance)
{
    for (uint32_t i = 0; i < appliance->shared.core_count; i++) {
        core_destroy(appliance->cores[i].core);
        appliance->cores[i].core = NULL;
    }
}

static enum err start_cores(struct appliance *appliance, char out_detail[CONFIG_ERROR_MAX])
{
    struct shared *shared = &appliance->shared;
    for (uint32_t i = 0; i < shared->core_count; i++) {
        struct core_thread *thread = &appliance->cores[i];
        thread->appliance = appliance;
        thread->index = i;
        if (pthread_create(&thread->thread, NULL, core_main, thread) != 0) {
            snprintf(out_detail, CONFIG_ERROR_MAX, "cannot start the thread of core %u", i);
            return ERR_IO;
        }
        thread->running = true;
        while (atomic_load(&thread->state) == 0) {
            usleep(200);
        }
        if (atomic_load(&thread->state) == 2) {
            snprintf(out_detail, CONFIG_ERROR_MAX, "core %u: %s", i, thread->detail);
            return ERR_IO;
        }
    }
    return ERR_OK;
}

/* --- start --- */

static char *join_words(char **words, uint32_t count)
{
    size_t len = 1;
    for (uint32_t i = 0; i < count; i++) {
        len += strlen(words[i]) + 1;
    }
    char *text = calloc(1, len);
    struct writer out = writer_of(text, text ? len - 1 : 0);
    for (uint32_t i = 0; i < count; i++) {
        writer_put_str(&out, i ? "," : "");
        writer_put_str(&out, words[i]);
    }
    return text;
}

static enum err start_hsm(struct appliance *appliance, char out_detail[CONFIG_ERROR_MAX])
{
    const struct config *config = appliance->snapshot->config;
    struct shared *shared = &appliance->shared;
    for (uint32_t i = 0; i < config->tokens_count; i++) {
        const struct config_token *token = &config->tokens[i];
        if (token->rv_classes_count > 0) {
            appliance->rv_classes[i] = join_words(token->rv_classes, token->rv_classes_count);
        }
        appliance->tokens[i] = (struct hsm_token_config){
            .name = token->name,
            .module_path = token->module,
            .uri = token->uri,
            .pin_file = token->pin_file ? config_path(config, token->pin_file) : NULL,
            .pin_env = token->pin_env,
            .pin_credential = token->pin_credential,
            .signer_count = token->signers,
            .sessions = token->sessions,
            .allow_network = token->network,
            .deadline_ms = token->deadline_ms,
            .rv_classes = appliance->rv_classes[i],
        };
    }
    struct hsm_key_config keys[KEYS_MAX];
    struct hsm_config hsm = {
        .tokens = appliance->tokens,
        .token_count = config->tokens_count,
        .keys = keys,
        .key_count = snapshot_hsm_keys(appliance->snapshot, keys),
        .core_count = shared->core_count,
        .core_wakes = shared->wakes,
    };
    appliance->hsm_snapshot = appliance->snapshot;
    enum err err = hsm_start(&hsm, SIGNER_START_TIMEOUT_MS, &shared->hsm);
    if (err != ERR_OK) {
        snprintf(out_detail, CONFIG_ERROR_MAX,
                 "the signers did not come up (%s): check module, token, key and PIN with "
                 "`certmill token info`; the lines above say which call failed",
                 err_code(err));
    }
    return err;
}

static enum err open_listeners(struct appliance *appliance, char out_detail[CONFIG_ERROR_MAX])
{
    const struct config *config = appliance->snapshot->config;
    struct shared *shared = &appliance->shared;
    for (uint32_t i = 0; i < config->listeners_count; i++) {
        const struct config_listener *from = &config->listeners[i];
        struct listener_config listener = {from->address, from->port, from->tls};
        char detail[256] = "";
        enum err err = net_listen(&listener, &shared->listen_fds[i], detail);
        if (err != ERR_OK) {
            snprintf(out_detail, CONFIG_ERROR_MAX, "%s", detail);
            return err;
        }
        shared->listen_tls[i] = from->tls;
        shared->listener_count++;
    }
    return ERR_OK;
}

static bool newest_serial(void *ctx, const struct cert_view *cert)
{
    *(uint64_t *)ctx = serial_block_ms(cert->record->serial);
    return false;
}

static uint64_t serial_floor(struct store *store)
{
    uint64_t floor_ms = 0;
    struct store_reader *reader = NULL;
    if (store_reader_new(store, &reader) != ERR_OK) {
        return 0;
    }
    if (reader_begin(reader) == ERR_OK) {
        if (reader_certs_each(reader, 0, true, newest_serial, &floor_ms) != ERR_OK) {
            floor_ms = 0;
        }
        reader_end(reader);
    }
    store_reader_free(reader);
    return floor_ms;
}

static enum err make_shared(struct appliance *appliance, const struct config *config)
{
    struct shared *shared = &appliance->shared;
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    shared->core_count = config->cores ? config->cores : (uint32_t)(online < 1 ? 1 : online);
    if (shared->core_count > CORES_MAX) {
        shared->core_count = CORES_MAX;
    }
    shared->connections_per_core =
        config->connections_per_core ? config->connections_per_core : CONNECTIONS_PER_CORE_MAX;
    shared->timeouts = (struct net_timeouts){config->timeouts.handshake_ms,
                                             config->timeouts.header_ms, config->timeouts.body_ms,
                                             config->timeouts.idle_ms, config->timeouts.send_ms};
    random_bytes(shared->cache_key, sizeof(shared->cache_key));
    struct wake_flag *flags = hsm_wake_flags(shared->core_count);
    if (!flags) {
        return ERR_NO_SPACE;
    }
    for (uint32_t i = 0; i < shared->core_count; i++) {
        shared->wakes[i] = (struct wake){&flags[i], eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
        shared->boards[i] = aligned_alloc(64, (sizeof(struct verify_board) + 63) / 64 * 64);
        shared->metrics[i] = aligned_alloc(64, (sizeof(struct metrics) + 63) / 64 * 64);
        if (shared->wakes[i].event_fd < 0 || !shared->boards[i] || !shared->metrics[i]) {
            return ERR_NO_SPACE;
        }
        memset(shared->boards[i], 0, sizeof(*shared->boards[i]));
        memset(shared->metrics[i], 0, sizeof(*shared->metrics[i]));
    }
    return mailboxes_create(shared->core_count, SENDERS_EXTRA, shared->wakes, &shared->mailboxes);
}

/* As many descriptors as the connections that are allowed; else accept would fail long before. */
static void raise_descriptor_limit(const struct shared *shared)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)shared->core_count * shared->connections_per_core + 1024;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) {
        return;
    }
    struct rlimit raised = {wanted, limit.rlim_max > wanted ? limit.rlim_max : wanted};
    if (setrlimit(RLIMIT_NOFILE, &raised) != 0) {
        raised = (struct rlimit){limit.rlim_max, limit.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) != 0) {
            log_warn("descriptor-limit", "limit=%llu", (unsigned long long)limit.rlim_cur);
        }
    }
}

static enum err start_all(struct appliance *appliance, struct config *config,
                          char out_detail[CONFIG_ERROR_MAX])
{
    struct shared *shared = &appliance->shared;
    enum err err = make_shared(appliance, config);
    if (err == ERR_OK) {
        err = tls_global_init();
    }
    if (err != ERR_OK) {
        config_free(config);
        snprintf(out_detail, CONFIG_ERROR_MAX, "out of memory or descriptors");
        return err;
    }
    raise_descriptor_limit(shared);
    char *store_dir = config_path(config, config->store.dir);
    struct store_config store = {.dir = store_dir, .map_size = config->store.map_size};
    char detail[256] = "";
    err = store_open(&store, &shared->store, detail);
    if (err != ERR_OK) {
        snprintf(out_detail, CONFIG_ERROR_MAX, "store %s: %s", store_dir, detail);
        free(store_dir);
        config_free(config);
        return err;
    }
    free(store_dir);
    shared->serial_floor_ms = serial_floor(shared->store);
    err = snapshot_compile(config, shared->store, shared->core_count, &appliance->snapshot,
                           out_detail);
    if (err == ERR_OK) {
        err = open_listeners(appliance, out_detail);
    }
    if (err == ERR_OK) {
        err = store_start(shared->store, shared->core_count, shared->wakes);
    }
    if (err == ERR_OK) {
        err = start_hsm(appliance, out_detail);
    }
    if (err == ERR_OK) {
        err = costly_start(shared->core_count, shared->mailboxes,
                           shared->core_count + SENDER_COSTLY, MSG_COSTLY, false,
                           &shared->costly);
    }
    if (err == ERR_OK) {
        err = costly_start(shared->core_count, shared->mailboxes, shared->core_count + SENDER_MACS,
                           MSG_COSTLY, true, &shared->mac_worker);
    }
    if (err == ERR_OK) {
        err = start_cores(appliance, out_detail);
    }
    if (err == ERR_OK) {
        err = crl_publisher_start(shared, appliance->snapshot, shared->core_count + SENDER_CRL,
                                  &shared->crl);
    }
    return err;
}

static void journal_life(struct appliance *appliance, enum journal_kind kind)
{
    struct journal_entry entry = {.kind = kind, .text = BYTES_LIT("certmilld")};
    if (store_journal(appliance->shared.store, &entry) != ERR_OK) {
        log_error("journal", "start or stop could not be recorded");
    }
}

enum err appliance_start(struct config *config, struct appliance **out,
                         char out_detail[CONFIG_ERROR_MAX])
{
    size_t size = (sizeof(struct appliance) + 63) / 64 * 64;
    struct appliance *appliance = aligned_alloc(64, size);
    if (!appliance) {
        config_free(config);
        snprintf(out_detail, CONFIG_ERROR_MAX, "out of memory");
        return ERR_NO_SPACE;
    }
    memset(appliance, 0, size);
    appliance->pin_cores = config->pin_cores;
    appliance->drain_ms = config->timeouts.drain_ms ? config->timeouts.drain_ms : DRAIN_TIMEOUT_MS;
    out_detail[0] = 0;
    enum err err = start_all(appliance, config, out_detail);
    if (err != ERR_OK) {
        appliance->drain_ms = 0;
        appliance_stop(appliance);
        return err;
    }
    appliance->started_ns = appliance->tickets_ns = clock_mono_ns();
    journal_life(appliance, JOURNAL_START);
    *out = appliance;
    return ERR_OK;
}

/* --- while it runs --- */

void appliance_tend(struct appliance *appliance)
{
    hsm_supervise(appliance->shared.hsm);
    uint64_t now_ns = clock_mono_ns();
    if (now_ns - appliance->tickets_ns > TICKET_ROTATE_S * NS_PER_S) {
        appliance->tickets_ns = now_ns;
        tls_tickets_rotate();
    }
    for (uint32_t i = 0; i < SNAPSHOTS_MAX; i++) {
        struct snapshot *old = appliance->old[i];
        if (old && old != appliance->hsm_snapshot && atomic_load(&old->cores_holding) == 0) {
            appliance->old[i] = NULL;
            snapshot_free(old);
        }
    }
}

int appliance_poll_fd(const struct appliance *appliance)
{
    return hsm_supervise_fd(appliance->shared.hsm);
}

static bool same_text(const char *a, const char *b)
{
    return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

static const char *needs_restart(const struct config *now, const struct config *next)
{
    if (!same_text(now->store.dir, next->store.dir) ||
        now->store.map_size != next->store.map_size) {
        return "store";
    }
    if (now->cores != next->cores || now->pin_cores != next->pin_cores) {
        return "cores";
    }
    bool same =
        now->listeners_count == next->listeners_count && now->tokens_count == next->tokens_count;
    for (uint32_t i = 0; same && i < now->listeners_count; i++) {
        same = same_text(now->listeners[i].address, next->listeners[i].address) &&
               now->listeners[i].port == next->listeners[i].port &&
               now->listeners[i].tls == next->listeners[i].tls;
    }
    for (uint32_t i = 0; same && i < now->tokens_count; i++) {
        same = same_text(now->tokens[i].name, next->tokens[i].name) &&
               same_text(now->tokens[i].module, next->tokens[i].module) &&
               same_text(now->tokens[i].uri, next->tokens[i].uri) &&
               now->tokens[i].signers == next->tokens[i].signers &&
               now->tokens[i].network == next->tokens[i].network &&
               now->tokens[i].sessions == next->tokens[i].sessions;
    }
    return same ? NULL : "listeners or tokens";
}

/* Keys that the signers do not know yet are added; who changed key or token signs with another one
 * from this snapshot on, while requests of the old snapshot finish with the old one. */
static enum err map_keys(struct appliance *appliance, struct snapshot *next,
                         char out_detail[CONFIG_ERROR_MAX])
{
    struct hsm_key_config keys[KEYS_MAX];
    uint32_t count = snapshot_hsm_keys(next, keys);
    for (uint32_t i = 0; i < count; i++) {
        char reason[HSM_REASON_MAX] = "";
        enum err err = hsm_add_key(appliance->shared.hsm, &keys[i], KEY_LOOK_TIMEOUT_MS,
                                   snapshot_key_index(next, i), reason);
        if (err != ERR_OK) {
            snprintf(out_detail, CONFIG_ERROR_MAX,
                     "%s %s cannot sign with %s (%s): %s; nothing was changed",
                     i < next->ca_count ? "ca" : "cmp_signer", keys[i].name, keys[i].uri,
                     err_code(err), reason);
            return err;
        }
    }
    return ERR_OK;
}

static const struct rt_ca *ca_named(const struct snapshot *snapshot, const char *name)
{
    for (uint32_t i = 0; i < snapshot->ca_count; i++) {
        if (strcmp(snapshot->cas[i].name, name) == 0) {
            return &snapshot->cas[i];
        }
    }
    return NULL;
}

static void journal_text(struct appliance *appliance, const char *text)
{
    struct journal_entry entry = {.kind = JOURNAL_CONFIG, .text = bytes_of_str(text)};
    if (store_journal(appliance->shared.store, &entry) != ERR_OK) {
        log_error("journal", "the reload could not be recorded");
    }
}

/* Says which CA signs with another key now; also when its name is new. */
static void journal_reload(struct appliance *appliance, const struct snapshot *before)
{
    const struct snapshot *now = appliance->snapshot;
    journal_text(appliance, "configuration reloaded");
    for (uint32_t i = 0; i < now->ca_count; i++) {
        const struct rt_ca *ca = &now->cas[i], *old = ca_named(before, ca->name);
        if (old && old->key_index == ca->key_index) {
            continue;
        }
        char text[JOURNAL_TEXT_MAX];
        snprintf(text, sizeof(text), "ca %s signs with %.400s", ca->name, now->config->cas[i].key);
        journal_text(appliance, text);
        log_info("ca-key-changed", "ca=%s key=%s", ca->name, now->config->cas[i].key);
    }
}

static int free_old_slot(const struct appliance *appliance)
{
    for (int i = 0; i < SNAPSHOTS_MAX; i++) {
        if (!appliance->old[i]) {
            return i;
        }
    }
    return -1;
}

enum err appliance_reload(struct appliance *appliance, char out_detail[CONFIG_ERROR_MAX])
{
    struct shared *shared = &appliance->shared;
    int slot = free_old_slot(appliance);
    if (slot < 0) {
        snprintf(out_detail, CONFIG_ERROR_MAX,
                 "requests still use the last %d configurations; try again in a moment",
                 SNAPSHOTS_MAX);
        return ERR_OVERLOADED;
    }
    struct config *config = NULL;
    enum err err = config_load(appliance->snapshot->config->path, &config, out_detail);
    if (err != ERR_OK) {
        return err;
    }
    const char *restart = needs_restart(appliance->snapshot->config, config);
    if (restart) {
        snprintf(out_detail, CONFIG_ERROR_MAX,
                 "a change of %s needs a restart; nothing was changed", restart);
        config_free(config);
        return ERR_CONFIG;
    }
    struct snapshot *next = NULL;
    err = snapshot_compile(config, shared->store, shared->core_count, &next, out_detail);
    if (err != ERR_OK) {
        return err;
    }
    err = map_keys(appliance, next, out_detail);
    if (err != ERR_OK) {
        snapshot_free(next);
        return err;
    }
    struct snapshot *before = appliance->snapshot;
    next->generation = before->generation + 1;
    appliance->old[slot] = before;
    appliance->snapshot = next;
    post_all(appliance, MSG_SNAPSHOT, next);
    crl_publisher_snapshot(shared->crl, next);
    journal_reload(appliance, before); /* appliance_tend alone frees it */
    return ERR_OK;
}

/* --- stop --- */

static void drain(struct appliance *appliance)
{
    struct shared *shared = &appliance->shared;
    post_all(appliance, MSG_DRAIN, NULL);
    uint64_t end_ns = clock_mono_ns() + appliance->drain_ms * NS_PER_MS;
    while (atomic_load(&shared->cores_idle) < shared->core_count && clock_mono_ns() < end_ns) {
        hsm_supervise(shared->hsm);
        log_drain();
        usleep(5000);
    }
}

void appliance_stop(struct appliance *appliance)
{
    struct shared *shared = &appliance->shared;
    crl_publisher_stop(shared->crl);
    if (appliance->started_ns) {
        drain(appliance);
    }
    if (shared->mailboxes) {
        join_cores(appliance);
    }
    costly_stop(shared->costly);
    costly_stop(shared->mac_worker);
    if (shared->store) {
        if (appliance->started_ns) {
            journal_life(appliance, JOURNAL_STOP);
        }
        store_stop(shared->store);
    }
    destroy_cores(appliance);
    crl_publisher_free(shared->crl);
    if (shared->hsm) {
        hsm_stop(shared->hsm, SIGNER_STOP_TIMEOUT_MS);
    }
    for (uint32_t i = 0; i < shared->listener_count; i++) {
        close(shared->listen_fds[i]);
    }
    for (uint32_t i = 0; i < SNAPSHOTS_MAX; i++) {
        if (appliance->old[i]) {
            snapshot_free(appliance->old[i]);
        }
    }
    if (appliance->snapshot) {
        snapshot_free(appliance->snapshot);
    }
    if (shared->mailboxes) {
        mailboxes_destroy(shared->mailboxes);
    }
    for (uint32_t i = 0; i < shared->core_count; i++) {
        if (shared->wakes[i].flag && shared->wakes[i].event_fd > 0) {
            close(shared->wakes[i].event_fd);
        }
        free(shared->boards[i]);
        free(shared->metrics[i]);
    }
    for (uint32_t i = 0; i < TOKENS_MAX; i++) {
        free((char *)(uintptr_t)appliance->tokens[i].pin_file);
        free(appliance->rv_classes[i]);
    }
    if (shared->store) {
        store_close(shared->store);
    }
    free(appliance);
}

const struct shared *appliance_shared(const struct appliance *appliance)
{
    return &appliance->shared;
}

const struct snapshot *appliance_snapshot(const struct appliance *appliance)
{
    return appliance->snapshot;
}

uint64_t appliance_started_ns(const struct appliance *appliance)
{
    return appliance->started_ns;
}
