/* Object calls: creation, key pairs, attributes, search. */
#include <stdlib.h>

#include "base/clock.h"
#include "hsm/sim/engines.h"
#include "hsm/sim/sim.h"

/* Both are done, in whatever order. */
static CK_RV both(CK_RV first, CK_RV second)
{
    return first != CKR_OK ? first : second;
}

/* --- templates --- */

static bool is_boolean(CK_ATTRIBUTE_TYPE type)
{
    switch (type) {
    case CKA_TOKEN:
    case CKA_PRIVATE:
    case CKA_TRUSTED:
    case CKA_SENSITIVE:
    case CKA_ENCRYPT:
    case CKA_DECRYPT:
    case CKA_WRAP:
    case CKA_UNWRAP:
    case CKA_SIGN:
    case CKA_SIGN_RECOVER:
    case CKA_VERIFY:
    case CKA_VERIFY_RECOVER:
    case CKA_DERIVE:
    case CKA_EXTRACTABLE:
    case CKA_MODIFIABLE:
    case CKA_ALWAYS_AUTHENTICATE:
    case CKA_WRAP_WITH_TRUSTED:
    case SIM_CKA_COPYABLE:
    case SIM_CKA_DESTROYABLE:
        return true;
    default:
        return false;
    }
}

/* Only the token says these. */
static bool is_tokens_own(CK_ATTRIBUTE_TYPE type)
{
    return type == CKA_LOCAL || type == CKA_ALWAYS_SENSITIVE || type == CKA_NEVER_EXTRACTABLE ||
           type == CKA_KEY_GEN_MECHANISM;
}

static CK_RV apply_template(struct object *object, const CK_ATTRIBUTE *template, CK_ULONG count)
{
    if (!template && count > 0)
        return CKR_ARGUMENTS_BAD;
    for (CK_ULONG i = 0; i < count; i++) {
        const CK_ATTRIBUTE *at = &template[i];
        if (is_tokens_own(at->type))
            return CKR_ATTRIBUTE_READ_ONLY;
        if (at->type == SIM_CKA_PKCS8)
            return CKR_ATTRIBUTE_TYPE_INVALID;
        if (is_boolean(at->type) && at->ulValueLen != sizeof(CK_BBOOL))
            return CKR_ATTRIBUTE_VALUE_INVALID;
        CK_RV rv = object_set(object, at->type, at->pValue, at->ulValueLen);
        if (rv != CKR_OK)
            return rv;
    }
    return CKR_OK;
}

static CK_RV common_defaults(struct object *object, bool is_private)
{
    CK_RV rv = object_default_bool(object, CKA_TOKEN, false);
    rv = both(rv, object_default_bool(object, CKA_PRIVATE, is_private));
    rv = both(rv, object_default_bool(object, CKA_MODIFIABLE, true));
    rv = both(rv, object_default_bool(object, SIM_CKA_COPYABLE, false));
    rv = both(rv, object_default_bool(object, SIM_CKA_DESTROYABLE, true));
    return both(rv, object_default(object, CKA_LABEL, "", 0));
}

static CK_RV key_defaults(struct object *object)
{
    CK_RV rv = object_default(object, CKA_ID, "", 0);
    rv = both(rv, object_default(object, CKA_SUBJECT, "", 0));
    rv = both(rv, object_default(object, CKA_START_DATE, "", 0));
    rv = both(rv, object_default(object, CKA_END_DATE, "", 0));
    return both(rv, object_default_bool(object, CKA_DERIVE, false));
}

static CK_RV public_defaults(struct object *object)
{
    static const CK_ATTRIBUTE_TYPE off[] = {CKA_ENCRYPT, CKA_WRAP, CKA_VERIFY_RECOVER, CKA_TRUSTED};
    CK_RV rv = both(common_defaults(object, false), key_defaults(object));
    for (size_t i = 0; i < sizeof off / sizeof *off; i++)
        rv = both(rv, object_default_bool(object, off[i], false));
    return both(rv, object_default_bool(object, CKA_VERIFY, true));
}

