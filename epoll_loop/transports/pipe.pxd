cimport cython

from epoll_loop.core cimport syscalls
from epoll_loop.core.poller cimport Poller
from epoll_loop.transports.base cimport Transport, _oserror, open_transport
from epoll_loop.transports.writer cimport ByteWriter, _as_bytes

cdef int _EAGAIN
cdef int _EBADF


cdef class PipeReadTransport(Transport):
    cdef _register(self)
    @cython.locals(chunk=bytes)
    cdef turn(self)
    cdef failed(self, exc)
    cdef _read_failed(self, int number)
    cdef _end_of_file(self)
    cdef _activity(self)


cdef class PipeWriteTransport(ByteWriter):
    cdef bint _device

    cdef _register(self)
    cdef turn(self)
    cpdef write(self, data)
    cdef bint _takes(self) except -1
    cdef _write_lost(self)
    cdef _send(self)
    cdef Py_ssize_t _transfer(self) except? -1
    cdef _write_failed(self, int number)
    cdef _activity(self)


@cython.locals(transport=PipeReadTransport)
cpdef PipeReadTransport open_read_pipe(loop, pipe, protocol)
@cython.locals(transport=PipeWriteTransport)
cpdef PipeWriteTransport open_write_pipe(loop, pipe, protocol)
@cython.locals(poller=Poller)
cdef _register_pipe(Transport transport)
cdef bint _was_closed(Transport transport) except -1
