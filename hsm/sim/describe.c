#include "hsm/sim/describe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cyaml/cyaml.h>

#include "base/clock.h"
#include "hsm/sim/cryptoki.h"

/* --- what the YAML may say, as libcyaml wants it --- */

struct yaml_lognormal {
    uint32_t median_us;
    uint32_t p99_us;
};

struct yaml_service {
    uint32_t keys; /* bits 1 << enum service_key; 0: all but keygen */
    uint32_t *constant_us;
    struct yaml_lognormal *lognormal;
    struct dist_point *percentiles;
    unsigned percentiles_count;
};

struct yaml_rate_limit {
    uint32_t per_second;
    uint32_t burst;
    char *answer;
};

struct yaml_fault {
    enum fault_kind kind;
    uint32_t calls;
    char *answer;
    enum crash_how how;
    uint32_t one_in, every, at_call, for_calls, times;
    uint32_t *start_ms;
    uint32_t *length_ms;
};

struct yaml_token {
    char *label;
    char *directory;
    char *model;
    char *serial;
    uint32_t pin_tries;
    uint32_t so_pin_tries;
};

/* Both files; the control file may say `faults` alone. */
struct yaml {
    char *preset;
    struct yaml_token *token;
    uint64_t *seed;
    uint32_t *engines;
    uint32_t sessions_max;
    bool *message_sign;
    struct yaml_rate_limit *rate_limit;
    struct yaml_service *service;
    unsigned service_count;
    char *status;
    char *control;
    struct yaml_fault *faults;
    unsigned faults_count;
};

#define COUNT_OF(a)             (sizeof(a) / sizeof((a)[0]))
#define OPT                     CYAML_FLAG_OPTIONAL
#define PTR                     CYAML_FLAG_POINTER
#define TEXT(key, type, member) CYAML_FIELD_STRING_PTR(key, PTR, type, member, 1, CYAML_UNLIMITED)
#define TEXT_OPT(key, type, member)                                                                \
    CYAML_FIELD_STRING_PTR(key, PTR | OPT, type, member, 1, CYAML_UNLIMITED)
#define UINT_OPT(key, type, member)     CYAML_FIELD_UINT(key, OPT, type, member)
#define UINT_PTR_OPT(key, type, member) CYAML_FIELD_UINT_PTR(key, PTR | OPT, type, member)

static const cyaml_strval_t KEYS[] = {
    {"p256", 1 << SERVICE_P256},           {"p384", 1 << SERVICE_P384},
    {"rsa2048", 1 << SERVICE_RSA2048},     {"rsa3072", 1 << SERVICE_RSA3072},
    {"rsa4096", 1 << SERVICE_RSA4096},     {"ed25519", 1 << SERVICE_ED25519},
    {"ml-dsa-44", 1 << SERVICE_ML_DSA_44}, {"ml-dsa-65", 1 << SERVICE_ML_DSA_65},
    {"keygen", 1 << SERVICE_KEYGEN}};

enum { CALLS_ALL = (1 << CALL_COUNT) - 1 };

static const cyaml_strval_t CALLS[] = {{"sign", 1 << CALL_SIGN},       {"init", 1 << CALL_INIT},
                                       {"session", 1 << CALL_SESSION}, {"login", 1 << CALL_LOGIN},
                                       {"find", 1 << CALL_FIND},       {"keygen", 1 << CALL_KEYGEN},
                                       {"other", 1 << CALL_OTHER},     {"all", CALLS_ALL}};

static const cyaml_strval_t KINDS[] = {{"error", FAULT_ERROR},
                                       {"crash", FAULT_CRASH},
                                       {"stall", FAULT_STALL},
                                       {"failover", FAULT_FAILOVER},
                                       {"sessions-lost", FAULT_SESSIONS_LOST},
                                       {"vanish", FAULT_VANISH},
                                       {"wrong-signature", FAULT_WRONG_SIGNATURE}};

