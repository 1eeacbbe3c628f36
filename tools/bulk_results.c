/* The journal of results: NDJSON, one line an item, appended and synced; the only thing a later run
 * starts from. Certificates' files and failures.ndjson are made from it. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "asn1/base64.h"
#include "asn1/oid.h"
#include "base/secret.h"
#include "tools/bulk.h"

enum { BUFFER_MAX = 1024 * 1024, LINE_MAX_OUT = 128 * 1024, SHARDS = 256, PATH_LEN_MAX = 4096 };

/* Digests of everything that has a state. A second flag: its failure was written out. */
struct known {
    uint8_t (*digest)[BULK_DIGEST_LEN];
    uint8_t *state; /* enum bulk_state; 0: a free place */
    uint64_t cap, count;
};
enum { WRITTEN = 0x80 };

struct bulk_results {
    char path[PATH_LEN_MAX]; /* of the journal */
    char failures[PATH_LEN_MAX];
    char certs[PATH_LEN_MAX]; /* folder of certificates; empty: none */
    int fd, lock_fd, certs_fd;
    struct known known;
    uint64_t counts[8];
    uint8_t *buffer;
    struct writer lines;
    /* the thread that syncs */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    bool dirty, stop, sync_failed;
};

/* --- what is known --- */

static uint64_t place_of(const struct known *known, const uint8_t digest[])
{
    uint64_t at = load_be64(digest) & (known->cap - 1);
    while (known->state[at] != 0 && memcmp(known->digest[at], digest, BULK_DIGEST_LEN) != 0)
        at = (at + 1) & (known->cap - 1);
    return at;
}

static void grow(struct known *known)
{
    struct known bigger = {.cap = known->cap ? 2 * known->cap : 4096, .count = known->count};
    bigger.digest = malloc(bigger.cap * BULK_DIGEST_LEN);
    bigger.state = calloc(bigger.cap, 1);
    if (!bigger.digest || !bigger.state)
        abort();
    for (uint64_t i = 0; i < known->cap; i++) {
        if (known->state[i] != 0) {
            uint64_t at = place_of(&bigger, known->digest[i]);
            memcpy(bigger.digest[at], known->digest[i], BULK_DIGEST_LEN);
            bigger.state[at] = known->state[i];
        }
    }
    free(known->digest);
    free(known->state);
    *known = bigger;
}

enum bulk_state bulk_results_find(const struct bulk_results *results, const uint8_t digest[])
{
    const struct known *known = &results->known;
    return known->cap ? (enum bulk_state)(known->state[place_of(known, digest)] & ~WRITTEN)
                      : BULK_NEW;
}

void bulk_results_mark(struct bulk_results *results, const uint8_t digest[], enum bulk_state state)
{
    struct known *known = &results->known;
    if (4 * known->count >= 3 * known->cap)
        grow(known);
    uint64_t at = place_of(known, digest);
    if (known->state[at] == 0) {
        memcpy(known->digest[at], digest, BULK_DIGEST_LEN);
        known->count++;
    } else {
        results->counts[known->state[at] & ~WRITTEN]--;
    }
    known->state[at] = (uint8_t)state;
    results->counts[state]++;
}

uint64_t bulk_results_count(const struct bulk_results *results, enum bulk_state state)
{
    return results->counts[state];
}

/* --- lines --- */

static const char *const STATE_NAMES[] = {"", "issued", "refused", "unanswered", ""};

static void put_json(struct writer *out, const char *text)
{
    json_t *value = json_of_text(bytes_of_str(text));
    char *dump = json_dumps(value, JSON_ENCODE_ANY);
    writer_put_str(out, dump ? dump : "\"\"");
    free(dump);
    json_decref(value);
}

static void put_base64(struct writer *out, const char *name, struct bytes data)
{
    writer_printf(out, ",\"%s\":\"", name);
    uint8_t *room = writer_reserve(out, base64_encoded_len(data.len, 0));
    if (room)
        base64_encode(data, 0, room);
    writer_put_str(out, "\"");
}

/* Letters that are one file name everywhere. */
static void put_safe(struct writer *out, struct bytes text)
{
    for (size_t i = 0; i < text.len && i < 64; i++) {
        uint8_t c = text.ptr[i];
        bool good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                    c == '-' || c == '_' || (c == '.' && i > 0);
        writer_put_u8(out, good ? c : '_');
    }
}

