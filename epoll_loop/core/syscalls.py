"""Every call into the kernel and into the C API, and the queue: the pure build's half of the one pair written twice.

`syscalls.pyx` is the other half, with the same names. Both take a socket object and its descriptor: this half uses the
object, the compiled one the descriptor (its accepted connections have no object until somebody asks for one). A call
that moves bytes returns their number, or `-errno`; an errno is an answer here and not an exception.
"""

from __future__ import annotations

import collections
import errno
import functools
import os
import select
import socket
import sysconfig
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from typing import Any

__all__ = [
    "CONNECTED",
    "COUNTS_REFERENCES",
    "DATAGRAMS",
    "EpollSet",
    "InputBuffer",
    "Link",
    "Queue",
    "accept",
    "address",
    "call",
    "call0",
    "call1",
    "call2",
    "check_signals",
    "close",
    "copy_context",
    "copy_of",
    "destination",
    "fileno",
    "has_input",
    "has_room",
    "hung_up",
    "monotonic",
    "read",
    "recv",
    "recv_datagrams",
    "recv_into",
    "send",
    "send_datagrams",
    "sendmsg",
    "socket_of",
    "try_recv",
    "try_recv_into",
    "try_send",
    "without_dict",
    "write",
    "writev",
]

# One recv() takes at most this much; when it has taken that much, more may be waiting. For larger buffers than this
# malloc() maps fresh pages, and faults them in.
RECV_SIZE = 65536
MAX_EVENTS = 1024
IOV_MAX = 1024
# select(2) has microseconds where epoll_wait(2) has milliseconds; longer waits do not notice the difference.
FINE_WAIT = 0.1
FD_SETSIZE = 1024
# Whether unshared() can tell.
COUNTS_REFERENCES = False

_Socket = socket.socket
_DONTWAIT = getattr(socket, "MSG_DONTWAIT", 0)  # where it is not there, nothing can be tried on a blocking socket
_POLLIN, _POLLOUT = getattr(select, "POLLIN", 1), getattr(select, "POLLOUT", 4)
_AF_UNIX = getattr(socket, "AF_UNIX", -1)

# Not time.monotonic() itself: what stops the clock for a test looks for that, and would stop the loop's timers.
if hasattr(time, "clock_gettime"):
    monotonic = functools.partial(time.clock_gettime, time.CLOCK_MONOTONIC)
else:
    monotonic = functools.partial(time.monotonic)
call2 = Context.run
call1 = Context.run
call0 = Context.run
copy_of = bytes  # of what is bytes-like
pending = len  # the number of links in a queue


def call(context: Context, callback: Callable[..., Any], args: Sequence[Any]) -> Any:
    """Return `callback(*args)`, run in `context`."""
    try:
        return context.run(callback, *args)
    finally:
        # A traceback keeps the frames below it, and so a failed task would keep itself alive.
        del callback, args


def check_signals() -> None:
    """Run the handlers of signals that have come: what is compiled would not, before it sleeps."""


def unshared(value: object) -> bool:
    """Return True if only the caller refers to an object; without `COUNTS_REFERENCES` it can't be told."""
    return False


if sysconfig.get_config_var("Py_GIL_DISABLED"):
    _gate = threading.RLock()  # a signal handler may come through in between

    def fence() -> None:
        """Have other threads see what was written before this, before anything is read after it; see membarrier(2)."""
        with _gate:
            pass

else:

    def fence() -> None:
        """Nothing, since threads take turns."""


def without_dict(value: object) -> None:
    """Free the empty `__dict__` of a new object; one is made when an attribute is assigned."""


def _minus(exc: OSError) -> int:
    # Windows has a number of its own for EAGAIN.
    return -(errno.EAGAIN if isinstance(exc, BlockingIOError) else exc.errno or errno.EIO)


