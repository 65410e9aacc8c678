cimport cython

from epoll_loop.core cimport syscalls
from epoll_loop.core.epoll cimport Epoll
from epoll_loop.core.poller cimport Channel
from epoll_loop.transports.base cimport Transport, _oserror
from epoll_loop.transports.writer cimport ByteWriter, _as_bytes

cdef int _EAGAIN
cdef int _EBADF


cdef class PipeReadTransport(Transport):
    cdef bint _always_ready
    cdef public bint _paused

    @cython.locals(chunk=bytes)
    cdef turn(self)
    cdef failed(self, exc)
    cdef carry_over(self)
    cdef _lose(self, exc)
    cdef _read_failed(self, int number)
    cdef _end_of_file(self)
    cdef _activity(self)


cdef class PipeWriteTransport(ByteWriter):
    cdef bint _always_ready
    cdef bint _device

    cdef turn(self)
    cpdef write(self, data)
    cdef _write_lost(self)
    cdef _send(self)
    cdef Py_ssize_t _transfer(self) except? -1
    cdef _lose(self, exc)
    cdef _write_failed(self, int number)
    cdef _activity(self)


@cython.locals(transport=PipeReadTransport)
cpdef PipeReadTransport open_read_pipe(loop, pipe, protocol)
@cython.locals(transport=PipeWriteTransport)
cpdef PipeWriteTransport open_write_pipe(loop, pipe, protocol)
@cython.locals(poller=Epoll)
cdef bint _register(Transport transport) except -1
cdef bint _was_closed(Transport transport) except -1
