/* Does a reader see exactly what was committed when its snapshot began, record by record and in
 * walks? */
#include "test_store_fixture.h"

/* --- every kind of record, written by one job --- */

static const uint8_t some_serial[SERIAL_LEN] = {1, 2, 3};

static enum err write_all_apply(struct store_txn *txn, struct store_job *job)
{
    struct revoked_record revoked = {
        .version = STORE_SCHEMA_VERSION, .reason = 4, .time_s = 77, .cert_log = 5};
    struct transaction_record record = {.version = STORE_SCHEMA_VERSION,
                                        .protocol = PROTOCOL_CMP,
                                        .state = 3,
                                        .data_len = 4,
                                        .expiry_s = 99};
    struct transaction_record got;
    struct bytes data;
    (void)job;
    enum err err = txn_revoked_put(txn, 9, BYTES_ARRAY(some_serial), &revoked);
    if (err == ERR_OK)
        err = txn_transaction_put(txn, BYTES_LIT("tx-1"), &record, BYTES_LIT("data"));
    if (err == ERR_OK)
        err = txn_transaction_get(txn, BYTES_LIT("tx-1"), &got, &data);
    if (err == ERR_OK && (got.state != 3 || !bytes_eq(data, BYTES_LIT("data"))))
        err = ERR_STORE_FAILED;
    if (err == ERR_OK && txn_transaction_get(txn, BYTES_LIT("tx-2"), &got, &data) != ERR_NOT_FOUND)
        err = ERR_STORE_FAILED;
    return err;
}

static enum err delete_all_apply(struct store_txn *txn, struct store_job *job)
{
    struct revoked_record released = {.version = STORE_SCHEMA_VERSION, .reason = REASON_REMOVE};
    (void)job;
    enum err err = txn_revoked_put(txn, 9, BYTES_ARRAY(some_serial), &released);
    return err == ERR_OK ? txn_transaction_del(txn, BYTES_LIT("tx-1")) : err;
}

static enum err delete_absent_apply(struct store_txn *txn, struct store_job *job)
{
    uint64_t log;
    (void)job;
    if (txn_serial_find(txn, 1, BYTES_ARRAY(some_serial), &log) != ERR_NOT_FOUND)
        return ERR_STORE_FAILED;
    return txn_transaction_del(txn, BYTES_LIT("tx-1")) == ERR_NOT_FOUND ? ERR_OK : ERR_STORE_FAILED;
}

static enum err run(struct fixture *fx, enum err (*apply)(struct store_txn *, struct store_job *))
{
    return fixture_run(fx, apply, NULL, 0, (struct bytes){0})->err;
}

