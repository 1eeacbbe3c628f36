/* cmp_dump: what our decoders see in CMP messages, as JSON.
 *
 * Usage: cmp_dump FILE...     one object for each file, in an array
 * Octets are hex. A message that is refused has "err" alone.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "asn1/csr.h"
#include "proto/cmp_msg.h"

enum { LIST_MAX = 64, FILE_MAX = 1 << 20 };

static json_t *hex(struct bytes data)
{
    char *text = malloc(2 * data.len + 1);

    if (text == NULL)
        abort();
    bytes_to_hex(data, text);
    json_t *json = json_string(text);
    free(text);
    return json;
}

static void set(json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0)
        abort();
}

/* Left out when there is none. */
static void set_hex(json_t *object, const char *key, struct bytes data)
{
    if (data.len > 0)
        set(object, key, hex(data));
}

static void set_header(json_t *out, const struct cmp_header *header)
{
    set(out, "pvno", json_integer((json_int_t)header->pvno));
    set_hex(out, "sender", header->sender);
    set_hex(out, "sender_name", header->sender_name);
    set_hex(out, "recipient", header->recipient);
    set_hex(out, "protection_alg", header->protection_alg);
    set_hex(out, "sender_kid", header->sender_kid);
    set_hex(out, "recip_kid", header->recip_kid);
    set_hex(out, "transaction_id", header->transaction_id);
    set_hex(out, "sender_nonce", header->sender_nonce);
    set_hex(out, "recip_nonce", header->recip_nonce);
    set_hex(out, "free_text", header->free_text);
    set_hex(out, "cert_profile", header->cert_profile);
    if (header->has_message_time)
        set(out, "message_time", json_integer(header->message_time_s));
    if (header->has_confirm_wait)
        set(out, "confirm_wait", json_integer(header->confirm_wait_s));
    if (header->implicit_confirm)
        set(out, "implicit_confirm", json_true());
}

static void set_status(json_t *out, const struct cmp_status_info *status)
{
    set(out, "status", json_integer((json_int_t)status->status));
    set_hex(out, "text", status->text);
    if (status->fail != 0)
        set(out, "fail", json_integer(status->fail));
}

static void set_cert_id(json_t *out, const struct cert_id *id)
{
    set_hex(out, "issuer", id->issuer);
    set_hex(out, "serial", id->serial);
}

static void set_request(json_t *out, const struct cert_request *request)
{
    json_t *extensions = json_array();

    set_hex(out, "subject", request->subject);
    set_hex(out, "spki", request->spki.der);
    for (uint32_t i = 0; i < request->extensions.count; i++)
        json_array_append_new(extensions, hex(request->extensions.item[i].der));
    set(out, "extensions", extensions);
    set_hex(out, "san", request->san);
    set(out, "pop", json_integer(request->pop));
    set_hex(out, "pop_message", request->pop_message);
    set_hex(out, "pop_signature", request->pop_signature);
    if (request->pop == POP_SIGNATURE)
        set_hex(out, "pop_alg", sig_alg_der(request->pop_alg));
}

static json_t *crmf_json(const struct crmf_request *request)
{
    json_t *out = json_object();

    set(out, "cert_req_id", json_integer(request->cert_req_id));
    if (request->err != ERR_OK) {
        set(out, "err", json_string(err_code(request->err)));
        return out;
    }
    set_request(out, &request->request);
    if (!request->has_subject)
        json_object_del(out, "subject");
    set_hex(out, "key_alg", request->key_alg);
    set_hex(out, "issuer", request->issuer);
    if (request->has_not_before)
        set(out, "not_before", json_integer(request->not_before_s));
    if (request->has_not_after)
        set(out, "not_after", json_integer(request->not_after_s));
    if (request->old_cert_id.issuer.len > 0) {
        json_t *id = json_object();
        set_cert_id(id, &request->old_cert_id);
        set(out, "old_cert_id", id);
    }
    set_hex(out, "reg_token", request->reg_token);
    set_hex(out, "authenticator", request->authenticator);
    set_hex(out, "protocol_encr_key", request->protocol_encr_key);
    set_hex(out, "pop_sender", request->pop_sender);
    set_hex(out, "pop_mac", request->pop_mac);
    set_hex(out, "cert_req", request->cert_req_der);
    if (request->request.pop == POP_KEY_ENCIPHERMENT)
        set(out, "pop_key", json_integer(request->pop_key));
    return out;
}

