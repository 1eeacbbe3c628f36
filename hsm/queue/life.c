#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "hsm/queue/supervise.h"

/* Starting, loading the module and logging in to an HSM across a network. */
#define START_MAX_NS (60 * NS_PER_S)
/* A signer that has work and finishes none for this long is killed: a stall of one deadline passes.
 */
#define HANG_MIN_NS (15 * NS_PER_S)
/* A process that has signed this much was no failed start: its successor starts at once. */
enum { PRODUCTIVE = 100, BACKOFF_SHIFT_MAX = 7 };
#define BACKOFF_MIN_NS (100 * NS_PER_MS)

/* --- what signers say --- */

static void set_error(struct hsm *hsm, const struct signer *signer, const char *text)
{
    struct supervisor *sup = hsm->supervisor;
    pthread_mutex_lock(&sup->text_lock);
    snprintf(sup->last_error[signer->index], SHM_ERROR_TEXT, "%s", text);
    pthread_mutex_unlock(&sup->text_lock);
}

static void take_error(struct hsm *hsm, struct signer *signer)
{
    const struct shm_signer *shm = shm_of(signer);
    uint32_t seq = atomic_load_explicit(&shm->error_seq, memory_order_acquire);
    if (seq == signer->error_seq_seen || seq % 2 != 0)
        return;
    char text[SHM_ERROR_TEXT];
    const volatile char *there = shm->error_text;
    for (size_t i = 0; i < sizeof(text) - 1; i++) {
        char c = there[i];
        text[i] = c == 0 || (c >= 0x20 && c < 0x7f) ? c : '?';
    }
    text[sizeof(text) - 1] = 0;
    atomic_thread_fence(memory_order_acquire);
    if (atomic_load_explicit(&shm->error_seq, memory_order_relaxed) != seq)
        return; /* next time */
    signer->error_seq_seen = seq;
    set_error(hsm, signer, text);
    log_warn("signer-error", "token=%s signer=%u pid=%d error=\"%s\"",
             hsm->supervisor->tokens[signer->token_index].name, signer->index, (int)signer->pid,
             text);
}

static void take_counter(struct signer *signer, uint32_t counter, const _Atomic uint64_t *from)
{
    atomic_store_explicit(&signer->counted_now[counter],
                          atomic_load_explicit(from, memory_order_relaxed), memory_order_relaxed);
}

static void take_counters(struct signer *signer)
{
    const struct shm_signer *shm = shm_of(signer);
    take_counter(signer, COUNT_SIGNED, &shm->signed_total);
    take_counter(signer, COUNT_BATCHES, &shm->batches_total);
    take_counter(signer, COUNT_BATCH_JOBS, &shm->batch_jobs_total);
    for (uint32_t i = 0; i < SHM_BATCH_BUCKETS; i++)
        take_counter(signer, COUNT_BATCH_SIZE + i, &shm->batches_by_size[i]);
    for (uint32_t i = 0; i < SHM_CLASSES; i++)
        take_counter(signer, COUNT_ERRORS + i, &shm->errors_by_class[i]);
    atomic_store_explicit(&signer->counted_now[COUNT_LOGINS],
                          atomic_load_explicit(&shm->logins, memory_order_relaxed),
                          memory_order_relaxed);
}

/* What this process did becomes the past. */
static void keep_counters(struct signer *signer)
{
    for (uint32_t i = 0; i < COUNTERS; i++)
        atomic_fetch_add_explicit(
            &signer->counted_before[i],
            atomic_exchange_explicit(&signer->counted_now[i], 0, memory_order_relaxed),
            memory_order_relaxed);
}

static void set_state(struct signer *signer, enum phase phase, enum hsm_signer_state state)
{
    signer->phase = phase;
    atomic_store_explicit(&signer->status_state, state, memory_order_relaxed);
}

/* --- life and death --- */

/* Unmaps memory of dead epochs that no core uses. */
static void retire_maps(struct hsm *hsm, struct signer *signer)
{
    uint32_t *epochs = hsm->supervisor->map_epoch[signer->index];
    uint32_t dead = atomic_load_explicit(&signer->epoch_dead, memory_order_seq_cst);
    for (uint32_t i = 0; i < EPOCHS_KEPT; i++) {
        if (epochs[i] == 0 || epochs[i] > dead)
            continue;
        bool used = false;
        for (uint32_t c = 0; c < hsm->core_count; c++)
            used |= atomic_load_explicit(&hsm->cores[c].views[signer->index].bound,
                                         memory_order_seq_cst) == epochs[i];
        if (used)
            continue;
        munmap(atomic_load_explicit(&signer->maps[i], memory_order_relaxed),
               shm_len(hsm->core_count));
        atomic_store_explicit(&signer->maps[i], NULL, memory_order_relaxed);
        epochs[i] = 0;
    }
}

