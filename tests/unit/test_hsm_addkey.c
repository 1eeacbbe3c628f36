/* Can keys be added while cores submit: found by the signers that run and by those that start
 * later, refused with a reason when the token has none that fits, and without a job lost?
 */
#include "test_hsm_token.h"

#include <signal.h>

enum { CORES = 2, SIGNERS = 2, ADDED = 2, WINDOW = 32, WAIT_MS = 20000, URI_TOO_LONG = 2000 };

static struct wake wakes[CORES];
static struct p11_key first, added[ADDED];

static int group_setup(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    test_folder_make();
    struct p11_module *module = test_module_open();
    test_token_make(module, TEST_TOKEN);
    struct p11_session *session = test_session(module, TEST_TOKEN_URI);
    struct p11_key leaky;
    test_key_make(session, KEY_EC_P256, 0, "first", false, &first);
    test_key_make(session, KEY_EC_P256, 0, "second", false, &added[0]);
    test_key_make(session, KEY_RSA, 2048, "third", false, &added[1]);
    test_key_make(session, KEY_EC_P256, 0, "leaky", true, &leaky);
    p11_session_close(session);
    p11_module_close(module);
    test_wakes_make(wakes, CORES);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    test_wakes_close(wakes, CORES);
    test_folder_remove();
    return 0;
}

static struct hsm *start(uint32_t signers)
{
    static char pin[256];
    snprintf(pin, sizeof(pin), "%s", test_path("pin"));
    const struct hsm_token_config token = {.name = "softhsm",
                                           .module_path = SOFTHSM_MODULE,
                                           .uri = TEST_TOKEN_URI,
                                           .pin_file = pin,
                                           .signer_count = signers,
                                           .sessions = 2};
    const struct hsm_key_config key = {.name = "first",
                                       .uri = "pkcs11:object=first",
                                       .token_count = 1,
                                       .mechanism = SIGN_MECH_ECDSA};
    const struct hsm_config config = {.tokens = &token,
                                      .token_count = 1,
                                      .keys = &key,
                                      .key_count = 1,
                                      .signer_path = test_signer_path(),
                                      .core_count = CORES,
                                      .core_wakes = wakes};
    struct hsm *hsm = NULL;
    assert_int_equal(hsm_start(&config, WAIT_MS, &hsm), ERR_OK);
    return hsm;
}

/* The text is gone when this returns, as a configuration's may be. */
static enum err add(struct hsm *hsm, const char *label, enum sign_mechanism mechanism,
                    const struct p11_key *expected, uint32_t *out_index)
{
    char name[64], uri[64], reason[HSM_REASON_MAX] = "";
    snprintf(name, sizeof(name), "ca-%s", label);
    snprintf(uri, sizeof(uri), "pkcs11:object=%s", label);
    struct hsm_key_config key = {
        .name = name, .uri = uri, .token_count = 1, .mechanism = mechanism};
    if (expected != NULL) {
        key.has_spki = true;
        sha256_once(bytes_of(expected->spki_der, expected->spki_len), key.spki_sha256);
    }
    enum err err = hsm_add_key(hsm, &key, WAIT_MS, out_index, reason);
    assert_true((err == ERR_OK) == (reason[0] == 0));
    if (err == ERR_KEY_NOT_FOUND || err == ERR_CONFIG)
        assert_non_null(strstr(reason, label)); /* it is about this key */
    memset(name, 'x', sizeof(name));
    memset(uri, 'x', sizeof(uri));
    return err;
}

/* --- cores under load --- */

struct load {
    struct hsm *hsm;
    uint32_t core;
    _Atomic uint32_t key_count; /* of index[], so far */
    uint32_t index[1 + ADDED];
    _Atomic bool stop;
    _Atomic uint32_t signed_by[1 + ADDED]; /* good signatures */
    uint32_t submitted, completed, failed, wrong;
    pthread_t thread;
};

