/* Load generator: closed loop, one thread, edge-triggered epoll(7), against 127.0.0.1.
 *
 *   load --port P --connections N (--seconds S | --requests R) (--echo BYTES | --http PATH | --connect-abort)
 *        [--pipeline N] [--warmup S]
 *
 * Every connection has one request under way, or N echoes; an answer is checked, then the next one is sent. At the end
 * nothing is cut off: requests under way are waited for and counted, so all that the server did is in the figures.
 * Prints one line of JSON: requests, seconds, p50_us, p99_us. Whatever is not as it should be ends the program. */
#define _GNU_SOURCE
#include "client.h"
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 512, HEAD = 8192, STALL_MS = 20000, PIPELINE = 64, PERIOD = 251 };
/* Of long echoes every CHECKED-th is compared, of the others the length is counted: a client that looks at all of them
 * has more to do than the server, and would measure itself. */
enum { LONG = 16384, CHECKED = 8 };

struct connection {
    int fd;
    bool idle;             /* no request under way */
    long number;           /* of the connection */
    size_t to_send, sent;
    size_t expected, got;  /* bytes of the answer; expected is 0 until an HTTP head told it */
    int64_t began;         /* ns */
    long asked, answered;  /* ECHO only: requests; sent, to_send and got are counted from the first one on */
    int64_t begans[PIPELINE];
    char head[HEAD];       /* HTTP only */
};

static enum { NONE, ECHO, HTTP, CONNECT_ABORT } mode;
static int poller;
static struct sockaddr_in address;
static struct connection *connections;
static long count, limit;            /* limit: requests in all, 0 where time is the limit */
static long started;
static long pipeline = 1;
static size_t size;                  /* of an echo */
static char *out;                    /* what is sent: of an echo, see stream() */
static int64_t deadline;             /* ns, 0 where requests are the limit */
static char scratch[1 << 18];

static void open_connection(struct connection *c)
{
    check(c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), "socket");
    check(setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)), "TCP_NODELAY");
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        check(-1, "connect");
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};
    check(epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event), "epoll_ctl");
}

static void begin(struct connection *c, int64_t time)
{
    c->began = time;
    c->idle = limit ? started == limit : c->began >= deadline;
    if (c->idle)
        return;
    started++;
    if (mode == ECHO) {
        c->begans[c->asked++ % pipeline] = c->began;
        c->to_send += size;
        return;
    }
    c->sent = c->got = 0;
    if (mode == HTTP)
        c->expected = 0;
    if (mode == CONNECT_ABORT)
        open_connection(c);
}

static void finish(struct connection *c)
{
    int64_t time = now();
    record(c->began, time);
    begin(c, time);
}

/* What a connection sends from some byte on, as much as can be under way. All are windows of one pattern, which stays
 * in the cache. The next connection's is another one, and so is the next echo's: an answer to the wrong one of them is
 * found out. */
static const char *stream(const struct connection *c, size_t at)
{
    return out + (mode == ECHO ? (c->number + at) % PERIOD : at);
}

static void push(struct connection *c)
{
    while (c->sent < c->to_send) {
        ssize_t n = send(c->fd, stream(c, c->sent), c->to_send - c->sent, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) /* its edge will come */
            return;
        check(n, "send");
        c->sent += n;
    }
}

static void echoed(struct connection *c, size_t n, bool whole)
{
    int64_t time = now();
    if (c->got + n > c->sent || (whole && memcmp(scratch, stream(c, c->got), n)))
        die("an echo differs from what was sent");
    c->got += n;
    while ((c->answered + 1) * size <= c->got) {
        record(c->begans[c->answered++ % pipeline], time);
        begin(c, time);
    }
    c->idle = c->asked == c->answered; /* those under way are waited for */
}

/* The whole head is kept until its end is there; of the body only the length is looked at. */
static void answered(struct connection *c, size_t n)
{
    if (!c->expected) {
        size_t room = HEAD - 1 - c->got, taken = n < room ? n : room;
        memcpy(c->head + c->got, scratch, taken);
        c->head[c->got + taken] = 0;
        char *end = strstr(c->head, "\r\n\r\n"), *length = strcasestr(c->head, "\r\nContent-Length:");
        if (end) {
            if (strncmp(c->head, "HTTP/1.1 200 ", 13))
                die("not a 200: %.*s", (int)strcspn(c->head, "\r"), c->head);
            if (!length || length > end)
                die("an answer without Content-Length");
            c->expected = end + 4 - c->head + strtoul(length + 17, NULL, 10);
        } else if (n >= room)
            die("no end of the HTTP head in %d bytes", HEAD);
    }
    c->got += n;
    if (c->expected && c->got > c->expected)
        die("more bytes than Content-Length says");
}

