#include <stdarg.h>
#include <stdio.h>

#include "asn1/der.h"
#include "asn1/oid.h"
#include "ca/ext.h"
#include "ca/profile.h"
#include "ca/profile_impl.h"
#include "crypto/digest.h"

enum { DETAIL_CAP = 128 };

/* What every check of one extension is given. */
struct check {
    const struct profile *profile;
    const struct cert_request *request;
    const struct extension *extension;
    char *detail;
};

static __attribute__((format(printf, 3, 4))) enum err refuse(enum err err, char detail[DETAIL_CAP],
                                                             const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(detail, DETAIL_CAP, fmt, args);
    va_end(args);
    return err;
}

/* "keyUsage 2.5.29.15: why" */
static enum err refuse_extension(const struct check *check, enum err err, const char *why)
{
    char name[96];

    ext_name(check->extension->oid, name, sizeof(name));
    return refuse(err, check->detail, "%s: %s", name, why);
}

static enum err not_allowed(const struct check *check, const char *why)
{
    return refuse_extension(check, ERR_EXTENSION_NOT_ALLOWED, why);
}

static enum err malformed(const struct check *check)
{
    return refuse_extension(check, ERR_BAD_TEMPLATE, "malformed");
}

/* --- names --- */

/* Characters of UTF-8 that is valid. */
static size_t char_count(struct bytes text)
{
    size_t count = 0;
    for (size_t i = 0; i < text.len; i++)
        count += (text.ptr[i] & 0xc0) != 0x80;
    return count;
}

struct name_check {
    const char *where;
    char *detail;
};

static bool check_attribute(void *ctx, struct bytes oid, uint8_t tag, struct bytes value)
{
    static const struct {
        const struct bytes *oid;
        const char *name;
        size_t char_max;
    } bounds[] = {
        {&OID_AT_COMMON_NAME, "commonName", 64},
        {&OID_AT_SERIAL_NUMBER, "serialNumber", 64},
        {&OID_AT_ORGANIZATION, "organizationName", 64},
        {&OID_AT_ORG_UNIT, "organizationalUnitName", 64},
        {&OID_AT_COUNTRY, "countryName", 2},
        {&OID_AT_LOCALITY, "localityName", 128},
        {&OID_AT_STATE, "stateOrProvinceName", 128},
    };
    const struct name_check *check = ctx;
    char dotted[64];

    for (size_t i = 0; i < sizeof(bounds) / sizeof(bounds[0]); i++) {
        if (bytes_eq(oid, *bounds[i].oid) && char_count(value) > bounds[i].char_max) {
            snprintf(check->detail, DETAIL_CAP, "%s: %s has more than %zu characters", check->where,
                     bounds[i].name, bounds[i].char_max);
            return false;
        }
    }
    if (tag == DER_UTF8_STRING || tag == DER_PRINTABLE_STRING || tag == DER_IA5_STRING)
        return true;
    oid_to_text(oid, dotted, sizeof(dotted));
    snprintf(check->detail, DETAIL_CAP, "%s: %s is neither UTF8String nor PrintableString",
             check->where, dotted);
    return false;
}

/* A Name, attribute by attribute: the string types that RFC 5280 4.1.2.6 takes for new subjects,
 * and its upper bounds (Appendix A.1), so that readers have nothing to differ about. */
static enum err check_name(const char *where, struct bytes name_der, char detail[DETAIL_CAP])
{
    struct name_check check = {.where = where, .detail = detail};

    if (name_each(name_der, check_attribute, &check))
        return ERR_OK;
    return detail[0] != '\0' ? ERR_BAD_TEMPLATE
                             : refuse(ERR_BAD_TEMPLATE, detail, "%s: malformed", where);
}

/* --- extensions --- */

static enum err check_key_usage(const struct check *check)
{
    enum key_class kind = key_class_of(check->request->spki.alg);
    struct bytes value = check->extension->value;
    uint32_t bits;

