#include "hsm/p11/rv.h"

#include <string.h>

/* Values as OASIS publishes them; p11-kit 0.24's header has other numbers for the five from
 * CKR_EXCEEDED_MAX_ITERATIONS on, so they are written out here.
 * X(name, value, class) */
#define RV_TABLE(X)                                                                                \
    X(OK, 0x0, OK)                                                                                 \
    X(CANCEL, 0x1, RETRY)                                                                          \
    X(HOST_MEMORY, 0x2, RETRY)                                                                     \
    X(SLOT_ID_INVALID, 0x3, REOPEN) /* slots are numbered anew when tokens come and go */          \
    X(GENERAL_ERROR, 0x5, RETRY)                                                                   \
    X(FUNCTION_FAILED, 0x6, RETRY)                                                                 \
    X(ARGUMENTS_BAD, 0x7, FATAL)                                                                   \
    X(NO_EVENT, 0x8, FATAL)                                                                        \
    X(NEED_TO_CREATE_THREADS, 0x9, FATAL)                                                          \
    X(CANT_LOCK, 0xa, FATAL)                                                                       \
    X(ATTRIBUTE_READ_ONLY, 0x10, FATAL)                                                            \
    X(ATTRIBUTE_SENSITIVE, 0x11, FATAL)                                                            \
    X(ATTRIBUTE_TYPE_INVALID, 0x12, FATAL)                                                         \
    X(ATTRIBUTE_VALUE_INVALID, 0x13, FATAL)                                                        \
    X(ACTION_PROHIBITED, 0x1b, FATAL)                                                              \
    X(DATA_INVALID, 0x20, FATAL)                                                                   \
    X(DATA_LEN_RANGE, 0x21, FATAL)                                                                 \
    X(DEVICE_ERROR, 0x30, RETRY)                                                                   \
    X(DEVICE_MEMORY, 0x31, RETRY)                                                                  \
    X(DEVICE_REMOVED, 0x32, REOPEN)                                                                \
    X(ENCRYPTED_DATA_INVALID, 0x40, FATAL)                                                         \
    X(ENCRYPTED_DATA_LEN_RANGE, 0x41, FATAL)                                                       \
    X(AEAD_DECRYPT_FAILED, 0x42, FATAL)                                                            \
    X(FUNCTION_CANCELED, 0x50, RETRY)                                                              \
    X(FUNCTION_NOT_PARALLEL, 0x51, FATAL)                                                          \
    X(FUNCTION_NOT_SUPPORTED, 0x54, FATAL)                                                         \
    X(KEY_HANDLE_INVALID, 0x60, FIND_KEY)                                                          \
    X(KEY_SIZE_RANGE, 0x62, FATAL)                                                                 \
    X(KEY_TYPE_INCONSISTENT, 0x63, FATAL)                                                          \
    X(KEY_NOT_NEEDED, 0x64, FATAL)                                                                 \
    X(KEY_CHANGED, 0x65, FIND_KEY)                                                                 \
    X(KEY_NEEDED, 0x66, FATAL)                                                                     \
    X(KEY_INDIGESTIBLE, 0x67, FATAL)                                                               \
    X(KEY_FUNCTION_NOT_PERMITTED, 0x68, FATAL)                                                     \
    X(KEY_NOT_WRAPPABLE, 0x69, FATAL)                                                              \
    X(KEY_UNEXTRACTABLE, 0x6a, FATAL)                                                              \
    X(MECHANISM_INVALID, 0x70, FATAL)                                                              \
    X(MECHANISM_PARAM_INVALID, 0x71, FATAL)                                                        \
    X(OBJECT_HANDLE_INVALID, 0x82, FIND_KEY)                                                       \
    X(OPERATION_ACTIVE, 0x90, REOPEN) /* a half-finished operation goes with its session */        \
    X(OPERATION_NOT_INITIALIZED, 0x91, REOPEN)                                                     \
    X(PIN_INCORRECT, 0xa0, PIN)                                                                    \
    X(PIN_INVALID, 0xa1, PIN)                                                                      \
    X(PIN_LEN_RANGE, 0xa2, PIN)                                                                    \
    X(PIN_EXPIRED, 0xa3, PIN)                                                                      \
    X(PIN_LOCKED, 0xa4, PIN)                                                                       \
    X(SESSION_CLOSED, 0xb0, REOPEN)                                                                \
    X(SESSION_COUNT, 0xb1, RETRY)                                                                  \
    X(SESSION_HANDLE_INVALID, 0xb3, REOPEN)                                                        \
    X(SESSION_PARALLEL_NOT_SUPPORTED, 0xb4, FATAL)                                                 \
    X(SESSION_READ_ONLY, 0xb5, FATAL)                                                              \
    X(SESSION_EXISTS, 0xb6, FATAL)                                                                 \
    X(SESSION_READ_ONLY_EXISTS, 0xb7, FATAL)                                                       \
    X(SESSION_READ_WRITE_SO_EXISTS, 0xb8, RETRY) /* the security officer is at the token */        \
    X(SIGNATURE_INVALID, 0xc0, FATAL)                                                              \
    X(SIGNATURE_LEN_RANGE, 0xc1, FATAL)                                                            \
    X(TEMPLATE_INCOMPLETE, 0xd0, FATAL)                                                            \
    X(TEMPLATE_INCONSISTENT, 0xd1, FATAL)                                                          \
    X(TOKEN_NOT_PRESENT, 0xe0, REOPEN)                                                             \
    X(TOKEN_NOT_RECOGNIZED, 0xe1, REOPEN)                                                          \
    X(TOKEN_WRITE_PROTECTED, 0xe2, FATAL)                                                          \
    X(UNWRAPPING_KEY_HANDLE_INVALID, 0xf0, FIND_KEY)                                               \
    X(UNWRAPPING_KEY_SIZE_RANGE, 0xf1, FATAL)                                                      \
    X(UNWRAPPING_KEY_TYPE_INCONSISTENT, 0xf2, FATAL)                                               \
    X(USER_ALREADY_LOGGED_IN, 0x100, RETRY)                                                        \
    X(USER_NOT_LOGGED_IN, 0x101, LOGIN)                                                            \
    X(USER_PIN_NOT_INITIALIZED, 0x102, RETRY) /* not a wrong PIN: there is none to lock */         \
    X(USER_TYPE_INVALID, 0x103, FATAL)                                                             \
    X(USER_ANOTHER_ALREADY_LOGGED_IN, 0x104, RETRY)                                                \
    X(USER_TOO_MANY_TYPES, 0x105, RETRY)                                                           \
    X(WRAPPED_KEY_INVALID, 0x110, FATAL)                                                           \
    X(WRAPPED_KEY_LEN_RANGE, 0x112, FATAL)                                                         \
    X(WRAPPING_KEY_HANDLE_INVALID, 0x113, FIND_KEY)                                                \
    X(WRAPPING_KEY_SIZE_RANGE, 0x114, FATAL)                                                       \
    X(WRAPPING_KEY_TYPE_INCONSISTENT, 0x115, FATAL)                                                \
    X(RANDOM_SEED_NOT_SUPPORTED, 0x120, FATAL)                                                     \
    X(RANDOM_NO_RNG, 0x121, RETRY)                                                                 \
    X(DOMAIN_PARAMS_INVALID, 0x130, FATAL)                                                         \
    X(CURVE_NOT_SUPPORTED, 0x140, FATAL)                                                           \
    X(BUFFER_TOO_SMALL, 0x150, FATAL)                                                              \
    X(SAVED_STATE_INVALID, 0x160, FATAL)                                                           \
    X(INFORMATION_SENSITIVE, 0x170, FATAL)                                                         \
    X(STATE_UNSAVEABLE, 0x180, FATAL)                                                              \
    X(CRYPTOKI_NOT_INITIALIZED, 0x190, REINIT)                                                     \
    X(CRYPTOKI_ALREADY_INITIALIZED, 0x191, RETRY)                                                  \
    X(MUTEX_BAD, 0x1a0, REINIT)                                                                    \
    X(MUTEX_NOT_LOCKED, 0x1a1, REINIT)                                                             \
    X(NEW_PIN_MODE, 0x1b0, PIN)                                                                    \
    X(NEXT_OTP, 0x1b1, PIN)                                                                        \
    X(EXCEEDED_MAX_ITERATIONS, 0x1b5, FATAL)                                                       \
    X(FIPS_SELF_TEST_FAILED, 0x1b6, REINIT)                                                        \
    X(LIBRARY_LOAD_FAILED, 0x1b7, REINIT)                                                          \
    X(PIN_TOO_WEAK, 0x1b8, PIN)                                                                    \
    X(PUBLIC_KEY_INVALID, 0x1b9, FATAL)                                                            \
    X(FUNCTION_REJECTED, 0x200, RETRY) /* by a person at the token, or by its policy just now */   \
    X(TOKEN_RESOURCE_EXCEEDED, 0x201, RETRY)                                                       \
    X(OPERATION_CANCEL_FAILED, 0x202, REOPEN)                                                      \
    X(KEY_EXHAUSTED, 0x203, FATAL)                                                                 \
    X(PENDING, 0x204, RETRY)                                                                       \
    X(SESSION_ASYNC_NOT_SUPPORTED, 0x205, FATAL)                                                   \
    X(SEED_RANDOM_REQUIRED, 0x206, RETRY)                                                          \
    X(OPERATION_NOT_VALIDATED, 0x207, FATAL)                                                       \
    X(TOKEN_NOT_INITIALIZED, 0x208, REOPEN)                                                        \
    X(PARAMETER_SET_NOT_SUPPORTED, 0x209, FATAL)

