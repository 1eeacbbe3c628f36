/* test_store_tool.h: a program that writes into a store on which no daemon runs, for tests. */
#ifndef CERTMILL_TEST_STORE_TOOL_H
#define CERTMILL_TEST_STORE_TOOL_H

#include <stdio.h>

#include "store/store.h"

/* The store argv[1]; NULL, and usage on stderr, when there are not `wanted` arguments or it does not
 * open. */
static inline struct store *tool_store_open(int argc, char **argv, int wanted, const char *usage)
{
    struct store_config config = {.dir = argc == wanted ? argv[1] : "", .map_size = 1ull << 30};
    struct store *store = NULL;
    char detail[256] = "";
    if (argc != wanted || store_open(&config, &store, detail) != ERR_OK) {
        fprintf(stderr, "usage: %s %s\n", usage, detail);
        return NULL;
    }
    return store;
}

/* The exit status. */
static inline int tool_store_close(struct store *store, char **argv, enum err err)
{
    store_close(store);
    if (err != ERR_OK)
        fprintf(stderr, "%s: %s\n", argv[0], err_code(err));
    return err == ERR_OK ? 0 : 1;
}

#endif
