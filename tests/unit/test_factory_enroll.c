/* Are the certificates of a message and the record of its dialogue written together, and is there no
 * record of what the store decided otherwise? */
#include "factory/enroll.h"
#include "test_factory_check.h"

enum { ITEMS = 3, RECORD_LEN = TRANSACTION_MARK_LEN + ITEMS * 8 };

struct message {
    struct enroll_set set;
    struct enrollment items[ITEMS];
    uint8_t certs[ITEMS][600];
    struct transaction_row row;
    uint8_t record[RECORD_LEN];
};

static void place(struct bytes data, uint32_t request, uint64_t log)
{
    assert_true(request < ITEMS);
    store_be64((uint8_t *)(uintptr_t)data.ptr + TRANSACTION_MARK_LEN + (size_t)request * 8, log);
}

/* Devices "<name>0"... with keys first_key, first_key + 1... */
static void message_of(struct fixture *fx, struct message *out, const char *key, uint8_t mark,
                       const char *device, uint64_t first_key, uint32_t count)
{
    *out = (struct message){.row = {.key_len = (uint8_t)strlen(key), .state = 2}};
    memcpy(out->row.key, key, strlen(key));
    memset(out->record, mark, TRANSACTION_MARK_LEN);
    out->row.data = BYTES_ARRAY(out->record);
    out->row.expiry_s = (int64_t)(clock_wall_ns() / NS_PER_S) + 100;
    for (uint32_t i = 0; i < count; i++) {
        char id[32];
        snprintf(id, sizeof(id), "%s%u", device, i);
        struct enrollment *item = &out->items[i];
        item->facts = fixture_facts(fx, fx->line_a, id, first_key + i);
        item->cert = fixture_cert(&item->facts, out->certs[i]);
        item->request = i;
    }
    out->set = (struct enroll_set){
        .items = out->items, .count = count, .row = &out->row, .only_new = true, .place = place};
}

static enum err enroll(struct fixture *fx, struct message *message)
{
    struct enroll_facts facts = {.protocol = PROTOCOL_CMP};
    const struct store_job *job = fixture_run_extra(fx, enroll_apply, &facts, sizeof(facts),
                                                    (struct bytes){0}, &message->set);
    assert_int_equal(commit_token_is_valid(fx->store, job->token), job->err == ERR_OK);
    check_whole(fx);
    return job->err;
}

static uint64_t certs_in(struct fixture *fx)
{
    struct store_stats stats;
    store_stats(fx->store, &stats);
    return stats.cert_count;
}

/* The log number that the record has for a request; 0: there is no record. */
static uint64_t recorded(struct fixture *fx, const char *key, uint32_t request)
{
    struct transaction_record record;
    struct bytes data;
    uint64_t log = 0;
    struct store_reader *reader = fixture_reader(fx);
    if (reader_transaction(reader, bytes_of_str(key), &record, &data) == ERR_OK) {
        assert_int_equal(record.protocol, PROTOCOL_CMP);
        assert_int_equal(record.state, 2);
        assert_int_equal(data.len, RECORD_LEN);
        log = load_be64(data.ptr + TRANSACTION_MARK_LEN + (size_t)request * 8);
    }
    fixture_reader_done(reader);
    return log;
}

static void all_is_written_together(void **state)
{
    struct fixture *fx = *state;
    struct message message;
    struct store_stats before, after;
    message_of(fx, &message, "tid", 'a', "dev-", 1, ITEMS);
    store_stats(fx->store, &before);
    assert_int_equal(enroll(fx, &message), ERR_OK);
    store_stats(fx->store, &after);
    assert_int_equal(after.commits, before.commits + 1);
    assert_true(message.set.as_foreseen);
    fixture_close(fx);
    fixture_open(fx, 1);
    assert_int_equal(certs_in(fx), ITEMS);
    for (uint32_t i = 0; i < ITEMS; i++) {
        assert_int_equal(message.items[i].err, ERR_OK);
        assert_false(message.items[i].result.repeat);
        assert_int_equal(message.items[i].result.log, i + 1);
        assert_int_equal(recorded(fx, "tid", i), i + 1);
    }
}

/* A number goes to its request's place, not to its own. */
static void requests_in_between_were_refused(void **state)
{
    struct fixture *fx = *state;
    struct message message;
    message_of(fx, &message, "tid", 'a', "dev-", 1, 2);
    message.items[1].request = 2;
    assert_int_equal(enroll(fx, &message), ERR_OK);
    assert_int_equal(recorded(fx, "tid", 0), 1);
    assert_int_equal(recorded(fx, "tid", 1), 0);
    assert_int_equal(recorded(fx, "tid", 2), 2);
}

