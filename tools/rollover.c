#include "tools/rollover.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "tools/announce.h"
#include "tools/daemon.h"

enum { RELOAD_TIMEOUT_S = 120, NAME_TRIES = 1000 };

/* --- as it is --- */

static int read_old(struct cli *cli, struct rollover *out)
{
    char *path = config_path(cli->config, out->ca->certificate);
    int status = certs_read(path, &out->old);
    free(path);
    if (status == CLI_DONE && out->old.count != 1)
        status = cli_fail("ca %s: %s has %u certificates: it should have the CA's alone",
                          out->ca->name, out->ca->certificate, out->old.count);
    for (uint32_t i = 0; i < out->ca->chain_count && status == CLI_DONE; i++) {
        path = config_path(cli->config, out->ca->chain[i]);
        status = certs_read(path, &out->old);
        free(path);
    }
    if (status != CLI_DONE || x509_decode(out->old.der[0], &out->old_cert) != ERR_OK)
        return CLI_FAILED;
    char when[OUT_TIME_MAX];
    if (out->old_cert.not_after_s <= clock_wall_s())
        return cli_fail(
            "ca %s: its certificate expired on %s, so that nothing can lead from the old "
            "key to a new one: make a new CA with `certmill ca init`",
            out->ca->name, out_time(out->old_cert.not_after_s, when));
    if (out->ca->previous_count == CA_PREVIOUS_MAX)
        return cli_fail(
            "ca %s: the configuration names %d earlier certificates, and there is no room "
            "for one more: take the last of previous out, whose devices have renewed",
            out->ca->name, CA_PREVIOUS_MAX);
    return CLI_DONE;
}

static int find_old_key(struct cli *cli, struct rollover *out)
{
    struct key_wish wish;
    int status = key_wish_of_ca(cli->config, out->ca, &wish);
    if (status == CLI_DONE)
        status = access_open(cli, out->token, true, &out->access);
    if (status == CLI_DONE)
        status = key_find(cli, &out->access, &wish, &out->old_key);
    if (status == CLI_DONE &&
        !bytes_eq(out->old_cert.spki.der, bytes_of(out->old_key.spki_der, out->old_key.spki_len)))
        status =
            cli_fail("ca %s: %s certifies another key than %s: correct the configuration before "
                     "a rollover",
                     out->ca->name, out->ca->certificate, out->ca->key);
    return status;
}

int rollover_open(struct cli *cli, const char *ca_name, struct rollover *out)
{
    out->ca = cli_config_ca(cli, ca_name);
    out->token = out->ca ? cli_token_of_ca(cli, out->ca) : NULL;
    if (!out->token)
        return CLI_FAILED;
    uint32_t tokens = out->ca->tokens_count ? out->ca->tokens_count : cli->config->tokens_count;
    if (tokens > 1)
        cli_warn("ca %s has %u tokens: the new key is in %s alone until you bring it to the others "
                 "with their vendor's tool",
                 ca_name, tokens, out->token->name);
    int status = read_old(cli, out);
    return status == CLI_DONE ? find_old_key(cli, out) : status;
}

void rollover_clear(struct rollover *rollover)
{
    access_close(&rollover->access);
    free(rollover->certificate);
    free(rollover->old_with_new_file);
    free(rollover->new_with_old_file);
    free(rollover->chain_file);
}

/* --- names of files --- */

static bool names_file(const struct config_ca *ca, const char *name)
{
    bool found = strcmp(ca->certificate, name) == 0 ||
                 (ca->old_with_new && strcmp(ca->old_with_new, name) == 0) ||
                 (ca->new_with_old && strcmp(ca->new_with_old, name) == 0);
    for (uint32_t i = 0; i < ca->chain_count; i++)
        found |= strcmp(ca->chain[i], name) == 0;
    for (uint32_t i = 0; i < ca->previous_count; i++)
        found |= strcmp(ca->previous[i], name) == 0;
    return found;
}

static bool is_used(const struct config *config, const char *name)
{
    bool found = false;
    for (uint32_t i = 0; i < config->cas_count; i++)
        found |= names_file(&config->cas[i], name);
    return found;
}

/* "ca/issuing" of "ca/issuing-2.pem", and 2; 1 when it has no number. */
static size_t stem_of(const char *path, unsigned long *out_number)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    size_t len = dot && (!slash || dot > slash + 1) ? (size_t)(dot - path) : strlen(path);
    size_t digits = len;
    *out_number = 1;
    while (digits > 0 && path[digits - 1] >= '0' && path[digits - 1] <= '9')
        digits--;
    if (digits == len || digits < 2 || path[digits - 1] != '-' || len - digits > 6)
        return len;
    *out_number = strtoul(path + digits, NULL, 10);
    return digits - 1;
}

