/* The loop: batches on connections, what comes back, what goes again, and when it ends. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/secret.h"
#include "tools/bulk.h"

enum {
    PAUSE_MS = 500, /* before the second attempt; doubled for each that follows */
    PAUSE_MAX_MS = 30000,
    PLAIN_PROGRESS_S = 10,
    LEAVE_S = 30, /* after a signal, for what is in flight */
};

struct channel {
    struct http_conn conn;
    struct bulk_batch batch;
    bool busy;
};

struct run {
    const struct bulk_options *options;
    struct bulk_messages *messages;
    struct bulk_input *input;
    struct bulk_results *results;
    struct bulk_totals *totals;
    struct channel *channels;
    struct bulk_list again; /* in the order in which they are due, more or less */
    uint32_t busy_count;
    bool input_ended;
    bool stopping; /* sends nothing new */
    int status;
    uint64_t start_ns, leave_ns, last_answer_ns, shown_ns;
    double first_done; /* of the input when the first batch went */
    bool is_tty;
};

static volatile sig_atomic_t signal_count;

static void on_signal(int number)
{
    (void)number;
    signal_count++;
    if (signal_count > 1)
        _exit(130);
}

/* --- what becomes of items --- */

static void finish_item(struct run *run, struct bulk_item *item, enum bulk_state state)
{
    if (bulk_results_put(run->results, item, state) != CLI_DONE) {
        run->status = CLI_FAILED;
        run->stopping = true;
    }
    run->totals->issued += state == BULK_ISSUED;
    run->totals->refused += state == BULK_REFUSED;
    run->totals->unanswered += state == BULK_UNANSWERED;
    bulk_item_free(item);
}

/* Twice as long each time, and a quarter more or less, so that batches do not come back together.
 */
static uint64_t pause_ns(uint32_t attempts, uint32_t retry_after_s)
{
    uint64_t ms = PAUSE_MS;
    uint8_t jitter;
    for (uint32_t i = 1; i < attempts && ms < PAUSE_MAX_MS; i++)
        ms *= 2;
    ms = ms > PAUSE_MAX_MS ? PAUSE_MAX_MS : ms;
    ms = ms < retry_after_s * 1000ull ? retry_after_s * 1000ull : ms;
    random_bytes(&jitter, 1);
    return (ms * 3 / 4 + ms * jitter / 512) * NS_PER_MS;
}

static void put_again(struct run *run, struct bulk_item *item, uint32_t retry_after_s)
{
    free(item->cert);
    item->cert = NULL;
    item->cert_len = 0;
    if (item->attempts >= run->options->attempts) {
        finish_item(run, item, BULK_UNANSWERED);
        return;
    }
    item->not_before_ns = clock_mono_ns() + pause_ns(item->attempts, retry_after_s);
    run->totals->retries++;
    bulk_list_put(&run->again, item);
}

static void settle_item(struct run *run, struct bulk_item *item)
{
    if (item->cert)
        finish_item(run, item, BULK_ISSUED);
    else if (bulk_reason_is_passing(&item->reason))
        put_again(run, item, 0);
    else
        finish_item(run, item, BULK_REFUSED);
}

static void settle_batch(struct run *run, struct channel *channel)
{
    for (uint32_t i = 0; i < channel->batch.count; i++)
        settle_item(run, channel->batch.items[i]);
    channel->batch.count = 0;
}

/* Nothing is known of them: all go again, for the reason given. */
static void send_back(struct run *run, struct channel *channel, const struct bulk_reason *reason,
                      uint32_t retry_after_s, bool halve)
{
    uint32_t half = channel->batch.count / 2;
    for (uint32_t i = 0; i < channel->batch.count; i++) {
        struct bulk_item *item = channel->batch.items[i];
        item->reason = *reason;
        if (halve) {
            item->batch_max = half > 0 ? half : 1;
            item->attempts = 0;
        }
        put_again(run, item, retry_after_s);
    }
    channel->batch.count = 0;
}

static void stop(struct run *run, const struct bulk_reason *reason)
{
    if (!run->stopping)
        run->totals->stop = *reason;
    run->stopping = true;
}

static void leave_channel(struct run *run, struct channel *channel)
{
    channel->busy = false;
    run->busy_count--;
}

/* --- batches --- */

/* Those that are due, in the order in which they came back. */
static void fill_again(struct run *run, struct bulk_batch *batch, uint32_t max)
{
    uint64_t now_ns = clock_mono_ns();
    while (run->again.first && batch->count < max && run->again.first->not_before_ns <= now_ns &&
           batch->count < run->again.first->batch_max) {
        struct bulk_item *item = bulk_list_take(&run->again);
        max = item->batch_max < max ? item->batch_max : max;
        batch->items[batch->count++] = item;
    }
}

static bool is_wanted(struct run *run, struct bulk_item *item)
{
    enum bulk_state state = bulk_results_find(run->results, item->digest);
    bool wanted = state == BULK_NEW || state == BULK_UNANSWERED ||
                  (state == BULK_REFUSED && run->options->retry_refused);
    run->totals->known += state == BULK_ISSUED || (state == BULK_REFUSED && !wanted);
    run->totals->repeated += state == BULK_IN_HAND;
    return wanted;
}

