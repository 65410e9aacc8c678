/* Loaded by LD_PRELOAD: makes one call into the kernel fail, or do a part of its work, in the thread that asked for it.
   Both builds call the C library, CPython's own modules for the pure one, so both can be put under the same faults. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NOTHING = 0, PART = -1 };

static __thread char wanted[32]; /* the name of the call that will fail; empty when none will */
static __thread int left;           /* how many of its calls do as they should until then */
static __thread int answer;         /* an errno, or PART */
static __thread int seen;

/* From now on the number-th call of that name, in this thread, has `what` for an answer: an errno, or PART. */
void fault_arm(const char *name, int number, int what) {
    left = number;
    answer = what;
    seen = 0;
    strncpy(wanted, name, sizeof wanted - 1);
}

/* No fault from now on. The number of calls there were, if not enough for the fault, or -1. */
int fault_disarm(void) {
    int count = *wanted ? seen : -1;
    *wanted = 0;
    return count;
}

static int due(const char *name, int fd) {
    if (strcmp(name, wanted) != 0)
        return NOTHING;
    if (answer == EAGAIN && fd >= 0 && !(fcntl(fd, F_GETFL) & O_NONBLOCK))
        return NOTHING; /* it would have waited */
    seen++;
    if (--left > 0)
        return NOTHING;
    *wanted = 0;
    return answer;
}

/* Registrations by descriptor, to have a new edge: of what a false EAGAIN or a part leaves, the kernel tells again. */
enum { MANY = 4096 };
static struct { int set; struct epoll_event event; } registered[MANY];

static void tell_again(int fd) {
    static __typeof__(epoll_ctl) *real;
    int error = errno;
    if (real == NULL)
        real = (__typeof__(epoll_ctl) *) dlsym(RTLD_NEXT, "epoll_ctl");
    if (fd >= 0 && fd < MANY && registered[fd].set > 0)
        real(registered[fd].set, EPOLL_CTL_MOD, fd, &registered[fd].event);
    errno = error;
}

