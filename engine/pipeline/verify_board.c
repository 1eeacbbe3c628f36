/* Signature verification is pure, so a core's jobs stand on a board from which idle cores may take
 * chunks. The owner pushes at the tail; everybody, the owner too, takes at the head by CAS. */
#include "pipeline/pipeline.h"

_Static_assert(MAILBOX_CAPACITY >= 16 * VERIFY_CHUNK, "a thief's chunk finds room");

bool board_offer(struct verify_board *board, struct lent_verify *job)
{
    uint32_t tail = atomic_load_explicit(&board->tail, memory_order_relaxed);
    uint32_t head = atomic_load_explicit(&board->head, memory_order_acquire);
    if (tail - head >= VERIFY_BOARD_MAX) {
        return false;
    }
    atomic_store_explicit(&board->slot[tail % VERIFY_BOARD_MAX], job, memory_order_relaxed);
    atomic_store_explicit(&board->tail, tail + 1, memory_order_release);
    return true;
}

uint32_t board_size(const struct verify_board *board)
{
    uint32_t head = atomic_load_explicit(&board->head, memory_order_acquire);
    uint32_t tail = atomic_load_explicit(&board->tail, memory_order_acquire);
    uint32_t size = tail - head;
    return size > VERIFY_BOARD_MAX ? 0 : size; /* head moved between the two loads */
}

uint32_t board_take(struct verify_board *board, struct lent_verify *out[], uint32_t max)
{
    uint32_t head = atomic_load_explicit(&board->head, memory_order_acquire);
    for (;;) {
        uint32_t tail = atomic_load_explicit(&board->tail, memory_order_acquire);
        uint32_t count = tail - head;
        if (count == 0 || count > VERIFY_BOARD_MAX) {
            return 0;
        }
        count = count < max ? count : max;
        for (uint32_t i = 0; i < count; i++) {
            out[i] = atomic_load_explicit(&board->slot[(head + i) % VERIFY_BOARD_MAX],
                                          memory_order_relaxed);
        }
        /* The owner reuses a slot only after head has passed it, so what was read is ours when the
         * exchange succeeds, and is thrown away when it does not. */
        if (atomic_compare_exchange_weak_explicit(&board->head, &head, head + count,
                                                  memory_order_acq_rel, memory_order_acquire)) {
            return count;
        }
    }
}

static void verify_jobs(struct lent_verify *jobs[], uint32_t count)
{
    struct verify_job *batch[VERIFY_PER_TURN_MAX];
    for (uint32_t i = 0; i < count; i++) {
        batch[i] = &jobs[i]->job;
    }
    verify_batch(batch, count);
}

void board_result(struct core *core, struct lent_verify *lent)
{
    if (lent->unit) {
        message_checked(core, lent->unit, lent->job.result);
        return;
    }
    struct issuance *issuance =
        (struct issuance *)((uint8_t *)lent - offsetof(struct issuance, verify));
    enum err err = lent->job.result;
    if (err == ERR_OK) {
        pipeline_resume(core, issuance, VERDICT_NEXT);
        return;
    }
    if (issuance->stage == STAGE_CHECK) {
        /* Never released; a token that does this is not trusted with a repeat either. */
        metric_add(core->metrics, METRIC_SIGNATURES_WRONG, 1);
        hsm_signature_was_wrong(core->shared->hsm, issuance->signed_by);
        err = ERR_SIGNATURE_WRONG;
    } else if (err == ERR_BAD_SIGNATURE) {
        err = ERR_BAD_POP;
    }
    issuance->err = err;
    pipeline_resume(core, issuance, VERDICT_REFUSE);
}

bool board_work_own(struct core *core)
{
    struct verify_board *board = core->shared->boards[core->index];
    uint32_t done = 0;
    while (done < VERIFY_PER_TURN_MAX) {
        struct lent_verify *jobs[VERIFY_CHUNK];
        uint32_t count = board_take(board, jobs, VERIFY_CHUNK);
        if (count == 0) {
            break;
        }
        verify_jobs(jobs, count);
        for (uint32_t i = 0; i < count; i++) {
            board_result(core, jobs[i]);
        }
        done += count;
    }
    metric_add(core->metrics, METRIC_VERIFY_LOCAL, done);
    return done > 0;
}

bool board_work_other(struct core *core)
{
    struct shared *shared = core->shared;
    for (uint32_t i = 1; i < shared->core_count; i++) {
        uint32_t victim = (core->index + i) % shared->core_count;
        struct lent_verify *jobs[VERIFY_CHUNK];
        uint32_t count = board_take(shared->boards[victim], jobs, VERIFY_CHUNK);
        if (count == 0) {
            continue;
        }
        verify_jobs(jobs, count);
        for (uint32_t k = 0; k < count; k++) {
            struct message message = {.kind = MSG_VERIFIED, .ptr = jobs[k]};
            while (!mailbox_post(shared->mailboxes, core->index, victim, &message)) {
                mailbox_kick(shared->mailboxes, victim); /* it empties its mailbox every turn */
            }
        }
        mailbox_kick(shared->mailboxes, victim);
        metric_add(core->metrics, METRIC_VERIFY_LENT, count);
        return true;
    }
    return false;
}

bool board_any_work(const struct core *core)
{
    for (uint32_t i = 0; i < core->shared->core_count; i++) {
        if (board_size(core->shared->boards[i]) > 0) {
            return true;
        }
    }
    return false;
}

void board_lend(struct core *core)
{
    struct shared *shared = core->shared;
    uint32_t offered = board_size(shared->boards[core->index]);
    for (uint32_t i = 1; i < shared->core_count && offered >= VERIFY_LEND_MIN; i++) {
        uint32_t other = (core->index + i) % shared->core_count;
        if (wake_is_sleeping(&shared->wakes[other])) {
            wake_signal(&shared->wakes[other]);
            offered -= offered < VERIFY_CHUNK ? offered : VERIFY_CHUNK;
        }
    }
}
