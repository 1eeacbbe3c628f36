/* Does the simulator answer as PKCS#11 says where pkcs11-tool does not look: message signing,
 * attributes that may not be read or changed, lost sessions, limits, many threads, fork?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "crypto/digest.h"
#include "crypto/keywrap.h"
#include "crypto/rsa_raw.h"
#include "crypto/verify.h"
#include "hsm/sim/cryptoki.h"

#define PIN    (CK_BYTE *)"123456", 6
#define SO_PIN (CK_BYTE *)"87654321", 8

static CK_FUNCTION_LIST *p11;
static struct sim_functions_v3 *v3;
static char folder[] = "/tmp/certmill-test-sim-XXXXXX";
static char yaml_path[64], control_path[64];

static CK_BYTE params_p256[] = {6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7};
static CK_BYTE params_ed25519[] = {6, 3, 0x2b, 0x65, 0x70};
static CK_BBOOL yes = CK_TRUE, no = CK_FALSE;

static void put(const char *path, const char *text)
{
    char beside[80];
    snprintf(beside, sizeof beside, "%s.new", path);
    FILE *file = fopen(beside, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    assert_int_equal(rename(beside, path), 0);
}

static void control(const char *faults)
{
    put(control_path, faults);
    usleep(15000);
}

static uint64_t status(const char *name)
{
    char line[128], wanted[64], path[96];
    uint64_t value = UINT64_MAX;
    long offset;
    snprintf(path, sizeof path, "%s/token/status", folder);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    while (fgets(line, sizeof line, file) && sscanf(line, "%63s %ld", wanted, &offset) == 2)
        if (strcmp(wanted, name) == 0) {
            assert_int_equal(fseek(file, offset, SEEK_SET), 0);
            assert_int_equal(fread(&value, 8, 1, file), 1);
            break;
        }
    fclose(file);
    return value;
}

static int load(void **state)
{
    (void)state;
    char self[PATH_MAX], path[PATH_MAX + 64];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(len > 0);
    self[len] = 0;
    snprintf(path, sizeof path, "%s/../bin/libcertmill-hsmsim.so", dirname(self));
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library)
        fail_msg("%s (build the target certmill-hsmsim)", dlerror());
    CK_C_GetFunctionList get;
    CK_RV (*get_interface)(CK_BYTE *, CK_VERSION *, struct sim_interface **, CK_FLAGS);
    void *symbol = dlsym(library, "C_GetFunctionList");
    memcpy(&get, &symbol, sizeof get);
    assert_int_equal(get(&p11), CKR_OK);
    assert_null(dlsym(library, "softkey_sign")); /* C_* alone is exported */
    symbol = dlsym(library, "C_GetInterface");
    memcpy(&get_interface, &symbol, sizeof symbol);
    struct sim_interface *found;
    CK_VERSION three = {3, 0}, four = {4, 0}, two = {2, 40};
    assert_int_equal(get_interface((CK_BYTE *)"PKCS 11", &three, &found, 0), CKR_OK);
    v3 = found->functions;
    assert_int_equal(get_interface(NULL, NULL, &found, 0), CKR_OK);
    assert_ptr_equal(found->functions, v3);
    assert_int_equal(get_interface((CK_BYTE *)"PKCS 11", &two, &found, 0), CKR_OK);
    assert_ptr_equal(found->functions, p11);
    assert_int_equal(get_interface((CK_BYTE *)"PKCS 11", &four, &found, 0), CKR_ARGUMENTS_BAD);
    assert_int_equal(get_interface((CK_BYTE *)"Vendor", NULL, &found, 0), CKR_ARGUMENTS_BAD);
    assert_non_null(mkdtemp(folder));
    snprintf(yaml_path, sizeof yaml_path, "%s/sim.yaml", folder);
    snprintf(control_path, sizeof control_path, "%s/control.yaml", folder);
    setenv("CERTMILL_HSMSIM_CONFIG", yaml_path, 1);
    return 0;
}

