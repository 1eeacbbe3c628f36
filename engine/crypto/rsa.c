#include "crypto/rsa.h"

#include <wolfssl/options.h>

#include <wolfssl/wolfcrypt/sp.h>
#include <wolfssl/wolfcrypt/sp_int.h>

#include "base/secret.h"
#include "crypto/digest.h"
#include "crypto/hash.h"

/* The DER of DigestInfo up to the hash itself (RFC 8017 9.2, note 1). */
static const uint8_t prefix_sha256[] = {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                        0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20};
static const uint8_t prefix_sha384[] = {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                        0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30};
static const uint8_t prefix_sha512[] = {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01,
                                        0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40};

static bool digest_info_prefix(enum hash_alg hash, struct bytes *out)
{
    switch (hash) {
    case HASH_SHA256:
        *out = BYTES_ARRAY(prefix_sha256);
        return true;
    case HASH_SHA384:
        *out = BYTES_ARRAY(prefix_sha384);
        return true;
    case HASH_SHA512:
        *out = BYTES_ARRAY(prefix_sha512);
        return true;
    default:
        return false; /* SHA-1 signatures are not accepted */
    }
}

static bool is_pss(enum sig_alg alg)
{
    return alg == SIG_RSA_PSS_SHA256 || alg == SIG_RSA_PSS_SHA384 || alg == SIG_RSA_PSS_SHA512;
}

static bool is_pkcs1(enum sig_alg alg)
{
    return alg == SIG_RSA_SHA256 || alg == SIG_RSA_SHA384 || alg == SIG_RSA_SHA512;
}

static uint32_t bit_len(struct bytes number)
{
    while (number.len > 0 && number.ptr[0] == 0) {
        number.ptr++;
        number.len--;
    }
    if (number.len == 0)
        return 0;
    return (uint32_t)(number.len * 8) - (uint32_t)__builtin_clz(number.ptr[0]) + 24;
}

enum err rsa_public_check(struct bytes modulus, struct bytes exponent)
{
    uint32_t bits = bit_len(modulus);
    uint32_t exponent_bits = bit_len(exponent);
    if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX || modulus.ptr[0] == 0 ||
        !(modulus.ptr[modulus.len - 1] & 1))
        return ERR_BAD_KEY;
    /* Odd and 3..2^32: FIPS 186-4 wants > 2^16, but 3 and 17 are in old devices. A larger exponent
     * is a way to make us work, not a use. */
    if (exponent_bits < 2 || exponent_bits > 32 || !(exponent.ptr[exponent.len - 1] & 1))
        return ERR_BAD_KEY;
    return ERR_OK;
}

enum err rsa_public(struct bytes modulus, struct bytes exponent, struct bytes in, uint8_t *out)
{
    /* RFC 8017 8.2.2 step 1: the signature has exactly k octets; 5.2.2 step 1: and is below n. */
    if (in.len != modulus.len || in.len > RSA_LEN_MAX || memcmp(in.ptr, modulus.ptr, in.len) >= 0)
        return ERR_BAD_SIGNATURE;
    mp_int n, e;
    if (mp_init_multi(&n, &e, NULL, NULL, NULL, NULL) != MP_OKAY ||
        mp_read_unsigned_bin(&n, modulus.ptr, (word32)modulus.len) != MP_OKAY ||
        mp_read_unsigned_bin(&e, exponent.ptr, (word32)exponent.len) != MP_OKAY)
        return ERR_BAD_SIGNATURE;
    word32 out_len = (word32)modulus.len;
    int rc;
    switch (mp_count_bits(&n)) {
    case 2048:
        rc = sp_RsaPublic_2048(in.ptr, (word32)in.len, &e, &n, out, &out_len);
        break;
    case 3072:
        rc = sp_RsaPublic_3072(in.ptr, (word32)in.len, &e, &n, out, &out_len);
        break;
    case 4096:
        rc = sp_RsaPublic_4096(in.ptr, (word32)in.len, &e, &n, out, &out_len);
        break;
    default: {
        mp_int m;
        rc = mp_init(&m);
        if (rc == MP_OKAY)
            rc = mp_read_unsigned_bin(&m, in.ptr, (word32)in.len);
        if (rc == MP_OKAY)
            rc = mp_exptmod_nct(&m, &e, &n, &m);
        if (rc == MP_OKAY)
            rc = mp_to_unsigned_bin_len(&m, out, (int)modulus.len);
    }
    }
    return rc == MP_OKAY && out_len == modulus.len ? ERR_OK : ERR_BAD_SIGNATURE;
}

/* RFC 8017 9.2 EMSA-PKCS1-v1_5: 00 01 FF..FF 00 DigestInfo, at least eight FF. */
static bool pkcs1_encode(enum hash_alg hash, struct bytes digest, uint8_t *em, size_t em_len)
{
    struct bytes prefix;
    if (!digest_info_prefix(hash, &prefix) || em_len < prefix.len + digest.len + 11)
        return false;
    size_t padding = em_len - prefix.len - digest.len - 3;
    em[0] = 0;
    em[1] = 1;
    memset(em + 2, 0xff, padding);
    em[2 + padding] = 0;
    memcpy(em + 3 + padding, prefix.ptr, prefix.len);
    memcpy(em + 3 + padding + prefix.len, digest.ptr, digest.len);
    return true;
}

