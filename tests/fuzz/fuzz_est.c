/* Can any EST request break decoder, profile or encoder, or make certmill issue what it says
 * differently from what OpenSSL reads?
 *
 * Input: path and method, choices, error, length of query, query, body. See struct input.
 *
 * Oracles: whatever is accepted as a CSR and passes the profile becomes a certificate that our
 * decoder and OpenSSL's read alike, with the request's subject and key; each answer has a status of
 * spec/est.md and, where it is base64, decodes to a CMS that holds the one certificate; each
 * refusal is one printable line. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "asn1/base64.h"
#include "asn1/cms.h"
#include "asn1/der.h"
#include "ca/issue.h"
#include "ca/profile.h"
#include "crypto/digest.h"
#include "proto/est.h"

#include <openssl/pkcs7.h>
#include <openssl/x509v3.h>
/* these would hide enum key_usage */
#undef KU_KEY_CERT_SIGN
#undef KU_CRL_SIGN

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

enum { PROFILE_COUNT = 3 };

static struct chunk_pool pool;
static struct profile *profiles[PROFILE_COUNT];
static uint8_t issuer_der[1024];
static struct x509_cert issuer;
static uint8_t ca_cms[2048], csr_attrs[1024];
static struct proto_line lines[2];

static const uint8_t serial[SERIAL_LEN] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static const uint8_t dummy_signature[] = {0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01};
static const int64_t now_s = 1767225600;

/* --- fixtures --- */

static void make_issuer(void)
{
    /* RFC 6979 A.2.5 */
    const char spki_hex[] = "3059301306072a8648ce3d020106082a8648ce3d03010703420004"
                            "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
                            "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";
    uint8_t spki[128], name[64], tbs[512];
    size_t spki_len, name_len, tbs_len, len;

    CHECK(bytes_from_hex(bytes_of_str(spki_hex), spki, sizeof(spki), &spki_len));
    CHECK(name_from_text("CN=CA", name, sizeof(name), &name_len));
    struct ca_cert_input input = {.subject = bytes_of(name, name_len),
                                  .spki = bytes_of(spki, spki_len),
                                  .sig_alg = SIG_ECDSA_SHA256,
                                  .serial = serial,
                                  .not_before_s = now_s,
                                  .not_after_s = now_s + 86400,
                                  .path_len = 0};
    CHECK(ca_cert_tbs_build(&input, tbs, sizeof(tbs), &tbs_len) == ERR_OK);
    CHECK(cert_assemble(bytes_of(tbs, tbs_len), SIG_ECDSA_SHA256, BYTES_ARRAY(dummy_signature),
                        issuer_der, sizeof(issuer_der), &len) == ERR_OK);
    CHECK(x509_decode(bytes_of(issuer_der, len), &issuer) == ERR_OK);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    const uint32_t counts[CHUNK_CLASS_COUNT] = {8, 8, 0};
    const struct profile_config configs[PROFILE_COUNT] = {
        {.name = "tls", .base = PROFILE_TLS_DEVICE},
        {.name = "server", .base = PROFILE_TLS_DEVICE, .server_auth = true, .no_expiry = true},
        {.name = "idevid", .base = PROFILE_IDEVID},
    };
    const struct est_csr_attrs attrs = {.key_algs = {KEY_EC_P256}, .key_alg_count = 1};
    char detail[256];
    size_t len;

    CHECK(chunk_pool_init_counts(&pool, counts) == ERR_OK);
    make_issuer();
    for (size_t i = 0; i < PROFILE_COUNT; i++)
        CHECK(profile_compile(&configs[i], &issuer, &profiles[i], detail) == ERR_OK);
    CHECK(cms_certs_only_build(&issuer.der, 1, ca_cms, sizeof(ca_cms), &len) == ERR_OK);
    lines[0] = (struct proto_line){.name = "widgets",
                                   .ca_certs = &issuer.der,
                                   .ca_cert_count = 1,
                                   .ca_certs_cms = bytes_of(ca_cms, len),
                                   .base64_wrap = 76,
                                   .offer_confirm = true};
    lines[1] = lines[0];
    lines[1].base64_wrap = 0;
    lines[1].offer_confirm = false;
    CHECK(est_csr_attrs_build(&attrs, csr_attrs, sizeof(csr_attrs), &len) == ERR_OK);
    lines[1].csr_attrs = bytes_of(csr_attrs, len);
    return 0;
}

