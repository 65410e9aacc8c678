"""Every call into the kernel and into the C API: the compiled build's half. `syscalls.py` has the documentation."""

cimport cython
from cpython.buffer cimport (
    PyBUF_FULL_RO, PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.errno cimport EAGAIN, EINTR, ENOSYS, EPERM, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

import os
import select
import socket
import sysconfig

cdef extern from * nogil:
    """
    #include <errno.h>
    #include <fcntl.h>
    #include <netinet/in.h>
    #include <poll.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #include <time.h>
    #include <unistd.h>

    /* -DEPL_PORTABLE builds what other systems get, for a test of it. */
    #if defined(__linux__) && !defined(EPL_PORTABLE)
    #define EPL_LINUX 1
    #else
    #define EPL_LINUX 0
    #endif

    #ifndef MSG_NOSIGNAL
    #define MSG_NOSIGNAL 0  /* macOS; Python ignores the signal */
    #endif

    #if EPL_LINUX
    #include <sys/epoll.h>
    #include <sys/syscall.h>

    #ifndef SYS_epoll_pwait2
    #define SYS_epoll_pwait2 441
    #endif

    static int epl_pwait2(int fd, struct epoll_event *events, int n, const struct timespec *timeout) {
        return (int) syscall(SYS_epoll_pwait2, fd, events, n, timeout, NULL, (size_t) 0);
    }
    #else
    /* Nobody calls these: there is no select.epoll() to make an EpollSet of. */
    struct epoll_event { uint32_t events; union { int fd; uint64_t u64; } data; };

    static int epoll_wait(int fd, struct epoll_event *events, int n, int milliseconds) {
        errno = ENOSYS;
        return -1;
    }

    static int epl_pwait2(int fd, struct epoll_event *events, int n, const struct timespec *timeout) {
        errno = ENOSYS;
        return -1;
    }
    #endif

    /* Non-blocking and not inheritable. */
    static int epl_accept(int fd, struct sockaddr *address, socklen_t *size) {
    #if defined(SOCK_NONBLOCK) && !defined(EPL_PORTABLE)
        return accept4(fd, address, size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    #else
        int accepted = accept(fd, address, size);
        if (accepted >= 0) {
            fcntl(accepted, F_SETFD, FD_CLOEXEC);
            fcntl(accepted, F_SETFL, fcntl(accepted, F_GETFL) | O_NONBLOCK);
        }
        return accepted;
    #endif
    }

    enum { EPL_MAX_EVENTS = 1024, EPL_IOV_MAX = 1024 };

    static inline PyObject *epl_call(PyObject *callback, PyObject *args) {
        return PyObject_Vectorcall(callback, &PyTuple_GET_ITEM(args, 0), PyTuple_GET_SIZE(args), NULL);
    }

    /* Cython makes one for every new object. */
    static inline void epl_without_dict(PyObject *object) {
        PyObject **dict = _PyObject_GetDictPtr(object);
        if (dict != NULL)
            Py_CLEAR(*dict);
    }
    """
    enum:
        EPL_MAX_EVENTS
        EPL_IOV_MAX
        MSG_DONTWAIT
        MSG_NOSIGNAL
        POLLIN
        POLLOUT
        AF_INET
        AF_INET6
        CLOCK_MONOTONIC

    object epl_call(object callback, object args)
    void epl_without_dict(object value)

    ctypedef unsigned int socklen_t

    struct timespec:
        long tv_sec
        long tv_nsec

    struct iovec:
        void *iov_base
        size_t iov_len

    struct pollfd:
        int fd
        short events

    struct msghdr:
        void *msg_name
        socklen_t msg_namelen
        iovec *msg_iov
        size_t msg_iovlen

    struct sockaddr:
        unsigned short sa_family

    struct in_addr:
        pass

    struct in6_addr:
        pass

    struct sockaddr_in:
        unsigned short sin_family
        unsigned short sin_port
        in_addr sin_addr

    struct sockaddr_in6:
        unsigned short sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id

    ctypedef union epoll_data_t:
        int fd
        uint64_t u64

    struct epoll_event:
        uint32_t events
        epoll_data_t data

    ssize_t c_recv "recv"(int fd, void *buffer, size_t size, int flags)
    ssize_t c_send "send"(int fd, const void *buffer, size_t size, int flags)
    ssize_t c_sendmsg "sendmsg"(int fd, const msghdr *message, int flags)
    ssize_t c_read "read"(int fd, void *buffer, size_t size)
    ssize_t c_write "write"(int fd, const void *buffer, size_t size)
    ssize_t c_writev "writev"(int fd, const iovec *iov, int count)
    int c_poll "poll"(pollfd *fds, unsigned long count, int milliseconds)
    int c_close "close"(int fd)
    int epl_accept(int fd, sockaddr *address, socklen_t *size)
    int c_epoll_wait "epoll_wait"(int fd, epoll_event *events, int size, int milliseconds)
    int epl_pwait2(int fd, epoll_event *events, int size, const timespec *timeout)
    int clock_gettime(int clock, timespec *now)
    unsigned short ntohs(unsigned short value)
    uint32_t ntohl(uint32_t value)

cdef extern from "Python.h":
    object PyContext_CopyCurrent()
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1

cdef bint has_pwait2 = True


cpdef double monotonic() except? -1:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


cpdef object copy_context():
    return PyContext_CopyCurrent()


cpdef object call(object context, object callback, tuple args):
    PyContext_Enter(context)
    try:
        return epl_call(callback, args)
    finally:
        PyContext_Exit(context)


cpdef object call0(object context, object callback):
    PyContext_Enter(context)
    try:
        return callback()
    finally:
        PyContext_Exit(context)


cpdef object call1(object context, object callback, object arg):
    PyContext_Enter(context)
    try:
        return callback(arg)
    finally:
        PyContext_Exit(context)


cpdef object call2(object context, object callback, object first, object second):
    PyContext_Enter(context)
    try:
        return callback(first, second)
    finally:
        PyContext_Exit(context)


cpdef object check_signals():
    PyErr_CheckSignals()


cpdef object without_dict(object value):
    epl_without_dict(value)


include "buffers.pxi"


cdef Py_ssize_t recv_raw(int fd, char *buffer, Py_ssize_t size) noexcept:
    cdef ssize_t n
    while True:
        n = c_recv(fd, buffer, size, 0)
        if n >= 0:
            return n
        if errno != EINTR:
            return -errno


cdef Py_ssize_t send_raw(int fd, const char *data, Py_ssize_t size) noexcept:
    cdef ssize_t n
    while True:
        n = c_send(fd, data, size, MSG_NOSIGNAL)
        if n >= 0:
            return n
        if errno != EINTR:
            return -errno


include "input.pxi"


cpdef Py_ssize_t recv_into(object sock, int fd, object buffer) except? -1:
    cdef Py_buffer view
    cdef ssize_t n
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    n = recv_raw(fd, <char *> view.buf, view.len)
    PyBuffer_Release(&view)
    return n


cpdef Py_ssize_t send(object sock, int fd, bytes data, Py_ssize_t offset) except? -1:
    return send_raw(fd, PyBytes_AS_STRING(data) + offset, PyBytes_GET_SIZE(data) - offset)


cdef int gather(iovec *iov, bytes first, Py_ssize_t offset, list rest) except -1:
    cdef int i, count = min(len(rest), EPL_IOV_MAX - 1)
    cdef bytes chunk
    iov[0].iov_base = PyBytes_AS_STRING(first) + offset
    iov[0].iov_len = PyBytes_GET_SIZE(first) - offset
    for i in range(count):
        chunk = rest[i]
        iov[i + 1].iov_base = PyBytes_AS_STRING(chunk)
        iov[i + 1].iov_len = PyBytes_GET_SIZE(chunk)
    return count + 1


cpdef Py_ssize_t sendmsg(object sock, int fd, bytes first, Py_ssize_t offset, list rest) except? -1:
    cdef iovec iov[EPL_IOV_MAX]
    cdef msghdr message
    cdef ssize_t n
    memset(&message, 0, sizeof(message))
    message.msg_iov = iov
    message.msg_iovlen = gather(iov, first, offset, rest)
    while True:
        n = c_sendmsg(fd, &message, MSG_NOSIGNAL)
        if n >= 0:
            return n
        if errno != EINTR:
            return -errno


include "pipes.pxi"


@cython.final
cdef class SockAddr:
    """The address of an accepted peer, as the kernel wrote it: few are ever looked at."""
    cdef sockaddr_in6 raw


cpdef object accept(object sock, int fd):
    cdef SockAddr peer = SockAddr.__new__(SockAddr)
    cdef socklen_t size = sizeof(peer.raw)
    cdef int accepted = epl_accept(fd, <sockaddr *> &peer.raw, &size)
    if accepted < 0:
        return -errno
    if (<sockaddr_in *> &peer.raw).sin_family in (AF_INET, AF_INET6):
        return None, accepted, peer
    connection = socket_with(sock.family, sock.type, sock.proto, accepted)
    try:
        return connection, accepted, connection.getpeername()
    except OSError:
        return connection, accepted, ""


cpdef object address(object peer):
    if type(peer) is not SockAddr:
        return peer
    return inet_address(<sockaddr_in *> &(<SockAddr> peer).raw)


cdef object inet_address(sockaddr_in *inet):
    cdef sockaddr_in6 *inet6 = <sockaddr_in6 *> inet
    if inet.sin_family == AF_INET:
        host = socket.inet_ntop(AF_INET, PyBytes_FromStringAndSize(<char *> &inet.sin_addr, 4))
        return host, ntohs(inet.sin_port)
    host = socket.inet_ntop(AF_INET6, PyBytes_FromStringAndSize(<char *> &inet6.sin6_addr, 16))
    return host, ntohs(inet6.sin6_port), ntohl(inet6.sin6_flowinfo), inet6.sin6_scope_id


cpdef object socket_of(int fd, object peer):
    cdef SockAddr known = peer
    return socket_with((<sockaddr_in *> &known.raw).sin_family, socket.SOCK_STREAM, -1, fd)


cdef object _nonblocking = getattr(socket, "SOCK_NONBLOCK", 0)


cdef object socket_with(int family, int kind, int proto, int fd):
    # A socket object has to be told that its descriptor does not block, where it can not be seen from its kind.
    sock = socket.socket(family, kind | _nonblocking, proto, fd)
    if not _nonblocking:
        sock.setblocking(False)
    return sock


cdef object _socket = socket.socket
cdef object _fileno = socket.socket.fileno


cpdef int fileno(object sock) except -2:
    if type(sock) is _socket:
        return _fileno(sock)  # without looking it up
    return sock.fileno()


include "tries.pxi"
include "datagrams.pxi"


cpdef object close(object sock, int fd):
    if sock is not None:
        sock.close()
    else:
        c_close(fd)


cdef class Link:
    cdef turn(self):
        pass

    cdef failed(self, exc):
        raise exc

    cdef interrupted(self):
        pass

    cdef recycle(self):
        pass


@cython.final
cdef class Queue:
    cpdef append(self, Link link):
        if self.size == 0:
            self.head = link
        else:
            self.tail.next = link
        self.tail = link
        self.size += 1

    cpdef Link popleft(self):
        cdef Link link = self.head
        if link is None:
            raise IndexError("the queue is empty")
        self.head = link.next
        link.next = None
        self.size -= 1
        if self.size == 0:
            self.tail = None
        return link

    cpdef clear(self):
        # One after the other: a chain that is dropped whole would be freed recursively.
        while self.size:
            self.popleft()

    def __len__(self):
        return self.size

    def __del__(self):
        self.clear()


@cython.final
cdef class EpollSet:
    def __cinit__(self):
        self.events = <Event *> PyMem_Malloc(EPL_MAX_EVENTS * sizeof(Event))
        if self.events is NULL:
            raise MemoryError
        self._epoll = select.epoll()
        self._fd = self._epoll.fileno()

    def __dealloc__(self):
        PyMem_Free(self.events)

    cpdef add(self, int fd, unsigned int mask):
        self._epoll.register(fd, mask)

    cpdef modify(self, int fd, unsigned int mask):
        self._epoll.modify(fd, mask)

    cpdef remove(self, int fd):
        self._epoll.unregister(fd)

    cpdef int wait(self, double timeout) except -1:
        cdef epoll_event found[EPL_MAX_EVENTS]
        cdef int i, n
        # Signal handlers run before the kernel is asked: an exception after that would lose the edges that it reports.
        # When we do not sleep the interpreter runs them, unless it is never entered because all callbacks are compiled.
        self._polls += 1
        if timeout != 0 or self._polls % 64 == 0:
            PyErr_CheckSignals()
        if timeout == 0:
            n = c_epoll_wait(self._fd, found, EPL_MAX_EVENTS, 0)
        else:
            with nogil:
                n = block(self._fd, found, timeout)
        if n < 0:
            if errno != EINTR:
                raise OSError(errno, os.strerror(errno))
            PyErr_CheckSignals()
            n = 0
        for i in range(n):
            self.events[i] = (found[i].data.fd, <int> found[i].events)
        return n

    cpdef close(self):
        self._epoll.close()
        self._fd = -1

    def fileno(self):
        return self._fd


cdef int block(int fd, epoll_event *found, double timeout) noexcept nogil:
    # noexcept: pure C, called without the GIL.
    global has_pwait2
    cdef timespec limit
    cdef int n
    cdef double milliseconds
    if timeout < 0:
        return c_epoll_wait(fd, found, EPL_MAX_EVENTS, -1)
    if has_pwait2:
        limit.tv_sec = <long> timeout
        limit.tv_nsec = <long> ((timeout - limit.tv_sec) * 1e9) + 1  # never early
        if limit.tv_nsec >= 1000000000:
            limit.tv_sec += 1
            limit.tv_nsec -= 1000000000
        n = epl_pwait2(fd, found, EPL_MAX_EVENTS, &limit)
        if n >= 0 or errno not in (ENOSYS, EPERM):  # a sandbox says EPERM of what it does not know
            return n
        has_pwait2 = False
    milliseconds = timeout * 1e3
    return c_epoll_wait(fd, found, EPL_MAX_EVENTS, <int> milliseconds + 1)
