/* Defaults, and what a schema cannot say: unique names, references that resolve, ranges. */
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_internal.h"

/* --- defaults --- */

/* Strings are allocated as libcyaml does, which frees them. */
void config_default_text(char **text, const char *value)
{
    if (!*text) {
        *text = strdup(value);
    }
}

void config_default_switch(config_bool *value, bool fallback)
{
    *value = *value == 0 ? fallback : *value == CONFIG_YES;
}

static void default_uint(uint32_t *value, uint32_t fallback)
{
    *value = *value == 0 ? fallback : *value;
}

/* 0 for "none", and for what check_crls complains of. */
static int64_t seconds_of(const char *text)
{
    int64_t seconds = 0;
    return config_duration(text, &seconds) && seconds > 0 ? seconds : 0;
}

static void default_lists(struct config *config)
{
    for (uint32_t i = 0; i < config->listeners_count; i++) {
        config_default_text(&config->listeners[i].address, "127.0.0.1");
        config_default_switch(&config->listeners[i].tls, true);
    }
    for (uint32_t i = 0; i < config->tokens_count; i++) {
        struct config_token *token = &config->tokens[i];
        default_uint(&token->signers, 1);
        default_uint(&token->sessions, 4);
        config_default_switch(&token->network, false);
        token->verify_one_in = token->verify_one_in_given ? *token->verify_one_in_given : 1;
    }
    for (uint32_t i = 0; i < config->cas_count; i++) {
        struct config_crl *crl = &config->cas[i].crl;
        config_default_switch(&config->cas[i].test, false);
        config_default_text(&crl->lifetime, "7d");
        config_default_text(&crl->every, "1d");
        crl->lifetime_s = seconds_of(crl->lifetime);
        crl->every_s = seconds_of(crl->every);
        crl->on_revocation_s = crl->on_revocation ? seconds_of(crl->on_revocation) : 0;
    }
    for (uint32_t i = 0; i < config->profiles_count; i++) {
        config_default_switch(&config->profiles[i].server_auth, false);
    }
    for (uint32_t i = 0; i < config->lines_count; i++) {
        struct config_line *line = &config->lines[i];
        config_default_text(&line->device_id, "subject-cn");
        config_default_switch(&line->basic_auth, true);
        config_default_switch(&line->client_cert, true);
        config_default_switch(&line->renewal, true);
        config_default_switch(&line->require_pop_link, false);
        config_default_switch(&line->hold, false);
        config_default_switch(&line->confirm, true);
        config_default_switch(&line->test, false);
    }
}

void config_defaults(struct config *config)
{
    config_default_text(&config->store.dir, "store");
    config_default_text(&config->admin.socket, "run/admin.sock");
    config_default_text(&config->admin.address, "127.0.0.1");
    config_default_text(&config->log.level, "info");
    config_default_switch(&config->pin_cores, true);
    config_default_switch(&config->tls.tls12, true);
    default_lists(config);
    config_cmp_defaults(config);
}

/* --- checks --- */

