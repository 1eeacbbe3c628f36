#include "io/ring.h"

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "limits.h"

enum {
    BUFFER_GROUP = 0,
    CQ_ENTRIES =
        4 * RING_ENTRIES, /* every provided buffer and every send may complete in one turn */
    REAP_BATCH = 256,
};

static_assert(CQ_ENTRIES >= RECV_BUFFERS_PER_CORE + RING_ENTRIES, "a turn's completions fit");
static_assert(RECV_BUFFERS_PER_CORE <= UINT16_MAX, "a buffer id has 16 bits");

struct ring {
    struct io_uring uring;
    struct io_uring_buf_ring *buf_ring;
    uint8_t *buffers;
    uint32_t buffers_free;
    int wake_fd; /* -1: no doorbell */
    struct ring_op wake_op;
};

static const size_t buf_ring_len = RECV_BUFFERS_PER_CORE * sizeof(struct io_uring_buf);
static const size_t buffers_len = (size_t)RECV_BUFFERS_PER_CORE * RECV_BUFFER_SIZE;

static void *map_pages(size_t len)
{
    void *mem = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mem == MAP_FAILED ? NULL : mem;
}

static void explain_setup(int error, char out_detail[256])
{
    switch (error) {
    case ENOSYS:
        snprintf(out_detail, 256,
                 "io_uring: the kernel has none (CONFIG_IO_URING), or a seccomp profile hides "
                 "io_uring_setup: allow it (deploy/ has a profile)");
        break;
    case EPERM:
    case EACCES:
        snprintf(out_detail, 256,
                 "io_uring: not permitted: set the sysctl kernel.io_uring_disabled=0, and allow "
                 "io_uring_setup, _enter and _register in the container's seccomp profile");
        break;
    case EINVAL:
        snprintf(out_detail, 256,
                 "io_uring: the kernel lacks SINGLE_ISSUER and DEFER_TASKRUN: Linux 6.1 or newer "
                 "is needed");
        break;
    case ENOMEM:
        snprintf(out_detail, 256,
                 "io_uring: no memory for the ring: raise RLIMIT_MEMLOCK (LimitMEMLOCK=infinity)");
        break;
    default:
        snprintf(out_detail, 256, "io_uring: setup failed with errno %d", error);
        break;
    }
}

static enum err setup_buffers(struct ring *ring, char out_detail[256])
{
    ring->buf_ring = map_pages(buf_ring_len);
    ring->buffers = map_pages(buffers_len);
    if (ring->buf_ring == NULL || ring->buffers == NULL) {
        snprintf(out_detail, 256, "no memory for the receive buffers");
        return ERR_NO_SPACE;
    }
    struct io_uring_buf_reg reg = {
        .ring_addr = (uintptr_t)ring->buf_ring,
        .ring_entries = RECV_BUFFERS_PER_CORE,
        .bgid = BUFFER_GROUP,
    };
    int rc = io_uring_register_buf_ring(&ring->uring, &reg, 0);
    if (rc < 0) {
        snprintf(out_detail, 256,
                 "io_uring: provided-buffer rings are refused (errno %d): Linux 6.1 or newer, and "
                 "a seccomp profile with io_uring_register, are needed",
                 -rc);
        return ERR_UNSUPPORTED;
    }
    io_uring_buf_ring_init(ring->buf_ring);
    for (uint32_t i = 0; i < RECV_BUFFERS_PER_CORE; i++)
        io_uring_buf_ring_add(ring->buf_ring, ring->buffers + (size_t)i * RECV_BUFFER_SIZE,
                              RECV_BUFFER_SIZE, (unsigned short)i,
                              io_uring_buf_ring_mask(RECV_BUFFERS_PER_CORE), (int)i);
    io_uring_buf_ring_advance(ring->buf_ring, RECV_BUFFERS_PER_CORE);
    ring->buffers_free = RECV_BUFFERS_PER_CORE;
    return ERR_OK;
}

