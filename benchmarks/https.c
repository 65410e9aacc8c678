/* HTTPS server on bare edge-triggered epoll(7) and OpenSSL: the limit that TLS in an event loop of Python is measured
 * against. Takes a PEM file with key and certificate, listens on a free port of 127.0.0.1, prints it, and serves until
 * a signal ends it. Answers what class Http of servers.py does, but knows keep-alive only. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 512, BACKLOG = 4096 };

struct connection {
    int fd;
    SSL *ssl;
    size_t size; /* of the request, as far as it has come */
    char request[4096];
};

struct answer {
    int size;
    char bytes[101 * 1024];
};

static struct answer answer_1k, answer_100k, not_found;

/* Ciphertext of the one connection that has its turn; it leaves nothing behind in them. `out` holds the largest answer:
 * one send(2) is cheaper than two. To collect those of a batch of events is not cheaper, neither are memory BIOs. */
static int peer;
static char in[1 << 16], out[1 << 17];
static size_t in_start, in_end, out_size;

static int check(int result, const char *call)
{
    if (result < 0) {
        perror(call);
        exit(1);
    }
    return result;
}

static void check_ssl(int good, const char *call)
{
    if (!good) {
        fprintf(stderr, "%s: %s\n", call, ERR_error_string(ERR_get_error(), NULL));
        exit(1);
    }
}

/* Returns 0 when the connection is gone. */
static int send_all(void)
{
    size_t sent = 0;
    while (sent < out_size) {
        ssize_t n = send(peer, out + sent, out_size - sent, MSG_NOSIGNAL);
        if (n >= 0)
            sent += n;
        else if (errno == EAGAIN) /* stops everybody; with one request a connection it does not come to this */
            poll(&(struct pollfd){.fd = peer, .events = POLLOUT}, 1, -1);
        else
            break;
    }
    int all = sent == out_size;
    out_size = 0;
    return all;
}

static int bio_read(BIO *bio, char *data, int size)
{
    size_t n = in_end - in_start < (size_t)size ? in_end - in_start : (size_t)size;
    BIO_clear_retry_flags(bio);
    if (!n) {
        BIO_set_retry_read(bio);
        return -1;
    }
    memcpy(data, in + in_start, n);
    in_start += n;
    return n;
}

/* Takes a record or a flight of the handshake, much less than `out` has room for. */
static int bio_write(BIO *bio, const char *data, int size)
{
    BIO_clear_retry_flags(bio);
    if (out_size + size > sizeof out && !send_all())
        return -1;
    memcpy(out + out_size, data, size);
    out_size += size;
    return size;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *new_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "in and out");
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_ctrl(method, bio_control);
    return method;
}

/* The defaults of Python's ssl module, apart from SSL_MODE_RELEASE_BUFFERS: it costs CPU time. */
static SSL_CTX *new_context(const char *pem)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_read_ahead(context, 1); /* header and body of a record by one call of bio_read */
    check_ssl(SSL_CTX_use_certificate_chain_file(context, pem), pem);
    check_ssl(SSL_CTX_use_PrivateKey_file(context, pem, SSL_FILETYPE_PEM), pem);
    return context;
}

static void watch(int poller, int fd, struct connection *connection)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = connection};
    check(epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

static void accept_all(int poller, int listener, SSL_CTX *context, BIO_METHOD *method)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)); /* as asyncio does */
        struct connection *connection = malloc(sizeof *connection);
        BIO *bio = BIO_new(method);
        SSL *ssl = SSL_new(context);
        check(connection && bio && ssl ? 0 : -1, "a new connection");
        BIO_set_init(bio, 1);
        SSL_set_bio(ssl, bio, bio);
        SSL_set_accept_state(ssl);
        connection->fd = fd;
        connection->ssl = ssl;
        connection->size = 0;
        watch(poller, fd, connection);
    }
    if (errno != EAGAIN)
        check(-1, "accept4");
}

static const struct answer *answer_to(const char *request)
{
    if (!strncmp(request, "GET /1k ", 8))
        return &answer_1k;
    return strncmp(request, "GET /100k ", 10) ? &not_found : &answer_100k;
}

/* Works off `in`: what is there of a record OpenSSL keeps. Returns 0 when the connection is to be closed. */
static int answer(struct connection *c)
{
    int n;
    while ((n = SSL_read(c->ssl, c->request + c->size, sizeof c->request - c->size)) > 0) {
        c->size += n;
        if (c->size >= 4 && !memcmp(c->request + c->size - 4, "\r\n\r\n", 4)) {
            const struct answer *answer = answer_to(c->request);
            c->size = 0;
            if (SSL_write(c->ssl, answer->bytes, answer->size) <= 0)
                break;
        } else if (c->size == sizeof c->request)
            break;
        if (in_start == in_end && !SSL_has_pending(c->ssl))
            return send_all();
    }
    int alive = SSL_get_error(c->ssl, n) == SSL_ERROR_WANT_READ;
    ERR_clear_error();
    return send_all() && alive;
}

static void serve(struct connection *connection, uint32_t events)
{
    peer = connection->fd;
    for (;;) {
        ssize_t n = recv(peer, in, sizeof in, 0);
        if (n < 0 && errno == EAGAIN)
            return;
        in_start = 0;
        in_end = n;
        if (n <= 0 || !answer(connection)) {
            close(peer);
            SSL_free(connection->ssl);
            free(connection);
            return;
        }
        /* A short read has emptied the socket, unless the peer's FIN came in the same edge. */
        if (n < (ssize_t)sizeof in && !(events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)))
            return;
    }
}

static void prepare(struct answer *answer, const char *status, int body)
{
    int head = sprintf(answer->bytes, "HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n", status, body);
    memset(answer->bytes + head, 'x', body);
    answer->size = head + body;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    SSL_CTX *context = new_context(argc > 1 ? argv[1] : "");
    BIO_METHOD *method = new_method();
    prepare(&answer_1k, "200 OK", 1024);
    prepare(&answer_100k, "200 OK", 100 * 1024);
    prepare(&not_found, "404 Not Found", 0);
    int poller = check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    int listener = check(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
    check(bind(listener, (struct sockaddr *)&address, size), "bind");
    check(listen(listener, BACKLOG), "listen");
    check(getsockname(listener, (struct sockaddr *)&address, &size), "getsockname");
    watch(poller, listener, NULL);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct epoll_event events[BATCH];
        int n = epoll_wait(poller, events, BATCH, -1);
        if (n < 0 && errno != EINTR)
            check(n, "epoll_wait");
        for (int i = 0; i < n; i++)
            if (events[i].data.ptr)
                serve(events[i].data.ptr, events[i].events);
            else
                accept_all(poller, listener, context, method);
    }
}
