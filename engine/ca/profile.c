#include "ca/profile.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "asn1/der.h"
#include "ca/ext.h"
#include "ca/profile_impl.h"
#include "crypto/digest.h"

enum { DETAIL_CAP = 256, ISSUER_KEY_ID_MAX = 64 };

#define DAY_S 86400ll

/* What is accepted in a request can be assembled: constant, requested and signed parts together. */
static_assert(HEAD_MAX + NAME_DER_MAX + SPKI_DER_MAX + EXTENSIONS_FIXED_MAX + SAN_DER_MAX +
                      SIGNATURE_MAX + 256 <=
                  CERT_DER_MAX,
              "a certificate of this profile fits CERT_DER_MAX");

static __attribute__((format(printf, 2, 3))) enum err config_error(char out_detail[DETAIL_CAP],
                                                                   const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(out_detail, DETAIL_CAP, fmt, args);
    va_end(args);
    return ERR_CONFIG;
}

/* --- key classes --- */

enum key_class key_class_of(enum key_alg alg)
{
    switch (alg) {
    case KEY_EC_P256:
    case KEY_EC_P384:
        return KEY_CLASS_EC;
    case KEY_RSA:
        return KEY_CLASS_RSA;
    default:
        return KEY_CLASS_SIGN_ONLY;
    }
}

static uint32_t class_key_usage(enum key_class kind)
{
    const uint32_t sign = KU_DIGITAL_SIGNATURE | KU_CONTENT_COMMITMENT;

    switch (kind) {
    case KEY_CLASS_EC: /* RFC 5480 3 */
        return sign | KU_KEY_AGREEMENT;
    case KEY_CLASS_RSA: /* RFC 3279 2.3.1 */
        return sign | KU_KEY_ENCIPHERMENT | KU_DATA_ENCIPHERMENT;
    default: /* RFC 8410 5 */
        return sign;
    }
}

bool profile_allows_key_alg(const struct profile *profile, enum key_alg alg)
{
    for (uint32_t i = 0; i < profile->config.key_alg_count; i++)
        if (profile->config.key_algs[i] == alg)
            return true;
    return false;
}

/* --- compile --- */

static enum err resolve_base(struct profile_config *config, char out_detail[DETAIL_CAP])
{
    switch (config->base) {
    case PROFILE_TLS_DEVICE:
        if (config->validity_s == 0)
            config->validity_s = 398 * DAY_S;
        if (config->key_usage == 0)
            config->key_usage = KU_DIGITAL_SIGNATURE | KU_KEY_ENCIPHERMENT;
        if (config->ext_key_usage == 0)
            config->ext_key_usage = EKU_CLIENT_AUTH;
        if (config->server_auth)
            config->ext_key_usage |= EKU_SERVER_AUTH;
        return ERR_OK;
    case PROFILE_IDEVID: /* IEEE 802.1AR-2018 8 */
        if (config->server_auth)
            return config_error(out_detail, "server_auth is for tls-device alone");
        if (config->validity_s == 0)
            config->no_expiry = true;
        if (config->key_usage == 0)
            config->key_usage = KU_DIGITAL_SIGNATURE;
        return ERR_OK;
    case PROFILE_CA:
        return config_error(out_detail, "CA certificates are not enrolled");
    }
    return config_error(out_detail, "unknown base profile");
}

static enum err resolve_keys(struct profile_config *config, char out_detail[DETAIL_CAP])
{
    static const enum key_alg usual[] = {KEY_EC_P256, KEY_EC_P384, KEY_RSA, KEY_ED25519};

    if (config->key_alg_count > KEY_ALG_COUNT)
        return config_error(out_detail, "more key types than there are");
    if (config->key_alg_count == 0) {
        memcpy(config->key_algs, usual, sizeof(usual));
        config->key_alg_count = sizeof(usual) / sizeof(usual[0]);
    }
    if (config->rsa_bits_min == 0)
        config->rsa_bits_min = 2048;
    for (uint32_t i = 0; i < config->key_alg_count; i++) {
        enum key_alg alg = config->key_algs[i];
        if (alg <= KEY_NONE || alg >= KEY_ALG_COUNT)
            return config_error(out_detail, "unknown key type");
        if ((config->key_usage & class_key_usage(key_class_of(alg))) == 0)
            return config_error(out_detail, "%s keys can do nothing of what key_usage grants",
                                key_alg_name(alg));
    }
    return ERR_OK;
}