enum err ring_create(struct ring **out, char out_detail[256])
{
    struct ring *ring = calloc(1, sizeof(*ring));
    if (ring == NULL) {
        snprintf(out_detail, 256, "no memory");
        return ERR_NO_SPACE;
    }
    ring->wake_fd = -1;

    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE,
        .cq_entries = CQ_ENTRIES,
    };
    int rc = io_uring_queue_init_params(RING_ENTRIES, &ring->uring, &params);
    if (rc < 0) {
        explain_setup(-rc, out_detail);
        free(ring);
        return ERR_UNSUPPORTED;
    }
    if ((params.features & IORING_FEAT_EXT_ARG) == 0 ||
        (params.features & IORING_FEAT_NODROP) == 0) {
        snprintf(out_detail, 256, "io_uring: EXT_ARG and NODROP are missing: Linux 6.1 or newer");
        ring_destroy(ring);
        return ERR_UNSUPPORTED;
    }
    (void)io_uring_register_ring_fd(
        &ring->uring); /* saves a descriptor look-up per turn, no more */
    enum err err = setup_buffers(ring, out_detail);
    if (err != ERR_OK) {
        ring_destroy(ring);
        return err;
    }
    *out = ring;
    return ERR_OK;
}

void ring_destroy(struct ring *ring)
{
    if (ring == NULL)
        return;
    io_uring_queue_exit(&ring->uring);
    if (ring->buf_ring != NULL)
        munmap(ring->buf_ring, buf_ring_len);
    if (ring->buffers != NULL)
        munmap(ring->buffers, buffers_len);
    free(ring);
}

static struct io_uring_sqe *next_sqe(struct ring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    if (sqe == NULL) {
        io_uring_submit(&ring->uring);
        sqe = io_uring_get_sqe(&ring->uring);
    }
    return sqe;
}

