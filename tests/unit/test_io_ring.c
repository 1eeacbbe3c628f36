/* Does the ring do what its calls say: receive into lent buffers until they are gone and go on when
 * they come back, send, accept, cancel, close, and wake from another thread? */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "io/ring.h"
#include "limits.h"

/* Records what came; gives buffers back unless told to keep them. */
struct probe {
    struct ring_op op;
    unsigned completions;
    int32_t last_result;
    bool last_more, keep;
    uint8_t *data;
    size_t len, cap;
    uint16_t kept[RECV_BUFFERS_PER_CORE];
    unsigned kept_count;
};

static struct ring *ring;

static void on_complete(struct ring_op *op, const struct ring_event *event)
{
    struct probe *probe = (struct probe *)op;
    probe->completions++;
    probe->last_result = event->result;
    probe->last_more = event->more;
    if (!event->has_buffer)
        return;
    if (event->result > 0) {
        assert_int_equal(event->data.len, event->result);
        if (probe->len + event->data.len <= probe->cap)
            memcpy(probe->data + probe->len, event->data.ptr, event->data.len);
        probe->len += event->data.len;
    }
    if (probe->keep)
        probe->kept[probe->kept_count++] = event->buffer_id;
    else
        ring_buffer_return(ring, event->buffer_id);
}

static struct probe *new_probe(size_t cap)
{
    struct probe *probe = calloc(1, sizeof(*probe));
    assert_non_null(probe);
    probe->op.complete = on_complete;
    probe->data = malloc(cap + 1);
    probe->cap = cap;
    return probe;
}

static void free_probe(struct probe *probe)
{
    free(probe->data);
    free(probe);
}

static int open_ring(void **state)
{
    (void)state;
    char detail[256] = "";
    if (ring_create(&ring, detail) == ERR_OK)
        return 0;
    print_error("%s\n", detail);
    return -1;
}

static int close_ring(void **state)
{
    (void)state;
    ring_destroy(ring);
    return 0;
}

static void turns(unsigned n)
{
    while (n-- > 0)
        ring_turn(ring, 5 * NS_PER_MS);
}

static void pair(int fds[2])
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
}

static void test_receive_and_end(void **state)
{
    (void)state;
    int fds[2];
    pair(fds);
    struct probe *probe = new_probe(64 * 1024);
    assert_int_equal(ring_recv_multishot(ring, &probe->op, fds[0]), ERR_OK);
    uint8_t sent[20000];
    for (size_t i = 0; i < sizeof(sent); i++)
        sent[i] = (uint8_t)(i * 31 >> 3);
    assert_int_equal(write(fds[1], sent, 1), 1);
    turns(2);
    assert_int_equal(probe->len, 1);
    assert_true(probe->last_more);
    assert_int_equal(write(fds[1], sent + 1, sizeof(sent) - 1), sizeof(sent) - 1);
    turns(4);
    assert_int_equal(probe->len, sizeof(sent));
    assert_memory_equal(probe->data, sent, sizeof(sent));
    assert_int_equal(ring_buffers_free(ring), RECV_BUFFERS_PER_CORE);
    close(fds[1]);
    turns(2);
    assert_int_equal(probe->last_result, 0);
    assert_false(probe->last_more);
    close(fds[0]);
    free_probe(probe);
}

static void test_buffers_run_out(void **state)
{
    (void)state;
    int fds[2];
    pair(fds);
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
    struct probe *probe = new_probe(1);
    probe->keep = true;
    assert_int_equal(ring_recv_multishot(ring, &probe->op, fds[0]), ERR_OK);
    static uint8_t block[RECV_BUFFER_SIZE];
    unsigned idle = 0;
    while (probe->last_result != -ENOBUFS && idle < 100) {
        idle = write(fds[1], block, sizeof(block)) > 0 ? 0 : idle + 1;
        ring_turn(ring, 0);
    }
    assert_int_equal(probe->last_result, -ENOBUFS);
    assert_false(probe->last_more);
    assert_int_equal(ring_buffers_free(ring), 0);
    assert_int_equal(probe->kept_count, RECV_BUFFERS_PER_CORE);
    size_t before = probe->len;

    for (unsigned i = 0; i < probe->kept_count; i++)
        ring_buffer_return(ring, probe->kept[i]);
    assert_int_equal(ring_buffers_free(ring), RECV_BUFFERS_PER_CORE);
    probe->keep = false;
    (void)!write(fds[1], block, sizeof(block));
    assert_int_equal(ring_recv_multishot(ring, &probe->op, fds[0]), ERR_OK);
    turns(4);
    assert_true(probe->len > before);
    assert_int_equal(ring_cancel(ring, &probe->op), ERR_OK);
    turns(2);
    assert_int_equal(probe->last_result, -ECANCELED);
    assert_false(probe->last_more);
    close(fds[0]);
    close(fds[1]);
    free_probe(probe);
}

