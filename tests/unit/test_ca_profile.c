/* Does a profile issue exactly what it says, as OpenSSL reads it, and refuse by name what it does
 * not allow? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "asn1/der.h"
#include "asn1/oid.h"
#include "ca/issue.h"
#include "ca/profile.h"
#include "crypto/digest.h"

/* --- deterministic input --- */

/* RFC 6979 A.2.5 */
static const char p256_spki_hex[] =
    "3059301306072a8648ce3d020106082a8648ce3d03010703420004"
    "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";
/* RFC 5903 8.1, the initiator's */
static const char issuer_spki_hex[] =
    "3059301306072a8648ce3d020106082a8648ce3d03010703420004"
    "dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180"
    "5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3";
/* RFC 8410 10.1 */
static const char ed25519_spki_hex[] =
    "302a300506032b6570032100"
    "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";

static const uint8_t serial[SERIAL_LEN] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static const int64_t now_s = 1767225600; /* 2026-01-01 00:00:00 UTC */

static struct bytes hex(const char *text)
{
    static uint8_t pool[1 << 16];
    static size_t used;
    size_t len;

    if (used > sizeof(pool) - 4096)
        used = 0;
    uint8_t *at = pool + used;
    assert_true(bytes_from_hex(bytes_of_str(text), at, 4096, &len));
    used += len;
    return bytes_of(at, len);
}

/* A modulus of this many bits, all ones: odd, and nobody's key. */
static struct bytes rsa_spki(uint32_t bits)
{
    static uint8_t buf[1024];
    uint8_t key_buf[640], modulus[512];
    struct der_builder key = der_builder_of(key_buf, sizeof(key_buf));
    struct der_builder spki = der_builder_of(buf, sizeof(buf));
    struct bytes key_der, der;

    memset(modulus, 0xff, sizeof(modulus));
    der_open(&key, DER_SEQUENCE);
    der_put_unsigned(&key, bytes_of(modulus, bits / 8));
    der_put_u64(&key, DER_INTEGER, 65537);
    der_close(&key);
    assert_true(der_finish(&key, &key_der));
    der_open(&spki, DER_SEQUENCE);
    der_open(&spki, DER_SEQUENCE);
    der_put(&spki, DER_OID, OID_RSA);
    der_put_null(&spki);
    der_close(&spki);
    der_put_bits(&spki, key_der);
    der_close(&spki);
    assert_true(der_finish(&spki, &der));
    return der;
}

static uint8_t issuer_der[2048];
static struct x509_cert issuer;

static void make_issuer(int64_t not_after_s)
{
    uint8_t name[256], tbs[1024];
    size_t name_len, tbs_len, len;
    const uint8_t signature[] = {0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01};

    assert_true(name_from_text("O=Example,CN=Example Device CA", name, sizeof(name), &name_len));
    struct ca_cert_input input = {
        .subject = bytes_of(name, name_len),
        .spki = hex(issuer_spki_hex),
        .sig_alg = SIG_ECDSA_SHA256,
        .serial = serial,
        .not_before_s = now_s - 86400,
        .not_after_s = not_after_s,
        .path_len = 0,
    };
    assert_int_equal(ca_cert_tbs_build(&input, tbs, sizeof(tbs), &tbs_len), ERR_OK);
    assert_int_equal(cert_assemble(bytes_of(tbs, tbs_len), SIG_ECDSA_SHA256, BYTES_ARRAY(signature),
                                   issuer_der, sizeof(issuer_der), &len),
                     ERR_OK);
    assert_int_equal(x509_decode(bytes_of(issuer_der, len), &issuer), ERR_OK);
}

static int setup(void **state)
{
    (void)state;
    make_issuer(now_s + 20 * 365 * 86400ll);
    return 0;
}

static struct profile *compile(const struct profile_config *config)
{
    struct profile *profile = NULL;
    char detail[256] = "";
    enum err err = profile_compile(config, &issuer, &profile, detail);
    if (err != ERR_OK)
        print_error("%s\n", detail);
    assert_int_equal(err, ERR_OK);
    return profile;
}

/* An extension in a request: dotted OID, value in hex. */
struct asked {
    const char *oid;
    const char *value_hex;
};

/* A PKCS#10 request, decoded as the server would. */
static void make_request(struct bytes subject, struct bytes spki, const struct asked asked[],
                         size_t asked_count, struct cert_request *out)
{
    static uint8_t info_buf[8192], csr_buf[8192];
    struct der_builder info = der_builder_of(info_buf, sizeof(info_buf));
    struct bytes info_der;
    uint8_t oid[64];
    size_t oid_len, len;

    der_open(&info, DER_SEQUENCE);
    der_put_u64(&info, DER_INTEGER, 0);
    der_put_raw(&info, subject);
    der_put_raw(&info, spki);
    der_open(&info, DER_CONTEXT_CONSTRUCTED(0));
    if (asked_count > 0) {
        der_open(&info, DER_SEQUENCE);
        der_put(&info, DER_OID, OID_EXTENSION_REQUEST);
        der_open(&info, DER_SET);
        der_open(&info, DER_SEQUENCE);
        for (size_t i = 0; i < asked_count; i++) {
            assert_true(oid_from_text(asked[i].oid, oid, sizeof(oid), &oid_len));
            der_open(&info, DER_SEQUENCE);
            der_put(&info, DER_OID, bytes_of(oid, oid_len));
            der_put(&info, DER_OCTET_STRING, hex(asked[i].value_hex));
            der_close(&info);
        }
        der_close(&info);
        der_close(&info);
        der_close(&info);
    }
    der_close(&info);
    der_close(&info);
    assert_true(der_finish(&info, &info_der));
    assert_int_equal(cert_assemble(info_der, SIG_ECDSA_SHA256, BYTES_LIT("\x30\x00"), csr_buf,
                                   sizeof(csr_buf), &len),
                     ERR_OK);
    assert_int_equal(csr_decode(bytes_of(csr_buf, len), out), ERR_OK);
}

