/* What does a signer make of a token that fails in each of the ways tokens fail, and what does the
 * engine make of a signer that misbehaves?
 *
 * This program is both sides: started as certmill-signer it is the real signer, with a token behind
 * it that does what a script in shared memory says.
 */
#include "test_hsm_token.h"

#include <signal.h>
#include <sys/mman.h>

#include "hsm/queue/shm.h"

int signer_main(void);
#define main signer_main
#include "hsm/signer/intake.c"
#include "hsm/signer/main.c"
#include "hsm/signer/pin.c"
#include "hsm/signer/station.c"
#include "hsm/signer/worker.c"
#undef main

enum { FOREVER = 0xffffffff, POISON = 0xee };

enum evil { EVIL_NOT, EVIL_COUNTERS, EVIL_SLOT, EVIL_TWICE, EVIL_LENGTH, EVIL_OUTCOME, EVIL_COUNT };

/* Zero is a token that works. */
struct script {
    /* what to do */
    _Atomic uint32_t pin_bad, token_gone, key_gone, module_dead;
    _Atomic uint32_t fail_rv, fail_left;                    /* C_Sign fails so often */
    _Atomic uint32_t session_epoch, login_epoch, key_epoch; /* a step kills all older ones */
    _Atomic uint32_t sign_us;
    _Atomic uint32_t crash_every;
    _Atomic uint32_t most_at_once; /* more are answered with CKR_FUNCTION_FAILED */
    _Atomic uint32_t sessions_max;
    _Atomic uint32_t evil;     /* the next process to start is one */
    _Atomic uint32_t no_start; /* C_Initialize fails */
    /* what was done */
    _Atomic uint32_t starts, logins, finds, opens, reinits, tries, at_once;
};

static struct script *script;

/* --- the token --- */

struct p11_module {
    uint32_t unused;
};

struct p11_session {
    uint32_t session_epoch;
};

static _Atomic uint32_t login_epoch_here = FOREVER; /* of this process's login */
static _Atomic uint32_t sessions_here;

static enum err fake_fail(struct p11_error *error, enum err err, unsigned long rv)
{
    error->rv = rv;
    snprintf(error->text, sizeof(error->text), "fake: %s", rv_name(rv));
    return err;
}

enum err p11_module_open(const char *path, struct p11_module **out, struct p11_error *error)
{
    (void)path;
    static struct p11_module module;
    script->starts++;
    if (script->no_start != 0)
        return fake_fail(error, ERR_SIGNER_FAILED, 0x5);
    *out = &module;
    return ERR_OK;
}

void p11_module_close(struct p11_module *module)
{
    (void)module;
}

enum err p11_module_reinitialize(struct p11_module *module, struct p11_error *error)
{
    (void)module;
    (void)error;
    script->reinits++;
    script->module_dead = 0;
    script->session_epoch++;
    login_epoch_here = FOREVER;
    sessions_here = 0;
    return ERR_OK;
}

enum err p11_session_open(struct p11_module *module, const char *uri, bool read_write,
                          struct p11_session **out, struct p11_error *error)
{
    (void)module;
    (void)uri;
    (void)read_write;
    script->opens++;
    if (script->token_gone != 0)
        return fake_fail(error, ERR_SIGNER_UNAVAILABLE, 0);
    if (script->module_dead != 0)
        return fake_fail(error, ERR_SIGNER_FAILED, 0x190);
    if (script->sessions_max != 0 && sessions_here >= script->sessions_max)
        return fake_fail(error, ERR_SIGNER_FAILED, 0xb1);
    sessions_here++;
    *out = calloc(1, sizeof(**out));
    (*out)->session_epoch = script->session_epoch;
    return ERR_OK;
}

void p11_session_close(struct p11_session *session)
{
    if (session != NULL)
        sessions_here--;
    free(session);
}

void p11_session_forget(struct p11_session *session)
{
    free(session);
}

enum err p11_session_state(struct p11_session *session, bool *out_logged_in,
                           struct p11_error *error)
{
    if (session->session_epoch != script->session_epoch || script->token_gone != 0)
        return fake_fail(error, ERR_SIGNER_FAILED, 0xb3);
    *out_logged_in = login_epoch_here == script->login_epoch;
    return ERR_OK;
}

