#include "asn1/der.h"
#include "asn1/oid.h"
#include "crypto/digest.h"
#include "hsm/p11/mech.h"
#include "hsm/p11/module.h"

static void message_close(struct p11_session *session)
{
    if (session->message_open)
        session->module->v3->message_sign_final(session->handle);
    session->message_open = false;
}

/* PKCS#11 3.0 5.14: one init for any number of messages. *out_done stays false when the token takes
 * back what its mechanism flags offered: then C_Sign is used from now on. */
static CK_RV sign_as_message(struct p11_session *session, CK_OBJECT_HANDLE key,
                             enum sign_mechanism mechanism, struct bytes input, uint8_t *out,
                             CK_ULONG *out_len, const char **out_call, bool *out_done)
{
    const struct p11_functions_v3 *v3 = session->module->v3;
    if (session->message_open &&
        (session->message_key != key || session->message_mechanism != mechanism))
        message_close(session);
    if (!session->message_open) {
        struct mech_params params;
        mech_fill(mechanism, &params);
        *out_call = "C_MessageSignInit";
        CK_RV rv = v3->message_sign_init(session->handle, &params.mechanism, key);
        if (rv == CKR_FUNCTION_NOT_SUPPORTED || rv == CKR_MECHANISM_INVALID) {
            session->message_signing[mechanism] = false;
            return rv;
        }
        *out_done = true;
        if (rv != CKR_OK)
            return rv;
        session->message_open = true;
        session->message_key = key;
        session->message_mechanism = mechanism;
    }
    *out_done = true;
    *out_call = "C_SignMessage";
    CK_RV rv = v3->sign_message(session->handle, NULL, 0, (unsigned char *)input.ptr, input.len,
                                out, out_len);
    if (rv != CKR_OK)
        message_close(session);
    return rv;
}

static CK_RV sign_raw(struct p11_session *session, CK_OBJECT_HANDLE key,
                      enum sign_mechanism mechanism, struct bytes input, uint8_t *out,
                      CK_ULONG *out_len, const char **out_call)
{
    if (session->message_signing[mechanism]) {
        bool done = false;
        CK_RV rv = sign_as_message(session, key, mechanism, input, out, out_len, out_call, &done);
        if (done)
            return rv;
    }
    struct mech_params params;
    mech_fill(mechanism, &params);
    *out_call = "C_SignInit";
    CK_RV rv = session->module->functions->C_SignInit(session->handle, &params.mechanism, key);
    if (rv != CKR_OK)
        return rv;
    *out_call = "C_Sign";
    return session->module->functions->C_Sign(session->handle, (unsigned char *)input.ptr,
                                              input.len, out, out_len);
}

bool p11_key_signs(const struct p11_key *key, enum sign_mechanism mechanism)
{
    return mech_fits(mechanism, key->alg);
}

enum err p11_sign(struct p11_session *session, const struct p11_key *key,
                  enum sign_mechanism mechanism, struct bytes input, uint8_t *out, size_t cap,
                  size_t *out_len, struct p11_error *error)
{
    if (!mech_fits(mechanism, key->alg))
        return p11_fail(error, ERR_CONFIG, "key %s (%s) does not sign with this mechanism",
                        key->label, key_alg_name(key->alg));
    if (input.len > SIGN_INPUT_MAX)
        return p11_fail(error, ERR_NO_SPACE, "the input is longer than %d bytes", SIGN_INPUT_MAX);
    uint8_t raw[SIGNATURE_MAX];
    CK_ULONG raw_len = sizeof(raw);
    const char *call;
    CK_RV rv = sign_raw(session, key->private_handle, mechanism, input, raw, &raw_len, &call);
    if (rv != CKR_OK)
        return p11_fail_rv(error, call, rv);
    if (raw_len > sizeof(raw) ||
        !mech_to_x509(mechanism, bytes_of(raw, raw_len), out, cap, out_len))
        return p11_fail(error, ERR_SIGNER_FAILED,
                        "the token returned %lu bytes that are no signature", raw_len);
    return ERR_OK;
}

/* DigestInfo (RFC 8017 9.2). */
static bool digest_info(enum hash_alg hash, struct bytes digest, uint8_t *out, size_t cap,
                        struct bytes *out_der)
{
    struct der_builder builder = der_builder_of(out, cap);
    der_open(&builder, DER_SEQUENCE);
    der_open(&builder, DER_SEQUENCE);
    der_put(&builder, DER_OID,
            hash == HASH_SHA256   ? OID_SHA256
            : hash == HASH_SHA384 ? OID_SHA384
                                  : OID_SHA512);
    der_put_null(&builder);
    der_close(&builder);
    der_put(&builder, DER_OCTET_STRING, digest);
    der_close(&builder);
    return der_finish(&builder, out_der);
}

enum err p11_sign_message(struct p11_session *session, const struct p11_key *key, enum sig_alg alg,
                          struct bytes message, uint8_t *out, size_t cap, size_t *out_len,
                          struct p11_error *error)
{
    enum sign_mechanism mechanism;
    if (!p11_mechanism_of(alg, &mechanism) || !sig_alg_fits(alg, key->alg))
        return p11_fail(error, ERR_BAD_ALG, "%s does not go with a key of kind %s",
                        sig_alg_name(alg), key_alg_name(key->alg));
    uint8_t digest[DIGEST_LEN_MAX], info[DIGEST_LEN_MAX + 32];
    struct bytes input = message;
    enum hash_alg hash = sig_alg_hash(alg);
    if (hash != HASH_NONE) {
        digest_once(hash, message, digest);
        input = bytes_of(digest, hash_alg_len(hash));
    }
    if (mechanism == SIGN_MECH_RSA_PKCS1 && !digest_info(hash, input, info, sizeof(info), &input))
        return p11_fail(error, ERR_INTERNAL, "DigestInfo");
    return p11_sign(session, key, mechanism, input, out, cap, out_len, error);
}
