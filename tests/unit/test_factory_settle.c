/* Is every act on a certificate done once and whole, refused with the right word where it must be,
 * and written down? */
#include "test_factory_check.h"

static void issue(struct fixture *fx, const char *device_id, enum issue_kind kind,
                  uint64_t current_log, uint64_t key, bool pending)
{
    struct issue_facts facts = fixture_facts(fx, fx->line_a, device_id, key);
    facts.kind = (uint8_t)kind;
    facts.current_log = current_log;
    facts.pending = pending;
    assert_int_equal(fixture_issue(fx, &facts)->err, ERR_OK);
}

static enum err enroll(struct fixture *fx, const char *device_id, uint64_t key)
{
    struct issue_facts facts = fixture_facts(fx, fx->line_a, device_id, key);
    enum err err = fixture_issue(fx, &facts)->err;
    check_whole(fx);
    return err;
}

static struct device_record device(struct fixture *fx)
{
    return fixture_device(fx, fx->line_a, "dev-1");
}

static enum cert_status status(struct fixture *fx, uint64_t log)
{
    return (enum cert_status)fixture_cert_record(fx, log).status;
}

static struct revoked_record revoked(struct fixture *fx, uint64_t log)
{
    struct cert_record record = fixture_cert_record(fx, log);
    struct revoked_record out;
    struct store_reader *reader = fixture_reader(fx);
    assert_int_equal(reader_revoked(reader, record.issuer_id, BYTES_ARRAY(record.serial), &out),
                     ERR_OK);
    fixture_reader_done(reader);
    return out;
}

static uint64_t refused(struct fixture *fx)
{
    struct line_record record;
    struct store_reader *reader = fixture_reader(fx);
    assert_int_equal(reader_line(reader, "line-a", &record), ERR_OK);
    fixture_reader_done(reader);
    return record.refused;
}

/* --- confirm --- */

static void a_new_device_is_confirmed_once(void **state)
{
    struct fixture *fx = *state;
    issue(fx, "dev-1", ISSUE_NEW, 0, 1, true);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_OK);
    assert_int_equal(device(fx).state, DEVICE_CONFIRMED);
    assert_int_equal(fixture_pending(fx, "dev-1"), 0);
    struct last_record last = fixture_last(fx);
    assert_int_equal(last.record.kind, JOURNAL_CONFIRMED);
    assert_int_equal(last.record.protocol, PROTOCOL_CMP);
    assert_int_equal(last.record.cert_log, 1);
    assert_string_equal(last.who, "ra-1");
    assert_string_equal(last.what, "dev-1");
    assert_string_equal(last.text, "request=00112233445566ff");
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_CERT_CONFIRMED);
    last = fixture_last(fx);
    assert_int_equal(last.record.kind, JOURNAL_REFUSED);
    assert_int_equal(last.record.err, ERR_CERT_CONFIRMED);
    assert_int_equal(last.record.line_id, fx->line_a);
    assert_string_equal(last.text, "certificate-already-confirmed request=00112233445566ff "
                                   "operation=confirm certificate=1");
    assert_int_equal(refused(fx), 1);
    /* one that never had to wait may be confirmed as well */
    issue(fx, "dev-2", ISSUE_NEW, 0, 2, false);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 2, 0), ERR_OK);
}

static void a_confirmed_renewal_supersedes(void **state)
{
    struct fixture *fx = *state;
    issue(fx, "dev-1", ISSUE_NEW, 0, 1, false);
    issue(fx, "dev-1", ISSUE_RENEWAL, 1, 2, true);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 2, 0), ERR_OK);
    assert_int_equal(device(fx).cert_log, 2);
    assert_int_equal(device(fx).state, DEVICE_CONFIRMED);
    assert_int_equal(device(fx).issue_count, 2);
    assert_int_equal(status(fx, 1), CERT_SUPERSEDED);
    assert_int_equal(fixture_cert_record(fx, 1).replaced_by, 2);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 2, 0), ERR_CERT_CONFIRMED);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_CERT_CONFIRMED);
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 2, 0), ERR_CERT_CONFIRMED);
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 1, 0), ERR_CERT_CONFIRMED);
    assert_int_equal(status(fx, 2), CERT_VALID);
}

