#include "ca/issue.h"

#include <assert.h>

#include "asn1/der.h"
#include "asn1/oid.h"
#include "base/clock.h"
#include "base/secret.h"
#include "ca/ext.h"
#include "crypto/digest.h"

/* --- serial numbers --- */

enum { COUNT_BITS = 10, RANDOM_LEN = 8 };

/* 40 bits of milliseconds end in 2004, 47 in 6429: between them the top octet is 01..7f. The clock
 * and the store are believed up to 46 bits, so that counting on from there has room. */
#define MS_MIN (1ull << 40)
#define MS_MAX (1ull << 46)

static_assert(CORES_MAX <= 1 << (16 - COUNT_BITS), "a lane for every core");

static uint64_t clamp_ms(uint64_t ms)
{
    return ms < MS_MIN ? MS_MIN : ms > MS_MAX ? MS_MAX : ms;
}

void serial_lane_init(struct serial_lane *lane, uint32_t core, uint64_t floor_ms)
{
    assert(core < CORES_MAX);
    *lane = (struct serial_lane){.lane = core};
    if (floor_ms != 0) /* the first serial is past every one of that millisecond */
        lane->last_block = clamp_ms(floor_ms) << COUNT_BITS | ((1u << COUNT_BITS) - 1);
}

void serial_next(struct serial_lane *lane, uint8_t out[SERIAL_LEN])
{
    uint64_t block = clamp_ms(clock_wall_ns() / NS_PER_MS) << COUNT_BITS;

    /* a clock that stands or steps back, or more than 1024 in a millisecond: count on */
    if (block <= lane->last_block)
        block = lane->last_block + 1;
    lane->last_block = block;
    if (lane->random_left < RANDOM_LEN) {
        random_bytes(lane->random_pool, sizeof(lane->random_pool));
        lane->random_left = sizeof(lane->random_pool);
    }
    lane->random_left -= RANDOM_LEN;

    uint64_t ms = block >> COUNT_BITS;
    uint64_t count = block & ((1u << COUNT_BITS) - 1);
    store_be64(out, ms << 16 | (uint64_t)lane->lane << COUNT_BITS | count);
    memcpy(out + 8, lane->random_pool + lane->random_left, RANDOM_LEN);
}

uint64_t serial_block_ms(const uint8_t serial[SERIAL_LEN])
{
    return load_be64(serial) >> 16;
}

/* --- assembly --- */

enum err cert_assemble(struct bytes tbs, enum sig_alg alg, struct bytes signature, uint8_t *out,
                       size_t cap, size_t *out_len)
{
    struct der_builder cert = der_builder_of(out, cap);
    struct bytes alg_der = sig_alg_der(alg), view;

    if (alg_der.len == 0)
        return ERR_BAD_ALG;
    der_open(&cert, DER_SEQUENCE);
    der_put_raw(&cert, tbs);
    der_put_raw(&cert, alg_der);
    der_put_bits(&cert, signature);
    der_close(&cert);
    if (!der_finish(&cert, &view))
        return ERR_NO_SPACE;
    *out_len = view.len;
    return ERR_OK;
}

/* DigestInfo (RFC 8017 9.2 and its note 1: parameters NULL). */
static void put_digest_info(struct der_builder *out, struct bytes hash_oid, struct bytes digest)
{
    der_open(out, DER_SEQUENCE);
    der_open(out, DER_SEQUENCE);
    der_put(out, DER_OID, hash_oid);
    der_put_null(out);
    der_close(out);
    der_put(out, DER_OCTET_STRING, digest);
    der_close(out);
}

enum err sign_input_build(enum sig_alg alg, struct bytes tbs, uint8_t *out, size_t cap,
                          size_t *out_len)
{
    struct der_builder input = der_builder_of(out, cap);
    enum hash_alg hash = sig_alg_hash(alg);
    uint8_t digest_buf[DIGEST_LEN_MAX];
    struct bytes digest = bytes_of(digest_buf, hash_alg_len(hash)), view;

    if (hash != HASH_NONE)
        digest_once(hash, tbs, digest_buf);
    switch (alg) {
    case SIG_ECDSA_SHA256:
    case SIG_ECDSA_SHA384:
    case SIG_ECDSA_SHA512:
    case SIG_RSA_PSS_SHA256:
    case SIG_RSA_PSS_SHA384:
    case SIG_RSA_PSS_SHA512:
        der_put_raw(&input, digest);
        break;
    case SIG_RSA_SHA256:
        put_digest_info(&input, OID_SHA256, digest);
        break;
    case SIG_RSA_SHA384:
        put_digest_info(&input, OID_SHA384, digest);
        break;
    case SIG_RSA_SHA512:
        put_digest_info(&input, OID_SHA512, digest);
        break;
    case SIG_ED25519:
    case SIG_ML_DSA_44:
    case SIG_ML_DSA_65:
        der_put_raw(&input, tbs);
        break;
    case SIG_NONE:
    case SIG_ALG_COUNT:
        return ERR_BAD_ALG;
    }
    if (!der_finish(&input, &view))
        return ERR_NO_SPACE;
    *out_len = view.len;
    return ERR_OK;
}

/* --- CA certificates --- */

