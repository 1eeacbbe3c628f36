#include "asn1/oid.h"

#include <inttypes.h>
#include <stdio.h>

/* A view of octets with static storage (a compound literal at file scope, C17 6.5.2.5). */
#define OCTETS(...)                                                                                \
    {                                                                                              \
        (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__})                     \
    }

/* X.520, id-at 2.5.4 */
const struct bytes OID_AT_COMMON_NAME = OCTETS(0x55, 0x04, 0x03);
const struct bytes OID_AT_SERIAL_NUMBER = OCTETS(0x55, 0x04, 0x05);
const struct bytes OID_AT_COUNTRY = OCTETS(0x55, 0x04, 0x06);
const struct bytes OID_AT_LOCALITY = OCTETS(0x55, 0x04, 0x07);
const struct bytes OID_AT_STATE = OCTETS(0x55, 0x04, 0x08);
const struct bytes OID_AT_ORGANIZATION = OCTETS(0x55, 0x04, 0x0a);
const struct bytes OID_AT_ORG_UNIT = OCTETS(0x55, 0x04, 0x0b);
const struct bytes OID_AT_DN_QUALIFIER = OCTETS(0x55, 0x04, 0x2e);
/* RFC 4519 2.4: 0.9.2342.19200300.100.1.25, 2.39: ...1.1 */
const struct bytes OID_AT_DC = OCTETS(0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19);
const struct bytes OID_AT_UID = OCTETS(0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01);

/* RFC 5280 4.2.1, id-ce 2.5.29 */
const struct bytes OID_EXT_SKI = OCTETS(0x55, 0x1d, 0x0e);
const struct bytes OID_EXT_KEY_USAGE = OCTETS(0x55, 0x1d, 0x0f);
const struct bytes OID_EXT_SAN = OCTETS(0x55, 0x1d, 0x11);
const struct bytes OID_EXT_BASIC_CONSTRAINTS = OCTETS(0x55, 0x1d, 0x13);
const struct bytes OID_EXT_CRL_NUMBER = OCTETS(0x55, 0x1d, 0x14);
const struct bytes OID_EXT_CRL_REASON = OCTETS(0x55, 0x1d, 0x15);
const struct bytes OID_EXT_IDP = OCTETS(0x55, 0x1d, 0x1c);
const struct bytes OID_EXT_NAME_CONSTRAINTS = OCTETS(0x55, 0x1d, 0x1e);
const struct bytes OID_EXT_CRL_DP = OCTETS(0x55, 0x1d, 0x1f);
const struct bytes OID_EXT_CERT_POLICIES = OCTETS(0x55, 0x1d, 0x20);
const struct bytes OID_EXT_AKI = OCTETS(0x55, 0x1d, 0x23);
const struct bytes OID_EXT_EKU = OCTETS(0x55, 0x1d, 0x25);
/* RFC 5280 4.2.2.1: 1.3.6.1.5.5.7.1.1 */
const struct bytes OID_EXT_AIA = OCTETS(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x01);

/* RFC 5280 4.2.1.12, id-kp 1.3.6.1.5.5.7.3 */
const struct bytes OID_EKU_SERVER_AUTH = OCTETS(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01);
const struct bytes OID_EKU_CLIENT_AUTH = OCTETS(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02);
/* RFC 6402 2.10: 27 and 28 */
const struct bytes OID_EKU_CMC_CA = OCTETS(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x1b);
const struct bytes OID_EKU_CMC_RA = OCTETS(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x1c);
/* RFC 9480 2.2: 32 */
const struct bytes OID_EKU_CM_KGA = OCTETS(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x20);
/* RFC 5280 4.2.1.12: 2.5.29.37.0 */
const struct bytes OID_EKU_ANY = OCTETS(0x55, 0x1d, 0x25, 0x00);