enum err p11_login(struct p11_session *session, struct bytes pin, struct p11_error *error)
{
    (void)session;
    script->logins++;
    assert_true(bytes_eq(pin, BYTES_LIT(TEST_PIN)));
    if (script->pin_bad != 0)
        return fake_fail(error, ERR_PIN_WRONG, 0xa0);
    login_epoch_here = script->login_epoch;
    return ERR_OK;
}

enum err p11_key_find(struct p11_session *session, const char *uri, struct p11_key *out,
                      struct p11_error *error)
{
    script->finds++;
    if (session->session_epoch != script->session_epoch)
        return fake_fail(error, ERR_SIGNER_FAILED, 0xb3);
    if (script->key_gone != 0 || login_epoch_here != script->login_epoch)
        return fake_fail(error, ERR_KEY_NOT_FOUND, 0);
    *out = (struct p11_key){.private_handle = script->key_epoch, .alg = KEY_EC_P256};
    snprintf(out->label, sizeof(out->label), "%s", uri);
    return ERR_OK;
}

enum err p11_key_check(const struct p11_key *key, bool allow_extractable, struct p11_error *error)
{
    (void)key;
    (void)allow_extractable;
    (void)error;
    return ERR_OK;
}

bool p11_key_signs(const struct p11_key *key, enum sign_mechanism mechanism)
{
    (void)key;
    (void)mechanism;
    return true;
}

/* What this token takes for a signature: depends on the key and the input. */
static void fake_signature(const char *key_uri, struct bytes input, uint8_t out[SHA256_LEN])
{
    uint8_t text[SIGN_INPUT_MAX + 64];
    struct writer writer = writer_of(text, sizeof(text));
    writer_put_str(&writer, key_uri);
    writer_put(&writer, input);
    sha256_once(writer_view(&writer), out);
}

static bool one_of(_Atomic uint32_t *left)
{
    uint32_t now = *left;
    while (now != 0) {
        if (now == FOREVER || atomic_compare_exchange_weak(left, &now, now - 1))
            return true;
    }
    return false;
}

static unsigned long fake_fault(struct p11_session *session, const struct p11_key *key)
{
    if (script->module_dead != 0)
        return 0x190;
    if (script->token_gone != 0)
        return 0x32;
    if (session->session_epoch != script->session_epoch)
        return 0xb3;
    if (login_epoch_here != script->login_epoch)
        return 0x101;
    if (key->private_handle != script->key_epoch)
        return 0x60;
    if (one_of(&script->fail_left))
        return script->fail_rv;
    return 0;
}

enum err p11_sign(struct p11_session *session, const struct p11_key *key,
                  enum sign_mechanism mechanism, struct bytes input, uint8_t *out, size_t cap,
                  size_t *out_len, struct p11_error *error)
{
    (void)mechanism;
    assert_true(cap >= SHA256_LEN);
    uint32_t tries = ++script->tries;
    uint32_t every = script->crash_every;
    if ((every != 0 && tries % every == 0) || (input.len == 32 && input.ptr[31] == POISON))
        kill(getpid(), SIGKILL);
    unsigned long rv = fake_fault(session, key);
    uint32_t at_once = ++script->at_once;
    if (rv == 0 && script->most_at_once != 0 && at_once > script->most_at_once)
        rv = 0x6;
    else if (script->sign_us != 0)
        usleep(script->sign_us);
    script->at_once--;
    if (rv != 0)
        return fake_fail(error, ERR_SIGNER_FAILED, rv);
    fake_signature(key->label, input, out);
    *out_len = SHA256_LEN;
    return ERR_OK;
}

bool sandbox_enter(bool allow_network)
{
    (void)allow_network;
    return true;
}

/* --- a signer that breaks the rules --- */