/* --- input --- */

struct input {
    struct bytes method;
    struct bytes path;
    struct bytes content_type;
    struct bytes user_agent;
    struct bytes query;
    struct bytes body;
    const struct proto_line *line;
    const struct profile *profile;
    enum err err;
    bool body_is_der; /* put into base64 here, so that mutations reach the DER */
    bool little_memory;
};

static bool input_of(struct bytes data, struct input *out)
{
    static const char *const paths[] = {
        "/.well-known/est/simpleenroll",
        "/.well-known/est/simplereenroll",
        "/.well-known/est/widgets/simpleenroll",
        "/.well-known/est/confirm",
        "/.well-known/est/cacerts",
        "/.well-known/est/csrattrs",
        "/.well-known/est/serverkeygen",
        "/.well-known/est/fullcmc",
    };
    static const char *const types[] = {"application/pkcs10", "Application/PKCS10 ; a=b", "",
                                        "text/plain"};
    uint8_t route, choice, err, query_len;
    struct input input = {0};

    if (!bytes_get_u8(&data, &route) || !bytes_get_u8(&data, &choice) ||
        !bytes_get_u8(&data, &err) || !bytes_get_u8(&data, &query_len) ||
        !bytes_get(&data, query_len, &input.query))
        return false;
    size_t path = route & 15;
    input.path = path < 8 ? bytes_of_str(paths[path]) : input.query; /* any path at all */
    input.method = (path & 7) == 4 || (path & 7) == 5 ? BYTES_LIT("GET") : BYTES_LIT("POST");
    if (route & 0x80)
        input.method = BYTES_LIT("HEAD");
    input.content_type = bytes_of_str(types[choice & 3]);
    input.body_is_der = (choice & 4) != 0;
    input.user_agent = choice & 8 ? BYTES_LIT("libest") : BYTES_LIT("curl/8");
    input.line = &lines[choice >> 4 & 1];
    input.profile = profiles[(choice >> 5) % PROFILE_COUNT];
    input.little_memory = (route & 0x40) != 0;
    input.err = (enum err)(err % ERR_COUNT);
    input.body = data;
    *out = input;
    return true;
}

/* --- oracles --- */

static void check_status(uint16_t status)
{
    static const uint16_t known[] = {200, 202, 204, 400, 401, 403, 404, 405, 408,
                                     411, 413, 415, 429, 431, 500, 501, 503, 505};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (status == known[i])
            return;
    CHECK(!"a status of spec/est.md");
}

static void check_refusal(const struct proto_route *route, const struct input *input,
                          const struct proto_request *request, enum err err, const char *detail,
                          struct arena *arena)
{
    struct proto_response response;

    proto_est.refuse(route, input->line, request, NULL, err, detail, "0011223344556677", 0, arena,
                     &response);
    check_status(response.http_status);
    CHECK(response.http_status != 200 && response.http_status != 204);
    CHECK((response.http_status == 405) == (response.allow != NULL));
    CHECK((response.http_status == 401) == (response.www_authenticate != NULL));
    if (response.http_status == 401 || response.http_status == 202) {
        CHECK(response.body.len == 0);
        return;
    }
    CHECK(response.body.len > 1 && bytes_find(response.body, '\n') == response.body.len - 1);
    for (size_t i = 0; i + 1 < response.body.len; i++)
        CHECK(response.body.ptr[i] >= ' ' && response.body.ptr[i] <= '~');
}

static void check_openssl_reads_the_same(struct bytes der, const struct cert_request *request)
{
    const uint8_t *p = der.ptr;
    uint8_t *again = NULL, *name = NULL, *key = NULL;
    X509 *cert = d2i_X509(NULL, &p, (long)der.len);

    CHECK(cert != NULL && p == der.ptr + der.len);
    int len = i2d_X509(cert, &again);
    CHECK(len > 0 && bytes_eq(bytes_of(again, (size_t)len), der));
    len = i2d_X509_NAME(X509_get_subject_name(cert), &name);
    CHECK(len > 0 && bytes_eq(bytes_of(name, (size_t)len), request->subject));
    len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &key);
    CHECK(len > 0 && bytes_eq(bytes_of(key, (size_t)len), request->spki.der));
    uint32_t flags = X509_get_extension_flags(cert);
    CHECK((flags & EXFLAG_INVALID) == 0 && (flags & EXFLAG_CA) == 0);
    CHECK((flags & EXFLAG_CRITICAL) == 0);
    OPENSSL_free(again);
    OPENSSL_free(name);
    OPENSSL_free(key);
    X509_free(cert);
}

