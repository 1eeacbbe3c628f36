/* Signing, verifying, hashing, random numbers. */
#include <stdlib.h>

#include "base/secret.h"
#include "crypto/rsa_raw.h"
#include "crypto/verify.h"
#include "hsm/sim/device.h"

enum { EC_COORDINATE_MAX = 48, RSA_PKCS1_OVERHEAD = 11 };

/* --- operations --- */

static CK_RV key_of(CK_OBJECT_HANDLE number, CK_OBJECT_CLASS class, CK_ATTRIBUTE_TYPE right,
                    struct object **out)
{
    CK_RV rv = CKR_OK;
    pthread_mutex_lock(&sim.lock);
    struct object *object = table_find(number);
    if (!object)
        rv = CKR_KEY_HANDLE_INVALID;
    else if (object->class != class || !object_bool(object, right, false))
        rv = CKR_KEY_FUNCTION_NOT_PERMITTED;
    if (rv == CKR_OK) {
        object_hold(object);
        *out = object;
    }
    pthread_mutex_unlock(&sim.lock);
    return rv;
}

static bool has_flag(const struct mechanism *mechanism, enum operation_kind kind)
{
    return mechanism->flags & (kind == OP_SIGN || kind == OP_MESSAGE_SIGN ? CKF_SIGN : CKF_VERIFY);
}

static CK_RV begin(struct session *session, enum operation_kind kind, const CK_MECHANISM *given,
                   CK_OBJECT_HANDLE number)
{
    struct operation *operation = &session->operation[kind];
    bool signs = kind == OP_SIGN || kind == OP_MESSAGE_SIGN;
    if (!given)
        return CKR_ARGUMENTS_BAD;
    if (operation->mechanism)
        return CKR_OPERATION_ACTIVE;
    if (signs && sim_login() != LOGIN_USER)
        return CKR_USER_NOT_LOGGED_IN;
    const struct mechanism *mechanism = mechanism_find(given->mechanism);
    if (!mechanism || !has_flag(mechanism, kind))
        return CKR_MECHANISM_INVALID;
    struct object *key = NULL;
    CK_RV rv = key_of(number, signs ? CKO_PRIVATE_KEY : CKO_PUBLIC_KEY,
                      signs ? CKA_SIGN : CKA_VERIFY, &key);
    if (rv != CKR_OK)
        return rv;
    enum hash_alg hash;
    rv = mechanism_check(mechanism, given, key, &hash);
    if (rv != CKR_OK) {
        object_drop(key);
        return rv;
    }
    session->context_login = false;
    *operation = (struct operation){.mechanism = mechanism, .key = key, .hash = hash};
    return CKR_OK;
}

static CK_RV begin_call(CK_SESSION_HANDLE handle, enum operation_kind kind,
                        const CK_MECHANISM *given, CK_OBJECT_HANDLE number)
{
    struct session *session;
    CK_RV rv = session_enter(handle, kind == OP_VERIFY ? CALL_OTHER : CALL_INIT, &session);
    if (rv != CKR_OK)
        return rv;
    rv = begin(session, kind, given, number);
    session_leave(session);
    return rv;
}

static CK_RV collect(struct operation *operation, struct bytes data)
{
    if (data.len > DATA_MAX - operation->len)
        return CKR_DATA_LEN_RANGE;
    if (operation->len + data.len > operation->cap) {
        size_t cap = 2 * (operation->len + data.len) + 256;
        uint8_t *grown = malloc(cap);
        if (!grown)
            return CKR_HOST_MEMORY;
        if (operation->len > 0)
            memcpy(grown, operation->data, operation->len);
        if (operation->data)
            secret_wipe(operation->data, operation->cap);
        free(operation->data);
        operation->data = grown;
        operation->cap = cap;
    }
    if (data.len > 0)
        memcpy(operation->data + operation->len, data.ptr, data.len);
    operation->len += data.len;
    return CKR_OK;
}

static CK_RV update_call(CK_SESSION_HANDLE handle, enum operation_kind kind, CK_BYTE *data,
                         CK_ULONG len)
{
    struct session *session;
    CK_RV rv = session_enter(handle, CALL_OTHER, &session);
    if (rv != CKR_OK)
        return rv;
    struct operation *operation = &session->operation[kind];
    if (!operation->mechanism)
        rv = CKR_OPERATION_NOT_INITIALIZED;
    else if (!data && len > 0)
        rv = CKR_ARGUMENTS_BAD;
    else
        rv = collect(operation, bytes_of(data, len));
    operation->in_parts = true;
    if (rv != CKR_OK && rv != CKR_OPERATION_NOT_INITIALIZED)
        operation_end(operation);
    session_leave(session);
    return rv;
}

