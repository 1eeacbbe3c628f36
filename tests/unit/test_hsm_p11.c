/* Does hsm/p11 name the right token and key, refuse what it must, and return X.509 signatures? */
#include "test_hsm_token.h"

#include "hsm/p11/module.h"
#include "hsm/p11/rv.h"
#include "hsm/p11/uri.h"

/* --- URIs --- */

struct uri_case {
    const char *text;
    const char *reason; /* part of it; NULL: accepted */
};

static const struct uri_case uri_cases[] = {
    {"pkcs11:", NULL},
    {"PKCS11:token=a", NULL},
    {"pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.", NULL},
    {"pkcs11:object=my-pubkey;type=public", NULL},
    {"pkcs11:object=k;id=%69%95%3E%5C%F4%BD%EC%91;type=private", NULL},
    {"pkcs11:id=abc%00", NULL},
    {"pkcs11:slot-id=327", NULL},
    {"pkcs11:token=a&b:c[d]@e!f$g'h(i)j*k+l,m=n", NULL},
    {NULL, "start"},
    {"", "start"},
    {"pkcs1:token=a", "start"},
    {" pkcs11:token=a", "start"},
    {"pkcs11:token", "no ="},
    {"pkcs11:token=a;", "no ="},
    {"pkcs11:;token=a", "no ="},
    {"pkcs11:token=a;token=b", "twice"},
    {"pkcs11:id=%01;id=%01", "twice"},
    {"pkcs11:slot-id=1;slot-id=1", "twice"},
    {"pkcs11:type=private;type=private", "twice"},
    {"pkcs11:token=", "empty"},
    {"pkcs11:id=", "empty"},
    {"pkcs11:token=a%2", "hex"},
    {"pkcs11:token=a%", "hex"},
    {"pkcs11:token=a%zz", "hex"},
    {"pkcs11:token=a%00", "NUL"},
    {"pkcs11:token=a b", "percent"},
    {"pkcs11:token=a/b", "percent"},
    {"pkcs11:token=a\xc3\xa4", "percent"},
    {"pkcs11:token=123456789012345678901234567890123", "long"},
    {"pkcs11:serial=12345678901234567", "long"},
    {"pkcs11:slot-id=01", "decimal"},
    {"pkcs11:slot-id=-1", "decimal"},
    {"pkcs11:slot-id=18446744073709551616", "decimal"},
    {"pkcs11:type=secret-key", "type"},
    {"pkcs11:tokem=a", "not known"},
    {"pkcs11:Token=a", "not known"},
    {"pkcs11:library-version=3", "not known"},
    {"pkcs11:token=a?pin-value=1234", "PIN"},
    {"pkcs11:token=a?pin-source=file:/etc/pin", "PIN"},
    {"pkcs11:token=a;pin-value=1234", "PIN"},
    {"pkcs11:token=a?module-path=/x.so", "query"},
    {"pkcs11:token=a?", "query"},
};

static void uri_is_strict(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(uri_cases) / sizeof(uri_cases[0]); i++) {
        struct p11_uri uri;
        memset(&uri, 0x5a, sizeof(uri));
        const struct p11_uri before = uri;
        const char *reason = "";
        bool ok = p11_uri_parse(uri_cases[i].text, &uri, &reason);
        if (ok != (uri_cases[i].reason == NULL))
            fail_msg("%s: %s", uri_cases[i].text, ok ? "accepted" : reason);
        if (!ok) {
            if (strstr(reason, uri_cases[i].reason) == NULL)
                fail_msg("%s: %s", uri_cases[i].text, reason);
            assert_memory_equal(&uri, &before, sizeof(uri));
        }
    }
}

static void uri_values_are_decoded(void **state)
{
    (void)state;
    struct p11_uri uri;
    assert_true(p11_uri_parse("pkcs11:token=a%20b;serial=0a;model=M;manufacturer=N;slot-id=7;"
                              "object=%C3%A4;id=%00%fF;type=private",
                              &uri, NULL));
    assert_true(uri.has_token && uri.has_serial && uri.has_model && uri.has_manufacturer);
    assert_string_equal(uri.token, "a b");
    assert_string_equal(uri.serial, "0a");
    assert_string_equal(uri.model, "M");
    assert_string_equal(uri.manufacturer, "N");
    assert_string_equal(uri.object, "\xc3\xa4");
    assert_int_equal(uri.slot_id, 7);
    assert_int_equal(uri.id_len, 2);
    assert_memory_equal(uri.id, "\x00\xff", 2);
    assert_int_equal(uri.type, P11_URI_TYPE_PRIVATE);
}

