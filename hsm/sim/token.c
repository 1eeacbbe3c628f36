/* The module, its slot and its token as a client sees them; C_InitToken. */
#include <stdio.h>

#include "hsm/sim/sim.h"

static void pad(CK_UTF8CHAR *out, size_t len, const char *text)
{
    size_t text_len = strlen(text);
    memset(out, ' ', len);
    memcpy(out, text, text_len < len ? text_len : len);
}

CK_RV C_GetInfo(CK_INFO *info)
{
    if (!atomic_load(&sim.is_ready))
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    if (!info)
        return CKR_ARGUMENTS_BAD;
    memset(info, 0, sizeof *info);
    info->cryptokiVersion = (CK_VERSION){2, 40};
    pad(info->manufacturerID, sizeof info->manufacturerID, "certmill");
    pad(info->libraryDescription, sizeof info->libraryDescription, "certmill HSM simulator");
    info->libraryVersion = (CK_VERSION){1, 0};
    return CKR_OK;
}

/* The list convention of 5.2: NULL asks for the count. */
static CK_RV give_list(const CK_ULONG *values, CK_ULONG count, CK_ULONG *out, CK_ULONG *out_count)
{
    if (!out_count)
        return CKR_ARGUMENTS_BAD;
    CK_ULONG room = *out_count;
    *out_count = count;
    if (!out)
        return CKR_OK;
    if (room < count)
        return CKR_BUFFER_TOO_SMALL;
    memcpy(out, values, count * sizeof *values);
    return CKR_OK;
}

/* Questions about slots are answered by the library, not by the device: only a vanished token
 * makes a difference to them. */
static CK_RV slot_enter(CK_SLOT_ID slot)
{
    if (!atomic_load(&sim.is_ready))
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    return slot == SIM_SLOT ? CKR_OK : CKR_SLOT_ID_INVALID;
}

static CK_RV token_enter(CK_SLOT_ID slot)
{
    CK_RV rv = slot_enter(slot);
    if (rv == CKR_OK && faults_vanished(sim.faults))
        rv = CKR_TOKEN_NOT_PRESENT;
    return rv;
}

CK_RV C_GetSlotList(CK_BBOOL token_present, CK_SLOT_ID *list, CK_ULONG *count)
{
    static const CK_SLOT_ID slots[] = {SIM_SLOT};
    CK_RV rv = slot_enter(SIM_SLOT);
    if (rv != CKR_OK)
        return rv;
    return give_list(slots, token_present && faults_vanished(sim.faults) ? 0 : 1, list, count);
}

CK_RV C_GetSlotInfo(CK_SLOT_ID slot, CK_SLOT_INFO *info)
{
    CK_RV rv = slot_enter(slot);
    if (rv != CKR_OK)
        return rv;
    if (!info)
        return CKR_ARGUMENTS_BAD;
    memset(info, 0, sizeof *info);
    pad(info->slotDescription, sizeof info->slotDescription, "certmill simulated HSM");
    pad(info->manufacturerID, sizeof info->manufacturerID, "certmill");
    info->flags = CKF_HW_SLOT | CKF_REMOVABLE_DEVICE;
    if (!faults_vanished(sim.faults))
        info->flags |= CKF_TOKEN_PRESENT;
    return CKR_OK;
}

static CK_FLAGS pin_flags(enum board_word failures, uint64_t limit, CK_FLAGS low, CK_FLAGS final,
                          CK_FLAGS locked)
{
    uint64_t count = board_get(&sim.place, failures);
    return count == 0 ? 0 : count >= limit ? locked : count + 1 == limit ? low | final : low;
}

static CK_FLAGS token_flags(const struct vault_token *token)
{
    CK_FLAGS flags = CKF_RNG | CKF_LOGIN_REQUIRED;
    if (token->is_initialized)
        flags |= CKF_TOKEN_INITIALIZED;
    if (token->has_pin[VAULT_USER])
        flags |= CKF_USER_PIN_INITIALIZED;
    flags |= pin_flags(BOARD_user_pin_failures, sim.description.pin_tries, CKF_USER_PIN_COUNT_LOW,
                       CKF_USER_PIN_FINAL_TRY, CKF_USER_PIN_LOCKED);
    return flags | pin_flags(BOARD_so_pin_failures, sim.description.so_pin_tries,
                             CKF_SO_PIN_COUNT_LOW, CKF_SO_PIN_FINAL_TRY, CKF_SO_PIN_LOCKED);
}

static CK_RV read_token(struct vault_token *out, CK_TOKEN_INFO *info)
{
    pthread_mutex_lock(&sim.lock);
    enum err err = vault_read_token(&sim.vault, out);
    info->ulSessionCount = sim.session_count;
    info->ulRwSessionCount = sim.session_count - sim.ro_session_count;
    pthread_mutex_unlock(&sim.lock);
    return err ? CKR_DEVICE_ERROR : CKR_OK;
}

