#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "hsm/queue/supervise.h"

enum { WAKE_PAGES_MAX = 64 };

/* --- wake flags: one page that cores, and signers of any hsm, map --- */

static struct wake_page wake_pages[WAKE_PAGES_MAX];
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

const struct wake_page *wake_page_of(const struct wake *wakes, uint32_t core_count)
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

/* --- supervising --- */

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
    supervise_logins(hsm);
}

int hsm_supervise_fd(const struct hsm *hsm)
{
    return hsm->supervisor->epoll;
}

/* --- start and stop --- */

static bool find_signer_path(const struct hsm_config *config, char *out)
{
    if (config->signer_path != NULL)
        return (size_t)snprintf(out, SIGNER_PATH_MAX, "%s", config->signer_path) < SIGNER_PATH_MAX;
    const char *name = "/certmill-signer";
    ssize_t len = readlink("/proc/self/exe", out, SIGNER_PATH_MAX - 1);
    if (len <= 0)
        return false;
    out[len] = 0;
    char *slash = strrchr(out, '/');
    if (slash == NULL || (size_t)(slash - out) + strlen(name) >= SIGNER_PATH_MAX)
        return false;
    snprintf(slash, strlen(name) + 1, "%s", name);
    return true;
}

bool key_is_sane(const struct hsm_key_config *key, uint32_t token_count)
{
    if (key->token_count == 0 || key->token_count > TOKENS_MAX ||
        (unsigned)key->mechanism >= SIGN_MECH_COUNT)
        return false;
    for (uint32_t t = 0; t < key->token_count; t++) {
        if (key->tokens[t] >= token_count)
            return false;
    }
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
        if (!key_is_sane(&config->keys[i], config->token_count))
            return false;
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
            signer->pid_fd = signer->keys_fd = -1;
            signer->limit = UINT32_MAX;
            signer->down_since_ns = now;
        }
    }
}

void key_init(struct hsm *hsm, uint32_t index)
{
    const struct supervisor *sup = hsm->supervisor;
    const struct hsm_key_config *wanted = &sup->keys[index];
    struct key *key = &hsm->keys[index];
    *key = (struct key){0};
    for (uint32_t t = 0; t < wanted->token_count; t++) {
        uint32_t token = wanted->tokens[t];
        uint32_t ms = sup->tokens[token].deadline_ms;
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
    for (uint32_t i = 0; i < config->key_count; i++)
        key_init(hsm, i);
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

enum err key_error(const struct signer *signer, uint32_t key)
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

static void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
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
    for (uint32_t i = 0; i < hsm->signer_count; i++)
        close_if_open(hsm->signers[i].keys_fd);
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
        for (uint32_t i = 0; i < KEYS_MAX; i++)
            free(sup->key_text[i]);
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
