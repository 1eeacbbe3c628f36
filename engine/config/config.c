#include "config/config.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/config_internal.h"

/* libcyaml says what is wrong in one message and where in the next ones (a backtrace, innermost
 * first): the first of each makes the error. */
struct cyaml_capture {
    char what[512];
    unsigned line;
};

static void capture_log(cyaml_log_t level, void *ctx, const char *fmt, va_list args)
{
    struct cyaml_capture *capture = ctx;
    char text[512];
    if (level < CYAML_LOG_ERROR) {
        return;
    }
    vsnprintf(text, sizeof(text), fmt, args);
    text[strcspn(text, "\n")] = 0;
    const char *line = strstr(text, "line: ");
    if (line && capture->line == 0) {
        capture->line = (unsigned)strtoul(line + 6, NULL, 10);
    }
    if (capture->what[0] == 0) {
        const char *start = strncmp(text, "Load: ", 6) == 0 ? text + 6 : text;
        snprintf(capture->what, sizeof(capture->what), "%s", start);
    }
}

static const cyaml_config_t CYAML = {
    .log_fn = capture_log,
    .log_level = CYAML_LOG_ERROR,
    .mem_fn = cyaml_mem,
    .flags = CYAML_CFG_DEFAULT,
};

static char *folder_of(const char *path)
{
    char real[PATH_MAX];
    if (!realpath(path, real)) {
        return NULL;
    }
    char *slash = strrchr(real, '/');
    *(slash == real ? slash + 1 : slash) = 0;
    return strdup(real);
}

enum err config_load(const char *path, struct config **out, char out_error[CONFIG_ERROR_MAX])
{
    if (access(path, R_OK) != 0) {
        snprintf(out_error, CONFIG_ERROR_MAX, "%s: %s", path, strerror(errno));
        return ERR_CONFIG;
    }
    struct cyaml_capture capture = {0};
    cyaml_config_t cyaml = CYAML;
    cyaml.log_ctx = &capture;
    struct config *config = NULL;
    cyaml_err_t bad = cyaml_load_file(path, &cyaml, &CONFIG_SCHEMA, (cyaml_data_t **)&config, NULL);
    if (bad != CYAML_OK || !config) {
        if (capture.line > 0) {
            snprintf(out_error, CONFIG_ERROR_MAX, "%s:%u: %s", path, capture.line, capture.what);
        } else {
            snprintf(out_error, CONFIG_ERROR_MAX, "%s: %s (%s)", path,
                     config ? cyaml_strerror(bad) : "the file is empty or not a mapping",
                     capture.what);
        }
        return ERR_CONFIG;
    }
    config->dir = folder_of(path);
    config->path = realpath(path, NULL);
    config_defaults(config);
    struct config_places *places = config_places_read(path);
    bool good = config->dir && config->path && config_check(config, places, out_error);
    config_places_free(places);
    if (!good) {
        config_free(config);
        return ERR_CONFIG;
    }
    *out = config;
    return ERR_OK;
}

void config_free(struct config *config)
{
    if (!config) {
        return;
    }
    free(config->dir);
    free(config->path);
    config->dir = config->path = NULL;
    cyaml_config_t cyaml = CYAML;
    struct cyaml_capture capture = {0};
    cyaml.log_ctx = &capture;
    cyaml_free(&cyaml, &CONFIG_SCHEMA, config, 0);
}

char *config_path(const struct config *config, const char *name)
{
    if (!name) {
        return NULL;
    }
    char *out = NULL;
    int len =
        name[0] == '/' ? asprintf(&out, "%s", name) : asprintf(&out, "%s/%s", config->dir, name);
    return len < 0 ? NULL : out;
}

bool config_duration(const char *text, int64_t *out_s)
{
    static const struct {
        char unit;
        int64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'y', 365 * 86400}};
    if (strcmp(text, "none") == 0) {
        *out_s = -1;
        return true;
    }
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || errno != 0 || number > 1000000 || end[0] == 0 ||
        end[1] != 0) {
        return false;
    }
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (units[i].unit == *end) {
            *out_s = (int64_t)number * units[i].seconds;
            return true;
        }
    }
    return false;
}
