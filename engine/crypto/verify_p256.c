/* verify_p256.c: many ECDSA signatures over P-256 at once: one inversion modulo n for all, the
 * curve arithmetic in lanes of eight.
 */
#include "crypto/verify_impl.h"

#include <assert.h>

/* A lane's work takes as long for one job as for eight: less than this many new keys are faster one
 * by one (micro_verify: 72 us each, 112 us for lanes). Known keys gain from the first on. */
enum { BY_POINT_MIN = 2 };

struct prepared {
    struct verify_job *job;
    struct p256_scalar e;       /* hash */
    struct p256_scalar s;       /* Montgomery domain */
    struct p256_scalar product; /* of this s and all before */
    struct p256_lane lane;
};

/* false: nothing for the lanes; the job has its result. */
static bool prepare(struct verify_job *job, struct prepared *out)
{
    const struct spki *spki = verify_spki(job);
    uint8_t hash[DIGEST_LEN_MAX], raw[2 * P256_LEN];
    struct bytes digest;
    out->lane.table = job->key ? job->key->table : NULL;
    bool ordinary =
        sig_alg_fits(job->alg, KEY_EC_P256) && (out->lane.table || !job->key) &&
        ec_point_is_plausible(KEY_EC_P256, spki->key) &&
        ecdsa_der_to_raw(job->signature, raw, P256_LEN) && ec_scalar_is_valid(KEY_EC_P256, raw) &&
        ec_scalar_is_valid(KEY_EC_P256, raw + P256_LEN) && verify_message(job, hash, &digest);
    if (!ordinary) {
        job->result = verify_alone(job);
        return false;
    }
    out->job = job;
    out->lane.point = spki->key.ptr + 1;
    memcpy(out->lane.r, raw, P256_LEN);
    out->e = p256_scalar_of_digest(digest.ptr, digest.len);
    out->s = p256_scalar_load(raw + P256_LEN);
    out->s = p256_scalar_to_mont(&out->s);
    return true;
}

/* u1 = e / s and u2 = r / s (FIPS 186-4 6.4.2, step 4), all with one inversion: that of the product
 * of all s (Montgomery 1987). */
static void divide(struct prepared items[], size_t count)
{
    items[0].product = items[0].s;
    for (size_t i = 1; i < count; i++)
        items[i].product = p256_scalar_mont_mul(&items[i - 1].product, &items[i].s);
    struct p256_scalar rest = p256_scalar_mont_inverse(&items[count - 1].product);
    for (size_t i = count; i-- > 0;) {
        struct p256_scalar inverse = rest, r = p256_scalar_load(items[i].lane.r);
        if (i > 0) {
            inverse = p256_scalar_mont_mul(&rest, &items[i - 1].product);
            rest = p256_scalar_mont_mul(&rest, &items[i].s);
        }
        items[i].lane.u1 = p256_scalar_mont_mul(&items[i].e, &inverse);
        items[i].lane.u2 = p256_scalar_mont_mul(&r, &inverse);
    }
}

static void settle(struct prepared *const items[], const struct p256_lane lanes[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct verify_job *job = items[i]->job;
        switch (lanes[i].answer) {
        case P256_YES:
            job->result = ERR_OK;
            break;
        case P256_NO:
            job->result = ERR_BAD_SIGNATURE;
            break;
        case P256_OFF_CURVE:
            job->result = ERR_BAD_KEY;
            break;
        case P256_UNSURE:
            job->result = verify_alone(job);
            break;
        }
    }
}

/* The items that have a table, or those that have not. */
static void run_lanes(struct prepared items[], size_t count, bool by_table)
{
    for (size_t next = 0; next < count;) {
        struct p256_lane lanes[P256_LANES];
        struct prepared *from[P256_LANES];
        size_t n = 0;
        for (; next < count && n < P256_LANES; next++) {
            if ((items[next].lane.table != NULL) != by_table)
                continue;
            from[n] = &items[next];
            lanes[n++] = items[next].lane;
        }
        if (n == 0)
            return;
        if (by_table) {
            p256_lanes_by_table(lanes, n);
        } else if (n >= BY_POINT_MIN) {
            p256_lanes_by_point(lanes, n);
        } else {
            for (size_t i = 0; i < n; i++)
                lanes[i].answer = P256_UNSURE;
        }
        settle(from, lanes, n);
    }
}

void verify_p256(struct verify_job *const jobs[], size_t count)
{
    struct prepared items[VERIFY_P256_MAX];
    size_t prepared = 0;
    assert(count <= VERIFY_P256_MAX);
    for (size_t i = 0; i < count; i++)
        if (prepare(jobs[i], &items[prepared]))
            prepared++;
    if (prepared == 0)
        return;
    divide(items, prepared);
    run_lanes(items, prepared, true);
    run_lanes(items, prepared, false);
}
