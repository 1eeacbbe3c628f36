#include "config/config_edit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { DEPTH_MAX = 16, VALUE_MAX = 16 * 1024 };

/* A text, parsed, and the CA in it. */
struct doc {
    struct bytes text;
    yaml_document_t yaml;
    bool loaded;
    yaml_node_t *ca;
};

static void doc_clear(struct doc *doc)
{
    if (doc->loaded) {
        yaml_document_delete(&doc->yaml);
    }
    doc->loaded = false;
}
#define DOC __attribute__((cleanup(doc_clear))) struct doc

/* --- finding --- */

static yaml_node_t *node_at(struct doc *doc, int index)
{
    return yaml_document_get_node(&doc->yaml, index);
}

static bool is_text(const yaml_node_t *node, const char *text)
{
    return node && node->type == YAML_SCALAR_NODE && node->data.scalar.length == strlen(text) &&
           memcmp(node->data.scalar.value, text, strlen(text)) == 0;
}

static yaml_node_pair_t *find_pair(struct doc *doc, yaml_node_t *mapping, const char *key)
{
    if (!mapping || mapping->type != YAML_MAPPING_NODE) {
        return NULL;
    }
    for (yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;
         pair < mapping->data.mapping.pairs.top; pair++) {
        if (is_text(node_at(doc, pair->key), key)) {
            return pair;
        }
    }
    return NULL;
}

static yaml_node_t *find_value(struct doc *doc, yaml_node_t *mapping, const char *key)
{
    yaml_node_pair_t *pair = find_pair(doc, mapping, key);
    return pair ? node_at(doc, pair->value) : NULL;
}

static enum err doc_load(struct bytes text, const char *ca, struct doc *out,
                         char error[CONFIG_ERROR_MAX])
{
    yaml_parser_t parser;
    *out = (struct doc){.text = text};
    if (text.len >= 2 && (text.ptr[0] >= 0xef || text.ptr[0] == 0 || text.ptr[1] == 0)) {
        snprintf(error, CONFIG_ERROR_MAX, "the file has a byte order mark or is not UTF-8");
        return ERR_CONFIG;
    }
    if (!yaml_parser_initialize(&parser)) {
        return ERR_NO_SPACE;
    }
    yaml_parser_set_input_string(&parser, text.ptr, text.len);
    out->loaded = yaml_parser_load(&parser, &out->yaml);
    snprintf(error, CONFIG_ERROR_MAX, "line %zu: %s", parser.problem_mark.line + 1,
             parser.problem ? parser.problem : "not understood");
    yaml_parser_delete(&parser);
    if (!out->loaded) {
        return ERR_CONFIG;
    }
    yaml_node_t *cas = find_value(out, yaml_document_get_root_node(&out->yaml), "cas");
    for (yaml_node_item_t *item =
             cas && cas->type == YAML_SEQUENCE_NODE ? cas->data.sequence.items.start : NULL;
         item && item < cas->data.sequence.items.top; item++) {
        if (is_text(find_value(out, node_at(out, *item), "name"), ca)) {
            out->ca = node_at(out, *item);
        }
    }
    snprintf(error, CONFIG_ERROR_MAX, "there is no ca '%s' in it", ca);
    return out->ca ? ERR_OK : ERR_CONFIG;
}

/* --- places --- */

/* libyaml counts characters. */
static size_t offset_of(const struct doc *doc, yaml_mark_t mark)
{
    size_t at = 0;
    for (size_t left = mark.index; left > 0 && at < doc->text.len; left--) {
        at++;
        while (at < doc->text.len && (doc->text.ptr[at] & 0xc0) == 0x80) {
            at++;
        }
    }
    return at;
}

