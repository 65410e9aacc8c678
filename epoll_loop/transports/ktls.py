"""TLS in the kernel: the engine of connections whose context has `ssl.OP_ENABLE_KTLS`, where the kernel offers it.

OpenSSL hands the keys to the kernel when the handshake is over, if it reads from and writes to the socket itself. So
here `fill()` brings plaintext, `write()` sends, and there is never anything to flush. What the kernel does not do (a
cipher, one of the directions), OpenSSL goes on doing. See the kernel's Documentation/networking/tls.rst.
"""

from __future__ import annotations

import errno
import socket
import sys
from typing import Any

from epoll_loop.core import syscalls
from epoll_loop.transports.engine import RECORD, Engine

try:
    import ssl
except ImportError:  # a Python built without OpenSSL
    ssl = None  # type: ignore[assignment]

_EAGAIN = errno.EAGAIN
_RECORD = RECORD
_RECV_SIZE = syscalls.RECV_SIZE
_TCP_ULP = 31  # linux/tcp.h


class KernelEngine(Engine):
    """TLS by an object of `_ssl` that has the socket."""

    __slots__ = ("_goodbye", "_ready", "_sock")

    def __init__(self, context: Any, server_side: bool, server_hostname: str | None, sock: Any) -> None:
        self._reset()
        self.ssl_object = ssl.SSLObject.__new__(ssl.SSLObject)
        self._sslobj = self.ssl_object._sslobj = context._wrap_socket(
            sock, server_side, context._encode_hostname(server_hostname), owner=self.ssl_object
        )
        self._sock = sock
        self._ready = False  # the handshake is over
        self._goodbye = False

    def handshake(self) -> bool:
        try:
            self.ssl_object.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except ssl.SSLEOFError:
            raise ConnectionResetError("Connection closed by peer during the handshake") from None
        except ssl.SSLError:
            syscalls.try_recv(self._sock, _RECV_SIZE)  # closed with something unread, a socket takes back our alert
            raise
        except OSError as exc:
            _clear(exc)
            raise
        self._ready = True
        return True

    def fill(self, sock: Any, fd: int) -> int:
        if not self._ready or self._goodbye:
            return 1  # handshake() and shutdown() read for themselves, until there is no more
        chunks: list[bytes] = []
        size = 0
        while size < _RECV_SIZE:
            try:
                data = self._sslobj.read(_RECORD)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except ssl.SSLZeroReturnError:
                data = b""
            except OSError as exc:  # also an ssl.SSLError
                if not chunks:
                    return _count_of(exc)
                size = _RECV_SIZE  # it is said again
                break
            if not data and chunks:
                size = _RECV_SIZE  # the goodbye is, too
                break
            chunks.append(data)
            size += len(data)
            if not data:
                break
        if not chunks:
            return -_EAGAIN
        self._taken = b"".join(chunks)
        self.pending = True
        return min(size, _RECV_SIZE) or 1

    def read(self) -> bytes | None:
        data, self._taken = self._taken, None
        self.pending = False
        return data

    def read_into(self, buffer: Any) -> int:
        data = self.read()
        if data is None:
            return -1
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(data))
        view[:count] = data[:count]
        if count < len(data):
            self._taken = data[count:]
            self.pending = True
        return count

    def write(self, data: bytes, offset: int) -> int:
        try:
            return self._sslobj.write(memoryview(data)[offset:])  # type: ignore[no-any-return]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0
        except OSError as exc:
            _clear(exc)
            raise

    def shutdown(self) -> bool:
        self._goodbye = True
        try:
            self._sslobj.shutdown()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except OSError as exc:
            _clear(exc)
            raise
        return True


def _count_of(exc: OSError) -> int:
    """What recv(2) would have returned for an error of the stream; the others are raised."""
    _clear(exc)
    if isinstance(exc, ssl.SSLEOFError):
        return 0
    if isinstance(exc, ssl.SSLError) or not exc.errno:
        raise exc
    return -exc.errno


def _clear(exc: OSError) -> None:
    # Python 3.14 leaves the failed system call in OpenSSL's queue of errors, as if it were the next connection's too.
    # There is no function for this, but one that does it before it fails.
    if not isinstance(exc, ssl.SSLError):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers("none")
        except ssl.SSLError:
            pass


def offered() -> bool:
    """Return whether the kernel does TLS, by asking it for a connection."""
    if sys.platform != "linux":
        return False  # the number is another option there
    try:
        with (
            socket.create_server(("127.0.0.1", 0)) as server,
            socket.create_connection(server.getsockname()) as connection,
        ):
            connection.setsockopt(socket.IPPROTO_TCP, _TCP_ULP, b"tls")
    except OSError:
        return False
    return True