/* What is not said is the safe way: private, sensitive, not extractable. */
static CK_RV private_defaults(struct object *object)
{
    static const CK_ATTRIBUTE_TYPE off[] = {CKA_DECRYPT,           CKA_UNWRAP,
                                            CKA_SIGN_RECOVER,      CKA_ALWAYS_AUTHENTICATE,
                                            CKA_WRAP_WITH_TRUSTED, CKA_EXTRACTABLE};
    CK_RV rv = both(common_defaults(object, true), key_defaults(object));
    for (size_t i = 0; i < sizeof off / sizeof *off; i++)
        rv = both(rv, object_default_bool(object, off[i], false));
    rv = both(rv, object_default_bool(object, CKA_SENSITIVE, true));
    return both(rv, object_default_bool(object, CKA_SIGN, true));
}

/* Files of private keys are always encrypted, so none can be read before login. */
static CK_RV check_private(const struct object *object)
{
    return object_bool(object, CKA_PRIVATE, true) ? CKR_OK : CKR_TEMPLATE_INCONSISTENT;
}

/* What the token says about where a key comes from. */
static CK_RV origin(struct object *object, bool generated, CK_MECHANISM_TYPE mechanism)
{
    CK_RV rv = object_set_bool(object, CKA_LOCAL, generated);
    rv = both(rv, object_set_ulong(object, CKA_KEY_GEN_MECHANISM,
                                   generated ? mechanism : CK_UNAVAILABLE_INFORMATION));
    if (object_ulong(object, CKA_CLASS, 0) != CKO_PRIVATE_KEY)
        return rv;
    bool sensitive = object_bool(object, CKA_SENSITIVE, true);
    bool extractable = object_bool(object, CKA_EXTRACTABLE, false);
    rv = both(rv, object_set_bool(object, CKA_ALWAYS_SENSITIVE, generated && sensitive));
    return both(rv, object_set_bool(object, CKA_NEVER_EXTRACTABLE, generated && !extractable));
}

/* --- adding --- */

/* May this session change objects of this kind? (table 6 of 2.40 section 4.4) */
static CK_RV may_write(const struct session *session, bool on_token, bool is_private)
{
    if (is_private && sim_login() != LOGIN_USER)
        return CKR_USER_NOT_LOGGED_IN;
    return on_token && !(session->flags & CKF_RW_SESSION) ? CKR_SESSION_READ_ONLY : CKR_OK;
}

static CK_RV add(const struct session *session, CK_SESSION_HANDLE handle, struct object *object,
                 CK_OBJECT_HANDLE *out)
{
    bool on_token = object_bool(object, CKA_TOKEN, false);
    CK_RV rv = may_write(session, on_token, object->is_private);
    if (rv != CKR_OK) {
        object_drop(object);
        return rv;
    }
    rv = table_add(object, on_token ? 0 : handle);
    if (rv == CKR_OK)
        *out = object->handle;
    return rv;
}

static CK_RV complete_created(struct object *object)
{
    CK_RV rv;
    switch (object_ulong(object, CKA_CLASS, CK_UNAVAILABLE_INFORMATION)) {
    case CKO_PRIVATE_KEY:
        object->class = CKO_PRIVATE_KEY;
        rv = both(check_private(object), private_defaults(object));
        rv = both(rv, object_import_private(object));
        return both(rv, origin(object, false, 0));
    case CKO_PUBLIC_KEY:
        rv = both(public_defaults(object), object_import_public(object));
        return both(rv, origin(object, false, 0));
    case CKO_CERTIFICATE:
        if (object_ulong(object, CKA_CERTIFICATE_TYPE, CK_UNAVAILABLE_INFORMATION) != CKC_X_509 ||
            object_get(object, CKA_VALUE).len == 0)
            return CKR_TEMPLATE_INCOMPLETE;
        rv = both(common_defaults(object, false), object_default_bool(object, CKA_TRUSTED, false));
        rv = both(rv, object_default(object, CKA_SUBJECT, "", 0));
        return both(rv, object_default(object, CKA_ID, "", 0));
    case CKO_DATA:
        return both(common_defaults(object, false), object_default(object, CKA_VALUE, "", 0));
    case CK_UNAVAILABLE_INFORMATION:
        return CKR_TEMPLATE_INCOMPLETE;
    default:
        return CKR_ATTRIBUTE_VALUE_INVALID;
    }
}

