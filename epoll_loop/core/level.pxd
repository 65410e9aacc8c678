cimport cython

from epoll_loop.core cimport syscalls
from epoll_loop.core.poller cimport Channel, Poller, SocketWatch, refuse_regular_file

cdef unsigned int _READ, _WRITE


cdef class Level(Poller):
    cdef object _ask
    cdef object _below
    cdef int _fd
    cdef dict _files
    cdef bint _sockets_are_files
    cdef object _waker

    @cython.locals(fd=int, before=Channel)
    cpdef add(self, Channel channel, bint edge)
    cpdef bint modify(self, Channel channel) except -1
    @cython.locals(fd=int, bits="unsigned int", asked=list, channel=Channel)
    cpdef wait(self, double timeout)
    cpdef wake(self)
    @cython.locals(channel=Channel)
    cpdef rebuild(self)
    cpdef after_fork(self)
    cpdef close(self)
    @cython.locals(watch=SocketWatch)
    cdef _displace(self, Channel channel)
    cdef bint _knows(self, int fd) except -1
    cdef _unregister(self, int fd)
