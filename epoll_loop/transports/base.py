"""What the transports share: the protocol's life, the queue of unsent writes, and its water marks.

The life of a transport, each step once and in this order (I6):

    open        registered, the protocol is connected
    closing     close(), EOF or an error: no more reading; what was written still goes out, unless aborted
    lost        unregistered, the queue is empty; connection_lost() is on the ready queue
    closed      connection_lost() has returned, the descriptor is closed

Writes are queued and leave at the end of the iteration, all transports' in one burst: a peer wakes once for a batch of
responses and not for each. More than `FLUSH_AT` queued bytes go at once. The water marks look at what a send has left
over, so a peer that reads is never a reason to pause.
"""

from __future__ import annotations

import asyncio
import errno
import os
import warnings
from asyncio.log import logger
from contextvars import Context
from typing import TYPE_CHECKING, Any

from epoll_loop.core import syscalls
from epoll_loop.core.poller import Channel
from epoll_loop.core.syscalls import Link

if TYPE_CHECKING:
    import socket

    from epoll_loop.core.reactor import Reactor

FLUSH_AT = 65536
_FLUSH_AT = FLUSH_AT
_HIGH_WATER = 65536
_WARN_AT = 5  # writes to a lost connection before a warning; asyncio's number
_EAGAIN = errno.EAGAIN


class Burst(Link):
    """A transport's place among those that have written in this iteration."""

    __slots__ = ("transport",)

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def turn(self) -> None:
        self.transport.flush()

    def interrupted(self) -> None:
        self.transport._flush_later()


