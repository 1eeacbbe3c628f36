/* Does every row of the device rules hold (design, section 7), the same before signing and inside
 * the transaction? */
#include "test_store_fixture.h"

/* What device_admit says on a snapshot, checked against what device_apply then does: the promise of
 * device.h is that the first never lets through what the second would refuse. */
static const struct store_job *ask(struct fixture *fx, struct issue_facts *facts)
{
    struct store_reader *reader = fixture_reader(fx);
    struct cert_view cert;
    enum err refusal;
    uint8_t stored[600];
    enum admit admit = device_admit(reader, facts, &cert, &refusal);
    uint32_t stored_len = admit == ADMIT_REPEAT ? (uint32_t)cert.der.len : 0;
    if (admit == ADMIT_REPEAT)
        memcpy(stored, cert.der.ptr, cert.der.len);
    assert_true(commit_token_is_valid(fx->store, reader_token(reader)));
    fixture_reader_done(reader);
    const struct store_job *job = fixture_issue(fx, facts);
    switch (admit) {
    case ADMIT_ISSUE:
        assert_int_equal(refusal, ERR_OK);
        assert_false(device_apply_was_repeat(job));
        break;
    case ADMIT_REPEAT:
        assert_int_equal(job->err, ERR_OK);
        assert_true(device_apply_was_repeat(job));
        assert_int_equal(job->data_len, stored_len);
        assert_memory_equal(job->data, stored, stored_len);
        break;
    case ADMIT_REFUSE:
        assert_int_equal(job->err, refusal);
        break;
    }
    assert_int_equal(commit_token_is_valid(fx->store, job->token), job->err == ERR_OK);
    fixture_verify(fx);
    return job;
}

static struct line_record line_a(struct fixture *fx)
{
    struct line_record record;
    struct store_reader *reader = fixture_reader(fx);
    assert_int_equal(reader_line(reader, "line-a", &record), ERR_OK);
    fixture_reader_done(reader);
    return record;
}

static void set_status(struct fixture *fx, uint64_t log, enum cert_status status);

/* --- rows --- */

static void new_device_new_key(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts facts = fixture_facts(fx, fx->line_a, "dev-1", 1);
    uint8_t buf[600];
    const struct store_job *job = ask(fx, &facts);
    struct bytes cert = fixture_cert(&facts, buf);
    assert_int_equal(job->err, ERR_OK);
    assert_int_equal(job->data_len, cert.len);
    assert_memory_equal(job->data, cert.ptr, cert.len);

    struct device_record device = fixture_device(fx, fx->line_a, "dev-1");
    assert_int_equal(device.state, DEVICE_ISSUED);
    assert_int_equal(device.issue_count, 1);
    struct cert_record record = fixture_cert_record(fx, device.cert_log);
    assert_int_equal(record.status, CERT_VALID);
    assert_memory_equal(record.fingerprint, facts.fingerprint, 32);
    assert_memory_equal(record.serial, facts.serial, SERIAL_LEN);
    assert_int_equal(record.not_after_s, facts.not_after_s);
    struct last_record last = fixture_last(fx);
    assert_int_equal(last.record.kind, JOURNAL_ISSUED);
    assert_int_equal(last.record.cert_log, device.cert_log);
    assert_string_equal(last.what, "dev-1");
    assert_string_equal(last.who, "st-1");
    assert_string_equal(last.text, "request=0123456789abcdef");
    assert_int_equal(line_a(fx).issued, 1);
    assert_true(line_a(fx).first_s != 0);
}

static void same_device_same_key_gets_the_same_bytes(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts first = fixture_facts(fx, fx->line_a, "dev-1", 1);
    uint8_t buf[600];
    struct bytes cert = fixture_cert(&first, buf);
    assert_int_equal(ask(fx, &first)->err, ERR_OK);
    for (int i = 0; i < 3; i++) {
        struct issue_facts again = fixture_facts(fx, fx->line_a, "dev-1", 1);
        const struct store_job *job = ask(fx, &again);
        assert_int_equal(job->err, ERR_OK);
        assert_true(device_apply_was_repeat(job));
        assert_int_equal(job->data_len, cert.len);
        assert_memory_equal(job->data, cert.ptr, cert.len);
    }
    assert_int_equal(line_a(fx).issued, 1); /* nothing is spent */
    assert_int_equal(fixture_last(fx).record.kind, JOURNAL_REPEATED);
    struct store_stats stats;
    store_stats(fx->store, &stats);
    assert_int_equal(stats.cert_count, 1);
    assert_int_equal(stats.device_count, 1);
}