static struct bytes subject_of(const char *text)
{
    static uint8_t buf[NAME_DER_MAX];
    size_t len;

    assert_true(name_from_text(text, buf, sizeof(buf), &len));
    return bytes_of(buf, len);
}

#define NO_SUBJECT BYTES_LIT("\x30\x00")

static const struct asked san_dns = {"2.5.29.17", "300b8209646576696365"
                                                  "2d3131"};
/* otherName hardwareModuleName { 1.3.6.1.4.1.99999.7, "\x01\x02\x03\x04" } */
static const struct asked san_module = {"2.5.29.17", "3021"
                                                     "a01f06082b06010505070804"
                                                     "a013"
                                                     "3011"
                                                     "06092b06010401868d1f07"
                                                     "040401020304"};

/* --- building --- */

static struct bytes build(const struct profile *profile, const struct cert_request *request)
{
    static uint8_t cert[CERT_DER_MAX];
    const uint8_t signature[] = {0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01};
    uint8_t tbs[CERT_DER_MAX], sha1[SHA1_LEN];
    size_t tbs_len, len;
    struct tbs_input input = {.request = request, .serial = serial, .spki_sha1 = sha1};

    digest_once(HASH_SHA1, request->spki.key, sha1);
    profile_validity(profile, now_s, &input.not_before_s, &input.not_after_s);
    assert_int_equal(profile_build_tbs(profile, &input, tbs, sizeof(tbs), &tbs_len), ERR_OK);
    for (size_t cap = 0; cap < tbs_len; cap += cap < 600 ? 1 : 37)
        assert_int_equal(profile_build_tbs(profile, &input, tbs, cap, &len), ERR_NO_SPACE);
    assert_int_equal(profile_build_tbs(profile, &input, tbs, tbs_len + 8, &tbs_len), ERR_OK);
    assert_int_equal(cert_assemble(bytes_of(tbs, tbs_len), SIG_ECDSA_SHA256, BYTES_ARRAY(signature),
                                   cert, sizeof(cert), &len),
                     ERR_OK);
    return bytes_of(cert, len);
}

static void check_ok(const struct profile *profile, const struct cert_request *request)
{
    char detail[128] = "untouched";
    enum err err = profile_check(profile, request, detail);
    if (err != ERR_OK)
        print_error("%s: %s\n", err_code(err), detail);
    assert_int_equal(err, ERR_OK);
    assert_string_equal(detail, "untouched");
}

static void check_refused(const struct profile *profile, const struct cert_request *request,
                          enum err expected, const char *expected_detail)
{
    char detail[128] = "";
    assert_int_equal(profile_check(profile, request, detail), expected);
    assert_string_equal(detail, expected_detail);
}

/* The certificate in the words of `openssl x509`, without key and signature. */
static void assert_openssl_text(struct bytes cert, const char *expected)
{
    char path[] = "/tmp/test_ca_profile_XXXXXX", command[256], text[8192];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *file = fdopen(fd, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(cert.ptr, 1, cert.len, file), cert.len);
    fclose(file);
    snprintf(command, sizeof(command),
             "openssl x509 -inform DER -in %s -noout -text -nameopt RFC2253 "
             "-certopt no_pubkey,no_sigdump 2>&1",
             path);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t len = fread(text, 1, sizeof(text) - 1, pipe);
    text[len] = '\0';
    assert_int_equal(pclose(pipe), 0);
    remove(path);
    /* trailing blanks at line ends differ between versions of OpenSSL */
    char *to = text;
    for (char *from = text; *from != '\0'; from++) {
        if (*from == '\n')
            while (to > text && to[-1] == ' ')
                to--;
        *to++ = *from;
    }
    *to = '\0';
    assert_string_equal(text, expected);
}

