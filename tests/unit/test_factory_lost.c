/* Is a certificate that waits without a dialogue on record taken back in time, and none whose dialogue
 * is still alive? */
#include "test_factory_check.h"

enum { WAIT_S = 300, END_S = 2 * WAIT_S + CMP_CONFIRM_MARGIN_S };
static const int64_t asked_s = 2000000000; /* by the clock of these tests */

static uint32_t waiting_of(struct bytes data, uint8_t state, uint64_t out_logs[], uint32_t max,
                           uint32_t *out_line_id)
{
    (void)state;
    assert_true(max >= 1 && data.len == TRANSACTION_MARK_LEN + sizeof(uint64_t));
    memcpy(out_logs, data.ptr + TRANSACTION_MARK_LEN, sizeof(uint64_t));
    *out_line_id = 0;
    return 1;
}

static enum err sweep(struct fixture *fx, struct sweep_set *set, int64_t now_s)
{
    struct sweep_facts facts = {now_s, 100};
    set->pending = waiting_of;
    const struct store_job *job =
        fixture_run_extra(fx, sweep_apply, &facts, sizeof(facts), (struct bytes){0}, set);
    return job->err;
}

/* One sweep from the beginning. */
static uint32_t rejected(struct fixture *fx, int64_t now_s)
{
    struct sweep_set set = {0};
    assert_int_equal(sweep(fx, &set, now_s), ERR_OK);
    check_whole(fx);
    return set.rejected;
}

static struct issue_facts facts_of(struct fixture *fx, const char *device, uint64_t key,
                                   int64_t at_s)
{
    struct issue_facts facts = fixture_facts(fx, fx->line_a, device, key);
    facts.protocol = PROTOCOL_CMP;
    facts.pending = 1;
    facts.confirm_wait_s = WAIT_S;
    facts.asked_s = at_s;
    return facts;
}

static enum admit admit(struct fixture *fx, const struct issue_facts *facts)
{
    struct store_reader *reader = fixture_reader(fx);
    struct cert_view cert;
    enum err refusal;
    enum admit admit = device_admit(reader, facts, &cert, &refusal);
    fixture_reader_done(reader);
    return admit;
}

static void ask(struct fixture *fx, const char *device, uint64_t key, int64_t at_s)
{
    struct issue_facts facts = facts_of(fx, device, key, at_s);
    assert_int_equal(fixture_issue(fx, &facts)->err, ERR_OK);
}

static void record_set(struct fixture *fx, const char *key, uint64_t log, int64_t expiry_s,
                       transaction_pending *pending)
{
    uint8_t data[TRANSACTION_MARK_LEN + sizeof(log)] = {1};
    memcpy(data + TRANSACTION_MARK_LEN, &log, sizeof(log));
    struct transaction_row row = {.key_len = (uint8_t)strlen(key),
                                  .state = 2,
                                  .expiry_s = expiry_s,
                                  .data = BYTES_ARRAY(data)};
    memcpy(row.key, key, strlen(key));
    struct transaction_set set = {&row, 1, PROTOCOL_CMP, true, pending};
    assert_int_equal(
        fixture_run_extra(fx, transactions_apply, NULL, 0, (struct bytes){0}, &set)->err, ERR_OK);
}

/* The dialogue of a request that got a new certificate, as RECORD keeps it. */
static void record(struct fixture *fx, const char *key, uint64_t log, int64_t expiry_s)
{
    record_set(fx, key, log, expiry_s, NULL);
}

/* Of one that got a certificate that waited already. */
static void record_again(struct fixture *fx, const char *key, uint64_t log, int64_t expiry_s)
{
    record_set(fx, key, log, expiry_s, waiting_of);
}

static enum cert_status status(struct fixture *fx, uint64_t log)
{
    return (enum cert_status)fixture_cert_record(fx, log).status;
}

static void what_has_no_dialogue_is_taken_back(void **state)
{
    struct fixture *fx = *state;
    ask(fx, "dev-1", 1, asked_s);
    fixture_close(fx);
    fixture_open(fx, 1);
    assert_int_equal(rejected(fx, asked_s + END_S - 1), 0);
    assert_int_equal(fixture_pending(fx, "dev-1"), 1);
    assert_int_equal(rejected(fx, asked_s + END_S), 1);
    struct last_record last = fixture_last(fx);
    assert_int_equal(last.record.kind, JOURNAL_REVOKED);
    assert_int_equal(last.record.cert_log, 1);
    assert_string_equal(last.text, "reason=unspecified confirm-time-passed");
    assert_int_equal(fixture_pending(fx, "dev-1"), 0);
    assert_int_equal(fixture_device(fx, fx->line_a, "dev-1").cert_log, 0);
    assert_int_equal(rejected(fx, asked_s + END_S), 0);
    ask(fx, "dev-1", 2, asked_s);
}

static void what_was_confirmed_stays(void **state)
{
    struct fixture *fx = *state;
    ask(fx, "dev-1", 1, asked_s);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_OK);
    assert_int_equal(rejected(fx, asked_s + END_S), 0);
    assert_int_equal(status(fx, 1), CERT_VALID);
}

