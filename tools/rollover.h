/* rollover.h: from a CA's old key to a new one: link certificates, files, configuration, daemon.
 *
 * Promise: nothing that the CA uses now is written over: new files have new names, and the switch
 * is one rename of the configuration, which stays as FILE.old. A configuration that the running
 *          certmilld refuses is put back.
 * Owner:   rollover_clear frees what rollover_open and the others allocated.
 * Errors:  what fails has printed its line.
 */
#ifndef CERTMILL_TOOLS_ROLLOVER_H
#define CERTMILL_TOOLS_ROLLOVER_H

#include "config/config_edit.h"
#include "tools/ca.h"

enum { ROLLOVER_EDITS_MAX = 6 };

struct rollover {
    const struct config_ca *ca;
    const struct config_token *token;
    struct access access; /* of the token, logged in, read-write */
    /* as it is */
    struct cert_list old; /* its certificate, then its chain */
    struct x509_cert old_cert;
    struct p11_key old_key;
    /* as it will be */
    struct p11_key new_key;
    char new_uri[512];
    struct ca_cert cert, old_with_new, new_with_old;
    bool linked;                 /* not when the CA changes its name */
    struct cert_list chain_more; /* certificates above the new one that the chain lacks */
    char *certificate;           /* as the configuration will name them */
    char *old_with_new_file, *new_with_old_file, *chain_file;
    const char *previous[CA_PREVIOUS_MAX];
    const char *chain[CERT_CHAIN_MAX + 1];
    struct config_edit edits[ROLLOVER_EDITS_MAX];
    uint32_t edit_count;
};

/* Reads what there is and opens the token; the old key is there and is the certificate's. */
int rollover_open(struct cli *cli, const char *ca_name, struct rollover *out) MUST_USE;
void rollover_clear(struct rollover *rollover);
#define ROLLOVER __attribute__((cleanup(rollover_clear))) struct rollover
/* Names the files and the entries of the configuration; new_uri and cert's subject are known. */
int rollover_plan(struct cli *cli, struct rollover *rollover, struct bytes subject) MUST_USE;
/* With the new certificate: makes the links, writes the files, switches the configuration and tells
 * certmilld; prints the report. how: who signed the new certificate. */
int rollover_finish(struct cli *cli, struct rollover *rollover, bool key_made,
                    const char *how) MUST_USE;
/* What --dry-run prints. */
void rollover_preview(const struct cli *cli, const struct rollover *rollover, bool key_there,
                      const char *label, const char *how);

#endif
