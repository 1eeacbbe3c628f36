/* token.h: one PKCS#11 module, its tokens, a session, and keys, for people and for signers.
 *
 * Promise: whoever includes this needs no pkcs11.h: handles and return values are unsigned long.
 *          A PIN is given to the token once per call and never tried again here; it is never
 * logged. Private keys are made sensitive, non-extractable, sign-only, in the token. Owner:   a
 * module outlives its sessions; one module file is opened once per process. Threads: a session
 * belongs to one thread at a time; a module may be used by many. Opening and closing a module, and
 * p11_token_init, are for one thread. Errors:  enum err says what kind, struct p11_error (may be
 * NULL) which call and which CK_RV: ERR_CONFIG a bad URI, module or key that is refused by rule;
 * ERR_PIN_WRONG the token refused the PIN or the user is locked; ERR_KEY_NOT_FOUND;
 * ERR_SIGNER_UNAVAILABLE no such token now; ERR_UNSUPPORTED; ERR_NO_SPACE; ERR_SIGNER_FAILED
 * everything else. Units:   lengths in bytes. Limits:  P11_TOKENS_LISTED_MAX, P11_ID_MAX;
 * SIGN_INPUT_MAX, SIGNATURE_MAX, SPKI_DER_MAX (limits.h).
 */
#ifndef CERTMILL_HSM_P11_TOKEN_H
#define CERTMILL_HSM_P11_TOKEN_H

#include "asn1/alg.h"
#include "base/bytes.h"
#include "hsm/queue/queue.h"
#include "limits.h"

enum {
    P11_TOKENS_LISTED_MAX = 64,
    P11_LABEL_MAX = 128,
    P11_ID_MAX = 64, /* CKA_ID */
    P11_PIN_MAX = 256,
};

/* Why a call failed; text is one printable line without secrets, e.g.
 * "C_Login: CKR_PIN_INCORRECT (0xa0)". rv is 0 when no module call failed. */
struct p11_error {
    unsigned long rv;
    char text[224];
};

struct p11_module;
struct p11_session;

/* --- the module --- */

struct p11_module_info {
    char manufacturer[33];
    char description[33];
    uint8_t cryptoki_major, cryptoki_minor;
    uint8_t library_major, library_minor;
    bool message_signing_interface; /* offers the PKCS#11 3.0 function list */
};

/* dlopen (RTLD_NOW | RTLD_LOCAL) and C_Initialize with OS locking. */
enum err p11_module_open(const char *path, struct p11_module **out,
                         struct p11_error *error) MUST_USE;
/* C_Finalize and C_Initialize: every session and handle is dead after it, whatever it returns. */
enum err p11_module_reinitialize(struct p11_module *module, struct p11_error *error) MUST_USE;
/* C_Finalize and dlclose. NULL is fine. Sessions are closed before. */
void p11_module_close(struct p11_module *module);
enum err p11_module_info(struct p11_module *module, struct p11_module_info *out,
                         struct p11_error *error) MUST_USE;

/* --- tokens --- */

struct p11_token_info {
    unsigned long slot;
    char label[33]; /* trailing blanks dropped, as are those of the next three */
    char manufacturer[33];
    char model[17];
    char serial[17];
    uint8_t hardware_major, hardware_minor;
    uint8_t firmware_major, firmware_minor;
    bool initialized; /* false: a slot whose token waits for `token init` */
    bool login_required;
    bool user_pin_set;
    bool pin_count_low; /* a wrong PIN was tried since the last right one */
    bool pin_final_try; /* the next wrong one locks */
    bool pin_locked;
    bool write_protected;
    unsigned long sessions_max; /* 0: not told or no limit */
};

/* Every slot that has a token in it. ERR_NO_SPACE when there are more than cap. */
enum err p11_token_list(struct p11_module *module, struct p11_token_info out[], uint32_t cap,
                        uint32_t *out_count, struct p11_error *error) MUST_USE;
/* The one token that an RFC 7512 URI names; none or several is an error that says so. A URI of no
 * attributes ("pkcs11:") matches when there is just one initialized token. */
enum err p11_token_find(struct p11_module *module, const char *uri, struct p11_token_info *out,
                        struct p11_error *error) MUST_USE;
/* C_InitToken, then the user's PIN: every object in the token is destroyed. The slot is one from
 * p11_token_list (the token there may be initialized or not). After it the slot's number may have
 * changed: find the token by its label. */
enum err p11_token_init(struct p11_module *module, unsigned long slot, const char *label,
                        struct bytes so_pin, struct bytes user_pin,
                        struct p11_error *error) MUST_USE;
/* Does the token sign with this mechanism? */
bool p11_token_can(struct p11_module *module, unsigned long slot, enum sign_mechanism mechanism);

/* --- a session --- */

/* Opens a session on the token named by the URI; read_write is needed to make and change keys. */
enum err p11_session_open(struct p11_module *module, const char *token_uri, bool read_write,
                          struct p11_session **out, struct p11_error *error) MUST_USE;
