/* softkey_der.c: encodings of private keys and of their public halves. */
#include "crypto/softkey_impl.h"

#include "asn1/der.h"
#include "asn1/oid.h"
#include "base/secret.h"

enum { PEM_KEY_MAX = 8192 };

/* --- algorithm identifiers --- */

static void put_algorithm(struct der_builder *builder, const struct softkey *key)
{
    switch (key->alg) {
    case KEY_EC_P256:
    case KEY_EC_P384: /* RFC 5480 2.1.1: the curve as parameters */
        der_open(builder, DER_SEQUENCE);
        der_put(builder, DER_OID, OID_EC_PUBLIC_KEY);
        der_put(builder, DER_OID, key->alg == KEY_EC_P256 ? OID_P256 : OID_P384);
        der_close(builder);
        return;
    case KEY_RSA: /* RFC 3279 2.3.1: NULL parameters */
        der_open(builder, DER_SEQUENCE);
        der_put(builder, DER_OID, OID_RSA);
        der_put_null(builder);
        der_close(builder);
        return;
    default: /* RFC 8410 3, RFC 9881 2: one identifier for keys and signatures */
        der_put_raw(builder, sig_alg_der(sig_alg_default(key->alg)));
    }
}

/* contents of an AlgorithmIdentifier SEQUENCE */
static enum key_alg algorithm_of(struct bytes contents)
{
    for (enum key_alg alg = KEY_ED25519; alg <= KEY_ML_DSA_65; alg++) {
        struct bytes der = sig_alg_der(sig_alg_default(alg)), body;
        if (der_get(&der, DER_SEQUENCE, &body) && bytes_eq(body, contents))
            return alg;
    }
    struct bytes oid, curve, nothing;
    if (!der_get_oid(&contents, &oid))
        return KEY_NONE;
    if (bytes_eq(oid, OID_RSA) && der_get(&contents, DER_NULL, &nothing) && nothing.len == 0 &&
        contents.len == 0)
        return KEY_RSA;
    if (!bytes_eq(oid, OID_EC_PUBLIC_KEY) || !der_get_oid(&contents, &curve) || contents.len != 0)
        return KEY_NONE;
    if (bytes_eq(curve, OID_P256))
        return KEY_EC_P256;
    return bytes_eq(curve, OID_P384) ? KEY_EC_P384 : KEY_NONE;
}

/* --- public --- */

static enum err put_rsa_number(struct der_builder *builder, const mp_int *number)
{
    uint8_t buf[RSA_LEN_MAX];
    struct bytes view;
    enum err err = softkey_number(number, buf, &view);
    if (!err)
        der_put_unsigned(builder, view);
    secret_wipe(buf, sizeof buf);
    return err;
}

static enum err put_public(struct der_builder *builder, const struct softkey *key)
{
    switch (key->alg) {
    case KEY_EC_P256:
    case KEY_EC_P384:
        der_put_bits(builder, bytes_of(key->ec.point, 1 + 2 * ec_coordinate_len(key->alg)));
        return ERR_OK;
    case KEY_ED25519:
        der_put_bits(builder, BYTES_ARRAY(key->ed25519.public));
        return ERR_OK;
    case KEY_ML_DSA_44:
    case KEY_ML_DSA_65:
        der_put_bits(builder, bytes_of(key->ml_dsa.public, key->ml_dsa.public_len));
        return ERR_OK;
    default:
        break;
    }
    /* RFC 3279 2.3.1: the BIT STRING holds an RSAPublicKey */
    der_open(builder, DER_BIT_STRING);
    der_put_raw(builder, BYTES_LIT("\x00")); /* no unused bits */
    der_open(builder, DER_SEQUENCE);
    enum err err = put_rsa_number(builder, &key->rsa.n);
    if (!err)
        err = put_rsa_number(builder, &key->rsa.e);
    der_close(builder);
    der_close(builder);
    return err;
}

static enum err finish(const struct der_builder *builder, size_t *out_len)
{
    struct bytes der;
    if (!der_finish(builder, &der))
        return ERR_NO_SPACE;
    *out_len = der.len;
    return ERR_OK;
}

enum err softkey_spki(const struct softkey *key, uint8_t *out, size_t cap, size_t *out_len)
{
    struct der_builder builder = der_builder_of(out, cap);
    der_open(&builder, DER_SEQUENCE);
    put_algorithm(&builder, key);
    enum err err = put_public(&builder, key);
    if (err)
        return err;
    der_close(&builder);
    return finish(&builder, out_len);
}

/* --- private, out --- */

/* RFC 5915: parameters are named by PKCS#8 around it; the public key is there. */
static void put_ec_private(struct der_builder *builder, const struct softkey *key)
{
    size_t len = ec_coordinate_len(key->alg);
    der_open(builder, DER_SEQUENCE);
    der_put_u64(builder, DER_INTEGER, 1);
    der_put(builder, DER_OCTET_STRING, bytes_of(key->ec.d, len));
    der_open(builder, DER_CONTEXT_CONSTRUCTED(1));
    der_put_bits(builder, bytes_of(key->ec.point, 1 + 2 * len));
    der_close(builder);
    der_close(builder);
}

