/* Is every log line exactly one whole, harmless line, and is every line written or counted? */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"

/* stderr goes to a memory file from capture_start to capture_end; assert only outside. */
static int capture_fd = -1;
static int saved_stderr = -1;

static void capture_start(void)
{
    saved_stderr = dup(STDERR_FILENO);
    capture_fd = memfd_create("stderr", MFD_CLOEXEC);
    if (saved_stderr < 0 || capture_fd < 0 || dup2(capture_fd, STDERR_FILENO) < 0)
        abort();
}

static char *capture_end(void)
{
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    off_t len = lseek(capture_fd, 0, SEEK_END);
    char *text = calloc(1, (size_t)len + 1);
    if (len < 0 || text == NULL || pread(capture_fd, text, (size_t)len, 0) != len)
        abort();
    close(capture_fd);
    return text;
}

static void check_capture(const char *expected)
{
    char *text = capture_end();
    assert_string_equal(text, expected);
    free(text);
}

static uint64_t fixed_ns(void *ctx)
{
    return *(uint64_t *)ctx;
}

/* 2026-01-02T03:04:05.678Z */
static uint64_t wall_ns = 1767323045678999999ull;

static int fix_clock(void **state)
{
    (void)state;
    const struct clock_source source = {fixed_ns, fixed_ns, &wall_ns};
    clock_replace(&source);
    log_set_level(LOG_INFO);
    log_set_program(NULL);
    return 0;
}

#define TIME "2026-01-02T03:04:05.678Z"

static void test_line_format(void **state)
{
    (void)state;
    capture_start();
    log_info("started", "cores=%d", 4);
    log_error("store", "code=%s", "store-full");
    log_warn("w", "x");
    log_debug("not", "shown");
    log_set_level(LOG_DEBUG);
    log_debug("is", "shown");
    log_set_level(LOG_ERROR);
    log_warn("not", "shown");
    log_set_program("certmilld");
    log_error("e", "x");
    check_capture(TIME " info started cores=4\n" TIME " error store code=store-full\n" TIME
                       " warn w x\n" TIME " debug is shown\n"
                       "certmilld " TIME " error e x\n");
}

static void test_errno_survives(void **state)
{
    (void)state;
    int saved = dup(STDERR_FILENO);
    close(STDERR_FILENO);
    errno = ENOENT;
    log_info("e", "x"); /* its write fails with EBADF */
    int errno_after = errno;
    dup2(saved, STDERR_FILENO);
    close(saved);
    assert_int_equal(errno_after, ENOENT);
}

static void test_time_edges(void **state)
{
    (void)state;
    const uint64_t saved = wall_ns;
    capture_start();
    wall_ns = 0;
    log_info("e", "x");
    wall_ns = 1709164800ull * NS_PER_S - 1; /* the last of 2024-02-28 */
    log_info("e", "x");
    wall_ns = 1709164800ull * NS_PER_S + NS_PER_MS;
    log_info("e", "x");
    wall_ns = saved;
    check_capture("1970-01-01T00:00:00.000Z info e x\n"
                  "2024-02-28T23:59:59.999Z info e x\n"
                  "2024-02-29T00:00:00.001Z info e x\n");
}

static void test_escaping(void **state)
{
    (void)state;
    capture_start();
    /* a forged second line, a terminal sequence (7- and 8-bit), DEL, and a backslash that must not
     * read as an escape */
    log_info("http", "path=%s", "/a\n" TIME " info forged x\r\t\x1b[2J\x7f\x9b\\x0a\xc3\xbc~ ");
    log_info("a\nb", "%c", 0);
    check_capture(TIME " info http path=/a\\x0a" TIME
                       " info forged x\\x0d\\x09\\x1b[2J\\x7f\\x9b\\\\x0a\\xc3\\xbc~ \n" TIME
                       " info a\\x0ab \\x00\n");
}

