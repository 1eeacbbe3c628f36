#include "crypto/rsa.h"

#include "base/secret.h"
#include "crypto/digest.h"

/* The encoded message starts with 00, so that it is below the modulus. */
static enum err encrypt(struct bytes modulus, struct bytes exponent, uint8_t em[RSA_LEN_MAX],
                        uint8_t *out)
{
    enum err err = rsa_public(modulus, exponent, bytes_of(em, modulus.len), out);
    secret_wipe(em, RSA_LEN_MAX);
    return err ? ERR_INTERNAL : ERR_OK;
}

/* RFC 8017 7.1.1, its steps beside. */
enum err rsa_encrypt_oaep(struct bytes modulus, struct bytes exponent, struct bytes message,
                          uint8_t *out)
{
    uint8_t em[RSA_LEN_MAX] = {0};
    enum err err = rsa_public_check(modulus, exponent);
    if (err)
        return err;
    if (message.len > modulus.len - 2 * SHA256_LEN - 2) /* 1b */
        return ERR_NO_SPACE;
    uint8_t *seed = em + 1, *db = seed + SHA256_LEN;
    size_t db_len = modulus.len - SHA256_LEN - 1;
    sha256_once((struct bytes){0}, db);  /* 2a: of the empty label */
    db[db_len - message.len - 1] = 0x01; /* 2b, 2c */
    if (message.len > 0)
        memcpy(db + db_len - message.len, message.ptr, message.len);
    random_bytes(seed, SHA256_LEN);                          /* 2d */
    rsa_mgf1_xor(HASH_SHA256, seed, SHA256_LEN, db, db_len); /* 2e, 2f */
    rsa_mgf1_xor(HASH_SHA256, db, db_len, seed, SHA256_LEN); /* 2g, 2h */
    return encrypt(modulus, exponent, em, out);              /* 3 */
}

/* Random octets that are not 0. */
static void random_padding(uint8_t *out, size_t len)
{
    random_bytes(out, len);
    for (size_t i = 0; i < len; i++)
        while (out[i] == 0)
            random_bytes(out + i, 1);
}

/* RFC 8017 7.2.1: 00 02 PS 00 M with at least eight octets PS. */
enum err rsa_encrypt_pkcs1(struct bytes modulus, struct bytes exponent, struct bytes message,
                           uint8_t *out)
{
    uint8_t em[RSA_LEN_MAX] = {0, 2};
    enum err err = rsa_public_check(modulus, exponent);
    if (err)
        return err;
    if (message.len > modulus.len - 11)
        return ERR_NO_SPACE;
    size_t padding = modulus.len - message.len - 3;
    random_padding(em + 2, padding);
    if (message.len > 0)
        memcpy(em + 3 + padding, message.ptr, message.len);
    return encrypt(modulus, exponent, em, out);
}