static void fill_new(struct run *run, struct bulk_batch *batch, uint32_t max)
{
    while (!run->input_ended && batch->count < max && !run->stopping && signal_count == 0) {
        struct bulk_item *item;
        if (bulk_input_next(run->input, &item) != CLI_DONE) {
            run->status = CLI_FAILED;
            run->stopping = run->input_ended = true;
        } else if (!item) {
            run->input_ended = true;
        } else {
            run->totals->read++;
            if (!is_wanted(run, item)) {
                bulk_item_free(item);
            } else if (item->reason.fail[0]) {
                finish_item(run, item, BULK_REFUSED);
            } else {
                bulk_results_mark(run->results, item->digest, BULK_IN_HAND);
                batch->items[batch->count++] = item;
            }
        }
    }
}

static void start_batch(struct run *run, struct channel *channel)
{
    struct bulk_batch *batch = &channel->batch;
    struct bulk_list refused;
    struct bulk_item *item;
    batch->count = 0;
    fill_again(run, batch, run->options->batch);
    if (batch->count == 0)
        fill_new(run, batch, run->options->batch);
    if (batch->count == 0)
        return;
    bulk_list_start(&refused);
    if (bulk_batch_build(run->messages, batch, &refused) != CLI_DONE) {
        run->status = CLI_FAILED;
        run->stopping = true;
        send_back(run, channel, &(struct bulk_reason){0}, 0, false);
    }
    while ((item = bulk_list_take(&refused)) != NULL)
        finish_item(run, item, BULK_REFUSED);
    if (batch->count == 0)
        return;
    for (uint32_t i = 0; i < batch->count; i++)
        batch->items[i]->attempts++;
    if (run->first_done < 0)
        run->first_done = bulk_input_done(run->input);
    channel->busy = true;
    run->busy_count++;
    http_send(&channel->conn, bytes_of(batch->request, batch->request_len));
}

/* --- answers --- */

static void take_verdict(struct run *run, struct channel *channel, enum bulk_verdict verdict,
                         const struct bulk_reason *reason)
{
    switch (verdict) {
    case BULK_MORE:
        http_done(&channel->conn);
        http_send(&channel->conn, bytes_of(channel->batch.request, channel->batch.request_len));
        return;
    case BULK_DONE:
        settle_batch(run, channel);
        break;
    case BULK_STOP:
        stop(run, reason);
        send_back(run, channel, reason, 0, false);
        break;
    case BULK_AGAIN:
    case BULK_SPLIT:
        send_back(run, channel, reason, 0, verdict == BULK_SPLIT);
        break;
    }
    http_done(&channel->conn);
    leave_channel(run, channel);
}

/* Not CMP's own word, but that of HTTP. */
static void take_status(struct run *run, struct channel *channel)
{
    struct http_conn *conn = &channel->conn;
    struct bulk_reason reason = {.fail = "http"};
    char text[160];
    out_clean(bytes_of(conn->body.ptr, conn->body.len < 120 ? conn->body.len : 120), text,
              sizeof(text));
    snprintf(reason.text, sizeof(reason.text), "HTTP status %d: %s", conn->status, text);
    bool passing = conn->status >= 500 || conn->status == 429 || conn->status == 408;
    bool too_large = conn->status == 413 && channel->batch.count > 1;
    if (!passing && !too_large)
        stop(run, &reason);
    send_back(run, channel, &reason, conn->retry_after_s, too_large);
    http_done(conn);
    leave_channel(run, channel);
}

static void take_break(struct run *run, struct channel *channel)
{
    struct bulk_reason reason = {.fail = "http"};
    snprintf(reason.text, sizeof(reason.text), "%s", channel->conn.problem);
    /* no server, or one that is not who it says: the items had no part in it */
    for (uint32_t i = 0; i < channel->batch.count; i++)
        if (channel->batch.items[i]->attempts > 1)
            channel->batch.items[i]->attempts--;
    if (strncmp(reason.text, "TLS: ", 5) == 0)
        stop(run, &reason);
    uint64_t quiet_ns = clock_mono_ns() - run->last_answer_ns;
    if (quiet_ns > run->options->give_up_s * NS_PER_S)
        stop(run, &reason);
    send_back(run, channel, &reason, 0, false);
    channel->conn.state = HTTP_IDLE;
    leave_channel(run, channel);
}

static void serve(struct run *run, struct channel *channel)
{
    struct bulk_reason reason;
    enum http_state state = http_step(&channel->conn);
    if (state == HTTP_BROKEN) {
        take_break(run, channel);
    } else if (state == HTTP_ANSWERED) {
        run->last_answer_ns = clock_mono_ns();
        if (channel->conn.status != 200) {
            take_status(run, channel);
            return;
        }
        enum bulk_verdict verdict =
            bulk_batch_answer(run->messages, &channel->batch, channel->conn.body, &reason);
        take_verdict(run, channel, verdict, &reason);
    }
}

/* --- progress --- */