/* RFC 5480 2.1.1, 2.1.1.1: 1.2.840.10045.2.1, 1.2.840.10045.3.1.7, 1.3.132.0.34 */
const struct bytes OID_EC_PUBLIC_KEY = OCTETS(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01);
const struct bytes OID_P256 = OCTETS(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07);
const struct bytes OID_P384 = OCTETS(0x2b, 0x81, 0x04, 0x00, 0x22);
/* RFC 8017 C: 1.2.840.113549.1.1.1 and .10 */
const struct bytes OID_RSA = OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01);
const struct bytes OID_RSA_PSS = OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a);
/* RFC 8410 3: 1.3.101.112 */
const struct bytes OID_ED25519 = OCTETS(0x2b, 0x65, 0x70);
/* RFC 8017 B.1: 1.3.14.3.2.26; 2.16.840.1.101.3.4.2.1 to .3 */
const struct bytes OID_SHA1 = OCTETS(0x2b, 0x0e, 0x03, 0x02, 0x1a);
const struct bytes OID_SHA256 = OCTETS(0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01);
const struct bytes OID_SHA384 = OCTETS(0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02);
const struct bytes OID_SHA512 = OCTETS(0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03);

/* RFC 2985 5.4.1, 5.4.2: 1.2.840.113549.1.9.7 and .14 */
const struct bytes OID_CHALLENGE_PASSWORD =
    OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x07);
const struct bytes OID_EXTENSION_REQUEST =
    OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e);
/* RFC 6402 2.8: 1.3.6.1.5.5.7.7.36 */
const struct bytes OID_CHANGE_SUBJECT_NAME = OCTETS(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x07, 0x24);

/* RFC 5652 4, 5.1, 6.1: 1.2.840.113549.1.7.1 to .3 */
const struct bytes OID_CMS_DATA = OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01);
const struct bytes OID_CMS_SIGNED_DATA =
    OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02);
const struct bytes OID_CMS_ENVELOPED_DATA =
    OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x03);

/* RFC 5652 11.1, 11.2: 1.2.840.113549.1.9.3 and .4 */
const struct bytes OID_CONTENT_TYPE = OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03);
const struct bytes OID_MESSAGE_DIGEST =
    OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04);
/* RFC 6211 2: 1.2.840.113549.1.9.52 */
const struct bytes OID_ALGORITHM_PROTECTION =
    OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x34);
/* RFC 5958 2: 2.16.840.1.101.2.1.2.78.5 */
const struct bytes OID_KEY_PACKAGE =
    OCTETS(0x60, 0x86, 0x48, 0x01, 0x65, 0x02, 0x01, 0x02, 0x4e, 0x05);

/* RFC 4211 4.4: 1.2.840.113533.7.66.13 */
const struct bytes OID_PBM = OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf6, 0x7d, 0x07, 0x42, 0x0d);
/* RFC 8018 A.5, A.2: 1.2.840.113549.1.5.14 and .12 */
const struct bytes OID_PBMAC1 = OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0e);
const struct bytes OID_PBKDF2 = OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0c);
/* RFC 8018 B.1.2: 1.2.840.113549.2.7, .9, .10 and .11 */
const struct bytes OID_HMAC_SHA1 = OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x07);
const struct bytes OID_HMAC_SHA256 = OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x09);
const struct bytes OID_HMAC_SHA384 = OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x0a);
const struct bytes OID_HMAC_SHA512 = OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x0b);
/* RFC 3370 3.1: 1.3.6.1.5.5.8.1.2 */
const struct bytes OID_HMAC_SHA1_IPSEC = OCTETS(0x2b, 0x06, 0x01, 0x05, 0x05, 0x08, 0x01, 0x02);

/* RFC 8017 A.2.1, C: 1.2.840.113549.1.1.7 and .8 */
const struct bytes OID_RSA_OAEP = OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x07);
const struct bytes OID_MGF1 = OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08);
/* RFC 5753 7.1.4: 1.3.132.1.11.1 */
const struct bytes OID_ECDH_SHA256KDF = OCTETS(0x2b, 0x81, 0x04, 0x01, 0x0b, 0x01);
/* RFC 3211 2.3: 1.2.840.113549.1.9.16.3.9 */
const struct bytes OID_PWRI_KEK =
    OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x03, 0x09);
/* RFC 3565 2.3.2, 4.1: 2.16.840.1.101.3.4.1.2, .42 and .45 */
const struct bytes OID_AES128_CBC = OCTETS(0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x02);
const struct bytes OID_AES256_CBC = OCTETS(0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2a);
const struct bytes OID_AES256_WRAP = OCTETS(0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x01, 0x2d);

