/* object.h: PKCS#11 objects of the simulator: a list of attributes, and for private keys the key.
 *
 * Promise: what may not be read is not given out: the secret parts of a key that is sensitive or
 *          not extractable (PKCS#11 2.40 4.9), and never the internal form.
 * Owner:   counted references; the last object_drop wipes and frees.
 * Threads: attributes under the token's lock; handle, class, alg and key do not change once the
 *          object is in the token's table.
 */
#ifndef CERTMILL_SIM_OBJECT_H
#define CERTMILL_SIM_OBJECT_H

#include <stdatomic.h>

#include "asn1/x509.h"
#include "crypto/softkey.h"
#include "hsm/sim/cryptoki.h"

/* The private key as PKCS#8: in files, never in answers. */
#define SIM_CKA_PKCS8 0xc0000001ul

enum { OBJECT_ATTRIBUTES_MAX = 64, OBJECT_VALUE_MAX = 64 * 1024, OBJECT_FILE_MAX = 256 * 1024 };

struct attribute {
    CK_ATTRIBUTE_TYPE type;
    uint32_t len;
    uint8_t *value;
};

struct object {
    atomic_uint references;
    CK_OBJECT_HANDLE handle;
    CK_SESSION_HANDLE owner; /* of a session object; 0: a token object */
    CK_OBJECT_CLASS class;
    bool is_private;
    enum key_alg alg;
    uint32_t bits;
    struct softkey *key; /* of a private key */
    uint64_t file_mark;  /* which version of its file this is */
    uint32_t count;
    struct attribute attribute[OBJECT_ATTRIBUTES_MAX];
};

struct object *object_new(void); /* NULL: no memory */
void object_hold(struct object *object);
void object_drop(struct object *object);

/* Adds or replaces; CKR_HOST_MEMORY, CKR_ATTRIBUTE_VALUE_INVALID when too long or too many. */
CK_RV object_set(struct object *object, CK_ATTRIBUTE_TYPE type, const void *value, size_t len);
CK_RV object_set_bool(struct object *object, CK_ATTRIBUTE_TYPE type, bool value);
CK_RV object_set_ulong(struct object *object, CK_ATTRIBUTE_TYPE type, CK_ULONG value);
/* Only where there is none yet. */
CK_RV object_default(struct object *object, CK_ATTRIBUTE_TYPE type, const void *value, size_t len);
CK_RV object_default_bool(struct object *object, CK_ATTRIBUTE_TYPE type, bool value);

/* Empty when absent. */
struct bytes object_get(const struct object *object, CK_ATTRIBUTE_TYPE type);
bool object_has(const struct object *object, CK_ATTRIBUTE_TYPE type);
bool object_bool(const struct object *object, CK_ATTRIBUTE_TYPE type, bool absent);
CK_ULONG object_ulong(const struct object *object, CK_ATTRIBUTE_TYPE type, CK_ULONG absent);

/* Is this a secret part of a private key? */
bool attribute_is_secret(const struct object *object, CK_ATTRIBUTE_TYPE type);
/* All of C_GetAttributeValue's rules for one template (5.7). */
CK_RV object_read(const struct object *object, CK_ATTRIBUTE *template, CK_ULONG count);
bool object_matches(const struct object *object, const CK_ATTRIBUTE *template, CK_ULONG count);
CK_ULONG object_size(const struct object *object);

/* The attributes as bytes, and back; decode also makes class, is_private, alg and key of them. */
void object_encode(const struct object *object, struct writer *out);
bool object_decode(struct bytes in, struct object *out) MUST_USE;
bool object_settle(struct object *object) MUST_USE;

/* keys.c: the attributes of a key pair. CKR_OK or CKR_HOST_MEMORY. */
CK_RV object_from_softkey(struct object *object, const struct softkey *key);
/* A private key that was given by its attributes (C_CreateObject). */
CK_RV object_import_private(struct object *object);
/* CKA_PUBLIC_KEY_INFO of a public key that was given by its attributes. */
CK_RV object_import_public(struct object *object);
/* The curve or parameter set that a template names. */
enum key_alg curve_from_params(struct bytes params);

#endif
