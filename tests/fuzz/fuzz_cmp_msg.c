/* Does every CMP message that is accepted keep its meaning when it is written again?
 *
 * Oracles: cmp_msg_put gives the received octets from header, body, protection and certificates;
 * header and body, written from their views, decode to views that are written as the same octets
 * (and to the same number of elements); header and small bodies are DER throughout; the protected
 * part is one SEQUENCE. Nested messages are looked at likewise, one level deep.
 */
#include <stdlib.h>

#include "proto/cmp_msg.h"
#include "tests/fuzz/der_mutator.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

enum { SIZE_MAX_HERE = 16384, LIST_MAX = 64, ROOM = 4 * SIZE_MAX_HERE };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Decodes content and, if that succeeds, writes it into out. */
typedef enum err (*rewrite_fn)(struct bytes content, struct der_builder *out, uint32_t *out_count);

static enum err rewrite_cert_rep(struct bytes content, struct der_builder *out, uint32_t *out_count)
{
    struct cmp_cert_response all[LIST_MAX];
    struct bytes ca_pubs, certs[LIST_MAX];
    uint32_t cert_count = 0;
    enum err err = cmp_cert_rep_decode(content, all, LIST_MAX, out_count, &ca_pubs);

    if (err != ERR_OK)
        return err;
    while (ca_pubs.len > 0 && cert_count < LIST_MAX)
        CHECK(der_get_element(&ca_pubs, DER_SEQUENCE, &certs[cert_count++]));
    cmp_cert_rep_put(out, all, *out_count, certs, cert_count);
    return ERR_OK;
}

static enum err rewrite_rev_req(struct bytes content, struct der_builder *out, uint32_t *out_count)
{
    struct cmp_revocation all[LIST_MAX];
    enum err err = cmp_rev_req_decode(content, all, LIST_MAX, out_count);

    if (err == ERR_OK) {
        CHECK(der_is_strict(content));
        cmp_rev_req_put(out, all, *out_count);
    }
    return err;
}

static enum err rewrite_rev_rep(struct bytes content, struct der_builder *out, uint32_t *out_count)
{
    struct cmp_status_info all[LIST_MAX];
    enum err err = cmp_rev_rep_decode(content, all, LIST_MAX, out_count);

    if (err == ERR_OK) {
        CHECK(der_is_strict(content));
        cmp_rev_rep_put(out, all, NULL, *out_count);
    }
    return err;
}

static enum err rewrite_infos(struct bytes content, struct der_builder *out, uint32_t *out_count)
{
    struct cmp_info all[LIST_MAX];
    struct der_builder own = *out;
    struct bytes written;
    enum err err = cmp_infos_decode(content, all, LIST_MAX, out_count);

    if (err == ERR_OK) {
        cmp_infos_put(&own, all, *out_count); /* nothing is left out */
        CHECK(der_finish(&own, &written) && bytes_eq(written, content));
        *out = own;
    }
    return err;
}

static enum err rewrite_error(struct bytes content, struct der_builder *out, uint32_t *out_count)
{
    struct cmp_status_info status;
    enum err err = cmp_error_decode(content, &status);

    *out_count = 1;
    if (err == ERR_OK) {
        CHECK(der_is_strict(content));
        cmp_error_put(out, &status);
    }
    return err;
}

static enum err rewrite_cert_conf(struct bytes content, struct der_builder *out,
                                  uint32_t *out_count)
{
    struct cmp_cert_status all[LIST_MAX];
    enum err err = cmp_cert_conf_decode(content, all, LIST_MAX, out_count);

    if (err == ERR_OK) {
        CHECK(der_is_strict(content));
        cmp_cert_conf_put(out, all, *out_count);
    }
    return err;
}

static enum err rewrite_poll_req(struct bytes content, struct der_builder *out, uint32_t *out_count)
{
    int64_t ids[LIST_MAX];
    enum err err = cmp_poll_req_decode(content, ids, LIST_MAX, out_count);

    if (err == ERR_OK) {
        cmp_poll_req_put(out, ids, *out_count);
        CHECK(bytes_eq(writer_view(&out->out), content));
    }
    return err;
}

static enum err rewrite_poll_rep(struct bytes content, struct der_builder *out, uint32_t *out_count)
{
    struct cmp_poll all[LIST_MAX];
    enum err err = cmp_poll_rep_decode(content, all, LIST_MAX, out_count);

    if (err == ERR_OK) {
        CHECK(der_is_strict(content));
        cmp_poll_rep_put(out, all, *out_count);
    }
    return err;
}

static enum err rewrite_nested(struct bytes content, struct der_builder *out, uint32_t *out_count)
{
    struct bytes all[LIST_MAX];
    enum err err = cmp_nested_decode(content, all, LIST_MAX, out_count);

    if (err == ERR_OK) {
        cmp_nested_put(out, all, *out_count);
        CHECK(bytes_eq(writer_view(&out->out), content));
    }
    return err;
}

static const rewrite_fn rewriters[CMP_BODY_COUNT] = {
    [CMP_IP] = rewrite_cert_rep,      [CMP_CP] = rewrite_cert_rep,
    [CMP_KUP] = rewrite_cert_rep,     [CMP_CCP] = rewrite_cert_rep,
    [CMP_RR] = rewrite_rev_req,       [CMP_RP] = rewrite_rev_rep,
    [CMP_GENM] = rewrite_infos,       [CMP_GENP] = rewrite_infos,
    [CMP_ERROR] = rewrite_error,      [CMP_CERTCONF] = rewrite_cert_conf,
    [CMP_POLLREQ] = rewrite_poll_req, [CMP_POLLREP] = rewrite_poll_rep,
    [CMP_NESTED] = rewrite_nested,
};