CK_RV C_GetTokenInfo(CK_SLOT_ID slot, CK_TOKEN_INFO *info)
{
    struct vault_token token;
    CK_RV rv = token_enter(slot);
    if (rv != CKR_OK)
        return rv;
    if (!info)
        return CKR_ARGUMENTS_BAD;
    memset(info, 0, sizeof *info);
    rv = read_token(&token, info);
    if (rv != CKR_OK)
        return rv;
    pad(info->label, sizeof info->label, sim.description.label);
    if (token.is_initialized)
        memcpy(info->label, token.label, sizeof info->label);
    pad(info->manufacturerID, sizeof info->manufacturerID, "certmill");
    pad(info->model, sizeof info->model, sim.description.model);
    pad(info->serialNumber, sizeof info->serialNumber, sim.description.serial);
    info->flags = token_flags(&token);
    info->ulMaxSessionCount = info->ulMaxRwSessionCount = sim.description.sessions_max;
    info->ulMaxPinLen = VAULT_PIN_MAX;
    info->ulMinPinLen = VAULT_PIN_MIN;
    info->ulTotalPublicMemory = info->ulFreePublicMemory = CK_UNAVAILABLE_INFORMATION;
    info->ulTotalPrivateMemory = info->ulFreePrivateMemory = CK_UNAVAILABLE_INFORMATION;
    info->hardwareVersion = info->firmwareVersion = (CK_VERSION){1, 0};
    return CKR_OK;
}

CK_RV C_GetMechanismList(CK_SLOT_ID slot, CK_MECHANISM_TYPE *list, CK_ULONG *count)
{
    CK_MECHANISM_TYPE types[64];
    CK_ULONG types_count = 0;
    CK_RV rv = token_enter(slot);
    for (const struct mechanism *at; (at = mechanism_at((uint32_t)types_count)); types_count++)
        types[types_count] = at->type;
    return rv == CKR_OK ? give_list(types, types_count, list, count) : rv;
}

CK_RV C_GetMechanismInfo(CK_SLOT_ID slot, CK_MECHANISM_TYPE type, CK_MECHANISM_INFO *info)
{
    CK_RV rv = token_enter(slot);
    if (rv != CKR_OK)
        return rv;
    const struct mechanism *mechanism = mechanism_find(type);
    if (!mechanism)
        return CKR_MECHANISM_INVALID;
    if (!info)
        return CKR_ARGUMENTS_BAD;
    *info = (CK_MECHANISM_INFO){mechanism->key_min, mechanism->key_max, mechanism_flags(mechanism)};
    return CKR_OK;
}

CK_RV C_WaitForSlotEvent(CK_FLAGS flags, CK_SLOT_ID *slot, void *reserved)
{
    (void)slot, (void)reserved;
    if (!atomic_load(&sim.is_ready))
        return CKR_CRYPTOKI_NOT_INITIALIZED;
    return flags & CKF_DONT_BLOCK ? CKR_NO_EVENT : CKR_FUNCTION_NOT_SUPPORTED;
}

/* --- C_InitToken --- */

/* On a token that is in use already, the SO must say who they are (5.5). */
static CK_RV initialize(const CK_UTF8CHAR *label, struct bytes pin)
{
    struct vault_token token;
    if (vault_read_token(&sim.vault, &token))
        return CKR_DEVICE_ERROR;
    if (token.is_initialized) {
        CK_RV rv = sim_try_so_pin(&token, pin);
        if (rv != CKR_OK)
            return rv;
    }
    if (vault_initialize(&sim.vault, label, pin))
        return CKR_DEVICE_ERROR;
    board_set(&sim.place, BOARD_user_pin_failures, 0);
    board_set(&sim.place, BOARD_so_pin_failures, 0);
    board_add(&sim.place, BOARD_object_generation);
    return CKR_OK;
}

CK_RV C_InitToken(CK_SLOT_ID slot, CK_BYTE *pin, CK_ULONG pin_len, CK_UTF8CHAR *label)
{
    CK_RV rv = token_enter(slot);
    if (rv == CKR_OK)
        rv = sim_enter(CALL_OTHER);
    if (rv != CKR_OK)
        return rv;
    if (!pin || !label)
        return CKR_ARGUMENTS_BAD;
    if (pin_len < VAULT_PIN_MIN || pin_len > VAULT_PIN_MAX)
        return CKR_PIN_LEN_RANGE;
    pthread_mutex_lock(&sim.lock);
    rv = sim.session_count > 0 ? CKR_SESSION_EXISTS : CKR_DEVICE_ERROR;
    if (sim.session_count == 0 && vault_lock(&sim.vault)) {
        rv = initialize(label, bytes_of(pin, pin_len));
        vault_unlock(&sim.vault);
    }
    pthread_mutex_unlock(&sim.lock);
    return rv;
}
