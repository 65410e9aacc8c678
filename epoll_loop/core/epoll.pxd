cimport cython

from epoll_loop.core.poller cimport Channel, SocketWatch
from epoll_loop.core.syscalls cimport EpollSet, Event, Queue

cdef unsigned int _EDGE
cdef int _DATA


@cython.final
cdef class Epoll:
    cdef list _channels
    cdef set _kept
    cdef EpollSet _set
    cdef int _waker
    cdef object _waker_lock
    cdef Queue active
    cdef public bint forked
    cdef public int stale

    @cython.locals(fd=int, before=Channel, displaced=Channel, unsure=bint)
    cpdef add(self, Channel channel, bint edge)
    cpdef keep(self, Channel channel)
    cpdef bint modify(self, Channel channel)
    cpdef remove(self, Channel channel)
    cpdef adopt(self, Channel new, Channel old)
    @cython.locals(count=int, i=int, size=int, fd=int, stale=int, mask=int, events="Event *", channels=list, channel=Channel, current=EpollSet)
    cpdef wait(self, double timeout)
    cpdef wake(self)
    @cython.locals(channel=Channel, new=EpollSet, old=EpollSet, mask="unsigned int")
    cpdef rebuild(self)
    @cython.locals(channel=Channel)
    cpdef recover(self)
    cpdef after_fork(self)
    @cython.locals(channel=Channel)
    cpdef close(self)
    cpdef list channels(self)
    cpdef Channel lookup(self, int fd)
    cdef _forget(self, Channel channel)
    cdef bint _displace(self, SocketWatch watch) except -1
    cdef _unregister(self, int fd)
