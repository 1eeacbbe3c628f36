/* Does OpenSSL read the same request out of every octet string that csr_decode accepts?
 *
 * Oracles: d2i_X509_REQ takes all of it; subject, SubjectPublicKeyInfo, alternative names,
 * extensions, challengePassword and signature are the same octets.
 */
#include "asn1/csr.h"
#include "asn1/der.h"
#include "tests/fuzz/der_mutator.h"

/* behind ours: x509v3.h has macros of the same names as our enum key_usage */
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

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

static void check_subject_and_key(const struct cert_request *request, X509_REQ *req)
{
    unsigned char *out = NULL;
    int len = i2d_X509_NAME(X509_REQ_get_subject_name(req), &out);
    CHECK(len >= 0 && bytes_eq(bytes_of(out, (size_t)len), request->subject));
    OPENSSL_free(out);
    out = NULL;
    len = i2d_X509_PUBKEY(X509_REQ_get_X509_PUBKEY(req), &out);
    CHECK(len > 0 && bytes_eq(bytes_of(out, (size_t)len), request->spki.der));
    OPENSSL_free(out);
}

/* X509_REQ_get_extensions would also take Microsoft's attribute, so the attribute is read here. */
static void check_extensions(const struct cert_request *request, X509_REQ *req)
{
    int at = X509_REQ_get_attr_by_NID(req, NID_ext_req, -1);
    if (at < 0) {
        CHECK(request->extensions.count == 0 && request->san.len == 0);
        return;
    }
    X509_ATTRIBUTE *attribute = X509_REQ_get_attr(req, at);
    CHECK(X509_REQ_get_attr_by_NID(req, NID_ext_req, at) < 0);
    CHECK(X509_ATTRIBUTE_count(attribute) == 1);
    ASN1_TYPE *value = X509_ATTRIBUTE_get0_type(attribute, 0);
    CHECK(ASN1_TYPE_get(value) == V_ASN1_SEQUENCE);
    struct bytes der = of_string(value->value.sequence);
    const unsigned char *p = der.ptr;
    X509_EXTENSIONS *extensions = d2i_X509_EXTENSIONS(NULL, &p, (long)der.len);
    CHECK(extensions != NULL && p == der.ptr + der.len);
    CHECK((uint32_t)sk_X509_EXTENSION_num(extensions) == request->extensions.count);
    bool has_san = false;
    for (uint32_t i = 0; i < request->extensions.count; i++) {
        X509_EXTENSION *theirs = sk_X509_EXTENSION_value(extensions, (int)i);
        const struct extension *ours = &request->extensions.item[i];
        struct bytes oid = bytes_of(OBJ_get0_data(X509_EXTENSION_get_object(theirs)),
                                    OBJ_length(X509_EXTENSION_get_object(theirs)));
        CHECK(bytes_eq(oid, ours->oid));
        CHECK(X509_EXTENSION_get_critical(theirs) == (int)ours->critical);
        CHECK(bytes_eq(of_string(X509_EXTENSION_get_data(theirs)), ours->value));
        if (OBJ_obj2nid(X509_EXTENSION_get_object(theirs)) == NID_subject_alt_name) {
            has_san = true;
            CHECK(bytes_eq(ours->value, request->san));
            GENERAL_NAMES *names = X509V3_EXT_d2i(theirs);
            CHECK(names != NULL);
            GENERAL_NAMES_free(names);
        }
    }
    CHECK(has_san == (request->san.len != 0));
    sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
}

static void check_challenge(const struct cert_request *request, X509_REQ *req)
{
    int at = X509_REQ_get_attr_by_NID(req, NID_pkcs9_challengePassword, -1);
    CHECK((at >= 0) == request->has_challenge_password);
    if (at < 0)
        return;
    X509_ATTRIBUTE *attribute = X509_REQ_get_attr(req, at);
    CHECK(X509_ATTRIBUTE_count(attribute) == 1);
    ASN1_TYPE *value = X509_ATTRIBUTE_get0_type(attribute, 0);
    CHECK(bytes_eq(of_string(value->value.asn1_string), request->challenge_password));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct cert_request request;
    const unsigned char *p = data;
    const ASN1_BIT_STRING *signature;

    if (size > 16384 || csr_decode(bytes_of(data, size), &request) != ERR_OK)
        return 0;
    X509_REQ *req = d2i_X509_REQ(NULL, &p, (long)size);
    CHECK(req != NULL && p == data + size);
    CHECK(X509_REQ_get_version(req) == 0);
    CHECK(der_is_strict(request.subject) && der_is_strict(request.spki.der));
    check_subject_and_key(&request, req);
    check_extensions(&request, req);
    check_challenge(&request, req);
    X509_REQ_get0_signature(req, &signature, NULL);
    CHECK(bytes_eq(of_string(signature), request.pop_signature));
    CHECK(request.pop == POP_SIGNATURE && request.pop_alg != SIG_NONE);
    X509_REQ_free(req);
    return 0;
}
