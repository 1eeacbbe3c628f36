/* CMP's part of a snapshot: shared secrets, the keys that sign answers, what lines grant. */
#include <stdlib.h>

#include "asn1/der.h"
#include "base/secret.h"
#include "crypto/softkey.h"
#include "pipeline/snapshot_impl.h"

/* --- shared secrets --- */

enum err snapshot_cmp_station(struct compile *c, const struct config_station *from,
                              struct rt_station *station)
{
    if (!from->cmp_secret_file) {
        return ERR_OK;
    }
    size_t len = 0;
    char *text = snapshot_read_file(c, from->cmp_secret_file, &len);
    if (!text) {
        return ERR_CONFIG;
    }
    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == '\r')) {
        len--;
    }
    station->cmp_reference = from->cmp_reference;
    station->cmp_secret = bytes_of(text, len);
    if (len < CMP_SECRET_MIN || len > CMP_SECRET_MAX) {
        return snapshot_fail(c, "station %s: the secret in %s has %zu octets, expected %d to %d",
                             from->name, from->cmp_secret_file, len, CMP_SECRET_MIN,
                             CMP_SECRET_MAX);
    }
    return ERR_OK;
}

/* --- signers --- */

static enum err add_chain(struct compile *c, void *ctx, struct bytes der)
{
    struct rt_signer *signer = ctx;
    if (signer->chain_count == CERT_CHAIN_MAX) {
        return snapshot_fail(c, "cmp_signer %s: more than %d certificates in its chain",
                             signer->name, CERT_CHAIN_MAX);
    }
    uint8_t *copy = malloc(der.len);
    if (!copy) {
        return ERR_NO_SPACE;
    }
    memcpy(copy, der.ptr, der.len);
    signer->chain[signer->chain_count++] = bytes_of(copy, der.len);
    return ERR_OK;
}

static enum err load_key(struct compile *c, const struct config_cmp_signer *from,
                         struct rt_signer *signer)
{
    size_t len = 0;
    char *text = snapshot_read_file(c, from->key_file, &len);
    if (!text) {
        return ERR_CONFIG;
    }
    enum err err = softkey_import_pem(bytes_of(text, len), &signer->key);
    secret_wipe(text, len);
    free(text);
    if (err != ERR_OK) {
        return snapshot_fail(c, "cmp_signer %s: %s is no private key in PEM without a password",
                             from->name, from->key_file);
    }
    uint8_t spki[SPKI_DER_MAX];
    size_t spki_len = 0;
    if (softkey_spki(signer->key, spki, sizeof(spki), &spki_len) != ERR_OK ||
        !bytes_eq(bytes_of(spki, spki_len), signer->cert.spki.der)) {
        return snapshot_fail(c, "cmp_signer %s: %s is not the key of %s", from->name,
                             from->key_file, from->certificate);
    }
    return ERR_OK;
}

/* Keys in tokens come after those of the CAs, in the order of the configuration (snapshot_hsm_keys). */
static uint32_t key_index_of(const struct config *config, uint32_t signer_index)
{
    uint32_t key_index = config->cas_count;
    for (uint32_t i = 0; i < signer_index; i++) {
        key_index += config->cmp_signers[i].key != NULL;
    }
    return key_index;
}

static enum err build_sender(struct compile *c, struct rt_signer *signer)
{
    uint8_t *der = malloc(NAME_DER_MAX + 8);
    struct der_builder builder = der_builder_of(der, der ? NAME_DER_MAX + 8 : 0);
    der_open(&builder, DER_CONTEXT_CONSTRUCTED(4)); /* directoryName, EXPLICIT as a CHOICE is */
    der_put_raw(&builder, signer->cert.subject);
    der_close(&builder);
    if (!der_finish(&builder, &signer->sender)) {
        free(der);
        return snapshot_fail(c, "cmp_signer %s: its subject is too long", signer->name);
    }
    return ERR_OK;
}

enum err snapshot_cmp_signer(struct compile *c, uint32_t index)
{
    const struct config_cmp_signer *from = &c->config->cmp_signers[index];
    struct rt_signer *signer = &c->snapshot->signers[index];
    c->snapshot->signer_count++;
    signer->name = from->name;
    signer->key_index = key_index_of(c->config, index);
    enum err err = snapshot_each_cert(c, from->certificate, add_chain, signer);
    for (uint32_t i = 0; i < from->chain_count && err == ERR_OK; i++) {
        err = snapshot_each_cert(c, from->chain[i], add_chain, signer);
    }
    if (err != ERR_OK) {
        return err;
    }
    const struct x509_cert *cert = &signer->cert;
    err = x509_decode(signer->chain[0], &signer->cert);
    signer->alg = err == ERR_OK ? sig_alg_default(cert->spki.alg) : SIG_NONE;
    if (signer->alg == SIG_NONE || name_is_empty(cert->subject) || cert->ski.len == 0 ||
        (cert->has_key_usage && (cert->key_usage & KU_DIGITAL_SIGNATURE) == 0)) {
        return snapshot_fail(c,
                             "cmp_signer %s: %s must have a subject, a subjectKeyIdentifier and "
                             "keyUsage digitalSignature (RFC 9483 3.2)",
                             from->name, from->certificate);
    }
    if (from->key && sig_alg_hash(signer->alg) == HASH_NONE) {
        return snapshot_fail(c,
                             "cmp_signer %s: a token cannot sign answers longer than %d octets with "
                             "%s: use a key that signs digests (ECDSA, RSA)",
                             from->name, SIGN_INPUT_MAX, sig_alg_name(signer->alg));
    }
    if (from->key_file) {
        err = load_key(c, from, signer);
    } else if ((signer->verify_key = verify_key_new(&cert->spki)) == NULL) {
        err = snapshot_fail(c, "cmp_signer %s: the key of %s is of a kind that is not supported",
                            from->name, from->certificate);
    }
    return err == ERR_OK ? build_sender(c, signer) : err;
}

