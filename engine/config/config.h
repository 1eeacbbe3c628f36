/* config.h: the appliance's one YAML file, as checked plain data.
 *
 * Promise: what config_load returns has the right types, ranges, unique names and references that
 *          resolve; nothing of the world (files, tokens) has been touched but the file itself.
 * Owner:   the struct owns its strings; config_free releases all.
 * Errors:  ERR_CONFIG; out_error gets "file:line: what is wrong; what was expected".
 */
#ifndef CERTMILL_CONFIG_CONFIG_H
#define CERTMILL_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "limits.h"

enum { CONFIG_ERROR_MAX = 1024 };

/* 0 or 1 once loaded (the schema needs a third value for "not given"). */
typedef uint8_t config_bool;

struct config_listener {
    char *address; /* numeric, default 127.0.0.1 */
    uint16_t port;
    config_bool tls; /* default true */
};

struct config_tls {
    char *certificate; /* PEM file, relative to the configuration file's folder */
    char *key;
    config_bool tls12; /* default true */
};

struct config_timeouts { /* 0: default of limits.h */
    uint32_t handshake_ms, header_ms, body_ms, idle_ms, send_ms, drain_ms;
};

struct config_token {
    char *name;
    char *module;
    char *uri;      /* pkcs11:token=... */
    char *pin_file; /* exactly one of pin_file, pin_env, pin_credential */
    char *pin_env;
    char *pin_credential;
    uint32_t signers;  /* default 1 */
    uint32_t sessions; /* default 4 */
    uint32_t deadline_ms;
    config_bool network; /* default false: the module may open connections to its HSM */
    uint32_t *verify_one_in_given; /* as the file says, NULL when it does not */
    uint32_t verify_one_in;        /* 1: every signature is verified; never 0 */
    char **rv_classes;             /* "CKR_X=retry-elsewhere" ... */
    uint32_t rv_classes_count;
};

/* Revocation lists of a CA. The texts as the file has them, the seconds as they mean. */
struct config_crl {
    char *lifetime;     /* thisUpdate to nextUpdate; default "7d" */
    char *every;        /* a new one so often; default "1d"; "none": none at all */
    char *on_revocation; /* and at most so long after a revocation; default, or "0s": on schedule */
    int64_t lifetime_s, every_s, on_revocation_s; /* every_s 0: none at all */
};

struct config_ca {
    char *name;
    char *key;     /* pkcs11: URI object part */
    char **tokens; /* names; default: the only token */
    uint32_t tokens_count;
    char *certificate; /* PEM file: issuing CA certificate */
    char **chain;      /* PEM files: intermediates and root */
    uint32_t chain_count;
    char **previous; /* PEM files: its certificates for earlier keys, the last one first */
    uint32_t previous_count;
    char *old_with_new; /* PEM files: links of the last key rollover (RFC 9810 4.4), or NULL */
    char *new_with_old;
    config_bool test; /* lines that are not for tests may not use it */
    struct config_crl crl;
};

struct config_profile {
    char *name;
    char *base;     /* tls-device | idevid */
    char *validity; /* "398d", "10y", "none" */
    char *backdate; /* "60s" */
    char **keys;    /* p256 p384 rsa2048.. ed25519 */
    uint32_t keys_count;
    char **key_usage; /* names of RFC 5280 */
    uint32_t key_usage_count;
    char **ext_key_usage;
    uint32_t ext_key_usage_count;
    config_bool server_auth;
    char *san;     /* request | forbidden */
    char *subject; /* fixed RDNs, "O=Example" */
    char *crl_url; /* cRLDistributionPoints; NULL: none */
};

struct config_station {
    char *name;
    char *password_hash;       /* crypt(5); or */
    char *certificate_subject; /* "CN=station-3" of a client certificate under the line's anchors */
    char *cmp_reference;       /* senderKID beside a MAC; default: the name */
    char *cmp_secret_file;     /* the shared secret, as it stands in the file less a last newline */
    char **roles;              /* enroll rework confirm revoke ra; default enroll confirm */
    uint32_t roles_count;
    char **lines; /* default: all */
    uint32_t lines_count;
};