static int unload(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static CK_SESSION_HANDLE open_session(CK_FLAGS flags)
{
    CK_SESSION_HANDLE session;
    assert_int_equal(p11->C_OpenSession(0, CKF_SERIAL_SESSION | flags, NULL, NULL, &session),
                     CKR_OK);
    return session;
}

static void start(const char *yaml)
{
    char text[2048], command[128];
    snprintf(command, sizeof command, "rm -rf '%s/token' '%s'", folder, control_path);
    assert_int_equal(system(command), 0);
    snprintf(text, sizeof text,
             "token: {directory: token, pin_tries: 3}\ncontrol: control.yaml\n%s", yaml);
    put(yaml_path, text);
    assert_int_equal(p11->C_Initialize(NULL), CKR_OK);
    CK_UTF8CHAR label[33] = "a token                         ";
    assert_int_equal(p11->C_InitToken(0, SO_PIN, label), CKR_OK);
    CK_SESSION_HANDLE session = open_session(CKF_RW_SESSION);
    assert_int_equal(p11->C_Login(session, CKU_USER, PIN), CKR_USER_PIN_NOT_INITIALIZED);
    assert_int_equal(p11->C_InitPIN(session, PIN), CKR_USER_NOT_LOGGED_IN);
    assert_int_equal(p11->C_Login(session, CKU_SO, SO_PIN), CKR_OK);
    assert_int_equal(p11->C_InitPIN(session, PIN), CKR_OK);
    assert_int_equal(p11->C_CloseSession(session), CKR_OK);
}

static int stop(void **state)
{
    (void)state;
    p11->C_Finalize(NULL); /* some tests did it */
    return 0;
}

static CK_SESSION_HANDLE login(void)
{
    CK_SESSION_HANDLE session = open_session(CKF_RW_SESSION);
    assert_int_equal(p11->C_Login(session, CKU_USER, PIN), CKR_OK);
    return session;
}

static CK_OBJECT_HANDLE generate(CK_SESSION_HANDLE session, CK_MECHANISM_TYPE type,
                                 CK_ATTRIBUTE parameter, CK_ATTRIBUTE *more, CK_ULONG more_count,
                                 CK_OBJECT_HANDLE *out_public)
{
    CK_MECHANISM mechanism = {.mechanism = type};
    CK_ATTRIBUTE public[] = {parameter, {CKA_TOKEN, &yes, 1}};
    CK_ATTRIBUTE private[8] = {{CKA_TOKEN, &yes, 1}};
    CK_OBJECT_HANDLE made, other;
    if (more_count > 0)
        memcpy(private + 1, more, more_count * sizeof *more);
    assert_int_equal(p11->C_GenerateKeyPair(session, &mechanism, public, 2, private, 1 + more_count,
                                            &other, &made),
                     CKR_OK);
    if (out_public)
        *out_public = other;
    return made;
}

static CK_OBJECT_HANDLE generate_p256(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE *out_public)
{
    CK_ATTRIBUTE curve = {CKA_EC_PARAMS, params_p256, sizeof params_p256};
    return generate(session, CKM_EC_KEY_PAIR_GEN, curve, NULL, 0, out_public);
}

static struct spki public_key(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object)
{
    static uint8_t der[SPKI_DER_MAX];
    struct spki spki;
    CK_ATTRIBUTE info = {CKA_PUBLIC_KEY_INFO, der, sizeof der};
    assert_int_equal(p11->C_GetAttributeValue(session, object, &info, 1), CKR_OK);
    assert_int_equal(spki_decode(bytes_of(der, info.ulValueLen), &spki), ERR_OK);
    return spki;
}

static bool is_right(const struct spki *spki, enum sig_alg alg, struct bytes digest,
                     struct bytes message, struct bytes signature)
{
    uint8_t der[256];
    size_t len;
    if (spki->alg == KEY_EC_P256 || spki->alg == KEY_EC_P384) {
        assert_true(ecdsa_raw_to_der(signature, der, sizeof der, &len));
        signature = bytes_of(der, len);
    }
    struct verify_job job = {
        .alg = alg, .spki = spki, .digest = digest, .message = message, .signature = signature};
    return verify_one(&job) == ERR_OK;
}

static CK_RV sign_with(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key,
                       struct bytes data, uint8_t *out, CK_ULONG *len)
{
    CK_RV rv = p11->C_SignInit(session, mechanism, key);
    if (rv != CKR_OK)
        return rv;
    return p11->C_Sign(session, (CK_BYTE *)(uintptr_t)data.ptr, data.len, out, len);
}

static CK_RV sign_digest(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE key, uint8_t *out)
{
    CK_MECHANISM ecdsa = {.mechanism = CKM_ECDSA};
    uint8_t digest[32] = {1, 2, 3};
    CK_ULONG len = 64;
    return sign_with(session, &ecdsa, key, BYTES_ARRAY(digest), out, &len);
}

/* --- life --- */

static void not_initialized(void **state)
{
    (void)state;
    CK_SLOT_ID slot;
    CK_ULONG count = 1;
    assert_int_equal(p11->C_GetSlotList(CK_FALSE, &slot, &count), CKR_CRYPTOKI_NOT_INITIALIZED);
    assert_int_equal(p11->C_Finalize(NULL), CKR_CRYPTOKI_NOT_INITIALIZED);
    assert_int_equal(p11->C_CloseSession(1), CKR_CRYPTOKI_NOT_INITIALIZED);
    start("");
    assert_int_equal(p11->C_Initialize(NULL), CKR_CRYPTOKI_ALREADY_INITIALIZED);
    assert_int_equal(p11->C_Finalize(NULL), CKR_OK);
    put(yaml_path, "token: {directory: token, sries: 1}\n");
    assert_int_equal(p11->C_Initialize(NULL), CKR_GENERAL_ERROR);
    unsetenv("CERTMILL_HSMSIM_CONFIG");
    assert_int_equal(p11->C_Initialize(NULL), CKR_GENERAL_ERROR);
    setenv("CERTMILL_HSMSIM_CONFIG", yaml_path, 1);
}

static void pins(void **state)
{
    (void)state;
    start("");
    CK_SESSION_HANDLE session = open_session(0);
    CK_TOKEN_INFO info;
    assert_int_equal(p11->C_Login(session, CKU_SO, SO_PIN), CKR_SESSION_READ_ONLY_EXISTS);
    assert_int_equal(p11->C_Login(session, CKU_USER, (CK_BYTE *)"12345", 5), CKR_PIN_INCORRECT);
    assert_int_equal(status("user_pin_wrong"), 1);
    p11->C_GetTokenInfo(0, &info);
    assert_true(info.flags & CKF_USER_PIN_COUNT_LOW && !(info.flags & CKF_USER_PIN_FINAL_TRY));
    assert_int_equal(p11->C_Login(session, CKU_USER, (CK_BYTE *)"1234567", 7), CKR_PIN_INCORRECT);
    p11->C_GetTokenInfo(0, &info);
    assert_true(info.flags & CKF_USER_PIN_FINAL_TRY);
    assert_int_equal(p11->C_Login(session, CKU_USER, PIN), CKR_OK); /* the count starts again */
    assert_int_equal(status("user_pin_failures"), 0);
    assert_int_equal(p11->C_Login(session, CKU_USER, PIN), CKR_USER_ALREADY_LOGGED_IN);
    assert_int_equal(p11->C_Login(session, CKU_SO, SO_PIN), CKR_USER_ANOTHER_ALREADY_LOGGED_IN);
    assert_int_equal(p11->C_Login(session, 7, PIN), CKR_USER_TYPE_INVALID);
    assert_int_equal(p11->C_Logout(session), CKR_OK);
    assert_int_equal(p11->C_Logout(session), CKR_USER_NOT_LOGGED_IN);
    for (int i = 0; i < 3; i++)
        assert_int_equal(p11->C_Login(session, CKU_USER, SO_PIN), CKR_PIN_INCORRECT);
    for (int i = 0; i < 3; i++) /* also the right one, and no try is counted any more */
        assert_int_equal(p11->C_Login(session, CKU_USER, PIN), CKR_PIN_LOCKED);
    assert_int_equal(status("user_pin_wrong"), 5);
    p11->C_GetTokenInfo(0, &info);
    assert_true(info.flags & CKF_USER_PIN_LOCKED);
    assert_int_equal(p11->C_CloseSession(session), CKR_OK);
    session = open_session(CKF_RW_SESSION);
    assert_int_equal(p11->C_Login(session, CKU_SO, SO_PIN), CKR_OK);
    CK_SESSION_HANDLE other;
    assert_int_equal(p11->C_OpenSession(0, CKF_SERIAL_SESSION, NULL, NULL, &other),
                     CKR_SESSION_READ_WRITE_SO_EXISTS);
    assert_int_equal(p11->C_InitPIN(session, (CK_BYTE *)"123", 3), CKR_PIN_LEN_RANGE);
    assert_int_equal(p11->C_InitPIN(session, PIN), CKR_OK); /* unlocks */
    assert_int_equal(p11->C_Logout(session), CKR_OK);
    assert_int_equal(p11->C_SetPIN(session, SO_PIN, (CK_BYTE *)"abcd", 4), CKR_PIN_INCORRECT);
    assert_int_equal(p11->C_SetPIN(session, PIN, (CK_BYTE *)"abcd", 4), CKR_OK);
    assert_int_equal(p11->C_Login(session, CKU_USER, PIN), CKR_PIN_INCORRECT);
    assert_int_equal(p11->C_Login(session, CKU_USER, (CK_BYTE *)"abcd", 4), CKR_OK);
    CK_UTF8CHAR label[33] = "b token                         ";
    assert_int_equal(p11->C_InitToken(0, SO_PIN, label), CKR_SESSION_EXISTS);
    p11->C_CloseAllSessions(0);
    assert_int_equal(p11->C_InitToken(0, PIN, label), CKR_PIN_INCORRECT);
    assert_int_equal(status("so_pin_wrong"), 1);
}

/* --- signatures --- */

static void ecdsa_digests(void **state)
{
    (void)state;
    start("");
    CK_SESSION_HANDLE session = login();
    CK_OBJECT_HANDLE public, key = generate_p256(session, &public);
    struct spki spki = public_key(session, public);
    CK_MECHANISM ecdsa = {.mechanism = CKM_ECDSA}, hashed = {.mechanism = CKM_ECDSA_SHA384};
    uint8_t data[80], signature[64], digest[48];
    CK_ULONG len = sizeof signature;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(200 - i);
    static const size_t lens[] = {20, 28, 32, 33, 48, 64};
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        len = sizeof signature;
        assert_int_equal(sign_with(session, &ecdsa, key, bytes_of(data, lens[i]), signature, &len),
                         CKR_OK);
        assert_int_equal(len, 64);
        static const enum sig_alg algs[65] = {
            [32] = SIG_ECDSA_SHA256, [48] = SIG_ECDSA_SHA384, [64] = SIG_ECDSA_SHA512};
        if (algs[lens[i]] != SIG_NONE) /* the other lengths: tests/interop/test_sim.py */
            assert_true(is_right(&spki, algs[lens[i]], bytes_of(data, lens[i]), (struct bytes){0},
                                 BYTES_ARRAY(signature)));
        assert_int_equal(p11->C_VerifyInit(session, &ecdsa, public), CKR_OK);
        assert_int_equal(p11->C_Verify(session, data, lens[i], signature, 64), CKR_OK);
        signature[63] ^= 1;
        assert_int_equal(p11->C_VerifyInit(session, &ecdsa, public), CKR_OK);
        assert_int_equal(p11->C_Verify(session, data, lens[i], signature, 64),
                         CKR_SIGNATURE_INVALID);
    }
    assert_int_equal(sign_with(session, &ecdsa, key, bytes_of(data, 65), signature, &len),
                     CKR_DATA_LEN_RANGE);
    len = sizeof signature;
    assert_int_equal(sign_with(session, &hashed, key, BYTES_ARRAY(data), signature, &len), CKR_OK);
    digest_once(HASH_SHA384, BYTES_ARRAY(data), digest);
    assert_true(is_right(&spki, SIG_ECDSA_SHA384, BYTES_ARRAY(digest), (struct bytes){0},
                         BYTES_ARRAY(signature)));
    /* in parts */
    assert_int_equal(p11->C_SignInit(session, &hashed, key), CKR_OK);
    assert_int_equal(p11->C_SignUpdate(session, data, 30), CKR_OK);
    assert_int_equal(p11->C_SignUpdate(session, data + 30, 50), CKR_OK);
    assert_int_equal(p11->C_SignFinal(session, signature, &len), CKR_OK);
    assert_true(is_right(&spki, SIG_ECDSA_SHA384, BYTES_ARRAY(digest), (struct bytes){0},
                         BYTES_ARRAY(signature)));
    /* asking for the length keeps the operation */
    assert_int_equal(p11->C_SignInit(session, &ecdsa, key), CKR_OK);
    assert_int_equal(p11->C_SignInit(session, &ecdsa, key), CKR_OPERATION_ACTIVE);
    assert_int_equal(p11->C_Sign(session, data, 32, NULL, &len), CKR_OK);
    assert_int_equal(len, 64);
    len = 63;
    assert_int_equal(p11->C_Sign(session, data, 32, signature, &len), CKR_BUFFER_TOO_SMALL);
    assert_int_equal(p11->C_Sign(session, data, 32, signature, &len), CKR_OK);
    assert_int_equal(p11->C_Sign(session, data, 32, signature, &len),
                     CKR_OPERATION_NOT_INITIALIZED);
    assert_int_equal(p11->C_SignInit(session, &ecdsa, public), CKR_KEY_FUNCTION_NOT_PERMITTED);
    assert_int_equal(p11->C_SignInit(session, &ecdsa, 12345), CKR_KEY_HANDLE_INVALID);
    CK_MECHANISM rsa = {.mechanism = CKM_RSA_PKCS};
    assert_int_equal(p11->C_SignInit(session, &rsa, key), CKR_KEY_TYPE_INCONSISTENT);
}

