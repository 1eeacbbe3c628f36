/* module.c: the null token, a PKCS#11 2.40 module for tests and benchmarks ALONE.
 *
 * It shows what everything around an HSM can do when the HSM costs nothing: one slot, one token
 * "null", one P-256 key, signatures in the time of one multiplication. Its nonce is fixed, so any
 * two signatures give the private key away.
 *
 * Environment: CERTMILL_ALLOW_NULLTOKEN=1   without it, C_Initialize fails
 *              CERTMILL_NULLTOKEN_KEY       file of the private key, PKCS#8 or SEC 1, DER or PEM
 *              CERTMILL_NULLTOKEN_LABEL     CKA_LABEL of the key ("issuing")
 * Threads: as PKCS#11 says: many sessions at once, one thread at a time in each. C_Sign takes no
 * lock.
 */
#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hsm/null/key.h"

enum {
    SESSIONS = 4096,
    LABEL_MAX = 64,
    SIGNATURE_LEN = 2 * P256_LEN,
    DIGEST_MAX = 64,
    OBJECT_PRIVATE = 1, /* handles */
    OBJECT_PUBLIC = 2,
    OBJECT_LAST = OBJECT_PUBLIC,
    ATTRIBUTE_MAX = 128, /* bytes of the longest value */
};

enum { SESSION_FREE, SESSION_OPEN };

/* A cache line each: sessions of different threads share none. */
struct session {
    _Alignas(64) atomic_int state;
    CK_FLAGS flags;
    bool finding;
    bool signing;
    uint32_t found[OBJECT_LAST];
    uint32_t found_count;
    uint32_t found_next;
};

static struct {
    pthread_mutex_t lock; /* of C_Initialize, C_Finalize and C_Login */
    atomic_bool ready;
    atomic_bool logged_in;
    atomic_ulong session_count;
    struct null_key key;
    char label[LABEL_MAX + 1];
    struct session sessions[SESSIONS];
} token = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* --- general purpose --- */

static void pad(unsigned char *out, size_t len, const char *text)
{
    size_t text_len = strlen(text);
    memset(out, ' ', len);
    memcpy(out, text, text_len < len ? text_len : len);
}

static CK_RV start(void)
{
    const char *allow = getenv("CERTMILL_ALLOW_NULLTOKEN");
    if (!allow || strcmp(allow, "1") != 0) {
        fprintf(stderr, "certmill-nulltoken: refused: this is not an HSM; for a benchmark, set "
                        "CERTMILL_ALLOW_NULLTOKEN=1\n");
        return CKR_GENERAL_ERROR;
    }
    const char *path = getenv("CERTMILL_NULLTOKEN_KEY");
    const char *label = getenv("CERTMILL_NULLTOKEN_LABEL");
    if (!label || !*label)
        label = "issuing";
    if (!path || strlen(label) > LABEL_MAX) {
        fprintf(stderr,
                "certmill-nulltoken: CERTMILL_NULLTOKEN_KEY is not set, or the label is too "
                "long\n");
        return CKR_GENERAL_ERROR;
    }
    enum err err = null_key_load(path, &token.key);
    if (err) {
        fprintf(stderr, "certmill-nulltoken: %s: %s (a P-256 private key is needed)\n", path,
                err_code(err));
        return CKR_GENERAL_ERROR;
    }
    memcpy(token.label, label, strlen(label) + 1);
    fprintf(stderr,
            "\n"
            "***************************************************************************\n"
            "*** certmill-nulltoken: EVERY SIGNATURE OF THIS TOKEN USES THE SAME NONCE. ***\n"
            "*** Any two of them give the private key to everybody. Benchmarks only.  ***\n"
            "***************************************************************************\n\n");
    return CKR_OK;
}

CK_RV C_Initialize(void *args)
{
    (void)args; /* no mutexes needed, whatever is offered: the lock is the system's */
    pthread_mutex_lock(&token.lock);
    CK_RV rv = CKR_CRYPTOKI_ALREADY_INITIALIZED;
    if (!atomic_load(&token.ready)) {
        rv = start();
        if (rv == CKR_OK)
            atomic_store(&token.ready, true);
    }
    pthread_mutex_unlock(&token.lock);
    return rv;
}

