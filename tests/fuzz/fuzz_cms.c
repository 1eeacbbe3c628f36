/* Do certs-only messages survive decoding and building, and does OpenSSL read what we build?
 *
 * Oracles: decode, build, decode gives the same certificates in SET OF order; building that again
 * gives the same octets; OpenSSL finds the same number of certificates where it can read each of
 * them.
 */
#include <openssl/pkcs7.h>
#include <openssl/x509.h>
#include <stdlib.h>

#include "asn1/cms.h"
#include "asn1/der.h"
#include "asn1/x509.h"
#include "tests/fuzz/der_mutator.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

enum { CERTS_MAX = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int compare(const void *a, const void *b)
{
    return bytes_cmp(*(const struct bytes *)a, *(const struct bytes *)b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t built[1 << 16], again[1 << 16];
    static struct x509_cert cert;
    struct bytes certs[CERTS_MAX], sorted[CERTS_MAX];
    size_t count = 0, sorted_count = 0, len = 0, again_len = 0;
    bool all_certs = true;

    if (size > 16384 ||
        cms_certs_only_decode(bytes_of(data, size), certs, CERTS_MAX, &count) != ERR_OK)
        return 0;
    CHECK(count <= CERTS_MAX);
    if (count > 0)
        CHECK(cms_certs_only_decode(bytes_of(data, size), sorted, count - 1, &sorted_count) ==
              ERR_NO_SPACE);
    CHECK(cms_certs_only_build(certs, count, built, cms_certs_only_bound(certs, count), &len) ==
          ERR_OK);
    CHECK(cms_certs_only_decode(bytes_of(built, len), sorted, CERTS_MAX, &sorted_count) == ERR_OK);
    CHECK(sorted_count == count);
    qsort(certs, count, sizeof(certs[0]), compare);
    for (size_t i = 0; i < count; i++) {
        CHECK(bytes_eq(certs[i], sorted[i]));
        all_certs = all_certs && x509_decode(certs[i], &cert) == ERR_OK;
    }
    CHECK(cms_certs_only_build(sorted, count, again, sizeof(again), &again_len) == ERR_OK);
    CHECK(bytes_eq(bytes_of(built, len), bytes_of(again, again_len)));
    if (!all_certs)
        return 0;
    CHECK(der_is_strict(bytes_of(built, len)));
    const unsigned char *p = built;
    PKCS7 *pkcs7 = d2i_PKCS7(NULL, &p, (long)len);
    CHECK(pkcs7 != NULL && p == built + len && PKCS7_type_is_signed(pkcs7));
    int theirs = sk_X509_num(pkcs7->d.sign->cert);
    CHECK((size_t)(theirs < 0 ? 0 : theirs) == count);
    PKCS7_free(pkcs7);
    return 0;
}
