/* Does a password pass against its own slow hash alone, and are weak hashes and plain text refused?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "crypto/password.h"

/* Of "certmill", by mkpasswd and openssl passwd. */
static const char *const good_hashes[] = {
    "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$sj5AhAYl2Mgux5.mENGVChR8FsTV0dp6FCDmY7hBc1D",
    "$6$saltstring$FUKgGpSuuj1TFgZMd2TmAKOiMqtsR/yTxmSYjF.lInZ/"
    "X.wcKO3Bfgig3d613hYeMc9XkPhlhypdBhrUXMCwm0",
    "$6$rounds=10000$saltstring$spO/yHaVDWT1/jWMH7aPyUZ4N3/RqSNbhN.qo83gCB2Dzm3fGzWzB/"
    "0QSu3YsoHz9w8Y34mqUcFwYqET2QGjM.",
    "$2b$10$abcdefghijklmnopqrstuuThBlVoVShJFRvFvMR3j14PgtCPZW46G",
};

static void test_hash_and_check(void **state)
{
    (void)state;
    static const char *const passwords[] = {"", "x", "correct horse battery staple",
                                            "p\xc3\xa4ssw\xc3\xb6rd"};
    for (size_t i = 0; i < sizeof passwords / sizeof *passwords; i++) {
        char hash[PASSWORD_HASH_MAX], again[PASSWORD_HASH_MAX];
        struct bytes password = bytes_of_str(passwords[i]);
        assert_int_equal(password_hash(password, hash), ERR_OK);
        assert_memory_equal(hash, "$y$", 3);
        assert_true(password_hash_is_valid(hash));
        assert_int_equal(password_check(password, hash), ERR_OK);
        assert_int_equal(password_check(BYTES_LIT("wrong"), hash), ERR_AUTH_FAILED);
        assert_int_equal(password_hash(password, again), ERR_OK);
        assert_string_not_equal(hash, again); /* salted */
    }
}

static void test_hashes_of_others(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good_hashes / sizeof *good_hashes; i++) {
        assert_true(password_hash_is_valid(good_hashes[i]));
        assert_int_equal(password_check(BYTES_LIT("certmill"), good_hashes[i]), ERR_OK);
        assert_int_equal(password_check(BYTES_LIT("certmilL"), good_hashes[i]), ERR_AUTH_FAILED);
        assert_int_equal(password_check(BYTES_LIT("certmill "), good_hashes[i]), ERR_AUTH_FAILED);
        assert_int_equal(password_check(BYTES_LIT("certmil"), good_hashes[i]), ERR_AUTH_FAILED);
        assert_int_equal(password_check((struct bytes){0}, good_hashes[i]), ERR_AUTH_FAILED);
    }
}

static const char few_rounds[] =
    "$6$rounds=1000$saltsalt$KCTxHgeULSS9dr31WnMkpRb6k4dJFIaUpPdPbMvzDJ.RCjOpYGE2ySbJmAR9"
    "JhOZVnz0jPGsWFZmNDJKMEpKm/";

static void test_what_is_no_slow_hash(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "certmill",
        "$",
        "$$",
        "$y$",
        "$y$j9T$",
        "$6$",
        "*",
        "*0",
        "*1",
        "!",
        "x",
        "$1$abcdefgh$irWbblnpmw.5z7wgBnprh0",                        /* MD5 */
        "$5$saltstring$hYRKl4iZKeg9XvbNOEIwUTH29WTTZZLIZIlVHQa.PK8", /* SHA-256: libcrypt calls it
                                                                        legacy */
        "aaQSqAReePlq6",                                             /* DES */
        "_J9..CCCCXBrJUJV154M",                                      /* BSDI DES */
        "$3$$8846f7eaee8fb117ad06bdd830b7586c",                      /* NT */
        "$y$j9T$F5Jx5fExrKuPp53xLKQ..1",                             /* a setting without a hash */
        few_rounds,
        "{SSHA}abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOP",
        "$9$abcdefgh$irWbblnpmw.5z7wgBnprh0irWbblnpmw.5z7wgBnprh0irWbblnpmw",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (password_hash_is_valid(bad[i]))
            fail_msg("taken: %s", bad[i]);
        assert_int_equal(password_check(BYTES_LIT("certmill"), bad[i]), ERR_AUTH_FAILED);
        /* plain text is never accepted, not even against itself */
        assert_int_equal(password_check(bytes_of_str(bad[i]), bad[i]), ERR_AUTH_FAILED);
    }
    /* cheap, though of the right kind */
    static const char cheap[] = "$2b$04$";
    char hash[PASSWORD_HASH_MAX];
    snprintf(hash, sizeof hash, "%s%s", cheap, good_hashes[3] + strlen(cheap));
    assert_false(password_hash_is_valid(hash));
    snprintf(hash, sizeof hash, "%s", good_hashes[0]);
    hash[4] = '7'; /* N = 1024 */
    assert_false(password_hash_is_valid(hash));
}

static void test_bounds(void **state)
{
    (void)state;
    char hash[PASSWORD_HASH_MAX];
    uint8_t text[PASSWORD_MAX + 1];
    memset(text, 'x', sizeof text);
    assert_int_equal(password_hash(bytes_of(text, PASSWORD_MAX), hash), ERR_OK);
    assert_int_equal(password_check(bytes_of(text, PASSWORD_MAX), hash), ERR_OK);
    assert_int_equal(password_check(bytes_of(text, PASSWORD_MAX - 1), hash), ERR_AUTH_FAILED);
    assert_int_equal(password_check(bytes_of(text, PASSWORD_MAX + 1), hash), ERR_AUTH_FAILED);
    assert_int_equal(password_hash(bytes_of(text, PASSWORD_MAX + 1), hash), ERR_NO_SPACE);
    /* a NUL inside would cut the password for crypt(3) */
    assert_int_equal(password_check(BYTES_LIT("certmill\0x"), good_hashes[1]), ERR_AUTH_FAILED);
    assert_int_equal(password_hash(BYTES_LIT("a\0b"), hash), ERR_NO_SPACE);
    static char long_hash[2 * PASSWORD_HASH_MAX];
    memset(long_hash, 'a', sizeof long_hash - 1);
    memcpy(long_hash, "$6$", 3);
    assert_false(password_hash_is_valid(long_hash));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hash_and_check),
        cmocka_unit_test(test_hashes_of_others),
        cmocka_unit_test(test_what_is_no_slow_hash),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
