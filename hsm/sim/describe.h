/* describe.h: the YAML description of the device that the simulator plays, and its fault files.
 *
 * Promise: what is returned is complete (presets and defaults are in) and within the limits below;
 *          else the error text says file, line where libcyaml knows it, and what is wrong.
 * Owner:   description_free, fault_set_free.
 * Threads: pure; the result is not changed after.
 * Errors:  ERR_CONFIG with the text.
 * Units:   as in the names; times of faults count from when their file came into force.
 *
 * The keys are explained in deploy/sample/hsmsim.yaml.
 */
#ifndef CERTMILL_SIM_DESCRIBE_H
#define CERTMILL_SIM_DESCRIBE_H

#include <limits.h>
#include <stdbool.h>

#include "base/err.h"
#include "hsm/sim/dist.h"

enum {
    DESCRIBE_ERROR_MAX = PATH_MAX + 512,
    ENGINES_MAX = 1024,
    SIM_SESSIONS_MAX = 4096,
    FAULTS_MAX = 32,
    RATE_MAX = 10000000,
    SERVICE_US_MAX = 600000000,
    PIN_TRIES_MAX = 1000,
};

/* What a service time is for. */
enum service_key {
    SERVICE_P256,
    SERVICE_P384,
    SERVICE_RSA2048,
    SERVICE_RSA3072,
    SERVICE_RSA4096,
    SERVICE_ED25519,
    SERVICE_ML_DSA_44,
    SERVICE_ML_DSA_65,
    SERVICE_KEYGEN, /* of any kind */
    SERVICE_COUNT
};

/* Calls that a fault can meet. */
enum call_kind {
    CALL_SIGN,    /* C_Sign, C_SignFinal, C_SignMessage */
    CALL_INIT,    /* C_SignInit, C_MessageSignInit */
    CALL_SESSION, /* C_OpenSession */
    CALL_LOGIN,
    CALL_FIND, /* C_FindObjectsInit, C_GetAttributeValue */
    CALL_KEYGEN,
    CALL_OTHER,
    CALL_COUNT
};

enum fault_kind {
    FAULT_ERROR,           /* the call answers `answer` and does nothing */
    FAULT_CRASH,           /* the process ends */
    FAULT_STALL,           /* the call waits, then goes on */
    FAULT_FAILOVER,        /* the call waits, then answers `answer` */
    FAULT_SESSIONS_LOST,   /* every session of every process is invalid from now on */
    FAULT_VANISH,          /* the token is not there; its sessions are lost */
    FAULT_WRONG_SIGNATURE, /* one bit of the signature is turned over */
};

enum crash_how { CRASH_ABORT, CRASH_EXIT, CRASH_SEGV };

struct fault {
    enum fault_kind kind;
    uint32_t calls; /* bits 1 << enum call_kind */
    unsigned long answer;
    enum crash_how how;
    /* Which of the calls it meets, counted from 1 since the file came into force: all three hold.
     * 0: not asked for. */
    uint32_t one_in; /* about: by the seed */
    uint32_t every;  /* exactly */
    uint32_t at_call;
    uint32_t for_calls; /* with at_call: so many from there on */
    uint32_t times;     /* at most so often; 0: no limit */
    /* When. length 0: until the file is changed. */
    uint64_t start_ns;
    uint64_t length_ns;
    bool timed; /* start or length was given */
};

/* Does it choose calls by their number? */
static inline bool fault_counts(const struct fault *fault)
{
    return fault->one_in != 0 || fault->every != 0 || fault->at_call != 0;
}

struct fault_set {
    uint32_t count;
    struct fault item[FAULTS_MAX];
};

struct description {
    char label[33];
    char model[17];
    char serial[17];
    char directory[PATH_MAX];
    char status[PATH_MAX];
    char control[PATH_MAX]; /* empty: none */
    uint32_t pin_tries;
    uint32_t so_pin_tries;
    uint32_t engines; /* 0: as many as ask */
    uint32_t sessions_max;
    bool message_sign;
    uint64_t seed;
    uint32_t rate_per_second; /* 0: no limit */
    uint32_t rate_burst;
    bool rate_blocks;
    unsigned long rate_answer;
    struct dist service[SERVICE_COUNT];
    struct fault_set faults;
};

enum err description_load(const char *path, struct description *out,
                          char out_error[DESCRIBE_ERROR_MAX]) MUST_USE;
/* A file with nothing but `faults`. An empty file is an empty set. */
enum err fault_set_load(const char *path, struct fault_set *out,
                        char out_error[DESCRIBE_ERROR_MAX]) MUST_USE;

/* preset.c: fills in what a device of this name is like; false: no such preset. */
bool preset_apply(const char *name, struct description *out);
/* The names, for error texts; NULL after the last. */
const char *preset_name(uint32_t index);

/* "CKR_DEVICE_ERROR", or a number. */
bool sim_rv_from_name(const char *name, unsigned long *out);

#endif
