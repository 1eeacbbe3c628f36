/* Does CMP's wire form come back as it was written, for every body, and is each thing refused that
 * breaks a rule?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "proto/cmp_msg.h"
#include "tests/unit/test_der_make.h"

#define DIR(text)    CTX(4, NAME(text))
#define ALG          SEQ(OID(0x2a, 0x03))
#define ID_IT(arc)   OID(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x04, arc)
#define ITEM(arc, v) SEQ(ID_IT(arc), v)
#define STATUS(n)    SEQ(INT(n))
#define A_CERT       SEQ(SEQ(INT(5)), ALG, BITS('s'))
#define PKICONF      CTX(19, A_NULL)
#define PLAIN_HEADER SEQ(INT(2), DIR("a"), DIR("b"))

enum { LIST_MAX = 4 };

static uint8_t room[1 << 16];

static enum err decode_header(struct bytes header, struct cmp_msg *out)
{
    return cmp_msg_decode(SEQ(header, PKICONF), out);
}

/* --- header and frame --- */

static void test_header_comes_back(void **state)
{
    (void)state;
    struct cmp_msg msg, again;
    struct bytes written;
    der_make_reset();
    struct bytes header = SEQ(
        INT(3), DIR("a"), TLV(0x82, bytes_of_str("b.example")), CTX(0, GENTIME("19700101000001Z")),
        CTX(1, ALG), CTX(2, OCTETS("kid")), CTX(3, OCTETS("rkid")), CTX(4, OCTETS("tid")),
        CTX(5, OCTETS("nonce")), CTX(6, OCTETS("rnonce")), CTX(7, SEQ(UTF8("x"), UTF8("y"))),
        CTX(8, SEQ(ITEM(13, A_NULL), ITEM(14, GENTIME("19700101000002Z")),
                   ITEM(21, SEQ(UTF8("profile"))))));

    assert_int_equal(decode_header(header, &msg), ERR_OK);
    assert_int_equal(msg.header.pvno, 3);
    assert_same(msg.header.sender, DIR("a"));
    assert_same(msg.header.sender_name, NAME("a"));
    assert_same(msg.header.recipient, TLV(0x82, bytes_of_str("b.example")));
    assert_true(msg.header.has_message_time && msg.header.message_time_s == 1);
    assert_same(msg.header.protection_alg, ALG);
    assert_same(msg.header.sender_kid, bytes_of_str("kid"));
    assert_same(msg.header.recip_kid, bytes_of_str("rkid"));
    assert_same(msg.header.transaction_id, bytes_of_str("tid"));
    assert_same(msg.header.sender_nonce, bytes_of_str("nonce"));
    assert_same(msg.header.recip_nonce, bytes_of_str("rnonce"));
    assert_same(msg.header.free_text, SEQ(UTF8("x"), UTF8("y")));
    assert_true(msg.header.implicit_confirm && !msg.header.bad_implicit_confirm);
    assert_true(msg.header.has_confirm_wait && msg.header.confirm_wait_s == 2);
    assert_same(msg.header.cert_profile, SEQ(UTF8("profile")));

    struct der_builder builder = der_builder_of(room, sizeof(room));
    cmp_header_put(&builder, &msg.header);
    assert_true(der_finish(&builder, &written));
    assert_same(written, header);

    /* what is absent is not written */
    assert_int_equal(decode_header(PLAIN_HEADER, &again), ERR_OK);
    builder = der_builder_of(room, sizeof(room));
    cmp_header_put(&builder, &again.header);
    assert_true(der_finish(&builder, &written));
    assert_same(written, PLAIN_HEADER);
}

static void test_header_leniency(void **state)
{
    (void)state;
    struct cmp_msg msg;
    der_make_reset();
#define HEADER(...) SEQ(INT(2), DIR("a"), DIR("b"), __VA_ARGS__)
    /* the NULL-DN, an unknown version, a fraction, unknown information */
    assert_int_equal(decode_header(SEQ(INT(99), CTX(4, EMPTY_SEQ), DIR("b")), &msg), ERR_OK);
    assert_int_equal(msg.header.pvno, 99);
    assert_same(msg.header.sender_name, EMPTY_SEQ);
    assert_int_equal(decode_header(HEADER(CTX(0, GENTIME("19700101000001.5Z"))), &msg), ERR_OK);
    assert_int_equal(msg.header.message_time_s, 1);
    assert_int_equal(decode_header(HEADER(CTX(8, SEQ(ITEM(15, NONE), ITEM(15, INT(1))))), &msg),
                     ERR_OK);
    /* implicitConfirm that is none: the caller's to refuse */
    assert_int_equal(decode_header(HEADER(CTX(8, SEQ(ITEM(13, INT(1))))), &msg), ERR_OK);
    assert_true(msg.header.bad_implicit_confirm && !msg.header.implicit_confirm);
    assert_int_equal(decode_header(HEADER(CTX(8, SEQ(ITEM(13, NONE)))), &msg), ERR_OK);
    assert_true(msg.header.bad_implicit_confirm);
}

