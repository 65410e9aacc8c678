"""TLSTransport: a stream socket whose bytes pass through an engine of TLS.

What there is beside the life of every transport:

    handshake   the protocol knows of nothing yet, or has been connected without TLS before
    open        connection_made() was called, the handshake's future is done
    closing     what was written goes out, then our goodbye (close_notify); then the peer's is waited for

Writes are queued as plaintext and encrypted when they are sent, a send's worth at a time: so much and no more is
waiting as ciphertext, and the two together are what is buffered.
"""

from __future__ import annotations

import errno
from asyncio.constants import _SendfileMode
from asyncio.log import logger
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING, Any

from epoll_loop.core import syscalls
from epoll_loop.core.syscalls import Link, Queue
from epoll_loop.transports.base import Transport, peer_of
from epoll_loop.transports.engine import RECORD, Engine, Nested
from epoll_loop.transports.flow import WriteTransport
from epoll_loop.transports.ktls import KernelEngine
from epoll_loop.transports.stream import StreamTransport, take
from epoll_loop.transports.writer import ByteWriter

if TYPE_CHECKING:
    import socket

    from epoll_loop.core.reactor import Reactor

try:
    import ssl
    from asyncio.sslproto import _SSLProtocolTransport
except ImportError:  # a Python built without OpenSSL
    ssl = None  # type: ignore[assignment]

_RECORD = RECORD
_EAGAIN = errno.EAGAIN
_RECV_SIZE = syscalls.RECV_SIZE
# Bytes that are encrypted for one send(2).
_BATCH = 131072
# Handshakes an iteration: each costs as much as a hundred requests, and those who are connected must not wait for all.
_BUDGET = 4

HANDSHAKE_TIMEOUT = 60.0  # seconds; asyncio's numbers
SHUTDOWN_TIMEOUT = 30.0


class TLS:
    """What `ssl=` and the arguments that go with it ask for."""

    __slots__ = (
        "context",
        "engine",
        "handshake_timeout",
        "in_kernel",
        "server_hostname",
        "server_side",
        "shutdown_timeout",
    )

    def __init__(
        self,
        context: Any,
        engine: Any,
        in_kernel: bool,
        server_side: bool,
        server_hostname: str | None,
        handshake_timeout: float | None,
        shutdown_timeout: float | None,
    ) -> None:
        self.context = context
        self.engine = engine  # the class
        self.in_kernel = in_kernel
        self.server_side = server_side
        self.server_hostname = server_hostname
        self.handshake_timeout = HANDSHAKE_TIMEOUT if handshake_timeout is None else handshake_timeout
        self.shutdown_timeout = SHUTDOWN_TIMEOUT if shutdown_timeout is None else shutdown_timeout

    def new_engine(self, sock: socket.socket | None) -> Engine:
        """Return an engine for a connection."""
        if self.in_kernel:
            return KernelEngine(self.context, self.server_side, self.server_hostname, sock)
        return self.engine(self.context, self.server_side, self.server_hostname)  # type: ignore[no-any-return]


class Handshakes(Link):
    """The transports of a loop that can go on with their handshakes: a few an iteration, behind everybody else."""

    __slots__ = ("_ready", "_scheduled", "_waiting")

    def __init__(self, ready: Queue[Link]) -> None:
        self._ready = ready
        self._waiting: deque[TLSTransport] = deque()
        self._scheduled = False

    def append(self, transport: TLSTransport) -> None:
        """Give a transport a turn of its handshake."""
        self._waiting.append(transport)
        self._schedule()

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled:
            self._scheduled = True
            self._ready.append(self)

    def turn(self) -> None:
        self._scheduled = False
        for _ in range(min(_BUDGET, len(self._waiting))):
            transport = self._waiting[0]
            transport._shake_hands()
            self._waiting.popleft()  # not before: who is interrupted stays
        self._schedule()

    def failed(self, exc: BaseException) -> None:
        self._waiting.popleft()
        self._schedule()
        raise exc

    def interrupted(self) -> None:
        self._scheduled = False
        self._schedule()


