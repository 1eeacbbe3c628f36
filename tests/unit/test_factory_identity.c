/* Does each identity rule find the device id where it looks, and only a valid one? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "asn1/der.h"
#include "asn1/oid.h"
#include "asn1/x509.h"
#include "factory/device.h"
#include "factory/identity.h"
#include "factory/refusal.h"

static struct bytes subject_of(const char *text)
{
    static uint8_t buf[512];
    size_t len;
    assert_true(name_from_text(text, buf, sizeof(buf), &len));
    return bytes_of(buf, len);
}

static enum err find(enum identity_source source, const char *subject, struct bytes san,
                     struct identity *out)
{
    return identity_find(source, subject_of(subject), san, out);
}

static void assert_id(const struct identity *identity, const char *expected)
{
    assert_true(bytes_eq(bytes_of(identity->id, identity->len), bytes_of_str(expected)));
}

static void names_of_sources(void **state)
{
    (void)state;
    static const char *const names[] = {"subject-cn", "subject-serial-number", "san-dns", "san-uri",
                                        "san-hardware-module"};
    for (int i = 0; i < IDENTITY_SOURCE_COUNT; i++) {
        enum identity_source source = IDENTITY_SOURCE_COUNT;
        assert_true(identity_source_from_name(names[i], &source));
        assert_int_equal(source, i);
        assert_string_equal(identity_source_name(source), names[i]);
    }
    enum identity_source untouched = IDENTITY_SAN_URI;
    assert_false(identity_source_from_name("subject", &untouched));
    assert_false(identity_source_from_name("", &untouched));
    assert_int_equal(untouched, IDENTITY_SAN_URI);
    assert_string_equal(identity_source_name(IDENTITY_SOURCE_COUNT), "unknown");
}

static void subject_attributes(void **state)
{
    (void)state;
    struct identity id;
    struct bytes none = {0};
    assert_int_equal(find(IDENTITY_SUBJECT_CN, "CN=dev-1,serialNumber=SN:7", none, &id), ERR_OK);
    assert_id(&id, "dev-1");
    assert_int_equal(find(IDENTITY_SUBJECT_SERIAL_NUMBER, "CN=dev-1,serialNumber=SN:7", none, &id),
                     ERR_OK);
    assert_id(&id, "SN:7");
    assert_int_equal(find(IDENTITY_SUBJECT_CN, "serialNumber=7", none, &id), ERR_NO_DEVICE_ID);
    assert_int_equal(find(IDENTITY_SUBJECT_CN, "CN=two words", none, &id), ERR_BAD_DEVICE_ID);
    static const uint8_t empty_name[] = {0x30, 0x00};
    assert_int_equal(identity_find(IDENTITY_SUBJECT_CN, BYTES_ARRAY(empty_name), none, &id),
                     ERR_NO_DEVICE_ID);
    assert_int_equal(identity_find(IDENTITY_SUBJECT_CN, none, none, &id), ERR_NO_DEVICE_ID);
    assert_id(&id, "SN:7"); /* untouched on failure */
}

/* GeneralNames of one otherName each of the given type, around the given hwSerialNum, then DNS,
 * URI. */
static struct bytes san_of(struct bytes type, struct bytes serial, const char *dns, const char *uri)
{
    static uint8_t buf[512];
    static const uint8_t hw_type[] = {0x2b, 0x06, 0x01, 0x04, 0x01};
    struct der_builder b = der_builder_of(buf, sizeof(buf));
    der_open(&b, DER_SEQUENCE);
    if (type.len != 0) {
        /* another otherName first: it must be passed over */
        der_open(&b, DER_CONTEXT_CONSTRUCTED(GN_OTHER));
        der_put(&b, DER_OID, BYTES_ARRAY(hw_type));
        der_open(&b, DER_CONTEXT_CONSTRUCTED(0));
        der_put(&b, DER_UTF8_STRING, BYTES_LIT("upn"));
        der_close(&b);
        der_close(&b);
        der_open(&b, DER_CONTEXT_CONSTRUCTED(GN_OTHER));
        der_put(&b, DER_OID, type);
        der_open(&b, DER_CONTEXT_CONSTRUCTED(0));
        der_open(&b, DER_SEQUENCE);
        der_put(&b, DER_OID, BYTES_ARRAY(hw_type));
        der_put(&b, DER_OCTET_STRING, serial);
        der_close(&b);
        der_close(&b);
        der_close(&b);
    }
    if (dns != NULL)
        der_put(&b, DER_CONTEXT(GN_DNS), bytes_of_str(dns));
    if (uri != NULL)
        der_put(&b, DER_CONTEXT(GN_URI), bytes_of_str(uri));
    der_close(&b);
    struct bytes out;
    assert_true(der_finish(&b, &out));
    return out;
}

