/* A certificate and its record, for people and for programs. */
#include "asn1/der.h"
#include "asn1/x509.h"
#include "factory/settle.h"
#include "tools/shelf.h"

const char *cert_status_name(uint8_t status)
{
    static const char *const names[] = {
        [CERT_VALID] = "valid",
        [CERT_SUPERSEDED] = "superseded",
        [CERT_REVOKED] = "revoked",
        [CERT_ON_HOLD] = "on-hold",
    };
    return status < sizeof(names) / sizeof(names[0]) ? names[status] : "unknown";
}

const char *protocol_name(uint8_t protocol)
{
    static const char *const names[] = {
        [PROTOCOL_NONE] = "-",    [PROTOCOL_EST] = "est",   [PROTOCOL_CMP] = "cmp",
        [PROTOCOL_SCEP] = "scep", [PROTOCOL_ACME] = "acme", [PROTOCOL_CLI] = "cli",
    };
    return protocol < sizeof(names) / sizeof(names[0]) ? names[protocol] : "unknown";
}

/* --- names of bits --- */

struct bit_name {
    uint32_t bit;
    const char *name;
};

static const struct bit_name KEY_USAGES[] = {{KU_DIGITAL_SIGNATURE, "digitalSignature"},
                                             {KU_CONTENT_COMMITMENT, "contentCommitment"},
                                             {KU_KEY_ENCIPHERMENT, "keyEncipherment"},
                                             {KU_DATA_ENCIPHERMENT, "dataEncipherment"},
                                             {KU_KEY_AGREEMENT, "keyAgreement"},
                                             {KU_KEY_CERT_SIGN, "keyCertSign"},
                                             {KU_CRL_SIGN, "cRLSign"},
                                             {0, NULL}};
static const struct bit_name EXT_KEY_USAGES[] = {{EKU_SERVER_AUTH, "serverAuth"},
                                                 {EKU_CLIENT_AUTH, "clientAuth"},
                                                 {EKU_CMC_RA, "cmcRA"},
                                                 {EKU_CMC_CA, "cmcCA"},
                                                 {EKU_CM_KGA, "cmKGA"},
                                                 {EKU_ANY, "any"},
                                                 {EKU_OTHER, "other"},
                                                 {0, NULL}};

static json_t *bits_json(uint32_t bits, const struct bit_name *names)
{
    json_t *array = json_array();
    for (; names->name; names++)
        if (bits & names->bit)
            json_array_append_new(array, json_string(names->name));
    return array;
}

/* --- alternative names --- */

static void put_ip(struct writer *out, struct bytes value)
{
    for (size_t i = 0; i < value.len; i++) {
        if (value.len == 4)
            writer_printf(out, "%s%u", i ? "." : "", value.ptr[i]);
        else
            writer_printf(out, "%s%02x", i && i % 2 == 0 ? ":" : "", value.ptr[i]);
    }
}

/* "DNS:device-1.example", as openssl writes it. */
static void general_name_text(uint8_t tag, struct bytes value, char *out, size_t cap)
{
    char text[NAME_DER_MAX];
    struct writer writer = writer_of(out, cap - 1);
    if (tag == DER_CONTEXT(GN_DNS))
        writer_printf(&writer, "DNS:%s", out_clean(value, text, sizeof(text)));
    else if (tag == DER_CONTEXT(GN_EMAIL))
        writer_printf(&writer, "email:%s", out_clean(value, text, sizeof(text)));
    else if (tag == DER_CONTEXT(GN_URI))
        writer_printf(&writer, "URI:%s", out_clean(value, text, sizeof(text)));
    else if (tag == DER_CONTEXT(GN_IP)) {
        writer_put_str(&writer, "IP:");
        put_ip(&writer, value);
    } else if (tag == DER_CONTEXT_CONSTRUCTED(GN_DIRECTORY)) {
        name_to_text(value, text, sizeof(text));
        writer_printf(&writer, "directory:%s", text);
    } else {
        writer_put_str(&writer, "other:");
        writer_put_hex(&writer, value);
    }
    out[writer.len] = 0;
}

static json_t *san_json(struct bytes san)
{
    json_t *array = json_array();
    struct bytes names, value;
    uint8_t tag;
    char text[2 * NAME_DER_MAX];
    if (!der_get(&san, DER_SEQUENCE, &names))
        return array;
    while (der_get_any(&names, &tag, &value, NULL)) {
        general_name_text(tag, value, text, sizeof(text));
        json_array_append_new(array, json_of_text(bytes_of_str(text)));
    }
    return array;
}

/* --- the record --- */

bool cert_revocation(const struct shelf *shelf, const struct cert_view *cert,
                     struct revoked_record *out)
{
    uint8_t status = cert->record->status;
    return (status == CERT_REVOKED || status == CERT_ON_HOLD) &&
           reader_revoked(shelf->reader, cert->record->issuer_id, BYTES_ARRAY(cert->record->serial),
                          out) == ERR_OK;
}

static void put_revocation(json_t *object, const struct shelf *shelf, const struct cert_view *cert)
{
    struct revoked_record revoked = {0};
    bool is_revoked = cert_revocation(shelf, cert, &revoked);
    json_put(object, "revoked", is_revoked ? json_of_time(revoked.time_s) : json_null());
    json_put_str(object, "reason", is_revoked ? crl_reason_name(revoked.reason) : NULL);
}

