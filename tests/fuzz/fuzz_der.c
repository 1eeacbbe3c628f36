/* Is what der_is_strict accepts the only encoding of its value, and do OpenSSL and the rest of asn1
 * agree about names inside it?
 *
 * Oracles: a strict encoding walked through der_builder, typed where there is a typed put, gives
 * the same octets; every reader that accepts an element accepts what its builder writes; names and
 * alternative names that certmill accepts, OpenSSL accepts whole.
 */
#include "asn1/der.h"
#include "asn1/oid.h"
#include "asn1/x509.h"
#include "tests/fuzz/der_mutator.h"

/* behind ours: x509v3.h has macros of the same names as our enum key_usage */
#include <openssl/asn1.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t rebuilt[1 << 16];

/* One primitive by the most typed put there is. */
static void put_primitive(struct der_builder *builder, uint8_t tag, struct bytes contents,
                          struct bytes element)
{
    struct bytes reader = element, view;
    uint64_t u64;
    uint32_t named;
    int64_t unix_s;
    bool flag;

    if (der_get_bool(&reader, &flag)) {
        der_put_bool(builder, flag);
    } else if (der_get_u64(&reader, &u64)) {
        der_put_u64(builder, DER_INTEGER, u64);
    } else if (der_get_integer(&reader, &view)) {
        if ((view.ptr[0] & 0x80) == 0)
            der_put_unsigned(builder, view);
        else
            der_put(builder, tag, view);
    } else if (der_get_named_bits(&reader, &named)) {
        der_put_named_bits(builder, named);
    } else if (der_get_bits(&reader, &view)) {
        der_put_bits(builder, view);
    } else if (der_get_generalized_time(&reader, false, &unix_s)) {
        der_put_generalized_time(builder, unix_s);
    } else if (der_get_time(&reader, &unix_s)) {
        der_put_time(builder, unix_s);
    } else if (der_get_oid(&reader, &view)) {
        char text[4096];
        uint8_t octets[1024];
        size_t len;
        oid_to_text(view, text, sizeof(text));
        CHECK(text[0] != '?');
        if (text[0] == '#' || strlen(text) + 1 == sizeof(text)) {
            der_put(builder, tag, view);
        } else {
            CHECK(oid_from_text(text, octets, sizeof(octets), &len));
            der_put(builder, tag, bytes_of(octets, len));
        }
    } else if (tag == DER_NULL) {
        der_put_null(builder);
    } else {
        der_put(builder, tag, contents);
        return;
    }
}

static void rebuild(struct der_builder *builder, struct bytes reader)
{
    while (reader.len > 0) {
        struct bytes contents, element;
        uint8_t tag;
        CHECK(der_get_any(&reader, &tag, &contents, &element));
        if ((tag & 0x20) != 0) {
            der_open(builder, tag);
            rebuild(builder, contents);
            der_close(builder);
        } else {
            put_primitive(builder, tag, contents, element);
        }
    }
}

static bool count_one(void *ctx, struct bytes oid, uint8_t tag, struct bytes value)
{
    (void)tag;
    CHECK(oid_is_valid(oid) && value.len > 0);
    ++*(size_t *)ctx;
    return true;
}

static void check_name(struct bytes der)
{
    const unsigned char *p = der.ptr;
    char text[4 * NAME_DER_MAX], cut[64];
    uint8_t again[NAME_DER_MAX];
    size_t count = 0, again_len;

    name_to_text(der, text, sizeof(text));
    CHECK(strlen(text) + 1 < sizeof(text)); /* whole: there is room for every octet escaped */
    name_to_text(der, cut, sizeof(cut));
    CHECK(strlen(cut) < sizeof(cut) && strncmp(cut, text, strlen(cut)) == 0);
    CHECK(name_each(der, count_one, &count) == name_is_valid(der));
    if (!name_is_valid(der))
        return;
    CHECK(der_is_strict(der));
    for (const char *c = text; *c != '\0'; c++)
        CHECK((uint8_t)*c >= 0x20 && *c != 0x7f);
    X509_NAME *name = d2i_X509_NAME(NULL, &p, (long)der.len);
    CHECK(name != NULL && p == der.ptr + der.len);
    CHECK((size_t)X509_NAME_entry_count(name) == count);
    X509_NAME_free(name);
    /* text that name_from_text takes gives the same text again */
    if (name_from_text(text, again, sizeof(again), &again_len)) {
        char text_again[4 * NAME_DER_MAX];
        CHECK(name_is_valid(bytes_of(again, again_len)));
        name_to_text(bytes_of(again, again_len), text_again, sizeof(text_again));
        CHECK(strcmp(text, text_again) == 0);
    }
}

static void check_general_names(struct bytes der)
{
    struct bytes value;
    const unsigned char *p = der.ptr;

    for (int kind = GN_OTHER; kind <= GN_IP; kind++)
        if (general_names_find(der, (enum general_name)kind, &value))
            CHECK(value.ptr >= der.ptr && value.ptr + value.len <= der.ptr + der.len);
    if (!general_names_are_valid(der))
        return;
    CHECK(der_is_strict(der));
    GENERAL_NAMES *names = d2i_GENERAL_NAMES(NULL, &p, (long)der.len);
    CHECK(names != NULL && p == der.ptr + der.len && sk_GENERAL_NAME_num(names) > 0);
    sk_GENERAL_NAME_pop_free(names, GENERAL_NAME_free);
}

static void check_spki(struct bytes der)
{
    struct spki spki;
    const unsigned char *p = der.ptr;

    if (spki_decode(der, &spki) != ERR_OK)
        return;
    CHECK(der_is_strict(der));
    X509_PUBKEY *key = d2i_X509_PUBKEY(NULL, &p, (long)der.len);
    CHECK(key != NULL && p == der.ptr + der.len);
    unsigned char *out = NULL;
    int len = i2d_X509_PUBKEY(key, &out);
    CHECK(len > 0 && bytes_eq(bytes_of(out, (size_t)len), der));
    OPENSSL_free(out);
    X509_PUBKEY_free(key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes input = bytes_of(data, size), all, reader = input;
    uint8_t ignored[64];
    struct der_builder builder = der_builder_of(rebuilt, sizeof(rebuilt));
    struct der_builder scratch = der_builder_of(ignored, sizeof(ignored));

    if (size > 4096)
        return 0;
    if (size > 0) /* every typed reader on octets that nobody checked */
        put_primitive(&scratch, data[0], input, reader);
    check_name(input);
    check_general_names(input);
    check_spki(input);
    if (!der_is_strict(input))
        return 0;
    rebuild(&builder, input);
    CHECK(der_finish(&builder, &all));
    CHECK(bytes_eq(all, input));
    const unsigned char *p = data;
    ASN1_TYPE *type = d2i_ASN1_TYPE(NULL, &p, (long)size);
    CHECK(type != NULL && p == data + size);
    ASN1_TYPE_free(type);
    return 0;
}