/* RFC 5280 4.2.1.13 and RFC 3986: who reads the certificate fetches from there, so an absolute URL.
 */
bool profile_crl_url_is_good(const char *url)
{
    size_t len = strlen(url);
    size_t scheme = strncmp(url, "http://", 7) == 0 ? 7 : strncmp(url, "https://", 8) == 0 ? 8 : 0;

    if (scheme == 0 || len <= scheme || len > CRL_URL_MAX || url[scheme] == '/')
        return false;
    for (const char *p = url; *p != '\0'; p++)
        if (*p <= ' ' || *p > '~' || strchr("\"<>\\^`{|}", *p) != NULL)
            return false;
    return true;
}

static enum err resolve_config(struct profile_config *config, char out_detail[DETAIL_CAP])
{
    enum err err = resolve_base(config, out_detail);
    if (err != ERR_OK)
        return err;
    if (config->validity_s < 0 || config->backdate_s < 0)
        return config_error(out_detail, "validity and backdate must not be negative");
    if (config->backdate_s == 0)
        config->backdate_s = 60;
    if ((config->key_usage & (KU_KEY_CERT_SIGN | KU_CRL_SIGN)) != 0)
        return config_error(out_detail, "keyCertSign and cRLSign are for CA certificates");
    if (config->key_usage > (KU_CRL_SIGN | (KU_CRL_SIGN - 1)))
        return config_error(out_detail, "unknown key_usage");
    if ((config->ext_key_usage & ~EKU_KNOWN) != 0)
        return config_error(out_detail, "unknown ext_key_usage");
    if (config->crl_url != NULL && !profile_crl_url_is_good(config->crl_url))
        return config_error(out_detail, "crl_url is not an http:// or https:// URL");
    if (config->san == TAKE_FIXED)
        return config_error(out_detail, "a fixed san would be the same for every device");
    return resolve_keys(config, out_detail);
}

static enum err compile_issuer(struct profile *profile, const struct x509_cert *issuer,
                               char out_detail[DETAIL_CAP])
{
    struct der_builder head = der_builder_of(profile->head, sizeof(profile->head));
    struct bytes view;

    if (!issuer->is_ca || (issuer->has_key_usage && (issuer->key_usage & KU_KEY_CERT_SIGN) == 0))
        return config_error(out_detail, "the issuer's certificate is not a CA certificate");
    if (name_is_empty(issuer->subject)) /* RFC 5280 4.1.2.4 */
        return config_error(out_detail, "the issuer's subject is empty");
    profile->sig_alg = sig_alg_default(issuer->spki.alg);
    if (profile->sig_alg == SIG_NONE)
        return config_error(out_detail, "the issuer's key type is not supported");
    profile->issuer_not_before_s = issuer->not_before_s;
    profile->issuer_not_after_s = issuer->not_after_s;
    der_put_raw(&head, sig_alg_der(profile->sig_alg));
    der_put_raw(&head, issuer->subject);
    if (!der_finish(&head, &view))
        return config_error(out_detail, "the issuer's subject is too long");
    profile->head_len = view.len;
    return ERR_OK;
}

