/* Is every certificate request message that crmf_decode accepts DER throughout, and the same when
 * it is written again?
 *
 * Oracles: der_is_strict holds; all views lie in the message or in scratch; crmf_put writes a
 * message of what it has fields for, which decodes to the same view.
 */
#include <stdlib.h>

#include "asn1/crmf.h"
#include "tests/fuzz/der_mutator.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

enum { SIZE_MAX_HERE = 8192 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool lies_in(struct bytes part, struct bytes whole)
{
    return part.len == 0 || (part.ptr >= whole.ptr && part.ptr + part.len <= whole.ptr + whole.len);
}

static void check_views(const struct crmf_request *all, struct bytes message, struct bytes scratch)
{
    const struct cert_request *request = &all->request;
    const struct bytes received[] = {
        all->key_alg,
        all->old_cert_id.issuer,
        all->old_cert_id.serial,
        all->issuer,
        all->reg_token,
        all->authenticator,
        all->protocol_encr_key,
        all->cert_req_der,
        request->pop_signature,
        request->san,
    };
    const struct bytes copied[] = {request->spki.der, request->spki.key, all->pop_sender,
                                   all->pop_mac};

    for (size_t i = 0; i < sizeof(received) / sizeof(received[0]); i++)
        CHECK(lies_in(received[i], message));
    for (size_t i = 0; i < sizeof(copied) / sizeof(copied[0]); i++)
        CHECK(lies_in(copied[i], scratch));
    for (uint32_t i = 0; i < request->extensions.count; i++)
        CHECK(lies_in(request->extensions.item[i].der, message));
    CHECK(all->has_subject ? lies_in(request->subject, message) : request->subject.len == 2);
    CHECK(lies_in(request->pop_message, all->pop_over_input ? scratch : message));
    CHECK(all->has_key == (request->spki.alg != KEY_NONE) && !(all->has_key && all->key_is_empty));
    CHECK(scratch.len <= message.len);
}

static bool copy_signature(void *ctx, struct bytes message, uint8_t *out, size_t cap,
                           size_t *out_len)
{
    const struct bytes *signature = ctx;
    (void)message;
    if (signature->len > cap)
        return false;
    if (signature->len > 0)
        memcpy(out, signature->ptr, signature->len);
    *out_len = signature->len;
    return true;
}

static bool can_be_put(const struct crmf_request *all)
{
    return all->request.pop != POP_KEY_ENCIPHERMENT && !all->pop_over_input && !all->key_is_empty &&
           all->issuer.len == 0 && !all->has_not_before && !all->has_not_after &&
           all->authenticator.len == 0 && all->protocol_encr_key.len == 0 &&
           all->request.pop_signature.len <= SIGNATURE_MAX;
}

static struct bytes put(const struct crmf_request *all, uint8_t *buf, size_t cap)
{
    static uint8_t extensions[SIZE_MAX_HERE + 8];
    const struct cert_request *request = &all->request;
    struct crmf_template template = {
        .cert_req_id = all->cert_req_id,
        .subject = all->has_subject ? request->subject : (struct bytes){0},
        .spki = request->spki.der,
        .old_cert_id = all->old_cert_id,
        .reg_token = all->reg_token,
        .ra_verified = request->pop == POP_RA_VERIFIED,
    };
    struct der_builder builder = der_builder_of(extensions, sizeof(extensions));
    struct bytes signature = request->pop_signature, out = {0};

    if (request->extensions.count > 0) {
        der_open(&builder, DER_SEQUENCE);
        for (uint32_t i = 0; i < request->extensions.count; i++)
            der_put_raw(&builder, request->extensions.item[i].der);
        der_close(&builder);
        CHECK(der_finish(&builder, &template.extensions));
    }
    builder = der_builder_of(buf, cap);
    CHECK(crmf_put(&builder, &template, request->pop_alg,
                   request->pop == POP_SIGNATURE ? copy_signature : NULL, &signature));
    CHECK(der_finish(&builder, &out));
    return out;
}

static void check_same(const struct crmf_request *a, const struct crmf_request *b)
{
    CHECK(a->cert_req_id == b->cert_req_id && a->has_subject == b->has_subject);
    CHECK(bytes_eq(a->request.subject, b->request.subject));
    CHECK(bytes_eq(a->request.spki.der, b->request.spki.der) && a->has_key == b->has_key);
    CHECK(bytes_eq(a->request.san, b->request.san));
    CHECK(a->request.extensions.count == b->request.extensions.count);
    for (uint32_t i = 0; i < a->request.extensions.count; i++)
        CHECK(bytes_eq(a->request.extensions.item[i].der, b->request.extensions.item[i].der));
    CHECK(bytes_eq(a->old_cert_id.issuer, b->old_cert_id.issuer));
    CHECK(bytes_eq(a->old_cert_id.serial, b->old_cert_id.serial));
    CHECK(bytes_eq(a->reg_token, b->reg_token));
    CHECK(a->request.pop == b->request.pop && a->request.pop_alg == b->request.pop_alg);
    CHECK(bytes_eq(a->request.pop_signature, b->request.pop_signature));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t room[SIZE_MAX_HERE], room_again[2 * SIZE_MAX_HERE], built[2 * SIZE_MAX_HERE];
    static struct crmf_request request, again;
    struct writer scratch = writer_of(room, size);
    struct bytes message = bytes_of(data, size);

    if (size > SIZE_MAX_HERE)
        return 0;
    /* what was there before must not show */
    memset(&request, 0x5a, sizeof(request));
    enum err err = crmf_decode(message, &scratch, &request);
    CHECK(err != ERR_NO_SPACE && err == request.err);
    if (err != ERR_OK) {
        CHECK(request.request.pop == POP_NONE && request.request.spki.der.len == 0);
        return 0;
    }
    CHECK(der_is_strict(message));
    check_views(&request, message, writer_view(&scratch));
    if (!can_be_put(&request))
        return 0;
    struct bytes der = put(&request, built, sizeof(built));
    struct writer scratch_again = writer_of(room_again, sizeof(room_again));
    CHECK(crmf_decode(der, &scratch_again, &again) == ERR_OK);
    check_same(&request, &again);
    /* nothing was left out: then it is the same */
    if (der.len == size && request.reg_token.len == 0 && request.old_cert_id.issuer.len == 0)
        CHECK(bytes_eq(der, message));
    return 0;
}