/* Fail, or go on with `fault` to tell whether a part is all there is to do. */
#define BEGIN(name) BEGIN_WITH(name, -1, )
#define BEGIN_WITH(name, fd, also)                                                                                     \
    static __typeof__(name) *real;                                                                                     \
    if (real == NULL)                                                                                                  \
        real = (__typeof__(name) *) dlsym(RTLD_NEXT, #name);                                                           \
    int fault = due(#name, fd);                                                                                            \
    also                                                                                                               \
    if (fault > 0) {                                                                                                   \
        errno = fault;                                                                                                 \
        return -1;                                                                                                     \
    }

/* The same, of a call on a descriptor that a poller may watch. */
#define BEGIN_ON(name, fd)                                                                                             \
    BEGIN_WITH(name, fd, if (fault == EAGAIN || fault == PART) tell_again(fd);)

#define PLAIN(result, name, parameters, arguments)                                                                     \
    result name parameters {                                                                                           \
        BEGIN(name)                                                                                                    \
        return real arguments;                                                                                         \
    }

/* One byte where there was to be more. */
#define BYTES(result, name, parameters, size, arguments)                                                               \
    result name parameters {                                                                                           \
        BEGIN_ON(name, fd)                                                                                             \
        if (fault == PART && size > 1)                                                                                 \
            size = 1;                                                                                                  \
        return real arguments;                                                                                         \
    }

BYTES(ssize_t, recv, (int fd, void *data, size_t size, int flags), size, (fd, data, size, flags))
BYTES(ssize_t, send, (int fd, const void *data, size_t size, int flags), size, (fd, data, size, flags))
BYTES(ssize_t, read, (int fd, void *data, size_t size), size, (fd, data, size))
BYTES(ssize_t, write, (int fd, const void *data, size_t size), size, (fd, data, size))
BYTES(ssize_t, sendfile, (int fd, int from, off_t *offset, size_t size), size, (fd, from, offset, size))
BYTES(ssize_t, sendfile64, (int fd, int from, off64_t *offset, size_t size), size, (fd, from, offset, size))
/* Of many datagrams one. */
BYTES(int, sendmmsg, (int fd, struct mmsghdr *messages, unsigned int size, int flags), size,
      (fd, messages, size, flags))
BYTES(int, recvmmsg, (int fd, struct mmsghdr *messages, unsigned int size, int flags, struct timespec *timeout), size,
      (fd, messages, size, flags, timeout))

static int first_byte(const struct iovec *parts, size_t count, struct iovec *byte) {
    for (size_t i = 0; i < count; i++)
        if (parts[i].iov_len > 0) {
            byte->iov_base = parts[i].iov_base;
            byte->iov_len = 1;
            return 1;
        }
    return 0;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    BEGIN_ON(sendmsg, fd)
    struct iovec byte;
    struct msghdr part = *message;
    if (fault == PART && first_byte(part.msg_iov, part.msg_iovlen, &byte)) {
        part.msg_iov = &byte;
        part.msg_iovlen = 1;
    }
    return real(fd, &part, flags);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    BEGIN_ON(writev, fd)
    struct iovec byte;
    if (fault == PART && first_byte(parts, count, &byte))
        return real(fd, &byte, 1);
    return real(fd, parts, count);
}

#define WATCHED(result, name, parameters, arguments)                                                                   \
    result name parameters {                                                                                           \
        BEGIN_ON(name, fd)                                                                                             \
        return real arguments;                                                                                         \
    }

/* A datagram is sent and received as a whole. */
WATCHED(ssize_t, recvfrom, (int fd, void *data, size_t size, int flags, struct sockaddr *from, socklen_t *length),
      (fd, data, size, flags, from, length))
WATCHED(ssize_t, sendto, (int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length),
      (fd, data, size, flags, to, length))

WATCHED(int, accept4, (int fd, struct sockaddr *peer, socklen_t *length, int flags), (fd, peer, length, flags))
PLAIN(int, socket, (int family, int type, int protocol), (family, type, protocol))
PLAIN(int, socketpair, (int family, int type, int protocol, int fds[2]), (family, type, protocol, fds))
PLAIN(int, pipe2, (int fds[2], int flags), (fds, flags))
PLAIN(int, bind, (int fd, const struct sockaddr *address, socklen_t length), (fd, address, length))
PLAIN(int, listen, (int fd, int backlog), (fd, backlog))
PLAIN(int, shutdown, (int fd, int how), (fd, how))
PLAIN(int, getsockname, (int fd, struct sockaddr *address, socklen_t *length), (fd, address, length))
PLAIN(int, getpeername, (int fd, struct sockaddr *address, socklen_t *length), (fd, address, length))
PLAIN(int, setsockopt, (int fd, int level, int option, const void *value, socklen_t length),
      (fd, level, option, value, length))
PLAIN(int, epoll_create1, (int flags), (flags))
PLAIN(int, epoll_wait, (int set, struct epoll_event *events, int count, int timeout), (set, events, count, timeout))
PLAIN(int, eventfd, (unsigned int value, int flags), (value, flags))
PLAIN(int, eventfd_write, (int fd, eventfd_t value), (fd, value))
PLAIN(int, poll, (struct pollfd *fds, nfds_t count, int timeout), (fds, count, timeout))
PLAIN(int, waitid, (idtype_t type, id_t id, siginfo_t *info, int options), (type, id, info, options))

/* Interrupted, it goes on in the background. */
int connect(int fd, const struct sockaddr *peer, socklen_t length) {
    BEGIN_WITH(connect, fd, if (fault == EINTR) real(fd, peer, length);)
    return real(fd, peer, length);
}

int epoll_ctl(int set, int operation, int fd, struct epoll_event *event) {
    BEGIN(epoll_ctl)
    int result = real(set, operation, fd, event);
    if (result == 0 && fd < MANY) {
        registered[fd].set = operation == EPOLL_CTL_DEL ? 0 : set;
        if (event != NULL)
            registered[fd].event = *event;
    }
    return result;
}

/* close(2) has given the descriptor away, whatever it says. */
int close(int fd) {
    static __typeof__(close) *real;
    if (real == NULL)
        real = (__typeof__(close) *) dlsym(RTLD_NEXT, "close");
    int fault = due("close", -1);
    int result = real(fd);
    if (fault > 0) {
        errno = fault;
        return -1;
    }
    return result;
}

/* For what the C library has no function for. */
long syscall(long number, ...) {
    static __typeof__(syscall) *real;
    if (real == NULL)
        real = (__typeof__(syscall) *) dlsym(RTLD_NEXT, "syscall");
    va_list rest;
    va_start(rest, number);
    long a[6];
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(rest, long);
    va_end(rest);
    int fault = number == 441 ? due("epoll_pwait2", -1) : number == 434 ? due("pidfd_open", -1) : NOTHING;
    if (fault > 0) {
        errno = fault;
        return -1;
    }
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
