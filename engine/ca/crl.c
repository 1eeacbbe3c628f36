#include "ca/crl.h"

#include <stdlib.h>

#include "asn1/der.h"
#include "asn1/oid.h"
#include "ca/ext.h"
#include "crypto/digest.h"

/* The headers in front depend on lengths that are known at the end: entries start behind room for
 * them, and they are written backwards from there. */
enum {
    HEAD_ROOM = NAME_DER_MAX + 256,
    TAIL_ROOM = SIGNATURE_MAX + 512, /* extensions, algorithm, signature */
    ENTRY_MAX = 64,
    FIRST_CAP = 64 * 1024,
    LONG_HEADER = 6, /* identifier and five length octets: more than der.h writes */
};
static_assert(FIRST_CAP > HEAD_ROOM + TAIL_ROOM + ENTRY_MAX, "no growing before the first entry");

static enum err fail(struct crl_builder *builder, enum err err)
{
    if (builder->err == ERR_OK)
        builder->err = err;
    return builder->err;
}

/* Room for an entry and all that follows the last one. */
static bool make_room(struct crl_builder *builder)
{
    size_t need = builder->len + ENTRY_MAX + TAIL_ROOM;

    if (need <= builder->cap)
        return true;
    size_t cap = builder->cap == 0 ? FIRST_CAP : 2 * builder->cap;
    if (cap > CRL_DER_MAX)
        cap = CRL_DER_MAX;
    uint8_t *grown = need <= cap ? realloc(builder->buf, cap) : NULL;
    if (grown == NULL) {
        (void)fail(builder, ERR_NO_SPACE);
        return false;
    }
    builder->buf = grown;
    builder->cap = cap;
    return true;
}

void crl_begin(struct crl_builder *builder, const struct crl_input *input)
{
    *builder = (struct crl_builder){.len = HEAD_ROOM, .start = HEAD_ROOM, .input = *input};
    if (sig_alg_der(input->sig_alg).len == 0)
        (void)fail(builder, ERR_BAD_ALG);
    else if (name_is_empty(input->issuer->subject)) /* RFC 5280 5.1.2.3 */
        (void)fail(builder, ERR_BAD_TEMPLATE);
}

static void put_reason(struct der_builder *entry, uint8_t reason)
{
    der_open(entry, DER_SEQUENCE);
    der_open(entry, DER_SEQUENCE);
    der_put(entry, DER_OID, OID_EXT_CRL_REASON);
    der_open(entry, DER_OCTET_STRING);
    der_put_u64(entry, DER_ENUMERATED, reason);
    der_close(entry);
    der_close(entry);
    der_close(entry);
}

void crl_add(struct crl_builder *builder, struct bytes serial, int64_t revoked_s, uint8_t reason)
{
    struct bytes view;

    if (builder->err != ERR_OK || !make_room(builder))
        return;
    struct der_builder entry = der_builder_of(builder->buf + builder->len, ENTRY_MAX);
    der_open(&entry, DER_SEQUENCE);
    der_put_unsigned(&entry, serial);
    der_put_time(&entry, revoked_s);
    if (reason != 0)
        put_reason(&entry, reason);
    der_close(&entry);
    if (!der_finish(&entry, &view)) {
        (void)fail(builder, ERR_BAD_TEMPLATE);
        return;
    }
    builder->len += view.len;
    builder->entry_count++;
}

struct bytes crl_builder_entries(const struct crl_builder *builder)
{
    return bytes_of(builder->buf == NULL ? NULL : builder->buf + HEAD_ROOM,
                    builder->len - HEAD_ROOM);
}