static const cyaml_strval_t HOWS[] = {
    {"abort", CRASH_ABORT}, {"exit", CRASH_EXIT}, {"segv", CRASH_SEGV}};

static const cyaml_schema_field_t POINT[] = {
    CYAML_FIELD_FLOAT("p", CYAML_FLAG_DEFAULT, struct dist_point, percentile),
    CYAML_FIELD_FLOAT("us", CYAML_FLAG_DEFAULT, struct dist_point, us), CYAML_FIELD_END};
static const cyaml_schema_value_t POINT_VALUE = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct dist_point, POINT)};

static const cyaml_schema_field_t LOGNORMAL[] = {
    CYAML_FIELD_UINT("median_us", CYAML_FLAG_DEFAULT, struct yaml_lognormal, median_us),
    CYAML_FIELD_UINT("p99_us", CYAML_FLAG_DEFAULT, struct yaml_lognormal, p99_us), CYAML_FIELD_END};

static const cyaml_schema_field_t SERVICE[] = {
    CYAML_FIELD_FLAGS("for", OPT | CYAML_FLAG_STRICT, struct yaml_service, keys, KEYS,
                      COUNT_OF(KEYS)),
    UINT_PTR_OPT("constant_us", struct yaml_service, constant_us),
    CYAML_FIELD_MAPPING_PTR("lognormal", PTR | OPT, struct yaml_service, lognormal, LOGNORMAL),
    CYAML_FIELD_SEQUENCE("percentiles", PTR | OPT, struct yaml_service, percentiles, &POINT_VALUE,
                         1, DIST_POINTS_MAX),
    CYAML_FIELD_END};
static const cyaml_schema_value_t SERVICE_VALUE = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct yaml_service, SERVICE)};

static const cyaml_schema_field_t RATE_LIMIT[] = {
    CYAML_FIELD_UINT("per_second", CYAML_FLAG_DEFAULT, struct yaml_rate_limit, per_second),
    UINT_OPT("burst", struct yaml_rate_limit, burst),
    TEXT("answer", struct yaml_rate_limit, answer), CYAML_FIELD_END};

static const cyaml_schema_field_t FAULT[] = {
    CYAML_FIELD_ENUM("kind", CYAML_FLAG_STRICT, struct yaml_fault, kind, KINDS, COUNT_OF(KINDS)),
    CYAML_FIELD_FLAGS("calls", OPT | CYAML_FLAG_STRICT, struct yaml_fault, calls, CALLS,
                      COUNT_OF(CALLS)),
    TEXT_OPT("answer", struct yaml_fault, answer),
    CYAML_FIELD_ENUM("how", OPT | CYAML_FLAG_STRICT, struct yaml_fault, how, HOWS, COUNT_OF(HOWS)),
    UINT_OPT("one_in", struct yaml_fault, one_in),
    UINT_OPT("every", struct yaml_fault, every),
    UINT_OPT("at_call", struct yaml_fault, at_call),
    UINT_OPT("for_calls", struct yaml_fault, for_calls),
    UINT_OPT("times", struct yaml_fault, times),
    UINT_PTR_OPT("start_ms", struct yaml_fault, start_ms),
    UINT_PTR_OPT("length_ms", struct yaml_fault, length_ms),
    CYAML_FIELD_END};
static const cyaml_schema_value_t FAULT_VALUE = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct yaml_fault, FAULT)};

static const cyaml_schema_field_t TOKEN[] = {
    TEXT_OPT("label", struct yaml_token, label),
    TEXT("directory", struct yaml_token, directory),
    TEXT_OPT("model", struct yaml_token, model),
    TEXT_OPT("serial", struct yaml_token, serial),
    UINT_OPT("pin_tries", struct yaml_token, pin_tries),
    UINT_OPT("so_pin_tries", struct yaml_token, so_pin_tries),
    CYAML_FIELD_END};

#define FAULTS_FIELD                                                                               \
    CYAML_FIELD_SEQUENCE("faults", PTR | OPT, struct yaml, faults, &FAULT_VALUE, 0, FAULTS_MAX)