static void test_header_refusals(void **state)
{
    (void)state;
    struct cmp_msg msg;
    der_make_reset();
    struct bytes infos = NONE;
    for (unsigned i = 0; i <= CMP_INFOS_MAX; i++)
        infos = der_join(infos, ITEM(15, NONE));
#define INFO(...) HEADER(CTX(8, SEQ(__VA_ARGS__)))
    const struct {
        struct bytes header;
        enum err err;
    } all[] = {
        {EMPTY_SEQ, ERR_BAD_DER},
        {SEQ(TLV(0x02, B(0xff)), DIR("a"), DIR("b")), ERR_BAD_DER}, /* pvno -1 */
        {SEQ(INT(2), DIR("a")), ERR_BAD_DER},                       /* no recipient */
        {SEQ(INT(2), NAME("a"), DIR("b")), ERR_BAD_DER},            /* not a GeneralName */
        {SEQ(INT(2), CTX(4, NONE), DIR("b")), ERR_BAD_DER},
        {HEADER(CTX(0, UTCTIME("260101000000Z"))), ERR_BAD_DER},
        {HEADER(CTX(0, GENTIME("20260101000000.0Z"))), ERR_BAD_DER},
        {HEADER(CTX(0, GENTIME("20260101000000Z"), A_NULL)), ERR_DER_TRAILING},
        {HEADER(TLV(0x80, bytes_of_str("20260101000000Z"))), ERR_DER_TRAILING}, /* implicit */
        {HEADER(CTX(1, SEQ(INT(1)))), ERR_BAD_DER},
        {HEADER(CTX(1, NONE)), ERR_BAD_DER},
        {HEADER(CTX(4, UTF8("tid"))), ERR_BAD_DER},
        {HEADER(CTX(5, OCTETS("a"), OCTETS("b"))), ERR_DER_TRAILING},
        {HEADER(CTX(5, OCTETS("a")), CTX(4, OCTETS("b"))), ERR_DER_TRAILING}, /* order */
        {HEADER(CTX(7, EMPTY_SEQ)), ERR_BAD_DER},                             /* SIZE (1..MAX) */
        {HEADER(CTX(7, SEQ(UTF8("a"), INT(1)))), ERR_BAD_DER},
        {HEADER(CTX(7, SEQ(TLV(0x0c, B(0xff))))), ERR_BAD_DER},
        {HEADER(CTX(8, EMPTY_SEQ)), ERR_BAD_DER},
        {HEADER(CTX(9, A_NULL)), ERR_DER_TRAILING},
        {INFO(SEQ(INT(1))), ERR_BAD_DER},
        {INFO(SEQ(ID_IT(15), A_NULL, A_NULL)), ERR_BAD_DER},
        {INFO(ITEM(15, TLV(0x01, B(1)))), ERR_BAD_DER},
        {INFO(ITEM(14, UTCTIME("260101000000Z"))), ERR_BAD_DER},
        {INFO(ITEM(14, NONE)), ERR_BAD_DER},
        {INFO(ITEM(21, EMPTY_SEQ)), ERR_BAD_DER},
        {INFO(ITEM(21, NONE)), ERR_BAD_DER},
        {INFO(ITEM(13, A_NULL), ITEM(13, A_NULL)), ERR_BAD_REQUEST},
        {INFO(ITEM(13, INT(1)), ITEM(13, A_NULL)), ERR_BAD_REQUEST},
        {INFO(ITEM(14, GENTIME("20260101000000Z")), ITEM(14, GENTIME("20260101000000Z"))),
         ERR_BAD_REQUEST},
        {INFO(ITEM(21, SEQ(UTF8("a"))), ITEM(21, SEQ(UTF8("a")))), ERR_BAD_REQUEST},
        {INFO(infos), ERR_NO_SPACE},
    };

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        msg.extra_cert_count = 77;
        enum err err = decode_header(all[i].header, &msg);
        if (err != all[i].err)
            print_error("row %zu: %s\n", i, err_code(err));
        assert_int_equal(err, all[i].err);
        assert_int_equal(msg.extra_cert_count, 77); /* untouched */
    }
}

