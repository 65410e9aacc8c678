cimport cython

from epoll_loop.core.handles cimport Handle
from epoll_loop.core.syscalls cimport Link, Queue

cdef unsigned int _READ, _WRITE, _END


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

    cdef mark(self, unsigned int bits)
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


cdef class Poller:
    cdef list _channels
    cdef set _kept
    cdef Queue active
    cdef public bint forked
    cdef public int stale

    cpdef add(self, Channel channel, bint edge)
    cpdef keep(self, Channel channel)
    cpdef bint modify(self, Channel channel) except -1
    cpdef remove(self, Channel channel)
    cpdef adopt(self, Channel new, Channel old)
    cpdef wait(self, double timeout)
    cpdef wake(self)
    cpdef rebuild(self)
    @cython.locals(channel=Channel)
    cpdef recover(self)
    cpdef after_fork(self)
    @cython.locals(channel=Channel)
    cpdef close(self)
    cpdef list channels(self)
    cpdef Channel lookup(self, int fd)
    @cython.locals(fd=int, displaced=Channel)
    cdef Channel _enlist(self, Channel channel)
    cdef _forget(self, Channel channel)
    cdef _unregister(self, int fd)


cpdef refuse_regular_file(int fd)
