/* test_cmp_make.h: a line that speaks CMP, messages to it by hand, and what is kept of dialogues.
 *
 * Promise: each test runs between setup and teardown (WITH_ARENA), the group between those of the
 *          group; then `arena` is empty and `line` as configured by default.
 */
#ifndef CERTMILL_TEST_CMP_MAKE_H
#define CERTMILL_TEST_CMP_MAKE_H

#include "ca/issue.h"
#include "crypto/digest.h"
#include "proto/cmp_impl.h"
#include "tests/unit/test_der_make.h"

enum { NOW_S = 1767225600, CERT_LOG = 7 };

#define DIR(text) CTX(4, NAME(text))
#define TID       "transaction-0001"
#define NONCE     "client-nonce-001"
#define NONCE_2   "client-nonce-002"
#define OURS      "server-nonce-001"
#define A_NULL_DN CTX(4, EMPTY_SEQ)

/* --- fixtures --- */

/* RFC 6979 A.2.5 */
static const char p256_spki_hex[] =
    "3059301306072a8648ce3d020106082a8648ce3d03010703420004"
    "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";
static const uint8_t dummy_signature[] = {0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01};

static struct chunk_pool pool;
static struct arena arena;
static uint8_t cert_buf[1024], csr_buf[1024], spki_buf[128];
static struct bytes cert_der, csr_der, spki_der;
static struct x509_cert cert;
static struct proto_cmp_line cmp_line;
static struct proto_line line;
static const struct proto_route route = {.proto = &proto_cmp};

static inline void make_cert_and_csr(void)
{
    const uint8_t serial[SERIAL_LEN] = {1};
    uint8_t name[64], tbs[512];
    size_t spki_len, name_len, tbs_len, len;

    assert_true(
        bytes_from_hex(bytes_of_str(p256_spki_hex), spki_buf, sizeof(spki_buf), &spki_len));
    spki_der = bytes_of(spki_buf, spki_len);
    assert_true(name_from_text("CN=dev", name, sizeof(name), &name_len));
    struct ca_cert_input input = {.subject = bytes_of(name, name_len),
                                  .spki = spki_der,
                                  .sig_alg = SIG_ECDSA_SHA256,
                                  .serial = serial,
                                  .not_after_s = 86400,
                                  .path_len = -1};
    assert_int_equal(ca_cert_tbs_build(&input, tbs, sizeof(tbs), &tbs_len), ERR_OK);
    assert_int_equal(cert_assemble(bytes_of(tbs, tbs_len), SIG_ECDSA_SHA256,
                                   BYTES_ARRAY(dummy_signature), cert_buf, sizeof(cert_buf), &len),
                     ERR_OK);
    cert_der = bytes_of(cert_buf, len);
    assert_int_equal(x509_decode(cert_der, &cert), ERR_OK);
    assert_int_equal(ca_csr_info_build(input.subject, spki_der, tbs, sizeof(tbs), &tbs_len),
                     ERR_OK);
    assert_int_equal(cert_assemble(bytes_of(tbs, tbs_len), SIG_ECDSA_SHA256,
                                   BYTES_ARRAY(dummy_signature), csr_buf, sizeof(csr_buf), &len),
                     ERR_OK);
    csr_der = bytes_of(csr_buf, len);
}

static inline int group_setup(void **state)
{
    (void)state;
    const uint32_t counts[CHUNK_CLASS_COUNT] = {16, 16, 2};
    if (chunk_pool_init_counts(&pool, counts) != ERR_OK)
        return -1;
    make_cert_and_csr();
    return 0;
}

static inline int group_teardown(void **state)
{
    (void)state;
    chunk_pool_destroy(&pool);
    return 0;
}

static inline int setup(void **state)
{
    static uint8_t sender[] = {0xa4, 0x02, 0x30, 0x00};
    (void)state;
    der_make_reset();
    arena_init(&arena, &pool, 0);
    cmp_line = (struct proto_cmp_line){
        .implicit_confirm = true,
        .requests_max = 4,
        .confirm_wait_s = 300,
        .time_window_s = 300,
        .poll_after_s = 40,
        .sender = BYTES_ARRAY(sender),
        .sender_kid = BYTES_LIT("server key"),
        .sender_certs = {cert_der},
        .sender_cert_count = 1,
        .sender_alg = SIG_ECDSA_SHA256,
        .rsa_bits_min = 2048,
    };
    line = (struct proto_line){
        .name = "widgets", .ca_certs = &cert_der, .ca_cert_count = 1, .cmp = &cmp_line};
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    arena_reset(&arena);
    return 0;
}

/* --- messages --- */

struct fields {
    const char *tid, *nonce, *recip_nonce;
    struct bytes time, infos;
    uint8_t pvno;
};

static inline struct bytes tagged_text(unsigned n, const char *text)
{
    return text ? CTX(n, OCTETS(text)) : NONE;
}

