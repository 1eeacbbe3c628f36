#include "tools/ca.h"

#include <stdlib.h>
#include <time.h>

#include "asn1/csr.h"
#include "asn1/der.h"
#include "base/clock.h"
#include "base/secret.h"
#include "crypto/digest.h"
#include "crypto/path.h"

enum { BACKDATE_S = 60 };

int subject_read(struct cli *cli, const char *option, struct subject *out)
{
    const char *text = cli_get(cli, option);
    if (!name_from_text(text, out->der, sizeof(out->der), &out->len) ||
        name_is_empty(bytes_of(out->der, out->len)))
        return cli_usage(cli,
                         "--%s '%.128s': expected a name like \"CN=Issuing CA,O=Example,C=DE\"",
                         option, text);
    return CLI_DONE;
}

/* --- signing --- */

static enum err verify(const struct p11_key *key, enum sig_alg alg, struct bytes message,
                       struct bytes signature)
{
    struct spki spki;
    enum err err = spki_decode(bytes_of(key->spki_der, key->spki_len), &spki);
    struct verify_job job = {.alg = alg, .spki = &spki, .message = message, .signature = signature};
    return err != ERR_OK ? err : verify_one(&job);
}

int ca_sign(struct cli *cli, const struct access *access, const struct p11_key *key,
            struct bytes tbs, uint8_t *out, size_t cap, size_t *out_len)
{
    uint8_t signature[SIGNATURE_MAX];
    size_t signature_len = 0;
    struct p11_error error = {0};
    enum sig_alg alg = sig_alg_default(key->alg);
    enum err err = p11_sign_message(access->session, key, alg, tbs, signature, sizeof(signature),
                                    &signature_len, &error);
    if (err != ERR_OK)
        return access_fail(cli, access->token, err, &error);
    struct bytes made = bytes_of(signature, signature_len);
    if (verify(key, alg, tbs, made) != ERR_OK)
        return cli_fail("token %s: the signature it made with %s does not verify, and is "
                        "discarded: do not use this token before its vendor knows why",
                        access->token->name, key->label);
    if (cert_assemble(tbs, alg, made, out, cap, out_len) != ERR_OK)
        return cli_fail("the certificate would be longer than %zu bytes: choose shorter names",
                        cap);
    return CLI_DONE;
}

int ca_prove_key(struct cli *cli, const struct access *access, const struct p11_key *key,
                 const struct x509_cert *cert)
{
    uint8_t message[32], signature[SIGNATURE_MAX];
    size_t len = 0;
    struct p11_error error = {0};
    enum sig_alg alg = sig_alg_default(key->alg);
    random_bytes(message, sizeof(message));
    enum err err = p11_sign_message(access->session, key, alg, BYTES_ARRAY(message), signature,
                                    sizeof(signature), &len, &error);
    if (err != ERR_OK)
        return access_fail(cli, access->token, err, &error);
    struct verify_job job = {.alg = alg,
                             .spki = &cert->spki,
                             .message = BYTES_ARRAY(message),
                             .signature = bytes_of(signature, len)};
    if (verify_one(&job) != ERR_OK)
        return cli_fail("token %s: what key %s signs does not verify with the certificate: the "
                        "public key object in the token belongs to another private key",
                        access->token->name, key->label);
    return CLI_DONE;
}

/* --- certificates --- */

/* The same date so many years on; February 29th becomes March 1st. */
static int64_t add_years(int64_t from_s, uint64_t years)
{
    struct tm parts;
    time_t when = (time_t)from_s;
    if (!gmtime_r(&when, &parts))
        return from_s;
    parts.tm_year += (int)years;
    return (int64_t)timegm(&parts);
}

