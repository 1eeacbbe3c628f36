/* Does the CRMF decoder read every field, control and proof, and refuse each thing that breaks a
 * rule? Does what crmf_put writes come back?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "asn1/crmf.h"
#include "tests/unit/test_der_make.h"

#define REG_CTRL(arc)   OID(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x05, 0x01, arc)
#define CONTROL(arc, v) SEQ(REG_CTRL(arc), v)
#define ECDSA_SHA256    SEQ(OID(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02))
#define EC_ALG                                                                                     \
    SEQ(OID(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01),                                             \
        OID(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07))
#define PKMAC      SEQ(SEQ(OID(0x2a, 0x03), A_NULL), BITS('m'))
#define DIR(text)  CTX(4, NAME(text))
#define SIGNED     CTX(1, ECDSA_SHA256, BITS('s', 'i', 'g'))
#define KEY_USAGE  SEQ(OID(0x55, 0x1d, 0x0f), TLV(0x04, TLV(0x03, B(0x07, 0x80))))
#define SAN(names) SEQ(OID(0x55, 0x1d, 0x11), TLV(0x04, names))
#define DNS(text)  TLV(0x82, bytes_of_str(text))

static uint8_t scratch_room[8192];

static struct bytes public_key(void)
{
    static uint8_t point[66] = {0x00, 0x04};
    return SEQ(EC_ALG, TLV(0x03, BYTES_ARRAY(point)));
}

static struct bytes key_field(void)
{
    return der_retag(0xa6, public_key());
}

/* CertTemplate with subject and key, and more before and behind. */
static struct bytes template_with(struct bytes before, struct bytes behind)
{
    return SEQ(before, CTX(5, NAME("dev")), key_field(), behind);
}

static struct bytes message_of(struct bytes cert_template, struct bytes pop)
{
    return SEQ(SEQ(INT(5), cert_template), pop);
}

static struct bytes with_controls(struct bytes controls)
{
    return SEQ(SEQ(INT(5), template_with(NONE, NONE), controls), SIGNED);
}

static enum err decode(struct bytes der, struct crmf_request *out)
{
    struct writer scratch = writer_of(scratch_room, der.len);

    memset(out, 0xa5, sizeof(*out)); /* what was there must not show */
    return crmf_decode(der, &scratch, out);
}

static void test_template(void **state)
{
    (void)state;
    static struct crmf_request request;
    der_make_reset();
    struct bytes spki = public_key(), names = SEQ(DNS("dev.example"));
    struct bytes before = CTX(3, NAME("ca"));
    struct bytes validity =
        CTX(4, CTX(0, UTCTIME("700101000001Z")), CTX(1, GENTIME("19700101000002Z")));
    struct bytes der = message_of(SEQ(TLV(0x80, B(2)), before, validity, CTX(5, NAME("dev")),
                                      key_field(), CTX(9, KEY_USAGE, SAN(names))),
                                  SIGNED);

    assert_int_equal(decode(der, &request), ERR_OK);
    assert_int_equal(request.err, ERR_OK);
    assert_int_equal(request.cert_req_id, 5);
    assert_true(request.has_subject && request.has_key && !request.key_is_empty);
    assert_same(request.request.subject, NAME("dev"));
    assert_same(request.issuer, NAME("ca"));
    assert_same(request.request.spki.der, spki);
    assert_int_equal(request.request.spki.alg, KEY_EC_P256);
    assert_true(request.has_not_before && request.has_not_after);
    assert_int_equal(request.not_before_s, 1);
    assert_int_equal(request.not_after_s, 2);
    assert_int_equal(request.request.extensions.count, 2);
    assert_same(request.request.san, names);
    assert_int_equal(request.old_cert_id.issuer.len + request.reg_token.len, 0);
    assert_int_equal(request.request.pop, POP_SIGNATURE);
    assert_int_equal(request.request.pop_alg, SIG_ECDSA_SHA256);
    assert_same(request.request.pop_message, request.cert_req_der);
    assert_same(request.request.pop_signature, B('s', 'i', 'g'));
    assert_false(request.pop_over_input);
    /* the received octets, not a copy */
    assert_in_range(request.cert_req_der.ptr - der.ptr, 2, 5);

    /* nothing but an id */
    assert_int_equal(decode(SEQ(SEQ(TLV(0x02, B(0xff)), EMPTY_SEQ)), &request), ERR_OK);
    assert_int_equal(request.cert_req_id, -1);
    assert_true(!request.has_subject && !request.has_key && !request.has_not_after);
    assert_same(request.request.subject, EMPTY_SEQ);
    assert_int_equal(request.request.pop, POP_NONE);
    assert_int_equal(request.request.extensions.count, 0);

    /* central key generation with a wish for the algorithm */
    der = message_of(SEQ(CTX(6, EC_ALG, TLV(0x03, B(0)))), NONE);
    assert_int_equal(decode(der, &request), ERR_OK);
    assert_true(request.key_is_empty && !request.has_key);
    assert_same(request.key_alg, EC_ALG);
}