static void rsa(void **state)
{
    (void)state;
    start("");
    CK_SESSION_HANDLE session = login();
    CK_ULONG bits = 2048;
    CK_OBJECT_HANDLE public;
    CK_OBJECT_HANDLE key =
        generate(session, CKM_RSA_PKCS_KEY_PAIR_GEN,
                 (CK_ATTRIBUTE){CKA_MODULUS_BITS, &bits, sizeof bits}, NULL, 0, &public);
    struct spki spki = public_key(session, public);
    uint8_t message[100] = "rsa", digest[64], signature[256], info[19 + 32];
    static const uint8_t prefix[] = {0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1,
                                     0x65, 3,    4,    2,    1, 5, 0,    4,    0x20};
    CK_ULONG len = sizeof signature;
    digest_once(HASH_SHA256, BYTES_ARRAY(message), digest);
    memcpy(info, prefix, sizeof prefix);
    memcpy(info + sizeof prefix, digest, 32);
    CK_MECHANISM pkcs = {.mechanism = CKM_RSA_PKCS}, sha = {.mechanism = CKM_SHA256_RSA_PKCS};
    assert_int_equal(sign_with(session, &pkcs, key, BYTES_ARRAY(info), signature, &len), CKR_OK);
    assert_true(is_right(&spki, SIG_RSA_SHA256, bytes_of(digest, 32), (struct bytes){0},
                         BYTES_ARRAY(signature)));
    uint8_t again[256];
    assert_int_equal(sign_with(session, &sha, key, BYTES_ARRAY(message), again, &len), CKR_OK);
    assert_memory_equal(again, signature, sizeof again);
    uint8_t longest[246] = {0};
    assert_int_equal(sign_with(session, &pkcs, key, bytes_of(longest, 245), signature, &len),
                     CKR_OK);
    assert_int_equal(rsa_raw_verify(&spki, bytes_of(longest, 245), BYTES_ARRAY(signature)), ERR_OK);
    assert_int_equal(sign_with(session, &pkcs, key, BYTES_ARRAY(longest), signature, &len),
                     CKR_DATA_LEN_RANGE);
    CK_RSA_PKCS_PSS_PARAMS pss = {CKM_SHA384, CKG_MGF1_SHA384, 48};
    CK_MECHANISM pss_raw = {CKM_RSA_PKCS_PSS, &pss, sizeof pss};
    digest_once(HASH_SHA384, BYTES_ARRAY(message), digest);
    assert_int_equal(sign_with(session, &pss_raw, key, bytes_of(digest, 48), signature, &len),
                     CKR_OK);
    assert_true(is_right(&spki, SIG_RSA_PSS_SHA384, bytes_of(digest, 48), (struct bytes){0},
                         BYTES_ARRAY(signature)));
    assert_int_equal(sign_with(session, &pss_raw, key, bytes_of(digest, 32), signature, &len),
                     CKR_DATA_LEN_RANGE);
    pss.sLen = 20;
    assert_int_equal(p11->C_SignInit(session, &pss_raw, key), CKR_MECHANISM_PARAM_INVALID);
    bits = 1024;
    CK_MECHANISM gen = {.mechanism = CKM_RSA_PKCS_KEY_PAIR_GEN};
    CK_ATTRIBUTE small = {CKA_MODULUS_BITS, &bits, sizeof bits};
    assert_int_equal(p11->C_GenerateKeyPair(session, &gen, &small, 1, NULL, 0, &public, &key),
                     CKR_KEY_SIZE_RANGE);
}