static void test_tls_device(void **state)
{
    (void)state;
    const struct profile_config config = {.name = "tls", .base = PROFILE_TLS_DEVICE};
    struct profile *profile = compile(&config);
    struct cert_request request;

    assert_string_equal(profile_name(profile), "tls");
    make_request(subject_of("CN=device-11"), hex(p256_spki_hex), &san_dns, 1, &request);
    check_ok(profile, &request);
    assert_openssl_text(
        build(profile, &request),
        "Certificate:\n"
        "    Data:\n"
        "        Version: 3 (0x2)\n"
        "        Serial Number:\n"
        "            01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10\n"
        "        Signature Algorithm: ecdsa-with-SHA256\n"
        "        Issuer: CN=Example Device CA,O=Example\n"
        "        Validity\n"
        "            Not Before: Dec 31 23:59:00 2025 GMT\n"
        "            Not After : Feb  3 00:00:00 2027 GMT\n"
        "        Subject: CN=device-11\n"
        "        X509v3 extensions:\n"
        "            X509v3 Key Usage: critical\n"
        "                Digital Signature\n"
        "            X509v3 Extended Key Usage:\n"
        "                TLS Web Client Authentication\n"
        "            X509v3 Basic Constraints: critical\n"
        "                CA:FALSE\n"
        "            X509v3 Authority Key Identifier:\n"
        "                49:49:D4:61:BC:B2:5B:69:7E:11:77:BD:82:16:FF:2C:97:96:40:AF\n"
        "            X509v3 Subject Key Identifier:\n"
        "                1A:95:69:57:9B:CE:32:9A:94:2D:07:69:C9:C0:B5:64:31:56:37:10\n"
        "            X509v3 Subject Alternative Name:\n"
        "                DNS:device-11\n");
    profile_free(profile);
}

static void test_tls_device_rsa_server(void **state)
{
    (void)state;
    const struct profile_config config = {.name = "tls",
                                          .base = PROFILE_TLS_DEVICE,
                                          .server_auth = true,
                                          .validity_s = 30 * 86400,
                                          .backdate_s = 3600,
                                          .subject_suffix = "O=Example,OU=Line 3",
                                          .crl_url = "http://pki.example/crl/line3.crl"};
    struct profile *profile = compile(&config);
    struct cert_request request;

    make_request(subject_of("CN=device-12"), rsa_spki(2048), NULL, 0, &request);
    check_ok(profile, &request);
    assert_openssl_text(
        build(profile, &request),
        "Certificate:\n"
        "    Data:\n"
        "        Version: 3 (0x2)\n"
        "        Serial Number:\n"
        "            01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10\n"
        "        Signature Algorithm: ecdsa-with-SHA256\n"
        "        Issuer: CN=Example Device CA,O=Example\n"
        "        Validity\n"
        "            Not Before: Dec 31 23:00:00 2025 GMT\n"
        "            Not After : Jan 31 00:00:00 2026 GMT\n"
        "        Subject: CN=device-12,OU=Line 3,O=Example\n"
        "        X509v3 extensions:\n"
        "            X509v3 Key Usage: critical\n"
        "                Digital Signature, Key Encipherment\n"
        "            X509v3 Extended Key Usage:\n"
        "                TLS Web Server Authentication, TLS Web Client Authentication\n"
        "            X509v3 Basic Constraints: critical\n"
        "                CA:FALSE\n"
        "            X509v3 Authority Key Identifier:\n"
        "                49:49:D4:61:BC:B2:5B:69:7E:11:77:BD:82:16:FF:2C:97:96:40:AF\n"
        "            X509v3 CRL Distribution Points:\n"
        "                Full Name:\n"
        "                  URI:http://pki.example/crl/line3.crl\n"
        "            X509v3 Subject Key Identifier:\n"
        "                8B:8A:85:09:5A:83:1E:AE:3F:96:F2:EB:22:2A:EA:A4:D6:26:A9:89\n");
    profile_free(profile);
}

static void test_tls_device_without_subject(void **state)
{
    (void)state;
    const struct profile_config config = {.name = "tls", .base = PROFILE_TLS_DEVICE};
    struct profile *profile = compile(&config);
    struct cert_request request;

    make_request(NO_SUBJECT, hex(ed25519_spki_hex), &san_dns, 1, &request);
    check_ok(profile, &request);
    assert_openssl_text(
        build(profile, &request),
        "Certificate:\n"
        "    Data:\n"
        "        Version: 3 (0x2)\n"
        "        Serial Number:\n"
        "            01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10\n"
        "        Signature Algorithm: ecdsa-with-SHA256\n"
        "        Issuer: CN=Example Device CA,O=Example\n"
        "        Validity\n"
        "            Not Before: Dec 31 23:59:00 2025 GMT\n"
        "            Not After : Feb  3 00:00:00 2027 GMT\n"
        "        Subject:\n"
        "        X509v3 extensions:\n"
        "            X509v3 Key Usage: critical\n"
        "                Digital Signature\n"
        "            X509v3 Extended Key Usage:\n"
        "                TLS Web Client Authentication\n"
        "            X509v3 Basic Constraints: critical\n"
        "                CA:FALSE\n"
        "            X509v3 Authority Key Identifier:\n"
        "                49:49:D4:61:BC:B2:5B:69:7E:11:77:BD:82:16:FF:2C:97:96:40:AF\n"
        "            X509v3 Subject Key Identifier:\n"
        "                A2:8C:C1:F8:6E:59:60:D3:E0:3A:E7:5C:96:2C:97:A8:D4:48:29:3C\n"
        "            X509v3 Subject Alternative Name: critical\n"
        "                DNS:device-11\n");

    make_request(NO_SUBJECT, hex(ed25519_spki_hex), NULL, 0, &request);
    check_refused(profile, &request, ERR_BAD_TEMPLATE, "subject and subjectAltName are both empty");
    profile_free(profile);
}

