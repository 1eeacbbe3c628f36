#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "hsm/queue/internal.h"
#include "hsm/queue/spawn.h"

/* Starting, loading the module and logging in to an HSM across a network. */
#define START_MAX_NS (60 * NS_PER_S)
/* A signer that has work and finishes none for this long is killed: a stall of one deadline passes.
 */
#define HANG_MIN_NS (15 * NS_PER_S)
/* A process that has signed this much was no failed start: its successor starts at once. */
enum { PRODUCTIVE = 100, BACKOFF_SHIFT_MAX = 7, WAKE_PAGES_MAX = 64, PATH_LEN = 512 };
#define BACKOFF_MIN_NS (100 * NS_PER_MS)

enum phase { PHASE_DOWN, PHASE_STARTING, PHASE_UP, PHASE_FAILED };

struct supervisor {
    struct hsm_token_config tokens[TOKENS_MAX];
    struct hsm_key_config keys[KEYS_MAX];
    uint32_t map_epoch[SIGNERS_MAX][EPOCHS_KEPT];
    bool pin_refused[TOKENS_MAX];
    uint32_t deaths[SIGNERS_MAX];
    char path[PATH_LEN];
    const struct wake_flag *wake_flags;
    struct spawn_fds fds;
    int parent_write;
    int epoll;
    pthread_mutex_t text_lock; /* last_error: written here, read by hsm_status on any thread */
    char last_error[SIGNERS_MAX][SHM_ERROR_TEXT];
};

/* --- wake flags: one page that cores, and signers of any hsm, map --- */

static struct wake_page {
    struct wake_flag *flags;
    uint32_t count;
    int fd;
} wake_pages[WAKE_PAGES_MAX];
static uint32_t wake_page_count;

struct wake_flag *hsm_wake_flags(uint32_t core_count)
{
    size_t len = sizeof(struct wake_flag) * CORES_MAX;
    if (core_count == 0 || core_count > CORES_MAX || wake_page_count == WAKE_PAGES_MAX)
        return NULL;
    int fd = sealed_memfd("certmill-wake", (struct bytes){0}, len);
    if (fd < 0)
        return NULL;
    void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mem == MAP_FAILED) {
        close(fd);
        return NULL;
    }
    wake_pages[wake_page_count++] = (struct wake_page){mem, core_count, fd};
    return mem;
}

static const struct wake_page *wake_page_of(const struct wake *wakes, uint32_t core_count)
{
    for (uint32_t i = 0; i < wake_page_count; i++) {
        bool all = true;
        for (uint32_t c = 0; c < core_count && all; c++)
            all = wakes[c].flag >= wake_pages[i].flags &&
                  wakes[c].flag < wake_pages[i].flags + wake_pages[i].count;
        if (all)
            return &wake_pages[i];
    }
    return NULL;
}

void wake_cores(struct hsm *hsm)
{
    for (uint32_t i = 0; i < hsm->core_count; i++)
        wake_signal(&hsm->core_wakes[i]);
}

/* --- what signers say --- */

static void set_error(struct hsm *hsm, const struct signer *signer, const char *text)
{
    struct supervisor *sup = hsm->supervisor;
    pthread_mutex_lock(&sup->text_lock);
    snprintf(sup->last_error[signer->index], SHM_ERROR_TEXT, "%s", text);
    pthread_mutex_unlock(&sup->text_lock);
}

static struct shm_signer *shm_of(struct signer *signer)
{
    return atomic_load_explicit(&signer->maps[signer->epoch % EPOCHS_KEPT], memory_order_relaxed);
}

