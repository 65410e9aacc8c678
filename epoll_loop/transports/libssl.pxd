from epoll_loop.core cimport syscalls
from epoll_loop.transports.engine cimport Engine

cdef extern from *:
    ctypedef struct SSL
    ctypedef struct Wire


cdef class DirectEngine(Engine):
    cdef SSL *_ssl
    cdef Wire *_wire

    cdef _take_over(self)
    cdef Py_ssize_t _decrypt(self, char *buffer, Py_ssize_t room) except? -1
    cdef bint _more(self) noexcept
