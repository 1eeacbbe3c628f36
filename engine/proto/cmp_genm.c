/* General messages (RFC 9810 5.3.19): each question gets its answer, in order; what is not known is
 * named in unsupportedOIDs at the end. */
#include "asn1/oid.h"
#include "proto/cmp_impl.h"

/* id-it: 1.3.6.1.5.5.7.4.n; id-regCtrl: 1.3.6.1.5.5.7.5.1.n */
#define ID_IT(n)                                                                                   \
    {                                                                                              \
        0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x04, n                                                \
    }
enum { ID_IT_LEN = 8, ID_IT_COUNT = 32 };

enum info {
    IT_SIGN_KEY_PAIR_TYPES = 2,
    IT_ENC_KEY_PAIR_TYPES = 3,
    IT_PREFERRED_SYMM_ALG = 4,
    IT_CURRENT_CRL = 6,
    IT_UNSUPPORTED_OIDS = 7,
    IT_CONFIRM_WAIT_TIME = 14,
    IT_SUPP_LANG_TAGS = 16,
    IT_CA_CERTS = 17,
    IT_ROOT_CA_KEY_UPDATE = 18,
    IT_CERT_REQ_TEMPLATE = 19,
    IT_ROOT_CA_CERT = 20,
    IT_CRL_STATUS_LIST = 22,
    IT_CRLS = 23,
};

static const uint8_t ID_IT_PREFIX[] = {0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x04};

static struct bytes id_it(enum info info, struct arena *arena)
{
    uint8_t oid[ID_IT_LEN];
    memcpy(oid, ID_IT_PREFIX, sizeof(ID_IT_PREFIX));
    oid[ID_IT_LEN - 1] = (uint8_t)info;
    return arena_dup(arena, BYTES_ARRAY(oid));
}

/* 0: not an id-it of one octet */
static uint8_t number_of(struct bytes oid)
{
    bool known = oid.len == ID_IT_LEN && memcmp(oid.ptr, ID_IT_PREFIX, sizeof(ID_IT_PREFIX)) == 0;
    return known ? oid.ptr[ID_IT_LEN - 1] : 0;
}

/* --- values --- */

struct value {
    const struct proto_line *line;
    const struct cmp_state *state;
    struct bytes asked; /* value of the question */
    struct der_builder out;
};

static void put_key_types(struct value *v)
{
    static const enum key_alg all[] = {KEY_EC_P256, KEY_EC_P384, KEY_RSA, KEY_ED25519};
    const struct proto_cmp_line *cmp = v->line->cmp;
    der_open(&v->out, DER_SEQUENCE);
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        bool allowed = cmp->key_alg_count == 0;
        for (uint32_t k = 0; k < cmp->key_alg_count; k++) {
            allowed |= cmp->key_algs[k] == all[i];
        }
        if (allowed) {
            der_put_raw(&v->out, key_alg_der(all[i]));
        }
    }
    der_close(&v->out);
}

static void put_symm_alg(struct value *v)
{
    /* id-aes256-CBC 2.16.840.1.101.3.4.1.42 */
    static const uint8_t alg[] = {0x30, 0x0b, 0x06, 0x09, 0x60, 0x86, 0x48,
                                  0x01, 0x65, 0x03, 0x04, 0x01, 0x2a};
    der_put_raw(&v->out, BYTES_ARRAY(alg));
}

static void put_lang_tags(struct value *v)
{
    der_open(&v->out, DER_SEQUENCE);
    der_put(&v->out, DER_UTF8_STRING, BYTES_LIT("en"));
    der_close(&v->out);
}

static void put_ca_certs(struct value *v)
{
    der_open(&v->out, DER_SEQUENCE);
    for (uint32_t i = 0; i < v->line->ca_cert_count; i++) {
        der_put_raw(&v->out, v->line->ca_certs[i]);
    }
    der_close(&v->out);
}

