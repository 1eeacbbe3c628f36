/* Does every route, body and outcome of EST get the answer of spec/est.md, in the exact form that
 * real clients need? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "asn1/base64.h"
#include "asn1/cms.h"
#include "asn1/der.h"
#include "asn1/oid.h"
#include "ca/issue.h"
#include "proto/est.h"

/* --- fixtures --- */

/* RFC 6979 A.2.5 */
static const char p256_spki_hex[] =
    "3059301306072a8648ce3d020106082a8648ce3d03010703420004"
    "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";

static const uint8_t dummy_signature[] = {0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01};

static struct chunk_pool pool;
static struct arena arena;
static uint8_t cert_buf[1024], csr_buf[1024], cms_buf[2048];
static struct bytes cert_der, csr_der, cms_der;

static void make_cert_and_csr(void)
{
    const uint8_t serial[SERIAL_LEN] = {1};
    uint8_t spki[128], name[64], tbs[512];
    size_t spki_len, name_len, tbs_len, len;

    assert_true(bytes_from_hex(bytes_of_str(p256_spki_hex), spki, sizeof(spki), &spki_len));
    assert_true(name_from_text("CN=device-11", name, sizeof(name), &name_len));
    struct ca_cert_input input = {.subject = bytes_of(name, name_len),
                                  .spki = bytes_of(spki, spki_len),
                                  .sig_alg = SIG_ECDSA_SHA256,
                                  .serial = serial,
                                  .not_after_s = 86400,
                                  .path_len = -1};
    assert_int_equal(ca_cert_tbs_build(&input, tbs, sizeof(tbs), &tbs_len), ERR_OK);
    assert_int_equal(cert_assemble(bytes_of(tbs, tbs_len), SIG_ECDSA_SHA256,
                                   BYTES_ARRAY(dummy_signature), cert_buf, sizeof(cert_buf), &len),
                     ERR_OK);
    cert_der = bytes_of(cert_buf, len);
    assert_int_equal(ca_csr_info_build(input.subject, input.spki, tbs, sizeof(tbs), &tbs_len),
                     ERR_OK);
    assert_int_equal(cert_assemble(bytes_of(tbs, tbs_len), SIG_ECDSA_SHA256,
                                   BYTES_ARRAY(dummy_signature), csr_buf, sizeof(csr_buf), &len),
                     ERR_OK);
    csr_der = bytes_of(csr_buf, len);
    assert_int_equal(cms_certs_only_build(&cert_der, 1, cms_buf, sizeof(cms_buf), &len), ERR_OK);
    cms_der = bytes_of(cms_buf, len);
}