static void test_controls(void **state)
{
    (void)state;
    static struct crmf_request request;
    der_make_reset();
    struct bytes der =
        SEQ(SEQ(INT(5), template_with(NONE, NONE),
                SEQ(CONTROL(1, UTF8("token")), CONTROL(2, UTF8("who")), CONTROL(3, SEQ(INT(0))),
                    CONTROL(5, SEQ(DIR("ca"), TLV(0x02, B(0x00, 0x80)))), CONTROL(6, public_key()),
                    SEQ(OID(0x2a, 0x03), A_NULL), SEQ(OID(0x2a, 0x03), A_NULL))),
            SIGNED, SEQ(SEQ(OID(0x2a, 0x03), UTF8("a?b%"))));

    assert_int_equal(decode(der, &request), ERR_OK);
    assert_same(request.reg_token, bytes_of_str("token"));
    assert_same(request.authenticator, bytes_of_str("who"));
    assert_same(request.old_cert_id.issuer, NAME("ca"));
    assert_same(request.old_cert_id.serial, B(0x00, 0x80));
    assert_same(request.protocol_encr_key, public_key());
}

static void test_proofs(void **state)
{
    (void)state;
    static struct crmf_request request;
    der_make_reset();
    struct bytes normal = template_with(NONE, NONE);
    const struct {
        struct bytes pop;
        enum pop_kind kind;
        enum crmf_pop_key key;
        bool is_agreement;
    } all[] = {
        {NONE, POP_NONE, 0, false},
        {TLV(0x80, NONE), POP_RA_VERIFIED, 0, false},
        {SIGNED, POP_SIGNATURE, 0, false},
        {CTX(2, TLV(0x80, B(0, 'k'))), POP_KEY_ENCIPHERMENT, CRMF_POP_THIS_MESSAGE, false},
        {CTX(2, TLV(0x81, B(0))), POP_KEY_ENCIPHERMENT, CRMF_POP_ENCR_CERT, false},
        {CTX(2, TLV(0x81, B(1))), POP_KEY_ENCIPHERMENT, CRMF_POP_CHALLENGE, false},
        {CTX(3, TLV(0x81, B(0))), POP_KEY_ENCIPHERMENT, CRMF_POP_ENCR_CERT, true},
        {CTX(3, TLV(0x82, B(0, 'm'))), POP_KEY_ENCIPHERMENT, CRMF_POP_OTHER, true},
        {CTX(3, der_retag(0xa3, PKMAC)), POP_KEY_ENCIPHERMENT, CRMF_POP_OTHER, true},
        {CTX(2, CTX(4, INT(2))), POP_KEY_ENCIPHERMENT, CRMF_POP_OTHER, false},
    };

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        assert_int_equal(decode(message_of(normal, all[i].pop), &request), ERR_OK);
        assert_int_equal(request.request.pop, all[i].kind);
        assert_int_equal(request.pop_key, all[i].key);
        assert_int_equal(request.pop_is_agreement, all[i].is_agreement);
    }
}

