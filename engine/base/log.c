#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/spsc.h"
#include "limits.h"

enum {
    LOG_RING_LINES = 1024,
    LOG_TEXT_MAX = 496,
    LOG_THREADS_MAX = 2 * CORES_MAX, /* cores, store writer, costly threads, with room */
    LOG_PROGRAM_MAX = 32,
    LOG_LINE_MAX = LOG_PROGRAM_MAX + 64 + 4 * LOG_TEXT_MAX, /* a byte escapes to 4 */
    LOG_WRITE_MAX = 16 * LOG_LINE_MAX,
};

struct log_slot {
    uint64_t wall_ns;
    uint32_t level;
    uint32_t len;
    char text[LOG_TEXT_MAX];
};

static_assert(sizeof(struct log_slot) == 512, "slots do not share cache lines");

struct log_ring {
    struct spsc in;  /* the thread's view */
    struct spsc out; /* the drain's view */
    _Atomic uint64_t dropped;
    uint64_t dropped_told; /* of them, already logged by the drain */
};

static const char *const level_names[] = {"error", "warn", "info", "debug"};
enum { LEVEL_COUNT = sizeof(level_names) / sizeof(level_names[0]) };

static _Atomic int level_now = LOG_INFO;
static const char *_Atomic program_now;

/* Rings are only ever added: the drain reads them without the lock. */
static pthread_mutex_t attach_lock = PTHREAD_MUTEX_INITIALIZER;
static struct log_ring *rings[LOG_THREADS_MAX];
static _Atomic unsigned ring_count;
static _Thread_local struct log_ring *own_ring;

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&level_now, (int)level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
    return (enum log_level)atomic_load_explicit(&level_now, memory_order_relaxed);
}