static int group_setup(void **state)
{
    (void)state;
    const uint32_t counts[CHUNK_CLASS_COUNT] = {4, 4, 1};
    if (chunk_pool_init_counts(&pool, counts) != ERR_OK)
        return -1;
    make_cert_and_csr();
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    chunk_pool_destroy(&pool);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    arena_init(&arena, &pool, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    arena_reset(&arena);
    return 0;
}

static struct proto_line line_with_wrap(uint32_t wrap)
{
    return (struct proto_line){.name = "widgets",
                               .ca_certs = &cert_der,
                               .ca_cert_count = 1,
                               .ca_certs_cms = cms_der,
                               .base64_wrap = wrap,
                               .offer_confirm = true};
}

static struct proto_route route_of(const char *method, const char *path)
{
    struct proto_route route;
    enum err err = ERR_INTERNAL;
    assert_true(proto_match(bytes_of_str(method), bytes_of_str(path), &route, &err));
    assert_int_equal(err, ERR_OK);
    return route;
}

static struct proto_request post(const char *content_type, struct bytes body)
{
    return (struct proto_request){.method = BYTES_LIT("POST"),
                                  .content_type = bytes_of_str(content_type),
                                  .body = body,
                                  .has_body = true,
                                  .over_tls = true};
}

static struct bytes base64_of(struct bytes data, uint32_t wrap)
{
    size_t len = base64_encoded_len(data.len, wrap);
    uint8_t *text = arena_alloc(&arena, len);
    assert_non_null(text);
    assert_int_equal(base64_encode(data, wrap, text), len);
    return bytes_of(text, len);
}

/* --- routes --- */

static void test_routes(void **state)
{
    (void)state;
    const struct {
        const char *method, *name;
        enum proto_action action;
        bool has_body;
    } operations[] = {
        {"GET", "cacerts", ACTION_CA_CERTS, false},
        {"GET", "csrattrs", ACTION_CSR_ATTRS, false},
        {"POST", "simpleenroll", ACTION_ENROLL, true},
        {"POST", "simplereenroll", ACTION_REENROLL, true},
        {"POST", "serverkeygen", ACTION_SERVER_KEYGEN, true},
        {"POST", "fullcmc", ACTION_FULL_CMC, true},
        {"POST", "confirm", ACTION_CONFIRM, true},
    };
    const char *const methods[] = {"GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "get", ""};
    const char *const lines[] = {"", "widgets", "line-3", "a"};
    char path[128];

    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
        assert_true(est_is_operation_name(bytes_of_str(operations[i].name)));
        for (size_t l = 0; l < sizeof(lines) / sizeof(lines[0]); l++) {
            snprintf(path, sizeof(path), "/.well-known/est/%s%s%s", lines[l],
                     lines[l][0] != '\0' ? "/" : "", operations[i].name);
            for (size_t m = 0; m < sizeof(methods) / sizeof(methods[0]); m++) {
                struct proto_route route;
                enum err err = ERR_INTERNAL;
                assert_true(
                    proto_match(bytes_of_str(methods[m]), bytes_of_str(path), &route, &err));
                assert_ptr_equal(route.proto, &proto_est);
                assert_int_equal(route.action, operations[i].action);
                assert_true(bytes_eq(route.line, bytes_of_str(lines[l])));
                assert_string_equal(route.allow, operations[i].method);
                assert_int_equal(route.body_max, operations[i].has_body ? EST_BODY_MAX : 0);
                bool allowed = strcmp(methods[m], operations[i].method) == 0;
                assert_int_equal(err, allowed ? ERR_OK : ERR_HTTP_METHOD);
            }
        }
    }
}

static void test_paths_that_are_none(void **state)
{
    (void)state;
    const char *const ours[] = {
        "/.well-known/est",
        "/.well-known/est/",
        "/.well-known/est//cacerts",
        "/.well-known/est/cacerts/",
        "/.well-known/est/CACERTS",
        "/.well-known/est/cacert",
        "/.well-known/est/cacertss",
        "/.well-known/est/a/b/cacerts",
        "/.well-known/est/widgets",
        "/.well-known/est/widgets/",
        "/.well-known/est/cacerts/cacerts", /* RFC 7030 3.2.2: no label is called so */
        "/.well-known/est/simpleenroll/cacerts",
        "/.well-known/est/w%69dgets/cacerts",
        "/.well-known/est/%63acerts",
    };
    const char *const not_ours[] = {"",
                                    "/",
                                    "/.well-known",
                                    "/.well-known/es",
                                    "/.well-known/established",
                                    "/.well-known/EST/cacerts",
                                    "/.well-known/est-coaps/cacerts",
                                    "/x/.well-known/est/cacerts"};
    struct proto_route route;
    enum err err;

    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        assert_true(proto_match(BYTES_LIT("GET"), bytes_of_str(ours[i]), &route, &err));
        assert_int_equal(err, ERR_NOT_FOUND);
        assert_ptr_equal(route.proto, &proto_est);
    }
    for (size_t i = 0; i < sizeof(not_ours) / sizeof(not_ours[0]); i++)
        assert_false(proto_match(BYTES_LIT("GET"), bytes_of_str(not_ours[i]), &route, &err));
    assert_false(est_is_operation_name(BYTES_LIT("widgets")));
    assert_false(est_is_operation_name(BYTES_LIT("")));
}

/* --- enrollment requests --- */

static enum err decode(const char *path, const struct proto_line *line,
                       const struct proto_request *request, struct proto_message *out)
{
    struct proto_route route = route_of("POST", path);
    return proto_est.decode(&route, line, request, &arena, out);
}

static void test_enroll_body(void **state)
{
    (void)state;
    const struct proto_line line = line_with_wrap(0);
    const char *const paths[] = {"/.well-known/est/simpleenroll",
                                 "/.well-known/est/widgets/simplereenroll"};
    const uint32_t wraps[] = {0, 64, 76, 5};

    for (size_t p = 0; p < 2; p++) {
        for (size_t w = 0; w < sizeof(wraps) / sizeof(wraps[0]); w++) {
            struct proto_request request = post("application/pkcs10", base64_of(csr_der, wraps[w]));
            struct proto_message message;
            assert_int_equal(decode(paths[p], &line, &request, &message), ERR_OK);
            assert_int_equal(message.action, p == 0 ? ACTION_ENROLL : ACTION_REENROLL);
            assert_int_equal(message.request_count, 1);
            assert_int_equal(message.protection, PROTECTION_NONE);
            assert_int_equal(message.requests[0].pop, POP_SIGNATURE);
            assert_int_equal(message.requests[0].spki.alg, KEY_EC_P256);
            arena_reset(&arena);
        }
    }
}

