/* daemon.h: asking the running certmilld over its admin socket.
 *
 * Errors:  what fails has printed its line.
 * Limits:  answers of 4 MiB; 10 s without an octet.
 */
#ifndef CERTMILL_TOOLS_DAEMON_H
#define CERTMILL_TOOLS_DAEMON_H

#include "tools/cli.h"
#include "tools/output.h"

/* target: path and query, of characters that need no escape. NULL: no daemon, or no JSON. Also a
 * refusal is an answer: see *out_status. raw: prints the JSON as it came, when it is a 200. */
json_t *daemon_ask(struct cli *cli, const char *method, const char *target, bool raw,
                   uint32_t *out_status);
/* The code of a refusal; "" when there is none. */
const char *daemon_error(const json_t *answer);
/* "ask: sentence (code)" for an answer that is no success; CLI_FAILED. */
int daemon_fail(const json_t *answer, const char *what);

#endif