/* CertReqTemplateContent: nothing is prescribed but the keys */
static void put_template(struct value *v)
{
    static const uint8_t alg_id[] = {0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x05, 0x01, 0x0b};
    static const uint8_t rsa_key_len[] = {0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x05, 0x01, 0x0c};
    static const enum key_alg named[] = {KEY_EC_P256, KEY_EC_P384, KEY_ED25519};
    const struct proto_cmp_line *cmp = v->line->cmp;
    bool rsa = cmp->key_alg_count == 0;
    der_open(&v->out, DER_SEQUENCE);
    der_open(&v->out, DER_SEQUENCE); /* CertTemplate */
    der_close(&v->out);
    der_open(&v->out, DER_SEQUENCE); /* keySpec Controls */
    for (size_t i = 0; i < sizeof(named) / sizeof(named[0]); i++) {
        bool allowed = cmp->key_alg_count == 0;
        for (uint32_t k = 0; k < cmp->key_alg_count; k++) {
            allowed |= cmp->key_algs[k] == named[i];
            rsa |= cmp->key_algs[k] == KEY_RSA;
        }
        if (allowed) {
            der_open(&v->out, DER_SEQUENCE);
            der_put(&v->out, DER_OID, BYTES_ARRAY(alg_id));
            der_put_raw(&v->out, key_alg_der(named[i]));
            der_close(&v->out);
        }
    }
    if (rsa) {
        der_open(&v->out, DER_SEQUENCE);
        der_put(&v->out, DER_OID, BYTES_ARRAY(rsa_key_len));
        der_put_u64(&v->out, DER_INTEGER, cmp->rsa_bits_min);
        der_close(&v->out);
    }
    der_close(&v->out);
    der_close(&v->out);
}

static void put_confirm_wait(struct value *v)
{
    der_put_generalized_time(&v->out, v->state->now_s + v->line->cmp->confirm_wait_s);
}

static void put_link(struct value *v, unsigned number, struct bytes link)
{
    if (link.len > 0) {
        der_open(&v->out, DER_CONTEXT_CONSTRUCTED(number));
        der_put_raw(&v->out, link);
        der_close(&v->out);
    }
}

/* RootCaKeyUpdateContent (5.3.19.15). Who names no root is told of the last rollover; who names the
 * one before the last has no use for links to the last, and gets the new root alone. Nothing when
 * there is no newer root than the one named, or that is none of ours. */
static void put_root_update(struct value *v)
{
    const struct proto_cmp_line *cmp = v->line->cmp;
    uint32_t at = 0;
    while (at < cmp->root_old_count && v->asked.len > 0 &&
           !bytes_eq(v->asked, cmp->root_olds[at])) {
        at++;
    }
    if (at == cmp->root_old_count) {
        return;
    }
    der_open(&v->out, DER_SEQUENCE);
    der_put_raw(&v->out, cmp->root_cert);
    if (at == 0) {
        put_link(v, 0, cmp->root_new_with_old);
        put_link(v, 1, cmp->root_old_with_new);
    }
    der_close(&v->out);
}

static void put_current_crl(struct value *v)
{
    der_put_raw(&v->out, v->state->crl);
}

/* Nothing when the client has it already. */
static void put_newer_crls(struct value *v)
{
    bool newer = false;
    const struct cmp_state *state = v->state;
    if (state->crl.len > 0 &&
        cmp_crl_asked(v->line->cmp, v->asked, state->crl_this_update_s, &newer) && newer) {
        der_open(&v->out, DER_SEQUENCE);
        der_put_raw(&v->out, state->crl);
        der_close(&v->out);
    }
}

/* --- questions and answers --- */

static const struct answer_def {
    enum info asked;
    enum info answered;
    void (*put)(struct value *v);
    enum { VALUE_NONE, VALUE_ANY, VALUE_CERT, VALUE_CRL_STATUS } value; /* of the question */
} answers[] = {
    {IT_SIGN_KEY_PAIR_TYPES, IT_SIGN_KEY_PAIR_TYPES, put_key_types, VALUE_NONE},
    {IT_PREFERRED_SYMM_ALG, IT_PREFERRED_SYMM_ALG, put_symm_alg, VALUE_NONE},
    {IT_CONFIRM_WAIT_TIME, IT_CONFIRM_WAIT_TIME, put_confirm_wait, VALUE_ANY},
    {IT_SUPP_LANG_TAGS, IT_SUPP_LANG_TAGS, put_lang_tags, VALUE_ANY},
    {IT_CA_CERTS, IT_CA_CERTS, put_ca_certs, VALUE_NONE},
    {IT_CERT_REQ_TEMPLATE, IT_CERT_REQ_TEMPLATE, put_template, VALUE_NONE},
    {IT_ROOT_CA_CERT, IT_ROOT_CA_KEY_UPDATE, put_root_update, VALUE_CERT},
    {IT_CURRENT_CRL, IT_CURRENT_CRL, put_current_crl, VALUE_NONE},
    {IT_CRL_STATUS_LIST, IT_CRLS, put_newer_crls, VALUE_CRL_STATUS},
};