static void test_frame(void **state)
{
    (void)state;
    struct cmp_msg msg;
    struct bytes written, parts[2];
    uint8_t head[8];
    der_make_reset();
    struct bytes protection = CTX(0, BITS('m', 'a', 'c')), extra = CTX(1, SEQ(A_CERT, A_CERT));
    struct bytes der = SEQ(PLAIN_HEADER, PKICONF, protection, extra);

    assert_int_equal(cmp_msg_decode(der, &msg), ERR_OK);
    assert_int_equal(msg.body, CMP_PKICONF);
    assert_same(msg.header_der, PLAIN_HEADER);
    assert_same(msg.body_der, PKICONF);
    assert_same(msg.content, A_NULL);
    assert_same(msg.header_and_body, der_join(PLAIN_HEADER, PKICONF));
    assert_true(msg.has_protection);
    assert_same(msg.protection, bytes_of_str("mac"));
    assert_int_equal(msg.extra_cert_count, 2);
    assert_same(msg.extra_certs[1], A_CERT);

    struct der_builder builder = der_builder_of(room, sizeof(room));
    cmp_msg_put(&builder, msg.header_and_body, msg.protection, msg.extra_certs,
                msg.extra_cert_count);
    assert_true(der_finish(&builder, &written));
    assert_same(written, der);
    assert_true(written.len <= msg.header_and_body.len + 3 + 2 * A_CERT.len + CMP_MSG_OVERHEAD);

    /* lengths of one, two and three octets */
    static uint8_t text[70000];
    const size_t sizes[] = {1, 200, 60000, 70000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        der_make_reset();
        struct bytes body = CTX(5, TLV(0x04, bytes_of(text, sizes[i])));
        assert_int_equal(cmp_msg_decode(SEQ(PLAIN_HEADER, body), &msg), ERR_OK);
        assert_false(msg.has_protection);
        cmp_protected_part(&msg, head, parts);
        assert_same(der_join(parts[0], parts[1]), SEQ(PLAIN_HEADER, body));
    }
}

static void test_frame_refusals(void **state)
{
    (void)state;
    struct cmp_msg msg;
    der_make_reset();
    struct bytes h = PLAIN_HEADER, certs = NONE;
    for (unsigned i = 0; i <= CMP_EXTRA_CERTS_MAX; i++)
        certs = der_join(certs, A_CERT);
    const struct {
        struct bytes der;
        enum err err;
    } all[] = {
        {NONE, ERR_BAD_DER},
        {EMPTY_SEQ, ERR_BAD_DER},
        {SEQ(h), ERR_BAD_DER},
        {der_join(SEQ(h, PKICONF), A_NULL), ERR_DER_TRAILING},
        {SEQ(h, A_NULL), ERR_BAD_DER},            /* no body's tag */
        {SEQ(h, TLV(0x93, A_NULL)), ERR_BAD_DER}, /* primitive */
        {SEQ(h, CTX(27, A_NULL)), ERR_BAD_DER},   /* past pollRep */
        {SEQ(h, CTX(19, NONE)), ERR_BAD_DER},     /* nothing in it */
        {SEQ(h, CTX(19, A_NULL, A_NULL)), ERR_DER_TRAILING},
        {SEQ(h, PKICONF, PKICONF), ERR_DER_TRAILING},
        {SEQ(h, PKICONF, CTX(0, OCTETS("mac"))), ERR_BAD_DER},
        {SEQ(h, PKICONF, CTX(0, TLV(0x03, B(1, 0)))), ERR_BAD_DER}, /* unused bits */
        {SEQ(h, PKICONF, CTX(0, BITS(1), A_NULL)), ERR_DER_TRAILING},
        {SEQ(h, PKICONF, CTX(1, EMPTY_SEQ)), ERR_BAD_DER},
        {SEQ(h, PKICONF, CTX(1, SEQ(A_NULL))), ERR_BAD_DER},
        {SEQ(h, PKICONF, CTX(1, SEQ(certs))), ERR_NO_SPACE},
        {SEQ(h, PKICONF, CTX(1, SEQ(A_CERT)), CTX(0, BITS(1))), ERR_DER_TRAILING},
    };

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        enum err err = cmp_msg_decode(all[i].der, &msg);
        if (err != all[i].err)
            print_error("row %zu: %s\n", i, err_code(err));
        assert_int_equal(err, all[i].err);
    }
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(cmp_body_name(CMP_IR), "ir");
    assert_string_equal(cmp_body_name(CMP_PKICONF), "pkiconf");
    assert_string_equal(cmp_body_name(CMP_POLLREP), "pollRep");
    assert_string_equal(cmp_body_name(CMP_BODY_COUNT), "unknown");
    assert_string_equal(cmp_fail_name(CMP_FAIL_BAD_ALG), "badAlg");
    assert_string_equal(cmp_fail_name(CMP_FAIL_BAD_POP), "badPOP");
    assert_string_equal(cmp_fail_name(CMP_FAIL_NOT_AUTHORIZED), "notAuthorized");
    assert_string_equal(cmp_fail_name(CMP_FAIL_DUPLICATE_CERT_REQ), "duplicateCertReq");
    assert_string_equal(cmp_fail_name(3), "unknown");
    assert_string_equal(cmp_fail_name(0), "unknown");
}

/* --- requests --- */

