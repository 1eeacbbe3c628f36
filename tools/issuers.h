/* issuers.h: the CAs of the configuration as the store knows them.
 *
 * Errors:  what fails has printed its line.
 */
#ifndef CERTMILL_TOOLS_ISSUERS_H
#define CERTMILL_TOOLS_ISSUERS_H

#include "tools/shelf.h"

/* The number the store gave the CA's key and name. Inside shelf_begin. */
int issuer_find(struct cli *cli, struct shelf *shelf, const char *ca, uint32_t *out_id) MUST_USE;

#endif
