/* Is a transaction found by its key whatever came before it: a restart, one that failed, a sweep, a
 * store of an earlier version? And do they expire in order? */
#include "test_store_step.h"

struct put {
    const char *key;
    int64_t expiry_s;
    const char *data;
};

static enum err put_transaction(struct store_txn *txn, void *ctx)
{
    const struct put *put = ctx;
    struct bytes data = bytes_of_str(put->data);
    struct transaction_record record = {.version = STORE_SCHEMA_VERSION,
                                        .protocol = PROTOCOL_CMP,
                                        .state = 3,
                                        .data_len = (uint32_t)data.len,
                                        .expiry_s = put->expiry_s};
    return txn_transaction_put(txn, bytes_of_str(put->key), &record, data);
}

static enum err del_transaction(struct store_txn *txn, void *ctx)
{
    return txn_transaction_del(txn, bytes_of_str(ctx));
}

struct next {
    int64_t now_s;
    char key[TRANSACTION_KEY_MAX + 1];
    char data[100];
    int64_t expiry_s;
};

static enum err next_expired(struct store_txn *txn, void *ctx)
{
    struct next *next = ctx;
    struct transaction_record record;
    struct bytes data;
    uint8_t key[TRANSACTION_KEY_MAX];
    size_t len;
    enum err err = txn_transaction_next_expired(txn, next->now_s, key, &len, &record, &data);
    if (err != ERR_OK)
        return err;
    memcpy(next->key, key, len);
    next->key[len] = 0;
    snprintf(next->data, sizeof(next->data), "%.*s", (int)data.len, (const char *)data.ptr);
    next->expiry_s = record.expiry_s;
    return ERR_OK;
}

static struct next first_expired(struct fixture *fx, int64_t now_s, enum err expected)
{
    struct next next = {.now_s = now_s};
    assert_int_equal(run(fx, next_expired, &next), expected);
    return next;
}

static void put_all(struct fixture *fx, const struct put puts[], size_t count)
{
    for (size_t i = 0; i < count; i++)
        assert_int_equal(run(fx, put_transaction, (void *)(uintptr_t)&puts[i]), ERR_OK);
}

static void the_earliest_comes_first(void **state)
{
    struct fixture *fx = *state;
    static const struct put puts[] = {
        {"late", 3000, "l"}, {"b", 256, "b"},  {"a", 256, ""},
        {"first", 255, "f"}, {"zero", 0, "z"}, {"never", INT64_MAX, "n"},
    };
    assert_int_equal(first_expired(fx, INT64_MAX, ERR_NOT_FOUND).expiry_s, 0);
    put_all(fx, puts, 6);
    reopen(fx);
    static const char *const order[] = {"zero", "first", "b", "a", "late", "never"};
    static const int64_t times[] = {0, 255, 256, 256, 3000, INT64_MAX};
    for (int i = 0; i < 6; i++) {
        if (times[i] > 0)
            first_expired(fx, times[i] - 1, ERR_NOT_FOUND);
        struct next next = first_expired(fx, times[i], ERR_OK);
        assert_string_equal(next.key, order[i]);
        assert_int_equal(next.expiry_s, times[i]);
        assert_int_equal(run(fx, del_transaction, next.key), ERR_OK);
        assert_int_equal(entries(fx, DB_EXPIRIES), 5 - i);
        assert_int_equal(entries(fx, DB_TRANSACTIONS), 5 - i);
    }
    assert_int_equal(run(fx, del_transaction, (void *)(uintptr_t) "late"), ERR_NOT_FOUND);
}

