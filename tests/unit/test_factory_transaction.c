/* Are the rows of a message written all or none, does a second first message find the first, and is
 * what nobody finishes ended once? */
#include "test_factory_check.h"

/* Rows of these tests: 16 bytes of mark, then log numbers (u64) of what waits. */
static uint32_t waiting_of(struct bytes data, uint8_t state, uint64_t out_logs[], uint32_t max,
                           uint32_t *out_line_id)
{
    uint32_t count = 0;
    struct bytes mark, log;
    if (!bytes_get(&data, TRANSACTION_MARK_LEN, &mark))
        return 0;
    while (state == 1 && count < max && bytes_get(&data, sizeof(uint64_t), &log))
        memcpy(&out_logs[count++], log.ptr, sizeof(uint64_t));
    *out_line_id = mark.ptr[0];
    return count;
}

struct row {
    struct transaction_row row;
    uint8_t data[200];
};

static void row_of(struct row *out, const char *key, int64_t expiry_s, const char *mark,
                   uint8_t line_id, const uint64_t logs[], uint32_t count)
{
    *out = (struct row){.row = {.key_len = (uint8_t)strlen(key), .state = 1}};
    memcpy(out->row.key, key, strlen(key));
    struct writer data = writer_of(out->data, sizeof(out->data));
    writer_put_u8(&data, line_id);
    writer_put(&data, bytes_of(mark, 15));
    if (count != 0)
        writer_put(&data, bytes_of(logs, count * sizeof(*logs)));
    out->row.expiry_s = expiry_s;
    out->row.data = writer_view(&data);
}

static enum err put_rows(struct fixture *fx, struct transaction_row rows[], uint32_t count,
                         bool only_new)
{
    struct transaction_set set = {rows, count, PROTOCOL_CMP, only_new};
    const struct store_job *job =
        fixture_run_extra(fx, transactions_apply, NULL, 0, (struct bytes){0}, &set);
    assert_int_equal(commit_token_is_valid(fx->store, job->token), job->err == ERR_OK);
    check_whole(fx);
    return job->err;
}

/* The row in the store; false: none. */
static bool stored(struct fixture *fx, const char *key, struct transaction_record *out,
                   uint8_t out_data[200])
{
    struct bytes data;
    struct store_reader *reader = fixture_reader(fx);
    enum err err = reader_transaction(reader, bytes_of_str(key), out, &data);
    if (err == ERR_OK)
        memcpy(out_data, data.ptr, data.len);
    fixture_reader_done(reader);
    return err == ERR_OK;
}

static struct sweep_set sweep(struct fixture *fx, int64_t now_s, uint32_t max)
{
    struct sweep_facts facts = {now_s, max};
    struct sweep_set set = {.pending = waiting_of, .done = 99, .rejected = 99};
    const struct store_job *job =
        fixture_run_extra(fx, sweep_apply, &facts, sizeof(facts), (struct bytes){0}, &set);
    assert_int_equal(job->err, ERR_OK);
    check_whole(fx);
    return set;
}

static int64_t in(int64_t seconds)
{
    return (int64_t)(clock_wall_ns() / NS_PER_S) + seconds;
}

#define MARK_1 "nonce-nonce-001"
#define MARK_2 "nonce-nonce-002"

/* --- rows --- */

static void all_rows_are_written(void **state)
{
    struct fixture *fx = *state;
    struct row a, b;
    row_of(&a, "tid-a", in(100), MARK_1, 1, NULL, 0);
    row_of(&b, "tid-b", in(100), MARK_1, 1, NULL, 0);
    b.row.state = 7;
    struct transaction_row rows[] = {a.row, b.row};
    struct transaction_record record;
    uint8_t data[200];
    assert_int_equal(put_rows(fx, rows, 2, true), ERR_OK);
    assert_false(rows[0].kept || rows[1].kept);
    fixture_close(fx);
    fixture_open(fx, 1);
    assert_true(stored(fx, "tid-a", &record, data));
    assert_int_equal(record.protocol, PROTOCOL_CMP);
    assert_int_equal(record.state, 1);
    assert_true(stored(fx, "tid-b", &record, data));
    assert_int_equal(record.state, 7);
    assert_int_equal(record.expiry_s, b.row.expiry_s);
    assert_memory_equal(data, b.data, b.row.data.len);
    /* later messages of a transaction write over it, whatever is there */
    row_of(&b, "tid-b", in(50), MARK_2, 1, NULL, 0);
    assert_int_equal(put_rows(fx, &b.row, 1, false), ERR_OK);
    assert_true(stored(fx, "tid-b", &record, data));
    assert_int_equal(record.expiry_s, b.row.expiry_s);
    assert_int_equal(put_rows(fx, NULL, 0, true), ERR_OK);
}

