/* device.h: the device between the call and the signature: faults, rate limit, engines, time.
 *
 * Promise: a job is admitted or refused before anything is computed; device_wait returns no sooner
 *          than the described device would. Signing itself is done meanwhile by the caller's
 *          thread, so a device faster than the processor cannot be played (about 25-70 us of
 *          processor for a P-256 signature).
 * Threads: any.
 */
#ifndef CERTMILL_SIM_DEVICE_H
#define CERTMILL_SIM_DEVICE_H

#include "hsm/sim/sim.h"

struct job {
    uint64_t end_ns; /* 0: no wait */
    bool is_wrong;   /* the signature is to be spoilt */
};

/* CKR_OK, or what the device answers instead of working. Waits for faults that wait. */
CK_RV device_admit(const struct object *key, struct job *out);
void device_wait(const struct job *job);

#endif
