/* Has each error its failInfo, its words and the protection of its request, and each path its meaning? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
/* cmocka wants those above first */
#include <cmocka.h>

#include "tests/unit/test_cmp_make.h"

/* --- errors --- */

/* spec/cmp.md, failInfo. Every error stands here by name: a new one must be given its bit. */
static const uint32_t expected_fail[ERR_COUNT] = {
    [ERR_CMP_MESSAGE_CHECK] = CMP_FAIL_BAD_MESSAGE_CHECK,
    [ERR_BAD_SIGNATURE] = CMP_FAIL_BAD_MESSAGE_CHECK,
    [ERR_AUTH_REQUIRED] = CMP_FAIL_BAD_MESSAGE_CHECK,
    [ERR_AUTH_FAILED] = CMP_FAIL_BAD_MESSAGE_CHECK,
    [ERR_BAD_ALG] = CMP_FAIL_BAD_ALG,
    [ERR_CMP_WRONG_INTEGRITY] = CMP_FAIL_WRONG_INTEGRITY,
    [ERR_CLIENT_CERT_UNTRUSTED] = CMP_FAIL_SIGNER_NOT_TRUSTED,
    [ERR_CLIENT_CERT_EXPIRED] = CMP_FAIL_SIGNER_NOT_TRUSTED,
    [ERR_CMP_BAD_TIME] = CMP_FAIL_BAD_TIME,
    [ERR_CMP_SENDER_NONCE] = CMP_FAIL_BAD_SENDER_NONCE,
    [ERR_CMP_RECIPIENT_NONCE] = CMP_FAIL_BAD_RECIPIENT_NONCE,
    [ERR_TRANSACTION_IN_USE] = CMP_FAIL_TRANSACTION_ID_IN_USE,
    [ERR_CMP_VERSION] = CMP_FAIL_UNSUPPORTED_VERSION,
    [ERR_CMP_CERT_ID] = CMP_FAIL_BAD_CERT_ID,
    [ERR_CERT_UNKNOWN] = CMP_FAIL_BAD_CERT_ID,
    [ERR_CMP_NO_CERT_ID] = CMP_FAIL_ADD_INFO_NOT_AVAILABLE,
    [ERR_CMP_WRONG_AUTHORITY] = CMP_FAIL_WRONG_AUTHORITY,
    [ERR_CERT_CONFIRMED] = CMP_FAIL_CERT_CONFIRMED,
    [ERR_CERT_REVOKED] = CMP_FAIL_CERT_REVOKED,
    [ERR_CLIENT_CERT_REVOKED] = CMP_FAIL_CERT_REVOKED,
    [ERR_KEY_USED] = CMP_FAIL_DUPLICATE_CERT_REQ,
    [ERR_BAD_DER] = CMP_FAIL_BAD_DATA_FORMAT,
    [ERR_DER_TRAILING] = CMP_FAIL_BAD_DATA_FORMAT,
    [ERR_BAD_CERT] = CMP_FAIL_BAD_DATA_FORMAT,
    [ERR_BAD_BASE64] = CMP_FAIL_BAD_DATA_FORMAT,
    [ERR_CMP_NO_TRANSACTION] = CMP_FAIL_BAD_DATA_FORMAT,
    [ERR_BAD_REQUEST] = CMP_FAIL_BAD_REQUEST,
    [ERR_CMP_TRANSACTION] = CMP_FAIL_BAD_REQUEST,
    [ERR_CMP_BODY] = CMP_FAIL_BAD_REQUEST,
    [ERR_NOT_OFFERED] = CMP_FAIL_BAD_REQUEST,
    [ERR_BODY_TOO_LARGE] = CMP_FAIL_BAD_REQUEST,
    [ERR_BAD_POP] = CMP_FAIL_BAD_POP,
    [ERR_POP_LINK_MISMATCH] = CMP_FAIL_BAD_POP,
    [ERR_POP_LINK_REQUIRED] = CMP_FAIL_BAD_POP,
    [ERR_BAD_CSR] = CMP_FAIL_BAD_CERT_TEMPLATE,
    [ERR_BAD_KEY] = CMP_FAIL_BAD_CERT_TEMPLATE,
    [ERR_KEY_NOT_ALLOWED] = CMP_FAIL_BAD_CERT_TEMPLATE,
    [ERR_EXTENSION_NOT_ALLOWED] = CMP_FAIL_BAD_CERT_TEMPLATE,
    [ERR_BAD_TEMPLATE] = CMP_FAIL_BAD_CERT_TEMPLATE,
    [ERR_SUBJECT_CHANGED] = CMP_FAIL_BAD_CERT_TEMPLATE,
    [ERR_NO_DEVICE_ID] = CMP_FAIL_BAD_CERT_TEMPLATE,
    [ERR_BAD_DEVICE_ID] = CMP_FAIL_BAD_CERT_TEMPLATE,
    [ERR_NOT_AUTHORIZED] = CMP_FAIL_NOT_AUTHORIZED,
    [ERR_CLIENT_CERT_REQUIRED] = CMP_FAIL_NOT_AUTHORIZED,
    [ERR_IDENTITY_MISMATCH] = CMP_FAIL_NOT_AUTHORIZED,
    [ERR_DEVICE_PROVISIONED] = CMP_FAIL_NOT_AUTHORIZED,
    [ERR_NOT_ALLOWED] = CMP_FAIL_NOT_AUTHORIZED,
    [ERR_QUOTA_SPENT] = CMP_FAIL_NOT_AUTHORIZED,
    [ERR_LOT_CLOSED] = CMP_FAIL_NOT_AUTHORIZED,
    [ERR_NO_LOT] = CMP_FAIL_NOT_AUTHORIZED,
    [ERR_HELD] = CMP_FAIL_SYSTEM_UNAVAIL,
    [ERR_RATE_LIMITED] = CMP_FAIL_SYSTEM_UNAVAIL,
    [ERR_OVERLOADED] = CMP_FAIL_SYSTEM_UNAVAIL,
    [ERR_STOPPING] = CMP_FAIL_SYSTEM_UNAVAIL,
    [ERR_DEADLINE] = CMP_FAIL_SYSTEM_UNAVAIL,
    [ERR_SIGNER_UNAVAILABLE] = CMP_FAIL_SYSTEM_UNAVAIL,
    [ERR_SIGNER_FAILED] = CMP_FAIL_SYSTEM_UNAVAIL,
    [ERR_SIGNATURE_WRONG] = CMP_FAIL_SYSTEM_UNAVAIL,
    [ERR_STORE_FULL] = CMP_FAIL_SYSTEM_UNAVAIL,
    [ERR_STORE_FAILED] = CMP_FAIL_SYSTEM_UNAVAIL,
    [ERR_STORE_BUSY] = CMP_FAIL_SYSTEM_UNAVAIL,
    [ERR_NO_SPACE] = CMP_FAIL_SYSTEM_UNAVAIL,
    [ERR_FULL] = CMP_FAIL_SYSTEM_UNAVAIL,
    [ERR_WAITING_FULL] = CMP_FAIL_SYSTEM_UNAVAIL,
    [ERR_HTTP_MALFORMED] = CMP_FAIL_SYSTEM_FAILURE,
    [ERR_HTTP_VERSION] = CMP_FAIL_SYSTEM_FAILURE,
    [ERR_HTTP_METHOD] = CMP_FAIL_SYSTEM_FAILURE,
    [ERR_HTTP_HEADER_TOO_LARGE] = CMP_FAIL_SYSTEM_FAILURE,
    [ERR_HTTP_LENGTH_REQUIRED] = CMP_FAIL_SYSTEM_FAILURE,
    [ERR_HTTP_MEDIA_TYPE] = CMP_FAIL_SYSTEM_FAILURE,
    [ERR_REQUEST_TIMEOUT] = CMP_FAIL_SYSTEM_FAILURE,
    [ERR_NOT_FOUND] = CMP_FAIL_SYSTEM_FAILURE,
    [ERR_NO_CRL] = CMP_FAIL_SYSTEM_FAILURE,
    [ERR_BAD_CRL] = CMP_FAIL_BAD_DATA_FORMAT,
    [ERR_UNKNOWN_LINE] = CMP_FAIL_SYSTEM_FAILURE,
    [ERR_STORE_VERSION] = CMP_FAIL_SYSTEM_FAILURE,
    [ERR_IO] = CMP_FAIL_SYSTEM_FAILURE,
    [ERR_CONFIG] = CMP_FAIL_SYSTEM_FAILURE,
    [ERR_PIN_WRONG] = CMP_FAIL_SYSTEM_FAILURE,
    [ERR_KEY_NOT_FOUND] = CMP_FAIL_SYSTEM_FAILURE,
    [ERR_UNSUPPORTED] = CMP_FAIL_SYSTEM_FAILURE,
    [ERR_INTERNAL] = CMP_FAIL_SYSTEM_FAILURE,
};

