#include "crypto/path.h"

#include <stdlib.h>

/* --- trust stores --- */

/* RFC 5280 6.1.1 (d) leaves to us what an anchor must be: a CA that may sign certificates. */
static bool may_issue(const struct x509_cert *cert)
{
    return cert->is_ca && !cert->unknown_critical &&                     /* 6.1.4 (k), (o) */
           (!cert->has_key_usage || cert->key_usage & KU_KEY_CERT_SIGN); /* 6.1.4 (n) */
}

enum err trust_store_add(struct trust_store *store, struct bytes cert_der)
{
    struct x509_cert cert;
    if (cert_der.len > CERT_DER_MAX || x509_decode(cert_der, &cert) || !may_issue(&cert))
        return ERR_BAD_CERT;
    for (uint32_t i = 0; i < store->count; i++)
        if (bytes_eq(store->anchor[i].cert.der, cert_der))
            return ERR_OK;
    if (store->count == TRUST_ANCHORS_MAX)
        return ERR_FULL;
    uint8_t *copy = malloc(cert_der.len);
    if (!copy)
        return ERR_FULL;
    memcpy(copy, cert_der.ptr, cert_der.len);
    struct trust_anchor *anchor = &store->anchor[store->count];
    struct verify_key *key = NULL;
    if (!x509_decode(bytes_of(copy, cert_der.len), &cert))
        key = verify_key_new(&cert.spki);
    if (!key) {
        free(copy);
        return ERR_BAD_CERT;
    }
    *anchor = (struct trust_anchor){cert, key};
    store->count++;
    return ERR_OK;
}

void trust_store_clear(struct trust_store *store)
{
    for (uint32_t i = 0; i < store->count; i++) {
        verify_key_free(store->anchor[i].key);
        free((void *)(uintptr_t)store->anchor[i].cert.der.ptr);
    }
    *store = (struct trust_store){0};
}

/* --- paths --- */

/* Paths through cross-certificates could be many; a chain of CERT_CHAIN_MAX needs at most as many
 * checks as it has certificates, and a few more for wrong turns. */
enum { PATH_CHECKS_MAX = 4 * CERT_CHAIN_MAX };

struct search {
    const struct trust_store *store;
    struct x509_cert cert[CERT_CHAIN_MAX];
    bool used[CERT_CHAIN_MAX];
    size_t count;
    int64_t now_s;
    uint32_t checks;
    const struct trust_anchor *expired; /* of a path whose only fault is time */
};

static bool is_valid_at(const struct x509_cert *cert, int64_t now_s)
{
    return cert->not_before_s <= now_s && now_s <= cert->not_after_s;
}

/* Does issuer's name, and its key identifier where both say one, fit? Names are compared as
 * encoded: RFC 5280 4.1.2.4 and 4.1.2.6 want a CA to encode its name the same way in both places,
 * and 7.1 allows to treat names as different that only its full comparison would find equal. */
static bool names_chain(const struct x509_cert *cert, const struct x509_cert *issuer)
{
    if (!bytes_eq(cert->issuer, issuer->subject))
        return false; /* 6.1.3 (a)(4) */
    return cert->aki.len == 0 || issuer->ski.len == 0 || bytes_eq(cert->aki, issuer->ski);
}

/* below: certificates between issuer and the end entity that are not self-issued. */
static bool issuer_is_allowed(const struct x509_cert *issuer, uint32_t below)
{
    /* 6.1.4 (l), (m): no more intermediate certificates than pathLenConstraint says */
    return may_issue(issuer) && below <= issuer->path_len;
}

static bool signature_is_good(struct search *search, const struct x509_cert *cert,
                              const struct spki *spki, const struct verify_key *key)
{
    if (++search->checks > PATH_CHECKS_MAX)
        return false;
    struct verify_job job = {
        .alg = cert->sig_alg,
        .spki = spki,
        .key = key,
        .message = cert->tbs,
        .signature = cert->signature,
    };
    return verify_one(&job) == ERR_OK; /* 6.1.3 (a)(1) */
}

/* A certificate whose path continues above it. */
struct step {
    const struct x509_cert *cert;
    uint32_t below; /* of an issuer of cert */
    bool in_time;   /* everything so far */
};

static const struct trust_anchor *find_anchor(struct search *search, struct step at)
{
    for (uint32_t i = 0; i < search->store->count; i++) {
        const struct trust_anchor *anchor = &search->store->anchor[i];
        if (!names_chain(at.cert, &anchor->cert) || !issuer_is_allowed(&anchor->cert, at.below) ||
            !signature_is_good(search, at.cert, NULL, anchor->key))
            continue;
        if (at.in_time && is_valid_at(&anchor->cert, search->now_s))
            return anchor;
        search->expired = anchor;
    }
    return NULL;
}

/* Depth first; `search->used` keeps a certificate from being its own ancestor, so the depth is
 * bounded by CERT_CHAIN_MAX. */
static const struct trust_anchor *climb(struct search *search, struct step at)
{
    const struct trust_anchor *anchor = find_anchor(search, at);
    for (size_t i = 1; i < search->count && !anchor; i++) {
        const struct x509_cert *issuer = &search->cert[i];
        if (search->used[i] || !names_chain(at.cert, issuer) ||
            !issuer_is_allowed(issuer, at.below) ||
            !signature_is_good(search, at.cert, &issuer->spki, NULL))
            continue;
        struct step next = {
            .cert = issuer,
            /* 6.1.4 (l): a self-issued certificate does not count */
            .below = at.below + (bytes_eq(issuer->issuer, issuer->subject) ? 0 : 1),
            .in_time = at.in_time && is_valid_at(issuer, search->now_s), /* 6.1.3 (a)(2) */
        };
        search->used[i] = true;
        anchor = climb(search, next);
        search->used[i] = false;
    }
    return anchor;
}

enum err path_validate(const struct trust_store *store, const struct bytes chain[], size_t count,
                       int64_t now_s, const struct trust_anchor **out_anchor)
{
    struct search search = {.store = store, .now_s = now_s};
    if (count == 0 || count > CERT_CHAIN_MAX)
        return ERR_CLIENT_CERT_UNTRUSTED;
    if (x509_decode(chain[0], &search.cert[0]) || search.cert[0].unknown_critical) /* 6.1.5 (f) */
        return ERR_CLIENT_CERT_UNTRUSTED;
    search.count = 1;
    for (size_t i = 1; i < count; i++) /* candidates that make no sense are not candidates */
        if (!x509_decode(chain[i], &search.cert[search.count]))
            search.count++;
    struct step first = {
        .cert = &search.cert[0],
        .in_time = is_valid_at(&search.cert[0], now_s),
    };
    const struct trust_anchor *anchor = climb(&search, first);
    if (!anchor)
        return search.expired ? ERR_CLIENT_CERT_EXPIRED : ERR_CLIENT_CERT_UNTRUSTED;
    *out_anchor = anchor;
    return ERR_OK;
}
