cimport cython


cdef class Link:
    cdef Link next

    cdef turn(self)
    cdef failed(self, exc)
    cdef interrupted(self)


@cython.final
cdef class Queue:
    cdef Link _head
    cdef Link _tail
    cdef Py_ssize_t size

    cdef append(self, Link link)
    @cython.locals(link=Link)
    cdef Link pop(self)
    cdef clear(self)