/* Whoever asks again has a dialogue of their own, which may begin at any time. */
static void a_dialogue_that_lives_keeps_it(void **state)
{
    struct fixture *fx = *state;
    ask(fx, "dev-1", 1, asked_s);
    /* within the first wait: given without a write, and over before the end */
    struct issue_facts again = facts_of(fx, "dev-1", 1, asked_s + WAIT_S);
    assert_int_equal(admit(fx, &again), ADMIT_REPEAT);
    assert_true(again.asked_s + WAIT_S < asked_s + END_S);
    /* later: it has to be written how long that lasts */
    again.asked_s++;
    assert_int_equal(admit(fx, &again), ADMIT_ISSUE);
    int64_t late_s = asked_s + END_S - 1;
    again = facts_of(fx, "dev-1", 1, late_s);
    assert_int_equal(admit(fx, &again), ADMIT_ISSUE);
    const struct store_job *job = fixture_issue(fx, &again);
    assert_int_equal(job->err, ERR_OK);
    assert_true(device_apply_was_repeat(job));
    assert_int_equal(device_apply_log(job), 1);
    assert_int_equal(admit(fx, &again), ADMIT_REPEAT);
    record(fx, "again", 1, late_s + WAIT_S);
    assert_int_equal(rejected(fx, asked_s + END_S), 0);
    assert_int_equal(rejected(fx, late_s + WAIT_S - 1), 0);
    assert_int_equal(status(fx, 1), CERT_VALID);
    assert_int_equal(rejected(fx, late_s + WAIT_S), 1);
    assert_int_equal(status(fx, 1), CERT_REVOKED);
}

/* Its first dialogue ends while others live: none of them takes it back but the last. */
static void the_last_dialogue_ends_it(void **state)
{
    struct fixture *fx = *state;
    ask(fx, "dev-1", 1, asked_s);
    record(fx, "first", 1, asked_s + WAIT_S);
    record_again(fx, "third", 1, asked_s + 2 * WAIT_S - 1);
    record_again(fx, "second", 1, asked_s + WAIT_S + 10);
    ask(fx, "dev-2", 2, asked_s);
    record(fx, "other", 2, asked_s + WAIT_S);
    assert_int_equal(rejected(fx, asked_s + WAIT_S), 1);
    assert_int_equal(status(fx, 2), CERT_REVOKED);
    assert_int_equal(fixture_pending(fx, "dev-1"), 1);
    fixture_close(fx);
    fixture_open(fx, 1);
    assert_int_equal(rejected(fx, asked_s + WAIT_S + 10), 0);
    assert_int_equal(status(fx, 1), CERT_VALID);
    assert_int_equal(rejected(fx, asked_s + 2 * WAIT_S - 1), 1);
    assert_int_equal(status(fx, 1), CERT_REVOKED);
    assert_int_equal(fixture_pending(fx, "dev-1"), 0);
}

/* What is written anew for a late one keeps what is known of those before. */
static void a_late_dialogue_keeps_the_others(void **state)
{
    struct fixture *fx = *state;
    int64_t late_s = asked_s + END_S - 1, last_s = asked_s + 10 * WAIT_S;
    ask(fx, "dev-1", 1, asked_s);
    record_again(fx, "again", 1, last_s);
    ask(fx, "dev-1", 1, late_s);
    record(fx, "late", 1, late_s + WAIT_S);
    assert_int_equal(rejected(fx, late_s + WAIT_S), 0);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_OK);
    assert_int_equal(rejected(fx, last_s), 0);
    assert_int_equal(status(fx, 1), CERT_VALID);
}

/* A dialogue that ends says nothing of what the device got since. */
static void a_dialogue_prolongs_its_own_alone(void **state)
{
    struct fixture *fx = *state;
    ask(fx, "dev-1", 1, asked_s);
    struct issue_facts renewal = facts_of(fx, "dev-1", 2, asked_s);
    renewal.kind = ISSUE_RENEWAL;
    renewal.current_log = 1;
    assert_int_equal(fixture_issue(fx, &renewal)->err, ERR_OK);
    assert_int_equal(fixture_pending(fx, "dev-1"), 2);
    record_again(fx, "again", 1, asked_s + 10 * WAIT_S);
    record_again(fx, "nothing", 99, asked_s + 10 * WAIT_S);
    record(fx, "first", 2, asked_s + WAIT_S);
    assert_int_equal(rejected(fx, asked_s + WAIT_S), 1);
    assert_int_equal(status(fx, 2), CERT_REVOKED);
}

