"""Conn: a connection of the callback server, told of by `Events` and not by a protocol of its own.

To its transport it is the protocol. What a callback returns is done here: bytes are sent, an `Action` is taken.
"""

from __future__ import annotations

import asyncio
import enum
import os
import socket
from typing import Any

from epoll_loop.transports.stream import StreamTransport
from epoll_loop.transports.tls import TLSTransport
from epoll_loop.transports.writer import ByteWriter, _as_bytes


class Action(enum.Enum):
    """What a callback wants done when the bytes that it returns with it are on their way."""

    NONE = "none"
    DETACH = "detach"
    """Give the connection away: `Events.detached()` gets its socket."""
    CLOSE = "close"
    """Send what is queued, then close the connection."""
    SHUTDOWN = "shutdown"
    """End the server."""


def parts_of(out: Any, name: str) -> tuple[Any, Action]:
    """Take apart what a callback of that name has returned: bytes to send, or None, and an `Action`.

    TypeError if it is neither.
    """
    if type(out) is Action:
        return None, out
    data, action = out if type(out) is tuple and len(out) == 2 else (out, Action.NONE)
    if type(action) is not Action or not (data is None or isinstance(data, (bytes, bytearray, memoryview))):
        raise TypeError(f"Events.{name}() returned {out!r}, which is not bytes, an Action, both, or None")
    return data, action