/* Who signs the answers of CMP: never a CA key. */
struct config_cmp_signer {
    char *name;
    char *certificate; /* PEM file: digitalSignature, EKU cmcCA or cmKGA as fits */
    char **chain;      /* PEM files up to the root */
    uint32_t chain_count;
    char *key_file; /* PEM, PKCS#8 without a password; or */
    char *key;      /* pkcs11: URI object part */
    char **tokens;
    uint32_t tokens_count;
};

/* CMP on a line. */
struct config_cmp {
    char *signer;                 /* a name of cmp_signers; without: answers carry MACs alone */
    char *mode;                   /* open | strict (Lightweight Profile); default open */
    config_bool implicit_confirm; /* granted when asked for; default true */
    config_bool lenient_sender;   /* default true in open mode */
    config_bool require_time;     /* default false */
    char *confirm_wait;           /* default 5m */
    char *time_window;            /* default 5m; "none": any */
    char *batch;                  /* each | whole: what one bad message of a batch spoils */
    uint32_t requests_max;        /* of one message; default and most CMP_REQUESTS_PER_MESSAGE_MAX */
    uint32_t poll_after;          /* seconds; default 10 */
    config_bool keygen;           /* keys are made here for who asks without one; default false */
};

struct config_line {
    char *name;
    char *ca;
    char *profile;
    char *device_id; /* subject-cn | subject-serial-number | san-dns | san-uri | san-hardware-module
                      */
    char **trust_anchors; /* PEM files: station CA, vendor IDevID CA */
    uint32_t trust_anchors_count;
    config_bool basic_auth;       /* default true */
    config_bool client_cert;      /* default true */
    config_bool renewal;          /* default true: re-enrollment by the current certificate */
    config_bool require_pop_link; /* default false */
    config_bool hold;             /* default false: requests are answered "later" (EST 202) */
    config_bool confirm;          /* default true */
    config_bool test;     /* not for products: its CA's key may be one that can be extracted */
    struct config_cmp *cmp; /* NULL: not offered */
    uint32_t base64_wrap; /* 0 | 64 | 76 */
    uint32_t rate_limit;  /* requests per second, 0: none: 429 beyond */
};

struct config_store {
    char *dir;         /* default "store" */
    uint64_t map_size; /* bytes; 0: STORE_MAP_SIZE_DEFAULT */
};

struct config_admin {
    char *socket;  /* default "run/admin.sock" */
    char *address; /* loopback; default 127.0.0.1 */
    uint16_t port; /* metrics and health; 0: off */
};

struct config_log {
    char *level; /* error warn info debug */
};

struct config {
    char *path; /* of the file */
    char *dir;  /* its folder, to which relative paths refer */
    struct config_store store;
    uint32_t cores;        /* 0: all */
    config_bool pin_cores; /* default true */
    struct config_log log;
    struct config_admin admin;
    uint32_t connections_per_core;
    char *default_line;
    struct config_listener *listeners;
    uint32_t listeners_count;
    struct config_tls tls;
    struct config_timeouts timeouts;
    struct config_token *tokens;
    uint32_t tokens_count;
    struct config_ca *cas;
    uint32_t cas_count;
    struct config_profile *profiles;
    uint32_t profiles_count;
    struct config_station *stations;
    uint32_t stations_count;
    struct config_cmp_signer *cmp_signers;
    uint32_t cmp_signers_count;
    char **cmp_announce; /* http:// URLs of who wants to hear of CAs' new keys (CMP ckuann) */
    uint32_t cmp_announce_count;
    struct config_line *lines;
    uint32_t lines_count;
};

enum err config_load(const char *path, struct config **out,
                     char out_error[CONFIG_ERROR_MAX]) MUST_USE;
void config_free(struct config *config);
/* Is this CA for tests alone: every line that uses it is marked as test, or, when no line uses it,
 * it is itself? Only then may its key be one that can be extracted. */
bool config_ca_is_test(const struct config *config, const struct config_ca *ca);
/* Absolute path of a file the configuration names; caller frees. */
char *config_path(const struct config *config, const char *name);
/* "90s" "15m" "12h" "398d" "10y" -> seconds; "none" -> -1. */
bool config_duration(const char *text, int64_t *out_s) MUST_USE;

#endif
