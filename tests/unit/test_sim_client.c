/* Does certmill's own PKCS#11 client work on the simulator with every kind of key, both ways of
 * signing, and see its wrong PIN counted once?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <libgen.h>
#include <limits.h>
#include <unistd.h>

#include "asn1/x509.h"
#include "crypto/verify.h"
#include "hsm/p11/token.h"

static char folder[] = "/tmp/certmill-test-sim-XXXXXX";
static char module_path[PATH_MAX + 64], yaml_path[64];
static struct p11_error error;

static void fine(enum err err)
{
    if (err != ERR_OK)
        fail_msg("%s: %s", err_code(err), error.text);
}

static int make(void **state)
{
    (void)state;
    char self[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len <= 0 || !mkdtemp(folder))
        return -1;
    self[len] = 0;
    snprintf(module_path, sizeof module_path, "%s/../bin/libcertmill-hsmsim.so", dirname(self));
    snprintf(yaml_path, sizeof yaml_path, "%s/sim.yaml", folder);
    return setenv("CERTMILL_HSMSIM_CONFIG", yaml_path, 1);
}

static int clean(void **state)
{
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static struct p11_module *begin(const char *yaml)
{
    char command[64];
    struct p11_module *module;
    snprintf(command, sizeof command, "rm -rf '%s/token'", folder);
    assert_int_equal(system(command), 0);
    FILE *file = fopen(yaml_path, "w");
    assert_non_null(file);
    fprintf(file, "token: {directory: token}\n%s", yaml);
    fclose(file);
    fine(p11_module_open(module_path, &module, &error));
    fine(p11_token_init(module, 0, "sim", BYTES_LIT("so-pin"), BYTES_LIT("123456"), &error));
    return module;
}

static void sign_and_check(struct p11_session *session, const struct p11_key *key, enum sig_alg alg)
{
    static uint8_t signature[SIGNATURE_MAX];
    struct spki spki;
    size_t len;
    assert_int_equal(spki_decode(bytes_of(key->spki_der, key->spki_len), &spki), ERR_OK);
    for (int i = 0; i < 3; i++) {
        fine(p11_sign_message(session, key, alg, BYTES_LIT("a message"), signature,
                              sizeof signature, &len, &error));
        struct verify_job job = {.alg = alg,
                                 .spki = &spki,
                                 .message = BYTES_LIT("a message"),
                                 .signature = bytes_of(signature, len)};
        assert_int_equal(verify_one(&job), ERR_OK);
    }
}

static void use_all(const char *yaml)
{
    static const struct {
        struct p11_key_template key;
        enum sig_alg alg[4];
    } kinds[] = {
        {{.alg = KEY_EC_P256, .label = "p256"}, {SIG_ECDSA_SHA256, SIG_ECDSA_SHA512}},
        {{.alg = KEY_EC_P384, .label = "p384"}, {SIG_ECDSA_SHA384, SIG_ECDSA_SHA256}},
        {{.alg = KEY_RSA, .bits = 2048, .label = "rsa"},
         {SIG_RSA_SHA256, SIG_RSA_PSS_SHA512, SIG_RSA_SHA384}},
        {{.alg = KEY_ED25519, .label = "ed25519"}, {SIG_ED25519}},
        {{.alg = KEY_ML_DSA_44, .label = "ml-dsa"}, {SIG_ML_DSA_44}},
    };
    struct p11_module *module = begin(yaml);
    struct p11_session *session;
    struct p11_key key, again;
    fine(p11_session_open(module, "pkcs11:token=sim", true, &session, &error));
    fine(p11_login(session, BYTES_LIT("123456"), &error));
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (kinds[i].key.alg == KEY_ML_DSA_44 && !p11_token_can(module, 0, SIGN_MECH_ML_DSA))
            continue; /* wolfSSL was built without */
        char uri[P11_LABEL_MAX + 32];
        fine(p11_key_generate(session, &kinds[i].key, &key, &error));
        fine(p11_key_check(&key, false, &error));
        assert_true(key.local && key.always_sensitive && key.never_extractable);
        snprintf(uri, sizeof uri, "pkcs11:object=%s", kinds[i].key.label);
        fine(p11_key_find(session, uri, &again, &error));
        assert_int_equal(again.private_handle, key.private_handle);
        assert_int_equal(again.alg, kinds[i].key.alg);
        for (int k = 0; kinds[i].alg[k] != SIG_NONE; k++)
            sign_and_check(session, &again, kinds[i].alg[k]);
        fine(p11_key_set_label(session, &key, "renamed", &error));
        assert_int_equal(p11_key_find(session, uri, &again, &error), ERR_KEY_NOT_FOUND);
        fine(p11_key_destroy(session, &key, &error));
    }
    uint32_t count;
    fine(p11_key_list(session, &key, 1, &count, &error));
    assert_int_equal(count, 0);
    p11_session_close(session);
    p11_module_close(module);
}