static const struct answer_def *find_answer(struct bytes oid)
{
    uint8_t number = number_of(oid);
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        if (number != 0 && answers[i].asked == (enum info)number) {
            return &answers[i];
        }
    }
    return NULL;
}

static bool wants_crl(const struct answer_def *def)
{
    return def && (def->asked == IT_CURRENT_CRL || def->asked == IT_CRL_STATUS_LIST);
}

bool cmp_genm_wants_crl(const struct cmp_state *state)
{
    for (uint32_t i = 0; i < state->count; i++) {
        if (wants_crl(find_answer(state->infos[i].oid))) {
            return true;
        }
    }
    return false;
}

static size_t room_for(const struct proto_line *line)
{
    const struct proto_cmp_line *cmp = line->cmp;
    size_t room = 512 + cmp->root_cert.len + cmp->root_new_with_old.len +
                  cmp->root_old_with_new.len;
    for (uint32_t i = 0; i < line->ca_cert_count; i++) {
        room += line->ca_certs[i].len;
    }
    return room;
}

/* NULL for nothing was RFC 2510's way, and is still about. */
static bool value_fits(const struct proto_line *line, struct bytes value,
                       const struct answer_def *def)
{
    bool newer;
    static const uint8_t null[] = {DER_NULL, 0};
    struct x509_cert cert;
    switch (def->value) {
    case VALUE_NONE:
        return value.len == 0 || bytes_eq(value, BYTES_ARRAY(null));
    case VALUE_CERT:
        return value.len == 0 || x509_decode(value, &cert) == ERR_OK;
    case VALUE_CRL_STATUS:
        return cmp_crl_asked(line->cmp, value, 0, &newer);
    case VALUE_ANY:
        break;
    }
    return true;
}

static enum err answer_one(const struct proto_line *line, const struct cmp_state *state,
                           const struct cmp_info *asked, const struct answer_def *def,
                           struct arena *arena, struct cmp_info *out)
{
    if (!value_fits(line, asked->value, def)) {
        return ERR_BAD_REQUEST;
    }
    if (def->asked == IT_CURRENT_CRL && state->crl.len == 0) {
        return ERR_NO_CRL;
    }
    size_t cap = room_for(line) + (wants_crl(def) ? state->crl.len : 0);
    uint8_t *buf = arena_alloc(arena, cap);
    struct value value = {line, state, asked->value, der_builder_of(buf, buf ? cap : 0)};
    def->put(&value);
    out->oid = id_it(def->answered, arena);
    return der_finish(&value.out, &out->value) && out->oid.len > 0 ? ERR_OK : ERR_OVERLOADED;
}

static enum err put_unsupported(const struct cmp_state *state, struct arena *arena,
                                struct cmp_info *out)
{
    size_t cap = 64;
    for (uint32_t i = 0; i < state->count; i++) {
        cap += state->infos[i].oid.len + 8;
    }
    uint8_t *buf = arena_alloc(arena, cap);
    struct der_builder builder = der_builder_of(buf, buf ? cap : 0);
    der_open(&builder, DER_SEQUENCE);
    for (uint32_t i = 0; i < state->count; i++) {
        if (!find_answer(state->infos[i].oid)) {
            der_put(&builder, DER_OID, state->infos[i].oid);
        }
    }
    der_close(&builder);
    out->oid = id_it(IT_UNSUPPORTED_OIDS, arena);
    return der_finish(&builder, &out->value) && out->oid.len > 0 ? ERR_OK : ERR_OVERLOADED;
}

enum err cmp_genp_infos(const struct proto_line *line, const struct cmp_state *state,
                        struct arena *arena, struct cmp_info out[], uint32_t max,
                        uint32_t *out_count)
{
    uint32_t count = 0;
    bool unknown = false;
    for (uint32_t i = 0; i < state->count; i++) {
        const struct answer_def *def = find_answer(state->infos[i].oid);
        if (!def) {
            unknown = true;
            continue;
        }
        if (count == max) {
            return ERR_BAD_REQUEST;
        }
        enum err err = answer_one(line, state, &state->infos[i], def, arena, &out[count]);
        if (err != ERR_OK) {
            return err;
        }
        count++;
    }
    if (unknown) {
        enum err err = count < max ? put_unsupported(state, arena, &out[count]) : ERR_BAD_REQUEST;
        if (err != ERR_OK) {
            return err;
        }
        count++;
    }
    *out_count = count;
    return ERR_OK;
}
