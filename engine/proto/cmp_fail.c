#include "proto/cmp_impl.h"

/* A switch without default, so that the compiler asks for the failInfo of a new error. */
uint32_t cmp_fail_of(enum err err)
{
    switch (err) {
    case ERR_OK:
        return 0;

    case ERR_CMP_MESSAGE_CHECK:
    case ERR_BAD_SIGNATURE:
    case ERR_AUTH_REQUIRED:
    case ERR_AUTH_FAILED:
        return CMP_FAIL_BAD_MESSAGE_CHECK;
    case ERR_BAD_ALG:
        return CMP_FAIL_BAD_ALG;
    case ERR_CMP_WRONG_INTEGRITY:
        return CMP_FAIL_WRONG_INTEGRITY;
    case ERR_CLIENT_CERT_UNTRUSTED:
    case ERR_CLIENT_CERT_EXPIRED:
        return CMP_FAIL_SIGNER_NOT_TRUSTED;
    case ERR_CMP_BAD_TIME:
        return CMP_FAIL_BAD_TIME;
    case ERR_CMP_SENDER_NONCE:
        return CMP_FAIL_BAD_SENDER_NONCE;
    case ERR_CMP_RECIPIENT_NONCE:
        return CMP_FAIL_BAD_RECIPIENT_NONCE;
    case ERR_TRANSACTION_IN_USE:
        return CMP_FAIL_TRANSACTION_ID_IN_USE;
    case ERR_CMP_VERSION:
        return CMP_FAIL_UNSUPPORTED_VERSION;
    case ERR_CMP_CERT_ID:
    case ERR_CERT_UNKNOWN:
        return CMP_FAIL_BAD_CERT_ID;
    case ERR_CMP_NO_CERT_ID:
        return CMP_FAIL_ADD_INFO_NOT_AVAILABLE;
    case ERR_CMP_WRONG_AUTHORITY:
        return CMP_FAIL_WRONG_AUTHORITY;
    case ERR_CERT_CONFIRMED:
        return CMP_FAIL_CERT_CONFIRMED;
    case ERR_CERT_REVOKED:
    case ERR_CLIENT_CERT_REVOKED:
        return CMP_FAIL_CERT_REVOKED;
    case ERR_KEY_USED:
        return CMP_FAIL_DUPLICATE_CERT_REQ;

    case ERR_BAD_DER:
    case ERR_DER_TRAILING:
    case ERR_BAD_CERT:
    case ERR_BAD_CRL:
    case ERR_BAD_BASE64:
    case ERR_CMP_NO_TRANSACTION:
        return CMP_FAIL_BAD_DATA_FORMAT;
    case ERR_BAD_REQUEST:
    case ERR_CMP_TRANSACTION:
    case ERR_CMP_BODY:
    case ERR_NOT_OFFERED:
    case ERR_BODY_TOO_LARGE:
        return CMP_FAIL_BAD_REQUEST;
    case ERR_BAD_POP:
    case ERR_POP_LINK_MISMATCH:
    case ERR_POP_LINK_REQUIRED:
        return CMP_FAIL_BAD_POP;
    case ERR_BAD_CSR:
    case ERR_BAD_KEY:
    case ERR_KEY_NOT_ALLOWED:
    case ERR_EXTENSION_NOT_ALLOWED:
    case ERR_BAD_TEMPLATE:
    case ERR_SUBJECT_CHANGED:
    case ERR_NO_DEVICE_ID:
    case ERR_BAD_DEVICE_ID:
        return CMP_FAIL_BAD_CERT_TEMPLATE;

    case ERR_NOT_AUTHORIZED:
    case ERR_CLIENT_CERT_REQUIRED:
    case ERR_IDENTITY_MISMATCH:
    case ERR_DEVICE_PROVISIONED:
    case ERR_NOT_ALLOWED:
    case ERR_QUOTA_SPENT:
    case ERR_LOT_CLOSED:
    case ERR_NO_LOT:
        return CMP_FAIL_NOT_AUTHORIZED;

    case ERR_HELD:
    case ERR_RATE_LIMITED:
    case ERR_OVERLOADED:
    case ERR_STOPPING:
    case ERR_DEADLINE:
    case ERR_SIGNER_UNAVAILABLE:
    case ERR_SIGNER_FAILED:
    case ERR_SIGNATURE_WRONG:
    case ERR_STORE_FULL:
    case ERR_STORE_FAILED:
    case ERR_STORE_BUSY:
    case ERR_NO_SPACE:
    case ERR_FULL:
    case ERR_WAITING_FULL:
        return CMP_FAIL_SYSTEM_UNAVAIL;

    /* answered in HTTP, or nobody's fault but ours */
    case ERR_HTTP_MALFORMED:
    case ERR_HTTP_VERSION:
    case ERR_HTTP_METHOD:
    case ERR_HTTP_HEADER_TOO_LARGE:
    case ERR_HTTP_LENGTH_REQUIRED:
    case ERR_HTTP_MEDIA_TYPE:
    case ERR_REQUEST_TIMEOUT:
    case ERR_NOT_FOUND:
    case ERR_UNKNOWN_LINE:
    case ERR_NO_CRL:
    case ERR_STORE_VERSION:
    case ERR_IO:
    case ERR_CONFIG:
    case ERR_PIN_WRONG:
    case ERR_KEY_NOT_FOUND:
    case ERR_UNSUPPORTED:
    case ERR_INTERNAL:
    case ERR_COUNT:
        return CMP_FAIL_SYSTEM_FAILURE;
    }
    return CMP_FAIL_SYSTEM_FAILURE;
}

uint16_t cmp_http_status(enum err err)
{
    switch (err) {
    case ERR_NOT_FOUND:
    case ERR_UNKNOWN_LINE:
    case ERR_NOT_OFFERED:
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
    default:
        return err_class_of(err) == ERR_CLASS_ENV   ? 503
               : err_class_of(err) == ERR_CLASS_BUG ? 500
                                                    : 400;
    }
}
