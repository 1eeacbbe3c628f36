/* Does every CMP message get an answer that is one, in whatever state its dialogue is?
 *
 * Input: SEQUENCE { choices OCTET STRING, record OCTET STRING, message }, see struct input.
 *
 * Oracles: what is answered is DER and a PKIMessage with the transactionID of the message and its
 * senderNonce as recipNonce, or a refusal in HTTP with a known status; what is kept of it decodes
 * and encodes to the same octets, and the same message then gets the same answer, octet for octet;
 * a record of any octets at all is refused or used, with as many items as it has octets for. */
#include <stdio.h>
#include <stdlib.h>

#include "ca/issue.h"
#include "proto/cmp_impl.h"
#include "tests/fuzz/der_mutator.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

enum { NOW_S = 1767225600, CERT_LOG = 7, CHOICES_LEN = 6, SIZE_MAX_HERE = 16384 };

static struct chunk_pool pool;
static uint8_t cert_buf[1024];
static struct bytes cert_der;
static struct x509_cert cert;

/* --- fixtures --- */

static void make_cert(void)
{
    /* RFC 6979 A.2.5 */
    const char spki_hex[] = "3059301306072a8648ce3d020106082a8648ce3d03010703420004"
                            "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
                            "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299";
    static const uint8_t serial[SERIAL_LEN] = {1};
    static const uint8_t signature[] = {0x30, 0x06, 0x02, 0x01, 0x01, 0x02, 0x01, 0x01};
    uint8_t spki[128], name[64], tbs[512];
    size_t spki_len, name_len, tbs_len, len;

    CHECK(bytes_from_hex(bytes_of_str(spki_hex), spki, sizeof(spki), &spki_len));
    CHECK(name_from_text("CN=dev", name, sizeof(name), &name_len));
    struct ca_cert_input input = {.subject = bytes_of(name, name_len),
                                  .spki = bytes_of(spki, spki_len),
                                  .sig_alg = SIG_ECDSA_SHA256,
                                  .serial = serial,
                                  .not_after_s = 86400,
                                  .path_len = -1};
    CHECK(ca_cert_tbs_build(&input, tbs, sizeof(tbs), &tbs_len) == ERR_OK);
    CHECK(cert_assemble(bytes_of(tbs, tbs_len), SIG_ECDSA_SHA256, BYTES_ARRAY(signature), cert_buf,
                        sizeof(cert_buf), &len) == ERR_OK);
    cert_der = bytes_of(cert_buf, len);
    CHECK(x509_decode(cert_der, &cert) == ERR_OK);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    const uint32_t counts[CHUNK_CLASS_COUNT] = {64, 32, 8};
    CHECK(chunk_pool_init_counts(&pool, counts) == ERR_OK);
    make_cert();
    return 0;
}

static struct bytes cert_of(void *ctx, uint64_t log)
{
    (void)ctx;
    return log == CERT_LOG ? cert_der : (struct bytes){0};
}

static struct bytes crl_of(void *ctx, int64_t *out_this_update_s)
{
    (void)ctx;
    *out_this_update_s = 1767225600;
    return BYTES_LIT("\x30\x03\x02\x01\x05"); /* the store's: not looked into */
}

/* --- input --- */

struct input {
    struct bytes record;
    struct bytes message;
    struct proto_cmp_line cmp;
    struct proto_line line;
    struct proto_route route;
    enum proto_protection protection;
    enum err err; /* of every second outcome */
    bool has_record, record_is_made, is_known_nonce, is_ra, is_device, is_hold, has_signer;
    bool little_memory;
    uint8_t record_state, record_body;
};

static bool bit(uint8_t choice, unsigned n)
{
    return (choice >> n & 1) != 0;
}

