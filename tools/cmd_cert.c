/* certmill cert: list, show, find. */
#include <stdlib.h>
#include <unistd.h>

#include "asn1/csr.h"
#include "asn1/x509.h"
#include "crypto/digest.h"
#include "factory/settle.h"
#include "tools/commands.h"
#include "tools/files.h"
#include "tools/shelf.h"

/* --- list --- */

struct listing {
    const struct shelf *shelf;
    uint32_t line_id;    /* 0: all */
    struct bytes device; /* empty: all */
    bool revoked;        /* those alone, and what is on hold */
    uint64_t left;       /* of --limit */
    uint64_t printed;
    bool json;
};

/* "  keyCompromise 2026-01-31T12:00:00Z" behind a row, nothing when it is not revoked. */
static void print_revocation(const struct listing *listing, FILE *out, const struct cert_view *cert)
{
    char time[OUT_TIME_MAX];
    struct revoked_record revoked;
    if (!cert_revocation(listing->shelf, cert, &revoked))
        return;
    const char *reason = crl_reason_name(revoked.reason);
    fprintf(out, "  %s %s", reason ? reason : "unknown-reason", out_time(revoked.time_s, time));
}

static void print_row(const struct listing *listing, FILE *out, const struct cert_view *cert)
{
    char serial[OUT_HEX_MAX], issued[OUT_TIME_MAX], until[OUT_TIME_MAX], device[4 * DEVICE_ID_MAX];
    const struct cert_record *record = cert->record;
    fprintf(out, "%8llu  %s  %-10s  %s  %s  %-16s  %s", (unsigned long long)cert->log,
            out_hex(BYTES_ARRAY(record->serial), serial), cert_status_name(record->status),
            out_time(record->issued_s, issued), out_time(record->not_after_s, until),
            shelf_line_name(listing->shelf, record->line_id),
            out_clean(cert->device_id, device, sizeof(device)));
    print_revocation(listing, out, cert);
    fputc('\n', out);
}

static bool list_one(void *ctx, FILE *out, const struct cert_view *cert)
{
    struct listing *listing = ctx;
    if ((listing->line_id != 0 && cert->record->line_id != listing->line_id) ||
        (listing->device.len > 0 && !bytes_eq(cert->device_id, listing->device)) ||
        (listing->revoked && cert->record->status != CERT_REVOKED &&
         cert->record->status != CERT_ON_HOLD))
        return true;
    if (listing->json) {
        json_t *object = cert_json(listing->shelf, cert);
        fputs(listing->printed ? ",\n" : "\n", out);
        json_dumpf(object, out, JSON_COMPACT);
        json_decref(object);
    } else {
        print_row(listing, out, cert);
    }
    listing->printed++;
    return --listing->left > 0;
}

/* Where to start: behind --since in time, or at the newest. */
static int find_start(struct cli *cli, struct shelf *shelf, uint64_t *out_from)
{
    const char *since = cli_get(cli, "since");
    struct cert_view cert;
    *out_from = 0;
    if (!since)
        return CLI_DONE;
    int status = shelf_begin(shelf);
    if (status == CLI_DONE) {
        status = shelf_cert_find(shelf, since, &cert);
        if (status == CLI_DONE)
            *out_from = cert.log + 1;
        shelf_end(shelf);
    }
    return status;
}

static int run_list(struct cli *cli)
{
    SHELF shelf = {0};
    const char *line = cli_get(cli, "line"), *device = cli_get(cli, "device");
    struct listing listing = {.shelf = &shelf, .left = UINT64_MAX, .json = cli->json};
    uint64_t from = 0;
    if (cli_get_number(cli, "limit", 1, UINT64_MAX - 1, &listing.left) != CLI_DONE)
        return CLI_USAGE;
    int status = shelf_open(cli, &shelf);
    if (status == CLI_DONE && line && (listing.line_id = shelf_line_id(&shelf, line)) == 0)
        status = CLI_FAILED;
    if (device)
        listing.device = bytes_of_str(device);
    listing.revoked = cli_has(cli, "revoked");
    if (status == CLI_DONE)
        status = find_start(cli, &shelf, &from);
    if (status != CLI_DONE)
        return status;
    if (cli->json)
        fputs("{\"certificates\": [", stdout);
    else
        printf("%8s  %-32s  %-10s  %-20s  %-20s  %-16s  %s\n", "LOG", "SERIAL", "STATUS", "ISSUED",
               "NOT AFTER", "LINE", "DEVICE");
    status = shelf_certs_each(&shelf, from, from == 0, list_one, &listing);
    if (cli->json && status == CLI_DONE)
        fputs("\n]}\n", stdout);
    return status;
}