static void evil_main(enum evil how)
{
    static struct station station;
    if (!attach(&station))
        _exit(1);
    struct shm_core *core = &station.cores[0];
    station_set_state(&station, SHM_READY);
    while (spsc_ready(&core->submit) < 2)
        usleep(100);
    struct shm_done record = {.slot = *(uint32_t *)spsc_slot_out(&core->submit, 0),
                              .outcome = SHM_SIGNED,
                              .signature_len = 16,
                              .service_ns = UINT64_MAX};
    uint32_t count = 1;
    if (how == EVIL_SLOT)
        record.slot = SHM_SLOTS - 1 - record.slot;
    else if (how == EVIL_TWICE)
        count = 2; /* a good one first: the engine cannot know; the pipeline verifies */
    else if (how == EVIL_LENGTH)
        record.signature_len = SHM_INLINE + 1;
    else if (how == EVIL_OUTCOME)
        record.outcome = 77;
    for (uint32_t i = 0; i < count; i++)
        *(struct shm_done *)spsc_slot_in(&core->done, i) = record;
    if (how == EVIL_COUNTERS)
        count = SHM_SLOTS + 1;
    atomic_fetch_add(&core->done.header->tail, count);
    atomic_store(&station.shm->service_ns, UINT64_MAX);
    atomic_store(&station.shm->sleepers, UINT32_MAX);
    atomic_store(&station.shm->searching, 0);
    atomic_store(&station.shm->error_seq, 2);
    memset(station.shm->error_text, 'x', sizeof(station.shm->error_text)); /* no end */
    wake_signal(&station.wakes[0]);
    pause();
}

/* --- the engine's side --- */

enum { JOBS_MAX = 4000, KEYS = 2 };

static struct wake wakes[2];
static const char *const key_uris[KEYS] = {"pkcs11:object=a", "pkcs11:object=b"};

struct book {
    uint32_t submitted, completed, wrong;
    uint32_t errors[ERR_COUNT];
    uint8_t count[JOBS_MAX];
    uint32_t order[JOBS_MAX]; /* tags as they completed */
    uint64_t slowest_ns;
    uint64_t started_ns[JOBS_MAX];
};

static struct book book;

static void input_of(uint32_t tag, uint8_t out[32])
{
    memset(out, 0, 32);
    memcpy(out, &tag, sizeof(tag));
}

static void on_result(void *ctx, const struct sign_result *result)
{
    (void)ctx;
    uint32_t tag = (uint32_t)result->tag;
    assert_true(tag < book.submitted);
    book.order[book.completed++] = tag;
    book.count[tag]++;
    book.errors[result->err]++;
    uint64_t took = clock_mono_ns() - book.started_ns[tag];
    if (took > book.slowest_ns)
        book.slowest_ns = took;
    uint8_t input[32], expected[SHA256_LEN];
    input_of(tag, input);
    fake_signature(key_uris[result->key_index], BYTES_ARRAY(input), expected);
    if (result->err == ERR_OK && (result->signature_len != SHA256_LEN ||
                                  memcmp(result->signature, expected, SHA256_LEN) != 0))
        book.wrong++;
}

static void script_reset(void)
{
    memset((void *)script, 0, sizeof(*script));
    memset(&book, 0, sizeof(book));
}

static struct hsm *try_start(uint32_t signers, uint32_t sessions, const char *rv_classes,
                             enum err expected)
{
    static char pin[256];
    snprintf(pin, sizeof(pin), "%s", test_path("pin"));
    const struct hsm_token_config token = {.name = "fake",
                                           .module_path = "fake",
                                           .uri = "pkcs11:token=fake",
                                           .pin_file = pin,
                                           .signer_count = signers,
                                           .sessions = sessions,
                                           .deadline_ms = 8000,
                                           .rv_classes = rv_classes};
    struct hsm_key_config keys[KEYS];
    for (uint32_t i = 0; i < KEYS; i++)
        keys[i] =
            (struct hsm_key_config){.name = key_uris[i], .uri = key_uris[i], .token_count = 1};
    const struct hsm_config config = {.tokens = &token,
                                      .token_count = 1,
                                      .keys = keys,
                                      .key_count = KEYS,
                                      .signer_path = "/proc/self/exe",
                                      .core_count = 2,
                                      .core_wakes = wakes};
    struct hsm *hsm = NULL;
    assert_int_equal(hsm_start(&config, 20000, &hsm), expected);
    return hsm;
}

static struct hsm *start(uint32_t signers, uint32_t sessions)
{
    script_reset();
    return try_start(signers, sessions, NULL, ERR_OK);
}

