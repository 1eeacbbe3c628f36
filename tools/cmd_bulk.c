/* certmill bulk: certificates for files and folders of requests, by CMP. */
#include <stdlib.h>

#include "base/secret.h"
#include "tools/bulk.h"
#include "tools/commands.h"


/* What a run is made of. */
struct bulk {
    struct bulk_options options;
    struct bulk_messages messages;
    struct http_target target;
    struct cmp_client_credential credential;
    struct softkey *key;
    struct cert_list chain;
    struct subject_der {
        uint8_t der[NAME_DER_MAX];
        size_t len;
    } recipient;
    struct bulk_input *input;
    struct bulk_results *results;
};

/* --- the credential --- */

static int by_key(struct cli *cli, struct bulk *bulk)
{
    int status = key_read(cli_get(cli, "key"), &bulk->key);
    if (status == CLI_DONE)
        status = certs_read(cli_get(cli, "cert"), &bulk->chain);
    if (status == CLI_DONE && cli_has(cli, "chain"))
        status = certs_read(cli_get(cli, "chain"), &bulk->chain);
    if (status != CLI_DONE)
        return status;
    enum err err =
        cmp_client_by_key(bulk->key, bulk->chain.der, bulk->chain.count, &bulk->credential);
    return err == ERR_OK ? CLI_DONE
                         : cli_fail("%s: %s: give the certificate of the key in %s, first in its "
                                    "file",
                                    cli_get(cli, "cert"), err_sentence(err), cli_get(cli, "key"));
}

static int by_secret(struct cli *cli, struct bulk *bulk)
{
    SECRET secret = {0};
    uint64_t iterations = 1000;
    const char *kind = cli_get(cli, "mac"), *reference = cli_get(cli, "ref");
    bool pbmac1 = kind && strcmp(kind, "pbmac1") == 0;
    if (kind && !pbmac1 && strcmp(kind, "pbm") != 0)
        return cli_usage(cli, "--mac '%.64s': expected pbm or pbmac1", kind);
    int status =
        cli_get_number(cli, "iterations", MAC_ITERATIONS_MIN, MAC_ITERATIONS_MAX, &iterations);
    if (status == CLI_DONE)
        status = secret_from_file(cli_get(cli, "secret-file"), "the shared secret", &secret);
    if (status != CLI_DONE)
        return status;
    struct mac_params params = {.kind = pbmac1 ? MAC_PBMAC1 : MAC_PBM,
                                .hash = HASH_SHA256,
                                .mac = HASH_SHA256,
                                .iterations = (uint32_t)iterations,
                                .key_len = pbmac1 ? 32 : 0};
    enum err err = cmp_client_by_secret(bytes_of_str(reference), bytes_of(secret.data, secret.len),
                                        &params, &bulk->credential);
    return err == ERR_OK ? CLI_DONE
                         : cli_fail("--ref %.64s: the secret has 1 to %d octets, the reference 1 "
                                    "to %d: shorten it",
                                    reference, CMP_SECRET_MAX, STATION_NAME_MAX);
}

static int read_credential(struct cli *cli, struct bulk *bulk)
{
    bool key = cli_has(cli, "cert") || cli_has(cli, "key");
    bool secret = cli_has(cli, "ref") || cli_has(cli, "secret-file");
    if (key == secret)
        return cli_usage(cli, "one credential is needed: --cert with --key, or --ref with "
                              "--secret-file");
    if (key && !(cli_has(cli, "cert") && cli_has(cli, "key")))
        return cli_usage(cli, "--cert and --key go together");
    if (secret && !(cli_has(cli, "ref") && cli_has(cli, "secret-file")))
        return cli_usage(cli, "--ref and --secret-file go together");
    if (key && !cli_has(cli, "trust"))
        return cli_usage(cli, "--trust is needed to check the server's signatures with");
    bulk->messages.credential = &bulk->credential;
    bulk->messages.checker.credential = &bulk->credential;
    return key ? by_key(cli, bulk) : by_secret(cli, bulk);
}

