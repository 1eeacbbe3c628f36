/* AUTHENTICATE: who asks (TLS client certificate, HTTP Basic), and may they ask for this at all.
 * What they may ask for is ADMIT's. */
#include "asn1/base64.h"
#include "base/secret.h"
#include "crypto/digest.h"
#include "crypto/password.h"
#include "pipeline/pipeline.h"
#include "proto/est.h"

/* Who the client certificate of a connection is, kept with the connection: a path is validated once
 * per connection, line and configuration. Revocation is looked up every time. */
struct peer_identity {
    uint32_t generation_1; /* snapshot generation + 1; 0: nothing cached */
    uint32_t line_index;
    enum err err;
    enum caller_kind kind;
    uint32_t station_index;
    uint64_t cert_log;
    int64_t not_after_s;
    uint8_t device_id_len;
    char device_id[DEVICE_ID_MAX];
};
_Static_assert(sizeof(struct peer_identity) <= sizeof(((struct net_peer *)0)->user),
               "fits the peer");

enum { BASIC_CACHE_TTL_S = 300, AUTHORIZATION_MAX = 1024, NO_STATION = UINT32_MAX };

/* A yescrypt hash of nothing anybody knows: unknown users cost what known ones do. */
static const char DUMMY_HASH[] =
    "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agCG9G317fhZg9SqC.5i5rd.RhAtQ7";

/* --- client certificates --- */

/* Certificates of our own: what the store holds for this serial is, octet for octet, what was
 * presented, so its signature needs no second check. */
static bool identify_own(struct core *core, const struct rt_line *line, struct bytes der,
                         const struct x509_cert *cert, struct peer_identity *out)
{
    uint64_t log;
    struct cert_view stored;
    if (rt_ca_find_cert(line->ca, core->reader, cert, &log) != ERR_OK ||
        reader_cert(core->reader, log, &stored) != ERR_OK || !bytes_eq(stored.der, der)) {
        return false;
    }
    out->kind = CALLER_DEVICE;
    out->cert_log = log;
    out->not_after_s = cert->not_after_s;
    out->err = ERR_OK;
    if (stored.record->line_id != line->line_id) {
        out->err = ERR_CLIENT_CERT_UNTRUSTED;
    } else if (core->now_s < cert->not_before_s) {
        out->err = ERR_CLIENT_CERT_EXPIRED;
    }
    out->device_id_len = (uint8_t)stored.device_id.len;
    memcpy(out->device_id, stored.device_id.ptr, stored.device_id.len);
    return true;
}

static uint32_t station_by_subject(const struct snapshot *snapshot, struct bytes subject)
{
    for (uint32_t i = 0; i < snapshot->station_count; i++) {
        const struct rt_station *station = &snapshot->stations[i];
        if (station->subject_len > 0 &&
            bytes_eq(bytes_of(station->subject_der, station->subject_len), subject)) {
            return i;
        }
    }
    return NO_STATION;
}

static void identify_foreign(struct core *core, const struct exchange *exchange,
                             const struct bytes chain[], uint32_t chain_count,
                             const struct x509_cert *cert, struct peer_identity *out)
{
    const struct rt_line *line = exchange->line;
    const struct trust_anchor *anchor;
    out->not_after_s = cert->not_after_s;
    out->station_index = NO_STATION;
    out->err = line->config->client_cert
                   ? path_validate(line->anchors, chain, chain_count, core->now_s, &anchor)
                   : ERR_CLIENT_CERT_UNTRUSTED;
    if (out->err != ERR_OK) {
        return;
    }
    if (cert->has_ext_key_usage && (cert->ext_key_usage & EKU_CMC_RA) != 0) {
        out->kind = CALLER_RA; /* RFC 7030 3.7, RFC 6402 2.10 */
        return;
    }
    out->station_index = station_by_subject(exchange->snapshot, cert->subject);
    if (out->station_index != NO_STATION) {
        out->kind = CALLER_STATION;
        return;
    }
    out->kind = CALLER_VENDOR;
    struct identity id;
    if (identity_find(line->device_id, cert->subject, cert->san, &id) == ERR_OK) {
        out->device_id_len = (uint8_t)id.len;
        memcpy(out->device_id, id.id, id.len);
    }
}

