#include "tools/output.h"

#include <stdarg.h>
#include <stdlib.h>
#include <time.h>

enum { GAP = 2, CELLS_AT_ONCE = OUT_COLUMNS_MAX, CELL_MAX = 1024 };

static void *sure(void *mem)
{
    if (!mem) {
        fputs("certmill: out of memory: free some and try again\n", stderr);
        abort();
    }
    return mem;
}

/* --- text from outside --- */

/* Length of the UTF-8 sequence at the start of text, 0 when it is none (RFC 3629 4). C1 controls
 * (U+0080 to U+009F) move a terminal's cursor as well: not taken. */
static size_t utf8_len(struct bytes text)
{
    uint8_t first = text.ptr[0];
    size_t len = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    if (first > 0xf4 || len > text.len)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((text.ptr[i] & 0xc0) != 0x80)
            return 0;
    uint8_t second = len > 1 ? text.ptr[1] : 0;
    if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
        (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f) ||
        (first == 0xc2 && second < 0xa0))
        return 0;
    return len;
}

const char *out_clean(struct bytes text, char *out, size_t cap)
{
    struct writer writer = writer_of(out, cap - 1);
    while (text.len > 0 && !writer.failed) {
        size_t len = utf8_len(text);
        bool plain = len > 1 || (len == 1 && text.ptr[0] >= 0x20 && text.ptr[0] != 0x7f);
        if (plain)
            writer_put(&writer, bytes_of(text.ptr, len));
        else
            writer_printf(&writer, "\\x%02x", text.ptr[0]);
        len = plain ? len : 1;
        text.ptr += len;
        text.len -= len;
    }
    out[writer.len] = 0;
    return out;
}

const char *out_time(int64_t unix_s, char out[OUT_TIME_MAX])
{
    struct tm parts;
    time_t when = (time_t)unix_s;
    if (unix_s == 0 || !gmtime_r(&when, &parts) ||
        strftime(out, OUT_TIME_MAX, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        snprintf(out, OUT_TIME_MAX, "-");
    return out;
}

const char *out_hex(struct bytes data, char out[OUT_HEX_MAX])
{
    out[0] = 0;
    if (2 * data.len + 1 <= OUT_HEX_MAX)
        bytes_to_hex(data, out);
    return out;
}

/* --- tables --- */

void table_start(struct table *table, ...)
{
    va_list args;
    *table = (struct table){0};
    va_start(args, table);
    const char *heading;
    while ((heading = va_arg(args, const char *)) != NULL && table->columns < OUT_COLUMNS_MAX)
        table->heading[table->columns++] = heading;
    va_end(args);
}

void table_row(struct table *table, ...)
{
    if (table->rows == table->cap) {
        table->cap = table->cap ? 2 * table->cap : 16;
        table->cell =
            sure(realloc(table->cell, (size_t)table->cap * table->columns * sizeof(*table->cell)));
    }
    char **row = table->cell + (size_t)table->rows++ * table->columns;
    va_list args;
    va_start(args, table);
    for (uint32_t i = 0; i < table->columns; i++) {
        const char *text = va_arg(args, const char *);
        row[i] = sure(strdup(text && text[0] ? text : "-"));
    }
    va_end(args);
}

const char *cell(const char *fmt, ...)
{
    static char cells[CELLS_AT_ONCE][CELL_MAX];
    static unsigned next;
    char *out = cells[next++ % CELLS_AT_ONCE];
    va_list args;
    va_start(args, fmt);
    vsnprintf(out, CELL_MAX, fmt, args);
    va_end(args);
    return out;
}

/* Characters, not bytes: continuation bytes take no column. */
static int width_of(const char *text)
{
    int width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

static void print_cell(const struct table *table, uint32_t column, const char *text, int width,
                       FILE *out)
{
    int blanks = width - width_of(text);
    bool right = table->heading[column][0] == '>';
    bool last = column + 1 == table->columns;
    if (column > 0)
        fprintf(out, "%*s", GAP, "");
    if (right)
        fprintf(out, "%*s", blanks, "");
    fputs(text, out);
    if (!right && !last)
        fprintf(out, "%*s", blanks, "");
    if (last)
        fputc('\n', out);
}

static const char *heading_of(const struct table *table, uint32_t column)
{
    return table->heading[column] + (table->heading[column][0] == '>');
}

void table_print(struct table *table, FILE *out)
{
    int widths[OUT_COLUMNS_MAX];
    for (uint32_t i = 0; i < table->columns; i++) {
        widths[i] = width_of(heading_of(table, i));
        for (uint32_t k = 0; k < table->rows; k++) {
            int width = width_of(table->cell[k * table->columns + i]);
            widths[i] = width > widths[i] ? width : widths[i];
        }
    }
    for (uint32_t i = 0; i < table->columns; i++)
        print_cell(table, i, heading_of(table, i), widths[i], out);
    for (uint32_t k = 0; k < table->rows * table->columns; k++) {
        uint32_t column = k % table->columns;
        print_cell(table, column, table->cell[k], widths[column], out);
    }
    table_free(table);
}

void table_free(struct table *table)
{
    for (uint32_t k = 0; k < table->rows * table->columns; k++)
        free(table->cell[k]);
    free(table->cell);
    *table = (struct table){0};
}

/* --- JSON --- */

json_t *json_of_text(struct bytes text)
{
    json_t *value = json_stringn((const char *)text.ptr, text.len);
    if (value)
        return value;
    size_t cap = 4 * text.len + 1;
    char *clean = sure(malloc(cap));
    value = json_string(out_clean(text, clean, cap));
    free(clean);
    return sure(value);
}

json_t *json_of_time(int64_t unix_s)
{
    char text[OUT_TIME_MAX];
    return unix_s == 0 ? json_null() : sure(json_string(out_time(unix_s, text)));
}

json_t *json_of_hex(struct bytes data)
{
    char text[OUT_HEX_MAX];
    return sure(json_string(out_hex(data, text)));
}

void json_put(json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, sure(value)) != 0)
        sure(NULL);
}

void json_put_str(json_t *object, const char *key, const char *value)
{
    json_put(object, key, value ? json_of_text(bytes_of_str(value)) : json_null());
}

void json_put_int(json_t *object, const char *key, uint64_t value)
{
    json_put(object, key, json_integer((json_int_t)value));
}

void json_put_bool(json_t *object, const char *key, bool value)
{
    json_put(object, key, json_boolean(value));
}

void out_json(json_t *value)
{
    json_dumpf(sure(value), stdout, JSON_INDENT(2));
    fputc('\n', stdout);
    json_decref(value);
}

bool out_finish(void)
{
    return fflush(stdout) == 0 && !ferror(stdout);
}