static void what_is_not_the_caller_s_is_unknown(void **state)
{
    struct fixture *fx = *state;
    issue(fx, "dev-1", ISSUE_NEW, 0, 1, true);
    for (int act = SETTLE_CONFIRM; act <= SETTLE_RELEASE; act++) {
        struct settle_facts other_line = settle_facts_of(fx), other_device = other_line;
        other_line.line_id = fx->line_b;
        other_device.device_id_len = 5;
        memcpy(other_device.device_id, "dev-2", 5);
        struct settle_item item = {.cert_log = 1, .act = (uint8_t)act};
        assert_int_equal(settle_all(fx, &other_line, &item, 1, (struct bytes){0}), ERR_OK);
        assert_int_equal(item.err, ERR_CERT_UNKNOWN);
        assert_int_equal(settle_all(fx, &other_device, &item, 1, (struct bytes){0}), ERR_OK);
        assert_int_equal(item.err, ERR_CERT_UNKNOWN);
        struct last_record last = fixture_last(fx);
        assert_int_equal(last.record.err, ERR_CERT_UNKNOWN);
        assert_int_equal(last.record.cert_log, 0);
        assert_string_equal(last.what, "dev-2");
        assert_int_equal(settle_log(fx, (enum settle_act)act, 99, 0), ERR_CERT_UNKNOWN);
        assert_int_equal(settle_log(fx, (enum settle_act)act, 0, 0), ERR_CERT_UNKNOWN);
    }
    assert_int_equal(fixture_pending(fx, "dev-1"), 1);
    /* an operator names no line */
    struct settle_facts any = settle_facts_of(fx);
    any.line_id = 0;
    struct settle_item item = {.cert_log = 1, .act = SETTLE_CONFIRM};
    assert_int_equal(settle_all(fx, &any, &item, 1, (struct bytes){0}), ERR_OK);
    assert_int_equal(item.err, ERR_OK);
    /* the device itself */
    struct settle_facts own = settle_facts_of(fx);
    own.device_id_len = 5;
    memcpy(own.device_id, "dev-1", 5);
    item = (struct settle_item){.cert_log = 1, .act = SETTLE_REVOKE};
    assert_int_equal(settle_all(fx, &own, &item, 1, (struct bytes){0}), ERR_OK);
    assert_int_equal(item.err, ERR_OK);
}

/* --- reject --- */

static void a_rejected_new_device_may_come_again(void **state)
{
    struct fixture *fx = *state;
    issue(fx, "dev-1", ISSUE_NEW, 0, 1, true);
    struct settle_facts facts = settle_facts_of(fx);
    struct settle_item item = {.cert_log = 1, .act = SETTLE_REJECT, .reason = REASON_CESSATION};
    assert_int_equal(settle_all(fx, &facts, &item, 1, BYTES_LIT("certConf-rejected")), ERR_OK);
    assert_int_equal(item.err, ERR_OK);
    check_whole(fx);
    struct last_record last = fixture_last(fx);
    assert_int_equal(last.record.kind, JOURNAL_REVOKED);
    assert_string_equal(last.text, "reason=cessationOfOperation request=00112233445566ff "
                                   "certConf-rejected");
    assert_int_equal(revoked(fx, 1).reason, REASON_CESSATION);
    assert_true(revoked(fx, 1).time_s > 1000000000);
    assert_int_equal(device(fx).cert_log, 0); /* no record */
    struct store_stats stats;
    store_stats(fx->store, &stats);
    assert_int_equal(stats.device_count, 0);
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 1, 0), ERR_CERT_REVOKED);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_CERT_REVOKED);
    /* not with that key, but with another; the key stays this device's */
    assert_int_equal(enroll(fx, "dev-1", 1), ERR_CERT_REVOKED);
    assert_int_equal(enroll(fx, "dev-2", 1), ERR_KEY_USED);
    assert_int_equal(enroll(fx, "dev-1", 2), ERR_OK);
    assert_int_equal(device(fx).issue_count, 1);
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 1, 0), ERR_CERT_REVOKED);
    assert_int_equal(device(fx).state, DEVICE_ISSUED);
}

