/* snapshot.h: the configuration compiled for the cores: read-only, swapped atomically.
 *
 * Promise: a request sees one snapshot from its first stage to its answer. A snapshot that fails to
 *          compile changes nothing.
 * Owner:   the main thread makes and frees; each core, and the CRL publisher, holds one reference
 *          and returns it when it has moved on and none of its exchanges uses it.
 * Threads: everything but `inflight` and `cores_holding` is constant after compile.
 */
#ifndef CERTMILL_PIPELINE_SNAPSHOT_H
#define CERTMILL_PIPELINE_SNAPSHOT_H

#include <stdatomic.h>

#include "ca/issue.h"
#include "ca/profile.h"
#include "config/config.h"
#include "crypto/path.h"
#include "factory/identity.h"
#include "hsm/queue/queue.h"
#include "net/tls.h"
#include "proto/proto.h"
#include "store/store.h"

enum station_role {
    ROLE_ENROLL = 1u << 0,
    ROLE_REWORK = 1u << 1,
    ROLE_CONFIRM = 1u << 2,
    ROLE_REVOKE = 1u << 3,
    ROLE_RA = 1u << 4, /* vouches for proofs of possession; asks for what only an authority may */
};

/* A CA's certificate for one of its earlier keys. */
struct rt_issuer {
    struct x509_cert cert;
    uint32_t issuer_id;
};

struct rt_ca {
    const char *name;
    struct bytes cert_der; /* own copy */
    struct x509_cert cert;
    struct verify_key *key;
    enum sig_alg sig_alg;
    uint32_t key_index; /* in the hsm queue */
    uint32_t issuer_id;
    uint32_t verify_one_in;
    const struct config_crl *crl; /* NULL: its certificate does not let it sign CRLs */
    struct bytes chain[CA_CERTS_MAX]; /* published: own, up to the root, previous, links */
    uint32_t chain_count;
    /* Key rollover (RFC 9810 4.4): what was issued under an earlier key is still ours. The last one
     * first; none when the key was never changed. previous[0].cert is "old with old", cert_der "new
     * with new". */
    struct rt_issuer previous[CA_PREVIOUS_MAX];
    uint32_t previous_count;
    struct bytes old_with_new, new_with_old; /* link certificates; empty when there are none */
    struct bytes chain_cms;
};

struct rt_station {
    const char *name;
    const char *password_hash; /* NULL: none */
    uint8_t subject_der[NAME_DER_MAX];
    size_t subject_len; /* 0: no certificate */
    const char *cmp_reference; /* senderKID beside a MAC */
    struct bytes cmp_secret;   /* empty: none; wiped with the snapshot */
    uint32_t roles;
    uint64_t line_mask; /* bit per line index */
};

/* Who signs the answers of protocols whose messages are signed. Not a CA key. */
struct rt_signer {
    const char *name;
    enum sig_alg alg;
    struct softkey *key; /* NULL: in a token */
    uint32_t key_index;  /* then: in the hsm queue */
    struct verify_key *verify_key; /* then: what the token makes is verified before use */
    struct bytes chain[CERT_CHAIN_MAX]; /* its certificate first */
    uint32_t chain_count;
    struct x509_cert cert;
    struct bytes sender; /* GeneralName with its subject */
};

struct rt_line {
    const char *name;
    uint32_t index;
    uint32_t line_id;
    const struct rt_ca *ca;
    struct profile *profile;
    enum identity_source device_id;
    struct trust_store *anchors;
    struct proto_line proto;
    struct proto_cmp_line cmp; /* proto.cmp points here, or is NULL */
    const struct rt_signer *signer; /* NULL: none */
    const struct config_line *config;
};

struct snapshot {
    uint32_t generation;
    struct config *config;
    struct rt_ca cas[CAS_MAX];
    uint32_t ca_count;
    struct rt_line lines[LINES_MAX];
    uint32_t line_count;
    struct rt_line *default_line; /* NULL: none */
    struct rt_station stations[STATIONS_MAX];
    uint32_t station_count;
    struct rt_signer signers[CMP_SIGNERS_MAX];
    uint32_t signer_count;
    struct tls_ctx *tls[CORES_MAX]; /* one per core */
    uint32_t core_count;
    _Atomic uint32_t cores_holding;
    struct {
        _Alignas(64) uint32_t exchanges; /* of this core, written by it alone */
    } inflight[CORES_MAX];
};

/* Takes the configuration over (frees it on failure too). detail: what is wrong and what to do. */
enum err snapshot_compile(struct config *config, struct store *store, uint32_t core_count,
                          struct snapshot **out, char out_detail[CONFIG_ERROR_MAX]) MUST_USE;
void snapshot_free(struct snapshot *snapshot);
const struct rt_line *snapshot_line(const struct snapshot *snapshot, struct bytes name);
/* Files, templates and certificates are read, nothing is started: certmilld --check. */
enum err snapshot_check(struct config *config, char out_detail[CONFIG_ERROR_MAX]) MUST_USE;
/* Do the previous and link certificates fit the CA's own? NULL, or what is wrong with them. */
const char *rt_ca_rollover_problem(const struct rt_ca *ca);
/* The log number of a certificate that this CA issued, under its key or an earlier one; in a read
 * transaction. It is found by issuer and serial: whether it is the same octets is the caller's to
 * see. ERR_NOT_FOUND. */
enum err rt_ca_find_cert(const struct rt_ca *ca, struct store_reader *reader,
                         const struct x509_cert *cert, uint64_t *out_log) MUST_USE;
/* The key table for the HSM queue: those of cas, then those of signers whose keys are in tokens;
 * strings point into the snapshot. */
uint32_t snapshot_hsm_keys(const struct snapshot *snapshot, struct hsm_key_config out[KEYS_MAX]);
/* Where the index that the queue gives to key number `key` of that table belongs: rt_ca.key_index or
 * rt_signer.key_index. compile fills in the table's own order. NULL: no such key. */
uint32_t *snapshot_key_index(struct snapshot *snapshot, uint32_t key);

#endif
