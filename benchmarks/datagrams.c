/* Load generator for UDP: closed loop, one thread, edge-triggered epoll(7), against 127.0.0.1.
 *
 *   datagrams --port P --sockets N --window W --bytes B (--seconds S | --requests R)
 *
 * Every socket has W datagrams under way; the answer to each is checked, then the next one is sent. Answers that came
 * together are followed by as many datagrams together: recvmmsg(2), sendmmsg(2). At the end what is under way is
 * waited for and counted.
 * UDP may lose a datagram. With --seconds, one that is not answered within LOST_MS counts as lost and another one is
 * sent in its place; an answer that comes after that counts for nothing. With --requests, which promises the server
 * exactly so many, it ends the program, after PATIENT_MS.
 * Prints one line of JSON: requests, seconds, p50_us, p99_us, lost. Whatever is not as it should be ends it. */
#define _GNU_SOURCE
#include "client.h"
#include <getopt.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>

enum { BATCH = 64, LOST_MS = 200, SWEEP_MS = 20, STALL_MS = 2000, PATIENT_MS = 20000 };

struct stamp { /* the first bytes of a datagram; a pattern follows, another one for every socket */
    uint32_t slot, number;
};

struct slot { /* one datagram under way */
    bool busy;
    uint32_t number; /* of those in this slot, from 1 on */
    int64_t began;   /* ns */
    char *out;       /* the stamp and the pattern */
};

struct sock {
    int fd;
    struct slot *slots;
};

static int poller;
static long count, window, limit; /* limit: requests in all, 0 where time is the limit */
static long started, lost;
static int64_t deadline;          /* ns, 0 where requests are the limit */
static size_t size;
static struct sock *socks;
static struct mmsghdr incoming[BATCH], outgoing[BATCH];
static struct iovec in_vectors[BATCH], out_vectors[BATCH];
static unsigned waiting; /* datagrams, all of one socket, for the next flush */

static void flush(struct sock *s)
{
    for (unsigned sent = 0; sent < waiting;)
        sent += check(sendmmsg(s->fd, outgoing + sent, waiting - sent, 0), "sendmmsg");
    waiting = 0;
}

/* Puts the next datagram in the slot, unless it is time to end; it leaves with the next flush. */
static void begin(struct sock *s, uint32_t index, int64_t time)
{
    struct slot *slot = &s->slots[index];
    slot->began = time;
    slot->busy = limit ? started < limit : slot->began < deadline;
    if (!slot->busy)
        return;
    started++;
    struct stamp stamp = {index, ++slot->number};
    memcpy(slot->out, &stamp, sizeof stamp);
    out_vectors[waiting++].iov_base = slot->out;
    if (waiting == BATCH)
        flush(s);
}

static void answered(struct sock *s, const char *answer, size_t n, int64_t time)
{
    struct stamp stamp;
    if (n != size)
        die("an echo of %zu bytes, where %zu were sent", n, size);
    memcpy(&stamp, answer, sizeof stamp);
    if (stamp.slot >= window)
        die("an echo differs from what was sent");
    struct slot *slot = &s->slots[stamp.slot];
    if (memcmp(answer + sizeof stamp, slot->out + sizeof stamp, size - sizeof stamp) || stamp.number > slot->number)
        die("an echo differs from what was sent");
    if (stamp.number == slot->number && slot->busy) {
        record(slot->began, time);
        begin(s, stamp.slot, time);
    } else if (!lost) /* else it had been given up */
        die("two echoes of one datagram");
}

static void exchange(struct sock *s)
{
    int n;
    do {
        n = recvmmsg(s->fd, incoming, BATCH, MSG_DONTWAIT, NULL);
        if (n < 0 && errno == EAGAIN)
            break;
        check(n, "recvmmsg");
        int64_t time = now();
        for (int i = 0; i < n; i++)
            answered(s, in_vectors[i].iov_base, incoming[i].msg_len, time);
        flush(s);
    } while (n == BATCH); /* a shorter one has emptied the socket */
}