static void message_signing(void **state)
{
    (void)state;
    start("");
    CK_SESSION_HANDLE session = login();
    CK_OBJECT_HANDLE public,
        key = generate(session, CKM_EC_EDWARDS_KEY_PAIR_GEN,
                       (CK_ATTRIBUTE){CKA_EC_PARAMS, params_ed25519, sizeof params_ed25519}, NULL,
                       0, &public);
    struct spki spki = public_key(session, public);
    CK_MECHANISM eddsa = {.mechanism = CKM_EDDSA};
    CK_MECHANISM_INFO info;
    CK_BYTE message[40] = "many", signature[64];
    CK_ULONG len = 0;
    assert_int_equal(p11->C_GetMechanismInfo(0, CKM_EDDSA, &info), CKR_OK);
    assert_true(info.flags & SIM_CKF_MESSAGE_SIGN);
    assert_int_equal(v3->C_SignMessage(session, NULL, 0, message, 40, signature, &len),
                     CKR_OPERATION_NOT_INITIALIZED);
    assert_int_equal(v3->C_MessageSignInit(session, &eddsa, key), CKR_OK);
    for (int i = 0; i < 3; i++) {
        message[5] = (CK_BYTE)i;
        assert_int_equal(v3->C_SignMessage(session, NULL, 0, message, 40, NULL, &len), CKR_OK);
        assert_int_equal(len, 64);
        assert_int_equal(v3->C_SignMessage(session, NULL, 0, message, 40, signature, &len), CKR_OK);
        assert_true(is_right(&spki, SIG_ED25519, (struct bytes){0}, BYTES_ARRAY(message),
                             BYTES_ARRAY(signature)));
    }
    assert_int_equal(p11->C_Logout(session), CKR_OK); /* the key goes with the login */
    assert_int_equal(v3->C_SignMessage(session, NULL, 0, message, 40, signature, &len),
                     CKR_USER_NOT_LOGGED_IN);
    assert_int_equal(v3->C_MessageSignFinal(session), CKR_OK);
    assert_int_equal(v3->C_MessageSignFinal(session), CKR_OPERATION_NOT_INITIALIZED);
    assert_int_equal(p11->C_Finalize(NULL), CKR_OK);
    start("message_sign: no\n");
    session = login();
    assert_int_equal(p11->C_GetMechanismInfo(0, CKM_EDDSA, &info), CKR_OK);
    assert_false(info.flags & SIM_CKF_MESSAGE_SIGN);
    assert_int_equal(v3->C_MessageSignInit(session, &eddsa, key), CKR_FUNCTION_NOT_SUPPORTED);
}

static void ml_dsa(void **state)
{
    (void)state;
    start("");
    CK_MECHANISM_INFO info;
    if (p11->C_GetMechanismInfo(0, SIM_CKM_ML_DSA, &info) != CKR_OK)
        skip(); /* wolfSSL was built without */
    CK_SESSION_HANDLE session = login();
    CK_ULONG set = SIM_CKP_ML_DSA_44;
    CK_OBJECT_HANDLE public,
        key = generate(session, SIM_CKM_ML_DSA_KEY_PAIR_GEN,
                       (CK_ATTRIBUTE){SIM_CKA_PARAMETER_SET, &set, sizeof set}, NULL, 0, &public);
    struct spki spki = public_key(session, public);
    CK_MECHANISM mechanism = {.mechanism = SIM_CKM_ML_DSA};
    static uint8_t signature[2420];
    CK_ULONG len = sizeof signature;
    assert_int_equal(sign_with(session, &mechanism, key, BYTES_LIT("message"), signature, &len),
                     CKR_OK);
    assert_true(is_right(&spki, SIG_ML_DSA_44, (struct bytes){0}, BYTES_LIT("message"),
                         bytes_of(signature, len)));
}