static void close_session(struct session *session)
{
    int open = SESSION_OPEN;
    if (!atomic_compare_exchange_strong(&session->state, &open, SESSION_FREE))
        return;
    if (atomic_fetch_sub(&token.session_count, 1) == 1)
        atomic_store(&token.logged_in, false); /* PKCS#11 2.40 5.6: the last one logs out */
}

static void close_all(void)
{
    for (size_t i = 0; i < SESSIONS; i++)
        close_session(&token.sessions[i]);
}

CK_RV C_Finalize(void *reserved)
{
    if (reserved)
        return CKR_ARGUMENTS_BAD;
    pthread_mutex_lock(&token.lock);
    CK_RV rv = CKR_CRYPTOKI_NOT_INITIALIZED;
    if (atomic_exchange(&token.ready, false)) {
        close_all();
        rv = CKR_OK;
    }
    pthread_mutex_unlock(&token.lock);
    return rv;
}

CK_RV C_GetInfo(CK_INFO *info)
{
    if (!atomic_load(&token.ready))
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    if (!info)
        return CKR_ARGUMENTS_BAD;
    memset(info, 0, sizeof *info);
    info->cryptokiVersion = (CK_VERSION){2, 40};
    pad(info->manufacturerID, sizeof info->manufacturerID, "certmill");
    pad(info->libraryDescription, sizeof info->libraryDescription, "null token, not secure");
    info->libraryVersion = (CK_VERSION){1, 0};
    return CKR_OK;
}

/* --- slot and token --- */

static CK_RV check_slot(CK_SLOT_ID slot)
{
    if (!atomic_load(&token.ready))
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    return slot == 0 ? CKR_OK : CKR_SLOT_ID_INVALID;
}

/* The list convention of 5.2: NULL asks for the count. */
static CK_RV give_list(const CK_ULONG *values, CK_ULONG count, CK_ULONG *out, CK_ULONG *out_count)
{
    if (!out_count)
        return CKR_ARGUMENTS_BAD;
    CK_ULONG room = *out_count;
    *out_count = count;
    if (!out)
        return CKR_OK;
    if (room < count)
        return CKR_BUFFER_TOO_SMALL;
    memcpy(out, values, count * sizeof *values);
    return CKR_OK;
}

CK_RV C_GetSlotList(CK_BBOOL token_present, CK_SLOT_ID *list, CK_ULONG *count)
{
    static const CK_SLOT_ID slots[] = {0};
    (void)token_present;
    if (!atomic_load(&token.ready))
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    return give_list(slots, 1, list, count);
}

CK_RV C_GetSlotInfo(CK_SLOT_ID slot, CK_SLOT_INFO *info)
{
    CK_RV rv = check_slot(slot);
    if (rv != CKR_OK)
        return rv;
    if (!info)
        return CKR_ARGUMENTS_BAD;
    memset(info, 0, sizeof *info);
    pad(info->slotDescription, sizeof info->slotDescription, "certmill null slot");
    pad(info->manufacturerID, sizeof info->manufacturerID, "certmill");
    info->flags = CKF_TOKEN_PRESENT;
    return CKR_OK;
}

CK_RV C_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    CK_RV rv = check_slot(slot);
    if (rv != CKR_OK)
        return rv;
    if (!info)
        return CKR_ARGUMENTS_BAD;
    memset(info, 0, sizeof *info);
    pad(info->label, sizeof info->label, "null");
    pad(info->manufacturerID, sizeof info->manufacturerID, "certmill");
    pad(info->model, sizeof info->model, "null");
    pad(info->serialNumber, sizeof info->serialNumber, "0");
    info->flags =
        CKF_LOGIN_REQUIRED | CKF_USER_PIN_INITIALIZED | CKF_TOKEN_INITIALIZED | CKF_WRITE_PROTECTED;
    info->ulMaxSessionCount = SESSIONS;
    info->ulSessionCount = atomic_load(&token.session_count);
    info->ulMaxRwSessionCount = SESSIONS;
    info->ulRwSessionCount = CK_UNAVAILABLE_INFORMATION;
    info->ulMaxPinLen = 255;
    info->ulMinPinLen = 0;
    info->ulTotalPublicMemory = CK_UNAVAILABLE_INFORMATION;
    info->ulFreePublicMemory = CK_UNAVAILABLE_INFORMATION;
    info->ulTotalPrivateMemory = CK_UNAVAILABLE_INFORMATION;
    info->ulFreePrivateMemory = CK_UNAVAILABLE_INFORMATION;
    return CKR_OK;
}

