/* Do the simulator's faults strike the calls, at the times and as often as their file says, the
 * same in every process; and does the shared status stay right when processes die?
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "hsm/sim/board.c" /* the module exports PKCS#11 alone */
#include "hsm/sim/describe.c"
#include "hsm/sim/dist.c"
#include "hsm/sim/engines.c"
#include "hsm/sim/faults.c"
#include "hsm/sim/preset.c"

static char directory[] = "/tmp/certmill-test-sim-XXXXXX";
static char status_path[64], control_path[64], beside_path[64];
static uint64_t fake_ns; /* 0: the real clock */

static uint64_t now_mono(void *ctx)
{
    (void)ctx;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return fake_ns ? fake_ns : (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint64_t now_wall(void *ctx)
{
    (void)ctx;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static int make_folder(void **state)
{
    (void)state;
    static const struct clock_source source = {now_mono, now_wall, NULL};
    if (!mkdtemp(directory))
        return -1;
    snprintf(status_path, sizeof status_path, "%s/status", directory);
    snprintf(control_path, sizeof control_path, "%s/control", directory);
    snprintf(beside_path, sizeof beside_path, "%s/control.new", directory);
    clock_replace(&source);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(status_path);
    unlink(control_path);
    return rmdir(directory);
}

static int fresh(void **state)
{
    (void)state;
    unlink(status_path);
    unlink(control_path);
    fake_ns = 0;
    return 0;
}

/* --- a token with these faults --- */

struct rig {
    struct description description;
    struct board_place place;
    struct faults *faults;
};

static struct rig *rig_new(const char *faults_yaml)
{
    static struct fault_set set;
    char error[DESCRIBE_ERROR_MAX];
    struct rig *rig = calloc(1, sizeof *rig);
    assert_non_null(rig);
    FILE *file = fopen(beside_path, "w");
    assert_non_null(file);
    fputs(faults_yaml, file);
    fclose(file);
    if (fault_set_load(beside_path, &set, error))
        fail_msg("%s", error);
    unlink(beside_path);
    rig->description.faults = set;
    rig->description.seed = 1;
    snprintf(rig->description.control, sizeof rig->description.control, "%s", control_path);
    assert_int_equal(board_attach(status_path, &rig->place), ERR_OK);
    rig->faults = faults_new(&rig->description, &rig->place);
    assert_non_null(rig->faults);
    return rig;
}

static void rig_free(struct rig *rig)
{
    faults_free(rig->faults);
    board_detach(&rig->place);
    free(rig);
}

/* Which of `count` sign calls were met, as characters. */
static const char *calls(struct rig *rig, enum call_kind call, int count)
{
    static char seen[2001];
    assert_true(count < (int)sizeof seen);
    for (int i = 0; i < count; i++) {
        bool wrong = false;
        unsigned long rv = faults_meet(rig->faults, call, &wrong);
        seen[i] = rv == CKR_DEVICE_ERROR ? 'E' : rv != CKR_OK ? '?' : wrong ? 'W' : '.';
    }
    seen[count] = 0;
    return seen;
}

static void by_number(void **state)
{
    (void)state;
    struct rig *rig = rig_new("faults: [{kind: error, every: 3}]\n");
    assert_string_equal(calls(rig, CALL_SIGN, 9), "..E..E..E");
    assert_string_equal(calls(rig, CALL_FIND, 9), ".........");
    assert_int_equal(board_get(&rig->place, BOARD_errors), 3);
    rig_free(rig);
    rig = rig_new("faults: [{kind: error, at_call: 4, for_calls: 2}, "
                  "{kind: wrong-signature, every: 2, times: 2}]\n");
    assert_string_equal(calls(rig, CALL_SIGN, 9), ".W.EEW...");
    assert_int_equal(board_get(&rig->place, BOARD_wrong_signatures), 2);
    rig_free(rig);
    rig = rig_new("faults: [{kind: error, calls: [login, find], times: 3}]\n");
    assert_string_equal(calls(rig, CALL_SIGN, 2), "..");
    assert_string_equal(calls(rig, CALL_LOGIN, 2), "EE");
    assert_string_equal(calls(rig, CALL_FIND, 3), "E..");
    rig_free(rig);
}

/* One in n: about so many, the same again from the same seed, and not evenly spaced. */
static void by_chance(void **state)
{
    (void)state;
    const char *yaml = "faults: [{kind: error, one_in: 10}]\n";
    struct rig *rig = rig_new(yaml);
    char *first = strdup(calls(rig, CALL_SIGN, 2000));
    rig_free(rig);
    rig = rig_new(yaml);
    assert_string_equal(first, calls(rig, CALL_SIGN, 2000));
    rig_free(rig);
    int count = 0, gap = 0, gaps_of_ten = 0;
    for (int i = 0; i < 2000; i++, gap++)
        if (first[i] == 'E') {
            count++;
            gaps_of_ten += gap == 9;
            gap = -1;
        }
    assert_true(abs(count - 200) < 4 * sqrt(200 * 0.9));
    assert_true(gaps_of_ten < count / 4);
    rig = rig_new(yaml);
    rig->description.seed = 2;
    assert_string_not_equal(first, calls(rig, CALL_SIGN, 2000));
    rig_free(rig);
    free(first);
}

static void by_time(void **state)
{
    (void)state;
    fake_ns = 1000 * NS_PER_S;
    struct rig *rig = rig_new("faults: [{kind: error, start_ms: 5000, length_ms: 2000},"
                              " {kind: wrong-signature, start_ms: 8000, times: 2}]\n");
    static const struct {
        uint64_t ms;
        char seen;
    } steps[] = {{0, '.'},    {4999, '.'}, {5000, 'E'}, {6999, 'E'}, {7000, '.'},
                 {7999, '.'}, {8000, 'W'}, {9000, 'W'}, {9001, '.'}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        fake_ns = 1000 * NS_PER_S + steps[i].ms * NS_PER_MS;
        assert_int_equal(calls(rig, CALL_SIGN, 1)[0], steps[i].seen);
    }
    rig_free(rig);
}

static void vanishes_and_returns(void **state)
{
    (void)state;
    fake_ns = 1000 * NS_PER_S;
    struct rig *rig = rig_new("faults: [{kind: vanish, start_ms: 100, length_ms: 100,"
                              " answer: CKR_DEVICE_ERROR}]\n");
    struct rig *other = rig_new("faults: [{kind: vanish, start_ms: 100, length_ms: 100,"
                                " answer: CKR_DEVICE_ERROR}]\n");
    assert_string_equal(calls(rig, CALL_OTHER, 1), ".");
    fake_ns += 100 * NS_PER_MS;
    assert_true(faults_vanished(rig->faults));
    assert_string_equal(calls(rig, CALL_OTHER, 2), "EE");
    assert_string_equal(calls(other, CALL_SESSION, 2), "EE");
    fake_ns += 100 * NS_PER_MS;
    assert_false(faults_vanished(rig->faults));
    assert_string_equal(calls(rig, CALL_OTHER, 2), "..");
    assert_int_equal(board_get(&rig->place, BOARD_session_epoch), 1); /* once for all */
    rig_free(other);
    rig_free(rig);
    /* nobody called while it was away: the sessions are lost all the same */
    fake_ns = 5000 * NS_PER_S;
    rig = rig_new("faults: [{kind: vanish, start_ms: 100, length_ms: 100}]\n");
    fake_ns += NS_PER_S;
    assert_string_equal(calls(rig, CALL_SIGN, 2), "..");
    assert_int_equal(board_get(&rig->place, BOARD_session_epoch), 2);
    assert_int_equal(board_get(&rig->place, BOARD_vanishes), 2);
    rig_free(rig);
}

static void loses_sessions_once(void **state)
{
    (void)state;
    struct rig *rig = rig_new("faults: [{kind: sessions-lost, calls: [sign], at_call: 3}]\n");
    for (uint64_t i = 1; i <= 6; i++) {
        assert_string_equal(calls(rig, CALL_SIGN, 1), ".");
        assert_int_equal(board_get(&rig->place, BOARD_session_epoch), i >= 3);
    }
    rig_free(rig);
}

static void waits(void **state)
{
    (void)state;
    struct rig *rig = rig_new("faults: [{kind: stall, every: 2, length_ms: 120}]\n");
    uint64_t start = now_mono(NULL);
    assert_string_equal(calls(rig, CALL_SIGN, 1), ".");
    assert_int_equal(board_get(&rig->place, BOARD_stalls), 0);
    assert_string_equal(calls(rig, CALL_SIGN, 1), ".");
    assert_int_equal(board_get(&rig->place, BOARD_stalls), 1);
    assert_true(now_mono(NULL) - start >= 120 * NS_PER_MS);
    rig_free(rig);
    rig = rig_new("faults: [{kind: failover, length_ms: 200}]\n");
    start = board_get(&rig->place, BOARD_run_start_ns);
    assert_string_equal(calls(rig, CALL_SIGN, 1), "E");
    assert_true(now_mono(NULL) >= start + 200 * NS_PER_MS);
    assert_string_equal(calls(rig, CALL_SIGN, 1), ".");
    assert_int_equal(board_get(&rig->place, BOARD_failovers), 1);
    rig_free(rig);
}

/* --- crashes --- */

static int end_of(const char *yaml)
{
    int status;
    struct rig *rig = rig_new(yaml);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_IGN); /* what the process does about signals makes no difference */
        signal(SIGABRT, SIG_IGN);
        calls(rig, CALL_SIGN, 5);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    rig_free(rig);
    return status;
}

static void crashes(void **state)
{
    (void)state;
    int status = end_of("faults: [{kind: crash, at_call: 5}]\n");
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    status = end_of("faults: [{kind: crash, how: segv, at_call: 5}]\n");
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    status = end_of("faults: [{kind: crash, how: exit, at_call: 5}]\n");
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 70);
    status = end_of("faults: [{kind: crash, how: exit, at_call: 6}]\n");
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    struct board_place place;
    assert_int_equal(board_attach(status_path, &place), ERR_OK);
    assert_int_equal(board_get(&place, BOARD_crashes), 3);
    board_detach(&place);
}

/* --- the control file --- */

static void control(const char *yaml)
{
    FILE *file = fopen(beside_path, "w");
    assert_non_null(file);
    fputs(yaml, file);
    fclose(file);
    assert_int_equal(rename(beside_path, control_path), 0);
}

static void settle_poll(void)
{
    usleep(CONTROL_POLL_NS / 1000 + 2000);
}

static void switched_while_running(void **state)
{
    (void)state;
    struct rig *rig = rig_new(""), *other = rig_new("");
    assert_string_equal(calls(rig, CALL_SIGN, 3), "...");
    control("faults: [{kind: error, at_call: 3}]\n");
    settle_poll();
    assert_string_equal(calls(rig, CALL_SIGN, 2), "..");
    assert_string_equal(calls(other, CALL_SIGN, 2), "E."); /* counted over both */
    control("faults: [{kind: erorr}]\n");                  /* changes nothing */
    settle_poll();
    assert_string_equal(calls(rig, CALL_SIGN, 2), "..");
    assert_int_equal(board_get(&rig->place, BOARD_control_errors), 1);
    control("faults: [{kind: error, at_call: 3}] # anew: counts from here\n");
    settle_poll();
    assert_string_equal(calls(rig, CALL_SIGN, 4), "..E.");
    control("faults: [{kind: error}]\n");
    settle_poll();
    assert_string_equal(calls(rig, CALL_SIGN, 2), "EE");
    struct rig *late = rig_new(""); /* there from its first call */
    assert_string_equal(calls(late, CALL_SIGN, 1), "E");
    unlink(control_path);
    settle_poll();
    assert_string_equal(calls(rig, CALL_SIGN, 2), "..");
    rig_free(late);
    rig_free(other);
    rig_free(rig);
}

/* Times count from when the file was written, for all alike. */
static void control_times(void **state)
{
    (void)state;
    control("faults: [{kind: error, start_ms: 60000, length_ms: 60000}]\n");
    struct rig *rig = rig_new("");
    assert_string_equal(calls(rig, CALL_SIGN, 1), ".");
    struct timespec times[2] = {{0, UTIME_OMIT}, {0, 0}};
    clock_gettime(CLOCK_REALTIME, &times[1]);
    times[1].tv_sec -= 90; /* as if it were from then */
    assert_int_equal(utimensat(AT_FDCWD, control_path, times, 0), 0);
    settle_poll();
    assert_string_equal(calls(rig, CALL_SIGN, 1), "E");
    times[1].tv_sec -= 90;
    assert_int_equal(utimensat(AT_FDCWD, control_path, times, 0), 0);
    settle_poll();
    assert_string_equal(calls(rig, CALL_SIGN, 1), ".");
    rig_free(rig);
}

static void *release(void *arg)
{
    (void)arg;
    usleep(150000);
    control("faults: []\n");
    return NULL;
}

/* A stall without end ends when the file is changed. */
static void let_go(void **state)
{
    (void)state;
    pthread_t thread;
    control("faults: [{kind: stall}]\n");
    struct rig *rig = rig_new("");
    uint64_t start = now_mono(NULL);
    assert_int_equal(pthread_create(&thread, NULL, release, NULL), 0);
    assert_string_equal(calls(rig, CALL_SIGN, 1), ".");
    uint64_t took = now_mono(NULL) - start;
    assert_true(took >= 150 * NS_PER_MS && took < 5 * NS_PER_S);
    pthread_join(thread, NULL);
    rig_free(rig);
}

/* --- the board --- */

static uint64_t from_text(const char *name)
{
    char line[128], wanted[64];
    uint64_t value = UINT64_MAX;
    long offset;
    FILE *file = fopen(status_path, "rb");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    assert_string_equal(line, "certmill-hsmsim status 1\n");
    while (fgets(line, sizeof line, file) && sscanf(line, "%63s %ld", wanted, &offset) == 2)
        if (strcmp(wanted, name) == 0) {
            assert_int_equal(fseek(file, offset, SEEK_SET), 0);
            assert_int_equal(fread(&value, 8, 1, file), 1);
            break;
        }
    fclose(file);
    return value;
}

static void read_by_others(void **state)
{
    (void)state;
    struct board_place place;
    assert_int_equal(board_attach(status_path, &place), ERR_OK);
    for (int i = 0; i < 5; i++)
        board_add(&place, BOARD_user_pin_wrong);
    board_add(&place, BOARD_control_errors); /* the last */
    assert_int_equal(from_text("user_pin_wrong"), 5);
    assert_int_equal(from_text("control_errors"), 1);
    assert_int_equal(from_text("runs"), 1);
    board_detach(&place);
    assert_int_equal(board_attach(status_path, &place), ERR_OK); /* counters stay */
    assert_int_equal(board_get(&place, BOARD_user_pin_wrong), 5);
    assert_int_equal(board_get(&place, BOARD_runs), 2);
    board_detach(&place);
}

/* A process that holds `count` sessions until it is killed. */
static pid_t holder(int count)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        struct board_place place;
        if (board_attach(status_path, &place))
            _exit(1);
        for (int i = 0; i < count; i++)
            if (!board_session_take(&place, 10))
                _exit(2);
        if (write(ready[1], "x", 1) != 1)
            _exit(3);
        pause();
        _exit(0);
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return child;
}

