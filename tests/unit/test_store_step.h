/* test_store_step.h: what a test does inside a transaction, and looks into the tables. */
#ifndef CERTMILL_TEST_STORE_STEP_H
#define CERTMILL_TEST_STORE_STEP_H

#include "store/internal.h"
#include "test_store_fixture.h"

/* Runs what a test wants to do inside a transaction. */
struct step {
    enum err (*fn)(struct store_txn *txn, void *ctx);
    void *ctx;
};

static inline enum err step_apply(struct store_txn *txn, struct store_job *job)
{
    const struct step *step = job->extra;
    return step->fn(txn, step->ctx);
}

static inline enum err run(struct fixture *fx, enum err (*fn)(struct store_txn *txn, void *ctx), void *ctx)
{
    struct step step = {fn, ctx};
    return fixture_run_extra(fx, step_apply, NULL, 0, (struct bytes){0}, &step)->err;
}

static inline void reopen(struct fixture *fx)
{
    fixture_close(fx);
    fixture_open(fx, 1);
}

static inline uint64_t entries(struct fixture *fx, enum db db)
{
    struct db_txn txn;
    assert_int_equal(db_begin(&fx->store->db, true, &txn), ERR_OK);
    uint64_t count = db_entries(&txn, db);
    db_abort(&txn);
    return count;
}

#endif
