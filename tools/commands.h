/* commands.h: the groups of commands, one file (or two) each. */
#ifndef CERTMILL_TOOLS_COMMANDS_H
#define CERTMILL_TOOLS_COMMANDS_H

#include "tools/cli.h"

extern const struct cli_command *const TOKEN_COMMANDS[];
extern const struct cli_command *const KEY_COMMANDS[];
extern const struct cli_command *const CA_COMMANDS[];
extern const struct cli_command *const STATUS_COMMANDS[];
extern const struct cli_command *const CERT_COMMANDS[];
extern const struct cli_command *const REVOKE_COMMANDS[];
extern const struct cli_command *const CRL_COMMANDS[];
extern const struct cli_command *const LINE_COMMANDS[];
extern const struct cli_command *const DEVICE_COMMANDS[];
extern const struct cli_command *const JOURNAL_COMMANDS[];
extern const struct cli_command *const STATION_COMMANDS[];
extern const struct cli_command *const CONFIG_COMMANDS[];
extern const struct cli_command *const BULK_COMMANDS[];
extern const struct cli_command *const VERSION_COMMANDS[];

/* cmd_ca.c puts these in its table: */
extern const struct cli_command CA_INIT, CA_CSR, CA_IMPORT, CA_ROLLOVER, CA_ANNOUNCE;

#endif