static const struct p11_key *key_of(uint32_t n)
{
    return n == 0 ? &first : &added[n - 1];
}

static void on_result(void *ctx, const struct sign_result *result)
{
    struct load *load = ctx;
    uint32_t n = (uint32_t)result->tag;
    load->completed++;
    if (result->err != ERR_OK) {
        load->failed++;
        return;
    }
    uint8_t digest[32];
    struct spki spki;
    memset(digest, (int)n + 1, sizeof(digest));
    const struct p11_key *key = key_of(n);
    assert_int_equal(spki_decode(bytes_of(key->spki_der, key->spki_len), &spki), ERR_OK);
    struct verify_job job = {.alg = key->alg == KEY_RSA ? SIG_RSA_PSS_SHA256 : SIG_ECDSA_SHA256,
                             .spki = &spki,
                             .digest = BYTES_ARRAY(digest),
                             .signature = bytes_of(result->signature, result->signature_len)};
    if (verify_one(&job) == ERR_OK)
        atomic_fetch_add(&load->signed_by[n], 1);
    else
        load->wrong++;
}

static void *load_main(void *arg)
{
    struct load *load = arg;
    while (!atomic_load(&load->stop) || load->completed < load->submitted) {
        uint32_t keys = atomic_load_explicit(&load->key_count, memory_order_acquire);
        while (!atomic_load(&load->stop) && load->submitted - load->completed < WINDOW) {
            uint8_t digest[32];
            uint32_t n = load->submitted % keys;
            memset(digest, (int)n + 1, sizeof(digest));
            struct sign_job job = {
                .tag = n, .key_index = load->index[n], .input = BYTES_ARRAY(digest)};
            enum err err;
            if (hsm_submit(load->hsm, load->core, &job, 1, &err) != 1)
                break;
            load->submitted++;
        }
        if (hsm_poll(load->hsm, load->core, 64, on_result, load) == 0)
            test_core_sleep(load->hsm, load->core, &wakes[load->core],
                            clock_mono_ns() + 20 * NS_PER_MS);
    }
    return NULL;
}

/* This thread supervises, as the engine's main thread does. */
static void supervise_until(struct load loads[CORES], uint32_t n, uint32_t more)
{
    uint64_t end = clock_mono_ns() + 60 * NS_PER_S;
    uint32_t goal[CORES];
    for (int c = 0; c < CORES; c++)
        goal[c] = atomic_load(&loads[c].signed_by[n]) + more;
    for (int c = 0; c < CORES; c++) {
        while (atomic_load(&loads[c].signed_by[n]) < goal[c]) {
            assert_true(clock_mono_ns() < end);
            struct pollfd wait = {.fd = hsm_supervise_fd(loads[c].hsm), .events = POLLIN};
            poll(&wait, 1, 10);
            hsm_supervise(loads[c].hsm);
        }
    }
}

static void loads_start(struct load loads[CORES], struct hsm *hsm)
{
    for (uint32_t c = 0; c < CORES; c++) {
        loads[c] = (struct load){.hsm = hsm, .core = c, .key_count = 1};
        assert_int_equal(pthread_create(&loads[c].thread, NULL, load_main, &loads[c]), 0);
    }
}

static void loads_use(struct load loads[CORES], uint32_t n, uint32_t index)
{
    for (int c = 0; c < CORES; c++) {
        loads[c].index[n] = index;
        atomic_store_explicit(&loads[c].key_count, n + 1, memory_order_release);
    }
}

static void loads_end(struct load loads[CORES])
{
    for (int c = 0; c < CORES; c++)
        atomic_store(&loads[c].stop, true);
    for (int c = 0; c < CORES; c++) {
        pthread_join(loads[c].thread, NULL);
        assert_int_equal(loads[c].completed, loads[c].submitted);
        assert_int_equal(loads[c].failed, 0);
        assert_int_equal(loads[c].wrong, 0);
    }
}