static const cyaml_schema_field_t DESCRIPTION[] = {
    TEXT_OPT("preset", struct yaml, preset),
    CYAML_FIELD_MAPPING_PTR("token", PTR, struct yaml, token, TOKEN),
    UINT_PTR_OPT("seed", struct yaml, seed),
    UINT_PTR_OPT("engines", struct yaml, engines),
    UINT_OPT("sessions_max", struct yaml, sessions_max),
    CYAML_FIELD_BOOL_PTR("message_sign", PTR | OPT, struct yaml, message_sign),
    CYAML_FIELD_MAPPING_PTR("rate_limit", PTR | OPT, struct yaml, rate_limit, RATE_LIMIT),
    CYAML_FIELD_SEQUENCE("service", PTR | OPT, struct yaml, service, &SERVICE_VALUE, 0,
                         SERVICE_COUNT),
    TEXT_OPT("status", struct yaml, status),
    TEXT_OPT("control", struct yaml, control),
    FAULTS_FIELD,
    CYAML_FIELD_END};
static const cyaml_schema_value_t DESCRIPTION_SCHEMA = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct yaml, DESCRIPTION)};

static const cyaml_schema_field_t CONTROL[] = {FAULTS_FIELD, CYAML_FIELD_END};
static const cyaml_schema_value_t CONTROL_SCHEMA = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct yaml, CONTROL)};

/* --- reading --- */

/* libcyaml says what is wrong in one message and where in the next ones (a backtrace, innermost
 * first): the first of each makes the error. The line is where the mapping begins that is wrong. */
struct capture {
    char what[512];
    unsigned line;
};

static void capture_log(cyaml_log_t level, void *ctx, const char *fmt, va_list args)
{
    struct capture *capture = ctx;
    char text[512];
    if (level < CYAML_LOG_ERROR)
        return;
    vsnprintf(text, sizeof text, fmt, args);
    text[strcspn(text, "\n")] = 0;
    const char *line = strstr(text, "line: ");
    if (line && capture->line == 0)
        capture->line = (unsigned)strtoul(line + 6, NULL, 10);
    if (capture->what[0] == 0) {
        const char *start = strncmp(text, "Load: ", 6) == 0 ? text + 6 : text;
        snprintf(capture->what, sizeof capture->what, "%s", start);
    }
}

static cyaml_config_t cyaml_of(struct capture *capture)
{
    return (cyaml_config_t){
        .log_fn = capture_log,
        .log_ctx = capture,
        .log_level = CYAML_LOG_ERROR,
        .mem_fn = cyaml_mem,
        .flags = CYAML_CFG_DEFAULT,
    };
}

struct reading {
    const char *path;
    char *error;
};

__attribute__((format(printf, 2, 3))) static enum err refuse(const struct reading *reading,
                                                             const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    snprintf(reading->error, DESCRIBE_ERROR_MAX, "%s: %s", reading->path, text);
    return ERR_CONFIG;
}

static enum err read_yaml(const struct reading *reading, const cyaml_schema_value_t *schema,
                          struct yaml **out)
{
    if (access(reading->path, R_OK) != 0)
        return refuse(reading, "%s", strerror(errno));
    struct capture capture = {0};
    cyaml_config_t cyaml = cyaml_of(&capture);
    struct yaml *yaml = NULL;
    cyaml_err_t bad = cyaml_load_file(reading->path, &cyaml, schema, (cyaml_data_t **)&yaml, NULL);
    if (bad == CYAML_OK && yaml) {
        *out = yaml;
        return ERR_OK;
    }
    if (capture.line > 0)
        return refuse(reading, "near line %u: %s", capture.line, capture.what);
    return refuse(reading, "%s", capture.what[0] ? capture.what : "the file is empty");
}

