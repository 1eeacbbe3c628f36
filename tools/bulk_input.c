/* Records one after the other: PEM, DER, NDJSON; of files, folders and standard input. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "asn1/base64.h"
#include "asn1/csr.h"
#include "crypto/digest.h"
#include "tools/bulk.h"

enum { FOLDER_DEPTH_MAX = 8, PATHS_MAX = CLI_ARGS_MAX };

enum format { FORMAT_UNKNOWN, FORMAT_PEM, FORMAT_DER, FORMAT_NDJSON };

struct bulk_input {
    const char *path[PATHS_MAX];
    uint32_t path_count, path_at;
    DIR *folder[FOLDER_DEPTH_MAX];
    size_t name_len[FOLDER_DEPTH_MAX]; /* of `name` up to this folder */
    uint32_t depth;
    char name[4096]; /* of the file that is open, or the folder */
    char file_name[4096];
    FILE *file;
    enum format format;
    uint64_t record; /* in this file, from 1 */
    char *line;
    size_t line_cap;
    uint64_t total, passed; /* octets of files, entries of folders */
};

/* --- items --- */

void bulk_list_start(struct bulk_list *list)
{
    *list = (struct bulk_list){.last = NULL};
}

void bulk_list_put(struct bulk_list *list, struct bulk_item *item)
{
    item->next = NULL;
    if (list->first)
        *list->last = item;
    else
        list->first = item;
    list->last = &item->next;
    list->count++;
}

struct bulk_item *bulk_list_take(struct bulk_list *list)
{
    struct bulk_item *item = list->first;
    if (item) {
        list->first = item->next;
        list->count--;
    }
    return item;
}

void bulk_item_free(struct bulk_item *item)
{
    if (item) {
        free(item->cert);
        free(item->response);
        free(item);
    }
}

static struct bulk_item *new_item(const struct bulk_input *input, struct bytes der, const char *id)
{
    uint8_t digest[SHA256_LEN];
    struct bulk_item *item = calloc(1, sizeof(*item) + der.len + 1);
    if (!item)
        abort();
    memcpy(item->der, der.ptr, der.len);
    item->der_len = (uint32_t)der.len;
    item->batch_max = BULK_BATCH_MAX;
    sha256_once(der, digest);
    memcpy(item->digest, digest, sizeof(item->digest));
    if (id)
        snprintf(item->id, sizeof(item->id), "%s", id);
    else if (input->depth > 0 && input->record <= 1)
        snprintf(item->id, sizeof(item->id), "%.255s", input->file_name);
    else
        snprintf(item->id, sizeof(item->id), "%.200s:%llu", input->file_name,
                 (unsigned long long)input->record);
    return item;
}

/* The digest of what cannot be sent is that of where it stands: so two of them are two. */
static struct bulk_item *bad_item(const struct bulk_input *input, const char *id, const char *why)
{
    char place[BULK_ID_MAX + 32];
    snprintf(place, sizeof(place), "%.200s:%llu", input->file_name,
             (unsigned long long)input->record);
    struct bulk_item *item = new_item(input, bytes_of_str(place), id ? id : place);
    item->der_len = 0;
    snprintf(item->reason.fail, sizeof(item->reason.fail), "input");
    snprintf(item->reason.text, sizeof(item->reason.text), "%s", why);
    return item;
}

static struct bytes without_tag(struct bytes spki)
{
    return bytes_of(spki.ptr + 1, spki.len - 1);
}

static void take_csr(struct bulk_item *item)
{
    struct cert_request request;
    enum err err = csr_decode(bytes_of(item->der, item->der_len), &request);
    if (err == ERR_OK) {
        item->key = without_tag(request.spki.der);
        return;
    }
    snprintf(item->reason.fail, sizeof(item->reason.fail), "input");
    snprintf(item->reason.code, sizeof(item->reason.code), "%s", err_code(err));
    snprintf(item->reason.text, sizeof(item->reason.text), "%s", err_sentence(err));
}

