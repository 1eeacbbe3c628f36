/* Is every body in every state of a dialogue what RFC 9810 makes of it, does each answer decode, and
 * does what is kept give the same answer again? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those above first */
#include <cmocka.h>

#include "tests/unit/test_cmp_make.h"

/* --- the table of states and bodies --- */

#define NO_RECORD CMP_DIALOG_NONE

struct row {
    enum cmp_body body;
    enum cmp_dialog state;
    enum err err;
    enum proto_action action; /* when ERR_OK */
};

static enum err run_row(const struct row *row, struct proto_message *out)
{
    bool is_opening = row->body != CMP_CERTCONF && row->body != CMP_POLLREQ &&
                      row->body != CMP_ERROR && row->body != CMP_NESTED;
    struct fields fields = {
        .tid = TID, .nonce = NONCE_2, .recip_nonce = is_opening ? NULL : OURS};
    struct proto_context context = context_of();
    struct cmp_record record = record_of(CMP_IR);
    context.is_hold = row->state == CMP_DIALOG_WAITING;
    if (row->state != NO_RECORD)
        put_record(&context, &record, row->state);
    return take(message_of(row->body, content_of(row->body), fields), &context, out);
}

static void test_every_body_in_every_state(void **state)
{
    (void)state;
    static const enum cmp_body openings[] = {CMP_IR, CMP_CR, CMP_P10CR, CMP_KUR, CMP_RR};
    static const enum cmp_dialog known[] = {CMP_DIALOG_WAITING, CMP_DIALOG_CONFIRM,
                                            CMP_DIALOG_DONE};
    static const struct row rows[] = {
        {CMP_IR, NO_RECORD, ERR_OK, ACTION_ENROLL},
        {CMP_CR, NO_RECORD, ERR_OK, ACTION_ENROLL},
        {CMP_P10CR, NO_RECORD, ERR_OK, ACTION_ENROLL},
        {CMP_KUR, NO_RECORD, ERR_OK, ACTION_REENROLL},
        {CMP_RR, NO_RECORD, ERR_OK, ACTION_REVOKE},
        {CMP_GENM, NO_RECORD, ERR_OK, ACTION_MESSAGE},
        {CMP_NESTED, NO_RECORD, ERR_OK, ACTION_NESTED},
        {CMP_CERTCONF, NO_RECORD, ERR_CMP_TRANSACTION, ACTION_NONE},
        {CMP_POLLREQ, NO_RECORD, ERR_CMP_TRANSACTION, ACTION_NONE},
        {CMP_ERROR, NO_RECORD, ERR_CMP_TRANSACTION, ACTION_NONE},
        {CMP_GENM, CMP_DIALOG_CONFIRM, ERR_OK, ACTION_MESSAGE},
        {CMP_NESTED, CMP_DIALOG_CONFIRM, ERR_OK, ACTION_NESTED},
        {CMP_POLLREQ, CMP_DIALOG_WAITING, ERR_OK, ACTION_MESSAGE},
        {CMP_ERROR, CMP_DIALOG_WAITING, ERR_OK, ACTION_SETTLE},
        {CMP_CERTCONF, CMP_DIALOG_WAITING, ERR_CMP_TRANSACTION, ACTION_NONE},
        {CMP_ERROR, CMP_DIALOG_WAITING_OLD, ERR_OK, ACTION_SETTLE},
        {CMP_CERTCONF, CMP_DIALOG_WAITING_OLD, ERR_CMP_TRANSACTION, ACTION_NONE},
        {CMP_CERTCONF, CMP_DIALOG_CONFIRM, ERR_OK, ACTION_SETTLE},
        {CMP_ERROR, CMP_DIALOG_CONFIRM, ERR_OK, ACTION_SETTLE},
        {CMP_POLLREQ, CMP_DIALOG_CONFIRM, ERR_CMP_TRANSACTION, ACTION_NONE},
        {CMP_CERTCONF, CMP_DIALOG_DONE, ERR_CERT_CONFIRMED, ACTION_NONE},
        {CMP_ERROR, CMP_DIALOG_DONE, ERR_CMP_TRANSACTION, ACTION_NONE},
        {CMP_POLLREQ, CMP_DIALOG_DONE, ERR_CMP_TRANSACTION, ACTION_NONE},
        {CMP_CERTCONF, (enum cmp_dialog)9, ERR_INTERNAL, ACTION_NONE},
    };
    struct proto_message message;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum err err = run_row(&rows[i], &message);
        if (err != rows[i].err)
            print_error("%s in state %d\n", cmp_body_name(rows[i].body), rows[i].state);
        assert_int_equal(err, rows[i].err);
        if (err == ERR_OK)
            assert_int_equal(message.action, rows[i].action);
        arena_reset(&arena);
    }
    for (size_t i = 0; i < sizeof(openings) / sizeof(openings[0]); i++) {
        for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++) {
            const struct row row = {openings[i], known[k], ERR_TRANSACTION_IN_USE, ACTION_NONE};
            assert_int_equal(run_row(&row, &message), row.err);
            arena_reset(&arena);
        }
    }
}

