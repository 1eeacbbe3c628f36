/* The function lists of 2.40 and 3.0, the interfaces, and what the simulator does not have. */
#include "hsm/sim/sim.h"

#pragma GCC diagnostic ignored "-Wunused-parameter"

#define UNSUPPORTED(name, parameters)                                                              \
    CK_RV name parameters                                                                          \
    {                                                                                              \
        return CKR_FUNCTION_NOT_SUPPORTED;                                                         \
    }

/* clang-format off */
UNSUPPORTED(C_GetOperationState, (CK_SESSION_HANDLE s, CK_BYTE *state, CK_ULONG *len))
UNSUPPORTED(C_SetOperationState, (CK_SESSION_HANDLE s, CK_BYTE *state, CK_ULONG len,
                                  CK_OBJECT_HANDLE enc, CK_OBJECT_HANDLE auth))
UNSUPPORTED(C_CopyObject, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE *t, CK_ULONG n,
                           CK_OBJECT_HANDLE *copy))
UNSUPPORTED(C_EncryptInit, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE key))
UNSUPPORTED(C_Encrypt, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_EncryptUpdate, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_EncryptFinal, (CK_SESSION_HANDLE s, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_DecryptInit, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE key))
UNSUPPORTED(C_Decrypt, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_DecryptUpdate, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_DecryptFinal, (CK_SESSION_HANDLE s, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_DigestKey, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE key))
UNSUPPORTED(C_SignRecoverInit, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE key))
UNSUPPORTED(C_SignRecover, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_VerifyRecoverInit, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE key))
UNSUPPORTED(C_VerifyRecover, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_DigestEncryptUpdate, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il, CK_BYTE *o,
                                    CK_ULONG *ol))
UNSUPPORTED(C_DecryptDigestUpdate, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il, CK_BYTE *o,
                                    CK_ULONG *ol))
UNSUPPORTED(C_SignEncryptUpdate, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il, CK_BYTE *o,
                                  CK_ULONG *ol))
UNSUPPORTED(C_DecryptVerifyUpdate, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il, CK_BYTE *o,
                                    CK_ULONG *ol))
UNSUPPORTED(C_GenerateKey, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_ATTRIBUTE *t, CK_ULONG n,
                            CK_OBJECT_HANDLE *key))
UNSUPPORTED(C_WrapKey, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE by,
                        CK_OBJECT_HANDLE key, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_UnwrapKey, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE by, CK_BYTE *i,
                          CK_ULONG il, CK_ATTRIBUTE *t, CK_ULONG n, CK_OBJECT_HANDLE *key))
UNSUPPORTED(C_DeriveKey, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE base,
                          CK_ATTRIBUTE *t, CK_ULONG n, CK_OBJECT_HANDLE *key))
UNSUPPORTED(C_GetFunctionStatus, (CK_SESSION_HANDLE s))
UNSUPPORTED(C_CancelFunction, (CK_SESSION_HANDLE s))
/* clang-format on */

/* Any parameters: a caller removes them again. */
static CK_RV unsupported(CK_SESSION_HANDLE session)
{
    return CKR_FUNCTION_NOT_SUPPORTED;
}

