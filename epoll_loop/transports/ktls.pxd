cimport cython

from epoll_loop.core cimport syscalls
from epoll_loop.transports.engine cimport Engine

cdef int _EAGAIN
cdef Py_ssize_t _RECORD, _RECV_SIZE


cdef class KernelEngine(Engine):
    cdef bint _goodbye
    cdef bint _ready
    cdef object _sock

    cpdef bint handshake(self) except *
    @cython.locals(chunks=list, size=Py_ssize_t)
    cpdef Py_ssize_t fill(self, sock, int fd) except? -1
    cpdef read(self)
    @cython.locals(count=Py_ssize_t, data=bytes)
    cpdef Py_ssize_t read_into(self, buffer) except? -1
    cpdef Py_ssize_t write(self, bytes data, Py_ssize_t offset) except? -1
    cpdef bint shutdown(self) except *


cdef Py_ssize_t _count_of(exc) except? -1
cdef _clear(exc)