/* One more job for this key; false when it is refused. */
static bool submit_one(struct hsm *hsm, uint32_t core, uint32_t key, uint8_t last)
{
    uint8_t input[32];
    enum err err;
    uint32_t tag = book.submitted;
    assert_true(tag < JOBS_MAX);
    input_of(tag, input);
    input[31] = last;
    book.started_ns[tag] = clock_mono_ns();
    const struct sign_job job = {.tag = tag, .key_index = key, .input = BYTES_ARRAY(input)};
    book.submitted++;
    if (hsm_submit(hsm, core, &job, 1, &err) == 1)
        return true;
    assert_true(err == ERR_SIGNER_UNAVAILABLE || err == ERR_FULL);
    book.submitted--;
    return false;
}

static uint32_t turn(struct hsm *hsm, uint32_t core)
{
    hsm_supervise(hsm);
    uint32_t count = hsm_poll(hsm, core, 64, on_result, NULL);
    if (count == 0)
        test_core_sleep(hsm, core, &wakes[core], clock_mono_ns() + 5 * NS_PER_MS);
    return count;
}

/* Keeps `window` jobs of alternating keys in flight on core 0 until `total` have completed. */
static void go(struct hsm *hsm, uint32_t total, uint32_t window)
{
    uint64_t end = clock_mono_ns() + 40 * NS_PER_S;
    uint32_t target = book.completed + total, last = book.submitted + total;
    while (book.completed < target && clock_mono_ns() < end) {
        while (book.submitted < last && book.submitted - book.completed < window &&
               submit_one(hsm, 0, book.submitted % KEYS, 0))
            ;
        turn(hsm, 0);
    }
    assert_true(book.completed >= target);
}

static void wait_all(struct hsm *hsm, uint32_t core)
{
    uint64_t end = clock_mono_ns() + 40 * NS_PER_S;
    while (book.completed < book.submitted && clock_mono_ns() < end)
        turn(hsm, core);
}

static void check_all(uint32_t failed)
{
    assert_int_equal(book.completed, book.submitted);
    for (uint32_t i = 0; i < book.submitted; i++)
        assert_int_equal(book.count[i], 1);
    assert_int_equal(book.wrong, 0);
    assert_int_equal(book.errors[ERR_OK] + failed, book.submitted);
}

static struct hsm_token_status token_of(struct hsm *hsm)
{
    struct hsm_token_status status[TOKENS_MAX];
    assert_int_equal(hsm_token_status(hsm, status), 1);
    return status[0];
}

static struct hsm_signer_status status_of(struct hsm *hsm, uint32_t signer)
{
    struct hsm_signer_status status[SIGNERS_MAX];
    hsm_supervise(hsm);
    assert_true(signer < hsm_status(hsm, status));
    return status[signer];
}

static void stop(struct hsm *hsm)
{
    hsm_stop(hsm, 5000);
}

/* --- a token that fails and recovers --- */

static void dead_sessions_are_reopened(void **state)
{
    (void)state;
    struct hsm *hsm = start(1, 4);
    go(hsm, 100, 20);
    for (int i = 0; i < 5; i++) {
        script->session_epoch++;
        go(hsm, 100, 20);
    }
    check_all(0);
    assert_int_equal(script->logins, 1); /* the login outlives a session */
    assert_int_equal(script->starts, 1);
    assert_true(script->opens >= 5 + 5);
    stop(hsm);
}

static void a_lost_login_is_made_once_for_all(void **state)
{
    (void)state;
    struct hsm *hsm = start(1, 8);
    script->sign_us = 500;
    go(hsm, 100, 40);
    script->login_epoch++;
    go(hsm, 200, 40);
    check_all(0);
    assert_int_equal(script->logins, 2);
    stop(hsm);
}

static void a_lost_key_handle_is_found_again(void **state)
{
    (void)state;
    struct hsm *hsm = start(1, 4);
    go(hsm, 100, 20);
    uint32_t finds = script->finds;
    script->key_epoch++;
    go(hsm, 100, 20);
    check_all(0);
    assert_true(script->finds > finds);
    assert_int_equal(script->logins, 1);
    stop(hsm);
}

