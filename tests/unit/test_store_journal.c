/* Is a journal record that is missing, changed or out of order found, and does journal time go
 * forward whatever the wall clock does? */
#include "store/internal.h"
#include "test_store_fixture.h"

static void write_records(struct fixture *fx, int count)
{
    for (int i = 0; i < count; i++) {
        char what[16];
        snprintf(what, sizeof(what), "dev-%d", i);
        struct journal_entry entry = {
            .kind = JOURNAL_OPERATOR,
            .protocol = PROTOCOL_CLI,
            .line_id = 1,
            .who = BYTES_LIT("root"),
            .what = bytes_of_str(what),
            .text = BYTES_LIT("a text"),
        };
        assert_int_equal(store_journal(fx->store, &entry), ERR_OK);
    }
}

static uint64_t first_bad(struct fixture *fx, uint64_t *out_count)
{
    uint64_t bad = 0;
    struct store_reader *reader = fixture_reader(fx);
    enum err err = store_journal_verify(reader, out_count, &bad);
    assert_int_equal(err, bad == 0 ? ERR_OK : ERR_STORE_FAILED);
    fixture_reader_done(reader);
    return bad;
}

/* Changes the tables behind the store's back. */
static void tamper(struct fixture *fx, uint64_t sequence, const uint8_t *value, size_t len)
{
    struct store_txn *txn;
    struct commit_token token;
    struct bytes key = bytes_of(&sequence, sizeof(sequence));
    assert_int_equal(store_txn_begin(fx->store, &txn), ERR_OK);
    if (value == NULL)
        assert_int_equal(db_del(&txn->db, DB_JOURNAL, key), ERR_OK);
    else
        assert_int_equal(db_put(&txn->db, DB_JOURNAL, key, bytes_of(value, len), DB_PUT_ANY),
                         ERR_OK);
    assert_int_equal(store_txn_commit(txn, &token), ERR_OK);
}

static size_t value_of(struct fixture *fx, uint64_t sequence, uint8_t buf[JOURNAL_VALUE_MAX])
{
    struct store_txn *txn;
    struct bytes value;
    assert_int_equal(store_txn_begin(fx->store, &txn), ERR_OK);
    assert_int_equal(db_get(&txn->db, DB_JOURNAL, bytes_of(&sequence, sizeof(sequence)), &value),
                     ERR_OK);
    memcpy(buf, value.ptr, value.len);
    size_t len = value.len;
    store_txn_abort(txn);
    return len;
}

static void an_untouched_chain_fits(void **state)
{
    struct fixture *fx = *state;
    uint64_t count;
    assert_int_equal(first_bad(fx, &count), 0);
    assert_int_equal(count, 0);
    write_records(fx, 20);
    assert_int_equal(first_bad(fx, &count), 0);
    assert_int_equal(count, 20);
    /* and goes on over a restart */
    fixture_close(fx);
    fixture_open(fx, 1);
    write_records(fx, 3);
    assert_int_equal(first_bad(fx, &count), 0);
    assert_int_equal(count, 23);
}

static void a_missing_record_is_named(void **state)
{
    struct fixture *fx = *state;
    uint64_t count;
    write_records(fx, 10);
    tamper(fx, 6, NULL, 0);
    assert_int_equal(first_bad(fx, &count), 6);
    assert_int_equal(count, 5);
    tamper(fx, 1, NULL, 0); /* the first one too */
    assert_int_equal(first_bad(fx, &count), 1);
    assert_int_equal(count, 0);
}

