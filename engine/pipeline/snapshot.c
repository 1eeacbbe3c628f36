#include "pipeline/snapshot_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "asn1/cms.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "crypto/password.h"
#include "proto/est.h"

enum { PEM_FILE_MAX = 256 * 1024, CSR_ATTRS_MAX = 1024 };

enum err snapshot_fail(struct compile *c, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(c->detail, CONFIG_ERROR_MAX, fmt, args);
    va_end(args);
    return ERR_CONFIG;
}

/* --- files --- */

char *snapshot_read_file(struct compile *c, const char *name, size_t *out_len)
{
    char *path = config_path(c->config, name);
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    struct stat info;
    char *text = NULL;
    if (fd < 0 || fstat(fd, &info) != 0) {
        snapshot_fail(c, "%s: %s", path ? path : name, strerror(errno));
    } else if (info.st_size > PEM_FILE_MAX) {
        snapshot_fail(c, "%s: larger than %d bytes: not a certificate file", path, PEM_FILE_MAX);
    } else if ((text = malloc((size_t)info.st_size + 1)) != NULL) {
        ssize_t got = read(fd, text, (size_t)info.st_size);
        *out_len = got > 0 ? (size_t)got : 0;
        text[*out_len] = 0;
    }
    if (fd >= 0) {
        close(fd);
    }
    free(path);
    return text;
}

enum err snapshot_each_cert(struct compile *c, const char *name, cert_fn fn, void *ctx)
{
    size_t len = 0;
    char *text = snapshot_read_file(c, name, &len);
    if (!text) {
        return ERR_CONFIG;
    }
    uint8_t der[CERT_DER_MAX];
    struct bytes reader = bytes_of(text, len);
    size_t der_len = 0;
    uint32_t found = 0;
    enum err err;
    while ((err = pem_next(&reader, "CERTIFICATE", der, sizeof(der), &der_len)) == ERR_OK) {
        found++;
        err = fn(c, ctx, bytes_of(der, der_len));
        if (err != ERR_OK) {
            break;
        }
    }
    free(text);
    if (err == ERR_NOT_FOUND && found > 0) {
        return ERR_OK;
    }
    if (c->detail[0] == 0) {
        snapshot_fail(c, "%s: %s", name,
             err == ERR_NOT_FOUND ? "no PEM CERTIFICATE in it" : err_sentence(err));
    }
    return ERR_CONFIG;
}

/* --- certification authorities --- */

static enum err add_chain(struct compile *c, void *ctx, struct bytes der)
{
    struct rt_ca *ca = ctx;
    struct x509_cert cert;
    if (x509_decode(der, &cert) != ERR_OK) {
        return snapshot_fail(c, "ca %s: a certificate of its chain is malformed", ca->name);
    }
    if (ca->chain_count == CA_CERTS_MAX) {
        return snapshot_fail(c, "ca %s: more than %d certificates in certificate, chain and previous",
                    ca->name, CA_CERTS_MAX);
    }
    for (uint32_t i = 0; i < ca->chain_count; i++) {
        if (bytes_eq(ca->chain[i], der)) {
            return ERR_OK; /* published once */
        }
    }
    uint8_t *copy = malloc(der.len);
    if (!copy) {
        return ERR_NO_SPACE;
    }
    memcpy(copy, der.ptr, der.len);
    ca->chain[ca->chain_count++] = bytes_of(copy, der.len);
    return ERR_OK;
}

static enum err build_chain_cms(struct compile *c, struct rt_ca *ca)
{
    size_t cap = cms_certs_only_bound(ca->chain, ca->chain_count);
    uint8_t *cms = malloc(cap);
    size_t len = 0;
    if (!cms || cms_certs_only_build(ca->chain, ca->chain_count, cms, cap, &len) != ERR_OK) {
        free(cms);
        return snapshot_fail(c, "ca %s: its chain does not fit a certs-only message", ca->name);
    }
    ca->chain_cms = bytes_of(cms, len);
    return ERR_OK;
}

static uint32_t smallest_verify_share(const struct config *config, const struct config_ca *ca)
{
    uint32_t share = 0;
    for (uint32_t i = 0; i < config->tokens_count; i++) {
        bool used = ca->tokens_count == 0;
        for (uint32_t k = 0; k < ca->tokens_count; k++) {
            used |= strcmp(ca->tokens[k], config->tokens[i].name) == 0;
        }
        uint32_t one_in = config->tokens[i].verify_one_in;
        if (used && (share == 0 || one_in < share)) {
            share = one_in;
        }
    }
    return share == 0 ? 1 : share;
}

