#include "tools/announce.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/secret.h"
#include "crypto/digest.h"
#include "crypto/softkey.h"
#include "proto/cmp_msg.h"
#include "tools/ca.h"
#include "tools/http_client.h"

enum {
    MESSAGE_MAX = (4 + CERT_CHAIN_MAX) * CERT_DER_MAX,
    STEP_MS = 100,
    HTTP_CREATED = 201,
    HTTP_ACCEPTED = 202,
};

struct signer {
    const struct config_cmp_signer *config;
    struct cert_list chain;
    struct x509_cert cert;
    enum sig_alg alg;
};

/* --- who signs --- */

static const struct config_cmp_signer *signer_of_ca(const struct config *config,
                                                    const char *ca_name)
{
    for (uint32_t i = 0; i < config->lines_count; i++) {
        const struct config_line *line = &config->lines[i];
        if (strcmp(line->ca, ca_name) != 0 || !line->cmp || !line->cmp->signer)
            continue;
        for (uint32_t k = 0; k < config->cmp_signers_count; k++)
            if (strcmp(config->cmp_signers[k].name, line->cmp->signer) == 0)
                return &config->cmp_signers[k];
    }
    return NULL;
}

static int add_file(const struct config *config, const char *name, struct cert_list *list)
{
    char *path = config_path(config, name);
    int status = certs_read(path, list);
    free(path);
    return status;
}

static int read_signer(const struct config *config, const char *ca_name, struct signer *out)
{
    out->config = signer_of_ca(config, ca_name);
    if (!out->config)
        return cli_fail("ca %s: cmp_announce needs a signer: no line of this CA has cmp with one",
                        ca_name);
    int status = add_file(config, out->config->certificate, &out->chain);
    for (uint32_t i = 0; i < out->config->chain_count && status == CLI_DONE; i++)
        status = add_file(config, out->config->chain[i], &out->chain);
    if (status != CLI_DONE)
        return status;
    enum err err = x509_decode(out->chain.der[0], &out->cert);
    out->alg = err == ERR_OK ? sig_alg_default(out->cert.spki.alg) : SIG_NONE;
    return out->alg != SIG_NONE
               ? CLI_DONE
               : cli_fail("cmp_signer %s: its key is of a kind that is not supported",
                          out->config->name);
}

static int sign_by_file(const struct config *config, const struct signer *signer,
                        struct bytes part, uint8_t out[SIGNATURE_MAX], size_t *out_len)
{
    struct softkey *key = NULL;
    char *path = config_path(config, signer->config->key_file);
    int status = key_read(path, &key);
    if (status == CLI_DONE &&
        softkey_sign(key, signer->alg, part, false, out, SIGNATURE_MAX, out_len) != ERR_OK)
        status = cli_fail("%s: this key cannot sign for cmp_signer %s", path, signer->config->name);
    softkey_free(key);
    free(path);
    return status;
}

static const struct config_token *token_of(const struct config *config,
                                           const struct config_cmp_signer *signer)
{
    for (uint32_t i = 0; i < config->tokens_count; i++)
        if (signer->tokens_count == 0 || strcmp(config->tokens[i].name, signer->tokens[0]) == 0)
            return &config->tokens[i];
    return NULL;
}

/* What ca_sign makes is a sequence of what was signed, algorithm and signature. */
static bool signature_of(struct bytes signed_der, uint8_t out[SIGNATURE_MAX], size_t *out_len)
{
    struct bytes content, part, alg, bits;
    if (!der_get(&signed_der, DER_SEQUENCE, &content) ||
        !der_get_element(&content, DER_SEQUENCE, &part) ||
        !der_get_element(&content, DER_SEQUENCE, &alg) ||
        !der_get_bits(&content, &bits) || bits.len > SIGNATURE_MAX)
        return false;
    memcpy(out, bits.ptr, bits.len);
    *out_len = bits.len;
    return true;
}

static int sign_by_token(struct cli *cli, const struct config *config, const struct signer *signer,
                         struct bytes part, uint8_t out[SIGNATURE_MAX], size_t *out_len)
{
    ACCESS access = {0};
    struct p11_key key;
    bool there = false;
    size_t cap = part.len + SIGNATURE_MAX + 64, len = 0;
    const struct config_token *token = token_of(config, signer->config);
    uint8_t *made = malloc(cap);
    int status = made && token ? access_open(cli, token, false, &access)
                               : cli_fail("cmp_signer %s: out of memory", signer->config->name);
    if (status == CLI_DONE)
        status = key_find_spki(cli, &access, signer->cert.spki.der, false, &key, &there);
    if (status == CLI_DONE && !there)
        status = cli_fail("cmp_signer %s: token %s has no key of its certificate",
                          signer->config->name, token->name);
    if (status == CLI_DONE)
        status = ca_sign(cli, &access, &key, part, made, cap, &len);
    if (status == CLI_DONE && !signature_of(bytes_of(made, len), out, out_len))
        status = cli_fail("cmp_signer %s: its signature has an unknown form", signer->config->name);
    free(made);
    return status;
}

