/* Is a list of CRLStatus judged alike whenever our list was made, and newer for good once it is newer?
 *
 * Oracles: whether it is well-formed does not depend on the time of ours; what is newer at one time is
 * newer at all later ones; who names nothing of ours gets nothing.
 */
#include <stdlib.h>

#include "proto/cmp_impl.h"
#include "tests/fuzz/der_mutator.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* CN=ca, and the URL of the seeds */
    static const uint8_t name[] = {0x30, 0x0d, 0x31, 0x0b, 0x30, 0x09, 0x06, 0x03,
                                   0x55, 0x04, 0x03, 0x0c, 0x02, 'c',  'a'};
    static const int64_t times[] = {INT64_MIN + 1, 0, 1767225600, 1798761600, INT64_MAX};
    const struct proto_cmp_line line = {
        .ca_name = BYTES_ARRAY(name),
        .crl_url = BYTES_LIT("http://localhost/crl"),
    };
    struct bytes list = bytes_of(data, size);
    bool before = false;
    bool good = cmp_crl_asked(&line, list, times[0], &before);
    for (size_t i = 1; i < sizeof(times) / sizeof(times[0]); i++) {
        bool newer = false;
        CHECK(cmp_crl_asked(&line, list, times[i], &newer) == good);
        CHECK(!good || newer || !before);
        before = good && newer;
    }
    const struct proto_cmp_line nobody = {0};
    bool newer = false;
    CHECK(cmp_crl_asked(&nobody, list, INT64_MAX, &newer) == good);
    CHECK(!newer);
    return 0;
}
