/* own_token.h: tokens that a benchmark makes for itself in /tmp and removes when it ends.
 *
 * Promise: a new token with one P-256 key, and a PIN file beside it. Included by one program's one
 *          source file. What goes wrong ends the program.
 * Threads: before there are any; forks, so that the benchmark itself never maps a module.
 */
#ifndef CERTMILL_BENCH_OWN_TOKEN_H
#define CERTMILL_BENCH_OWN_TOKEN_H

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hsm/p11/token.h"

enum { OWN_PATH_MAX = 600 };

struct own_token {
    char module[OWN_PATH_MAX];
    char pin_file[OWN_PATH_MAX];
};

#define OWN_TOKEN_URI "pkcs11:token=bench"
#define OWN_KEY_URI   "pkcs11:object=key"
#define OWN_PIN       "4711"

static char own_folder[64];

static _Noreturn void die(const char *what, const char *detail)
{
    fprintf(stderr, "micro_hsm: %s: %s\n", what, detail);
    exit(1);
}

static int own_remove_one(const char *path, const struct stat *st, int flag, struct FTW *at)
{
    (void)st;
    (void)flag;
    (void)at;
    return remove(path);
}

static void own_remove(void)
{
    if (nftw(own_folder, own_remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        fprintf(stderr, "micro_hsm: %s is left behind\n", own_folder);
}

/* A file in the folder, which is made with the first; its path in `out`. */
static void own_write(const char *name, const char *text, char out[OWN_PATH_MAX])
{
    if (own_folder[0] == 0) {
        snprintf(own_folder, sizeof(own_folder), "/tmp/micro-hsm-XXXXXX");
        if (mkdtemp(own_folder) == NULL)
            die("mkdtemp", strerror(errno));
        atexit(own_remove);
    }
    snprintf(out, OWN_PATH_MAX, "%s/%s", own_folder, name);
    FILE *file = fopen(out, "w");
    if (file == NULL)
        die(out, strerror(errno));
    fputs(text, file);
    fclose(file);
}

static void own_fill(const char *module_path)
{
    static struct p11_key key;
    struct p11_module *module;
    struct p11_session *session;
    struct p11_error error = {0};
    struct p11_token_info tokens[4];
    uint32_t count;
    const struct p11_key_template template = {.alg = KEY_EC_P256, .label = "key"};
    if (p11_module_open(module_path, &module, &error) != ERR_OK ||
        p11_token_list(module, tokens, 4, &count, &error) != ERR_OK ||
        p11_token_init(module, tokens[0].slot, "bench", BYTES_LIT(OWN_PIN), BYTES_LIT(OWN_PIN),
                       &error) != ERR_OK ||
        p11_session_open(module, OWN_TOKEN_URI, true, &session, &error) != ERR_OK ||
        p11_login(session, BYTES_LIT(OWN_PIN), &error) != ERR_OK ||
        p11_key_generate(session, &template, &key, &error) != ERR_OK) {
        fprintf(stderr, "micro_hsm: %s: %s\n", module_path, error.text);
        _exit(1);
    }
    p11_session_close(session);
    p11_module_close(module);
    _exit(0);
}

static void own_make(struct own_token *token)
{
    int status = 1;
    own_write("pin", OWN_PIN "\n", token->pin_file);
    pid_t pid = fork();
    if (pid == 0)
        own_fill(token->module);
    waitpid(pid, &status, 0);
    if (status != 0)
        die(token->module, "no token could be made");
}

static void own_softhsm(struct own_token *out)
{
    char conf[OWN_PATH_MAX], text[256];
    snprintf(text, sizeof(text), "directories.tokendir = %s\nlog.level = ERROR\n", own_folder);
    own_write("softhsm.conf", text, conf);
    setenv("SOFTHSM2_CONF", conf, 1);
    snprintf(out->module, sizeof(out->module), "/usr/lib/softhsm/libsofthsm2.so");
    own_make(out);
}

/* So many engines that take so long each. */
static void own_sim(uint32_t engines, uint32_t service_us, struct own_token *out)
{
    char yaml[OWN_PATH_MAX], text[256], self[512];
    snprintf(text, sizeof(text),
             "token: {directory: sim}\nengines: %u\nsessions_max: 4096\n"
             "service: [{constant_us: %u}]\n",
             engines, service_us);
    own_write("sim.yaml", text, yaml);
    setenv("CERTMILL_HSMSIM_CONFIG", yaml, 1);
    ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
    if (len <= 0)
        die("/proc/self/exe", strerror(errno));
    self[len] = 0;
    *strrchr(self, '/') = 0;
    snprintf(out->module, sizeof(out->module), "%s/libcertmill-hsmsim.so", self);
    own_make(out);
}

#endif
