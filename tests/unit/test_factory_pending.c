/* Does a certificate that waits for its confirmation stand beside the device's own, once, and does
 * every other request for that device find its way around it? */
#include "test_factory_check.h"

/* As the pipeline does: what device_admit says on a snapshot, then device_apply. */
static const struct store_job *ask(struct fixture *fx, struct issue_facts *facts)
{
    struct store_reader *reader = fixture_reader(fx);
    struct cert_view cert;
    enum err refusal;
    enum admit admit = device_admit(reader, facts, &cert, &refusal);
    fixture_reader_done(reader);
    const struct store_job *job = fixture_issue(fx, facts);
    assert_int_equal(job->err == ERR_OK, admit != ADMIT_REFUSE);
    if (admit == ADMIT_REFUSE)
        assert_int_equal(job->err, refusal);
    if (admit == ADMIT_REPEAT)
        assert_true(device_apply_was_repeat(job));
    check_whole(fx);
    return job;
}

static struct issue_facts facts_of(struct fixture *fx, enum issue_kind kind, uint64_t current_log,
                                   uint64_t key, bool pending)
{
    struct issue_facts facts = fixture_facts(fx, fx->line_a, "dev-1", key);
    facts.kind = (uint8_t)kind;
    facts.protocol = pending ? PROTOCOL_CMP : PROTOCOL_EST;
    facts.current_log = current_log;
    facts.pending = pending;
    return facts;
}

static const struct store_job *ask_for(struct fixture *fx, enum issue_kind kind,
                                       uint64_t current_log, uint64_t key, bool pending)
{
    struct issue_facts facts = facts_of(fx, kind, current_log, key, pending);
    return ask(fx, &facts);
}

static struct device_record device(struct fixture *fx)
{
    return fixture_device(fx, fx->line_a, "dev-1");
}

static enum cert_status status(struct fixture *fx, uint64_t log)
{
    return (enum cert_status)fixture_cert_record(fx, log).status;
}

static uint8_t reason(struct fixture *fx, uint64_t log)
{
    struct cert_record record = fixture_cert_record(fx, log);
    struct revoked_record revoked;
    struct store_reader *reader = fixture_reader(fx);
    assert_int_equal(reader_revoked(reader, record.issuer_id, BYTES_ARRAY(record.serial), &revoked),
                     ERR_OK);
    fixture_reader_done(reader);
    return revoked.reason;
}

/* dev-1 with a confirmed certificate 1 for key 1. */
static void provision(struct fixture *fx)
{
    assert_int_equal(ask_for(fx, ISSUE_NEW, 0, 1, true)->err, ERR_OK);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_OK);
}

/* --- new devices --- */

static void a_new_device_has_its_certificate_at_once(void **state)
{
    struct fixture *fx = *state;
    assert_int_equal(ask_for(fx, ISSUE_NEW, 0, 1, true)->err, ERR_OK);
    assert_string_equal(fixture_last(fx).text, "pending request=0123456789abcdef");
    assert_int_equal(device(fx).cert_log, 1);
    assert_int_equal(device(fx).state, DEVICE_ISSUED);
    assert_int_equal(fixture_pending(fx, "dev-1"), 1);
    /* again: the same, still waiting */
    assert_true(device_apply_was_repeat(ask_for(fx, ISSUE_NEW, 0, 1, true)));
    assert_int_equal(fixture_pending(fx, "dev-1"), 1);
    /* another key: not before this one is rejected */
    assert_int_equal(ask_for(fx, ISSUE_NEW, 0, 2, true)->err, ERR_DEVICE_PROVISIONED);
    assert_int_equal(ask_for(fx, ISSUE_NEW, 0, 2, false)->err, ERR_DEVICE_PROVISIONED);
    assert_int_equal(fixture_pending(fx, "dev-1"), 1);
}

static void one_that_is_given_without_confirmation_waits_no_more(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts first = facts_of(fx, ISSUE_NEW, 0, 1, true);
    uint8_t buf[600];
    struct bytes cert = fixture_cert(&first, buf);
    assert_int_equal(ask(fx, &first)->err, ERR_OK);
    const struct store_job *job = ask_for(fx, ISSUE_NEW, 0, 1, false);
    assert_true(device_apply_was_repeat(job));
    assert_true(bytes_eq(bytes_of(job->data, job->data_len), cert));
    assert_int_equal(fixture_pending(fx, "dev-1"), 0);
    assert_int_equal(device(fx).state, DEVICE_ISSUED);
    assert_int_equal(device(fx).issue_count, 1);
    /* so that its old transaction's end does it no harm */
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 1, 0), ERR_CERT_CONFIRMED);
    assert_int_equal(status(fx, 1), CERT_VALID);
    /* and a repeat that would be confirmed does not make it wait again */
    assert_true(device_apply_was_repeat(ask_for(fx, ISSUE_NEW, 0, 1, true)));
    assert_int_equal(fixture_pending(fx, "dev-1"), 0);
}

