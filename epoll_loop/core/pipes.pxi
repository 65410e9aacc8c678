# The compiled half of `read()`, `write()` and what poll(2) says of them; a part of syscalls.pyx.


cpdef object read(int fd):
    cdef ssize_t n
    while True:
        n = c_read(fd, epl_scratch, EPL_RECV_SIZE)
        if n >= 0:
            return epl_bytes(epl_scratch, n)
        if errno != EINTR:
            return -errno


cpdef bint has_input(int fd):
    return shows(fd, POLLIN)


cpdef bint has_room(int fd):
    return shows(fd, POLLOUT)


cpdef bint hung_up(int fd):
    return shows(fd, 0)


cdef bint shows(int fd, short event):
    cdef pollfd asked
    asked.fd = fd
    asked.events = event
    cdef int n = c_poll(&asked, 1, 0)
    while n < 0 and errno == EINTR:
        n = c_poll(&asked, 1, 0)
    return n > 0


cpdef Py_ssize_t write(int fd, bytes data, Py_ssize_t offset) except? -1:
    cdef ssize_t n
    while True:
        n = c_write(fd, PyBytes_AS_STRING(data) + offset, PyBytes_GET_SIZE(data) - offset)
        if n >= 0:
            return n
        if errno != EINTR:
            return -errno


cpdef Py_ssize_t writev(int fd, bytes first, Py_ssize_t offset, list rest) except? -1:
    cdef iovec iov[EPL_IOV_MAX]
    cdef int count = gather(iov, first, offset, rest)
    cdef ssize_t n
    while True:
        n = c_writev(fd, iov, count)
        if n >= 0:
            return n
        if errno != EINTR:
            return -errno
