/* Puts so many revocations of an issuer into a store, for tests of large revocation lists.
 * Usage: revoke_many STORE ISSUER_ID COUNT; no daemon may run on it. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "store/store.h"

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
    struct store_config config = {.dir = argc == 4 ? argv[1] : "", .map_size = 1ull << 30};
    struct store *store = NULL;
    char detail[256] = "";
    if (argc != 4 || store_open(&config, &store, detail) != ERR_OK) {
        fprintf(stderr, "usage: revoke_many STORE ISSUER_ID COUNT %s\n", detail);
        return 2;
    }
    uint64_t count = strtoull(argv[3], NULL, 10);
    enum err err = ERR_OK;
    for (uint64_t at = 0; at < count && err == ERR_OK; at += PER_COMMIT) {
        struct part part = {(uint32_t)strtoul(argv[2], NULL, 10), at,
                            count - at < PER_COMMIT ? count - at : PER_COMMIT};
        job.apply = put_part;
        job.extra = &part;
        err = store_run(store, &job);
    }
    store_close(store);
    if (err != ERR_OK)
        fprintf(stderr, "revoke_many: %s\n", err_code(err));
    return err == ERR_OK ? 0 : 1;
}