CK_RV C_GetMechanismList(CK_SLOT_ID slot, CK_MECHANISM_TYPE *list, CK_ULONG *count)
{
    static const CK_MECHANISM_TYPE mechanisms[] = {CKM_ECDSA};
    CK_RV rv = check_slot(slot);
    return rv == CKR_OK ? give_list(mechanisms, 1, list, count) : rv;
}

CK_RV C_GetMechanismInfo(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info)
{
    CK_RV rv = check_slot(slot);
    if (rv != CKR_OK)
        return rv;
    if (type != CKM_ECDSA)
        return CKR_MECHANISM_INVALID;
    if (!info)
        return CKR_ARGUMENTS_BAD;
    *info = (CK_MECHANISM_INFO){.ulMinKeySize = 256, .ulMaxKeySize = 256, .flags = CKF_SIGN};
    return CKR_OK;
}

/* --- sessions --- */

static CK_RV find_session(CK_SESSION_HANDLE handle, struct session **out)
{
    if (!atomic_load_explicit(&token.ready, memory_order_acquire))
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    if (handle == 0 || handle > SESSIONS)
        return CKR_SESSION_HANDLE_INVALID;
    struct session *session = &token.sessions[handle - 1];
    if (atomic_load_explicit(&session->state, memory_order_acquire) != SESSION_OPEN)
        return CKR_SESSION_HANDLE_INVALID;
    *out = session;
    return CKR_OK;
}

CK_RV C_OpenSession(CK_SLOT_ID slot, CK_FLAGS flags, void *application, CK_NOTIFY notify,
                    CK_SESSION_HANDLE *out)
{
    (void)application, (void)notify;
    CK_RV rv = check_slot(slot);
    if (rv != CKR_OK)
        return rv;
    if (!out)
        return CKR_ARGUMENTS_BAD;
    if (!(flags & CKF_SERIAL_SESSION))
        return CKR_SESSION_PARALLEL_NOT_SUPPORTED;
    pthread_mutex_lock(&token.lock);
    rv = CKR_SESSION_COUNT;
    for (size_t i = 0; i < SESSIONS; i++) {
        struct session *session = &token.sessions[i];
        if (atomic_load(&session->state) != SESSION_FREE)
            continue;
        session->flags = flags;
        session->finding = false;
        session->signing = false;
        atomic_fetch_add(&token.session_count, 1);
        atomic_store(&session->state, SESSION_OPEN);
        *out = i + 1;
        rv = CKR_OK;
        break;
    }
    pthread_mutex_unlock(&token.lock);
    return rv;
}

CK_RV C_CloseSession(CK_SESSION_HANDLE handle)
{
    struct session *session;
    CK_RV rv = find_session(handle, &session);
    if (rv == CKR_OK)
        close_session(session);
    return rv;
}

CK_RV C_CloseAllSessions(CK_SLOT_ID slot)
{
    CK_RV rv = check_slot(slot);
    if (rv == CKR_OK)
        close_all();
    return rv;
}

