/* files.h: certificates, PINs and passwords from files, and files written so that a reader sees the
 * old or the new one, never half.
 *
 * Promise: what is written is synced before its name is; secrets are wiped by whoever holds them.
 * Errors:  what fails has printed its line.
 * Limits:  FILE_READ_MAX, CERT_CHAIN_MAX, CERT_DER_MAX, P11_PIN_MAX.
 */
#ifndef CERTMILL_TOOLS_FILES_H
#define CERTMILL_TOOLS_FILES_H

#include "asn1/x509.h"
#include "crypto/softkey.h"
#include "tools/cli.h"

enum { FILE_READ_MAX = 256 * 1024, SECRET_MAX = 256 };

/* NUL-terminated; the caller frees. NULL: the line is printed. */
char *file_read(const char *path, size_t *out_len);
bool file_exists(const char *path);
/* Makes missing folders, writes beside, syncs, renames. The file that was there stays as PATH.old.
 */
int file_write(const char *path, struct bytes data) MUST_USE;
/* The same; the new file may be read by whom `like` may be, and written by its owner alone. */
int file_write_like(const char *path, const char *like, struct bytes data) MUST_USE;

struct cert_list {
    uint32_t count;
    struct bytes der[CERT_CHAIN_MAX];
    uint8_t mem[CERT_CHAIN_MAX][CERT_DER_MAX];
};
/* Adds every certificate of a PEM file, or the one of a DER file. All of them decode. */
int certs_read(const char *path, struct cert_list *list) MUST_USE;
int certs_add(struct cert_list *list, const char *path, struct bytes der) MUST_USE;
/* A private key in PEM without a password; softkey_free. */
int key_read(const char *path, struct softkey **out) MUST_USE;
/* PEM, one block after the other, into a buffer the caller frees. */
char *certs_pem(const struct bytes der[], uint32_t count, size_t *out_len);

struct secret {
    size_t len;
    uint8_t data[SECRET_MAX + 2];
};
void secret_clear(struct secret *secret);
#define SECRET __attribute__((cleanup(secret_clear))) struct secret

/* An editor's line end is not part of a secret. */
void secret_drop_line_end(struct secret *secret);
/* From a file, without the line end that an editor leaves. Warns when others may read the file. */
int secret_from_file(const char *path, const char *what, struct secret *out) MUST_USE;
/* A token's PIN, from where the configuration says. */
int secret_pin(const struct config *config, const struct config_token *token,
               struct secret *out) MUST_USE;
/* Where that is, for messages: "file /etc/certmill/pin". */
void secret_pin_place(const struct config *config, const struct config_token *token, char *out,
                      size_t cap);

#endif