static void test_idevid(void **state)
{
    (void)state;
    const struct profile_config config = {.name = "idevid", .base = PROFILE_IDEVID};
    struct profile *profile = compile(&config);
    struct cert_request request;

    make_request(subject_of("O=Example,serialNumber=SN-0001"), hex(p256_spki_hex), &san_module, 1,
                 &request);
    check_ok(profile, &request);
    assert_openssl_text(
        build(profile, &request),
        "Certificate:\n"
        "    Data:\n"
        "        Version: 3 (0x2)\n"
        "        Serial Number:\n"
        "            01:02:03:04:05:06:07:08:09:0a:0b:0c:0d:0e:0f:10\n"
        "        Signature Algorithm: ecdsa-with-SHA256\n"
        "        Issuer: CN=Example Device CA,O=Example\n"
        "        Validity\n"
        "            Not Before: Dec 31 23:59:00 2025 GMT\n"
        "            Not After : Dec 31 23:59:59 9999 GMT\n"
        "        Subject: serialNumber=SN-0001,O=Example\n"
        "        X509v3 extensions:\n"
        "            X509v3 Key Usage: critical\n"
        "                Digital Signature\n"
        "            X509v3 Basic Constraints: critical\n"
        "                CA:FALSE\n"
        "            X509v3 Authority Key Identifier:\n"
        "                49:49:D4:61:BC:B2:5B:69:7E:11:77:BD:82:16:FF:2C:97:96:40:AF\n"
        "            X509v3 Subject Key Identifier:\n"
        "                1A:95:69:57:9B:CE:32:9A:94:2D:07:69:C9:C0:B5:64:31:56:37:10\n"
        "            X509v3 Subject Alternative Name:\n"
        "                othername: 1.3.6.1.5.5.7.8.4::<unsupported>\n");

    make_request(subject_of("O=Example,serialNumber=SN-0001"), hex(p256_spki_hex), NULL, 0,
                 &request);
    check_ok(profile, &request);

    make_request(subject_of("CN=SN-0001"), hex(p256_spki_hex), &san_module, 1, &request);
    check_refused(profile, &request, ERR_BAD_TEMPLATE, "subject: an IDevID needs serialNumber");
    make_request(subject_of("serialNumber=SN-0001"), hex(p256_spki_hex), &san_dns, 1, &request);
    check_refused(profile, &request, ERR_EXTENSION_NOT_ALLOWED,
                  "subjectAltName 2.5.29.17: an IDevID has one hardwareModuleName and nothing "
                  "else");
    profile_free(profile);
}

static void test_what_is_built_reads_back(void **state)
{
    (void)state;
    const struct profile_config config = {.name = "tls", .base = PROFILE_TLS_DEVICE};
    struct profile *profile = compile(&config);
    struct cert_request request;
    struct x509_cert cert;
    uint8_t sha1[SHA1_LEN];

    make_request(subject_of("CN=device-11,O=Example"), hex(p256_spki_hex), &san_dns, 1, &request);
    assert_int_equal(x509_decode(build(profile, &request), &cert), ERR_OK);
    digest_once(HASH_SHA1, request.spki.key, sha1);
    assert_true(bytes_eq(cert.serial, BYTES_ARRAY(serial)));
    assert_true(bytes_eq(cert.issuer, issuer.subject));
    assert_true(bytes_eq(cert.subject, request.subject));
    assert_true(bytes_eq(cert.spki.der, request.spki.der));
    assert_true(bytes_eq(cert.san, request.san));
    assert_true(bytes_eq(cert.aki, issuer.ski));
    assert_true(bytes_eq(cert.ski, BYTES_ARRAY(sha1)));
    assert_int_equal(cert.sig_alg, SIG_ECDSA_SHA256);
    assert_int_equal(cert.key_usage, KU_DIGITAL_SIGNATURE);
    assert_int_equal(cert.ext_key_usage, EKU_CLIENT_AUTH);
    assert_false(cert.is_ca || cert.unknown_critical);
    assert_int_equal(cert.not_before_s, now_s - 60);
    assert_int_equal(cert.not_after_s, now_s + 398 * 86400);
    profile_free(profile);
}

/* --- refusals --- */

