/* Do parameters of MACs under shared secrets survive building and decoding, within their limits?
 *
 * Oracles: what is accepted is within the limits, is DER, and gives the same when built and decoded
 * again; building that a second time gives the same octets.
 */
#include <stdlib.h>
#include <string.h>

#include "asn1/der.h"
#include "crypto/mac.h"
#include "tests/fuzz/der_mutator.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            abort();                                                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_limits(const struct mac_params *params)
{
    CHECK(mac_params_are_valid(params));
    CHECK(params->iterations >= 100 && params->iterations <= 100000);
    CHECK(params->salt_len >= 8 && params->salt_len <= 64);
    CHECK(params->key_len == 0 || (params->key_len >= 16 && params->key_len <= 64));
    CHECK(mac_cost(params) >= params->iterations && mac_cost(params) <= params->iterations * 24);
    for (size_t i = params->salt_len; i < sizeof params->salt; i++)
        CHECK(params->salt[i] == 0);
}

static void check_same(const struct mac_params *a, const struct mac_params *b)
{
    CHECK(a->kind == b->kind && a->hash == b->hash && a->mac == b->mac);
    CHECK(a->iterations == b->iterations && a->key_len == b->key_len);
    CHECK(a->is_ipsec_oid == b->is_ipsec_oid && a->salt_len == b->salt_len);
    CHECK(memcmp(a->salt, b->salt, sizeof a->salt) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mac_params params, again;
    uint8_t built[MAC_PARAMS_DER_MAX], rebuilt[MAC_PARAMS_DER_MAX];
    size_t len = 0, again_len = 0;

    if (mac_params_decode(bytes_of(data, size), &params) != ERR_OK)
        return 0;
    check_limits(&params);
    CHECK(der_is_strict(bytes_of(data, size)));
    CHECK(mac_params_build(&params, built, sizeof built, &len) == ERR_OK);
    CHECK(mac_params_decode(bytes_of(built, len), &again) == ERR_OK);
    check_same(&params, &again);
    CHECK(mac_params_build(&again, rebuilt, sizeof rebuilt, &again_len) == ERR_OK);
    CHECK(bytes_eq(bytes_of(built, len), bytes_of(rebuilt, again_len)));
    return 0;
}