json_t *cert_json(const struct shelf *shelf, const struct cert_view *cert)
{
    const struct cert_record *record = cert->record;
    json_t *object = json_object();
    json_put_int(object, "log", cert->log);
    json_put(object, "serial", json_of_hex(BYTES_ARRAY(record->serial)));
    json_put_str(object, "status", cert_status_name(record->status));
    json_put(object, "status_since", json_of_time(record->status_s));
    put_revocation(object, shelf, cert);
    json_put(object, "device", json_of_text(cert->device_id));
    json_put_str(object, "line", shelf_line_name(shelf, record->line_id));
    json_put(object, "lot",
             record->lot_id ? json_integer((json_int_t)record->lot_id) : json_null());
    json_put(object, "station", json_of_text(cert->station));
    json_put_str(object, "protocol", protocol_name(record->protocol));
    json_put(object, "issued", json_of_time(record->issued_s));
    json_put(object, "not_before", json_of_time(record->not_before_s));
    json_put(object, "not_after", json_of_time(record->not_after_s));
    json_put_int(object, "issuer_id", record->issuer_id);
    json_put(object, "fingerprint", json_of_hex(BYTES_ARRAY(record->fingerprint)));
    json_put(object, "spki_sha256", json_of_hex(BYTES_ARRAY(record->spki_hash)));
    json_put(object, "replaced_by",
             record->replaced_by ? json_integer((json_int_t)record->replaced_by) : json_null());
    return object;
}

static void put_fields(json_t *object, const struct x509_cert *cert)
{
    char text[2 * NAME_DER_MAX];
    name_to_text(cert->subject, text, sizeof(text));
    json_put_str(object, "subject", text);
    name_to_text(cert->issuer, text, sizeof(text));
    json_put_str(object, "issuer", text);
    json_put_str(object, "key",
                 cert->spki.alg == KEY_RSA ? cell("RSA %u", cert->spki.bits)
                                           : key_alg_name(cert->spki.alg));
    json_put_str(object, "signature", sig_alg_name(cert->sig_alg));
    json_put(object, "alternative_names", san_json(cert->san));
    json_put(object, "key_usage", bits_json(cert->key_usage, KEY_USAGES));
    json_put(object, "extended_key_usage", bits_json(cert->ext_key_usage, EXT_KEY_USAGES));
    json_put(object, "ski", json_of_hex(cert->ski));
    json_put(object, "aki", json_of_hex(cert->aki));
}

json_t *cert_json_full(const struct shelf *shelf, const struct cert_view *cert)
{
    struct x509_cert decoded;
    char pem[2 * CERT_DER_MAX];
    struct writer out = writer_of(pem, sizeof(pem) - 1);
    json_t *object = cert_json(shelf, cert);
    if (x509_decode(cert->der, &decoded) == ERR_OK)
        put_fields(object, &decoded);
    pem_put(&out, "CERTIFICATE", cert->der);
    pem[out.len] = 0;
    json_put_str(object, "pem", pem);
    return object;
}

/* --- for people --- */

static void print_words(const char *what, const json_t *array)
{
    size_t i;
    json_t *word;
    if (json_array_size(array) == 0)
        return;
    printf("%-14s", what);
    json_array_foreach(array, i, word) printf("%s%s", i ? ", " : "", json_string_value(word));
    printf("\n");
}

static void print_field(const json_t *object, const char *what, const char *key)
{
    const json_t *value = json_object_get(object, key);
    char clean[2 * NAME_DER_MAX];
    if (json_is_string(value) && json_string_length(value) > 0)
        printf("%-14s%s\n", what,
               out_clean(bytes_of_str(json_string_value(value)), clean, sizeof(clean)));
    else if (json_is_integer(value))
        printf("%-14s%lld\n", what, (long long)json_integer_value(value));
}

/* The JSON is what is known; this is another order and spelling of it. */
void cert_print(const struct shelf *shelf, const struct cert_view *cert)
{
    static const char *const fields[][2] = {{"Device", "device"},
                                            {"Line", "line"},
                                            {"Status", "status"},
                                            {"Status since", "status_since"},
                                            {"Revoked", "revoked"},
                                            {"Reason", "reason"},
                                            {"Serial", "serial"},
                                            {"Subject", "subject"},
                                            {"Issuer", "issuer"},
                                            {"Not before", "not_before"},
                                            {"Not after", "not_after"},
                                            {"Key", "key"},
                                            {"Signature", "signature"},
                                            {"Issued", "issued"},
                                            {"Protocol", "protocol"},
                                            {"Station", "station"},
                                            {"Lot", "lot"},
                                            {"Log number", "log"},
                                            {"Replaced by", "replaced_by"},
                                            {"Key id", "ski"},
                                            {"Issuer key id", "aki"},
                                            {"Fingerprint", "fingerprint"},
                                            {"SPKI SHA-256", "spki_sha256"}};
    json_t *object = cert_json_full(shelf, cert);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        print_field(object, fields[i][0], fields[i][1]);
    print_words("Names", json_object_get(object, "alternative_names"));
    print_words("Key usage", json_object_get(object, "key_usage"));
    print_words("Extended", json_object_get(object, "extended_key_usage"));
    json_decref(object);
}
