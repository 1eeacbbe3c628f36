/* tls_ticket.h: keys and cipher of session tickets, shared by all cores.
 *
 * Promise: AES-256-GCM under a random key that tickets_rotate replaces; the key before it still
 *          opens. Keys are never written anywhere, so a restart ends all sessions.
 * Threads: seal and open from any; each thread works on its own copy of the keys and takes the lock
 *          only after a rotation.
 * Limits:  one key seals far fewer than 2^32 tickets with random nonces (SP 800-38D 8.3) when it is
 *          rotated every few hours.
 */
#ifndef CERTMILL_NET_TLS_TICKET_H
#define CERTMILL_NET_TLS_TICKET_H

#include "base/bytes.h"

enum { TICKET_NAME_LEN = 16, TICKET_IV_LEN = 12, TICKET_TAG_LEN = 16 };

enum ticket_result { TICKET_FAILED, TICKET_OK, TICKET_OLD_KEY };

void tickets_rotate(void);
/* In place. `depth` is not hidden but protected. */
bool ticket_seal(uint8_t out_name[TICKET_NAME_LEN], uint8_t out_iv[TICKET_IV_LEN],
                 uint8_t out_tag[TICKET_TAG_LEN], uint8_t depth, uint8_t *data,
                 size_t len) MUST_USE;
enum ticket_result ticket_open(const uint8_t name[TICKET_NAME_LEN], const uint8_t iv[TICKET_IV_LEN],
                               const uint8_t tag[TICKET_TAG_LEN], uint8_t depth, uint8_t *data,
                               size_t len) MUST_USE;

#endif