static void a_used_id_stops_the_whole_set(void **state)
{
    struct fixture *fx = *state;
    struct row used, fresh, other;
    struct transaction_record record;
    uint8_t data[200];
    row_of(&used, "tid-a", in(100), MARK_1, 1, NULL, 0);
    assert_int_equal(put_rows(fx, &used.row, 1, true), ERR_OK);
    row_of(&fresh, "tid-b", in(100), MARK_2, 1, NULL, 0);
    row_of(&other, "tid-a", in(100), MARK_2, 1, NULL, 0);
    struct transaction_row rows[] = {fresh.row, other.row};
    assert_int_equal(put_rows(fx, rows, 2, true), ERR_TRANSACTION_IN_USE);
    assert_false(stored(fx, "tid-b", &record, data));
    assert_true(stored(fx, "tid-a", &record, data));
    assert_memory_equal(data, used.data, used.row.data.len);
    /* one that has expired is still in use until it is swept: it says what to reject */
    row_of(&used, "tid-a", in(-1), MARK_1, 1, NULL, 0);
    assert_int_equal(put_rows(fx, &used.row, 1, false), ERR_OK);
    assert_int_equal(put_rows(fx, rows, 2, true), ERR_TRANSACTION_IN_USE);
    assert_int_equal(sweep(fx, in(0), 10).done, 1);
    assert_int_equal(put_rows(fx, rows, 2, true), ERR_OK);
    /* shorter than a mark: another one */
    struct transaction_row brief = rows[0];
    brief.data.len = 3;
    assert_int_equal(put_rows(fx, &brief, 1, true), ERR_TRANSACTION_IN_USE);
    brief.data.len = 0;
    assert_int_equal(put_rows(fx, &brief, 1, true), ERR_TRANSACTION_IN_USE);
}

static void the_same_request_again_finds_its_answer(void **state)
{
    struct fixture *fx = *state;
    struct row first, again, fresh;
    struct transaction_record record;
    uint8_t data[200];
    const uint64_t one = 1, two = 2;
    row_of(&first, "tid-a", in(100), MARK_1, 1, &one, 1);
    row_of(&again, "tid-a", in(200), MARK_1, 1, &two, 1);
    row_of(&fresh, "tid-b", in(200), MARK_1, 1, &two, 1);
    assert_int_equal(put_rows(fx, &first.row, 1, true), ERR_OK);
    struct transaction_row rows[] = {again.row, fresh.row};
    assert_int_equal(put_rows(fx, rows, 2, true), ERR_OK);
    assert_true(rows[0].kept);
    assert_false(rows[1].kept);
    assert_true(stored(fx, "tid-a", &record, data));
    assert_int_equal(record.expiry_s, first.row.expiry_s);
    assert_memory_equal(data, first.data, first.row.data.len);
    assert_true(stored(fx, "tid-b", &record, data));
    /* expired: done anew */
    first.row.expiry_s = in(-1);
    assert_int_equal(put_rows(fx, &first.row, 1, false), ERR_OK);
    assert_int_equal(put_rows(fx, rows, 1, true), ERR_OK);
    assert_false(rows[0].kept);
    assert_true(stored(fx, "tid-a", &record, data));
    assert_int_equal(record.expiry_s, again.row.expiry_s);
}

/* Two cores with the same id at once: in one transaction of the store or in two, one comes first.
 */
static void of_two_at_once_one_comes_first(void **state)
{
    struct fixture *fx = *state;
    for (int round = 0; round < 50; round++) {
        char key[16];
        struct row rows[2];
        struct transaction_set sets[2];
        snprintf(key, sizeof(key), "tid-%d", round);
        for (int i = 0; i < 2; i++) {
            row_of(&rows[i], key, in(100), i == 0 ? MARK_1 : MARK_2, 1, NULL, 0);
            sets[i] = (struct transaction_set){&rows[i].row, 1, PROTOCOL_CMP, true};
            fixture_stage_extra(fx, 0, transactions_apply, NULL, 0, (struct bytes){0}, &sets[i])
                ->tag = (uint64_t)i;
            if (round % 2 == 0)
                store_kick(fx->store, 0);
        }
        store_kick(fx->store, 0);
        int good = 0, in_use = 0;
        for (int i = 0; i < 2; i++) {
            struct store_job *job = fixture_wait(fx, 0);
            good += job->err == ERR_OK;
            in_use += job->err == ERR_TRANSACTION_IN_USE;
            store_job_release(fx->store, 0, job);
        }
        assert_int_equal(good, 1);
        assert_int_equal(in_use, 1);
    }
}