/* Where a value ends; false when it is of a kind whose end libyaml does not tell. */
static bool value_end(struct doc *doc, const yaml_node_t *node, size_t *out)
{
    const yaml_node_t *last = node;
    if (node->type == YAML_SEQUENCE_NODE &&
        node->data.sequence.style == YAML_BLOCK_SEQUENCE_STYLE) {
        if (node->data.sequence.items.top == node->data.sequence.items.start) {
            return false;
        }
        last = node_at(doc, node->data.sequence.items.top[-1]); /* its own mark is further on */
    }
    bool scalar = last->type == YAML_SCALAR_NODE &&
                  last->data.scalar.style != YAML_LITERAL_SCALAR_STYLE &&
                  last->data.scalar.style != YAML_FOLDED_SCALAR_STYLE &&
                  last->end_mark.index > last->start_mark.index;
    bool list = last == node && last->type == YAML_SEQUENCE_NODE;
    *out = offset_of(doc, last->end_mark);
    return (scalar || list) && last->start_mark.index >= node->start_mark.index;
}

/* An alias has the place of what it stands for, which is not behind its key. */
static bool stands_behind(struct doc *doc, const yaml_node_pair_t *pair)
{
    const yaml_node_t *key = node_at(doc, pair->key), *value = node_at(doc, pair->value);
    return key->start_mark.index >= doc->ca->start_mark.index &&
           value->start_mark.index >= key->end_mark.index &&
           value->end_mark.index <= doc->ca->end_mark.index;
}

/* --- writing values --- */

static bool is_plain(const char *text)
{
    size_t len = strlen(text);
    return len > 0 &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./=;%:-") ==
               len &&
           strchr("-:=%", text[0]) == NULL && text[len - 1] != ':';
}

static void put_text(struct writer *out, const char *text, bool quoted)
{
    if (!quoted && is_plain(text)) {
        writer_put_str(out, text);
        return;
    }
    writer_put_u8(out, '"');
    for (; *text; text++) {
        if ((uint8_t)*text < 0x20) {
            writer_printf(out, "\\x%02x", (unsigned)(uint8_t)*text);
            continue;
        }
        if (*text == '"' || *text == '\\') {
            writer_put_u8(out, '\\');
        }
        writer_put_u8(out, (uint8_t)*text);
    }
    writer_put_u8(out, '"');
}

static void put_value(struct writer *out, const struct config_edit *edit, bool quoted)
{
    if (edit->text) {
        put_text(out, edit->text, quoted);
        return;
    }
    writer_put_u8(out, '[');
    for (uint32_t i = 0; i < edit->list_count; i++) {
        writer_put_str(out, i ? ", " : "");
        put_text(out, edit->list[i], quoted);
    }
    writer_put_u8(out, ']');
}

static bool takes_out(const struct config_edit *edit)
{
    return !edit->text && !edit->list;
}

void config_edit_put(struct writer *out, const struct config_edit *edit)
{
    if (takes_out(edit)) {
        return;
    }
    writer_put_str(out, edit->key);
    writer_put_str(out, ": ");
    put_value(out, edit, false);
}

/* --- one change --- */

/* What replaces the octets from start to end. */
struct change {
    size_t start, end;
    struct writer with;
    char buf[VALUE_MAX];
};

static enum err in_the_way(char error[CONFIG_ERROR_MAX], const char *key)
{
    snprintf(
        error, CONFIG_ERROR_MAX,
        "'%s' is written in a way that cannot be changed safely (an alias, or a block of text)",
        key);
    return ERR_CONFIG;
}

/* Removes from this key to the next one, or from the end of the one before. */
static bool plan_removal(struct doc *doc, yaml_node_pair_t *pair, struct change *out)
{
    yaml_node_pair_t *first = doc->ca->data.mapping.pairs.start;
    if (pair + 1 < doc->ca->data.mapping.pairs.top) {
        out->start = offset_of(doc, node_at(doc, pair->key)->start_mark);
        out->end = offset_of(doc, node_at(doc, pair[1].key)->start_mark);
        return true;
    }
    return pair > first && stands_behind(doc, pair - 1) &&
           value_end(doc, node_at(doc, pair[-1].value), &out->start) &&
           value_end(doc, node_at(doc, pair->value), &out->end);
}