/* RFC 8017 A.1.2 */
static enum err put_rsa_private(struct der_builder *builder, const struct softkey *key)
{
    const struct softkey_rsa *rsa = &key->rsa;
    const mp_int *numbers[] = {&rsa->n, &rsa->e,  &rsa->d,  &rsa->p,
                               &rsa->q, &rsa->dp, &rsa->dq, &rsa->qinv};
    der_open(builder, DER_SEQUENCE);
    der_put_u64(builder, DER_INTEGER, 0);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        enum err err = put_rsa_number(builder, numbers[i]);
        if (err)
            return err;
    }
    der_close(builder);
    return ERR_OK;
}

static enum err put_private(struct der_builder *builder, const struct softkey *key)
{
    switch (key->alg) {
    case KEY_EC_P256:
    case KEY_EC_P384:
        put_ec_private(builder, key);
        return ERR_OK;
    case KEY_RSA:
        return put_rsa_private(builder, key);
    case KEY_ED25519: /* RFC 8410 7: CurvePrivateKey ::= OCTET STRING */
        der_put(builder, DER_OCTET_STRING, BYTES_ARRAY(key->ed25519.seed));
        return ERR_OK;
    default: /* RFC 9881 6: seed [0] */
        der_put(builder, DER_CONTEXT(0), BYTES_ARRAY(key->ml_dsa.seed));
        return ERR_OK;
    }
}

enum err softkey_export(const struct softkey *key, uint8_t *out, size_t cap, size_t *out_len)
{
    struct der_builder builder = der_builder_of(out, cap);
    der_open(&builder, DER_SEQUENCE); /* RFC 5958 2: OneAsymmetricKey, version v1 */
    der_put_u64(&builder, DER_INTEGER, 0);
    put_algorithm(&builder, key);
    der_open(&builder, DER_OCTET_STRING);
    enum err err = put_private(&builder, key);
    if (!err) {
        der_close(&builder);
        der_close(&builder);
        err = finish(&builder, out_len);
    }
    if (err)
        secret_wipe(out, cap);
    return err;
}

/* --- private, in --- */

/* RFC 5915 ECPrivateKey; alg KEY_NONE: the curve is named inside. */
static enum err get_ec_private(struct bytes der, enum key_alg alg, struct softkey **out)
{
    struct bytes body, d, inner, point = {0};
    uint64_t version;
    bool has_parameters, has_public;
    if (!der_get(&der, DER_SEQUENCE, &body) || der.len != 0 || !der_get_u64(&body, &version) ||
        version != 1 || !der_get(&body, DER_OCTET_STRING, &d) ||
        !der_get_optional(&body, DER_CONTEXT_CONSTRUCTED(0), &inner, &has_parameters))
        return ERR_BAD_KEY;
    if (has_parameters) {
        enum key_alg named =
            bytes_eq(inner, BYTES_LIT("\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07")) ? KEY_EC_P256
            : bytes_eq(inner, BYTES_LIT("\x06\x05\x2b\x81\x04\x00\x22"))           ? KEY_EC_P384
                                                                                   : KEY_NONE;
        if (named == KEY_NONE || (alg != KEY_NONE && alg != named))
            return ERR_BAD_KEY;
        alg = named;
    }
    if (!der_get_optional(&body, DER_CONTEXT_CONSTRUCTED(1), &inner, &has_public) || body.len != 0)
        return ERR_BAD_KEY;
    if (has_public && (!der_get_bits(&inner, &point) || inner.len != 0))
        return ERR_BAD_KEY;
    if (alg == KEY_NONE || d.len != ec_coordinate_len(alg))
        return ERR_BAD_KEY;
    struct softkey *key = softkey_new(alg);
    if (!key)
        return ERR_INTERNAL;
    enum err err = softkey_set_ec(key, d.ptr);
    /* A public key that comes along is a claim; ours is computed. */
    if (!err && has_public && !bytes_eq(point, bytes_of(key->ec.point, 1 + 2 * d.len)))
        err = ERR_BAD_KEY;
    if (err) {
        softkey_free(key);
        return err;
    }
    *out = key;
    return ERR_OK;
}

static bool get_number(struct bytes *reader, mp_int *out)
{
    struct bytes number;
    return der_get_integer(reader, &number) && !(number.ptr[0] & 0x80) &&
           number.len <= RSA_LEN_MAX + 1 &&
           mp_read_unsigned_bin(out, number.ptr, (word32)number.len) == MP_OKAY;
}

