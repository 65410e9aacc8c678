cimport cython

from epoll_loop.core cimport syscalls
from epoll_loop.core.handles cimport Handle, new_handle
from epoll_loop.core.poller cimport Channel, Poller, SocketWatch, Watch
from epoll_loop.core.syscalls cimport Link, Queue
from epoll_loop.core.timers cimport TimerHandle, TimerQueue

cdef double _LONGEST_SLEEP
cdef double _NEVER
cdef bint _RECYCLES
cdef double _ROUNDING


cdef class Reactor:
    cdef object __weakref__
    cdef bint _asleep
    cdef object _clock
    cdef public bint _debug
    cdef object _incoming
    cdef public Poller _poller
    cdef readonly Queue _ready
    cdef bint _sent
    cdef public bint _stopping
    cdef public object _task_factory
    cdef public object _thread_id
    cdef public TimerQueue _timers
    cdef bint _torn
    cdef Queue _unflushed
    cdef public bint _usable
    cdef bint _usual_clock
    cdef public double slow_callback_duration

    cpdef _choose_clock(self)
    cdef double _now(self) except? -1
    @cython.locals(timer=TimerHandle)
    cdef TimerHandle _schedule(self, double when, object callback, tuple args, object context)
    @cython.locals(first=bint)
    cpdef _run(self)
    @cython.locals(poller=Poller, active=Queue, ready=Queue, unflushed=Queue)
    cdef _run_once(self, bint first=*)
    @cython.locals(timeout=double, deadline=double)
    cdef _sleep(self)
    @cython.locals(count=Py_ssize_t, debug=bint, link=Link, poller=Poller, started=double)
    cdef _turns(self, Queue queue)
    cdef _receive(self)
    cpdef _flush_all(self)
    @cython.locals(link=Link)
    cpdef _drop_callbacks(self)
    cpdef _last_turns(self)
    cpdef _forget(self)
    cdef Watch _watched_by(self, object fd)
    cdef Watch _watched(self, int fd)
    @cython.locals(channel=Channel, watch=SocketWatch)
    cdef SocketWatch _find_watch(self, sock)
    @cython.locals(fd=int, watch=SocketWatch)
    cdef _next_event(self, sock, bint write)
    @cython.locals(watch=Watch)
    cdef Watch _arm(self, int fd, unsigned int interest)
    cdef _disarm(self, Watch watch, unsigned int interest)