static void uri_survives_writing(void **state)
{
    (void)state;
    char text[512];
    struct writer writer = writer_of(text, sizeof(text));
    writer_put_str(&writer, "pkcs11:object=");
    p11_uri_put_text(&writer, "a b;c/d?e%f\xc3\xa4");
    writer_put_str(&writer, ";id=");
    p11_uri_put_id(&writer, bytes_of("\x00;\xff", 3));
    writer_put_u8(&writer, 0);
    struct p11_uri uri;
    assert_true(p11_uri_parse(text, &uri, NULL));
    assert_string_equal(uri.object, "a b;c/d?e%f\xc3\xa4");
    assert_memory_equal(uri.id, "\x00;\xff", 3);
}

/* --- return values --- */

/* What DESIGN section 5 says of the ones that decide what happens. */
static const struct {
    unsigned long rv;
    const char *name;
    enum rv_class class;
} rv_expected[] = {
    {0x00, "CKR_OK", RV_CLASS_OK},
    {0x05, "CKR_GENERAL_ERROR", RV_CLASS_RETRY},
    {0x30, "CKR_DEVICE_ERROR", RV_CLASS_RETRY},
    {0x32, "CKR_DEVICE_REMOVED", RV_CLASS_REOPEN},
    {0x60, "CKR_KEY_HANDLE_INVALID", RV_CLASS_FIND_KEY},
    {0x82, "CKR_OBJECT_HANDLE_INVALID", RV_CLASS_FIND_KEY},
    {0x21, "CKR_DATA_LEN_RANGE", RV_CLASS_FATAL},
    {0x70, "CKR_MECHANISM_INVALID", RV_CLASS_FATAL},
    {0xa0, "CKR_PIN_INCORRECT", RV_CLASS_PIN},
    {0xa3, "CKR_PIN_EXPIRED", RV_CLASS_PIN},
    {0xa4, "CKR_PIN_LOCKED", RV_CLASS_PIN},
    {0xb0, "CKR_SESSION_CLOSED", RV_CLASS_REOPEN},
    {0xb3, "CKR_SESSION_HANDLE_INVALID", RV_CLASS_REOPEN},
    {0x90, "CKR_OPERATION_ACTIVE", RV_CLASS_REOPEN},
    {0xe0, "CKR_TOKEN_NOT_PRESENT", RV_CLASS_REOPEN},
    {0x101, "CKR_USER_NOT_LOGGED_IN", RV_CLASS_LOGIN},
    {0x102, "CKR_USER_PIN_NOT_INITIALIZED", RV_CLASS_RETRY},
    {0x190, "CKR_CRYPTOKI_NOT_INITIALIZED", RV_CLASS_REINIT},
    {0x1b9, "CKR_PUBLIC_KEY_INVALID", RV_CLASS_FATAL},
    {0x201, "CKR_TOKEN_RESOURCE_EXCEEDED", RV_CLASS_RETRY},
    {0x209, "CKR_PARAMETER_SET_NOT_SUPPORTED", RV_CLASS_FATAL},
    {0x80000001, "CKR_VENDOR_DEFINED", RV_CLASS_RETRY},
    {0x7777, "CKR_?", RV_CLASS_RETRY},
};

static void rv_classes_are_as_designed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rv_expected) / sizeof(rv_expected[0]); i++) {
        assert_string_equal(rv_name(rv_expected[i].rv), rv_expected[i].name);
        if (rv_class_default(rv_expected[i].rv) != rv_expected[i].class)
            fail_msg("%s is %s", rv_expected[i].name,
                     rv_class_name(rv_class_default(rv_expected[i].rv)));
    }
}

