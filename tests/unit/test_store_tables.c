/* Do the tables of revocations, CRLs and of what waits give back what was put into them, in order? */
#include "test_store_step.h"

/* --- devices and what waits --- */

static enum err put_waiting(struct store_txn *txn, void *ctx)
{
    struct fixture *fx = ctx;
    struct device_record record = {.version = STORE_SCHEMA_VERSION, .cert_log = 7};
    struct pending_record pending = {0};
    enum err err = txn_pending_get(txn, fx->line_a, BYTES_LIT("dev-1"), &pending);
    if (err != ERR_NOT_FOUND)
        return ERR_STORE_FAILED;
    err = txn_device_put(txn, fx->line_a, BYTES_LIT("dev-1"), &record);
    if (err == ERR_OK)
        err = txn_pending_put(txn, fx->line_a, BYTES_LIT("dev-1"),
                              &(struct pending_record){41, 7});
    if (err == ERR_OK)
        err = txn_pending_put(txn, fx->line_a, BYTES_LIT("dev-1"),
                              &(struct pending_record){42, 8});
    if (err == ERR_OK)
        err = txn_pending_get(txn, fx->line_a, BYTES_LIT("dev-1"), &pending);
    return err == ERR_OK && pending.log != 42 ? ERR_STORE_FAILED : err;
}

static enum err drop_waiting(struct store_txn *txn, void *ctx)
{
    struct fixture *fx = ctx;
    enum err err = txn_pending_del(txn, fx->line_a, BYTES_LIT("dev-1"));
    return err != ERR_OK ? err : txn_device_del(txn, fx->line_a, BYTES_LIT("dev-1"));
}

static void a_device_and_what_waits_are_deleted(void **state)
{
    struct fixture *fx = *state;
    struct pending_record pending = {0};
    assert_int_equal(run(fx, put_waiting, fx), ERR_OK);
    reopen(fx);
    struct store_reader *reader = fixture_reader(fx);
    assert_int_equal(reader_pending(reader, fx->line_a, BYTES_LIT("dev-1"), &pending), ERR_OK);
    assert_int_equal(pending.log, 42);
    assert_int_equal(pending.until_s, 8);
    assert_int_equal(reader_pending(reader, fx->line_b, BYTES_LIT("dev-1"), &pending),
                     ERR_NOT_FOUND);
    fixture_reader_done(reader);
    assert_int_equal(run(fx, drop_waiting, fx), ERR_OK);
    assert_int_equal(fixture_device(fx, fx->line_a, "dev-1").cert_log, 0);
    struct store_stats stats;
    store_stats(fx->store, &stats);
    assert_int_equal(stats.device_count, 0);
    /* what is not there is a refusal that wrote nothing */
    assert_int_equal(run(fx, drop_waiting, fx), ERR_NOT_FOUND);
}

/* --- revocations --- */

struct revocation {
    uint32_t issuer_id;
    uint8_t serial; /* its first byte */
};

static enum err put(struct store_txn *txn, const struct revocation *revocation, uint8_t reason)
{
    uint8_t serial[SERIAL_LEN] = {revocation->serial};
    struct revoked_record record = {.version = STORE_SCHEMA_VERSION,
                                    .reason = reason,
                                    .cert_log = revocation->serial};
    return txn_revoked_put(txn, revocation->issuer_id, BYTES_ARRAY(serial), &record);
}

static enum err put_revoked(struct store_txn *txn, void *ctx)
{
    return put(txn, ctx, REASON_SUPERSEDED);
}

static enum err put_released(struct store_txn *txn, void *ctx)
{
    const struct revocation *revocation = ctx;
    uint8_t serial[SERIAL_LEN] = {revocation->serial};
    struct revoked_record record;
    enum err err = put(txn, revocation, REASON_REMOVE);
    if (err == ERR_OK) /* the writer still sees it */
        err = txn_revoked_get(txn, revocation->issuer_id, BYTES_ARRAY(serial), &record);
    return err == ERR_OK && record.reason != REASON_REMOVE ? ERR_INTERNAL : err;
}

struct seen {
    uint8_t serials[16];
    uint32_t count, stop_at;
};

static bool see(void *ctx, struct bytes serial, const struct revoked_record *record)
{
    struct seen *seen = ctx;
    assert_int_equal(serial.len, SERIAL_LEN);
    assert_int_equal(record->cert_log, serial.ptr[0]);
    seen->serials[seen->count++] = serial.ptr[0];
    return seen->count != seen->stop_at;
}

static void revocations_of_one_issuer_in_order(void **state)
{
    struct fixture *fx = *state;
    static const struct revocation all[] = {{2, 0xfe}, {1, 9}, {2, 3},   {3, 4},
                                            {2, 0x80}, {2, 3}, {256, 5}, {2, 0x7f}};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        assert_int_equal(run(fx, put_revoked, (void *)(uintptr_t)&all[i]), ERR_OK);
    reopen(fx);
    struct store_reader *reader = fixture_reader(fx);
    static const uint8_t expected[] = {3, 0x7f, 0x80, 0xfe};
    static const uint64_t counts[] = {0, 1, 4, 1, 0};
    struct seen seen = {0}, some = {.stop_at = 2};
    assert_int_equal(reader_revoked_each(reader, 2, see, &seen), ERR_OK);
    assert_int_equal(seen.count, 4);
    assert_memory_equal(seen.serials, expected, 4);
    assert_int_equal(reader_revoked_each(reader, 2, see, &some), ERR_OK);
    assert_int_equal(some.count, 2);
    for (uint32_t issuer = 0; issuer < 5; issuer++) {
        uint64_t count = 99;
        assert_int_equal(reader_revoked_count(reader, issuer, &count), ERR_OK);
        assert_int_equal(count, counts[issuer]);
    }
    fixture_reader_done(reader);
    struct revocation gone = {2, 0x80};
    uint64_t count = 99;
    assert_int_equal(run(fx, put_released, &gone), ERR_OK);
    reader = fixture_reader(fx);
    assert_int_equal(reader_revoked_count(reader, 2, &count), ERR_OK);
    assert_int_equal(count, 3);
    fixture_reader_done(reader);
}

