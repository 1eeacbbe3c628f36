/* Does the CMP client take no octets for a protected answer but those that were made with the secret,
 * and lose nothing of a CSR that it puts into a request?
 *
 * Oracles: what the input says as an answer is never believed; the same octets as contents of a
 * message are carried whole, and that message checks until one of its octets is changed; a CSR and
 * the CertReqMsg made of it ask for the same.
 */
#include <stdlib.h>

#include "proto/cmp_client.h"
#include "tests/fuzz/der_mutator.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

enum { SIZE_MAX_HERE = 8192, ROOM = 128 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct cmp_client_credential credential;
static uint8_t mem[ROOM], scratch[ROOM];

static void setup(void)
{
    struct mac_params params = {
        .kind = MAC_PBM, .hash = HASH_SHA256, .mac = HASH_SHA256, .iterations = 100};
    if (credential.secret_len == 0)
        CHECK(cmp_client_by_secret(BYTES_LIT("fuzz"), BYTES_LIT("a secret of this run"), &params,
                                   &credential) == ERR_OK);
}

static enum err check(const struct cmp_client_ids *ids, struct bytes der, struct cmp_msg *out)
{
    struct cmp_client_checker checker = {
        .credential = &credential, .scratch = scratch, .scratch_cap = sizeof(scratch)};
    bool is_protected = false;
    enum err err = cmp_client_check(&checker, ids, der, 0, out, &is_protected);
    if (err == ERR_OK && !is_protected) {
        CHECK(out->body == CMP_ERROR);
        err = ERR_CMP_WRONG_INTEGRITY;
    }
    cmp_client_checker_clear(&checker);
    return err;
}

/* Under the ids it has itself: all but its protection is right. */
static void as_answer(struct bytes input)
{
    struct cmp_client_ids ids = {0};
    struct cmp_msg msg;
    if (cmp_msg_decode(input, &msg) != ERR_OK)
        return;
    if (msg.header.transaction_id.len == CMP_NONCE_LEN)
        memcpy(ids.transaction_id, msg.header.transaction_id.ptr, CMP_NONCE_LEN);
    if (msg.header.recip_nonce.len == CMP_NONCE_LEN)
        memcpy(ids.nonce, msg.header.recip_nonce.ptr, CMP_NONCE_LEN);
    CHECK(check(&ids, input, &msg) != ERR_OK);
}

static void as_contents(struct bytes input)
{
    struct cmp_client_message message = {.body = CMP_GENP, .content = input, .time_s = 1};
    struct cmp_msg msg;
    size_t len = 0;
    struct bytes nonce = BYTES_ARRAY(message.ids.nonce);
    message.recip_nonce = nonce;
    if (input.len == 0 || !der_is_strict(input))
        return;
    CHECK(cmp_client_build(&credential, &message, mem, sizeof(mem), &len) == ERR_OK);
    CHECK(check(&message.ids, bytes_of(mem, len), &msg) == ERR_OK);
    CHECK(bytes_eq(msg.content, input));
    size_t at = (size_t)(msg.header_and_body.ptr - mem) + input.ptr[input.len - 1] % 64;
    mem[at] ^= 1;
    CHECK(check(&message.ids, bytes_of(mem, len), &msg) != ERR_OK);
}

static void as_csr(struct bytes input)
{
    static struct cert_request csr;
    static struct crmf_request request;
    uint32_t count = 0;
    if (csr_decode(input, &csr) != ERR_OK)
        return;
    struct der_builder list = der_builder_of(mem, sizeof(mem));
    struct bytes der;
    der_open(&list, DER_SEQUENCE);
    CHECK(cmp_client_put_csr(&list, &csr, 0));
    der_close(&list);
    CHECK(der_finish(&list, &der));
    struct writer room = writer_of(scratch, sizeof(scratch));
    CHECK(cmp_cert_reqs_decode(der, &room, &request, 1, &count) == ERR_OK && count == 1);
    if (request.err != ERR_OK) /* a template has narrower rules than a CSR */
        return;
    CHECK(bytes_eq(request.request.spki.der, csr.spki.der));
    CHECK(bytes_eq(request.request.subject, csr.subject));
    CHECK(request.request.extensions.count == csr.extensions.count);
    CHECK(bytes_eq(request.request.san, csr.san));
    CHECK(request.request.pop == POP_RA_VERIFIED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > SIZE_MAX_HERE)
        return 0;
    setup();
    as_answer(bytes_of(data, size));
    as_contents(bytes_of(data, size));
    as_csr(bytes_of(data, size));
    return 0;
}
