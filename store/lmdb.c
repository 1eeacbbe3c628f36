#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/log.h"
#include "store/internal.h"

enum {
    /* every core and the tools that read beside them, with room for slots of the killed */
    READERS_MAX = 2 * CORES_MAX + 128,
    DISK_FULL_BELOW = 4 << 20,
    FILL_PAGE = 4096,
    FILL_LOW = 2 << 20, /* filled further when less than this is left */
    FILL_AHEAD = 4 << 20,
    MAP_SIZE_STEP = 1 << 16,
    LOCK_FILE_SIZE = 64 * (READERS_MAX + 64), /* a slot is a cache line; LMDB's head takes a few */
};

static const struct {
    const char *name;
    unsigned flags;
} tables[DB_COUNT] = {
    [DB_META] = {"meta", 0},
    [DB_CERTS] = {"certs", MDB_INTEGERKEY},
    [DB_SERIALS] = {"serials", 0},
    [DB_DEVICES] = {"devices", 0},
    [DB_KEYS] = {"keys", 0},
    [DB_LINES] = {"lines", 0},
    [DB_ISSUERS] = {"issuers", 0},
    [DB_JOURNAL] = {"journal", MDB_INTEGERKEY},
    [DB_TRANSACTIONS] = {"transactions", 0},
    [DB_REVOKED] = {"revoked", 0},
    [DB_CURSORS] = {"cursors", 0},
    [DB_PENDING] = {"pending", 0},
    [DB_EXPIRIES] = {"expiries", 0},
    [DB_CRLS] = {"crls", 0},
};

static_assert(sizeof(size_t) == sizeof(uint64_t), "MDB_INTEGERKEY keys are u64");

/* LMDB answers a short write, which is how a disk that is almost full begins to refuse, with EIO.
 */
static bool disk_is_full(const struct db_env *env)
{
    struct statvfs fs;
    return statvfs(env->dir, &fs) == 0 &&
           (uint64_t)fs.f_bavail * fs.f_frsize < (uint64_t)DISK_FULL_BELOW;
}

static enum err err_of(struct db_env *env, int rc)
{
    if (rc != 0 && rc != MDB_NOTFOUND)
        atomic_store_explicit(&env->last_rc, rc, memory_order_relaxed);
    switch (rc) {
    case MDB_SUCCESS:
        return ERR_OK;
    case MDB_NOTFOUND:
        return ERR_NOT_FOUND;
    case MDB_KEYEXIST:
        return ERR_INTERNAL;
    case MDB_MAP_FULL:
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return ERR_STORE_FULL;
    case EIO:
        return disk_is_full(env) ? ERR_STORE_FULL : ERR_STORE_FAILED;
    default:
        return ERR_STORE_FAILED;
    }
}

const char *db_last_error(const struct db_env *env)
{
    return mdb_strerror(atomic_load_explicit(&env->last_rc, memory_order_relaxed));
}

/* --- environment --- */

static enum err open_tables(struct db_env *env, MDB_txn *txn, char detail[256])
{
    for (int db = 0; db < DB_COUNT; db++) {
        unsigned flags = tables[db].flags | (env->read_only ? 0 : MDB_CREATE);
        int rc = mdb_dbi_open(txn, tables[db].name, flags, &env->dbi[db]);
        if (rc == MDB_NOTFOUND) {
            snprintf(detail, 256, "the store has no table %s: start certmilld on it once",
                     tables[db].name);
            return ERR_STORE_VERSION;
        }
        if (rc != 0) {
            snprintf(detail, 256, "table %s: %s", tables[db].name, mdb_strerror(rc));
            return err_of(env, rc);
        }
    }
    return ERR_OK;
}

/* Before any table is made: a store of another version is left as it is. */
static enum err check_version(struct db_env *env, MDB_txn *txn, uint32_t *out_version,
                              char detail[256])
{
    MDB_dbi dbi;
    MDB_val key = {6, (void *)(uintptr_t) "schema"}, value = {0};
    int rc = mdb_dbi_open(txn, tables[DB_META].name, 0, &dbi);
    if (rc == 0)
        rc = mdb_get(txn, dbi, &key, &value);
    uint32_t version = 0;
    if (rc == 0 && value.mv_size == sizeof(version))
        memcpy(&version, value.mv_data, sizeof(version));
    *out_version = version;
    if (rc == MDB_NOTFOUND && !env->read_only)
        return ERR_OK;
    if (version == STORE_LAYOUT_VERSION || version == STORE_LAYOUT_OLDEST)
        return ERR_OK;
    snprintf(detail, 256,
             "the store has schema %u, this certmill reads %u: use the matching release", version,
             (unsigned)STORE_LAYOUT_VERSION);
    return ERR_STORE_VERSION;
}

