#include "proto/cmp_client.h"

#include "asn1/oid.h"
#include "base/secret.h"
#include "crypto/digest.h"

/* A header: two GeneralNames, ids, an algorithm, and what stands around them; then a signature and
 * a chain. */
enum { HEADER_MAX = 2 * (NAME_DER_MAX + 16) + MAC_PARAMS_DER_MAX + 512 };
enum { SIGNER_CHECK_AGAIN_S = 60 };

static const uint8_t NULL_DN[] = {0x30, 0x00};

/* --- who asks --- */

static bool put_directory_name(struct der_builder *out, struct bytes name)
{
    der_open(out, DER_CONTEXT_CONSTRUCTED(GN_DIRECTORY)); /* EXPLICIT, as a CHOICE is */
    der_put_raw(out, name);
    der_close(out);
    return !out->out.failed;
}

static enum err set_sender(struct cmp_client_credential *credential, struct bytes name)
{
    struct der_builder builder = der_builder_of(credential->sender, sizeof(credential->sender));
    if (!put_directory_name(&builder, name))
        return ERR_NO_SPACE;
    credential->sender_len = (uint32_t)builder.out.len;
    return ERR_OK;
}

static enum err set_kid(struct cmp_client_credential *credential, struct bytes kid)
{
    if (kid.len > sizeof(credential->kid))
        return ERR_NO_SPACE;
    if (kid.len > 0)
        memcpy(credential->kid, kid.ptr, kid.len);
    credential->kid_len = (uint32_t)kid.len;
    return ERR_OK;
}

enum err cmp_client_by_key(const struct softkey *key, const struct bytes certs[], uint32_t count,
                           struct cmp_client_credential *out)
{
    struct cmp_client_credential made = {
        .key = key, .alg = sig_alg_default(softkey_alg(key)), .cert_count = count};
    uint8_t spki[SPKI_DER_MAX];
    size_t spki_len = 0;
    struct x509_cert cert;
    if (count == 0 || count > CERT_CHAIN_MAX || x509_decode(certs[0], &cert) != ERR_OK)
        return ERR_BAD_CERT;
    enum err err = softkey_spki(key, spki, sizeof(spki), &spki_len);
    if (err == ERR_OK && !bytes_eq(bytes_of(spki, spki_len), cert.spki.der))
        err = ERR_BAD_KEY;
    struct bytes alg = sig_alg_der(made.alg);
    if (err == ERR_OK && (alg.len == 0 || alg.len > sizeof(made.alg_der)))
        err = ERR_BAD_ALG;
    if (err != ERR_OK)
        return err;
    memcpy(made.certs, certs, count * sizeof(certs[0]));
    memcpy(made.alg_der, alg.ptr, alg.len);
    made.alg_der_len = (uint32_t)alg.len;
    err = set_sender(&made, cert.subject);
    if (err == ERR_OK)
        err = set_kid(&made, cert.ski);
    if (err == ERR_OK)
        *out = made;
    return err;
}

/* RFC 9483 3.1: a MAC's sender is a directoryName with the senderKID as commonName. */
static enum err set_mac_sender(struct cmp_client_credential *credential, struct bytes reference)
{
    uint8_t name[STATION_NAME_MAX + 32];
    struct der_builder builder = der_builder_of(name, sizeof(name));
    struct bytes der;
    der_open(&builder, DER_SEQUENCE);
    der_open(&builder, DER_SET);
    der_open(&builder, DER_SEQUENCE);
    der_put(&builder, DER_OID, OID_AT_COMMON_NAME);
    der_put(&builder, DER_UTF8_STRING, reference);
    der_close(&builder);
    der_close(&builder);
    der_close(&builder);
    return der_finish(&builder, &der) ? set_sender(credential, der) : ERR_NO_SPACE;
}