static char *numbered(const char *path, size_t stem, unsigned long number, const char *what)
{
    char *out = NULL;
    if (asprintf(&out, "%.*s-%lu%s.pem", (int)stem, path, number, what) < 0)
        abort();
    return out;
}

/* The next number that no CA of the configuration uses. Files that a run left behind which was
 * interrupted are written again. */
static int name_files(const struct config *config, struct rollover *r)
{
    const char *old = r->ca->certificate;
    unsigned long number;
    size_t stem = stem_of(old, &number);
    for (int i = 0; i < NAME_TRIES; i++) {
        free(r->certificate);
        r->certificate = numbered(old, stem, ++number, "");
        if (!is_used(config, r->certificate))
            break;
    }
    r->old_with_new_file = numbered(old, stem, number, "-old-with-new");
    r->new_with_old_file = numbered(old, stem, number, "-new-with-old");
    r->chain_file = numbered(old, stem, number, "-chain");
    if (is_used(config, r->certificate) || is_used(config, r->old_with_new_file) ||
        is_used(config, r->new_with_old_file) || is_used(config, r->chain_file))
        return cli_fail("ca %s: %s is in use by the configuration: rename its files", r->ca->name,
                        r->certificate);
    return CLI_DONE;
}

/* --- the configuration --- */

static void add_edit(struct rollover *r, struct config_edit edit)
{
    r->edits[r->edit_count++] = edit;
}

static void plan_edits(struct rollover *r)
{
    const struct config_ca *ca = r->ca;
    uint32_t previous = 0, chain = 0;
    r->previous[previous++] = ca->certificate;
    for (uint32_t i = 0; i < ca->previous_count; i++)
        r->previous[previous++] = ca->previous[i];
    for (uint32_t i = 0; i < ca->chain_count; i++)
        r->chain[chain++] = ca->chain[i];
    if (r->chain_more.count > 0)
        r->chain[chain++] = r->chain_file;
    r->edit_count = 0;
    add_edit(r, (struct config_edit){.key = "key", .text = r->new_uri});
    add_edit(r, (struct config_edit){.key = "certificate", .text = r->certificate});
    if (r->chain_more.count > 0)
        add_edit(r, (struct config_edit){.key = "chain", .list = r->chain, .list_count = chain});
    add_edit(r,
             (struct config_edit){.key = "previous", .list = r->previous, .list_count = previous});
    /* the links of an earlier rollover lead to a key that the CA has no more */
    add_edit(r, (struct config_edit){.key = "old_with_new",
                                     .text = r->linked ? r->old_with_new_file : NULL});
    add_edit(r, (struct config_edit){.key = "new_with_old",
                                     .text = r->linked ? r->new_with_old_file : NULL});
}

int rollover_plan(struct cli *cli, struct rollover *rollover, struct bytes subject)
{
    rollover->linked = bytes_eq(subject, rollover->old_cert.subject);
    int status = name_files(cli->config, rollover);
    if (status == CLI_DONE)
        plan_edits(rollover);
    return status;
}

/* For who has to do it by hand. */
static void print_edits(FILE *out, const struct rollover *r)
{
    for (uint32_t i = 0; i < r->edit_count; i++) {
        char text[4096];
        struct writer line = writer_of(text, sizeof(text) - 1);
        config_edit_put(&line, &r->edits[i]);
        text[line.len] = 0;
        if (line.len > 0)
            fprintf(out, "    %s\n", text);
        else
            fprintf(out, "    (no %s)\n", r->edits[i].key);
    }
}

/* Would certmilld load it? Read from a file beside the real one, since paths start there. */
static int check_text(const struct config *config, const char *text)
{
    char error[CONFIG_ERROR_MAX], *beside = NULL;
    struct config *loaded = NULL;
    if (asprintf(&beside, "%s.check.%d", config->path, (int)getpid()) < 0)
        abort();
    int status = file_write_like(beside, config->path, bytes_of_str(text));
    if (status == CLI_DONE && config_load(beside, &loaded, error) != ERR_OK)
        status =
            cli_fail("the changed configuration would not load: %s: this is a bug in certmill: "
                     "report it",
                     error);
    config_free(loaded);
    unlink(beside);
    free(beside);
    return status;
}