static void a_dead_module_is_initialized_again_once(void **state)
{
    (void)state;
    struct hsm *hsm = start(1, 8);
    script->sign_us = 500;
    go(hsm, 100, 40);
    script->module_dead = 1;
    go(hsm, 300, 40);
    check_all(0);
    assert_int_equal(script->reinits, 1);
    assert_true(book.slowest_ns < 900 * NS_PER_MS); /* at once, not when retrying did not help */
    assert_int_equal(script->starts, 1);
    stop(hsm);
}

static void a_token_that_errs_for_a_while_loses_no_job(void **state)
{
    (void)state;
    struct hsm *hsm = start(1, 4);
    script->sign_us = 200;
    go(hsm, 200, 40);
    script->fail_rv = 0x30; /* CKR_DEVICE_ERROR */
    script->fail_left = FOREVER;
    uint64_t until = clock_mono_ns() + 1500 * NS_PER_MS;
    bool open = false, refused = false, waiting = false;
    while (clock_mono_ns() < until) {
        if (book.submitted - book.completed < 40)
            refused |= !submit_one(hsm, 0, book.submitted % KEYS, 0);
        turn(hsm, 0);
        struct hsm_token_status token = token_of(hsm);
        open |= status_of(hsm, 0).breaker_open && token.breakers_open == 1;
        waiting |= token.waiting > 0;
        assert_true(token.waiting + token.in_flight <= book.submitted - book.completed);
    }
    assert_true(open && refused); /* the door is shut, rather than work piled up */
    assert_true(waiting);
    assert_true(script->tries < 400); /* and the token is left in peace */
    script->fail_left = 0;
    go(hsm, 200, 40);
    wait_all(hsm, 0);
    check_all(0);
    assert_true(book.slowest_ns < 8000 * NS_PER_MS);
    assert_false(status_of(hsm, 0).breaker_open);
    assert_int_equal(status_of(hsm, 0).restarts, 0);
    usleep(1000);
    hsm_supervise(hsm); /* collects the last counts */
    struct hsm_token_status token = token_of(hsm);
    assert_int_equal(token.waiting + token.in_flight + token.breakers_open, 0);
    assert_int_equal(token.errors[RV_CLASS_RETRY] + token.signed_total, script->tries);
    assert_true(token.errors[RV_CLASS_RETRY] >= 8);
    assert_int_equal(token.errors[RV_CLASS_FATAL] + token.errors[RV_CLASS_REOPEN], 0);
    stop(hsm);
}

static void a_token_that_vanishes_and_returns_is_used_again(void **state)
{
    (void)state;
    struct hsm *hsm = start(1, 4);
    go(hsm, 200, 40);
    script->token_gone = 1;
    uint64_t until = clock_mono_ns() + 1500 * NS_PER_MS;
    while (clock_mono_ns() < until) {
        if (book.submitted - book.completed < 40)
            submit_one(hsm, 0, 0, 0);
        turn(hsm, 0);
    }
    script->login_epoch++; /* it comes back logged out, its sessions dead */
    script->session_epoch++;
    script->token_gone = 0;
    go(hsm, 200, 40);
    wait_all(hsm, 0);
    check_all(0);
    assert_int_equal(script->starts, 1);
    stop(hsm);
}

static void a_throttling_token_is_asked_for_less(void **state)
{
    (void)state;
    struct hsm *hsm = start(1, 16);
    script->sign_us = 1000;
    script->most_at_once = 4;
    go(hsm, 1500, 200);
    check_all(0);
    /* most tries are good ones: the limit was found, not hammered at */
    assert_true(script->tries < 2 * 1500);
    stop(hsm);
}

static void a_stall_is_waited_for_within_the_deadline(void **state)
{
    (void)state;
    struct hsm *hsm = start(1, 2);
    go(hsm, 20, 10);
    script->sign_us = 1500000;
    for (int i = 0; i < 4; i++)
        submit_one(hsm, 0, 0, 0);
    while (script->at_once == 0)
        turn(hsm, 0);
    script->sign_us = 0;
    go(hsm, 100, 20);
    wait_all(hsm, 0);
    check_all(0);
    assert_int_equal(status_of(hsm, 0).restarts, 0);
    stop(hsm);
}

