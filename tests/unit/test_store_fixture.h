/* test_store_fixture.h: a store in a directory of its own, and jobs run one by one. */
#ifndef CERTMILL_TEST_STORE_FIXTURE_H
#define CERTMILL_TEST_STORE_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "factory/device.h"

enum { FIXTURE_CORES = 4 };

struct fixture {
    char dir[128];
    struct store *store;
    uint64_t map_size;
    uint32_t core_count; /* 0: the writer is not started */
    struct wake_flag flags[FIXTURE_CORES];
    struct wake wakes[FIXTURE_CORES];
    uint32_t line_a, line_b, issuer;
    uint64_t serial; /* the last one used */
};

static inline void fixture_dir(struct fixture *fx)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(fx->dir, sizeof(fx->dir), "%.90s/cm-test-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(fx->dir));
}

static inline void fixture_open(struct fixture *fx, uint32_t core_count)
{
    static const uint8_t issuer[32] = {7};
    char detail[256] = "";
    struct store_config config = {.dir = fx->dir, .map_size = fx->map_size};
    enum err err = store_open(&config, &fx->store, detail);
    if (err != ERR_OK)
        fail_msg("store_open: %s: %s", err_code(err), detail);
    assert_int_equal(store_line_id(fx->store, "line-a", &fx->line_a), ERR_OK);
    assert_int_equal(store_line_id(fx->store, "line-b", &fx->line_b), ERR_OK);
    assert_int_equal(store_issuer_id(fx->store, issuer, &fx->issuer), ERR_OK);
    fx->core_count = core_count;
    for (uint32_t i = 0; i < core_count; i++) {
        fx->wakes[i] = (struct wake){&fx->flags[i], eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
        assert_true(fx->wakes[i].event_fd >= 0);
    }
    if (core_count != 0)
        assert_int_equal(store_start(fx->store, core_count, fx->wakes), ERR_OK);
}

static inline void fixture_close(struct fixture *fx)
{
    store_stop(fx->store);
    store_close(fx->store);
    fx->store = NULL;
    for (uint32_t i = 0; i < fx->core_count; i++)
        close(fx->wakes[i].event_fd);
    fx->core_count = 0;
}

static inline void fixture_remove(struct fixture *fx)
{
    static const char *const names[] = {"data.mdb", "lock.mdb", "certmilld.lock", "ballast"};
    char path[256];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(path, sizeof(path), "%s/%s", fx->dir, names[i]);
        unlink(path);
    }
    rmdir(fx->dir);
}

static inline int fixture_setup(void **state)
{
    struct fixture *fx = calloc(1, sizeof(*fx));
    log_set_level(LOG_ERROR);
    fixture_dir(fx);
    fixture_open(fx, 1);
    *state = fx;
    return 0;
}

static inline int fixture_teardown(void **state)
{
    struct fixture *fx = *state;
    if (fx->store != NULL)
        fixture_close(fx);
    fixture_remove(fx);
    free(fx);
    return 0;
}

/* Waits as a core does. */
static inline struct store_job *fixture_wait(struct fixture *fx, uint32_t core)
{
    for (int i = 0; i < 20000; i++) {
        struct store_job *job = store_poll(fx->store, core);
        if (job != NULL)
            return job;
        wake_prepare(&fx->wakes[core]);
        if (!store_pending(fx->store, core)) {
            struct pollfd pollfd = {.fd = fx->wakes[core].event_fd, .events = POLLIN};
            uint64_t count;
            (void)!poll(&pollfd, 1, 100);
            (void)!read(pollfd.fd, &count, sizeof(count));
        }
        wake_cancel(&fx->wakes[core]);
    }
    fail_msg("no job came back");
    return NULL;
}

typedef enum err (*apply_fn)(struct store_txn *, struct store_job *);

static inline struct store_job *fixture_stage_extra(struct fixture *fx, uint32_t core,
                                                    apply_fn apply, const void *facts,
                                                    size_t facts_len, struct bytes data,
                                                    void *extra)
{
    struct store_job *job = store_job_take(fx->store, core);
    assert_non_null(job);
    assert_true(facts_len <= sizeof(job->facts) && data.len <= sizeof(job->data));
    job->apply = apply;
    job->extra = extra;
    job->facts_len = (uint32_t)facts_len;
    if (facts_len != 0)
        memcpy(job->facts, facts, facts_len);
    job->data_len = (uint32_t)data.len;
    if (data.len != 0)
        memcpy(job->data, data.ptr, data.len);
    store_job_submit(fx->store, core, job);
    return job;
}

static inline struct store_job *fixture_stage(struct fixture *fx, uint32_t core, apply_fn apply,
                                              const void *facts, size_t facts_len,
                                              struct bytes data)
{
    return fixture_stage_extra(fx, core, apply, facts, facts_len, data, NULL);
}

/* One job from staging to its answer; the slot stays readable until the next one. */
static inline const struct store_job *fixture_run_extra(struct fixture *fx, apply_fn apply,
                                                        const void *facts, size_t facts_len,
                                                        struct bytes data, void *extra)
{
    fixture_stage_extra(fx, 0, apply, facts, facts_len, data, extra);
    store_kick(fx->store, 0);
    struct store_job *job = fixture_wait(fx, 0);
    store_job_release(fx->store, 0, job);
    return job;
}