/* --- what is signed --- */

/* A digest of any length as the curve sees it: its leftmost bits (FIPS 186-4 6.4), as a number. */
static struct bytes ec_digest(enum key_alg alg, struct bytes digest, uint8_t *out)
{
    size_t len = alg == KEY_EC_P256 ? 32 : EC_COORDINATE_MAX;
    size_t used = digest.len < len ? digest.len : len;
    memset(out, 0, len);
    memcpy(out + len - used, digest.ptr, used);
    return bytes_of(out, len);
}

static enum sig_alg rsa_alg(const struct operation *operation)
{
    bool pss = operation->mechanism->is_pss;
    switch (operation->hash) {
    case HASH_SHA256:
        return pss ? SIG_RSA_PSS_SHA256 : SIG_RSA_SHA256;
    case HASH_SHA384:
        return pss ? SIG_RSA_PSS_SHA384 : SIG_RSA_SHA384;
    case HASH_SHA512:
        return pss ? SIG_RSA_PSS_SHA512 : SIG_RSA_SHA512;
    default:
        return SIG_NONE;
    }
}

static enum sig_alg alg_of(const struct operation *operation)
{
    switch (operation->key->alg) {
    case KEY_EC_P256: /* of the digest's length, which ec_digest makes the curve's */
        return SIG_ECDSA_SHA256;
    case KEY_EC_P384:
        return SIG_ECDSA_SHA384;
    case KEY_RSA:
        return rsa_alg(operation);
    case KEY_ED25519:
        return SIG_ED25519;
    case KEY_ML_DSA_44:
        return SIG_ML_DSA_44;
    case KEY_ML_DSA_65:
        return SIG_ML_DSA_65;
    default:
        return SIG_NONE;
    }
}

/* What goes under the signature. */
struct input {
    struct bytes data;
    bool is_digest;
    bool is_raw_pkcs1;
    uint8_t made[DIGEST_LEN_MAX];
    uint8_t number[EC_COORDINATE_MAX];
};

static CK_RV prepare(const struct operation *operation, struct bytes data, struct input *out)
{
    const struct mechanism *mechanism = operation->mechanism;
    out->data = data;
    out->is_digest = false;
    out->is_raw_pkcs1 = mechanism->type == CKM_RSA_PKCS;
    if (out->is_raw_pkcs1)
        return data.len <= signature_len(operation->key) - RSA_PKCS1_OVERHEAD ? CKR_OK
                                                                              : CKR_DATA_LEN_RANGE;
    if (mechanism->family == FAMILY_EDDSA || mechanism->family == FAMILY_ML_DSA)
        return CKR_OK;
    out->is_digest = true;
    if (mechanism->hash != HASH_NONE) {
        digest_once(mechanism->hash, data, out->made);
        out->data = bytes_of(out->made, hash_alg_len(mechanism->hash));
    } else if (mechanism->is_pss && data.len != hash_alg_len(operation->hash)) {
        return CKR_DATA_LEN_RANGE;
    } else if (data.len == 0 || data.len > DIGEST_LEN_MAX) {
        return CKR_DATA_LEN_RANGE;
    }
    if (mechanism->family == FAMILY_EC)
        out->data = ec_digest(operation->key->alg, out->data, out->number);
    return CKR_OK;
}

/* --- signing --- */

static CK_RV compute(const struct operation *operation, const struct input *input, uint8_t *out,
                     size_t cap, size_t *out_len)
{
    const struct object *key = operation->key;
    uint8_t der[SIGNATURE_MAX];
    enum err err;
    if (input->is_raw_pkcs1)
        err = rsa_raw_sign(key->key, input->data, out, cap, out_len);
    else if (operation->mechanism->family != FAMILY_EC)
        err = softkey_sign(key->key, alg_of(operation), input->data, input->is_digest, out, cap,
                           out_len);
    else {
        size_t der_len;
        *out_len = signature_len(key);
        err =
            softkey_sign(key->key, alg_of(operation), input->data, true, der, sizeof der, &der_len);
        if (!err && !ecdsa_der_to_raw(bytes_of(der, der_len), out, *out_len / 2))
            err = ERR_INTERNAL;
    }
    return err ? CKR_FUNCTION_FAILED : CKR_OK;
}