static void wants_pin_each_time(void **state)
{
    (void)state;
    start("");
    CK_SESSION_HANDLE session = login();
    CK_ATTRIBUTE always = {CKA_ALWAYS_AUTHENTICATE, &yes, 1};
    CK_OBJECT_HANDLE key =
        generate(session, CKM_EC_KEY_PAIR_GEN,
                 (CK_ATTRIBUTE){CKA_EC_PARAMS, params_p256, sizeof params_p256}, &always, 1, NULL);
    CK_MECHANISM ecdsa = {.mechanism = CKM_ECDSA};
    CK_BYTE digest[32] = {1}, signature[64];
    CK_ULONG len = 64;
    assert_int_equal(sign_digest(session, key, signature), CKR_USER_NOT_LOGGED_IN);
    assert_int_equal(p11->C_Login(session, CKU_CONTEXT_SPECIFIC, PIN),
                     CKR_OPERATION_NOT_INITIALIZED);
    assert_int_equal(p11->C_SignInit(session, &ecdsa, key), CKR_OK);
    assert_int_equal(p11->C_Login(session, CKU_CONTEXT_SPECIFIC, PIN), CKR_OK);
    assert_int_equal(p11->C_Sign(session, digest, 32, signature, &len), CKR_OK);
    assert_int_equal(sign_digest(session, key, signature), CKR_USER_NOT_LOGGED_IN);
}

/* --- objects --- */

static void secrets(void **state)
{
    (void)state;
    start("");
    CK_SESSION_HANDLE session = login();
    CK_OBJECT_HANDLE key = generate_p256(session, NULL);
    CK_BYTE value[64], label[8];
    CK_BBOOL always, never, local;
    CK_ATTRIBUTE wanted[] = {{CKA_VALUE, value, sizeof value},
                             {CKA_ALWAYS_SENSITIVE, &always, 1},
                             {CKA_NEVER_EXTRACTABLE, &never, 1},
                             {CKA_LOCAL, &local, 1},
                             {0xc0000001, value, sizeof value}};
    assert_int_equal(p11->C_GetAttributeValue(session, key, wanted, 4), CKR_ATTRIBUTE_SENSITIVE);
    assert_int_equal(wanted[0].ulValueLen, CK_UNAVAILABLE_INFORMATION);
    assert_true(always && never && local); /* all are answered, whatever one says */
    assert_int_equal(p11->C_GetAttributeValue(session, key, &wanted[4], 1),
                     CKR_ATTRIBUTE_TYPE_INVALID); /* how it is kept is nobody's business */
    CK_ATTRIBUTE out = {CKA_EXTRACTABLE, &yes, 1}, open = {CKA_SENSITIVE, &no, 1};
    assert_int_equal(p11->C_SetAttributeValue(session, key, &out, 1), CKR_ATTRIBUTE_READ_ONLY);
    assert_int_equal(p11->C_SetAttributeValue(session, key, &open, 1), CKR_ATTRIBUTE_READ_ONLY);
    CK_ATTRIBUTE origin = {CKA_LOCAL, &no, 1};
    assert_int_equal(p11->C_SetAttributeValue(session, key, &origin, 1), CKR_ATTRIBUTE_READ_ONLY);
    /* one that was made to be read can be, and can be closed, but not opened again */
    CK_ATTRIBUTE both[] = {out, open};
    key = generate(session, CKM_EC_KEY_PAIR_GEN,
                   (CK_ATTRIBUTE){CKA_EC_PARAMS, params_p256, sizeof params_p256}, both, 2, NULL);
    wanted[0] = (CK_ATTRIBUTE){CKA_VALUE, value, sizeof value};
    assert_int_equal(p11->C_GetAttributeValue(session, key, wanted, 3), CKR_OK);
    assert_int_equal(wanted[0].ulValueLen, 32);
    assert_false(always || never);
    CK_ATTRIBUTE shut = {CKA_SENSITIVE, &yes, 1};
    assert_int_equal(p11->C_SetAttributeValue(session, key, &shut, 1), CKR_OK);
    wanted[0] = (CK_ATTRIBUTE){CKA_VALUE, value, sizeof value};
    assert_int_equal(p11->C_GetAttributeValue(session, key, wanted, 2), CKR_ATTRIBUTE_SENSITIVE);
    assert_false(always); /* it was not always so */
    /* a private key cannot be found by guessing its value */
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE guess[] = {{CKA_CLASS, &class, sizeof class}, {CKA_VALUE, value, 32}};
    CK_OBJECT_HANDLE found;
    CK_ULONG count;
    assert_int_equal(p11->C_FindObjectsInit(session, guess, 2), CKR_OK);
    assert_int_equal(p11->C_FindObjects(session, &found, 1, &count), CKR_OK);
    assert_int_equal(count, 0);
    assert_int_equal(p11->C_FindObjectsFinal(session), CKR_OK);
    /* nor seen at all without login, nor made public */
    assert_int_equal(p11->C_Logout(session), CKR_OK);
    CK_ATTRIBUTE name = {CKA_LABEL, label, sizeof label};
    assert_int_equal(p11->C_GetAttributeValue(session, key, &name, 1), CKR_OBJECT_HANDLE_INVALID);
    assert_int_equal(p11->C_Login(session, CKU_USER, PIN), CKR_OK);
    assert_int_equal(p11->C_GetAttributeValue(session, key, &name, 1), CKR_OK);
    CK_MECHANISM gen = {.mechanism = CKM_EC_KEY_PAIR_GEN};
    CK_ATTRIBUTE curve = {CKA_EC_PARAMS, params_p256, sizeof params_p256};
    CK_ATTRIBUTE exposed = {CKA_PRIVATE, &no, 1};
    CK_OBJECT_HANDLE a, b;
    assert_int_equal(p11->C_GenerateKeyPair(session, &gen, &curve, 1, &exposed, 1, &a, &b),
                     CKR_TEMPLATE_INCONSISTENT);
    CK_SESSION_HANDLE reader = open_session(0);
    assert_int_equal(p11->C_DestroyObject(reader, key), CKR_SESSION_READ_ONLY);
    assert_int_equal(p11->C_DestroyObject(session, key), CKR_OK);
    assert_int_equal(sign_digest(session, key, value), CKR_KEY_HANDLE_INVALID);
}