/* Before a key that is not the first, since the first one may stand behind a dash. */
static bool plan_insertion(struct doc *doc, const struct config_edit *edit, bool flow,
                           struct change *out)
{
    yaml_node_pair_t *second = doc->ca->data.mapping.pairs.start + 1;
    if (second >= doc->ca->data.mapping.pairs.top) {
        return false;
    }
    yaml_mark_t mark = node_at(doc, second->key)->start_mark;
    out->start = out->end = offset_of(doc, mark);
    put_text(&out->with, edit->key, flow);
    writer_put_str(&out->with, ": ");
    put_value(&out->with, edit, flow);
    if (flow) {
        writer_put_str(&out->with, ", ");
        return true;
    }
    writer_put_u8(&out->with, '\n');
    for (size_t i = 0; i < mark.column; i++) {
        writer_put_u8(&out->with, ' ');
    }
    return true;
}

static enum err plan_change(struct doc *doc, const struct config_edit *edit, struct change *out,
                            char error[CONFIG_ERROR_MAX])
{
    bool flow = doc->ca->data.mapping.style == YAML_FLOW_MAPPING_STYLE;
    yaml_node_pair_t *pair = find_pair(doc, doc->ca, edit->key);
    out->start = out->end = 0;
    out->with = writer_of(out->buf, sizeof(out->buf));
    bool good = true;
    if (pair && !stands_behind(doc, pair)) {
        good = false;
    } else if (takes_out(edit)) {
        good = !pair || plan_removal(doc, pair, out);
    } else if (pair) {
        out->start = offset_of(doc, node_at(doc, pair->key)->end_mark);
        good = value_end(doc, node_at(doc, pair->value), &out->end);
        writer_put_str(&out->with, ": ");
        put_value(&out->with, edit, flow);
    } else {
        good = plan_insertion(doc, edit, flow, out);
    }
    return good && !out->with.failed && out->start <= out->end ? ERR_OK
                                                               : in_the_way(error, edit->key);
}

/* --- is it what was wanted? --- */

static bool is_edited(const yaml_node_t *key, const struct config_edit edits[], uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (is_text(key, edits[i].key)) {
            return true;
        }
    }
    return false;
}

struct compare {
    struct doc *a, *b;
    const struct config_edit *edits;
    uint32_t count;
};

static bool same_node(const struct compare *c, yaml_node_t *a, yaml_node_t *b, int depth);

/* Edited entries of the CA are not looked at. */
static yaml_node_pair_t *next_pair(const struct compare *c, struct doc *doc,
                                   const yaml_node_t *mapping, yaml_node_pair_t *pair)
{
    while (pair < mapping->data.mapping.pairs.top && mapping == doc->ca &&
           is_edited(node_at(doc, pair->key), c->edits, c->count)) {
        pair++;
    }
    return pair;
}

static bool same_mapping(const struct compare *c, yaml_node_t *a, yaml_node_t *b, int depth)
{
    yaml_node_pair_t *at = next_pair(c, c->a, a, a->data.mapping.pairs.start);
    yaml_node_pair_t *bt = next_pair(c, c->b, b, b->data.mapping.pairs.start);
    while (at < a->data.mapping.pairs.top && bt < b->data.mapping.pairs.top) {
        if (!same_node(c, node_at(c->a, at->key), node_at(c->b, bt->key), depth) ||
            !same_node(c, node_at(c->a, at->value), node_at(c->b, bt->value), depth)) {
            return false;
        }
        at = next_pair(c, c->a, a, at + 1);
        bt = next_pair(c, c->b, b, bt + 1);
    }
    return at == a->data.mapping.pairs.top && bt == b->data.mapping.pairs.top;
}

static bool same_sequence(const struct compare *c, const yaml_node_t *a, const yaml_node_t *b,
                          int depth)
{
    ptrdiff_t len = a->data.sequence.items.top - a->data.sequence.items.start;
    if (b->data.sequence.items.top - b->data.sequence.items.start != len) {
        return false;
    }
    for (ptrdiff_t i = 0; i < len; i++) {
        if (!same_node(c, node_at(c->a, a->data.sequence.items.start[i]),
                       node_at(c->b, b->data.sequence.items.start[i]), depth)) {
            return false;
        }
    }
    return true;
}