/* On a line whose wait was shortened in the meantime. */
static void a_shorter_wait_takes_nothing_back_early(void **state)
{
    struct fixture *fx = *state;
    ask(fx, "dev-1", 1, asked_s);
    struct issue_facts again = facts_of(fx, "dev-1", 1, asked_s + 1);
    again.confirm_wait_s = 1;
    assert_int_equal(fixture_issue(fx, &again)->err, ERR_OK);
    assert_int_equal(rejected(fx, asked_s + END_S - 1), 0);
    /* or made longer */
    again.confirm_wait_s = 10 * WAIT_S;
    assert_int_equal(admit(fx, &again), ADMIT_ISSUE);
    assert_int_equal(fixture_issue(fx, &again)->err, ERR_OK);
    assert_int_equal(rejected(fx, asked_s + 10 * WAIT_S), 0);
}

static void a_sweep_is_bounded_and_the_next_goes_on(void **state)
{
    struct fixture *fx = *state;
    enum { COUNT = SWEEP_PENDING_MAX + 10 };
    for (uint64_t i = 1; i <= COUNT; i++) {
        char id[16];
        snprintf(id, sizeof(id), "dev-%04d", (int)i);
        ask(fx, id, i, asked_s + (i == COUNT ? 0 : WAIT_S)); /* the last one has expired */
    }
    struct sweep_set set = {0};
    assert_int_equal(sweep(fx, &set, asked_s + END_S), ERR_OK);
    assert_int_equal(set.rejected, 0);
    assert_true(set.at.key_len != 0);
    assert_false(set.more);
    assert_int_equal(sweep(fx, &set, asked_s + END_S), ERR_OK);
    assert_int_equal(set.rejected, 1);
    assert_int_equal(set.at.key_len, 0); /* and from the beginning again */
    assert_int_equal(status(fx, COUNT), CERT_REVOKED);
    assert_int_equal(sweep(fx, &set, asked_s + END_S + WAIT_S), ERR_OK);
    assert_int_equal(set.rejected, SWEEP_PENDING_MAX);
    assert_int_equal(sweep(fx, &set, asked_s + END_S + WAIT_S), ERR_OK);
    assert_int_equal(set.rejected, COUNT - 1 - SWEEP_PENDING_MAX);
    check_whole(fx);
}

/* Rows as they were before there was a time in them. */
static void put_raw(struct fixture *fx, const char *device, const void *value, size_t len)
{
    struct store_txn *txn;
    struct commit_token token;
    struct store_key key = store_key_of(fx->line_a, bytes_of_str(device));
    assert_int_equal(store_txn_begin(fx->store, &txn), ERR_OK);
    assert_int_equal(
        db_put(&txn->db, DB_PENDING, store_key_view(&key), bytes_of(value, len), DB_PUT_ANY),
        ERR_OK);
    assert_int_equal(store_txn_commit(txn, &token), ERR_OK);
}

static void rows_of_an_earlier_version(void **state)
{
    struct fixture *fx = *state;
    const uint64_t log = 1;
    ask(fx, "dev-1", 1, asked_s);
    put_raw(fx, "dev-1", &log, sizeof(log));
    int64_t issued_s = fixture_cert_record(fx, 1).issued_s;
    int64_t end_s = issued_s + 2 * CMP_CONFIRM_WAIT_MAX_S + CMP_CONFIRM_MARGIN_S;
    assert_int_equal(fixture_pending(fx, "dev-1"), 1);
    const struct {
        uint64_t log;
        int64_t until_s;
    } later = {1, end_s}; /* as it was next */
    put_raw(fx, "dev-1", &later, sizeof(later));
    assert_int_equal(fixture_pending(fx, "dev-1"), 1);
    assert_int_equal(rejected(fx, end_s - 1), 0);
    put_raw(fx, "dev-1", &log, sizeof(log));
    struct issue_facts again = facts_of(fx, "dev-1", 1, issued_s + 10);
    assert_int_equal(admit(fx, &again), ADMIT_REPEAT);
    assert_int_equal(rejected(fx, end_s - 1), 0);
    assert_int_equal(rejected(fx, end_s), 1);
    assert_int_equal(status(fx, 1), CERT_REVOKED);
}

static void a_row_that_cannot_be_read_hides_no_other(void **state)
{
    struct fixture *fx = *state;
    const uint64_t nowhere = 999;
    struct sweep_set set = {0};
    ask(fx, "dev-2", 2, asked_s);
    put_raw(fx, "dev-0", "?", 1);
    put_raw(fx, "dev-1", &nowhere, sizeof(nowhere));
    assert_int_equal(sweep(fx, &set, asked_s + END_S), ERR_OK);
    assert_int_equal(set.rejected, 1);
    assert_int_equal(status(fx, 1), CERT_REVOKED);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_has_no_dialogue_is_taken_back),
        TEST(what_was_confirmed_stays),
        TEST(a_dialogue_that_lives_keeps_it),
        TEST(the_last_dialogue_ends_it),
        TEST(a_late_dialogue_keeps_the_others),
        TEST(a_dialogue_prolongs_its_own_alone),
        TEST(a_shorter_wait_takes_nothing_back_early),
        TEST(a_sweep_is_bounded_and_the_next_goes_on),
        TEST(rows_of_an_earlier_version),
        TEST(a_row_that_cannot_be_read_hides_no_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
