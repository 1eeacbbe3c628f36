#include "hsm/sim/faults.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "hsm/sim/cryptoki.h"
#include "hsm/sim/engines.h"

/* A fault file in force. Older ones stay until the end: calls may still wait in them. */
struct source {
    struct source *older;
    const struct fault_set *set;
    struct fault_set own;
    struct board_bank *bank;
    uint64_t identity;
    uint64_t start_ns; /* monotonic */
};

struct faults {
    const struct description *description;
    const struct board_place *place;
    struct source fixed;
    _Atomic(struct source *) control; /* NULL: no control file yet */
    _Atomic uint64_t next_poll_ns;
    pthread_mutex_t lock; /* of loading */
    uint64_t tried;       /* identity of the last control file that was looked into */
};

struct faults *faults_new(const struct description *description, const struct board_place *place)
{
    struct faults *faults = calloc(1, sizeof *faults);
    if (!faults)
        return NULL;
    pthread_mutex_init(&faults->lock, NULL);
    faults->description = description;
    faults->place = place;
    faults->fixed = (struct source){
        .set = &description->faults,
        .bank = &place->board->bank[BANK_DESCRIPTION],
        .start_ns = board_get(place, BOARD_run_start_ns),
    };
    return faults;
}

void faults_free(struct faults *faults)
{
    if (!faults)
        return;
    for (struct source *at = atomic_load(&faults->control), *older; at; at = older) {
        older = at->older;
        free(at);
    }
    pthread_mutex_destroy(&faults->lock);
    free(faults);
}

/* --- the control file --- */

static uint64_t identity_of(const struct stat *file)
{
    uint64_t hash = dist_random((uint64_t)file->st_ino, (uint64_t)file->st_size);
    hash = dist_random(hash, (uint64_t)file->st_mtim.tv_sec);
    return dist_random(hash, (uint64_t)file->st_mtim.tv_nsec) | 1; /* 0: no file */
}

/* The file's age is the same for all processes, whenever each of them looks. */
static uint64_t start_of(const struct stat *file)
{
    uint64_t changed = (uint64_t)file->st_mtim.tv_sec * NS_PER_S + (uint64_t)file->st_mtim.tv_nsec;
    uint64_t wall = clock_wall_ns(), mono = clock_mono_ns();
    uint64_t age = wall > changed ? wall - changed : 0;
    return mono > age ? mono - age : 0;
}

static void control_load(struct faults *faults)
{
    struct stat file = {0};
    uint64_t identity = stat(faults->description->control, &file) == 0 ? identity_of(&file) : 0;
    if (identity == faults->tried)
        return;
    faults->tried = identity;
    struct source *source = calloc(1, sizeof *source);
    char error[DESCRIBE_ERROR_MAX];
    if (!source)
        return;
    if (identity != 0 && fault_set_load(faults->description->control, &source->own, error)) {
        fprintf(stderr, "certmill-hsmsim: %s\n", error);
        board_add(faults->place, BOARD_control_errors);
        free(source);
        return;
    }
    source->set = &source->own;
    source->identity = identity;
    source->start_ns = identity != 0 ? start_of(&file) : 0;
    source->bank = &faults->place->board->bank[BANK_CONTROL];
    board_bank_use(source->bank, identity);
    source->older = atomic_load(&faults->control);
    atomic_store(&faults->control, source);
    board_add(faults->place, BOARD_control_loads);
}

static void control_poll(struct faults *faults)
{
    if (!faults->description->control[0])
        return;
    uint64_t now = clock_mono_ns();
    uint64_t next = atomic_load_explicit(&faults->next_poll_ns, memory_order_acquire);
    if (now < next ||
        !atomic_compare_exchange_strong(&faults->next_poll_ns, &next, now + CONTROL_POLL_NS))
        return;
    /* The others go on with what was in force, except at the very first look. */
    if (next == 0)
        pthread_mutex_lock(&faults->lock);
    else if (pthread_mutex_trylock(&faults->lock) != 0)
        return;
    control_load(faults);
    pthread_mutex_unlock(&faults->lock);
}

/* --- striking --- */

static bool in_window(const struct source *source, const struct fault *fault, uint64_t now_ns)
{
    uint64_t from = source->start_ns + fault->start_ns;
    return now_ns >= from && (fault->length_ns == 0 || now_ns - from < fault->length_ns);
}

/* Is this call one of those that its numbers choose? */
static bool is_chosen(const struct fault *fault, uint64_t seed, uint32_t index, uint64_t seen)
{
    if (fault->at_call != 0 && (seen < fault->at_call || seen - fault->at_call >= fault->for_calls))
        return false;
    if (fault->every != 0 && seen % fault->every != 0)
        return false;
    return fault->one_in == 0 ||
           dist_random(seed ^ 0x6661756c74ull, seen * FAULTS_MAX + index) % fault->one_in == 0;
}