static void records_one_by_one(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts facts = fixture_facts(fx, fx->line_a, "dev-1", 1);
    uint8_t buf[600];
    struct bytes cert = fixture_cert(&facts, buf);
    assert_int_equal(fixture_issue(fx, &facts)->err, ERR_OK);
    assert_int_equal(run(fx, write_all_apply), ERR_OK);

    struct store_reader *reader = fixture_reader(fx);
    struct device_record device;
    struct key_view key;
    struct cert_view view;
    struct line_record line;
    struct revoked_record revoked;
    struct transaction_record transaction;
    struct bytes data;
    uint64_t log;
    assert_int_equal(reader_device(reader, fx->line_a, BYTES_LIT("dev-1"), &device), ERR_OK);
    assert_memory_equal(device.spki_hash, facts.spki_hash, 32);
    assert_int_equal(reader_device(reader, fx->line_b, BYTES_LIT("dev-1"), &device), ERR_NOT_FOUND);
    assert_int_equal(reader_key(reader, facts.spki_hash, &key), ERR_OK);
    assert_true(bytes_eq(key.device_id, BYTES_LIT("dev-1")));
    assert_int_equal(key.record->line_id, fx->line_a);
    assert_int_equal(key.record->cert_log, 1);
    assert_int_equal(reader_key(reader, facts.fingerprint, &key), ERR_NOT_FOUND);
    assert_int_equal(reader_cert(reader, 1, &view), ERR_OK);
    assert_int_equal(view.log, 1);
    assert_true(bytes_eq(view.der, cert));
    assert_true(bytes_eq(view.device_id, BYTES_LIT("dev-1")));
    assert_true(bytes_eq(view.station, BYTES_LIT("st-1")));
    assert_int_equal(reader_cert(reader, 2, &view), ERR_NOT_FOUND);
    assert_int_equal(reader_serial(reader, fx->issuer, BYTES_ARRAY(facts.serial), &log), ERR_OK);
    assert_int_equal(log, 1);
    assert_int_equal(reader_serial(reader, 77, BYTES_ARRAY(facts.serial), &log), ERR_NOT_FOUND);
    assert_int_equal(reader_line(reader, "line-a", &line), ERR_OK);
    assert_int_equal(line.line_id, fx->line_a);
    assert_int_equal(reader_line(reader, "line-z", &line), ERR_NOT_FOUND);
    assert_int_equal(reader_revoked(reader, 9, BYTES_ARRAY(some_serial), &revoked), ERR_OK);
    assert_int_equal(revoked.reason, 4);
    assert_int_equal(revoked.time_s, 77);
    assert_int_equal(reader_transaction(reader, BYTES_LIT("tx-1"), &transaction, &data), ERR_OK);
    assert_int_equal(transaction.expiry_s, 99);
    assert_true(bytes_eq(data, BYTES_LIT("data")));
    reader_end(reader);

    assert_int_equal(run(fx, delete_all_apply), ERR_OK);
    assert_int_equal(reader_begin(reader), ERR_OK);
    assert_int_equal(reader_revoked(reader, 9, BYTES_ARRAY(some_serial), &revoked), ERR_NOT_FOUND);
    assert_int_equal(reader_transaction(reader, BYTES_LIT("tx-1"), &transaction, &data),
                     ERR_NOT_FOUND);
    fixture_reader_done(reader);
    assert_int_equal(run(fx, delete_absent_apply), ERR_OK);
}

static void a_snapshot_stands_still(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts one = fixture_facts(fx, fx->line_a, "dev-1", 1);
    assert_int_equal(fixture_issue(fx, &one)->err, ERR_OK);
    struct store_reader *before = fixture_reader(fx);
    struct cert_view view;
    assert_int_equal(reader_cert(before, 1, &view), ERR_OK);
    /* the certificate it looks at is superseded and a thousand records are written around it */
    struct issue_facts renewal = fixture_facts(fx, fx->line_a, "dev-1", 2);
    renewal.kind = ISSUE_RENEWAL;
    renewal.current_log = 1;
    assert_int_equal(fixture_issue(fx, &renewal)->err, ERR_OK);
    for (uint64_t i = 0; i < 100; i++) {
        char id[16];
        snprintf(id, sizeof(id), "x-%d", (int)i);
        struct issue_facts facts = fixture_facts(fx, fx->line_a, id, 100 + i);
        assert_int_equal(fixture_issue(fx, &facts)->err, ERR_OK);
    }
    struct cert_view other;
    struct device_record device;
    assert_int_equal(view.record->status, CERT_VALID);
    assert_int_equal(reader_cert(before, 2, &other), ERR_NOT_FOUND);
    assert_int_equal(reader_device(before, fx->line_a, BYTES_LIT("dev-1"), &device), ERR_OK);
    assert_int_equal(device.cert_log, 1);
    reader_end(before);
    assert_int_equal(reader_begin(before), ERR_OK);
    assert_int_equal(reader_cert(before, 1, &view), ERR_OK);
    assert_int_equal(view.record->status, CERT_SUPERSEDED);
    assert_int_equal(reader_cert(before, 102, &other), ERR_OK);
    fixture_reader_done(before);
}

/* --- walks --- */

struct seen {
    uint64_t number[64];
    int count, stop_at;
};

static bool see(struct seen *seen, uint64_t number)
{
    assert_true(seen->count < 64);
    seen->number[seen->count++] = number;
    return seen->count != seen->stop_at;
}

