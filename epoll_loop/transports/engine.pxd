cimport cython

from epoll_loop.core cimport syscalls

cdef Py_ssize_t _RECORD, _MOST, _RECV_SIZE


cdef class Engine:
    cdef object _error
    cdef object _incoming
    cdef object _outgoing
    cdef Py_ssize_t _sent
    cdef object _sslobj
    cdef bytes _taken
    cdef readonly bint pending
    cdef readonly object ssl_object
    cdef readonly Py_ssize_t unsent

    cdef _reset(self)
    cpdef feed(self, bytes data)
    cpdef precede(self, bytes data)
    cpdef bint handshake(self) except *
    cpdef Py_ssize_t fill(self, sock, int fd) except? -1
    @cython.locals(size=Py_ssize_t)
    cpdef read(self)
    cdef _read_record(self)
    @cython.locals(count=Py_ssize_t)
    cpdef Py_ssize_t read_into(self, buffer) except? -1
    @cython.locals(taken=Py_ssize_t)
    cpdef Py_ssize_t write(self, bytes data, Py_ssize_t offset) except? -1
    @cython.locals(sent=Py_ssize_t)
    cpdef Py_ssize_t flush(self, sock, int fd) except? -1
    cdef _count(self)
    cpdef bint shutdown(self) except *


cdef class Nested(Engine):
    cdef bint _ended
    cdef Engine _inner

    cdef bint _take_in(self) except *
    @cython.locals(count=Py_ssize_t)
    cpdef Py_ssize_t fill(self, sock, int fd) except? -1
    @cython.locals(sent=Py_ssize_t)
    cpdef Py_ssize_t flush(self, sock, int fd) except? -1
    @cython.locals(data=bytes, offset=Py_ssize_t, taken=Py_ssize_t)
    cdef _hand_on(self)
    cdef _count(self)
    cpdef bint shutdown(self) except *
    cdef bint _shut_down_inner(self) except *
