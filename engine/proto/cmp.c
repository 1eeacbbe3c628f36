/* CMP (RFC 9810) over HTTP (RFC 9811): paths, and from octets to a message whose sender can be
 * checked. Bodies are looked at when that is done (cmp_dialog.c). */
#include "asn1/oid.h"
#include "proto/cmp_impl.h"

enum { JOURNAL_PROTOCOL_CMP = 2 }; /* PROTOCOL_CMP of store/schema.h, which proto may not see */

/* --- paths --- */

#define BODY(n) (1u << CMP_##n)

/* RFC 9811 3.6, RFC 9483 6.1: an operation says which bodies may come. */
static const struct operation {
    const char *name;
    uint32_t bodies;
} operations[] = {
    {"", UINT32_MAX},
    {"initialization", BODY(IR)},
    {"certification", BODY(CR)},
    {"keyupdate", BODY(KUR)},
    {"pkcs10", BODY(P10CR)},
    {"revocation", BODY(RR)},
    {"getcacerts", BODY(GENM)},
    {"getrootupdate", BODY(GENM)},
    {"getcertreqtemplate", BODY(GENM)},
    {"getcrls", BODY(GENM)},
    {"nested", BODY(NESTED)},
};
enum { OPERATION_COUNT = sizeof(operations) / sizeof(operations[0]) };

/* What goes on with a dialogue may come by any path. */
#define BODIES_ANYWHERE (BODY(CERTCONF) | BODY(POLLREQ) | BODY(ERROR))

static bool take_segment(struct bytes *rest, struct bytes *out)
{
    if (rest->len == 0 || rest->ptr[0] != '/') {
        return false;
    }
    struct bytes tail = bytes_of(rest->ptr + 1, rest->len - 1);
    size_t len = bytes_find(tail, '/');
    *out = bytes_of(tail.ptr, len);
    *rest = bytes_of(tail.ptr + len, tail.len - len);
    return len > 0;
}

static bool find_operation(struct bytes name, uint32_t *out)
{
    for (uint32_t i = 1; i < OPERATION_COUNT; i++) {
        if (bytes_eq(name, bytes_of_str(operations[i].name))) {
            *out = i;
            return true;
        }
    }
    return false;
}

/* [/p/<line>][/<operation>] */
static bool match_rest(struct bytes rest, struct proto_route *out)
{
    struct bytes segment;
    if (rest.len == 0) {
        return true;
    }
    if (!take_segment(&rest, &segment)) {
        return false;
    }
    if (bytes_eq(segment, BYTES_LIT("p"))) {
        if (!take_segment(&rest, &out->line)) {
            return false;
        }
        if (rest.len == 0) {
            return true;
        }
        if (!take_segment(&rest, &segment)) {
            return false;
        }
    }
    return find_operation(segment, &out->operation) && rest.len == 0;
}

static bool cmp_match(struct bytes method, struct bytes path, struct proto_route *out,
                      enum err *out_err)
{
    static const struct bytes root = {(const uint8_t *)"/.well-known/cmp", 16};
    if (!bytes_starts_with(path, root) || (path.len > root.len && path.ptr[root.len] != '/')) {
        return false;
    }
    *out = (struct proto_route){
        .proto = &proto_cmp,
        .action = ACTION_MESSAGE,
        .allow = "POST",
        .body_max = CMP_BODY_MAX,
    };
    *out_err = ERR_OK;
    if (!match_rest(bytes_of(path.ptr + root.len, path.len - root.len), out)) {
        *out_err = ERR_NOT_FOUND;
    } else if (!bytes_eq(method, BYTES_LIT("POST"))) {
        *out_err = ERR_HTTP_METHOD;
    }
    return true;
}

/* --- one message --- */

static bool is_mac_alg(struct bytes alg_der)
{
    struct bytes alg, oid;
    return der_get(&alg_der, DER_SEQUENCE, &alg) && der_get_oid(&alg, &oid) &&
           (bytes_eq(oid, OID_PBM) || bytes_eq(oid, OID_PBMAC1));
}

static enum err copy_protected_part(const struct cmp_msg *msg, struct arena *arena,
                                    struct bytes *out)
{
    uint8_t head[8];
    struct bytes part[2];
    cmp_protected_part(msg, head, part);
    uint8_t *copy = arena_alloc(arena, part[0].len + part[1].len);
    if (!copy) {
        return ERR_OVERLOADED;
    }
    memcpy(copy, part[0].ptr, part[0].len);
    memcpy(copy + part[0].len, part[1].ptr, part[1].len);
    *out = bytes_of(copy, part[0].len + part[1].len);
    return ERR_OK;
}

static enum err take_protection(const struct cmp_msg *msg, struct arena *arena,
                                struct proto_message *out)
{
    bool has_alg = msg->header.protection_alg.len > 0;
    if (has_alg != msg->has_protection) {
        return ERR_CMP_MESSAGE_CHECK;
    }
    out->sender_name = msg->header.sender_name;
    out->sender_key_id = msg->header.sender_kid;
    out->extra_cert_count = msg->extra_cert_count;
    memcpy(out->extra_certs, msg->extra_certs, msg->extra_cert_count * sizeof(struct bytes));
    if (!has_alg) {
        return ERR_OK;
    }
    out->protection_alg_der = msg->header.protection_alg;
    out->protection_value = msg->protection;
    if (is_mac_alg(msg->header.protection_alg)) {
        out->protection = PROTECTION_MAC;
    } else {
        out->protection = PROTECTION_SIGNATURE;
        out->protection_alg = sig_alg_from_der(msg->header.protection_alg);
        if (out->protection_alg == SIG_NONE) {
            return ERR_BAD_ALG;
        }
    }
    return copy_protected_part(msg, arena, &out->protected_part);
}