static void line_of(const uint8_t choices[CHOICES_LEN], struct input *out)
{
    static const uint8_t sender[] = {0xa4, 0x02, 0x30, 0x00};
    out->cmp = (struct proto_cmp_line){
        .strict = bit(choices[0], 0),
        .implicit_confirm = bit(choices[0], 1),
        .require_time = bit(choices[0], 2),
        .requests_max = bit(choices[0], 3) ? 2 : CMP_REQUESTS_PER_MESSAGE_MAX,
        .confirm_wait_s = 300,
        .time_window_s = bit(choices[0], 4) ? 300 : 0,
        .poll_after_s = 40,
        .sender = BYTES_ARRAY(sender),
        .sender_kid = BYTES_LIT("server key"),
        .sender_certs = {cert_der},
        .sender_cert_count = 1,
        .sender_alg = bit(choices[0], 5) ? SIG_NONE : SIG_ECDSA_SHA256,
        .root_old_count = bit(choices[0], 6),
        .keygen = bit(choices[0], 5),
        .root_cert = bit(choices[0], 7) ? cert_der : (struct bytes){0},
        .root_olds = {cert_der},
        .rsa_bits_min = 2048,
    };
    out->line = (struct proto_line){
        .name = "widgets", .ca_certs = &cert_der, .ca_cert_count = 1, .cmp = &out->cmp};
}

static bool input_of(struct bytes data, struct input *out)
{
    struct bytes body, choices;
    *out = (struct input){0};
    if (!der_get(&data, DER_SEQUENCE, &body) || !der_get(&body, DER_OCTET_STRING, &choices) ||
        choices.len < CHOICES_LEN || !der_get(&body, DER_OCTET_STRING, &out->record))
        return false;
    const uint8_t *c = choices.ptr;
    line_of(c, out);
    out->message = body;
    out->has_record = bit(c[1], 0);
    out->record_is_made = bit(c[1], 1);
    out->is_known_nonce = bit(c[1], 2);
    out->is_ra = bit(c[1], 3);
    out->is_device = bit(c[1], 4);
    out->is_hold = bit(c[1], 5);
    out->has_signer = bit(c[1], 6);
    out->little_memory = bit(c[1], 7);
    out->protection = (enum proto_protection)(c[2] % 3);
    static const uint8_t states[] = {CMP_DIALOG_WAITING_OLD, CMP_DIALOG_WAITING,
                                     CMP_DIALOG_CONFIRM, CMP_DIALOG_DONE, 4};
    out->record_state = states[c[2] / 3 % 5];
    out->err = (enum err)(c[3] % ERR_COUNT);
    out->record_body = c[4] % CMP_BODY_COUNT;
    out->route = (struct proto_route){.proto = &proto_cmp, .operation = c[5] % 11};
    return true;
}

static void copy_nonce(struct bytes from, uint8_t to[CMP_NONCE_LEN])
{
    if (from.len == CMP_NONCE_LEN)
        memcpy(to, from.ptr, CMP_NONCE_LEN);
}

/* A record that this very message could go on with. */
static struct bytes made_record(const struct input *input, const struct proto_message *message,
                                struct arena *arena)
{
    const struct cmp_state *state = message->state;
    struct cmp_kept_item items[2] = {{.cert_log = CERT_LOG}, {1, CERT_LOG, ERR_BAD_POP, 0}};
    struct cmp_record record = {.body = input->record_body,
                                .protection = (uint8_t)message->protection,
                                .items = items,
                                .item_count = 2,
                                .waiting = input->record};
    copy_nonce(state->msg.header.recip_nonce, record.first.nonce);
    if (input->is_known_nonce)
        copy_nonce(state->msg.header.sender_nonce, record.first.request_nonce);
    record.first.time_s = NOW_S - 1;
    return cmp_record_encode(&record, arena);
}

static struct proto_context context_of(const struct input *input,
                                       const struct proto_message *message, struct arena *arena)
{
    struct proto_context context = {
        .now_s = NOW_S,
        .is_ra = input->is_ra,
        .is_device = input->is_device,
        .is_hold = input->is_hold,
        .signer = input->has_signer ? &cert : NULL,
        .cert_of = cert_of,
        .crl_of = crl_of,
        .has_record = input->has_record && message->transaction_id.len > 0,
        .record_state = input->record_state,
    };
    memset(context.nonce, 1, sizeof(context.nonce));
    memset(context.new_id, 2, sizeof(context.new_id));
    if (context.has_record)
        context.record =
            input->record_is_made ? made_record(input, message, arena) : input->record;
    return context;
}