static void yaml_free(const cyaml_schema_value_t *schema, struct yaml *yaml)
{
    struct capture capture = {0};
    cyaml_config_t cyaml = cyaml_of(&capture);
    cyaml_free(&cyaml, schema, yaml, 0);
}

/* --- names of return values --- */

#define RV(name)                                                                                   \
    {                                                                                              \
        "CKR_" #name, CKR_##name                                                                   \
    }
static const struct {
    const char *name;
    unsigned long rv;
} rv_names[] = {
    RV(CANCEL),
    RV(HOST_MEMORY),
    RV(SLOT_ID_INVALID),
    RV(GENERAL_ERROR),
    RV(FUNCTION_FAILED),
    RV(ARGUMENTS_BAD),
    RV(CANT_LOCK),
    RV(DATA_INVALID),
    RV(DATA_LEN_RANGE),
    RV(DEVICE_ERROR),
    RV(DEVICE_MEMORY),
    RV(DEVICE_REMOVED),
    RV(FUNCTION_CANCELED),
    RV(FUNCTION_NOT_SUPPORTED),
    RV(FUNCTION_NOT_PARALLEL),
    RV(KEY_HANDLE_INVALID),
    RV(KEY_TYPE_INCONSISTENT),
    RV(KEY_CHANGED),
    RV(KEY_NEEDED),
    RV(KEY_FUNCTION_NOT_PERMITTED),
    RV(MECHANISM_INVALID),
    RV(MECHANISM_PARAM_INVALID),
    RV(OBJECT_HANDLE_INVALID),
    RV(OPERATION_ACTIVE),
    RV(OPERATION_NOT_INITIALIZED),
    RV(PIN_INCORRECT),
    RV(PIN_INVALID),
    RV(PIN_LEN_RANGE),
    RV(PIN_EXPIRED),
    RV(PIN_LOCKED),
    RV(SESSION_CLOSED),
    RV(SESSION_COUNT),
    RV(SESSION_HANDLE_INVALID),
    RV(SESSION_READ_ONLY),
    RV(SESSION_READ_WRITE_SO_EXISTS),
    RV(TOKEN_NOT_PRESENT),
    RV(TOKEN_NOT_RECOGNIZED),
    RV(TOKEN_WRITE_PROTECTED),
    RV(USER_NOT_LOGGED_IN),
    RV(USER_ALREADY_LOGGED_IN),
    RV(USER_ANOTHER_ALREADY_LOGGED_IN),
    RV(USER_PIN_NOT_INITIALIZED),
    RV(USER_TYPE_INVALID),
    RV(USER_TOO_MANY_TYPES),
    RV(RANDOM_NO_RNG),
    RV(BUFFER_TOO_SMALL),
    RV(CRYPTOKI_NOT_INITIALIZED),
    RV(MUTEX_BAD),
    RV(MUTEX_NOT_LOCKED),
    RV(FUNCTION_REJECTED),
    {"CKR_TOKEN_RESOURCE_EXCEEDED", 0x201}, /* 3.0 */
};

bool sim_rv_from_name(const char *name, unsigned long *out)
{
    for (size_t i = 0; i < COUNT_OF(rv_names); i++) {
        if (strcmp(name, rv_names[i].name) != 0)
            continue;
        *out = rv_names[i].rv;
        return true;
    }
    char *end;
    errno = 0;
    unsigned long value = strtoul(name, &end, 0);
    if (name[0] < '0' || name[0] > '9' || *end || errno != 0 || value == 0)
        return false;
    *out = value;
    return true;
}

/* --- faults --- */

static bool uses_answer(enum fault_kind kind)
{
    return kind == FAULT_ERROR || kind == FAULT_FAILOVER || kind == FAULT_VANISH;
}

static unsigned long default_answer(enum fault_kind kind)
{
    return kind == FAULT_VANISH ? CKR_DEVICE_REMOVED : CKR_DEVICE_ERROR;
}

static bool is_wait(enum fault_kind kind)
{
    return kind == FAULT_STALL || kind == FAULT_FAILOVER;
}