/* The store's number for what a key issued: it survives a new certificate for the same key. */
static enum err number_issuer(struct compile *c, const struct rt_ca *ca,
                              const struct x509_cert *cert, uint32_t *out_id)
{
    struct sha256_stream stream;
    uint8_t hash[SHA256_LEN];
    sha256_start(&stream);
    sha256_update(&stream, cert->spki.der);
    sha256_update(&stream, cert->subject);
    sha256_finish(&stream, hash);
    if (c->store && store_issuer_id(c->store, hash, out_id) != ERR_OK) {
        return snapshot_fail(c, "ca %s: the store gave it no number", ca->name);
    }
    return ERR_OK;
}

/* The one certificate of a file, which is published: a view of it. */
static enum err add_only(struct compile *c, struct rt_ca *ca, const char *name, struct bytes *out)
{
    uint32_t before = ca->chain_count;
    enum err err = snapshot_each_cert(c, name, add_chain, ca);
    if (err == ERR_OK && ca->chain_count != before + 1) {
        err = snapshot_fail(c, "ca %s: %s: expected one certificate that no other file has", ca->name, name);
    }
    if (err == ERR_OK) {
        *out = ca->chain[before];
    }
    return err;
}

static enum err compile_rollover(struct compile *c, const struct config_ca *from, struct rt_ca *ca)
{
    enum err err = ERR_OK;
    for (uint32_t i = 0; i < from->previous_count && err == ERR_OK; i++) {
        struct rt_issuer *issuer = &ca->previous[i];
        struct bytes der;
        err = add_only(c, ca, from->previous[i], &der);
        if (err == ERR_OK && x509_decode(der, &issuer->cert) == ERR_OK) {
            err = number_issuer(c, ca, &issuer->cert, &issuer->issuer_id);
            ca->previous_count++;
        }
    }
    if (err == ERR_OK && from->old_with_new) {
        err = add_only(c, ca, from->old_with_new, &ca->old_with_new);
    }
    if (err == ERR_OK && from->new_with_old) {
        err = add_only(c, ca, from->new_with_old, &ca->new_with_old);
    }
    const char *problem = err == ERR_OK ? rt_ca_rollover_problem(ca) : NULL;
    return problem ? snapshot_fail(c, "ca %s: %s", ca->name, problem) : err;
}

static enum err compile_ca(struct compile *c, uint32_t index)
{
    const struct config_ca *from = &c->config->cas[index];
    struct rt_ca *ca = &c->snapshot->cas[index];
    ca->name = from->name;
    ca->key_index = index;
    c->snapshot->ca_count++;
    enum err err = snapshot_each_cert(c, from->certificate, add_chain, ca);
    for (uint32_t i = 0; i < from->chain_count && err == ERR_OK; i++) {
        err = snapshot_each_cert(c, from->chain[i], add_chain, ca);
    }
    if (err != ERR_OK) {
        return err;
    }
    ca->cert_der = ca->chain[0];
    err = x509_decode(ca->cert_der, &ca->cert);
    if (err != ERR_OK || !ca->cert.is_ca ||
        (ca->cert.has_key_usage && (ca->cert.key_usage & KU_KEY_CERT_SIGN) == 0)) {
        return snapshot_fail(c, "ca %s: %s is not a CA certificate (basicConstraints CA:TRUE, keyCertSign)",
                    ca->name, from->certificate);
    }
    ca->sig_alg = sig_alg_default(ca->cert.spki.alg);
    ca->key = verify_key_new(&ca->cert.spki);
    if (!ca->key || ca->sig_alg == SIG_NONE) {
        return snapshot_fail(c, "ca %s: its key is of a kind that is not supported", ca->name);
    }
    if (!ca->cert.has_key_usage || (ca->cert.key_usage & KU_CRL_SIGN) != 0) {
        ca->crl = &from->crl; /* RFC 5280 4.2.1.3: cRLSign */
    }
    ca->verify_one_in = smallest_verify_share(c->config, from);
    err = number_issuer(c, ca, &ca->cert, &ca->issuer_id);
    if (err == ERR_OK) {
        err = compile_rollover(c, from, ca);
    }
    return err == ERR_OK ? build_chain_cms(c, ca) : err;
}