#define BODIES_SERVED                                                                              \
    (BODY(IR) | BODY(CR) | BODY(P10CR) | BODY(KUR) | BODY(RR) | BODY(GENM) | BODY(NESTED) |        \
     BODIES_ANYWHERE)

/* What holds for every header of our versions (RFC 9810 5.1.1, RFC 9483 3.1). */
static enum err check_header(const struct proto_cmp_line *line, uint32_t bodies,
                             const struct cmp_msg *msg)
{
    const struct cmp_header *header = &msg->header;
    if ((BODIES_SERVED >> msg->body & 1) == 0) {
        return ERR_CMP_BODY;
    }
    if (header->sender_nonce.len != CMP_NONCE_LEN) {
        return ERR_CMP_SENDER_NONCE;
    }
    bool goes_on = (BODIES_ANYWHERE >> msg->body & 1) != 0;
    bool must_have_id = goes_on || line->strict;
    if (header->transaction_id.len > CMP_TRANSACTION_ID_MAX ||
        (must_have_id && header->transaction_id.len == 0)) {
        return ERR_CMP_NO_TRANSACTION;
    }
    if (header->bad_implicit_confirm || (header->implicit_confirm && header->has_confirm_wait)) {
        return ERR_BAD_REQUEST;
    }
    return ((bodies | BODIES_ANYWHERE) >> msg->body & 1) != 0 ? ERR_OK : ERR_BAD_REQUEST;
}

/* The message as far as its sender's word goes; its own err where the others of a batch go on. */
static enum err decode_one(const struct proto_cmp_line *line, struct bytes der, uint32_t bodies,
                           struct arena *arena, struct proto_message *out)
{
    struct cmp_state *state = arena_calloc(arena, sizeof(*state));
    if (!state) {
        return ERR_OVERLOADED;
    }
    out->state = state;
    enum err err = cmp_msg_decode(der, &state->msg);
    if (err != ERR_OK) {
        return err;
    }
    const struct cmp_msg *msg = &state->msg;
    state->has_msg = true;
    out->action = msg->body == CMP_NESTED ? ACTION_NESTED : ACTION_MESSAGE;
    out->anonymous_allowed = msg->body == CMP_GENM;
    out->lenient_sender = line->lenient_sender;
    if (msg->header.pvno != 2 && msg->header.pvno != 3) {
        return ERR_CMP_VERSION;
    }
    /* told in resume, so that who sent it is known and the answer is protected by the same means */
    state->header_err = check_header(line, bodies, msg);
    bool has_dialogue = msg->body != CMP_GENM && msg->body != CMP_NESTED;
    if (state->header_err == ERR_OK && has_dialogue) {
        out->transaction_id = msg->header.transaction_id;
    }
    return take_protection(msg, arena, out);
}

/* --- messages in messages (RFC 9810 5.1.3.4): one level deep --- */

static enum err decode_inner(const struct proto_cmp_line *line, struct arena *arena,
                             struct proto_message *outer)
{
    const struct cmp_state *state = outer->state;
    struct bytes *ders = arena_alloc(arena, CMP_NESTED_MAX * sizeof(*ders));
    uint32_t count = 0;
    if (!ders) {
        return ERR_OVERLOADED;
    }
    enum err err = cmp_nested_decode(state->msg.content, ders, CMP_NESTED_MAX, &count);
    if (err != ERR_OK) {
        return err == ERR_NO_SPACE ? ERR_BAD_REQUEST : err;
    }
    outer->inner = arena_calloc(arena, count * sizeof(*outer->inner));
    if (count == 0 || !outer->inner) {
        return count == 0 ? ERR_BAD_REQUEST : ERR_OVERLOADED;
    }
    outer->inner_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct proto_message *inner = &outer->inner[i];
        inner->err = decode_one(line, ders[i], ~BODY(NESTED), arena, inner);
        if (inner->err == ERR_OVERLOADED) {
            return ERR_OVERLOADED;
        }
    }
    return ERR_OK;
}

static enum err cmp_decode(const struct proto_route *route, const struct proto_line *line,
                           const struct proto_request *request, struct arena *arena,
                           struct proto_message *out)
{
    *out = (struct proto_message){.action = ACTION_MESSAGE};
    if (!line->cmp) {
        return ERR_NOT_OFFERED;
    }
    if (!proto_media_type_is(request->content_type, "application/pkixcmp")) {
        return ERR_HTTP_MEDIA_TYPE;
    }
    if (!der_is_strict(request->body)) {
        return ERR_BAD_DER; /* no CMP message can answer what is none */
    }
    enum err err =
        decode_one(line->cmp, request->body, operations[route->operation].bodies, arena, out);
    if (err == ERR_OK && out->action == ACTION_NESTED) {
        err = decode_inner(line->cmp, arena, out);
    }
    return err;
}

const struct proto proto_cmp = {
    .name = "cmp",
    .journal_protocol = JOURNAL_PROTOCOL_CMP,
    .match = cmp_match,
    .decode = cmp_decode,
    .encode = cmp_encode,
    .refuse = cmp_refuse,
    .resume = cmp_resume,
    .finish = cmp_finish,
    .place = cmp_record_place,
    .pending = cmp_record_pending,
};
