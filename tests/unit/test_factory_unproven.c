/* Does a key that a request does not prove stay free until it is proven, and does who proves it first
 * have it? */
#include "test_factory_check.h"

enum { KEY = 7, OTHER_KEY = 8 };

static struct issue_facts facts_of(struct fixture *fx, const char *device, enum issue_kind kind,
                                   uint64_t current_log, uint64_t key)
{
    struct issue_facts facts = fixture_facts(fx, fx->line_a, device, key);
    facts.kind = (uint8_t)kind;
    facts.current_log = current_log;
    return facts;
}

/* As the pipeline does: what device_admit says on a snapshot, then device_apply. */
static enum err ask(struct fixture *fx, struct issue_facts *facts)
{
    struct store_reader *reader = fixture_reader(fx);
    struct cert_view cert;
    enum err refusal;
    enum admit admit = device_admit(reader, facts, &cert, &refusal);
    fixture_reader_done(reader);
    const struct store_job *job = fixture_issue(fx, facts);
    assert_int_equal(job->err, admit == ADMIT_REFUSE ? refusal : ERR_OK);
    if (admit == ADMIT_REPEAT)
        assert_true(device_apply_was_repeat(job));
    check_whole(fx);
    return job->err;
}

/* With the certificate encrypted: certConf is the proof. */
static enum err ask_unproven(struct fixture *fx, const char *device, enum issue_kind kind,
                             uint64_t current_log, uint64_t key)
{
    struct issue_facts facts = facts_of(fx, device, kind, current_log, key);
    facts.protocol = PROTOCOL_CMP;
    facts.pending = facts.unproven = 1;
    return ask(fx, &facts);
}

static enum err ask_pending(struct fixture *fx, const char *device, enum issue_kind kind,
                            uint64_t current_log, uint64_t key)
{
    struct issue_facts facts = facts_of(fx, device, kind, current_log, key);
    facts.protocol = PROTOCOL_CMP;
    facts.pending = 1;
    return ask(fx, &facts);
}

static enum err ask_est(struct fixture *fx, const char *device, enum issue_kind kind,
                        uint64_t current_log, uint64_t key)
{
    struct issue_facts facts = facts_of(fx, device, kind, current_log, key);
    return ask(fx, &facts);
}

static enum cert_status status(struct fixture *fx, uint64_t log)
{
    return (enum cert_status)fixture_cert_record(fx, log).status;
}

static enum err est_confirm(struct fixture *fx, const char *device, uint64_t log)
{
    struct confirm_facts facts = {.line_id = fx->line_a,
                                  .protocol = PROTOCOL_EST,
                                  .cert_log = log,
                                  .device_id_len = (uint8_t)strlen(device)};
    memcpy(facts.device_id, device, facts.device_id_len);
    memcpy(facts.fingerprint, fixture_cert_record(fx, log).fingerprint, 32);
    enum err err =
        fixture_run(fx, confirm_apply, &facts, sizeof(facts), (struct bytes){0})->err;
    check_whole(fx);
    return err;
}

/* --- whose key it is --- */

static void nobody_blocks_a_key_that_they_do_not_hold(void **state)
{
    struct fixture *fx = *state;
    assert_int_equal(ask_unproven(fx, "mallory", ISSUE_NEW, 0, KEY), ERR_OK);
    assert_int_equal(fixture_key_log(fx, KEY), 0);
    /* who holds it gets a certificate, and has the key */
    assert_int_equal(ask_est(fx, "victim", ISSUE_NEW, 0, KEY), ERR_OK);
    assert_int_equal(fixture_key_log(fx, KEY), 2);
    assert_int_equal(ask_unproven(fx, "mallory-2", ISSUE_NEW, 0, KEY), ERR_KEY_USED);
    /* a proof that comes too late: there are two who hold the key */
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_KEY_USED);
    assert_int_equal(status(fx, 1), CERT_REVOKED);
    assert_int_equal(fixture_pending(fx, "mallory"), 0);
    assert_int_equal(fixture_device(fx, fx->line_a, "mallory").cert_log, 0);
    assert_int_equal(fixture_key_log(fx, KEY), 2);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_CERT_REVOKED);
    assert_int_equal(ask_est(fx, "mallory", ISSUE_NEW, 0, OTHER_KEY), ERR_OK);
}

