/* Is a description of an HSM read as it was meant, with its presets, and is every mistake in it
 * refused with a text that names it?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <math.h>
#include <unistd.h>

#include "hsm/sim/describe.c" /* the module exports PKCS#11 alone */
#include "hsm/sim/dist.c"
#include "hsm/sim/preset.c"

static char folder[] = "/tmp/certmill-test-sim-XXXXXX";
static char path[64];
static struct description got;
static struct fault_set got_faults;
static char error[DESCRIBE_ERROR_MAX];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof path, "%s/sim.yaml", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static void put(const char *yaml)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(yaml, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

static void load(const char *yaml)
{
    put(yaml);
    error[0] = 0;
    if (description_load(path, &got, error))
        fail_msg("%s", error);
}

static void refused(const char *yaml, const char *reason)
{
    struct description before = got;
    put(yaml);
    error[0] = 0;
    if (description_load(path, &got, error) != ERR_CONFIG)
        fail_msg("accepted: %s", yaml);
    if (!strstr(error, reason) || !strstr(error, path))
        fail_msg("\"%s\" does not speak of \"%s\"", error, reason);
    assert_memory_equal(&before, &got, sizeof got);
}

static void the_least(void **state)
{
    (void)state;
    char expected[128];
    load("token: {directory: here}\n");
    snprintf(expected, sizeof expected, "%s/here", folder);
    assert_string_equal(got.directory, expected);
    snprintf(expected, sizeof expected, "%s/here/status", folder);
    assert_string_equal(got.status, expected);
    assert_string_equal(got.control, "");
    assert_string_equal(got.label, "sim");
    assert_string_equal(got.model, "software");
    assert_int_equal(got.engines, 0);
    assert_int_equal(got.pin_tries, 10);
    assert_true(got.message_sign);
    for (int i = 0; i < SERVICE_COUNT; i++)
        assert_int_equal(got.service[i].kind, DIST_NONE);
    assert_int_equal(got.faults.count, 0);
}

static void everything(void **state)
{
    (void)state;
    load("preset: yubihsm2\n"
         "token: {label: my token, directory: /tmp/d, model: m, serial: s7, pin_tries: 3,"
         " so_pin_tries: 5}\n"
         "seed: 18446744073709551615\n"
         "engines: 0\n"
         "sessions_max: 7\n"
         "message_sign: true\n"
         "status: /tmp/s\n"
         "control: c.yaml\n"
         "rate_limit: {per_second: 20000, burst: 50, answer: CKR_DEVICE_MEMORY}\n"
         "service:\n"
         "  - constant_us: 5\n"
         "  - for: [p384, rsa4096]\n"
         "    lognormal: {median_us: 1400, p99_us: 1900}\n"
         "  - for: [keygen]\n"
         "    percentiles: [{p: 0, us: 1}, {p: 99.9, us: 2.5}]\n"
         "faults:\n"
         "  - {kind: error, calls: [sign, login], answer: CKR_TOKEN_NOT_PRESENT, start_ms: 5,"
         " length_ms: 6, times: 2}\n"
         "  - {kind: crash, how: segv, at_call: 1000, for_calls: 3}\n"
         "  - {kind: vanish, start_ms: 0, length_ms: 9}\n"
         "  - {kind: error, answer: '0x80000001', one_in: 7, every: 8}\n"
         "  - {kind: sessions-lost}\n");
    assert_string_equal(got.label, "my token");
    assert_string_equal(got.directory, "/tmp/d");
    assert_string_equal(got.model, "m");
    assert_string_equal(got.serial, "s7");
    assert_int_equal(got.pin_tries, 3);
    assert_int_equal(got.so_pin_tries, 5);
    assert_true(got.seed == UINT64_MAX);
    assert_int_equal(got.engines, 0); /* said, so not the preset's 1 */
    assert_int_equal(got.sessions_max, 7);
    assert_true(got.message_sign);
    assert_string_equal(got.status, "/tmp/s");
    assert_int_equal(got.rate_per_second, 20000);
    assert_int_equal(got.rate_burst, 50);
    assert_int_equal(got.rate_answer, CKR_DEVICE_MEMORY);
    assert_false(got.rate_blocks);
    assert_int_equal(got.service[SERVICE_P256].kind, DIST_CONSTANT);
    assert_true(dist_quantile_us(&got.service[SERVICE_ED25519], 0.5) == 5);
    assert_int_equal(got.service[SERVICE_P384].kind, DIST_LOGNORMAL);
    assert_int_equal(got.service[SERVICE_RSA4096].kind, DIST_LOGNORMAL);
    assert_int_equal(got.service[SERVICE_KEYGEN].kind, DIST_PERCENTILES);
    assert_true(got.service[SERVICE_KEYGEN].point[1].us == 2.5);
    assert_int_equal(got.faults.count, 5);
    const struct fault *fault = got.faults.item;
    assert_int_equal(fault[0].calls, 1 << CALL_SIGN | 1 << CALL_LOGIN);
    assert_int_equal(fault[0].answer, CKR_TOKEN_NOT_PRESENT);
    assert_true(fault[0].timed && fault[0].start_ns == 5000000 && fault[0].length_ns == 6000000);
    assert_int_equal(fault[0].times, 2);
    assert_int_equal(fault[1].how, CRASH_SEGV);
    assert_true(fault[1].at_call == 1000 && fault[1].for_calls == 3 && !fault[1].timed);
    assert_int_equal(fault[1].calls, 1 << CALL_SIGN);
    assert_int_equal(fault[2].answer, CKR_DEVICE_REMOVED);
    assert_int_equal(fault[2].calls, CALLS_ALL);
    assert_true(fault[2].timed);
    assert_int_equal(fault[3].answer, 0x80000001);
    assert_true(fault[3].one_in == 7 && fault[3].every == 8);
    assert_int_equal(fault[4].calls, CALLS_ALL);
    assert_int_equal(fault[4].times, 1); /* else no session would ever live */
}

/* Engines over mean service time is the rate that the vendors publish. */
static void published_rates(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum service_key key;
        double per_second;
    } published[] = {
        {"luna-a700", SERVICE_P256, 2000},      {"luna-a750", SERVICE_P256, 10000},
        {"luna-a790", SERVICE_P256, 22000},     {"luna-a700", SERVICE_RSA2048, 1000},
        {"luna-a750", SERVICE_RSA2048, 5000},   {"luna-a790", SERVICE_RSA2048, 10000},
        {"cloudhsm-hsm2m", SERVICE_P256, 1500}, {"cloudhsm-hsm2m", SERVICE_RSA2048, 1000},
        {"yubihsm2", SERVICE_P256, 1 / 0.073},  {"yubihsm2", SERVICE_RSA2048, 1 / 0.139}};
    for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
        char yaml[128];
        snprintf(yaml, sizeof yaml, "preset: %s\ntoken: {directory: d}\n", published[i].name);
        load(yaml);
        double rate = got.engines * 1e6 / dist_mean_us(&got.service[published[i].key]);
        assert_true(fabs(rate / published[i].per_second - 1) < 1e-9);
    }
    for (uint32_t i = 0; preset_name(i); i++) {
        char yaml[128];
        snprintf(yaml, sizeof yaml, "preset: %s\ntoken: {directory: d}\n", preset_name(i));
        load(yaml);
        assert_true(got.sessions_max > 0);
    }
}

