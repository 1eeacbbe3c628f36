#include "asn1/der.h"
#include "asn1/oid.h"
#include "proto/est.h"

/* The elements of CsrAttrs (RFC 8951 4), in the order of its example, each in its own function. */

static const struct {
    uint32_t bit;
    const struct bytes *oid;
} ext_key_usages[] = {
    {EKU_SERVER_AUTH, &OID_EKU_SERVER_AUTH}, {EKU_CLIENT_AUTH, &OID_EKU_CLIENT_AUTH},
    {EKU_CMC_RA, &OID_EKU_CMC_RA},           {EKU_CMC_CA, &OID_EKU_CMC_CA},
    {EKU_CM_KGA, &OID_EKU_CM_KGA},           {EKU_ANY, &OID_EKU_ANY},
};
enum { EKU_KNOWN = 0x3f };

static void put_oid(struct der_builder *out, struct bytes oid)
{
    der_put(out, DER_OID, oid);
}

/* Opens Attribute ::= SEQUENCE { type, values SET OF }; attribute_close closes both. */
static void attribute_open(struct der_builder *out, struct bytes oid)
{
    der_open(out, DER_SEQUENCE);
    put_oid(out, oid);
    der_open(out, DER_SET);
}

static void attribute_close(struct der_builder *out)
{
    der_close(out);
    der_close(out);
}

/* Key algorithms without parameters share identifiers with their signature algorithm (RFC 8410 3).
 */
static struct bytes plain_algorithm(enum key_alg alg)
{
    switch (alg) {
    case KEY_ED25519:
        return sig_alg_der(SIG_ED25519);
    case KEY_ML_DSA_44:
        return sig_alg_der(SIG_ML_DSA_44);
    case KEY_ML_DSA_65:
        return sig_alg_der(SIG_ML_DSA_65);
    default:
        return (struct bytes){0};
    }
}

/* RFC 9908 3.2: one Attribute of the key type; its value is the curve or the modulus bits. */
static enum err put_key_attribute(struct der_builder *out, enum key_alg alg, uint32_t rsa_bits)
{
    struct bytes algorithm, contents, oid;

    switch (alg) {
    case KEY_EC_P256:
    case KEY_EC_P384:
        attribute_open(out, OID_EC_PUBLIC_KEY);
        put_oid(out, alg == KEY_EC_P256 ? OID_P256 : OID_P384);
        break;
    case KEY_RSA:
        attribute_open(out, OID_RSA);
        if (rsa_bits > 0)
            der_put_u64(out, DER_INTEGER, rsa_bits);
        break;
    default:
        algorithm = plain_algorithm(alg);
        if (!der_get(&algorithm, DER_SEQUENCE, &contents) || !der_get_oid(&contents, &oid))
            return ERR_BAD_ALG;
        attribute_open(out, oid);
        break;
    }
    attribute_close(out);
    return ERR_OK;
}

static void put_ext_key_usage(struct der_builder *out, uint32_t usages)
{
    der_open(out, DER_SEQUENCE);
    put_oid(out, OID_EXT_EKU);
    der_open(out, DER_OCTET_STRING);
    der_open(out, DER_SEQUENCE);
    for (size_t i = 0; i < sizeof(ext_key_usages) / sizeof(ext_key_usages[0]); i++)
        if (usages & ext_key_usages[i].bit)
            put_oid(out, *ext_key_usages[i].oid);
    der_close(out);
    der_close(out);
    der_close(out);
}

/* One id-ExtensionReq with one Extensions (RFC 9908 3.2): only extensions whose value is known. */
static void put_extension_request(struct der_builder *out, uint32_t usages)
{
    attribute_open(out, OID_EXTENSION_REQUEST);
    der_open(out, DER_SEQUENCE);
    put_ext_key_usage(out, usages);
    der_close(out);
    attribute_close(out);
}

/* RFC 9908 3.4: extensions whose value the client fills in stand there without one; then all of
 * them are in the template form, since it may not stand beside id-ExtensionReq. */
static void put_extension_template(struct der_builder *out, uint32_t usages)
{
    attribute_open(out, OID_EXT_REQ_TEMPLATE);
    der_open(out, DER_SEQUENCE);
    der_open(out, DER_SEQUENCE);
    put_oid(out, OID_EXT_SAN);
    der_close(out);
    if (usages != 0)
        put_ext_key_usage(out, usages);
    der_close(out);
    attribute_close(out);
}

