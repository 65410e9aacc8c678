cimport cython

from epoll_loop.core.handles cimport Handle
from epoll_loop.core.syscalls cimport Queue

cdef double _NEVER


cdef class TimerHandle(Handle):
    cdef TimerQueue _queue
    cdef public bint _scheduled
    cdef long long _seq
    cdef public double _when


cdef bint _earlier(TimerHandle a, TimerHandle b) noexcept


@cython.final
cdef class TimerQueue:
    cdef Py_ssize_t _dead
    cdef list _heap
    cdef long long _seq

    @cython.locals(timer=TimerHandle)
    cpdef push(self, TimerHandle timer)
    @cython.locals(heap=list)
    cpdef cancelled(self, TimerHandle timer)
    @cython.locals(timer=TimerHandle)
    cpdef double next(self) except? -2
    @cython.locals(timer=TimerHandle)
    cpdef pop_due(self, double now, Queue ready)
    @cython.locals(timer=TimerHandle)
    cpdef clear(self)
    @cython.locals(timer=TimerHandle, heap=list)
    cdef _rebuild(self)
    @cython.locals(heap=list, last=TimerHandle, first=TimerHandle)
    cdef _pop(self)
    @cython.locals(heap=list, timer=TimerHandle, parent=TimerHandle, up=Py_ssize_t)
    cdef _rise(self, Py_ssize_t index)
    @cython.locals(heap=list, size=Py_ssize_t, index=Py_ssize_t, child=Py_ssize_t, lower=TimerHandle, right=TimerHandle)
    cdef _sink(self, TimerHandle timer)