/* What would be said and not done is an error: a test that injects nothing passes for nothing. */
static const char *fault_problem(const struct yaml_fault *yaml)
{
    bool counts = yaml->one_in || yaml->every || yaml->at_call;
    if (yaml->answer && !uses_answer(yaml->kind))
        return "answer belongs to error, failover and vanish";
    if (yaml->how && yaml->kind != FAULT_CRASH)
        return "how belongs to crash";
    if (yaml->for_calls && !yaml->at_call)
        return "for_calls needs at_call";
    if (yaml->calls && (yaml->kind == FAULT_VANISH || yaml->kind == FAULT_WRONG_SIGNATURE))
        return "calls does not belong to vanish, which is for all, and wrong-signature, which is "
               "for sign";
    if (yaml->kind == FAULT_VANISH && (counts || yaml->times))
        return "vanish takes start_ms and length_ms alone";
    if (is_wait(yaml->kind) && counts && !yaml->length_ms)
        return "a stall or failover of single calls needs length_ms";
    if (is_wait(yaml->kind) && counts && yaml->start_ms)
        return "a stall or failover is by time or by call, not both";
    return NULL;
}

static enum err fault_of(const struct reading *reading, unsigned index,
                         const struct yaml_fault *yaml, struct fault *out)
{
    const char *problem = fault_problem(yaml);
    if (problem)
        return refuse(reading, "faults[%u]: %s", index, problem);
    *out = (struct fault){
        .kind = yaml->kind,
        .calls = yaml->calls,
        .answer = default_answer(yaml->kind),
        .how = yaml->how,
        .one_in = yaml->one_in,
        .every = yaml->every,
        .at_call = yaml->at_call,
        .for_calls = yaml->for_calls ? yaml->for_calls : 1,
        .times = yaml->times,
        .start_ns = yaml->start_ms ? *yaml->start_ms * NS_PER_MS : 0,
        .length_ns = yaml->length_ms ? *yaml->length_ms * NS_PER_MS : 0,
        .timed = yaml->start_ms || yaml->length_ms,
    };
    if (out->kind == FAULT_VANISH || (out->kind == FAULT_SESSIONS_LOST && !out->calls))
        out->calls = CALLS_ALL;
    else if (!out->calls)
        out->calls = 1 << CALL_SIGN;
    if (out->kind == FAULT_SESSIONS_LOST && !fault_counts(out) && out->times == 0)
        out->times = 1;
    if (yaml->answer && !sim_rv_from_name(yaml->answer, &out->answer))
        return refuse(reading, "faults[%u]: answer: %s is no return value that is known here",
                      index, yaml->answer);
    return ERR_OK;
}

static enum err faults_of(const struct reading *reading, const struct yaml *yaml,
                          struct fault_set *out)
{
    enum err err = ERR_OK;
    out->count = yaml->faults_count;
    for (unsigned i = 0; i < yaml->faults_count && !err; i++)
        err = fault_of(reading, i, &yaml->faults[i], &out->item[i]);
    return err;
}

enum err fault_set_load(const char *path, struct fault_set *out, char out_error[DESCRIBE_ERROR_MAX])
{
    struct reading reading = {path, out_error};
    struct stat file;
    if (stat(path, &file) == 0 && file.st_size == 0) {
        *out = (struct fault_set){0};
        return ERR_OK;
    }
    struct yaml *yaml;
    enum err err = read_yaml(&reading, &CONTROL_SCHEMA, &yaml);
    if (err)
        return err;
    struct fault_set set = {0};
    err = faults_of(&reading, yaml, &set);
    yaml_free(&CONTROL_SCHEMA, yaml);
    if (!err)
        *out = set;
    return err;
}

/* --- the description --- */

