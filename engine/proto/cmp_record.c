/* What is kept of a dialogue: enough to give the same answer again, octet for octet. */
#include "proto/cmp_impl.h"

enum { RECORD_VERSION = 1, KEPT_FIXED = 16 + 16 + 8 + 2, ITEM_LEN = 8 + 8 + 2 + 1, SEALED_HEAD = 1 + 4 + 4 };
enum { RECORD_FIXED = 2 * KEPT_FIXED + 1 + 1 + 1 + 1 + 4 + 8 + 32 + 4 + 4 };

static void put_u16(struct writer *out, uint16_t value)
{
    uint8_t raw[2] = {(uint8_t)(value >> 8), (uint8_t)value};
    writer_put(out, BYTES_ARRAY(raw));
}

static void put_u32(struct writer *out, uint32_t value)
{
    uint8_t raw[4];
    store_be32(raw, value);
    writer_put(out, BYTES_ARRAY(raw));
}

static void put_u64(struct writer *out, uint64_t value)
{
    uint8_t raw[8];
    store_be64(raw, value);
    writer_put(out, BYTES_ARRAY(raw));
}

static void put_kept(struct writer *out, const struct cmp_kept *kept)
{
    writer_put(out, BYTES_ARRAY(kept->request_nonce));
    writer_put(out, BYTES_ARRAY(kept->nonce));
    put_u64(out, (uint64_t)kept->time_s);
    put_u16(out, (uint16_t)kept->protection.len);
    writer_put(out, kept->protection);
}

static size_t sealed_len(const struct cmp_record *record)
{
    size_t len = 0;
    for (uint32_t i = 0; i < record->item_count; i++) {
        len += record->items[i].sealed.len > 0 ? SEALED_HEAD + record->items[i].sealed.len : 0;
    }
    return len;
}

/* What most records have none of stands at the end: kind, index, octets. */
static void put_sealed(struct writer *out, const struct cmp_record *record)
{
    for (uint32_t i = 0; i < record->item_count; i++) {
        if (record->items[i].sealed.len > 0) {
            writer_put_u8(out, record->sealed_keys);
            put_u32(out, i);
            put_u32(out, (uint32_t)record->items[i].sealed.len);
            writer_put(out, record->items[i].sealed);
        }
    }
}

struct bytes cmp_record_encode(const struct cmp_record *record, struct arena *arena)
{
    size_t cap = RECORD_FIXED + record->first.protection.len + record->second.protection.len +
                 (size_t)record->item_count * ITEM_LEN + record->waiting.len + sealed_len(record);
    uint8_t *buf = arena_alloc(arena, cap);
    struct writer out = writer_of(buf, buf ? cap : 0);
    put_kept(&out, &record->first); /* its request_nonce is the mark */
    put_kept(&out, &record->second);
    writer_put_u8(&out, RECORD_VERSION);
    writer_put_u8(&out, record->body);
    writer_put_u8(&out, record->protection);
    writer_put_u8(&out, record->implicit);
    put_u32(&out, record->line_id);
    put_u64(&out, (uint64_t)record->confirm_by_s);
    writer_put(&out, BYTES_ARRAY(record->binding));
    put_u32(&out, record->item_count);
    for (uint32_t i = 0; i < record->item_count; i++) {
        put_u64(&out, (uint64_t)record->items[i].cert_req_id);
        put_u64(&out, record->items[i].cert_log);
        put_u16(&out, record->items[i].err);
        writer_put_u8(&out, record->items[i].act);
    }
    put_u32(&out, (uint32_t)record->waiting.len);
    writer_put(&out, record->waiting);
    put_sealed(&out, record);
    return out.failed ? (struct bytes){0} : writer_view(&out);
}

static bool get_kept(struct bytes *in, struct cmp_kept *out)
{
    uint64_t time_s;
    uint16_t len;
    if (!bytes_copy(in, out->request_nonce, CMP_NONCE_LEN) ||
        !bytes_copy(in, out->nonce, CMP_NONCE_LEN) || !bytes_get_u64(in, &time_s) ||
        !bytes_get_u16(in, &len) || !bytes_get(in, len, &out->protection)) {
        return false;
    }
    out->time_s = (int64_t)time_s;
    return true;
}

