/* err.h: the one error family.
 *
 * Promise: every failure anywhere in certmill is one value of enum err; its stable code (kebab-case,
 *          shown to clients, metrics and the journal), class and sentence come from one table.
 * Threads: pure functions over constant data.
 *
 * Classes: PEER     the caller sent something wrong; answer and go on
 *          REFUSAL  the request is well formed but policy says no; journaled
 *          ENV      disk, token, memory, load: try again later
 *          BUG      ours; logged with place
 */
#ifndef CERTMILL_BASE_ERR_H
#define CERTMILL_BASE_ERR_H

#include <stdint.h>

#define MUST_USE __attribute__((warn_unused_result))

enum err_class { ERR_CLASS_NONE, ERR_CLASS_PEER, ERR_CLASS_REFUSAL, ERR_CLASS_ENV, ERR_CLASS_BUG };

/* X(enum suffix, stable code, class, sentence a line engineer understands) */
#define ERR_TABLE(X)                                                                               \
    X(OK, "ok", NONE, "Done.")                                                                     \
    /* transport and HTTP */                                                                       \
    X(HTTP_MALFORMED, "http-malformed", PEER, "The HTTP request is malformed.")                    \
    X(HTTP_VERSION, "http-version", PEER, "Only HTTP/1.0 and HTTP/1.1 are served.")                \
    X(HTTP_METHOD, "method-not-allowed", PEER, "This method is not allowed here; see Allow.")      \
    X(HTTP_HEADER_TOO_LARGE, "header-too-large", PEER, "The request header is too large.")         \
    X(HTTP_LENGTH_REQUIRED, "length-required", PEER, "A body needs Content-Length or chunked.")    \
    X(HTTP_MEDIA_TYPE, "unsupported-media-type", PEER, "The Content-Type is not the one this "     \
                                                       "operation takes.")                         \
    X(BODY_TOO_LARGE, "body-too-large", PEER, "The request body is larger than allowed.")          \
    X(REQUEST_TIMEOUT, "request-timeout", PEER, "The request did not arrive in time.")             \
    X(NOT_FOUND, "not-found", PEER, "There is no such operation.")                                 \
    X(UNKNOWN_LINE, "unknown-line", PEER, "There is no line with this name.")                      \
    X(NOT_OFFERED, "not-offered", PEER, "This operation is not offered on this line.")             \
    /* encodings */                                                                                \
    X(BAD_BASE64, "bad-base64", PEER, "The body is not valid base64.")                             \
    X(BAD_DER, "bad-der", PEER, "The request is not valid DER.")                                   \
    X(DER_TRAILING, "der-trailing-data", PEER, "There are bytes after the end of the DER value.")  \
    X(BAD_CSR, "bad-csr", PEER, "The certification request is malformed.")                         \
    X(BAD_CERT, "bad-certificate", PEER, "The certificate is malformed.")                          \
    X(BAD_CRL, "bad-crl", PEER, "The certificate revocation list is malformed.")                   \
    X(BAD_REQUEST, "bad-request", PEER, "The request breaks a rule of its protocol.")              \
    X(TRANSACTION_IN_USE, "transaction-id-in-use", PEER, "Another transaction has this id.")       \
    X(BAD_ALG, "unsupported-algorithm", PEER, "The signature or key algorithm is not supported.")  \
    X(BAD_KEY, "bad-key", PEER, "The public key is malformed or of a kind this line refuses.")     \
    X(BAD_SIGNATURE, "bad-signature", PEER, "The signature does not verify.")                      \
    X(BAD_POP, "bad-proof-of-possession", PEER, "The request is not signed by the key it asks "    \
                                                "a certificate for.")                              \
    X(POP_LINK_MISMATCH, "pop-linking-mismatch", PEER, "The challengePassword does not match "     \
                                                       "this TLS session.")                        \
    X(POP_LINK_REQUIRED, "pop-linking-required", PEER, "This line wants the request linked to "    \
                                                       "its TLS session by challengePassword.")    \
    /* CMP messages (RFC 9810) */                                                                 \
    X(CMP_VERSION, "cmp-unsupported-version", PEER, "This CMP version is not served; ours are 2 "  \
                                                    "and 3.")                                      \
    X(CMP_MESSAGE_CHECK, "cmp-bad-message-check", PEER, "The message's protection does not "       \
                                                        "verify, or its sender is not the signer.") \
    X(CMP_WRONG_INTEGRITY, "cmp-wrong-integrity", PEER, "This message must not be protected this " \
                                                        "way.")                                    \
    X(CMP_BAD_TIME, "cmp-bad-time", PEER, "messageTime is missing or too far from this clock.")    \
    X(CMP_SENDER_NONCE, "cmp-bad-sender-nonce", PEER, "senderNonce is missing, not 16 octets or "  \
                                                      "used before.")                              \
    X(CMP_RECIPIENT_NONCE, "cmp-bad-recipient-nonce", PEER, "recipNonce is not our last "          \
                                                            "senderNonce.")                        \
    X(CMP_TRANSACTION, "cmp-unknown-transaction", PEER, "There is no transaction with this id "    \
                                                        "that waits for this message.")            \
    X(CMP_NO_TRANSACTION, "cmp-no-transaction-id", PEER, "This message needs a transactionID of "  \
                                                         "1 to 32 octets.")                        \
    X(CMP_CERT_ID, "cmp-bad-certificate-id", PEER, "The certificate id or hash names another "     \
                                                   "certificate than this message may.")           \
    X(CMP_NO_CERT_ID, "cmp-no-certificate-id", PEER, "Issuer and serial number are needed to name " \
                                                     "the certificate.")                           \
    X(CMP_WRONG_AUTHORITY, "cmp-wrong-authority", PEER, "certConf must be signed by the key that " \
                                                        "signed the request, not by the new one.") \
    X(CMP_BODY, "cmp-body-not-served", PEER, "This CMP body is not served.")                       \
    /* who asks */                                                                                 \
    X(AUTH_REQUIRED, "authentication-required", REFUSAL, "No credentials were presented.")         \
    X(AUTH_FAILED, "authentication-failed", REFUSAL, "The credentials are wrong.")                 \
    X(CLIENT_CERT_REQUIRED, "client-certificate-required", REFUSAL,                                \
      "Re-enrollment needs the current certificate as TLS client certificate.")                    \
    X(CLIENT_CERT_UNTRUSTED, "client-certificate-untrusted", REFUSAL,                              \
      "The client certificate does not chain to a trust anchor of this line.")                     \
    X(CLIENT_CERT_EXPIRED, "client-certificate-expired", REFUSAL,                                  \
      "The client certificate is expired or not yet valid.")                                       \
    X(CLIENT_CERT_REVOKED, "client-certificate-revoked", REFUSAL,                                  \
      "The client certificate is revoked or superseded.")                                          \
    X(NOT_AUTHORIZED, "not-authorized", REFUSAL, "The caller has no right to do this.")            \
    /* what is asked for */                                                                        \
    X(SUBJECT_CHANGED, "subject-changed", REFUSAL, "Subject or subjectAltName differ from the "    \
                                                   "current certificate.")                         \
    X(NO_DEVICE_ID, "no-device-id", REFUSAL, "The request holds no device id where this line "     \
                                             "looks for it.")                                      \
    X(BAD_DEVICE_ID, "bad-device-id", REFUSAL, "The device id is empty, too long or has "          \
                                               "characters that are not allowed.")                 \
    X(IDENTITY_MISMATCH, "identity-mismatch", REFUSAL, "The caller may only ask for its own "      \
                                                       "identity.")                                \
    X(KEY_NOT_ALLOWED, "key-not-allowed", REFUSAL, "The key type or size is not allowed on this "  \
                                                   "line.")                                        \
    X(EXTENSION_NOT_ALLOWED, "extension-not-allowed", REFUSAL,                                     \
      "The request asks for an extension that the profile does not allow.")                        \
    X(BAD_TEMPLATE, "bad-template", REFUSAL, "The requested certificate content is not allowed "   \
                                             "by the profile.")                                    \
    /* the factory */                                                                              \
    X(DEVICE_PROVISIONED, "device-already-provisioned", REFUSAL,                                   \
      "This device already has a certificate for another key.")                                    \
    X(KEY_USED, "key-already-used", REFUSAL, "This key already belongs to another device: a "      \
                                             "cloned image or a broken random generator.")         \
    X(CERT_REVOKED, "certificate-revoked", REFUSAL, "The certificate of this device and key is "   \
                                                    "revoked.")                                    \
    X(CERT_UNKNOWN, "certificate-unknown", REFUSAL, "No such certificate was issued here.")        \
    X(CERT_CONFIRMED, "certificate-already-confirmed", REFUSAL,                                    \
      "The certificate was already confirmed.")                                                    \
    X(NOT_ALLOWED, "not-on-allow-list", REFUSAL, "The device id is not on the allow-list of the "  \
                                                 "lot.")                                           \
    X(QUOTA_SPENT, "quota-spent", REFUSAL, "The quota of the lot is spent.")                       \
    X(LOT_CLOSED, "lot-closed", REFUSAL, "The lot is closed.")                                     \
    X(NO_LOT, "no-lot", REFUSAL, "There is no open lot for this request.")                         \
    X(HELD, "held", REFUSAL, "The request is held; ask again later.")                              \
    X(RATE_LIMITED, "rate-limited", REFUSAL, "Too many requests; ask again later.")                \
    /* environment */                                                                              \
    X(OVERLOADED, "overloaded", ENV, "The appliance is at its limit; ask again shortly.")          \
    X(STOPPING, "stopping", ENV, "The appliance is shutting down.")                                \
    X(DEADLINE, "deadline", ENV, "The work did not finish in time; ask again.")                    \
    X(SIGNER_UNAVAILABLE, "signer-unavailable", ENV, "No signer can serve this key now.")          \
    X(SIGNER_FAILED, "signer-failed", ENV, "The token refused or failed to sign.")                 \
    X(SIGNATURE_WRONG, "token-signature-wrong", ENV, "The token returned a signature that does "   \
                                                     "not verify; it was discarded.")              \
    X(NO_CRL, "no-crl-yet", ENV, "No revocation list of this CA has been signed yet; ask again "   \
                                 "shortly.")                                                       \
    X(STORE_FULL, "store-full", ENV, "The store has no room; free disk space or raise map_size.")  \
    X(STORE_FAILED, "store-failed", ENV, "The store failed to write.")                             \
    X(STORE_VERSION, "store-version", ENV, "The store was written by another version of "          \
                                           "certmill.")                                            \
    X(STORE_BUSY, "store-busy", ENV, "Another certmilld has this store open.")                     \
    X(NO_SPACE, "no-space", ENV, "A buffer of fixed size is full.")                                \
    X(FULL, "full", ENV, "A queue is full.")                                                       \
    X(IO, "io", ENV, "An input or output operation failed.")                                       \
    X(CONFIG, "config", ENV, "The configuration is not valid.")                                    \
    X(PIN_WRONG, "pin-wrong", ENV, "The token refused the PIN.")                                   \
    X(KEY_NOT_FOUND, "key-not-found", ENV, "The token holds no such key.")                         \
    X(UNSUPPORTED, "unsupported", ENV, "The platform or token lacks a needed feature.")            \
    X(WAITING_FULL, "waiting-full", ENV, "As many requests as may wait for the operator on this "  \
                                         "line do; ask again later.")                              \
    /* ours */                                                                                     \
    X(INTERNAL, "internal", BUG, "Internal error.")

enum err {
#define X(suffix, code, class, sentence) ERR_##suffix,
    ERR_TABLE(X)
#undef X
        ERR_COUNT
};

/* Stable code, e.g. "quota-spent". Never NULL; out-of-range values read as "internal". */
const char *err_code(enum err err);
/* One English sentence without line breaks. */
const char *err_sentence(enum err err);
enum err_class err_class_of(enum err err);

#endif
