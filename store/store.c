/* Opening and closing, ids of lines and issuers, commit tokens, figures. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/secret.h"
#include "store/internal.h"

/* --- opening --- */

/* LMDB syncs its file, not the directory entry that leads to it. */
static bool sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

static enum err make_dir(const char *dir, char detail[256])
{
    char parent[512];
    if ((size_t)snprintf(parent, sizeof(parent), "%s", dir) >= sizeof(parent)) {
        snprintf(detail, 256, "the path of the store is too long");
        return ERR_IO;
    }
    if (mkdir(dir, 0700) == 0) {
        if (sync_dir(dirname(parent)))
            return ERR_OK;
    } else if (errno == EEXIST) {
        return ERR_OK;
    }
    snprintf(detail, 256, "%.160s: %.80s", dir, strerror(errno));
    return ERR_IO;
}

static enum err take_lock(struct store *store, const char *dir, char detail[256])
{
    char path[600];
    snprintf(path, sizeof(path), "%s/certmilld.lock", dir);
    store->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (store->lock_fd >= 0 && flock(store->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return ERR_OK;
    if (store->lock_fd >= 0 && errno == EWOULDBLOCK) {
        snprintf(detail, 256, "another certmilld has %.160s open: stop it first", dir);
        return ERR_STORE_BUSY;
    }
    snprintf(detail, 256, "%.160s: %.80s", path, strerror(errno));
    return ERR_IO;
}

static enum err load_heads(struct store *store)
{
    struct db_txn txn;
    enum err err = db_begin(&store->db, true, &txn);
    if (err != ERR_OK)
        return err;
    err = journal_head_load(&txn, &store->head);
    struct db_walk walk = {0};
    struct bytes key, value;
    store->next_log = 1;
    if (err == ERR_OK) {
        err = db_walk_start(&txn, DB_CERTS, (struct bytes){0}, true, &walk, &key, &value);
        if (err == ERR_OK)
            store->next_log = log_of_key(key) + 1;
        err = err == ERR_NOT_FOUND ? ERR_OK : err;
        db_walk_end(&walk);
    }
    atomic_store(&store->cert_count, db_entries(&txn, DB_CERTS));
    atomic_store(&store->device_count, db_entries(&txn, DB_DEVICES));
    atomic_store(&store->journal_count, db_entries(&txn, DB_JOURNAL));
    store_synced(store, db_txn_id(&txn));
    db_abort(&txn);
    return err;
}

static enum err open_parts(struct store *store, const struct store_config *config, char detail[256])
{
    enum err err = ERR_OK;
    if (!config->read_only) {
        err = make_dir(config->dir, detail);
        if (err == ERR_OK)
            err = take_lock(store, config->dir, detail);
    }
    if (err == ERR_OK)
        err = db_env_open(&store->db, config->dir, config->map_size, config->read_only, detail);
    if (err != ERR_OK)
        return err;
    if (!config->read_only && !sync_dir(config->dir)) {
        snprintf(detail, 256, "%.160s: %.80s", config->dir, strerror(errno));
        return ERR_IO;
    }
    err = load_heads(store);
    if (err != ERR_OK)
        snprintf(detail, 256,
                 "%.160s: the last journal or certificate record cannot be read: restore "
                 "a backup",
                 config->dir);
    if (err == ERR_OK && !config->read_only && (err = transactions_open(store)) != ERR_OK)
        snprintf(detail, 256, "%.120s: table transactions: %.60s%s", config->dir,
                 err_sentence(err), err == ERR_INTERNAL ? ": restore a backup" : "");
    return err;
}

enum err store_open(const struct store_config *config, struct store **out, char out_detail[256])
{
    char detail[256] = "";
    struct store *store = calloc(1, sizeof(*store));
    if (store == NULL)
        return ERR_IO;
    store->lock_fd = -1;
    pthread_mutex_init(&store->next_lock, NULL);
    pthread_mutex_init(&store->write_lock, NULL);
    random_bytes(store->secret, sizeof(store->secret));
    index_init(&store->index);
    enum err err = open_parts(store, config, detail);
    if (err != ERR_OK) {
        store_close(store);
        if (out_detail != NULL)
            memcpy(out_detail, detail, sizeof(detail));
        return err;
    }
    *out = store;
    return ERR_OK;
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    store_writer_free(store);
    db_env_close(&store->db);
    index_free(&store->index);
    free(store->txn.changes);
    if (store->lock_fd >= 0)
        close(store->lock_fd);
    pthread_mutex_destroy(&store->write_lock);
    pthread_mutex_destroy(&store->next_lock);
    secret_wipe(store->secret, sizeof(store->secret));
    free(store);
}

/* --- commit tokens --- */

/* Finalizer of MurmurHash3: every bit of the input moves every bit of the output. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdull;
    x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53ull;
    return x ^ (x >> 33);
}

static uint64_t seal_of(const struct store *store, uint64_t txn_id)
{
    return mix(mix(txn_id ^ store->secret[0]) + store->secret[1]);
}

struct commit_token store_seal(const struct store *store, uint64_t txn_id)
{
    return (struct commit_token){txn_id, seal_of(store, txn_id)};
}

void store_synced(struct store *store, uint64_t txn_id)
{
    uint64_t now = atomic_load_explicit(&store->synced_txn, memory_order_relaxed);
    while (now < txn_id &&
           !atomic_compare_exchange_weak_explicit(&store->synced_txn, &now, txn_id,
                                                  memory_order_release, memory_order_relaxed))
        ;
}

bool commit_token_is_valid(const struct store *store, struct commit_token token)
{
    return token.txn_id != 0 && token.seal == seal_of(store, token.txn_id) &&
           token.txn_id <= atomic_load_explicit(&store->synced_txn, memory_order_acquire);
}

/* --- set-up --- */

/* The next value of a counter in `meta`; ids start at 1 and are never used again. */
static enum err next_id(struct store_txn *txn, const char *counter, uint32_t *out_id)
{
    uint32_t id = 0;
    struct bytes value;
    enum err err = db_get(&txn->db, DB_META, bytes_of_str(counter), &value);
    if (err == ERR_OK && value.len == sizeof(id))
        memcpy(&id, value.ptr, sizeof(id));
    else if (err != ERR_NOT_FOUND)
        return err == ERR_OK ? ERR_INTERNAL : err;
    id++;
    err = db_put(&txn->db, DB_META, bytes_of_str(counter), bytes_of(&id, sizeof(id)), DB_PUT_ANY);
    if (err == ERR_OK)
        *out_id = id;
    return err;
}

static enum err finish(struct store_txn *txn, enum err err)
{
    struct commit_token token;
    if (err == ERR_OK)
        return store_txn_commit(txn, &token);
    store_txn_abort(txn);
    return err;
}

enum err store_line_id(struct store *store, const char *name, uint32_t *out_id)
{
    assert(name[0] != '\0' && strlen(name) <= LINE_NAME_MAX);
    struct store_txn *txn;
    struct line_record record = {.version = STORE_SCHEMA_VERSION};
    enum err err = store_txn_begin(store, &txn);
    if (err != ERR_OK)
        return err;
    err = txn_line_get(txn, name, &record);
    if (err == ERR_OK) {
        store_txn_abort(txn);
        *out_id = record.line_id;
        return ERR_OK;
    }
    if (err == ERR_NOT_FOUND)
        err = next_id(txn, "line-id", &record.line_id);
    if (err == ERR_OK)
        err = txn_line_put(txn, name, &record);
    err = finish(txn, err);
    if (err == ERR_OK)
        *out_id = record.line_id;
    return err;
}

enum err store_issuer_id(struct store *store, const uint8_t issuer_hash[32], uint32_t *out_id)
{
    struct store_txn *txn;
    struct bytes key = bytes_of(issuer_hash, 32), value;
    uint32_t id = 0;
    enum err err = store_txn_begin(store, &txn);
    if (err != ERR_OK)
        return err;
    err = db_get(&txn->db, DB_ISSUERS, key, &value);
    if (err == ERR_OK && value.len == sizeof(id)) {
        memcpy(out_id, value.ptr, sizeof(id));
        store_txn_abort(txn);
        return ERR_OK;
    }
    if (err == ERR_NOT_FOUND)
        err = next_id(txn, "issuer-id", &id);
    if (err == ERR_OK)
        err = db_put(&txn->db, DB_ISSUERS, key, bytes_of(&id, sizeof(id)), DB_PUT_ANY);
    err = finish(txn, err);
    if (err == ERR_OK)
        *out_id = id;
    return err;
}

enum err store_journal(struct store *store, const struct journal_entry *entry)
{
    struct store_txn *txn;
    enum err err = store_txn_begin(store, &txn);
    return err != ERR_OK ? err : finish(txn, txn_journal(txn, entry));
}

/* --- figures --- */

uint64_t store_revocations(const struct store *store)
{
    return atomic_load_explicit(&store->revocations, memory_order_acquire);
}

void store_stats(struct store *store, struct store_stats *out)
{
    *out = (struct store_stats){
        .cert_count = atomic_load_explicit(&store->cert_count, memory_order_relaxed),
        .device_count = atomic_load_explicit(&store->device_count, memory_order_relaxed),
        .journal_count = atomic_load_explicit(&store->journal_count, memory_order_relaxed),
        .commits = atomic_load_explicit(&store->commits, memory_order_relaxed),
        .committed_jobs = atomic_load_explicit(&store->committed_jobs, memory_order_relaxed),
        .last_commit_ns = atomic_load_explicit(&store->last_commit_ns, memory_order_relaxed),
        .failing = atomic_load_explicit(&store->failing, memory_order_relaxed),
    };
    db_env_space(&store->db, &out->map_size, &out->map_used);
}

struct hist *store_commit_hist(struct store *store)
{
    return &store->commit_hist;
}
