# Where the kernel puts what it has received, and what threads share; a part of syscalls.pyx.
#
# With a GIL all loops use the same memory: the GIL is held from recv(2) until the bytes are copied out. Without one each
# thread has its own, until its end. All else of a loop is its thread's alone, but for `call_soon_threadsafe()`.

cdef extern from * nogil:
    """
    /* Only the pages that are touched cost memory. The odd distance keeps the beginnings of the datagrams from sharing
       the same lines of the processor's caches. */
    enum { EPL_RECV_SIZE = 262144, EPL_DATAGRAM_SIZE = 262144, EPL_DATAGRAMS = 32 };
    typedef struct {
        char stream[EPL_RECV_SIZE];
        char datagrams[EPL_DATAGRAMS][EPL_DATAGRAM_SIZE + 4096 + 64];
    } epl_buffers;

    #ifdef Py_GIL_DISABLED
    #include <pthread.h>
    #include <stdlib.h>

    static pthread_key_t epl_key;
    static pthread_once_t epl_once = PTHREAD_ONCE_INIT;

    static void epl_make_key(void) {
        pthread_key_create(&epl_key, free);
    }

    static epl_buffers *epl_own_buffers(void) {
        epl_buffers *own;
        pthread_once(&epl_once, epl_make_key);
        own = (epl_buffers *) pthread_getspecific(epl_key);
        if (own == NULL) {
            own = (epl_buffers *) malloc(sizeof(epl_buffers));  /* if there is none, the kernel says EFAULT */
            pthread_setspecific(epl_key, own);
        }
        return own;
    }

    #define epl_scratch (epl_own_buffers()->stream)
    #define epl_datagrams (epl_own_buffers()->datagrams)
    #else
    static epl_buffers epl_shared;
    #define epl_scratch (epl_shared.stream)
    #define epl_datagrams (epl_shared.datagrams)
    #endif

    #ifdef Py_GIL_DISABLED
    #define epl_bytes PyBytes_FromStringAndSize
    #else
    /* malloc() is at its slowest for sizes just beyond its caches, and a request is of that size. So a few of the bytes
       objects that recv() has returned are remembered, and one that nobody else refers to any more is filled again. */
    enum { EPL_SPARE = 64, EPL_SPARE_LEAST = 512, EPL_SPARE_MOST = 8192 };
    static struct { PyObject *bytes; Py_ssize_t capacity; } epl_spares[EPL_SPARE];
    static unsigned int epl_spare;

    /* Of one that only we refer to, and within its room. */
    static inline void epl_resize_bytes(PyObject *bytes, Py_ssize_t size) {
        Py_SET_SIZE((PyVarObject *) bytes, size);
    #pragma GCC diagnostic push
    #pragma GCC diagnostic ignored "-Wdeprecated-declarations"
        ((PyBytesObject *) bytes)->ob_shash = -1;
    #pragma GCC diagnostic pop
        PyBytes_AS_STRING(bytes)[size] = 0;
    }

    static inline PyObject *epl_bytes(const char *data, Py_ssize_t size) {
        if (size >= EPL_SPARE_LEAST && size <= EPL_SPARE_MOST) {
            unsigned int i = epl_spare++ % EPL_SPARE;
            PyObject *bytes = epl_spares[i].bytes;
            if (bytes != NULL && Py_REFCNT(bytes) == 1
                    && epl_spares[i].capacity >= size && epl_spares[i].capacity <= 2 * size) {
                memcpy(PyBytes_AS_STRING(bytes), data, size);
                epl_resize_bytes(bytes, size);
            }
            else {
                bytes = PyBytes_FromStringAndSize(data, size);
                if (bytes == NULL)
                    return NULL;
                Py_XSETREF(epl_spares[i].bytes, bytes);
                epl_spares[i].capacity = size;
            }
            return Py_NewRef(bytes);
        }
        return PyBytes_FromStringAndSize(data, size);
    }
    #endif
    """
    enum:
        EPL_RECV_SIZE
        EPL_DATAGRAM_SIZE
        EPL_DATAGRAMS

    char *epl_scratch
    char epl_datagrams[EPL_DATAGRAMS][EPL_DATAGRAM_SIZE]

    object epl_bytes(const char *data, Py_ssize_t size)

RECV_SIZE = EPL_RECV_SIZE
DATAGRAM_SIZE = EPL_DATAGRAM_SIZE
DATAGRAMS = EPL_DATAGRAMS
COUNTS_REFERENCES = not sysconfig.get_config_var("Py_GIL_DISABLED")


cdef object bytes_of(const char *data, Py_ssize_t size):
    return epl_bytes(data, size)