CK_RV C_CreateObject(CK_SESSION_HANDLE handle, CK_ATTRIBUTE *template, CK_ULONG count,
                     CK_OBJECT_HANDLE *out)
{
    struct session *session;
    CK_RV rv = session_enter(handle, CALL_OTHER, &session);
    if (rv != CKR_OK)
        return rv;
    struct object *object = object_new();
    if (!out)
        rv = CKR_ARGUMENTS_BAD;
    else if (!object)
        rv = CKR_HOST_MEMORY;
    else
        rv = apply_template(object, template, count);
    if (rv == CKR_OK)
        rv = complete_created(object);
    if (rv == CKR_OK && !object_settle(object))
        rv = CKR_ATTRIBUTE_VALUE_INVALID;
    if (rv == CKR_OK) {
        pthread_mutex_lock(&sim.lock);
        rv = add(session, handle, object, out);
        pthread_mutex_unlock(&sim.lock);
    } else {
        object_drop(object);
    }
    session_leave(session);
    return rv;
}

/* --- key pairs --- */

static CK_RV kind_of(const struct mechanism *mechanism, const struct object *public,
                     enum key_alg *out_alg, uint32_t *out_bits)
{
    CK_ULONG bits, set;
    enum key_alg curve = curve_from_params(object_get(public, CKA_EC_PARAMS));
    *out_bits = 0;
    switch (mechanism->family) {
    case FAMILY_EC: /* some clients ask for edwards25519 here */
    case FAMILY_EDDSA:
        if (!object_has(public, CKA_EC_PARAMS))
            return CKR_TEMPLATE_INCOMPLETE;
        if (curve == KEY_NONE || (mechanism->family == FAMILY_EDDSA) != (curve == KEY_ED25519))
            return CKR_CURVE_NOT_SUPPORTED;
        *out_alg = curve;
        return CKR_OK;
    case FAMILY_RSA:
        bits = object_ulong(public, CKA_MODULUS_BITS, 0);
        if (bits == 0)
            return CKR_TEMPLATE_INCOMPLETE;
        if (bits != 2048 && bits != 3072 && bits != 4096)
            return CKR_KEY_SIZE_RANGE;
        if (object_has(public, CKA_PUBLIC_EXPONENT) &&
            !bytes_eq(object_get(public, CKA_PUBLIC_EXPONENT), BYTES_LIT("\x01\x00\x01")))
            return CKR_ATTRIBUTE_VALUE_INVALID; /* softkey generates with 65537 alone */
        *out_alg = KEY_RSA;
        *out_bits = (uint32_t)bits;
        return CKR_OK;
    case FAMILY_ML_DSA:
        set = object_ulong(public, SIM_CKA_PARAMETER_SET, 0);
        if (set != SIM_CKP_ML_DSA_44 && set != SIM_CKP_ML_DSA_65)
            return CKR_ATTRIBUTE_VALUE_INVALID;
        *out_alg = set == SIM_CKP_ML_DSA_44 ? KEY_ML_DSA_44 : KEY_ML_DSA_65;
        return CKR_OK;
    case FAMILY_DIGEST:
        break;
    }
    return CKR_MECHANISM_INVALID;
}

static CK_RV check_class(const struct object *object, CK_OBJECT_CLASS class)
{
    return object_ulong(object, CKA_CLASS, class) == class ? CKR_OK : CKR_TEMPLATE_INCONSISTENT;
}