static enum err prepare(struct db_env *env, MDB_txn *txn, char detail[256])
{
    uint32_t version = 0;
    enum err err = check_version(env, txn, &version, detail);
    if (err == ERR_OK)
        err = open_tables(env, txn, detail);
    if (err != ERR_OK || env->read_only || version == STORE_LAYOUT_VERSION)
        return err;
    version = STORE_LAYOUT_VERSION;
    MDB_val key = {6, (void *)(uintptr_t) "schema"}, value = {sizeof(version), &version};
    return err_of(env, mdb_put(txn, env->dbi[DB_META], &key, &value, 0));
}

static int env_create(struct db_env *env, const char *dir, uint64_t map_size)
{
    int rc = mdb_env_create(&env->env);
    if (rc == 0)
        rc = mdb_env_set_maxdbs(env->env, 2 * DB_COUNT);
    if (rc == 0)
        rc = mdb_env_set_maxreaders(env->env, READERS_MAX);
    /* a reader takes the size that the writer left in the file */
    if (rc == 0 && (!env->read_only || map_size != 0)) {
        if (map_size == 0)
            map_size = STORE_MAP_SIZE_DEFAULT;
        rc =
            mdb_env_set_mapsize(env->env, (map_size + MAP_SIZE_STEP - 1) & ~(MAP_SIZE_STEP - 1ull));
    }
    /* No flag that weakens durability, ever. NOTLS: a core keeps its reader across begin and end.
     * NORDAHEAD: the daemon reads single pages of a file that outgrows memory. */
    if (rc == 0)
        rc = mdb_env_open(env->env, dir, MDB_NOTLS | (env->read_only ? MDB_RDONLY : MDB_NORDAHEAD),
                          0600);
    return rc;
}

/* LMDB leaves its lock file sparse and writes to it through memory: on a full disk the first touch
 * of a page of reader slots would be a SIGBUS. Before LMDB opens it, since closing any descriptor
 * of a file drops the record locks that this process has on it (POSIX). */