static bool find_refusal(void *ctx, const struct journal_record *record, struct bytes who,
                         struct bytes what, struct bytes text)
{
    struct last_record *last = ctx;
    if (record->kind != JOURNAL_REFUSED)
        return true;
    return last_record_step(last, record, who, what, text);
}

static void the_journal_names_both_devices(void **state)
{
    struct fixture *fx = *state;
    assert_int_equal(ask_unproven(fx, "mallory", ISSUE_NEW, 0, KEY), ERR_OK);
    assert_int_equal(ask_est(fx, "victim", ISSUE_NEW, 0, KEY), ERR_OK);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_KEY_USED);
    struct last_record revoked = fixture_last(fx), refused = {0};
    assert_int_equal(revoked.record.kind, JOURNAL_REVOKED);
    assert_string_equal(revoked.what, "mallory");
    struct store_reader *reader = fixture_reader(fx);
    assert_int_equal(reader_journal_each(reader, 0, true, find_refusal, &refused), ERR_OK);
    fixture_reader_done(reader);
    assert_int_equal(refused.record.err, ERR_KEY_USED);
    assert_int_equal(refused.record.cert_log, 1);
    char expected[256];
    snprintf(expected, sizeof(expected),
             "key-already-used request=00112233445566ff operation=confirm certificate=1 "
             "owner-device=victim owner-line=%u owner-certificate=2",
             fx->line_a);
    assert_string_equal(refused.text, expected);
}

static void the_first_who_confirms_has_it(void **state)
{
    struct fixture *fx = *state;
    assert_int_equal(ask_unproven(fx, "dev-1", ISSUE_NEW, 0, KEY), ERR_OK);
    assert_int_equal(ask_unproven(fx, "dev-2", ISSUE_NEW, 0, KEY), ERR_OK);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 2, 0), ERR_OK);
    assert_int_equal(fixture_key_log(fx, KEY), 2);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_KEY_USED);
    assert_int_equal(status(fx, 1), CERT_REVOKED);
    assert_int_equal(status(fx, 2), CERT_VALID);
    assert_int_equal(ask_est(fx, "dev-3", ISSUE_NEW, 0, KEY), ERR_KEY_USED);
}

/* In one message: an item sees what those before it did. */
static void two_of_one_message(void **state)
{
    struct fixture *fx = *state;
    struct settle_facts facts = settle_facts_of(fx);
    assert_int_equal(ask_unproven(fx, "dev-1", ISSUE_NEW, 0, KEY), ERR_OK);
    assert_int_equal(ask_unproven(fx, "dev-2", ISSUE_NEW, 0, KEY), ERR_OK);
    struct settle_item items[] = {{.cert_log = 1, .act = SETTLE_CONFIRM},
                                  {.cert_log = 2, .act = SETTLE_CONFIRM}};
    assert_int_equal(settle_all(fx, &facts, items, 2, (struct bytes){0}), ERR_OK);
    check_whole(fx);
    assert_int_equal(items[0].err, ERR_OK);
    assert_int_equal(items[1].err, ERR_KEY_USED);
    assert_int_equal(status(fx, 2), CERT_REVOKED);
}

static void a_rejected_one_leaves_the_key_free(void **state)
{
    struct fixture *fx = *state;
    assert_int_equal(ask_unproven(fx, "mallory", ISSUE_NEW, 0, KEY), ERR_OK);
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 1, REASON_UNSPECIFIED), ERR_OK);
    assert_int_equal(ask_unproven(fx, "mallory", ISSUE_NEW, 0, KEY), ERR_OK);
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 2, REASON_UNSPECIFIED), ERR_OK);
    assert_int_equal(ask_est(fx, "victim", ISSUE_NEW, 0, KEY), ERR_OK);
    /* and one that an operator revokes */
    assert_int_equal(ask_unproven(fx, "mallory", ISSUE_NEW, 0, OTHER_KEY), ERR_OK);
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 4, REASON_KEY_COMPROMISE), ERR_OK);
    assert_int_equal(ask_unproven(fx, "mallory", ISSUE_NEW, 0, OTHER_KEY), ERR_CERT_REVOKED);
    assert_int_equal(ask_est(fx, "victim-2", ISSUE_NEW, 0, OTHER_KEY), ERR_OK);
}