    if (!der_get_named_bits(&value, &bits) || value.len != 0 || bits == 0)
        return malformed(check);
    if ((bits & ~check->profile->fixed[kind].key_usage) != 0)
        return not_allowed(check, "asks for more than the profile grants this key type");
    return ERR_OK;
}

static enum err check_ext_key_usage(const struct check *check)
{
    struct bytes value = check->extension->value, list, oid;

    if (!der_get(&value, DER_SEQUENCE, &list) || value.len != 0 || list.len == 0)
        return malformed(check);
    while (list.len > 0) {
        char why[96], dotted[64];
        if (!der_get_oid(&list, &oid))
            return malformed(check);
        if (ext_key_usage_bit(oid) & check->profile->config.ext_key_usage)
            continue;
        oid_to_text(oid, dotted, sizeof(dotted));
        snprintf(why, sizeof(why), "the profile does not grant %s", dotted);
        return not_allowed(check, why);
    }
    return ERR_OK;
}

static enum err check_basic_constraints(const struct check *check)
{
    struct bytes value = check->extension->value, body;
    bool is_ca;

    if (!der_get(&value, DER_SEQUENCE, &body) || value.len != 0)
        return malformed(check);
    if (body.len == 0)
        return ERR_OK;
    /* FALSE written out is not DER (X.690 11.5), and pathLen without cA has no meaning */
    if (!der_get_bool(&body, &is_ca) || !is_ca)
        return malformed(check);
    return not_allowed(check, "a device is no CA");
}

static enum err check_ski(const struct check *check)
{
    struct bytes value = check->extension->value, key_id;
    uint8_t sha1[SHA1_LEN];

    if (!der_get(&value, DER_OCTET_STRING, &key_id) || value.len != 0)
        return malformed(check);
    digest_once(HASH_SHA1, check->request->spki.key, sha1);
    if (!bytes_eq(key_id, BYTES_ARRAY(sha1)))
        return not_allowed(check, "is not the SHA-1 of this key");
    return ERR_OK;
}

/* HardwareModuleName ::= SEQUENCE { hwType OID, hwSerialNum OCTET STRING } (RFC 4108 5), as the
 * [0] EXPLICIT value of an otherName. */
static bool hardware_module_is_valid(struct bytes explicit)
{
    struct bytes contents, body, type, serial;

    return der_get(&explicit, DER_CONTEXT_CONSTRUCTED(0), &contents) && explicit.len == 0 &&
           der_get(&contents, DER_SEQUENCE, &body) && contents.len == 0 &&
           der_get_oid(&body, &type) && der_get(&body, DER_OCTET_STRING, &serial) &&
           body.len == 0 && serial.len > 0;
}

static enum err check_san_names(const struct check *check, struct bytes names)
{
    bool is_idevid = check->profile->config.base == PROFILE_IDEVID;
    struct bytes contents, type;
    uint8_t tag;
    uint32_t count = 0;

    for (; names.len > 0; count++) {
        if (!der_get_any(&names, &tag, &contents, NULL))
            return malformed(check);
        bool is_module = tag == DER_CONTEXT_CONSTRUCTED(GN_OTHER) &&
                         der_get_oid(&contents, &type) && bytes_eq(type, OID_HARDWARE_MODULE_NAME);
        if (is_module && !hardware_module_is_valid(contents))
            return refuse_extension(check, ERR_BAD_TEMPLATE, "hardwareModuleName is malformed");
        if (tag == DER_CONTEXT_CONSTRUCTED(GN_DIRECTORY) &&
            check_name("directoryName in subjectAltName", contents, check->detail) != ERR_OK)
            return ERR_BAD_TEMPLATE;
        if (is_idevid && (!is_module || count > 0)) /* IEEE 802.1AR-2018 8.10 */
            return not_allowed(check, "an IDevID has one hardwareModuleName and nothing else");
    }
    return ERR_OK;
}

static enum err check_san(const struct check *check)
{
    struct bytes value = check->extension->value, names;

