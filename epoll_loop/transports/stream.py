"""StreamTransport: a connected TCP or Unix stream socket."""

from __future__ import annotations

import asyncio
import errno
import socket
from asyncio.constants import _SendfileMode
from asyncio.trsock import TransportSocket
from contextvars import Context
from typing import TYPE_CHECKING, Any

from epoll_loop.core import syscalls
from epoll_loop.transports.base import Transport, _oserror
from epoll_loop.transports.writer import ByteWriter

if TYPE_CHECKING:
    from epoll_loop.core.poller import SocketWatch
    from epoll_loop.core.reactor import Reactor

_EAGAIN = errno.EAGAIN
_RECV_SIZE = syscalls.RECV_SIZE


class StreamTransport(ByteWriter):
    """The transport of `create_connection()` and `create_server()`. See "Transports and Protocols" of asyncio."""

    __slots__ = ("_buffered", "_paused", "_read_ended", "_received")

    _sendfile_compatible = _SendfileMode.TRY_NATIVE
    _start_tls_compatible = True

    def __init__(
        self,
        loop: Reactor,
        sock: socket.socket | None,
        fd: int,
        peer: Any,
        context: Context,
        server: Any,
    ) -> None:
        ByteWriter._set_up(self, loop, sock, fd, peer, context, server)
        self._buffered = False
        self._paused = False  # pause_reading() was called
        self._received: Any = None  # what the protocol has data delivered to: looked up once, not with each read
        self._read_ended = False  # the peer's end of the stream was read

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return asyncio.Transport

    # Reading

    def turn(self) -> None:
        self.queued = False
        if not self.armed:
            return
        if (self._size or self._empty_waiter is not None) and self.writable and not self._unflushed:
            self.flush()
        if not self._reading or not self.readable:
            return
        if self._buffered:
            self._read_into()
            return
        # One bounded read an iteration (I16). The bookkeeping comes before the protocol's turn: it may pause, close,
        # write, change the protocol or raise.
        data = syscalls.recv(self._sock, self.fd)
        if isinstance(data, int):
            self._read_failed(-data)
            return
        chunk = data
        if not chunk:
            self._end_of_stream()
            return
        if self.ended or len(chunk) == _RECV_SIZE:
            self.carry_over()
        else:
            self.readable = False  # a short read of a stream whose end is not in sight (I14)
        syscalls.call1(self._context, self._received, chunk)

    def _read_into(self) -> None:
        try:
            protocol = self._protocol
            buffer = syscalls.call1(self._context, protocol.get_buffer, -1)
            size = len(buffer)
            if not size:
                raise RuntimeError("get_buffer() returned an empty buffer")
            if not self._reading or self._protocol is not protocol:
                self.carry_over()  # nothing was read yet: that is for the new protocol
                return
            count = syscalls.recv_into(self._sock, self.fd, buffer)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, "Fatal error: protocol.get_buffer() call failed.")
            return
        if count < 0:
            self._read_failed(-count)
            return
        if count == 0:
            self._end_of_stream()
            return
        if self.ended or count >= size:  # items may be larger than bytes
            self.carry_over()
        else:
            self.readable = False
        syscalls.call1(self._context, self._received, count)

    def failed(self, exc: BaseException) -> None:
        method = "buffer_updated" if self._buffered else "data_received"
        self._fatal_error(exc, f"Fatal error: protocol.{method}() call failed.")

    def _read_failed(self, number: int) -> None:
        if number == _EAGAIN:
            self.readable = False
        else:
            self._fatal_error(_oserror(number), "Fatal read error on socket transport")

    def _end_of_stream(self) -> None:
        self._read_ended = True
        self._reading = False
        try:
            keep_open = syscalls.call0(self._context, self._protocol.eof_received)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._fatal_error(exc, "Fatal error: protocol.eof_received() call failed.")
            return
        if not keep_open:
            self.close()

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
            if self.readable:
                self.carry_over()

    def set_protocol(self, protocol: Any) -> None:
        """Let another protocol have the connection from now on."""
        Transport.set_protocol(self, protocol)
        self._read_ended = False  # a protocol that pauses and resumes is told of the end too: see start_tls()
        self._buffered = isinstance(protocol, asyncio.BufferedProtocol)
        self._received = getattr(protocol, "buffer_updated" if self._buffered else "data_received", None)

    # Writing

    def can_write_eof(self) -> bool:
        """Return True: the stream can be half-closed."""
        return True

    def write_eof(self) -> None:
        """Send what is queued and then the end of the stream, shutdown(2); reading goes on."""
        if self._closing or self._eof:
            return
        self._eof = True
        if self._size == 0:
            self._shut_down()

    def _shut_down(self) -> None:
        try:
            self._socket().shutdown(socket.SHUT_WR)
        except OSError as exc:
            if exc.errno != errno.ENOTCONN:  # the peer is gone; the next read says so
                self._fatal_error(exc, "Fatal error: shutdown(SHUT_WR) failed")

    # What is known of it

    def _socket(self) -> Any:
        if self._sock is None:
            self._sock = syscalls.socket_of(self.fd, self._peer)
        return self._sock

    def _find_extra(self, name: str) -> Any:
        if name == "peername":
            return syscalls.address(self._peer)
        if self.fd < 0:
            return None
        if name == "socket":
            return TransportSocket(self._socket())
        if name == "sockname":
            try:
                return self._socket().getsockname()
            except OSError:
                return None
        return None

    # Opening

    def _open(self, protocol: Any, watch: SocketWatch | None) -> None:
        if watch is None:
            self._loop._poller.add(self, True)
        else:
            self._loop._poller.adopt(self, watch)
            watch.wake()  # whoever waits for the socket is told that it has a transport now
            if self.readable:
                self.carry_over()
        if self._server is not None:
            self._server._attach(self)
        self._begin(protocol)


def open_stream(
    loop: Reactor,
    sock: socket.socket,
    protocol: Any,
    server: Any = None,
    borrowed: bool = False,
) -> StreamTransport:
    """Return the transport of a connected, non-blocking stream socket; `connection_made()` has been called.

    A `borrowed` socket is its giver's too, who may close it. OSError if it can not be registered; it is left open then.
    """
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        pass  # not TCP
    try:
        peer = sock.getpeername()
    except OSError:
        peer = None
    transport = StreamTransport(loop, sock, sock.fileno(), peer, syscalls.copy_context(), server)
    if borrowed:
        transport._hold = sock.makefile("rb", buffering=0)
    try:
        transport._open(protocol, loop._watch_of(sock))
    except OSError:
        transport.fd = -1  # not ours
        if borrowed:
            transport._hold.close()
        raise
    return transport