/* --- the message --- */

static void put_link(struct der_builder *out, unsigned number, const struct cert_list *list)
{
    if (list->count == 0)
        return;
    der_open(out, DER_CONTEXT_CONSTRUCTED(number));
    der_put_raw(out, list->der[0]);
    der_close(out);
}

struct news {
    struct cert_list new_with_new, new_with_old, old_with_new;
};

static int read_news(const struct config *config, const struct config_ca *ca, struct news *out)
{
    int status = add_file(config, ca->certificate, &out->new_with_new);
    if (status == CLI_DONE && ca->new_with_old)
        status = add_file(config, ca->new_with_old, &out->new_with_old);
    if (status == CLI_DONE && ca->old_with_new)
        status = add_file(config, ca->old_with_new, &out->old_with_new);
    return status;
}

/* CAKeyUpdContent with cAKeyUpdAnnV3 [0], which wants pvno 3 (RFC 9810 5.3.13). */
static void put_body(struct der_builder *out, const struct news *news)
{
    cmp_body_open(out, CMP_CKUANN);
    der_open(out, DER_CONTEXT_CONSTRUCTED(0));
    der_open(out, DER_SEQUENCE);
    der_put_raw(out, news->new_with_new.der[0]);
    put_link(out, 0, &news->new_with_old);
    put_link(out, 1, &news->old_with_new);
    der_close(out);
    der_close(out);
    der_close(out);
}

/* ProtectedPart: a whole SEQUENCE. */
static bool build_part(const struct signer *signer, const struct news *news, uint8_t *out,
                       size_t cap, struct bytes *out_part)
{
    static const uint8_t anybody[] = {0xa4, 0x02, 0x30, 0x00};
    uint8_t id[CMP_NONCE_LEN], nonce[CMP_NONCE_LEN], name[NAME_DER_MAX + 8];
    struct cmp_header header = {
        .pvno = 3,
        .recipient = BYTES_ARRAY(anybody),
        .protection_alg = sig_alg_der(signer->alg),
        .sender_kid = signer->cert.ski,
        .transaction_id = BYTES_ARRAY(id),
        .sender_nonce = BYTES_ARRAY(nonce),
        .message_time_s = clock_wall_s(),
        .has_message_time = true,
    };
    struct der_builder sender = der_builder_of(name, sizeof(name));
    der_open(&sender, DER_CONTEXT_CONSTRUCTED(4));
    der_put_raw(&sender, signer->cert.subject);
    der_close(&sender);
    random_bytes(id, sizeof(id));
    random_bytes(nonce, sizeof(nonce));
    struct der_builder builder = der_builder_of(out, cap);
    if (!der_finish(&sender, &header.sender))
        return false;
    der_open(&builder, DER_SEQUENCE);
    cmp_header_put(&builder, &header);
    put_body(&builder, news);
    der_close(&builder);
    return der_finish(&builder, out_part);
}

static int build_message(struct cli *cli, const struct config *config, const struct config_ca *ca,
                         uint8_t *out, struct bytes *out_message)
{
    static struct signer signer;
    static struct news news;
    static uint8_t part_mem[MESSAGE_MAX];
    signer = (struct signer){0};
    news = (struct news){0};
    struct bytes part, inside;
    uint8_t signature[SIGNATURE_MAX];
    size_t len = 0;
    int status = read_signer(config, ca->name, &signer);
    if (status == CLI_DONE)
        status = read_news(config, ca, &news);
    if (status == CLI_DONE && !build_part(&signer, &news, part_mem, sizeof(part_mem), &part))
        status = cli_fail("ca %s: its news do not fit a message of %d bytes", ca->name,
                          MESSAGE_MAX);
    if (status == CLI_DONE)
        status = signer.config->key_file
                     ? sign_by_file(config, &signer, part, signature, &len)
                     : sign_by_token(cli, config, &signer, part, signature, &len);
    if (status != CLI_DONE)
        return status;
    struct der_builder builder = der_builder_of(out, MESSAGE_MAX);
    if (!der_get(&part, DER_SEQUENCE, &inside))
        return CLI_FAILED;
    cmp_msg_put(&builder, inside, bytes_of(signature, len), signer.chain.der, signer.chain.count);
    return der_finish(&builder, out_message)
               ? CLI_DONE
               : cli_fail("ca %s: its news do not fit a message of %d bytes", ca->name,
                          MESSAGE_MAX);
}