/* Objects of a session go with it; given keys sign like generated ones. */
static void given_and_passing(void **state)
{
    (void)state;
    start("");
    CK_SESSION_HANDLE keeper = login(), session = open_session(CKF_RW_SESSION);
    struct softkey *soft;
    uint8_t pkcs8[512], spki_der[256], signature[64];
    size_t pkcs8_len, spki_len;
    struct spki spki;
    assert_int_equal(softkey_generate(KEY_EC_P256, 0, &soft), ERR_OK);
    assert_int_equal(softkey_export(soft, pkcs8, sizeof pkcs8, &pkcs8_len), ERR_OK);
    assert_int_equal(softkey_spki(soft, spki_der, sizeof spki_der, &spki_len), ERR_OK);
    assert_int_equal(spki_decode(bytes_of(spki_der, spki_len), &spki), ERR_OK);
    softkey_free(soft);
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_KEY_TYPE type = CKK_EC;
    /* where RFC 5915 puts the scalar in what softkey writes: after 30 .. 02 01 01 04 20 */
    uint8_t *scalar = memmem(pkcs8, pkcs8_len, "\x02\x01\x01\x04\x20", 5);
    assert_non_null(scalar);
    CK_ATTRIBUTE given[] = {{CKA_CLASS, &class, sizeof class},
                            {CKA_KEY_TYPE, &type, sizeof type},
                            {CKA_EC_PARAMS, params_p256, sizeof params_p256},
                            {CKA_VALUE, scalar + 5, 32}};
    CK_OBJECT_HANDLE key;
    assert_int_equal(p11->C_CreateObject(session, given, 4, &key), CKR_OK);
    assert_int_equal(sign_digest(session, key, signature), CKR_OK);
    uint8_t digest[32] = {1, 2, 3};
    assert_true(is_right(&spki, SIG_ECDSA_SHA256, BYTES_ARRAY(digest), (struct bytes){0},
                         BYTES_ARRAY(signature)));
    CK_BBOOL local;
    CK_ATTRIBUTE origin = {CKA_LOCAL, &local, 1};
    assert_int_equal(p11->C_GetAttributeValue(session, key, &origin, 1), CKR_OK);
    assert_false(local);
    assert_int_equal(p11->C_CloseSession(session), CKR_OK);
    assert_int_equal(sign_digest(keeper, key, signature), CKR_KEY_HANDLE_INVALID);
    memset(scalar + 5, 0, 32);
    assert_int_equal(p11->C_CreateObject(keeper, given, 4, &key), CKR_ATTRIBUTE_VALUE_INVALID);
    assert_int_equal(p11->C_CreateObject(keeper, given, 3, &key), CKR_ATTRIBUTE_VALUE_INVALID);
}

/* --- the device --- */

static void session_limit(void **state)
{
    (void)state;
    start("sessions_max: 3\n");
    CK_SESSION_HANDLE a = open_session(0), b = open_session(0), c = open_session(0), d;
    assert_int_equal(p11->C_OpenSession(0, CKF_SERIAL_SESSION, NULL, NULL, &d), CKR_SESSION_COUNT);
    assert_int_equal(p11->C_CloseSession(b), CKR_OK);
    assert_int_equal(p11->C_CloseSession(b), CKR_SESSION_HANDLE_INVALID);
    d = open_session(0);
    assert_int_not_equal(b, d); /* a closed handle does not come back to life */
    assert_int_equal(p11->C_CloseSession(b), CKR_SESSION_HANDLE_INVALID);
    assert_int_equal(p11->C_OpenSession(0, 0, NULL, NULL, &d), CKR_SESSION_PARALLEL_NOT_SUPPORTED);
    control("faults: [{kind: sessions-lost}]\n");
    CK_SESSION_INFO info;
    assert_int_equal(p11->C_GetSessionInfo(a, &info), CKR_SESSION_HANDLE_INVALID);
    for (int i = 0; i < 3; i++) /* the lost ones do not count */
        open_session(0);
    assert_int_equal(p11->C_GetSessionInfo(c, &info), CKR_SESSION_HANDLE_INVALID);
}

static void lost_sessions(void **state)
{
    (void)state;
    start("");
    CK_SESSION_HANDLE session = login();
    CK_OBJECT_HANDLE key = generate_p256(session, NULL);
    CK_MECHANISM ecdsa = {.mechanism = CKM_ECDSA};
    uint8_t signature[64], digest[32] = {1};
    CK_ULONG len = 64;
    control("faults: [{kind: sessions-lost, calls: [sign], at_call: 2}]\n");
    assert_int_equal(sign_digest(session, key, signature), CKR_OK);
    assert_int_equal(sign_digest(session, key, signature), CKR_SESSION_HANDLE_INVALID);
    assert_int_equal(p11->C_SignInit(session, &ecdsa, key), CKR_SESSION_HANDLE_INVALID);
    session = open_session(CKF_RW_SESSION);
    assert_int_equal(p11->C_SignInit(session, &ecdsa, key), CKR_USER_NOT_LOGGED_IN);
    assert_int_equal(p11->C_Login(session, CKU_USER, PIN), CKR_OK);
    assert_int_equal(p11->C_SignInit(session, &ecdsa, key), CKR_OK); /* the handle still holds */
    assert_int_equal(p11->C_Sign(session, digest, 32, signature, &len), CKR_OK);
    control("faults: [{kind: vanish, length_ms: 200}]\n");
    CK_SLOT_ID slot;
    CK_ULONG count = 1;
    CK_TOKEN_INFO info;
    assert_int_equal(p11->C_SignInit(session, &ecdsa, key), CKR_DEVICE_REMOVED);
    assert_int_equal(p11->C_GetTokenInfo(0, &info), CKR_TOKEN_NOT_PRESENT);
    assert_int_equal(p11->C_GetSlotList(CK_TRUE, &slot, &count), CKR_OK);
    assert_int_equal(count, 0);
    usleep(250000);
    count = 1;
    assert_int_equal(p11->C_GetSlotList(CK_TRUE, &slot, &count), CKR_OK);
    assert_int_equal(count, 1);
    assert_int_equal(p11->C_SignInit(session, &ecdsa, key), CKR_SESSION_HANDLE_INVALID);
    session = login();
    assert_int_equal(sign_digest(session, key, signature), CKR_OK);
}

static void throttled(void **state)
{
    (void)state;
    start("rate_limit: {per_second: 10, burst: 3, answer: CKR_DEVICE_MEMORY}\n");
    CK_SESSION_HANDLE session = login();
    CK_OBJECT_HANDLE key = generate_p256(session, NULL);
    uint8_t signature[64];
    for (int i = 0; i < 3; i++)
        assert_int_equal(sign_digest(session, key, signature), CKR_OK);
    assert_int_equal(sign_digest(session, key, signature), CKR_DEVICE_MEMORY);
    usleep(110000);
    assert_int_equal(sign_digest(session, key, signature), CKR_OK);
    assert_true(status("throttled") >= 1);
    assert_int_equal(p11->C_Finalize(NULL), CKR_OK);
    start("rate_limit: {per_second: 50, answer: block}\n");
    session = login();
    key = generate_p256(session, NULL);
    uint64_t begin = clock_mono_ns();
    for (int i = 0; i < 6; i++)
        assert_int_equal(sign_digest(session, key, signature), CKR_OK);
    assert_true(clock_mono_ns() - begin >= 5 * 20 * NS_PER_MS);
}