enum err cmp_client_by_secret(struct bytes reference, struct bytes secret,
                              const struct mac_params *params, struct cmp_client_credential *out)
{
    struct cmp_client_credential made = {.mac = *params};
    size_t alg_len = 0;
    if (secret.len == 0 || secret.len > sizeof(made.secret) || reference.len == 0)
        return ERR_NO_SPACE;
    if (made.mac.salt_len == 0) {
        made.mac.salt_len = 16;
        random_bytes(made.mac.salt, made.mac.salt_len);
    }
    memcpy(made.secret, secret.ptr, secret.len);
    made.secret_len = (uint32_t)secret.len;
    enum err err = mac_params_build(&made.mac, made.alg_der, sizeof(made.alg_der), &alg_len);
    made.alg_der_len = (uint32_t)alg_len;
    if (err == ERR_OK)
        err = mac_key_derive(&made.mac, secret, &made.mac_key);
    if (err == ERR_OK)
        err = set_kid(&made, reference);
    if (err == ERR_OK)
        err = set_mac_sender(&made, reference);
    if (err == ERR_OK)
        *out = made;
    cmp_client_credential_clear(&made);
    return err;
}

void cmp_client_credential_clear(struct cmp_client_credential *credential)
{
    secret_wipe(credential, sizeof(*credential));
}

/* --- messages --- */

size_t cmp_client_room(size_t content_len)
{
    return 2 * (content_len + HEADER_MAX + CMP_MSG_OVERHEAD + SIGNATURE_MAX) +
           CERT_CHAIN_MAX * CERT_DER_MAX;
}

static void put_header(struct der_builder *out, const struct cmp_client_credential *credential,
                       const struct cmp_client_message *message)
{
    static const uint8_t null_dn_name[] = {0xa4, 0x02, 0x30, 0x00};
    uint8_t recipient[NAME_DER_MAX + 8];
    struct der_builder name = der_builder_of(recipient, sizeof(recipient));
    if (!put_directory_name(&name,
                            message->recipient.len > 0 ? message->recipient : BYTES_ARRAY(NULL_DN)))
        out->out.failed = true;
    struct cmp_header header = {
        .pvno = 2,
        .sender = BYTES_ARRAY(null_dn_name),
        .recipient = writer_view(&name.out),
        .has_message_time = message->time_s != 0,
        .message_time_s = message->time_s,
        .transaction_id = BYTES_ARRAY(message->ids.transaction_id),
        .sender_nonce = BYTES_ARRAY(message->ids.nonce),
        .recip_nonce = message->recip_nonce,
        .implicit_confirm = message->implicit_confirm,
    };
    if (credential) {
        header.sender = bytes_of(credential->sender, credential->sender_len);
        header.sender_kid = bytes_of(credential->kid, credential->kid_len);
        header.protection_alg = bytes_of(credential->alg_der, credential->alg_der_len);
    }
    cmp_header_put(out, &header);
}

static enum err protect(const struct cmp_client_credential *credential, struct bytes part,
                        uint8_t out[SIGNATURE_MAX], size_t *out_len)
{
    if (credential->key)
        return softkey_sign(credential->key, credential->alg, part, false, out, SIGNATURE_MAX,
                            out_len);
    mac_compute(&credential->mac_key, &part, 1, out, out_len);
    return ERR_OK;
}

enum err cmp_client_build(const struct cmp_client_credential *credential,
                          const struct cmp_client_message *message, uint8_t *out, size_t cap,
                          size_t *out_len)
{
    size_t scratch_len = message->content.len + HEADER_MAX;
    if (cap < scratch_len)
        return ERR_NO_SPACE;
    /* ProtectedPart is made at the end of out, in one piece: that is what is signed. */
    struct der_builder part = der_builder_of(out + cap - scratch_len, scratch_len);
    struct bytes part_der, header_and_body;
    der_open(&part, DER_SEQUENCE);
    put_header(&part, credential, message);
    cmp_body_open(&part, message->body);
    der_put_raw(&part, message->content);
    der_close(&part);
    der_close(&part);
    if (!der_finish(&part, &part_der))
        return ERR_NO_SPACE;
    struct bytes rest = part_der;
    if (!der_get(&rest, DER_SEQUENCE, &header_and_body))
        return ERR_INTERNAL;
    uint8_t protection[SIGNATURE_MAX];
    size_t protection_len = 0;
    enum err err = credential ? protect(credential, part_der, protection, &protection_len) : ERR_OK;
    if (err != ERR_OK)
        return err;
    struct der_builder whole = der_builder_of(out, cap - scratch_len);
    struct bytes der;
    cmp_msg_put(&whole, header_and_body, bytes_of(protection, protection_len),
                credential ? credential->certs : NULL, credential ? credential->cert_count : 0);
    if (!der_finish(&whole, &der))
        return ERR_NO_SPACE;
    *out_len = der.len;
    return ERR_OK;
}

