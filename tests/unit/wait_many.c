/* Puts so many requests that wait for an operator into a store, for tests of a full line. They expire
 * in an hour. Usage: wait_many STORE LINE COUNT; no daemon may run on it. */
#include <stdlib.h>
#include <time.h>

#include "test_store_tool.h"

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
    struct store *store = tool_store_open(argc, argv, 4, "wait_many STORE LINE COUNT");
    if (store == NULL)
        return 2;
    struct part part = {.count = (uint32_t)strtoul(argv[3], NULL, 10)};
    enum err err = store_line_id(store, argv[2], &part.line_id);
    job.apply = put_part;
    job.extra = &part;
    if (err == ERR_OK)
        err = store_run(store, &job);
    return tool_store_close(store, argv, err);
}
