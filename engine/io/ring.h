/* ring.h: one core's io_uring. The only includer of liburing.h is ring.c.
 *
 * Promise: one submission per turn; completions are dispatched to their operation; an operation's
 *          memory must stay until it has completed for the last time (no F_MORE).
 * Threads: the creating thread alone (SINGLE_ISSUER, DEFER_TASKRUN).
 * Errors:  ring_create: ERR_UNSUPPORTED with a line that names the missing feature and the setting
 *          that allows it.
 * Limits:  RING_ENTRIES, RECV_BUFFERS_PER_CORE, RECV_BUFFER_SIZE.
 */
#ifndef CERTMILL_IO_RING_H
#define CERTMILL_IO_RING_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/wake.h"

struct ring;
struct ring_op;

/* result: as the system call, negative errno on failure. more: another completion will follow.
 * data: for receives, the bytes in a provided buffer; give it back with ring_buffer_return. */
struct ring_event {
    int32_t result;
    bool more;
    bool has_buffer;
    uint16_t buffer_id;
    struct bytes data;
};

struct ring_op {
    void (*complete)(struct ring_op *op, const struct ring_event *event);
};

enum err ring_create(struct ring **out, char out_detail[256]) MUST_USE;
void ring_destroy(struct ring *ring);

/* Each returns ERR_FULL when the submission queue has no room even after a flush. */
enum err ring_accept_multishot(struct ring *ring, struct ring_op *op, int listen_fd) MUST_USE;
enum err ring_recv_multishot(struct ring *ring, struct ring_op *op, int fd) MUST_USE;
enum err ring_send(struct ring *ring, struct ring_op *op, int fd, struct bytes data) MUST_USE;
enum err ring_close(struct ring *ring, struct ring_op *op, int fd) MUST_USE;
/* Cancels what runs for `target`; target completes with -ECANCELED (or its own result). */
enum err ring_cancel(struct ring *ring, struct ring_op *target) MUST_USE;
void ring_buffer_return(struct ring *ring, uint16_t buffer_id);
uint32_t ring_buffers_free(const struct ring *ring);

/* The core's doorbell: arms a read of the wake's eventfd; wakes end ring_turn's wait. */
enum err ring_watch_wake(struct ring *ring, const struct wake *wake) MUST_USE;

/* Submits everything queued and dispatches what has completed; waits at most wait_ns for the first
 * completion (0: does not wait). Returns completions dispatched. */
uint32_t ring_turn(struct ring *ring, uint64_t wait_ns);

#endif