static void a_put_over_another_moves_its_expiry(void **state)
{
    struct fixture *fx = *state;
    static const struct put puts[] = {
        {"one", 100, "first"},         {"two", 200, "second"}, {"one", 300, "later"},
        {"two", 200, "the same time"}, {"one", 150, "sooner"},
    };
    put_all(fx, puts, 3);
    assert_int_equal(entries(fx, DB_EXPIRIES), 2);
    struct next next = first_expired(fx, 1000, ERR_OK);
    assert_string_equal(next.key, "two");
    put_all(fx, puts + 3, 2);
    assert_int_equal(entries(fx, DB_EXPIRIES), 2);
    next = first_expired(fx, 1000, ERR_OK);
    assert_string_equal(next.key, "one");
    assert_string_equal(next.data, "sooner");
    assert_int_equal(run(fx, del_transaction, (void *)(uintptr_t) "one"), ERR_OK);
    assert_string_equal(first_expired(fx, 1000, ERR_OK).data, "the same time");
}

static void the_longest_key(void **state)
{
    struct fixture *fx = *state;
    char key[TRANSACTION_KEY_MAX + 1];
    memset(key, 'k', TRANSACTION_KEY_MAX);
    key[TRANSACTION_KEY_MAX] = 0;
    const struct put puts[] = {{key, 100, "long"}, {"k", 100, "short"}};
    put_all(fx, puts, 2);
    assert_string_equal(first_expired(fx, 100, ERR_OK).key, key);
    assert_int_equal(run(fx, del_transaction, key), ERR_OK);
    assert_string_equal(first_expired(fx, 100, ERR_OK).key, "k");
}

/* An expiry without its transaction can only be damage: said, not skipped. */
static enum err damage(struct store_txn *txn, void *ctx)
{
    static const uint8_t number[8] = {0, 0, 0, 0, 0, 0, 0, 1};
    (void)ctx;
    return db_del(&txn->db, DB_TRANSACTIONS, BYTES_ARRAY(number));
}

static void an_expiry_without_its_transaction(void **state)
{
    struct fixture *fx = *state;
    static const struct put put = {"one", 100, "x"};
    put_all(fx, &put, 1);
    assert_int_equal(run(fx, damage, NULL), ERR_OK);
    first_expired(fx, 99, ERR_NOT_FOUND);
    first_expired(fx, 100, ERR_INTERNAL);
}

/* Nor one that is another's. */
static enum err misname(struct store_txn *txn, void *ctx)
{
    static const uint8_t expiry[16] = {[7] = 100, [15] = 1};
    (void)ctx;
    return db_put(&txn->db, DB_EXPIRIES, BYTES_ARRAY(expiry), BYTES_LIT("two"), DB_PUT_ANY);
}

static void an_expiry_of_another_transaction(void **state)
{
    struct fixture *fx = *state;
    static const struct put puts[] = {{"one", 100, "x"}, {"two", 200, "y"}};
    put_all(fx, puts, 2);
    assert_int_equal(run(fx, misname, NULL), ERR_OK);
    assert_int_equal(entries(fx, DB_EXPIRIES), 2); /* it was there before */
    first_expired(fx, 100, ERR_INTERNAL);
}

/* --- the index in memory --- */

enum { MODEL_KEYS = 400, MODEL_STEPS = 20000, MODEL_MANY = 3000 };

struct model {
    uint64_t hash[MODEL_KEYS];
    uint64_t number[MODEL_KEYS]; /* 0: not there */
};

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return *state >> 33;
}

static void check_model(struct index *index, const struct model *model)
{
    for (uint32_t i = 0; i < MODEL_KEYS; i++) {
        uint64_t numbers[INDEX_SAME_MAX];
        uint32_t found = index_find(index, model->hash[i], numbers), same = 0, mine = 0;
        for (uint32_t k = 0; k < MODEL_KEYS; k++)
            same += model->number[k] != 0 && model->hash[k] == model->hash[i];
        for (uint32_t k = 0; k < found; k++)
            mine += numbers[k] == model->number[i];
        assert_int_equal(found, same);
        assert_int_equal(mine, model->number[i] != 0);
    }
}

