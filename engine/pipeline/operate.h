/* operate.h: what an operator may have a running appliance do, as the admin socket asks for it.
 *
 *   GET  /crl                                        what lists there are
 *   POST /crl/publish?ca=NAME                        make one now; {"ticket": N}, see GET /crl
 *   POST /revoke?cert=LOG&serial=HEX&act=ACT[&reason=NAME]   ACT: revoke, hold, release
 *
 * Promise: what was done is committed and in the journal, under `who`, before it is answered. A
 *          certificate is named twice, by log number and serial, so that a mistake hits nobody.
 * Threads: main thread; waits for a commit, but not for a list to be made.
 * Errors:  {"error": code, "sentence": text} and the status that goes with it.
 */
#ifndef CERTMILL_PIPELINE_OPERATE_H
#define CERTMILL_PIPELINE_OPERATE_H

#include "pipeline/appliance.h"

struct operate_request {
    bool post; /* else GET */
    struct bytes path, query;
    const char *who;
};

/* HTTP status, with JSON in `out`; 0: no such path. */
uint16_t operate(struct appliance *appliance, const struct operate_request *request,
                 struct writer *out);
/* Prometheus text about revocation lists. */
void operate_metrics(const struct appliance *appliance, struct writer *out);

#endif