/* CA certificates are anchors; others are servers' own, and pinned. */
static int read_trust(struct cli *cli, struct bulk *bulk)
{
    const char *path = cli_get(cli, "trust");
    struct bulk_messages *messages = &bulk->messages;
    if (!path)
        return CLI_DONE;
    int status = certs_read(path, &messages->pinned);
    messages->checker.anchors = &messages->anchors;
    for (uint32_t i = 0; i < messages->pinned.count && status == CLI_DONE; i++) {
        struct bytes der = messages->pinned.der[i];
        if (trust_store_add(&messages->anchors, der) == ERR_OK)
            continue;
        if (messages->checker.pinned_count == CMP_CLIENT_PINNED_MAX)
            return cli_fail("%s: more than %d certificates that are no CA's: leave some out", path,
                            CMP_CLIENT_PINNED_MAX);
        messages->checker.pinned[messages->checker.pinned_count++] = der;
    }
    return status;
}

/* --- options --- */

static int read_mode(struct cli *cli, struct bulk *bulk)
{
    static const char *const modes[] = {"nested", "multi", "single"};
    const char *mode = cli_get(cli, "mode"), *body = cli_get(cli, "body");
    struct bulk_messages *messages = &bulk->messages;
    uint32_t at = cli_has(cli, "ref") ? BULK_SINGLE : BULK_NESTED;
    for (at = mode ? 0 : at; mode && at < 3 && strcmp(mode, modes[at]) != 0;)
        at++;
    if (at == 3)
        return cli_usage(cli, "--mode '%.64s': expected nested, multi or single", mode);
    messages->mode = (enum bulk_mode)at;
    if (messages->mode == BULK_NESTED && cli_has(cli, "ref"))
        return cli_usage(cli, "--mode nested takes a certificate: RFC 9810 has no MAC around it");
    if (body && messages->mode != BULK_MULTI)
        return cli_usage(cli, "--body is for --mode multi");
    messages->body = CMP_IR;
    if (body && strcmp(body, "cr") == 0)
        messages->body = CMP_CR;
    else if (body && strcmp(body, "ir") != 0)
        return cli_usage(cli, "--body '%.64s': expected ir or cr", body);
    messages->confirm = cli_has(cli, "confirm");
    messages->keep_responses = cli_has(cli, "responses");
    return CLI_DONE;
}

static int read_numbers(struct cli *cli, struct bulk *bulk)
{
    uint64_t batch = 100, connections = 4, attempts = 8, one_in = 16, give_up = 60;
    int status = cli_get_number(cli, "batch", 1, BULK_BATCH_MAX, &batch);
    if (status == CLI_DONE)
        status = cli_get_number(cli, "connections", 1, BULK_CONNECTIONS_MAX, &connections);
    if (status == CLI_DONE)
        status = cli_get_number(cli, "attempts", 1, 1000, &attempts);
    if (status == CLI_DONE)
        status = cli_get_number(cli, "verify-one-in", 0, 1000000, &one_in);
    if (status == CLI_DONE)
        status = cli_get_number(cli, "give-up", 1, 86400, &give_up);
    bulk->messages.verify_one_in = (uint32_t)one_in;
    bulk->options = (struct bulk_options){
        .batch = bulk->messages.mode == BULK_SINGLE ? 1 : (uint32_t)batch,
        .connections = (uint32_t)connections,
        .attempts = (uint32_t)attempts,
        .give_up_s = (uint32_t)give_up,
        .retry_refused = cli_has(cli, "retry-refused"),
        .json = cli->json,
    };
    return status;
}

static int read_options(struct cli *cli, struct bulk *bulk)
{
    const char *recipient = cli_get(cli, "recipient");
    int status = read_mode(cli, bulk);
    if (status == CLI_DONE)
        status = read_numbers(cli, bulk);
    if (status != CLI_DONE)
        return status;
    if (recipient && !name_from_text(recipient, bulk->recipient.der, sizeof(bulk->recipient.der),
                                     &bulk->recipient.len))
        return cli_usage(cli, "--recipient '%.128s': write it like CN=CMP,O=Example", recipient);
    bulk->messages.recipient = bytes_of(bulk->recipient.der, bulk->recipient.len);
    return CLI_DONE;
}