static void test_requests_fail_alone(void **state)
{
    (void)state;
    static struct crmf_request requests[LIST_MAX];
    uint32_t count = 77, total;
    der_make_reset();
    struct bytes fine = SEQ(SEQ(INT(1), SEQ(CTX(5, NAME("dev")))));
    struct bytes with_serial = SEQ(SEQ(INT(2), SEQ(TLV(0x81, B(1)))));
    struct bytes bad_pop = SEQ(SEQ(INT(3), EMPTY_SEQ), CTX(4, NONE));
    struct bytes not_der = SEQ(SEQ(INT(4), SEQ(CTX(5, TLV(0x01, B(1))))));
    struct writer scratch = writer_of(room, sizeof(room));

    assert_int_equal(cmp_cert_reqs_decode(SEQ(fine, with_serial, bad_pop, fine), &scratch, requests,
                                          LIST_MAX, &count),
                     ERR_OK);
    assert_int_equal(count, 4);
    assert_int_equal(requests[0].err, ERR_OK);
    assert_int_equal(requests[1].err, ERR_BAD_TEMPLATE);
    assert_int_equal(requests[1].cert_req_id, 2);
    assert_int_equal(requests[2].err, ERR_BAD_POP);
    assert_int_equal(requests[2].cert_req_id, 3);
    assert_int_equal(requests[3].err, ERR_OK);
    assert_same(requests[3].request.subject, NAME("dev"));

    assert_int_equal(
        cmp_cert_reqs_decode(SEQ(fine, not_der, fine), &scratch, requests, LIST_MAX, &count),
        ERR_BAD_DER);
    assert_int_equal(count, 1);
    assert_int_equal(cmp_cert_reqs_decode(SEQ(fine, fine, fine), &scratch, requests, 2, &count),
                     ERR_NO_SPACE);
    assert_int_equal(cmp_cert_reqs_decode(EMPTY_SEQ, &scratch, requests, LIST_MAX, &count),
                     ERR_BAD_DER);
    assert_int_equal(cmp_cert_reqs_decode(SEQ(A_NULL), &scratch, requests, LIST_MAX, &count),
                     ERR_BAD_DER);
    assert_int_equal(cmp_cert_reqs_count(SEQ(fine, not_der, fine), &total), ERR_OK);
    assert_int_equal(total, 3);
    assert_int_equal(cmp_cert_reqs_count(EMPTY_SEQ, &total), ERR_BAD_DER);
    assert_int_equal(cmp_cert_reqs_count(SEQ(A_NULL), &total), ERR_BAD_DER);
    assert_int_equal(cmp_cert_reqs_count(der_join(SEQ(fine), A_NULL), &total), ERR_DER_TRAILING);
}

/* --- what is written comes back --- */

static struct bytes finish(struct der_builder *builder)
{
    struct bytes out = {0};
    assert_true(der_finish(builder, &out));
    return out;
}

static void assert_same_status(const struct cmp_status_info *a, const struct cmp_status_info *b)
{
    assert_int_equal(a->status, b->status);
    assert_int_equal(a->fail, b->fail);
    assert_same(a->text, b->text);
}

static void test_responses_come_back(void **state)
{
    (void)state;
    der_make_reset();
    struct bytes pubs[2] = {A_CERT, A_CERT}, out_pubs;
    const struct cmp_cert_response in[] = {
        {.cert_req_id = 0, .cert = A_CERT, .private_key = CTX(0, INT(2))},
        {.cert_req_id = -1, .encrypted_cert = CTX(0, INT(2))},
        {.cert_req_id = 70000,
         .status = {CMP_REJECTION, CMP_FAIL_BAD_POP | CMP_FAIL_DUPLICATE_CERT_REQ,
                    bytes_of_str("no")}},
    };
    struct cmp_cert_response out[LIST_MAX];
    uint32_t count;
    struct der_builder builder = der_builder_of(room, sizeof(room));

    cmp_cert_rep_put(&builder, in, 3, pubs, 2);
    struct bytes content = finish(&builder);
    assert_int_equal(cmp_cert_rep_decode(content, out, LIST_MAX, &count, &out_pubs), ERR_OK);
    assert_int_equal(count, 3);
    assert_same(out_pubs, der_join(A_CERT, A_CERT));
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(out[i].cert_req_id, in[i].cert_req_id);
        assert_same_status(&out[i].status, &in[i].status);
        assert_same(out[i].cert, in[i].cert);
        assert_same(out[i].encrypted_cert, in[i].encrypted_cert);
        assert_same(out[i].private_key, in[i].private_key);
    }
    assert_int_equal(cmp_cert_rep_decode(content, out, 2, &count, &out_pubs), ERR_NO_SPACE);

    builder = der_builder_of(room, sizeof(room));
    cmp_cert_rep_put(&builder, NULL, 0, NULL, 0);
    content = finish(&builder);
    assert_same(content, SEQ(EMPTY_SEQ));
    assert_int_equal(cmp_cert_rep_decode(content, out, LIST_MAX, &count, &out_pubs), ERR_OK);
    assert_int_equal(count + out_pubs.len, 0);
}