static void a_rejected_renewal_changes_nothing_for_the_device(void **state)
{
    struct fixture *fx = *state;
    issue(fx, "dev-1", ISSUE_NEW, 0, 1, false);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_OK);
    struct device_record before = device(fx);
    issue(fx, "dev-1", ISSUE_RENEWAL, 1, 2, true);
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 2, REASON_UNSPECIFIED), ERR_OK);
    struct device_record after = device(fx);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(status(fx, 1), CERT_VALID);
    assert_int_equal(status(fx, 2), CERT_REVOKED);
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 2, 0), ERR_CERT_REVOKED);
    issue(fx, "dev-1", ISSUE_RENEWAL, 1, 3, true);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 3, 0), ERR_OK);
}

static void only_what_waits_can_be_rejected(void **state)
{
    struct fixture *fx = *state;
    issue(fx, "dev-1", ISSUE_NEW, 0, 1, false);
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 1, 0), ERR_CERT_CONFIRMED);
    issue(fx, "dev-2", ISSUE_NEW, 0, 2, true);
    for (int reason = 0; reason < 256; reason += reason < 12 ? 1 : 61)
        if (reason == REASON_HOLD || reason == 7 || reason == REASON_REMOVE || reason > 10)
            assert_int_equal(settle_log(fx, SETTLE_REJECT, 2, (uint8_t)reason), ERR_BAD_REQUEST);
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 2, REASON_HOLD), ERR_OK);
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 2, REASON_SUPERSEDED), ERR_OK);
    assert_int_equal(revoked(fx, 2).reason, REASON_SUPERSEDED);
}

/* --- revoke and release --- */

static void revoking_the_current_certificate_revokes_the_device(void **state)
{
    struct fixture *fx = *state;
    issue(fx, "dev-1", ISSUE_NEW, 0, 1, false);
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 1, REASON_KEY_COMPROMISE), ERR_OK);
    assert_int_equal(device(fx).state, DEVICE_REVOKED);
    assert_int_equal(status(fx, 1), CERT_REVOKED);
    assert_int_equal(revoked(fx, 1).reason, REASON_KEY_COMPROMISE);
    assert_int_equal(revoked(fx, 1).cert_log, 1);
    assert_string_equal(fixture_last(fx).text, "reason=keyCompromise request=00112233445566ff");
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 1, REASON_SUPERSEDED), ERR_CERT_REVOKED);
    assert_int_equal(settle_log(fx, SETTLE_RELEASE, 1, 0), ERR_CERT_REVOKED);
    assert_int_equal(revoked(fx, 1).reason, REASON_KEY_COMPROMISE);
    assert_int_equal(enroll(fx, "dev-1", 1), ERR_CERT_REVOKED);
}

static void every_reason_there_is(void **state)
{
    struct fixture *fx = *state;
    uint64_t log = 0;
    for (int reason = 0; reason < 256; reason += reason < 12 ? 1 : 61) {
        char id[16];
        snprintf(id, sizeof(id), "dev-%d", reason);
        issue(fx, id, ISSUE_NEW, 0, (uint64_t)reason + 1, false);
        log++;
        bool good = reason <= 10 && reason != 7 && reason != 8;
        assert_int_equal(crl_reason_name((uint8_t)reason) != NULL, good || reason == 8);
        assert_int_equal(settle_log(fx, SETTLE_REVOKE, log, (uint8_t)reason),
                         good ? ERR_OK : ERR_BAD_REQUEST);
        if (!good) /* malformed, not refused: no record */
            assert_int_equal(fixture_last(fx).record.kind, JOURNAL_ISSUED);
    }
    assert_int_equal(settle_log(fx, (enum settle_act)77, log, 0), ERR_BAD_REQUEST);
    assert_int_equal(refused(fx), 0);
}

static void a_superseded_one_can_be_revoked(void **state)
{
    struct fixture *fx = *state;
    issue(fx, "dev-1", ISSUE_NEW, 0, 1, false);
    issue(fx, "dev-1", ISSUE_RENEWAL, 1, 2, false);
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 1, REASON_HOLD), ERR_OK);
    assert_int_equal(settle_log(fx, SETTLE_RELEASE, 1, 0), ERR_OK);
    assert_int_equal(status(fx, 1), CERT_SUPERSEDED);
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 1, REASON_SUPERSEDED), ERR_OK);
    assert_int_equal(device(fx).state, DEVICE_ISSUED); /* it has another */
    assert_int_equal(device(fx).cert_log, 2);
}