static void identify_cert(struct core *core, const struct exchange *exchange,
                          const struct bytes chain[], uint32_t chain_count,
                          struct peer_identity *out)
{
    memset(out, 0, sizeof(*out));
    struct x509_cert cert;
    if (chain_count == 0 || x509_decode(chain[0], &cert) != ERR_OK) {
        out->err = ERR_CLIENT_CERT_UNTRUSTED;
    } else if (!identify_own(core, exchange->line, chain[0], &cert, out)) {
        identify_foreign(core, exchange, chain, chain_count, &cert, out);
    }
    out->line_index = exchange->line->index;
    out->generation_1 = exchange->snapshot->generation + 1;
}

static bool is_current(const struct peer_identity *peer, const struct exchange *exchange)
{
    return peer->generation_1 == exchange->snapshot->generation + 1 &&
           peer->line_index == exchange->line->index;
}

/* What may have changed since the path was validated, and who that makes the caller. */
static enum err caller_of(struct core *core, const struct exchange *exchange,
                          const struct peer_identity *peer, struct caller *out)
{
    if (peer->err != ERR_OK) {
        return peer->err;
    }
    if (core->now_s > peer->not_after_s) {
        return ERR_CLIENT_CERT_EXPIRED;
    }
    if (peer->kind == CALLER_DEVICE) {
        struct cert_view stored;
        if (reader_cert(core->reader, peer->cert_log, &stored) != ERR_OK) {
            return ERR_INTERNAL;
        }
        if (stored.record->status == CERT_REVOKED || stored.record->status == CERT_ON_HOLD) {
            return ERR_CLIENT_CERT_REVOKED;
        }
        out->superseded = stored.record->status == CERT_SUPERSEDED;
    }
    out->kind = peer->kind;
    out->cert_log = peer->cert_log;
    out->device_id_len = peer->device_id_len;
    memcpy(out->device_id, peer->device_id, peer->device_id_len);
    if (peer->kind == CALLER_STATION) {
        out->station = &exchange->snapshot->stations[peer->station_index];
    }
    return ERR_OK;
}

static enum err identify_by_cert(struct core *core, struct exchange *exchange)
{
    const struct tls_peer *tls = exchange->net.peer->tls;
    struct peer_identity *peer = (struct peer_identity *)(void *)exchange->net.peer->user;
    if (!is_current(peer, exchange)) {
        identify_cert(core, exchange, tls->chain, tls->chain_count, peer);
    }
    return caller_of(core, exchange, peer, &exchange->own.caller);
}

struct signer_entry {
    uint8_t cert_hash[SHA256_LEN];
    struct peer_identity peer;
};

enum err caller_by_cert(struct core *core, const struct exchange *exchange,
                        const struct bytes chain[], uint32_t chain_count, struct caller *out)
{
    if (chain_count == 0) {
        return ERR_CLIENT_CERT_UNTRUSTED;
    }
    uint8_t hash[SHA256_LEN];
    sha256_once(chain[0], hash);
    struct signer_entry *entry =
        (struct signer_entry *)(void *)core->signer_cache[hash[0] % SIGNER_CACHE_SIZE].opaque;
    if (!is_current(&entry->peer, exchange) || memcmp(entry->cert_hash, hash, sizeof(hash)) != 0) {
        identify_cert(core, exchange, chain, chain_count, &entry->peer);
        memcpy(entry->cert_hash, hash, sizeof(hash));
    }
    enum err err = caller_of(core, exchange, &entry->peer, out);
    if (entry->peer.err != ERR_OK) {
        entry->peer.generation_1 = 0; /* the rest of the chain may be complete the next time */
    }
    return err;
}
_Static_assert(sizeof(struct signer_entry) <= sizeof(struct signer_cache_entry), "fits the cache");

/* --- HTTP Basic (RFC 7617) --- */

