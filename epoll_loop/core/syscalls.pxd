cimport cython

cdef extern from *:
    """
    /* Also no weak reference, which could bring it back. */
    static inline int epl_unshared(PyObject *object) {
        Py_ssize_t weak = Py_TYPE(object)->tp_weaklistoffset;
        return Py_REFCNT(object) == 1 && (weak <= 0 || *(PyObject **) ((char *) object + weak) == NULL);
    }

    #ifdef Py_GIL_DISABLED
    #include <stdatomic.h>
    #define epl_fence() atomic_thread_fence(memory_order_seq_cst)
    #else
    #define epl_fence() ((void) 0)
    #endif
    """
    void epl_fence() noexcept
    bint epl_unshared(object value) noexcept

ctypedef (int, int) Event

cpdef double monotonic() except? -1
cpdef object call(object context, object callback, tuple args)
cpdef object call0(object context, object callback)
cpdef object call1(object context, object callback, object arg)
cpdef object call2(object context, object callback, object first, object second)
cpdef object copy_context()
cdef inline bint unshared(object value) noexcept:
    return epl_unshared(value)

cdef inline void fence() noexcept:
    epl_fence()

cpdef object check_signals()
cpdef object without_dict(object value)

# For what is compiled only.
cdef object bytes_of(const char *data, Py_ssize_t size)
cdef Py_ssize_t recv_raw(int fd, char *buffer, Py_ssize_t size) noexcept
cdef Py_ssize_t send_raw(int fd, const char *data, Py_ssize_t size) noexcept

cpdef object recv(object sock, int fd)
cpdef Py_ssize_t recv_into(object sock, int fd, object buffer) except? -1
cpdef bytes copy_of(object data)
cpdef Py_ssize_t send(object sock, int fd, bytes data, Py_ssize_t offset) except? -1
cpdef Py_ssize_t sendmsg(object sock, int fd, bytes first, Py_ssize_t offset, list rest) except? -1
cpdef object read(int fd)
cpdef bint has_input(int fd)
cpdef bint has_room(int fd)
cpdef bint hung_up(int fd)
cpdef Py_ssize_t write(int fd, bytes data, Py_ssize_t offset) except? -1
cpdef Py_ssize_t writev(int fd, bytes first, Py_ssize_t offset, list rest) except? -1
cpdef object accept(object sock, int fd)
cpdef object address(object peer)
cpdef object socket_of(int fd, object peer)
cpdef int fileno(object sock) except -2
cpdef object try_recv(object sock, object size)
cpdef object try_recv_into(object sock, object buffer)
cpdef object try_send(object sock, object data)
cpdef object destination(int family, object address)
cpdef list recv_datagrams(object sock, int fd, int family)
cpdef Py_ssize_t send_datagrams(object sock, int fd, list datagrams, list destinations) except -1
cpdef object close(object sock, int fd)


@cython.final
cdef class InputBuffer:
    cdef bytearray _bytes
    cdef object _view

    cpdef Py_ssize_t recv(self, object sock, int fd) except? -1
    cpdef object call1(self, object context, object callback, Py_ssize_t count)
    cdef _renew(self)


cdef class Link:
    cdef Link next

    cdef turn(self)
    cdef failed(self, exc)
    cdef interrupted(self)
    cdef recycle(self)


@cython.final
cdef class Queue:
    cdef Link head
    cdef Link tail
    cdef Py_ssize_t size

    cpdef append(self, Link link)
    cpdef Link popleft(self)
    cpdef clear(self)


cdef inline Py_ssize_t pending(Queue queue) noexcept:
    return queue.size


@cython.final
cdef class EpollSet:
    cdef object _epoll
    cdef int _fd
    cdef unsigned int _polls
    cdef Event *events

    cpdef add(self, int fd, unsigned int mask)
    cpdef modify(self, int fd, unsigned int mask)
    cpdef remove(self, int fd)
    cpdef int wait(self, double timeout) except -1
    cpdef close(self)