static void exchange(struct connection *c)
{
    for (;;) {
        if (!c->idle)
            push(c);
        bool skipped = mode == ECHO && size >= LONG && pipeline == 1 && c->answered % CHECKED;
        ssize_t n = recv(c->fd, scratch, sizeof scratch, skipped ? MSG_TRUNC : 0); /* which does not copy */
        if (n < 0 && (errno == EAGAIN || errno == ENOTCONN))
            return;
        check(n, "recv");
        if (n == 0)
            die("the server closed a connection");
        if (c->idle)
            die("bytes that nobody asked for");
        if (mode == ECHO) {
            echoed(c, n, !skipped);
            if (n == sizeof scratch)
                continue;
            push(c);
            return;
        }
        answered(c, n);
        if (c->expected && c->got == c->expected) {
            finish(c);
            if (!c->idle)
                push(c);
            return; /* the answer to what was sent just now is a new edge */
        }
    }
}

/* The server accepts and aborts; only then does the client, with RST, so that no port stays in TIME_WAIT. A client
 * that did not wait would outrun accept(2), and past the backlog it would measure the kernel's SYN retries. */
static void connect_abort(struct connection *c, uint32_t events)
{
    if (!(events & (EPOLLIN | EPOLLERR | EPOLLHUP | EPOLLRDHUP)))
        return; /* connected, not yet aborted */
    ssize_t n = recv(c->fd, scratch, sizeof scratch, 0);
    if (n > 0)
        die("bytes from a server that was to abort");
    if (n < 0 && errno == EAGAIN)
        return;
    if (n < 0 && errno != ECONNRESET)
        check(-1, "connect");
    struct linger reset = {.l_onoff = 1};
    check(setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), "SO_LINGER");
    close(c->fd);
    c->fd = -1;
    finish(c);
}

/* Runs until every request that began has its answer. */
static void run(void)
{
    struct epoll_event events[BATCH];
    for (long i = 0; i < count; i++) {
        for (long j = 0; j < pipeline; j++)
            begin(&connections[i], now());
        connections[i].idle = mode == ECHO ? connections[i].asked == connections[i].answered : connections[i].idle;
        if (mode != CONNECT_ABORT && !connections[i].idle)
            push(&connections[i]);
    }
    while (done < started) {
        int n = epoll_wait(poller, events, BATCH, STALL_MS);
        if (n < 0 && errno == EINTR)
            continue;
        check(n, "epoll_wait");
        if (n == 0)
            die("no answer in %d s", STALL_MS / 1000);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (mode == CONNECT_ABORT)
                connect_abort(c, events[i].events);
            else
                exchange(c);
        }
    }
}

static void usage(void)
{
    die("usage: load --port P --connections N (--seconds S | --requests R) "
        "(--echo BYTES | --http PATH | --connect-abort) [--pipeline N] [--warmup S]");
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"port", 1, 0, 'p'}, {"connections", 1, 0, 'c'}, {"seconds", 1, 0, 's'}, {"requests", 1, 0, 'r'},
        {"echo", 1, 0, 'e'}, {"http", 1, 0, 'h'}, {"connect-abort", 0, 0, 'a'}, {"warmup", 1, 0, 'w'},
        {"pipeline", 1, 0, 'n'}, {0}};
    double seconds = 0, warmup = 0;
    const char *path = "/";
    int port = 0, option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'c': count = atol(optarg); break;
        case 's': seconds = atof(optarg); break;
        case 'r': limit = atol(optarg); break;
        case 'w': warmup = atof(optarg); break;
        case 'e': mode = ECHO; size = strtoul(optarg, NULL, 10); break;
        case 'h': mode = HTTP; path = optarg; break;
        case 'n': pipeline = atol(optarg); break;
        case 'a': mode = CONNECT_ABORT; break;
        default: usage();
        }
    if (port <= 0 || count <= 0 || mode == NONE || (seconds > 0) == (limit > 0) || (mode == ECHO && !size) ||
        pipeline < 1 || pipeline > PIPELINE || (pipeline > 1 && mode != ECHO))
        usage();

    address = loopback(port);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    check(poller = epoll_create1(EPOLL_CLOEXEC), "epoll_create1");

    size_t length = size * pipeline + PERIOD;
    if (mode == ECHO) {
        if (!(out = malloc(length)))
            die("no memory");
        for (size_t i = 0; i < length; i++)
            out[i] = i % PERIOD;
    } else if ((int)(length = asprintf(&out, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n", path, port)) < 0)
        die("no memory");
    if (!(connections = calloc(count, sizeof *connections)))
        die("no memory");
    for (long i = 0; i < count; i++) {
        struct connection *c = &connections[i];
        c->idle = true;
        c->number = i;
        c->to_send = mode == ECHO ? 0 : length;
        if (mode != CONNECT_ABORT)
            open_connection(c);
    }

    if (warmup > 0 && !limit) {
        deadline = now() + warmup * 1e9;
        run();
        started = done = 0;
        memset(histogram, 0, sizeof histogram);
    }
    int64_t began = now();
    deadline = began + seconds * 1e9;
    run();
    printf("{");
    report(began);
    printf("}\n");
    return 0;
}