static bool strikes(const struct faults *faults, const struct source *source, uint32_t index)
{
    const struct fault *fault = &source->set->item[index];
    /* A stall of single calls has its length for itself. */
    bool waits = fault->kind == FAULT_STALL || fault->kind == FAULT_FAILOVER;
    if (fault->timed && !(waits && fault_counts(fault)) &&
        !in_window(source, fault, clock_mono_ns()))
        return false;
    if (fault_counts(fault)) {
        uint64_t seen = atomic_fetch_add(&source->bank->seen[index], 1) + 1;
        if (!is_chosen(fault, faults->description->seed, index, seen))
            return false;
    }
    if (fault->times == 0)
        return true;
    if (atomic_load(&source->bank->fired[index]) >= fault->times)
        return false;
    return atomic_fetch_add(&source->bank->fired[index], 1) < fault->times;
}

static void lose_sessions(const struct faults *faults)
{
    board_add(faults->place, BOARD_session_epoch);
    board_add(faults->place, BOARD_sessions_lost);
}

__attribute__((noreturn)) static void crash(const struct faults *faults, enum crash_how how)
{
    board_add(faults->place, BOARD_crashes);
    if (how == CRASH_EXIT)
        _exit(70);
    int number = how == CRASH_SEGV ? SIGSEGV : SIGABRT;
    signal(number, SIG_DFL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    raise(number);
    _exit(71);
}

/* Until its time is over, or another control file is in force. */
static void wait_out(struct faults *faults, const struct source *source, const struct fault *fault)
{
    uint64_t end_ns = UINT64_MAX;
    if (fault_counts(fault))
        end_ns = clock_mono_ns() + fault->length_ns;
    else if (fault->length_ns != 0)
        end_ns = source->start_ns + fault->start_ns + fault->length_ns;
    for (;;) {
        uint64_t now = clock_mono_ns();
        if (now >= end_ns)
            return;
        sleep_until_ns(end_ns - now > STALL_SLICE_NS ? now + STALL_SLICE_NS : end_ns);
        control_poll(faults);
        if (source != &faults->fixed && atomic_load(&faults->control) != source)
            return;
    }
}

static unsigned long vanish(const struct faults *faults, const struct source *source,
                            uint32_t index)
{
    const struct fault *fault = &source->set->item[index];
    uint64_t now = clock_mono_ns();
    if (now < source->start_ns + fault->start_ns)
        return CKR_OK;
    /* Once, and also when nobody called while it was away. */
    if (atomic_load(&source->bank->fired[index]) == 0 &&
        atomic_fetch_add(&source->bank->fired[index], 1) == 0) {
        board_add(faults->place, BOARD_vanishes);
        lose_sessions(faults);
    }
    return in_window(source, fault, now) ? fault->answer : CKR_OK;
}

static unsigned long strike(struct faults *faults, const struct source *source, uint32_t index,
                            bool *out_wrong)
{
    const struct fault *fault = &source->set->item[index];
    if (fault->kind == FAULT_VANISH)
        return vanish(faults, source, index);
    if (!strikes(faults, source, index))
        return CKR_OK;
    switch (fault->kind) {
    case FAULT_ERROR:
        board_add(faults->place, BOARD_errors);
        return fault->answer;
    case FAULT_CRASH:
        crash(faults, fault->how);
    case FAULT_STALL:
        board_add(faults->place, BOARD_stalls);
        wait_out(faults, source, fault);
        return CKR_OK;
    case FAULT_FAILOVER:
        board_add(faults->place, BOARD_failovers);
        wait_out(faults, source, fault);
        return fault->answer;
    case FAULT_SESSIONS_LOST:
        lose_sessions(faults);
        return CKR_OK; /* the caller's own session is found lost next */
    case FAULT_WRONG_SIGNATURE:
        *out_wrong = true;
        return CKR_OK;
    case FAULT_VANISH:
        break;
    }
    return CKR_OK;
}

static unsigned long meet(struct faults *faults, const struct source *source, enum call_kind call,
                          bool *out_wrong)
{
    unsigned long rv = CKR_OK;
    for (uint32_t i = 0; i < source->set->count && rv == CKR_OK; i++)
        if (source->set->item[i].calls & 1u << call)
            rv = strike(faults, source, i, out_wrong);
    return rv;
}

unsigned long faults_meet(struct faults *faults, enum call_kind call, bool *out_wrong)
{
    bool wrong = false;
    control_poll(faults);
    unsigned long rv = meet(faults, &faults->fixed, call, &wrong);
    const struct source *control = atomic_load_explicit(&faults->control, memory_order_acquire);
    if (rv == CKR_OK && control)
        rv = meet(faults, control, call, &wrong);
    if (rv == CKR_OK && wrong && out_wrong) {
        board_add(faults->place, BOARD_wrong_signatures);
        *out_wrong = true;
    }
    return rv;
}

static bool source_vanished(const struct source *source)
{
    for (uint32_t i = 0; source && i < source->set->count; i++)
        if (source->set->item[i].kind == FAULT_VANISH &&
            in_window(source, &source->set->item[i], clock_mono_ns()))
            return true;
    return false;
}

bool faults_vanished(struct faults *faults)
{
    control_poll(faults);
    return source_vanished(&faults->fixed) || source_vanished(atomic_load(&faults->control));
}