/* All that PKCS#11 3.2 defines (2.40: 86 values; 3.0 to 3.2 add 11), each once, in order. */
static void rv_table_is_complete(void **state)
{
    (void)state;
    static const unsigned long all[] = {
        0x000, 0x001, 0x002, 0x003, 0x005, 0x006, 0x007, 0x008, 0x009, 0x00a, 0x010, 0x011, 0x012,
        0x013, 0x01b, 0x020, 0x021, 0x030, 0x031, 0x032, 0x040, 0x041, 0x042, 0x050, 0x051, 0x054,
        0x060, 0x062, 0x063, 0x064, 0x065, 0x066, 0x067, 0x068, 0x069, 0x06a, 0x070, 0x071, 0x082,
        0x090, 0x091, 0x0a0, 0x0a1, 0x0a2, 0x0a3, 0x0a4, 0x0b0, 0x0b1, 0x0b3, 0x0b4, 0x0b5, 0x0b6,
        0x0b7, 0x0b8, 0x0c0, 0x0c1, 0x0d0, 0x0d1, 0x0e0, 0x0e1, 0x0e2, 0x0f0, 0x0f1, 0x0f2, 0x100,
        0x101, 0x102, 0x103, 0x104, 0x105, 0x110, 0x112, 0x113, 0x114, 0x115, 0x120, 0x121, 0x130,
        0x140, 0x150, 0x160, 0x170, 0x180, 0x190, 0x191, 0x1a0, 0x1a1, 0x1b0, 0x1b1, 0x1b5, 0x1b6,
        0x1b7, 0x1b8, 0x1b9, 0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207, 0x208, 0x209};
    const uint32_t count = sizeof(all) / sizeof(all[0]);
    unsigned long rv;
    const char *name;
    enum rv_class class;
    for (uint32_t i = 0; i < count; i++) {
        assert_true(rv_row(i, &rv, &name, &class));
        assert_int_equal(rv, all[i]);
        assert_true(strncmp(name, "CKR_", 4) == 0);
        assert_true(class < RV_CLASS_COUNT);
        assert_true((class == RV_CLASS_OK) == (rv == 0));
        unsigned long back;
        assert_true(rv_from_name(bytes_of_str(name), &back));
        assert_int_equal(back, rv);
    }
    assert_false(rv_row(count, &rv, &name, &class));
}

static void rv_overrides_work(void **state)
{
    (void)state;
    struct rv_overrides overrides;
    struct bytes bad;
    assert_true(rv_overrides_parse(NULL, &overrides, &bad));
    assert_int_equal(overrides.count, 0);
    assert_true(
        rv_overrides_parse("CKR_DEVICE_ERROR=reopen,0x80000123=fatal,5=reinit", &overrides, &bad));
    assert_int_equal(rv_class_of(&overrides, 0x30), RV_CLASS_REOPEN);
    assert_int_equal(rv_class_of(&overrides, 0x80000123), RV_CLASS_FATAL);
    assert_int_equal(rv_class_of(&overrides, 5), RV_CLASS_REINIT);
    assert_int_equal(rv_class_of(&overrides, 6), RV_CLASS_RETRY);
    static const char *const refused[] = {
        "CKR_DEVICE_ERROR", "CKR_DEVICE_ERROR=",  "CKR_NONE=retry", "CKR_OK=retry",
        "0x=retry",         "CKR_HOST_MEMORY=ok", "0x30=retry,,",   "0x11112222333344445=retry"};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        assert_false(rv_overrides_parse(refused[i], &overrides, &bad));
    assert_int_equal(overrides.count, 3); /* untouched */
}

/* --- message signing (PKCS#11 3.0 5.14), on functions that count --- */

static struct {
    int inits, messages, finals, plain_inits, plain;
    CK_RV init_rv, message_rv;
} calls;

static CK_RV count_message_init(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism,
                                CK_OBJECT_HANDLE key)
{
    (void)session;
    assert_int_equal(mechanism->mechanism, CKM_EDDSA);
    assert_true(key != 0);
    calls.inits++;
    return calls.init_rv;
}

