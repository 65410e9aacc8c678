cimport cython

from epoll_loop.core.poller cimport Channel, Poller, SocketWatch
from epoll_loop.core.syscalls cimport EpollSet, Event

cdef unsigned int _READ, _WRITE, _END
cdef unsigned int _EDGE, _IN, _OUT, _READABLE, _WRITABLE, _ENDED
cdef int _DATA


cdef class Epoll(Poller):
    cdef bint _postponed
    cdef EpollSet _set
    cdef int _waker
    cdef object _waker_lock

    @cython.locals(before=Channel, displaced=Channel, unsure=bint)
    cpdef add(self, Channel channel, bint edge)
    cpdef bint modify(self, Channel channel) except -1
    @cython.locals(count=int, i=int, size=int, fd=int, stale=int, mask=int, events="Event *", channels=list, channel=Channel, current=EpollSet)
    cpdef wait(self, double timeout)
    cpdef wake(self)
    @cython.locals(channel=Channel, gone=list, new=EpollSet, old=EpollSet, mask="unsigned int")
    cpdef rebuild(self)
    cpdef after_fork(self)
    cpdef close(self)
    cdef bint _displace(self, SocketWatch watch) except -1
    cdef bint _let_go(self, int fd) except -1
    cdef _unregister(self, int fd)


@cython.locals(mask="unsigned int")
cdef unsigned int _mask_of(Channel channel) noexcept
@cython.locals(bits="unsigned int")
cdef unsigned int _bits_of(unsigned int mask) noexcept
