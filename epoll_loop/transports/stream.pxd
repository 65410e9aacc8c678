cimport cython

from epoll_loop.core cimport syscalls
from epoll_loop.core.poller cimport SocketWatch
from epoll_loop.core.syscalls cimport InputBuffer
from epoll_loop.transports.base cimport Transport, open_transport, peer_of
from epoll_loop.transports.writer cimport ByteWriter

cdef int _EAGAIN
cdef Py_ssize_t _RECV_SIZE


cdef class StreamTransport(ByteWriter):
    cdef bint _buffered
    cdef readonly object _heir
    cdef InputBuffer _input
    cdef object _received

    @cython.locals(chunk=bytes)
    cdef turn(self)
    @cython.locals(size=Py_ssize_t, count=Py_ssize_t)
    cdef _read_into(self)
    @cython.locals(count=Py_ssize_t)
    cdef _read_input(self, InputBuffer buffer)
    cdef failed(self, exc)
    cdef _read_failed(self, int number)
    cdef _end_of_stream(self)
    cpdef set_protocol(self, protocol)
    cpdef close(self)
    cdef _write_lost(self)
    cdef bytes _unsent(self)
    cdef _hand_over(self, StreamTransport heir)
    cdef _socket(self)
    @cython.locals(watch=SocketWatch)
    cdef _register(self)


@cython.locals(transport=StreamTransport)
cpdef StreamTransport open_stream(loop, sock, protocol, bint borrowed)
cpdef take(StreamTransport transport, sock, protocol, bint borrowed)