static void test_enroll_bodies_that_are_wrong(void **state)
{
    (void)state;
    const struct proto_line line = line_with_wrap(0);
    uint8_t longer[1024];
    memcpy(longer, csr_der.ptr, csr_der.len);
    longer[csr_der.len] = 0;
    const struct {
        struct bytes body;
        enum err err;
    } cases[] = {
        {csr_der, ERR_BAD_BASE64}, /* DER as such: RFC 8951 3 wants base64 */
        {BYTES_LIT("-----BEGIN CERTIFICATE REQUEST-----\n"), ERR_BAD_BASE64},
        {BYTES_LIT("AAA"), ERR_BAD_BASE64},
        {BYTES_LIT("MA=="), ERR_BAD_DER},
        {BYTES_LIT(""), ERR_BAD_DER},
        {base64_of(bytes_of(longer, csr_der.len + 1), 0), ERR_DER_TRAILING},
        {base64_of(cert_der, 0), ERR_BAD_DER},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct proto_request request = post("application/pkcs10", cases[i].body);
        struct proto_message message = {.request_count = 77};
        enum err err = decode("/.well-known/est/simpleenroll", &line, &request, &message);
        assert_int_equal(err, cases[i].err);
        assert_int_equal(est_status(err), 400);
        assert_int_equal(message.request_count, 77); /* untouched */
    }
}

static void test_media_type(void **state)
{
    (void)state;
    const struct proto_line line = line_with_wrap(0);
    const struct {
        const char *type;
        enum err err;
    } cases[] = {
        {"application/pkcs10", ERR_OK},
        {"APPLICATION/Pkcs10", ERR_OK},
        {"application/pkcs10; charset=utf-8", ERR_OK},
        {"application/pkcs10;charset=utf-8", ERR_OK},
        {"application/pkcs10 ;x", ERR_OK},
        {"application/pkcs10 ", ERR_OK},
        {"", ERR_HTTP_MEDIA_TYPE},
        {"application/pkcs1", ERR_HTTP_MEDIA_TYPE},
        {"application/pkcs100", ERR_HTTP_MEDIA_TYPE},
        {"application/pkcs10 x", ERR_HTTP_MEDIA_TYPE},
        {"application/pkcs7-mime", ERR_HTTP_MEDIA_TYPE},
        {"application/x-www-form-urlencoded", ERR_HTTP_MEDIA_TYPE},
    };
    struct bytes body = base64_of(csr_der, 0);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct proto_request request = post(cases[i].type, body);
        struct proto_message message;
        assert_int_equal(decode("/.well-known/est/simpleenroll", &line, &request, &message),
                         cases[i].err);
    }
}

static void test_operations_not_offered(void **state)
{
    (void)state;
    struct proto_line line = line_with_wrap(0);
    struct proto_request request = post("application/pkcs10", base64_of(csr_der, 0));
    struct proto_message message;

    assert_int_equal(decode("/.well-known/est/serverkeygen", &line, &request, &message),
                     ERR_NOT_OFFERED);
    assert_int_equal(decode("/.well-known/est/fullcmc", &line, &request, &message),
                     ERR_NOT_OFFERED);
    line.offer_confirm = false;
    assert_int_equal(decode("/.well-known/est/confirm", &line, &request, &message),
                     ERR_NOT_OFFERED);
    assert_int_equal(est_status(ERR_NOT_OFFERED), 501);
}

