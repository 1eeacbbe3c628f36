/* Does every failure have one stable, well-formed code, a class and a sentence? */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/err.h"

static void test_table_is_complete(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ERR_COUNT; i++) {
        const char *code = err_code((enum err)i);
        const char *sentence = err_sentence((enum err)i);
        /* kebab-case: it stands in URLs, metric labels and journals */
        assert_int_equal(strspn(code, "abcdefghijklmnopqrstuvwxyz0123456789-"), strlen(code));
        assert_true(code[0] != '-' && code[0] != '\0');
        assert_null(strpbrk(sentence, "\r\n\""));
        assert_int_equal(sentence[strlen(sentence) - 1], '.');
        assert_true((err_class_of((enum err)i) == ERR_CLASS_NONE) == (i == ERR_OK));
        for (unsigned j = 0; j < i; j++)
            assert_string_not_equal(code, err_code((enum err)j));
    }
}

static void test_known_rows(void **state)
{
    (void)state;
    assert_string_equal(err_code(ERR_OK), "ok");
    assert_string_equal(err_code(ERR_QUOTA_SPENT), "quota-spent");
    assert_int_equal(err_class_of(ERR_QUOTA_SPENT), ERR_CLASS_REFUSAL);
    assert_int_equal(err_class_of(ERR_BAD_DER), ERR_CLASS_PEER);
    assert_int_equal(err_class_of(ERR_FULL), ERR_CLASS_ENV);
}

static void test_out_of_range_is_internal(void **state)
{
    (void)state;
    const int values[] = {ERR_COUNT, ERR_COUNT + 1, -1, INT32_MAX, INT32_MIN};
    for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        assert_string_equal(err_code((enum err)values[i]), "internal");
        assert_string_equal(err_sentence((enum err)values[i]), err_sentence(ERR_INTERNAL));
        assert_int_equal(err_class_of((enum err)values[i]), ERR_CLASS_BUG);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_is_complete),
        cmocka_unit_test(test_known_rows),
        cmocka_unit_test(test_out_of_range_is_internal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
