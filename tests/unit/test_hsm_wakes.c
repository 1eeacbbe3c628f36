/* Is a core woken for results when it must be, seldom when it need not be, and never forgotten?
 *
 * The signer's intake runs here with workers that are threads of this program and sign nothing; the
 * cores are the engine's own view.c. The cores sleep without any time limit that could hide a lost
 * wake-up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "hsm/queue/internal.h"

static _Atomic uint64_t fake_now; /* 0: the real one */

static uint64_t test_clock(void)
{
    uint64_t now = atomic_load_explicit(&fake_now, memory_order_relaxed);
    return now != 0 ? now : clock_mono_ns();
}

#define clock_mono_ns test_clock
#include "hsm/signer/intake.c"
#undef clock_mono_ns

enum { CORES = 2, SESSIONS = 4, LOST_MS = 4000 };

/* One signer and the cores that send to it. */
struct bench {
    struct station *station;
    struct hsm hsm;
    struct signer signer;
    struct core cores[CORES];
    struct wake_flag flags[CORES];
    uint8_t *mem;
};

static struct bench *bench_make(void)
{
    struct bench *bench = aligned_alloc(64, (sizeof(*bench) + 63) / 64 * 64);
    assert_non_null(bench);
    memset(bench, 0, sizeof(*bench));
    bench->mem = aligned_alloc(4096, shm_len(CORES));
    bench->station = calloc(1, sizeof(*bench->station));
    assert_true(bench->mem != NULL && bench->station != NULL);
    memset(bench->mem, 0, shm_len(CORES));
    struct station *station = bench->station;
    station->shm = (struct shm_signer *)(void *)bench->mem;
    station->config.core_count = CORES;
    station->config.sessions = SESSIONS;
    bench->hsm = (struct hsm){.core_count = CORES, .signer_count = 1, .signers = &bench->signer};
    bench->signer.epoch_up = 1;
    bench->signer.sessions = SESSIONS;
    bench->signer.maps[1] = station->shm;
    for (uint32_t i = 0; i < CORES; i++) {
        struct core *core = &bench->cores[i];
        *core = (struct core){.hsm = &bench->hsm, .index = i, .stall_check_ns = UINT64_MAX};
        core->jobs = calloc(SHM_SLOTS, sizeof(struct job));
        core->views = aligned_alloc(_Alignof(struct view), sizeof(struct view));
        assert_true(core->jobs != NULL && core->views != NULL);
        memset(core->views, 0, sizeof(struct view));
        view_follow(core, 0, 1);
        shm_bind(bench->mem, i, &station->cores[i]);
        station->wakes[i].flag = &bench->flags[i];
        station->wakes[i].event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        pthread_mutex_init(&station->done_lock[i], NULL);
    }
    assert_true(intake_init(station));
    return bench;
}

static void bench_free(struct bench *bench)
{
    for (uint32_t i = 0; i < CORES; i++) {
        close(bench->station->wakes[i].event_fd);
        free(bench->cores[i].jobs);
        free(bench->cores[i].views);
    }
    free(bench->station->intake.next);
    free(bench->station);
    free(bench->mem);
    free(bench);
}

static void send(struct bench *bench, uint32_t core_index, uint32_t count)
{
    struct core *core = &bench->cores[core_index];
    struct view *view = &core->views[0];
    for (uint32_t i = 0; i < count; i++) {
        /* the slot that view_send takes next, so that each job in flight is another one */
        struct job *job = &core->jobs[view->free_slots[view->free_slot_count - 1]];
        job->key_index = i % 2;
        job->input_len = 32;
        view_send(core, 0, job, 1);
    }
    view_publish(core, 0);
}

/* Reads what is there; returns how many. */
static uint32_t receive_all(struct bench *bench, uint32_t core_index)
{
    struct core *core = &bench->cores[core_index];
    struct view *view = &core->views[0];
    uint32_t count = spsc_ready(&view->rings.done);
    for (uint32_t i = 0; i < count; i++) {
        struct shm_done record;
        uint32_t job;
        assert_true(view_receive(core, 0, spsc_slot_out(&view->rings.done, 0), &record, &job));
        spsc_release(&view->rings.done, 1);
    }
    return count;
}

