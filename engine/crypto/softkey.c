#include "crypto/softkey_impl.h"

#include <stdlib.h>

#include <wolfssl/wolfcrypt/error-crypt.h>
#include <wolfssl/wolfcrypt/sp.h>

#include "base/secret.h"
#include "crypto/digest.h"
#include "crypto/rng.h"
#include "crypto/verify.h"

/* --- life --- */

static enum err rsa_init(struct softkey_rsa *rsa)
{
    bool ready = mp_init_multi(&rsa->n, &rsa->e, &rsa->d, &rsa->p, &rsa->q, &rsa->dp) == MP_OKAY &&
                 mp_init_multi(&rsa->dq, &rsa->qinv, NULL, NULL, NULL, NULL) == MP_OKAY;
    return ready ? ERR_OK : ERR_INTERNAL;
}

struct softkey *softkey_new(enum key_alg alg)
{
    struct softkey *key = calloc(1, sizeof *key);
    if (!key)
        return NULL;
    key->alg = alg;
    if (alg == KEY_RSA && rsa_init(&key->rsa)) {
        free(key);
        return NULL;
    }
    return key;
}

void softkey_free(struct softkey *key)
{
    if (!key)
        return;
    if (key->alg == KEY_ED25519)
        wc_ed25519_free(&key->ed25519.key);
    secret_wipe(key, sizeof *key);
    free(key);
}

enum key_alg softkey_alg(const struct softkey *key)
{
    return key->alg;
}

uint32_t softkey_bits(const struct softkey *key)
{
    return key->bits;
}

/* --- from the secret part --- */

enum err softkey_set_ec(struct softkey *key, const uint8_t *d)
{
    struct softkey_ec *ec = &key->ec;
    size_t len = ec_coordinate_len(key->alg);
    if (!ec_scalar_is_valid(key->alg, d))
        return ERR_BAD_KEY;
    ecc_key wolf;
    if (wc_ecc_init(&wolf) != 0)
        return ERR_INTERNAL;
    word32 point_len = sizeof ec->point;
    bool made =
        wc_ecc_import_private_key_ex(d, (word32)len, NULL, 0, &wolf, ec_curve_id(key->alg)) == 0 &&
        wc_ecc_make_pub(&wolf, NULL) == 0 &&
        wc_ecc_export_x963(&wolf, ec->point, &point_len) == 0 && point_len == 1 + 2 * len &&
        mp_init(&ec->scalar) == MP_OKAY &&
        mp_read_unsigned_bin(&ec->scalar, d, (word32)len) == MP_OKAY;
    wc_ecc_free(&wolf);
    if (!made)
        return ERR_BAD_KEY;
    memcpy(ec->d, d, len);
    key->bits = (uint32_t)len * 8;
    return ERR_OK;
}

enum err softkey_set_ed25519(struct softkey *key, const uint8_t *seed)
{
    struct softkey_ed25519 *ed = &key->ed25519;
    word32 public_len = sizeof ed->public;
    if (wc_ed25519_init(&ed->key) != 0 ||
        wc_ed25519_import_private_only(seed, ED25519_KEY_SIZE, &ed->key) != 0 ||
        wc_ed25519_make_public(&ed->key, ed->public, public_len) != 0 ||
        wc_ed25519_import_private_key(seed, ED25519_KEY_SIZE, ed->public, public_len, &ed->key) !=
            0)
        return ERR_BAD_KEY;
    memcpy(ed->seed, seed, ED25519_KEY_SIZE);
    key->bits = 256;
    return ERR_OK;
}

#ifdef WOLFSSL_HAVE_MLDSA
static enum err ml_dsa_begin(enum key_alg alg, wc_MlDsaKey **out)
{
    wc_MlDsaKey *wolf = malloc(sizeof *wolf);
    if (!wolf)
        return ERR_INTERNAL;
    if (wc_MlDsaKey_Init(wolf, NULL, INVALID_DEVID) != 0) {
        free(wolf);
        return ERR_INTERNAL;
    }
    if (wc_MlDsaKey_SetParams(wolf, alg == KEY_ML_DSA_44 ? WC_ML_DSA_44 : WC_ML_DSA_65) != 0) {
        wc_MlDsaKey_Free(wolf);
        free(wolf);
        return ERR_INTERNAL;
    }
    *out = wolf;
    return ERR_OK;
}

static void ml_dsa_end(wc_MlDsaKey *wolf)
{
    wc_MlDsaKey_Free(wolf);
    secret_wipe(wolf, sizeof *wolf);
    free(wolf);
}

