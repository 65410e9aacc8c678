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
from epoll_loop.core.syscalls import InputBuffer
from epoll_loop.transports.base import Transport, _oserror, open_transport, peer_of
from epoll_loop.transports.writer import ByteWriter

if TYPE_CHECKING:
    from epoll_loop.core.reactor import Reactor

_EAGAIN = errno.EAGAIN
_RECV_SIZE = syscalls.RECV_SIZE


class StreamTransport(ByteWriter):
    """The transport of `create_connection()` and `create_server()`. See "Transports and Protocols" of asyncio."""

    __slots__ = ("_buffered", "_heir", "_input", "_received")

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
        self._set_up(loop, sock, fd, peer, context, server)
        self._buffered = False
        self._heir: Any = None  # the transport that start_tls() has made of this one
        self._input: InputBuffer | None = None  # what is received into, where it is not into new bytes
        self._received: Any = None  # what the protocol has data delivered to: looked up once, not with each read

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
        if self._input is not None:
            self._read_input(self._input)
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

    def _read_input(self, buffer: InputBuffer) -> None:
        count = buffer.recv(self._sock, self.fd)
        if count < 0:
            self._read_failed(-count)
            return
        if count == 0:
            self._end_of_stream()
            return
        if self.ended or count == _RECV_SIZE:
            self.carry_over()
        else:
            self.readable = False
        buffer.call1(self._context, self._received, count)

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

    def set_protocol(self, protocol: Any) -> None:
        """Let another protocol have the connection from now on."""
        Transport.set_protocol(self, protocol)
        self._read_ended = False  # a protocol that pauses and resumes is told of the end too: see start_tls()
        self._input = None
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

    # The end

    def is_reading(self) -> bool:
        """Return True if the protocol gets what comes."""
        if self._heir is not None:
            return self._heir.is_reading()  # type: ignore[no-any-return]
        return Transport.is_reading(self)

    def pause_reading(self) -> None:
        """Do not call the protocol with data until `resume_reading()`. Costs no system call (I7)."""
        if self._heir is not None:
            self._heir.pause_reading()  # an `asyncio.StreamReader` keeps the transport that it began with
        else:
            Transport.pause_reading(self)

    def resume_reading(self) -> None:
        """Undo `pause_reading()`; the data comes in a later iteration, never inside this call (I18)."""
        if self._heir is not None:
            self._heir.resume_reading()
        else:
            Transport.resume_reading(self)

    def close(self) -> None:
        """Close: stop reading, send what is queued, then call `connection_lost(None)`."""
        if self._heir is not None:
            self._heir.close()
        else:
            Transport.close(self)

    def abort(self) -> None:
        """Close the connection at once and drop what the kernel does not take now. `connection_lost(None)` follows."""
        if self._heir is not None:
            self._heir.abort()
        else:
            ByteWriter.abort(self)

    def is_closing(self) -> bool:
        """Return True if the transport is closing or closed."""
        if self._heir is not None:
            return self._heir.is_closing()  # type: ignore[no-any-return]
        return self._closing

    def _write_lost(self) -> None:
        if self._heir is not None:
            raise RuntimeError("the connection has TLS now: write to the transport that start_tls() has returned")
        ByteWriter._write_lost(self)

    def _unsent(self) -> bytes:
        """Take what is queued."""
        chunks = [] if self._first is None else [self._first[self._offset :], *(self._rest or ())]
        self._discard()
        return b"".join(chunks)

    def _hand_over(self, heir: StreamTransport) -> None:
        """Let another transport have the connection. What can still be asked here is asked there."""
        self._loop._poller.adopt(heir, self)
        heir._hold = self._hold
        server = self._server
        if server is not None:
            server._attach(heir)
            server._detach(self)
        self._hold = self._server = self._sock = None
        self.fd = -1
        self.set_protocol(None)
        self._closing = self._lost = True
        self._reading = False
        self._burst = None  # no cycle
        self._heir = heir

    # What is known of it

    def _socket(self) -> Any:
        if self._sock is None:
            self._sock = syscalls.socket_of(self.fd, self._peer)
        return self._sock

    def _find_extra(self, name: str) -> Any:
        if self._heir is not None:
            return self._heir.get_extra_info(name)
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

    def _register(self) -> None:
        # A socket that a coroutine has waited for, or that was connected by us, is registered: that goes on.
        watch = None if self._sock is None else self._loop._find_watch(self._sock)
        if watch is None:
            Transport._register(self)
        else:
            self._loop._poller.adopt(self, watch)
            watch.wake()  # whoever waits for the socket is told that it has a transport now
            if self.readable:
                self.carry_over()


def open_stream(
    loop: Reactor,
    sock: socket.socket,
    protocol: Any,
    borrowed: bool,
) -> StreamTransport:
    """Return the transport of a connected, non-blocking stream socket; `connection_made()` has been called.

    A `borrowed` socket is its giver's too, who may close it. OSError if it can not be registered; it is left open then.
    """
    transport = StreamTransport(loop, sock, sock.fileno(), peer_of(sock), syscalls.copy_context(), None)
    take(transport, sock, protocol, borrowed)
    return transport


def take(transport: StreamTransport, sock: socket.socket, protocol: Any, borrowed: bool) -> None:
    """Open the transport of a socket: see `open_stream()`."""
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        pass  # not TCP
    if borrowed:
        transport._hold = sock.makefile("rb", buffering=0)
    open_transport(transport, protocol)
