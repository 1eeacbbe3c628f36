/* schema.h: what the store holds, byte for byte.
 *
 * Promise: every record starts with a version; layouts are fixed width, little-endian as on every
 *          platform certmill runs on, and have size asserts. A store of another major version is
 *          not opened (ERR_STORE_VERSION).
 * Owner:   views into records are valid while their transaction is.
 */
#ifndef CERTMILL_STORE_SCHEMA_H
#define CERTMILL_STORE_SCHEMA_H

#include <stdint.h>

#include "limits.h"

#define STORE_SCHEMA_VERSION 1 /* of records */
#define STORE_LAYOUT_VERSION 2 /* of tables, in `meta`; a store of layout 1 (`transactions` and `expiries` by
                                * key) is moved to 2 when it is opened; older versions do not open it then */
#define STORE_LAYOUT_OLDEST 1

enum cert_status {
    CERT_VALID = 0,
    CERT_SUPERSEDED = 1,
    CERT_REVOKED = 2,
    CERT_ON_HOLD = 3,
};

enum device_state {
    DEVICE_NONE = 0,
    DEVICE_ISSUED = 1,
    DEVICE_CONFIRMED = 2,
    DEVICE_REVOKED = 3,
    DEVICE_SCRAPPED = 4,
};

/* `certs`: log number (u64 native, MDB_INTEGERKEY|append) -> cert_record ‖ device id ‖ station ‖ DER */
struct cert_record {
    uint16_t version;
    uint8_t status; /* enum cert_status */
    uint8_t device_id_len;
    uint8_t station_len;
    uint8_t protocol; /* enum journal_protocol */
    uint16_t der_len;
    uint32_t line_id;
    uint32_t issuer_id;
    uint64_t lot_id;
    int64_t issued_s;
    int64_t not_before_s;
    int64_t not_after_s;
    int64_t status_s;     /* when status changed */
    uint64_t replaced_by; /* log number, 0: none */
    uint8_t serial[SERIAL_LEN];
    uint8_t fingerprint[32]; /* SHA-256 of the DER */
    uint8_t spki_hash[32];
};
_Static_assert(sizeof(struct cert_record) == 144, "certs layout");

/* `serials`: issuer id (u32 BE) ‖ serial -> log number (u64) */

/* `devices`: line id (u32 BE) ‖ device id -> device_record */
struct device_record {
    uint16_t version;
    uint8_t state; /* enum device_state */
    uint8_t reserved;
    uint32_t issue_count;
    uint64_t cert_log; /* current certificate */
    uint8_t spki_hash[32];
    int64_t changed_s;
};
_Static_assert(sizeof(struct device_record) == 56, "devices layout");

/* `pending`: line id (u32 BE) ‖ device id -> pending_record. The one certificate of this device that
 * waits for its confirmation: the device's current one (a new device) or its successor to be. */
struct pending_record {
    uint64_t log;
    int64_t until_s;    /* nobody can confirm it later; 0: not known */
    int64_t last_end_s; /* of the dialogues about it, but for the first, when the last one ends; 0: none */
};
/* Rows of earlier versions end before until_s or before last_end_s, which are 0 then. */
_Static_assert(sizeof(struct pending_record) == 24, "pending layout");

/* `keys`: SHA-256 of SPKI -> key_record ‖ device id */
struct key_record {
    uint16_t version;
    uint8_t device_id_len;
    uint8_t reserved;
    uint32_t line_id;
    uint64_t cert_log; /* the newest certificate for this key */
};
_Static_assert(sizeof(struct key_record) == 16, "keys layout");

/* `lines`: name -> line_record. A line's id is given once and never reused. */
struct line_record {
    uint16_t version;
    uint16_t waiting; /* rows of `transactions` of this line with TRANSACTION_WAITS */
    uint32_t line_id;
    uint64_t issued;
    uint64_t refused;
    int64_t first_s;
    int64_t last_s;
};
_Static_assert(sizeof(struct line_record) == 40, "lines layout");

/* `issuers`: SHA-256 of the CA certificate's SPKI ‖ subject -> u32 issuer id */

