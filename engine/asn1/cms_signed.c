/* cms_signed.c: SignedData with content and one signer (RFC 5652 section 5). */
#include "asn1/cms.h"

#include "asn1/der.h"
#include "asn1/oid.h"

static enum err finish(const struct der_builder *builder, size_t *out_len)
{
    struct bytes all;
    if (!der_finish(builder, &all))
        return ERR_NO_SPACE;
    *out_len = all.len;
    return ERR_OK;
}

enum err cms_content_info_build(struct bytes content_type, struct bytes content_der, uint8_t *out,
                                size_t cap, size_t *out_len)
{
    struct der_builder builder = der_builder_of(out, cap);
    der_open(&builder, DER_SEQUENCE);
    der_put(&builder, DER_OID, content_type);
    der_open(&builder, DER_CONTEXT_CONSTRUCTED(0));
    der_put_raw(&builder, content_der);
    der_close(&builder);
    der_close(&builder);
    return finish(&builder, out_len);
}

/* Attribute ::= SEQUENCE { attrType, attrValues SET } with one value. */
static bool attribute(struct bytes type, uint8_t tag, struct bytes value, uint8_t *buf, size_t cap,
                      struct bytes *out_der)
{
    struct der_builder builder = der_builder_of(buf, cap);
    der_open(&builder, DER_SEQUENCE);
    der_put(&builder, DER_OID, type);
    der_open(&builder, DER_SET);
    der_put(&builder, tag, value);
    der_close(&builder);
    der_close(&builder);
    return der_finish(&builder, out_der);
}

static void put_algorithm(struct der_builder *builder, struct bytes oid)
{
    der_open(builder, DER_SEQUENCE); /* RFC 5754 2: no parameters */
    der_put(builder, DER_OID, oid);
    der_close(builder);
}

/* RFC 6211 2: CMSAlgorithmProtection ::= SEQUENCE { digestAlgorithm, signatureAlgorithm [1] }, so
 * that neither can be replaced by a weaker one. */
static bool algorithm_protection(const struct cms_attrs *attrs, uint8_t *buf, size_t cap,
                                 struct bytes *out_contents)
{
    struct der_builder builder = der_builder_of(buf, cap);
    struct bytes sig_alg = attrs->sig_alg, contents;
    if (!der_get(&sig_alg, DER_SEQUENCE, &contents) || sig_alg.len != 0)
        return false;
    put_algorithm(&builder, attrs->digest_oid);
    der_put(&builder, DER_CONTEXT_CONSTRUCTED(1), contents);
    return der_finish(&builder, out_contents);
}

enum err cms_signed_attrs_build(const struct cms_attrs *attrs, uint8_t *out, size_t cap,
                                size_t *out_len)
{
    uint8_t bufs[4][CMS_SIGNED_ATTRS_MAX];
    size_t buf_cap = sizeof bufs[0];
    struct bytes protection, attributes[3];
    if (!algorithm_protection(attrs, bufs[3], buf_cap, &protection) ||
        !attribute(OID_CONTENT_TYPE, DER_OID, attrs->content_type, bufs[0], buf_cap,
                   &attributes[0]) ||
        !attribute(OID_MESSAGE_DIGEST, DER_OCTET_STRING, attrs->digest, bufs[1], buf_cap,
                   &attributes[1]) ||
        !attribute(OID_ALGORITHM_PROTECTION, DER_SEQUENCE, protection, bufs[2], buf_cap,
                   &attributes[2]))
        return ERR_NO_SPACE;
    struct der_builder builder = der_builder_of(out, cap);
    der_open(&builder, DER_SET);
    der_put_set_of(&builder, attributes, 3);
    der_close(&builder);
    return finish(&builder, out_len);
}

static void put_signer(struct der_builder *builder, const struct cms_signed *parts)
{
    bool has_ski = parts->ski.len != 0;
    struct bytes attrs = parts->signed_attrs, contents = {0};
    if (!der_get(&attrs, DER_SET, &contents) || attrs.len != 0)
        builder->out.failed = true;
    der_open(builder, DER_SEQUENCE);
    der_put_u64(builder, DER_INTEGER, has_ski ? 3 : 1); /* RFC 5652 5.3 */
    if (has_ski) {
        der_put(builder, DER_CONTEXT(0), parts->ski);
    } else {
        der_open(builder, DER_SEQUENCE);
        der_put_raw(builder, parts->issuer);
        der_put(builder, DER_INTEGER, parts->serial);
        der_close(builder);
    }
    put_algorithm(builder, parts->digest_oid);
    der_put(builder, DER_CONTEXT_CONSTRUCTED(0), contents);
    der_put_raw(builder, parts->sig_alg);
    der_put(builder, DER_OCTET_STRING, parts->signature);
    der_close(builder);
}

enum err cms_signed_build(const struct cms_signed *parts, uint8_t *out, size_t cap, size_t *out_len)
{
    struct der_builder builder = der_builder_of(out, cap);
    /* RFC 5652 5.1: 3 for a signer named by SKI or content that is not data, else 1 */
    bool is_3 = parts->ski.len != 0 || !bytes_eq(parts->content_type, OID_CMS_DATA);
    der_open(&builder, DER_SEQUENCE);
    der_put_u64(&builder, DER_INTEGER, is_3 ? 3 : 1);
    der_open(&builder, DER_SET);
    put_algorithm(&builder, parts->digest_oid);
    der_close(&builder);
    der_open(&builder, DER_SEQUENCE);
    der_put(&builder, DER_OID, parts->content_type);
    der_open(&builder, DER_CONTEXT_CONSTRUCTED(0));
    der_put(&builder, DER_OCTET_STRING, parts->content);
    der_close(&builder);
    der_close(&builder);
    if (parts->cert_count != 0) {
        der_open(&builder, DER_CONTEXT_CONSTRUCTED(0));
        der_put_set_of(&builder, parts->certs, parts->cert_count);
        der_close(&builder);
    }
    der_open(&builder, DER_SET);
    put_signer(&builder, parts);
    der_close(&builder);
    der_close(&builder);
    return finish(&builder, out_len);
}