static CK_RV make_pair(const struct mechanism *mechanism, struct object *public,
                       struct object *private)
{
    enum key_alg alg = KEY_NONE;
    uint32_t bits = 0;
    struct softkey *key = NULL;
    CK_RV rv = both(check_class(public, CKO_PUBLIC_KEY), check_class(private, CKO_PRIVATE_KEY));
    rv = both(rv, check_private(private));
    if (rv == CKR_OK)
        rv = kind_of(mechanism, public, &alg, &bits);
    rv = both(rv, object_set_ulong(public, CKA_CLASS, CKO_PUBLIC_KEY));
    rv = both(rv, object_set_ulong(private, CKA_CLASS, CKO_PRIVATE_KEY));
    rv = both(rv, both(public_defaults(public), private_defaults(private)));
    if (rv == CKR_OK && softkey_generate(alg, bits, &key))
        rv = CKR_FUNCTION_FAILED;
    if (rv == CKR_OK)
        rv = both(object_from_softkey(public, key), object_from_softkey(private, key));
    softkey_free(key);
    rv = both(rv, origin(public, true, mechanism->type));
    rv = both(rv, origin(private, true, mechanism->type));
    if (rv == CKR_OK && !(object_settle(public) && object_settle(private)))
        rv = CKR_GENERAL_ERROR;
    return rv;
}

/* The device's time, on one of its engines. */
static void keygen_wait(void)
{
    uint64_t number = board_add(&sim.place, BOARD_keygens), now = clock_mono_ns();
    uint64_t service =
        dist_sample_ns(&sim.description.service[SERVICE_KEYGEN], sim.description.seed, ~number);
    if (service == 0)
        return;
    uint64_t end = now + service;
    if (sim.description.engines != 0)
        end =
            engines_reserve(sim.place.board->engine_free_ns, sim.description.engines, now, service);
    sleep_until_ns(end);
}

static CK_RV add_pair(const struct session *session, CK_SESSION_HANDLE handle,
                      struct object *public, struct object *private, CK_OBJECT_HANDLE *out_public,
                      CK_OBJECT_HANDLE *out_private)
{
    CK_OBJECT_HANDLE made;
    CK_RV rv = may_write(session, object_bool(private, CKA_TOKEN, false), private->is_private);
    if (rv != CKR_OK) {
        object_drop(public);
        object_drop(private);
        return rv;
    }
    rv = add(session, handle, public, &made);
    if (rv != CKR_OK) {
        object_drop(private);
        return rv;
    }
    rv = add(session, handle, private, out_private);
    if (rv == CKR_OK)
        *out_public = made;
    else
        table_remove(made); /* both or none */
    return rv;
}

CK_RV C_GenerateKeyPair(CK_SESSION_HANDLE handle, CK_MECHANISM *given,
                        CK_ATTRIBUTE *public_template, CK_ULONG public_count,
                        CK_ATTRIBUTE *private_template, CK_ULONG private_count,
                        CK_OBJECT_HANDLE *out_public, CK_OBJECT_HANDLE *out_private)
{
    struct session *session;
    CK_RV rv = session_enter(handle, CALL_KEYGEN, &session);
    if (rv != CKR_OK)
        return rv;
    const struct mechanism *mechanism = given ? mechanism_find(given->mechanism) : NULL;
    struct object *public = object_new(), *private = object_new();
    if (!given || !out_public || !out_private)
        rv = CKR_ARGUMENTS_BAD;
    else if (!mechanism || !mechanism->is_keygen)
        rv = CKR_MECHANISM_INVALID;
    else if (!public || !private)
        rv = CKR_HOST_MEMORY;
    rv = both(rv, rv == CKR_OK ? apply_template(public, public_template, public_count) : rv);
    rv = both(rv, rv == CKR_OK ? apply_template(private, private_template, private_count) : rv);
    if (rv == CKR_OK)
        rv = may_write(session,
                       object_bool(private, CKA_TOKEN, false) ||
                           object_bool(public, CKA_TOKEN, false),
                       object_bool(private, CKA_PRIVATE, true));
    if (rv == CKR_OK)
        rv = make_pair(mechanism, public, private);
    if (rv == CKR_OK) {
        keygen_wait();
        pthread_mutex_lock(&sim.lock);
        rv = add_pair(session, handle, public, private, out_public, out_private);
        pthread_mutex_unlock(&sim.lock);
    } else {
        object_drop(public);
        object_drop(private);
    }
    session_leave(session);
    return rv;
}

