/* Puts so many revocations of an issuer into a store, for tests of large revocation lists.
 * Usage: revoke_many STORE ISSUER_ID COUNT; no daemon may run on it. */
#include <stdlib.h>
#include <time.h>

#include "test_store_tool.h"

enum { PER_COMMIT = 20000 };

struct part {
    uint32_t issuer_id;
    uint64_t first, count;
};

static enum err put_part(struct store_txn *txn, struct store_job *job)
{
    const struct part *part = job->extra;
    for (uint64_t i = part->first; i < part->first + part->count; i++) {
        struct revoked_record record = {
            .version = STORE_SCHEMA_VERSION, .reason = (uint8_t)(i % 7), .time_s = time(NULL)};
        uint8_t serial[SERIAL_LEN] = {1};
        store_be64(serial + 8, i);
        enum err err = txn_revoked_put(txn, part->issuer_id, BYTES_ARRAY(serial), &record);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

int main(int argc, char **argv)
{
    static struct store_job job;
    struct store *store = tool_store_open(argc, argv, 4, "revoke_many STORE ISSUER_ID COUNT");
    if (store == NULL)
        return 2;
    uint64_t count = strtoull(argv[3], NULL, 10);
    enum err err = ERR_OK;
    for (uint64_t at = 0; at < count && err == ERR_OK; at += PER_COMMIT) {
        struct part part = {(uint32_t)strtoul(argv[2], NULL, 10), at,
                            count - at < PER_COMMIT ? count - at : PER_COMMIT};
        job.apply = put_part;
        job.extra = &part;
        err = store_run(store, &job);
    }
    return tool_store_close(store, argv, err);
}
