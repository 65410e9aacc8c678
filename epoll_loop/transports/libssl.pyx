"""The direct engine: the functions of the libssl that `_ssl` has loaded, called without Python in between.

Context, handshake and everything that is asked of a connection stay the standard library's. After the handshake the
`SSL *` of its object gets another BIO, and SSL_read(3) and SSL_write(3) do the rest.

No second OpenSSL ever comes in: the functions are looked up in what the process has loaded for `_ssl`. `prove()` tells
whether all that this relies on is true here. It is called once, before the first connection.

The BIO reads what recv(2) has just put into a buffer that all connections share, and writes into another one, for the
next send(2). Only what is left over is kept with the connection. Some callbacks of OpenSSL (the key log) release the
GIL, so the buffers have an owner, and who does not get them uses memory of its own. Without a GIL each thread has its
own buffers.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdlib cimport free
from libc.string cimport memmove

import _ssl
import ssl

from epoll_loop.transports.engine import RECORD

cdef extern from * nogil:
    """
    #include <dlfcn.h>
    #include <stdlib.h>
    #include <string.h>

    typedef struct ssl_st SSL;
    typedef struct ssl_ctx_st SSL_CTX;
    typedef struct bio_st BIO;
    typedef struct bio_method_st BIO_METHOD;

    #define EPL_FUNCTIONS(F) \\
        F(int, SSL_read, (SSL *, void *, int)) \\
        F(int, SSL_write, (SSL *, const void *, int)) \\
        F(int, SSL_pending, (const SSL *)) \\
        F(int, SSL_shutdown, (SSL *)) \\
        F(int, SSL_want, (const SSL *)) \\
        F(int, SSL_in_init, (const SSL *)) \\
        F(int, SSL_get_shutdown, (const SSL *)) \\
        F(const char *, SSL_get_version, (const SSL *)) \\
        F(const char *, OpenSSL_version, (int)) \\
        F(SSL_CTX *, SSL_get_SSL_CTX, (const SSL *)) \\
        F(BIO *, SSL_get_rbio, (const SSL *)) \\
        F(BIO *, SSL_get_wbio, (const SSL *)) \\
        F(void, SSL_set_bio, (SSL *, BIO *, BIO *)) \\
        F(void, ERR_clear_error, (void)) \\
        F(unsigned long, ERR_peek_last_error, (void)) \\
        F(const char *, ERR_reason_error_string, (unsigned long)) \\
        F(const char *, ERR_lib_error_string, (unsigned long)) \\
        F(int, BIO_get_new_index, (void)) \\
        F(BIO_METHOD *, BIO_meth_new, (int, const char *)) \\
        F(int, BIO_meth_set_read, (BIO_METHOD *, int (*)(BIO *, char *, int))) \\
        F(int, BIO_meth_set_write, (BIO_METHOD *, int (*)(BIO *, const char *, int))) \\
        F(int, BIO_meth_set_ctrl, (BIO_METHOD *, long (*)(BIO *, int, long, void *))) \\
        F(int, BIO_meth_set_destroy, (BIO_METHOD *, int (*)(BIO *))) \\
        F(BIO *, BIO_new, (const BIO_METHOD *)) \\
        F(void, BIO_set_data, (BIO *, void *)) \\
        F(void *, BIO_get_data, (BIO *)) \\
        F(void, BIO_set_init, (BIO *, int)) \\
        F(void, BIO_set_flags, (BIO *, int)) \\
        F(void, BIO_clear_flags, (BIO *, int))

    #define EPL_POINTER(type, name, args) static type (*epl_##name) args;
    EPL_FUNCTIONS(EPL_POINTER)

    enum {
        EPL_CTRL_FLUSH = 11, EPL_READ_AGAIN = 0x01 | 0x08, EPL_AGAIN = 0x0f,  /* bio.h */
        EPL_TYPE_SOURCE_SINK = 0x0400, EPL_READING = 3, EPL_RECEIVED_SHUTDOWN = 2,  /* bio.h, ssl.h */
        EPL_IN = 262144, EPL_OUT = 262144, EPL_PLAIN = 262144 + 16384
    };

    /* What a connection has beside its SSL: all that OpenSSL calls us back for is in here. */
    typedef struct Wire {
        const char *in;             /* ciphertext that was not read yet: in epl_in, or in `kept` */
        size_t in_size;
        char *kept;                 /* NULL while it is in epl_in, or there is none */
        char *out;                  /* ciphertext that was not sent yet: behind `out_sent`, of `out_size` bytes */
        size_t out_sent, out_size, out_room;
        int failed;                 /* there was no memory for it */
        unsigned long long number;  /* never used again, unlike its address: another thread may free it */
    } Wire;

    #ifdef Py_GIL_DISABLED
    #include <stdatomic.h>
    #define EPL_THREAD static _Thread_local
    static atomic_ullong epl_last;
    #else
    #define EPL_THREAD static
    static unsigned long long epl_last;
    #endif

    EPL_THREAD char epl_in[EPL_IN], epl_out[EPL_OUT], epl_plain[EPL_PLAIN];
    EPL_THREAD size_t epl_out_size; /* bytes of the owner's in epl_out, behind what `out` has */
    EPL_THREAD unsigned long long epl_owner;
    static BIO_METHOD *epl_method;

    static inline int epl_owns(const Wire *wire) {
        return epl_owner == wire->number;
    }

    static inline int epl_own(const Wire *wire) {
        if (epl_owner == 0) {
            epl_owner = wire->number;
            epl_out_size = 0;
        }
        return epl_owns(wire);
    }

    static int epl_keep(Wire *wire, const char *data, size_t size) {
        if (wire->out_sent > 0 && wire->out_size + size > wire->out_room) {  /* a slow reader: it may never be empty */
            wire->out_size -= wire->out_sent;
            memmove(wire->out, wire->out + wire->out_sent, wire->out_size);
            wire->out_sent = 0;
        }
        if (wire->out_size + size > wire->out_room) {
            size_t room = 2 * (wire->out_size + size);
            char *out = (char *) realloc(wire->out, room);
            if (out == NULL) {
                wire->failed = 1;
                return 0;
            }
            wire->out = out;
            wire->out_room = room;
        }
        memcpy(wire->out + wire->out_size, data, size);
        wire->out_size += size;
        return 1;
    }

    /* Have these bytes as the ones to be read next, in the connection's own memory. */
    static int epl_receive(Wire *wire, const char *data, size_t size) {
        char *kept = (char *) malloc(size);
        if (kept == NULL) {
            wire->failed = 1;
            wire->in_size = 0;
            return 0;
        }
        memcpy(kept, data, size);
        free(wire->kept);
        wire->in = wire->kept = kept;
        wire->in_size = size;
        return 1;
    }

    /* Give the shared buffers back. What is in use of them moves to the connection's own memory. */
    static void epl_disown(Wire *wire) {
        if (!epl_owns(wire))
            return;
        if (wire->in_size > 0 && wire->kept == NULL)
            epl_receive(wire, wire->in, wire->in_size);
        if (epl_out_size > 0)
            epl_keep(wire, epl_out, epl_out_size);
        epl_out_size = 0;
        epl_owner = 0;
    }

    static int epl_bio_read(BIO *bio, char *data, int size) {
        Wire *wire = (Wire *) epl_BIO_get_data(bio);
        epl_BIO_clear_flags(bio, EPL_AGAIN);
        if (size <= 0)
            return 0;
        if (wire == NULL || wire->in_size == 0) {
            epl_BIO_set_flags(bio, EPL_READ_AGAIN);
            return -1;
        }
        if ((size_t) size > wire->in_size)
            size = (int) wire->in_size;
        memcpy(data, wire->in, size);
        wire->in += size;
        wire->in_size -= size;
        if (wire->in_size == 0) {
            free(wire->kept);
            wire->kept = NULL;
        }
        return size;
    }

    static int epl_bio_write(BIO *bio, const char *data, int size) {
        Wire *wire = (Wire *) epl_BIO_get_data(bio);
        epl_BIO_clear_flags(bio, EPL_AGAIN);
        if (wire == NULL || size < 0)
            return -1;
        if (epl_owns(wire) && epl_out_size + size <= EPL_OUT) {
            memcpy(epl_out + epl_out_size, data, size);
            epl_out_size += size;
            return size;
        }
        if (epl_owns(wire) && epl_out_size > 0) {  /* in order */
            if (!epl_keep(wire, epl_out, epl_out_size))
                return -1;
            epl_out_size = 0;
        }
        return epl_keep(wire, data, size) ? size : -1;
    }

    static long epl_bio_ctrl(BIO *bio, int command, long number, void *pointer) {
        return command == EPL_CTRL_FLUSH;
    }

    static int epl_bio_destroy(BIO *bio) {
        Wire *wire = (Wire *) epl_BIO_get_data(bio);
        if (wire != NULL) {
            if (epl_owns(wire))
                epl_owner = 0;
            free(wire->kept);
            free(wire->out);
            free(wire);
        }
        return 1;
    }

    /* Find the functions; the name of the first one that is not there, or NULL. */
    static const char *epl_find(const char *file) {
        void *found = dlopen(file, RTLD_LAZY | RTLD_NOLOAD);
        if (found == NULL)
            return "dlopen";
    #define EPL_FIND(type, name, args) \\
        if ((*(void **) &epl_##name = dlsym(found, #name)) == NULL) \\
            return #name;
        EPL_FUNCTIONS(EPL_FIND)
        epl_method = epl_BIO_meth_new(epl_BIO_get_new_index() | EPL_TYPE_SOURCE_SINK, "epoll_loop");
        if (epl_method == NULL)
            return "BIO_METHOD";
        epl_BIO_meth_set_read(epl_method, epl_bio_read);
        epl_BIO_meth_set_write(epl_method, epl_bio_write);
        epl_BIO_meth_set_ctrl(epl_method, epl_bio_ctrl);
        epl_BIO_meth_set_destroy(epl_method, epl_bio_destroy);
        return NULL;
    }

    static BIO *epl_bio_new(Wire **made) {
        Wire *wire = (Wire *) calloc(1, sizeof(Wire));
        BIO *bio = wire == NULL ? NULL : epl_BIO_new(epl_method);
        if (bio == NULL)
            free(wire);
        else {
            wire->number = ++epl_last;
            epl_BIO_set_data(bio, wire);
            epl_BIO_set_init(bio, 1);
            *made = wire;
        }
        return bio;
    }

    /* How the objects of `_ssl` begin, from Python 3.11 to 3.15: prove() looks whether it is so. */
    typedef struct { PyObject_HEAD PyObject *socket; SSL *ssl; PyObject *ctx; } EplSSLSocket;
    typedef struct { PyObject_HEAD SSL_CTX *ctx; } EplSSLContext;
    typedef struct { PyObject_HEAD BIO *bio; } EplMemoryBIO;
    """
    ctypedef struct PyObject
    ctypedef struct SSL_CTX
    ctypedef struct BIO
    ctypedef struct SSL

    enum:
        EPL_IN
        EPL_OUT
        EPL_PLAIN
        EPL_READING
        EPL_RECEIVED_SHUTDOWN

    ctypedef struct Wire:
        const char *received "in"
        size_t in_size
        char *kept
        char *out
        size_t out_sent
        size_t out_size
        size_t out_room
        int failed

    char *epl_in
    char *epl_out
    char *epl_plain
    size_t epl_out_size

    bint epl_owns(const Wire *wire)
    bint epl_own(const Wire *wire)
    void epl_disown(Wire *wire)
    int epl_keep(Wire *wire, const char *data, size_t size)
    int epl_receive(Wire *wire, const char *data, size_t size)
    const char *epl_find(const char *file)
    BIO *epl_bio_new(Wire **made)

    int SSL_read "epl_SSL_read"(SSL *, void *buffer, int size)
    int SSL_write "epl_SSL_write"(SSL *, const void *buffer, int size)
    int SSL_pending "epl_SSL_pending"(const SSL *)
    int SSL_shutdown "epl_SSL_shutdown"(SSL *)
    int SSL_want "epl_SSL_want"(const SSL *)
    int SSL_in_init "epl_SSL_in_init"(const SSL *)
    int SSL_get_shutdown "epl_SSL_get_shutdown"(const SSL *)
    const char *SSL_get_version "epl_SSL_get_version"(const SSL *)
    const char *OpenSSL_version "epl_OpenSSL_version"(int what)
    SSL_CTX *SSL_get_SSL_CTX "epl_SSL_get_SSL_CTX"(const SSL *)
    BIO *SSL_get_rbio "epl_SSL_get_rbio"(const SSL *)
    BIO *SSL_get_wbio "epl_SSL_get_wbio"(const SSL *)
    void SSL_set_bio "epl_SSL_set_bio"(SSL *, BIO *read, BIO *write)
    void ERR_clear_error "epl_ERR_clear_error"()
    unsigned long ERR_peek_last_error "epl_ERR_peek_last_error"()
    const char *ERR_reason_error_string "epl_ERR_reason_error_string"(unsigned long code)
    const char *ERR_lib_error_string "epl_ERR_lib_error_string"(unsigned long code)

    ctypedef struct EplSSLSocket:
        PyObject *socket
        SSL *ssl
        PyObject *ctx

    ctypedef struct EplSSLContext:
        SSL_CTX *ctx

    ctypedef struct EplMemoryBIO:
        BIO *bio

cdef type _SSLSocket = _ssl._SSLSocket
cdef Py_ssize_t _RECORD = RECORD


cdef class DirectEngine(Engine):
    """TLS by SSL_read(3) and SSL_write(3), once the handshake is over."""

    cpdef feed(self, bytes data):
        if self._wire is NULL:
            Engine.feed(self, data)
            return
        before = PyBytes_FromStringAndSize(self._wire.received, self._wire.in_size)
        data = before + data
        if not epl_receive(self._wire, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)):
            raise MemoryError
        self.pending = True

    cpdef bint handshake(self) except *:
        if not Engine.handshake(self):
            return False
        self._take_over()
        return True

    cdef _take_over(self):
        """Put our BIO in the place of the standard library's. If this is not the object that we know, leave it."""
        cdef Wire *wire = NULL
        cdef SSL *found
        cdef BIO *bio
        cdef bytes data
        if type(self._sslobj) is not _SSLSocket:
            return
        found = (<EplSSLSocket *> self._sslobj).ssl
        if (
            SSL_get_rbio(found) != (<EplMemoryBIO *> self._incoming).bio
            or SSL_get_wbio(found) != (<EplMemoryBIO *> self._outgoing).bio
        ):
            return
        bio = epl_bio_new(&wire)
        if bio is NULL:
            raise MemoryError
        received = self._incoming.read()
        waiting = self._outgoing.read()
        if self._taken is not None:
            waiting = self._taken[self._sent :] + waiting
        SSL_set_bio(found, bio, bio)  # which owns it from now on, and it the wire
        self._ssl = found
        self._wire = wire
        self._incoming = self._outgoing = self._taken = None
        if received:
            self.feed(received)
        data = waiting
        if data and not epl_keep(wire, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)):
            raise MemoryError
        self._count()
        self.pending = self._more()

    cpdef Py_ssize_t fill(self, sock, int fd) except? -1:
        cdef Wire *wire = self._wire
        cdef Py_ssize_t count
        cdef bytes data
        if wire is NULL:
            return Engine.fill(self, sock, fd)
        if wire.in_size:
            return wire.in_size
        if epl_own(wire):
            count = syscalls.recv_raw(fd, epl_in, EPL_IN)
            if count > 0:
                wire.received = epl_in
                wire.in_size = count
            else:
                epl_disown(wire)
        else:
            received = syscalls.recv(sock, fd)
            if isinstance(received, int):
                return received
            data = received
            count = PyBytes_GET_SIZE(data)
            if count and not epl_receive(wire, PyBytes_AS_STRING(data), count):
                raise MemoryError
        self.pending = count > 0
        return count

    cpdef read(self):
        cdef Wire *wire = self._wire
        cdef Py_ssize_t size = 0
        if wire is NULL:
            return Engine.read(self)
        if self._error is not None:
            exc, self._error = self._error, None
            raise exc
        if not epl_own(wire):
            data = PyBytes_FromStringAndSize(NULL, _RECORD)
            size = self._decrypt(PyBytes_AS_STRING(data), _RECORD)
            return None if size < 0 else data[:size]
        try:
            size = self._decrypt(epl_plain, EPL_PLAIN)
            return None if size < 0 else syscalls.bytes_of(epl_plain, size)
        finally:
            epl_disown(wire)

    cpdef Py_ssize_t read_into(self, buffer) except? -1:
        cdef Py_buffer view
        if self._wire is NULL:
            return Engine.read_into(self, buffer)
        if self._error is not None:
            exc, self._error = self._error, None
            raise exc
        try:
            PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
            try:
                return self._decrypt(<char *> view.buf, view.len)
            finally:
                PyBuffer_Release(&view)
        finally:
            epl_disown(self._wire)

    cdef Py_ssize_t _decrypt(self, char *buffer, Py_ssize_t room) except? -1:
        """As many records as there are and as fit: their size, 0 for the goodbye, -1 if there is none."""
        cdef int result = 1
        cdef Py_ssize_t size = 0
        while size < room:
            result = SSL_read(self._ssl, buffer + size, <int> min(room - size, 1 << 30))
            if result <= 0:
                break
            size += result
            if not self._more():
                break
        self._count()
        self.pending = self._more()
        if result > 0:
            return size
        # Not SSL_get_error(3), for which the thread's queue of errors would have to be cleared before each call.
        if SSL_want(self._ssl) == EPL_READING:
            self.pending = False
            return size if size else -1
        # So does a fatal alert look, but for its error.
        if SSL_get_shutdown(self._ssl) & EPL_RECEIVED_SHUTDOWN and not (SSL_in_init(self._ssl) and ERR_peek_last_error()):
            self.pending = size > 0  # it is said again
            return size
        exc = exception()
        if not size:
            raise exc
        self._error = exc
        self.pending = True
        return size

    cdef bint _more(self) noexcept:
        return self._wire.in_size > 0 or SSL_pending(self._ssl) > 0

    cpdef Py_ssize_t write(self, bytes data, Py_ssize_t offset) except? -1:
        cdef int taken
        if self._wire is NULL:
            return Engine.write(self, data, offset)
        epl_own(self._wire)
        taken = SSL_write(
            self._ssl, PyBytes_AS_STRING(data) + offset, <int> min(PyBytes_GET_SIZE(data) - offset, _RECORD)
        )
        if taken <= 0:
            epl_disown(self._wire)  # there may be nothing to flush
        self._count()
        if taken > 0:
            return taken
        if SSL_want(self._ssl) == EPL_READING:
            return 0
        raise exception()

    cpdef Py_ssize_t flush(self, sock, int fd) except? -1:
        cdef Wire *wire = self._wire
        cdef Py_ssize_t sent
        if wire is NULL:
            return Engine.flush(self, sock, fd)
        if wire.out_size:
            epl_disown(wire)
            sent = syscalls.send_raw(fd, wire.out + wire.out_sent, wire.out_size - wire.out_sent)
            if sent > 0:
                wire.out_sent += sent
                if wire.out_sent == wire.out_size:
                    free(wire.out)
                    wire.out = NULL
                    wire.out_sent = wire.out_size = wire.out_room = 0
        elif epl_owns(wire):
            sent = syscalls.send_raw(fd, epl_out, epl_out_size)
            if sent > 0:
                forget(sent)
            epl_disown(wire)  # which keeps what the kernel did not take
        else:
            sent = 0
        self._count()
        return sent

    cdef _count(self):
        cdef Wire *wire = self._wire
        if wire is NULL:
            Engine._count(self)
            return
        self.unsent = wire.out_size - wire.out_sent
        if epl_owns(wire):
            self.unsent += epl_out_size
        if wire.failed:
            raise MemoryError

    cpdef bint shutdown(self) except *:
        cdef int result
        if self._wire is NULL:
            return Engine.shutdown(self)
        result = SSL_shutdown(self._ssl)
        if result == 0:
            result = SSL_shutdown(self._ssl)  # ours is said; now the peer's
        self.pending = self._more()
        if self.pending or (epl_owns(self._wire) and epl_out_size == 0):
            epl_disown(self._wire)
        self._count()
        if result > 0:
            return True
        if SSL_want(self._ssl) == EPL_READING:
            return False
        epl_disown(self._wire)
        raise exception()


cdef object exception():
    """What the standard library would raise for the error that OpenSSL has just left."""
    cdef unsigned long code = ERR_peek_last_error()
    if not code:
        return ssl.SSLError(ssl.SSL_ERROR_SYSCALL, "A failure in the SSL library occurred")
    library = text_of(ERR_lib_error_string(code)).removesuffix(" routines").upper()
    reason = text_of(ERR_reason_error_string(code))
    name = reason.upper().replace(" ", "_")
    ERR_clear_error()
    kind = ssl.SSLCertVerificationError if name == "CERTIFICATE_VERIFY_FAILED" else ssl.SSLError
    exc = kind(ssl.SSL_ERROR_SSL, f"[{library}: {name}] {reason}")
    exc.library = library
    exc.reason = name
    return exc


cdef void forget(size_t sent) noexcept:
    global epl_out_size
    epl_out_size -= sent
    memmove(epl_out, epl_out + sent, epl_out_size)


cdef str text_of(const char *text):
    return "unknown" if text is NULL else text.decode("ascii", "replace")


# The proof


def prove() -> str:
    """Return "" if all that the direct engine relies on holds, or else what does not."""
    cdef const char *missing
    file = getattr(_ssl, "__file__", None)
    if file is None:
        return "OpenSSL is a part of the interpreter"
    missing = epl_find(file.encode())
    if missing is not NULL:
        return f"{text_of(missing)} is not there"
    if text_of(OpenSSL_version(0)) != ssl.OPENSSL_VERSION:
        return f"another OpenSSL: {text_of(OpenSSL_version(0))}"
    try:
        return prove_in_memory()
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"


cdef str prove_in_memory():
    """A handshake without certificates, and a byte each way through both engines."""
    server_context = anonymous(ssl.PROTOCOL_TLS_SERVER)
    client_context = anonymous(ssl.PROTOCOL_TLS_CLIENT)
    cdef DirectEngine server = DirectEngine(server_context, True, None)
    cdef Engine client = Engine(client_context, False, None)
    for engine, context in ((server, server_context), (client, client_context)):
        wrong = unlike(engine, context)
        if wrong:
            return wrong
    done = greeted = False
    for _ in range(8):
        greeted = greeted or client.handshake()
        server.feed(client._outgoing.read())
        if not done:
            done = server.handshake()
        client.feed(server._outgoing.read() if server._outgoing is not None else take(server))
        if done and greeted:
            break
    if not done or not greeted or server._wire is NULL:
        return "the handshake does not end"
    if text_of(SSL_get_version(server._ssl)) != server.ssl_object.version():
        return "the SSL * is another one"
    message = b"?" * (RECORD + 1)
    if client.write(message, 0) != len(message):
        return "the client does not write"
    server.feed(client._outgoing.read())
    if server.read() != message or server.pending or server.read() is not None:
        return "SSL_read() gets something else"
    if server.write(b"!", 0) != 1:
        return "SSL_write() does not write"
    if server.shutdown():
        return "SSL_shutdown() has heard of the peer"
    client.feed(take(server))
    if client.read() != b"!" or client.read() != b"" or not client.shutdown():
        return "the client gets something else"
    server.feed(client._outgoing.read())
    if server.read() != b"" or not server.shutdown():
        return "SSL_shutdown() has not heard of the peer"
    return ""


cdef object anonymous(int protocol):
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("aNULL:@SECLEVEL=0")
    return context


cdef str unlike(Engine engine, object context):
    """Compare the objects of `_ssl` with the structs above, from the outside in: no pointer is followed on trust."""
    cdef EplSSLSocket *sslobj = <EplSSLSocket *> engine._sslobj
    cdef size_t needed = sizeof(EplSSLSocket)
    if type(engine._sslobj) is not _SSLSocket or <size_t> _SSLSocket.__basicsize__ < needed:
        return "ssl.SSLObject is made of something else"
    if sslobj.socket is not NULL or sslobj.ssl is NULL or sslobj.ctx != <PyObject *> context:
        return "_ssl._SSLSocket is laid out differently"
    if SSL_get_SSL_CTX(sslobj.ssl) != (<EplSSLContext *> context).ctx:
        return "ssl.SSLContext is laid out differently"
    if (
        SSL_get_rbio(sslobj.ssl) != (<EplMemoryBIO *> engine._incoming).bio
        or SSL_get_wbio(sslobj.ssl) != (<EplMemoryBIO *> engine._outgoing).bio
    ):
        return "ssl.MemoryBIO is laid out differently"
    return ""


cdef bytes take(DirectEngine engine):
    """What it has to send."""
    cdef Wire *wire = engine._wire
    cdef bytes data
    epl_disown(wire)
    data = PyBytes_FromStringAndSize(wire.out + wire.out_sent, wire.out_size - wire.out_sent)
    wire.out_sent = wire.out_size
    engine._count()
    return data