/* --- the same device --- */

static void it_is_repeated_and_confirmed_across_a_restart(void **state)
{
    struct fixture *fx = *state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ask_unproven(fx, "dev-1", ISSUE_NEW, 0, KEY), ERR_OK);
        fixture_close(fx);
        fixture_open(fx, 1);
    }
    struct store_stats stats;
    store_stats(fx->store, &stats);
    assert_int_equal(stats.cert_count, 1);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_OK);
    assert_int_equal(fixture_key_log(fx, KEY), 1);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_CERT_CONFIRMED);
    assert_int_equal(ask_unproven(fx, "dev-1", ISSUE_NEW, 0, KEY), ERR_OK);
    assert_int_equal(ask_unproven(fx, "dev-2", ISSUE_NEW, 0, KEY), ERR_KEY_USED);
}

static void a_proof_by_other_means_is_a_proof(void **state)
{
    struct fixture *fx = *state;
    /* asked for again over EST: signed by the key, and nothing more is confirmed */
    assert_int_equal(ask_unproven(fx, "dev-1", ISSUE_NEW, 0, KEY), ERR_OK);
    assert_int_equal(ask_est(fx, "dev-1", ISSUE_NEW, 0, KEY), ERR_OK);
    assert_int_equal(fixture_key_log(fx, KEY), 1);
    assert_int_equal(fixture_pending(fx, "dev-1"), 0);
    /* confirmed over EST */
    assert_int_equal(ask_unproven(fx, "dev-2", ISSUE_NEW, 0, OTHER_KEY), ERR_OK);
    assert_int_equal(est_confirm(fx, "dev-2", 2), ERR_OK);
    assert_int_equal(fixture_key_log(fx, OTHER_KEY), 2);
}

static void an_est_confirmation_that_comes_too_late(void **state)
{
    struct fixture *fx = *state;
    assert_int_equal(ask_unproven(fx, "dev-1", ISSUE_NEW, 0, KEY), ERR_OK);
    assert_int_equal(ask_est(fx, "dev-2", ISSUE_NEW, 0, KEY), ERR_OK);
    assert_int_equal(est_confirm(fx, "dev-1", 1), ERR_KEY_USED);
    assert_int_equal(fixture_last(fx).record.err, ERR_KEY_USED);
    assert_int_equal(fixture_pending(fx, "dev-1"), 1);
    assert_int_equal(fixture_key_log(fx, KEY), 2);
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 1, 0), ERR_OK);
}

static void it_renews(void **state)
{
    struct fixture *fx = *state;
    /* who renews by it holds its key */
    assert_int_equal(ask_unproven(fx, "dev-1", ISSUE_NEW, 0, KEY), ERR_OK);
    assert_int_equal(ask_pending(fx, "dev-1", ISSUE_RENEWAL, 1, OTHER_KEY), ERR_OK);
    assert_int_equal(fixture_key_log(fx, KEY), 1);
    assert_int_equal(fixture_key_log(fx, OTHER_KEY), 2);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 2, 0), ERR_OK);
    assert_int_equal(ask_est(fx, "dev-2", ISSUE_NEW, 0, KEY), ERR_KEY_USED);
    /* without confirmation likewise */
    assert_int_equal(ask_unproven(fx, "dev-3", ISSUE_NEW, 0, 33), ERR_OK);
    assert_int_equal(ask_est(fx, "dev-3", ISSUE_RENEWAL, 3, 34), ERR_OK);
    assert_int_equal(status(fx, 3), CERT_SUPERSEDED);
    assert_int_equal(fixture_key_log(fx, 33), 3);
    /* but not with a key that another device has proven by then */
    assert_int_equal(ask_unproven(fx, "dev-4", ISSUE_NEW, 0, 44), ERR_OK);
    assert_int_equal(ask_est(fx, "dev-5", ISSUE_NEW, 0, 44), ERR_OK);
    assert_int_equal(ask_pending(fx, "dev-4", ISSUE_RENEWAL, 5, 45), ERR_KEY_USED);
    assert_int_equal(ask_est(fx, "dev-4", ISSUE_RENEWAL, 5, 45), ERR_KEY_USED);
}