static void alternative_names(void **state)
{
    (void)state;
    struct identity id;
    struct bytes none = {0};
    assert_int_equal(find(IDENTITY_SAN_DNS, "CN=x", san_of(none, none, "d1.example", NULL), &id),
                     ERR_OK);
    assert_id(&id, "d1.example");
    assert_int_equal(find(IDENTITY_SAN_URI, "CN=x", san_of(none, none, "d1", "urn:dev:7"), &id),
                     ERR_OK);
    assert_id(&id, "urn:dev:7");
    assert_int_equal(find(IDENTITY_SAN_URI, "CN=x", san_of(none, none, "d1", NULL), &id),
                     ERR_NO_DEVICE_ID);
    assert_int_equal(find(IDENTITY_SAN_URI, "CN=x", san_of(none, none, NULL, "https://a/b"), &id),
                     ERR_BAD_DEVICE_ID);
    assert_int_equal(find(IDENTITY_SAN_DNS, "CN=x", none, &id), ERR_NO_DEVICE_ID);
}

static enum err hardware(struct bytes serial, struct identity *out)
{
    return find(IDENTITY_SAN_HARDWARE_MODULE, "CN=x",
                san_of(OID_HARDWARE_MODULE_NAME, serial, "d1", NULL), out);
}

static void hardware_module_name(void **state)
{
    (void)state;
    struct identity id;
    static const uint8_t eui64[8] = {0x00, 0x13, 0xa2, 0x00, 0x41, 0x42, 0x43, 0x44};
    assert_int_equal(hardware(BYTES_LIT("SN-0042"), &id), ERR_OK);
    assert_id(&id, "SN-0042");
    assert_int_equal(hardware(BYTES_ARRAY(eui64), &id), ERR_OK);
    assert_id(&id, "0x0013a20041424344");
    /* what looks like the hex of octets is not taken for it */
    assert_int_equal(hardware(BYTES_LIT("0x0013a20041424344"), &id), ERR_OK);
    assert_id(&id, "0x307830303133613230303431343234333434");
    uint8_t long_serial[32] = {0};
    assert_int_equal(hardware(BYTES_ARRAY(long_serial), &id), ERR_BAD_DEVICE_ID);
    assert_int_equal(hardware(bytes_of(long_serial, 31), &id), ERR_OK);
    assert_int_equal(id.len, DEVICE_ID_MAX);
    assert_int_equal(hardware(BYTES_LIT(""), &id), ERR_NO_DEVICE_ID);
    assert_int_equal(find(IDENTITY_SAN_HARDWARE_MODULE, "CN=x",
                          san_of((struct bytes){0}, (struct bytes){0}, "d1", NULL), &id),
                     ERR_NO_DEVICE_ID);
    assert_int_equal(find(IDENTITY_SAN_HARDWARE_MODULE, "CN=x", (struct bytes){0}, &id),
                     ERR_NO_DEVICE_ID);
}

/* Cut and changed anywhere, a SAN gives an id or an error, and never reads outside (sanitizers). */
static void broken_hardware_module_names(void **state)
{
    (void)state;
    struct bytes whole = san_of(OID_HARDWARE_MODULE_NAME, BYTES_LIT("SN-0042"), NULL, NULL);
    for (size_t i = 0; i < whole.len; i++) {
        uint8_t *copy = malloc(i + 1);
        memcpy(copy, whole.ptr, i);
        struct identity id;
        assert_true(find(IDENTITY_SAN_HARDWARE_MODULE, "CN=x", bytes_of(copy, i), &id) != ERR_OK);
        free(copy);
    }
    for (size_t i = 0; i < whole.len; i++) {
        uint8_t *copy = malloc(whole.len);
        for (unsigned flip = 1; flip < 256; flip <<= 1) {
            memcpy(copy, whole.ptr, whole.len);
            copy[i] ^= (uint8_t)flip;
            struct identity id;
            enum err err =
                find(IDENTITY_SAN_HARDWARE_MODULE, "CN=x", bytes_of(copy, whole.len), &id);
            assert_true(err == ERR_OK || err == ERR_NO_DEVICE_ID || err == ERR_BAD_DEVICE_ID);
        }
        free(copy);
    }
}

