/* Server on bare edge-triggered epoll(7): the limit that an event loop in Python is measured against. It echoes what
 * comes, or with --http gives every request, which it takes to be whole and without a body, the same answer.
 * Listens on a free port of 127.0.0.1, TCP or with --datagrams UDP, prints it, and serves until a signal ends it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 512, BACKLOG = 4096, DATAGRAMS = 64, DATAGRAM_BYTES = 2048 };
/* What callbacks.py answers. */
#define ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nxxxxxxxxxxxxx"
static int http;
static char buffer[1 << 18]; /* as much as the loop that is measured receives at once */
static char datagrams[DATAGRAMS][DATAGRAM_BYTES];

static int check(int result, const char *call)
{
    if (result < 0) {
        perror(call);
        exit(1);
    }
    return result;
}

static void watch(int poller, int fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd};
    check(epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

static void accept_all(int poller, int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); /* as asyncio does */
        watch(poller, fd);
    }
    if (errno != EAGAIN)
        check(-1, "accept4");
}

/* Returns 0 when the connection is gone. */
static int send_all(int fd, const char *data, size_t size)
{
    for (size_t sent = 0; sent < size;) {
        ssize_t n = send(fd, data + sent, size - sent, MSG_NOSIGNAL);
        if (n >= 0)
            sent += n;
        else if (errno == EAGAIN) /* stops everybody; with one request a connection it does not come to this */
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
        else
            return 0;
    }
    return 1;
}

static int answer(int fd, size_t size)
{
    for (char *at = buffer, *end = at + size; (at = memmem(at, end - at, "\r\n\r\n", 4)); at += 4)
        if (!send_all(fd, ANSWER, sizeof ANSWER - 1)) /* one by one; those that are measured come one by one */
            return 0;
    return 1;
}

static void serve(int fd, uint32_t events)
{
    for (;;) {
        ssize_t n = recv(fd, buffer, sizeof buffer, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0 || !(http ? answer(fd, n) : send_all(fd, buffer, n))) {
            close(fd);
            return;
        }
        /* A short read has emptied the socket, unless the peer's FIN came in the same edge. */
        if (n < (ssize_t)sizeof buffer && !(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
            return;
    }
}

/* Datagrams that came together go back together. The kernel may drop one; with few under way it does not. */
static void echo_datagrams(int fd)
{
    struct sockaddr_in peers[DATAGRAMS];
    struct iovec vectors[DATAGRAMS];
    struct mmsghdr messages[DATAGRAMS];
    int n;
    do {
        for (int i = 0; i < DATAGRAMS; i++) {
            vectors[i] = (struct iovec){.iov_base = datagrams[i], .iov_len = DATAGRAM_BYTES};
            messages[i].msg_hdr = (struct msghdr){
                .msg_name = &peers[i], .msg_namelen = sizeof peers[i], .msg_iov = &vectors[i], .msg_iovlen = 1};
        }
        n = recvmmsg(fd, messages, DATAGRAMS, MSG_DONTWAIT, NULL);
        if (n < 0 && errno == EAGAIN)
            return;
        check(n, "recvmmsg");
        for (int i = 0; i < n; i++)
            vectors[i].iov_len = messages[i].msg_len;
        for (int sent = 0; sent < n;)
            sent += check(sendmmsg(fd, messages + sent, n - sent, 0), "sendmmsg");
    } while (n == DATAGRAMS); /* a shorter one has emptied the socket */
}

int main(int argc, char **argv)
{
    int udp = argc > 1 && !strcmp(argv[1], "--datagrams");
    http = argc > 1 && !strcmp(argv[1], "--http");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int poller = check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    int kind = udp ? SOCK_DGRAM : SOCK_STREAM | SOCK_NONBLOCK;
    int listener = check(socket(AF_INET, kind | SOCK_CLOEXEC, 0), "socket");
    check(bind(listener, (struct sockaddr *)&address, size), "bind");
    if (!udp)
        check(listen(listener, BACKLOG), "listen");
    check(getsockname(listener, (struct sockaddr *)&address, &size), "getsockname");
    watch(poller, listener);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct epoll_event events[BATCH];
        int n = epoll_wait(poller, events, BATCH, -1);
        if (n < 0 && errno != EINTR)
            check(n, "epoll_wait");
        for (int i = 0; i < n; i++)
            if (udp)
                echo_datagrams(listener);
            else if (events[i].data.fd == listener)
                accept_all(poller, listener);
            else
                serve(events[i].data.fd, events[i].events);
    }
}