static int fill_lock_file(const char *dir)
{
    char path[600];
    snprintf(path, sizeof(path), "%s/lock.mdb", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    int rc = posix_fallocate(fd, 0, LOCK_FILE_SIZE);
    close(fd);
    return rc;
}

enum err db_env_open(struct db_env *env, const char *dir, uint64_t map_size, bool read_only,
                     char detail[256])
{
    *env = (struct db_env){.read_only = read_only};
    if ((size_t)snprintf(env->dir, sizeof(env->dir), "%s", dir) >= sizeof(env->dir)) {
        snprintf(detail, 256, "the path of the store is too long");
        return ERR_IO;
    }
    int rc = read_only ? 0 : fill_lock_file(dir);
    if (rc == 0)
        rc = env_create(env, dir, map_size);
    if (rc != 0) {
        snprintf(detail, 256, "%.160s: %.80s", dir, mdb_strerror(rc));
        db_env_close(env);
        return rc == MDB_VERSION_MISMATCH || rc == MDB_INVALID ? ERR_STORE_VERSION : ERR_IO;
    }
    db_env_reap_readers(env);
    MDB_txn *txn = NULL;
    rc = mdb_txn_begin(env->env, NULL, read_only ? MDB_RDONLY : 0, &txn);
    enum err err = err_of(env, rc);
    if (err != ERR_OK) {
        snprintf(detail, 256, "%.160s: %.80s", dir, mdb_strerror(rc));
        db_env_close(env);
        return err;
    }
    err = prepare(env, txn, detail);
    if (err != ERR_OK)
        mdb_txn_abort(txn);
    else if ((rc = mdb_txn_commit(txn)) != 0) {
        err = err_of(env, rc);
        snprintf(detail, 256, "%.160s: %.80s", dir, mdb_strerror(rc));
    }
    if (err != ERR_OK)
        db_env_close(env);
    return err;
}

void db_env_close(struct db_env *env)
{
    if (env->env != NULL)
        mdb_env_close(env->env);
    env->env = NULL;
}

void db_env_reap_readers(struct db_env *env)
{
    int dead = 0;
    if (mdb_reader_check(env->env, &dead) == 0 && dead > 0)
        log_info("store-readers-reaped", "count=%d", dead);
}

/* Writes zeros behind the end of the file, page by page, before LMDB gets there. A commit then
 * changes no length and no extent, so its sync waits for no journal of the file system; and the
 * page cache keeps single pages, where LMDB's long writes would leave large folios whose every
 * later write of one page walks the buffers of all. No room is no error here: the commit that needs
 * it will say so. */
void db_env_fill(struct db_env *env)
{
    static const uint8_t zeros[FILL_PAGE];
    mdb_filehandle_t fd;
    struct stat status;
    uint64_t map_size, used;
    db_env_space(env, &map_size, &used);
    if (map_size == 0 || mdb_env_get_fd(env->env, &fd) != 0)
        return;
    if (used + FILL_LOW <= env->filled || fstat(fd, &status) != 0)
        return;
    uint64_t at = ((uint64_t)status.st_size + FILL_PAGE - 1) / FILL_PAGE * FILL_PAGE;
    uint64_t end = used + FILL_AHEAD < map_size ? used + FILL_AHEAD : map_size;
    while (at < end && pwrite(fd, zeros, sizeof(zeros), (off_t)at) == (ssize_t)sizeof(zeros))
        at += FILL_PAGE;
    env->filled = at;
}

void db_env_space(const struct db_env *env, uint64_t *out_map_size, uint64_t *out_map_used)
{
    MDB_envinfo info;
    MDB_stat stat;
    *out_map_size = *out_map_used = 0;
    if (mdb_env_info(env->env, &info) == 0 && mdb_env_stat(env->env, &stat) == 0) {
        *out_map_size = info.me_mapsize;
        *out_map_used = (uint64_t)(info.me_last_pgno + 1) * stat.ms_psize;
    }
}

/* --- transactions --- */

enum err db_begin(struct db_env *env, bool read_only, struct db_txn *out)
{
    *out = (struct db_txn){.env = env, .read_only = read_only};
    int rc = mdb_txn_begin(env->env, NULL, read_only ? MDB_RDONLY : 0, &out->txn);
    /* the daemon was restarted with a larger map while this tool has the store open */
    if (rc == MDB_MAP_RESIZED && env->read_only && mdb_env_set_mapsize(env->env, 0) == 0)
        rc = mdb_txn_begin(env->env, NULL, MDB_RDONLY, &out->txn);
    if (rc != 0)
        out->txn = NULL;
    return err_of(env, rc);
}

enum err db_commit(struct db_txn *txn)
{
    int rc = mdb_txn_commit(txn->txn); /* closes its cursors too */
    struct db_env *env = txn->env;
    *txn = (struct db_txn){.env = env};
    return err_of(env, rc);
}

void db_abort(struct db_txn *txn)
{
    if (txn->txn != NULL)
        mdb_txn_abort(txn->txn);
    *txn = (struct db_txn){.env = txn->env};
}

void db_reset(struct db_txn *txn)
{
    mdb_txn_reset(txn->txn);
}

enum err db_renew(struct db_txn *txn)
{
    int rc = mdb_txn_renew(txn->txn);
    if (rc == MDB_MAP_RESIZED && txn->env->read_only && mdb_env_set_mapsize(txn->env->env, 0) == 0)
        rc = mdb_txn_renew(txn->txn);
    return err_of(txn->env, rc);
}

uint64_t db_txn_id(const struct db_txn *txn)
{
    return mdb_txn_id(txn->txn);
}

uint64_t db_entries(const struct db_txn *txn, enum db db)
{
    MDB_stat stat;
    return mdb_stat(txn->txn, txn->env->dbi[db], &stat) == 0 ? stat.ms_entries : 0;
}

/* --- records as bytes --- */

static MDB_val val_of(struct bytes view)
{
    return (MDB_val){view.len, (void *)(uintptr_t)view.ptr};
}

static struct bytes bytes_of_val(MDB_val val)
{
    return bytes_of(val.mv_data, val.mv_size);
}

/* A cursor that stays on its page spares the put after a get its walk from the root. */
static int cursor_of(struct db_txn *txn, enum db db, MDB_cursor **out)
{
    int rc = 0;
    if (txn->cursor[db] == NULL)
        rc = mdb_cursor_open(txn->txn, txn->env->dbi[db], &txn->cursor[db]);
    *out = txn->cursor[db];
    return rc;
}

enum err db_get(struct db_txn *txn, enum db db, struct bytes key, struct bytes *out)
{
    MDB_val k = val_of(key), v = {0};
    MDB_cursor *cursor;
    int rc;
    if (txn->read_only)
        rc = mdb_get(txn->txn, txn->env->dbi[db], &k, &v);
    else if ((rc = cursor_of(txn, db, &cursor)) == 0)
        rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_KEY);
    if (rc == 0)
        *out = bytes_of_val(v);
    return err_of(txn->env, rc);
}

