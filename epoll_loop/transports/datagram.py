"""DatagramTransport: a UDP socket, or a Unix datagram socket."""

from __future__ import annotations

import asyncio
import socket
from asyncio.trsock import TransportSocket
from contextvars import Context
from typing import TYPE_CHECKING, Any

from epoll_loop.core import syscalls
from epoll_loop.core.poller import READ, WRITE
from epoll_loop.transports.base import Transport, open_transport, peer_of
from epoll_loop.transports.flow import WriteTransport
from epoll_loop.transports.writer import _as_bytes

if TYPE_CHECKING:
    from epoll_loop.core.reactor import Reactor

# As many as one system call takes are received in an iteration (I16). As many are sent at once, and so are more bytes
# than this: datagrams that lie in a queue keep nobody busy.
_BATCH = syscalls.DATAGRAMS
_FLUSH_AT = 65536
# What a datagram counts for beyond its bytes, so that empty ones count too; asyncio's number, from 3.13 on.
_HEADER = 8
_AF_UNIX = int(getattr(socket, "AF_UNIX", -1))
# Seconds between two tries where the kernel does not tell.
_FIRST_RETRY = 0.001
_LAST_RETRY = 0.1


class _AsyncioTransport(asyncio.Transport, asyncio.DatagramTransport):
    """What isinstance() is told: asyncio's datagram transports are both."""

    __slots__ = ()


