/* Do messages between threads arrive once and in each sender's order, is a full mailbox refused,
 * and is no sender starved or sleeper missed? */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/mailbox.h"

enum { CORES = 3, EXTRA = 2, SENDERS = CORES + EXTRA };

static struct wake_flag flags[CORES];
static struct wake wakes[CORES];
static struct mailboxes *all;

static int open_mailboxes(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CORES; i++) {
        flags[i].sleeping = 0;
        wakes[i] = (struct wake){&flags[i], eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
        assert_true(wakes[i].event_fd >= 0);
    }
    return mailboxes_create(CORES, EXTRA, wakes, &all) == ERR_OK ? 0 : -1;
}

static int close_mailboxes(void **state)
{
    (void)state;
    mailboxes_destroy(all);
    for (unsigned i = 0; i < CORES; i++)
        close(wakes[i].event_fd);
    return 0;
}

static bool post(uint32_t sender, uint32_t receiver, uint32_t value)
{
    struct message message = {.kind = sender, .value = value, .ptr = &flags[0]};
    return mailbox_post(all, sender, receiver, &message);
}

static void test_lanes_are_separate(void **state)
{
    (void)state;
    struct message got;
    for (uint32_t receiver = 0; receiver < CORES; receiver++)
        assert_false(mailbox_take(all, receiver, &got));
    for (uint32_t sender = 0; sender < SENDERS; sender++)
        for (uint32_t receiver = 0; receiver < CORES; receiver++)
            for (uint32_t i = 0; i < 3; i++)
                assert_true(post(sender, receiver, receiver * 100 + i));
    for (uint32_t receiver = 0; receiver < CORES; receiver++) {
        uint32_t next[SENDERS] = {0};
        for (uint32_t i = 0; i < SENDERS * 3; i++) {
            assert_true(mailbox_pending(all, receiver));
            assert_true(mailbox_take(all, receiver, &got));
            assert_true(got.kind < SENDERS);
            assert_int_equal(got.value, receiver * 100 + next[got.kind]++);
            assert_ptr_equal(got.ptr, &flags[0]);
        }
        assert_false(mailbox_pending(all, receiver));
        assert_false(mailbox_take(all, receiver, &got));
    }
}

static void test_full_refuses(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < MAILBOX_CAPACITY; i++)
        assert_true(post(1, 0, i));
    assert_false(post(1, 0, 0));
    assert_true(post(2, 0, 0)); /* another sender's lane has room */
    struct message got;
    assert_true(mailbox_take(all, 0, &got));
    assert_int_equal(got.value, 0);
    assert_true(post(1, 0, MAILBOX_CAPACITY));
    assert_false(post(1, 0, 0));
}

static void test_nobody_is_starved(void **state)
{
    (void)state;
    /* Sender 0 refills as fast as it is read. */
    for (uint32_t i = 0; i < 1000; i++)
        assert_true(post(0, 2, i));
    assert_true(post(3, 2, 0));
    struct message got = {0};
    unsigned reads = 0;
    while (got.kind != 3 && reads < 10 * MAILBOX_CAPACITY) {
        assert_true(mailbox_take(all, 2, &got));
        assert_true(post(0, 2, 0));
        reads++;
    }
    assert_int_equal(got.kind, 3);
    assert_true(reads < 1000);
}

enum { MESSAGES = 100000 };

static void *send_many(void *sender)
{
    uint32_t self = (uint32_t)(uintptr_t)sender;
    for (uint32_t i = 0; i < MESSAGES;) {
        if (!post(self, 0, i)) {
            mailbox_kick(all, 0);
            sched_yield();
            continue;
        }
        i++;
        if (i % 7 == 0)
            mailbox_kick(all, 0);
    }
    mailbox_kick(all, 0);
    return NULL;
}

/* The receiver sleeps whenever it finds nothing; a missed wake would end in the poll's time-out. */
static void test_threads(void **state)
{
    (void)state;
    pthread_t threads[2];
    for (uintptr_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, send_many, (void *)(i + 1)), 0);
    uint32_t next[SENDERS] = {0};
    for (uint32_t total = 0; total < 2 * MESSAGES;) {
        struct message got;
        if (mailbox_take(all, 0, &got)) {
            assert_int_equal(got.value, next[got.kind]++);
            total++;
            continue;
        }
        wake_prepare(&wakes[0]);
        if (!mailbox_pending(all, 0)) {
            struct pollfd entry = {.fd = wakes[0].event_fd, .events = POLLIN};
            assert_int_equal(poll(&entry, 1, 20000), 1);
            uint64_t count;
            assert_int_equal(read(wakes[0].event_fd, &count, sizeof(count)), sizeof(count));
        }
        wake_cancel(&wakes[0]);
    }
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(next[1], MESSAGES);
    assert_int_equal(next[2], MESSAGES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lanes_are_separate, open_mailboxes, close_mailboxes),
        cmocka_unit_test_setup_teardown(test_full_refuses, open_mailboxes, close_mailboxes),
        cmocka_unit_test_setup_teardown(test_nobody_is_starved, open_mailboxes, close_mailboxes),
        cmocka_unit_test_setup_teardown(test_threads, open_mailboxes, close_mailboxes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