def recv(sock: socket.socket, fd: int) -> bytes | int:
    """recv(2): what has come, at most `RECV_SIZE` bytes; b"" at the end of the stream; -errno."""
    try:
        return sock.recv(RECV_SIZE)
    except OSError as exc:
        return _minus(exc)


def recv_into(sock: socket.socket, fd: int, buffer: Any) -> int:
    """recv(2) into a writable buffer: the number of bytes, 0 at the end of the stream, or -errno."""
    try:
        return sock.recv_into(buffer)
    except OSError as exc:
        return _minus(exc)


def send(sock: socket.socket, fd: int, data: bytes, offset: int) -> int:
    """send(2) of `data` without its first `offset` bytes: the number of bytes taken, or -errno."""
    try:
        return sock.send(memoryview(data)[offset:] if offset else data)
    except OSError as exc:
        return _minus(exc)


def sendmsg(sock: socket.socket, fd: int, first: bytes, offset: int, rest: list[bytes]) -> int:
    """sendmsg(2) of `first` without its first `offset` bytes and of `rest`, as many as fit. See `send()`."""
    if not hasattr(sock, "sendmsg"):  # Windows
        return send(sock, fd, b"".join((first, *rest)), offset)
    try:
        return sock.sendmsg([memoryview(first)[offset:], *rest[: IOV_MAX - 1]])
    except OSError as exc:
        return _minus(exc)


def read(fd: int) -> bytes | int:
    """read(2): what has come, at most `RECV_SIZE` bytes; b"" at the end; -errno."""
    try:
        return os.read(fd, RECV_SIZE)
    except OSError as exc:
        return _minus(exc)


def has_input(fd: int) -> bool:
    """Return True if a read would not block: there is data, the end or an error. See poll(2)."""
    return _shows(fd, _POLLIN)


def has_room(fd: int) -> bool:
    """Return True if a write would not block, as far as poll(2) knows."""
    return _shows(fd, _POLLOUT)


def hung_up(fd: int) -> bool:
    """Return True if the other end is gone, as poll(2) has it: POLLERR or POLLHUP."""
    return _shows(fd, 0)


def _shows(fd: int, event: int) -> bool:
    if not hasattr(select, "poll"):  # Windows
        readers = (fd,) if event == _POLLIN else ()
        writers = (fd,) if event == _POLLOUT else ()
        return any(select.select(readers, writers, (fd,), 0))
    poll = select.poll()
    poll.register(fd, event)
    return bool(poll.poll(0))


def write(fd: int, data: bytes, offset: int) -> int:
    """write(2) of `data` without its first `offset` bytes: the number of bytes taken, or -errno."""
    try:
        return os.write(fd, memoryview(data)[offset:] if offset else data)
    except OSError as exc:
        return _minus(exc)


def writev(fd: int, first: bytes, offset: int, rest: list[bytes]) -> int:
    """writev(2) of `first` without its first `offset` bytes and of `rest`, as many as fit. See `write()`."""
    try:
        return os.writev(fd, [memoryview(first)[offset:], *rest[: IOV_MAX - 1]])
    except OSError as exc:
        return _minus(exc)


def accept(sock: socket.socket, fd: int) -> tuple[socket.socket | None, int, Any] | int:
    """accept(2): (socket, descriptor, peer), non-blocking and not inheritable; or -errno.

    The socket is None where `socket_of()` makes it on demand, and `address()` turns the peer into Python's form.
    """
    try:
        connection, peer = sock.accept()
    except OSError as exc:
        return _minus(exc)
    connection.setblocking(False)
    return connection, connection.fileno(), peer


def address(peer: Any) -> Any:
    """Return the address that `accept()` reported in the form of the `socket` module."""
    return peer


def socket_of(fd: int, peer: Any) -> socket.socket:
    """Return a socket object that owns an accepted descriptor."""
    return socket.socket(fileno=fd)


def _would_wait(sock: socket.socket) -> bool:
    # With a timeout Python waits before it tries, whatever the flags say.
    return bool(sock.timeout) and not has_input(sock.fileno())


