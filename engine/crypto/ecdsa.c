#include "crypto/ecdsa.h"

#include <wolfssl/wolfcrypt/sp.h>

#include "asn1/der.h"
#include "crypto/verify.h"

struct curve {
    size_t len;
    int id;
    uint8_t p[EC_LEN_MAX]; /* field prime */
    uint8_t n[EC_LEN_MAX]; /* order of the base point; the cofactor is 1 */
};

/* SEC 2 v2 section 2.4.2 (secp256r1) and 2.5.1 (secp384r1). */
static const struct curve p256 = {
    .len = 32,
    .id = ECC_SECP256R1,
    .p = {0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00,
          0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff,
          0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
    .n = {0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff,
          0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17,
          0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51},
};
static const struct curve p384 = {
    .len = 48,
    .id = ECC_SECP384R1,
    .p = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
          0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
          0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff, 0xff,
          0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff},
    .n = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
          0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
          0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf, 0x58, 0x1a, 0x0d, 0xb2,
          0x48, 0xb0, 0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73},
};

static const struct curve *curve_of(enum key_alg alg)
{
    if (alg == KEY_EC_P256)
        return &p256;
    if (alg == KEY_EC_P384)
        return &p384;
    return NULL;
}

size_t ec_coordinate_len(enum key_alg alg)
{
    const struct curve *curve = curve_of(alg);
    return curve ? curve->len : 0;
}

int ec_curve_id(enum key_alg alg)
{
    const struct curve *curve = curve_of(alg);
    return curve ? curve->id : ECC_CURVE_INVALID;
}

static bool is_zero(const uint8_t *value, size_t len)
{
    uint8_t any = 0;
    for (size_t i = 0; i < len; i++)
        any |= value[i];
    return any == 0;
}

bool ec_scalar_is_valid(enum key_alg alg, const uint8_t *value)
{
    const struct curve *curve = curve_of(alg);
    return curve && !is_zero(value, curve->len) && memcmp(value, curve->n, curve->len) < 0;
}

static bool read_number(mp_int *out, const uint8_t *value, size_t len)
{
    return mp_init(out) == MP_OKAY && mp_read_unsigned_bin(out, value, (word32)len) == MP_OKAY;
}

bool ec_point_is_plausible(enum key_alg alg, struct bytes point)
{
    const struct curve *curve = curve_of(alg);
    /* SEC 1 2.3.4: 04 || x || y. Neither the point at infinity (00) nor compression. */
    if (!curve || point.len != 1 + 2 * curve->len || point.ptr[0] != 0x04)
        return false;
    /* SEC 1 3.2.2.1, step 2: coordinates are field elements... */
    return memcmp(point.ptr + 1, curve->p, curve->len) < 0 &&
           memcmp(point.ptr + 1 + curve->len, curve->p, curve->len) < 0;
}

enum err ec_point_import(enum key_alg alg, struct bytes point, struct ec_point *out)
{
    if (!ec_point_is_plausible(alg, point))
        return ERR_BAD_KEY;
    size_t len = curve_of(alg)->len;
    static const uint8_t one = 1;
    if (!read_number(&out->x, point.ptr + 1, len) ||
        !read_number(&out->y, point.ptr + 1 + len, len) || !read_number(&out->z, &one, 1))
        return ERR_BAD_KEY;
    /* ...step 3: and satisfy the curve's equation. Step 4, n * Q = O, follows from these, since the
     * cofactor is 1 (step 4's note). */
    int rc = alg == KEY_EC_P256 ? sp_ecc_is_point_256(&out->x, &out->y)
                                : sp_ecc_is_point_384(&out->x, &out->y);
    if (rc != MP_OKAY)
        return ERR_BAD_KEY;
    out->alg = alg;
    return ERR_OK;
}

enum err ecdsa_verify(const struct ec_point *key, struct bytes digest, struct bytes signature_der)
{
    const struct curve *curve = curve_of(key->alg);
    uint8_t raw[2 * EC_LEN_MAX];
    /* FIPS 186-4 6.4.2, step 1: r and s are in 1..n-1. */
    if (!curve || !ecdsa_der_to_raw(signature_der, raw, curve->len) ||
        !ec_scalar_is_valid(key->alg, raw) || !ec_scalar_is_valid(key->alg, raw + curve->len))
        return ERR_BAD_SIGNATURE;
    mp_int r, s;
    if (!read_number(&r, raw, curve->len) || !read_number(&s, raw + curve->len, curve->len))
        return ERR_BAD_SIGNATURE;
    int good = 0;
    word32 digest_len = (word32)(digest.len < curve->len ? digest.len : curve->len);
    int rc = key->alg == KEY_EC_P256 ? sp_ecc_verify_256(digest.ptr, digest_len, &key->x, &key->y,
                                                         &key->z, &r, &s, &good, NULL)
                                     : sp_ecc_verify_384(digest.ptr, digest_len, &key->x, &key->y,
                                                         &key->z, &r, &s, &good, NULL);
    return rc == MP_OKAY && good == 1 ? ERR_OK : ERR_BAD_SIGNATURE;
}

bool ecdsa_raw_to_der(struct bytes raw, uint8_t *out, size_t cap, size_t *out_len)
{
    size_t len = raw.len / 2;
    if (raw.len == 0 || raw.len % 2 != 0 || is_zero(raw.ptr, len) || is_zero(raw.ptr + len, len))
        return false;
    struct der_builder builder = der_builder_of(out, cap);
    der_open(&builder, DER_SEQUENCE);
    der_put_unsigned(&builder, bytes_of(raw.ptr, len));
    der_put_unsigned(&builder, bytes_of(raw.ptr + len, len));
    der_close(&builder);
    struct bytes der;
    if (!der_finish(&builder, &der))
        return false;
    *out_len = der.len;
    return true;
}

/* One of r and s into coordinate_len bytes. */
static bool get_number(struct bytes *reader, uint8_t *out, size_t coordinate_len)
{
    struct bytes number;
    if (!der_get_integer(reader, &number) || number.ptr[0] & 0x80) /* negative (X.690 8.3) */
        return false;
    if (number.ptr[0] ==
        0) { /* the sign octet; minimal, so a positive number follows, or it is 0 */
        number.ptr++;
        number.len--;
    }
    if (number.len == 0 || number.len > coordinate_len)
        return false;
    memset(out, 0, coordinate_len - number.len);
    memcpy(out + coordinate_len - number.len, number.ptr, number.len);
    return true;
}

/* RFC 3279 2.2.3: Ecdsa-Sig-Value ::= SEQUENCE { r INTEGER, s INTEGER } */
bool ecdsa_der_to_raw(struct bytes der, uint8_t *out, size_t coordinate_len)
{
    uint8_t raw[2 * EC_LEN_MAX];
    struct bytes body;
    if (coordinate_len > EC_LEN_MAX || !der_get(&der, DER_SEQUENCE, &body) || der.len != 0 ||
        !get_number(&body, raw, coordinate_len) ||
        !get_number(&body, raw + coordinate_len, coordinate_len) || body.len != 0)
        return false;
    memcpy(out, raw, 2 * coordinate_len);
    return true;
}
