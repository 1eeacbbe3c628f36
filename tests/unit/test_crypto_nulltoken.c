/* Does the null token behave like a PKCS#11 token, sign correctly on many threads, and refuse to be
 * taken for an HSM by accident?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <p11-kit/pkcs11.h>
#include <pthread.h>

#include "asn1/der.h"
#include "crypto/digest.h"
#include "crypto/softkey.h"
#include "crypto/verify.h"

#define KEY_FILE "vectors/crypto/keys/p256.pkcs8.der"

static CK_FUNCTION_LIST *p11;
static uint8_t spki_der[SPKI_DER_MAX];
static struct spki spki;

static int load_module(void **state)
{
    (void)state;
    char self[PATH_MAX], path[PATH_MAX + 64];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(len > 0);
    self[len] = '\0';
    snprintf(path, sizeof path, "%s/../bin/libcertmill-nulltoken.so", dirname(self));
    void *lib = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        fail_msg("%s (build the target certmill-nulltoken)", dlerror());
    CK_C_GetFunctionList get;
    void *symbol = dlsym(lib, "C_GetFunctionList");
    memcpy(&get, &symbol, sizeof get);
    assert_non_null(get);
    assert_int_equal(get(&p11), CKR_OK);
    assert_int_equal(get(NULL), CKR_ARGUMENTS_BAD);
    assert_null(dlsym(lib, "softkey_sign")); /* C_* alone is exported */
    FILE *file = fopen("vectors/crypto/keys/p256.spki.der", "rb");
    assert_non_null(file);
    size_t spki_len = fread(spki_der, 1, sizeof spki_der, file);
    fclose(file);
    assert_int_equal(spki_decode(bytes_of(spki_der, spki_len), &spki), ERR_OK);
    return 0;
}

static int initialize(void **state)
{
    (void)state;
    setenv("CERTMILL_ALLOW_NULLTOKEN", "1", 1);
    setenv("CERTMILL_NULLTOKEN_KEY", KEY_FILE, 1);
    unsetenv("CERTMILL_NULLTOKEN_LABEL");
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    assert_int_equal(p11->C_Initialize(&args), CKR_OK);
    return 0;
}

static int finalize(void **state)
{
    (void)state;
    assert_int_equal(p11->C_Finalize(NULL), CKR_OK);
    return 0;
}

static CK_SESSION_HANDLE open_session(void)
{
    CK_SESSION_HANDLE session = 0;
    assert_int_equal(p11->C_OpenSession(0, CKF_SERIAL_SESSION, NULL, NULL, &session), CKR_OK);
    return session;
}

static void login(CK_SESSION_HANDLE session)
{
    assert_int_equal(p11->C_Login(session, CKU_USER, (CK_UTF8CHAR *)"any", 3), CKR_OK);
}

static CK_ULONG find(CK_SESSION_HANDLE session, CK_ATTRIBUTE *template, CK_ULONG count,
                     CK_OBJECT_HANDLE out[8])
{
    CK_ULONG found = 0;
    assert_int_equal(p11->C_FindObjectsInit(session, template, count), CKR_OK);
    assert_int_equal(p11->C_FindObjectsInit(session, template, count), CKR_OPERATION_ACTIVE);
    assert_int_equal(p11->C_FindObjects(session, out, 8, &found), CKR_OK);
    CK_ULONG more = 99;
    CK_OBJECT_HANDLE none;
    assert_int_equal(p11->C_FindObjects(session, &none, 1, &more), CKR_OK);
    assert_int_equal(more, 0);
    assert_int_equal(p11->C_FindObjectsFinal(session), CKR_OK);
    assert_int_equal(p11->C_FindObjectsFinal(session), CKR_OPERATION_NOT_INITIALIZED);
    return found;
}

static CK_OBJECT_HANDLE private_key(CK_SESSION_HANDLE session)
{
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof class}, {CKA_LABEL, "issuing", 7}};
    CK_OBJECT_HANDLE found[8];
    assert_int_equal(find(session, template, 2, found), 1);
    return found[0];
}