/* Policy, TBS, certificate: false when the profile refuses. */
static bool issue(const struct input *input, const struct cert_request *request, uint8_t *out,
                  size_t cap, struct bytes *out_cert)
{
    char detail[128] = "";
    uint8_t tbs[CERT_DER_MAX], sha1[SHA1_LEN];
    size_t tbs_len, len;
    struct x509_cert cert;

    enum err err = profile_check(input->profile, request, detail);
    if (err != ERR_OK) {
        CHECK(err == ERR_KEY_NOT_ALLOWED || err == ERR_EXTENSION_NOT_ALLOWED ||
              err == ERR_BAD_TEMPLATE);
        CHECK(detail[0] != '\0' && strlen(detail) < sizeof(detail));
        return false;
    }
    digest_once(HASH_SHA1, request->spki.key, sha1);
    struct tbs_input tbs_input = {.request = request, .serial = serial, .spki_sha1 = sha1};
    profile_validity(input->profile, now_s, &tbs_input.not_before_s, &tbs_input.not_after_s);
    /* room for the longest signature stays */
    CHECK(profile_build_tbs(input->profile, &tbs_input, tbs, CERT_DER_MAX - SIGNATURE_MAX - 64,
                            &tbs_len) == ERR_OK);
    CHECK(cert_assemble(bytes_of(tbs, tbs_len), SIG_ECDSA_SHA256, BYTES_ARRAY(dummy_signature), out,
                        cap, &len) == ERR_OK);
    CHECK(x509_decode(bytes_of(out, len), &cert) == ERR_OK);
    CHECK(bytes_eq(cert.subject, request->subject));
    CHECK(bytes_eq(cert.spki.der, request->spki.der));
    CHECK(bytes_eq(cert.san, request->san));
    CHECK(bytes_eq(cert.serial, BYTES_ARRAY(serial)));
    CHECK(!cert.is_ca && !cert.unknown_critical && cert.key_usage != 0);
    CHECK((cert.key_usage & (KU_KEY_CERT_SIGN | KU_CRL_SIGN)) == 0);
    check_openssl_reads_the_same(bytes_of(out, len), request);
    *out_cert = bytes_of(out, len);
    return true;
}

static void check_base64_answer(const struct proto_response *response, struct bytes cert)
{
    uint8_t der[CERT_DER_MAX + 256];
    struct bytes certs[2];
    size_t len, count;

    CHECK(response->http_status == 200 && response->allow == NULL);
    CHECK(strcmp(response->content_transfer_encoding, "base64") == 0);
    CHECK(strncmp(response->content_type, "application/pkcs7-mime", 22) == 0);
    CHECK(base64_decode(response->body, der, sizeof(der), &len));
    CHECK(cms_certs_only_decode(bytes_of(der, len), certs, 2, &count) == ERR_OK);
    CHECK(count == 1 && bytes_eq(certs[0], cert));

    const uint8_t *p = der;
    PKCS7 *pkcs7 = d2i_PKCS7(NULL, &p, (long)len);
    CHECK(pkcs7 != NULL && p == der + len && PKCS7_type_is_signed(pkcs7));
    CHECK(sk_X509_num(pkcs7->d.sign->cert) == 1);
    PKCS7_free(pkcs7);
}

