#include "hsm/sim/board.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

/* Locks of bytes of the file: 0 for whoever changes who is there, 1 + n held by process n as long
 * as it lives. Open file description locks: the kernel lets go of them when a process dies, and
 * other opens of the file in the same process do no harm. */
enum { BYTE_CHANGE = 0, BYTE_PROCESS = 1 };

static bool lock_byte(int fd, int command, short type, uint32_t byte)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    int rc;
    do {
        rc = fcntl(fd, command, &lock);
    } while (rc != 0 && errno == EINTR);
    return rc == 0;
}

static bool is_alive(int fd, uint32_t process)
{
    struct flock lock = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = BYTE_PROCESS + process, .l_len = 1};
    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static void write_text(char *text)
{
    size_t len = (size_t)snprintf(text, BOARD_TEXT_LEN, "certmill-hsmsim status 1\n");
#define X(name)                                                                                    \
    len += (size_t)snprintf(text + len, BOARD_TEXT_LEN - len, "%s %zu\n", #name,                   \
                            offsetof(struct board, word) + 8 * BOARD_##name);
    BOARD_WORDS(X)
#undef X
}

/* The virtual times of another boot mean nothing now. */
static uint64_t boot_identity(void)
{
    char text[64] = "";
    uint64_t hash = 0;
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (file) {
        size_t len = fread(text, 1, sizeof text - 1, file);
        fclose(file);
        for (size_t i = 0; i < len; i++)
            hash = dist_random(hash, (uint64_t)text[i]);
    }
    return hash;
}

static void bank_clear(struct board_bank *bank)
{
    for (int i = 0; i < FAULTS_MAX; i++) {
        atomic_store(&bank->seen[i], 0);
        atomic_store(&bank->fired[i], 0);
    }
}

static void run_begin(struct board_place *place)
{
    struct board *board = place->board;
    for (int i = 0; i < ENGINES_MAX; i++)
        atomic_store(&board->engine_free_ns[i], 0);
    for (int i = 0; i < BOARD_PROCESSES_MAX; i++)
        atomic_store(&board->process_sessions[i], 0);
    bank_clear(&board->bank[BANK_DESCRIPTION]);
    board_set(place, BOARD_sessions_open, 0);
    board_set(place, BOARD_rate_next_ns, 0);
    board_set(place, BOARD_run_start_ns, clock_mono_ns());
    board_add(place, BOARD_runs);
}

static bool map(struct board_place *place)
{
    struct stat file;
    if (fstat(place->fd, &file) != 0)
        return false;
    if (file.st_size != (off_t)sizeof(struct board) &&
        (ftruncate(place->fd, 0) != 0 || ftruncate(place->fd, sizeof(struct board)) != 0))
        return false;
    void *mapped =
        mmap(NULL, sizeof(struct board), PROT_READ | PROT_WRITE, MAP_SHARED, place->fd, 0);
    if (mapped == MAP_FAILED)
        return false;
    place->board = mapped;
    return true;
}

/* A file of another layout, or none yet, is begun anew; the text is written last. */
static void check_layout(struct board *board)
{
    char text[BOARD_TEXT_LEN] = "";
    write_text(text);
    if (memcmp(board->text, text, sizeof text) == 0)
        return;
    memset(board, 0, sizeof *board);
    memcpy(board->text, text, sizeof text);
}

static enum err take_place(struct board_place *place)
{
    bool alone = true, found = false;
    for (uint32_t i = 0; i < BOARD_PROCESSES_MAX; i++) {
        if (is_alive(place->fd, i))
            alone = false;
        else if (!found && lock_byte(place->fd, F_OFD_SETLK, F_WRLCK, BYTE_PROCESS + i)) {
            place->process = i;
            found = true;
        }
    }
    if (!found)
        return ERR_FULL;
    uint64_t boot = boot_identity();
    if (alone || board_get(place, BOARD_boot) != boot)
        run_begin(place);
    else /* the dead one whose place this was may have left sessions */
        atomic_fetch_sub(&place->board->word[BOARD_sessions_open],
                         atomic_exchange(&place->board->process_sessions[place->process], 0));
    board_set(place, BOARD_boot, boot);
    return ERR_OK;
}

enum err board_attach(const char *path, struct board_place *out)
{
    struct board_place place = {.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
    if (place.fd < 0)
        return ERR_IO;
    enum err err = ERR_IO;
    if (lock_byte(place.fd, F_OFD_SETLKW, F_WRLCK, BYTE_CHANGE) && map(&place)) {
        check_layout(place.board);
        err = take_place(&place);
        lock_byte(place.fd, F_OFD_SETLK, F_UNLCK, BYTE_CHANGE);
    }
    if (err) {
        board_detach(&place);
        return err;
    }
    *out = place;
    return ERR_OK;
}

void board_detach(struct board_place *place)
{
    int saved = errno;
    if (place->board)
        munmap(place->board, sizeof *place->board);
    if (place->fd >= 0)
        close(place->fd);
    *place = (struct board_place){.fd = -1};
    errno = saved;
}

static void reap(const struct board_place *place)
{
    struct board *board = place->board;
    if (!lock_byte(place->fd, F_OFD_SETLKW, F_WRLCK, BYTE_CHANGE))
        return;
    for (uint32_t i = 0; i < BOARD_PROCESSES_MAX; i++) {
        if (i == place->process || atomic_load(&board->process_sessions[i]) == 0 ||
            is_alive(place->fd, i))
            continue;
        uint64_t lost = atomic_exchange(&board->process_sessions[i], 0);
        atomic_fetch_sub(&board->word[BOARD_sessions_open], lost);
    }
    lock_byte(place->fd, F_OFD_SETLK, F_UNLCK, BYTE_CHANGE);
}

static bool try_take(struct board *board, uint64_t max)
{
    _Atomic uint64_t *open_count = &board->word[BOARD_sessions_open];
    uint64_t now = atomic_load(open_count);
    while (now < max) {
        if (atomic_compare_exchange_weak(open_count, &now, now + 1))
            return true;
    }
    return false;
}

bool board_session_take(const struct board_place *place, uint64_t max)
{
    bool taken = try_take(place->board, max);
    if (!taken) {
        reap(place);
        taken = try_take(place->board, max);
    }
    if (taken)
        atomic_fetch_add(&place->board->process_sessions[place->process], 1);
    return taken;
}

void board_session_give(const struct board_place *place)
{
    atomic_fetch_sub(&place->board->process_sessions[place->process], 1);
    atomic_fetch_sub(&place->board->word[BOARD_sessions_open], 1);
}

void board_bank_use(struct board_bank *bank, uint64_t set)
{
    uint64_t before = atomic_exchange(&bank->set, set);
    if (before != set)
        bank_clear(bank);
}