class Conn:
    """A connection. Its `context` is for whoever serves, to keep something there.

    Nothing that is called here calls `Events.closed()` before it returns.
    """

    __slots__ = (
        "__weakref__",
        "_data",
        "_detaching",
        "_error",
        "_framed",
        "_lends",
        "_pre_write",
        "_server",
        "_taken",
        "_transport",
        "_went",
        "_written",
        "address_index",
        "context",
        "idle",
        "stuck",
    )

    def __init__(self, server: Any, address_index: int) -> None:
        self._server = server
        self._data = server.events.data
        self._framed = server.framed(self._data)
        if self._framed is not None:
            self._data = self._framed
        self._pre_write = server.pre_write
        self._transport: StreamTransport | None = None
        self._detaching = False
        self._lends = False  # data() gets a memoryview of what the transport gives us as bytes
        self._error: BaseException | None = None  # why the server has closed it
        self._written = 0  # bytes, so far
        self._went = 0
        self._taken = 0  # of them, when the server looked last
        self.address_index = address_index
        """Which of the addresses that are served it came to."""
        self.context: Any = None
        self.idle = 0  # how often the server has looked since something came or went
        self.stuck = 0  # and since the peer took a part of what waits for it

    # What the transport tells

    def connection_made(self, transport: StreamTransport) -> None:
        if not self._server.begins(self):
            transport.abort()
            return
        self._transport = transport
        try:
            self._tell("opened", self._server.opened)
        except BaseException as exc:  # at which nobody tells of the end
            self.connection_lost(exc)
            raise

    def data_received(self, data: Any) -> None:
        self.idle = 0
        try:
            if self._lends:
                data = memoryview(data)
            out = self._data(self, data)
            if out is not None:
                self.answer(out, "data")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._failed("data", exc)

    def _tell(self, name: str, callback: Any) -> None:
        try:
            out = callback(self)
            if out is not None:
                self.answer(out, name)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._failed(name, exc)

    def _failed(self, name: str, exc: BaseException) -> None:
        transport = self._transport
        self._error = exc
        if transport is None:
            self._server.report(f"Events.{name}() failed", exc)  # of a connection that it has given away
            return
        if isinstance(exc, OSError):
            # Which a transport does not report, taking it for the network's.
            self._server.report(f"Fatal error: Events.{name}() failed.", exc)
        transport._fatal_error(exc, f"Fatal error: Events.{name}() failed.")

    def eof_received(self) -> None:
        """Let the transport close, with what is queued."""

    def pause_writing(self) -> None:
        # Nothing more is read of a peer that does not read: what is kept for it stays bounded.
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        rest = False
        if self._detaching:
            self._detach()
        elif self._framed is not None:
            try:
                rest = self._framed.go_on(self)  # messages that have waited for that
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self._failed("data", exc)
        drained = self._server.drained
        if drained is not None and not rest and self._takes():
            self._tell("drained", drained)
        if self.is_open() and not self.is_behind():
            self._transport.resume_reading()  # type: ignore[union-attr]

    def _takes(self) -> bool:
        return self.is_open() and not self.is_behind() and not self._transport._eof  # type: ignore[union-attr]

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._transport is not None:  # else it was given up
            try:
                self._server.lost(self, exc if self._error is None else self._error)
            finally:
                self._transport = None

    # What the program does

    def answer(self, out: Any, name: str) -> None:
        """Do what a callback of that name has returned. TypeError, see `parts_of()`."""
        if type(out) is bytes:
            if out:
                self.write(out)
            return
        if type(out) is memoryview:  # what has come, or a part of it
            self.write(out)
            return
        data, action = parts_of(out, name)
        if data is not None:
            self.write(data)
        if action is Action.CLOSE:
            self.close()
        elif action is Action.DETACH:
            self.detach()
        elif action is Action.SHUTDOWN:
            self._server.shutdown()

    def write(self, data: Any) -> None:
        """Send bytes with this iteration, in order. In the loop's thread only.

        TypeError if it is not bytes-like, RuntimeError after `write_eof()`. In vain if the connection is gone, or is
        being closed.
        """
        transport = self._transport
        if transport is None or transport._closing:
            return  # it is not open yet, or not ours any more
        if self._pre_write is not None:
            self._pre_write()
        chunk = data if type(data) is bytes else _as_bytes(data)
        if type(transport) is StreamTransport:
            ByteWriter.write(transport, chunk)  # not looked for among attributes that a program may have assigned
        else:
            transport.write(chunk)
        self._written += len(chunk)

    def write_eof(self) -> None:
        """Send what is queued, then the end of the stream; what comes is read until the peer ends it too.

        Nothing can be written after it. With TLS, where that can not be told apart from a close, the connection is
        closed. In the loop's thread only.
        """
        transport = self._transport
        if transport is None or transport._closing:
            return
        if transport.can_write_eof():
            transport.write_eof()
        else:
            self.close()

    def close(self, error: BaseException | None = None) -> None:
        """Send what is queued, then close; `Events.closed()` gets `error`. In the loop's thread only."""
        if self._transport is not None:
            self._error = self._error or error
            self._transport.close()

    def abort(self, error: BaseException | None = None) -> None:
        """Close at once, and drop what the kernel does not take now. See `close()`."""
        if self._transport is not None:
            self._error = self._error or error
            self._transport.abort()

    def is_open(self) -> bool:
        """Return whether there is a connection that is not closing, and was not given away."""
        transport = self._transport
        return transport is not None and not transport._closing and not self._detaching

    def is_behind(self) -> bool:
        """Return whether so much waits for the peer that nothing more is read of it."""
        return self._transport is not None and self._transport._protocol_paused

    def queued(self) -> int:
        """Return how many bytes wait for the peer to take them."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def went(self) -> bool:
        """Return whether the peer has taken something since this was asked last."""
        size = self._written - self.queued()
        before, self._went = self._went, size
        return size != before

    def waits(self) -> bool:
        """Return whether something is queued of which the peer has taken nothing since this was asked last."""
        size = self.queued()
        before, self._taken = self._taken, self._written - size
        return size > 0 and self._taken == before

    def wake(self) -> None:
        """Have `Events.woken()` called in the loop's thread, if it is open then. May be called in any thread."""
        self._server.call(self._woken)

    def _woken(self) -> None:
        if self.is_open():
            self._tell("woken", self._server.events.woken)

    def upgrade(self, protocol: Any, data: bytes = b"") -> Any:
        """Hand the connection over to an asyncio protocol, and return its transport.

        The protocol gets `connection_made()`, and then `data`: what a callback has been given and has not used, all of
        it, even if it pauses reading. No `Events.closed()` follows, no timeout holds any more, the end of the server is
        not its end, and what the callback returns after that is dropped. An exception of the protocol closes the
        connection, and comes out here. RuntimeError if the connection is not open.
        """
        transport = self._open()
        self._server.forget(self)
        self._transport = None
        transport.set_protocol(protocol)
        data = bytes(data) + self.unused()  # not the memory that is used again
        paused = transport._protocol_paused
        if paused:
            transport.resume_reading()  # the pause was ours; from now on it is the protocol's to decide
        try:
            protocol.connection_made(transport)
            if paused:
                protocol.pause_writing()
            if data and not transport._closing:
                _deliver(transport.get_protocol(), data)
        except BaseException:
            transport.abort()
            raise
        return transport

    def unused(self) -> bytes:
        """Take what was received behind the last message of a framing."""
        return b"" if self._framed is None else self._framed.unused()

    def detach(self) -> None:
        """Give the socket to `Events.detached()`, blocking, when all that is queued is sent.

        RuntimeError if the connection is not open, or has TLS: the socket alone would be of no use. If there is no
        descriptor for it then, that is reported, and the connection closed with that OSError.
        """
        transport = self._open()
        if isinstance(transport, TLSTransport):
            raise RuntimeError("a connection with TLS can not be detached")
        self._detaching = True
        transport.pause_reading()
        transport.set_write_buffer_limits(0)
        if transport.get_write_buffer_size() == 0:
            self._detach()
        else:
            transport._protocol_paused = True  # so that resume_writing() comes when all is sent

    def _detach(self) -> None:
        transport = self._transport
        if transport is None or transport._closing:
            return  # lost meanwhile, which closed() is told
        try:
            sock = _duplicate(transport.fd)
        except OSError as exc:
            self._server.report("a connection can not be detached", exc)
            self.abort(exc)
            return
        sock.setblocking(True)
        if transport._eof:
            transport._shut_down()  # what it would do next
        self._server.forget(self)
        self._transport = None
        transport.abort()
        self._server.detached(self, sock)

    def _open(self) -> StreamTransport:
        if not self.is_open():
            raise RuntimeError("the connection is not open")
        return self._transport  # type: ignore[return-value]

    # What is known of it, and its options

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the transport knows: "peername", "socket", "ssl_object" and so on. See asyncio's transports."""
        return default if self._transport is None else self._transport.get_extra_info(name, default)

    @property
    def local_address(self) -> Any:
        """The address of this end, in the form of the `socket` module."""
        return self.get_extra_info("sockname")

    @property
    def remote_address(self) -> Any:
        """The address of the peer, in the form of the `socket` module."""
        return self.get_extra_info("peername")

    def keep_alive(self, seconds: float | None) -> None:
        """Have the kernel ask a silent TCP peer whether it is there, every so many seconds; None: not at all.

        See SO_KEEPALIVE of socket(7) and TCP_KEEPIDLE of tcp(7). OSError if it is not a TCP connection.
        """
        sock = self._open()._socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, seconds is not None)
        if seconds is not None:
            for name in ("TCP_KEEPIDLE", "TCP_KEEPALIVE", "TCP_KEEPINTVL"):  # the second is the first one's, on macOS
                if hasattr(socket, name):
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), max(1, round(seconds)))

    def reuse_input_buffer(self) -> None:
        """Have `Events.data()` called with a memoryview of a buffer that all connections share: valid in it only.

        With TLS it is one of the bytes that were decrypted, which nobody shares.
        """
        transport = self._open()
        if isinstance(transport, TLSTransport):
            self._lends = True
        else:
            transport._input = self._server.input_buffer

    def __repr__(self) -> str:
        return f"<Conn {self._transport!r}>"


def _duplicate(fd: int) -> socket.socket:
    """A socket with a number of its own, which outlives the other. OSError."""
    number = os.dup(fd)
    try:
        return socket.socket(fileno=number)
    except BaseException:
        os.close(number)
        raise


def _deliver(protocol: Any, data: bytes) -> None:
    if not isinstance(protocol, asyncio.BufferedProtocol):
        protocol.data_received(data)
        return
    rest = memoryview(data)
    while rest:
        buffer = memoryview(protocol.get_buffer(len(rest))).cast("B")
        count = min(len(buffer), len(rest))
        if not count:
            raise RuntimeError("get_buffer() returned an empty buffer")
        buffer[:count] = rest[:count]
        protocol.buffer_updated(count)
        rest = rest[count:]