static CK_RV may_sign(struct session *session, const struct operation *operation)
{
    if (sim_login() != LOGIN_USER)
        return CKR_USER_NOT_LOGGED_IN;
    if (session->context_login)
        return CKR_OK;
    pthread_mutex_lock(&sim.lock);
    bool wants_pin = object_bool(operation->key, CKA_ALWAYS_AUTHENTICATE, false);
    pthread_mutex_unlock(&sim.lock);
    return wants_pin ? CKR_USER_NOT_LOGGED_IN : CKR_OK;
}

static CK_RV sign(struct session *session, const struct operation *operation, struct bytes data,
                  CK_BYTE *out, CK_ULONG *out_len)
{
    struct input input;
    struct job job;
    uint8_t signature[SIGNATURE_MAX];
    size_t len;
    CK_RV rv = may_sign(session, operation);
    if (rv == CKR_OK)
        rv = prepare(operation, data, &input);
    if (rv == CKR_OK)
        rv = device_admit(operation->key, &job);
    if (rv == CKR_OK && session_is_lost(session)) /* while it waited */
        rv = CKR_SESSION_HANDLE_INVALID;
    if (rv == CKR_OK)
        rv = compute(operation, &input, signature, sizeof signature, &len);
    if (rv != CKR_OK)
        return rv;
    device_wait(&job);
    if (job.is_wrong)
        signature[len - 1] ^= 1;
    memcpy(out, signature, len);
    *out_len = len;
    board_add(&sim.place, BOARD_signatures);
    return CKR_OK;
}

/* Asking for the length, and too little room, leave the operation as it is (5.2). */
static bool wants_length(const struct operation *operation, const CK_BYTE *out, CK_ULONG *len,
                         CK_RV *out_rv)
{
    size_t needed = signature_len(operation->key);
    if (!len || (out && *len >= needed))
        return false;
    *len = needed;
    *out_rv = out ? CKR_BUFFER_TOO_SMALL : CKR_OK;
    return true;
}

CK_RV C_SignInit(CK_SESSION_HANDLE handle, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    return begin_call(handle, OP_SIGN, mechanism, key);
}

static CK_RV sign_call(CK_SESSION_HANDLE handle, bool is_final, struct bytes data, CK_BYTE *out,
                       CK_ULONG *out_len)
{
    struct session *session;
    CK_RV rv = session_enter(handle, CALL_OTHER, &session);
    if (rv != CKR_OK)
        return rv;
    struct operation *operation = &session->operation[OP_SIGN];
    if (!operation->mechanism) {
        rv = CKR_OPERATION_NOT_INITIALIZED;
    } else if (!wants_length(operation, out, out_len, &rv)) {
        if (!out_len || (!data.ptr && data.len > 0))
            rv = CKR_ARGUMENTS_BAD;
        else if (is_final)
            rv = sign(session, operation, bytes_of(operation->data, operation->len), out, out_len);
        else
            rv = operation->in_parts ? CKR_OPERATION_ACTIVE
                                     : sign(session, operation, data, out, out_len);
        operation_end(operation);
    }
    session_leave(session);
    return rv;
}

CK_RV C_Sign(CK_SESSION_HANDLE handle, CK_BYTE *data, CK_ULONG data_len, CK_BYTE *signature,
             CK_ULONG *signature_len_inout)
{
    return sign_call(handle, false, bytes_of(data, data_len), signature, signature_len_inout);
}

CK_RV C_SignUpdate(CK_SESSION_HANDLE handle, CK_BYTE *data, CK_ULONG len)
{
    return update_call(handle, OP_SIGN, data, len);
}

CK_RV C_SignFinal(CK_SESSION_HANDLE handle, CK_BYTE *signature, CK_ULONG *signature_len_inout)
{
    return sign_call(handle, true, (struct bytes){0}, signature, signature_len_inout);
}

/* --- one init, many messages (3.0 5.14) --- */

CK_RV C_MessageSignInit(CK_SESSION_HANDLE handle, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    if (atomic_load(&sim.is_ready) && !sim.description.message_sign)
        return CKR_FUNCTION_NOT_SUPPORTED;
    return begin_call(handle, OP_MESSAGE_SIGN, mechanism, key);
}

static CK_RV message_call(CK_SESSION_HANDLE handle, CK_ULONG parameter_len, struct bytes data,
                          CK_BYTE *out, CK_ULONG *out_len)
{
    struct session *session;
    CK_RV rv = session_enter(handle, CALL_OTHER, &session);
    if (rv != CKR_OK)
        return rv;
    struct operation *operation = &session->operation[OP_MESSAGE_SIGN];
    if (!operation->mechanism)
        rv = CKR_OPERATION_NOT_INITIALIZED;
    else if (parameter_len != 0) /* no mechanism here has any per message */
        rv = CKR_MECHANISM_PARAM_INVALID;
    else if (!wants_length(operation, out, out_len, &rv))
        rv = out_len && (data.ptr || data.len == 0) ? sign(session, operation, data, out, out_len)
                                                    : CKR_ARGUMENTS_BAD;
    session_leave(session);
    return rv;
}

