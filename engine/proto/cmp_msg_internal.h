/* cmp_msg_internal.h: what the files of CMP's wire form share with one another and nobody else
 * includes.
 *
 * Promise: as cmp_msg.h.
 */
#ifndef CERTMILL_PROTO_CMP_MSG_INTERNAL_H
#define CERTMILL_PROTO_CMP_MSG_INTERNAL_H

#include "proto/cmp_msg.h"

/* A whole SEQUENCE SIZE (1..MAX) OF UTF8String: PKIFreeText, CertProfileValue. *out_first: contents
 * of its first string. */
bool cmp_text_is_valid(struct bytes der, struct bytes *out_first);

/* What an explicit tag holds when it is the next: one element, whole. */
enum err cmp_explicit_get(struct bytes *reader, unsigned number, struct bytes *out_element,
                          bool *out_present) MUST_USE;

/* content is one SEQUENCE and nothing else: its contents. */
enum err cmp_list_open(struct bytes content, struct bytes *out_list) MUST_USE;

#endif
