/* shelf.h: the store as the commands read it, beside the running daemon.
 *
 * Promise: a list is read SHELF_CHUNK records at a time and printed between two snapshots: an old
 *          snapshot keeps the daemon's store from reusing space, and a terminal may wait for hours.
 * Errors:  what fails has printed its line.
 * Limits:  SHELF_LINES_MAX lines known by name.
 */
#ifndef CERTMILL_TOOLS_SHELF_H
#define CERTMILL_TOOLS_SHELF_H

#include "store/store.h"
#include "tools/cli.h"
#include "tools/output.h"

enum { SHELF_CHUNK = 512, SHELF_LINES_MAX = 1024 };

struct shelf {
    struct store *store;
    struct store_reader *reader;
    uint32_t line_count;
    struct {
        char name[LINE_NAME_MAX + 1];
        struct line_record record;
    } line[SHELF_LINES_MAX];
};

int shelf_open(struct cli *cli, struct shelf *out) MUST_USE;
void shelf_close(struct shelf *shelf);
#define SHELF __attribute__((cleanup(shelf_close))) struct shelf
int shelf_begin(struct shelf *shelf) MUST_USE;
void shelf_end(struct shelf *shelf);
int shelf_fail(enum err err);
/* "#7" for an id without a name. */
const char *shelf_line_name(const struct shelf *shelf, uint32_t line_id);
/* 0 and the line printed when there is none. */
uint32_t shelf_line_id(const struct shelf *shelf, const char *name);

/* A certificate by what an operator has at hand: serial (32 hex digits), SHA-256 fingerprint (64),
 * log number. Hex may have colons. Inside shelf_begin; *out is valid until shelf_end. */
int shelf_cert_find(struct shelf *shelf, const char *name, struct cert_view *out) MUST_USE;
/* Walks the log in chunks; what fn prints into `out` reaches standard output between two snapshots.
 * from: log number, 0 the end it starts at; fn returns false to stop. */
typedef bool (*shelf_fn)(void *ctx, FILE *out, const struct cert_view *cert);
int shelf_certs_each(struct shelf *shelf, uint64_t from, bool backward, shelf_fn fn,
                     void *ctx) MUST_USE;

/* cert_text.c */
const char *cert_status_name(uint8_t status);
const char *protocol_name(uint8_t protocol);
/* When and why a certificate was revoked or put on hold; false: it is neither. Inside shelf_begin,
 * as all below. */
bool cert_revocation(const struct shelf *shelf, const struct cert_view *cert,
                     struct revoked_record *out);
/* What the store knows. */
json_t *cert_json(const struct shelf *shelf, const struct cert_view *cert);
/* And what the certificate itself says. */
json_t *cert_json_full(const struct shelf *shelf, const struct cert_view *cert);
void cert_print(const struct shelf *shelf, const struct cert_view *cert);

#endif