static void basic_mac(const struct core *core, struct bytes authorization, uint8_t out[32])
{
    hmac_once(HASH_SHA256, BYTES_ARRAY(core->shared->cache_key), authorization, out);
}

static uint32_t basic_cache_find(struct core *core, const struct exchange *exchange,
                                 const uint8_t mac[32])
{
    const struct basic_cache_entry *entry = &core->basic_cache[mac[0] % BASIC_CACHE_SIZE];
    if (entry->until_ns > core->now_ns && entry->generation == exchange->snapshot->generation &&
        secret_eq(bytes_of(entry->mac, 32), bytes_of(mac, 32))) {
        return entry->station_index;
    }
    return NO_STATION;
}

static uint32_t station_by_user(const struct exchange *exchange, struct bytes user)
{
    const struct snapshot *snapshot = exchange->snapshot;
    uint32_t found = NO_STATION;
    for (uint32_t i = 0; i < snapshot->station_count; i++) {
        const struct rt_station *station = &snapshot->stations[i];
        if (!station->password_hash) {
            continue;
        }
        if (user.len > 0 && bytes_eq(bytes_of_str(station->name), user)) {
            return i;
        }
        /* An empty user name (RFC 7030 3.2.3 clients do this) names the line's only station. */
        if (user.len == 0 && (station->line_mask >> exchange->line->index & 1) != 0) {
            if (found != NO_STATION) {
                return NO_STATION;
            }
            found = i;
        }
    }
    return found;
}

static void run_password_check(struct costly_job *job)
{
    enum err err = password_check(job->input, job->hash);
    job->err = job->value == NO_STATION ? ERR_AUTH_FAILED : err;
}

static enum verdict basic_start(struct core *core, struct exchange *exchange, struct bytes encoded)
{
    uint8_t *text = arena_alloc(&exchange->net.arena, AUTHORIZATION_MAX);
    size_t text_len = 0;
    if (!text) {
        exchange->own.err = ERR_OVERLOADED;
        return VERDICT_REFUSE;
    }
    exchange->own.err = ERR_AUTH_FAILED;
    if (!base64_decode(encoded, text, AUTHORIZATION_MAX, &text_len)) {
        return VERDICT_REFUSE;
    }
    struct bytes all = bytes_of(text, text_len);
    size_t colon = bytes_find(all, ':');
    if (colon == all.len || all.len - colon - 1 > PASSWORD_MAX) {
        secret_wipe(text, AUTHORIZATION_MAX);
        return VERDICT_REFUSE;
    }
    uint32_t index = station_by_user(exchange, bytes_of(text, colon));
    exchange->own.costly = (struct costly_job){
        .run = run_password_check,
        .owner = exchange,
        .core = core->index,
        .input = bytes_of(text + colon + 1, all.len - colon - 1),
        .hash =
            index == NO_STATION ? DUMMY_HASH : exchange->snapshot->stations[index].password_hash,
        .value = index,
    };
    /* user, password and the hash they are held against */
    uint8_t both[32 + 32];
    hmac_once(HASH_SHA256, BYTES_ARRAY(core->shared->cache_key), all, both);
    hmac_once(HASH_SHA256, BYTES_ARRAY(core->shared->cache_key),
              bytes_of_str(exchange->own.costly.hash), both + 32);
    hmac_once(HASH_SHA256, BYTES_ARRAY(core->shared->cache_key), BYTES_ARRAY(both),
              exchange->own.costly.same);
    exchange->own.err = costly_submit(core->shared->costly, &exchange->own.costly);
    if (exchange->own.err != ERR_OK) {
        secret_wipe(text, AUTHORIZATION_MAX);
        return VERDICT_REFUSE;
    }
    return VERDICT_WAIT_COSTLY;
}

static void basic_accept(struct exchange *exchange, uint32_t station_index)
{
    exchange->own.caller.kind = CALLER_STATION;
    exchange->own.caller.station = &exchange->snapshot->stations[station_index];
}