static void fewer_sessions_than_asked_for_still_sign(void **state)
{
    (void)state;
    script_reset();
    script->sessions_max = 3; /* one of them holds the login */
    struct hsm *hsm = try_start(1, 8, NULL, ERR_OK);
    go(hsm, 100, 20);
    check_all(0);
    stop(hsm);
}

/* --- a token that says no --- */

static void a_job_that_is_refused_is_not_repeated(void **state)
{
    (void)state;
    struct hsm *hsm = start(2, 2);
    go(hsm, 10, 5);
    uint32_t tries = script->tries;
    script->fail_rv = 0x21; /* CKR_DATA_LEN_RANGE */
    script->fail_left = 1;
    go(hsm, 10, 5);
    check_all(1);
    assert_int_equal(book.errors[ERR_SIGNER_FAILED], 1);
    assert_int_equal(script->tries, tries + 10);
    stop(hsm);
}

static void classes_can_be_overridden(void **state)
{
    (void)state;
    script_reset();
    struct hsm *hsm = try_start(1, 1, "CKR_DEVICE_ERROR=fatal,0x80000123=reopen", ERR_OK);
    script->fail_rv = 0x30;
    script->fail_left = 1;
    go(hsm, 10, 5);
    check_all(1);
    uint32_t opens = script->opens;
    script->fail_rv = 0x80000123;
    script->fail_left = 1;
    go(hsm, 10, 5);
    check_all(1);
    assert_int_equal(script->opens, opens + 1);
    stop(hsm);
}

static void a_wrong_pin_is_tried_once_by_all_signers(void **state)
{
    (void)state;
    script_reset();
    script->pin_bad = 1;
    try_start(4, 4, NULL, ERR_PIN_WRONG);
    assert_int_equal(script->logins, 1);
    assert_int_equal(script->starts, 1);
}

static void a_pin_that_was_changed_is_tried_once(void **state)
{
    (void)state;
    struct hsm *hsm = start(3, 4);
    assert_int_equal(script->logins, 3);
    script->sign_us = 500;
    go(hsm, 50, 20);
    script->pin_bad = 1;
    script->login_epoch++; /* and all three want to log in again */
    for (int i = 0; i < 20; i++)
        submit_one(hsm, 0, 0, 0);
    wait_all(hsm, 0);
    assert_int_equal(script->logins, 4);
    assert_int_equal(book.errors[ERR_PIN_WRONG], 20);
    check_all(20);
    uint64_t until = clock_mono_ns() + 500 * NS_PER_MS;
    while (clock_mono_ns() < until)
        turn(hsm, 0);
    assert_int_equal(script->logins, 4);
    assert_int_equal(script->starts, 3);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(status_of(hsm, i).state, HSM_SIGNER_FAILED);
    assert_false(submit_one(hsm, 0, 0, 0));
    stop(hsm);
}

static void a_key_that_goes_and_returns(void **state)
{
    (void)state;
    struct hsm *hsm = start(1, 2);
    go(hsm, 20, 10);
    script->key_gone = 1;
    script->key_epoch++;
    for (int i = 0; i < 4; i++)
        submit_one(hsm, 0, 0, 0);
    wait_all(hsm, 0);
    assert_int_equal(book.errors[ERR_KEY_NOT_FOUND], 4);
    script->key_gone = 0;
    usleep(5200000); /* the signer looks every 5 s */
    go(hsm, 20, 10);
    check_all(4);
    stop(hsm);
}

/* --- a signer that dies --- */

static void a_module_that_crashes_now_and_then_loses_no_job(void **state)
{
    (void)state;
    struct hsm *hsm = start(1, 2);
    script->crash_every = 300;
    go(hsm, 1500, 60);
    check_all(0);
    assert_true(status_of(hsm, 0).restarts >= 4);
    stop(hsm);
}