static void est_confirm_ends_the_waiting(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts first = facts_of(fx, ISSUE_NEW, 0, 1, true);
    assert_int_equal(ask(fx, &first)->err, ERR_OK);
    struct confirm_facts facts = {.line_id = fx->line_a, .protocol = PROTOCOL_EST, .cert_log = 1};
    uint8_t buf[600];
    fixture_cert(&first, buf);
    memcpy(facts.fingerprint, first.fingerprint, 32);
    assert_int_equal(fixture_run(fx, confirm_apply, &facts, sizeof(facts), (struct bytes){0})->err,
                     ERR_OK);
    check_whole(fx);
    assert_int_equal(fixture_pending(fx, "dev-1"), 0);
    assert_int_equal(device(fx).state, DEVICE_CONFIRMED);
}

/* --- renewals --- */

static void a_renewal_stands_beside_until_confirmed(void **state)
{
    struct fixture *fx = *state;
    provision(fx);
    struct device_record before = device(fx);
    struct issue_facts facts = facts_of(fx, ISSUE_RENEWAL, 1, 2, true);
    uint8_t buf[600];
    struct bytes cert = fixture_cert(&facts, buf);
    assert_int_equal(ask(fx, &facts)->err, ERR_OK);
    assert_string_equal(fixture_last(fx).text, "renewal-of=1 pending request=0123456789abcdef");
    struct device_record after = device(fx);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(status(fx, 1), CERT_VALID);
    assert_int_equal(status(fx, 2), CERT_VALID);
    assert_int_equal(fixture_pending(fx, "dev-1"), 2);
    assert_int_equal(fixture_key_log(fx, 2), 2);
    /* the answer was lost: the same bytes, and still one certificate */
    fixture_close(fx);
    fixture_open(fx, 1);
    for (int i = 0; i < 3; i++) {
        const struct store_job *job = ask_for(fx, ISSUE_RENEWAL, 1, 2, true);
        assert_true(device_apply_was_repeat(job));
        assert_true(bytes_eq(bytes_of(job->data, job->data_len), cert));
    }
    struct store_stats stats;
    store_stats(fx->store, &stats);
    assert_int_equal(stats.cert_count, 2);
    /* the device's key still gets the device's certificate */
    assert_true(device_apply_was_repeat(ask_for(fx, ISSUE_NEW, 0, 1, false)));
    assert_int_equal(fixture_pending(fx, "dev-1"), 2);
}

static void another_key_takes_the_place_of_the_one_that_waits(void **state)
{
    struct fixture *fx = *state;
    provision(fx);
    assert_int_equal(ask_for(fx, ISSUE_RENEWAL, 1, 2, true)->err, ERR_OK);
    assert_int_equal(ask_for(fx, ISSUE_RENEWAL, 1, 3, true)->err, ERR_OK);
    assert_int_equal(status(fx, 1), CERT_VALID);
    assert_int_equal(status(fx, 2), CERT_REVOKED);
    assert_int_equal(reason(fx, 2), REASON_SUPERSEDED);
    assert_int_equal(fixture_cert_record(fx, 2).replaced_by, 3);
    assert_int_equal(fixture_pending(fx, "dev-1"), 3);
    assert_int_equal(device(fx).cert_log, 1);
    /* in the journal before the issuance, with what it gave way to */
    struct last_record revoked = {0};
    struct store_reader *reader = fixture_reader(fx);
    uint64_t last;
    struct store_stats stats;
    store_stats(fx->store, &stats);
    last = stats.journal_count;
    assert_int_equal(reader_journal_each(reader, last - 1, true, last_record_step, &revoked),
                     ERR_OK);
    fixture_reader_done(reader);
    assert_int_equal(revoked.record.kind, JOURNAL_REVOKED);
    assert_int_equal(revoked.record.cert_log, 2);
    assert_string_equal(revoked.what, "dev-1");
    assert_string_equal(revoked.text, "reason=superseded replaced-by=3 request=0123456789abcdef");
    /* its key is spent, its certConf comes too late */
    assert_int_equal(ask_for(fx, ISSUE_RENEWAL, 1, 2, true)->err, ERR_CERT_REVOKED);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 2, 0), ERR_CERT_REVOKED);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 3, 0), ERR_OK);
    assert_int_equal(device(fx).cert_log, 3);
}

