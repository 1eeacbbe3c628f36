/* faults.h: which call goes wrong, and how.
 *
 * Promise: decides by counters on the board and by the seed, so the same calls in the same order
 *          meet the same faults. The control file is looked at most every CONTROL_POLL_NS, and a
 *          bad one changes nothing (it is counted, and said on stderr).
 * Threads: any.
 */
#ifndef CERTMILL_SIM_FAULTS_H
#define CERTMILL_SIM_FAULTS_H

#include "hsm/sim/board.h"

#define CONTROL_POLL_NS 10000000ull
/* How soon a call that waits sees that the control file let it go. */
#define STALL_SLICE_NS 50000000ull

struct faults; /* of one process */

struct faults *faults_new(const struct description *description, const struct board_place *place);
void faults_free(struct faults *faults);

/* What this call meets: waits, ends the process, or returns what it is to answer; CKR_OK (0): go
 * on. *out_wrong: turn over a bit of the signature. */
unsigned long faults_meet(struct faults *faults, enum call_kind call, bool *out_wrong);
/* Is the token not there now? Says nothing to any counter. */
bool faults_vanished(struct faults *faults);

#endif
