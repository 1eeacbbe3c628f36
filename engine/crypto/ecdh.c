#include "crypto/ecdh.h"

#include <wolfssl/wolfcrypt/sp.h>

#include "base/secret.h"
#include "crypto/softkey_impl.h"

static enum err import(enum key_alg alg, struct bytes point, ecc_point *out)
{
    struct ec_point checked;
    enum err err = ec_point_import(alg, point, &checked);
    if (err)
        return err;
    memset(out, 0, sizeof *out);
    bool is_copied = mp_init_multi(out->x, out->y, out->z, NULL, NULL, NULL) == MP_OKAY &&
                     mp_copy(&checked.x, out->x) == MP_OKAY &&
                     mp_copy(&checked.y, out->y) == MP_OKAY &&
                     mp_copy(&checked.z, out->z) == MP_OKAY;
    return is_copied ? ERR_OK : ERR_INTERNAL;
}

static enum err agree(struct softkey *own, ecc_point *peer, struct ecdh_result *out)
{
    word32 len = sizeof out->shared;
    enum err err = softkey_generate_ec(own);
    if (err)
        return ERR_INTERNAL;
    int rc = own->alg == KEY_EC_P256
                 ? sp_ecc_secret_gen_256(&own->ec.scalar, peer, out->shared, &len, NULL)
                 : sp_ecc_secret_gen_384(&own->ec.scalar, peer, out->shared, &len, NULL);
    if (rc != MP_OKAY)
        return ERR_INTERNAL;
    out->shared_len = len;
    out->point_len = 1 + 2 * ec_coordinate_len(own->alg);
    memcpy(out->point, own->ec.point, out->point_len);
    return ERR_OK;
}

enum err ecdh_ephemeral(enum key_alg alg, struct bytes peer_point, struct ecdh_result *out)
{
    ecc_point peer;
    struct softkey own = {.alg = alg};
    struct ecdh_result result = {0};
    if (ec_coordinate_len(alg) == 0)
        return ERR_BAD_ALG;
    enum err err = import(alg, peer_point, &peer);
    if (!err)
        err = agree(&own, &peer, &result);
    secret_wipe(&own, sizeof own);
    if (!err)
        *out = result;
    secret_wipe(&result, sizeof result);
    return err;
}
