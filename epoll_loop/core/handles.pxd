cimport cython

from epoll_loop.core cimport syscalls
from epoll_loop.core.syscalls cimport Link

cdef int _MOST_SPARES
cdef Handle _spare
cdef int _spares


cdef class Handle(Link):
    cdef object __weakref__
    cdef public object _args
    cdef public object _callback
    cdef public bint _cancelled
    cdef public object _context
    cdef public object _loop
    cdef public object _source_traceback

    cdef turn(self)
    cdef recycle(self)
    cpdef _run(self)
    cdef failed(self, exc)
    cpdef list _describe(self)


@cython.locals(handle=Handle)
cpdef Handle new_handle(callback, tuple args, loop, context)