/* --- telling --- */

struct listener {
    const char *url;
    struct http_target target;
    struct http_conn conn;
    char request[2048 + MESSAGE_MAX];
    bool known;
};

static void start(struct cli *cli, struct listener *listener, struct bytes message)
{
    listener->known = http_target_set(cli, listener->url, NULL, &listener->target) == CLI_DONE;
    http_conn_init(&listener->conn, &listener->target);
    if (!listener->known)
        return;
    struct writer out = writer_of(listener->request, sizeof(listener->request));
    http_put_post(&out, &listener->target, "application/pkixcmp", message.len);
    writer_put(&out, message);
    http_send(&listener->conn, writer_view(&out));
    listener->conn.deadline_ns = clock_mono_ns() + ANNOUNCE_DEADLINE_S * NS_PER_S;
}

static void wait_for_all(struct listener listeners[], uint32_t count)
{
    bool busy = true;
    while (busy) {
        struct pollfd fds[CMP_ANNOUNCE_MAX];
        busy = false;
        for (uint32_t i = 0; i < count; i++) {
            if (listeners[i].conn.state == HTTP_BUSY)
                busy |= http_step(&listeners[i].conn) == HTTP_BUSY;
            fds[i] = http_pollfd(&listeners[i].conn);
        }
        if (busy)
            poll(fds, count, STEP_MS);
    }
}

static bool took_it(const struct listener *listener)
{
    const struct http_conn *conn = &listener->conn;
    return listener->known && conn->state == HTTP_ANSWERED &&
           (conn->status == HTTP_CREATED || conn->status == HTTP_ACCEPTED);
}

static json_t *result_of(const struct listener *listener)
{
    const struct http_conn *conn = &listener->conn;
    json_t *object = json_object();
    bool answered = listener->known && conn->state == HTTP_ANSWERED;
    json_put_str(object, "url", listener->url);
    json_put_bool(object, "accepted", took_it(listener));
    json_put(object, "status", answered ? json_integer(conn->status) : json_null());
    json_put_str(object, "problem",
                 took_it(listener) ? NULL
                 : !listener->known ? "its host is not known"
                 : answered         ? "expected 201 or 202"
                                    : conn->problem);
    return object;
}

static int tell_all(struct cli *cli, const struct config *config, struct bytes message,
                    json_t *report)
{
    uint32_t count = config->cmp_announce_count, taken = 0;
    struct listener *listeners = calloc(count, sizeof(*listeners));
    if (!listeners)
        return cli_fail("out of memory");
    for (uint32_t i = 0; i < count; i++) {
        listeners[i].url = config->cmp_announce[i];
        start(cli, &listeners[i], message);
    }
    wait_for_all(listeners, count);
    for (uint32_t i = 0; i < count; i++) {
        taken += took_it(&listeners[i]);
        json_array_append_new(report, result_of(&listeners[i]));
        http_conn_free(&listeners[i].conn);
        http_target_clear(&listeners[i].target);
    }
    free(listeners);
    return taken == count ? CLI_DONE : CLI_FAILED;
}

int announce_rollover(struct cli *cli, const struct config *config, const char *ca_name,
                      json_t **out_report)
{
    static uint8_t message_mem[MESSAGE_MAX];
    struct bytes message;
    const struct config_ca *ca = NULL;
    *out_report = json_array();
    for (uint32_t i = 0; i < config->cas_count; i++)
        ca = strcmp(config->cas[i].name, ca_name) == 0 ? &config->cas[i] : ca;
    if (!ca || config->cmp_announce_count == 0)
        return CLI_DONE;
    int status = build_message(cli, config, ca, message_mem, &message);
    return status == CLI_DONE ? tell_all(cli, config, message, *out_report) : status;
}

void announce_print(const json_t *report)
{
    size_t index;
    const json_t *result;
    json_array_foreach(report, index, result)
    {
        const char *problem = json_string_value(json_object_get(result, "problem"));
        const json_t *status = json_object_get(result, "status");
        printf("announced      %s: %s%s%s\n", json_string_value(json_object_get(result, "url")),
               json_is_integer(status) ? cell("%d", (int)json_integer_value(status)) : "no answer",
               problem ? ", " : "", problem ? problem : "");
    }
}