static void test_refusal_of_every_error(void **state)
{
    (void)state;
    struct fields fields = {.tid = TID, .nonce = NONCE, .pvno = 3};
    struct proto_context context = context_of();
    struct proto_message message;
    char expected[512];

    assert_int_equal(cmp_fail_of(ERR_OK), 0);
    assert_int_equal(cmp_fail_of((enum err)9999), CMP_FAIL_SYSTEM_FAILURE);
    assert_int_equal(take(message_of(CMP_IR, cert_reqs(1), fields), &context, &message), ERR_OK);
    for (enum err err = ERR_OK + 1; err < ERR_COUNT; err++) {
        struct proto_response response;
        struct cmp_status_info status;
        struct cmp_msg answer;
        if (expected_fail[err] == 0)
            print_error("%s has no failInfo here\n", err_code(err));
        assert_int_not_equal(expected_fail[err], 0);
        assert_int_equal(cmp_fail_of(err), expected_fail[err]);
        proto_cmp.refuse(&route, &line, NULL, &message, err, "why", "0011223344556677", 9, &arena,
                         &response);
        assert_int_equal(response.http_status, 200);
        assert_int_equal(response.protect, PROTECTION_SIGNATURE);
        assert_int_equal(proto_cmp.finish(&line, &message, BYTES_LIT("s"), &arena, &response),
                         ERR_OK);
        assert_int_equal(cmp_msg_decode(response.body, &answer), ERR_OK);
        assert_int_equal(answer.header.pvno, 3);
        assert_int_equal(answer.body, CMP_ERROR);
        assert_int_equal(cmp_error_decode(answer.content, &status), ERR_OK);
        assert_int_equal(status.status, CMP_REJECTION);
        assert_int_equal(status.fail, expected_fail[err]);
        snprintf(expected, sizeof(expected), "%s: %s (why)", err_code(err), err_sentence(err));
        assert_same(status.text, bytes_of_str(expected));
    }
}

