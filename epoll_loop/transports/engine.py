"""Engines of TLS: what the network carries goes in and the program's bytes come out, and the other way round.

An engine knows the connection's descriptor only as something to receive from and send to. When that happens, and what
follows from it, is the transport's business. It is used in this way:

    handshake()      again after each fill(), until it returns True; only then the next ones
    fill()           one recv(2)
    read()           the plaintext of what fill() got, read_into() a part of it; `pending` says that there is more
    write()          encrypts; `unsent` is what waits to be sent, also what the other calls have to say to the peer
    flush()          one send(2)
    shutdown()       says goodbye, and again after each fill(): whether the peer has said it as well

`fill()` and the read after it, `write()` and the flush after it, are called without anything in between: an engine may
have the bytes in a place that it shares with others.

This one works with any `ssl.SSLContext`. `libssl.pyx` has a faster one.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from epoll_loop.core import syscalls

try:
    import ssl
except ImportError:  # a Python built without OpenSSL
    ssl = None  # type: ignore[assignment]

RECORD = 16384  # bytes of plaintext that a record of TLS has at most
_RECORD = RECORD
_RECV_SIZE = syscalls.RECV_SIZE
_MOST = 16 * RECORD  # bytes that read() returns at once: what one recv(2) brings


class Engine:
    """TLS by an `ssl.SSLObject`: everything passes through two `ssl.MemoryBIO`."""

    __slots__ = ("_error", "_incoming", "_outgoing", "_sent", "_sslobj", "_taken", "pending", "ssl_object", "unsent")

    def __init__(self, context: Any, server_side: bool, server_hostname: str | None) -> None:
        self._incoming: Any = ssl.MemoryBIO()
        self._outgoing: Any = ssl.MemoryBIO()
        self.ssl_object: Any = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server_side, server_hostname=server_hostname
        )
        # What is below it: one Python frame less for each call.
        self._sslobj: Any = getattr(self.ssl_object, "_sslobj", self.ssl_object)
        self._reset()

    def _reset(self) -> None:
        self._error: BaseException | None = None  # of a read that had something to return first
        self._taken: bytes | None = None  # out of `_outgoing`, of which the kernel has had `_sent` bytes
        self._sent = 0
        self.pending = False
        self.unsent = 0  # bytes

    # What was exchanged before there was an engine

    def feed(self, data: bytes) -> None:
        """Have what was received already."""
        self._incoming.write(data)
        self.pending = True

    def precede(self, data: bytes) -> None:
        """Send this first, as it is."""
        self._taken = data
        self.unsent += len(data)

    # The handshake

    def handshake(self) -> bool:
        """Go on with the handshake as far as it goes; return whether it is complete. `ssl.SSLError`, and others."""
        try:
            self.ssl_object.do_handshake()
        except ssl.SSLWantReadError:
            self.pending = False
            return False
        finally:
            self._count()
        self.pending = self._incoming.pending > 0
        return True

    # In

    def fill(self, sock: Any, fd: int) -> int:
        """Receive: the number of bytes, 0 at the end of the stream, or -errno."""
        data = syscalls.recv(sock, fd)
        if isinstance(data, int):
            return data
        if data:
            self._incoming.write(data)
            self.pending = True
        return len(data)

    def read(self) -> bytes | None:
        """Return plaintext, b"" if the peer has said goodbye, None if more has to come first. `ssl.SSLError`."""
        data = self._read_record()
        if not data or not self.pending:
            return data
        chunks = [data]
        size = len(data)
        while self.pending and size < _MOST:
            try:
                data = self._read_record()
            except ssl.SSLError as exc:
                self._error = exc
                break
            if not data:
                self.pending = data is not None  # the goodbye: it is said again
                break
            chunks.append(data)
            size += len(data)
        return b"".join(chunks)

    def _read_record(self) -> bytes | None:
        if self._error is not None:
            exc, self._error = self._error, None
            raise exc
        try:
            data: bytes = self._sslobj.read(_RECORD)
        except ssl.SSLWantReadError:
            self.pending = False
            return None
        except ssl.SSLZeroReturnError:
            return b""
        finally:
            self._count()
        # Asked for more than there is, it would raise an exception, which takes longer than these two questions.
        self.pending = self._incoming.pending > 0 or self._sslobj.pending() > 0
        return data

    def read_into(self, buffer: Any) -> int:
        """Fill a writable buffer: the number of bytes, 0 if the peer has said goodbye, -1 if more has to come first."""
        try:
            count: int = self._sslobj.read(memoryview(buffer).nbytes, buffer)
        except ssl.SSLWantReadError:
            self.pending = False
            return -1
        except ssl.SSLZeroReturnError:
            return 0
        finally:
            self._count()
        self.pending = self._incoming.pending > 0 or self._sslobj.pending() > 0
        return count

    # Out

    def write(self, data: bytes, offset: int) -> int:
        """Encrypt of `data[offset:]` a record or more; return how many bytes, 0 if the peer has to speak first."""
        try:
            taken: int = self._sslobj.write(memoryview(data)[offset:] if offset else data)
        except ssl.SSLWantReadError:
            taken = 0
        finally:
            self._count()
        return taken

    def flush(self, sock: Any, fd: int) -> int:
        """Send all that is unsent: the number of bytes that the kernel took, or -errno."""
        if self._taken is None:
            self._taken = self._outgoing.read()
        elif self._outgoing.pending:
            self._taken = self._taken[self._sent :] + self._outgoing.read()
            self._sent = 0
        sent = syscalls.send(sock, fd, self._taken, self._sent)
        if sent >= 0:
            self._sent += sent
            if self._sent == len(self._taken):
                self._taken = None
                self._sent = 0
            self.unsent -= sent
        return sent

    def _count(self) -> None:
        self.unsent = self._outgoing.pending
        if self._taken is not None:
            self.unsent += len(self._taken) - self._sent

    # The end

    def shutdown(self) -> bool:
        """Say goodbye; return whether the peer has said it too. `ssl.SSLError` if it has not, but sends on."""
        try:
            self._sslobj.shutdown()
        except ssl.SSLWantReadError:
            self.pending = False
            return False
        finally:
            self._count()
        return True


class Nested(Engine):
    """TLS inside TLS: what is the network to this engine is another one's plaintext."""

    __slots__ = ("_ended", "_inner")

    def __init__(self, context: Any, server_side: bool, server_hostname: str | None, inner: Engine) -> None:
        Engine.__init__(self, context, server_side, server_hostname)
        self._inner = inner
        self._ended = False  # the inner peer has said goodbye
        self.unsent = inner.unsent
        if inner.pending:
            self._take_in()

    def _take_in(self) -> bool:
        """Move what the inner engine has decrypted; return whether its peer has said goodbye."""
        while True:
            data = self._inner.read()
            if data:
                self.feed(data)
            elif data is not None:
                self._ended = True
            if not data or not self._inner.pending:
                return self._ended

    def fill(self, sock: Any, fd: int) -> int:
        if self._ended:
            return 0
        count = self._inner.fill(sock, fd)
        if count > 0 and self._take_in():
            return _RECV_SIZE if self.pending else 0  # with the last data; then it is said again
        return count

    def flush(self, sock: Any, fd: int) -> int:
        self._hand_on()
        sent = self._inner.flush(sock, fd) if self._inner.unsent else 0
        self._count()
        return sent

    def _hand_on(self) -> None:
        data = self._outgoing.read()
        if self._taken is not None:
            data = self._taken + data
        offset = 0
        while offset < len(data):
            taken = self._inner.write(data, offset)
            if not taken:
                break
            offset += taken
        self._taken = data[offset:] or None

    def _count(self) -> None:
        Engine._count(self)
        self.unsent += self._inner.unsent

    def shutdown(self) -> bool:
        try:
            if not Engine.shutdown(self):
                return False
        except ssl.SSLError:
            self._shut_down_inner()
            raise
        done = self._shut_down_inner()
        self.pending = False
        self._count()
        return done

    def _shut_down_inner(self) -> bool:
        self._hand_on()
        return self._inner.shutdown()


def _forgetful(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Engine, *args: Any) -> Any:
        try:
            return method(self, *args)
        except ssl.SSLError:
            _BLANK.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
            raise

    return call


if ssl and sys.implementation.name == "pypy":
    # It leaves an error in the queue that OpenSSL has for each thread, and there it is taken for the next connection's.
    # To make a connection empties the queue.
    _BLANK = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for _name in ("handshake", "_read_record", "read_into", "write", "shutdown"):
        setattr(Engine, _name, _forgetful(getattr(Engine, _name)))