static void a_hold_is_taken_back(void **state)
{
    struct fixture *fx = *state;
    issue(fx, "dev-1", ISSUE_NEW, 0, 1, false);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_OK);
    struct device_record before = device(fx);
    assert_int_equal(settle_log(fx, SETTLE_RELEASE, 1, 0), ERR_BAD_REQUEST);
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 1, REASON_HOLD), ERR_OK);
    assert_int_equal(status(fx, 1), CERT_ON_HOLD);
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 1, REASON_HOLD), ERR_CERT_REVOKED);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 1, 0), ERR_CERT_REVOKED);
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 1, 0), ERR_CERT_CONFIRMED);
    assert_int_equal(enroll(fx, "dev-1", 1), ERR_CERT_REVOKED);
    fixture_close(fx);
    fixture_open(fx, 1);
    assert_int_equal(settle_log(fx, SETTLE_RELEASE, 1, 0), ERR_OK);
    struct last_record last = fixture_last(fx);
    assert_int_equal(last.record.kind, JOURNAL_RELEASED);
    assert_int_equal(last.record.cert_log, 1);
    struct device_record after = device(fx);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(status(fx, 1), CERT_VALID);
    assert_int_equal(enroll(fx, "dev-1", 1), ERR_OK);
    issue(fx, "dev-1", ISSUE_RENEWAL, 1, 2, false);
    check_whole(fx);
}

static void a_hold_becomes_a_revocation(void **state)
{
    struct fixture *fx = *state;
    issue(fx, "dev-1", ISSUE_NEW, 0, 1, false);
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 1, REASON_HOLD), ERR_OK);
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 1, REASON_CESSATION), ERR_OK);
    assert_int_equal(revoked(fx, 1).reason, REASON_CESSATION);
    assert_int_equal(device(fx).state, DEVICE_REVOKED);
    assert_int_equal(settle_log(fx, SETTLE_RELEASE, 1, 0), ERR_CERT_REVOKED);
    /* one that was replaced while on hold */
    issue(fx, "dev-2", ISSUE_NEW, 0, 2, false);
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 2, REASON_HOLD), ERR_OK);
    issue(fx, "dev-2", ISSUE_REWORK, 0, 3, false);
    check_whole(fx);
    assert_int_equal(settle_log(fx, SETTLE_RELEASE, 2, 0), ERR_OK);
    assert_int_equal(status(fx, 2), CERT_SUPERSEDED);
}

static void what_waits_on_the_word_of_a_revoked_certificate(void **state)
{
    struct fixture *fx = *state;
    issue(fx, "dev-1", ISSUE_NEW, 0, 1, false);
    issue(fx, "dev-1", ISSUE_RENEWAL, 1, 2, true);
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 1, REASON_KEY_COMPROMISE), ERR_OK);
    assert_int_equal(status(fx, 2), CERT_REVOKED);
    assert_int_equal(revoked(fx, 2).reason, REASON_KEY_COMPROMISE);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 2, 0), ERR_CERT_REVOKED);
    /* on hold: the successor for good, the device comes back with what it had */
    issue(fx, "dev-2", ISSUE_NEW, 0, 3, false);
    issue(fx, "dev-2", ISSUE_RENEWAL, 3, 4, true);
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 3, REASON_HOLD), ERR_OK);
    assert_int_equal(revoked(fx, 4).reason, REASON_CESSATION);
    assert_int_equal(settle_log(fx, SETTLE_RELEASE, 3, 0), ERR_OK);
    issue(fx, "dev-2", ISSUE_RENEWAL, 3, 5, true);
    assert_int_equal(settle_log(fx, SETTLE_CONFIRM, 5, 0), ERR_OK);
}