/* <shard>/<commonName>-<digest>.pem: tells a person whose it is, and is nobody else's. */
static void cert_file_name(const struct bulk_item *item, char out[192])
{
    struct x509_cert cert;
    struct bytes name = {0};
    if (x509_decode(bytes_of(item->cert, item->cert_len), &cert) == ERR_OK &&
        !name_find(cert.subject, OID_AT_COMMON_NAME, &name) &&
        !name_find(cert.subject, OID_AT_SERIAL_NUMBER, &name))
        name = BYTES_LIT("device");
    struct writer text = writer_of(out, 191);
    writer_put_hex(&text, bytes_of(item->digest, 1));
    writer_put_u8(&text, '/');
    put_safe(&text, name);
    writer_put_u8(&text, '-');
    writer_put_hex(&text, bytes_of(item->digest, 8));
    writer_put_str(&text, ".pem");
    out[text.len] = 0;
}

static int write_cert(const struct bulk_results *results, const char *name, struct bytes der)
{
    size_t len = 0;
    char *pem = certs_pem(&der, 1, &len);
    int fd = openat(results->certs_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool good = fd >= 0 && write(fd, pem, len) == (ssize_t)len;
    if (fd >= 0)
        good = close(fd) == 0 && good;
    free(pem);
    return good ? CLI_DONE
                : cli_fail("%s/%s: %s: make room and run the same command again", results->certs,
                           name, strerror(errno));
}

static void put_issued(struct writer *out, const struct bulk_item *item, const char *file)
{
    struct x509_cert cert;
    if (file[0])
        writer_printf(out, ",\"file\":\"%s\"", file);
    writer_put_str(out, ",\"id\":");
    put_json(out, item->id);
    if (x509_decode(bytes_of(item->cert, item->cert_len), &cert) == ERR_OK) {
        writer_put_str(out, ",\"serial\":\"");
        writer_put_hex(out, cert.serial);
        writer_put_str(out, "\"");
    }
    put_base64(out, "cert", bytes_of(item->cert, item->cert_len));
    if (item->response_len > 0)
        put_base64(out, "response", bytes_of(item->response, item->response_len));
}

static void put_failed(struct writer *out, const struct bulk_item *item)
{
    writer_put_str(out, ",\"id\":");
    put_json(out, item->id);
    writer_put_str(out, ",\"fail\":");
    put_json(out, item->reason.fail);
    writer_put_str(out, ",\"code\":");
    put_json(out, item->reason.code);
    writer_put_str(out, ",\"text\":");
    put_json(out, item->reason.text);
    writer_printf(out, ",\"attempts\":%u", item->attempts);
    if (item->der_len > 0)
        put_base64(out, item->is_message ? "cmp" : "csr", bytes_of(item->der, item->der_len));
}

int bulk_results_put(struct bulk_results *results, const struct bulk_item *item,
                     enum bulk_state state)
{
    char file[192] = "", digest[2 * BULK_DIGEST_LEN + 1];
    struct writer *out = &results->lines;
    if (state == BULK_ISSUED && results->certs[0]) {
        cert_file_name(item, file);
        int status = write_cert(results, file, bytes_of(item->cert, item->cert_len));
        if (status != CLI_DONE)
            return status;
    }
    if (out->cap - out->len < LINE_MAX_OUT && bulk_results_flush(results) != CLI_DONE)
        return CLI_FAILED;
    bytes_to_hex(bytes_of(item->digest, BULK_DIGEST_LEN), digest);
    writer_printf(out, "{\"state\":\"%s\",\"digest\":\"%s\"", STATE_NAMES[state], digest);
    if (state == BULK_ISSUED)
        put_issued(out, item, file);
    else
        put_failed(out, item);
    writer_put_str(out, "}\n");
    bulk_results_mark(results, item->digest, state);
    return CLI_DONE;
}

static int write_fail(const char *path)
{
    return cli_fail("%s: %s: make room and run the same command again", path, strerror(errno));
}

static bool write_all(int fd, struct bytes data)
{
    while (data.len > 0) {
        ssize_t done = write(fd, data.ptr, data.len);
        if (done < 0 && errno != EINTR)
            return false;
        done = done < 0 ? 0 : done;
        data = bytes_of(data.ptr + done, data.len - (size_t)done);
    }
    return true;
}

int bulk_results_flush(struct bulk_results *results)
{
    if (results->lines.len == 0)
        return CLI_DONE;
    bool good = write_all(results->fd, writer_view(&results->lines));
    results->lines.len = 0;
    pthread_mutex_lock(&results->mutex);
    good = good && !results->sync_failed;
    results->dirty = true;
    pthread_cond_signal(&results->wake);
    pthread_mutex_unlock(&results->mutex);
    return good ? CLI_DONE : write_fail(results->path);
}

/* Syncs as often as the disk can, beside the network: what a power cut takes is asked for again. */
static void *sync_main(void *arg)
{
    struct bulk_results *results = arg;
    pthread_mutex_lock(&results->mutex);
    while (!results->stop || results->dirty) {
        if (!results->dirty) {
            pthread_cond_wait(&results->wake, &results->mutex);
            continue;
        }
        results->dirty = false;
        pthread_mutex_unlock(&results->mutex);
        bool good = fdatasync(results->fd) == 0;
        pthread_mutex_lock(&results->mutex);
        results->sync_failed |= !good;
    }
    pthread_mutex_unlock(&results->mutex);
    return NULL;
}

/* --- what an earlier run left --- */

/* {"state":"issued","digest":"<hex>"[,"file":"<name>"]: as put above; anything else is no line of
 * ours. */
static bool parse_head(const char *line, enum bulk_state *out_state, uint8_t digest[])
{
    static const char start[] = "{\"state\":\"", middle[] = "\",\"digest\":\"";
    size_t digest_len = 0;
    if (strncmp(line, start, sizeof(start) - 1) != 0)
        return false;
    line += sizeof(start) - 1;
    for (enum bulk_state state = BULK_ISSUED; state <= BULK_UNANSWERED; state++) {
        size_t len = strlen(STATE_NAMES[state]);
        if (strncmp(line, STATE_NAMES[state], len) != 0 ||
            strncmp(line + len, middle, sizeof(middle) - 1) != 0)
            continue;
        *out_state = state;
        line += len + sizeof(middle) - 1;
        return strlen(line) > 2 * BULK_DIGEST_LEN &&
               bytes_from_hex(bytes_of(line, 2 * BULK_DIGEST_LEN), digest, BULK_DIGEST_LEN,
                              &digest_len);
    }
    return false;
}

/* A certificate's file that a power cut took is written again. */
static int restore_cert(const struct bulk_results *results, const char *line)
{
    struct stat info;
    json_t *object = json_loads(line, 0, NULL);
    const char *file = json_string_value(json_object_get(object, "file"));
    const char *cert = json_string_value(json_object_get(object, "cert"));
    uint8_t der[CERT_DER_MAX];
    size_t len = 0;
    int status = CLI_DONE;
    bool missing = file && cert && !strstr(file, "..") && results->certs_fd >= 0 &&
                   (fstatat(results->certs_fd, file, &info, 0) != 0 || info.st_size == 0);
    if (missing && base64_decode(bytes_of_str(cert), der, sizeof(der), &len))
        status = write_cert(results, file, bytes_of(der, len));
    json_decref(object);
    return status;
}

static bool cert_is_there(const struct bulk_results *results, const char *line)
{
    static const char start[] = "\"file\":\"";
    struct stat info;
    char name[192];
    const char *at = strstr(line, start);
    size_t len = at ? strcspn(at + sizeof(start) - 1, "\"") : 0;
    if (results->certs_fd < 0 || !at || len >= sizeof(name))
        return true;
    memcpy(name, at + sizeof(start) - 1, len);
    name[len] = 0;
    return fstatat(results->certs_fd, name, &info, 0) == 0 && info.st_size > 0;
}

/* The last line may be torn by a kill: it is cut off. */
static int load(struct bulk_results *results)
{
    FILE *file = fdopen(dup(results->fd), "r");
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    off_t good = 0;
    int status = file ? CLI_DONE : write_fail(results->path);
    while (status == CLI_DONE && (len = getline(&line, &cap, file)) > 0 && line[len - 1] == '\n') {
        uint8_t digest[BULK_DIGEST_LEN];
        enum bulk_state state;
        if (!parse_head(line, &state, digest))
            status = cli_fail("%s: no journal of certmill bulk: give another --out", results->path);
        else if (state == BULK_ISSUED && !cert_is_there(results, line))
            status = restore_cert(results, line);
        if (status == CLI_DONE)
            bulk_results_mark(results, digest, state);
        good += len;
    }
    free(line);
    if (file)
        fclose(file);
    if (status == CLI_DONE &&
        (ftruncate(results->fd, good) != 0 || lseek(results->fd, good, SEEK_SET) < 0))
        status = write_fail(results->path);
    return status;
}

/* --- opening --- */

static int make_folder(const char *path)
{
    return mkdir(path, 0777) == 0 || errno == EEXIST ? CLI_DONE : write_fail(path);
}

static int open_certs(struct bulk_results *results)
{
    int status = make_folder(results->certs);
    results->certs_fd = open(results->certs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (status != CLI_DONE || results->certs_fd < 0)
        return write_fail(results->certs);
    for (int i = 0; i < SHARDS && status == CLI_DONE; i++) {
        char name[8];
        snprintf(name, sizeof(name), "%02x", i);
        if (mkdirat(results->certs_fd, name, 0777) != 0 && errno != EEXIST)
            status = write_fail(results->certs);
    }
    return status;
}

static bool ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);
    return len > end_len && strcmp(text + len - end_len, end) == 0;
}