bool cmp_client_put_csr(struct der_builder *out, const struct cert_request *csr,
                        int64_t cert_req_id)
{
    struct crmf_template template = {.cert_req_id = cert_req_id,
                                     .subject = csr->subject,
                                     .spki = csr->spki.der,
                                     .ra_verified = true};
    uint8_t extensions[CERT_DER_MAX];
    if (csr->extensions.count > 0) { /* they stand one behind the other in the CSR */
        const struct extension *last = &csr->extensions.item[csr->extensions.count - 1];
        const uint8_t *first = csr->extensions.item[0].der.ptr;
        struct der_builder builder = der_builder_of(extensions, sizeof(extensions));
        der_put(&builder, DER_SEQUENCE,
                bytes_of(first, (size_t)(last->der.ptr + last->der.len - first)));
        if (!der_finish(&builder, &template.extensions))
            return false;
    }
    return crmf_put(out, &template, SIG_NONE, NULL, NULL);
}

enum err cmp_client_cert_hash(const struct x509_cert *cert, uint8_t out[DIGEST_LEN_MAX],
                              size_t *out_len)
{
    enum hash_alg hash = sig_alg_hash(cert->sig_alg);
    if (cert->sig_alg == SIG_ED25519)
        hash = HASH_SHA512; /* RFC 9481 3.3 */
    if (hash == HASH_NONE)
        return ERR_BAD_ALG;
    digest_once(hash, cert->der, out);
    *out_len = hash_alg_len(hash);
    return ERR_OK;
}

/* --- answers --- */

void cmp_client_checker_clear(struct cmp_client_checker *checker)
{
    verify_key_free(checker->signer_key);
    secret_wipe(checker, sizeof(*checker));
}

enum err cmp_client_match(struct bytes transaction_id, struct bytes nonce, struct bytes der,
                          struct cmp_msg *out)
{
    struct cmp_msg msg;
    enum err err = cmp_msg_decode(der, &msg);
    if (err != ERR_OK)
        return err;
    if (!bytes_eq(msg.header.transaction_id, transaction_id))
        return ERR_CMP_TRANSACTION;
    if (!bytes_eq(msg.header.recip_nonce, nonce))
        return ERR_CMP_RECIPIENT_NONCE;
    *out = msg;
    return ERR_OK;
}

static bool may_speak_for_a_ca(const struct x509_cert *cert)
{
    return cert->is_ca || (cert->ext_key_usage & (EKU_CMC_CA | EKU_CM_KGA)) != 0;
}

static bool is_pinned(const struct cmp_client_checker *checker, struct bytes der)
{
    for (uint32_t i = 0; i < checker->pinned_count; i++)
        if (bytes_eq(checker->pinned[i], der))
            return true;
    return false;
}

static enum err trust_signer(const struct cmp_client_checker *checker, const struct cmp_msg *msg,
                             const struct x509_cert *cert, int64_t now_s)
{
    const struct trust_anchor *anchor;
    if (cert->has_key_usage && (cert->key_usage & KU_DIGITAL_SIGNATURE) == 0)
        return ERR_CLIENT_CERT_UNTRUSTED;
    if (is_pinned(checker, cert->der))
        return cert->not_before_s <= now_s && now_s <= cert->not_after_s ? ERR_OK
                                                                         : ERR_CLIENT_CERT_EXPIRED;
    if (!checker->anchors || !may_speak_for_a_ca(cert))
        return ERR_CLIENT_CERT_UNTRUSTED;
    uint32_t count =
        msg->extra_cert_count < CERT_CHAIN_MAX ? msg->extra_cert_count : CERT_CHAIN_MAX;
    return path_validate(checker->anchors, msg->extra_certs, count, now_s, &anchor);
}