def fileno(sock: Any) -> int:
    """Return `sock.fileno()`; -1 once it is closed."""
    return sock.fileno()  # type: ignore[no-any-return]


def try_recv(sock: Any, size: int) -> bytes | None:
    """Return `sock.recv(size)` of a socket of somebody else's, None if nothing has come. OSError."""
    try:
        # A blocking socket must not stop the loop. What only looks like a socket may know no flags.
        if type(sock) is _Socket:
            return None if _would_wait(sock) else sock.recv(size, _DONTWAIT)
        return sock.recv(size)  # type: ignore[no-any-return]
    except (BlockingIOError, InterruptedError):
        return None


def try_recv_into(sock: Any, buffer: Any) -> int | None:
    """Return `sock.recv_into(buffer)`; see `try_recv()`."""
    try:
        if type(sock) is _Socket:
            return None if _would_wait(sock) else sock.recv_into(buffer, 0, _DONTWAIT)
        return sock.recv_into(buffer)  # type: ignore[no-any-return]
    except (BlockingIOError, InterruptedError):
        return None


def try_send(sock: Any, data: Any) -> int | None:
    """Return `sock.send(data)`, None if the kernel takes nothing now; see `try_recv()`."""
    try:
        if type(sock) is _Socket:
            return None if sock.timeout and not has_room(sock.fileno()) else sock.send(data, _DONTWAIT)
        return sock.send(data)  # type: ignore[no-any-return]
    except (BlockingIOError, InterruptedError):
        return None


# The most datagrams that one call receives or sends, and the size that longer ones are cut to, which is asyncio's.
DATAGRAMS = 32
DATAGRAM_SIZE = 262144
# The destination of what a connected socket sends.
CONNECTED: Any = object()

UNIX_PATH_MAX = 108

_LIMITS = (0xFFFF, 0xFFFFF, 0xFFFFFFFF)  # port, flow label, scope id