/* --- lines --- */

/* Without a signer: a name of our own, the CA's. */
static const uint8_t NULL_DN_NAME[] = {0xa4, 0x02, 0x30, 0x00};

static const struct rt_signer *find_signer(const struct snapshot *snapshot, const char *name)
{
    for (uint32_t i = 0; name && i < snapshot->signer_count; i++) {
        if (strcmp(snapshot->signers[i].name, name) == 0) {
            return &snapshot->signers[i];
        }
    }
    return NULL;
}

static bool is_self_signed(const struct x509_cert *cert)
{
    struct verify_job job = {
        .alg = cert->sig_alg,
        .spki = &cert->spki,
        .message = cert->tbs,
        .signature = cert->signature,
    };
    return bytes_eq(cert->subject, cert->issuer) && verify_one(&job) == ERR_OK;
}

/* The CA's own certificate or one of its chain; what it had before comes after those. */
static void find_root(const struct rt_ca *ca, struct proto_cmp_line *cmp)
{
    const uint8_t *past = ca->previous_count > 0 ? ca->previous[0].cert.der.ptr : NULL;
    for (uint32_t i = 0; i < ca->chain_count && ca->chain[i].ptr != past; i++) {
        struct x509_cert cert;
        if (x509_decode(ca->chain[i], &cert) == ERR_OK && is_self_signed(&cert)) {
            cmp->root_cert = ca->chain[i];
            break;
        }
    }
    if (!bytes_eq(cmp->root_cert, ca->cert_der)) {
        return; /* the root is another's, who knows its rollovers */
    }
    cmp->root_new_with_old = ca->new_with_old;
    cmp->root_old_with_new = ca->old_with_new;
    cmp->root_old_count = ca->previous_count;
    for (uint32_t i = 0; i < ca->previous_count; i++) {
        cmp->root_olds[i] = ca->previous[i].cert.der;
    }
}

enum err snapshot_cmp_line(struct compile *c, const struct profile_config *settings,
                           struct rt_line *line)
{
    const struct config_cmp *from = line->config->cmp;
    struct proto_cmp_line *cmp = &line->cmp;
    int64_t confirm_wait_s = 0, window_s = 0;
    if (!config_duration(from->confirm_wait, &confirm_wait_s) ||
        !config_duration(from->time_window, &window_s)) {
        return snapshot_fail(c, "line %s: cmp durations are malformed", line->name);
    }
    *cmp = (struct proto_cmp_line){
        .strict = strcmp(from->mode, "strict") == 0,
        .implicit_confirm = from->implicit_confirm,
        .lenient_sender = from->lenient_sender,
        .require_time = from->require_time,
        .batch_fails_whole = strcmp(from->batch, "whole") == 0,
        .requests_max = from->requests_max,
        .confirm_wait_s = (uint32_t)confirm_wait_s,
        .time_window_s = window_s < 0 ? 0 : (uint32_t)window_s,
        .poll_after_s = from->poll_after,
        .keygen = from->keygen,
        .ca_name = line->ca->cert.subject,
        .crl_url = settings->crl_url ? bytes_of_str(settings->crl_url) : (struct bytes){0},
        .sender = BYTES_ARRAY(NULL_DN_NAME),
        .rsa_bits_min = settings->rsa_bits_min ? settings->rsa_bits_min : 2048,
        .key_alg_count = settings->key_alg_count,
    };
    memcpy(cmp->key_algs, settings->key_algs, sizeof(cmp->key_algs));
    find_root(line->ca, cmp);
    line->signer = find_signer(c->snapshot, from->signer);
    if (cmp->keygen && (!line->signer || !line->signer->key ||
                        (line->signer->cert.ext_key_usage & EKU_CM_KGA) == 0)) {
        return snapshot_fail(c,
                             "line %s: cmp keygen needs a signer with a key_file and a certificate "
                             "with extended key usage cmKGA (1.3.6.1.5.5.7.3.32; RFC 9810 4.5)",
                             line->name);
    }
    if (line->signer) {
        cmp->sender = line->signer->sender;
        cmp->sender_kid = line->signer->cert.ski;
        cmp->sender_alg = line->signer->alg;
        cmp->sender_cert_count = line->signer->chain_count;
        memcpy(cmp->sender_certs, line->signer->chain, sizeof(cmp->sender_certs));
    }
    line->proto.cmp = cmp;
    return ERR_OK;
}

void snapshot_cmp_free(struct snapshot *snapshot)
{
    for (uint32_t i = 0; i < snapshot->station_count; i++) {
        struct bytes secret = snapshot->stations[i].cmp_secret;
        if (secret.ptr) {
            secret_wipe((void *)(uintptr_t)secret.ptr, secret.len);
            free((void *)(uintptr_t)secret.ptr);
        }
    }
    for (uint32_t i = 0; i < snapshot->signer_count; i++) {
        struct rt_signer *signer = &snapshot->signers[i];
        for (uint32_t k = 0; k < signer->chain_count; k++) {
            free((void *)(uintptr_t)signer->chain[k].ptr);
        }
        free((void *)(uintptr_t)signer->sender.ptr);
        softkey_free(signer->key);
        verify_key_free(signer->verify_key);
    }
}
