# The compiled half of `recv_datagrams()` and its family; a part of syscalls.pyx.

cdef extern from * nogil:
    """
    #include <arpa/inet.h>
    #include <stddef.h>
    #include <sys/un.h>

    enum { EPL_PEERS = 1024 };

    typedef union {
        struct sockaddr any;
        struct sockaddr_in inet;
        struct sockaddr_in6 inet6;
        struct sockaddr_un local;
    } epl_address;

    #if EPL_LINUX
    typedef struct mmsghdr epl_message;

    static int epl_receive(int fd, epl_message *messages, unsigned int count) {
        return recvmmsg(fd, messages, count, 0, NULL);
    }

    static int epl_send(int fd, epl_message *messages, unsigned int count) {
        return sendmmsg(fd, messages, count, MSG_NOSIGNAL);
    }
    #else
    typedef struct { struct msghdr msg_hdr; unsigned int msg_len; } epl_message;

    /* One: an error behind it would be lost, since it can not be kept for the next call. */
    static int epl_receive(int fd, epl_message *messages, unsigned int count) {
        ssize_t size;
        messages->msg_hdr.msg_namelen = sizeof(epl_address);
        size = recvmsg(fd, &messages->msg_hdr, 0);
        messages->msg_len = (unsigned int) size;
        return size < 0 ? -1 : 1;
    }

    static int epl_send(int fd, epl_message *messages, unsigned int count) {
        unsigned int sent = 0;
        while (sent < count && sendmsg(fd, &messages[sent].msg_hdr, MSG_NOSIGNAL) >= 0)
            sent++;
        return sent ? (int) sent : -1;
    }
    #endif

    static unsigned int epl_slot(uint64_t hash) {
        return (unsigned int) (hash * 0x9e3779b97f4a7c15u >> 32) % EPL_PEERS;
    }

    static unsigned int epl_slot_of_address(const epl_address *address, socklen_t size) {
        uint64_t hash = 0, word;
        for (socklen_t i = 0; i < size; i += sizeof word) {
            socklen_t left = size - i < sizeof word ? size - i : sizeof word;
            word = 0;
            memcpy(&word, (const char *) address + i, left);
            hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
            hash ^= hash >> 32;
        }
        return epl_slot(hash);
    }

    static unsigned int epl_slot_of_object(const PyObject *object) {
        return epl_slot((uintptr_t) object);
    }
    """
    enum:
        EPL_LINUX
        EPL_PEERS
        EPL_PATH "offsetof(struct sockaddr_un, sun_path)"
        EPL_PATH_SIZE "(Py_ssize_t) (sizeof(struct sockaddr_un) - offsetof(struct sockaddr_un, sun_path))"
        AF_UNIX

    struct sockaddr_un:
        char *sun_path

    ctypedef union epl_address:
        sockaddr any
        sockaddr_in inet
        sockaddr_in6 inet6
        sockaddr_un local

    ctypedef struct epl_message:
        msghdr msg_hdr
        unsigned int msg_len

    unsigned int epl_slot_of_address(epl_address *address, socklen_t size)
    unsigned int epl_slot_of_object(object value)
    int epl_receive(int fd, epl_message *messages, unsigned int count)
    int epl_send(int fd, epl_message *messages, unsigned int count)
    int inet_pton(int family, const char *text, void *address)
    unsigned short htons(unsigned short value)
    uint32_t htonl(uint32_t value)

CONNECTED = Destination.__new__(Destination)


@cython.final
cdef class Destination:
    """An address in both forms: Python's, and the kernel's. Of size 0: the peer of a connected socket."""
    cdef object address
    cdef epl_address raw
    cdef socklen_t size


# The latest ones, by the kernel's form of a sender, and by the very object: the one that datagram_received() was given,
# or that the program sends to again and again. They are never out of date, since neither form can change.
cdef list by_raw = [None] * EPL_PEERS
cdef list by_object = [None] * EPL_PEERS


cpdef object destination(int family, object address):
    cdef unsigned int slot = epl_slot_of_object(address)
    cdef Destination found = by_object[slot]
    if found is not None and found.address is address and found.raw.any.sa_family == family:
        return found
    found = Destination.__new__(Destination)
    found.address = address
    found.raw.any.sa_family = family
    if family == AF_UNIX:
        found.size = parse_unix(&found.raw.local, address)
    elif type(address) is tuple and len(address) >= 2 and is_int(address[1], 0xFFFF):
        if family == AF_INET:
            found.size = parse_inet(&found.raw.inet, address)
        elif family == AF_INET6:
            found.size = parse_inet6(&found.raw.inet6, address)
    if found.size == 0:
        return None
    by_object[slot] = found
    return found


cdef bint is_int(object value, object limit):
    return type(value) is int and 0 <= value <= limit


cdef bint is_numeric(int family, object host, void *raw):
    if type(host) is not str or not host.isascii() or "\0" in host:
        return False
    return inet_pton(family, (<str> host).encode(), raw) == 1


cdef socklen_t parse_inet(sockaddr_in *raw, tuple address) except? 0:
    if len(address) != 2 or not is_numeric(AF_INET, address[0], &raw.sin_addr):
        return 0
    raw.sin_port = htons(address[1])
    return sizeof(sockaddr_in)