static void test_no_memory_sheds_load(void **state)
{
    (void)state;
    const uint32_t none[CHUNK_CLASS_COUNT] = {0, 0, 0};
    const struct proto_line line = line_with_wrap(0);
    struct proto_request request = post("application/pkcs10", base64_of(csr_der, 0));
    struct proto_route enroll = route_of("POST", "/.well-known/est/simpleenroll");
    const struct proto_outcome outcome = {ERR_OK, cert_der};
    struct proto_message message = {0};
    struct proto_response response;
    struct chunk_pool empty_pool;
    struct arena empty;

    assert_int_equal(chunk_pool_init_counts(&empty_pool, none), ERR_OK);
    arena_init(&empty, &empty_pool, 0);
    assert_int_equal(proto_est.decode(&enroll, &line, &request, &empty, &message), ERR_OVERLOADED);
    assert_int_equal(
        proto_est.encode(&enroll, &line, &request, &message, &outcome, &empty, &response),
        ERR_OVERLOADED);
    proto_est.refuse(&enroll, &line, &request, NULL, ERR_QUOTA_SPENT, "lot 7", "0123", 0, &empty,
                     &response);
    assert_true(
        bytes_eq(response.body, BYTES_LIT("quota-spent: The quota of the lot is spent.\n")));
    proto_est.refuse(NULL, NULL, NULL, NULL, ERR_QUOTA_SPENT, NULL, NULL, 0, NULL, &response);
    assert_true(
        bytes_eq(response.body, BYTES_LIT("quota-spent: The quota of the lot is spent.\n")));
    arena_reset(&empty);
    chunk_pool_destroy(&empty_pool);
}

/* --- confirm --- */

static const char fingerprint_hex[] =
    "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
static const char fingerprint_colons[] = "00:11:22:33:44:55:66:77:88:99:aa:bb:cc:dd:ee:ff:"
                                         "00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF";

static enum err decode_confirm(const char *query, struct bytes body, struct proto_message *out)
{
    const struct proto_line line = line_with_wrap(0);
    struct proto_request request = post("text/plain", body);
    request.query = bytes_of_str(query);
    return decode("/.well-known/est/confirm", &line, &request, out);
}

static void test_confirm_by_fingerprint(void **state)
{
    (void)state;
    const char *const forms[] = {fingerprint_hex, fingerprint_colons};
    const char *const ends[] = {"", "\n", "\r\n", " \t\r\n"};
    uint8_t expected[32];
    size_t len;
    char body[256];

    assert_true(bytes_from_hex(bytes_of_str(fingerprint_hex), expected, 32, &len));
    for (size_t f = 0; f < 2; f++) {
        for (size_t e = 0; e < sizeof(ends) / sizeof(ends[0]); e++) {
            struct proto_message message;
            snprintf(body, sizeof(body), "%s%s", forms[f], ends[e]);
            assert_int_equal(decode_confirm("", bytes_of_str(body), &message), ERR_OK);
            assert_int_equal(message.action, ACTION_CONFIRM);
            assert_true(bytes_eq(message.confirm_fingerprint, BYTES_ARRAY(expected)));
            assert_int_equal(message.confirm_cert.len, 0);
            assert_int_equal(message.confirm_device.len, 0);
        }
    }
}

static void test_confirm_by_certificate(void **state)
{
    (void)state;
    static uint8_t pem[4096];
    struct writer writer = writer_of(pem, sizeof(pem));
    struct proto_message message;

    assert_int_equal(decode_confirm("", base64_of(cert_der, 64), &message), ERR_OK);
    assert_true(bytes_eq(message.confirm_cert, cert_der));
    assert_int_equal(message.confirm_fingerprint.len, 0);
    writer_put_str(&writer, "\n");
    pem_put(&writer, "CERTIFICATE", cert_der);
    assert_int_equal(decode_confirm("", writer_view(&writer), &message), ERR_OK);
    assert_true(bytes_eq(message.confirm_cert, cert_der));
    pem_put(&writer, "CERTIFICATE", cert_der); /* which of the two? */
    assert_int_equal(decode_confirm("", writer_view(&writer), &message), ERR_BAD_REQUEST);
}

static void test_confirm_bodies_that_are_wrong(void **state)
{
    (void)state;
    char no_hex[] = "zz112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEF";
    char bad_colon[sizeof(fingerprint_colons)];
    memcpy(bad_colon, fingerprint_colons, sizeof(bad_colon));
    bad_colon[2] = '-';
    const struct {
        struct bytes body;
        enum err err;
    } cases[] = {
        {BYTES_LIT(""), ERR_BAD_REQUEST},
        {BYTES_LIT(" \r\n"), ERR_BAD_REQUEST},
        {bytes_of(fingerprint_hex, 62), ERR_BAD_BASE64},
        {bytes_of_str(no_hex), ERR_BAD_BASE64},
        {bytes_of_str(bad_colon), ERR_BAD_BASE64},
        {base64_of(csr_der, 0), ERR_BAD_DER},
        {cert_der, ERR_BAD_BASE64},
        {BYTES_LIT("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"), ERR_BAD_DER},
        {BYTES_LIT("-----BEGIN CERTIFICATE-----\nM"), ERR_BAD_BASE64},
        {BYTES_LIT("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"), ERR_BAD_CERT},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct proto_message message;
        assert_int_equal(decode_confirm("", cases[i].body, &message), cases[i].err);
        assert_int_equal(est_status(cases[i].err), 400);
    }
}

