#include "asn1/crmf.h"
#include "asn1/oid.h"

/* A SEQUENCE under an implicit tag. */
static void put_retagged(struct der_builder *out, uint8_t tag, struct bytes sequence)
{
    struct bytes contents;

    if (sequence.len == 0)
        return;
    if (!der_get(&sequence, DER_SEQUENCE, &contents) || sequence.len != 0) {
        out->out.failed = true;
        return;
    }
    der_put(out, tag, contents);
}

/* Something that is DER under an explicit tag; nothing when it is empty. */
static void put_explicit(struct der_builder *out, unsigned number, struct bytes element)
{
    if (element.len > 0)
        der_put(out, DER_CONTEXT_CONSTRUCTED(number), element);
}

void crmf_cert_id_put(struct der_builder *out, const struct cert_id *cert)
{
    der_open(out, DER_SEQUENCE);
    put_explicit(out, GN_DIRECTORY, cert->issuer);
    der_put(out, DER_INTEGER, cert->serial);
    der_close(out);
}

void crmf_template_cert_id_put(struct der_builder *out, const struct cert_id *cert)
{
    der_open(out, DER_SEQUENCE);
    if (cert->serial.len > 0)
        der_put(out, DER_CONTEXT(1), cert->serial);
    put_explicit(out, 3, cert->issuer);
    der_close(out);
}

/* Opens the control id-regCtrl `arc`, 1.3.6.1.5.5.7.5.1.arc. */
static void open_control(struct der_builder *out, uint8_t arc)
{
    const uint8_t oid[] = {0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x05, 0x01, arc};

    der_open(out, DER_SEQUENCE);
    der_put(out, DER_OID, BYTES_ARRAY(oid));
}

static void put_controls(struct der_builder *out, const struct crmf_template *request)
{
    bool has_old_cert_id = request->old_cert_id.issuer.len > 0;

    if (!has_old_cert_id && request->reg_token.len == 0)
        return;
    der_open(out, DER_SEQUENCE);
    if (request->reg_token.len > 0) {
        open_control(out, 1);
        der_put(out, DER_UTF8_STRING, request->reg_token);
        der_close(out);
    }
    if (has_old_cert_id) {
        open_control(out, 5);
        crmf_cert_id_put(out, &request->old_cert_id);
        der_close(out);
    }
    der_close(out);
}

static void put_cert_request(struct der_builder *out, const struct crmf_template *request)
{
    der_open(out, DER_SEQUENCE);
    der_put_i64(out, request->cert_req_id);
    der_open(out, DER_SEQUENCE);
    put_explicit(out, 5, request->subject); /* Name is a CHOICE */
    put_retagged(out, DER_CONTEXT_CONSTRUCTED(6), request->spki);
    put_retagged(out, DER_CONTEXT_CONSTRUCTED(9), request->extensions);
    der_close(out);
    put_controls(out, request);
    der_close(out);
}

bool crmf_put(struct der_builder *out, const struct crmf_template *request, enum sig_alg alg,
              bool (*sign)(void *ctx, struct bytes message, uint8_t *out, size_t cap,
                           size_t *out_len),
              void *ctx)
{
    uint8_t signature[SIGNATURE_MAX];
    size_t len = 0;

    der_open(out, DER_SEQUENCE);
    size_t start = out->out.len;
    put_cert_request(out, request);
    if (out->out.failed)
        return false;
    if (request->ra_verified) {
        der_put(out, DER_CONTEXT(0), (struct bytes){0});
    } else if (sign != NULL) {
        struct bytes message = bytes_of(out->out.buf + start, out->out.len - start);
        if (!sign(ctx, message, signature, sizeof(signature), &len)) {
            out->out.failed = true;
            return false;
        }
        der_open(out, DER_CONTEXT_CONSTRUCTED(1));
        der_put_raw(out, sig_alg_der(alg));
        der_put_bits(out, bytes_of(signature, len));
        der_close(out);
    }
    der_close(out);
    return !out->out.failed;
}