cdef socklen_t parse_inet6(sockaddr_in6 *raw, tuple address) except? 0:
    if len(address) > 4 or not is_numeric(AF_INET6, address[0], &raw.sin6_addr):
        return 0
    raw.sin6_port = htons(address[1])
    if len(address) > 2:
        if not is_int(address[2], 0xFFFFF):
            return 0
        raw.sin6_flowinfo = htonl(address[2])
    if len(address) > 3:
        if not is_int(address[3], 0xFFFFFFFF):
            return 0
        raw.sin6_scope_id = address[3]
    return sizeof(sockaddr_in6)


cdef socklen_t parse_unix(sockaddr_un *raw, object address) except? 0:
    cdef bytes path
    try:
        path = os.fsencode(address) if type(address) is str else address if type(address) is bytes else b""
    except UnicodeError:
        return 0
    if not 0 < len(path) < EPL_PATH_SIZE or (b"\0" in path[1:] and path[0]):
        return 0
    memcpy(raw.sun_path, PyBytes_AS_STRING(path), len(path))
    # A file's name ends with a zero byte, which counts; one in the abstract space only begins with one. See unix(7).
    return EPL_PATH + len(path) + (path[0] != 0)


cdef object sender(epl_address *raw, socklen_t size):
    cdef unsigned int slot
    cdef Destination found
    if size <= EPL_PATH:
        return None  # a Unix socket without a name
    slot = epl_slot_of_address(raw, size)
    found = by_raw[slot]
    if found is not None and found.size == size and memcmp(&found.raw, raw, size) == 0:
        return found.address
    found = Destination.__new__(Destination)
    memcpy(&found.raw, raw, size)
    found.size = size
    if raw.any.sa_family == AF_UNIX:
        found.address = unix_address(&raw.local, size)
    else:
        found.address = inet_address(&raw.inet)
    by_raw[slot] = found
    by_object[epl_slot_of_object(found.address)] = found
    return found.address


cdef object unix_address(sockaddr_un *raw, socklen_t size):
    cdef bytes path = PyBytes_FromStringAndSize(raw.sun_path, size - EPL_PATH)
    return path if path[0] == 0 else os.fsdecode(path.partition(b"\0")[0])


cpdef list recv_datagrams(object sock, int fd, int family):
    cdef epl_message messages[EPL_DATAGRAMS]
    cdef iovec vectors[EPL_DATAGRAMS]
    cdef epl_address names[EPL_DATAGRAMS]
    cdef list found = [], chunks
    cdef int i, n
    if family not in (AF_INET, AF_INET6, AF_UNIX):
        return recv_each(sock)
    memset(messages, 0, sizeof(messages))
    for i in range(EPL_DATAGRAMS):
        vectors[i].iov_base = epl_datagrams[i]
        vectors[i].iov_len = EPL_DATAGRAM_SIZE
        messages[i].msg_hdr.msg_iov = &vectors[i]
        messages[i].msg_hdr.msg_iovlen = 1
        messages[i].msg_hdr.msg_name = &names[i]
        messages[i].msg_hdr.msg_namelen = sizeof(epl_address)
    while len(found) < EPL_DATAGRAMS:
        n = epl_receive(fd, messages, EPL_DATAGRAMS - len(found))
        if n >= 0:
            chunks = []
            # The bytes of all of them first: all else may run the garbage collector, and that a finalizer, in which
            # another thread's loop uses the same buffers.
            for i in range(n):
                chunks.append(epl_bytes(epl_datagrams[i], messages[i].msg_len))
            for i in range(n):
                found.append((chunks[i], sender(&names[i], messages[i].msg_hdr.msg_namelen)))
            if EPL_LINUX:
                break
        elif errno == EAGAIN:
            break
        elif errno != EINTR:
            found.append(OSError(errno, os.strerror(errno)))
    return found


cdef list recv_each(object sock):
    # A family that is rarer than these, whose addresses are the socket module's business.
    cdef list found = []
    while len(found) < EPL_DATAGRAMS:
        try:
            found.append(sock.recvfrom(EPL_DATAGRAM_SIZE))
        except BlockingIOError:
            break
        except OSError as exc:
            found.append(exc.with_traceback(None))
    return found


cpdef Py_ssize_t send_datagrams(object sock, int fd, list datagrams, list destinations) except -1:
    cdef epl_message messages[EPL_DATAGRAMS]
    cdef iovec vectors[EPL_DATAGRAMS]
    cdef int i, n, count = min(len(datagrams), EPL_DATAGRAMS)
    cdef bytes data
    cdef Destination to
    for i in range(count):
        if type(destinations[i]) is not Destination:
            count = i
            break
        data = datagrams[i]
        to = destinations[i]
        vectors[i].iov_base = PyBytes_AS_STRING(data)
        vectors[i].iov_len = PyBytes_GET_SIZE(data)
        memset(&messages[i], 0, sizeof(messages[i]))
        messages[i].msg_hdr.msg_iov = &vectors[i]
        messages[i].msg_hdr.msg_iovlen = 1
        if to.size:
            messages[i].msg_hdr.msg_name = &to.raw
            messages[i].msg_hdr.msg_namelen = to.size
    if count == 0:
        return send_one(sock, datagrams[0], destinations[0])
    while True:
        n = epl_send(fd, messages, count)
        if n >= 0:
            return n
        if errno == EAGAIN:
            return 0
        if errno != EINTR:
            raise OSError(errno, os.strerror(errno))


cdef Py_ssize_t send_one(object sock, bytes data, object address) except -1:
    try:
        sock.sendto(data, address)
        return 1
    except BlockingIOError:
        return 0
