"""Flow control: water marks, and the place in the burst at the end of an iteration.

Writes are queued and leave at the end of the iteration, all transports' in one burst: a peer wakes once for a batch of
responses and not for each. The water marks look at what a send has left over, so a peer that reads is no reason to
pause, but for more than a send is allowed to take.
"""

from __future__ import annotations

import asyncio
from asyncio.log import logger

from epoll_loop.core import syscalls
from epoll_loop.core.syscalls import Link
from epoll_loop.transports.base import Transport

_HIGH_WATER = 65536
_WARN_AT = 5  # writes to a lost connection before a warning; asyncio's number


class Burst(Link):
    """A transport's place among those that have written in this iteration."""

    __slots__ = ("transport",)

    def __init__(self, transport: WriteTransport) -> None:
        self.transport = transport

    def turn(self) -> None:
        self.transport.flush()

    def interrupted(self) -> None:
        self.transport._flush_later()


class WriteTransport(Transport):
    """A transport whose protocol writes. What is queued, and how it is sent, is for the classes below."""

    __slots__ = (
        "_burst",
        "_empty_waiter",
        "_eof",
        "_high",
        "_low",
        "_more",
        "_protocol_paused",
        "_unflushed",
        "_writes_lost",
    )

    def _prepare(self) -> None:
        self._high = _HIGH_WATER
        self._low = _HIGH_WATER // 4
        self._protocol_paused = False
        self._more = False  # the last send had enough of it, not the kernel: the rest is for later iterations
        self._unflushed = False  # on the reactor's list of transports to flush
        self._burst: Burst | None = None
        self._writes_lost = 0
        self._eof = False  # write_eof() was called
        # Somebody else writes to the descriptor, sendfile(): the last future that it has waited for.
        self._empty_waiter: asyncio.Future[None] | None = None
        self.writable = True  # until a send says otherwise

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
        # Only what a send has left over counts against the water marks. All else is for flush(), which calls nobody
        # from inside a write().
        if self.writable and (self._size or self._closing or self._protocol_paused):
            self._flush_later()
        if not self.writable or self._more:
            if self._size > self._high:
                self._pause_protocol()
            elif self._protocol_paused and self._size <= self._low:
                self._flush_later()

    def _write_lost(self) -> None:
        # connection_lost() is on its way; asyncio's wording, which people search for
        self._writes_lost += 1
        if self._writes_lost >= _WARN_AT:
            logger.warning("socket.send() raised exception.")

    def _send(self) -> None:
        """Have the kernel take of the queue what it takes."""

    def flush(self) -> None:
        """Send what was written in this iteration, and tell the protocol what follows from it."""
        self._unflushed = False
        if self._size and self.writable:
            self._send()
        if self._size or self._protocol_paused or self._closing or self._eof or self._empty_waiter is not None:
            self._flushed()

    def _flushed(self) -> None:
        if self._lost:
            return
        if self._size and self.writable:
            self._flush_later()
        if self._protocol_paused:
            if self._size <= self._low:
                self._resume_protocol()
        elif self._size > self._high and (not self.writable or self._more):
            self._pause_protocol()
        if self._size == 0 and not self._lost:
            self._drained()

    def _drained(self) -> None:
        # Everything is sent: what waited for that can happen now.
        if self._empty_waiter is not None and self.writable and not self._closing:
            self._wake(None)
        if self._closing:
            self._lose(None)
        elif self._eof:
            self._shut_down()

    def _shut_down(self) -> None:
        """Tell the peer that no more comes."""

    def _make_empty_waiter(self, blocked: bool = False) -> asyncio.Future[None]:
        """Return a future that is done when everything is sent and the kernel takes more, or fails when that is over.

        It is the caller who writes from now on, and nobody else, until `_empty_waiter` is None again. `blocked` says
        that the kernel has refused what it wrote.
        """
        waiter = self._empty_waiter = self._loop.create_future()
        if blocked:
            self.writable = False  # this is the evidence that earns the next OUT edge (I17)
        elif self._size and self.writable:
            self._send()
        if self._size == 0 and self.writable:
            self._wake(None)
        return waiter

    def _wake(self, exc: BaseException | None) -> None:
        waiter = self._empty_waiter
        if waiter is None or waiter.done():
            return
        if exc is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(exc)

    def _lose(self, exc: BaseException | None) -> None:
        Transport._lose(self, exc)
        if self._empty_waiter is not None:
            self._wake(ConnectionError("Connection is closed by peer") if exc is None else exc)

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

    def abort(self) -> None:
        """Close the connection at once and drop what the kernel does not take now. `connection_lost(None)` follows."""
        if self._unflushed and self._size and self.writable:
            self._send()  # servers write an answer and abort: elsewhere it would have left already
        self._force_close(None)

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        try:
            Transport._call_connection_lost(self, exc)
        finally:
            self._burst = None

    def interrupted(self) -> None:
        self._flush_later()
