/* login.c: whose turn it is to log in.
 *
 * A signer asks in `login_wanted` and waits for `login_granted`. One of a token's signers has the
 * turn at a time, from its request until it is done or dead, so a PIN that is wrong is tried once,
 * also when it was changed while several signers were logged in.
 */
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hsm/queue/supervise.h"

/* Odd while it wants to log in: a number of its own for each login. */
static uint32_t ticket_of(struct signer *signer)
{
    if (signer->pid == 0 || (signer->phase != PHASE_STARTING && signer->phase != PHASE_UP))
        return 0;
    return atomic_load_explicit(&shm_of(signer)->login_wanted, memory_order_acquire);
}

static bool turn_is_over(struct hsm *hsm, uint32_t token)
{
    const struct login_turn *turn = &hsm->supervisor->login_turn[token];
    if (turn->ticket == 0)
        return true;
    struct signer *holder = &hsm->signers[turn->signer];
    return holder->epoch != turn->epoch || ticket_of(holder) != turn->ticket;
}

static void grant(struct hsm *hsm, struct signer *signer, uint32_t ticket)
{
    struct shm_signer *shm = shm_of(signer);
    hsm->supervisor->login_turn[signer->token_index] =
        (struct login_turn){.signer = signer->index, .epoch = signer->epoch, .ticket = ticket};
    atomic_store_explicit(&shm->login_granted, ticket, memory_order_release);
    syscall(SYS_futex, &shm->login_granted, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void supervise_logins(struct hsm *hsm)
{
    struct supervisor *sup = hsm->supervisor;
    for (uint32_t i = 0; i < hsm->signer_count; i++) {
        struct signer *signer = &hsm->signers[i];
        uint32_t token = signer->token_index, ticket = ticket_of(signer);
        if (ticket % 2 == 0)
            continue;
        if (sup->pin_refused[token])
            kill_signer(hsm, signer, "it wants to log in with a PIN that was refused");
        else if (turn_is_over(hsm, token))
            grant(hsm, signer, ticket);
    }
}