static CK_RV sign(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key, uint8_t digest[32],
                  uint8_t out[64])
{
    CK_MECHANISM mechanism = {CKM_ECDSA, NULL, 0};
    CK_ULONG len = 64;
    CK_RV rv = p11->C_SignInit(session, &mechanism, key);
    if (rv == CKR_OK)
        rv = p11->C_Sign(session, digest, 32, out, &len);
    return rv == CKR_OK && len != 64 ? CKR_GENERAL_ERROR : rv;
}

static enum err check(uint8_t digest[32], const uint8_t raw[64])
{
    uint8_t der[80];
    size_t len;
    if (!ecdsa_raw_to_der(bytes_of(raw, 64), der, sizeof der, &len))
        return ERR_BAD_SIGNATURE;
    struct verify_job job = {.alg = SIG_ECDSA_SHA256,
                             .spki = &spki,
                             .digest = bytes_of(digest, 32),
                             .signature = bytes_of(der, len)};
    return verify_one(&job);
}

static void test_refuses_without_permission(void **state)
{
    (void)state;
    setenv("CERTMILL_NULLTOKEN_KEY", KEY_FILE, 1);
    unsetenv("CERTMILL_ALLOW_NULLTOKEN");
    assert_int_equal(p11->C_Initialize(NULL), CKR_GENERAL_ERROR);
    setenv("CERTMILL_ALLOW_NULLTOKEN", "0", 1);
    assert_int_equal(p11->C_Initialize(NULL), CKR_GENERAL_ERROR);
    setenv("CERTMILL_ALLOW_NULLTOKEN", "1", 1);
    unsetenv("CERTMILL_NULLTOKEN_KEY");
    assert_int_equal(p11->C_Initialize(NULL), CKR_GENERAL_ERROR);
    setenv("CERTMILL_NULLTOKEN_KEY", "/nonexistent", 1);
    assert_int_equal(p11->C_Initialize(NULL), CKR_GENERAL_ERROR);
    setenv("CERTMILL_NULLTOKEN_KEY", "vectors/crypto/keys/rsa2048.pkcs8.der", 1);
    assert_int_equal(p11->C_Initialize(NULL), CKR_GENERAL_ERROR);
    /* and nothing works before it */
    CK_ULONG count = 0;
    CK_SESSION_HANDLE session;
    assert_int_equal(p11->C_GetSlotList(CK_TRUE, NULL, &count), CKR_CRYPTOKI_NOT_INITIALIZED);
    assert_int_equal(p11->C_OpenSession(0, CKF_SERIAL_SESSION, NULL, NULL, &session),
                     CKR_CRYPTOKI_NOT_INITIALIZED);
    assert_int_equal(p11->C_Finalize(NULL), CKR_CRYPTOKI_NOT_INITIALIZED);
}

