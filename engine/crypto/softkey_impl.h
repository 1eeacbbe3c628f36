/* softkey_impl.h: what softkey.c (use) and softkey_der.c (encodings) share. */
#ifndef CERTMILL_CRYPTO_SOFTKEY_IMPL_H
#define CERTMILL_CRYPTO_SOFTKEY_IMPL_H

#include "crypto/ecdsa.h"
#include "crypto/rsa.h"
#include "crypto/softkey.h"

#include <wolfssl/wolfcrypt/ed25519.h>
#ifdef WOLFSSL_HAVE_MLDSA
#include <wolfssl/wolfcrypt/wc_mldsa.h>
#endif

enum { ML_DSA_SEED_LEN = 32, ML_DSA_PUBLIC_MAX = 1952, ML_DSA_PRIVATE_MAX = 4032 };

struct softkey_ec {
    uint8_t d[EC_LEN_MAX];
    uint8_t point[1 + 2 * EC_LEN_MAX];
    mp_int scalar;
};

/* RFC 8017 3.2, second representation. */
struct softkey_rsa {
    mp_int n, e, d, p, q, dp, dq, qinv;
};

struct softkey_ed25519 {
    uint8_t seed[ED25519_KEY_SIZE];
    uint8_t public[ED25519_PUB_KEY_SIZE];
    ed25519_key key;
};

struct softkey_ml_dsa {
    uint8_t seed[ML_DSA_SEED_LEN];
    uint8_t public[ML_DSA_PUBLIC_MAX];
    uint8_t private[ML_DSA_PRIVATE_MAX]; /* expanded */
    uint32_t public_len;
    uint32_t private_len;
};

struct softkey {
    enum key_alg alg;
    uint32_t bits;
    union {
        struct softkey_ec ec;
        struct softkey_rsa rsa;
        struct softkey_ed25519 ed25519;
        struct softkey_ml_dsa ml_dsa;
    };
};

/* A zeroed key of this algorithm; NULL without memory. */
struct softkey *softkey_new(enum key_alg alg);
/* Complete a key from its secret part; ERR_BAD_KEY when the secret is out of range. */
enum err softkey_set_ec(struct softkey *key, const uint8_t *d);
/* A random scalar, and the key from it. */
enum err softkey_generate_ec(struct softkey *key);
enum err softkey_set_ed25519(struct softkey *key, const uint8_t *seed);
enum err softkey_set_ml_dsa(struct softkey *key, const uint8_t *seed);
/* The numbers are set: checks that they belong together and sets bits. */
enum err softkey_check_rsa(struct softkey *key);
/* One number of an RSA key into big-endian bytes without leading zeros. */
enum err softkey_number(const mp_int *number, uint8_t out[RSA_LEN_MAX], struct bytes *out_view);

#endif