static void check_body(const struct cmp_msg *msg)
{
    static uint8_t once[ROOM], twice[ROOM];
    struct der_builder first = der_builder_of(once, sizeof(once));
    struct der_builder second = der_builder_of(twice, sizeof(twice));
    rewrite_fn rewrite = rewriters[msg->body];
    struct bytes written, again;
    uint32_t count, count_again;

    if (rewrite == NULL || rewrite(msg->content, &first, &count) != ERR_OK)
        return;
    CHECK(der_finish(&first, &written));
    CHECK(rewrite(written, &second, &count_again) == ERR_OK && count == count_again);
    CHECK(der_finish(&second, &again) && bytes_eq(written, again));
}

static void check_requests(struct bytes content)
{
    static struct crmf_request requests[LIST_MAX];
    static uint8_t room[SIZE_MAX_HERE];
    struct writer scratch = writer_of(room, content.len);
    uint32_t count, total;
    enum err err = cmp_cert_reqs_decode(content, &scratch, requests, LIST_MAX, &count);

    CHECK(count <= LIST_MAX);
    if (err != ERR_OK)
        return;
    CHECK(cmp_cert_reqs_count(content, &total) == ERR_OK && total == count);
    for (uint32_t i = 0; i < count; i++)
        CHECK(requests[i].err == ERR_OK || requests[i].request.pop == POP_NONE);
}

static void check_same_header(const struct cmp_header *a, const struct cmp_header *b)
{
    const struct bytes *const fields[][2] = {
        {&a->sender, &b->sender},
        {&a->sender_name, &b->sender_name},
        {&a->recipient, &b->recipient},
        {&a->protection_alg, &b->protection_alg},
        {&a->sender_kid, &b->sender_kid},
        {&a->recip_kid, &b->recip_kid},
        {&a->transaction_id, &b->transaction_id},
        {&a->sender_nonce, &b->sender_nonce},
        {&a->recip_nonce, &b->recip_nonce},
        {&a->free_text, &b->free_text},
        {&a->cert_profile, &b->cert_profile},
    };

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        CHECK(bytes_eq(*fields[i][0], *fields[i][1]));
    CHECK(a->pvno == b->pvno && a->implicit_confirm == b->implicit_confirm);
    CHECK(a->has_message_time == b->has_message_time && a->message_time_s == b->message_time_s);
    CHECK(a->has_confirm_wait == b->has_confirm_wait && a->confirm_wait_s == b->confirm_wait_s);
}

static void check_header(const struct cmp_msg *msg)
{
    static uint8_t once[ROOM], twice[ROOM];
    static const uint8_t body[] = {0xb3, 0x02, 0x05, 0x00}; /* pkiconf */
    struct der_builder builder = der_builder_of(once, sizeof(once));
    struct cmp_msg again;
    struct bytes written, rewritten;

    CHECK(der_is_strict(msg->header_der));
    cmp_header_put(&builder, &msg->header);
    CHECK(der_finish(&builder, &written));
    builder = der_builder_of(twice, sizeof(twice));
    der_open(&builder, DER_SEQUENCE);
    der_put_raw(&builder, written);
    der_put_raw(&builder, BYTES_ARRAY(body));
    der_close(&builder);
    CHECK(der_finish(&builder, &rewritten) && cmp_msg_decode(rewritten, &again) == ERR_OK);
    check_same_header(&msg->header, &again.header);
    builder = der_builder_of(once, sizeof(once));
    cmp_header_put(&builder, &again.header);
    CHECK(der_finish(&builder, &written) && bytes_eq(written, again.header_der));
    CHECK(written.len <= msg->header_der.len);
}

static void check_frame(const struct cmp_msg *msg)
{
    static uint8_t built[ROOM];
    struct der_builder builder = der_builder_of(built, sizeof(built));
    struct bytes written, parts[2];
    uint8_t head[8];

    CHECK(msg->body < CMP_BODY_COUNT && msg->extra_cert_count <= CMP_EXTRA_CERTS_MAX);
    if (!msg->has_protection || msg->protection.len > 0) {
        cmp_msg_put(&builder, msg->header_and_body, msg->protection, msg->extra_certs,
                    msg->extra_cert_count);
        CHECK(der_finish(&builder, &written) && bytes_eq(written, msg->der));
    }
    cmp_protected_part(msg, head, parts);
    builder = der_builder_of(built, sizeof(built));
    der_put(&builder, DER_SEQUENCE, parts[1]);
    CHECK(der_finish(&builder, &written) && written.len == parts[0].len + parts[1].len);
    CHECK(bytes_eq(bytes_of(written.ptr, parts[0].len), parts[0]));
}

static void check_message(struct bytes der, unsigned depth)
{
    struct cmp_msg msg;
    struct bytes inner[LIST_MAX];
    uint32_t count;

    if (cmp_msg_decode(der, &msg) != ERR_OK)
        return;
    check_frame(&msg);
    check_header(&msg);
    check_body(&msg);
    if (msg.body == CMP_IR || msg.body == CMP_CR || msg.body == CMP_KUR)
        check_requests(msg.content);
    if (msg.body != CMP_NESTED || depth == 0 ||
        cmp_nested_decode(msg.content, inner, LIST_MAX, &count) != ERR_OK)
        return;
    for (uint32_t i = 0; i < count; i++)
        check_message(inner[i], depth - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size <= SIZE_MAX_HERE)
        check_message(bytes_of(data, size), 1);
    return 0;
}
