/* Puts so many requests that wait for an operator into a store, for tests of a full line. They expire
 * in an hour. Usage: wait_many STORE LINE COUNT; no daemon may run on it. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "store/store.h"

struct part {
    uint32_t line_id;
    uint32_t count;
};

static enum err put_part(struct store_txn *txn, struct store_job *job)
{
    const struct part *part = job->extra;
    for (uint32_t i = 0; i < part->count; i++) {
        uint8_t key[1 + 4 + 4] = {PROTOCOL_CMP};
        struct transaction_record record = {.version = STORE_SCHEMA_VERSION,
                                            .protocol = PROTOCOL_CMP,
                                            .state = 1 | TRANSACTION_WAITS,
                                            .expiry_s = time(NULL) + 3600};
        store_be32(key + 1, part->line_id);
        store_be32(key + 5, i);
        enum err err =
            txn_transaction_put(txn, BYTES_ARRAY(key), &record, (struct bytes){0});
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

int main(int argc, char **argv)
{
    static struct store_job job;
    struct store_config config = {.dir = argc == 4 ? argv[1] : "", .map_size = 1ull << 30};
    struct store *store = NULL;
    char detail[256] = "";
    if (argc != 4 || store_open(&config, &store, detail) != ERR_OK) {
        fprintf(stderr, "usage: wait_many STORE LINE COUNT %s\n", detail);
        return 2;
    }
    struct part part = {.count = (uint32_t)strtoul(argv[3], NULL, 10)};
    enum err err = store_line_id(store, argv[2], &part.line_id);
    job.apply = put_part;
    job.extra = &part;
    if (err == ERR_OK)
        err = store_run(store, &job);
    store_close(store);
    if (err != ERR_OK)
        fprintf(stderr, "wait_many: %s\n", err_code(err));
    return err == ERR_OK ? 0 : 1;
}
