#include "hsm/queue/internal.h"

/* A binary heap of job numbers, earliest deadline at the top; each job knows where it is. Deadlines
 * mostly come in rising order, so a push is nearly free. */

static bool before(const struct core *core, uint32_t a, uint32_t b)
{
    return core->jobs[a].deadline_ns < core->jobs[b].deadline_ns;
}

static void put(struct core *core, uint32_t at, uint32_t job)
{
    core->heap[at] = job;
    core->jobs[job].heap_at = at;
}

static void sift_up(struct core *core, uint32_t at, uint32_t job)
{
    while (at != 0) {
        uint32_t parent = (at - 1) / 2;
        if (!before(core, job, core->heap[parent]))
            break;
        put(core, at, core->heap[parent]);
        at = parent;
    }
    put(core, at, job);
}

static void sift_down(struct core *core, uint32_t at, uint32_t job)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= core->heap_len)
            break;
        if (child + 1 < core->heap_len && before(core, core->heap[child + 1], core->heap[child]))
            child++;
        if (!before(core, core->heap[child], job))
            break;
        put(core, at, core->heap[child]);
        at = child;
    }
    put(core, at, job);
}

void heap_push(struct core *core, uint32_t job)
{
    sift_up(core, core->heap_len++, job);
}

void heap_remove(struct core *core, uint32_t job)
{
    uint32_t at = core->jobs[job].heap_at;
    uint32_t last = core->heap[--core->heap_len];
    if (last == job)
        return;
    if (at != 0 && before(core, last, core->heap[(at - 1) / 2]))
        sift_up(core, at, last);
    else
        sift_down(core, at, last);
}