static void publish(struct worker *worker, const struct slot_ref refs[], uint32_t count)
{
    struct shm_done results[SIGN_BATCH_MAX];
    for (uint32_t i = 0; i < count; i++)
        results[i] = (struct shm_done){.slot = refs[i].slot, .outcome = SHM_REFUSED};
    intake_publish(worker->station, refs, results, count);
}

/* --- one step after the other --- */

static void start_clock(struct bench *bench)
{
    atomic_store(&fake_now, 10 * NS_PER_S);
    bench->station->shm->service_ns = NS_PER_MS; /* one job at a time */
    for (uint32_t i = 0; i < CORES; i++)
        wake_prepare(&bench->station->wakes[i]);
}

/* One job is taken and its result published, `after_us` after the last one; true when that woke its
 * core, which goes to sleep again. */
static bool step(struct bench *bench, uint64_t after_us, uint32_t *out_core)
{
    struct worker worker = {.station = bench->station};
    struct slot_ref refs[SIGN_BATCH_MAX];
    fake_now += after_us * 1000;
    assert_int_equal(intake_take(&worker, refs), 1);
    publish(&worker, refs, 1);
    *out_core = refs[0].core;
    const struct wake *wake = &bench->station->wakes[refs[0].core];
    bool woken = !wake_is_sleeping(wake);
    wake_prepare(wake);
    return woken;
}

static void wakes_wait_for_results_that_follow(void **state)
{
    (void)state;
    struct bench *bench = bench_make();
    start_clock(bench);
    uint32_t core;
    send(bench, 0, 40);
    assert_true(step(bench, 0, &core)); /* the first after a silence */
    assert_int_equal(receive_all(bench, 0), 1);
    for (uint32_t i = 1; i < HOLD_RESULTS; i++)
        assert_false(step(bench, 10, &core));
    assert_true(step(bench, 10, &core)); /* enough for a wake */
    assert_true(step(bench, 10, &core)); /* and as long as the core has not read them */
    assert_int_equal(receive_all(bench, 0), HOLD_RESULTS + 1);
    for (uint32_t i = 1; i < HOLD_RESULTS; i++)
        assert_false(step(bench, 10, &core));
    assert_int_equal(receive_all(bench, 0), HOLD_RESULTS - 1);
    /* 23 are left: each is in the ring at once, whether the core is woken or not */
    for (uint32_t left = 22; left != UINT32_MAX; left--) {
        assert_true(step(bench, 10, &core) == (left <= SESSIONS));
        assert_int_equal(receive_all(bench, 0), 1);
    }
    bench_free(bench);
}

static void wakes_do_not_wait_long(void **state)
{
    (void)state;
    struct bench *bench = bench_make();
    start_clock(bench);
    uint32_t core;
    send(bench, 0, 60);
    (void)step(bench, 0, &core);
    assert_int_equal(receive_all(bench, 0), 1);
    /* at 0, 0.3 and 0.6 ms there is time for one more, at 0.9 ms there is not */
    for (int i = 0; i < 3; i++) {
        assert_false(step(bench, 300, &core));
        assert_false(step(bench, 300, &core));
        assert_false(step(bench, 300, &core));
        assert_true(step(bench, 300, &core));
        assert_int_equal(receive_all(bench, 0), 4);
    }
    /* where each takes as long as that, each wakes; so does the first quick one after it */
    for (int i = 0; i < 3; i++) {
        assert_true(step(bench, HOLD_NS / 1000, &core));
        assert_int_equal(receive_all(bench, 0), 1);
    }
    assert_false(step(bench, 100, &core));
    assert_true(step(bench, HOLD_NS / 1000, &core));
    bench_free(bench);
}

static void a_core_with_few_jobs_is_woken_for_each(void **state)
{
    (void)state;
    struct bench *bench = bench_make();
    start_clock(bench);
    uint32_t core, seen = 0;
    send(bench, 0, 100);
    send(bench, 1, SESSIONS);
    (void)step(bench, 0, &core);
    for (uint32_t i = 0; i < 40; i++) {
        bool woken = step(bench, 10, &core);
        seen += core;
        assert_true(core == 0 || woken);
        receive_all(bench, 0);
        receive_all(bench, 1);
    }
    assert_int_equal(seen, SESSIONS);
    bench_free(bench);
}

/* --- all at once --- */

struct load {
    struct bench *bench;
    uint32_t core;
    uint32_t bursts;
    unsigned seed;
    uint64_t results, sleeps;
    bool lost;
};