static void test_bodies_that_are_not_served(void **state)
{
    (void)state;
    for (unsigned body = 0; body < CMP_BODY_COUNT; body++) {
        bool served = body == CMP_IR || body == CMP_CR || body == CMP_P10CR || body == CMP_KUR ||
                      body == CMP_RR || body == CMP_GENM || body == CMP_NESTED ||
                      body == CMP_CERTCONF || body == CMP_POLLREQ || body == CMP_ERROR;
        if (served)
            continue;
        struct proto_message message;
        struct proto_context context = context_of();
        struct bytes der = message_of((enum cmp_body)body, SEQ(NONE),
                                      (struct fields){.tid = TID, .nonce = NONCE});
        assert_int_equal(take(der, &context, &message), ERR_CMP_BODY);
    }
}

static void test_header_rules(void **state)
{
    (void)state;
    struct bytes implicit = SEQ(OID(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x04, 13), A_NULL);
    struct bytes bad_implicit = SEQ(OID(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x04, 13));
    struct bytes wait = SEQ(OID(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x04, 14),
                            GENTIME("20260101000000Z"));
    const struct {
        struct fields fields;
        enum err err;
        bool strict, needs_time;
    } rows[] = {
        {{.tid = TID, .nonce = NONCE}, ERR_OK, true, false},
        {{.nonce = NONCE}, ERR_OK, false, false},
        {{.nonce = NONCE}, ERR_CMP_NO_TRANSACTION, true, false},
        {{.tid = "123456789012345678901234567890123", .nonce = NONCE}, ERR_CMP_NO_TRANSACTION,
         false, false},
        {{.tid = TID}, ERR_CMP_SENDER_NONCE, false, false},
        {{.tid = TID, .nonce = "short"}, ERR_CMP_SENDER_NONCE, false, false},
        {{.tid = TID, .nonce = NONCE, .recip_nonce = OURS}, ERR_CMP_RECIPIENT_NONCE, false, false},
        {{.tid = TID, .nonce = NONCE}, ERR_CMP_BAD_TIME, false, true},
        {{.tid = TID, .nonce = NONCE, .time = GENTIME("20260101000000Z")}, ERR_OK, false, true},
        {{.tid = TID, .nonce = NONCE, .time = GENTIME("20260101000500Z")}, ERR_OK, false, true},
        {{.tid = TID, .nonce = NONCE, .time = GENTIME("20260101000501Z")}, ERR_CMP_BAD_TIME, false,
         false},
        {{.tid = TID, .nonce = NONCE, .time = GENTIME("20251231235500Z")}, ERR_OK, false, false},
        {{.tid = TID, .nonce = NONCE, .time = GENTIME("20251231235459Z")}, ERR_CMP_BAD_TIME, false,
         false},
        {{.tid = TID, .nonce = NONCE, .infos = implicit}, ERR_OK, false, false},
        {{.tid = TID, .nonce = NONCE, .infos = bad_implicit}, ERR_BAD_REQUEST, false, false},
        {{.tid = TID, .nonce = NONCE, .infos = der_join(implicit, wait)}, ERR_BAD_REQUEST, false,
         false},
        {{.tid = TID, .nonce = NONCE, .pvno = 3}, ERR_OK, true, false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct proto_message message;
        struct proto_context context = context_of();
        cmp_line.strict = rows[i].strict;
        cmp_line.require_time = rows[i].needs_time;
        enum err err = take(message_of(CMP_IR, cert_reqs(1), rows[i].fields), &context, &message);
        if (err != rows[i].err)
            print_error("row %zu\n", i);
        assert_int_equal(err, rows[i].err);
        arena_reset(&arena);
    }
}

static void test_versions(void **state)
{
    (void)state;
    for (uint8_t pvno = 1; pvno < 6; pvno++) {
        struct proto_message message;
        struct bytes der = message_of(CMP_IR, cert_reqs(1),
                                      (struct fields){.tid = TID, .nonce = NONCE, .pvno = pvno});
        assert_int_equal(decode(der, &message),
                         pvno == 2 || pvno == 3 ? ERR_OK : ERR_CMP_VERSION);
    }
}

/* Who goes on is who began. */
static void test_partner(void **state)
{
    (void)state;
    struct bytes conf = message_of(
        CMP_CERTCONF, cert_conf(),
        (struct fields){.tid = TID, .nonce = NONCE_2, .recip_nonce = OURS});
    struct cmp_record record = record_of(CMP_IR);
    struct proto_context context = context_of();
    struct proto_message message;
    put_record(&context, &record, CMP_DIALOG_CONFIRM);

    static const struct {
        enum proto_protection protection;
        enum err err;
    } kinds[] = {{PROTECTION_NONE, ERR_CMP_MESSAGE_CHECK},
                 {PROTECTION_MAC, ERR_CMP_WRONG_INTEGRITY},
                 {PROTECTION_SIGNATURE, ERR_OK}};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(decode(conf, &message), ERR_OK);
        message.protection = kinds[i].protection;
        assert_int_equal(proto_cmp.resume(&route, &line, &context, &arena, &message), kinds[i].err);
    }
    context.binding[31] = 1;
    assert_int_equal(take(conf, &context, &message), ERR_CMP_WRONG_AUTHORITY);
    context.is_device = false;
    assert_int_equal(take(conf, &context, &message), ERR_NOT_AUTHORIZED);
    context.binding[31] = 0;
    struct fields fields = {.tid = TID, .nonce = NONCE, .recip_nonce = OURS};
    assert_int_equal(take(message_of(CMP_CERTCONF, cert_conf(), fields), &context, &message),
                     ERR_CMP_SENDER_NONCE);
    fields = (struct fields){.tid = TID, .nonce = NONCE_2, .recip_nonce = NONCE};
    assert_int_equal(take(message_of(CMP_CERTCONF, cert_conf(), fields), &context, &message),
                     ERR_CMP_RECIPIENT_NONCE);
}

