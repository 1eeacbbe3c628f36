/* rv.h: what a CK_RV is called and what is done about it.
 *
 * Promise: every return value of PKCS#11 2.40 through 3.2 has a name and a class; values unknown
 * and vendor-defined ones have a class too. Threads: pure; a set of overrides is read-only after
 * rv_overrides_parse. Limits:  RV_OVERRIDES_MAX.
 */
#ifndef CERTMILL_HSM_P11_RV_H
#define CERTMILL_HSM_P11_RV_H

#include "base/bytes.h"

enum rv_class {
    RV_CLASS_OK,
    RV_CLASS_RETRY,    /* another signer may do it, or this one later */
    RV_CLASS_REOPEN,   /* this session is dead: open another, try again */
    RV_CLASS_LOGIN,    /* the login is gone: log in again (single flight), try again */
    RV_CLASS_FIND_KEY, /* the handle is dead: find the key again, try again */
    RV_CLASS_REINIT,   /* the module is dead: C_Finalize, C_Initialize, all over, try again */
    RV_CLASS_FATAL,    /* this job cannot be done, here or elsewhere */
    RV_CLASS_PIN,      /* the PIN is refused: never try it again, stop this signer */
    RV_CLASS_COUNT
};

/* "CKR_DEVICE_ERROR"; "CKR_VENDOR_DEFINED" above 0x80000000; "CKR_?" for others. Never NULL. */
const char *rv_name(unsigned long rv);
/* By name, or a number as 0x... or decimal. */
bool rv_from_name(struct bytes name, unsigned long *out) MUST_USE;
/* retry, reopen, login, find-key, reinit, fatal, pin. Never NULL. */
const char *rv_class_name(enum rv_class class);
enum rv_class rv_class_default(unsigned long rv);

enum { RV_OVERRIDES_MAX = 64 };

struct rv_overrides {
    uint32_t count;
    struct {
        unsigned long rv;
        enum rv_class class;
    } item[RV_OVERRIDES_MAX];
};

/* "CKR_DEVICE_ERROR=reopen,0x80000123=retry"; NULL or "" is none. False with the item that is wrong
 * in *out_bad. CKR_OK cannot be overridden. */
bool rv_overrides_parse(const char *text, struct rv_overrides *out, struct bytes *out_bad) MUST_USE;
enum rv_class rv_class_of(const struct rv_overrides *overrides, unsigned long rv);

/* The rows of the table, for tests and documentation; false past the end. */
bool rv_row(uint32_t index, unsigned long *out_rv, const char **out_name, enum rv_class *out_class);

#endif
