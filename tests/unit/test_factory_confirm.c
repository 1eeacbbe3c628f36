/* Is a certificate confirmed once, by its own device alone, and does every refusal reach the
 * journal? */
#include "test_store_fixture.h"

static struct confirm_facts confirm_of(struct fixture *fx, const struct issue_facts *issued,
                                       const char *device_id, uint64_t cert_log)
{
    struct confirm_facts facts = {
        .line_id = fx->line_a,
        .protocol = PROTOCOL_EST,
        .who_len = 4,
        .device_id_len = (uint8_t)strlen(device_id),
        .cert_log = cert_log,
    };
    memcpy(facts.fingerprint, issued->fingerprint, sizeof(facts.fingerprint));
    memcpy(facts.who, "st-2", 4);
    memcpy(facts.device_id, device_id, facts.device_id_len);
    memcpy(facts.request_id, "fedcba9876543210", REQUEST_ID_LEN);
    return facts;
}

static enum err confirm(struct fixture *fx, struct confirm_facts *facts)
{
    const struct store_job *job =
        fixture_run(fx, confirm_apply, facts, sizeof(*facts), (struct bytes){0});
    assert_int_equal(commit_token_is_valid(fx->store, job->token), job->err == ERR_OK);
    fixture_verify(fx);
    return job->err;
}

static struct issue_facts issued(struct fixture *fx, const char *device_id, uint64_t key)
{
    struct issue_facts facts = fixture_facts(fx, fx->line_a, device_id, key);
    assert_int_equal(fixture_issue(fx, &facts)->err, ERR_OK);
    return facts;
}

static void by_device_id(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts facts = issued(fx, "dev-1", 1);
    struct confirm_facts ask = confirm_of(fx, &facts, "dev-1", 0);
    assert_int_equal(confirm(fx, &ask), ERR_OK);
    assert_int_equal(fixture_device(fx, fx->line_a, "dev-1").state, DEVICE_CONFIRMED);
    struct last_record last = fixture_last(fx);
    assert_int_equal(last.record.kind, JOURNAL_CONFIRMED);
    assert_int_equal(last.record.cert_log, 1);
    assert_string_equal(last.who, "st-2");
    assert_string_equal(last.what, "dev-1");
    assert_string_equal(last.text, "request=fedcba9876543210");
    /* again: yes, and nothing more is written */
    uint64_t count = fixture_verify(fx);
    assert_int_equal(confirm(fx, &ask), ERR_OK);
    assert_int_equal(fixture_verify(fx), count);
}

static void by_log_number(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts facts = issued(fx, "dev-1", 1);
    struct confirm_facts ask = confirm_of(fx, &facts, "", 1);
    assert_int_equal(confirm(fx, &ask), ERR_OK);
    assert_int_equal(fixture_device(fx, fx->line_a, "dev-1").state, DEVICE_CONFIRMED);
    assert_string_equal(fixture_last(fx).what, "dev-1");
}

static void what_is_not_known_is_refused_alike(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts one = issued(fx, "dev-1", 1);
    struct issue_facts two = issued(fx, "dev-2", 2);
    struct confirm_facts wrong_print = confirm_of(fx, &two, "dev-1", 0);
    struct confirm_facts wrong_print_by_log = confirm_of(fx, &two, "", 1);
    struct confirm_facts no_device = confirm_of(fx, &one, "dev-3", 0);
    struct confirm_facts no_log = confirm_of(fx, &one, "", 99);
    struct confirm_facts nothing = confirm_of(fx, &one, "", 0);
    struct confirm_facts other_device = confirm_of(fx, &one, "dev-2", 1);
    struct confirm_facts other_line = confirm_of(fx, &one, "dev-1", 1);
    other_line.line_id = fx->line_b;
    struct confirm_facts *all[] = {&wrong_print, &wrong_print_by_log, &no_device, &no_log,
                                   &nothing,     &other_device,       &other_line};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        assert_int_equal(confirm(fx, all[i]), ERR_CERT_UNKNOWN);
        struct last_record last = fixture_last(fx);
        assert_int_equal(last.record.kind, JOURNAL_REFUSED);
        assert_int_equal(last.record.err, ERR_CERT_UNKNOWN);
    }
    assert_int_equal(fixture_device(fx, fx->line_a, "dev-1").state, DEVICE_ISSUED);
    assert_int_equal(fixture_device(fx, fx->line_a, "dev-2").state, DEVICE_ISSUED);
}

static void a_superseded_certificate_confirms_nothing(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts old = issued(fx, "dev-1", 1);
    struct confirm_facts ask = confirm_of(fx, &old, "dev-1", 1);
    assert_int_equal(confirm(fx, &ask), ERR_OK);
    struct issue_facts renewal = fixture_facts(fx, fx->line_a, "dev-1", 2);
    renewal.kind = ISSUE_RENEWAL;
    renewal.current_log = 1;
    assert_int_equal(fixture_issue(fx, &renewal)->err, ERR_OK);
    /* the new certificate waits for its own confirmation */
    assert_int_equal(fixture_device(fx, fx->line_a, "dev-1").state, DEVICE_ISSUED);
    assert_int_equal(confirm(fx, &ask), ERR_CERT_UNKNOWN);
    assert_int_equal(fixture_device(fx, fx->line_a, "dev-1").state, DEVICE_ISSUED);
    struct confirm_facts next = confirm_of(fx, &renewal, "dev-1", 2);
    assert_int_equal(confirm(fx, &next), ERR_OK);
}