static enum err requests_dump(struct bytes content, json_t *list)
{
    static struct crmf_request requests[LIST_MAX];
    static uint8_t room[FILE_MAX];
    struct writer scratch = writer_of(room, content.len);
    uint32_t count;
    enum err err = cmp_cert_reqs_decode(content, &scratch, requests, LIST_MAX, &count);

    for (uint32_t i = 0; err == ERR_OK && i < count; i++)
        json_array_append_new(list, crmf_json(&requests[i]));
    return err;
}

static enum err csr_dump(struct bytes content, json_t *list)
{
    static struct cert_request request;
    enum err err = csr_decode(content, &request);

    if (err == ERR_OK) {
        json_t *out = json_object();
        set_request(out, &request);
        json_array_append_new(list, out);
    }
    return err;
}

static enum err responses_dump(struct bytes content, json_t *list)
{
    static struct cmp_cert_response responses[LIST_MAX];
    struct bytes ca_pubs;
    uint32_t count;
    enum err err = cmp_cert_rep_decode(content, responses, LIST_MAX, &count, &ca_pubs);

    for (uint32_t i = 0; err == ERR_OK && i < count; i++) {
        json_t *out = json_object();
        set(out, "cert_req_id", json_integer(responses[i].cert_req_id));
        set_status(out, &responses[i].status);
        set_hex(out, "cert", responses[i].cert);
        set_hex(out, "encrypted_cert", responses[i].encrypted_cert);
        set_hex(out, "private_key", responses[i].private_key);
        set_hex(out, "ca_pubs", ca_pubs);
        json_array_append_new(list, out);
    }
    return err;
}

static enum err revocations_dump(struct bytes content, json_t *list)
{
    struct cmp_revocation all[LIST_MAX];
    uint32_t count;
    enum err err = cmp_rev_req_decode(content, all, LIST_MAX, &count);

    for (uint32_t i = 0; err == ERR_OK && i < count; i++) {
        json_t *out = json_object();
        set_cert_id(out, &all[i].cert);
        if (all[i].has_reason)
            set(out, "reason", json_integer(all[i].reason));
        json_array_append_new(list, out);
    }
    return err;
}

static enum err statuses_dump(struct bytes content, json_t *list)
{
    struct cmp_status_info all[LIST_MAX];
    uint32_t count;
    enum err err = cmp_rev_rep_decode(content, all, LIST_MAX, &count);

    for (uint32_t i = 0; err == ERR_OK && i < count; i++) {
        json_t *out = json_object();
        set_status(out, &all[i]);
        json_array_append_new(list, out);
    }
    return err;
}

static enum err infos_dump(struct bytes content, json_t *list)
{
    struct cmp_info all[LIST_MAX];
    uint32_t count;
    enum err err = cmp_infos_decode(content, all, LIST_MAX, &count);

    for (uint32_t i = 0; err == ERR_OK && i < count; i++) {
        json_t *out = json_object();
        set_hex(out, "oid", all[i].oid);
        set_hex(out, "value", all[i].value);
        json_array_append_new(list, out);
    }
    return err;
}

static enum err cert_conf_dump(struct bytes content, json_t *list)
{
    struct cmp_cert_status all[LIST_MAX];
    uint32_t count;
    enum err err = cmp_cert_conf_decode(content, all, LIST_MAX, &count);

    for (uint32_t i = 0; err == ERR_OK && i < count; i++) {
        json_t *out = json_object();
        set_hex(out, "cert_hash", all[i].cert_hash);
        set(out, "cert_req_id", json_integer(all[i].cert_req_id));
        if (all[i].has_status)
            set_status(out, &all[i].status);
        set_hex(out, "hash_alg", all[i].hash_alg);
        json_array_append_new(list, out);
    }
    return err;
}

static enum err poll_req_dump(struct bytes content, json_t *list)
{
    int64_t ids[LIST_MAX];
    uint32_t count;
    enum err err = cmp_poll_req_decode(content, ids, LIST_MAX, &count);