static void same_device_same_key_revoked(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts facts = fixture_facts(fx, fx->line_a, "dev-1", 1);
    assert_int_equal(ask(fx, &facts)->err, ERR_OK);
    uint64_t log = fixture_device(fx, fx->line_a, "dev-1").cert_log;
    set_status(fx, log, CERT_REVOKED);
    for (int kind = ISSUE_NEW; kind <= ISSUE_REWORK; kind++) {
        struct issue_facts again = fixture_facts(fx, fx->line_a, "dev-1", 1);
        again.kind = (uint8_t)kind;
        again.current_log = log;
        assert_int_equal(ask(fx, &again)->err, ERR_CERT_REVOKED);
    }
    set_status(fx, log, CERT_ON_HOLD);
    struct issue_facts held = fixture_facts(fx, fx->line_a, "dev-1", 1);
    assert_int_equal(ask(fx, &held)->err, ERR_CERT_REVOKED);
    /* a renewal with a new key does not get around it */
    struct issue_facts fresh = fixture_facts(fx, fx->line_a, "dev-1", 2);
    fresh.kind = ISSUE_RENEWAL;
    fresh.current_log = log;
    assert_int_equal(ask(fx, &fresh)->err, ERR_CERT_REVOKED);
    set_status(fx, log, CERT_VALID);
    struct issue_facts lifted = fixture_facts(fx, fx->line_a, "dev-1", 1);
    assert_true(device_apply_was_repeat(ask(fx, &lifted)));
}

static void same_device_new_key_is_refused(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts facts = fixture_facts(fx, fx->line_a, "dev-1", 1);
    assert_int_equal(ask(fx, &facts)->err, ERR_OK);
    struct issue_facts other = fixture_facts(fx, fx->line_a, "dev-1", 2);
    const struct store_job *job = ask(fx, &other);
    assert_int_equal(job->err, ERR_DEVICE_PROVISIONED);
    struct last_record last = fixture_last(fx);
    assert_int_equal(last.record.kind, JOURNAL_REFUSED);
    assert_int_equal(last.record.err, ERR_DEVICE_PROVISIONED);
    assert_string_equal(last.text, "device-already-provisioned request=0123456789abcdef");
    assert_int_equal(line_a(fx).issued, 1);
    assert_int_equal(line_a(fx).refused, 1);
    /* the refused key was not taken */
    struct issue_facts elsewhere = fixture_facts(fx, fx->line_a, "dev-2", 2);
    assert_int_equal(ask(fx, &elsewhere)->err, ERR_OK);
}

static void key_of_another_device_is_refused_with_both_names(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts facts = fixture_facts(fx, fx->line_a, "dev-1", 1);
    assert_int_equal(ask(fx, &facts)->err, ERR_OK);
    for (int kind = ISSUE_NEW; kind <= ISSUE_REWORK; kind++) {
        struct issue_facts clone = fixture_facts(fx, fx->line_a, "dev-2", 1);
        clone.kind = (uint8_t)kind;
        clone.current_log = 1;
        assert_int_equal(ask(fx, &clone)->err, ERR_KEY_USED);
        struct last_record last = fixture_last(fx);
        assert_int_equal(last.record.err, ERR_KEY_USED);
        assert_string_equal(last.text,
                            "key-already-used request=0123456789abcdef device=dev-2 line=1 "
                            "owner-device=dev-1 owner-line=1 owner-certificate=1");
    }
    /* the key belongs to line and device */
    struct issue_facts other_line = fixture_facts(fx, fx->line_b, "dev-1", 1);
    assert_int_equal(ask(fx, &other_line)->err, ERR_KEY_USED);
    /* the same id on another line is another device */
    struct issue_facts other_key = fixture_facts(fx, fx->line_b, "dev-1", 2);
    assert_int_equal(ask(fx, &other_key)->err, ERR_OK);
    /* a key stays taken after its device has another */
    struct issue_facts renewal = fixture_facts(fx, fx->line_a, "dev-1", 3);
    renewal.kind = ISSUE_RENEWAL;
    renewal.current_log = fixture_device(fx, fx->line_a, "dev-1").cert_log;
    assert_int_equal(ask(fx, &renewal)->err, ERR_OK);
    struct issue_facts late = fixture_facts(fx, fx->line_a, "dev-3", 1);
    assert_int_equal(ask(fx, &late)->err, ERR_KEY_USED);
}