/* --- the end --- */

static json_t *reason_json(const struct bulk_reason *reason, uint64_t count)
{
    json_t *object = json_object();
    json_put_str(object, "fail", reason->fail);
    json_put_str(object, "code", reason->code[0] ? reason->code : NULL);
    json_put_str(object, "text", reason->text);
    if (count > 0)
        json_put_int(object, "count", count);
    return object;
}

static void print_json(const struct bulk *bulk, const struct bulk_totals *totals,
                       const struct bulk_count reasons[], uint32_t count)
{
    json_t *object = json_object(), *array = json_array();
    json_put_int(object, "read", totals->read);
    json_put_int(object, "issued", totals->issued);
    json_put_int(object, "refused", totals->refused);
    json_put_int(object, "unanswered", totals->unanswered);
    json_put_int(object, "done_before", totals->known);
    json_put_int(object, "repeated", totals->repeated);
    json_put_int(object, "sent_again", totals->retries);
    json_put_int(object, "issued_in_all", bulk_results_count(bulk->results, BULK_ISSUED));
    json_put_int(object, "failed_in_all",
                 bulk_results_count(bulk->results, BULK_REFUSED) +
                     bulk_results_count(bulk->results, BULK_UNANSWERED));
    json_put(object, "seconds", json_real(totals->seconds));
    json_put(object, "rate",
             json_real(totals->seconds > 0 ? (double)totals->issued / totals->seconds : 0));
    json_put_bool(object, "interrupted", totals->interrupted);
    json_put(object, "stopped_by",
             totals->stop.fail[0] ? reason_json(&totals->stop, 0) : json_null());
    json_put_str(object, "results", bulk_results_path(bulk->results));
    json_put_str(object, "failures", count > 0 ? bulk_results_failures_path(bulk->results) : NULL);
    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(array, reason_json(&reasons[i].reason, reasons[i].count));
    json_put(object, "reasons", array);
    out_json(object);
}

static void print_text(const struct bulk *bulk, const struct bulk_totals *totals,
                       const struct bulk_count reasons[], uint32_t count)
{
    struct table table;
    double rate = totals->seconds > 0 ? (double)totals->issued / totals->seconds : 0;
    printf("%llu issued in %.1f s, %.0f/s; %llu done before; %llu in all\n",
           (unsigned long long)totals->issued, totals->seconds, rate,
           (unsigned long long)totals->known,
           (unsigned long long)bulk_results_count(bulk->results, BULK_ISSUED));
    printf("%-10s%s\n", "results", bulk_results_path(bulk->results));
    if (count == 0)
        return;
    printf("%-10s%s\n\n", "failures", bulk_results_failures_path(bulk->results));
    table_start(&table, ">COUNT", "FAILURE", "CODE", "TEXT", NULL);
    for (uint32_t i = 0; i < count; i++)
        table_row(&table, cell("%llu", (unsigned long long)reasons[i].count),
                  reasons[i].reason.fail, reasons[i].reason.code, reasons[i].reason.text);
    table_print(&table, stdout);
}

static int end(struct cli *cli, struct bulk *bulk, const struct bulk_totals *totals)
{
    struct bulk_count reasons[BULK_REASONS_MAX];
    uint32_t count = 0;
    int status = bulk_results_finish(bulk->results, reasons, &count);
    if (status != CLI_DONE)
        return status;
    if (cli->json)
        print_json(bulk, totals, reasons, count);
    else
        print_text(bulk, totals, reasons, count);
    if (totals->stop.fail[0])
        return cli_fail("stopped: %s%s%s: put this right and run the same command again: it goes "
                        "on where it was",
                        totals->stop.fail, totals->stop.text[0] ? ": " : "", totals->stop.text);
    if (totals->interrupted)
        return cli_fail("interrupted: run the same command again: it goes on where it was");
    uint64_t failed = bulk_results_count(bulk->results, BULK_REFUSED) +
                      bulk_results_count(bulk->results, BULK_UNANSWERED);
    return failed == 0
               ? CLI_DONE
               : cli_fail("%llu without a certificate: %s has them with their reasons, "
                          "and can be given to certmill bulk again",
                          (unsigned long long)failed, bulk_results_failures_path(bulk->results));
}

