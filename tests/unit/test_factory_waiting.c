/* Do as many requests wait for an operator as may, and is the number right whatever becomes of them? */
#include "test_factory_check.h"

enum { WAITS = 1 | TRANSACTION_WAITS, WAITED_UNCOUNTED = 1, DONE = 3 };
static const int64_t expiry_s = 4000000000;

static uint32_t none_pending(struct bytes data, uint8_t state, uint64_t out_logs[], uint32_t max,
                             uint32_t *out_line_id)
{
    (void)data, (void)state, (void)out_logs, (void)max;
    *out_line_id = 0;
    return 0;
}

/* The rows numbered from..to-1 of a line, as RECORD puts them; by one job. */
static enum err put(struct fixture *fx, uint32_t line_id, uint32_t from, uint32_t to,
                    uint8_t row_state, bool only_new)
{
    static const uint8_t mark[TRANSACTION_MARK_LEN] = "the same nonce.";
    static struct transaction_row rows[TRANSACTION_ROWS_MAX];
    assert_true(to - from <= TRANSACTION_ROWS_MAX);
    for (uint32_t i = from; i < to; i++) {
        struct transaction_row *row = &rows[i - from];
        *row = (struct transaction_row){
            .key_len = 9, .state = row_state, .expiry_s = expiry_s, .data = BYTES_ARRAY(mark)};
        row->key[0] = PROTOCOL_CMP;
        store_be32(row->key + 1, line_id);
        store_be32(row->key + 5, i);
    }
    struct transaction_set set = {rows, to - from, PROTOCOL_CMP, only_new};
    return fixture_run_extra(fx, transactions_apply, NULL, 0, (struct bytes){0}, &set)->err;
}

static enum err ask(struct fixture *fx, uint32_t from, uint32_t to)
{
    return put(fx, fx->line_a, from, to, WAITS, true);
}

/* A later message of the same dialogues. */
static void go_on(struct fixture *fx, uint32_t from, uint32_t to, uint8_t row_state)
{
    assert_int_equal(put(fx, fx->line_a, from, to, row_state, false), ERR_OK);
}

static uint32_t waiting(struct fixture *fx)
{
    struct line_record line;
    struct store_reader *reader = fixture_reader(fx);
    assert_int_equal(reader_line(reader, "line-a", &line), ERR_OK);
    fixture_reader_done(reader);
    check_whole(fx); /* compares it with the rows, and that line-b has none */
    return line.waiting;
}

static void as_many_wait_as_may(void **state)
{
    struct fixture *fx = *state;
    uint32_t count = 0;
    while (count + 1000 <= WAITING_PER_LINE_MAX) {
        assert_int_equal(ask(fx, count, count + 1000), ERR_OK);
        count += 1000;
    }
    assert_int_equal(ask(fx, count, WAITING_PER_LINE_MAX), ERR_OK);
    count = WAITING_PER_LINE_MAX;
    assert_int_equal(waiting(fx), count);
    assert_int_equal(ask(fx, count, count + 1), ERR_WAITING_FULL);
    fixture_close(fx);
    fixture_open(fx, 1);
    assert_int_equal(ask(fx, count, count + 1), ERR_WAITING_FULL);
    assert_int_equal(waiting(fx), count);
    /* who waits polls; who asked before asks again; what does not wait comes and goes */
    go_on(fx, 0, 10, WAITS);
    assert_int_equal(ask(fx, 5, 6), ERR_OK);
    assert_int_equal(put(fx, fx->line_a, count, count + 1, DONE, true), ERR_OK);
    assert_int_equal(waiting(fx), count);
    /* two go on, so two more may come, and not three: all of a message or none */
    go_on(fx, 3, 5, DONE);
    assert_int_equal(ask(fx, count + 1, count + 4), ERR_WAITING_FULL);
    assert_int_equal(waiting(fx), count - 2);
    assert_int_equal(ask(fx, count + 1, count + 3), ERR_OK);
    assert_int_equal(waiting(fx), count);
}