/* A MAC is answered by a MAC once it held, and not before. */
static void test_protection_of_errors(void **state)
{
    (void)state;
    struct fields fields = {.tid = TID, .nonce = NONCE};
    struct proto_context context = context_of();
    struct proto_message message;
    struct proto_response response;
    struct bytes der = message_of(CMP_IR, cert_reqs(1), fields);
    assert_int_equal(decode(der, &message), ERR_OK);
    message.protection = PROTECTION_MAC;
    proto_cmp.refuse(&route, &line, NULL, &message, ERR_CMP_MESSAGE_CHECK, NULL, NULL, 0, &arena,
                     &response);
    assert_int_equal(response.protect, PROTECTION_SIGNATURE);
    cmp_line.sender_alg = SIG_NONE;
    proto_cmp.refuse(&route, &line, NULL, &message, ERR_CMP_MESSAGE_CHECK, NULL, NULL, 0, &arena,
                     &response);
    assert_int_equal(response.protect, PROTECTION_NONE);
    assert_int_equal(proto_cmp.resume(&route, &line, &context, &arena, &message), ERR_OK);
    proto_cmp.refuse(&route, &line, NULL, &message, ERR_BAD_REQUEST, NULL, NULL, 0, &arena,
                     &response);
    assert_int_equal(response.protect, PROTECTION_MAC);
}

