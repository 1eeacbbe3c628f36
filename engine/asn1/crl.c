#include "asn1/crl.h"

#include "asn1/der.h"
#include "asn1/internal.h"
#include "asn1/oid.h"

enum { INTEGER_LEN_MAX = 20 }; /* serials (RFC 5280 4.1.2.2) and cRLNumber (5.2.3) */

/* --- elements that may be longer than der.h reads --- */

/* Four length octets, of which the first is not zero (X.690 10.1); fewer are der.h's. */
static bool get_long(struct bytes *reader, uint8_t tag, struct bytes *out_contents)
{
    const uint8_t *p = reader->ptr;

    if (reader->len < 6 || p[0] != tag || p[1] != 0x84 || p[2] == 0)
        return false;
    size_t len = load_be32(p + 2);
    if (len > reader->len - 6)
        return false;
    *out_contents = bytes_of(p + 6, len);
    *reader = bytes_of(p + 6 + len, reader->len - 6 - len);
    return true;
}

static bool get_large(struct bytes *reader, uint8_t tag, struct bytes *out_contents,
                      struct bytes *out_element)
{
    struct bytes start = *reader;

    if (!der_get(reader, tag, out_contents) && !get_long(reader, tag, out_contents))
        return false;
    *out_element = bytes_of(start.ptr, start.len - reader->len);
    return true;
}

/* --- entries --- */

static const char *const reasons[] = {
    "unspecified",   "keyCompromise",        "cACompromise",    "affiliationChanged",
    "superseded",    "cessationOfOperation", "certificateHold", NULL,
    "removeFromCRL", "privilegeWithdrawn",   "aACompromise"};
enum { REASON_COUNT = sizeof(reasons) / sizeof(reasons[0]) };

const char *crl_reason_text(uint8_t reason)
{
    return reason < REASON_COUNT ? reasons[reason] : NULL;
}

