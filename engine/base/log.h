/* log.h: structured log lines that never block a core.
 *
 * Promise: a line is `time level event key=value...`; a thread with a log ring only copies into it;
 *          when the ring is full the line is dropped and counted, and the count is logged later.
 *          No secret is ever passed here.
 * Threads: log_thread_attach gives the calling thread its ring; threads without one write to
 *          stderr directly (start-up, tools). log_drain runs on the main thread.
 */
#ifndef CERTMILL_BASE_LOG_H
#define CERTMILL_BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level);
enum log_level log_get_level(void);
bool log_level_from_name(const char *name, enum log_level *out_level);
/* Prefix of every line of this process, e.g. "certmilld". Static string. */
void log_set_program(const char *program);
bool log_thread_attach(void);
/* Writes out what the rings hold; returns how many lines. */
unsigned log_drain(void);
void log_emit(enum log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(event, ...) log_emit(LOG_ERROR, event, __VA_ARGS__)
#define log_warn(event, ...)  log_emit(LOG_WARN, event, __VA_ARGS__)
#define log_info(event, ...)  log_emit(LOG_INFO, event, __VA_ARGS__)
#define log_debug(event, ...) log_emit(LOG_DEBUG, event, __VA_ARGS__)

#endif