/* The key a device's own message asks a certificate for: it has one request. */
static bool key_of_message(const struct cmp_msg *msg, struct bulk_item *item)
{
    static struct crmf_request request;
    static uint8_t scratch[BULK_DER_MAX];
    struct cert_request csr;
    uint32_t count = 0;
    if (msg->body == CMP_P10CR) {
        if (csr_decode(msg->content, &csr) != ERR_OK)
            return false;
        item->key = without_tag(csr.spki.der);
        return true;
    }
    if (msg->body != CMP_IR && msg->body != CMP_CR && msg->body != CMP_KUR)
        return false;
    struct writer room = writer_of(scratch, sizeof(scratch));
    if (cmp_cert_reqs_decode(msg->content, &room, &request, 1, &count) != ERR_OK ||
        request.err != ERR_OK || !request.has_key)
        return false;
    struct bytes key = without_tag(request.request.spki.der); /* in scratch */
    const uint8_t *at = memmem(item->der, item->der_len, key.ptr, key.len);
    item->key = at ? bytes_of(at, key.len) : (struct bytes){0};
    return at != NULL;
}

static void take_message(struct bulk_item *item)
{
    struct cmp_msg msg;
    item->is_message = true;
    if (cmp_msg_decode(bytes_of(item->der, item->der_len), &msg) == ERR_OK &&
        msg.header.transaction_id.len > 0 && msg.header.sender_nonce.len > 0 &&
        key_of_message(&msg, item)) {
        item->transaction_id = msg.header.transaction_id;
        item->nonce = msg.header.sender_nonce;
        return;
    }
    snprintf(item->reason.fail, sizeof(item->reason.fail), "input");
    snprintf(item->reason.text, sizeof(item->reason.text),
             "not a CMP message with one request (ir, cr, kur or p10cr), transactionID and "
             "senderNonce");
}

/* --- files --- */

static int open_file(struct bulk_input *input, const char *path)
{
    struct stat info;
    bool is_stdin = strcmp(path, "-") == 0;
    input->file = is_stdin ? stdin : fopen(path, "rbe");
    if (!input->file || fstat(fileno(input->file), &info) != 0)
        return cli_fail("%s: %s: give files and folders that can be read", path, strerror(errno));
    snprintf(input->file_name, sizeof(input->file_name), "%s",
             is_stdin             ? "-"
             : strrchr(path, '/') ? strrchr(path, '/') + 1
                                  : path);
    input->format = FORMAT_UNKNOWN;
    input->record = 0;
    return CLI_DONE;
}

static void close_file(struct bulk_input *input)
{
    if (input->file && input->file != stdin)
        fclose(input->file);
    input->file = NULL;
}

/* The next file of the folders that are open; *out_found false: none is left. */
static int next_of_folder(struct bulk_input *input, bool *out_found)
{
    while (input->depth > 0) {
        uint32_t top = input->depth - 1;
        struct dirent *entry = readdir(input->folder[top]);
        input->name[input->name_len[top]] = 0;
        if (!entry) {
            closedir(input->folder[top]);
            input->depth--;
            continue;
        }
        if (entry->d_name[0] == '.')
            continue;
        size_t used = input->name_len[top];
        int more = snprintf(input->name + used, sizeof(input->name) - used, "/%s", entry->d_name);
        struct stat info;
        input->passed++;
        if (more < 0 || used + (size_t)more >= sizeof(input->name) || stat(input->name, &info) != 0)
            return cli_fail("%s: %s: give files and folders that can be read", input->name,
                            strerror(errno));
        if (S_ISDIR(info.st_mode)) {
            DIR *folder = input->depth < FOLDER_DEPTH_MAX ? opendir(input->name) : NULL;
            if (!folder)
                return cli_fail("%s: it cannot be opened, or lies too deep", input->name);
            input->name_len[input->depth] = used + (size_t)more;
            input->folder[input->depth++] = folder;
        } else if (S_ISREG(info.st_mode)) {
            *out_found = true;
            return open_file(input, input->name);
        }
    }
    *out_found = false;
    return CLI_DONE;
}

