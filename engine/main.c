/* certmilld: reads the configuration, starts the appliance, watches over it, drains on SIGTERM. */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "admin/admin.h"
#include "base/log.h"
#include "build_info.h"
#include "pipeline/operate.h"

enum { TEND_MS = 50 };

static const char USAGE[] =
    "certmilld - factory provisioning appliance: EST enrollment with keys in an HSM\n"
    "\n"
    "Usage: certmilld --config FILE [--check] [--log-level LEVEL]\n"
    "       certmilld --version | --help\n"
    "\n"
    "  -c, --config FILE      the YAML configuration\n"
    "      --check            check the configuration and the files it names, then exit:\n"
    "                         0 when it is good, 1 with file, line and what was expected\n"
    "      --log-level LEVEL  error, warn, info or debug; wins over the configuration\n"
    "  -V, --version          version, build and the wolfSSL this binary holds\n"
    "  -h, --help             this text\n"
    "\n"
    "Signals:\n"
    "  SIGHUP           reads configuration, CA keys and server certificate again; requests in\n"
    "                   flight finish under the old ones; a bad file changes nothing\n"
    "  SIGTERM, SIGINT  stop taking connections, answer what is in flight, commit, exit 0\n"
    "\n"
    "Log lines go to standard error. Exit status: 0 clean stop, 1 configuration or start failed,\n"
    "2 wrong usage.\n";

struct options {
    const char *config;
    const char *log_level;
    bool check;
};

static void print_version(void)
{
    printf("certmilld %s (%s, %s%s%s)\nwolfSSL:\n%s\n", CERTMILL_VERSION, CERTMILL_BUILD_TYPE,
           CERTMILL_COMPILER, CERTMILL_SANITIZER[0] ? ", sanitizer " : "", CERTMILL_SANITIZER,
           CERTMILL_WOLFSSL_INFO);
}

