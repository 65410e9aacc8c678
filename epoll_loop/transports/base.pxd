cimport cython

from epoll_loop.core cimport syscalls
from epoll_loop.core.poller cimport Channel
from epoll_loop.core.syscalls cimport Link
from epoll_loop.core.reactor cimport Reactor

cdef Py_ssize_t _FLUSH_AT
cdef Py_ssize_t _HIGH_WATER
cdef int _EAGAIN


cdef class Burst(Link):
    cdef Transport transport

    cdef turn(self)
    cdef interrupted(self)


cdef class Transport(Channel):
    cdef Burst _burst
    cdef public bint _closing
    cdef public object _context
    cdef public bint _eof
    cdef public object _extra
    cdef Py_ssize_t _high
    cdef public Reactor _loop
    cdef public bint _lost
    cdef Py_ssize_t _low
    cdef bytes _first
    cdef public object _hold
    cdef Py_ssize_t _offset
    cdef object _peer
    cdef public object _protocol
    cdef public bint _protocol_paused
    cdef bint _reading
    cdef list _rest
    cdef public object _server
    cdef Py_ssize_t _size
    cdef public object _sock
    cdef bint _unflushed
    cdef int _writes_lost

    @cython.locals(chunk=bytes)
    cpdef write(self, data)
    cpdef _find_extra(self, name)
    cdef _write_lost(self)
    @cython.locals(sent=Py_ssize_t)
    cdef _send(self)
    @cython.locals(whole=Py_ssize_t, rest=list)
    cdef _consume(self, Py_ssize_t sent)
    cdef flush(self)
    cdef _flushed(self)
    cdef _drained(self)
    cdef _shut_down(self)
    cdef _flush_later(self)
    cdef _settle(self)
    cdef _pause_protocol(self)
    cdef _resume_protocol(self)
    cpdef set_protocol(self, protocol)
    cpdef close(self)
    cpdef _force_close(self, exc)
    cdef _lose(self, exc)
    @cython.locals(fd=int)
    cpdef _close_fd(self)
    cdef interrupted(self)
    cpdef _fatal_error(self, exc, message)
    cdef _report(self, exc, message)


cdef _as_bytes(data)
cpdef _oserror(int number)