#define TOKEN "token: {directory: d}\n"

static void mistakes(void **state)
{
    (void)state;
    memset(&got, 0, sizeof got);
    refused("", "");
    refused("token: [1]\n", "");
    refused("seed: 1\n", "token");
    refused("token: {label: x}\n", "directory");
    refused(TOKEN "sead: 1\n", "sead");
    refused(TOKEN "\n\nservice:\n - {costant_us: 1}\n", "line 5");
    refused(TOKEN "engines: -1\n", "-1");
    refused(TOKEN "preset: luna\n", "there is no luna; there are software, luna-a700");
    refused(TOKEN "engines: 1025\n", "engines: 1025 is not within 0 and 1024");
    refused(TOKEN "sessions_max: 4097\n", "sessions_max");
    refused("token: {directory: d, label: 123456789012345678901234567890123}\n", "token.label");
    refused("token: {directory: d, serial: 12345678901234567}\n", "token.serial");
    refused("token: {directory: d, pin_tries: 1001}\n", "token.pin_tries");
    refused(TOKEN "service: [{for: [p256]}]\n", "one of constant_us");
    refused(TOKEN "service: [{constant_us: 1, lognormal: {median_us: 1, p99_us: 2}}]\n",
            "one of constant_us");
    refused(TOKEN "service: [{for: [p512], constant_us: 1}]\n", "");
    refused(TOKEN "service: [{lognormal: {median_us: 0, p99_us: 2}}]\n", "0 < median_us");
    refused(TOKEN "service: [{lognormal: {median_us: 3, p99_us: 2}}]\n", "median_us <= p99_us");
    refused(TOKEN "service: [{constant_us: 600000001}]\n", "constant_us");
    refused(TOKEN "service: [{percentiles: [{p: 50, us: 1}, {p: 50, us: 2}]}]\n", "p must rise");
    refused(TOKEN "service: [{percentiles: [{p: 50, us: 1}, {p: 101, us: 2}]}]\n", "p must rise");
    refused(TOKEN "service: [{percentiles: [{p: -1, us: 1}]}]\n", "p must rise");
    refused(TOKEN "service: [{percentiles: [{p: 50, us: 3}, {p: 60, us: 2}]}]\n",
            "us must not fall");
    refused(TOKEN "service: [{percentiles: [{p: 50, us: .nan}]}]\n", "");
    refused(TOKEN "rate_limit: {per_second: 0, answer: block}\n", "rate_limit.per_second");
    refused(TOKEN "rate_limit: {per_second: 1}\n", "answer");
    refused(TOKEN "rate_limit: {per_second: 1, answer: wait}\n",
            "wait is neither block nor a return value");
    refused(TOKEN "faults: [{kind: eror}]\n", "");
    refused(TOKEN "faults: [{kind: error}, {kind: error, answer: CKR_NO}]\n",
            "faults[1]: answer: CKR_NO");
    refused(TOKEN "faults: [{kind: error, answer: CKR_OK}]\n", "CKR_OK");
    refused(TOKEN "faults: [{kind: error, answer: '0'}]\n", "answer");
    refused(TOKEN "faults: [{kind: crash, answer: CKR_DEVICE_ERROR}]\n", "answer belongs to");
    refused(TOKEN "faults: [{kind: error, how: segv}]\n", "how belongs to crash");
    refused(TOKEN "faults: [{kind: error, for_calls: 2}]\n", "for_calls needs at_call");
    refused(TOKEN "faults: [{kind: vanish, every: 2}]\n", "vanish takes start_ms");
    refused(TOKEN "faults: [{kind: wrong-signature, calls: [login]}]\n", "calls does not belong");
    refused(TOKEN "faults: [{kind: stall, every: 2}]\n", "needs length_ms");
    refused(TOKEN "faults: [{kind: stall, every: 2, start_ms: 1, length_ms: 1}]\n", "not both");
    refused("token: {directory: d\n", "");
}