CK_RV C_SignMessage(CK_SESSION_HANDLE handle, void *parameter, CK_ULONG parameter_len,
                    CK_BYTE *data, CK_ULONG data_len, CK_BYTE *signature,
                    CK_ULONG *signature_len_inout)
{
    (void)parameter;
    return message_call(handle, parameter_len, bytes_of(data, data_len), signature,
                        signature_len_inout);
}

CK_RV C_SignMessageBegin(CK_SESSION_HANDLE handle, void *parameter, CK_ULONG parameter_len)
{
    (void)handle, (void)parameter, (void)parameter_len;
    return CKR_FUNCTION_NOT_SUPPORTED; /* CKF_MULTI_MESSAGE is not offered */
}

CK_RV C_SignMessageNext(CK_SESSION_HANDLE handle, void *parameter, CK_ULONG parameter_len,
                        CK_BYTE *data, CK_ULONG data_len, CK_BYTE *signature,
                        CK_ULONG *signature_len_inout)
{
    (void)handle, (void)parameter, (void)parameter_len, (void)data, (void)data_len;
    (void)signature, (void)signature_len_inout;
    return CKR_FUNCTION_NOT_SUPPORTED;
}

CK_RV C_MessageSignFinal(CK_SESSION_HANDLE handle)
{
    struct session *session;
    CK_RV rv = session_enter(handle, CALL_OTHER, &session);
    if (rv != CKR_OK)
        return rv;
    struct operation *operation = &session->operation[OP_MESSAGE_SIGN];
    if (!operation->mechanism)
        rv = CKR_OPERATION_NOT_INITIALIZED;
    operation_end(operation);
    session_leave(session);
    return rv;
}

/* --- verifying --- */

static enum err check(const struct operation *operation, const struct input *input,
                      const struct spki *spki, struct bytes signature)
{
    uint8_t der[256];
    size_t der_len;
    if (input->is_raw_pkcs1)
        return rsa_raw_verify(spki, input->data, signature);
    if (operation->mechanism->family == FAMILY_EC) {
        if (!ecdsa_raw_to_der(signature, der, sizeof der, &der_len))
            return ERR_BAD_SIGNATURE;
        signature = bytes_of(der, der_len);
    }
    struct verify_job job = {.alg = alg_of(operation), .spki = spki, .signature = signature};
    if (input->is_digest)
        job.digest = input->data;
    else
        job.message = input->data;
    return verify_one(&job);
}

static CK_RV verify(const struct operation *operation, struct bytes data, struct bytes signature)
{
    struct input input;
    struct spki spki;
    CK_RV rv = prepare(operation, data, &input);
    if (rv != CKR_OK)
        return rv;
    if (signature.len != signature_len(operation->key))
        return CKR_SIGNATURE_LEN_RANGE;
    uint8_t der[SPKI_DER_MAX];
    pthread_mutex_lock(&sim.lock); /* attributes may change meanwhile */
    struct bytes info = object_get(operation->key, CKA_PUBLIC_KEY_INFO);
    bool fits = info.len <= sizeof der;
    if (fits)
        memcpy(der, info.ptr, info.len);
    pthread_mutex_unlock(&sim.lock);
    if (!fits || spki_decode(bytes_of(der, info.len), &spki))
        return CKR_FUNCTION_FAILED;
    board_add(&sim.place, BOARD_verifications);
    return check(operation, &input, &spki, signature) ? CKR_SIGNATURE_INVALID : CKR_OK;
}

CK_RV C_VerifyInit(CK_SESSION_HANDLE handle, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    return begin_call(handle, OP_VERIFY, mechanism, key);
}

static CK_RV verify_call(CK_SESSION_HANDLE handle, bool is_final, struct bytes data,
                         struct bytes signature)
{
    struct session *session;
    CK_RV rv = session_enter(handle, CALL_OTHER, &session);
    if (rv != CKR_OK)
        return rv;
    struct operation *operation = &session->operation[OP_VERIFY];
    if (!operation->mechanism)
        rv = CKR_OPERATION_NOT_INITIALIZED;
    else if (!signature.ptr || (!data.ptr && data.len > 0))
        rv = CKR_ARGUMENTS_BAD;
    else if (!is_final && operation->in_parts)
        rv = CKR_OPERATION_ACTIVE;
    else
        rv = verify(operation, is_final ? bytes_of(operation->data, operation->len) : data,
                    signature);
    operation_end(operation);
    session_leave(session);
    return rv;
}

