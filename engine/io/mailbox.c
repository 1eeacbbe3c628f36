#include "io/mailbox.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>

static_assert((MAILBOX_CAPACITY & (MAILBOX_CAPACITY - 1)) == 0, "spsc wants a power of two");

enum { RUN_MAX = 64 };

/* Both sides have their own view of a ring, since a view notes what its side found corrupt. */
struct lane {
    _Alignas(64) struct spsc in;  /* the sender's */
    _Alignas(64) struct spsc out; /* the receiver's */
};

struct receiver {
    _Alignas(64) uint32_t at; /* the sender to ask first */
    uint32_t in_a_row;        /* taken from it */
    struct wake wake;
};

struct mailboxes {
    uint32_t senders;
    uint32_t receivers;
    struct lane *lanes; /* [receiver][sender] */
    struct receiver *receiver;
    void *map;
    size_t map_len;
};

static struct lane *lane_of(const struct mailboxes *all, uint32_t sender, uint32_t receiver)
{
    assert(sender < all->senders && receiver < all->receivers);
    return &all->lanes[(size_t)receiver * all->senders + sender];
}

static uint32_t next_sender(const struct mailboxes *all, uint32_t sender)
{
    return sender + 1 == all->senders ? 0 : sender + 1;
}

enum err mailboxes_create(uint32_t core_count, uint32_t extra, const struct wake wakes[],
                          struct mailboxes **out)
{
    assert(core_count > 0 && core_count <= CORES_MAX);
    struct mailboxes *all = calloc(1, sizeof(*all));
    if (all == NULL)
        return ERR_NO_SPACE;
    all->senders = core_count + extra;
    all->receivers = core_count;
    size_t lane_count = (size_t)all->senders * all->receivers;
    size_t ring_len = spsc_bytes(sizeof(struct message), MAILBOX_CAPACITY);
    all->map_len = lane_count * ring_len;
    all->lanes = aligned_alloc(64, lane_count * sizeof(struct lane));
    all->receiver = aligned_alloc(64, core_count * sizeof(struct receiver));
    all->map = mmap(NULL, all->map_len, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all->map == MAP_FAILED)
        all->map = NULL;
    if (all->lanes == NULL || all->receiver == NULL || all->map == NULL) {
        mailboxes_destroy(all);
        return ERR_NO_SPACE;
    }
    for (size_t i = 0; i < lane_count; i++) {
        void *mem = (uint8_t *)all->map + i * ring_len;
        spsc_bind(&all->lanes[i].in, mem, sizeof(struct message), MAILBOX_CAPACITY, true);
        spsc_bind(&all->lanes[i].out, mem, sizeof(struct message), MAILBOX_CAPACITY, false);
    }
    for (uint32_t i = 0; i < core_count; i++)
        all->receiver[i] = (struct receiver){.wake = wakes[i]};
    *out = all;
    return ERR_OK;
}

void mailboxes_destroy(struct mailboxes *all)
{
    if (all == NULL)
        return;
    if (all->map != NULL)
        munmap(all->map, all->map_len);
    free(all->lanes);
    free(all->receiver);
    free(all);
}

bool mailbox_post(struct mailboxes *all, uint32_t sender, uint32_t receiver,
                  const struct message *message)
{
    struct spsc *ring = &lane_of(all, sender, receiver)->in;
    if (spsc_space(ring) == 0)
        return false;
    *(struct message *)spsc_slot_in(ring, 0) = *message;
    spsc_publish(ring, 1);
    return true;
}

void mailbox_kick(struct mailboxes *all, uint32_t receiver)
{
    assert(receiver < all->receivers);
    wake_signal(&all->receiver[receiver].wake);
}

/* The sender that had something last is asked first, which is cheap when one is busy; after a run
 * of messages the others come first, so that none is starved. */
bool mailbox_take(struct mailboxes *all, uint32_t receiver, struct message *out)
{
    struct receiver *self = &all->receiver[receiver];
    uint32_t at = self->at;
    if (self->in_a_row >= RUN_MAX)
        at = next_sender(all, at);
    for (uint32_t i = 0; i < all->senders; i++) {
        struct spsc *ring = &lane_of(all, at, receiver)->out;
        if (spsc_ready(ring) != 0) {
            *out = *(const struct message *)spsc_slot_out(ring, 0);
            spsc_release(ring, 1);
            self->in_a_row = at == self->at && self->in_a_row < RUN_MAX ? self->in_a_row + 1 : 1;
            self->at = at;
            return true;
        }
        at = next_sender(all, at);
    }
    return false;
}

bool mailbox_pending(struct mailboxes *all, uint32_t receiver)
{
    for (uint32_t sender = 0; sender < all->senders; sender++)
        if (spsc_ready(&lane_of(all, sender, receiver)->out) != 0)
            return true;
    return false;
}