static void a_used_id_issues_nothing(void **state)
{
    struct fixture *fx = *state;
    struct message first, other;
    message_of(fx, &first, "tid", 'a', "dev-", 1, 1);
    assert_int_equal(enroll(fx, &first), ERR_OK);
    message_of(fx, &other, "tid", 'b', "else-", 10, ITEMS);
    assert_int_equal(enroll(fx, &other), ERR_TRANSACTION_IN_USE);
    assert_int_equal(certs_in(fx), 1);
    assert_int_equal(recorded(fx, "tid", 0), 1);
}

static void the_same_message_again_issues_nothing(void **state)
{
    struct fixture *fx = *state;
    struct message first, twin;
    message_of(fx, &first, "tid", 'a', "dev-", 1, 1);
    message_of(fx, &twin, "tid", 'a', "dev-", 1, 1);
    assert_int_equal(enroll(fx, &first), ERR_OK);
    assert_false(first.row.kept);
    assert_int_equal(enroll(fx, &twin), ERR_OK);
    assert_true(twin.row.kept);
    assert_false(twin.set.as_foreseen);
    assert_int_equal(certs_in(fx), 1);
    /* a later message of the dialogue writes over the record: an operator has said yes */
    message_of(fx, &twin, "tid", 'c', "new-", 5, 1);
    twin.set.only_new = false;
    assert_int_equal(enroll(fx, &twin), ERR_OK);
    assert_true(twin.set.as_foreseen);
    assert_int_equal(recorded(fx, "tid", 0), 2);
}

static void no_record_of_what_was_decided_otherwise(void **state)
{
    struct fixture *fx = *state;
    struct message first, again, mixed;
    message_of(fx, &first, "tid-1", 'a', "dev-", 1, 1);
    assert_int_equal(enroll(fx, &first), ERR_OK);
    /* the device's own certificate, in another dialogue */
    message_of(fx, &again, "tid-2", 'b', "dev-", 1, 1);
    assert_int_equal(enroll(fx, &again), ERR_OK);
    assert_false(again.set.as_foreseen);
    assert_true(again.items[0].result.repeat);
    assert_int_equal(again.items[0].result.log, 1);
    assert_int_equal(recorded(fx, "tid-2", 0), 0);
    /* its device has another key; another device's key; one that can be had */
    message_of(fx, &mixed, "tid-3", 'c', "dev-", 20, ITEMS);
    memcpy(mixed.items[1].facts.spki_hash, first.items[0].facts.spki_hash, 32);
    assert_int_equal(enroll(fx, &mixed), ERR_OK);
    assert_false(mixed.set.as_foreseen);
    assert_int_equal(mixed.items[0].err, ERR_DEVICE_PROVISIONED);
    assert_int_equal(mixed.items[1].err, ERR_KEY_USED);
    assert_int_equal(mixed.items[2].err, ERR_OK);
    assert_int_equal(mixed.items[2].result.log, 2);
    assert_int_equal(recorded(fx, "tid-3", 2), 0);
    assert_int_equal(certs_in(fx), 2);
}

/* A device twice in one message: the second sees the first. */
static void one_sees_what_those_before_it_did(void **state)
{
    struct fixture *fx = *state;
    struct message message;
    message_of(fx, &message, "tid", 'a', "dev-", 1, 2);
    message.items[1].facts = fixture_facts(fx, fx->line_a, "dev-0", 1);
    message.items[1].cert = fixture_cert(&message.items[1].facts, message.certs[1]);
    assert_int_equal(enroll(fx, &message), ERR_OK);
    assert_false(message.set.as_foreseen);
    assert_true(message.items[1].result.repeat);
    assert_int_equal(message.items[1].result.log, message.items[0].result.log);
    assert_int_equal(certs_in(fx), 1);
}

static void what_fails_takes_all_with_it(void **state)
{
    struct fixture *fx = *state;
    struct message message;
    message_of(fx, &message, "tid", 'a', "dev-", 1, 2);
    memcpy(message.items[1].facts.serial, message.items[0].facts.serial, SERIAL_LEN);
    assert_int_equal(enroll(fx, &message), ERR_STORE_FAILED);
    assert_int_equal(certs_in(fx), 0);
    assert_int_equal(recorded(fx, "tid", 0), 0);
    message_of(fx, &message, "tid", 'a', "dev-", 1, 2);
    assert_int_equal(enroll(fx, &message), ERR_OK);
    assert_int_equal(certs_in(fx), 2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_is_written_together),
        TEST(requests_in_between_were_refused),
        TEST(a_used_id_issues_nothing),
        TEST(the_same_message_again_issues_nothing),
        TEST(no_record_of_what_was_decided_otherwise),
        TEST(one_sees_what_those_before_it_did),
        TEST(what_fails_takes_all_with_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
