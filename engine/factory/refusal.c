#include "factory/refusal.h"

#include "limits.h"

enum refusal_record refusal_record_of(enum err err)
{
    switch (err) {
    case ERR_AUTH_REQUIRED:
    case ERR_AUTH_FAILED:
    case ERR_CLIENT_CERT_REQUIRED:
    case ERR_CLIENT_CERT_UNTRUSTED:
    case ERR_CLIENT_CERT_EXPIRED:
    case ERR_RATE_LIMITED:
    case ERR_CMP_MESSAGE_CHECK: /* a wrong MAC or signature is a wrong credential */
    case ERR_CMP_WRONG_INTEGRITY:
        return REFUSAL_COUNTED;
    /* of the peer's faults these are not accidents of encoding: somebody asked with a key that is
     * not theirs, or replayed a request into another session */
    case ERR_BAD_POP:
    case ERR_POP_LINK_MISMATCH:
    case ERR_POP_LINK_REQUIRED:
        return REFUSAL_RECORDED;
    default:
        return err_class_of(err) == ERR_CLASS_REFUSAL ? REFUSAL_RECORDED : REFUSAL_NOT_RECORDED;
    }
}

unsigned refusal_retry_after_s(enum err err)
{
    switch (err) {
    case ERR_OVERLOADED:
    case ERR_FULL:
    case ERR_NO_SPACE:
    case ERR_DEADLINE:
    case ERR_NO_CRL:
    case ERR_RATE_LIMITED:
        return RETRY_AFTER_S;
    case ERR_STOPPING: /* a restart */
    case ERR_SIGNER_UNAVAILABLE:
    case ERR_SIGNER_FAILED:
    case ERR_SIGNATURE_WRONG:
        return 2 * RETRY_AFTER_S;
    case ERR_STORE_FAILED:
    case ERR_WAITING_FULL:
    case ERR_HELD: /* until somebody decides */
        return 15 * RETRY_AFTER_S;
    case ERR_STORE_FULL: /* until somebody makes room */
        return 30 * RETRY_AFTER_S;
    default:
        return 0;
    }
}