    for (uint32_t i = 0; err == ERR_OK && i < count; i++)
        json_array_append_new(list, json_integer(ids[i]));
    return err;
}

static enum err poll_rep_dump(struct bytes content, json_t *list)
{
    struct cmp_poll all[LIST_MAX];
    uint32_t count;
    enum err err = cmp_poll_rep_decode(content, all, LIST_MAX, &count);

    for (uint32_t i = 0; err == ERR_OK && i < count; i++) {
        json_t *out = json_object();
        set(out, "cert_req_id", json_integer(all[i].cert_req_id));
        set(out, "check_after", json_integer(all[i].check_after_s));
        set_hex(out, "reason", all[i].reason);
        json_array_append_new(list, out);
    }
    return err;
}

static enum err nested_dump(struct bytes content, json_t *list)
{
    struct bytes all[LIST_MAX];
    uint32_t count;
    enum err err = cmp_nested_decode(content, all, LIST_MAX, &count);

    for (uint32_t i = 0; err == ERR_OK && i < count; i++)
        json_array_append_new(list, hex(all[i]));
    return err;
}

static enum err error_dump(struct bytes content, json_t *list)
{
    struct cmp_status_info status;
    enum err err = cmp_error_decode(content, &status);

    if (err == ERR_OK) {
        json_t *out = json_object();
        set_status(out, &status);
        json_array_append_new(list, out);
    }
    return err;
}

/* Bodies that nothing here reads: their octets. */
static enum err raw_dump(struct bytes content, json_t *list)
{
    json_array_append_new(list, hex(content));
    return ERR_OK;
}

static json_t *message_json(struct bytes der)
{
    static enum err (*const bodies[CMP_BODY_COUNT])(struct bytes content, json_t * list) = {
        [CMP_IR] = requests_dump,        [CMP_CR] = requests_dump,
        [CMP_KUR] = requests_dump,       [CMP_KRR] = requests_dump,
        [CMP_CCR] = requests_dump,       [CMP_P10CR] = csr_dump,
        [CMP_IP] = responses_dump,       [CMP_CP] = responses_dump,
        [CMP_KUP] = responses_dump,      [CMP_CCP] = responses_dump,
        [CMP_RR] = revocations_dump,     [CMP_RP] = statuses_dump,
        [CMP_GENM] = infos_dump,         [CMP_GENP] = infos_dump,
        [CMP_CERTCONF] = cert_conf_dump, [CMP_POLLREQ] = poll_req_dump,
        [CMP_POLLREP] = poll_rep_dump,   [CMP_NESTED] = nested_dump,
        [CMP_ERROR] = error_dump,
    };
    struct cmp_msg msg;
    json_t *out = json_object(), *list = json_array(), *certs = json_array();
    enum err err = cmp_msg_decode(der, &msg);

    if (err == ERR_OK)
        err = (bodies[msg.body] != NULL ? bodies[msg.body] : raw_dump)(msg.content, list);
    if (err != ERR_OK) {
        set(out, "err", json_string(err_code(err)));
        json_decref(list);
        json_decref(certs);
        return out;
    }
    set_header(out, &msg.header);
    set(out, "body", json_string(cmp_body_name(msg.body)));
    set(out, "content", list);
    set_hex(out, "protection", msg.protection);
    for (uint32_t i = 0; i < msg.extra_cert_count; i++)
        json_array_append_new(certs, hex(msg.extra_certs[i]));
    set(out, "extra_certs", certs);
    return out;
}

int main(int argc, char **argv)
{
    static uint8_t file[FILE_MAX];
    json_t *all = json_array();

    for (int i = 1; i < argc; i++) {
        FILE *stream = fopen(argv[i], "rb");
        if (stream == NULL) {
            perror(argv[i]);
            return 1;
        }
        size_t len = fread(file, 1, sizeof(file), stream);
        fclose(stream);
        json_array_append_new(all, message_json(bytes_of(file, len)));
    }
    json_dumpf(all, stdout, JSON_INDENT(1));
    putchar('\n');
    json_decref(all);
    return 0;
}
