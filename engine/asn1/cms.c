#include "asn1/cms.h"

#include "asn1/der.h"
#include "asn1/oid.h"

/* Everything around the certificates: seven headers of at most 5 octets, two OIDs, version, sets.
 */
enum { CERTS_ONLY_FRAME = 64 };

size_t cms_certs_only_bound(const struct bytes certs[], size_t count)
{
    size_t sum = CERTS_ONLY_FRAME;
    for (size_t i = 0; i < count; i++)
        sum += certs[i].len;
    return sum;
}

static bool is_one_sequence(struct bytes der)
{
    struct bytes element;
    return der_get_element(&der, DER_SEQUENCE, &element) && der.len == 0;
}

enum err cms_certs_only_build(const struct bytes certs[], size_t count, uint8_t *out, size_t cap,
                              size_t *out_len)
{
    struct der_builder builder = der_builder_of(out, cap);
    struct bytes all;

    for (size_t i = 0; i < count; i++)
        if (!is_one_sequence(certs[i]))
            return ERR_BAD_CERT;
    der_open(&builder, DER_SEQUENCE); /* ContentInfo, RFC 5652 3 */
    der_put(&builder, DER_OID, OID_CMS_SIGNED_DATA);
    der_open(&builder, DER_CONTEXT_CONSTRUCTED(0));
    der_open(&builder, DER_SEQUENCE);            /* SignedData, RFC 5652 5.1 */
    der_put_u64(&builder, DER_INTEGER, 1);       /* version */
    der_put(&builder, DER_SET, bytes_of("", 0)); /* digestAlgorithms */
    der_open(&builder, DER_SEQUENCE);            /* encapContentInfo, no eContent */
    der_put(&builder, DER_OID, OID_CMS_DATA);
    der_close(&builder);
    der_open(&builder, DER_CONTEXT_CONSTRUCTED(0)); /* certificates */
    der_put_set_of(&builder, certs, count);
    der_close(&builder);
    der_put(&builder, DER_SET, bytes_of("", 0)); /* signerInfos */
    der_close(&builder);
    der_close(&builder);
    der_close(&builder);
    if (!der_finish(&builder, &all))
        return ERR_NO_SPACE;
    *out_len = all.len;
    return ERR_OK;
}

enum err cms_certs_only_decode(struct bytes der, struct bytes out_certs[], size_t max,
                               size_t *out_count)
{
    struct bytes info, oid, explicit, signed_data, ignored, content, counting, certs = {0};
    uint64_t version;
    bool has_certs;
    size_t count = 0;

    if (!der_get(&der, DER_SEQUENCE, &info))
        return ERR_BAD_DER;
    if (der.len != 0)
        return ERR_DER_TRAILING;
    if (!der_get_oid(&info, &oid) || !bytes_eq(oid, OID_CMS_SIGNED_DATA) ||
        !der_get(&info, DER_CONTEXT_CONSTRUCTED(0), &explicit) ||
        !der_get(&explicit, DER_SEQUENCE, &signed_data))
        return ERR_BAD_DER;
    if (info.len != 0 || explicit.len != 0)
        return ERR_DER_TRAILING;
    if (!der_get_u64(&signed_data, &version) || version < 1 || version > 5 || version == 2)
        return ERR_BAD_DER; /* RFC 5652 5.1: 1, 3, 4 or 5 */
    if (!der_get_element(&signed_data, DER_SET, &ignored) || !der_is_strict(ignored))
        return ERR_BAD_DER;
    if (!der_get(&signed_data, DER_SEQUENCE, &content) || !der_get_oid(&content, &oid))
        return ERR_BAD_DER;
    if (content.len != 0) /* there is an eContent: not certs-only */
        return ERR_BAD_DER;
    if (!der_get_optional(&signed_data, DER_CONTEXT_CONSTRUCTED(0), &certs, &has_certs))
        return ERR_BAD_DER;
    if (der_peek(signed_data) == DER_CONTEXT_CONSTRUCTED(1) &&
        (!der_get_element(&signed_data, DER_CONTEXT_CONSTRUCTED(1), &ignored) ||
         !der_is_strict(ignored)))
        return ERR_BAD_DER;
    if (!der_get(&signed_data, DER_SET, &ignored) || ignored.len != 0)
        return ERR_BAD_DER; /* somebody signed: not certs-only */
    if (signed_data.len != 0)
        return ERR_DER_TRAILING;

    /* First count, so that a failure leaves the output alone. Order is not demanded: OpenSSL writes
     * this SET OF in the order it was given. */
    for (counting = certs; counting.len > 0; count++)
        if (!der_get_element(&counting, DER_SEQUENCE, &ignored))
            return ERR_BAD_DER;
    if (count > max)
        return ERR_NO_SPACE;
    for (size_t i = 0; i < count; i++)
        if (!der_get_element(&certs, DER_SEQUENCE, &out_certs[i]))
            return ERR_BAD_DER;
    *out_count = count;
    return ERR_OK;
}
