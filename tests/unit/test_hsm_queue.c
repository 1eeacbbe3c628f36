/* Does every accepted job come back exactly once, signed by the right key or with a classed error
 * by its deadline, whatever happens to the signers of a real token?
 */
#include "test_hsm_token.h"

#include <signal.h>

enum { CORES = 3, KEYS = 3, JOBS_MAX = 4096, BATCH = 24 };

static struct p11_key keys[KEYS];
static struct spki spkis[KEYS];
static const char *const key_labels[KEYS] = {"p256", "rsa", "ed25519"};
static const enum sig_alg key_sigs[KEYS] = {SIG_ECDSA_SHA256, SIG_RSA_PSS_SHA256, SIG_ED25519};
static const enum sign_mechanism key_mechs[KEYS] = {SIGN_MECH_ECDSA, SIGN_MECH_RSA_PSS_SHA256,
                                                    SIGN_MECH_EDDSA};
static struct wake wakes[CORES];

static int group_setup(void **state)
{
    (void)state;
    log_set_level(LOG_ERROR);
    test_folder_make();
    struct p11_module *module = test_module_open();
    test_token_make(module, TEST_TOKEN);
    struct p11_session *session = test_session(module, TEST_TOKEN_URI);
    test_key_make(session, KEY_EC_P256, 0, "p256", false, &keys[0]);
    test_key_make(session, KEY_RSA, 2048, "rsa", false, &keys[1]);
    test_key_make(session, KEY_ED25519, 0, "ed25519", false, &keys[2]);
    struct p11_key leaky;
    test_key_make(session, KEY_EC_P256, 0, "leaky", true, &leaky);
    p11_session_close(session);
    p11_module_close(module);
    for (int i = 0; i < KEYS; i++)
        assert_int_equal(spki_decode(bytes_of(keys[i].spki_der, keys[i].spki_len), &spkis[i]),
                         ERR_OK);
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

/* --- a core and its book-keeping --- */

struct book {
    uint32_t total, submitted, completed;
    uint32_t count[JOBS_MAX]; /* completions of each */
    uint32_t errors[ERR_COUNT];
    uint32_t wrong; /* signatures that do not verify */
    uint32_t key_count;
    uint32_t message_len; /* of Ed25519 jobs */
    uint64_t deadline_ns; /* from submission; 0: the token's */
    uint64_t slowest_ns;
    uint64_t started_ns[JOBS_MAX];
    uint8_t messages[JOBS_MAX][32];
};

struct test_core {
    struct hsm *hsm;
    uint32_t index;
    uint32_t window;
    struct book *book;
};

/* What is signed: a message made from the job's number, or its digest. */
static void message_of(const struct test_core *core, uint32_t tag, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = (uint8_t)(tag * 31 + core->index * 17 + i * 7 + (tag >> 8));
}

static void on_result(void *ctx, const struct sign_result *result)
{
    struct test_core *core = ctx;
    struct book *book = core->book;
    assert_true(result->tag < book->submitted && result->err < ERR_COUNT);
    uint32_t tag = (uint32_t)result->tag, key = tag % book->key_count;
    book->completed++;
    book->count[tag]++;
    book->errors[result->err]++;
    uint64_t took = clock_mono_ns() - book->started_ns[tag];
    if (took > book->slowest_ns)
        book->slowest_ns = took;
    if (result->err != ERR_OK)
        return;
    assert_int_equal(result->key_index, key);
    assert_true(result->service_ns > 0);
    uint8_t message[SIGN_INPUT_MAX];
    size_t len = key == 2 ? book->message_len : 32;
    message_of(core, tag, message, len);
    struct verify_job job = {.alg = key_sigs[key],
                             .spki = &spkis[key],
                             .signature = bytes_of(result->signature, result->signature_len)};
    if (key == 2)
        job.message = bytes_of(message, len);
    else
        job.digest = bytes_of(message, len);
    if (verify_one(&job) != ERR_OK)
        book->wrong++;
}

static void submit_some(struct test_core *core)
{
    static _Thread_local uint8_t messages[BATCH][SIGN_INPUT_MAX];
    struct book *book = core->book;
    struct sign_job jobs[BATCH];
    uint32_t count = 0;
    while (count < BATCH && book->submitted + count < book->total &&
           book->submitted + count - book->completed < core->window) {
        uint32_t tag = book->submitted + count, key = tag % book->key_count;
        size_t len = key == 2 ? book->message_len : 32;
        message_of(core, tag, messages[count], len);
        book->started_ns[tag] = clock_mono_ns();
        jobs[count] = (struct sign_job){
            .tag = tag,
            .key_index = key,
            .input = bytes_of(messages[count], len),
            .deadline_ns = book->deadline_ns == 0 ? 0 : clock_mono_ns() + book->deadline_ns};
        count++;
    }
    if (count == 0)
        return;
    enum err err;
    uint32_t accepted = hsm_submit(core->hsm, core->index, jobs, count, &err);
    assert_true(accepted <= count);
    assert_true((accepted == count) == (err == ERR_OK));
    assert_true(err == ERR_OK || err == ERR_FULL || err == ERR_SIGNER_UNAVAILABLE);
    /* the inputs were copied */
    memset(messages, 0xee, sizeof(messages));
    book->submitted += accepted;
}

static void *core_main(void *arg)
{
    struct test_core *core = arg;
    uint64_t give_up = clock_mono_ns() + 60 * NS_PER_S;
    while (core->book->completed < core->book->total && clock_mono_ns() < give_up) {
        submit_some(core);
        if (hsm_poll(core->hsm, core->index, 64, on_result, core) == 0)
            test_core_sleep(core->hsm, core->index, &wakes[core->index],
                            clock_mono_ns() + 20 * NS_PER_MS);
    }
    return NULL;
}

struct run {
    struct hsm *hsm;
    struct test_core cores[CORES];
    pthread_t threads[CORES];
    uint32_t core_count;
    struct test_supervisor supervisor;
};

static struct hsm *start_with(const char *pin_name, uint32_t signers, uint32_t sessions,
                              enum err expected)
{
    static char pin[256];
    snprintf(pin, sizeof(pin), "%s", test_path(pin_name));
    const struct hsm_token_config token = {
        .name = "softhsm",
        .module_path = SOFTHSM_MODULE,
        .uri = TEST_TOKEN_URI,
        .pin_file = pin,
        .signer_count = signers,
        .sessions = sessions,
    };
    struct hsm_key_config key_configs[KEYS];
    for (uint32_t i = 0; i < KEYS; i++) {
        static char uris[KEYS][64];
        snprintf(uris[i], sizeof(uris[i]), "pkcs11:object=%s;type=private", key_labels[i]);
        key_configs[i] = (struct hsm_key_config){
            .name = key_labels[i], .uri = uris[i], .token_count = 1, .mechanism = key_mechs[i]};
    }
    const struct hsm_config config = {.tokens = &token,
                                      .token_count = 1,
                                      .keys = key_configs,
                                      .key_count = KEYS,
                                      .signer_path = test_signer_path(),
                                      .core_count = CORES,
                                      .core_wakes = wakes};
    struct hsm *hsm = NULL;
    assert_int_equal(hsm_start(&config, 20000, &hsm), expected);
    assert_true((hsm != NULL) == (expected == ERR_OK));
    return hsm;
}

static void run_start(struct run *run, struct hsm *hsm, uint32_t core_count, uint32_t jobs,
                      uint32_t key_count, uint32_t window)
{
    assert_true(jobs <= JOBS_MAX);
    *run = (struct run){.hsm = hsm, .core_count = core_count, .supervisor = {.hsm = hsm}};
    for (uint32_t i = 0; i < core_count; i++) {
        struct book *book = calloc(1, sizeof(*book));
        book->total = jobs;
        book->key_count = key_count;
        book->message_len = i == 0 ? 32 : i == 1 ? 700 : SIGN_INPUT_MAX;
        run->cores[i] = (struct test_core){.hsm = hsm, .index = i, .window = window, .book = book};
    }
}

static void run_go(struct run *run)
{
    pthread_create(&run->supervisor.thread, NULL, test_supervise, &run->supervisor);
    for (uint32_t i = 0; i < run->core_count; i++)
        pthread_create(&run->threads[i], NULL, core_main, &run->cores[i]);
}

static void run_wait(struct run *run)
{
    for (uint32_t i = 0; i < run->core_count; i++)
        pthread_join(run->threads[i], NULL);
}

/* Each job once, and every signature good. */
static void run_check(const struct run *run, uint32_t errors_allowed)
{
    for (uint32_t i = 0; i < run->core_count; i++) {
        const struct book *book = run->cores[i].book;
        assert_int_equal(book->completed, book->total);
        for (uint32_t tag = 0; tag < book->total; tag++)
            assert_int_equal(book->count[tag], 1);
        assert_int_equal(book->wrong, 0);
        assert_true(book->total - book->errors[ERR_OK] <= errors_allowed);
    }
}

static void run_end(struct run *run)
{
    atomic_store(&run->supervisor.stop, true);
    pthread_join(run->supervisor.thread, NULL);
    for (uint32_t i = 0; i < run->core_count; i++)
        free(run->cores[i].book);
    hsm_stop(run->hsm, 5000);
}

/* 0 unless it is up: SoftHSM rewrites its token file at C_Login, not atomically, and a token whose
 * process is killed just then is gone. */
static int pid_of(struct hsm *hsm, uint32_t signer)
{
    struct hsm_signer_status status[SIGNERS_MAX];
    assert_true(signer < hsm_status(hsm, status));
    return status[signer].state == HSM_SIGNER_UP ? status[signer].pid : 0;
}

/* SIGSTOP, and until it has taken effect on every thread. */
static void stop_process(int pid)
{
    char path[64], text[256];
    assert_int_equal(kill(pid, SIGSTOP), 0);
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    for (int tries = 0; tries < 2000; tries++) {
        FILE *file = fopen(path, "r");
        assert_non_null(file);
        size_t len = fread(text, 1, sizeof(text) - 1, file);
        fclose(file);
        text[len] = 0;
        if (strstr(text, ") T ") != NULL)
            return;
        usleep(1000);
    }
    fail_msg("%s", text);
}

/* --- the tests --- */

static void all_kinds_of_keys_sign_for_all_cores(void **state)
{
    (void)state;
    struct run run;
    run_start(&run, start_with("pin", 1, 4, ERR_OK), CORES, 240, KEYS, 60);
    run_go(&run);
    run_wait(&run);
    run_check(&run, 0);
    assert_true(hist_quantile(hsm_service_hist(run.hsm, 0), 0.5) > 1000);
    run_end(&run);
}

/* After 1,800 jobs by two signers of one token. */
static void check_token_status(struct hsm *hsm, uint64_t batches)
{
    struct hsm_token_status tokens[TOKENS_MAX];
    assert_int_equal(hsm_token_status(hsm, tokens), 1);
    const struct hsm_token_status *token = &tokens[0];
    assert_string_equal(token->name, "softhsm");
    assert_int_equal(token->signers, 2);
    assert_int_equal(token->signers_up, 2);
    assert_int_equal(token->breakers_open + token->waiting + token->in_flight, 0);
    assert_int_equal(token->signed_total, 1800);
    assert_int_equal(token->batch_jobs, 1800);
    uint64_t count = 0, most = 0;
    for (uint32_t i = 0; i < HSM_BATCH_BUCKETS; i++) {
        count += token->batches[i];
        most += token->batches[i] << i;
    }
    assert_int_equal(count, batches);
    assert_true(most >= token->batch_jobs && most < 2 * token->batch_jobs);
    for (uint32_t i = 0; i < HSM_ERROR_CLASSES; i++)
        assert_int_equal(token->errors[i], 0);
    assert_int_equal(token->wrong_total, 0);
    hsm_signature_was_wrong(hsm, 0);
    hsm_token_status(hsm, tokens);
    assert_int_equal(token->wrong_total, 1);
}

static void two_signers_share_the_load(void **state)
{
    (void)state;
    struct run run;
    run_start(&run, start_with("pin", 2, 1, ERR_OK), CORES, 600, 1, 2);
    run_go(&run);
    run_wait(&run);
    run_check(&run, 0);
    struct hsm_signer_status status[SIGNERS_MAX];
    usleep(200000); /* the supervisor has collected the counters */
    assert_int_equal(hsm_status(run.hsm, status), 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(status[i].state, HSM_SIGNER_UP);
        assert_true(status[i].signed_total > 1800 / 4);
        assert_int_equal(status[i].in_flight, 0);
        assert_int_equal(status[i].errors_total, 0);
    }
    assert_int_equal(status[0].signed_total + status[1].signed_total, 1800);
    check_token_status(run.hsm, status[0].batches_total + status[1].batches_total);
    run_end(&run);
}

static void killing_signers_loses_and_repeats_nothing(void **state)
{
    (void)state;
    struct run run;
    run_start(&run, start_with("pin", 2, 2, ERR_OK), CORES, 1000, 1, 100);
    run_go(&run);
    int killed = 0;
    for (uint32_t i = 0; i < 60 && killed < 5; i++) {
        usleep(30000);
        int pid = pid_of(run.hsm, i % 2);
        killed += pid != 0 && kill(pid, SIGKILL) == 0;
    }
    run_wait(&run);
    usleep(200000);
    struct hsm_signer_status status[SIGNERS_MAX];
    assert_int_equal(hsm_status(run.hsm, status), 2);
    run_check(&run, 0);
    run_end(&run);
    assert_true(killed >= 2);
    assert_true(status[0].restarts + status[1].restarts >= 2);
}

static void killing_the_only_signer_delays_alone(void **state)
{
    (void)state;
    struct run run;
    run_start(&run, start_with("pin", 1, 2, ERR_OK), 2, 1500, 1, 100);
    run_go(&run);
    usleep(100000);
    assert_int_equal(kill(pid_of(run.hsm, 0), SIGKILL), 0);
    run_wait(&run);
    run_check(&run, 0);
    run_end(&run);
}

static void a_stopped_signer_costs_a_deadline_and_no_more(void **state)
{
    (void)state;
    struct run run;
    run_start(&run, start_with("pin", 1, 2, ERR_OK), 2, 40, 1, 30);
    for (uint32_t i = 0; i < 2; i++)
        run.cores[i].book->deadline_ns = 400 * NS_PER_MS;
    int pid = pid_of(run.hsm, 0);
    stop_process(pid);
    run_go(&run);
    run_wait(&run); /* all of it while the signer is stopped */
    assert_int_equal(kill(pid, SIGCONT), 0);
    run_check(&run, 40);
    for (uint32_t i = 0; i < 2; i++) {
        const struct book *book = run.cores[i].book;
        assert_int_equal(book->errors[ERR_DEADLINE], 40);
        assert_true(book->slowest_ns >= 400 * NS_PER_MS && book->slowest_ns < 900 * NS_PER_MS);
    }
    /* and it signs again, without a restart; what it had left over is nobody's result */
    struct run again;
    run_start(&again, run.hsm, 2, 60, 1, 30);
    again.supervisor = run.supervisor;
    for (uint32_t i = 0; i < 2; i++)
        pthread_create(&again.threads[i], NULL, core_main, &again.cores[i]);
    run_wait(&again);
    run_check(&again, 0);
    assert_int_equal(pid_of(run.hsm, 0), pid);
    for (uint32_t i = 0; i < 2; i++)
        free(again.cores[i].book);
    run_end(&run);
}

static void a_stopped_signer_loses_its_work_to_the_other(void **state)
{
    (void)state;
    struct run run;
    run_start(&run, start_with("pin", 2, 1, ERR_OK), 2, 300, 1, 60);
    int pid = pid_of(run.hsm, 0);
    run_go(&run);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    run_wait(&run);
    run_check(&run, 0);
    for (uint32_t i = 0; i < 2; i++) /* the deadline is 10 s */
        assert_true(run.cores[i].book->slowest_ns < 3000 * NS_PER_MS);
    assert_int_equal(kill(pid, SIGCONT), 0);
    run_end(&run);
}

static void a_wrong_pin_is_tried_once(void **state)
{
    (void)state;
    assert_null(start_with("bad-pin", 2, 2, ERR_PIN_WRONG));
    /* nobody tried since: the token still takes the right one at once */
    struct run run;
    run_start(&run, start_with("pin", 1, 1, ERR_OK), 1, 20, 1, 10);
    run_go(&run);
    run_wait(&run);
    run_check(&run, 0);
    run_end(&run);
}

static enum err start_key(const char *uri, bool allow_extractable, const char *rv_classes)
{
    const struct hsm_token_config token = {.name = "softhsm",
                                           .module_path = SOFTHSM_MODULE,
                                           .uri = TEST_TOKEN_URI,
                                           .pin_file = test_path("pin"),
                                           .rv_classes = rv_classes,
                                           .signer_count = 1,
                                           .sessions = 1};
    const struct hsm_key_config key = {.name = "k",
                                       .uri = uri,
                                       .token_count = 1,
                                       .mechanism = SIGN_MECH_ECDSA,
                                       .allow_extractable = allow_extractable};
    const struct hsm_config config = {.tokens = &token,
                                      .token_count = 1,
                                      .keys = &key,
                                      .key_count = 1,
                                      .signer_path = test_signer_path(),
                                      .core_count = 1,
                                      .core_wakes = wakes};
    struct hsm *hsm = NULL;
    enum err err = hsm_start(&config, 20000, &hsm);
    hsm_stop(hsm, 5000);
    return err;
}

static void keys_are_refused_at_start(void **state)
{
    (void)state;
    assert_int_equal(start_key("pkcs11:object=p256", false, NULL), ERR_OK);
    assert_int_equal(start_key("pkcs11:object=leaky", false, NULL), ERR_CONFIG);
    assert_int_equal(start_key("pkcs11:object=p256", true, NULL), ERR_OK);
    assert_int_equal(start_key("pkcs11:object=leaky", true, NULL), ERR_OK);
    assert_int_equal(start_key("pkcs11:object=none", false, NULL), ERR_KEY_NOT_FOUND);
    assert_int_equal(start_key("pkcs11:object=rsa", false, NULL), ERR_CONFIG); /* not for ECDSA */
    assert_int_equal(start_key("object=p256", false, NULL), ERR_CONFIG);
    assert_int_equal(start_key("pkcs11:object=p256", false, "CKR_WHAT=retry"), ERR_CONFIG);
}

static void a_pin_comes_from_where_it_is_configured(void **state)
{
    (void)state;
    const char *folder = test_path("credentials");
    assert_int_equal(mkdir(folder, 0700), 0);
    test_write("credentials/hsm-pin", TEST_PIN);
    setenv("CREDENTIALS_DIRECTORY", folder, 1);
    setenv("TEST_HSM_PIN", TEST_PIN, 1);
    struct hsm_token_config token = {.name = "softhsm",
                                     .module_path = SOFTHSM_MODULE,
                                     .uri = TEST_TOKEN_URI,
                                     .signer_count = 1,
                                     .sessions = 1};
    const struct hsm_key_config key = {
        .name = "k", .uri = "pkcs11:object=p256", .token_count = 1, .mechanism = SIGN_MECH_ECDSA};
    const struct hsm_config config = {.tokens = &token,
                                      .token_count = 1,
                                      .keys = &key,
                                      .key_count = 1,
                                      .signer_path = test_signer_path(),
                                      .core_count = 1,
                                      .core_wakes = wakes};
    struct hsm *hsm = NULL;
    token.pin_credential = "hsm-pin";
    assert_int_equal(hsm_start(&config, 20000, &hsm), ERR_OK);
    hsm_stop(hsm, 5000);
    token.pin_credential = "../pin"; /* not out of the folder */
    assert_int_equal(hsm_start(&config, 20000, &hsm), ERR_CONFIG);
    token.pin_credential = NULL;
    token.pin_env = "TEST_HSM_PIN";
    assert_int_equal(hsm_start(&config, 20000, &hsm), ERR_OK);
    hsm_stop(hsm, 5000);
    token.pin_env = "TEST_HSM_NO_PIN";
    assert_int_equal(hsm_start(&config, 20000, &hsm), ERR_CONFIG);
    token.pin_env = NULL;
    token.pin_file = test_path("no-file");
    assert_int_equal(hsm_start(&config, 20000, &hsm), ERR_CONFIG);
    unsetenv("CREDENTIALS_DIRECTORY");
    unsetenv("TEST_HSM_PIN");
}

/* A line of /proc/<pid>/status. */
static long proc_value(int pid, const char *name)
{
    char path[64], line[256];
    long value = -1;
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, name, strlen(name)) == 0)
            value = strtol(line + strlen(name), NULL, 10);
    }
    fclose(file);
    return value;
}