static void admit_names_the_owner_of_a_used_key(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts facts = fixture_facts(fx, fx->line_a, "dev-1", 1);
    assert_int_equal(ask(fx, &facts)->err, ERR_OK);
    struct issue_facts clone = fixture_facts(fx, fx->line_b, "dev-9", 1);
    struct store_reader *reader = fixture_reader(fx);
    struct cert_view owner;
    enum err refusal;
    char buf[200];
    assert_int_equal(device_admit(reader, &clone, &owner, &refusal), ADMIT_REFUSE);
    struct writer text = writer_of(buf, sizeof(buf));
    device_refusal_text(refusal, &clone, &owner, &text);
    assert_true(bytes_eq(writer_view(&text), BYTES_LIT("device=dev-9 line=2 owner-device=dev-1 "
                                                       "owner-line=1 owner-certificate=1")));
    fixture_reader_done(reader);
}

/* --- renewal --- */

static struct issue_facts renewal_of(struct fixture *fx, const char *device_id, uint64_t log,
                                     uint64_t key)
{
    struct issue_facts facts = fixture_facts(fx, fx->line_a, device_id, key);
    facts.kind = ISSUE_RENEWAL;
    facts.caller = CALLER_DEVICE;
    facts.current_log = log;
    return facts;
}

static void renewal_issues_anew_and_supersedes(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts facts = fixture_facts(fx, fx->line_a, "dev-1", 1);
    assert_int_equal(ask(fx, &facts)->err, ERR_OK);
    /* with the same key, then with a new one */
    for (uint64_t log = 1; log <= 2; log++) {
        struct issue_facts renewal = renewal_of(fx, "dev-1", log, log);
        const struct store_job *job = ask(fx, &renewal);
        assert_int_equal(job->err, ERR_OK);
        assert_false(device_apply_was_repeat(job));
        struct device_record device = fixture_device(fx, fx->line_a, "dev-1");
        assert_int_equal(device.cert_log, log + 1);
        assert_int_equal(device.issue_count, log + 1);
        struct cert_record old = fixture_cert_record(fx, log);
        assert_int_equal(old.status, CERT_SUPERSEDED);
        assert_int_equal(old.replaced_by, log + 1);
        assert_true(old.status_s != 0);
        struct cert_record new = fixture_cert_record(fx, log + 1);
        assert_int_equal(new.status, CERT_VALID);
        struct last_record last = fixture_last(fx);
        assert_int_equal(last.record.kind, JOURNAL_ISSUED);
        char text[64];
        snprintf(text, sizeof(text), "renewal-of=%d request=0123456789abcdef", (int)log);
        assert_string_equal(last.text, text);
    }
    assert_int_equal(line_a(fx).issued, 3);
    /* the old certificate's bytes were not touched by its new status */
    struct store_reader *reader = fixture_reader(fx);
    struct cert_view view;
    uint8_t buf[600];
    struct bytes cert = fixture_cert(&facts, buf);
    assert_int_equal(reader_cert(reader, 1, &view), ERR_OK);
    assert_true(bytes_eq(view.der, cert));
    assert_true(bytes_eq(view.device_id, BYTES_LIT("dev-1")));
    fixture_reader_done(reader);
}

static void retransmitted_renewal_gets_the_same_bytes(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts facts = fixture_facts(fx, fx->line_a, "dev-1", 1);
    assert_int_equal(ask(fx, &facts)->err, ERR_OK);
    for (uint64_t key = 1; key <= 2; key++) { /* same key, new key */
        uint64_t log = fixture_device(fx, fx->line_a, "dev-1").cert_log;
        struct issue_facts renewal = renewal_of(fx, "dev-1", log, key);
        uint8_t buf[600];
        struct bytes cert = fixture_cert(&renewal, buf);
        assert_int_equal(ask(fx, &renewal)->err, ERR_OK);
        struct issue_facts again = renewal_of(fx, "dev-1", log, key);
        const struct store_job *job = ask(fx, &again);
        assert_int_equal(job->err, ERR_OK);
        assert_true(device_apply_was_repeat(job));
        assert_int_equal(job->data_len, cert.len);
        assert_memory_equal(job->data, cert.ptr, cert.len);
    }
    assert_int_equal(line_a(fx).issued, 3);
}

static void renewal_by_a_superseded_certificate_is_refused(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts facts = fixture_facts(fx, fx->line_a, "dev-1", 1);
    assert_int_equal(ask(fx, &facts)->err, ERR_OK);
    struct issue_facts second = renewal_of(fx, "dev-1", 1, 2);
    assert_int_equal(ask(fx, &second)->err, ERR_OK);
    /* the old one again, for a third key: no retransmission */
    struct issue_facts third = renewal_of(fx, "dev-1", 1, 3);
    assert_int_equal(ask(fx, &third)->err, ERR_CLIENT_CERT_REVOKED);
    /* two generations back, although for the current key */
    struct issue_facts next = renewal_of(fx, "dev-1", 2, 2);
    assert_int_equal(ask(fx, &next)->err, ERR_OK);
    struct issue_facts back = renewal_of(fx, "dev-1", 1, 2);
    assert_int_equal(ask(fx, &back)->err, ERR_CLIENT_CERT_REVOKED);
    /* a retransmission whose result was revoked since */
    set_status(fx, 3, CERT_REVOKED);
    struct issue_facts revoked = renewal_of(fx, "dev-1", 2, 2);
    assert_int_equal(ask(fx, &revoked)->err, ERR_CERT_REVOKED);
}