static void wrong_signatures(void **state)
{
    (void)state;
    start("");
    CK_SESSION_HANDLE session = login();
    CK_OBJECT_HANDLE public, key = generate_p256(session, &public);
    struct spki spki = public_key(session, public);
    uint8_t signature[64], digest[32] = {1, 2, 3};
    control("faults: [{kind: wrong-signature, every: 5}]\n");
    for (int i = 1; i <= 20; i++) {
        assert_int_equal(sign_digest(session, key, signature), CKR_OK);
        assert_int_equal(is_right(&spki, SIG_ECDSA_SHA256, BYTES_ARRAY(digest), (struct bytes){0},
                                  BYTES_ARRAY(signature)),
                         i % 5 != 0);
    }
    assert_int_equal(status("wrong_signatures"), 4);
}

/* --- at once --- */

enum { THREADS = 4 };

struct load {
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE key;
    int count, failed;
    const struct spki *spki;
};

static void *run_load(void *arg)
{
    struct load *load = arg;
    uint8_t signature[64], digest[32] = {1, 2, 3};
    for (int i = 0; i < load->count; i++)
        if (sign_digest(load->session, load->key, signature) != CKR_OK ||
            !is_right(load->spki, SIG_ECDSA_SHA256, BYTES_ARRAY(digest), (struct bytes){0},
                      BYTES_ARRAY(signature)))
            load->failed++;
    return NULL;
}

static uint64_t run_threads(CK_OBJECT_HANDLE key, const struct spki *spki, int count)
{
    pthread_t thread[THREADS];
    struct load load[THREADS];
    for (int i = 0; i < THREADS; i++)
        load[i] = (struct load){open_session(0), key, count, 0, spki};
    uint64_t begin = clock_mono_ns();
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, run_load, &load[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        assert_int_equal(load[i].failed, 0);
    }
    return clock_mono_ns() - begin;
}

static void engines_are_shared(void **state)
{
    (void)state;
    start("engines: 1\nservice: [{constant_us: 20000}]\n");
    CK_SESSION_HANDLE session = login();
    CK_OBJECT_HANDLE public, key = generate_p256(session, &public);
    struct spki spki = public_key(session, public);
    assert_true(run_threads(key, &spki, 3) >= 12 * 20 * NS_PER_MS); /* one after the other */
    assert_int_equal(p11->C_Finalize(NULL), CKR_OK);
    start("engines: 4\nservice: [{constant_us: 150000}]\n");
    session = login();
    key = generate_p256(session, &public);
    spki = public_key(session, public);
    uint64_t took = run_threads(key, &spki, 3);
    assert_true(took >= 3 * 150 * NS_PER_MS);
    assert_true(took < 11 * 150 * NS_PER_MS); /* four at once */
    assert_int_equal(status("service_ns"), 12 * 150 * NS_PER_MS);
}

static atomic_bool churn_ends;

/* Meanwhile, everything that changes what the signers use. */
static void *churn(void *arg)
{
    (void)arg;
    CK_MECHANISM gen = {.mechanism = CKM_EC_KEY_PAIR_GEN};
    CK_ATTRIBUTE public[] = {{CKA_EC_PARAMS, params_p256, sizeof params_p256},
                             {CKA_TOKEN, &yes, 1}};
    CK_ATTRIBUTE private = {CKA_TOKEN, &yes, 1};
    while (!atomic_load(&churn_ends)) {
        CK_SESSION_HANDLE session;
        CK_OBJECT_HANDLE a, b;
        if (p11->C_OpenSession(0, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session) !=
                CKR_OK ||
            p11->C_GenerateKeyPair(session, &gen, public, 2, &private, 1, &a, &b) != CKR_OK ||
            p11->C_DestroyObject(session, a) != CKR_OK ||
            p11->C_DestroyObject(session, b) != CKR_OK || p11->C_CloseSession(session) != CKR_OK)
            return (void *)1;
    }
    return NULL;
}

static void many_threads(void **state)
{
    (void)state;
    start("");
    CK_SESSION_HANDLE session = login();
    CK_OBJECT_HANDLE public, key = generate_p256(session, &public);
    struct spki spki = public_key(session, public);
    pthread_t thread;
    void *failed;
    atomic_store(&churn_ends, false);
    assert_int_equal(pthread_create(&thread, NULL, churn, NULL), 0);
    run_threads(key, &spki, 200);
    atomic_store(&churn_ends, true);
    pthread_join(thread, &failed);
    assert_null(failed);
    assert_int_equal(status("signatures"), THREADS * 200);
}

/* A child has a module that is not initialized, initializes its own, and both sign. */
static void forked(void **state)
{
    (void)state;
    start("");
    CK_SESSION_HANDLE session = login();
    CK_OBJECT_HANDLE key = generate_p256(session, NULL);
    uint8_t signature[64];
    pid_t child = fork();
    if (child == 0) {
        CK_SESSION_HANDLE own;
        if (sign_digest(session, key, signature) != CKR_CRYPTOKI_NOT_INITIALIZED)
            _exit(1);
        if (p11->C_Initialize(NULL) != CKR_OK ||
            p11->C_OpenSession(0, CKF_SERIAL_SESSION, NULL, NULL, &own) != CKR_OK)
            _exit(2);
        if (sign_digest(own, key, signature) != CKR_USER_NOT_LOGGED_IN)
            _exit(3);
        if (p11->C_Login(own, CKU_USER, PIN) != CKR_OK ||
            sign_digest(own, key, signature) != CKR_OK)
            _exit(4);
        if (status("runs") != 1 || status("sessions_open") != 2)
            _exit(5);
        _exit(p11->C_Finalize(NULL) == CKR_OK ? 0 : 6);
    }
    int end;
    assert_int_equal(waitpid(child, &end, 0), child);
    assert_int_equal(end, 0);
    assert_int_equal(sign_digest(session, key, signature), CKR_OK);
    assert_int_equal(status("sessions_open"), 1);
}

