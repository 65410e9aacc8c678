cimport cython

from epoll_loop.core.handles cimport Handle


cdef class Channel:
    cdef object __weakref__
    cdef readonly int fd
    cdef unsigned int interest
    cdef readonly bint armed
    cdef bint edge
    cdef readonly bint ended
    cdef bint queued
    cdef readonly bint readable
    cdef readonly bint writable

    cdef on_ready(self)
    cdef flush(self)


cdef class Watch(Channel):
    cdef public Handle reader
    cdef public Handle writer

    @cython.locals(readable=bint, writable=bint)
    cdef on_ready(self)