/* --- stations --- */

struct role_name {
    const char *name;
    uint32_t role;
};
static const struct role_name ROLE_NAMES[] = {{"enroll", ROLE_ENROLL},
                                              {"rework", ROLE_REWORK},
                                              {"confirm", ROLE_CONFIRM},
                                              {"revoke", ROLE_REVOKE},
                                              {"ra", ROLE_RA}};

static enum err compile_station(struct compile *c, uint32_t index)
{
    const struct config_station *from = &c->config->stations[index];
    struct rt_station *station = &c->snapshot->stations[index];
    c->snapshot->station_count++;
    station->name = from->name;
    station->password_hash = from->password_hash;
    if (from->password_hash && !password_hash_is_valid(from->password_hash)) {
        return snapshot_fail(c,
                    "station %s: password_hash is not a slow crypt(5) hash; make one with "
                    "`certmill station hash-password`",
                    from->name);
    }
    if (from->certificate_subject &&
        !name_from_text(from->certificate_subject, station->subject_der, NAME_DER_MAX,
                        &station->subject_len)) {
        return snapshot_fail(c, "station %s: certificate_subject is not like CN=station-3,O=Example",
                    from->name);
    }
    station->roles = from->roles_count == 0 ? ROLE_ENROLL | ROLE_CONFIRM : 0;
    for (uint32_t i = 0; i < from->roles_count; i++) {
        for (size_t k = 0; k < sizeof(ROLE_NAMES) / sizeof(ROLE_NAMES[0]); k++) {
            if (strcmp(ROLE_NAMES[k].name, from->roles[i]) == 0) {
                station->roles |= ROLE_NAMES[k].role;
            }
        }
    }
    enum err err = snapshot_cmp_station(c, from, station);
    if (err != ERR_OK) {
        return err;
    }
    station->line_mask = from->lines_count == 0 ? UINT64_MAX : 0;
    for (uint32_t i = 0; i < from->lines_count; i++) {
        for (uint32_t k = 0; k < c->config->lines_count; k++) {
            if (strcmp(from->lines[i], c->config->lines[k].name) == 0) {
                station->line_mask |= 1ull << k;
            }
        }
    }
    return ERR_OK;
}
_Static_assert(LINES_MAX <= 64, "a line is a bit of line_mask");

/* --- profiles and lines --- */

static const struct config_profile *find_profile(const struct config *config, const char *name)
{
    for (uint32_t i = 0; i < config->profiles_count; i++) {
        if (strcmp(config->profiles[i].name, name) == 0) {
            return &config->profiles[i];
        }
    }
    return NULL;
}

struct bit_name {
    const char *name;
    uint32_t bit;
};
static const struct bit_name KEY_USAGE_NAMES[] = {
    {"digitalSignature", KU_DIGITAL_SIGNATURE},   {"nonRepudiation", KU_CONTENT_COMMITMENT},
    {"contentCommitment", KU_CONTENT_COMMITMENT}, {"keyEncipherment", KU_KEY_ENCIPHERMENT},
    {"dataEncipherment", KU_DATA_ENCIPHERMENT},   {"keyAgreement", KU_KEY_AGREEMENT}};
static const struct bit_name EXT_KEY_USAGE_NAMES[] = {
    {"serverAuth", EKU_SERVER_AUTH}, {"clientAuth", EKU_CLIENT_AUTH}, {"cmcRA", EKU_CMC_RA}};

static bool bits_of(char *const *words, uint32_t count, const struct bit_name *names,
                    size_t name_count, uint32_t *out)
{
    *out = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bit = 0;
        for (size_t k = 0; k < name_count; k++) {
            bit |= strcmp(names[k].name, words[i]) == 0 ? names[k].bit : 0;
        }
        if (bit == 0) {
            return false;
        }
        *out |= bit;
    }
    return true;
}

#define BITS_OF(words, count, names, out)                                                          \
    bits_of(words, count, names, sizeof(names) / sizeof((names)[0]), out)