static const struct cli_option LIST_OPTIONS[] = {
    {"line", "NAME", "Only those of this line.", false, false},
    {"device", "ID", "Only those of this device, also superseded ones. Reads the whole log.", false,
     false},
    {"revoked", NULL, "Only those that are revoked or on hold. Reads the whole log.", false, false},
    {"limit", "N", "At most so many.", false, false},
    {"since", "SERIAL",
     "Those after this one (serial, log number or fingerprint), oldest first: the last line of one "
     "run is the --since of the next.",
     false, false},
    {NULL}};

/* --- show --- */

static int give_der(struct bytes der)
{
    if (isatty(STDOUT_FILENO))
        return cli_fail("DER is not for a terminal: send it to a file, or take --pem");
    fwrite(der.ptr, 1, der.len, stdout);
    return CLI_DONE;
}

static void give_pem(struct bytes der)
{
    char pem[2 * CERT_DER_MAX];
    struct writer out = writer_of(pem, sizeof(pem));
    pem_put(&out, "CERTIFICATE", der);
    fwrite(pem, 1, out.len, stdout);
}

static int run_show(struct cli *cli)
{
    SHELF shelf = {0};
    struct cert_view cert;
    bool pem = cli_has(cli, "pem"), der = cli_has(cli, "der");
    if (pem + der + cli->json > 1)
        return cli_usage(cli, "--pem, --der and --json exclude one another");
    int status = shelf_open(cli, &shelf);
    if (status == CLI_DONE)
        status = shelf_begin(&shelf);
    if (status != CLI_DONE)
        return status;
    status = shelf_cert_find(&shelf, cli->args[0], &cert);
    if (status == CLI_DONE && pem)
        give_pem(cert.der);
    else if (status == CLI_DONE && der)
        status = give_der(cert.der);
    else if (status == CLI_DONE && cli->json)
        out_json(cert_json_full(&shelf, &cert));
    else if (status == CLI_DONE)
        cert_print(&shelf, &cert);
    shelf_end(&shelf);
    return status;
}

static const struct cli_option SHOW_OPTIONS[] = {
    {"pem", NULL, "The certificate alone, PEM.", false, false},
    {"der", NULL, "The certificate alone, DER.", false, false},
    {NULL}};

/* --- find --- */

/* What was found, in the form asked for. */
struct finding {
    const struct shelf *shelf;
    json_t *array;
    bool json;
    uint32_t count;
};

static void add_found(struct finding *finding, const struct cert_view *cert)
{
    if (finding->json) {
        json_array_append_new(finding->array, cert_json(finding->shelf, cert));
    } else {
        if (finding->count > 0)
            putchar('\n');
        cert_print(finding->shelf, cert);
    }
    finding->count++;
}

/* SHA-256 of the key in a public key, request or certificate file. */
static int key_hash(const char *path, uint8_t out[SHA256_LEN])
{
    static const char *const types[] = {"PUBLIC KEY", "CERTIFICATE", "CERTIFICATE REQUEST",
                                        "NEW CERTIFICATE REQUEST"};
    uint8_t mem[CERT_DER_MAX];
    size_t len = 0, der_len = 0;
    char *text = file_read(path, &len);
    if (!text)
        return CLI_FAILED;
    struct bytes der = bytes_of(text, len);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        struct bytes reader = bytes_of(text, len);
        if (pem_next(&reader, types[i], mem, sizeof(mem), &der_len) == ERR_OK)
            der = bytes_of(mem, der_len);
    }
    struct spki spki = {0};
    struct x509_cert cert;
    struct cert_request request;
    if (x509_decode(der, &cert) == ERR_OK)
        spki = cert.spki;
    else if (csr_decode(der, &request) == ERR_OK)
        spki = request.spki;
    else if (spki_decode(der, &spki) != ERR_OK)
        spki = (struct spki){0};
    if (spki.der.len > 0)
        sha256_once(spki.der, out);
    free(text);
    if (spki.der.len == 0)
        return cli_fail(
            "%s: neither a public key nor a request nor a certificate: give one of them, "
            "PEM or DER",
            path);
    return CLI_DONE;
}

