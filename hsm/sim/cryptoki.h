/* cryptoki.h: PKCS#11 for the simulator: p11-kit's header, and what 3.0 and 3.2 add to it.
 *
 * Promise: the only includer of pkcs11.h in hsm/sim; values as OASIS publishes them.
 */
#ifndef CERTMILL_SIM_CRYPTOKI_H
#define CERTMILL_SIM_CRYPTOKI_H

#include <p11-kit/pkcs11.h>

/* Words of ours that p11-kit 0.24 leaves defined as macros for its struct members. */
#undef hash_alg
#undef s_len
#undef public_data
#undef public_data_len

#define SIM_CKF_MESSAGE_SIGN            0x00000008ul
#define SIM_CKF_MESSAGE_VERIFY          0x00000010ul
#define SIM_CKF_INTERFACE_FORK_SAFE     0x00000001ul
#define SIM_CKK_ML_DSA                  0x4aul
#define SIM_CKM_ML_DSA_KEY_PAIR_GEN     0x1cul
#define SIM_CKM_ML_DSA                  0x1dul
#define SIM_CKA_PARAMETER_SET           0x61dul
#define SIM_CKP_ML_DSA_44               1ul
#define SIM_CKP_ML_DSA_65               2ul
#define SIM_CKA_DESTROYABLE             0x172ul
#define SIM_CKA_COPYABLE                0x171ul
#define SIM_CKR_OPERATION_CANCEL_FAILED 0x202ul

/* CK_EDDSA_PARAMS (3.0 6.3.5) */
struct sim_eddsa_params {
    CK_BBOOL ph_flag;
    CK_ULONG context_len;
    CK_BYTE *context;
};

/* CK_INTERFACE */
struct sim_interface {
    char *name;
    void *functions;
    CK_FLAGS flags;
};

typedef CK_RV (*sim_unused_fn)(CK_SESSION_HANDLE session);

/* CK_FUNCTION_LIST_3_0: the functions of 2.40, then these, in this order. */
struct sim_functions_v3 {
    CK_FUNCTION_LIST v2;
    CK_RV (*C_GetInterfaceList)(struct sim_interface *list, CK_ULONG *count);
    CK_RV(*C_GetInterface)
    (CK_BYTE *name, CK_VERSION *version, struct sim_interface **out, CK_FLAGS flags);
    CK_RV(*C_LoginUser)
    (CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_BYTE *pin, CK_ULONG pin_len, CK_BYTE *name,
     CK_ULONG name_len);
    CK_RV (*C_SessionCancel)(CK_SESSION_HANDLE session, CK_FLAGS flags);
    sim_unused_fn message_encrypt[5], message_decrypt[5];
    CK_RV(*C_MessageSignInit)
    (CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key);
    CK_RV(*C_SignMessage)
    (CK_SESSION_HANDLE session, void *parameter, CK_ULONG parameter_len, CK_BYTE *data,
     CK_ULONG data_len, CK_BYTE *signature, CK_ULONG *signature_len);
    CK_RV(*C_SignMessageBegin)
    (CK_SESSION_HANDLE session, void *parameter, CK_ULONG parameter_len);
    CK_RV(*C_SignMessageNext)
    (CK_SESSION_HANDLE session, void *parameter, CK_ULONG parameter_len, CK_BYTE *data,
     CK_ULONG data_len, CK_BYTE *signature, CK_ULONG *signature_len);
    CK_RV (*C_MessageSignFinal)(CK_SESSION_HANDLE session);
    sim_unused_fn message_verify[5];
};

/* What 3.0 adds and these files define. */
CK_RV C_GetInterfaceList(struct sim_interface *list, CK_ULONG *count);
CK_RV C_GetInterface(CK_BYTE *name, CK_VERSION *version, struct sim_interface **out,
                     CK_FLAGS flags);
CK_RV C_LoginUser(CK_SESSION_HANDLE session, CK_USER_TYPE user, CK_BYTE *pin, CK_ULONG pin_len,
                  CK_BYTE *name, CK_ULONG name_len);
CK_RV C_SessionCancel(CK_SESSION_HANDLE session, CK_FLAGS flags);
CK_RV C_MessageSignInit(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key);
CK_RV C_SignMessage(CK_SESSION_HANDLE session, void *parameter, CK_ULONG parameter_len,
                    CK_BYTE *data, CK_ULONG data_len, CK_BYTE *signature, CK_ULONG *signature_len);
CK_RV C_SignMessageBegin(CK_SESSION_HANDLE session, void *parameter, CK_ULONG parameter_len);
CK_RV C_SignMessageNext(CK_SESSION_HANDLE session, void *parameter, CK_ULONG parameter_len,
                        CK_BYTE *data, CK_ULONG data_len, CK_BYTE *signature,
                        CK_ULONG *signature_len);
CK_RV C_MessageSignFinal(CK_SESSION_HANDLE session);

#endif