static bool get_head(struct bytes *in, struct cmp_record *out)
{
    uint8_t version, implicit;
    uint64_t confirm_by;
    if (!get_kept(in, &out->first) || !get_kept(in, &out->second) ||
        !bytes_get_u8(in, &version) || version != RECORD_VERSION ||
        !bytes_get_u8(in, &out->body) || !bytes_get_u8(in, &out->protection) ||
        !bytes_get_u8(in, &implicit) || implicit > 1 || !bytes_get_u32(in, &out->line_id) ||
        !bytes_get_u64(in, &confirm_by) || !bytes_copy(in, out->binding, sizeof(out->binding)) ||
        !bytes_get_u32(in, &out->item_count)) {
        return false;
    }
    out->implicit = implicit != 0;
    out->confirm_by_s = (int64_t)confirm_by;
    return out->item_count <= CMP_REQUESTS_PER_MESSAGE_MAX && in->len / ITEM_LEN >= out->item_count;
}

static bool get_item(struct bytes *in, struct cmp_kept_item *out)
{
    uint64_t id;
    if (!bytes_get_u64(in, &id) || !bytes_get_u64(in, &out->cert_log) ||
        !bytes_get_u16(in, &out->err) || !bytes_get_u8(in, &out->act)) {
        return false;
    }
    out->cert_req_id = (int64_t)id;
    out->sealed = (struct bytes){0};
    return true;
}

static bool get_sealed(struct bytes *in, struct cmp_record *out)
{
    while (in->len > 0) {
        uint8_t is_key;
        uint32_t index, len;
        if (!bytes_get_u8(in, &is_key) || !bytes_get_u32(in, &index) || !bytes_get_u32(in, &len) ||
            index >= out->item_count || !bytes_get(in, len, &out->items[index].sealed)) {
            return false;
        }
        out->sealed_keys = is_key != 0;
    }
    return true;
}

enum err cmp_record_decode(struct bytes data, struct arena *arena, struct cmp_record *out)
{
    struct cmp_record record = {0};
    uint32_t len;
    if (!get_head(&data, &record)) {
        return ERR_INTERNAL;
    }
    record.items = arena_alloc(arena, (record.item_count + 1) * sizeof(*record.items));
    if (!record.items) {
        return ERR_OVERLOADED;
    }
    for (uint32_t i = 0; i < record.item_count; i++) {
        if (!get_item(&data, &record.items[i])) {
            return ERR_INTERNAL;
        }
    }
    if (!bytes_get_u32(&data, &len) || !bytes_get(&data, len, &record.waiting) ||
        !get_sealed(&data, &record)) {
        return ERR_INTERNAL;
    }
    *out = record;
    return ERR_OK;
}

void cmp_record_place(struct bytes data, uint32_t item, uint64_t log)
{
    struct cmp_record record = {0};
    struct bytes in = data;
    if (get_head(&in, &record) && item < record.item_count) {
        size_t at = (size_t)(in.ptr - data.ptr) + (size_t)item * ITEM_LEN + sizeof(uint64_t);
        store_be64((uint8_t *)(uintptr_t)data.ptr + at, log);
    }
}

uint32_t cmp_record_pending(struct bytes data, uint8_t state, uint64_t out_logs[], uint32_t max,
                            uint32_t *out_line_id)
{
    struct cmp_record record = {0};
    uint32_t count = 0;
    if (state != CMP_DIALOG_CONFIRM || !get_head(&data, &record)) {
        return 0;
    }
    *out_line_id = record.line_id;
    for (uint32_t i = 0; i < record.item_count && count < max; i++) {
        struct cmp_kept_item item;
        if (!get_item(&data, &item)) {
            return 0;
        }
        if (item.err == ERR_OK && item.cert_log != 0) {
            out_logs[count++] = item.cert_log;
        }
    }
    return count;
}