static CK_RV count_message(CK_SESSION_HANDLE session, void *parameter, CK_ULONG parameter_len,
                           unsigned char *data, CK_ULONG data_len, unsigned char *signature,
                           CK_ULONG *signature_len)
{
    (void)session;
    (void)data;
    assert_true(parameter == NULL && parameter_len == 0 && data_len == 1);
    calls.messages++;
    memset(signature, 0x5a, 64);
    *signature_len = 64;
    return calls.message_rv;
}

static CK_RV count_message_final(CK_SESSION_HANDLE session)
{
    (void)session;
    calls.finals++;
    return CKR_OK;
}

static CK_RV count_init(CK_SESSION_HANDLE session, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    (void)session;
    (void)mechanism;
    (void)key;
    calls.plain_inits++;
    return CKR_OK;
}

static CK_RV count_sign(CK_SESSION_HANDLE session, unsigned char *data, CK_ULONG data_len,
                        unsigned char *signature, CK_ULONG *signature_len)
{
    calls.plain++;
    calls.messages--;
    CK_RV rv = count_message(session, NULL, 0, data, data_len, signature, signature_len);
    (void)rv;
    return CKR_OK;
}

static enum err sign_a(struct p11_session *on, unsigned long handle)
{
    const struct p11_key key = {.private_handle = handle, .alg = KEY_ED25519};
    uint8_t out[64];
    size_t len = 0;
    struct p11_error error;
    enum err err =
        p11_sign(on, &key, SIGN_MECH_EDDSA, BYTES_LIT("a"), out, sizeof(out), &len, &error);
    assert_true(err != ERR_OK || len == 64);
    return err;
}

static void one_init_serves_many_messages(void **state)
{
    (void)state;
    static struct p11_functions_v3 v3;
    v3.v2.C_SignInit = count_init;
    v3.v2.C_Sign = count_sign;
    v3.message_sign_init = count_message_init;
    v3.sign_message = count_message;
    v3.message_sign_final = count_message_final;
    struct p11_module counting = {.functions = &v3.v2, .v3 = &v3};
    struct p11_session on = {.module = &counting};
    on.message_signing[SIGN_MECH_EDDSA] = true;
    memset(&calls, 0, sizeof(calls));
    for (int i = 0; i < 10; i++)
        assert_int_equal(sign_a(&on, 1), ERR_OK);
    assert_int_equal(calls.inits, 1);
    assert_int_equal(calls.messages, 10);
    assert_int_equal(sign_a(&on, 2), ERR_OK); /* another key: another operation */
    assert_int_equal(calls.finals, 1);
    assert_int_equal(calls.inits, 2);
    calls.message_rv = CKR_DEVICE_ERROR; /* a failure ends it */
    assert_int_equal(sign_a(&on, 2), ERR_SIGNER_FAILED);
    assert_int_equal(calls.finals, 2);
    calls.message_rv = CKR_OK;
    assert_int_equal(sign_a(&on, 2), ERR_OK);
    assert_int_equal(calls.inits, 3);
    assert_int_equal(calls.plain, 0);
    /* a token that takes it back is asked the old way from then on */
    calls.init_rv = CKR_FUNCTION_NOT_SUPPORTED;
    assert_int_equal(sign_a(&on, 3), ERR_OK);
    assert_int_equal(sign_a(&on, 3), ERR_OK);
    assert_int_equal(calls.inits, 4);
    assert_int_equal(calls.plain, 2);
    assert_int_equal(calls.plain_inits, 2);
}

/* --- a real token --- */

static struct p11_module *module;
static struct p11_session *session;

static int token_setup(void **state)
{
    (void)state;
    test_folder_make();
    module = test_module_open();
    test_token_make(module, TEST_TOKEN);
    session = test_session(module, TEST_TOKEN_URI);
    return 0;
}

static int token_teardown(void **state)
{
    (void)state;
    p11_session_close(session);
    p11_module_close(module);
    test_folder_remove();
    return 0;
}

