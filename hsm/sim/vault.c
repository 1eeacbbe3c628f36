#include "hsm/sim/vault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/secret.h"
#include "hsm/sim/dist.h"

enum { PIN_ITERATIONS = 20000, TOKEN_FILE_MAX = 512, HEADER_LEN = 17, NAME_MAX_LEN = 32 };

static const char token_magic[8] = {'C', 'M', 'S', 'I', 'M', 'T', 'K', '1'};
static const char object_magic[8] = {'C', 'M', 'S', 'I', 'M', 'O', 'B', '1'};

/* --- files --- */

struct path {
    char text[PATH_MAX + NAME_MAX_LEN + 16];
};

static struct path path_of(const struct vault *vault, const char *name)
{
    struct path path;
    snprintf(path.text, sizeof path.text, "%s/%s", vault->directory, name);
    return path;
}

static struct path object_path(const struct vault *vault, uint64_t number)
{
    char name[NAME_MAX_LEN];
    snprintf(name, sizeof name, "%016llx.obj", (unsigned long long)number);
    return path_of(vault, name);
}

static bool sync_folder(const struct vault *vault)
{
    int fd = open(vault->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool done = fsync(fd) == 0;
    close(fd);
    return done;
}

static bool write_all(int fd, struct bytes data)
{
    while (data.len > 0) {
        ssize_t n = write(fd, data.ptr, data.len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data = bytes_of(data.ptr + n, data.len - (size_t)n);
    }
    return fsync(fd) == 0;
}

/* Under vault_lock, so the name beside is nobody else's. */
static enum err replace_file(const struct vault *vault, const char *path, struct bytes data)
{
    struct path beside = path_of(vault, "new.tmp");
    int fd = open(beside.text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return ERR_IO;
    bool written = write_all(fd, data);
    close(fd);
    if (!written || rename(beside.text, path) != 0) {
        unlink(beside.text);
        return ERR_IO;
    }
    return sync_folder(vault) ? ERR_OK : ERR_IO;
}

/* ERR_NOT_FOUND: there is none. */
static enum err read_file(const char *path, uint8_t *out, size_t cap, size_t *out_len,
                          uint64_t *out_mark);

static uint64_t mark_of(const struct stat *file)
{
    return dist_random(dist_random((uint64_t)file->st_ino, (uint64_t)file->st_mtim.tv_sec),
                       (uint64_t)file->st_mtim.tv_nsec);
}

static enum err read_file(const char *path, uint8_t *out, size_t cap, size_t *out_len,
                          uint64_t *out_mark)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
    struct stat file;
    bool whole = fstat(fd, &file) == 0 && file.st_size <= (off_t)cap;
    size_t len = 0;
    while (whole && len < (size_t)file.st_size) {
        ssize_t n = read(fd, out + len, (size_t)file.st_size - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            whole = false;
        else
            len += (size_t)n;
    }
    close(fd);
    if (!whole)
        return ERR_IO;
    *out_len = len;
    *out_mark = mark_of(&file);
    return ERR_OK;
}

enum err vault_open(const char *directory, struct vault *out)
{
    if (mkdir(directory, 0700) != 0 && errno != EEXIST)
        return ERR_IO;
    struct vault vault = {.lock_fd = -1};
    snprintf(vault.directory, sizeof vault.directory, "%s", directory);
    struct path lock = path_of(&vault, "lock");
    vault.lock_fd = open(lock.text, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (vault.lock_fd < 0)
        return ERR_IO;
    *out = vault;
    return ERR_OK;
}

void vault_close(struct vault *vault)
{
    if (vault->lock_fd >= 0)
        close(vault->lock_fd);
    vault->lock_fd = -1;
}

static bool lock_file(int fd, short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_len = 1};
    int rc;
    do {
        rc = fcntl(fd, F_OFD_SETLKW, &lock);
    } while (rc != 0 && errno == EINTR);
    return rc == 0;
}

bool vault_lock(struct vault *vault)
{
    return lock_file(vault->lock_fd, F_WRLCK);
}

void vault_unlock(struct vault *vault)
{
    lock_file(vault->lock_fd, F_UNLCK);
}

/* --- the token --- */

static bool decode_token(struct bytes in, struct vault_token *out)
{
    struct bytes magic;
    struct vault_token token = {.is_initialized = true};
    if (!bytes_get(&in, sizeof token_magic, &magic) || !bytes_eq(magic, BYTES_ARRAY(token_magic)) ||
        !bytes_copy(&in, token.label, sizeof token.label))
        return false;
    for (int i = 0; i < VAULT_USERS; i++) {
        uint8_t has_pin;
        if (!bytes_get_u8(&in, &has_pin) || has_pin > 1 ||
            !bytes_copy(&in, token.slot[i].salt, VAULT_SALT_LEN) ||
            !bytes_get_u32(&in, &token.slot[i].iterations) ||
            !bytes_copy(&in, token.slot[i].sealed, sizeof token.slot[i].sealed))
            return false;
        token.has_pin[i] = has_pin;
    }
    if (in.len != 0)
        return false;
    *out = token;
    return true;
}

enum err vault_read_token(const struct vault *vault, struct vault_token *out)
{
    uint8_t file[TOKEN_FILE_MAX];
    size_t len;
    uint64_t mark;
    struct path path = path_of(vault, "token");
    enum err err = read_file(path.text, file, sizeof file, &len, &mark);
    if (err == ERR_NOT_FOUND) {
        *out = (struct vault_token){0};
        return ERR_OK;
    }
    if (err)
        return err;
    return decode_token(bytes_of(file, len), out) ? ERR_OK : ERR_BAD_REQUEST;
}

static enum err write_token(const struct vault *vault, const struct vault_token *token)
{
    uint8_t file[TOKEN_FILE_MAX];
    struct writer writer = writer_of(file, sizeof file);
    writer_put(&writer, BYTES_ARRAY(token_magic));
    writer_put(&writer, BYTES_ARRAY(token->label));
    for (int i = 0; i < VAULT_USERS; i++) {
        writer_put_u8(&writer, token->has_pin[i]);
        writer_put(&writer, BYTES_ARRAY(token->slot[i].salt));
        writer_put_u32(&writer, token->slot[i].iterations);
        writer_put(&writer, BYTES_ARRAY(token->slot[i].sealed));
    }
    struct path path = path_of(vault, "token");
    return writer.failed ? ERR_INTERNAL : replace_file(vault, path.text, writer_view(&writer));
}

static struct bytes user_context(enum vault_user user)
{
    return user == VAULT_SO ? BYTES_LIT("certmill-hsmsim SO") : BYTES_LIT("certmill-hsmsim user");
}

enum err vault_try_pin(const struct vault_token *token, enum vault_user user, struct bytes pin,
                       uint8_t out_key[KEYWRAP_KEY_LEN])
{
    uint8_t wrapping[KEYWRAP_KEY_LEN];
    size_t len;
    enum err err = keywrap_derive(pin, BYTES_ARRAY(token->slot[user].salt),
                                  token->slot[user].iterations, wrapping);
    if (!err)
        err = keywrap_open(wrapping, user_context(user), BYTES_ARRAY(token->slot[user].sealed),
                           out_key, KEYWRAP_KEY_LEN, &len);
    secret_wipe(wrapping, sizeof wrapping);
    return err;
}

enum err vault_set_pin(const struct vault *vault, struct vault_token *token, enum vault_user user,
                       struct bytes pin, const uint8_t key[KEYWRAP_KEY_LEN])
{
    uint8_t wrapping[KEYWRAP_KEY_LEN];
    size_t len;
    random_bytes(token->slot[user].salt, VAULT_SALT_LEN);
    token->slot[user].iterations = PIN_ITERATIONS;
    token->has_pin[user] = true;
    enum err err =
        keywrap_derive(pin, BYTES_ARRAY(token->slot[user].salt), PIN_ITERATIONS, wrapping);
    if (!err)
        err = keywrap_seal(wrapping, user_context(user), bytes_of(key, KEYWRAP_KEY_LEN),
                           token->slot[user].sealed, sizeof token->slot[user].sealed, &len);
    secret_wipe(wrapping, sizeof wrapping);
    return err ? err : write_token(vault, token);
}

static void remove_one(void *ctx, uint64_t number, uint64_t mark)
{
    (void)mark;
    struct path path = object_path(ctx, number);
    unlink(path.text);
}

enum err vault_initialize(const struct vault *vault, const uint8_t label[VAULT_LABEL_LEN],
                          struct bytes so_pin)
{
    enum err err = vault_scan(vault, remove_one, (void *)(uintptr_t)vault);
    if (err)
        return err;
    struct vault_token token = {.is_initialized = true};
    uint8_t key[KEYWRAP_KEY_LEN];
    memcpy(token.label, label, VAULT_LABEL_LEN);
    random_bytes(key, sizeof key);
    err = vault_set_pin(vault, &token, VAULT_SO, so_pin, key);
    secret_wipe(key, sizeof key);
    return err;
}

/* --- objects --- */

static void put_header(struct writer *writer, uint64_t number, bool is_private)
{
    writer_put(writer, BYTES_ARRAY(object_magic));
    writer_put_u64(writer, number);
    writer_put_u8(writer, is_private);
}

static enum err store(const struct vault *vault, const struct object *object, const uint8_t *key,
                      uint8_t *plain, uint8_t *file)
{
    struct writer body = writer_of(plain, OBJECT_FILE_MAX);
    struct writer out = writer_of(file, OBJECT_FILE_MAX);
    object_encode(object, &body);
    put_header(&out, object->handle, object->is_private);
    if (body.failed)
        return ERR_NO_SPACE;
    size_t len = body.len;
    if (!object->is_private) {
        writer_put(&out, writer_view(&body));
    } else {
        struct bytes header = writer_view(&out);
        enum err err = keywrap_seal(key, header, writer_view(&body), file + header.len,
                                    OBJECT_FILE_MAX - header.len, &len);
        if (err)
            return err;
        out.len += len;
    }
    if (out.failed)
        return ERR_NO_SPACE;
    struct path path = object_path(vault, object->handle);
    return replace_file(vault, path.text, writer_view(&out));
}

enum err vault_store(const struct vault *vault, const struct object *object,
                     const uint8_t key[KEYWRAP_KEY_LEN])
{
    uint8_t *memory = malloc(2 * OBJECT_FILE_MAX);
    if (!memory)
        return ERR_INTERNAL;
    enum err err = store(vault, object, key, memory, memory + OBJECT_FILE_MAX);
    secret_wipe(memory, 2 * OBJECT_FILE_MAX);
    free(memory);
    return err;
}

static enum err load(const struct vault *vault, uint64_t number, const uint8_t *key, uint8_t *file,
                     uint8_t *plain, struct object *out)
{
    struct path path = object_path(vault, number);
    size_t len;
    enum err err = read_file(path.text, file, OBJECT_FILE_MAX, &len, &out->file_mark);
    if (err)
        return err;
    struct bytes in = bytes_of(file, len), magic, header = bytes_of(file, HEADER_LEN);
    uint64_t named;
    uint8_t is_private;
    if (!bytes_get(&in, sizeof object_magic, &magic) ||
        !bytes_eq(magic, BYTES_ARRAY(object_magic)) || !bytes_get_u64(&in, &named) ||
        named != number || !bytes_get_u8(&in, &is_private) || is_private > 1)
        return ERR_BAD_REQUEST;
    if (is_private) {
        if (!key)
            return ERR_PIN_WRONG;
        err = keywrap_open(key, header, in, plain, OBJECT_FILE_MAX, &len);
        if (err)
            return err;
        in = bytes_of(plain, len);
    }
    out->handle = number;
    return object_decode(in, out) && out->is_private == is_private ? ERR_OK : ERR_BAD_REQUEST;
}

enum err vault_load(const struct vault *vault, uint64_t number, const uint8_t *key,
                    struct object *out)
{
    uint8_t *memory = malloc(2 * OBJECT_FILE_MAX);
    if (!memory)
        return ERR_INTERNAL;
    enum err err = load(vault, number, key, memory, memory + OBJECT_FILE_MAX, out);
    secret_wipe(memory + OBJECT_FILE_MAX, OBJECT_FILE_MAX);
    free(memory);
    return err;
}

enum err vault_remove(const struct vault *vault, uint64_t number)
{
    struct path path = object_path(vault, number);
    if (unlink(path.text) != 0)
        return errno == ENOENT ? ERR_NOT_FOUND : ERR_IO;
    return sync_folder(vault) ? ERR_OK : ERR_IO;
}

static bool number_from_name(const char *name, uint64_t *out)
{
    uint8_t raw[8];
    size_t len;
    if (strlen(name) != 20 || strcmp(name + 16, ".obj") != 0 ||
        !bytes_from_hex(bytes_of(name, 16), raw, sizeof raw, &len))
        return false;
    *out = load_be64(raw);
    return true;
}

enum err vault_scan(const struct vault *vault,
                    void (*each)(void *ctx, uint64_t number, uint64_t mark), void *ctx)
{
    DIR *folder = opendir(vault->directory);
    if (!folder)
        return ERR_IO;
    for (const struct dirent *entry; (entry = readdir(folder));) {
        uint64_t number;
        struct stat file;
        if (number_from_name(entry->d_name, &number) &&
            fstatat(dirfd(folder), entry->d_name, &file, 0) == 0)
            each(ctx, number, mark_of(&file));
    }
    closedir(folder);
    return ERR_OK;
}
