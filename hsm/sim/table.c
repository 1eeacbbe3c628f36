#include <stdio.h>
#include <stdlib.h>

#include "hsm/sim/sim.h"

static uint32_t place_of(CK_OBJECT_HANDLE handle)
{
    uint32_t low = 0, high = sim.object_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (sim.object[middle]->handle < handle)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct object *lookup(CK_OBJECT_HANDLE handle)
{
    uint32_t at = place_of(handle);
    return at < sim.object_count && sim.object[at]->handle == handle ? sim.object[at] : NULL;
}

static bool insert(struct object *object)
{
    if (!sim.object)
        sim.object = calloc(OBJECTS_MAX, sizeof *sim.object);
    if (!sim.object || sim.object_count == OBJECTS_MAX)
        return false;
    uint32_t at = place_of(object->handle);
    memmove(sim.object + at + 1, sim.object + at, (sim.object_count - at) * sizeof *sim.object);
    sim.object[at] = object;
    sim.object_count++;
    return true;
}

static void take_out(uint32_t at)
{
    object_drop(sim.object[at]);
    sim.object_count--;
    memmove(sim.object + at, sim.object + at + 1, (sim.object_count - at) * sizeof *sim.object);
}

static void drop_where(bool (*chosen)(const struct object *object, const void *ctx),
                       const void *ctx)
{
    for (uint32_t i = sim.object_count; i-- > 0;)
        if (chosen(sim.object[i], ctx))
            take_out(i);
}

static bool is_of_session(const struct object *object, const void *ctx)
{
    return object->owner != 0 && object->owner == *(const CK_SESSION_HANDLE *)ctx;
}

static bool is_private(const struct object *object, const void *ctx)
{
    (void)ctx;
    return object->is_private;
}

static bool is_any(const struct object *object, const void *ctx)
{
    (void)object, (void)ctx;
    return true;
}

void table_drop_session(CK_SESSION_HANDLE owner)
{
    drop_where(is_of_session, &owner);
}

void table_drop_private(void)
{
    drop_where(is_private, NULL);
}

void table_clear(void)
{
    drop_where(is_any, NULL);
    free(sim.object);
    sim.object = NULL;
    atomic_store(&sim.generation, 0);
}

/* --- what is on disk --- */

struct refresh {
    uint64_t *number;
    uint32_t count;
};

static void see(void *ctx, uint64_t number, uint64_t mark)
{
    struct refresh *refresh = ctx;
    if (refresh->count == OBJECTS_MAX)
        return;
    refresh->number[refresh->count++] = number;
    struct object *known = lookup(number);
    if (known && known->file_mark == mark)
        return;
    if (known)
        take_out(place_of(number));
    struct object *object = object_new();
    const uint8_t *key = sim_login() == LOGIN_USER ? sim.key : NULL;
    enum err err = object ? vault_load(&sim.vault, number, key, object) : ERR_INTERNAL;
    if (!err && insert(object))
        return;
    if (err && err != ERR_PIN_WRONG && err != ERR_NOT_FOUND)
        fprintf(stderr, "certmill-hsmsim: object %016llx: %s\n", (unsigned long long)number,
                err_code(err));
    object_drop(object);
}

static bool is_gone(const struct object *object, const void *ctx)
{
    const struct refresh *refresh = ctx;
    if (object->owner != 0)
        return false;
    for (uint32_t i = 0; i < refresh->count; i++)
        if (refresh->number[i] == object->handle)
            return false;
    return true;
}

void table_refresh(bool everything)
{
    uint64_t generation = board_get(&sim.place, BOARD_object_generation) + 1; /* 0: never */
    if (!everything && generation == atomic_load(&sim.generation))
        return;
    struct refresh refresh = {.number = calloc(OBJECTS_MAX, sizeof(uint64_t))};
    if (!refresh.number)
        return;
    if (!vault_scan(&sim.vault, see, &refresh)) {
        drop_where(is_gone, &refresh);
        atomic_store(&sim.generation, generation);
    }
    free(refresh.number);
}

static void changed(void)
{
    /* Others read again; so do we, once, which finds nothing new. */
    board_add(&sim.place, BOARD_object_generation);
}

/* --- use --- */

bool object_is_visible(const struct object *object)
{
    return !object->is_private || sim_login() == LOGIN_USER;
}

struct object *table_find(CK_OBJECT_HANDLE handle)
{
    table_refresh(false);
    struct object *object = lookup(handle);
    return object && object_is_visible(object) ? object : NULL;
}

static CK_RV rv_of(enum err err)
{
    return err == ERR_OK ? CKR_OK : err == ERR_NO_SPACE ? CKR_DEVICE_MEMORY : CKR_DEVICE_ERROR;
}

static void highest(void *ctx, uint64_t number, uint64_t mark)
{
    uint64_t *last = ctx;
    (void)mark;
    if (number > *last)
        *last = number;
}

/* Never a number that was used, as long as the status file lives; then, none that is in use. */
static enum err next_number(uint64_t *out)
{
    uint64_t last = board_get(&sim.place, BOARD_object_last);
    enum err err = vault_scan(&sim.vault, highest, &last);
    if (err)
        return err;
    *out = last + 1;
    board_set(&sim.place, BOARD_object_last, *out);
    return ERR_OK;
}

static enum err store_new(struct object *object)
{
    if (!vault_lock(&sim.vault))
        return ERR_IO;
    uint64_t number;
    enum err err = next_number(&number);
    if (!err) {
        object->handle = number;
        err = vault_store(&sim.vault, object, sim.key);
    }
    if (!err)
        changed();
    vault_unlock(&sim.vault);
    return err;
}

CK_RV table_add(struct object *object, CK_SESSION_HANDLE owner)
{
    CK_RV rv = CKR_OK;
    if (sim.object_count == OBJECTS_MAX)
        rv = CKR_DEVICE_MEMORY;
    else if (owner != 0) {
        object->owner = owner;
        object->handle = SESSION_OBJECT_FIRST + ++sim.session_object_last;
    } else {
        rv = rv_of(store_new(object));
    }
    if (rv == CKR_OK && !insert(object))
        rv = CKR_HOST_MEMORY;
    if (rv != CKR_OK)
        object_drop(object);
    return rv;
}

CK_RV table_replace(struct object *object)
{
    if (object->owner != 0)
        return CKR_OK;
    if (!vault_lock(&sim.vault))
        return CKR_DEVICE_ERROR;
    enum err err = vault_store(&sim.vault, object, sim.key);
    if (!err)
        changed();
    vault_unlock(&sim.vault);
    return rv_of(err);
}

CK_RV table_remove(CK_OBJECT_HANDLE handle)
{
    uint32_t at = place_of(handle);
    enum err err = ERR_OK;
    if (sim.object[at]->owner == 0) {
        if (!vault_lock(&sim.vault))
            return CKR_DEVICE_ERROR;
        err = vault_remove(&sim.vault, handle);
        changed();
        vault_unlock(&sim.vault);
    }
    if (err == ERR_OK || err == ERR_NOT_FOUND)
        take_out(at);
    return err == ERR_NOT_FOUND ? CKR_OBJECT_HANDLE_INVALID : rv_of(err);
}