static void token_is_found_by_uri(void **state)
{
    (void)state;
    struct p11_token_info info, again;
    struct p11_error error;
    char uri[128];
    assert_int_equal(p11_token_find(module, TEST_TOKEN_URI, &info, &error), ERR_OK);
    assert_string_equal(info.label, TEST_TOKEN);
    assert_true(info.initialized && info.login_required && info.user_pin_set);
    /* alone, so a URI without attributes names it too */
    assert_int_equal(p11_token_find(module, "pkcs11:", &again, &error), ERR_OK);
    assert_int_equal(again.slot, info.slot);
    snprintf(uri, sizeof(uri), "pkcs11:serial=%s;slot-id=%lu", info.serial, info.slot);
    assert_int_equal(p11_token_find(module, uri, &again, &error), ERR_OK);
    snprintf(uri, sizeof(uri), "pkcs11:slot-id=%lu", info.slot + 1);
    assert_int_equal(p11_token_find(module, uri, &again, &error), ERR_SIGNER_UNAVAILABLE);
    assert_int_equal(p11_token_find(module, "pkcs11:token=other", &again, &error),
                     ERR_SIGNER_UNAVAILABLE);
    assert_int_equal(p11_token_find(module, "token=other", &again, &error), ERR_CONFIG);
}

static void two_tokens_alike_are_refused(void **state)
{
    (void)state;
    struct p11_token_info info;
    struct p11_error error;
    p11_session_close(session);
    test_token_make(module, "twin");
    test_token_make(module, "twin");
    session = test_session(module, TEST_TOKEN_URI);
    assert_int_equal(p11_token_find(module, "pkcs11:token=twin", &info, &error), ERR_CONFIG);
    assert_non_null(strstr(error.text, "serial="));
    assert_int_equal(p11_token_find(module, "pkcs11:", &info, &error), ERR_CONFIG);
}

static void wrong_pin_is_an_error_of_its_own(void **state)
{
    (void)state;
    struct p11_session *other = NULL;
    struct p11_error error;
    p11_session_close(session);
    test_token_make(module, "pin-test");
    session = test_session(module, TEST_TOKEN_URI);
    assert_int_equal(p11_session_open(module, "pkcs11:token=pin-test", false, &other, &error),
                     ERR_OK);
    bool logged_in = true;
    assert_int_equal(p11_session_state(other, &logged_in, &error), ERR_OK);
    assert_false(logged_in);
    assert_int_equal(p11_login(other, BYTES_LIT("nonsense"), &error), ERR_PIN_WRONG);
    assert_int_equal(error.rv, 0xa0);
    assert_non_null(strstr(error.text, "CKR_PIN_INCORRECT"));
    assert_null(strstr(error.text, "nonsense"));
    struct p11_token_info info;
    assert_int_equal(p11_token_find(module, "pkcs11:token=pin-test", &info, &error), ERR_OK);
    assert_true(info.pin_count_low);
    assert_int_equal(p11_login(other, BYTES_LIT(TEST_PIN), &error), ERR_OK);
    assert_int_equal(p11_login(other, BYTES_LIT(TEST_PIN), &error), ERR_OK); /* already */
    assert_int_equal(p11_session_state(other, &logged_in, &error), ERR_OK);
    assert_true(logged_in);
    p11_session_close(other);
}

static const struct {
    enum key_alg alg;
    uint32_t bits;
    const char *label;
    enum sig_alg sigs[4];
} key_kinds[] = {
    {KEY_EC_P256, 256, "p256", {SIG_ECDSA_SHA256, SIG_ECDSA_SHA384, SIG_ECDSA_SHA512}},
    {KEY_EC_P384, 384, "p384", {SIG_ECDSA_SHA384, SIG_ECDSA_SHA256}},
    {KEY_RSA, 2048, "rsa", {SIG_RSA_SHA256, SIG_RSA_SHA384, SIG_RSA_SHA512}},
    {KEY_RSA, 3072, "rsa pss", {SIG_RSA_PSS_SHA256, SIG_RSA_PSS_SHA384, SIG_RSA_PSS_SHA512}},
    {KEY_ED25519, 256, "ed25519", {SIG_ED25519}},
};

