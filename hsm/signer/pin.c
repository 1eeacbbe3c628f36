#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/log.h"
#include "base/secret.h"
#include "hsm/signer/signer.h"

enum { PIN_PAGE = 4096, PIN_PATH_MAX = 4096 };

/* Memory that is not swapped out and not dumped. */
static char *pin_page(void)
{
    char *page = mmap(NULL, PIN_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return NULL;
    if (mlock(page, PIN_PAGE) != 0)
        log_warn("pin-not-locked", "error=\"%s\" raise LimitMEMLOCK", strerror(errno));
    (void)madvise(page, PIN_PAGE, MADV_DONTDUMP);
    return page;
}

static bool read_file(const char *path, struct pin *out, char *reason, size_t reason_cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) {
        snprintf(reason, reason_cap, "PIN file %s: %s", path, strerror(errno));
        return false;
    }
    size_t len = 0;
    ssize_t n;
    while (len < P11_PIN_MAX + 2 && (n = read(fd, out->text + len, P11_PIN_MAX + 2 - len)) > 0)
        len += (size_t)n;
    close(fd);
    /* one line end is the editor's */
    if (len != 0 && out->text[len - 1] == '\n')
        len--;
    if (len != 0 && out->text[len - 1] == '\r')
        len--;
    if (len == 0 || len > P11_PIN_MAX || memchr(out->text, '\n', len) != NULL) {
        snprintf(reason, reason_cap, "PIN file %s: one line of 1 to %d characters is expected",
                 path, P11_PIN_MAX);
        return false;
    }
    out->len = len;
    return true;
}

static bool read_env(const char *name, struct pin *out, char *reason, size_t reason_cap)
{
    char *value = getenv(name);
    size_t len = value == NULL ? 0 : strlen(value);
    if (len == 0 || len > P11_PIN_MAX) {
        snprintf(reason, reason_cap, "PIN variable %s is not set, empty or too long", name);
        return false;
    }
    memcpy(out->text, value, len);
    out->len = len;
    secret_wipe(value, len); /* /proc/self/environ shows this memory */
    unsetenv(name);
    return true;
}

static bool read_credential(const char *name, struct pin *out, char *reason, size_t reason_cap)
{
    char path[PIN_PATH_MAX];
    const char *folder = getenv("CREDENTIALS_DIRECTORY");
    if (folder == NULL || strchr(name, '/') != NULL ||
        (size_t)snprintf(path, sizeof(path), "%s/%s", folder, name) >= sizeof(path)) {
        snprintf(reason, reason_cap,
                 "PIN credential %s: no CREDENTIALS_DIRECTORY (LoadCredential= in the unit)", name);
        return false;
    }
    return read_file(path, out, reason, reason_cap);
}

bool pin_read(const struct wire_signer *config, struct pin *out, char *reason, size_t reason_cap)
{
    int sources =
        (config->pin_file != NULL) + (config->pin_env != NULL) + (config->pin_credential != NULL);
    *out = (struct pin){0};
    if (sources == 0)
        return true;
    if (sources > 1) {
        snprintf(reason, reason_cap, "more than one of pin_file, pin_env and pin_credential");
        return false;
    }
    struct pin pin = {.text = pin_page()};
    if (pin.text == NULL) {
        snprintf(reason, reason_cap, "no memory for the PIN");
        return false;
    }
    bool ok = config->pin_file != NULL ? read_file(config->pin_file, &pin, reason, reason_cap)
              : config->pin_env != NULL
                  ? read_env(config->pin_env, &pin, reason, reason_cap)
                  : read_credential(config->pin_credential, &pin, reason, reason_cap);
    if (!ok) {
        pin_wipe(&pin);
        return false;
    }
    *out = pin;
    return true;
}

void pin_wipe(struct pin *pin)
{
    if (pin->text == NULL)
        return;
    secret_wipe(pin->text, PIN_PAGE);
    munmap(pin->text, PIN_PAGE);
    *pin = (struct pin){0};
}