void issuer_hash(const struct x509_cert *ca, uint8_t out[32])
{
    struct sha256_stream stream;

    sha256_start(&stream);
    sha256_update(&stream, ca->spki.der);
    sha256_update(&stream, ca->subject);
    sha256_finish(&stream, out);
}

enum { CA_KEY_USAGE = KU_KEY_CERT_SIGN | KU_CRL_SIGN };

/* RFC 5280 4.2.1.9: a path length below the issuer's. Self-issued certificates, as the links
 * between two keys of a CA (RFC 9810 4.4), do not count. */
static enum err check_ca_issuer(const struct ca_cert_input *input)
{
    const struct x509_cert *issuer = input->issuer;

    if (!issuer->is_ca || (issuer->has_key_usage && (issuer->key_usage & KU_KEY_CERT_SIGN) == 0))
        return ERR_BAD_CERT;
    if (bytes_eq(issuer->subject, input->subject))
        return ERR_OK;
    if (issuer->path_len == 0 || (issuer->path_len != UINT32_MAX && input->path_len >= 0 &&
                                  (uint32_t)input->path_len >= issuer->path_len))
        return ERR_BAD_TEMPLATE;
    return ERR_OK;
}

static void put_ca_extensions(struct der_builder *tbs, const struct ca_cert_input *input,
                              const struct spki *spki)
{
    uint8_t own_id[SHA1_LEN], issuer_id[SHA1_LEN];

    digest_once(HASH_SHA1, spki->key, own_id); /* RFC 5280 4.2.1.2 (1) */
    der_open(tbs, DER_CONTEXT_CONSTRUCTED(3));
    der_open(tbs, DER_SEQUENCE);
    ext_put_basic_constraints(tbs, true, input->path_len);
    ext_put_key_usage(tbs, CA_KEY_USAGE);
    ext_put_ski(tbs, BYTES_ARRAY(own_id));
    if (input->issuer != NULL) { /* a self-signed certificate needs none (4.2.1.1) */
        struct bytes key_id = input->issuer->ski;
        if (key_id.len == 0) {
            digest_once(HASH_SHA1, input->issuer->spki.key, issuer_id);
            key_id = BYTES_ARRAY(issuer_id);
        }
        ext_put_aki(tbs, key_id);
    }
    der_close(tbs);
    der_close(tbs);
}

enum err ca_cert_tbs_build(const struct ca_cert_input *input, uint8_t *out, size_t cap,
                           size_t *out_len)
{
    struct der_builder tbs = der_builder_of(out, cap);
    struct bytes alg_der = sig_alg_der(input->sig_alg), view;
    struct spki spki;

    if (alg_der.len == 0)
        return ERR_BAD_ALG;
    if (name_is_empty(input->subject)) /* RFC 5280 4.1.2.6: a CA has a name */
        return ERR_BAD_TEMPLATE;
    enum err err = spki_decode(input->spki, &spki);
    if (err == ERR_OK && input->issuer != NULL)
        err = check_ca_issuer(input);
    if (err != ERR_OK)
        return err;
    der_open(&tbs, DER_SEQUENCE);
    der_open(&tbs, DER_CONTEXT_CONSTRUCTED(0));
    der_put_u64(&tbs, DER_INTEGER, 2); /* v3 */
    der_close(&tbs);
    der_put_unsigned(&tbs, bytes_of(input->serial, SERIAL_LEN));
    der_put_raw(&tbs, alg_der);
    der_put_raw(&tbs, input->issuer != NULL ? input->issuer->subject : input->subject);
    der_open(&tbs, DER_SEQUENCE);
    der_put_time(&tbs, input->not_before_s);
    der_put_time(&tbs, input->not_after_s);
    der_close(&tbs);
    der_put_raw(&tbs, input->subject);
    der_put_raw(&tbs, input->spki);
    put_ca_extensions(&tbs, input, &spki);
    der_close(&tbs);
    if (!der_finish(&tbs, &view))
        return ERR_NO_SPACE;
    *out_len = view.len;
    return ERR_OK;
}

/* RFC 2986 4.1; asks for what ca_cert_tbs_build would write, so that the CA above can copy it. */
enum err ca_csr_info_build(struct bytes subject, struct bytes spki, uint8_t *out, size_t cap,
                           size_t *out_len)
{
    struct der_builder info = der_builder_of(out, cap);
    struct bytes view;

    if (name_is_empty(subject))
        return ERR_BAD_TEMPLATE;
    der_open(&info, DER_SEQUENCE);
    der_put_u64(&info, DER_INTEGER, 0); /* v1 */
    der_put_raw(&info, subject);
    der_put_raw(&info, spki);
    der_open(&info, DER_CONTEXT_CONSTRUCTED(0));
    der_open(&info, DER_SEQUENCE);
    der_put(&info, DER_OID, OID_EXTENSION_REQUEST);
    der_open(&info, DER_SET);
    der_open(&info, DER_SEQUENCE);
    ext_put_basic_constraints(&info, true, -1);
    ext_put_key_usage(&info, CA_KEY_USAGE);
    der_close(&info);
    der_close(&info);
    der_close(&info);
    der_close(&info);
    der_close(&info);
    if (!der_finish(&info, &view))
        return ERR_NO_SPACE;
    *out_len = view.len;
    return ERR_OK;
}
