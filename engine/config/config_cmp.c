/* CMP's part of the configuration: defaults, and what a schema cannot say. */
#include <stdio.h>
#include <string.h>

#include "config/config_internal.h"

void config_cmp_defaults(struct config *config)
{
    for (uint32_t i = 0; i < config->stations_count; i++) {
        struct config_station *station = &config->stations[i];
        if (station->cmp_secret_file) {
            config_default_text(&station->cmp_reference, station->name);
        }
    }
    for (uint32_t i = 0; i < config->lines_count; i++) {
        struct config_cmp *cmp = config->lines[i].cmp;
        if (!cmp) {
            continue;
        }
        config_default_text(&cmp->mode, "open");
        config_default_text(&cmp->confirm_wait, "5m");
        config_default_text(&cmp->time_window, "5m");
        config_default_text(&cmp->batch, "each");
        bool strict = strcmp(cmp->mode, "strict") == 0;
        config_default_switch(&cmp->implicit_confirm, true);
        config_default_switch(&cmp->lenient_sender, !strict);
        config_default_switch(&cmp->require_time, false);
        config_default_switch(&cmp->keygen, false);
        if (cmp->requests_max == 0) {
            cmp->requests_max = strict ? 1 : CMP_REQUESTS_PER_MESSAGE_MAX;
        }
        if (cmp->poll_after == 0) {
            cmp->poll_after = 10;
        }
    }
}

static void check_signers(struct check *check)
{
    const struct config *config = check->config;
    char path[128];
    for (uint32_t i = 0; i < config->cmp_signers_count; i++) {
        const struct config_cmp_signer *signer = &config->cmp_signers[i];
        if (!signer->key_file == !signer->key) {
            config_complain(check, PATH("cmp_signers[%u].key_file", i),
                            "expected exactly one of key_file and key");
        }
        if (signer->key && strncmp(signer->key, "pkcs11:", 7) != 0) {
            config_complain(check, PATH("cmp_signers[%u].key", i),
                            "'%s': expected pkcs11:object=...", signer->key);
        }
        for (uint32_t k = 0; k < signer->tokens_count; k++) {
            if (!config_has_name(config->tokens, config->tokens_count, sizeof(config->tokens[0]),
                                 signer->tokens[k])) {
                config_complain(check, PATH("cmp_signers[%u].tokens[%u]", i, k),
                                "there is no token '%s'", signer->tokens[k]);
            }
        }
    }
}

static void check_references(struct check *check)
{
    const struct config *config = check->config;
    char path[128];
    for (uint32_t i = 0; i < config->stations_count; i++) {
        const char *reference = config->stations[i].cmp_reference;
        for (uint32_t k = 0; reference && k < i; k++) {
            const char *other = config->stations[k].cmp_reference;
            if (other && strcmp(reference, other) == 0) {
                config_complain(check, PATH("stations[%u].cmp_reference", i), "'%s' is used twice",
                                reference);
            }
        }
    }
}

static void check_line(struct check *check, uint32_t index, const struct config_cmp *cmp)
{
    const struct config *config = check->config;
    char path[128];
    int64_t seconds = 0;
    if (cmp->signer && !config_has_name(config->cmp_signers, config->cmp_signers_count,
                                        sizeof(config->cmp_signers[0]), cmp->signer)) {
        config_complain(check, PATH("lines[%u].cmp.signer", index), "there is no cmp_signer '%s'",
                        cmp->signer);
    }
    if (cmp->keygen && !cmp->signer) {
        config_complain(check, PATH("lines[%u].cmp.keygen", index),
                        "keys that are made here are signed for: expected a signer");
    }
    bool open = strcmp(cmp->mode, "open") == 0, strict = strcmp(cmp->mode, "strict") == 0;
    if (!open && !strict) {
        config_complain(check, PATH("lines[%u].cmp.mode", index), "'%s': expected open or strict",
                        cmp->mode);
    }
    if (strcmp(cmp->batch, "each") != 0 && strcmp(cmp->batch, "whole") != 0) {
        config_complain(check, PATH("lines[%u].cmp.batch", index), "'%s': expected each or whole",
                        cmp->batch);
    }
    if (!config_duration(cmp->confirm_wait, &seconds) || seconds < 1 ||
        seconds > CMP_CONFIRM_WAIT_MAX_S) {
        config_complain(check, PATH("lines[%u].cmp.confirm_wait", index),
                        "'%s': expected a duration like 5m, at most 30d", cmp->confirm_wait);
    }
    if (!config_duration(cmp->time_window, &seconds) || seconds == 0) {
        config_complain(check, PATH("lines[%u].cmp.time_window", index),
                        "'%s': expected a duration like 5m, or none", cmp->time_window);
    }
    if (cmp->requests_max > (strict ? 1u : (uint32_t)CMP_REQUESTS_PER_MESSAGE_MAX)) {
        config_complain(check, PATH("lines[%u].cmp.requests_max", index), "expected 1 to %d",
                        strict ? 1 : CMP_REQUESTS_PER_MESSAGE_MAX);
    }
    if (cmp->poll_after > 86400) {
        config_complain(check, PATH("lines[%u].cmp.poll_after", index),
                        "expected seconds, at most 86400");
    }
}

/* Host, port if not 80, and path; without TLS: the message protects itself. */
static bool is_http_url(const char *url)
{
    if (strncmp(url, "http://", 7) != 0 || strlen(url) > 1000) {
        return false;
    }
    for (const char *at = url; *at; at++) {
        if (*at <= ' ' || *at > '~') {
            return false;
        }
    }
    size_t host = strcspn(url + 7, "/");
    const char *bracket = url[7] == '[' ? memchr(url + 7, ']', host) : url + 7;
    const char *colon = bracket ? memchr(bracket, ':', host - (size_t)(bracket - url - 7)) : NULL;
    size_t port = colon ? host - (size_t)(colon + 1 - url - 7) : 1;
    return host > 0 && host < 256 && bracket && colon != url + 7 && port >= 1 && port <= 5 &&
           (!colon || strspn(colon + 1, "0123456789") >= port);
}

static void check_announce(struct check *check)
{
    const struct config *config = check->config;
    char path[128];
    for (uint32_t i = 0; i < config->cmp_announce_count; i++) {
        if (!is_http_url(config->cmp_announce[i])) {
            config_complain(check, PATH("cmp_announce[%u]", i),
                            "'%.128s': expected a URL like http://127.0.0.1:8080/cmp",
                            config->cmp_announce[i]);
        }
    }
}

void config_cmp_check(struct check *check)
{
    check_announce(check);
    check_signers(check);
    check_references(check);
    for (uint32_t i = 0; i < check->config->lines_count; i++) {
        if (check->config->lines[i].cmp) {
            check_line(check, i, check->config->lines[i].cmp);
        }
    }
}
