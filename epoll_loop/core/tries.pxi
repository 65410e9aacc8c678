# The compiled half of `try_recv()` and its family; a part of syscalls.pyx.


cdef inline int raw(object sock) except -2:
    # The descriptor, or -1: the methods of a subclass, or of what only looks like a socket, may do anything.
    if type(sock) is not _socket:
        return -1
    return _fileno(sock)


cpdef object try_recv(object sock, object size):
    cdef int fd = raw(sock)
    cdef Py_ssize_t most = size
    cdef ssize_t n
    if fd >= 0 and 0 < most <= EPL_RECV_SIZE:  # recv(2) of nothing may block, and Python does not call it
        n = c_recv(fd, epl_scratch, most, MSG_DONTWAIT)
        while n < 0 and errno == EINTR:
            n = c_recv(fd, epl_scratch, most, MSG_DONTWAIT)
        return epl_bytes(epl_scratch, n) if n >= 0 else would_block(errno)
    try:
        if fd < 0:
            return sock.recv(size)
        return None if would_wait(sock, fd) else sock.recv(size, MSG_DONTWAIT)
    except (BlockingIOError, InterruptedError):
        return None


cpdef object try_recv_into(object sock, object buffer):
    cdef int fd = raw(sock)
    try:
        if fd < 0:
            return sock.recv_into(buffer)
        return None if would_wait(sock, fd) else sock.recv_into(buffer, 0, MSG_DONTWAIT)
    except (BlockingIOError, InterruptedError):
        return None


cpdef object try_send(object sock, object data):
    cdef int fd = raw(sock)
    cdef Py_buffer view
    cdef ssize_t n
    cdef int error
    if fd >= 0:
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        n = c_send(fd, view.buf, view.len, MSG_NOSIGNAL | MSG_DONTWAIT)
        while n < 0 and errno == EINTR:
            n = c_send(fd, view.buf, view.len, MSG_NOSIGNAL | MSG_DONTWAIT)
        error = errno
        PyBuffer_Release(&view)
        return n if n >= 0 else would_block(error)
    try:
        return sock.send(data)
    except (BlockingIOError, InterruptedError):
        return None


cdef bint would_wait(object sock, int fd) except -1:
    return bool(sock.timeout) and not has_input(fd)


cdef object would_block(int error):
    if error == EAGAIN:
        return None
    raise OSError(error, os.strerror(error))
