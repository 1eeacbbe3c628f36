#include "hsm/p11/module.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "hsm/p11/rv.h"

static_assert(offsetof(struct p11_functions_v3, get_interface_list) ==
                  sizeof(void *) * (1 + 68), /* the version, padded, and 68 functions */
              "CK_FUNCTION_LIST_3_0 goes on where CK_FUNCTION_LIST ends");

static enum err err_of(CK_RV rv)
{
    switch (rv) {
    case CKR_SLOT_ID_INVALID:
    case CKR_TOKEN_NOT_PRESENT:
    case CKR_TOKEN_NOT_RECOGNIZED:
    case CKR_DEVICE_REMOVED:
        return ERR_SIGNER_UNAVAILABLE;
    case CKR_MECHANISM_INVALID:
    case CKR_FUNCTION_NOT_SUPPORTED:
    case CKR_CURVE_NOT_SUPPORTED:
        return ERR_UNSUPPORTED;
    case CKR_BUFFER_TOO_SMALL:
        return ERR_NO_SPACE;
    default:
        return rv_class_default(rv) == RV_CLASS_PIN ? ERR_PIN_WRONG : ERR_SIGNER_FAILED;
    }
}

enum err p11_fail_rv(struct p11_error *error, const char *call, CK_RV rv)
{
    if (error != NULL) {
        error->rv = rv;
        snprintf(error->text, sizeof(error->text), "%s: %s (0x%lx)", call, rv_name(rv), rv);
    }
    return err_of(rv);
}

enum err p11_fail(struct p11_error *error, enum err err, const char *fmt, ...)
{
    if (error != NULL) {
        va_list args;
        va_start(args, fmt);
        error->rv = 0;
        vsnprintf(error->text, sizeof(error->text), fmt, args);
        va_end(args);
    }
    return err;
}

static enum err initialize(struct p11_module *module, struct p11_error *error)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_RV rv = module->functions->C_Initialize(&args);
    module->initialized_here = rv == CKR_OK;
    if (rv != CKR_OK && rv != CKR_CRYPTOKI_ALREADY_INITIALIZED)
        return p11_fail_rv(error, "C_Initialize", rv);
    return ERR_OK;
}

/* 3.0 where the module has it (PKCS#11 3.0 5.4.5), else NULL. */
static const struct p11_functions_v3 *find_v3(void *library)
{
    p11_get_interface_fn get_interface;
    *(void **)&get_interface = dlsym(library, "C_GetInterface");
    if (get_interface == NULL)
        return NULL;
    unsigned char name[] = "PKCS 11";
    CK_VERSION wanted[] = {{3, 2}, {3, 1}, {3, 0}}; /* 3.2 and 3.1 only append */
    for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        struct p11_interface *found = NULL;
        if (get_interface(name, &wanted[i], &found, 0) == CKR_OK && found != NULL &&
            found->functions != NULL) {
            const struct p11_functions_v3 *v3 = found->functions;
            if (v3->v2.version.major == 3)
                return v3;
        }
    }
    return NULL;
}

enum err p11_module_open(const char *path, struct p11_module **out, struct p11_error *error)
{
    struct p11_module *module = calloc(1, sizeof(*module));
    if (module == NULL)
        return p11_fail(error, ERR_NO_SPACE, "no memory");
    pthread_mutex_init(&module->scan_lock, NULL);
    module->library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (module->library == NULL) {
        free(module);
        return p11_fail(error, ERR_CONFIG, "module cannot be loaded: %s", dlerror());
    }
    CK_C_GetFunctionList get_list;
    *(void **)&get_list = dlsym(module->library, "C_GetFunctionList");
    enum err err;
    CK_RV rv = CKR_OK;
    if (get_list == NULL)
        err = p11_fail(error, ERR_CONFIG, "%s is not a PKCS#11 module: no C_GetFunctionList", path);
    else if ((rv = get_list(&module->functions)) != CKR_OK || module->functions == NULL)
        err = p11_fail_rv(error, "C_GetFunctionList", rv);
    else {
        module->v3 = find_v3(module->library);
        err = initialize(module, error);
    }
    if (err != ERR_OK) {
        dlclose(module->library);
        free(module);
        return err;
    }
    *out = module;
    return ERR_OK;
}

void p11_module_close(struct p11_module *module)
{
    if (module == NULL)
        return;
    if (module->initialized_here)
        module->functions->C_Finalize(NULL);
    dlclose(module->library);
    free(module);
}

enum err p11_module_reinitialize(struct p11_module *module, struct p11_error *error)
{
    module->functions->C_Finalize(NULL); /* whatever it says: it may be what is broken */
    return initialize(module, error);
}