/* --- the command --- */

/* What the answers to messages that are sent again depend on. */
static void settings_text(struct cli *cli, const struct bulk *bulk, char *out, size_t cap)
{
    static const char *const modes[] = {"nested", "multi", "single"};
    snprintf(out, cap, "--url %.1024s --mode %s%s", cli_get(cli, "url"), modes[bulk->messages.mode],
             bulk->messages.confirm ? " --confirm" : "");
}

static int prepare(struct cli *cli, struct bulk *bulk)
{
    char settings[1200];
    int status = read_options(cli, bulk);
    if (status == CLI_DONE)
        status = read_credential(cli, bulk);
    if (status == CLI_DONE)
        status = read_trust(cli, bulk);
    if (status == CLI_DONE)
        status = http_target_set(cli, cli_get(cli, "url"), cli_get(cli, "cacert"), &bulk->target);
    if (status != CLI_DONE)
        return status;
    bulk->messages.target = &bulk->target;
    if (!bulk_messages_init(&bulk->messages))
        return cli_fail("out of memory: free some and try again");
    bulk->input = bulk_input_open(cli->args, cli->arg_count);
    if (!bulk->input)
        return CLI_FAILED;
    settings_text(cli, bulk, settings, sizeof(settings));
    return bulk_results_open(cli_get(cli, "out"), settings, &bulk->results, bulk->messages.run);
}

static int run_bulk(struct cli *cli)
{
    struct bulk *bulk = calloc(1, sizeof(*bulk));
    struct bulk_totals totals;
    if (!bulk)
        return cli_fail("out of memory: free some and try again");
    int status = prepare(cli, bulk);
    if (status == CLI_DONE) {
        status = bulk_run(&bulk->options, &bulk->messages, bulk->input, bulk->results, &totals);
        int end_status = end(cli, bulk, &totals);
        status = status == CLI_DONE ? end_status : status;
    }
    bulk_results_close(bulk->results);
    bulk_input_close(bulk->input);
    bulk_messages_clear(&bulk->messages);
    http_target_clear(&bulk->target);
    cmp_client_credential_clear(&bulk->credential);
    softkey_free(bulk->key);
    free(bulk);
    return status;
}

static const struct cli_option BULK_OPTIONS[] = {
    {"url", "URL",
     "The server, http://HOST:PORT/.well-known/cmp/p/LINE or https://HOST:PORT/...; for a batch of "
     "devices' "
     "own messages with /nested behind it, or nothing.",
     true, false},
    {"out", "PATH",
     "Where results go: a folder (made when missing), or a file that ends in .ndjson. The same "
     "path again goes on with that run.",
     true, false},
    {"cert", "FILE",
     "PEM certificate of who asks, a registration authority (extended key usage cmcRA), with "
     "--key. "
     "Certificates behind it in the file are sent, too.",
     false, false},
    {"key", "FILE", "Its private key, PEM without a password.", false, false},
    {"chain", "FILE", "Certificates between --cert and the server's anchor.", false, false},
    {"ref", "NAME",
     "Reference of a shared secret (senderKID), with --secret-file: messages are "
     "protected by a MAC.",
     false, false},
    {"secret-file", "FILE", "The shared secret; a line end at its end is not part of it.", false,
     false},
    {"mac", "KIND", "pbm (default) or pbmac1.", false, false},
    {"iterations", "N", "Of the MAC's key derivation; default 1000.", false, false},
    {"trust", "FILE",
     "PEM certificates that answers are trusted by: CAs above the certificate that signs them, or "
     "that certificate itself.",
     false, false},
    {"cacert", "FILE", "Trust anchor of the server's TLS certificate; default: the system's.",
     false, false},
    {"mode", "MODE",
     "nested: each request in a message of its own, many of these in one batch (default with "
     "--cert). multi: many requests in one message, whose proofs of possession are checked here "
     "and "
     "vouched for (raVerified). single: one request per message, which every CMP server takes "
     "(default with --ref).",
     false, false},
    {"body", "BODY", "Of --mode multi: ir (default) or cr.", false, false},
    {"batch", "N", "Requests in a message, 1 to 1024; default 100.", false, false},
    {"connections", "N", "At once, 1 to 64; default 4.", false, false},
    {"confirm", NULL,
     "Confirm each certificate with certConf. Default: ask the server to go without "
     "(implicitConfirm).",
     false, false},
    {"recipient", "NAME", "Name of the CA in messages, like CN=CMP,O=Example; default: none.",
     false, false},
    {"attempts", "N",
     "How often a request is sent at most while the server is busy or its answer is not right; "
     "default 8. Breaks of a connection do not count.",
     false, false},
    {"give-up", "SECONDS", "End when nothing was answered for so long; default 60.", false, false},
    {"verify-one-in", "N",
     "Verify the signature of one certificate in N where the issuer is known; default 16, 0: none. "
     "The protection of answers is always checked, and that each certificate is for the key that "
     "asked.",
     false, false},
    {"responses", NULL,
     "Keep the server's whole answer to each request in the results: a device "
     "that made its own message wants to check it.",
     false, false},
    {"retry-refused", NULL, "Ask again for what an earlier run with this --out was refused.", false,
     false},
    {NULL}};