class DatagramTransport(WriteTransport):
    """The transport of `create_datagram_endpoint()`. See "Transports and Protocols" of asyncio."""

    __slots__ = (
        "_address",
        "_batch",
        "_datagrams",
        "_deaf",
        "_delay",
        "_destinations",
        "_errors",
        "_family",
        "_received",
        "_timer",
    )

    def __init__(
        self,
        loop: Reactor,
        sock: socket.socket,
        fd: int,
        peer: Any,
        context: Context,
        address: Any,
    ) -> None:
        self._set_up(loop, sock, fd, peer, context, None)
        self._address = address  # the only one that datagrams may go to, or None
        self._family = int(sock.family)
        self._received: Any = None  # looked up once, not with each datagram
        self._batch: list[Any] = []  # received and not delivered yet, the last one first
        self._datagrams: list[bytes] = []  # the queue of unsent ones
        self._destinations: list[Any] = []  # where to, each of them
        self._errors: list[OSError] = []  # what the kernel says against some that are gone
        self._timer: Any = None  # to try again where the kernel does not tell, see _blocked()
        self._delay = _FIRST_RETRY
        self._deaf = False  # the next OUT edge is no news

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return _AsyncioTransport

    # Receiving

    def turn(self) -> None:
        self.queued = False
        if not self.armed:
            return
        if self._size and self.writable and not self._unflushed:
            if self._deaf:
                self._deaf = self.writable = False
            else:
                self.flush()
        if self._reading and self.readable:
            self._receive()

    def _receive(self) -> None:
        batch = self._batch
        more = True
        if not batch:
            # Less than a batch is as good as EAGAIN (I14): recvmmsg(2) stops early for that, or for an error that came
            # while it was at it. That one it keeps for the next call, and the edge of it is still to come.
            batch = self._batch = syscalls.recv_datagrams(self._sock, self.fd, self._family)
            more = len(batch) == _BATCH
            batch.reverse()
        # `readable` stays as long as there is a rest, which an exception or pause_reading() leaves.
        while batch and self._reading:
            item = batch.pop()
            if isinstance(item, tuple):
                syscalls.call2(self._context, self._received, item[0], item[1])
            else:
                syscalls.call1(self._context, self._error_received, item)
        if self._closing:
            batch.clear()  # as lost as what is still in the kernel
        elif not batch:
            self.readable = more
            if more:
                self.carry_over()

    def failed(self, exc: BaseException) -> None:
        self._report(exc, "Exception in protocol.datagram_received()")
        self.carry_over()

    def interrupted(self) -> None:
        WriteTransport.interrupted(self)
        self._loop.call_soon(self._go_on)  # not now: what is carried over is forgotten, for the kernel to say it again

    def _go_on(self) -> None:
        self.readable = True
        self.carry_over()

    def _error_received(self, exc: BaseException) -> None:
        try:
            self._protocol.error_received(exc)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(error, "Exception in protocol.error_received()")

    def set_protocol(self, protocol: Any) -> None:
        """Let another protocol have the datagrams from now on."""
        Transport.set_protocol(self, protocol)
        self._received = getattr(protocol, "datagram_received", None)

    # Sending

    def sendto(self, data: bytes | bytearray | memoryview, addr: Any = None) -> None:
        """Send a datagram, which may be empty, without blocking: it is queued, and leaves with this iteration.

        A mutable buffer is copied. TypeError if it is not bytes-like, ValueError if there is a `remote_addr` and `addr`
        is another one. What the kernel says against a datagram goes to `error_received()`, and it is dropped.
        """
        if type(data) is not bytes:
            data = _as_bytes(data)
        if self._address is not None:
            if addr is not None and addr != self._address:
                raise ValueError(f"Invalid address: must be None or {self._address}")
            addr = self._address
        if self._lost:
            self._write_lost()
            return
        chunk = data
        if self._peer is not None and (addr is None or self._peer):  # a peer without a name is ""
            destination = syscalls.CONNECTED
        else:
            destination = syscalls.destination(self._family, addr)
        self._datagrams.append(chunk)
        self._destinations.append(addr if destination is None else destination)
        self._size += len(chunk) + _HEADER
        if self.writable:
            if destination is not None and self._size < _FLUSH_AT and len(self._datagrams) < _BATCH:
                if not self._unflushed:
                    self._flush_later()
                return
            self._send()
            if self._errors:
                self._tell_errors()  # in the caller's context, which may be this transport's: it is entered once only
        self._settle()

    def _send(self) -> None:
        while self._datagrams:
            try:
                sent = syscalls.send_datagrams(self._sock, self.fd, self._datagrams, self._destinations)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self._consume(1)  # first: the protocol may send, close or abort
                if isinstance(exc, OSError):
                    self._errors.append(exc)
                else:
                    self._fatal_error(exc, "Fatal write error on datagram transport")
                continue
            if not sent:
                self._blocked()
                return
            self._consume(sent)

    def flush(self) -> None:
        WriteTransport.flush(self)
        if self._errors:
            syscalls.call0(self._context, self._tell_errors)

    def _tell_errors(self) -> None:
        errors, self._errors = self._errors, []
        for exc in errors:
            if not self._lost:
                self._error_received(exc)

    def _consume(self, sent: int) -> None:
        if sent == len(self._datagrams):
            self._discard()
            return
        for data in self._datagrams[:sent]:
            self._size -= len(data) + _HEADER
        del self._datagrams[:sent]
        del self._destinations[:sent]
        self._delay = _FIRST_RETRY

    def _discard(self) -> None:
        self._datagrams.clear()
        self._destinations.clear()
        self._size = 0
        self._delay = _FIRST_RETRY
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _blocked(self) -> None:
        # With a Unix socket it may be the queue of the receiver that is full. If that is not the peer that we are
        # connected to, poll(2) says writable all the same. An edge comes at once, of the memory that the try in vain
        # has used; then one when a datagram of ours is read; but none when it is another sender's that makes room.
        self.writable = False
        if self._family == _AF_UNIX and syscalls.has_room(self.fd):
            self._deaf = True
            self.interest = READ  # a level-triggered kernel would go on saying so
            if self._timer is None:
                self._timer = self._loop.call_later(self._delay, self._retry)
                self._delay = min(2 * self._delay, _LAST_RETRY)

    def _retry(self) -> None:
        self._timer = None
        self._deaf = False
        self.interest = READ | WRITE
        self.writable = True
        self.flush()

    # What is known of it

    def _find_extra(self, name: str) -> Any:
        if name == "peername":
            return self._peer
        if self.fd < 0:
            return None
        if name == "socket":
            return TransportSocket(self._sock)
        if name == "sockname":
            return self._sock.getsockname()
        return None


def open_datagrams(
    loop: Reactor, sock: socket.socket, protocol: Any, address: Any, borrowed: bool
) -> DatagramTransport:
    """Return the transport of a non-blocking datagram socket; `connection_made()` has been called.

    Datagrams go to `address` only, unless it is None. A `borrowed` socket is its giver's too, who may close it. OSError
    if the socket can not be registered; it is left open then.
    """
    transport = DatagramTransport(loop, sock, sock.fileno(), peer_of(sock), syscalls.copy_context(), address)
    if borrowed:
        transport._hold = sock.makefile("rb", buffering=0)
    open_transport(transport, protocol)
    return transport