static void revoking_what_waits(void **state)
{
    struct fixture *fx = *state;
    issue(fx, "dev-1", ISSUE_NEW, 0, 1, true);
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 1, REASON_KEY_COMPROMISE), ERR_OK);
    assert_int_equal(fixture_pending(fx, "dev-1"), 0);
    assert_int_equal(device(fx).state, DEVICE_REVOKED);
    assert_int_equal(settle_log(fx, SETTLE_REJECT, 1, 0), ERR_CERT_REVOKED);
    issue(fx, "dev-2", ISSUE_NEW, 0, 2, false);
    issue(fx, "dev-2", ISSUE_RENEWAL, 2, 3, true);
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 3, REASON_KEY_COMPROMISE), ERR_OK);
    assert_int_equal(fixture_pending(fx, "dev-2"), 0);
    assert_int_equal(status(fx, 2), CERT_VALID);
    /* a compromised key is not given back to the certificate before */
    issue(fx, "dev-2", ISSUE_RENEWAL, 2, 2, true);
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 4, REASON_KEY_COMPROMISE), ERR_OK);
    assert_int_equal(fixture_key_log(fx, 2), 4);
    assert_int_equal(enroll(fx, "dev-2", 2), ERR_CERT_REVOKED);
}

/* --- sets --- */

static void a_refused_item_stops_no_other(void **state)
{
    struct fixture *fx = *state;
    for (uint64_t i = 1; i <= 6; i++) {
        char id[16];
        snprintf(id, sizeof(id), "dev-%d", (int)i);
        issue(fx, id, ISSUE_NEW, 0, i, i != 6);
    }
    struct settle_facts facts = settle_facts_of(fx);
    struct settle_item items[] = {
        {.cert_log = 1, .act = SETTLE_CONFIRM, .err = ERR_INTERNAL},
        {.cert_log = 1, .act = SETTLE_CONFIRM},
        {.cert_log = 99, .act = SETTLE_CONFIRM},
        {.cert_log = 2, .act = SETTLE_REJECT},
        {.cert_log = 2, .act = SETTLE_CONFIRM},
        {.cert_log = 3, .act = SETTLE_REVOKE, .reason = 7},
        {.cert_log = 3, .act = SETTLE_REVOKE, .reason = REASON_HOLD},
        {.cert_log = 3, .act = SETTLE_RELEASE},
        {.cert_log = 4, .act = SETTLE_RELEASE},
        {.cert_log = 6, .act = SETTLE_REJECT},
        {.cert_log = 5, .act = SETTLE_CONFIRM},
    };
    const enum err expected[] = {ERR_OK,
                                 ERR_CERT_CONFIRMED,
                                 ERR_CERT_UNKNOWN,
                                 ERR_OK,
                                 ERR_CERT_REVOKED,
                                 ERR_BAD_REQUEST,
                                 ERR_OK,
                                 ERR_OK,
                                 ERR_BAD_REQUEST,
                                 ERR_CERT_CONFIRMED,
                                 ERR_OK};
    enum { COUNT = sizeof(items) / sizeof(items[0]) };
    assert_int_equal(settle_all(fx, &facts, items, COUNT, (struct bytes){0}), ERR_OK);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(items[i].err, expected[i]);
    assert_int_equal(refused(fx), 4);
    check_whole(fx);
    assert_int_equal(settle_all(fx, &facts, NULL, 0, (struct bytes){0}), ERR_OK);
}

/* As many as a message can have, in one transaction, and all of them after a restart. */
static void a_full_set(void **state)
{
    static struct settle_item items[SETTLE_ITEMS_MAX];
    struct fixture *fx = *state;
    struct settle_facts facts = settle_facts_of(fx);
    for (uint32_t i = 0; i < SETTLE_ITEMS_MAX; i++) {
        char id[16];
        uint8_t buf[600];
        snprintf(id, sizeof(id), "dev-%u", i);
        struct issue_facts issued = fixture_facts(fx, fx->line_a, id, i + 1);
        issued.pending = 1;
        struct bytes cert = fixture_cert(&issued, buf);
        fixture_stage(fx, 0, device_apply, &issued, sizeof(issued), cert);
        items[i] = (struct settle_item){
            .cert_log = i + 1,
            .act = (uint8_t)(i % 2 == 0 ? SETTLE_CONFIRM : SETTLE_REJECT),
        };
    }
    store_kick(fx->store, 0);
    for (uint32_t i = 0; i < SETTLE_ITEMS_MAX; i++) {
        struct store_job *job = fixture_wait(fx, 0);
        assert_int_equal(job->err, ERR_OK);
        store_job_release(fx->store, 0, job);
    }
    check_whole(fx);
    assert_int_equal(settle_all(fx, &facts, items, SETTLE_ITEMS_MAX, (struct bytes){0}), ERR_OK);
    for (uint32_t i = 0; i < SETTLE_ITEMS_MAX; i++)
        assert_int_equal(items[i].err, ERR_OK);
    fixture_close(fx);
    fixture_open(fx, 1);
    check_whole(fx);
    struct store_reader *reader = fixture_reader(fx);
    uint64_t count = 0;
    assert_int_equal(reader_revoked_count(reader, fx->issuer, &count), ERR_OK);
    assert_int_equal(count, SETTLE_ITEMS_MAX / 2);
    fixture_reader_done(reader);
}