enum journal_kind {
    JOURNAL_START = 1,
    JOURNAL_STOP = 2,
    JOURNAL_ISSUED = 3,
    JOURNAL_REPEATED = 4,
    JOURNAL_REFUSED = 5,
    JOURNAL_CONFIRMED = 6,
    JOURNAL_REVOKED = 7,
    JOURNAL_SUPERSEDED = 8,
    JOURNAL_CONFIG = 9,
    JOURNAL_SUPPRESSED = 10, /* so many anonymous refusals were counted, not recorded one by one */
    JOURNAL_OPERATOR = 11,
    JOURNAL_RELEASED = 12, /* a hold was lifted */
    JOURNAL_CRL = 13,      /* a revocation list was signed */
};

enum journal_protocol { PROTOCOL_NONE, PROTOCOL_EST, PROTOCOL_CMP, PROTOCOL_SCEP, PROTOCOL_ACME,
                        PROTOCOL_CLI };

/* `journal`: sequence (u64, append) -> journal_record ‖ who ‖ what (device id) ‖ text */
struct journal_record {
    uint16_t version;
    uint8_t kind;
    uint8_t protocol;
    uint16_t err; /* enum err at the time of writing; its code is in text */
    uint8_t who_len;
    uint8_t what_len;
    uint16_t text_len;
    uint16_t reserved;
    uint32_t line_id;
    uint64_t sequence;
    int64_t time_ns; /* wall, never before its predecessor's: a step back is recorded as such */
    uint64_t cert_log; /* 0: none */
    uint8_t previous[32]; /* SHA-256 of the record before, key and value; zero for the first */
};
_Static_assert(sizeof(struct journal_record) == 72, "journal layout");

/* `transactions`: number (u64 BE, mostly in the order they came) -> transaction_record ‖ key length (u8) ‖ key ‖
 * data. The key is protocol (u8) ‖ line id (u32 BE) ‖ transaction id, the data opaque to the store. */
#define TRANSACTION_WAITS 0x80 /* in state: waits for an operator, and is counted in its line_record.
                                * The rest of state is the protocol's. */
struct transaction_record {
    uint16_t version;
    uint8_t protocol; /* enum journal_protocol */
    uint8_t state;
    uint32_t data_len;
    int64_t expiry_s; /* >= 0 */
};
_Static_assert(sizeof(struct transaction_record) == 16, "transactions layout");

/* `expiries`: expiry (u64 BE, seconds) ‖ number in `transactions` -> the transaction's key. One for each
 * transaction: from here its index is made when a store is opened. */

/* `revoked`: issuer id (u32 BE) ‖ serial -> revoked_record. Here is what a CRL lists: also what is on
 * hold, with reason REASON_HOLD. A hold that was taken back leaves REASON_REMOVE, which no full list has. */
enum crl_reason { /* RFC 5280 5.3.1; 7 is not used */
    REASON_UNSPECIFIED = 0,
    REASON_KEY_COMPROMISE = 1,
    REASON_CA_COMPROMISE = 2,
    REASON_AFFILIATION_CHANGED = 3,
    REASON_SUPERSEDED = 4,
    REASON_CESSATION = 5,
    REASON_HOLD = 6,
    REASON_REMOVE = 8, /* removeFromCRL: takes a hold back */
    REASON_PRIVILEGE_WITHDRAWN = 9,
    REASON_AA_COMPROMISE = 10,
};

#define REVOKED_MARK_LEN 5
struct revoked_record {
    uint16_t version;
    uint8_t reason; /* enum crl_reason */
    uint8_t mark[REVOKED_MARK_LEN]; /* of what asked for it (settle.h); zeros: none */
    int64_t time_s;
    uint64_t cert_log;
};
_Static_assert(sizeof(struct revoked_record) == 24, "revoked layout");

/* `crls`: issuer id (u32 BE) -> crl_record ‖ DER */
struct crl_record {
    uint16_t version;
    uint16_t reserved;
    uint32_t der_len;
    uint64_t number;
    int64_t this_update_s;
    int64_t next_update_s;
};
_Static_assert(sizeof(struct crl_record) == 32, "crls layout");

#endif
