/* Deletes every dialogue on record, and nothing else: what a crash between a commit and that of its
 * record leaves. Usage: forget_dialogues STORE; no daemon may run on it. */
#include "test_store_tool.h"

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
    struct store *store = tool_store_open(argc, argv, 2, "forget_dialogues STORE");
    if (store == NULL)
        return 2;
    enum err err = store_run(store, &job);
    return tool_store_close(store, argv, err);
}