static void a_full_line_is_its_own_affair(void **state)
{
    struct fixture *fx = *state;
    for (uint32_t at = 0; at < WAITING_PER_LINE_MAX; at += 1000)
        assert_int_equal(ask(fx, at, at + 1000), ERR_OK);
    assert_int_equal(ask(fx, WAITING_PER_LINE_MAX, WAITING_PER_LINE_MAX + 1), ERR_WAITING_FULL);
    assert_int_equal(put(fx, fx->line_b, 0, 1, WAITS, true), ERR_OK);
}
_Static_assert(WAITING_PER_LINE_MAX % 1000 == 0, "full by thousands");

static void every_end_is_counted(void **state)
{
    struct fixture *fx = *state;
    assert_int_equal(ask(fx, 0, 6), ERR_OK);
    assert_int_equal(waiting(fx), 6);
    go_on(fx, 0, 1, WAITS); /* polls */
    go_on(fx, 1, 2, DONE);  /* the line goes on, or the client gives up */
    assert_int_equal(waiting(fx), 5);
    go_on(fx, 1, 2, DONE);
    assert_int_equal(waiting(fx), 5);
    struct sweep_facts facts = {expiry_s, 3};
    struct sweep_set set = {.pending = none_pending};
    assert_int_equal(
        fixture_run_extra(fx, sweep_apply, &facts, sizeof(facts), (struct bytes){0}, &set)->err,
        ERR_OK);
    assert_int_equal(set.done, 3);
    assert_int_equal(waiting(fx), 3);
    fixture_close(fx);
    fixture_open(fx, 1);
    assert_int_equal(
        fixture_run_extra(fx, sweep_apply, &facts, sizeof(facts), (struct bytes){0}, &set)->err,
        ERR_OK);
    assert_int_equal(waiting(fx), 0);
}

/* A job that is undone counts nothing. */
static enum err put_and_fail(struct store_txn *txn, struct store_job *job)
{
    enum err err = transactions_apply(txn, job);
    return err == ERR_OK ? ERR_STORE_FAILED : err;
}

static void what_is_undone_is_not_counted(void **state)
{
    struct fixture *fx = *state;
    uint8_t mark[TRANSACTION_MARK_LEN] = {1};
    struct transaction_row row = {
        .key_len = 9, .state = WAITS, .expiry_s = expiry_s, .data = BYTES_ARRAY(mark)};
    row.key[0] = PROTOCOL_CMP;
    store_be32(row.key + 1, fx->line_a);
    struct transaction_set set = {&row, 1, PROTOCOL_CMP, true};
    assert_int_equal(ask(fx, 1, 2), ERR_OK);
    assert_int_equal(
        fixture_run_extra(fx, put_and_fail, NULL, 0, (struct bytes){0}, &set)->err,
        ERR_STORE_FAILED);
    assert_int_equal(waiting(fx), 1);
}

static void what_waited_uncounted_is_left_so(void **state)
{
    struct fixture *fx = *state;
    struct transaction_record record;
    struct bytes data;
    uint8_t key[9] = {PROTOCOL_CMP};
    assert_int_equal(put(fx, fx->line_a, 0, 1, WAITED_UNCOUNTED, true), ERR_OK);
    assert_int_equal(ask(fx, 1, 2), ERR_OK);
    go_on(fx, 0, 1, WAITS);
    assert_int_equal(waiting(fx), 1);
    store_be32(key + 1, fx->line_a);
    struct store_reader *reader = fixture_reader(fx);
    assert_int_equal(reader_transaction(reader, BYTES_ARRAY(key), &record, &data), ERR_OK);
    assert_int_equal(record.state, WAITED_UNCOUNTED);
    fixture_reader_done(reader);
    go_on(fx, 0, 1, DONE);
    assert_int_equal(waiting(fx), 1);
}

static void a_row_of_no_line_cannot_wait(void **state)
{
    struct fixture *fx = *state;
    assert_int_equal(put(fx, 77, 0, 1, WAITS, true), ERR_INTERNAL);
    assert_int_equal(put(fx, 77, 0, 1, DONE, true), ERR_OK);
    assert_int_equal(waiting(fx), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(as_many_wait_as_may),
        TEST(a_full_line_is_its_own_affair),
        TEST(every_end_is_counted),
        TEST(what_is_undone_is_not_counted),
        TEST(what_waited_uncounted_is_left_so),
        TEST(a_row_of_no_line_cannot_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
