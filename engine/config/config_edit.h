/* config_edit.h: changes entries of one CA in the text of a configuration.
 *
 * Promise: what is not changed stays as it is, octet for octet, comments and order too; the result
 *          was read again, and says what was wanted and otherwise the same as before. YAML that
 * this cannot be done to (aliases, block scalars) is refused: then a person has to do it. Owner:
 * the caller frees *out_text, NUL-terminated. Threads: pure. Errors:  ERR_CONFIG with what is in
 * the way; ERR_NO_SPACE.
 */
#ifndef CERTMILL_CONFIG_CONFIG_EDIT_H
#define CERTMILL_CONFIG_CONFIG_EDIT_H

#include "base/bytes.h"
#include "config/config.h"

/* Sets key to a text, to a list, or (both NULL) takes it out. */
struct config_edit {
    const char *key;
    const char *text;
    const char *const *list;
    uint32_t list_count;
};

enum err config_edit_ca(struct bytes text, const char *ca, const struct config_edit edits[],
                        uint32_t count, char **out_text, char out_error[CONFIG_ERROR_MAX]) MUST_USE;
/* An entry as it would be written: "key: [a, b]"; empty when it is taken out. For people who edit
 * themselves. */
void config_edit_put(struct writer *out, const struct config_edit *edit);

#endif