/* Any bit of any byte of a record in the middle, its padding included. */
static void a_changed_record_is_named(void **state)
{
    struct fixture *fx = *state;
    uint8_t value[JOURNAL_VALUE_MAX];
    uint64_t count;
    log_set_level((enum log_level) - 1); /* malformed ones are logged */
    write_records(fx, 5);
    size_t len = value_of(fx, 3, value);
    for (size_t i = 0; i < len; i++) {
        value[i] ^= (uint8_t)(1 << i % 8);
        tamper(fx, 3, value, len);
        uint64_t bad = first_bad(fx, &count);
        /* the record itself when it contradicts itself or what is before, else its successor's hash
         */
        assert_true(bad == 3 || bad == 4);
        value[i] ^= (uint8_t)(1 << i % 8);
    }
    tamper(fx, 3, value, len);
    assert_int_equal(first_bad(fx, &count), 0);
    tamper(fx, 3, value, 40);
    assert_int_equal(first_bad(fx, &count), 3);
    log_set_level(LOG_ERROR);
}

static void exchanged_records_are_named(void **state)
{
    struct fixture *fx = *state;
    uint8_t one[JOURNAL_VALUE_MAX], two[JOURNAL_VALUE_MAX];
    uint64_t count;
    write_records(fx, 8);
    size_t one_len = value_of(fx, 4, one), two_len = value_of(fx, 5, two);
    tamper(fx, 4, two, two_len);
    tamper(fx, 5, one, one_len);
    assert_int_equal(first_bad(fx, &count), 4);
}

static bool note_sequence(void *ctx, const struct journal_record *record, struct bytes who,
                          struct bytes what, struct bytes text)
{
    (void)who;
    (void)what;
    (void)text;
    *(uint64_t *)ctx = record->sequence;
    return false;
}

/* A walk that starts in a gap begins at the next record in its direction. */
static void a_walk_starts_beside_a_gap(void **state)
{
    struct fixture *fx = *state;
    uint64_t forward = 0, backward = 0;
    write_records(fx, 8);
    tamper(fx, 5, NULL, 0);
    struct store_reader *reader = fixture_reader(fx);
    assert_int_equal(reader_journal_each(reader, 5, false, note_sequence, &forward), ERR_OK);
    assert_int_equal(reader_journal_each(reader, 5, true, note_sequence, &backward), ERR_OK);
    assert_int_equal(forward, 6);
    assert_int_equal(backward, 4);
    fixture_reader_done(reader);
}

/* The last record has no successor whose hash would give it away. */
static void a_moved_last_record_is_named(void **state)
{
    struct fixture *fx = *state;
    uint8_t value[JOURNAL_VALUE_MAX];
    uint64_t count;
    write_records(fx, 8);
    size_t len = value_of(fx, 8, value);
    tamper(fx, 9, value, len);
    tamper(fx, 8, NULL, 0);
    assert_int_equal(first_bad(fx, &count), 8);
    assert_int_equal(count, 7);
}

static void long_fields_are_cut(void **state)
{
    struct fixture *fx = *state;
    static uint8_t big[2000];
    memset(big, 'y', sizeof(big));
    struct journal_entry entry = {.kind = JOURNAL_CONFIG,
                                  .who = BYTES_ARRAY(big),
                                  .what = BYTES_ARRAY(big),
                                  .text = BYTES_ARRAY(big)};
    uint64_t count;
    assert_int_equal(store_journal(fx->store, &entry), ERR_OK);
    struct last_record last = fixture_last(fx);
    assert_int_equal(last.record.who_len, 255);
    assert_int_equal(last.record.what_len, 255);
    assert_true(last.record.text_len > 400 && last.record.text_len <= JOURNAL_TEXT_MAX);
    assert_int_equal(first_bad(fx, &count), 0);
}

/* --- time --- */

static uint64_t fake_wall_ns;