int ca_cert_make(struct cli *cli, const struct ca_cert_wish *wish, struct ca_cert *out)
{
    struct serial_lane lane;
    uint8_t serial[SERIAL_LEN], tbs[CERT_DER_MAX];
    size_t tbs_len = 0;
    int64_t now_s = clock_wall_s();
    serial_lane_init(&lane, 0, 0);
    serial_next(&lane, serial);
    struct ca_cert_input input = {
        .subject = wish->subject,
        .spki = bytes_of(wish->key->spki_der, wish->key->spki_len),
        .issuer = wish->issuer,
        .sig_alg = sig_alg_default(wish->signer_key->alg),
        .serial = serial,
        .not_before_s = now_s - BACKDATE_S,
        .not_after_s = add_years(now_s, wish->years),
        .path_len = wish->path_len,
    };
    if (wish->not_after_s) {
        input.not_before_s = wish->not_before_s;
        input.not_after_s = wish->not_after_s;
    } else if (wish->issuer) {
        /* RFC 5280 lets a subordinate outlive its issuer, and every path through it then fails */
        if (input.not_after_s > wish->issuer->not_after_s)
            input.not_after_s = wish->issuer->not_after_s;
        if (input.not_before_s < wish->issuer->not_before_s)
            input.not_before_s = wish->issuer->not_before_s;
    }
    enum err err = ca_cert_tbs_build(&input, tbs, sizeof(tbs), &tbs_len);
    if (err != ERR_OK)
        return cli_fail("the certificate cannot be built: %s: choose another name or key type",
                        err_sentence(err));
    int status = ca_sign(cli, wish->signer, wish->signer_key, bytes_of(tbs, tbs_len), out->der,
                         sizeof(out->der), &out->len);
    if (status == CLI_DONE && x509_decode(bytes_of(out->der, out->len), &out->view) != ERR_OK)
        status = cli_fail("the certificate that was made does not decode: this is a bug in "
                          "certmill: report it");
    return status;
}

int ca_file_write(const char *path, const char *like, const struct bytes der[], uint32_t count)
{
    size_t len = 0;
    char *pem = certs_pem(der, count, &len);
    int status = file_write_like(path, like, bytes_of(pem, len));
    free(pem);
    return status;
}

/* --- requests --- */

int ca_csr_make(struct cli *cli, const struct access *access, const struct p11_key *key,
                struct bytes subject, uint8_t *out, size_t *out_len)
{
    uint8_t info[CERT_DER_MAX];
    size_t len = 0;
    struct cert_request request;
    enum err err = ca_csr_info_build(subject, bytes_of(key->spki_der, key->spki_len), info,
                                     sizeof(info), &len);
    if (err != ERR_OK)
        return cli_fail("the request cannot be built: %s: choose another name or key type",
                        err_sentence(err));
    int status = ca_sign(cli, access, key, bytes_of(info, len), out, CERT_DER_MAX, out_len);
    if (status == CLI_DONE && csr_decode(bytes_of(out, *out_len), &request) != ERR_OK)
        status = cli_fail("the request that was made does not decode: this is a bug in certmill: "
                          "report it");
    return status;
}

int ca_csr_give(struct cli *cli, const char *option, const struct access *access,
                const struct p11_key *key, bool made, struct bytes der)
{
    char pem[2 * CERT_DER_MAX];
    struct writer text = writer_of(pem, sizeof(pem) - 1);
    const char *file = cli_get(cli, option);
    pem_put(&text, "CERTIFICATE REQUEST", der);
    pem[text.len] = 0;
    int status = file ? file_write(file, writer_view(&text)) : CLI_DONE;
    if (status != CLI_DONE)
        return status;
    if (cli->json) {
        json_t *object = json_object();
        json_put_str(object, "ca", cli_get(cli, "ca"));
        json_put(object, "key", key_json(access, key));
        json_put_bool(object, "key_made", made);
        json_put_str(object, "file", file);
        json_put_str(object, "csr", pem);
        out_json(object);
    } else if (file) {
        printf("%s: request for key %s (%s, %s) of token %s\n", file, key->label, key_kind(key),
               made ? "new" : "as it was", access->token->name);
    } else {
        fputs(pem, stdout);
    }
    return CLI_DONE;
}