static void test_extensions_in_a_request(void **state)
{
    (void)state;
    const struct {
        struct asked asked;
        enum err err;
        const char *detail;
    } cases[] = {
        /* keyUsage: a subset is fine */
        {{"2.5.29.15", "03020780"}, ERR_OK, NULL},
        {{"2.5.29.15", "030205a0"},
         ERR_EXTENSION_NOT_ALLOWED,
         "keyUsage 2.5.29.15: asks for more than the profile grants this key type"},
        {{"2.5.29.15", "03020106"},
         ERR_EXTENSION_NOT_ALLOWED,
         "keyUsage 2.5.29.15: asks for more than the profile grants this key type"},
        {{"2.5.29.15", "03020680"}, ERR_BAD_TEMPLATE, "keyUsage 2.5.29.15: malformed"},
        {{"2.5.29.15", "030100"}, ERR_BAD_TEMPLATE, "keyUsage 2.5.29.15: malformed"},
        {{"2.5.29.15", "0302078000"}, ERR_BAD_TEMPLATE, "keyUsage 2.5.29.15: malformed"},
        /* extKeyUsage */
        {{"2.5.29.37", "300a06082b06010505070302"}, ERR_OK, NULL},
        {{"2.5.29.37", "301406082b0601050507030206082b06010505070301"},
         ERR_EXTENSION_NOT_ALLOWED,
         "extKeyUsage 2.5.29.37: the profile does not grant 1.3.6.1.5.5.7.3.1"},
        {{"2.5.29.37", "300606042a030405"},
         ERR_EXTENSION_NOT_ALLOWED,
         "extKeyUsage 2.5.29.37: the profile does not grant 1.2.3.4.5"},
        {{"2.5.29.37", "3000"}, ERR_BAD_TEMPLATE, "extKeyUsage 2.5.29.37: malformed"},
        {{"2.5.29.37", "300a06082b0601050507030205"},
         ERR_BAD_TEMPLATE,
         "extKeyUsage 2.5.29.37: malformed"},
        /* basicConstraints */
        {{"2.5.29.19", "3000"}, ERR_OK, NULL},
        {{"2.5.29.19", "30030101ff"},
         ERR_EXTENSION_NOT_ALLOWED,
         "basicConstraints 2.5.29.19: a device is no CA"},
        {{"2.5.29.19", "30060101ff020100"},
         ERR_EXTENSION_NOT_ALLOWED,
         "basicConstraints 2.5.29.19: a device is no CA"},
        {{"2.5.29.19", "3003010100"}, ERR_BAD_TEMPLATE, "basicConstraints 2.5.29.19: malformed"},
        {{"2.5.29.19", "3003020100"}, ERR_BAD_TEMPLATE, "basicConstraints 2.5.29.19: malformed"},
        /* subjectKeyIdentifier: ours or none */
        {{"2.5.29.14", "0414@SKI@"}, ERR_OK, NULL},
        {{"2.5.29.14", "04140000000000000000000000000000000000000000"},
         ERR_EXTENSION_NOT_ALLOWED,
         "subjectKeyIdentifier 2.5.29.14: is not the SHA-1 of this key"},
        {{"2.5.29.14", "0400"},
         ERR_EXTENSION_NOT_ALLOWED,
         "subjectKeyIdentifier 2.5.29.14: is not the SHA-1 of this key"},
        {{"2.5.29.14", "0500"}, ERR_BAD_TEMPLATE, "subjectKeyIdentifier 2.5.29.14: malformed"},
        /* everything else, by name or number */
        {{"2.5.29.35", "3000"},
         ERR_EXTENSION_NOT_ALLOWED,
         "authorityKeyIdentifier 2.5.29.35: not taken from the request"},
        {{"2.5.29.30", "3000"},
         ERR_EXTENSION_NOT_ALLOWED,
         "nameConstraints 2.5.29.30: not taken from the request"},
        {{"2.5.29.32", "3000"},
         ERR_EXTENSION_NOT_ALLOWED,
         "certificatePolicies 2.5.29.32: not taken from the request"},
        {{"1.3.6.1.4.1.311.20.2", "1e00"},
         ERR_EXTENSION_NOT_ALLOWED,
         "1.3.6.1.4.1.311.20.2: not taken from the request"},
        /* directoryName: the rules of the subject */
        {{"2.5.29.17", "3011a40f300d310b300906035504031e020041"},
         ERR_BAD_TEMPLATE,
         "directoryName in subjectAltName: 2.5.4.3 is neither UTF8String nor PrintableString"},
        {{"2.5.29.17", "3011a40f300d310b300906035504030c024142"}, ERR_OK, NULL},
        /* hardwareModuleName is looked into wherever it stands (RFC 4108 5) */
        {san_module, ERR_OK, NULL},
        {{"2.5.29.17", "301ba01906082b06010505070804a00d300b06092b06010401868d1f07"},
         ERR_BAD_TEMPLATE,
         "subjectAltName 2.5.29.17: hardwareModuleName is malformed"},
        {{"2.5.29.17", "301da01b06082b06010505070804a00f300d06092b06010401868d1f070400"},
         ERR_BAD_TEMPLATE,
         "subjectAltName 2.5.29.17: hardwareModuleName is malformed"},
    };
    const struct profile_config config = {.name = "tls", .base = PROFILE_TLS_DEVICE};
    struct profile *profile = compile(&config);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct asked asked = cases[i].asked;
        struct cert_request request;
        char value[256];
        if (strchr(asked.value_hex, '@') != NULL) {
            struct spki spki;
            uint8_t sha1[SHA1_LEN];
            char sha1_hex[2 * SHA1_LEN + 1];
            assert_int_equal(spki_decode(hex(p256_spki_hex), &spki), ERR_OK);
            digest_once(HASH_SHA1, spki.key, sha1);
            bytes_to_hex(BYTES_ARRAY(sha1), sha1_hex);
            snprintf(value, sizeof(value), "0414%s", sha1_hex);
            asked.value_hex = value;
        }
        make_request(subject_of("CN=device-11"), hex(p256_spki_hex), &asked, 1, &request);
        if (cases[i].err == ERR_OK)
            check_ok(profile, &request);
        else
            check_refused(profile, &request, cases[i].err, cases[i].detail);
    }
    profile_free(profile);
}

