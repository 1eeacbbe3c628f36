/* wake.h: wake a sleeping ring loop at most once per batch.
 *
 * Promise: a producer that publishes and then calls wake_signal is never missed: either the
 *          consumer sees the data in its check after wake_prepare, or it is woken.
 * Owner:   the flag may live in shared memory so that signer processes can read it; the eventfd
 *          is inherited.
 * Threads: any thread or process may signal; only the owner prepares and cancels.
 */
#ifndef CERTMILL_BASE_WAKE_H
#define CERTMILL_BASE_WAKE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct wake_flag {
    _Alignas(64) _Atomic uint32_t sleeping;
};

struct wake {
    struct wake_flag *flag;
    int event_fd; /* EFD_NONBLOCK | EFD_CLOEXEC */
};

/* Call after publishing. Writes the eventfd only when the owner sleeps; true when it did. */
bool wake_signal(const struct wake *wake);
/* The owner is about to sleep; it must check all its inputs between this and sleeping. */
void wake_prepare(const struct wake *wake);
/* The owner is awake (also after a check that found something). */
void wake_cancel(const struct wake *wake);
static inline bool wake_is_sleeping(const struct wake *wake)
{
    return atomic_load_explicit(&wake->flag->sleeping, memory_order_relaxed) != 0;
}

#endif
