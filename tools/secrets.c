/* PINs and passwords: read, never printed, wiped. */
#include "base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/files.h"

void secret_clear(struct secret *secret)
{
    secret_wipe(secret, sizeof(*secret));
}

void secret_drop_line_end(struct secret *secret)
{
    if (secret->len > 0 && secret->data[secret->len - 1] == '\n')
        secret->len--;
    if (secret->len > 0 && secret->data[secret->len - 1] == '\r')
        secret->len--;
}

static void warn_if_open(const char *path, int fd)
{
    struct stat info;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && (info.st_mode & 0077) != 0)
        cli_warn("%s: others may read it: chmod 600", path);
}

int secret_from_file(const char *path, const char *what, struct secret *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return cli_fail("%s: %s: put the %s there", path, strerror(errno), what);
    warn_if_open(path, fd);
    ssize_t got = 1;
    out->len = 0;
    while (out->len < sizeof(out->data) && got > 0) {
        got = read(fd, out->data + out->len, sizeof(out->data) - out->len);
        out->len += got > 0 ? (size_t)got : 0;
    }
    int error = errno;
    close(fd);
    if (got < 0)
        return cli_fail("%s: %s: put the %s there", path, strerror(error), what);
    secret_drop_line_end(out);
    /* as the signers want it */
    if (out->len == 0 || out->len > SECRET_MAX || memchr(out->data, '\n', out->len))
        return cli_fail("%s: one line of 1 to %d characters is expected: put the %s alone there",
                        path, SECRET_MAX, what);
    return CLI_DONE;
}

static int from_environment(const char *name, struct secret *out)
{
    const char *value = getenv(name);
    if (!value)
        return cli_fail("the environment has no %.128s: set it to the PIN", name);
    size_t len = strlen(value);
    if (len == 0 || len > SECRET_MAX)
        return cli_fail("environment variable %.128s: 1 to %d characters are expected: set it to "
                        "the PIN",
                        name, SECRET_MAX);
    memcpy(out->data, value, len);
    out->len = len;
    return CLI_DONE;
}

/* systemd.exec(5), LoadCredential= */
static bool credential_path(const char *name, char *out, size_t cap)
{
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    return folder && (size_t)snprintf(out, cap, "%s/%s", folder, name) < cap;
}

int secret_pin(const struct config *config, const struct config_token *token, struct secret *out)
{
    char path[PATH_MAX];
    if (token->pin_env)
        return from_environment(token->pin_env, out);
    if (token->pin_file) {
        char *file = config_path(config, token->pin_file);
        int status = secret_from_file(file ? file : token->pin_file, "PIN", out);
        free(file);
        return status;
    }
    if (!credential_path(token->pin_credential, path, sizeof(path)))
        return cli_fail("there is no CREDENTIALS_DIRECTORY for pin_credential '%.64s': run this "
                        "through systemd-run with LoadCredential=%.64s:FILE",
                        token->pin_credential, token->pin_credential);
    return secret_from_file(path, "PIN", out);
}

void secret_pin_place(const struct config *config, const struct config_token *token, char *out,
                      size_t cap)
{
    char *file = token->pin_file ? config_path(config, token->pin_file) : NULL;
    if (token->pin_env)
        snprintf(out, cap, "environment variable %s", token->pin_env);
    else if (file)
        snprintf(out, cap, "%s", file);
    else
        snprintf(out, cap, "credential %s", token->pin_credential ? token->pin_credential : "?");
    free(file);
}