static void test_confirm_device(void **state)
{
    (void)state;
    const struct {
        const char *query;
        const char *device; /* NULL: err */
        enum err err;
    } cases[] = {
        {"device=SN-0001", "SN-0001", ERR_OK},
        {"x=1&device=SN-0001&y=2", "SN-0001", ERR_OK},
        {"device=SN%3A0001", "SN:0001", ERR_OK},
        {"devices=SN-0001", "", ERR_OK},
        {"Device=SN-0001", "", ERR_OK},
        {"&&", "", ERR_OK},
        {"device=", NULL, ERR_BAD_DEVICE_ID},
        {"device=a&device=a", NULL, ERR_BAD_REQUEST},
        {"device=a%", NULL, ERR_BAD_DEVICE_ID},
        {"device=a%2", NULL, ERR_BAD_DEVICE_ID},
        {"device=a%zz", NULL, ERR_BAD_DEVICE_ID},
        {"device=a%00", NULL, ERR_BAD_DEVICE_ID},
        {"device=a%20b", NULL, ERR_BAD_DEVICE_ID},
        {"device=\xc3\xa4", NULL, ERR_BAD_DEVICE_ID},
        {"device=0123456789012345678901234567890123456789012345678901234567890123",
         "0123456789012345678901234567890123456789012345678901234567890123", ERR_OK},
        {"device=01234567890123456789012345678901234567890123456789012345678901234", NULL,
         ERR_BAD_DEVICE_ID},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct proto_message message;
        assert_int_equal(decode_confirm(cases[i].query, bytes_of_str(fingerprint_hex), &message),
                         cases[i].err);
        if (cases[i].device != NULL)
            assert_true(bytes_eq(message.confirm_device, bytes_of_str(cases[i].device)));
    }
}

/* --- answers --- */

static void assert_str_or_null(const char *got, const char *expected)
{
    if (expected == NULL)
        assert_null(got);
    else
        assert_string_equal(got, expected);
}

/* Body: base64 of `expected`, wrapped so. */
static void assert_base64_body(const struct proto_response *response, const char *content_type,
                               struct bytes expected, uint32_t wrap)
{
    assert_int_equal(response->http_status, 200);
    assert_string_equal(response->content_type, content_type);
    assert_string_equal(response->content_transfer_encoding, "base64");
    assert_null(response->allow);
    assert_null(response->www_authenticate);
    assert_int_equal(response->retry_after_s, 0);
    assert_true(bytes_eq(response->body, base64_of(expected, wrap)));
}

static void encode(const struct proto_route *route, const struct proto_line *line,
                   const char *user_agent, struct proto_response *out)
{
    const struct proto_request request = {.user_agent = bytes_of_str(user_agent)};
    const struct proto_message message = {.action = route->action};
    const struct proto_outcome outcome = {ERR_OK, cert_der};
    assert_int_equal(proto_est.encode(route, line, &request, &message, &outcome, &arena, out),
                     ERR_OK);
}

static void test_wrapping(void **state)
{
    (void)state;
    const struct {
        uint32_t line_wrap;
        const char *user_agent;
        uint32_t wrap;
    } cases[] = {
        {0, "", 0},
        {64, "", 64},
        {76, "", 76},
        {0, "libest 3.2", 64},
        {76, "libest/r4", 64},
        {0, "libestx", 64},
        {0, "my libest", 0},
        {0, "LibEST", 0},
    };
    struct proto_route enroll = route_of("POST", "/.well-known/est/simpleenroll");
    struct proto_route ca_certs = route_of("GET", "/.well-known/est/cacerts");
    struct proto_response response;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct proto_line line = line_with_wrap(cases[i].line_wrap);
        encode(&enroll, &line, cases[i].user_agent, &response);
        assert_base64_body(&response, "application/pkcs7-mime; smime-type=certs-only", cms_der,
                           cases[i].wrap);
        encode(&ca_certs, &line, cases[i].user_agent, &response);
        assert_base64_body(&response, "application/pkcs7-mime", cms_der, cases[i].wrap);
    }
}