class TLSTransport(StreamTransport):
    """The transport of connections with TLS."""

    __slots__ = (
        "_engine",
        "_established",
        "_goodbye",
        "_greeting",
        "_held",
        "_peer_ended",
        "_stalled",
        "_timer",
        "_tls",
        "_took",
        "_upgraded",
        "_waiter",
    )

    _sendfile_compatible = _SendfileMode.FALLBACK

    def __init__(
        self,
        loop: Reactor,
        sock: socket.socket | None,
        fd: int,
        peer: Any,
        context: Context,
        server: Any,
        tls: TLS,
        engine: Engine,
        waiter: Any,
    ) -> None:
        StreamTransport.__init__(self, loop, sock, fd, peer, context, server)
        self._tls = tls
        self._waiter = waiter  # a future, done when the handshake is
        self._engine = engine
        self._held = 0  # bytes of what is buffered that are ciphertext
        self._upgraded = False  # by start_tls(): the protocol is connected already
        self._established = False
        self._greeting = False  # among the loop's handshakes
        self._stalled = False  # the peer has to speak before anything can be encrypted (renegotiation)
        self._goodbye = False  # our close_notify is said
        self._peer_ended = False  # nothing more comes: close_notify, or the end of the stream
        self._timer: Any = None
        self._took = 0.0  # when something was sent last, of what is there at the end

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return _SSLProtocolTransport  # an asyncio.Transport, and some programs look for TLS by this name

    # The handshake

    def _begin(self) -> None:
        self._timer = self._loop.call_later(self._tls.handshake_timeout, self._handshake_timed_out)
        if not self._tls.server_side or self._engine.pending or self.readable:
            self._greet()

    def _greet(self) -> None:
        if not self._greeting:
            self._greeting = True
            handshakes = self._loop._handshakes  # type: ignore[attr-defined]
            handshakes.append(self)

    def _shake_hands(self) -> None:
        self._greeting = False
        if not self.armed or self._established:
            return
        try:
            if not self._engine.pending and self.readable:
                self._fill()
            if self._lost:
                return
            complete = self._engine.handshake()  # also a client's that has heard nothing: it speaks first
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._say_what_is_wrong()
            self._handshake_failed(exc)
            return
        self._account()
        if complete:
            if self._tls.in_kernel:
                self.readable = True  # it reads its own records and no more
            self._handshake_complete()
        elif self.readable:
            self._greet()

    def _handshake_complete(self) -> None:
        self._established = True
        self._cancel_timer()
        waiter = self._waiter
        self._waiter = None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)  # whatever connection_made() does: who waits gets its turn later
        if not self._upgraded:
            Transport._begin(self)
        if self._has_input():
            self.carry_over()

    def _handshake_failed(self, exc: BaseException) -> None:
        if isinstance(exc, ssl.CertificateError):
            self._fatal_error(exc, "SSL handshake failed on verifying the certificate")
        else:
            self._fatal_error(exc, "SSL handshake failed")

    def _handshake_timed_out(self) -> None:
        seconds = self._tls.handshake_timeout
        self._handshake_failed(
            ConnectionAbortedError(f"SSL handshake is taking longer than {seconds} seconds: aborting the connection")
        )

    def _say_what_is_wrong(self) -> None:
        """Send the alert that the engine has made of an error."""
        if self._engine.unsent and self.writable:
            self._engine.flush(self._sock, self.fd)

    # Reading

    def _has_input(self) -> bool:
        return self.readable or self._engine.pending

    def turn(self) -> None:
        self.queued = False
        if not self.armed:
            return
        if (self._size or self._empty_waiter is not None) and self.writable and not self._unflushed:
            self.flush()
        if not self._has_input():
            return
        if not self._established:
            self._greet()
        elif self._reading:
            if self._buffered:
                self._read_into()
            else:
                self._read()
        elif self._goodbye and not self._lost:
            self._await_goodbye()
        elif self._closing and self._stalled:
            self._read()

    def _fill(self) -> bool:
        """Receive once; return False if nothing came, and what that means was done."""
        count = self._engine.fill(self._sock, self.fd)
        if count > 0:
            self.readable = self.ended or count == _RECV_SIZE  # see StreamTransport.turn()
            return True
        if count < 0:
            self._read_failed(-count)
        elif not self._established:
            self._handshake_failed(ConnectionResetError("Connection closed by peer during the handshake"))
        else:
            self.readable = False
            self._peer_ended = True
            self._goodbye = True  # asyncio says none either to who has not said one
            if self._closing:
                self._finish()
            else:
                self._end_of_stream()
        return False

    def _read(self) -> None:
        engine = self._engine
        try:
            if not engine.pending and not self._fill():
                return
            data = engine.read()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._reading_failed(exc)
            return
        self._was_read()
        if data is None or self._closing:
            return
        if data:
            syscalls.call1(self._context, self._received, data)
        else:
            self._peer_ended = True
            self._end_of_stream()

    def _read_into(self) -> None:
        engine = self._engine
        try:
            protocol = self._protocol
            buffer = syscalls.call1(self._context, protocol.get_buffer, -1)
            if not len(buffer):
                raise RuntimeError("get_buffer() returned an empty buffer")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, "Fatal error: protocol.get_buffer() call failed.")
            return
        if not self._reading or self._protocol is not protocol:
            self.carry_over()  # nothing was read yet: that is for the new protocol
            return
        try:
            if not engine.pending and not self._fill():
                return
            count = engine.read_into(buffer)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._reading_failed(exc)
            return
        self._was_read()
        if count > 0:
            syscalls.call1(self._context, self._received, count)
        elif count == 0:
            self._peer_ended = True
            self._end_of_stream()

    def _reading_failed(self, exc: BaseException) -> None:
        self._say_what_is_wrong()
        self._fatal_error(exc, "SSL error in data received")

    def _was_read(self) -> None:
        if self._has_input():
            self.carry_over()
        if self._stalled:
            self._stalled = False
            self.writable = True  # the peer has spoken: try again
            self._flush_later()
        if self._engine.unsent:
            self._account()  # an answer of the engine's own: to a key update, say

    def _end_of_stream(self) -> None:
        self._read_ended = True
        self._reading = False
        try:
            keep_open = syscalls.call0(self._context, self._protocol.eof_received)
            if keep_open:
                logger.warning("returning true from eof_received() has no effect when using ssl")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, "Error calling eof_received()")
            return
        self.close()

    # Writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, in order, without blocking: they are queued, and leave with this iteration. See `ByteWriter`."""
        if self._closing and not self._lost:
            self._write_lost()
            return
        ByteWriter.write(self, data)

    def _takes(self) -> bool:
        return not self._closing and ByteWriter._takes(self)

    def can_write_eof(self) -> bool:
        """Return False: TLS has no half-closed connections."""
        return False

    def write_eof(self) -> None:
        """Raise NotImplementedError, as with asyncio: TLS has no half-closed connections."""
        raise NotImplementedError

    def _send(self) -> None:
        engine = self._engine
        queued = self._size - self._held
        sent = 0
        self._stalled = False
        try:
            while queued and engine.unsent < _BATCH and self._established:
                if self._rest is not None:
                    self._put_together()
                taken = engine.write(self._first, self._offset)  # type: ignore[arg-type]
                if taken == 0:
                    self._stalled = True
                    break
                queued -= taken
                self._offset += taken
                if self._offset == len(self._first):  # type: ignore[arg-type]
                    self._first = None
                    self._offset = 0
                    if self._rest is not None:
                        self._put_together()  # the next write() goes behind these: there is a first one, or none at all
            if self._closing and not queued and not self._goodbye:
                self._say_goodbye()
            if engine.unsent:
                sent = engine.flush(self._sock, self.fd)
                if sent == 0 and engine.unsent:
                    self._stalled = True  # the engine inside it is
        except (SystemExit, KeyboardInterrupt):
            self._held = engine.unsent
            self._size = queued + self._held
            raise
        except BaseException as exc:
            self._fatal_error(exc, "Fatal error on SSL protocol")
            return
        self._held = engine.unsent
        self._size = queued + self._held
        self._more = queued > 0
        if sent > 0 and self._closing:
            self._took = self._loop.time()
        if sent < 0 and sent != -_EAGAIN:
            self._write_failed(-sent)
        elif self._held or self._stalled:
            self.writable = False

    def _put_together(self) -> None:
        """Make one chunk of small writes, which would be a record each."""
        rest = self._rest
        first = self._first
        size = 0
        chunks = []
        if first is not None:
            size = len(first) - self._offset
            if rest is None or size >= _RECORD:
                return
            chunks.append(first[self._offset :])
        if rest is None:
            return
        count = 0
        for chunk in rest:
            if size and (size + len(chunk) > _BATCH or len(chunk) >= _RECORD):
                break
            chunks.append(chunk)
            size += len(chunk)
            count += 1
        self._first = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._rest = rest[count:] or None
        self._offset = 0

    def _account(self) -> None:
        """Count, and send, what the engine has made by itself."""
        self._size += self._engine.unsent - self._held
        self._held = self._engine.unsent
        if self._held and self.writable:
            self._flush_later()

    def _drained(self) -> None:
        if self._empty_waiter is not None and self.writable and not self._closing:
            self._wake(None)
        if self._closing:
            if not self._goodbye:
                self._send()
            self._finish()

    def _discard(self) -> None:
        ByteWriter._discard(self)
        self._held = 0
        self._more = False

    # The end

    def close(self) -> None:
        """Close: stop reading, send what is queued and our goodbye, wait for the peer's; then `connection_lost(None)`.

        A handshake in progress is aborted. If the peer takes and says nothing for `ssl_shutdown_timeout` seconds,
        `connection_lost()` has a TimeoutError.
        """
        if self._heir is not None:
            self._heir.close()
        elif not self._established:
            self._force_close(None)
        elif not self._closing:
            self._closing = True
            self._reading = False
            self._took = self._loop.time()
            self._timer = self._loop.call_at(self._took + self._tls.shutdown_timeout, self._shutdown_timed_out)
            self._flush_later()

    def _say_goodbye(self) -> None:
        try:
            self._peer_ended |= self._engine.shutdown()
        except ssl.SSLError:
            self._peer_ended = True  # it goes on sending: see below; what we have written still goes out
        self._goodbye = True

    def _await_goodbye(self) -> None:
        try:
            if not self._engine.pending and not self._fill():
                return
            self._peer_ended = self._engine.shutdown()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            self._peer_ended = True  # it goes on sending, or sends garbage: nobody is interested any more
        self._account()
        self._finish()

    def _finish(self) -> None:
        """After our goodbye is sent, and the peer's is here."""
        if self._goodbye and self._size == 0 and not self._lost:
            if self._peer_ended:
                self._lose(None)
            elif self._has_input():
                self.carry_over()

    def _shutdown_timed_out(self) -> None:
        self._timer = None
        due = self._took + self._tls.shutdown_timeout
        if due > self._loop.time():  # a slow reader
            self._timer = self._loop.call_at(due, self._shutdown_timed_out)
        else:
            self._force_close(TimeoutError("SSL shutdown timed out"))

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _lose(self, exc: BaseException | None) -> None:
        self._cancel_timer()
        WriteTransport._lose(self, exc)
        waiter = self._waiter
        self._waiter = None
        if waiter is not None and not waiter.done():
            waiter.set_exception(ConnectionAbortedError("SSL handshake was aborted") if exc is None else exc)

    def _tell_connection_lost(self, exc: BaseException | None) -> None:
        if self._established or self._upgraded:
            Transport._tell_connection_lost(self, exc)

    # What is known of it

    def _find_extra(self, name: str) -> Any:
        if name == "sslcontext":
            return self._tls.context
        if self._established:
            ssl_object = self._engine.ssl_object
            if name == "ssl_object":
                return ssl_object
            if name == "peercert":
                return ssl_object.getpeercert()
            if name == "cipher":
                return ssl_object.cipher()
            if name == "compression":
                return ssl_object.compression()
        return StreamTransport._find_extra(self, name)

    def _activity(self) -> str:
        activity = StreamTransport._activity(self)
        return activity if self._established else f"handshake {activity}"