static void a_job_that_crashes_its_signers_fails_alone(void **state)
{
    (void)state;
    struct hsm *hsm = start(2, 1);
    go(hsm, 50, 10);
    assert_true(submit_one(hsm, 0, 0, POISON));
    uint32_t poison = book.submitted - 1;
    for (int i = 0; i < 300; i++) {
        submit_one(hsm, 0, 1, 0);
        turn(hsm, 0);
    }
    wait_all(hsm, 0);
    assert_int_equal(book.count[poison], 1);
    assert_true(book.errors[ERR_SIGNER_FAILED] + book.errors[ERR_DEADLINE] >= 1);
    assert_true(status_of(hsm, 0).restarts + status_of(hsm, 1).restarts <= SIGN_ATTEMPTS_MAX);
    check_all(book.errors[ERR_SIGNER_FAILED] + book.errors[ERR_DEADLINE]);
    assert_true(book.errors[ERR_OK] >= book.submitted - 3);
    stop(hsm);
}

static void a_signer_that_never_starts_is_backed_off(void **state)
{
    (void)state;
    script_reset();
    script->no_start = 1;
    try_start(1, 1, NULL, ERR_SIGNER_UNAVAILABLE);
    assert_int_equal(script->starts, 1);

    struct hsm *hsm = start(1, 1);
    go(hsm, 10, 5);
    script->no_start = 1;
    kill(status_of(hsm, 0).pid, SIGKILL);
    uint64_t until = clock_mono_ns() + 1500 * NS_PER_MS;
    while (clock_mono_ns() < until)
        turn(hsm, 0);
    assert_in_range(script->starts, 3, 7); /* at once, then 0.1, 0.2, 0.4, 0.8 s apart */
    script->no_start = 0;
    until = clock_mono_ns() + 3000 * NS_PER_MS;
    while (status_of(hsm, 0).state != HSM_SIGNER_UP && clock_mono_ns() < until)
        turn(hsm, 0);
    go(hsm, 10, 5);
    check_all(0);
    stop(hsm);
}

static void a_signer_that_breaks_the_rules_is_replaced(void **state)
{
    (void)state;
    for (enum evil how = EVIL_COUNTERS; how < EVIL_COUNT; how++) {
        script_reset();
        script->evil = how;
        struct hsm *hsm = try_start(1, 2, NULL, ERR_OK);
        assert_int_equal(script->evil, EVIL_NOT);
        go(hsm, 100, 20);
        assert_int_equal(book.completed, 100);
        for (uint32_t i = 0; i < 100; i++)
            assert_int_equal(book.count[i], 1);
        assert_int_equal(book.errors[ERR_OK], 100);
        assert_int_equal(book.wrong, how == EVIL_TWICE); /* its first one looked well-formed */
        assert_int_equal(status_of(hsm, 0).restarts, 1);
        stop(hsm);
    }
}

/* --- who gets what --- */

static void a_busy_key_does_not_starve_another(void **state)
{
    (void)state;
    struct hsm *hsm = start(1, 1);
    script->sign_us = 1000;
    go(hsm, 30, 10);
    uint32_t before = book.completed;
    for (int i = 0; i < 400; i++)
        submit_one(hsm, 0, 0, 0);
    uint32_t first = book.submitted;
    for (int i = 0; i < 10; i++)
        submit_one(hsm, 0, 1, 0);
    wait_all(hsm, 0);
    check_all(0);
    uint32_t last_at = 0;
    for (uint32_t i = before; i < book.completed; i++) {
        if (book.order[i] >= first)
            last_at = i - before;
    }
    assert_true(last_at < 150); /* of 410 */
    stop(hsm);
}

static void fast_tokens_are_given_batches(void **state)
{
    (void)state;
    struct hsm *hsm = start(1, 4);
    go(hsm, 200, 100); /* measures */
    uint64_t batches = status_of(hsm, 0).batches_total;
    for (int i = 0; i < 10; i++) {
        static uint8_t inputs[200][32];
        struct sign_job jobs[200];
        enum err err;
        for (uint32_t j = 0; j < 200; j++) {
            uint32_t tag = book.submitted + j;
            input_of(tag, inputs[j]);
            jobs[j] = (struct sign_job){.tag = tag, .input = BYTES_ARRAY(inputs[j])};
        }
        book.submitted += 200;
        assert_int_equal(hsm_submit(hsm, 0, jobs, 200, &err), 200);
        wait_all(hsm, 0);
    }
    check_all(0);
    batches = status_of(hsm, 0).batches_total - batches;
    assert_in_range(batches, 10, 2000 / 8);
    stop(hsm);
}