static void test_san_forbidden(void **state)
{
    (void)state;
    const struct profile_config config = {
        .name = "tls", .base = PROFILE_TLS_DEVICE, .san = TAKE_FORBIDDEN};
    struct profile *profile = compile(&config);
    struct cert_request request;
    uint8_t tbs[CERT_DER_MAX];
    size_t len;

    make_request(subject_of("CN=device-11"), hex(p256_spki_hex), &san_dns, 1, &request);
    check_refused(profile, &request, ERR_EXTENSION_NOT_ALLOWED,
                  "subjectAltName 2.5.29.17: not taken from the request");
    struct tbs_input input = {
        .request = &request, .serial = serial, .spki_sha1 = (const uint8_t[SHA1_LEN]){1}};
    assert_int_equal(profile_build_tbs(profile, &input, tbs, sizeof(tbs), &len),
                     ERR_EXTENSION_NOT_ALLOWED);
    profile_free(profile);
}

static void test_san_that_check_did_not_see(void **state)
{
    (void)state;
    const struct profile_config config = {.name = "tls", .base = PROFILE_TLS_DEVICE};
    struct profile *profile = compile(&config);
    struct cert_request request;

    make_request(subject_of("CN=device-11"), hex(p256_spki_hex), &san_dns, 1, &request);
    request.san = hex("3003820161");
    check_refused(profile, &request, ERR_BAD_TEMPLATE, "subjectAltName 2.5.29.17: malformed");
    request.extensions.count = 0;
    check_refused(profile, &request, ERR_BAD_TEMPLATE, "subjectAltName outside of the extensions");
    profile_free(profile);
}

static void test_long_san(void **state)
{
    (void)state;
    const struct profile_config config = {.name = "tls", .base = PROFILE_TLS_DEVICE};
    struct profile *profile = compile(&config);
    struct cert_request request;
    char value[2 * 900 + 1];

    /* URI of 760 octets in 768 of GeneralNames; then of 761 */
    for (int extra = 0; extra < 2; extra++) {
        snprintf(value, sizeof(value), "3082%04x8682%04x", 764 + extra, 760 + extra);
        size_t at = strlen(value);
        memset(value + at, '6', 2 * (size_t)(760 + extra));
        value[at + 2 * (size_t)(760 + extra)] = '\0';
        struct asked asked = {"2.5.29.17", value};
        make_request(subject_of("CN=device-11"), hex(p256_spki_hex), &asked, 1, &request);
        if (extra == 0)
            check_ok(profile, &request);
        else
            check_refused(profile, &request, ERR_BAD_TEMPLATE,
                          "subjectAltName 2.5.29.17: too long");
    }
    profile_free(profile);
}

static void test_keys(void **state)
{
    (void)state;
    const struct profile_config usual = {.name = "tls", .base = PROFILE_TLS_DEVICE};
    const struct profile_config narrow = {.name = "tls",
                                          .base = PROFILE_TLS_DEVICE,
                                          .key_algs = {KEY_RSA},
                                          .key_alg_count = 1,
                                          .rsa_bits_min = 3072};
    struct profile *profile = compile(&usual);
    struct cert_request request;
    uint8_t tbs[CERT_DER_MAX];
    size_t len;

    make_request(subject_of("CN=device-11"), rsa_spki(2048), NULL, 0, &request);
    check_ok(profile, &request);
    make_request(subject_of("CN=device-11"), hex(ed25519_spki_hex), NULL, 0, &request);
    check_ok(profile, &request);
    profile_free(profile);

    profile = compile(&narrow);
    check_refused(profile, &request, ERR_KEY_NOT_ALLOWED, "Ed25519");
    struct tbs_input input = {
        .request = &request, .serial = serial, .spki_sha1 = (const uint8_t[SHA1_LEN]){1}};
    assert_int_equal(profile_build_tbs(profile, &input, tbs, sizeof(tbs), &len),
                     ERR_KEY_NOT_ALLOWED);
    make_request(subject_of("CN=device-11"), rsa_spki(2048), NULL, 0, &request);
    check_refused(profile, &request, ERR_KEY_NOT_ALLOWED, "RSA 2048 bits, at least 3072");
    make_request(subject_of("CN=device-11"), rsa_spki(3072), NULL, 0, &request);
    check_ok(profile, &request);
    profile_free(profile);
}

static void test_subjects(void **state)
{
    (void)state;
    const struct {
        const char *subject_hex;
        const char *detail; /* NULL: accepted */
    } cases[] = {
        {"300d310b300906035504030c024142", NULL},
        {"300d310b3009060355040313024142", NULL},
        /* BMPString, T61String: not for new subjects (RFC 5280 4.1.2.6) */
        {"300d310b300906035504031e020041",
         "subject: 2.5.4.3 is neither UTF8String nor PrintableString"},
        {"300d310b3009060355040314024142",
         "subject: 2.5.4.3 is neither UTF8String nor PrintableString"},
        {"300e310c300a060355040613034445"
         "46",
         "subject: countryName has more than 2 characters"},
    };
    const struct profile_config config = {.name = "tls", .base = PROFILE_TLS_DEVICE};
    struct profile *profile = compile(&config);
    struct cert_request request;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        make_request(hex(cases[i].subject_hex), hex(p256_spki_hex), NULL, 0, &request);
        if (cases[i].detail == NULL)
            check_ok(profile, &request);
        else
            check_refused(profile, &request, ERR_BAD_TEMPLATE, cases[i].detail);
    }
    /* 64 characters, whatever octets they take */
    char text[256] = "";
    struct writer name = writer_of(text, sizeof(text) - 1);
    writer_put_str(&name, "CN=");
    for (int i = 0; i < 64; i++)
        writer_put_str(&name, "\xc3\xa4");
    make_request(subject_of(text), hex(p256_spki_hex), NULL, 0, &request);
    check_ok(profile, &request);
    writer_put_str(&name, "x");
    make_request(subject_of(text), hex(p256_spki_hex), NULL, 0, &request);
    check_refused(profile, &request, ERR_BAD_TEMPLATE,
                  "subject: commonName has more than 64 characters");
    profile_free(profile);
}