static void kill_all(struct hsm *hsm)
{
    struct hsm_signer_status status[SIGNERS_MAX];
    uint64_t end = clock_mono_ns() + 60 * NS_PER_S;
    uint32_t count = hsm_status(hsm, status);
    for (uint32_t i = 0; i < count; i++) {
        while (status[i].state != HSM_SIGNER_UP && clock_mono_ns() < end) {
            hsm_supervise(hsm);
            usleep(5000);
            hsm_status(hsm, status);
        }
        assert_int_equal(status[i].state, HSM_SIGNER_UP);
        assert_int_equal(kill(status[i].pid, SIGKILL), 0);
    }
}

static void keys_are_added_under_load_and_survive_their_signers(void **state)
{
    (void)state;
    struct hsm *hsm = start(SIGNERS);
    struct load loads[CORES];
    uint32_t index = 0;
    loads_start(loads, hsm);
    supervise_until(loads, 0, 20);
    assert_int_equal(add(hsm, "second", SIGN_MECH_ECDSA, &added[0], &index), ERR_OK);
    assert_int_equal(index, 1);
    loads_use(loads, 1, index);
    supervise_until(loads, 1, 20);
    /* processes that start now know it from the start, and hear of the next one */
    kill_all(hsm);
    supervise_until(loads, 1, 50);
    assert_int_equal(add(hsm, "third", SIGN_MECH_RSA_PSS_SHA256, &added[1], &index), ERR_OK);
    assert_int_equal(index, 2);
    loads_use(loads, 2, index);
    supervise_until(loads, 2, 20);
    kill_all(hsm);
    for (uint32_t n = 0; n <= ADDED; n++)
        supervise_until(loads, n, 20);
    loads_end(loads);
    hsm_stop(hsm, 5000);
}

/* Dead, starting or told twice: each ends with the whole list. */
static void keys_are_added_while_signers_die(void **state)
{
    (void)state;
    struct hsm *hsm = start(SIGNERS);
    struct load loads[CORES];
    uint32_t index = 0;
    loads_start(loads, hsm);
    supervise_until(loads, 0, 20);
    kill_all(hsm);
    assert_int_equal(add(hsm, "second", SIGN_MECH_ECDSA, &added[0], &index), ERR_OK);
    loads_use(loads, 1, index);
    hsm_supervise(hsm); /* perhaps one is up, and the other starts */
    assert_int_equal(add(hsm, "third", SIGN_MECH_RSA_PSS_SHA256, &added[1], &index), ERR_OK);
    loads_use(loads, 2, index);
    for (uint32_t n = 0; n <= ADDED; n++)
        supervise_until(loads, n, 50);
    loads_end(loads);
    hsm_stop(hsm, 5000);
}

static void a_signer_that_does_not_answer_is_not_waited_for(void **state)
{
    (void)state;
    struct hsm *hsm = start(1);
    struct hsm_signer_status status[SIGNERS_MAX];
    char reason[HSM_REASON_MAX] = "";
    uint32_t index = 99;
    const struct hsm_key_config key = {.name = "second",
                                       .uri = "pkcs11:object=second",
                                       .token_count = 1,
                                       .mechanism = SIGN_MECH_ECDSA};
    assert_int_equal(hsm_status(hsm, status), 1);
    assert_int_equal(kill(status[0].pid, SIGSTOP), 0);
    uint64_t before = clock_mono_ns();
    assert_int_equal(hsm_add_key(hsm, &key, 300, &index, reason), ERR_SIGNER_UNAVAILABLE);
    uint64_t took = clock_mono_ns() - before;
    assert_true(took >= 300 * NS_PER_MS && took < 3000 * NS_PER_MS);
    assert_non_null(strstr(reason, "in time"));
    assert_int_equal(kill(status[0].pid, SIGCONT), 0);
    assert_int_equal(hsm_add_key(hsm, &key, WAIT_MS, &index, reason), ERR_OK);
    assert_int_equal(index, 1);
    hsm_stop(hsm, 5000);
}