static void test_long_lines(void **state)
{
    (void)state;
    static char big[5000];
    memset(big, '\n', sizeof(big) - 1); /* each escapes to four */
    for (unsigned attached = 0; attached < 2; attached++) {
        capture_start();
        log_info("e", "%s", big);
        log_info(big, "%d", 1);
        char *text = capture_end();
        char *first_end = strchr(text, '\n');
        assert_non_null(first_end);
        assert_memory_equal(text, TIME " info e \\x0a", strlen(TIME " info e \\x0a"));
        assert_memory_equal(first_end - 7, "\\x0a...", 7);
        char *second_end = strchr(first_end + 1, '\n');
        assert_non_null(second_end);
        assert_memory_equal(second_end - 7, "\\x0a...", 7);
        assert_string_equal(second_end, "\n");
        free(text);
    }
    /* the longest that fits is not marked, the next is */
    char fit[495];
    memset(fit, 'x', sizeof(fit) - 1);
    for (size_t len = 480; len < sizeof(fit); len++) {
        fit[len] = '\0';
        capture_start();
        log_info("e", "%s", fit);
        char *text = capture_end();
        bool marked = strstr(text, "...\n") != NULL;
        size_t expected = strlen(TIME " info e ") + len + 1;
        assert_true(marked ? strlen(text) <= expected : strlen(text) == expected);
        assert_int_equal(marked, len > 493);
        fit[len] = 'x';
        free(text);
    }
}

static void test_level_names(void **state)
{
    (void)state;
    enum log_level level = LOG_WARN;
    assert_true(log_level_from_name("debug", &level) && level == LOG_DEBUG);
    assert_true(log_level_from_name("error", &level) && level == LOG_ERROR);
    assert_true(log_level_from_name("warn", &level) && level == LOG_WARN);
    assert_true(log_level_from_name("info", &level) && level == LOG_INFO);
    assert_false(log_level_from_name("Info", &level));
    assert_false(log_level_from_name("", &level));
    assert_false(log_level_from_name("inf", &level));
    assert_int_equal(level, LOG_INFO);
}

static void *emit_two(void *arg)
{
    (void)arg;
    if (!log_thread_attach() || !log_thread_attach())
        return NULL;
    log_info("first", "n=%d", 1);
    log_debug("not", "shown");
    log_warn("second", "text=%s", "a\nb");
    return (void *)1;
}

static void test_attached_thread_waits_for_drain(void **state)
{
    (void)state;
    pthread_t thread;
    void *attached = NULL;
    capture_start();
    if (pthread_create(&thread, NULL, emit_two, NULL) != 0)
        abort();
    pthread_join(thread, &attached);
    off_t before = lseek(capture_fd, 0, SEEK_END);
    unsigned lines = log_drain();
    unsigned again = log_drain();
    check_capture(TIME " info first n=1\n" TIME " warn second text=a\\x0ab\n");
    assert_non_null(attached);
    assert_int_equal(before, 0);
    assert_int_equal(lines, 2);
    assert_int_equal(again, 0);
}

enum { FLOOD = 5000 };

static void *flood(void *arg)
{
    if (!log_thread_attach())
        return NULL;
    for (unsigned i = 0; i < FLOOD; i++)
        log_info("flood", "n=%u", i);
    atomic_store((_Atomic bool *)arg, true);
    return (void *)1;
}

/* Reads `text` as lines of flood() and of dropped counts; false when one is not whole or the
 * numbers do not ascend. */
static bool tally(const char *text, unsigned *out_lines, unsigned *out_dropped)
{
    const char info[] = TIME " info flood n=";
    const char drop[] = TIME " warn log-dropped count=";
    long last = -1;
    while (*text != '\0') {
        char *end;
        if (strncmp(text, info, sizeof(info) - 1) == 0) {
            long n = strtol(text + sizeof(info) - 1, &end, 10);
            if (n <= last)
                return false;
            last = n;
            ++*out_lines;
        } else if (strncmp(text, drop, sizeof(drop) - 1) == 0) {
            *out_dropped += (unsigned)strtoul(text + sizeof(drop) - 1, &end, 10);
        } else {
            return false;
        }
        if (*end != '\n')
            return false;
        text = end + 1;
    }
    return true;
}