static void verify_gathered(struct cmp_client_checker *checker)
{
    struct verify_job jobs[CMP_CLIENT_GATHERED_MAX], *all[CMP_CLIENT_GATHERED_MAX];
    uint32_t count = checker->gathered_count;
    if (count == 0)
        return;
    for (uint32_t i = 0; i < count; i++) {
        const struct cmp_client_gathered *gathered = &checker->gathered[i];
        jobs[i] = (struct verify_job){
            .alg = SIG_ECDSA_SHA256,
            .key = checker->signer_key,
            .digest = BYTES_ARRAY(gathered->digest),
            .signature = bytes_of(gathered->signature, gathered->signature_len),
        };
        all[i] = &jobs[i];
    }
    verify_batch(all, count);
    for (uint32_t i = 0; i < count; i++)
        checker->bad += jobs[i].result != ERR_OK;
    checker->gathered_count = 0;
}

uint64_t cmp_client_settle(struct cmp_client_checker *checker)
{
    verify_gathered(checker);
    uint64_t bad = checker->bad;
    checker->bad = 0;
    return bad;
}

/* false: this one is to be verified at once. */
static bool gather(struct cmp_client_checker *checker, const struct verify_job *job)
{
    if (!checker->gathers || job->alg != SIG_ECDSA_SHA256 ||
        checker->signer.spki.alg != KEY_EC_P256 || job->signature.len > ECDSA_P256_DER_MAX)
        return false;
    struct cmp_client_gathered *next = &checker->gathered[checker->gathered_count++];
    memcpy(next->digest, job->digest.ptr, sizeof(next->digest));
    memcpy(next->signature, job->signature.ptr, job->signature.len);
    next->signature_len = (uint32_t)job->signature.len;
    if (checker->gathered_count == CMP_CLIENT_GATHERED_MAX)
        verify_gathered(checker);
    return true;
}

/* extraCerts[0], as it was last time or looked at anew. */
static enum err find_signer(struct cmp_client_checker *checker, const struct cmp_msg *msg,
                            int64_t now_s)
{
    struct x509_cert cert;
    struct bytes der = msg->extra_certs[0];
    if (msg->extra_cert_count == 0)
        return ERR_CMP_MESSAGE_CHECK;
    if (checker->signer_key && bytes_eq(der, checker->signer.der) &&
        now_s - checker->signer_checked_s < SIGNER_CHECK_AGAIN_S)
        return ERR_OK;
    if (der.len > sizeof(checker->signer_der) || x509_decode(der, &cert) != ERR_OK)
        return ERR_BAD_CERT;
    enum err err = trust_signer(checker, msg, &cert, now_s);
    if (err != ERR_OK)
        return err;
    struct verify_key *key = verify_key_new(&cert.spki);
    if (!key)
        return ERR_BAD_KEY;
    verify_gathered(checker);
    verify_key_free(checker->signer_key);
    checker->signer_key = NULL;
    memcpy(checker->signer_der, der.ptr, der.len);
    err = x509_decode(bytes_of(checker->signer_der, der.len), &checker->signer);
    if (err != ERR_OK) {
        verify_key_free(key);
        return err;
    }
    checker->signer_key = key;
    checker->signer_checked_s = now_s;
    return ERR_OK;
}

/* What is signed, ready for verify: as a digest, or in one piece where the algorithm is not over
 * SHA-256. */
static bool signed_bytes(const struct cmp_client_checker *checker, const struct cmp_msg *msg,
                         enum sig_alg alg, uint8_t digest[SHA256_LEN], struct verify_job *job)
{
    uint8_t head[8];
    struct bytes part[2];
    cmp_protected_part(msg, head, part);
    if (sig_alg_hash(alg) == HASH_SHA256) {
        struct sha256_stream stream;
        sha256_start(&stream);
        sha256_update(&stream, part[0]);
        sha256_update(&stream, part[1]);
        sha256_finish(&stream, digest);
        job->digest = bytes_of(digest, SHA256_LEN);
        return true;
    }
    struct writer piece = writer_of(checker->scratch, checker->scratch_cap);
    writer_put(&piece, part[0]);
    writer_put(&piece, part[1]);
    job->message = writer_view(&piece);
    return !piece.failed;
}

