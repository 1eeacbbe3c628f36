#include "hsm/sim/sim.h"

#define SIGNS  (CKF_SIGN | CKF_VERIFY)
#define EC     (CKF_EC_F_P | CKF_EC_NAMEDCURVE | CKF_EC_UNCOMPRESS)
#define KEYGEN .is_keygen = true

static const struct mechanism mechanisms[] = {
    {CKM_EC_KEY_PAIR_GEN, FAMILY_EC, KEYGEN, .key_min = 256, .key_max = 384, .flags = EC},
    {CKM_ECDSA, FAMILY_EC, .key_min = 256, .key_max = 384, .flags = SIGNS | EC},
    {CKM_ECDSA_SHA256, FAMILY_EC, HASH_SHA256, .key_min = 256, .key_max = 384, .flags = SIGNS | EC},
    {CKM_ECDSA_SHA384, FAMILY_EC, HASH_SHA384, .key_min = 256, .key_max = 384, .flags = SIGNS | EC},
    {CKM_ECDSA_SHA512, FAMILY_EC, HASH_SHA512, .key_min = 256, .key_max = 384, .flags = SIGNS | EC},
    {CKM_RSA_PKCS_KEY_PAIR_GEN, FAMILY_RSA, KEYGEN, .key_min = 2048, .key_max = 4096},
    {CKM_RSA_PKCS, FAMILY_RSA, .key_min = 2048, .key_max = 4096, .flags = SIGNS},
    {CKM_SHA256_RSA_PKCS, FAMILY_RSA, HASH_SHA256, .key_min = 2048, .key_max = 4096,
     .flags = SIGNS},
    {CKM_SHA384_RSA_PKCS, FAMILY_RSA, HASH_SHA384, .key_min = 2048, .key_max = 4096,
     .flags = SIGNS},
    {CKM_SHA512_RSA_PKCS, FAMILY_RSA, HASH_SHA512, .key_min = 2048, .key_max = 4096,
     .flags = SIGNS},
    {CKM_RSA_PKCS_PSS, FAMILY_RSA, .is_pss = true, .key_min = 2048, .key_max = 4096,
     .flags = SIGNS},
    {CKM_SHA256_RSA_PKCS_PSS, FAMILY_RSA, HASH_SHA256, .is_pss = true, .key_min = 2048,
     .key_max = 4096, .flags = SIGNS},
    {CKM_SHA384_RSA_PKCS_PSS, FAMILY_RSA, HASH_SHA384, .is_pss = true, .key_min = 2048,
     .key_max = 4096, .flags = SIGNS},
    {CKM_SHA512_RSA_PKCS_PSS, FAMILY_RSA, HASH_SHA512, .is_pss = true, .key_min = 2048,
     .key_max = 4096, .flags = SIGNS},
    {CKM_EC_EDWARDS_KEY_PAIR_GEN, FAMILY_EDDSA, KEYGEN, .key_min = 256, .key_max = 256},
    {CKM_EDDSA, FAMILY_EDDSA, .key_min = 256, .key_max = 256, .flags = SIGNS},
    {CKM_SHA_1, FAMILY_DIGEST, HASH_SHA1, .flags = CKF_DIGEST},
    {CKM_SHA256, FAMILY_DIGEST, HASH_SHA256, .flags = CKF_DIGEST},
    {CKM_SHA384, FAMILY_DIGEST, HASH_SHA384, .flags = CKF_DIGEST},
    {CKM_SHA512, FAMILY_DIGEST, HASH_SHA512, .flags = CKF_DIGEST},
    /* last: left out where wolfSSL was built without ML-DSA */
    {SIM_CKM_ML_DSA_KEY_PAIR_GEN, FAMILY_ML_DSA, KEYGEN, .key_min = 1312, .key_max = 1952},
    {SIM_CKM_ML_DSA, FAMILY_ML_DSA, .key_min = 1312, .key_max = 1952, .flags = SIGNS},
};
enum { MECHANISMS = sizeof mechanisms / sizeof *mechanisms, ML_DSA_MECHANISMS = 2 };

static uint32_t offered = MECHANISMS - ML_DSA_MECHANISMS;

static void probe(void)
{
    struct softkey *key = NULL;
    if (!softkey_generate(KEY_ML_DSA_44, 0, &key))
        offered = MECHANISMS;
    softkey_free(key);
}