struct rv_table_row {
    unsigned long rv;
    const char *name;
    enum rv_class class;
};

static const struct rv_table_row rows[] = {
#define X(name, value, class) {value##ul, "CKR_" #name, RV_CLASS_##class},
    RV_TABLE(X)
#undef X
};
enum { ROW_COUNT = sizeof(rows) / sizeof(rows[0]) };

static const char *const class_names[RV_CLASS_COUNT] = {"ok",       "retry",  "reopen", "login",
                                                        "find-key", "reinit", "fatal",  "pin"};

#define VENDOR_DEFINED 0x80000000ul

static const struct rv_table_row *row_of(unsigned long rv)
{
    for (uint32_t i = 0; i < ROW_COUNT; i++) {
        if (rows[i].rv == rv)
            return &rows[i];
    }
    return NULL;
}

const char *rv_name(unsigned long rv)
{
    const struct rv_table_row *row = row_of(rv);
    if (row != NULL)
        return row->name;
    return rv >= VENDOR_DEFINED ? "CKR_VENDOR_DEFINED" : "CKR_?";
}

static bool number_of(struct bytes text, unsigned long *out)
{
    uint64_t value = 0;
    if (!bytes_starts_with(text, BYTES_LIT("0x"))) {
        if (!bytes_to_u64(text, UINT64_MAX, &value))
            return false;
    } else {
        uint8_t raw[8];
        char digits[17];
        size_t len = text.len - 2, raw_len;
        if (len == 0 || len > 16)
            return false;
        memset(digits, '0', sizeof(digits));
        memcpy(digits + 16 - len, text.ptr + 2, len);
        if (!bytes_from_hex(bytes_of(digits, 16), raw, sizeof(raw), &raw_len))
            return false;
        value = load_be64(raw);
    }
    *out = (unsigned long)value;
    return true;
}