/* --- the sweep --- */

static void issue(struct fixture *fx, const char *device_id, enum issue_kind kind,
                  uint64_t current_log, uint64_t key, bool pending)
{
    struct issue_facts facts = fixture_facts(fx, fx->line_a, device_id, key);
    facts.kind = (uint8_t)kind;
    facts.current_log = current_log;
    facts.pending = pending;
    assert_int_equal(fixture_issue(fx, &facts)->err, ERR_OK);
}

static void what_nobody_confirmed_is_revoked(void **state)
{
    struct fixture *fx = *state;
    struct row one, two, later;
    issue(fx, "dev-1", ISSUE_NEW, 0, 1, false);
    issue(fx, "dev-1", ISSUE_RENEWAL, 1, 2, true);
    issue(fx, "dev-2", ISSUE_NEW, 0, 3, true);
    issue(fx, "dev-3", ISSUE_NEW, 0, 4, true);
    uint8_t line = (uint8_t)fx->line_a;
    row_of(&one, "tid-1", 1000, MARK_1, line, (uint64_t[]){2, 3}, 2);
    row_of(&two, "tid-2", 1001, MARK_1, line, NULL, 0);
    row_of(&later, "tid-3", 1002, MARK_1, line, (uint64_t[]){4}, 1);
    struct transaction_row rows[] = {one.row, two.row, later.row};
    assert_int_equal(put_rows(fx, rows, 3, true), ERR_OK);
    struct sweep_set set = sweep(fx, 999, 10);
    assert_int_equal(set.done, 0);
    assert_false(set.more);
    set = sweep(fx, 1001, 10);
    assert_int_equal(set.done, 2);
    assert_int_equal(set.rejected, 2);
    assert_false(set.more);
    assert_int_equal(fixture_cert_record(fx, 2).status, CERT_REVOKED);
    assert_int_equal(fixture_device(fx, fx->line_a, "dev-1").cert_log, 1);
    assert_int_equal(fixture_device(fx, fx->line_a, "dev-2").cert_log, 0);
    struct last_record last = fixture_last(fx);
    assert_int_equal(last.record.kind, JOURNAL_REVOKED);
    assert_int_equal(last.record.protocol, PROTOCOL_CMP);
    assert_int_equal(last.record.cert_log, 3);
    assert_string_equal(last.what, "dev-2");
    assert_string_equal(last.text, "reason=unspecified confirm-time-passed");
    /* the row is gone with it, and the rest waits for its time */
    assert_int_equal(sweep(fx, 1001, 10).done, 0);
    assert_int_equal(fixture_pending(fx, "dev-3"), 4);
}

static void what_was_settled_is_left_alone(void **state)
{
    struct fixture *fx = *state;
    struct row row;
    for (uint64_t i = 1; i <= 4; i++) {
        char id[16];
        snprintf(id, sizeof(id), "dev-%d", (int)i);
        issue(fx, id, ISSUE_NEW, 0, i, i != 4);
    }
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_OK);
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 2, REASON_KEY_COMPROMISE), ERR_OK);
    /* 3 is of another line as this row has it, 4 never waited, 99 is not there */
    row_of(&row, "tid-1", 1000, MARK_1, (uint8_t)fx->line_b, (uint64_t[]){3}, 1);
    assert_int_equal(put_rows(fx, &row.row, 1, true), ERR_OK);
    row_of(&row, "tid-2", 1000, MARK_1, (uint8_t)fx->line_a, (uint64_t[]){1, 2, 4, 99}, 4);
    assert_int_equal(put_rows(fx, &row.row, 1, true), ERR_OK);
    uint64_t before = fixture_verify(fx);
    struct sweep_set set = sweep(fx, 1000, 10);
    assert_int_equal(set.done, 2);
    assert_int_equal(set.rejected, 0);
    assert_int_equal(fixture_verify(fx), before); /* without a word */
    assert_int_equal(fixture_cert_record(fx, 1).status, CERT_VALID);
    assert_int_equal(fixture_cert_record(fx, 3).status, CERT_VALID);
    assert_int_equal(fixture_cert_record(fx, 4).status, CERT_VALID);
}

