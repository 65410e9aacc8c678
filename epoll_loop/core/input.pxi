# What is received, copied as seldom as can be: the compiled half of `recv()`, `copy_of()` and `InputBuffer`; a part of
# syscalls.pyx.

cdef extern from *:
    """
    #ifdef Py_GIL_DISABLED
    #define epl_room() epl_scratch
    #define epl_received epl_bytes
    #else
    /* To copy much takes longer than all else that we do about it. So recv() has a large bytes object to receive into:
       where much has come it returns that as it is, and where little has come, or while somebody has it, it copies. Who
       keeps it keeps the room behind the bytes as well: of those that are kept, one in EPL_COPIES is such a one. */
    enum { EPL_MUCH = 32768, EPL_COPIES = 64 };
    static PyObject *epl_large;
    static unsigned int epl_copies;

    static inline char *epl_room(void) {
        if (epl_large != NULL && Py_REFCNT(epl_large) == 1)
            return PyBytes_AS_STRING(epl_large);
        return epl_scratch;
    }

    static inline PyObject *epl_received(char *room, Py_ssize_t size) {
        if (size >= EPL_MUCH) {
            if (room != epl_scratch) {
                epl_resize_bytes(epl_large, size);
                return Py_NewRef(epl_large);
            }
            if (epl_copies++ % EPL_COPIES == 0) {
                PyObject *large = PyBytes_FromStringAndSize(NULL, EPL_RECV_SIZE);
                if (large == NULL)
                    return NULL;
                Py_XSETREF(epl_large, large);
            }
        }
        return epl_bytes(room, size);
    }
    #endif

    static inline void epl_cut_view(PyObject *view, Py_ssize_t size) {
        Py_buffer *buffer = PyMemoryView_GET_BUFFER(view);
        buffer->len = size;
        buffer->shape[0] = size;
    }

    /* Nobody else can get at it any more, nor at a part of it. */
    static inline int epl_view_is_free(void *view) {
    #ifdef Py_GIL_DISABLED
        return 0;
    #else
        PyMemoryViewObject *object = (PyMemoryViewObject *) view;
        return epl_unshared((PyObject *) view) && !(object->flags & _Py_MEMORYVIEW_RELEASED) && object->mbuf->exports == 1;
    #endif
    }

    static inline int epl_is_exported(PyObject *bytes) {
        return ((PyByteArrayObject *) bytes)->ob_exports > 0;
    }
    """
    char *epl_room()
    object epl_received(char *room, Py_ssize_t size)
    void epl_cut_view(object view, Py_ssize_t size)
    bint epl_view_is_free(void *view)
    bint epl_is_exported(object array)
    char *PyByteArray_AS_STRING(object array)


cpdef bytes copy_of(object data):
    cdef Py_buffer view
    if type(data) is not memoryview and type(data) is not bytearray:
        return bytes(data)  # a subclass may have a say in it
    PyObject_GetBuffer(data, &view, PyBUF_FULL_RO)
    try:
        if PyBuffer_IsContiguous(&view, b"C"):
            return epl_bytes(<char *> view.buf, view.len)
        return bytes(data)
    finally:
        PyBuffer_Release(&view)


cpdef object recv(object sock, int fd):
    cdef char *room = epl_room()
    cdef Py_ssize_t n = recv_raw(fd, room, EPL_RECV_SIZE)
    return epl_received(room, n) if n >= 0 else n


@cython.final
cdef class InputBuffer:
    # One view of all of it is cut to what has come, again and again: to make one takes as long as to receive.

    def __init__(self):
        self._bytes = bytearray(EPL_RECV_SIZE)
        self._view = memoryview(self._bytes)

    cpdef Py_ssize_t recv(self, object sock, int fd) except? -1:
        return recv_raw(fd, PyByteArray_AS_STRING(self._bytes), EPL_RECV_SIZE)

    cpdef object call1(self, object context, object callback, Py_ssize_t count):
        epl_cut_view(self._view, count)
        try:
            call1(context, callback, self._view)
        finally:
            if not epl_view_is_free(<void *> self._view):  # as an object it would be referred to once more
                self._renew()

    cdef _renew(self):
        try:
            self._view.release()
        except BufferError:
            pass  # an object that uses it keeps it
        if epl_is_exported(self._bytes):
            self._bytes = bytearray(EPL_RECV_SIZE)
        self._view = memoryview(self._bytes)