static void fill_config(const struct hsm *hsm, const struct signer *signer, struct wire_signer *out)
{
    const struct supervisor *sup = hsm->supervisor;
    const struct hsm_token_config *token = &sup->tokens[signer->token_index];
    *out = (struct wire_signer){
        .parent_pid = (uint32_t)getpid(),
        .core_count = hsm->core_count,
        .log_level = log_get_level(),
        .sessions = token->sessions,
        .allow_network = token->allow_network,
        .name = token->name,
        .module_path = token->module_path,
        .uri = token->uri,
        .pin_file = token->pin_file,
        .pin_env = token->pin_env,
        .pin_credential = token->pin_credential,
        .rv_classes = token->rv_classes,
    };
    for (uint32_t i = 0; i < hsm->core_count; i++)
        out->wake_index[i] = (uint8_t)(hsm->core_wakes[i].flag - sup->wake_flags);
    for (uint32_t i = 0; i < hsm->key_count; i++) {
        if ((hsm->keys[i].signers >> signer->index & 1) == 0 || sup->key_abandoned[i])
            continue;
        const struct hsm_key_config *key = &sup->keys[i];
        out->keys[out->key_count++] = (struct wire_key){
            .index = i,
            .name = key->name,
            .uri = key->uri,
            .mechanism = key->mechanism,
            .allow_extractable = key->allow_extractable,
            .has_spki = key->has_spki,
        };
        memcpy(out->keys[out->key_count - 1].spki_sha256, key->spki_sha256,
               sizeof(key->spki_sha256));
    }
}

static struct shm_signer *new_map(struct hsm *hsm, int *out_fd)
{
    size_t len = shm_len(hsm->core_count);
    int fd = sealed_memfd("certmill-queue", (struct bytes){0}, len);
    if (fd < 0)
        return NULL;
    struct shm_signer *shm = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shm == MAP_FAILED) {
        close(fd);
        return NULL;
    }
    shm->magic = SHM_MAGIC;
    shm->version = SHM_VERSION;
    shm->core_count = hsm->core_count;
    shm->total_len_kib = (uint32_t)(len / 1024);
    *out_fd = fd;
    return shm;
}

static void watch(struct hsm *hsm, const struct signer *signer)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = signer->index};
    if (signer->pid_fd >= 0)
        (void)epoll_ctl(hsm->supervisor->epoll, EPOLL_CTL_ADD, signer->pid_fd, &event);
}

static void start_signer(struct hsm *hsm, struct signer *signer, uint64_t now)
{
    struct supervisor *sup = hsm->supervisor;
    uint32_t epoch = signer->epoch + 1;
    retire_maps(hsm, signer);
    if (sup->map_epoch[signer->index][epoch % EPOCHS_KEPT] != 0)
        return; /* a core still looks at the memory of the last but three: wait for it */

    const char *others[TOKENS_MAX];
    uint32_t other_count = 0;
    const char *own = sup->tokens[signer->token_index].pin_env;
    for (uint32_t i = 0; i < hsm->token_count; i++) {
        const char *name = sup->tokens[i].pin_env;
        if (name != NULL && (own == NULL || strcmp(name, own) != 0))
            others[other_count++] = name;
    }
    struct wire_signer config;
    fill_config(hsm, signer, &config);
    struct shm_signer *shm = new_map(hsm, &sup->fds.shm);
    sup->fds.keys = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    enum err err = shm == NULL || sup->fds.keys < 0
                       ? ERR_NO_SPACE
                       : spawn_signer(sup->path, &config, &sup->fds, others, other_count,
                                      &signer->pid, &signer->pid_fd);
    if (shm != NULL)
        close(sup->fds.shm);
    if (err != ERR_OK) {
        if (sup->fds.keys >= 0)
            close(sup->fds.keys);
        if (shm != NULL)
            munmap(shm, shm_len(hsm->core_count));
        set_error(hsm, signer, "certmill-signer cannot be started");
        sup->deaths[signer->index]++;
        signer->restart_at_ns = now + NS_PER_S;
        return;
    }
    signer->keys_fd = sup->fds.keys;
    signer->keys_known = 0;
    for (uint32_t i = 0; i < config.key_count; i++)
        signer->keys_known |= 1ull << config.keys[i].index;
    signer->keys_told = signer->look_wanted = 0;
    signer->epoch = epoch;
    signer->spawned_ns = now;
    signer->error_seq_seen = 0;
    signer->progress_seen = 0;
    signer->progress_ns = now;
    sup->map_epoch[signer->index][epoch % EPOCHS_KEPT] = epoch;
    atomic_store_explicit(&signer->maps[epoch % EPOCHS_KEPT], shm, memory_order_release);
    atomic_store_explicit(&signer->status_pid, signer->pid, memory_order_relaxed);
    set_state(signer, PHASE_STARTING, HSM_SIGNER_STARTING);
    watch(hsm, signer);
}