static void check_flood(bool drain_meanwhile)
{
    _Atomic bool done = false;
    pthread_t thread;
    void *attached = NULL;
    unsigned drained = 0;
    capture_start();
    if (pthread_create(&thread, NULL, flood, &done) != 0)
        abort();
    while (drain_meanwhile && !atomic_load(&done))
        drained += log_drain();
    pthread_join(thread, &attached);
    drained += log_drain();
    char *text = capture_end();
    unsigned lines = 0, dropped = 0, newlines = 0;
    for (const char *at = text; (at = strchr(at, '\n')) != NULL; at++)
        newlines++;
    bool whole = tally(text, &lines, &dropped);
    free(text);
    assert_non_null(attached);
    assert_true(whole);
    assert_int_equal(lines + dropped, FLOOD);
    assert_int_equal(drained, newlines);
    if (!drain_meanwhile)
        assert_true(dropped > 0 && lines > 0);
}

static void test_full_ring_counts_drops(void **state)
{
    (void)state;
    check_flood(false);
}

static void test_drain_beside_a_writing_thread(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++)
        check_flood(true);
}

enum { LONG_LINES = 100 };

static void *emit_long(void *arg)
{
    if (!log_thread_attach())
        return NULL;
    for (unsigned i = 0; i < LONG_LINES; i++)
        log_info("long", "%s", (const char *)arg);
    return (void *)1;
}

/* The longest lines there are pass through the drain's buffer many times over. */
static void test_drain_of_long_lines(void **state)
{
    (void)state;
    static char big[500];
    memset(big, '\n', sizeof(big) - 1);
    pthread_t thread;
    void *attached = NULL;
    capture_start();
    log_set_program("a-program-name-of-thirty-two-by-and-more");
    if (pthread_create(&thread, NULL, emit_long, big) != 0)
        abort();
    pthread_join(thread, &attached);
    unsigned drained = log_drain();
    char *text = capture_end();
    unsigned lines = 0;
    for (const char *at = text; (at = strstr(at, "\\x0a...\n")) != NULL; at++)
        lines++;
    size_t len = strlen(text);
    const char *first_end = strchr(text, '\n');
    bool all_alike = first_end != NULL && len == LONG_LINES * (size_t)(first_end + 1 - text);
    bool name_cut = strncmp(text, "a-program-name-of-thirty-two-by- 2026", 37) == 0;
    free(text);
    assert_non_null(attached);
    assert_int_equal(drained, LONG_LINES);
    assert_int_equal(lines, LONG_LINES);
    assert_true(all_alike);
    assert_true(name_cut);
}

static void test_threads_have_a_bound(void **state)
{
    (void)state;
    unsigned refused = 0;
    capture_start();
    for (unsigned i = 0; i < 200; i++) {
        pthread_t thread;
        void *attached = NULL;
        if (pthread_create(&thread, NULL, emit_two, NULL) != 0)
            abort();
        pthread_join(thread, &attached);
        refused += attached == NULL;
    }
    log_drain();
    free(capture_end());
    assert_in_range(refused, 1, 199);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_line_format, fix_clock),
        cmocka_unit_test_setup(test_errno_survives, fix_clock),
        cmocka_unit_test_setup(test_time_edges, fix_clock),
        cmocka_unit_test_setup(test_escaping, fix_clock),
        cmocka_unit_test_setup(test_long_lines, fix_clock),
        cmocka_unit_test_setup(test_level_names, fix_clock),
        cmocka_unit_test_setup(test_attached_thread_waits_for_drain, fix_clock),
        cmocka_unit_test_setup(test_full_ring_counts_drops, fix_clock),
        cmocka_unit_test_setup(test_drain_beside_a_writing_thread, fix_clock),
        cmocka_unit_test_setup(test_drain_of_long_lines, fix_clock),
        cmocka_unit_test_setup(test_threads_have_a_bound, fix_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