#define FUNCTIONS                                                                                  \
    F(C_Initialize), F(C_Finalize), F(C_GetInfo), F(C_GetFunctionList), F(C_GetSlotList),          \
        F(C_GetSlotInfo), F(C_GetTokenInfo), F(C_GetMechanismList), F(C_GetMechanismInfo),         \
        F(C_InitToken), F(C_InitPIN), F(C_SetPIN), F(C_OpenSession), F(C_CloseSession),            \
        F(C_CloseAllSessions), F(C_GetSessionInfo), F(C_GetOperationState),                        \
        F(C_SetOperationState), F(C_Login), F(C_Logout), F(C_CreateObject), F(C_CopyObject),       \
        F(C_DestroyObject), F(C_GetObjectSize), F(C_GetAttributeValue), F(C_SetAttributeValue),    \
        F(C_FindObjectsInit), F(C_FindObjects), F(C_FindObjectsFinal), F(C_EncryptInit),           \
        F(C_Encrypt), F(C_EncryptUpdate), F(C_EncryptFinal), F(C_DecryptInit), F(C_Decrypt),       \
        F(C_DecryptUpdate), F(C_DecryptFinal), F(C_DigestInit), F(C_Digest), F(C_DigestUpdate),    \
        F(C_DigestKey), F(C_DigestFinal), F(C_SignInit), F(C_Sign), F(C_SignUpdate),               \
        F(C_SignFinal), F(C_SignRecoverInit), F(C_SignRecover), F(C_VerifyInit), F(C_Verify),      \
        F(C_VerifyUpdate), F(C_VerifyFinal), F(C_VerifyRecoverInit), F(C_VerifyRecover),           \
        F(C_DigestEncryptUpdate), F(C_DecryptDigestUpdate), F(C_SignEncryptUpdate),                \
        F(C_DecryptVerifyUpdate), F(C_GenerateKey), F(C_GenerateKeyPair), F(C_WrapKey),            \
        F(C_UnwrapKey), F(C_DeriveKey), F(C_SeedRandom), F(C_GenerateRandom),                      \
        F(C_GetFunctionStatus), F(C_CancelFunction), F(C_WaitForSlotEvent),

#define F(name) .name = name
static CK_FUNCTION_LIST functions = {.version = {2, 40}, FUNCTIONS};

static struct sim_functions_v3 functions_v3 = {
    .v2 = {.version = {3, 0}, FUNCTIONS},
    F(C_GetInterfaceList),
    F(C_GetInterface),
    F(C_LoginUser),
    F(C_SessionCancel),
    .message_encrypt = {unsupported, unsupported, unsupported, unsupported, unsupported},
    .message_decrypt = {unsupported, unsupported, unsupported, unsupported, unsupported},
    F(C_MessageSignInit),
    F(C_SignMessage),
    F(C_SignMessageBegin),
    F(C_SignMessageNext),
    F(C_MessageSignFinal),
    .message_verify = {unsupported, unsupported, unsupported, unsupported, unsupported},
};
#undef F

CK_RV C_GetFunctionList(CK_FUNCTION_LIST **list)
{
    if (!list)
        return CKR_ARGUMENTS_BAD;
    *list = &functions;
    return CKR_OK;
}

/* The default first. */
static struct sim_interface interfaces[] = {{(char *)"PKCS 11", &functions_v3, 0},
                                            {(char *)"PKCS 11", &functions, 0}};
enum { INTERFACES = sizeof interfaces / sizeof *interfaces };

CK_RV C_GetInterfaceList(struct sim_interface *list, CK_ULONG *count)
{
    if (!count)
        return CKR_ARGUMENTS_BAD;
    CK_ULONG room = *count;
    *count = INTERFACES;
    if (!list)
        return CKR_OK;
    if (room < INTERFACES)
        return CKR_BUFFER_TOO_SMALL;
    memcpy(list, interfaces, sizeof interfaces);
    return CKR_OK;
}

CK_RV C_GetInterface(CK_BYTE *name, CK_VERSION *version, struct sim_interface **out, CK_FLAGS flags)
{
    if (!out)
        return CKR_ARGUMENTS_BAD;
    for (int i = 0; i < INTERFACES; i++) {
        const CK_VERSION *has = interfaces[i].functions; /* both lists begin with it */
        if ((name && strcmp((const char *)name, interfaces[i].name) != 0) ||
            (version && (version->major != has->major || version->minor != has->minor)) ||
            (flags & ~interfaces[i].flags) != 0)
            continue;
        *out = &interfaces[i];
        return CKR_OK;
    }
    return CKR_ARGUMENTS_BAD;
}