/* All in one shard and around its end, three to a hash: each removal has others to move. */
static void an_index_is_a_multimap(void **state)
{
    static struct index index;
    struct model model = {0};
    uint64_t random = 7, number = 0;
    (void)state;
    index_init(&index);
    for (uint32_t i = 0; i < MODEL_KEYS; i++)
        model.hash[i] =
            i % 3 != 0 ? model.hash[i - 1] : ((next_random(&random) % 64) - 32u) & UINT64_MAX >> 6;
    for (uint32_t i = 0; i < MODEL_KEYS; i++) /* not more than three: others would not be found */
        for (uint32_t k = 0; k < i / 3 * 3; k++)
            if (model.hash[k] == model.hash[i])
                model.hash[i] = (uint64_t)(i / 3) << 12;
    for (uint32_t i = 0; i < MODEL_STEPS; i++) {
        uint64_t *at = &model.number[next_random(&random) % MODEL_KEYS];
        uint64_t hash = model.hash[at - model.number];
        if (*at == 0) {
            *at = ++number;
            assert_true(index_add(&index, hash, *at));
        } else {
            index_remove(&index, hash, *at + MODEL_STEPS); /* not there */
            index_remove(&index, hash, *at);
            *at = 0;
        }
        if (i % 97 == 0)
            check_model(&index, &model);
    }
    for (uint64_t i = 1; i <= MODEL_MANY; i++) /* grows under the others, and shrinks again */
        assert_true(index_add(&index, i << 20, i));
    check_model(&index, &model);
    assert_true(index.shards[0].mask >= MODEL_MANY);
    for (uint64_t i = 1; i <= MODEL_MANY; i++)
        index_remove(&index, i << 20, i);
    check_model(&index, &model);
    assert_true(index.shards[0].mask < 4 * MODEL_KEYS);
    index_free(&index);
}

/* --- what becomes of the index --- */

static enum err get_transaction(struct store_txn *txn, void *ctx)
{
    struct transaction_record record;
    struct bytes data;
    return txn_transaction_get(txn, bytes_of_str(ctx), &record, &data);
}

static void check_there(struct fixture *fx, const char *key, const char *data)
{
    struct store_reader *reader = fixture_reader(fx);
    struct transaction_record record;
    struct bytes got;
    enum err expected = data != NULL ? ERR_OK : ERR_NOT_FOUND;
    assert_int_equal(reader_transaction(reader, bytes_of_str(key), &record, &got), expected);
    if (data != NULL)
        assert_true(bytes_eq(got, bytes_of_str(data)));
    fixture_reader_done(reader);
    assert_int_equal(run(fx, get_transaction, (void *)(uintptr_t)key), expected);
}

static enum err put_and_fail(struct store_txn *txn, void *ctx)
{
    enum err err = put_transaction(txn, ctx);
    return err == ERR_OK ? ERR_STORE_FULL : err;
}

static enum err del_and_fail(struct store_txn *txn, void *ctx)
{
    enum err err = del_transaction(txn, ctx);
    return err == ERR_OK ? ERR_STORE_FULL : err;
}

static uint32_t in_index(struct fixture *fx)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < INDEX_SHARDS; i++)
        count += fx->store->index.shards[i].used;
    return count;
}

static void what_failed_leaves_nothing_and_takes_nothing(void **state)
{
    struct fixture *fx = *state;
    struct put put = {"one", 100, "first"}, other = {"two", 100, "second"};
    assert_int_equal(run(fx, put_and_fail, &put), ERR_STORE_FULL);
    assert_int_equal(in_index(fx), 0);
    check_there(fx, "one", NULL);
    put_all(fx, &put, 1);
    check_there(fx, "one", "first");
    assert_int_equal(run(fx, del_and_fail, (void *)(uintptr_t) "one"), ERR_STORE_FULL);
    assert_int_equal(in_index(fx), 1);
    check_there(fx, "one", "first");
    assert_int_equal(run(fx, del_transaction, (void *)(uintptr_t) "one"), ERR_OK);
    assert_int_equal(in_index(fx), 0);
    check_there(fx, "one", NULL);
    put_all(fx, &other, 1); /* with the number that is free again after a restart, or another */
    reopen(fx);
    put_all(fx, &put, 1);
    assert_int_equal(in_index(fx), 2);
    check_there(fx, "one", "first");
    check_there(fx, "two", "second");
}