class Transport(Channel):
    """A connected stream: a channel with a protocol, and a queue of what the protocol wrote."""

    __slots__ = (
        "_burst",
        "_closing",
        "_context",
        "_eof",
        "_extra",
        "_first",
        "_high",
        "_hold",
        "_loop",
        "_lost",
        "_low",
        "_offset",
        "_peer",
        "_protocol",
        "_protocol_paused",
        "_reading",
        "_rest",
        "_server",
        "_size",
        "_sock",
        "_unflushed",
        "_writes_lost",
    )

    def __init__(
        self,
        loop: Reactor,
        sock: socket.socket | None,
        fd: int,
        peer: Any,
        context: Context,
        server: Any,
    ) -> None:
        Channel.__init__(self, fd)
        self._loop = loop
        self._sock = sock
        # Of a socket that is somebody else's too: while this is open, its close() does not give the number away.
        self._hold: Any = None
        self._peer = peer
        self._context = context
        self._server = server
        self._protocol: Any = None
        self._extra: dict[str, Any] | None = None
        self._closing = False
        self._reading = True  # input goes to the protocol: not paused, not at its end, not closing
        self._lost = False
        self._eof = False  # write_eof() was called
        self._writes_lost = 0
        self._burst: Burst | None = None
        self._first: bytes | None = None  # of the queue of unsent writes; nearly always the only one
        self._offset = 0  # bytes of it that are sent already
        self._rest: list[bytes] | None = None
        self._size = 0  # bytes not sent yet
        self._high = _HIGH_WATER
        self._low = _HIGH_WATER // 4
        self._protocol_paused = False
        self._unflushed = False  # on the reactor's list of transports to flush
        self.writable = True  # until a send says otherwise

    # What asyncio.Transport promises. Its slots forbid inheriting from it; isinstance() asks __class__ as well.

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return asyncio.Transport

    def __reduce__(self) -> Any:
        raise TypeError("a transport belongs to its loop and cannot be pickled")

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known under a name: "socket", "sockname", "peername"; otherwise `default`.

        The kernel is asked at the first call: after the connection was closed only "peername", and what was asked for
        before, is known.
        """
        if self._extra is not None and name in self._extra:
            return self._extra[name]
        value = self._find_extra(name)
        if value is None:
            return default
        if self._extra is None:
            self._extra = {}
        self._extra[name] = value
        return value

    def _find_extra(self, name: str) -> Any:
        return None

    def get_protocol(self) -> Any:
        """Return the current protocol."""
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        """Let another protocol have the connection from now on."""
        self._protocol = protocol

    def is_closing(self) -> bool:
        """Return True if the transport is closing or closed."""
        return self._closing

    # Writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, in order, without blocking: they are queued, and leave with this iteration.

        Takes all of it; a mutable buffer is copied. TypeError if it is not bytes-like, RuntimeError after
        `write_eof()`.
        """
        if type(data) is not bytes:
            data = _as_bytes(data)
        if self._eof:
            raise RuntimeError("Cannot call write() after write_eof()")
        chunk = data
        if not chunk:
            return
        if self._lost:
            self._write_lost()
            return
        if self._first is None:
            self._first = chunk
        elif self._rest is None:
            self._rest = [chunk]
        else:
            self._rest.append(chunk)
        self._size += len(chunk)
        if self.writable:
            if self._size < _FLUSH_AT:
                if not self._unflushed:
                    self._flush_later()
                return
            self._send()
        self._settle()

    def writelines(self, list_of_data: Any) -> None:
        """Send each of an iterable of bytes-like objects, in order. See `write()`."""
        for data in [_as_bytes(data) for data in list_of_data]:
            self.write(data)

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that are queued and not sent yet."""
        return self._size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the water marks (low, high), in bytes."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the water marks in bytes; above `high` the protocol is paused, at `low` resumed.

        `high` defaults to 64 KiB or 4 x `low`, `low` to a quarter of `high`. ValueError unless high >= low >= 0.
        """
        if high is None:
            high = _HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high = high
        self._low = low
        self._settle()

    def _settle(self) -> None:
        # Only what the kernel has refused counts against the water marks. All else is for flush(), which calls nobody
        # from inside a write().
        if not self.writable:
            if self._size > self._high:
                self._pause_protocol()
            elif self._protocol_paused and self._size <= self._low:
                self._flush_later()
        elif self._size or self._closing or self._protocol_paused:
            self._flush_later()

    def _write_lost(self) -> None:
        # connection_lost() is on its way; asyncio's wording, which people search for
        self._writes_lost += 1
        if self._writes_lost >= _WARN_AT:
            logger.warning("socket.send() raised exception.")

    def _send(self) -> None:
        # One send, and no more: EAGAIN or a short write is the evidence that earns the next OUT edge (I17).
        if self._rest is None:
            sent = syscalls.send(self._sock, self.fd, self._first, self._offset)  # type: ignore[arg-type]
        else:
            sent = syscalls.sendmsg(self._sock, self.fd, self._first, self._offset, self._rest)  # type: ignore[arg-type]
        if sent == self._size:
            self._first = None
            self._rest = None
            self._offset = 0
            self._size = 0
        elif sent >= 0:
            self._consume(sent)
        elif sent == -_EAGAIN:
            self.writable = False
        else:
            self._fatal_error(_oserror(-sent), "Fatal write error on socket transport")

    def _consume(self, sent: int) -> None:
        self._size -= sent
        sent += self._offset
        rest = self._rest
        if rest is not None:
            rest.insert(0, self._first)  # type: ignore[arg-type]
            whole = 0
            while sent >= len(rest[whole]):
                sent -= len(rest[whole])
                whole += 1
            self._first = rest[whole]
            self._rest = rest[whole + 1 :] or None
        self._offset = sent
        if sent:  # short; else it may only have ended where sendmsg(2) has its limit, and the next one will tell
            self.writable = False

    def flush(self) -> None:
        """Send what was written in this iteration, and tell the protocol what follows from it."""
        self._unflushed = False
        if self._size and self.writable:
            self._send()
        if self._size or self._protocol_paused or self._closing or self._eof:
            self._flushed()

    def _flushed(self) -> None:
        if self._lost:
            return
        if self._size and self.writable:
            self._flush_later()
        if self._protocol_paused:
            if self._size <= self._low:
                self._resume_protocol()
        elif self._size > self._high and not self.writable:
            self._pause_protocol()
        if self._size == 0 and not self._lost:
            self._drained()

    def _drained(self) -> None:
        # Everything is sent: what waited for that can happen now.
        if self._closing:
            self._lose(None)
        elif self._eof:
            self._shut_down()

    def _shut_down(self) -> None:
        """Tell the peer that no more comes."""

    def _flush_later(self) -> None:
        if not self._unflushed:
            self._unflushed = True
            if self._burst is None:
                self._burst = Burst(self)
            self._loop._unflushed.append(self._burst)

    def _pause_protocol(self) -> None:
        if self._protocol_paused:
            return
        self._protocol_paused = True
        try:
            self._protocol.pause_writing()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._report(exc, "protocol.pause_writing() failed")

    def _resume_protocol(self) -> None:
        self._protocol_paused = False
        try:
            syscalls.call0(self._context, self._protocol.resume_writing)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._report(exc, "protocol.resume_writing() failed")

    # The end

    def close(self) -> None:
        """Close the connection: stop reading, send what is queued, then call `connection_lost(None)`."""
        if self._closing:
            return
        self._closing = True
        self._reading = False
        if self._size == 0:
            self._lose(None)

    def abort(self) -> None:
        """Close the connection at once and drop what the kernel does not take now. `connection_lost(None)` follows."""
        if self._unflushed and self._size and self.writable:
            self._send()  # servers write an answer and abort: elsewhere it would have left already
        self._force_close(None)

    def _force_close(self, exc: BaseException | None) -> None:
        if self._lost:
            return
        self._closing = True
        self._reading = False
        self._first = self._rest = None
        self._offset = self._size = 0
        self._lose(exc)

    def _lose(self, exc: BaseException | None) -> None:
        self._lost = True
        self._loop._poller.remove(self)
        self._loop.call_soon(self._call_connection_lost, exc, context=self._context)

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        protocol = self._protocol
        try:
            protocol.connection_lost(exc)
        finally:
            self.set_protocol(None)  # no cycle: both are freed at once
            self._burst = None
            self._close_fd()
            if self._server is not None:
                self._server._detach(self)
                self._server = None

    def _close_fd(self) -> None:
        fd = self.fd
        sock = self._sock
        if fd >= 0:
            self.fd = -1
            self._sock = None
            syscalls.close(sock, fd)
            if self._hold is not None:
                self._hold.close()
                self._hold = None

    def interrupted(self) -> None:
        self._flush_later()

    def _fatal_error(self, exc: BaseException, message: str) -> None:
        if isinstance(exc, OSError):
            if self._loop._debug:
                logger.debug("%r: %s", self, message, exc_info=exc)
        else:
            self._report(exc, message)
        self._force_close(exc)

    def _report(self, exc: BaseException, message: str) -> None:
        self._loop.call_exception_handler(  # type: ignore[attr-defined]
            {"message": message, "exception": exc, "transport": self, "protocol": self._protocol}
        )

    def __del__(self) -> None:
        if self.fd >= 0:
            try:
                warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self, stacklevel=1)
            finally:  # the warning may be an error
                self._close_fd()

    def __repr__(self) -> str:
        words = [type(self).__name__]
        if self.fd < 0:
            words.append("closed")
        elif self._closing:
            words.append("closing")
        words.append(f"fd={self.fd}")
        if self.fd >= 0 and not self._lost:
            words.append("read=polling" if self._reading else "read=idle")
            words.append(f"write=<{'polling' if self._size else 'idle'}, bufsize={self._size}>")
        return f"<{' '.join(words)}>"


def _as_bytes(data: Any) -> bytes:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
    return bytes(data)


def _oserror(number: int) -> OSError:
    return OSError(number, os.strerror(number))