static void check_signature(const struct p11_key *key, enum sig_alg alg, struct bytes message)
{
    uint8_t signature[SIGNATURE_MAX];
    size_t len = 0;
    struct p11_error error;
    TEST_LEAKS_BEGIN();
    /* no room: an error, not an overrun */
    assert_int_not_equal(p11_sign_message(session, key, alg, message, signature, 8, &len, &error),
                         ERR_OK);
    enum err err =
        p11_sign_message(session, key, alg, message, signature, sizeof(signature), &len, &error);
    TEST_LEAKS_END();
    if (err != ERR_OK)
        fail_msg("%s: %s", sig_alg_name(alg), error.text);
    struct spki spki;
    assert_int_equal(spki_decode(bytes_of(key->spki_der, key->spki_len), &spki), ERR_OK);
    struct verify_job job = {
        .alg = alg, .spki = &spki, .message = message, .signature = bytes_of(signature, len)};
    if (verify_one(&job) != ERR_OK)
        fail_msg("%s does not verify", sig_alg_name(alg));
    signature[len - 1] ^= 1;
    assert_int_not_equal(verify_one(&job), ERR_OK);
}

static void keys_of_every_kind_are_made_found_and_sign(void **state)
{
    (void)state;
    struct p11_error error;
    for (size_t i = 0; i < sizeof(key_kinds) / sizeof(key_kinds[0]); i++) {
        struct p11_key made, found;
        test_key_make(session, key_kinds[i].alg, key_kinds[i].bits, key_kinds[i].label, false,
                      &made);
        assert_int_equal(made.alg, key_kinds[i].alg);
        assert_int_equal(made.bits, key_kinds[i].bits);
        assert_true(made.sensitive && !made.extractable && made.can_sign && made.local);
        assert_true(made.always_sensitive && made.never_extractable);
        assert_int_equal(made.id_len, 16);
        assert_int_equal(p11_key_check(&made, false, &error), ERR_OK);

        char uri[512];
        assert_int_equal(p11_key_uri(session, &made, uri, sizeof(uri)), ERR_OK);
        assert_int_equal(p11_key_find(session, uri, &found, &error), ERR_OK);
        assert_memory_equal(found.id, made.id, 16);
        assert_int_equal(found.spki_len, made.spki_len);
        assert_memory_equal(found.spki_der, made.spki_der, made.spki_len);
        for (unsigned s = 0; s < 4 && key_kinds[i].sigs[s] != SIG_NONE; s++)
            check_signature(&found, key_kinds[i].sigs[s], BYTES_LIT("a message to be signed"));
    }
    struct p11_key *all = calloc(8, sizeof(*all));
    uint32_t count = 0;
    assert_int_equal(p11_key_list(session, all, 8, &count, &error), ERR_OK);
    assert_int_equal(count, sizeof(key_kinds) / sizeof(key_kinds[0]));
    assert_int_equal(p11_key_list(session, all, 2, &count, &error), ERR_NO_SPACE);
    free(all);
}

static void keys_are_renamed_and_destroyed(void **state)
{
    (void)state;
    struct p11_key key, found;
    struct p11_error error;
    test_key_make(session, KEY_EC_P256, 0, "old name", false, &key);
    const struct p11_key_template again = {.alg = KEY_EC_P256, .label = "old name"};
    assert_int_equal(p11_key_generate(session, &again, &found, &error), ERR_CONFIG);
    const struct p11_key_template same_id = {
        .alg = KEY_EC_P256, .label = "another", .id = bytes_of(key.id, key.id_len)};
    assert_int_equal(p11_key_generate(session, &same_id, &found, &error), ERR_CONFIG);

    assert_int_equal(p11_key_set_label(session, &key, "new name", &error), ERR_OK);
    assert_int_equal(p11_key_find(session, "pkcs11:object=old%20name", &found, &error),
                     ERR_KEY_NOT_FOUND);
    assert_int_equal(p11_key_find(session, "pkcs11:object=new%20name;type=private", &found, &error),
                     ERR_OK);
    assert_int_not_equal(found.spki_len, 0);
    assert_int_equal(p11_key_find(session, "pkcs11:object=new%20name;type=public", &found, &error),
                     ERR_CONFIG);
    assert_int_equal(p11_key_find(session, "pkcs11:type=private", &found, &error), ERR_CONFIG);
    assert_int_equal(p11_key_destroy(session, &key, &error), ERR_OK);
    assert_int_equal(p11_key_find(session, "pkcs11:object=new%20name", &found, &error),
                     ERR_KEY_NOT_FOUND);
}

