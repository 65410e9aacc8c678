cimport cython

from epoll_loop.core cimport syscalls
from epoll_loop.core.queue cimport Link

cdef class Handle(Link):
    cdef object __weakref__
    cdef public object _args
    cdef public object _callback
    cdef public bint _cancelled
    cdef public object _context
    cdef public object _loop
    cdef public object _source_traceback

    cdef turn(self)
    cpdef _run(self)
    cdef _failed(self, exc)
    cpdef list _describe(self)
