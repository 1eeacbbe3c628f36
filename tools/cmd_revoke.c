/* certmill revoke: revoke, hold, release. */
#include <stdlib.h>
#include <unistd.h>

#include "asn1/crl.h"
#include "tools/commands.h"
#include "tools/daemon.h"
#include "tools/issuers.h"
#include "tools/shelf.h"

struct wish {
    const char *act; /* revoke, hold, release */
    const char *reason;
    /* of the certificate that was found */
    uint64_t log;
    char serial[OUT_HEX_MAX];
    char device[4 * DEVICE_ID_MAX];
    char line[LINE_NAME_MAX + 16];
};

/* --- what is asked --- */

static int read_act(struct cli *cli, struct wish *out)
{
    bool hold = cli_has(cli, "hold"), release = cli_has(cli, "release");
    uint8_t reason = 0;
    out->reason = cli_get(cli, "reason");
    if (hold + release + (out->reason != NULL) != 1)
        return cli_usage(cli, "give one of --reason NAME, --hold and --release");
    out->act = hold ? "hold" : release ? "release" : "revoke";
    if (!out->reason)
        return CLI_DONE;
    if (!crl_reason_from_text(out->reason, &reason) || reason == REASON_REMOVE)
        return cli_usage(cli, "'%.64s' is not a reason", out->reason);
    if (reason == REASON_HOLD) {
        out->act = "hold";
        out->reason = NULL;
    }
    return CLI_DONE;
}

/* --- finding --- */

static int find_device(struct cli *cli, struct shelf *shelf, struct bytes id, struct cert_view *out)
{
    const char *line = cli_get(cli, "line");
    uint32_t found = 0;
    for (uint32_t i = 0; i < shelf->line_count; i++) {
        struct device_record device;
        if ((line && strcmp(shelf->line[i].name, line) != 0) || id.len > DEVICE_ID_MAX)
            continue;
        enum err err = reader_device(shelf->reader, shelf->line[i].record.line_id, id, &device);
        if (err == ERR_OK)
            err = reader_cert(shelf->reader, device.cert_log, out);
        if (err == ERR_OK)
            found++;
        else if (err != ERR_NOT_FOUND)
            return shelf_fail(err);
    }
    if (found == 0)
        return cli_fail("no line has a device '%.80s': see `certmill cert list --device`",
                        cli_get(cli, "device"));
    return found == 1 ? CLI_DONE
                      : cli_usage(cli,
                                  "%u lines have a device of this id: say which one with "
                                  "--line",
                                  found);
}

/* What was found must be of the line and CA that were named beside it. */
static int check_place(struct cli *cli, struct shelf *shelf, const struct cert_view *cert)
{
    const char *line = cli_get(cli, "line"), *ca = cli_get(cli, "ca");
    uint32_t line_id = line ? shelf_line_id(shelf, line) : 0, issuer_id = 0;
    if (line && line_id == 0)
        return CLI_FAILED;
    if (line && line_id != cert->record->line_id)
        return cli_fail("the certificate is of line %s, not %s: nothing was done",
                        shelf_line_name(shelf, cert->record->line_id), line);
    if (ca && issuer_find(cli, shelf, ca, &issuer_id) != CLI_DONE)
        return CLI_FAILED;
    if (ca && issuer_id != cert->record->issuer_id)
        return cli_fail("the certificate is not of ca %s: nothing was done", ca);
    return CLI_DONE;
}

static int find(struct cli *cli, struct shelf *shelf, struct cert_view *out)
{
    const char *serial = cli_get(cli, "serial"), *device = cli_get(cli, "device");
    const char *fingerprint = cli_get(cli, "fingerprint");
    if ((serial != NULL) + (device != NULL) + (fingerprint != NULL) != 1)
        return cli_usage(cli, "give one of --serial, --device and --fingerprint");
    if (device)
        return find_device(cli, shelf, bytes_of_str(device), out);
    const char *name = serial ? serial : fingerprint;
    uint64_t number;
    if (bytes_to_u64(bytes_of_str(name), UINT64_MAX, &number) && strlen(name) < 2 * SERIAL_LEN)
        return cli_usage(cli,
                         "'%.80s' is neither a serial number (32 hex digits) nor a SHA-256 "
                         "fingerprint (64)",
                         name);
    return shelf_cert_find(shelf, name, out);
}

static void remember(const struct shelf *shelf, const struct cert_view *cert, struct wish *out)
{
    out->log = cert->log;
    out_hex(BYTES_ARRAY(cert->record->serial), out->serial);
    out_clean(cert->device_id, out->device, sizeof(out->device));
    snprintf(out->line, sizeof(out->line), "%s", shelf_line_name(shelf, cert->record->line_id));
}

/* --- asking back --- */

static int confirm(struct cli *cli, const struct shelf *shelf, const struct cert_view *cert,
                   const struct wish *wish)
{
    char answer[16] = "";
    if (cli_has(cli, "yes"))
        return CLI_DONE;
    if (cli->json || !isatty(STDIN_FILENO))
        return cli_usage(cli, "nobody can be asked here: give --yes");
    cert_print(shelf, cert);
    printf("\n%s this certificate%s%s? Type yes: ",
           strcmp(wish->act, "hold") == 0      ? "Put on hold"
           : strcmp(wish->act, "release") == 0 ? "Release"
                                               : "Revoke",
           wish->reason ? " for good, for " : "", wish->reason ? wish->reason : "");
    fflush(stdout);
    if (!fgets(answer, sizeof(answer), stdin) || strcmp(answer, "yes\n") != 0)
        return cli_fail("nothing was done");
    return CLI_DONE;
}