static void spin(uint64_t ns)
{
    uint64_t end = clock_mono_ns() + ns;
    while (clock_mono_ns() < end)
        ;
}

static void *worker_thread(void *arg)
{
    struct worker *worker = arg;
    struct slot_ref refs[SIGN_BATCH_MAX];
    unsigned seed = worker->index;
    while (!atomic_load_explicit(&worker->station->stop, memory_order_relaxed)) {
        uint32_t count = intake_take(worker, refs);
        uint32_t back = count > 1 && rand_r(&seed) % 4 == 0 ? 1 : 0;
        uint32_t how = (uint32_t)rand_r(&seed) % 64;
        if (how < 16)
            spin((uint64_t)how * 500);
        else if (how == 16)
            usleep(200);
        if (count != 0)
            publish(worker, refs, count - back);
        if (back != 0)
            intake_return(worker, refs + count - back, back);
        worker->batch_service_ns += 20000ull * (count - back); /* batches of up to ten */
        worker->batch_count += count - back;
    }
    return NULL;
}

static bool sleep_until_woken(struct load *load)
{
    const struct wake *wake = &load->bench->station->wakes[load->core];
    bool woken = true;
    wake_prepare(wake);
    if (spsc_ready(&load->bench->cores[load->core].views[0].rings.done) == 0) {
        struct pollfd wait = {.fd = wake->event_fd, .events = POLLIN};
        woken = poll(&wait, 1, LOST_MS) == 1;
        load->sleeps++;
    }
    wake_cancel(wake);
    uint64_t count;
    (void)!read(wake->event_fd, &count, sizeof(count));
    return woken;
}

/* Bursts of jobs, refilled for a while and then waited for to the last. */
static void *core_thread(void *arg)
{
    struct load *load = arg;
    for (uint32_t burst = 0; burst < load->bursts && !load->lost; burst++) {
        uint32_t window = 1 + (uint32_t)rand_r(&load->seed) % 48;
        uint32_t left = window * (1 + (uint32_t)rand_r(&load->seed) % 4), flying = 0;
        while (left + flying != 0 && !load->lost) {
            uint32_t more = window - flying < left ? window - flying : left;
            if (more != 0)
                send(load->bench, load->core, more);
            left -= more;
            flying += more;
            uint32_t count = receive_all(load->bench, load->core);
            flying -= count;
            load->results += count;
            if (count == 0)
                load->lost = !sleep_until_woken(load);
        }
    }
    return NULL;
}

static void no_wake_is_lost(void **state)
{
    (void)state;
    enum { BURSTS = 8000 };
    atomic_store(&fake_now, 0);
    struct bench *bench = bench_make();
    struct worker *workers = calloc(SESSIONS, sizeof(*workers));
    struct load loads[CORES];
    pthread_t threads[CORES];
    for (uint32_t i = 0; i < SESSIONS; i++) {
        workers[i].station = bench->station;
        workers[i].index = i;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, worker_thread, &workers[i]), 0);
    }
    for (uint32_t i = 0; i < CORES; i++) {
        loads[i] = (struct load){.bench = bench, .core = i, .bursts = BURSTS, .seed = 4711 + i};
        assert_int_equal(pthread_create(&threads[i], NULL, core_thread, &loads[i]), 0);
    }
    for (uint32_t i = 0; i < CORES; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&bench->station->stop, true);
    intake_wake_all(bench->station);
    for (uint32_t i = 0; i < SESSIONS; i++)
        pthread_join(workers[i].thread, NULL);
    for (uint32_t i = 0; i < CORES; i++) {
        assert_false(loads[i].lost);
        assert_int_equal(bench->cores[i].views[0].in_flight, 0);
        assert_int_equal(bench->station->intake.pending_of[i], 0);
        assert_true(loads[i].sleeps > BURSTS / 8); /* else nothing was tried here */
        assert_true(loads[i].results > loads[i].sleeps);
    }
    assert_int_equal(bench->station->intake.pending, 0);
    free(workers);
    bench_free(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wakes_wait_for_results_that_follow),
        cmocka_unit_test(wakes_do_not_wait_long),
        cmocka_unit_test(a_core_with_few_jobs_is_woken_for_each),
        cmocka_unit_test(no_wake_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