static void a_signer_is_confined(void **state)
{
    (void)state;
    setenv("LD_AUDIT", "", 1);
    setenv("PGPASSWORD", "secret", 1);
    struct run run;
    run_start(&run, start_with("pin", 1, 1, ERR_OK), 1, 1, 1, 1);
    unsetenv("LD_AUDIT");
    unsetenv("PGPASSWORD");
    int pid = pid_of(run.hsm, 0);
    assert_int_equal(proc_value(pid, "NoNewPrivs:"), 1);
    assert_int_equal(proc_value(pid, "Seccomp:"), 2);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they make mlock do nothing  \
                                                                     */
    assert_true(proc_value(pid, "VmLck:") >= 4);
#endif
    char path[64], env[65536];
    snprintf(path, sizeof(path), "/proc/%d/environ", pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file); /* as root, even of a process that is not dumpable */
    size_t len = fread(env, 1, sizeof(env), file);
    fclose(file);
    assert_true(len > 0);
    assert_non_null(memmem(env, len, "SOFTHSM2_CONF=", 14));
    assert_null(memmem(env, len, "PGPASSWORD", 10));
    assert_null(memmem(env, len, "LD_AUDIT", 8));
    run_go(&run);
    run_wait(&run);
    run_end(&run);
    /* and it went when it was told to */
    assert_int_not_equal(kill(pid, 0), 0);
}

int main(void)
{
    cmocka_set_test_filter(getenv("TEST_HSM_FILTER"));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_kinds_of_keys_sign_for_all_cores),
        cmocka_unit_test(two_signers_share_the_load),
        cmocka_unit_test(killing_signers_loses_and_repeats_nothing),
        cmocka_unit_test(killing_the_only_signer_delays_alone),
        cmocka_unit_test(a_stopped_signer_costs_a_deadline_and_no_more),
        cmocka_unit_test(a_stopped_signer_loses_its_work_to_the_other),
        cmocka_unit_test(a_wrong_pin_is_tried_once),
        cmocka_unit_test(keys_are_refused_at_start),
        cmocka_unit_test(a_pin_comes_from_where_it_is_configured),
        cmocka_unit_test(a_signer_is_confined),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