static void test_csr_attrs(void **state)
{
    (void)state;
    const uint8_t attrs[] = {0x30, 0x03, 0x06, 0x01, 0x2a};
    struct proto_route route = route_of("GET", "/.well-known/est/csrattrs");
    struct proto_line line = line_with_wrap(0);
    struct proto_response response;

    line.csr_attrs = BYTES_ARRAY(attrs);
    encode(&route, &line, "", &response);
    assert_base64_body(&response, "application/csrattrs", BYTES_ARRAY(attrs), 0);
    line.csr_attrs = (struct bytes){0};
    encode(&route, &line, "", &response);
    assert_int_equal(response.http_status, 204);
    assert_null(response.content_type);
    assert_null(response.content_transfer_encoding);
    assert_int_equal(response.body.len, 0);
}

static void test_enroll_and_confirm_outcomes(void **state)
{
    (void)state;
    struct proto_route enroll = route_of("POST", "/.well-known/est/simplereenroll");
    struct proto_route confirm = route_of("POST", "/.well-known/est/confirm");
    const struct proto_line line = line_with_wrap(0);
    const struct proto_request request = {0};
    const struct proto_message message = {0};
    const struct proto_outcome refused = {.err = ERR_KEY_USED};
    struct proto_response response = {.http_status = 77};
    struct bytes certs[2];
    uint8_t der[2048];
    size_t len, count;

    assert_int_equal(
        proto_est.encode(&enroll, &line, &request, &message, &refused, &arena, &response),
        ERR_KEY_USED);
    assert_int_equal(response.http_status, 77); /* untouched */

    encode(&enroll, &line, "", &response); /* RFC 7030 4.2.3: the issued certificate alone */
    assert_true(base64_decode(response.body, der, sizeof(der), &len));
    assert_int_equal(cms_certs_only_decode(bytes_of(der, len), certs, 2, &count), ERR_OK);
    assert_int_equal(count, 1);
    assert_true(bytes_eq(certs[0], cert_der));

    assert_int_equal(proto_est.encode(&confirm, &line, &request, &message, NULL, &arena, &response),
                     ERR_OK);
    assert_int_equal(response.http_status, 200);
    assert_string_equal(response.content_type, "text/plain");
    assert_null(response.content_transfer_encoding);
    assert_true(bytes_eq(response.body, BYTES_LIT("confirmed\n")));
}

