#include "base/err.h"

#include <assert.h>
#include <stddef.h>

struct err_row {
    const char *code;
    const char *sentence;
    enum err_class class;
};

static const struct err_row err_rows[] = {
#define X(suffix, code, class, sentence) {code, sentence, ERR_CLASS_##class},
    ERR_TABLE(X)
#undef X
};

static_assert(sizeof(err_rows) / sizeof(err_rows[0]) == ERR_COUNT, "one row per value");

/* Values may come back from a store or a shared ring, so the range is checked, not asserted. */
static const struct err_row *row_of(enum err err)
{
    size_t index = (size_t)err;
    return &err_rows[index < ERR_COUNT ? index : ERR_INTERNAL];
}

const char *err_code(enum err err)
{
    return row_of(err)->code;
}

const char *err_sentence(enum err err)
{
    return row_of(err)->sentence;
}

enum err_class err_class_of(enum err err)
{
    return row_of(err)->class;
}