enum err softkey_set_ml_dsa(struct softkey *key, const uint8_t *seed)
{
    struct softkey_ml_dsa *ml = &key->ml_dsa;
    wc_MlDsaKey *wolf;
    enum err err = ml_dsa_begin(key->alg, &wolf);
    if (err)
        return err;
    word32 public_len = sizeof ml->public, private_len = sizeof ml->private;
    bool made = wc_MlDsaKey_MakeKeyFromSeed(wolf, seed) == 0 &&
                wc_MlDsaKey_ExportPubRaw(wolf, ml->public, &public_len) == 0 &&
                wc_MlDsaKey_ExportPrivRaw(wolf, ml->private, &private_len) == 0;
    ml_dsa_end(wolf);
    if (!made)
        return ERR_BAD_KEY;
    memcpy(ml->seed, seed, ML_DSA_SEED_LEN);
    ml->public_len = public_len;
    ml->private_len = private_len;
    key->bits = public_len * 8;
    return ERR_OK;
}
#else
enum err softkey_set_ml_dsa(struct softkey *key, const uint8_t *seed)
{
    (void)key, (void)seed;
    return ERR_BAD_ALG;
}
#endif

enum err softkey_number(const mp_int *number, uint8_t out[RSA_LEN_MAX], struct bytes *out_view)
{
    int len = mp_unsigned_bin_size(number);
    if (len <= 0 || len > RSA_LEN_MAX || mp_to_unsigned_bin(number, out) != MP_OKAY)
        return ERR_BAD_KEY;
    *out_view = bytes_of(out, (size_t)len);
    return ERR_OK;
}

/* A private operation on 2, and back by the public one: the eight numbers belong together. */
static enum err rsa_private(const struct softkey *key, const uint8_t *in, uint8_t *out);

enum err softkey_check_rsa(struct softkey *key)
{
    struct softkey_rsa *rsa = &key->rsa;
    key->bits = (uint32_t)mp_count_bits(&rsa->n);
    /* The sizes that the SP arithmetic signs with: constant time, and no state in the key. */
    if (key->bits != 2048 && key->bits != 3072 && key->bits != 4096)
        return ERR_BAD_KEY;
    int half = (int)key->bits / 2;
    if (mp_count_bits(&rsa->p) != half || mp_count_bits(&rsa->q) != half)
        return ERR_BAD_KEY;
    uint8_t two[RSA_LEN_MAX] = {0}, out[RSA_LEN_MAX];
    two[key->bits / 8 - 1] = 2;
    return rsa_private(key, two, out);
}

/* --- generation --- */

enum err softkey_generate_ec(struct softkey *key)
{
    uint8_t d[EC_LEN_MAX];
    size_t len = ec_coordinate_len(key->alg);
    do { /* FIPS 186-4 B.4.2: testing candidates */
        random_bytes(d, len);
    } while (!ec_scalar_is_valid(key->alg, d));
    enum err err = softkey_set_ec(key, d);
    secret_wipe(d, sizeof d);
    return err;
}

enum { RSA_EXPONENT = 65537 };

/* FIPS 186-4 B.3.3: a random prime of `bits` bits with the two highest set, and p - 1 coprime to
 * the (prime) public exponent. */
static enum err rsa_prime(uint32_t bits, mp_int *out)
{
    uint8_t candidate[RSA_LEN_MAX / 2];
    mp_digit remainder;
    for (;;) {
        random_bytes(candidate, bits / 8);
        candidate[0] |= 0xc0;
        candidate[bits / 8 - 1] |= 1;
        int prime = MP_NO;
        if (mp_read_unsigned_bin(out, candidate, bits / 8) != MP_OKAY ||
            mp_mod_d(out, RSA_EXPONENT, &remainder) != MP_OKAY)
            return ERR_INTERNAL;
        if (remainder == 1)
            continue;
        /* 8 rounds: error below 2^-100 for random candidates this long (FIPS 186-4 table C.2). */
        if (mp_prime_is_prime_ex(out, 8, &prime, crypto_rng()) != MP_OKAY)
            return ERR_INTERNAL;
        if (prime == MP_YES)
            break;
    }
    secret_wipe(candidate, sizeof candidate);
    return ERR_OK;
}

