#include "hsm/sim/object.h"

#include <stdlib.h>

#include "base/secret.h"

struct object *object_new(void)
{
    struct object *object = calloc(1, sizeof *object);
    if (object)
        atomic_init(&object->references, 1);
    return object;
}

void object_hold(struct object *object)
{
    atomic_fetch_add(&object->references, 1);
}

static void attribute_wipe(struct attribute *attribute)
{
    if (!attribute->value)
        return;
    secret_wipe(attribute->value, attribute->len);
    free(attribute->value);
    attribute->value = NULL;
}

void object_drop(struct object *object)
{
    if (!object || atomic_fetch_sub(&object->references, 1) != 1)
        return;
    for (uint32_t i = 0; i < object->count; i++)
        attribute_wipe(&object->attribute[i]);
    softkey_free(object->key);
    free(object);
}

/* --- attributes --- */

static const struct attribute *find(const struct object *object, CK_ATTRIBUTE_TYPE type)
{
    for (uint32_t i = 0; i < object->count; i++)
        if (object->attribute[i].type == type)
            return &object->attribute[i];
    return NULL;
}

CK_RV object_set(struct object *object, CK_ATTRIBUTE_TYPE type, const void *value, size_t len)
{
    if (len > OBJECT_VALUE_MAX || (!value && len > 0))
        return CKR_ATTRIBUTE_VALUE_INVALID;
    uint8_t *copy = malloc(len + 1);
    if (!copy)
        return CKR_HOST_MEMORY;
    if (len > 0)
        memcpy(copy, value, len);
    struct attribute *at = (struct attribute *)(uintptr_t)find(object, type);
    if (!at && object->count == OBJECT_ATTRIBUTES_MAX) {
        free(copy);
        return CKR_ATTRIBUTE_VALUE_INVALID;
    }
    if (at)
        attribute_wipe(at);
    else
        at = &object->attribute[object->count++];
    *at = (struct attribute){type, (uint32_t)len, copy};
    return CKR_OK;
}

CK_RV object_set_bool(struct object *object, CK_ATTRIBUTE_TYPE type, bool value)
{
    CK_BBOOL truth = value ? CK_TRUE : CK_FALSE;
    return object_set(object, type, &truth, sizeof truth);
}

CK_RV object_set_ulong(struct object *object, CK_ATTRIBUTE_TYPE type, CK_ULONG value)
{
    return object_set(object, type, &value, sizeof value);
}

CK_RV object_default(struct object *object, CK_ATTRIBUTE_TYPE type, const void *value, size_t len)
{
    return find(object, type) ? CKR_OK : object_set(object, type, value, len);
}

CK_RV object_default_bool(struct object *object, CK_ATTRIBUTE_TYPE type, bool value)
{
    return find(object, type) ? CKR_OK : object_set_bool(object, type, value);
}

struct bytes object_get(const struct object *object, CK_ATTRIBUTE_TYPE type)
{
    const struct attribute *at = find(object, type);
    return at ? bytes_of(at->value, at->len) : (struct bytes){0};
}

bool object_has(const struct object *object, CK_ATTRIBUTE_TYPE type)
{
    return find(object, type) != NULL;
}

bool object_bool(const struct object *object, CK_ATTRIBUTE_TYPE type, bool absent)
{
    const struct attribute *at = find(object, type);
    return at && at->len == sizeof(CK_BBOOL) ? at->value[0] != CK_FALSE : absent;
}

CK_ULONG object_ulong(const struct object *object, CK_ATTRIBUTE_TYPE type, CK_ULONG absent)
{
    const struct attribute *at = find(object, type);
    CK_ULONG value;
    if (!at || at->len != sizeof value)
        return absent;
    memcpy(&value, at->value, sizeof value);
    return value;
}

CK_ULONG object_size(const struct object *object)
{
    CK_ULONG size = sizeof *object;
    for (uint32_t i = 0; i < object->count; i++)
        size += object->attribute[i].len;
    return size;
}