static void show_progress(struct run *run, bool last)
{
    uint64_t now_ns = clock_mono_ns();
    const struct bulk_totals *totals = run->totals;
    uint64_t every_ns = run->is_tty ? NS_PER_S / 2 : PLAIN_PROGRESS_S * NS_PER_S;
    if (!last && now_ns - run->shown_ns < every_ns)
        return;
    run->shown_ns = now_ns;
    double seconds = (double)(now_ns - run->start_ns) / 1e9;
    double rate = seconds > 0 ? (double)totals->issued / seconds : 0;
    double done = bulk_input_done(run->input);
    char eta[48] = "";
    if (run->first_done >= 0 && done > run->first_done && done < 1)
        snprintf(eta, sizeof(eta), ", %.0f s left",
                 seconds * (1 - done) / (done - run->first_done));
    fprintf(stderr, "%s%llu issued, %.0f/s, %llu failed, %llu to go again%s%s",
            run->is_tty ? "\r" : "", (unsigned long long)totals->issued, rate,
            (unsigned long long)(totals->refused + totals->unanswered),
            (unsigned long long)run->again.count, eta, run->is_tty ? "\033[K" : "\n");
    if (last && run->is_tty)
        fputc('\n', stderr);
}

/* --- the loop --- */

static void look_at_signals(struct run *run)
{
    if (signal_count == 0 || run->totals->interrupted)
        return;
    run->totals->interrupted = true;
    run->stopping = true;
    run->leave_ns = clock_mono_ns() + LEAVE_S * NS_PER_S;
    fprintf(stderr, "%scertmill: stopping when what is in flight is answered; once more: at once\n",
            run->is_tty ? "\n" : "");
}

static bool is_over(const struct run *run)
{
    if (run->busy_count > 0)
        return run->leave_ns != 0 && clock_mono_ns() > run->leave_ns;
    return run->stopping || (run->input_ended && run->again.count == 0);
}

static int wait_time_ms(const struct run *run)
{
    return run->again.count > 0 ? 20 : 200;
}

static void turn(struct run *run)
{
    struct pollfd fds[BULK_CONNECTIONS_MAX];
    uint32_t count = run->options->connections;
    for (uint32_t i = 0; i < count; i++) {
        struct channel *channel = &run->channels[i];
        if (!channel->busy && !run->stopping)
            start_batch(run, channel);
        if (channel->busy && channel->conn.state == HTTP_BROKEN)
            take_break(run, channel); /* it could not even be begun */
        fds[i] = http_pollfd(&channel->conn);
        fds[i].fd = channel->busy ? fds[i].fd : -1;
    }
    if (poll(fds, count, wait_time_ms(run)) < 0 && errno != EINTR) {
        run->status = cli_fail("poll: %s", strerror(errno));
        run->stopping = true;
    }
    uint64_t now_ns = clock_mono_ns();
    for (uint32_t i = 0; i < count; i++) {
        struct channel *channel = &run->channels[i];
        bool late = channel->busy && channel->conn.deadline_ns < now_ns;
        if (channel->busy && (fds[i].revents != 0 || late))
            serve(run, channel);
    }
    if (bulk_results_flush(run->results) != CLI_DONE) {
        run->status = CLI_FAILED;
        run->stopping = true;
    }
}

/* What is left when a run ends early stays as it was: no line in the journal, or the last one. */
static void drop_rest(struct run *run)
{
    struct bulk_item *item;
    for (uint32_t i = 0; i < run->options->connections; i++) {
        struct channel *channel = &run->channels[i];
        for (uint32_t k = 0; k < channel->batch.count; k++)
            bulk_list_put(&run->again, channel->batch.items[k]);
        http_conn_free(&channel->conn);
        free(channel->batch.request);
    }
    while ((item = bulk_list_take(&run->again)) != NULL) {
        if (item->reason.fail[0])
            finish_item(run, item, BULK_UNANSWERED);
        else
            bulk_item_free(item);
    }
}

int bulk_run(const struct bulk_options *options, struct bulk_messages *messages,
             struct bulk_input *input, struct bulk_results *results, struct bulk_totals *out)
{
    *out = (struct bulk_totals){0};
    struct run run = {.options = options,
                      .messages = messages,
                      .input = input,
                      .results = results,
                      .totals = out,
                      .start_ns = clock_mono_ns(),
                      .first_done = -1,
                      .is_tty = isatty(STDERR_FILENO)};
    struct sigaction action = {.sa_handler = on_signal};
    run.last_answer_ns = run.shown_ns = run.start_ns;
    run.channels = calloc(options->connections, sizeof(*run.channels));
    if (!run.channels)
        abort();
    for (uint32_t i = 0; i < options->connections; i++)
        http_conn_init(&run.channels[i].conn, messages->target);
    bulk_list_start(&run.again);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    while (look_at_signals(&run), !is_over(&run)) {
        turn(&run);
        show_progress(&run, false);
    }
    drop_rest(&run);
    out->seconds = (double)(clock_mono_ns() - run.start_ns) / 1e9;
    show_progress(&run, true);
    free(run.channels);
    return run.status;
}