    if (check->profile->config.san == TAKE_FORBIDDEN)
        return not_allowed(check, "not taken from the request");
    if (!bytes_eq(value, check->request->san) || !general_names_are_valid(value) ||
        !der_get(&value, DER_SEQUENCE, &names))
        return malformed(check);
    if (check->extension->value.len > SAN_DER_MAX)
        return refuse_extension(check, ERR_BAD_TEMPLATE, "too long");
    return check_san_names(check, names);
}

static enum err check_extensions(struct check *check)
{
    static const struct {
        const struct bytes *oid;
        enum err (*check)(const struct check *check);
    } allowed[] = {
        {&OID_EXT_SAN, check_san},           {&OID_EXT_KEY_USAGE, check_key_usage},
        {&OID_EXT_EKU, check_ext_key_usage}, {&OID_EXT_BASIC_CONSTRAINTS, check_basic_constraints},
        {&OID_EXT_SKI, check_ski},
    };
    const struct extensions *all = &check->request->extensions;
    bool has_san = false;

    for (uint32_t i = 0; i < all->count; i++) {
        enum err err = ERR_EXTENSION_NOT_ALLOWED;
        bool is_known = false;
        check->extension = &all->item[i];
        for (size_t k = 0; k < sizeof(allowed) / sizeof(allowed[0]) && !is_known; k++) {
            is_known = bytes_eq(all->item[i].oid, *allowed[k].oid);
            if (is_known)
                err = allowed[k].check(check);
        }
        if (!is_known)
            return not_allowed(check, "not taken from the request");
        if (err != ERR_OK)
            return err;
        has_san = has_san || bytes_eq(all->item[i].oid, OID_EXT_SAN);
    }
    /* the SAN that build copies is the one that was looked at */
    if (check->request->san.len > 0 && !has_san)
        return refuse(ERR_BAD_TEMPLATE, check->detail, "subjectAltName outside of the extensions");
    return ERR_OK;
}

/* --- key and subject --- */

static enum err check_key(const struct profile *profile, const struct spki *spki,
                          char detail[DETAIL_CAP])
{
    if (!profile_allows_key_alg(profile, spki->alg))
        return refuse(ERR_KEY_NOT_ALLOWED, detail, "%s", key_alg_name(spki->alg));
    if (spki->alg == KEY_RSA && spki->bits < profile->config.rsa_bits_min)
        return refuse(ERR_KEY_NOT_ALLOWED, detail, "RSA %u bits, at least %u", spki->bits,
                      profile->config.rsa_bits_min);
    return ERR_OK;
}

static enum err check_subject(const struct profile *profile, const struct cert_request *request,
                              char detail[DETAIL_CAP])
{
    struct bytes prefix, rest, serial_number;

    enum err err = check_name("subject", request->subject, detail);
    if (err != ERR_OK)
        return err;
    if (profile_subject(profile, request->subject, &prefix, &rest) != ERR_OK)
        return refuse(ERR_BAD_TEMPLATE, detail, "subject: too long");
    if (name_is_empty(request->subject) && request->san.len == 0) /* RFC 5280 4.1.2.6 */
        return refuse(ERR_BAD_TEMPLATE, detail, "subject and subjectAltName are both empty");
    if (profile->config.base == PROFILE_IDEVID &&
        !name_find(request->subject, OID_AT_SERIAL_NUMBER, &serial_number))
        return refuse(ERR_BAD_TEMPLATE, detail, "subject: an IDevID needs serialNumber");
    return ERR_OK;
}

enum err profile_check(const struct profile *profile, const struct cert_request *request,
                       char out_detail[DETAIL_CAP])
{
    char detail[DETAIL_CAP] = "";
    struct check check = {.profile = profile, .request = request, .detail = detail};

    enum err err = check_key(profile, &request->spki, detail);
    if (err == ERR_OK)
        err = check_extensions(&check);
    if (err == ERR_OK)
        err = check_subject(profile, request, detail);
    if (err != ERR_OK)
        memcpy(out_detail, detail, sizeof(detail));
    return err;
}