static bool same_node(const struct compare *c, yaml_node_t *a, yaml_node_t *b, int depth)
{
    if (!a || !b || a->type != b->type || (a == c->a->ca) != (b == c->b->ca) || depth > DEPTH_MAX) {
        return false;
    }
    if (a->type == YAML_MAPPING_NODE) {
        return same_mapping(c, a, b, depth + 1);
    }
    if (a->type == YAML_SEQUENCE_NODE) {
        return same_sequence(c, a, b, depth + 1);
    }
    return a->data.scalar.length == b->data.scalar.length &&
           memcmp(a->data.scalar.value, b->data.scalar.value, a->data.scalar.length) == 0;
}

static bool says(struct doc *doc, const struct config_edit *edit)
{
    const yaml_node_t *value = find_value(doc, doc->ca, edit->key);
    if (takes_out(edit)) {
        return !value;
    }
    if (edit->text) {
        return is_text(value, edit->text);
    }
    if (!value || value->type != YAML_SEQUENCE_NODE ||
        value->data.sequence.items.top - value->data.sequence.items.start != edit->list_count) {
        return false;
    }
    bool same = true;
    for (uint32_t i = 0; i < edit->list_count; i++) {
        same &= is_text(node_at(doc, value->data.sequence.items.start[i]), edit->list[i]);
    }
    return same;
}

static enum err check_result(struct bytes before, struct bytes after, const char *ca,
                             const struct config_edit edits[], uint32_t count,
                             char error[CONFIG_ERROR_MAX])
{
    DOC a = {0};
    DOC b = {0};
    enum err err = doc_load(before, ca, &a, error);
    if (err == ERR_OK) {
        err = doc_load(after, ca, &b, error);
    }
    if (err != ERR_OK) {
        return err;
    }
    struct compare c = {&a, &b, edits, count};
    bool good = same_node(&c, yaml_document_get_root_node(&a.yaml),
                          yaml_document_get_root_node(&b.yaml), 0);
    for (uint32_t i = 0; i < count; i++) {
        good &= says(&b, &edits[i]);
    }
    snprintf(error, CONFIG_ERROR_MAX, "ca %s is written in a way that cannot be changed safely",
             ca);
    return good ? ERR_OK : ERR_CONFIG;
}

/* --- all --- */

/* *text is replaced by one with this change. */
static enum err change_text(char **text, const char *ca, const struct config_edit *edit,
                            char error[CONFIG_ERROR_MAX])
{
    DOC doc = {0};
    static const char nothing[] = "";
    struct change change;
    enum err err = doc_load(bytes_of_str(*text), ca, &doc, error);
    if (err == ERR_OK) {
        err = plan_change(&doc, edit, &change, error);
    }
    if (err != ERR_OK) {
        return err;
    }
    size_t len = doc.text.len - (change.end - change.start) + change.with.len;
    char *made = malloc(len + 1);
    if (!made) {
        return ERR_NO_SPACE;
    }
    struct writer out = writer_of(made, len);
    writer_put(&out, bytes_of(*text, change.start));
    writer_put(&out, change.with.len ? writer_view(&change.with) : bytes_of(nothing, 0));
    writer_put(&out, bytes_of(*text + change.end, doc.text.len - change.end));
    made[len] = 0;
    free(*text);
    *text = made;
    return ERR_OK;
}

enum err config_edit_ca(struct bytes text, const char *ca, const struct config_edit edits[],
                        uint32_t count, char **out_text, char out_error[CONFIG_ERROR_MAX])
{
    if (text.len == 0 || memchr(text.ptr, 0, text.len)) {
        snprintf(out_error, CONFIG_ERROR_MAX, "the file is empty or not a text");
        return ERR_CONFIG;
    }
    char *made = strndup((const char *)text.ptr, text.len);
    enum err err = made ? ERR_OK : ERR_NO_SPACE;
    for (uint32_t i = 0; i < count && err == ERR_OK; i++) {
        err = change_text(&made, ca, &edits[i], out_error);
    }
    if (err == ERR_OK) {
        err = check_result(text, bytes_of_str(made), ca, edits, count, out_error);
    }
    if (err != ERR_OK) {
        free(made);
        return err;
    }
    *out_text = made;
    return ERR_OK;
}