/* --- oracles --- */

static void check_in_http(const struct proto_response *response)
{
    static const uint16_t known[] = {400, 404, 405, 408, 411, 413, 415, 429, 431, 500, 503};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (response->http_status == known[i])
            return;
    CHECK(!"a status of spec/cmp.md");
}

static void check_is_answer_to(struct bytes asked, const struct proto_response *response)
{
    struct cmp_msg answer, question;
    if (response->http_status != 200) {
        check_in_http(response);
        return;
    }
    CHECK(der_is_strict(response->body));
    CHECK(cmp_msg_decode(response->body, &answer) == ERR_OK);
    CHECK(answer.header.pvno == 2 || answer.header.pvno == 3);
    CHECK(answer.header.sender_nonce.len == CMP_NONCE_LEN);
    if (cmp_msg_decode(asked, &question) != ERR_OK) {
        CHECK(answer.body == CMP_ERROR);
        return;
    }
    CHECK(bytes_eq(answer.header.recip_nonce, question.header.sender_nonce));
    CHECK(bytes_eq(answer.header.recipient, question.header.sender));
    if (question.header.transaction_id.len > 0)
        CHECK(bytes_eq(answer.header.transaction_id, question.header.transaction_id));
}

static void check_record(struct bytes record, struct arena *arena)
{
    struct cmp_record decoded;
    enum err err = cmp_record_decode(record, arena, &decoded);
    uint64_t logs[4];
    uint32_t line_id = 0;
    CHECK(cmp_record_pending(record, CMP_DIALOG_CONFIRM, logs, 4, &line_id) <= 4);
    if (err != ERR_OK)
        return;
    CHECK(decoded.item_count <= CMP_REQUESTS_PER_MESSAGE_MAX && decoded.item_count <= record.len);
    struct bytes again = cmp_record_encode(&decoded, arena);
    CHECK(again.len == 0 || bytes_eq(again, record)); /* 0: little memory */
}

/* --- one message --- */

static const struct proto_outcome *outcomes_of(const struct input *input,
                                               const struct proto_message *message,
                                               struct arena *arena)
{
    bool replays = message->action == ACTION_REPLAY;
    uint32_t count = replays ? message->replay_count : message->request_count;
    struct proto_outcome *outcomes = arena_calloc(arena, (count + 1) * sizeof(*outcomes));
    for (uint32_t i = 0; outcomes && i < count; i++) {
        enum err refused = message->request_errs && !replays ? message->request_errs[i] : ERR_OK;
        enum err chosen = i % 2 == 1 && refused == ERR_OK ? input->err : refused;
        outcomes[i].err = replays ? message->replay_errs[i] : chosen;
        outcomes[i].cert_log = outcomes[i].err == ERR_OK ? CERT_LOG : 0;
        if (outcomes[i].err == ERR_OK)
            outcomes[i].cert_der = cert_der;
        bool sealed = !replays && (message->key_wish != NULL ||
                                   message->requests[i].pop == POP_KEY_ENCIPHERMENT);
        if (sealed && outcomes[i].err == ERR_OK)
            outcomes[i].sealed = BYTES_LIT("\x30\x03\x02\x01\x02");
    }
    return outcomes;
}

static void refuse(const struct input *input, const struct proto_message *message, enum err err,
                   struct arena *arena, struct proto_response *out)
{
    *out = (struct proto_response){0};
    proto_cmp.refuse(&input->route, &input->line, NULL, message, err, "why", "0011223344556677", 0,
                     arena, out);
    CHECK(!out->keep);
}