/* What was accepted stands in the body: base64 of it and back is the same DER. */
static void check_base64_round_trip(struct bytes body, const struct cert_request *request)
{
    size_t cap = base64_decoded_bound(body.len), len, again_len;
    uint8_t *der = malloc(cap), *again = malloc(cap);
    uint8_t *text = malloc(base64_encoded_len(cap, 64));

    CHECK(der != NULL && again != NULL && text != NULL);
    CHECK(base64_decode(body, der, cap, &len));
    size_t text_len = base64_encode(bytes_of(der, len), 64, text);
    CHECK(base64_decode(bytes_of(text, text_len), again, cap, &again_len));
    CHECK(bytes_eq(bytes_of(again, again_len), bytes_of(der, len)));
    struct bytes reader = bytes_of(der, len), contents, info;
    CHECK(der_get(&reader, DER_SEQUENCE, &contents) && reader.len == 0);
    CHECK(der_get_element(&contents, DER_SEQUENCE, &info));
    CHECK(bytes_eq(info, request->pop_message));
    free(der);
    free(again);
    free(text);
}

static void check_message(const struct proto_route *route, const struct input *input,
                          const struct proto_request *request, const struct proto_message *message,
                          struct arena *arena)
{
    static uint8_t cert_buf[CERT_DER_MAX];
    struct proto_outcome outcome = {.err = ERR_OK, .cert_der = issuer.der};
    struct proto_response response;

    CHECK(message->action == route->action);
    bool is_enroll = route->action == ACTION_ENROLL || route->action == ACTION_REENROLL;
    CHECK(message->request_count == (is_enroll ? 1 : 0));
    if (is_enroll) {
        check_base64_round_trip(request->body, &message->requests[0]);
        issue(input, &message->requests[0], cert_buf, sizeof(cert_buf), &outcome.cert_der);
    }
    if (route->action == ACTION_CONFIRM) {
        CHECK((message->confirm_fingerprint.len == 32) != (message->confirm_cert.len > 0));
        CHECK(message->confirm_device.len <= DEVICE_ID_MAX);
    }
    enum err err =
        proto_est.encode(route, input->line, request, message, &outcome, arena, &response);
    if (err != ERR_OK) {
        CHECK(err == ERR_OVERLOADED && input->little_memory);
        return;
    }
    check_status(response.http_status);
    if (is_enroll || route->action == ACTION_CA_CERTS)
        check_base64_answer(&response, outcome.cert_der);
    outcome.err = input->err;
    if (is_enroll && input->err != ERR_OK)
        CHECK(proto_est.encode(route, input->line, request, message, &outcome, arena, &response) ==
              input->err);
}

static void run(const struct input *input, struct bytes body, struct arena *arena)
{
    struct proto_route route;
    struct proto_message message = {.request_count = 4711};
    enum err err = ERR_INTERNAL;
    const struct proto_request request = {
        .method = input->method,
        .path = input->path,
        .query = input->query,
        .content_type = input->content_type,
        .user_agent = input->user_agent,
        .body = body,
        .has_body = true,
        .over_tls = true,
    };

    bool is_somebodys = proto_match(input->method, input->path, &route, &err);
    if (!is_somebodys || route.proto != &proto_est) {
        CHECK(!bytes_starts_with(input->path, BYTES_LIT("/.well-known/est/")));
        return;
    }
    CHECK(bytes_find(route.line, '/') == route.line.len && !est_is_operation_name(route.line));
    if (err == ERR_OK)
        err = proto_est.decode(&route, input->line, &request, arena, &message);
    if (err == ERR_OK) {
        check_message(&route, input, &request, &message, arena);
    } else {
        CHECK(err != ERR_OVERLOADED || input->little_memory);
        CHECK(message.request_count == 4711);
        check_refusal(&route, input, &request, err, NULL, arena);
    }
    /* any refusal, at any stage, with any text */
    char detail[64] = "";
    size_t len = body.len < sizeof(detail) - 1 ? body.len : sizeof(detail) - 1;
    if (len > 0)
        memcpy(detail, body.ptr, len);
    check_refusal(&route, input, &request, input->err, detail, arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input;
    struct arena arena;

    if (size > 16384 || !input_of(bytes_of(data, size), &input))
        return 0;
    uint8_t *text = NULL;
    struct bytes body = input.body;
    if (input.body_is_der) {
        text = malloc(base64_encoded_len(body.len, 64) + 1);
        CHECK(text != NULL);
        body = bytes_of(text, base64_encode(body, 64, text));
    }
    arena_init(&arena, &pool, input.little_memory ? CHUNK_SMALL_SIZE : 0);
    run(&input, body, &arena);
    arena_reset(&arena);
    free(text);
    return 0;
}