static void a_renewal_with_the_same_key_gives_the_key_back(void **state)
{
    struct fixture *fx = *state;
    provision(fx);
    assert_int_equal(ask_for(fx, ISSUE_RENEWAL, 1, 1, true)->err, ERR_OK);
    assert_int_equal(fixture_key_log(fx, 1), 2);
    assert_true(device_apply_was_repeat(ask_for(fx, ISSUE_RENEWAL, 1, 1, true)));
    /* rejected: the device's own certificate is for this key and good */
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 2, REASON_UNSPECIFIED), ERR_OK);
    assert_int_equal(fixture_key_log(fx, 1), 1);
    assert_true(device_apply_was_repeat(ask_for(fx, ISSUE_NEW, 0, 1, false)));
    /* replaced by one for another key, and by one of EST */
    assert_int_equal(ask_for(fx, ISSUE_RENEWAL, 1, 1, true)->err, ERR_OK);
    assert_int_equal(ask_for(fx, ISSUE_RENEWAL, 1, 2, true)->err, ERR_OK);
    assert_int_equal(fixture_key_log(fx, 1), 1);
    assert_int_equal(status(fx, 3), CERT_REVOKED);
    assert_int_equal(ask_for(fx, ISSUE_RENEWAL, 1, 1, true)->err, ERR_OK);
    assert_int_equal(fixture_key_log(fx, 1), 5);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 5, 0), ERR_OK);
    assert_int_equal(status(fx, 1), CERT_SUPERSEDED);
    assert_int_equal(device(fx).cert_log, 5);
}

static void est_renewal_revokes_the_one_that_waits(void **state)
{
    struct fixture *fx = *state;
    provision(fx);
    assert_int_equal(ask_for(fx, ISSUE_RENEWAL, 1, 2, true)->err, ERR_OK);
    assert_int_equal(ask_for(fx, ISSUE_RENEWAL, 1, 3, false)->err, ERR_OK);
    assert_int_equal(status(fx, 1), CERT_SUPERSEDED);
    assert_int_equal(status(fx, 2), CERT_REVOKED);
    assert_int_equal(device(fx).cert_log, 3);
    assert_int_equal(device(fx).issue_count, 2);
    assert_int_equal(fixture_pending(fx, "dev-1"), 0);
}

static void est_renewal_for_the_same_key_takes_the_one_that_waits(void **state)
{
    struct fixture *fx = *state;
    provision(fx);
    struct issue_facts facts = facts_of(fx, ISSUE_RENEWAL, 1, 2, true);
    uint8_t buf[600];
    struct bytes cert = fixture_cert(&facts, buf);
    assert_int_equal(ask(fx, &facts)->err, ERR_OK);
    const struct store_job *job = ask_for(fx, ISSUE_RENEWAL, 1, 2, false);
    assert_true(device_apply_was_repeat(job));
    assert_true(bytes_eq(bytes_of(job->data, job->data_len), cert));
    assert_int_equal(device(fx).cert_log, 2);
    assert_int_equal(device(fx).state, DEVICE_ISSUED);
    assert_int_equal(device(fx).issue_count, 2);
    assert_int_equal(status(fx, 1), CERT_SUPERSEDED);
    assert_int_equal(fixture_pending(fx, "dev-1"), 0);
    /* and as any renewal it is repeated */
    assert_true(device_apply_was_repeat(ask_for(fx, ISSUE_RENEWAL, 1, 2, false)));
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 2, 0), ERR_CERT_CONFIRMED);
}

static void the_certificate_that_renews_is_in_use(void **state)
{
    struct fixture *fx = *state;
    assert_int_equal(ask_for(fx, ISSUE_NEW, 0, 1, true)->err, ERR_OK);
    assert_int_equal(ask_for(fx, ISSUE_RENEWAL, 1, 2, true)->err, ERR_OK);
    assert_int_equal(fixture_pending(fx, "dev-1"), 2);
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 1, 0), ERR_CERT_CONFIRMED);
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 2, 0), ERR_OK);
    assert_int_equal(device(fx).cert_log, 1);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_OK);
    /* over EST likewise */
    assert_int_equal(ask_for(fx, ISSUE_RENEWAL, 1, 3, true)->err, ERR_OK);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 3, 0), ERR_OK);
    assert_int_equal(ask_for(fx, ISSUE_RENEWAL, 3, 4, false)->err, ERR_OK);
    assert_int_equal(status(fx, 3), CERT_SUPERSEDED);
}

static void est_renewal_by_a_new_certificate_that_waits(void **state)
{
    struct fixture *fx = *state;
    assert_int_equal(ask_for(fx, ISSUE_NEW, 0, 1, true)->err, ERR_OK);
    assert_int_equal(ask_for(fx, ISSUE_RENEWAL, 1, 2, false)->err, ERR_OK);
    assert_int_equal(status(fx, 1), CERT_SUPERSEDED);
    assert_int_equal(fixture_pending(fx, "dev-1"), 0);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_CERT_CONFIRMED);
}

