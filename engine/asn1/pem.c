#include "asn1/base64.h"
#include "asn1/x509.h"

#define MARK_BEGIN "-----BEGIN "
#define MARK_END   "-----END "
#define MARK_TAIL  "-----"

/* The next line without its end; the reader advances past it. */
static bool get_line(struct bytes *text, struct bytes *out)
{
    if (text->len == 0)
        return false;
    size_t len = bytes_find(*text, '\n');
    struct bytes line = bytes_of(text->ptr, len);
    size_t taken = len < text->len ? len + 1 : len;
    text->ptr += taken;
    text->len -= taken;
    /* RFC 7468 3: whitespace before the end of a line is ignored */
    while (line.len > 0 && (line.ptr[line.len - 1] == '\r' || line.ptr[line.len - 1] == ' ' ||
                            line.ptr[line.len - 1] == '\t'))
        line.len--;
    *out = line;
    return true;
}

static bool take_prefix(struct bytes *text, struct bytes prefix)
{
    if (!bytes_starts_with(*text, prefix))
        return false;
    text->ptr += prefix.len;
    text->len -= prefix.len;
    return true;
}

/* mark, type, five dashes, nothing else */
static bool is_boundary(struct bytes line, struct bytes mark, const char *type)
{
    return take_prefix(&line, mark) && take_prefix(&line, bytes_of_str(type)) &&
           bytes_eq(line, BYTES_LIT(MARK_TAIL));
}

/* Octets that well-formed base64 text stands for. */
static size_t decoded_len(struct bytes text)
{
    size_t count = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        count += c != '\r' && c != '\n' && c != ' ' && c != '\t' && c != '=';
    }
    return count / 4 * 3 + (count % 4 > 1 ? count % 4 - 1 : 0);
}

enum err pem_next(struct bytes *text, const char *type, uint8_t *out, size_t cap, size_t *out_len)
{
    struct bytes rest = *text, line;

    while (get_line(&rest, &line)) {
        if (!is_boundary(line, BYTES_LIT(MARK_BEGIN), type))
            continue;
        struct bytes body = bytes_of(rest.ptr, 0);
        for (;;) {
            const uint8_t *line_start = rest.ptr;
            if (!get_line(&rest, &line) || bytes_starts_with(line, BYTES_LIT(MARK_BEGIN)))
                return ERR_BAD_BASE64; /* the block is cut off */
            if (bytes_starts_with(line, BYTES_LIT(MARK_END))) {
                body.len = (size_t)(line_start - body.ptr);
                break;
            }
        }
        if (!is_boundary(line, BYTES_LIT(MARK_END), type))
            return ERR_BAD_BASE64;
        if (decoded_len(body) > cap)
            return ERR_NO_SPACE;
        if (!base64_decode(body, out, cap, out_len))
            return ERR_BAD_BASE64;
        *text = rest;
        return ERR_OK;
    }
    return ERR_NOT_FOUND;
}

void pem_put(struct writer *out, const char *type, struct bytes der)
{
    writer_put_str(out, MARK_BEGIN);
    writer_put_str(out, type);
    writer_put_str(out, MARK_TAIL "\n");
    uint8_t *body = writer_reserve(out, base64_encoded_len(der.len, 64));
    if (body != NULL)
        base64_encode(der, 64, body);
    writer_put_str(out, MARK_END);
    writer_put_str(out, type);
    writer_put_str(out, MARK_TAIL "\n");
}
