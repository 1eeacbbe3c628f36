#include "tools/shelf.h"

#include <stdlib.h>

/* --- opening --- */

static bool add_line(void *ctx, struct bytes name, const struct line_record *line)
{
    struct shelf *shelf = ctx;
    if (shelf->line_count == SHELF_LINES_MAX)
        return false;
    size_t len = name.len <= LINE_NAME_MAX ? name.len : LINE_NAME_MAX;
    memcpy(shelf->line[shelf->line_count].name, name.ptr, len);
    shelf->line[shelf->line_count].name[len] = 0;
    shelf->line[shelf->line_count++].record = *line;
    return true;
}

int shelf_fail(enum err err)
{
    return cli_fail("the store cannot be read: %s: look into certmilld's log", err_sentence(err));
}

int shelf_open(struct cli *cli, struct shelf *out)
{
    char detail[256] = "";
    const struct config *config = cli_config(cli);
    if (!config)
        return CLI_FAILED;
    char *dir = config_path(config, config->store.dir);
    struct store_config store = {.dir = dir, .read_only = true};
    enum err err = store_open(&store, &out->store, detail);
    if (err != ERR_OK)
        cli_fail("the store cannot be opened: %s: is it store.dir of %s, was certmilld started on "
                 "it, and may you read it?",
                 detail[0] ? detail : err_sentence(err), config->path);
    free(dir);
    if (err != ERR_OK)
        return CLI_FAILED;
    err = store_reader_new(out->store, &out->reader);
    if (err == ERR_OK)
        err = reader_begin(out->reader);
    if (err == ERR_OK) {
        err = reader_lines_each(out->reader, add_line, out);
        reader_end(out->reader);
    }
    return err == ERR_OK ? CLI_DONE : shelf_fail(err);
}

void shelf_close(struct shelf *shelf)
{
    store_reader_free(shelf->reader);
    store_close(shelf->store);
    *shelf = (struct shelf){0};
}

int shelf_begin(struct shelf *shelf)
{
    enum err err = reader_begin(shelf->reader);
    return err == ERR_OK ? CLI_DONE : shelf_fail(err);
}

void shelf_end(struct shelf *shelf)
{
    reader_end(shelf->reader);
}

const char *shelf_line_name(const struct shelf *shelf, uint32_t line_id)
{
    for (uint32_t i = 0; i < shelf->line_count; i++)
        if (shelf->line[i].record.line_id == line_id)
            return shelf->line[i].name;
    return line_id == 0 ? "-" : cell("#%u", line_id);
}

uint32_t shelf_line_id(const struct shelf *shelf, const char *name)
{
    for (uint32_t i = 0; i < shelf->line_count; i++)
        if (strcmp(shelf->line[i].name, name) == 0)
            return shelf->line[i].record.line_id;
    cli_fail("the store knows no line '%.64s': see `certmill line list`", name);
    return 0;
}

/* --- walking --- */

struct chunk_walk {
    shelf_fn fn;
    void *ctx;
    FILE *out;
    uint32_t left; /* records of this chunk */
    uint64_t last; /* log number */
    bool stopped;  /* fn said so */
};

static bool step(void *ctx, const struct cert_view *cert)
{
    struct chunk_walk *walk = ctx;
    walk->last = cert->log;
    walk->stopped = !walk->fn(walk->ctx, walk->out, cert);
    return !walk->stopped && --walk->left > 0;
}

/* One snapshot's worth. *out_more: the log goes on behind *from. */
static int walk_chunk(struct shelf *shelf, uint64_t *from, bool backward, struct chunk_walk *walk,
                      bool *out_more)
{
    char *text = NULL;
    size_t len = 0;
    int status = shelf_begin(shelf);
    if (status != CLI_DONE)
        return status;
    walk->out = open_memstream(&text, &len);
    if (!walk->out)
        abort();
    walk->left = SHELF_CHUNK;
    enum err err = reader_certs_each(shelf->reader, *from, backward, step, walk);
    shelf_end(shelf);
    fclose(walk->out);
    if (err == ERR_OK)
        fwrite(text, 1, len, stdout);
    free(text);
    if (err != ERR_OK)
        return shelf_fail(err);
    *from = backward ? walk->last - 1 : walk->last + 1;
    *out_more = walk->left == 0 && !walk->stopped && *from > 0 && !ferror(stdout);
    return CLI_DONE;
}

int shelf_certs_each(struct shelf *shelf, uint64_t from, bool backward, shelf_fn fn, void *ctx)
{
    struct chunk_walk walk = {.fn = fn, .ctx = ctx};
    bool more = true;
    int status = CLI_DONE;
    while (status == CLI_DONE && more)
        status = walk_chunk(shelf, &from, backward, &walk, &more);
    return status;
}

/* --- finding --- */

/* Issuers get numbers from 1 on, one for each CA key and name that was ever configured; serials are
 * kept by issuer, and an operator does not know which. */
enum { ISSUERS_TRIED_MAX = 1024 };

struct by_fingerprint {
    struct bytes wanted;
    uint64_t log;
};

static bool has_fingerprint(void *ctx, const struct cert_view *cert)
{
    struct by_fingerprint *find = ctx;
    if (bytes_eq(BYTES_ARRAY(cert->record->fingerprint), find->wanted))
        find->log = cert->log;
    return find->log == 0;
}

static enum err find_log(struct shelf *shelf, struct bytes id, uint64_t *out_log)
{
    if (id.len == SERIAL_LEN) {
        for (uint32_t issuer = 1; issuer <= ISSUERS_TRIED_MAX; issuer++) {
            enum err err = reader_serial(shelf->reader, issuer, id, out_log);
            if (err != ERR_NOT_FOUND)
                return err;
        }
        return ERR_NOT_FOUND;
    }
    /* no index has fingerprints: the newest are asked for most */
    struct by_fingerprint find = {.wanted = id};
    enum err err = reader_certs_each(shelf->reader, 0, true, has_fingerprint, &find);
    *out_log = find.log;
    return err == ERR_OK && find.log == 0 ? ERR_NOT_FOUND : err;
}

/* Hex with or without colons; 0 bytes when it is no hex of a serial's or a fingerprint's length. */
static size_t read_id(const char *name, uint8_t out[32])
{
    char hex[65];
    size_t count = 0, len = 0;
    for (; *name; name++) {
        if (*name == ':')
            continue;
        if (count == sizeof(hex) - 1)
            return 0;
        hex[count++] = *name;
    }
    if (count != 2 * SERIAL_LEN && count != 64)
        return 0;
    return bytes_from_hex(bytes_of(hex, count), out, 32, &len) ? len : 0;
}

int shelf_cert_find(struct shelf *shelf, const char *name, struct cert_view *out)
{
    uint8_t id[32];
    uint64_t log = 0;
    enum err err = ERR_OK;
    size_t len = read_id(name, id);
    if (len > 0)
        err = find_log(shelf, bytes_of(id, len), &log);
    else if (!bytes_to_u64(bytes_of_str(name), UINT64_MAX, &log))
        return cli_fail("'%.80s' is neither a serial number (32 hex digits) nor a SHA-256 "
                        "fingerprint (64) nor a log number: copy one from `certmill cert list`",
                        name);
    if (err == ERR_OK)
        err = log == 0 ? ERR_NOT_FOUND : reader_cert(shelf->reader, log, out);
    if (err == ERR_NOT_FOUND)
        return cli_fail("the store has no certificate %.80s: see `certmill cert list`", name);
    return err == ERR_OK ? CLI_DONE : shelf_fail(err);
}
