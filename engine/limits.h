/* limits.h: every bound of the appliance, related to each other by static asserts.
 *
 * A number here is a promise of section 1, P6: past it load is shed with the protocol's answer.
 * Lengths in bytes, times in the unit of their name.
 */
/* engine/ is on the include path, so this file is also what <limits.h> finds: pass that on, outside of
 * the guard, since the compiler's <limits.h> comes by twice. */
#include_next <limits.h>

#ifndef CERTMILL_LIMITS_H
#define CERTMILL_LIMITS_H

#include <assert.h>

/* processes and threads */
#define CORES_MAX   64
#define SIGNERS_MAX 16
#define TOKENS_MAX  16
#define KEYS_MAX    64
#define SESSIONS_PER_SIGNER_MAX 128

/* connections, per core */
#define CONNECTIONS_PER_CORE_MAX 16384
#define LISTENERS_MAX            8
#define ACCEPT_BACKLOG           1024
#define RECV_BUFFER_SIZE         4096
#define RECV_BUFFERS_PER_CORE    2048 /* power of two: io_uring provided-buffer ring */
#define SEND_QUEUE_MAX           (64 * 1024) /* ciphertext waiting per connection */
#define RING_ENTRIES             4096

/* HTTP */
#define HTTP_HEADER_MAX          8192 /* request line and fields together: 431 */
#define HTTP_FIELDS_MAX          64
#define HTTP_PATH_MAX            512
#define HTTP_RESPONSE_HEADER_MAX 1024 /* spec/est.md, what real clients need, 5 */
#define HTTP_PIPELINE_MAX        64   /* requests in flight per connection; then reading stops */

/* request bodies */
#define EST_BODY_MAX (64 * 1024)
#define CMP_BODY_MAX (2 * 1024 * 1024)
#define BODY_MAX     CMP_BODY_MAX

/* exchanges and issuances, per core */
#define EXCHANGES_PER_CORE_MAX       4096
#define EXCHANGES_RESERVE            64 /* kept free so that overload can be answered with 503 */
#define ISSUANCES_PER_CORE_MAX       16384

/* CMP */
#define CMP_REQUESTS_PER_MESSAGE_MAX 1024 /* CertReqMsgs of a message, or of all in a nested one */
#define CMP_NESTED_MAX               1024 /* inner messages */
#define CMP_INNER_MEMORY             (16 * 1024) /* of one, with its request and its answer, usually */
#define CMP_EXTRA_CERTS_MAX          10
#define CMP_INFOS_MAX                32   /* InfoTypeAndValue of a genm, or of a header */
#define CMP_REVOCATIONS_MAX          64   /* RevDetails of an rr */
#define CMP_NONCE_LEN                16
#define CMP_TRANSACTION_ID_MAX       32
#define CMP_SIGNERS_MAX              8
#define CMP_CRL_MAX                  (512 * 1024) /* octets of a revocation list in a message */
#define CMP_SEALED_MAX               8    /* certificates of a message that are given encrypted */
#define CMP_ANNOUNCE_MAX             16   /* listeners that are told of a CA's new key */
#define CMP_CONFIRM_WAIT_MAX_S       (30 * 86400) /* until a certificate must be confirmed */
#define CMP_CONFIRM_MARGIN_S         120  /* and how much later, at least, it is taken back unasked */
#define WAITING_PER_LINE_MAX         10000 /* requests that wait for an operator, some 6 kB each */
#define CMP_SECRET_MIN               12 /* octets of a shared secret */
#define CMP_SECRET_MAX               128

/* memory chunks of arenas, per core */
#define CHUNK_SMALL_SIZE   4096
#define CHUNK_SMALL_COUNT  16384
#define CHUNK_MEDIUM_SIZE  (64 * 1024)
#define CHUNK_MEDIUM_COUNT 512
#define CHUNK_LARGE_SIZE   (2 * 1024 * 1024 + 512 * 1024)
#define CHUNK_LARGE_COUNT  32
#define EXCHANGE_ARENA_MAX (32 * 1024 * 1024)

/* ASN.1 */
#define DER_DEPTH_MAX       16
#define NAME_DER_MAX        1024
#define EXTENSIONS_MAX      32
#define SPKI_DER_MAX        2048 /* RSA 4096: 550; ML-DSA-44: 1,334 */
#define SIGNATURE_MAX       2560 /* RSA 4096: 512; ML-DSA-44: 2,420 */
#define CERT_DER_MAX        8192 /* of a certificate we issue or accept */
#define CERT_CHAIN_MAX      6
#define CA_PREVIOUS_MAX     6  /* earlier keys of a CA whose certificates are still recognised */
#define CA_CERTS_MAX        14 /* that a CA publishes */
#define SERIAL_LEN          16
#define DEVICE_ID_MAX       64
#define LINE_NAME_MAX       32
#define STATION_NAME_MAX    64
#define REQUEST_ID_LEN      16 /* hex characters */

/* signing */
#define SIGN_INPUT_MAX        8192 /* EdDSA and ML-DSA sign the message itself */
#define SIGN_BATCH_MAX        64
#define SIGN_JOBS_PER_CORE_MAX 4096 /* in flight; power of two */
#define SIGN_DEADLINE_MS      10000
#define SIGN_ATTEMPTS_MAX     8

