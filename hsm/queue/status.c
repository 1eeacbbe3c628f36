/* status.c: what the queue says of itself, for metrics and people. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "hsm/queue/supervise.h"

static uint64_t counted(const struct signer *signer, uint32_t counter)
{
    return atomic_load_explicit(&signer->counted_before[counter], memory_order_relaxed) +
           atomic_load_explicit(&signer->counted_now[counter], memory_order_relaxed);
}

uint32_t hsm_status(struct hsm *hsm, struct hsm_signer_status out[SIGNERS_MAX])
{
    uint64_t now = clock_mono_ns();
    struct supervisor *sup = hsm->supervisor;
    pthread_mutex_lock(&sup->text_lock);
    for (uint32_t i = 0; i < hsm->signer_count; i++) {
        struct signer *signer = &hsm->signers[i];
        out[i] = (struct hsm_signer_status){
            .token = sup->tokens[signer->token_index].name,
            .pid = atomic_load_explicit(&signer->status_pid, memory_order_relaxed),
            .state = (enum hsm_signer_state)atomic_load_explicit(&signer->status_state,
                                                                 memory_order_relaxed),
            .breaker_open = breaker_is_open(signer, now),
            .breaker = breaker_state(signer, now),
            .sessions = signer->sessions,
            .in_flight = atomic_load_explicit(&signer->in_flight, memory_order_relaxed),
            .signed_total = counted(signer, COUNT_SIGNED),
            .errors_total = atomic_load_explicit(&signer->errors_total, memory_order_relaxed),
            .restarts = atomic_load_explicit(&signer->restarts, memory_order_relaxed),
            .batches_total = counted(signer, COUNT_BATCHES),
        };
        memcpy(out[i].last_error, sup->last_error[i], sizeof(out[i].last_error));
    }
    pthread_mutex_unlock(&sup->text_lock);
    return hsm->signer_count;
}

struct hist *hsm_service_hist(struct hsm *hsm, uint32_t token_index)
{
    /* bucket by bucket, so that two callers at once store the same sums */
    struct hist *sum = &hsm->token_hist[token_index];
    uint64_t total = 0, count = 0;
    for (uint32_t b = 0; b < HIST_BUCKETS; b++) {
        uint64_t n = 0;
        for (uint32_t i = 0; i < hsm->core_count; i++)
            n += atomic_load_explicit(&hsm->cores[i].service[token_index].bucket[b],
                                      memory_order_relaxed);
        atomic_store_explicit(&sum->bucket[b], n, memory_order_relaxed);
        count += n;
    }
    for (uint32_t i = 0; i < hsm->core_count; i++)
        total +=
            atomic_load_explicit(&hsm->cores[i].service[token_index].sum, memory_order_relaxed);
    atomic_store_explicit(&sum->sum, total, memory_order_relaxed);
    atomic_store_explicit(&sum->count, count, memory_order_relaxed);
    return sum;
}

/* --- of tokens --- */

static void add_signer(const struct signer *signer, enum hsm_breaker breaker,
                       struct hsm_token_status *out)
{
    bool up = signer_is_up(signer);
    out->signers++;
    out->signers_up += up;
    out->breakers_open += up && breaker != HSM_BREAKER_CLOSED;
    out->in_flight += atomic_load_explicit(&signer->in_flight, memory_order_relaxed);
    out->restarts += atomic_load_explicit(&signer->restarts, memory_order_relaxed);
    out->expired_total += atomic_load_explicit(&signer->expired_total, memory_order_relaxed);
    out->signed_total += counted(signer, COUNT_SIGNED);
    out->logins += counted(signer, COUNT_LOGINS);
    out->batch_jobs += counted(signer, COUNT_BATCH_JOBS);
    for (uint32_t i = 0; i < HSM_BATCH_BUCKETS; i++)
        out->batches[i] += counted(signer, COUNT_BATCH_SIZE + i);
    for (uint32_t i = 0; i < HSM_ERROR_CLASSES; i++)
        out->errors[i] += counted(signer, COUNT_ERRORS + i);
}

static uint32_t waiting_for(const struct hsm *hsm, uint32_t key_index)
{
    uint32_t count = 0;
    for (uint32_t c = 0; c < hsm->core_count; c++)
        count += atomic_load_explicit(&hsm->cores[c].waiting[key_index], memory_order_relaxed);
    return count;
}

uint32_t hsm_token_status(struct hsm *hsm, struct hsm_token_status out[TOKENS_MAX])
{
    uint64_t now = clock_mono_ns();
    uint32_t signers_of[TOKENS_MAX] = {0};
    for (uint32_t t = 0; t < hsm->token_count; t++)
        out[t] = (struct hsm_token_status){
            .name = hsm->supervisor->tokens[t].name,
            .wrong_total = atomic_load_explicit(&hsm->wrong[t], memory_order_relaxed),
        };
    for (uint32_t i = 0; i < hsm->signer_count; i++) {
        struct signer *signer = &hsm->signers[i];
        signers_of[signer->token_index] |= 1u << i;
        add_signer(signer, breaker_state(signer, now), &out[signer->token_index]);
    }
    for (uint32_t k = 0; k < hsm->key_count; k++) {
        for (uint32_t t = 0; t < hsm->token_count; t++) {
            if ((hsm->keys[k].signers & signers_of[t]) != 0)
                out[t].waiting += waiting_for(hsm, k);
        }
    }
    return hsm->token_count;
}

/* hsm/p11/rv.h's names; the engine does not link what calls tokens. */
static const char *const class_names[HSM_ERROR_CLASSES] = {"ok",       "retry",  "reopen", "login",
                                                           "find-key", "reinit", "fatal",  "pin"};

const char *hsm_error_class_name(uint32_t error_class)
{
    return error_class < HSM_ERROR_CLASSES ? class_names[error_class] : "?";
}

void hsm_signature_was_wrong(struct hsm *hsm, uint32_t token_index)
{
    atomic_fetch_add_explicit(&hsm->wrong[token_index], 1, memory_order_relaxed);
    log_error("ALARM-token-signature-wrong",
              "token=%s it returned a signature that does not verify; it was discarded",
              hsm->supervisor->tokens[token_index].name);
}