static bool see_cert(void *ctx, const struct cert_view *cert)
{
    return see(ctx, cert->log);
}

static bool see_record(void *ctx, const struct journal_record *record, struct bytes who,
                       struct bytes what, struct bytes text)
{
    (void)who;
    (void)what;
    (void)text;
    return see(ctx, record->sequence);
}

static bool see_line(void *ctx, struct bytes name, const struct line_record *line)
{
    assert_true(bytes_starts_with(name, BYTES_LIT("line-")));
    return see(ctx, line->line_id);
}

static bool see_device(void *ctx, uint32_t line_id, struct bytes device_id,
                       const struct device_record *device)
{
    assert_true(bytes_starts_with(device_id, BYTES_LIT("dev-")));
    assert_int_not_equal(line_id, 0);
    return see(ctx, device->cert_log);
}

static void assert_seen(const struct seen *seen, uint64_t from, int step, int count)
{
    assert_int_equal(seen->count, count);
    for (int i = 0; i < count; i++)
        assert_int_equal(seen->number[i], from + (uint64_t)(step * i));
}

static void issue_ten(struct fixture *fx)
{
    for (uint64_t i = 0; i < 10; i++) { /* 1..5 on line a, 6..10 on line b */
        char id[16];
        snprintf(id, sizeof(id), "dev-%02d", (int)i);
        struct issue_facts facts = fixture_facts(fx, i < 5 ? fx->line_a : fx->line_b, id, 1 + i);
        assert_int_equal(fixture_issue(fx, &facts)->err, ERR_OK);
    }
}

static void walks_by_number(void **state)
{
    struct fixture *fx = *state;
    static const struct {
        uint64_t from;
        bool backward;
        int stop_at;
        uint64_t first;
        int step, count;
    } plan[] = {
        {0, false, 0, 1, 1, 10}, {0, true, 0, 10, -1, 10}, {4, false, 0, 4, 1, 7},
        {4, true, 0, 4, -1, 4},  {0, false, 3, 1, 1, 3},   {99, true, 0, 10, -1, 10},
        {99, false, 0, 0, 1, 0}, {10, false, 0, 10, 1, 1}, {1, true, 0, 1, -1, 1},
    };
    struct store_reader *reader = fixture_reader(fx);
    struct seen none = {0};
    assert_int_equal(reader_certs_each(reader, 0, false, see_cert, &none), ERR_OK);
    assert_int_equal(reader_certs_each(reader, 0, true, see_cert, &none), ERR_OK);
    assert_int_equal(none.count, 0);
    reader_end(reader);
    issue_ten(fx);
    assert_int_equal(reader_begin(reader), ERR_OK);
    for (size_t i = 0; i < sizeof(plan) / sizeof(plan[0]); i++) {
        struct seen certs = {.stop_at = plan[i].stop_at}, records = certs;
        assert_int_equal(
            reader_certs_each(reader, plan[i].from, plan[i].backward, see_cert, &certs), ERR_OK);
        assert_seen(&certs, plan[i].first, plan[i].step, plan[i].count);
        assert_int_equal(
            reader_journal_each(reader, plan[i].from, plan[i].backward, see_record, &records),
            ERR_OK);
        assert_seen(&records, plan[i].first, plan[i].step, plan[i].count);
    }
    fixture_reader_done(reader);
}

static void walks_of_lines_and_devices(void **state)
{
    struct fixture *fx = *state;
    issue_ten(fx);
    struct store_reader *reader = fixture_reader(fx);
    struct seen lines = {0}, all = {0}, a = {0}, b = {0}, none = {0};
    assert_int_equal(reader_lines_each(reader, see_line, &lines), ERR_OK);
    assert_seen(&lines, 1, 1, 2);
    assert_int_equal(reader_devices_each(reader, 0, see_device, &all), ERR_OK);
    assert_seen(&all, 1, 1, 10);
    assert_int_equal(reader_devices_each(reader, fx->line_a, see_device, &a), ERR_OK);
    assert_seen(&a, 1, 1, 5);
    assert_int_equal(reader_devices_each(reader, fx->line_b, see_device, &b), ERR_OK);
    assert_seen(&b, 6, 1, 5);
    assert_int_equal(reader_devices_each(reader, 3, see_device, &none), ERR_OK);
    assert_int_equal(none.count, 0);
    fixture_reader_done(reader);
}

