#include "base/wake.h"

#include <errno.h>
#include <unistd.h>

/* TSan does not model fences; the data they order is acquire/release on its own, so it reports
 * nothing false, but gcc warns. */
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wtsan"
#endif

/* The two fences are Dekker's: the producer writes data then reads the flag, the owner writes the
 * flag then reads data. Whichever fence comes second sees the other side's write. */

bool wake_signal(const struct wake *wake)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&wake->flag->sleeping, memory_order_relaxed) == 0)
        return false;
    /* of several producers, the one that takes the flag down writes */
    if (atomic_exchange_explicit(&wake->flag->sleeping, 0, memory_order_acq_rel) == 0)
        return false;
    const uint64_t one = 1;
    /* EAGAIN means a full counter: the owner is woken by what is already there */
    while (write(wake->event_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
    return true;
}

void wake_prepare(const struct wake *wake)
{
    atomic_store_explicit(&wake->flag->sleeping, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
}

void wake_cancel(const struct wake *wake)
{
    atomic_store_explicit(&wake->flag->sleeping, 0, memory_order_relaxed);
}