static void signer_ready(struct hsm *hsm, struct signer *signer)
{
    set_state(signer, PHASE_UP, HSM_SIGNER_UP);
    breaker_reset(signer);
    atomic_store_explicit(&signer->limit, UINT32_MAX, memory_order_relaxed);
    atomic_store_explicit(&signer->stalled_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&signer->down_since_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&signer->epoch_up, signer->epoch, memory_order_release);
    wake_cores(hsm);
    log_info("signer-up", "token=%s signer=%u pid=%d sessions=%u",
             hsm->supervisor->tokens[signer->token_index].name, signer->index, (int)signer->pid,
             atomic_load_explicit(&shm_of(signer)->sessions_open, memory_order_relaxed));
}

static void give_up(struct hsm *hsm, struct signer *signer, enum err err)
{
    atomic_store_explicit(&signer->failed, err, memory_order_relaxed);
    set_state(signer, PHASE_FAILED, HSM_SIGNER_FAILED);
    wake_cores(hsm); /* jobs that wait for it alone have no hope */
}

static void pin_was_refused(struct hsm *hsm, const struct signer *signer)
{
    struct supervisor *sup = hsm->supervisor;
    sup->pin_refused[signer->token_index] = true;
    log_error(
        "ALARM-pin-refused",
        "token=%s the token refused the PIN; it was tried once and is not tried again, so that "
        "the token is not locked; correct the PIN and restart certmill",
        sup->tokens[signer->token_index].name);
    for (uint32_t i = 0; i < hsm->signer_count; i++) {
        struct signer *other = &hsm->signers[i];
        if (other->token_index == signer->token_index && other->phase == PHASE_DOWN)
            give_up(hsm, other, ERR_PIN_WRONG);
    }
}

static void plan_restart(struct signer *signer, uint64_t now)
{
    uint64_t count = atomic_load_explicit(&signer->counted_now[COUNT_SIGNED], memory_order_relaxed);
    /* at once after some work, or the first time that one dies which was up */
    if (count >= PRODUCTIVE)
        signer->quick_deaths = 0;
    uint32_t shift =
        signer->quick_deaths < BACKOFF_SHIFT_MAX ? signer->quick_deaths : BACKOFF_SHIFT_MAX;
    if (signer->phase == PHASE_STARTING && shift == 0)
        shift = 1;
    signer->quick_deaths = shift + 1;
    signer->restart_at_ns = shift == 0 ? now : now + (BACKOFF_MIN_NS << (shift - 1));
    atomic_fetch_add_explicit(&signer->restarts, 1, memory_order_relaxed);
    set_state(signer, PHASE_DOWN, HSM_SIGNER_DOWN);
}

static void signer_died(struct hsm *hsm, struct signer *signer, int status, uint64_t now)
{
    struct supervisor *sup = hsm->supervisor;
    const char *name = sup->tokens[signer->token_index].name;
    take_error(hsm, signer);
    take_counters(signer);
    atomic_store_explicit(&signer->epoch_dead, signer->epoch, memory_order_seq_cst);
    if (atomic_load_explicit(&signer->down_since_ns, memory_order_relaxed) == 0)
        atomic_store_explicit(&signer->down_since_ns, now, memory_order_relaxed);
    if (signer->pid_fd >= 0)
        close(signer->pid_fd); /* leaves the epoll with it */
    close(signer->keys_fd);
    signer->keys_fd = -1;
    log_warn("signer-died", "token=%s signer=%u pid=%d %s=%d signed=%llu", name, signer->index,
             (int)signer->pid, WIFEXITED(status) ? "exit" : "signal",
             WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
             (unsigned long long)atomic_load_explicit(&signer->counted_now[COUNT_SIGNED],
                                                      memory_order_relaxed));
    signer->pid = 0;
    signer->pid_fd = -1;
    sup->deaths[signer->index]++;
    atomic_store_explicit(&signer->status_pid, 0, memory_order_relaxed);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (code == SIGNER_EXIT_PIN) {
        give_up(hsm, signer, ERR_PIN_WRONG);
        pin_was_refused(hsm, signer);
    } else if (code == SIGNER_EXIT_CONFIG) {
        give_up(hsm, signer, ERR_CONFIG);
    } else if (sup->pin_refused[signer->token_index]) {
        give_up(hsm, signer, ERR_PIN_WRONG); /* its successor would try it a second time */
    } else {
        plan_restart(signer, now);
    }
    keep_counters(signer);
    wake_cores(hsm);
}