/* --- paths --- */

static bool is_self_issued(const struct x509_cert *cert)
{
    return bytes_eq(cert->subject, cert->issuer);
}

const char *ca_path_problem(const struct bytes certs[], uint32_t count)
{
    static struct trust_store store; /* too large for a stack */
    const struct trust_anchor *anchor = NULL;
    struct x509_cert cert;
    const char *problem = NULL;
    for (uint32_t i = 0; i < count; i++)
        if (x509_decode(certs[i], &cert) == ERR_OK && is_self_issued(&cert) &&
            trust_store_add(&store, certs[i]) != ERR_OK)
            problem = "its root is not a CA certificate of a kind that certmill knows";
    if (!problem && store.count == 0)
        problem = "there is no self-signed root among the certificates given";
    enum err err = problem ? ERR_OK : path_validate(&store, certs, count, clock_wall_s(), &anchor);
    if (err == ERR_CLIENT_CERT_EXPIRED)
        problem = "a certificate of its chain is expired or not yet valid";
    else if (err != ERR_OK)
        problem = "no path of valid signatures leads from it to a root, or a certificate on the "
                  "way may not issue";
    trust_store_clear(&store);
    return problem;
}

/* --- for people and programs --- */

static const char *key_text(const struct spki *spki)
{
    return spki->alg == KEY_RSA ? cell("RSA %u", spki->bits) : key_alg_name(spki->alg);
}

json_t *ca_cert_json(const struct x509_cert *cert, const char *file)
{
    json_t *object = json_object();
    char text[2 * NAME_DER_MAX];
    uint8_t fingerprint[SHA256_LEN];
    sha256_once(cert->der, fingerprint);
    json_put_str(object, "file", file);
    name_to_text(cert->subject, text, sizeof(text));
    json_put_str(object, "subject", text);
    name_to_text(cert->issuer, text, sizeof(text));
    json_put_str(object, "issuer", text);
    json_put(object, "serial", json_of_hex(cert->serial));
    json_put(object, "not_before", json_of_time(cert->not_before_s));
    json_put(object, "not_after", json_of_time(cert->not_after_s));
    json_put_str(object, "key", key_text(&cert->spki));
    json_put_str(object, "signature", sig_alg_name(cert->sig_alg));
    json_put_bool(object, "ca", cert->is_ca);
    json_put(object, "path_length",
             cert->path_len == UINT32_MAX ? json_null() : json_integer(cert->path_len));
    json_put(object, "ski", json_of_hex(cert->ski));
    json_put(object, "fingerprint", json_of_hex(BYTES_ARRAY(fingerprint)));
    return object;
}

void ca_cert_print(const char *what, const struct x509_cert *cert, const char *file)
{
    char text[2 * NAME_DER_MAX], from[OUT_TIME_MAX], to[OUT_TIME_MAX], hex[OUT_HEX_MAX];
    uint8_t fingerprint[SHA256_LEN];
    int64_t days = (cert->not_after_s - clock_wall_s()) / 86400;
    sha256_once(cert->der, fingerprint);
    printf("%s\n", what);
    if (file)
        printf("  file         %s\n", file);
    name_to_text(cert->subject, text, sizeof(text));
    printf("  subject      %s\n", text);
    name_to_text(cert->issuer, text, sizeof(text));
    printf("  issuer       %s\n", is_self_issued(cert) ? "itself" : text);
    printf("  serial       %s\n", out_hex(cert->serial, hex));
    printf("  valid        %s to %s (%lld days left)\n", out_time(cert->not_before_s, from),
           out_time(cert->not_after_s, to), (long long)days);
    printf("  key          %s, signed with %s\n", key_text(&cert->spki),
           sig_alg_name(cert->sig_alg));
    printf("  fingerprint  %s (SHA-256)\n", out_hex(BYTES_ARRAY(fingerprint), hex));
}