/* spec/est.md, Answers. Every error stands here by name: a new one must be given a status. */
static const uint16_t expected_status[ERR_COUNT] = {
    [ERR_OK] = 200,
    [ERR_HTTP_MALFORMED] = 400,
    [ERR_HTTP_VERSION] = 505,
    [ERR_HTTP_METHOD] = 405,
    [ERR_HTTP_HEADER_TOO_LARGE] = 431,
    [ERR_HTTP_LENGTH_REQUIRED] = 411,
    [ERR_HTTP_MEDIA_TYPE] = 415,
    [ERR_BODY_TOO_LARGE] = 413,
    [ERR_REQUEST_TIMEOUT] = 408,
    [ERR_NOT_FOUND] = 404,
    [ERR_UNKNOWN_LINE] = 404,
    [ERR_NOT_OFFERED] = 501,
    [ERR_BAD_BASE64] = 400,
    [ERR_BAD_DER] = 400,
    [ERR_DER_TRAILING] = 400,
    [ERR_BAD_CSR] = 400,
    [ERR_BAD_CERT] = 400,
    [ERR_BAD_CRL] = 400,
    [ERR_BAD_REQUEST] = 400,
    [ERR_TRANSACTION_IN_USE] = 400,
    [ERR_BAD_ALG] = 400,
    [ERR_BAD_KEY] = 400,
    [ERR_BAD_SIGNATURE] = 400,
    [ERR_BAD_POP] = 400,
    [ERR_POP_LINK_MISMATCH] = 400,
    [ERR_POP_LINK_REQUIRED] = 400,
    /* CMP's own never meet EST */
    [ERR_CMP_VERSION] = 400,
    [ERR_CMP_MESSAGE_CHECK] = 400,
    [ERR_CMP_WRONG_INTEGRITY] = 400,
    [ERR_CMP_BAD_TIME] = 400,
    [ERR_CMP_SENDER_NONCE] = 400,
    [ERR_CMP_RECIPIENT_NONCE] = 400,
    [ERR_CMP_TRANSACTION] = 400,
    [ERR_CMP_NO_TRANSACTION] = 400,
    [ERR_CMP_CERT_ID] = 400,
    [ERR_CMP_NO_CERT_ID] = 400,
    [ERR_CMP_WRONG_AUTHORITY] = 400,
    [ERR_CMP_BODY] = 400,
    [ERR_AUTH_REQUIRED] = 401,
    [ERR_AUTH_FAILED] = 401,
    [ERR_CLIENT_CERT_REQUIRED] = 403,
    [ERR_CLIENT_CERT_UNTRUSTED] = 403,
    [ERR_CLIENT_CERT_EXPIRED] = 403,
    [ERR_CLIENT_CERT_REVOKED] = 403,
    [ERR_NOT_AUTHORIZED] = 403,
    [ERR_SUBJECT_CHANGED] = 403,
    [ERR_NO_DEVICE_ID] = 400,
    [ERR_BAD_DEVICE_ID] = 400,
    [ERR_IDENTITY_MISMATCH] = 403,
    [ERR_KEY_NOT_ALLOWED] = 403,
    [ERR_EXTENSION_NOT_ALLOWED] = 403,
    [ERR_BAD_TEMPLATE] = 403,
    [ERR_DEVICE_PROVISIONED] = 403,
    [ERR_KEY_USED] = 403,
    [ERR_CERT_REVOKED] = 403,
    [ERR_CERT_UNKNOWN] = 403,
    [ERR_CERT_CONFIRMED] = 403,
    [ERR_NOT_ALLOWED] = 403,
    [ERR_QUOTA_SPENT] = 403,
    [ERR_LOT_CLOSED] = 403,
    [ERR_NO_LOT] = 403,
    [ERR_HELD] = 202,
    [ERR_RATE_LIMITED] = 429,
    [ERR_OVERLOADED] = 503,
    [ERR_STOPPING] = 503,
    [ERR_DEADLINE] = 503,
    [ERR_SIGNER_UNAVAILABLE] = 503,
    [ERR_SIGNER_FAILED] = 503,
    [ERR_SIGNATURE_WRONG] = 503,
    [ERR_NO_CRL] = 503,
    [ERR_STORE_FULL] = 503,
    [ERR_STORE_FAILED] = 503,
    [ERR_STORE_VERSION] = 503,
    [ERR_STORE_BUSY] = 503,
    [ERR_NO_SPACE] = 500,
    [ERR_FULL] = 503,
    [ERR_IO] = 503,
    [ERR_CONFIG] = 500,
    [ERR_PIN_WRONG] = 503,
    [ERR_KEY_NOT_FOUND] = 503,
    [ERR_UNSUPPORTED] = 500,
    [ERR_WAITING_FULL] = 503,
    [ERR_INTERNAL] = 500,
};

static void test_status_of_every_error(void **state)
{
    (void)state;
    for (enum err err = ERR_OK; err < ERR_COUNT; err++) {
        if (expected_status[err] == 0)
            print_error("%s has no status here\n", err_code(err));
        assert_int_not_equal(expected_status[err], 0);
        assert_int_equal(est_status(err), expected_status[err]);
    }
    assert_int_equal(est_status(ERR_COUNT), 500);
    assert_int_equal(est_status((enum err)9999), 500);
}

static void test_refusal_of_every_error(void **state)
{
    (void)state;
    struct proto_route route = route_of("GET", "/.well-known/est/cacerts");
    char expected[512];

    for (enum err err = ERR_OK + 1; err < ERR_COUNT; err++) {
        struct proto_response response;
        uint16_t status = est_status(err);
        bool retry = status == 202 || status == 429 || status == 503;
        proto_est.refuse(&route, NULL, NULL, NULL, err, "why", "0011223344556677", 9, &arena,
                         &response);
        assert_int_equal(response.http_status, status);
        assert_null(response.content_transfer_encoding);
        assert_int_equal(response.retry_after_s, retry ? 9 : 0);
        assert_str_or_null(response.allow, status == 405 ? "GET" : NULL);
        assert_str_or_null(response.www_authenticate,
                           status == 401 ? "Basic realm=\"certmill\"" : NULL);
        if (status == 401 || status == 202) {
            assert_int_equal(response.body.len, 0);
            assert_null(response.content_type);
        } else {
            snprintf(expected, sizeof(expected), "%s: %s (why) [0011223344556677]\n", err_code(err),
                     err_sentence(err));
            assert_string_equal(response.content_type, "text/plain");
            assert_true(bytes_eq(response.body, bytes_of_str(expected)));
        }
        arena_reset(&arena);
        proto_est.refuse(&route, NULL, NULL, NULL, err, NULL, NULL, 0, &arena, &response);
        assert_int_equal(response.retry_after_s, retry ? RETRY_AFTER_S : 0);
    }
}