static void test_signing_input(void **state)
{
    (void)state;
    static struct crmf_request request;
    der_make_reset();
    struct bytes no_subject = SEQ(key_field()), null_subject = SEQ(CTX(5, EMPTY_SEQ), key_field());
    struct bytes by_sender = CTX(0, CTX(0, DIR("known")), public_key());
    struct bytes by_mac = CTX(0, PKMAC, public_key());
    struct bytes other_key = CTX(0, PKMAC, SEQ(EC_ALG, BITS(0x04, 0x01)));
#define OVER(input) CTX(1, input, ECDSA_SHA256, BITS('s'))

    assert_int_equal(decode(message_of(no_subject, OVER(by_sender)), &request), ERR_OK);
    assert_true(request.pop_over_input);
    /* signed with SEQUENCE's own tag */
    assert_same(request.request.pop_message, der_retag(0x30, by_sender));
    assert_same(request.pop_sender, DIR("known"));
    assert_int_equal(request.pop_mac.len, 0);
    assert_int_equal(decode(message_of(null_subject, OVER(by_mac)), &request), ERR_OK);
    assert_same(request.request.pop_message, der_retag(0x30, by_mac));
    assert_same(request.pop_mac, PKMAC);
    assert_int_equal(request.pop_sender.len, 0);

    /* the key is another, there is none, or the subject is not covered */
    assert_int_equal(decode(message_of(no_subject, OVER(other_key)), &request), ERR_BAD_POP);
    assert_int_equal(decode(message_of(EMPTY_SEQ, OVER(by_mac)), &request), ERR_BAD_POP);
    assert_int_equal(decode(message_of(template_with(NONE, NONE), OVER(by_mac)), &request),
                     ERR_BAD_POP);

    const struct bytes malformed[] = {
        CTX(0, public_key()),                                    /* no authInfo */
        CTX(0, PKMAC),                                           /* no key */
        CTX(0, CTX(0, DIR("a"), DIR("b")), public_key()),        /* two senders */
        CTX(0, CTX(0, NONE), public_key()),                      /* none */
        CTX(0, SEQ(SEQ(OID(0x2a, 0x03)), INT(1)), public_key()), /* not a PKMACValue */
        CTX(0, PKMAC, SEQ(EC_ALG, INT(1))),                      /* not a key */
    };
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++)
        assert_int_equal(decode(message_of(no_subject, OVER(malformed[i])), &request), ERR_BAD_DER);
    assert_int_equal(
        decode(message_of(no_subject, OVER(CTX(0, PKMAC, public_key(), A_NULL))), &request),
        ERR_DER_TRAILING);
}

struct refusal {
    struct bytes der;
    enum err err;
};

static void check_refusals(const struct refusal all[], size_t count)
{
    static struct crmf_request request;

    for (size_t i = 0; i < count; i++) {
        enum err err = decode(all[i].der, &request);
        if (err != all[i].err)
            print_error("row %zu: %s\n", i, err_code(err));
        assert_int_equal(err, all[i].err);
        assert_int_equal(request.err, err);
        /* nothing is left to be taken for a request */
        assert_int_equal(request.request.pop, POP_NONE);
        assert_int_equal(request.request.spki.der.len + request.request.extensions.count, 0);
        assert_false(request.has_key || request.has_subject);
    }
}