static void test_responses_refused(void **state)
{
    (void)state;
    struct cmp_cert_response out[LIST_MAX];
    struct bytes pubs;
    uint32_t count;
    der_make_reset();
#define RESPONSE(...) SEQ(SEQ(SEQ(INT(0), STATUS(0), __VA_ARGS__)))
    const struct {
        struct bytes content;
        enum err err;
    } all[] = {
        {NONE, ERR_BAD_DER},
        {EMPTY_SEQ, ERR_BAD_DER},
        {SEQ(CTX(1, EMPTY_SEQ), EMPTY_SEQ), ERR_BAD_DER}, /* caPubs of none */
        {SEQ(CTX(1, SEQ(A_NULL)), EMPTY_SEQ), ERR_BAD_DER},
        {SEQ(EMPTY_SEQ, A_NULL), ERR_DER_TRAILING},
        {SEQ(SEQ(A_NULL)), ERR_BAD_DER},
        {SEQ(SEQ(SEQ(INT(0)))), ERR_BAD_DER}, /* no status */
        {SEQ(SEQ(SEQ(INT(0), STATUS(7)))), ERR_BAD_REQUEST},
        {RESPONSE(EMPTY_SEQ), ERR_BAD_DER},                         /* neither certificate */
        {RESPONSE(SEQ(CTX(0, A_NULL))), ERR_BAD_DER},               /* not a Certificate */
        {RESPONSE(SEQ(CTX(1, A_NULL))), ERR_BAD_DER},               /* not an EncryptedKey */
        {RESPONSE(SEQ(CTX(1, SEQ(TLV(0x01, B(1)))))), ERR_BAD_DER}, /* not DER */
        {RESPONSE(SEQ(CTX(0, A_CERT), CTX(0, A_NULL))), ERR_BAD_DER},
        {RESPONSE(SEQ(CTX(0, A_CERT), CTX(1, A_NULL))), ERR_BAD_DER},
        {RESPONSE(SEQ(CTX(0, A_CERT), A_NULL)), ERR_DER_TRAILING},
        {RESPONSE(A_NULL), ERR_DER_TRAILING},
    };

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        enum err err = cmp_cert_rep_decode(all[i].content, out, LIST_MAX, &count, &pubs);
        if (err != all[i].err)
            print_error("row %zu: %s\n", i, err_code(err));
        assert_int_equal(err, all[i].err);
    }
}

static void test_certconf(void **state)
{
    (void)state;
    der_make_reset();
    const struct cmp_cert_status in[] = {
        {.cert_hash = bytes_of_str("hash"), .cert_req_id = -1},
        {.cert_hash = bytes_of_str("hash2"),
         .cert_req_id = 1,
         .has_status = true,
         .status = {CMP_REJECTION, CMP_FAIL_INCORRECT_DATA, bytes_of_str("bad")},
         .hash_alg = ALG},
    };
    struct cmp_cert_status out[LIST_MAX];
    uint32_t count;
    struct der_builder builder = der_builder_of(room, sizeof(room));

    cmp_cert_conf_put(&builder, in, 2);
    struct bytes content = finish(&builder);
    assert_int_equal(cmp_cert_conf_decode(content, out, LIST_MAX, &count), ERR_OK);
    assert_int_equal(count, 2);
    for (uint32_t i = 0; i < count; i++) {
        assert_same(out[i].cert_hash, in[i].cert_hash);
        assert_int_equal(out[i].cert_req_id, in[i].cert_req_id);
        assert_int_equal(out[i].has_status, in[i].has_status);
        assert_same_status(&out[i].status, &in[i].status);
        assert_same(out[i].hash_alg, in[i].hash_alg);
    }
    assert_int_equal(cmp_cert_conf_decode(content, out, 1, &count), ERR_NO_SPACE);
    assert_int_equal(cmp_cert_conf_decode(EMPTY_SEQ, out, LIST_MAX, &count), ERR_OK);
    assert_int_equal(count, 0);

#define CONF(...) cmp_cert_conf_decode(SEQ(SEQ(__VA_ARGS__)), out, LIST_MAX, &count)
    struct bytes hash = OCTETS("h");
    assert_int_equal(cmp_cert_conf_decode(A_NULL, out, LIST_MAX, &count), ERR_BAD_DER);
    assert_int_equal(cmp_cert_conf_decode(SEQ(A_NULL), out, LIST_MAX, &count), ERR_BAD_DER);
    assert_int_equal(CONF(INT(0)), ERR_BAD_DER);
    assert_int_equal(CONF(hash), ERR_BAD_DER);
    assert_int_equal(CONF(hash, INT(0), A_NULL), ERR_DER_TRAILING);
    assert_int_equal(CONF(hash, INT(0), SEQ(INT(9))), ERR_BAD_REQUEST);
    assert_int_equal(CONF(hash, INT(0), CTX(0, SEQ(INT(1)))), ERR_BAD_DER);
    assert_int_equal(CONF(hash, INT(0), CTX(0, ALG, ALG)), ERR_DER_TRAILING);
}