static uint64_t fake_mono(void *ctx)
{
    (void)ctx;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static uint64_t fake_wall(void *ctx)
{
    (void)ctx;
    return fake_wall_ns;
}

static int setup_clock(void **state)
{
    static const struct clock_source source = {fake_mono, fake_wall, NULL};
    fake_wall_ns = 1800000000 * NS_PER_S;
    clock_replace(&source);
    int rc = fixture_setup(state);
    /* the writer reads the clock: not while it is changed */
    struct fixture *fx = *state;
    fixture_close(fx);
    fixture_open(fx, 0);
    return rc;
}

static int teardown_clock(void **state)
{
    int rc = fixture_teardown(state);
    clock_replace(NULL);
    return rc;
}

static void time_never_goes_back(void **state)
{
    struct fixture *fx = *state;
    uint64_t count;
    log_set_level((enum log_level) - 1);
    write_records(fx, 1);
    assert_int_equal(fixture_last(fx).record.time_ns, 1800000000 * NS_PER_S);
    assert_string_equal(fixture_last(fx).text, "a text");
    fake_wall_ns -= 90 * NS_PER_S;
    write_records(fx, 2);
    struct last_record last = fixture_last(fx);
    assert_int_equal(last.record.time_ns, 1800000000 * NS_PER_S);
    assert_string_equal(last.text, "a text clock-stepped-back-ms=90000");
    /* also over a restart, where the head comes from the store */
    fixture_close(fx);
    fixture_open(fx, 0);
    fake_wall_ns += 30 * NS_PER_S;
    write_records(fx, 1);
    last = fixture_last(fx);
    assert_int_equal(last.record.time_ns, 1800000000 * NS_PER_S);
    assert_string_equal(last.text, "a text clock-stepped-back-ms=60000");
    /* and back to normal when the clock has caught up */
    fake_wall_ns += 61 * NS_PER_S;
    write_records(fx, 1);
    last = fixture_last(fx);
    assert_int_equal(last.record.time_ns, 1800000001 * NS_PER_S);
    assert_string_equal(last.text, "a text");
    assert_int_equal(first_bad(fx, &count), 0);
    assert_int_equal(count, 5);
    log_set_level(LOG_ERROR);
}

/* An alarm for each step, not for each record while the clock is behind. */
static void a_step_back_is_one_alarm(void **state)
{
    struct fixture *fx = *state;
    int pipe_fds[2], saved = dup(STDERR_FILENO);
    char text[4096] = "";
    assert_int_equal(pipe(pipe_fds), 0);
    dup2(pipe_fds[1], STDERR_FILENO);
    log_set_level(LOG_WARN);
    write_records(fx, 1);
    fake_wall_ns -= 5 * NS_PER_S;
    write_records(fx, 3);
    fake_wall_ns += NS_PER_S;
    write_records(fx, 1);
    fake_wall_ns -= 2 * NS_PER_S;
    write_records(fx, 1);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(pipe_fds[1]);
    assert_true(read(pipe_fds[0], text, sizeof(text) - 1) > 0);
    close(pipe_fds[0]);
    log_set_level(LOG_ERROR);
    int alarms = 0;
    for (char *at = text; (at = strstr(at, "clock-stepped-back")) != NULL; at++)
        alarms++;
    assert_int_equal(alarms, 2);
}

/* Validity is wall time: a certificate issued while the clock is behind says so. */
static void certificates_keep_wall_time(void **state)
{
    struct fixture *fx = *state;
    log_set_level((enum log_level) - 1);
    write_records(fx, 1);
    fake_wall_ns -= 1000 * NS_PER_S;
    fixture_close(fx);
    fixture_open(fx, 1);
    struct issue_facts facts = fixture_facts(fx, fx->line_a, "dev-1", 1);
    assert_int_equal(fixture_issue(fx, &facts)->err, ERR_OK);
    assert_int_equal(fixture_cert_record(fx, 1).issued_s, 1800000000 - 1000);
    assert_int_equal(fixture_last(fx).record.time_ns, 1800000000 * NS_PER_S);
    log_set_level(LOG_ERROR);
}

#define TEST(f)  cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)
#define CLOCK(f) cmocka_unit_test_setup_teardown(f, setup_clock, teardown_clock)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_untouched_chain_fits),    TEST(a_missing_record_is_named),
        TEST(a_changed_record_is_named),  TEST(exchanged_records_are_named),
        TEST(a_walk_starts_beside_a_gap), TEST(a_moved_last_record_is_named),
        TEST(long_fields_are_cut),        CLOCK(time_never_goes_back),
        CLOCK(a_step_back_is_one_alarm),  CLOCK(certificates_keep_wall_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