static void take_error(struct hsm *hsm, struct signer *signer)
{
    const struct shm_signer *shm = shm_of(signer);
    uint32_t seq = atomic_load_explicit(&shm->error_seq, memory_order_acquire);
    if (seq == signer->error_seq_seen || seq % 2 != 0)
        return;
    char text[SHM_ERROR_TEXT];
    const volatile char *there = shm->error_text;
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        text[i] = there[i];
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

static void take_counters(struct signer *signer)
{
    const struct shm_signer *shm = shm_of(signer);
    atomic_store_explicit(&signer->signed_now,
                          atomic_load_explicit(&shm->signed_total, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(&signer->batches_now,
                          atomic_load_explicit(&shm->batches_total, memory_order_relaxed),
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
        if ((hsm->keys[i].signers >> signer->index & 1) == 0)
            continue;
        const struct hsm_key_config *key = &sup->keys[i];
        out->keys[out->key_count++] = (struct wire_key){
            .index = i,
            .name = key->name,
            .uri = key->uri,
            .mechanism = key->mechanism,
            .allow_extractable = key->allow_extractable,
        };
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
    enum err err = shm == NULL ? ERR_NO_SPACE
                               : spawn_signer(sup->path, &config, &sup->fds, others, other_count,
                                              &signer->pid, &signer->pid_fd);
    if (shm != NULL)
        close(sup->fds.shm);
    if (err != ERR_OK) {
        if (shm != NULL)
            munmap(shm, shm_len(hsm->core_count));
        set_error(hsm, signer, "certmill-signer cannot be started");
        sup->deaths[signer->index]++;
        signer->restart_at_ns = now + NS_PER_S;
        return;
    }
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
    uint64_t count = atomic_load_explicit(&signer->signed_now, memory_order_relaxed);
    /* at once after some work, or the first time that one dies which was up */
    if (count >= PRODUCTIVE)
        signer->quick_deaths = 0;
    uint32_t shift = signer->quick_deaths < BACKOFF_SHIFT_MAX ? signer->quick_deaths
                                                              : BACKOFF_SHIFT_MAX;
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
    log_warn("signer-died", "token=%s signer=%u pid=%d %s=%d signed=%llu", name, signer->index,
             (int)signer->pid, WIFEXITED(status) ? "exit" : "signal",
             WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status),
             (unsigned long long)atomic_load_explicit(&signer->signed_now, memory_order_relaxed));
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
    /* what this process did becomes the past */
    atomic_fetch_add_explicit(
        &signer->signed_before,
        atomic_exchange_explicit(&signer->signed_now, 0, memory_order_relaxed),
        memory_order_relaxed);
    atomic_fetch_add_explicit(
        &signer->batches_before,
        atomic_exchange_explicit(&signer->batches_now, 0, memory_order_relaxed),
        memory_order_relaxed);
    wake_cores(hsm);
}

static void kill_signer(struct hsm *hsm, struct signer *signer, const char *why)
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

/* At most one signer of a token is on its way to C_Login: should the PIN be wrong, it is tried
 * once. */
static bool login_is_free(const struct hsm *hsm, const struct signer *signer)
{
    for (uint32_t i = 0; i < hsm->signer_count; i++) {
        struct signer *other = &hsm->signers[i];
        if (other->token_index == signer->token_index && other->phase == PHASE_STARTING &&
            atomic_load_explicit(&shm_of(other)->state, memory_order_relaxed) == SHM_LOADING)
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

static void supervise_one(struct hsm *hsm, struct signer *signer, uint64_t now)
{
    int status;
    if (signer->pid != 0 && waitpid(signer->pid, &status, WNOHANG) == signer->pid)
        signer_died(hsm, signer, status, now);
    switch ((enum phase)signer->phase) {
    case PHASE_DOWN:
        retire_maps(hsm, signer);
        if (now >= signer->restart_at_ns && login_is_free(hsm, signer))
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

void hsm_supervise(struct hsm *hsm)
{
    uint64_t count;
    while (read(hsm->supervisor->fds.notify, &count, sizeof(count)) < 0 && errno == EINTR)
        ;
    if (atomic_load_explicit(&hsm->stopping, memory_order_relaxed) != 0)
        return;
    uint64_t now = clock_mono_ns();
    for (uint32_t i = 0; i < hsm->signer_count; i++)
        supervise_one(hsm, &hsm->signers[i], now);
}

int hsm_supervise_fd(const struct hsm *hsm)
{
    return hsm->supervisor->epoll;
}

/* --- start and stop --- */

static bool find_signer_path(const struct hsm_config *config, char *out)
{
    if (config->signer_path != NULL)
        return (size_t)snprintf(out, PATH_LEN, "%s", config->signer_path) < PATH_LEN;
    const char *name = "/certmill-signer";
    ssize_t len = readlink("/proc/self/exe", out, PATH_LEN - 1);
    if (len <= 0)
        return false;
    out[len] = 0;
    char *slash = strrchr(out, '/');
    if (slash == NULL || (size_t)(slash - out) + strlen(name) >= PATH_LEN)
        return false;
    strcpy(slash, name);
    return true;
}

static bool config_is_sane(const struct hsm_config *config)
{
    if (config->token_count == 0 || config->token_count > TOKENS_MAX || config->key_count == 0 ||
        config->key_count > KEYS_MAX || config->core_count == 0 || config->core_count > CORES_MAX)
        return false;
    uint32_t signers = 0;
    for (uint32_t i = 0; i < config->token_count; i++) {
        const struct hsm_token_config *token = &config->tokens[i];
        if (token->signer_count == 0 || token->signer_count > SIGNERS_MAX || token->sessions == 0 ||
            token->sessions > SESSIONS_PER_SIGNER_MAX)
            return false;
        signers += token->signer_count;
    }
    for (uint32_t i = 0; i < config->key_count; i++) {
        const struct hsm_key_config *key = &config->keys[i];
        if (key->token_count == 0 || key->token_count > TOKENS_MAX ||
            (unsigned)key->mechanism >= SIGN_MECH_COUNT)
            return false;
        for (uint32_t t = 0; t < key->token_count; t++) {
            if (key->tokens[t] >= config->token_count)
                return false;
        }
    }
    return signers <= SIGNERS_MAX;
}

static void init_signers(struct hsm *hsm, const struct hsm_config *config, uint64_t now)
{
    for (uint32_t t = 0; t < config->token_count; t++) {
        for (uint32_t i = 0; i < config->tokens[t].signer_count; i++) {
            struct signer *signer = &hsm->signers[hsm->signer_count];
            signer->index = hsm->signer_count++;
            signer->token_index = t;
            signer->sessions = config->tokens[t].sessions;
            signer->pid_fd = -1;
            signer->limit = UINT32_MAX;
            signer->down_since_ns = now;
        }
    }
}

static void init_keys(struct hsm *hsm, const struct hsm_config *config)
{
    for (uint32_t i = 0; i < config->key_count; i++) {
        const struct hsm_key_config *wanted = &config->keys[i];
        struct key *key = &hsm->keys[i];
        for (uint32_t t = 0; t < wanted->token_count; t++) {
            uint32_t token = wanted->tokens[t];
            uint32_t ms = config->tokens[token].deadline_ms;
            uint64_t ns = (ms != 0 ? ms : SIGN_DEADLINE_MS) * NS_PER_MS;
            if (ns > key->deadline_ns)
                key->deadline_ns = ns;
            for (uint32_t s = 0; s < hsm->signer_count; s++) {
                if (hsm->signers[s].token_index == token)
                    key->signers |= 1u << s;
            }
        }
        key->large = wanted->mechanism != SIGN_MECH_ECDSA && wanted->mechanism != SIGN_MECH_EDDSA;
    }
}

static enum err open_fds(struct hsm *hsm, const struct wake_page *page)
{
    struct supervisor *sup = hsm->supervisor;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return ERR_IO;
    sup->fds.parent = ends[0];
    sup->parent_write = ends[1];
    sup->fds.notify = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    sup->epoll = epoll_create1(EPOLL_CLOEXEC);
    sup->fds.wake_flags = page->fd;
    sup->wake_flags = page->flags;
    for (uint32_t i = 0; i < hsm->core_count; i++)
        sup->fds.cores[i] = hsm->core_wakes[i].event_fd;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    if (sup->fds.notify < 0 || sup->epoll < 0 ||
        epoll_ctl(sup->epoll, EPOLL_CTL_ADD, sup->fds.notify, &event) != 0)
        return ERR_IO;
    return ERR_OK;
}

static enum err build(struct hsm *hsm, const struct hsm_config *config)
{
    struct supervisor *sup = calloc(1, sizeof(*sup));
    if (sup == NULL)
        return ERR_NO_SPACE;
    hsm->supervisor = sup;
    sup->fds.parent = sup->fds.notify = sup->parent_write = sup->epoll = -1;
    pthread_mutex_init(&sup->text_lock, NULL);
    hsm->core_count = config->core_count;
    hsm->key_count = config->key_count;
    hsm->token_count = config->token_count;
    memcpy(sup->tokens, config->tokens, config->token_count * sizeof(sup->tokens[0]));
    memcpy(sup->keys, config->keys, config->key_count * sizeof(sup->keys[0]));
    memcpy(hsm->core_wakes, config->core_wakes, config->core_count * sizeof(hsm->core_wakes[0]));
    const struct wake_page *page = wake_page_of(config->core_wakes, config->core_count);
    if (page == NULL || !find_signer_path(config, sup->path))
        return ERR_CONFIG;
    hsm->signers = aligned_alloc(_Alignof(struct signer), SIGNERS_MAX * sizeof(struct signer));
    hsm->cores = calloc(hsm->core_count, sizeof(struct core));
    hsm->token_hist = calloc(hsm->token_count, sizeof(struct hist));
    if (hsm->signers == NULL || hsm->cores == NULL || hsm->token_hist == NULL)
        return ERR_NO_SPACE;
    memset(hsm->signers, 0, SIGNERS_MAX * sizeof(struct signer));
    init_signers(hsm, config, clock_mono_ns());
    init_keys(hsm, config);
    for (uint32_t i = 0; i < hsm->core_count; i++) {
        enum err err = core_init(hsm, i);
        if (err != ERR_OK)
            return err;
    }
    return open_fds(hsm, page);
}

/* Up, failed for good, or its first try has ended. */
static bool is_settled(const struct hsm *hsm)
{
    for (uint32_t i = 0; i < hsm->signer_count; i++) {
        int phase = hsm->signers[i].phase;
        if (phase != PHASE_UP && phase != PHASE_FAILED && hsm->supervisor->deaths[i] == 0)
            return false;
    }
    return true;
}

/* Why this signer does not serve this key; ERR_OK when it does. */
static enum err key_error(struct signer *signer, uint32_t key)
{
    if (signer->phase == PHASE_FAILED)
        return (enum err)atomic_load_explicit(&signer->failed, memory_order_relaxed);
    if (signer->phase != PHASE_UP)
        return ERR_SIGNER_UNAVAILABLE;
    uint32_t state = atomic_load_explicit(&shm_of(signer)->key_state[key], memory_order_relaxed);
    return state < ERR_COUNT ? (enum err)state : ERR_SIGNER_FAILED;
}

static enum err check_keys(struct hsm *hsm)
{
    for (uint32_t k = 0; k < hsm->key_count; k++) {
        enum err reason = ERR_SIGNER_UNAVAILABLE;
        bool served = false;
        for (uint32_t s = 0; s < hsm->signer_count; s++) {
            if ((hsm->keys[k].signers >> s & 1) == 0)
                continue;
            enum err err = key_error(&hsm->signers[s], k);
            served |= err == ERR_OK;
            if (err != ERR_SIGNER_UNAVAILABLE)
                reason = err;
        }
        if (!served) {
            log_error("key-not-served", "key=%s code=%s", hsm->supervisor->keys[k].name,
                      err_code(reason));
            return reason;
        }
    }
    return ERR_OK;
}

enum err hsm_start(const struct hsm_config *config, uint32_t timeout_ms, struct hsm **out)
{
    if (!config_is_sane(config))
        return ERR_CONFIG;
    struct hsm *hsm = calloc(1, sizeof(*hsm));
    if (hsm == NULL)
        return ERR_NO_SPACE;
    enum err err = build(hsm, config);
    uint64_t end = clock_mono_ns() + timeout_ms * NS_PER_MS;
    while (err == ERR_OK) {
        hsm_supervise(hsm);
        if (is_settled(hsm) || clock_mono_ns() >= end)
            break;
        struct pollfd wait = {.fd = hsm->supervisor->epoll, .events = POLLIN};
        (void)poll(&wait, 1, 10);
    }
    if (err == ERR_OK)
        err = check_keys(hsm);
    if (err != ERR_OK) {
        hsm_stop(hsm, 1000);
        return err;
    }
    *out = hsm;
    return ERR_OK;
}

static bool reap(struct hsm *hsm)
{
    bool left = false;
    for (uint32_t i = 0; i < hsm->signer_count; i++) {
        struct signer *signer = &hsm->signers[i];
        if (signer->pid != 0 && waitpid(signer->pid, NULL, WNOHANG) != 0) {
            if (signer->pid_fd >= 0)
                close(signer->pid_fd);
            signer->pid = 0;
            signer->pid_fd = -1;
        }
        left |= signer->pid != 0;
    }
    return left;
}

static void stop_signers(struct hsm *hsm, uint32_t timeout_ms)
{
    struct supervisor *sup = hsm->supervisor;
    if (sup->parent_write >= 0)
        close(sup->parent_write); /* every signer reads end of file */
    uint64_t end = clock_mono_ns() + timeout_ms * NS_PER_MS;
    while (reap(hsm) && clock_mono_ns() < end) {
        struct pollfd wait = {.fd = sup->epoll, .events = POLLIN};
        (void)poll(&wait, 1, 10);
    }
    for (uint32_t i = 0; i < hsm->signer_count; i++) {
        struct signer *signer = &hsm->signers[i];
        if (signer->pid == 0)
            continue;
        kill_signer(hsm, signer, "it did not stop in time");
        while (waitpid(signer->pid, NULL, 0) < 0 && errno == EINTR)
            ;
        if (signer->pid_fd >= 0)
            close(signer->pid_fd);
    }
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

void hsm_stop(struct hsm *hsm, uint32_t timeout_ms)
{
    if (hsm == NULL)
        return;
    atomic_store_explicit(&hsm->stopping, 1, memory_order_relaxed);
    struct supervisor *sup = hsm->supervisor;
    if (sup != NULL) {
        stop_signers(hsm, timeout_ms);
        for (uint32_t s = 0; s < hsm->signer_count; s++) {
            for (uint32_t i = 0; i < EPOCHS_KEPT; i++) {
                if (sup->map_epoch[s][i] != 0)
                    munmap(hsm->signers[s].maps[i], shm_len(hsm->core_count));
            }
        }
        close_if_open(sup->fds.parent);
        close_if_open(sup->fds.notify);
        close_if_open(sup->epoll);
        pthread_mutex_destroy(&sup->text_lock);
    }
    for (uint32_t i = 0; hsm->cores != NULL && i < hsm->core_count; i++)
        core_free(&hsm->cores[i]);
    free(hsm->cores);
    free(hsm->signers);
    free(hsm->token_hist);
    free(sup);
    free(hsm);
}

/* --- status --- */

uint32_t hsm_status(struct hsm *hsm, struct hsm_signer_status out[SIGNERS_MAX])
{
    uint64_t now = clock_mono_ns();
    struct supervisor *sup = hsm->supervisor;
    pthread_mutex_lock(&sup->text_lock);
    for (uint32_t i = 0; i < hsm->signer_count; i++) {
        struct signer *signer = &hsm->signers[i];
        out[i] = (struct hsm_signer_status){
            .token = sup->tokens[signer->token_index].name,
            .pid = atomic_load_explicit(&signer->status_pid, memory_order_relaxed),
            .state = (enum hsm_signer_state)atomic_load_explicit(&signer->status_state,
                                                                 memory_order_relaxed),
            .breaker_open = breaker_is_open(signer, now),
            .sessions = signer->sessions,
            .in_flight = atomic_load_explicit(&signer->in_flight, memory_order_relaxed),
            .signed_total = atomic_load_explicit(&signer->signed_before, memory_order_relaxed) +
                            atomic_load_explicit(&signer->signed_now, memory_order_relaxed),
            .errors_total = atomic_load_explicit(&signer->errors_total, memory_order_relaxed),
            .restarts = atomic_load_explicit(&signer->restarts, memory_order_relaxed),
            .batches_total = atomic_load_explicit(&signer->batches_before, memory_order_relaxed) +
                             atomic_load_explicit(&signer->batches_now, memory_order_relaxed),
        };
        memcpy(out[i].last_error, sup->last_error[i], sizeof(out[i].last_error));
    }
    pthread_mutex_unlock(&sup->text_lock);
    return hsm->signer_count;
}

struct hist *hsm_service_hist(struct hsm *hsm, uint32_t token_index)
{
    /* bucket by bucket, so that two callers at once store the same sums */
    struct hist *sum = &hsm->token_hist[token_index];
    uint64_t total = 0, count = 0;
    for (uint32_t b = 0; b < HIST_BUCKETS; b++) {
        uint64_t n = 0;
        for (uint32_t i = 0; i < hsm->core_count; i++)
            n += atomic_load_explicit(&hsm->cores[i].service[token_index].bucket[b],
                                      memory_order_relaxed);
        atomic_store_explicit(&sum->bucket[b], n, memory_order_relaxed);
        count += n;
    }
    for (uint32_t i = 0; i < hsm->core_count; i++)
        total +=
            atomic_load_explicit(&hsm->cores[i].service[token_index].sum, memory_order_relaxed);
    atomic_store_explicit(&sum->sum, total, memory_order_relaxed);
    atomic_store_explicit(&sum->count, count, memory_order_relaxed);
    return sum;
}