/* RFC 4108 5: 1.3.6.1.5.5.7.8.4 */
const struct bytes OID_HARDWARE_MODULE_NAME =
    OCTETS(0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x08, 0x04);
/* RFC 9908 3.4: 1.2.840.113549.1.9.16.2.61 and .62 */
const struct bytes OID_CERT_REQ_TEMPLATE =
    OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x3d);
const struct bytes OID_EXT_REQ_TEMPLATE =
    OCTETS(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x10, 0x02, 0x3e);

/* One subidentifier, base 128, most significant first (X.690 8.19.2). */
static void put_subidentifier(struct writer *out, uint64_t value)
{
    int shift = 63;
    while (shift > 0 && value >> shift == 0)
        shift -= 7;
    for (; shift > 0; shift -= 7)
        writer_put_u8(out, (uint8_t)(0x80 | (value >> shift & 0x7f)));
    writer_put_u8(out, (uint8_t)(value & 0x7f));
}

bool oid_from_text(const char *dotted, uint8_t *out, size_t cap, size_t *out_len)
{
    struct writer writer = writer_of(out, cap);
    struct bytes rest = bytes_of_str(dotted);
    uint64_t first = 0;
    size_t arc_count = 0;

    for (;;) {
        size_t dot = bytes_find(rest, '.');
        struct bytes text = bytes_of(rest.ptr, dot);
        uint64_t arc;
        if (!bytes_to_u64(text, UINT64_MAX, &arc))
            return false;
        arc_count++;
        if (arc_count == 1) {
            if (arc > 2) /* X.660 A.2 */
                return false;
            first = arc;
        } else if (arc_count == 2) {
            /* X.690 8.19.4 */
            if ((first < 2 && arc > 39) || arc > UINT64_MAX - 80)
                return false;
            put_subidentifier(&writer, first * 40 + arc);
        } else {
            put_subidentifier(&writer, arc);
        }
        if (dot == rest.len)
            break;
        rest.ptr += dot + 1;
        rest.len -= dot + 1;
    }
    if (arc_count < 2 || writer.failed)
        return false;
    *out_len = writer.len;
    return true;
}

/* Text that is cut at cap, always with its NUL. */
static void put_text(char *out, size_t cap, size_t *len, const char *text)
{
    while (*text != '\0' && *len + 1 < cap)
        out[(*len)++] = *text++;
    out[*len] = '\0';
}

void oid_to_text(struct bytes oid, char *out, size_t cap)
{
    char text[24];
    size_t len = 0;
    uint64_t arc = 0;
    bool is_first = true;

    if (cap == 0)
        return;
    out[0] = '\0';
    if (!oid_is_valid(oid)) {
        put_text(out, cap, &len, "?");
        return;
    }
    for (size_t i = 0; i < oid.len; i++) {
        if (arc >> 57 != 0) { /* an arc of more than 64 bits: legal, but no number of ours */
            len = 0;
            put_text(out, cap, &len, "#");
            for (size_t j = 0; j < oid.len; j++) {
                snprintf(text, sizeof(text), "%02x", oid.ptr[j]);
                put_text(out, cap, &len, text);
            }
            return;
        }
        arc = arc << 7 | (oid.ptr[i] & 0x7f);
        if ((oid.ptr[i] & 0x80) != 0)
            continue;
        if (is_first) {
            unsigned root = arc < 40 ? 0 : arc < 80 ? 1 : 2;
            snprintf(text, sizeof(text), "%u.%" PRIu64, root, arc - root * 40);
            is_first = false;
        } else {
            snprintf(text, sizeof(text), ".%" PRIu64, arc);
        }
        put_text(out, cap, &len, text);
        arc = 0;
    }
}

bool oid_is_valid(struct bytes oid)
{
    bool at_start = true;

    for (size_t i = 0; i < oid.len; i++) {
        if (at_start && oid.ptr[i] == 0x80) /* X.690 8.19.2: as few octets as possible */
            return false;
        at_start = (oid.ptr[i] & 0x80) == 0;
    }
    return oid.len > 0 && at_start;
}