static void finish(const struct input *input, const struct proto_message *message,
                   struct arena *arena, struct proto_response *out)
{
    if (out->to_protect.len == 0)
        return;
    struct bytes value = out->protect == PROTECTION_NONE ? (struct bytes){0} : BYTES_LIT("value");
    if (out->protection.len > 0)
        value = out->protection;
    if (proto_cmp.finish(&input->line, message, value, arena, out) != ERR_OK)
        *out = (struct proto_response){.http_status = 503};
}

/* Resumed, answered and protected. */
static enum err answer_one(const struct input *input, struct proto_message *message,
                           const struct proto_context *context, struct arena *arena,
                           struct proto_response *out)
{
    message->protection = input->protection;
    enum err err = message->err;
    if (err == ERR_OK)
        err = proto_cmp.resume(&input->route, &input->line, context, arena, message);
    for (uint32_t i = 0; err == ERR_OK && i < message->inner_count; i++) {
        struct proto_message *inner = &message->inner[i];
        struct proto_response response;
        struct proto_context own = context_of(input, inner, arena);
        CHECK(inner->inner_count == 0);
        answer_one(input, inner, &own, arena, &response);
        inner->answer = response.http_status == 200 ? response.body : (struct bytes){0};
    }
    if (err == ERR_OK) {
        const struct proto_outcome *outcomes = outcomes_of(input, message, arena);
        err = outcomes ? proto_cmp.encode(&input->route, &input->line, NULL, message, outcomes,
                                          arena, out)
                       : ERR_OVERLOADED;
    }
    if (err != ERR_OK)
        refuse(input, message, err, arena, out);
    finish(input, message, arena, out);
    return err;
}

static enum err decode(const struct input *input, struct arena *arena, struct proto_message *out)
{
    const struct proto_request request = {.content_type = BYTES_LIT("application/pkixcmp"),
                                          .body = input->message,
                                          .has_body = true};
    return proto_cmp.decode(&input->route, &input->line, &request, arena, out);
}

/* The same message, when the first is on record. */
static void check_replay(const struct input *input, const struct proto_response *first,
                         struct arena *arena)
{
    struct proto_message message;
    struct proto_response again;
    struct cmp_record decoded;
    CHECK(cmp_record_decode(first->record, arena, &decoded) == ERR_OK);
    if (decode(input, arena, &message) != ERR_OK)
        return; /* little memory */
    struct proto_context context = context_of(input, &message, arena);
    context.now_s += 1;
    memset(context.nonce, 3, sizeof(context.nonce));
    context.has_record = true;
    context.record = first->record;
    context.record_state = first->record_state;
    if (message.transaction_id.len == 0 || context.now_s == decoded.first.time_s)
        return;
    bool is_timely = input->cmp.time_window_s == 0;
    enum err err = answer_one(input, &message, &context, arena, &again);
    if (err == ERR_OK) {
        CHECK(message.action == ACTION_REPLAY || message.action == ACTION_NESTED);
        CHECK(again.http_status != 200 || bytes_eq(again.body, first->body));
    } else {
        CHECK(err == ERR_OVERLOADED || !is_timely);
    }
}

static void run(const struct input *input, struct arena *arena)
{
    struct proto_message message;
    struct proto_response response;
    enum err err = decode(input, arena, &message);
    if (err != ERR_OK) {
        CHECK(err != ERR_OVERLOADED || input->little_memory);
        refuse(input, &message, err, arena, &response);
        finish(input, &message, arena, &response);
        check_is_answer_to(input->message, &response);
        return;
    }
    struct proto_context context = context_of(input, &message, arena);
    err = answer_one(input, &message, &context, arena, &response);
    if (message.action == ACTION_NESTED && response.to_protect.len == 0)
        return; /* an inner message's answer */
    check_is_answer_to(input->message, &response);
    if (err == ERR_OK && response.keep)
        check_replay(input, &response, arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input;
    struct arena arena;
    if (size > SIZE_MAX_HERE || !input_of(bytes_of(data, size), &input))
        return 0;
    arena_init(&arena, &pool, input.little_memory ? CHUNK_SMALL_SIZE : 0);
    check_record(input.record, &arena);
    run(&input, &arena);
    arena_reset(&arena);
    return 0;
}