static void test_templates_refused(void **state)
{
    (void)state;
    der_make_reset();
#define WITH(before, behind) message_of(template_with(before, behind), SIGNED)
    struct bytes two_serials = TLV(0x81, B(1));
    const struct refusal all[] = {
        {WITH(TLV(0x80, B(1)), NONE), ERR_BAD_TEMPLATE},               /* version is not 2 */
        {WITH(TLV(0x80, B(0, 2)), NONE), ERR_BAD_DER},                 /* not minimal */
        {WITH(TLV(0x81, B(7)), NONE), ERR_BAD_TEMPLATE},               /* serialNumber */
        {WITH(CTX(2, OID(0x2a, 0x03)), NONE), ERR_BAD_TEMPLATE},       /* signingAlg */
        {WITH(NONE, TLV(0x87, B(0))), ERR_BAD_TEMPLATE},               /* issuerUID */
        {WITH(NONE, TLV(0x88, B(0))), ERR_BAD_TEMPLATE},               /* subjectUID */
        {WITH(der_join(two_serials, two_serials), NONE), ERR_BAD_DER}, /* a field twice */
        {WITH(NONE, CTX(3, NAME("ca"))), ERR_BAD_DER},                 /* out of order */
        {WITH(NONE, CTX(10, NONE)), ERR_BAD_DER},                      /* unknown */
        {WITH(CTX(3, NONE), NONE), ERR_BAD_DER},                       /* issuer without a Name */
        {WITH(CTX(3, SEQ(TLV(0x31, NONE))), NONE), ERR_BAD_TEMPLATE},  /* an empty RDN */
        {WITH(der_retag(0xa3, NAME("ca")), NONE), ERR_BAD_TEMPLATE},   /* implicit */
        {WITH(CTX(4, NONE), NONE), ERR_BAD_TEMPLATE},                  /* no time in validity */
        {WITH(CTX(4, UTCTIME("260101000000Z")), NONE), ERR_DER_TRAILING},
        {WITH(CTX(4, CTX(0, INT(1))), NONE), ERR_BAD_DER},
        {WITH(CTX(4, CTX(1, UTCTIME("260101000000Z")), CTX(0, UTCTIME("260101000000Z"))), NONE),
         ERR_DER_TRAILING},
        {WITH(NONE, CTX(9, NONE)), ERR_BAD_DER},                       /* no extension */
        {WITH(NONE, CTX(9, KEY_USAGE, KEY_USAGE)), ERR_BAD_TEMPLATE},  /* one twice */
        {WITH(NONE, CTX(9, SAN(EMPTY_SEQ))), ERR_BAD_TEMPLATE},        /* no names */
        {WITH(NONE, CTX(9, SEQ(OID(0x55, 0x1d, 0x0f)))), ERR_BAD_DER}, /* no value */
        {message_of(SEQ(public_key()), NONE), ERR_BAD_DER},            /* not tagged */
        {message_of(SEQ(CTX(6, public_key())), NONE), ERR_BAD_DER},    /* explicit */
        {message_of(SEQ(CTX(6, EC_ALG)), NONE), ERR_BAD_DER},
        {message_of(SEQ(CTX(6, EC_ALG, BITS(4), A_NULL)), NONE), ERR_DER_TRAILING},
        {message_of(SEQ(CTX(6, EC_ALG, BITS(4))), NONE), ERR_BAD_KEY},
        {message_of(SEQ(CTX(6, SEQ(OID(0x2a, 0x03)), BITS(4))), NONE), ERR_BAD_ALG},
        {message_of(SEQ(CTX(6, EMPTY_SEQ, TLV(0x03, B(0)))), NONE), ERR_BAD_DER},
    };
    check_refusals(all, sizeof(all) / sizeof(all[0]));
}