/* Against the folder of the description. */
static enum err path_of(const struct reading *reading, const char *name, char out[PATH_MAX])
{
    char folder[PATH_MAX];
    if (name[0] == '/') {
        folder[0] = 0;
    } else if (!realpath(reading->path, folder)) {
        return refuse(reading, "%s", strerror(errno));
    } else {
        *strrchr(folder, '/') = 0;
    }
    int len = snprintf(out, PATH_MAX, "%s%s%s", folder, name[0] == '/' ? "" : "/", name);
    return len < PATH_MAX ? ERR_OK : refuse(reading, "%s: the path is too long", name);
}

static enum err text_of(const struct reading *reading, const char *key, const char *value,
                        char *out, size_t cap)
{
    if (!value)
        return ERR_OK;
    if (strlen(value) >= cap || value[0] == 0)
        return refuse(reading, "token.%s has 1 to %zu characters", key, cap - 1);
    memcpy(out, value, strlen(value) + 1);
    return ERR_OK;
}

static enum err number_of(const struct reading *reading, const char *key, uint32_t value,
                          uint32_t min, uint32_t max, uint32_t *out)
{
    if (value < min || value > max)
        return refuse(reading, "%s: %u is not within %u and %u", key, value, min, max);
    *out = value;
    return ERR_OK;
}

static enum err token_of(const struct reading *reading, const struct yaml_token *yaml,
                         struct description *out)
{
    enum err err = text_of(reading, "label", yaml->label, out->label, sizeof out->label);
    if (!err)
        err = text_of(reading, "model", yaml->model, out->model, sizeof out->model);
    if (!err)
        err = text_of(reading, "serial", yaml->serial, out->serial, sizeof out->serial);
    if (!err)
        err = path_of(reading, yaml->directory, out->directory);
    if (!err && yaml->pin_tries)
        err = number_of(reading, "token.pin_tries", yaml->pin_tries, 1, PIN_TRIES_MAX,
                        &out->pin_tries);
    if (!err && yaml->so_pin_tries)
        err = number_of(reading, "token.so_pin_tries", yaml->so_pin_tries, 1, PIN_TRIES_MAX,
                        &out->so_pin_tries);
    return err;
}

static enum err percentiles_of(const struct reading *reading, const struct yaml_service *yaml,
                               struct dist *out)
{
    *out = (struct dist){.kind = DIST_PERCENTILES, .points = yaml->percentiles_count};
    double percentile = -1, us = 0;
    for (unsigned i = 0; i < yaml->percentiles_count; i++) {
        const struct dist_point *point = &yaml->percentiles[i];
        if (!(point->percentile > percentile && point->percentile <= 100))
            return refuse(reading, "service: percentiles: p must rise, from 0 to 100");
        if (!(point->us >= us && point->us <= SERVICE_US_MAX))
            return refuse(reading, "service: percentiles: us must not fall, nor pass %d",
                          SERVICE_US_MAX);
        percentile = point->percentile;
        us = point->us;
        out->point[i] = *point;
    }
    return ERR_OK;
}

static enum err service_of(const struct reading *reading, const struct yaml_service *yaml,
                           struct description *out)
{
    struct dist dist = {0};
    enum err err = ERR_OK;
    if (!!yaml->constant_us + !!yaml->lognormal + !!yaml->percentiles != 1)
        return refuse(reading, "service: one of constant_us, lognormal and percentiles is needed");
    if (yaml->constant_us) {
        uint32_t us = 0;
        err =
            number_of(reading, "service: constant_us", *yaml->constant_us, 0, SERVICE_US_MAX, &us);
        if (!err)
            dist = dist_constant(us);
    } else if (yaml->lognormal) {
        uint32_t median = yaml->lognormal->median_us, p99 = yaml->lognormal->p99_us;
        if (median == 0 || p99 < median || p99 > SERVICE_US_MAX)
            return refuse(reading, "service: lognormal: 0 < median_us <= p99_us <= %d is needed",
                          SERVICE_US_MAX);
        dist = dist_lognormal(median, p99);
    } else {
        err = percentiles_of(reading, yaml, &dist);
    }
    uint32_t keys = yaml->keys ? yaml->keys : (1 << SERVICE_KEYGEN) - 1;
    for (int i = 0; i < SERVICE_COUNT && !err; i++)
        if (keys & 1u << i)
            out->service[i] = dist;
    return err;
}