static void parse_options(int argc, char **argv, struct options *options)
{
    static const struct option longs[] = {{"config", required_argument, NULL, 'c'},
                                          {"check", no_argument, NULL, 'k'},
                                          {"log-level", required_argument, NULL, 'l'},
                                          {"version", no_argument, NULL, 'V'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    int c;
    while ((c = getopt_long(argc, argv, "c:Vh", longs, NULL)) != -1) {
        switch (c) {
        case 'c':
            options->config = optarg;
            break;
        case 'k':
            options->check = true;
            break;
        case 'l':
            options->log_level = optarg;
            break;
        case 'V':
            print_version();
            exit(0);
        case 'h':
            fputs(USAGE, stdout);
            exit(0);
        default:
            fputs("Try certmilld --help.\n", stderr);
            exit(2);
        }
    }
    if (!options->config || optind != argc) {
        fputs("certmilld: --config FILE is needed and nothing else. Try certmilld --help.\n",
              stderr);
        exit(2);
    }
}

static int open_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file-size limit is an error to answer, not a reason to die */
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static_assert((int)ADMIN_DETAIL_MAX >= (int)CONFIG_ERROR_MAX, "a reload's error fits");

/* By SIGHUP, or asked for over the admin socket. */
static bool reload(void *ctx, uint32_t *out_generation, char out_detail[ADMIN_DETAIL_MAX])
{
    struct appliance *appliance = ctx;
    bool done = appliance_reload(appliance, out_detail) == ERR_OK;
    *out_generation = appliance_snapshot(appliance)->generation;
    if (done) {
        log_info("reloaded", "generation=%u", *out_generation);
    } else {
        log_error("reload-refused", "the running configuration stays: %s", out_detail);
    }
    return done;
}

/* Until a signal says stop. */
static void watch(struct appliance *appliance, struct admin *admin, int signal_fd)
{
    for (;;) {
        struct pollfd fds[ADMIN_POLLFDS_MAX + 2];
        fds[0] = (struct pollfd){.fd = signal_fd, .events = POLLIN};
        fds[1] = (struct pollfd){.fd = appliance_poll_fd(appliance), .events = POLLIN};
        uint32_t count = 2 + admin_pollfds(admin, fds + 2);
        if (poll(fds, count, TEND_MS) < 0 && errno != EINTR) {
            log_error("poll", "%s", strerror(errno));
        }
        struct signalfd_siginfo info;
        while (read(signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
            if (info.ssi_signo != SIGHUP) {
                log_info("stopping", "signal=%u", info.ssi_signo);
                return;
            }
            uint32_t generation;
            char detail[ADMIN_DETAIL_MAX];
            (void)reload(appliance, &generation, detail);
        }
        appliance_tend(appliance);
        admin_tend(admin);
        log_drain();
    }
}

static void log_started(const struct config *config, const struct shared *shared)
{
    for (uint32_t i = 0; i < config->listeners_count; i++) {
        log_info("listening", "address=%s port=%u tls=%s", config->listeners[i].address,
                 config->listeners[i].port, config->listeners[i].tls ? "yes" : "no");
    }
    log_info("ready", "version=%s cores=%u lines=%u", CERTMILL_VERSION, shared->core_count,
             config->lines_count);
}

static uint16_t answer_operator(void *ctx, const struct admin_request *request, struct writer *out)
{
    struct operate_request asked = {request->post, request->path, request->query, request->who};
    return operate(ctx, &asked, out);
}

static void write_metrics(void *ctx, struct writer *out)
{
    operate_metrics(ctx, out);
}

static int serve(struct config *config, int signal_fd)
{
    char detail[CONFIG_ERROR_MAX] = "";
    struct appliance *appliance = NULL;
    if (appliance_start(config, &appliance, detail) != ERR_OK) {
        log_drain();
        log_error("start-failed", "%s", detail);
        return 1;
    }
    const struct shared *shared = appliance_shared(appliance);
    const struct config *running = appliance_snapshot(appliance)->config;
    static bool draining;
    struct admin_view view = {
        .core_count = shared->core_count,
        .metrics = shared->metrics,
        .store = shared->store,
        .hsm = shared->hsm,
        .version = CERTMILL_VERSION,
        .started_ns = appliance_started_ns(appliance),
        .draining = &draining,
        .reload = reload,
        .reload_ctx = appliance,
        .operate = {appliance, answer_operator, write_metrics},
    };
    char *socket_path = running->admin.socket ? config_path(running, running->admin.socket) : NULL;
    struct admin_config admin_config = {socket_path, running->admin.address, running->admin.port};
    struct admin *admin = NULL;
    int status = 0;
    if (admin_start(&admin_config, &view, &admin, detail) != ERR_OK) {
        log_error("start-failed", "admin: %s", detail);
        status = 1;
    } else {
        log_started(running, shared);
        watch(appliance, admin, signal_fd);
        draining = true;
        admin_stop(admin);
    }
    free(socket_path);
    appliance_stop(appliance);
    log_info("stopped", "status=%d", status);
    log_drain();
    return status;
}

int main(int argc, char **argv)
{
    struct options options = {0};
    parse_options(argc, argv, &options);
    log_set_program("certmilld");
    char detail[CONFIG_ERROR_MAX] = "";
    struct config *config = NULL;
    if (config_load(options.config, &config, detail) != ERR_OK) {
        fprintf(stderr, "certmilld: %s\n", detail);
        return 1;
    }
    if (options.check) {
        if (tls_global_init() != ERR_OK || snapshot_check(config, detail) != ERR_OK) {
            fprintf(stderr, "certmilld: %s: %s\n", options.config, detail);
            return 1;
        }
        printf("%s: good\n", options.config);
        return 0;
    }
    enum log_level level = LOG_INFO;
    const char *level_name = options.log_level ? options.log_level : config->log.level;
    if (level_name && !log_level_from_name(level_name, &level)) {
        fprintf(stderr, "certmilld: log level '%s': expected error, warn, info or debug\n",
                level_name);
        config_free(config);
        return 2;
    }
    log_set_level(level);
    /* The server key lives here: no core dumps, no ptrace by the same user. */
    prctl(PR_SET_DUMPABLE, 0);
    int signal_fd = open_signals();
    if (signal_fd < 0) {
        perror("certmilld: signalfd");
        return 1;
    }
    return serve(config, signal_fd);
}