/* message authentication by password (CMP; RFC 9045 4.3: at least 100 iterations) */
#define MAC_ITERATIONS_MIN 100
#define MAC_ITERATIONS_MAX 100000
#define MAC_SALT_MIN       8
#define MAC_SALT_MAX       64
#define MAC_KEY_LEN_MIN    16
#define MAC_KEY_LEN_MAX    64
#define MAC_SECRET_MAX     256
#define MAC_PARTS_MAX      8
#define MAC_CACHE_ENTRIES  64

/* verification */
#define VERIFY_BOARD_MAX      8192 /* jobs offered per core; power of two */
#define VERIFY_CHUNK          16   /* jobs claimed at once: two vectors of eight lanes */
#define VERIFY_PER_TURN_MAX   64
#define VERIFY_LEND_MIN       4    /* fewer are not worth waking a core */

/* costly work off the cores (password hashes, MACs with many iterations) */
#define COSTLY_JOBS_PER_CORE_MAX 64
#define COSTLY_SAME_MS           1000
#define COSTLY_SAME_COUNT        64

/* store */
#define STORE_JOBS_PER_CORE_MAX 4096 /* staged or waiting; power of two */
#define STORE_BATCH_MAX         1024 /* jobs in one transaction */
#define STORE_JOB_DATA_MAX      (CERT_DER_MAX + 2048)
#define STORE_MAP_SIZE_DEFAULT  (64ull << 30)
#define JOURNAL_TEXT_MAX        512

/* configuration */
#define LINES_MAX         64
#define PROFILES_MAX      32
#define STATIONS_MAX      256
#define CAS_MAX           16
#define TRUST_ANCHORS_MAX 64
#define SNAPSHOTS_MAX     4 /* configurations alive at once: the current and those still in use */

/* revocation lists */
#define CRL_DER_MAX         (256u * 1024 * 1024) /* one CRL: some five million entries of 49 octets */
#define CRL_GENERATIONS_MAX 4    /* of one CA in memory: the newest, and what slow clients still read */
#define CRL_URL_MAX         160  /* distribution point in a certificate */
#define CRL_RETRY_MIN_MS    1000 /* after a failure, doubled each time up to */
#define CRL_RETRY_MAX_MS    60000

/* timers, milliseconds (defaults; the configuration may lower them) */
#define HANDSHAKE_TIMEOUT_MS 10000
#define HEADER_TIMEOUT_MS    10000
#define BODY_TIMEOUT_MS      30000
#define IDLE_TIMEOUT_MS      300000
#define SEND_TIMEOUT_MS      30000
#define EXCHANGE_DEADLINE_MS 15000
#define DRAIN_TIMEOUT_MS     20000
#define LISTEN_WAIT_MS       2000
#define RETRY_AFTER_S        2

static_assert(BODY_MAX >= EST_BODY_MAX && BODY_MAX >= CMP_BODY_MAX, "one bound for all bodies");
static_assert(CHUNK_LARGE_SIZE >= BODY_MAX, "a body lies in one chunk");
static_assert(EXCHANGE_ARENA_MAX >= CMP_NESTED_MAX * CMP_INNER_MEMORY + 2 * CHUNK_LARGE_SIZE,
              "what a message may hold can be answered");
static_assert(CHUNK_MEDIUM_SIZE >= EST_BODY_MAX, "an EST body needs no large chunk");
static_assert(EXCHANGE_ARENA_MAX >= 5 * CHUNK_LARGE_SIZE,
              "body, its requests, certificates, and the answer before and after its protection");
static_assert(HTTP_HEADER_MAX <= CHUNK_MEDIUM_SIZE, "a header lies in one chunk");
static_assert((SIGN_JOBS_PER_CORE_MAX & (SIGN_JOBS_PER_CORE_MAX - 1)) == 0, "ring size");
static_assert((STORE_JOBS_PER_CORE_MAX & (STORE_JOBS_PER_CORE_MAX - 1)) == 0, "ring size");
static_assert((VERIFY_BOARD_MAX & (VERIFY_BOARD_MAX - 1)) == 0, "ring size");
static_assert((RECV_BUFFERS_PER_CORE & (RECV_BUFFERS_PER_CORE - 1)) == 0, "ring size");
static_assert(EXCHANGES_RESERVE < EXCHANGES_PER_CORE_MAX / 2, "the reserve is the smaller part");
static_assert(WAITING_PER_LINE_MAX + CMP_REQUESTS_PER_MESSAGE_MAX <= 0xffff, "their count has 16 bits");
static_assert(CMP_CONFIRM_MARGIN_S * 1000 >= 4 * EXCHANGE_DEADLINE_MS, "what is on its way has arrived");
static_assert(EXCHANGE_DEADLINE_MS >= SIGN_DEADLINE_MS, "a signer's answer still finds its exchange");
static_assert(CA_CERTS_MAX >= CERT_CHAIN_MAX + CA_PREVIOUS_MAX + 2, "its chain, its past, two links");
static_assert(CRL_DER_MAX < 1ull << 32, "a CRL's length has four octets");
static_assert(EXCHANGE_ARENA_MAX >= 4 * CMP_CRL_MAX + CHUNK_LARGE_SIZE, "asked, copied, protected, sent");
static_assert(CRL_GENERATIONS_MAX >= 2, "one is read while the next is made");
static_assert(KEYS_MAX >= 2 * (CAS_MAX + CMP_SIGNERS_MAX), "all keys, and as many after a reload");
static_assert(STORE_JOB_DATA_MAX >= CERT_DER_MAX, "a certificate fits its job");

#endif
