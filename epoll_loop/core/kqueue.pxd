cimport cython

from epoll_loop.core cimport syscalls
from epoll_loop.core.poller cimport Channel, Poller, SocketWatch, refuse_regular_file

cdef unsigned int _READ, _WRITE, _ALL
cdef int _FILTER_READ, _ADD, _EDGE, _EOF, _RECEIPT


cdef class Kqueue(Poller):
    cdef int _fd
    cdef bint _postponed
    cdef object _set
    cdef object _waker

    @cython.locals(fd=int, before=Channel)
    cpdef add(self, Channel channel, bint edge)
    @cython.locals(codes=list, fd=int, left=list, missing=tuple, there=list, unwanted=tuple, wanted=tuple)
    cpdef bint modify(self, Channel channel) except -1
    @cython.locals(size=int, fd=int, events=list, channels=list, channel=Channel)
    cpdef wait(self, double timeout)
    cpdef wake(self)
    @cython.locals(channel=Channel, gone=list, known=bint)
    cpdef rebuild(self)
    cpdef after_fork(self)
    cpdef close(self)
    cdef _displace(self, SocketWatch watch)
    cdef bint _knows(self, int fd) except -1
    cdef _unregister(self, int fd)


cdef list _change(queue, int fd, int flags, tuple filters)
cdef _register(queue, Channel channel, tuple filters)
cdef tuple _filters_of(Channel channel)
@cython.locals(codes=list, i=int)
cdef list _known(queue, int fd)