CK_RV C_GetSessionInfo(CK_SESSION_HANDLE handle, CK_SESSION_INFO *info)
{
    struct session *session;
    CK_RV rv = find_session(handle, &session);
    if (rv != CKR_OK)
        return rv;
    if (!info)
        return CKR_ARGUMENTS_BAD;
    bool writable = session->flags & CKF_RW_SESSION;
    CK_STATE state = writable ? CKS_RW_PUBLIC_SESSION : CKS_RO_PUBLIC_SESSION;
    if (atomic_load(&token.logged_in))
        state = writable ? CKS_RW_USER_FUNCTIONS : CKS_RO_USER_FUNCTIONS;
    *info = (CK_SESSION_INFO){.slotID = 0, .state = state, .flags = session->flags};
    return CKR_OK;
}

CK_RV C_Login(CK_SESSION_HANDLE handle, CK_USER_TYPE user, CK_BYTE *pin, CK_ULONG pin_len)
{
    struct session *session;
    (void)pin, (void)pin_len; /* any PIN */
    CK_RV rv = find_session(handle, &session);
    if (rv != CKR_OK)
        return rv;
    if (user != CKU_USER)
        return CKR_USER_TYPE_INVALID;
    return atomic_exchange(&token.logged_in, true) ? CKR_USER_ALREADY_LOGGED_IN : CKR_OK;
}

CK_RV C_Logout(CK_SESSION_HANDLE handle)
{
    struct session *session;
    CK_RV rv = find_session(handle, &session);
    if (rv != CKR_OK)
        return rv;
    return atomic_exchange(&token.logged_in, false) ? CKR_OK : CKR_USER_NOT_LOGGED_IN;
}

/* --- objects --- */

struct value {
    uint8_t data[ATTRIBUTE_MAX];
    CK_ULONG len;
};

static bool set_value(struct value *out, const void *data, size_t len)
{
    if (len > sizeof out->data)
        return false;
    memcpy(out->data, data, len);
    out->len = len;
    return true;
}

static bool set_bool(struct value *out, bool truth)
{
    CK_BBOOL value = truth ? CK_TRUE : CK_FALSE;
    return set_value(out, &value, sizeof value);
}

static bool set_ulong(struct value *out, CK_ULONG value)
{
    return set_value(out, &value, sizeof value);
}

/* DER of the named curve: 1.2.840.10045.3.1.7 */
static const uint8_t ec_params[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};

/* false: the object has no such attribute. */
static bool attribute(CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE type, struct value *out)
{
    bool is_private = object == OBJECT_PRIVATE;
    switch (type) {
    case CKA_CLASS:
        return set_ulong(out, is_private ? CKO_PRIVATE_KEY : CKO_PUBLIC_KEY);
    case CKA_KEY_TYPE:
        return set_ulong(out, CKK_EC);
    case CKA_LABEL:
        return set_value(out, token.label, strlen(token.label));
    case CKA_ID:
        return set_value(out, token.key.id, sizeof token.key.id);
    case CKA_EC_PARAMS:
        return set_value(out, ec_params, sizeof ec_params);
    case CKA_EC_POINT: /* of private keys too, for clients that look there */
        return set_value(out, token.key.point_der, sizeof token.key.point_der);
    case CKA_TOKEN:
        return set_bool(out, true);
    case CKA_PRIVATE:
        return set_bool(out, is_private);
    case CKA_SIGN:
        return is_private && set_bool(out, true);
    case CKA_SENSITIVE:
        return is_private && set_bool(out, true);
    case CKA_EXTRACTABLE:
    case CKA_ALWAYS_AUTHENTICATE:
    case CKA_DECRYPT:
    case CKA_DERIVE:
    case CKA_UNWRAP:
    case CKA_SIGN_RECOVER:
        return is_private && set_bool(out, false);
    case CKA_VERIFY:
    case CKA_ENCRYPT:
    case CKA_WRAP:
        return !is_private && set_bool(out, false);
    case CKA_MODIFIABLE:
    case CKA_LOCAL:
        return set_bool(out, false);
    default:
        return false;
    }
}

static bool is_visible(CK_OBJECT_HANDLE object)
{
    return object == OBJECT_PUBLIC ||
           (object == OBJECT_PRIVATE && atomic_load(&token.logged_in)); /* CKA_PRIVATE */
}

