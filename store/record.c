#include "base/log.h"
#include "store/internal.h"

static_assert(sizeof(struct cert_record) % RECORD_ALIGN == 0, "what follows needs no padding");

static enum err malformed(const char *table, size_t len)
{
    log_error("store-record-malformed", "table=%s len=%zu", table, len);
    return ERR_INTERNAL;
}

enum err cert_view_of(uint64_t log, struct bytes value, struct cert_view *out)
{
    const struct cert_record *record = (const void *)value.ptr;
    struct bytes rest = value;
    struct cert_view view = {.log = log, .record = record};
    struct bytes head;
    if (!bytes_get(&rest, sizeof(*record), &head) || record->version != STORE_SCHEMA_VERSION ||
        !bytes_get(&rest, record->device_id_len, &view.device_id) ||
        !bytes_get(&rest, record->station_len, &view.station) ||
        !bytes_get(&rest, record->der_len, &view.der) || rest.len >= RECORD_ALIGN)
        return malformed("certs", value.len);
    *out = view;
    return ERR_OK;
}

enum err key_view_of(struct bytes value, struct key_view *out)
{
    const struct key_record *record = (const void *)value.ptr;
    struct bytes rest = value;
    struct key_view view = {.record = record};
    struct bytes head;
    if (!bytes_get(&rest, sizeof(*record), &head) || record->version != STORE_SCHEMA_VERSION ||
        !bytes_get(&rest, record->device_id_len, &view.device_id) || rest.len >= RECORD_ALIGN)
        return malformed("keys", value.len);
    *out = view;
    return ERR_OK;
}

enum err journal_view_of(struct bytes value, struct journal_view *out)
{
    const struct journal_record *record = (const void *)value.ptr;
    struct bytes rest = value;
    struct journal_view view = {.record = record};
    struct bytes head;
    if (!bytes_get(&rest, sizeof(*record), &head) || record->version != STORE_SCHEMA_VERSION ||
        !bytes_get(&rest, record->who_len, &view.who) ||
        !bytes_get(&rest, record->what_len, &view.what) ||
        !bytes_get(&rest, record->text_len, &view.text) || rest.len >= RECORD_ALIGN)
        return malformed("journal", value.len);
    *out = view;
    return ERR_OK;
}

enum err record_copy(const char *table, struct bytes value, void *out, size_t len)
{
    uint16_t version;
    if (value.len != len)
        return malformed(table, value.len);
    memcpy(&version, value.ptr, sizeof(version));
    if (version != STORE_SCHEMA_VERSION)
        return malformed(table, value.len);
    memcpy(out, value.ptr, len);
    return ERR_OK;
}

enum err pending_copy(struct bytes value, struct pending_record *out)
{
    struct pending_record record = {0};
    if (value.len != offsetof(struct pending_record, until_s) &&
        value.len != offsetof(struct pending_record, last_end_s) && value.len != sizeof(record))
        return malformed("pending", value.len);
    memcpy(&record, value.ptr, value.len);
    *out = record;
    return ERR_OK;
}

enum err transaction_split(struct bytes value, struct transaction_record *out,
                           struct bytes *out_key, struct bytes *out_data)
{
    struct transaction_record record;
    struct bytes rest = value, head, key;
    uint8_t key_len;
    if (!bytes_get(&rest, sizeof(record), &head))
        return malformed("transactions", value.len);
    memcpy(&record, head.ptr, sizeof(record));
    if (record.version != STORE_SCHEMA_VERSION || !bytes_get_u8(&rest, &key_len) ||
        key_len > TRANSACTION_KEY_MAX || !bytes_get(&rest, key_len, &key) ||
        record.data_len != rest.len)
        return malformed("transactions", value.len);
    *out = record;
    *out_key = key;
    *out_data = rest;
    return ERR_OK;
}

enum err crl_split(struct bytes value, struct crl_record *out, struct bytes *out_der)
{
    struct crl_record record;
    if (value.len < sizeof(record))
        return malformed("crls", value.len);
    memcpy(&record, value.ptr, sizeof(record));
    if (record.version != STORE_SCHEMA_VERSION || record.der_len != value.len - sizeof(record))
        return malformed("crls", value.len);
    *out = record;
    *out_der = bytes_of(value.ptr + sizeof(record), record.der_len);
    return ERR_OK;
}

enum err expiry_split(struct bytes key, struct bytes value, int64_t *out_expiry_s,
                      uint64_t *out_number)
{
    if (key.len != 16 || key.ptr[0] >= 0x80 || value.len == 0 || value.len > TRANSACTION_KEY_MAX)
        return malformed("expiries", key.len);
    *out_expiry_s = (int64_t)load_be64(key.ptr);
    *out_number = load_be64(key.ptr + 8);
    return ERR_OK;
}

uint64_t log_of_key(struct bytes key)
{
    uint64_t log = 0;
    assert(key.len == sizeof(log));
    memcpy(&log, key.ptr, sizeof(log));
    return log;
}

struct store_key store_key_of(uint32_t prefix, struct bytes id)
{
    struct store_key key; /* on every path: not cleared first */
    assert(id.len <= sizeof(key.data) - 4);
    key.len = 4 + id.len;
    store_be32(key.data, prefix);
    if (id.len != 0)
        memcpy(key.data + 4, id.ptr, id.len);
    return key;
}
