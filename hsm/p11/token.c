#include "hsm/p11/token.h"

#include <stdlib.h>

#include "hsm/p11/mech.h"
#include "hsm/p11/module.h"
#include "hsm/p11/uri.h"

static bool matches(const struct p11_uri *uri, const struct p11_token_info *token)
{
    return token->initialized && (!uri->has_token || strcmp(uri->token, token->label) == 0) &&
           (!uri->has_manufacturer || strcmp(uri->manufacturer, token->manufacturer) == 0) &&
           (!uri->has_model || strcmp(uri->model, token->model) == 0) &&
           (!uri->has_serial || strcmp(uri->serial, token->serial) == 0) &&
           (!uri->has_slot_id || uri->slot_id == token->slot);
}

enum err p11_token_find(struct p11_module *module, const char *uri, struct p11_token_info *out,
                        struct p11_error *error)
{
    struct p11_uri wanted;
    const char *reason;
    if (!p11_uri_parse(uri, &wanted, &reason))
        return p11_fail(error, ERR_CONFIG, "token URI: %s", reason);
    struct p11_token_info tokens[P11_TOKENS_LISTED_MAX];
    uint32_t count, hits = 0, hit = 0;
    enum err err = p11_token_list(module, tokens, P11_TOKENS_LISTED_MAX, &count, error);
    if (err != ERR_OK)
        return err;
    for (uint32_t i = 0; i < count; i++) {
        if (matches(&wanted, &tokens[i])) {
            hit = i;
            hits++;
        }
    }
    if (hits == 0)
        return p11_fail(error, ERR_SIGNER_UNAVAILABLE, "no initialized token matches %.128s", uri);
    if (hits > 1)
        return p11_fail(error, ERR_CONFIG,
                        "%u tokens match %.128s: add serial= or slot-id= to the URI", hits, uri);
    *out = tokens[hit];
    return ERR_OK;
}

static enum err set_user_pin(struct p11_module *module, unsigned long slot, struct bytes so_pin,
                             struct bytes user_pin, struct p11_error *error)
{
    CK_SESSION_HANDLE session;
    CK_RV rv = module->functions->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL,
                                                NULL, &session);
    if (rv != CKR_OK)
        return p11_fail_rv(error, "C_OpenSession", rv);
    enum err err = ERR_OK;
    rv = module->functions->C_Login(session, CKU_SO, (unsigned char *)so_pin.ptr, so_pin.len);
    if (rv != CKR_OK) {
        err = p11_fail_rv(error, "C_Login", rv);
    } else {
        rv = module->functions->C_InitPIN(session, (unsigned char *)user_pin.ptr, user_pin.len);
        if (rv != CKR_OK)
            err = p11_fail_rv(error, "C_InitPIN", rv);
        module->functions->C_Logout(session);
    }
    module->functions->C_CloseSession(session);
    return err;
}

enum err p11_token_init(struct p11_module *module, unsigned long slot, const char *label,
                        struct bytes so_pin, struct bytes user_pin, struct p11_error *error)
{
    unsigned char padded[32];
    size_t len = strlen(label);
    if (len == 0 || len > sizeof(padded))
        return p11_fail(error, ERR_CONFIG, "a token label has 1 to 32 bytes");
    if (so_pin.len == 0 || so_pin.len > P11_PIN_MAX || user_pin.len == 0 ||
        user_pin.len > P11_PIN_MAX)
        return p11_fail(error, ERR_CONFIG, "a PIN has 1 to %d bytes", P11_PIN_MAX);
    memset(padded, ' ', sizeof(padded));
    memcpy(padded, label, len);
    CK_RV rv =
        module->functions->C_InitToken(slot, (unsigned char *)so_pin.ptr, so_pin.len, padded);
    if (rv != CKR_OK)
        return p11_fail_rv(error, "C_InitToken", rv);
    return set_user_pin(module, slot, so_pin, user_pin, error);
}

static CK_FLAGS mechanism_flags(struct p11_module *module, unsigned long slot,
                                enum sign_mechanism mechanism)
{
    CK_MECHANISM_INFO info;
    if (module->functions->C_GetMechanismInfo(slot, mech_type(mechanism), &info) != CKR_OK)
        return 0;
    return info.flags;
}

bool p11_token_can(struct p11_module *module, unsigned long slot, enum sign_mechanism mechanism)
{
    return (mechanism_flags(module, slot, mechanism) & CKF_SIGN) != 0;
}

enum err p11_session_open(struct p11_module *module, const char *token_uri, bool read_write,
                          struct p11_session **out, struct p11_error *error)
{
    struct p11_session opened = {.module = module};
    enum err err = p11_token_find(module, token_uri, &opened.token, error);
    if (err != ERR_OK)
        return err;
    CK_FLAGS flags = CKF_SERIAL_SESSION | (read_write ? CKF_RW_SESSION : 0);
    CK_RV rv =
        module->functions->C_OpenSession(opened.token.slot, flags, NULL, NULL, &opened.handle);
    if (rv != CKR_OK)
        return p11_fail_rv(error, "C_OpenSession", rv);
    for (unsigned i = 0; module->v3 != NULL && i < SIGN_MECH_COUNT; i++)
        opened.message_signing[i] =
            (mechanism_flags(module, opened.token.slot, (enum sign_mechanism)i) &
             P11_CKF_MESSAGE_SIGN) != 0;
    struct p11_session *session = malloc(sizeof(*session));
    if (session == NULL) {
        module->functions->C_CloseSession(opened.handle);
        return p11_fail(error, ERR_NO_SPACE, "no memory");
    }
    *session = opened;
    *out = session;
    return ERR_OK;
}

void p11_session_close(struct p11_session *session)
{
    if (session == NULL)
        return;
    session->module->functions->C_CloseSession(session->handle);
    free(session);
}

void p11_session_forget(struct p11_session *session)
{
    free(session);
}

const struct p11_token_info *p11_session_token(const struct p11_session *session)
{
    return &session->token;
}

enum err p11_login(struct p11_session *session, struct bytes pin, struct p11_error *error)
{
    struct p11_token_info now; /* the flags change while a session is open */
    enum err err = p11_token_at(session->module, session->token.slot, &now, error);
    if (err != ERR_OK)
        return err;
    session->token = now;
    if (!now.login_required)
        return ERR_OK;
    if (now.pin_locked)
        return p11_fail(error, ERR_PIN_WRONG, "the token says that its user PIN is locked");
    if (now.pin_final_try)
        return p11_fail(error, ERR_PIN_WRONG,
                        "not tried: the token says that one more wrong PIN locks it; log in by "
                        "hand once to clear that");
    CK_RV rv = session->module->functions->C_Login(
        session->handle, CKU_USER, pin.len == 0 ? NULL : (unsigned char *)pin.ptr, pin.len);
    if (rv != CKR_OK && rv != CKR_USER_ALREADY_LOGGED_IN)
        return p11_fail_rv(error, "C_Login", rv);
    return ERR_OK;
}

void p11_logout(struct p11_session *session)
{
    session->module->functions->C_Logout(session->handle);
}

enum err p11_session_state(struct p11_session *session, bool *out_logged_in,
                           struct p11_error *error)
{
    CK_SESSION_INFO info;
    CK_RV rv = session->module->functions->C_GetSessionInfo(session->handle, &info);
    if (rv != CKR_OK)
        return p11_fail_rv(error, "C_GetSessionInfo", rv);
    *out_logged_in = info.state == CKS_RO_USER_FUNCTIONS || info.state == CKS_RW_USER_FUNCTIONS ||
                     !session->token.login_required;
    return ERR_OK;
}
