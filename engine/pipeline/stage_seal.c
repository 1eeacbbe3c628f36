/* Keys that are made here, and SEAL: what only its receiver may open.
 *
 * A certificate that proves possession by being opened is encrypted here, on the core: one RSA or
 * ECDH operation with a public key, about 100 us, at most CMP_SEALED_MAX of a message. A key pair is
 * made, signed for and encrypted by the costly worker: RSA takes a second, a password its
 * iterations. Its private half is nowhere but in struct made_key and there until it is sealed; what
 * is kept for a repeated request is the sealed form. */
#include <stdlib.h>

#include "asn1/oid.h"
#include "base/secret.h"
#include "crypto/envelope.h"
#include "crypto/signed_data.h"
#include "pipeline/pipeline.h"

enum { KEY_PASSWORD_ITERATIONS = 10000, KEY_PACKAGE_MAX = 8192, SIGNED_DATA_ROOM = 2048 };

struct made_key {
    struct proto_key_wish wish;
    struct softkey *key;
    size_t spki_len;
    uint8_t spki[SPKI_DER_MAX];
    /* sealing */
    struct signed_data_signer signer;
    struct envelope_recipient recipient;
    uint8_t *sealed;
    size_t sealed_cap, sealed_len;
};

/* --- certificates --- */

enum err seal_check(const struct issuance *issuance)
{
    const struct spki *key = &issuance->request->spki;
    const struct profile *profile = issuance->exchange->line->profile;
    uint32_t needed =
        envelope_kind_of(key) == ENVELOPE_ECDH ? KU_KEY_AGREEMENT : KU_KEY_ENCIPHERMENT;
    if ((profile_settings(profile)->key_usage & needed) == 0) {
        return ERR_KEY_NOT_ALLOWED;
    }
    return envelope_key_check(key);
}

static enum err seal_cert(struct arena *arena, const struct cert_request *request,
                          struct proto_outcome *outcome)
{
    struct x509_cert cert;
    size_t cap = outcome->cert_der.len + ENVELOPE_OVERHEAD_MAX, len = 0;
    uint8_t *out = arena_alloc(arena, cap);
    enum err err = out ? x509_decode(outcome->cert_der, &cert) : ERR_OVERLOADED;
    if (err != ERR_OK) {
        return err;
    }
    struct envelope_recipient recipient = {
        .kind = envelope_kind_of(&request->spki),
        .key = &request->spki,
        .ski = cert.ski,
        .issuer = cert.issuer,
        .serial = cert.serial,
    };
    err = envelope_build(&recipient, ENVELOPE_AES256_CBC, OID_CMS_DATA, outcome->cert_der, out, cap,
                         &len);
    if (err == ERR_OK) {
        outcome->sealed = bytes_of(out, len);
    }
    return err;
}

void seal_certs(struct unit *unit)
{
    const struct proto_message *message = unit->message;
    for (uint32_t i = 0; i < message->request_count; i++) {
        struct proto_outcome *outcome = &unit->outcomes[i];
        if (outcome->err == ERR_OK && message->requests[i].pop == POP_KEY_ENCIPHERMENT) {
            outcome->err = seal_cert(&unit->exchange->net.arena, &message->requests[i], outcome);
        }
    }
}

/* --- the worker's part: heap, and nothing of the core's --- */

static void run_make(struct costly_job *job)
{
    struct made_key *made = ((struct unit *)job->owner)->made;
    job->err = softkey_generate(made->wish.alg, made->wish.bits, &made->key);
    if (job->err == ERR_OK) {
        job->err = softkey_spki(made->key, made->spki, sizeof(made->spki), &made->spki_len);
    }
}

static size_t signed_cap(const struct signed_data_signer *signer)
{
    size_t cap = KEY_PACKAGE_MAX + SIGNED_DATA_ROOM;
    for (size_t i = 0; i < signer->chain_count; i++) {
        cap += signer->chain[i].len;
    }
    return cap;
}

/* EnvelopedData of SignedData of AsymmetricKeyPackage (RFC 9810 5.2.2). */
static enum err seal_key(struct made_key *made, uint8_t *package, uint8_t *signed_data, size_t cap)
{
    size_t package_len = 0, signed_len = 0;
    enum err err = key_package_build(made->key, package, KEY_PACKAGE_MAX, &package_len);
    if (err == ERR_OK) {
        err = signed_data_build(&made->signer, OID_KEY_PACKAGE, bytes_of(package, package_len),
                                signed_data, cap, &signed_len);
    }
    if (err == ERR_OK) {
        err = envelope_build(&made->recipient, ENVELOPE_AES256_CBC, OID_CMS_SIGNED_DATA,
                             bytes_of(signed_data, signed_len), made->sealed, made->sealed_cap,
                             &made->sealed_len);
    }
    return err;
}

static void run_seal(struct costly_job *job)
{
    struct made_key *made = ((struct unit *)job->owner)->made;
    size_t cap = signed_cap(&made->signer);
    uint8_t *package = malloc(KEY_PACKAGE_MAX), *signed_data = malloc(cap);
    job->err = package && signed_data ? seal_key(made, package, signed_data, cap) : ERR_OVERLOADED;
    if (package) {
        secret_wipe(package, KEY_PACKAGE_MAX);
    }
    if (signed_data) {
        secret_wipe(signed_data, cap);
    }
    free(package);
    free(signed_data);
    softkey_free(made->key);
    made->key = NULL;
}

