/* appliance.h: all cores, the writer, the costly worker and the signers as one thing.
 *
 * Promise: start either brings everything up or leaves nothing running, with a line on what to do;
 *          reload swaps the configuration without dropping a request, or changes nothing; stop
 *          answers what is in flight, commits what is staged, and ends every thread and process.
 * Threads: main thread alone, but appliance_view's atomics.
 */
#ifndef CERTMILL_PIPELINE_APPLIANCE_H
#define CERTMILL_PIPELINE_APPLIANCE_H

#include "pipeline/pipeline.h"

struct appliance;

/* Takes the configuration over. */
enum err appliance_start(struct config *config, struct appliance **out,
                         char out_detail[CONFIG_ERROR_MAX]) MUST_USE;
/* Housekeeping: signers, old snapshots, ticket keys. At least every 100 ms, and when
 * appliance_poll_fd is readable. */
void appliance_tend(struct appliance *appliance);
int appliance_poll_fd(const struct appliance *appliance);
/* Reads the file again. What needs a restart (cores, listeners, store, tokens) and differs is named
 * in the detail and refused. A CA may change its key: requests from then on are signed with the new
 * one; the reload is refused, after at most ten seconds for each key, when no signer has it. */
enum err appliance_reload(struct appliance *appliance, char out_detail[CONFIG_ERROR_MAX]) MUST_USE;
/* Drains for at most the configured time, then stops. Frees all. */
void appliance_stop(struct appliance *appliance);

/* For admin: read-only. */
const struct shared *appliance_shared(const struct appliance *appliance);
const struct snapshot *appliance_snapshot(const struct appliance *appliance);
uint64_t appliance_started_ns(const struct appliance *appliance);

#endif