enum err ring_accept_multishot(struct ring *ring, struct ring_op *op, int listen_fd)
{
    struct io_uring_sqe *sqe = next_sqe(ring);
    if (sqe == NULL)
        return ERR_FULL;
    /* not SOCK_NONBLOCK: io_uring would hand EAGAIN up instead of waiting */
    io_uring_prep_multishot_accept(sqe, listen_fd, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data(sqe, op);
    return ERR_OK;
}

enum err ring_recv_multishot(struct ring *ring, struct ring_op *op, int fd)
{
    struct io_uring_sqe *sqe = next_sqe(ring);
    if (sqe == NULL)
        return ERR_FULL;
    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    io_uring_sqe_set_flags(sqe, IOSQE_BUFFER_SELECT);
    sqe->buf_group = BUFFER_GROUP;
    io_uring_sqe_set_data(sqe, op);
    return ERR_OK;
}

enum err ring_send(struct ring *ring, struct ring_op *op, int fd, struct bytes data)
{
    struct io_uring_sqe *sqe = next_sqe(ring);
    if (sqe == NULL)
        return ERR_FULL;
    io_uring_prep_send(sqe, fd, data.ptr, data.len, MSG_NOSIGNAL);
    io_uring_sqe_set_data(sqe, op);
    return ERR_OK;
}

enum err ring_close(struct ring *ring, struct ring_op *op, int fd)
{
    struct io_uring_sqe *sqe = next_sqe(ring);
    if (sqe == NULL)
        return ERR_FULL;
    io_uring_prep_close(sqe, fd);
    io_uring_sqe_set_data(sqe, op);
    return ERR_OK;
}

enum err ring_cancel(struct ring *ring, struct ring_op *target)
{
    struct io_uring_sqe *sqe = next_sqe(ring);
    if (sqe == NULL)
        return ERR_FULL;
    io_uring_prep_cancel(sqe, target, 0);
    io_uring_sqe_set_data(sqe, NULL); /* whether it was found is told by the target's completion */
    return ERR_OK;
}

void ring_buffer_return(struct ring *ring, uint16_t buffer_id)
{
    assert(buffer_id < RECV_BUFFERS_PER_CORE && ring->buffers_free < RECV_BUFFERS_PER_CORE);
    io_uring_buf_ring_add(ring->buf_ring, ring->buffers + (size_t)buffer_id * RECV_BUFFER_SIZE,
                          RECV_BUFFER_SIZE, buffer_id,
                          io_uring_buf_ring_mask(RECV_BUFFERS_PER_CORE), 0);
    io_uring_buf_ring_advance(ring->buf_ring, 1);
    ring->buffers_free++;
}

uint32_t ring_buffers_free(const struct ring *ring)
{
    return ring->buffers_free;
}

/* A multishot poll is edge triggered: every write of the eventfd completes once, and the counter
 * need not be read back (it would overflow after 2^64 wakes). */
static enum err arm_doorbell(struct ring *ring)
{
    struct io_uring_sqe *sqe = next_sqe(ring);
    if (sqe == NULL)
        return ERR_FULL;
    io_uring_prep_poll_multishot(sqe, ring->wake_fd, POLLIN);
    io_uring_sqe_set_data(sqe, &ring->wake_op);
    return ERR_OK;
}

static void on_doorbell(struct ring_op *op, const struct ring_event *event)
{
    struct ring *ring = (struct ring *)(void *)((char *)op - offsetof(struct ring, wake_op));
    if (!event->more && event->result != -ECANCELED && arm_doorbell(ring) != ERR_OK)
        abort(); /* a core that cannot be woken would hang silently */
}

enum err ring_watch_wake(struct ring *ring, const struct wake *wake)
{
    assert(ring->wake_fd < 0);
    ring->wake_fd = wake->event_fd;
    ring->wake_op.complete = on_doorbell;
    return arm_doorbell(ring);
}

static void dispatch(struct ring *ring, const struct io_uring_cqe *cqe)
{
    struct ring_op *op = io_uring_cqe_get_data(cqe);
    if (op == NULL)
        return; /* a cancel's own completion */
    struct ring_event event = {
        .result = cqe->res,
        .more = (cqe->flags & IORING_CQE_F_MORE) != 0,
    };
    if ((cqe->flags & IORING_CQE_F_BUFFER) != 0) {
        event.has_buffer = true;
        event.buffer_id = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        assert(event.buffer_id < RECV_BUFFERS_PER_CORE && ring->buffers_free > 0);
        ring->buffers_free--;
        if (cqe->res > 0)
            event.data = bytes_of(ring->buffers + (size_t)event.buffer_id * RECV_BUFFER_SIZE,
                                  (size_t)cqe->res);
    }
    op->complete(op, &event);
}

static uint32_t reap(struct ring *ring)
{
    struct io_uring_cqe *cqes[REAP_BATCH];
    uint32_t total = 0;
    /* No more than the queue holds, so that a handler's own completions cannot keep the turn. */
    while (total < CQ_ENTRIES) {
        unsigned n = io_uring_peek_batch_cqe(&ring->uring, cqes, REAP_BATCH);
        if (n == 0)
            break;
        for (unsigned i = 0; i < n; i++)
            dispatch(ring, cqes[i]);
        io_uring_cq_advance(&ring->uring, n);
        total += n;
    }
    return total;
}

uint32_t ring_turn(struct ring *ring, uint64_t wait_ns)
{
    if (wait_ns == 0 || io_uring_cq_ready(&ring->uring) != 0) {
        io_uring_submit_and_get_events(&ring->uring);
        return reap(ring);
    }
    struct io_uring_cqe *first;
    struct __kernel_timespec ts = {
        .tv_sec = (long long)(wait_ns / 1000000000u),
        .tv_nsec = (long long)(wait_ns % 1000000000u),
    };
    io_uring_submit_and_wait_timeout(&ring->uring, &first, 1, wait_ns == UINT64_MAX ? NULL : &ts,
                                     NULL);
    return reap(ring);
}
