/* mailbox.h: small messages between cores and to them from other threads.
 *
 * Promise: messages of one sender arrive in order; a full mailbox refuses, never blocks or grows.
 * Threads: one spsc ring per (sender, receiver); senders are cores 0..n-1, then MAILBOX_MAIN and
 *          MAILBOX_COSTLY. mailbox_kick once per batch.
 */
#ifndef CERTMILL_IO_MAILBOX_H
#define CERTMILL_IO_MAILBOX_H

#include "base/err.h"
#include "base/spsc.h"
#include "base/wake.h"
#include "limits.h"

struct message {
    uint32_t kind; /* the users' enum */
    uint32_t value;
    void *ptr;
};

struct mailboxes;

enum { MAILBOX_CAPACITY = 4096 };

/* Senders: core_count cores and `extra` other threads (numbered from core_count on). */
enum err mailboxes_create(uint32_t core_count, uint32_t extra, const struct wake wakes[],
                          struct mailboxes **out);
void mailboxes_destroy(struct mailboxes *all);
/* false: full. Does not wake. */
bool mailbox_post(struct mailboxes *all, uint32_t sender, uint32_t receiver,
                  const struct message *message);
/* Wakes the receiver if it sleeps. */
void mailbox_kick(struct mailboxes *all, uint32_t receiver);
/* Receiver: the next message of any sender; false when empty. */
bool mailbox_take(struct mailboxes *all, uint32_t receiver, struct message *out);
bool mailbox_pending(struct mailboxes *all, uint32_t receiver);

#endif