/* A text of any length from outside does not push out what the step says. */
static void a_long_why_is_cut(void **state)
{
    struct fixture *fx = *state;
    uint8_t why[3000];
    memset(why, 'x', sizeof(why));
    issue(fx, "dev-1", ISSUE_NEW, 0, 1, false);
    struct settle_facts facts = settle_facts_of(fx);
    struct settle_item item = {.cert_log = 1, .act = SETTLE_REVOKE};
    assert_int_equal(settle_all(fx, &facts, &item, 1, BYTES_ARRAY(why)), ERR_OK);
    assert_int_equal(item.err, ERR_OK);
    assert_memory_equal(fixture_last(fx).text, "reason=unspecified request=00112233445566ff xxx",
                        47);
    check_whole(fx);
}

/* The operator's way, beside the writer. */
static void an_operator_revokes_from_the_main_thread(void **state)
{
    struct fixture *fx = *state;
    static struct store_job job;
    issue(fx, "dev-1", ISSUE_NEW, 0, 1, false);
    struct settle_facts facts = {.protocol = PROTOCOL_CLI};
    struct settle_item item = {.cert_log = 1, .act = SETTLE_REVOKE, .reason = REASON_SUPERSEDED};
    struct settle_set set = {&item, 1};
    job = (struct store_job){.apply = settle_apply, .extra = &set};
    memcpy(job.facts, &facts, sizeof(facts));
    assert_int_equal(store_run(fx->store, &job), ERR_OK);
    assert_int_equal(item.err, ERR_OK);
    assert_true(commit_token_is_valid(fx->store, job.token));
    assert_int_equal(status(fx, 1), CERT_REVOKED);
    assert_int_equal(fixture_last(fx).record.protocol, PROTOCOL_CLI);
    check_whole(fx);
    assert_int_equal(store_run(fx->store, &job), ERR_OK);
    assert_int_equal(item.err, ERR_CERT_REVOKED);
}

