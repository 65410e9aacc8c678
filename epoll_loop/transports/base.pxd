cimport cython

from epoll_loop.core cimport syscalls
from epoll_loop.core.poller cimport Channel
from epoll_loop.core.reactor cimport Reactor
from epoll_loop.core.syscalls cimport Link


cdef class Loss(Link):
    cdef object exc
    cdef Transport transport

    cdef turn(self)
    cdef failed(self, exc)


cdef class Transport(Channel):
    cdef dict __dict__
    cdef str _abandoned
    cdef public bint _closing
    cdef public object _context
    cdef public object _extra
    cdef public object _hold
    cdef public Reactor _loop
    cdef public bint _lost
    cdef public bint _paused
    cdef public object _peer
    cdef public object _protocol
    cdef bint _read_ended
    cdef bint _reading
    cdef public object _server
    cdef Py_ssize_t _size
    cdef public object _sock

    cdef _set_up(self, Reactor loop, sock, int fd, peer, context, server)
    cdef _prepare(self)
    cpdef _find_extra(self, name)
    cpdef set_protocol(self, protocol)
    cdef bint _has_input(self)
    cdef _register(self)
    cdef _open(self, protocol)
    cdef _begin(self)
    cpdef close(self)
    cpdef _force_close(self, exc)
    cpdef abandon(self)
    cdef _discard(self)
    @cython.locals(loss=Loss)
    cdef _lose(self, exc)
    cdef _call_connection_lost(self, exc)
    cdef _tell_connection_lost(self, exc)
    @cython.locals(fd=int)
    cpdef _close_fd(self)
    cpdef _fatal_error(self, exc, message)
    cdef _report(self, exc, message)
    cdef _activity(self)


cpdef open_transport(Transport transport, protocol)
cpdef peer_of(sock)
cpdef _oserror(int number)
