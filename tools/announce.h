/* announce.h: news of a CA's new key (RFC 9810 5.3.13, ckuann), pushed to the HTTP listeners that the
 * configuration names in cmp_announce.
 *
 * Promise: one message for all, signed by the cmp_signer of the first line that issues from this CA
 *          and has one; all are asked at once and have ANNOUNCE_DEADLINE_S to answer 201 or 202.
 * Owner:   the report is the caller's.
 * Errors:  CLI_FAILED: there is no message (its line is printed), or a listener did not take it (the
 *          report says which and why).
 * Limits:  CMP_ANNOUNCE_MAX.
 */
#ifndef CERTMILL_TOOLS_ANNOUNCE_H
#define CERTMILL_TOOLS_ANNOUNCE_H

#include "tools/files.h"
#include "tools/output.h"

enum { ANNOUNCE_DEADLINE_S = 10 };

/* What the configuration says of the CA now. *out_report: [{"url", "accepted", "status", "problem"}],
 * empty when there is nobody to tell. */
int announce_rollover(struct cli *cli, const struct config *config, const char *ca_name,
                      json_t **out_report) MUST_USE;
/* For people, a line each. */
void announce_print(const json_t *report);

#endif
