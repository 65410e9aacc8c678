cimport cython

from epoll_loop.core cimport syscalls
from epoll_loop.transports.base cimport _oserror
from epoll_loop.transports.flow cimport WriteTransport

cdef Py_ssize_t _FLUSH_AT
cdef int _EAGAIN


cdef class ByteWriter(WriteTransport):
    cdef bytes _first
    cdef Py_ssize_t _offset
    cdef list _rest

    cdef _prepare(self)
    @cython.locals(chunk=bytes)
    cpdef write(self, data)
    cdef bint _takes(self) except -1
    cdef _append(self, bytes chunk)
    @cython.locals(sent=Py_ssize_t)
    cdef _send(self)
    cdef Py_ssize_t _transfer(self) except? -1
    cdef _write_failed(self, int number)
    @cython.locals(whole=Py_ssize_t, rest=list)
    cdef _consume(self, Py_ssize_t sent)
    cdef _discard(self)


cpdef bytes _as_bytes(data)