static void by_message(void **state)
{
    (void)state;
    use_all("message_sign: yes\n");
}

static void by_sign(void **state)
{
    (void)state;
    use_all("message_sign: no\n");
}

static void extractable_is_refused(void **state)
{
    (void)state;
    struct p11_module *module = begin("");
    struct p11_session *session;
    struct p11_key key;
    const struct p11_key_template open = {.alg = KEY_EC_P256, .label = "open", .extractable = true};
    fine(p11_session_open(module, "pkcs11:token=sim", true, &session, &error));
    fine(p11_login(session, BYTES_LIT("123456"), &error));
    fine(p11_key_generate(session, &open, &key, &error));
    assert_int_equal(p11_key_check(&key, false, &error), ERR_CONFIG);
    fine(p11_key_check(&key, true, &error));
    p11_session_close(session);
    p11_module_close(module);
}

/* Sessions are lost, or the device fails, at each call in turn while a key is looked for. */
static void a_key_is_read_whole_or_not_at_all(void **state)
{
    (void)state;
    static const char *const faults[] = {
        "{kind: sessions-lost, calls: [find], at_call: %u}",
        "{kind: error, calls: [find], answer: CKR_DEVICE_ERROR, at_call: %u, for_calls: 100}",
        "{kind: error, calls: [find], answer: CKR_USER_NOT_LOGGED_IN, at_call: %u}",
    };
    const struct p11_key_template wanted = {.alg = KEY_EC_P256, .label = "whole"};
    struct p11_module *module = begin("control: control.yaml\n");
    struct p11_session *session;
    struct p11_key key, again;
    char path[96];
    snprintf(path, sizeof path, "%s/control.yaml", folder);
    fine(p11_session_open(module, "pkcs11:token=sim", true, &session, &error));
    fine(p11_login(session, BYTES_LIT("123456"), &error));
    fine(p11_key_generate(session, &wanted, &key, &error));
    for (size_t f = 0; f < sizeof faults / sizeof *faults; f++) {
        uint32_t failed = 0;
        enum err err = ERR_COUNT;
        for (uint32_t call = 1; call <= 40 && err != ERR_OK; call++) {
            FILE *file = fopen(path, "w");
            assert_non_null(file);
            fputs("faults: [", file);
            fprintf(file, faults[f], call);
            fputs("]\n", file);
            fclose(file);
            usleep(25000); /* until the module looks at the file again */
            p11_session_close(session);
            fine(p11_session_open(module, "pkcs11:token=sim", true, &session, &error));
            (void)!p11_login(session, BYTES_LIT("123456"), &error);
            err = p11_key_find(session, "pkcs11:object=whole", &again, &error);
            if (err == ERR_OK) {
                assert_int_equal(again.alg, KEY_EC_P256);
                assert_true(again.can_sign && again.sensitive && !again.extractable);
                assert_string_equal(again.label, "whole");
            } else {
                assert_int_equal(err, ERR_SIGNER_FAILED);
                assert_true(error.rv == 0xb3 || error.rv == 0x30 || error.rv == 0x101);
                failed++;
            }
        }
        assert_true(failed >= 5); /* it was met in the middle */
    }
    unlink(path);
    p11_session_close(session);
    p11_module_close(module);
}

static void wrong_pin(void **state)
{
    (void)state;
    struct p11_module *module = begin("");
    struct p11_session *session;
    struct p11_token_info info;
    fine(p11_session_open(module, "pkcs11:token=sim", false, &session, &error));
    assert_int_equal(p11_login(session, BYTES_LIT("654321"), &error), ERR_PIN_WRONG);
    fine(p11_token_find(module, "pkcs11:token=sim", &info, &error));
    assert_true(info.pin_count_low && !info.pin_final_try && !info.pin_locked);
    fine(p11_login(session, BYTES_LIT("123456"), &error));
    fine(p11_token_find(module, "pkcs11:token=sim", &info, &error));
    assert_false(info.pin_count_low);
    p11_session_close(session);
    p11_module_close(module);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_message),
        cmocka_unit_test(by_sign),
        cmocka_unit_test(extractable_is_refused),
        cmocka_unit_test(a_key_is_read_whole_or_not_at_all),
        cmocka_unit_test(wrong_pin),
    };
    return cmocka_run_group_tests(tests, make, clean);
}
