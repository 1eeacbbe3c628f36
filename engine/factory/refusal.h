/* refusal.h: what is done with each error beside answering it.
 *
 * Promise: P4; every refusal of policy is in the journal, one by one or, where an unknown caller
 *          could fill the disk with them, counted (JOURNAL_SUPPRESSED).
 * Threads: pure functions over constant data.
 * Units:   seconds.
 */
#ifndef CERTMILL_FACTORY_REFUSAL_H
#define CERTMILL_FACTORY_REFUSAL_H

#include "base/err.h"

enum refusal_record {
    REFUSAL_NOT_RECORDED, /* malformed requests, load, our own failures: metrics and log */
    REFUSAL_RECORDED,     /* a record each: the caller is known */
    REFUSAL_COUNTED,      /* anyone can cause it: the first ones a record each, then counted */
};

enum refusal_record refusal_record_of(enum err err);
/* What Retry-After should say; 0: asking again changes nothing. */
unsigned refusal_retry_after_s(enum err err);

#endif