static enum err put_del_put(struct store_txn *txn, void *ctx)
{
    struct put *put = ctx;
    enum err err = put_transaction(txn, put);
    for (int i = 0; i < 2 * INDEX_SAME_MAX && err == ERR_OK; i++) {
        err = del_transaction(txn, (void *)(uintptr_t)put->key);
        if (err == ERR_OK && get_transaction(txn, (void *)(uintptr_t)put->key) != ERR_NOT_FOUND)
            return ERR_STORE_FAILED;
        if (err == ERR_OK)
            err = put_transaction(txn, put);
    }
    return err;
}

static void many_times_in_one_transaction(void **state)
{
    struct fixture *fx = *state;
    struct put put = {"one", 100, "first"};
    for (int i = 0; i < 2 * INDEX_SAME_MAX; i++) {
        assert_int_equal(run(fx, put_del_put, &put), ERR_OK);
        assert_int_equal(in_index(fx), 1);
    }
    check_there(fx, "one", "first");
    assert_int_equal(entries(fx, DB_EXPIRIES), 1);
    assert_int_equal(entries(fx, DB_TRANSACTIONS), 1);
}

/* --- stores of an earlier version --- */

enum { OLD_ROWS = 3000 }; /* several commits of the upgrade */

struct old_key {
    uint8_t data[1 + 4 + 16];
};

static struct old_key old_key(uint32_t i)
{
    struct old_key key = {{PROTOCOL_CMP, 0, 0, 0, 1}};
    store_be32(key.data + 5, i * 2654435761u); /* in no order */
    return key;
}

static enum err put_old(struct store_txn *txn, void *ctx)
{
    uint32_t layout = STORE_LAYOUT_OLDEST;
    (void)ctx;
    enum err err = db_put(&txn->db, DB_META, BYTES_LIT("schema"), bytes_of(&layout, sizeof(layout)),
                          DB_PUT_ANY);
    for (uint32_t i = 0; i < OLD_ROWS && err == ERR_OK; i++) {
        struct old_key key = old_key(i);
        uint8_t expiry[8 + sizeof(key.data)];
        struct {
            struct transaction_record record;
            uint8_t data[8];
        } row = {.record = {.version = STORE_SCHEMA_VERSION,
                            .protocol = PROTOCOL_CMP,
                            .state = 1,
                            .data_len = i % 9,
                            .expiry_s = 1000 + i % 7}};
        memset(row.data, (int)i, sizeof(row.data));
        store_be64(expiry, (uint64_t)row.record.expiry_s);
        memcpy(expiry + 8, key.data, sizeof(key.data));
        err = db_put(&txn->db, DB_TRANSACTIONS, BYTES_ARRAY(key.data),
                     bytes_of(&row, sizeof(row.record) + row.record.data_len), DB_PUT_NEW);
        if (err == ERR_OK)
            err = db_put(&txn->db, DB_EXPIRIES, BYTES_ARRAY(expiry), (struct bytes){0}, DB_PUT_NEW);
    }
    return err;
}

static void check_old(struct fixture *fx)
{
    struct store_reader *reader = fixture_reader(fx);
    for (uint32_t i = 0; i < OLD_ROWS; i++) {
        struct old_key key = old_key(i);
        struct transaction_record record;
        struct bytes data;
        assert_int_equal(reader_transaction(reader, BYTES_ARRAY(key.data), &record, &data), ERR_OK);
        assert_int_equal(data.len, i % 9);
        assert_int_equal(record.expiry_s, 1000 + i % 7);
        assert_true(data.len == 0 || data.ptr[data.len - 1] == (uint8_t)i);
    }
    fixture_reader_done(reader);
}

/* What an earlier version would refuse. */
static uint32_t layout_of(struct fixture *fx)
{
    struct db_txn txn;
    struct bytes value;
    uint32_t layout = 0;
    assert_int_equal(db_begin(&fx->store->db, true, &txn), ERR_OK);
    assert_int_equal(db_get(&txn, DB_META, BYTES_LIT("schema"), &value), ERR_OK);
    assert_int_equal(value.len, sizeof(layout));
    memcpy(&layout, value.ptr, sizeof(layout));
    db_abort(&txn);
    return layout;
}