/* RSAPublicKey whose modulus is a placeholder of the wanted length (RFC 9908 3.4). */
static void put_rsa_placeholder(struct der_builder *out, uint32_t bits)
{
    uint8_t key[4096 / 8 + 32];
    uint8_t modulus[4096 / 8] = {0x80};
    struct der_builder builder = der_builder_of(key, sizeof(key));
    struct bytes der;

    der_open(&builder, DER_SEQUENCE);
    der_put_unsigned(&builder, bytes_of(modulus, bits / 8));
    der_put_u64(&builder, DER_INTEGER, 65537);
    der_close(&builder);
    if (der_finish(&builder, &der))
        der_put_bits(out, der);
    else
        out->out.failed = true;
}

/* SubjectPublicKeyInfoTemplate, [0] IMPLICIT */
static void put_key_template(struct der_builder *out, enum key_alg alg, uint32_t rsa_bits)
{
    der_open(out, DER_CONTEXT_CONSTRUCTED(0));
    if (alg == KEY_EC_P256 || alg == KEY_EC_P384) {
        der_open(out, DER_SEQUENCE);
        put_oid(out, OID_EC_PUBLIC_KEY);
        put_oid(out, alg == KEY_EC_P256 ? OID_P256 : OID_P384);
        der_close(out);
    } else if (alg == KEY_RSA) {
        der_open(out, DER_SEQUENCE);
        put_oid(out, OID_RSA);
        der_put_null(out);
        der_close(out);
        if (rsa_bits > 0)
            put_rsa_placeholder(out, rsa_bits);
    } else {
        der_put_raw(out, plain_algorithm(alg));
    }
    der_close(out);
}

/* CertificationRequestInfoTemplate (RFC 9908 3.4); no subject: nothing is demanded of it here. */
static void put_template(struct der_builder *out, const struct est_csr_attrs *attrs)
{
    attribute_open(out, OID_CERT_REQ_TEMPLATE);
    der_open(out, DER_SEQUENCE);
    der_put_u64(out, DER_INTEGER, 0);
    if (attrs->key_alg_count > 0)
        put_key_template(out, attrs->key_algs[0], attrs->rsa_bits);
    der_open(out, DER_CONTEXT_CONSTRUCTED(1));
    if (attrs->want_san)
        put_extension_template(out, attrs->ext_key_usage);
    else if (attrs->ext_key_usage != 0)
        put_extension_request(out, attrs->ext_key_usage);
    der_close(out);
    der_close(out);
    attribute_close(out);
}

enum err est_csr_attrs_build(const struct est_csr_attrs *attrs, uint8_t *out, size_t cap,
                             size_t *out_len)
{
    struct der_builder builder = der_builder_of(out, cap);
    struct bytes der;

    if ((attrs->ext_key_usage & ~(uint32_t)EKU_KNOWN) != 0 || attrs->rsa_bits > 4096 ||
        attrs->rsa_bits % 8 != 0)
        return ERR_UNSUPPORTED;
    if (attrs->key_alg_count == 0 && !attrs->want_challenge_password && !attrs->want_san &&
        attrs->ext_key_usage == 0) {
        *out_len = 0;
        return ERR_OK;
    }
    der_open(&builder, DER_SEQUENCE);
    if (attrs->want_challenge_password)
        put_oid(&builder, OID_CHALLENGE_PASSWORD);
    if (attrs->key_alg_count > 0) {
        enum err err = put_key_attribute(&builder, attrs->key_algs[0], attrs->rsa_bits);
        if (err != ERR_OK)
            return err;
    }
    if (attrs->ext_key_usage != 0)
        put_extension_request(&builder, attrs->ext_key_usage);
    if (attrs->want_san)
        put_oid(&builder, OID_EXT_SAN);
    /* A client that knows the template ignores everything beside it (RFC 9908 4), and the template
     * cannot ask for a value that changes with each TLS session: when linking is demanded, the list
     * stands alone. */
    if (!attrs->want_challenge_password)
        put_template(&builder, attrs);
    der_close(&builder);
    if (!der_finish(&builder, &der))
        return ERR_NO_SPACE;
    *out_len = der.len;
    return ERR_OK;
}
