/* test_hsm_token.h: for the tests of hsm: a SoftHSM token in a folder of its own, keys in it, and
 * cores that are plain threads.
 */
#ifndef CERTMILL_TEST_HSM_TOKEN_H
#define CERTMILL_TEST_HSM_TOKEN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "crypto/verify.h"
#include "hsm/p11/token.h"
#include "hsm/queue/queue.h"

#define SOFTHSM_MODULE "/usr/lib/softhsm/libsofthsm2.so"
#define TEST_PIN       "test-4711"
#define TEST_TOKEN     "certmill-test"
#define TEST_TOKEN_URI "pkcs11:token=certmill-test"

static char test_folder[64];

static inline const char *test_path(const char *name)
{
    static char path[4][256];
    static unsigned turn;
    char *out = path[turn++ % 4];
    snprintf(out, sizeof(path[0]), "%s/%s", test_folder, name);
    return out;
}

static inline void test_write(const char *name, const char *text)
{
    FILE *file = fopen(test_path(name), "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static inline int test_remove_one(const char *path, const struct stat *st, int flag, struct FTW *at)
{
    (void)st;
    (void)flag;
    (void)at;
    return remove(path);
}

static inline void test_folder_remove(void)
{
    if (test_folder[0] != 0)
        nftw(test_folder, test_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* An empty SoftHSM with one token; SOFTHSM2_CONF is set for us and for signers. */
static inline void test_folder_make(void)
{
    char conf[256];
    snprintf(test_folder, sizeof(test_folder), "/tmp/certmill-hsm-XXXXXX");
    assert_non_null(mkdtemp(test_folder));
    assert_int_equal(mkdir(test_path("tokens"), 0700), 0);
    snprintf(conf, sizeof(conf), "directories.tokendir = %s\nlog.level = ERROR\n",
             test_path("tokens"));
    test_write("softhsm.conf", conf);
    test_write("pin", TEST_PIN "\n");
    test_write("bad-pin", "wrong-0815\n");
    setenv("SOFTHSM2_CONF", test_path("softhsm.conf"), 1);
}

static inline struct p11_module *test_module_open(void)
{
    struct p11_module *module = NULL;
    struct p11_error error = {0};
    if (p11_module_open(SOFTHSM_MODULE, &module, &error) != ERR_OK)
        fail_msg("%s", error.text);
    return module;
}

/* SoftHSM shows a free slot only after C_Initialize: sessions that are open die. */
static inline void test_token_make(struct p11_module *module, const char *label)
{
    struct p11_token_info tokens[8];
    struct p11_error error = {0};
    uint32_t count, at = 0;
    assert_int_equal(p11_module_reinitialize(module, &error), ERR_OK);
    assert_int_equal(p11_token_list(module, tokens, 8, &count, &error), ERR_OK);
    while (at < count && tokens[at].initialized)
        at++;
    assert_true(at < count);
    if (p11_token_init(module, tokens[at].slot, label, BYTES_LIT("so-4711"), BYTES_LIT(TEST_PIN),
                       &error) != ERR_OK)
        fail_msg("%s", error.text);
}

static inline struct p11_session *test_session(struct p11_module *module, const char *uri)
{
    struct p11_session *session = NULL;
    struct p11_error error = {0};
    if (p11_session_open(module, uri, true, &session, &error) != ERR_OK ||
        p11_login(session, BYTES_LIT(TEST_PIN), &error) != ERR_OK)
        fail_msg("%s", error.text);
    return session;
}

/* SoftHSM 2.6.1 leaks a little with each use of an Ed25519 key. */
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/lsan_interface.h>
#define TEST_LEAKS_BEGIN() __lsan_disable()
#define TEST_LEAKS_END()   __lsan_enable()
#else
#define TEST_LEAKS_BEGIN() ((void)0)
#define TEST_LEAKS_END()   ((void)0)
#endif

static inline void test_key_make(struct p11_session *session, enum key_alg alg, uint32_t bits,
                                 const char *label, bool extractable, struct p11_key *out)
{
    struct p11_error error = {0};
    const struct p11_key_template template = {
        .alg = alg, .bits = bits, .label = label, .extractable = extractable};
    TEST_LEAKS_BEGIN();
    enum err err = p11_key_generate(session, &template, out, &error);
    TEST_LEAKS_END();
    if (err != ERR_OK)
        fail_msg("%s: %s", label, error.text);
}

/* build/tests/test_x and build/bin/certmill-signer */
static inline const char *test_signer_path(void)
{
    static char path[512];
    ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 64);
    assert_true(len > 0);
    path[len] = 0;
    *strrchr(path, '/') = 0;
    snprintf(strrchr(path, '/'), 64, "/bin/certmill-signer");
    return path;
}

/* --- cores --- */

static inline void test_wakes_make(struct wake wakes[], uint32_t count)
{
    struct wake_flag *flags = hsm_wake_flags(count);
    assert_non_null(flags);
    for (uint32_t i = 0; i < count; i++) {
        wakes[i].flag = &flags[i];
        wakes[i].event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        assert_true(wakes[i].event_fd >= 0);
    }
}

static inline void test_wakes_close(struct wake wakes[], uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        close(wakes[i].event_fd);
}

/* What a core does at the end of a turn. */
static inline void test_core_sleep(struct hsm *hsm, uint32_t core, const struct wake *wake,
                                   uint64_t latest_ns)
{
    wake_prepare(wake);
    uint64_t now = clock_mono_ns(), next = hsm_next_deadline(hsm, core);
    if (next > latest_ns)
        next = latest_ns;
    if (!hsm_pending(hsm, core) && next > now) {
        struct pollfd wait = {.fd = wake->event_fd, .events = POLLIN};
        uint64_t ms = (next - now + NS_PER_MS - 1) / NS_PER_MS;
        poll(&wait, 1, ms > 1000 ? 1000 : (int)ms);
    }
    wake_cancel(wake);
    uint64_t count;
    (void)!read(wake->event_fd, &count, sizeof(count));
}

/* The main thread of an engine: supervises until told to stop. */
struct test_supervisor {
    struct hsm *hsm;
    _Atomic bool stop;
    pthread_t thread;
};

static inline void *test_supervise(void *arg)
{
    struct test_supervisor *self = arg;
    while (!atomic_load(&self->stop)) {
        struct pollfd wait = {.fd = hsm_supervise_fd(self->hsm), .events = POLLIN};
        poll(&wait, 1, 20);
        hsm_supervise(self->hsm);
    }
    return NULL;
}

#endif