static enum err rate_of(const struct reading *reading, const struct yaml_rate_limit *yaml,
                        struct description *out)
{
    enum err err = number_of(reading, "rate_limit.per_second", yaml->per_second, 1, RATE_MAX,
                             &out->rate_per_second);
    if (!err)
        err = number_of(reading, "rate_limit.burst", yaml->burst ? yaml->burst : 1, 1, RATE_MAX,
                        &out->rate_burst);
    if (err)
        return err;
    out->rate_blocks = strcmp(yaml->answer, "block") == 0;
    if (!out->rate_blocks && !sim_rv_from_name(yaml->answer, &out->rate_answer))
        return refuse(reading, "rate_limit.answer: %s is neither block nor a return value",
                      yaml->answer);
    return ERR_OK;
}

static enum err preset_of(const struct reading *reading, const char *name, struct description *out)
{
    if (preset_apply(name, out))
        return ERR_OK;
    char known[256] = "";
    for (uint32_t i = 0; preset_name(i); i++) {
        size_t len = strlen(known);
        snprintf(known + len, sizeof known - len, "%s%s", i ? ", " : "", preset_name(i));
    }
    return refuse(reading, "preset: there is no %s; there are %s", name, known);
}

static enum err device_of(const struct reading *reading, const struct yaml *yaml,
                          struct description *out)
{
    enum err err = preset_of(reading, yaml->preset ? yaml->preset : "software", out);
    if (!err)
        err = token_of(reading, yaml->token, out);
    if (!err && yaml->engines)
        err = number_of(reading, "engines", *yaml->engines, 0, ENGINES_MAX, &out->engines);
    if (!err && yaml->sessions_max)
        err = number_of(reading, "sessions_max", yaml->sessions_max, 1, SIM_SESSIONS_MAX,
                        &out->sessions_max);
    if (!err && yaml->rate_limit)
        err = rate_of(reading, yaml->rate_limit, out);
    for (unsigned i = 0; i < yaml->service_count && !err; i++)
        err = service_of(reading, &yaml->service[i], out);
    if (yaml->message_sign)
        out->message_sign = *yaml->message_sign;
    if (yaml->seed)
        out->seed = *yaml->seed;
    return err;
}

static enum err files_of(const struct reading *reading, const struct yaml *yaml,
                         struct description *out)
{
    enum err err = ERR_OK;
    if (yaml->control)
        err = path_of(reading, yaml->control, out->control);
    if (!err && yaml->status)
        err = path_of(reading, yaml->status, out->status);
    else if (!err && snprintf(out->status, sizeof out->status, "%s/status", out->directory) >=
                         (int)sizeof out->status)
        err = refuse(reading, "token.directory: the path is too long");
    return err;
}

enum err description_load(const char *path, struct description *out,
                          char out_error[DESCRIBE_ERROR_MAX])
{
    struct reading reading = {path, out_error};
    struct yaml *yaml;
    enum err err = read_yaml(&reading, &DESCRIPTION_SCHEMA, &yaml);
    if (err)
        return err;
    struct description *made = calloc(1, sizeof *made);
    if (!made) {
        yaml_free(&DESCRIPTION_SCHEMA, yaml);
        return refuse(&reading, "no memory");
    }
    *made = (struct description){
        .label = "sim", .serial = "1", .pin_tries = 10, .so_pin_tries = 10, .seed = 1};
    err = device_of(&reading, yaml, made);
    if (!err)
        err = files_of(&reading, yaml, made);
    if (!err)
        err = faults_of(&reading, yaml, &made->faults);
    yaml_free(&DESCRIPTION_SCHEMA, yaml);
    if (!err)
        *out = *made;
    free(made);
    return err;
}
