/* wire.h: the configuration of one signer process, as bytes in a sealed memfd.
 *
 * Promise: what the engine encodes, the signer of the same build decodes; anything else is refused.
 *          There is no PIN in it, only where to read it.
 * Owner:   decoded strings are views of NUL-terminated text in the encoded bytes.
 */
#ifndef CERTMILL_HSM_WIRE_H
#define CERTMILL_HSM_WIRE_H

#include "base/log.h"
#include "hsm/queue/queue.h"

enum { WIRE_MAX = 256 * 1024 };

/* Descriptors that certmill-signer inherits, by number. */
enum {
    SIGNER_FD_CONFIG = 3,
    SIGNER_FD_SHM,
    SIGNER_FD_WAKE_FLAGS,
    SIGNER_FD_NOTIFY, /* eventfd: the supervisor should look */
    SIGNER_FD_PARENT, /* pipe: end of file when the engine is gone or wants it to stop */
    SIGNER_FD_KEYS,   /* eventfd of this signer: look for keys, see shm.h */
    SIGNER_FD_CORE_0, /* eventfd of core 0, then of the others */
};

struct wire_key {
    uint32_t index; /* in hsm_config.keys */
    const char *name;
    const char *uri;
    enum sign_mechanism mechanism;
    bool allow_extractable;
    bool has_spki;
    uint8_t spki_sha256[32];
};

struct wire_signer {
    uint32_t parent_pid;
    uint32_t core_count;
    uint8_t wake_index[CORES_MAX]; /* of each core's flag in the shared page */
    enum log_level log_level;      /* the engine's */
    uint32_t sessions;
    bool allow_network;
    const char *name;
    const char *module_path;
    const char *uri;
    const char *pin_file; /* NULL when not given, as the next two */
    const char *pin_env;
    const char *pin_credential;
    const char *rv_classes;
    uint32_t key_count;
    struct wire_key keys[KEYS_MAX];
};

void wire_put(struct writer *writer, const struct wire_signer *config);
bool wire_get(struct bytes data, struct wire_signer *out) MUST_USE;

#endif