/* --- use of objects --- */

/* Enters, takes the lock, finds. On CKR_OK to be left by object_leave. */
static CK_RV object_enter(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE number, enum call_kind call,
                          struct session **out_session, struct object **out)
{
    CK_RV rv = session_enter(handle, call, out_session);
    if (rv != CKR_OK)
        return rv;
    pthread_mutex_lock(&sim.lock);
    *out = table_find(number);
    if (*out)
        return CKR_OK;
    pthread_mutex_unlock(&sim.lock);
    session_leave(*out_session);
    return CKR_OBJECT_HANDLE_INVALID;
}

static void object_leave(struct session *session)
{
    pthread_mutex_unlock(&sim.lock);
    session_leave(session);
}

CK_RV C_GetAttributeValue(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE number, CK_ATTRIBUTE *template,
                          CK_ULONG count)
{
    struct session *session;
    struct object *object;
    CK_RV rv = object_enter(handle, number, CALL_FIND, &session, &object);
    if (rv != CKR_OK)
        return rv;
    rv = template || count == 0 ? object_read(object, template, count) : CKR_ARGUMENTS_BAD;
    object_leave(session);
    return rv;
}

CK_RV C_GetObjectSize(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE number, CK_ULONG *size)
{
    struct session *session;
    struct object *object;
    CK_RV rv = object_enter(handle, number, CALL_FIND, &session, &object);
    if (rv != CKR_OK)
        return rv;
    if (size)
        *size = object_size(object);
    object_leave(session);
    return size ? CKR_OK : CKR_ARGUMENTS_BAD;
}

CK_RV C_DestroyObject(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE number)
{
    struct session *session;
    struct object *object;
    CK_RV rv = object_enter(handle, number, CALL_OTHER, &session, &object);
    if (rv != CKR_OK)
        return rv;
    rv = may_write(session, object->owner == 0, object->is_private);
    if (rv == CKR_OK && !object_bool(object, SIM_CKA_DESTROYABLE, true))
        rv = CKR_ACTION_PROHIBITED;
    if (rv == CKR_OK)
        rv = table_remove(number);
    object_leave(session);
    return rv;
}

/* What may change after creation; secrets only towards more secrecy (2.40 4.9). */
static CK_RV may_set(const struct object *object, const CK_ATTRIBUTE *wanted)
{
    bool value = wanted->pValue && wanted->ulValueLen == 1 && *(CK_BBOOL *)wanted->pValue;
    if (is_boolean(wanted->type) && wanted->ulValueLen != sizeof(CK_BBOOL))
        return CKR_ATTRIBUTE_VALUE_INVALID;
    switch (wanted->type) {
    case CKA_LABEL:
    case CKA_ID:
    case CKA_SUBJECT:
    case CKA_ISSUER:
    case CKA_SERIAL_NUMBER:
    case CKA_START_DATE:
    case CKA_END_DATE:
    case CKA_SIGN:
    case CKA_VERIFY:
    case CKA_DECRYPT:
    case CKA_ENCRYPT:
    case CKA_DERIVE:
    case CKA_WRAP:
    case CKA_UNWRAP:
        return CKR_OK;
    case CKA_VALUE:
        return object->class == CKO_DATA ? CKR_OK : CKR_ATTRIBUTE_READ_ONLY;
    case CKA_SENSITIVE:
        return value || !object_bool(object, CKA_SENSITIVE, true) ? CKR_OK
                                                                  : CKR_ATTRIBUTE_READ_ONLY;
    case CKA_EXTRACTABLE:
        return !value || object_bool(object, CKA_EXTRACTABLE, false) ? CKR_OK
                                                                     : CKR_ATTRIBUTE_READ_ONLY;
    default:
        return CKR_ATTRIBUTE_READ_ONLY;
    }
}

