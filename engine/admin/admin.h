/* admin.h: how operators look at a running appliance: a unix socket for the CLI, and on a loopback
 * port GET /metrics (Prometheus text), /health (200 or 503) and /status (JSON). What changes
 * something is a POST, taken from the unix socket alone, in the name of the user at its other end:
 * /reload, as SIGHUP, with the outcome as JSON, and what `operate` knows.
 *
 * Promise: never touches a request's path; slow or hostile clients are bounded (ADMIN_CLIENTS_MAX,
 *          one request each, ADMIN_TIMEOUT_MS) and cost the cores nothing.
 * Owner:   admin owns its sockets; everything in the view outlives it and is read only.
 * Threads: main thread.
 * Errors:  ERR_IO with detail.
 */
#ifndef CERTMILL_ADMIN_ADMIN_H
#define CERTMILL_ADMIN_ADMIN_H

#include <poll.h>

#include "base/bytes.h"
#include "base/metrics.h"
#include "hsm/queue/queue.h"
#include "store/store.h"

enum {
    ADMIN_CLIENTS_MAX = 16,
    ADMIN_TIMEOUT_MS = 5000,
    ADMIN_POLLFDS_MAX = ADMIN_CLIENTS_MAX + 2,
    ADMIN_DETAIL_MAX = 1024
};

struct admin;

/* What operators may ask for beside that is the appliance's business. */
struct admin_request {
    bool post; /* else GET */
    struct bytes path, query;
    const char *who; /* user name, or "uid-N"; "" on the port */
};
struct admin_operate {
    void *ctx;
    /* HTTP status, with JSON in `out`; 0: no such path. NULL: there is nothing. */
    uint16_t (*answer)(void *ctx, const struct admin_request *request, struct writer *out);
    /* More Prometheus text; NULL: none. */
    void (*metrics)(void *ctx, struct writer *out);
};

/* What admin reads. */
struct admin_view {
    uint32_t core_count;
    struct metrics *const *metrics; /* per core */
    struct store *store;
    struct hsm *hsm;
    const char *version;
    uint64_t started_ns;
    bool *draining; /* health answers 503 */
    /* Reads the configuration again; false: detail says why not. NULL: not offered. */
    bool (*reload)(void *ctx, uint32_t *out_generation, char out_detail[ADMIN_DETAIL_MAX]);
    void *reload_ctx;
    struct admin_operate operate;
};

struct admin_config {
    const char *socket_path; /* unix socket, mode 0600; NULL: none */
    const char *address;     /* loopback only, refused otherwise */
    uint16_t port;           /* 0: none */
};

enum err admin_start(const struct admin_config *config, const struct admin_view *view,
                     struct admin **out, char out_detail[256]) MUST_USE;
void admin_stop(struct admin *admin);
/* Descriptors to poll; returns how many were written (at most ADMIN_POLLFDS_MAX). */
uint32_t admin_pollfds(struct admin *admin, struct pollfd out[ADMIN_POLLFDS_MAX]);
/* Handles what is ready and expires slow clients. */
void admin_tend(struct admin *admin);

/* Texts, also for tests: written into `out`, which may run full (then the writer has failed). */
void admin_write_metrics(const struct admin_view *view, struct writer *out);
void admin_write_status(const struct admin_view *view, struct writer *out); /* JSON */
/* The outcome of a reload, JSON; detail is NULL when it was done. */
void admin_write_reload(uint32_t generation, const char *detail, struct writer *out);
bool admin_is_healthy(const struct admin_view *view, struct writer *out_reason);

#endif
