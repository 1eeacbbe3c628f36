/* certmill-bench: load generator and oracle. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "bench/bench.h"
#include "build_info.h"

static const char USAGE[] =
    "certmill-bench - load generator and oracle for enrollment servers\n"
    "\n"
    "Usage: certmill-bench est [options]     EST; see certmill-bench est --help\n"
    "       certmill-bench --version | --help\n";

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc >= 2 && strcmp(argv[1], "est") == 0) {
        return bench_est(argc - 1, argv + 1);
    }
    if (argc >= 2 && strcmp(argv[1], "--version") == 0) {
        printf("certmill-bench %s\n", CERTMILL_VERSION);
        return 0;
    }
    bool help = argc >= 2 && strcmp(argv[1], "--help") == 0;
    fputs(USAGE, help ? stdout : stderr);
    return help ? 0 : 2;
}