/* *out_before is the text as it was, the caller's to free. */
static int switch_config(const struct config *config, const struct rollover *r, char **out_before)
{
    char error[CONFIG_ERROR_MAX], *after = NULL;
    size_t len = 0;
    *out_before = file_read(config->path, &len);
    if (!*out_before)
        return CLI_FAILED;
    enum err err = config_edit_ca(bytes_of(*out_before, len), r->ca->name, r->edits, r->edit_count,
                                  &after, error);
    if (err != ERR_OK) {
        int status =
            cli_fail("%s: %s: everything else is done; change ca %s to what follows, then "
                     "send SIGHUP to certmilld",
                     config->path, err == ERR_CONFIG ? error : err_sentence(err), r->ca->name);
        print_edits(stdout, r);
        return status;
    }
    int status = check_text(config, after);
    if (status == CLI_DONE)
        status = file_write_like(config->path, config->path, bytes_of_str(after));
    free(after);
    return status;
}

/* --- the daemon --- */

static int put_back(const struct config *config, const char *before, const char *error)
{
    int status = file_write_like(config->path, config->path, bytes_of_str(before));
    if (status != CLI_DONE)
        return status;
    return cli_fail("certmilld refused the change: %s: %s is as it was, what was refused is in "
                    "%s.old; mend the cause, then run this again",
                    error, config->path, config->path);
}

/* *out_said: for the report. */
static int tell_daemon(struct cli *cli, const char *before, const char **out_said)
{
    char *socket_path = config_path(cli->config, cli->config->admin.socket), *body = NULL;
    uint32_t http_status = 0; /* the answer says it, too */
    int status = CLI_DONE;
    if (cli_has(cli, "no-reload")) {
        *out_said = "not-asked";
    } else if (!daemon_runs(socket_path)) {
        *out_said = "not-running";
    } else if (daemon_ask(socket_path, "POST /reload", RELOAD_TIMEOUT_S, &http_status, &body) !=
               DAEMON_ANSWERED) {
        cli_fail("the configuration is switched, but certmilld was not told: send it SIGHUP, and "
                 "look into its log");
        status = CLI_FAILED;
    } else {
        json_t *answer = json_loads(body, 0, NULL);
        const char *error = json_string_value(json_object_get(answer, "error"));
        *out_said = "reloaded";
        if (!json_is_true(json_object_get(answer, "reloaded")))
            status = put_back(cli->config, before, error ? error : "it gave no reason");
        json_decref(answer);
    }
    free(body);
    free(socket_path);
    return status;
}

/* --- the report --- */

/* Where a file is that the configuration names. */
static const char *place(const struct cli *cli, const char *name)
{
    return name[0] == '/' ? name : cell("%s/%s", cli->config->dir, name);
}

static json_t *link_json(const struct cli *cli, const struct rollover *r,
                         const struct ca_cert *cert, const char *file)
{
    return r->linked ? ca_cert_json(&cert->view, place(cli, file)) : json_null();
}

/* By the configuration as it is now. That somebody was not told changes nothing. */
static json_t *announce(struct cli *cli, const struct rollover *r)
{
    char error[CONFIG_ERROR_MAX];
    struct config *config = NULL;
    json_t *announced = NULL;
    if (config_load(cli->config->path, &config, error) != ERR_OK)
        return json_array();
    if (announce_rollover(cli, config, r->ca->name, &announced) != CLI_DONE)
        cli_warn("not every listener was told of the new key: `certmill ca announce --ca %s` tells "
                 "them again",
                 r->ca->name);
    config_free(config);
    return announced;
}

static void report(const struct cli *cli, const struct rollover *r, bool key_made, const char *how,
                   const char *daemon, json_t *announced)
{
    if (cli->json) {
        json_t *object = json_object();
        json_put_str(object, "ca", r->ca->name);
        json_put_bool(object, "dry_run", false);
        json_put(object, "certificate", ca_cert_json(&r->cert.view, place(cli, r->certificate)));
        json_put_str(object, "signed_by", how);
        json_put(object, "key", key_json(&r->access, &r->new_key));
        json_put_bool(object, "key_made", key_made);
        json_put_str(object, "previous", place(cli, r->ca->certificate));
        json_put(object, "old_with_new", link_json(cli, r, &r->old_with_new, r->old_with_new_file));
        json_put(object, "new_with_old", link_json(cli, r, &r->new_with_old, r->new_with_old_file));
        json_put_str(object, "configuration", cli->config->path);
        json_put_str(object, "daemon", daemon);
        json_put(object, "announced", announced);
        out_json(object);
        return;
    }
    ca_cert_print("new certificate", &r->cert.view, place(cli, r->certificate));
    printf("  signed by    %s\n", how);
    printf("  token        %s, key %s (%s)\n", r->token->name, r->new_key.label,
           key_made ? "new" : "as it was");
    if (r->linked) {
        ca_cert_print("old with new", &r->old_with_new.view, place(cli, r->old_with_new_file));
        ca_cert_print("new with old", &r->new_with_old.view, place(cli, r->new_with_old_file));
    } else {
        puts("no link certificates: they link keys of one name (RFC 9810 4.4)");
    }
    printf("configuration  %s, as it was in %s.old\n", cli->config->path, cli->config->path);
    printf("certmilld      %s\n", strcmp(daemon, "reloaded") == 0 ? "signs with the new key now"
                                  : strcmp(daemon, "not-running") == 0
                                      ? "does not run; it starts with the new key"
                                      : "was not told: send it SIGHUP");
    announce_print(announced);
    json_decref(announced);
}