/* dev-1 has a confirmed certificate 1 for KEY. */
static void provision(struct fixture *fx)
{
    assert_int_equal(ask_pending(fx, "dev-1", ISSUE_NEW, 0, KEY), ERR_OK);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_OK);
}

static void it_waits_beside_the_device_s_own(void **state)
{
    struct fixture *fx = *state;
    provision(fx);
    assert_int_equal(ask_unproven(fx, "dev-1", ISSUE_RENEWAL, 1, OTHER_KEY), ERR_OK);
    assert_int_equal(fixture_key_log(fx, OTHER_KEY), 0);
    /* on hold it is not given again */
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 2, REASON_HOLD), ERR_OK);
    assert_int_equal(ask_unproven(fx, "dev-1", ISSUE_RENEWAL, 1, OTHER_KEY), ERR_CERT_REVOKED);
    assert_int_equal(settle_log(fx, SETTLE_RELEASE, 2, 0), ERR_OK);
    assert_int_equal(ask_est(fx, "victim", ISSUE_NEW, 0, OTHER_KEY), ERR_OK);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 2, 0), ERR_KEY_USED);
    assert_int_equal(fixture_device(fx, fx->line_a, "dev-1").cert_log, 1);
    assert_int_equal(status(fx, 1), CERT_VALID);
    assert_int_equal(status(fx, 2), CERT_REVOKED);
}

static void the_device_s_own_key_stays_its_own(void **state)
{
    struct fixture *fx = *state;
    provision(fx);
    assert_int_equal(ask_unproven(fx, "dev-1", ISSUE_RENEWAL, 1, KEY), ERR_OK);
    assert_int_equal(fixture_key_log(fx, KEY), 1);
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 2, 0), ERR_OK);
    assert_int_equal(fixture_key_log(fx, KEY), 1);
    assert_int_equal(ask_unproven(fx, "dev-1", ISSUE_RENEWAL, 1, KEY), ERR_OK);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 3, 0), ERR_OK);
    assert_int_equal(fixture_key_log(fx, KEY), 3);
    assert_int_equal(status(fx, 1), CERT_SUPERSEDED);
}

/* What was never proven is of no use to anybody and does not stay good. */
static void rework_revokes_it(void **state)
{
    struct fixture *fx = *state;
    assert_int_equal(ask_unproven(fx, "dev-1", ISSUE_NEW, 0, KEY), ERR_OK);
    assert_int_equal(ask_est(fx, "dev-1", ISSUE_REWORK, 0, OTHER_KEY), ERR_OK);
    assert_int_equal(status(fx, 1), CERT_REVOKED);
    assert_int_equal(ask_est(fx, "victim", ISSUE_NEW, 0, KEY), ERR_OK);
    /* one that was proven is as any other */
    assert_int_equal(ask_pending(fx, "dev-2", ISSUE_NEW, 0, 22), ERR_OK);
    assert_int_equal(ask_est(fx, "dev-2", ISSUE_REWORK, 0, 23), ERR_OK);
    assert_int_equal(status(fx, 4), CERT_SUPERSEDED);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nobody_blocks_a_key_that_they_do_not_hold),
        TEST(the_journal_names_both_devices),
        TEST(the_first_who_confirms_has_it),
        TEST(two_of_one_message),
        TEST(a_rejected_one_leaves_the_key_free),
        TEST(it_is_repeated_and_confirmed_across_a_restart),
        TEST(a_proof_by_other_means_is_a_proof),
        TEST(an_est_confirmation_that_comes_too_late),
        TEST(it_renews),
        TEST(it_waits_beside_the_device_s_own),
        TEST(the_device_s_own_key_stays_its_own),
        TEST(rework_revokes_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
