#include "ca/ext.h"

#include <stdio.h>

#include "asn1/oid.h"

static const struct {
    uint32_t bit;
    const struct bytes *oid;
} ext_key_usages[] = {
    {EKU_SERVER_AUTH, &OID_EKU_SERVER_AUTH}, {EKU_CLIENT_AUTH, &OID_EKU_CLIENT_AUTH},
    {EKU_CMC_RA, &OID_EKU_CMC_RA},           {EKU_CMC_CA, &OID_EKU_CMC_CA},
    {EKU_CM_KGA, &OID_EKU_CM_KGA},           {EKU_ANY, &OID_EKU_ANY},
};
enum { EXT_KEY_USAGE_COUNT = sizeof(ext_key_usages) / sizeof(ext_key_usages[0]) };

/* Extension ::= SEQUENCE { extnID, critical DEFAULT FALSE, extnValue OCTET STRING }, up to the
 * contents of extnValue; extension_close ends it. */
static void extension_open(struct der_builder *out, struct bytes oid, bool critical)
{
    der_open(out, DER_SEQUENCE);
    der_put(out, DER_OID, oid);
    if (critical)
        der_put_bool(out, true);
    der_open(out, DER_OCTET_STRING);
}

static void extension_close(struct der_builder *out)
{
    der_close(out);
    der_close(out);
}

void ext_put_key_usage(struct der_builder *out, uint32_t key_usage)
{
    extension_open(out, OID_EXT_KEY_USAGE, true); /* SHOULD be critical (4.2.1.3) */
    der_put_named_bits(out, key_usage);
    extension_close(out);
}

void ext_put_ext_key_usage(struct der_builder *out, uint32_t ext_key_usage)
{
    extension_open(out, OID_EXT_EKU, false);
    der_open(out, DER_SEQUENCE);
    for (size_t i = 0; i < EXT_KEY_USAGE_COUNT; i++)
        if (ext_key_usage & ext_key_usages[i].bit)
            der_put(out, DER_OID, *ext_key_usages[i].oid);
    der_close(out);
    extension_close(out);
}

void ext_put_basic_constraints(struct der_builder *out, bool is_ca, int32_t path_len)
{
    extension_open(out, OID_EXT_BASIC_CONSTRAINTS, true);
    der_open(out, DER_SEQUENCE);
    if (is_ca) /* DEFAULT FALSE is not encoded (X.690 11.5) */
        der_put_bool(out, true);
    if (is_ca && path_len >= 0)
        der_put_u64(out, DER_INTEGER, (uint64_t)path_len);
    der_close(out);
    extension_close(out);
}

void ext_put_ski(struct der_builder *out, struct bytes key_id)
{
    extension_open(out, OID_EXT_SKI, false); /* MUST NOT be critical (4.2.1.2) */
    der_put(out, DER_OCTET_STRING, key_id);
    extension_close(out);
}

void ext_put_aki(struct der_builder *out, struct bytes key_id)
{
    extension_open(out, OID_EXT_AKI, false);
    der_open(out, DER_SEQUENCE);
    der_put(out, DER_CONTEXT(0), key_id);
    der_close(out);
    extension_close(out);
}

void ext_put_san(struct der_builder *out, struct bytes general_names, bool critical)
{
    extension_open(out, OID_EXT_SAN, critical);
    der_put_raw(out, general_names);
    extension_close(out);
}

void ext_put_crl_url(struct der_builder *out, struct bytes url)
{
    extension_open(out, OID_EXT_CRL_DP, false); /* SHOULD NOT be critical (4.2.1.13) */
    der_open(out, DER_SEQUENCE);
    der_open(out, DER_SEQUENCE);
    der_open(out, DER_CONTEXT_CONSTRUCTED(0)); /* distributionPoint */
    der_open(out, DER_CONTEXT_CONSTRUCTED(0)); /* fullName */
    der_put(out, DER_CONTEXT(GN_URI), url);
    der_close(out);
    der_close(out);
    der_close(out);
    der_close(out);
    extension_close(out);
}

void ext_put_crl_number(struct der_builder *out, uint64_t number)
{
    extension_open(out, OID_EXT_CRL_NUMBER, false);
    der_put_u64(out, DER_INTEGER, number);
    extension_close(out);
}

uint32_t ext_key_usage_bit(struct bytes oid)
{
    for (size_t i = 0; i < EXT_KEY_USAGE_COUNT; i++)
        if (bytes_eq(oid, *ext_key_usages[i].oid))
            return ext_key_usages[i].bit;
    return EKU_OTHER;
}

void ext_name(struct bytes oid, char *out, size_t cap)
{
    static const struct {
        const struct bytes *oid;
        const char *name;
    } names[] = {
        {&OID_EXT_SKI, "subjectKeyIdentifier"},
        {&OID_EXT_KEY_USAGE, "keyUsage"},
        {&OID_EXT_SAN, "subjectAltName"},
        {&OID_EXT_BASIC_CONSTRAINTS, "basicConstraints"},
        {&OID_EXT_CRL_DP, "cRLDistributionPoints"},
        {&OID_EXT_CERT_POLICIES, "certificatePolicies"},
        {&OID_EXT_AKI, "authorityKeyIdentifier"},
        {&OID_EXT_EKU, "extKeyUsage"},
        {&OID_EXT_NAME_CONSTRAINTS, "nameConstraints"},
        {&OID_EXT_AIA, "authorityInfoAccess"},
    };
    char dotted[96];

    oid_to_text(oid, dotted, sizeof(dotted));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (bytes_eq(oid, *names[i].oid)) {
            snprintf(out, cap, "%s %s", names[i].name, dotted);
            return;
        }
    }
    snprintf(out, cap, "%s", dotted);
}