static void a_full_core_sheds_and_recovers(void **state)
{
    (void)state;
    struct hsm *hsm = start(1, 1);
    static uint8_t input[32];
    struct sign_job job = {.input = BYTES_ARRAY(input), .deadline_ns = clock_mono_ns() + 1};
    enum err err = ERR_OK;
    uint32_t accepted = 0;
    script->sign_us = 100000;
    job.deadline_ns = clock_mono_ns() + 300 * NS_PER_MS;
    while (hsm_submit(hsm, 1, &job, 1, &err) == 1)
        accepted++;
    assert_int_equal(err, ERR_FULL);
    assert_int_equal(accepted, SIGN_JOBS_PER_CORE_MAX);
    script->sign_us = 0;
    book.submitted = 1; /* all have tag 0 */
    uint64_t end = clock_mono_ns() + 5 * NS_PER_S;
    while (accepted != 0 && clock_mono_ns() < end) {
        uint32_t count = 0;
        hsm_supervise(hsm);
        count = hsm_poll(hsm, 1, 1, on_result, NULL);
        book.completed = 0;
        accepted -= count;
        if (count == 0)
            test_core_sleep(hsm, 1, &wakes[1], clock_mono_ns() + 5 * NS_PER_MS);
    }
    assert_int_equal(accepted, 0);
    assert_true(hsm_next_deadline(hsm, 1) == UINT64_MAX);
    memset(&book, 0, sizeof(book));
    for (int i = 0; i < 50; i++)
        assert_true(submit_one(hsm, 1, 0, 0));
    wait_all(hsm, 1);
    check_all(0);
    stop(hsm);
}

/* --- */

static int group_setup(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    return 0;
}

static void map_script(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && ftruncate(fd, sizeof(struct script)) == 0);
    script = mmap(NULL, sizeof(*script), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(script != MAP_FAILED);
    close(fd);
}

int main(int argc, char **argv)
{
    (void)argc;
    const char *path = getenv("TEST_HSM_SCRIPT");
    if (path != NULL && strcmp(argv[0], "certmill-signer") == 0) {
        map_script(path);
        log_set_level(LOG_ERROR);
        enum evil how = (enum evil)atomic_exchange(&script->evil, EVIL_NOT);
        if (how != EVIL_NOT)
            evil_main(how);
        return signer_main();
    }
    cmocka_set_test_filter(getenv("TEST_HSM_FILTER"));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dead_sessions_are_reopened),
        cmocka_unit_test(a_lost_login_is_made_once_for_all),
        cmocka_unit_test(a_lost_key_handle_is_found_again),
        cmocka_unit_test(a_dead_module_is_initialized_again_once),
        cmocka_unit_test(a_token_that_errs_for_a_while_loses_no_job),
        cmocka_unit_test(a_token_that_vanishes_and_returns_is_used_again),
        cmocka_unit_test(a_throttling_token_is_asked_for_less),
        cmocka_unit_test(a_stall_is_waited_for_within_the_deadline),
        cmocka_unit_test(fewer_sessions_than_asked_for_still_sign),
        cmocka_unit_test(a_job_that_is_refused_is_not_repeated),
        cmocka_unit_test(classes_can_be_overridden),
        cmocka_unit_test(a_wrong_pin_is_tried_once_by_all_signers),
        cmocka_unit_test(a_pin_that_was_changed_is_tried_once),
        cmocka_unit_test(a_key_that_goes_and_returns),
        cmocka_unit_test(a_module_that_crashes_now_and_then_loses_no_job),
        cmocka_unit_test(a_job_that_crashes_its_signers_fails_alone),
        cmocka_unit_test(a_signer_that_never_starts_is_backed_off),
        cmocka_unit_test(a_signer_that_breaks_the_rules_is_replaced),
        cmocka_unit_test(a_busy_key_does_not_starve_another),
        cmocka_unit_test(fast_tokens_are_given_batches),
        cmocka_unit_test(a_full_core_sheds_and_recovers),
    };
    test_folder_make();
    test_wakes_make(wakes, 2);
    setenv("TEST_HSM_SCRIPT", test_path("script"), 1);
    map_script(test_path("script"));
    int failed = cmocka_run_group_tests(tests, group_setup, NULL);
    test_folder_remove();
    return failed;
}