static int put(struct db_txn *txn, enum db db, struct bytes key, MDB_val *value,
               enum db_put_mode mode, unsigned flags)
{
    static const unsigned mode_flags[] = {
        [DB_PUT_ANY] = 0, [DB_PUT_NEW] = MDB_NOOVERWRITE, [DB_PUT_APPEND] = MDB_APPEND};
    MDB_val k = val_of(key);
    MDB_cursor *cursor;
    int rc = cursor_of(txn, db, &cursor);
    txn->dirty = true;
    return rc != 0 ? rc : mdb_cursor_put(cursor, &k, value, mode_flags[mode] | flags);
}

enum err db_put(struct db_txn *txn, enum db db, struct bytes key, struct bytes value,
                enum db_put_mode mode)
{
    MDB_val v = val_of(value);
    return err_of(txn->env, put(txn, db, key, &v, mode, 0));
}

enum err db_reserve(struct db_txn *txn, enum db db, struct bytes key, size_t len,
                    enum db_put_mode mode, uint8_t **out)
{
    MDB_val v = {len, NULL};
    int rc = put(txn, db, key, &v, mode, MDB_RESERVE);
    if (rc == 0)
        *out = v.mv_data;
    return err_of(txn->env, rc);
}

enum err db_del(struct db_txn *txn, enum db db, struct bytes key)
{
    MDB_val k = val_of(key);
    txn->dirty = true;
    return err_of(txn->env, mdb_del(txn->txn, txn->env->dbi[db], &k, NULL));
}

static int seek(MDB_cursor *cursor, struct bytes from, bool backward, MDB_val *key, MDB_val *value)
{
    if (from.len == 0)
        return mdb_cursor_get(cursor, key, value, backward ? MDB_LAST : MDB_FIRST);
    *key = val_of(from);
    int rc = mdb_cursor_get(cursor, key, value, MDB_SET_RANGE);
    if (!backward)
        return rc;
    if (rc == MDB_NOTFOUND)
        return mdb_cursor_get(cursor, key, value, MDB_LAST);
    if (rc == 0 && !bytes_eq(bytes_of_val(*key), from))
        return mdb_cursor_get(cursor, key, value, MDB_PREV);
    return rc;
}

enum err db_walk_start(struct db_txn *txn, enum db db, struct bytes from, bool backward,
                       struct db_walk *out, struct bytes *out_key, struct bytes *out_value)
{
    MDB_val k = {0}, v = {0};
    *out = (struct db_walk){.backward = backward};
    int rc = mdb_cursor_open(txn->txn, txn->env->dbi[db], &out->cursor);
    if (rc == 0)
        rc = seek(out->cursor, from, backward, &k, &v);
    if (rc == 0) {
        *out_key = bytes_of_val(k);
        *out_value = bytes_of_val(v);
    }
    return err_of(txn->env, rc);
}

enum err db_walk_next(struct db_walk *walk, struct bytes *out_key, struct bytes *out_value)
{
    MDB_val k = {0}, v = {0};
    int rc = mdb_cursor_get(walk->cursor, &k, &v, walk->backward ? MDB_PREV : MDB_NEXT);
    if (rc == MDB_NOTFOUND)
        return ERR_NOT_FOUND;
    if (rc != 0)
        return ERR_STORE_FAILED;
    *out_key = bytes_of_val(k);
    *out_value = bytes_of_val(v);
    return ERR_OK;
}

void db_walk_end(struct db_walk *walk)
{
    if (walk->cursor != NULL)
        mdb_cursor_close(walk->cursor);
    *walk = (struct db_walk){0};
}