bool rv_from_name(struct bytes name, unsigned long *out)
{
    for (uint32_t i = 0; i < ROW_COUNT; i++) {
        if (bytes_eq(name, bytes_of_str(rows[i].name))) {
            *out = rows[i].rv;
            return true;
        }
    }
    return number_of(name, out);
}

const char *rv_class_name(enum rv_class class)
{
    return (unsigned)class < RV_CLASS_COUNT ? class_names[class] : "?";
}

enum rv_class rv_class_default(unsigned long rv)
{
    const struct rv_table_row *row = row_of(rv);
    /* what is not known may pass, or not happen on another token */
    return row != NULL ? row->class : RV_CLASS_RETRY;
}

static bool parse_item(struct bytes item, struct rv_overrides *out)
{
    size_t equals = bytes_find(item, '=');
    unsigned long rv;
    if (equals == item.len || out->count == RV_OVERRIDES_MAX ||
        !rv_from_name(bytes_of(item.ptr, equals), &rv) || rv == 0)
        return false;
    struct bytes class = bytes_of(item.ptr + equals + 1, item.len - equals - 1);
    for (unsigned i = RV_CLASS_RETRY; i < RV_CLASS_COUNT; i++) {
        if (bytes_eq(class, bytes_of_str(class_names[i]))) {
            out->item[out->count].rv = rv;
            out->item[out->count++].class = (enum rv_class)i;
            return true;
        }
    }
    return false;
}

bool rv_overrides_parse(const char *text, struct rv_overrides *out, struct bytes *out_bad)
{
    struct rv_overrides parsed = {0};
    struct bytes rest = text == NULL ? (struct bytes){0} : bytes_of_str(text);
    while (rest.len != 0) {
        size_t end = bytes_find(rest, ',');
        struct bytes item = bytes_of(rest.ptr, end);
        if (!parse_item(item, &parsed)) {
            *out_bad = item;
            return false;
        }
        size_t used = end == rest.len ? end : end + 1;
        rest = bytes_of(rest.ptr + used, rest.len - used);
    }
    *out = parsed;
    return true;
}

enum rv_class rv_class_of(const struct rv_overrides *overrides, unsigned long rv)
{
    for (uint32_t i = 0; i < overrides->count; i++) {
        if (overrides->item[i].rv == rv)
            return overrides->item[i].class;
    }
    return rv_class_default(rv);
}

bool rv_row(uint32_t index, unsigned long *out_rv, const char **out_name, enum rv_class *out_class)
{
    if (index >= ROW_COUNT)
        return false;
    *out_rv = rows[index].rv;
    *out_name = rows[index].name;
    *out_class = rows[index].class;
    return true;
}
