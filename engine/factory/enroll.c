#include "factory/enroll.h"

#include <assert.h>

static enum err issue_all(struct store_txn *txn, struct enroll_set *set)
{
    for (uint32_t i = 0; i < set->count; i++) {
        struct enrollment *item = &set->items[i];
        item->err = device_issue(txn, &item->facts, item->cert, NULL, &item->result);
        if (item->err != ERR_OK && err_class_of(item->err) != ERR_CLASS_REFUSAL)
            return item->err;
        set->as_foreseen &= item->err == ERR_OK && !item->result.repeat;
    }
    return ERR_OK;
}

static enum err put_record(struct store_txn *txn, const struct enroll_set *set, uint8_t protocol)
{
    for (uint32_t i = 0; i < set->count; i++)
        set->place(set->row->data, set->items[i].request, set->items[i].result.log);
    return transaction_put(txn, set->row, protocol);
}

enum err enroll_apply(struct store_txn *txn, struct store_job *job)
{
    const struct enroll_facts *facts = (const void *)job->facts;
    struct enroll_set *set = job->extra;
    assert(set->count >= 1 && set->count <= CMP_REQUESTS_PER_MESSAGE_MAX);
    set->row->kept = false;
    set->as_foreseen = false;
    enum err err = set->only_new ? transaction_look(txn, set->row) : ERR_OK;
    if (err != ERR_OK || set->row->kept)
        return err;
    set->as_foreseen = true;
    err = issue_all(txn, set);
    if (err == ERR_OK && set->as_foreseen)
        err = put_record(txn, set, facts->protocol);
    return err;
}
