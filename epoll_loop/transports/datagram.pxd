cimport cython

from epoll_loop.core cimport syscalls
from epoll_loop.transports.base cimport Transport, open_transport, peer_of
from epoll_loop.transports.flow cimport WriteTransport
from epoll_loop.transports.writer cimport _as_bytes

cdef int _AF_UNIX
cdef Py_ssize_t _BATCH
cdef Py_ssize_t _FLUSH_AT
cdef Py_ssize_t _HEADER
cdef double _FIRST_RETRY
cdef double _LAST_RETRY


cdef class DatagramTransport(WriteTransport):
    cdef public object _address
    cdef list _batch
    cdef list _datagrams
    cdef bint _deaf
    cdef double _delay
    cdef list _destinations
    cdef list _errors
    cdef int _family
    cdef object _received
    cdef object _timer

    cdef turn(self)
    @cython.locals(batch=list, more=bint)
    cdef _receive(self)
    cdef failed(self, exc)
    cdef interrupted(self)
    cpdef set_protocol(self, protocol)
    @cython.locals(chunk=bytes)
    cpdef sendto(self, data, addr=*)
    @cython.locals(sent=Py_ssize_t)
    cdef _send(self)
    @cython.locals(errors=list)
    cdef flush(self)
    @cython.locals(data=bytes)
    cdef _consume(self, Py_ssize_t sent)
    cdef _discard(self)
    cdef _blocked(self)


@cython.locals(transport=DatagramTransport)
cpdef DatagramTransport open_datagrams(loop, sock, protocol, address, bint borrowed)