static void test_messages_refused(void **state)
{
    (void)state;
    der_make_reset();
    struct bytes good = template_with(NONE, NONE);
    struct bytes fine = message_of(good, SIGNED);
    struct bytes cert_req = SEQ(INT(5), good);
    struct bytes token = CONTROL(1, UTF8("t"));
#define POP(...) message_of(good, __VA_ARGS__)
    const struct refusal all[] = {
        {NONE, ERR_BAD_DER},
        {A_NULL, ERR_BAD_DER},
        {EMPTY_SEQ, ERR_BAD_DER},
        {der_join(fine, A_NULL), ERR_DER_TRAILING},
        {bytes_of(fine.ptr, fine.len - 1), ERR_BAD_DER},
        {SEQ(SEQ(good)), ERR_BAD_DER},                                          /* no certReqId */
        {SEQ(SEQ(INT(5))), ERR_BAD_DER},                                        /* no template */
        {SEQ(SEQ(TLV(0x02, B(0, 1)), good)), ERR_BAD_DER},                      /* not minimal */
        {SEQ(SEQ(TLV(0x02, B(1, 2, 3, 4, 5, 6, 7, 8, 9)), good)), ERR_BAD_DER}, /* too large */
        {SEQ(SEQ(INT(5), good, SEQ(token), A_NULL)), ERR_DER_TRAILING},
        {with_controls(EMPTY_SEQ), ERR_BAD_DER},
        {with_controls(SEQ(token, token)), ERR_BAD_REQUEST},
        {with_controls(SEQ(CONTROL(3, INT(1)), CONTROL(3, INT(1)))), ERR_BAD_REQUEST},
        {with_controls(SEQ(CONTROL(1, INT(1)))), ERR_BAD_DER},
        {with_controls(SEQ(CONTROL(2, TLV(0x0c, B(0xff))))), ERR_BAD_DER},
        {with_controls(SEQ(CONTROL(3, TLV(0x02, NONE)))), ERR_BAD_DER},
        {with_controls(SEQ(SEQ(REG_CTRL(1)))), ERR_BAD_DER},
        {with_controls(SEQ(SEQ(REG_CTRL(1), UTF8("t"), A_NULL))), ERR_DER_TRAILING},
        {with_controls(SEQ(CONTROL(5, SEQ(DIR("ca"))))), ERR_BAD_DER},
        {with_controls(SEQ(CONTROL(5, SEQ(DIR("ca"), INT(1), A_NULL)))), ERR_DER_TRAILING},
        {with_controls(SEQ(CONTROL(5, SEQ(DNS("ca"), INT(1))))), ERR_BAD_REQUEST},
        {with_controls(SEQ(CONTROL(6, SEQ(EC_ALG)))), ERR_BAD_DER},
        {POP(TLV(0x80, B(1))), ERR_BAD_DER}, /* raVerified with value */
        {POP(CTX(4, NONE)), ERR_BAD_POP},    /* unknown kinds */
        {POP(CTX(2, TLV(0x81, B(2)))), ERR_BAD_POP},
        {POP(CTX(2, CTX(5, NONE))), ERR_BAD_POP},
        {POP(A_NULL), ERR_BAD_DER},
        {POP(CTX(2, NONE)), ERR_BAD_DER},
        {POP(CTX(2, TLV(0x81, B(0, 0)))), ERR_BAD_DER},
        {POP(CTX(2, TLV(0x80, B(8)))), ERR_BAD_DER},
        {POP(CTX(3, TLV(0x82, NONE))), ERR_BAD_DER},
        {POP(CTX(3, CTX(3, INT(1)))), ERR_BAD_DER},
        {POP(CTX(2, CTX(4, TLV(0x01, B(1))))), ERR_BAD_DER},
        {POP(CTX(2, TLV(0x81, B(0)), TLV(0x81, B(0)))), ERR_DER_TRAILING},
        {POP(CTX(1, ECDSA_SHA256)), ERR_BAD_DER},
        {POP(CTX(1, ECDSA_SHA256, BITS('s'), A_NULL)), ERR_DER_TRAILING},
        {POP(CTX(1, SEQ(OID(0x2a, 0x03)), BITS('s'))), ERR_BAD_ALG},
        {POP(CTX(1, SEQ(INT(1)), BITS('s'))), ERR_BAD_DER},
        {POP(CTX(1, SEQ(ECDSA_SHA256, BITS('s')))), ERR_BAD_DER}, /* explicit */
        {SEQ(cert_req, SIGNED, EMPTY_SEQ), ERR_BAD_DER},          /* no regInfo in it */
        {SEQ(cert_req, SIGNED, SEQ(SEQ(OID(0x2a, 0x03)))), ERR_BAD_DER},
        {SEQ(cert_req, SIGNED, SEQ(CONTROL(1, TLV(0x01, B(1))))), ERR_BAD_DER},
        {SEQ(cert_req, SIGNED, SEQ(token), A_NULL), ERR_DER_TRAILING},
    };
    check_refusals(all, sizeof(all) / sizeof(all[0]));
}

static void test_failure_keeps_the_id_alone(void **state)
{
    (void)state;
    static struct crmf_request request;
    der_make_reset();

    assert_int_equal(decode(WITH(TLV(0x81, B(7)), NONE), &request), ERR_BAD_TEMPLATE);
    assert_int_equal(request.cert_req_id, 5);
    assert_int_equal(request.cert_req_der.len, 0);

    struct bytes der = WITH(NONE, NONE);
    struct writer scratch = writer_of(scratch_room, public_key().len - 1);
    assert_int_equal(crmf_decode(der, &scratch, &request), ERR_NO_SPACE);
    scratch = writer_of(scratch_room, public_key().len);
    assert_int_equal(crmf_decode(der, &scratch, &request), ERR_OK);
}