static void keys_that_may_leave_are_refused(void **state)
{
    (void)state;
    struct p11_key key;
    struct p11_error error;
    test_key_make(session, KEY_EC_P256, 0, "leaky", true, &key);
    assert_true(key.extractable);
    assert_int_equal(p11_key_check(&key, false, &error), ERR_CONFIG);
    assert_non_null(strstr(error.text, "CKA_EXTRACTABLE"));
    assert_int_equal(p11_key_check(&key, true, &error), ERR_OK);
    key.extractable = false;
    key.sensitive = false;
    assert_int_equal(p11_key_check(&key, false, &error), ERR_CONFIG);
    key.sensitive = true;
    assert_int_equal(p11_key_check(&key, false, &error), ERR_OK);
    key.always_authenticate = true;
    assert_int_equal(p11_key_check(&key, true, &error), ERR_CONFIG);
    assert_non_null(strstr(error.text, "CKA_ALWAYS_AUTHENTICATE"));
    key.always_authenticate = false;
    key.can_sign = false;
    assert_int_equal(p11_key_check(&key, true, &error), ERR_CONFIG);
    assert_int_equal(p11_key_destroy(session, &key, &error), ERR_OK);
}

static void a_mechanism_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    struct p11_key key;
    struct p11_error error;
    uint8_t out[SIGNATURE_MAX];
    size_t len = 77;
    test_key_make(session, KEY_EC_P256, 0, "misfit", false, &key);
    assert_int_equal(p11_sign(session, &key, SIGN_MECH_RSA_PKCS1, BYTES_LIT("x"), out, sizeof(out),
                              &len, &error),
                     ERR_CONFIG);
    assert_int_equal(len, 77);
    assert_int_equal(p11_sign_message(session, &key, SIG_ED25519, BYTES_LIT("x"), out, sizeof(out),
                                      &len, &error),
                     ERR_BAD_ALG);
    assert_int_equal(p11_key_destroy(session, &key, &error), ERR_OK);
}

static void what_is_no_module_is_refused(void **state)
{
    (void)state;
    struct p11_module *none = NULL;
    struct p11_error error;
    assert_int_equal(p11_module_open("/nowhere/x.so", &none, &error), ERR_CONFIG);
    assert_int_equal(p11_module_open("libm.so.6", &none, &error), ERR_CONFIG);
    assert_non_null(strstr(error.text, "C_GetFunctionList"));
    assert_null(none);
    struct p11_module_info info;
    assert_int_equal(p11_module_info(module, &info, &error), ERR_OK);
    assert_string_equal(info.manufacturer, "SoftHSM");
}

int main(void)
{
    cmocka_set_test_filter(getenv("TEST_HSM_FILTER"));
    const struct CMUnitTest plain[] = {
        cmocka_unit_test(uri_is_strict),
        cmocka_unit_test(uri_values_are_decoded),
        cmocka_unit_test(uri_survives_writing),
        cmocka_unit_test(rv_classes_are_as_designed),
        cmocka_unit_test(rv_table_is_complete),
        cmocka_unit_test(rv_overrides_work),
        cmocka_unit_test(one_init_serves_many_messages),
    };
    const struct CMUnitTest token[] = {
        cmocka_unit_test(token_is_found_by_uri),
        cmocka_unit_test(keys_of_every_kind_are_made_found_and_sign),
        cmocka_unit_test(keys_are_renamed_and_destroyed),
        cmocka_unit_test(keys_that_may_leave_are_refused),
        cmocka_unit_test(a_mechanism_that_does_not_fit_is_refused),
        cmocka_unit_test(what_is_no_module_is_refused),
        cmocka_unit_test(wrong_pin_is_an_error_of_its_own),
        cmocka_unit_test(two_tokens_alike_are_refused),
    };
    int failed = cmocka_run_group_tests_name("uri-rv", plain, NULL, NULL);
    return failed + cmocka_run_group_tests_name("token", token, token_setup, token_teardown);
}