def open_tls(
    loop: Reactor, sock: socket.socket, protocol: Any, borrowed: bool, tls: TLS, waiter: Any
) -> TLSTransport:
    """Do what `open_stream()` does, and begin the handshake. `connection_made()` follows, and the future is done."""
    transport = TLSTransport(
        loop, sock, sock.fileno(), peer_of(sock), syscalls.copy_context(), None, tls, tls.new_engine(sock), waiter
    )
    take(transport, sock, protocol, borrowed)
    return transport


def accept_tls(loop: Reactor, sock: Any, fd: int, peer: Any, context: Context, server: Any, tls: TLS) -> TLSTransport:
    """Return the transport of a connection that a listener has accepted."""
    return TLSTransport(loop, sock, fd, peer, context, server, tls, tls.new_engine(sock), None)


def start_tls(old: StreamTransport, protocol: Any, tls: TLS, waiter: Any, received: bytes) -> TLSTransport:
    """Give the connection of a transport, and what was `received` of the handshake already, to a new one with TLS."""
    engine: Engine
    if isinstance(old, TLSTransport):
        secured = old
        engine = Nested(tls.context, tls.server_side, tls.server_hostname, secured._engine)
    elif old._size or received:
        engine = tls.engine(tls.context, tls.server_side, tls.server_hostname)
    else:
        engine = tls.new_engine(old._socket())
    queued = old._unsent()
    if queued:
        engine.precede(queued)
    if received:
        engine.feed(received)
    new = TLSTransport(old._loop, old._sock, old.fd, old._peer, old._context, old._server, tls, engine, waiter)
    new._upgraded = True
    new.set_protocol(protocol)
    if old._protocol_paused and old._protocol is protocol:
        new._protocol_paused = True
        new._flush_later()
    old._hand_over(new)
    new._account()
    new._begin()
    return new