/* Gives up what has had no answer for too long. */
static void sweep(int64_t time)
{
    for (long i = 0; i < count; i++) {
        struct sock *s = &socks[i];
        for (uint32_t index = 0; index < window; index++)
            if (s->slots[index].busy && time - s->slots[index].began > LOST_MS * 1000000LL) {
                lost++;
                begin(s, index, time);
            }
        flush(s);
    }
}

/* Runs until every datagram that was sent is answered or lost. */
static void run(void)
{
    int64_t patience = (limit ? PATIENT_MS : STALL_MS) * 1000000LL, heard = now(), swept = heard;
    for (long i = 0; i < count; i++) {
        for (uint32_t index = 0; index < window; index++)
            begin(&socks[i], index, now());
        flush(&socks[i]);
    }
    while (done + lost < started) {
        struct epoll_event events[BATCH];
        int n = epoll_wait(poller, events, BATCH, SWEEP_MS);
        if (n < 0 && errno == EINTR)
            continue;
        check(n, "epoll_wait");
        for (int i = 0; i < n; i++)
            exchange(events[i].data.ptr);
        int64_t time = now();
        if (n)
            heard = time;
        if (time - heard > patience)
            die("no answer in %lld s", (long long)(patience / 1000000000));
        if (!limit && time - swept > SWEEP_MS * 1000000LL) {
            sweep(time);
            swept = time;
        }
    }
}

static void open_socket(struct sock *s, int port, long number)
{
    struct sockaddr_in address = loopback(port);
    check(s->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
    check(connect(s->fd, (struct sockaddr *)&address, sizeof address), "connect");
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = s};
    check(epoll_ctl(poller, EPOLL_CTL_ADD, s->fd, &event), "epoll_ctl");
    if (!(s->slots = calloc(window, sizeof *s->slots)))
        die("no memory");
    for (long i = 0; i < window; i++) {
        if (!(s->slots[i].out = malloc(size)))
            die("no memory");
        for (size_t k = 0; k < size; k++)
            s->slots[i].out[k] = (number + k) % 251;
    }
}

static void usage(void)
{
    die("usage: datagrams --port P --sockets N --window W --bytes B (--seconds S | --requests R)");
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"port", 1, 0, 'p'},    {"sockets", 1, 0, 'n'}, {"window", 1, 0, 'w'},
                                            {"bytes", 1, 0, 'b'},   {"seconds", 1, 0, 's'}, {"requests", 1, 0, 'r'},
                                            {0}};
    double seconds = 0;
    int port = 0, option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        switch (option) {
        case 'p': port = atoi(optarg); break;
        case 'n': count = atol(optarg); break;
        case 'w': window = atol(optarg); break;
        case 'b': size = strtoul(optarg, NULL, 10); break;
        case 's': seconds = atof(optarg); break;
        case 'r': limit = atol(optarg); break;
        default: usage();
        }
    if (port <= 0 || count <= 0 || window <= 0 || (seconds > 0) == (limit > 0) || size < sizeof(struct stamp))
        usage();

    check(poller = epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    if (!(socks = calloc(count, sizeof *socks)))
        die("no memory");
    for (long i = 0; i < count; i++)
        open_socket(&socks[i], port, i);
    for (int i = 0; i < BATCH; i++) {
        /* One byte more than is sent: a longer answer is found out, not cut off. */
        in_vectors[i] = (struct iovec){.iov_base = malloc(size + 1), .iov_len = size + 1};
        out_vectors[i] = (struct iovec){.iov_len = size};
        if (!in_vectors[i].iov_base)
            die("no memory");
        incoming[i].msg_hdr = (struct msghdr){.msg_iov = &in_vectors[i], .msg_iovlen = 1};
        outgoing[i].msg_hdr = (struct msghdr){.msg_iov = &out_vectors[i], .msg_iovlen = 1};
    }

    int64_t began = now();
    deadline = began + seconds * 1e9;
    run();
    printf("{");
    report(began);
    printf(", \"lost\": %ld}\n", lost);
    return 0;
}
