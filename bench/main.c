/* certmill-bench: load generator and oracle. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "bench/bench.h"
#include "build_info.h"

static const char USAGE[] =
    "certmill-bench - load generator and oracle for enrollment servers\n"
    "\n"
    "Usage: certmill-bench est [options]       load an EST server\n"
    "       certmill-bench cmp [options]       load a CMP server\n"
    "       certmill-bench compare [options]   loads in turn, and the ratios of their rates\n"
    "       certmill-bench make-kur [options]  devices' key updates, for certmill bulk\n"
    "       certmill-bench COMMAND --help\n"
    "       certmill-bench --version | --help\n";

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} COMMANDS[] = {{"est", bench_est},
                {"cmp", bench_cmp},
                {"compare", bench_compare},
                {"make-kur", bench_make_kur}};

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; argc >= 2 && i < sizeof(COMMANDS) / sizeof(COMMANDS[0]); i++) {
        if (strcmp(argv[1], COMMANDS[i].name) == 0) {
            return COMMANDS[i].run(argc - 1, argv + 1);
        }
    }
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        printf("certmill-bench %s\n", CERTMILL_VERSION);
        return 0;
    }
    bool help = argc >= 2 && strcmp(argv[1], "--help") == 0;
    fputs(USAGE, help ? stdout : stderr);
    return help ? 0 : 2;
}