static enum err profile_settings_of(struct compile *c, const struct config_profile *from,
                                    struct profile_config *out)
{
    bool idevid = strcmp(from->base, "idevid") == 0;
    *out = (struct profile_config){
        .name = from->name,
        .base = idevid ? PROFILE_IDEVID : PROFILE_TLS_DEVICE,
        .server_auth = from->server_auth,
        .san =
            from->san && strcmp(from->san, "forbidden") == 0 ? TAKE_FORBIDDEN : TAKE_FROM_REQUEST,
        .subject_suffix = from->subject,
        .crl_url = from->crl_url,
    };
    int64_t seconds = 0;
    if (from->validity) {
        if (!config_duration(from->validity, &seconds)) {
            return snapshot_fail(c, "profile %s: validity '%s' is not like 398d, 10y or none", from->name,
                        from->validity);
        }
        out->no_expiry = seconds < 0;
        out->validity_s = seconds < 0 ? 0 : seconds;
    }
    if (from->backdate && !config_duration(from->backdate, &out->backdate_s)) {
        return snapshot_fail(c, "profile %s: backdate '%s' is not like 60s", from->name, from->backdate);
    }
    if (!BITS_OF(from->key_usage, from->key_usage_count, KEY_USAGE_NAMES, &out->key_usage) ||
        !BITS_OF(from->ext_key_usage, from->ext_key_usage_count, EXT_KEY_USAGE_NAMES,
                 &out->ext_key_usage)) {
        return snapshot_fail(c, "profile %s: unknown name in key_usage or ext_key_usage", from->name);
    }
    for (uint32_t i = 0; i < from->keys_count; i++) {
        enum key_alg alg;
        uint32_t bits = 0;
        if (!key_alg_from_name(from->keys[i], &alg, &bits)) {
            return snapshot_fail(c, "profile %s: unknown key type '%s'", from->name, from->keys[i]);
        }
        bool known = false;
        for (uint32_t k = 0; k < out->key_alg_count; k++) {
            known |= out->key_algs[k] == alg;
        }
        if (!known) {
            out->key_algs[out->key_alg_count++] = alg;
        }
        if (alg == KEY_RSA && (out->rsa_bits_min == 0 || bits < out->rsa_bits_min)) {
            out->rsa_bits_min = bits;
        }
    }
    return ERR_OK;
}

static enum err add_anchor(struct compile *c, void *ctx, struct bytes der)
{
    enum err err = trust_store_add(ctx, der);
    return err == ERR_OK ? ERR_OK : snapshot_fail(c, "a trust anchor cannot be used: %s", err_sentence(err));
}

static enum err build_csr_attrs(struct compile *c, struct rt_line *line,
                                const struct profile_config *settings)
{
    struct est_csr_attrs attrs = {
        .rsa_bits = settings->rsa_bits_min ? settings->rsa_bits_min : 2048,
        .key_alg_count = settings->key_alg_count,
        .want_challenge_password = line->config->require_pop_link,
        .ext_key_usage = settings->ext_key_usage,
    };
    memcpy(attrs.key_algs, settings->key_algs, sizeof(attrs.key_algs));
    uint8_t der[CSR_ATTRS_MAX];
    size_t len = 0;
    if (est_csr_attrs_build(&attrs, der, sizeof(der), &len) != ERR_OK) {
        return snapshot_fail(c, "line %s: its csrattrs do not fit", line->name);
    }
    uint8_t *copy = len > 0 ? malloc(len) : NULL;
    if (copy) {
        memcpy(copy, der, len);
        line->proto.csr_attrs = bytes_of(copy, len);
    }
    return ERR_OK;
}

static const struct rt_ca *find_ca(const struct snapshot *snapshot, const char *name)
{
    for (uint32_t i = 0; i < snapshot->ca_count; i++) {
        if (strcmp(snapshot->cas[i].name, name) == 0) {
            return &snapshot->cas[i];
        }
    }
    return NULL;
}