static enum err del_old(struct store_txn *txn, void *ctx)
{
    (void)ctx;
    enum err err = ERR_OK;
    for (uint32_t i = 0; i < OLD_ROWS && err == ERR_OK; i++) {
        struct old_key key = old_key(i);
        err = txn_transaction_del(txn, BYTES_ARRAY(key.data));
    }
    return err;
}

static void rows_of_an_earlier_version_are_moved(void **state)
{
    struct fixture *fx = *state;
    struct put put = {"new", 5, "n"};
    put_all(fx, &put, 1);
    assert_int_equal(run(fx, put_old, NULL), ERR_OK);
    for (int i = 0; i < 2; i++) { /* the second time there is nothing to move */
        reopen(fx);
        assert_int_equal(layout_of(fx), STORE_LAYOUT_VERSION);
        check_old(fx);
        check_there(fx, "new", "n");
        assert_int_equal(in_index(fx), OLD_ROWS + 1);
        assert_int_equal(entries(fx, DB_EXPIRIES), OLD_ROWS + 1);
        assert_int_equal(entries(fx, DB_TRANSACTIONS), OLD_ROWS + 1);
    }
    assert_string_equal(first_expired(fx, 1000, ERR_OK).key, "new");
    assert_int_equal(run(fx, del_old, NULL), ERR_OK);
    assert_int_equal(entries(fx, DB_EXPIRIES), 1);
    assert_int_equal(in_index(fx), 1);
}

static enum err put_damaged(struct store_txn *txn, uint32_t data_len)
{
    struct old_key key = old_key(0);
    struct transaction_record record = {
        .version = STORE_SCHEMA_VERSION, .expiry_s = 1000, .data_len = data_len};
    return db_put(&txn->db, DB_TRANSACTIONS, BYTES_ARRAY(key.data),
                  bytes_of(&record, sizeof(record)), DB_PUT_NEW);
}

static enum err put_half(struct store_txn *txn, void *ctx)
{
    (void)ctx;
    return put_damaged(txn, 0);
}

/* It says that there is more of it. */
static enum err put_short(struct store_txn *txn, void *ctx)
{
    struct old_key key = old_key(0);
    uint8_t expiry[8 + sizeof(key.data)];
    (void)ctx;
    store_be64(expiry, 1000);
    memcpy(expiry + 8, key.data, sizeof(key.data));
    enum err err =
        db_put(&txn->db, DB_EXPIRIES, BYTES_ARRAY(expiry), (struct bytes){0}, DB_PUT_NEW);
    return err == ERR_OK ? put_damaged(txn, 5) : err;
}

static void check_damage_is_said(struct fixture *fx,
                                 enum err (*put)(struct store_txn *txn, void *ctx))
{
    char detail[256] = "";
    assert_int_equal(run(fx, put, NULL), ERR_OK);
    fixture_close(fx);
    struct store_config config = {.dir = fx->dir, .map_size = fx->map_size};
    assert_int_equal(store_open(&config, &fx->store, detail), ERR_INTERNAL);
    assert_non_null(strstr(detail, "restore a backup"));
}

static void a_damaged_old_row_is_said(void **state)
{
    check_damage_is_said(*state, put_half);
}

static void a_short_old_row_is_said(void **state)
{
    check_damage_is_said(*state, put_short);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_earliest_comes_first),
        TEST(a_put_over_another_moves_its_expiry),
        TEST(the_longest_key),
        TEST(an_expiry_without_its_transaction),
        TEST(an_expiry_of_another_transaction),
        cmocka_unit_test(an_index_is_a_multimap),
        TEST(what_failed_leaves_nothing_and_takes_nothing),
        TEST(many_times_in_one_transaction),
        TEST(rows_of_an_earlier_version_are_moved),
        TEST(a_damaged_old_row_is_said),
        TEST(a_short_old_row_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
