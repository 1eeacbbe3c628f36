/* daemon.h: the running certmilld, over its admin socket.
 *
 * Errors:  what fails has printed its line.
 * Limits:  answers of at most 4 MiB.
 */
#ifndef CERTMILL_TOOLS_DAEMON_H
#define CERTMILL_TOOLS_DAEMON_H

#include "tools/cli.h"
#include "tools/output.h"

enum daemon_outcome {
    DAEMON_ANSWERED,
    DAEMON_FAILED, /* it may run, and could not be asked, or did not answer */
    DAEMON_ABSENT, /* nobody listens there */
};
/* What is asked is "GET /status"; *out_body is the body of the answer, whatever its status, and the
 * caller's to free. */
enum daemon_outcome daemon_ask(const char *socket_path, const char *what, int timeout_s,
                               uint32_t *out_status, char **out_body) MUST_USE;
/* Is there one? Prints nothing when there is none. */
bool daemon_runs(const char *socket_path);

/* The configured daemon. target: path and query, of characters that need no escape. NULL: no daemon,
 * or no JSON. Also a refusal is an answer: see *out_status. raw: prints the JSON as it came, when it
 * is a 200. */
json_t *daemon_ask_json(struct cli *cli, const char *method, const char *target, bool raw,
                        uint32_t *out_status);
/* The code of a refusal; "" when there is none. */
const char *daemon_error(const json_t *answer);
/* "ask: sentence (code)" for an answer that is no success; CLI_FAILED. */
int daemon_fail(const json_t *answer, const char *what);

#endif
