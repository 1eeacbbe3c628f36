/* certmill station: hash-password. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "base/secret.h"
#include "crypto/password.h"
#include "tools/commands.h"
#include "tools/files.h"
#include "tools/output.h"

_Static_assert((int)SECRET_MAX >= (int)PASSWORD_MAX, "a password fits");

/* --- without echo --- */

static struct termios terminal; /* as it was */

/* Interrupted while the echo is off: leave the terminal as it was found. */
static void restore_and_die(int signal_number)
{
    tcsetattr(STDIN_FILENO, TCSANOW, &terminal);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static int read_input(struct secret *out)
{
    out->len = 0;
    for (;;) {
        ssize_t got = read(STDIN_FILENO, out->data + out->len, sizeof(out->data) - out->len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return cli_fail("standard input: %s: give the password there", strerror(errno));
        out->len += (size_t)got;
        bool line = out->len > 0 && out->data[out->len - 1] == '\n' && isatty(STDIN_FILENO);
        if (got == 0 || line || out->len == sizeof(out->data))
            return CLI_DONE;
    }
}

static int prompt(const char *text, struct secret *out)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct sigaction before[4], restore = {.sa_handler = restore_and_die};
    for (int i = 0; i < 4; i++)
        sigaction(signals[i], &restore, &before[i]);
    struct termios silent = terminal;
    silent.c_lflag &= ~(tcflag_t)ECHO;
    fputs(text, stderr);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    int status = read_input(out);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &terminal);
    fputc('\n', stderr);
    for (int i = 0; i < 4; i++)
        sigaction(signals[i], &before[i], NULL);
    return status;
}

static int read_password(struct secret *out)
{
    SECRET again = {0};
    if (tcgetattr(STDIN_FILENO, &terminal) != 0) {
        int status = read_input(out);
        secret_drop_line_end(out);
        return status;
    }
    int status = prompt("Password: ", out);
    if (status == CLI_DONE)
        status = prompt("The same again: ", &again);
    if (status != CLI_DONE)
        return status;
    if (!secret_eq(bytes_of(out->data, out->len), bytes_of(again.data, again.len)))
        return cli_fail("the two passwords differ: try again");
    secret_drop_line_end(out);
    return CLI_DONE;
}

/* --- command --- */

static int run_hash_password(struct cli *cli)
{
    SECRET password = {0};
    char hash[PASSWORD_HASH_MAX];
    int status = read_password(&password);
    if (status != CLI_DONE)
        return status;
    if (password.len == 0)
        return cli_fail("the password is empty: give one on standard input");
    if (password.len > PASSWORD_MAX)
        return cli_fail("the password is longer than %d bytes: choose a shorter one", PASSWORD_MAX);
    /* Basic authentication cannot carry controls (RFC 7617 2), and crypt(3) no NUL. */
    for (size_t i = 0; i < password.len; i++)
        if (password.data[i] < 0x20 || password.data[i] == 0x7f)
            return cli_fail("the password holds a control character, which HTTP Basic "
                            "authentication cannot carry: choose another");
    enum err err = password_hash(bytes_of(password.data, password.len), hash);
    if (err != ERR_OK)
        return cli_fail("no hash was made: %s: is libcrypt one with yescrypt?", err_sentence(err));
    json_t *object = json_object();
    json_put_str(object, "password_hash", hash);
    if (cli->json)
        out_json(json_incref(object));
    else
        printf("%s\n", hash);
    json_decref(object);
    return CLI_DONE;
}

static const struct cli_command COMMAND_HASH_PASSWORD = {
    .name = "hash-password",
    .summary = "turn a station's password into what the configuration takes",
    .text = "Reads a password from standard input, or asks for it twice without echo on a "
            "terminal, and prints its salted yescrypt hash for password_hash of a station. A "
            "line end at the end of the input is not part of the password. Neither the "
            "configuration nor the daemon is needed.",
    .examples = " certmill station hash-password\n"
                " head -c 18 /dev/urandom | base64 | tee station-1.secret |\n"
                "     certmill station hash-password",
    .run = run_hash_password,
};

const struct cli_command *const STATION_COMMANDS[] = {&COMMAND_HASH_PASSWORD, NULL};