/* --- CRLs --- */

struct crl {
    uint32_t issuer_id;
    uint64_t number;
    struct bytes der;
};

static enum err crl_apply(struct store_txn *txn, struct store_job *job)
{
    const struct crl *crl = job->extra;
    struct crl_record record = {.version = STORE_SCHEMA_VERSION,
                                .der_len = (uint32_t)crl->der.len,
                                .number = crl->number,
                                .this_update_s = 1000,
                                .next_update_s = 2000};
    return txn_crl_put(txn, crl->issuer_id, &record, crl->der);
}

static void check_crl(struct fixture *fx, const struct crl *crl)
{
    struct crl_record record;
    struct bytes der;
    struct store_reader *reader = fixture_reader(fx);
    assert_int_equal(reader_crl(reader, crl->issuer_id, &record, &der), ERR_OK);
    assert_int_equal(record.number, crl->number);
    assert_int_equal(record.this_update_s, 1000);
    assert_int_equal(record.next_update_s, 2000);
    assert_true(bytes_eq(der, crl->der));
    fixture_reader_done(reader);
}

static void put_crl(struct fixture *fx, struct crl *crl)
{
    assert_int_equal(fixture_run_extra(fx, crl_apply, NULL, 0, (struct bytes){0}, crl)->err,
                     ERR_OK);
    check_crl(fx, crl);
}

/* A million entries: written again and again, its room is used again. */
static void a_crl_of_any_size(void **state)
{
    enum { LARGE = 40 << 20 };
    struct fixture *fx = *state;
    uint8_t *mem = malloc(LARGE);
    assert_non_null(mem);
    for (size_t i = 0; i < LARGE; i++)
        mem[i] = (uint8_t)(i * 2654435761u >> 13);
    struct crl small = {1, 1, BYTES_LIT("a small one")};
    struct crl empty = {2, 1, {0}};
    put_crl(fx, &small);
    put_crl(fx, &empty);
    struct store_stats stats;
    uint64_t used = 0;
    for (uint64_t number = 2; number < 8; number++) {
        struct crl large = {1, number, bytes_of(mem, LARGE - number)};
        put_crl(fx, &large);
        store_stats(fx->store, &stats);
        if (number == 4)
            used = stats.map_used;
    }
    assert_true(stats.map_used <= used + LARGE);
    reopen(fx);
    struct crl last = {1, 7, bytes_of(mem, LARGE - 7)};
    check_crl(fx, &last);
    check_crl(fx, &empty);
    struct crl_record record;
    struct bytes der;
    struct store_reader *reader = fixture_reader(fx);
    assert_int_equal(reader_crl(reader, 3, &record, &der), ERR_NOT_FOUND);
    fixture_reader_done(reader);
    free(mem);
}

static void a_crl_that_does_not_fit(void **state)
{
    struct fixture *fx = *state;
    fixture_close(fx);
    fixture_remove(fx);
    fx->map_size = 8 << 20;
    fixture_dir(fx);
    fixture_open(fx, 1);
    uint8_t *mem = calloc(1, 16 << 20);
    struct crl small = {1, 1, BYTES_LIT("fits")}, large = {1, 2, bytes_of(mem, 16 << 20)};
    put_crl(fx, &small);
    assert_int_equal(fixture_run_extra(fx, crl_apply, NULL, 0, (struct bytes){0}, &large)->err,
                     ERR_STORE_FULL);
    check_crl(fx, &small);
    free(mem);
}

static enum err damage_crl(struct store_txn *txn, void *ctx)
{
    struct store_key key = store_key_of(1, (struct bytes){0});
    return db_put(&txn->db, DB_CRLS, store_key_view(&key), *(struct bytes *)ctx, DB_PUT_ANY);
}

static void a_damaged_crl_is_no_crl(void **state)
{
    struct fixture *fx = *state;
    struct crl_record good = {.version = STORE_SCHEMA_VERSION}, longer = good, newer = good;
    longer.der_len = 1;
    newer.version = STORE_SCHEMA_VERSION + 1;
    struct bytes values[] = {bytes_of(&good, sizeof(good) - 1), bytes_of(&longer, sizeof(longer)),
                             bytes_of(&newer, sizeof(newer))};
    for (int i = 0; i < 3; i++) {
        struct crl_record record;
        struct bytes der;
        assert_int_equal(run(fx, damage_crl, &values[i]), ERR_OK);
        struct store_reader *reader = fixture_reader(fx);
        assert_int_equal(reader_crl(reader, 1, &record, &der), ERR_INTERNAL);
        fixture_reader_done(reader);
    }
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_device_and_what_waits_are_deleted),
        TEST(revocations_of_one_issuer_in_order),
        TEST(a_crl_of_any_size),
        TEST(a_crl_that_does_not_fit),
        TEST(a_damaged_crl_is_no_crl),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
