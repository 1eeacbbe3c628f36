#include "hsm/queue/shm.h"

#include <assert.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    /* what waking a worker costs, with its way back to sleep, is small against this much signing */
    SHARE_NS = 50000,
    WAKE_TRIES = 64,
};

static size_t page_up(size_t len)
{
    return (len + PAGE - 1) & ~(size_t)(PAGE - 1);
}

static size_t core_len(void)
{
    return page_up(spsc_bytes(sizeof(uint32_t), SHM_SLOTS) +
                   spsc_bytes(sizeof(struct shm_done), SHM_SLOTS) +
                   sizeof(struct shm_slot) * SHM_SLOTS) +
           (size_t)SHM_SIDES * SHM_SIDE_SIZE;
}

size_t shm_len(uint32_t core_count)
{
    return page_up(sizeof(struct shm_signer)) + core_count * core_len();
}

void shm_bind(void *mem, uint32_t core, struct shm_core *out)
{
    uint8_t *at = (uint8_t *)mem + page_up(sizeof(struct shm_signer)) + core * core_len();
    uint8_t *end = at + core_len();
    spsc_bind(&out->submit, at, sizeof(uint32_t), SHM_SLOTS, false);
    at += spsc_bytes(sizeof(uint32_t), SHM_SLOTS);
    spsc_bind(&out->done, at, sizeof(struct shm_done), SHM_SLOTS, false);
    at += spsc_bytes(sizeof(struct shm_done), SHM_SLOTS);
    out->slots = (struct shm_slot *)(void *)at;
    out->sides = end - (size_t)SHM_SIDES * SHM_SIDE_SIZE;
    assert((uint8_t *)(out->slots + SHM_SLOTS) <= out->sides);
}

uint32_t shm_share(uint64_t service_ns)
{
    if (service_ns == 0 || service_ns > SHARE_NS)
        return 1;
    uint64_t share = SHARE_NS / service_ns;
    return share < SIGN_BATCH_MAX ? (uint32_t)share : SIGN_BATCH_MAX;
}

uint32_t shm_wake(struct shm_signer *shm, uint32_t n)
{
    uint32_t sleeping = atomic_load_explicit(&shm->sleepers, memory_order_relaxed);
    uint32_t take = 0;
    /* bounded: a signer that plays with the counter must not hold a core; it hurts itself */
    for (int tries = 0; tries < WAKE_TRIES; tries++) {
        take = sleeping < n ? sleeping : n;
        if (take == 0)
            return 0;
        if (atomic_compare_exchange_weak_explicit(&shm->sleepers, &sleeping, sleeping - take,
                                                  memory_order_acq_rel, memory_order_relaxed))
            break;
        take = 0;
    }
    if (take == 0)
        return 0;
    if (take > SESSIONS_PER_SIGNER_MAX)
        take = SESSIONS_PER_SIGNER_MAX;
    atomic_fetch_add_explicit(&shm->searching, take, memory_order_relaxed);
    atomic_fetch_add_explicit(&shm->tokens, take, memory_order_release);
    syscall(SYS_futex, &shm->tokens, FUTEX_WAKE, take, NULL, NULL, 0);
    return take;
}