/* RFC 8017 A.1.2, two primes. */
static enum err get_rsa_private(struct bytes der, struct softkey **out)
{
    struct bytes body;
    uint64_t version;
    if (!der_get(&der, DER_SEQUENCE, &body) || der.len != 0 || !der_get_u64(&body, &version) ||
        version != 0)
        return ERR_BAD_KEY;
    struct softkey *key = softkey_new(KEY_RSA);
    if (!key)
        return ERR_INTERNAL;
    struct softkey_rsa *rsa = &key->rsa;
    bool good = get_number(&body, &rsa->n) && get_number(&body, &rsa->e) &&
                get_number(&body, &rsa->d) && get_number(&body, &rsa->p) &&
                get_number(&body, &rsa->q) && get_number(&body, &rsa->dp) &&
                get_number(&body, &rsa->dq) && get_number(&body, &rsa->qinv) && body.len == 0;
    if (!good || softkey_check_rsa(key)) {
        softkey_free(key);
        return ERR_BAD_KEY;
    }
    *out = key;
    return ERR_OK;
}

/* RFC 8410 7; RFC 9881 6: seed [0], or both { seed, expandedKey }. */
static enum err get_seed(struct bytes der, enum key_alg alg, struct softkey **out)
{
    struct bytes seed, both, expanded;
    bool has_both = false;
    uint8_t seed_tag = alg == KEY_ED25519 ? DER_OCTET_STRING : DER_CONTEXT(0);
    if (alg != KEY_ED25519) {
        if (!der_get_optional(&der, DER_SEQUENCE, &both, &has_both))
            return ERR_BAD_KEY;
        if (has_both && (!der_get(&both, DER_OCTET_STRING, &seed) ||
                         !der_get(&both, DER_OCTET_STRING, &expanded) || both.len != 0))
            return ERR_BAD_KEY;
    }
    if ((!has_both && !der_get(&der, seed_tag, &seed)) || der.len != 0 ||
        seed.len != ML_DSA_SEED_LEN)
        return ERR_BAD_KEY;
    struct softkey *key = softkey_new(alg);
    if (!key)
        return ERR_INTERNAL;
    enum err err =
        alg == KEY_ED25519 ? softkey_set_ed25519(key, seed.ptr) : softkey_set_ml_dsa(key, seed.ptr);
    if (!err && has_both &&
        !secret_eq(expanded, bytes_of(key->ml_dsa.private, key->ml_dsa.private_len)))
        err = ERR_BAD_KEY;
    if (err) {
        softkey_free(key);
        return err;
    }
    *out = key;
    return ERR_OK;
}

/* RFC 5958 2: version, algorithm, key, [0] attributes, [1] public key; the last two are skipped,
 * for what they could say is computed. `body` is behind the version. */
static enum err get_pkcs8(struct bytes body, struct softkey **out)
{
    struct bytes algorithm, private, skipped;
    bool present;
    if (!der_get(&body, DER_SEQUENCE, &algorithm) || !der_get(&body, DER_OCTET_STRING, &private) ||
        !der_get_optional(&body, DER_CONTEXT_CONSTRUCTED(0), &skipped, &present) ||
        !der_get_optional(&body, DER_CONTEXT(1), &skipped, &present) || body.len != 0)
        return ERR_BAD_KEY;
    enum key_alg alg = algorithm_of(algorithm);
    switch (alg) {
    case KEY_EC_P256:
    case KEY_EC_P384:
        return get_ec_private(private, alg, out);
    case KEY_RSA:
        return get_rsa_private(private, out);
    case KEY_ED25519:
    case KEY_ML_DSA_44:
    case KEY_ML_DSA_65:
        return get_seed(private, alg, out);
    case KEY_NONE:
    case KEY_ALG_COUNT:
        break;
    }
    return ERR_BAD_ALG;
}

enum err softkey_import(struct bytes der, struct softkey **out)
{
    struct bytes all = der, body;
    uint64_t version;
    if (!der_get(&all, DER_SEQUENCE, &body) || all.len != 0 || !der_get_u64(&body, &version) ||
        version > 1)
        return ERR_BAD_KEY;
    /* All three forms start with a version; what comes next tells them apart. */
    switch (der_peek(body)) {
    case DER_SEQUENCE:
        return get_pkcs8(body, out);
    case DER_OCTET_STRING:
        return get_ec_private(der, KEY_NONE, out);
    case DER_INTEGER:
        return get_rsa_private(der, out);
    default:
        return ERR_BAD_KEY;
    }
}

enum err softkey_import_pem(struct bytes text, struct softkey **out)
{
    static const char *const types[] = {"PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"};
    uint8_t der[PEM_KEY_MAX];
    size_t len = 0;
    enum err err = ERR_NOT_FOUND;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]) && err == ERR_NOT_FOUND; i++) {
        struct bytes reader = text;
        err = pem_next(&reader, types[i], der, sizeof(der), &len);
    }
    if (err == ERR_OK)
        err = softkey_import(bytes_of(der, len), out);
    secret_wipe(der, sizeof(der));
    return err;
}