static enum err compile_line(struct compile *c, uint32_t index)
{
    const struct config_line *from = &c->config->lines[index];
    struct rt_line *line = &c->snapshot->lines[index];
    c->snapshot->line_count++;
    line->name = from->name;
    line->index = index;
    line->config = from;
    line->ca = find_ca(c->snapshot, from->ca);
    const struct config_profile *profile = find_profile(c->config, from->profile);
    if (!line->ca || !profile) {
        return snapshot_fail(c, "line %s: unknown ca or profile", from->name);
    }
    if (est_is_operation_name(bytes_of_str(from->name))) {
        return snapshot_fail(c, "line %s: a line may not be called like an EST operation (RFC 7030 3.2.2)",
                    from->name);
    }
    if (!identity_source_from_name(from->device_id, &line->device_id)) {
        return snapshot_fail(c, "line %s: device_id '%s' is not one of the known rules", from->name,
                    from->device_id);
    }
    struct profile_config settings;
    char detail[256] = "";
    enum err err = profile_settings_of(c, profile, &settings);
    if (err == ERR_OK) {
        err = profile_compile(&settings, &line->ca->cert, &line->profile, detail);
        if (err != ERR_OK) {
            snapshot_fail(c, "profile %s: %s", from->profile, detail);
        }
    }
    line->anchors = calloc(1, sizeof(*line->anchors));
    if (!line->anchors) {
        return ERR_NO_SPACE;
    }
    for (uint32_t i = 0; i < from->trust_anchors_count && err == ERR_OK; i++) {
        err = snapshot_each_cert(c, from->trust_anchors[i], add_anchor, line->anchors);
    }
    if (err == ERR_OK && c->store &&
        store_line_id(c->store, from->name, &line->line_id) != ERR_OK) {
        err = snapshot_fail(c, "line %s: the store gave it no number", from->name);
    }
    line->proto = (struct proto_line){
        .name = from->name,
        .ca_certs = line->ca->chain,
        .ca_cert_count = line->ca->chain_count,
        .ca_certs_cms = line->ca->chain_cms,
        .base64_wrap = from->base64_wrap,
        .offer_confirm = from->confirm,
    };
    if (err == ERR_OK && from->cmp) {
        err = snapshot_cmp_line(c, &settings, line);
    }
    if (c->config->default_line && strcmp(c->config->default_line, from->name) == 0) {
        c->snapshot->default_line = line;
    }
    return err == ERR_OK ? build_csr_attrs(c, line, &settings) : err;
}

/* --- all --- */

static enum err compile_tls(struct compile *c)
{
    bool any = false;
    for (uint32_t i = 0; i < c->config->listeners_count; i++) {
        any |= c->config->listeners[i].tls;
    }
    if (!any) {
        return ERR_OK;
    }
    char *cert = config_path(c->config, c->config->tls.certificate);
    char *key = config_path(c->config, c->config->tls.key);
    struct tls_config tls = {cert, key, c->config->tls.tls12};
    enum err err = ERR_OK;
    for (uint32_t i = 0; i < c->snapshot->core_count && err == ERR_OK; i++) {
        char detail[256] = "";
        err = tls_ctx_new(&tls, &c->snapshot->tls[i], detail);
        if (err != ERR_OK) {
            snapshot_fail(c, "tls: %s", detail);
        }
    }
    free(cert);
    free(key);
    return err;
}

static enum err compile_all(struct compile *c)
{
    enum err err = ERR_OK;
    for (uint32_t i = 0; i < c->config->cas_count && err == ERR_OK; i++) {
        err = compile_ca(c, i);
    }
    for (uint32_t i = 0; i < c->config->stations_count && err == ERR_OK; i++) {
        err = compile_station(c, i);
    }
    for (uint32_t i = 0; i < c->config->cmp_signers_count && err == ERR_OK; i++) {
        err = snapshot_cmp_signer(c, i);
    }
    for (uint32_t i = 0; i < c->config->lines_count && err == ERR_OK; i++) {
        err = compile_line(c, i);
    }
    return err == ERR_OK ? compile_tls(c) : err;
}

enum err snapshot_compile(struct config *config, struct store *store, uint32_t core_count,
                          struct snapshot **out, char out_detail[CONFIG_ERROR_MAX])
{
    size_t size = (sizeof(struct snapshot) + 63) / 64 * 64;
    struct snapshot *snapshot = aligned_alloc(64, size);
    if (!snapshot) {
        config_free(config);
        return ERR_NO_SPACE;
    }
    memset(snapshot, 0, size);
    snapshot->config = config;
    snapshot->core_count = core_count;
    atomic_store(&snapshot->cores_holding, core_count + 1); /* and the CRL publisher */
    out_detail[0] = 0;
    struct compile c = {snapshot, config, store, out_detail};
    enum err err = compile_all(&c);
    if (err != ERR_OK) {
        if (out_detail[0] == 0) {
            snprintf(out_detail, CONFIG_ERROR_MAX, "%s", err_sentence(err));
        }
        snapshot_free(snapshot);
        return err;
    }
    *out = snapshot;
    return ERR_OK;
}