static void test_send_close_cancel(void **state)
{
    (void)state;
    int fds[2];
    pair(fds);
    struct probe *send = new_probe(1), *closing = new_probe(1), *recv = new_probe(1);
    assert_int_equal(ring_send(ring, &send->op, fds[0], BYTES_LIT("hello")), ERR_OK);
    turns(1);
    assert_int_equal(send->last_result, 5);
    char got[8] = "";
    assert_int_equal(read(fds[1], got, sizeof(got)), 5);
    assert_string_equal(got, "hello");

    /* A send that nobody reads waits, and ends when it is told to. */
    static uint8_t much[4 * 1024 * 1024];
    send->completions = 0;
    unsigned sends = 0;
    do {
        assert_int_equal(ring_send(ring, &send->op, fds[0], BYTES_ARRAY(much)), ERR_OK);
        sends++;
        turns(2);
    } while (send->completions == sends);
    assert_int_equal(ring_recv_multishot(ring, &recv->op, fds[0]), ERR_OK);
    assert_int_equal(ring_cancel(ring, &send->op), ERR_OK);
    assert_int_equal(ring_cancel(ring, &recv->op), ERR_OK);
    assert_int_equal(ring_close(ring, &closing->op, fds[0]), ERR_OK);
    turns(3);
    assert_int_equal(send->completions, sends);
    assert_int_equal(send->last_result, -ECANCELED);
    assert_int_equal(recv->last_result, -ECANCELED);
    assert_int_equal(closing->completions, 1);
    assert_int_equal(closing->last_result, 0);
    assert_int_equal(fcntl(fds[0], F_GETFD), -1);

    /* Sending to who is gone is an error, not a signal. */
    int more[2];
    pair(more);
    close(more[1]);
    assert_int_equal(ring_send(ring, &send->op, more[0], BYTES_LIT("x")), ERR_OK);
    turns(1);
    assert_int_equal(send->last_result, -EPIPE);
    close(more[0]);
    close(fds[1]);
    free_probe(send);
    free_probe(closing);
    free_probe(recv);
}

static int accepted[64];
static unsigned accepted_count;

static void on_accept(struct ring_op *op, const struct ring_event *event)
{
    (void)op;
    if (event->result >= 0)
        accepted[accepted_count++] = event->result;
}

static void test_accept(void **state)
{
    (void)state;
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(name);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&name, len), 0);
    assert_int_equal(listen(listener, 64), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&name, &len), 0);
    struct ring_op op = {on_accept};
    assert_int_equal(ring_accept_multishot(ring, &op, listener), ERR_OK);
    int clients[20];
    for (unsigned i = 0; i < 20; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(connect(clients[i], (struct sockaddr *)&name, len), 0);
        if (i % 5 == 0)
            turns(1);
    }
    turns(3);
    assert_int_equal(accepted_count, 20);
    for (unsigned i = 0; i < 20; i++) {
        assert_true((fcntl(accepted[i], F_GETFD) & FD_CLOEXEC) != 0);
        close(accepted[i]);
        close(clients[i]);
    }
    assert_int_equal(ring_cancel(ring, &op), ERR_OK);
    turns(2);
    close(listener);
}

/* More operations than the submission queue has entries, between two turns. */
static void test_queue_overflows_into_the_kernel(void **state)
{
    (void)state;
    int fds[2];
    pair(fds);
    unsigned done = 0;
    struct probe *probe = new_probe(1);
    for (unsigned i = 0; i < RING_ENTRIES + 100; i++)
        assert_int_equal(ring_send(ring, &probe->op, fds[0], BYTES_LIT("x")), ERR_OK);
    uint8_t got[RING_ENTRIES + 200];
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
    for (unsigned i = 0; i < 200 && done < RING_ENTRIES + 100; i++) {
        turns(1);
        ssize_t n = read(fds[1], got, sizeof(got));
        done += n > 0 ? (unsigned)n : 0;
    }
    assert_int_equal(done, RING_ENTRIES + 100);
    turns(3);
    assert_int_equal(probe->completions, RING_ENTRIES + 100);
    close(fds[0]);
    close(fds[1]);
    free_probe(probe);
}

static void *wake_later(void *arg)
{
    const struct wake *wake = arg;
    for (unsigned i = 0; i < 200; i++) {
        while (!wake_is_sleeping(wake))
            usleep(50);
        wake_signal(wake);
    }
    return NULL;
}

static void test_doorbell(void **state)
{
    (void)state;
    static struct wake_flag flag;
    struct wake wake = {&flag, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    assert_int_equal(ring_watch_wake(ring, &wake), ERR_OK);
    /* Nothing rings: the wait is as long as asked, about. */
    uint64_t before = clock_mono_ns();
    assert_int_equal(ring_turn(ring, 30 * NS_PER_MS), 0);
    assert_true(clock_mono_ns() - before >= 29 * NS_PER_MS);

    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wake_later, &wake), 0);
    before = clock_mono_ns();
    for (unsigned woken = 0; woken < 200;) {
        wake_prepare(&wake);
        ring_turn(ring, 10 * NS_PER_S);
        woken += !wake_is_sleeping(&wake);
        wake_cancel(&wake);
    }
    pthread_join(thread, NULL);
    assert_true(clock_mono_ns() - before < 9 * NS_PER_S); /* none waited for the time-out */
    close(wake.event_fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_receive_and_end, open_ring, close_ring),
        cmocka_unit_test_setup_teardown(test_buffers_run_out, open_ring, close_ring),
        cmocka_unit_test_setup_teardown(test_send_close_cancel, open_ring, close_ring),
        cmocka_unit_test_setup_teardown(test_accept, open_ring, close_ring),
        cmocka_unit_test_setup_teardown(test_queue_overflows_into_the_kernel, open_ring,
                                        close_ring),
        cmocka_unit_test_setup_teardown(test_doorbell, open_ring, close_ring),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