static void test_slot_and_token(void **state)
{
    (void)state;
    CK_INFO info;
    CK_SLOT_ID slots[4];
    CK_ULONG count = 0;
    CK_SLOT_INFO slot;
    CK_TOKEN_INFO token;
    CK_MECHANISM_TYPE mechanisms[4];
    CK_MECHANISM_INFO mechanism;
    assert_int_equal(p11->C_Initialize(NULL), CKR_CRYPTOKI_ALREADY_INITIALIZED);
    assert_int_equal(p11->C_GetInfo(&info), CKR_OK);
    assert_int_equal(info.cryptokiVersion.major, 2);
    assert_int_equal(info.cryptokiVersion.minor, 40);
    assert_int_equal(p11->C_GetSlotList(CK_TRUE, NULL, &count), CKR_OK);
    assert_int_equal(count, 1);
    count = 0;
    assert_int_equal(p11->C_GetSlotList(CK_TRUE, slots, &count), CKR_BUFFER_TOO_SMALL);
    assert_int_equal(p11->C_GetSlotList(CK_TRUE, slots, &count), CKR_OK);
    assert_int_equal(p11->C_GetSlotInfo(slots[0], &slot), CKR_OK);
    assert_true(slot.flags & CKF_TOKEN_PRESENT);
    assert_int_equal(p11->C_GetSlotInfo(1, &slot), CKR_SLOT_ID_INVALID);
    assert_int_equal(p11->C_GetTokenInfo(slots[0], &token), CKR_OK);
    assert_memory_equal(token.label, "null                            ", 32);
    assert_true(token.flags & CKF_LOGIN_REQUIRED);
    count = 4;
    assert_int_equal(p11->C_GetMechanismList(0, mechanisms, &count), CKR_OK);
    assert_int_equal(count, 1);
    assert_int_equal(mechanisms[0], CKM_ECDSA);
    assert_int_equal(p11->C_GetMechanismInfo(0, CKM_ECDSA, &mechanism), CKR_OK);
    assert_true(mechanism.flags & CKF_SIGN);
    assert_int_equal(p11->C_GetMechanismInfo(0, CKM_RSA_PKCS, &mechanism), CKR_MECHANISM_INVALID);
    assert_int_equal(p11->C_GenerateRandom(0, NULL, 0), CKR_FUNCTION_NOT_SUPPORTED);
}

static void test_sessions(void **state)
{
    (void)state;
    CK_SESSION_HANDLE session = open_session(), other;
    CK_SESSION_INFO info;
    assert_int_equal(p11->C_OpenSession(0, 0, NULL, NULL, &other),
                     CKR_SESSION_PARALLEL_NOT_SUPPORTED);
    assert_int_equal(p11->C_GetSessionInfo(session, &info), CKR_OK);
    assert_int_equal(info.state, CKS_RO_PUBLIC_SESSION);
    assert_int_equal(p11->C_Logout(session), CKR_USER_NOT_LOGGED_IN);
    assert_int_equal(p11->C_Login(session, CKU_SO, NULL, 0), CKR_USER_TYPE_INVALID);
    login(session);
    assert_int_equal(p11->C_Login(session, CKU_USER, NULL, 0), CKR_USER_ALREADY_LOGGED_IN);
    other = open_session(); /* logged in as well: PKCS#11 2.40 5.6 */
    assert_int_equal(p11->C_GetSessionInfo(other, &info), CKR_OK);
    assert_int_equal(info.state, CKS_RO_USER_FUNCTIONS);
    assert_int_equal(p11->C_CloseSession(session), CKR_OK);
    assert_int_equal(p11->C_CloseSession(session), CKR_SESSION_HANDLE_INVALID);
    assert_int_equal(p11->C_GetSessionInfo(0, &info), CKR_SESSION_HANDLE_INVALID);
    assert_int_equal(p11->C_GetSessionInfo(~0ul, &info), CKR_SESSION_HANDLE_INVALID);
    assert_int_equal(p11->C_CloseAllSessions(0), CKR_OK);
    session = open_session(); /* the last one that closes logs out */
    assert_int_equal(p11->C_GetSessionInfo(session, &info), CKR_OK);
    assert_int_equal(info.state, CKS_RO_PUBLIC_SESSION);
    CK_SESSION_HANDLE last;
    unsigned opened = 1;
    CK_RV rv;
    while ((rv = p11->C_OpenSession(0, CKF_SERIAL_SESSION, NULL, NULL, &last)) == CKR_OK)
        opened++;
    assert_int_equal(rv, CKR_SESSION_COUNT);
    assert_int_equal(opened, 4096);
}

