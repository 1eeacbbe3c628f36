/* config_internal.h: between the schema, the loader and the checks. */
#ifndef CERTMILL_CONFIG_CONFIG_INTERNAL_H
#define CERTMILL_CONFIG_CONFIG_INTERNAL_H

#include <cyaml/cyaml.h>

#include "config/config.h"

enum { CONFIG_YES = 1, CONFIG_NO = 2 };

extern const cyaml_schema_value_t CONFIG_SCHEMA;

/* Where a value stands: path like "lines[2].ca". 0 when it is not in the file. */
struct config_places;
struct config_places *config_places_read(const char *path);
unsigned config_places_line(const struct config_places *places, const char *path);
void config_places_free(struct config_places *places);

/* Fills in defaults, then checks names, references and ranges. false: text in `error`. */
void config_defaults(struct config *config);
bool config_check(const struct config *config, const struct config_places *places,
                  char error[CONFIG_ERROR_MAX]);

/* --- checking, shared by its parts --- */

struct check {
    const struct config *config;
    const struct config_places *places;
    char *error;
    bool good;
};
/* path: as in "lines[2].cmp.mode"; the first complaint counts. */
void config_complain(struct check *check, const char *path, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
#define PATH(...) (snprintf(path, sizeof(path), __VA_ARGS__), path)
/* Elements are structs whose first member is `char *name`. */
bool config_has_name(const void *items, uint32_t count, size_t size, const char *wanted);
void config_default_text(char **text, const char *value);
void config_default_switch(config_bool *value, bool fallback);

/* CMP's part (config_cmp.c) */
void config_cmp_defaults(struct config *config);
void config_cmp_check(struct check *check);

#endif