void rollover_preview(const struct cli *cli, const struct rollover *r, bool key_there,
                      const char *label, const char *how)
{
    if (cli->json) {
        json_t *object = json_object();
        json_put_str(object, "ca", r->ca->name);
        json_put_bool(object, "dry_run", true);
        json_put_str(object, "key_label", label);
        json_put_bool(object, "key_made", !key_there);
        json_put_str(object, "signed_by", how);
        json_put_str(object, "certificate", r->certificate);
        json_put_str(object, "previous", r->ca->certificate);
        json_put_str(object, "old_with_new", r->linked ? r->old_with_new_file : NULL);
        json_put_str(object, "new_with_old", r->linked ? r->new_with_old_file : NULL);
        out_json(object);
        return;
    }
    printf("nothing is changed; without --dry-run, ca %s\n", r->ca->name);
    printf("  %s key %s in token %s\n", key_there ? "takes" : "gets the new", label,
           r->token->name);
    printf("  gets a new certificate, signed by %s\n", how);
    printf("  has %s link certificates\n", r->linked ? "two" : "no");
    printf("  has these entries in %s:\n", cli->config->path);
    print_edits(stdout, r);
}

/* --- all --- */

/* RFC 9810 4.4.1: old with new is valid as old with old is; new with old from when the new key
 * is, and no longer than old with old. */
static int make_links(struct cli *cli, struct rollover *r)
{
    const struct x509_cert *old = &r->old_cert, *new = &r->cert.view;
    struct ca_cert_wish wish = {
        .subject = old->subject,
        .key = &r->old_key,
        .issuer = new,
        .signer = &r->access,
        .signer_key = &r->new_key,
        .not_before_s = old->not_before_s,
        .not_after_s = old->not_after_s,
        .path_len = old->path_len == UINT32_MAX ? -1 : (int32_t)old->path_len,
    };
    int status = ca_cert_make(cli, &wish, &r->old_with_new);
    wish = (struct ca_cert_wish){
        .subject = new->subject,
        .key = &r->new_key,
        .issuer = old,
        .signer = &r->access,
        .signer_key = &r->old_key,
        .not_before_s = new->not_before_s,
        .not_after_s = old->not_after_s < new->not_after_s ? old->not_after_s : new->not_after_s,
        .path_len = new->path_len == UINT32_MAX ? -1 : (int32_t) new->path_len,
    };
    return status == CLI_DONE ? ca_cert_make(cli, &wish, &r->new_with_old) : status;
}

static int write_one(const struct config *config, const struct rollover *r, const char *name,
                     const struct bytes der[], uint32_t count)
{
    char *path = config_path(config, name), *like = config_path(config, r->ca->certificate);
    int status = ca_file_write(path, like, der, count);
    free(path);
    free(like);
    return status;
}

static int write_files(const struct config *config, const struct rollover *r)
{
    int status = write_one(config, r, r->certificate, &r->cert.view.der, 1);
    if (status == CLI_DONE && r->linked)
        status = write_one(config, r, r->old_with_new_file, &r->old_with_new.view.der, 1);
    if (status == CLI_DONE && r->linked)
        status = write_one(config, r, r->new_with_old_file, &r->new_with_old.view.der, 1);
    if (status == CLI_DONE && r->chain_more.count > 0)
        status = write_one(config, r, r->chain_file, r->chain_more.der, r->chain_more.count);
    return status;
}

int rollover_finish(struct cli *cli, struct rollover *r, bool key_made, const char *how)
{
    char *before = NULL;
    const char *said = "";
    int status = ca_prove_key(cli, &r->access, &r->new_key, &r->cert.view);
    if (status == CLI_DONE && r->linked)
        status = make_links(cli, r);
    if (status == CLI_DONE)
        status = write_files(cli->config, r);
    if (status == CLI_DONE)
        status = switch_config(cli->config, r, &before);
    if (status == CLI_DONE)
        status = tell_daemon(cli, before, &said);
    if (status == CLI_DONE)
        report(cli, r, key_made, how, said, announce(cli, r));
    free(before);
    return status;
}