static void test_objects(void **state)
{
    (void)state;
    CK_SESSION_HANDLE session = open_session();
    CK_OBJECT_HANDLE found[8];
    assert_int_equal(find(session, NULL, 0, found), 1); /* the public key, before the login */
    login(session);
    assert_int_equal(find(session, NULL, 0, found), 2);
    CK_ATTRIBUTE other = {CKA_LABEL, "other", 5};
    assert_int_equal(find(session, &other, 1, found), 0);
    CK_ATTRIBUTE unknown = {CKA_MODULUS, "x", 1};
    assert_int_equal(find(session, &unknown, 1, found), 0);

    CK_OBJECT_HANDLE key = private_key(session);
    CK_BBOOL flags[7];
    CK_ULONG class, type;
    uint8_t label[64], id[64], params[64], point[128];
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},
        {CKA_KEY_TYPE, &type, sizeof type},
        {CKA_LABEL, label, sizeof label},
        {CKA_ID, id, sizeof id},
        {CKA_EC_PARAMS, params, sizeof params},
        {CKA_EC_POINT, point, sizeof point},
        {CKA_SENSITIVE, &flags[0], 1},
        {CKA_EXTRACTABLE, &flags[1], 1},
        {CKA_SIGN, &flags[2], 1},
        {CKA_TOKEN, &flags[3], 1},
        {CKA_PRIVATE, &flags[4], 1},
        {CKA_ALWAYS_AUTHENTICATE, &flags[5], 1},
    };
    assert_int_equal(p11->C_GetAttributeValue(session, key, template, 12), CKR_OK);
    assert_int_equal(class, CKO_PRIVATE_KEY);
    assert_int_equal(type, CKK_EC);
    assert_int_equal(template[2].ulValueLen, 7);
    assert_memory_equal(label, "issuing", 7);
    assert_int_equal(template[4].ulValueLen, 10);
    struct bytes reader = bytes_of(point, template[5].ulValueLen), contents;
    assert_true(der_get(&reader, DER_OCTET_STRING, &contents) && reader.len == 0);
    assert_true(bytes_eq(contents, spki.key));
    assert_int_equal(flags[0], CK_TRUE);
    assert_int_equal(flags[1], CK_FALSE);
    assert_int_equal(flags[2], CK_TRUE);
    assert_int_equal(flags[3], CK_TRUE);
    assert_int_equal(flags[4], CK_TRUE);
    assert_int_equal(flags[5], CK_FALSE);

    CK_ATTRIBUTE secret = {CKA_VALUE, point, sizeof point};
    assert_int_equal(p11->C_GetAttributeValue(session, key, &secret, 1), CKR_ATTRIBUTE_SENSITIVE);
    CK_ATTRIBUTE small[] = {{CKA_LABEL, label, 3}, {CKA_ID, NULL, 0}, {CKA_MODULUS, NULL, 0}};
    assert_int_equal(p11->C_GetAttributeValue(session, key, small, 1), CKR_BUFFER_TOO_SMALL);
    assert_int_equal(small[0].ulValueLen, CK_UNAVAILABLE_INFORMATION);
    assert_int_equal(p11->C_GetAttributeValue(session, key, small + 1, 2),
                     CKR_ATTRIBUTE_TYPE_INVALID);
    assert_int_equal(small[1].ulValueLen, 20);
    assert_int_equal(p11->C_GetAttributeValue(session, 77, small, 1), CKR_OBJECT_HANDLE_INVALID);
    p11->C_CloseAllSessions(0);
}

