#include "tools/files.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/secret.h"

/* --- reading --- */

static ssize_t read_all(int fd, char *out, size_t cap)
{
    size_t len = 0;
    while (len < cap) {
        ssize_t got = read(fd, out + len, cap - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        len += (size_t)got;
    }
    return (ssize_t)len;
}

char *file_read(const char *path, size_t *out_len)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = fd >= 0 ? malloc(FILE_READ_MAX + 2) : NULL;
    ssize_t len = text ? read_all(fd, text, FILE_READ_MAX + 1) : -1;
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (len < 0)
        cli_fail("%s: %s: check the path and its permissions", path, strerror(error));
    else if (len > FILE_READ_MAX)
        cli_fail("%s: larger than %d bytes: this is not the file you mean", path, FILE_READ_MAX);
    if (len < 0 || len > FILE_READ_MAX) {
        free(text);
        return NULL;
    }
    text[len] = 0;
    *out_len = (size_t)len;
    return text;
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* --- writing --- */

static int make_folders(const char *path)
{
    char folder[PATH_MAX];
    if ((size_t)snprintf(folder, sizeof(folder), "%s", path) >= sizeof(folder))
        return cli_fail("%.80s...: the path is too long: use a shorter one", path);
    for (char *slash = strchr(folder + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        if (mkdir(folder, 0755) != 0 && errno != EEXIST)
            return cli_fail("%s: %s: make this folder writable", folder, strerror(errno));
        *slash = '/';
    }
    return CLI_DONE;
}

static bool sync_folder(const char *path)
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof(copy), "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return good;
}

/* Owner and mode, without what only the owner should do. */
static bool make_like(int fd, const char *like)
{
    struct stat info;
    if (!like || stat(like, &info) != 0)
        return true;
    /* only root gives files away; others have written for themselves */
    if (geteuid() == 0 && fchown(fd, info.st_uid, info.st_gid) != 0)
        return false;
    return fchmod(fd, info.st_mode & 0644) == 0;
}

static bool write_synced(const char *path, const char *like, struct bytes data)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, like ? 0600 : 0644);
    bool good = fd >= 0 && make_like(fd, like);
    while (good && data.len > 0) {
        ssize_t put = write(fd, data.ptr, data.len);
        good = put > 0 || (put < 0 && errno == EINTR);
        data.ptr += put > 0 ? put : 0;
        data.len -= put > 0 ? (size_t)put : 0;
    }
    good = good && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return good;
}

static bool keep_old(const char *path)
{
    char old[PATH_MAX];
    if (!file_exists(path))
        return true;
    if ((size_t)snprintf(old, sizeof(old), "%s.old", path) >= sizeof(old))
        return false;
    unlink(old);
    return link(path, old) == 0;
}

int file_write(const char *path, struct bytes data)
{
    return file_write_like(path, NULL, data);
}

int file_write_like(const char *path, const char *like, struct bytes data)
{
    char beside[PATH_MAX];
    int status = make_folders(path);
    if (status != CLI_DONE)
        return status;
    if ((size_t)snprintf(beside, sizeof(beside), "%s.new.%d", path, (int)getpid()) >=
        sizeof(beside))
        return cli_fail("%.80s...: the path is too long: use a shorter one", path);
    unlink(beside); /* of a run with the same number that was killed */
    if (write_synced(beside, like, data) && keep_old(path) && rename(beside, path) == 0 &&
        sync_folder(path))
        return CLI_DONE;
    int error = errno;
    unlink(beside);
    return cli_fail("%s: %s: check permissions and room, then run this again", path,
                    strerror(error));
}

/* --- certificates --- */

int certs_add(struct cert_list *list, const char *path, struct bytes der)
{
    struct x509_cert cert;
    if (list->count == CERT_CHAIN_MAX)
        return cli_fail("%s: more than %d certificates in all: leave out what the chain does not "
                        "need",
                        path, CERT_CHAIN_MAX);
    enum err err = der.len > CERT_DER_MAX ? ERR_BAD_CERT : x509_decode(der, &cert);
    if (err != ERR_OK)
        return cli_fail("%s: %s: give a PEM or DER file of X.509 certificates", path,
                        err_sentence(err));
    uint8_t *mem = list->mem[list->count];
    memcpy(mem, der.ptr, der.len);
    list->der[list->count++] = bytes_of(mem, der.len);
    return CLI_DONE;
}

static int add_pem(const char *path, struct bytes text, struct cert_list *list)
{
    uint8_t der[CERT_DER_MAX];
    size_t len = 0;
    int status = CLI_DONE;
    enum err err = ERR_OK;
    while (status == CLI_DONE &&
           (err = pem_next(&text, "CERTIFICATE", der, sizeof(der), &len)) == ERR_OK)
        status = certs_add(list, path, bytes_of(der, len));
    if (status == CLI_DONE && err != ERR_NOT_FOUND)
        status = cli_fail("%s: %s: the PEM text is damaged", path, err_sentence(err));
    return status;
}

int certs_read(const char *path, struct cert_list *list)
{
    size_t len = 0;
    char *text = file_read(path, &len);
    if (!text)
        return CLI_FAILED;
    uint32_t before = list->count;
    int status = len > 0 && text[0] == 0x30 ? certs_add(list, path, bytes_of(text, len))
                                            : add_pem(path, bytes_of(text, len), list);
    free(text);
    if (status == CLI_DONE && list->count == before)
        status = cli_fail("%s: there is no certificate in it: give a PEM or DER file", path);
    return status;
}

char *certs_pem(const struct bytes der[], uint32_t count, size_t *out_len)
{
    size_t cap = 1;
    for (uint32_t i = 0; i < count; i++)
        cap += 2 * der[i].len + 128;
    char *text = malloc(cap);
    if (!text)
        abort();
    struct writer out = writer_of(text, cap - 1);
    for (uint32_t i = 0; i < count; i++)
        pem_put(&out, "CERTIFICATE", der[i]);
    text[out.len] = 0;
    *out_len = out.len;
    return text;
}

int key_read(const char *path, struct softkey **out)
{
    size_t len = 0;
    char *text = file_read(path, &len);
    if (!text)
        return CLI_FAILED;
    enum err err = softkey_import_pem(bytes_of(text, len), out);
    secret_wipe(text, len);
    free(text);
    return err == ERR_OK ? CLI_DONE
                         : cli_fail("%s: no private key in it: give PEM without a password", path);
}