static enum err find_by_key(struct shelf *shelf, const uint8_t hash[SHA256_LEN],
                            struct finding *finding)
{
    struct key_view key;
    struct cert_view cert;
    enum err err = reader_key(shelf->reader, hash, &key);
    if (err == ERR_OK)
        err = reader_cert(shelf->reader, key.record->cert_log, &cert);
    if (err == ERR_OK)
        add_found(finding, &cert);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

/* The device's current certificate on every line that knows it. */
static enum err find_by_device(struct shelf *shelf, struct bytes id, struct finding *finding)
{
    enum err err = ERR_OK;
    for (uint32_t i = 0; i < shelf->line_count && err == ERR_OK; i++) {
        struct device_record device;
        struct cert_view cert;
        err = reader_device(shelf->reader, shelf->line[i].record.line_id, id, &device);
        if (err == ERR_OK)
            err = reader_cert(shelf->reader, device.cert_log, &cert);
        if (err == ERR_OK)
            add_found(finding, &cert);
        err = err == ERR_NOT_FOUND ? ERR_OK : err;
    }
    return err;
}

/* One of the four, which excludes the others. */
static int chosen(struct cli *cli, const char **out_option)
{
    static const char *const options[] = {"device", "serial", "fingerprint", "key"};
    uint32_t count = 0;
    for (size_t i = 0; i < 4; i++) {
        if (cli_has(cli, options[i])) {
            *out_option = options[i];
            count++;
        }
    }
    if (count != 1)
        return cli_usage(cli, "give one of --device, --serial, --fingerprint and --key");
    return CLI_DONE;
}

static int find(struct cli *cli, struct shelf *shelf, const char *option, struct finding *finding)
{
    const char *value = cli_get(cli, option);
    uint8_t hash[SHA256_LEN];
    struct cert_view cert;
    if (strcmp(option, "key") == 0 && key_hash(value, hash) != CLI_DONE)
        return CLI_FAILED;
    int status = shelf_begin(shelf);
    if (status != CLI_DONE)
        return status;
    enum err err = ERR_OK;
    if (strcmp(option, "key") == 0)
        err = find_by_key(shelf, hash, finding);
    else if (strcmp(option, "device") == 0)
        err = strlen(value) > DEVICE_ID_MAX ? ERR_OK
                                            : find_by_device(shelf, bytes_of_str(value), finding);
    else if ((status = shelf_cert_find(shelf, value, &cert)) == CLI_DONE)
        add_found(finding, &cert);
    shelf_end(shelf);
    if (err != ERR_OK)
        return shelf_fail(err);
    if (status == CLI_DONE && finding->count == 0)
        status =
            cli_fail("the store has no certificate for this %s: see `certmill cert list`", option);
    return status;
}

static int run_find(struct cli *cli)
{
    SHELF shelf = {0};
    const char *option = NULL;
    int status = chosen(cli, &option);
    if (status == CLI_DONE)
        status = shelf_open(cli, &shelf);
    if (status != CLI_DONE)
        return status;
    json_t *object = json_object();
    struct finding finding = {.shelf = &shelf, .array = json_array(), .json = cli->json};
    json_put(object, "certificates", finding.array);
    status = find(cli, &shelf, option, &finding);
    if (status == CLI_DONE && cli->json)
        out_json(json_incref(object));
    json_decref(object);
    return status;
}

static const struct cli_option FIND_OPTIONS[] = {
    {"device", "ID", "The current certificate of this device, on every line that knows it.", false,
     false},
    {"serial", "SERIAL", "By serial number, 32 hex digits, with or without colons.", false, false},
    {"fingerprint", "SHA-256", "By the certificate's SHA-256 fingerprint. Reads the log.", false,
     false},
    {"key", "FILE",
     "The newest certificate for the public key in this file: a public key, a request or a "
     "certificate, PEM or DER.",
     false, false},
    {NULL}};

/* --- table --- */

static const struct cli_command COMMAND_LIST = {
    .name = "list",
    .summary = "list the certificates that were issued",
    .text =
        "Newest first, or from --since on, oldest first. The list is read in pieces, so that it "
        "can be of any length and be left standing in a pager without disturbing the daemon. "
        "With --json it is {\"certificates\": [...]}, one certificate per line. Behind the device "
        "of "
        "one that is revoked or on hold stand the reason and the time.",
    .examples = " certmill -c certmill.yaml cert list --line line1 --limit 20\n"
                " certmill -c certmill.yaml --json cert list --since 018f... |\n"
                "     jq -r '.certificates[] | [.device, .serial] | @csv'",
    .options = LIST_OPTIONS,
    .run = run_list,
};

static const struct cli_command COMMAND_SHOW = {
    .name = "show",
    .arguments = "SERIAL|LOG|FINGERPRINT",
    .args_min = 1,
    .args_max = 1,
    .summary = "show one certificate and what the store knows of it",
    .text =
        "The certificate is named by its serial number (32 hex digits), its number in the log, or "
        "its SHA-256 fingerprint (64 hex digits); colons are skipped.",
    .examples = " certmill -c certmill.yaml cert show 17\n"
                " certmill -c certmill.yaml cert show 17 --pem | openssl x509 -noout -text",
    .options = SHOW_OPTIONS,
    .run = run_show,
};

static const struct cli_command COMMAND_FIND = {
    .name = "find",
    .summary = "find certificates by device, serial, fingerprint or key",
    .text = "Answers from the store's indexes. All certificates that a device ever had: `certmill "
            "cert list --device ID`.",
    .examples = " certmill -c certmill.yaml cert find --device SN-0001\n"
                " certmill -c certmill.yaml cert find --key device.csr",
    .status = "Also when there is none.",
    .options = FIND_OPTIONS,
    .run = run_find,
};

const struct cli_command *const CERT_COMMANDS[] = {&COMMAND_LIST, &COMMAND_SHOW, &COMMAND_FIND,
                                                   NULL};