bool crl_reason_from_text(const char *name, uint8_t *out)
{
    for (uint8_t i = 0; i < REASON_COUNT; i++) {
        if (reasons[i] != NULL && strcmp(reasons[i], name) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

/* CRLReason ::= ENUMERATED (RFC 5280 5.3.1) */
static bool reason_decode(struct bytes value, struct crl_entry *entry)
{
    struct bytes contents;

    if (!der_get(&value, DER_ENUMERATED, &contents) || value.len != 0 || contents.len != 1 ||
        crl_reason_text(contents.ptr[0]) == NULL)
        return false;
    entry->reason = contents.ptr[0];
    entry->has_reason = true;
    return true;
}

static bool entry_extensions_decode(struct bytes der, struct crl_entry *entry)
{
    struct extensions all;

    if (extensions_decode(der, &all) != ERR_OK || all.count == 0)
        return false;
    entry->has_extensions = true;
    for (uint32_t i = 0; i < all.count; i++) {
        const struct extension *extension = &all.item[i];
        if (!bytes_eq(extension->oid, OID_EXT_CRL_REASON))
            entry->unknown_critical = entry->unknown_critical || extension->critical;
        else if (!reason_decode(extension->value, entry))
            return false;
    }
    return true;
}

static bool unsigned_is_valid(struct bytes contents)
{
    return (contents.ptr[0] & 0x80) == 0 && contents.len <= INTEGER_LEN_MAX;
}

bool crl_entry_next(struct bytes *entries, struct crl_entry *out)
{
    struct bytes rest = *entries, body, extensions;
    struct crl_entry entry = {0};

    if (!der_get(&rest, DER_SEQUENCE, &body) || !der_get_integer(&body, &entry.serial) ||
        !unsigned_is_valid(entry.serial) || !der_get_time(&body, &entry.revoked_s))
        return false;
    if (body.len > 0 && (!der_get_element(&body, DER_SEQUENCE, &extensions) || body.len != 0 ||
                         !entry_extensions_decode(extensions, &entry)))
        return false;
    *entries = rest;
    *out = entry;
    return true;
}

static bool entries_decode(struct crl_view *crl, bool is_v2)
{
    struct bytes rest = crl->entries;
    struct crl_entry entry;

    while (rest.len > 0) {
        if (!crl_entry_next(&rest, &entry))
            return false;
        if (!is_v2 && entry.has_extensions) /* RFC 5280 5.1.2.1 */
            return false;
        crl->entry_count++;
        crl->unknown_critical = crl->unknown_critical || entry.unknown_critical;
    }
    return crl->entry_count > 0; /* RFC 5280 5.1.2.6: an empty list is left out */
}

/* --- the list --- */

static bool number_decode(struct bytes value, struct crl_view *crl)
{
    return der_get_integer(&value, &crl->number) && value.len == 0 &&
           unsigned_is_valid(crl->number);
}

static bool crl_extensions_decode(struct crl_view *crl)
{
    for (uint32_t i = 0; i < crl->extensions.count; i++) {
        const struct extension *extension = &crl->extensions.item[i];
        if (bytes_eq(extension->oid, OID_EXT_CRL_NUMBER)) {
            if (!number_decode(extension->value, crl))
                return false;
        } else if (bytes_eq(extension->oid, OID_EXT_AKI)) {
            if (!aki_value_decode(extension->value, &crl->aki))
                return false;
        } else {
            crl->unknown_critical = crl->unknown_critical || extension->critical;
        }
    }
    return true;
}

/* What follows nextUpdate. */
static enum err tbs_tail_decode(struct bytes tbs, bool is_v2, struct crl_view *crl)
{
    struct bytes explicit, element;
    bool has_extensions;

    if (der_peek(tbs) == DER_SEQUENCE) {
        if (!get_large(&tbs, DER_SEQUENCE, &crl->entries, &element))
            return ERR_BAD_DER;
        if (!entries_decode(crl, is_v2))
            return ERR_BAD_CRL;
    }
    if (!der_get_optional(&tbs, DER_CONTEXT_CONSTRUCTED(0), &explicit, &has_extensions))
        return ERR_BAD_DER;
    if (tbs.len != 0)
        return ERR_DER_TRAILING;
    if (!has_extensions)
        return ERR_OK;
    if (!is_v2) /* RFC 5280 5.1.2.1 */
        return ERR_BAD_CRL;
    if (extensions_decode(explicit, &crl->extensions) != ERR_OK || crl->extensions.count == 0)
        return ERR_BAD_CRL;
    return crl_extensions_decode(crl) ? ERR_OK : ERR_BAD_CRL;
}

static enum err tbs_decode(struct bytes tbs, struct bytes outer_alg, struct crl_view *crl)
{
    struct bytes inner_alg;
    uint64_t version = 0;
    bool is_v2 = der_peek(tbs) == DER_INTEGER;

    if (is_v2 && !der_get_u64(&tbs, &version))
        return ERR_BAD_DER;
    if (is_v2 && version != 1) /* RFC 5280 5.1.2.1: if present, v2 */
        return ERR_BAD_CRL;
    if (!der_get_element(&tbs, DER_SEQUENCE, &inner_alg) ||
        !der_get_element(&tbs, DER_SEQUENCE, &crl->issuer))
        return ERR_BAD_DER;
    if (!bytes_eq(inner_alg, outer_alg)) /* RFC 5280 5.1.1.2 */
        return ERR_BAD_CRL;
    if (!name_is_valid(crl->issuer) || name_is_empty(crl->issuer)) /* RFC 5280 5.1.2.3 */
        return ERR_BAD_CRL;
    if (!der_get_time(&tbs, &crl->this_update_s))
        return ERR_BAD_DER;
    crl->has_next_update = der_peek(tbs) == DER_UTC_TIME || der_peek(tbs) == DER_GENERALIZED_TIME;
    if (crl->has_next_update && !der_get_time(&tbs, &crl->next_update_s))
        return ERR_BAD_DER;
    return tbs_tail_decode(tbs, is_v2, crl);
}

enum err crl_decode(struct bytes der, struct crl_view *out)
{
    struct crl_view crl = {.der = der};
    struct bytes body, tbs, alg_der, element;

    if (der.len > CRL_DER_MAX)
        return ERR_BAD_CRL;
    if (!get_large(&der, DER_SEQUENCE, &body, &element))
        return ERR_BAD_DER;
    if (der.len != 0)
        return ERR_DER_TRAILING;
    if (!get_large(&body, DER_SEQUENCE, &tbs, &crl.tbs) ||
        !der_get_element(&body, DER_SEQUENCE, &alg_der) || !der_get_bits(&body, &crl.signature))
        return ERR_BAD_DER;
    if (body.len != 0)
        return ERR_DER_TRAILING;
    crl.sig_alg = sig_alg_from_der(alg_der);
    if (crl.sig_alg == SIG_NONE && !algorithm_is_valid(alg_der))
        return ERR_BAD_DER;
    enum err err = tbs_decode(tbs, alg_der, &crl);
    if (err == ERR_OK)
        *out = crl;
    return err;
}

bool crl_number(const struct crl_view *crl, uint64_t *out)
{
    uint64_t value = 0;

    if (crl->number.len == 0 || crl->number.len > 9 ||
        (crl->number.len == 9 && crl->number.ptr[0] != 0))
        return false;
    for (size_t i = 0; i < crl->number.len; i++)
        value = value << 8 | crl->number.ptr[i];
    *out = value;
    return true;
}