/* A crash came between the revocation and the record of its answer, and the request comes again. */
static void the_same_request_again_is_done(void **state)
{
    struct fixture *fx = *state;
    struct settle_facts facts = settle_facts_of(fx);
    issue(fx, "dev-1", ISSUE_NEW, 0, 1, false);
    issue(fx, "dev-2", ISSUE_NEW, 0, 2, false);
    issue(fx, "dev-3", ISSUE_NEW, 0, 3, false);
    /* also one that asks twice for the same, of which the second is refused */
    const struct settle_item asked[] = {
        {.cert_log = 1, .act = SETTLE_REVOKE, .reason = REASON_KEY_COMPROMISE, .mark = "abcd"},
        {.cert_log = 2, .act = SETTLE_REVOKE, .reason = REASON_HOLD, .mark = "abce"},
        {.cert_log = 1, .act = SETTLE_REVOKE, .reason = REASON_KEY_COMPROMISE, .mark = "abcf"},
    };
    uint64_t journal = 0;
    for (int round = 0; round < 3; round++) {
        struct settle_item items[3];
        memcpy(items, asked, sizeof(items));
        fixture_close(fx);
        fixture_open(fx, 1);
        assert_int_equal(settle_all(fx, &facts, items, 3, (struct bytes){0}), ERR_OK);
        check_whole(fx);
        assert_int_equal(items[0].err, ERR_OK);
        assert_int_equal(items[1].err, ERR_OK);
        assert_int_equal(items[2].err, ERR_CERT_REVOKED);
        uint64_t now = fixture_verify(fx);
        assert_true(round == 0 || now == journal + 1); /* the refusal alone */
        journal = now;
    }
    /* another request, and one that names another reason, find it revoked */
    struct settle_item other = asked[0];
    other.mark[4] = 1;
    assert_int_equal(settle_all(fx, &facts, &other, 1, (struct bytes){0}), ERR_OK);
    assert_int_equal(other.err, ERR_CERT_REVOKED);
    other = asked[0];
    other.reason = REASON_CA_COMPROMISE;
    assert_int_equal(settle_all(fx, &facts, &other, 1, (struct bytes){0}), ERR_OK);
    assert_int_equal(other.err, ERR_CERT_REVOKED);
    /* what has no mark is never the same */
    for (int round = 0; round < 2; round++) {
        other = (struct settle_item){.cert_log = 3, .act = SETTLE_REVOKE};
        assert_int_equal(settle_all(fx, &facts, &other, 1, (struct bytes){0}), ERR_OK);
        assert_int_equal(other.err, round == 0 ? ERR_OK : ERR_CERT_REVOKED);
    }
    /* a hold that became a revocation for good is not on hold again */
    other = asked[1];
    other.reason = REASON_CESSATION;
    other.mark[0] = 'x';
    assert_int_equal(settle_all(fx, &facts, &other, 1, (struct bytes){0}), ERR_OK);
    assert_int_equal(other.err, ERR_OK);
    other = asked[1];
    assert_int_equal(settle_all(fx, &facts, &other, 1, (struct bytes){0}), ERR_OK);
    assert_int_equal(other.err, ERR_CERT_REVOKED);
}

static void the_same_release_again_is_done(void **state)
{
    struct fixture *fx = *state;
    struct settle_facts facts = settle_facts_of(fx);
    issue(fx, "dev-1", ISSUE_NEW, 0, 1, false);
    for (uint8_t time = 1; time < 3; time++) { /* on hold twice, each with its own release */
        const struct settle_item asked = {.cert_log = 1, .act = SETTLE_RELEASE, .mark = {time}};
        struct settle_item item = asked, other = asked;
        assert_int_equal(settle_log(fx, SETTLE_REVOKE, 1, REASON_HOLD), ERR_OK);
        uint64_t journal = fixture_verify(fx);
        for (int round = 0; round < 2; round++) {
            fixture_close(fx);
            fixture_open(fx, 1);
            item = asked;
            assert_int_equal(settle_all(fx, &facts, &item, 1, (struct bytes){0}), ERR_OK);
            assert_int_equal(item.err, ERR_OK);
            assert_int_equal(status(fx, 1), CERT_VALID);
            assert_int_equal(fixture_verify(fx), journal + 1);
        }
        other.mark[4] = 1;
        assert_int_equal(settle_all(fx, &facts, &other, 1, (struct bytes){0}), ERR_OK);
        assert_int_equal(other.err, ERR_BAD_REQUEST);
        assert_int_equal(settle_log(fx, SETTLE_RELEASE, 1, 0), ERR_BAD_REQUEST);
    }
    check_whole(fx);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_new_device_is_confirmed_once),
        TEST(the_same_release_again_is_done),
        TEST(a_confirmed_renewal_supersedes),
        TEST(what_is_not_the_caller_s_is_unknown),
        TEST(a_rejected_new_device_may_come_again),
        TEST(a_rejected_renewal_changes_nothing_for_the_device),
        TEST(only_what_waits_can_be_rejected),
        TEST(revoking_the_current_certificate_revokes_the_device),
        TEST(every_reason_there_is),
        TEST(a_superseded_one_can_be_revoked),
        TEST(a_hold_is_taken_back),
        TEST(a_hold_becomes_a_revocation),
        TEST(what_waits_on_the_word_of_a_revoked_certificate),
        TEST(revoking_what_waits),
        TEST(a_refused_item_stops_no_other),
        TEST(a_full_set),
        TEST(a_long_why_is_cut),
        TEST(an_operator_revokes_from_the_main_thread),
        TEST(the_same_request_again_is_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
