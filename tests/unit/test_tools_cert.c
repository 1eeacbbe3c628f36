/* Does the operator's tool say what became of a certificate: valid, superseded, on hold, revoked,
 * and when and why? */
#include "test_factory_check.h"
#include "tools/shelf.h"

/* Of shelf.c, which needs a configuration. */
const char *shelf_line_name(const struct shelf *shelf, uint32_t line_id)
{
    (void)shelf;
    (void)line_id;
    return "line-a";
}

static void issue(struct fixture *fx, enum issue_kind kind, uint64_t current_log, uint64_t key)
{
    struct issue_facts facts = fixture_facts(fx, fx->line_a, "dev-1", key);
    facts.kind = (uint8_t)kind;
    facts.current_log = current_log;
    assert_int_equal(fixture_issue(fx, &facts)->err, ERR_OK);
}

static const char *text_of(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    assert_non_null(value);
    return json_is_null(value) ? "null" : json_string_value(value);
}

/* What cert show, list and find say with --json. */
static void check_json(struct fixture *fx, uint64_t log, const char *status, const char *reason)
{
    struct shelf *shelf = calloc(1, sizeof(*shelf));
    struct cert_view cert;
    shelf->reader = fixture_reader(fx);
    assert_int_equal(reader_cert(shelf->reader, log, &cert), ERR_OK);
    json_t *object = cert_json(shelf, &cert);
    assert_string_equal(text_of(object, "status"), status);
    assert_string_equal(text_of(object, "reason"), reason);
    if (strcmp(reason, "null") == 0)
        assert_string_equal(text_of(object, "revoked"), "null");
    else
        assert_memory_equal(text_of(object, "revoked"), "20", 2);
    json_decref(object);
    fixture_reader_done(shelf->reader);
    free(shelf);
}

/* And to people. */
static void check_print(struct fixture *fx, uint64_t log, const char *line)
{
    struct shelf *shelf = calloc(1, sizeof(*shelf));
    struct cert_view cert;
    char text[4096] = "";
    FILE *into = tmpfile();
    int out = dup(STDOUT_FILENO);
    assert_non_null(into);
    shelf->reader = fixture_reader(fx);
    assert_int_equal(reader_cert(shelf->reader, log, &cert), ERR_OK);
    fflush(stdout);
    dup2(fileno(into), STDOUT_FILENO);
    cert_print(shelf, &cert);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    close(out);
    rewind(into);
    assert_true(fread(text, 1, sizeof(text) - 1, into) > 100);
    fclose(into);
    if (strstr(text, line) == NULL)
        fail_msg("'%s' is not in:\n%s", line, text);
    fixture_reader_done(shelf->reader);
    free(shelf);
}

static void every_status(void **state)
{
    struct fixture *fx = *state;
    issue(fx, ISSUE_NEW, 0, 1);
    check_json(fx, 1, "valid", "null");
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 1, REASON_HOLD), ERR_OK);
    check_json(fx, 1, "on-hold", "certificateHold");
    check_print(fx, 1, "Reason        certificateHold\n");
    assert_int_equal(settle_log(fx, SETTLE_RELEASE, 1, 0), ERR_OK);
    check_json(fx, 1, "valid", "null");
    issue(fx, ISSUE_RENEWAL, 1, 2);
    check_json(fx, 1, "superseded", "null");
    check_print(fx, 1, "Replaced by   2\n");
    assert_int_equal(settle_log(fx, SETTLE_REVOKE, 2, REASON_KEY_COMPROMISE), ERR_OK);
    check_json(fx, 2, "revoked", "keyCompromise");
    check_print(fx, 2, "Status        revoked\n");
    check_print(fx, 2, "Revoked       20");
    check_print(fx, 2, "Reason        keyCompromise\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_status, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