static enum verdict identify_by_basic(struct core *core, struct exchange *exchange)
{
    struct bytes authorization = exchange->net.http.authorization;
    static const struct bytes scheme = {(const uint8_t *)"Basic ", 6};
    if (authorization.len <= scheme.len || authorization.len > AUTHORIZATION_MAX ||
        !bytes_eq_nocase(bytes_of(authorization.ptr, scheme.len), scheme)) {
        exchange->own.err = ERR_AUTH_REQUIRED;
        return VERDICT_REFUSE;
    }
    uint8_t mac[32];
    basic_mac(core, authorization, mac);
    if (exchange->basic_checked) {
        secret_wipe((void *)(uintptr_t)exchange->own.costly.input.ptr, exchange->own.costly.input.len);
        if (exchange->own.costly.err != ERR_OK) {
            exchange->own.err = exchange->own.costly.err;
            return VERDICT_REFUSE;
        }
        struct basic_cache_entry *entry = &core->basic_cache[mac[0] % BASIC_CACHE_SIZE];
        memcpy(entry->mac, mac, sizeof(mac));
        entry->generation = exchange->snapshot->generation;
        entry->station_index = exchange->own.costly.value;
        entry->until_ns = core->now_ns + BASIC_CACHE_TTL_S * NS_PER_S;
        basic_accept(exchange, exchange->own.costly.value);
        return VERDICT_NEXT;
    }
    uint32_t cached = basic_cache_find(core, exchange, mac);
    if (cached != NO_STATION) {
        basic_accept(exchange, cached);
        return VERDICT_NEXT;
    }
    struct bytes encoded = bytes_of(authorization.ptr + scheme.len, authorization.len - scheme.len);
    return basic_start(core, exchange, encoded);
}

/* --- who, together --- */

static enum verdict identify(struct core *core, struct exchange *exchange)
{
    struct net_peer *peer = exchange->net.peer;
    struct caller *caller = &exchange->own.caller;
    *caller = (struct caller){0};
    if (!peer) {
        exchange->own.err = ERR_AUTH_REQUIRED; /* the connection is gone: nobody to answer */
        return VERDICT_REFUSE;
    }
    enum err cert_err = ERR_OK;
    if (peer->tls && peer->tls->chain_count > 0) {
        caller->has_cert = true;
        cert_err = identify_by_cert(core, exchange);
        if (cert_err == ERR_OK) {
            return VERDICT_NEXT;
        }
    }
    if (exchange->net.http.authorization.len > 0 && exchange->line->config->basic_auth) {
        return identify_by_basic(core, exchange);
    }
    exchange->own.err = cert_err != ERR_OK ? cert_err : ERR_AUTH_REQUIRED;
    return VERDICT_REFUSE;
}

void caller_name(struct caller *caller)
{
    struct bytes name = {0};
    if (caller->station) {
        name = bytes_of_str(caller->station->name);
    } else if (caller->kind == CALLER_RA) {
        name = BYTES_LIT("registration-authority");
    } else if (caller->device_id_len > 0) {
        name = bytes_of(caller->device_id, caller->device_id_len);
    }
    caller->name_len = (uint8_t)(name.len < STATION_NAME_MAX ? name.len : STATION_NAME_MAX);
    if (caller->name_len > 0) {
        memcpy(caller->name, name.ptr, caller->name_len);
    }
}

enum err caller_check_role(const struct exchange *exchange, const struct caller *caller,
                           uint32_t role)
{
    const struct rt_station *station = caller->station;
    if (caller->kind != CALLER_STATION) {
        return ERR_OK;
    }
    bool on_line = (station->line_mask >> exchange->line->index & 1) != 0;
    return on_line && (station->roles & role) != 0 ? ERR_OK : ERR_NOT_AUTHORIZED;
}

enum err caller_check_identity(const struct exchange *exchange, const struct caller *caller,
                               const struct cert_request *request, struct identity *out)
{
    enum err err =
        identity_find(exchange->line->device_id, request->subject, request->san, out);
    bool for_itself = caller->kind == CALLER_VENDOR || caller->kind == CALLER_DEVICE;
    if (err != ERR_OK || !for_itself) {
        return err;
    }
    struct bytes own = bytes_of(caller->device_id, caller->device_id_len);
    return bytes_eq(bytes_of(out->id, out->len), own) ? ERR_OK : ERR_IDENTITY_MISMATCH;
}