CK_RV C_GetAttributeValue(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE object, CK_ATTRIBUTE *template,
                          CK_ULONG count)
{
    struct session *session;
    CK_RV rv = find_session(handle, &session);
    if (rv != CKR_OK)
        return rv;
    if (!template && count > 0)
        return CKR_ARGUMENTS_BAD;
    if (!is_visible(object))
        return CKR_OBJECT_HANDLE_INVALID;
    for (CK_ULONG i = 0; i < count; i++) {
        struct value value;
        if (template[i].type == CKA_VALUE && object == OBJECT_PRIVATE) {
            template[i].ulValueLen = CK_UNAVAILABLE_INFORMATION;
            rv = CKR_ATTRIBUTE_SENSITIVE;
        } else if (!attribute(object, template[i].type, &value)) {
            template[i].ulValueLen = CK_UNAVAILABLE_INFORMATION;
            rv = CKR_ATTRIBUTE_TYPE_INVALID;
        } else if (!template[i].pValue) {
            template[i].ulValueLen = value.len;
        } else if (template[i].ulValueLen < value.len) {
            template[i].ulValueLen = CK_UNAVAILABLE_INFORMATION;
            rv = CKR_BUFFER_TOO_SMALL;
        } else {
            memcpy(template[i].pValue, value.data, value.len);
            template[i].ulValueLen = value.len;
        }
    }
    return rv;
}

static bool matches(CK_OBJECT_HANDLE object, const CK_ATTRIBUTE *template, CK_ULONG count)
{
    for (CK_ULONG i = 0; i < count; i++) {
        struct value value;
        if (!attribute(object, template[i].type, &value) || value.len != template[i].ulValueLen ||
            !template[i].pValue || memcmp(value.data, template[i].pValue, value.len) != 0)
            return false;
    }
    return true;
}

CK_RV C_FindObjectsInit(CK_SESSION_HANDLE handle, CK_ATTRIBUTE *template, CK_ULONG count)
{
    struct session *session;
    CK_RV rv = find_session(handle, &session);
    if (rv != CKR_OK)
        return rv;
    if (session->finding)
        return CKR_OPERATION_ACTIVE;
    if (!template && count > 0)
        return CKR_ARGUMENTS_BAD;
    session->finding = true;
    session->found_count = 0;
    session->found_next = 0;
    for (uint32_t object = 1; object <= OBJECT_LAST; object++)
        if (is_visible(object) && matches(object, template, count))
            session->found[session->found_count++] = object;
    return CKR_OK;
}

CK_RV C_FindObjects(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE *out, CK_ULONG max,
                    CK_ULONG *out_count)
{
    struct session *session;
    CK_RV rv = find_session(handle, &session);
    if (rv != CKR_OK)
        return rv;
    if (!session->finding)
        return CKR_OPERATION_NOT_INITIALIZED;
    if (!out_count || (!out && max > 0))
        return CKR_ARGUMENTS_BAD;
    CK_ULONG count = 0;
    while (count < max && session->found_next < session->found_count)
        out[count++] = session->found[session->found_next++];
    *out_count = count;
    return CKR_OK;
}

CK_RV C_FindObjectsFinal(CK_SESSION_HANDLE handle)
{
    struct session *session;
    CK_RV rv = find_session(handle, &session);
    if (rv != CKR_OK)
        return rv;
    if (!session->finding)
        return CKR_OPERATION_NOT_INITIALIZED;
    session->finding = false;
    return CKR_OK;
}

/* --- signing --- */

CK_RV C_SignInit(CK_SESSION_HANDLE handle, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    struct session *session;
    CK_RV rv = find_session(handle, &session);
    if (rv != CKR_OK)
        return rv;
    if (!mechanism)
        return CKR_ARGUMENTS_BAD;
    if (session->signing)
        return CKR_OPERATION_ACTIVE;
    if (!atomic_load_explicit(&token.logged_in, memory_order_relaxed))
        return CKR_USER_NOT_LOGGED_IN;
    if (key != OBJECT_PRIVATE)
        return key == OBJECT_PUBLIC ? CKR_KEY_FUNCTION_NOT_PERMITTED : CKR_KEY_HANDLE_INVALID;
    if (mechanism->mechanism != CKM_ECDSA)
        return CKR_MECHANISM_INVALID;
    if (mechanism->ulParameterLen != 0)
        return CKR_MECHANISM_PARAM_INVALID;
    session->signing = true;
    return CKR_OK;
}