static void test_signing(void **state)
{
    (void)state;
    CK_SESSION_HANDLE session = open_session();
    CK_MECHANISM mechanism = {CKM_ECDSA, NULL, 0}, wrong = {CKM_SHA256_RSA_PKCS, NULL, 0};
    uint8_t digest[32], first[64], signature[64];
    CK_ULONG len = 64;
    memset(digest, 0x5a, sizeof digest);
    assert_int_equal(p11->C_SignInit(session, &mechanism, 1), CKR_USER_NOT_LOGGED_IN);
    login(session);
    CK_OBJECT_HANDLE key = private_key(session);
    assert_int_equal(p11->C_Sign(session, digest, 32, signature, &len),
                     CKR_OPERATION_NOT_INITIALIZED);
    assert_int_equal(p11->C_SignInit(session, &wrong, key), CKR_MECHANISM_INVALID);
    assert_int_equal(p11->C_SignInit(session, &mechanism, 77), CKR_KEY_HANDLE_INVALID);
    assert_int_equal(p11->C_SignInit(session, &mechanism, key), CKR_OK);
    assert_int_equal(p11->C_SignInit(session, &mechanism, key), CKR_OPERATION_ACTIVE);
    /* asking for the length, and too little room, leave the operation alive (5.2) */
    len = 0;
    assert_int_equal(p11->C_Sign(session, digest, 32, NULL, &len), CKR_OK);
    assert_int_equal(len, 64);
    len = 63;
    assert_int_equal(p11->C_Sign(session, digest, 32, signature, &len), CKR_BUFFER_TOO_SMALL);
    assert_int_equal(p11->C_Sign(session, digest, 32, first, &len), CKR_OK);
    assert_int_equal(len, 64);
    assert_int_equal(check(digest, first), ERR_OK);
    assert_int_equal(p11->C_Sign(session, digest, 32, signature, &len),
                     CKR_OPERATION_NOT_INITIALIZED);
    for (int i = 0; i < 500; i++) {
        sha256_once(bytes_of(&i, sizeof i), digest);
        assert_int_equal(sign(session, key, digest, signature), CKR_OK);
        assert_int_equal(check(digest, signature), ERR_OK);
        assert_memory_equal(signature, first, 32); /* the fixed nonce, as announced */
    }
    static const uint8_t fills[] = {0x00, 0xff, 0x01};
    for (size_t i = 0; i < sizeof fills; i++) {
        memset(digest, fills[i], sizeof digest);
        assert_int_equal(sign(session, key, digest, signature), CKR_OK);
        assert_int_equal(check(digest, signature), ERR_OK);
    }
    p11->C_CloseAllSessions(0);
}

enum { THREADS = 8, ROUNDS = 300 };

static void *work(void *own)
{
    bool *good = own;
    CK_SESSION_HANDLE session = open_session();
    CK_OBJECT_HANDLE key = private_key(session);
    uint8_t digest[32], signature[64];
    *good = true;
    for (int i = 0; i < ROUNDS && *good; i++) {
        uintptr_t seed[2] = {(uintptr_t)own, (uintptr_t)i};
        sha256_once(BYTES_ARRAY(seed), digest);
        *good =
            sign(session, key, digest, signature) == CKR_OK && check(digest, signature) == ERR_OK;
        if (i % 50 == 0) {
            p11->C_CloseSession(session);
            session = open_session();
        }
    }
    p11->C_CloseSession(session);
    return NULL;
}

static void test_many_threads(void **state)
{
    (void)state;
    CK_SESSION_HANDLE session = open_session();
    pthread_t threads[THREADS];
    bool good[THREADS];
    login(session);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &good[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_true(good[i]);
    }
    p11->C_CloseSession(session);
}

static void test_label_and_start_again(void **state)
{
    (void)state;
    initialize(NULL);
    finalize(NULL);
    setenv("CERTMILL_NULLTOKEN_LABEL", "another", 1);
    assert_int_equal(p11->C_Initialize(NULL), CKR_OK);
    CK_SESSION_HANDLE session = open_session();
    login(session);
    CK_ATTRIBUTE label = {CKA_LABEL, "another", 7};
    CK_OBJECT_HANDLE found[8];
    assert_int_equal(find(session, &label, 1, found), 2);
    assert_int_equal(p11->C_Finalize(NULL), CKR_OK);
    assert_int_equal(p11->C_CloseSession(session), CKR_CRYPTOKI_NOT_INITIALIZED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refuses_without_permission),
        cmocka_unit_test_setup_teardown(test_slot_and_token, initialize, finalize),
        cmocka_unit_test_setup_teardown(test_sessions, initialize, finalize),
        cmocka_unit_test_setup_teardown(test_objects, initialize, finalize),
        cmocka_unit_test_setup_teardown(test_signing, initialize, finalize),
        cmocka_unit_test_setup_teardown(test_many_threads, initialize, finalize),
        cmocka_unit_test(test_label_and_start_again),
    };
    return cmocka_run_group_tests(tests, load_module, NULL);
}