/* --- answers --- */

bool attribute_is_secret(const struct object *object, CK_ATTRIBUTE_TYPE type)
{
    if (object->class != CKO_PRIVATE_KEY)
        return false;
    switch (type) {
    case CKA_VALUE:
    case CKA_PRIVATE_EXPONENT:
    case CKA_PRIME_1:
    case CKA_PRIME_2:
    case CKA_EXPONENT_1:
    case CKA_EXPONENT_2:
    case CKA_COEFFICIENT:
        return true;
    default:
        return false;
    }
}

static bool keeps_secrets(const struct object *object)
{
    return object_bool(object, CKA_SENSITIVE, true) || !object_bool(object, CKA_EXTRACTABLE, false);
}

static CK_RV read_one(const struct object *object, CK_ATTRIBUTE *wanted)
{
    CK_ULONG room = wanted->ulValueLen;
    wanted->ulValueLen = CK_UNAVAILABLE_INFORMATION;
    const struct attribute *at = find(object, wanted->type);
    if (!at || wanted->type == SIM_CKA_PKCS8)
        return CKR_ATTRIBUTE_TYPE_INVALID;
    if (attribute_is_secret(object, wanted->type) && keeps_secrets(object))
        return CKR_ATTRIBUTE_SENSITIVE;
    if (wanted->pValue) {
        if (room < at->len)
            return CKR_BUFFER_TOO_SMALL;
        memcpy(wanted->pValue, at->value, at->len);
    }
    wanted->ulValueLen = at->len;
    return CKR_OK;
}

CK_RV object_read(const struct object *object, CK_ATTRIBUTE *template, CK_ULONG count)
{
    CK_RV rv = CKR_OK;
    for (CK_ULONG i = 0; i < count; i++) { /* all of them, whatever one says (5.7) */
        CK_RV one = read_one(object, &template[i]);
        if (one != CKR_OK)
            rv = one;
    }
    return rv;
}

bool object_matches(const struct object *object, const CK_ATTRIBUTE *template, CK_ULONG count)
{
    for (CK_ULONG i = 0; i < count; i++) {
        const struct attribute *at = find(object, template[i].type);
        if (!at || at->type == SIM_CKA_PKCS8 || attribute_is_secret(object, at->type) ||
            !bytes_eq(bytes_of(at->value, at->len),
                      bytes_of(template[i].pValue, template[i].ulValueLen)))
            return false;
    }
    return true;
}

/* --- as bytes --- */

void object_encode(const struct object *object, struct writer *out)
{
    writer_put_u32(out, object->count);
    for (uint32_t i = 0; i < object->count; i++) {
        const struct attribute *at = &object->attribute[i];
        writer_put_u64(out, at->type);
        writer_put_u32(out, at->len);
        writer_put(out, bytes_of(at->value, at->len));
    }
}

bool object_decode(struct bytes in, struct object *out)
{
    uint32_t count, len;
    if (!bytes_get_u32(&in, &count))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t type;
        struct bytes value;
        if (!bytes_get_u64(&in, &type) || !bytes_get_u32(&in, &len) ||
            !bytes_get(&in, len, &value) || object_has(out, type) ||
            object_set(out, type, value.ptr, value.len) != CKR_OK)
            return false;
    }
    return in.len == 0 && object_settle(out);
}

bool object_settle(struct object *object)
{
    object->class = object_ulong(object, CKA_CLASS, CK_UNAVAILABLE_INFORMATION);
    object->is_private = object_bool(object, CKA_PRIVATE, false);
    struct spki spki;
    if (spki_decode(object_get(object, CKA_PUBLIC_KEY_INFO), &spki) == ERR_OK) {
        object->alg = spki.alg;
        object->bits = spki.bits;
    }
    if (object->class != CKO_PRIVATE_KEY)
        return true;
    return !softkey_import(object_get(object, SIM_CKA_PKCS8), &object->key);
}