static enum err submit(struct core *core, struct unit *unit, enum unit_step step,
                       void (*run)(struct costly_job *job))
{
    unit->step = step;
    unit->costly = (struct costly_job){
        .run = run, .owner = unit, .core = core->index, .is_message = true, .no_sharing = true};
    enum err err = costly_submit(core->shared->costly, &unit->costly);
    unit->exchange->waits += err == ERR_OK;
    return err;
}

/* --- making --- */

void keys_start(struct core *core, struct exchange *exchange)
{
    for (uint32_t i = 0; i < unit_count(exchange); i++) {
        struct unit *unit = unit_at(exchange, i);
        const struct proto_message *message = unit->message;
        bool wants = message->key_wish != NULL && unit->err == ERR_OK &&
                     (message->action == ACTION_ENROLL || message->action == ACTION_REENROLL) &&
                     message->request_errs[0] == ERR_OK;
        if (!wants) {
            continue;
        }
        unit->made = arena_calloc(&exchange->net.arena, sizeof(*unit->made));
        if (unit->made) {
            unit->made->wish = *message->key_wish;
        }
        message->request_errs[0] =
            unit->made ? submit(core, unit, UNIT_MAKES_KEY, run_make) : ERR_OVERLOADED;
    }
}

void key_made(struct core *core, struct unit *unit, enum err err)
{
    struct exchange *exchange = unit->exchange;
    struct made_key *made = unit->made;
    if (err == ERR_OK) {
        err = spki_decode(bytes_of(made->spki, made->spki_len), &unit->message->requests[0].spki);
    }
    unit->message->request_errs[0] = err;
    if (--exchange->waits == 0) {
        pipeline_resume_exchange(core, exchange, STAGE_AUTHENTICATE, VERDICT_FAN_OUT);
    }
}

void key_forget(struct unit *unit)
{
    if (unit->made) {
        softkey_free(unit->made->key);
        unit->made->key = NULL;
    }
}

/* --- SEAL --- */

static void name_recipient(const struct unit *unit, struct envelope_recipient *out)
{
    if (unit->message->protection == PROTECTION_MAC) {
        *out = (struct envelope_recipient){
            .kind = ENVELOPE_PASSWORD,
            .password = unit->caller.station->cmp_secret,
            .iterations = KEY_PASSWORD_ITERATIONS,
        };
        return;
    }
    *out = (struct envelope_recipient){
        .kind = envelope_kind_of(&unit->signer->spki),
        .key = &unit->signer->spki,
        .ski = unit->signer->ski,
        .issuer = unit->signer->issuer,
        .serial = unit->signer->serial,
    };
}

static enum err start_sealing(struct core *core, struct unit *unit)
{
    const struct rt_signer *signer = unit->exchange->line->signer;
    struct made_key *made = unit->made;
    made->signer = (struct signed_data_signer){
        .key = signer->key,
        .cert = &signer->cert,
        .alg = signer->alg,
        .chain = signer->chain,
        .chain_count = signer->chain_count,
    };
    name_recipient(unit, &made->recipient);
    made->sealed_cap = signed_cap(&made->signer) + ENVELOPE_OVERHEAD_MAX;
    made->sealed = arena_alloc(&unit->exchange->net.arena, made->sealed_cap);
    return made->sealed ? submit(core, unit, UNIT_SEALS_KEY, run_seal) : ERR_OVERLOADED;
}

/* What nobody could open is not committed. */
static void drop_unsealed(struct core *core, struct unit *unit)
{
    struct enroll_set *set = &unit->enroll;
    uint32_t left = 0;
    for (uint32_t i = 0; i < set->count; i++) {
        enum err err = unit->outcomes[set->items[i].request].err;
        if (err == ERR_OK) {
            set->items[left++] = set->items[i];
        } else {
            metric_refused(core->metrics, err);
        }
    }
    set->count = left;
}

enum verdict stage_seal(struct core *core, struct exchange *exchange)
{
    for (uint32_t i = 0; i < unit_count(exchange); i++) {
        struct unit *unit = unit_at(exchange, i);
        enum proto_action action = unit->message->action;
        if (unit->err != ERR_OK || unit->is_kept || !unit->outcomes ||
            (action != ACTION_ENROLL && action != ACTION_REENROLL)) {
            continue;
        }
        seal_certs(unit);
        if (unit->made && unit->outcomes[0].err == ERR_OK) {
            unit->outcomes[0].err = start_sealing(core, unit);
        }
        drop_unsealed(core, unit);
    }
    return exchange->waits > 0 ? VERDICT_WAIT_COSTLY : VERDICT_NEXT;
}

/* Without its key the certificate is of no use: the device asks again and gets another. */
void key_sealed(struct core *core, struct unit *unit, enum err err)
{
    struct exchange *exchange = unit->exchange;
    unit->outcomes[0].err = err;
    if (err == ERR_OK) {
        unit->outcomes[0].sealed = bytes_of(unit->made->sealed, unit->made->sealed_len);
    }
    drop_unsealed(core, unit);
    if (--exchange->waits == 0) {
        pipeline_resume_exchange(core, exchange, STAGE_SEAL, VERDICT_NEXT);
    }
}