static enum err compile_extensions(struct profile *profile, const struct x509_cert *issuer,
                                   char out_detail[DETAIL_CAP])
{
    uint8_t sha1[SHA1_LEN];
    struct bytes key_id = issuer->ski, view;

    if (key_id.len == 0) { /* RFC 5280 4.2.1.2 (1) */
        digest_once(HASH_SHA1, issuer->spki.key, sha1);
        key_id = BYTES_ARRAY(sha1);
    }
    if (key_id.len > ISSUER_KEY_ID_MAX)
        return config_error(out_detail, "the issuer's key identifier is too long");
    for (enum key_class kind = 0; kind < KEY_CLASS_COUNT; kind++) {
        struct der_builder out =
            der_builder_of(profile->fixed[kind].der, sizeof(profile->fixed[kind].der));
        uint32_t key_usage = profile->config.key_usage & class_key_usage(kind);
        ext_put_key_usage(&out, key_usage);
        if (profile->config.ext_key_usage != 0)
            ext_put_ext_key_usage(&out, profile->config.ext_key_usage);
        ext_put_basic_constraints(&out, false, -1);
        ext_put_aki(&out, key_id);
        if (profile->config.crl_url != NULL)
            ext_put_crl_url(&out, bytes_of_str(profile->config.crl_url));
        if (!der_finish(&out, &view))
            return config_error(out_detail, "the fixed extensions are too long");
        profile->fixed[kind].key_usage = key_usage;
        profile->fixed[kind].len = view.len;
    }
    return ERR_OK;
}

static enum err compile_subject(struct profile *profile, char out_detail[DETAIL_CAP])
{
    uint8_t name[NAME_DER_MAX];
    size_t len;
    struct bytes reader, rdns;

    if (profile->config.subject_suffix == NULL)
        return ERR_OK;
    if (!name_from_text(profile->config.subject_suffix, name, sizeof(name), &len))
        return config_error(out_detail, "subject \"%.120s\" is not a name like O=Example,OU=Line 3",
                            profile->config.subject_suffix);
    reader = bytes_of(name, len);
    if (!der_get(&reader, DER_SEQUENCE, &rdns))
        return config_error(out_detail, "subject is not a name");
    if (rdns.len > 0)
        memcpy(profile->subject_prefix, rdns.ptr, rdns.len);
    profile->subject_prefix_len = rdns.len;
    return ERR_OK;
}

static enum err compile_into(struct profile *profile, const struct profile_config *config,
                             const struct x509_cert *issuer, char out_detail[DETAIL_CAP])
{
    enum err err;

    profile->config = *config;
    profile->config.name = strdup(config->name != NULL ? config->name : "");
    profile->config.subject_suffix = profile->config.crl_url = NULL;
    if (config->crl_url != NULL && (profile->config.crl_url = strdup(config->crl_url)) == NULL)
        return config_error(out_detail, "out of memory");
    if (config->subject_suffix != NULL && config->subject_suffix[0] != '\0') {
        profile->config.subject_suffix = strdup(config->subject_suffix);
        if (profile->config.subject_suffix == NULL)
            return config_error(out_detail, "out of memory");
    }
    if (profile->config.name == NULL)
        return config_error(out_detail, "out of memory");
    err = resolve_config(&profile->config, out_detail);
    if (err == ERR_OK)
        err = compile_issuer(profile, issuer, out_detail);
    if (err == ERR_OK)
        err = compile_extensions(profile, issuer, out_detail);
    if (err == ERR_OK)
        err = compile_subject(profile, out_detail);
    return err;
}

enum err profile_compile(const struct profile_config *config, const struct x509_cert *issuer,
                         struct profile **out, char out_detail[DETAIL_CAP])
{
    struct profile *profile = calloc(1, sizeof(*profile));

    if (profile == NULL)
        return config_error(out_detail, "out of memory");
    enum err err = compile_into(profile, config, issuer, out_detail);
    if (err != ERR_OK) {
        profile_free(profile);
        return err;
    }
    *out = profile;
    return ERR_OK;
}

void profile_free(struct profile *profile)
{
    if (profile == NULL)
        return;
    free((char *)profile->config.name);
    free((char *)profile->config.subject_suffix);
    free((char *)profile->config.crl_url);
    free(profile);
}

const char *profile_name(const struct profile *profile)
{
    return profile->config.name;
}

const struct profile_config *profile_settings(const struct profile *profile)
{
    return &profile->config;
}

/* --- build --- */