static void finish(pid_t child)
{
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static void sessions_of_the_dead(void **state)
{
    (void)state;
    struct board_place place;
    assert_int_equal(board_attach(status_path, &place), ERR_OK);
    pid_t a = holder(4), b = holder(3);
    for (int i = 0; i < 3; i++)
        assert_true(board_session_take(&place, 10));
    assert_false(board_session_take(&place, 10));
    board_session_give(&place);
    assert_true(board_session_take(&place, 10));
    finish(a);
    for (int i = 0; i < 4; i++) /* its four, no more */
        assert_true(board_session_take(&place, 10));
    assert_false(board_session_take(&place, 10));
    finish(b);
    pid_t c = holder(2); /* may get the place of a dead one: starts with none */
    assert_int_equal(board_get(&place, BOARD_sessions_open), 9);
    finish(c);
    board_detach(&place);
    assert_int_equal(board_attach(status_path, &place), ERR_OK); /* a new run: nobody is there */
    assert_int_equal(board_get(&place, BOARD_sessions_open), 0);
    board_detach(&place);
}

static void full_house(void **state)
{
    (void)state;
    static struct board_place places[BOARD_PROCESSES_MAX], more;
    for (int i = 0; i < BOARD_PROCESSES_MAX; i++)
        assert_int_equal(board_attach(status_path, &places[i]), ERR_OK);
    assert_int_equal(board_attach(status_path, &more), ERR_FULL);
    assert_int_equal(from_text("runs"), 1);
    for (int i = 0; i < BOARD_PROCESSES_MAX; i++)
        board_detach(&places[i]);
    assert_int_equal(board_attach("/nonexistent/status", &more), ERR_IO);
}

/* What is not a status file of this version is begun anew, not believed. */
static void strange_file(void **state)
{
    (void)state;
    for (int longer = 0; longer < 2; longer++) {
        FILE *file = fopen(status_path, "w");
        assert_non_null(file);
        for (size_t i = 0; i < sizeof(struct board) + (size_t)longer; i++)
            fputc(0xff, file);
        fclose(file);
        struct board_place place;
        assert_int_equal(board_attach(status_path, &place), ERR_OK);
        assert_int_equal(from_text("runs"), 1);
        assert_int_equal(from_text("user_pin_failures"), 0);
        struct stat info;
        assert_int_equal(stat(status_path, &info), 0);
        assert_int_equal(info.st_size, sizeof(struct board));
        board_detach(&place);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(by_number, fresh),
        cmocka_unit_test_setup(by_chance, fresh),
        cmocka_unit_test_setup(by_time, fresh),
        cmocka_unit_test_setup(vanishes_and_returns, fresh),
        cmocka_unit_test_setup(loses_sessions_once, fresh),
        cmocka_unit_test_setup(waits, fresh),
        cmocka_unit_test_setup(crashes, fresh),
        cmocka_unit_test_setup(switched_while_running, fresh),
        cmocka_unit_test_setup(control_times, fresh),
        cmocka_unit_test_setup(let_go, fresh),
        cmocka_unit_test_setup(read_by_others, fresh),
        cmocka_unit_test_setup(sessions_of_the_dead, fresh),
        cmocka_unit_test_setup(full_house, fresh),
        cmocka_unit_test_setup(strange_file, fresh),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
