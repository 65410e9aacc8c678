cimport cython

ctypedef int[2] Event

cpdef double monotonic() except? -1
cpdef object call(object context, object callback, tuple args)
cpdef object call0(object context, object callback)
cpdef object call1(object context, object callback, object arg)
cpdef object copy_context()
cpdef bint unshared(object value) noexcept

cpdef object recv(object sock, int fd)
cpdef bint filled(bytes data) except -1
cpdef Py_ssize_t recv_into(object sock, int fd, object buffer) except? -1
cpdef Py_ssize_t send(object sock, int fd, bytes data, Py_ssize_t offset) except? -1
cpdef Py_ssize_t sendmsg(object sock, int fd, bytes first, Py_ssize_t offset, list rest) except? -1
cpdef object accept(object sock, int fd)
cpdef object address(object peer)
cpdef object socket_of(int fd, object peer)
cpdef object close(object sock, int fd)


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