static void test_refusal_text(void **state)
{
    (void)state;
    struct proto_response response;
    char long_detail[2000];

    /* one line, printable, whatever the detail holds */
    proto_est.refuse(NULL, NULL, NULL, NULL, ERR_BAD_CSR, "a\r\nX: y\x7f\xff", "", 0, &arena,
                     &response);
    assert_true(
        bytes_eq(response.body, BYTES_LIT("bad-csr: The certification request is malformed. "
                                          "(a??X: y?"
                                          "?)\n")));
    memset(long_detail, 'x', sizeof(long_detail) - 1);
    long_detail[sizeof(long_detail) - 1] = '\0';
    proto_est.refuse(NULL, NULL, NULL, NULL, ERR_BAD_CSR, long_detail, long_detail, 0, &arena,
                     &response);
    assert_in_range(response.body.len, 500, 700);
    /* no route: a path that is nobody's; 405 still names methods */
    proto_est.refuse(NULL, NULL, NULL, NULL, ERR_HTTP_METHOD, NULL, NULL, 0, &arena, &response);
    assert_string_equal(response.allow, "GET, POST");
    /* a refusal that is none is our bug, and never a success */
    proto_est.refuse(NULL, NULL, NULL, NULL, ERR_OK, NULL, NULL, 0, &arena, &response);
    assert_int_equal(response.http_status, 500);
    assert_true(bytes_starts_with(response.body, BYTES_LIT("internal: ")));
}

/* --- proof-of-possession linking --- */

static void test_pop_linking(void **state)
{
    (void)state;
    uint8_t exporter[32], tls_unique[12], longest[64], too_long[65];
    for (size_t i = 0; i < sizeof(too_long); i++)
        too_long[i] = (uint8_t)(0xf0 + i);
    memcpy(exporter, too_long, sizeof(exporter));
    memcpy(tls_unique, too_long, sizeof(tls_unique));
    memcpy(longest, too_long, sizeof(longest));
    const struct bytes bindings[] = {BYTES_ARRAY(exporter), BYTES_ARRAY(tls_unique),
                                     BYTES_ARRAY(longest)};

    for (size_t i = 0; i < sizeof(bindings) / sizeof(bindings[0]); i++) {
        uint8_t text[128];
        struct bytes right = base64_of(bindings[i], 0);
        assert_true(est_pop_link_matches(right, bindings[i]));
        memcpy(text, right.ptr, right.len);
        for (size_t at = 0; at < right.len; at++) { /* every character counts */
            text[at] ^= 1;
            assert_false(est_pop_link_matches(bytes_of(text, right.len), bindings[i]));
            text[at] ^= 1;
        }
        for (size_t len = 0; len < right.len; len++) /* so does the length */
            assert_false(est_pop_link_matches(bytes_of(text, len), bindings[i]));
        text[right.len] = '\n';
        assert_false(est_pop_link_matches(bytes_of(text, right.len + 1), bindings[i]));
        assert_false(est_pop_link_matches(bindings[i], bindings[i])); /* not base64 */
    }
    /* no binding links nothing, least of all an empty password */
    assert_false(est_pop_link_matches(BYTES_LIT(""), BYTES_LIT("")));
    assert_false(est_pop_link_matches(base64_of(BYTES_ARRAY(too_long), 0), BYTES_ARRAY(too_long)));
    /* a vector by hand: RFC 4648 10 */
    assert_true(est_pop_link_matches(BYTES_LIT("Zm9vYmE="), BYTES_LIT("fooba")));
}

int main(void)
{
#define WITH_ARENA(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH_ARENA(test_routes),
        WITH_ARENA(test_paths_that_are_none),
        WITH_ARENA(test_enroll_body),
        WITH_ARENA(test_enroll_bodies_that_are_wrong),
        WITH_ARENA(test_media_type),
        WITH_ARENA(test_operations_not_offered),
        WITH_ARENA(test_no_memory_sheds_load),
        WITH_ARENA(test_confirm_by_fingerprint),
        WITH_ARENA(test_confirm_by_certificate),
        WITH_ARENA(test_confirm_bodies_that_are_wrong),
        WITH_ARENA(test_confirm_device),
        WITH_ARENA(test_wrapping),
        WITH_ARENA(test_csr_attrs),
        WITH_ARENA(test_enroll_and_confirm_outcomes),
        WITH_ARENA(test_status_of_every_error),
        WITH_ARENA(test_refusal_of_every_error),
        WITH_ARENA(test_refusal_text),
        WITH_ARENA(test_pop_linking),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
