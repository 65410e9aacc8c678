cimport cython

from epoll_loop.core.epoll cimport Epoll
from epoll_loop.core.handles cimport Handle
from epoll_loop.core.poller cimport Channel, Watch
from epoll_loop.core.timers cimport TimerHandle, TimerQueue


cdef class Reactor:
    cdef object __weakref__
    cdef bint _asleep
    cdef list _batch
    cdef list _carried
    cdef public bint _closed
    cdef public bint _debug
    cdef object _incoming
    cdef public Epoll _poller
    cdef public list _ready
    cdef public bint _stopping
    cdef public object _task_factory
    cdef public object _thread_id
    cdef public TimerQueue _timers
    cdef bint _torn
    cdef public list _unflushed
    cdef public double slow_callback_duration

    @cython.locals(timer=TimerHandle)
    cdef TimerHandle _schedule(self, double when, object callback, tuple args, object context)
    @cython.locals(watch=Watch, old=Handle)
    cpdef _run(self)
    @cython.locals(active=list)
    cdef _run_once(self)
    @cython.locals(timeout=double, deadline=double)
    cdef _sleep(self, list active)
    @cython.locals(channel=Channel, started=double)
    cdef _dispatch(self, list active)
    cdef _timers_due(self)
    @cython.locals(handle=Handle, ready=list, started=double)
    cdef _run_ready(self)
    @cython.locals(channel=Channel, unflushed=list)
    cdef _flush(self)
    cpdef _flush_all(self)
    cpdef _forget(self)
    cpdef carry_over(self, Channel channel)
    cdef Watch _watched(self, object fd)
    cdef Watch _foreign(self, object fd)
    cdef _arm(self, Watch watch, unsigned int interest, Handle old)
    cdef _disarm(self, Watch watch, unsigned int interest)
