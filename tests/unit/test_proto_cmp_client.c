/* Does the CMP client make messages a server can check, and does it take no answer that is not the
 * server's answer to them?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "asn1/oid.h"
#include "proto/cmp_client.h"

static const int64_t now_s = 1700000000;
enum { MESSAGE_MAX = 128 * 1024 };

struct party {
    struct softkey *key;
    uint8_t spki[128], name[64], der[1024];
    size_t spki_len, name_len, len;
};

static struct party root, server, device, client;
static struct cmp_client_credential by_key, by_secret;
static struct trust_store anchors;
static uint8_t out[MESSAGE_MAX], answer[MESSAGE_MAX], scratch[MESSAGE_MAX];

/* --- certificates --- */

static void put_extension(struct der_builder *b, struct bytes oid, struct bytes value)
{
    der_open(b, DER_SEQUENCE);
    der_put(b, DER_OID, oid);
    der_put(b, DER_OCTET_STRING, value);
    der_close(b);
}

static void put_extensions(struct der_builder *b, bool is_ca, struct bytes eku)
{
    static const uint8_t ca[] = {0x30, 0x03, 0x01, 0x01, 0xff};
    static const uint8_t ski[] = {0x04, 0x02, 0x17, 0x2a};
    uint8_t usage[32];
    der_open(b, DER_CONTEXT_CONSTRUCTED(3));
    der_open(b, DER_SEQUENCE);
    put_extension(b, OID_EXT_SKI, BYTES_ARRAY(ski));
    if (is_ca)
        put_extension(b, OID_EXT_BASIC_CONSTRAINTS, BYTES_ARRAY(ca));
    if (eku.len > 0) {
        struct der_builder list = der_builder_of(usage, sizeof(usage));
        der_open(&list, DER_SEQUENCE);
        der_put(&list, DER_OID, eku);
        der_close(&list);
        put_extension(b, OID_EXT_EKU, writer_view(&list.out));
    }
    der_close(b);
    der_close(b);
}

static void make_party(struct party *party, const char *name, const struct party *issuer,
                       enum key_alg alg, bool is_ca, struct bytes eku)
{
    uint8_t tbs[1024], signature[128];
    size_t signature_len;
    enum sig_alg sig = sig_alg_default(softkey_alg(issuer->key));
    if (party != issuer)
        assert_int_equal(softkey_generate(alg, 0, &party->key), ERR_OK);
    assert_int_equal(softkey_spki(party->key, party->spki, sizeof(party->spki), &party->spki_len),
                     ERR_OK);
    assert_true(name_from_text(name, party->name, sizeof(party->name), &party->name_len));
    struct der_builder b = der_builder_of(tbs, sizeof(tbs));
    der_open(&b, DER_SEQUENCE);
    der_open(&b, DER_CONTEXT_CONSTRUCTED(0));
    der_put_u64(&b, DER_INTEGER, 2);
    der_close(&b);
    der_put_u64(&b, DER_INTEGER, 7);
    der_put_raw(&b, sig_alg_der(sig));
    der_put_raw(&b, bytes_of(issuer->name, issuer->name_len));
    der_open(&b, DER_SEQUENCE);
    der_put_time(&b, now_s - 1000);
    der_put_time(&b, now_s + 1000);
    der_close(&b);
    der_put_raw(&b, bytes_of(party->name, party->name_len));
    der_put_raw(&b, bytes_of(party->spki, party->spki_len));
    put_extensions(&b, is_ca, eku);
    der_close(&b);
    struct bytes tbs_der, der;
    assert_true(der_finish(&b, &tbs_der));
    assert_int_equal(softkey_sign(issuer->key, sig, tbs_der, false, signature, sizeof(signature),
                                  &signature_len),
                     ERR_OK);
    b = der_builder_of(party->der, sizeof(party->der));
    der_open(&b, DER_SEQUENCE);
    der_put_raw(&b, tbs_der);
    der_put_raw(&b, sig_alg_der(sig));
    der_put_bits(&b, bytes_of(signature, signature_len));
    der_close(&b);
    assert_true(der_finish(&b, &der));
    party->len = der.len;
}