static enum err revoke_apply(struct store_txn *txn, struct store_job *job)
{
    struct cert_view view;
    enum err err = txn_cert_get(txn, job->facts[0], &view);
    if (err != ERR_OK)
        return err;
    struct cert_record record = *view.record;
    record.status = CERT_REVOKED;
    return txn_cert_update(txn, job->facts[0], &record);
}

static void a_revoked_certificate_is_not_confirmed(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts facts = issued(fx, "dev-1", 1);
    uint8_t log = 1;
    assert_int_equal(fixture_run(fx, revoke_apply, &log, 1, (struct bytes){0})->err, ERR_OK);
    struct confirm_facts ask = confirm_of(fx, &facts, "dev-1", 0);
    assert_int_equal(confirm(fx, &ask), ERR_CERT_REVOKED);
    assert_int_equal(fixture_device(fx, fx->line_a, "dev-1").state, DEVICE_ISSUED);
}

/* --- refusals taken before the transaction --- */

static struct line_record line_a(struct fixture *fx)
{
    struct line_record record;
    struct store_reader *reader = fixture_reader(fx);
    assert_int_equal(reader_line(reader, "line-a", &record), ERR_OK);
    fixture_reader_done(reader);
    return record;
}

static void a_refusal_is_recorded(void **state)
{
    struct fixture *fx = *state;
    struct refusal_facts facts = {
        .protocol = PROTOCOL_CMP,
        .device_id_len = 5,
        .who_len = 4,
        .err = ERR_NOT_AUTHORIZED,
        .line_id = fx->line_a,
    };
    memcpy(facts.device_id, "dev-5", 5);
    memcpy(facts.who, "st-1", 4);
    memcpy(facts.request_id, "0123456789abcdef", REQUEST_ID_LEN);
    const struct store_job *job =
        fixture_run(fx, refusal_apply, &facts, sizeof(facts), BYTES_LIT("operation=enroll"));
    assert_int_equal(job->err, ERR_OK);
    struct last_record last = fixture_last(fx);
    assert_int_equal(last.record.kind, JOURNAL_REFUSED);
    assert_int_equal(last.record.protocol, PROTOCOL_CMP);
    assert_int_equal(last.record.err, ERR_NOT_AUTHORIZED);
    assert_int_equal(last.record.line_id, fx->line_a);
    assert_string_equal(last.who, "st-1");
    assert_string_equal(last.what, "dev-5");
    assert_string_equal(last.text, "not-authorized request=0123456789abcdef operation=enroll");
    assert_int_equal(line_a(fx).refused, 1);
}

static void many_anonymous_refusals_are_one_record(void **state)
{
    struct fixture *fx = *state;
    struct refusal_facts facts = {.protocol = PROTOCOL_EST,
                                  .err = ERR_AUTH_FAILED,
                                  .line_id = fx->line_a,
                                  .suppressed = 1234};
    assert_int_equal(fixture_run(fx, refusal_apply, &facts, sizeof(facts), (struct bytes){0})->err,
                     ERR_OK);
    struct last_record last = fixture_last(fx);
    assert_int_equal(last.record.kind, JOURNAL_SUPPRESSED);
    assert_string_equal(last.text, "authentication-failed suppressed=1234");
    assert_int_equal(line_a(fx).refused, 1234);
    /* over several codes and lines */
    facts = (struct refusal_facts){.suppressed = 7};
    assert_int_equal(fixture_run(fx, refusal_apply, &facts, sizeof(facts), (struct bytes){0})->err,
                     ERR_OK);
    assert_string_equal(fixture_last(fx).text, "suppressed=7");
}

/* Text from a request may be longer than a record takes. */
static void a_long_text_is_cut(void **state)
{
    struct fixture *fx = *state;
    uint8_t text[3000];
    memset(text, 'x', sizeof(text));
    struct refusal_facts facts = {.err = ERR_BAD_TEMPLATE, .line_id = 4711};
    assert_int_equal(fixture_run(fx, refusal_apply, &facts, sizeof(facts), BYTES_ARRAY(text))->err,
                     ERR_OK);
    struct last_record last = fixture_last(fx);
    assert_true(last.record.text_len <= JOURNAL_TEXT_MAX && last.record.text_len > 400);
    fixture_verify(fx);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(by_device_id),
        TEST(by_log_number),
        TEST(what_is_not_known_is_refused_alike),
        TEST(a_superseded_certificate_confirms_nothing),
        TEST(a_revoked_certificate_is_not_confirmed),
        TEST(a_refusal_is_recorded),
        TEST(many_anonymous_refusals_are_one_record),
        TEST(a_long_text_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