static void renewal_needs_the_device_s_own_certificate(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts one = fixture_facts(fx, fx->line_a, "dev-1", 1);
    struct issue_facts two = fixture_facts(fx, fx->line_a, "dev-2", 2);
    assert_int_equal(ask(fx, &one)->err, ERR_OK);
    assert_int_equal(ask(fx, &two)->err, ERR_OK);
    struct issue_facts foreign = renewal_of(fx, "dev-1", 2, 3);
    assert_int_equal(ask(fx, &foreign)->err, ERR_IDENTITY_MISMATCH);
    struct issue_facts unknown = renewal_of(fx, "dev-1", 99, 3);
    assert_int_equal(ask(fx, &unknown)->err, ERR_CERT_UNKNOWN);
    struct issue_facts stranger = renewal_of(fx, "dev-7", 1, 3);
    assert_int_equal(ask(fx, &stranger)->err, ERR_IDENTITY_MISMATCH);
    /* the same id on another line is another device */
    struct issue_facts other_line = renewal_of(fx, "dev-1", 1, 3);
    other_line.line_id = fx->line_b;
    assert_int_equal(ask(fx, &other_line)->err, ERR_IDENTITY_MISMATCH);
}

static void enrolling_with_the_old_key_after_a_renewal_is_refused(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts facts = fixture_facts(fx, fx->line_a, "dev-1", 1);
    assert_int_equal(ask(fx, &facts)->err, ERR_OK);
    struct issue_facts renewal = renewal_of(fx, "dev-1", 1, 2);
    assert_int_equal(ask(fx, &renewal)->err, ERR_OK);
    struct issue_facts old = fixture_facts(fx, fx->line_a, "dev-1", 1);
    assert_int_equal(ask(fx, &old)->err, ERR_DEVICE_PROVISIONED);
    /* and once that key's certificate is revoked, no renewal goes back to it */
    set_status(fx, 1, CERT_REVOKED);
    struct issue_facts back = renewal_of(fx, "dev-1", 2, 1);
    assert_int_equal(ask(fx, &back)->err, ERR_CERT_REVOKED);
}

/* --- rework --- */

static void rework_issues_for_a_new_key(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts facts = fixture_facts(fx, fx->line_a, "dev-1", 1);
    assert_int_equal(ask(fx, &facts)->err, ERR_OK);
    struct issue_facts rework = fixture_facts(fx, fx->line_a, "dev-1", 2);
    rework.kind = ISSUE_REWORK;
    assert_int_equal(ask(fx, &rework)->err, ERR_OK);
    assert_int_equal(fixture_cert_record(fx, 1).status, CERT_SUPERSEDED);
    assert_int_equal(fixture_cert_record(fx, 1).replaced_by, 2);
    assert_string_equal(fixture_last(fx).text, "rework-of=1 request=0123456789abcdef");
    /* the station's repetition gets the same bytes */
    struct issue_facts again = fixture_facts(fx, fx->line_a, "dev-1", 2);
    again.kind = ISSUE_REWORK;
    assert_true(device_apply_was_repeat(ask(fx, &again)));
    /* a revoked device comes back through rework, its certificate stays revoked */
    set_status(fx, 2, CERT_REVOKED);
    struct issue_facts repaired = fixture_facts(fx, fx->line_a, "dev-1", 3);
    repaired.kind = ISSUE_REWORK;
    assert_int_equal(ask(fx, &repaired)->err, ERR_OK);
    assert_int_equal(fixture_cert_record(fx, 2).status, CERT_REVOKED);
    assert_int_equal(fixture_cert_record(fx, 2).replaced_by, 3);
    /* a device that was never here */
    struct issue_facts unseen = fixture_facts(fx, fx->line_a, "dev-2", 4);
    unseen.kind = ISSUE_REWORK;
    assert_int_equal(ask(fx, &unseen)->err, ERR_OK);
}

/* --- what must not happen --- */