/* What another process makes, changes and removes is seen. */
static void two_processes(void **state)
{
    (void)state;
    start("");
    CK_SESSION_HANDLE session = login();
    uint8_t signature[64];
    char label[16] = "";
    int to_parent[2];
    assert_int_equal(pipe(to_parent), 0);
    pid_t child = fork();
    if (child == 0) {
        CK_SESSION_HANDLE own;
        if (p11->C_Initialize(NULL) != CKR_OK ||
            p11->C_OpenSession(0, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &own) !=
                CKR_OK ||
            p11->C_Login(own, CKU_USER, PIN) != CKR_OK)
            _exit(1);
        CK_OBJECT_HANDLE key = generate_p256(own, NULL);
        CK_ATTRIBUTE name = {CKA_LABEL, (void *)(uintptr_t) "theirs", 6};
        if (p11->C_SetAttributeValue(own, key, &name, 1) != CKR_OK ||
            write(to_parent[1], &key, sizeof key) != sizeof key)
            _exit(2);
        _exit(p11->C_Finalize(NULL) == CKR_OK ? 0 : 3);
    }
    CK_OBJECT_HANDLE key;
    assert_int_equal(read(to_parent[0], &key, sizeof key), sizeof key);
    assert_int_equal(sign_digest(session, key, signature), CKR_OK);
    CK_ATTRIBUTE name = {CKA_LABEL, label, sizeof label};
    assert_int_equal(p11->C_GetAttributeValue(session, key, &name, 1), CKR_OK);
    assert_string_equal(label, "theirs");
    int end;
    assert_int_equal(waitpid(child, &end, 0), child);
    assert_int_equal(end, 0);
    close(to_parent[0]);
    close(to_parent[1]);
}

/* --- what the keys are kept with --- */

static void keywrap(void **state)
{
    (void)state;
    uint8_t key[KEYWRAP_KEY_LEN], sealed[128], out[128];
    size_t len, out_len;
    static const uint8_t known[] = {/* RFC 7914 11: passwd, salt, one round; the first 32 bytes */
                                    0x55, 0xac, 0x04, 0x6e, 0x56, 0xe3, 0x08, 0x9f,
                                    0xec, 0x16, 0x91, 0xc2, 0x25, 0x44, 0xb6, 0x05,
                                    0xf9, 0x41, 0x85, 0x21, 0x6d, 0xde, 0x04, 0x65,
                                    0xe6, 0x8b, 0x9d, 0x57, 0xc2, 0x0d, 0xac, 0xbc};
    assert_int_equal(keywrap_derive(BYTES_LIT("passwd"), BYTES_LIT("salt"), 1, key), ERR_OK);
    assert_memory_equal(key, known, sizeof known);
    assert_int_equal(
        keywrap_seal(key, BYTES_LIT("here"), BYTES_LIT("secret"), sealed, sizeof sealed, &len),
        ERR_OK);
    assert_int_equal(len, 6 + KEYWRAP_OVERHEAD);
    assert_int_equal(
        keywrap_open(key, BYTES_LIT("here"), bytes_of(sealed, len), out, sizeof out, &out_len),
        ERR_OK);
    assert_true(bytes_eq(bytes_of(out, out_len), BYTES_LIT("secret")));
    assert_int_equal(
        keywrap_open(key, BYTES_LIT("there"), bytes_of(sealed, len), out, sizeof out, &out_len),
        ERR_PIN_WRONG);
    for (size_t i = 0; i < len; i++) {
        sealed[i] ^= 1;
        assert_int_equal(
            keywrap_open(key, BYTES_LIT("here"), bytes_of(sealed, len), out, sizeof out, &out_len),
            ERR_PIN_WRONG);
        sealed[i] ^= 1;
    }
    for (size_t i = 0; i < len; i++)
        assert_int_equal(
            keywrap_open(key, BYTES_LIT("here"), bytes_of(sealed, i), out, sizeof out, &out_len),
            ERR_PIN_WRONG);
    assert_int_equal(keywrap_open(key, BYTES_LIT("here"), bytes_of(sealed, len), out, 5, &out_len),
                     ERR_NO_SPACE);
    key[31] ^= 1;
    assert_int_equal(
        keywrap_open(key, BYTES_LIT("here"), bytes_of(sealed, len), out, sizeof out, &out_len),
        ERR_PIN_WRONG);
    /* GCM specification, test case 16: AES-256, the tag of the same cipher with a given nonce */
    static const uint8_t gcm_key[] = {0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c,
                                      0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08,
                                      0xfe, 0xff, 0xe9, 0x92, 0x86, 0x65, 0x73, 0x1c,
                                      0x6d, 0x6a, 0x8f, 0x94, 0x67, 0x30, 0x83, 0x08};
    static const char text[] = "cafebabefacedbaddecaf888" /* nonce */
                               "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
                               "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
                               "76fc6ece0f4e1768cddf8853bb2d551b"; /* tag */
    static const char aad_text[] = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
    uint8_t aad[20];
    size_t aad_len;
    assert_true(bytes_from_hex(bytes_of_str(text), sealed, sizeof sealed, &len));
    assert_true(bytes_from_hex(bytes_of_str(aad_text), aad, sizeof aad, &aad_len));
    assert_int_equal(
        keywrap_open(gcm_key, BYTES_ARRAY(aad), bytes_of(sealed, len), out, sizeof out, &out_len),
        ERR_OK);
    assert_int_equal(out_len, 60);
    assert_memory_equal(out, "\xd9\x31\x32\x25\xf8\x84\x06\xe5", 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(not_initialized, stop),
        cmocka_unit_test_teardown(pins, stop),
        cmocka_unit_test_teardown(ecdsa_digests, stop),
        cmocka_unit_test_teardown(rsa, stop),
        cmocka_unit_test_teardown(message_signing, stop),
        cmocka_unit_test_teardown(ml_dsa, stop),
        cmocka_unit_test_teardown(wants_pin_each_time, stop),
        cmocka_unit_test_teardown(secrets, stop),
        cmocka_unit_test_teardown(given_and_passing, stop),
        cmocka_unit_test_teardown(session_limit, stop),
        cmocka_unit_test_teardown(lost_sessions, stop),
        cmocka_unit_test_teardown(throttled, stop),
        cmocka_unit_test_teardown(wrong_signatures, stop),
        cmocka_unit_test_teardown(engines_are_shared, stop),
        cmocka_unit_test_teardown(many_threads, stop),
        cmocka_unit_test_teardown(forked, stop),
        cmocka_unit_test_teardown(two_processes, stop),
        cmocka_unit_test(keywrap),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
