cimport cython

from epoll_loop.core cimport syscalls
from epoll_loop.core.poller cimport Channel
from epoll_loop.core.reactor cimport Reactor
from epoll_loop.transports.stream cimport StreamTransport

cdef int _BUDGET
cdef int _EAGAIN
cdef double _RETRY


cdef class Listener(Channel):
    cdef int _backlog
    cdef object _context
    cdef bint _exhausted
    cdef object _factory
    cdef object _hold
    cdef Reactor _loop
    cdef object _server
    cdef object _timer
    cdef object _tls
    cdef readonly object sock

    cpdef abandon(self)
    cdef on_ready(self)
    @cython.locals(transport=StreamTransport, fd=int)
    cdef _connect(self, tuple accepted)
    cdef _failed(self, int number)