static void a_serial_twice_is_our_error_and_changes_nothing(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts one = fixture_facts(fx, fx->line_a, "dev-1", 1);
    assert_int_equal(ask(fx, &one)->err, ERR_OK);
    struct issue_facts two = fixture_facts(fx, fx->line_a, "dev-2", 2);
    memcpy(two.serial, one.serial, sizeof(two.serial));
    assert_int_equal(fixture_issue(fx, &two)->err, ERR_INTERNAL);
    assert_int_equal(fixture_device(fx, fx->line_a, "dev-2").cert_log, 0);
    assert_int_equal(line_a(fx).issued, 1);
    /* the same serial of another issuer is another serial */
    two.issuer_id = fx->issuer + 1;
    assert_int_equal(fixture_issue(fx, &two)->err, ERR_OK);
}

/* In one transaction with others: the good ones are not taken along. */
static void a_refusal_does_not_disturb_its_batch(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts facts[6];
    uint8_t buf[600];
    struct {
        const char *id;
        uint64_t key;
        enum err err;
    } plan[6] = {
        {"dev-1", 1, ERR_OK},       {"dev-1", 2, ERR_DEVICE_PROVISIONED},
        {"dev-2", 1, ERR_KEY_USED}, {"dev-3", 3, ERR_OK},
        {"dev-1", 1, ERR_OK},       {"dev-4", 4, ERR_OK},
    };
    for (int i = 0; i < 6; i++) {
        facts[i] = fixture_facts(fx, fx->line_a, plan[i].id, plan[i].key);
        struct bytes cert = fixture_cert(&facts[i], buf);
        struct store_job *job =
            fixture_stage(fx, 0, device_apply, &facts[i], sizeof(facts[i]), cert);
        job->tag = (uint64_t)i;
    }
    store_kick(fx->store, 0);
    for (int i = 0; i < 6; i++) {
        struct store_job *job = fixture_wait(fx, 0);
        assert_int_equal(job->err, plan[job->tag].err);
        assert_int_equal(device_apply_was_repeat(job), job->tag == 4);
        if (job->tag == 4) {
            struct bytes cert = fixture_cert(&facts[0], buf);
            assert_true(bytes_eq(bytes_of(job->data, job->data_len), cert));
        }
        store_job_release(fx->store, 0, job);
    }
    struct store_stats stats;
    store_stats(fx->store, &stats);
    assert_int_equal(stats.cert_count, 3);
    assert_int_equal(line_a(fx).issued, 3);
    assert_int_equal(line_a(fx).refused, 2);
    fixture_verify(fx);
}

static void an_unknown_line_issues_nothing(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts facts = fixture_facts(fx, fx->line_a, "dev-1", 1);
    facts.line_id = 77;
    assert_int_equal(fixture_issue(fx, &facts)->err, ERR_INTERNAL);
    struct issue_facts good = fixture_facts(fx, fx->line_a, "dev-1", 1);
    assert_int_equal(ask(fx, &good)->err, ERR_OK);
    struct store_stats stats;
    store_stats(fx->store, &stats);
    assert_int_equal(stats.cert_count, 1);
}

/* Sets a certificate's status as the CLI's revocation does. */
struct status_facts {
    uint64_t log;
    uint8_t status;
};

static enum err status_apply(struct store_txn *txn, struct store_job *job)
{
    const struct status_facts *facts = (const void *)job->facts;
    struct cert_view view;
    enum err err = txn_cert_get(txn, facts->log, &view);
    if (err != ERR_OK)
        return err;
    struct cert_record record = *view.record;
    record.status = facts->status;
    return txn_cert_update(txn, facts->log, &record);
}

static void set_status(struct fixture *fx, uint64_t log, enum cert_status status)
{
    struct status_facts facts = {log, (uint8_t)status};
    assert_int_equal(fixture_run(fx, status_apply, &facts, sizeof(facts), (struct bytes){0})->err,
                     ERR_OK);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(new_device_new_key),
        TEST(same_device_same_key_gets_the_same_bytes),
        TEST(same_device_same_key_revoked),
        TEST(same_device_new_key_is_refused),
        TEST(key_of_another_device_is_refused_with_both_names),
        TEST(admit_names_the_owner_of_a_used_key),
        TEST(renewal_issues_anew_and_supersedes),
        TEST(retransmitted_renewal_gets_the_same_bytes),
        TEST(renewal_by_a_superseded_certificate_is_refused),
        TEST(renewal_needs_the_device_s_own_certificate),
        TEST(enrolling_with_the_old_key_after_a_renewal_is_refused),
        TEST(rework_issues_for_a_new_key),
        TEST(a_serial_twice_is_our_error_and_changes_nothing),
        TEST(a_refusal_does_not_disturb_its_batch),
        TEST(an_unknown_line_issues_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
