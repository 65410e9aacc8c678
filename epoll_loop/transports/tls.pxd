cimport cython

from epoll_loop.core cimport syscalls
from epoll_loop.core.syscalls cimport Link, Queue
from epoll_loop.transports.base cimport Transport, peer_of
from epoll_loop.transports.engine cimport Engine, Nested
from epoll_loop.transports.flow cimport WriteTransport
from epoll_loop.transports.ktls cimport KernelEngine
from epoll_loop.transports.stream cimport StreamTransport, take
from epoll_loop.transports.writer cimport ByteWriter

cdef Py_ssize_t _BATCH, _RECORD, _RECV_SIZE
cdef int _BUDGET, _EAGAIN


cdef class TLS:
    cdef readonly object context
    cdef readonly object engine
    cdef readonly object handshake_timeout
    cdef readonly bint in_kernel
    cdef readonly object server_hostname
    cdef readonly bint server_side
    cdef readonly object shutdown_timeout

    cdef Engine new_engine(self, sock)


cdef class Handshakes(Link):
    cdef Queue _ready
    cdef bint _scheduled
    cdef object _waiting

    cdef append(self, TLSTransport transport)
    cdef _schedule(self)
    @cython.locals(transport=TLSTransport)
    cdef turn(self)
    cdef failed(self, exc)
    cdef interrupted(self)


cdef class TLSTransport(StreamTransport):
    cdef Engine _engine
    cdef bint _established
    cdef bint _goodbye
    cdef bint _greeting
    cdef Py_ssize_t _held
    cdef bint _peer_ended
    cdef double _took
    cdef bint _stalled
    cdef object _timer
    cdef TLS _tls
    cdef bint _upgraded
    cdef object _waiter

    cdef _begin(self)
    @cython.locals(handshakes=Handshakes)
    cdef _greet(self)
    @cython.locals(complete=bint)
    cdef _shake_hands(self)
    cdef _handshake_complete(self)
    cdef _handshake_failed(self, exc)
    cpdef _handshake_timed_out(self)
    cdef _say_what_is_wrong(self)
    cdef bint _has_input(self)
    cdef turn(self)
    @cython.locals(count=Py_ssize_t)
    cdef bint _fill(self) except *
    @cython.locals(engine=Engine)
    cdef _read(self)
    @cython.locals(engine=Engine, count=Py_ssize_t)
    cdef _read_into(self)
    cdef _reading_failed(self, exc)
    cdef _was_read(self)
    cdef _end_of_stream(self)
    cpdef write(self, data)
    cdef bint _takes(self) except -1
    @cython.locals(engine=Engine, queued=Py_ssize_t, sent=Py_ssize_t, taken=Py_ssize_t)
    cdef _send(self)
    @cython.locals(chunk=bytes, chunks=list, count=Py_ssize_t, first=bytes, rest=list, size=Py_ssize_t)
    cdef _put_together(self)
    cdef _account(self)
    cdef _drained(self)
    cdef _discard(self)
    cpdef close(self)
    cdef _say_goodbye(self)
    cdef _await_goodbye(self)
    cdef _finish(self)
    cpdef _shutdown_timed_out(self)
    cdef _cancel_timer(self)
    cdef _lose(self, exc)
    cdef _tell_connection_lost(self, exc)
    cpdef _find_extra(self, name)
    cdef _activity(self)


@cython.locals(transport=TLSTransport)
cpdef TLSTransport open_tls(loop, sock, protocol, bint borrowed, TLS tls, waiter)
cpdef TLSTransport accept_tls(loop, sock, int fd, peer, context, server, TLS tls)
@cython.locals(engine=Engine, new=TLSTransport, secured=TLSTransport)
cpdef TLSTransport start_tls(StreamTransport old, protocol, TLS tls, waiter, bytes received)
