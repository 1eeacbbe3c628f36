/* mech.h: inside hsm/p11: which PKCS#11 mechanism makes which signature, and in what form.
 *
 * Threads: pure.
 */
#ifndef CERTMILL_HSM_P11_MECH_H
#define CERTMILL_HSM_P11_MECH_H

#include "hsm/p11/module.h"

struct mech_params {
    CK_MECHANISM mechanism;
    CK_RSA_PKCS_PSS_PARAMS pss;
};

CK_MECHANISM_TYPE mech_type(enum sign_mechanism mechanism);
/* *out must stay where it is: the mechanism points into it. */
void mech_fill(enum sign_mechanism mechanism, struct mech_params *out);
bool mech_fits(enum sign_mechanism mechanism, enum key_alg alg);
/* What the token returned to X.509 form: the one place where formats are converted. */
bool mech_to_x509(enum sign_mechanism mechanism, struct bytes raw, uint8_t *out, size_t cap,
                  size_t *out_len) MUST_USE;

#endif