static enum err check_signature(struct cmp_client_checker *checker, const struct cmp_msg *msg,
                                int64_t now_s)
{
    enum err err = find_signer(checker, msg, now_s);
    if (err != ERR_OK)
        return err;
    const struct x509_cert *cert = &checker->signer;
    if (!bytes_eq(msg->header.sender_name, cert->subject) ||
        (msg->header.sender_kid.len > 0 && cert->ski.len > 0 &&
         !bytes_eq(msg->header.sender_kid, cert->ski)))
        return ERR_CMP_MESSAGE_CHECK;
    enum sig_alg alg = sig_alg_from_der(msg->header.protection_alg);
    if (alg == SIG_NONE || !sig_alg_fits(alg, cert->spki.alg))
        return ERR_BAD_ALG;
    uint8_t digest[SHA256_LEN];
    struct verify_job job = {.alg = alg, .key = checker->signer_key, .signature = msg->protection};
    if (!signed_bytes(checker, msg, alg, digest, &job))
        return ERR_NO_SPACE;
    if (gather(checker, &job))
        return ERR_OK;
    return verify_one(&job) == ERR_OK ? ERR_OK : ERR_CMP_MESSAGE_CHECK;
}

static bool same_params(const struct mac_params *a, const struct mac_params *b)
{
    return a->kind == b->kind && a->hash == b->hash && a->mac == b->mac &&
           a->iterations == b->iterations && a->key_len == b->key_len &&
           bytes_eq(bytes_of(a->salt, a->salt_len), bytes_of(b->salt, b->salt_len));
}

/* The key for these parameters: the credential's own, the last one, or a new one. */
static enum err find_mac_key(struct cmp_client_checker *checker, const struct mac_params *params,
                             const struct mac_key **out)
{
    const struct cmp_client_credential *credential = checker->credential;
    if (!credential || credential->secret_len == 0)
        return ERR_CMP_WRONG_INTEGRITY;
    if (same_params(params, &credential->mac)) {
        *out = &credential->mac_key;
        return ERR_OK;
    }
    if (!same_params(params, &checker->mac)) {
        checker->mac = (struct mac_params){0};
        enum err err = mac_key_derive(params, bytes_of(credential->secret, credential->secret_len),
                                      &checker->mac_key);
        if (err != ERR_OK)
            return err;
        checker->mac = *params;
    }
    *out = &checker->mac_key;
    return ERR_OK;
}

static enum err check_mac(struct cmp_client_checker *checker, const struct cmp_msg *msg,
                          const struct mac_params *params)
{
    const struct mac_key *key;
    enum err err = find_mac_key(checker, params, &key);
    if (err != ERR_OK)
        return err;
    uint8_t head[8];
    struct bytes part[2];
    cmp_protected_part(msg, head, part);
    err = mac_verify(key, part, 2, msg->protection);
    return err == ERR_OK ? ERR_OK : ERR_CMP_MESSAGE_CHECK;
}

enum err cmp_client_check(struct cmp_client_checker *checker, const struct cmp_client_ids *sent,
                          struct bytes der, int64_t now_s, struct cmp_msg *out, bool *out_protected)
{
    struct cmp_msg msg;
    struct mac_params params;
    enum err err =
        cmp_client_match(BYTES_ARRAY(sent->transaction_id), BYTES_ARRAY(sent->nonce), der, &msg);
    if (err != ERR_OK)
        return err;
    if (!msg.has_protection) {
        if (msg.body != CMP_ERROR)
            return ERR_CMP_WRONG_INTEGRITY;
    } else {
        err = mac_params_decode(msg.header.protection_alg, &params) == ERR_OK
                  ? check_mac(checker, &msg, &params)
                  : check_signature(checker, &msg, now_s);
        if (err != ERR_OK)
            return err;
    }
    *out = msg;
    *out_protected = msg.has_protection;
    return ERR_OK;
}