/* Identifier and length octets of what lies from `start` to the end, in front of it. */
static void put_header_before(struct crl_builder *builder, uint8_t tag)
{
    size_t len = builder->len - builder->start;
    uint8_t header[LONG_HEADER] = {0};
    size_t used = 2;

    if (len < 0x80) {
        header[1] = (uint8_t)len;
    } else { /* X.690 10.1: as few octets as possible */
        size_t octets = len < 0x100 ? 1 : len < 0x10000 ? 2 : len < 0x1000000 ? 3 : 4;
        header[1] = (uint8_t)(0x80 | octets);
        for (size_t i = 0; i < octets; i++)
            header[2 + i] = (uint8_t)(len >> 8 * (octets - 1 - i));
        used = 2 + octets;
    }
    header[0] = tag;
    builder->start -= used;
    memcpy(builder->buf + builder->start, header, used);
}

/* What stands in front of revokedCertificates. */
static bool put_head(struct crl_builder *builder)
{
    uint8_t buf[HEAD_ROOM];
    struct der_builder head = der_builder_of(buf, HEAD_ROOM - 3 * LONG_HEADER);
    struct bytes view;

    der_put_u64(&head, DER_INTEGER, 1); /* v2 */
    der_put_raw(&head, sig_alg_der(builder->input.sig_alg));
    der_put_raw(&head, builder->input.issuer->subject);
    der_put_time(&head, builder->input.this_update_s);
    der_put_time(&head, builder->input.next_update_s);
    if (!der_finish(&head, &view))
        return false;
    builder->start -= view.len;
    memcpy(builder->buf + builder->start, view.ptr, view.len);
    return true;
}

/* RFC 5280 5.2: authorityKeyIdentifier and cRLNumber are what every CRL has. */
static bool put_extensions(struct crl_builder *builder)
{
    struct der_builder tail = der_builder_of(builder->buf + builder->len, TAIL_ROOM);
    struct bytes key_id = builder->input.issuer->ski, view;
    uint8_t sha1[SHA1_LEN];

    if (key_id.len == 0) { /* RFC 5280 4.2.1.2 (1) */
        digest_once(HASH_SHA1, builder->input.issuer->spki.key, sha1);
        key_id = BYTES_ARRAY(sha1);
    }
    der_open(&tail, DER_CONTEXT_CONSTRUCTED(0));
    der_open(&tail, DER_SEQUENCE);
    ext_put_aki(&tail, key_id);
    ext_put_crl_number(&tail, builder->input.number);
    der_close(&tail);
    der_close(&tail);
    if (!der_finish(&tail, &view))
        return false;
    builder->len += view.len;
    return true;
}

enum err crl_finish_tbs(struct crl_builder *builder, struct bytes *out_tbs)
{
    if (builder->err != ERR_OK || !make_room(builder))
        return builder->err;
    if (builder->entry_count > 0) /* RFC 5280 5.1.2.6: else absent */
        put_header_before(builder, DER_SEQUENCE);
    if (!put_head(builder) || !put_extensions(builder))
        return fail(builder, ERR_BAD_TEMPLATE);
    put_header_before(builder, DER_SEQUENCE);
    *out_tbs = bytes_of(builder->buf + builder->start, builder->len - builder->start);
    return ERR_OK;
}

enum err crl_assemble(struct crl_builder *builder, struct bytes signature, struct bytes *out_der)
{
    if (builder->err != ERR_OK)
        return builder->err;
    struct der_builder tail =
        der_builder_of(builder->buf + builder->len, builder->cap - builder->len);
    struct bytes view;

    der_put_raw(&tail, sig_alg_der(builder->input.sig_alg));
    der_put_bits(&tail, signature);
    if (!der_finish(&tail, &view))
        return fail(builder, ERR_NO_SPACE);
    builder->len += view.len;
    put_header_before(builder, DER_SEQUENCE);
    *out_der = bytes_of(builder->buf + builder->start, builder->len - builder->start);
    return ERR_OK;
}

void crl_builder_free(struct crl_builder *builder)
{
    free(builder->buf);
    *builder = (struct crl_builder){0};
}

uint8_t *crl_builder_take(struct crl_builder *builder)
{
    uint8_t *buf = builder->buf;
    *builder = (struct crl_builder){0};
    return buf;
}