static int next_file(struct bulk_input *input, bool *out_found)
{
    int status = next_of_folder(input, out_found);
    if (status != CLI_DONE || *out_found || input->path_at == input->path_count)
        return status;
    const char *path = input->path[input->path_at++];
    struct stat info;
    *out_found = true;
    if (strcmp(path, "-") == 0 || stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return open_file(input, path);
    int len = snprintf(input->name, sizeof(input->name), "%s", path);
    input->folder[0] = len < (int)sizeof(input->name) ? opendir(path) : NULL;
    if (!input->folder[0])
        return cli_fail("%s: %s: give files and folders that can be read", path, strerror(errno));
    input->name_len[0] = (size_t)len;
    input->depth = 1;
    return next_file(input, out_found);
}

/* --- records --- */

/* Looks at the first octet that is no blank. */
static enum format find_format(FILE *file)
{
    int c = getc(file);
    while (c == ' ' || c == '\t' || c == '\r' || c == '\n')
        c = getc(file);
    ungetc(c, file);
    return c == '{' ? FORMAT_NDJSON : c == 0x30 ? FORMAT_DER : FORMAT_PEM;
}

/* One DER element after the other. */
static struct bulk_item *next_der(struct bulk_input *input)
{
    uint8_t der[BULK_DER_MAX];
    size_t head = fread(der, 1, 2, input->file);
    if (head == 0)
        return NULL;
    input->record++;
    size_t octets = head == 2 && der[1] > 0x80 && der[1] <= 0x83 ? der[1] & 0x7fu : 0;
    if (head < 2 || der[0] != 0x30 || (der[1] >= 0x80 && octets == 0) ||
        fread(der + 2, 1, octets, input->file) != octets) {
        fseek(input->file, 0, SEEK_END);
        return bad_item(input, NULL, "not DER; what follows in this file is not looked at");
    }
    size_t len = octets ? 0 : der[1];
    for (size_t i = 0; i < octets; i++)
        len = len << 8 | der[2 + i];
    if (len > sizeof(der) - 5 || fread(der + 2 + octets, 1, len, input->file) != len) {
        fseek(input->file, 0, SEEK_END);
        return bad_item(input, NULL, "cut off, or too long for a request");
    }
    struct bulk_item *item = new_item(input, bytes_of(der, 2 + octets + len), NULL);
    take_csr(item);
    return item;
}

static bool read_line(struct bulk_input *input, size_t *out_len)
{
    ssize_t len = getline(&input->line, &input->line_cap, input->file);
    if (len < 0)
        return false;
    input->passed += input->depth == 0 ? (uint64_t)len : 0;
    while (len > 0 && (input->line[len - 1] == '\n' || input->line[len - 1] == '\r'))
        len--;
    *out_len = (size_t)len;
    return true;
}

/* Both labels are in use (RFC 7468 7). */
static bool decode_pem(struct bytes text, uint8_t *der, size_t cap, size_t *out_len)
{
    struct bytes again = text;
    return pem_next(&text, "CERTIFICATE REQUEST", der, cap, out_len) == ERR_OK ||
           pem_next(&again, "NEW CERTIFICATE REQUEST", der, cap, out_len) == ERR_OK;
}

/* Lines up to an END; text between blocks is skipped. */
static struct bulk_item *next_pem(struct bulk_input *input)
{
    char text[2 * BULK_DER_MAX];
    uint8_t der[BULK_DER_MAX];
    size_t used = 0, len = 0, der_len = 0;
    bool inside = false;
    while (read_line(input, &len)) {
        if (strncmp(input->line, "-----BEGIN ", 11) == 0) {
            inside = true;
            used = 0;
        }
        if (inside && used + len + 1 < sizeof(text)) {
            memcpy(text + used, input->line, len);
            text[used + len] = '\n';
            used += len + 1;
        }
        if (!inside || strncmp(input->line, "-----END ", 9) != 0)
            continue;
        input->record++;
        if (!decode_pem(bytes_of(text, used), der, sizeof(der), &der_len))
            return bad_item(input, NULL, "not a PEM block of a certificate request");
        struct bulk_item *item = new_item(input, bytes_of(der, der_len), NULL);
        take_csr(item);
        return item;
    }
    if (!inside && input->record > 0)
        return NULL;
    input->record++;
    return bad_item(input, NULL,
                    inside ? "a PEM block is cut off" : "no certificate request in it");
}

static bool decode_text(const char *text, uint8_t *der, size_t cap, size_t *out_len)
{
    struct bytes view = bytes_of_str(text);
    return strncmp(text, "-----BEGIN", 10) == 0 ? decode_pem(view, der, cap, out_len)
                                                : base64_decode(view, der, cap, out_len);
}

static struct bulk_item *item_of_json(const struct bulk_input *input, json_t *object)
{
    uint8_t der[BULK_DER_MAX];
    size_t len = 0;
    const char *id = json_string_value(json_object_get(object, "id"));
    const char *csr = json_string_value(json_object_get(object, "csr"));
    const char *message = json_string_value(json_object_get(object, "cmp"));
    if (!csr == !message)
        return bad_item(input, id, "the line needs one of \"csr\" and \"cmp\"");
    if (!decode_text(csr ? csr : message, der, sizeof(der), &len) || len == 0)
        return bad_item(input, id, "neither PEM nor base64 of DER, or too long");
    struct bulk_item *item = new_item(input, bytes_of(der, len), id);
    if (csr)
        take_csr(item);
    else
        take_message(item);
    return item;
}

static struct bulk_item *next_ndjson(struct bulk_input *input)
{
    size_t len = 0;
    do {
        if (!read_line(input, &len))
            return NULL;
        input->record++;
    } while (len == 0);
    json_error_t error;
    json_t *object = len < BULK_LINE_MAX ? json_loadb(input->line, len, 0, &error) : NULL;
    struct bulk_item *item = json_is_object(object)
                                 ? item_of_json(input, object)
                                 : bad_item(input, NULL, "the line is not a JSON object");
    json_decref(object);
    return item;
}

/* --- the whole --- */

/* Folders are counted first: that is quick beside reading them. */
static uint64_t size_of(const char *path)
{
    struct stat info;
    uint64_t entries = 0;
    if (strcmp(path, "-") == 0 || stat(path, &info) != 0)
        return 0;
    if (!S_ISDIR(info.st_mode))
        return (uint64_t)info.st_size;
    DIR *folder = opendir(path);
    struct dirent *entry;
    while (folder && (entry = readdir(folder)) != NULL)
        entries += entry->d_name[0] != '.';
    if (folder)
        closedir(folder);
    return entries;
}

struct bulk_input *bulk_input_open(const char *const paths[], uint32_t count)
{
    struct bulk_input *input = calloc(1, sizeof(*input));
    if (!input)
        abort();
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(paths[i], "-") != 0 && access(paths[i], R_OK) != 0) {
            cli_fail("%s: %s: give files and folders that can be read", paths[i], strerror(errno));
            free(input);
            return NULL;
        }
        input->path[input->path_count++] = paths[i];
        input->total += size_of(paths[i]);
    }
    return input;
}

