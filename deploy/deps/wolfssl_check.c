/* wolfssl_check.c: does a freshly built wolfSSL have, and do, what certmill needs?
 *
 * Promise: it links only if every function below is in the library, and returns 0 only if the
 *          checks pass. wolfssl.sh runs it before a build is put into the cache, so an unfit
 *          wolfSSL is refused there and not in the middle of linking certmill.
 * Output:  one word for each optional algorithm found ("ml-dsa"), for BUILD_INFO.
 */
#include <wolfssl/options.h>

#include <wolfssl/ssl.h>
#include <wolfssl/version.h>
#include <wolfssl/wolfcrypt/aes.h>
#include <wolfssl/wolfcrypt/chacha20_poly1305.h>
#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/ed25519.h>
#include <wolfssl/wolfcrypt/hmac.h>
#include <wolfssl/wolfcrypt/memory.h>
#include <wolfssl/wolfcrypt/pwdbased.h>
#include <wolfssl/wolfcrypt/random.h>
#include <wolfssl/wolfcrypt/rsa.h>
#ifdef WOLFSSL_HAVE_MLDSA
#include <wolfssl/wolfcrypt/wc_mldsa.h>
#endif

#include <stdio.h>
#include <string.h>

#ifndef WOLFSSL_SP_MATH_ALL
#error "SP math is off: RSA and ECC would be slow"
#endif
#ifdef FP_ECC
#error "FP_ECC is on: it caches keys, and here no key comes twice"
#endif
#if !defined(ECC_TIMING_RESISTANT) || !defined(WC_RSA_BLINDING)
#error "hardening is off"
#endif
#if !defined(HAVE_EXTENDED_MASTER) || !defined(WOLFSSL_ALWAYS_VERIFY_CB)
#error "extended master secret and WOLFSSL_ALWAYS_VERIFY_CB are needed"
#endif
#if !defined(WOLFSSL_ALT_CERT_CHAINS) || defined(SESSION_CERTS)
#error "connections would keep their peers' certificates (engine/net/tls.c)"
#endif
#if !defined(NO_OLD_TLS) || !defined(NO_RC4) || !defined(NO_DES3)
#error "old TLS, RC4 or DES is on"
#endif

typedef void (*any_function)(void);

/* Named so that the linker must find them. */
any_function const needed_functions[] = {
    (any_function)wolfSSL_KeepArrays,
    (any_function)wolfSSL_export_keying_material,
    (any_function)wolfSSL_get_finished,
    (any_function)wolfSSL_get_peer_finished,
    (any_function)wolfSSL_CTX_set_verify,
    (any_function)wolfSSL_CTX_set_TicketEncCb,
    (any_function)wolfSSL_CTX_set_session_cache_mode,
    (any_function)wolfSSL_CTX_SetIORecv,
    (any_function)wolfSSL_CTX_SetIOSend,
    (any_function)wolfSSL_SNI_GetRequest,
    (any_function)wolfSSL_UseALPN,
    (any_function)wolfSSL_ALPN_GetProtocol,
    (any_function)wolfTLSv1_2_server_method,
    (any_function)wolfTLSv1_3_server_method,
    (any_function)wc_RsaPSS_VerifyCheck,
    (any_function)wc_RsaPublicEncrypt_ex,
    (any_function)wc_ed25519_verify_msg,
    (any_function)wc_HmacSetKey,
    (any_function)wc_HKDF,
    (any_function)wc_PBKDF2,
    (any_function)wc_AesKeyWrap,
    (any_function)wc_AesCbcEncrypt,
    (any_function)wc_AesGcmEncrypt,
    (any_function)wc_ChaCha20Poly1305_Encrypt,
#ifdef WOLFSSL_HAVE_MLDSA
    (any_function)wc_MlDsaKey_VerifyCtx,
#endif
};

/* The point of P-256 with x = 0, and x written as p: the same point, but no encoding of it
 * (SEC 1, 2.3.6). */
static const byte point_y[32] = {
    0x66, 0x48, 0x5c, 0x78, 0x0e, 0x2f, 0x83, 0xd7, 0x24, 0x33, 0xbd, 0x5d, 0x84, 0xa0, 0x6b, 0xb6,
    0x54, 0x1c, 0x2a, 0xf3, 0x1d, 0xae, 0x87, 0x17, 0x28, 0xbf, 0x85, 0x6a, 0x17, 0x4f, 0x93, 0xf4,
};
static const byte point_x_canonical[32] = {0};
static const byte point_x_plus_p[32] = {
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
};

static int fail(const char *what, int code)
{
    fprintf(stderr, "wolfSSL %s: %s (%d)\n", LIBWOLFSSL_VERSION_STRING, what, code);
    return 1;
}

static int point_check(const byte *x, const byte *y)
{
    ecc_key key;
    int err = wc_ecc_init(&key);

    if (err == 0)
        err = wc_ecc_import_unsigned(&key, x, y, NULL, ECC_SECP256R1);
    if (err == 0)
        err = wc_ecc_point_is_on_curve(&key.pubkey, key.idx);
    wc_ecc_free(&key);
    return err;
}

static int ecdsa_check(WC_RNG *rng, int curve_id, int key_len)
{
    ecc_key key;
    byte digest[32] = {1, 2, 3};
    byte signature[ECC_MAX_SIG_SIZE];
    word32 signature_len = sizeof signature;
    int verified = 0;
    int err = wc_ecc_init(&key);

    if (err == 0)
        err = wc_ecc_make_key_ex(rng, key_len, &key, curve_id);
    if (err == 0)
        err = wc_ecc_sign_hash(digest, sizeof digest, signature, &signature_len, rng, &key);
    if (err == 0)
        err = wc_ecc_verify_hash(signature, signature_len, digest, sizeof digest, &verified, &key);
    if (err == 0 && verified != 1)
        err = -1;
    digest[0] ^= 1;
    if (err == 0)
        err = wc_ecc_verify_hash(signature, signature_len, digest, sizeof digest, &verified, &key);
    if (err == 0 && verified != 0)
        err = -1;
    wc_ecc_free(&key);
    return err;
}

int main(void)
{
    WC_RNG rng;
    int err;

    if (strcmp(wolfSSL_lib_version(), LIBWOLFSSL_VERSION_STRING) != 0)
        return fail("the headers and the library differ", 0);
    for (size_t i = 0; i < sizeof needed_functions / sizeof needed_functions[0]; i++)
        if (needed_functions[i] == NULL)
            return fail("a needed function is missing", (int)i);
    if (wolfSSL_SetAllocators(NULL, NULL, NULL) != 0)
        return fail("wolfSSL_SetAllocators", 0);

    err = wc_InitRng(&rng);
    if (err != 0)
        return fail("no random numbers", err);
    err = ecdsa_check(&rng, ECC_SECP256R1, 32);
    if (err == 0)
        err = ecdsa_check(&rng, ECC_SECP384R1, 48);
    if (err == 0)
        err = ecdsa_check(&rng, ECC_SECP521R1, 66);
    wc_FreeRng(&rng);
    if (err != 0)
        return fail("ECDSA", err);

    err = point_check(point_x_canonical, point_y);
    if (err != 0)
        return fail("a point of P-256 is refused", err);
    if (point_check(point_x_plus_p, point_y) == 0)
        return fail("a coordinate that is not reduced passes", 0);
    if (point_check(point_y, point_y) == 0)
        return fail("a point beside the curve passes", 0);

#ifdef WOLFSSL_HAVE_MLDSA
    puts("ml-dsa");
#endif
#ifdef WOLFSSL_HAVE_MLKEM
    puts("ml-kem");
#endif
    return 0;
}
