/* daemon.h: the running certmilld, over its admin socket.
 *
 * Errors:  what fails has printed its line.
 * Limits:  answers of at most 4 MiB.
 */
#ifndef CERTMILL_TOOLS_DAEMON_H
#define CERTMILL_TOOLS_DAEMON_H

#include "tools/cli.h"

enum daemon_outcome {
    DAEMON_ANSWERED,
    DAEMON_FAILED, /* it may run, and could not be asked, or did not answer */
    DAEMON_ABSENT, /* nobody listens there */
};
/* What is asked is "GET /status"; *out_body is the body of the answer, whatever its status, and the
 * caller's to free. */
enum daemon_outcome daemon_ask(const char *socket_path, const char *what, int timeout_s,
                               char **out_body) MUST_USE;
/* Is there one? Prints nothing when there is none. */
bool daemon_runs(const char *socket_path);

#endif