static void a_sweep_is_bounded(void **state)
{
    struct fixture *fx = *state;
    for (int i = 0; i < 25; i++) {
        struct row row;
        char key[16];
        snprintf(key, sizeof(key), "tid-%d", i);
        row_of(&row, key, 1000 + i, MARK_1, 1, NULL, 0);
        assert_int_equal(put_rows(fx, &row.row, 1, true), ERR_OK);
    }
    struct sweep_set set = sweep(fx, 2000, 10);
    assert_int_equal(set.done, 10);
    assert_true(set.more);
    set = sweep(fx, 2000, 15);
    assert_int_equal(set.done, 15);
    assert_false(set.more);
    set = sweep(fx, 2000, 0);
    assert_false(set.more);
}

/* A row that names as many certificates as a message can have. */
static uint32_t very_many(struct bytes data, uint8_t state, uint64_t out_logs[], uint32_t max,
                          uint32_t *out_line_id)
{
    (void)data;
    (void)state;
    for (uint32_t i = 0; i < max; i++)
        out_logs[i] = 1000000 + i;
    *out_line_id = 0;
    return max;
}

static void certificates_count_too(void **state)
{
    struct fixture *fx = *state;
    struct row rows[3];
    for (int i = 0; i < 3; i++) {
        char key[2] = {(char)('a' + i)};
        row_of(&rows[i], key, 1000, MARK_1, 1, NULL, 0);
        assert_int_equal(put_rows(fx, &rows[i].row, 1, true), ERR_OK);
    }
    struct sweep_facts facts = {2000, 10};
    struct sweep_set set = {.pending = very_many};
    assert_int_equal(
        fixture_run_extra(fx, sweep_apply, &facts, sizeof(facts), (struct bytes){0}, &set)->err,
        ERR_OK);
    assert_int_equal(set.done, 1);
    assert_true(set.more);
}

/* A damaged row stops the sweep but takes nothing else with it. */
static enum err damage_apply(struct store_txn *txn, struct store_job *job)
{
    static const uint8_t second[8] = {0, 0, 0, 0, 0, 0, 0, 2};
    (void)job;
    return db_put(&txn->db, DB_TRANSACTIONS, BYTES_ARRAY(second), BYTES_LIT("x"), DB_PUT_ANY);
}

static void a_damaged_row(void **state)
{
    struct fixture *fx = *state;
    struct row good, bad;
    row_of(&good, "good", 1000, MARK_1, 1, NULL, 0);
    row_of(&bad, "bad", 1001, MARK_1, 1, NULL, 0);
    assert_int_equal(put_rows(fx, &good.row, 1, true), ERR_OK);
    assert_int_equal(put_rows(fx, &bad.row, 1, true), ERR_OK);
    assert_int_equal(fixture_run(fx, damage_apply, NULL, 0, (struct bytes){0})->err, ERR_OK);
    struct sweep_facts facts = {2000, 10};
    struct sweep_set set = {.pending = waiting_of};
    for (int i = 0; i < 2; i++) {
        const struct store_job *job =
            fixture_run_extra(fx, sweep_apply, &facts, sizeof(facts), (struct bytes){0}, &set);
        assert_int_equal(job->err, i == 0 ? ERR_OK : ERR_INTERNAL);
        assert_int_equal(set.done, i == 0 ? 1 : 0);
    }
    /* nor does a first message with that id pass for a new one */
    struct transaction_set again = {&bad.row, 1, PROTOCOL_CMP, true};
    assert_int_equal(
        fixture_run_extra(fx, transactions_apply, NULL, 0, (struct bytes){0}, &again)->err,
        ERR_INTERNAL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_rows_are_written),
        TEST(a_used_id_stops_the_whole_set),
        TEST(the_same_request_again_finds_its_answer),
        TEST(of_two_at_once_one_comes_first),
        TEST(what_nobody_confirmed_is_revoked),
        TEST(what_was_settled_is_left_alone),
        TEST(a_sweep_is_bounded),
        TEST(certificates_count_too),
        TEST(a_damaged_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
