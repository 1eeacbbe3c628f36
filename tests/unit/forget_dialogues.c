/* Deletes every dialogue on record, and nothing else: what a crash between a commit and that of its
 * record leaves. Usage: forget_dialogues STORE; no daemon may run on it. */
#include <stdio.h>

#include "store/store.h"

static enum err forget(struct store_txn *txn, struct store_job *job)
{
    uint8_t key[TRANSACTION_KEY_MAX];
    size_t key_len;
    struct transaction_record record;
    struct bytes data;
    enum err err = ERR_OK;
    (void)job;
    while (err == ERR_OK) {
        err = txn_transaction_next_expired(txn, INT64_MAX, key, &key_len, &record, &data);
        if (err == ERR_OK)
            err = txn_transaction_del(txn, bytes_of(key, key_len));
    }
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

int main(int argc, char **argv)
{
    static struct store_job job = {.apply = forget};
    struct store_config config = {.dir = argc == 2 ? argv[1] : "", .map_size = 1ull << 30};
    struct store *store = NULL;
    char detail[256] = "";
    if (argc != 2 || store_open(&config, &store, detail) != ERR_OK) {
        fprintf(stderr, "usage: forget_dialogues STORE %s\n", detail);
        return 2;
    }
    enum err err = store_run(store, &job);
    store_close(store);
    if (err != ERR_OK)
        fprintf(stderr, "forget_dialogues: %s\n", err_code(err));
    return err == ERR_OK ? 0 : 1;
}
