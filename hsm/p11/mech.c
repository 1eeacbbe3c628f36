#include "hsm/p11/mech.h"

#include "crypto/digest.h"
#include "crypto/verify.h"

struct mech_row {
    CK_MECHANISM_TYPE type;
    CK_MECHANISM_TYPE pss_hash; /* 0: not PSS */
    CK_RSA_PKCS_MGF_TYPE pss_mgf;
    CK_ULONG pss_salt_len;
    bool raw_ecdsa; /* the token returns r || s */
};

static const struct mech_row rows[SIGN_MECH_COUNT] = {
    [SIGN_MECH_ECDSA] = {.type = CKM_ECDSA, .raw_ecdsa = true},
    [SIGN_MECH_RSA_PKCS1] = {.type = CKM_RSA_PKCS},
    [SIGN_MECH_RSA_PSS_SHA256] = {CKM_RSA_PKCS_PSS, CKM_SHA256, CKG_MGF1_SHA256, 32, false},
    [SIGN_MECH_RSA_PSS_SHA384] = {CKM_RSA_PKCS_PSS, CKM_SHA384, CKG_MGF1_SHA384, 48, false},
    [SIGN_MECH_RSA_PSS_SHA512] = {CKM_RSA_PKCS_PSS, CKM_SHA512, CKG_MGF1_SHA512, 64, false},
    [SIGN_MECH_EDDSA] = {.type = CKM_EDDSA},
    [SIGN_MECH_ML_DSA] = {.type = P11_CKM_ML_DSA},
};

CK_MECHANISM_TYPE mech_type(enum sign_mechanism mechanism)
{
    return rows[mechanism].type;
}

void mech_fill(enum sign_mechanism mechanism, struct mech_params *out)
{
    const struct mech_row *row = &rows[mechanism];
    *out = (struct mech_params){.mechanism = {.mechanism = row->type}};
    if (row->pss_hash != 0) {
        out->pss = (CK_RSA_PKCS_PSS_PARAMS){row->pss_hash, row->pss_mgf, row->pss_salt_len};
        out->mechanism.pParameter = &out->pss;
        out->mechanism.ulParameterLen = sizeof(out->pss);
    }
}

bool mech_fits(enum sign_mechanism mechanism, enum key_alg alg)
{
    switch (mechanism) {
    case SIGN_MECH_ECDSA:
        return alg == KEY_EC_P256 || alg == KEY_EC_P384;
    case SIGN_MECH_RSA_PKCS1:
    case SIGN_MECH_RSA_PSS_SHA256:
    case SIGN_MECH_RSA_PSS_SHA384:
    case SIGN_MECH_RSA_PSS_SHA512:
        return alg == KEY_RSA;
    case SIGN_MECH_EDDSA:
        return alg == KEY_ED25519;
    case SIGN_MECH_ML_DSA:
        return alg == KEY_ML_DSA_44 || alg == KEY_ML_DSA_65;
    case SIGN_MECH_COUNT:
        break;
    }
    return false;
}

bool mech_to_x509(enum sign_mechanism mechanism, struct bytes raw, uint8_t *out, size_t cap,
                  size_t *out_len)
{
    if (rows[mechanism].raw_ecdsa)
        return ecdsa_raw_to_der(raw, out, cap, out_len);
    if (raw.len == 0 || raw.len > cap)
        return false;
    memcpy(out, raw.ptr, raw.len);
    *out_len = raw.len;
    return true;
}

bool p11_mechanism_of(enum sig_alg alg, enum sign_mechanism *out)
{
    switch (alg) {
    case SIG_ECDSA_SHA256:
    case SIG_ECDSA_SHA384:
    case SIG_ECDSA_SHA512:
        *out = SIGN_MECH_ECDSA;
        return true;
    case SIG_RSA_SHA256:
    case SIG_RSA_SHA384:
    case SIG_RSA_SHA512:
        *out = SIGN_MECH_RSA_PKCS1;
        return true;
    case SIG_RSA_PSS_SHA256:
        *out = SIGN_MECH_RSA_PSS_SHA256;
        return true;
    case SIG_RSA_PSS_SHA384:
        *out = SIGN_MECH_RSA_PSS_SHA384;
        return true;
    case SIG_RSA_PSS_SHA512:
        *out = SIGN_MECH_RSA_PSS_SHA512;
        return true;
    case SIG_ED25519:
        *out = SIGN_MECH_EDDSA;
        return true;
    case SIG_ML_DSA_44:
    case SIG_ML_DSA_65:
        *out = SIGN_MECH_ML_DSA;
        return true;
    case SIG_NONE:
    case SIG_ALG_COUNT:
        break;
    }
    return false;
}