static void test_status(void **state)
{
    (void)state;
    struct cmp_status_info status = {.status = 77};
    der_make_reset();
#define ERROR(...) cmp_error_decode(SEQ(__VA_ARGS__), &status)
    struct der_builder builder = der_builder_of(room, sizeof(room));
    const struct cmp_status_info in = {CMP_WAITING, CMP_FAIL_BAD_ALG, bytes_of_str("later")};

    /* failures leave it alone */
    assert_int_equal(ERROR(NONE), ERR_BAD_DER);
    assert_int_equal(ERROR(EMPTY_SEQ), ERR_BAD_DER);
    assert_int_equal(ERROR(STATUS(7)), ERR_BAD_REQUEST);
    assert_int_equal(ERROR(SEQ(INT(0), EMPTY_SEQ)), ERR_BAD_DER); /* PKIFreeText of none */
    assert_int_equal(ERROR(SEQ(INT(0), SEQ(INT(1)))), ERR_BAD_DER);
    assert_int_equal(ERROR(SEQ(INT(0), TLV(0x03, B(0, 0x80, 0)))), ERR_BAD_DER); /* X.690 11.2.2 */
    assert_int_equal(ERROR(SEQ(INT(0), A_NULL)), ERR_DER_TRAILING);
    assert_int_equal(ERROR(STATUS(0), TLV(0x02, B(0, 1))), ERR_BAD_DER);
    assert_int_equal(ERROR(STATUS(0), EMPTY_SEQ), ERR_BAD_DER);
    assert_int_equal(ERROR(STATUS(0), A_NULL), ERR_DER_TRAILING);
    assert_int_equal(status.status, 77);

    assert_int_equal(ERROR(SEQ(INT(2), SEQ(UTF8("a"), UTF8("b")), TLV(0x03, B(5, 0x20))), INT(5),
                           SEQ(UTF8("c"))),
                     ERR_OK);
    assert_int_equal(status.status, CMP_REJECTION);
    assert_int_equal(status.fail, CMP_FAIL_BAD_REQUEST);
    assert_same(status.text, bytes_of_str("a"));

    cmp_error_put(&builder, &in);
    assert_int_equal(cmp_error_decode(finish(&builder), &status), ERR_OK);
    assert_same_status(&status, &in);
}

static void test_revocations(void **state)
{
    (void)state;
    der_make_reset();
    const struct cmp_revocation in[] = {
        {.cert = {NAME("ca"), B(0, 0x80)}, .has_reason = true, .reason = 8},
        {.cert = {NAME("ca"), B(1)}},
        {.has_reason = false},
    };
    struct cmp_revocation out[LIST_MAX];
    uint32_t count;
    struct der_builder builder = der_builder_of(room, sizeof(room));

    cmp_rev_req_put(&builder, in, 3);
    struct bytes content = finish(&builder);
    assert_int_equal(cmp_rev_req_decode(content, out, LIST_MAX, &count), ERR_OK);
    assert_int_equal(count, 3);
    for (uint32_t i = 0; i < count; i++) {
        assert_same(out[i].cert.issuer, in[i].cert.issuer);
        assert_same(out[i].cert.serial, in[i].cert.serial);
        assert_int_equal(out[i].has_reason, in[i].has_reason);
        assert_int_equal(out[i].reason, in[i].reason);
    }
    assert_int_equal(cmp_rev_req_decode(content, out, 2, &count), ERR_NO_SPACE);
    assert_int_equal(cmp_rev_req_decode(EMPTY_SEQ, out, 2, &count), ERR_BAD_REQUEST);

#define REASON(...)  SEQ(OID(0x55, 0x1d, 0x15), TLV(0x04, __VA_ARGS__))
#define DETAILS(...) cmp_rev_req_decode(SEQ(SEQ(EMPTY_SEQ, __VA_ARGS__)), out, LIST_MAX, &count)
    for (uint8_t reason = 0; reason < 12; reason++)
        assert_int_equal(DETAILS(SEQ(REASON(TLV(0x0a, B(reason))))),
                         reason == 7 || reason == 11 ? ERR_BAD_DER : ERR_OK);
    struct bytes fine = REASON(TLV(0x0a, B(1)));
    assert_int_equal(DETAILS(SEQ(fine, fine)), ERR_BAD_DER);
    assert_int_equal(DETAILS(EMPTY_SEQ), ERR_BAD_DER);
    assert_int_equal(DETAILS(SEQ(REASON(INT(1)))), ERR_BAD_DER);
    assert_int_equal(DETAILS(SEQ(REASON(TLV(0x0a, B(0, 1))))), ERR_BAD_DER);
    assert_int_equal(DETAILS(SEQ(REASON(TLV(0x0a, B(1)), A_NULL))), ERR_BAD_DER);
    assert_int_equal(DETAILS(A_NULL), ERR_BAD_DER);
    assert_int_equal(DETAILS(SEQ(fine), A_NULL), ERR_DER_TRAILING);
    assert_int_equal(cmp_rev_req_decode(SEQ(EMPTY_SEQ), out, 2, &count), ERR_BAD_DER);
    assert_int_equal(cmp_rev_req_decode(SEQ(SEQ(SEQ(TLV(0x81, NONE)))), out, 2, &count),
                     ERR_BAD_DER);
}

