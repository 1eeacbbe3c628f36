/* Devices by name. A preset is a class of device for load tests of a design, not a measurement of
 * anybody's product: rates are what vendors publish; engines and the spread of service times are
 * ours (approximate), chosen so that engines / mean service time gives the published rate.
 *
 *   luna-a700, luna-a750, luna-a790
 *       Thales Luna Network HSM 7 product brief, performance table of the models: ECC P-256
 *       2,000 / 10,000 / 22,000 and RSA-2048 1,000 / 5,000 / 10,000 operations per second.
 *       The administration guide's advice of some 30 threads per HSM fits the number of engines of
 *       the largest. Approximate: everything else.
 *   cloudhsm-hsm2m
 *       AWS CloudHSM user guide, "performance": hsm2m.medium, cluster of two: RSA-2048 sign 2,000/s
 *       and EC P-256 sign 3,000/s; halved here, since one token plays one HSM. Approximate: the
 *       time of one call over the network, the answer when throttled.
 *   yubihsm2
 *       YubiHSM 2 user guide, device specifications: examples of average times on an idle device
 *       (P-256 73 ms, P-384 120 ms, Ed25519 105 ms, RSA-2048 139 ms, RSA-3072 504 ms, RSA-4096
 *       852 ms), 16 sessions. Approximate: taken from memory, and no spread.
 *   software
 *       no waits at all: what the processor gives.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "hsm/sim/describe.h"

struct preset {
    const char *name;
    const char *model;
    uint32_t engines;
    uint32_t sessions_max;
    double p99_ratio; /* p99 over median; 1: constant */
    double mean_us[SERVICE_COUNT];
    const char *throttle_answer;
    uint32_t throttle_rate;
    bool message_sign;
};

/* The mean service time at which so many engines give so many operations per second. */
#define MEAN_US(engines, per_second) ((engines)*1e6 / (per_second))

static const struct preset presets[] = {
    {.name = "software", .model = "software", .sessions_max = 1024, .message_sign = true},
    {.name = "luna-a700",
     .model = "Luna A700 class",
     .engines = 3,
     .sessions_max = 1024,
     .p99_ratio = 1.4,
     .mean_us = {[SERVICE_P256] = MEAN_US(3, 2000),
                 [SERVICE_P384] = MEAN_US(3, 1000),
                 [SERVICE_RSA2048] = MEAN_US(3, 1000),
                 [SERVICE_RSA3072] = MEAN_US(3, 400),
                 [SERVICE_RSA4096] = MEAN_US(3, 180),
                 [SERVICE_ED25519] = MEAN_US(3, 2000),
                 [SERVICE_ML_DSA_44] = MEAN_US(3, 500),
                 [SERVICE_ML_DSA_65] = MEAN_US(3, 400),
                 [SERVICE_KEYGEN] = 50000}},
    {.name = "luna-a750",
     .model = "Luna A750 class",
     .engines = 14,
     .sessions_max = 1024,
     .p99_ratio = 1.4,
     .mean_us = {[SERVICE_P256] = MEAN_US(14, 10000),
                 [SERVICE_P384] = MEAN_US(14, 5000),
                 [SERVICE_RSA2048] = MEAN_US(14, 5000),
                 [SERVICE_RSA3072] = MEAN_US(14, 2000),
                 [SERVICE_RSA4096] = MEAN_US(14, 900),
                 [SERVICE_ED25519] = MEAN_US(14, 10000),
                 [SERVICE_ML_DSA_44] = MEAN_US(14, 2500),
                 [SERVICE_ML_DSA_65] = MEAN_US(14, 2000),
                 [SERVICE_KEYGEN] = 30000}},
    {.name = "luna-a790",
     .model = "Luna A790 class",
     .engines = 31,
     .sessions_max = 1024,
     .p99_ratio = 1.4,
     .mean_us = {[SERVICE_P256] = MEAN_US(31, 22000),
                 [SERVICE_P384] = MEAN_US(31, 11000),
                 [SERVICE_RSA2048] = MEAN_US(31, 10000),
                 [SERVICE_RSA3072] = MEAN_US(31, 4000),
                 [SERVICE_RSA4096] = MEAN_US(31, 1800),
                 [SERVICE_ED25519] = MEAN_US(31, 22000),
                 [SERVICE_ML_DSA_44] = MEAN_US(31, 5000),
                 [SERVICE_ML_DSA_65] = MEAN_US(31, 4000),
                 [SERVICE_KEYGEN] = 20000}},
    {.name = "cloudhsm-hsm2m",
     .model = "hsm2m class",
     .engines = 6,
     .sessions_max = 1024,
     .p99_ratio = 2,
     .mean_us = {[SERVICE_P256] = MEAN_US(6, 1500),
                 [SERVICE_P384] = MEAN_US(6, 1000),
                 [SERVICE_RSA2048] = MEAN_US(6, 1000),
                 [SERVICE_RSA3072] = MEAN_US(6, 400),
                 [SERVICE_RSA4096] = MEAN_US(6, 180),
                 [SERVICE_KEYGEN] = 100000},
     .throttle_rate = 1500,
     .throttle_answer = "CKR_FUNCTION_FAILED"},
    {.name = "yubihsm2",
     .model = "YubiHSM 2 class",
     .engines = 1,
     .sessions_max = 16,
     .p99_ratio = 1,
     .mean_us = {[SERVICE_P256] = 73000,
                 [SERVICE_P384] = 120000,
                 [SERVICE_RSA2048] = 139000,
                 [SERVICE_RSA3072] = 504000,
                 [SERVICE_RSA4096] = 852000,
                 [SERVICE_ED25519] = 105000,
                 [SERVICE_KEYGEN] = 300000}},
};
enum { PRESETS = sizeof presets / sizeof *presets };

const char *preset_name(uint32_t index)
{
    return index < PRESETS ? presets[index].name : NULL;
}

/* The lognormal with this mean and this ratio of p99 to median: mean = median * e^(sigma^2 / 2). */
static struct dist spread(double mean_us, double p99_ratio)
{
    if (mean_us <= 0 || p99_ratio <= 1)
        return dist_constant(mean_us);
    struct dist dist = dist_lognormal(1, p99_ratio);
    dist.median_us = mean_us / exp(0.5 * dist.sigma * dist.sigma);
    return dist;
}

static void apply(const struct preset *preset, struct description *out)
{
    snprintf(out->model, sizeof out->model, "%s", preset->model);
    out->engines = preset->engines;
    out->sessions_max = preset->sessions_max;
    out->message_sign = preset->message_sign;
    for (int i = 0; i < SERVICE_COUNT; i++)
        out->service[i] = spread(preset->mean_us[i], preset->p99_ratio);
    out->rate_per_second = preset->throttle_rate;
    if (preset->throttle_rate) {
        out->rate_burst = preset->throttle_rate / 10;
        sim_rv_from_name(preset->throttle_answer, &out->rate_answer);
    }
}

bool preset_apply(const char *name, struct description *out)
{
    for (uint32_t i = 0; i < PRESETS; i++) {
        if (strcmp(presets[i].name, name) != 0)
            continue;
        apply(&presets[i], out);
        return true;
    }
    return false;
}