/* A byte more inside any of its elements is an error, not ignored. */
static void trailing_bytes_in_hardware_module_names(void **state)
{
    (void)state;
    /* GeneralNames, otherName, type-id, [0], HardwareModuleName, hwType 1.3, hwSerialNum "7" */
    static const uint8_t good[] = {0x30, 0x15, 0xa0, 0x13, 0x06, 0x08, 0x2b, 0x06,
                                   0x01, 0x05, 0x05, 0x07, 0x08, 0x04, 0xa0, 0x07,
                                   0x30, 0x05, 0x06, 0x01, 0x2b, 0x04, 0x00};
    static const struct {
        size_t at;          /* where two more bytes are put in */
        uint8_t lengths[4]; /* the lengths that grow with them */
        size_t length_count;
    } plan[] = {
        {23, {1, 3, 15, 17}, 4}, /* at the end of HardwareModuleName */
        {23, {1, 3, 15}, 3},     /* of [0] */
        {23, {1, 3}, 2},         /* of otherName */
    };
    struct identity id;
    assert_int_equal(find(IDENTITY_SAN_HARDWARE_MODULE, "CN=x", BYTES_ARRAY(good), &id),
                     ERR_NO_DEVICE_ID); /* well formed, an empty serial */
    for (size_t i = 0; i < sizeof(plan) / sizeof(plan[0]); i++) {
        uint8_t bad[sizeof(good) + 2];
        memcpy(bad, good, sizeof(good));
        memcpy(bad + plan[i].at, "\x05", 2); /* NULL */
        for (size_t k = 0; k < plan[i].length_count; k++)
            bad[plan[i].lengths[k]] += 2;
        assert_int_equal(find(IDENTITY_SAN_HARDWARE_MODULE, "CN=x", BYTES_ARRAY(bad), &id),
                         ERR_BAD_DEVICE_ID);
    }
}

static void valid_device_ids(void **state)
{
    (void)state;
    uint8_t id[DEVICE_ID_MAX + 1];
    memset(id, 'a', sizeof(id));
    assert_true(device_id_is_valid(bytes_of(id, 1)));
    assert_true(device_id_is_valid(bytes_of(id, DEVICE_ID_MAX)));
    assert_false(device_id_is_valid(bytes_of(id, DEVICE_ID_MAX + 1)));
    assert_false(device_id_is_valid(bytes_of(id, 0)));
    assert_false(device_id_is_valid((struct bytes){0}));
    for (int c = 0; c < 256; c++) {
        uint8_t text[3] = {'a', (uint8_t)c, 'b'};
        bool allowed = c > 0x20 && c < 0x7f && strchr("/\\\"'", c) == NULL;
        assert_int_equal(device_id_is_valid(BYTES_ARRAY(text)), allowed);
    }
}

/* --- what is recorded, and when to ask again --- */

static void refusals(void **state)
{
    (void)state;
    for (int err = 0; err < ERR_COUNT; err++) {
        enum refusal_record record = refusal_record_of((enum err)err);
        unsigned retry = refusal_retry_after_s((enum err)err);
        if (err_class_of((enum err)err) == ERR_CLASS_REFUSAL)
            assert_int_not_equal(record, REFUSAL_NOT_RECORDED); /* P4 */
        if (err_class_of((enum err)err) == ERR_CLASS_NONE)
            assert_int_equal(record, REFUSAL_NOT_RECORDED);
        if (err_class_of((enum err)err) == ERR_CLASS_PEER)
            assert_int_equal(retry, 0); /* the same request will fail the same way */
    }
    assert_int_equal(refusal_record_of(ERR_AUTH_FAILED), REFUSAL_COUNTED);
    assert_int_equal(refusal_record_of(ERR_KEY_USED), REFUSAL_RECORDED);
    assert_int_equal(refusal_record_of(ERR_BAD_POP), REFUSAL_RECORDED);
    assert_int_equal(refusal_record_of(ERR_BAD_DER), REFUSAL_NOT_RECORDED);
    assert_int_equal(refusal_retry_after_s(ERR_OVERLOADED), RETRY_AFTER_S);
    assert_true(refusal_retry_after_s(ERR_STORE_FULL) > RETRY_AFTER_S);
    assert_int_equal(refusal_retry_after_s(ERR_KEY_USED), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_sources),
        cmocka_unit_test(subject_attributes),
        cmocka_unit_test(alternative_names),
        cmocka_unit_test(hardware_module_name),
        cmocka_unit_test(broken_hardware_module_names),
        cmocka_unit_test(trailing_bytes_in_hardware_module_names),
        cmocka_unit_test(valid_device_ids),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