/* Many lines in one transaction: more than it keeps counters for. */
enum { LINES = LINES_MAX + 10 };

static enum err count_lines_apply(struct store_txn *txn, struct store_job *job)
{
    (void)job;
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < LINES; i++) {
            enum err err = txn_line_count(txn, i + 3, i, 1);
            if (err != ERR_OK)
                return err;
        }
    }
    return txn_line_count(txn, LINES + 3, 1, 1) == ERR_NOT_FOUND ? ERR_OK : ERR_STORE_FAILED;
}

static void line_counters_of_one_transaction(void **state)
{
    struct fixture *fx = *state;
    char name[LINE_NAME_MAX + 1];
    for (uint32_t i = 0; i < LINES; i++) {
        uint32_t id;
        snprintf(name, sizeof(name), "many-%03u", i);
        assert_int_equal(store_line_id(fx->store, name, &id), ERR_OK);
        assert_int_equal(id, i + 3);
    }
    assert_int_equal(run(fx, count_lines_apply), ERR_OK);
    struct store_reader *reader = fixture_reader(fx);
    for (uint32_t i = 0; i < LINES; i++) {
        struct line_record line;
        snprintf(name, sizeof(name), "many-%03u", i);
        assert_int_equal(reader_line(reader, name, &line), ERR_OK);
        assert_int_equal(line.line_id, i + 3);
        assert_int_equal(line.issued, 2 * i);
        assert_int_equal(line.refused, 2);
        assert_int_equal(line.first_s != 0, i != 0);
    }
    fixture_reader_done(reader);
}

/* A certificate of any size up to the bound, on one page and over several. */
static void certificates_of_every_size(void **state)
{
    struct fixture *fx = *state;
    static uint8_t der[CERT_DER_MAX];
    static const size_t lens[] = {1, 500, 1700, 1900, 2100, 4000, 4096, 6000, CERT_DER_MAX};
    for (size_t i = 0; i < sizeof(der); i++)
        der[i] = (uint8_t)(i * 7 + i / 256);
    for (uint64_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
        char id[16];
        snprintf(id, sizeof(id), "d%d", (int)i);
        struct issue_facts facts = fixture_facts(fx, fx->line_a, id, i + 1);
        assert_int_equal(
            fixture_run(fx, device_apply, &facts, sizeof(facts), bytes_of(der, lens[i]))->err,
            ERR_OK);
        struct issue_facts again = fixture_facts(fx, fx->line_a, id, i + 1);
        const struct store_job *job =
            fixture_run(fx, device_apply, &again, sizeof(again), BYTES_LIT("another"));
        assert_true(device_apply_was_repeat(job));
        assert_true(bytes_eq(bytes_of(job->data, job->data_len), bytes_of(der, lens[i])));
        /* renewed: the old record is rewritten around its bytes */
        struct issue_facts renewal = fixture_facts(fx, fx->line_a, id, i + 1);
        renewal.kind = ISSUE_RENEWAL;
        renewal.current_log = 2 * i + 1;
        assert_int_equal(
            fixture_run(fx, device_apply, &renewal, sizeof(renewal), bytes_of(der, lens[i]))->err,
            ERR_OK);
        struct store_reader *reader = fixture_reader(fx);
        struct cert_view view;
        assert_int_equal(reader_cert(reader, 2 * i + 1, &view), ERR_OK);
        assert_int_equal(view.record->status, CERT_SUPERSEDED);
        assert_true(bytes_eq(view.der, bytes_of(der, lens[i])));
        fixture_reader_done(reader);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(records_one_by_one),
        TEST(a_snapshot_stands_still),
        TEST(walks_by_number),
        TEST(walks_of_lines_and_devices),
        TEST(line_counters_of_one_transaction),
        TEST(certificates_of_every_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
