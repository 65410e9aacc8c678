"""What all transports share: a protocol, and a life.

The life of a transport, each step once and in this order (I6):

    open        registered, the protocol is connected
    closing     close(), EOF or an error: no more reading; what was written still goes out, unless aborted
    lost        unregistered, the queue is empty; connection_lost() is on the ready queue
    closed      connection_lost() has returned, the descriptor is closed
"""

from __future__ import annotations

import asyncio
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


class Loss(Link):
    """A transport that is on the ready queue, for its connection_lost()."""

    __slots__ = ("exc", "transport")

    transport: Transport
    exc: BaseException | None

    def turn(self) -> None:
        self.transport._call_connection_lost(self.exc)

    def failed(self, exc: BaseException) -> None:
        self.transport._report(exc, "Exception in protocol.connection_lost()")

    def __repr__(self) -> str:
        return f"<Loss of {self.transport!r}>"


class Transport(Channel):
    """A channel with a protocol."""

    __slots__ = (
        "__dict__",
        "_abandoned",
        "_closing",
        "_context",
        "_extra",
        "_hold",
        "_loop",
        "_lost",
        "_paused",
        "_peer",
        "_protocol",
        "_read_ended",
        "_reading",
        "_server",
        "_size",
        "_sock",
    )

    # Not __init__(), which would be called from class to class with a tuple of all arguments. It calls what the classes
    # between this one and the last have to add.
    def _set_up(
        self,
        loop: Reactor,
        sock: Any,
        fd: int,
        peer: Any,
        context: Context,
        server: Any,
    ) -> None:
        Channel.__init__(self, fd)
        syscalls.without_dict(self)  # it is there for who assigns or patches an attribute
        self._loop = loop
        self._sock = sock  # or the file object of a pipe: what owns the descriptor
        # Of a socket that is somebody else's too: while this is open, its close() does not give the number away.
        self._hold: Any = None
        self._peer = peer
        self._context = context
        self._server = server
        self._protocol: Any = None
        self._extra: dict[str, Any] | None = None
        self._closing = False
        self._paused = False  # pause_reading() was called
        self._read_ended = False  # the protocol was told of the end of its input
        self._reading = True  # input goes to the protocol: none of these two, and not closing
        self._lost = False
        self._abandoned = ""  # what it was, still open, when the loop was closed
        self._size = 0  # bytes that the protocol wrote and the kernel has not taken yet
        self._prepare()

    def _prepare(self) -> None:
        """Set the fields of the classes below, those that have no say in the arguments."""

    # What asyncio.BaseTransport promises. Its slots forbid inheriting from it; isinstance() asks __class__ as well.

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return asyncio.BaseTransport

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

    # Reading

    def is_reading(self) -> bool:
        """Return True if the protocol gets what comes."""
        return not self._closing and not self._paused

    def pause_reading(self) -> None:
        """Do not call the protocol with data until `resume_reading()`. Costs no system call (I7)."""
        if not self._closing:
            self._paused = True
            self._reading = False

    def resume_reading(self) -> None:
        """Undo `pause_reading()`; the data comes in a later iteration, never inside this call (I18)."""
        if self._closing or not self._paused:
            return
        self._paused = False
        if not self._read_ended:
            self._reading = True
            if self._has_input():
                self.carry_over()

    def _has_input(self) -> bool:
        return self.readable

    # The beginning

    def _register(self) -> None:
        self._loop._poller.add(self, True)

    def _open(self, protocol: Any) -> None:
        self._register()
        if self._server is not None:
            self._server._attach(self)
        self.set_protocol(protocol)
        self._begin()

    def _begin(self) -> None:
        try:
            syscalls.call1(self._context, self._protocol.connection_made, self)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._report(exc, "Exception in protocol.connection_made()")

    # The end

    def close(self) -> None:
        """Close: stop reading, send what is queued, then call `connection_lost(None)`."""
        if self._closing:
            return
        self._closing = True
        self._reading = False
        if self._size == 0:
            self._lose(None)

    def _force_close(self, exc: BaseException | None) -> None:
        if self._lost:
            return
        self._closing = True
        self._reading = False
        self._discard()
        self._lose(exc)

    def abandon(self) -> None:
        if not self._closing:
            self._abandoned = repr(self)
        self._force_close(None)

    def _discard(self) -> None:
        """Drop what is not sent yet."""

    def _lose(self, exc: BaseException | None) -> None:
        self._lost = True
        self._loop._poller.remove(self)
        loss = Loss.__new__(Loss)
        loss.transport = self
        loss.exc = exc
        self._loop._ready.append(loss)

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        try:
            self._tell_connection_lost(exc)
        finally:
            self.set_protocol(None)  # no cycle: both are freed at once
            try:
                self._close_fd()
            finally:
                if self._server is not None:
                    self._server._detach(self)
                    self._server = None

    def _tell_connection_lost(self, exc: BaseException | None) -> None:
        syscalls.call1(self._context, self._protocol.connection_lost, exc)

    def _close_fd(self) -> None:
        fd = self.fd
        sock = self._sock
        if fd >= 0:
            self.fd = -1
            self._sock = None
            if self._hold is not None:
                self._hold.close()
                self._hold = None
            syscalls.close(sock, fd)  # last: a file object may have something to write yet, and fail

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
        if self.fd >= 0 or self._abandoned:
            try:
                what = self._abandoned or repr(self)
                warnings.warn(f"unclosed transport {what}", ResourceWarning, source=self, stacklevel=1)
            finally:  # the warning may be an error
                self._close_fd()

    def __repr__(self) -> str:
        words = [type(self).__name__]
        if self._abandoned:
            words.append("left open")  # and so its loop has closed it
        elif self.fd < 0:
            words.append("closed")
        elif self._closing:
            words.append("closing")
        words.append(f"fd={self.fd}")
        if self.fd >= 0 and not self._lost:
            words.append(self._activity())
        return f"<{' '.join(words)}>"

    def _activity(self) -> str:
        reading = "polling" if self._reading else "idle"
        writing = "polling" if self._size else "idle"
        return f"read={reading} write=<{writing}, bufsize={self._size}>"


def open_transport(transport: Transport, protocol: Any) -> None:
    """Register a transport and tell its protocol of it. OSError leaves the descriptor to its owner."""
    try:
        transport._open(protocol)
    except OSError:
        transport.fd = -1  # not ours
        if transport._hold is not None:
            transport._hold.close()
        raise


def peer_of(sock: socket.socket) -> Any:
    """Return what the socket is connected to, or None."""
    try:
        return sock.getpeername()
    except OSError:
        return None


def _oserror(number: int) -> OSError:
    return OSError(number, os.strerror(number))
