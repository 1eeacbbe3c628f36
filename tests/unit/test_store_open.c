/* Does a store open for one daemon alone, in the right version, with all that was committed, and
 * does it say what to do otherwise? */
#include "store/internal.h"
#include "test_store_fixture.h"

static void a_second_daemon_is_refused(void **state)
{
    struct fixture *fx = *state;
    struct store_config config = {.dir = fx->dir};
    struct store *second = NULL;
    char detail[256] = "";
    assert_int_equal(store_open(&config, &second, detail), ERR_STORE_BUSY);
    assert_non_null(strstr(detail, "another certmilld"));
    assert_null(second);
    assert_int_equal(store_open(&config, &second, NULL), ERR_STORE_BUSY);
    fixture_close(fx);
    fixture_open(fx, 1);
}

static void the_directory_is_made_private(void **state)
{
    struct fixture *fx = *state;
    struct stat status;
    char path[200];
    fixture_close(fx);
    fixture_remove(fx);
    fixture_open(fx, 1);
    assert_int_equal(stat(fx->dir, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0700);
    snprintf(path, sizeof(path), "%s/data.mdb", fx->dir);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static void what_cannot_be_opened_says_why(void **state)
{
    (void)state;
    struct store *store = NULL;
    char detail[256] = "";
    struct store_config absent = {.dir = "/nonexistent/dir/store"};
    assert_int_equal(store_open(&absent, &store, detail), ERR_IO);
    assert_non_null(strstr(detail, "No such file"));
    absent.read_only = true;
    detail[0] = '\0';
    assert_int_equal(store_open(&absent, &store, detail), ERR_IO);
    assert_non_null(strstr(detail, "No such file"));
    assert_null(store);
}

static void set_schema(struct fixture *fx, uint32_t version)
{
    struct store_txn *txn;
    struct commit_token token;
    assert_int_equal(store_txn_begin(fx->store, &txn), ERR_OK);
    assert_int_equal(db_put(&txn->db, DB_META, BYTES_LIT("schema"),
                            bytes_of(&version, sizeof(version)), DB_PUT_ANY),
                     ERR_OK);
    assert_int_equal(store_txn_commit(txn, &token), ERR_OK);
}

static void another_version_is_left_alone(void **state)
{
    struct fixture *fx = *state;
    struct store *store = NULL;
    char detail[256] = "";
    set_schema(fx, STORE_LAYOUT_VERSION + 1);
    fixture_close(fx);
    for (int read_only = 0; read_only < 2; read_only++) {
        struct store_config config = {.dir = fx->dir, .read_only = read_only != 0};
        assert_int_equal(store_open(&config, &store, detail), ERR_STORE_VERSION);
        assert_non_null(strstr(detail, "schema 3"));
        assert_null(store);
    }
}

static void what_is_no_store_is_not_opened(void **state)
{
    struct fixture *fx = *state;
    char path[200], detail[256] = "";
    struct store *store = NULL;
    fixture_close(fx);
    fixture_remove(fx);
    assert_int_equal(mkdir(fx->dir, 0700), 0);
    snprintf(path, sizeof(path), "%s/data.mdb", fx->dir);
    FILE *file = fopen(path, "w");
    for (int i = 0; i < 3000; i++)
        fputs("not a store", file);
    fclose(file);
    struct store_config config = {.dir = fx->dir};
    assert_int_equal(store_open(&config, &store, detail), ERR_STORE_VERSION);
    assert_true(detail[0] != '\0');
    /* the lock is free again */
    unlink(path);
    fixture_open(fx, 1);
}

static void ids_are_given_once(void **state)
{
    struct fixture *fx = *state;
    static const uint8_t other[32] = {8};
    uint32_t line_a, line_b, issuer;
    assert_int_equal(fx->line_a, 1);
    assert_int_equal(fx->line_b, 2);
    assert_int_equal(fx->issuer, 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(store_line_id(fx->store, "line-b", &line_b), ERR_OK);
        assert_int_equal(store_line_id(fx->store, "line-a", &line_a), ERR_OK);
        assert_int_equal(store_issuer_id(fx->store, other, &issuer), ERR_OK);
        assert_int_equal(line_a, 1);
        assert_int_equal(line_b, 2);
        assert_int_equal(issuer, 2);
        fixture_close(fx);
        fixture_open(fx, 1);
    }
}

static void what_was_committed_is_there_again(void **state)
{
    struct fixture *fx = *state;
    struct store_stats before, after;
    for (uint64_t key = 1; key <= 5; key++) {
        char id[16];
        snprintf(id, sizeof(id), "dev-%d", (int)key);
        struct issue_facts facts = fixture_facts(fx, fx->line_a, id, key);
        assert_int_equal(fixture_issue(fx, &facts)->err, ERR_OK);
    }
    store_stats(fx->store, &before);
    fixture_close(fx);
    fixture_open(fx, 1);
    store_stats(fx->store, &after);
    assert_int_equal(after.cert_count, 5);
    assert_int_equal(after.cert_count, before.cert_count);
    assert_int_equal(after.device_count, before.device_count);
    assert_int_equal(after.journal_count, before.journal_count);
    assert_true(after.map_used >= 4096 && after.map_size == STORE_MAP_SIZE_DEFAULT);
    /* numbers go on where they stopped */
    struct issue_facts next = fixture_facts(fx, fx->line_a, "dev-6", 6);
    assert_int_equal(fixture_issue(fx, &next)->err, ERR_OK);
    assert_int_equal(fixture_device(fx, fx->line_a, "dev-6").cert_log, 6);
    assert_int_equal(fixture_verify(fx), 6);
}

static off_t file_size(const struct fixture *fx)
{
    char path[200];
    struct stat status;
    snprintf(path, sizeof(path), "%s/data.mdb", fx->dir);
    assert_int_equal(stat(path, &status), 0);
    assert_true(status.st_blocks * 512 >= status.st_size); /* written, not only long */
    return status.st_size;
}

/* A commit finds its pages written before, so that its sync need not wait for the file system's own
 * journal: the file grows in steps, between commits. */
static void the_file_is_written_ahead(void **state)
{
    struct fixture *fx = *state;
    struct store_stats stats;
    off_t last = 0;
    int grown = 0;
    for (uint64_t key = 1; key <= 400; key++) {
        char id[16];
        snprintf(id, sizeof(id), "dev-%d", (int)key);
        struct issue_facts facts = fixture_facts(fx, fx->line_a, id, key);
        assert_int_equal(fixture_issue(fx, &facts)->err, ERR_OK);
        store_stats(fx->store, &stats);
        off_t size = file_size(fx);
        assert_true((uint64_t)size >= stats.map_used + (1 << 20));
        grown += size != last;
        last = size;
    }
    assert_true(grown <= 3);
}

/* The CLI beside the daemon: LMDB wants another process for that. */
static void a_tool_reads_beside_the_daemon(void **state)
{
    struct fixture *fx = *state;
    struct issue_facts facts = fixture_facts(fx, fx->line_a, "dev-1", 1);
    assert_int_equal(fixture_issue(fx, &facts)->err, ERR_OK);
    char self[32], command[300];
    snprintf(self, sizeof(self), "/proc/%d/exe", (int)getpid());
    snprintf(command, sizeof(command), "%s --read %s", self, fx->dir);
    assert_int_equal(system(command), 0);
    struct issue_facts more = fixture_facts(fx, fx->line_a, "dev-2", 2);
    assert_int_equal(fixture_issue(fx, &more)->err, ERR_OK);
}

static int read_beside(const char *dir)
{
    struct store *store;
    struct store_reader *reader;
    struct device_record device;
    uint64_t count, bad;
    char detail[256] = "";
    struct store_config config = {.dir = dir, .read_only = true};
    if (store_open(&config, &store, detail) != ERR_OK) {
        fprintf(stderr, "%s\n", detail);
        return 1;
    }
    if (store_reader_new(store, &reader) != ERR_OK || reader_begin(reader) != ERR_OK)
        return 2;
    if (reader_device(reader, 1, BYTES_LIT("dev-1"), &device) != ERR_OK || device.cert_log != 1)
        return 3;
    if (store_journal_verify(reader, &count, &bad) != ERR_OK || count != 1)
        return 4;
    reader_end(reader);
    store_reader_free(reader);
    store_close(store);
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--read") == 0)
        return read_beside(argv[2]);
    const struct CMUnitTest tests[] = {
        TEST(a_second_daemon_is_refused),        TEST(the_directory_is_made_private),
        TEST(what_cannot_be_opened_says_why),    TEST(another_version_is_left_alone),
        TEST(what_is_no_store_is_not_opened),    TEST(ids_are_given_once),
        TEST(what_was_committed_is_there_again), TEST(the_file_is_written_ahead),
        TEST(a_tool_reads_beside_the_daemon),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