void snapshot_free(struct snapshot *snapshot)
{
    for (uint32_t i = 0; i < snapshot->ca_count; i++) {
        struct rt_ca *ca = &snapshot->cas[i];
        for (uint32_t k = 0; k < ca->chain_count; k++) {
            free((void *)(uintptr_t)ca->chain[k].ptr);
        }
        free((void *)(uintptr_t)ca->chain_cms.ptr);
        verify_key_free(ca->key);
    }
    for (uint32_t i = 0; i < snapshot->line_count; i++) {
        struct rt_line *line = &snapshot->lines[i];
        profile_free(line->profile);
        if (line->anchors) {
            trust_store_clear(line->anchors);
            free(line->anchors);
        }
        free((void *)(uintptr_t)line->proto.csr_attrs.ptr);
    }
    snapshot_cmp_free(snapshot);
    for (uint32_t i = 0; i < snapshot->core_count; i++) {
        if (snapshot->tls[i]) {
            tls_ctx_unref(snapshot->tls[i]);
        }
    }
    config_free(snapshot->config);
    free(snapshot);
}

const struct rt_line *snapshot_line(const struct snapshot *snapshot, struct bytes name)
{
    for (uint32_t i = 0; i < snapshot->line_count; i++) {
        if (bytes_eq(bytes_of_str(snapshot->lines[i].name), name)) {
            return &snapshot->lines[i];
        }
    }
    return NULL;
}

enum err snapshot_check(struct config *config, char out_detail[CONFIG_ERROR_MAX])
{
    struct snapshot *snapshot = NULL;
    enum err err = snapshot_compile(config, NULL, 1, &snapshot, out_detail);
    if (err == ERR_OK) {
        snapshot_free(snapshot);
    }
    return err;
}

static enum sign_mechanism mechanism_of(enum key_alg alg)
{
    switch (alg) {
    case KEY_RSA:
        return SIGN_MECH_RSA_PKCS1;
    case KEY_ED25519:
        return SIGN_MECH_EDDSA;
    case KEY_ML_DSA_44:
    case KEY_ML_DSA_65:
        return SIGN_MECH_ML_DSA;
    default:
        return SIGN_MECH_ECDSA;
    }
}

/* Without names: every token. */
static void find_tokens(const struct config *config, char *const names[], uint32_t name_count,
                        struct hsm_key_config *key)
{
    for (uint32_t t = 0; t < config->tokens_count; t++) {
        bool used = name_count == 0;
        for (uint32_t k = 0; k < name_count; k++) {
            used |= strcmp(names[k], config->tokens[t].name) == 0;
        }
        if (used) {
            key->tokens[key->token_count++] = t;
        }
    }
}

uint32_t snapshot_hsm_keys(const struct snapshot *snapshot, struct hsm_key_config out[KEYS_MAX])
{
    const struct config *config = snapshot->config;
    uint32_t count = snapshot->ca_count;
    for (uint32_t i = 0; i < snapshot->ca_count; i++) {
        const struct config_ca *ca = &config->cas[i];
        out[i] = (struct hsm_key_config){
            .name = ca->name,
            .uri = ca->key,
            .mechanism = mechanism_of(snapshot->cas[i].cert.spki.alg),
            .allow_extractable = config_ca_is_test(config, ca),
            .has_spki = true,
        };
        sha256_once(snapshot->cas[i].cert.spki.der, out[i].spki_sha256);
        find_tokens(config, ca->tokens, ca->tokens_count, &out[i]);
    }
    for (uint32_t i = 0; i < snapshot->signer_count; i++) {
        const struct config_cmp_signer *signer = &config->cmp_signers[i];
        if (!signer->key) {
            continue;
        }
        out[count] = (struct hsm_key_config){
            .name = signer->name,
            .uri = signer->key,
            .mechanism = mechanism_of(snapshot->signers[i].cert.spki.alg),
            .has_spki = true,
        };
        sha256_once(snapshot->signers[i].cert.spki.der, out[count].spki_sha256);
        find_tokens(config, signer->tokens, signer->tokens_count, &out[count]);
        count++;
    }
    return count;
}

uint32_t *snapshot_key_index(struct snapshot *snapshot, uint32_t key)
{
    if (key < snapshot->ca_count) {
        return &snapshot->cas[key].key_index;
    }
    uint32_t left = key - snapshot->ca_count;
    for (uint32_t i = 0; i < snapshot->signer_count; i++) {
        if (snapshot->config->cmp_signers[i].key && left-- == 0) {
            return &snapshot->signers[i].key_index;
        }
    }
    return NULL;
}
