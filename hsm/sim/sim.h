/* sim.h: the state of the simulated token in one process, and how a PKCS#11 call enters it.
 *
 * Threads: any number of sessions at once. A call holds its session's lock, and `sim.lock` for
 *          moments: never while it signs or waits. Order: session, sim.lock, the vault's file lock.
 */
#ifndef CERTMILL_SIM_SIM_H
#define CERTMILL_SIM_SIM_H

#include <assert.h>
#include <pthread.h>
#include <stdarg.h>

#include "crypto/digest.h"
#include "hsm/sim/faults.h"
#include "hsm/sim/object.h"
#include "hsm/sim/vault.h"

enum {
    SIM_SLOT = 0,
    OBJECTS_MAX = 4096,
    DATA_MAX = 64 * 1024 * 1024, /* of an operation in parts */
};
/* Session objects are numbered from here, token objects below. */
#define SESSION_OBJECT_FIRST (1ull << 40)

enum operation_kind { OP_SIGN, OP_VERIFY, OP_DIGEST, OP_MESSAGE_SIGN, OP_MESSAGE_VERIFY, OP_COUNT };

struct operation {
    const struct mechanism *mechanism; /* NULL: none is active */
    struct object *key;                /* held */
    enum hash_alg hash;                /* of the signature */
    bool in_parts;                     /* Update was called */
    uint8_t *data;
    size_t len, cap;
};

struct session {
    pthread_mutex_t lock;
    bool is_open;
    uint32_t generation; /* in the handle, so that a closed one is known */
    CK_FLAGS flags;
    uint64_t epoch;
    bool context_login; /* CKU_CONTEXT_SPECIFIC, for the next signature */
    struct operation operation[OP_COUNT];
    bool is_finding;
    CK_OBJECT_HANDLE *found;
    uint32_t found_count, found_next;
};

enum login { LOGIN_NONE, LOGIN_USER, LOGIN_SO };

struct sim {
    pthread_mutex_t lock;
    atomic_bool is_ready;
    struct description description;
    struct board_place place;
    struct vault vault;
    struct faults *faults;
    /* under lock: */
    uint32_t session_count;
    uint32_t ro_session_count;
    struct object **object; /* rising by handle */
    uint32_t object_count;
    CK_OBJECT_HANDLE session_object_last;
    uint8_t key[KEYWRAP_KEY_LEN]; /* of the vault, while logged in */
    /* written under lock, read anywhere: */
    atomic_int login;
    _Atomic uint64_t login_epoch;
    _Atomic uint64_t generation; /* of the objects in the table */
    struct session session[SIM_SESSIONS_MAX];
};

extern struct sim sim;

/* --- session.c --- */

/* What every call on the token meets first: not initialized, faults. */
CK_RV sim_enter(enum call_kind call);
/* And with a session: on CKR_OK it is locked, to be left by session_leave. */
CK_RV session_enter(CK_SESSION_HANDLE handle, enum call_kind call, struct session **out);
void session_leave(struct session *session);
/* Has it been lost while the call waited? */
bool session_is_lost(const struct session *session);
void sim_close_all(void);
void operation_end(struct operation *operation);
/* Who is logged in now; LOGIN_NONE also when the sessions it belonged to are lost. */
enum login sim_login(void);
void sim_logout(void); /* under lock */
/* Counts as a try; under lock and vault_lock. */
CK_RV sim_try_so_pin(const struct vault_token *token, struct bytes pin);

/* --- table.c: objects; under lock --- */

/* Reads what other processes changed. everything: also what was hidden until now. */
void table_refresh(bool everything);
/* Visible now, or NULL. Not held. */
struct object *table_find(CK_OBJECT_HANDLE handle);
bool object_is_visible(const struct object *object);
/* Takes the reference over, stores a token object, gives it its handle. */
CK_RV table_add(struct object *object, CK_SESSION_HANDLE owner);
CK_RV table_replace(struct object *object);
CK_RV table_remove(CK_OBJECT_HANDLE handle);
void table_drop_session(CK_SESSION_HANDLE owner);
void table_drop_private(void);
void table_clear(void);

/* --- mechanism.c --- */

enum family { FAMILY_EC, FAMILY_RSA, FAMILY_EDDSA, FAMILY_ML_DSA, FAMILY_DIGEST };

struct mechanism {
    CK_MECHANISM_TYPE type;
    enum family family;
    enum hash_alg hash; /* HASH_NONE: the caller's, or none */
    bool is_pss;
    bool is_keygen;
    CK_ULONG key_min, key_max;
    CK_FLAGS flags;
};

const struct mechanism *mechanism_find(CK_MECHANISM_TYPE type);
/* NULL after the last. */
const struct mechanism *mechanism_at(uint32_t index);
CK_FLAGS mechanism_flags(const struct mechanism *mechanism);
/* Parameters that softkey signs with, for this key; *out_hash is the hash of the signature (PSS: of
 * its parameters). */
CK_RV mechanism_check(const struct mechanism *mechanism, const CK_MECHANISM *given,
                      const struct object *key, enum hash_alg *out_hash);
bool family_fits(enum family family, enum key_alg alg);
/* Bytes of a signature by this key. */
size_t signature_len(const struct object *key);

#endif
