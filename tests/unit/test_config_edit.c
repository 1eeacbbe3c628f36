/* Does a change of a CA's entries leave every other octet of a configuration alone, in all the ways
 * that people write YAML, and is what cannot be changed safely refused?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_edit.h"

static const char *const previous[] = {"ca/a.pem", "ca/b c.pem"};
static const struct config_edit EDITS[] = {
    {.key = "key", .text = "pkcs11:object=issuing-2"},
    {.key = "previous", .list = previous, .list_count = 2},
    {.key = "old_with_new"},
};

static enum err edit(const char *text, char **out)
{
    char error[CONFIG_ERROR_MAX] = "";
    enum err err = config_edit_ca(bytes_of_str(text), "issuing", EDITS, 3, out, error);
    if (err != ERR_OK)
        assert_true(error[0] != 0);
    return err;
}

static void becomes(const char *before, const char *after)
{
    char *made = NULL;
    assert_int_equal(edit(before, &made), ERR_OK);
    assert_string_equal(made, after);
    free(made);
    /* what is as wanted stays as it is */
    assert_int_equal(edit(after, &made), ERR_OK);
    assert_string_equal(made, after);
    free(made);
}

static void is_refused(const char *text)
{
    char *made = NULL;
    assert_int_equal(edit(text, &made), ERR_CONFIG);
    assert_null(made);
}

static void block_style(void **state)
{
    (void)state;
    becomes("# h\xc3\xa9 comment\n"
            "cas:\n"
            "  - name: other   # first\n"
            "    key: pkcs11:object=other\n"
            "  - name: issuing\n"
            "    key: pkcs11:object=issuing  # the key\n"
            "    chain:\n"
            "    - ca/root.pem\n"
            "lines: [a, b]   # kept\n",
            "# h\xc3\xa9 comment\n"
            "cas:\n"
            "  - name: other   # first\n"
            "    key: pkcs11:object=other\n"
            "  - name: issuing\n"
            "    previous: [ca/a.pem, \"ca/b c.pem\"]\n"
            "    key: pkcs11:object=issuing-2  # the key\n"
            "    chain:\n"
            "    - ca/root.pem\n"
            "lines: [a, b]   # kept\n");
}

static void lists_and_quotes_are_replaced(void **state)
{
    (void)state;
    becomes("cas:\n"
            "- 'name': 'issuing'\n"
            "  previous:\n"
            "  - ca/old.pem\n"
            "  - ca/older.pem   # the last\n"
            "  # a word on the key\n"
            "  \"key\": \"pkcs11:object=issuing\"\n"
            "x: 1\n",
            "cas:\n"
            "- 'name': 'issuing'\n"
            "  previous: [ca/a.pem, \"ca/b c.pem\"]   # the last\n"
            "  # a word on the key\n"
            "  \"key\": pkcs11:object=issuing-2\n"
            "x: 1\n");
}

static void entries_are_taken_out(void **state)
{
    (void)state;
    becomes("cas:\n"
            "  - name: issuing\n"
            "    old_with_new: ca/link.pem\n"
            "    key: k\n"
            "    previous: [x]\n",
            "cas:\n"
            "  - name: issuing\n"
            "    key: pkcs11:object=issuing-2\n"
            "    previous: [ca/a.pem, \"ca/b c.pem\"]\n");
    becomes("cas:\n"
            "  - name: issuing\n"
            "    key: k\n"
            "    previous: [x]\n"
            "    old_with_new: ca/link.pem\n"
            "x: 1\n",
            "cas:\n"
            "  - name: issuing\n"
            "    key: pkcs11:object=issuing-2\n"
            "    previous: [ca/a.pem, \"ca/b c.pem\"]\n"
            "x: 1\n");
}

static void flow_style(void **state)
{
    (void)state;
    becomes(
        "{\"cas\": [{\"name\": \"issuing\", \"key\": \"k\", \"old_with_new\": \"l\"}], \"x\": 1}",
        "{\"cas\": [{\"name\": \"issuing\", \"previous\": [\"ca/a.pem\", \"ca/b c.pem\"], "
        "\"key\": \"pkcs11:object=issuing-2\"}], \"x\": 1}");
}

static void what_is_not_safe_is_refused(void **state)
{
    (void)state;
    is_refused("");
    is_refused("cas: []\n");
    is_refused("cas:\n  - name: issuing\n"); /* no second key to insert at */
    is_refused("cas:\n  - name: other\n    key: k\n");
    is_refused("cas:\n  - name: issuing\n    key: |\n      k\n"); /* a block of text */
    is_refused("x: &k pkcs11:object=issuing\ncas:\n  - name: issuing\n    key: *k\n");
    is_refused("cas:\n  - name: issuing\n   key: broken\n");
    is_refused("\xef\xbb\xbf"
               "cas:\n  - name: issuing\n    key: k\n");
}

static void an_entry_for_people(void **state)
{
    (void)state;
    char buf[128];
    struct writer out = writer_of(buf, sizeof(buf) - 1);
    config_edit_put(&out, &EDITS[1]);
    config_edit_put(&out, &EDITS[2]);
    buf[out.len] = 0;
    assert_string_equal(buf, "previous: [ca/a.pem, \"ca/b c.pem\"]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(block_style),
        cmocka_unit_test(lists_and_quotes_are_replaced),
        cmocka_unit_test(entries_are_taken_out),
        cmocka_unit_test(flow_style),
        cmocka_unit_test(what_is_not_safe_is_refused),
        cmocka_unit_test(an_entry_for_people),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
