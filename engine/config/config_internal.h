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

#endif