/* The first complaint counts. */
void config_complain(struct check *check, const char *path, const char *fmt, ...)
{
    if (!check->good) {
        return;
    }
    check->good = false;
    char what[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    /* A value that was left out is reported at the element it is missing from. */
    char place[256];
    snprintf(place, sizeof(place), "%s", path);
    unsigned line = config_places_line(check->places, place);
    while (line == 0 && strrchr(place, '.')) {
        *strrchr(place, '.') = 0;
        line = config_places_line(check->places, place);
    }
    snprintf(check->error, CONFIG_ERROR_MAX, "%s:%u: %s: %s", check->config->path, line, path,
             what);
}

static bool name_is_good(const char *name, size_t max)
{
    size_t len = strlen(name);
    return len > 0 && len <= max &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == len;
}

/* Elements are structs whose first member is `char *name`. */
static void check_names(struct check *check, const char *list, const void *items, uint32_t count,
                        size_t size, size_t max)
{
    char path[128];
    for (uint32_t i = 0; i < count; i++) {
        char *const *name = (char *const *)(const void *)((const char *)items + i * size);
        if (!name_is_good(*name, max)) {
            config_complain(check, PATH("%s[%u].name", list, i),
                     "'%s': expected 1 to %zu letters, digits, '-', '_' or '.'", *name, max);
        }
        for (uint32_t k = 0; k < i; k++) {
            char *const *other = (char *const *)(const void *)((const char *)items + k * size);
            if (strcmp(*name, *other) == 0) {
                config_complain(check, PATH("%s[%u].name", list, i), "'%s' is used twice", *name);
            }
        }
    }
}

bool config_has_name(const void *items, uint32_t count, size_t size, const char *wanted)
{
    for (uint32_t i = 0; i < count; i++) {
        char *const *name = (char *const *)(const void *)((const char *)items + i * size);
        if (strcmp(*name, wanted) == 0) {
            return true;
        }
    }
    return false;
}

#define HAS_NAME(config, list, wanted)                                                             \
    config_has_name((config)->list, (config)->list##_count, sizeof((config)->list[0]), wanted)
#define CHECK_NAMES(check, list, max)                                                              \
    check_names(check, #list, (check)->config->list, (check)->config->list##_count,                \
                sizeof((check)->config->list[0]), max)

static bool is_one_of(const char *word, const char *const *words)
{
    for (; *words; words++) {
        if (strcmp(word, *words) == 0) {
            return true;
        }
    }
    return false;
}

static void check_listeners(struct check *check)
{
    const struct config *config = check->config;
    char path[128];
    bool tls = false;
    for (uint32_t i = 0; i < config->listeners_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        uint8_t address[16];
        tls |= listener->tls;
        if (inet_pton(AF_INET, listener->address, address) != 1 &&
            inet_pton(AF_INET6, listener->address, address) != 1) {
            config_complain(check, PATH("listeners[%u].address", i),
                     "'%s': expected a numeric IPv4 or IPv6 address", listener->address);
        }
        if (listener->port == 0) {
            config_complain(check, PATH("listeners[%u].port", i), "expected 1 to 65535");
        }
    }
    if (tls && (!config->tls.certificate || !config->tls.key)) {
        config_complain(check, "tls", "a TLS listener needs tls: certificate and key");
    }
    if (config->cores > CORES_MAX) {
        config_complain(check, "cores", "expected at most %d", CORES_MAX);
    }
    if (config->connections_per_core > CONNECTIONS_PER_CORE_MAX) {
        config_complain(check, "connections_per_core", "expected at most %d", CONNECTIONS_PER_CORE_MAX);
    }
    static const char *const levels[] = {"error", "warn", "info", "debug", NULL};
    if (!is_one_of(config->log.level, levels)) {
        config_complain(check, "log.level", "'%s': expected error, warn, info or debug",
                 config->log.level);
    }
}

static void check_tokens(struct check *check)
{
    const struct config *config = check->config;
    char path[128];
    uint32_t signers = 0;
    for (uint32_t i = 0; i < config->tokens_count; i++) {
        const struct config_token *token = &config->tokens[i];
        signers += token->signers;
        if (!!token->pin_file + !!token->pin_env + !!token->pin_credential != 1) {
            config_complain(check, PATH("tokens[%u].pin_file", i),
                     "expected exactly one of pin_file, pin_env and pin_credential");
        }
        if (strncmp(token->uri, "pkcs11:", 7) != 0) {
            config_complain(check, PATH("tokens[%u].uri", i), "'%s': expected pkcs11:token=...",
                     token->uri);
        }
        if (token->verify_one_in == 0) {
            config_complain(check, PATH("tokens[%u].verify_one_in", i),
                     "expected 1 (every signature is verified) or more (one in so many); "
                     "verification cannot be switched off");
        }
        if (token->sessions > SESSIONS_PER_SIGNER_MAX) {
            config_complain(check, PATH("tokens[%u].sessions", i), "expected 1 to %d",
                     SESSIONS_PER_SIGNER_MAX);
        }
        if (token->deadline_ms > SIGN_DEADLINE_MS) {
            config_complain(check, PATH("tokens[%u].deadline_ms", i), "expected at most %d",
                     SIGN_DEADLINE_MS);
        }
    }
    if (signers > SIGNERS_MAX) {
        config_complain(check, "tokens", "%u signer processes in all; at most %d are supported", signers,
                 SIGNERS_MAX);
    }
    for (uint32_t i = 0; i < config->cas_count; i++) {
        const struct config_ca *ca = &config->cas[i];
        if (strncmp(ca->key, "pkcs11:", 7) != 0) {
            config_complain(check, PATH("cas[%u].key", i), "'%s': expected pkcs11:object=...", ca->key);
        }
        if ((ca->old_with_new || ca->new_with_old) && ca->previous_count == 0) {
            config_complain(check, PATH("cas[%u].previous", i),
                     "old_with_new and new_with_old link to the CA's certificate before its key "
                     "rollover: expected that as the first of previous");
        }
        for (uint32_t k = 0; k < ca->tokens_count; k++) {
            if (!HAS_NAME(config, tokens, ca->tokens[k])) {
                config_complain(check, PATH("cas[%u].tokens[%u]", i, k), "there is no token '%s'",
                         ca->tokens[k]);
            }
        }
    }
}

static void check_crls(struct check *check)
{
    char path[128];
    for (uint32_t i = 0; i < check->config->cas_count; i++) {
        const struct config_crl *crl = &check->config->cas[i].crl;
        int64_t seconds = 0;
        if (!config_duration(crl->every, &seconds) || seconds == 0) {
            config_complain(check, PATH("cas[%u].crl.every", i),
                     "'%s': expected a duration like 1d or 12h, or none", crl->every);
        }
        if (!config_duration(crl->lifetime, &seconds) || seconds <= 0) {
            config_complain(check, PATH("cas[%u].crl.lifetime", i), "'%s': expected a duration like 7d",
                     crl->lifetime);
        }
        if (crl->on_revocation && (!config_duration(crl->on_revocation, &seconds) || seconds < 0)) {
            config_complain(check, PATH("cas[%u].crl.on_revocation", i),
                     "'%s': expected a duration like 60s, or 0s: on schedule alone",
                     crl->on_revocation);
        }
        if (crl->every_s > 0 && crl->lifetime_s <= crl->every_s) {
            config_complain(check, PATH("cas[%u].crl.lifetime", i),
                     "'%s': expected more than every, '%s': a list must live until the next one",
                     crl->lifetime, crl->every);
        }
    }
}

static void check_profiles(struct check *check)
{
    const struct config *config = check->config;
    static const char *const bases[] = {"tls-device", "idevid", NULL};
    static const char *const sans[] = {"request", "forbidden", NULL};
    char path[128];
    for (uint32_t i = 0; i < config->profiles_count; i++) {
        const struct config_profile *profile = &config->profiles[i];
        int64_t seconds = 0;
        if (!is_one_of(profile->base, bases)) {
            config_complain(check, PATH("profiles[%u].base", i), "'%s': expected tls-device or idevid",
                     profile->base);
        }
        if (profile->validity && (!config_duration(profile->validity, &seconds) || seconds == 0)) {
            config_complain(check, PATH("profiles[%u].validity", i),
                     "'%s': expected a duration like 398d, 10y, 12h, or none", profile->validity);
        }
        if (profile->backdate && (!config_duration(profile->backdate, &seconds) || seconds < 0)) {
            config_complain(check, PATH("profiles[%u].backdate", i), "'%s': expected a duration like 60s",
                     profile->backdate);
        }
        if (profile->crl_url && strncmp(profile->crl_url, "http://", 7) != 0 &&
            strncmp(profile->crl_url, "https://", 8) != 0) {
            config_complain(check, PATH("profiles[%u].crl_url", i),
                     "'%s': expected a URL like http://pki.example/crl/issuing.crl",
                     profile->crl_url);
        }
        if (profile->san && !is_one_of(profile->san, sans)) {
            config_complain(check, PATH("profiles[%u].san", i), "'%s': expected request or forbidden",
                     profile->san);
        }
    }
}

static void check_stations(struct check *check)
{
    const struct config *config = check->config;
    static const char *const roles[] = {"enroll", "rework", "confirm", "revoke", "ra", NULL};
    char path[128];
    for (uint32_t i = 0; i < config->stations_count; i++) {
        const struct config_station *station = &config->stations[i];
        if (!station->password_hash && !station->certificate_subject && !station->cmp_secret_file) {
            config_complain(check, PATH("stations[%u].password_hash", i),
                     "expected password_hash, certificate_subject or cmp_secret_file");
        }
        for (uint32_t k = 0; k < station->roles_count; k++) {
            if (!is_one_of(station->roles[k], roles)) {
                config_complain(check, PATH("stations[%u].roles[%u]", i, k),
                         "'%s': expected enroll, rework, confirm, revoke or ra", station->roles[k]);
            }
        }
        for (uint32_t k = 0; k < station->lines_count; k++) {
            if (!HAS_NAME(config, lines, station->lines[k])) {
                config_complain(check, PATH("stations[%u].lines[%u]", i, k), "there is no line '%s'",
                         station->lines[k]);
            }
        }
    }
}

static bool is_marked_as_test(const struct config *config, const char *ca_name)
{
    for (uint32_t i = 0; i < config->cas_count; i++) {
        if (strcmp(config->cas[i].name, ca_name) == 0) {
            return config->cas[i].test;
        }
    }
    return false;
}

static void check_lines(struct check *check)
{
    const struct config *config = check->config;
    static const char *const ids[] = {"subject-cn", "subject-serial-number", "san-dns",
                                      "san-uri",    "san-hardware-module",   NULL};
    char path[128];
    for (uint32_t i = 0; i < config->lines_count; i++) {
        const struct config_line *line = &config->lines[i];
        if (!HAS_NAME(config, cas, line->ca)) {
            config_complain(check, PATH("lines[%u].ca", i), "there is no ca '%s'", line->ca);
        }
        if (!line->test && is_marked_as_test(config, line->ca)) {
            config_complain(check, PATH("lines[%u].test", i),
                     "ca '%s' is marked as test: every line that uses it needs test: true",
                     line->ca);
        }
        if (!HAS_NAME(config, profiles, line->profile)) {
            config_complain(check, PATH("lines[%u].profile", i), "there is no profile '%s'",
                     line->profile);
        }
        if (!is_one_of(line->device_id, ids)) {
            config_complain(check, PATH("lines[%u].device_id", i),
                     "'%s': expected subject-cn, subject-serial-number, san-dns, san-uri or "
                     "san-hardware-module",
                     line->device_id);
        }
        if (line->base64_wrap != 0 && line->base64_wrap != 64 && line->base64_wrap != 76) {
            config_complain(check, PATH("lines[%u].base64_wrap", i), "expected 0, 64 or 76");
        }
    }
    if (config->default_line && !HAS_NAME(config, lines, config->default_line)) {
        config_complain(check, "default_line", "there is no line '%s'", config->default_line);
    }
}

bool config_ca_is_test(const struct config *config, const struct config_ca *ca)
{
    bool used = false;
    for (uint32_t i = 0; i < config->lines_count; i++) {
        if (strcmp(config->lines[i].ca, ca->name) == 0) {
            used = true;
            if (!config->lines[i].test) {
                return false;
            }
        }
    }
    return used || ca->test;
}

bool config_check(const struct config *config, const struct config_places *places,
                  char error[CONFIG_ERROR_MAX])
{
    struct check check = {config, places, error, true};
    CHECK_NAMES(&check, tokens, 64);
    CHECK_NAMES(&check, cas, 64);
    CHECK_NAMES(&check, profiles, 64);
    CHECK_NAMES(&check, stations, STATION_NAME_MAX);
    CHECK_NAMES(&check, lines, LINE_NAME_MAX);
    check_listeners(&check);
    check_tokens(&check);
    check_crls(&check);
    check_profiles(&check);
    check_stations(&check);
    check_lines(&check);
    CHECK_NAMES(&check, cmp_signers, 64);
    config_cmp_check(&check);
    return check.good;
}