CK_RV C_Sign(CK_SESSION_HANDLE handle, CK_BYTE *data, CK_ULONG data_len, CK_BYTE *signature,
             CK_ULONG *signature_len)
{
    struct session *session;
    CK_RV rv = find_session(handle, &session);
    if (rv != CKR_OK)
        return rv;
    if (!session->signing)
        return CKR_OPERATION_NOT_INITIALIZED;
    if (signature_len && (!signature || *signature_len < SIGNATURE_LEN)) {
        /* 5.2: asking for the length, and too little room, leave the operation as it is */
        *signature_len = SIGNATURE_LEN;
        return signature ? CKR_BUFFER_TOO_SMALL : CKR_OK;
    }
    session->signing = false;
    if (!signature_len || !data)
        return CKR_ARGUMENTS_BAD;
    if (data_len == 0 || data_len > DIGEST_MAX)
        return CKR_DATA_LEN_RANGE;
    if (!null_key_sign(&token.key, bytes_of(data, data_len), signature))
        return CKR_FUNCTION_FAILED;
    *signature_len = SIGNATURE_LEN;
    return CKR_OK;
}

/* --- the list --- */

static CK_FUNCTION_LIST functions = {
    .version = {2, 40},
#define F(name) .name = name
    F(C_Initialize),
    F(C_Finalize),
    F(C_GetInfo),
    F(C_GetFunctionList),
    F(C_GetSlotList),
    F(C_GetSlotInfo),
    F(C_GetTokenInfo),
    F(C_GetMechanismList),
    F(C_GetMechanismInfo),
    F(C_InitToken),
    F(C_InitPIN),
    F(C_SetPIN),
    F(C_OpenSession),
    F(C_CloseSession),
    F(C_CloseAllSessions),
    F(C_GetSessionInfo),
    F(C_GetOperationState),
    F(C_SetOperationState),
    F(C_Login),
    F(C_Logout),
    F(C_CreateObject),
    F(C_CopyObject),
    F(C_DestroyObject),
    F(C_GetObjectSize),
    F(C_GetAttributeValue),
    F(C_SetAttributeValue),
    F(C_FindObjectsInit),
    F(C_FindObjects),
    F(C_FindObjectsFinal),
    F(C_EncryptInit),
    F(C_Encrypt),
    F(C_EncryptUpdate),
    F(C_EncryptFinal),
    F(C_DecryptInit),
    F(C_Decrypt),
    F(C_DecryptUpdate),
    F(C_DecryptFinal),
    F(C_DigestInit),
    F(C_Digest),
    F(C_DigestUpdate),
    F(C_DigestKey),
    F(C_DigestFinal),
    F(C_SignInit),
    F(C_Sign),
    F(C_SignUpdate),
    F(C_SignFinal),
    F(C_SignRecoverInit),
    F(C_SignRecover),
    F(C_VerifyInit),
    F(C_Verify),
    F(C_VerifyUpdate),
    F(C_VerifyFinal),
    F(C_VerifyRecoverInit),
    F(C_VerifyRecover),
    F(C_DigestEncryptUpdate),
    F(C_DecryptDigestUpdate),
    F(C_SignEncryptUpdate),
    F(C_DecryptVerifyUpdate),
    F(C_GenerateKey),
    F(C_GenerateKeyPair),
    F(C_WrapKey),
    F(C_UnwrapKey),
    F(C_DeriveKey),
    F(C_SeedRandom),
    F(C_GenerateRandom),
    F(C_GetFunctionStatus),
    F(C_CancelFunction),
    F(C_WaitForSlotEvent),
#undef F
};

CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list)
{
    if (!list)
        return CKR_ARGUMENTS_BAD;
    *list = &functions;
    return CKR_OK;
}