void rsa_mgf1_xor(enum hash_alg hash, const uint8_t *seed, size_t seed_len, uint8_t *data,
                  size_t data_len)
{
    uint8_t number[4], mask[DIGEST_LEN_MAX];
    struct hash_state state;
    size_t hash_len = hash_alg_len(hash);
    uint32_t counter = 0;
    hash_start(&state, hash);
    for (size_t at = 0; at < data_len; at += hash_len) {
        store_be32(number, counter++);
        hash_update(&state, bytes_of(seed, seed_len));
        hash_update(&state, BYTES_ARRAY(number));
        hash_finish(&state, mask);
        for (size_t i = 0; i < hash_len && at + i < data_len; i++)
            data[at + i] ^= mask[i];
    }
}

/* H = Hash(00*8 || mHash || salt), RFC 8017 9.1.1 steps 5 and 6. */
static void pss_hash(enum hash_alg hash, struct bytes digest, const uint8_t *salt, uint8_t *out)
{
    uint8_t message[8 + 2 * DIGEST_LEN_MAX] = {0};
    memcpy(message + 8, digest.ptr, digest.len);
    memcpy(message + 8 + digest.len, salt, digest.len);
    digest_once(hash, bytes_of(message, 8 + 2 * digest.len), out);
}

/* RFC 8017 9.1.1 with a random salt as long as the hash; em_bits = bits - 1. The modulus has a
 * multiple of 8 bits or not: em is right-aligned in em_len bytes. */
static bool pss_encode(enum hash_alg hash, struct bytes digest, uint32_t bits, uint8_t *em,
                       size_t em_len)
{
    size_t hash_len = hash_alg_len(hash);
    uint32_t em_bits = bits - 1;
    size_t used = (em_bits + 7) / 8;
    if (used > em_len || used < 2 * hash_len + 2)
        return false;
    memset(em, 0, em_len);
    em += em_len - used;
    size_t db_len = used - hash_len - 1;
    uint8_t salt[DIGEST_LEN_MAX];
    random_bytes(salt, hash_len);
    uint8_t *h = em + db_len;
    pss_hash(hash, digest, salt, h);
    em[db_len - hash_len - 1] = 0x01;
    memcpy(em + db_len - hash_len, salt, hash_len);
    rsa_mgf1_xor(hash, h, hash_len, em, db_len);
    em[0] &= (uint8_t)(0xff >> (8 * used - em_bits));
    em[used - 1] = 0xbc;
    return true;
}

/* RFC 8017 9.1.2, its steps beside. */
static bool pss_verify(enum hash_alg hash, struct bytes digest, uint32_t bits, uint8_t *em,
                       size_t em_len)
{
    size_t hash_len = hash_alg_len(hash);
    uint32_t em_bits = bits - 1;
    size_t used = (em_bits + 7) / 8;
    if (used < 2 * hash_len + 2) /* 3 */
        return false;
    if (used < em_len && em[0] != 0) /* 8.1.2 step 2c: a modulus of 8k + 1 bits */
        return false;
    em += em_len - used;
    if (em[used - 1] != 0xbc) /* 4 */
        return false;
    size_t db_len = used - hash_len - 1; /* 5 */
    const uint8_t *h = em + db_len;
    uint8_t top = (uint8_t)(0xff >> (8 * used - em_bits));
    if (em[0] & (uint8_t)~top) /* 6 */
        return false;
    rsa_mgf1_xor(hash, h, hash_len, em, db_len); /* 7, 8 */
    em[0] &= top;                                /* 9 */
    size_t zeros = db_len - hash_len - 1;
    for (size_t i = 0; i < zeros; i++) /* 10: nothing but 00..00 01 before a salt of hash_len */
        if (em[i] != 0)
            return false;
    if (em[zeros] != 0x01)
        return false;
    uint8_t expected[DIGEST_LEN_MAX];
    pss_hash(hash, digest, em + zeros + 1, expected); /* 11, 12, 13 */
    return memcmp(expected, h, hash_len) == 0;        /* 14 */
}

bool rsa_encode(enum sig_alg alg, struct bytes digest, uint32_t bits, uint8_t *out_em,
                size_t em_len)
{
    enum hash_alg hash = sig_alg_hash(alg);
    if (hash == HASH_NONE || digest.len != hash_alg_len(hash))
        return false;
    if (is_pss(alg))
        return pss_encode(hash, digest, bits, out_em, em_len);
    return is_pkcs1(alg) && pkcs1_encode(hash, digest, out_em, em_len);
}

enum err rsa_verify(enum sig_alg alg, struct bytes modulus, struct bytes exponent,
                    struct bytes digest, struct bytes signature)
{
    enum hash_alg hash = sig_alg_hash(alg);
    enum err err = rsa_public_check(modulus, exponent);
    if (err)
        return err;
    if (hash == HASH_NONE || digest.len != hash_alg_len(hash))
        return ERR_BAD_SIGNATURE;
    uint8_t em[RSA_LEN_MAX];
    err = rsa_public(modulus, exponent, signature, em);
    if (err)
        return err;
    bool good = false;
    if (is_pss(alg)) {
        good = pss_verify(hash, digest, bit_len(modulus), em, modulus.len);
    } else if (is_pkcs1(alg)) {
        uint8_t expected[RSA_LEN_MAX];
        good = pkcs1_encode(hash, digest, expected, modulus.len) &&
               memcmp(em, expected, modulus.len) == 0;
    }
    return good ? ERR_OK : ERR_BAD_SIGNATURE;
}