static void not_there(void **state)
{
    (void)state;
    assert_int_equal(description_load("/nonexistent/sim.yaml", &got, error), ERR_CONFIG);
    assert_non_null(strstr(error, "/nonexistent/sim.yaml: No such file"));
}

static void control_files(void **state)
{
    (void)state;
    put("");
    assert_int_equal(fault_set_load(path, &got_faults, error), ERR_OK);
    assert_int_equal(got_faults.count, 0);
    put("faults: [{kind: stall, length_ms: 100}]\n");
    assert_int_equal(fault_set_load(path, &got_faults, error), ERR_OK);
    assert_int_equal(got_faults.count, 1);
    assert_int_equal(got_faults.item[0].kind, FAULT_STALL);
    put("token: {directory: d}\n"); /* a description is no control file */
    assert_int_equal(fault_set_load(path, &got_faults, error), ERR_CONFIG);
    assert_int_equal(got_faults.count, 1);
    char yaml[4096] = "faults:\n";
    for (int i = 0; i <= FAULTS_MAX; i++)
        snprintf(yaml + strlen(yaml), sizeof(yaml) - strlen(yaml), "- {kind: error}\n");
    put(yaml);
    assert_int_equal(fault_set_load(path, &got_faults, error), ERR_CONFIG);
}

/* What is shipped as an example is one. */
static void samples(void **state)
{
    (void)state;
    if (description_load("../deploy/sample/hsmsim.yaml", &got, error))
        fail_msg("%s", error);
    assert_int_equal(got.engines, 31);
    if (fault_set_load("../deploy/sample/hsmsim-faults.yaml", &got_faults, error))
        fail_msg("%s", error);
    uint32_t kinds = 0;
    for (uint32_t i = 0; i < got_faults.count; i++)
        kinds |= 1u << got_faults.item[i].kind;
    assert_int_equal(kinds, (1u << (FAULT_WRONG_SIGNATURE + 1)) - 1); /* every kind */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least),       cmocka_unit_test(everything),
        cmocka_unit_test(published_rates), cmocka_unit_test(mistakes),
        cmocka_unit_test(not_there),       cmocka_unit_test(control_files),
        cmocka_unit_test(samples),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
