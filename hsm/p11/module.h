/* module.h: inside hsm/p11: the loaded module and the only place that includes pkcs11.h.
 *
 * Owner:   struct p11_module and p11_session as token.h says.
 */
#ifndef CERTMILL_HSM_P11_MODULE_H
#define CERTMILL_HSM_P11_MODULE_H

#include <p11-kit/pkcs11.h>

/* Words of ours that p11-kit 0.24 leaves defined as macros for its struct members. */
#undef hash_alg
#undef s_len
#undef public_data
#undef public_data_len

#include <pthread.h>

#include "hsm/p11/token.h"

/* PKCS#11 3.0 and 3.2, which p11-kit's header does not have. */
#define P11_CKF_MESSAGE_SIGN        0x00000008ul
#define P11_CKK_ML_DSA              0x4aul
#define P11_CKM_ML_DSA_KEY_PAIR_GEN 0x1cul
#define P11_CKM_ML_DSA              0x1dul
#define P11_CKA_PARAMETER_SET       0x61dul
#define P11_CKP_ML_DSA_44           1ul
#define P11_CKP_ML_DSA_65           2ul
#define P11_CKA_PUBLIC_KEY_INFO     0x129ul

struct p11_interface {
    char *name;
    void *functions;
    CK_FLAGS flags;
};

typedef CK_RV (*p11_get_interface_fn)(unsigned char *name, CK_VERSION *version,
                                      struct p11_interface **out, CK_FLAGS flags);
typedef CK_RV (*p11_unused_fn)(void);
typedef CK_RV (*p11_message_sign_init_fn)(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                                          CK_OBJECT_HANDLE key);
typedef CK_RV (*p11_sign_message_fn)(CK_SESSION_HANDLE session, void *parameter,
                                     CK_ULONG parameter_len, unsigned char *data, CK_ULONG data_len,
                                     unsigned char *signature, CK_ULONG *signature_len);
typedef CK_RV (*p11_message_sign_final_fn)(CK_SESSION_HANDLE session);

/* CK_FUNCTION_LIST_3_0: the functions of 2.40, then these. */
struct p11_functions_v3 {
    CK_FUNCTION_LIST v2;
    p11_unused_fn get_interface_list, get_interface, login_user, session_cancel;
    p11_unused_fn message_encrypt[5], message_decrypt[5];
    p11_message_sign_init_fn message_sign_init;
    p11_sign_message_fn sign_message;
    p11_unused_fn sign_message_begin, sign_message_next;
    p11_message_sign_final_fn message_sign_final;
    p11_unused_fn message_verify[5];
};

struct p11_module {
    pthread_mutex_t
        scan_lock; /* slots are looked at by one thread: SoftHSM's use of gmtime is not safe */
    void *library;
    CK_FUNCTION_LIST *functions;
    const struct p11_functions_v3 *v3; /* NULL: 2.40 alone */
    bool initialized_here;
};

struct p11_session {
    struct p11_module *module;
    CK_SESSION_HANDLE handle;
    struct p11_token_info token;
    /* per enum sign_mechanism: may C_SignMessage be used? */
    bool message_signing[SIGN_MECH_COUNT];
    /* the message signing operation that is open, if any */
    bool message_open;
    enum sign_mechanism message_mechanism;
    CK_OBJECT_HANDLE message_key;
    CK_RV trouble; /* keys.c: the last read of attributes failed, and not for want of them */
};

enum err p11_token_at(struct p11_module *module, CK_SLOT_ID slot, struct p11_token_info *out,
                      struct p11_error *error) MUST_USE;

/* Fills *error (may be NULL) and returns what the rv means. */
enum err p11_fail_rv(struct p11_error *error, const char *call, CK_RV rv);
__attribute__((format(printf, 3, 4))) enum err p11_fail(struct p11_error *error, enum err err,
                                                        const char *fmt, ...);

#endif