/* --- certConf --- */

static void test_confirmations(void **state)
{
    (void)state;
    uint8_t digest[DIGEST_LEN_MAX];
    digest_once(HASH_SHA256, cert_der, digest);
    struct bytes hash = TLV(0x04, bytes_of(digest, 32));
    struct bytes sha256 = CTX(0, SEQ(OID(0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01)));
    const struct {
        struct bytes content;
        uint8_t pvno;
        enum err err;
        uint8_t act;
    } rows[] = {
        {SEQ(SEQ(hash, INT(0))), 2, ERR_OK, SETTLE_ACT_CONFIRM},
        {SEQ(SEQ(hash, INT(0), SEQ(INT(0)))), 2, ERR_OK, SETTLE_ACT_CONFIRM},
        {SEQ(SEQ(hash, INT(0), SEQ(INT(1)))), 2, ERR_OK, SETTLE_ACT_CONFIRM},
        {SEQ(SEQ(hash, INT(0), SEQ(INT(2)))), 2, ERR_OK, SETTLE_ACT_REJECT},
        {SEQ(NONE), 2, ERR_OK, SETTLE_ACT_REJECT},
        {SEQ(SEQ(hash, INT(0), sha256)), 3, ERR_OK, SETTLE_ACT_CONFIRM},
        {SEQ(SEQ(hash, INT(0), sha256)), 2, ERR_CMP_CERT_ID, 0},
        {SEQ(SEQ(OCTETS("another"), INT(0))), 2, ERR_CMP_CERT_ID, 0},
        {SEQ(SEQ(hash, INT(1))), 2, ERR_BAD_REQUEST, 0},
        {SEQ(SEQ(hash, INT(0)), SEQ(hash, INT(0))), 2, ERR_BAD_REQUEST, 0},
        {SEQ(SEQ(hash, INT(0)), SEQ(hash, INT(0)), SEQ(hash, INT(0))), 2, ERR_BAD_REQUEST, 0},
        {SEQ(SEQ(hash, INT(0), SEQ(INT(0), TLV(0x03, B(7, 0x80))))), 2, ERR_BAD_REQUEST, 0},
        {SEQ(INT(0)), 2, ERR_BAD_DER, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct cmp_record record = record_of(CMP_IR);
        struct proto_context context = context_of();
        struct proto_message message;
        put_record(&context, &record, CMP_DIALOG_CONFIRM);
        struct fields fields = {
            .tid = TID, .nonce = NONCE_2, .recip_nonce = OURS, .pvno = rows[i].pvno};
        enum err err =
            take(message_of(CMP_CERTCONF, rows[i].content, fields), &context, &message);
        if (err != rows[i].err)
            print_error("row %zu\n", i);
        assert_int_equal(err, rows[i].err);
        if (err == ERR_OK) {
            assert_int_equal(message.settle_count, 1);
            assert_int_equal(message.settles[0].cert_log, CERT_LOG);
            assert_int_equal(message.settles[0].act, rows[i].act);
        }
        arena_reset(&arena);
    }
}

/* --- what is kept --- */

static void assert_same_kept(const struct cmp_kept *a, const struct cmp_kept *b)
{
    assert_memory_equal(a->request_nonce, b->request_nonce, CMP_NONCE_LEN);
    assert_memory_equal(a->nonce, b->nonce, CMP_NONCE_LEN);
    assert_int_equal(a->time_s, b->time_s);
    assert_same(a->protection, b->protection);
}

static void test_record_comes_back(void **state)
{
    (void)state;
    struct cmp_kept_item items[] = {{-1, 1, ERR_OK, 2, BYTES_LIT("sealed")},
                                    {INT64_MAX, UINT64_MAX, ERR_BAD_POP, 255, {0}},
                                    {0, 0, ERR_OK, 0, {0}},
                                    {5, 9, ERR_OK, 0, BYTES_LIT("sealed, too")}};
    struct cmp_record in = record_of(CMP_KUR), out;
    uint64_t logs[4];
    uint32_t line_id = 0;
    in.first.protection = BYTES_LIT("a mac");
    in.second = (struct cmp_kept){.time_s = 5, .protection = BYTES_LIT("another")};
    in.implicit = true;
    in.sealed_keys = true;
    in.confirm_by_s = NOW_S;
    memset(in.binding, 7, sizeof(in.binding));
    in.items = items;
    in.item_count = 4;
    in.waiting = BYTES_LIT("a whole message");
    struct bytes data = cmp_record_encode(&in, &arena);
    /* TRANSACTION_MARK_LEN: the first octets say whose record it is */
    assert_memory_equal(data.ptr, NONCE, CMP_NONCE_LEN);
    assert_int_equal(cmp_record_decode(data, &arena, &out), ERR_OK);
    assert_same_kept(&in.first, &out.first);
    assert_same_kept(&in.second, &out.second);
    assert_true(in.body == out.body && in.protection == out.protection && out.implicit);
    assert_true(in.line_id == out.line_id && in.confirm_by_s == out.confirm_by_s);
    assert_memory_equal(in.binding, out.binding, sizeof(in.binding));
    assert_int_equal(out.item_count, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_true(items[i].cert_req_id == out.items[i].cert_req_id);
        assert_true(items[i].cert_log == out.items[i].cert_log);
        assert_true(items[i].err == out.items[i].err && items[i].act == out.items[i].act);
        assert_same(items[i].sealed, out.items[i].sealed);
    }
    assert_true(out.sealed_keys);
    assert_same(in.waiting, out.waiting);

    assert_int_equal(cmp_record_pending(data, CMP_DIALOG_CONFIRM, logs, 4, &line_id), 2);
    assert_true(logs[0] == 1 && logs[1] == 9 && line_id == 3);
    assert_int_equal(cmp_record_pending(data, CMP_DIALOG_CONFIRM, logs, 1, &line_id), 1);
    assert_int_equal(cmp_record_pending(data, CMP_DIALOG_DONE, logs, 4, &line_id), 0);
    assert_int_equal(cmp_record_pending(data, CMP_DIALOG_WAITING, logs, 4, &line_id), 0);
}

static void test_record_that_is_none(void **state)
{
    (void)state;
    struct cmp_record in = record_of(CMP_IR), out = {.body = 99};
    uint64_t logs[4];
    uint32_t line_id;
    struct cmp_kept_item item = {.sealed = BYTES_LIT("sealed")};
    size_t whole_len = 0; /* without what is sealed, which comes last */
    in.waiting = BYTES_LIT("waits");
    in.items = &item;
    in.item_count = 1;
    struct bytes data = cmp_record_encode(&in, &arena);
    whole_len = data.len - (1 + 4 + 4 + item.sealed.len);
    for (size_t len = 0; len < data.len; len++) {
        if (len == whole_len) {
            continue;
        }
        assert_int_equal(cmp_record_decode(bytes_of(data.ptr, len), &arena, &out), ERR_INTERNAL);
        cmp_record_pending(bytes_of(data.ptr, len), CMP_DIALOG_CONFIRM, logs, 4, &line_id);
    }
    assert_int_equal(out.body, 99);
    uint8_t *copy = arena_alloc(&arena, data.len);
    memcpy(copy, data.ptr, data.len);
    copy[whole_len + 4] = 1; /* of an item that is not there */
    assert_int_equal(cmp_record_decode(bytes_of(copy, data.len), &arena, &out), ERR_INTERNAL);
    copy[whole_len + 4] = 0;
    copy[84] ^= 1; /* the version, behind two answers without protection */
    assert_int_equal(cmp_record_decode(bytes_of(copy, data.len), &arena, &out), ERR_INTERNAL);
    copy[84] ^= 1;
    copy[32 + 8] = copy[32 + 9] = 0xff; /* length of the first protection */
    assert_int_equal(cmp_record_decode(bytes_of(copy, data.len), &arena, &out), ERR_INTERNAL);
}

/* --- answers --- */

static void test_certificates_are_answered_and_again(void **state)
{
    (void)state;
    struct proto_outcome outcomes[2] = {{.cert_der = cert_der, .cert_log = CERT_LOG},
                                        {.err = ERR_BAD_POP, .detail = "why"}};
    struct fields fields = {.tid = TID, .nonce = NONCE};
    struct bytes der = message_of(CMP_IR, cert_reqs(2), fields);
    struct proto_context context = context_of();
    struct proto_message message;
    struct proto_response first, again;
    struct cmp_cert_response responses[2];
    struct bytes ca_pubs;
    uint32_t count = 0;

    assert_int_equal(take(der, &context, &message), ERR_OK);
    assert_int_equal(message.request_count, 2);
    assert_true(message.waits_for_confirmation);
    struct cmp_msg answer = answer_of(&message, outcomes, "a signature", &first);
    assert_int_equal(answer.body, CMP_IP);
    assert_same(answer.header.transaction_id, bytes_of_str(TID));
    assert_true(answer.header.has_confirm_wait && !answer.header.implicit_confirm);
    assert_int_equal(answer.header.confirm_wait_s, NOW_S + 300);
    assert_int_equal(cmp_cert_rep_decode(answer.content, responses, 2, &count, &ca_pubs), ERR_OK);
    assert_int_equal(count, 2);
    assert_same(responses[0].cert, cert_der);
    assert_int_equal(responses[0].status.status, CMP_ACCEPTED);
    assert_int_equal(responses[1].status.status, CMP_REJECTION);
    assert_int_equal(responses[1].status.fail, CMP_FAIL_BAD_POP);
    assert_true(bytes_starts_with(responses[1].status.text, BYTES_LIT("bad-proof-of-possession:")));
    assert_true(first.keep && first.record_state == CMP_DIALOG_CONFIRM);
    assert_int_equal(first.record_expiry_s, NOW_S + 300);

    /* at another time, with other nonces at hand */
    struct proto_context later = context_of();
    later.now_s += 60;
    memset(later.nonce, 9, sizeof(later.nonce));
    later.has_record = true;
    later.record_state = first.record_state;
    later.record = first.record;
    assert_int_equal(take(der, &later, &message), ERR_OK);
    assert_int_equal(message.action, ACTION_REPLAY);
    assert_int_equal(message.replay_count, 2);
    assert_int_equal(message.replay_errs[1], ERR_BAD_POP);
    outcomes[1].detail[0] = 0;
    answer_of(&message, outcomes, NULL, &again);
    assert_false(again.keep);
    /* the same nonces, time and protection; the detail alone is not kept */
    struct cmp_msg second;
    assert_int_equal(cmp_msg_decode(again.body, &second), ERR_OK);
    assert_same(second.header_der, answer.header_der);
    assert_same(second.protection, answer.protection);

    /* under another credential the id is taken */
    later.binding[0] = 1;
    assert_int_equal(take(der, &later, &message), ERR_TRANSACTION_IN_USE);
}

static void test_implicit_confirmation(void **state)
{
    (void)state;
    struct proto_outcome ok = {.cert_der = cert_der, .cert_log = CERT_LOG};
    struct proto_outcome refused = {.err = ERR_QUOTA_SPENT};
    struct bytes wish = SEQ(OID(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x04, 13), A_NULL);
    struct bytes der = message_of(CMP_CR, cert_reqs(1),
                                  (struct fields){.tid = TID, .nonce = NONCE, .infos = wish});
    struct proto_context context = context_of();
    struct proto_message message;
    struct proto_response response;

    for (int granted = 0; granted < 2; granted++) {
        cmp_line.implicit_confirm = granted;
        assert_int_equal(take(der, &context, &message), ERR_OK);
        assert_int_equal(message.waits_for_confirmation, !granted);
        struct cmp_msg answer = answer_of(&message, &ok, "s", &response);
        assert_int_equal(answer.header.implicit_confirm, granted);
        assert_int_equal(answer.header.has_confirm_wait, !granted);
        assert_int_equal(response.record_state, granted ? CMP_DIALOG_DONE : CMP_DIALOG_CONFIRM);
        answer = answer_of(&message, &refused, "s", &response);
        assert_false(answer.header.implicit_confirm || answer.header.has_confirm_wait);
        assert_false(response.keep); /* nothing was issued: nothing to remember */
    }
}

static void test_waiting_and_polls(void **state)
{
    (void)state;
    struct proto_outcome ok = {.cert_der = cert_der, .cert_log = CERT_LOG};
    struct proto_context context = context_of();
    struct proto_message message;
    struct proto_response response;
    struct cmp_poll poll;
    uint32_t count = 0;
    context.is_hold = true;
    assert_int_equal(take(message_of(CMP_IR, cert_reqs(1),
                                     (struct fields){.tid = TID, .nonce = NONCE}),
                          &context, &message),
                     ERR_OK);
    assert_int_equal(message.action, ACTION_MESSAGE);
    struct cmp_msg answer = answer_of(&message, NULL, "s", &response);
    assert_int_equal(answer.body, CMP_IP);
    assert_int_equal(response.record_state, CMP_DIALOG_WAITING);
    assert_int_equal(response.record_expiry_s, NOW_S + CMP_WAITING_S);

    context.has_record = true;
    context.record_state = response.record_state;
    context.record = response.record;
    struct bytes poll_der = message_of(
        CMP_POLLREQ, SEQ(SEQ(INT(0))),
        (struct fields){.tid = TID, .nonce = NONCE_2, .recip_nonce = "server-nonce-xyz"});
    assert_int_equal(take(poll_der, &context, &message), ERR_OK);
    answer = answer_of(&message, NULL, "s", &response);
    assert_int_equal(cmp_poll_rep_decode(answer.content, &poll, 1, &count), ERR_OK);
    assert_true(poll.cert_req_id == 0 && poll.check_after_s >= 40 && poll.check_after_s <= 50);
    assert_true(response.keep && response.record_state == CMP_DIALOG_WAITING);
    struct bytes polled = response.body;
    context.record = response.record;
    context.record_state = CMP_DIALOG_WAITING_OLD; /* means the same */
    memcpy(context.nonce, "another-nonce-xy", CMP_NONCE_LEN);
    assert_int_equal(take(poll_der, &context, &message), ERR_OK);
    assert_int_equal(message.action, ACTION_REPLAY);
    answer_of(&message, NULL, NULL, &response);
    assert_same(response.body, polled);
    poll_der = message_of(
        CMP_POLLREQ, SEQ(SEQ(INT(0))),
        (struct fields){.tid = TID, .nonce = "poll-nonce-three", .recip_nonce = "server-nonce-xyz"});
    assert_int_equal(take(poll_der, &context, &message), ERR_OK);
    answer_of(&message, NULL, "s", &response);
    context.record = response.record;

    context.is_hold = false;
    poll_der = message_of(
        CMP_POLLREQ, SEQ(SEQ(INT(0))),
        (struct fields){.tid = TID, .nonce = "poll-nonce-four!", .recip_nonce = "server-nonce-xyz"});
    assert_int_equal(take(poll_der, &context, &message), ERR_CMP_RECIPIENT_NONCE); /* an older answer's */
    poll_der = message_of(
        CMP_POLLREQ, SEQ(SEQ(INT(0))),
        (struct fields){.tid = TID, .nonce = "poll-nonce-four!", .recip_nonce = "another-nonce-xy"});
    assert_int_equal(take(poll_der, &context, &message), ERR_OK);
    assert_int_equal(message.action, ACTION_ENROLL);
    assert_int_equal(message.request_count, 1);
    answer = answer_of(&message, &ok, "s", &response);
    assert_int_equal(answer.body, CMP_IP);
    assert_int_equal(response.record_state, CMP_DIALOG_CONFIRM);
}

static void test_settlements_and_revocations(void **state)
{
    (void)state;
    struct cmp_status_info status[1];
    struct proto_context context = context_of();
    struct proto_message message;
    struct proto_response response;
    uint32_t count = 0;
    struct fields fields = {.tid = TID, .nonce = NONCE};
    assert_int_equal(take(message_of(CMP_RR, rev_details(), fields), &context, &message), ERR_OK);
    message.settles[0].err = ERR_CERT_UNKNOWN;
    struct cmp_msg answer = answer_of(&message, NULL, "s", &response);
    assert_int_equal(cmp_rev_rep_decode(answer.content, status, 1, &count), ERR_OK);
    assert_int_equal(status[0].fail, CMP_FAIL_BAD_CERT_ID);
    assert_true(response.keep && response.record_state == CMP_DIALOG_DONE);

    struct cmp_record record = record_of(CMP_IR);
    put_record(&context, &record, CMP_DIALOG_CONFIRM);
    fields = (struct fields){.tid = TID, .nonce = NONCE_2, .recip_nonce = OURS};
    struct bytes conf = message_of(CMP_CERTCONF, cert_conf(), fields);
    assert_int_equal(take(conf, &context, &message), ERR_OK);
    answer = answer_of(&message, NULL, "s", &response);
    assert_int_equal(answer.body, CMP_PKICONF);
    assert_int_equal(response.record_state, CMP_DIALOG_DONE);
    struct bytes body = response.body;
    context.record_state = response.record_state;
    context.record = response.record;
    context.now_s += 5;
    assert_int_equal(take(conf, &context, &message), ERR_OK);
    assert_int_equal(message.action, ACTION_REPLAY);
    answer_of(&message, NULL, NULL, &response);
    assert_same(response.body, body);

    put_record(&context, &record, CMP_DIALOG_CONFIRM);
    assert_int_equal(take(conf, &context, &message), ERR_OK);
    message.settles[0].err = ERR_CERT_REVOKED;
    assert_int_equal(proto_cmp.encode(&route, &line, NULL, &message, NULL, &arena, &response),
                     ERR_CERT_REVOKED);
    message.settles[0].err = ERR_CERT_CONFIRMED; /* in another dialogue */
    answer_of(&message, NULL, "s", &response);
}

#define ID_IT(n) OID(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x04, n)

static void test_questions(void **state)
{
    (void)state;
    cmp_line.root_cert = cert_der;
    cmp_line.root_olds[0] = cert_der;
    cmp_line.root_old_count = 1;
    cmp_line.root_new_with_old = cert_der;
    cmp_line.key_algs[0] = KEY_EC_P384;
    cmp_line.key_alg_count = 1;
    struct bytes content = SEQ(SEQ(ID_IT(99)), SEQ(ID_IT(20), cert_der), SEQ(ID_IT(2)),
                               SEQ(OID(0x2a, 0x03), INT(1)), SEQ(ID_IT(19), A_NULL));
    struct proto_context context = context_of();
    struct proto_message message;
    struct proto_response response;
    struct cmp_info infos[8];
    uint32_t count = 0;
    struct fields fields = {.tid = TID, .nonce = NONCE};
    assert_int_equal(take(message_of(CMP_GENM, content, fields), &context, &message), ERR_OK);
    struct cmp_msg answer = answer_of(&message, NULL, "s", &response);
    assert_int_equal(answer.body, CMP_GENP);
    assert_false(response.keep);
    assert_int_equal(cmp_infos_decode(answer.content, infos, 8, &count), ERR_OK);
    assert_int_equal(count, 4);
    static const uint8_t last[] = {18, 2, 19, 7};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(infos[i].oid.ptr[7], last[i]);
    assert_same(infos[0].value, SEQ(cert_der, CTX(0, cert_der)));
    assert_same(infos[1].value, SEQ(key_alg_der(KEY_EC_P384)));
    assert_same(infos[3].value, SEQ(ID_IT(99), OID(0x2a, 0x03)));

    const struct bytes wrong[] = {
        SEQ(SEQ(ID_IT(20), A_NULL)), SEQ(SEQ(ID_IT(17), INT(1))),
        SEQ(SEQ(ID_IT(19), INT(1))), SEQ(SEQ(ID_IT(2), SEQ(NONE))),
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(take(message_of(CMP_GENM, wrong[i], fields), &context, &message), ERR_OK);
        assert_int_equal(proto_cmp.encode(&route, &line, NULL, &message, NULL, &arena, &response),
                         ERR_BAD_REQUEST);
    }
}

static void test_nested(void **state)
{
    (void)state;
    struct fields fields = {.tid = TID, .nonce = NONCE};
    struct bytes good = message_of(CMP_IR, cert_reqs(1), fields);
    struct bytes bad = message_of(CMP_IR, cert_reqs(1),
                                  (struct fields){.tid = TID, .nonce = NONCE, .pvno = 9});
    struct proto_context context = context_of();
    struct proto_message message;
    struct proto_response response;
    struct bytes inner[4];
    uint32_t count = 0;
    struct bytes outer = message_of(CMP_NESTED, SEQ(good, bad),
                                    (struct fields){.tid = "another", .nonce = NONCE_2});
    assert_int_equal(take(outer, &context, &message), ERR_OK);
    assert_int_equal(message.inner_count, 2);
    assert_true(message.needs_ra);
    assert_int_equal(message.inner[0].err, ERR_OK);
    assert_int_equal(message.inner[1].err, ERR_CMP_VERSION);
    message.inner[0].answer = good;
    assert_int_equal(proto_cmp.encode(&route, &line, NULL, &message, NULL, &arena, &response),
                     ERR_SIGNER_UNAVAILABLE); /* one has no answer */
    message.inner[1].answer = bad;
    struct cmp_msg answer = answer_of(&message, NULL, "s", &response);
    assert_int_equal(answer.body, CMP_NESTED);
    assert_int_equal(cmp_nested_decode(answer.content, inner, 4, &count), ERR_OK);
    assert_int_equal(count, 2);
    assert_same(inner[0], good);

    /* protection that was added comes off */
    assert_int_equal(take(message_of(CMP_NESTED, SEQ(good), fields), &context, &message), ERR_OK);
    message.inner[0].answer = bad;
    assert_int_equal(proto_cmp.encode(&route, &line, NULL, &message, NULL, &arena, &response),
                     ERR_OK);
    assert_same(response.body, bad);
    assert_int_equal(response.to_protect.len, 0);

    /* one level deep */
    struct bytes deep = message_of(CMP_NESTED, SEQ(outer), fields);
    assert_int_equal(take(deep, &context, &message), ERR_OK);
    struct proto_message *in = &message.inner[0];
    assert_int_equal(proto_cmp.resume(&route, &line, &context, &arena, in), ERR_BAD_REQUEST);
    assert_int_equal(in->inner_count, 0);

    assert_int_equal(decode(message_of(CMP_NESTED, SEQ(NONE), fields), &message), ERR_BAD_DER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ARENA(test_every_body_in_every_state),
        WITH_ARENA(test_bodies_that_are_not_served),
        WITH_ARENA(test_header_rules),
        WITH_ARENA(test_versions),
        WITH_ARENA(test_partner),
        WITH_ARENA(test_confirmations),
        WITH_ARENA(test_record_comes_back),
        WITH_ARENA(test_record_that_is_none),
        WITH_ARENA(test_certificates_are_answered_and_again),
        WITH_ARENA(test_implicit_confirmation),
        WITH_ARENA(test_waiting_and_polls),
        WITH_ARENA(test_settlements_and_revocations),
        WITH_ARENA(test_questions),
        WITH_ARENA(test_nested),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
