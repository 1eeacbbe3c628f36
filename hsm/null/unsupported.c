/* unsupported.c: every function of PKCS#11 2.40 that the null token does not have. */
#include <p11-kit/pkcs11.h>

#pragma GCC diagnostic ignored "-Wunused-parameter"

#define UNSUPPORTED(name, parameters)                                                              \
    CK_RV name parameters                                                                          \
    {                                                                                              \
        return CKR_FUNCTION_NOT_SUPPORTED;                                                         \
    }

/* clang-format off */
UNSUPPORTED(C_WaitForSlotEvent, (CK_FLAGS flags, CK_SLOT_ID *slot, void *reserved))
UNSUPPORTED(C_InitToken, (CK_SLOT_ID slot, CK_BYTE *pin, CK_ULONG len, CK_BYTE *label))
UNSUPPORTED(C_InitPIN, (CK_SESSION_HANDLE s, CK_BYTE *pin, CK_ULONG len))
UNSUPPORTED(C_SetPIN, (CK_SESSION_HANDLE s, CK_BYTE *o, CK_ULONG ol, CK_BYTE *n, CK_ULONG nl))
UNSUPPORTED(C_GetOperationState, (CK_SESSION_HANDLE s, CK_BYTE *state, CK_ULONG *len))
UNSUPPORTED(C_SetOperationState, (CK_SESSION_HANDLE s, CK_BYTE *state, CK_ULONG len,
                                  CK_OBJECT_HANDLE enc, CK_OBJECT_HANDLE auth))
UNSUPPORTED(C_CreateObject, (CK_SESSION_HANDLE s, CK_ATTRIBUTE *t, CK_ULONG n, CK_OBJECT_HANDLE *o))
UNSUPPORTED(C_CopyObject, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE *t, CK_ULONG n,
                           CK_OBJECT_HANDLE *copy))
UNSUPPORTED(C_DestroyObject, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o))
UNSUPPORTED(C_GetObjectSize, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ULONG *size))
UNSUPPORTED(C_SetAttributeValue, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE o, CK_ATTRIBUTE *t,
                                  CK_ULONG n))
UNSUPPORTED(C_EncryptInit, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE key))
UNSUPPORTED(C_Encrypt, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_EncryptUpdate, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_EncryptFinal, (CK_SESSION_HANDLE s, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_DecryptInit, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE key))
UNSUPPORTED(C_Decrypt, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_DecryptUpdate, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_DecryptFinal, (CK_SESSION_HANDLE s, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_DigestInit, (CK_SESSION_HANDLE s, CK_MECHANISM *m))
UNSUPPORTED(C_Digest, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_DigestUpdate, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il))
UNSUPPORTED(C_DigestKey, (CK_SESSION_HANDLE s, CK_OBJECT_HANDLE key))
UNSUPPORTED(C_DigestFinal, (CK_SESSION_HANDLE s, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_SignUpdate, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il))
UNSUPPORTED(C_SignFinal, (CK_SESSION_HANDLE s, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_SignRecoverInit, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE key))
UNSUPPORTED(C_SignRecover, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_VerifyInit, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE key))
UNSUPPORTED(C_Verify, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il, CK_BYTE *o, CK_ULONG ol))
UNSUPPORTED(C_VerifyUpdate, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il))
UNSUPPORTED(C_VerifyFinal, (CK_SESSION_HANDLE s, CK_BYTE *o, CK_ULONG ol))
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
UNSUPPORTED(C_GenerateKeyPair, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_ATTRIBUTE *pub, CK_ULONG n,
                                CK_ATTRIBUTE *priv, CK_ULONG pn, CK_OBJECT_HANDLE *a,
                                CK_OBJECT_HANDLE *b))
UNSUPPORTED(C_WrapKey, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE by,
                        CK_OBJECT_HANDLE key, CK_BYTE *o, CK_ULONG *ol))
UNSUPPORTED(C_UnwrapKey, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE by, CK_BYTE *i,
                          CK_ULONG il, CK_ATTRIBUTE *t, CK_ULONG n, CK_OBJECT_HANDLE *key))
UNSUPPORTED(C_DeriveKey, (CK_SESSION_HANDLE s, CK_MECHANISM *m, CK_OBJECT_HANDLE base,
                          CK_ATTRIBUTE *t, CK_ULONG n, CK_OBJECT_HANDLE *key))
UNSUPPORTED(C_SeedRandom, (CK_SESSION_HANDLE s, CK_BYTE *i, CK_ULONG il))
UNSUPPORTED(C_GenerateRandom, (CK_SESSION_HANDLE s, CK_BYTE *o, CK_ULONG ol))
UNSUPPORTED(C_GetFunctionStatus, (CK_SESSION_HANDLE s))
UNSUPPORTED(C_CancelFunction, (CK_SESSION_HANDLE s))
/* clang-format on */
