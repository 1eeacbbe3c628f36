#include "factory/identity.h"

#include "asn1/der.h"
#include "asn1/oid.h"
#include "asn1/x509.h"
#include "factory/device.h"

static const char *const source_names[IDENTITY_SOURCE_COUNT] = {
    [IDENTITY_SUBJECT_CN] = "subject-cn",
    [IDENTITY_SUBJECT_SERIAL_NUMBER] = "subject-serial-number",
    [IDENTITY_SAN_DNS] = "san-dns",
    [IDENTITY_SAN_URI] = "san-uri",
    [IDENTITY_SAN_HARDWARE_MODULE] = "san-hardware-module",
};

bool identity_source_from_name(const char *name, enum identity_source *out)
{
    for (int i = 0; i < IDENTITY_SOURCE_COUNT; i++) {
        if (strcmp(name, source_names[i]) == 0) {
            *out = (enum identity_source)i;
            return true;
        }
    }
    return false;
}

const char *identity_source_name(enum identity_source source)
{
    return (unsigned)source < IDENTITY_SOURCE_COUNT ? source_names[source] : "unknown";
}

bool device_id_is_valid(struct bytes device_id)
{
    if (device_id.len == 0 || device_id.len > DEVICE_ID_MAX)
        return false;
    for (size_t i = 0; i < device_id.len; i++) {
        uint8_t c = device_id.ptr[i];
        if (c <= 0x20 || c >= 0x7f || c == '/' || c == '\\' || c == '"' || c == '\'')
            return false;
    }
    return true;
}

/* HardwareModuleName ::= SEQUENCE { hwType OBJECT IDENTIFIER, hwSerialNum OCTET STRING }
 * inside [0] EXPLICIT of an otherName (RFC 4108, 5; RFC 5280, 4.2.1.6). */
static enum err hardware_serial(struct bytes other_name, struct bytes *out_serial)
{
    struct bytes explicit_value, sequence, type, serial;
    if (!der_get(&other_name, DER_CONTEXT_CONSTRUCTED(0), &explicit_value) || other_name.len != 0 ||
        !der_get(&explicit_value, DER_SEQUENCE, &sequence) || explicit_value.len != 0 ||
        !der_get_oid(&sequence, &type) || !der_get(&sequence, DER_OCTET_STRING, &serial) ||
        sequence.len != 0)
        return ERR_BAD_DEVICE_ID;
    *out_serial = serial;
    return ERR_OK;
}

/* The first hardwareModuleName; other otherNames may stand before it. */
static enum err find_hardware_module(struct bytes san, struct bytes *out_serial)
{
    struct bytes names;
    if (!der_get(&san, DER_SEQUENCE, &names))
        return ERR_NO_DEVICE_ID;
    while (names.len != 0) {
        uint8_t tag;
        struct bytes value, type;
        if (!der_get_any(&names, &tag, &value, NULL))
            return ERR_BAD_DEVICE_ID;
        if (tag != DER_CONTEXT_CONSTRUCTED(GN_OTHER))
            continue;
        if (!der_get_oid(&value, &type))
            return ERR_BAD_DEVICE_ID;
        if (bytes_eq(type, OID_HARDWARE_MODULE_NAME))
            return hardware_serial(value, out_serial);
    }
    return ERR_NO_DEVICE_ID;
}

static enum err find(enum identity_source source, struct bytes subject, struct bytes san,
                     struct bytes *out)
{
    bool found = false;
    switch (source) {
    case IDENTITY_SUBJECT_CN:
        found = name_find(subject, OID_AT_COMMON_NAME, out);
        break;
    case IDENTITY_SUBJECT_SERIAL_NUMBER:
        found = name_find(subject, OID_AT_SERIAL_NUMBER, out);
        break;
    case IDENTITY_SAN_DNS:
        found = san.len != 0 && general_names_find(san, GN_DNS, out);
        break;
    case IDENTITY_SAN_URI:
        found = san.len != 0 && general_names_find(san, GN_URI, out);
        break;
    case IDENTITY_SAN_HARDWARE_MODULE:
        return find_hardware_module(san, out);
    case IDENTITY_SOURCE_COUNT:
        break;
    }
    return found ? ERR_OK : ERR_NO_DEVICE_ID;
}

enum err identity_find(enum identity_source source, struct bytes subject, struct bytes san,
                       struct identity *out)
{
    struct identity identity = {0};
    struct bytes value = {0};
    enum err err = find(source, subject, san, &value);
    if (err != ERR_OK)
        return err;
    if (value.len == 0)
        return ERR_NO_DEVICE_ID;
    struct writer text = writer_of(identity.id, sizeof(identity.id));
    bool octets = source == IDENTITY_SAN_HARDWARE_MODULE;
    if (octets && (!device_id_is_valid(value) || bytes_starts_with(value, BYTES_LIT("0x")))) {
        writer_put_str(&text, "0x");
        writer_put_hex(&text, value);
    } else {
        writer_put(&text, value);
    }
    if (text.failed || !device_id_is_valid(writer_view(&text)))
        return ERR_BAD_DEVICE_ID;
    identity.len = text.len;
    *out = identity;
    return ERR_OK;
}
