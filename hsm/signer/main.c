/* certmill-signer: one PKCS#11 module in a process of its own. Started by the engine with the
 * descriptors of hsm/queue/wire.h; of no use by hand. */

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "hsm/signer/signer.h"

enum { CHECK_KEYS_MS = 5000, STOP_WAIT_S = 3, SETTLE_STEP_US = 500 };

static bool map_fd(int fd, size_t expected, void **out, size_t *out_len)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || st.st_size <= 0 || (expected != 0 && (size_t)st.st_size < expected))
        return false;
    void *mem = mmap(NULL, (size_t)st.st_size, PROT_READ | (expected != 0 ? PROT_WRITE : 0),
                     expected != 0 ? MAP_SHARED : MAP_PRIVATE, fd, 0);
    if (mem == MAP_FAILED)
        return false;
    *out = mem;
    *out_len = (size_t)st.st_size;
    return true;
}

/* Configuration, rings and wake flags; the configuration stays mapped, its strings point into it.
 */
static bool attach(struct station *station)
{
    void *mem;
    size_t len;
    if (!map_fd(SIGNER_FD_CONFIG, 0, &mem, &len) || !wire_get(bytes_of(mem, len), &station->config))
        return false;
    station->key_count = station->config.key_count;
    uint32_t cores = station->config.core_count;
    if (!map_fd(SIGNER_FD_SHM, shm_len(cores), &mem, &len))
        return false;
    station->shm = mem;
    if (station->shm->magic != SHM_MAGIC || station->shm->version != SHM_VERSION ||
        station->shm->core_count != cores)
        return false;
    if (!map_fd(SIGNER_FD_WAKE_FLAGS, sizeof(struct wake_flag) * CORES_MAX, &mem, &len))
        return false;
    struct wake_flag *flags = mem;
    for (uint32_t i = 0; i < cores; i++) {
        if (station->config.wake_index[i] >= CORES_MAX)
            return false;
        shm_bind(station->shm, i, &station->cores[i]);
        station->wakes[i].flag = &flags[station->config.wake_index[i]];
        station->wakes[i].event_fd = SIGNER_FD_CORE_0 + (int)i;
        pthread_mutex_init(&station->done_lock[i], NULL);
    }
    pthread_mutex_init(&station->text_lock, NULL);
    return intake_init(station);
}

/* The engine's signals are not ours: on a terminal, and from systemd, they reach the whole group,
 * and the engine still wants its last jobs signed. The end of the pipe is what stops us. */
static void ignore_signals(void)
{
    const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        signal(ignored[i], SIG_IGN);
}

static struct worker *start_workers(struct station *station)
{
    struct worker *workers = calloc(station->config.sessions, sizeof(*workers));
    for (uint32_t i = 0; workers != NULL && i < station->config.sessions; i++) {
        workers[i].station = station;
        workers[i].index = i;
        if (pthread_create(&workers[i].thread, NULL, worker_main, &workers[i]) != 0)
            return NULL;
    }
    return workers;
}

/* Until each worker has its first session, or could not get one. */
static bool wait_settled(struct station *station, const struct worker *workers)
{
    for (uint32_t i = 0; i < station->config.sessions; i++) {
        while (!atomic_load_explicit(&workers[i].settled, memory_order_acquire)) {
            if (engine_is_gone(0))
                return false;
            usleep(SETTLE_STEP_US);
        }
    }
    return atomic_load_explicit(&station->shm->sessions_open, memory_order_relaxed) != 0;
}

/* A worker may be stuck in the module: then the module is left as it is. */
static bool join_workers(struct station *station, const struct worker *workers)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += STOP_WAIT_S;
    for (uint32_t i = 0; i < station->config.sessions; i++) {
        if (pthread_timedjoin_np(workers[i].thread, NULL, &end) != 0)
            return false;
    }
    return true;
}

static int serve(struct station *station)
{
    int status = station_open(station);
    if (status != SIGNER_EXIT_OK)
        return status;
    struct worker *workers = start_workers(station);
    if (workers == NULL || !wait_settled(station, workers))
        return SIGNER_EXIT_FAILED;
    station_set_state(station, SHM_READY);
    bool look = false;
    while (!engine_wants(CHECK_KEYS_MS, &look)) {
        if (look)
            station_look(station);
        else
            station_check_keys(station, true);
    }
    atomic_store_explicit(&station->stop, true, memory_order_relaxed);
    intake_wake_all(station);
    if (join_workers(station, workers))
        station_close(station);
    station_set_state(station, SHM_STOPPED);
    return SIGNER_EXIT_OK;
}

int main(void)
{
    static struct station station; /* large, and zero is its empty value */
    char reason[256];
    log_set_program("certmill-signer");
    ignore_signals();
    if (!attach(&station)) {
        fputs("certmill-signer: started by certmilld, not by hand\n", stderr);
        return SIGNER_EXIT_CONFIG;
    }
    log_set_level(station.config.log_level);
    /* after prctl, since the engine may have died before it */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != (pid_t)station.config.parent_pid)
        return SIGNER_EXIT_FAILED;
    if (!pin_read(&station.config, &station.pin, reason, sizeof(reason))) {
        station_error(&station, "%.94s", reason);
        log_error("pin-not-read", "token=%s reason=\"%s\"", station.config.name, reason);
        return SIGNER_EXIT_CONFIG;
    }
    if (!sandbox_enter(station.config.allow_network)) {
        station_error(&station, "the sandbox cannot be entered (errno %d)", errno);
        log_error("sandbox", "token=%s errno=%d", station.config.name, errno);
        pin_wipe(&station.pin);
        return SIGNER_EXIT_CONFIG;
    }
    int status = serve(&station);
    pin_wipe(&station.pin);
    /* without the destructors of a module whose threads may still run */
    _exit(status);
}