const struct mechanism *mechanism_at(uint32_t index)
{
    static pthread_once_t control = PTHREAD_ONCE_INIT;
    pthread_once(&control, probe);
    return index < offered ? &mechanisms[index] : NULL;
}

const struct mechanism *mechanism_find(CK_MECHANISM_TYPE type)
{
    const struct mechanism *at;
    for (uint32_t i = 0; (at = mechanism_at(i)); i++)
        if (at->type == type)
            return at;
    return NULL;
}

CK_FLAGS mechanism_flags(const struct mechanism *mechanism)
{
    CK_FLAGS flags = mechanism->flags;
    if (mechanism->family != FAMILY_DIGEST)
        flags |= CKF_HW; /* it plays a device, and clients that ask for one shall see it */
    if (mechanism->is_keygen)
        flags |= CKF_GENERATE_KEY_PAIR;
    if (sim.description.message_sign && (flags & CKF_SIGN))
        flags |= SIM_CKF_MESSAGE_SIGN;
    return flags;
}

bool family_fits(enum family family, enum key_alg alg)
{
    switch (family) {
    case FAMILY_EC:
        return alg == KEY_EC_P256 || alg == KEY_EC_P384;
    case FAMILY_RSA:
        return alg == KEY_RSA;
    case FAMILY_EDDSA:
        return alg == KEY_ED25519;
    case FAMILY_ML_DSA:
        return alg == KEY_ML_DSA_44 || alg == KEY_ML_DSA_65;
    case FAMILY_DIGEST:
        break;
    }
    return false;
}

size_t signature_len(const struct object *key)
{
    switch (key->alg) {
    case KEY_EC_P256:
        return 64;
    case KEY_EC_P384:
        return 96;
    case KEY_RSA:
        return (key->bits + 7) / 8;
    case KEY_ED25519:
        return 64;
    case KEY_ML_DSA_44: /* FIPS 204 table 2 */
        return 2420;
    case KEY_ML_DSA_65:
        return 3309;
    default:
        return 0;
    }
}

/* PSS with one hash throughout and a salt of its length, as softkey signs. */
static CK_RV pss_check(const struct mechanism *mechanism, const CK_MECHANISM *given,
                       enum hash_alg *out_hash)
{
    static const struct {
        CK_MECHANISM_TYPE type;
        CK_RSA_PKCS_MGF_TYPE mgf;
        enum hash_alg hash;
    } hashes[] = {{CKM_SHA256, CKG_MGF1_SHA256, HASH_SHA256},
                  {CKM_SHA384, CKG_MGF1_SHA384, HASH_SHA384},
                  {CKM_SHA512, CKG_MGF1_SHA512, HASH_SHA512}};
    CK_RSA_PKCS_PSS_PARAMS params;
    if (!given->pParameter || given->ulParameterLen != sizeof params)
        return CKR_MECHANISM_PARAM_INVALID;
    memcpy(&params, given->pParameter, sizeof params);
    for (size_t i = 0; i < sizeof hashes / sizeof *hashes; i++) {
        if (params.hashAlg != hashes[i].type || params.mgf != hashes[i].mgf ||
            params.sLen != hash_alg_len(hashes[i].hash))
            continue;
        if (mechanism->hash != HASH_NONE && mechanism->hash != hashes[i].hash)
            continue;
        *out_hash = hashes[i].hash;
        return CKR_OK;
    }
    return CKR_MECHANISM_PARAM_INVALID;
}

CK_RV mechanism_check(const struct mechanism *mechanism, const CK_MECHANISM *given,
                      const struct object *key, enum hash_alg *out_hash)
{
    if (!family_fits(mechanism->family, key->alg))
        return CKR_KEY_TYPE_INCONSISTENT;
    *out_hash = mechanism->hash;
    if (mechanism->is_pss)
        return pss_check(mechanism, given, out_hash);
    if (given->ulParameterLen == 0)
        return CKR_OK;
    if (mechanism->family == FAMILY_EDDSA && given->pParameter &&
        given->ulParameterLen == sizeof(struct sim_eddsa_params)) {
        struct sim_eddsa_params params;
        memcpy(&params, given->pParameter, sizeof params);
        if (!params.ph_flag && params.context_len == 0)
            return CKR_OK;
    }
    return CKR_MECHANISM_PARAM_INVALID;
}
