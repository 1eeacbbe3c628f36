/* libcyaml forgets where a value stood; this walks the same file once more and remembers, so that
 * an error found after loading still names its line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "config/config_internal.h"

enum { PATH_MAX_LEN = 256, DEPTH_MAX = 8 };

struct place {
    char path[PATH_MAX_LEN];
    unsigned line;
};

struct config_places {
    struct place *item;
    size_t count, cap;
};

struct level {
    bool sequence;
    bool want_key;
    unsigned index;
    size_t path_len; /* of the path to this container */
};

struct walk {
    struct config_places *places;
    struct level level[DEPTH_MAX];
    int depth;
    char path[PATH_MAX_LEN];
};

static void add(struct config_places *places, const char *path, unsigned line)
{
    if (places->count == places->cap) {
        size_t cap = places->cap ? places->cap * 2 : 64;
        struct place *grown = realloc(places->item, cap * sizeof(*grown));
        if (!grown) {
            return;
        }
        places->item = grown;
        places->cap = cap;
    }
    struct place *place = &places->item[places->count++];
    snprintf(place->path, sizeof(place->path), "%s", path);
    place->line = line;
}

/* A value starts: its path is the container's plus [index], or the key that stands there already.
 */
static void value_starts(struct walk *walk, unsigned line)
{
    struct level *level = &walk->level[walk->depth];
    if (walk->depth > 0 && level->sequence) {
        snprintf(walk->path + level->path_len, PATH_MAX_LEN - level->path_len, "[%u]",
                 level->index++);
    }
    add(walk->places, walk->path, line);
    level->want_key = true;
}

static bool enter(struct walk *walk, bool sequence)
{
    if (walk->depth + 1 >= DEPTH_MAX) {
        return false;
    }
    walk->level[++walk->depth] =
        (struct level){.sequence = sequence, .want_key = true, .path_len = strlen(walk->path)};
    return true;
}

static bool walk_event(struct walk *walk, const yaml_event_t *event)
{
    struct level *level = &walk->level[walk->depth];
    unsigned line = (unsigned)event->start_mark.line + 1;
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        if (walk->depth > 0 && !level->sequence && level->want_key) {
            snprintf(walk->path + level->path_len, PATH_MAX_LEN - level->path_len, "%s%s",
                     level->path_len ? "." : "", (const char *)event->data.scalar.value);
            level->want_key = false;
            return true;
        }
        value_starts(walk, line);
        return true;
    case YAML_MAPPING_START_EVENT:
    case YAML_SEQUENCE_START_EVENT:
        value_starts(walk, line);
        return enter(walk, event->type == YAML_SEQUENCE_START_EVENT);
    case YAML_MAPPING_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
        walk->path[level->path_len] = 0;
        walk->depth--;
        return true;
    default:
        return true;
    }
}

struct config_places *config_places_read(const char *path)
{
    struct config_places *places = calloc(1, sizeof(*places));
    FILE *file = fopen(path, "rb");
    yaml_parser_t parser;
    if (places && file && yaml_parser_initialize(&parser)) {
        struct walk walk = {.places = places};
        yaml_parser_set_input_file(&parser, file);
        yaml_event_t event;
        bool more = true;
        while (more && yaml_parser_parse(&parser, &event)) {
            more = walk_event(&walk, &event) && event.type != YAML_STREAM_END_EVENT;
            yaml_event_delete(&event);
        }
        yaml_parser_delete(&parser);
    }
    if (file) {
        fclose(file);
    }
    return places;
}

unsigned config_places_line(const struct config_places *places, const char *path)
{
    for (size_t i = 0; places && i < places->count; i++) {
        if (strcmp(places->item[i].path, path) == 0) {
            return places->item[i].line;
        }
    }
    return 0;
}

void config_places_free(struct config_places *places)
{
    if (places) {
        free(places->item);
        free(places);
    }
}