static void test_fixed_rdns_are_put_before_once(void **state)
{
    (void)state;
    const struct profile_config config = {
        .name = "tls", .base = PROFILE_TLS_DEVICE, .subject_suffix = "O=Example"};
    struct profile *profile = compile(&config);
    struct cert_request request;
    struct x509_cert cert;
    char text[256];

    make_request(subject_of("CN=device-11"), hex(p256_spki_hex), NULL, 0, &request);
    assert_int_equal(x509_decode(build(profile, &request), &cert), ERR_OK);
    name_to_text(cert.subject, text, sizeof(text));
    assert_string_equal(text, "O=Example,CN=device-11");

    /* a renewal asks for the subject it has */
    make_request(subject_of("O=Example,CN=device-11"), hex(p256_spki_hex), NULL, 0, &request);
    assert_int_equal(x509_decode(build(profile, &request), &cert), ERR_OK);
    name_to_text(cert.subject, text, sizeof(text));
    assert_string_equal(text, "O=Example,CN=device-11");
    profile_free(profile);
}

static void test_subject_with_fixed_rdns_is_bounded(void **state)
{
    (void)state;
    const struct profile_config config = {
        .name = "tls", .base = PROFILE_TLS_DEVICE, .subject_suffix = "O=Example"};
    struct profile *profile = compile(&config);
    struct cert_request request;
    char text[1200] = "";
    struct writer name = writer_of(text, sizeof(text) - 1);

    writer_put_str(&name, "CN=device-11");
    for (int i = 0; i < 14; i++)
        writer_put_str(&name, ",OU=0123456789012345678901234567890123456789012345678901234");
    writer_put_str(&name, ",OU=01234567890123456789012345678901234567890123456");
    make_request(subject_of(text), hex(p256_spki_hex), NULL, 0, &request);
    check_ok(profile, &request); /* 1,006 octets and the 18 of O=Example: NAME_DER_MAX */
    writer_put_str(&name, "7");
    make_request(subject_of(text), hex(p256_spki_hex), NULL, 0, &request);
    check_refused(profile, &request, ERR_BAD_TEMPLATE, "subject: too long");
    profile_free(profile);
}

/* --- validity, configuration --- */

static void test_validity(void **state)
{
    (void)state;
    const struct profile_config day = {
        .name = "day", .base = PROFILE_TLS_DEVICE, .validity_s = 86400};
    const struct profile_config forever = {
        .name = "forever", .base = PROFILE_TLS_DEVICE, .no_expiry = true};
    const struct profile_config dated_idevid = {
        .name = "dated", .base = PROFILE_IDEVID, .validity_s = 86400};
    const struct profile_config century = {.name = "century",
                                           .base = PROFILE_TLS_DEVICE,
                                           .validity_s = INT64_MAX,
                                           .backdate_s = 30 * 86400};
    int64_t not_before_s, not_after_s;

    struct profile *profile = compile(&day);
    profile_validity(profile, now_s, &not_before_s, &not_after_s);
    assert_int_equal(not_before_s, now_s - 60);
    assert_int_equal(not_after_s, now_s + 86400);
    profile_validity(profile, issuer.not_after_s - 100, &not_before_s, &not_after_s);
    assert_int_equal(not_after_s, issuer.not_after_s); /* never beyond the issuer's */
    profile_free(profile);

    profile = compile(&forever);
    profile_validity(profile, now_s, &not_before_s, &not_after_s);
    assert_int_equal(not_after_s, DER_TIME_NO_EXPIRY);
    profile_free(profile);

    profile = compile(&dated_idevid);
    profile_validity(profile, now_s, &not_before_s, &not_after_s);
    assert_int_equal(not_after_s, now_s + 86400);
    profile_free(profile);

    profile = compile(&century);
    profile_validity(profile, now_s, &not_before_s, &not_after_s);
    assert_int_equal(not_before_s, issuer.not_before_s); /* there was no CA before */
    assert_int_equal(not_after_s, issuer.not_after_s);
    profile_free(profile);
}

static void test_settings_have_the_defaults(void **state)
{
    (void)state;
    const struct profile_config config = {.name = "tls", .base = PROFILE_TLS_DEVICE};
    struct profile *profile = compile(&config);
    const struct profile_config *settings = profile_settings(profile);

    assert_int_equal(settings->validity_s, 398 * 86400);
    assert_int_equal(settings->backdate_s, 60);
    assert_int_equal(settings->rsa_bits_min, 2048);
    assert_int_equal(settings->key_alg_count, 4);
    assert_int_equal(settings->ext_key_usage, EKU_CLIENT_AUTH);
    profile_free(profile);
}

