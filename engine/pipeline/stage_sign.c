/* SIGN and CHECK: the batch goes to the HSM queue; what comes back is verified before use. */
#include "base/clock.h"
#include "base/log.h"
#include "crypto/digest.h"
#include "pipeline/pipeline.h"

enum { SIGN_SUBMIT_MAX = 128, SHORT_INPUT_MAX = 96 };

static void submit(struct core *core, struct sign_job jobs[], struct issuance *owners[],
                   enum verdict *places[], uint32_t count)
{
    enum err err = ERR_OK;
    uint32_t taken = hsm_submit(core->shared->hsm, core->index, jobs, count, &err);
    metric_add(core->metrics, METRIC_SIGN_JOBS, taken);
    for (uint32_t i = taken; i < count; i++) {
        owners[i]->err = err == ERR_FULL || err == ERR_OK ? ERR_OVERLOADED : err;
        *places[i] = VERDICT_REFUSE;
    }
}

void stage_sign(struct core *core, struct issuance *slots[], enum verdict verdicts[],
                uint32_t count)
{
    struct sign_job jobs[SIGN_SUBMIT_MAX];
    struct issuance *owners[SIGN_SUBMIT_MAX];
    enum verdict *places[SIGN_SUBMIT_MAX];
    uint8_t short_inputs[SIGN_SUBMIT_MAX][SHORT_INPUT_MAX];
    uint64_t deadline_ns = core->now_ns + SIGN_DEADLINE_MS * NS_PER_MS;
    uint32_t filled = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct issuance *issuance = slots[i];
        const struct rt_ca *ca = issuance->exchange->line->ca;
        struct bytes tbs = bytes_of(issuance->tbs, issuance->tbs_len);
        struct bytes input = tbs; /* EdDSA and ML-DSA sign the message itself */
        verdicts[i] = VERDICT_WAIT_SIGNER;
        if (sig_alg_hash(ca->sig_alg) != HASH_NONE) {
            size_t len = 0;
            issuance->err =
                sign_input_build(ca->sig_alg, tbs, short_inputs[filled], SHORT_INPUT_MAX, &len);
            if (issuance->err != ERR_OK) {
                verdicts[i] = VERDICT_REFUSE;
                continue;
            }
            input = bytes_of(short_inputs[filled], len);
        }
        jobs[filled] = (struct sign_job){
            .tag = pool_handle(&core->issuances, pool_index(&core->issuances, issuance)),
            .key_index = ca->key_index,
            .input = input,
            .deadline_ns = deadline_ns,
        };
        issuance->since_ns = core->now_ns;
        owners[filled] = issuance;
        places[filled] = &verdicts[i];
        if (++filled == SIGN_SUBMIT_MAX) {
            submit(core, jobs, owners, places, filled);
            filled = 0;
        }
    }
    if (filled > 0) {
        submit(core, jobs, owners, places, filled);
    }
}

/* Every signature, or one in N where the token's owner said so; never none. */
static bool must_check(struct core *core, const struct exchange *exchange)
{
    const struct rt_ca *ca = exchange->line->ca;
    uint32_t *count = &core->check_count[ca - exchange->snapshot->cas];
    if (++*count < ca->verify_one_in) {
        return false;
    }
    *count = 0;
    return true;
}

void stage_check(struct core *core, struct issuance *slots[], enum verdict verdicts[],
                 uint32_t count)
{
    struct verify_board *board = core->shared->boards[core->index];
    for (uint32_t i = 0; i < count; i++) {
        struct issuance *issuance = slots[i];
        const struct rt_ca *ca = issuance->exchange->line->ca;
        if (!must_check(core, issuance->exchange)) {
            verdicts[i] = VERDICT_NEXT;
            continue;
        }
        metric_add(core->metrics, METRIC_SIGNATURES_CHECKED, 1);
        issuance->verify.job = (struct verify_job){
            .alg = ca->sig_alg,
            .key = ca->key,
            .spki = &ca->cert.spki,
            .message = bytes_of(issuance->tbs, issuance->tbs_len),
            .signature = bytes_of(issuance->signature, issuance->signature_len),
        };
        verdicts[i] = VERDICT_WAIT_VERIFY;
        if (!board_offer(board, &issuance->verify)) {
            issuance->err = ERR_OVERLOADED;
            verdicts[i] = VERDICT_REFUSE;
        }
    }
}