static inline struct bytes message_of(enum cmp_body body, struct bytes content, struct fields f)
{
    if (body == CMP_RR && f.time.len == 0)
        f.time = GENTIME("20260101000000Z"); /* without it, it is refused */
    struct bytes header = SEQ(INT(f.pvno ? f.pvno : 2), DIR("dev"), DIR("ca"),
                              f.time.len > 0 ? CTX(0, f.time) : NONE,
                              tagged_text(4, f.tid), tagged_text(5, f.nonce),
                              tagged_text(6, f.recip_nonce),
                              f.infos.len > 0 ? CTX(8, SEQ(f.infos)) : NONE);
    return SEQ(header, CTX(body, content));
}

/* CertReqMessages of `count`: subject and key, no proof. */
static inline struct bytes cert_reqs(unsigned count)
{
    struct bytes all = NONE;
    for (unsigned i = 0; i < count; i++)
        all = der_join(all, SEQ(SEQ(INT((uint8_t)i), SEQ(CTX(5, NAME("dev")),
                                                          der_retag(0xa6, spki_der)))));
    return SEQ(all);
}

static inline struct bytes rev_details(void)
{
    return SEQ(SEQ(SEQ(TLV(0x81, B(5)), CTX(3, NAME("ca")))));
}

static inline struct bytes cert_conf(void)
{
    uint8_t digest[DIGEST_LEN_MAX];
    digest_once(HASH_SHA256, cert_der, digest);
    return SEQ(SEQ(TLV(0x04, bytes_of(digest, 32)), INT(0)));
}

static inline struct bytes content_of(enum cmp_body body)
{
    switch (body) {
    case CMP_P10CR:
        return csr_der;
    case CMP_RR:
        return rev_details();
    case CMP_CERTCONF:
        return cert_conf();
    case CMP_POLLREQ:
        return SEQ(SEQ(INT(0)));
    case CMP_ERROR:
        return SEQ(SEQ(INT(2)));
    case CMP_GENM:
        return SEQ(SEQ(OID(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x04, 17)));
    case CMP_NESTED:
        return SEQ(message_of(CMP_IR, cert_reqs(1), (struct fields){.tid = TID, .nonce = NONCE}));
    default:
        return cert_reqs(1);
    }
}

static inline enum err decode(struct bytes der, struct proto_message *out)
{
    const struct proto_request request = {.content_type = BYTES_LIT("application/pkixcmp"),
                                          .body = der,
                                          .has_body = true};
    return proto_cmp.decode(&route, &line, &request, &arena, out);
}

static inline struct bytes cert_of(void *ctx, uint64_t log)
{
    (void)ctx;
    return log == CERT_LOG ? cert_der : NONE;
}

static inline struct proto_context context_of(void)
{
    struct proto_context context = {
        .now_s = NOW_S, .is_device = true, .signer = &cert, .line_id = 3, .cert_of = cert_of};
    memcpy(context.nonce, "server-nonce-xyz", CMP_NONCE_LEN);
    memcpy(context.new_id, "new-transaction!", CMP_NONCE_LEN);
    return context;
}

static inline struct cmp_record record_of(enum cmp_body body)
{
    static struct cmp_kept_item item;
    item = (struct cmp_kept_item){.cert_log = CERT_LOG};
    struct cmp_record record = {.body = (uint8_t)body,
                                .protection = PROTECTION_SIGNATURE,
                                .line_id = 3,
                                .items = &item,
                                .item_count = 1};
    memcpy(record.first.request_nonce, NONCE, CMP_NONCE_LEN);
    memcpy(record.first.nonce, OURS, CMP_NONCE_LEN);
    record.first.time_s = NOW_S - 9;
    return record;
}

static inline void put_record(struct proto_context *context, const struct cmp_record *record,
                       enum cmp_dialog state)
{
    context->has_record = true;
    context->record_state = (uint8_t)state;
    context->record = cmp_record_encode(record, &arena);
    assert_true(context->record.len > 0);
}

/* Decoded and resumed; protected by signature. */
static inline enum err take(struct bytes der, const struct proto_context *context,
                     struct proto_message *out)
{
    assert_int_equal(decode(der, out), ERR_OK);
    out->protection = PROTECTION_SIGNATURE;
    return proto_cmp.resume(&route, &line, context, &arena, out);
}

/* What the answer is, from its octets. */
static inline struct cmp_msg answer_of(const struct proto_message *message,
                                const struct proto_outcome outcomes[], const char *protection,
                                struct proto_response *out)
{
    struct cmp_msg answer;
    *out = (struct proto_response){0};
    enum err err = proto_cmp.encode(&route, &line, NULL, message, outcomes, &arena, out);
    if (err != ERR_OK)
        print_error("%s\n", err_code(err));
    assert_int_equal(err, ERR_OK);
    assert_int_equal(out->http_status, 200);
    struct bytes value = protection ? bytes_of_str(protection) : NONE;
    if (out->protection.len > 0)
        value = out->protection;
    assert_int_equal(proto_cmp.finish(&line, message, value, &arena, out), ERR_OK);
    assert_true(der_is_strict(out->body));
    assert_int_equal(cmp_msg_decode(out->body, &answer), ERR_OK);
    const struct cmp_state *state = message->state;
    assert_same(answer.header.recip_nonce, state->msg.header.sender_nonce);
    assert_int_equal(answer.header.sender_nonce.len, CMP_NONCE_LEN);
    assert_same(answer.protection, value);
    return answer;
}

#define WITH_ARENA(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

#endif