static const struct cli_command COMMAND_BULK = {
    .name = "",
    .arguments = "FILE|FOLDER...",
    .args_min = 1,
    .args_max = CLI_ARGS_MAX,
    .summary = "get certificates for many requests by CMP, from this or any server",
    .text =
        "Reads certification requests from files and folders, sends them in batches, and writes "
        "certificates and a journal of results. It may be interrupted or killed at any time: the "
        "same command goes on where it was, and asks again, under the same transaction ids, for "
        "what was in flight. A request that is given twice is sent once.\n\n"
        "A file holds PEM blocks, DER requests one behind the other, or lines of JSON; what it is "
        "is seen from its first octet. - is standard input. A line of JSON has one of\n\n"
        " \"csr\"  a PKCS#10 request, PEM or base64 of DER\n"
        " \"cmp\"  a whole PKIMessage that the device itself made and protected,\n"
        "        base64: a gateway collects these (kur of devices that renew\n"
        "        their keys) and sends them nested\n"
        " \"id\"   and perhaps a name for it in results and messages\n\n"
        "Of a folder, all files are read, also in folders inside. Nothing is held in memory but "
        "what is in flight and 24 octets for each request that is done.\n\n"
        "A server that is busy is asked again, later and later. A batch that is refused as a whole "
        "is sent again in halves, until the request at fault stands alone. When the server refuses "
        "the sender, all ends at once.\n\n"
        "Files under --out FOLDER (for --out NAME.ndjson: NAME.ndjson, NAME.failures.ndjson and "
        "NAME.state, and no PEM files):\n\n"
        " results.ndjson   the journal: one line for each request with its\n"
        "                  state, and the certificate in base64, or failure,\n"
        "                  code and text\n"
        " certs/XX/*.pem   the certificates, named by subject and request\n"
        " failures.ndjson  what has no certificate, as lines that certmill bulk\n"
        "                  reads again; written when a run ends\n"
        " state            the run's id\n\n"
        "Progress goes to standard error: a line that changes on a terminal, else one every ten "
        "seconds. SIGINT and SIGTERM let what is in flight be answered; a second one ends at once.",
    .examples =
        " certmill bulk --url http://127.0.0.1:8080/.well-known/cmp/p/line1 \\\n"
        "     --cert ra.pem --key ra.key --trust cmp-ca.pem --out rekey devices.ndjson\n"
        " certmill bulk --url https://ca.example.com/cmp --cacert tls-ca.pem --mode single \\\n"
        "     --ref line-7 --secret-file secret --out certs.ndjson csrs/\n"
        " certmill bulk ... --out second-try rekey/failures.ndjson",
    .status = "Also when a request has no certificate in the end, or the run was interrupted.",
    .options = BULK_OPTIONS,
    .run = run_bulk,
};

const struct cli_command *const BULK_COMMANDS[] = {&COMMAND_BULK, NULL};