/* --- doing --- */

static int refused(const json_t *answer, const struct wish *wish)
{
    const char *code = daemon_error(answer);
    char what[256];
    if (strcmp(code, err_code(ERR_CERT_REVOKED)) == 0)
        return cli_fail("certificate %s is %s already: nothing was done", wish->serial,
                        strcmp(wish->act, "hold") == 0 ? "revoked or on hold" : "revoked for good");
    if (strcmp(code, err_code(ERR_BAD_REQUEST)) == 0 && strcmp(wish->act, "release") == 0)
        return cli_fail("certificate %s is not on hold: nothing was done", wish->serial);
    snprintf(what, sizeof(what), "certificate %s: nothing was done", wish->serial);
    return daemon_fail(answer, what);
}

static void print_done(struct cli *cli, const struct wish *wish)
{
    static const char *const done[] = {"revoked", "on hold", "released"};
    const char *now = done[strcmp(wish->act, "hold") == 0      ? 1
                           : strcmp(wish->act, "release") == 0 ? 2
                                                               : 0];
    if (!cli->json) {
        printf("%s: certificate %s of device %s, line %s\n", now, wish->serial, wish->device,
               wish->line);
        return;
    }
    json_t *object = json_object();
    json_put_str(object, "done", wish->act);
    json_put_str(object, "reason", wish->reason);
    json_put_int(object, "log", wish->log);
    json_put_str(object, "serial", wish->serial);
    json_put(object, "device", json_of_text(bytes_of_str(wish->device)));
    json_put_str(object, "line", wish->line);
    out_json(object);
}

static int perform(struct cli *cli, const struct wish *wish)
{
    char target[256];
    uint32_t status = 0;
    snprintf(target, sizeof(target), "/revoke?cert=%llu&serial=%s&act=%s%s%s",
             (unsigned long long)wish->log, wish->serial, wish->act, wish->reason ? "&reason=" : "",
             wish->reason ? wish->reason : "");
    json_t *answer = daemon_ask_json(cli, "POST", target, false, &status);
    if (!answer)
        return CLI_FAILED;
    int result = CLI_DONE;
    if (status == 200)
        print_done(cli, wish);
    else
        result = refused(answer, wish);
    json_decref(answer);
    return result;
}

static int run_revoke(struct cli *cli)
{
    SHELF shelf = {0};
    struct wish wish = {0};
    struct cert_view cert;
    int status = read_act(cli, &wish);
    if (status == CLI_DONE)
        status = shelf_open(cli, &shelf);
    if (status == CLI_DONE)
        status = shelf_begin(&shelf);
    if (status != CLI_DONE)
        return status;
    status = find(cli, &shelf, &cert);
    if (status == CLI_DONE)
        status = check_place(cli, &shelf, &cert);
    if (status == CLI_DONE) {
        remember(&shelf, &cert, &wish);
        status = confirm(cli, &shelf, &cert, &wish);
    }
    shelf_end(&shelf);
    return status == CLI_DONE ? perform(cli, &wish) : status;
}

static const struct cli_option REVOKE_OPTIONS[] = {
    {"serial", "HEX", "The certificate by its serial number, 32 hex digits; colons are skipped.",
     false, false},
    {"device", "ID", "The current certificate of this device.", false, false},
    {"fingerprint", "HEX", "The certificate by its SHA-256 fingerprint. Reads the log.", false,
     false},
    {"line", "NAME",
     "The device's line, needed when several lines have a device of this id. With another name of "
     "the certificate: refuse when it is not of this line.",
     false, false},
    {"ca", "NAME", "Refuse when the certificate is not of this CA.", false, false},
    {"reason", "NAME",
     "Revoke for good, for one of unspecified, keyCompromise, cACompromise, affiliationChanged, "
     "superseded, cessationOfOperation, privilegeWithdrawn, aACompromise (RFC 5280 5.3.1). "
     "certificateHold is the same as --hold.",
     false, false},
    {"hold", NULL, "Put it on hold: it is on the list, and nothing is issued for its device.",
     false, false},
    {"release", NULL, "Take a hold back.", false, false},
    {"yes", NULL, "Do not ask back. Needed where nobody can be asked, and with --json.", false,
     false},
    {NULL}};

static const struct cli_command COMMAND_REVOKE = {
    .name = "",
    .summary = "revoke a certificate, put it on hold, or release it",
    .text =
        "Has the running certmilld do it, over its admin socket, in your name: it is committed and "
        "in the journal when this command returns. A device whose current certificate is revoked "
        "or on hold gets no other one; one that was put on hold may be released, revoking is for "
        "good.\n\n"
        "The revocation list of the CA has it when the next one is made: on schedule, or within "
        "cas[].crl.on_revocation of the configuration. `certmill crl publish` makes one at once.",
    .examples = " certmill -c certmill.yaml revoke --device SN-0001 --reason keyCompromise\n"
                " certmill -c certmill.yaml revoke --serial 018f... --hold --yes\n"
                " certmill -c certmill.yaml revoke --serial 018f... --release --yes\n"
                " certmill -c certmill.yaml crl publish",
    .status = "Also when it was revoked already: nothing was done.",
    .options = REVOKE_OPTIONS,
    .run = run_revoke,
};

const struct cli_command *const REVOKE_COMMANDS[] = {&COMMAND_REVOKE, NULL};
