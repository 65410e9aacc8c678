from epoll_loop.core cimport syscalls
from epoll_loop.core.syscalls cimport Link
from epoll_loop.transports.base cimport Transport

cdef Py_ssize_t _HIGH_WATER


cdef class Burst(Link):
    cdef WriteTransport transport

    cdef turn(self)
    cdef interrupted(self)


cdef class WriteTransport(Transport):
    cdef Burst _burst
    cdef public object _empty_waiter
    cdef public bint _eof
    cdef Py_ssize_t _high
    cdef Py_ssize_t _low
    cdef bint _more
    cdef public bint _protocol_paused
    cdef bint _unflushed
    cdef int _writes_lost

    cdef _prepare(self)
    cdef _settle(self)
    cdef _write_lost(self)
    cdef _send(self)
    cdef flush(self)
    cdef _flushed(self)
    cdef _drained(self)
    cdef _shut_down(self)
    cpdef _make_empty_waiter(self, bint blocked=*)
    cdef _wake(self, exc)
    cdef _lose(self, exc)
    cdef _call_connection_lost(self, exc)
    cdef _flush_later(self)
    cdef _pause_protocol(self)
    cdef _resume_protocol(self)
    cdef interrupted(self)