static inline const struct store_job *fixture_run(struct fixture *fx, apply_fn apply,
                                                  const void *facts, size_t facts_len,
                                                  struct bytes data)
{
    return fixture_run_extra(fx, apply, facts, facts_len, data, NULL);
}

/* --- issuances --- */

/* A key is a number; its certificates differ by serial. */
static inline struct issue_facts fixture_facts(struct fixture *fx, uint32_t line_id,
                                               const char *device_id, uint64_t key)
{
    struct issue_facts facts = {
        .kind = ISSUE_NEW,
        .protocol = PROTOCOL_EST,
        .caller = CALLER_STATION,
        .device_id_len = (uint8_t)strlen(device_id),
        .station_len = 4,
        .line_name_len = 6,
        .line_id = line_id,
        .issuer_id = fx->issuer,
        .asked_s = (int64_t)(clock_wall_ns() / NS_PER_S),
        .not_before_s = 1000,
        .not_after_s = 4000000000,
    };
    memcpy(facts.device_id, device_id, facts.device_id_len);
    memcpy(facts.station, "st-1", 4);
    memcpy(facts.line_name, line_id == fx->line_a ? "line-a" : "line-b", 6);
    memcpy(facts.request_id, "0123456789abcdef", REQUEST_ID_LEN);
    store_be64(facts.serial, ++fx->serial);
    sha256_once(bytes_of(&key, sizeof(key)), facts.spki_hash);
    return facts;
}

/* Bytes that stand for the certificate: different for every serial. */
static inline struct bytes fixture_cert(struct issue_facts *facts, uint8_t buf[600])
{
    uint8_t hash[SHA256_LEN];
    sha256_once(BYTES_ARRAY(facts->serial), hash);
    size_t len = 500 + hash[0] % 100;
    for (size_t i = 0; i < len; i++)
        buf[i] = (uint8_t)(hash[i % SHA256_LEN] + i / SHA256_LEN);
    sha256_once(bytes_of(buf, len), facts->fingerprint);
    return bytes_of(buf, len);
}

static inline const struct store_job *fixture_issue(struct fixture *fx, struct issue_facts *facts)
{
    uint8_t buf[600];
    struct bytes cert = fixture_cert(facts, buf);
    return fixture_run(fx, device_apply, facts, sizeof(*facts), cert);
}

/* --- looking --- */

static inline struct store_reader *fixture_reader(struct fixture *fx)
{
    struct store_reader *reader = NULL;
    assert_int_equal(store_reader_new(fx->store, &reader), ERR_OK);
    assert_int_equal(reader_begin(reader), ERR_OK);
    return reader;
}

static inline void fixture_reader_done(struct store_reader *reader)
{
    reader_end(reader);
    store_reader_free(reader);
}

static inline struct device_record fixture_device(struct fixture *fx, uint32_t line_id,
                                                  const char *device_id)
{
    struct store_reader *reader = fixture_reader(fx);
    struct device_record record = {0};
    enum err err = reader_device(reader, line_id, bytes_of_str(device_id), &record);
    assert_true(err == ERR_OK || err == ERR_NOT_FOUND);
    fixture_reader_done(reader);
    return record;
}

static inline struct cert_record fixture_cert_record(struct fixture *fx, uint64_t log)
{
    struct store_reader *reader = fixture_reader(fx);
    struct cert_view view;
    assert_int_equal(reader_cert(reader, log, &view), ERR_OK);
    struct cert_record record = *view.record;
    fixture_reader_done(reader);
    return record;
}

/* The last journal record of the store. */
struct last_record {
    struct journal_record record;
    char who[256], what[256], text[JOURNAL_TEXT_MAX + 1];
};

static inline bool last_record_step(void *ctx, const struct journal_record *record,
                                    struct bytes who, struct bytes what, struct bytes text)
{
    struct last_record *last = ctx;
    last->record = *record;
    snprintf(last->who, sizeof(last->who), "%.*s", (int)who.len, (const char *)who.ptr);
    snprintf(last->what, sizeof(last->what), "%.*s", (int)what.len, (const char *)what.ptr);
    snprintf(last->text, sizeof(last->text), "%.*s", (int)text.len, (const char *)text.ptr);
    return false;
}

static inline struct last_record fixture_last(struct fixture *fx)
{
    struct last_record last = {0};
    struct store_reader *reader = fixture_reader(fx);
    assert_int_equal(reader_journal_each(reader, 0, true, last_record_step, &last), ERR_OK);
    fixture_reader_done(reader);
    return last;
}

static inline uint64_t fixture_verify(struct fixture *fx)
{
    uint64_t count = 0, bad = 0;
    struct store_reader *reader = fixture_reader(fx);
    assert_int_equal(store_journal_verify(reader, &count, &bad), ERR_OK);
    assert_int_equal(bad, 0);
    fixture_reader_done(reader);
    return count;
}

#endif
