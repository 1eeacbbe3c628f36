#include "proto/est_text.h"

#include "proto/est.h"

enum { DETAIL_MAX = 256 };

/* A switch without default, so that the compiler asks for the status of a new error. */
uint16_t est_status(enum err err)
{
    switch (err) {
    case ERR_OK:
        return 200;
    case ERR_HELD:
        return 202;

    case ERR_HTTP_MALFORMED:
    case ERR_BAD_BASE64:
    case ERR_BAD_DER:
    case ERR_DER_TRAILING:
    case ERR_BAD_CSR:
    case ERR_BAD_CERT:
    case ERR_BAD_CRL:
    case ERR_BAD_REQUEST:
    case ERR_BAD_ALG:
    case ERR_BAD_KEY:
    case ERR_BAD_SIGNATURE:
    case ERR_TRANSACTION_IN_USE:
    case ERR_BAD_POP:
    case ERR_POP_LINK_MISMATCH:
    case ERR_POP_LINK_REQUIRED:
    case ERR_NO_DEVICE_ID:
    case ERR_BAD_DEVICE_ID:
    /* CMP's own never meet EST */
    case ERR_CMP_VERSION:
    case ERR_CMP_MESSAGE_CHECK:
    case ERR_CMP_WRONG_INTEGRITY:
    case ERR_CMP_BAD_TIME:
    case ERR_CMP_SENDER_NONCE:
    case ERR_CMP_RECIPIENT_NONCE:
    case ERR_CMP_TRANSACTION:
    case ERR_CMP_NO_TRANSACTION:
    case ERR_CMP_CERT_ID:
    case ERR_CMP_NO_CERT_ID:
    case ERR_CMP_WRONG_AUTHORITY:
    case ERR_CMP_BODY:
        return 400;

    case ERR_AUTH_REQUIRED:
    case ERR_AUTH_FAILED:
        return 401;

    case ERR_CLIENT_CERT_REQUIRED:
    case ERR_CLIENT_CERT_UNTRUSTED:
    case ERR_CLIENT_CERT_EXPIRED:
    case ERR_CLIENT_CERT_REVOKED:
    case ERR_NOT_AUTHORIZED:
    case ERR_SUBJECT_CHANGED:
    case ERR_IDENTITY_MISMATCH:
    case ERR_KEY_NOT_ALLOWED:
    case ERR_EXTENSION_NOT_ALLOWED:
    case ERR_BAD_TEMPLATE:
    case ERR_DEVICE_PROVISIONED:
    case ERR_KEY_USED:
    case ERR_CERT_REVOKED:
    case ERR_CERT_UNKNOWN:
    case ERR_CERT_CONFIRMED:
    case ERR_NOT_ALLOWED:
    case ERR_QUOTA_SPENT:
    case ERR_LOT_CLOSED:
    case ERR_NO_LOT:
        return 403;

    case ERR_NOT_FOUND:
    case ERR_UNKNOWN_LINE:
        return 404;
    case ERR_HTTP_METHOD:
        return 405;
    case ERR_REQUEST_TIMEOUT:
        return 408;
    case ERR_HTTP_LENGTH_REQUIRED:
        return 411;
    case ERR_BODY_TOO_LARGE:
        return 413;
    case ERR_HTTP_MEDIA_TYPE:
        return 415;
    case ERR_RATE_LIMITED:
        return 429;
    case ERR_HTTP_HEADER_TOO_LARGE:
        return 431;
    case ERR_NOT_OFFERED:
        return 501;
    case ERR_HTTP_VERSION:
        return 505;

    case ERR_OVERLOADED:
    case ERR_WAITING_FULL:
    case ERR_STOPPING:
    case ERR_DEADLINE:
    case ERR_SIGNER_UNAVAILABLE:
    case ERR_NO_CRL:
    case ERR_SIGNER_FAILED:
    case ERR_SIGNATURE_WRONG:
    case ERR_STORE_FULL:
    case ERR_STORE_FAILED:
    case ERR_STORE_VERSION:
    case ERR_STORE_BUSY:
    case ERR_FULL:
    case ERR_IO:
    case ERR_PIN_WRONG:
    case ERR_KEY_NOT_FOUND:
        return 503;

    /* asking again would not help */
    case ERR_NO_SPACE:
    case ERR_CONFIG:
    case ERR_UNSUPPORTED:
    case ERR_INTERNAL:
    case ERR_COUNT:
        return 500;
    }
    return 500;
}

static const char *const static_lines[ERR_COUNT] = {
#define X(suffix, code, class, sentence) code ": " sentence "\n",
    ERR_TABLE(X)
#undef X
};

static void put_printable(struct writer *out, const char *text)
{
    for (size_t i = 0; text[i] != '\0' && i < DETAIL_MAX; i++)
        writer_put_u8(out, text[i] >= ' ' && text[i] <= '~' ? (uint8_t)text[i] : '?');
}

struct bytes est_error_line(enum err err, const char *detail, const char *request_id,
                            struct arena *arena)
{
    uint8_t buf[1024];
    struct writer line = writer_of(buf, sizeof(buf));

    if ((unsigned)err >= ERR_COUNT)
        err = ERR_INTERNAL;
    writer_put_str(&line, err_code(err));
    writer_put_str(&line, ": ");
    writer_put_str(&line, err_sentence(err));
    if (detail != NULL && detail[0] != '\0') {
        writer_put_str(&line, " (");
        put_printable(&line, detail);
        writer_put_str(&line, ")");
    }
    if (request_id != NULL && request_id[0] != '\0') {
        writer_put_str(&line, " [");
        put_printable(&line, request_id);
        writer_put_str(&line, "]");
    }
    writer_put_str(&line, "\n");
    struct bytes body = {0};
    if (!line.failed && arena != NULL)
        body = arena_dup(arena, writer_view(&line));
    return body.len > 0 ? body : bytes_of_str(static_lines[err]);
}