class _Scratch(threading.local):
    """Where a datagram is received: other threads run in the middle of that."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(DATAGRAM_SIZE))


_scratch = _Scratch()


def recv_datagrams(sock: socket.socket, fd: int, family: int) -> list[tuple[bytes, Any] | OSError]:
    """recvmmsg(2): what has come, (datagram, address of the sender) each; less than `DATAGRAMS` if that was all.

    An error that the kernel reports, for an earlier datagram perhaps, is one of them.
    """
    found: list[tuple[bytes, Any] | OSError] = []
    view = _scratch.view
    while len(found) < DATAGRAMS:
        try:
            # Into one buffer: for a new one malloc() would map fresh pages.
            count, address = sock.recvfrom_into(view)
            found.append((bytes(view[:count]), address))
        except BlockingIOError:
            break
        except OSError as exc:
            found.append(exc.with_traceback(None))  # no cycle through this frame
    return found


def destination(family: int, address: Any) -> Any:
    """Return an address in the form that `send_datagrams()` sends without delay; None if that is not sure.

    It is not, if the name of a host has to be looked up, or if something is wrong with it.
    """
    if family == _AF_UNIX:
        known = _is_path(address)
    elif type(address) is tuple and 2 <= len(address) <= (4 if family == socket.AF_INET6 else 2):
        known = _is_numeric(family, address[0]) and all(map(_is_int, address[1:], _LIMITS))
    else:
        known = False
    return address if known else None


def _is_path(path: Any) -> bool:
    try:
        return isinstance(path, (str, bytes)) and 0 < len(os.fsencode(path)) < UNIX_PATH_MAX
    except UnicodeError:
        return False


def _is_int(value: Any, limit: int) -> bool:
    return type(value) is int and 0 <= value <= limit


def _is_numeric(family: int, host: Any) -> bool:
    return type(host) is str and _is_literal(family, host)


@functools.lru_cache(1024)
def _is_literal(family: int, host: str) -> bool:
    try:
        socket.inet_pton(family, host)
        return "\0" not in host  # where PyPy's stops reading
    except (OSError, ValueError):
        return False


def send_datagrams(sock: socket.socket, fd: int, datagrams: list[bytes], destinations: list[Any]) -> int:
    """sendmmsg(2): the number of datagrams that were taken, the first of the list; 0 if there is no room for one.

    Each has its `destination()`, or any other address, or `CONNECTED` where the socket is connected. Raises what is
    wrong with the first one, as `socket.sendto()` does.
    """
    count = min(len(datagrams), DATAGRAMS)
    for i in range(count):
        try:
            if destinations[i] is CONNECTED:
                sock.send(datagrams[i])
            else:
                sock.sendto(datagrams[i], destinations[i])
        except BlockingIOError:
            return i
        except Exception:
            if not i:
                raise
            return i  # the next call begins with this one, and says so
    return count


def close(sock: socket.socket | None, fd: int) -> None:
    """close(2)."""
    if sock is not None:
        sock.close()
    else:
        os.close(fd)


class InputBuffer:
    """What is received into again and again.

    `call1()` lends it as a memoryview, for the time of a callback. If that was kept it is released then; if parts of it
    were, or something that has the memory of it, they keep that, and other memory is received into from then on.
    """

    __slots__ = ("_bytes",)

    def __init__(self) -> None:
        self._bytes = bytearray(RECV_SIZE)

    def recv(self, sock: socket.socket, fd: int) -> int:
        """recv(2), at most `RECV_SIZE` bytes: how many, 0 at the end of the stream, or -errno."""
        return recv_into(sock, fd, self._bytes)

    def call1(self, context: Context, callback: Callable[..., Any], count: int) -> None:
        """Call `callback(view)`, run in `context`, with so many bytes of what was received."""
        whole = memoryview(self._bytes)
        view = whole[:count]
        try:
            context.run(callback, view)
        finally:
            try:
                view.release()
                whole.release()
                self._bytes.append(0)  # which can not be done while somebody has it
                self._bytes.pop()
            except BufferError:
                self._bytes = bytearray(RECV_SIZE)


class Link:
    """Something that waits in a queue for its turn; in one queue at most, and once."""

    __slots__ = ()

    def turn(self) -> None:
        """Do what there is to do; called when it has just left the queue."""

    def failed(self, exc: BaseException) -> None:
        """Deal with an exception that came out of `turn()`."""
        raise exc

    def interrupted(self) -> None:
        """Note that KeyboardInterrupt or SystemExit came out of `turn()`, in the middle of it."""

    def recycle(self) -> None:
        """Be used again, perhaps: the queue was the last to know of it."""


# First in, first out: append(), popleft(), clear(). The compiled one is a chain through the links: no allocation.
Queue = collections.deque


class EpollSet:
    """An epoll(7) set, and in `events` the (descriptor, mask) pairs that the last `wait()` found."""

    __slots__ = ("_epoll", "events")

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.events: list[tuple[int, int]] = []

    def add(self, fd: int, mask: int) -> None:
        self._epoll.register(fd, mask)

    def modify(self, fd: int, mask: int) -> None:
        self._epoll.modify(fd, mask)

    def remove(self, fd: int) -> None:
        self._epoll.unregister(fd)

    def wait(self, timeout: float) -> int:
        """Block for at most `timeout` seconds (for ever if negative) and return the number of events.

        Never early: the timeout is rounded up to what the kernel counts in. A signal handler may raise.
        """
        if 0 < timeout < FINE_WAIT and self._epoll.fileno() < FD_SETSIZE:
            select.select((self._epoll,), (), (), timeout)
            timeout = 0
        self.events = self._epoll.poll(timeout, MAX_EVENTS)
        return len(self.events)

    def close(self) -> None:
        self._epoll.close()

    def fileno(self) -> int:
        return self._epoll.fileno()