/* Blank-padded, not terminated; anything that is not printable ASCII or UTF-8 becomes '?'. */
static void put_padded(char *out, const unsigned char *field, size_t len)
{
    while (len != 0 && (field[len - 1] == ' ' || field[len - 1] == 0))
        len--;
    for (size_t i = 0; i < len; i++)
        out[i] = (char)(field[i] < 0x20 || field[i] == 0x7f ? '?' : field[i]);
    out[len] = 0;
}

enum err p11_module_info(struct p11_module *module, struct p11_module_info *out,
                         struct p11_error *error)
{
    CK_INFO info;
    CK_RV rv = module->functions->C_GetInfo(&info);
    if (rv != CKR_OK)
        return p11_fail_rv(error, "C_GetInfo", rv);
    *out = (struct p11_module_info){
        .cryptoki_major = info.cryptokiVersion.major,
        .cryptoki_minor = info.cryptokiVersion.minor,
        .library_major = info.libraryVersion.major,
        .library_minor = info.libraryVersion.minor,
        .message_signing_interface = module->v3 != NULL,
    };
    put_padded(out->manufacturer, info.manufacturerID, sizeof(info.manufacturerID));
    put_padded(out->description, info.libraryDescription, sizeof(info.libraryDescription));
    return ERR_OK;
}

static void fill_token(struct p11_token_info *out, CK_SLOT_ID slot, const CK_TOKEN_INFO *info)
{
    *out = (struct p11_token_info){
        .slot = slot,
        .hardware_major = info->hardwareVersion.major,
        .hardware_minor = info->hardwareVersion.minor,
        .firmware_major = info->firmwareVersion.major,
        .firmware_minor = info->firmwareVersion.minor,
        .initialized = (info->flags & CKF_TOKEN_INITIALIZED) != 0,
        .login_required = (info->flags & CKF_LOGIN_REQUIRED) != 0,
        .user_pin_set = (info->flags & CKF_USER_PIN_INITIALIZED) != 0,
        .pin_count_low = (info->flags & CKF_USER_PIN_COUNT_LOW) != 0,
        .pin_final_try = (info->flags & CKF_USER_PIN_FINAL_TRY) != 0,
        .pin_locked = (info->flags & CKF_USER_PIN_LOCKED) != 0,
        .write_protected = (info->flags & CKF_WRITE_PROTECTED) != 0,
        /* unavailable (~0) and effectively infinite (0) both mean that nothing is known */
        .sessions_max = info->ulMaxSessionCount == ~0ul ? 0 : info->ulMaxSessionCount,
    };
    put_padded(out->label, info->label, sizeof(info->label));
    put_padded(out->manufacturer, info->manufacturerID, sizeof(info->manufacturerID));
    put_padded(out->model, info->model, sizeof(info->model));
    put_padded(out->serial, info->serialNumber, sizeof(info->serialNumber));
}

enum err p11_token_at(struct p11_module *module, CK_SLOT_ID slot, struct p11_token_info *out,
                      struct p11_error *error)
{
    CK_TOKEN_INFO info;
    CK_RV rv = module->functions->C_GetTokenInfo(slot, &info);
    if (rv != CKR_OK)
        return p11_fail_rv(error, "C_GetTokenInfo", rv);
    fill_token(out, slot, &info);
    return ERR_OK;
}

static enum err list_tokens(struct p11_module *module, struct p11_token_info out[], uint32_t cap,
                            uint32_t *out_count, struct p11_error *error)
{
    CK_SLOT_ID slots[P11_TOKENS_LISTED_MAX];
    CK_ULONG count = P11_TOKENS_LISTED_MAX;
    CK_RV rv = module->functions->C_GetSlotList(CK_TRUE, slots, &count);
    if (rv == CKR_BUFFER_TOO_SMALL || (rv == CKR_OK && count > P11_TOKENS_LISTED_MAX))
        return p11_fail(error, ERR_NO_SPACE, "the module has more than %d tokens",
                        P11_TOKENS_LISTED_MAX);
    if (rv != CKR_OK)
        return p11_fail_rv(error, "C_GetSlotList", rv);
    uint32_t found = 0;
    for (CK_ULONG i = 0; i < count; i++) {
        struct p11_token_info info;
        struct p11_error ignored;
        if (p11_token_at(module, slots[i], &info, &ignored) != ERR_OK)
            continue; /* went away since, or cannot be read: the others still count */
        if (found == cap)
            return p11_fail(error, ERR_NO_SPACE, "the module has more than %u tokens", cap);
        out[found++] = info;
    }
    *out_count = found;
    return ERR_OK;
}

enum err p11_token_list(struct p11_module *module, struct p11_token_info out[], uint32_t cap,
                        uint32_t *out_count, struct p11_error *error)
{
    pthread_mutex_lock(&module->scan_lock);
    enum err err = list_tokens(module, out, cap, out_count, error);
    pthread_mutex_unlock(&module->scan_lock);
    return err;
}