static enum err generate_rsa(struct softkey *key, uint32_t bits)
{
    struct softkey_rsa *rsa = &key->rsa;
    if (bits != 2048 && bits != 3072 && bits != 4096)
        return ERR_BAD_KEY;
    enum err err = rsa_prime(bits / 2, &rsa->p);
    if (!err)
        err = rsa_prime(bits / 2, &rsa->q);
    if (err)
        return err;
    mp_int p1, q1, phi;
    bool made = mp_init_multi(&p1, &q1, &phi, NULL, NULL, NULL) == MP_OKAY &&
                mp_mul(&rsa->p, &rsa->q, &rsa->n) == MP_OKAY &&
                mp_sub_d(&rsa->p, 1, &p1) == MP_OKAY && mp_sub_d(&rsa->q, 1, &q1) == MP_OKAY &&
                mp_mul(&p1, &q1, &phi) == MP_OKAY && mp_set_int(&rsa->e, RSA_EXPONENT) == MP_OKAY &&
                mp_invmod(&rsa->e, &phi, &rsa->d) == MP_OKAY &&
                mp_mod(&rsa->d, &p1, &rsa->dp) == MP_OKAY &&
                mp_mod(&rsa->d, &q1, &rsa->dq) == MP_OKAY &&
                mp_invmod(&rsa->q, &rsa->p, &rsa->qinv) == MP_OKAY;
    secret_wipe(&p1, sizeof p1);
    secret_wipe(&q1, sizeof q1);
    secret_wipe(&phi, sizeof phi);
    return made ? softkey_check_rsa(key) : ERR_INTERNAL;
}

enum err softkey_generate(enum key_alg alg, uint32_t bits, struct softkey **out)
{
    struct softkey *key = softkey_new(alg);
    if (!key)
        return ERR_INTERNAL;
    uint8_t seed[ML_DSA_SEED_LEN];
    random_bytes(seed, sizeof seed);
    enum err err = ERR_BAD_ALG;
    switch (alg) {
    case KEY_EC_P256:
    case KEY_EC_P384:
        err = softkey_generate_ec(key);
        break;
    case KEY_RSA:
        err = generate_rsa(key, bits);
        break;
    case KEY_ED25519:
        err = softkey_set_ed25519(key, seed);
        break;
    case KEY_ML_DSA_44:
    case KEY_ML_DSA_65:
        err = softkey_set_ml_dsa(key, seed);
        break;
    case KEY_NONE:
    case KEY_ALG_COUNT:
        break;
    }
    secret_wipe(seed, sizeof seed);
    if (err) {
        softkey_free(key);
        return err;
    }
    *out = key;
    return ERR_OK;
}

/* --- signing --- */

static enum err sign_ec(const struct softkey *key, struct bytes digest, uint8_t *out, size_t cap,
                        size_t *out_len)
{
    size_t len = ec_coordinate_len(key->alg);
    word32 digest_len = (word32)(digest.len < len ? digest.len : len);
    uint8_t raw[2 * EC_LEN_MAX];
    mp_int r, s;
    if (mp_init_multi(&r, &s, NULL, NULL, NULL, NULL) != MP_OKAY)
        return ERR_INTERNAL;
    /* The SP function itself: wc_ecc_sign_hash would keep state in its key. */
    int rc = key->alg == KEY_EC_P256 ? sp_ecc_sign_256(digest.ptr, digest_len, crypto_rng(),
                                                       &key->ec.scalar, &r, &s, NULL, NULL)
                                     : sp_ecc_sign_384(digest.ptr, digest_len, crypto_rng(),
                                                       &key->ec.scalar, &r, &s, NULL, NULL);
    if (rc != MP_OKAY || mp_to_unsigned_bin_len(&r, raw, (int)len) != MP_OKAY ||
        mp_to_unsigned_bin_len(&s, raw + len, (int)len) != MP_OKAY)
        return ERR_INTERNAL;
    return ecdsa_raw_to_der(bytes_of(raw, 2 * len), out, cap, out_len) ? ERR_OK : ERR_NO_SPACE;
}

static enum err rsa_private(const struct softkey *key, const uint8_t *in, uint8_t *out)
{
    const struct softkey_rsa *rsa = &key->rsa;
    word32 len = key->bits / 8, out_len = len;
    int rc = -1;
    if (key->bits == 2048)
        rc = sp_RsaPrivate_2048(in, len, &rsa->d, &rsa->p, &rsa->q, &rsa->dp, &rsa->dq, &rsa->qinv,
                                &rsa->n, out, &out_len);
    else if (key->bits == 3072)
        rc = sp_RsaPrivate_3072(in, len, &rsa->d, &rsa->p, &rsa->q, &rsa->dp, &rsa->dq, &rsa->qinv,
                                &rsa->n, out, &out_len);
    else if (key->bits == 4096)
        rc = sp_RsaPrivate_4096(in, len, &rsa->d, &rsa->p, &rsa->q, &rsa->dp, &rsa->dq, &rsa->qinv,
                                &rsa->n, out, &out_len);
    if (rc != MP_OKAY)
        return ERR_BAD_KEY;
    /* A fault in one half of the CRT gives the key away (Boneh, DeMillo, Lipton 1997): check. */
    uint8_t modulus[RSA_LEN_MAX], exponent[RSA_LEN_MAX], back[RSA_LEN_MAX];
    struct bytes n, e;
    if (softkey_number(&rsa->n, modulus, &n) || softkey_number(&rsa->e, exponent, &e) ||
        rsa_public_check(n, e) || rsa_public(n, e, bytes_of(out, out_len), back) ||
        memcmp(back, in, len) != 0) {
        secret_wipe(out, len);
        return ERR_BAD_KEY;
    }
    return ERR_OK;
}