static struct bulk_item *next_record(struct bulk_input *input)
{
    if (input->format == FORMAT_UNKNOWN)
        input->format = find_format(input->file);
    if (input->format == FORMAT_NDJSON)
        return next_ndjson(input);
    struct bulk_item *item = input->format == FORMAT_DER ? next_der(input) : next_pem(input);
    if (item && input->format == FORMAT_DER && input->depth == 0)
        input->passed += item->der_len;
    return item;
}

int bulk_input_next(struct bulk_input *input, struct bulk_item **out)
{
    *out = NULL;
    for (;;) {
        bool found = input->file != NULL;
        int status = found ? CLI_DONE : next_file(input, &found);
        if (status != CLI_DONE || !found)
            return status;
        if ((*out = next_record(input)) != NULL)
            return CLI_DONE;
        if (ferror(input->file))
            return cli_fail("%s: %s: it cannot be read to its end", input->file_name,
                            strerror(errno));
        close_file(input);
    }
}

double bulk_input_done(const struct bulk_input *input)
{
    if (input->total == 0)
        return 0;
    return input->passed >= input->total ? 1 : (double)input->passed / (double)input->total;
}

void bulk_input_close(struct bulk_input *input)
{
    if (!input)
        return;
    close_file(input);
    while (input->depth > 0)
        closedir(input->folder[--input->depth]);
    free(input->line);
    free(input);
}
