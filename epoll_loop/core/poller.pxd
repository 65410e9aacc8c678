cimport cython

from epoll_loop.core.handles cimport Handle
from epoll_loop.core.syscalls cimport Link, Queue

cdef unsigned int _ENDED, _READABLE, _WRITABLE


cdef class Channel(Link):
    cdef object __weakref__
    cdef readonly int fd
    cdef unsigned int interest
    cdef readonly bint armed
    cdef bint edge
    cdef Queue queue
    cdef bint queued
    cdef readonly bint ended
    cdef readonly bint readable
    cdef readonly bint writable

    cdef mark(self, unsigned int mask)
    cdef carry_over(self)
    cdef turn(self)
    cdef on_ready(self)
    cpdef abandon(self)


cdef class Watch(Channel):
    cdef public Handle reader
    cdef public Handle writer

    @cython.locals(readable=bint, writable=bint, reader=Handle, writer=Handle)
    cdef on_ready(self)


cdef class SocketWatch(Channel):
    cdef readonly object owner
    cdef list readers
    cdef list writers

    @cython.locals(futures=list)
    cdef wait(self, future, bint writing)
    @cython.locals(futures=list)
    cdef on_ready(self)
    cpdef wake(self)
    cpdef abandon(self)


cdef _wake(list futures)