bool log_level_from_name(const char *name, enum log_level *out_level)
{
    for (unsigned i = 0; i < LEVEL_COUNT; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *out_level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

void log_set_program(const char *program)
{
    atomic_store_explicit(&program_now, program, memory_order_release);
}

static struct log_ring *ring_new(void)
{
    size_t len = spsc_bytes(sizeof(struct log_slot), LOG_RING_LINES);
    struct log_ring *ring = calloc(1, sizeof(*ring));
    void *mem = aligned_alloc(64, len);
    if (ring == NULL || mem == NULL) {
        free(ring);
        free(mem);
        return NULL;
    }
    spsc_bind(&ring->in, mem, sizeof(struct log_slot), LOG_RING_LINES, true);
    spsc_bind(&ring->out, mem, sizeof(struct log_slot), LOG_RING_LINES, false);
    return ring;
}

bool log_thread_attach(void)
{
    if (own_ring != NULL)
        return true;
    pthread_mutex_lock(&attach_lock);
    unsigned count = atomic_load_explicit(&ring_count, memory_order_relaxed);
    if (count < LOG_THREADS_MAX && (own_ring = ring_new()) != NULL) {
        rings[count] = own_ring;
        atomic_store_explicit(&ring_count, count + 1, memory_order_release);
    }
    pthread_mutex_unlock(&attach_lock);
    return own_ring != NULL;
}

static void write_stderr(struct bytes text)
{
    while (text.len != 0) {
        ssize_t n = write(STDERR_FILENO, text.ptr, text.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* nowhere left to complain to */
        text = bytes_of(text.ptr + n, text.len - (size_t)n);
    }
}

/* Whatever is not printable ASCII, and the backslash itself: text from outside can neither start a
 * line of its own, drive a terminal, nor look like something escaped. */
static void put_escaped(struct writer *writer, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t c = (uint8_t)text[i];
        if (c == '\\') {
            writer_put_str(writer, "\\\\");
        } else if (c >= 0x20 && c < 0x7f) {
            writer_put_u8(writer, c);
        } else {
            writer_put_str(writer, "\\x");
            writer_put_hex(writer, bytes_of(&c, 1));
        }
    }
}

static void put_line(struct writer *writer, const struct log_slot *slot)
{
    const char *program = atomic_load_explicit(&program_now, memory_order_acquire);
    if (program != NULL) {
        writer_put(writer, bytes_of(program, strnlen(program, LOG_PROGRAM_MAX)));
        writer_put_u8(writer, ' ');
    }
    time_t second = (time_t)(slot->wall_ns / NS_PER_S);
    struct tm utc = {0};
    gmtime_r(&second, &utc);
    writer_printf(writer, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ %s ", utc.tm_year + 1900,
                  utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                  (unsigned)(slot->wall_ns % NS_PER_S / NS_PER_MS), level_names[slot->level]);
    put_escaped(writer, slot->text, slot->len);
    writer_put_u8(writer, '\n');
}

static void fill_slot(struct log_slot *slot, enum log_level level, const char *event,
                      const char *fmt, va_list args)
{
    slot->wall_ns = clock_wall_ns();
    slot->level = (uint32_t)level;
    int head = snprintf(slot->text, LOG_TEXT_MAX, "%s ", event);
    size_t len = head < 0 ? 0 : (size_t)head;
    if (len < LOG_TEXT_MAX) {
        int rest = vsnprintf(slot->text + len, LOG_TEXT_MAX - len, fmt, args);
        len += rest < 0 ? 0 : (size_t)rest;
    }
    if (len >= LOG_TEXT_MAX) {
        len = LOG_TEXT_MAX;
        memcpy(slot->text + len - 3, "...", 3);
    }
    slot->len = (uint32_t)len;
}

static void vemit(enum log_level level, const char *event, const char *fmt, va_list args)
{
    struct log_ring *ring = own_ring;
    if (ring == NULL) {
        struct log_slot slot;
        uint8_t line[LOG_LINE_MAX];
        struct writer writer = writer_of(line, sizeof(line));
        fill_slot(&slot, level, event, fmt, args);
        put_line(&writer, &slot);
        write_stderr(writer_view(&writer)); /* in one write: lines of threads do not mix */
    } else if (spsc_space(&ring->in) == 0) {
        atomic_fetch_add_explicit(&ring->dropped, 1, memory_order_relaxed);
    } else {
        fill_slot(spsc_slot_in(&ring->in, 0), level, event, fmt, args);
        spsc_publish(&ring->in, 1);
    }
}

void log_emit(enum log_level level, const char *event, const char *fmt, ...)
{
    if ((int)level < 0 || (unsigned)level >= LEVEL_COUNT ||
        (int)level > atomic_load_explicit(&level_now, memory_order_relaxed))
        return;
    int saved = errno; /* callers log between a failed call and reading its errno */
    va_list args;
    va_start(args, fmt);
    vemit(level, event, fmt, args);
    va_end(args);
    errno = saved;
}

__attribute__((format(printf, 3, 4))) static void
slot_printf(struct log_slot *slot, enum log_level level, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fill_slot(slot, level, "log-dropped", fmt, args);
    va_end(args);
}

static void batch_line(struct writer *batch, const struct log_slot *slot)
{
    if (batch->cap - batch->len < LOG_LINE_MAX) {
        write_stderr(writer_view(batch));
        batch->len = 0;
    }
    put_line(batch, slot);
}

static unsigned drain_ring(struct log_ring *ring, struct writer *batch)
{
    /* What is there now and no more, so that a busy thread cannot hold the drain. */
    uint32_t ready = spsc_ready(&ring->out);
    for (uint32_t i = 0; i < ready; i++) {
        batch_line(batch, spsc_slot_out(&ring->out, 0));
        spsc_release(&ring->out, 1); /* at once: the writing may take long */
    }
    uint64_t dropped = atomic_load_explicit(&ring->dropped, memory_order_relaxed);
    if (dropped == ring->dropped_told)
        return ready;
    struct log_slot slot;
    slot_printf(&slot, LOG_WARN, "count=%llu", (unsigned long long)(dropped - ring->dropped_told));
    ring->dropped_told = dropped;
    batch_line(batch, &slot);
    return ready + 1;
}

unsigned log_drain(void)
{
    static uint8_t buf[LOG_WRITE_MAX]; /* one drain, on the main thread */
    struct writer batch = writer_of(buf, sizeof(buf));
    unsigned count = atomic_load_explicit(&ring_count, memory_order_acquire);
    unsigned lines = 0;
    for (unsigned i = 0; i < count; i++)
        lines += drain_ring(rings[i], &batch);
    write_stderr(writer_view(&batch));
    return lines;
}