static int set_paths(struct bulk_results *results, const char *out, char state[PATH_LEN_MAX])
{
    size_t cap = PATH_LEN_MAX, stem = strlen(out);
    if (stem > PATH_LEN_MAX - 32)
        return cli_fail("%s: too long a path", out);
    if (ends_with(out, ".ndjson")) {
        snprintf(results->path, cap, "%s", out);
        snprintf(results->failures, cap, "%.*s.failures.ndjson", (int)stem - 7, out);
        snprintf(state, cap, "%.*s.state", (int)stem - 7, out);
        return CLI_DONE;
    }
    snprintf(results->path, cap, "%s/results.ndjson", out);
    snprintf(results->failures, cap, "%s/failures.ndjson", out);
    snprintf(results->certs, cap, "%s/certs", out);
    snprintf(state, cap, "%s/state", out);
    int status = make_folder(out);
    return status == CLI_DONE ? open_certs(results) : status;
}

/* The state file: the run's id and the settings that answers depend on, in one line. One that is
 * empty was just made, by this or by a killed start. */
static int open_state(struct bulk_results *results, const char *path, const char *settings,
                      uint8_t out_run[16])
{
    char text[2048], wanted[2048], hex[33];
    size_t run_len = 0;
    results->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (results->lock_fd < 0)
        return write_fail(path);
    if (flock(results->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return cli_fail("%s: another certmill bulk works on this output: let it end", path);
    ssize_t len = pread(results->lock_fd, text, sizeof(text) - 1, 0);
    text[len > 0 ? len : 0] = 0;
    if (len > 33 && text[len - 1] == '\n' &&
        bytes_from_hex(bytes_of(text, 32), out_run, 16, &run_len)) {
        snprintf(wanted, sizeof(wanted), "%.32s %.1900s\n", text, settings);
        return strcmp(text, wanted) == 0
                   ? CLI_DONE
                   : cli_fail("%s: begun with '%.*s': go on with these, or give another --out",
                              path, (int)len - 34, text + 33);
    }
    random_bytes(out_run, 16);
    bytes_to_hex(bytes_of(out_run, 16), hex);
    int wanted_len = snprintf(wanted, sizeof(wanted), "%s %.1900s\n", hex, settings);
    if (ftruncate(results->lock_fd, 0) != 0 ||
        pwrite(results->lock_fd, wanted, (size_t)wanted_len, 0) != wanted_len ||
        fsync(results->lock_fd) != 0)
        return write_fail(path);
    return CLI_DONE;
}

static int open_all(struct bulk_results *results, const char *out, const char *settings,
                    uint8_t out_run[16])
{
    char state[PATH_LEN_MAX];
    int status = set_paths(results, out, state);
    if (status == CLI_DONE)
        status = open_state(results, state, settings, out_run);
    if (status != CLI_DONE)
        return status;
    results->fd = open(results->path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (results->fd < 0)
        return write_fail(results->path);
    return load(results);
}

int bulk_results_open(const char *out, const char *settings, struct bulk_results **out_results,
                      uint8_t out_run[16])
{
    struct bulk_results *results = calloc(1, sizeof(*results));
    uint8_t *buffer = malloc(BUFFER_MAX);
    if (!results || !buffer)
        abort();
    results->fd = results->lock_fd = results->certs_fd = -1;
    results->buffer = buffer;
    results->lines = writer_of(buffer, BUFFER_MAX);
    pthread_mutex_init(&results->mutex, NULL);
    pthread_cond_init(&results->wake, NULL);
    int status = open_all(results, out, settings, out_run);
    if (status == CLI_DONE && pthread_create(&results->thread, NULL, sync_main, results) != 0)
        status = cli_fail("no thread can be started: free some memory and try again");
    else if (status == CLI_DONE)
        *out_results = results;
    if (status != CLI_DONE) {
        results->stop = true;
        bulk_results_close(results);
    }
    return status;
}

/* --- the end --- */

static void add_reason(json_t *object, struct bulk_count out[BULK_REASONS_MAX], uint32_t *count)
{
    struct bulk_reason reason = {0};
    const char *fail = json_string_value(json_object_get(object, "fail"));
    const char *code = json_string_value(json_object_get(object, "code"));
    const char *text = json_string_value(json_object_get(object, "text"));
    snprintf(reason.fail, sizeof(reason.fail), "%s", fail ? fail : "");
    snprintf(reason.code, sizeof(reason.code), "%s", code ? code : "");
    snprintf(reason.text, sizeof(reason.text), "%s", text ? text : "");
    uint32_t i = 0;
    while (i < *count && (strcmp(out[i].reason.fail, reason.fail) != 0 ||
                          strcmp(out[i].reason.code, reason.code) != 0))
        i++;
    if (i == BULK_REASONS_MAX)
        i--; /* the last place is for all others */
    else if (i == *count)
        out[(*count)++] = (struct bulk_count){.reason = reason};
    out[i].count++;
}

/* Of several lines for one item, the first whose state it is in now. */
static bool is_due(struct bulk_results *results, const char *line)
{
    uint8_t digest[BULK_DIGEST_LEN];
    enum bulk_state state;
    struct known *known = &results->known;
    if (!parse_head(line, &state, digest) || state == BULK_ISSUED || known->cap == 0)
        return false;
    uint64_t at = place_of(known, digest);
    if (known->state[at] != (uint8_t)state)
        return false;
    known->state[at] |= WRITTEN;
    return true;
}

static bool copy_failures(struct bulk_results *results, FILE *from, FILE *to,
                          struct bulk_count out[BULK_REASONS_MAX], uint32_t *count)
{
    char *line = NULL;
    size_t cap = 0;
    bool good = true;
    while (good && getline(&line, &cap, from) > 0) {
        if (is_due(results, line)) {
            json_t *object = json_loads(line, 0, NULL);
            add_reason(object, out, count);
            json_decref(object);
            good = fputs(line, to) >= 0;
        }
    }
    free(line);
    return good && !ferror(from);
}

int bulk_results_finish(struct bulk_results *results, struct bulk_count out[BULK_REASONS_MAX],
                        uint32_t *out_count)
{
    *out_count = 0;
    int status = bulk_results_flush(results);
    if (status != CLI_DONE)
        return status;
    if (results->counts[BULK_REFUSED] + results->counts[BULK_UNANSWERED] == 0) {
        unlink(results->failures);
    } else {
        char temporary[PATH_LEN_MAX + 8];
        snprintf(temporary, sizeof(temporary), "%s.new", results->failures);
        FILE *from = fopen(results->path, "re"), *to = fopen(temporary, "we");
        bool good = from && to && copy_failures(results, from, to, out, out_count);
        good = to && fflush(to) == 0 && fsync(fileno(to)) == 0 && good;
        if (from)
            fclose(from);
        if (to)
            good = fclose(to) == 0 && good;
        if (!good || rename(temporary, results->failures) != 0)
            return write_fail(results->failures);
    }
    if (fdatasync(results->fd) != 0 || (results->certs_fd >= 0 && syncfs(results->certs_fd) != 0))
        return write_fail(results->path);
    return CLI_DONE;
}

const char *bulk_results_failures_path(const struct bulk_results *results)
{
    return results->failures;
}

const char *bulk_results_path(const struct bulk_results *results)
{
    return results->path;
}

void bulk_results_close(struct bulk_results *results)
{
    if (!results)
        return;
    if (!results->stop) {
        pthread_mutex_lock(&results->mutex);
        results->stop = true;
        pthread_cond_signal(&results->wake);
        pthread_mutex_unlock(&results->mutex);
        pthread_join(results->thread, NULL);
    }
    int fds[] = {results->fd, results->certs_fd, results->lock_fd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        if (fds[i] >= 0)
            close(fds[i]);
    free(results->known.digest);
    free(results->known.state);
    free(results->buffer);
    free(results);
}