static void test_revocation_responses(void **state)
{
    (void)state;
    der_make_reset();
    const struct cmp_status_info in[] = {{.status = CMP_ACCEPTED},
                                         {CMP_REJECTION, CMP_FAIL_BAD_CERT_ID, bytes_of_str("?")}};
    const struct cert_id certs[] = {{NAME("ca"), B(1)}, {NAME("ca"), B(2)}};
    const struct cert_id half[] = {{NAME("ca"), B(1)}, {NAME("ca"), NONE}};
    struct cmp_status_info out[LIST_MAX];
    uint32_t count;
    struct der_builder builder = der_builder_of(room, sizeof(room));

    cmp_rev_rep_put(&builder, in, certs, 2);
    struct bytes content = finish(&builder);
    assert_int_equal(cmp_rev_rep_decode(content, out, LIST_MAX, &count), ERR_OK);
    assert_int_equal(count, 2);
    assert_same_status(&out[0], &in[0]);
    assert_same_status(&out[1], &in[1]);
    assert_int_equal(cmp_rev_rep_decode(content, out, 1, &count), ERR_NO_SPACE);
    struct bytes ids =
        CTX(0, SEQ(SEQ(DIR("ca"), TLV(0x02, B(1))), SEQ(DIR("ca"), TLV(0x02, B(2)))));
    assert_same(bytes_of(content.ptr + content.len - ids.len, ids.len), ids);

    /* revCerts are all or none */
    builder = der_builder_of(room, sizeof(room));
    cmp_rev_rep_put(&builder, in, half, 1);
    assert_true(finish(&builder).len > SEQ(SEQ(STATUS(0))).len);
    builder = der_builder_of(room, sizeof(room));
    cmp_rev_rep_put(&builder, in, half, 2);
    size_t without = finish(&builder).len;
    builder = der_builder_of(room, sizeof(room));
    cmp_rev_rep_put(&builder, in, NULL, 2);
    assert_int_equal(finish(&builder).len, without);

#define RP(...) cmp_rev_rep_decode(SEQ(__VA_ARGS__), out, LIST_MAX, &count)
    assert_int_equal(RP(NONE), ERR_BAD_DER);
    assert_int_equal(RP(EMPTY_SEQ), ERR_BAD_DER);
    assert_int_equal(RP(SEQ(STATUS(9))), ERR_BAD_REQUEST);
    assert_int_equal(RP(SEQ(STATUS(0)), CTX(0, EMPTY_SEQ)), ERR_BAD_DER);
    assert_int_equal(RP(SEQ(STATUS(0)), CTX(1, SEQ(TLV(0x01, B(1))))), ERR_BAD_DER);
    assert_int_equal(RP(SEQ(STATUS(0)), A_NULL), ERR_DER_TRAILING);
}

static void test_polls(void **state)
{
    (void)state;
    der_make_reset();
    const int64_t ids[] = {0, -1, INT64_MAX, INT64_MIN, -129, 128};
    int64_t out_ids[8];
    const struct cmp_poll in[] = {{0, 60, bytes_of_str("busy")}, {-1, 5, {0}}};
    struct cmp_poll out[LIST_MAX];
    uint32_t count;
    struct der_builder builder = der_builder_of(room, sizeof(room));

    cmp_poll_req_put(&builder, ids, 6);
    struct bytes content = finish(&builder);
    assert_true(der_is_strict(content));
    assert_int_equal(cmp_poll_req_decode(content, out_ids, 8, &count), ERR_OK);
    assert_int_equal(count, 6);
    assert_memory_equal(ids, out_ids, sizeof(ids));
    assert_int_equal(cmp_poll_req_decode(content, out_ids, 5, &count), ERR_NO_SPACE);
    assert_int_equal(cmp_poll_req_decode(EMPTY_SEQ, out_ids, 8, &count), ERR_BAD_REQUEST);
    assert_int_equal(cmp_poll_req_decode(SEQ(INT(1)), out_ids, 8, &count), ERR_BAD_DER);
    assert_int_equal(cmp_poll_req_decode(SEQ(EMPTY_SEQ), out_ids, 8, &count), ERR_BAD_DER);
    assert_int_equal(cmp_poll_req_decode(SEQ(SEQ(INT(1), INT(1))), out_ids, 8, &count),
                     ERR_DER_TRAILING);

    builder = der_builder_of(room, sizeof(room));
    cmp_poll_rep_put(&builder, in, 2);
    content = finish(&builder);
    assert_int_equal(cmp_poll_rep_decode(content, out, LIST_MAX, &count), ERR_OK);
    assert_int_equal(count, 2);
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(out[i].cert_req_id, in[i].cert_req_id);
        assert_int_equal(out[i].check_after_s, in[i].check_after_s);
        assert_same(out[i].reason, in[i].reason);
    }
    assert_int_equal(cmp_poll_rep_decode(content, out, 1, &count), ERR_NO_SPACE);
    assert_int_equal(cmp_poll_rep_decode(EMPTY_SEQ, out, 1, &count), ERR_BAD_REQUEST);
    assert_int_equal(cmp_poll_rep_decode(SEQ(A_NULL), out, 1, &count), ERR_BAD_DER);
    assert_int_equal(cmp_poll_rep_decode(SEQ(SEQ(INT(1))), out, 1, &count), ERR_BAD_DER);
    assert_int_equal(cmp_poll_rep_decode(SEQ(SEQ(INT(1), INT(1), EMPTY_SEQ)), out, 1, &count),
                     ERR_BAD_DER);
    assert_int_equal(cmp_poll_rep_decode(SEQ(SEQ(INT(1), INT(1), A_NULL)), out, 1, &count),
                     ERR_DER_TRAILING);
}

