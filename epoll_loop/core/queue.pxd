cimport cython


cdef class Link:
    cdef Link next

    cdef turn(self)
    cdef interrupted(self)


@cython.final
cdef class Queue:
    cdef Link head
    cdef Link tail

    cdef append(self, Link link)
    @cython.locals(link=Link)
    cdef Link pop(self)
    cdef clear(self)