static enum err sign_rsa(const struct softkey *key, enum sig_alg alg, struct bytes digest,
                         uint8_t *out, size_t cap, size_t *out_len)
{
    size_t len = key->bits / 8;
    uint8_t em[RSA_LEN_MAX];
    if (cap < len)
        return ERR_NO_SPACE;
    if (!rsa_encode(alg, digest, key->bits, em, len))
        return ERR_BAD_ALG;
    if (rsa_private(key, em, out))
        return ERR_INTERNAL;
    *out_len = len;
    return ERR_OK;
}

static const uint8_t *pointer_of(struct bytes data)
{
    static const uint8_t nothing;
    return data.ptr ? data.ptr : &nothing;
}

static enum err sign_ed25519(const struct softkey *key, struct bytes message, uint8_t *out,
                             size_t cap, size_t *out_len)
{
    if (cap < ED25519_SIG_SIZE)
        return ERR_NO_SPACE;
    word32 len = ED25519_SIG_SIZE;
    /* Not const in wolfCrypt's signature, for builds with hardware; this build only reads it. */
    ed25519_key *wolf = (ed25519_key *)(uintptr_t)&key->ed25519.key;
    if (wc_ed25519_sign_msg(pointer_of(message), (word32)message.len, out, &len, wolf) != 0)
        return ERR_INTERNAL;
    *out_len = len;
    return ERR_OK;
}

static enum err sign_ml_dsa(const struct softkey *key, struct bytes message, uint8_t *out,
                            size_t cap, size_t *out_len)
{
#ifdef WOLFSSL_HAVE_MLDSA
    /* A wolfCrypt key has hash state inside, so each signature works on its own copy. */
    wc_MlDsaKey *wolf;
    enum err err = ml_dsa_begin(key->alg, &wolf);
    if (err)
        return err;
    word32 len = (word32)cap;
    int rc = wc_MlDsaKey_ImportPrivRaw(wolf, key->ml_dsa.private, key->ml_dsa.private_len);
    if (rc == 0) /* RFC 9881 section 3: pure, empty context; hedged */
        rc = wc_MlDsaKey_SignCtx(wolf, NULL, 0, out, &len, pointer_of(message), (word32)message.len,
                                 crypto_rng());
    ml_dsa_end(wolf);
    if (rc == BUFFER_E)
        return ERR_NO_SPACE;
    if (rc != 0)
        return ERR_INTERNAL;
    *out_len = len;
    return ERR_OK;
#else
    (void)key, (void)message, (void)out, (void)cap, (void)out_len;
    return ERR_BAD_ALG;
#endif
}

enum err softkey_sign(const struct softkey *key, enum sig_alg alg, struct bytes data,
                      bool is_digest, uint8_t *out, size_t cap, size_t *out_len)
{
    if (!sig_alg_fits(alg, key->alg))
        return ERR_BAD_ALG;
    enum hash_alg hash = sig_alg_hash(alg);
    uint8_t made[DIGEST_LEN_MAX];
    if (hash != HASH_NONE && !is_digest) {
        digest_once(hash, data, made);
        data = bytes_of(made, hash_alg_len(hash));
    } else if (is_digest && (hash == HASH_NONE || data.len != hash_alg_len(hash))) {
        return ERR_BAD_ALG;
    }
    switch (key->alg) {
    case KEY_EC_P256:
    case KEY_EC_P384:
        return sign_ec(key, data, out, cap, out_len);
    case KEY_RSA:
        return sign_rsa(key, alg, data, out, cap, out_len);
    case KEY_ED25519:
        return sign_ed25519(key, data, out, cap, out_len);
    case KEY_ML_DSA_44:
    case KEY_ML_DSA_65:
        return sign_ml_dsa(key, data, out, cap, out_len);
    case KEY_NONE:
    case KEY_ALG_COUNT:
        break;
    }
    return ERR_BAD_ALG;
}
