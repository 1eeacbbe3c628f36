/* output.h: results as people and programs read them.
 *
 * Promise: text from outside (names, journal entries, what a token says of itself) never reaches a
 *          terminal as a control character, and is valid UTF-8 in JSON.
 * Owner:   a table owns its cells; table_print and out_json consume what they are given.
 * Errors:  out of memory aborts (a tool has nothing better to do); a full disk or a closed pipe is
 *          found by out_finish.
 */
#ifndef CERTMILL_TOOLS_OUTPUT_H
#define CERTMILL_TOOLS_OUTPUT_H

#include <jansson.h>
#include <stdio.h>

#include "base/bytes.h"

enum { OUT_TIME_MAX = 32, OUT_COLUMNS_MAX = 16, OUT_HEX_MAX = 160 };

/* What is not printable ASCII or UTF-8 becomes \xNN; cut at cap. */
const char *out_clean(struct bytes text, char *out, size_t cap);
/* 2026-11-21T20:58:34Z; "-" for 0. */
const char *out_time(int64_t unix_s, char out[OUT_TIME_MAX]);
const char *out_hex(struct bytes data, char out[OUT_HEX_MAX]);

struct table {
    uint32_t columns;
    uint32_t rows;
    uint32_t cap; /* rows there is room for */
    const char *heading[OUT_COLUMNS_MAX];
    char **cell;
};

/* Headings of columns, NULL at the end; one that starts with '>' is for numbers, set to the right.
 */
void table_start(struct table *table, ...) __attribute__((sentinel));
/* As many strings as there are columns; copied. NULL reads "-". */
void table_row(struct table *table, ...);
/* printf for one cell inside table_row: valid until the OUT_COLUMNS_MAX-th next call. */
__attribute__((format(printf, 1, 2))) const char *cell(const char *fmt, ...);
/* Frees it, too. */
void table_print(struct table *table, FILE *out);
/* Legal after table_print. */
void table_free(struct table *table);

/* A view as JSON string; text as above when it is not UTF-8. */
json_t *json_of_text(struct bytes text);
/* null when 0. */
json_t *json_of_time(int64_t unix_s);
json_t *json_of_hex(struct bytes data);
/* Adds to an object; aborts on no memory. */
void json_put(json_t *object, const char *key, json_t *value);
void json_put_str(json_t *object, const char *key, const char *value);
void json_put_int(json_t *object, const char *key, uint64_t value);
void json_put_bool(json_t *object, const char *key, bool value);

/* Prints on standard output with a line end and frees it. */
void out_json(json_t *value);
/* Flushes standard output; false when anything did not reach it. */
bool out_finish(void) MUST_USE;

#endif