void profile_validity(const struct profile *profile, int64_t now_s, int64_t *out_not_before_s,
                      int64_t *out_not_after_s)
{
    const struct profile_config *config = &profile->config;
    int64_t not_before_s = now_s - config->backdate_s;
    int64_t not_after_s = DER_TIME_NO_EXPIRY;

    /* backdated, but not to before there was a CA */
    if (not_before_s < profile->issuer_not_before_s && profile->issuer_not_before_s <= now_s)
        not_before_s = profile->issuer_not_before_s;
    if (!config->no_expiry) {
        if (config->validity_s < DER_TIME_NO_EXPIRY - now_s)
            not_after_s = now_s + config->validity_s;
        if (not_after_s > profile->issuer_not_after_s)
            not_after_s = profile->issuer_not_after_s;
    }
    *out_not_before_s = not_before_s;
    *out_not_after_s = not_after_s;
}

enum err profile_subject(const struct profile *profile, struct bytes requested,
                         struct bytes *out_prefix, struct bytes *out_rest)
{
    struct bytes prefix = bytes_of(profile->subject_prefix, profile->subject_prefix_len);
    struct bytes rest;

    if (!der_get(&requested, DER_SEQUENCE, &rest) || requested.len != 0)
        return ERR_BAD_TEMPLATE;
    if (bytes_starts_with(rest, prefix))
        prefix = (struct bytes){0};
    size_t len = prefix.len + rest.len;
    if (der_header_len(len) + len > NAME_DER_MAX)
        return ERR_BAD_TEMPLATE;
    *out_prefix = prefix;
    *out_rest = rest;
    return ERR_OK;
}

enum err profile_build_tbs(const struct profile *profile, const struct tbs_input *input,
                           uint8_t *out, size_t cap, size_t *out_len)
{
    const struct cert_request *request = input->request;
    enum key_class kind = key_class_of(request->spki.alg);
    struct der_builder tbs = der_builder_of(out, cap);
    struct bytes subject_prefix, subject_rest, view;

    assert(input->serial[0] > 0 && input->serial[0] < 0x80);
    if (!profile_allows_key_alg(profile, request->spki.alg))
        return ERR_KEY_NOT_ALLOWED;
    if (request->san.len > 0 && profile->config.san == TAKE_FORBIDDEN)
        return ERR_EXTENSION_NOT_ALLOWED;
    enum err err = profile_subject(profile, request->subject, &subject_prefix, &subject_rest);
    if (err != ERR_OK)
        return err;
    bool subject_is_empty = subject_prefix.len + subject_rest.len == 0;

    der_open(&tbs, DER_SEQUENCE);
    der_open(&tbs, DER_CONTEXT_CONSTRUCTED(0));
    der_put_u64(&tbs, DER_INTEGER, 2); /* v3 */
    der_close(&tbs);
    der_put(&tbs, DER_INTEGER, bytes_of(input->serial, SERIAL_LEN));
    der_put_raw(&tbs, bytes_of(profile->head, profile->head_len));
    der_open(&tbs, DER_SEQUENCE);
    der_put_time(&tbs, input->not_before_s);
    der_put_time(&tbs, input->not_after_s);
    der_close(&tbs);
    der_open(&tbs, DER_SEQUENCE);
    der_put_raw(&tbs, subject_prefix);
    der_put_raw(&tbs, subject_rest);
    der_close(&tbs);
    der_put_raw(&tbs, request->spki.der);
    der_open(&tbs, DER_CONTEXT_CONSTRUCTED(3));
    der_open(&tbs, DER_SEQUENCE);
    der_put_raw(&tbs, bytes_of(profile->fixed[kind].der, profile->fixed[kind].len));
    ext_put_ski(&tbs, bytes_of(input->spki_sha1, SHA1_LEN));
    if (request->san.len > 0) /* RFC 5280 4.1.2.6: critical when it alone names the device */
        ext_put_san(&tbs, request->san, subject_is_empty);
    der_close(&tbs);
    der_close(&tbs);
    der_close(&tbs);
    if (!der_finish(&tbs, &view))
        return ERR_NO_SPACE;
    *out_len = view.len;
    return ERR_OK;
}