void kill_signer(struct hsm *hsm, struct signer *signer, const char *why)
{
    log_error("signer-killed", "token=%s signer=%u pid=%d why=\"%s\"",
              hsm->supervisor->tokens[signer->token_index].name, signer->index, (int)signer->pid,
              why);
    kill(signer->pid, SIGKILL);
}

static void check_hang(struct hsm *hsm, struct signer *signer, uint64_t now)
{
    const struct shm_signer *shm = shm_of(signer);
    uint64_t progress = atomic_load_explicit(&shm->signed_total, memory_order_relaxed);
    for (uint32_t i = 0; i < SHM_CLASSES; i++)
        progress += atomic_load_explicit(&shm->errors_by_class[i], memory_order_relaxed);
    if (progress != signer->progress_seen ||
        atomic_load_explicit(&signer->in_flight, memory_order_relaxed) == 0) {
        signer->progress_seen = progress;
        signer->progress_ns = now;
        return;
    }
    uint32_t deadline_ms = hsm->supervisor->tokens[signer->token_index].deadline_ms;
    uint64_t hang_ns = deadline_ms * NS_PER_MS * 3 / 2;
    if (now - signer->progress_ns > (hang_ns > HANG_MIN_NS ? hang_ns : HANG_MIN_NS)) {
        kill_signer(hsm, signer, "it has finished nothing for too long");
        signer->progress_ns = now;
    }
}

/* Signers of one token start one after the other: a PIN that is wrong stops the first and the
 * others never begin, and SoftHSM, which rewrites its token's file at a login, has nobody else
 * reading it. */
static bool is_next_to_start(const struct hsm *hsm, const struct signer *signer)
{
    for (uint32_t i = 0; i < hsm->signer_count; i++) {
        const struct signer *other = &hsm->signers[i];
        if (other->token_index == signer->token_index && other->phase == PHASE_STARTING)
            return false;
    }
    return true;
}

static void note_breaker(struct hsm *hsm, struct signer *signer, uint64_t now)
{
    bool open = atomic_load_explicit(&signer->breaker_until_ns, memory_order_relaxed) != 0;
    if (open == signer->breaker_was_open)
        return;
    signer->breaker_was_open = open;
    (void)now;
    if (open)
        log_warn("breaker-open", "token=%s signer=%u",
                 hsm->supervisor->tokens[signer->token_index].name, signer->index);
    else
        log_info("breaker-closed", "token=%s signer=%u",
                 hsm->supervisor->tokens[signer->token_index].name, signer->index);
}

void supervise_one(struct hsm *hsm, struct signer *signer, uint64_t now)
{
    int status;
    if (signer->pid != 0 && waitpid(signer->pid, &status, WNOHANG) == signer->pid)
        signer_died(hsm, signer, status, now);
    switch ((enum phase)signer->phase) {
    case PHASE_DOWN:
        retire_maps(hsm, signer);
        if (now >= signer->restart_at_ns && is_next_to_start(hsm, signer))
            start_signer(hsm, signer, now);
        break;
    case PHASE_STARTING:
        take_error(hsm, signer);
        if (atomic_load_explicit(&shm_of(signer)->state, memory_order_acquire) == SHM_READY)
            signer_ready(hsm, signer);
        else if (now - signer->spawned_ns > START_MAX_NS)
            kill_signer(hsm, signer, "it did not start in time");
        break;
    case PHASE_UP:
        take_error(hsm, signer);
        take_counters(signer);
        note_breaker(hsm, signer, now);
        if (atomic_load_explicit(&signer->misbehaved, memory_order_acquire) == signer->epoch)
            kill_signer(hsm, signer, "it broke the rules of the shared memory");
        else
            check_hang(hsm, signer, now);
        break;
    case PHASE_FAILED:
        retire_maps(hsm, signer);
        break;
    }
}
