#include "hsm/queue/wire.h"

enum { WIRE_VERSION = 2 };

/* Length with the NUL, then the text and the NUL; NULL is length 0. */
static void put_text(struct writer *writer, const char *text)
{
    if (text == NULL) {
        writer_put_u32(writer, 0);
        return;
    }
    writer_put_u32(writer, (uint32_t)strlen(text) + 1);
    writer_put(writer, bytes_of(text, strlen(text) + 1));
}

static bool get_text(struct bytes *reader, const char **out)
{
    uint32_t len;
    struct bytes text;
    if (!bytes_get_u32(reader, &len) || !bytes_get(reader, len, &text))
        return false;
    if (len == 0) {
        *out = NULL;
        return true;
    }
    if (memchr(text.ptr, 0, len) != text.ptr + len - 1)
        return false;
    *out = (const char *)text.ptr;
    return true;
}

static bool get_bool(struct bytes *reader, bool *out)
{
    uint8_t value;
    if (!bytes_get_u8(reader, &value) || value > 1)
        return false;
    *out = value == 1;
    return true;
}

void wire_put(struct writer *writer, const struct wire_signer *config)
{
    writer_put_u32(writer, WIRE_VERSION);
    writer_put_u32(writer, config->parent_pid);
    writer_put_u32(writer, config->core_count);
    writer_put(writer, bytes_of(config->wake_index, sizeof(config->wake_index)));
    writer_put_u8(writer, (uint8_t)config->log_level);
    writer_put_u32(writer, config->sessions);
    writer_put_u8(writer, config->allow_network);
    put_text(writer, config->name);
    put_text(writer, config->module_path);
    put_text(writer, config->uri);
    put_text(writer, config->pin_file);
    put_text(writer, config->pin_env);
    put_text(writer, config->pin_credential);
    put_text(writer, config->rv_classes);
    writer_put_u32(writer, config->key_count);
    for (uint32_t i = 0; i < config->key_count; i++) {
        const struct wire_key *key = &config->keys[i];
        writer_put_u32(writer, key->index);
        put_text(writer, key->name);
        put_text(writer, key->uri);
        writer_put_u32(writer, key->mechanism);
        writer_put_u8(writer, key->allow_extractable);
        writer_put_u8(writer, key->has_spki);
        writer_put(writer, bytes_of(key->spki_sha256, sizeof(key->spki_sha256)));
    }
}

static bool get_key(struct bytes *reader, struct wire_key *out)
{
    uint32_t mechanism;
    if (!bytes_get_u32(reader, &out->index) || out->index >= KEYS_MAX ||
        !get_text(reader, &out->name) || !get_text(reader, &out->uri) || out->name == NULL ||
        out->uri == NULL || !bytes_get_u32(reader, &mechanism) || mechanism >= SIGN_MECH_COUNT ||
        !get_bool(reader, &out->allow_extractable) || !get_bool(reader, &out->has_spki) ||
        !bytes_copy(reader, out->spki_sha256, sizeof(out->spki_sha256)))
        return false;
    out->mechanism = (enum sign_mechanism)mechanism;
    return true;
}

static bool get_level(struct bytes *reader, enum log_level *out)
{
    uint8_t value;
    if (!bytes_get_u8(reader, &value) || value > LOG_DEBUG)
        return false;
    *out = (enum log_level)value;
    return true;
}

bool wire_get(struct bytes data, struct wire_signer *out)
{
    uint32_t version;
    struct wire_signer config = {0};
    if (!bytes_get_u32(&data, &version) || version != WIRE_VERSION ||
        !bytes_get_u32(&data, &config.parent_pid) || !bytes_get_u32(&data, &config.core_count) ||
        !bytes_copy(&data, config.wake_index, sizeof(config.wake_index)) ||
        !get_level(&data, &config.log_level) || !bytes_get_u32(&data, &config.sessions) ||
        !get_bool(&data, &config.allow_network) || !get_text(&data, &config.name) ||
        !get_text(&data, &config.module_path) || !get_text(&data, &config.uri) ||
        !get_text(&data, &config.pin_file) || !get_text(&data, &config.pin_env) ||
        !get_text(&data, &config.pin_credential) || !get_text(&data, &config.rv_classes) ||
        !bytes_get_u32(&data, &config.key_count))
        return false;
    if (config.core_count == 0 || config.core_count > CORES_MAX || config.sessions == 0 ||
        config.sessions > SESSIONS_PER_SIGNER_MAX || config.key_count > KEYS_MAX ||
        config.name == NULL || config.module_path == NULL || config.uri == NULL)
        return false;
    for (uint32_t i = 0; i < config.key_count; i++) {
        if (!get_key(&data, &config.keys[i]))
            return false;
    }
    if (data.len != 0)
        return false;
    *out = config;
    return true;
}
