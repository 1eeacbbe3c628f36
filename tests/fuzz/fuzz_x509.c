/* Does OpenSSL read the same certificate out of every octet string that x509_decode accepts?
 *
 * Oracles: d2i_X509 takes all of it and encodes the same TBSCertificate again; serial, names,
 * validity, SubjectPublicKeyInfo, key usages, basic constraints, key identifiers and alternative
 * names agree.
 */
#include "asn1/der.h"
#include "asn1/x509.h"
#include "tests/fuzz/der_mutator.h"

/* behind ours: x509v3.h has macros of the same names as our enum key_usage */
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <time.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct bytes of_string(const ASN1_STRING *string)
{
    return bytes_of(ASN1_STRING_get0_data(string), (size_t)ASN1_STRING_length(string));
}

static void check_fields(const struct x509_cert *cert, X509 *x509)
{
    unsigned char *out = NULL;
    int len = i2d_X509_NAME(X509_get_subject_name(x509), &out);
    CHECK(len >= 0 && bytes_eq(bytes_of(out, (size_t)len), cert->subject));
    OPENSSL_free(out);
    out = NULL;
    len = i2d_X509_NAME(X509_get_issuer_name(x509), &out);
    CHECK(len >= 0 && bytes_eq(bytes_of(out, (size_t)len), cert->issuer));
    OPENSSL_free(out);
    out = NULL;
    len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x509), &out);
    CHECK(len > 0 && bytes_eq(bytes_of(out, (size_t)len), cert->spki.der));
    OPENSSL_free(out);
    out = NULL;
    len = i2d_ASN1_INTEGER(X509_get_serialNumber(x509), &out);
    struct bytes serial = bytes_of(out, (size_t)len), contents;
    CHECK(len > 0 && der_get(&serial, DER_INTEGER, &contents) && bytes_eq(contents, cert->serial));
    OPENSSL_free(out);
    out = NULL;
    len = i2d_re_X509_tbs(x509, &out);
    CHECK(len > 0 && bytes_eq(bytes_of(out, (size_t)len), cert->tbs));
    OPENSSL_free(out);

    const ASN1_BIT_STRING *signature;
    X509_get0_signature(&signature, NULL, x509);
    CHECK(bytes_eq(of_string(signature), cert->signature));
}

static int64_t unix_time(const ASN1_TIME *time)
{
    struct tm tm;
    CHECK(ASN1_TIME_to_tm(time, &tm) == 1);
    return timegm(&tm);
}

/* The decoded extension, or NULL; it must decode when it is there. */
static void *ext_of(X509 *x509, int nid)
{
    int critical;
    void *decoded = X509_get_ext_d2i(x509, nid, &critical, NULL);
    CHECK(decoded != NULL || critical == -1);
    return decoded;
}

static void check_usages(const struct x509_cert *cert, X509 *x509)
{
    ASN1_BIT_STRING *usage = ext_of(x509, NID_key_usage);
    CHECK((usage != NULL) == cert->has_key_usage);
    for (int bit = 0; bit < 32; bit++)
        CHECK((usage != NULL && ASN1_BIT_STRING_get_bit(usage, bit)) ==
              (cert->key_usage >> bit & 1));
    ASN1_BIT_STRING_free(usage);

    EXTENDED_KEY_USAGE *ext_usage = ext_of(x509, NID_ext_key_usage);
    CHECK((ext_usage != NULL) == cert->has_ext_key_usage);
    uint32_t expected = 0;
    for (int i = 0; ext_usage != NULL && i < sk_ASN1_OBJECT_num(ext_usage); i++) {
        switch (OBJ_obj2nid(sk_ASN1_OBJECT_value(ext_usage, i))) {
        case NID_server_auth:
            expected |= EKU_SERVER_AUTH;
            break;
        case NID_client_auth:
            expected |= EKU_CLIENT_AUTH;
            break;
        case NID_cmcCA:
            expected |= EKU_CMC_CA;
            break;
        case NID_cmcRA:
            expected |= EKU_CMC_RA;
            break;
        case NID_anyExtendedKeyUsage:
            expected |= EKU_ANY;
            break;
        case NID_cmKGA:
            expected |= EKU_CM_KGA;
            break;
        default:
            expected |= EKU_OTHER;
        }
    }
    CHECK(expected == cert->ext_key_usage);
    EXTENDED_KEY_USAGE_free(ext_usage);
}

static void check_extensions(const struct x509_cert *cert, X509 *x509)
{
    BASIC_CONSTRAINTS *constraints = ext_of(x509, NID_basic_constraints);
    CHECK((constraints != NULL && constraints->ca != 0) == cert->is_ca);
    if (constraints == NULL || constraints->pathlen == NULL)
        CHECK(cert->path_len == UINT32_MAX);
    else if (ASN1_STRING_length(constraints->pathlen) <= 4)
        CHECK((uint32_t)ASN1_INTEGER_get(constraints->pathlen) == cert->path_len);
    BASIC_CONSTRAINTS_free(constraints);

    ASN1_OCTET_STRING *ski = ext_of(x509, NID_subject_key_identifier);
    CHECK(ski == NULL ? cert->ski.len == 0 : bytes_eq(of_string(ski), cert->ski));
    ASN1_OCTET_STRING_free(ski);
    AUTHORITY_KEYID *aki = ext_of(x509, NID_authority_key_identifier);
    CHECK(aki == NULL || aki->keyid == NULL ? cert->aki.len == 0
                                            : bytes_eq(of_string(aki->keyid), cert->aki));
    AUTHORITY_KEYID_free(aki);
    GENERAL_NAMES *san = ext_of(x509, NID_subject_alt_name);
    CHECK((san != NULL) == (cert->san.len != 0));
    GENERAL_NAMES_free(san);

    CHECK((uint32_t)X509_get_ext_count(x509) == cert->extensions.count);
    for (uint32_t i = 0; i < cert->extensions.count; i++) {
        X509_EXTENSION *theirs = X509_get_ext(x509, (int)i);
        const struct extension *ours = &cert->extensions.item[i];
        CHECK(X509_EXTENSION_get_critical(theirs) == (int)ours->critical);
        CHECK(bytes_eq(of_string(X509_EXTENSION_get_data(theirs)), ours->value));
        if (OBJ_obj2nid(X509_EXTENSION_get_object(theirs)) == NID_subject_alt_name)
            CHECK(bytes_eq(cert->san, ours->value));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct x509_cert cert;
    const unsigned char *p = data;

    if (x509_decode(bytes_of(data, size), &cert) != ERR_OK)
        return 0;
    CHECK(size <= CERT_DER_MAX);
    CHECK(der_is_strict(cert.der) || cert.sig_alg == SIG_NONE); /* parameters may lie deeper */
    X509 *x509 = d2i_X509(NULL, &p, (long)size);
    CHECK(x509 != NULL && p == data + size);
    CHECK(unix_time(X509_get0_notBefore(x509)) == cert.not_before_s);
    CHECK(unix_time(X509_get0_notAfter(x509)) == cert.not_after_s);
    check_usages(&cert, x509);
    check_extensions(&cert, x509);
    check_fields(&cert, x509);
    X509_free(x509);
    return 0;
}
