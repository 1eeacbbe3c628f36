/* Does OpenSSL read the same revocation list out of every octet string that crl_decode accepts?
 *
 * Oracles: d2i_X509_CRL takes all of it; issuer, times, number, key identifier, signature, and
 * every entry's serial, time and reason agree, in the same order.
 */
#include "asn1/crl.h"
#include "asn1/der.h"
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

static int64_t unix_time(const ASN1_TIME *time)
{
    struct tm tm;
    CHECK(ASN1_TIME_to_tm(time, &tm) == 1);
    return timegm(&tm);
}

static bool integer_is(const ASN1_INTEGER *theirs, struct bytes ours)
{
    unsigned char *out = NULL;
    int len = i2d_ASN1_INTEGER(theirs, &out);
    struct bytes der = bytes_of(out, (size_t)len), contents;
    bool same = len > 0 && der_get(&der, DER_INTEGER, &contents) && bytes_eq(contents, ours);
    OPENSSL_free(out);
    return same;
}

static void check_entry(const struct crl_entry *ours, X509_REVOKED *theirs)
{
    int critical;
    CHECK(integer_is(X509_REVOKED_get0_serialNumber(theirs), ours->serial));
    CHECK(unix_time(X509_REVOKED_get0_revocationDate(theirs)) == ours->revoked_s);
    CHECK((X509_REVOKED_get_ext_count(theirs) > 0) == ours->has_extensions);
    ASN1_ENUMERATED *reason = X509_REVOKED_get_ext_d2i(theirs, NID_crl_reason, &critical, NULL);
    CHECK(reason != NULL || critical == -1);
    CHECK((reason != NULL) == ours->has_reason);
    CHECK(reason == NULL || ASN1_ENUMERATED_get(reason) == ours->reason);
    ASN1_ENUMERATED_free(reason);
}

static void check_entries(const struct crl_view *crl, X509_CRL *theirs)
{
    STACK_OF(X509_REVOKED) *all = X509_CRL_get_REVOKED(theirs);
    struct bytes left = crl->entries;
    struct crl_entry entry;
    CHECK((uint64_t)(all == NULL ? 0 : sk_X509_REVOKED_num(all)) == crl->entry_count);
    for (uint64_t i = 0; i < crl->entry_count; i++) {
        CHECK(crl_entry_next(&left, &entry));
        check_entry(&entry, sk_X509_REVOKED_value(all, (int)i));
    }
    CHECK(left.len == 0 && !crl_entry_next(&left, &entry));
}

static void check_extensions(const struct crl_view *crl, X509_CRL *theirs)
{
    int critical;
    ASN1_INTEGER *number = X509_CRL_get_ext_d2i(theirs, NID_crl_number, &critical, NULL);
    CHECK(number != NULL || critical == -1);
    CHECK(number == NULL ? crl->number.len == 0 : integer_is(number, crl->number));
    ASN1_INTEGER_free(number);
    AUTHORITY_KEYID *aki =
        X509_CRL_get_ext_d2i(theirs, NID_authority_key_identifier, &critical, NULL);
    CHECK(aki != NULL || critical == -1);
    CHECK(aki == NULL || aki->keyid == NULL ? crl->aki.len == 0
                                            : bytes_eq(of_string(aki->keyid), crl->aki));
    AUTHORITY_KEYID_free(aki);
    CHECK((uint32_t)X509_CRL_get_ext_count(theirs) == crl->extensions.count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct crl_view crl;
    const unsigned char *p = data;

    if (crl_decode(bytes_of(data, size), &crl) != ERR_OK)
        return 0;
    X509_CRL *theirs = d2i_X509_CRL(NULL, &p, (long)size);
    CHECK(theirs != NULL && p == data + size);
    unsigned char *name = NULL;
    int len = i2d_X509_NAME(X509_CRL_get_issuer(theirs), &name);
    CHECK(len > 0 && bytes_eq(bytes_of(name, (size_t)len), crl.issuer));
    OPENSSL_free(name);
    CHECK(unix_time(X509_CRL_get0_lastUpdate(theirs)) == crl.this_update_s);
    const ASN1_TIME *next = X509_CRL_get0_nextUpdate(theirs);
    CHECK((next != NULL) == crl.has_next_update);
    CHECK(next == NULL || unix_time(next) == crl.next_update_s);
    const ASN1_BIT_STRING *signature;
    X509_CRL_get0_signature(theirs, &signature, NULL);
    CHECK(bytes_eq(of_string(signature), crl.signature));
    check_entries(&crl, theirs);
    check_extensions(&crl, theirs);
    X509_CRL_free(theirs);
    return 0;
}