static void test_refusals_in_http(void **state)
{
    (void)state;
    static const struct {
        enum err err;
        uint16_t status;
    } rows[] = {{ERR_NOT_FOUND, 404},          {ERR_UNKNOWN_LINE, 404},
                {ERR_NOT_OFFERED, 404},        {ERR_HTTP_METHOD, 405},
                {ERR_REQUEST_TIMEOUT, 408},    {ERR_HTTP_LENGTH_REQUIRED, 411},
                {ERR_BODY_TOO_LARGE, 413},     {ERR_HTTP_MEDIA_TYPE, 415},
                {ERR_RATE_LIMITED, 429},       {ERR_HTTP_HEADER_TOO_LARGE, 431},
                {ERR_BAD_DER, 400},            {ERR_OVERLOADED, 503},
                {ERR_SIGNER_UNAVAILABLE, 503}, {ERR_INTERNAL, 500}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct proto_response response;
        bool retry = rows[i].status == 503 || rows[i].status == 429;
        proto_cmp.refuse(&route, NULL, NULL, NULL, rows[i].err, NULL, "0011223344556677", 0, &arena,
                         &response);
        assert_int_equal(response.http_status, rows[i].status);
        assert_string_equal(response.content_type, "text/plain");
        assert_int_equal(response.retry_after_s, retry ? RETRY_AFTER_S : 0);
        assert_true((response.allow != NULL) == (rows[i].status == 405));
        assert_true(bytes_starts_with(response.body, bytes_of_str(err_code(rows[i].err))));
    }
}

/* --- paths --- */

static void test_paths(void **state)
{
    (void)state;
    static const struct {
        const char *path, *line;
        uint32_t operation;
        enum err err;
    } rows[] = {
        {"/.well-known/cmp", "", 0, ERR_OK},
        {"/.well-known/cmp/p/line-1", "line-1", 0, ERR_OK},
        {"/.well-known/cmp/initialization", "", 1, ERR_OK},
        {"/.well-known/cmp/p/x/nested", "x", 10, ERR_OK},
        {"/.well-known/cmp/p/p/getcrls", "p", 9, ERR_OK},
        {"/.well-known/cmp/", "", 0, ERR_NOT_FOUND},
        {"/.well-known/cmp/p", "", 0, ERR_NOT_FOUND},
        {"/.well-known/cmp/p//nested", "", 0, ERR_NOT_FOUND},
        {"/.well-known/cmp/p/x/", "x", 0, ERR_NOT_FOUND},
        {"/.well-known/cmp/p/x/nested/", "x", 0, ERR_NOT_FOUND},
        {"/.well-known/cmp/line-1", "", 0, ERR_NOT_FOUND},
        {"/.well-known/cmp/Nested", "", 0, ERR_NOT_FOUND},
    };
    struct proto_route found;
    enum err err;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        assert_true(proto_match(BYTES_LIT("POST"), bytes_of_str(rows[i].path), &found, &err));
        assert_ptr_equal(found.proto, &proto_cmp);
        assert_int_equal(err, rows[i].err);
        if (err != ERR_OK)
            continue;
        assert_same(found.line, bytes_of_str(rows[i].line));
        assert_int_equal(found.operation, rows[i].operation);
        assert_true(proto_match(BYTES_LIT("GET"), bytes_of_str(rows[i].path), &found, &err));
        assert_int_equal(err, ERR_HTTP_METHOD);
        assert_string_equal(found.allow, "POST");
    }
    assert_false(proto_match(BYTES_LIT("POST"), BYTES_LIT("/.well-known/cmpx"), &found, &err));
}

static void test_no_memory_sheds_load(void **state)
{
    (void)state;
    struct fields fields = {.tid = TID, .nonce = NONCE};
    struct bytes der = message_of(CMP_IR, cert_reqs(4), fields);
    struct proto_context context = context_of();
    struct proto_message message;
    struct proto_response response;
    arena_reset(&arena);
    arena_init(&arena, &pool, CHUNK_SMALL_SIZE);
    assert_int_equal(decode(der, &message), ERR_OK);
    message.protection = PROTECTION_SIGNATURE;
    assert_int_equal(proto_cmp.resume(&route, &line, &context, &arena, &message), ERR_OVERLOADED);
    while (arena_alloc(&arena, 16))
        continue;
    proto_cmp.refuse(&route, &line, NULL, &message, ERR_OVERLOADED, NULL, NULL, 0, &arena,
                     &response);
    assert_int_equal(response.http_status, 503);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ARENA(test_refusal_of_every_error),
        WITH_ARENA(test_protection_of_errors),
        WITH_ARENA(test_refusals_in_http),
        WITH_ARENA(test_paths),
        WITH_ARENA(test_no_memory_sheds_load),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