static int setup(void **state)
{
    (void)state;
    struct mac_params pbm = {
        .kind = MAC_PBM, .hash = HASH_SHA256, .mac = HASH_SHA256, .iterations = 500};
    assert_int_equal(softkey_generate(KEY_EC_P256, 0, &root.key), ERR_OK);
    make_party(&root, "CN=Root", &root, KEY_EC_P256, true, (struct bytes){0});
    make_party(&server, "CN=Server", &root, KEY_EC_P256, false, OID_EKU_CMC_CA);
    make_party(&device, "CN=Device", &root, KEY_EC_P256, false, (struct bytes){0});
    make_party(&client, "CN=RA", &root, KEY_EC_P256, false, OID_EKU_CMC_RA);
    struct bytes chain[] = {bytes_of(client.der, client.len)};
    assert_int_equal(cmp_client_by_key(client.key, chain, 1, &by_key), ERR_OK);
    assert_int_equal(cmp_client_by_secret(BYTES_LIT("station-1"), BYTES_LIT("a shared secret"),
                                          &pbm, &by_secret),
                     ERR_OK);
    assert_int_equal(trust_store_add(&anchors, bytes_of(root.der, root.len)), ERR_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    softkey_free(root.key);
    softkey_free(server.key);
    softkey_free(device.key);
    softkey_free(client.key);
    cmp_client_credential_clear(&by_secret);
    trust_store_clear(&anchors);
    return 0;
}

/* --- messages --- */

static struct bytes pki_conf(void)
{
    static const uint8_t null[] = {0x05, 0x00};
    return BYTES_ARRAY(null);
}

static struct cmp_client_message message_of(enum cmp_body body, struct bytes content)
{
    struct cmp_client_message message = {.body = body, .content = content, .time_s = now_s};
    memset(message.ids.transaction_id, 0x11, CMP_NONCE_LEN);
    memset(message.ids.nonce, 0x22, CMP_NONCE_LEN);
    return message;
}

static struct bytes build(const struct cmp_client_credential *credential,
                          const struct cmp_client_message *message, uint8_t *buf)
{
    size_t len = 0;
    assert_int_equal(cmp_client_build(credential, message, buf, MESSAGE_MAX, &len), ERR_OK);
    return bytes_of(buf, len);
}

static void test_a_signed_message_holds_what_it_must(void **state)
{
    (void)state;
    struct cmp_msg msg;
    struct cmp_client_message message = message_of(CMP_PKICONF, pki_conf());
    message.implicit_confirm = true;
    struct bytes der = build(&by_key, &message, out);
    assert_int_equal(cmp_msg_decode(der, &msg), ERR_OK);
    assert_int_equal(msg.header.pvno, 2);
    assert_true(bytes_eq(msg.header.sender_name, bytes_of(client.name, client.name_len)));
    assert_true(msg.header.implicit_confirm && msg.header.message_time_s == now_s);
    assert_int_equal(msg.header.sender_kid.len, 2);
    assert_int_equal(msg.extra_cert_count, 1);
    struct spki spki;
    uint8_t head[8], whole[4096];
    struct bytes part[2];
    cmp_protected_part(&msg, head, part);
    struct writer piece = writer_of(whole, sizeof(whole));
    writer_put(&piece, part[0]);
    writer_put(&piece, part[1]);
    assert_int_equal(spki_decode(bytes_of(client.spki, client.spki_len), &spki), ERR_OK);
    struct verify_job job = {.alg = SIG_ECDSA_SHA256,
                             .spki = &spki,
                             .message = writer_view(&piece),
                             .signature = msg.protection};
    assert_int_equal(verify_one(&job), ERR_OK);
}

static void test_a_mac_goes_by_its_reference(void **state)
{
    (void)state;
    struct cmp_msg msg;
    struct bytes cn;
    struct cmp_client_message message = message_of(CMP_PKICONF, pki_conf());
    assert_int_equal(cmp_msg_decode(build(&by_secret, &message, out), &msg), ERR_OK);
    assert_true(bytes_eq(msg.header.sender_kid, BYTES_LIT("station-1")));
    assert_true(name_find(msg.header.sender_name, OID_AT_COMMON_NAME, &cn));
    assert_true(bytes_eq(cn, BYTES_LIT("station-1")));
    assert_int_equal(msg.extra_cert_count, 0);
}

static void test_no_room_is_said(void **state)
{
    (void)state;
    size_t len = 0;
    struct cmp_client_message message = message_of(CMP_PKICONF, pki_conf());
    for (size_t cap = 0; cap < 4000; cap += 50)
        assert_true(cmp_client_build(&by_key, &message, out, cap, &len) != ERR_OK ? len == 0
                                                                                  : len <= cap);
    assert_int_equal(
        cmp_client_build(&by_key, &message, out, cmp_client_room(message.content.len), &len),
        ERR_OK);
    struct bytes wrong[] = {bytes_of(server.der, server.len)};
    struct cmp_client_credential none;
    assert_int_equal(cmp_client_by_key(client.key, wrong, 1, &none), ERR_BAD_KEY);
}

/* --- answers --- */

/* What a party would answer to message_of's ids. */
static struct bytes answer_of(const struct party *from, enum cmp_body body, struct bytes content,
                              uint8_t transaction, uint8_t nonce)
{
    struct cmp_client_credential credential;
    struct bytes chain[] = {bytes_of(from->der, from->len)};
    struct cmp_client_message message = {.body = body, .content = content, .time_s = now_s};
    uint8_t recip_nonce[CMP_NONCE_LEN];
    memset(message.ids.transaction_id, transaction, CMP_NONCE_LEN);
    memset(recip_nonce, nonce, sizeof(recip_nonce));
    message.recip_nonce = BYTES_ARRAY(recip_nonce);
    assert_int_equal(cmp_client_by_key(from->key, chain, 1, &credential), ERR_OK);
    return build(&credential, &message, answer);
}

static enum err check_with(struct cmp_client_checker *checker, struct bytes der,
                           bool *out_protected)
{
    struct cmp_msg msg;
    struct cmp_client_message sent = message_of(CMP_PKICONF, pki_conf());
    checker->scratch = scratch;
    checker->scratch_cap = sizeof(scratch);
    return cmp_client_check(checker, &sent.ids, der, now_s, &msg, out_protected);
}

static enum err check(struct bytes der)
{
    struct cmp_client_checker checker = {.anchors = &anchors, .credential = &by_secret};
    bool is_protected = false;
    enum err err = check_with(&checker, der, &is_protected);
    assert_true(err != ERR_OK || is_protected);
    cmp_client_checker_clear(&checker);
    return err;
}

static void test_the_servers_answer_is_taken(void **state)
{
    (void)state;
    struct bytes good = answer_of(&server, CMP_PKICONF, pki_conf(), 0x11, 0x22);
    struct cmp_client_checker checker = {.anchors = &anchors};
    bool is_protected;
    for (int i = 0; i < 3; i++) /* the second time, the signer is known */
        assert_int_equal(check_with(&checker, good, &is_protected), ERR_OK);
    cmp_client_checker_clear(&checker);
}

static void test_other_answers_are_not(void **state)
{
    (void)state;
    assert_int_equal(check(answer_of(&server, CMP_PKICONF, pki_conf(), 0x12, 0x22)),
                     ERR_CMP_TRANSACTION);
    assert_int_equal(check(answer_of(&server, CMP_PKICONF, pki_conf(), 0x11, 0x23)),
                     ERR_CMP_RECIPIENT_NONCE);
    assert_int_equal(check(answer_of(&device, CMP_PKICONF, pki_conf(), 0x11, 0x22)),
                     ERR_CLIENT_CERT_UNTRUSTED); /* under the same root, but nobody's CA */
    struct bytes good = answer_of(&server, CMP_PKICONF, pki_conf(), 0x11, 0x22);
    assert_int_equal(check(good), ERR_OK);
    struct cmp_msg msg;
    assert_int_equal(cmp_msg_decode(good, &msg), ERR_OK);
    answer[msg.header.sender_nonce.ptr - answer] ^= 1;
    assert_int_equal(check(good), ERR_CMP_MESSAGE_CHECK);
    answer[msg.header.sender_nonce.ptr - answer] ^= 1;
    answer[msg.protection.ptr + msg.protection.len - 1 - answer] ^= 1;
    assert_int_equal(check(good), ERR_CMP_MESSAGE_CHECK);
}

static void test_gathered_answers_are_held_to_their_signatures(void **state)
{
    (void)state;
    bool is_protected;
    struct cmp_client_checker checker = {.anchors = &anchors, .gathers = true};
    struct cmp_msg msg;
    struct bytes good = answer_of(&server, CMP_PKICONF, pki_conf(), 0x11, 0x22);
    assert_int_equal(cmp_msg_decode(good, &msg), ERR_OK);
    size_t last = (size_t)(msg.protection.ptr + msg.protection.len - 1 - answer);
    assert_int_equal(cmp_client_settle(&checker), 0);
    for (uint32_t i = 0; i < 3 * CMP_CLIENT_GATHERED_MAX + 5; i++) { /* every ninth is forged */
        answer[last] ^= i % 9 == 0;
        assert_int_equal(check_with(&checker, good, &is_protected), ERR_OK);
        answer[last] ^= i % 9 == 0;
        assert_true(checker.gathered_count < CMP_CLIENT_GATHERED_MAX);
    }
    assert_int_equal(cmp_client_settle(&checker), (3 * CMP_CLIENT_GATHERED_MAX + 5 + 8) / 9);
    assert_int_equal(cmp_client_settle(&checker), 0);
    /* each is held to its own signer */
    assert_int_equal(check_with(&checker, good, &is_protected), ERR_OK);
    good = answer_of(&root, CMP_PKICONF, pki_conf(), 0x11, 0x22);
    assert_int_equal(check_with(&checker, good, &is_protected), ERR_OK);
    assert_int_equal(cmp_client_settle(&checker), 0);
    /* nobody's signer is refused at once, as are other ids */
    good = answer_of(&device, CMP_PKICONF, pki_conf(), 0x11, 0x22);
    assert_int_equal(check_with(&checker, good, &is_protected), ERR_CLIENT_CERT_UNTRUSTED);
    good = answer_of(&server, CMP_PKICONF, pki_conf(), 0x12, 0x22);
    assert_int_equal(check_with(&checker, good, &is_protected), ERR_CMP_TRANSACTION);
    assert_int_equal(cmp_client_settle(&checker), 0);
    cmp_client_checker_clear(&checker);
}

static void test_a_pinned_certificate_needs_no_anchor(void **state)
{
    (void)state;
    bool is_protected;
    struct cmp_client_checker checker = {.pinned = {bytes_of(device.der, device.len)},
                                         .pinned_count = 1};
    assert_int_equal(check_with(&checker, answer_of(&device, CMP_PKICONF, pki_conf(), 0x11, 0x22),
                                &is_protected),
                     ERR_OK);
    assert_int_equal(check_with(&checker, answer_of(&server, CMP_PKICONF, pki_conf(), 0x11, 0x22),
                                &is_protected),
                     ERR_CLIENT_CERT_UNTRUSTED);
    cmp_client_checker_clear(&checker);
}

static void test_macs_are_checked_with_the_secret(void **state)
{
    (void)state;
    struct cmp_client_credential other;
    struct mac_params pbmac1 = {.kind = MAC_PBMAC1,
                                .hash = HASH_SHA256,
                                .mac = HASH_SHA256,
                                .iterations = 1000,
                                .key_len = 32};
    struct cmp_client_message message = message_of(CMP_PKICONF, pki_conf());
    uint8_t nonce[CMP_NONCE_LEN];
    memset(nonce, 0x22, sizeof(nonce));
    message.recip_nonce = BYTES_ARRAY(nonce);
    assert_int_equal(check(build(&by_secret, &message, answer)), ERR_OK);
    assert_int_equal(
        cmp_client_by_secret(BYTES_LIT("x"), BYTES_LIT("a shared secret"), &pbmac1, &other),
        ERR_OK); /* parameters of the server's own choice */
    assert_int_equal(check(build(&other, &message, answer)), ERR_OK);
    assert_int_equal(
        cmp_client_by_secret(BYTES_LIT("x"), BYTES_LIT("another secret"), &by_secret.mac, &other),
        ERR_OK);
    assert_int_equal(check(build(&other, &message, answer)), ERR_CMP_MESSAGE_CHECK);
    cmp_client_credential_clear(&other);
}

static void test_only_errors_may_lack_protection(void **state)
{
    (void)state;
    uint8_t content[64], nonce[CMP_NONCE_LEN];
    bool is_protected = true;
    struct cmp_status_info status = {.status = CMP_REJECTION, .fail = CMP_FAIL_BAD_ALG};
    struct der_builder error = der_builder_of(content, sizeof(content));
    cmp_error_put(&error, &status);
    struct cmp_client_message message = message_of(CMP_ERROR, writer_view(&error.out));
    memset(nonce, 0x22, sizeof(nonce));
    message.recip_nonce = BYTES_ARRAY(nonce);
    struct cmp_client_checker checker = {.anchors = &anchors};
    assert_int_equal(check_with(&checker, build(NULL, &message, answer), &is_protected), ERR_OK);
    assert_false(is_protected);
    message.body = CMP_PKICONF;
    message.content = pki_conf();
    assert_int_equal(check_with(&checker, build(NULL, &message, answer), &is_protected),
                     ERR_CMP_WRONG_INTEGRITY);
    cmp_client_checker_clear(&checker);
}

static void test_a_csr_becomes_a_request(void **state)
{
    (void)state;
    struct cert_request csr = {.subject = bytes_of(device.name, device.name_len)};
    struct x509_cert cert;
    assert_int_equal(x509_decode(bytes_of(device.der, device.len), &cert), ERR_OK);
    csr.spki = cert.spki;
    csr.extensions = cert.extensions;
    struct der_builder list = der_builder_of(out, sizeof(out));
    der_open(&list, DER_SEQUENCE);
    assert_true(cmp_client_put_csr(&list, &csr, 5));
    der_close(&list);
    struct writer room = writer_of(scratch, sizeof(scratch));
    static struct crmf_request request;
    uint32_t count;
    assert_int_equal(cmp_cert_reqs_decode(writer_view(&list.out), &room, &request, 1, &count),
                     ERR_OK);
    assert_int_equal(request.err, ERR_OK);
    assert_int_equal(request.cert_req_id, 5);
    assert_int_equal(request.request.pop, POP_RA_VERIFIED);
    assert_true(bytes_eq(request.request.spki.der, cert.spki.der));
    assert_true(bytes_eq(request.request.subject, cert.subject));
    assert_int_equal(request.request.extensions.count, cert.extensions.count);
}

static void test_hash_of_a_confirmation(void **state)
{
    (void)state;
    static struct party odd_ca, odd;
    struct x509_cert cert;
    uint8_t hash[DIGEST_LEN_MAX];
    size_t len;
    assert_int_equal(x509_decode(bytes_of(device.der, device.len), &cert), ERR_OK);
    assert_int_equal(cmp_client_cert_hash(&cert, hash, &len), ERR_OK);
    assert_int_equal(len, 32);
    assert_int_equal(softkey_generate(KEY_ED25519, 0, &odd_ca.key), ERR_OK);
    make_party(&odd_ca, "CN=Ed", &odd_ca, KEY_ED25519, true, (struct bytes){0});
    make_party(&odd, "CN=Of Ed", &odd_ca, KEY_EC_P256, false, (struct bytes){0});
    assert_int_equal(x509_decode(bytes_of(odd.der, odd.len), &cert), ERR_OK);
    assert_int_equal(cmp_client_cert_hash(&cert, hash, &len), ERR_OK);
    assert_int_equal(len, 64);
    /* and a server that signs with it: the message itself is what is verified */
    struct cmp_client_checker checker = {.pinned = {bytes_of(odd_ca.der, odd_ca.len)},
                                         .pinned_count = 1};
    bool is_protected;
    struct bytes der = answer_of(&odd_ca, CMP_PKICONF, pki_conf(), 0x11, 0x22);
    assert_int_equal(check_with(&checker, der, &is_protected), ERR_OK);
    cmp_client_checker_clear(&checker);
    softkey_free(odd_ca.key);
    softkey_free(odd.key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_signed_message_holds_what_it_must),
        cmocka_unit_test(test_a_mac_goes_by_its_reference),
        cmocka_unit_test(test_no_room_is_said),
        cmocka_unit_test(test_the_servers_answer_is_taken),
        cmocka_unit_test(test_other_answers_are_not),
        cmocka_unit_test(test_gathered_answers_are_held_to_their_signatures),
        cmocka_unit_test(test_a_pinned_certificate_needs_no_anchor),
        cmocka_unit_test(test_macs_are_checked_with_the_secret),
        cmocka_unit_test(test_only_errors_may_lack_protection),
        cmocka_unit_test(test_a_csr_becomes_a_request),
        cmocka_unit_test(test_hash_of_a_confirmation),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