static void test_configurations_that_cannot_be(void **state)
{
    (void)state;
    const struct {
        struct profile_config config;
        const char *detail;
    } cases[] = {
        {{.base = PROFILE_CA}, "CA certificates are not enrolled"},
        {{.base = (enum profile_base)9}, "unknown base profile"},
        {{.validity_s = -1}, "validity and backdate must not be negative"},
        {{.backdate_s = -1}, "validity and backdate must not be negative"},
        {{.key_usage = KU_KEY_CERT_SIGN}, "keyCertSign and cRLSign are for CA certificates"},
        {{.key_usage = 1u << 20}, "unknown key_usage"},
        {{.ext_key_usage = EKU_OTHER}, "unknown ext_key_usage"},
        {{.san = TAKE_FIXED}, "a fixed san would be the same for every device"},
        {{.base = PROFILE_IDEVID, .server_auth = true}, "server_auth is for tls-device alone"},
        {{.key_algs = {KEY_NONE}, .key_alg_count = 1}, "unknown key type"},
        {{.key_alg_count = KEY_ALG_COUNT + 1}, "more key types than there are"},
        {{.key_usage = KU_KEY_ENCIPHERMENT},
         "EC P-256 keys can do nothing of what key_usage grants"},
        {{.subject_suffix = "nonsense"},
         "subject \"nonsense\" is not a name like O=Example,OU=Line 3"},
        {{.crl_url = ""}, "crl_url is not an http:// or https:// URL"},
        {{.crl_url = "ftp://pki.example/a.crl"}, "crl_url is not an http:// or https:// URL"},
    };
    struct profile *profile = NULL;
    char detail[256];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        detail[0] = '\0';
        assert_int_equal(profile_compile(&cases[i].config, &issuer, &profile, detail), ERR_CONFIG);
        assert_string_equal(detail, cases[i].detail);
        assert_null(profile);
    }
    struct profile_config plain = {.name = "tls"};
    issuer.is_ca = false;
    assert_int_equal(profile_compile(&plain, &issuer, &profile, detail), ERR_CONFIG);
    assert_string_equal(detail, "the issuer's certificate is not a CA certificate");
    make_issuer(now_s + 86400);
    issuer.subject = NO_SUBJECT;
    assert_int_equal(profile_compile(&plain, &issuer, &profile, detail), ERR_CONFIG);
    assert_string_equal(detail, "the issuer's subject is empty");
}

static void test_crl_urls(void **state)
{
    (void)state;
    const char *const bad[] = {"",
                               "http://",
                               "https://",
                               "http:///crl",
                               "HTTP://a",
                               "ldap://host/x",
                               "/crl/a.crl",
                               "http://a/b c",
                               "http://a/\"",
                               "http://a/\xc3\xa4",
                               "http://a/\n",
                               "http://a/{x}"};
    char url[CRL_URL_MAX + 2];

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(profile_crl_url_is_good(bad[i]));
    assert_true(profile_crl_url_is_good("http://[::1]:8080/crl/a%20b.crl?x=1&y=~"));
    assert_true(profile_crl_url_is_good("https://pki.example/a"));
    snprintf(url, sizeof(url), "http://pki.example/");
    memset(url + strlen(url), 'x', sizeof(url) - strlen(url));
    url[CRL_URL_MAX + 1] = '\0';
    assert_false(profile_crl_url_is_good(url));
    url[CRL_URL_MAX] = '\0';
    assert_true(profile_crl_url_is_good(url));

    /* the longest one stands beside every other fixed extension */
    const struct profile_config config = {.name = "tls",
                                          .ext_key_usage = EKU_SERVER_AUTH | EKU_CLIENT_AUTH |
                                                           EKU_CMC_RA | EKU_CMC_CA | EKU_CM_KGA |
                                                           EKU_ANY,
                                          .crl_url = url};
    uint8_t key_id[64] = {1};
    issuer.ski = BYTES_ARRAY(key_id);
    profile_free(compile(&config));
}

int main(void)
{
#define WITH_ISSUER(test) cmocka_unit_test_setup(test, setup)
    const struct CMUnitTest tests[] = {
        WITH_ISSUER(test_tls_device),
        WITH_ISSUER(test_tls_device_rsa_server),
        WITH_ISSUER(test_tls_device_without_subject),
        WITH_ISSUER(test_idevid),
        WITH_ISSUER(test_what_is_built_reads_back),
        WITH_ISSUER(test_extensions_in_a_request),
        WITH_ISSUER(test_san_forbidden),
        WITH_ISSUER(test_san_that_check_did_not_see),
        WITH_ISSUER(test_long_san),
        WITH_ISSUER(test_keys),
        WITH_ISSUER(test_subjects),
        WITH_ISSUER(test_fixed_rdns_are_put_before_once),
        WITH_ISSUER(test_subject_with_fixed_rdns_is_bounded),
        WITH_ISSUER(test_validity),
        WITH_ISSUER(test_settings_have_the_defaults),
        WITH_ISSUER(test_configurations_that_cannot_be),
        WITH_ISSUER(test_crl_urls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