static void one_on_hold_that_waits(void **state)
{
    struct fixture *fx = *state;
    provision(fx);
    assert_int_equal(ask_for(fx, ISSUE_RENEWAL, 1, 2, true)->err, ERR_OK);
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 2, REASON_HOLD), ERR_OK);
    assert_int_equal(ask_for(fx, ISSUE_RENEWAL, 1, 2, true)->err, ERR_CERT_REVOKED);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 2, 0), ERR_CERT_REVOKED);
    assert_int_equal(settle_log(fx, SETTLE_RELEASE, 2, 0), ERR_OK);
    assert_true(device_apply_was_repeat(ask_for(fx, ISSUE_RENEWAL, 1, 2, true)));
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 2, REASON_HOLD), ERR_OK);
    assert_int_equal(ask_for(fx, ISSUE_RENEWAL, 1, 3, true)->err, ERR_OK);
    assert_int_equal(status(fx, 2), CERT_REVOKED);
    assert_int_equal(reason(fx, 2), REASON_SUPERSEDED);
}

/* Its device has no record any more, and that is no fault of ours. */
static void a_rejected_certificate_renews_nothing(void **state)
{
    struct fixture *fx = *state;
    assert_int_equal(ask_for(fx, ISSUE_NEW, 0, 1, true)->err, ERR_OK);
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 1, 0), ERR_OK);
    assert_int_equal(ask_for(fx, ISSUE_RENEWAL, 1, 2, true)->err, ERR_CERT_REVOKED);
    assert_int_equal(ask_for(fx, ISSUE_RENEWAL, 1, 2, false)->err, ERR_CERT_REVOKED);
}

/* --- rework --- */

static void rework_waits_too(void **state)
{
    struct fixture *fx = *state;
    provision(fx);
    assert_int_equal(ask_for(fx, ISSUE_REWORK, 0, 2, true)->err, ERR_OK);
    assert_int_equal(device(fx).cert_log, 1);
    assert_int_equal(fixture_pending(fx, "dev-1"), 2);
    assert_true(device_apply_was_repeat(ask_for(fx, ISSUE_REWORK, 0, 2, true)));
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 2, 0), ERR_OK);
    assert_int_equal(status(fx, 1), CERT_SUPERSEDED);
    /* a revoked device keeps what it has until the new one is confirmed */
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 2, REASON_KEY_COMPROMISE), ERR_OK);
    assert_int_equal(ask_for(fx, ISSUE_REWORK, 0, 3, true)->err, ERR_OK);
    assert_int_equal(device(fx).state, DEVICE_REVOKED);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 3, 0), ERR_OK);
    assert_int_equal(device(fx).state, DEVICE_CONFIRMED);
    assert_int_equal(device(fx).cert_log, 3);
    assert_int_equal(status(fx, 2), CERT_REVOKED);
    assert_int_equal(fixture_cert_record(fx, 2).replaced_by, 3);
}

/* The first certificate was never confirmed: nobody can fall back to it. */
static void rework_of_one_that_waits_takes_its_place(void **state)
{
    struct fixture *fx = *state;
    assert_int_equal(ask_for(fx, ISSUE_NEW, 0, 1, true)->err, ERR_OK);
    assert_int_equal(ask_for(fx, ISSUE_REWORK, 0, 2, true)->err, ERR_OK);
    assert_int_equal(status(fx, 1), CERT_REVOKED);
    assert_int_equal(device(fx).cert_log, 2);
    assert_int_equal(fixture_pending(fx, "dev-1"), 2);
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 2, 0), ERR_OK);
    assert_int_equal(device(fx).cert_log, 0);
    assert_int_equal(ask_for(fx, ISSUE_NEW, 0, 3, false)->err, ERR_OK);
    /* without confirmation it is a rework as any other */
    assert_int_equal(ask_for(fx, ISSUE_REWORK, 0, 4, false)->err, ERR_OK);
    assert_int_equal(status(fx, 3), CERT_SUPERSEDED);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_new_device_has_its_certificate_at_once),
        TEST(one_that_is_given_without_confirmation_waits_no_more),
        TEST(est_confirm_ends_the_waiting),
        TEST(a_renewal_stands_beside_until_confirmed),
        TEST(another_key_takes_the_place_of_the_one_that_waits),
        TEST(a_renewal_with_the_same_key_gives_the_key_back),
        TEST(est_renewal_revokes_the_one_that_waits),
        TEST(est_renewal_for_the_same_key_takes_the_one_that_waits),
        TEST(the_certificate_that_renews_is_in_use),
        TEST(est_renewal_by_a_new_certificate_that_waits),
        TEST(one_on_hold_that_waits),
        TEST(a_rejected_certificate_renews_nothing),
        TEST(rework_waits_too),
        TEST(rework_of_one_that_waits_takes_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
