/* board.h: what all processes that use one simulated token share: counters that a test reads, PIN
 * tries, sessions, the engines' time, and which faults have struck.
 *
 * Promise: a small file, mapped by every process. It opens with its own index in text, a line
 *          "name offset" for each 64-bit little-endian word, so that a test in any language reads
 *          it. A process that dies, however, leaves it consistent: everything is one atomic word,
 *          and a dead process's sessions are given back by the next that needs room.
 * Owner:   board_attach maps, board_detach unmaps; the file stays.
 * Threads: any, on any words. attach and detach: one thread.
 * Units:   ns, CLOCK_MONOTONIC.
 *
 * A run is the time in which at least one process is attached without a gap: it starts with the
 * first to come when none is there. Times and call numbers of faults in the description count from
 * its start; counters and PIN tries go on for the life of the file.
 */
#ifndef CERTMILL_SIM_BOARD_H
#define CERTMILL_SIM_BOARD_H

#include <stdatomic.h>

#include "hsm/sim/describe.h"

enum { BOARD_PROCESSES_MAX = 64, BOARD_TEXT_LEN = 4096 };

#define BOARD_WORDS(X)                                                                             \
    X(runs)                                                                                        \
    X(run_start_ns)                                                                                \
    X(boot)                                                                                        \
    /* PIN */                                                                                      \
    X(login_calls)                                                                                 \
    X(user_logins)                                                                                 \
    X(user_pin_wrong)    /* tries, ever */                                                         \
    X(user_pin_failures) /* in a row: against token.pin_tries */                                   \
    X(so_logins)                                                                                   \
    X(so_pin_wrong)                                                                                \
    X(so_pin_failures)                                                                             \
    X(pin_locked_answers)                                                                          \
    /* sessions */                                                                                 \
    X(sessions_open)                                                                               \
    X(session_opens)                                                                               \
    X(session_refusals)                                                                            \
    X(session_epoch) /* a session of an earlier epoch is lost */                                   \
    /* objects */                                                                                  \
    X(object_generation)                                                                           \
    X(object_last)                                                                                 \
    X(keygens)                                                                                     \
    /* work */                                                                                     \
    X(sign_calls)                                                                                  \
    X(signatures)                                                                                  \
    X(verifications)                                                                               \
    X(service_ns)                                                                                  \
    X(rate_next_ns) /* when the next job is due at the limited rate */                             \
    /* faults */                                                                                   \
    X(throttled)                                                                                   \
    X(errors)                                                                                      \
    X(crashes)                                                                                     \
    X(stalls)                                                                                      \
    X(failovers)                                                                                   \
    X(sessions_lost)                                                                               \
    X(vanishes)                                                                                    \
    X(wrong_signatures)                                                                            \
    X(control_loads)                                                                               \
    X(control_errors)

enum board_word {
#define X(name) BOARD_##name,
    BOARD_WORDS(X)
#undef X
        BOARD_WORD_COUNT
};

/* Which faults of one file have struck. */
struct board_bank {
    _Atomic uint64_t set; /* identity of the file */
    _Atomic uint64_t seen[FAULTS_MAX];
    _Atomic uint64_t fired[FAULTS_MAX];
};

enum { BANK_DESCRIPTION, BANK_CONTROL, BANK_COUNT };

struct board {
    char text[BOARD_TEXT_LEN];
    _Atomic uint64_t word[BOARD_WORD_COUNT];
    struct board_bank bank[BANK_COUNT];
    _Atomic uint64_t process_sessions[BOARD_PROCESSES_MAX];
    _Atomic uint64_t engine_free_ns[ENGINES_MAX];
};

struct board_place {
    struct board *board;
    int fd;
    uint32_t process;
};

/* ERR_IO, or ERR_FULL with BOARD_PROCESSES_MAX processes there; errno is set. */
enum err board_attach(const char *path, struct board_place *out) MUST_USE;
void board_detach(struct board_place *place);

static inline uint64_t board_get(const struct board_place *place, enum board_word word)
{
    return atomic_load_explicit(&place->board->word[word], memory_order_acquire);
}

static inline uint64_t board_add(const struct board_place *place, enum board_word word)
{
    return atomic_fetch_add_explicit(&place->board->word[word], 1, memory_order_acq_rel) + 1;
}

static inline void board_set(const struct board_place *place, enum board_word word, uint64_t value)
{
    atomic_store_explicit(&place->board->word[word], value, memory_order_release);
}

/* One more session of this process, among all; false: there are `max`. One thread at a time. */
bool board_session_take(const struct board_place *place, uint64_t max);
void board_session_give(const struct board_place *place);

/* A bank for this set: emptied when it was another's. */
void board_bank_use(struct board_bank *bank, uint64_t set);

#endif