CK_RV C_Verify(CK_SESSION_HANDLE handle, CK_BYTE *data, CK_ULONG data_len, CK_BYTE *signature,
               CK_ULONG signature_length)
{
    return verify_call(handle, false, bytes_of(data, data_len),
                       bytes_of(signature, signature_length));
}

CK_RV C_VerifyUpdate(CK_SESSION_HANDLE handle, CK_BYTE *data, CK_ULONG len)
{
    return update_call(handle, OP_VERIFY, data, len);
}

CK_RV C_VerifyFinal(CK_SESSION_HANDLE handle, CK_BYTE *signature, CK_ULONG signature_length)
{
    return verify_call(handle, true, (struct bytes){0}, bytes_of(signature, signature_length));
}

/* --- hashing --- */

CK_RV C_DigestInit(CK_SESSION_HANDLE handle, CK_MECHANISM *given)
{
    struct session *session;
    CK_RV rv = session_enter(handle, CALL_OTHER, &session);
    if (rv != CKR_OK)
        return rv;
    const struct mechanism *mechanism = given ? mechanism_find(given->mechanism) : NULL;
    if (!given)
        rv = CKR_ARGUMENTS_BAD;
    else if (session->operation[OP_DIGEST].mechanism)
        rv = CKR_OPERATION_ACTIVE;
    else if (!mechanism || mechanism->family != FAMILY_DIGEST)
        rv = CKR_MECHANISM_INVALID;
    else
        session->operation[OP_DIGEST] = (struct operation){.mechanism = mechanism};
    session_leave(session);
    return rv;
}

static CK_RV digest_call(CK_SESSION_HANDLE handle, bool is_final, struct bytes data, CK_BYTE *out,
                         CK_ULONG *out_len)
{
    struct session *session;
    CK_RV rv = session_enter(handle, CALL_OTHER, &session);
    if (rv != CKR_OK)
        return rv;
    struct operation *operation = &session->operation[OP_DIGEST];
    size_t needed = operation->mechanism ? hash_alg_len(operation->mechanism->hash) : 0;
    if (!operation->mechanism) {
        rv = CKR_OPERATION_NOT_INITIALIZED;
    } else if (out_len && (!out || *out_len < needed)) {
        *out_len = needed;
        rv = out ? CKR_BUFFER_TOO_SMALL : CKR_OK;
    } else {
        if (!out_len || (!data.ptr && data.len > 0))
            rv = CKR_ARGUMENTS_BAD;
        else if (!is_final && operation->in_parts)
            rv = CKR_OPERATION_ACTIVE;
        if (rv == CKR_OK) {
            digest_once(operation->mechanism->hash,
                        is_final ? bytes_of(operation->data, operation->len) : data, out);
            *out_len = needed;
        }
        operation_end(operation);
    }
    session_leave(session);
    return rv;
}

CK_RV C_Digest(CK_SESSION_HANDLE handle, CK_BYTE *data, CK_ULONG data_len, CK_BYTE *digest,
               CK_ULONG *digest_len)
{
    return digest_call(handle, false, bytes_of(data, data_len), digest, digest_len);
}

CK_RV C_DigestUpdate(CK_SESSION_HANDLE handle, CK_BYTE *data, CK_ULONG len)
{
    return update_call(handle, OP_DIGEST, data, len);
}

CK_RV C_DigestFinal(CK_SESSION_HANDLE handle, CK_BYTE *digest, CK_ULONG *digest_len)
{
    return digest_call(handle, true, (struct bytes){0}, digest, digest_len);
}

/* --- random numbers --- */

CK_RV C_SeedRandom(CK_SESSION_HANDLE handle, CK_BYTE *seed, CK_ULONG len)
{
    struct session *session;
    (void)seed, (void)len; /* the kernel's generator needs none */
    CK_RV rv = session_enter(handle, CALL_OTHER, &session);
    if (rv == CKR_OK)
        session_leave(session);
    return rv;
}

CK_RV C_GenerateRandom(CK_SESSION_HANDLE handle, CK_BYTE *out, CK_ULONG len)
{
    struct session *session;
    CK_RV rv = session_enter(handle, CALL_OTHER, &session);
    if (rv != CKR_OK)
        return rv;
    if (!out && len > 0)
        rv = CKR_ARGUMENTS_BAD;
    else if (len > 0)
        random_bytes(out, len);
    session_leave(session);
    return rv;
}