static void test_infos_and_nested(void **state)
{
    (void)state;
    der_make_reset();
    const struct cmp_info in[] = {{B(0x2a, 0x03), NONE}, {B(0x2a, 0x04), A_NULL}};
    struct cmp_info out[LIST_MAX];
    struct bytes messages[LIST_MAX];
    uint32_t count;
    struct der_builder builder = der_builder_of(room, sizeof(room));

    cmp_infos_put(&builder, in, 2);
    struct bytes content = finish(&builder);
    assert_int_equal(cmp_infos_decode(content, out, LIST_MAX, &count), ERR_OK);
    assert_int_equal(count, 2);
    for (uint32_t i = 0; i < count; i++) {
        assert_same(out[i].oid, in[i].oid);
        assert_same(out[i].value, in[i].value);
    }
    assert_int_equal(cmp_infos_decode(content, out, 1, &count), ERR_NO_SPACE);
    assert_int_equal(cmp_infos_decode(EMPTY_SEQ, out, 1, &count), ERR_OK);
    assert_int_equal(count, 0);
    assert_int_equal(cmp_infos_decode(SEQ(SEQ(A_NULL)), out, 1, &count), ERR_BAD_DER);
    assert_int_equal(cmp_infos_decode(SEQ(SEQ(OID(0x2a), A_NULL, A_NULL)), out, 1, &count),
                     ERR_BAD_DER);

    const struct bytes inner[] = {SEQ(INT(1)), SEQ(INT(2))};
    builder = der_builder_of(room, sizeof(room));
    cmp_nested_put(&builder, inner, 2);
    content = finish(&builder);
    assert_int_equal(cmp_nested_decode(content, messages, LIST_MAX, &count), ERR_OK);
    assert_int_equal(count, 2);
    assert_same(messages[0], inner[0]);
    assert_same(messages[1], inner[1]);
    assert_int_equal(cmp_nested_decode(content, messages, 1, &count), ERR_NO_SPACE);
    assert_int_equal(cmp_nested_decode(EMPTY_SEQ, messages, 1, &count), ERR_BAD_DER);
    assert_int_equal(cmp_nested_decode(SEQ(A_NULL), messages, 1, &count), ERR_BAD_DER);
}

/* A whole message as a server writes it, in one buffer. */
static void test_message_in_place(void **state)
{
    (void)state;
    struct cmp_msg msg;
    uint8_t parts[256];
    struct bytes written;
    der_make_reset();
    const struct cmp_header header = {.pvno = 2,
                                      .sender = DIR("ca"),
                                      .recipient = DIR("dev"),
                                      .transaction_id = bytes_of_str("tid"),
                                      .bad_implicit_confirm = true};
    struct der_builder builder = der_builder_of(parts, sizeof(parts));

    cmp_header_put(&builder, &header);
    cmp_body_open(&builder, CMP_PKICONF);
    cmp_pki_conf_put(&builder);
    der_close(&builder);
    struct bytes header_and_body = finish(&builder);
    builder = der_builder_of(room, header_and_body.len + 3 + CMP_MSG_OVERHEAD);
    cmp_msg_put(&builder, header_and_body, bytes_of_str("mac"), NULL, 0);
    assert_true(der_finish(&builder, &written));
    assert_int_equal(cmp_msg_decode(written, &msg), ERR_OK);
    assert_int_equal(msg.body, CMP_PKICONF);
    assert_same(msg.header_and_body, header_and_body);
    assert_same(msg.protection, bytes_of_str("mac"));
    assert_same(msg.header.transaction_id, bytes_of_str("tid"));
    assert_false(msg.header.implicit_confirm || msg.header.bad_implicit_confirm);

    builder = der_builder_of(room, header_and_body.len);
    cmp_msg_put(&builder, header_and_body, NONE, NULL, 0);
    assert_false(der_finish(&builder, &written));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header_comes_back),
        cmocka_unit_test(test_header_leniency),
        cmocka_unit_test(test_header_refusals),
        cmocka_unit_test(test_frame),
        cmocka_unit_test(test_frame_refusals),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_requests_fail_alone),
        cmocka_unit_test(test_responses_come_back),
        cmocka_unit_test(test_responses_refused),
        cmocka_unit_test(test_certconf),
        cmocka_unit_test(test_status),
        cmocka_unit_test(test_revocations),
        cmocka_unit_test(test_revocation_responses),
        cmocka_unit_test(test_polls),
        cmocka_unit_test(test_infos_and_nested),
        cmocka_unit_test(test_message_in_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