static void test_template_of_a_revocation(void **state)
{
    (void)state;
    struct cert_id id = {0};
    der_make_reset();
    struct bytes both = SEQ(TLV(0x81, B(0, 0x80)), CTX(3, NAME("ca")));

    assert_int_equal(crmf_template_cert_id(both, &id), ERR_OK);
    assert_same(id.serial, B(0, 0x80));
    assert_same(id.issuer, NAME("ca"));
    const struct bytes refused[] = {
        SEQ(TLV(0x81, B(0, 1))),
        SEQ(TLV(0x81, NONE)),
        SEQ(CTX(3, NONE)),
        SEQ(TLV(0x80, NONE)),
        SEQ(TLV(0x87, B(9))),
        SEQ(TLV(0x88, NONE)),
        SEQ(CTX(5, TLV(0x01, B(1)))),
        A_NULL,
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        assert_int_equal(crmf_template_cert_id(refused[i], &id), ERR_BAD_DER);
    assert_int_equal(crmf_template_cert_id(der_join(both, A_NULL), &id), ERR_DER_TRAILING);
    assert_int_equal(crmf_template_cert_id(SEQ(CTX(3, SEQ(TLV(0x31, NONE)))), &id),
                     ERR_BAD_TEMPLATE);
    assert_same(id.issuer, NAME("ca")); /* untouched */
    /* what is not there is empty; the other fields do not matter */
    assert_int_equal(crmf_template_cert_id(SEQ(CTX(5, NAME("x")), TLV(0x88, B(0))), &id), ERR_OK);
    assert_int_equal(id.issuer.len + id.serial.len, 0);
}

/* --- writing --- */

struct signer {
    struct bytes seen;
    bool fails;
};

static bool sign(void *ctx, struct bytes message, uint8_t *out, size_t cap, size_t *out_len)
{
    struct signer *signer = ctx;

    assert_true(cap >= 3);
    signer->seen = der_join(message, NONE); /* the builder moves it */
    memcpy(out, "sig", 3);
    *out_len = 3;
    return !signer->fails;
}

static void test_written_comes_back(void **state)
{
    (void)state;
    static struct crmf_request request;
    uint8_t room[2048];
    struct signer signer = {0};
    struct bytes der;
    der_make_reset();
    struct crmf_template template = {
        .cert_req_id = -1,
        .subject = NAME("dev"),
        .spki = public_key(),
        .extensions = SEQ(KEY_USAGE, SAN(SEQ(DNS("dev.example")))),
        .old_cert_id = {NAME("ca"), B(0x00, 0x80)},
        .reg_token = bytes_of_str("token"),
    };
    struct der_builder builder = der_builder_of(room, sizeof(room));

    assert_true(crmf_put(&builder, &template, SIG_ECDSA_SHA256, sign, &signer));
    assert_true(der_finish(&builder, &der));
    assert_int_equal(decode(der, &request), ERR_OK);
    assert_int_equal(request.cert_req_id, -1);
    assert_same(request.request.subject, template.subject);
    assert_same(request.request.spki.der, template.spki);
    assert_int_equal(request.request.extensions.count, 2);
    assert_same(request.request.extensions.item[0].der, KEY_USAGE);
    assert_same(request.old_cert_id.issuer, template.old_cert_id.issuer);
    assert_same(request.old_cert_id.serial, template.old_cert_id.serial);
    assert_same(request.reg_token, template.reg_token);
    assert_int_equal(request.request.pop_alg, SIG_ECDSA_SHA256);
    assert_same(request.request.pop_signature, bytes_of_str("sig"));
    assert_same(request.request.pop_message, signer.seen);

    template = (struct crmf_template){.ra_verified = true};
    builder = der_builder_of(room, sizeof(room));
    assert_true(crmf_put(&builder, &template, SIG_NONE, NULL, NULL));
    assert_true(der_finish(&builder, &der));
    assert_int_equal(decode(der, &request), ERR_OK);
    assert_int_equal(request.request.pop, POP_RA_VERIFIED);

    /* what fails, fails for good */
    signer.fails = true;
    template = (struct crmf_template){.subject = NAME("dev")};
    builder = der_builder_of(room, sizeof(room));
    assert_false(crmf_put(&builder, &template, SIG_ECDSA_SHA256, sign, &signer));
    assert_false(der_finish(&builder, &der));
    template.spki = A_NULL;
    builder = der_builder_of(room, sizeof(room));
    assert_false(crmf_put(&builder, &template, SIG_NONE, NULL, NULL));
    builder = der_builder_of(room, 20);
    assert_false(
        crmf_put(&builder, &(struct crmf_template){.subject = NAME("dev")}, SIG_NONE, NULL, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_template),
        cmocka_unit_test(test_controls),
        cmocka_unit_test(test_proofs),
        cmocka_unit_test(test_signing_input),
        cmocka_unit_test(test_templates_refused),
        cmocka_unit_test(test_messages_refused),
        cmocka_unit_test(test_failure_keeps_the_id_alone),
        cmocka_unit_test(test_template_of_a_revocation),
        cmocka_unit_test(test_written_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