static CK_RV set_all(struct object *object, const CK_ATTRIBUTE *template, CK_ULONG count)
{
    CK_RV rv = CKR_OK;
    for (CK_ULONG i = 0; i < count && rv == CKR_OK; i++) /* all or none */
        rv = may_set(object, &template[i]);
    for (CK_ULONG i = 0; i < count && rv == CKR_OK; i++)
        rv = object_set(object, template[i].type, template[i].pValue, template[i].ulValueLen);
    return rv == CKR_OK ? table_replace(object) : rv;
}

CK_RV C_SetAttributeValue(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE number, CK_ATTRIBUTE *template,
                          CK_ULONG count)
{
    struct session *session;
    struct object *object;
    CK_RV rv = object_enter(handle, number, CALL_OTHER, &session, &object);
    if (rv != CKR_OK)
        return rv;
    rv = may_write(session, object->owner == 0, object->is_private);
    if (rv == CKR_OK && !template && count > 0)
        rv = CKR_ARGUMENTS_BAD;
    if (rv == CKR_OK && !object_bool(object, CKA_MODIFIABLE, true))
        rv = CKR_ACTION_PROHIBITED;
    if (rv == CKR_OK)
        rv = set_all(object, template, count);
    object_leave(session);
    return rv;
}

/* --- search --- */

static CK_RV find(struct session *session, const CK_ATTRIBUTE *template, CK_ULONG count)
{
    table_refresh(false);
    session->found = calloc(sim.object_count + 1, sizeof *session->found);
    if (!session->found)
        return CKR_HOST_MEMORY;
    session->is_finding = true;
    session->found_count = session->found_next = 0;
    for (uint32_t i = 0; i < sim.object_count; i++)
        if (object_is_visible(sim.object[i]) && object_matches(sim.object[i], template, count))
            session->found[session->found_count++] = sim.object[i]->handle;
    return CKR_OK;
}

CK_RV C_FindObjectsInit(CK_SESSION_HANDLE handle, CK_ATTRIBUTE *template, CK_ULONG count)
{
    struct session *session;
    CK_RV rv = session_enter(handle, CALL_FIND, &session);
    if (rv != CKR_OK)
        return rv;
    if (session->is_finding)
        rv = CKR_OPERATION_ACTIVE;
    else if (!template && count > 0)
        rv = CKR_ARGUMENTS_BAD;
    if (rv == CKR_OK) {
        pthread_mutex_lock(&sim.lock);
        rv = find(session, template, count);
        pthread_mutex_unlock(&sim.lock);
    }
    session_leave(session);
    return rv;
}

CK_RV C_FindObjects(CK_SESSION_HANDLE handle, CK_OBJECT_HANDLE *out, CK_ULONG max,
                    CK_ULONG *out_count)
{
    struct session *session;
    CK_RV rv = session_enter(handle, CALL_OTHER, &session);
    if (rv != CKR_OK)
        return rv;
    if (!session->is_finding)
        rv = CKR_OPERATION_NOT_INITIALIZED;
    else if (!out_count || (!out && max > 0))
        rv = CKR_ARGUMENTS_BAD;
    if (rv == CKR_OK) {
        CK_ULONG count = 0;
        while (count < max && session->found_next < session->found_count)
            out[count++] = session->found[session->found_next++];
        *out_count = count;
    }
    session_leave(session);
    return rv;
}

CK_RV C_FindObjectsFinal(CK_SESSION_HANDLE handle)
{
    struct session *session;
    CK_RV rv = session_enter(handle, CALL_OTHER, &session);
    if (rv != CKR_OK)
        return rv;
    if (!session->is_finding)
        rv = CKR_OPERATION_NOT_INITIALIZED;
    session->is_finding = false;
    free(session->found);
    session->found = NULL;
    session_leave(session);
    return rv;
}
