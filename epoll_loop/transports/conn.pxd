cimport cython

from epoll_loop.transports.stream cimport StreamTransport
from epoll_loop.transports.writer cimport ByteWriter, _as_bytes


cpdef tuple parts_of(out, name)


cdef class Conn:
    cdef object __weakref__
    cdef object _data
    cdef bint _detaching
    cdef object _error
    cdef object _framed
    cdef bint _lends
    cdef object _pre_write
    cdef public object _server
    cdef StreamTransport _transport
    cdef Py_ssize_t _taken
    cdef Py_ssize_t _went
    cdef Py_ssize_t _written
    cdef readonly int address_index
    cdef public object context
    cdef public int idle
    cdef public int stuck

    cpdef connection_made(self, StreamTransport transport)
    cpdef data_received(self, data)
    cdef _tell(self, name, callback)
    @cython.locals(transport=StreamTransport)
    cdef _failed(self, name, exc)
    cpdef eof_received(self)
    cpdef pause_writing(self)
    @cython.locals(rest=bint)
    cpdef resume_writing(self)
    cdef bint _takes(self)
    cpdef connection_lost(self, exc)
    cpdef answer(self, out, name)
    @cython.locals(chunk=bytes, transport=StreamTransport)
    cpdef write(self, data)
    @cython.locals(transport=StreamTransport)
    cpdef write_eof(self)
    cpdef _woken(self)
    @cython.locals(transport=StreamTransport)
    cpdef detach(self)
    @cython.locals(transport=StreamTransport)
    cdef _detach(self)
    @cython.locals(transport=StreamTransport)
    cpdef bint is_open(self)
    cdef StreamTransport _open(self)