static void a_key_is_added_once(void **state)
{
    (void)state;
    struct hsm *hsm = start(1);
    uint32_t index = 99, again = 99;
    assert_int_equal(add(hsm, "first", SIGN_MECH_ECDSA, NULL, &index), ERR_OK);
    assert_int_equal(index, 0);
    assert_int_equal(add(hsm, "second", SIGN_MECH_ECDSA, &added[0], &index), ERR_OK);
    assert_int_equal(add(hsm, "second", SIGN_MECH_ECDSA, &added[0], &again), ERR_OK);
    assert_int_equal(index, 1);
    assert_int_equal(again, 1);
    hsm_stop(hsm, 5000);
}

static void make_late_key(struct p11_key *out)
{
    struct p11_module *module = test_module_open();
    struct p11_session *session = test_session(module, TEST_TOKEN_URI);
    test_key_make(session, KEY_EC_P256, 0, "late", false, out);
    p11_session_close(session);
    p11_module_close(module);
}

static void what_the_token_does_not_have_is_refused(void **state)
{
    (void)state;
    struct hsm *hsm = start(1);
    struct p11_key late;
    uint32_t index = 99;
    assert_int_equal(add(hsm, "late", SIGN_MECH_ECDSA, NULL, &index), ERR_KEY_NOT_FOUND);
    assert_int_equal(add(hsm, "leaky", SIGN_MECH_ECDSA, NULL, &index), ERR_CONFIG);
    assert_int_equal(add(hsm, "third", SIGN_MECH_ECDSA, NULL, &index), ERR_CONFIG);
    /* it is there, and is another key than the certificate's */
    assert_int_equal(add(hsm, "second", SIGN_MECH_ECDSA, &first, &index), ERR_CONFIG);
    assert_int_equal(index, 99);
    /* asked for again, it is looked for again, and not counted twice */
    make_late_key(&late);
    assert_int_equal(add(hsm, "late", SIGN_MECH_ECDSA, NULL, &index), ERR_OK);
    assert_int_equal(index, 1);
    /* and the first one still signs */
    struct load loads[CORES];
    loads_start(loads, hsm);
    supervise_until(loads, 0, 20);
    loads_end(loads);
    hsm_stop(hsm, 5000);
}

static void keys_have_a_bound(void **state)
{
    (void)state;
    struct hsm *hsm = start(1);
    uint32_t index = 99;
    for (int i = 1; i < KEYS_MAX; i++) {
        char label[32];
        snprintf(label, sizeof(label), "none-%d", i);
        assert_int_equal(add(hsm, label, SIGN_MECH_ECDSA, NULL, &index), ERR_KEY_NOT_FOUND);
    }
    assert_int_equal(add(hsm, "second", SIGN_MECH_ECDSA, NULL, &index), ERR_FULL);
    assert_int_equal(add(hsm, "first", SIGN_MECH_ECDSA, NULL, &index), ERR_OK);
    char uri[URI_TOO_LONG];
    memset(uri, 'a', sizeof(uri) - 1);
    uri[sizeof(uri) - 1] = 0;
    char reason[HSM_REASON_MAX];
    const struct hsm_key_config key = {
        .name = "k", .uri = uri, .token_count = 1, .mechanism = SIGN_MECH_ECDSA};
    assert_int_equal(hsm_add_key(hsm, &key, WAIT_MS, &index, reason), ERR_CONFIG);
    hsm_stop(hsm, 5000);
}

int main(void)
{
    cmocka_set_test_filter(getenv("TEST_HSM_FILTER"));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_are_added_under_load_and_survive_their_signers),
        cmocka_unit_test(keys_are_added_while_signers_die),
        cmocka_unit_test(a_signer_that_does_not_answer_is_not_waited_for),
        cmocka_unit_test(a_key_is_added_once),
        cmocka_unit_test(what_the_token_does_not_have_is_refused),
        cmocka_unit_test(keys_have_a_bound),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