/* NULL is fine. */
void p11_session_close(struct p11_session *session);
/* Frees it without a call to the module, which p11_module_reinitialize has closed it in. */
void p11_session_forget(struct p11_session *session);
/* C_Login as user, once. Already logged in is fine, as is a token that wants no login. Refuses
 * without trying (ERR_PIN_WRONG) when the token says that it is locked or that one more wrong PIN
 * locks it. An empty pin is for tokens with their own pin pad. */
enum err p11_login(struct p11_session *session, struct bytes pin, struct p11_error *error) MUST_USE;
void p11_logout(struct p11_session *session);
/* Is the session alive, and may it use private keys? A dead session fills *error. */
enum err p11_session_state(struct p11_session *session, bool *out_logged_in,
                           struct p11_error *error) MUST_USE;
/* The token this session is on, as found at open. */
const struct p11_token_info *p11_session_token(const struct p11_session *session);

/* --- keys --- */

struct p11_key {
    unsigned long private_handle; /* valid in this session */
    unsigned long public_handle;  /* 0: no public key object */
    enum key_alg alg;             /* KEY_NONE: a kind that certmill does not know */
    uint32_t bits;
    uint32_t id_len;
    uint8_t id[P11_ID_MAX];
    char label[P11_LABEL_MAX];
    bool sensitive, extractable, always_authenticate, can_sign;
    bool local;             /* made in the token (CKA_LOCAL) */
    bool always_sensitive;  /* CKA_ALWAYS_SENSITIVE */
    bool never_extractable; /* CKA_NEVER_EXTRACTABLE */
    uint32_t spki_len;      /* 0: the token does not give the public key */
    uint8_t spki_der[SPKI_DER_MAX];
};

/* The one private key that the URI's object part names (object=, id=; token attributes are ignored,
 * `type` may be private only). None: ERR_KEY_NOT_FOUND; several: ERR_CONFIG. Says nothing about
 * whether the key may be used; see p11_key_check. */
enum err p11_key_find(struct p11_session *session, const char *uri, struct p11_key *out,
                      struct p11_error *error) MUST_USE;
/* All private keys, in the token's order. ERR_NO_SPACE when there are more than cap. */
enum err p11_key_list(struct p11_session *session, struct p11_key out[], uint32_t cap,
                      uint32_t *out_count, struct p11_error *error) MUST_USE;
/* ERR_CONFIG with the reason when certmill must not sign with this key: CKA_ALWAYS_AUTHENTICATE, no
 * CKA_SIGN, or (unless allow_extractable) extractable or not sensitive. */
enum err p11_key_check(const struct p11_key *key, bool allow_extractable,
                       struct p11_error *error) MUST_USE;

struct p11_key_template {
    enum key_alg alg; /* P-256, P-384, RSA, Ed25519, ML-DSA where the token has it */
    uint32_t bits;    /* RSA: 2048, 3072 or 4096 */
    const char *label;
    struct bytes id;  /* empty: 16 random bytes */
    bool extractable; /* test lines only: CKA_EXTRACTABLE true, CKA_SENSITIVE false */
};

/* Refuses (ERR_CONFIG) a label or id that a private key in the token already has. Needs a
 * read-write session that is logged in. */
enum err p11_key_generate(struct p11_session *session, const struct p11_key_template *template,
                          struct p11_key *out, struct p11_error *error) MUST_USE;
/* Renames the private key and its public key object. */
enum err p11_key_set_label(struct p11_session *session, const struct p11_key *key,
                           const char *label, struct p11_error *error) MUST_USE;
/* Destroys the private key and its public key object. There is no way back. */
enum err p11_key_destroy(struct p11_session *session, const struct p11_key *key,
                         struct p11_error *error) MUST_USE;
/* "pkcs11:token=...;object=...;id=%..;type=private" into out. */
enum err p11_key_uri(const struct p11_session *session, const struct p11_key *key, char *out,
                     size_t cap) MUST_USE;

/* --- signing --- */

/* The mechanism that makes this X.509 signature; false for SIG_NONE. */
bool p11_mechanism_of(enum sig_alg alg, enum sign_mechanism *out) MUST_USE;
/* Does this kind of key sign with this mechanism? */
bool p11_key_signs(const struct p11_key *key, enum sign_mechanism mechanism);
/* One signature in X.509 form (DER Ecdsa-Sig-Value, RSA octets, raw EdDSA) over an input as struct
 * sign_job takes it. */
enum err p11_sign(struct p11_session *session, const struct p11_key *key,
                  enum sign_mechanism mechanism, struct bytes input, uint8_t *out, size_t cap,
                  size_t *out_len, struct p11_error *error) MUST_USE;
/* As above from the whole message: hashes it and wraps the digest as alg wants. */
enum err p11_sign_message(struct p11_session *session, const struct p11_key *key, enum sig_alg alg,
                          struct bytes message, uint8_t *out, size_t cap, size_t *out_len,
                          struct p11_error *error) MUST_USE;

#endif