/* RFC 7030 3.5: a challengePassword that is there is a channel binding and must match. */
static enum err check_pop_link(const struct exchange *exchange, const struct cert_request *request)
{
    if (exchange->own.caller.kind == CALLER_RA) {
        return ERR_OK; /* RFC 7030 3.7: an RA cannot link what its clients signed */
    }
    if (!request->has_challenge_password) {
        return exchange->line->config->require_pop_link ? ERR_POP_LINK_REQUIRED : ERR_OK;
    }
    const struct tls_peer *tls = exchange->net.peer->tls;
    struct bytes binding = {0};
    if (tls && tls->has_unique) {
        binding = bytes_of(tls->unique, tls->unique_len);
    } else if (tls && tls->has_exporter) {
        binding = BYTES_ARRAY(tls->exporter);
    }
    return binding.len > 0 && est_pop_link_matches(request->challenge_password, binding)
               ? ERR_OK
               : ERR_POP_LINK_MISMATCH;
}

/* RFC 7030 4.2.2: Subject and SAN equal to those of the current certificate. */
static enum err check_reenroll(const struct exchange *exchange, const struct cert_request *request)
{
    if (exchange->own.caller.kind != CALLER_DEVICE) {
        return ERR_CLIENT_CERT_REQUIRED;
    }
    if (!exchange->line->config->renewal) {
        return ERR_NOT_AUTHORIZED;
    }
    struct x509_cert current;
    if (x509_decode(exchange->net.peer->tls->chain[0], &current) != ERR_OK) {
        return ERR_INTERNAL;
    }
    bool same = bytes_eq(request->subject, current.subject) &&
                bytes_eq(request->san, current.san) && request->change_subject_name.len == 0;
    return same ? ERR_OK : ERR_SUBJECT_CHANGED;
}

static enum err authorize(const struct exchange *exchange)
{
    const struct proto_message *message = &exchange->message;
    bool renewal = message->action == ACTION_REENROLL;
    enum err err = caller_check_role(exchange, &exchange->own.caller, ROLE_ENROLL);
    for (uint32_t i = 0; i < message->request_count && err == ERR_OK; i++) {
        err = renewal ? check_reenroll(exchange, &message->requests[i]) : ERR_OK;
        if (err == ERR_OK) {
            err = check_pop_link(exchange, &message->requests[i]);
        }
    }
    return err == ERR_OK && exchange->line->config->hold ? ERR_HELD : err;
}

enum verdict stage_authenticate(struct core *core, struct exchange *exchange)
{
    enum proto_action action = exchange->message.action;
    if (action == ACTION_CA_CERTS || action == ACTION_CSR_ATTRS) {
        return VERDICT_NEXT; /* anonymous: RFC 7030 4.1.1, 4.5.1 */
    }
    if (exchange->route.proto->resume) {
        return message_authenticate(core, exchange);
    }
    enum err err = reader_begin(core->reader);
    if (err != ERR_OK) {
        exchange->own.err = err;
        return VERDICT_REFUSE;
    }
    exchange->own.err = ERR_OK;
    enum verdict verdict = identify(core, exchange);
    reader_end(core->reader);
    if (verdict != VERDICT_NEXT) {
        return verdict;
    }
    caller_name(&exchange->own.caller);
    if (action == ACTION_CONFIRM) {
        exchange->own.err = caller_check_role(exchange, &exchange->own.caller, ROLE_CONFIRM);
        return exchange->own.err == ERR_OK ? commit_confirmation(core, exchange) : VERDICT_REFUSE;
    }
    exchange->own.err = action == ACTION_ENROLL || action == ACTION_REENROLL ? authorize(exchange)
                                                                         : ERR_NOT_OFFERED;
    return exchange->own.err == ERR_OK ? VERDICT_FAN_OUT : VERDICT_REFUSE;
}
