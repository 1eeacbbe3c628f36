#include "hsm/sim/device.h"

#include "base/clock.h"
#include "hsm/sim/engines.h"

static enum service_key service_of(const struct object *key)
{
    switch (key->alg) {
    case KEY_EC_P384:
        return SERVICE_P384;
    case KEY_RSA:
        return key->bits <= 2048   ? SERVICE_RSA2048
               : key->bits <= 3072 ? SERVICE_RSA3072
                                   : SERVICE_RSA4096;
    case KEY_ED25519:
        return SERVICE_ED25519;
    case KEY_ML_DSA_44:
        return SERVICE_ML_DSA_44;
    case KEY_ML_DSA_65:
        return SERVICE_ML_DSA_65;
    default:
        return SERVICE_P256;
    }
}

CK_RV device_admit(const struct object *key, struct job *out)
{
    const struct description *description = &sim.description;
    struct job job = {0};
    uint64_t number = board_add(&sim.place, BOARD_sign_calls);
    CK_RV rv = faults_meet(sim.faults, CALL_SIGN, &job.is_wrong);
    if (rv != CKR_OK)
        return rv;
    uint64_t now = clock_mono_ns(), start = now;
    if (description->rate_per_second != 0 &&
        !rate_reserve(&sim.place.board->word[BOARD_rate_next_ns],
                      NS_PER_S / description->rate_per_second, description->rate_burst, now,
                      description->rate_blocks, &start)) {
        board_add(&sim.place, BOARD_throttled);
        return description->rate_answer;
    }
    uint64_t service =
        dist_sample_ns(&description->service[service_of(key)], description->seed, number);
    if (service != 0 && description->engines != 0)
        job.end_ns =
            engines_reserve(sim.place.board->engine_free_ns, description->engines, start, service);
    else if (service != 0 || start != now)
        job.end_ns = start + service;
    if (service != 0)
        atomic_fetch_add_explicit(&sim.place.board->word[BOARD_service_ns], service,
                                  memory_order_relaxed);
    *out = job;
    return CKR_OK;
}

void device_wait(const struct job *job)
{
    if (job->end_ns != 0 && clock_mono_ns() < job->end_ns)
        sleep_until_ns(job->end_ns);
}
